"""The workbook of a reconciliation: a summary, the list of its open breaks, and what its system adds.

Everything in it is of one moment. The file takes its name only once it is whole.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import VEIL, NotFound
from recon.matching import run as runs
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.matching.breaks import AGES
from recon.matching.precision import measured
from recon.matching.run import Run
from recon.reports import break_list, sheets
from recon.reports.break_list import Counted
from recon.reports.sheets import QUIET, RULE, Book
from recon.reports.tables import percent
from recon.reports.words import outcome_words, reason_words
from recon.spec import Reconciliation
from recon.workspace import Workspace

AGES_SHOWN = AGES[1:]  # what is new is known to the run only
_VEILED = f"Private columns are veiled ({VEIL})."


@dataclass(frozen=True)
class Line:
    """One line of the summary: what it says and its value, or a live formula with the value that it has now."""

    label: str
    value: Any
    formula: str = ""
    shape: str = ""  # the number format


# What a system adds: writes its sheets and returns its lines of the summary. It gets the book, an open session that
# only reads, the spec bound to the database, and the day as of which it counts.
Extra = Callable[[Book, Session, Bound, date], Sequence[Line]]


def in_reports(
    database: Database,
    spec: Reconciliation,
    folder: Path,
    *,
    at: date | None = None,
    extra: Extra | None = None,
    workspace: Workspace | None = None,
) -> Path:
    """Write the workbook as `<name>-<time>.xlsx` into a folder, which is made; two of one second get two names."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{spec.name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    half = folder / f".{stem}.{os.getpid()}"
    try:
        write(database, spec, half, at=at, extra=extra, workspace=workspace)
        number = 1
        while True:
            path = folder / (f"{stem}.xlsx" if number == 1 else f"{stem}_{number}.xlsx")
            try:
                os.link(half, path)  # unlike a rename, it replaces nothing
            except FileExistsError:
                number += 1
            except OSError:  # a file system without hard links
                return half.replace(path)
            else:
                return path
    finally:
        half.unlink(missing_ok=True)


def write(
    database: Database,
    spec: Reconciliation,
    path: Path,
    *,
    at: date | None = None,
    state: str | None = None,
    extra: Extra | None = None,
    workspace: Workspace | None = None,
) -> int:
    """Write the workbook of a reconciliation and return how many breaks it lists.

    Args:
        database: where the records are.
        spec: the reconciliation.
        path: the file; what stands there is replaced.
        at: the day as of which a system counts; None: today in UTC.
        state: which breaks: open, assigned, resolved, all; None: open and assigned.
        extra: what the system adds.
        workspace: says whether the acting person sees private columns; None: they are veiled.

    Raises:
        SchemaMismatch, SpecError: the tables are no longer what the spec names.
    """
    tables.ensure(database)
    try:
        run = runs.load(database, spec.name)
    except NotFound:
        run = None
    known = measured(database, spec.name, run.spec_digest) if run else None
    with path.open("wb") as file, sheets.workbook(file, spec.title or spec.name) as book:
        with database.session(read_only=True) as session:
            # Formulas, their values and every count must be of one moment.
            session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            bound = bind(session, spec, shows_private=workspace is not None and workspace.sees_private)
            summary = book.sheet("Summary", landscape=False)
            counts = break_list.counted(session, spec.name, state)
            people = break_list.by_person(session, spec.name, state)
            decisions = run.run if run and _kept(session, run.run) else None
            listed = break_list.prepare(session, bound, decisions, state)
            empty = "There are no breaks." if run else f"Nothing was matched yet: run `recon match {spec.name}`."
            total = book.table("Breaks", listed.columns, listed.rows(session), empty=empty)
            for remark in listed.remarks:
                book.remark(remark)
            lines = extra(book, session, bound, at or datetime.now(UTC).date()) if extra else ()
            made = session.value("SELECT date_trunc('second', now())")
            name = session.value("SELECT current_database()::text")
        head = [Line("Made", made), Line("Database", name), *_of_run(run), Line("Breaks listed", total, shape="#,##0")]
        if known is not None:
            head.insert(-1, Line("Precision of the rules", percent(known.precision)))
        private = workspace.private_note(spec) if workspace else _VEILED if spec.has_private else None
        _Summary(book, summary).write(spec, head, lines, counts, people, private)
    return total


