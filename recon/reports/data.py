"""Everything that a report shows of one reconciliation, counted from the tables; nothing is drawn here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import sqlalchemy as sa
from sqlglot import exp

from recon import expressions
from recon.backfill import plan as plans
from recon.backfill import states, veils
from recon.backfill.change import INSERT, LINK
from recon.backfill.plan import Plan
from recon.backfill.veils import Veils
from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import UsageError
from recon.expressions import TEXT_TYPES
from recon.matching import pairs, pool
from recon.matching import run as runs
from recon.matching.bind import bind
from recon.matching.bound import Bound, key_names
from recon.matching.comparison import outcomes_alone
from recon.matching.coverage import RECONCILED, coverage
from recon.matching.precision import Backtest, measured
from recon.matching.run import Run
from recon.names import DIALECT, Side, column, identifier
from recon.reports import ageing, inputs, queue, since, trend
from recon.reports.ageing import Ageing
from recon.reports.inputs import Inputs
from recon.reports.queue import Waiting
from recon.reports.since import Marks, Since
from recon.reports.trend import Past
from recon.reports.waterfall import Step, linked_before, steps
from recon.workspace import Workspace

NOTEBOOK = "reconciliation_report.ipynb"
SHOWN_ROWS = 200  # rows of each list; what is left out is counted, and `recon decisions` gives all of them
AWAITING = ("proposed", "ambiguous")


@dataclass(frozen=True)
class Coverage:
    """How many records of a population are reconciled at one moment; excluded records are not in it."""

    linked: int
    population: int
    at: datetime

    @property
    def missing(self) -> int:
        return self.population - self.linked

    @property
    def share(self) -> float | None:
        """0 to 1; None where nothing is left to cover."""
        return coverage({"linked": self.linked, "unmatched": self.missing})


@dataclass(frozen=True)
class Moment:
    """Coverage with the words for when it was counted."""

    says: str
    coverage: Coverage


@dataclass(frozen=True)
class Column:
    """A column of a list of records: its name in the record, what people read, and whose it is."""

    name: str
    label: str
    side: Literal["target", "source", "decision"]


@dataclass(frozen=True)
class Rows:
    """A list of records, capped; `total` says how many there are."""

    columns: tuple[Column, ...]
    records: list[dict[str, Any]]
    total: int


@dataclass(frozen=True)
class Filled:
    """How well a target column that passes compare on is filled (INV-12); blank text does not count."""

    column: str
    passes: tuple[str, ...]
    filled: int
    population: int
    filled_unlinked: int
    unlinked: int


@dataclass(frozen=True)
class ReportData:
    """What a report shows; times are UTC."""

    reconciliation: str
    title: str
    generated_at: datetime
    database: str
    target: str
    source: str
    link: str | None
    counted: str  # the side whose records are counted
    expected_coverage: float | None
    run: Run
    precision: Backtest | None  # of the rules that the run decided by, where it was measured
    now: Coverage
    before: Coverage | None
    moments: tuple[Moment, ...]
    plan: Plan | None
    approvals: tuple[dict[str, Any], ...]
    log: tuple[dict[str, Any], ...]
    rows: Rows
    waiting: Rows
    unmatched: Rows
    identifiers: tuple[Filled, ...]
    spec_digest: str
    checks: dict[str, Any] | None
    ageing: Ageing
    past: tuple[Past, ...]
    queue: tuple[Waiting, ...]  # plans
    since: Since
    marks: Marks
    inputs: Inputs
    private: str | None = None  # what must be said of private columns, at the top; None: there are none

    @property
    def compares(self) -> bool:
        """Whether the spec compares matched records."""
        return "same" in self.run.outcomes or "changed" in self.run.outcomes

    @property
    def rules_changed(self) -> bool:
        """Whether the spec is no longer the one that the run decided by."""
        return self.run.spec_digest != self.spec_digest

    @property
    def unplanned(self) -> int:
        """Records that the run matched and the shown plan does not hold, for it came from an older run."""
        if self.plan is None or self.plan.run == self.run.run:
            return 0
        return self.run.outcomes.get("matched", 0)

    @property
    def linked_before(self) -> int:
        """Records that held a link when the run looked; of a comparison they are among the same and changed ones."""
        return linked_before(self.run)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The run as a waterfall: linked before, each pass, what waits, what is missing, the population.

        A waiting kind is left out where a run has none of it; a pass is always there.
        """
        return steps(self.run)


