"""One to one along a chain: each pair that is accepted makes the next one the best, and only that one."""

from __future__ import annotations

from random import Random
from time import monotonic
from typing import Any

import pytest

from recon.database.connect import Database
from recon.spec import Reconciliation
from tests.property import product
from tests.support import simple_spec

PAIRS = 10_000
GAP = 100_000  # between neighbours; each gap is one more than the last, and three together are out of the window
SECONDS = 45.0  # a server that looks at all that remains in each of 10,000 rounds needs many minutes


def chain(pairs: int) -> list[int]:
    """The places of target, source, target, source, … and a last target: the distances only ever grow."""
    places = [0]
    for number in range(2 * pairs):
        places.append(places[-1] + GAP + number)
    return places


def greedy(targets: dict[int, int], sources: dict[int, int], reach: int) -> dict[int, int]:
    """The partner of each target: the nearest pair of all first. With distances that all differ, this is what
    repeated mutual best comes to."""
    at = {place: key for key, place in sources.items()}
    places = sorted([*targets.values(), *sources.values()])
    near = {place: {places[max(n - 1, 0)], places[min(n + 1, len(places) - 1)]} for n, place in enumerate(places)}
    pairs = sorted(
        (abs(place - other), key, at[other])
        for key, place in targets.items()
        for other in near[place]
        if other in at and abs(place - other) <= reach
    )
    partners: dict[int, int] = {}
    taken: set[int] = set()
    for _, target, source in pairs:
        if target not in partners and source not in taken:
            partners[target] = source
            taken.add(source)
    return partners


def spec_of(reach: int, population: str) -> Reconciliation:
    window = {"target": "place", "source": "place", "tolerance": reach}
    return simple_spec(
        cardinality="one_to_one",
        population=population,
        link=None,
        passes=[{"name": "near", "on": {"code": "code"}, "within": window, "prefer": ["nearest"]}],
    )


def load(database: Database, places: list[int]) -> tuple[dict[int, int], dict[int, int]]:
    """Targets at every other place and sources between them, under keys in no order; returns key to place."""
    random = Random(1)
    sides = (places[::2], places[1::2])
    found: list[dict[int, int]] = []
    with database.session() as session:
        for table, own in zip(("pay", "lease"), sides, strict=True):
            session.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, code text, place bigint)")
            keyed = dict(zip(random.sample(range(10 * len(own)), len(own)), own, strict=True))
            rows: list[dict[str, Any]] = [{"id": key, "code": "a", "place": place} for key, place in keyed.items()]
            product.fill(session, table, random.sample(rows, len(rows)))
            # All have one code: without this the join looks at every pair of them, which is not what is asked here.
            session.execute(f'CREATE INDEX ON {table} (code COLLATE "C", (place::numeric))')
            session.execute(f"ANALYZE {table}")
            found.append(keyed)
    return found[0], found[1]


@pytest.mark.one_engine
def test_a_chain_of_ten_thousand_pairs_is_resolved_link_by_link(database: Database) -> None:
    places = chain(PAIRS)
    reach = places[-1] - places[-2]
    targets, sources = load(database, places)
    expected = greedy(targets, sources, reach)
    assert len(expected) == PAIRS
    started = monotonic()
    found = product.match(database, spec_of(reach, "target")).verdicts
    assert monotonic() - started < SECONDS
    assert {key: partner for key, (outcome, partner, *_) in found.items() if outcome == "matched"} == expected
    last = max(targets, key=lambda key: targets[key])
    assert found[last] == ("unmatched", None, "near", "taken")


@pytest.mark.one_engine
def test_a_tie_at_the_head_of_the_chain_leaves_all_of_it_tied(database: Database) -> None:
    places = chain(PAIRS)
    places[0] -= 1  # the first gap is as long as the second now
    reach = places[-1] - places[-2]
    targets, _ = load(database, places)
    started = monotonic()
    found = product.match(database, spec_of(reach, "target")).verdicts
    assert monotonic() - started < SECONDS
    assert len(found) == len(targets) == PAIRS + 1
    assert set(found.values()) == {("ambiguous", None, "near", "tie")}


def test_a_shorter_chain_gives_the_same_from_both_sides_on_every_engine(database: Database) -> None:
    places = chain(300)
    reach = places[-1] - places[-2]
    targets, sources = load(database, places)
    expected = greedy(targets, sources, reach)
    found = product.match(database, spec_of(reach, "target")).verdicts
    assert {key: partner for key, (outcome, partner, *_) in found.items() if outcome == "matched"} == expected
    found = product.match(database, spec_of(reach, "source")).verdicts
    assert {partner: key for key, (_, partner, *_) in found.items()} == expected
