"""The loop that apply and revert share: batch after batch, each a transaction of its own, until all places are done.

A batch first runs in one snapshot (REPEATABLE READ): what it tests and what it writes are of one moment, and if another
writer gets in between, the server says so and the batch starts anew, this time locking its rows before it looks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Event, Lock
from time import perf_counter
from typing import TypeVar

import psycopg
from psycopg import errors as pg_errors

from recon.backfill import batches, executor, seams
from recon.backfill.batches import Batch, Pace
from recon.backfill.executor import Alone, Notice, Progress
from recon.backfill.limits import LOCK_TIMEOUT_MILLISECONDS
from recon.backfill.plan import Plan
from recon.backfill.quiet import Quiet
from recon.database.connect import Database, Session
from recon.errors import Locked

MOST_WORKERS = 2  # more than two were not measured to be faster, and other people use the server too
MOST_TRIES = 12  # of one batch; with the lock timeout about half a minute behind somebody's locks
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 1.0  # between two tries of a batch, doubled each time


class Anew(Exception):
    """A batch was not kept, and may be tried again."""


# What the server says when others are at the same rows; the batch is tried again.
IN_EACH_OTHERS_WAY = (pg_errors.LockNotAvailable, pg_errors.DeadlockDetected, pg_errors.SerializationFailure, Anew)

T = TypeVar("T")
Range = tuple[int, int]
Write = Callable[[Session, Batch], int]  # one batch in the open transaction; returns the rows it changed


@dataclass
class Tally:
    """What was done so far, by all workers together."""

    total: int
    done: int = 0
    changed: int = 0
    batches: int = 0
    retries: int = 0
    pauses: int = 0
    milliseconds: list[float] = field(default_factory=list[float])

    @property
    def p95(self) -> float:
        """Milliseconds within which nineteen of twenty batches ended; 0 without any."""
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, round(0.95 * len(ordered)))] if ordered else 0.0


@dataclass(frozen=True)
class Job:
    """What is to be done: the ranges of places, and how a batch of them is written."""

    plan: Plan
    kind: str  # `staged` for an apply, `ledger` for a revert
    ranges: Sequence[Range]
    write: Write
    whole: bool  # all in one transaction
    before_commit: Callable[[Session, Batch, int], None]  # the batch and the rows it changed; raises to stop
    written_by: str = "0"  # the transaction that wrote the staged rows


def run(
    database: Database,
    session: Session,
    alone: Alone,
    job: Job,
    tally: Tally,
    *,
    workers: int = 1,
    progress: Progress | None = None,
    notice: Notice = executor.silent,
) -> None:
    """Do a job, with one or two workers; what was committed stays, whatever happens.

    Args:
        database: where further workers connect.
        session: the one that holds the lock; it works too.
        alone: its lock; other workers stop when it is gone.
        job: what to do.
        tally: what was done is added to it.
        workers: how many sessions write.
        progress: called after each batch.
        notice: called with the reason while a batch waits.

    Raises:
        Locked: others were in the way for too long; what was committed stays.
    """
    count = 1 if job.whole else max(1, min(workers, MOST_WORKERS))
    stop, mutex = Event(), Lock()
    with ExitStack() as stack:
        sessions = [session]
        for _ in range(count - 1):
            sessions.append(stack.enter_context(database.session()))
            executor.limited(sessions[-1])
            alone.join(sessions[-1])
        own = tuple(each.driver.info.backend_pid for each in sessions)
        crew = [
            _Worker(each, alone, job, share, tally, Quiet(job.plan, notice, own), stop, mutex, progress)
            for each, share in zip(sessions, batches.shares(job.ranges, count), strict=True)
        ]
        try:
            if count == 1:
                crew[0].work()
            else:
                with ThreadPoolExecutor(count) as pool:
                    for future in [pool.submit(worker.work) for worker in crew]:
                        future.result()
        finally:
            tally.pauses += sum(worker.quiet.pauses for worker in crew)
            if not session.driver.closed:
                session.rollback()
                session.driver.isolation_level = None


def tried(session: Session, look: Callable[[], T]) -> T:
    """What a look gives that may write, and of which nothing is kept; tried again while others are in the way.

    Raises:
        Locked: they were for too long.
    """
    pause = FIRST_PAUSE_SECONDS
    cause: psycopg.Error | Anew | None = None
    for _ in range(MOST_TRIES):
        try:
            return look()
        except IN_EACH_OTHERS_WAY as error:
            cause = error
        finally:
            if not session.driver.closed:
                session.rollback()
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
    raise _locked() from cause


def _locked() -> Locked:
    return Locked(
        "A row to change is locked by another program.",
        why=f"It was not released in {MOST_TRIES} tries of {LOCK_TIMEOUT_MILLISECONDS / 1000:g} s.",
        todo="Try again when that program is done; what was committed is kept, nothing of the open batch is.",
    )


@dataclass
class _Worker:
    """One session with its share of the places."""

    session: Session
    alone: Alone
    job: Job
    ranges: Sequence[Range]
    tally: Tally
    quiet: Quiet
    stop: Event
    mutex: Lock
    progress: Progress | None
    pace: Pace = field(default_factory=Pace)

    def work(self) -> None:
        """Do every range, until all is done or another worker failed."""
        try:
            for first, last in self.ranges:
                at = first
                while at <= last and not self.stop.is_set():
                    at = self._advance(at, last) + 1
        except BaseException:
            self.stop.set()
            raise

    def _advance(self, first: int, last: int) -> int:
        """Commit one batch from `first` on, however often it takes; returns its last place."""
        pause = FIRST_PAUSE_SECONDS
        cause: psycopg.Error | Anew | None = None
        for tried in range(MOST_TRIES):
            end = last if self.job.whole else min(last, first + self.pace.rows - 1)
            self.quiet.wait(self.session)
            try:
                self._batch(first, end, held=tried > 0)
                return end
            except IN_EACH_OTHERS_WAY as error:
                self.session.rollback()
                cause = error
            with self.mutex:
                self.tally.retries += 1
            if isinstance(cause, pg_errors.LockNotAvailable):
                self.pace.gave_way()
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        raise _locked() from cause

    def _batch(self, first: int, last: int, *, held: bool) -> None:
        session = self.session
        session.driver.isolation_level = (
            psycopg.IsolationLevel.READ_COMMITTED if held else psycopg.IsolationLevel.REPEATABLE_READ
        )
        began = perf_counter()
        batch = batches.at(session, self.job.plan, self.job.kind, first, last, self.job.written_by)
        if session.driver.info.backend_pid != self.alone.pid and not self.alone.held(session):
            raise Locked(
                "The session that held the lock on the table is gone.",
                why="Another apply could have started.",
                todo=f"Run `recon apply {self.job.plan.plan} --execute` again: it goes on where this stopped.",
            )
        if held:
            executor.hold(session, self.job.plan, self.job.kind, batch)
        seams.reached("before update")
        changed = self.job.write(session, batch)
        if held:  # each statement looked at its own moment: count once more whether anybody touched the planned rows
            batch = batches.at(session, self.job.plan, self.job.kind, first, last, self.job.written_by)
        seams.reached("after ledger")
        with self.mutex:
            self.job.before_commit(session, batch, changed)
        seams.reached("before commit")
        session.commit()
        milliseconds = (perf_counter() - began) * 1000
        with self.mutex:
            self.tally.done += batch.rows
            self.tally.changed += changed
            self.tally.batches += 1
            self.tally.milliseconds.append(milliseconds)
            if self.progress:
                self.progress(self.tally.done, self.tally.total)
        seams.reached("after commit")
        self.pace.took(batch.rows, milliseconds)
