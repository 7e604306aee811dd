"""What a backfill wrote into a loaded table, kept with its key while the table is filled anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import errors as pg_errors

from recon.database.connect import Session
from recon.database.relations import Relation
from recon.errors import SchemaMismatch
from recon.names import DIALECT, quote

TABLE = "pg_temp.recon_kept"
SHOWN = 20  # records named that had a link and are no longer in the file


@dataclass(frozen=True)
class Links:
    """What became of the links, and what goes with them, when a table was filled anew.

    Args:
        kept: records that hold the same as before.
        replaced: records of which the file says otherwise; what it says counts.
        gone: records that the file no longer has.
        examples: the first of these, by key: the key, and what it held by column.
    """

    kept: int = 0
    replaced: int = 0
    gone: int = 0
    examples: tuple[tuple[tuple[Any, ...], dict[str, Any]], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        examples = [{"key": list(key), "held": held} for key, held in self.examples]
        return {"kept": self.kept, "replaced": self.replaced, "gone": self.gone, "gone_records": examples}


@dataclass(frozen=True)
class Kept:
    """The former values of the written columns, by key, in a temporary table; no columns: there are none."""

    shape: Relation
    keys: Sequence[str]
    columns: tuple[str, ...]

    def value(self, name: str) -> str:
        """The former value of one of `columns`, in a statement that `join` stands in."""
        return f"kept.v{self.columns.index(name) + 1}"

    def join(self, keys: Sequence[str]) -> str:
        """What joins the former values to records with these keys, as SQL; empty where there are none."""
        if not self.columns:
            return ""
        pairs = enumerate(zip(self.keys, keys, strict=True), 1)
        same = " AND ".join(f"kept.k{place} = {_as(self.shape, name, key)}" for place, (name, key) in pairs)
        return f" LEFT JOIN {TABLE} AS kept ON {same}"

    def links(self, session: Session, table: Relation) -> Links:
        """What became of the former values, once the table is filled."""
        if not self.columns:
            return Links()
        on = " AND ".join(f"now.{quote(name)} = k{place}" for place, name in enumerate(self.keys, 1))
        absent = f"now.{quote(self.keys[0])} IS NULL"
        differ = " OR ".join(
            f"CAST(v{place} AS text) <> CAST(now.{quote(name)} AS text)" for place, name in enumerate(self.columns, 1)
        )
        joined = f"FROM {TABLE} LEFT JOIN {table.tree.sql(DIALECT)} AS now ON {on}"
        counts = f"count(*), count(*) FILTER (WHERE NOT {absent} AND ({differ})), count(*) FILTER (WHERE {absent})"
        every, replaced, gone = session.rows(f"SELECT {counts} {joined}")[0]
        keys, values = _names("k", self.keys), _names("v", self.columns)
        listed = f"SELECT {keys}, {values} {joined} WHERE {absent} ORDER BY {keys} LIMIT {SHOWN}"
        width = len(self.keys)
        examples = tuple(
            (row[:width], dict(zip(self.columns, row[width:], strict=True))) for row in session.rows(listed)
        )
        return Links(every - replaced - gone, replaced, gone, examples)


def taken(
    session: Session, table: str, now: Relation, shape: Relation, keys: Sequence[str], written: Sequence[str]
) -> Kept:
    """Put aside what the written columns of a table hold.

    Args:
        session: holds the table's lock, so that nobody writes a link meanwhile.
        table: its name, quoted.
        now: its columns as they are.
        shape: its columns as they will be.
        keys: by which its records will be known.
        written: columns of `shape` that a backfill writes.

    Raises:
        SchemaMismatch: what is there cannot be kept under the key or the types that are asked for now.
    """
    columns = tuple(name for name in written if name in now.columns)
    nothing = Kept(shape, keys, ())
    if not columns:
        return nothing
    held = " OR ".join(f"{quote(name)} IS NOT NULL" for name in columns)
    count = session.value(f"SELECT count(*) FROM {table} WHERE {held}")  # noqa: S608
    if not count:
        return nothing
    kept = Kept(shape, keys, columns)
    try:
        with session.driver.transaction():
            session.execute(
                f"CREATE TEMPORARY TABLE recon_kept ON COMMIT DROP AS {_asked(kept, now, table)} WHERE {held}"
            )
            session.execute(f"CREATE UNIQUE INDEX ON {TABLE} ({_names('k', keys)})")
            session.execute(f"ANALYZE {TABLE}")
    except (pg_errors.DataError, pg_errors.UniqueViolation, KeyError) as error:
        raise SchemaMismatch(
            f"{count:,} records of {now.label} hold what a backfill wrote ({', '.join(columns)}), and it would be lost.",
            why=f"The key or a type of these columns was changed: they are known by {', '.join(keys)} now.",
            todo="Name another table with `into`, which leaves this one as it is, or take the change of `key` and"
            " `columns` back.",
        ) from error
    return kept


def _asked(kept: Kept, now: Relation, table: str) -> str:
    """The query of what is put aside. Raises KeyError where the table does not have the key."""
    parts: list[str] = []
    for sign, names in (("k", kept.keys), ("v", kept.columns)):
        for place, name in enumerate(names, 1):
            same = now.sql_types[name] == kept.shape.sql_types[name]
            value = quote(name) if same else _as(kept.shape, name, f"CAST({quote(name)} AS text)")
            parts.append(f"{value} AS {sign}{place}")
    return f"SELECT {', '.join(parts)} FROM {table}"  # noqa: S608 (names quoted; types as the server writes them)


def _names(sign: str, columns: Sequence[str]) -> str:
    return ", ".join(f"{sign}{place}" for place in range(1, len(columns) + 1))


def _as(shape: Relation, name: str, value: str) -> str:
    """A value as the type that a column will have."""
    return f"CAST({value} AS {shape.type_of(name).sql(DIALECT)})"
