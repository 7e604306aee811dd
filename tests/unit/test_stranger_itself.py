"""The stranger's worlds are fair, the same for one seed, and judged rightly."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stranger import files, way
from tests.stranger.made import analyst, score

SIZE = 700


@pytest.mark.parametrize("name", files.MAKERS)
def test_an_analyst_can_be_right_in_each_world(name: str, tmp_path: Path) -> None:
    """Exact agreement of clean columns is right in 99 of 100, finds a good part, and all of the analyst's rules more."""
    case = files.case(tmp_path, name, way.seed(), SIZE)
    clean = score(case.world, analyst(case.world, clean=True), case.held)
    best = score(case.world, analyst(case.world), case.held)
    assert clean.precision >= 0.99, case
    assert clean.recall >= 0.3, case
    assert best.recall >= clean.recall, case
    assert best.precision >= 0.95, case  # what is beyond agreement is for a person to confirm


def test_a_seed_gives_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    made: list[list[bytes]] = []
    for number, seed in enumerate((7, 7, 8)):
        (tmp_path / str(number)).mkdir()
        case = files.case(tmp_path / str(number), "people", seed, SIZE)
        made.append([case.target.path.read_bytes(), case.source.path.read_bytes()])
    assert made[0] == made[1] != made[2]


def test_wrong_pairs_are_counted_and_lost_ones_too(tmp_path: Path) -> None:
    world = files.case(tmp_path, "products", 3, SIZE).world
    right = [(target, min(some)) for target, some in enumerate(world.partners) if some]
    assert score(world, right).precision == score(world, right).recall == 1.0
    other = next(place for place in range(len(world.sources)) if place not in world.partners[right[0][0]])
    spoilt = score(world, [(right[0][0], other), *right[1:]])
    assert spoilt.wrong == 1
    assert spoilt.precision == (len(right) - 1) / len(right)
    assert score(world, right[: len(right) // 2]).recall == pytest.approx(0.5, abs=0.03)
    lone = next(target for target, some in enumerate(world.partners) if not some)
    assert score(world, [(lone, 0)]).precision == 0.0  # who has no partner gets none
