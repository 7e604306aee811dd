"""One execution of matching: decide every record, say why not, count, and keep the decisions with the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from time import perf_counter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import distinct_on
from sqlglot import exp

from recon.database import relations, roles, tables
from recon.database.connect import Database, Session
from recon.errors import NotFound, ReconError, SchemaMismatch, did_you_mean
from recon.matching import breaks, issues, statements
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.matching.comparison import outcome_of_other_side, outcomes_alone
from recon.matching.coverage import RECONCILED, coverage
from recon.matching.decide import Decided, decide
from recon.matching.pool import Filter
from recon.names import DIALECT, column
from recon.spec import Reconciliation
from recon.spec_parts import OVERRIDE

KEPT_RUNS = 20  # runs of one reconciliation whose decisions are kept; older ones keep their counts only
KEPT_OF_SCOPE = 2  # of runs of one scope alone, each scope


@dataclass(frozen=True)
class PassCount:
    """What one pass decided."""

    name: str
    matched: int
    proposed: int
    ambiguous: int
    confidence: Decimal
    accept: str


@dataclass(frozen=True)
class Run:
    """The result of one run: counts that add up to the population."""

    run: str
    reconciliation: str
    state: str
    started_at: Any
    actor: str
    spec_digest: str
    limited: dict[str, Any] | None
    population: int
    outcomes: Mapping[str, int]
    passes: tuple[PassCount, ...]
    reasons: Mapping[str, int]
    seconds: Mapping[str, float]
    other_side: Mapping[str, int]  # records of the other side without a partner, where the spec compares
    conflicts: Sequence[Mapping[str, Any]]  # decisions of people that the data now contradicts
    conflict_count: int  # of these; the first thousand are kept
    breaks: Mapping[str, int]  # open breaks by age, in days

    @property
    def coverage(self) -> float | None:
        """The share that is reconciled; None for a limited run, which did not look at everything."""
        return None if self.limited else coverage(self.outcomes)

    @property
    def settled(self) -> bool:
        """Whether nothing is left to a person: all is reconciled or left out, and no decision is contradicted."""
        reconciled = sum(self.outcomes.get(outcome, 0) for outcome in (*RECONCILED, "excluded"))
        return reconciled == self.population and not sum(self.other_side.values()) and not self.conflicts

    def as_dict(self) -> dict[str, Any]:
        """The document of `recon match --json`."""
        return {
            "run": self.run,
            "reconciliation": self.reconciliation,
            "population": self.population,
            "outcomes": dict(self.outcomes),
            "other_side": dict(self.other_side),
            "passes": [
                {
                    "name": item.name,
                    "matched": item.matched,
                    "proposed": item.proposed,
                    "ambiguous": item.ambiguous,
                    "confidence": float(item.confidence),
                }
                for item in self.passes
            ],
            "reasons": dict(self.reasons),
            "conflicts": [dict(item) for item in self.conflicts],
            "conflict_count": self.conflict_count,
            "breaks": dict(self.breaks),
            "coverage": self.coverage,
            "limited": self.limited,
            "seconds": round(sum(self.seconds.values()), 3),
        }


def match(database: Database, spec: Reconciliation, actor: str, limited: Filter | None = None) -> Run:
    """Decide every record of the population and keep the decisions.

    Args:
        database: where the records are.
        spec: the reconciliation.
        actor: who asks.
        limited: what a limited run looks at; dates need `date` on either side.

    Raises:
        SchemaMismatch, SpecError: before anything is written.
        DatabaseFailed: the run is kept as `failed`, with the reason.
    """
    limited = limited or Filter()
    limited.check(spec)
    tables.ensure(database)
    with database.session() as session:
        bound = bind(session, spec)
        _unique_keys(session, bound)
    run = tables.new_id()
    with database.session() as session:
        _bury(session, spec.name)
        session.connection.execute(
            tables.runs.insert().values(
                run=run, reconciliation=spec.name, state="running", actor=actor, spec_digest=spec.digest,
                limited=limited.as_dict() if limited.as_dict() else sa.null(), kept=False,
            )
        )  # fmt: skip
    try:
        with database.session() as session:
            _alive(session, run)
            decided = decide(session, bound, tables.own("decisions", run), limited)
            ages = _follow_up(session, bound, run, decided, bool(limited.as_dict()))
            _count(session, bound, run, decided, ages)
            roles.share_decisions(session, run)
            _forget(session, spec.name)
    except BaseException as error:
        said = str(error) if isinstance(error, ReconError) else f"interrupted ({type(error).__name__})"
        with suppress(ReconError), database.session() as session:  # the first error is the one to tell
            _fail(session, run, said)
        raise
    return load(database, spec.name, run)


def _alive(session: Session, run: str) -> None:
    """Hold the lock that tells other processes that a run goes on, until its transaction ends."""
    session.execute("SELECT pg_advisory_xact_lock($1::int, hashtext($2))", tables.LOCK_SPACE, f"run {run}")


def _bury(session: Session, reconciliation: str) -> None:
    """Close the account of runs that ended without a word: killed, or cut off from the server."""
    runs = tables.runs
    running = sa.select(runs.c.run).where(runs.c.reconciliation == reconciliation, runs.c.state == "running")
    for run in list(session.connection.execute(running).scalars()):
        lock = "SELECT pg_try_advisory_xact_lock($1::int, hashtext($2))"
        if session.value(lock, tables.LOCK_SPACE, f"run {run}"):
            _fail(session, run, "it ended without a word: killed, or cut off from the server")


def _fail(session: Session, run: str, error: str) -> None:
    session.connection.execute(
        tables.runs.update()
        .where(tables.runs.c.run == run, tables.runs.c.state == "running")
        .values(state="failed", error=error, completed_at=sa.func.clock_timestamp())
    )


def _unique_keys(session: Session, bound: Bound) -> None:
    """Refuse keys that do not tell records apart: a decision could not say which record it is about."""
    for relation, record_set, where in (
        (bound.target, bound.spec.target, bound.target_where),
        (bound.source, bound.spec.source, bound.source_where),
    ):
        if relations.is_unique(session, relation, record_set.keys):
            keys_null = False
        else:
            keys_null = True
            keys = [column(relation.side, name) for name in record_set.keys]
            doubled = exp.Select(expressions=[key.copy() for key in keys]).from_(relation.aliased(relation.side))
            if where is not None:
                doubled = doubled.where(where.copy())
            doubled = doubled.group_by(*keys).having(
                exp.GT(this=exp.Count(this=exp.Star()), expression=exp.Literal.number(1))
            )
            found = session.rows(doubled.limit(1).sql(DIALECT))
            if found:
                raise SchemaMismatch(
                    f"{relation.label}: the key {', '.join(record_set.keys)} is not unique.",
                    why=f"At least two records have {', '.join(repr(value) for value in found[0])}.",
                    todo="Name columns that tell the records apart, or remove the duplicates.",
                )
        if keys_null or relation.oid is not None:
            _no_null_keys(session, relation, record_set.keys, where)


def _no_null_keys(session: Session, relation: relations.Relation, keys: list[str], where: exp.Expr | None) -> None:
    nulls = exp.or_(*[exp.Is(this=column(relation.side, key), expression=exp.Null()) for key in keys])
    query = exp.Select(expressions=[exp.Literal.number(1)]).from_(relation.aliased(relation.side)).where(nulls)
    if where is not None:
        query = query.where(where.copy())
    if session.value(query.limit(1).sql(DIALECT)) is not None:
        raise SchemaMismatch(
            f"{relation.label}: a record has no {' or no '.join(keys)}.",
            why="A record without its key cannot be named in a decision.",
            todo="Leave such records out with `where`, or name another key.",
        )


def _follow_up(session: Session, bound: Bound, run: str, decided: Decided, limited: bool) -> dict[str, int]:
    """Keep account of breaks and import issues across runs; returns the open breaks by age."""
    began = perf_counter()
    ages = breaks.update(session, bound, tables.own("decisions", run), run, limited)
    rules = [(rule.issue, rule.tree) for rule in bound.valid]
    issues.issues(session, bound, rules, excluded=decided.people.excluded_sources)
    decided.seconds["breaks"] = perf_counter() - began
    return ages


def _count(session: Session, bound: Bound, run: str, decided: Decided, ages: Mapping[str, int]) -> None:
    name = tables.own("decisions", run).sql(DIALECT)
    counted = session.rows(  # the name is our own: recon.decisions_<run>
        f'SELECT "outcome", "pass", "reason", count(*) FROM {name} GROUP BY 1, 2, 3'  # noqa: S608
    )
    outcomes: dict[str, int] = {}
    reasons: dict[str, int] = {}
    passes = {name: dict.fromkeys(_BY_PASS, 0) for name in (OVERRIDE, *(rule.name for rule in bound.passes))}
    for outcome, rule, reason, number in counted:
        outcomes[outcome] = outcomes.get(outcome, 0) + number
        if outcome in outcomes_alone(bound):
            reasons[reason] = reasons.get(reason, 0) + number
        elif rule is not None:
            decided_as = _BY_PASS_OF.get(outcome)
            if decided_as:
                passes[rule][decided_as] += number
    other = outcome_of_other_side(bound)
    other_side = {other: outcomes.pop(other, 0)} if other else {}
    counts = [
        {"name": rule.name, "confidence": str(rule.confidence), "accept": rule.rule.accept, **passes[rule.name]}
        for rule in bound.passes
    ]
    if any(passes[OVERRIDE].values()):
        counts.insert(0, {"name": OVERRIDE, "confidence": "1", "accept": "auto", **passes[OVERRIDE]})
    session.connection.execute(
        tables.runs.update()
        .where(tables.runs.c.run == run)
        .values(
            state="success",
            completed_at=sa.func.clock_timestamp(),
            population=sum(outcomes.values()),
            outcomes={name: outcomes[name] for name in statements.OUTCOMES if name in outcomes},
            other_side=other_side,
            conflicts={
                "count": decided.people.conflict_count,
                "first": [dict(item) for item in decided.people.conflicts],
            },
            breaks=dict(ages),
            passes=counts,
            reasons=dict(sorted(reasons.items(), key=lambda item: -item[1])),
            seconds=decided.seconds,
            kept=True,
        )
    )


# What is counted for each pass, and under which of these an outcome falls.
_BY_PASS: tuple[str, ...] = ("matched", "proposed", "ambiguous")
_BY_PASS_OF = {
    "matched": "matched", "same": "matched", "changed": "matched", "proposed": "proposed", "ambiguous": "ambiguous",
}  # fmt: skip


def _forget(session: Session, reconciliation: str) -> None:
    """Drop the decisions of old runs; runs that a plan came from are kept with it."""
    runs, scope = tables.runs, _scope()
    place = sa.func.row_number().over(partition_by=scope, order_by=runs.c.started_at.desc())
    kept = sa.case((scope.is_(None), KEPT_RUNS), else_=KEPT_OF_SCOPE)
    ranked = (
        sa.select(runs.c.run, place.label("place"), kept.label("kept"))
        .where(runs.c.reconciliation == reconciliation, runs.c.kept)
        .where(runs.c.run.not_in(sa.select(tables.plans.c.run)))
        .subquery()
    )
    old = session.connection.execute(sa.select(ranked.c.run).where(ranked.c.place > ranked.c.kept)).scalars()
    for run in list(old):
        session.execute(f"DROP TABLE IF EXISTS {tables.own('decisions', run).sql(DIALECT)}")
        session.connection.execute(runs.update().where(runs.c.run == run).values(kept=False))


# -- what is kept ----------------------------------------------------------------------------------------


def _scope() -> sa.ColumnElement[str | None]:
    """The scope that a run was about alone; NULL: about all of them."""
    return tables.runs.c.limited["scope"].astext


def of_all(database: Database, reconciliation: str) -> list[str]:
    """The runs whose decisions together are about every record: the latest of the whole, or of each scope the latest where
    one of them is later; none where only parts were looked at."""
    tables.ensure(database)
    runs, scope = tables.runs, _scope()
    whole = sa.func.coalesce(runs.c.limited.op("-")("scope"), sa.text("'{}'::jsonb")) == sa.text("'{}'::jsonb")
    query = (
        sa.select(runs.c.run, scope)
        .where(runs.c.reconciliation == reconciliation, runs.c.state == "success", runs.c.kept, whole)
        .ext(distinct_on(scope))
        .order_by(scope, runs.c.started_at.desc())
    )
    with database.session(read_only=True) as session:
        found = {of: run for run, of in session.connection.execute(query)}
    latest = max(found.values(), default=None)
    if latest is None or found.get(None) == latest:
        return [latest] if latest else []
    return sorted(run for of, run in found.items() if of is not None)


def load(database: Database, reconciliation: str, run: str | None = None) -> Run:
    """A finished run by its id, else the latest one of the reconciliation.

    Raises:
        NotFound: there is none.
    """
    tables.ensure(database)
    runs = tables.runs
    query = sa.select(runs).where(runs.c.reconciliation == reconciliation, runs.c.state == "success")
    if run is not None:
        query = query.where(runs.c.run == run)
    with database.session(read_only=True) as session:
        row = session.connection.execute(query.order_by(runs.c.started_at.desc()).limit(1)).mappings().first()
        names = [] if row else list(session.connection.execute(sa.select(runs.c.run)).scalars())
    if row is None:
        raise NotFound(
            f"{reconciliation} has no finished run{f' {run}' if run else ''}.",
            why=did_you_mean(run, names) if run else "",
            todo=f"Run `recon match {reconciliation}` first.",
        )
    return Run(
        run=row["run"],
        reconciliation=row["reconciliation"],
        state=row["state"],
        started_at=row["started_at"],
        actor=row["actor"],
        spec_digest=row["spec_digest"],
        limited=row["limited"],
        population=row["population"],
        outcomes=row["outcomes"],
        passes=tuple(_pass_count(item) for item in row["passes"]),
        reasons=row["reasons"],
        seconds=row["seconds"],
        other_side=row["other_side"] or {},
        conflicts=tuple(row["conflicts"]["first"]) if row["conflicts"] else (),
        conflict_count=row["conflicts"]["count"] if row["conflicts"] else 0,
        breaks={age: row["breaks"][age] for age in breaks.AGES if age in (row["breaks"] or {})},
    )


def _pass_count(item: dict[str, Any]) -> PassCount:
    confidence = Decimal(item["confidence"])
    return PassCount(item["name"], item["matched"], item["proposed"], item["ambiguous"], confidence, item["accept"])


def history(database: Database, reconciliation: str | None = None, limit: int = 50) -> list[dict[str, Any]]:
    """The latest runs, newest first, with their counts and coverage."""
    tables.ensure(database)
    runs = tables.runs
    query = sa.select(runs).order_by(runs.c.started_at.desc()).limit(limit)
    if reconciliation:
        query = query.where(runs.c.reconciliation == reconciliation)
    with database.session(read_only=True) as session:
        rows = session.connection.execute(query).mappings().all()
    return [{**row, "coverage": None if row["limited"] else coverage(row["outcomes"] or {})} for row in rows]
