"""Past runs as a line: how coverage and what is open went, from run to run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from recon.database import tables
from recon.database.connect import Database, Session
from recon.matching import precision
from recon.matching.coverage import coverage

SHOWN_RUNS = 60  # two months of mornings


@dataclass(frozen=True)
class Past:
    """A finished run of the whole population: what it found."""

    run: str
    at: datetime
    population: int
    coverage: float | None
    precision: float | None  # of the rules that it decided by, as they were measured last
    outcomes: Mapping[str, int]  # those of the other side too, where the spec compares

    @property
    def open(self) -> dict[str, int]:
        """What was not reconciled, and what was left out."""
        return {name: number for name, number in self.outcomes.items() if name in OPEN}


OPEN = ("proposed", "ambiguous", "unmatched", "orphan", "missing", "invalid", "excluded")


def read(session: Session, database: Database, name: str) -> tuple[Past, ...]:
    """The last full runs of a reconciliation, the oldest first; runs that looked at a part only are left out."""
    runs = tables.runs
    query = (
        sa.select(runs)
        .where(runs.c.reconciliation == name, runs.c.state == "success", runs.c.limited.is_(None))
        .order_by(runs.c.started_at.desc())
        .limit(SHOWN_RUNS)
    )
    rows = [dict(row) for row in session.connection.execute(query).mappings()]
    measures = precision.of_runs(database, rows)
    found = [
        Past(
            run=row["run"],
            at=row["started_at"].astimezone(UTC),
            population=row["population"],
            coverage=coverage(row["outcomes"]),
            precision=measure["precision"] if measure else None,
            outcomes={**row["outcomes"], **{key: n for key, n in (row["other_side"] or {}).items() if n}},
        )
        for row, measure in zip(rows, measures, strict=True)
    ]
    return tuple(reversed(found))
