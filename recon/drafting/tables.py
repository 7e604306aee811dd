"""Tables of a database that may belong together: columns that hold, or could hold, the key of another table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recon.database import relations
from recon.database.connect import Session, temporary_right
from recon.drafting import kinds
from recon.drafting.reading import Looked
from recon.errors import DatabaseFailed, NotFound, UsageError, did_you_mean
from recon.names import Side, quote, split_relation

LOOKED_AT = 2_000  # values of a column that are looked for among the keys of another table
NEARLY_ALL = 0.95  # of these, so many are among the keys where a column holds links
MOST_TABLES = 60  # tables looked at; more, and the pair must be named
MOST_RECORDS = 200_000  # records of a table that are looked at; of a larger target an even sample
MOST_SOURCES = 1_000_000
_PLAIN = ("int2", "int4", "int8", "text", "varchar", "bpchar", "uuid", "numeric")
_LISTED = """
    SELECT class.oid::bigint, namespace.nspname::text, class.relname::text, greatest(class.reltuples, 0)::bigint,
        pg_table_is_visible(class.oid)
    FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
    WHERE class.relkind IN ('r', 'p') AND NOT class.relispartition AND class.relpersistence <> 't'
      AND namespace.nspname NOT IN ('pg_catalog', 'information_schema', 'recon', 'staging')
      AND namespace.nspname NOT LIKE 'pg\\_%' AND has_table_privilege(class.oid, 'SELECT')
    ORDER BY namespace.nspname, class.relname
"""
_OTHERS = {"v": "a view", "m": "a materialized view", "f": "a foreign table"}
_KIND = """
    SELECT relkind::text FROM pg_class JOIN pg_namespace AS namespace ON namespace.oid = relnamespace
    WHERE relname = $1::text AND ($2::text IS NULL OR nspname = $2::text) AND relkind IN ('v', 'm', 'f')
    ORDER BY pg_table_is_visible(pg_class.oid) DESC LIMIT 1
"""
_COLUMNS = """
    SELECT attrelid::bigint, attname::text, typname::text, attnotnull, coalesce(attnum = ANY(
        SELECT unnest(conkey) FROM pg_constraint WHERE conrelid = attrelid AND contype = 'p'
    ), false) FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
    WHERE attrelid = ANY($1::bigint[]::oid[]) AND attnum > 0 AND NOT attisdropped ORDER BY attrelid, attnum
"""
_UNIQUE = """
    SELECT indrelid::bigint, ARRAY(
        SELECT attname::text FROM unnest(indkey::int2[]) WITH ORDINALITY AS part (number, place)
        JOIN pg_attribute ON attrelid = indrelid AND attnum = part.number ORDER BY part.place
    ), indisprimary FROM pg_index
    WHERE indrelid = ANY($1::bigint[]::oid[]) AND indisunique AND indpred IS NULL AND NOT (0 = ANY(indkey::int2[]))
    ORDER BY indisprimary DESC, indexrelid
"""
_DECLARED = """
    SELECT conrelid::bigint, attname::text, confrelid::bigint FROM pg_constraint
    JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
    WHERE contype = 'f' AND array_length(conkey, 1) = 1 AND conrelid = ANY($1::bigint[]::oid[])
