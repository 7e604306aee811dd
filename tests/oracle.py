"""What matching must conclude, worked out by trying every pair: the slow and plain version of the rules.

It follows sections 4 and 5 of the design sentence by sentence and shares nothing with the product. `own` is a record
of the population, `other` one of the other side; a pair is always (target's key, source's key).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from tests.oracle_pass import Key, Of, Pair, Record, Rule, Tolerance, near

SIDES = ("target", "source")

# From closest to farthest: an unmatched record takes the reason that came closest, then the earliest pass.
CLOSENESS = "tie taken already_linked forbidden out_of_tolerance when_false no_candidate null_key".split()


def _any_record(_record: Record) -> bool | None:
    return True


@dataclass(frozen=True)
class Override:
    """A person's decision: `link` and `forbid` name a pair, `exclude` names one record."""

    kind: str
    target: Key | None = None
    source: Key | None = None


@dataclass(frozen=True)
class Comparison:
    """A target column that should hold the source's value, give or take (before, after)."""

    column: str
    source: Of
    tolerance: tuple[Tolerance, Tolerance] | None = None
    skip_empty: bool = False  # a source that is empty says nothing, so it is no difference

    def same(self, before: Any, after: Any) -> bool:
        if self.skip_empty and (after is None or (isinstance(after, str) and not after.strip())):
            return True
        if before is None or after is None:
            return before is after
        return before == after if self.tolerance is None else near(before, after, *self.tolerance)


@dataclass(frozen=True)
class Problem:
    """All rows of both sides and the rules. Conditions are true, false or unknown (None); only true counts."""

    targets: Sequence[Record]
    sources: Sequence[Record]
    rules: Sequence[Rule]
    target_key: Sequence[str] = ("id",)
    source_key: Sequence[str] = ("id",)
    target_where: Of = _any_record
    source_where: Of = _any_record
    link: str | None = None
    one_to_one: bool = False
    population: str = "target"
    scope: str | None = None
    overrides: Sequence[Override] = ()
    valid: Sequence[Of] = ()
    compare: Sequence[Comparison] = ()


@dataclass(frozen=True)
class Decision:
    """What is concluded for one record of the population."""

    outcome: str
    partner: Key | None = None
    rule: str | None = None
    reason: str | None = None
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)  # column: what it holds, what it should
    misses: Mapping[str, str] = field(default_factory=dict)  # pass: why it found nothing


@dataclass(frozen=True)
class Answer:
    """One decision for each record of the population; the other side's records that nobody holds; contradictions."""

    decisions: Mapping[Key, Decision]
    other_side: Mapping[Key, str]
    conflicts: Sequence[Override]


def decide(problem: Problem) -> Answer:
    """Decide every record of the population.

    >>> same_city = Rule("city", on=[(lambda t: t["city"], lambda s: s["city"])])
    >>> cities = [{"id": 1, "city": "Ely"}, {"id": 2, "city": "Bath"}, {"id": 3, "city": None}]
    >>> answer = decide(Problem(cities, [{"id": 7, "city": "Ely"}], [same_city]))
    >>> [(decision.outcome, decision.partner, decision.reason) for decision in answer.decisions.values()]
    [('matched', 7, None), ('unmatched', None, 'no_candidate'), ('unmatched', None, 'null_key')]
    """
    matching = _Matching(problem)
    matching.find_linked()
    for override in problem.overrides:
        matching.obey(override)
    rules = [_in_scope(rule, problem.scope) for rule in problem.rules]
    for rule in rules:
        matching.run_pass(rule)
    for own in matching.undecided():
        matching.decisions[own] = matching.explain(own, rules)
    decisions = {own: matching.conclude(own) for own in matching.population}
    return Answer(decisions, matching.left_over(), matching.conflicts)


def _in_scope(rule: Rule, scope: str | None) -> Rule:
    """The scope is one more equality of every pass."""
    if scope is None:
        return rule
    return replace(rule, on=[*rule.on, (lambda target: target[scope], lambda source: source[scope])])


