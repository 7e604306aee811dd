"""Reservations of Stays as they are read: platforms, statuses, times by the clocks of the house, and what cannot be read."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from recon.outside.interface import Bad
from recon.systems.stays import values

ORGANIZATION = "a2f5b4d0-51a4-4c9e-9b0e-6f3c1f0a7a01"
GIVEN: dict[str, Any] = {
    "_id": "69388e7beb78f6b643d05ac2",
    "id": "FN26J",
    "checkInDate": "2027-01-10",
    "checkInTime": "15:00",
    "checkOutDate": "2027-01-14",
    "checkOutTime": "11:00",
    "timezone": "America/Sao_Paulo",
    "_idlisting": "PL01I",
    "type": "booked",
    "partner": {"name": "API airbnb"},
    "guestsDetails": {"list": [{"name": "Bruno"}, {"name": "Ana Souza", "primary": True}]},
    "updatedAt": "2027-01-02T10:00:00-03:00",
}


def read(zone: str = "", **replaced: Any) -> dict[str, Any]:
    """The row of the reservation with other fields; a field that is given as Ellipsis is left out."""
    given = {name: value for name, value in {**GIVEN, **replaced}.items() if value is not ...}
    row = values.row(ORGANIZATION, given, zone)
    assert not isinstance(row, Bad)
    return row


def test_a_reservation_becomes_a_row_of_the_landing_table() -> None:
    row = read()
    raw = json.loads(row.pop("raw"))
    assert raw == GIVEN
    assert row == {
        "organization_id": ORGANIZATION,
        "platform": "airbnb",
        "external_id": "FN26J",
        "listing_id": "PL01I",
        "check_in": datetime(2027, 1, 10, 18, tzinfo=UTC),
        "check_out": datetime(2027, 1, 14, 14, tzinfo=UTC),
        "status": "confirmed",
        "guest": "Ana Souza",
        "updated_at": datetime(2027, 1, 2, 13, tzinfo=UTC),
        "problem": None,
    }


@pytest.mark.parametrize(
    ("partner", "platform"),
    [
        (..., "staysnet"), (None, "staysnet"), ({}, "staysnet"), ({"name": "Stays.net"}, "staysnet"), ("Website", "staysnet"),
        ({"name": "API airbnb"}, "airbnb"), ("AIRBNB", "airbnb"), ({"name": "Booking.com"}, "booking"),
        ("API booking.com", "booking"), ({"name": "Direct"}, "direct"),
    ],
)  # fmt: skip
def test_platforms_are_normalised(partner: Any, platform: str) -> None:
    """RES-01: platform normalised to staysnet, airbnb, booking, direct."""
    row = read(partner=partner)
    assert (row["platform"], row["problem"]) == (platform, None)
    assert platform in values.PLATFORMS


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("reserved", "pending"), ("pending", "pending"), ("booked", "confirmed"), ("contract", "confirmed"),
        ("confirmed", "confirmed"), ("checked_in", "checked_in"), ("checked-in", "checked_in"), ("checkedOut", "checked_out"),
        ("canceled", "cancelled"), ("cancelled", "cancelled"), ("CANCELED", "cancelled"),
    ],
)  # fmt: skip
def test_statuses_are_normalised(kind: str, status: str) -> None:
    """RES-01: status to pending, confirmed, checked_in, checked_out, cancelled (source canceled → cancelled)."""
    row = read(type=kind)
    assert (row["status"], row["problem"]) == (status, None)
    assert status in values.STATUSES


@pytest.mark.parametrize(
    ("replaced", "problem", "column"),
    [
        ({"partner": {"name": "Expedia"}}, "its platform is none that is known", None),
        ({"partner": 7}, "its platform is no name", None),
        ({"type": "lost"}, "its type is none that is known", "status"),
        ({"type": ...}, "it has no type", "status"),
        ({"type": ["booked"]}, "its type is no text", "status"),
        ({"checkInDate": "10/01/2027"}, "its checkInDate or checkInTime is no time", "check_in"),
        ({"checkInDate": "2027-02-30"}, "its checkInDate or checkInTime is no time", "check_in"),
        ({"checkInDate": ...}, "it has no checkInDate", "check_in"),
        ({"checkOutTime": ...}, "it has no checkOutTime", "check_out"),
        ({"checkOutTime": "25:00"}, "its checkOutDate or checkOutTime is no time", "check_out"),
        ({"checkInDate": "2027-01-10T15:00"}, "its checkInDate has no time zone", "check_in"),
        ({"checkInDate": "0001-01-01T00:00+14:00"}, "its checkInDate is beyond the calendar", "check_in"),
        ({"timezone": ...}, "it has no time zone", "check_in"),
        ({"timezone": "Brazil/Nowhere"}, "its time zone is none that is known", "check_in"),
        ({"timezone": "../../etc/passwd"}, "its time zone is none that is known", "check_in"),
        ({"_idlisting": {}}, "its _idlisting is no text", "listing_id"),
        ({"_idlisting": "a\0b"}, "its _idlisting is no text", "listing_id"),
    ],
)
def test_what_cannot_be_read_is_null_with_the_reason(
    replaced: dict[str, Any], problem: str, column: str | None
) -> None:
    """SYN-04: one bad record is told from the others by its problem, without its values, and keeps its key."""
    row = read(**replaced)
    assert row["problem"] == problem
    assert row["external_id"] == "FN26J"
    if column:
        assert row[column] is None
    assert row["check_in"] or "checkIn" in problem or "zone" in problem  # what can be read is there


def test_an_unknown_platform_stays_in_the_key() -> None:
    """RES-01: it cannot be normalised, and two records of unknown platforms must not be taken for one."""
    assert read(partner={"name": " Expedia  Group"})["platform"] == "expedia group"
    assert read(partner=7)["platform"] == values.UNKNOWN


@pytest.mark.parametrize("code", [..., None, "", " FN26J", "x" * 201, "a\0b", "\udcff", True, {}, "a\nb"])
def test_without_an_id_it_cannot_be_kept(code: Any) -> None:
    """SYN-04: what has no key is bad, and never raises."""
    given = {name: value for name, value in {**GIVEN, "id": code}.items() if value is not ...}
    assert isinstance(values.row(ORGANIZATION, given), Bad)


@pytest.mark.parametrize("given", [None, 7, "text", [], [GIVEN]])
def test_what_is_no_object_is_bad(given: Any) -> None:
    assert isinstance(values.row(ORGANIZATION, given), Bad)


@pytest.mark.parametrize(
    ("day", "clock", "zone", "utc"),
    [
        ("2027-03-27", "15:00", "Europe/Lisbon", "2027-03-27T15:00"),  # winter there
        ("2027-03-28", "15:00", "Europe/Lisbon", "2027-03-28T14:00"),  # the clock went forward in that night
        ("2027-03-28", "01:30", "Europe/Lisbon", "2027-03-28T01:30"),  # skipped: by the clock before the change
        ("2027-10-31", "01:30", "Europe/Lisbon", "2027-10-31T00:30"),  # twice: the first
        ("2027-10-31", "02:30", "Europe/Lisbon", "2027-10-31T02:30"),
        ("2027-01-10", "15:00", "Pacific/Kiritimati", "2027-01-10T01:00"),
        ("2027-01-10T15:00-03:00", None, "Europe/Lisbon", "2027-01-10T18:00"),  # its own offset counts
        ("2027-01-10T18:00:00Z", "23:00", "", "2027-01-10T18:00"),
        ("2027-01-10", "15:00+02:00", "", "2027-01-10T13:00"),
    ],
)
def test_times_are_moments_by_the_clocks_of_the_house(day: str, clock: str | None, zone: str, utc: str) -> None:
    """RES-01: check-in and check-out are moments, daylight saving safe."""
    row = read(checkInDate=day, checkInTime=clock, timezone=zone)
    assert row["check_in"] == datetime.fromisoformat(utc).replace(tzinfo=UTC)


def test_the_settings_say_the_zone_where_the_reservation_does_not() -> None:
    assert read("Europe/Lisbon", timezone=...)["check_in"] == datetime(2027, 1, 10, 15, tzinfo=UTC)
    assert read("Europe/Lisbon")["check_in"] == datetime(2027, 1, 10, 18, tzinfo=UTC)  # its own goes before


def test_what_was_changed_when_is_known_only_with_a_zone() -> None:
    assert [read(updatedAt=text)["updated_at"] for text in ("2027-01-02T10:00:00", "soon", ..., 7)] == [None] * 4


@pytest.mark.parametrize("details", [..., None, [], {"list": {}}, {"list": [7]}, {"list": [{"name": 7}]}])
def test_a_guest_without_a_name_is_no_problem(details: Any) -> None:
    row = read(guestsDetails=details)
    assert (row["guest"], row["problem"]) == (None, None)


def test_raw_is_what_postgresql_can_keep() -> None:
    row = read(
        price=Decimal("454.10"), long=Decimal("0.12345678901234567890"), far=Decimal("1e999999"), odd="a\0b\udcff",
        **{"\0": 1}, nan=float("nan"),
    )  # fmt: skip
    raw = json.loads(row["raw"], parse_float=Decimal)
    assert (raw["price"], raw["long"]) == (Decimal("454.10"), Decimal("0.12345678901234567890"))
    assert (raw["far"], raw["odd"], raw[""], raw["nan"]) == ("1E+999999", "ab", 1, None)
    assert "\\u0000" not in row["raw"]


def test_nesting_without_end_is_a_problem_of_one_record() -> None:
    deep: Any = 1
    for _ in range(200_000):
        deep = [deep]
    row = read(deep=deep)
    assert (row["raw"], row["problem"]) == (None, "it is nested too deeply to be kept")


def test_closed_days_are_no_reservations() -> None:
    assert [values.is_block({**GIVEN, "type": kind}) for kind in ("blocked", "maintenance", "booked")] == [
        True, True, False,
    ]  # fmt: skip
    assert not values.is_block(None)
