"""Records as files that people take away: CSV and Excel. Text is text there too, never a formula and never a link."""

from __future__ import annotations

import io
import re
from collections.abc import Container, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import chain, islice
from typing import IO, TYPE_CHECKING, Any

from recon.errors import UsageError
from recon.reports import cells
from recon.reports.cells import Cell

if TYPE_CHECKING:
    from xlsxwriter.format import Format
    from xlsxwriter.worksheet import Worksheet

MOST_ROWS = 1_048_575  # records of one sheet, below its header (Excel's specifications and limits)
MOST_COLUMNS = 16_384
NAME_LETTERS = 31
LOOKED_AT = 1_000  # rows that are looked at before the header is written: do their times have zones?
NARROWEST, WIDEST = 8, 60  # of a column, in characters
LINE = 14  # letters of a heading; longer ones take two lines
A4 = 9
# The same widths on every machine: where Arial is missing, Liberation Sans stands for it.
LETTERS = {"font_name": "Arial", "font_size": 10}
NUMBER = {"align": "right", "indent": 1}  # so that a number does not touch the text to its right
# Colours: of headers, of lines, of remarks, of all else.
HEAD, RULE, QUIET, INK = "#E8EDF3", "#9AA7B5", "#5B6670", "#1A1A1A"


def csv_bytes(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows as CSV in UTF-8, with a header, for people who open it in a spreadsheet.

    A text that a spreadsheet would take for a formula gets a leading apostrophe; numbers stay numbers. Times with a
    zone are written in UTC, NULL as nothing, lists and documents as JSON.
    """
    header = [_quoted(cells.harmless(name)) for name in columns]
    lines = chain([header], ([_in_csv(value) for value in row] for row in rows))
    return "".join(",".join(line) + "\n" for line in lines).encode("utf-8", "backslashreplace")


def _in_csv(value: object) -> str:
    if value is None:
        return ""
    text = cells.written(value)
    return _quoted(text if isinstance(value, (int, float, Decimal)) else cells.harmless(text))


def _quoted(text: str) -> str:
    # Python's writer leaves a carriage return as it is, and a spreadsheet begins a row there: with whatever follows.
    return '"' + text.replace('"', '""') + '"' if re.search('[",;\t\r\n]', text) else text


def excel_bytes(name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows as a workbook with filters and a header that stays; more rows than a sheet holds go on in the next.

    Raises:
        UsageError: more columns than a sheet holds.
    """
    out = io.BytesIO()
    with workbook(out, name) as book:
        book.table(name, columns, rows)
    return out.getvalue()


@contextmanager
def workbook(out: IO[bytes] | str, title: str) -> Generator[Book]:
    """A workbook that is written row by row, in bounded memory, and is whole when the block ends.

    Args:
        out: a file, or its path.
        title: for its properties.
    """
    import xlsxwriter

    options = {
        "constant_memory": True,
        "strings_to_formulas": False,
        "strings_to_urls": False,
        "strings_to_numbers": False,
        "default_format_properties": LETTERS,
    }
    file = xlsxwriter.Workbook(out, options)
    try:
        file.set_properties({"title": cells.clean(title)[:255], "created": datetime.now(UTC).replace(tzinfo=None)})
        book = Book(file)
        yield book
        book.say_what_was_lost()
    finally:
        if not file.worksheets():
            file.add_worksheet()  # a workbook without a sheet cannot be closed, and so not tidied up
        file.close()


class Book:
    """A workbook under way. Rows of a sheet are written from top to bottom; sheets may take turns."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self._formats: dict[tuple[tuple[str, Any], ...], Format] = {}
        self._names: set[str] = set()
        self._said: list[str] = []
        self._lost: dict[tuple[str, str], int] = {}

    def format(self, **properties: Any) -> Format:
        """A format with these properties, made once."""
        key = tuple(sorted(properties.items()))
        if key not in self._formats:
            self._formats[key] = self.file.add_format({**LETTERS, "font_color": INK, "valign": "top", **properties})
        return self._formats[key]

    def head(self, **properties: Any) -> Format:
        """The format of a column's heading."""
        usual = {"bold": True, "bg_color": HEAD, "bottom": 1, "bottom_color": RULE, "text_wrap": True}
        return self.format(**usual, **properties)

    def sheet(self, name: str, *, landscape: bool = True, fit: bool = True) -> Worksheet:
        """A new sheet, to be printed on A4 with page numbers; its name is changed where Excel would not have it.

        `fit` makes it as wide as a page; Excel then ignores page breaks that are set.
        """
        named = sheet_name(name, self._names)
        self._names.add(named.casefold())
        made: Worksheet = self.file.add_worksheet(named)
        made.set_paper(A4)
        made.set_landscape() if landscape else made.set_portrait()
        if fit:
            made.fit_to_pages(1, 0)
        made.set_margins(left=0.5, right=0.5, top=0.6, bottom=0.7)
        made.set_footer(f"&L&8{named.replace('&', '&&')}&R&8Page &P of &N")
        return made

    def write(self, sheet: Worksheet, row: int, place: int, value: object, **properties: Any) -> Cell:
        """Write one value as what it is, and return the cell that it became."""
        found = cells.cell(value)
        if found.lost:
            key = str(sheet.get_name()), str(found.lost)
            self._lost[key] = self._lost.get(key, 0) + 1
        if found.kind == "text":
            if cells.formula_like(found.value):  # so that it stays text when somebody edits the cell
                properties["quote_prefix"] = True
            sheet.write_string(row, place, found.value, self.format(**properties))
            return found
        shape = {"num_format": found.shape} if found.shape else {}
        if found.kind == "time":
            shape["align"] = "left"  # a day reads like a word
        elif found.kind == "number" and "align" not in properties:
            properties |= NUMBER
        style = self.format(**(shape | properties))
        if found.kind == "number":
            sheet.write_number(row, place, found.value, style)
        elif found.kind == "yes":
            sheet.write_boolean(row, place, found.value, style)
        elif found.kind == "time":
            sheet.write_datetime(row, place, found.value, style)
        elif properties:
            sheet.write_blank(row, place, None, style)
        return found

    def formula(self, sheet: Worksheet, row: int, place: int, formula: str, value: object, **properties: Any) -> None:
        """Write a live formula with the value that it has now, which readers show that do not compute."""
        found = cells.cell(value)
        now: Any = "" if found.value is None else found.value
        if found.kind == "time":
            now = (now - date(1899, 12, 30)).days
            properties = {"num_format": found.shape, "align": "left", **properties}
        elif found.kind == "number" and "align" not in properties:
            properties |= NUMBER
        sheet.write_formula(row, place, formula, self.format(**properties), now)

    def table(
        self,
        name: str,
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]],
        *,
        most: int = MOST_ROWS,
        empty: str = "There are no records.",
    ) -> int:
        """Rows below a header that stays, with filters and widths by content; returns how many there were.

        Args:
            name: of the sheet; further sheets are called `name (2)` and so on.
            columns: the headings; a column of times with zones says UTC.
            rows: values in the order of the columns; read once, held in memory only by the thousand.
            most: rows of one sheet.
            empty: the sentence that stands for a table without a row.

        Raises:
            UsageError: more columns than a sheet holds.
        """
        if len(columns) > MOST_COLUMNS:
            raise UsageError(
                f"{len(columns):,} columns do not fit a sheet.", why=f"Excel has {MOST_COLUMNS:,}.",
                todo="Take fewer columns.",
            )  # fmt: skip
        following = iter(rows)
        begun = list(islice(following, LOOKED_AT))
        in_utc = {place for place in range(len(columns)) if any(cells.zoned(row[place]) for row in begun)}
        headings = [f"{name} (UTC)" if place in in_utc else name for place, name in enumerate(columns)]
        numeric = {place for place in range(len(columns)) if _numeric([row[place] for row in begun])}
        waiting: Iterator[Sequence[Any]] = chain(begun, following)
        total, part = 0, 1
        sheet, done = self._part(name, headings, numeric, waiting, in_utc, most, empty)
        total += done
        first_of_next = next(waiting, None) if done == most else None
        while first_of_next is not None:
            part += 1
            waiting = chain([first_of_next], waiting)
            sheet, done = self._part(f"{name} ({part})", headings, numeric, waiting, in_utc, most, empty)
            self._said.append(
                f"{name}: more than {most:,} rows do not fit one sheet; it goes on in {sheet.get_name()}."
            )
            total += done
            first_of_next = next(waiting, None) if done == most else None
        return total

    def _part(
        self,
        name: str,
        headings: Sequence[str],
        numeric: set[int],
        rows: Iterator[Sequence[Any]],
        in_utc: set[int],
        most: int,
        empty: str,
    ) -> tuple[Worksheet, int]:
        sheet = self.sheet(name)
        self.heading(sheet, 0, headings, numeric)
        widths = [_heading_width(text) for text in headings]
        done = 0
        for done, row in enumerate(islice(rows, most), start=1):
            for place, value in enumerate(row):
                if place not in in_utc and cells.zoned(value):  # the heading is written already, so the cell says it
                    value = f"{cells.written(value)} UTC"
                widths[place] = max(widths[place], self.write(sheet, done, place, value).width)
        if not done:
            self.write(sheet, 1, 0, empty, font_color=QUIET, italic=True)
        self.finish(sheet, 0, done, widths)
        return sheet, done

    def heading(
        self, sheet: Worksheet, row: int, headings: Sequence[str], numeric: Container[int] = (), **properties: Any
    ) -> None:
        """The headings of a table; those of numbers stand to the right, as their numbers do."""
        if any(len(text) > LINE for text in headings):
            sheet.set_row(row, 28)  # two lines; not every program makes the row higher by itself
        for place, text in enumerate(headings):
            style = self.head(**(NUMBER if place in numeric else {}), **properties)
            sheet.write_string(row, place, cells.clean(text)[:255], style)

    def finish(self, sheet: Worksheet, header: int, last: int, widths: Sequence[int]) -> None:
        """What a table has once its rows are written: a header that stays and is printed on each page, filters, widths.

        Args:
            sheet: its sheet.
            header: the row of the header.
            last: the row of the last record; the header's where there is none.
            widths: in characters, of each column.
        """
        sheet.freeze_panes(header + 1, 0)
        sheet.repeat_rows(header)
        if widths:
            sheet.autofilter(header, 0, max(last, header), len(widths) - 1)
        for place, width in enumerate(widths):
            sheet.set_column(place, place, min(max(width + 1, NARROWEST), WIDEST))

    def remark(self, text: str) -> None:
        """Something that whoever reads the workbook must know; it stands on a sheet of its own at the end."""
        if text not in self._said:
            self._said.append(text)

    def say_what_was_lost(self) -> None:
        """The sheet Notes, where there is something to say: rows that went on elsewhere, texts cut, digits kept as text."""
        for (sheet, lost), count in self._lost.items():
            cells_are = "1 cell" if count == 1 else f"{count:,} cells"
            self._said.append(
                f"{sheet}: {cells_are} held more than {cells.MOST_CHARACTERS:,} characters; each says where it was cut."
                if lost == "cut"
                else f"{sheet}: {cells_are} held numbers of more than {cells.EXACT_DIGITS} digits; they are kept as text."
            )
        if not self._said:
            return
        sheet = self.sheet("Notes", landscape=False)
        sheet.write_string(0, 0, "What to know of this workbook", self.head())
        for row, text in enumerate(self._said, start=1):
            self.write(sheet, row, 0, text, text_wrap=True)
        sheet.set_column(0, 0, 100)


