"""A bound spec as SQL: named steps, printed as one readable statement.

many_to_one: the linked part of the target is only listed. The rest is one scan, left-joined to each pass. Where
`prefer` asks only of the source, the source is reduced to one row for each key before the join: its first row in
the order of `prefer`, and in `equals` how many rows are as good as that one. Otherwise the candidates are joined
first and the best of each target is taken. The first pass that decides wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from recon.matching.bind import Bound, BoundPass
from recon.names import DIALECT, column, identifier

# Columns of the decisions, after the keys. What is not matched gets its reason in a second step.
OUTCOMES = ("linked", "matched", "proposed", "ambiguous", "unmatched", "excluded", "invalid")


@dataclass(frozen=True)
class Filter:
    """What a limited run looks at: dates are inclusive ISO dates, bound as parameters."""

    limit: int | None = None
    from_date: str | None = None
    to_date: str | None = None

    @property
    def values(self) -> list[str]:
        return [value for value in (self.from_date, self.to_date) if value is not None]

    def as_dict(self) -> dict[str, object] | None:
        found = {"limit": self.limit, "from": self.from_date, "to": self.to_date}
        return {name: value for name, value in found.items() if value is not None} or None


def key_names(prefix: str, count: int) -> list[str]:
    """How key columns are called in recon's own tables: target_key, or target_key_1, target_key_2, …"""
    return [prefix] if count == 1 else [f"{prefix}_{number}" for number in range(1, count + 1)]


def decisions(bound: Bound, limited: Filter | None = None) -> exp.Query:
    """The statement that gives every target record exactly one decision; reasons come after.

    Columns: target_key…, source_key…, outcome, pass, confidence.
    """
    limited = limited or Filter()
    pool = _select(bound.target_keys).from_(bound.target.aliased("t"))
    conditions = target_conditions(bound, limited)
    if bound.link is not None:
        conditions.append(exp.Is(this=bound.link, expression=exp.Null()))
    for number, rule in enumerate(bound.passes, start=1):
        alias = f"best_{number}"
        best = exp.to_table(alias)
        best.this.set("quoted", True)
        if rule.reducible:
            on = [
                exp.EQ(this=left.copy(), expression=column(alias, f"key_{position}"))
                for position, left in enumerate(rule.targets, start=1)
            ] + [part.copy() for part in rule.when_target]
        else:
            on = [
                exp.EQ(this=key, expression=column(alias, name))
                for key, name in zip(bound.target_keys, key_names("target_key", len(bound.target_keys)), strict=True)
            ]
        pool = pool.join(best, on=exp.and_(*on), join_type="left")
    decided = _decided(bound.passes)
    pool = pool.select(exp.alias_(decided, "decided", quoted=True), append=True)
    for number in range(1, len(bound.passes) + 1):
        for name in key_names("source_key", len(bound.source_keys)):
            candidate = exp.alias_(column(f"best_{number}", name), f"{name}_of_{number}", quoted=True)
            pool = pool.select(candidate, append=True)
    pool = _named_keys(pool, "target_key", len(bound.target_keys))
    if conditions:
        pool = pool.where(*conditions)
    if limited.limit is not None:
        pool = pool.order_by(*[exp.Ordered(this=key, nulls_first=False) for key in bound.target_keys])
        pool = pool.limit(limited.limit)

    statement: exp.Query = _outcomes(bound)
    if bound.link is not None:
        statement = exp.union(_linked(bound, limited), statement, distinct=False)
    for number, rule in enumerate(bound.passes, start=1):
        best = reduced_source(bound, rule) if rule.reducible else _best_candidate(bound, rule, limited)
        statement = statement.with_(identifier(f"best_{number}"), as_=best)
    return statement.with_(identifier("pool"), as_=pool)


def create(table: exp.Table, select: exp.Expr) -> str:
    """CREATE TABLE … AS, as text."""
    return exp.Create(this=table, kind="TABLE", expression=select).sql(DIALECT, pretty=True)


def target_conditions(bound: Bound, limited: Filter) -> list[exp.Expr]:
    """The target's `where` and the dates of a limited run."""
    return [*([bound.target_where.copy()] if bound.target_where else []), *_dates(bound, limited)]


