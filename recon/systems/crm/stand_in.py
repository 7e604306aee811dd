"""HubSpot's place in the demo: it holds what the mirror holds, and takes the changes that a plan sends."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from psycopg import sql

from recon.database.connect import Database
from recon.stand_ins.server import served

# Objects as the specs name them, and where the mirror keeps them.
TABLES = {"companies": "companies", "contacts": "contacts", "deals": "deals", "communications": "engagements"}
SCHEMA, KEY = "hubspot", "hs_object_id"


@contextmanager
def stand_in(database: Database) -> Generator[dict[str, str]]:
    """Serve HubSpot with the records of the mirror; gives the settings by which it is found."""
    from recon.stand_ins.hubspot import TOKEN, HubSpot

    hubspot = HubSpot({name: _records(database, table) for name, table in TABLES.items()})
    with served(hubspot.app) as address:
        yield {"RECON_HUBSPOT_URL": address, "RECON_HUBSPOT_TOKEN": TOKEN}


def _records(database: Database, table: str) -> dict[str, dict[str, str | None]]:
    """Every property of every record as text, by the record's id."""
    query = sql.SQL(
        "SELECT {}::text, (SELECT jsonb_object_agg(key, value) FROM jsonb_each_text(to_jsonb(record))) FROM {} AS record"
    ).format(sql.Identifier(KEY), sql.Identifier(SCHEMA, table))
    with database.session(read_only=True) as session, session.driver.cursor() as cursor:
        return dict(cursor.execute(query).fetchall())
