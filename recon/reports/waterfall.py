"""A run as a waterfall: how its decisions add up to the population."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from recon.matching.run import Run


@dataclass(frozen=True)
class Step:
    """One bar of the waterfall: what adds up to the population, and the population itself."""

    label: str
    kind: Literal[
        "linked",
        "matched",
        "proposed",
        "ambiguous",
        "unmatched",
        "orphan",
        "missing",
        "excluded",
        "invalid",
        "population",
    ]
    records: int


def linked_before(run: Run) -> int:
    """Records that held a link when the run looked; of a comparison they are among the same and changed ones."""
    counts = run.outcomes
    agreeing = counts.get("same", 0) + counts.get("changed", 0)
    found = sum(item.matched for item in run.passes)
    return counts.get("linked", 0) + max(agreeing - found, 0)


def steps(run: Run) -> tuple[Step, ...]:
    """Linked before, each pass, what waits, what is missing, the population.

    A waiting kind is left out where a run has none of it; a pass is always there.
    """
    counts = run.outcomes
    rest: tuple[tuple[str, Any], ...] = (
        ("proposed, a person decides", "proposed"),
        ("ambiguous, a person decides", "ambiguous"),
        ("unmatched", "unmatched"),
        ("orphan, target only", "orphan"),
        ("missing, source only", "missing"),
        ("invalid", "invalid"),
        ("excluded", "excluded"),
    )
    return (
        Step("linked before", "linked", linked_before(run)),
        *(Step(rule.name, "matched", rule.matched) for rule in run.passes),
        *(Step(label, kind, counts[kind]) for label, kind in rest if counts.get(kind)),
        Step("population", "population", run.population),
    )
