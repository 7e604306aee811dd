"""1 M payments, 100 k leases, three passes: what recon emits beside the best hand-written SQL for the same decisions.

Both write the same columns to a new table in the same session; the connection is open; reasons are timed apart.
They take turns, so that neither profits from a warmer cache, and the medians are compared.
"""

from __future__ import annotations

import statistics
from time import perf_counter

from recon.database import tables
from recon.database.connect import Database, Session
from recon.matching import run as runs
from recon.matching import statements
from recon.matching.bind import bind
from recon.spec import Reconciliation

SPEC = Reconciliation.model_validate(
    {
        "name": "bench",
        "target": {"table": "payments", "key": "id"},
        "source": {"table": "leases", "key": "id"},
        "link": {"column": "lease_id"},
        "passes": [
            {"name": "payprop", "on": {"payprop_id": "payprop_id"}},
            {
                "name": "property_and_customer",
                "on": {"property_id": "property_id", "customer_id": "customer_id"},
                "prefer": ["s.end_date desc nulls first", "s.start_date desc"],
                "confidence": 0.95,
            },
            {
                "name": "property_only",
                "on": {"property_id": "property_id"},
                "when": "t.customer_id is null",
                "prefer": ["s.end_date desc nulls first", "s.start_date desc"],
                "confidence": 0.7,
            },
        ],
    }
)

# A payment belongs to some lease, and names of it what a bank names: sometimes the PayProp id, mostly the property,
# often the customer. Every fiftieth lease starts and ends like its neighbour on the same property: ties.
DATA = (
    """
    CREATE TABLE leases AS SELECT n::int AS id, 'P' || n AS payprop_id, (n / 3)::int AS property_id,
        (n / 3)::int AS customer_id, date '2020-01-01' + (CASE WHEN n % 50 < 3 THEN 0 ELSE n * 7 % 1500 END)::int AS start_date,
        CASE WHEN n % 5 > 0 THEN date '2021-01-01' + (CASE WHEN n % 50 < 3 THEN 0 ELSE n * 7 % 1500 END)::int END AS end_date
    FROM generate_series(1, {sources}) AS n
    """,
    """
    CREATE TABLE payments AS SELECT n::int AS id, CASE WHEN n % 10 < 4 THEN 'P' || lease END AS payprop_id,
        CASE WHEN n % 50 > 0 THEN lease / 3 END AS property_id,
        CASE WHEN n % 12 > 0 THEN lease / 3 + CASE WHEN n % 31 = 0 THEN 7 ELSE 0 END END AS customer_id,
        NULL::int AS lease_id, (n % 900)::numeric(10, 2) AS amount
    FROM (SELECT n, (n::bigint * 7919 % {sources} + 1)::int AS lease FROM generate_series(1, {targets}) AS n) AS payment
    """,
    "ALTER TABLE leases ADD PRIMARY KEY (id)",
    "ALTER TABLE payments ADD PRIMARY KEY (id)",
    "ANALYZE leases",
    "ANALYZE payments",
)

# One scan of the payments, leases reduced to one for each key, ties counted: the fastest form we know by hand.
BY_HAND = """
    CREATE TABLE by_hand AS
    WITH first AS (
        SELECT payprop_id, min(id) AS id, count(*) AS equals FROM leases WHERE payprop_id IS NOT NULL GROUP BY payprop_id
    ), second AS (
        SELECT DISTINCT ON (property_id, customer_id) property_id, customer_id, id,
            count(*) OVER (PARTITION BY property_id, customer_id, end_date, start_date) AS equals
        FROM leases WHERE property_id IS NOT NULL AND customer_id IS NOT NULL
        ORDER BY property_id, customer_id, end_date DESC NULLS FIRST, start_date DESC NULLS LAST
    ), third AS (
        SELECT DISTINCT ON (property_id) property_id, id,
            count(*) OVER (PARTITION BY property_id, end_date, start_date) AS equals
        FROM leases WHERE property_id IS NOT NULL
        ORDER BY property_id, end_date DESC NULLS FIRST, start_date DESC NULLS LAST
    ), joined AS (
        SELECT p.id, coalesce(first.equals, second.equals, third.equals) AS equals,
            CASE WHEN first.equals IS NOT NULL THEN first.id WHEN second.equals IS NOT NULL THEN second.id
                ELSE third.id END AS lease_id,
            CASE WHEN first.equals IS NOT NULL THEN 'payprop'
                WHEN second.equals IS NOT NULL THEN 'property_and_customer'
                WHEN third.equals IS NOT NULL THEN 'property_only' END AS pass
        FROM payments AS p
        LEFT JOIN first ON first.payprop_id = p.payprop_id
        LEFT JOIN second ON second.property_id = p.property_id AND second.customer_id = p.customer_id
        LEFT JOIN third ON third.property_id = p.property_id AND p.customer_id IS NULL
        WHERE p.lease_id IS NULL
    )
    SELECT id AS target_key, CASE WHEN equals = 1 THEN lease_id END AS source_key,
        CASE WHEN equals = 1 THEN 'matched' WHEN equals > 1 THEN 'ambiguous' ELSE 'unmatched' END AS outcome, pass,
        CASE WHEN equals = 1 THEN CASE pass WHEN 'payprop' THEN 1 WHEN 'property_and_customer' THEN 0.95 ELSE 0.7 END
        END::numeric(4, 3) AS confidence
    FROM joined
"""


def run(database: Database, targets: int, sources: int, rounds: int) -> None:
    with database.session() as session:
        for statement in DATA:
            session.execute(statement.format(targets=targets, sources=sources))
    tables.ensure(database)
    ours: list[float] = []
    hand: list[float] = []
    with database.session() as session:
        bound = bind(session, SPEC)
        emitted = statements.create(tables.own("decisions", "bench"), statements.decisions(bound))
        for _ in range(rounds):
            ours.append(_timed(session, "DROP TABLE IF EXISTS recon.decisions_bench", emitted))
            hand.append(_timed(session, "DROP TABLE IF EXISTS by_hand", BY_HAND))
        columns = "target_key, source_key, outcome, pass, confidence"
        differing = session.value(
            f"SELECT count(*) FROM ((SELECT {columns} FROM recon.decisions_bench EXCEPT SELECT {columns} FROM by_hand)"
            f" UNION ALL (SELECT {columns} FROM by_hand EXCEPT SELECT {columns} FROM recon.decisions_bench)) AS d"
        )
        counts = session.rows("SELECT outcome, count(*) FROM by_hand GROUP BY 1 ORDER BY 2 DESC")
    assert differing == 0, f"{differing} decisions differ"
    whole = runs.match(database, SPEC, "bench")
    print(f"match, {targets:,} targets, {sources:,} sources, 3 passes, many_to_one (medians of {rounds})")
    print(f"  decisions            {', '.join(f'{name} {count:,}' for name, count in counts)}; all equal")
    print(f"  by hand              {statistics.median(hand):7.2f} s   {[round(value, 2) for value in hand]}")
    print(f"  recon                {statistics.median(ours):7.2f} s   {[round(value, 2) for value in ours]}")
    print(f"  ratio                {statistics.median(ours) / statistics.median(hand):7.2f}     (aim: at most 1.50)")
    print(f"  recon match, whole   {sum(whole.seconds.values()):7.2f} s   {dict(whole.seconds)}")


def _timed(session: Session, before: str, statement: str) -> float:
    session.execute(before)
    session.commit()
    began = perf_counter()
    session.execute(statement)
    session.commit()
    return perf_counter() - began
