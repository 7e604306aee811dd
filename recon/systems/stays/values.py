"""Reservations as Stays gives them, read into ours: platform, status and times in our words, and what cannot be read.

Nothing here raises for a single record: what cannot be read is NULL, and `problem` says why, without the value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from math import isfinite
from typing import Any, cast
from zoneinfo import ZoneInfo

from recon.names import storable
from recon.outside.interface import Bad

PLATFORMS = ("staysnet", "airbnb", "booking", "direct")
STATUSES = ("pending", "confirmed", "checked_in", "checked_out", "cancelled")
LONGEST_ID = 200  # characters; what is longer is no id
UNKNOWN = "unknown"  # the platform of a record whose platform cannot even be read
_FARTHEST_EXPONENT = 1000  # of a number that PostgreSQL's JSON surely takes

# By the name in small letters without blanks and punctuation; no partner at all: it was made in Stays itself.
_PLATFORMS = {
    "": "staysnet",
    "stays": "staysnet",
    "staysnet": "staysnet",
    "apistaysnet": "staysnet",
    "website": "staysnet",
    "airbnb": "airbnb",
    "apiairbnb": "airbnb",
    "booking": "booking",
    "bookingcom": "booking",
    "apibookingcom": "booking",
    "direct": "direct",
    "direto": "direct",
}
_STATUSES = {
    "reserved": "pending",
    "pending": "pending",
    "booked": "confirmed",
    "contract": "confirmed",
    "normal": "confirmed",
    "confirmed": "confirmed",
    "checkedin": "checked_in",
    "checkedout": "checked_out",
    "canceled": "cancelled",
    "cancelled": "cancelled",
}
_BLOCKS = ("blocked", "maintenance")  # days that are closed in the calendar: no reservations

Row = dict[str, Any]


@dataclass
class _Reading:
    """A record that is being read, and what was found wrong with it."""

    document: Mapping[str, Any]
    wrong: list[str] = field(default_factory=list[str])

    def text(self, name: str) -> str | None:
        """A text; None where it is missing, empty, or none."""
        value = self.document.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if value is None or value == "":
            return None
        if not isinstance(value, str) or not storable(value):
            self.wrong.append(f"its {name} is no text")
            return None
        return value


def row(scope: str, given: object, zone: str = "", *, whole: bool = True) -> Row | Bad:
    """A reservation of Stays as a row of bronze.stays_reservations, without `absent_at`.

    Args:
        scope: the organization, a uuid as text.
        given: the reservation as the API gives it.
        zone: IANA name of the time zone in which check-in and check-out are told where the reservation names none.
        whole: with `raw`; where only the key and the times are asked for, it is left out.

    Returns:
        The row; `raw` is JSON text. Bad where it has no id, so that it cannot be kept.
    """
    if not isinstance(given, dict):
        return Bad("a record is no object")
    document = cast(dict[str, Any], given)
    code = identity(document)
    if code is None:
        return Bad("a reservation has no id")
    reading = _Reading(document)
    platform = _platform(reading)
    status = _status(reading)
    place = reading.text("timezone") or zone
    made: Row = {
        "organization_id": scope,
        "platform": platform,
        "external_id": code,
        "listing_id": reading.text("_idlisting"),
        "check_in": _moment(reading, "checkIn", place),
        "check_out": _moment(reading, "checkOut", place),
        "status": status,
        "guest": _guest(reading),
        "updated_at": _updated(reading),
        "raw": _raw(reading) if whole else None,
    }
    made["problem"] = "; ".join(reading.wrong) or None
    return made


def identity(document: Mapping[str, Any]) -> str | None:
    """The reservation's code, such as FN26J; None where it has none that could be kept."""
    value = document.get("id")
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST_ID or value != value.strip():
        return None
    return value if value.isprintable() and storable(value) else None


def is_block(given: object) -> bool:
    """Whether it is no reservation but days that somebody closed in the calendar, which the same list tells."""
    return isinstance(given, dict) and cast(dict[str, Any], given).get("type") in _BLOCKS


def platform_of(name: str) -> str | None:
    """One of PLATFORMS by a name as Stays writes it; None where it is none of them.

    >>> platform_of("Booking.com"), platform_of("API airbnb"), platform_of(""), platform_of("Expedia")
    ('booking', 'airbnb', 'staysnet', None)
    """
    return _PLATFORMS.get(_plain(name))


def status_of(name: str) -> str | None:
    """One of STATUSES by a word as Stays writes it; None where it is none of them.

    >>> status_of("canceled"), status_of("booked"), status_of("checked-in"), status_of("lost")
    ('cancelled', 'confirmed', 'checked_in', None)
    """
    return _STATUSES.get(_plain(name))


