"""Undo a plan: each row gets its former value again, only where it still holds what was written."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

from recon.backfill import batches, executor, sign_off, states
from recon.backfill import plan as plans
from recon.backfill.change import Shape
from recon.backfill.executor import Progress
from recon.backfill.plan import Plan
from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import IllegalMove
from recon.names import DIALECT, quote
from recon.workspace import Workspace

REVERTIBLE = ("interrupted", "apply_failed", "applied", "verified", "verify_failed", "reverting", "applying")
SHOWN_CONFLICTS = 50  # rows named; the count says how many there are


@dataclass(frozen=True)
class Reverted:
    """What a revert did, or what a dry run would do."""

    plan: str
    executed: bool
    written: int
    restored: int
    conflicts: int
    rows: list[str]
    seconds: float
    state: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def revert(
    database: Database,
    workspace: Workspace,
    plan: str,
    actor: str,
    *,
    execute: bool = False,
    progress: Progress | None = None,
) -> Reverted:
    """Restore what a plan wrote; rows that somebody changed since are kept and named.

    Raises:
        IllegalMove: nothing of the plan was applied, or it is reverted already.
        NotApproved, BundleChanged, WrongDatabase: the sign-off covers revert.sql too, and is checked again.
    """
    found = plans.load(database, workspace, plan)
    if found.state not in REVERTIBLE:
        raise IllegalMove(f"Plan {plan} is {found.state}.", why="There is nothing to undo.", todo="See `recon plans`.")
    with executor.writing(database, found) as session:
        signed = sign_off.check(session, database, workspace, plan, actor)
        statement = signed.bundle.scripts["revert.sql"]
        found = plans.read(session, workspace, plan)
        if execute:
            if found.state == "applying":  # we hold the lock, so whoever was applying is gone
                states.move(session, plan, "interrupted", actor)
            if found.state != "reverting":
                states.move(session, plan, "reverting", actor)
            session.commit()
        began, restored = perf_counter(), 0
        last = batches.last_place(session, found, "ledger")
        written = session.value(f"SELECT count(*) FROM {tables.own('ledger', plan).sql(DIALECT)}")  # noqa: S608 (our own table)
        pace = batches.Pace(
            batches.ONE_TRANSACTION_ROWS if last <= batches.ONE_TRANSACTION_ROWS else batches.START_ROWS
        )
        done = 0
        for place in batches.pieces([(1, last)] if last else [], pace):
            batch = batches.at(session, found, "ledger", *place)
            executor.hold(session, found, "ledger", batch)
            restored += session.execute(statement, *batch.bounds).rowcount
            done += batch.rows
            if execute:
                session.commit()
            if progress:
                progress(done, last)
        conflicts, rows = _conflicts(session, found)
        if execute:
            restored = written - conflicts  # also what an earlier, interrupted revert restored
        state = found.state
        if execute:
            state = "reverted_with_conflicts" if conflicts else "reverted"
            states.move(session, plan, state, actor, restored=restored, conflicts=conflicts)
            session.commit()
        else:
            session.rollback()
        return Reverted(plan, execute, written, restored, conflicts, rows, perf_counter() - began, state)


def _conflicts(session: Session, plan: Plan) -> tuple[int, list[str]]:
    """Rows in the ledger that were not restored: how many, and the keys of the first."""
    keys = ", ".join(quote(name) for name in Shape.of_document(plan.document).key_names)
    table = tables.own("ledger", plan.plan).sql(DIALECT)
    rows = session.rows(
        f"SELECT count(*) OVER (), {keys} FROM {table} WHERE reverted_at IS NULL ORDER BY {keys} LIMIT $1::int",  # noqa: S608
        SHOWN_CONFLICTS,
    )
    return (rows[0][0] if rows else 0), [executor.shown(row[1:]) for row in rows]