def reduced_source(bound: Bound, rule: BoundPass) -> exp.Select:
    """One row for each key of the source: the preferred one, and how many rows are as good."""
    keys = [exp.alias_(part.copy(), f"key_{number}", quoted=True) for number, part in enumerate(rule.sources, start=1)]
    conditions: list[exp.Expr] = [
        exp.Not(this=exp.Is(this=part.copy(), expression=exp.Null())) for part in rule.sources
    ]
    conditions += [part.copy() for part in rule.when_source]
    if bound.source_where is not None:
        conditions.append(bound.source_where.copy())
    ranked = _select(keys).from_(bound.source.aliased("s")).where(*conditions)
    ranked = _ranked(ranked, bound, rule, rule.sources)
    names = [f"key_{number}" for number in range(1, len(rule.sources) + 1)]
    return _first(ranked, [*names, *key_names("source_key", len(bound.source_keys))])


def _best_candidate(bound: Bound, rule: BoundPass, limited: Filter) -> exp.Select:
    """One row for each target that has candidates: the preferred one, and how many are as good."""
    candidates = _named_keys(_select(bound.target_keys), "target_key", len(bound.target_keys))
    candidates = candidates.from_(bound.target.aliased("t")).join(
        bound.source.aliased("s"), on=exp.and_(*pair_conditions(rule))
    )
    conditions = target_conditions(bound, limited)
    if bound.source_where is not None:
        conditions.append(bound.source_where.copy())
    if bound.link is not None:
        conditions.append(exp.Is(this=bound.link, expression=exp.Null()))
    if conditions:
        candidates = candidates.where(*conditions)
    candidates = _ranked(candidates, bound, rule, bound.target_keys)
    names = key_names("target_key", len(bound.target_keys))
    return _first(candidates, [*names, *key_names("source_key", len(bound.source_keys))])


def pair_conditions(rule: BoundPass) -> list[exp.Expr]:
    """What a pair must satisfy for this pass: every equality, and `when`."""
    equal = [
        exp.EQ(this=left.copy(), expression=right.copy())
        for left, right in zip(rule.targets, rule.sources, strict=True)
    ]
    return [*equal, *(part.copy() for part in (*rule.when_target, *rule.when_source, *rule.when_both))]


# -- parts -----------------------------------------------------------------------------------------------


def _select(parts: Sequence[exp.Expr]) -> exp.Select:
    return exp.Select(expressions=[part.copy() for part in parts])


def _named_keys(select: exp.Select, prefix: str, count: int) -> exp.Select:
    """The first `count` selected columns under recon's names for keys."""
    named = [
        exp.alias_(part, name, quoted=True)
        for part, name in zip(select.expressions, key_names(prefix, count), strict=False)
    ]
    return select.select(*named, *select.expressions[count:], append=False)


def _ranked(select: exp.Select, bound: Bound, rule: BoundPass, partition: Sequence[exp.Expr]) -> exp.Select:
    """Add the source key, the place in the order of `prefer` and how many rows share it."""
    keys = [
        exp.alias_(key, name, quoted=True)
        for key, name in zip(bound.source_keys, key_names("source_key", len(bound.source_keys)), strict=True)
    ]

    def window(function: exp.Expr) -> exp.Window:
        order = exp.Order(expressions=[term.ordered() for term in rule.prefer]) if rule.prefer else None
        return exp.Window(this=function, partition_by=[part.copy() for part in partition], order=order)

    return select.select(
        *keys,
        exp.alias_(window(exp.RowNumber()), "position", quoted=True),
        # The default frame ends with the last row that equals the current one on every term, so for the
        # first row the count is the number of equally good ones.
        exp.alias_(window(exp.Count(this=exp.Star())), "equals", quoted=True),
        append=True,
    )


def _first(ranked: exp.Select, names: Sequence[str]) -> exp.Select:
    outer = exp.Select(expressions=[column("ranked", name) for name in (*names, "equals")])
    table = exp.Subquery(this=ranked, alias=exp.TableAlias(this=identifier("ranked")))
    return outer.from_(table).where(exp.EQ(this=column("ranked", "position"), expression=exp.Literal.number(1)))


def _decided(passes: Sequence[BoundPass]) -> exp.Case:
    """The number of the pass that decides: positive where it has one best candidate, negative at a tie."""
    parts: list[tuple[exp.Expr, exp.Expr]] = []
    for number, rule in enumerate(passes, start=1):
        equals = column(f"best_{number}", "equals")
        parts.append((exp.EQ(this=equals, expression=exp.Literal.number(1)), exp.Literal.number(number)))
        if rule.rule.on_tie == "review":
            tie = exp.GT(this=equals.copy(), expression=exp.Literal.number(1))
            parts.append((tie, exp.Neg(this=exp.Literal.number(number))))
    return _case(None, parts)


def _case(
    this: exp.Expr | None, parts: Sequence[tuple[exp.Expr, exp.Expr]], default: exp.Expr | None = None
) -> exp.Case:
    return exp.Case(this=this, ifs=[exp.If(this=test, true=value) for test, value in parts], default=default)


