"""A CSV file as a typed table: read once, checked by the server, and loaded whole or not at all.

The text goes to a temporary table first, with the line of each record; the typed table takes it in one statement. Only
where that fails is it asked which values are to blame.
"""

from __future__ import annotations

import encodings.aliases
from collections.abc import Callable, Iterator, Mapping, Sequence
from io import BufferedReader, TextIOWrapper
from pathlib import Path
from time import perf_counter

import psycopg
from psycopg import errors as pg_errors

from recon.database.connect import Database, Session
from recon.errors import BadRows, LoadFailed, NotFound, SpecError, did_you_mean
from recon.names import DIALECT, identifier, quote
from recon.sources import delimited, raw_values
from recon.sources.delimited import Broken, Fields
from recon.sources.landing import Landing, Loaded, shape
from recon.sources.raw_values import Raw
from recon.spec_parts import RecordSet

SHOWN_ROWS = 20  # bad rows that are told one by one; of all there is the count
TOLD_EVERY = 20_000  # records between two signs of progress

Progress = Callable[[int, int], None]  # bytes read, and how many there are


def load(
    database: Database, root: Path, record_set: RecordSet, progress: Progress = lambda _done, _all: None
) -> Loaded:
    """Replace the records of a file's table by those that the file holds now, all or nothing.

    Args:
        database: where the table is.
        root: the workspace's folder, which the file is in.
        record_set: the side of a spec that names the file.
        progress: is told how many bytes are read, and of how many.

    Raises:
        NotFound: there is no such file.
        SpecError: the file is not in the workspace, or its encoding, delimiter, columns or types cannot be.
        BadRows: some rows are not as they should be; names the first by line, and counts all.
        LoadFailed: the file holds nothing; or the table refuses rows for a reason of its own.
        AlreadyExists: the table holds records that recon did not load.
    """
    assert record_set.file is not None
    assert record_set.landing is not None
    began = perf_counter()
    path = located(root, record_set.file)
    with path.open("rb") as file, _text(file, record_set) as stream:
        found = delimited.records(stream, record_set.delimiter, record_set.encoding)
        heading = _heading(found, record_set)
        columns = _columns(heading, record_set)
        with database.session() as session:
            session.users_path()
            wanted = shape(session, columns)
            landing = Landing(record_set.landing, wanted, record_set.keys, record_set.file)
            landing.refuse_foreign(session)
            raw = Raw(session, wanted, record_set.keys, frozenset(record_set.private))
            size = path.stat().st_size

            def tell() -> None:  # counted below the decoding, so it is a little ahead
                progress(file.tell(), size)

            rows, broken, count = _copied(raw, found, heading, list(columns), tell)
            loaded = 0 if broken else _filled(session, raw, landing)
            if loaded is None or broken:
                _refuse(record_set, raw, broken, count, rows)
    return Loaded(record_set.landing, rows, perf_counter() - began)


def located(root: Path, name: str) -> Path:
    """The file of this name in the workspace.

    Raises:
        SpecError: the name leads out of the workspace.
        NotFound: there is no such file.
    """
    path = (root / name).resolve()
    if Path(name).is_absolute() or not path.is_relative_to(root.resolve()):
        raise SpecError(
            f"The file {name} is not in the workspace.",
            why="A spec names files relative to its workspace, so that it means the same on every machine.",
            todo="Copy or mount the file below the workspace, for instance into its folder bronze/.",
        )
    if not path.is_file():
        near = did_you_mean(path.name, (item.name for item in path.parent.glob("*") if item.is_file()))
        raise NotFound(
            f"There is no file {name} in the workspace.", why=near, todo=f"Put it at {path}, or correct `file`."
        )
    return path


def _text(file: BufferedReader, record_set: RecordSet) -> TextIOWrapper:
    """The file as text, line breaks as they are. Raises SpecError where encoding or delimiter cannot be."""
    encoding, delimiter = record_set.encoding, record_set.delimiter
    if delimiter in '"\r\n':
        raise SpecError(f"{delimiter!r} cannot stand between fields.", todo="Name another `delimiter`.")
    try:
        return TextIOWrapper(file, encoding=encoding, errors=delimited.UNDECODED, newline="")
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
            f"{name}: the heading cannot be read: {fields.reason}.", todo=_of_encoding(fields.reason, record_set)
        )
    return [(field or "") for field in fields]


