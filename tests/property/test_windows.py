"""Windows at their very edges: the bounds are inside, one unit more is not, and an hour is an hour on any night."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

from recon.database.connect import Database
from tests.property import product
from tests.support import simple_spec

# type of the column · tolerance · the target's value · source values inside · source values outside
EDGES: list[tuple[str, Any, str, str, str]] = [
    ("date", "2 days", "2025-03-10", "2025-03-08 2025-03-10 2025-03-12", "2025-03-07 2025-03-13"),
    ("date", "36 hours", "2025-03-10", "2025-03-09 2025-03-11", "2025-03-08 2025-03-12"),
    ("date", {"before": "0 days", "after": "30 days"}, "2025-01-31", "2025-01-31 2025-03-02", "2025-01-30 2025-03-03"),
    ("date", {"before": "1 week"}, "2025-01-31", "2025-01-24 2025-01-31", "2025-01-23 2025-02-01"),
    ("timestamp", "1 hour", "2025-03-10T12:00", "2025-03-10T11:00 2025-03-10T13:00", "2025-03-10T10:59:59.999999 2025-03-10T13:00:00.000001"),
    ("timestamp", "2 days 3 hours", "2025-03-10T00:00", "2025-03-07T21:00 2025-03-12T03:00", "2025-03-07T20:59:59 2025-03-12T03:00:01"),
    ("timestamptz", {"before": "15 minutes", "after": "90 seconds"}, "2025-03-10T12:00+01:00", "2025-03-10T11:45+01:00 2025-03-10T11:01:30+00:00", "2025-03-10T11:44:59+01:00 2025-03-10T11:01:31+00:00"),
    ("int", 5, "10", "5 10 15", "4 16"),
    ("int", 5, "-2147483648", "-2147483648 -2147483643", "-2147483642 2147483647"),
    ("bigint", {"before": 0, "after": 1}, "9223372036854775806", "9223372036854775806 9223372036854775807", "9223372036854775805 -9223372036854775808"),
    ("int", "10%", "15", "14 16", "13 17"),
    ("numeric", Decimal("0.01"), "19.99", "19.98 19.990 20.00", "19.979999 20.000001"),
    ("numeric", "5%", "100", "95 105.00", "94.999999 105.000001"),
    ("numeric", "5%", "-100", "-105 -95", "-105.01 -94.99"),
    ("numeric", "5%", "0", "0 0.00", "0.0001 -0.0001"),
    ("numeric", {"before": "2.5%", "after": "0%"}, "1000", "975 1000", "974.99 1000.01"),
    ("float8", Decimal("0.1"), "0.2", "0.1 0.3", "0.0999 0.30001"),
]  # fmt: skip

# Berlin. 30 March 2025: the clock goes from 02:00+01:00 to 03:00+02:00. 26 October: the hour from 02:00 comes twice.
NIGHTS = [
    ("1 hour", "2025-03-30T01:30+01:00", "2025-03-30T03:30+02:00", True),
    ("1 hour", "2025-03-30T01:30+01:00", "2025-03-30T03:30:01+02:00", False),
    ("1 hour", "2025-03-30T03:00+02:00", "2025-03-30T01:00+01:00", True),
    ("1 hour", "2025-10-26T02:30+02:00", "2025-10-26T02:30+01:00", True),
    ("1 hour", "2025-10-26T02:30+02:00", "2025-10-26T02:30:01+01:00", False),
    ("1 hour", "2025-10-26T01:30+02:00", "2025-10-26T02:30+01:00", False),
    ("0 hours", "2025-10-26T02:30+02:00", "2025-10-26T02:30+01:00", False),
    ("1 day", "2025-03-29T12:00+01:00", "2025-03-30T13:00+02:00", True),
    ("1 day", "2025-03-29T12:00+01:00", "2025-03-30T13:00:01+02:00", False),
    ("1 day", "2025-10-25T12:00+02:00", "2025-10-26T11:00+01:00", True),
    ("1 day", "2025-10-25T12:00+02:00", "2025-10-26T12:00+01:00", False),
]

READERS: dict[str, Any] = {
    "date": date.fromisoformat,
    "timestamp": datetime.fromisoformat,
    "timestamptz": datetime.fromisoformat,
    "int": int,
    "bigint": int,
    "numeric": Decimal,
    "float8": float,
}


@pytest.mark.one_engine
@pytest.mark.parametrize(("type_name", "tolerance", "target", "inside", "outside"), EDGES)
def test_the_bounds_of_a_window_are_inside_it(
    database: Database, type_name: str, tolerance: Any, target: str, inside: str, outside: str
) -> None:
    read = READERS[type_name]
    given = [(read(value), "matched") for value in inside.split()]
    given += [(read(value), "unmatched") for value in outside.split()]
    pairs = [(read(target), source) for source, _ in given]
    assert outcomes(database, type_name, tolerance, pairs) == [outcome for _, outcome in given]


@pytest.mark.parametrize("tolerance", sorted({night[0] for night in NIGHTS}))
def test_windows_count_real_hours_when_the_clocks_change(database: Database, tolerance: str) -> None:
    nights = [night for night in NIGHTS if night[0] == tolerance]
    pairs = [(datetime.fromisoformat(target), datetime.fromisoformat(source)) for _, target, source, _ in nights]
    expected = ["matched" if near else "unmatched" for *_, near in nights]
    assert outcomes(database, "timestamptz", tolerance, pairs) == expected


def test_a_value_that_is_missing_is_near_nothing(database: Database) -> None:
    pairs = [(1, None), (None, 1), (None, None), (1, 1)]
    assert outcomes(database, "int", 1000, pairs) == ["unmatched"] * 3 + ["matched"]


def test_whole_and_decimal_numbers_are_one_family(database: Database) -> None:
    pairs = [(10, Decimal("10.5")), (10, Decimal("10.51"))]
    found = outcomes(database, "int", Decimal("0.5"), pairs, source_type="numeric")
    assert found == ["matched", "unmatched"]


def outcomes(
    database: Database,
    type_name: str,
    tolerance: Any,
    pairs: Sequence[tuple[Any, Any]],
    source_type: str | None = None,
) -> list[str]:
    """What becomes of target 1 beside source 1, and so on, with either cardinality; who is not near is too far."""
    with database.session() as session:
        session.execute(f"CREATE TABLE pay (id int PRIMARY KEY, value {type_name})")
        session.execute(f"CREATE TABLE lease (id int PRIMARY KEY, value {source_type or type_name})")
        for side, table in enumerate(("pay", "lease")):
            product.fill(session, table, [{"id": n, "value": pair[side]} for n, pair in enumerate(pairs, start=1)])
    window = {"target": "value", "source": "value", "tolerance": tolerance}
    near = {"name": "near", "on": {"id": "id"}, "within": window}
    shared, single = (
        product.match(database, simple_spec(cardinality=cardinality, link=None, passes=[near])).verdicts
        for cardinality in ("many_to_one", "one_to_one")
    )
    assert shared == single
    for key, verdict in shared.items():
        assert verdict in (("matched", key, "near", None), ("unmatched", None, "near", "out_of_tolerance"))
    return [shared[number][0] for number in range(1, len(pairs) + 1)]
