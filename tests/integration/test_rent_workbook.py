"""Rent due and received: the SQL against plain Python, and the workbook's formulas against the SQL."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections import defaultdict
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from recon import workflow
from recon.database.connect import Database
from recon.errors import UsageError
from recon.systems.rent_payments import rent
from recon.systems.rent_payments.sheets import HEADER
from recon.workspace import Workspace
from tests.support import RENT, execute, load_rent_sample, rows

AS_OF = date(2024, 3, 17)
SOFFICE = shutil.which("soffice")
# id, customer, start, end, rent: what is easy to get wrong. 30.10 × 15 ÷ 30 is 15.05; 30.11 × 15 ÷ 30 is half a penny.
LEASES: list[tuple[int, int, date, date | None, str]] = [
    (1, 1, date(2023, 12, 1), None, "740.00"),  # whole months, ongoing
    (2, 1, date(2024, 1, 31), date(2024, 2, 29), "1150.55"),  # overlaps with the tenant's first; month ends, leap day
    (3, 2, date(2023, 1, 31), date(2023, 2, 28), "999.99"),  # no leap day
    (4, 2, date(2024, 2, 10), date(2024, 2, 10), "0.01"),  # one day, and less than half a penny
    (5, 2, date(2023, 6, 5), date(2023, 6, 19), "30.11"),  # starts and ends in one month; exactly half a penny: up
    (6, 3, date(2024, 3, 17), None, "600.00"),  # starts on the as-of day
    (7, 3, date(2024, 3, 18), None, "600.00"),  # starts a day later: nothing is due
    (8, 4, date(2023, 11, 15), date(2024, 11, 14), "815.00"),  # ends after the as-of day
    (9, 4, date(2023, 4, 16), date(2023, 4, 30), "1.15"),  # 1.15 × 100 is no whole number in doubles
    (10, 5, date(2024, 1, 1), None, "100.00"),  # weekly: not counted
]
PAYMENTS: list[tuple[int, date, int | None, int | None, str, str]] = [
    (1, date(2023, 11, 3), 1, 1, "740.00", "rent"),  # before the start
    (2, date(2023, 12, 1), 1, 1, "700.01", "rent"),
    (3, date(2023, 12, 31), 1, 9, "39.99", "rent"),  # somebody else paid
    (4, date(2024, 3, 17), 1, 1, "10.00", "rent"),  # on the as-of day
    (5, date(2024, 3, 18), 1, 1, "5000.00", "rent"),  # after it
    (6, date(2024, 1, 5), None, 1, "740.00", "rent"),  # not linked
    (7, date(2024, 1, 5), 1, 1, "150.00", "deposit"),  # no rent
    (8, date(2023, 5, 2), 3, 2, "35.70", "rent"),  # long after the end
    (9, date(2024, 2, 1), 7, 3, "600.00", "rent"),  # early, for a lease that has not begun
    (10, date(2024, 2, 2), 10, 5, "100.00", "rent"),  # of the weekly lease
]


def fill(database: Database, number: int = 0) -> tuple[list[Any], list[Any]]:
    """The cases above and drawn ones, in the sample's tables; returns leases and payments as they were put there."""
    draw = random.Random(20240317)
    leases, payments = list(LEASES), list(PAYMENTS)
    for place in range(number):
        start = date(2022, 1, 1) + timedelta(days=draw.randrange(820))
        if draw.random() < 0.4:  # starts on the last or the first day of a month
            start = (start.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=draw.randrange(2))
        length = draw.choice([0, 1, 27, 28, 29, 30, 31, 364, 365, draw.randrange(700)])
        end = None if draw.random() < 0.3 else start + timedelta(days=length)
        amount = Decimal(draw.randrange(1, 200_000)).scaleb(-2)
        leases.append((11 + place, draw.randrange(1, 10), start, end, str(amount)))
        for _ in range(draw.randrange(4)):
            paid = start + timedelta(days=draw.randrange(-60, 500))
            payments.append((len(payments) + 1, paid, 11 + place, draw.randrange(1, 10), str(amount), "rent"))
    load_rent_sample(database)
    execute(database, "TRUNCATE historical_transactions, financial_transactions, invoices")
    with database.session() as session:
        for identity, customer, start, end, amount in leases:
            session.execute(
                "INSERT INTO invoices (id, lease_reference, property_id, customer_id, start_date, end_date, rent_amount, frequency)"
                " VALUES ($1, $2, 1, $3, $4, $5, $6::numeric, $7)",
                identity, f"LEASE-{identity:03}", customer, start, end, amount, "weekly" if identity == 10 else "monthly",
            )  # fmt: skip
        for identity, paid, lease, customer, amount, category in payments:
            session.execute(
                "INSERT INTO historical_transactions (id, transaction_date, property_id, customer_id, amount, category, invoice_id)"
                " VALUES ($1, $2, 1, $3, $4::numeric, $5, $6)",
                identity, paid, customer, amount, category, lease,
            )  # fmt: skip
    return leases, payments


