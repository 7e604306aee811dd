"""How old the open breaks are, and who has them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recon.database.connect import Session
from recon.matching import breaks, keys, privacy
from recon.matching.bound import Bound

SHOWN_HOLDERS = 10  # people; the others are added up in one line
SHOWN_OLDEST = 20  # breaks, the oldest; `recon breaks` gives all


@dataclass(frozen=True)
class AgeClass:
    """Open breaks of one age: those that nobody has, and those that somebody has."""

    age: str
    nobody: int
    assigned: int

    @property
    def breaks(self) -> int:
        return self.nobody + self.assigned


@dataclass(frozen=True)
class Holder:
    """Who has how many breaks; `who` None: nobody. `days`: whole days that the oldest of them has been open."""

    who: str | None
    breaks: int
    days: int


@dataclass(frozen=True)
class Ageing:
    """The open breaks of a reconciliation at one moment, the oldest first."""

    classes: tuple[AgeClass, ...] = ()
    holders: tuple[Holder, ...] = ()
    oldest: tuple[dict[str, Any], ...] = ()

    @property
    def breaks(self) -> int:
        return sum(item.breaks for item in self.classes)

    @property
    def new(self) -> int:
        """How many the latest run opened."""
        return sum(item.breaks for item in self.classes if item.age == breaks.AGES[0])

    @property
    def days(self) -> int | None:
        """Whole days that the oldest has been open; None where there is none."""
        return max((item.days for item in self.holders), default=None)

    def as_dict(self) -> dict[str, int]:
        """Breaks by age."""
        return {item.age: item.breaks for item in self.classes}


def read(session: Session, bound: Bound) -> Ageing:
    """Count the open breaks by age and holder, in one scan, and name the oldest."""
    name = bound.spec.name
    counted: dict[str, list[int]] = {age: [0, 0] for age in reversed(breaks.AGES)}
    held: dict[str | None, tuple[int, int]] = {}
    for age, who, number, days in session.rows(_COUNTED, name, list(breaks.AGES)):
        counted[age][who is not None] += number
        before = held.get(who, (0, 0))
        held[who] = (before[0] + number, max(before[1], int(days)))
    holders = [Holder(who, *found) for who, found in held.items()]
    # Nobody first: these wait for somebody to look at them.
    holders.sort(key=lambda item: (item.who is not None, -item.breaks, item.who or ""))
    oldest = session.records(_OLDEST, name, SHOWN_OLDEST) if held else []
    return Ageing(
        tuple(AgeClass(age, *found) for age, found in counted.items()),
        tuple(holders),
        tuple({**item, "key": shown_key(bound, item["side"], item["key"])} for item in oldest),
    )


def shown_key(bound: Bound, side: str, key: list[str]) -> str | None:
    """A break's key as people may see it: veiled where one of its columns is private."""
    columns = bound.keys("t" if side == "target" else "s")
    private = any(privacy.veiled(bound, part) != part for part in columns)
    return privacy.VEIL if private else keys.shown(key)


# The bounds are those of `recon breaks`. New: the latest run opened it, and nothing has seen it since.
_COUNTED = """
    WITH latest AS (
        SELECT run FROM recon.runs WHERE reconciliation = $1 AND state = 'success' ORDER BY started_at DESC LIMIT 1
    )
    SELECT CASE
            WHEN run = (SELECT run FROM latest) AND opened_at = last_seen THEN ($2::text[])[1]
            WHEN opened_at > now() - interval '1 day' THEN ($2)[2]
            WHEN opened_at > now() - interval '8 days' THEN ($2)[3]
            WHEN opened_at > now() - interval '31 days' THEN ($2)[4]
            ELSE ($2)[5]
        END AS age, assignee, count(*), floor(extract(epoch FROM now() - min(opened_at)) / 86400)::bigint
    FROM recon.breaks WHERE reconciliation = $1 AND state <> 'resolved'
    GROUP BY 1, 2
"""
_OLDEST = """
    SELECT side, key, outcome, reason, assignee, opened_at,
        floor(extract(epoch FROM now() - opened_at) / 86400)::bigint AS days
    FROM recon.breaks WHERE reconciliation = $1 AND state <> 'resolved'
    ORDER BY opened_at, side, key LIMIT $2
"""
