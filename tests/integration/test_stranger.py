"""A stranger with two files, or a database, that recon has never seen: from `recon init` to a verified backfill."""

from __future__ import annotations

from pathlib import Path

import pytest

from recon.database.connect import Database
from tests.copies import Copies
from tests.stranger import files, houses, way

pytestmark = pytest.mark.one_engine

SEED = way.seed()
SIZE = 600
HOUSES = 3


def test_two_files_never_seen_come_to_a_verified_backfill(database: Database, tmp_path: Path) -> None:
    """The drafted spec, unchanged, is right in 99 of 100 of what it writes, in a world that the seed of this run chooses."""
    name = list(files.MAKERS)[SEED % len(files.MAKERS)]
    walked = way.walk(files.case(tmp_path, name, SEED, SIZE), tmp_path / "home", database.url)
    assert walked.found.precision >= way.PRECISION, walked
    assert walked.found.recall >= walked.floor, walked


def test_drafted_passes_reach_those_by_hand_where_some_links_exist(copies: Copies, tmp_path: Path) -> None:
    """On databases with links: recall within two points of a spec by hand, and precision no worse than half a point."""
    judged: list[houses.Judged] = []
    for number in range(HOUSES):
        url = copies.fresh().url
        house = houses.build(url, SEED + number, SIZE)
        judged.append(houses.judge(house, tmp_path / str(number), url, named=bool((SEED + number) % 2)))
        assert judged[-1].by_hand.precision >= way.PRECISION, judged[-1]
        copies.drop()
    assert not (short := houses.shortcomings(judged)), "\n".join(short)
