"""Events worked off: those that lead to links one after the other, those of a mirror's source in batches."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from recon.database import tables
from recon.database.connect import Database
from recon.errors import DatabaseUnreachable, LoadFailed, NotFound, ReconError, VerifyFailed
from recon.mirror import events as mirror_events
from recon.service.inbox import COLUMNS, FAILED, PENDING, SKIPPED, SUCCESS, Event, log
from recon.service.jobs import said
from recon.service.reconcile import explained, holder, reconcile
from recon.sources import hooks
from recon.sources.hooks import AnyHook, Arrival, Hook, MirrorHook
from recon.systems import logged
from recon.workspace import Workspace

MOST = 20  # events that one arrival works off: the rest waits for the next one
ATTEMPTS = 5  # after so many an event has failed


def work_off(database: Database, workspace: Workspace, known: Mapping[str, AnyHook], most: int = MOST) -> int:
    """Work off what waits, of every origin; returns how many events were looked at.

    Args:
        known: the hooks by origin.
        most: how many events that lead to links at most. Those of a mirror's source are worked off in batches, until none
            is due.

    Raises:
        DatabaseUnreachable: there is no database.
    """
    links = {origin: hook for origin, hook in known.items() if isinstance(hook, Hook)}
    done = _linked(database, workspace, links, most) if links else 0
    for hook in (hook for hook in known.values() if isinstance(hook, MirrorHook)):
        for scope in hook.scopes(workspace.variables):
            done += _mirrored(database, workspace, hook, scope)
    return done


def _mirrored(database: Database, workspace: Workspace, hook: MirrorHook, scope: str) -> int:
    done = 0
    try:
        while some := mirror_events.work_off(database, workspace, hook, scope).processed:
            done += some
    except DatabaseUnreachable:
        raise
    except ReconError as error:  # the others have their turn
        log(hook, "events wait", {"scope": scope, "reason": said(error)}, logging.ERROR)
    return done


def _linked(database: Database, workspace: Workspace, known: Mapping[str, Hook], most: int) -> int:
    """Work off what waits, oldest first, and what was tried least before that.

    One process at a time does this for a database; another one waits its turn, and finds what is left.
    """
    with _alone(database):
        with database.session(read_only=True) as session:
            waiting = [
                Event(*row)
                for row in session.rows(
                    f"SELECT {COLUMNS} FROM recon.webhook_events WHERE state = 'pending' "  # noqa: S608
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
                log(hook, came.line, came.about, came.level)
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
    log(hook, f"attempting to reconcile {hook.record}", {hook.record: key})
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
