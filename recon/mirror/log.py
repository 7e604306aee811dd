"""The log of a mirror's runs: what asked for each, when it ran, what it did, and how it ended (SYN-07)."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from psycopg import errors as pg_errors

from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import Locked, ReconError, of_place

PENDING, RUNNING, SUCCESS, PARTIAL, FAILED = "pending", "running", "success", "partial", "failed"
COUNTS = ("fetched", "created", "updated", "orphaned", "deleted", "errors")
PATIENCE_SECONDS = 60  # how long a run waits for the one before it
DIED = "it ended without a word: killed, or cut off from the server"


@contextmanager
def one_at_a_time(
    database: Database,
    reconciliation: str,
    cause: str,
    actor: str,
    scope: str | None,
    patience: float = PATIENCE_SECONDS,
) -> Generator[str]:
    """A run of a mirror: its row in the log, pending until no other run of the mirror goes on, then running.

    Whatever ends the `with` by an error ends the row as failed; else the caller has called `end`.

    Raises:
        Locked: another run of this mirror did not end in time; the row says so.
    """
    tables.ensure(database)
    identity = tables.new_id("sync")
    with database.session() as session:
        session.connection.execute(
            tables.sync_runs.insert().values(
                id=identity, reconciliation=reconciliation, scope=scope, cause=cause, actor=actor, status=PENDING
            )
        )
    try:
        with database.session() as holder:
            _lock(holder, f"sync run {identity}")
            try:
                holder.execute("SELECT set_config('lock_timeout', $1, false)", f"{int(patience * 1000)}ms")
                _lock(holder, f"sync {reconciliation}")
            except pg_errors.LockNotAvailable as error:
                raise Locked(
                    f"Another run of {reconciliation} has been at work for {patience:.0f} seconds.",
                    why="One run of a mirror goes on at a time.",
                    todo="Try again when it has ended; `recon sync` without --execute shows the last ones.",
                ) from error
            holder.commit()  # the locks are the connection's; no transaction stays open meanwhile
            with database.session() as session:
                _bury(session, reconciliation, identity)
                session.execute(
                    "UPDATE recon.sync_runs SET status = 'running', started_at = clock_timestamp() WHERE id = $1",
                    identity,
                )
            try:
                yield identity
            finally:
                holder.execute("SELECT pg_advisory_unlock_all()")
                holder.commit()
    except BaseException as error:
        _failed(database, identity, _said(error))
        raise


def _said(error: BaseException) -> str:
    """Why a run ended; of what is not ours the kind only, for its text may hold values of records."""
    known = of_place(error) or error
    return str(known) if isinstance(known, ReconError) else f"something unforeseen went wrong ({type(known).__name__})"


def _lock(session: Session, what: str) -> None:
    session.execute("SELECT pg_advisory_lock($1::int, hashtext($2))", tables.LOCK_SPACE, what)


def _bury(session: Session, reconciliation: str, identity: str) -> None:
    """Close the account of runs whose process is gone."""
    left = session.rows(
        "SELECT id FROM recon.sync_runs WHERE reconciliation = $1 AND status IN ('pending', 'running') AND id <> $2",
        reconciliation, identity,
    )  # fmt: skip
    for (other,) in left:
        free = "SELECT pg_try_advisory_xact_lock($1::int, hashtext($2))"
        if session.value(free, tables.LOCK_SPACE, f"sync run {other}"):
            session.execute(_END, other, FAILED, None, None, DIED)


def _failed(database: Database, identity: str, said: str) -> None:
    with database.session() as session:
        session.execute(_END, identity, FAILED, None, None, said)


def end(
    database: Database,
    identity: str,
    status: str,
    stats: Mapping[str, Any],
    parts: Sequence[Mapping[str, Any]],
    error: str | None,
) -> None:
    """Write down how a run ended; its duration is added to `stats`, in milliseconds."""
    runs = tables.sync_runs
    ended = sa.func.clock_timestamp()
    took = sa.cast(sa.extract("epoch", ended - runs.c.started_at) * 1000, sa.BigInteger)
    with database.session() as session:
        session.connection.execute(
            runs.update()
            .where(runs.c.id == identity)
            .values(status=status, completed_at=ended, duration_ms=took, stats=stats, parts=list(parts), error=error)
        )
        session.execute(
            "UPDATE recon.sync_runs SET stats = stats || jsonb_build_object('duration', duration_ms) WHERE id = $1",
            identity,
        )


_END = """
    UPDATE recon.sync_runs SET status = $2, stats = coalesce($3::jsonb, stats), parts = coalesce($4::jsonb, parts),
        error = $5, completed_at = clock_timestamp(),
        duration_ms = (extract(epoch FROM clock_timestamp() - coalesce(started_at, created_at)) * 1000)::bigint
    WHERE id = $1 AND status IN ('pending', 'running')
