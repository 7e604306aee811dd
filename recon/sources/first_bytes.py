"""What a file looks like by its first bytes, for where its name says otherwise."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from recon.errors import LoadFailed
from recon.spec_parts import RecordSet

LOOKED_AT = 4_096  # bytes
_NULS = 0.2  # of every other byte, so many are NUL in UTF-16 whose delimiters and digits are all that is Western
_MARKS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_AS_CSV = "Write its records as CSV, a workbook or Parquet, which recon reads."
_UNPACK = "Unpack it, and name the file that was in it."


@dataclass(frozen=True)
class Seen:
    """What a file looks like, and what may be done about it."""

    like: str
    todo: str


_BEGINNINGS: tuple[tuple[re.Pattern[bytes], Seen], ...] = tuple(
    (re.compile(pattern), Seen(like, todo))
    for pattern, like, todo in (
        (rb"%PDF-", "a PDF", "Ask for the table itself: as CSV, a workbook or Parquet."),
        (
            rb"\xd0\xcf\x11\xe0",
            "an old Excel workbook, or one with a password",
            "Give it a name that ends in .xls, or save it anew as .xlsx without a password.",
        ),
        (rb"PAR1[\x00-\x08\x0e-\x1f]", "Parquet", "Give it a name that ends in .parquet."),
        (rb"\x1f\x8b|BZh[1-9]1AY|\x28\xb5\x2f\xfd|\xfd7zXZ|7z\xbc\xaf", "a packed file", _UNPACK),
        # A quotation mark inside a field that is not quoted: no heading of a delimited text begins so.
        (rb'\s*(\[\s*)?\{\s*"|\s*\[\s*\[\s*"', "JSON", _AS_CSV),
        (
            rb"(?i)\s*<(!doctype\s+html|html)\b",
            "a web page",
            "Download it again: a page to sign in, or of an error, may have come in its place.",
        ),
        (rb"\s*<\?xml\b", "XML", _AS_CSV),
    )
)
_ZIPPED = (
    ("xl/", Seen("an Excel workbook", "Give it a name that ends in .xlsx.")),
    ("content.xml", Seen("an OpenDocument sheet", "Give it a name that ends in .ods.")),
)


def seen(path: Path) -> Seen | None:
    """What the file looks like; None where it may be a delimited text."""
    start = _start(path)
    if start.startswith(b"PK\x03\x04"):
        return _zipped(path)
    start = start.removeprefix(codecs.BOM_UTF8)
    return next((what for pattern, what in _BEGINNINGS if pattern.match(start)), None)


def utf_16(path: Path) -> str | None:
    """Which UTF-16 a text is in that has no mark at its beginning; None: in none."""
    start = _start(path)
    if len(start) < 2 or start.startswith(_MARKS):
        return None
    even, odd = start[0::2], start[1::2]
    for name, high, low in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        if 0 not in low and high.count(0) >= _NULS * len(high):
            return name
    return None


def refuse_other(path: Path, record_set: RecordSet) -> None:
    """Raises LoadFailed where a file that should be a delimited text looks like something else."""
    found = seen(path)
    if found:
        raise LoadFailed(
            f"{record_set.file} is no delimited text: it looks like {found.like}.",
            why="Its first bytes say so, whatever its name is.",
            todo=found.todo,
        )
    written, told = utf_16(path), record_set.encoding.lower().replace("_", "-")
    if written and told != written and (told, written) != ("utf-16", "utf-16-le"):
        raise LoadFailed(
            f"{record_set.file} is not in {record_set.encoding}: it looks like UTF-16 without a mark at its beginning.",
            why="Every other byte of its first characters is NUL.",
            todo=f"Say so with `encoding: {written}`, or save it as UTF-8.",
        )


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(LOOKED_AT)


def _zipped(path: Path) -> Seen:
    try:
        with ZipFile(path) as archive:
            names = archive.namelist()
    except BadZipFile:
        return Seen("a ZIP archive that was cut off", "Get the file again, as a whole.")
    for beginning, what in _ZIPPED:
        if any(name.startswith(beginning) for name in names):
            return what
    return Seen("a ZIP archive", _UNPACK)
