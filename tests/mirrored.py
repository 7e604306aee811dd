"""The mirror of Stays for tests: tables and properties of three organisations, the source by HTTP, a reviewer's standing sign-off."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import product
from typing import Any

import pytest

from recon.backfill import absences, standing
from recon.database import tables
from recon.database.connect import Database
from recon.mirror import sync
from recon.mirror.parts import Part, Synced, Wish
from recon.outside import client
from recon.stand_ins.faults import Fault
from recon.stand_ins.server import served
from recon.stand_ins.stays import Stays
from recon.systems.stays.client import Stays as Asking
from recon.workspace import Workspace
from tests.support import ROOT, rows

NAME = "stays_reservations"
COAST, HILLS, TOWN = (f"{letter * 8}-0000-4000-8000-{letter * 12}" for letter in "abc")
ORGANIZATIONS = (COAST, HILLS, TOWN)
NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
REVIEWER = "rita"  # who signed for what a run may write; nobody who acts in a test


def prepared(database: Database) -> None:
    """The tables, and in each organisation a property for each of the listings listing-1 and listing-2."""
    script = (ROOT / "sql" / "schema" / "stays.sql").read_text(encoding="utf-8")
    with database.session() as session:
        session.users_path()
        session.driver.execute(script.encode())
        for number, (scope, listing) in enumerate(product(ORGANIZATIONS, ("listing-1", "listing-2")), 1):
            session.execute("INSERT INTO properties VALUES ($1, $2, $3, $4)", number, scope, f"House {number}", listing)
    tables.ensure(database)


@dataclass
class Mirror:
    """The mirror of a test."""

    database: Database
    workspace: Workspace
    stays: Stays

    def sync(self, *, now: datetime = NOW, **wish: Any) -> Synced:
        return sync.sync(self.database, self.workspace, NAME, Wish(**wish), now=now)

    def part(self, scope: str = COAST, **wish: Any) -> Part:
        """What a run does in one organisation."""
        return self.sync(scopes=[scope], **wish).parts[0]

    def sign(self, *, rows: int = 500, actions: tuple[str, ...] = ("insert", "set", "update")) -> None:
        """The reviewer signs for what runs will plan."""
        standing.give(self.database, self.workspace, NAME, REVIEWER, rows=rows, days=30, actions=actions)

    def here(self, scope: str = COAST, *columns: str) -> dict[str, Any]:
        """What we hold of an organisation: by the reservation's code its status, or these columns."""
        chosen = ", ".join(columns or ("status",))
        found = rows(
            self.database,
            f"SELECT external_id, {chosen} FROM reservations WHERE organization_id = $1 ORDER BY 1",
            scope,
        )
        return {row[0]: row[1] if len(row) == 2 else row[1:] for row in found}

    def bytes_of(self, scope: str) -> list[Any]:
        """All that we hold of an organisation, to compare."""
        return rows(
            self.database, "SELECT r::text FROM reservations r WHERE organization_id = $1 ORDER BY id", scope
        ) + rows(self.database, "SELECT b::text FROM bronze.stays_reservations b WHERE organization_id = $1"
                 " ORDER BY platform, external_id", scope)  # fmt: skip

    def hold(self, scope: str, *codes: str, status: str = "confirmed", **columns: Any) -> None:
        """Reservations that are here already, as `Stays.add` would have them."""
        usual = {
            "organization_id": scope, "platform": "staysnet", "status": status, "guest": "Ana Souza",
            "check_in": "2026-01-10 18:00+00", "check_out": "2026-01-14 14:00+00",
        }  # fmt: skip
        with self.database.session() as session:
            for code in codes:
                values = usual | {"external_id": code} | columns
                session.execute(
                    f"INSERT INTO reservations ({', '.join(values)}, property_id) SELECT "
                    + ", ".join(f"${number}" for number in range(1, len(values) + 1))
                    + f", id FROM properties WHERE organization_id = '{scope}' AND stays_listing_id = 'listing-1'",
                    *values.values(),
                )

    def fail(self, *faults: Fault, times: int = 3) -> None:
        """The next requests go wrong: each fault as often as a request is tried."""
        for fault in faults:
            self.stays.faults.add(*[fault] * times)


def at_once(patched: pytest.MonkeyPatch) -> None:
    """No test waits: not between two looks, and not between two tries."""
    patched.setattr(absences, "LOOK_SECONDS", 0.0)
    patched.setitem(Asking.__init__.__kwdefaults__, "first_pause", 0.001)
    patched.setattr(client, "LONGEST_PAUSE_SECONDS", 0.002)


@contextmanager
def mirror(database: Database, workspace: Workspace, **settings: str) -> Generator[Mirror]:
    """The mirror over a prepared database, with its source served for as long as the `with` lasts."""
    stays = Stays(ORGANIZATIONS)
    with served(stays.app) as url:
        given = {"RECON_USER": "ann", "RECON_STAYS_TIMEOUT": "0.5", **stays.settings(url), **settings}
        yield Mirror(database, workspace.with_variables(given), stays)
