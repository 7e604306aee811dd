"""The records of one sheet of a workbook: a cell's value as its author means it, and the row that people see beside it."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zipfile import BadZipFile, ZipFile

from recon.errors import LoadFailed, SpecError, did_you_mean
from recon.sources.opened import Broken, Fields, Opened, library, unstorable
from recon.spec_parts import RecordSet

EXACT = 2**53  # up to here a cell holds a whole number exactly; beyond, some 15 digits of it
DIGITS = 15  # that Excel itself shows of a number; the rest is noise of binary fractions
_CHUNK, _LONGEST = 1 << 20, 1 << 16  # bytes read at once, and of the longest cell with an error: it may hold a formula
# A cell that holds an error: where it is, and which one. Libraries give an empty cell for it.
_ERROR = re.compile(rb'<(?:\w+:)?c\b([^>]*\bt="e"[^>]*)>(.*?)</(?:\w+:)?c>', re.DOTALL)
_PLACE = re.compile(rb'\br="([A-Z]+)([0-9]+)"')
_VALUE = re.compile(rb"<(?:\w+:)?v>(.*?)</(?:\w+:)?v>", re.DOTALL)
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"

# What tells how far a sheet reaches: the number of a row, and a cell right of column Z.
_REACH = re.compile(rb'<(?:\w+:)?row\b[^>]*\br="([0-9]+)"|<(?:\w+:)?c\b[^>]*\br="([A-Z]{2,3})[0-9]')
_LETTERS = 26
MOST_CELLS = 50_000_000  # between the corners of a sheet: the library takes 32 bytes for each, empty or not

Errors = dict[int, dict[int, str]]  # by row, from 1, and column, from 0


@contextmanager
def opened(path: Path, record_set: RecordSet) -> Generator[Opened]:
    """A sheet of a workbook, held in memory as a whole.

    Its heading is the first row that is not blank. Columns without a name and without a value are none.

    Raises:
        SpecError: there is no such sheet.
        LoadFailed: it cannot be read, or has no heading.
        MissingExtra: the library that reads it is not installed.
    """
    calamine = library("python_calamine", path.name)
    try:
        with calamine.CalamineWorkbook.from_path(path) as book:
            name = _sheet(calamine, book, record_set)
            errors = _errors(path, name, record_set) if path.suffix.lower() in (".xlsx", ".xlsm") else {}
            sheet = book.get_sheet_by_name(name)
    except calamine.PasswordError as error:
        raise LoadFailed(
            f"{record_set.file} is locked with a password.", todo="Save it without one, and load again."
        ) from error
    except (calamine.CalamineError, BadZipFile, ElementTree.ParseError, KeyError) as error:
        raise LoadFailed(
            f"{record_set.file} cannot be read as a workbook; nothing was loaded.",
            why=f"The library says: {str(error).splitlines()[0] if str(error) else type(error).__name__}.",
            todo="Open it and save it again, as .xlsx. If it is a delimited text, give it a name that ends in .csv.",
        ) from error
    left = sheet.start[1] if sheet.start else 0
    rows = enumerate(sheet.iter_rows(), 1)
    heading = next((_texts(row) for _, row in rows if any(cell != "" for cell in row)), None)
    if heading is None:
        raise LoadFailed(f"{record_set.file}: the sheet {name} is empty.", todo="Name another one with `sheet`.")
    used = _used(sheet, heading)
    done, every = [0], int(sheet.total_height)
    names = [heading[place] or "" for place in used]
    yield Opened(names, lambda _: _records(rows, used, errors, left, done), lambda: (done[0], every))


def _sheet(calamine: Any, book: Any, record_set: RecordSet) -> str:
    """The name of the sheet that is meant."""
    shown = [
        item.name
        for item in book.sheets_metadata
        if item.visible == calamine.SheetVisibleEnum.Visible and item.typ == calamine.SheetTypeEnum.WorkSheet
    ]
    asked = record_set.sheet
    if asked is not None and asked in book.sheet_names:
        return asked
    if asked is not None:
        raise SpecError(
            f'{record_set.file} has no sheet "{asked}".',
            why=did_you_mean(asked, book.sheet_names) or f"It has: {', '.join(book.sheet_names)}.",
            todo="Correct `sheet`: names are written as in the file, capitals too.",
        )
    if not shown:
        raise LoadFailed(f"{record_set.file} has no sheet that can be seen.", todo="Name one with `sheet`.")
    return shown[0]


def _used(sheet: Any, heading: Fields) -> list[int]:
    """The places of the columns that have a name, or some value below."""
    nameless = {place for place, name in enumerate(heading) if not name}
    for row in sheet.iter_rows() if nameless else ():
        nameless -= {place for place in nameless if row[place] != ""}
    return [place for place in range(len(heading)) if place not in nameless]


def _records(
    rows: Iterator[tuple[int, list[Any]]], used: Sequence[int], errors: Errors, left: int, done: list[int]
) -> Iterator[tuple[int, Fields | Broken]]:
    for number, row in rows:
        done[0] = number
        wrong = errors.get(number)
        found = next((place for place, cell in enumerate(used) if wrong and left + cell in wrong), None)
        if wrong and found is not None:
            yield number, Broken(f"the cell holds the error {wrong[left + used[found]]}", found)
            continue
        fields = _texts(row[place] for place in used)
        if any(field is not None for field in fields):  # a blank row is no record
            yield number, unstorable(fields) or fields


def _texts(row: Iterator[Any] | Sequence[Any]) -> Fields:
    return [cell if cell.__class__ is str and cell else _text(cell) for cell in row]


def _text(cell: Any) -> str | None:
    """A cell's value as PostgreSQL reads it.

    >>> [_text(cell) for cell in (12.0, 0.1 + 0.2, 1e-7, -0.0, 1234567890123456.0, 1e20, True, "")]
    ['12', '0.3', '0.0000001', '0', '1234567890123456', '100000000000000000000', 'true', None]
    >>> [_text(cell) for cell in (date(2026, 1, 31), datetime(2026, 1, 31, 13, 45), time(9, 30), timedelta(hours=36))]
    ['2026-01-31', '2026-01-31 13:45:00', '09:30:00', '36:00:00']
    """
    if isinstance(cell, str):
        return cell or None
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, int):
        return str(cell)
    if isinstance(cell, float):
        return _number(cell)
    if isinstance(cell, datetime):
        return cell.isoformat(sep=" ")
    if isinstance(cell, date | time):
        return cell.isoformat()
    if isinstance(cell, timedelta):
        whole, seconds = divmod(abs(cell), timedelta(hours=1))
        minutes, rest = divmod(seconds, timedelta(minutes=1))
        return f"{'-' if cell < timedelta() else ''}{whole}:{minutes:02}:{f'{rest.total_seconds():09.6f}'.removesuffix('.000000')}"  # fmt: skip
    return None if cell is None else str(cell)


def _number(value: float) -> str:
    if value.is_integer() and abs(value) < EXACT:
        return str(int(value))
    text = repr(value) if value.is_integer() else f"{value:.{DIGITS}g}"
    return format(Decimal(text), "f")


# -- cells that hold an error ----------------------------------------------------------------------------


def _errors(path: Path, sheet: str, record_set: RecordSet) -> Errors:
    """The cells of a sheet that hold an error such as #N/A, read from the file itself.

    Raises:
        LoadFailed: the sheet reaches so far that it would not fit into memory; the library would end the process.
    """
    found: Errors = {}
    rows, columns = 1, _LETTERS
    with ZipFile(path) as archive, archive.open(_part(archive, sheet)) as part:
        rest = b""
        while chunk := part.read(_CHUNK):
            text = rest + chunk
            for row, letters in _REACH.findall(text):
                rows, columns = (max(rows, int(row)), columns) if row else (rows, max(columns, _column(letters) + 1))
            if rows * columns > MOST_CELLS:
                raise LoadFailed(
                    f"{record_set.file}: the sheet {sheet} reaches to row {rows:,} and column {columns:,}.",
                    why="So many cells do not fit into memory, though most of them may be empty: perhaps one stands far"
                    " outside the others.",
                    todo="Delete the empty rows and columns around the records, or save the sheet as CSV.",
                )
            end = 0
            for match in _ERROR.finditer(text):
                end = match.end()
                place, value = _PLACE.search(match[1]), _VALUE.search(match[2])
                if place:
                    said = value[1].decode(errors="replace") if value else "#N/A"
                    found.setdefault(int(place[2]), {})[_column(place[1])] = said
            rest = text[max(end, len(text) - _LONGEST) :]
    return found


def _column(letters: bytes) -> int:
    """The number of a column, from 0.

    >>> _column(b"A"), _column(b"Z"), _column(b"AA")
    (0, 25, 26)
    """
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number - 1


def _part(archive: ZipFile, sheet: str) -> str:
    """Where in the archive a sheet is. Raises KeyError where it is not."""
    book = ElementTree.fromstring(archive.read("xl/workbook.xml"))
    relation = next(
        node.attrib[_RELATION] for node in book.iter() if node.tag.endswith("}sheet") and node.get("name") == sheet
    )
    relations = ElementTree.fromstring(archive.read("xl/_rels/workbook.xml.rels"))
    target = next(node.attrib["Target"] for node in relations if node.get("Id") == relation)
    return target.lstrip("/") if target.startswith("/") else f"xl/{target}"
