"""Events that outside systems send: kept first, worked off one after the other, with what came of each in words.

An event is known by the sha256 of its body, so that one that is sent again changes nothing. What became of it:

    pending   not worked off yet, or it went wrong and is tried again with the next arrival
    success   a target holds the record: it did before, or it does now
    skipped   nothing was linked; `said` tells why
    failed    it went wrong as often as it is tried; `said` tells how
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg
import sqlalchemy as sa

from recon.backfill.standing import environment_of
from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import DatabaseUnreachable, LoadFailed, NotFound, visible
from recon.service.jobs import said
from recon.service.reconcile import explained, reconcile
from recon.sources import hooks
from recon.sources.hooks import Hook
from recon.workspace import Workspace

ENABLED = "RECON_WEBHOOKS"  # the environments in which events are worked off, divided by commas
MOST = 20  # events that one arrival works off: the rest waits for the next one
ATTEMPTS = 5  # after so many an event has failed
REASONS = 5  # why nothing was done, as told of each origin

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

    One that was skipped because nothing was enabled waits to be worked off once it comes again and is.

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
        _log(hook).info("event %s was kept and skipped: %s", kind, why)
    return event


# The same event again is the same row, and xmax tells an inserted one. `attempts` tells what was looked at from what nobody was allowed to look at.
_STORE = """
    INSERT INTO recon.webhook_events AS kept (origin, event, kind, environment, payload, state, said, completed_at)
    VALUES ($1, $2, $3, $4, $5::jsonb, $6::text, $7::text, CASE WHEN $6::text = 'skipped' THEN clock_timestamp() END)
    ON CONFLICT (origin, event) DO UPDATE SET
        environment = excluded.environment, state = excluded.state, said = excluded.said,
        completed_at = excluded.completed_at
    WHERE kept.state = 'skipped' AND kept.attempts = 0
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
            _tried(database, event)
            state, words = _worked_off(database, workspace, known[event.origin], event)
            _ended(database, event, state, words)
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


def _ended(database: Database, event: Event, state: str, words: str) -> None:
    kept = tables.webhook_events
    at = None if state == PENDING else sa.func.clock_timestamp()
    with database.session() as session:
        session.connection.execute(
            kept.update().where(kept.c.entry == event.entry).values(state=state, said=words, completed_at=at)
        )


def _worked_off(database: Database, workspace: Workspace, hook: Hook, event: Event) -> tuple[str, str]:
    """One event: its state from now on, and what is said of it."""
    log = _log(hook)
    if event.attempts >= ATTEMPTS:  # each of them ended the process
        return FAILED, f"failed after {ATTEMPTS} attempts: none of them came to an end"
    try:
        state, words = _meant(database, workspace, hook, event)
    except LoadFailed as error:
        state, words = SKIPPED, f"{event.kind or 'the event'} cannot be read: {error}"
    except Exception as error:  # whatever it is, the event is kept and the next one is looked at
        if isinstance(error, DatabaseUnreachable):
            raise
        attempt = event.attempts + 1
        state = FAILED if attempt >= ATTEMPTS else PENDING
        again = "" if state == FAILED else f"; attempt {attempt} of {ATTEMPTS}, tried again with the next event"
        words = f"failed: {said(error).rstrip('.')}{again}"
        log.error("%s", visible(words))
        return state, words
    log.info("%s", visible(words))
    return state, words


def _meant(database: Database, workspace: Workspace, hook: Hook, event: Event) -> tuple[str, str]:
    arrival = hook.read(event.payload)
    if arrival.row is None:
        return SKIPPED, arrival.nothing
    spec = workspace.spec(hook.reconciliation)
    with database.session() as session:
        taken = hooks.keep(session, spec, arrival.row, hook.newer)
    label = f"{hook.record} {arrival.key}"
    none = f"no {hook.holder} linked to {label}"
    try:
        found = explained(database, spec, arrival.key)
    except NotFound as error:
        return SKIPPED, f"{none}: {arrival.nothing or error.why or error.what}"
    if found.link is not None:
        updated = "updated" if taken else "left as it is, for it is newer here"
        return SUCCESS, f"{label} {updated}; {hook.holder} {found.link} holds it"
    if not arrival.reconciles:
        return SKIPPED, f"{none}: {arrival.nothing}"
    _log(hook).info("attempting to reconcile %s", visible(label))
    done = reconcile(database, workspace, spec, found, arrival.row)
    if done.holder is None:
        return SKIPPED, f"{none}: {done.words}"
    return SUCCESS, f"successfully reconciled {label} with {hook.holder} {done.holder} ({done.words})"


def _log(hook: Hook) -> logging.Logger:
    return logging.getLogger(f"recon.{hook.reconciliation}")


# -- looked at -------------------------------------------------------------------------------------------


def by_identity(database: Database, origin: str, event: str) -> Event:
    """One event as it is now."""
    with database.session(read_only=True) as session:
        return Event(*session.rows(_STORED, origin, event)[0])


def status(database: Database, workspace: Workspace, known: Mapping[str, Hook]) -> list[dict[str, Any]]:
    """How each origin stands: whether its events are worked off, what came and when, and why nothing was done."""
    tables.ensure(database)
    now = datetime.now(UTC)
    with database.session(read_only=True) as session:
        return [_of_origin(session, database, workspace, hook, now) for hook in known.values()]


def _of_origin(session: Session, database: Database, workspace: Workspace, hook: Hook, now: datetime) -> dict[str, Any]:
    counts = dict(
        session.rows("SELECT state, count(*) FROM recon.webhook_events WHERE origin = $1 GROUP BY 1", hook.origin)
    )
    last = session.value("SELECT max(received_at) FROM recon.webhook_events WHERE origin = $1", hook.origin)
    reasons = session.records(
        "SELECT received_at AS at, kind, state, said FROM recon.webhook_events "
        "WHERE origin = $1 AND state <> 'success' ORDER BY entry DESC LIMIT $2",
        hook.origin, REASONS,
    )  # fmt: skip
    why = not_enabled(workspace, database)
    if not workspace.variables.get(hook.secret):
        why = f"not enabled: {hook.secret} is not set, so no event can be told from a forged one"
    return {
        "origin": hook.origin,
        "reconciliation": hook.reconciliation,
        "environment": environment_of(workspace, database),
        "enabled": not why,
        "why": why or None,
        "last_event_at": last,
        "silent_seconds": round((now - last).total_seconds()) if last else None,
        "silence": f"no events received since {last:%Y-%m-%d %H:%M:%S} UTC" if last else "no events received yet",
        "counts": {state: counts.get(state, 0) for state in STATES},
        "reasons": reasons,
    }
