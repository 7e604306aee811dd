"""Payments to leases, three passes, many to one: recon beside the best hand-written SQL for the same decisions.

Compared is the whole way from payments and ten times fewer leases to a table of decisions: target_key, source_key,
outcome, pass, confidence. By hand: one scan of the payments, the leases reduced to the preferred one of each key, ties
counted. Fair: same session, same working memory, same columns, and the same knowledge: a payment may be linked already,
although none is.
"""

from __future__ import annotations

from benchmarks import data
from benchmarks.measure import ByHand, Figure, Ours, Setting, check_equal, in_turn, prepared, slower_than
from recon.spec import Reconciliation

SUBJECT = "a"
MOST = 1.5
PER_SOURCE = 10  # payments of one lease
SPEC = Reconciliation.model_validate(
    {
        "name": "bench_many_to_one",
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
    """CREATE TABLE leases AS
    SELECT n::int AS id, 'P' || n AS payprop_id, (n / 3)::int AS property_id, (n / 3)::int AS customer_id,
        date '2020-01-01' + (CASE WHEN n % 50 < 3 THEN 0 ELSE n * 7 % 1500 END)::int AS start_date,
        CASE WHEN n % 5 > 0 THEN date '2021-01-01' + (CASE WHEN n % 50 < 3 THEN 0 ELSE n * 7 % 1500 END)::int END AS end_date
    FROM generate_series(1, {sources}) AS n""",
    """CREATE TABLE payments AS
    SELECT n::int AS id, CASE WHEN n % 10 < 4 THEN 'P' || lease END AS payprop_id,
        CASE WHEN n % 50 > 0 THEN lease / 3 END AS property_id,
        CASE WHEN n % 12 > 0 THEN lease / 3 + CASE WHEN n % 31 = 0 THEN 7 ELSE 0 END END AS customer_id,
        NULL::int AS lease_id, (n % 900)::numeric(10, 2) AS amount
    FROM (SELECT n, (n::bigint * 7919 % {sources} + 1)::int AS lease FROM generate_series(1, {targets}) AS n) AS payment""",
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


def run(setting: Setting) -> list[Figure]:
    sources = max(setting.rows // PER_SOURCE, 1)
    with setting.database.session() as session:
        data.make(session, DATA, targets=setting.rows, sources=sources)
    bound = prepared(setting.database, SPEC)
    with setting.database.session() as session:
        ours, hand = Ours(session, bound), ByHand(session, "by_hand", [BY_HAND])
        seconds = in_turn(setting.rounds, {"ours": ours, "hand": hand})
        counts = check_equal(session, ours.table, "by_hand")
    what = f"3 passes, many_to_one, {setting.rows:,} → {sources:,}: SQL by hand"
    return [slower_than(SUBJECT, what, seconds["ours"], seconds["hand"], MOST, f"{counts}; all equal")]
