"""A file as a typed table: read once, checked by the server, and loaded whole or not at all.

Its values go to a temporary table first, as text and with the row of each record, whatever kind of file it is; the typed
table takes them in one statement. Only where that fails is it asked which values are to blame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from time import perf_counter

import psycopg
from psycopg import errors as pg_errors

from recon.database.connect import Database, Session
from recon.database.relations import Relation
from recon.errors import BadRows, LoadFailed, NotFound, NotLoaded, SchemaMismatch, SpecError, did_you_mean
from recon.names import DIALECT, identifier, quote
from recon.sources import delimited, parquet, raw_values, workbook, written
from recon.sources.delimited import of_delimiter, of_encoding
from recon.sources.kept import Links
from recon.sources.landing import Landing, Loaded, marked, shape, widened
from recon.sources.opened import Broken, Opened
from recon.sources.raw_values import Raw
from recon.spec import Reconciliation
from recon.spec_parts import RecordSet, file_kind

SHOWN_ROWS = 20  # bad rows that are told one by one; of all there is the count
TOLD_EVERY = 20_000  # records between two signs of progress

# Types of which an empty text is no value.
NEVER_EMPTY = frozenset(
    ("int2", "int4", "int8", "numeric", "float4", "float8", "bool", "date", "timestamp", "timestamptz", "time", "uuid")
)

Progress = Callable[[int, int], None]  # how far reading is, and how far it goes: bytes of a text, rows of another file


def load(
    database: Database,
    root: Path,
    record_set: RecordSet,
    progress: Progress = lambda _done, _all: None,
    specs: Sequence[Reconciliation] = (),
) -> Loaded:
    """Replace the records of a file's table by those that the file holds now, all or nothing.

    The columns that a backfill writes are there whether the file has them or not. What is in them stays with its key
    where the file says nothing: where it lacks the column, or has nothing in it.

    Args:
        database: where the table is.
        root: the workspace's folder, which the file is in.
        record_set: the side of a spec that names the file.
        progress: is told how far reading is, and how far it goes.
        specs: those whose target it is.

    Raises:
        NotFound: there is no such file.
        SpecError: the file is not in the workspace, or its encoding, delimiter, columns or types cannot be.
        BadRows: some rows are not as they should be; names the first by line, and counts all.
        LoadFailed: the file holds nothing; or the table refuses rows for a reason of its own.
        AlreadyExists: the table holds records that recon did not load.
        NotLoaded: the source is not there yet, from which a column that the file lacks takes its type.
        SchemaMismatch: what a backfill wrote could not be kept, for the key or the types changed.
    """
    assert record_set.file is not None
    assert record_set.landing is not None
    began = perf_counter()
    path = located(root, record_set.file)
    with opened(path, record_set) as file, database.session() as session:
        session.users_path()
        before = marked(session, record_set.landing)
        names = list(dict.fromkeys([*written.names(specs), *before]))
        columns = _columns(file, record_set, names)
        wanted = _shape(session, columns, names, specs, before)
        landing = Landing(record_set.landing, wanted, record_set.keys, record_set.file, names)
        landing.refuse_foreign(session)
        here = [name for name in columns if name in file.heading]
        raw = Raw(session, wanted.only(here), record_set.keys, frozenset(record_set.private), file.row)
        links = {spec.link.column for spec in specs if spec.link}
        filled = [name for name in here if name in links or wanted.columns[name] in NEVER_EMPTY]
        rows, broken, count = _copied(raw, file, here, frozenset(filled), lambda: progress(*file.far()))
        became = None if broken else _filled(session, raw, landing)
        if became is None:
            _refuse(record_set, raw, broken, count, rows, file.row)
    return Loaded(record_set.landing, rows, perf_counter() - began, became if names else None)


def _shape(
    session: Session,
    columns: Mapping[str, str | None],
    names: Sequence[str],
    specs: Sequence[Reconciliation],
    before: Mapping[str, str],
) -> Relation:
    """The columns that the table will have: those of the file, and `names`, which backfills write.

    Args:
        before: those of `names` that the table has by now, and of what types.
    """
    wanted = shape(session, {name: text for name, text in columns.items() if text is not None})
    asked = written.names(specs)
    for name in names:
        if columns.get(name) is not None:
            continue
        try:
            text = written.kind(session, specs, name, wanted) if name in asked else before[name]
        except (NotLoaded, SchemaMismatch):
            if name not in before:
                raise
            text = before[name]
        wanted = widened(session, wanted, {name: text})
    return wanted


def opened(path: Path, record_set: RecordSet) -> AbstractContextManager[Opened]:
    """A file, opened by what its name says it is.

    Args:
        path: where it is.
        record_set: the side of a spec that names it, and says how it is written.

    Raises:
        SpecError: its encoding, delimiter or sheet cannot be.
        LoadFailed: it cannot be read, or has no heading.
        MissingExtra: a library for this kind of file is not installed.
    """
    kinds = {"text": delimited.opened, "parquet": parquet.opened, "workbook": workbook.opened}
    return kinds[file_kind(path.name)](path, record_set)


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


def _columns(file: Opened, record_set: RecordSet, names: Sequence[str]) -> Mapping[str, str | None]:
    """The columns to load and their types; None: the type of what a backfill writes there.

    Args:
        file: has a heading, and may say types.
        record_set: asks for columns, or for none of them by name.
        names: of the columns that a backfill writes; those that the file has are loaded too.

    Raises:
        SpecError: the file does not have them, once each.
    """
    heading = list(file.heading)
    asked: dict[str, str | None] = {**record_set.columns} or {
        name: None if name in names else file.types.get(name, "text") for name in heading
    }
    asked |= {name: None for name in names if name in heading and name not in asked}
    for name in asked:
        if not name:
            raise SpecError(
                f"{record_set.file}: heading {heading.index(name) + 1:,} is empty.",
                todo="Give the column a name in the file, or say with `columns` which ones to load.",
            )
        identifier(name)
        if name not in heading and name not in names:
            raise SpecError(
                f'{record_set.file} has no column "{name}".',
                why=of_delimiter(heading) or did_you_mean(name, heading) or f"It has: {', '.join(heading)}.",
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


def _copied(
    raw: Raw, file: Opened, names: Sequence[str], filled: frozenset[str], tell: Callable[[], None]
) -> tuple[int, list[tuple[int, str]], int]:
    """Send the records to the server; returns how many rows there are, the first broken ones, and how many of these.

    Args:
        filled: columns in which an empty text is no value: exports that quote every field write "" for nothing.
    """
    heading = list(file.heading)
    places = [heading.index(name) for name in names]
    width, as_they_are = len(heading), places == list(range(len(heading)))
    broken: list[tuple[int, str]] = []
    rows = count = 0
    with raw.copying() as write:
        for line, fields in file.records(names):
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
                chosen = fields if as_they_are else [fields[place] for place in places]
                if "" in chosen:
                    chosen = [
                        None if field == "" and name in filled else field
                        for name, field in zip(names, chosen, strict=True)
                    ]
                write((line, *chosen))
                continue
            count += 1
            if len(broken) < SHOWN_ROWS:
                broken.append((line, wrong.reason))
    tell()
    return rows, broken, count


def _filled(session: Session, raw: Raw, landing: Landing) -> Links | None:
    """Fill the table anew; None where some value does not fit, and then it is as it was."""
    try:
        with session.driver.transaction():
            table, kept = landing.emptied(session)
            session.plain_path()
            values = raw.converted()
            joined = kept.join([values[key] for key in landing.keys])
            for name in kept.columns:
                given, held = values.get(name), kept.value(name)
                values[name] = f"coalesce({given}, {held})" if given else held
            names = ", ".join(map(quote, values))
            into = f"INSERT INTO {table.tree.sql(DIALECT)} ({names})"
            session.execute(f"{into} SELECT {', '.join(values.values())} FROM {raw_values.TABLE}{joined}")  # noqa: S608
            if raw.loses(session):
                raise psycopg.Rollback
            session.execute(f"ANALYZE {table.tree.sql(DIALECT)}")
            return kept.links(session, table)
    except (pg_errors.DataError, pg_errors.IntegrityError) as error:
        raw.refusal = error
    return None


def _refuse(
    record_set: RecordSet, raw: Raw, broken: Sequence[tuple[int, str]], broken_count: int, rows: int, row: str
) -> None:
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
        row=row,
        todo=of_encoding(" ".join(reason for _, reason in broken), record_set)
        or "Correct the rows in the file, or the types in `columns`.",
    )
