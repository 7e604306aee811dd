"""Apply a plan: check, compare with what is there, change in batches; a dry run does it all and rolls back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import sqlalchemy as sa

from recon.backfill import batches, executor, meanwhile, scripts, sign_off, states
from recon.backfill import plan as plans
from recon.backfill.batches import Batch
from recon.backfill.bundle import Bundle, read
from recon.backfill.change import Shape
from recon.backfill.executor import Progress
from recon.backfill.plan import Plan
from recon.backfill.sign_off import SignOff
from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import IllegalMove, ReconError, Stale
from recon.names import DIALECT, quote
from recon.workspace import Workspace

RESUMABLE = ("approved", "applying", "interrupted", "apply_failed")  # from where an apply starts or goes on
SHOWN_ROWS = 10  # of the changes, in a dry run
SHOWN_DRIFTS = 20  # rows named when a plan is stale; the count says how many more


@dataclass(frozen=True)
class Applied:
    """What an apply did, or what a dry run would do."""

    plan: str
    executed: bool
    planned: int
    changed: int
    skipped: int
    drifts: list[dict[str, Any]]
    seconds: float
    state: str
    query_plan: str = ""
    predicted_seconds: float | None = None
    sample: tuple[dict[str, Any], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def apply(
    database: Database,
    workspace: Workspace,
    plan: str,
    actor: str,
    *,
    execute: bool = False,
    progress: Progress | None = None,
) -> Applied:
    """Carry out a plan, or (by default) show what would happen, in a transaction that is rolled back.

    Raises:
        NotApproved, BundleChanged, WrongDatabase: the sign-off does not hold.
        Stale: more rows drifted than the plan tolerates; each is named.
        Locked: another writer is at work.
        IllegalMove: the plan is not in a state from which it can be applied.
    """
    found = plans.load(database, workspace, plan)
    if not execute:
        return _dry_run(database, found)
    with executor.writing(database, found) as session:
        signed = sign_off.check(session, database, workspace, plan, actor)
        found = plans.read(session, workspace, plan)
        if found.state == "applied" or found.state == "verified":
            return Applied(plan, True, found.rows, 0, 0, [], 0.0, found.state)
        if found.state not in RESUMABLE:
            raise IllegalMove(f"Plan {plan} is {found.state} and cannot be applied.", todo="See `recon plans`.")
        sign_off.not_expired(session, found, actor)
        executor.unchanged_schema(session, found)
        _fresh(session, signed, found, actor)
        if found.state == "applying":  # we hold the lock, so whoever was applying is gone
            states.move(session, plan, "interrupted", actor)
        states.move(session, plan, "applying", actor)
        session.commit()
        return _execute(session, signed.bundle, found, actor, progress)


def _execute(session: Session, bundle: Bundle, plan: Plan, actor: str, progress: Progress | None) -> Applied:
    statement = bundle.scripts["execute.sql"]
    done = _done(session, plan)
    pace = batches.Pace(
        batches.ONE_TRANSACTION_ROWS if plan.rows <= batches.ONE_TRANSACTION_ROWS else batches.START_ROWS
    )
    ranges = batches.gaps(list(done), plan.rows)
    began, changed, skipped = perf_counter(), sum(done.values()), 0
    skipped += sum(last - first + 1 for first, last in done) - changed
    tolerance = int(plan.document["tolerance_rows"])
    session.commit()
    try:
        for first, last in batches.pieces(ranges, pace):
            batch = batches.at(session, plan, "staged", first, last)
            changed_here = _write(session, plan, statement, batch)
            skipped += batch.rows - changed_here
            if skipped > tolerance:
                raise Stale(
                    f"{skipped} rows of plan {plan.plan} drifted while it was applied; it tolerates {tolerance}.",
                    why=f"{changed} rows were changed and are in the ledger; the rest was left alone.",
                    todo=f"Look at `recon apply {plan.plan}`, or undo with `recon revert {plan.plan}`.",
                )
            session.commit()
            changed += changed_here
            if progress:
                progress(changed + skipped, plan.rows)
    except Exception as error:
        session.rollback()
        if not session.driver.closed:  # else the plan stays `applying`, and the next apply resumes it
            reason = str(error) if isinstance(error, ReconError) else type(error).__name__
            states.move(session, plan.plan, "apply_failed", actor, changed=changed, reason=reason)
            session.commit()
        raise
    states.move(session, plan.plan, "applied", actor, changed=changed, skipped=skipped)
    drifts = _drifts(session, bundle, plan) if skipped else []
    session.commit()
    return Applied(plan.plan, True, plan.rows, changed, skipped, drifts, perf_counter() - began, "applied")


def _write(session: Session, plan: Plan, statement: str, batch: Batch) -> int:
    """One batch in the open transaction: change, ledger and the batch's own row; returns the rows changed."""
    began = perf_counter()
    executor.hold(session, plan, "staged", batch)
    changed = session.execute(statement, *batch.bounds).rowcount
    session.connection.execute(
        tables.batches.insert().values(
            plan=plan.plan,
            first=batch.first,
            last=batch.last,
            changed=changed,
            milliseconds=(perf_counter() - began) * 1000,
        )
    )
    return changed


