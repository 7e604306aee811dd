"""The sample of rent payments holds the history it must reproduce, judged by the plain version of the rules."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from recon.systems.rent_payments import sample
from tests.oracle import Decision, Problem, decide
from tests.oracle_pass import Rule

Row = dict[str, Any]

# id: date, property, customer, amount, lease, its reference, the pass
KNOWN = {
    1551: (date(2025, 5, 15), 33, 76, Decimal("185.00"), 20, "LEASE-BH-F18-2025", "property_and_customer"),
    1526: (date(2025, 3, 31), 15, 38, Decimal("740.00"), 31, "LEASE-BH-F28-2025", "property_and_customer"),
    1515: (date(2025, 3, 26), 24, 24, Decimal("795.00"), 16, "LEASE-BH-F14-2025", "payprop_invoice_id"),
    1484: (date(2025, 3, 5), 7, 11, Decimal("735.00"), 10, "LEASE-BH-F10-2025", "property_and_customer"),
    1492: (date(2025, 3, 5), 39, 22, Decimal("700.00"), 24, "LEASE-BH-F20-2025", "property_and_customer"),
    1483: (date(2025, 3, 3), 6, 26, Decimal("700.00"), 9, "LEASE-BH-F9-2025", "payprop_invoice_id"),
    1491: (date(2025, 3, 3), 43, 25, Decimal("740.00"), 22, "LEASE-BH-F19-2025", "property_and_customer"),
    1485: (date(2025, 3, 2), 17, 17, Decimal("795.00"), 12, "LEASE-BH-F11-2025", "property_and_customer"),
    1494: (date(2025, 2, 28), 14, 9, Decimal("740.00"), 26, "LEASE-BH-F22-2025", "property_and_customer"),
    1496: (date(2025, 2, 28), 32, 2, Decimal("675.00"), 29, "LEASE-BH-F26-2025", "payprop_invoice_id"),
}


def same(target_column: str, source_column: str | None = None):
    """One `on` equality; the source column has the target's name unless another is given."""
    return (lambda t: t[target_column], lambda s: s[source_column or target_column])


LATEST = [  # s.end_date desc nulls first, s.start_date desc
    lambda t, s: (0, 0) if s["end_date"] is None else (1, -s["end_date"].toordinal()),
    lambda t, s: (-s["start_date"].toordinal(),),
]
PROPERTY, CUSTOMER = same("property_id"), same("customer_id")
RULES = [
    Rule("payprop_invoice_id", on=[same("payprop_invoice_id", "payprop_id")]),
    Rule("property_and_customer", on=[PROPERTY, CUSTOMER], prefer=LATEST),
    Rule("property_without_customer", on=[PROPERTY], when=lambda t, s: t["customer_id"] is None, prefer=LATEST),
    Rule("property_of_another_tenant", on=[PROPERTY], prefer=LATEST, review=True),
]


@pytest.fixture(scope="module")
def data() -> dict[str, list[Row]]:
    return {table.name: [dict(zip(table.columns, row, strict=True)) for row in table.rows] for table in sample.tables()}


@pytest.fixture(scope="module")
def leases(data: dict[str, list[Row]]) -> dict[int, Row]:
    return {lease["id"]: lease for lease in data["invoices"]}


def rents(data: dict[str, list[Row]], table: str) -> list[Row]:
    return [row for row in data[table] if row["category"] == "rent"]


def linked_rents(data: dict[str, list[Row]]) -> list[Row]:
    return [row for row in rents(data, "historical_transactions") if row["invoice_id"] is not None]


def conclude(targets: list[Row], data: dict[str, list[Row]], link: str | None = "invoice_id") -> Mapping[int, Decision]:
    return decide(Problem(targets, data["invoices"], RULES, link=link)).decisions


def test_two_calls_and_two_processes_give_the_same_rows():
    code = "from recon.systems.rent_payments.sample import tables; print(tables())"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert sample.tables() == sample.tables()
    assert len(printed) == 1