def _columns(heading: Sequence[str], record_set: RecordSet) -> Mapping[str, str]:
    """The columns to load and their types. Raises SpecError where the file does not have them, once each."""
    asked = record_set.columns or dict.fromkeys(heading, "text")
    for name in asked:
        if not name:
            raise SpecError(
                f"{record_set.file}: heading {list(heading).index(name) + 1:,} is empty.",
                todo="Give the column a name in the file, or say with `columns` which ones to load.",
            )
        identifier(name)
        if name not in heading:
            raise SpecError(
                f'{record_set.file} has no column "{name}".',
                why=_of_delimiter(heading) or did_you_mean(name, heading) or f"It has: {', '.join(heading)}.",
                todo="Correct `columns`: names are written as in the file, capitals too.",
            )
        if heading.count(name) > 1:
            raise SpecError(
                f'{record_set.file} has {heading.count(name)} columns "{name}".',
                why="Nobody could tell which is meant.",
                todo="Rename all but one of them in the file.",
            )
    for key in record_set.keys:
        if key not in asked:
            raise SpecError(
                f'The key "{key}" is not among the columns of {record_set.file} that are loaded.',
                why=did_you_mean(key, asked),
                todo="Correct `key`, or add it to `columns`.",
            )
    return asked


def _of_delimiter(heading: Sequence[str]) -> str:
    if len(heading) > 1:
        return ""
    for sign, word in ((";", "';'"), ("\t", '"\\t"'), ("|", "'|'"), (",", "','")):
        if sign in heading[0]:
            return f"The heading is one field and holds {word}: perhaps `delimiter: {word}`."
    return ""


def _of_encoding(reason: str, record_set: RecordSet) -> str:
    if "byte 0x" not in reason:
        return ""
    if ("byte 0xFE" in reason or "byte 0xFF" in reason) and record_set.encoding.lower().startswith("utf-8"):
        return "It may be UTF-16: `encoding: utf-16`."
    return "Say with `encoding` how it is written: a Windows export is often cp1252."


def _copied(
    raw: Raw,
    found: Iterator[tuple[int, Fields | Broken]],
    heading: Sequence[str],
    names: Sequence[str],
    tell: Callable[[], None],
) -> tuple[int, list[tuple[int, str]], int]:
    """Send the records to the server; returns how many rows there are, the first broken ones, and how many of these."""
    places = [heading.index(name) for name in names]
    width, as_they_are = len(heading), places == list(range(len(heading)))
    broken: list[tuple[int, str]] = []
    rows = count = 0
    with raw.copying() as write:
        for line, fields in found:
            rows += 1
            if not rows % TOLD_EVERY:
                tell()
            if isinstance(fields, Broken):
                wrong = fields
                if fields.field is not None and fields.field < width:
                    wrong = Broken(f"{heading[fields.field]}: {fields.reason}")
            elif len(fields) != width:
                wrong = Broken(f"{len(fields):,} fields, where the heading has {width:,}")
            else:
                write((line, *(fields if as_they_are else [fields[place] for place in places])))
                continue
            count += 1
            if len(broken) < SHOWN_ROWS:
                broken.append((line, wrong.reason))
    tell()
    return rows, broken, count


def _filled(session: Session, raw: Raw, landing: Landing) -> int | None:
    """Fill the table anew; None where some value does not fit, and then it is as it was."""
    try:
        with session.driver.transaction():
            table = landing.emptied(session)
            session.plain_path()
            names = ", ".join(map(quote, landing.shape.columns))
            into = f"INSERT INTO {table.tree.sql(DIALECT)} ({names})"
            number = session.execute(f"{into} SELECT {raw.converted()} FROM {raw_values.TABLE}").rowcount  # noqa: S608
            if raw.loses(session):
                raise psycopg.Rollback
            session.execute(f"ANALYZE {table.tree.sql(DIALECT)}")
            return number
    except (pg_errors.DataError, pg_errors.IntegrityError) as error:
        raw.refusal = error
    return None


def _refuse(record_set: RecordSet, raw: Raw, broken: Sequence[tuple[int, str]], broken_count: int, rows: int) -> None:
    """Raises BadRows with what is wrong, in the order of the file."""
    wrong, count = raw.wrong(SHOWN_ROWS)
    count += broken_count
    if not count:  # a constraint or a trigger that somebody gave the table
        raise LoadFailed(
            f"{record_set.landing} does not take the records of {record_set.file}; it stays as it was.",
            why=raw.said(),
            todo="Look at the table's constraints and triggers.",
        )
    lines = sorted({line for line, _ in (*broken, *wrong)})[:SHOWN_ROWS]
    told = sorted([item for item in (*broken, *wrong) if item[0] in lines], key=lambda item: item[0])
    raise BadRows(
        f"{record_set.file}: {count:,} of {rows:,} rows {'is' if count == 1 else 'are'} not right. Nothing was loaded:"
        f" {record_set.landing} stays as it was.",
        told,
        count,
        todo=_of_encoding(" ".join(reason for _, reason in broken), record_set)
        or "Correct the rows in the file, or the types in `columns`.",
    )
