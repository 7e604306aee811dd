"""one_to_one: pass by pass, each record with at most one partner, by repeated mutual best (design, section 4.5).

What is decided is kept in temporary tables, so that a later pass sees only what is left. A pass whose `on` alone
decides, without preference, needs no pairs: a key that each side holds once is a pair, any other that both hold is
a tie. All other passes list their candidate pairs and leave the rounds to `mutual_best.sql`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

from sqlglot import exp

from recon.matching import pool as pools
from recon.matching.bound import Bound, BoundPass
from recon.matching.pool import (
    CONFLICTED,
    DECIDED,
    EXCLUDED,
    LINKS,
    OTHER_TIED,
    SIDES,
    TIED,
    Pool,
    creating,
    present,
    temporary,
)
from recon.matching.statements import case, equal, named, no_keys, not_null, only, said, verdict
from recon.names import DIALECT, Side, column, identifier
from recon.spec_parts import OVERRIDE

_MET = "recon_met"
_PAIRS, _ACCEPTED = "recon_pairs", "recon_accepted"
_NUMBERED: dict[Side, str] = {"t": "recon_numbered_targets", "s": "recon_numbered_sources"}
_NUMBER: dict[Side, str] = {"t": "t", "s": "s"}


def start(bound: Bound, pool: Pool) -> Iterator[str]:
    """The statements that make the temporary tables which the passes fill, with what people linked."""
    mine, other = bound.population, bound.other
    if pool.links:
        links = [column("links", name) for side in SIDES for name in bound.key_names(side)]
        decided = exp.Select(expressions=[*links, _number(0)]).from_(temporary(LINKS, "links"))
    else:
        nobody = [*no_keys(bound, "t"), *no_keys(bound, "s"), _number(0)]
        decided = exp.Select(expressions=nobody).where(exp.false())
    yield creating(temporary(DECIDED), decided)
    yield creating(temporary(TIED), exp.Select(expressions=[*no_keys(bound, mine), _number(0)]).where(exp.false()))
    yield creating(temporary(OTHER_TIED), exp.Select(expressions=no_keys(bound, other)).where(exp.false()))


def steps(bound: Bound, pool: Pool) -> Iterator[str]:
    """The statements that work through the passes; they leave the temporary tables `recon_decided` and `recon_tied`."""
    yield from start(bound, pool)
    for number, rule in enumerate(bound.passes, start=1):
        if rule.by_key and not rule.prefer and not pool.forbidden:
            yield from _by_key(bound, pool, rule, number)
        else:
            yield from _by_rounds(bound, pool, rule, number)
        yield f"ANALYZE pg_temp.{DECIDED}"  # the next pass and the decisions join it


def _number(number: int) -> exp.Expr:
    return exp.alias_(exp.Literal.number(number), "decided", quoted=True)


def _undecided(bound: Bound, pool: Pool, side: Side, first: bool) -> list[exp.Expr]:
    """Which records of a side a pass may still use: eligible, and not held, tied or given to a person before."""
    conditions = pool.eligible(bound, side)
    if not first:
        conditions.append(exp.Not(this=present(DECIDED, bound, [side])))
        if side == bound.population:
            waiting = present(TIED, bound, [side])
            waiting.this.where(_awaiting_review(bound), copy=False)
            conditions.append(exp.Not(this=waiting))
    return conditions


def _awaiting_review(bound: Bound) -> exp.Expr:
    """The tie is one that a person must settle, and not one that a later pass may."""
    numbers = [number for number, rule in enumerate(bound.passes, start=1) if rule.rule.on_tie == "review"]
    listed = [exp.Literal.number(number) for number in numbers] or [exp.Literal.number(0)]
    return exp.In(this=column("listed", "decided"), expressions=listed)


# -- a pass that its key decides -------------------------------------------------------------------------


def _by_key(bound: Bound, pool: Pool, rule: BoundPass, number: int) -> Iterator[str]:
    """Both sides in one heap, counted by key: one sort instead of a join, and no pairs however often a key occurs."""
    mine, other = bound.population, bound.other
    yield creating(temporary(_MET), _met(bound, pool, rule, number == 1))
    own: list[exp.Expr] = [column("met", name) for name in bound.key_names(mine)]
    is_own = exp.Not(this=exp.Is(this=own[0].copy(), expression=exp.Null()))
    alone = column("met", "alone")
    keys: dict[Side, list[exp.Expr]] = {
        mine: own,
        other: [column("met", f"only_{position}") for position in range(1, len(bound.keys(other)) + 1)],
    }
    pairs = exp.Select(expressions=[*[key for side in SIDES for key in keys[side]], exp.Literal.number(number)])
    yield _inserting(DECIDED, pairs.from_(temporary(_MET, "met")).where(alone, is_own))
    tied: dict[Side, exp.Expr] = {mine: is_own, other: exp.Is(this=own[0].copy(), expression=exp.Null())}
    for side in SIDES:
        names = exp.Select(expressions=[column("met", name) for name in bound.key_names(side)])
        of_side = names.from_(temporary(_MET, "met")).where(exp.Not(this=alone.copy()), tied[side].copy())
        yield from _tied(bound, side, number, rule, of_side)
    yield f"DROP TABLE pg_temp.{_MET}"


def _met(bound: Bound, pool: Pool, rule: BoundPass, first: bool) -> exp.Select:
    """Every record of the population whose key the other side has, and the other's record where both are the only one.

    Where a key is a tie, the other side's records of it are listed too.
    """
    mine, other = bound.population, bound.other
    keys = [f"key_{position}" for position in range(1, len(rule.targets) + 1)]
    heap = exp.union(
        *[
            exp.Select(
                expressions=[
                    *named(rule.on(side), keys),
                    *[
                        part
                        for each in SIDES
                        for part in (
                            named(bound.keys(each), bound.key_names(each)) if each == side else no_keys(bound, each)
                        )
                    ],
                ]
            )
            .from_(bound.relation[side].aliased(side))
            .where(*_members(bound, pool, rule, side, first))
            for side in (mine, other)
        ],
        distinct=False,
    )

    counts = [
        exp.alias_(
            exp.Window(
                this=exp.Count(this=column("heap", bound.key_names(side)[0])),
                partition_by=[column("heap", name) for name in keys],
            ),
            f"records_{side}",
            quoted=True,
        )
        for side in SIDES
    ]
    of_heap = exp.Window(partition_by=[column("heap", name) for name in keys])
    ones = [
        exp.alias_(only(bound, other, key, column("heap", name), of_heap), f"only_{position}", quoted=True)
        for position, (key, name) in enumerate(zip(bound.keys(other), bound.key_names(other), strict=True), start=1)
    ]
    every = [column("heap", name) for side in SIDES for name in bound.key_names(side)]
    counted = exp.Select(expressions=[*every, *counts, *ones]).from_(
        exp.Subquery(this=heap, alias=exp.TableAlias(this=identifier("heap")))
    )
    once = [exp.EQ(this=column("counted", f"records_{side}"), expression=exp.Literal.number(1)) for side in SIDES]
    some = [exp.GT(this=column("counted", f"records_{side}"), expression=exp.Literal.number(0)) for side in SIDES]
    is_own = exp.Not(this=exp.Is(this=column("counted", bound.key_names(mine)[0]), expression=exp.Null()))
    return (
        exp.Select(
            expressions=[
                *[column("counted", name) for side in SIDES for name in bound.key_names(side)],
                *[column("counted", part.alias) for part in ones],
                exp.alias_(exp.and_(*once), "alone", quoted=True),
            ]
        )
        .from_(exp.Subquery(this=counted, alias=exp.TableAlias(this=identifier("counted"))))
        .where(*some, exp.or_(is_own, exp.Not(this=exp.paren(exp.and_(*[test.copy() for test in once])))))
    )


def _members(bound: Bound, pool: Pool, rule: BoundPass, side: Side, first: bool) -> list[exp.Expr]:
    """Which records of a side can stand in a pair of this pass."""
    parts = [part.copy() for part in rule.when(side)]
    # `where` first: it may keep records away on which an expression of the pass would fail.
    return [*_undecided(bound, pool, side, first), *not_null(rule.on(side)), *parts]


# -- a pass that needs its pairs -------------------------------------------------------------------------


def _by_rounds(bound: Bound, pool: Pool, rule: BoundPass, number: int) -> Iterator[str]:
    first = number == 1
    for side in SIDES:
        if len(bound.keys(side)) > 1:
            yield creating(temporary(_NUMBERED[side]), _numbered(bound, pool, rule, side, first))
    yield creating(temporary(_PAIRS), _pairs(bound, pool, rule, first))
    yield f"ANALYZE pg_temp.{_PAIRS}"
    yield resources.files("recon.matching").joinpath("mutual_best.sql").read_text(encoding="utf-8")
    accepted = exp.Select(
        expressions=[*[tree for side in SIDES for tree in _named_by(bound, side)], exp.Literal.number(number)]
    ).from_(temporary(_ACCEPTED, "accepted"))
    for side in SIDES:
        accepted = _with_numbers(bound, accepted, side, "accepted")
    yield _inserting(DECIDED, accepted)
    for side in SIDES:
        tied = exp.Select(expressions=_named_by(bound, side, "pairs")).distinct().from_(temporary(_PAIRS, "pairs"))
        yield from _tied(bound, side, number, rule, _with_numbers(bound, tied, side, "pairs"))
    made = [_NUMBERED[side] for side in SIDES if len(bound.keys(side)) > 1]
    for name in (_PAIRS, _ACCEPTED, *made):
        yield f"DROP TABLE pg_temp.{name}"


def _numbered(bound: Bound, pool: Pool, rule: BoundPass, side: Side, first: bool) -> exp.Select:
    """A number for each record with a composite key."""
    number = exp.alias_(exp.Window(this=exp.RowNumber()), "number", quoted=True)
    return (
        exp.Select(expressions=[*named(bound.keys(side), bound.key_names(side)), number])
        .from_(bound.relation[side].aliased(side))
        .where(*_members(bound, pool, rule, side, first))
    )


def _pairs(bound: Bound, pool: Pool, rule: BoundPass, first: bool) -> exp.Select:
    """The candidates: both records, as their key or its number, and the class of preference, smaller is better."""
    columns: list[exp.Expr] = []
    for side in SIDES:
        composite = len(bound.keys(side)) > 1
        value = column(f"numbered_{side}", "number") if composite else bound.keys(side)[0]
        columns.append(exp.alias_(value, _NUMBER[side], quoted=True))
    columns.append(exp.alias_(_class(rule), "r", quoted=True))
    select = exp.Select(expressions=columns).from_(bound.target.aliased("t"))
    select = select.join(bound.source.aliased("s"), on=exp.and_(*rule.candidate()))
    for side in SIDES:
        if len(bound.keys(side)) > 1:
            alias = f"numbered_{side}"
            same = equal(bound.keys(side), alias, bound.key_names(side))
            select = select.join(temporary(_NUMBERED[side], alias), on=exp.and_(*same))
    conditions = [
        *_undecided(bound, pool, "t", first), *_undecided(bound, pool, "s", first), *pool.allowed(bound)
    ]  # fmt: skip
    return select.where(*conditions) if conditions else select


def _class(rule: BoundPass) -> exp.Expr:
    if not rule.prefer:
        return exp.Literal.number(1)
    if [term.word for term in rule.rule.preferences] == ["nearest"]:
        return rule.prefer[0].tree.copy()  # never NULL inside the window, and ordered as it is
    order = exp.Order(expressions=[term.ordered() for term in rule.prefer])
    return exp.Window(this=exp.Anonymous(this="dense_rank", expressions=[]), order=order)


def _named_by(bound: Bound, side: Side, alias: str = "accepted") -> list[exp.Expr]:
    if len(bound.keys(side)) == 1:
        return named([column(alias, _NUMBER[side])], bound.key_names(side))
    return [column(f"numbered_{side}", name) for name in bound.key_names(side)]


def _with_numbers(bound: Bound, select: exp.Select, side: Side, alias: str) -> exp.Select:
    if len(bound.keys(side)) == 1:
        return select
    same = exp.EQ(this=column(f"numbered_{side}", "number"), expression=column(alias, _NUMBER[side]))
    return select.join(temporary(_NUMBERED[side], f"numbered_{side}"), on=same)


# -- what is kept ----------------------------------------------------------------------------------------


def _inserting(table: str, query: exp.Expr) -> str:
    return exp.Insert(this=temporary(table), expression=query).sql(DIALECT, pretty=True)


def _tied(bound: Bound, side: Side, number: int, rule: BoundPass, query: exp.Select) -> Iterator[str]:
    if side == bound.population:
        yield _inserting(TIED, query.select(exp.Literal.number(number), append=True))
    elif rule.rule.on_tie == "review" and bound.compared:
        yield _inserting(OTHER_TIED, query)


def other_tied(bound: Bound) -> exp.Expr:
    """Whether a record of the other side stands in a tie that a person must settle."""
    return present(OTHER_TIED, bound, [bound.other])


def decisions(bound: Bound, pool: Pool) -> exp.Select:
    """Every record of the population with its decision, from what the passes left.

    Columns: target_key…, source_key…, outcome, pass, confidence.
    """
    mine, other = bound.population, bound.other
    own = bound.key_names(mine)
    decided, tied, linked = column("decided", "decided"), column("tied", "decided"), _linked(bound)
    keys: dict[Side, list[exp.Expr]] = {
        mine: list(bound.keys(mine)),
        other: [column("decided", name) for name in bound.key_names(other)],
    }
    if linked is not None:
        partner = bound.link if mine == "t" else column("holders", "target_key")
        assert partner is not None
        if mine == "t":
            keys[other] = [case(None, [(linked, partner)], keys[other][0])]
        else:
            held_by = [column("holders", name) for name in bound.key_names("t")]
            keys[other] = [
                case(None, [(linked.copy(), holder)], key) for holder, key in zip(held_by, keys[other], strict=True)
            ]
    outcome, name, confidence = (
        part.this for part in verdict(bound, exp.Coalesce(this=decided, expressions=[exp.Neg(this=exp.paren(tied))]))
    )
    of_people: list[tuple[exp.Expr, exp.Expr]] = [
        (exp.EQ(this=decided.copy(), expression=exp.Literal.number(0)), exp.Literal.string("matched"))
    ]
    names: list[tuple[exp.Expr, exp.Expr]] = [(of_people[0][0].copy(), exp.Literal.string(OVERRIDE))]
    sure: list[tuple[exp.Expr, exp.Expr]] = [(of_people[0][0].copy(), exp.Literal.number(1))]
    select = exp.Select().from_(bound.relation[mine].aliased(mine))
    for listed, table, word in (
        (pool.conflicted, CONFLICTED, "ambiguous"),
        (mine in pool.excluded, EXCLUDED[mine], "excluded"),
    ):
        if listed:
            found = exp.Not(this=exp.Is(this=column(table, own[0]), expression=exp.Null()))
            of_people.insert(0, (found, exp.Literal.string(word)))
            names.insert(0, (found.copy(), exp.Literal.string(OVERRIDE)))
            sure.insert(0, (found.copy(), exp.Null()))
            select = select.join(
                temporary(table, table), on=exp.and_(*equal(bound.keys(mine), table, own)), join_type="left"
            )
    if linked is not None:
        of_people.insert(0, (linked.copy(), exp.Literal.string("linked")))
        names.insert(0, (linked.copy(), exp.Null()))
        sure.insert(0, (linked.copy(), exp.Null()))
        if mine == "s":
            select = _with_holders(bound, select)
    select = select.select(
        *[tree for side in SIDES for tree in named(keys[side], bound.key_names(side))],
        *said(case(None, of_people, outcome), case(None, names, name), case(None, sure, confidence.this)),
    )
    for table, alias in ((DECIDED, "decided"), (TIED, "tied")):
        on = equal(bound.keys(mine), alias, own)
        if table == TIED:
            waiting = _awaiting_review(bound)
            waiting.set("this", tied.copy())
            on.append(waiting)
        select = select.join(temporary(table, alias), on=exp.and_(*on), join_type="left")
    conditions = pool.looked_at(bound, mine)
    return select.where(*conditions) if conditions else select


def _linked(bound: Bound) -> exp.Expr | None:
    """Whether the record holds a link, or is held by one."""
    if bound.link is None:
        return None
    if bound.population == "t":
        return exp.Not(this=exp.Is(this=bound.link, expression=exp.Null()))
    return exp.Not(this=exp.Is(this=column("holders", "records"), expression=exp.Null()))


def _with_holders(bound: Bound, select: exp.Select) -> exp.Select:
    """Join which target holds each source; where several do, none is named."""
    assert bound.spec.link is not None
    held = column("t", bound.spec.link.column)
    names = bound.key_names("t")
    alone = exp.EQ(this=exp.Count(this=exp.Star()), expression=exp.Literal.number(1))
    ones = [case(None, [(alone.copy(), only(bound, "t", key))]) for key in bound.keys("t")]
    holders = (
        exp.Select(
            expressions=[
                *named([held], ["held"]),
                *named(ones, names),
                exp.alias_(exp.Count(this=exp.Star()), "records", quoted=True),
            ]
        )
        .from_(bound.holders.aliased("t"))
        .where(*not_null([held]))
        .group_by(held.copy())
    )
    table = exp.Subquery(this=holders, alias=exp.TableAlias(this=identifier("holders")))
    same = pools.same_key(bound, column("holders", "held"))
    return select.join(table, on=same, join_type="left")
