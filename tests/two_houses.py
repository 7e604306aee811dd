"""Two organisations in one reconciliation, with runs, breaks and plans of each and of both: who may see what of it."""

from __future__ import annotations

from dataclasses import dataclass

from recon.backfill import plan as plans
from recon.database.connect import Database
from recon.matching import run as runs
from recon.matching.pool import Filter
from recon.workspace import Workspace
from tests.copies import Copies
from tests.support import execute

NORTH, SOUTH = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"
SECRET_GUEST = "Ida Secret"
SPEC = """\
name: stays
title: Stays of two houses
scope: org
target: {table: stay, key: id, called: stay, private: [guest]}
source: {table: booking, key: [org, code], called: booking, private: [guest]}
cardinality: one_to_one
passes: [{name: same, on: [org, code]}]
compare: {amount: amount, guest: guest}
backfill: {changed: {update: [amount, guest]}}
show: [t.amount, s.guest]
"""
OPEN = """\
name: open_stays
target: {table: stay, key: id}
source: {table: booking, key: [org, code]}
cardinality: one_to_one
passes: [{name: same, on: [org, code]}]
compare: {amount: amount}
"""
TABLES = (
    "CREATE TABLE booking (org uuid, code int, amount int, guest text, PRIMARY KEY (org, code))",
    "CREATE TABLE stay (id int PRIMARY KEY, org uuid, code int, amount int, guest text)",
)


@dataclass(frozen=True)
class Houses:
    """The ids of what is there."""

    whole_run: str
    north_run: str
    south_run: str
    old_plan: str  # over both
    north_plan: str
    south_plan: str


def tables(database: Database) -> None:
    """North has 6 stays, of which 2 differ and 1 has no booking; south has 3, of which 1 differs; each misses one."""
    execute(
        database,
        *TABLES,
        f"INSERT INTO booking SELECT '{NORTH}', n, n, '{SECRET_GUEST}' FROM generate_series(1, 6) AS n",
        f"INSERT INTO booking SELECT '{SOUTH}', n, n, '{SECRET_GUEST}' FROM generate_series(1, 4) AS n",
        f"INSERT INTO stay SELECT n, '{NORTH}', n, CASE WHEN n < 3 THEN 99 ELSE n END, CASE WHEN n < 3 THEN 'Ida Old' ELSE 'Ida Secret' END FROM generate_series(1, 5) AS n",
        f"INSERT INTO stay VALUES (6, '{NORTH}', 60, 6, 'Ida Secret')",
        f"INSERT INTO stay SELECT 10 + n, '{SOUTH}', n, CASE WHEN n = 1 THEN 77 ELSE n END, 'Ida Secret' FROM generate_series(1, 3) AS n",
    )


def fill(database: Database, workspace: Workspace) -> Houses:
    """Tables, specs, a run over both and one of each, and their plans; ann plans."""
    tables(database)
    for name, text in (("stays", SPEC), ("open_stays", OPEN)):
        (workspace.root / "reconciliations" / f"{name}.yaml").write_text(text, encoding="utf-8")
    spec = workspace.spec("stays")
    runs.match(database, workspace.spec("open_stays"), "ann")
    ids: list[str] = []
    made: list[str] = []
    for scope in (None, NORTH, SOUTH):
        ids.append(runs.match(database, spec, "ann", Filter(scope=scope)).run)
        plan = plans.make(database, workspace, spec, "ann", run=ids[-1], allow_limited=True)
        assert plan is not None
        made.append(plan.plan)
    return Houses(*ids, *made)


def again(copies: Copies, database: Database, workspace: Workspace) -> Houses:
    """The same, made once for all tests of a worker and copied for each: the database, and the files beside it."""

    def take() -> tuple[Houses, dict[str, bytes]]:
        found = fill(database, workspace)
        return found, {
            str(path.relative_to(workspace.root)): path.read_bytes()
            for path in workspace.root.rglob("*")
            if path.is_file()
        }

    found, files = copies.after("two houses", take)
    for name, content in files.items():
        path = workspace.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return found
