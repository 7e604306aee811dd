"""A database with tables of a house: a part of its payments was linked to invoices, a few of them wrongly; the rest is open."""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import psycopg
from psycopg import sql

from tests.stranger import dirt
from tests.stranger.way import SEED, Stuck, workspace_at
from tests.stranger.worlds import BEGIN, DAYS, person
from tests.support import Ended, recon

LINKED = 0.6  # of the payments that have an invoice
WRONG_LINKS = 0.01
WITHOUT_INVOICE = 0.1
POINTS_OF_RECALL, POINTS_OF_PRECISION = 0.02, 0.005  # how far a drafted spec may be below one by hand

# What tables and columns are called, by manner.
NAMES = {
    "english": {},
    "german": {
        "payments": "zahlungen", "invoices": "rechnungen", "customers": "kunden", "staff": "mitarbeiter",
        "invoice": "rechnung_id", "reference": "verwendungszweck", "customer": "kundennummer", "amount": "betrag",
        "booked": "buchungstag", "number": "rechnungsnummer", "issued": "Rechnungs Datum", "entered_by": "erfasst_von",
    },
    "meaningless": {
        "payments": "tab_17", "invoices": "tab_03", "customers": "tab_04", "staff": "tab_05", "invoice": "c9",
        "reference": "c2", "customer": "c3", "amount": "c4", "booked": "c5", "number": "f1", "issued": "f4",
        "entered_by": "c8",
    },
}  # fmt: skip

TABLES = """
CREATE TABLE {staff} (id int PRIMARY KEY, name text NOT NULL, boss int);
CREATE TABLE {customers} (id int PRIMARY KEY, name text NOT NULL, country char(2), manager int);
CREATE TABLE {invoices} (id int PRIMARY KEY, {number} text NOT NULL, {customer} int NOT NULL, {amount} numeric(12, 2) NOT NULL,
    {issued} date NOT NULL, due date NOT NULL, {entered_by} int NOT NULL, printed timestamptz);
CREATE TABLE {payments} (id bigint PRIMARY KEY, {invoice} int, {reference} text, {customer} text, payer text,
    {amount} numeric(12, 2) NOT NULL, {booked} date NOT NULL, {entered_by} int, batch int NOT NULL);
CREATE TABLE notes (id int PRIMARY KEY, payment bigint NOT NULL, remark text);
CREATE TABLE countries (code char(2) PRIMARY KEY, name text NOT NULL);
"""
DECLARED = "ALTER TABLE {payments} ADD FOREIGN KEY ({invoice}) REFERENCES {invoices} (id)"
ALWAYS = "ALTER TABLE {invoices} ADD FOREIGN KEY ({customer}) REFERENCES {customers} (id)"

# What somebody who knows these tables wrote by hand; names stand in double quotes.
BY_HAND = """\
name: by_hand
target: {{table: {payments}, key: id}}
source: {{table: {invoices}, key: id}}
link: {{column: {invoice}}}
cardinality: many_to_one
passes:
  - name: number_and_amount
    on:
      regexp_replace("{reference}", '[^0-9]', '', 'g'): regexp_replace("{number}", '[^0-9]', '', 'g')
      '"{amount}"': '"{amount}"'
  - name: number
    on: {{"regexp_replace(\\"{reference}\\", '[^0-9]', '', 'g')": "regexp_replace(\\"{number}\\", '[^0-9]', '', 'g')"}}
    on_tie: next
  - name: customer_and_amount
    on:
      ltrim(regexp_replace("{customer}", '[^0-9]', '', 'g'), '0'): '"{customer}"::text'
      '"{amount}"': '"{amount}"'
    within: {{target: '"{booked}"', source: '"{issued}"', tolerance: {{before: 40 days, after: 0 days}}}}
"""


@dataclass(frozen=True)
class House:
    """What stands in the database, and what nobody there knows.

    Attributes:
        truth: the invoice of each payment; None: it has none.
        open: the payments without a link.
        names: what tables and columns are called.
    """

    seed: int
    truth: dict[int, int | None]
    open: frozenset[int]
    names: dict[str, str]

    @property
    def by_hand(self) -> str:
        return BY_HAND.format(**self.names)


