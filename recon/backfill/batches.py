"""Batches: ranges of places among a plan's rows, which of them are done, and how large the next one should be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from recon.backfill.change import PLACE, Shape
from recon.backfill.plan import Plan
from recon.database import tables
from recon.database.connect import Session
from recon.names import DIALECT, quote

ONE_TRANSACTION_ROWS = 10_000  # up to here a plan is all or nothing (design, section 6)
START_ROWS = 2_000  # 1,000 to 5,000 rows a batch were measured to cost least beside one bare UPDATE
LEAST_ROWS, MOST_ROWS = 50, 20_000  # a batch of fewer rows costs more for its transaction than for its rows
AIM_MILLISECONDS = 70.0  # of a batch; the slowest twentieth then ends near 100 ms, for which others may wait
GROW, SHRINK = 1.25, 0.5  # how far one batch may change the size of the next


@dataclass(frozen=True)
class Batch:
    """The rows of a plan from one place to another, both included, and the keys of the table that stand there."""

    first: int
    last: int
    low: tuple[Any, ...]
    high: tuple[Any, ...]
    as_written: int  # how many of its rows have not been touched since one transaction wrote them all

    @property
    def rows(self) -> int:
        return self.last - self.first + 1

    @property
    def bounds(self) -> tuple[Any, ...]:
        """The parameters of execute.sql and revert.sql."""
        return (self.first, self.last, *self.low, *self.high)


def at(session: Session, plan: Plan, kind: str, first: int, last: int, written_by: str = "0") -> Batch:
    """The batch of these places, with the lowest and the highest key that stand there.

    Args:
        session: a transaction.
        plan: whose rows.
        kind: `staged` for what shall be written, `ledger` for what was.
        first: its first place.
        last: its last one.
        written_by: the id of the transaction that wrote the staged rows.
    """
    names = [quote(name) for name in Shape.of_document(plan.document).key_names]
    place, table, keys = quote(PLACE), tables.own(kind, plan.plan).sql(DIALECT), ", ".join(names)
    # The part first: else the server may look for the first key of all, and then whether it is of this part.
    part = f"SELECT {keys}, xmin FROM {table} WHERE {place} BETWEEN $1::bigint AND $2::bigint"  # noqa: S608 (quoted)
    ends = [
        f"(SELECT {keys} FROM part WHERE {names[0]} IS NOT NULL ORDER BY {', '.join(name + way for name in names)} LIMIT 1)"  # noqa: S608
        for way in ("", " DESC")
    ]
    found = session.rows(
        f"WITH part AS MATERIALIZED ({part}), same AS (SELECT count(*) AS rows FROM part WHERE xmin = $3::xid)"  # noqa: S608
        f" SELECT ends.*, same.rows FROM same LEFT JOIN ({' UNION ALL '.join(ends)}) AS ends ON true",
        first,
        last,
        written_by,
    )
    low, high = found[0], found[-1]
    return Batch(first, last, low[:-1], high[:-1], low[-1])


def last_place(session: Session, plan: Plan, kind: str) -> int:
    """The last place among a plan's staged or written rows; 0 where there are none."""
    table = tables.own(kind, plan.plan).sql(DIALECT)
    return session.value(f"SELECT coalesce(max({quote(PLACE)}), 0) FROM {table}")  # noqa: S608 (our own table)


def gaps(done: Sequence[tuple[int, int]], whole: int) -> list[tuple[int, int]]:
    """The ranges of places from 1 to `whole` that are not done.

    >>> gaps([(3, 4), (1, 1)], 6)
    [(2, 2), (5, 6)]
    >>> gaps([], 0)
    []
    """
    found: list[tuple[int, int]] = []
    free = 1
    for first, last in sorted(done):
        if first > free:
            found.append((free, first - 1))
        free = max(free, last + 1)
    return [*found, *([(free, whole)] if free <= whole else [])]


def shares(ranges: Sequence[tuple[int, int]], workers: int) -> list[list[tuple[int, int]]]:
    """These ranges dealt out so that each worker gets about as many rows, each in key order.

    >>> shares([(1, 10)], 2), shares([(1, 3), (7, 7)], 2)
    ([[(1, 5)], [(6, 10)]], [[(1, 2)], [(3, 3), (7, 7)]])
    """
    left = sum(last - first + 1 for first, last in ranges)
    dealt: list[list[tuple[int, int]]] = []
    waiting = list(ranges)
    for worker in range(workers, 0, -1):
        share: list[tuple[int, int]] = []
        quota = left // worker
        left -= quota
        while quota > 0:
            first, last = waiting.pop(0)
            end = min(last, first + quota - 1)
            share.append((first, end))
            quota -= end - first + 1
            if end < last:
                waiting.insert(0, (end + 1, last))
        dealt.append(share)
    return dealt


class Pace:
    """How many rows the next batch takes: as many as fit in the time that others may have to wait."""

    def __init__(self, rows: int = START_ROWS) -> None:
        self.rows = rows

    def took(self, rows: int, milliseconds: float) -> None:
        """Learn from a batch."""
        if rows < self.rows:
            return  # the last of a range says little
        wanted = AIM_MILLISECONDS / max(milliseconds, 0.1)
        self._change(min(GROW, max(SHRINK, wanted)))

    def gave_way(self) -> None:
        """Somebody else held rows of the batch: the next try takes half."""
        self._change(SHRINK)

    def _change(self, factor: float) -> None:
        self.rows = max(LEAST_ROWS, min(MOST_ROWS, round(self.rows * factor)))


def pieces(ranges: Sequence[tuple[int, int]], pace: Pace) -> Iterator[tuple[int, int]]:
    """The batches of these ranges, one after the other, each as large as the pace says when its turn comes."""
    for first, last in ranges:
        start = first
        while start <= last:
            end = min(last, start + pace.rows - 1)
            yield start, end
            start = end + 1
