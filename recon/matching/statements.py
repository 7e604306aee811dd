"""many_to_one as SQL: named steps, printed as one readable statement.

The linked part of the target is only listed. The rest is one scan, left-joined to each pass. Where `prefer` asks only
of the source, the source is reduced to one row for each key before the join: its first row in the order of `prefer`,
and in `equals` how many rows are as good as that one. Otherwise the candidates are joined first and the best of each
target is taken. The first pass that decides wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from recon.matching import pool as pools
from recon.matching.bound import Bound, BoundPass
from recon.matching.pool import CONFLICTED, EXCLUDED, FORBIDDEN, LINKS, Pool
from recon.names import Side, column, identifier
from recon.spec_parts import OVERRIDE

# Columns of the decisions, after the keys. What is not matched gets its reason in a second step.
OUTCOMES = (
    "linked", "matched", "same", "changed", "proposed", "ambiguous", "unmatched", "orphan", "missing", "excluded",
    "invalid",
)  # fmt: skip
CONFIDENCE = "numeric(4, 3)"


def decisions(bound: Bound, pool: Pool | None = None) -> exp.Query:
    """The statement that gives every target record exactly one decision; reasons come after.

    Columns: target_key…, source_key…, outcome, pass, confidence.
    """
    pool = pool or Pool()
    parts = [_Part(bound, pool, "pool", reduces=True)]
    if pool.forbidden:
        # The best source of a key is not the best for a target that may not have it.
        parts.append(_Part(bound, pool, "apart", reduces=False))
    queries = [outcomes(bound, part.name) for part in parts]
    if bound.link is not None:
        queries.insert(0, _linked(bound, pool))
    queries += _of_people(bound, pool)
    statement = queries[0]
    for query in queries[1:]:
        statement = exp.union(statement, query, distinct=False)
    for part in parts:
        for number, rule in enumerate(bound.passes, start=1):
            statement = statement.with_(identifier(part.best(number)), as_=part.step(rule))
        statement = statement.with_(identifier(part.name), as_=part.pool())
    return statement


@dataclass(frozen=True)
class _Part:
    """A part of the pool and the steps that decide it."""

    bound: Bound
    pool_of: Pool
    name: str
    reduces: bool  # whether passes whose best source is the same for all are reduced first

    def best(self, number: int) -> str:
        return f"best_{number}" if self.reduces else f"best_{number}_apart"

    def reduced(self, rule: BoundPass) -> bool:
        return self.reduces and rule.reducible

    def step(self, rule: BoundPass) -> exp.Select:
        if self.reduced(rule):
            return reduced_source(self.bound, rule, self.pool_of)
        return _best_candidate(self.bound, rule, self.pool_of, self.conditions())

    def conditions(self) -> list[exp.Expr]:
        conditions = self.pool_of.eligible(self.bound, "t")
        if self.pool_of.forbidden:
            forbidden = pools.present(FORBIDDEN, self.bound, ["t"])
            conditions.append(exp.Not(this=forbidden) if self.reduces else forbidden)
        return conditions

    def pool(self) -> exp.Select:
        """Every target of this part with the number of the pass that decides it, and each pass's source."""
        bound = self.bound
        keys = bound.key_names("t")
        select = exp.Select(
            expressions=[
                *named(bound.target_keys, keys),
                exp.alias_(self._decided(), "decided", quoted=True),
            ]
        ).from_(bound.target.aliased("t"))
        for number, rule in enumerate(bound.passes, start=1):
            alias = self.best(number)
            if self.reduced(rule):
                on = [
                    exp.EQ(this=left.copy(), expression=column(alias, f"key_{position}"))
                    for position, left in enumerate(rule.targets, start=1)
                ] + [part.copy() for part in rule.when_target]
            else:
                on = equal(bound.target_keys, alias, keys)
            select = select.join(exp.Table(this=identifier(alias)), on=exp.and_(*on), join_type="left")
            for name in bound.key_names("s"):
                select = select.select(exp.alias_(column(alias, name), f"{name}_of_{number}", quoted=True), append=True)
        conditions = self.conditions()
        return select.where(*conditions) if conditions else select

    def _decided(self) -> exp.Case:
        """The number of the pass that decides: positive where it has one best candidate, negative at a tie."""
        parts: list[tuple[exp.Expr, exp.Expr]] = []
        for number, rule in enumerate(self.bound.passes, start=1):
            equals = column(self.best(number), "equals")
            parts.append((exp.EQ(this=equals, expression=exp.Literal.number(1)), exp.Literal.number(number)))
            if rule.rule.on_tie == "review":
                tie = exp.GT(this=equals.copy(), expression=exp.Literal.number(1))
                parts.append((tie, exp.Neg(this=exp.Literal.number(number))))
        return case(None, parts)


