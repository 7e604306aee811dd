"""Records that an outside system sends by itself: what its webhook must be able to tell, and how a record is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlglot import exp

from recon.database import relations
from recon.database.connect import Session
from recon.database.relations import Relation
from recon.errors import SchemaMismatch
from recon.names import DIALECT, column, identifier
from recon.spec import Reconciliation

Headers = Mapping[str, str]  # names in small letters


@dataclass(frozen=True)
class Arrival:
    """What an event means: a record to keep, and whether it asks to be reconciled; or why there is nothing to do."""

    key: str = ""
    row: Mapping[str, Any] | None = None  # by the column names of the source's table; None: no record to keep
    reconciles: bool = True
    nothing: str = ""  # why nothing is reconciled


@dataclass(frozen=True)
class Hook:
    """A system that sends events.

    Args:
        origin: its name, as in the address /webhooks/ORIGIN.
        reconciliation: whose source the records are; it has a `link`, and is one_to_one.
        secret: the setting that holds the secret by which events are signed.
        record, holder: what a source and a target record are called, such as job and reservation.
        newer: the column by which an older state of a record is told from a newer one.
        refused: why a request is not accepted: its headers (names in small letters), its body, the secret, the
            time now in UTC; empty: its signature holds.
        kind: what happened, in the sender's word; None: the event does not say.
        read: what an event means. Raises LoadFailed where it cannot be read.
    """

    origin: str
    reconciliation: str
    secret: str
    record: str
    holder: str
    newer: str
    refused: Callable[[Headers, bytes, str, datetime], str]
    kind: Callable[[Mapping[str, Any]], str | None]
    read: Callable[[Mapping[str, Any]], Arrival]


@dataclass(frozen=True)
class Told:
    """What an event of a mirror's source means: of which record it tells; or why there is nothing to do."""

    record: str | None = None  # its id at the source
    nothing: str = ""


@dataclass(frozen=True)
class MirrorHook:
    """The source of a mirror, which sends events. What an event says of a record is not believed: the source is asked.

    Args:
        origin: its name, as in the address /webhooks/ORIGIN/SCOPE.
        reconciliation: the mirror that its records are kept in step by.
        secret: the setting that holds the secret by which events are signed; that of one scope alone has its name
            behind it, in capitals, with _ for -.
        silence: the setting that says how many hours without any event are an alarm.
        record: what a record is called, such as reservation.
        column: of the source's key, which the id of a record in an event is the value of.
        scopes: those that the settings name, as the database writes them.
        refused, kind: as of a `Hook`.
        event: the event's own id; None: it has none that could be kept.
        read: of which record an event tells.
        issues: what an import issue is called in the words about an event, where that differs.
    """

    origin: str
    reconciliation: str
    secret: str
    silence: str
    record: str
    column: str
    scopes: Callable[[Mapping[str, str]], Sequence[str]]
    refused: Callable[[Headers, bytes, str, datetime], str]
    kind: Callable[[Mapping[str, Any]], str | None]
    event: Callable[[Mapping[str, Any]], str | None]
    read: Callable[[Mapping[str, Any]], Told]
    issues: Mapping[str, str] = field(default_factory=dict[str, str])

    def secret_of(self, variables: Mapping[str, str], scope: str) -> str:
        """The secret of a scope; where it has its own, no other one counts. Empty: none is set."""
        own = f"{self.secret}_{scope.upper().replace('-', '_')}"
        return variables.get(own, "") or variables.get(self.secret, "")


AnyHook = Hook | MirrorHook


def keep(session: Session, spec: Reconciliation, row: Mapping[str, Any], newer: str) -> bool:
    """Insert a record into the source's table, or bring it up to date; says whether the table took it.

    Events overtake each other: a record that is there already in a newer state stays as it is.

    Args:
        session: a transaction that may write.
        spec: whose source.
        row: the record by column names, the key among them.
        newer: the column of its last change, in UTC; a record without it gives way.

    Raises:
        SchemaMismatch: the source is no table, lacks a column, or has no unique index on its key.
    """
    relation, keys = spec.source.landing or spec.source.relation, spec.source.keys
    if relation is None:
        raise SchemaMismatch(
            f"The source of {spec.name} is a query: a record cannot be put into it.", todo="Name a table."
        )
    session.users_path()
    table = relations.table(session, relation, "s")
    lacking = [name for name in row if name not in table.columns]
    if lacking:
        raise SchemaMismatch(f"{table.label} has no column {', '.join(lacking)}.", todo="Add what is missing.")
    if not relations.is_unique(session, table, keys):
        raise SchemaMismatch(
            f"{table.label} has no unique index on {', '.join(keys)}.",
            why="A record that is sent twice would be there twice.",
            todo="Create a unique index on the key.",
        )
    return bool(session.rows(_upsert(table, list(row), keys, newer).sql(DIALECT), *row.values()))


def _upsert(table: Relation, columns: list[str], keys: list[str], newer: str) -> exp.Insert:
    there, sent = column("kept", newer), column("excluded", newer)
    values = [
        exp.cast(exp.Parameter(this=exp.Literal.number(place)), table.type_of(name))
        for place, name in enumerate(columns, start=1)
    ]
    taken = [
        exp.EQ(this=exp.Column(this=identifier(name)), expression=column("excluded", name))
        for name in columns
        if name not in keys
    ]
    not_older = exp.or_(exp.Is(this=there, expression=exp.Null()), exp.LTE(this=there.copy(), expression=sent))
    return exp.Insert(
        this=exp.Schema(this=table.aliased("kept"), expressions=[identifier(name) for name in columns]),
        expression=exp.Select(expressions=values),
        conflict=exp.OnConflict(
            conflict_keys=[identifier(name) for name in keys],
            action=exp.Var(this="DO UPDATE"),
            expressions=taken,
            where=exp.Where(this=not_older),
        ),
        returning=exp.Returning(expressions=[exp.true()]),
    )
