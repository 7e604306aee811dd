"""Many strangers: every world, with many seeds; what one seed in tests/integration shows, shown of dozens."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.scale import Scale
from tests.copies import Copies
from tests.stranger import files, houses, way

SIZES = (500, 1000, 2000)


def _only_long(scale: Scale) -> None:
    if not scale.strangers:
        pytest.skip("one stranger comes in tests/integration; many take many minutes")


@pytest.mark.one_engine
def test_strangers_of_every_world_come_to_a_verified_backfill(
    copies: Copies, tmp_path: Path, scale: Scale, counts: Counter[str]
) -> None:
    """Drafted specs, unchanged, are right in 99 of 100 of what they write and find what clean columns give, world by world."""
    _only_long(scale)
    walks: dict[str, list[way.Walked]] = {}
    for number, name in enumerate(list(files.MAKERS) * scale.strangers):
        url, seed = copies.fresh().url, way.seed() + number
        folder = tmp_path / str(number)
        folder.mkdir()
        walked = way.walk(files.case(folder, name, seed, SIZES[number % len(SIZES)]), folder / "home", url)
        counts["strangers' files"] += 2
        counts["strangers' links"] += walked.found.right
        counts["(wrong)"] += walked.found.wrong
        walks.setdefault(name, []).append(walked)
        shutil.rmtree(folder)
        copies.drop()
    for name, walked in walks.items():  # of one pair of files chance decides as much: who made them errs there as well
        right, wrong = (sum(getattr(item.found, what) for item in walked) for what in ("right", "wrong"))
        told = "\n".join([name, *map(str, walked)])
        assert right >= way.PRECISION * (right + wrong), told
        assert sum(item.found.recall for item in walked) >= sum(item.floor for item in walked), told


def test_drafted_passes_reach_those_by_hand_in_many_databases(
    copies: Copies, tmp_path: Path, scale: Scale, counts: Counter[str]
) -> None:
    """Recall within two points of a spec by hand, and precision no worse than half a point."""
    _only_long(scale)
    judged: list[houses.Judged] = []
    for number in range(scale.strangers):
        url = copies.fresh().url
        house = houses.build(url, way.seed() + number, SIZES[number % len(SIZES)])
        judged.append(houses.judge(house, tmp_path / str(number), url, named=bool(number % 2)))
        counts["strangers' databases"] += 1
        copies.drop()
    assert not (short := houses.shortcomings(judged)), "\n".join(short)