def expected(
    leases: list[Any], payments: list[Any], changed: dict[int, str] | None = None
) -> dict[Any, tuple[Any, ...]]:
    """Days, days of the month, due, received, arrears and balance by lease and month: day by day, in Decimal."""
    found: dict[Any, list[Any]] = defaultdict(lambda: [0, Decimal(0)])
    rents = {identity: Decimal((changed or {}).get(identity, amount)) for identity, _, _, _, amount in leases}
    for identity, _, start, end, _ in leases:
        day = start
        while identity != 10 and day <= min(end or AS_OF, AS_OF):
            found[identity, day.replace(day=1)][0] += 1
            day += timedelta(days=1)
    for _, paid, lease, _, amount, category in payments:
        if lease not in (None, 10) and category == "rent" and paid <= AS_OF:
            found[lease, paid.replace(day=1)][1] += Decimal(amount)
    result: dict[Any, tuple[Any, ...]] = {}
    balance: dict[int, Decimal] = defaultdict(Decimal)
    for (lease, month), (days, received) in sorted(found.items()):
        of_month = ((month.replace(day=28) + timedelta(days=4)).replace(day=1) - month).days
        due = (rents[lease] * days / of_month).quantize(Decimal("0.01"), ROUND_HALF_UP)
        balance[lease] += due - received
        result[lease, month] = (days, of_month, due, received, due - received, balance[lease])
    return result


def test_due_received_and_arrears_are_what_plain_arithmetic_gives(database: Database) -> None:
    """INV-17: DUE from the lease's terms, RECEIVED from linked payments, kept apart; arrears per lease and month."""
    leases, payments = fill(database, 60)
    with database.session(read_only=True) as session:
        months = rent.due_and_received(session, AS_OF)
        one = rent.statement(session, 2, AS_OF)
        history = rent.payment_history(session, AS_OF)
        assert [lease.invoice_id for lease in rent.leases(session) if not lease.monthly] == [10]
    told = {
        (m.invoice_id, m.month): (m.days_covered, m.days_in_month, m.due, m.received, m.arrears, m.balance)
        for m in months
    }
    assert len(told) == len(months)
    assert told == expected(leases, payments)
    # By hand, where the rule is easy to get wrong.
    assert told[5, date(2023, 6, 1)][:3] == (15, 30, Decimal("15.06"))
    assert told[2, date(2024, 1, 1)][2] == Decimal("37.11")  # 1150.55 × 1 ÷ 31
    assert told[6, date(2024, 3, 1)][2] == Decimal("19.35")
    assert told[7, date(2024, 2, 1)][2:5] == (0, 600, -600)
    assert (7, date(2024, 3, 1)) not in told
    assert one == [month for month in months if month.invoice_id == 2]
    # Each tenant's payments, whoever paid, with a sum that runs on.
    tenant = [item for item in history if item.customer_id == 1 and item.invoice_id == 1]
    assert [item.payment_id for item in tenant] == [1, 2, 3, 4]
    assert tenant[2].paid_by_id == 9
    so_far: dict[int, Decimal] = defaultdict(Decimal)
    for item in history:
        so_far[item.customer_id] += item.amount
        assert item.received_so_far == so_far[item.customer_id]


