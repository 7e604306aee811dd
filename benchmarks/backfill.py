"""Applying a million links: recon beside one bare UPDATE of the same rows and columns, on the shipped tables.

The bare UPDATE is what nobody should run on a table that people use: one transaction, no guard, no ledger, no way back.
Ours checks the bundle and the staged rows against the signed digest, compares every row and its source with what was
planned, writes batches with a guard and a ledger, and can be killed at any moment. Both write the same four columns of
`historical_transactions` with its indexes and foreign keys, from the same staged rows, and commit to disk.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from benchmarks.measure import ROOT, Figure, Setting, at_most, in_turn, slower_than
from recon.backfill import apply as applying
from recon.backfill import executor, sign_off
from recon.backfill import plan as plans
from recon.backfill.plan import Plan
from recon.database import tables
from recon.matching import run as runs
from recon.names import DIALECT
from recon.workspace import Workspace

SUBJECT = "i"
MOST, MOST_OF_TWO = 1.25, 1.0  # times the bare UPDATE (design, section 9)
MOST_MILLISECONDS = 100.0  # nineteen of twenty batches
PER_LEASE = 10  # payments of one lease
ANALYST, REVIEWER = "bench-analyst", "bench-reviewer"

FILL = (
    "INSERT INTO properties SELECT n, 'Flat ' || n, 'AB1 2CD' FROM generate_series(1, {leases}) AS n",
    "INSERT INTO customers (id, name) SELECT n, 'Tenant ' || n FROM generate_series(1, {leases}) AS n",
    """INSERT INTO invoices (id, lease_reference, payprop_id, property_id, customer_id, start_date, end_date, rent_amount)
       SELECT n, 'LEASE-' || n, 'P' || n, n, n, date '2020-01-01' + n % 1500,
           CASE WHEN n % 3 > 0 THEN date '2025-01-01' + n % 700 END, 400 + n % 900
       FROM generate_series(1, {leases}) AS n""",
    """CREATE TABLE payments_before AS
       SELECT n AS id, date '2024-01-01' + n % 700 AS transaction_date, lease AS property_id, lease AS customer_id,
           (400 + n % 900)::numeric(10, 2) AS amount, 'rent' AS category,
           CASE WHEN n % 3 = 0 THEN 'P' || lease END AS payprop_invoice_id, 'Standing order ' || n AS description
       FROM (SELECT n, (n::bigint * 7919 % {leases} + 1)::int AS lease FROM generate_series(1, {rows}) AS n) AS payment""",
)
# The same, cut into batches that are committed one by one: what batches alone cost, before anything is guarded or kept.
CUT = """
    AND staged.place BETWEEN $1::bigint AND $2::bigint AND target.id BETWEEN $3::int AND $4::int
"""
CUT_ROWS = 1_500  # about as many as ours take at a time here
MOST_ROUNDS = 3  # a round rebuilds a table of a million rows four times

COLUMNS = "id, transaction_date, property_id, customer_id, amount, category, payprop_invoice_id, description"
AS_BEFORE = (
    "TRUNCATE historical_transactions",
    f"INSERT INTO historical_transactions ({COLUMNS}) SELECT {COLUMNS} FROM payments_before ORDER BY id",
    "ANALYZE historical_transactions",
    "ANALYZE invoices",
)
BARE = """
    UPDATE public.historical_transactions AS target
    SET invoice_id = staged.after_1, lease_start_date = staged.after_2, lease_end_date = staged.after_3,
        lease_rent_amount = staged.after_4
    FROM {staged} AS staged WHERE target.id = staged.target_key
