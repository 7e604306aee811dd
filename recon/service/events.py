"""Events that outside systems send: kept first, worked off one after the other, with what came of each in words.

An event is known by the sha256 of its body, so that one that is sent again changes nothing. What became of it:

    pending   not worked off yet, or it went wrong and is tried again with the next arrival
    success   a target holds the record: it did before, or it does now
    skipped   nothing was linked; `said` tells why
    failed    it went wrong as often as it is tried; `said` tells how
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
import sqlalchemy as sa

from recon.backfill.standing import environment_of
from recon.database import tables
from recon.database.connect import Database
from recon.errors import DatabaseUnreachable, LoadFailed, NotFound, VerifyFailed, visible
from recon.service.jobs import said
from recon.service.reconcile import explained, holder, reconcile
from recon.sources import hooks
from recon.sources.hooks import Arrival, Hook
from recon.systems import logged
from recon.workspace import Workspace

ENABLED = "RECON_WEBHOOKS"  # the environments in which events are worked off, divided by commas
MOST = 20  # events that one arrival works off: the rest waits for the next one
ATTEMPTS = 5  # after so many an event has failed

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
    again: bool = False  # it had been received before

    def as_dict(self) -> dict[str, Any]:
        """What its sender is told."""
        return {"event": self.event, "state": self.state, "said": self.said, "received_before": self.again}


class Unreadable(LoadFailed):
    """The body is JSON that PostgreSQL cannot keep."""


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
    database: Database, workspace: Workspace, hook: Hook, body: bytes, payload: Mapping[str, Any], meant_for: str | None
) -> Event:
    """Keep an event before anything is done about it.

    One that was skipped because nothing was enabled, or that failed, is taken up once it comes again.

    Args:
        body: as it came.
        payload: the body, read.
        meant_for: the environment that the address names; None: it names none.

    Raises:
        Unreadable: PostgreSQL cannot keep it.
        DatabaseUnreachable: nothing was kept.
    """
    tables.ensure(database)
    why = not_enabled(workspace, database, meant_for)
    kind, identity = hook.kind(payload), hashlib.sha256(body).hexdigest()
    with database.session() as session:
        try:
            new = session.rows(
                _STORE, hook.origin, identity, kind, environment_of(workspace, database), body.decode(),
                SKIPPED if why else PENDING, why or None,
            )  # fmt: skip
        except (psycopg.DataError, UnicodeEncodeError) as error:  # a NUL, half a character, a number beyond all bounds
            raise Unreadable() from error
        kept = session.rows(_STORED, hook.origin, identity)[0]
    event = Event(*kept, again=new != [(True,)])
    if why and not event.again:
        _log(hook, "event skipped", {"event": event.event, "reason": why})
    return event


# The same event again is the same row, and xmax tells an inserted one. `attempts` tells what was looked at from what nobody was allowed to look at.
_STORE = """
    INSERT INTO recon.webhook_events AS kept (origin, event, kind, environment, payload, state, said, completed_at)
    VALUES ($1, $2, $3, $4, $5::jsonb, $6::text, $7::text, CASE WHEN $6::text = 'skipped' THEN clock_timestamp() END)
    ON CONFLICT (origin, event, coalesce(scope, '')) DO UPDATE SET
        environment = excluded.environment, state = excluded.state, said = excluded.said,
        completed_at = excluded.completed_at, attempts = 0
    WHERE kept.state = 'skipped' AND kept.attempts = 0 OR kept.state = 'failed'
    RETURNING xmax = 0
