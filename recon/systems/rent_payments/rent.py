"""Rent due and rent received, kept apart (INV-17): the queries of sql/queries, run with a day and read as typed rows.

The rule of DUE (its source is INV-17 of docs/requirements.md; rent_due_and_received.sql states it and is the one place
that computes it): a lease is due its monthly rent for every whole month from its start to its end; in a month that it
covers in part, first and last, rent × days covered ÷ days of that month, rounded to pennies, half a penny up. Start
and end are included. An ongoing lease, and one that ends later, is due up to the day as of which is counted.
RECEIVED is the sum of the rent payments that are linked to the lease and dated in the month; deposits, early and
late payments fall into months outside the lease. Arrears = DUE − RECEIVED.

Money is in the currency of the data, dates have no time zone. Leases that are not monthly are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Any

from recon.database.connect import Session
from recon.workspace import template

MONTHLY = "monthly"  # the frequency that rents are counted for


@dataclass(frozen=True)
class Lease:
    """The terms of one lease; `end_date` None: it is ongoing."""

    invoice_id: int
    lease_reference: str
    property_id: int
    property_name: str | None
    customer_id: int
    tenant: str | None
    start_date: date
    end_date: date | None
    rent_amount: Decimal
    frequency: str

    @property
    def monthly(self) -> bool:
        return self.frequency == MONTHLY


@dataclass(frozen=True)
class Month:
    """One month of one lease. `balance` adds up the arrears to here: above zero is owed, below is paid ahead."""

    invoice_id: int
    lease_reference: str
    property_id: int
    property_name: str | None
    customer_id: int
    tenant: str | None
    month: date  # its first day
    start_date: date
    end_date: date | None
    rent_amount: Decimal
    days_covered: int
    days_in_month: int
    due: Decimal
    received: Decimal
    arrears: Decimal
    balance: Decimal


@dataclass(frozen=True)
class Payment:
    """One linked rent payment, as part of a tenant's history; the lease's terms are those kept when it was linked."""

    customer_id: int
    tenant: str | None
    payment_id: int
    transaction_date: date
    amount: Decimal
    received_so_far: Decimal  # from this tenant, up to this payment
    invoice_id: int
    lease_reference: str
    lease_start_date: date | None
    lease_end_date: date | None
    lease_rent_amount: Decimal | None
    paid_by_id: int | None
    paid_by: str | None
    description: str | None


def leases(session: Session) -> list[Lease]:
    """Every lease, by its reference."""
    return [Lease(*row) for row in _rows(session, "rent_leases", Lease)]


def due_and_received(session: Session, as_of: date) -> list[Month]:
    """Rent due, received and owed per lease and month up to a day, by lease and month."""
    return [Month(*row) for row in _rows(session, "rent_due_and_received", Month, as_of, None)]


def statement(session: Session, invoice_id: int, as_of: date) -> list[Month]:
    """The monthly statement of one lease up to a day; empty where there is no such lease, or nothing to say of it."""
    return [Month(*row) for row in _rows(session, "rent_due_and_received", Month, as_of, str(invoice_id))]


def payment_history(session: Session, as_of: date) -> list[Payment]:
    """Every linked rent payment up to a day, by tenant and date."""
    return [Payment(*row) for row in _rows(session, "rent_payments_by_tenant", Payment, as_of)]


def counted(session: Session, as_of: date, without: Sequence[int]) -> tuple[int, int]:
    """How many months and how many payments there are up to a day, leases `without` left out; none is fetched."""
    session.users_path()
    months = session.value(_number_of("rent_due_and_received", 3), as_of, None, list(without))
    payments = session.value(_number_of("rent_payments_by_tenant", 2), as_of, list(without))
    return months, payments


def _number_of(name: str, place: int) -> str:
    listed = _query(name).rstrip("; \n")
    return f"SELECT count(*) FROM (\n{listed}\n) AS listed WHERE invoice_id <> ALL (${place}::bigint[])"  # noqa: S608 (text of our own)


def out_of_time(session: Session, first: date) -> list[int]:
    """Leases with a start, an end or a linked payment before a day, or at no day (infinity): most are slips of the pen."""
    session.users_path()
    return [identity for (identity,) in session.rows(_OUT_OF_TIME, first)]


_OUT_OF_TIME = """
    SELECT invoices.id FROM invoices
    WHERE invoices.start_date < $1 OR NOT isfinite(invoices.start_date) OR invoices.end_date < $1 OR EXISTS (
        SELECT FROM historical_transactions AS payment
        WHERE payment.invoice_id = invoices.id AND payment.category = 'rent' AND payment.transaction_date < $1
    )
    ORDER BY invoices.id
"""


def _rows(session: Session, name: str, kind: type, *values: object) -> list[tuple[Any, ...]]:
    """The rows of a query whose columns are the fields of a class. Tables are those of the user who connects."""
    session.users_path()
    cursor = session.execute(_query(name), *values)
    assert [column.name for column in cursor.description or ()] == [field.name for field in fields(kind)]
    return cursor.fetchall()


@cache
def _query(name: str) -> str:
    # Always the shipped one: a workspace that came from somewhere else must not run its own.
    return (template("sql") / "queries" / f"{name}.sql").read_text(encoding="utf-8")
