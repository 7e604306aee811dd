"""What the explore notebook opens: the latest run of a reconciliation, its spec bound to the database, and its counts.

The rooms beside it: `explore_facets` (choosing), `explore_records` (the table), `explore_why` (one record),
`explore_actions` (what people decide), and `explore_view` (all of it as HTML).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from recon.database import tables
from recon.database.connect import Database
from recon.database.watched import Statement, watched
from recon.desk import explore_facets
from recon.desk.explore_facets import Cube
from recon.matching import run as runs
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.matching.coverage import looked_at
from recon.matching.precision import measured
from recon.matching.run import Run
from recon.workspace import Workspace

_ADDRESS = re.compile(r"(?:https?|data):", re.IGNORECASE)


@dataclass(frozen=True)
class View:
    """The latest run of a reconciliation, its spec bound to the database, and its counts."""

    run: Run
    bound: Bound
    cube: Cube
    precision: float | None  # of the rules that the run decided by, where it was measured
    statements: tuple[Statement, ...]  # what counted
    private: str | None = None  # what must be said of private columns

    @property
    def left(self) -> int:
        """How many records are left to explain, on either side."""
        return self.cube.total({"outcome": self.cube.unreconciled}) if self.cube.unreconciled else 0

    @property
    def note(self) -> str:
        """What one must know of this run before reading its numbers; mostly nothing."""
        parts: list[str] = []
        if self.run.limited:
            parts.append(f"This run looked at {looked_at(self.run.limited)}.")
        if self.run.spec_digest != self.bound.spec.digest:
            parts.append(f"The spec was changed after this run. Run `recon match {self.run.reconciliation}` again.")
        if self.run.conflict_count:
            parts.append(f"The data contradict decisions of people: {self.run.conflict_count:,}. Filter by reason.")
        return " ".join(parts)


def with_run(database: Database, workspace: Workspace) -> list[str]:
    """The workspace's reconciliations that have a finished run. Creates nothing in the database."""
    kept = tables.runs
    query = sa.select(kept.c.reconciliation).where(kept.c.state == "success", kept.c.kept).distinct()
    with database.session(read_only=True) as session:
        if session.value("SELECT to_regclass('recon.runs')::text") is None:
            return []
        found = set(session.connection.execute(query).scalars())
    return [name for name in workspace.reconciliations() if name in found]


def view(database: Database, workspace: Workspace, name: str) -> View:
    """Open the latest finished run of a reconciliation.

    Raises:
        NotFound: no such reconciliation, or it has no run.
        SpecError, SchemaMismatch: the spec cannot be read, or the tables are no longer what it names.
    """
    spec = workspace.spec(name)
    run = runs.load(database, name)
    with database.session(read_only=True) as session:
        bound = bind(session, spec, shows_private=workspace.sees_private)
        counting = watched(session)
        cube = explore_facets.count(counting, bound, run)
    known = measured(database, name, run.spec_digest)
    private = workspace.private_note(spec)
    return View(run, bound, cube, known.precision if known else None, tuple(counting.said), private)


def harmless(value: Any) -> Any:
    """A value for marimo's table, which makes links of addresses in text, and fetches those of pictures.

    No value may make the reader's browser call a stranger: an invisible character keeps addresses from being seen.

    >>> harmless("see https://a.example/b.png") == "see https:\u2060//a.example/b.png", harmless(None), harmless(20288)
    (True, '', 20288)
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    return _ADDRESS.sub(lambda found: found[0] + "\u2060", value)