"""
_COLUMNS = "entry, origin, event, kind, state, said, attempts, received_at, payload"
_STORED = f"SELECT {_COLUMNS} FROM recon.webhook_events WHERE origin = $1 AND event = $2"  # noqa: S608 (our own names)


# -- worked off ------------------------------------------------------------------------------------------


def work_off(database: Database, workspace: Workspace, known: Mapping[str, Hook], most: int = MOST) -> int:
    """Work off what waits, oldest first, and what was tried least before that; returns how many were looked at.

    One process at a time does this for a database; another one waits its turn, and finds what is left.

    Args:
        known: the hooks by origin.
        most: how many events at most.
    """
    with _alone(database):
        with database.session(read_only=True) as session:
            waiting = [
                Event(*row)
                for row in session.rows(
                    f"SELECT {_COLUMNS} FROM recon.webhook_events WHERE state = 'pending' "  # noqa: S608
                    "AND origin = ANY ($1) ORDER BY attempts, entry LIMIT $2",
                    list(known), most,
                )
            ]  # fmt: skip
        for event in waiting:
            hook = known[event.origin]
            with logged(database, workspace, hook.reconciliation):
                _tried(database, event)
                came = _worked_off(database, workspace, hook, event)
                _ended(database, event, came)
                _log(hook, came.line, came.about, came.level)
    return len(waiting)


@contextmanager
def _alone(database: Database) -> Generator[None]:
    with database.session() as session:
        session.execute("SELECT pg_advisory_lock($1::int, hashtext('webhooks'))", tables.LOCK_SPACE)
        session.commit()  # the lock is the connection's; no transaction stays open meanwhile
        yield


def _tried(database: Database, event: Event) -> None:
    """Count the attempt before it is made, so that one which ends the process counts too."""
    with database.session() as session:
        session.execute(
            "UPDATE recon.webhook_events SET attempts = attempts + 1, said = NULL WHERE entry = $1", event.entry
        )


def _ended(database: Database, event: Event, came: _Came) -> None:
    kept = tables.webhook_events
    at = None if came.state == PENDING else sa.func.clock_timestamp()
    with database.session() as session:
        session.connection.execute(
            kept.update().where(kept.c.entry == event.entry).values(state=came.state, said=came.said, completed_at=at)
        )


@dataclass(frozen=True)
class _Came:
    """What came of an event: its state, what is said of it, and the same as a line of the log."""

    state: str
    said: str
    line: str
    about: Mapping[str, object]
    level: int = logging.INFO


def _worked_off(database: Database, workspace: Workspace, hook: Hook, event: Event) -> _Came:
    if event.attempts >= ATTEMPTS:  # each of them ended the process
        return _failed(event, ATTEMPTS, "none of its attempts came to an end")
    try:
        arrival = hook.read(event.payload)
    except LoadFailed as error:
        return _skipped(event, f"{event.kind or 'the event'} cannot be read: {error}")
    except Exception as error:  # a fault of ours: it must not keep the others waiting
        return _failed(event, event.attempts + 1, said(error).rstrip("."))
    if arrival.row is None:
        return _skipped(event, arrival.nothing)
    try:
        return _reconciled(database, workspace, hook, arrival, arrival.row)
    except DatabaseUnreachable:
        raise  # nothing can be written about it; the event waits as it is
    except VerifyFailed as error:  # another attempt would find the record linked, and call it well
        return _failed(event, ATTEMPTS, str(error).rstrip("."))
    except Exception as error:  # whatever it is, the event is kept and the next one is looked at
        return _failed(event, event.attempts + 1, said(error).rstrip("."))


def _reconciled(
    database: Database, workspace: Workspace, hook: Hook, arrival: Arrival, row: Mapping[str, Any]
) -> _Came:
    key, label = arrival.key, f"{hook.record} {arrival.key}"
    spec = workspace.spec(hook.reconciliation)
    with database.session() as session:
        taken = hooks.keep(session, spec, row, hook.newer)
    try:
        found = explained(database, spec, key)
    except NotFound as error:  # `where` leaves it out, which lets go of no link
        found, held, why = None, holder(database, spec, key), arrival.nothing or error.why or error.what
    else:
        held, why = found.link, arrival.nothing
    if held is not None:
        updated = "updated" if taken else "left as it is, for it is newer here"
        line, about = f"{hook.record} {updated}", {hook.record: key, hook.holder: held, "reason": why or None}
        said_too = f"; {why.rstrip('.')}" if why else ""
        return _Came(SUCCESS, f"{label} {updated}; {hook.holder} {held} holds it{said_too}", line, about)
    if found is None:
        return _unlinked(hook, key, why)
    if not arrival.reconciles:
        return _unlinked(hook, key, arrival.nothing)
    _log(hook, f"attempting to reconcile {hook.record}", {hook.record: key})
    done = reconcile(database, workspace, spec, found, row)
    if done.holder is None:
        return _unlinked(hook, key, done.words, done.plan)
    line = f"successfully reconciled {hook.record}"
    about = {hook.record: key, hook.holder: done.holder, "plan": done.plan}
    return _Came(SUCCESS, f"{line} {key} with {hook.holder} {done.holder} ({done.words})", line, about)


def _unlinked(hook: Hook, key: str, why: str, plan: str | None = None) -> _Came:
    line = f"no {hook.holder} linked to {hook.record}"
    return _Came(SKIPPED, f"{line} {key}: {why}", line, {hook.record: key, "plan": plan, "reason": why})


def _skipped(event: Event, why: str) -> _Came:
    return _Came(SKIPPED, why, "event skipped", {"event": event.event, "reason": why})


def _failed(event: Event, attempt: int, why: str) -> _Came:
    again = f"; attempt {attempt} of {ATTEMPTS}, tried again with the next event" if attempt < ATTEMPTS else ""
    about: dict[str, object] = {"event": event.event, "attempt": attempt, "reason": why}
    state = PENDING if again else FAILED
    return _Came(state, f"failed: {why}{again}", "event failed", about, logging.ERROR)


def _log(hook: Hook, line: str, about: Mapping[str, object], level: int = logging.INFO) -> None:
    """A line of the log: the message, then what it is about as key=value; both stand in the record apart, too."""
    told = "".join(
        f" {name}={json.dumps(visible(str(given)), ensure_ascii=False)}"
        for name, given in about.items()
        if given is not None
    )
    log = logging.getLogger(f"recon.{hook.reconciliation}")
    log.log(level, "%s%s", line, told, extra={"line": line, "about": about})


# -- looked at -------------------------------------------------------------------------------------------


def by_identity(database: Database, origin: str, event: str) -> Event:
    """One event as it is now."""
    with database.session(read_only=True) as session:
        return Event(*session.rows(_STORED, origin, event)[0])
