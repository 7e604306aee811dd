"""Records as HTML tables that a person reads and prints: every value escaped, numbers aligned, nothing rounded away."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

from recon.matching import coverage

WHOLE_LETTERS = 24  # a word up to this length is not broken across lines
WIDE_COLUMNS = 10  # a table with more than these is printed in smaller letters
NO_BREAK = "\N{NO-BREAK SPACE}"
NOTHING = "—"  # what stands for NULL, so that it is told apart from an empty text


class Html(str):
    """Finished HTML. A notebook shows it as such, and anything that is not of this class is escaped."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return str(self)

    def __repr__(self) -> str:
        return f"<Html of {len(self)} characters>"  # the notebook would otherwise hold every table twice


@dataclass(frozen=True)
class Heading:
    """A column of a table: its name in the record, what stands above it, and what stands above its group."""

    name: str
    label: str
    group: str = ""


def table(
    headings: Sequence[Heading], records: Sequence[dict[str, Any]], *, empty: str, total: int | None = None
) -> Html:
    """Records as a table.

    Args:
        headings: the columns, in order.
        records: what to show.
        empty: the sentence that stands for a table without a row.
        total: how many records there are where `records` is only the beginning of them.
    """
    if not records:
        return sentence(empty)
    numeric = {item.name for item in headings if _numeric([record.get(item.name) for record in records])}
    body = "".join(
        "<tr>" + "".join(_td(record.get(item.name), item.name in numeric) for item in headings) + "</tr>"
        for record in records
    )
    left_out = (total or len(records)) - len(records)
    note = f'<p class="note">The first {count(len(records))} of {count(total or 0)} rows.</p>' if left_out else ""
    wide = ' class="wide"' if len(headings) > WIDE_COLUMNS else ""
    return Html(
        f'<div class="scroll"><table{wide}><thead>{_head(headings, numeric)}</thead><tbody>{body}</tbody></table></div>{note}'
    )


def sentence(text: str) -> Html:
    """A sentence that stands where a table would."""
    return Html(f'<p class="empty">{escape(text)}</p>')


def escape(value: str) -> str:
    """Text as HTML, unless it is finished HTML."""
    return value if isinstance(value, Html) else html.escape(value)


def words(name: str) -> str:
    """A name as people read it.

    >>> words("lease_reference")
    'lease reference'
    """
    return name.replace("_", " ")


# -- values ----------------------------------------------------------------------------------------------


def shown(value: object) -> str:
    """One value as text.

    >>> shown(Decimal("1185")), shown(Decimal("1185.5")), shown(Decimal("0.0625"))
    ('1,185.00', '1,185.50', '0.0625')
    >>> shown(None), shown(True), shown(date(2025, 5, 15)), shown(1551), shown({"guests": [2, None]})
    ('—', 'yes', '2025-05-15', '1551', '{"guests": [2, null]}')
    """
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (bytes, memoryview)):
        return bytes(value).hex()
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def _decimal(value: Decimal) -> str:
    """With two decimals, as money is written, or with as many as the value has: digits are never cut."""
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):  # NaN and Infinity
        return str(value)
    return f"{value:,.{max(2, -exponent)}f}"


def moment(at: datetime) -> str:
    """A time to the minute; in UTC, and saying so, where it knows its zone."""
    if at.tzinfo is None:
        return f"{at:%Y-%m-%d %H:%M}"
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def lasting(time: timedelta) -> str:
    """How long something lasts, in the largest whole unit; less than a minute is "less than 1 min".

    >>> lasting(timedelta(days=3, hours=5)), lasting(timedelta(hours=26)), lasting(timedelta(minutes=90))
    ('3 days', '1 day', '1 h')
    >>> lasting(timedelta(seconds=150)), lasting(timedelta(seconds=5))
    ('2 min', 'less than 1 min')
    """
    minutes = int(time.total_seconds()) // 60
    if minutes >= 24 * 60:
        return days(minutes // (24 * 60))
    return f"{minutes // 60} h" if minutes >= 60 else f"{minutes} min" if minutes else "less than 1 min"


def days(number: int) -> str:
    """
    >>> days(1), days(31)
    ('1 day', '31 days')
    """
    return f"{count(number)} day{'' if number == 1 else 's'}"


def count(number: int) -> str:
    """
    >>> count(45326)
    '45,326'
    """
    return f"{number:,}"


def records(number: int) -> str:
    """A number of records with its unit.

    >>> records(1), records(10)
    ('1 record', '10 records')
    """
    return f"{count(number)} record{'' if number == 1 else 's'}"


def percent(share: float | None) -> str:
    """A share with one decimal, and no line break in it; 100.0 % and 0.0 % are said only where they are exact.

    >>> [percent(share).replace(NO_BREAK, " ") for share in (125 / 135, 1, 99999 / 100000, 1 / 100000, None)]
    ['92.6 %', '100.0 %', '99.9 %', '0.1 %', '—']
    """
    return coverage.percent(share, NOTHING).replace(" ", NO_BREAK)


def points(before: float | None, now: float | None) -> str:
    """A change of a share in points, with its sign.

    >>> points(125 / 135, 1.0), points(1.0, 0.5), points(0.5, 0.5)
    ('+7.4 points', '−50.0 points', '±0.0 points')
    """
    if before is None or now is None:
        return NOTHING
    change = round((now - before) * 100, 1)
    return f"{_sign(change)}{abs(change):.1f} points"


def change(number: int) -> str:
    """A change of a count, with its sign.

    >>> change(10), change(-2), change(0)
    ('+10', '−2', '±0')
    """
    return f"{_sign(number)}{abs(number):,}"


def _sign(number: float) -> str:
    return "+" if number > 0 else "−" if number < 0 else "±"


# -- parts -----------------------------------------------------------------------------------------------


class Number(Html):
    """A number that was written with its unit or its sign."""

    __slots__ = ()


def _numeric(values: Sequence[object]) -> bool:
    """Whether a column holds numbers only, and so is aligned to the right."""
    held = [value for value in values if value is not None]
    return bool(held) and all(
        isinstance(value, (int, float, Decimal, Number)) and not isinstance(value, bool) for value in held
    )


def _td(value: object, numeric: bool) -> str:
    written = value if isinstance(value, str) else shown(value)
    # A date, a code or a reference is read as one piece; only what could not fit otherwise is broken.
    whole = len(written) <= WHOLE_LETTERS and (" " not in written or isinstance(value, datetime))
    # A word without end must not push the table off the page.
    long = any(len(word) > WHOLE_LETTERS for word in written.split())
    kind = ' class="number"' if numeric else ' class="whole"' if whole else ' class="long"' if long else ""
    return f"<td{kind}>{escape(written)}</td>"


def _head(headings: Sequence[Heading], numeric: set[str]) -> str:
    rows = ""
    if any(item.group for item in headings):
        groups = [(name, len(list(items))) for name, items in groupby(item.group for item in headings)]
        cells = "".join(f'<th colspan="{width}" scope="colgroup">{escape(name)}</th>' for name, width in groups)
        rows += f'<tr class="groups">{cells}</tr>'
    right = ' class="number"'
    cells = "".join(
        f'<th scope="col"{right if item.name in numeric else ""}>{escape(words(item.label))}</th>' for item in headings
    )
    return f"{rows}<tr>{cells}</tr>"
