"""What one pass says of one record, in a code and a sentence, with its candidates and what each of them lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recon.allowed import shortened
from recon.matching import keys, side_by_side
from recon.matching.because import called
from recon.matching.bound import Bound
from recon.matching.nearest import LOOKED_AT, SHOWN, Found
from recon.matching.pairs import shown_key
from recon.matching.side_by_side import Equality, Measured
from recon.matching.standing import Key, Standing

# What may be the matter with a candidate; `candidate`: nothing is. The nearest first.
STANDINGS = (
    "candidate", "taken", "already_linked", "forbidden", "excluded", "out_of_tolerance", "when_false", "other_key",
)  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """A record of the other side beside the one that is explained, field by field."""

    key: Any
    standing: str  # one of STANDINGS
    about: str  # by whom, by how much: what there is to say beside the code
    equalities: tuple[Equality, ...]
    windows: tuple[Measured, ...]
    when: bool | None
    shown: Mapping[str, Any]
    interpretation: str | None

    @property
    def holds(self) -> bool:
        """Whether the pass may still take it."""
        return self.standing == "candidate"


@dataclass(frozen=True)
class PassExplained:
    """One pass for one record: a code for the result, a sentence, and the nearest candidates.

    The result is `best` or `tie` where the pass has candidates that it may take, else the reason's code.
    """

    name: str
    result: str
    sentence: str
    asked: Mapping[str, Any]
    candidates: tuple[Candidate, ...] = ()
    found: int = 0  # how many have the pass's key


def of_pass(bound: Bound, found: Found, around: Standing, own: Key, asked: Sequence[Any]) -> PassExplained:
    """What a pass says of the record.

    Args:
        bound: the spec.
        found: what there is among the other side's records.
        around: who holds them, and what people said.
        own: the record's key, as text.
        asked: the record's own values of `on`.
    """
    rule = found.rule
    names = rule.target_names if bound.population == "t" else rule.source_names
    wanted = dict(zip(names, asked, strict=True))
    seen = [(_standing(bound, found, row, around, own), row) for row in found.rows]
    seen.sort(key=lambda item: STANDINGS.index(item[0][0]) if item[0][0] != "excluded" else len(STANDINGS))
    listed = tuple(_candidate(found, code, about, row) for (code, about), row in seen[:SHOWN])
    result, sentence = _verdict(bound, found, around, wanted, seen, listed)
    return PassExplained(rule.name, result, sentence, wanted, listed, found.met)


_Seen = tuple[tuple[str, str], dict[str, Any]]


def _standing(bound: Bound, found: Found, row: Mapping[str, Any], around: Standing, own: Key) -> tuple[str, str]:
    """What is the matter with a record of the other side, and what there is to say of it."""
    key = row["other_key"]
    if not found.by_key:
        return "other_key", ""
    if key in around.excluded:
        override = around.excluded[key]
        return "excluded", f"by {override.author}: {override.reason}"
    if not row["when"]:
        return "when_false", ""
    if not row["candidate"]:
        return "out_of_tolerance", ""
    if key in around.forbidden:
        override = around.forbidden[key]
        return "forbidden", f"by {override.author}: {override.reason}"
    if bound.spec.cardinality == "one_to_one":
        partner = around.linked.get(key)
        if partner is not None and _texts(partner, len(own)) != [str(part) for part in own]:
            holder = (
                f"{called(bound, 't', 'target')} {partner}"
                if bound.other == "s"
                else f"{called(bound, 's', 'source')} {partner}"
            )
            return "already_linked", f"{'by' if bound.other == 's' else 'to'} {holder}"
        if key in around.taken:
            taker, name = around.taken[key]
            word = called(bound, bound.population, " ").strip()
            return "taken", f"by {word} {taker} in pass {name} (run {around.run})".replace("  ", " ")
    return "candidate", ""


def _texts(key: Any, count: int) -> list[str]:
    """The parts of a shown key of so many columns, as text."""
    return (keys.in_array(str(key)) or []) if count > 1 else [str(key)]


def _candidate(found: Found, code: str, about: str, row: Mapping[str, Any]) -> Candidate:
    pair = side_by_side.read(found.rule, row)
    missed = [f"{item.name}: misses by {item.missed_by}" for item in pair.windows if item.missed_by is not None]
    if code == "out_of_tolerance":
        about = "; ".join(missed) or "a value of the window is empty"
    return Candidate(
        shown_key(row["key"]),
        code,
        about,
        pair.equalities,
        pair.windows,
        pair.when,
        row["shown"],
        row["interpretation"],
    )


def _verdict(
    bound: Bound,
    found: Found,
    around: Standing,
    wanted: Mapping[str, Any],
    seen: Sequence[_Seen],
    listed: Sequence[Candidate],
) -> tuple[str, str]:
    """The code of the result, and the sentence for it."""
    rule = found.rule
    other = called(bound, bound.other)
    nulls = [name for name, value in wanted.items() if value is None]
    if nulls:
        return "null_key", f"The {called(bound, bound.population, 'record')} has no {' and no '.join(nulls)}."
    said = ", ".join(f"{name} {value}" for name, value in wanted.items())
    there = [code for (code, _), _ in seen if code != "excluded"]
    if not found.met or not there:
        if found.met:
            lacking = f"Every {other}{f' with {said}' if said else ''} is excluded by a person."
        else:
            lacking = f"No {other} has {said}." if said else f"There is no {other}."
        return "no_candidate", lacking + _nearest_differs(listed)
    having = f" with {said}" if said else ""
    if "candidate" in there:
        return _open(bound, found, around, having, said, seen, listed)
    if not found.holds:
        return (
            "when_false",
            f"{found.met:,}{having}, but the condition does not hold: {shortened(rule.rule.when or '')}.",
        )
    if not found.candidates:
        return "out_of_tolerance", _missed(found, having, listed)
    code = min(there, key=STANDINGS.index)
    words = {"taken": "taken", "already_linked": "linked already", "forbidden": "forbidden"}[code]
    which = "; ".join(f"{item.key} {item.about}" for item in listed if item.standing == code)
    number = "The only candidate" if found.candidates == 1 else f"Each of {found.candidates:,} candidates"
    rest = {"taken": " or held otherwise", "already_linked": " or forbidden", "forbidden": ""}[code]
    rest = rest if any(item != code and item in _HELD for item in there) else ""
    return code, f"{number}{having} is {words}{rest}: {which}."


_HELD = ("taken", "already_linked", "forbidden")


def _open(
    bound: Bound,
    found: Found,
    around: Standing,
    having: str,
    said: str,
    seen: Sequence[_Seen],
    listed: Sequence[Candidate],
) -> tuple[str, str]:
    """There is a candidate that the pass may take: is one the best?"""
    rule = found.rule
    free = [row for (code, _), row in seen if code == "candidate"]
    equals = sum(row["place"] == free[0]["place"] for row in free)
    if equals > 1:
        least = "At least " if len(found.rows) == LOOKED_AT < found.candidates else ""
        return "tie", f"{least}{equals:,} candidates{having} are equally good."
    if bound.spec.cardinality == "one_to_one" and _left_tied(rule.name, around):
        return "tie", f"{listed[0].key} is as good for another record (run {around.run})."
    others = f", the best of {len(free):,}" if len(free) > 1 else ""
    verb = "would propose" if rule.rule.accept == "review" else "links to"
    measured = [f"{item.name} {item.distance} apart" for item in listed[0].windows]
    asked = said or "; ".join(measured)
    return "best", f"{asked}: {verb} {listed[0].key}{others}."


def _left_tied(name: str, around: Standing) -> bool:
    """Whether the latest run left the record tied in this pass: one_to_one, the tie may be on the other side."""
    decided = around.decided
    if decided is None:
        return False
    passes = (decided.evidence or {}).get("passes") or {}
    return (decided.outcome == "ambiguous" and decided.rule == name) or passes.get(name) == "tie"


def _missed(found: Found, having: str, listed: Sequence[Candidate]) -> str:
    """The nearest, and by how much it lies outside."""
    nearest = next((item for item in listed if item.standing == "out_of_tolerance"), None)
    number = f"{found.holds:,}{having}" if having else f"{found.holds:,} to choose from"
    if nearest is None:
        return f"{number}, but none within the tolerance."
    missed = [f"{item.missed_by} outside {item.tolerance} ({item.name})" for item in nearest.windows if item.missed_by]
    if not missed:
        return f"{number}, but none within the tolerance: a value of the window is empty."
    return f"{number}, but none within the tolerance: the nearest, {nearest.key}, is {' and '.join(missed)}."


def _nearest_differs(listed: Sequence[Candidate]) -> str:
    """In what the nearest record differs, where one agrees on a part of the key."""
    nearest = next((item for item in listed if item.standing == "other_key"), None)
    if nearest is None:
        return ""
    agrees = [item.name for item in nearest.equalities if item.agree]
    differs = [item.name for item in nearest.equalities if not item.agree]
    return f" The nearest, {nearest.key}, agrees on {', '.join(agrees)} and not on {', '.join(differs)}."
