"""The worker: watches the schedules, works off the queue, does what else waits, and ends after the running job when told to."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import psycopg
from procrastinate.exceptions import ConnectorException
from procrastinate.worker import Worker

from recon.database.connect import Database
from recon.errors import DatabaseUnreachable, ReconError
from recon.service import schedules
from recon.service.beside import Beside
from recon.service.queue import LANES, Outcome, Queue, prepare
from recon.service.schedules import Schedule
from recon.workspace import Workspace

LOOK_SECONDS = 2.0  # between two looks at the clock and the file: what is due begins this late at most
LOST_SECONDS = 15.0  # between two looks for jobs whose worker is gone
AGAIN_SECONDS = 10.0  # before the database is tried again

# A line of the log: its words, and the same as a document.
Log = Callable[[str, dict[str, object]], None]
Clock = Callable[[], datetime]

_OUTAGES = (ConnectorException, psycopg.Error, DatabaseUnreachable)


def work(
    database: Database,
    workspace: Workspace,
    log: Log,
    *,
    once: bool = False,
    clock: Clock = lambda: datetime.now(UTC),
    until: Callable[[Callable[[], None]], None] | None = None,
) -> int:
    """Do what the schedules say until SIGTERM or Ctrl-C; or what is due now, `once`.

    A signal lets the running job end; a second one does not.

    Args:
        database: where the queue is, in schema `recon`.
        workspace: whose schedules.
        log: gets each line.
        once: end when nothing is due any more.
        clock: what time it is, with a zone.
        until: gets a function that tells the worker to end as SIGTERM does, from any thread.

    Returns:
        How many jobs failed.

    Raises:
        SpecError, UsageError: the file of schedules, or a setting, cannot be read.
        DatabaseUnreachable: there is no database when it starts, or at any time with `once`.
    """
    return asyncio.run(_Work(database, workspace, log, once, clock, until).go())


@dataclass
class _Work:
    database: Database
    workspace: Workspace
    log: Log
    once: bool
    clock: Clock
    until: Callable[[Callable[[], None]], None] | None = None
    failed: int = 0
    entries: dict[Schedule, datetime] = field(default_factory=dict[Schedule, datetime])  # and since when they count
    written: datetime | None = None
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def go(self) -> int:
        self._read()
        await asyncio.to_thread(prepare, self.database)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)
        if self.until is not None:
            self.until(partial(_soon, loop, self._stop))
        self._greet()
        while not self.stopping.is_set():
            try:
                await asyncio.to_thread(prepare, self.database)
                await self._serve()
            except _OUTAGES:
                if self.once:
                    raise DatabaseUnreachable(
                        "The connection to the database broke off.",
                        why="The server was stopped or ended the session, or the network between failed.",
                        todo="Run it again: what was not done is still due.",
                    ) from None
                self._say("outage", f"The database cannot be reached; tried again in {AGAIN_SECONDS:.0f} s.")
                await _within(AGAIN_SECONDS, self.stopping)
            if self.once:
                break
        return self.failed

    async def _serve(self) -> None:
        """Work until told to stop, or until nothing is left to do; an outage of the database ends it with an error."""
        queue = Queue(self.database, self.workspace, self._ended)
        async with queue.app.open_async():
            await queue.take_up()
            await self._tick(queue)
            beside = Beside(self.database, self.workspace, self.clock, self._said_beside)
            if self.once:
                await beside.events()
            workers = [
                Worker(
                    queue.app, queues=[lane], wait=not self.once, install_signal_handlers=False,
                    listen_notify=not self.once,
                )
                for lane in LANES
            ]  # fmt: skip
            running = [asyncio.create_task(worker.run()) for worker in workers]
            others: list[asyncio.Task[Any]] = [asyncio.create_task(self.stopping.wait())]
            if self.once:
                others.append(asyncio.create_task(asyncio.wait(running)))
            else:
                looks = [self._watch(queue), self._look(beside.events), self._look(beside.follow_ups)]
                others += [*running, *map(asyncio.create_task, looks)]
            await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
            for worker in workers:
                worker.stop()
            try:
                await asyncio.gather(*running)
            finally:
                others = [other for other in others if other not in running]
                for other in others:
                    other.cancel()
                ends = await asyncio.gather(*others, return_exceptions=True)
            for end in ends:
                if isinstance(end, Exception):
                    raise end
            if self.once and not self.stopping.is_set():
                await beside.follow_ups()

    async def _look(self, does: Callable[[], Awaitable[None]]) -> None:
        while True:
            await does()
            await asyncio.sleep(LOOK_SECONDS)

    async def _watch(self, queue: Queue) -> None:
        looked = self.clock()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self._read_anew()
            await self._tick(queue)
            if (self.clock() - looked).total_seconds() >= LOST_SECONDS:
                await queue.take_up()
                looked = self.clock()

    async def _tick(self, queue: Queue) -> None:
        await queue.tick(self.entries, self.clock())

    # -- the file ------------------------------------------------------------------------------------------

    def _read(self) -> None:
        self.written = schedules.changed_at(self.workspace)
        self.entries = schedules.in_force(self.workspace, self._unread)

    def _read_anew(self) -> None:
        """Take over what was changed in the file. What cannot be read changes nothing, and is said once."""
        written = schedules.changed_at(self.workspace)
        if written == self.written:
            return
        try:
            self._read()
        except ReconError as error:
            self.written = written
            self._say("schedules", f"The schedules stay as they were. {error}", error=error.as_dict())
        else:
            self._greet()

    def _unread(self, error: ReconError) -> None:
        self._say("schedules", f"Whether it is a mirror is not known. {error}", error=error.as_dict())

    # -- what is said --------------------------------------------------------------------------------------

    def _greet(self) -> None:
        now = self.clock()
        times = {entry: schedules.next_tick(entry, now) for entry in self.entries}
        known = [
            {"do": entry.do, "reconciliation": entry.reconciliation, "next": at.isoformat()}
            for entry, at in times.items()
        ]
        lines = [f"{entry.do} {entry.reconciliation} next {schedules.when(at)}" for entry, at in times.items()]
        text = "; ".join(lines) if lines else f"No schedules: {self.workspace.root / schedules.FILE} names none"
        self._say("schedules", f"{text}.", schedules=known)

    def _ended(self, outcome: Outcome) -> None:
        what = f"{outcome.do} {outcome.reconciliation}, due {schedules.when(outcome.due)}"
        if outcome.error is None:
            text = f"{what}: done in {outcome.seconds:.1f} s, {outcome.result}"
        else:
            again = f"tried again in {outcome.again_in} s" if outcome.again_in is not None else "not tried again"
            text = f"{what}: failed, {again}. {outcome.error}"
            self.failed += 1
        state = "done" if outcome.error is None else "failed"
        self._say(
            state,
            text,
            do=outcome.do,
            reconciliation=outcome.reconciliation,
            due=outcome.due.isoformat(),
            seconds=round(outcome.seconds, 3),
            result=outcome.result,
            error=outcome.error,
            again_in=outcome.again_in,
        )

    def _said_beside(self, event: str, text: str, failed: int = 0, **more: object) -> None:
        self.failed += failed
        self._say(event, text, **more)

    def _say(self, event: str, text: str, **more: object) -> None:
        self.log(text, {"event": event, "at": self.clock().isoformat(), "says": text, **more})

    def _stop(self) -> None:
        if self.stopping.is_set():
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)  # the second one ends this process at once
        self._say("stopping", "Told to end: after the running job, if there is one.")
        self.stopping.set()


def _soon(loop: asyncio.AbstractEventLoop, does: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # it has ended already
        loop.call_soon_threadsafe(does)


async def _within(seconds: float, event: asyncio.Event) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
