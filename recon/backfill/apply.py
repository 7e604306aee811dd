"""Apply a plan: check it, compare it with what is there, change in batches. Killed at any moment, it resumes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from time import perf_counter

import sqlalchemy as sa

from recon.backfill import (
    batches,
    drift,
    executor,
    meanwhile,
    outside_apply,
    outside_told,
    rehearsal,
    seams,
    sign_off,
    states,
    veils,
    work,
)
from recon.backfill import plan as plans
from recon.backfill.applied import Applied
from recon.backfill.batches import Batch
from recon.backfill.bundle import Bundle
from recon.backfill.executor import Alone, Notice, Progress
from recon.backfill.outside_apply import Outside
from recon.backfill.plan import Plan
from recon.backfill.sign_off import SignOff
from recon.backfill.veils import Veils
from recon.backfill.work import Anew, Job, Tally
from recon.database import relations, tables
from recon.database.connect import Database, Session
from recon.errors import BundleChanged, IllegalMove, ReconError, Stale
from recon.names import DIALECT
from recon.workspace import Workspace

RESUMABLE = ("approved", "applying", "interrupted", "apply_failed")  # from where an apply starts or goes on


def apply(
    database: Database,
    workspace: Workspace,
    plan: str,
    actor: str,
    *,
    execute: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
    notice: Notice = executor.silent,
) -> Applied:
    """Carry out a plan, or (by default) show what would happen, in a transaction that is rolled back.

    Args:
        database: where the plan was made.
        workspace: whose bundle, policy and signers count.
        plan: its id.
        actor: who applies it.
        execute: write.
        workers: sessions that write, 1 or 2; a plan of up to 10,000 rows is one transaction of one session.
        progress: called after each batch.
        notice: called with the reason while it waits for others, and with None when it goes on.

    Raises:
        NotApproved, BundleChanged, WrongDatabase: the sign-off does not hold.
        Stale: more rows drifted than the plan tolerates; each is named.
        Locked: another writer is at work, or somebody holds the rows.
        SlowPlan: a batch would read the whole of a large table.
        IllegalMove: the plan is not in a state from which it can be applied.
        OutsideLeft: more records of an outside system could not be written than the plan tolerates.
        OutsideFailed: an outside system cannot be asked, or did not say what it did; a resume goes on.
    """
    found = plans.load(database, workspace, plan)
    if not execute:
        seen = veils.for_viewer(workspace, found.document)
        dry = rehearsal.rehearse(database, found, seen)
        return replace(dry, outside=outside_told.foreseen(database, found, workspace.variables, seen, notice))
    began = perf_counter()
    seen = veils.for_viewer(workspace, found.document)
    with executor.writing(database, found) as (session, alone), database.session() as watch, ExitStack() as stack:
        executor.limited(watch)
        signed = sign_off.check(session, database, workspace, plan, actor)
        # The very plan that was checked, as it stands by now.
        found = replace(signed.plan, state=states.current(session, plan))
        if found.state == "applied" or found.state == "verified":
            told = outside_told.so_far(session, found, seen)
            return Applied(plan, True, found.rows, 0, 0, [], 0.0, found.state, outside=told)
        if found.state not in RESUMABLE:
            raise IllegalMove(f"Plan {plan} is {found.state} and cannot be applied.", todo="See `recon plans`.")
        sign_off.not_expired(session, found, actor)
        hidden = veils.for_all(workspace, found.document)
        writer = _Writer(signed.bundle, found, watch, hidden)
        writer.begin(session)
        outside = None
        if found.outside:
            opening = outside_apply.opened(found, writer.statement, workspace.variables, notice)
            outside = stack.enter_context(opening)
        _fresh(session, signed, found, actor, hidden)
        if found.state == "applying":  # we hold the lock, so whoever was applying is gone
            states.move(session, plan, "interrupted", actor)
        states.move(session, plan, "applying", actor)
        session.commit()
        checked = perf_counter() - began
        tally = _execute(database, session, alone, writer, outside, actor, workers, progress, notice)
        drifts = drift.listed(session, signed.bundle, found, seen) if writer.skipped else []
        told = outside_told.so_far(session, found, seen)
        session.commit()
    return Applied(
        plan=plan,
        executed=True,
        planned=found.rows,
        changed=tally.changed,
        skipped=writer.skipped,
        drifts=drifts,
        seconds=perf_counter() - began,
        state="applied",
        outside=told,
        batches=tally.batches,
        workers=workers,
        retries=tally.retries,
        pauses=tally.pauses,
        p95_milliseconds=tally.p95,
        checking_seconds=checked,
    )


def _execute(
    database: Database,
    session: Session,
    alone: Alone,
    writer: _Writer,
    outside: Outside | None,
    actor: str,
    workers: int,
    progress: Progress | None,
    notice: Notice,
) -> Tally:
    plan = writer.plan
    done = _done(session, plan)
    tally = Tally(plan.rows, sum(last - first + 1 for first, last in done), sum(done.values()))
    session.commit()
    writer.skipped = tally.done - tally.changed
    job = Job(
        plan=plan,
        kind="staged",
        ranges=batches.gaps(list(done), plan.rows),
        write=writer.write,
        whole=plan.rows <= batches.ONE_TRANSACTION_ROWS,
        before_commit=writer.before_commit,
        written_by=writer.staged_by,
    )
    try:
        if job.ranges:
            first, last = job.ranges[0]
            last = last if job.whole else min(last, first + batches.START_ROWS - 1)
            rehearsal.uses_the_key(session, plan, writer.statement, batches.at(session, plan, "staged", first, last))
        session.commit()
        if outside:
            outside.run(database, session, alone, job, tally, progress, notice)
            outside_told.tolerated(session, plan, outside.left, writer.skipped, writer.hidden)
        else:
            work.run(database, session, alone, job, tally, workers=workers, progress=progress, notice=notice)
    except Exception as error:
        session.rollback()
        if not session.driver.closed:  # else the plan stays `applying`, and the next apply resumes it
            ours = isinstance(error, ReconError) and executor.may_tell(plan, error)
            reason = str(error) if ours else type(error).__name__
            states.move(session, plan.plan, "apply_failed", actor, changed=tally.changed, reason=reason)
            session.commit()
        raise
    seams.reached("before move")
    left = {"left_outside": outside.left} if outside else {}
    states.move(session, plan.plan, "applied", actor, changed=tally.changed, skipped=writer.skipped, **left)
    session.commit()
    return tally


@dataclass
class _Writer:
    """Writes the batches of one plan, and looks at each before its commit whether all still is as it was signed."""

    bundle: Bundle
    plan: Plan
    watch: Session  # sees the table as it is now, where a batch sees it as of one moment
    hidden: Veils  # of what is kept and shown to everybody
    skipped: int = 0  # rows that drifted in mid-run, by all workers
    staged_by: str = ""  # the transaction that wrote the staged rows, every one of them
    schema: str | None = None  # the version of the written table's definition

    @property
    def statement(self) -> str:
        return self.bundle.scripts["execute.sql"]

    def begin(self, session: Session) -> None:
        """Compare the table's definition with the planned one, and remember which one that is."""
        self.schema = relations.version(session, executor.target_name(self.plan))
        executor.unchanged_schema(session, self.plan)
        staged = tables.own("staged", self.plan.plan).sql(DIALECT)
        self.staged_by = session.value(f"SELECT xmin::text FROM {staged} LIMIT 1") or ""  # noqa: S608 (our own table)
        others = f"SELECT EXISTS (SELECT FROM {staged} WHERE xmin <> $1::xid)"  # noqa: S608 (our own table)
        if not self.staged_by or session.value(others, self.staged_by):
            raise _edited(self.plan)

    def write(self, session: Session, batch: Batch) -> int:
        """One batch in the open transaction: change, ledger and the batch's own row; returns the rows changed."""
        began = perf_counter()
        changed = session.execute(self.statement, *batch.bounds).rowcount
        session.execute(
            "INSERT INTO recon.batches (plan, first, last, changed, milliseconds)"
            " VALUES ($1, $2::bigint, $3::bigint, $4::bigint, $5::float8)",
            self.plan.plan,
            batch.first,
            batch.last,
            changed,
            (perf_counter() - began) * 1000,
        )
        return changed

    def before_commit(self, session: Session, batch: Batch, changed: int) -> None:
        """Raise, and so keep nothing of the batch, where staged rows or table changed, or too many rows drifted."""
        if batch.as_written != batch.rows:
            raise _edited(self.plan)
        # The batch holds a lock on the table by now, so what it was written under is what is there.
        self.watch.rollback()
        version = relations.version(self.watch, executor.target_name(self.plan))
        if version != self.schema:
            session.rollback()  # before another look: whoever alters the table may wait for us, and we for them
            executor.unchanged_schema(self.watch, self.plan)
            self.watch.commit()
            self.schema = version
            raise Anew  # something else about it changed, such as who may read it
        self.watch.commit()
        self.skipped += batch.rows - changed
        tolerance = int(self.plan.document["tolerance_rows"])
        if self.skipped > tolerance:
            raise Stale(
                f"{self.skipped} rows of plan {self.plan.plan} drifted while it was applied; it tolerates {tolerance}.",
                why="Rows of earlier batches were changed and are in the ledger; the rest was left alone.",
                todo=f"Look at `recon apply {self.plan.plan}`, or undo with `recon revert {self.plan.plan}`.",
            )


