"""After the passes: which matched records agree, which differ and in what, which records are valid, and which exist
on one side only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlglot import exp

from recon.matching import one_to_one
from recon.matching import pool as pools
from recon.matching.bound import Bound
from recon.matching.pool import OTHER_TIED, SIDES, Pool, creating, temporary
from recon.matching.statements import case, equal, named, no_keys, said
from recon.names import DIALECT, Side, column, identifier


def concerns(bound: Bound) -> bool:
    """Whether a spec asks for anything of this."""
    return bool(bound.compared or bound.valid)


def alone(bound: Bound, side: Side) -> str:
    """What a record is called that has no partner, where the spec compares."""
    return "orphan" if side == "t" else "missing"


def compared(bound: Bound, decisions: exp.Query, partly: bool) -> exp.Select:
    """Decisions with matched and linked pairs compared and source records checked; adds `reason` and `evidence`.

    Args:
        bound: the spec.
        decisions: the statement that decides.
        partly: whether the run looks at a part only, so that nothing can be called absent.
    """
    base = exp.Subquery(this=decisions, alias=exp.TableAlias(this=identifier("decided")))
    select = exp.Select().from_(base)
    for side in SIDES:
        on = [*equal(bound.keys(side), "decided", bound.key_names(side)), *bound.where(side)]
        select = select.join(bound.relation[side].aliased(side), on=exp.and_(*on), join_type="left")
    keys = [column("decided", name) for side in SIDES for name in bound.key_names(side)]
    name: exp.Expr = column("decided", "pass")
    if bound.valid:
        partner = column("decided", bound.key_names(bound.other)[0])
        apart = exp.and_(_invalid(bound), exp.Is(this=partner, expression=exp.Null()))
        name = case(None, [(exp.Not(this=exp.paren(apart)), name)])
    return select.select(
        *keys,
        *said(outcome(bound, partly), name, confidence(bound)),
        exp.alias_(exp.cast(exp.Null(), "text"), "reason", quoted=True),
        exp.alias_(evidence(bound), "evidence", quoted=True),
    )


def _decided_as(*outcomes: str) -> exp.Expr:
    return exp.In(this=column("decided", "outcome"), expressions=[exp.Literal.string(word) for word in outcomes])


def _exists(bound: Bound, side: Side) -> exp.Expr:
    return exp.Not(this=exp.Is(this=bound.keys(side)[0], expression=exp.Null()))


def outcome(bound: Bound, partly: bool) -> exp.Expr:
    """The outcome of a decision once its records were compared and checked."""
    parts: list[tuple[exp.Expr, exp.Expr]] = []
    if bound.valid:
        parts.append((_invalid(bound), exp.Literal.string("invalid")))
    if bound.compared:
        word = case(None, [(_differ(bound), exp.Literal.string("changed"))], exp.Literal.string("same"))
        parts.append((_is_pair(bound), word))
        if not partly:
            parts.append((_decided_as("unmatched"), exp.Literal.string(alone(bound, bound.population))))
    return case(None, parts, column("decided", "outcome"))


def confidence(bound: Bound) -> exp.Expr:
    """How sure a decision is; nothing is said of one that rests on an invalid record."""
    sure = column("decided", "confidence")
    return case(None, [(exp.Not(this=exp.paren(_invalid(bound))), sure)]) if bound.valid else sure


def _is_pair(bound: Bound) -> exp.Expr:
    return exp.and_(_decided_as("matched", "linked"), *[_exists(bound, side) for side in SIDES])


def _differ(bound: Bound) -> exp.Expr:
    return exp.or_(*[item.differs() for item in bound.compared])


def _invalid(bound: Bound) -> exp.Expr:
    """The decision rests on a source record that fails a rule of `valid`."""
    holds = exp.and_(*[rule.holds() for rule in bound.valid])
    if bound.population == "s":
        concerned = exp.Not(this=_decided_as("excluded"))
    else:
        outcomes = ["matched", "proposed", *(["linked"] if bound.compared else [])]
        concerned = _decided_as(*outcomes)
    return exp.and_(concerned, _exists(bound, "s"), exp.Not(this=exp.paren(holds)))


def evidence(bound: Bound) -> exp.Expr:
    """What differs, with both values; or what is wrong with the source record."""
    parts: list[tuple[exp.Expr, exp.Expr]] = []
    if bound.valid:
        issues = [
            case(None, [(exp.Not(this=rule.holds()), exp.cast(exp.Literal.string(rule.issue), "text"))])
            for rule in bound.valid
        ]
        failed = exp.Anonymous(this="array_remove", expressions=[exp.Array(expressions=issues), exp.Null()])
        parts.append((_invalid(bound), _object({"issues": failed})))
    if bound.compared:
        differences: list[exp.Expr] = []
        for item in bound.compared:
            values = _object({"before": item.target.copy(), "after": item.source.copy()})
            differences.append(case(None, [(item.differs(), _object({item.name: values}))], _object({})))
        merged = differences[0]
        for difference in differences[1:]:
            merged = exp.DPipe(this=merged, expression=difference)
        changed = exp.and_(_is_pair(bound), _differ(bound))
        parts.append((changed, _object({"changes": exp.paren(merged)})))
    return case(None, parts)


def _object(values: dict[str, exp.Expr]) -> exp.Expr:
    arguments: list[exp.Expr] = []
    for name, value in values.items():
        arguments += [exp.Literal.string(name), value]
    return exp.Anonymous(this="jsonb_build_object", expressions=arguments)


# -- the other side --------------------------------------------------------------------------------------


def other_side(bound: Bound, pool: Pool, table: exp.Table) -> Iterator[str]:
    """The statements that list the other side's records that nothing decided, held or left for a person: `missing`, or `orphan`."""
    if bound.spec.cardinality == "many_to_one":
        none_tied = exp.Select(expressions=no_keys(bound, "s")).where(exp.false())
        yield creating(temporary(OTHER_TIED), _tied_sources(bound, pool, table) or none_tied)
    side = bound.other
    conditions = pool.eligible(bound, side)
    if bound.link is not None and bound.spec.cardinality == "many_to_one":
        conditions.append(exp.Not(this=pools.held(bound)))
    own = equal(bound.keys(side), "decision", bound.key_names(side))
    decision = table.copy()
    decision.set("alias", exp.TableAlias(this=identifier("decision")))
    listed = exp.Exists(this=exp.Select(expressions=[exp.Literal.number(1)]).from_(decision).where(*own))
    conditions += [exp.Not(this=listed), exp.Not(this=one_to_one.other_tied(bound))]
    if side == "s":
        conditions += [rule.holds() for rule in bound.valid]
    keys = {side: named(bound.keys(side), bound.key_names(side)), bound.population: no_keys(bound, bound.population)}
    query = (
        exp.Select(
            expressions=[
                *[tree for each in SIDES for tree in keys[each]],
                *said(exp.Literal.string(alone(bound, side))),
            ]
        )
        .from_(bound.relation[side].aliased(side))
        .where(*conditions)
    )
    yield exp.Insert(this=table.copy(), expression=query).sql(DIALECT, pretty=True)