def _kept(session: Session, run: str) -> bool:
    name = tables.own("decisions", run).sql("postgres")
    return session.value("SELECT to_regclass($1)::text", name) is not None


def _of_run(run: Run | None) -> list[Line]:
    if run is None:
        return [Line("Latest run", "none yet")]
    limits = "" if not run.limited else ", of a part of the records only"
    found = [
        Line("Latest run", f"{run.run}{limits}"),
        Line("Run at", run.started_at.replace(microsecond=0)),
        Line("Records", run.population, shape="#,##0"),
    ]
    return [*found, Line("Coverage", percent(run.coverage))] if run.coverage is not None else found


class _Summary:
    """The first sheet, written last: it tells what the others hold."""

    def __init__(self, book: Book, sheet: Any) -> None:
        self.book, self.sheet, self.row = book, sheet, 0

    def write(
        self,
        spec: Reconciliation,
        head: Sequence[Line],
        lines: Sequence[Line],
        counts: Sequence[Counted],
        people: Sequence[tuple[str | None, int, int]],
        private: str | None,
    ) -> None:
        self.sheet.set_column(0, 0, 36)
        self.sheet.set_column(1, 1, 24)
        self.sheet.set_column(2, 6, 12)
        self.sheet.hide_gridlines(2)
        self.sheet.set_row(0, 24)
        self.book.write(self.sheet, 0, 0, spec.title or spec.name, bold=True, font_size=16)
        self.book.write(self.sheet, 1, 0, f"Reconciliation {spec.name}. Times are in UTC.", font_color=QUIET)
        self.row = 3
        if private:
            self.book.write(self.sheet, 2, 0, private, bold=True)
            self.row += 1
        self._lines(head)
        if lines:
            self.row += 1
            self._lines(lines)
        self.row += 1
        if counts:
            self._by_reason(counts)
        else:
            self.book.write(self.sheet, self.row, 0, "There are no breaks.", font_color=QUIET, italic=True)
        if people:
            self.row += 1
            self._by_person(people)

    def _lines(self, lines: Sequence[Line]) -> None:
        for line in lines:
            self.book.write(self.sheet, self.row, 0, line.label, bold=True)
            shape = {"num_format": line.shape} if line.shape else {}
            if line.formula:
                self.book.formula(self.sheet, self.row, 1, line.formula, line.value, align="left", **shape)
            else:
                self.book.write(self.sheet, self.row, 1, line.value, align="left", **shape)
            self.row += 1

    def _by_reason(self, counts: Sequence[Counted]) -> None:
        headings = ["Breaks by reason", "Outcome", *AGES_SHOWN, "All"]
        self.book.heading(self.sheet, self.row, headings, range(2, 7))
        self.row += 1
        grouped: dict[tuple[str, str, str | None], dict[str, int]] = defaultdict(dict)
        for item in counts:
            grouped[item.side, item.outcome, item.reason][item.age] = item.breaks
        for (side, outcome, reason), ages in grouped.items():
            several = len({key[0] for key in grouped}) > 1
            self.book.write(self.sheet, self.row, 0, reason_words(reason) or "no reason is known")
            self.book.write(self.sheet, self.row, 1, f"{outcome_words(outcome)}{f' ({side})' if several else ''}")
            for place, age in enumerate(AGES_SHOWN, start=2):
                self.book.write(self.sheet, self.row, place, ages.get(age, 0), num_format="#,##0")
            self.book.write(self.sheet, self.row, 6, sum(ages.values()), bold=True, num_format="#,##0")
            self.row += 1
        totals = [sum(item.breaks for item in counts if item.age == age) for age in AGES_SHOWN]
        for place, value in enumerate(["All breaks", None, *totals, sum(totals)]):
            self.book.write(self.sheet, self.row, place, value, bold=True, top=1, top_color=RULE, num_format="#,##0")
        self.row += 1

    def _by_person(self, people: Sequence[tuple[str | None, int, int]]) -> None:
        self.book.heading(self.sheet, self.row, ["Breaks by person", "Breaks", "Oldest (days)"], (2,))
        for who, number, days in people:
            self.row += 1
            self.book.write(self.sheet, self.row, 0, who or "nobody yet")
            self.book.write(self.sheet, self.row, 1, number, num_format="#,##0", align="left")
            self.book.write(self.sheet, self.row, 2, days, num_format="#,##0")
        self.row += 1
