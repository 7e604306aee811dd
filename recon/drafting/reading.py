"""A file's records as a temporary table, typed as the spec will say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from recon.database.connect import Session
from recon.drafting import kinds, sniffing
from recon.drafting.kinds import Kind
from recon.errors import BadRows, LoadFailed
from recon.names import MAX_IDENTIFIER_BYTES, Side, quote, storable
from recon.sources import files
from recon.sources.opened import Broken, Opened
from recon.spec_parts import RecordSet, file_kind

SHOWN_ROWS = 20  # broken rows that are told one by one
TOLD_EVERY = 20_000  # records between two signs of progress

# Columns that every table of PostgreSQL has; no file may name its own so.
_SYSTEM = frozenset(("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"))

Progress = Callable[[int, int], None]  # bytes read, and how many there are


@dataclass(frozen=True)
class Looked:
    """One side as it was read: its temporary table, its columns, and how its file is written."""

    side: Side
    table: str  # the temporary table
    label: str
    kinds: tuple[Kind, ...]
    records: int
    left_out: tuple[str, ...] = ()  # what is said of columns that are not taken
    encoding: str = "utf-8"
    delimiter: str = ","
    sample_of: int | None = None  # how many records there are, where only some were looked at

    def kind(self, name: str) -> Kind:
        return next(kind for kind in self.kinds if kind.name == name)


def file(session: Session, path: Path, side: Side, progress: Progress = lambda _done, _all: None) -> Looked:
    """Read a file into a temporary table.

    Raises:
        LoadFailed: the file is empty, has no heading, or is not what its name says.
        BadRows: some records have more or fewer fields than the heading.
        MissingExtra: a library for this kind of file is not installed.
    """
    record_set = RecordSet.model_validate({"file": path.name, "key": "key"})
    if file_kind(path.name) == "text":
        written = sniffing.sniff(path)
        record_set = record_set.model_copy(update={"encoding": written.encoding, "delimiter": written.delimiter})
    raw, table = f"recon_raw_{side}", f"recon_draft_{side}"
    with files.opened(path, record_set) as found:
        heading = list(found.heading)
        taken = _taken(heading)
        if not taken:
            raise LoadFailed(f"{path.name} has no column with a name of its own.", todo="Give its columns names.")
        columns = {heading[place]: f"c{place + 1}" for place in taken}
        texts = ", ".join(f"{quote(name)} text" for name in columns.values())
        session.execute(f"CREATE TEMPORARY TABLE {raw} (line bigint, {texts}) ON COMMIT DROP")
        _copy(session, raw, path, found, taken, len(heading), progress)
    session.execute(f"ANALYZE {raw}")
    types = kinds.fitting(session, raw, list(columns), columns)
    typed = ", ".join(
        f"CAST({_value(quote(column), types[name][0])} AS {types[name][1]}) AS {quote(name)}"
        for name, column in columns.items()
    )
    session.execute(
        f"CREATE TEMPORARY TABLE {table} ON COMMIT DROP AS SELECT {typed} FROM {raw} ORDER BY line"  # noqa: S608
    )
    session.execute(f"DROP TABLE {raw}")
    session.execute(f"ANALYZE {table}")
    looked = kinds.look(
        session, table, list(columns), {n: t[0] for n, t in types.items()}, {n: t[1] for n, t in types.items()}
    )
    left_out = [name for place, name in enumerate(heading) if place not in taken]
    records = looked[0].records if looked else 0
    if not records:
        raise LoadFailed(f"{path.name} has a heading and no records.", todo="Export it again.")
    return Looked(
        side, table, path.name, tuple(looked), records, tuple(left_out), record_set.encoding, record_set.delimiter
    )


def _value(column: str, base: str) -> str:
    return column if base == "text" else f"nullif({column}, '')"  # as `recon load` will read it


def _taken(heading: list[str]) -> list[int]:
    """The places of columns with a name of their own that PostgreSQL can have."""
    return [
        place
        for place, name in enumerate(heading)
        if name
        and storable(name)
        and name not in _SYSTEM
        and heading.count(name) == 1
        and len(name.encode()) <= MAX_IDENTIFIER_BYTES
    ]


def _copy(
    session: Session,
    raw: str,
    path: Path,
    found: Opened,
    taken: list[int],
    width: int,
    progress: Progress,
) -> None:
    broken: list[tuple[int, str]] = []
    count = rows = 0
    with session.driver.cursor() as cursor, cursor.copy(f"COPY {raw} FROM STDIN".encode()) as copy:
        for line, fields in found.records([found.heading[place] for place in taken]):
            rows += 1
            if not rows % TOLD_EVERY:
                progress(*found.far())
            if isinstance(fields, Broken) or len(fields) != width:
                count += 1
                if len(broken) < SHOWN_ROWS:
                    wrong = (
                        fields.reason
                        if isinstance(fields, Broken)
                        else f"{len(fields):,} fields, where the heading has {width:,}"
                    )
                    broken.append((line, wrong))
                continue
            copy.write_row((line, *(fields[place] for place in taken)))
    if count:
        raise BadRows(
            f"{path.name}: {count:,} of {rows:,} rows are not right. Nothing was drafted.",
            broken,
            count,
            todo="Correct the rows in the file.",
        )
