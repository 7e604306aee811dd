"""What a source that a mirror is kept in step with tells, put into its table: what changed, what is gone, single records."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from psycopg import sql

from recon.database import relations
from recon.database.connect import Database
from recon.errors import LoadFailed, SpecError
from recon.names import quote, split_relation
from recon.outside.interface import Bad, Identity, Mirrored, Record
from recon.sources import feeds
from recon.spec import Reconciliation

NEWER = "updated_at"  # the column of a record's last change in the source, by the source's clock
ABSENT = (
    "absent_at"  # the column of the table that tells since when the source's list lacks a record; NULL: it is there
)
SHOWN = 100  # messages of bad records that are kept of one fetch

Key = tuple[str, ...]  # a source key, part by part as text


@dataclass
class Fetched:
    """What a fetch brought: records by key, and those that cannot be kept."""

    records: int = 0
    taken: int = 0  # that the table took: new ones, and newer states of old ones
    keys: set[Key] = field(default_factory=set[Key])
    bad: list[str] = field(default_factory=list[str])  # why, of the first hundred
    bad_count: int = 0
    changes: dict[Key, datetime] = field(default_factory=dict[Key, datetime])  # when last, by the source's clock

    def since(self, before: datetime | None) -> set[Key]:
        """The records that came and are not known to have come before: up to then all had come."""
        return {key for key in self.keys if before is None or key not in self.changes or self.changes[key] > before}

    def known_until(self, now: datetime, before: datetime | None) -> datetime | None:
        """Up to when what changed is known, by the source's clock; None: nothing is.

        Its clock may be behind ours: what it changes after this moment of ours may bear an earlier time. So it is no later
        than the newest change that it told of.

        Args:
            now: our time, with a zone.
            before: up to when it was known before.
        """
        told = [at for at in self.changes.values() if at <= now]
        if told:
            return max([*told, *([before] if before else [])])
        return now if self.records else before  # its clock is ahead, or it tells no times


def is_mirror(spec: Reconciliation) -> bool:
    """Whether a spec's source is an outside system whose records are mirrored, scope by scope."""
    return spec.source.api is not None and spec.scope is not None


def columns_of(spec: Reconciliation) -> list[str]:
    """The source key's columns without the scope, by which a single record is looked up.

    Raises:
        SpecError: the scope is no part of the source's key.
    """
    keys = spec.source.keys
    if spec.scope not in keys:
        raise SpecError(
            f"{spec.name} is no mirror: its scope {spec.scope} is not in the key of the source.",
            todo="Name the scope among the source's key columns.",
        )
    return [name for name in keys if name != spec.scope]


def fetch(database: Database, spec: Reconciliation, feed: Mirrored, scope: str, since: datetime | None) -> Fetched:
    """Bring in what changed in a scope since a moment (None: everything there is); all or nothing.

    Where the table holds nothing of the scope, it was emptied or is absent, and everything is brought in.

    Raises:
        OutsideFailed: a page could not be had.
        SchemaMismatch, LoadFailed: the table cannot take the records.
    """
    if since is not None and not _holds(database, spec, scope):
        since = None
    return take(database, spec, feed, feed.changed(scope, since))


def _holds(database: Database, spec: Reconciliation, scope: str) -> bool:
    """Whether the table is there and holds any record of a scope."""
    assert spec.source.landing is not None
    assert spec.scope is not None
    with database.session(read_only=True) as session:
        session.users_path()
        place = ".".join(quote(part) for part in split_relation(spec.source.landing) if part)
        if session.value("SELECT to_regclass($1)::oid", place) is None:
            return False
        table = relations.table(session, spec.source.landing, "s")
        any_of_it = sql.SQL("SELECT 1 FROM {table} WHERE {scope} = %(scope)s::{type} LIMIT 1").format(
            table=sql.Identifier(*[part for part in split_relation(table.label) if part]),
            scope=sql.Identifier(spec.scope),
            type=sql.SQL(table.sql_types[spec.scope]),  # pyright: ignore[reportArgumentType] (the server's own word)
        )
        return session.driver.execute(any_of_it, {"scope": scope}).fetchone() is not None


def take(database: Database, spec: Reconciliation, feed: Mirrored, pages: Iterable[Sequence[Record | Bad]]) -> Fetched:
    """Put records into the landing table; an older state never takes the place of a newer one, and who came is not absent."""
    found = Fetched()

    def good() -> Iterator[Sequence[Record]]:
        for page in pages:
            kept: list[Record] = []
            for record in page:
                if isinstance(record, Bad):
                    _bad(found, record.why)
                else:
                    key = tuple(str(record.get(name)) for name in spec.source.keys)
                    found.keys.add(key)
                    if isinstance(at := record.get(NEWER), datetime):
                        found.changes[key] = at
                    kept.append(record)
            yield kept

    loaded = feeds.take(
        database, spec.source, feed.columns, feed.place, good(), lambda _done, _all: None, newer=NEWER, clears=ABSENT
    )
    for _ in range(loaded.without_key):
        _bad(found, "the record has no key")
    found.records, found.taken = loaded.fetched, loaded.inserted + loaded.changed
    return found


