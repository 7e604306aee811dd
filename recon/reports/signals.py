"""A run that is asked to end, by Ctrl-C or by whoever manages processes, ends in order: a signal becomes an exception."""

from __future__ import annotations

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Ended(KeyboardInterrupt):
    """A signal came. Of this kind, because asyncio lets no other exception through a callback."""

    def __init__(self, name: str) -> None:
        self.name = name  # such as SIGTERM
        super().__init__(name)


@contextmanager
def raised() -> Generator[None]:
    """Raise Ended at the first signal; more of them do not disturb what puts things in order.

    Only the main thread gets signals: elsewhere nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = False

    def handle(number: int, _frame: FrameType | None) -> None:
        nonlocal came
        if not came:
            came = True
            raise Ended(signal.Signals(number).name)

    before = {number: signal.signal(number, handle) for number in CAUGHT}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