"""


# -- looked at -------------------------------------------------------------------------------------------


def latest(database: Database, reconciliation: str, scope: str | None = None) -> dict[str, Any] | None:
    """The last run that has ended, of all scopes or of one alone; None: there is none."""
    found = listed(database, reconciliation, scope, limit=1, ended=True)
    return found[0] if found else None


def listed(
    database: Database,
    reconciliation: str,
    scope: str | None = None,
    *,
    limit: int = 20,
    ended: bool = False,
    before: datetime | None = None,
) -> list[dict[str, Any]]:
    """The runs of a mirror, newest first.

    Args:
        scope: only runs that were about this scope alone; None: all.
        ended: leave out those that wait or go on.
        before: only those created before this moment.
    """
    tables.ensure(database)
    runs = tables.sync_runs
    query = sa.select(runs).where(runs.c.reconciliation == reconciliation)
    if scope is not None:
        query = query.where(runs.c.scope == scope)
    if ended:
        query = query.where(runs.c.status.not_in((PENDING, RUNNING)))
    if before is not None:
        query = query.where(runs.c.created_at < before)
    query = query.order_by(runs.c.created_at.desc(), runs.c.id.desc()).limit(limit)
    with database.session(read_only=True) as session:
        return [dict(row) for row in session.connection.execute(query).mappings()]


def last_whole(database: Database, reconciliation: str) -> dict[str, Any] | None:
    """The last run over all scopes that began and has ended; None: there is none."""
    return _last(database, tables.sync_runs.c.reconciliation == reconciliation, tables.sync_runs.c.scope.is_(None))


def last_of(database: Database, reconciliation: str, scope: str) -> dict[str, Any] | None:
    """The last run that asked the source about all of a scope, began and has ended; None: there is none.

    Runs that events ask for are about their own records only, and tell nothing of the rest.
    """
    runs = tables.sync_runs
    own = sa.or_(runs.c.scope.is_(None), runs.c.scope == scope)
    return _last(database, runs.c.reconciliation == reconciliation, own, runs.c.cause != "event")


def _last(database: Database, *conditions: sa.ColumnElement[bool]) -> dict[str, Any] | None:
    tables.ensure(database)
    runs = tables.sync_runs
    query = sa.select(runs).where(*conditions, runs.c.started_at.is_not(None), runs.c.completed_at.is_not(None))
    with database.session(read_only=True) as session:
        found = session.connection.execute(query.order_by(runs.c.created_at.desc(), runs.c.id.desc()).limit(1))
        row = found.mappings().first()
    return None if row is None else dict(row)


def current(database: Database, reconciliation: str) -> str:
    """What a mirror does now: running, pending or idle; a row that a killed process left does not count."""
    tables.ensure(database)
    with database.session() as session:
        rows = session.rows(
            "SELECT id, status FROM recon.sync_runs WHERE reconciliation = $1 AND status IN ('pending', 'running')",
            reconciliation,
        )
        free = "SELECT pg_try_advisory_xact_lock($1::int, hashtext($2))"
        alive = {
            status for identity, status in rows if not session.value(free, tables.LOCK_SPACE, f"sync run {identity}")
        }
    return RUNNING if RUNNING in alive else PENDING if alive else "idle"
