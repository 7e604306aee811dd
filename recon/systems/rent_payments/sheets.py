"""The rent sheets of the workbook (INV-18): terms and payments as inputs, and everything else as live formulas.

Change a rent, a date or a payment on "Leases" or "Payments", and DUE, RECEIVED, arrears and statements follow. Each
formula also holds the value that SQL gave, so that readers which do not compute show the same. DUE is the rule of
`rent`, counted in pennies: rent in pennies × days ÷ days of the month is a half exactly where it is one, so that
rounding in doubles gives what SQL gives in decimals.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from itertools import groupby
from typing import TYPE_CHECKING, Any

from recon.database.connect import Session
from recon.errors import UsageError
from recon.matching.bound import Bound
from recon.matching.privacy import VEIL
from recon.reports.break_list import hidden
from recon.reports.cells import DAY, FIRST_DAY
from recon.reports.sheets import HEAD, QUIET, RULE, Book
from recon.reports.workbook import Extra, Line
from recon.spec import Reconciliation
from recon.systems.rent_payments import rent
from recon.systems.rent_payments.rent import MONTHLY, Lease, Month, Payment

if TYPE_CHECKING:
    from xlsxwriter.worksheet import Worksheet

CURRENCY = "£"  # the requirements give amounts in pounds; no column names a currency
MONEY = f'"{CURRENCY}"#,##0.00;-"{CURRENCY}"#,##0.00'
MONTH = "mmm yyyy"
AS_OF = "as_of"  # the name that formulas call the day by
HEADER = 3  # the row of the headings, from 0; above it a title, a sentence, and on "Leases" the day
MOST_MONTHS = 10_000  # rows of live formulas that Excel computes while one waits; a sum over Payments stands in each
MOST_PAYMENTS = 50_000  # each of those sums looks through all of them
NAMED_LEASES = 20  # of those that are left out; their number is said too
MOST_STATEMENTS = 1_000  # of one sheet: Excel knows 1,026 page breaks
SPARE = 1_000  # rows below the payments that sums take in, for payments that somebody adds
INPUT = {"bg_color": "#FFF9E3", "font_color": "#1F4E9E"}
SHEETS = ("Leases", "Payments", "Due and received", "Tenants")
STATEMENTS = "Statements"
_LEASES, _PAYMENTS, _DUE, _TENANTS = SHEETS
_READ = {
    "t": ("transaction_date", "amount", "invoice_id"),
    "s": ("id", "lease_reference", "start_date", "end_date", "rent_amount", "frequency"),
}
_KEPT = ("lease_start_date", "lease_end_date", "lease_rent_amount")  # with a payment, as they were when it was linked


def sheets(spec: Reconciliation) -> Extra | None:
    """The rent sheets, where the reconciliation is of the tables that their queries read."""
    tables = spec.target.table, spec.source.table
    return _add if tables == ("historical_transactions", "invoices") else None


def _add(book: Book, session: Session, bound: Bound, as_of: date) -> Sequence[Line]:
    private = [name for side, names in _READ.items() for name in names if hidden(bound, side, name)]  # pyright: ignore[reportArgumentType] (t or s)
    if private:
        return [Line("Rent sheets", f"left out: {', '.join(private)} is private")]
    if as_of < FIRST_DAY:
        raise UsageError(f"No spreadsheet counts to {as_of}.", todo=f"Give a day from {FIRST_DAY} on.")
    odd = rent.out_of_time(session, FIRST_DAY)
    months, payments = rent.counted(session, as_of, odd)
    for number, most, what in (
        (months, MOST_MONTHS, "months of leases"),
        (payments, MOST_PAYMENTS, "payments"),
    ):
        if number > most:
            book.remark(
                f"The rent sheets are left out: {number:,} {what} are more than the {most:,} that live formulas are good "
                "for. sql/queries/rent_due_and_received.sql gives all months."
            )
            return [Line("Rent sheets", f"left out: too many {what}; see Notes")]
    every = _Rent(
        as_of, rent.leases(session), rent.due_and_received(session, as_of), rent.payment_history(session, as_of)
    )
    lines = _Sheets(book, _veiled(bound, _without(every, frozenset(odd)))).write()
    if not odd:
        return lines
    named = ", ".join(map(str, odd[:NAMED_LEASES])) + (", …" if len(odd) > NAMED_LEASES else "")
    book.remark(
        f"{len(odd):,} leases are left out of the rent sheets, with their payments (lease id {named}): a day of theirs is "
        f"before {FIRST_DAY} or none at all, which no spreadsheet can reckon with. Correct it, and make a new workbook."
    )
    return [*lines, Line("Leases left out for their dates; see Notes", len(odd))]


@dataclass(frozen=True)
class _Rent:
    as_of: date
    leases: list[Lease]
    months: list[Month]
    payments: list[Payment]  # by tenant and date


def _without(found: _Rent, odd: Container[int]) -> _Rent:
    """Without these leases; what a tenant paid so far is added up anew."""
    if not odd:
        return found
    payments: list[Payment] = []
    for item in found.payments:
        if item.invoice_id in odd:
            continue
        earlier = payments[-1] if payments and payments[-1].customer_id == item.customer_id else None
        so_far = item.amount + (earlier.received_so_far if earlier else 0)
        payments.append(replace(item, received_so_far=so_far))
    return replace(
        found,
        leases=[item for item in found.leases if item.invoice_id not in odd],
        months=[item for item in found.months if item.invoice_id not in odd],
        payments=payments,
    )


def _veiled(bound: Bound, found: _Rent) -> _Rent:
    """Without the names of tenants and of properties, and the terms kept with payments, where these are private."""
    kept: dict[str, Any] = {name: VEIL for name in _KEPT if hidden(bound, "t", name)}
    if kept:
        found = replace(found, payments=[replace(item, **kept) for item in found.payments])
    people = any(hidden(bound, side, "customer_id") for side in ("t", "s"))
    places = any(hidden(bound, side, "property_id") for side in ("t", "s"))
    if not people and not places:
        texts = hidden(bound, "t", "description")
        return replace(found, payments=[replace(p, description=VEIL) for p in found.payments]) if texts else found
    numbers = {who: place for place, who in enumerate(sorted({lease.customer_id for lease in found.leases}), start=1)}
    who: dict[str, Any] = {"tenant": VEIL} if people else {}
    where: dict[str, Any] = {"property_name": VEIL} if places else {}

    def number(customer: int) -> int:
        return numbers[customer] if people else customer  # tenants are still told apart

    payer: dict[str, Any] = {"paid_by": VEIL} if people else {}
    return replace(
        found,
        leases=[replace(x, customer_id=number(x.customer_id), **who, **where) for x in found.leases],
        months=[replace(x, customer_id=number(x.customer_id), **who, **where) for x in found.months],
        payments=[
            replace(x, customer_id=number(x.customer_id), description=VEIL, **who, **payer) for x in found.payments
        ],
    )


class _Sheets:
    """The sheets under way. Columns are letters, rows are numbers as Excel counts them, from 1."""

    def __init__(self, book: Book, found: _Rent) -> None:
        self.book, self.found = book, found
        self.leases, self.payments, self.due, self.tenants = (book.sheet(name) for name in SHEETS)
        self.names = {
            plain: f"'{sheet.get_name()}'"
            for plain, sheet in zip(SHEETS, (self.leases, self.payments, self.due, self.tenants), strict=True)
        }
        self.first = HEADER + 2
        self.last = {
            _LEASES: self._last(found.leases),
            _PAYMENTS: self._last(found.payments) + SPARE,
            _DUE: self._last(found.months),
        }
        book.file.define_name(AS_OF, f"={self.names[_LEASES]}!$B$3")

    def _last(self, rows: Sequence[object]) -> int:
        return self.first + max(len(rows), 1) - 1

    def all(self, sheet: str, letter: str) -> str:
        """A column of a sheet's rows, as formulas call it."""
        return f"{self.names[sheet]}!${letter}${self.first}:${letter}${self.last[sheet]}"

    def of(self, sheet: str, letter: str, key: str) -> str:
        """The value of a column in the row with this key, as a formula; rows may be sorted."""
        return f"INDEX({self.all(sheet, letter)},MATCH({key},{self.all(sheet, 'A')},0))"

    def write(self) -> Sequence[Line]:
        self._write_leases()
        self._write_payments()
        self._write_due()
        self._write_tenants()
        self._statements()
        return self._summary()

    def _begin(self, sheet: Worksheet, title: str, says: str, headings: Sequence[str], numeric: Container[int]) -> None:
        sheet.set_row(0, 22)
        self.book.write(sheet, 0, 0, title, bold=True, font_size=14)
        self.book.write(sheet, 1, 0, says, font_color=QUIET)
        if sheet is self.leases:
            self.book.write(sheet, 2, 0, "As-of day", bold=True)
            self.book.write(sheet, 2, 1, self.found.as_of, **INPUT)
        self.book.heading(sheet, HEADER, headings, numeric)

    # -- inputs ------------------------------------------------------------------------------------------

    def _write_leases(self) -> None:
        book, sheet = self.book, self.leases
        headings = (
            "Lease id", "Lease", "Property", "Tenant", "Start", "End", "Monthly rent", "Frequency",
            "Last day counted", "Days to charge", "DUE", "RECEIVED", "Arrears", "Check",
        )  # fmt: skip
        says = (
            "Terms of the leases. Coloured cells are inputs: change one, and every sheet follows. An empty End is an "
            "ongoing lease, due up to the as-of day."
        )
        self._begin(sheet, "Leases", says, headings, (6, 9, 10, 11, 12))
        sums: dict[int, list[Decimal]] = {}
        for month in self.found.months:
            total = sums.setdefault(month.invoice_id, [Decimal(0), Decimal(0)])
            total[0], total[1] = total[0] + month.due, total[1] + month.received
        for row, lease in enumerate(self.found.leases, start=HEADER + 1):
            n = row + 1
            last = min(lease.end_date or self.found.as_of, self.found.as_of)
            days = max(0, (last - lease.start_date).days + 1) if lease.monthly else 0
            due, received = sums.get(lease.invoice_id, [Decimal(0), Decimal(0)])
            book.write(sheet, row, 0, lease.invoice_id, align="left")
            for place, value in enumerate((lease.lease_reference, lease.property_name, lease.tenant), start=1):
                book.write(sheet, row, place, value)
            book.write(sheet, row, 4, lease.start_date, **INPUT)
            book.write(sheet, row, 5, lease.end_date, num_format=DAY, align="left", **INPUT)
            book.write(sheet, row, 6, lease.rent_amount, num_format=MONEY, **INPUT)
            book.write(sheet, row, 7, lease.frequency, **INPUT)
            book.formula(sheet, row, 8, f'=IF(F{n}="",{AS_OF},MIN(F{n},{AS_OF}))', last)
            book.formula(sheet, row, 9, f'=IF(H{n}="{MONTHLY}",MAX(0,I{n}-E{n}+1),0)', days, num_format="#,##0")
            of_lease = f"{self.all(_DUE, 'A')},A{n}"
            money = {"num_format": MONEY}
            book.formula(sheet, row, 10, f"=ROUND(SUMIFS({self.all(_DUE, 'K')},{of_lease}),2)", due, **money)
            book.formula(sheet, row, 11, f"=ROUND(SUMIFS({self.all(_DUE, 'L')},{of_lease}),2)", received, **money)
            book.formula(sheet, row, 12, f"=ROUND(K{n}-L{n},2)", due - received, bold=True, **money)
            charged = f"SUMIFS({self.all(_DUE, 'I')},{of_lease})"
            check = f'=IF(H{n}<>"{MONTHLY}","not counted: "&H{n},IF({charged}=J{n},"ok","months are missing: make a new workbook"))'
            book.formula(sheet, row, 13, check, "ok" if lease.monthly else f"not counted: {lease.frequency}")
        widths = [9, 22, 24, 22, 11, 11, 13, 11, 12, 10, 14, 14, 14, 12]
        self._end(sheet, self.found.leases, widths)

    def _write_payments(self) -> None:
        book, sheet = self.book, self.payments
        headings = (
            "Payment", "Date", "Lease id", "Amount", "Lease", "Tenant of the lease", "Paid by", "Description",
            "Lease start when linked", "Lease end when linked", "Rent when linked", "Check",
        )  # fmt: skip
        says = (
            f"Rent payments that are linked to a lease. Coloured cells are inputs; payments added below count too, "
            f"down to row {self.last[_PAYMENTS]:,}."
        )
        self._begin(sheet, "Payments", says, headings, (3, 10))
        shown = {(month.invoice_id, month.month) for month in self.found.months}
        payments = sorted(self.found.payments, key=lambda item: (item.transaction_date, item.payment_id))
        for row, item in enumerate(payments, start=HEADER + 1):
            n = row + 1
            book.write(sheet, row, 0, item.payment_id, align="left")
            book.write(sheet, row, 1, item.transaction_date, **INPUT)
            book.write(sheet, row, 2, item.invoice_id, align="left", **INPUT)
            book.write(sheet, row, 3, item.amount, num_format=MONEY, **INPUT)
            for place, letter, value in ((4, "B", item.lease_reference), (5, "D", item.tenant)):
                book.formula(
                    sheet, row, place, f'=IFERROR({self.of(_LEASES, letter, f"C{n}")}&"","no such lease")', value
                )
            book.write(sheet, row, 6, item.paid_by)
            book.write(sheet, row, 7, item.description)
            book.write(sheet, row, 8, item.lease_start_date)
            book.write(sheet, row, 9, item.lease_end_date)
            book.write(sheet, row, 10, item.lease_rent_amount, num_format=MONEY)
            rows = f"COUNTIFS({self.all(_DUE, 'A')},C{n},{self.all(_DUE, 'E')},DATE(YEAR(B{n}),MONTH(B{n}),1))"
            missing = "not counted: no row for this lease and month"
            check = f'=IF(B{n}>{AS_OF},"after the as-of day",IF({rows}=0,"{missing}","ok"))'
            counts = (item.invoice_id, item.transaction_date.replace(day=1)) in shown
            book.formula(sheet, row, 11, check, "ok" if counts else missing)
        self._end(sheet, payments, [9, 11, 9, 12, 22, 22, 22, 30, 12, 12, 12, 12])

    # -- what follows from them --------------------------------------------------------------------------

    def _write_due(self) -> None:
        book, sheet = self.book, self.due
        headings = (
            "Lease id", "Lease", "Property", "Tenant", "Month", "Start", "Last day counted", "Monthly rent",
            "Days covered", "Days in month", "DUE", "RECEIVED", "Arrears", "Balance",
        )  # fmt: skip
        says = (
            "DUE = rent × days covered ÷ days in month, rounded to pennies. RECEIVED = linked payments dated in the month. "
            "Arrears = DUE − RECEIVED; balance above zero: owed, below: paid ahead."
        )
        self._begin(sheet, "Due and received", says, headings, range(7, 14))
        before = None
        for row, month in enumerate(self.found.months, start=HEADER + 1):
            n = row + 1
            line: dict[str, Any] = {} if before == month.invoice_id else {"top": 1, "top_color": RULE}
            before = month.invoice_id
            money = {"num_format": MONEY, **line}
            book.write(sheet, row, 0, month.invoice_id, align="left", **line)
            for place, letter, text in (
                (1, "B", month.lease_reference),
                (2, "C", month.property_name),
                (3, "D", month.tenant),
            ):
                book.formula(sheet, row, place, f'={self.of(_LEASES, letter, f"A{n}")}&""', text, **line)
            book.write(sheet, row, 4, month.month, num_format=MONTH, **line)
            book.formula(sheet, row, 5, f"={self.of(_LEASES, 'E', f'A{n}')}", month.start_date, **line)
            last = min(month.end_date or self.found.as_of, self.found.as_of)
            book.formula(sheet, row, 6, f"={self.of(_LEASES, 'I', f'A{n}')}", last, **line)
            monthly = f'{self.of(_LEASES, "H", f"A{n}")}="{MONTHLY}"'
            book.formula(
                sheet, row, 7, f"=IF({monthly},{self.of(_LEASES, 'G', f'A{n}')},0)", month.rent_amount, **money
            )
            covered = f"=MAX(0,MIN(G{n},EOMONTH(E{n},0))-MAX(F{n},E{n})+1)"
            book.formula(sheet, row, 8, covered, month.days_covered, num_format="0", **line)
            book.formula(sheet, row, 9, f"=DAY(EOMONTH(E{n},0))", month.days_in_month, num_format="0", **line)
            book.formula(sheet, row, 10, f"=ROUND(ROUND(H{n}*100,0)*I{n}/J{n},0)/100", month.due, **money)
            dates = self.all(_PAYMENTS, "B")
            received = (
                f"=ROUND(SUMIFS({self.all(_PAYMENTS, 'D')},{self.all(_PAYMENTS, 'C')},A{n},"
                f'{dates},">="&E{n},{dates},"<="&MIN(EOMONTH(E{n},0),{AS_OF})),2)'
            )
            book.formula(sheet, row, 11, received, month.received, **money)
            book.formula(sheet, row, 12, f"=ROUND(K{n}-L{n},2)", month.arrears, **money)
            book.formula(
                sheet, row, 13, f"=ROUND(IF(A{n}=A{n - 1},N{n - 1},0)+M{n},2)", month.balance, bold=True, **money
            )
        self._end(sheet, self.found.months, [9, 22, 24, 22, 10, 11, 12, 12, 9, 9, 13, 13, 13, 14])

    def _write_tenants(self) -> None:
        book, sheet = self.book, self.tenants
        headings = ("Tenant id", "Tenant", "Payment", "Date", "Lease", "Amount", "Received so far", "Paid by")
        says = "The payment history of each tenant: payments linked to their leases, whoever paid."
        self._begin(sheet, "Tenants", says, headings, (5, 6))
        before = None
        for row, item in enumerate(self.found.payments, start=HEADER + 1):
            n = row + 1
            line: dict[str, Any] = {} if before == item.customer_id else {"top": 1, "top_color": RULE}
            before = item.customer_id
            money = {"num_format": MONEY, **line}
            book.write(sheet, row, 0, item.customer_id, align="left", **line)
            book.write(sheet, row, 2, item.payment_id, align="left", **line)
            values = (("F", 1, item.tenant), ("E", 4, item.lease_reference))
            for letter, place, text in values:
                book.formula(sheet, row, place, f'={self.of(_PAYMENTS, letter, f"C{n}")}&""', text, **line)
            book.formula(sheet, row, 3, f"={self.of(_PAYMENTS, 'B', f'C{n}')}", item.transaction_date, **line)
            book.formula(sheet, row, 5, f"={self.of(_PAYMENTS, 'D', f'C{n}')}", item.amount, **money)
            so_far = f"=ROUND(IF(A{n}=A{n - 1},G{n - 1},0)+F{n},2)"
            book.formula(sheet, row, 6, so_far, item.received_so_far, **money)
            book.write(sheet, row, 7, item.paid_by, **line)
        self._end(sheet, self.found.payments, [10, 24, 10, 11, 24, 13, 14, 24])

    def _end(self, sheet: Worksheet, rows: Sequence[object], widths: Sequence[int]) -> None:
        if not rows:
            self.book.write(sheet, HEADER + 1, 0, "There are none.", font_color=QUIET, italic=True)
        self.book.finish(sheet, HEADER, HEADER + len(rows), widths)

    # -- statements --------------------------------------------------------------------------------------

    def _statements(self) -> None:
        blocks = [list(rows) for _, rows in groupby(self.found.months, key=lambda month: month.invoice_id)]
        starts = [0]
        for block in blocks:
            starts.append(starts[-1] + len(block))
        for at in range(0, max(len(blocks), 1), MOST_STATEMENTS):
            sheet = self.book.sheet(STATEMENTS, landscape=False, fit=False)
            sheet.hide_gridlines(2)
            for place, width in enumerate((14, 12, 16, 16, 16, 16)):
                sheet.set_column(place, place, width)
            row, breaks = 0, list[int]()
            for block, start in zip(blocks[at : at + MOST_STATEMENTS], starts[at:], strict=False):
                if row:
                    breaks.append(row)
                row = self._statement(sheet, row, block, HEADER + 2 + start)
            sheet.set_h_pagebreaks(breaks)
            if not blocks:
                self.book.write(sheet, 0, 0, "No lease has a month to show.", font_color=QUIET, italic=True)

    def _statement(self, sheet: Worksheet, row: int, months: Sequence[Month], first: int) -> int:
        """One lease's statement; `first` is the row of its first month on "Due and received". Returns the next row."""
        book, one, due = self.book, months[0], self.names[_DUE]
        lease = f"{due}!$A${first}"

        def of(letter: str) -> str:
            return self.of(_LEASES, letter, lease)

        sheet.set_row(row, 22)
        book.write(sheet, row, 0, "Statement of rent", bold=True, font_size=14)
        book.write(sheet, row, 4, "As of", font_color=QUIET, align="right")
        book.formula(sheet, row, 5, f"={AS_OF}", self.found.as_of, align="right")
        texts = (("Lease", "B", one.lease_reference), ("Property", "C", one.property_name), ("Tenant", "D", one.tenant))
        for label, letter, text in texts:
            row += 1
            book.write(sheet, row, 0, label, font_color=QUIET)
            book.formula(sheet, row, 1, f'={of(letter)}&""', text, bold=label == "Lease")
        row += 1
        book.write(sheet, row, 0, "Start", font_color=QUIET)
        book.formula(sheet, row, 1, f"={of('E')}", one.start_date)
        book.write(sheet, row, 2, "End", font_color=QUIET, align="right")
        end: object = one.end_date or "ongoing"
        book.formula(sheet, row, 3, f'=IF({of("F")}="","ongoing",{of("F")})', end, num_format=DAY, align="left")
        row += 1
        book.write(sheet, row, 0, "Monthly rent", font_color=QUIET)
        book.formula(sheet, row, 1, f"={of('G')}", one.rent_amount, num_format=MONEY, align="left")
        row += 2
        book.heading(sheet, row, ("Month", "Days", "DUE", "RECEIVED", "Arrears", "Balance"), range(1, 6))
        begun = row + 2
        money = {"num_format": MONEY}
        for place, month in enumerate(months):
            row, n = row + 1, first + place
            book.formula(sheet, row, 0, f"={due}!E{n}", month.month, num_format=MONTH)
            days = f"{month.days_covered} of {month.days_in_month}"
            book.formula(sheet, row, 1, f'={due}!I{n}&" of "&{due}!J{n}', days, align="right")
            values = (("K", month.due), ("L", month.received), ("M", month.arrears), ("N", month.balance))
            for column, (letter, value) in enumerate(values, start=2):
                book.formula(sheet, row, column, f"={due}!{letter}{n}", value, **money)
        ended = row + 1
        row += 1
        total = {"bold": True, "top": 1, "top_color": RULE, "bg_color": HEAD}
        balance = months[-1].balance
        book.write(sheet, row, 0, "Total", **total)
        book.write(sheet, row, 1, None, **total)
        totals = (("C", sum(m.due for m in months)), ("D", sum(m.received for m in months)), ("E", balance))
        for column, (letter, value) in enumerate(totals, start=2):
            formula = f"=ROUND(SUM({letter}{begun}:{letter}{ended}),2)"
            book.formula(sheet, row, column, formula, Decimal(value), **money, **total)
        book.formula(sheet, row, 5, f"=F{ended}", balance, **money, **total)
        row += 1
        said = "Owed by the tenant" if balance > 0 else "Paid ahead by the tenant" if balance < 0 else "Nothing is owed"
        words = f'=IF(F{row}>0,"Owed by the tenant",IF(F{row}<0,"Paid ahead by the tenant","Nothing is owed"))'
        book.formula(sheet, row, 5, words, said, align="right", font_color=QUIET, italic=True)
        return row + 3

    # -- the summary -------------------------------------------------------------------------------------

    def _summary(self) -> Sequence[Line]:
        found = self.found
        due = sum((month.due for month in found.months), Decimal(0))
        received = sum((month.received for month in found.months), Decimal(0))
        last = {month.invoice_id: month.balance for month in found.months}
        owed = sum((balance for balance in last.values() if balance > 0), Decimal(0))
        ahead = -sum((balance for balance in last.values() if balance < 0), Decimal(0))
        shown = {(month.invoice_id, month.month) for month in found.months}
        uncounted = sum((p.invoice_id, p.transaction_date.replace(day=1)) not in shown for p in found.payments)

        def of_due(letter: str) -> str:
            return self.all(_DUE, letter)

        def of_leases(letter: str) -> str:
            return self.all(_LEASES, letter)

        checks = self.all(_PAYMENTS, "L")
        paid = f'SUMIFS({self.all(_PAYMENTS, "D")},{checks},"ok")'
        return [
            Line("Rents as of", found.as_of, f"={AS_OF}"),
            Line("Rent DUE", due, f"=SUM({of_due('K')})", MONEY),
            Line("Rent RECEIVED", received, f"=SUM({of_due('L')})", MONEY),
            Line("Arrears: DUE − RECEIVED", due - received, f"=ROUND(SUM({of_due('K')})-SUM({of_due('L')}),2)", MONEY),
            Line("Owed, lease by lease", owed, f'=SUMIF({of_leases("M")},">0")', MONEY),
            Line("Paid ahead, lease by lease", ahead, f'=-SUMIF({of_leases("M")},"<0")', MONEY),
            Line("Leases that owe", sum(b > 0 for b in last.values()), f'=COUNTIF({of_leases("M")},">0")'),
            Line(
                "Leases not counted",
                sum(not lease.monthly for lease in found.leases),
                f'=COUNTA({of_leases("N")})-COUNTIF({of_leases("N")},"ok")',
            ),
            Line("Payments not counted", uncounted, f'=COUNTA({checks})-COUNTIF({checks},"ok")'),
            Line("RECEIVED agrees with Payments", "yes", f'=IF(ROUND(SUM({of_due("L")})-{paid},2)=0,"yes","no")'),
        ]