def recomputed(folder: Path, *books: Path) -> list[Path]:
    """The workbooks as LibreOffice saves them; they hold no value that it could take over."""
    out = folder / "computed"
    command = [
        "soffice",
        f"-env:UserInstallation={(folder / 'profile').as_uri()}",
        "--headless",
        "--convert-to",
        "xlsx",
    ]
    subprocess.run([*command, "--outdir", str(out), *map(str, books)], check=True, capture_output=True, timeout=180)
    return [out / book.name for book in books]


def values(path: Path, name: str) -> list[tuple[Any, ...]]:
    sheet = openpyxl.load_workbook(path, data_only=True)[name]
    return [row for row in sheet.iter_rows(min_row=HEADER + 2, values_only=True) if row[0] is not None]


def money(value: Any) -> Decimal:
    return Decimal(repr(value)).quantize(Decimal("0.000001"))


def due_rows(path: Path) -> dict[Any, tuple[Any, ...]]:
    return {
        (row[0], row[4].date()): (int(row[8]), int(row[9]), *[money(value) for value in row[10:14]])
        for row in values(path, "Due and received")
    }


@pytest.mark.one_engine
def test_the_workbook_s_formulas_compute_what_sql_gives_and_follow_a_changed_rent(
    database: Database, workspace: Workspace, tmp_path: Path
) -> None:
    """INV-17, INV-18: DUE, RECEIVED, pro-rating and arrears are live formulas over terms and payments."""
    leases, payments = fill(database, 25)
    execute(database, "UPDATE customers SET name = '=1+1' WHERE id = 2")
    path = workflow.workbook(database, workspace, RENT, AS_OF)
    assert path.parent == workspace.reports
    # The values that stand beside the formulas are those of SQL, for readers that do not compute.
    truth = expected(leases, payments)
    assert due_rows(path) == truth
    live = openpyxl.load_workbook(path)
    assert live.sheetnames == ["Summary", "Breaks", "Leases", "Payments", "Due and received", "Tenants", "Statements"]
    row = live["Due and received"][HEADER + 2]
    assert [cell.data_type for cell in row] == ["n", "f", "f", "f", "d", *["f"] * 9]
    for name in ("Leases", "Payments", "Due and received", "Tenants"):
        assert live[name].freeze_panes == f"A{HEADER + 2}"
        assert live[name].auto_filter.ref
        assert live[name].print_title_rows == f"${HEADER + 1}:${HEADER + 1}"
    assert len(live["Statements"].row_breaks.brk) == len({lease for lease, _ in truth}) - 1
    if SOFFICE is None:
        pytest.skip("no LibreOffice here, so the formulas are only seen to be there, with SQL's values beside them")

    same, dearer = tmp_path / "same.xlsx", tmp_path / "dearer.xlsx"
    live.save(same)  # openpyxl keeps formulas and drops every value that stood beside them
    assert set(due_columns(same)) == {None}
    where = {cell.value: cell.row for cell in live["Leases"]["A"]}
    live["Leases"][f"G{where[8]}"] = 1234.56
    live["Payments"][f"D{ {cell.value: cell.row for cell in live['Payments']['A']}[2] }"] = 0.01
    live.save(dearer)
    same, dearer = recomputed(tmp_path, same, dearer)

    assert due_rows(same) == truth
    for name in ("Leases", "Payments", "Tenants"):
        assert values(same, name) == values(path, name)
    one, other = (openpyxl.load_workbook(book, data_only=True) for book in (path, same))
    for name in ("Summary", "Statements"):
        shown = [[list(row) for row in book[name].iter_rows(values_only=True)] for book in (one, other)]
        assert [[cell or None for cell in row] for row in shown[0]] == [
            [cell or None for cell in row] for row in shown[1]
        ]
    checks = {row[0]: row[13] for row in values(same, "Leases")}
    assert checks.pop(10) == "not counted: weekly"
    assert set(checks.values()) == {"ok"}
    assert {row[11] for row in values(same, "Payments")} == {"ok", "not counted: no row for this lease and month"}

    paid = [(1, *rest) if identity == 1 else (identity, *rest) for identity, *rest in payments]
    paid = [(*item[:4], "0.01", item[5]) if item[0] == 2 else item for item in paid]
    changed = expected(leases, paid, {8: "1234.56"})
    assert due_rows(dearer) == changed
    assert changed != truth
    summary = {
        row[0]: row[1] for row in openpyxl.load_workbook(dearer, data_only=True)["Summary"].iter_rows(values_only=True)
    }
    assert money(summary["Rent DUE"]) == sum(row[2] for row in changed.values())
    assert money(summary["Rent RECEIVED"]) == sum(row[3] for row in changed.values())
    assert summary["RECEIVED agrees with Payments"] == "yes"