"""


def run(setting: Setting) -> list[Figure]:
    """Ours with one worker and with two, in turn with the bare UPDATE."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        plan = _planned(setting, workspace)
        details: dict[int, list[applying.Applied]] = {1: [], 2: []}

        def ours(workers: int) -> float:
            _as_before(setting, plan)
            began = perf_counter()
            done = applying.apply(setting.database, workspace, plan.plan, ANALYST, execute=True, workers=workers)
            seconds = perf_counter() - began
            assert done.changed == plan.rows, f"{done.changed} of {plan.rows} rows were changed"
            details[workers].append(done)
            return seconds

        sides = {
            "one": lambda: ours(1),
            "bare": lambda: _bare(setting, plan),
            "two": lambda: ours(2),
            "cut": lambda: _cut(setting, plan),
        }
        seconds = in_turn(min(setting.rounds, MOST_ROUNDS), sides)
    figures: list[Figure] = []
    for workers, name, most in ((1, "one", MOST), (2, "two", MOST_OF_TWO)):
        said = f"{plan.rows:,} rows applied, {workers} worker{'s' if workers > 1 else ''}"
        slowest = statistics.median(done.p95_milliseconds for done in details[workers])
        checks = statistics.median(done.checking_seconds for done in details[workers])
        note = f"of it {checks:.2f} s checking before the first batch; {details[workers][-1].batches:,} batches"
        figures.append(slower_than(SUBJECT, said, seconds[name], seconds["bare"], most, note))
        target, met = at_most(MOST_MILLISECONDS, slowest)
        figures.append(
            Figure(SUBJECT, f"p95 of a batch, {workers} worker{'s' if workers > 1 else ''}", slowest, "ms", target, met)
        )
    said = f"the bare UPDATE in committed batches of {CUT_ROWS:,} rows"
    note = "no part of recon: what batches cost on this table, whose indexes take a new entry for every row"
    figures.append(slower_than(SUBJECT, said, seconds["cut"], seconds["bare"], None, note))
    return figures


def _planned(setting: Setting, workspace: Workspace) -> Plan:
    """A plan of all payments, approved."""
    spec = Workspace(ROOT).spec("rent_payments")
    script = (ROOT / "sql" / "schema" / "rent_payments.sql").read_text(encoding="utf-8")
    with setting.database.session() as session:
        session.execute("DROP SCHEMA public CASCADE")
        session.execute("CREATE SCHEMA public")
        with session.driver.cursor() as cursor:
            cursor.execute(script.encode())
        for statement in FILL:
            session.execute(statement.format(rows=setting.rows, leases=max(1, setting.rows // PER_LEASE)))
        for statement in AS_BEFORE:
            session.execute(statement)
    runs.match(setting.database, spec, ANALYST)
    plan = plans.make(setting.database, workspace, spec, ANALYST)
    assert plan is not None
    assert plan.rows == setting.rows
    return sign_off.approve(setting.database, workspace, plan.plan, REVIEWER)


def as_before(setting: Setting, plan: Plan, statements: Sequence[str], table: str) -> None:
    """The table as it was before any round, by these statements, and the plan approved."""
    with setting.database.session() as session:
        for statement in statements:
            session.execute(statement)
        session.execute(f"TRUNCATE {tables.own('ledger', plan.plan).sql(DIALECT)}")
        session.execute("DELETE FROM recon.batches WHERE plan = $1", plan.plan)
        session.execute("UPDATE recon.plans SET state = 'approved' WHERE plan = $1", plan.plan)
    with setting.database.session() as session:
        session.driver.commit()
        session.driver.autocommit = True
        session.execute(f"VACUUM {table}")
        session.execute("CHECKPOINT")
        session.driver.autocommit = False


def _as_before(setting: Setting, plan: Plan) -> None:
    as_before(setting, plan, AS_BEFORE, "historical_transactions")


def _cut(setting: Setting, plan: Plan) -> float:
    _as_before(setting, plan)
    statement = BARE.format(staged=tables.own("staged", plan.plan).sql(DIALECT)) + CUT
    with setting.database.session() as session:
        executor.limited(session)
        began = perf_counter()
        for first in range(1, plan.rows + 1, CUT_ROWS):
            last = min(plan.rows, first + CUT_ROWS - 1)
            session.execute(statement, first, last, first, last)  # keys are 1, 2, 3 … like the places
            session.commit()
        return perf_counter() - began


def _bare(setting: Setting, plan: Plan) -> float:
    _as_before(setting, plan)
    with setting.database.session() as session:
        began = perf_counter()
        session.execute(BARE.format(staged=tables.own("staged", plan.plan).sql(DIALECT)))
        session.commit()
        return perf_counter() - began
