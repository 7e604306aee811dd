"""Invented reservations of three organizations, here and at Stays, the same on every call, with each case by name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID, uuid5
from zoneinfo import ZoneInfo

from recon.outside.interface import Bad
from recon.sources.samples import Table
from recon.systems.stays import values

SEED = 20270328  # any number would do; this one is the night in which clocks in Lisbon go forward
FETCHED = datetime(2027, 1, 15, 6, 0, tzinfo=UTC)  # when Stays was read last
FIRST_DAY = date(2027, 1, 20)  # of the stays to come
GUESTS = "Ana Souza|João Prado|Maria Lima|Zoë Meyer|O'Brien, Pat|Inês Ñandú|Łukasz Kowal|Søren Åberg".split("|")
PARTNERS = (None, "API airbnb", "API booking.com")  # as Stays names the platforms; None: made in Stays itself
NAMES = {None: "staysnet", "API airbnb": "airbnb", "API booking.com": "booking"}

Row = tuple[object, ...]


@dataclass(frozen=True)
class Organization:
    """One organization: its id, the time zone of its houses, and how many stays agree on both sides."""

    id: str
    zone: str
    houses: tuple[str, ...]
    stays: int
    letter: str  # that the codes of its stays begin with

    def listing(self, number: int) -> str:
        """The listing of a house, by its place in `houses`."""
        return f"{self.letter}L{number + 1:02d}I"


PRAIA = Organization(
    "a2f5b4d0-51a4-4c9e-9b0e-6f3c1f0a7a01", "America/Sao_Paulo",
    ("Casa Azul", "Casa da Duna", "Pé na Areia", "Vista do Mar", "Sobrado 7"), 18, "P",
)  # fmt: skip
SERRA = Organization(
    "b7c9e1a3-0c55-4f0a-8a39-2d1f64b8c102", "America/Sao_Paulo",
    ("Chalé do Lago", "Chalé das Araucárias", "Refúgio", "Sem anúncio"), 12, "S",
)  # fmt: skip
TEJO = Organization(
    "c31d8f77-9e42-4b6d-b1c4-90a5e7d3f203", "Europe/Lisbon",
    ("Alfama 12", "Graça 3.º Esq", "Chiado"), 9, "T",
)  # fmt: skip
ORGANIZATIONS = (PRAIA, SERRA, TEJO)
NO_LISTING = (SERRA, 3)  # a house whose listing nobody filled in yet


@dataclass(frozen=True)
class Side:
    """A stay as one side has it.

    Args:
        arrives: days after FIRST_DAY.
        nights: how many; negative: it ends before it begins.
        house: place in the organization's houses; None: a listing that no house has.
        status: in our words.
    """

    arrives: int
    nights: int = 3
    house: int | None = 0
    status: str = "confirmed"
    guest: str = "Ana Souza"


@dataclass(frozen=True)
class Case:
    """A reservation that shows one thing, and what the rules must say of it.

    Args:
        here, there: as we and as Stays have it; None: not at all.
        outcome: of `stays_reservations`; None: no part of it, for it is direct.
        action: what its plan does: insert, update, set; None: nothing.
        issue: what its import issue says.
    """

    name: str
    organization: Organization
    code: str | None
    here: Side | None
    there: Side | None
    outcome: str | None
    action: str | None = None
    issue: str | None = None
    partner: str | None = None
    platform: str | None = None  # other than the partner's: direct


CASES = [
    # SYN-03: new → insert, changed → update
    Case("new at Stays", PRAIA, "FR01J", None, Side(30), "missing", "insert", partner="API airbnb"),
    Case("new, not yet confirmed", TEJO, "FR02J", None, Side(31, status="pending"), "missing", "insert"),
    Case("new, and cancelled before it came", SERRA, "FR03J", None, Side(32, status="cancelled"), "missing", "insert"),
    Case("check-in moved", PRAIA, "FR04J", Side(33), Side(34, 2), "changed", "update", partner="API booking.com"),
    Case("another house", PRAIA, "FR05J", Side(35), Side(35, house=2), "changed", "update"),
    Case("another guest", TEJO, "FR06J", Side(36), Side(36, guest="Maria Lima"), "changed", "update"),
    Case("the guest has arrived", SERRA, "FR07J", Side(1), Side(1, status="checked_in"), "changed", "update"),
    Case("over the night in which clocks go forward", TEJO, "FR08J", Side(66), Side(66), "same"),
    # RES-05, RES-16: cancelled there → cancelled here; absent there → only what is still active is an orphan
    Case("cancelled at Stays", PRAIA, "FP20J", Side(2), Side(2, status="cancelled"), "changed", "update"),
    Case("cancelled at Stays", PRAIA, "FP16J", Side(3), Side(3, status="cancelled"), "changed", "update", partner="API airbnb"),
    Case("cancelled at Stays", PRAIA, "FO24J", Side(4), Side(4, status="cancelled"), "changed", "update"),
    Case("not at Stays any more", PRAIA, "FN26J", Side(5), None, "orphan", "set"),
    *[
        Case("gone at Stays, cancelled here long ago", PRAIA, code, Side(day, status="cancelled"), None, "orphan")
        for code, day in (("FM01J", 6), ("FM02J", 7), ("FM03J", 8), ("FM04J", 9), ("FM05J", 10))
    ],
    Case("lives again at Stays", SERRA, "FR09J", Side(37, status="cancelled"), Side(37), "changed", "update"),
    Case("cancelled on both sides", SERRA, "FR10J", Side(38, status="cancelled"), Side(38, status="cancelled"), "same"),
    # RES-02, RES-03: what must not be written
    Case("no house has its listing", SERRA, "FR11J", None, Side(39, house=None), "invalid", issue="missing property mapping"),
    Case(
        "its house has no listing yet", SERRA, "FR12J", None, Side(40, house=3), "invalid",
        issue="missing property mapping", partner="API airbnb",
    ),
    Case("ends before it begins", TEJO, "FR13J", None, Side(41, -2), "invalid", issue="check-in not before check-out"),
    Case(
        "ends before it begins, and is here as it was", TEJO, "FR14J", Side(42), Side(42, -1), "invalid",
        issue="check-in not before check-out",
    ),
    Case("a platform that nobody knows", PRAIA, "FR15J", None, Side(43), "invalid", issue="the record cannot be read",
         partner="Expedia", platform="expedia"),
    # RES-14: the same house and days twice
    Case("on two platforms: the first", TEJO, "FR16J", Side(44, house=1), Side(44, house=1), "same"),
    Case("on two platforms: the second", TEJO, "FR17J", Side(44, house=1), Side(44, house=1), "same", partner="API airbnb"),
    Case("as the two, cancelled", TEJO, "FR18J", Side(44, house=1, status="cancelled"),
         Side(44, house=1, status="cancelled"), "same", partner="API booking.com"),
    # RES-04: direct bookings have no source
    Case("direct", PRAIA, None, Side(45), None, None, platform="direct"),
    Case("direct, not yet confirmed", PRAIA, None, Side(46, status="pending"), None, None, platform="direct"),
    Case("direct, over", SERRA, None, Side(-20, status="checked_out"), None, None, platform="direct"),
    Case("direct, and on a platform too", TEJO, "FR19J", Side(47, house=2), Side(47, house=2), "same"),
    Case("direct, the same days", TEJO, None, Side(47, house=2), None, None, platform="direct"),
]  # fmt: skip


def tables() -> list[Table]:
    """The sample tables, each after those it refers to. Equal on every call."""
    rng = Random(SEED)
    cases = [*_agreed(rng), *CASES]
    return [
        Table("properties", ("id", "organization_id", "name", "stays_listing_id"), list(_properties())),
        Table(
            "reservations",
            (
                "id", "organization_id", "platform", "external_id", "property_id", "check_in", "check_out", "status",
                "guest", "cancelled_at", "cancellation_reason", "created_at", "updated_at",
            ),
            [_here(number, case) for number, case in enumerate(cases) if case.here],
        ),
        Table(
            "door_credentials",
            (
                "reservation_id", "organization_id", "credential_id", "state", "active_from", "revoked_at", "made_at",
            ),
            [_credential(number, case) for number, case in enumerate(cases) if case.here and case.here.arrives < 0],
        ),
        Table(
            "bronze.stays_reservations",
            (*_LANDED, "absent_at"),
            [(*_landed(case, given), None) for case in cases if (given := as_given(case))],
        ),
    ]  # fmt: skip


_LANDED = (
    "organization_id", "platform", "external_id", "listing_id", "check_in", "check_out", "status", "guest", "problem",
    "updated_at", "raw",
)  # fmt: skip


def _agreed(rng: Random) -> Iterator[Case]:
    """Stays that are the same on both sides; the first of each organization are over."""
    for organization in ORGANIZATIONS:
        for number in range(organization.stays):
            is_over = number < 3
            day = -12 - 4 * number if is_over else number * 2
            side = Side(
                day, rng.randint(2, 4), rng.randrange(3), "checked_out" if is_over else "confirmed", rng.choice(GUESTS)
            )
            yield Case(
                "the same", organization, f"{organization.letter}E{number:02d}J", side, side, "same",
                partner=rng.choice(PARTNERS),
            )  # fmt: skip


def property_id(organization: Organization, house: int) -> int:
    """The key of a house."""
    return 100 * (ORGANIZATIONS.index(organization) + 1) + house + 1


def _properties() -> Iterator[Row]:
    for organization in ORGANIZATIONS:
        for number, name in enumerate(organization.houses):
            listing = None if (organization, number) == NO_LISTING else organization.listing(number)
            yield property_id(organization, number), organization.id, name, listing


def key(number: int) -> str:
    """The key of a reservation, by its place among the cases."""
    return str(uuid5(UUID(PRAIA.id), str(number)))


def _moments(organization: Organization, side: Side) -> tuple[datetime, datetime]:
    """Check-in at 15:00 and check-out at 11:00, as clocks at the house show them."""
    zone, first = ZoneInfo(organization.zone), FIRST_DAY + timedelta(days=side.arrives)
    leaves = first + timedelta(days=side.nights)
    return (
        datetime(first.year, first.month, first.day, 15, tzinfo=zone),
        datetime(leaves.year, leaves.month, leaves.day, 11, tzinfo=zone),
    )


def _platform(case: Case) -> str:
    return case.platform or NAMES[case.partner]


def _here(number: int, case: Case) -> Row:
    side = case.here
    assert side is not None
    assert side.house is not None
    check_in, check_out = _moments(case.organization, side)
    made = FETCHED - timedelta(days=60) + timedelta(minutes=number)
    gone = side.status == "cancelled"
    return (
        key(number), case.organization.id, _platform(case), case.code, property_id(case.organization, side.house),
        check_in, check_out, side.status, side.guest, FETCHED - timedelta(days=20) if gone else None,
        "Cancelled by the guest" if gone else None, made, made,
    )  # fmt: skip


def _credential(number: int, case: Case) -> Row:
    """What the lock holds of a stay that is over: a PIN that was revoked in its time."""
    side = case.here
    assert side is not None
    check_in, check_out = _moments(case.organization, side)
    return (
        key(number), case.organization.id, f"cred-{number:03d}", "revoked", check_in - timedelta(hours=2),
        check_out + timedelta(hours=24), check_in - timedelta(hours=2),
    )  # fmt: skip


def as_given(case: Case) -> dict[str, Any] | None:
    """A reservation as the API of Stays gives it; None where it has none."""
    side = case.there
    if side is None:
        return None
    check_in, check_out = _moments(case.organization, side)
    kinds = {"pending": "reserved", "confirmed": "booked", "cancelled": "canceled"}
    return {
        "id": case.code,
        "creationDate": "2026-11-20",
        "checkInDate": check_in.date().isoformat(),
        "checkInTime": "15:00",
        "checkOutDate": check_out.date().isoformat(),
        "checkOutTime": "11:00",
        "timezone": case.organization.zone,
        "_idlisting": "XX99I" if side.house is None else case.organization.listing(side.house),
        "type": kinds.get(side.status, side.status),
        "guestsDetails": {"adults": 2, "list": [{"name": side.guest, "primary": True}]},
        **({"partner": {"name": case.partner}} if case.partner else {}),
        "updatedAt": (FETCHED - timedelta(hours=3)).isoformat(),
    }


def _landed(case: Case, given: dict[str, Any]) -> Row:
    row = values.row(case.organization.id, json.loads(json.dumps(given)))
    assert not isinstance(row, Bad)
    return tuple(row[name] for name in _LANDED)
