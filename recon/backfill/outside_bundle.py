"""What a plan writes in an outside system, as a file of its bundle: one line for each planned row, signed like the rest.

    {"after":{"name":"B"},"before":{"name":"A"},"place":1,"record":"123"}

Only fields that differ stand there; of a row that changes nothing outside `before` and `after` are empty.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from array import array
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from sqlglot import exp

from recon.backfill import script_parts as parts
from recon.backfill.bundle import OUTSIDE, canonical
from recon.backfill.change import ACTION, PLACE, Change
from recon.database import tables
from recon.database.connect import Session
from recon.errors import BundleChanged, SchemaMismatch
from recon.matching.pool import creating, temporary
from recon.names import DIALECT, column, quote
from recon.outside.interface import Edit, Variables, open_target
from recon.spec_parts import Outside

RECORDS = "recon_outside"  # the temporary table of the records' ids there, by place
NO_RECORD = "no record outside"  # why a row is left out: the target does not say which record it is there
SHOWN_RECORDS = 5  # of those that several rows name, in an error


# -- making it -------------------------------------------------------------------------------------------


def place(outside: Outside, variables: Variables) -> str:
    """Where a plan will write, by the settings of this workspace. Raises NotFound, UsageError."""
    target = open_target(outside, variables)
    try:
        return target.place
    finally:
        target.close()


def document(change: Change, where: str, rows: int) -> dict[str, Any]:
    """What plan.json says of the outside system.

    Args:
        change: the plan's change.
        where: the system's place.
        rows: how many of the plan's rows change something there.
    """
    outside = change.outside
    assert outside is not None
    return {
        "system": outside.system,
        "object": outside.object,
        "record": change.record,
        "fields": fields(change),
        "place": where,
        "rows": rows,
    }


def fields(change: Change) -> dict[str, str]:
    """The written columns that go outside, and the fields that they are there."""
    assert change.outside is not None
    named = change.outside.fields or {name: name for name in change.columns}
    return {name: field for name, field in named.items() if name in change.columns}


def find_records(session: Session, change: Change, plan: str) -> dict[str, int]:
    """Find each staged row's record outside, and leave out the rows that name none; before the rows have a key.

    Returns:
        How many were left out, by action and reason.

    Raises:
        SchemaMismatch: two rows name the same record there.
    """
    staged, records = tables.own("staged", plan).sql(DIALECT), temporary(RECORDS).sql(DIALECT)
    own, at = quote(PLACE), quote("record")
    session.execute(creating(temporary(RECORDS), _records(change, plan)))
    # A place keeps its order and loses its gaps: batches count on 1, 2, 3 ….
    left_out = session.rows(
        f"WITH gone AS (DELETE FROM {records} WHERE {at} IS NULL OR btrim({at}) = '' RETURNING {own}),"  # noqa: S608
        f" dropped AS (DELETE FROM {staged} USING gone WHERE {staged}.{own} = gone.{own} RETURNING {quote(ACTION)})"
        f" SELECT {quote(ACTION)} || $1, count(*) FROM dropped GROUP BY 1 ORDER BY 1",
        f": {NO_RECORD}",
    )
    for table in (staged, records) if left_out else ():
        session.execute(
            f"UPDATE {table} AS kept SET {own} = counted.number"  # noqa: S608 (our own tables)
            f" FROM (SELECT {own}, row_number() OVER (ORDER BY {own}) AS number FROM {table}) AS counted"
            f" WHERE kept.{own} = counted.{own} AND counted.number <> counted.{own}"
        )
    doubled = session.rows(
        f"SELECT {at}, count(*) OVER () FROM {records} GROUP BY {at} HAVING count(*) > 1 ORDER BY {at} LIMIT $1::int",  # noqa: S608
        SHOWN_RECORDS,
    )
    if doubled:
        named = ", ".join(str(row[0]) for row in doubled)
        more = f" and {doubled[0][1] - len(doubled):,} more" if doubled[0][1] > len(doubled) else ""
        raise SchemaMismatch(
            f"Several planned rows name the same record outside: {named}{more}.",
            why=f"By {change.record} a row is known there, and one record cannot take what two rows say.",
            todo=f"Correct {change.record} in the target, or exclude the rows with `recon decide`.",
        )
    return dict(left_out)


def _records(change: Change, plan: str) -> exp.Select:
    """The place of each staged row, and its record's id there."""
    assert change.record is not None
    record = exp.cast(column("t", change.record), "text")
    return (
        exp.Select(expressions=[column("staged", PLACE), exp.alias_(record, "record", quoted=True)])
        .from_(parts.staged(plan))
        .join(change.bound.target.aliased("t"), on=parts.records(change, "staged"), join_type="left")
    )


