"""What the endpoints of one service share: database, workspace, hooks, and the one that works events off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from recon.database.connect import Database
from recon.mirror import events as mirror_events
from recon.service import events
from recon.service.jobs import said
from recon.service.lines import Lines
from recon.service.turns import Turns
from recon.sources.hooks import AnyHook, Hook, MirrorHook
from recon.workspace import Workspace

ANSWER_SECONDS = 5.0  # how long a sender waits for what came of its event; the work goes on without it
_log = logging.getLogger("recon.webhooks")


@dataclass
class Place:
    """Where a service works. `work_off` is called in the event loop; the work itself goes on in a thread."""

    database: Database
    workspace: Workspace
    hooks: Mapping[str, AnyHook]
    answer_seconds: float = ANSWER_SECONDS
    looking: asyncio.Task[int | None] | None = None  # at the database, for whoever asks whether the service is ready
    waiting: int = 0  # senders of a mirror's events that wait for what comes of theirs
    turns: Turns = field(default_factory=Turns)  # of those who have the source of a mirror asked
    lines: Lines = field(init=False)
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)
    _working: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    def __post_init__(self) -> None:
        self.lines = Lines(self._batch)
        self._links = {origin: hook for origin, hook in self.hooks.items() if isinstance(hook, Hook)}

    def _batch(self, hook: MirrorHook, scope: str, most: int) -> int:
        return mirror_events.work_off(self.database, self.workspace, hook, scope, most).processed

    def take_up(self) -> None:
        """Begin to work off what an earlier service left behind."""
        self.work_off()
        for hook in (hook for hook in self.hooks.values() if isinstance(hook, MirrorHook)):
            for scope in hook.scopes(self.workspace.variables):
                self.lines.arrived(hook, scope, mirror_events.BATCH)

    def work_off(self) -> asyncio.Task[None]:
        """Begin to work off what waits; nobody need wait for it, and `finished` does."""
        task = asyncio.create_task(self._work_off())
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return task

    async def _work_off(self) -> None:
        async with self._one:  # who waits here holds neither a thread nor a connection
            try:
                await asyncio.to_thread(events.work_off, self.database, self.workspace, self._links)
            except Exception as error:  # the events are kept; the next arrival tries again
                _log.error("events wait: %s", said(error))

    async def finished(self) -> None:
        """Wait until nothing is being worked off."""
        await asyncio.gather(*self._working, return_exceptions=True)
        await self.lines.finished()
