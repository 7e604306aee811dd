"""The query that checks look at where a spec sets no link: what the latest run of the whole decided takes its place.

Whether both records are still there, whether their rules hold, and whether an id stands for one record only are read from
the tables as they are now.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from recon import expressions
from recon.database import tables
from recon.matching.bound import Bound, key_names
from recon.matching.coverage import RECONCILED
from recon.matching.statements import equal, named
from recon.names import DIALECT, Side, column, identifier
from recon.spec import Reconciliation

RECORD = "record"  # the key as text; of a composite one the parts as a JSON array
RECONCILED_NOW = "reconciled"
PARTNER_EXISTS = "partner_exists"
ONE_PARTNER = "one_partner"
IDENTITY_ONCE = "identity_once"
_DECISION, _DOUBLED = "decision", "doubled"


def right_column(name: str) -> str:
    """The column that says whether a rule of `expect.right` holds; the prefix keeps it apart from the other columns."""
    return f"right_{name}"


def knows_identity(spec: Reconciliation) -> bool:
    """Whether the first pass says who a record is: by equal ids alone, one record of each side for one of the other."""
    first = spec.passes[0]
    by_ids = bool(first.on) and not first.windows and not first.prefer and first.when is None
    return spec.cardinality == "one_to_one" and first.accept == "auto" and by_ids


def checked(bound: Bound, decided: Sequence[str]) -> exp.Query:
    """One row for each record of the population, and of the target too where an id must stand for one record only.

    `decided` are the runs whose decisions count. Columns: `record`; `reconciled`, NULL for what a person left out; `partner_exists` and `right_<name>`, NULL where no
    partner was decided; `one_partner`, whether at most one record of the other side bears the same id; `identity_once`,
    of the target's records with an id, whether no other bears it.
    """
    identity = knows_identity(bound.spec)
    whole: exp.Query = _population(bound, decided, identity)
    if identity and bound.population == "s":
        whole = exp.union(whole, _targets(bound), distinct=False)
    return whole


def _population(bound: Bound, decided: Sequence[str], identity: bool) -> exp.Select:
    side, other = bound.population, bound.other
    outcome = column(_DECISION, "outcome")
    is_pair = exp.In(this=outcome.copy(), expressions=[exp.Literal.string(name) for name in RECONCILED])
    left_out = exp.EQ(this=outcome.copy(), expression=exp.Literal.string("excluded"))
    partner = exp.Not(this=exp.Is(this=bound.keys(other)[0], expression=exp.Null()))
    reconciled = exp.Case(
        ifs=[exp.If(this=left_out, true=exp.cast(exp.Null(), "boolean"))], default=_surely(is_pair.copy())
    )
    query = exp.Select(
        expressions=[
            exp.alias_(_record(bound, side), RECORD, quoted=True),
            exp.alias_(reconciled, RECONCILED_NOW, quoted=True),
            exp.alias_(_where(is_pair, partner), PARTNER_EXISTS, quoted=True),
            *[
                exp.alias_(
                    _where(is_pair, bound.resolve(expressions.parse(text, "t"))), right_column(name), quoted=True
                )
                for name, text in bound.spec.expect.right.items()
            ],
        ]
    ).from_(bound.relation[side].aliased(side))
    query = query.join(
        _decisions(bound, decided),
        on=exp.and_(*equal(bound.keys(side), _DECISION, bound.key_names(side))),
        join_type="left",
    )
    query = query.join(
        bound.relation[other].aliased(other),
        on=exp.and_(*equal(bound.keys(other), _DECISION, bound.key_names(other))),
        join_type="left",
    )
    if identity:
        names = key_names("key", len(bound.keys(side)))
        alias = exp.TableAlias(this=identifier(_DOUBLED))
        query = query.join(
            exp.Subquery(this=_several(bound, names), alias=alias),
            on=exp.and_(*equal(bound.keys(side), _DOUBLED, names)),
            join_type="left",
        )
        alone = exp.Is(this=column(_DOUBLED, names[0]), expression=exp.Null())
        once = _once(bound) if side == "t" else exp.cast(exp.Null(), "boolean")
        query = query.select(
            exp.alias_(alone, ONE_PARTNER, quoted=True), exp.alias_(once, IDENTITY_ONCE, quoted=True), copy=False
        )
    return query.where(*bound.where(side))


def _decisions(bound: Bound, decided: Sequence[str]) -> exp.Expr:
    """The decisions of these runs, which are about different records, under their alias."""
    alias = exp.TableAlias(this=identifier(_DECISION))
    found = [tables.own("decisions", run) for run in decided]
    if len(found) == 1:
        found[0].set("alias", alias)
        return found[0]
    names = [*bound.key_names("t"), *bound.key_names("s"), "outcome"]
    parts = [exp.Select(expressions=[identifier(name) for name in names]).from_(table) for table in found]
    return exp.Subquery(this=exp.union(*parts, distinct=False), alias=alias)


def _several(bound: Bound, names: list[str]) -> exp.Select:
    """The keys of the population's records that more than one record of the other side bears the id of."""
    side, other = bound.population, bound.other
    return (
        exp.Select(expressions=named(bound.keys(side), names))
        .from_(bound.relation[side].aliased(side))
        .join(bound.relation[other].aliased(other), on=exp.and_(*bound.passes[0].candidate(), *bound.where(other)))
        .group_by(*[key.copy() for key in bound.keys(side)])
        .having(exp.GT(this=exp.Count(this=exp.Star()), expression=exp.Literal.number(1)))
    )


