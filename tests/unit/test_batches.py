"""How large the next batch is, and which places are left."""

from __future__ import annotations

import random

from recon.backfill import batches
from recon.backfill.batches import Pace, gaps, pieces, shares


def test_a_batch_grows_while_it_is_quick_and_shrinks_when_it_is_slow() -> None:
    pace = Pace()
    for _ in range(50):
        pace.took(pace.rows, 1.0)
    assert pace.rows == batches.MOST_ROWS
    for _ in range(50):
        pace.took(pace.rows, 10_000.0)
    assert pace.rows == batches.LEAST_ROWS


def test_a_batch_settles_where_it_takes_as_long_as_it_should() -> None:
    pace, each = Pace(), 0.05  # milliseconds a row
    for _ in range(100):
        pace.took(pace.rows, pace.rows * each)
    assert abs(pace.rows * each - batches.AIM_MILLISECONDS) < 1


def test_a_batch_that_gave_way_is_half_as_large_and_the_last_of_a_range_teaches_nothing() -> None:
    pace = Pace()
    pace.took(10, 10_000.0)
    assert pace.rows == batches.START_ROWS
    pace.gave_way()
    assert pace.rows == batches.START_ROWS // 2


def test_gaps_and_what_is_done_are_all_places_and_shares_are_all_gaps() -> None:
    chance = random.Random(3)
    for _ in range(300):
        whole = chance.randint(0, 60)
        places = sorted(chance.sample(range(1, whole + 1), chance.randint(0, whole)))
        done = [(place, place) for place in places]
        left = gaps(done, whole)
        covered = [place for first, last in left for place in range(first, last + 1)]
        assert sorted([*places, *covered]) == list(range(1, whole + 1))
        dealt = [span for share in shares(left, 2) for span in share]
        again = [place for first, last in pieces(dealt, Pace(3)) for place in range(first, last + 1)]
        assert sorted(again) == covered
