"""Follow-ups carried out: what is due is handed to its handler, tried again where it failed, and counted.

An attempt is written down before its handler is called. So a process that is killed leaves a job `doing`, which is due
again: handlers are told an occasion that stays the same, by which what was done already stays done once.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

from sqlglot import exp

from recon.database import tables
from recon.database.connect import Database, Session
from recon.database.relations import Relation
from recon.errors import NotFound, ReconError, visible
from recon.mirror.follow_ups import target
from recon.names import DIALECT, column
from recon.outside.jobs import Handler, Job, open_handler
from recon.spec import Reconciliation
from recon.workspace import Workspace

MOST = 500  # jobs at a time, where nobody says otherwise
PATIENCE_SECONDS = 300.0  # after which no further job is begun: the next time goes on
HOURLY = 48  # further attempts: a lock system that is down for a day leaves no door open
PAUSES = (*(timedelta(minutes=minutes) for minutes in (1, 5, 30, 30)), *[timedelta(hours=1)] * HOURLY)
ATTEMPTS = len(PAUSES) + 1  # of one job; then it is failed, until a person has it tried again
CUT_OFF = 5  # attempts of one that never came to an end: it may be what ends the process
SAID_CHARACTERS = 500
TOLD_ERRORS = 20  # of one call

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Done:
    """What came of the jobs that were due.

    Args:
        done: carried out.
        failed: tried in vain: they are tried again later, or failed for good.
        waiting: due, and not tried: more than `most`, no time left, or no handler installed.
        errors: what the first of the failed ones said, and which handlers are missing.
    """

    done: int
    failed: int
    waiting: int
    errors: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Taken:
    """A job whose attempt is written down."""

    job: str
    key: list[str]
    scope: str | None
    due: datetime
    attempt: int
    occasion: str


def carry_out(
    database: Database,
    workspace: Workspace,
    spec: Reconciliation,
    now: datetime,
    most: int = MOST,
    *,
    patience: float = PATIENCE_SECONDS,
) -> Done:
    """Carry out what is due, what has been due longest first. A job that fails keeps none of the others waiting.

    One process at a time does this for a reconciliation; another one waits its turn, and finds what is left.

    Args:
        database: where records and jobs are.
        workspace: whose settings the handlers get.
        spec: the reconciliation.
        now: with its time zone: what is due by then.
        most: so many jobs at most.
        patience: seconds after which no further job is begun.

    Raises:
        SchemaMismatch, SpecError: the spec does not fit the target.
        DatabaseUnreachable: the connection broke off; the job that was at work is due again.
    """
    tables.ensure(database)
    handlers, errors = _handlers(spec)
    until = monotonic() + patience
    done = failed = 0
    with _alone(database, spec.name) as session:
        _give_up(session, spec.name, now)
        relation = target(session, spec)
        session.commit()
        while done + failed < most and monotonic() < until:
            taken = _take(session, spec.name, list(handlers), now)
            if taken is None:
                break
            error = _tried(database, workspace, session, spec, relation, handlers[taken.job], taken, now)
            if error is None:
                done += 1
            else:
                failed += 1
                errors.append(f"{taken.job} of {', '.join(taken.key)}: {error}")
        waiting = session.value(f"SELECT count(*) {_DUE}", spec.name, now)
    return Done(done, failed, waiting, tuple(errors[:TOLD_ERRORS]))


def _handlers(spec: Reconciliation) -> tuple[dict[str, Handler], list[str]]:
    """The handlers by job, and what is to be said of those that cannot be had: their jobs wait, and no attempt counts."""
    found: dict[str, Handler] = {}
    errors: list[str] = []
    for item in spec.follow_ups:
        try:
            found[item.job] = open_handler(item.job)
        except NotFound as error:
            errors.append(str(error))
        except Exception as error:  # of the package that brings it
            errors.append(f'The follow-up "{item.job}" cannot be loaded ({type(error).__name__}).')
    return found, errors


@contextmanager
def _alone(database: Database, name: str) -> Generator[Session]:
    """A session that holds the lock; it writes what becomes of each job, so that who lost the lock writes nothing."""
    with database.session() as session:
        session.execute(
            "SELECT pg_advisory_lock($1::int, hashtext($2))", tables.LOCK_SPACE, f"follow-ups at work {name}"
        )
        session.commit()  # the lock is the connection's; no transaction stays open meanwhile
        yield session


# -- one job ---------------------------------------------------------------------------------------------

# Whoever holds the lock does one job at a time: what is `doing` otherwise was left by a process that is no more.
_DUE = """
    FROM recon.follow_ups WHERE reconciliation = $1 AND state IN ('waiting', 'doing') AND due_at <= $2::timestamptz
      AND (next_at IS NULL OR next_at <= $2)