class _Matching:
    """The state of one matching: who is decided, who is held, and who was left tied."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.side = SIDES.index(problem.population)
        self.targets = _by_key(problem.targets, problem.target_key, problem.target_where)
        self.sources = _by_key(problem.sources, problem.source_key, problem.source_where)
        self.population, self.others = (self.targets, self.sources)[:: -1 if self.side else 1]
        self.links = set(_links(problem))
        self.forbidden = {(item.target, item.source) for item in problem.overrides if item.kind == "forbid"}
        self.excluded = [
            {getattr(item, side) for item in problem.overrides if item.kind == "exclude"} for side in SIDES
        ]
        self.decisions: dict[Key, Decision] = {}
        self.held: set[Pair] = set()  # by decisions of this run
        self.tied: set[tuple[Key, str]] = set()  # records that a tie sent on, with the pass that left them
        self.others_under_review: set[Key] = set()
        self.conflicts: list[Override] = []

    # -- before the passes ---------------------------------------------------------------------------------

    def find_linked(self) -> None:
        """A record that holds a link, or that a target holds, is linked; whoever is held twice has no one partner."""
        for own in self.population:
            partners = [pair[1 - self.side] for pair in self.links if pair[self.side] == own]
            if partners:
                self.decisions[own] = Decision("linked", partners[0] if len(partners) == 1 else None)

    def obey(self, override: Override) -> None:
        pair = (override.target, override.source)
        if override.kind == "link":
            self._link(pair, override)
        elif override.kind == "forbid" and pair in self.links and pair[self.side] in self.population:
            self.conflicts.append(override)
        elif override.kind == "exclude":
            self._exclude(override)

    def _link(self, pair: Pair, override: Override) -> None:
        own, other = pair[self.side], pair[1 - self.side]
        if pair in self.links:
            return
        exist = pair[0] in self.targets and pair[1] in self.sources
        free = not self._linked(pair[0], 0) and not (self.problem.one_to_one and self._linked(pair[1], 1))
        if exist and free:
            self.decisions[own] = Decision("matched", other, "override")
            self.held.add(pair)
            return
        self.conflicts.append(override)
        if own in self.population and own not in self.decisions:
            self.decisions[own] = Decision("ambiguous", None, "override", "conflict")

    def _exclude(self, override: Override) -> None:
        own = getattr(override, SIDES[self.side])
        linked_target = override.target in self.targets and self._linked(override.target, 0)
        if own in self.decisions or linked_target:
            self.conflicts.append(override)
        elif own in self.population:
            self.decisions[own] = Decision("excluded", None, "override", "excluded")

    def _linked(self, key: Key, side: int) -> bool:
        return any(pair[side] == key for pair in self.links)

    # -- the passes ----------------------------------------------------------------------------------------

    def undecided(self) -> list[Key]:
        return [own for own in self.population if own not in self.decisions]

    def run_pass(self, rule: Rule) -> None:
        free = [other for other in self._others_in_play() if not self._is_held(other)]
        pairs = [self._pair(own, other) for own, other in product(self.undecided(), free)]
        ranks = {
            pair: rule.rank(pair, *self._records(pair))
            for pair in pairs
            if pair not in self.forbidden and rule.same_key(*self._records(pair)) and rule.fits(*self._records(pair))
        }
        settle = one_to_one if self.problem.one_to_one else many_to_one
        accepted, tied = settle(ranks)
        for pair in accepted:
            verdict = ("proposed", "review") if rule.review else ("matched", None)
            self.decisions[pair[self.side]] = Decision(verdict[0], pair[1 - self.side], rule.name, verdict[1])
        self.held.update(accepted)
        for pair in tied:
            self._leave_tied(rule, pair)

    def _leave_tied(self, rule: Rule, pair: Pair) -> None:
        own, other = pair[self.side], pair[1 - self.side]
        if rule.next_on_tie:
            self.tied.add((own, rule.name))
        else:
            self.decisions[own] = Decision("ambiguous", None, rule.name, "tie")
            self.others_under_review.add(other)

    def _others_in_play(self) -> list[Key]:
        return [other for other in self.others if other not in self.excluded[1 - self.side]]

    def _is_held(self, other: Key) -> bool:
        """Whether no further record may have this one; with many_to_one every source is there for all."""
        return self.problem.one_to_one and any(pair[1 - self.side] == other for pair in self.links | self.held)

    def _pair(self, own: Key, other: Key) -> Pair:
        return (other, own) if self.side else (own, other)

    def _records(self, pair: Pair) -> tuple[Record, Record]:
        return self.targets[pair[0]], self.sources[pair[1]]

    # -- why not -------------------------------------------------------------------------------------------

    def explain(self, own: Key, rules: Iterable[Rule]) -> Decision:
        misses = {rule.name: self._miss(own, rule) for rule in rules}
        closest = min(misses, key=lambda name: CLOSENESS.index(misses[name]))  # the first of equals
        return Decision("unmatched", None, closest, misses[closest], misses=misses)

    def _miss(self, own: Key, rule: Rule) -> str:
        if rule.lacks_key(self.population[own], self.side):
            return "null_key"
        pairs = [self._pair(own, other) for other in self._others_in_play()]
        same_key = [pair for pair in pairs if rule.same_key(*self._records(pair))]
        fitting = [pair for pair in same_key if rule.fits(*self._records(pair))]
        allowed = [pair for pair in fitting if pair not in self.forbidden]
        if not same_key:
            return "no_candidate"
        if (own, rule.name) in self.tied:
            return "tie"
        if any(pair[1 - self.side] == held[1 - self.side] for pair in allowed for held in self.held):
            return "taken"
        if allowed:
            assert all(self._linked(pair[1 - self.side], 1 - self.side) for pair in allowed)
            return "already_linked"
        if fitting:
            return "forbidden"
        some_when = any(rule.lets_through(*self._records(pair)) for pair in same_key)
        return "out_of_tolerance" if some_when else "when_false"

    # -- after the passes ----------------------------------------------------------------------------------

    def conclude(self, own: Key) -> Decision:
        """The decision as people see it: invalid where the source is, and compared where the spec compares."""
        found = self.decisions[own]
        if found.outcome != "excluded" and self._is_invalid(own, found):
            decided_here = found.partner is not None and found.outcome != "linked"
            return Decision("invalid", found.partner, found.rule if decided_here else None, "invalid")
        if not self.problem.compare:
            return found
        if found.outcome == "unmatched":
            return replace(found, outcome=("orphan", "missing")[self.side])
        if found.outcome in ("linked", "matched") and found.partner in self.others:
            changes = self._changes(self._pair(own, found.partner))
            return replace(found, outcome="changed" if changes else "same", changes=changes)
        return found

    def _is_invalid(self, own: Key, found: Decision) -> bool:
        if self.problem.population == "source":
            return self._breaks_a_rule(own)
        judged = ("matched", "proposed", "linked") if self.problem.compare else ("matched", "proposed")
        return found.outcome in judged and found.partner in self.sources and self._breaks_a_rule(found.partner)

    def _breaks_a_rule(self, source: Key) -> bool:
        return not all(rule(self.sources[source]) is True for rule in self.problem.valid)

    def _changes(self, pair: Pair) -> dict[str, tuple[Any, Any]]:
        target, source = self._records(pair)
        values = [(item, target[item.column], item.source(source)) for item in self.problem.compare]
        return {item.column: (before, after) for item, before, after in values if not item.same(before, after)}

    def left_over(self) -> dict[Key, str]:
        """Where the spec compares: the other side's records that no decision and no link holds."""
        other_side = 1 - self.side
        held = {pair[other_side] for pair in self.links | self.held} | self.others_under_review
        free = [other for other in self._others_in_play() if other not in held]
        if other_side == SIDES.index("source"):
            free = [other for other in free if not self._breaks_a_rule(other)]
        return {other: ("orphan", "missing")[other_side] for other in free if self.problem.compare}