def test_the_tables_are_whole(data: dict[str, list[Row]]):
    """INV-17: a linked payment holds the terms of its lease; an unlinked one holds none."""
    sizes = {name: len(rows) for name, rows in data.items()}
    assert list(sizes) == [
        "properties", "customers", "invoices", "historical_transactions", "financial_transactions"
    ]  # fmt: skip
    assert (sizes["properties"], sizes["customers"], sizes["financial_transactions"]) == (56, 100, 1028)
    assert 90 <= sizes["invoices"] <= 150
    keys = {name: {row["id"] for row in rows} for name, rows in data.items()}
    assert {name: len(ids) for name, ids in keys.items()} == sizes
    for column, rows in (("lease_reference", data["invoices"]), ("payprop_id", data["customers"])):
        values = [row[column] for row in rows if row[column] is not None]
        assert len(values) == len(set(values))
    terms = {lease["id"]: (lease["start_date"], lease["end_date"], lease["rent_amount"]) for lease in data["invoices"]}
    for row in data["historical_transactions"] + data["financial_transactions"]:
        kept = (row["lease_start_date"], row["lease_end_date"], row["lease_rent_amount"])
        assert kept == terms.get(row["invoice_id"], (None, None, None))
        assert row["property_id"] in keys["properties"] | {None}
        assert row["customer_id"] in keys["customers"] | {None}
        assert row["amount"] > 0
        assert row["amount"].as_tuple().exponent == -2
        assert date(2023, 1, 1) <= row["transaction_date"] <= date(2025, 12, 31)
    for lease in data["invoices"]:
        assert lease["property_id"] in keys["properties"]
        assert lease["customer_id"] in keys["customers"]
        assert 600 <= lease["rent_amount"] <= 1200
        assert lease["end_date"] is None or lease["start_date"] < lease["end_date"]


def test_history_has_135_rents_of_which_10_are_not_linked(data: dict[str, list[Row]]):
    """INV-01: 125 of 135 linked, all 135 after the rules; rows of other categories are beside them."""
    rows = rents(data, "historical_transactions")
    outcomes = Counter(verdict.outcome for verdict in conclude(rows, data).values())
    assert outcomes == {"linked": 125, "matched": 10}
    others = [row for row in data["historical_transactions"] if row["category"] != "rent"]
    assert {row["category"] for row in others} == {"deposit", "maintenance", "commission"}
    assert Counter(row["invoice_id"] is not None for row in others) == {True: 5, False: 43}


def test_the_ten_known_rows_are_the_unlinked_ones(data: dict[str, list[Row]], leases: dict[int, Row]):
    """INV-07: ids, dates, properties, customers and amounts, and the one lease the rules give each."""
    unlinked = {row["id"]: row for row in rents(data, "historical_transactions") if row["invoice_id"] is None}
    verdicts = conclude(list(unlinked.values()), data)
    columns = ("transaction_date", "property_id", "customer_id", "amount")
    found = {
        key: (
            *(row[column] for column in columns),
            verdicts[key].partner,
            leases[verdicts[key].partner]["lease_reference"],
            verdicts[key].rule,
        )
        for key, row in unlinked.items()
    }
    assert found == KNOWN
    assert {verdict.outcome for verdict in verdicts.values()} == {"matched"}


def test_the_known_rows_are_paid_when_they_should_be(data: dict[str, list[Row]], leases: dict[int, Row]):
    """INV-07: nine days after the end, one day before the start, and eight times 2 to 18 days before it."""
    names = {row["id"]: row["name"] for row in data["properties"]}
    early = {key: (leases[known[4]]["start_date"] - known[0]).days for key, known in KNOWN.items()}
    assert leases[20]["end_date"] == date(2025, 5, 6)
    assert leases[10]["start_date"] == date(2025, 3, 6)
    assert all(2 <= days <= 18 for key, days in early.items() if key not in (1551, 1484))
    for _, place, _, _, lease, reference, _ in KNOWN.values():
        assert f"LEASE-BH-F{names[place].removeprefix('Flat ').split(',')[0]}-2025" == reference
        assert leases[lease]["property_id"] == place


def test_known_tenants_have_several_leases(data: dict[str, list[Row]], leases: dict[int, Row]):
    """INV-03: ongoing before ended and later before earlier decide among a known tenant's leases; INV-06."""
    of_tenant = {
        key: [lease for lease in data["invoices"] if (lease["property_id"], lease["customer_id"]) == (place, customer)]
        for key, (_, place, customer, *_) in KNOWN.items()
    }
    assert {key for key, own in of_tenant.items() if len(own) > 1} >= {1551, 1526, 1492, 1494}
    ongoing = {key: sum(lease["end_date"] is None for lease in own) for key, own in of_tenant.items()}
    assert ongoing[1492] == 1, "the ongoing one decides"
    assert ongoing[1494] == 2, "the later start decides"
    assert any(lease["end_date"] is None for lease in data["invoices"] if lease["property_id"] == 33), (
        "another tenant's ongoing lease stands beside the ended one of 1551"
    )


def test_links_of_the_history_are_right(data: dict[str, list[Row]], leases: dict[int, Row]):
    """INV-15: the property agrees, and the customer where known or the PayProp id."""
    for row in linked_rents(data):
        lease = leases[row["invoice_id"]]
        assert row["property_id"] == lease["property_id"]
        by_payprop = lease["payprop_id"] is not None and row["payprop_invoice_id"] == lease["payprop_id"]
        assert row["customer_id"] in (None, lease["customer_id"]) or by_payprop


