"""Events that outside systems send, kept before anything is done about them.

An event is known by its own id within its scope, or by the sha256 of its body where it has none, so that one that is sent
again changes nothing. What became of it:

    pending   not worked off yet, or it went wrong and is tried again
    success   it was worked off: what it led to is there
    skipped   nothing was written; `said` tells why
    failed    it went wrong as often as it is tried; `said` tells how
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg import errors as pg_errors

from recon.backfill.standing import environment_of
from recon.database import tables
from recon.database.connect import Database
from recon.errors import Unreadable, visible
from recon.sources.hooks import AnyHook, MirrorHook
from recon.workspace import Workspace

ENABLED = "RECON_WEBHOOKS"  # the environments in which events are worked off, divided by commas
PENDING, SUCCESS, SKIPPED, FAILED = "pending", "success", "skipped", "failed"
STATES = (PENDING, SUCCESS, SKIPPED, FAILED)


@dataclass(frozen=True)
class Event:
    """An event as it is kept."""

    entry: int
    origin: str
    event: str
    kind: str | None
    state: str
    said: str | None
    attempts: int
    received_at: datetime
    payload: Mapping[str, Any]
    scope: str | None = None
    again: bool = False  # it had been received before

    def as_dict(self) -> dict[str, Any]:
        """What its sender is told."""
        return {"event": self.event, "state": self.state, "said": self.said, "received_before": self.again}


# -- whether anything is done ----------------------------------------------------------------------------


def not_enabled(workspace: Workspace, database: Database, meant_for: str | None = None) -> str:
    """Why events are kept but not worked off here; empty: they are worked off.

    Args:
        meant_for: the environment that the event's address names, where it names one.
    """
    here = environment_of(workspace, database)
    if meant_for is not None and meant_for != here:
        return f"wrong environment: it is meant for {meant_for}, this is {here}"
    named = [name.strip() for name in workspace.variables.get(ENABLED, "").split(",") if name.strip()]
    if not named:
        return f"not enabled in environment {here}: {ENABLED} is not set"
    if here not in named:
        return f"wrong environment: {ENABLED} names {', '.join(named)}, this is {here}"
    return ""


# -- kept ------------------------------------------------------------------------------------------------


def store(
    database: Database,
    workspace: Workspace,
    hook: AnyHook,
    body: bytes,
    payload: Mapping[str, Any],
    meant_for: str | None = None,
    scope: str | None = None,
) -> Event:
    """Keep an event before anything is done about it, in one statement.

    One that was skipped because nothing was enabled, or that failed, is taken up once it comes again; what it says stays
    what it said first.

    Args:
        body: as it came.
        payload: the body, read.
        meant_for: the environment that the address names; None: it names none.
        scope: whose records it is about, of a mirror's source; None: the system has no such parts.

    Raises:
        Unreadable: PostgreSQL cannot keep it.
        DatabaseUnreachable: nothing was kept.
    """
    told = hook.read(payload) if isinstance(hook, MirrorHook) else None
    own = hook.event(payload) if isinstance(hook, MirrorHook) else None
    why = not_taken(workspace, database, hook, meant_for) or (told.nothing if told else "")
    values = (
        hook.origin, own or hashlib.sha256(body).hexdigest(), scope, told.record if told else None, hook.kind(payload),
        environment_of(workspace, database), body.decode(), SKIPPED if why else PENDING, why or None,
    )  # fmt: skip
    rows = _stored(database, values)
    if rows is None:  # the first event of this database, or the first one after recon was upgraded
        tables.ensure(database)
        rows = _stored(database, values) or []
    *kept, new = rows[0]
    event = Event(*kept, again=new is not True)
    if why and not event.again:
        log(hook, "event skipped", {"event": event.event, "reason": why})
    return event


def _stored(database: Database, values: Sequence[object]) -> list[tuple[Any, ...]] | None:
    """The row of an event, and whether it is new; None where our own tables are not as they should be."""
    with database.session() as session:
        try:
            # None: the same event came at the same time, and its row is seen by the next look.
            return session.rows(_STORE, *values) or session.rows(_AS_STORED, values[0], values[1], values[2])
        except (pg_errors.UndefinedTable, pg_errors.UndefinedColumn, pg_errors.InvalidSchemaName):
            session.rollback()
            return None
        except (psycopg.DataError, UnicodeEncodeError) as error:  # a NUL, half a character, a number beyond all bounds
            raise Unreadable() from error


def not_taken(workspace: Workspace, database: Database, hook: AnyHook, meant_for: str | None) -> str:
    """Why an event is kept but not worked off. That of a mirror's source is, unless the settings name other environments."""
    if isinstance(hook, MirrorHook) and meant_for is None and not workspace.variables.get(ENABLED, "").strip(", "):
        return ""
    return not_enabled(workspace, database, meant_for)


COLUMNS = "entry, origin, event, kind, state, said, attempts, received_at, payload, scope"
_IS = "origin = $1 AND event = $2 AND coalesce(scope, '') = coalesce($3::text, '')"
# The same event again is the same row, and xmax tells an inserted one. `attempts` tells what was looked at from what nobody was allowed to look at.
_STORE = f"""
    WITH taken AS (
        INSERT INTO recon.webhook_events AS kept
            (origin, event, scope, record, kind, environment, payload, state, said, completed_at)
        VALUES ($1, $2, $3::text, $4::text, $5, $6, $7::jsonb, $8::text, $9::text,
            CASE WHEN $8::text = 'skipped' THEN clock_timestamp() END)
        ON CONFLICT (origin, event, coalesce(scope, '')) DO UPDATE SET
            environment = excluded.environment, state = excluded.state, said = excluded.said,
            completed_at = excluded.completed_at, attempts = 0
        WHERE kept.state = 'skipped' AND kept.attempts = 0 OR kept.state = 'failed'
        RETURNING {COLUMNS}, xmax = 0 AS new
    )
    SELECT * FROM taken UNION ALL
    SELECT {COLUMNS}, false FROM recon.webhook_events WHERE {_IS} AND NOT EXISTS (SELECT FROM taken)
"""  # noqa: S608 (our own names)
_AS_STORED = f"SELECT {COLUMNS}, false FROM recon.webhook_events WHERE {_IS}"  # noqa: S608


def by_identity(database: Database, origin: str, event: str, scope: str | None = None) -> Event:
    """One event as it is now."""
    with database.session(read_only=True) as session:
        return Event(*session.rows(_AS_STORED, origin, event, scope)[0][:-1])


def log(hook: AnyHook, line: str, about: Mapping[str, object], level: int = logging.INFO) -> None:
    """A line of the log: the message, then what it is about as key=value; both stand in the record apart, too."""
    told = "".join(
        f" {name}={json.dumps(visible(str(given)), ensure_ascii=False)}"
        for name, given in about.items()
        if given is not None
    )
    logger = logging.getLogger(f"recon.{hook.reconciliation}")
    logger.log(level, "%s%s", line, told, extra={"line": line, "about": about})
