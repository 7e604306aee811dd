"""What the endpoints of one service share: database, workspace, hooks, and the one that works events off."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from recon.database.connect import Database
from recon.service import events
from recon.service.jobs import said
from recon.sources.hooks import Hook
from recon.workspace import Workspace

ANSWER_SECONDS = 5.0  # how long a sender waits for what came of its event; the work goes on without it
_log = logging.getLogger("recon.webhooks")


@dataclass
class Place:
    """Where a service works. `work_off` is called in the event loop; the work itself goes on in a thread."""

    database: Database
    workspace: Workspace
    hooks: Mapping[str, Hook]
    answer_seconds: float = ANSWER_SECONDS
    looking: asyncio.Task[int | None] | None = None  # at the database, for whoever asks whether the service is ready
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)
    _working: set[asyncio.Task[None]] = field(default_factory=set[asyncio.Task[None]])

    def work_off(self) -> asyncio.Task[None]:
        """Begin to work off what waits; nobody need wait for it, and `finished` does."""
        task = asyncio.create_task(self._work_off())
        self._working.add(task)
        task.add_done_callback(self._working.discard)
        return task

    async def _work_off(self) -> None:
        async with self._one:  # who waits here holds neither a thread nor a connection
            try:
                await asyncio.to_thread(events.work_off, self.database, self.workspace, self.hooks)
            except Exception as error:  # the events are kept; the next arrival tries again
                _log.error("events wait: %s", said(error))

    async def finished(self) -> None:
        """Wait until nothing is being worked off."""
        await asyncio.gather(*self._working, return_exceptions=True)