def _done(session: Session, plan: Plan) -> Mapping[tuple[int, int], int]:
    """Batches that an interrupted apply committed, first and last place, with the rows they changed."""
    kept = tables.batches
    query = sa.select(kept.c.first, kept.c.last, kept.c.changed).where(kept.c.plan == plan.plan)
    return {(row.first, row.last): row.changed for row in session.connection.execute(query)}


def _dry_run(database: Database, plan: Plan) -> Applied:
    """Run the first batches for real and roll them back; needs no sign-off, and leaves no trace."""
    if plan.state not in ("planned", *RESUMABLE):
        raise IllegalMove(
            f"Plan {plan.plan} is {plan.state}.", why="There is nothing left that it would change.",
            todo="See `recon plans`; `recon revert` undoes an applied plan.",
        )  # fmt: skip
    bundle = read(plan.bundle, plan.digest)
    statement = bundle.scripts["execute.sql"]
    with executor.writing(database, plan) as session:
        meanwhile.agree(session, plan)
        meanwhile.sources_free(session, plan)
        drifts = _drifts(session, bundle, plan)
        ranges = [(1, min(plan.rows, batches.ONE_TRANSACTION_ROWS))]
        sample = [
            batches.at(session, plan, "staged", first, last) for first, last in batches.pieces(ranges, batches.Pace())
        ]
        began, changed = perf_counter(), 0
        query_plan = ""
        for batch in sample:
            if not query_plan:
                explained = session.rows(f"EXPLAIN {statement}", *batch.bounds)
                query_plan = "\n".join(row[0] for row in explained)
            executor.hold(session, plan, "staged", batch)
            changed += session.execute(statement, *batch.bounds).rowcount
        seconds = perf_counter() - began
        session.rollback()
        shown = _sample(session, plan)
        done = sum(_done(session, plan).values())
    tried = sum(batch.rows for batch in sample)
    count = _drift_count(drifts)
    return Applied(
        plan=plan.plan,
        executed=False,
        planned=plan.rows,
        changed=plan.rows - done - count if tried < plan.rows else changed,
        skipped=count,
        drifts=drifts,
        seconds=seconds,
        state=plan.state,
        query_plan=query_plan,
        predicted_seconds=seconds * (plan.rows - done) / tried if tried else 0.0,
        sample=shown,
    )


def _sample(session: Session, plan: Plan) -> tuple[dict[str, Any], ...]:
    """The first rows of a plan as people read them."""
    keys = [quote(name) for name in Shape.of_document(plan.document).key_names]
    rows = session.rows(
        f"SELECT {', '.join(keys)}, source_key, pass, interpretation FROM {tables.own('staged', plan.plan).sql(DIALECT)}"  # noqa: S608 (own)
        f" ORDER BY {', '.join(keys)} LIMIT $1::int",
        SHOWN_ROWS,
    )
    return tuple(
        {"key": executor.shown(row[:-3]), "source": str(row[-3]), "pass": row[-2], "interpretation": row[-1]}
        for row in rows
    )


def _drift_count(drifts: list[dict[str, Any]]) -> int:
    return drifts[0]["count"] if drifts else 0


# -- staleness -------------------------------------------------------------------------------------------


def _fresh(session: Session, signed: SignOff, plan: Plan, actor: str) -> None:
    """Compare every planned row with what is there; refuse to start beyond the plan's tolerance.

    A row that people decided otherwise about is never tolerated.
    """
    try:
        meanwhile.agree(session, plan)
        meanwhile.sources_free(session, plan)
    except Stale:
        if plan.state == "approved":
            states.move(session, plan.plan, "stale", actor)
            session.commit()
        raise
    drifts = _drifts(session, signed.bundle, plan)
    count, tolerance = _drift_count(drifts), int(plan.document["tolerance_rows"])
    if count <= tolerance:
        return
    if plan.state == "approved":
        states.move(session, plan.plan, "stale", actor, rows=count)
        session.commit()
    listed = "; ".join(f"{row['key']}: {scripts.DRIFTS[row['status']]}" for row in drifts[:SHOWN_DRIFTS])
    more = f"; and {count - SHOWN_DRIFTS} more" if count > SHOWN_DRIFTS else ""
    raise Stale(
        f"{count} of {plan.rows} rows changed since plan {plan.plan} was made; it tolerates {tolerance}.",
        why=f"{listed}{more}.",
        todo=f"Run `recon match {plan.reconciliation}` and `recon plan {plan.reconciliation}` again.",
    )


def _drifts(session: Session, bundle: Bundle, plan: Plan) -> list[dict[str, Any]]:
    """The planned rows that are no longer as planned, by the bundle's own dry_run.sql; a count with each."""
    statement = bundle.scripts["dry_run.sql"]
    keys = len(plan.document["target"]["key"])
    cursor = session.execute(
        f"SELECT count(*) OVER () AS found, drift.* FROM ({statement}) AS drift"  # noqa: S608 (the signed script)
        " WHERE status NOT IN ($1, $2) LIMIT $3::int",
        scripts.AS_PLANNED,
        scripts.APPLIED,
        SHOWN_DRIFTS,
    )
    place = [column.name for column in cursor.description or []].index("status")
    return [
        {"key": executor.shown(row[1 : 1 + keys]), "status": row[place], "count": row[0]} for row in cursor.fetchall()
    ]
