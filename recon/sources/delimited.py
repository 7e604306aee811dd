"""The records of a delimited text, each with the line it starts on; what is no record is told and left behind.

Fields are read as RFC 4180 has them: a quoted field may hold line breaks, delimiters and doubled quotation marks. An
empty field is NULL, a quoted empty one is an empty text. Blank lines hold nothing.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

_MARK = "\ufeff"  # what a program may set at the beginning of a text to say how it is written
LONGEST = 16_000_000  # characters of one record; beyond, a quotation mark or the delimiter is surely not what it seems
UNDECODED = "recon.undecoded"  # the error handler of `codecs` that keeps each byte that is no text as U+DC00 and more

Fields = list[str | None]


@dataclass(frozen=True)
class Broken:
    """What stands where a record should be, and why it is none."""

    reason: str
    field: int | None = None  # which one, from 0; None: the whole record


def _keep(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(UNDECODED, _keep)

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_STRAY = "a quotation mark stands inside a field: such a field must be quoted, and the mark doubled"
_OPEN = "the quotation mark that opens a field is never closed"


def records(stream: IO[str], delimiter: str, encoding: str) -> Iterator[tuple[int, Fields | Broken]]:
    """Each record with the number of the line it starts on, counted as an editor does.

    Args:
        stream: opened with `newline=""`, so that line breaks stay as they are, and the error handler UNDECODED.
        delimiter: one character; neither a quotation mark nor a line break.
        encoding: by which the stream is read, for what is said of a byte that is no text.
    """
    mark = re.escape(delimiter)
    quoted = '"(?:[^"]++|"")*+'
    piece = re.compile(f'{mark}({quoted}"|[^"{mark}\r\n]*+)')
    opening = re.compile(f'(?:(?:{quoted}"|[^"{mark}\r\n]*+){mark})*+{quoted}')

    def fields_of(record: str) -> Fields | Broken:
        pieces = piece.findall(delimiter + record)
        if sum(map(len, pieces)) + len(pieces) != len(record) + 1:  # something was skipped
            return Broken(_STRAY)
        return [item[1:-1].replace('""', '"') if item[:1] == '"' else item or None for item in pieces]

    ahead: deque[str] = deque()  # lines that were read for a record that was none
    number = 0
    while line := ahead.popleft() if ahead else stream.readline(LONGEST + 1):
        number += 1
        if number == 1:  # before a quoted field too
            line = line.removeprefix(_MARK)
        whole = line.rstrip("\r\n")
        more: list[str] = []
        fields: Fields | Broken
        if len(line) > LONGEST:
            yield number, Broken(f"the line is longer than {LONGEST:,} characters, and nothing after it was read")
            return
        if not whole:
            continue
        if '"' not in line:
            fields = [*whole.split(delimiter)]
            if "" in fields:
                fields = [field or None for field in fields]
        elif line.count('"') % 2:
            if opening.fullmatch(line):
                more = _until_closed(stream, ahead, len(line))
                whole = (line + "".join(more)).rstrip("\r\n")
                fields = fields_of(whole) if more else Broken(_OPEN)
            else:
                fields = Broken(_STRAY)
            if isinstance(fields, Broken):  # the lines below may be records of their own
                ahead.extendleft(reversed(more))
                more = []
        else:
            fields = fields_of(whole)
        if not isinstance(fields, Broken) and not (whole.isascii() and "\x00" not in whole):
            fields = _unstorable(fields, encoding) or fields
        yield number, fields
        number += len(more)


def _until_closed(stream: IO[str], ahead: deque[str], size: int) -> list[str]:
    """The lines up to the one that closes an open quotation mark; none where no line does, and all stay ahead."""
    more: list[str] = []
    while size <= LONGEST and (line := ahead.popleft() if ahead else stream.readline(LONGEST + 1)):
        more.append(line)
        size += len(line)
        if line.count('"') % 2:
            return more
    ahead.extendleft(reversed(more))
    return []


def _unstorable(fields: Fields, encoding: str) -> Broken | None:
    """What PostgreSQL could not hold, and in which field."""
    for place, field in enumerate(fields):
        found = _UNSTORABLE.search(field) if field else None
        if found and found[0] == "\x00":
            return Broken("it holds a NUL, which no text of PostgreSQL can", place)
        if found:
            return Broken(f"byte 0x{ord(found[0]) - 0xDC00:02X} is no {encoding}", place)
    return None