def _tied_sources(bound: Bound, pool: Pool, table: exp.Table) -> exp.Query | None:
    """Source records among which a person must choose for some target."""
    queries: list[exp.Select] = []
    for rule in bound.passes:
        if rule.rule.on_tie != "review":
            continue
        decision = table.copy()
        decision.set("alias", exp.TableAlias(this=identifier("decision")))
        own = [
            *equal(bound.target_keys, "decision", bound.key_names("t")),
            exp.EQ(this=column("decision", "outcome"), expression=exp.Literal.string("ambiguous")),
            exp.EQ(this=column("decision", "pass"), expression=exp.Literal.string(rule.name)),
        ]
        order = exp.Order(expressions=[term.ordered() for term in rule.prefer]) if rule.prefer else None
        place = exp.Window(
            this=exp.Anonymous(this="rank", expressions=[]),
            partition_by=[key.copy() for key in bound.target_keys],
            order=order,
        )
        ranked = (
            exp.Select(
                expressions=[*named(bound.source_keys, bound.key_names("s")), exp.alias_(place, "place", quoted=True)]
            )
            .from_(bound.target.aliased("t"))
            .join(decision, on=exp.and_(*own))
            .join(bound.source.aliased("s"), on=exp.and_(*rule.candidate()))
            .where(*pool.eligible(bound, "s"), *pool.allowed(bound))
        )
        best = exp.Select(expressions=[column("ranked", name) for name in bound.key_names("s")]).from_(
            exp.Subquery(this=ranked, alias=exp.TableAlias(this=identifier("ranked")))
        )
        queries.append(best.where(exp.EQ(this=column("ranked", "place"), expression=exp.Literal.number(1))))
    if not queries:
        return None
    whole: exp.Query = queries[0]
    for query in queries[1:]:
        whole = exp.union(whole, query, distinct=False)
    return whole


def outcomes_alone(bound: Bound) -> Sequence[str]:
    """The outcomes of records of the population that have no partner."""
    return ("unmatched", alone(bound, bound.population)) if bound.compared else ("unmatched",)


def outcome_of_other_side(bound: Bound) -> str | None:
    """The outcome that stands for records of the other side, where the spec compares."""
    return alone(bound, bound.other) if bound.compared else None
