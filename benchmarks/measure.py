"""What every benchmark shares: the setting, rounds in turn, the check that decisions are equal, and the table.

Fair means: the same session, the connection open, the same working memory, the same columns written to a new table, the
commit included. The sides take turns (ours, theirs, ours, theirs, …), so that what else the machine does and what the
cache holds meets both alike, and medians are compared.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from recon.database import tables
from recon.database.connect import Database, Session
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.matching.decide import WORK_MEMORY, Decided, decide
from recon.names import DIALECT
from recon.spec import Reconciliation

ROOT = Path(__file__).parents[1]
PEERS_PYTHON = ROOT / ".venv-bench" / "bin" / "python"  # made by `make bench`
WIDTH = 160  # characters of the printed table
COLUMNS = ("target_key", "source_key", "outcome", "pass", "confidence")


@dataclass(frozen=True)
class Setting:
    """What is asked of this run."""

    database: Database
    rows: int
    rounds: int
    data: Path  # the folder of the labelled bank transactions
    peers: bool = True

    @property
    def peers_database(self) -> str:
        """The database for a peer, whose sessions get the working memory that recon's have."""
        url = sa.make_url(self.database.url).update_query_dict(
            {"options": f"-cwork_mem={WORK_MEMORY}"}
        )  # no space: not all read + as one
        return url.render_as_string(hide_password=False)

    @property
    def peers_missing(self) -> str | None:
        """Why there are no peers to compare with."""
        if not self.peers:
            return "Peers were left out (--no-peers)."
        return None if PEERS_PYTHON.exists() else "Skipped: `make bench` makes the peers' environment (.venv-bench)."


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    subject: str
    what: str
    value: float | None = None  # None: skipped, and `note` says why
    unit: str = ""
    target: str = ""
    met: bool | None = None  # None: no target, or nothing measured
    ours: float | None = None  # seconds
    theirs: float | None = None
    note: str = ""


def at_most(limit: float, value: float) -> tuple[str, bool]:
    return f"≤ {limit:g}", value <= limit


def at_least(limit: float, value: float) -> tuple[str, bool]:
    return f"≥ {limit:g}", value >= limit


def slower_than(subject: str, what: str, ours: Sequence[float], theirs: Sequence[float], most: float | None, note: str = "") -> Figure:  # fmt: skip
    """How many times as long as the other side we take."""
    mine, other = statistics.median(ours), statistics.median(theirs)
    target, met = at_most(most, mine / other) if most is not None else ("", None)
    return Figure(subject, what, mine / other, "× their time", target, met, mine, other, note)


def faster_than(subject: str, what: str, ours: Sequence[float], theirs: Sequence[float], least: float | None, note: str = "") -> Figure:  # fmt: skip
    """How many times as fast as the other side we are."""
    mine, other = statistics.median(ours), statistics.median(theirs)
    target, met = at_least(least, other / mine) if least is not None else ("", None)
    return Figure(subject, what, other / mine, "× as fast", target, met, mine, other, note)


# -- taking turns ----------------------------------------------------------------------------------------


def in_turn(rounds: int, sides: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
    """Seconds of each side, round by round."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            seconds[name].append(side())
    return seconds


def prepared(database: Database, spec: Reconciliation) -> Bound:
    """The spec bound, with recon's own tables there."""
    tables.ensure(database)
    with database.session() as session:
        return bind(session, spec)


@dataclass
class Ours:
    """Deciding by the product: the guard and all statements up to the table of decisions; reasons are timed apart."""

    session: Session
    bound: Bound
    last: Decided | None = None

    @property
    def table(self) -> str:
        return tables.own("decisions", self.bound.spec.name).sql(DIALECT)

    def __call__(self) -> float:
        self.session.execute(f"DROP TABLE IF EXISTS {self.table}")
        self.session.commit()
        began = perf_counter()
        name = tables.own("decisions", self.bound.spec.name)
        self.last = decide(self.session, self.bound, name, explained=False)
        self.session.commit()
        return perf_counter() - began

    @property
    def preparing(self) -> str:
        """How much of the last round went into what comes before the first pass."""
        assert self.last is not None
        return f"of it {self.last.seconds['preparing']:.2f} s before the first pass (who takes part, how many pairs)"


@dataclass(frozen=True)
class ByHand:
    """Statements that a person would write; the last one makes the table."""

    session: Session
    table: str
    statements: Sequence[str]

    def __call__(self) -> float:
        self.session.execute(f"DROP TABLE IF EXISTS {self.table}")
        self.session.commit()
        began = perf_counter()
        self.session.execute("SELECT set_config('work_mem', $1, true)", WORK_MEMORY)
        for statement in self.statements:
            self.session.execute(statement)
        self.session.commit()
        return perf_counter() - began


def check_equal(session: Session, one: str, other: str, columns: Sequence[str] = COLUMNS) -> str:
    """The counts of two tables of decisions that are equal row by row.

    Raises:
        AssertionError: they are not, so that no ratio is printed.
    """
    session.execute("SELECT set_config('work_mem', $1, true)", WORK_MEMORY)
    listed = ", ".join(f'"{name}"' for name in columns)
    for left, right in ((one, other), (other, one)):
        differing = session.value(
            f"SELECT count(*) FROM (SELECT {listed} FROM {left} EXCEPT ALL SELECT {listed} FROM {right}) AS d"
        )
        assert differing == 0, f"{differing} decisions of {left} are not in {right}"
    counts = session.rows(f"SELECT outcome, count(*) FROM {one} GROUP BY 1 ORDER BY 2 DESC, 1")
    return ", ".join(f"{name} {count:,}" for name, count in counts)


def peer(module: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What a peer answers, from an interpreter of its own."""
    ended = subprocess.run(
        [PEERS_PYTHON, "-m", f"benchmarks.{module}"],
        input=json.dumps(asked), capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    if ended.returncode:
        raise RuntimeError(f"{module} failed:\n{ended.stderr[-2000:]}")
    return json.loads(ended.stdout)


# -- what is printed -------------------------------------------------------------------------------------


def tell(figure: Figure) -> None:
    """One figure as it comes, for the person who waits."""
    print(f"{figure.subject}  {figure.what}: {_value(figure)}", file=sys.stderr, flush=True)


def show(figures: Sequence[Figure], title: str) -> None:
    """The table, and below it a sentence for each line that has something to add."""
    table = Table(title=title, title_justify="left")
    for heading in ("", "what", "ours", "theirs", "figure", "target", ""):
        table.add_column(heading, justify="right" if heading in ("ours", "theirs", "figure") else "left")
    for figure in figures:
        verdict = {None: "", True: "met", False: "MISSED"}[figure.met]
        times = [_seconds(figure.ours), _seconds(figure.theirs)]
        table.add_row(figure.subject, figure.what, *times, _value(figure), figure.target, verdict)
    console = Console(width=WIDTH)
    console.print(table)
    for figure in figures:
        if figure.note:
            console.print(f"{figure.subject}  {figure.what}: {figure.note}", highlight=False, soft_wrap=True)


def document(figures: Sequence[Figure], about: Mapping[str, Any]) -> dict[str, Any]:
    """The table as JSON."""
    return {**about, "figures": [asdict(figure) for figure in figures]}


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"


def _value(figure: Figure) -> str:
    if figure.value is None:
        return "skipped"
    digits = 5 if figure.unit == "F1" else 0 if figure.unit == "MB" else 2
    return f"{figure.value:.{digits}f} {figure.unit}"