def write(session: Session, change: Change, plan: str, path: Path | None) -> tuple[str, int]:
    """Write outside.jsonl from the staged rows; without a path, only say what it would be.

    Returns:
        Its sha256, and how many rows change something outside.
    """
    sha, rows = hashlib.sha256(), 0
    with path.open("wb") if path else tempfile.TemporaryFile() as out:
        for line, changes in _lines(session, change, plan):
            sha.update(line)
            out.write(line)
            rows += changes
    return sha.hexdigest(), rows


def _lines(session: Session, change: Change, plan: str) -> Iterator[tuple[bytes, bool]]:
    named = list(fields(change).items())
    staged, records = tables.own("staged", plan).sql(DIALECT), temporary(RECORDS).sql(DIALECT)
    images = [f"{side}_{change.number(name)}" for name, _ in named for side in ("before", "after")]
    wanted = ", ".join(["record", *(f"{quote(image)}::text" for image in images)])
    query = f"COPY (SELECT {quote(PLACE)}, {wanted} FROM {staged} JOIN {records} USING ({quote(PLACE)}) ORDER BY 1) TO STDOUT"  # noqa: S608
    with session.driver.cursor() as cursor, cursor.copy(query.encode()) as copy:
        for number, record, *held in copy.rows():
            pairs = zip(named, held[::2], held[1::2], strict=True)
            differ = {field: (before, after) for (_, field), before, after in pairs if before != after}
            line = {
                "place": int(number),
                "record": record,
                "before": {field: before for field, (before, _) in differ.items()},
                "after": {field: after for field, (_, after) in differ.items()},
            }
            yield f"{canonical(line)}\n".encode(), bool(differ)


# -- reading it ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A planned row's change outside."""

    place: int
    edit: Edit

    @property
    def changes(self) -> bool:
        return bool(self.edit.after)


class Lines:
    """The lines of a bundle, by place: a copy that was compared with plan.json, so that nobody edits it meanwhile."""

    def __init__(self, copy: IO[bytes], starts: Sequence[int]) -> None:
        self._copy, self._starts = copy, starts

    def between(self, first: int, last: int) -> list[Line]:
        """The lines of these places, both included."""
        self._copy.seek(self._starts[first - 1])
        return [_line(self._copy.readline()) for _ in range(first, last + 1)]


@contextmanager
def opened(plan: Mapping[str, Any], folder: Path) -> Generator[Lines]:
    """The lines of a plan's bundle.

    Args:
        plan: plan.json, found intact.
        folder: the bundle.

    Raises:
        BundleChanged: the file is not the one that was planned.
    """
    todo = "Restore the bundle from where it was reviewed, or make a new plan with `recon plan`."
    sha, starts, end = hashlib.sha256(), array("q"), 0
    with tempfile.TemporaryFile() as copy:
        try:
            with (folder / OUTSIDE).open("rb") as file:
                for line in file:
                    sha.update(line)
                    copy.write(line)
                    starts.append(end)
                    end += len(line)
        except OSError as error:
            raise BundleChanged(f"{OUTSIDE} cannot be read.", why=f"{error.strerror}.", todo=todo) from error
        if sha.hexdigest() != plan["files"].get(OUTSIDE) or len(starts) != plan["rows"]:
            raise BundleChanged(f"{OUTSIDE} is not the file that was planned.", todo=todo)
        yield Lines(copy, starts)


def _line(text: bytes) -> Line:
    said = json.loads(text)
    return Line(said["place"], Edit(said["record"], said["before"], said["after"]))