"""


@dataclass(frozen=True)
class Table:
    """A table of the database."""

    oid: int
    schema: str
    name: str
    records: int  # as the server estimates
    visible: bool  # found by its name alone
    columns: tuple[tuple[str, str, bool, bool], ...]  # name, type, NOT NULL, part of the primary key
    key: tuple[str, ...]  # of the primary key, else of a unique index; empty: none

    @property
    def called(self) -> str:
        """As a spec names it."""
        parts = [self.name] if self.visible else [self.schema, self.name]
        return ".".join(parts if not any("." in p or '"' in p for p in parts) else map(quote, parts))

    @property
    def quoted(self) -> str:
        return f"{quote(self.schema)}.{quote(self.name)}"


@dataclass(frozen=True)
class Candidate:
    """A column of one table that holds keys of another, or could."""

    target: Table
    source: Table
    link: str
    filled: int
    empty: int
    distinct: int
    declared: bool

    @property
    def score(self) -> float:
        """How likely it is what somebody wants to fill: links that are there, and links that are missing."""
        named = _alike(self.link, self.source.name)
        return self.empty * max(self.distinct, 1) * (4 if self.declared else 1) * (4 if named else 1)

    def as_dict(self) -> dict[str, Any]:
        return {
            "target": self.target.called, "source": self.source.called, "link": self.link, "linked": self.filled,
            "empty": self.empty, "declared": self.declared,
        }  # fmt: skip


def _alike(column: str, table: str) -> bool:
    stem = table.lower().rstrip("s")[:8]
    return len(stem) > 2 and stem in column.lower()


def may_copy(session: Session) -> None:
    """Raises DatabaseFailed where this role may make no temporary tables, in which a draft looks at copies."""
    if not session.value("SELECT has_database_privilege(current_database(), 'TEMPORARY')"):
        info = session.driver.info
        raise DatabaseFailed(
            f'The role "{info.user}" may make no temporary tables in the database "{info.dbname}".',
            why="A draft looks at copies of the tables in temporary ones, of which nothing stays.",
            todo=temporary_right(info),
        )


def listed(session: Session) -> list[Table]:
    """The users' tables that can be read, with their columns and keys."""
    rows = session.rows(_LISTED)
    oids = [row[0] for row in rows]
    columns: dict[int, list[tuple[str, str, bool, bool]]] = {}
    for oid, *column in session.rows(_COLUMNS, oids):
        columns.setdefault(oid, []).append((column[0], column[1], column[2], column[3]))
    keys: dict[int, tuple[str, ...]] = {}
    for oid, names, _ in session.rows(_UNIQUE, oids):
        keys.setdefault(oid, tuple(names))
    return [
        Table(row[0], row[1], row[2], row[3], row[4], tuple(columns.get(row[0], [])), keys.get(row[0], ()))
        for row in rows
    ]


def named(session: Session, tables: Sequence[Table], name: str) -> Table:
    """The table that a person named. Raises NotFound; UsageError where it is a view."""
    schema, table = split_relation(name)
    found = [item for item in tables if item.name == table and (item.schema == schema or schema is None)]
    found.sort(key=lambda item: not item.visible)
    if not found:
        kind = session.value(_KIND, table, schema)
        if kind in _OTHERS:
            raise UsageError(
                f"{name} is {_OTHERS[kind]}, and a draft is made of tables.",
                why="It has no primary key by which its records could be told apart.",
                todo=f"Name the table that it shows, or write the spec by hand: `table: {name}` and a `key` that is unique.",
            )
        raise NotFound(
            f"There is no table {name} that can be read.", why=did_you_mean(name, [item.called for item in tables]),
            todo="Correct the name, or ask for the right to read it.",
        )  # fmt: skip
    return found[0]


def candidates(
    session: Session, tables: Sequence[Table], target: Table | None, source: Table | None, link: str | None
) -> list[Candidate]:
    """Columns that hold keys of another table, the likeliest link first.

    Args:
        target, source, link: what a person named; None: any.
    """
    if target is None and source is None and len(tables) > MOST_TABLES:
        raise UsageError(
            f"There are {len(tables)} tables; no pair is looked for among so many.",
            todo="Name --target TABLE and --source TABLE.",
        )
    declared = {(row[0], row[1]): row[2] for row in session.rows(_DECLARED, [item.oid for item in tables])}
    found: list[Candidate] = []
    for holder in [target] if target else tables:
        for name, kind, _, primary in holder.columns:
            if kind not in _PLAIN or primary or (link is not None and name != link):
                continue
            column = quote(name)
            filled, empty, distinct = session.rows(
                f"SELECT count({column}), count(*) - count({column}), count(DISTINCT {column})"  # noqa: S608
                f" FROM (SELECT {column} FROM {holder.quoted} LIMIT {MOST_RECORDS}) AS part"
            )[0]
            if not empty or (not filled and link is None and (holder.oid, name) not in declared):
                continue
            for other in [source] if source else tables:
                key = _single(other)
                if key is None or other.oid == holder.oid or _family(key[1]) != _family(kind):
                    continue
                says = declared.get((holder.oid, name)) == other.oid
                if filled and _share(session, holder, name, other, key[0]) < NEARLY_ALL:
                    continue
                found.append(Candidate(holder, other, name, filled, empty, distinct, says))
    return sorted(found, key=lambda item: (-item.score, item.target.called, item.link, item.source.called))


