"""What the source says of the records that events tell of: each is asked for once, however many events name it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from psycopg import sql

from recon.database import relations
from recon.database.connect import Database
from recon.errors import OutsideFailed
from recon.names import split_relation
from recon.outside.interface import Bad, Mirrored, Record
from recon.sources import mirrored
from recon.sources.hooks import MirrorHook
from recon.spec import Reconciliation

LISTED_FROM = 30  # of so many records the list of what changed is read first: a page of it tells of a hundred
EARLIER = timedelta(minutes=10)  # what changed so long before the first event came is listed too: clocks differ
UNASKED = "the source answered nothing about the records before it"
SILENT_AFTER = 3  # records in a row without an answer: the source is down, and the others are not asked for now


@dataclass
class Asked:
    """What the source said of records, by their ids.

    Args:
        found: those that it has, and with them what else its list told.
        pages: the same page by page, as they are put into the mirror's table.
        gone: those that it says it does not have.
        errors: those of which it gave no answer, with its words.
        unasked: those that were not asked for, because it answered nothing.
    """

    found: dict[str, Record] = field(default_factory=dict[str, Record])
    pages: list[list[Record | Bad]] = field(default_factory=list[list[Record | Bad]])
    gone: set[str] = field(default_factory=set[str])
    errors: dict[str, str] = field(default_factory=dict[str, str])
    unasked: dict[str, str] = field(default_factory=dict[str, str])

    def take(self, page: Sequence[Record | Bad], name: str) -> None:
        """Keep what a page tells; `name`: the column of the id."""
        self.pages.append(list(page))
        self.found |= {str(one.get(name)): one for one in page if not isinstance(one, Bad)}


def ask(feed: Mirrored, scope: str, hook: MirrorHook, records: Sequence[str], since: datetime) -> Asked:
    """Ask for these records as they are now.

    Args:
        feed: the source; nobody else uses it meanwhile.
        records: their ids, each once.
        since: when the first of the events came.
    """
    asked = Asked()
    if len(records) >= LISTED_FROM:
        try:
            for page in feed.changed(scope, since - EARLIER):
                asked.take(page, hook.column)
        except OutsideFailed as error:
            asked.unasked = dict.fromkeys([record for record in records if record not in asked.found], _said(error))
    silent = 0
    for record in records:
        if record in asked.found or record in asked.unasked:
            continue
        if silent >= SILENT_AFTER:
            asked.unasked[record] = UNASKED
            continue
        try:
            one = feed.find(scope, {hook.column: record})
        except OutsideFailed as error:
            asked.errors[record] = _said(error)
            silent += 1
            continue
        silent = 0
        if one is None:
            asked.gone.add(record)
        else:  # it may be known by another id than the one that was asked for
            asked.take([one], hook.column)
            asked.found[record] = one
    return asked


def _said(error: OutsideFailed) -> str:
    return f"{error.what} {error.why}".strip().rstrip(".")


def suspect(
    database: Database, spec: Reconciliation, hook: MirrorHook, scope: str, gone: set[str], now: datetime
) -> set[str]:
    """Mark the records that the source does not have as absent in the mirror's table; returns those that are in it.

    A mark is a suspicion: the next run of the mirror looks each of them up before it does anything.
    """
    if not gone:
        return set()
    assert spec.source.landing is not None
    assert spec.scope is not None
    with database.session() as session:
        session.users_path()
        table = relations.table(session, spec.source.landing, "s")
        parts = {
            "table": sql.Identifier(*[part for part in split_relation(table.label) if part]),
            "absent": sql.Identifier(mirrored.ABSENT),
            "scope": sql.Identifier(spec.scope),
            "type": sql.SQL(table.sql_types[spec.scope]),  # pyright: ignore[reportArgumentType] (the server's own word)
            "column": sql.Identifier(hook.column),
        }
        values = {"scope": scope, "gone": sorted(gone), "now": now}
        found = session.driver.execute(sql.SQL(_THERE).format(**parts), values).fetchall()
        session.driver.execute(sql.SQL(_ABSENT).format(**parts), values)
    return {str(row[0]) for row in found}


# The parts in braces are identifiers, quoted by psycopg, and a type's name as the server writes it.
_WHICH = "{scope} = %(scope)s::{type} AND {column}::text = ANY (%(gone)s::text[])"
_THERE = f"SELECT DISTINCT {{column}}::text FROM {{table}} WHERE {_WHICH}"  # noqa: S608 (our own words)
_ABSENT = f"UPDATE {{table}} SET {{absent}} = %(now)s WHERE {_WHICH} AND {{absent}} IS NULL"  # noqa: S608