# -- steps -----------------------------------------------------------------------------------------------


def reduced_source(bound: Bound, rule: BoundPass, pool: Pool) -> exp.Select:
    """One row for each key of the source: the preferred one, and how many rows are as good."""
    names = [f"key_{number}" for number in range(1, len(rule.sources) + 1)]
    # `where` first: it may keep records away on which an expression of the pass would fail.
    conditions = [*pool.eligible(bound, "s"), *not_null(rule.sources), *(part.copy() for part in rule.when_source)]
    keyed = exp.Select(expressions=named(rule.sources, names)).from_(bound.source.aliased("s")).where(*conditions)
    if rule.prefer:
        return _first(_ranked(keyed, bound, rule, rule.sources), [*names, *bound.key_names("s")])
    # Without preference all are equally good, and which one is named matters only where there is one.
    ones = [
        exp.alias_(only(bound, "s", key), name, quoted=True)
        for key, name in zip(bound.source_keys, bound.key_names("s"), strict=True)
    ]
    counted = exp.alias_(exp.Count(this=exp.Star()), "equals", quoted=True)
    return keyed.select(*ones, counted).group_by(*first_columns(len(names)))


def _best_candidate(bound: Bound, rule: BoundPass, pool: Pool, conditions: Sequence[exp.Expr]) -> exp.Select:
    """One row for each target that has candidates: the preferred one, and how many are as good."""
    names = bound.key_names("t")
    candidates = exp.Select(expressions=named(bound.target_keys, names)).from_(bound.target.aliased("t"))
    candidates = candidates.join(bound.source.aliased("s"), on=exp.and_(*rule.candidate()))
    every = [*(part.copy() for part in conditions), *pool.eligible(bound, "s"), *pool.allowed(bound)]
    if every:
        candidates = candidates.where(*every)
    return _first(_ranked(candidates, bound, rule, bound.target_keys), [*names, *bound.key_names("s")])