def _plain(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


def _platform(reading: _Reading) -> str:
    """The platform; a name that is not known is kept in small letters, for it is a part of the key."""
    partner = reading.document.get("partner")
    name = cast(dict[str, Any], partner).get("name") if isinstance(partner, dict) else partner
    if name is None:
        return "staysnet"
    if not isinstance(name, str) or len(name) > LONGEST_ID or not storable(name):
        reading.wrong.append("its platform is no name")
        return UNKNOWN
    found = platform_of(name)
    if found is None:
        reading.wrong.append("its platform is none that is known")
        return " ".join(name.lower().split()) or UNKNOWN
    return found


def _status(reading: _Reading) -> str | None:
    said = reading.text("type")
    if said is None:
        if "its type is no text" not in reading.wrong:
            reading.wrong.append("it has no type")
        return None
    found = status_of(said)
    if found is None:
        what = "it is no reservation but a block" if said in _BLOCKS else "its type is none that is known"
        reading.wrong.append(what)
    return found


# -- times ---------------------------------------------------------------------------------------------------


def _moment(reading: _Reading, name: str, zone: str) -> datetime | None:
    """`nameDate` and `nameTime` as a moment in UTC.

    The date may be a whole time with its offset. Else it is a day, and the time is what clocks show at the listing: of an
    hour that they show twice the first is meant, and an hour that they skip counts by the clock before the change.
    """
    day, clock = reading.text(f"{name}Date"), reading.text(f"{name}Time")
    if day is None:
        if f"its {name}Date is no text" not in reading.wrong:
            reading.wrong.append(f"it has no {name}Date")
        return None
    try:
        if len(day) > len("2026-01-01"):
            return _zoned(reading, f"{name}Date", datetime.fromisoformat(day))
        if clock is None:
            reading.wrong.append(f"it has no {name}Time")
            return None
        at = datetime.combine(date.fromisoformat(day), time.fromisoformat(clock))
    except ValueError:
        reading.wrong.append(f"its {name}Date or {name}Time is no time")
        return None
    if at.tzinfo is None:
        place = _zone(zone)
        if place is None:
            said = "its time zone is none that is known" if zone else "it has no time zone"
            if said not in reading.wrong:
                reading.wrong.append(said)
            return None
        at = at.replace(tzinfo=place)
    return _zoned(reading, f"{name}Date", at)


def _zoned(reading: _Reading, name: str, at: datetime) -> datetime | None:
    if at.tzinfo is None:
        reading.wrong.append(f"its {name} has no time zone")
        return None
    try:
        return at.astimezone(UTC)
    except (OverflowError, ValueError):  # in the first or the last hours of the calendar, by its zone
        reading.wrong.append(f"its {name} is beyond the calendar")
        return None


@lru_cache(maxsize=256)
def _zone(name: str) -> ZoneInfo | None:
    try:
        return ZoneInfo(name) if name else None
    except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError
        return None
    except KeyError:
        return None


def known_zone(name: str) -> bool:
    """Whether it is the name of a time zone, such as America/Sao_Paulo."""
    return _zone(name) is not None


def _updated(reading: _Reading) -> datetime | None:
    text = reading.text("updatedAt")
    try:
        at = datetime.fromisoformat(text) if text else None
        return at.astimezone(UTC) if at and at.tzinfo else None  # without a zone it orders nothing
    except (ValueError, OverflowError):
        return None


# -- the rest ------------------------------------------------------------------------------------------------


def _guest(reading: _Reading) -> str | None:
    """The name of the guest who is marked as the first, or who stands first; what is odd about it is no problem."""
    details = reading.document.get("guestsDetails")
    listed = cast(dict[str, Any], details).get("list") if isinstance(details, dict) else None
    guests = (
        [cast(dict[str, Any], one) for one in cast(list[Any], listed) if isinstance(one, dict)]
        if isinstance(listed, list)
        else []
    )
    guests.sort(key=lambda one: one.get("primary") is not True)
    name = guests[0].get("name") if guests else None
    return name if isinstance(name, str) and name.strip() and storable(name) else None


def _raw(reading: _Reading) -> str | None:
    try:
        return json_text(reading.document)
    except RecursionError:
        reading.wrong.append("it is nested too deeply to be kept")
        return None


def json_text(value: object) -> str:
    """A document as JSON that PostgreSQL can keep: numbers exact, and without the characters that it refuses.

    >>> json_text({"price": Decimal("454.10"), "note": "a" + chr(0) + "b", "days": [1, None, True]})
    '{"price":454.10,"note":"ab","days":[1,null,true]}'
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_as_float)
    except (TypeError, ValueError):
        return _slowly(value)
    # An escaped NUL, or half a character, anywhere in it.
    return _slowly(value) if "\\u0000" in text or not storable(text) else text


def _as_float(value: object) -> float:
    """A decimal as the float of the same value. Raises TypeError where there is none."""
    if isinstance(value, Decimal) and value.is_finite() and Decimal(repr(number := float(value))) == value:
        return number
    raise TypeError


def _slowly(value: object) -> str:
    """Part by part, for a document that holds what the library writes otherwise than PostgreSQL takes it."""
    if isinstance(value, dict):
        items = cast(dict[Any, Any], value).items()
        return "{" + ",".join(f"{_quoted(str(name))}:{_slowly(one)}" for name, one in items) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_slowly(one) for one in cast(list[Any], value)) + "]"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, Decimal):
        sane = value.is_finite() and abs(value.adjusted()) < _FARTHEST_EXPONENT
        return str(value) if sane else _quoted(str(value))
    if isinstance(value, float) and not isfinite(value):  # NaN and Infinity are no JSON
        return "null"
    return json.dumps(value)


def _quoted(text: str) -> str:
    if not storable(text):
        text = "".join(letter for letter in text if letter != "\0" and not "\ud800" <= letter <= "\udfff")
    return json.dumps(text, ensure_ascii=False)
