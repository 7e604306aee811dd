"""recon in a process of its own, which a test stops at a seam, kills, freezes, or lets go on.

The process is forked from a small server that has everything imported, so that hundreds of them cost little.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

import psycopg

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["__main__", "tests.chaos.client", "recon.backfill.apply", "recon.backfill.revert"])

END_SECONDS = 120.0  # nothing here takes minutes


@dataclass(frozen=True)
class Order:
    """What the process does, and with which numbers, in itself only."""

    url: str
    root: Path
    plan: str
    what: str = "apply"  # or revert
    stop: tuple[str, int] | None = None  # a seam, and at which arrival there it waits for the test's word
    worker: int | None = None  # only arrivals of this one count
    workers: int = 1
    batch_rows: int = 100
    lock_milliseconds: int = 250
    idle_milliseconds: int = 60_000
    long_transaction_seconds: float = 30.0
    patience_seconds: float = 600.0
    tries: int = 12
    meanwhile: tuple[str, int, str] | None = None  # a seam, an arrival, and what somebody else writes just then
    packages: Path | None = None  # a folder where further packages are installed


@dataclass(frozen=True)
class Ended:
    """How it ended: what it returned, or the name and the text of what it raised; neither where it was killed."""

    result: dict[str, Any] | None = None
    error: str = ""
    said: str = ""


class Client:
    """One such process."""

    def __init__(self, order: Order) -> None:
        self._pipe, theirs = _FORKS.Pipe()
        self.process = _FORKS.Process(target=_run, args=(order, theirs), daemon=True)
        self.notices: list[str | None] = []
        self._ended: Ended | None = None
        self.process.start()
        theirs.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    def stopped(self) -> bool:
        """Wait until it stands at its seam; False where it ended before it got there."""
        while self._ended is None:
            if self._receive() == "at":
                return True
        return False

    def noticed(self) -> str | None:
        """Wait for the next notice."""
        known = len(self.notices)
        while self._ended is None and len(self.notices) == known:
            self._receive()
        return self.notices[-1]

    def go(self) -> None:
        self._pipe.send("go")

    def ended(self) -> Ended:
        """Wait until it is done."""
        while self._ended is None:
            self._receive()
        self.process.join(END_SECONDS)
        return self._ended

    def kill(self) -> None:
        """SIGKILL: nothing of it runs on, not even the end of a statement's block."""
        if self.process.is_alive():
            self.process.kill()
        self.process.join(END_SECONDS)
        self._ended = self._ended or Ended()

    def freeze(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def _receive(self) -> str:
        if not self._pipe.poll(END_SECONDS):
            self.kill()
            raise TimeoutError("the client neither ended nor reached its seam")
        try:
            kind, what = self._pipe.recv()
        except (EOFError, OSError):
            self._ended = Ended()
            return "ended"
        if kind == "notice":
            self.notices.append(what)
        if kind == "ended":
            self._ended = what
        return str(kind)


def run(order: Order) -> Ended:
    """From start to end, with nobody in its way."""
    with Client(order) as client:
        return client.ended()


# -- in the process itself -------------------------------------------------------------------------------


def _run(order: Order, pipe: Connection) -> None:
    from recon.backfill import apply, revert, seams
    from recon.database.connect import Database
    from recon.workspace import Workspace

    _smaller(order)
    if order.packages:
        sys.path.insert(0, str(order.packages))
    work = apply.apply if order.what == "apply" else revert.revert
    with seams.stopping(_Hook(order, pipe)):
        try:
            done = work(
                Database(order.url),
                Workspace(order.root),
                order.plan,
                "ann",
                execute=True,
                workers=order.workers,
                notice=lambda reason: pipe.send(("notice", reason)),
            )
            ended = Ended(result=asdict(done))
        except Exception as error:
            ended = Ended(error=type(error).__name__, said=str(error))
    pipe.send(("ended", ended))


def _smaller(order: Order) -> None:
    """Batches so small that a few thousand rows are many of them, and less patience than with real people."""
    from recon.backfill import batches, executor, quiet, work

    batches.ONE_TRANSACTION_ROWS = 100
    batches.START_ROWS = batches.MOST_ROWS = order.batch_rows
    batches.Pace.__init__.__defaults__ = (order.batch_rows,)
    smaller = {
        "lock_timeout": order.lock_milliseconds,
        "idle_in_transaction_session_timeout": order.idle_milliseconds,
    }
    for name, milliseconds in smaller.items():
        assert name in executor.LIMITS  # else it is the test that sets it
        executor.LIMITS[name] = str(milliseconds)
    work.MOST_TRIES = order.tries
    quiet.LONG_TRANSACTION_SECONDS = order.long_transaction_seconds
    quiet.LOOK_SECONDS = min(quiet.LOOK_SECONDS, order.long_transaction_seconds / 4)
    quiet.PATIENCE_SECONDS = order.patience_seconds


class _Hook:
    """Counts arrivals, and waits at the one that the test asked for."""

    def __init__(self, order: Order, pipe: Connection) -> None:
        self._order, self._pipe = order, pipe
        self._arrivals = self._others = 0
        self._mutex = threading.Lock()

    def __call__(self, seam: str) -> None:
        if self._order.meanwhile is not None and seam == self._order.meanwhile[0]:
            self._others += 1
            if self._others == self._order.meanwhile[1]:
                with psycopg.connect(self._order.url.replace("+psycopg", "")) as other:
                    other.execute(self._order.meanwhile[2].encode())
        if self._order.stop is None or seam != self._order.stop[0]:
            return
        if self._order.worker is not None and not threading.current_thread().name.endswith(f"_{self._order.worker}"):
            return
        with self._mutex:
            self._arrivals += 1
            here = self._arrivals == self._order.stop[1]
        if here:
            self._pipe.send(("at", seam))
            self._pipe.recv()


def eventually(test: Any, seconds: float = 15.0) -> bool:
    """Whether something becomes true within this time."""
    deadline = time.monotonic() + seconds
    while not (found := bool(test())) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found