def _ranked(select: exp.Select, bound: Bound, rule: BoundPass, partition: Sequence[exp.Expr]) -> exp.Select:
    """Add the source key, the place in the order of `prefer` and how many rows share it."""

    def window(function: exp.Expr) -> exp.Window:
        order = exp.Order(expressions=[term.ordered() for term in rule.prefer]) if rule.prefer else None
        return exp.Window(this=function, partition_by=[part.copy() for part in partition], order=order)

    return select.select(
        *named(bound.source_keys, bound.key_names("s")),
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


def outcomes(bound: Bound, part: str) -> exp.Select:
    """The decisions of a part of the pool in words, from the number of the pass that decided."""
    sources = [
        exp.alias_(
            case(
                column(part, "decided"),
                [
                    (exp.Literal.number(number), column(part, f"{name}_of_{number}"))
                    for number in range(1, len(bound.passes) + 1)
                ],
            ),
            name,
            quoted=True,
        )
        for name in bound.key_names("s")
    ]
    keys = [column(part, name) for name in bound.key_names("t")]
    return exp.Select(expressions=[*keys, *sources, *verdict(bound, column(part, "decided"))]).from_(
        exp.Table(this=identifier(part))
    )


def verdict(bound: Bound, decided: exp.Expr) -> list[exp.Expr]:
    """Outcome, pass and confidence from the number of the pass that decided: negative at a tie, 0 a person's link."""
    words: list[tuple[exp.Expr, exp.Expr]] = []
    names: list[tuple[exp.Expr, exp.Expr]] = []
    confidences: list[tuple[exp.Expr, exp.Expr]] = []
    for number, rule in enumerate(bound.passes, start=1):
        won, tied = exp.Literal.number(number), exp.Neg(this=exp.Literal.number(number))
        outcome = "proposed" if rule.rule.accept == "review" else "matched"
        words.append((won, exp.Literal.string(outcome)))
        names += [(test.copy(), exp.Literal.string(rule.name)) for test in (won, tied)]
        confidences.append((won.copy(), exp.Literal.number(str(rule.confidence))))
        if rule.rule.on_tie == "review":
            words.append((tied, exp.Literal.string("ambiguous")))
    return said(
        case(decided.copy(), words, exp.Literal.string("unmatched")),
        case(decided.copy(), names),
        case(decided.copy(), confidences),
    )


def said(outcome: exp.Expr, name: exp.Expr | None = None, confidence: exp.Expr | None = None) -> list[exp.Expr]:
    """The three columns of a decision after its keys."""
    return [
        exp.alias_(outcome, "outcome", quoted=True),
        exp.alias_(name or exp.cast(exp.Null(), "text"), "pass", quoted=True),
        exp.alias_(exp.cast(confidence or exp.Null(), CONFIDENCE), "confidence", quoted=True),
    ]


def _linked(bound: Bound, pool: Pool) -> exp.Select:
    """Records that hold a link: listed, never touched."""
    link = bound.link
    assert link is not None
    select = exp.Select(
        expressions=[
            *named(bound.target_keys, bound.key_names("t")),
            exp.alias_(link.copy(), "source_key", quoted=True),
            *said(exp.Literal.string("linked")),
        ]
    ).from_(bound.target.aliased("t"))
    is_linked = exp.Not(this=exp.Is(this=link.copy(), expression=exp.Null()))
    return select.where(*pool.looked_at(bound, "t"), is_linked)


def _of_people(bound: Bound, pool: Pool) -> list[exp.Select]:
    """What people decided, as far as it concerns records that this run looks at."""
    parts: list[exp.Select] = []
    open_record = [] if bound.link is None else [exp.Is(this=bound.link, expression=exp.Null())]
    keys = bound.key_names("t")

    def part(table: str, sources: Sequence[exp.Expr], words: Sequence[exp.Expr]) -> exp.Select:
        select = exp.Select(
            expressions=[
                *named(bound.target_keys, keys),
                *[
                    exp.alias_(tree, name, quoted=True)
                    for tree, name in zip(sources, bound.key_names("s"), strict=True)
                ],
                *words,
            ]
        ).from_(bound.target.aliased("t"))
        select = select.join(pools.temporary(table, "decided"), on=exp.and_(*equal(bound.target_keys, "decided", keys)))
        conditions = [*pool.looked_at(bound, "t"), *(item.copy() for item in open_record)]
        return select.where(*conditions) if conditions else select

    nothing = [part.this for part in no_keys(bound, "s")]
    override = exp.Literal.string(OVERRIDE)
    if pool.links:
        sources = [column("decided", name) for name in bound.key_names("s")]
        parts.append(part(LINKS, sources, said(exp.Literal.string("matched"), override, exp.Literal.number(1))))
    if "t" in pool.excluded:
        parts.append(part(EXCLUDED["t"], nothing, said(exp.Literal.string("excluded"), override)))
    if pool.conflicted:
        parts.append(part(CONFLICTED, nothing, said(exp.Literal.string("ambiguous"), override)))
    return parts


# -- small trees -----------------------------------------------------------------------------------------


def named(trees: Sequence[exp.Expr], names: Sequence[str]) -> list[exp.Expr]:
    """Expressions under these names."""
    return [exp.alias_(tree.copy(), name, quoted=True) for tree, name in zip(trees, names, strict=True)]


# Types that min() knows; others are taken as text and back.
_WITH_MINIMUM = frozenset(
    """
    int2 int4 int8 numeric float4 float8 text varchar bpchar date timestamp timestamptz
    """.split()
)


def only(
    bound: Bound, side: Side, key: exp.Column, value: exp.Expr | None = None, over: exp.Window | None = None
) -> exp.Expr:
    """The key of the one record of a group, by min().

    Args:
        bound: the spec.
        side: whose key it is.
        key: the column of the key.
        value: what stands for it in the group; default: the column itself.
        over: the window that is the group; default: GROUP BY.
    """
    plain = bound.relation[side].columns[key.name] in _WITH_MINIMUM
    value = value or key
    least: exp.Expr = exp.Min(this=value.copy() if plain else exp.cast(value.copy(), "text"))
    if over is not None:
        whole = over.copy()
        whole.set("this", least)
        least = whole
    return least if plain else exp.cast(least, bound.relation[side].type_of(key.name))


def no_keys(bound: Bound, side: Side) -> list[exp.Expr]:
    """NULLs of the types of a side's key, under recon's names for it."""
    record_set = bound.spec.target if side == "t" else bound.spec.source
    nulls = [exp.cast(exp.Null(), bound.relation[side].type_of(name)) for name in record_set.keys]
    return named(nulls, bound.key_names(side))


def equal(trees: Sequence[exp.Expr], alias: str, names: Sequence[str]) -> list[exp.Expr]:
    """Each expression equals the named column of an alias."""
    return [exp.EQ(this=tree.copy(), expression=column(alias, name)) for tree, name in zip(trees, names, strict=True)]


def first_columns(count: int) -> list[exp.Expr]:
    """The first columns of a SELECT by number: in GROUP BY a constant could not stand for itself."""
    return [exp.Literal.number(number) for number in range(1, count + 1)]


def not_null(trees: Sequence[exp.Expr]) -> list[exp.Expr]:
    return [exp.Not(this=exp.Is(this=tree.copy(), expression=exp.Null())) for tree in trees]


def case(
    this: exp.Expr | None, parts: Sequence[tuple[exp.Expr, exp.Expr]], default: exp.Expr | None = None
) -> exp.Case:
    return exp.Case(this=this, ifs=[exp.If(this=test, true=value) for test, value in parts], default=default)
