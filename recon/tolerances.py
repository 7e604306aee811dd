"""How far two values may lie apart, as a spec writes it: an interval, a number, or a percentage."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal

from recon.errors import SpecError

Kind = Literal["interval", "number", "percent"]

# A day is 24 hours: sessions run in UTC, and a window must not change its width with the clocks.
_MICROSECONDS = {
    "week": 604_800_000_000,
    "day": 86_400_000_000,
    "hour": 3_600_000_000,
    "minute": 60_000_000,
    "second": 1_000_000,
}
_UNIT = r"(weeks?|days?|hours?|minutes?|seconds?)"
_INTERVAL = re.compile(rf"\s*(\d+(?:\.\d+)?\s*{_UNIT}\s*)+", re.IGNORECASE)
_PART = re.compile(rf"(\d+(?:\.\d+)?)\s*{_UNIT}", re.IGNORECASE)
# Far beyond any window that means something: three thousand years, a million billions. Keeps sums within the server's types.
_LONGEST, _LARGEST = Decimal(10) ** 17, Decimal(10) ** 15


@dataclass(frozen=True)
class Tolerance:
    """One bound of a window: microseconds of an interval, a number, or per cent of the target's absolute value."""

    kind: Kind
    amount: Decimal

    def times(self, factor: Decimal) -> Tolerance:
        """The bound widened or narrowed; intervals stay whole microseconds."""
        amount = self.amount * factor
        return Tolerance(self.kind, amount.quantize(Decimal(1)) if self.kind == "interval" else amount.normalize())

    @property
    def unit(self) -> tuple[str, str]:
        """An interval as (number, unit), in the largest unit of which it is a whole number."""
        for name in ("day", "hour", "minute"):
            if self.amount % _MICROSECONDS[name] == 0:
                return str(int(self.amount / _MICROSECONDS[name])), name
        return f"{(self.amount / _MICROSECONDS['second']).normalize():f}", "second"

    @property
    def days(self) -> int:
        """The whole days in an interval: how far dates, which have no hours, may lie apart."""
        return int(self.amount // _MICROSECONDS["day"])

    def __str__(self) -> str:
        """As a person writes it.

        >>> [str(parse(text)) for text in ("90 minutes", "2 weeks", "5%", "0.50")]
        ['90 minutes', '14 days', '5%', '0.5']
        """
        if self.kind == "interval":
            number, unit = self.unit
            return f"{number} {unit}{'' if number == '1' else 's'}"
        written = f"{self.amount.normalize():f}"
        return f"{written}%" if self.kind == "percent" else written


def parse(value: str | Decimal | int) -> Tolerance:
    """Read `1 hour`, `2 days 3 hours`, `0.01` or `5%`.

    Raises:
        SpecError: it is none of these, negative, or has months or years, whose length varies.
    """
    text = str(value).strip()
    if _INTERVAL.fullmatch(text):
        parts = [(Decimal(number), unit.lower().rstrip("s")) for number, unit in _PART.findall(text)]
        microseconds = sum((number * _MICROSECONDS[unit] for number, unit in parts), Decimal(0))
        if microseconds == microseconds.to_integral_value() and microseconds < _LONGEST:
            return Tolerance("interval", microseconds.to_integral_value())
    bare = text.removesuffix("%").strip()
    try:
        number = Decimal(bare)
    except InvalidOperation:
        number = Decimal(-1)
    if re.fullmatch(r"\d+(\.\d+)?", bare) is None or not 0 <= number < _LARGEST:
        raise SpecError(
            f"Cannot read {text!r} as a tolerance.",
            why="Months and years vary in length." if re.search(r"month|year", text, re.IGNORECASE) else "",
            todo="Write an interval of weeks to seconds (1 hour), a number (0.01) or a percentage (5%), not negative, "
            "of at most 1,000,000 days or 15 digits.",
        )
    return Tolerance("percent" if text.endswith("%") else "number", number)
