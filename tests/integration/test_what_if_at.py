"""Chosen tolerances, all at once: the same numbers as the curve, and a sample that says what the whole says."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from recon.database.connect import Database
from recon.matching.bind import bind
from recon.matching.what_if import FACTORS, what_if
from recon.matching.what_if_at import sliders, what_if_at
from recon.spec import Reconciliation
from tests.support import execute, rows, simple_spec

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code

NEAR = {"name": "near", "on": {"code": "code"}, "within": {"target": "at", "source": "at", "tolerance": "1 hour"}}
SPEC = simple_spec(cardinality="one_to_one", passes=[NEAR | {"prefer": ["nearest"]}])


def _visits(database: Database, *, blocks: int, kind: str = "timestamptz") -> None:
    """Three records of one code on each side; the sources lie 0, 40 and 80 minutes (or days) after their targets."""
    step = "day" if kind == "date" else "minute"
    execute(
        database,
        f"CREATE TABLE pay (id int PRIMARY KEY, code int, at {kind}, lease_id int)",
        f"CREATE TABLE lease (id int PRIMARY KEY, code int, at {kind})",
        f"INSERT INTO pay SELECT n, n / 3, ('2025-01-01'::date + n % 3 * 10)::{kind} FROM generate_series(0, {3 * blocks - 1}) AS n",
        "INSERT INTO lease SELECT id, code, at + id % 3 * 40 * interval '1 minute' FROM pay"
        if step == "minute"
        else "INSERT INTO lease SELECT id, code, at + id % 3 FROM pay",
    )


def test_the_same_tolerances_give_the_numbers_of_the_curve(database: Database) -> None:
    _visits(database, blocks=4)
    for point in what_if(database, SPEC).curves[0].points:
        found = what_if_at(database, SPEC, {(0, 0): Decimal(str(point.factor))})
        assert not found.estimated
        assert (found.then.matched, found.then.proposed, found.then.ambiguous) == (
            point.matched, point.proposed, point.ambiguous,
        )  # fmt: skip
        assert (found.gained, found.lost, found.moved) == (point.gained, point.lost, point.moved)
        assert len(found.gained_keys) == min(point.gained, 10)
    assert rows(database, "SELECT count(*)::int FROM pg_class WHERE relname LIKE 'recon\\_%'") == [(0,)]


def test_gained_and_lost_records_are_named_and_the_statements_told(database: Database) -> None:
    _visits(database, blocks=2)
    wider = what_if_at(database, SPEC, {(0, 0): Decimal(2)})
    assert (wider.gained_keys, wider.lost_keys) == ((2, 5), ())
    narrower = what_if_at(database, SPEC, {(0, 0): Decimal(0)})
    assert (narrower.gained_keys, narrower.lost_keys) == ((), (1, 4))
    assert any("recon_what_if" in item.sql for item in wider.statements)


@pytest.mark.parametrize("cardinality", ["one_to_one", "many_to_one"])
def test_a_sample_is_the_same_each_time_and_scales_to_the_whole(database: Database, cardinality: Any) -> None:
    _visits(database, blocks=1000)
    spec = SPEC.model_copy(update={"cardinality": cardinality})
    first, again = (what_if_at(database, spec, {(0, 0): Decimal(2)}, sample=600) for _ in range(2))
    assert first.estimated
    assert 150 <= first.looked_at <= 2400
    assert (first.then, first.gained_keys) == (again.then, again.gained_keys)
    # Every block has the same three cases, so what is decided of some of it is a third of them, or nearly.
    assert abs(first.present.matched - 2000) <= (0 if cardinality == "one_to_one" else 150)
    assert abs(first.then.matched - 3000) <= (0 if cardinality == "one_to_one" else 1)
    exact = what_if_at(database, spec, {(0, 0): Decimal(2)}, sample=600, exactly=True)
    assert (exact.estimated, exact.then.matched, exact.gained) == (False, 3000, 1000)


def test_passes_that_share_no_equality_are_decided_whole(database: Database) -> None:
    _visits(database, blocks=100)
    passes = [NEAR | {"prefer": ["nearest"]}, {"name": "by_id", "on": {"id": "id"}}]
    spec = simple_spec(cardinality="one_to_one", passes=passes)
    assert not what_if_at(database, spec, {(0, 0): Decimal(0)}, sample=60).estimated


def test_between_dates_a_tolerance_is_whole_days(database: Database) -> None:
    _visits(database, blocks=2, kind="date")
    spec: Reconciliation = simple_spec(
        passes=[NEAR | {"within": {"target": "at", "source": "at", "tolerance": "1 day"}, "prefer": ["nearest"]}]
    )
    (curve,) = what_if(database, spec).curves
    assert curve.whole_days
    assert [point.tolerance for point in curve.points] == [
        f"{days} day{'' if days == 1 else 's'}" for days in (0, 0, 0, 0, 1, 1, 2, 3, 5, 10)
    ]
    with database.session() as session:
        (slider,) = sliders(bind(session, spec))
    assert [slider.at(factor) for factor in FACTORS[4:7]] == ["1 day", "1 day", "2 days"]
