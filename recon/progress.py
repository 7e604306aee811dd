"""Progress on stderr: a bar with rate and time left, or a spinner with the time it takes. Silent in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


class Bar:
    """A bar to call with how many are done and how many there are."""

    def __init__(
        self, advance: Callable[[int, int], None], describe: Callable[[str | None], None], step: Callable[[str], None]
    ) -> None:
        self._advance = advance
        self.notice = describe  # why it waits, beside the bar; None: it goes on
        self.step = step  # which part of the work goes on

    def __call__(self, done: int, total: int) -> None:
        self._advance(done, total)


@contextmanager
def bar(title: str, unit: str = "rows", after: float = 0.0) -> Generator[Bar]:
    """Gives a bar, which appears with the first call.

    Args:
        title: what goes on.
        unit: what is counted.
        after: seconds that have to pass before anything is shown.
    """
    from time import perf_counter

    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.speed  # another thread draws, so it is read once
            return Text(f"{speed:,.{1 if speed < 10 else 0}f} {unit}/s" if speed else "")

    console = Console(stderr=True)
    shown = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip
    task, began = None, perf_counter()

    says = title

    def advance(done: int, total: int) -> None:
        nonlocal task
        if perf_counter() - began < after:
            return
        if task is None:
            shown.start()
            task = shown.add_task(says, total=total)
        shown.update(task, completed=done)

    def step(name: str) -> None:
        nonlocal says
        says = f"{title}: {escape(name)}"
        if task is not None:
            shown.update(task, description=says)

    said: str | None = None

    def notice(reason: str | None) -> None:
        nonlocal said
        if task is not None:
            shown.update(task, description=f"{says}, waiting: {reason}" if reason else says)
        if reason and said is None:  # once for each pause, and where there is no terminal too
            console.print(f"Waiting: {reason}.", highlight=False, markup=False)
        said = reason

    try:
        yield Bar(advance, notice, step)
    finally:
        if task is not None:
            shown.stop()


@contextmanager
def spinner(title: str, console: Console | None = None) -> Generator[Callable[[str], None]]:
    """For one long step whose end cannot be told beforehand; gives a function that changes the title.

    Where something is printed meanwhile, `console` is the one that prints it, so that the two do not mix.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    console = console or Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as shown:
        task = shown.add_task(title, total=None)
        yield lambda text: shown.update(task, description=text)