def _edited(plan: Plan) -> BundleChanged:
    return BundleChanged(
        f"The staged rows of plan {plan.plan} were edited.",
        why="They are no longer the ones that were compared with changes.csv.",
        todo=f"Undo what was written with `recon revert {plan.plan}`, and make a new plan.",
    )


def _done(session: Session, plan: Plan) -> Mapping[tuple[int, int], int]:
    """Batches that an interrupted apply committed, first and last place, with the rows they changed."""
    kept = tables.batches
    query = sa.select(kept.c.first, kept.c.last, kept.c.changed).where(kept.c.plan == plan.plan)
    return {(row.first, row.last): row.changed for row in session.connection.execute(query)}


# -- staleness -------------------------------------------------------------------------------------------


def _fresh(session: Session, signed: SignOff, plan: Plan, actor: str, seen: Veils) -> None:
    """Compare every planned row with what is there; refuse to start beyond the plan's tolerance.

    A row that people decided otherwise about is never tolerated.
    """
    try:
        meanwhile.agree(session, plan)
    except Stale:
        if plan.state == "approved":
            states.move(session, plan.plan, "stale", actor)
            session.commit()
        raise
    drifts = drift.listed(session, signed.bundle, plan, seen)
    count, tolerance = drift.count(drifts), int(plan.document["tolerance_rows"])
    if count <= tolerance:
        return
    if plan.state == "approved":
        states.move(session, plan.plan, "stale", actor, rows=count)
        session.commit()
    listed = "; ".join(f"{row['key']}: {drift.explained(row)}" for row in drifts)
    more = f"; and {count - len(drifts)} more" if count > len(drifts) else ""
    raise Stale(
        f"{count} of {plan.rows} rows changed since plan {plan.plan} was made; it tolerates {tolerance}.",
        why=f"{listed}{more}.",
        todo=f"Run `recon match {plan.reconciliation}` and `recon plan {plan.reconciliation}` again.",
    )