"""
# By when it could be done first, so that what was tried in vain stands behind what was never tried.
_TAKE = f"""
    UPDATE recon.follow_ups AS kept SET state = 'doing', attempts = attempts + 1, next_at = NULL
    FROM (
        SELECT reconciliation, job, key {_DUE} AND job = ANY ($3::text[])
        ORDER BY coalesce(next_at, due_at), due_at, job, key LIMIT 1 FOR UPDATE
    ) AS first
    WHERE (kept.reconciliation, kept.job, kept.key) = (first.reconciliation, first.job, first.key)
    RETURNING kept.job, kept.key, kept.scope, kept.due_at, kept.attempts,
        to_char(kept.due_at, 'YYYYMMDD"T"HH24MISSUS') || '-' || to_char(kept.changed_at, 'YYYYMMDD"T"HH24MISSUS')
"""  # noqa: S608 (parts of our own)
# What was moved or dropped meanwhile is no longer what was done: it stays as it is.
_END = """
    UPDATE recon.follow_ups SET state = $5, said = $6, next_at = $7, done_at = $8
    WHERE reconciliation = $1 AND job = $2 AND key = $3 AND attempts = $4 AND state = 'doing'
"""
_GIVE_UP = f"""
    UPDATE recon.follow_ups SET state = 'failed', said = 'none of its attempts came to an end'
    WHERE reconciliation = $1 AND state = 'doing' AND attempts >= {CUT_OFF}
"""  # noqa: S608 (a number of our own)


def _give_up(session: Session, name: str, now: datetime) -> None:
    """Whatever ended the process at each of its attempts is not tried again."""
    session.execute(_GIVE_UP, name)
    session.commit()


def _take(session: Session, name: str, jobs: Sequence[str], now: datetime) -> _Taken | None:
    """The next job that is due, its attempt written down."""
    found = session.rows(_TAKE, name, now, list(jobs))
    session.commit()
    if not found:
        return None
    job, key, scope, due, attempt, stamp = found[0]
    return _Taken(job, key, scope, due, attempt, f"{_id(name, job, key)}@{stamp}")


def _tried(
    database: Database,
    workspace: Workspace,
    session: Session,
    spec: Reconciliation,
    relation: Relation,
    handler: Handler,
    taken: _Taken,
    now: datetime,
) -> str | None:
    """Have a job done, and write down what came of it; gives why it failed, None where it did not."""
    error: str | None = None
    said = ""
    try:
        job = Job(
            id=_id(spec.name, taken.job, taken.key),
            occasion=taken.occasion,
            reconciliation=spec.name,
            name=taken.job,
            key=tuple(taken.key),
            scope=taken.scope,
            due=taken.due.astimezone(UTC),
            now=now.astimezone(UTC),
            record=_record(database, spec, relation, taken.key),
            database=database,
            variables=workspace.variables,
        )
        said = handler(job)
    except Exception as raised:  # whatever it is, the next one is carried out
        error = _words(raised)
        _log.warning("follow-up %s failed: %s", taken.occasion, visible(error))
    state, next_at, done_at = "done", None, now
    if error is not None:
        again = taken.attempt < ATTEMPTS
        state, next_at, done_at = "waiting" if again else "failed", None, None
        if again:
            next_at = now + PAUSES[taken.attempt - 1]
    words = _short(str(said if error is None else error))
    session.execute(_END, spec.name, taken.job, taken.key, taken.attempt, state, words, next_at, done_at)
    session.commit()
    return error


def _words(error: Exception) -> str:
    """A failure in words; of what is not ours kind and place only, for its text may hold values or a credential."""
    if isinstance(error, ReconError):
        return str(error)
    *_, last = traceback.extract_tb(error.__traceback__)
    return f"Something unforeseen went wrong ({type(error).__name__}, {Path(last.filename).name} line {last.lineno})."


def _id(name: str, job: str, key: Sequence[str]) -> str:
    """The job of a record in one word, whatever characters its key holds."""
    return "/".join(quote(part, safe="") for part in (name, job, *key))


def _short(text: str) -> str:
    shown = visible(" ".join(text.split()))
    return shown if len(shown) <= SAID_CHARACTERS else f"{shown[:SAID_CHARACTERS]}…"


def _record(
    database: Database, spec: Reconciliation, relation: Relation, key: Sequence[str]
) -> Mapping[str, Any] | None:
    """The target's record as it is now, by column name."""
    # A bare parameter takes the column's type, so that an index finds it.
    same = [
        exp.EQ(this=column("t", name), expression=exp.Parameter(this=exp.Literal.number(number)))
        for number, name in enumerate(spec.target.keys, start=1)
    ]
    query = exp.Select(expressions=[exp.Star()]).from_(relation.aliased("t")).where(*same)
    with database.session(read_only=True) as session:
        session.plain_path()
        return next(iter(session.records(query.limit(1).sql(DIALECT), *key)), None)