def sheet_name(text: str, taken: Iterable[str] = ()) -> str:
    """A name that Excel lets a sheet have, unlike those that are taken: at most 31 characters, none of []:*?/\\.

    >>> sheet_name("a/b: [c]"), sheet_name(""), sheet_name("History"), sheet_name("x" * 40, ["x" * 31])[-6:]
    ('a-b- -c-', 'Sheet', 'History-', 'xx (2)')
    """
    named = re.sub(r"[\[\]:*?/\\\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff\U00010000-\U0010ffff]", "-", text)
    named = named[:NAME_LETTERS].strip("' ") or "Sheet"
    named = f"{named}-" if named.casefold() == "history" else named  # Excel keeps this name for itself
    used = {name.casefold() for name in taken}
    found, number = named, 1
    while found.casefold() in used:
        number += 1
        ending = f" ({number})"
        found = named[: NAME_LETTERS - len(ending)].rstrip("' ") + ending
    return found


def _numeric(values: Sequence[object]) -> bool:
    held = [cells.cell(value).kind for value in values if value is not None]
    return bool(held) and set(held) == {"number"}


def _heading_width(text: str) -> int:
    longest = max((len(word) for word in text.split()), default=0)
    return max(longest, min(len(text), LINE)) + 3  # room for the filter's arrow