@dataclass(frozen=True)
class Filled:
    """A column that holds keys of another table in every row, or what stands for none.

    Args:
        stands: what seems to stand for none: 0 or an empty text, as a person writes it; empty: nothing does.
        rows: how many rows hold that.
    """

    column: str
    declared: bool  # NOT NULL
    stands: str
    rows: int


def filled(session: Session, target: Table, source: Table, link: str | None) -> Filled | None:
    """Why two tables gave no candidate: a column that would be the link and has no empty rows; None: there is none.

    Args:
        link: the column that a person named; None: any.
    """
    key = _single(source)
    if key is None or source.oid == target.oid:
        return None
    found: list[Filled] = []
    for name, kind, declared, primary in target.columns:
        if primary or (link is not None and name != link) or _family(kind) != _family(key[1]):
            continue
        column, none = quote(name), {"integer": "0", "numeric": "0", "text": "''"}.get(_family(kind), "NULL")
        empty, nones = session.rows(
            f"SELECT count(*) - count({column}), count(*) FILTER (WHERE {column} = {none})"  # noqa: S608
            f" FROM (SELECT {column} FROM {target.quoted} LIMIT {MOST_RECORDS}) AS part"
        )[0]
        others = f" AND {column} <> {none}" if nones else ""
        if not empty and _share(session, target, name, source, key[0], others) >= NEARLY_ALL:
            found.append(Filled(name, declared, none if nones else "", nones))
    # Few numbers are among the keys of another table by accident too: without a further sign nothing is said of them.
    likely = [item for item in found if link is not None or item.stands or _alike(item.column, source.name)]
    return max(likely, key=lambda item: (_alike(item.column, source.name), item.rows), default=None)


def _single(table: Table) -> tuple[str, str] | None:
    if len(table.key) != 1:
        return None
    return next((name, kind) for name, kind, *_ in table.columns if name == table.key[0])


def _family(kind: str) -> str:
    if kind in ("int2", "int4", "int8"):
        return "integer"
    return "text" if kind in ("text", "varchar", "bpchar") else kind


def _share(session: Session, holder: Table, column: str, other: Table, key: str, wanted: str = "") -> float:
    """Of some values of a column, the share that is among the keys of the other table; `wanted`: of these values alone."""
    some = (
        f"SELECT DISTINCT {quote(column)} AS v FROM {holder.quoted}"  # noqa: S608
        f" WHERE {quote(column)} IS NOT NULL{wanted} LIMIT {LOOKED_AT}"
    )
    there = f"EXISTS (SELECT FROM {other.quoted} AS o WHERE o.{quote(key)} = part.v)"
    found = session.value(f"SELECT avg(CASE WHEN {there} THEN 1 ELSE 0 END) FROM ({some}) AS part")  # noqa: S608
    return float(found or 0)


def looked(session: Session, table: Table, side: Side) -> Looked:
    """The table's records as a temporary table of the same columns; of a large target an even sample by key.

    Raises:
        UsageError: the table has no key.
    """
    if not table.key:
        raise UsageError(
            f"{table.called} has no primary key and no unique index.",
            why="A record could not be named.",
            todo="Give it a primary key, or write the spec by hand with a `key` that is unique.",
        )
    names = [name for name, *_ in table.columns]
    copy, said = f"recon_draft_{side}", ""
    count = int(session.value(f"SELECT count(*) FROM {table.quoted}"))  # noqa: S608
    most = MOST_RECORDS if side == "t" else MOST_SOURCES
    if count > most:
        step = -(-count // most)
        part = ", ".join(quote(name) for name in table.key)
        said = f" WHERE hashtextextended(ROW({part})::text, 0) % {step} = 0"
    columns = ", ".join(map(quote, names))
    order = ", ".join(map(quote, table.key))
    session.execute(
        f"CREATE TEMPORARY TABLE {copy} ON COMMIT DROP AS SELECT {columns} FROM {table.quoted}{said} ORDER BY {order}"  # noqa: S608
    )
    session.execute(f"ANALYZE {copy}")
    shown = relations.table(session, f"pg_temp.{copy}", side)
    found = kinds.look(session, copy, names, dict(shown.columns), dict(shown.sql_types))
    kept = found[0].records if found else 0
    return Looked(side, copy, table.called, tuple(found), kept, sample_of=count if said else None)