def _outcomes(bound: Bound) -> exp.Select:
    """The pool's decisions in words, from the number of the pass that decided."""
    decided = column("pool", "decided")
    outcomes: list[tuple[exp.Expr, exp.Expr]] = []
    names: list[tuple[exp.Expr, exp.Expr]] = []
    confidences: list[tuple[exp.Expr, exp.Expr]] = []
    for number, rule in enumerate(bound.passes, start=1):
        won, tied = exp.Literal.number(number), exp.Neg(this=exp.Literal.number(number))
        outcome = "proposed" if rule.rule.accept == "review" else "matched"
        outcomes.append((won, exp.Literal.string(outcome)))
        for test in (won, tied):
            names.append((test.copy(), exp.Literal.string(rule.name)))
        confidences.append((won.copy(), exp.Literal.number(str(rule.confidence))))
        if rule.rule.on_tie == "review":
            outcomes.append((tied, exp.Literal.string("ambiguous")))
    sources = [
        exp.alias_(
            _case(
                decided.copy(),
                [
                    (exp.Literal.number(number), column("pool", f"{name}_of_{number}"))
                    for number in range(1, len(bound.passes) + 1)
                ],
            ),
            name,
            quoted=True,
        )
        for name in key_names("source_key", len(bound.source_keys))
    ]
    return exp.Select(
        expressions=[
            *[column("pool", name) for name in key_names("target_key", len(bound.target_keys))],
            *sources,
            exp.alias_(_case(decided, outcomes, exp.Literal.string("unmatched")), "outcome", quoted=True),
            exp.alias_(_case(decided.copy(), names), "pass", quoted=True),
            exp.alias_(exp.cast(_case(decided.copy(), confidences), "numeric(4, 3)"), "confidence", quoted=True),
        ]
    ).from_(exp.Table(this=identifier("pool")))


def _linked(bound: Bound, limited: Filter) -> exp.Select:
    """Records that hold a link: listed, never touched."""
    link = bound.link
    assert link is not None
    select = exp.Select(
        expressions=[
            *[
                exp.alias_(key, name, quoted=True)
                for key, name in zip(bound.target_keys, key_names("target_key", len(bound.target_keys)), strict=True)
            ],
            exp.alias_(link.copy(), "source_key", quoted=True),
            exp.alias_(exp.Literal.string("linked"), "outcome", quoted=True),
            exp.alias_(exp.cast(exp.Null(), "text"), "pass", quoted=True),
            exp.alias_(exp.cast(exp.Null(), "numeric(4, 3)"), "confidence", quoted=True),
        ]
    ).from_(bound.target.aliased("t"))
    held = exp.Not(this=exp.Is(this=link.copy(), expression=exp.Null()))
    return select.where(*target_conditions(bound, limited), held)


def _dates(bound: Bound, limited: Filter) -> list[exp.Expr]:
    date = bound.spec.target.date
    if date is None or not limited.values:
        return []
    day = exp.cast(column("t", date), "date")
    bounds: list[exp.Expr] = []
    for value, test in ((limited.from_date, exp.GTE), (limited.to_date, exp.LTE)):
        if value is not None:
            parameter = exp.Parameter(this=exp.Literal.number(len(bounds) + 1))
            bounds.append(test(this=day.copy(), expression=exp.cast(parameter, "date")))
    return bounds


