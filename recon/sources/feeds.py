"""Bring in the records of an outside system: fetched into a temporary table, then put into theirs all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from psycopg import sql
from sqlglot import exp

from recon.database import relations
from recon.database.connect import Database, Session
from recon.database.relations import Relation
from recon.errors import LoadFailed, SchemaMismatch, UsageError, did_you_mean, visible
from recon.names import DIALECT, identifier, quote, split_relation, storable
from recon.outside.interface import Feed
from recon.spec_parts import RecordSet

_FETCHED = "recon_fetched"
_PLACE = "recon_place"  # the order in which records came
_FETCHED_PARTS = ("pg_temp", _FETCHED)
_FETCHED_NAME = ".".join(_FETCHED_PARTS)
LOCK_TIMEOUT = "10s"  # for who writes the table at the moment; nothing is lost by trying again

Progress = Callable[[int, int], None]  # records that were fetched, and how many there are as far as is known


@dataclass(frozen=True)
class Loaded:
    """What a load did.

    Args:
        table: that took the records.
        place: that they came from.
        fetched: records that came, each key once.
        inserted, changed, unchanged: what became of them; they add up to `fetched`.
        without_key: further records that have no key; they cannot be kept.
        created: the table was not there before.
    """

    table: str
    place: str
    fetched: int
    inserted: int
    changed: int
    unchanged: int
    without_key: int
    created: bool


def load(
    database: Database,
    record_set: RecordSet,
    feed: Feed,
    from_day: date | None,
    to_day: date | None,
    progress: Progress,
) -> Loaded:
    """Fetch the records of these days (inclusive, UTC; None: no bound) and put them into the table of the record set.

    A record that is there is changed where it differs; a new one is inserted; none is deleted, for what was not fetched
    may still be there. Columns that the feed does not have keep their values. The table is made where there is none. No
    transaction is open while the outside system is asked; all is written in one at the end, so that a load that fails or
    is killed leaves nothing.

    Raises:
        UsageError: the days are the wrong way round.
        SchemaMismatch: the table cannot take the records; found out before anything is fetched.
        LoadFailed: a record holds what PostgreSQL cannot keep.
        OutsideFailed: not all records could be had.
    """
    if from_day and to_day and from_day > to_day:
        raise UsageError(f"The first day {from_day} is later than the last day {to_day}.", todo="Change the two.")
    return take(database, record_set, feed.columns, feed.place, feed.pages(from_day, to_day), progress)


def take(
    database: Database,
    record_set: RecordSet,
    columns: Mapping[str, str],
    place: str,
    pages: Iterable[Sequence[Mapping[str, Any]]],
    progress: Progress,
    *,
    newer: str | None = None,
    clears: str | None = None,
) -> Loaded:
    """Put records that come page by page into the table of the record set, as `load` does.

    Args:
        columns: what a record has, and the PostgreSQL types.
        place: where the records come from, for people.
        pages: the records; whatever they raise ends it, and nothing is kept.
        newer: the column of a record's last change: an older state of a record never takes the place of a newer one; one
            without a time is taken.
        clears: a column of the table, and not of the records, that becomes NULL for each record that came.

    Raises: as `load`.
    """
    name, keys = record_set.landing, record_set.keys
    assert name is not None, "records of a feed have a table"
    with database.session() as session:
        _prepare(session, columns, keys)
        _fits(session, name, keys)
        session.commit()
        without_key = _fetch(session, columns, pages, keys, progress)
        session.execute("SELECT set_config('lock_timeout', $1, true)", LOCK_TIMEOUT)
        created = not _fits(session, name, keys)  # once more: hours may have passed
        if created:
            _create(session, name, {**columns, **({clears: "timestamptz"} if clears else {})}, keys)
        table = relations.table(session, name, "s")
        fetched, inserted, changed = _put(session, table, list(columns), keys, newer, clears)
        if inserted or changed:
            session.driver.execute(sql.SQL("ANALYZE {}").format(_table(table)))
    return Loaded(table.label, place, fetched, inserted, changed, fetched - inserted - changed, without_key, created)


def _prepare(session: Session, columns: Mapping[str, str], keys: Sequence[str]) -> None:
    """Make the temporary table that takes what is fetched. Raises SchemaMismatch where the key is not among it."""
    for key in keys:
        if key not in columns:
            raise SchemaMismatch(
                f'The records have no column "{key}".',
                why=did_you_mean(key, columns) or f"They have: {', '.join(columns)}.",
                todo="Correct the key of this side in the spec.",
            )
    place = exp.ColumnDef(
        this=identifier(_PLACE),
        kind=exp.DataType.build("bigint", dialect=DIALECT),
        constraints=[exp.ColumnConstraint(kind=exp.GeneratedAsIdentityColumnConstraint(this=True))],
    )
    session.execute(_definition(exp.Table(this=identifier(_FETCHED)), [*_columns(columns), place], temporary=True))


def _fits(session: Session, name: str, keys: Sequence[str]) -> bool:
    """Whether the table is there and takes what is fetched; False where there is none yet. Raises SchemaMismatch."""
    schema, table = split_relation(name)
    there = session.value("SELECT to_regclass($1)::oid", ".".join(quote(part) for part in (schema, table) if part))
    if there is None:
        return False
    found = relations.table(session, name, "s")
    wanted = dict(relations.table(session, _FETCHED_NAME, "s").sql_types)
    del wanted[_PLACE]
    wrong = [
        f'"{column}" is {found.sql_types[column]} there and {kind} in the records'
        if column in found.sql_types
        else f'there is no column "{column}" ({kind})'
        for column, kind in wanted.items()
        if found.sql_types.get(column) != kind
    ]
    unwritable = relations.unwritable(session, found, list(wanted))
    wrong += [f'"{column}" is filled by PostgreSQL alone' for column in unwritable]
    missing = relations.needed(session, found, list(wanted))
    wrong += [f'"{column}" must be filled, and the records do not have it' for column in missing]
    if not relations.is_unique(session, found, keys):
        wrong.append(f"no unique index stands on the key ({', '.join(keys)})")
    if wrong:
        raise SchemaMismatch(
            f"The table {found.label} cannot take the records.",
            why=f"{'; '.join(wrong)}.",
            todo="Change the table, or name another one with `into`; one that is absent is made. Nothing was fetched.",
        )
    return True


def _fetch(
    session: Session,
    columns: Mapping[str, str],
    pages: Iterable[Sequence[Mapping[str, Any]]],
    keys: Sequence[str],
    progress: Progress,
) -> int:
    """Copy page by page into the temporary table; returns how many records have no key."""
    zoned = relations.table(session, _FETCHED_NAME, "s").columns
    session.commit()
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(*_FETCHED_PARTS), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    done, without_key = 0, 0
    for page in pages:
        with session.driver.cursor() as cursor, cursor.copy(statement) as writer:
            for record in page:
                if any(record.get(key) is None for key in keys):
                    without_key += 1
                    continue
                writer.write_row([_value(record, column, zoned[column], keys) for column in columns])
                done += 1
        session.commit()
        progress(done, done)
    return without_key


def _value(record: Mapping[str, Any], column: str, kind: str, keys: Sequence[str]) -> Any:
    """A value as COPY may take it. Raises LoadFailed, which names the record and never shows the value."""
    value = record.get(column)
    if isinstance(value, str) and not storable(value):
        why = "holds a NUL or half a character, which PostgreSQL cannot keep"
    elif isinstance(value, datetime) and value.tzinfo is None and kind == "timestamptz":
        why = "has no time zone, so nobody knows which moment it is"
    else:
        return value
    key = visible(", ".join(repr(record[key]) for key in keys))
    raise LoadFailed(
        f"The record {key} cannot be loaded; nothing was kept.",
        why=f'Its "{column}" {why}.',
        todo="Correct it where it comes from, and load again.",
    )


def _create(session: Session, name: str, columns: Mapping[str, str], keys: Sequence[str]) -> None:
    """Make the table, and its schema where that is absent too."""
    schema, table = split_relation(name)
    if schema and session.value("SELECT to_regnamespace($1)::oid", quote(schema)) is None:
        session.execute(exp.Create(this=exp.Table(db=identifier(schema)), kind="SCHEMA").sql(DIALECT))
    target = exp.Table(this=identifier(table), db=identifier(schema) if schema else None)
    key = exp.PrimaryKey(expressions=[identifier(name) for name in keys])
    session.execute(_definition(target, [*_columns(columns), key]))


def _columns(columns: Mapping[str, str]) -> list[exp.Expr]:
    return [
        exp.ColumnDef(this=identifier(name), kind=exp.DataType.build(kind, dialect=DIALECT, udt=True))
        for name, kind in columns.items()
    ]


def _definition(table: exp.Table, parts: Sequence[exp.Expr], *, temporary: bool = False) -> str:
    properties = exp.Properties(expressions=[exp.TemporaryProperty()]) if temporary else None
    schema = exp.Schema(this=table, expressions=list(parts))
    return exp.Create(this=schema, kind="TABLE", properties=properties).sql(DIALECT)


def _put(
    session: Session, table: Relation, columns: list[str], keys: Sequence[str], newer: str | None, clears: str | None
) -> tuple[int, int, int]:
    """Write what was fetched where it differs; returns records by key, inserted, changed. Of a key twice the last counts."""
    target, fetched = _table(table), sql.Identifier(*_FETCHED_PARTS)
    # No one else inserts one of these keys, nor changes a row, between the two statements.
    session.driver.execute(sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(target))
    session.driver.execute(sql.SQL("ANALYZE {}").format(fetched))
    session.driver.execute(
        sql.SQL("DELETE FROM {fetched} AS earlier USING {fetched} AS later WHERE {same} AND {older}").format(
            fetched=fetched,
            same=_same("earlier", "later", keys),
            older=sql.SQL("{} < {}").format(sql.Identifier("earlier", _PLACE), sql.Identifier("later", _PLACE)),
        )
    )
    others = [name for name in columns if name not in keys]
    changed = 0
    if others:
        sets = [sql.SQL("{} = {}").format(sql.Identifier(name), sql.Identifier("came", name)) for name in others]
        differ = [
            sql.SQL("{} IS DISTINCT FROM {}").format(sql.Identifier("kept", name), sql.Identifier("came", name))
            for name in others
        ]
        if clears:
            sets.append(sql.SQL("{} = NULL").format(sql.Identifier(clears)))
            differ.append(sql.SQL("{} IS NOT NULL").format(sql.Identifier("kept", clears)))
        not_older = sql.SQL("true")
        if newer:
            there, came = sql.Identifier("kept", newer), sql.Identifier("came", newer)
            # Of two states without a time nobody knows which is older: what the source says now is taken.
            not_older = sql.SQL("({there} IS NULL OR {came} IS NULL OR {there} <= {came})").format(
                there=there, came=came
            )
        changed = session.driver.execute(
            sql.SQL(
                "UPDATE {target} AS kept SET {sets} FROM {fetched} AS came WHERE {same} AND ({differ}) AND {not_older}"
            ).format(
                target=target,
                sets=sql.SQL(", ").join(sets),
                fetched=fetched,
                same=_same("kept", "came", keys),
                differ=sql.SQL(" OR ").join(differ),
                not_older=not_older,
            )
        ).rowcount
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    inserted = session.driver.execute(
        sql.SQL(
            "INSERT INTO {target} ({names}) SELECT {names} FROM {fetched} AS came"
            " WHERE NOT EXISTS (SELECT FROM {target} AS kept WHERE {same}) ORDER BY {place}"
        ).format(
            target=target,
            names=names,
            fetched=fetched,
            same=_same("kept", "came", keys),
            place=sql.Identifier("came", _PLACE),
        )
    ).rowcount
    total = session.driver.execute(sql.SQL("SELECT count(*) FROM {}").format(fetched)).fetchone()
    assert total is not None
    return total[0], inserted, changed


def _same(left: str, right: str, names: Sequence[str]) -> sql.Composed:
    """That these columns of two aliases are equal."""
    return sql.SQL(" AND ").join(
        sql.SQL("{} = {}").format(sql.Identifier(left, name), sql.Identifier(right, name)) for name in names
    )


def _table(table: Relation) -> sql.Identifier:
    tree = table.tree
    assert isinstance(tree, exp.Table)
    return sql.Identifier(tree.db, tree.name)
