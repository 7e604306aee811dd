"""Values as a file has them, in a temporary table with their lines: how they become typed ones, and which do not."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlglot import exp

from recon.database.connect import Session
from recon.database.relations import Relation
from recon.errors import VEIL, without_values
from recon.names import DIALECT

TABLE = "pg_temp.recon_raw"
SHOWN = 100  # characters of a value in a message
_SOFT = 160_000  # the first server that can say of a value what is wrong with it, without failing
_TEXTS = ("text", "varchar", "bpchar", "name")
# What a value is compared with as well: the wider type keeps what a narrower one drops without a word.
_WIDER = {"numeric": "numeric", "date": "timestamp", "timestamp": "timestamptz"}
_LOST = {"numeric": "decimals", "date": "the time of day", "timestamp": "the time zone"}
_EXPLAINED = "SELECT message FROM pg_input_error_info($1, $2)"


class Raw:
    """The table of raw values of one load. `refusal` is what the typed table said of them, where it took them not."""

    def __init__(
        self, session: Session, shape: Relation, keys: Sequence[str], private: frozenset[str], row: str = "line"
    ) -> None:
        self._row = row
        self._session, self._shape, self._private = session, shape, private
        self._names = list(shape.columns)
        self._keys = [self._names.index(key) for key in keys]
        self._soft = session.driver.info.server_version >= _SOFT
        self.refusal: psycopg.Error | None = None
        columns = ", ".join(f"{self._raw(place)} text" for place in range(len(self._names)))
        session.execute(f"CREATE TEMPORARY TABLE recon_raw (line bigint, {columns}) ON COMMIT DROP")

    @staticmethod
    def _raw(place: int) -> str:
        return f"c{place + 1}"

    def _type(self, place: int) -> str:
        return self._shape.type_of(self._names[place]).sql(DIALECT)

    def _base(self, place: int) -> str:
        return self._shape.columns[self._names[place]]

    @contextmanager
    def copying(self) -> Generator[Callable[[Sequence[Any]], None]]:
        """Gives a function that takes one row: the line, and the values in the order of the columns."""
        with self._session.driver.cursor() as cursor, cursor.copy(f"COPY {TABLE} FROM STDIN".encode()) as copy:
            yield copy.write_row

    # -- to typed values -----------------------------------------------------------------------------------

    def converted(self) -> dict[str, str]:
        """The typed values, as expressions of a SELECT from the raw ones, by column."""
        return {name: self._typed(place) for place, name in enumerate(self._names)}

    def _typed(self, place: int) -> str:
        base = self._base(place)
        if base in _TEXTS:  # a cast would cut what is too long; without one the table refuses it
            return self._raw(place)
        return f"CAST({self._raw(place)} AS {'varbit' if base in ('bit', 'varbit') else self._type(place)})"

    def _lossy(self, place: int) -> str | None:
        """Whether a value that fits loses something on the way; None where its type keeps all."""
        wider = _WIDER.get(self._base(place))
        if wider is None or (wider == "numeric" and "(" not in self._type(place)):
            return None
        return f"CAST({self._raw(place)} AS {wider}) <> CAST({self._typed(place)} AS {wider})"

    def loses(self, session: Session) -> bool:
        """Whether some value fits its type only by losing decimals, a time of day or a zone."""
        tests = [test for place in range(len(self._names)) if (test := self._lossy(place))]
        if not tests:
            return False
        return session.value(f"SELECT true FROM {TABLE} WHERE {' OR '.join(tests)} LIMIT 1") is not None  # noqa: S608

    # -- what does not fit -----------------------------------------------------------------------------------

    def wrong(self, limit: int) -> tuple[list[tuple[int, str]], int]:
        """The first rows with a value that does not fit, or a key that is empty or there already; and how many there are.

        Returns:
            the line and what is wrong, once for each value; and the number of rows.
        """
        self._session.plain_path()
        for place in range(len(self._names)):
            if not self._explains(place):
                self._session.execute(self._trying(place))
        rows = self._session.records(self._judging(), limit)
        told: list[tuple[int, str]] = []
        for row in rows:
            line = row["line"]
            told += [(line, f"{self._names[place]}: {self._about(line, place)}") for place in self._bad(row)]
            told += [(line, f"{self._names[place]}: the key is empty") for place in self._keys if row[f"e{place}"]]
            if row["first"] is not None and row["first"] < line:
                keys = ", ".join(self._names[place] for place in self._keys)
                told.append((line, f"{keys}: the key {self._key(line)} stands on {self._row} {row['first']:,} already"))
        return told, rows[0]["bad_rows"] if rows else 0

    def _bad(self, row: dict[str, Any]) -> list[int]:
        return [place for place in range(len(self._names)) if row[f"b{place}"]]

    def _explains(self, place: int) -> bool:
        """Whether the server itself says what is wrong with a value: of its own types, from version 16 on."""
        return self._soft and "." not in self._shape.sql_types[self._names[place]]

    def _trying(self, place: int) -> str:
        """A function that says what is wrong with a value, by trying."""
        body = (
            f"DECLARE kept {self._type(place)}; BEGIN kept := given; RETURN NULL;"
            " EXCEPTION WHEN OTHERS THEN RETURN SQLERRM; END"
        )
        return (
            f"CREATE FUNCTION pg_temp.recon_wrong_{place} (given text) RETURNS text LANGUAGE plpgsql"
            f" AS {exp.Literal.string(body).sql(DIALECT)}"
        )

    def _unfit(self, place: int) -> str:
        raw, lossy = self._raw(place), self._lossy(place)
        if self._explains(place):
            kind = exp.Literal.string(self._shape.sql_types[self._names[place]]).sql(DIALECT)
            fails = f"NOT pg_input_is_valid({raw}, {kind})"
        else:
            fails = f"pg_temp.recon_wrong_{place}({raw}) IS NOT NULL"
        return f"{raw} IS NOT NULL AND CASE WHEN {fails} THEN true ELSE {lossy or 'false'} END"

    def _judging(self) -> str:
        """One statement over all raw rows: b0, b1 … where a value is bad, e0 … where a key is empty, and its first line."""
        places = range(len(self._names))
        bad = ", ".join(f"{self._unfit(place)} AS b{place}" for place in places)
        empty = ", ".join(f"{self._raw(place)} IS NULL AS e{place}" for place in self._keys)
        keys = ", ".join(f"CASE WHEN NOT b{place} THEN {self._typed(place)} END AS k{place}" for place in self._keys)
        whole = " AND ".join(f"k{place} IS NOT NULL" for place in self._keys)
        each = ", ".join(f"k{place}" for place in self._keys)
        wrong = " OR ".join([*(f"b{place}" for place in places), *(f"e{place}" for place in self._keys)])
        return f"""
            WITH judged AS MATERIALIZED (SELECT *, {bad}, {empty} FROM {TABLE}),
            keyed AS (SELECT *, {keys} FROM judged),
            placed AS (
                SELECT *, CASE WHEN {whole} THEN min(line) OVER (PARTITION BY {each}) END AS first FROM keyed
            )
            SELECT *, count(*) OVER () AS bad_rows FROM placed WHERE {wrong} OR first < line ORDER BY line LIMIT $1
        """  # noqa: S608 (names of our own; types as the server writes them)

    def _value(self, line: int, place: int) -> str:
        query = f"SELECT {self._raw(place)} FROM {TABLE} WHERE line = $1"  # noqa: S608
        return self._session.value(query, line)

    def _about(self, line: int, place: int) -> str:
        """What is wrong with a value, in the server's words; without the value where nobody may see it."""
        value, kind = self._value(line, place), self._shape.sql_types[self._names[place]]
        said: str | None = (
            self._session.value(_EXPLAINED, value, kind)
            if self._explains(place)
            else self._session.value(f"SELECT pg_temp.recon_wrong_{place}($1)", value)
        )
        said = said or f"{kind} would lose {_LOST.get(self._base(place), 'a part')}"
        if self._names[place] in self._private:
            return f"{without_values(said)} ({VEIL})"
        return said if f'"{value}"' in said else f'{said}: "{value[:SHOWN]}{"…" if len(value) > SHOWN else ""}"'

    def _key(self, line: int) -> str:
        return ", ".join(f'"{self._value(line, place)[:SHOWN]}"' for place in self._keys)

    def said(self) -> str:
        """What the typed table said of the rows; without a value where some are private."""
        primary = self.refusal.diag.message_primary if self.refusal else None
        if primary is None:
            return ""
        return f"The server says: {without_values(primary) if self._private else primary}."