def many_to_one(ranks: Mapping[Pair, Any]) -> tuple[list[Pair], list[Pair]]:
    """Each target takes its best candidate; two equally good ones are a tie. Returns (accepted, tied).

    >>> many_to_one({("t", "a"): 1, ("t", "b"): 2, ("u", "a"): 1, ("u", "b"): 1, ("u", "c"): 2})
    ([('t', 'a')], [('u', 'a'), ('u', 'b')])
    """
    accepted: list[Pair] = []
    tied: list[Pair] = []
    for target in dict.fromkeys(pair[0] for pair in ranks):
        own = {pair: rank for pair, rank in ranks.items() if pair[0] == target}
        best = [pair for pair, rank in own.items() if rank == min(own.values())]
        (accepted if len(best) == 1 else tied).extend(best)
    return accepted, tied


def one_to_one(ranks: Mapping[Pair, Any]) -> tuple[list[Pair], list[Pair]]:
    """Again and again accept each pair that is strictly best for both its records among what remains.

    Returns (accepted, tied): whoever still holds candidates when no more is accepted is tied.

    >>> one_to_one({("t", "a"): 1, ("u", "a"): 2, ("u", "b"): 3, ("v", "c"): 1, ("v", "d"): 1})
    ([('t', 'a'), ('u', 'b')], [('v', 'c'), ('v', 'd')])
    """
    accepted: list[Pair] = []
    left = dict(ranks)
    while best := [pair for pair in left if _strictly_best(pair, left)]:
        accepted += best
        left = {pair: rank for pair, rank in left.items() if not any(_meet(pair, done) for done in best)}
    return accepted, list(left)


def _strictly_best(pair: Pair, left: Mapping[Pair, Any]) -> bool:
    return all(left[pair] < rank for other, rank in left.items() if other != pair and _meet(pair, other))


def _meet(one: Pair, other: Pair) -> bool:
    return one[0] == other[0] or one[1] == other[1]


def _links(problem: Problem) -> Iterable[Pair]:
    """The links that targets hold, of whatever targets: a target outside `where` holds its source as well."""
    if problem.link is not None:
        for row in problem.targets:
            if row[problem.link] is not None:
                yield key_of(row, problem.target_key), row[problem.link]


def _by_key(rows: Iterable[Record], key: Sequence[str], where: Callable[[Record], bool | None]) -> dict[Key, Record]:
    taking_part = [row for row in rows if where(row) is True]
    found = {key_of(row, key): row for row in taking_part}
    assert len(found) == len(taking_part), "a key occurs twice"
    return found


def key_of(row: Record, key: Sequence[str]) -> Key:
    """A record's key: the value of its one column, or a tuple of several."""
    return row[key[0]] if len(key) == 1 else tuple(row[name] for name in key)
