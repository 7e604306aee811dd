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
from recon.service import events
from recon.service.jobs import said
from recon.sources.hooks import AnyHook
from recon.systems import webhooks
from recon.workspace import Workspace

PAUSE_SECONDS = 4.0  # before events that were tried in vain are tried again, or follow-ups that none could be done of
LONGEST_SECONDS = 300.0  # the pause doubles up to this


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
        """Carry out what is due, where something is. Raises DatabaseUnreachable."""

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
