"""Undo a plan: each row gets its former value again, only where it still holds what was written."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from time import perf_counter
from typing import Any

from recon.backfill import batches, executor, outside_revert, referring, scripts, seams, sign_off, states, veils, work
from recon.backfill import plan as plans
from recon.backfill.batches import Batch
from recon.backfill.change import INSERT, Shape
from recon.backfill.executor import Notice, Progress
from recon.backfill.plan import Plan
from recon.backfill.work import Job, Tally
from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import BundleChanged, IllegalMove
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
    outside: dict[str, Any] | None = None  # what became of the records of an outside system; None: the plan has none

    @property
    def kept(self) -> int:
        """Rows and records that were changed since and are kept as they are."""
        return max(self.conflicts, self.outside["kept"] if self.outside else 0)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def revert(
    database: Database,
    workspace: Workspace,
    plan: str,
    actor: str,
    *,
    execute: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
    notice: Notice = executor.silent,
) -> Reverted:
    """Restore what a plan wrote; rows that somebody changed since are kept and named.

    Args:
        database: where it was applied.
        workspace: whose bundle, policy and signers count.
        plan: its id.
        actor: who reverts it.
        execute: write; else it is tried on the first rows and rolled back.
        workers: sessions that write, 1 or 2.
        progress: called after each batch.
        notice: called with the reason while it waits for others, and with None when it goes on.

    Raises:
        IllegalMove: nothing of the plan was applied, or it is reverted already.
        NotApproved, BundleChanged, WrongDatabase: the sign-off covers revert.sql too, and is checked again.
        BundleChanged: rows were taken out of the ledger, or of what is kept of an outside system, so that it no longer
            says all that was written.
        Locked: another writer is at work, somebody holds the rows, or rows of others would be deleted with ours.
    """
    found = plans.load(database, workspace, plan)
    if found.state not in REVERTIBLE:
        raise IllegalMove(f"Plan {plan} is {found.state}.", why="There is nothing to undo.", todo="See `recon plans`.")
    began = perf_counter()
    seen = veils.for_viewer(workspace, found.document)
    with executor.writing(database, found) as (session, alone), ExitStack() as stack:
        signed = sign_off.check(session, database, workspace, plan, actor, undoing=True)
        # The very plan that was checked, as it stands by now.
        found = replace(signed.plan, state=states.current(session, plan))
        if found.state not in REVERTIBLE:
            raise IllegalMove(
                f"Plan {plan} is {found.state}.", why="Another revert was faster.", todo="See `recon plans`."
            )
        written = _whole_ledger(session, found)
        outside = None
        if found.outside:
            outside = stack.enter_context(outside_revert.opened(found, workspace.variables, notice))
            outside.whole(session, found)
        statement = signed.bundle.scripts["revert.sql"]

        def write(writer: Session, batch: Batch) -> int:
            referring.nobody(database, writer, found, batch)
            return writer.execute(statement, *batch.bounds).rowcount

        job = Job(
            plan=found,
            kind="ledger",
            ranges=[(1, last)] if (last := batches.last_place(session, found, "ledger")) else [],
            write=write,
            whole=last <= batches.ONE_TRANSACTION_ROWS,
            before_commit=_any_number,
        )
        tally = Tally(last)
        if not execute:
            changed: set[int] = set()
            if job.whole and job.ranges:
                job.write(session, batches.at(session, found, "ledger", 1, last))
                conflicts, rows = _conflicts(session, found)
                changed = _changed(session, found) if outside and conflicts else changed
            else:  # a large one is not written even to be rolled back
                conflicts, rows = _foreseen(session, found)
            session.rollback()
            restored = written - conflicts
            told = outside.foreseen(database, found, changed) if outside else None
            return Reverted(plan, False, written, restored, conflicts, rows, perf_counter() - began, found.state, told)
        if found.state == "applying":  # we hold the lock, so whoever was applying is gone
            states.move(session, plan, "interrupted", actor)
        if found.state != "reverting":
            states.move(session, plan, "reverting", actor)
        session.commit()
        if outside:
            outside.run(database, session, alone, job, tally, progress, notice)
        else:
            work.run(database, session, alone, job, tally, workers=workers, progress=progress, notice=notice)
        seams.reached("before move")
        conflicts, rows = _conflicts(session, found)
        restored = written - conflicts  # also what an earlier, interrupted revert restored
        told = outside_revert.told(session, found, seen) if outside else None
        state = "reverted_with_conflicts" if conflicts or (told and told["kept"]) else "reverted"
        kept = {"kept_outside": told["kept"]} if told else {}
        states.move(session, plan, state, actor, restored=restored, conflicts=conflicts, **kept)
        session.commit()
        return Reverted(plan, True, written, restored, conflicts, rows, perf_counter() - began, state, told)


def _any_number(_session: Session, _batch: Batch, _changed: int) -> None:
    """A revert takes whatever can be restored; what cannot is listed at the end."""


def _whole_ledger(session: Session, plan: Plan) -> int:
    """How many rows were written. Raises BundleChanged where the ledger does not hold all of them."""
    table = tables.own("ledger", plan.plan).sql(DIALECT)
    kept = session.value(f"SELECT count(*) FROM {table}")  # noqa: S608 (our own table)
    written = session.value("SELECT coalesce(sum(changed), 0)::int8 FROM recon.batches WHERE plan = $1", plan.plan)
    if kept != written:
        raise BundleChanged(
            f"The ledger of plan {plan.plan} has {kept:,} rows; {written:,} were written.",
            why="Somebody took rows out of it, or put some in: what it says cannot be undone as a whole.",
            todo="See `recon audit`; restore the ledger from a backup of schema recon.",
        )
    return written


def _conflicts(session: Session, plan: Plan) -> tuple[int, list[str]]:
    """Rows in the ledger that were not restored: how many, and the keys of the first."""
    keys = ", ".join(quote(name) for name in Shape.of_document(plan.document).key_names)
    table = tables.own("ledger", plan.plan).sql(DIALECT)
    rows = session.rows(
        f"SELECT count(*) OVER (), {keys} FROM {table} WHERE reverted_at IS NULL ORDER BY {keys} LIMIT $1::int",  # noqa: S608
        SHOWN_CONFLICTS,
    )
    return (rows[0][0] if rows else 0), [executor.shown(row[1:]) for row in rows]


def _changed(session: Session, plan: Plan) -> set[int]:
    """The places of the rows in the ledger that were not restored."""
    table = tables.own("ledger", plan.plan).sql(DIALECT)
    return {row[0] for row in session.rows(f"SELECT place FROM {table} WHERE reverted_at IS NULL")}  # noqa: S608 (our own)


def _foreseen(session: Session, plan: Plan) -> tuple[int, list[str]]:
    """Rows of the ledger that no longer hold what was written: how many, and the keys of the first."""
    shape = Shape.of_document(plan.document)
    ledger = tables.own("ledger", plan.plan).sql(DIALECT)
    names = ", ".join(f"ledger.{quote(name)}" for name in shape.key_names)
    same = " AND ".join(
        f"target.{quote(key)} = ledger.{quote(name)}" for key, name in zip(shape.keys, shape.key_names, strict=True)
    )
    written: dict[str, list[str]] = plan.document["columns"]
    # An update holds the link's columns as well, which it does not write: they are known by their images.
    held = " AND ".join(
        f'(target.{quote(name)}::text COLLATE "C" IS NOT DISTINCT FROM ledger.after_{n}::text COLLATE "C"'
        f" OR ledger.before_{n} IS NULL AND ledger.after_{n} IS NULL AND ledger.action <> ALL (${n}::text[]))"
        for n, name in enumerate(shape.columns, 1)
    )
    number = len(shape.columns)
    untouched = ""
    if shape.inserts:
        digest = scripts.row_digest().sql(DIALECT)
        untouched = f"WHEN ledger.action = '{INSERT}' THEN {digest} = ledger.row_digest "
    rows = session.rows(
        f"SELECT count(*) OVER (), {names} FROM {ledger} AS ledger"  # noqa: S608 (quoted)
        f" LEFT JOIN {executor.target_name(plan)} AS target ON {same}"
        f" WHERE ledger.reverted_at IS NULL AND (CASE WHEN target.{quote(shape.keys[0])} IS NULL THEN false"
        f" {untouched}ELSE {held} END) IS NOT TRUE ORDER BY {names} LIMIT ${number + 1}::int",
        *[[action for action, columns in written.items() if name in columns] for name in shape.columns],
        SHOWN_CONFLICTS,
    )
    return (rows[0][0] if rows else 0), [executor.shown(row[1:]) for row in rows]
