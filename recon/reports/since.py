"""What a report showed, kept for the next one, and what happened since the last report and the last signed one.

What lies between two reports is told by the numbers of log entries, not by the clock: each log is written by one
transaction at a time, so a number divides exactly what a report saw from what came after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from recon.database import tables
from recon.database.connect import Database, Session
from recon.matching.bound import Bound
from recon.reports import kept, signed
from recon.reports.ageing import shown_key
from recon.workspace import Workspace

if TYPE_CHECKING:
    from recon.reports.data import ReportData

FORMAT = 1  # of what is kept of a report; of another one only the time and the people are told
SHOWN_BREAKS = 20  # breaks of each list; the counts say how many there are
SHOWN_MOVES = 30


@dataclass(frozen=True)
class Marks:
    """The last entries of the two logs that a report saw."""

    breaks: int
    audit: int


@dataclass(frozen=True)
class Earlier:
    """An earlier report, and what happened since; times are UTC."""

    id: str
    at: datetime
    actor: str
    figures: Mapping[str, Any]
    inputs: Mapping[str, Any]
    signed_by: str | None
    signed_at: datetime | None
    proof: str  # what the signature is worth, in words
    broken: int = 0  # open now, and were not then
    resolved: int = 0  # were open then, and are not now
    to_and_fro: int = 0  # changed, and changed back
    newly_broken: tuple[dict[str, Any], ...] = ()
    newly_resolved: tuple[dict[str, Any], ...] = ()
    moves: tuple[dict[str, Any], ...] = ()
    move_count: int = 0


@dataclass(frozen=True)
class Since:
    """The reports before this one; the two may be the same."""

    last: Earlier | None = None
    signed: Earlier | None = None

    @property
    def one(self) -> bool:
        """Whether the last report is the last signed one."""
        return self.last is not None and self.signed is not None and self.last.id == self.signed.id


def marks(session: Session, name: str) -> Marks:
    found = session.rows(_MARKS, name)[0]
    return Marks(*found)


def read(session: Session, workspace: Workspace, bound: Bound, notebook: str) -> Since:
    """The last report of a reconciliation and the last signed one, with what happened since each."""
    table = tables.notebook_runs
    query = (
        sa.select(table)
        .where(
            table.c.reconciliation == bound.spec.name, table.c.notebook == notebook, table.c.state == "success",
            table.c.figures.is_not(None),
        )
        .order_by(table.c.started_at.desc(), table.c.id.desc())
        .limit(1)
    )  # fmt: skip
    last = session.connection.execute(query).mappings().first()
    seen = session.connection.execute(query.where(table.c.signed_by.is_not(None))).mappings().first()
    found = _earlier(session, workspace, bound, dict(last)) if last else None
    if last and seen and last["id"] == seen["id"]:
        return Since(found, found)
    return Since(found, _earlier(session, workspace, bound, dict(seen)) if seen else None)


def _earlier(session: Session, workspace: Workspace, bound: Bound, row: dict[str, Any]) -> Earlier:
    figures: dict[str, Any] = row["figures"]
    earlier = Earlier(
        id=row["id"],
        at=datetime.fromisoformat(figures["at"]) if "at" in figures else row["started_at"],
        actor=row["actor"],
        figures=figures if figures.get("format") == FORMAT else {},
        inputs=row["inputs"] or {},
        signed_by=row["signed_by"],
        signed_at=row["signed_at"],
        proof=signed.proof(workspace, row) if row["signed_by"] else "",
    )
    if not earlier.figures:
        return earlier
    name, after = bound.spec.name, int(figures["marks"]["breaks"])
    broken, resolved, same = session.rows(_CHANGED, name, after)[0]
    moves = session.records(_MOVES, name, int(figures["marks"]["audit"]), SHOWN_MOVES)
    return replace(
        earlier,
        broken=broken,
        resolved=resolved,
        to_and_fro=same,
        newly_broken=_breaks(session, bound, after, 1) if broken else (),
        newly_resolved=_breaks(session, bound, after, -1) if resolved else (),
        moves=tuple(reversed(moves)),
        move_count=moves[0]["total"] if moves else 0,
    )


def _breaks(session: Session, bound: Bound, after: int, change: int) -> tuple[dict[str, Any], ...]:
    rows = session.records(_WHICH, bound.spec.name, after, change, SHOWN_BREAKS)
    return tuple({**row, "key": shown_key(bound, row["side"], row["key"])} for row in rows)


# -- what is kept for the next report --------------------------------------------------------------------


def figures(data: ReportData) -> dict[str, Any]:
    """What a report shows, as the next one needs it."""
    states = [item["status"] for item in (data.checks or {}).get("items", [])]
    return {
        "format": FORMAT,
        "at": data.generated_at.isoformat(),
        "run": data.run.run,
        "limited": bool(data.run.limited),
        "coverage": data.now.share,
        "population": data.now.population,
        "linked": data.now.linked,
        "missing": data.now.missing,
        "precision": data.precision.precision if data.precision else None,
        "recall": data.precision.recall if data.precision else None,
        "outcomes": dict(data.run.outcomes),
        "other_side": {name: number for name, number in data.run.other_side.items() if number},
        "reasons": dict(data.run.reasons),
        "breaks": data.ageing.breaks,
        "assigned": sum(item.assigned for item in data.ageing.classes),
        "ageing": data.ageing.as_dict(),
        "plans": [{"plan": item.plan, "state": item.state} for item in data.queue],
        "checks": {state: states.count(state) for state in ("passed", "failed", "errored")} if states else None,
        "marks": {"breaks": data.marks.breaks, "audit": data.marks.audit},
    }


def keep(database: Database, identity: str, data: ReportData) -> None:
    """Keep what a report showed and what it was made from.

    Args:
        database: where recon's own tables are.
        identity: the report's row in notebook_runs; empty: nothing is kept, for nobody counts this one.
        data: the report.
    """
    if not identity:
        return
    kept.note(
        database,
        identity,
        run=data.run.run,
        plan=data.plan.plan if data.plan else None,
        figures=figures(data),
        inputs=data.inputs.as_dict(),
    )


_MARKS = """
    SELECT coalesce((SELECT max(entry) FROM recon.break_log WHERE reconciliation = $1), 0),
        coalesce((SELECT max(entry) FROM recon.audit_log), 0)
