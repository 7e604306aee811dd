"""Arrivals of a mirror's events: kept by a few threads of their own, worked off one batch after the other in each scope."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from recon.mirror.events import BATCH
from recon.service.jobs import said
from recon.sources.hooks import MirrorHook

EACH = 20  # events that one arrival works off (RES-11); many arrivals at once share their batches
LONGEST = 20_000  # events that arrivals are good for beyond the batch that goes on
KEEPING, WORKING = 4, 2  # threads; who keeps events never waits for who works them off
_log = logging.getLogger("recon.webhooks")

# Works off up to so many events of a scope; returns how many it looked at.
Work = Callable[[MirrorHook, str, int], int]


@dataclass
class _Line:
    """What waits in one scope."""

    hook: MirrorHook
    scope: str
    good_for: int = 0  # events that may still be worked off because of arrivals
    waiting: list[asyncio.Future[None]] = field(default_factory=list[asyncio.Future[None]])
    task: asyncio.Task[None] | None = None


class Lines:
    """A line for each scope of each mirror. Called in the event loop; the work itself goes on in threads.

    Args:
        work: works off a batch.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._lines: dict[tuple[str, str], _Line] = {}
        self._working = ThreadPoolExecutor(WORKING, "recon-events")
        self.keeping = ThreadPoolExecutor(KEEPING, "recon-arrivals")

    def arrived(self, hook: MirrorHook, scope: str, events: int = EACH) -> asyncio.Future[None]:
        """Have events worked off; the future is done when a batch that began after this has ended, however it did."""
        line = self._lines.setdefault((hook.origin, scope), _Line(hook, scope))
        line.good_for = min(line.good_for + events, LONGEST)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line.waiting.append(done)
        if line.task is None or line.task.done():
            line.task = asyncio.create_task(self._go(line))
        return done

    async def _go(self, line: _Line) -> None:
        while line.waiting or line.good_for:
            most = min(line.good_for, BATCH)
            line.good_for -= most
            waiting, line.waiting = line.waiting, []
            looked_at = 0
            try:
                looked_at = await asyncio.get_running_loop().run_in_executor(
                    self._working, self._work, line.hook, line.scope, most
                )
            except Exception as error:  # the events are kept; the next arrival tries again
                _log.error("events of %s wait: %s", line.hook.origin, said(error))
            finally:
                for done in waiting:
                    if not done.done():
                        done.set_result(None)
            if looked_at < most:  # nothing more is due; who arrived meanwhile has a batch yet
                line.good_for = min(line.good_for, EACH * len(line.waiting))

    async def finished(self) -> None:
        """Wait until the batch that goes on has ended in each line; what waits then is worked off by who starts next."""
        for line in self._lines.values():
            line.good_for = 0
            if line.task is not None:
                await asyncio.wait([line.task])
        self.keeping.shutdown(wait=False)
        self._working.shutdown(wait=False)
