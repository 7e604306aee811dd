"""Records that are in no table: one row of bound values in the place of a side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from sqlglot import exp

from recon.database.relations import Relation
from recon.matching.bound import Bound
from recon.names import Side


def literal(relation: Relation, names: Sequence[str], first: int | None = 1) -> Relation:
    """The relation as one row: the named columns are the parameters $first, $first + 1, …; the others are NULL.

    The server takes each value as its column's type, so the planner sees a constant, and an index serves.

    Args:
        relation: whose columns and types the row has.
        names: the columns that are given.
        first: the number of the first parameter; None: every column is NULL, for looking at types only.
    """
    numbers = {name: first + place for place, name in enumerate(names)} if first is not None else {}

    def cell(name: str) -> exp.Expr:
        value = exp.Parameter(this=exp.Literal.number(numbers[name])) if name in numbers else exp.Null()
        # Not exp.cast, which drops a cast that it takes for needless.
        return exp.alias_(exp.Cast(this=value, to=relation.type_of(name)), name, quoted=True)

    listed = list(relation.columns) if first is None else names
    return replace(relation, tree=exp.Select(expressions=[cell(name) for name in listed]), oid=None)


def in_place_of(bound: Bound, side: Side, row: Relation) -> Bound:
    """The same rules with this one row on a side; its `where` is taken to hold."""
    if side == "t":
        return replace(bound, target=row, target_where=None)
    return replace(bound, source=row, source_where=None)


def columns_of(side: Side, trees: Iterable[exp.Expr]) -> list[str]:
    """The columns of one side that these expressions read, each once, in order of appearance."""
    found: dict[str, None] = {}
    for tree in trees:
        for node in exp.Paren(this=tree.copy()).find_all(exp.Column):
            if node.table == side:
                found.setdefault(node.name)
    return list(found)


def among(tree: exp.Expr, relation: Relation, name: str, number: int) -> exp.Expr:
    """The expression equals one of the values of this column that parameter number `number` lists, as text."""
    listed = exp.Parameter(this=exp.Literal.number(number))
    if relation.columns[name].startswith("_"):  # of arrays there is no array: ANY would look into them
        tree, kind = exp.Cast(this=tree, to=exp.DataType.build("text")), "text[]"
    else:
        kind = f"{relation.sql_types[name]}[]"
    values = exp.Cast(this=listed, to=exp.DataType(this=exp.DataType.Type.USERDEFINED, kind=kind))
    return exp.EQ(this=tree, expression=exp.Any(this=exp.paren(values)))
