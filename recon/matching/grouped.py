"""Records counted by the values that a pass compares: what profiles and numbers of candidates are made of.

A pass over 1 M × 1 M records may have billions of pairs, but never more than 1 M values on a side. So both sides
are grouped first, and only the groups are joined.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager

from sqlglot import exp

from recon import expressions
from recon.allowed import SHOWN_CHARACTERS, shortened
from recon.database.connect import Session
from recon.database.relations import Relation
from recon.expressions import TEXT_TYPES
from recon.matching.bound import Bound
from recon.names import DIALECT, Side, column, identifier

# For statements over whole groups. Those of records that were never analysed are guessed to be few, and a nested loop
# over a million of them would not end. Compiling such short statements takes longer than running them. A million
# values fit into 64 MB; a server that allows more keeps it.
_PLANNER = """
    SELECT set_config('enable_nestloop', 'off', true), set_config('jit', 'off', true), set_config(
        'work_mem', greatest(pg_size_bytes(current_setting('work_mem')) / 1024, 65536)::text || 'kB', true
    )
"""

_PLAIN_NAME = re.compile(r"[a-z_][a-z0-9_]*")


@contextmanager
def hashed(session: Session) -> Generator[None]:
    """While this is open, statements are planned for large groups; afterwards as before."""
    with session.driver.transaction(force_rollback=True):  # a savepoint: the settings end with it
        session.execute(_PLANNER)
        yield


def by_value(
    bound: Bound, side: Side, values: Sequence[exp.Expr], where: Sequence[exp.Expr], *, nulls: bool = False
) -> exp.Select:
    """One row for each combination of values: key_1, key_2, … and in `records` how many records have it.

    Args:
        bound: the spec and its relations.
        side: whose records.
        values: expressions over that side.
        where: what the records must satisfy.
        nulls: whether combinations with a NULL are kept, which equal nothing.
    """
    names = key_names(len(values))
    # The values have names first: a constant in GROUP BY would be read as a column's number, or refused.
    valued = exp.Select(
        expressions=[exp.alias_(part.copy(), name, quoted=True) for part, name in zip(values, names, strict=True)]
    ).from_(bound.relation[side].aliased(side))
    valued = valued.where(*[part.copy() for part in where]) if where else valued
    keys = [column("valued", name) for name in names]
    counted = (
        exp.Select(expressions=[*keys, exp.alias_(exp.Count(this=exp.Star()), "records", quoted=True)])
        .from_(exp.Subquery(this=valued, alias=exp.TableAlias(this=identifier("valued"))))
        .group_by(*[key.copy() for key in keys])
    )
    return counted if nulls else counted.where(*[filled(key) for key in keys])


def key_names(count: int) -> list[str]:
    return [f"key_{number}" for number in range(1, count + 1)]


def same_values(left: str, right: str, count: int) -> exp.Expr:
    """That the groups of two tables have the same values."""
    return exp.and_(*[exp.EQ(this=column(left, name), expression=column(right, name)) for name in key_names(count)])


def column_value(relation: Relation, alias: str, name: str) -> exp.Expr:
    """A column as a value to group by or compare: text by bytes."""
    value = column(alias, name)
    return expressions.collate(value) if relation.columns[name] in TEXT_TYPES else value


def filled(value: exp.Expr) -> exp.Expr:
    return exp.Not(this=exp.Is(this=value.copy(), expression=exp.Null()))


def empty(value: exp.Expr) -> exp.Expr:
    return exp.Is(this=value.copy(), expression=exp.Null())


def table(name: str) -> exp.Table:
    """A named step of the statement."""
    return exp.Table(this=identifier(name))


def only(aggregate: exp.Expr, test: exp.Expr) -> exp.Filter:
    """An aggregate over those rows for which a condition holds."""
    return exp.Filter(this=aggregate, expression=exp.Where(this=test))


def summed(value: exp.Expr, test: exp.Expr | None = None) -> exp.Expr:
    """A sum that is 0, not NULL, where there is nothing to add."""
    total: exp.Expr = exp.Sum(this=value)
    return exp.Coalesce(this=total if test is None else only(total, test), expressions=[exp.Literal.number(0)])


def as_text(value: exp.Expr) -> exp.Expr:
    """A value as people see it, one character longer than what is shown, so that `shortened` marks it."""
    return exp.Anonymous(
        this="left", expressions=[exp.cast(value.copy(), "text"), exp.Literal.number(SHOWN_CHARACTERS + 1)]
    )


def bare(value: exp.Expr, *, as_text: bool) -> exp.Expr:
    """The expression without what was put around it for comparing; `as_text`: whether the pass compares as text."""
    while isinstance(value, (exp.Collate, exp.Paren)) or (as_text and isinstance(value, exp.Cast)):
        as_text = as_text and not isinstance(value, exp.Cast)
        value = value.this
    return value


def label(value: exp.Expr) -> str:
    """An expression as one would write it in `on` of a spec, where a bare name belongs to its side."""
    tree = exp.column(value.this.copy()) if isinstance(value, exp.Column) else value.copy()
    for name in tree.find_all(exp.Identifier):
        name.set("quoted", not _PLAIN_NAME.fullmatch(name.name))
    return shortened(tree.sql(DIALECT, normalize_functions="lower"))
