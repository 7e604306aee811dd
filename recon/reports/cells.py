"""What a value becomes in a spreadsheet: a number, a day, a time, or text that is never a formula.

A spreadsheet that opens a CSV file takes a cell for a formula by how it begins; a workbook says of each cell what it is.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Literal

MOST_CHARACTERS = 32_767  # of one cell, counted in UTF-16 as Excel counts (Excel's specifications and limits)
EXACT_DIGITS = 15  # so many decimal digits every double holds, and Excel shows no more
FIRST_DAY = date(1900, 3, 1)  # before it spreadsheets disagree: Excel knows a 29 February 1900
DAY, MOMENT, CLOCK = "yyyy-mm-dd", "yyyy-mm-dd hh:mm:ss", "hh:mm:ss"

Kind = Literal["nothing", "text", "number", "yes", "time"]

# XML 1.0 has no such characters; a lone carriage return would come back as a line feed.
_NOT_IN_XML = re.compile("[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]")
_SIGNS = "=+\\-@＝＋－＠"  # what a formula begins with; the wide ones count in East Asian versions of Excel
_FORMULA = re.compile(rf"\s*[{_SIGNS}]|[\t\r\n]")
_INNER_FORMULA = re.compile(rf"([;\t])(?=\s*[{_SIGNS}])")


@dataclass(frozen=True)
class Cell:
    """One cell: its kind, its value as a spreadsheet holds it, its number format, and what was lost on the way."""

    kind: Kind
    value: Any = None
    shape: str = ""  # the number format; empty: as the spreadsheet likes
    lost: Literal["", "cut", "digits"] = ""  # cut: text that is too long; digits: a number kept as text for its digits

    @property
    def width(self) -> int:
        """Roughly how many characters it takes to show it."""
        if self.kind == "text":
            return max((len(line) for line in str(self.value).split("\n")), default=0)
        if self.kind == "time":
            return len(self.shape)
        return len(f"{self.value:,}") + 3 if self.kind == "number" else 5


def cell(value: object) -> Cell:
    """The cell of a value. Times with a zone become UTC without one, for a spreadsheet knows no zones.

    >>> cell(Decimal("740.00")), cell(True).kind, cell(None).kind
    (Cell(kind='number', value=740.0, shape='#,##0.00', lost=''), 'yes', 'nothing')
    >>> cell(Decimal("12345678901234567.89")).value, cell(10**15).kind, cell("=1+1").kind
    ('12345678901234567.89', 'text', 'text')
    """
    if value is None:
        return Cell("nothing")
    if isinstance(value, bool):
        return Cell("yes", value)
    if isinstance(value, (int, float, Decimal)):
        return _number(value)
    if isinstance(value, datetime):
        moment = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
        if moment.date() < FIRST_DAY:
            return _text(written(value))
        return Cell("time", moment, MOMENT + (".000" if moment.microsecond else ""))
    if isinstance(value, date):
        return Cell("time", value, DAY) if value >= FIRST_DAY else _text(written(value))
    if isinstance(value, time):
        return Cell("time", value, CLOCK) if value.tzinfo is None else _text(written(value))
    return _text(written(value))


def written(value: object) -> str:
    """A value as text: times in UTC where they have a zone, bytes in hex, lists and documents as JSON.

    >>> written(Decimal("1E+2")), written(True), written({"a": [1]})
    ('100', 'true', '{"a": [1]}')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return f"{value:f}" if value.is_finite() and abs(value.adjusted()) < 1_000 else str(value)
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat(" ")
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (dict, list, tuple)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return value.isoformat() if isinstance(value, (date, time)) else str(value)


def zoned(value: object) -> bool:
    """Whether this is a time with a zone, so that its column's heading must say UTC."""
    return isinstance(value, datetime) and value.tzinfo is not None


def clean(text: str) -> str:
    """A text as a workbook can hold it: what XML has no character for is spelled out.

    >>> clean("a\\x07b"), clean("line\\r\\nline"), clean("<r>x</r>")
    ('a\\\\x07b', 'line\\nline', '<r>x</r> ')
    """
    found = _NOT_IN_XML.sub(lambda match: _spelled(match.group()), text.replace("\r\n", "\n"))
    # The library writes a text of this form as it stands, for rich text: it would break the file, or bend it.
    return f"{found} " if found.startswith("<r>") and found.endswith("</r>") else found


def formula_like(text: str) -> bool:
    """Whether a spreadsheet that reads this text from a CSV file, or by hand, takes it for a formula.

    >>> [formula_like(text) for text in ("=1+1", " @SUM(1)", "-1", "\\tx", "LEASE-1", "1-1", "")]
    [True, True, True, True, False, False, False]
    """
    return _FORMULA.match(text) is not None


def harmless(text: str) -> str:
    """A text for a CSV file that people open in a spreadsheet: an apostrophe stands before what would be a formula.

    Also after a semicolon or a tab, where a spreadsheet set to another separator begins a new cell.

    >>> harmless("=cmd|' /C calc'!A0"), harmless("+1"), harmless("Flat 1; =2"), harmless("Flat 1")
    ("'=cmd|' /C calc'!A0", "'+1", "Flat 1;' =2", 'Flat 1')
    """
    return ("'" if formula_like(text) else "") + _INNER_FORMULA.sub(r"\1'", text)


def _spelled(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def _text(text: str, lost: Literal["", "digits"] = "") -> Cell:
    found = clean(text)
    if _units(found) <= MOST_CHARACTERS:
        return Cell("text", found, lost=lost)
    told = f" … [cut: {len(found):,} characters]"
    kept = found[: MOST_CHARACTERS - len(told)]
    while _units(kept) > MOST_CHARACTERS - len(told):
        kept = kept[: len(kept) - (_units(kept) - MOST_CHARACTERS + len(told) + 1) // 2]
    return Cell("text", kept + told, lost="cut")


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _number(value: int | float | Decimal) -> Cell:
    if isinstance(value, float):
        return Cell("number", value) if math.isfinite(value) else _text(str(value))
    exact = Decimal(value)
    if not exact.is_finite():
        return _text(str(value))
    digits, places = exact.as_tuple()[1:]
    significant = "".join(map(str, digits)).strip("0")
    assert isinstance(places, int)  # of a finite number
    # A whole number of more digits is mostly an id: Excel would show 1E+15 for it.
    if len(significant) > EXACT_DIGITS or exact.adjusted() >= EXACT_DIGITS or exact.adjusted() < -300:
        return _text(written(value), "digits")
    if isinstance(value, int):
        return Cell("number", value)
    return Cell("number", float(value), "#,##0" + ("." + "0" * min(-places, 15) if places < 0 else ""))