def _bad(found: Fetched, why: str) -> None:
    found.bad_count += 1
    if len(found.bad) < SHOWN:
        found.bad.append(why)


def compare_list(
    database: Database,
    spec: Reconciliation,
    feed: Mirrored,
    scope: str,
    days: tuple[date, date],
    now: datetime,
) -> int:
    """Read the source's own list of these days (inclusive, UTC), and mark what it lacks as absent; returns how many are.

    A mark is a suspicion and no proof: each marked record is looked up by itself before anything is done about it.

    Raises:
        OutsideFailed: the list could not be read to its end; nothing is marked.
        LoadFailed: the list is empty, and the table holds two records or more of these days: that is no list.
    """
    names = columns_of(spec)
    landing, date_column = spec.source.landing, spec.source.date
    assert landing is not None
    assert spec.scope is not None
    if date_column is None:
        raise SpecError(f"{spec.name} is no mirror: its source names no date.", todo="Name `date` for the source.")
    with database.session() as session:
        session.users_path()
        table = relations.table(session, landing, "s")
        scope_type = sql.SQL(table.sql_types[spec.scope])  # pyright: ignore[reportArgumentType] (the server's own word)
        listed = sql.SQL(", ").join(sql.SQL("{} text").format(sql.Identifier(name)) for name in names)
        session.driver.execute(
            sql.SQL("CREATE TEMPORARY TABLE recon_listed ({}) ON COMMIT PRESERVE ROWS").format(listed)
        )
        session.commit()
        count = 0
        for page in feed.listed(scope, *days):
            count += len(page)
            _copy(session.driver, names, page)
            session.commit()
        session.driver.execute("ANALYZE pg_temp.recon_listed")
        parts: dict[str, sql.Composable] = {
            "table": sql.Identifier(*[part for part in split_relation(table.label) if part]),
            "absent": sql.Identifier(ABSENT),
            "scope": sql.Identifier("kept", spec.scope),
            "type": scope_type,
            "date": sql.Identifier("kept", date_column),
            "same": sql.SQL(" AND ").join(
                sql.SQL('{}::text COLLATE "C" = {} COLLATE "C"').format(
                    sql.Identifier("kept", name), sql.Identifier("listed", name)
                )
                for name in names
            ),
        }
        parts["of_the_days"] = sql.SQL(_OF_THE_DAYS).format(**parts)
        values = {"scope": scope, "first": days[0], "last": days[1], "now": now}
        if not count:
            there = session.driver.execute(sql.SQL(_TWO).format(**parts), values).fetchall()
            if len(there) > 1:  # a single one may well be gone: as all of one record, it is looked up
                raise LoadFailed(
                    f"The source lists no record at all of {scope}, from {days[0]} to {days[1]}.",
                    why="Records of these days came from it before. A list that is suddenly empty was most likely not read.",
                    todo="Look whether the source is whole; the next run asks again.",
                )
        session.driver.execute(sql.SQL(_SEEN).format(**parts), values)
        session.driver.execute(sql.SQL(_LACKING).format(**parts), values)
        marked = session.driver.execute(sql.SQL(_MARKED).format(**parts), values).fetchone()
        session.driver.execute("DROP TABLE pg_temp.recon_listed")
    assert marked is not None
    return int(marked[0])


# The parts in braces are identifiers, quoted by psycopg, and a type's name as the server writes it. One whose day cannot
# be read is of any day: the list gives it too.
_OF_THE_DAYS = """
    {scope} = %(scope)s::{type} AND ({date} IS NULL OR {date}::date BETWEEN %(first)s::date AND %(last)s::date)
"""
_TWO = "SELECT 1 FROM {table} AS kept WHERE {absent} IS NULL AND {of_the_days} LIMIT 2"
_SEEN = """
    UPDATE {table} AS kept SET {absent} = NULL FROM pg_temp.recon_listed AS listed
    WHERE {same} AND {scope} = %(scope)s::{type} AND {absent} IS NOT NULL
"""
_LACKING = """
    UPDATE {table} AS kept SET {absent} = %(now)s WHERE {absent} IS NULL AND {of_the_days}
    AND NOT EXISTS (SELECT FROM pg_temp.recon_listed AS listed WHERE {same})
"""
_MARKED = "SELECT count(*) FROM {table} AS kept WHERE {absent} IS NOT NULL AND {of_the_days}"


def _copy(driver: Any, names: Sequence[str], page: Sequence[Identity]) -> None:
    statement = sql.SQL("COPY pg_temp.recon_listed ({}) FROM STDIN").format(
        sql.SQL(", ").join(map(sql.Identifier, names))
    )
    with driver.cursor() as cursor, cursor.copy(statement) as writer:
        for identity in page:
            writer.write_row([identity[name] for name in names])
