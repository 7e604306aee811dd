"""Matching beside a brute-force oracle, on generated tables with NULLs, ties, duplicates and every option."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from itertools import count
from pprint import pformat
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from recon.database.connect import Database
from tests.oracle import Answer, Decision, decide
from tests.oracle_pass import Key
from tests.property import product
from tests.property.cases import Case, World, draw_case, renumbered

CARDINALITIES = ["many_to_one", "one_to_one"]
SEEDS = st.integers(0, 2**32)
# A smaller seed is no smaller case, so nothing is shrunk: what failed is shown as the one world it failed in.
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
NAMES = (f"case_{number}" for number in count())


def drawn(examples: int) -> settings:
    """Settings for so many examples; most are twelve cases each."""
    return settings(
        max_examples=examples,
        deadline=None,
        phases=PHASES,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )


@pytest.mark.one_engine
@pytest.mark.parametrize("cardinality", CARDINALITIES)
@drawn(18)
@given(seed=SEEDS)
def test_every_decision_is_the_oracles_and_the_counts_add_up(database: Database, cardinality: str, seed: int) -> None:
    assert_agrees(database, draw_case(Random(seed), next(NAMES), cardinality))


@pytest.mark.parametrize("cardinality", CARDINALITIES)
@drawn(5)
@given(seed=SEEDS)
def test_every_engine_gives_the_oracles_decisions(database: Database, cardinality: str, seed: int) -> None:
    assert_agrees(database, draw_case(Random(seed), next(NAMES), cardinality))


@pytest.mark.one_engine
@pytest.mark.parametrize("cardinality", CARDINALITIES)
@drawn(6)
@given(seed=SEEDS)
def test_neither_the_order_of_rows_nor_the_values_of_keys_matter(
    database: Database, cardinality: str, seed: int
) -> None:
    random = Random(seed)
    case = draw_case(random, next(NAMES), cardinality, may_prefer_keys=False)
    other, new_targets, new_sources = renumbered(random, case, next(NAMES))
    before, after = product.conclude(database, case), product.conclude(database, other)
    own, partner = (new_targets, new_sources) if case.spec.population == "target" else (new_sources, new_targets)
    assert after.verdicts == {
        own[key]: (outcome, partner.get(found), *why) for key, (outcome, found, *why) in before.verdicts.items()
    }
    assert after.other_side == {partner[key]: outcome for key, outcome in before.other_side.items()}


# -- comparing -------------------------------------------------------------------------------------------


def assert_agrees(database: Database, case: Case) -> None:
    """Every decision, every count and every change is the oracle's."""
    found = product.conclude(database, case)
    answers = [decide(world.problem) for world in case.worlds]
    for world, answer in zip(case.worlds, answers, strict=True):
        assert_same_world(case, world, answer, found)
    expected = {key: decision for answer in answers for key, decision in answer.decisions.items()}
    other_side = {key: outcome for answer in answers for key, outcome in answer.other_side.items()}
    assert found.verdicts.keys() == expected.keys()
    assert found.other_side == other_side
    assert_counts_add_up(found, expected, other_side)
    assert found.confidences == {
        key: expected_confidence(case, decision) if decision.outcome != "invalid" else found.confidences[key]
        for key, decision in expected.items()
    }
    assert len(found.run.conflicts) == sum(len(answer.conflicts) for answer in answers)
    if case.spec.compare:
        assert_same_changes(product.changes(database, case, found.run.run), expected)


def assert_same_world(case: Case, world: World, answer: Answer, found: product.Found) -> None:
    """What is concluded in one world; a difference is shown with all that one needs to work it out by hand."""
    expected = {key: verdict(decision) for key, decision in answer.decisions.items()}
    different = {
        key: {"expected": verdict, "found": found.verdicts.get(key), "misses": answer.decisions[key].misses}
        for key, verdict in expected.items()
        if found.verdicts.get(key) != verdict
    }
    if different:
        spec = case.spec.model_dump(mode="json", exclude_defaults=True)
        shown = {
            "different": different,
            "spec": spec,
            "targets": world.problem.targets,
            "sources": world.problem.sources,
            "overrides": world.problem.overrides,
            "expected": expected,
        }
        pytest.fail("\n".join(f"{name}:\n{pformat(value, width=160)}" for name, value in shown.items()), pytrace=False)


def verdict(decision: Decision) -> product.Verdict:
    return decision.outcome, decision.partner, decision.rule, decision.reason


def expected_confidence(case: Case, decision: Decision) -> Decimal | None:
    """A pair that a pass found has the pass's; a person is sure; what found no partner in this run has none."""
    if decision.rule is None or decision.outcome not in ("matched", "proposed", "same", "changed"):
        return None
    return Decimal(1) if decision.rule == "override" else case.spec.pass_named(decision.rule).confidence


def assert_counts_add_up(found: product.Found, expected: Mapping[Key, Decision], other_side: Mapping[Key, str]) -> None:
    run = found.run
    assert sum(run.outcomes.values()) == run.population == len(expected)
    assert +Counter(run.outcomes) == Counter(decision.outcome for decision in expected.values())
    assert +Counter(run.other_side) == Counter(other_side.values())


def assert_same_changes(
    found: Mapping[tuple[Key, str], tuple[str | None, str | None]], expected: Mapping[Key, Decision]
) -> None:
    wanted = {
        (key, column): values for key, decision in expected.items() for column, values in decision.changes.items()
    }
    assert found.keys() == wanted.keys()
    for place, values in wanted.items():
        assert [_read(text, value) for text, value in zip(found[place], values, strict=True)] == list(values)


def _read(text: str | None, expected: Any) -> Any:
    """A text of the evidence as a value that compares with the expected one: 100 and 100.00 are one number."""
    if text is None or expected is None:
        return text
    if isinstance(expected, (int, Decimal)):
        return Decimal(text)
    return date.fromisoformat(text) if isinstance(expected, date) else text
