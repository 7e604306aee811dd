"""Two records side by side, field by field: what a pass compares, what it measures, and whether its condition holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

from sqlglot import exp

from recon.matching.bound import Bound, BoundPass
from recon.matching.privacy import VEIL, veiled
from recon.matching.windows import BoundWindow

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60))


@dataclass(frozen=True)
class Equality:
    """One `on` equality of two records: both values, and whether they agree; None where one is NULL."""

    name: str
    target: Any
    source: Any
    agree: bool | None


@dataclass(frozen=True)
class Measured:
    """One `within` of two records. Distances are in words; None where a value is NULL, and a miss also inside."""

    name: str
    target: Any
    source: Any
    distance: str | None
    tolerance: str
    inside: bool | None
    missed_by: str | None


@dataclass(frozen=True)
class Pair:
    """What a pass says of two records: every equality and window, and `when` (None: it is NULL, so it does not hold)."""

    equalities: tuple[Equality, ...]
    windows: tuple[Measured, ...]
    when: bool | None

    @property
    def candidate(self) -> bool:
        """Whether the source is a candidate for the target: every equality, every window, and `when`."""
        return (
            all(item.agree for item in self.equalities)
            and all(item.inside for item in self.windows)
            and bool(self.when)
        )


def columns(bound: Bound, rule: BoundPass) -> list[exp.Expr]:
    """What a query selects so that `read` can say what the pass says of a pair.

    Private values are veiled, and with them their partners and distances. Whether they agree is shown: it is what the
    rules decided by.
    """
    found: list[tuple[str, exp.Expr]] = []
    for number, (left, right) in enumerate(zip(rule.targets, rule.sources, strict=True)):
        equal = exp.EQ(this=left.copy(), expression=right.copy())
        found += [
            (f"on_{number}_t", veiled(bound, left, right).copy()),
            (f"on_{number}_s", veiled(bound, right, left).copy()),
            (f"on_{number}", equal),
        ]
    for number, window in enumerate(rule.windows):
        found += [
            (f"within_{number}_t", veiled(bound, window.target, window.source).copy()),
            (f"within_{number}_s", veiled(bound, window.source, window.target).copy()),
            (f"within_{number}_distance", veiled(bound, window.distance())),
            (f"within_{number}_missed", veiled(bound, window.missed_by())),
            (f"within_{number}", window.inside()),
        ]
    found.append(("when", exp.and_(*rule.conditions()) if rule.conditions() else exp.true()))
    return [exp.alias_(exp.paren(tree), name, quoted=True) for name, tree in found]


def read(rule: BoundPass, row: Mapping[str, Any]) -> Pair:
    """What the pass says of the pair in a row of the columns above."""
    equalities = tuple(
        Equality(label(left, right), row[f"on_{number}_t"], row[f"on_{number}_s"], row[f"on_{number}"])
        for number, (left, right) in enumerate(zip(rule.target_names, rule.source_names, strict=True))
    )
    windows = tuple(_measured(window, number, row) for number, window in enumerate(rule.windows))
    return Pair(equalities, windows, row["when"])


def _measured(window: BoundWindow, number: int, row: Mapping[str, Any]) -> Measured:
    inside = row[f"within_{number}"]
    return Measured(
        window.text,
        row[f"within_{number}_t"],
        row[f"within_{number}_s"],
        in_words(window, row[f"within_{number}_distance"]),
        tolerance(window),
        inside,
        None if inside else missed_words(window, row[f"within_{number}_missed"]),
    )


def label(target: str, source: str) -> str:
    """An equality as people read it.

    >>> label("id", "id"), label("lower(t.domain)", "site")
    ('id', 'lower(t.domain) = site')
    """
    return target if target == source else f"{target} = {source}"


def tolerance(window: BoundWindow) -> str:
    """How far the source may lie from the target, in words."""
    if window.before == window.after:
        return str(window.before)
    return f"{window.before} before, {window.after} after"


def in_words(window: BoundWindow, distance: Any) -> str | None:
    """A distance as people say it: an interval in its units, a number of days, a number."""
    if distance is None or distance == VEIL:
        return distance
    if isinstance(distance, timedelta):
        return interval_words(distance)
    if window.family == "date":
        return f"{distance} day{'' if distance == 1 else 's'}"
    return f"{distance.normalize():f}" if isinstance(distance, Decimal) and distance.is_finite() else str(distance)


def missed_words(window: BoundWindow, distance: Any) -> str | None:
    """By how much a window is missed: times in minutes up to two days, for that is what a person looks for."""
    if not isinstance(distance, timedelta) or not timedelta(minutes=1) <= distance < timedelta(days=2):
        return in_words(window, distance)
    minutes = round(Decimal(distance // timedelta(milliseconds=1)) / 60_000, 1).normalize()
    return f"{minutes:f} minute{'' if minutes == 1 else 's'}"


def interval_words(distance: timedelta) -> str:
    """An interval in days, hours, minutes and seconds; a day is 24 hours.

    >>> interval_words(timedelta(minutes=75)), interval_words(timedelta(days=1, microseconds=500_000))
    ('1 hour 15 minutes', '1 day 0.5 seconds')
    """
    rest = Decimal(distance // timedelta(microseconds=1)) / 1_000_000
    parts: list[tuple[str, str]] = []
    for unit, seconds in _UNITS:
        number, rest = divmod(rest, seconds)
        if number:
            parts.append((str(int(number)), unit))
    if rest or not parts:
        parts.append((f"{rest.normalize():f}", "second"))
    return " ".join(f"{number} {unit}{'' if number == '1' else 's'}" for number, unit in parts)
