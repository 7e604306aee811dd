"""Keys of records as text: as a person writes them, as the server writes them, and from the one to the other.

What outlives a run (overrides, breaks) keeps a key as an array of text, one part for each key column, written as the
server writes the record's own values. So '007' for an integer key is 7, and 1.5 may be 1.50.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import psycopg
from sqlglot import exp

from recon import expressions
from recon.database.connect import Session
from recon.database.relations import Relation
from recon.errors import UsageError
from recon.names import DIALECT, column

WORDS = {"t": "target", "s": "source"}


def parts(text: str, names: Sequence[str]) -> list[str]:
    """The parts of a key as a person writes it: a plain value, or a JSON array for a composite key.

    Raises:
        UsageError: it has not as many parts as the key has columns.

    >>> parts("007", ["id"]), parts('["a", 7, "1.50"]', ["x", "y", "z"])
    (['007'], ['a', '7', '1.50'])
    """
    if len(names) == 1:
        return [text]
    found = in_array(text)
    if found is None or len(found) != len(names):
        raise UsageError(
            f"Cannot read {text} as a key.", todo=f"Give a JSON array of {len(names)} values: {', '.join(names)}."
        )
    return found


def in_array(text: str) -> list[str] | None:
    """The parts of a key that is written as a JSON array; None for any other text."""
    try:
        found = json.loads(text, parse_int=str, parse_float=str, parse_constant=str)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or not all(isinstance(part, (str, bool)) for part in found):
        return None
    return [part if isinstance(part, str) else str(part).lower() for part in found]


def shown(key: Sequence[str] | None) -> str | None:
    """A key as people read and write it: the one value, or a JSON array.

    >>> shown(["7"]), shown(["a", "7"]), shown(None)
    ('7', '["a", "7"]', None)
    """
    if key is None:
        return None
    return key[0] if len(key) == 1 else json.dumps(list(key), ensure_ascii=False)


def as_text(columns: Sequence[exp.Expr]) -> exp.Array:
    """Key columns as the array of text that is kept, compared by bytes."""
    return exp.Array(expressions=[expressions.collate(exp.cast(part.copy(), "text")) for part in columns])


def same(kept: exp.Expr, columns: Sequence[exp.Expr]) -> exp.Expr:
    """Whether a kept key is that of a record. Part by part: that is joined ten times as fast as whole arrays are."""
    length = exp.Anonymous(this="cardinality", expressions=[kept.copy()])
    parts_equal = [
        exp.EQ(this=exp.Bracket(this=kept.copy(), expressions=[exp.Literal.number(number)], offset=1), expression=part)
        for number, part in enumerate(as_text(columns).expressions, start=1)
    ]
    return exp.and_(*parts_equal, exp.EQ(this=length, expression=exp.Literal.number(len(columns))))


def find(session: Session, relation: Relation, names: Sequence[str], key: Sequence[str]) -> list[str] | None:
    """The key of the record that this one means, as the server writes it; None where there is no such record.

    Args:
        session: an open session.
        relation: the records.
        names: its key columns.
        key: the parts as a person wrote them; the server reads them as values of the columns' types.

    Raises:
        UsageError: the columns' types cannot hold them.
    """
    columns = [column(relation.side, name) for name in names]
    # A bare parameter takes the column's type without its length or scale, where a cast would cut AB10 to AB1.
    equal = [
        exp.EQ(this=part, expression=exp.Parameter(this=exp.Literal.number(number)))
        for number, part in enumerate(columns, start=1)
    ]
    query = exp.Select(expressions=[as_text(columns)]).from_(relation.aliased(relation.side)).where(*equal)
    try:
        with session.driver.transaction():  # asked for no row, so that no other error is taken for this one
            session.rows(query.limit(0).sql(DIALECT), *key)
    except (psycopg.DataError, UnicodeEncodeError) as error:
        raise _not_a_key(relation, names, key) from error
    return session.value(query.limit(1).sql(DIALECT), *key)


def written(session: Session, relation: Relation, names: Sequence[str], key: Sequence[str]) -> list[str] | None:
    """A key as the server writes such values, whether there is such a record or not; None where its types cannot."""
    table = relation.aliased(relation.side)
    values = [
        # Beside a column's value the parameter takes the column's type; no row is read.
        exp.Coalesce(
            this=exp.Subquery(this=exp.Select(expressions=[column(relation.side, name)]).from_(table.copy()).limit(0)),
            expressions=[exp.Parameter(this=exp.Literal.number(number))],
        )
        for number, name in enumerate(names, start=1)
    ]
    try:
        with session.driver.transaction():
            return session.value(exp.Select(expressions=[as_text(values)]).sql(DIALECT), *key)
    except (psycopg.DataError, UnicodeEncodeError):
        return None


def _not_a_key(relation: Relation, names: Sequence[str], key: Sequence[str]) -> UsageError:
    kinds = [f"{name} is {relation.sql_types[name]}" for name in names]
    return UsageError(
        f"{shown(key)!r} is not a key of {relation.label}.", why=f"There {' and '.join(kinds)}.", todo="Check the key."
    )
