"""Seams: named moments of an apply, a revert or a sign-off at which a test stops the world. Nothing happens at them else.

A race is then exact and not lucky: what comes in between comes in just there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager

Hook = Callable[[str], None]

_hooks: list[Hook] = []  # empty outside of tests


def reached(name: str) -> None:
    """Tell whoever waits at this seam; in whichever thread it was reached."""
    for hook in tuple(_hooks):
        hook(name)


@contextmanager
def stopping(hook: Hook) -> Generator[None]:
    """While this is open, call the hook with the name of every seam that is reached."""
    _hooks.append(hook)
    try:
        yield
    finally:
        _hooks.remove(hook)
