"""The records of a delimited text, each with the line it starts on; what is no record is told and left behind.

Fields are read as RFC 4180 has them: a quoted field may hold line breaks, delimiters and doubled quotation marks. An
empty field is NULL, a quoted empty one is an empty text; where a text cannot stand, it is nothing. Blank lines hold
nothing.
"""

from __future__ import annotations

import codecs
import encodings.aliases
import re
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from typing import IO

from recon.errors import LoadFailed, SpecError, did_you_mean
from recon.sources import first_bytes
from recon.sources.opened import NUL, Broken, Fields, Opened
from recon.spec_parts import RecordSet

_MARK = "\ufeff"  # what a program may set at the beginning of a text to say how it is written
LONGEST = 16_000_000  # characters of one record; beyond, a quotation mark or the delimiter is surely not what it seems
UNDECODED = "recon.undecoded"  # the error handler of `codecs` that keeps each byte that is no text as U+DC00 and more


def _keep(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "".join(chr(0xDC00 + byte) for byte in error.object[error.start : error.end]), error.end


codecs.register_error(UNDECODED, _keep)

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_STRAY = "a quotation mark stands inside a field: such a field must be quoted, and the mark doubled"
_OPEN = "the quotation mark that opens a field is never closed"


@contextmanager
def opened(path: Path, record_set: RecordSet) -> Generator[Opened]:
    """A delimited text, read from its beginning.

    Raises:
        SpecError: its encoding or delimiter cannot be.
        LoadFailed: it looks like something else, or has no heading that could be read.
    """
    first_bytes.refuse_other(path, record_set)
    with path.open("rb") as file, _text(file, record_set) as stream:
        found = records(stream, record_set.delimiter, record_set.encoding)
        size = path.stat().st_size
        # Counted below the decoding, so it is a little ahead.
        yield Opened(_heading(found, record_set), lambda _: found, lambda: (file.tell(), size), row="line")


def _text(file: BufferedReader, record_set: RecordSet) -> TextIOWrapper:
    """The file as text, line breaks as they are. Raises SpecError where encoding or delimiter cannot be."""
    encoding, delimiter = record_set.encoding, record_set.delimiter
    if delimiter in '"\r\n':
        raise SpecError(f"{delimiter!r} cannot stand between fields.", todo="Name another `delimiter`.")
    try:
        return TextIOWrapper(file, encoding=encoding, errors=UNDECODED, newline="")
    except LookupError as error:
        near = did_you_mean(encoding.lower().replace("-", "_"), {*encodings.aliases.aliases.values()})
        raise SpecError(
            f'There is no encoding "{encoding}".', why=near, todo="Name one such as utf-8, utf-16 or cp1252."
        ) from error


def _heading(found: Iterator[tuple[int, Fields | Broken]], record_set: RecordSet) -> list[str]:
    """The names in the first record of a file."""
    name = record_set.file
    first = next(found, None)
    if first is None:
        raise LoadFailed(f"{name} is empty.", why="It has not even a heading.", todo="Export it again.")
    _, fields = first
    if isinstance(fields, Broken):
        raise LoadFailed(
            f"{name}: the heading cannot be read: {fields.reason}.", todo=of_encoding(fields.reason, record_set)
        )
    return [(field or "") for field in fields]


def of_delimiter(heading: Sequence[str]) -> str:
    """That the delimiter may be another one, where a heading looks like it; else nothing."""
    if len(heading) > 1:
        return ""
    for sign, word in ((";", "';'"), ("\t", '"\\t"'), ("|", "'|'"), (",", "','")):
        if sign in heading[0]:
            return f"The heading is one field and holds {word}: perhaps `delimiter: {word}`."
    return ""


def of_encoding(reason: str, record_set: RecordSet) -> str:
    """What may be done about bytes that are no text; nothing where that is not what is wrong."""
    if "byte 0x" not in reason:
        return ""
    if ("byte 0xFE" in reason or "byte 0xFF" in reason) and record_set.encoding.lower().startswith("utf-8"):
        return "It may be UTF-16: `encoding: utf-16`."
    return "Say with `encoding` how it is written: a Windows export is often cp1252."


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
            return Broken(NUL, place)
        if found:
            return Broken(f"byte 0x{ord(found[0]) - 0xDC00:02X} is no {encoding}", place)
    return None
