"""A world: two sets of records, the truth about them, and the rules that a competent analyst would find in an hour."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any

Record = dict[str, str]


@dataclass(frozen=True)
class Rule:
    """What an analyst would write as a pass: something that both sides have, and perhaps a window.

    Args:
        target, source: what must agree; None agrees with nothing.
        near: the two sides' numbers that may differ, source minus target between the two bounds; None: no window.
        clean: whether it asks for exact agreement of what stands there, under a normal form: what any draft must find.
    """

    target: Callable[[Record], Hashable | None]
    source: Callable[[Record], Hashable | None]
    near: tuple[Callable[[Record], float | None], Callable[[Record], float | None], float, float] | None = None
    clean: bool = True


@dataclass
class World:
    """What was made, before it is disguised as two files.

    Attributes:
        partners: for each target, by its place, the places of the sources that are right; several: the same thing twice.
        keys: the columns by which a target and a source are known.
        linked: of so many targets the file says the partner's key already (in `link`).
        why: what the recall floor rests on.
    """

    name: str
    targets: list[Record]
    sources: list[Record]
    partners: list[frozenset[int]]
    rules: list[Rule]
    keys: tuple[tuple[str, ...], str]
    one_to_one: bool
    why: str
    link: str | None = None
    noise: tuple[list[str], list[str]] = field(default_factory=lambda: ([], []))


@dataclass(frozen=True)
class Score:
    """Pairs against the truth. Recall leaves out targets whose partner is there twice: silence is right there too."""

    right: int
    wrong: int
    known: int
    found: int

    @property
    def precision(self) -> float:
        return self.right / (self.right + self.wrong) if self.right + self.wrong else 1.0

    @property
    def recall(self) -> float:
        return self.found / self.known if self.known else 1.0


def score(world: World, pairs: Iterable[tuple[int, int]], held: frozenset[int] = frozenset()) -> Score:
    """How good pairs of places are; `held`: targets that were linked before, which nobody can find any more."""
    right = wrong = found = 0
    for target, source in pairs:
        if source in world.partners[target]:
            right += 1
            found += len(world.partners[target]) == 1 and target not in held
        else:
            wrong += 1
    known = sum(len(some) == 1 and place not in held for place, some in enumerate(world.partners))
    return Score(right, wrong, known, found)


def analyst(world: World, clean: bool = False) -> list[tuple[int, int]]:
    """The pairs that the world's own rules give, strictest first; a record with several candidates is left alone.

    Args:
        clean: only the rules of exact agreement.
    """
    open_targets = [place for place, record in enumerate(world.targets) if not (world.link and record[world.link])]
    taken: set[int] = set()
    if world.one_to_one and world.link:
        key = {record[world.keys[1]]: place for place, record in enumerate(world.sources)}
        taken = {key[record[world.link]] for record in world.targets if record[world.link]}
    pairs: list[tuple[int, int]] = []
    for rule in world.rules:
        if clean and not rule.clean:
            continue
        found = _found(world, rule, open_targets, taken)
        pairs += found
        done = {target for target, _ in found}
        open_targets = [place for place in open_targets if place not in done]
        if world.one_to_one:
            taken |= {source for _, source in found}
    return pairs


def _found(world: World, rule: Rule, open_targets: list[int], taken: set[int]) -> list[tuple[int, int]]:
    held: defaultdict[Any, list[int]] = defaultdict(list)
    for place, record in enumerate(world.sources):
        if place not in taken and (value := rule.source(record)) is not None:
            held[value].append(place)
    candidates: dict[int, list[int]] = {}
    of_source: defaultdict[int, int] = defaultdict(int)
    for target in open_targets:
        record = world.targets[target]
        value = rule.target(record)
        some = held.get(value, []) if value is not None else []
        if rule.near:
            some = [place for place in some if _near(rule, record, world.sources[place])]
        candidates[target] = some
        for place in some:
            of_source[place] += 1
    single = ((target, some[0]) for target, some in candidates.items() if len(some) == 1)
    return [(target, source) for target, source in single if not world.one_to_one or of_source[source] == 1]


def _near(rule: Rule, target: Record, source: Record) -> bool:
    assert rule.near is not None
    of_target, of_source, before, after = rule.near
    here, there = of_target(target), of_source(source)
    return here is not None and there is not None and before <= there - here <= after
