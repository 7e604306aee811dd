"""The queue of jobs: procrastinate's tables in schema `recon`, what is due put in, what was lost taken up again."""

from __future__ import annotations

import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Concatenate

import psycopg
from procrastinate import App, BaseRetryStrategy, JobContext, PsycopgConnector, RetryDecision
from procrastinate.exceptions import AlreadyEnqueued
from procrastinate.jobs import Job, Status
from procrastinate.schema import SchemaManager

from recon.database import tables
from recon.database.connect import Database
from recon.service import jobs, schedules
from recon.service.schedules import Schedule
from recon.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable

    Ended = Callable[["Outcome"], None]

LANES = ("default", "sync")  # each does one job after another, so that no mirror waits for a report
CONNECTIONS = 5  # at most, of one worker: each lane listens on one, and works the queue on the others
SILENT_SECONDS = 30.0  # a worker that did not say for so long that it lives may be gone; it says so every 10 s
KEEP_HOURS = 24 * 90  # what has ended is kept for a quarter of a year
# A server finds out within a minute that the machine of a worker is gone, and lets its lock go.
_ALIVE = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
# What a clock that was ahead put in counts once it is due; until then it would keep everything else out.
_LATEST = """
    SELECT periodic_id, max(defer_timestamp) AS at FROM procrastinate_periodic_defers
    WHERE defer_timestamp <= %(now)s GROUP BY periodic_id
"""
_AT_WORK = """
    SELECT args ->> 'reconciliation' AS name FROM procrastinate_jobs WHERE task_name = 'sync' AND status = 'doing'
"""


@dataclass(frozen=True)
class Outcome:
    """How one try of a job ended."""

    do: str
    reconciliation: str
    due: datetime  # in UTC
    seconds: float
    result: str | None  # None: it failed
    error: str | None
    again_in: int | None  # seconds until it is tried again; None: it is not


def prepare(database: Database) -> None:
    """Create recon's own tables and the queue's where they are missing.

    Raises:
        DatabaseUnreachable: there is no connection.
        DatabaseFailed: a right is missing.
    """
    tables.ensure(database)
    with database.session() as session:
        session.execute("SELECT pg_advisory_xact_lock($1::int, 0)", tables.LOCK_SPACE)
        if session.value("SELECT to_regclass('recon.procrastinate_jobs')::text") is None:
            session.execute(f"SET LOCAL search_path TO {tables.SCHEMA}")
            session.driver.execute(SchemaManager.get_schema())  # many statements, which psycopg takes without values


