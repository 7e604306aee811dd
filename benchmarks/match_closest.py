"""The closest visit within an hour, one to one: recon beside candidates and rounds of mutual best by hand.

Compared is the whole way from two tables of visits to a table of decisions: target_key, source_key, outcome, pass,
confidence. A visit has two or three candidates, so who is whose closest changes as pairs are accepted, and rounds are
needed. By hand: the candidates once, then a loop in the server of statements over whole sets: a pair is accepted that
comes first and alone in the order of both its records, then all pairs of accepted records leave; until a round accepts
none. Fair: same session, same working memory, same columns. What recon does more and is in its time: it counts the
pairs of equal key first, to refuse a pass that would explode.
"""

from __future__ import annotations

from benchmarks import data
from benchmarks.measure import ByHand, Figure, Ours, Setting, check_equal, in_turn, prepared, slower_than
from recon.spec import Reconciliation

SUBJECT = "c"
MOST = 1.5
SPEC = Reconciliation.model_validate(
    {
        "name": "bench_closest",
        "target": {"table": "closest_targets", "key": "id"},
        "source": {"table": "closest_sources", "key": "id"},
        "cardinality": "one_to_one",
        "passes": [
            {
                "name": "place_and_time",
                "on": ["customer", "address"],
                "within": {"target": "at", "source": "at", "tolerance": "1 hour"},
                "prefer": ["nearest"],
            }
        ],
    }
)

CANDIDATES = """
    CREATE TEMPORARY TABLE candidates ON COMMIT DROP AS
    SELECT t.id AS t, s.id AS s, greatest(s.at - t.at, t.at - s.at) AS distance
    FROM closest_targets AS t JOIN closest_sources AS s ON s.customer = t.customer AND s.address = t.address
        AND s.at BETWEEN t.at - interval '1 hour' AND t.at + interval '1 hour'
"""

# lag and lead say at once whether a pair is first and alone: nothing before it, and what follows is farther.
ROUNDS = """
    DO $rounds$
    DECLARE
        accepted bigint;
    BEGIN
        CREATE TEMPORARY TABLE taken (t int, s int) ON COMMIT DROP;
        LOOP
            CREATE TEMPORARY TABLE best ON COMMIT DROP AS
            SELECT t, s FROM (
                SELECT t, s, distance, lag(t) OVER of_t AS before_t, lead(distance) OVER of_t AS after_t,
                    lag(s) OVER of_s AS before_s, lead(distance) OVER of_s AS after_s
                FROM candidates
                WINDOW of_t AS (PARTITION BY t ORDER BY distance), of_s AS (PARTITION BY s ORDER BY distance)
            ) AS placed
            WHERE before_t IS NULL AND before_s IS NULL
                AND (after_t > distance) IS NOT FALSE AND (after_s > distance) IS NOT FALSE;
            GET DIAGNOSTICS accepted = ROW_COUNT;
            EXIT WHEN accepted = 0;
            INSERT INTO taken SELECT t, s FROM best;
            CREATE TEMPORARY TABLE remaining ON COMMIT DROP AS
            SELECT * FROM candidates AS c
            WHERE NOT EXISTS (SELECT FROM best WHERE best.t = c.t) AND NOT EXISTS (SELECT FROM best WHERE best.s = c.s);
            DROP TABLE candidates, best;
            ALTER TABLE remaining RENAME TO candidates;
        END LOOP;
    END
    $rounds$
"""

DECISIONS = """
    CREATE TABLE by_rounds AS
    SELECT t.id AS target_key, taken.s AS source_key,
        CASE WHEN taken.t IS NOT NULL THEN 'matched' WHEN tied.t IS NOT NULL THEN 'ambiguous' ELSE 'unmatched' END AS outcome,
        CASE WHEN taken.t IS NOT NULL OR tied.t IS NOT NULL THEN 'place_and_time' END AS pass,
        CASE WHEN taken.t IS NOT NULL THEN 1 END::numeric(4, 3) AS confidence
    FROM closest_targets AS t LEFT JOIN taken ON taken.t = t.id
        LEFT JOIN (SELECT DISTINCT t FROM candidates) AS tied ON tied.t = t.id
"""


def run(setting: Setting) -> list[Figure]:
    with setting.database.session() as session:
        data.make(session, data.CLOSEST, rows=setting.rows)
    bound = prepared(setting.database, SPEC)
    with setting.database.session() as session:
        ours, hand = Ours(session, bound), ByHand(session, "by_rounds", [CANDIDATES, ROUNDS, DECISIONS])
        seconds = in_turn(setting.rounds, {"ours": ours, "hand": hand})
        counts = check_equal(session, ours.table, "by_rounds")
    what = f"closest within 1 h, one_to_one, {setting.rows:,} × {setting.rows:,}: SQL by hand, rounds"
    return [
        slower_than(SUBJECT, what, seconds["ours"], seconds["hand"], MOST, f"{counts}; all equal; {ours.preparing}")
    ]
