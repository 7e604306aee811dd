"""What the records of a plan hold in the outside system now, beside what the plan says of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from recon.backfill.executor import Notice, silent
from recon.backfill.outside_bundle import Line
from recon.backfill.plan import Plan
from recon.backfill.veils import Veils
from recon.errors import WrongDatabase, visible
from recon.names import storable
from recon.outside.interface import Edit, Fields, Target, Variables, open_target
from recon.spec_parts import Outside

# What a look says of a record. Only a ready one is written.
THERE, READY, DRIFTED, ABSENT = "there", "ready", "drifted", "absent"

MOST_RECORDS = 1_000  # of one chunk, whatever the system takes at once: its rows are one transaction in the table
# What we say of a record ourselves; anything else is the other side's words.
NOT_THERE, HOLDS_ELSE = "there is no such record", "it holds something else there"
CHANGED_HERE = "its row here was changed since, so it is kept there too"
CHANGED_MEANWHILE = "its row here was changed while the record was given back, so look at both"
UNANSWERED = "the system does not say what becomes of it, and it is as it was"
HELD_HERE = "its row here holds it by another plan or person, so it is kept there too"
EDITED = "what is kept of it here was edited, so nobody knows what it held"
OURS = (NOT_THERE, HOLDS_ELSE, CHANGED_HERE, CHANGED_MEANWHILE, UNANSWERED, HELD_HERE, EDITED)


@contextmanager
def reached(plan: Plan, variables: Variables, notice: Notice = silent) -> Generator[Target]:
    """The outside system that a plan was made for, by the settings of this workspace.

    A target that can say why it waits has an attribute `notice`, as `recon.outside.client.Client` has.

    Raises:
        NotFound, UsageError: the system is not installed, or a setting of it is missing.
        WrongDatabase: the settings lead to another place than the plan was made for.
    """
    said = plan.outside
    assert said is not None
    target = open_target(
        Outside(system=said["system"], object=said["object"], record=said["record"], fields=said["fields"]), variables
    )
    try:
        if target.place != said["place"]:
            raise WrongDatabase(
                f"Plan {plan.plan} was made for {said['system']} at {said['place']}.",
                why=f"By the settings here it is at {target.place}.",
                todo="Give the settings that it was made with, or make a new plan here.",
            )
        if hasattr(target, "notice"):
            target.notice = notice  # pyright: ignore[reportAttributeAccessIssue] (not every target has it)
        yield target
    finally:
        target.close()


def chunks(first: int, last: int, target: Target) -> Iterator[tuple[int, int]]:
    """The ranges of places that one request may take each."""
    most = max(1, min(target.most, MOST_RECORDS))
    while first <= last:
        yield first, min(last, first + most - 1)
        first += most


def packed(ranges: Iterable[tuple[int, int]], target: Target) -> Iterator[list[tuple[int, int]]]:
    """These ranges in packs, each of as many places as one request may take: what an apply left may be scattered."""
    most = max(1, min(target.most, MOST_RECORDS))
    pack: list[tuple[int, int]] = []
    room = most
    for first, last in ranges:
        while first <= last:
            end = min(last, first + room - 1)
            pack.append((first, end))
            room -= end - first + 1
            first = end + 1
            if room == 0:
                yield pack
                pack, room = [], most
    if pack:
        yield pack


@dataclass(frozen=True)
class Look:
    """A planned record as it is there now."""

    line: Line
    now: Fields | None  # as it can be kept and shown; None: it is not there
    verdict: str

    @property
    def before(self) -> dict[str, str | None]:
        """Its fields as they are there, of those that the plan changes."""
        return {field: (self.now or {}).get(field) for field in self.line.edit.after}


def look(target: Target, lines: Sequence[Line]) -> list[Look]:
    """Read the records of these lines, at most as many as the target takes at once. Raises OutsideFailed."""
    if not lines:
        return []
    wanted = sorted({field for line in lines for field in line.edit.after})
    found = target.read([line.edit.record for line in lines], wanted)
    return [_judged(target, line, found.get(line.edit.record)) for line in lines]


def _judged(target: Target, line: Line, now: Fields | None) -> Look:
    if now is None:
        return Look(line, None, ABSENT)
    # A system may hold what PostgreSQL cannot, such as NUL; no planned value is like that.
    told = {field: value if value is None or storable(value) else visible(value) for field, value in now.items()}
    return Look(line, told, verdict(target, line.edit, now))


def verdict(target: Target, edit: Edit, now: Fields) -> str:
    """Whether a record holds what an edit wants, what it starts from, or something else.

    A system may have taken a part of an edit: a field that already holds what is wanted is not in its way.
    """

    def holds(field: str, wanted: Mapping[str, str | None]) -> bool:
        return target.same(field, now.get(field), wanted[field])

    if all(holds(field, edit.after) for field in edit.after):
        return THERE
    free = all(holds(field, edit.before) or holds(field, edit.after) for field in edit.after)
    return READY if free else DRIFTED


# -- words -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Words:
    """Says what became of a record, without the values that a person may not see."""

    fields: Mapping[str, str]  # the written columns that go outside, and what they are called there
    seen: Veils
    discreet: bool  # whether the other side's own words may hold private values

    @classmethod
    def of(cls, plan: Plan, seen: Veils) -> Words:
        said: dict[str, Any] = plan.outside or {"fields": {}}
        veiled = bool(seen.columns & set(said["fields"]))
        return cls(said["fields"], seen, veiled)

    def error(self, message: str) -> str:
        """Why a record was not written; what the other side said of it may hold any value of the record."""
        return (
            message
            if message in OURS or not self.discreet
            else "its words may hold private values, so they are left out"
        )

    def drift(self, edit: Edit, now: Fields, same: Callable[[str, str | None, str | None], bool] | None = None) -> str:
        """What stands there, where it is neither what the plan starts from nor what it writes."""
        parts: list[str] = []
        for field, before in edit.before.items():
            held = now.get(field)
            if same and (same(field, held, before) or same(field, held, edit.after[field])):
                continue
            was, there = (_shown(self._value(field, value)) for value in (before, held))
            parts.append(f"{field} was {was}, is {there} there")
        return "; ".join(parts) or HOLDS_ELSE

    def held(self, edit: Edit, now: Fields, same: Callable[[str, str | None, str | None], bool]) -> str:
        """What stands there in place of what the plan wrote."""
        parts: list[str] = []
        for field, after in edit.after.items():
            if not same(field, now.get(field), after):
                held, wanted = (_shown(self._value(field, value)) for value in (now.get(field), after))
                parts.append(f"{field} is {held} there, not {wanted}")
        return "; ".join(parts) or HOLDS_ELSE

    def _value(self, field: str, value: str | None) -> Any:
        column = next((name for name, known in self.fields.items() if known == field), field)
        return self.seen.value(column, value)


def _shown(value: object) -> str:
    return "empty" if value is None else str(value)
