"""What a worker does beside its schedules: events that wait are worked off, and follow-ups that are due carried out.

Both are kept in the database with what became of them, so that one which a killed worker left is due again. They go on in
threads of their own: a run of a mirror that takes its time keeps neither waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

import psycopg

from recon.database.connect import Database
from recon.errors import DatabaseUnreachable
from recon.mirror import follow_ups_done as carrying
from recon.mirror.follow_ups_done import Done
from recon.service import events
from recon.service.jobs import said
from recon.sources.hooks import AnyHook
from recon.systems import webhooks
from recon.workspace import Workspace

# Reconciliations of which something is due; what is `doing` may have been left by a process that is no more.
_DUE = """
    SELECT DISTINCT reconciliation FROM recon.follow_ups WHERE state IN ('waiting', 'doing')
    AND due_at <= $1::timestamptz AND (next_at IS NULL OR next_at <= $1) ORDER BY 1
"""
PAUSE_SECONDS = 4.0  # before events that were tried in vain are tried again, or follow-ups that none could be done of
LONGEST_SECONDS = 60.0  # the pause doubles up to this
MOST, PATIENCE_SECONDS = 50, 10.0  # follow-ups at a time, so that a worker that is told to end need not wait for all


class Says(Protocol):
    """A line of the worker's log."""

    def __call__(self, event: str, text: str, failed: int = 0, **more: object) -> None:
        """Write it down; `failed` counts as jobs that failed."""
        ...


@dataclass
class _Pause:
    """When something that went on in vain is tried again: after twice as long each time."""

    seconds: float = 0.0
    until: datetime | None = None
    complaint: str = ""

    def over(self, now: datetime) -> bool:
        return self.until is None or now >= self.until or now < self.until - timedelta(seconds=LONGEST_SECONDS)

    def vain(self, now: datetime) -> None:
        self.seconds = min(LONGEST_SECONDS, self.seconds * 2 or PAUSE_SECONDS)
        self.until = now + timedelta(seconds=self.seconds)

    def well(self) -> None:
        self.seconds, self.until, self.complaint = 0.0, None, ""


@dataclass
class Beside:
    """The events and follow-ups of one database and workspace."""

    database: Database
    workspace: Workspace
    clock: Callable[[], datetime]
    say: Says
    _pauses: dict[str, _Pause] = field(default_factory=dict[str, _Pause])

    # -- events --------------------------------------------------------------------------------------------

    async def events(self) -> None:
        """Work off what waits, where something does. Raises DatabaseUnreachable."""
        await asyncio.to_thread(self._events)

    def _events(self) -> None:
        pause = self._pauses.setdefault("events", _Pause())
        if not pause.over(self.clock()):
            return
        known = webhooks()
        waiting = self._waiting(list(known))
        while waiting:
            if not self._tried("events", pause, lambda: self._worked_off(known)):
                return
            before, waiting = waiting, self._waiting(list(known))
            if waiting >= before:
                pause.vain(self.clock())
                return
            pause.well()

    def _worked_off(self, known: Mapping[str, AnyHook]) -> None:
        looked = events.work_off(self.database, self.workspace, known)
        left = self._waiting(list(known))
        if looked:
            self.say("events", f"Events: {looked:,} looked at, {left:,} wait.", looked=looked, waiting=left)

    def _waiting(self, origins: list[str]) -> int:
        with self.database.session(read_only=True) as session:
            return session.value(
                "SELECT count(*) FROM recon.webhook_events WHERE state = 'pending' AND origin = ANY ($1)", origins
            )

    # -- follow-ups ----------------------------------------------------------------------------------------

    async def follow_ups(self) -> None:
        """Carry out what is due, of every reconciliation that has follow-ups. Raises DatabaseUnreachable."""
        for name in await asyncio.to_thread(self._due):
            pause = self._pauses.setdefault(f"follow-ups {name}", _Pause())
            while pause.over(self.clock()) and await asyncio.to_thread(self._carried_out, name, pause):
                await asyncio.sleep(0)  # here it ends where the worker is told to

    def _due(self) -> list[str]:
        with self.database.session(read_only=True) as session:
            return [name for (name,) in session.rows(_DUE, self.clock())]

    def _carried_out(self, name: str, pause: _Pause) -> bool:
        """Carry out some; says whether more is due that can be done at once."""
        came: list[Done] = []

        def carry_out() -> None:
            spec = self.workspace.spec(name)
            came.append(
                carrying.carry_out(self.database, self.workspace, spec, self.clock(), MOST, patience=PATIENCE_SECONDS)
            )

        if not self._tried(f"follow-ups of {name}", pause, carry_out):
            return False
        done = came[0]
        complaint = "; ".join(done.errors)
        if done.done or done.failed or complaint != pause.complaint:
            text = f"Follow-ups of {name}: {done.done:,} done, {done.failed:,} failed, {done.waiting:,} more are due."
            self.say(
                "follow_ups", f"{text} {complaint}".rstrip(), failed=done.failed, reconciliation=name, done=done.done,
                not_done=done.failed, waiting=done.waiting, errors=list(done.errors),
            )  # fmt: skip
        if not done.done:
            pause.vain(self.clock())
            pause.complaint = complaint
            return False
        pause.well()
        return done.waiting > 0

    # -- what goes wrong -----------------------------------------------------------------------------------

    def _tried(self, what: str, pause: _Pause, does: Callable[[], None]) -> bool:
        """Do it; what goes wrong but an outage is said, once for as long as it is the same. Says whether it was done."""
        try:
            does()
        except (DatabaseUnreachable, psycopg.OperationalError):
            raise
        except Exception as error:
            text = said(error)
            if text != pause.complaint:
                self.say(what, f"{what}: {text}", failed=1, error=text)
            pause.complaint = text
            pause.vain(self.clock())
            return False
        return True
