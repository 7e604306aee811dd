"""Comparing two tables by keys that are unique on both sides: one FULL JOIN instead of passes.

The commonest comparison (a mirror against its original) has one pass whose `on` columns each side keeps unique by an
index. Then nothing can be tied or taken, and one join says which records agree, differ, or exist on one side only.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlglot import exp

from recon.database import relations
from recon.database.connect import Session
from recon.matching import comparison, one_to_one
from recon.matching.bound import Bound
from recon.matching.pool import SIDES, Pool, creating
from recon.matching.statements import named, said
from recon.names import Side, column, identifier


def suits(session: Session, bound: Bound, pool: Pool) -> bool:
    """Whether one FULL JOIN gives this spec's decisions."""
    if not bound.compared or bound.link is not None or len(bound.passes) != 1 or pool.restricted:
        return False
    rule = bound.passes[0]
    if bound.spec.cardinality != "one_to_one" or not rule.by_key or rule.prefer or rule.conditions():
        return False
    if rule.rule.accept == "review":  # nothing is same or changed before a person has said so
        return False
    return all(_unique(session, bound, side) for side in SIDES)


def _unique(session: Session, bound: Bound, side: Side) -> bool:
    names: list[str] = []
    for part in bound.passes[0].on(side):
        plain = part.this if isinstance(part, exp.Collate) else part
        if not isinstance(plain, exp.Column):
            return False
        names.append(plain.name)
    return relations.is_unique(session, bound.relation[side], names)


def steps(bound: Bound, table: exp.Table) -> Iterator[str]:
    """The one statement that decides, in the columns of every table of decisions; and empty tables of what passes leave."""
    yield from one_to_one.start(bound, Pool())
    rule = bound.passes[0]
    sides: dict[Side, exp.Expr] = {}
    for side in SIDES:
        records = exp.Select(expressions=[exp.Star()]).from_(bound.relation[side].aliased(side))
        where = bound.where(side)
        records = records.where(*where) if where else records
        sides[side] = exp.Subquery(this=records, alias=exp.TableAlias(this=identifier(side)))
    both = exp.and_(*[exp.Not(this=exp.Is(this=bound.keys(side)[0], expression=exp.Null())) for side in SIDES])
    met = exp.Case(ifs=[exp.If(this=both, true=exp.Literal.string("matched"))], default=exp.Literal.string("unmatched"))
    name = exp.Case(ifs=[exp.If(this=both.copy(), true=exp.cast(exp.Literal.string(rule.name), "text"))])
    sure = exp.Case(ifs=[exp.If(this=both.copy(), true=exp.Literal.number(str(rule.confidence)))])
    decided = exp.Lateral(
        this=exp.Subquery(this=exp.Select(expressions=said(met, name, sure))),
        alias=exp.TableAlias(this=identifier("decided")),
    )
    other = exp.Is(this=bound.keys(bound.population)[0], expression=exp.Null())
    outcome = exp.Case(
        ifs=[exp.If(this=other, true=exp.Literal.string(comparison.alone(bound, bound.other)))],
        default=comparison.outcome(bound, partly=False),
    )
    select = (
        exp.Select(
            expressions=[
                *[tree for side in SIDES for tree in named(bound.keys(side), bound.key_names(side))],
                *said(outcome, column("decided", "pass"), comparison.confidence(bound)),
                exp.alias_(exp.cast(exp.Null(), "text"), "reason", quoted=True),
                exp.alias_(comparison.evidence(bound), "evidence", quoted=True),
            ]
        )
        .from_(sides["t"])
        .join(sides["s"], on=exp.and_(*rule.equalities()), join_type="full")
        .join(decided, join_type="cross")
    )
    if bound.population == "t" and bound.valid:
        holds = exp.and_(*[rule.holds() for rule in bound.valid])
        select = select.where(exp.or_(exp.Not(this=other.copy()), exp.paren(holds)))
    yield creating(table, select)