"""
# A break opens and is resolved in turn, so +1 and -1 add up to what it is now beside what it was then.
_EVENTS = """
    SELECT side, key, sum(CASE event WHEN 'resolved' THEN -1 ELSE 1 END) AS change, max(entry) AS entry
    FROM recon.break_log
    WHERE reconciliation = $1 AND entry > $2 AND event IN ('opened', 'reopened', 'resolved')
    GROUP BY side, key
"""
_CHANGED = f"""
    SELECT count(*) FILTER (WHERE change = 1), count(*) FILTER (WHERE change = -1), count(*) FILTER (WHERE change = 0)
    FROM ({_EVENTS}) AS changed
"""  # noqa: S608 (text of our own)
_WHICH = f"""
    SELECT changed.side, changed.key, log.at, log.detail, breaks.assignee, breaks.outcome, breaks.reason
    FROM ({_EVENTS} HAVING sum(CASE event WHEN 'resolved' THEN -1 ELSE 1 END) = $3 ORDER BY 4 LIMIT $4) AS changed
    JOIN recon.break_log AS log USING (entry)
    JOIN recon.breaks ON breaks.reconciliation = $1 AND breaks.side = changed.side AND breaks.key = changed.key
    ORDER BY changed.entry
"""  # noqa: S608 (text of our own)
_MOVES = """
    SELECT log.at, log.actor, log.plan, log.from_state, log.to_state, plans.row_count AS rows, count(*) OVER () AS total
    FROM recon.audit_log AS log JOIN recon.plans USING (plan)
    WHERE log.reconciliation = $1 AND log.event = 'move' AND log.entry > $2
    ORDER BY log.entry DESC LIMIT $3
"""
