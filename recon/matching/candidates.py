"""How many candidate pairs a pass would make, counted before it runs; a pass that would explode is refused."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlglot import exp

from recon.allowed import shortened
from recon.database.connect import Session
from recon.database.relations import Relation
from recon.errors import TooManyPairs
from recon.matching import grouped
from recon.matching.bound import Bound, BoundPass
from recon.matching.grouped import key_names, table
from recon.matching.pool import SIDES, Pool
from recon.matching.privacy import VEIL, hidden
from recon.names import DIALECT, column, identifier

# With one preference over both sides PostgreSQL orders about a million pairs a second (10 M in 9 s, two cores), on
# disk. So this many are minutes and gigabytes; a hundred times as many are hours and perhaps a full disk.
MAX_PAIRS = 100_000_000
ERROR_OF_ESTIMATES = 10  # how far below the truth the planner's number of pairs is taken to lie at most
# Pairs of equal key that a window turns down are looked at and not kept, which is that much cheaper.
EASE_OF_WINDOWS = 10
NEARBY_PAIRS = 20_000_000  # above this, a reason is sought only among what lies near: seconds instead of minutes
_SHOWN_KEY = 60  # characters of the worst key in the sentence that refuses


@dataclass(frozen=True)
class PassPairs:
    """The candidate pairs of one pass, and the key that makes most of them.

    `worst_key` is None for a pass without `on`, where every target meets every source, and where there are no pairs.
    """

    name: str
    pairs: int
    worst_key: tuple[str, ...] | None
    worst_pairs: int
    worst_targets: int
    worst_sources: int
    windows: bool = False  # whether windows turn most of them down

    def allowed(self, limit: int) -> int:
        """How many pairs this pass may have where one that keeps them all may have `limit`."""
        return limit * EASE_OF_WINDOWS if self.windows else limit

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def count(session: Session, bound: Bound, rule: BoundPass, pool: Pool | None = None) -> PassPairs:
    """The exact number of pairs that agree on every `on` equality of a pass.

    Counted over the records that the first pass would see, under both `where`s and those parts of `when` that ask of
    one side only: no target that is linked, and with one_to_one no source that is held. Records that an earlier pass
    or an override takes away are not subtracted, nor is what `within` and the rest of `when` turn down.
    """
    with grouped.hashed(session):
        found = session.rows(statement(bound, rule, pool or Pool()).sql(DIALECT))
    if not found or not found[0][0]:
        return PassPairs(rule.name, 0, None, 0, 0, 0, bool(rule.windows))
    total, worst, targets, sources, *key = found[0]
    named = tuple(
        VEIL if hidden(bound, left, right) else shortened(part)
        for left, right, part in zip(rule.targets, rule.sources, key, strict=True)
    )
    return PassPairs(rule.name, int(total), named or None, int(worst), int(targets), int(sources), bool(rule.windows))


def guard(session: Session, bound: Bound, pool: Pool, limit: int = MAX_PAIRS) -> frozenset[str]:
    """Refuse a pass that would explode, before anything is matched.

    A pass is counted where the planner has no statistics, or expects many pairs by each of its equalities alone (of
    all together it expects far too few where columns go together). A pass that needs no pairs, because its key alone
    decides, is counted only where it has no preference: then all of them would be ties.

    Returns:
        The passes that have so many pairs of equal key that they are not looked at one by one for a reason.

    Raises:
        TooManyPairs: names the number and the worst key.
    """
    wide: set[str] = set()
    analysed = all(_analysed(session, bound.relation[side]) for side in SIDES)
    for rule in bound.passes:
        reducible = bound.spec.cardinality == "many_to_one" and rule.reducible and not pool.forbidden
        if (reducible and rule.prefer) or (analysed and _expected(session, bound, rule) < limit / ERROR_OF_ESTIMATES):
            continue
        counted = count(session, bound, rule, pool)
        if counted.pairs > counted.allowed(limit):
            raise refusal(rule, counted, limit)
        if counted.pairs > NEARBY_PAIRS and rule.windows:
            wide.add(rule.name)
    return frozenset(wide)


def _analysed(session: Session, relation: Relation) -> bool:
    """Whether the planner has statistics of these records; of a query or a view it has none."""
    known = "SELECT reltuples >= 0 FROM pg_class WHERE oid = $1::oid AND relkind IN ('r', 'm', 'p')"
    return relation.oid is not None and bool(session.value(known, relation.oid))


def _expected(session: Session, bound: Bound, rule: BoundPass) -> float:
    """How many pairs the planner expects at most, from its statistics: those of the equality that divides best."""
    expected: list[float] = []
    for equality in rule.equalities() or [exp.true()]:
        query = exp.Select(expressions=[exp.Literal.number(1)]).from_(bound.target.aliased("t"))
        query = query.join(bound.source.aliased("s"), on=equality)
        conditions = [*bound.where("t"), *bound.where("s"), *rule.when_target, *rule.when_source]
        query = query.where(*[part.copy() for part in conditions]) if conditions else query
        plan = session.value(f"EXPLAIN (FORMAT JSON) {query.sql(DIALECT)}")
        expected.append(float(plan[0]["Plan"]["Plan Rows"]))
    return min(expected)


def refusal(rule: BoundPass, pairs: PassPairs, limit: int = MAX_PAIRS) -> TooManyPairs:
    """Why this pass does not run, in words."""
    if pairs.worst_key is None:
        why = (
            f"It has no `on` equality, so each of {pairs.worst_targets:,} target records"
            f" meets each of {pairs.worst_sources:,} source records"
        )
        todo = "Add an equality to `on`; windows alone compare everything with everything."
    else:
        parts = [part if len(part) <= _SHOWN_KEY else part[:_SHOWN_KEY] + "…" for part in pairs.worst_key]
        key = ", ".join(f"{grouped.label(left)} = {part!r}" for left, part in zip(_bare(rule), parts, strict=True))
        why = (
            f"The worst key is {key}: {pairs.worst_targets:,} target records"
            f" × {pairs.worst_sources:,} source records = {pairs.worst_pairs:,} pairs"
        )
        todo = "Add an equality to `on` that divides this key, or leave the key out with `when`."
    return TooManyPairs(
        f"Pass {rule.name} would make {pairs.pairs:,} candidate pairs.",
        why=f"{why}; at most {pairs.allowed(limit):,} are compared.",
        todo=todo,
    )


def _bare(rule: BoundPass) -> list[exp.Expr]:
    return [grouped.bare(part, as_text=rule.rule.compare_as == "text") for part in rule.targets]


def statement(bound: Bound, rule: BoundPass, pool: Pool) -> exp.Select:
    """One row: all pairs, those of the worst key, its records on either side, and the key as text. No row: no pairs."""
    targets, sources = ([*pool.eligible(bound, side), *(part.copy() for part in rule.when(side))] for side in SIDES)
    if not rule.targets:
        return _every_pair(bound, targets, sources)
    count = len(rule.targets)
    pairs = exp.Mul(this=exp.cast(column("targets", "records"), "numeric"), expression=column("sources", "records"))
    joined = (
        exp.Select(
            expressions=[
                *[column("targets", name) for name in key_names(count)],
                exp.alias_(column("targets", "records"), "targets", quoted=True),
                exp.alias_(column("sources", "records"), "sources", quoted=True),
                exp.alias_(pairs, "pairs", quoted=True),
            ]
        )
        .from_(table("targets"))
        .join(table("sources"), on=grouped.same_values("targets", "sources", count))
    )
    keys = [column("joined", name) for name in key_names(count)]
    total = exp.Select(expressions=[exp.Sum(this=column("joined", "pairs"))]).from_(table("joined"))
    order = [exp.Ordered(this=column("joined", "pairs"), desc=True), *[exp.Ordered(this=key.copy()) for key in keys]]
    return (
        exp.Select(
            expressions=[
                total.subquery(),
                *[column("joined", name) for name in ("pairs", "targets", "sources")],
                *[grouped.as_text(key) for key in keys],
            ]
        )
        .from_(table("joined"))
        .order_by(*order)
        .limit(1)
        .with_(identifier("targets"), as_=grouped.by_value(bound, "t", rule.targets, targets))
        .with_(identifier("sources"), as_=grouped.by_value(bound, "s", rule.sources, sources))
        .with_(identifier("joined"), as_=joined)
    )


def _every_pair(bound: Bound, targets: list[exp.Expr], sources: list[exp.Expr]) -> exp.Select:
    def counted(records: exp.Expr, where: list[exp.Expr]) -> exp.Select:
        number = exp.alias_(exp.Count(this=exp.Star()), "records", quoted=True)
        select = exp.Select(expressions=[number]).from_(records)
        return select.where(*where) if where else select

    pairs = exp.Mul(this=exp.cast(column("targets", "records"), "numeric"), expression=column("sources", "records"))
    return (
        exp.Select(expressions=[pairs, pairs.copy(), column("targets", "records"), column("sources", "records")])
        .from_(table("targets"))
        .join(table("sources"), join_type="cross")
        .with_(identifier("targets"), as_=counted(bound.target.aliased("t"), targets))
        .with_(identifier("sources"), as_=counted(bound.source.aliased("s"), sources))
    )
