"""What the columns of a side hold: how much is filled, how many values differ, and which type every value fits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from recon.database.connect import Session
from recon.names import quote
from recon.own_functions import (
    COMMA_DECIMALS,
    COMMA_NUMBER,
    ISO_DAY,
    PARTED_DAY,
    PLAIN_DAY,
    POINT_NUMBER,
    SLASHED_DAY,
)

COUNTED_UP = 5  # numbers of a range that holds no more than so many for each of them share values with any others

FIRST_DAY, LAST_DAY = 1900_01_01, 2100_12_31  # whole numbers between these may be days, such as 20241231

LOOKED_AT = 30_000  # values of a column of texts that are looked at closely; of more, an even part

SOFT = 160_000  # the first server that can say of a value whether it is a day, without failing
# A day that is one whatever the month: what an older server can be asked.
_CAREFUL_DAY = r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])$|^[0-9]{4}-(0[13-9]|1[0-2])-(29|30)$|^[0-9]{4}-(0[13578]|1[02])-31$"

# A whole number or a decimal that reads back as it was written: no leading zeros, no plus, no blanks.
_INTEGER = r"^(0|-?[1-9][0-9]{0,17})$"
_NUMERIC = r"^-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,12})?$"
_DATE = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?$"
_ZONED = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
_TYPES = (
    ("int8", "bigint", _INTEGER, None),
    ("numeric", "numeric", _NUMERIC, None),
    ("date", "date", _DATE, "date"),
    ("timestamp", "timestamp", _MOMENT, "timestamp"),
    ("timestamptz", "timestamptz", _ZONED, "timestamptz"),
)


@dataclass(frozen=True)
class Kind:
    """A column of a side as its values are. Counts are of records."""

    name: str
    base: str  # PostgreSQL's name of its type, such as int8 or text
    type: str  # the type as a person writes it in `columns`
    records: int
    filled: int
    distinct: int
    mean_length: float = 0.0  # characters
    numbers: int = 0  # values that read as a number with a point or a comma
    commas: int = 0  # of these: with a comma before one or two decimals
    only_commas: int = 0  # of these: numbers only if a point parts thousands
    days: int = 0  # values that read as a day
    parted: int = 0  # of these: such as 31.12.2024, in either order
    day_first: int = 0  # of these: the first part is over 12
    month_first: int = 0  # of these: the second part is over 12
    digits: int = 0  # values with a digit
    long_digits: int = 0  # values with nine digits at least
    zeros: int = 0  # values that start with a needless zero
    divided: int = 0  # values in which a point, a comma or a blank stands between digits
    lettered: int = 0  # values with a letter
    blank: int = 0  # values with nothing but blanks and signs: an empty text, a dash
    low: int | None = None  # the least and the greatest of the numbers that its digits make
    high: int | None = None
    declared: bool = False  # the database says that it is the primary key

    @property
    def missing(self) -> float:
        """The share of records in which it says nothing."""
        return 1 - (self.filled - self.blank) / max(self.records, 1)

    @property
    def unique(self) -> bool:
        return self.filled == self.records == self.distinct and self.records > 0 and not self.blank

    @property
    def counted_up(self) -> bool:
        """Whether its numbers fill a good part of their range, as row numbers do: anybody's would."""
        if self.low is None or self.high is None:
            return False
        return self.high - self.low < COUNTED_UP * self.distinct


def look(
    session: Session, table: str, names: Sequence[str], bases: dict[str, str], types: dict[str, str]
) -> list[Kind]:
    """What each column of a table of typed values holds; texts are looked at closely.

    Args:
        session: a transaction with the plain search path.
        table: its name, quoted.
        names: the columns.
        bases: by column, PostgreSQL's name of the type.
        types: by column, the type as a person writes it.
    """
    found: list[Kind] = []
    for name in names:
        column = quote(name)
        if bases[name] in ("json", "jsonb", "xml", "bytea", "point"):
            continue
        of_texts = bases[name] in ("text", "varchar", "bpchar")
        blank = f"count(*) FILTER (WHERE {column} !~ '{_SAID}')" if of_texts else "0"
        records, filled, distinct, blanks = session.rows(
            f"SELECT count(*), count({column}), count(DISTINCT {column}), {blank} FROM {table}"  # noqa: S608
        )[0]
        kind = Kind(name, bases[name], types[name], records, filled, distinct, blank=blanks)
        if of_texts:
            kind = _closely(session, table, kind)
        elif bases[name] in ("int2", "int4", "int8"):
            low, high, length = session.rows(
                f"SELECT min({column}), max({column}), avg(length({column}::text)) FROM {table}"  # noqa: S608
            )[0]
            kind = replace(kind, low=low, high=high, mean_length=float(length or 0))
            soft = session.driver.info.server_version >= SOFT
            if soft and low is not None and low >= FIRST_DAY and high <= LAST_DAY:
                valid = f"count(*) FILTER (WHERE pg_input_is_valid({column}::text, 'date'))"
                kind = replace(kind, days=int(session.value(f"SELECT {valid} FROM {table}")))  # noqa: S608
        found.append(kind)
    return found


