"""A mirror for tests: two organizations with a few reservations, the Stays stand-in served, a standing sign-off given."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon.backfill import standing
from recon.database.connect import Database
from recon.stand_ins.server import served
from recon.stand_ins.stays import Stays
from recon.workspace import Workspace
from tests import forked
from tests.support import ROOT, Ended, execute, rows

MIRROR = "stays_reservations"
ONE, TWO = (f"{digit * 8}-1111-4111-8111-{digit * 12}" for digit in "ab")
COMMAND_SECONDS = 60.0


@dataclass
class InStep:
    """What a test works with."""

    database: Database
    workspace: Workspace
    stays: Stays
    url: str

    def settings(self, **others: str) -> dict[str, str]:
        return self.stays.settings(self.url) | others

    def run(self, *arguments: str) -> Ended:
        """A command of recon in a process of its own, with the settings of the workspace's .env."""
        return Ended(*forked.run(list(arguments), self.environment, self.workspace.root, COMMAND_SECONDS))

    def started(self, *arguments: str) -> forked.Running:
        """The same, which the test need not wait for."""
        return forked.Running(list(arguments), self.environment, self.workspace.root)

    @property
    def environment(self) -> dict[str, str]:
        import os

        kept = {name: value for name, value in os.environ.items() if not name.startswith("RECON_")}
        return kept | {"RECON_USER": "ann", "RECON_DATABASE_URL": self.database.url}

    @property
    def runs(self) -> list[tuple[Any, ...]]:
        """Cause, status and error of each run, oldest first."""
        return rows(self.database, "SELECT cause, status, error FROM recon.sync_runs ORDER BY created_at, id")

    @property
    def codes(self) -> list[str]:
        """The reservations that came from Stays and are alive."""
        query = "SELECT external_id FROM reservations WHERE status <> 'cancelled' ORDER BY 1"
        return [code for (code,) in rows(self.database, query)]


@contextmanager
def in_step(database: Database, workspace: Workspace, *, signed: bool = True, **settings: str) -> Iterator[InStep]:
    """Tables, two organizations with two reservations each at Stays and none here, and settings in the workspace's .env.

    Args:
        signed: a reviewer has given a standing sign-off.
        settings: further ones.
    """
    schema = (ROOT / "sql" / "schema" / "stays.sql").read_text(encoding="utf-8")
    with database.session() as session:
        session.driver.execute(schema.encode())
    execute(database, *(
        f"INSERT INTO properties VALUES ({number}, '{scope}', 'House {number}', 'listing-1')"
        for number, scope in enumerate((ONE, TWO), 1)
    ))  # fmt: skip
    stays = Stays([ONE, TWO])
    for scope, code in ((ONE, "AA01"), (ONE, "AA02"), (TWO, "BB01"), (TWO, "BB02")):
        stays.add(scope, code, check_in="2027-01-10", check_out="2027-01-14")
    (workspace.root / "recon.toml").touch()
    with served(stays.app) as url:
        lines = [f"{name}={value}\n" for name, value in (stays.settings(url) | settings).items()]
        Path(workspace.root / ".env").write_text("".join(lines), encoding="utf-8")
        if signed:
            standing.give(database, workspace, MIRROR, "bob", rows=1000, days=1, actions=["insert", "update", "set"])
        yield InStep(database, workspace, stays, url)