def _targets(bound: Bound) -> exp.Select:
    """The target's records beside a population of source records."""
    unsaid = [RECONCILED_NOW, PARTNER_EXISTS, *(right_column(name) for name in bound.spec.expect.right), ONE_PARTNER]
    return (
        exp.Select(
            expressions=[
                exp.alias_(_record(bound, "t"), RECORD, quoted=True),
                *[exp.alias_(exp.cast(exp.Null(), "boolean"), name, quoted=True) for name in unsaid],
                exp.alias_(_once(bound), IDENTITY_ONCE, quoted=True),
            ]
        )
        .from_(bound.target.aliased("t"))
        .where(*bound.where("t"))
    )


def _once(bound: Bound) -> exp.Expr:
    """Whether no other record of the target bears the same id; NULL where it bears none."""
    scope = [column("t", bound.spec.scope)] if bound.spec.scope else []
    parts = [*scope, *(tree.copy() for tree in bound.passes[0].targets)]
    known = exp.and_(*[exp.Not(this=exp.Is(this=exp.paren(part.copy()), expression=exp.Null())) for part in parts])
    count = exp.Window(this=exp.Count(this=exp.Star()), partition_by=parts)
    return exp.Case(ifs=[exp.If(this=known, true=exp.EQ(this=count, expression=exp.Literal.number(1)))])


def _record(bound: Bound, side: Side) -> exp.Expr:
    parts = [exp.cast(key.copy(), "text") for key in bound.keys(side)]
    if len(parts) == 1:
        return parts[0]
    return exp.cast(exp.Anonymous(this="jsonb_build_array", expressions=parts), "text")


def _surely(condition: exp.Expr) -> exp.Expr:
    return exp.Coalesce(this=exp.paren(condition), expressions=[exp.false()])


def _where(is_pair: exp.Expr, condition: exp.Expr) -> exp.Expr:
    """The condition where the record has a partner, unknown counting as false; else NULL, which checks pass over."""
    return exp.Case(ifs=[exp.If(this=is_pair.copy(), true=_surely(condition.copy()))])


def examples(bound: Bound, decided: Sequence[str], condition: exp.Expr, limit: int) -> str:
    """The statement that names the first records for which a condition over the columns of `checked` holds."""
    inner = exp.Subquery(this=checked(bound, decided), alias=exp.TableAlias(this=identifier("checked")))
    record = column("checked", RECORD)
    query = exp.Select(expressions=[record]).from_(inner).where(condition)
    return query.order_by(expressions.collate(record.copy())).limit(limit).sql(DIALECT)
