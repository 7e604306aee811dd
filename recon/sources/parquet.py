"""The records of a Parquet file, batch by batch: values as PostgreSQL reads them, and the types of the file's own schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recon.errors import LoadFailed
from recon.sources.opened import Broken, Fields, Opened, library, unstorable
from recon.spec_parts import RecordSet

ROWS = 5_000  # that are held in memory at once, beside what the file's pages need
_UTF8 = "it is no UTF-8"
_NANOSECONDS = "it would lose nanoseconds, which PostgreSQL does not keep"
_INTERVALS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds"}
_PLAIN = {
    "bool": "boolean", "int8": "smallint", "uint8": "smallint", "int16": "smallint", "uint16": "integer",
    "int32": "integer", "uint32": "bigint", "int64": "bigint", "uint64": "numeric(20,0)", "halffloat": "real",
    "float": "real", "double": "double precision", "string": "text", "large_string": "text", "string_view": "text",
    "binary": "bytea", "large_binary": "bytea", "binary_view": "bytea", "null": "text",
}  # fmt: skip

Texts = Sequence[str | Broken | None]  # the values of one column of a batch


@contextmanager
def opened(path: Path, record_set: RecordSet) -> Generator[Opened]:
    """A Parquet file, read from its beginning.

    Raises:
        LoadFailed: it is none, or damaged.
        MissingExtra: the library that reads it is not installed.
    """
    arrow = library("pyarrow", path.name)
    parquet = library("pyarrow.parquet", path.name)
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            kinds = {field.name: _type(arrow, field.type) for field in schema}
            done, every = [0], file.metadata.num_rows
            yield Opened(
                list(schema.names),
                lambda wanted: _records(arrow, file, wanted, done),
                lambda: (done[0], every),
                kinds,
            )
    except (arrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # about the file's place, and not about what is in it
        raise LoadFailed(
            f"{record_set.file} cannot be read as Parquet; nothing was loaded.",
            why=f"The library says: {str(error).splitlines()[0]}",
            todo="Export it again. If it is a delimited text, give it a name that ends in .csv.",
        ) from error


def _records(arrow: Any, file: Any, wanted: Collection[str], done: list[int]) -> Iterator[tuple[int, Fields | Broken]]:
    heading = file.schema_arrow.names
    # The library takes a dot for the way into a record, and reads nothing at all where no column is named.
    named = [name for name in heading if name in wanted and "." not in name]
    chosen = named if named and len(named) == len({*wanted}) else None
    row = 0
    for batch in file.iter_batches(batch_size=ROWS, columns=chosen, use_threads=False):
        nothing: Texts = [None] * batch.num_rows
        read = dict(zip(batch.schema.names, batch.columns, strict=True))
        columns = [_texts(arrow, read[name]) if name in wanted else nothing for name in heading]
        for values in zip(*columns, strict=True):
            row += 1
            yield row, _record(values)
        done[0] = row


def _record(values: Sequence[str | Broken | None]) -> Fields | Broken:
    fields: Fields = []
    for place, value in enumerate(values):
        if isinstance(value, Broken):
            return Broken(value.reason, place)
        fields.append(value)
    return unstorable(fields) or fields


def _type(arrow: Any, kind: Any) -> str:
    """The PostgreSQL type of an Arrow type; what is a list or a record within is jsonb."""
    of = arrow.types
    if of.is_dictionary(kind):
        return _type(arrow, kind.value_type)
    if of.is_decimal(kind):
        return f"numeric({max(kind.precision, kind.precision - kind.scale)},{max(kind.scale, 0)})"
    if of.is_timestamp(kind):
        return "timestamptz" if kind.tz else "timestamp"
    for told, name in ((of.is_date, "date"), (of.is_time, "time"), (of.is_duration, "interval")):
        if told(kind):
            return name
    if of.is_fixed_size_binary(kind):
        return "bytea"
    if str(kind) == "extension<arrow.uuid>":
        return "uuid"
    return _PLAIN.get(str(kind), "jsonb")


def _texts(arrow: Any, column: Any) -> Texts:
    """The values of a column as PostgreSQL reads them; what it could not keep is told apart."""
    of, kind = arrow.types, column.type
    if of.is_dictionary(kind):
        return _texts(arrow, column.dictionary_decode())
    if str(kind) == "extension<arrow.uuid>":
        return [None if value is None else str(value) for value in column.to_pylist()]
    if of.is_string(kind) or of.is_large_string(kind):
        return _strings(arrow, column)
    if of.is_timestamp(kind):
        if kind.tz:  # which moment it is does not hang on the zone that it is shown in
            column = column.cast(arrow.timestamp(kind.unit, "UTC"))
        texts = column.cast(arrow.string()).to_pylist()
        return [_whole(text) for text in texts] if kind.unit == "ns" else texts
    if of.is_time(kind):
        texts = column.cast(arrow.string()).to_pylist()
        return [_whole(text) for text in texts] if kind.unit == "ns" else texts
    if of.is_duration(kind):
        return [_interval(value, kind.unit) for value in column.cast(arrow.int64()).to_pylist()]
    if _type(arrow, kind) == "bytea":
        return [None if value is None else f"\\x{value.hex()}" for value in column.to_pylist()]
    if _type(arrow, kind) == "jsonb":
        return _each(column, lambda value: json.dumps(value, default=str, ensure_ascii=False))
    return column.cast(arrow.string()).to_pylist()


def _strings(arrow: Any, column: Any) -> Texts:
    try:
        return column.to_pylist()
    except UnicodeDecodeError:  # the library checks no text when it reads it
        pieces = column.cast(arrow.large_binary()).to_pylist()
    return [_decoded(piece) for piece in pieces]


def _decoded(piece: bytes | None) -> str | Broken | None:
    try:
        return None if piece is None else piece.decode()
    except UnicodeDecodeError:
        return Broken(_UTF8)


def _each(column: Any, write: Callable[[Any], str]) -> Texts:
    return [None if value is None else write(value) for value in column.to_pylist()]


def _whole(text: str | None) -> str | Broken | None:
    """A time with nine decimals, of which PostgreSQL keeps six."""
    if text is None or text.rstrip("Z").endswith("000"):
        return text
    return Broken(_NANOSECONDS)


def _interval(value: int | None, unit: str) -> str | Broken | None:
    if value is None:
        return None
    if unit == "ns":
        return Broken(_NANOSECONDS) if value % 1_000 else f"{value // 1_000} microseconds"
    return f"{value} {_INTERVALS[unit]}"
