"""Normal forms: ways to write a value so that two spellings of one thing are equal, as expressions of a spec.

The same expression is measured while drafting and written into the spec, so that what was measured is what runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recon.drafting.writing import name
from recon.names import Side

Family = Literal["text", "number", "day", "time"]


@dataclass(frozen=True)
class Form:
    """One way to write the values of a column: values of the same name and family can be compared."""

    name: str
    family: Family
    template: str  # {x} is the column
    words: str  # for people: how the values are compared
    rank: int  # the strictest first

    def of(self, column: str, side: Side, *, bare: bool = False) -> str:
        """The expression for a column; `bare` without its side, for places where the side is known."""
        return self.template.replace("{x}", name(column) if bare else f"{side}.{name(column)}")


def same(kind: str, *, blank: bool = False) -> Form:
    """The value itself; of another type than text, as text. Where some are blank, these are none."""
    if blank:
        return Form("same", "text", "nullif(btrim({x}), '')", "as they are, blanks around them aside", 0)
    return Form("same", "text", "{x}" if kind == "text" else "{x}::text", "as they are", 0)


def letters() -> Form:
    """Letters and digits only, in small letters without accents."""
    return Form("letters", "text", "alphanumeric({x})", "letters and digits only, capitals and accents aside", 1)


def digits() -> Form:
    """Digits only, without leading zeros."""
    return Form("digits", "text", "digits({x})", "digits only, without leading zeros", 2)


def tail(length: int) -> Form:
    """The last digits of a long number, such as a telephone number with or without its country."""
    return Form(f"tail{length}", "text", f"last_digits({{x}}, {length})", f"the last {length} digits", 3)


def number(kind: str, *, dots_part_thousands: bool = False) -> Form:
    """A number, however its thousands and decimals are parted."""
    if kind != "text":
        return Form("number", "number", "{x}" if kind == "numeric" else "{x}::numeric", "as numbers", 1)
    template = "parsed_number({x}, ',')" if dots_part_thousands else "parsed_number({x})"
    return Form("number", "number", template, "as numbers", 1)


def day(kind: str, *, month_first: bool = False) -> Form:
    """A day, however it is written."""
    if kind == "date":
        return Form("day", "day", "{x}", "as days", 1)
    if kind == "timestamp":
        return Form("day", "day", "{x}::date", "as days", 1)
    if kind == "timestamptz":
        return Form("day", "day", "({x} at time zone 'UTC')::date", "as days", 1)
    if month_first:
        return Form("day", "day", "parsed_day({x}, 'month first')", "as days, month first", 1)
    return Form("day", "day", "parsed_day({x})", "as days", 1)


def time(kind: str) -> Form:
    """A moment; with a time zone in UTC."""
    made = "{x} at time zone 'UTC'" if kind == "timestamptz" else "{x}"
    return Form("time", "time", made, "as moments (UTC)", 0)


OR_NOTHING = "_or_nothing"  # ends the name of a form in which two empty values agree


def or_nothing(form: Form) -> Form:
    """A form of texts in which no value is a value too: a house without a flat is the house, and none of its flats."""
    return Form(
        form.name + OR_NOTHING,
        form.family,
        f"coalesce({form.template}, '')",
        f"{form.words}; empty on both sides agrees",
        9,
    )