def unmatched_reasons(bound: Bound, table: exp.Table) -> str:
    """The statement that gives each unmatched record its reason, pass by pass, and the one that came closest.

    `reason` and `pass` say the closest (section 5 of the design: `tie` before `when_false` before `no_candidate`
    before `null_key`, then the earliest pass); `evidence` holds every pass with its reason.
    """
    alias = "decision"
    keys = key_names("target_key", len(bound.target_keys))
    same_record = [
        exp.EQ(this=key, expression=column(alias, name)) for key, name in zip(bound.target_keys, keys, strict=True)
    ]
    records = _select([column(alias, name) for name in keys]).from_(
        exp.Table(this=table.this.copy(), db=table.args["db"].copy(), alias=exp.TableAlias(this=identifier(alias)))
    )
    records = records.join(bound.target.aliased("t"), on=exp.and_(*same_record))
    ranks: list[exp.Expr] = []
    for number, rule in enumerate(bound.passes, start=1):
        known = f"known_{number}"
        on = [
            exp.EQ(this=left.copy(), expression=column(known, f"key_{position}"))
            for position, left in enumerate(rule.targets, start=1)
        ]
        records = records.join(exp.Table(this=identifier(known)), on=exp.and_(*on), join_type="left")
        if rule.rule.on_tie == "next" and not rule.reducible:
            tied = f"best_{number}"
            own = [
                exp.EQ(this=key, expression=column(tied, name))
                for key, name in zip(bound.target_keys, keys, strict=True)
            ]
            records = records.join(exp.Table(this=identifier(tied)), on=exp.and_(*own), join_type="left")
        rank = exp.alias_(_reason_rank(rule, number), f"rank_{number}", quoted=True)
        records = records.select(rank, append=True)
        ranks.append(column("reasons", f"rank_{number}"))
    unmatched = exp.EQ(this=column(alias, "outcome"), expression=exp.Literal.string("unmatched"))
    records = records.where(unmatched)

    best: exp.Expr = exp.Least(this=ranks[0].copy(), expressions=[rank.copy() for rank in ranks[1:]])
    codes = [(exp.Literal.number(place), exp.Literal.string(code)) for place, code in REASON_RANKS.items()]
    closest = [
        (exp.EQ(this=rank.copy(), expression=best.copy()), exp.Literal.string(rule.name))
        for rank, rule in zip(ranks, bound.passes, strict=True)
    ]
    evidence: list[exp.Expr] = []
    for rank, rule in zip(ranks, bound.passes, strict=True):
        evidence += [exp.Literal.string(rule.name), _case(rank.copy(), [(a.copy(), b.copy()) for a, b in codes])]
    target = exp.Table(this=table.this.copy(), db=table.args["db"].copy(), alias=exp.TableAlias(this=identifier(alias)))
    update = exp.Update(
        this=target,
        expressions=[
            exp.EQ(this=exp.Column(this=identifier("reason")), expression=_case(best, codes)),
            exp.EQ(this=exp.Column(this=identifier("pass")), expression=_case(None, closest)),
            exp.EQ(
                this=exp.Column(this=identifier("evidence")),
                expression=exp.Anonymous(this="jsonb_build_object", expressions=evidence),
            ),
        ],
    ).from_(exp.Table(this=identifier("reasons")))
    update.set(
        "where",
        exp.Where(
            this=exp.and_(*[exp.EQ(this=column(alias, name), expression=column("reasons", name)) for name in keys])
        ),
    )
    for number, rule in enumerate(bound.passes, start=1):
        update = update.with_(identifier(f"known_{number}"), as_=_known_keys(bound, rule))
        if rule.rule.on_tie == "next" and not rule.reducible:
            update = update.with_(identifier(f"best_{number}"), as_=_best_candidate(bound, rule, Filter()))
    return update.with_(identifier("reasons"), as_=records).sql(DIALECT, pretty=True)


# How close a pass came, nearest first; `tie` occurs only where `on_tie: next` went past it.
REASON_RANKS = {1: "tie", 2: "when_false", 3: "no_candidate", 4: "null_key"}


def _reason_rank(rule: BoundPass, number: int) -> exp.Case:
    known = f"known_{number}"
    nulls = [exp.Is(this=left.copy(), expression=exp.Null()) for left in rule.targets]
    missing = exp.Is(this=column(known, "key_1"), expression=exp.Null())
    parts: list[tuple[exp.Expr, exp.Expr]] = [
        (exp.or_(*nulls), exp.Literal.number(4)),
        (missing, exp.Literal.number(3)),
    ]
    if rule.rule.on_tie == "next":
        # Whatever satisfied the pass and still is unmatched was tied.
        passing = (
            exp.and_(*(part.copy() for part in rule.when_target), column(known, "holds"))
            if rule.reducible
            else exp.Not(this=exp.Is(this=column(f"best_{number}", "equals"), expression=exp.Null()))
        )
        parts.append((passing, exp.Literal.number(1)))
    return _case(None, parts, exp.Literal.number(2))


def _known_keys(bound: Bound, rule: BoundPass) -> exp.Select:
    """Every key the source has for a pass, once, and whether a row of it passes the source's own part of `when`."""
    keys = [exp.alias_(part.copy(), f"key_{number}", quoted=True) for number, part in enumerate(rule.sources, start=1)]
    holds: exp.Expr = exp.and_(*[part.copy() for part in rule.when_source]) if rule.when_source else exp.true()
    select = _select(keys).select(
        exp.alias_(exp.Anonymous(this="bool_or", expressions=[holds]), "holds", quoted=True), append=True
    )
    select = select.from_(bound.source.aliased("s")).group_by(*[part.copy() for part in rule.sources])
    conditions: list[exp.Expr] = [
        exp.Not(this=exp.Is(this=part.copy(), expression=exp.Null())) for part in rule.sources
    ]
    if bound.source_where is not None:
        conditions.append(bound.source_where.copy())
    return select.where(*conditions)