def _closely(session: Session, table: str, kind: Kind) -> Kind:
    """A column of texts: what its values read as."""
    part = f" TABLESAMPLE SYSTEM ({100 * LOOKED_AT / kind.filled}) REPEATABLE (1)" if kind.filled > LOOKED_AT else ""
    query = _CLOSELY.format(column=quote(kind.name), table=table + part)
    if session.driver.info.server_version < SOFT:
        query = query.replace(" AND pg_input_is_valid(left(btrim(x), 10), 'date')", " AND left(btrim(x), 10) ~ $8")
        query = query.replace(" AND pg_input_is_valid(left(replace(btrim(x), '.', '/'), 10), 'date')", " AND false")
        query = query.replace(" AND pg_input_is_valid(btrim(x), 'date')", " AND false")
        return _of(kind, session.records(query, *_PATTERNS, _CAREFUL_DAY)[0])
    return _of(kind, session.records(query, *_PATTERNS)[0])


def _of(kind: Kind, row: dict[str, Any]) -> Kind:
    share = kind.filled / max(int(row.pop("looked")), 1)
    return Kind(
        kind.name, "text", kind.type, kind.records, kind.filled, kind.distinct, blank=kind.blank,
        **{name: _counted(name, value, share) for name, value in row.items()},
    )  # fmt: skip


def _counted(name: str, value: Any, share: float) -> Any:
    """A figure of all values, by that of the part that was looked at."""
    if name in ("low", "high"):
        return None if value is None else int(value)
    return float(value or 0) if name == "mean_length" else math.ceil(int(value or 0) * share)


_SAID = r"[^\s!-/:-@\[-`{-~]"  # any sign that says something
_PATTERNS = (POINT_NUMBER, COMMA_DECIMALS, COMMA_NUMBER, ISO_DAY, PLAIN_DAY, PARTED_DAY, SLASHED_DAY)
_CLOSELY = r"""
    WITH looked AS (
        SELECT x, regexp_replace(x, '[^0-9]', '', 'g') AS d,
            regexp_match(x, '^\s*([0-9]{{1,2}})[./-]([0-9]{{1,2}})[./-]') AS parts,
            x ~ $6 AS parted, x ~ $1 AS point, x ~ $2 AS comma, x ~ $3 AS commas,
            x ~ $4 AND pg_input_is_valid(left(btrim(x), 10), 'date')
            OR x ~ $7 AND pg_input_is_valid(left(replace(btrim(x), '.', '/'), 10), 'date')
            OR x ~ $5 AND substring(btrim(x) FROM 1 FOR 2) IN ('19', '20') AND pg_input_is_valid(btrim(x), 'date') AS day
        FROM (SELECT {column}::text AS x FROM {table} WHERE {column} IS NOT NULL) AS filled
    )
    SELECT avg(length(x)) AS mean_length, count(*) FILTER (WHERE point OR comma OR commas) AS numbers,
        count(*) FILTER (WHERE comma) AS commas, count(*) FILTER (WHERE commas AND NOT point AND NOT comma) AS only_commas,
        count(*) FILTER (WHERE day OR parted) AS days, count(*) FILTER (WHERE parted) AS parted,
        count(*) FILTER (WHERE parted AND parts[1]::int > 12) AS day_first,
        count(*) FILTER (WHERE parted AND parts[2]::int > 12) AS month_first,
        count(*) FILTER (WHERE d <> '') AS digits, count(*) FILTER (WHERE length(d) >= 9) AS long_digits,
        count(*) FILTER (WHERE x ~ '^\s*0[0-9]') AS zeros, count(*) FILTER (WHERE x ~ '[0-9][., ][0-9]') AS divided,
        count(*) FILTER (WHERE x ~ '[[:alpha:]]') AS lettered,
        count(*) AS looked, min(n) AS low, max(n) AS high
    FROM (SELECT *, CASE WHEN length(d) BETWEEN 1 AND 17 THEN d::bigint END AS n FROM looked) AS looked
"""


def fitting(session: Session, table: str, names: Sequence[str], encoded: dict[str, str]) -> dict[str, tuple[str, str]]:
    """The type that every value of each column of texts fits and none is changed by: (PostgreSQL's name, as written).

    Args:
        session: a transaction.
        table: a table of texts.
        names: the columns of the file.
        encoded: by column of the file, the table's column.
    """
    found: dict[str, tuple[str, str]] = {}
    for name in names:
        column = quote(encoded[name])
        # A quoted empty field is nothing where the column is of another type than text.
        fits_all = f"coalesce(bool_and({column} ~ ${{}}) FILTER (WHERE {column} <> ''), false)"
        tests = ", ".join(fits_all.format(number) for number in range(1, len(_TYPES) + 1))
        row = session.rows(f"SELECT {tests} FROM {table}", *[pattern for _, _, pattern, _ in _TYPES])[0]  # noqa: S608
        found[name] = ("text", "text")
        for (base, written, _, checked), fits in zip(_TYPES, row, strict=True):
            if fits and (checked is None or session.value(_VALID.format(column=column, table=table), checked)):
                found[name] = (base, written)
                break
    return found


_VALID = "SELECT bool_and(pg_input_is_valid({column}, $1)) FROM {table} WHERE {column} <> ''"
