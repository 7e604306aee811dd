"""The rules for one payment, as a function (INV-08)."""

from __future__ import annotations

import warnings
from datetime import date
from typing import overload

from recon.database.connect import Session
from recon.matching.attempt import decide_record
from recon.spec import Reconciliation


@overload
def find_invoice_for_transaction(
    session: Session,
    spec: Reconciliation,
    property_id: int | None,
    customer_id: int | None,
    payprop_invoice_id: str | None,
    transaction_date: date,
    /,
) -> int | None: ...


@overload
def find_invoice_for_transaction(
    session: Session, spec: Reconciliation, property_id: int | None, tenant_payprop_id: str | None, date: date, /
) -> int | None: ...


def find_invoice_for_transaction(session: Session, spec: Reconciliation, *arguments: object) -> int | None:
    """The invoice (lease) that a rent payment belongs to, by the passes of `rent_payments`.

    Args:
        session: an open session.
        spec: the reconciliation `rent_payments`.
        *arguments: property id, customer id, PayProp invoice id and transaction date. The date never restricts
            (INV-05). Deprecated: property id, the tenant's PayProp id and date; the tenant is found by
            `customers.payprop_id`, and an unknown one is a payment without a customer.

    Returns:
        The invoice's id where the rules link automatically; None where nothing matches, where several leases are
        equally good, and where a person must confirm.

    Raises:
        TypeError: neither three nor four arguments.
    """
    if len(arguments) == 4:
        property_id, customer_id, payprop_invoice_id, transaction_date = arguments
    elif len(arguments) == 3:
        warnings.warn(
            "find_invoice_for_transaction(property, tenant PayProp id, date) is deprecated: "
            "give property, customer, PayProp invoice id and date",
            DeprecationWarning,
            stacklevel=2,
        )
        property_id, tenant, transaction_date = arguments
        session.users_path()
        customer_id = session.value("SELECT id FROM customers WHERE payprop_id = $1::text", tenant)
        payprop_invoice_id = None
    else:
        raise TypeError(f"find_invoice_for_transaction takes 4 arguments (or, deprecated, 3), not {len(arguments)}")
    decision = decide_record(
        session,
        spec,
        {
            "property_id": property_id,
            "customer_id": customer_id,
            "payprop_invoice_id": payprop_invoice_id,
            "transaction_date": transaction_date,
        },
    )
    return decision.source_key if decision.outcome == "matched" else None
