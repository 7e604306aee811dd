"""How many requests at a time may have an outside system asked: each holds a thread, and connections to the database.

Without a bound whoever may ask for one organisation could keep all others, and the signs of life, waiting.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager

from recon.service.answers import Turned

OF_ONE, OF_ALL = 3, 8  # requests at a time: about one organisation, and about all of them together
RETRY_SECONDS = 30


class Turns:
    """Who is at work, or waits for a run that goes on, by organisation."""

    def __init__(self) -> None:
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    @contextmanager
    def one(self, scope: str) -> Generator[None]:
        """A turn about an organisation.

        Raises:
            Turned: 409, enough goes on about it; 503, enough goes on. Nothing was begun.
        """
        with self._lock:
            if self._taken[scope] >= OF_ONE:
                raise _busy(409, "Enough is at work for this organisation.")
            if self._taken.total() >= OF_ALL:
                raise _busy(503, "Enough is at work.")
            self._taken[scope] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[scope] -= 1


def _busy(status: int, what: str) -> Turned:
    why = f"At a time {OF_ONE} requests about one organisation have the outside system asked, and {OF_ALL} in all."
    return Turned(status, what, why=why, todo="Try again.", Retry_After=str(RETRY_SECONDS))
