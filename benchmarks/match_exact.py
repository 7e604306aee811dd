"""Equal references, one to one: recon beside hand-written SQL that proves uniqueness both ways.

Compared is the whole way from the two tables to a table of decisions: target_key, source_key, outcome, pass, confidence.
A reference that either side holds twice is a tie that a person must settle, so a plain join would be wrong. Two forms
by hand: the one that most people write (join, then count the pairs of each record by windows; the target is about this
one), and the fastest we know (both sides in one heap, counted by reference in one sort). Fair: same session, same
working memory, same columns; recon's time includes finding out that nothing forbids the pass.
"""

from __future__ import annotations

from benchmarks import data
from benchmarks.measure import ByHand, Figure, Ours, Setting, check_equal, in_turn, prepared, slower_than
from recon.spec import Reconciliation

SUBJECT = "b"
MOST = 1.5
SPEC = Reconciliation.model_validate(
    {
        "name": "bench_exact",
        "target": {"table": "exact_targets", "key": "id"},
        "source": {"table": "exact_sources", "key": "id"},
        "cardinality": "one_to_one",
        "passes": [{"name": "reference", "on": ["reference"]}],
    }
)

_WORDS = """
    CASE WHEN {alone} THEN 'matched' WHEN {met} THEN 'ambiguous' ELSE 'unmatched' END AS outcome,
    CASE WHEN {met} THEN 'reference' END AS pass, CASE WHEN {alone} THEN 1 END::numeric(4, 3) AS confidence"""

WINDOWS = f"""
    CREATE TABLE by_windows AS
    WITH pairs AS (
        SELECT t.id AS target_key, s.id AS source_key,
            count(*) OVER (PARTITION BY t.id) AS of_target, count(*) OVER (PARTITION BY s.id) AS of_source
        FROM exact_targets AS t JOIN exact_sources AS s ON s.reference = t.reference
    ), met AS (
        SELECT DISTINCT ON (target_key) target_key, source_key, of_target = 1 AND of_source = 1 AS alone
        FROM pairs ORDER BY target_key
    )
    SELECT t.id AS target_key, CASE WHEN alone THEN met.source_key END AS source_key,
        {_WORDS.format(alone="alone", met="met.target_key IS NOT NULL")}
    FROM exact_targets AS t LEFT JOIN met ON met.target_key = t.id
"""

HEAP = f"""
    CREATE TABLE by_heap AS
    WITH heap AS (
        SELECT reference, id AS t, NULL::int AS s FROM exact_targets
        UNION ALL SELECT reference, NULL, id FROM exact_sources WHERE reference IS NOT NULL
    ), counted AS (
        SELECT t, min(s) OVER same AS s, count(t) OVER same = 1 AND count(s) OVER same = 1 AS alone,
            reference IS NOT NULL AND count(s) OVER same > 0 AS met
        FROM heap WINDOW same AS (PARTITION BY reference)
    )
    SELECT t AS target_key, CASE WHEN met AND alone THEN s END AS source_key, {_WORDS.format(alone="met AND alone", met="met")}
    FROM counted WHERE t IS NOT NULL
"""


def run(setting: Setting) -> list[Figure]:
    with setting.database.session() as session:
        data.make(session, data.EXACT, rows=setting.rows)
    bound = prepared(setting.database, SPEC)
    with setting.database.session() as session:
        ours = Ours(session, bound)
        windows, heap = ByHand(session, "by_windows", [WINDOWS]), ByHand(session, "by_heap", [HEAP])
        seconds = in_turn(setting.rounds, {"ours": ours, "windows": windows, "heap": heap})
        counts = check_equal(session, ours.table, "by_windows")
        check_equal(session, ours.table, "by_heap")
    what = f"exact, one_to_one, {setting.rows:,} × {setting.rows:,}"
    return [
        slower_than(
            SUBJECT,
            f"{what}: SQL by hand, join and windows",
            seconds["ours"],
            seconds["windows"],
            MOST,
            f"{counts}; all equal",
        ),
        slower_than(SUBJECT, f"{what}: the fastest SQL we know", seconds["ours"], seconds["heap"], None),
    ]
