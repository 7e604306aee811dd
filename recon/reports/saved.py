"""The target's records as they are now, as a file: how people whose target is a file take their linked records home."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any

import psycopg
from psycopg import sql
from sqlglot import exp

from recon.database import relations
from recon.database.connect import Database, Session
from recon.database.relations import Relation
from recon.errors import VEIL, ReconError, UsageError
from recon.names import DIALECT, column
from recon.reports import cells, sheets
from recon.reports.whole import written
from recon.sources.opened import library
from recon.spec import Reconciliation
from recon.spec_parts import file_kind
from recon.workspace import Workspace

FETCH_ROWS = 5_000  # held in memory at once
GROUP_ROWS = 100_000  # of a Parquet file's groups, the most that a reader of one takes at once
ENDINGS = (".csv", ".tsv", ".txt", ".parquet", ".xlsx")


@dataclass(frozen=True)
class Saved:
    """A file that was written.

    Args:
        reconciliation: whose target it is.
        file: where it is.
        records: how many it holds.
        linked: how many of them hold a link; None: the spec has none.
        veiled: the columns whose values are not in it, for they are private.
    """

    reconciliation: str
    file: str
    records: int
    linked: int | None
    veiled: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def save(database: Database, workspace: Workspace, name: str, to: Path | None = None) -> Saved:
    """Write the target's records, all of them, in the order of their keys.

    Args:
        database: where they are.
        workspace: where the spec is.
        name: the reconciliation.
        to: the file; by its ending it is CSV, Parquet or a workbook. None: reports/NAME.csv in the workspace.

    Raises:
        UsageError: the file is one that a spec reads, or cannot hold the records.
        NotLoaded: the target is a file that was never loaded.
        MissingExtra: a library for this kind of file is not installed.
    """
    spec = workspace.spec(name)
    path = to or workspace.reports / f"{name}.csv"
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"recon does not write files like {path.name}.", todo=f"Use one of {', '.join(ENDINGS)}.")
    if file_kind(path.name) == "parquet":
        library("pyarrow", path.name)  # asked for before work starts
    _refuse_input(workspace, path)
    if to is None:
        path.parent.mkdir(parents=True, exist_ok=True)
    veiled = () if workspace.sees_private else tuple(spec.target.private)
    with database.session(read_only=True) as session:
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")  # counted and written at one moment
        session.users_path()
        records = relations.records(session, spec, "t")
        total, linked = _counted(session, spec, records)
        query = _query(spec, records, veiled)
        session.plain_path()
        write = {"text": _text, "parquet": _parquet, "workbook": _workbook}[file_kind(path.name)]
        with written(path, "--to") as half:
            write(_Asked(session, spec, records, query, veiled, total), half)
    return Saved(name, str(path), total, linked, veiled)


@dataclass(frozen=True)
class _Asked:
    session: Session
    spec: Reconciliation
    records: Relation
    query: str
    veiled: tuple[str, ...]
    total: int

    def rows(self) -> Iterator[Sequence[Any]]:
        """The records little by little."""
        with psycopg.RawServerCursor[tuple[Any, ...]](self.session.driver, "saved") as cursor:
            cursor.itersize = FETCH_ROWS
            cursor.execute(self.query.encode())
            yield from cursor


def _refuse_input(workspace: Workspace, path: Path) -> None:
    """Raises UsageError where a spec of the workspace reads this file: nobody's input is ever written over."""
    for name in workspace.reconciliations():
        try:
            spec = workspace.spec(name)
        except ReconError:  # a spec that cannot be read reads nothing
            continue
        for side in (spec.target, spec.source):
            if side.file and (place := workspace.root / side.file).exists() and path.exists() and path.samefile(place):
                raise UsageError(
                    f"{path} is what {name} is loaded from.",
                    why="A file that people brought is never written over.",
                    todo="Name another file with --to.",
                )


def _counted(session: Session, spec: Reconciliation, records: Relation) -> tuple[int, int | None]:
    """How many records there are, and how many of them hold a link."""
    counts: list[exp.Expr] = [exp.Count(this=exp.Star())]
    if spec.link and spec.link.column in records.columns:
        counts.append(exp.Count(this=column("t", spec.link.column)))
    found = session.rows(exp.Select(expressions=counts).from_(records.aliased("t")).sql(DIALECT))[0]
    return found[0], found[1] if len(found) > 1 else None


def _query(
    spec: Reconciliation, records: Relation, veiled: Sequence[str], as_text: Collection[str] = frozenset[str]()
) -> str:
    def shown(name: str) -> exp.Expr:
        value = column("t", name)
        if name not in veiled:
            return exp.alias_(exp.cast(value, "text"), name, quoted=True) if name in as_text else value
        absent = exp.Is(this=value.copy(), expression=exp.Null())
        return exp.alias_(
            exp.Case(ifs=[exp.If(this=absent, true=exp.Null())], default=exp.Literal.string(VEIL)), name, quoted=True
        )

    query = exp.Select(expressions=[shown(name) for name in records.columns]).from_(records.aliased("t"))
    return query.order_by(*(column("t", key) for key in spec.target.keys)).sql(DIALECT)


# -- CSV -------------------------------------------------------------------------------------------------