def gather(
    database: Database,
    workspace: Workspace,
    name: str,
    plan: str | None = None,
    checks: dict[str, Any] | None = None,
) -> ReportData:
    """Count and list what a report on a reconciliation shows.

    Args:
        database: where the records are.
        workspace: where the spec is.
        name: the reconciliation.
        plan: a plan's id; the report is then on the run that it came from. None: the latest run and plan.
        checks: the result of the checks as a document, or None where none were run.

    Raises:
        NotFound: no such reconciliation, no finished run, or no such plan.
        UsageError: the plan is another reconciliation's.
        SchemaMismatch: the tables are no longer what the spec names.
    """
    spec = workspace.spec(name)
    shown_plan = _plan(database, workspace, name, plan)
    run = runs.load(database, name, shown_plan.run if plan and shown_plan else None)
    planned_from = runs.load(database, name, shown_plan.run) if shown_plan else run
    previous = _previous(database, run)
    precision = measured(database, name, run.spec_digest)
    with database.session(read_only=True) as session:
        # Every count below is of one moment, or the parts would not add up while others write.
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        bound = bind(session, spec, shows_private=workspace.sees_private)
        now, identifiers = _live(session, bound, run)
        before = _then(planned_from)
        return ReportData(
            reconciliation=name,
            title=spec.title or name,
            generated_at=now.at,
            database=session.value("SELECT current_database()::text"),
            target=bound.place("t"),
            source=bound.place("s"),
            link=spec.link.column if spec.link else None,
            counted=bound.place(bound.population),
            expected_coverage=None if spec.expect.coverage is None else float(spec.expect.coverage),
            run=run,
            precision=precision,
            now=now,
            before=before,
            moments=_moments(now, run, previous, shown_plan, before),
            plan=shown_plan,
            approvals=tuple(_approvals(session, shown_plan)) if shown_plan else (),
            log=tuple(states.log(session, shown_plan.plan)) if shown_plan else (),
            rows=_planned(session, bound, shown_plan) if shown_plan else _found(session, bound, run),
            waiting=_decided(session, bound, run, AWAITING, ("outcome", "pass", "confidence", "interpretation")),
            unmatched=_decided(session, bound, run, tuple(outcomes_alone(bound)), ("pass", "reason"), source=False),
            identifiers=identifiers,
            spec_digest=spec.digest,
            checks=checks,
            ageing=ageing.read(session, bound),
            past=trend.read(session, database, name),
            queue=queue.read(session, database, workspace, name),
            since=since.read(session, workspace, bound, NOTEBOOK),
            marks=since.marks(session, name),
            inputs=inputs.read(session, workspace, bound, run.run, shown_plan, now.at),
            private=workspace.private_note(spec),
        )


def _plan(database: Database, workspace: Workspace, name: str, plan: str | None) -> Plan | None:
    if plan is None:
        return next(iter(plans.listed(database, workspace, name)), None)
    found = plans.load(database, workspace, plan)
    if found.reconciliation != name:
        raise UsageError(f"Plan {plan} belongs to {found.reconciliation}, not to {name}.")
    return found


def _previous(database: Database, run: Run) -> Run | None:
    """The finished run before this one, of the whole population as this one."""
    for older in runs.history(database, run.reconciliation):
        if older["state"] == "success" and older["started_at"] < run.started_at and not older["limited"]:
            return runs.load(database, run.reconciliation, older["run"])
    return None


# -- coverage --------------------------------------------------------------------------------------------


def _then(run: Run) -> Coverage | None:
    """Coverage when a run looked, before anything of it was written; None where it looked at a part only."""
    if run.limited:
        return None
    outcomes = run.outcomes
    linked = outcomes.get("linked", 0) + outcomes.get("same", 0) + outcomes.get("changed", 0)
    return Coverage(linked, run.population - outcomes.get("excluded", 0), run.started_at)


