"""The rules of the rent payments on real tables: what links, what waits for a person, what is said of it."""

from __future__ import annotations

import pytest

from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill.plan import Plan
from recon.database.connect import Database
from recon.errors import (
    UsageError,
)
from recon.matching import pairs
from recon.matching import run as runs
from recon.matching.bind import bind
from recon.matching.pool import Filter
from recon.spec import Reconciliation
from recon.systems.rent_payments.lookup import find_invoice_for_transaction
from recon.workspace import Workspace
from tests.support import ROOT, execute, rows

KNOWN_ROWS = {
    1551: (20, "LEASE-BH-F18-2025"),
    1526: (31, "LEASE-BH-F28-2025"),
    1515: (16, "LEASE-BH-F14-2025"),
    1484: (10, "LEASE-BH-F10-2025"),
    1492: (24, "LEASE-BH-F20-2025"),
    1483: (9, "LEASE-BH-F9-2025"),
    1491: (22, "LEASE-BH-F19-2025"),
    1485: (12, "LEASE-BH-F11-2025"),
    1494: (26, "LEASE-BH-F22-2025"),
    1496: (29, "LEASE-BH-F26-2025"),
}
SAID = {
    1551: "final payment of an ended lease, 9 days after its end",
    1484: "early rent, 1 day before the lease starts",
    1491: "deposit or early rent, 18 days before the lease starts",
}


def test_the_ten_known_rows_link_to_exactly_their_leases(rent: Database, spec: Reconciliation) -> None:
    """INV-07, INV-09, INV-10."""
    run = runs.match(rent, spec, "ann")
    with rent.session(read_only=True) as session:
        found = pairs.listed(session, bind(session, spec), run.run, outcomes=["matched"])
    assert {row["target_key"]: (row["source_key"], row["lease_reference"]) for row in found} == KNOWN_ROWS
    said = {row["target_key"]: row["interpretation"] for row in found}
    assert {key: said[key] for key in SAID} == SAID


def test_the_counts_add_up_to_the_population(rent: Database, spec: Reconciliation) -> None:
    """INV-01, INV-11."""
    run = runs.match(rent, spec, "ann")
    assert run.outcomes == {"linked": 125, "matched": 10}
    assert run.population == sum(run.outcomes.values()) == 135
    assert run.coverage == 1.0


def test_the_same_rules_run_on_the_second_table(rent: Database, workspace: Workspace) -> None:
    """INV-16, INV-04, INV-06: other tenants are proposed, ties are ambiguous, reasons add up."""
    run = runs.match(rent, workspace.spec("financial_transactions"), "ann")
    assert run.population == 1028
    assert run.outcomes["linked"] == 1028 - 257
    assert run.outcomes["proposed"] == 12
    assert run.outcomes["ambiguous"] == 12
    assert sum(run.reasons.values()) == run.outcomes["unmatched"] == 8


def test_linked_rows_are_never_touched_and_leave_the_pool(rent: Database, spec: Reconciliation) -> None:
    """INV-20: a wrong link that exists is listed as linked, and no rule looks at it."""
    execute(rent, "UPDATE historical_transactions SET invoice_id = 1 WHERE id = 1551")
    run = runs.match(rent, spec, "ann")
    assert run.outcomes == {"linked": 126, "matched": 9}


def test_the_same_data_gives_the_same_decisions_whatever_the_order_of_rows(
    rent: Database, spec: Reconciliation
) -> None:
    def decided(run: runs.Run) -> list[tuple[object, ...]]:
        with rent.session(read_only=True) as session:
            return list(pairs.iterate(session, bind(session, spec), run.run))

    before = decided(runs.match(rent, spec, "ann"))
    execute(
        rent,
        "CREATE TABLE shuffled AS SELECT * FROM invoices ORDER BY md5(id::text)",
        "ALTER TABLE historical_transactions DROP CONSTRAINT historical_transactions_invoice_id_fkey",
        "ALTER TABLE financial_transactions DROP CONSTRAINT financial_transactions_invoice_id_fkey",
        "DELETE FROM invoices",
        "INSERT INTO invoices SELECT * FROM shuffled",
    )
    assert decided(runs.match(rent, spec, "ann")) == before


