"""The states of a plan and the moves between them, as data; nothing else changes a state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from recon.backfill import audit
from recon.database import tables
from recon.database.connect import Session
from recon.errors import IllegalMove, NotFound, did_you_mean
from recon.names import storable


@dataclass(frozen=True)
class Move:
    """One legal move: what must hold before it is made, and what it means for the person who reads the log."""

    origin: str
    to: str
    guard: str
    why: str


ENOUGH = "as many others as the policy asks approved its digest, or standing sign-offs cover it"
NEWER = "a newer plan of the same reconciliation is being kept"
LATE = "its time is over"
AGAIN = "the same checks as at the start"
UNDO = "genuine approvals, whatever the clock says"

# A plan that wrote something is never superseded: a newer one must not hide rows that are half written.
MOVES = (
    Move("planned", "approved", ENOUGH, "enough people other than the author said yes"),
    Move("planned", "rejected", "a reason", "a person said no"),
    Move("planned", "superseded", NEWER, "its rows were decided anew"),
    Move("planned", "expired", LATE, "nobody applied it in time"),
    Move("approved", "applying", "sign-off, time, schema and every row hold", "the executor started"),
    Move("approved", "rejected", "a reason", "a person said no before it was applied"),
    Move("approved", "stale", "more rows drifted than it tolerates", "it is no longer right"),
    Move("approved", "superseded", NEWER, "its rows were decided anew"),
    Move("approved", "expired", LATE, "nobody applied it in time"),
    Move("applying", "applied", "no batch is left", "every batch was committed"),
    Move("applying", "interrupted", "the table's lock is free", "the process that applied it is gone"),
    Move("applying", "apply_failed", "an error, or drift beyond the tolerance", "it cannot go on as it is"),
    Move("interrupted", "applying", AGAIN, "resumed"),
    Move("interrupted", "reverting", UNDO, "undone instead of resumed"),
    Move("apply_failed", "applying", AGAIN, "tried again"),
    Move("apply_failed", "reverting", UNDO, "it is being undone"),
    Move("applied", "verified", "verify.sql finds nothing wrong", "every planned change is there"),
    Move(
        "applied", "verify_failed", "verify.sql finds a change wrong or absent", "a planned change is wrong or absent"
    ),
    Move("applied", "reverting", UNDO, "it is being undone"),
    Move("verified", "reverting", UNDO, "it is being undone"),
    Move("verify_failed", "verified", "verify.sql finds nothing wrong", "a later look found every planned change"),
    Move("verify_failed", "reverting", UNDO, "it is being undone"),
    Move("reverting", "reverted", "every row has its former value again", "undone"),
    Move("reverting", "reverted_with_conflicts", "some rows hold neither", "rows that people changed since were kept"),
)

STATES = frozenset(move.origin for move in MOVES) | frozenset(move.to for move in MOVES)
_LEGAL = {(move.origin, move.to): move for move in MOVES}


def as_markdown() -> str:
    """The table of moves as docs/sign-off.md shows it."""
    lines = [f"| {move.origin} | {move.to} | {move.guard} | {move.why} |" for move in MOVES]
    return "\n".join(["| from | to | guard | why |", "|---|---|---|---|", *lines])


def create(session: Session, row: dict[str, Any], actor: str) -> None:
    """A new plan, in its first state."""
    session.connection.execute(tables.plans.insert().values(**row, state="planned"))
    _log(session, row["plan"], None, "planned", actor, {"digest": row["digest"], "rows": row["row_count"]})


def move(session: Session, plan: str, to: str, actor: str, **detail: object) -> None:
    """Take a plan to another state, and write the row of the log, in the caller's transaction.

    The row is locked, so of two processes that try the same move exactly one wins.

    Raises:
        IllegalMove: the table of moves does not know this move.
    """
    origin = current(session, plan, lock=True)
    if (origin, to) not in _LEGAL:
        possible = ", ".join(legal.to for legal in MOVES if legal.origin == origin) or "none"
        raise IllegalMove(
            f"Plan {plan} is {origin}; it cannot become {to}.",
            why=f"From {origin} it can go to: {possible}.",
            todo="See `recon plans`.",
        )
    session.execute("SELECT set_config('synchronous_commit', 'on', true)")  # the batches of an apply do without
    session.connection.execute(tables.plans.update().where(tables.plans.c.plan == plan).values(state=to))
    _log(session, plan, origin, to, actor, detail)


def current(session: Session, plan: str, *, lock: bool = False) -> str:
    """The state of a plan. Raises NotFound."""
    query = sa.select(tables.plans.c.state).where(tables.plans.c.plan == plan)
    state = None
    if storable(plan):
        state = session.connection.execute(query.with_for_update() if lock else query).scalar()
    if state is None:
        known = session.connection.execute(sa.select(tables.plans.c.plan)).scalars()
        raise NotFound(
            f"There is no plan {plan!r}." if not storable(plan) else f"There is no plan {plan}.",
            why=did_you_mean(plan, known),
            todo="See `recon plans`.",
        )
    return state


def log(session: Session, plan: str) -> list[dict[str, Any]]:
    """Every move of a plan, first to last."""
    kept = tables.audit_log
    query = sa.select(kept).where(kept.c.plan == plan, kept.c.event == "move").order_by(kept.c.entry)
    return [dict(row) for row in session.connection.execute(query).mappings()]


def _log(session: Session, plan: str, origin: str | None, to: str, actor: str, detail: dict[str, object]) -> None:
    reconciliation = session.connection.execute(
        sa.select(tables.plans.c.reconciliation).where(tables.plans.c.plan == plan)
    ).scalar_one()
    audit.append(
        session, actor, "move", reconciliation=reconciliation, plan=plan, from_state=origin, to_state=to, detail=detail
    )
