"""One record reconciled at once, by the same rules, sign-off, apply and proof as a run of all of them.

The rules are asked about the record first. Only where some pass may take it is there a run, over the days around the
record, so that events that lead nowhere leave no runs and no plans behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlglot import exp

from recon import workflow
from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import shipped, sign_off, standing
from recon.backfill.plan import Plan
from recon.database import relations, tables
from recon.database.connect import Database
from recon.errors import CheckErrored, NotFound, ReconError, SpecError, VerifyFailed
from recon.matching import run as runs
from recon.matching.because import called
from recon.matching.bind import bind
from recon.matching.bound import key_names
from recon.matching.explain import Explanation, explain
from recon.matching.pairs import shown_key
from recon.matching.pool import Filter
from recon.matching.run import Run
from recon.names import DIALECT, column, identifier
from recon.spec import Reconciliation
from recon.systems import shipped_standing
from recon.whole_way import approve_unattended
from recon.workspace import Workspace

# What a pass says of a record that no run could take by it, the nearest miss first; `taken` may be free by now.
HOPELESS = ("already_linked", "forbidden", "out_of_tolerance", "when_false", "no_candidate", "null_key")


@dataclass(frozen=True)
class Reconciled:
    """What became of a record: which target holds it (None: none does), and how that came or why not."""

    holder: str | None
    words: str = ""
    plan: str | None = None


def explained(database: Database, spec: Reconciliation, key: str) -> Explanation:
    """What every pass says of a source record, and who holds it.

    Raises:
        SpecError: the spec has no link, or is not one_to_one.
        NotFound: there is no such record under `where`.
    """
    if spec.link is None or spec.cardinality != "one_to_one":
        raise SpecError(
            f"{spec.name} cannot reconcile one record alone.",
            why="Only of one_to_one with a link is a source record held by one target or by none.",
        )
    of_source = spec.model_copy(update={"population": "source"})
    with database.session(read_only=True) as session:
        return explain(session, bind(session, of_source), key)


def holder(database: Database, spec: Reconciliation, key: str) -> str | None:
    """The target that holds a source record, be that under `where` or not; None: none does, or there is no such record."""
    everything = spec.source.model_copy(update={"where": None})
    try:
        found = explained(database, spec.model_copy(update={"source": everything}), key)
    except NotFound:
        return None
    return None if found.link is None else str(found.link)


def reconcile(
    database: Database, workspace: Workspace, spec: Reconciliation, found: Explanation, row: Mapping[str, Any]
) -> Reconciled:
    """Try to link one source record that nobody holds, and prove it.

    What else the rules match in these days is in the same plan, and the words say how much.

    Args:
        found: what `explained` gave.
        row: the record by column names.

    Raises:
        VerifyFailed: what was written is wrong.
        ReconError: whatever a run, a plan or an apply may end with.
    """
    if all(item.result in HOPELESS for item in found.passes):
        return Reconciled(None, _why(found))
    if done := _carried_on(database, workspace, spec, found.key):
        return done
    run = runs.match(database, spec, workspace.actor, around(spec, row))
    decided = _decided(database, spec, run, found.key)
    if decided.get("outcome") == "proposed":
        partner = decided["holder"]
        return Reconciled(None, f"pass {decided['pass']} proposes {partner}, which a person must confirm")
    if decided.get("outcome") != "matched":
        now = explained(database, spec, found.key)
        return Reconciled(None, _tied(database, spec, run, now) or _why(now))
    if waiting := in_the_way(database, workspace, spec, run):
        return Reconciled(None, waiting.words, waiting.plan)
    plan = plans.make(
        database, workspace, spec, workspace.actor, run=run.run, allow_limited=True, again=False,
    )  # fmt: skip
    if plan is None:
        return Reconciled(None, "somebody changed the records meanwhile")
    return _held(database, spec, found.key, _carried_out(database, workspace, plan, decided["holder"]))


def _carried_out(database: Database, workspace: Workspace, plan: Plan, holder: str) -> Reconciled:
    if plan.state == "planned":
        plan, refused = approve_unattended(database, workspace, plan, workspace.actor)
        if plan.state == "planned":
            return Reconciled(None, _awaited(plan, " ".join(refused)), plan.plan)
    applied = applying.apply(database, workspace, plan.plan, workspace.actor, execute=True)
    proven = ""
    try:
        verified = workflow.verify(database, workspace, plan.plan, workspace.actor)
    except CheckErrored as error:
        proven = f", not proven: {error.what}"
    else:
        if not verified.verification.right:
            raise VerifyFailed(
                f"{verified.verification.problems:,} of {verified.verification.checked:,} rows of plan {plan.plan} "
                "are not right.",
                todo=f"Look at `recon verify {plan.plan}`; `recon revert {plan.plan}` undoes the plan.",
            )
        if not verified.checks.success:
            proven = f"; checks that fell short: {', '.join(item.name for item in verified.checks.failed)}"
    others = f", and {applied.changed - 1:,} more of these days" if applied.changed > 1 else ""
    return Reconciled(holder, f"plan {plan.plan}{others}{proven}", plan.plan)


def _held(database: Database, spec: Reconciliation, key: str, done: Reconciled) -> Reconciled:
    """The same, if the record is held now: a row that was not as planned is left alone, and its plan applied."""
    if done.holder is None or explained(database, spec, key).link is not None:
        return done
    return Reconciled(None, f"{done.holder} was not as planned, and was left alone ({done.words})", done.plan)


def around(spec: Reconciliation, row: Mapping[str, Any]) -> Filter:
    """The days that a run must look at: that of the record, and as many before and after as twice the widest window.

    Twice, for a record that wants the same partner lies at most one window beyond it. All days, where the record has
    none, or the spec names none.
    """
    at = row.get(spec.source.date or "")
    if not isinstance(at, datetime):
        return Filter()
    widest = max(
        (bound.amount for rule in spec.passes for window in rule.windows for bound in window.bounds
         if bound.kind == "interval"),
        default=0,
    )  # fmt: skip
    margin = max(timedelta(days=1), timedelta(microseconds=2 * int(widest)))
    return Filter(None, _day(at, -margin), _day(at, margin))


def _day(at: datetime, apart: timedelta) -> str:
    """The day in UTC, so far from a moment; where the calendar ends, its first or last one."""
    try:
        return (at.astimezone(UTC) + apart).date().isoformat()
    except OverflowError:
        return (date.min if apart < timedelta() else date.max).isoformat()


def _decided(database: Database, spec: Reconciliation, run: Run, key: str) -> dict[str, Any]:
    """The decision that holds a source record in a run; nothing: no target got it."""
    with database.session(read_only=True) as session:
        bound = bind(session, spec)
        names = bound.key_names("t")
        found = exp.Select(expressions=[column("d", name) for name in ("outcome", "pass", *names)])
        own = tables.own("decisions", run.run)
        own.set("alias", exp.TableAlias(this=identifier("d")))
        mine = _is_key(column("d", bound.key_names("s")[0]))
        rows = session.rows(found.from_(own).where(mine).sql(DIALECT), key)
    return {"outcome": rows[0][0], "pass": rows[0][1], "holder": str(shown_key(rows[0][2:]))} if rows else {}


def _tied(database: Database, spec: Reconciliation, run: Run, found: Explanation) -> str:
    """That a target may take the record and others as well, and a person must choose; empty: none of its targets is so."""
    candidates = {str(item.key) for rule in found.passes for item in rule.candidates if item.standing == "candidate"}
    with database.session(read_only=True) as session:
        bound = bind(session, spec)
        own = tables.own("decisions", run.run)
        own.set("alias", exp.TableAlias(this=identifier("d")))
        ambiguous = exp.EQ(this=column("d", "outcome"), expression=exp.Literal.string("ambiguous"))
        keys = exp.Select(expressions=[column("d", name) for name in bound.key_names("t")]).from_(own).where(ambiguous)
        tied = [str(shown_key(row)) for row in session.rows(keys.sql(DIALECT)) if str(shown_key(row)) in candidates]
    which = f"{called(bound, 't')} {', '.join(tied)}"
    return f"{which}: equally good candidates: a person must choose" if tied else ""


def _why(found: Explanation) -> str:
    """Why no target takes the record: what the pass says that came nearest to it."""
    order = ("best", "tie", "taken", *HOPELESS)
    ranked = [item for item in found.passes if item.result in order] or list(found.passes)
    nearest = min(ranked, key=lambda item: order.index(item.result) if item.result in order else len(order))
    return f"{nearest.name}: {nearest.sentence.rstrip('.')}"


# -- plans that wait -------------------------------------------------------------------------------------


def _carried_on(database: Database, workspace: Workspace, spec: Reconciliation, key: str) -> Reconciled | None:
    """Carry on with plans that were made here and approved or begun: somebody signed one, or a service was killed.

    Returns:
        What became of the record, where one of these plans holds it; a plan of others that failed stays as it is.
    """
    done: Reconciled | None = None
    for plan in plans.listed(database, workspace, spec.name):
        ours = plan.author == workspace.actor and plan.document["run_limited"]
        if not ours or plan.state not in ("approved", *sign_off.BEGUN):
            continue
        holder = _planned(database, plan, key)
        if holder is not None:
            done = _held(database, spec, key, _carried_out(database, workspace, plan, holder))
        elif plan.state != "apply_failed":
            with suppress(ReconError):  # what is wrong with it stands in its own log, and is not about this record
                _carried_out(database, workspace, plan, "")
    return done


def _planned(database: Database, plan: Plan, key: str) -> str | None:
    """The target that a plan gives a source record to."""
    names = key_names("target_key", len(plan.document["target"]["key"]))
    found = exp.Select(expressions=[column("staged", name) for name in names])
    own = tables.own("staged", plan.plan)
    own.set("alias", exp.TableAlias(this=identifier("staged")))
    with database.session(read_only=True) as session:
        rows = session.rows(found.from_(own).where(_is_key(column("staged", "source_key"))).sql(DIALECT), key)
    return str(shown_key(rows[0])) if rows else None


def _is_key(held: exp.Column) -> exp.EQ:
    return exp.EQ(this=exp.cast(held, "text"), expression=exp.cast(exp.Parameter(this=exp.Literal.number(1)), "text"))


def in_the_way(database: Database, workspace: Workspace, spec: Reconciliation, run: Run) -> Reconciled | None:
    """A plan that waits and must not give way: somebody approved it, or ours would only wait in its place."""
    now = datetime.now(UTC)
    waiting = next(
        (plan for plan in plans.listed(database, workspace, spec.name)
         if plan.state in ("planned", "approved") and plan.expires_at > now),
        None,
    )  # fmt: skip
    if waiting is None:
        return None
    if waiting.state == "approved":
        return Reconciled(None, f"plan {waiting.plan} is approved and waits to be applied", waiting.plan)
    why = _not_covered(database, workspace, spec, run)
    return Reconciled(None, _awaited(waiting, why), waiting.plan) if why is not None else None


def _not_covered(database: Database, workspace: Workspace, spec: Reconciliation, run: Run) -> str | None:
    """Why no standing sign-off would cover a plan of what the run matched; None: one would.

    What ships with recon is given here where it is for this place, as it would be for the plan itself.
    """
    environment, rules = standing.environment_of(workspace, database), workspace.policy
    rows = run.outcomes.get("matched", 0)
    with database.session(read_only=True) as session:
        place, items = relations.identity(session), standing.read(session, spec.name)
    meant = {
        "reconciliation": spec.name, "spec_digest": spec.digest, "actions": {"link": rows}, "rows": rows,
        "tolerance_rows": rules.plan.tolerance_rows, "environment": environment, "database": place,
        "outside": standing.outside_of(spec, workspace),
    }  # fmt: skip
    reasons = [standing.why_not(item, meant, environment, rules.sign_off) for item in items]
    ships = shipped_standing(spec.name) if "" not in reasons else None
    if ships is not None:
        given = shipped.give(database, workspace, ships, workspace.actor)
        reasons.append(
            f"the standing sign-off that ships with recon: {given}"
            if isinstance(given, str)
            else standing.why_not(given, meant, environment, rules.sign_off)
        )
    return None if "" in reasons else "; ".join(dict.fromkeys(reasons))


def _awaited(plan: Plan, why: str) -> str:
    return f"plan {plan.plan} waits for a reviewer: no standing sign-off covers it{f' ({why})' if why else ''}"
