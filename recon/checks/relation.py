"""The one query that checks look at: a row for each record of the population, with what must hold as columns."""

from __future__ import annotations

from sqlglot import exp

from recon import expressions
from recon.matching.bound import Bound, key_names
from recon.names import column, identifier

LINKED = "linked"
LINK_EXISTS = "link_exists"
LINKED_ONCE = "linked_once"


def right_column(name: str) -> str:
    """The column that says whether a rule of `expect.right` holds; the prefix keeps it apart from the other columns."""
    return f"right_{name}"


def checked(bound: Bound) -> exp.Select:
    """One row for each target record under the target's `where`.

    Columns: target_key…; `linked`, the link's value; `link_exists`, whether the source has that record, NULL
    where nothing is linked; with one_to_one `linked_once`, whether no other of these records holds the same source, NULL
    where nothing is linked; `right_<name>` for each rule, NULL where nothing is linked and FALSE where the rule
    is false *or unknown*. The source's `where` plays no part: a link made before may lead to any record.
    """
    link = bound.link
    assert link is not None, "only specs with a link are checked"
    key = bound.source_keys[0]
    rules = [
        exp.alias_(_where_linked(link, bound.resolve(expressions.parse(text, "t"))), right_column(name), quoted=True)
        for name, text in bound.spec.expect.right.items()
    ]
    if bound.spec.cardinality == "one_to_one":
        sharing = exp.Window(this=exp.Count(this=exp.Star()), partition_by=[link.copy()])
        alone = exp.EQ(this=sharing, expression=exp.Literal.number(1))
        rules.insert(0, exp.alias_(_where_linked(link, alone), LINKED_ONCE, quoted=True))
    query = (
        exp.Select(
            expressions=[
                *[
                    exp.alias_(target_key.copy(), name, quoted=True)
                    for target_key, name in zip(bound.target_keys, keys(bound), strict=True)
                ],
                exp.alias_(link.copy(), LINKED, quoted=True),
                exp.alias_(_where_linked(link, exp.not_(_is_null(key))), LINK_EXISTS, quoted=True),
                *rules,
            ]
        )
        .from_(bound.target.aliased("t"))
        .join(bound.source.aliased("s"), on=exp.EQ(this=key.copy(), expression=link.copy()), join_type="left")
    )
    return query.where(bound.target_where.copy()) if bound.target_where is not None else query


def keys(bound: Bound) -> list[str]:
    """The names of the key columns in `checked`."""
    return key_names("target_key", len(bound.target_keys))


def examples(bound: Bound, condition: exp.Expr, limit: int) -> exp.Select:
    """The keys of the first records for which a condition over the columns of `checked` holds, in key order."""
    order: list[exp.Expr] = []
    for name, target_key in zip(keys(bound), bound.target_keys, strict=True):
        is_text = bound.target.columns[target_key.name] in expressions.TEXT_TYPES
        order.append(expressions.collate(column("checked", name)) if is_text else column("checked", name))
    inner = exp.Subquery(this=checked(bound), alias=exp.TableAlias(this=identifier("checked")))
    return (
        exp.Select(expressions=[column("checked", name) for name in keys(bound)])
        .from_(inner)
        .where(condition)
        .order_by(*order)
        .limit(limit)
    )


def doubled_sources(bound: Bound) -> exp.Select:
    """A source key that more than one record bears, if there is one: `checked` would count its targets twice."""
    key = bound.source_keys[0]
    return (
        exp.Select(expressions=[key.copy()])
        .from_(bound.source.aliased("s"))
        .where(exp.not_(_is_null(key)))
        .group_by(key.copy())
        .having(exp.GT(this=exp.Count(this=exp.Star()), expression=exp.Literal.number(1)))
        .limit(1)
    )


def _is_null(tree: exp.Expr) -> exp.Expr:
    return exp.Is(this=tree.copy(), expression=exp.Null())


def _where_linked(link: exp.Column, condition: exp.Expr) -> exp.Expr:
    """The condition where a record is linked, unknown counting as false; else NULL, which the checks pass over."""
    holds = exp.Coalesce(this=exp.paren(condition), expressions=[exp.false()])
    return exp.Case(ifs=[exp.If(this=exp.not_(_is_null(link)), true=holds)])
