"""Worked examples of a page: small tables of both sides, the rules, and what is decided, read as they stand there.

A table whose first column is `payment` holds target records, one whose first column is `invoice` source records, and one with a column
`outcome` what the rules decide. The `yaml` block between them is the part of the spec that matters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recon import spec_file
from recon.database.connect import Database
from recon.matching import pairs, run
from recon.matching.bind import bind
from recon.names import quote
from recon.spec import Reconciliation
from tests.pages import blocks

TARGET, SOURCE = "payment", "invoice"
Row = dict[str, str | None]


@dataclass
class Example:
    """What stands under one heading."""

    heading: str
    targets: list[Row] = field(default_factory=list[Row])
    sources: list[Row] = field(default_factory=list[Row])
    rules: dict[str, Any] = field(default_factory=dict[str, Any])
    decided: list[Row] = field(default_factory=list[Row])

    def spec(self) -> Reconciliation:
        document: dict[str, Any] = {
            "name": "worked",
            "target": {"table": "payments", "key": TARGET},
            "source": {"table": "invoices", "key": SOURCE},
            "link": {"column": SOURCE},
        }
        return Reconciliation.model_validate(document | self.rules)

    def load(self, database: Database) -> None:
        """Put both tables into an empty database."""
        targets = self.targets
        if self.spec().link and SOURCE not in targets[0]:
            targets = [{**row, SOURCE: None} for row in targets]
        with database.session() as session:
            for name, rows in (("payments", targets), ("invoices", self.sources)):
                columns = {column: _type([row[column] for row in rows], column) for column in rows[0]}
                session.execute(f"CREATE TABLE {name} ({', '.join(f'{quote(c)} {t}' for c, t in columns.items())})")
                for row in rows:
                    places = ", ".join(f"${at + 1}::{kind}" for at, kind in enumerate(columns.values()))
                    session.execute(f"INSERT INTO {name} VALUES ({places})", *row.values())

    def decide(self, database: Database) -> list[Row]:
        """What the rules decide, in the columns of the page's table."""
        spec = self.spec()
        found = run.match(database, spec, "ann").run
        with database.session(read_only=True) as session:
            rows = list(pairs.iterate(session, bind(session, spec), found))
        given: list[Row] = [
            {TARGET: _text(target), "outcome": outcome, SOURCE: _text(source), "pass": rule, "reason": reason}
            for target, source, outcome, rule, _, reason in rows
        ]
        for row in given:
            if row["outcome"] in UNDECIDED:
                row["pass"] = None  # the pass that came closest: the page names it in words
        return sorted(given, key=_order)


UNDECIDED = ("unmatched", "orphan", "missing")


def _order(row: Row) -> tuple[str, str]:
    return row[TARGET] or "~", row[SOURCE] or ""


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _type(values: Sequence[str | None], column: str) -> str:
    """The type that fits all values of a column."""
    if column in (TARGET, SOURCE):
        return "integer"
    given = [value for value in values if value is not None]
    for kind, pattern in TYPES.items():
        if given and all(re.fullmatch(pattern, value) for value in given):
            return kind
    return "text"


TYPES = {"date": r"\d{4}-\d\d-\d\d", "timestamp": r"\d{4}-\d\d-\d\d \d\d:\d\d", "numeric": r"\d+\.\d+"}


def examples(text: str) -> list[Example]:
    """The worked examples of a page: each heading under which something is decided."""
    found: list[Example] = []
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        example = Example(section.splitlines()[0])
        for rows in _tables(section):
            if "outcome" in rows[0]:
                example.decided = sorted(rows, key=_order)
            elif next(iter(rows[0])) == TARGET:
                example.targets = rows
            elif next(iter(rows[0])) == SOURCE:
                example.sources = rows
        for block in blocks(section):
            example.rules |= spec_file.plain(spec_file.parse(block.text, Path("page.md")), Path("page.md"))
        if example.decided:
            found.append(example)
    return found


def _tables(text: str) -> Iterator[list[Row]]:
    """The tables of a page, an empty cell as None."""
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.MULTILINE):
        header, _, *lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
        yield [dict(zip(header, [cell or None for cell in line], strict=True)) for line in lines]
