"""The oracle beside cases worked out by hand, one for each rule: what judges the product must be right itself."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.oracle import Answer, Comparison, Override, Problem, decide
from tests.oracle_pass import Percent, Rule, Window, ascending, near

SAME_CODE = [(lambda t: t["code"], lambda s: s["code"])]
BY_CODE = Rule("code", SAME_CODE)
CLOSEST = Rule("close", [], [Window(lambda t: t["at"], lambda s: s["at"], 9, 9)], prefer=["nearest"])


def coded(*codes: str | None, **more: Any) -> list[dict[str, Any]]:
    """Records 1, 2, … with these codes and no link."""
    return [{"id": number, "code": code, "link": None, **more} for number, code in enumerate(codes, start=1)]


def at(*places: int) -> list[dict[str, Any]]:
    return [{"id": number, "at": place} for number, place in enumerate(places, start=1)]


def told(answer: Answer) -> dict[Any, tuple[Any, ...]]:
    return {
        key: (decision.outcome, decision.partner, decision.rule, decision.reason)
        for key, decision in answer.decisions.items()
    }


def test_equal_candidates_are_a_tie_that_stops_or_goes_on() -> None:
    targets, sources = coded("a"), coded("a", "a")
    assert told(decide(Problem(targets, sources, [BY_CODE]))) == {1: ("ambiguous", None, "code", "tie")}
    onward = Rule("first", SAME_CODE, next_on_tie=True)
    smallest = Rule("second", SAME_CODE, prefer=["key"])
    assert told(decide(Problem(targets, sources, [onward, smallest]))) == {1: ("matched", 1, "second", None)}
    assert told(decide(Problem(targets, sources, [onward]))) == {1: ("unmatched", None, "first", "tie")}


def test_many_targets_share_a_source_and_one_to_one_takes_it_once() -> None:
    targets, sources = at(0, 2), at(1 - 2)
    assert told(decide(Problem(targets, sources, [CLOSEST]))) == {
        1: ("matched", 1, "close", None),
        2: ("matched", 1, "close", None),
    }
    assert told(decide(Problem(targets, sources, [CLOSEST], one_to_one=True))) == {
        1: ("matched", 1, "close", None),
        2: ("unmatched", None, "close", "taken"),
    }


def test_one_to_one_gives_the_second_best_when_the_best_is_gone() -> None:
    assert told(decide(Problem(at(0, 4), at(1, 9), [CLOSEST], one_to_one=True))) == {
        1: ("matched", 1, "close", None),
        2: ("matched", 2, "close", None),
    }


def test_a_tie_leaves_all_behind_it_tied_in_one_to_one() -> None:
    answer = decide(Problem(at(0, 4), at(2, 9), [CLOSEST], one_to_one=True))
    assert {decision.outcome for decision in answer.decisions.values()} == {"ambiguous"}


def test_a_proposed_pair_holds_both_in_one_to_one() -> None:
    review = Rule("review", SAME_CODE, prefer=["key"], review=True)
    answer = decide(Problem(coded("a", "a"), coded("a"), [review, BY_CODE], one_to_one=True))
    assert told(answer) == {1: ("proposed", 1, "review", "review"), 2: ("unmatched", None, "review", "taken")}


def test_a_linked_target_stays_and_holds_its_source_even_from_outside_where() -> None:
    targets = [*coded("a", "b"), {"id": 3, "code": "gone", "link": 2}]
    targets[0]["link"] = 9
    problem = Problem(
        targets, coded("a", "b"), [BY_CODE], target_where=lambda t: t["id"] < 3, link="link", one_to_one=True
    )
    assert told(decide(problem)) == {1: ("linked", 9, None, None), 2: ("unmatched", None, "code", "already_linked")}


def test_from_the_sources_side_a_source_held_twice_is_linked_without_a_partner() -> None:
    targets = coded("x", "x", "x", "a")
    targets[0]["link"] = targets[1]["link"] = 1
    targets[2]["link"] = 2
    problem = Problem(targets, coded("a", "a", "a"), [BY_CODE], link="link", one_to_one=True, population="source")
    assert told(decide(problem)) == {
        1: ("linked", None, None, None),
        2: ("linked", 3, None, None),
        3: ("matched", 4, "code", None),
    }


def test_each_reason_of_a_record_that_found_nothing() -> None:
    rule = Rule(
        "all",
        SAME_CODE,
        [Window(lambda t: t["n"], lambda s: s["n"], 1, 1)],
        when=lambda t, s: s["open"],
    )
    targets = coded(None, "nobody", "closed", "far", "forbidden", n=5)
    sources = [
        {"id": 1, "code": None, "n": 5, "open": True},
        {"id": 2, "code": "closed", "n": 5, "open": None},
        {"id": 3, "code": "far", "n": 7, "open": True},
        {"id": 4, "code": "far", "n": 5, "open": False},
        {"id": 5, "code": "forbidden", "n": 6, "open": True},
    ]
    answer = decide(Problem(targets, sources, [rule], overrides=[Override("forbid", 5, 5)]))
    assert [decision.reason for decision in answer.decisions.values()] == [
        "null_key",
        "no_candidate",
        "when_false",
        "out_of_tolerance",
        "forbidden",
    ]


def test_the_closest_reason_counts_and_among_equals_the_earliest_pass() -> None:
    never = Rule("never", SAME_CODE, when=lambda t, s: False)
    rules = [Rule("other", [(lambda t: None, lambda s: 1)]), never, Rule("again", SAME_CODE, when=never.when)]
    answer = decide(Problem(coded("a"), coded("a"), rules))
    assert told(answer) == {1: ("unmatched", None, "never", "when_false")}
    assert answer.decisions[1].misses == {"other": "null_key", "never": "when_false", "again": "when_false"}


def test_people_decide_before_the_passes() -> None:
    overrides = [Override("link", 1, 2), Override("exclude", target=2), Override("exclude", source=3)]
    answer = decide(Problem(coded("a", "b", "c"), coded("a", "b", "c"), [BY_CODE], overrides=overrides))
    assert told(answer) == {
        1: ("matched", 2, "override", None),
        2: ("excluded", None, "override", "excluded"),
        3: ("unmatched", None, "code", "no_candidate"),
    }


@pytest.mark.parametrize(
    ("override", "outcome"),
    [
        (Override("link", 1, 3), ("linked", 1, None, None)),  # linked to another
        (Override("exclude", target=1), ("linked", 1, None, None)),
        (Override("forbid", 1, 1), ("linked", 1, None, None)),
        (Override("link", 2, 8), ("ambiguous", None, "override", "conflict")),  # there is no source 8
        (Override("link", 2, 1), ("ambiguous", None, "override", "conflict")),  # source 1 is held
        (Override("link", 7, 2), None),  # there is no target 7
    ],
)
def test_what_contradicts_the_data_is_a_conflict(override: Override, outcome: tuple[Any, ...] | None) -> None:
    targets = coded("a", "b")
    targets[0]["link"] = 1
    problem = Problem(targets, coded("a", "b", "c"), [BY_CODE], link="link", one_to_one=True, overrides=[override])
    answer = decide(problem)
    assert answer.conflicts == [override]
    concerned = override.target if outcome else 2
    assert told(answer)[concerned] == (outcome or ("matched", 2, "code", None))


def test_a_link_by_hand_that_is_already_there_is_no_conflict() -> None:
    targets = [{"id": 1, "code": "a", "link": 1}]
    answer = decide(Problem(targets, [], [BY_CODE], link="link", overrides=[Override("link", 1, 1)]))
    assert (told(answer), answer.conflicts) == ({1: ("linked", 1, None, None)}, [])


def test_nothing_matches_across_scopes() -> None:
    targets = [{"id": 1, "code": "a", "site": 1}, {"id": 2, "code": "a", "site": None}]
    answer = decide(Problem(targets, [{"id": 1, "code": "a", "site": 2}], [BY_CODE], scope="site"))
    assert [decision.reason for decision in answer.decisions.values()] == ["no_candidate", "null_key"]


def test_pairs_are_compared_and_the_rest_is_orphan_or_missing() -> None:
    targets = coded("a", "b", "c", "d", n=Decimal("1.0"))
    targets[3]["link"] = 77
    sources = [
        {"id": 1, "code": "a", "n": Decimal(1)},
        {"id": 2, "code": "b", "n": None},
        {"id": 3, "code": "x", "n": 1},
    ]
    compare = [Comparison("n", lambda s: s["n"])]
    problem = Problem(targets, sources, [BY_CODE], link="link", one_to_one=True, compare=compare)
    answer = decide(problem)
    assert [decision.outcome for decision in answer.decisions.values()] == ["same", "changed", "orphan", "linked"]
    assert answer.decisions[2].changes == {"n": (Decimal(1), None)}
    assert answer.other_side == {3: "missing"}


def test_an_invalid_source_holds_its_target_and_is_not_compared() -> None:
    compare, valid = [Comparison("code", lambda s: s["code"])], [lambda s: s["id"] > 1]
    from_targets = Problem(coded("a", "a"), coded("a"), [Rule("key", SAME_CODE, prefer=["key"])], valid=valid)
    for population, expected in (
        ("target", {1: ("invalid", 1, "key", "invalid"), 2: ("orphan", None, "key", "taken")}),
        ("source", {1: ("invalid", 1, "key", "invalid")}),
    ):
        problem = Problem(**{**vars(from_targets), "one_to_one": True, "compare": compare, "population": population})
        answer = decide(problem)
        assert told(answer) == expected
        assert answer.other_side == ({} if population == "target" else {2: "orphan"})


def test_sources_left_tied_for_review_are_not_missing() -> None:
    compare = [Comparison("code", lambda s: s["code"])]
    answer = decide(Problem(coded("a"), coded("a", "a", "b"), [BY_CODE], compare=compare))
    assert answer.other_side == {3: "missing"}
    onward = Rule("onward", SAME_CODE, next_on_tie=True)
    assert set(decide(Problem(coded("a"), coded("a", "a"), [onward], compare=compare)).other_side) == {1, 2}


def test_windows_have_both_bounds_inside_and_count_in_real_hours() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    before, after = datetime(2025, 3, 30, 1, 30, tzinfo=berlin), datetime(2025, 3, 30, 3, 30, tzinfo=berlin)
    hour, second = timedelta(hours=1), timedelta(seconds=1)
    assert near(before, after, timedelta(0), hour)
    assert not near(before, after, timedelta(0), hour - second)
    assert not near(after, before, timedelta(0), hour)
    assert near(Decimal(200), Decimal(190), Percent(Decimal(5)), Percent(Decimal(0)))
    assert not near(Decimal(190), Decimal(200), Percent(Decimal(5)), Percent(Decimal(5)))


def test_preferences_count_in_turn_and_equal_nulls_are_equal() -> None:
    prefer = [lambda t, s: ascending(s["rank"]), lambda t, s: ascending(s["code"])]
    rule = Rule("ranked", SAME_CODE, prefer=prefer)
    sources = [{"id": number, "code": "a", "rank": rank} for number, rank in enumerate([None, 2, 1, None], start=1)]
    assert told(decide(Problem(coded("a"), sources, [rule])))[1][:2] == ("matched", 3)
    assert told(decide(Problem(coded("a"), [sources[0], sources[3]], [rule])))[1][:2] == ("ambiguous", None)