def _text(asked: _Asked, path: Path) -> None:
    """As CSV in the form of the target's own file, as the server writes values; an empty text is quoted, NULL is not."""
    side = asked.spec.target
    own = side.file is not None and file_kind(side.file) == "text"
    encoding, delimiter = (side.encoding, side.delimiter) if own else ("utf-8", ",")
    if not delimiter.isascii():  # the server writes one byte between fields
        delimiter = ","
    copy = sql.SQL("COPY ({}) TO STDOUT (FORMAT csv, HEADER, ENCODING 'UTF8', DELIMITER {})").format(
        sql.SQL(asked.query),  # pyright: ignore[reportArgumentType] (built as a tree)
        sql.Literal(delimiter),
    )
    with path.open("wb") as file, asked.session.driver.cursor() as cursor, cursor.copy(copy) as blocks:
        put = _encoder(file, encoding)
        try:
            for block in blocks:
                put(bytes(block), False)
            put(b"", True)
        except UnicodeEncodeError as error:
            raise UsageError(
                f"The records cannot be written in {encoding}.",
                why=f'It has no "{error.object[error.start]}".',
                todo="Write a workbook (--to FILE.xlsx), or change `encoding`.",
            ) from error


def _encoder(file: IO[bytes], encoding: str) -> Callable[[bytes, bool], object]:
    """What writes bytes of UTF-8 in another encoding, the last ones with True."""
    read, write = codecs.getincrementaldecoder("utf-8")(), codecs.getincrementalencoder(encoding)()

    def put(block: bytes, last: bool) -> None:
        file.write(write.encode(read.decode(block, last), last))

    return put


# -- Excel -----------------------------------------------------------------------------------------------


# What a cell holds as PostgreSQL does; values of all other types are written as the server writes them.
_CELLS = frozenset("int2 int4 int8 float4 float8 numeric bool date timestamp text varchar bpchar name".split())
_MILLISECOND = 1_000  # in microseconds: a cell's time has no smaller part


def _workbook(asked: _Asked, path: Path) -> None:
    if asked.total > sheets.MOST_ROWS:
        raise UsageError(
            f"{asked.total:,} records do not fit a sheet.", why=f"Excel has {sheets.MOST_ROWS:,} rows for them.",
            todo="Write CSV or Parquet.",
        )  # fmt: skip
    names = list(asked.records.columns)
    others = {name for name in names if asked.records.columns[name] not in _CELLS}
    asked = replace(asked, query=_query(asked.spec, asked.records, asked.veiled, others))
    with path.open("wb") as file, sheets.workbook(file, asked.spec.title or asked.spec.name) as book:
        book.table(asked.spec.name, names, ([_in_full(value) for value in row] for row in asked.rows()), empty="")


def _in_full(value: Any) -> Any:
    """The value, or its text where a cell would lose a part of it."""
    if isinstance(value, float) and float(f"{value:.{cells.EXACT_DIGITS}g}") != value:
        return repr(value)
    if isinstance(value, datetime) and value.microsecond % _MILLISECOND:
        return cells.written(value)
    return value


# -- Parquet ---------------------------------------------------------------------------------------------

# How Arrow calls types that it holds as PostgreSQL does; values of all others are written as text.
_ARROW = {
    "int2": "int16", "int4": "int32", "int8": "int64", "float4": "float32", "float8": "float64", "bool": "bool_",
    "date": "date32", "bytea": "binary",
}  # fmt: skip
_DIGITS = 38  # of a number in Parquet
_NUMERIC = re.compile(r"numeric\((\d+),(\d+)\)")


def _parquet(asked: _Asked, path: Path) -> None:
    arrow, parquet = library("pyarrow", path.name), library("pyarrow.parquet", path.name)
    names = list(asked.records.columns)
    kinds = {name: None if name in asked.veiled else _kind(arrow, asked.records, name) for name in names}
    schema = arrow.schema([(name, kinds[name] or arrow.string()) for name in names])
    query = _query(asked.spec, asked.records, asked.veiled, {name for name in names if kinds[name] is None})
    with parquet.ParquetWriter(path, schema) as writer:
        rows = replace(asked, query=query).rows()
        while batch := list(islice(rows, FETCH_ROWS)):
            columns = zip(*batch, strict=True)
            arrays = [_array(arrow, field, values) for field, values in zip(schema, columns, strict=True)]
            writer.write_batch(arrow.record_batch(arrays, schema=schema), row_group_size=GROUP_ROWS)


def _kind(arrow: Any, records: Relation, name: str) -> Any:
    """The Arrow type of a column; None: none holds its values as they are."""
    base, declared = records.columns[name], records.sql_types[name]
    if base in _ARROW:
        return getattr(arrow, _ARROW[base])()
    if base in ("timestamp", "timestamptz"):
        return arrow.timestamp("us", "UTC" if base == "timestamptz" else None)
    if base == "time":
        return arrow.time64("us")
    number = _NUMERIC.fullmatch(declared)
    if number and int(number[1]) <= _DIGITS:
        return arrow.decimal128(int(number[1]), int(number[2]))
    return None


def _array(arrow: Any, field: Any, values: Sequence[Any]) -> Any:
    try:
        return arrow.array(values, field.type)
    except (arrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise UsageError(
            f'The column "{field.name}" holds what Parquet cannot: a NaN, or a time without end.',
            todo="Write CSV, which holds all that PostgreSQL does.",
        ) from error
