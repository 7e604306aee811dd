"""Values as HubSpot keeps them: all as text, of a type that says when two texts are one value.

Types are HubSpot's own names: string, number, bool, date, datetime, enumeration. Only what a type makes one is one: 1500 and
1500.00 are one amount, but 00123 and 123 are two ids, for an id is a string there.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
_MILLISECONDS = re.compile(r"-?\d{9,15}", re.ASCII)  # since 1970, as HubSpot also writes a time
_YES = {"t": "true", "f": "false"}  # as PostgreSQL may write them
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def same(kind: str, left: str | None, right: str | None) -> bool:
    """Whether two texts are one value of this type; an empty text is none.

    >>> same("number", "1500", "1500.00"), same("string", "00123", "123")
    (True, False)
    >>> same("string", None, ""), same("number", "0", "")
    (True, False)
    >>> same("datetime", "2025-03-30 01:30:00+00", "2025-03-30T01:30:00Z"), same("bool", "t", "true")
    (True, True)
    """
    left, right = left or "", right or ""
    if left == right:
        return True
    if not left or not right:
        return False
    if kind == "number":
        return bool(_NUMBER.fullmatch(left) and _NUMBER.fullmatch(right)) and Decimal(left) == Decimal(right)
    if kind == "bool":
        return _YES.get(left, left) == _YES.get(right, right)
    if kind in ("date", "datetime"):
        times = _moment(left), _moment(right)
        return times[0] is not None and times[0] == times[1]
    return False


def sent(kind: str, value: str | None) -> str:
    """A value as HubSpot takes it; an empty text empties the property there.

    >>> sent("string", None), sent("bool", "t"), sent("datetime", "2025-03-30 01:30:00.5+00")
    ('', 'true', '2025-03-30T01:30:00.500Z')
    """
    if value is None:
        return ""
    if kind == "bool":
        return _YES.get(value, value)
    if kind == "datetime" and (moment := _moment(value)) is not None:
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value


def _moment(text: str) -> datetime | None:
    """A time in UTC, to the millisecond, as HubSpot keeps it; one without a zone is in UTC, as recon's sessions are."""
    if _MILLISECONDS.fullmatch(text):
        return _EPOCH + timedelta(milliseconds=int(text))
    try:
        read = datetime.fromisoformat(text)
        moment = read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