def test_the_history_has_every_case(data: dict[str, list[Row]], leases: dict[int, Row]):
    """INV-05: whatever the date and the amount, a payment is linked; INV-16: ties and other tenants among them."""
    pairs = Counter((lease["property_id"], lease["customer_id"]) for lease in leases.values())
    equal = Counter(
        (lease["property_id"], lease["customer_id"], lease["start_date"], lease["end_date"])
        for lease in leases.values()
    )
    cases: Counter[str] = Counter()
    for row in linked_rents(data):
        lease = leases[row["invoice_id"]]
        before = lease["start_date"] - row["transaction_date"]
        pair = (lease["property_id"], lease["customer_id"])
        cases["deposit"] += before > timedelta(days=30)
        cases["early"] += timedelta(days=1) <= before <= timedelta(days=30)
        cases["late"] += lease["end_date"] is not None and row["transaction_date"] > lease["end_date"]
        cases["part"] += row["amount"] < lease["rent_amount"]
        cases["sequential"] += pairs[pair] > 1 and equal[(*pair, lease["start_date"], lease["end_date"])] == 1
        cases["no customer"] += row["customer_id"] is None
        cases["other tenant"] += pairs[row["property_id"], row["customer_id"]] == 0 and row["customer_id"] is not None
        tied = equal[(*pair, lease["start_date"], lease["end_date"])] > 1 and row["payprop_invoice_id"] is None
        cases["tie"] += tied and row["customer_id"] is not None
    assert cases["deposit"] == 8
    assert cases["early"] == 10
    assert cases["late"] >= 8
    assert cases["part"] == 10
    assert cases["sequential"] >= 6
    assert cases["no customer"] == 8
    assert cases["other tenant"] == 4
    assert cases["tie"] == 3


@pytest.mark.parametrize(("table", "precision", "recall"), [
    ("historical_transactions", 0.95, 0.90),
    ("financial_transactions", 0.95, 0.90),
])  # fmt: skip
def test_the_rules_agree_with_most_links(data: dict[str, list[Row]], table: str, precision: float, recall: float):
    """INV-16: hidden and decided again, most links come back, and not all."""
    rows = [row for row in rents(data, table) if row["invoice_id"] is not None]
    verdicts = conclude(rows, data, link=None)
    matched = [row for row in rows if verdicts[row["id"]].outcome == "matched"]
    right = sum(verdicts[row["id"]].partner == row["invoice_id"] for row in matched)
    assert precision <= right / len(matched) < 1
    assert recall <= right / len(rows) < 1


def test_imports_have_257_unlinked_of_1028(data: dict[str, list[Row]]):
    """INV-16: by the same rules 225 match, 12 are tied, 12 wait for a person, 8 find nothing."""
    rows = data["financial_transactions"]
    assert {row["category"] for row in rows} == {"rent"}
    verdicts = conclude(rows, data)
    assert Counter((verdict.outcome, verdict.rule, verdict.reason) for verdict in verdicts.values()) == {
        ("linked", None, None): 771,
        ("matched", "payprop_invoice_id", None): 90,
        ("matched", "property_and_customer", None): 110,
        ("matched", "property_without_customer", None): 25,
        ("proposed", "property_of_another_tenant", "review"): 12,
        ("ambiguous", "payprop_invoice_id", "tie"): 3,
        ("ambiguous", "property_and_customer", "tie"): 5,
        ("ambiguous", "property_without_customer", "tie"): 4,
        ("unmatched", "payprop_invoice_id", "null_key"): 3,
        ("unmatched", "payprop_invoice_id", "no_candidate"): 2,
        ("unmatched", "property_and_customer", "no_candidate"): 2,
        ("unmatched", "property_without_customer", "no_candidate"): 1,
    }


def test_identifiers_are_filled_as_in_real_records(data: dict[str, list[Row]]):
    """INV-12: nearly all payments name the property, most the customer, two in five the PayProp id."""
    expected = {"property_id": 0.98, "customer_id": 0.93, "payprop_invoice_id": 0.40}
    for rows in (data["financial_transactions"], rents(data, "historical_transactions")):
        for column, share in expected.items():
            filled = sum(row[column] is not None for row in rows) / len(rows)
            assert filled == pytest.approx(share, abs=0.03), column


def test_two_leases_can_share_a_payprop_id(data: dict[str, list[Row]]):
    """INV-12: a renewal that kept the id of the lease before it is there for the check to find."""
    shared = Counter(lease["payprop_id"] for lease in data["invoices"] if lease["payprop_id"])
    assert sorted(number for number in shared.values() if number > 1) == [2, 2]