@dataclass
class Queue:
    """The queue on one database, for one workspace."""

    database: Database
    workspace: Workspace
    ended: Ended
    app: App = field(init=False)
    _handled: dict[str, int] = field(init=False, default_factory=dict[str, int])

    def __post_init__(self) -> None:
        for name in ("procrastinate", "psycopg.pool"):  # what they would say is said here, without values
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        connection = self.database.arguments(search_path=tables.SCHEMA)
        self.app = App(connector=PsycopgConnector(kwargs=connection, min_size=1, max_size=CONNECTIONS))
        for kind, job in jobs.KINDS.items():
            lane = kind if kind in LANES else LANES[0]
            self.app.task(name=kind, queue=lane, pass_context=True, retry=_Patience())(self._carried_out(job))

    async def tick(self, entries: Mapping[Schedule, datetime], now: datetime) -> None:
        """Put in what is due and was not put in yet, by this worker or another one.

        Of times that passed while no worker was there only the last one counts, so at most one job comes late. A schedule
        counts from the last job that was put in for it; one that never had any counts from the moment that `entries` has
        for it. What is due while its job of an earlier time still waits is left out; a mirror's also while it is at work.
        """
        due = {entry: int(schedules.last_tick(entry, now).timestamp()) for entry in entries}
        due = {entry: at for entry, at in due.items() if at != self._handled.get(_key(entry))}
        if not due:
            return
        rows = await self.app.connector.execute_query_all_async(_LATEST, now=int(now.timestamp()))
        latest = {row["periodic_id"]: row["at"] for row in rows}
        at_work = {row["name"] for row in await self.app.connector.execute_query_all_async(_AT_WORK)}
        for entry, at in due.items():
            busy = entry.do == "sync" and entry.reconciliation in at_work
            if at > latest.get(_key(entry), entries[entry].timestamp()) and not busy:
                await self._defer(entry, at)
            self._handled[_key(entry)] = at

    async def take_up(self) -> None:
        """Put jobs back whose worker is gone; what ended long ago is forgotten."""
        manager = self.app.job_manager
        for job in await manager.get_stalled_jobs(seconds_since_heartbeat=SILENT_SECONDS):
            with self.database.session() as session:
                # Its worker may be alive: slow, or ending; or another worker may be doing the same as this one.
                if session.value(_FREE, tables.LOCK_SPACE, f"job {job.id}") and session.value(_RUNS, job.id):
                    await self._put_back(job)
        await manager.delete_old_jobs(
            nb_hours=KEEP_HOURS, include_failed=True, include_cancelled=True, include_aborted=True
        )

    async def _put_back(self, job: Job) -> None:
        if job.attempts < jobs.LOST_WORKERS:
            await self.app.job_manager.retry_job(job)
            return
        await self.app.job_manager.finish_job(job, Status.FAILED, delete_job=False)
        name, why = str(job.task_kwargs["reconciliation"]), f"It lost its worker {job.attempts + 1} times."
        self.ended(Outcome(job.task_name, name, _due(job), 0.0, None, why, None))

    async def _defer(self, entry: Schedule, at: int) -> None:
        task = self.app.tasks[entry.do].configure(
            lock=entry.reconciliation,  # one job of a reconciliation at a time
            queueing_lock=f"{entry.do} {entry.reconciliation}",
            task_kwargs={"reconciliation": entry.reconciliation, "timestamp": at},
        )
        with suppress(AlreadyEnqueued):
            await self.app.job_manager.defer_periodic_job(task.job, periodic_id=_key(entry), defer_timestamp=at)

    def _carried_out(self, work: jobs.Job) -> Callable[Concatenate[JobContext, ...], str]:
        def carry_out(context: JobContext, *, reconciliation: str, timestamp: int) -> str:
            job = context.job
            began = datetime.now(UTC)
            result = error = again = None
            try:
                with _held(self.database, job):
                    result = work(self.database, self.workspace, reconciliation)
                return result
            except Exception as failure:
                error, again = jobs.said(failure), jobs.wait_after(failure, job.attempts, job.task_name)
                raise
            finally:
                if result is not None or error is not None:
                    seconds = (datetime.now(UTC) - began).total_seconds()
                    self.ended(Outcome(job.task_name, reconciliation, _due(job), seconds, result, error, again))

        return carry_out


class _Patience(BaseRetryStrategy):
    """Tries again what a person need not mend first."""

    def get_retry_decision(self, *, exception: BaseException, job: Job) -> RetryDecision | None:
        seconds = jobs.wait_after(exception, job.attempts, job.task_name)
        return None if seconds is None else RetryDecision(retry_in={"seconds": seconds})


def _key(entry: Schedule) -> str:
    return f"{entry.do} {entry.identity}"


def _due(job: Job) -> datetime:
    timestamp: Any = job.task_kwargs["timestamp"]
    return datetime.fromtimestamp(timestamp, UTC)


# A worker holds a lock of the server for the job that it carries out. While it does, the job is not lost, however silent
# the worker is: a computer that sleeps, or one that was told to end and no longer says that it lives.
_HOLD = "SELECT pg_advisory_lock(%s::int, hashtext(%s))"
_FREE = "SELECT pg_try_advisory_xact_lock($1::int, hashtext($2))"
_RUNS = "SELECT status = 'doing' FROM recon.procrastinate_jobs WHERE id = $1"


@contextmanager
def _held(database: Database, job: Job) -> Generator[None]:
    connection = psycopg.connect(**database.arguments(**_ALIVE), autocommit=True)
    try:
        connection.execute(_HOLD, (tables.LOCK_SPACE, f"job {job.id}"))
        yield
    finally:
        connection.close()
