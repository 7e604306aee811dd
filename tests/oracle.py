"""What matching must conclude, worked out one record at a time: the slow and plain version of the rules."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Record = Mapping[str, Any]

# From closest to farthest: an unmatched record takes the reason that came closest, then the earliest pass.
CLOSENESS = ("tie", "when_false", "no_candidate", "null_key")


def _always(_target: Record, _source: Record) -> bool | None:
    return True


@dataclass(frozen=True)
class Rule:
    """One pass of a many_to_one reconciliation.

    `on` pairs a value of the target with one of the source. `when` is true, false or unknown (None), and only
    true lets a candidate through. Each term of `prefer` gives a sort key: the smaller is the better, and the
    place of NULL is already in it.
    """

    name: str
    on: Sequence[tuple[Callable[[Any], object], Callable[[Any], object]]]
    when: Callable[[Any, Any], bool | None] = _always
    prefer: Sequence[Callable[[Any, Any], tuple[Any, ...]]] = field(default=())
    review: bool = False
    next_on_tie: bool = False


@dataclass(frozen=True)
class Verdict:
    """What is concluded for one target: linked, matched, proposed, ambiguous or unmatched."""

    outcome: str
    source_key: object | None
    rule: str | None
    reason: str | None


def decide(
    targets: Sequence[Record],
    sources: Sequence[Record],
    rules: Sequence[Rule],
    *,
    target_key: str,
    source_key: str,
    link: str | None,
) -> dict[Any, Verdict]:
    """Decide every target, many_to_one, by trying all sources in every pass (design, section 4).

    >>> same_city = Rule("city", on=[(lambda t: t["city"], lambda s: s["city"])])
    >>> verdicts = decide(
    ...     [{"id": 1, "city": "Ely"}, {"id": 2, "city": "Bath"}, {"id": 3, "city": None}],
    ...     [{"id": 7, "city": "Ely"}],
    ...     [same_city], target_key="id", source_key="id", link=None)
    >>> [(verdict.outcome, verdict.source_key, verdict.reason) for verdict in verdicts.values()]
    [('matched', 7, None), ('unmatched', None, 'no_candidate'), ('unmatched', None, 'null_key')]
    """
    verdicts: dict[Any, Verdict] = {}
    for target in targets:
        if link is not None and target[link] is not None:
            verdict = Verdict("linked", target[link], None, None)
        else:
            verdict = _decide_one(target, sources, rules, source_key)
        assert target[target_key] not in verdicts, f"target key {target[target_key]!r} occurs twice"
        verdicts[target[target_key]] = verdict
    return verdicts


def _decide_one(target: Record, sources: Sequence[Record], rules: Sequence[Rule], source_key: str) -> Verdict:
    misses: list[tuple[int, int, str]] = []
    for position, rule in enumerate(rules):
        wanted = [of_target(target) for of_target, _ in rule.on]
        if any(value is None for value in wanted):
            misses.append((CLOSENESS.index("null_key"), position, rule.name))
            continue
        same_key = [
            source
            for source in sources
            if all(of_source(source) == value for value, (_, of_source) in zip(wanted, rule.on, strict=True))
        ]
        candidates = [source for source in same_key if rule.when(target, source) is True]
        if not candidates:
            reason = "when_false" if same_key else "no_candidate"
            misses.append((CLOSENESS.index(reason), position, rule.name))
            continue
        ranks = [tuple(term(target, source) for term in rule.prefer) for source in candidates]
        best = [source for source, rank in zip(candidates, ranks, strict=True) if rank == min(ranks)]
        if len(best) == 1:
            outcome = "proposed" if rule.review else "matched"
            return Verdict(outcome, best[0][source_key], rule.name, None)
        if not rule.next_on_tie:
            return Verdict("ambiguous", None, rule.name, None)
        misses.append((CLOSENESS.index("tie"), position, rule.name))
    if not misses:
        return Verdict("unmatched", None, None, None)
    closeness, _, name = min(misses)
    return Verdict("unmatched", None, name, CLOSENESS[closeness])
