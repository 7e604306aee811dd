"""How a delimited file is written: its encoding and what stands between its fields, found out from its bytes."""

from __future__ import annotations

import codecs
import itertools
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path

from recon.sources import delimited, first_bytes
from recon.sources.opened import Broken

CHUNK = 1 << 20  # bytes decoded at a time
LOOKED_AT = 200  # records by which a delimiter is judged
DELIMITERS = (",", ";", "\t", "|")
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True)
class Written:
    """How a file is written, in the words of a spec."""

    encoding: str
    delimiter: str


def sniff(path: Path) -> Written:
    """Find out how a delimited file is written. Reads all of it once, a piece at a time."""
    encoding = _encoding(path)
    return Written(encoding, _delimiter(path, encoding))


def _encoding(path: Path) -> str:
    """By a mark at the beginning, or as UTF-16 without one; else UTF-8 if all of it is, else what Windows writes."""
    with path.open("rb") as file:
        start = file.read(4)
    for mark, encoding in _MARKS:
        if start.startswith(mark):
            return encoding
    if encoding := first_bytes.utf_16(path):
        return encoding
    return next((name for name in ("utf-8", "cp1252") if _decodes(path, name)), "latin-1")


def _decodes(path: Path, encoding: str) -> bool:
    decoder = codecs.getincrementaldecoder(encoding)()
    try:
        with path.open("rb") as file:
            while piece := file.read(CHUNK):
                decoder.decode(piece)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def _delimiter(path: Path, encoding: str) -> str:
    """The one by which most of the first records have as many fields as the heading, and more than one."""
    scores: list[tuple[float, int, str]] = []
    for mark in DELIMITERS:
        with path.open("rb") as file, TextIOWrapper(file, encoding, delimited.UNDECODED, newline="") as stream:
            found = [fields for _, fields in itertools.islice(delimited.records(stream, mark, encoding), LOOKED_AT)]
        widths = [0 if isinstance(fields, Broken) else len(fields) for fields in found]
        if widths and widths[0] > 1:
            scores.append((widths.count(widths[0]) / len(widths), widths[0], mark))
    return max(scores, key=lambda score: score[:2])[2] if scores else ","