def test_a_limited_run_says_so_and_cannot_be_planned_from_unless_asked(
    rent: Database, workspace: Workspace, spec: Reconciliation
) -> None:
    run = runs.match(rent, spec, "ann", Filter(from_date="2025-03-05", to_date="2025-03-26"))
    assert run.limited == {"from": "2025-03-05", "to": "2025-03-26"}
    assert run.outcomes["matched"] == 3  # 1484 and 1492 on the first day, 1515 on the last
    with pytest.raises(UsageError, match="part of the records"):
        plans.make(rent, workspace, spec, "ann")
    made = plans.make(rent, workspace, spec, "ann", allow_limited=True)
    assert made is not None
    assert made.rows == 3


def test_a_payment_finds_its_lease_by_one_function(rent: Database, spec: Reconciliation) -> None:
    """INV-08: the new signature, the deprecated one, and None where a person must decide."""
    paid = rows(rent, "SELECT property_id, customer_id, transaction_date FROM historical_transactions WHERE id = 1551")[
        0
    ]
    execute(rent, "UPDATE customers SET payprop_id = 'TENANT76' WHERE id = 76")
    with rent.session() as session:
        assert find_invoice_for_transaction(session, spec, 33, 76, None, paid[2]) == 20
        with pytest.warns(DeprecationWarning, match="deprecated"):
            assert find_invoice_for_transaction(session, spec, 33, "TENANT76", paid[2]) == 20
        assert find_invoice_for_transaction(session, spec, 33, 5, None, paid[2]) is None  # another tenant's lease
        assert find_invoice_for_transaction(session, spec, None, None, "x' OR '1'='1", paid[2]) is None


def test_each_pass_decides_the_records_that_are_its_own(rent: Database, workspace: Workspace) -> None:
    """INV-02, INV-03, INV-04, INV-06: PayProp id first, then tenant, then the property of a payment without one."""
    run = runs.match(rent, workspace.spec("financial_transactions"), "ann")
    counted = {item.name: (item.matched, item.proposed, item.ambiguous) for item in run.passes}
    assert counted == {
        "payprop_invoice_id": (90, 0, 3),
        "property_and_customer": (110, 0, 5),
        "property_without_customer": (25, 0, 4),
        "property_of_another_tenant": (0, 12, 0),
    }


@pytest.mark.parametrize(
    ("paid", "said"),
    [
        ("2025-01-08", "deposit or early rent, 2 days before the lease starts"),
        ("2025-01-09", "early rent, 1 day before the lease starts"),
        ("2025-01-10", "within the lease"),
        ("2025-06-30", "within the lease"),
        ("2025-07-01", "final payment of an ended lease, 1 day after its end"),
        ("2025-07-31", "final payment of an ended lease, 31 days after its end"),
        ("2025-08-01", "late, 32 days after the lease ended"),
    ],
)
def test_a_date_never_restricts_and_is_put_into_words(
    rent: Database, spec: Reconciliation, paid: str, said: str
) -> None:
    """INV-05, INV-10: the first and the last day of each sentence."""
    execute(
        rent,
        "INSERT INTO properties (id, name, postcode) VALUES (900, 'Alone', 'QH1 1AA')",
        "INSERT INTO invoices (id, lease_reference, property_id, customer_id, start_date, end_date, rent_amount)"
        " VALUES (900, 'ALONE', 900, 1, '2025-01-10', '2025-06-30', 700)",
        "INSERT INTO historical_transactions (id, transaction_date, property_id, customer_id, amount, category)"
        f" VALUES (9001, '{paid}', 900, 1, 700, 'rent')",
    )
    run = runs.match(rent, spec, "ann")
    with rent.session(read_only=True) as session:
        found = pairs.listed(session, bind(session, spec), run.run, outcomes=["matched"])
    assert [(row["lease_reference"], row["interpretation"]) for row in found if row["target_key"] == 9001] == [
        ("ALONE", said)
    ]


def test_the_ready_queries_say_what_is_linked_and_what_is_wrong(
    rent: Database, workspace: Workspace, approved: Plan
) -> None:
    """INV-15: 135 linked, 0 unlinked; no missing and no wrong link."""
    queries = (ROOT / "sql" / "queries" / "rent_payments.sql").read_text(encoding="utf-8").split(";")[:-1]
    assert [rows(rent, query) for query in (queries[0], queries[3])] == [[(125, 10)], []]
    applying.apply(rent, workspace, approved.plan, "ann", execute=True)
    answers = [rows(rent, query) for query in queries]
    assert answers[0] == [(135, 0)]
    assert sum(row[1] for row in answers[1]) == 135
    assert answers[2:] == [[], []]
    execute(rent, "UPDATE historical_transactions SET invoice_id = 20 WHERE id = 1483")
    assert [row[0] for row in rows(rent, queries[3])] == [1483]