def build(url: str, seed: int, size: int) -> House:
    """Fill an empty database; `size` is the number of invoices."""
    random = Random(f"house {seed} {size}")
    manner = random.choice(list(NAMES))
    usual = "payments invoices customers staff reference customer amount booked number issued entered_by".split()
    names = {name: name for name in usual} | {"invoice": "invoice_id"} | NAMES[manner]
    staff = [(number, " ".join(person(random)), 1 if number > 1 else None) for number in range(1, 13)]
    countries = [("DE", "Germany"), ("FR", "France"), ("GB", "Britain")]
    customers = [
        (number, " ".join(person(random)), random.choice("DE FR GB".split()), random.choice((None, 1, 2, 3)))
        for number in range(1, max(20, size // 5))
    ]
    invoices: list[tuple[Any, ...]] = []
    payments: list[tuple[Any, ...]] = []
    truth: dict[int, int | None] = {}
    numbers = random.sample(range(1, 90_000), 2 * size)
    for place in range(size):
        owner, name = random.choice(customers)[:2]
        amount = Decimal(random.randrange(1_000, 400_000)) / 100
        issued = BEGIN + timedelta(random.randrange(DAYS))
        number = f"INV-{issued.year}-{numbers[place]:05d}"
        there = random.random() > WITHOUT_INVOICE
        if there:
            made = (place + 1, number, owner, amount, issued, issued + timedelta(14), random.randrange(1, 13), None)
            invoices.append(made)
        if random.random() < 0.12:
            continue
        halves = [amount / 2, amount / 2] if random.random() < 0.05 else [amount]
        for part in halves:
            reference = dirt.repunctuated(random, number)
            if random.random() < 0.02:
                reference = dirt.mistyped(random, reference)
            identity = len(payments) + 1
            truth[identity] = place + 1 if there else None
            payments.append(
                (
                    identity,
                    truth[identity] if random.random() < LINKED else None,
                    dirt.lost(random, 0.15, "", reference) or None,
                    dirt.lost(random, 0.1, "", f"K{owner:05d}") or None,
                    dirt.sloppy(random, name),
                    part.quantize(Decimal("0.01")),
                    issued + timedelta(random.randrange(31)),
                    random.choice((None, None, random.randrange(1, 13))),
                    identity // 50 + 1,
                )
            )
    known = [row[0] for row in invoices]
    for place in random.sample(range(len(payments)), int(WRONG_LINKS * len(payments))):
        if payments[place][1] is not None:
            payments[place] = (payments[place][0], random.choice(known), *payments[place][2:])
    notes = [(number, random.randrange(1, len(payments)), "seen") for number in range(1, 40)]
    random.shuffle(payments)
    quoted = {name: sql.Identifier(called) for name, called in names.items()}
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        connection.execute(sql.SQL(TABLES).format(**quoted))
        for table, rows in (
            ("staff", staff), ("customers", customers), ("invoices", invoices), ("payments", payments),
            ("notes", notes), ("countries", countries),
        ):  # fmt: skip
            with connection.cursor().copy(
                sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(names.get(table, table)))
            ) as copy:
                for row in rows:
                    copy.write_row(row)
        connection.execute(sql.SQL(ALWAYS).format(**quoted))
        if random.random() < 0.5:
            connection.execute(sql.SQL(DECLARED).format(**quoted))
    unlinked = frozenset(row[0] for row in payments if row[1] is None)
    return House(seed, truth, unlinked, names)


@dataclass(frozen=True)
class Measured:
    """How good a spec is: by the truth about the open payments, and by `recon backtest` on the links."""

    precision: float
    recall: float
    backtest_precision: float
    backtest_recall: float

    def __str__(self) -> str:
        return (
            f"precision {self.precision:.4f}, recall {self.recall:.3f}; "
            f"backtest {self.backtest_precision:.4f}, {self.backtest_recall:.3f}"
        )


@dataclass(frozen=True)
class Judged:
    """The drafted spec beside the one by hand, on the same database."""

    house: House
    drafted: Measured
    by_hand: Measured
    picked: tuple[str, str, str]
    document: dict[str, Any]
    spec: str

    @property
    def meant(self) -> tuple[str, str, str]:
        """The tables and the column that it should be about."""
        names = self.house.names
        return names["payments"], names["invoices"], names["invoice"]

    def __str__(self) -> str:
        return f"drafted: {self.drafted}\nby hand: {self.by_hand}\n{self.spec}\nagain: {SEED}={self.house.seed}"


def shortcomings(judged: Sequence[Judged]) -> list[str]:
    """In what drafted specs are worse than they may be, on the average of some databases: in one, chance weighs as much."""

    def mean(figures: Iterable[float]) -> float:
        return statistics.fmean(figures)

    drafted, by_hand = [item.drafted for item in judged], [item.by_hand for item in judged]
    short = [f"it is about {item.picked}, not {item.meant}" for item in judged if item.picked != item.meant]
    for what, of, points in (
        ("recall", lambda item: item.recall, POINTS_OF_RECALL),
        ("precision", lambda item: item.precision, POINTS_OF_PRECISION),
        ("recall on the links", lambda item: item.backtest_recall, POINTS_OF_RECALL),
    ):
        ours, theirs = mean(map(of, drafted)), mean(map(of, by_hand))
        if ours < theirs - points:
            short.append(f"{what} is {ours:.4f}, more than {points:.1%} below {theirs:.4f} by hand")
    return short + [str(item) for item in judged] if short else []


def judge(house: House, home: Path, url: str, *, named: bool) -> Judged:
    """Draft a spec from the database, used unchanged; match by it and by the one of hand; then the way to a verified backfill.

    Args:
        named: whether the stranger says which tables it is about.

    Raises:
        Stuck: a command failed.
    """

    def run(*arguments: str, codes: tuple[int, ...] = (0,), user: str = "ann", url: str | None = url) -> Ended:
        ended = recon(*arguments, url=url, user=user, cwd=home if home.exists() else home.parent)
        if ended.code not in codes:
            raise Stuck(f"`recon {' '.join(arguments)}` ended with {ended.code}: {ended.err}\n{ended.out[-3000:]}")
        return ended

    names = house.names
    tables = ["--target", names["payments"], "--source", names["invoices"]] if named else []
    with workspace_at(home), _untouched(url):
        document = run("init", str(home), "--from", url, *tables, "--json", url=None).json
    name = document["name"]
    path = home / "reconciliations" / f"{name}.yaml"
    spec = path.read_text(encoding="utf-8")
    from ruamel.yaml import YAML

    read = YAML(typ="safe").load(spec)
    picked = (read["target"]["table"].split(".")[-1], read["source"]["table"].split(".")[-1], read["link"]["column"])
    (home / "reconciliations" / "by_hand.yaml").write_text(house.by_hand, encoding="utf-8")
    measured: dict[str, Measured] = {}
    for which in ("by_hand", name):
        run("check", which, "--json", codes=(0, 3))
        back = run("backtest", which, "--json", codes=(0, 3)).json
        run("match", which, "--json", codes=(0, 3))
        decided = run("decisions", which, "--format", "csv").out
        right = wrong = 0
        for line in csv.DictReader(io.StringIO(decided)):
            if line["outcome"] == "matched":
                is_right = house.truth[int(line["target_key"])] == int(line["source_key"])
                right, wrong = right + is_right, wrong + (not is_right)
        known = sum(house.truth[payment] is not None for payment in house.open)
        measured[which] = Measured(right / max(1, right + wrong), right / known, back["precision"], back["recall"])
    plan = run("plan", name, "--json", codes=(0, 3)).json["plan"]
    run("approve", plan, "--json", user="bob")
    run("apply", plan, "--execute", "--json")
    run("verify", plan, "--json", codes=(0, 3))
    return Judged(house, measured[name], measured["by_hand"], picked, document, spec)


@contextmanager
def _untouched(url: str) -> Iterator[None]:
    """Nothing is made or written in the database meanwhile."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:

        def state() -> object:
            counts = "SELECT relname, n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_user_tables ORDER BY 1"
            names = "SELECT relname FROM pg_class WHERE relnamespace >= 16384 OR relname !~ '^pg_' ORDER BY 1"
            connection.execute("SELECT pg_stat_force_next_flush()")
            return connection.execute(counts).fetchall(), connection.execute(names).fetchall()

        before = state()
        yield
        assert state() == before, "init wrote into the database"