@pytest.mark.one_engine
def test_days_that_no_spreadsheet_knows_leave_out_their_leases_and_say_so(
    database: Database, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INV-18: an end of infinity is an ongoing lease; a year that was mistyped as 0025 does not bend the sums."""
    fill(database)
    execute(database, "UPDATE invoices SET end_date = 'infinity' WHERE id = 1")
    sound = due_rows(workflow.workbook(database, workspace, RENT, AS_OF))
    assert sound == expected(LEASES, PAYMENTS)
    execute(
        database,
        "UPDATE invoices SET start_date = '0025-01-31' WHERE id = 2",
        "UPDATE invoices SET start_date = '-infinity' WHERE id = 6",
        "UPDATE historical_transactions SET transaction_date = '0023-05-02' WHERE id = 8",  # of lease 3
    )
    path = workflow.workbook(database, workspace, RENT, AS_OF)
    assert due_rows(path) == {key: row for key, row in sound.items() if key[0] not in (2, 3, 6)}
    book = openpyxl.load_workbook(path, data_only=True)
    notes = [row[0] for row in book["Notes"].iter_rows(values_only=True)]
    assert any("lease id 2, 3, 6" in str(note) for note in notes)
    assert {row[0] for row in values(path, "Leases")}.isdisjoint({2, 3, 6})
    with pytest.raises(UsageError):
        workflow.workbook(database, workspace, RENT, date(1850, 1, 1))

    monkeypatch.setattr("recon.systems.rent_payments.sheets.MOST_PAYMENTS", 3)
    monkeypatch.setattr(rent, "payment_history", None)  # what is too much is not fetched
    short = openpyxl.load_workbook(workflow.workbook(database, workspace, RENT, AS_OF))
    assert short.sheetnames == ["Summary", "Breaks", "Notes"]


def due_columns(path: Path) -> list[Any]:
    return [value for row in values(path, "Due and received") for value in row[10:14]]


@pytest.mark.one_engine
def test_the_sample_s_rents_are_in_the_workbook_as_they_were_when_linked(
    database: Database, workspace: Workspace
) -> None:
    """INV-17: a link keeps the lease's start, end and rent on the payment; the history shows them."""
    load_rent_sample(database)
    with database.session(read_only=True) as session:
        history = rent.payment_history(session, date(2025, 11, 30))
    assert len(history) == 125
    kept = rows(
        database, "SELECT count(*) FROM historical_transactions WHERE category = 'rent' AND lease_rent_amount > 0"
    )
    assert kept == [(sum(item.lease_rent_amount is not None for item in history),)] == [(125,)]