def _live(session: Session, bound: Bound, run: Run) -> tuple[Coverage, tuple[Filled, ...]]:
    """Coverage of the population, and identifiers of the target, as they are now; each side is read once."""
    passes: dict[str, list[str]] = {}
    for rule in bound.passes:
        for name in bound.columns([left for left, _ in rule.rule.pairs], "t"):
            passes.setdefault(name, []).append(rule.name)
    linked = exp.Not(this=exp.Is(this=bound.link, expression=exp.Null())) if bound.link is not None else exp.false()
    unlinked = exp.Not(this=linked)
    counted = [
        exp.func("now"),
        *_counted(bound, run, "t", linked),
        *[exp.Count(this=_identifying(bound, name)) for name in passes],
        *[_count_where(_identifying(bound, name), unlinked) for name in passes],
    ]
    at, targets, held, left_out, *counts = _of_side(session, bound, "t", counted)
    filled, filled_unlinked = counts[: len(passes)], counts[len(passes) :]
    identifiers = tuple(
        Filled(name, tuple(rules), of_all, targets, of_unlinked, targets - held)
        for (name, rules), of_all, of_unlinked in zip(passes.items(), filled, filled_unlinked, strict=True)
    )
    at = at.astimezone(UTC)
    if bound.link is None:  # nothing holds the link: what the run decided is what there is
        outcomes = run.outcomes
        whole = run.population - outcomes.get("excluded", 0)
        return Coverage(sum(outcomes.get(name, 0) for name in RECONCILED), whole, at), identifiers
    if bound.population == "s":
        targets, held, left_out = _of_side(session, bound, "s", _counted(bound, run, "s", pool.held(bound)))
    return Coverage(held, targets - left_out, at), identifiers


def _of_side(session: Session, bound: Bound, side: Side, counted: list[exp.Expr]) -> Any:
    query = exp.Select(expressions=counted).from_(bound.relation[side].aliased(side)).where(*bound.where(side))
    return session.rows(query.sql(DIALECT))[0]


def _counted(bound: Bound, run: Run, side: Side, linked: exp.Expr) -> list[exp.Expr]:
    """How many records a side has, how many of them are linked, and how many a person left out that are not."""
    everything = exp.Star()
    found: list[exp.Expr] = [exp.Count(this=everything), _count_where(everything, linked)]
    if side != bound.population or not run.outcomes.get("excluded"):
        return [*found, exp.Literal.number(0)]
    # Those that are still there: what was left out may have been deleted, or linked, since the run.
    decided = tables.own("decisions", run.run)
    decision = exp.Table(this=decided.this, db=decided.args["db"], alias=exp.TableAlias(this=identifier("d")))
    same = [
        exp.EQ(this=column("d", name), expression=key)
        for name, key in zip(bound.key_names(side), bound.keys(side), strict=True)
    ]
    excluded = exp.EQ(this=column("d", "outcome"), expression=exp.Literal.string("excluded"))
    is_left_out = exp.Exists(
        this=exp.Select(expressions=[exp.Literal.number(1)]).from_(decision).where(excluded, *same)
    )
    return [*found, _count_where(everything, exp.and_(exp.Not(this=linked.copy()), is_left_out))]


def _count_where(counted: exp.Expr, condition: exp.Expr) -> exp.Filter:
    return exp.Filter(this=exp.Count(this=counted.copy()), expression=exp.Where(this=condition.copy()))


def _identifying(bound: Bound, name: str) -> exp.Expr:
    """The column, with blank text as NULL: a blank identifies nothing."""
    value = column("t", name)
    if bound.target.columns[name] not in TEXT_TYPES:
        return value
    return exp.Nullif(this=exp.Trim(this=exp.cast(value, "text")), expression=exp.Literal.string(""))


def _moments(
    now: Coverage, run: Run, previous: Run | None, plan: Plan | None, before: Coverage | None
) -> tuple[Moment, ...]:
    """Then and now, oldest first (INV-11): since the last run, since the last backfill."""
    found: dict[str, Moment] = {}
    if previous and (then := _then(previous)):
        found[previous.run] = Moment(f"previous run {previous.run}", then)
    if then := _then(run):
        found[run.run] = Moment(f"run {run.run}", then)
    if plan and before:
        found[plan.run] = Moment(f"before plan {plan.plan}", before)
    return (*sorted(found.values(), key=lambda moment: moment.coverage.at), Moment("now", now))


# -- lists -----------------------------------------------------------------------------------------------


