"""Stays on this machine, holding what it gave of the sample: for the demo, and for tests."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager

from recon.database.connect import Database


@contextmanager
def stand_in(database: Database) -> Generator[Mapping[str, str]]:
    """Serve Stays, filled from the landing table as it is now; gives the settings by which it is found."""
    from recon.stand_ins import stays
    from recon.stand_ins.server import served

    with database.session(read_only=True) as session:
        organizations = session.rows("SELECT DISTINCT organization_id::text FROM properties ORDER BY 1")
        given = session.rows(
            "SELECT organization_id::text, raw FROM bronze.stays_reservations"
            ' WHERE absent_at IS NULL AND raw IS NOT NULL ORDER BY updated_at, external_id COLLATE "C"'
        )
    server = stays.Stays(organization for (organization,) in organizations)
    for organization, reservation in given:
        server.put(organization, reservation)
    with served(server.app) as url:
        yield server.settings(url)