def _columns(bound: Bound, decision: Iterable[str], *, source: bool = True) -> tuple[Column, ...]:
    """The target's key and shown columns, the source's, then what was decided (INV-09).

    Without `source`: those of the population only, for its records that have no partner.
    """
    spec = bound.spec
    shown: dict[str, list[Column]] = {"target": [], "source": [], "decision": []}
    for text, label in zip(spec.show, pairs.labels(spec.show), strict=True):
        sides = expressions.parse(text, "t").sides()
        side = "target" if sides <= {"t"} else "source" if sides == {"s"} else "decision"
        shown[side].append(Column(label, label, side))
    targets = zip(key_names("target_key", len(spec.target.keys)), spec.target.keys, strict=True)
    sources = zip(key_names("source_key", len(spec.source.keys)), spec.source.keys, strict=True)
    found = [*(Column(name, label, "target") for name, label in targets), *shown["target"]]
    if not source and bound.population == "s":  # records without a partner are the population's
        found = [*(Column(name, label, "source") for name, label in sources), *shown["source"]]
    if source:
        found += [*(Column(name, label, "source") for name, label in sources), *shown["source"], *shown["decision"]]
    return (*found, *(Column(name, name, "decision") for name in decision))


def _found(session: Session, bound: Bound, run: Run) -> Rows:
    """What the run matched; of a comparison only where the two records differ, and in what."""
    if bound.compared:
        return _decided(session, bound, run, ("changed",), ("pass", "differences"))
    return _decided(session, bound, run, ("matched",), ("pass", "confidence", "interpretation"))


def _decided(
    session: Session, bound: Bound, run: Run, outcomes: tuple[str, ...], says: tuple[str, ...], *, source: bool = True
) -> Rows:
    total = sum(run.outcomes.get(outcome, 0) for outcome in outcomes)
    records = pairs.listed(session, bound, run.run, outcomes=outcomes, limit=SHOWN_ROWS) if total else []
    return Rows(_columns(bound, says, source=source), records, total)


def _planned(session: Session, bound: Bound, plan: Plan) -> Rows:
    """The plan's rows; pass, confidence and interpretation are those that were signed, not today's."""
    only_links = list(plan.document["actions"]) == [LINK]
    signed = (*(() if only_links else ("action",)), "pass", "confidence", "interpretation")
    found = _planned_rows(session, bound, plan, "t", signed, SHOWN_ROWS)
    if INSERT in plan.document["actions"]:  # these have no target yet
        found += _planned_rows(session, bound, plan, "s", signed, SHOWN_ROWS - len(found))
    return Rows(_columns(bound, signed), found, plan.rows)


def _planned_rows(
    session: Session, bound: Bound, plan: Plan, side: Side, signed: tuple[str, ...], limit: int
) -> list[dict[str, Any]]:
    """Planned rows that are known by the target's key, or inserts, which are known by the source's."""
    staged = tables.own("staged", plan.plan)
    frozen = exp.Table(this=staged.this, db=staged.args["db"], alias=exp.TableAlias(this=identifier("p")))
    names = bound.key_names(side)
    same = [exp.EQ(this=column("d", name), expression=column("p", name)) for name in names]
    if side == "s":
        same.append(exp.EQ(this=column("p", "action"), expression=exp.Literal.string(INSERT)))
        same.append(exp.EQ(this=column("d", "outcome"), expression=exp.Literal.string("missing")))
    query = pairs.pairs(bound, plan.run).join(frozen, on=exp.and_(*same))
    kept = [part for part in query.expressions if part.alias_or_name not in signed]
    query = query.select(*kept, *(column("p", name) for name in signed), append=False)
    query = query.order_by(*[column("d", name) for name in names]).limit(limit)
    seen = veils.of(plan.document, bound.spec) if not bound.shows_private else Veils()
    found = session.records(query.sql(DIALECT))
    return [{**row, "interpretation": seen.said(row["interpretation"])} for row in found]


def _approvals(session: Session, plan: Plan) -> list[dict[str, Any]]:
    """Who approved exactly this digest, how and when; and the standing sign-offs that took their place."""
    given = tables.approvals
    query = (
        sa.select(given.c.approver, given.c.method, given.c.at)
        .where(given.c.plan == plan.plan, given.c.digest == plan.digest, given.c.withdrawn_at.is_(None))
        .order_by(given.c.at)
    )
    found = [dict(row) for row in session.connection.execute(query).mappings()]
    for move in states.log(session, plan.plan):
        for identity in move["detail"].get("standing", ()):
            found.append({"approver": identity, "method": "standing sign-off", "at": move["at"]})
    return found
