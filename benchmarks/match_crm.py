"""CRM records by the legacy id, with compare: recon beside hand-written SQL that proves uniqueness both ways.

100,000 contacts with the legacy id as text, 100,000 legacy persons with it as an integer; one to one, counted over the
legacy side, and what agrees is compared in three columns. Compared is the whole way from the two tables to a table of
decisions: target_key, source_key, outcome, pass, confidence, and what differs, before and after; records of HubSpot that
no person belongs to are rows of it too. An id that either side holds twice is a tie, so a plain join would be wrong. By
hand: join, the pairs of each record counted by windows. Fair: same session, same working memory, same columns. Where
`crm_contacts` is shipped, its first pass and its comparison are what is measured.
"""

from __future__ import annotations

from typing import Any

from benchmarks import data
from benchmarks.measure import COLUMNS, ROOT, ByHand, Figure, Ours, Setting, check_equal, in_turn, prepared, slower_than
from recon.spec import Reconciliation
from recon.workspace import Workspace

SUBJECT = "k"
MOST = 1.5
ROWS = 100_000
SHIPPED = "crm_contacts"
RULES: dict[str, Any] = {
    "passes": [
        {"name": "icalps_id", "on": {"icalps_contact_id": "Pers_PersonId"}, "compare_as": "text", "confidence": 1.0}
    ],
    "compare": {
        "firstname": "Pers_FirstName",
        "lastname": "Pers_LastName",
        "email": "lower(btrim(s.Pers_EmailAddress))",
    },
}

# One contact in twenty has no legacy id, one in a hundred has its neighbour's; one in fifty differs in a column.
DATA = (
    """CREATE TABLE crm_contacts AS
    SELECT n::int AS id, 900000000000 + n AS hs_object_id,
        CASE WHEN n % 20 <> 1 THEN (CASE WHEN n % 100 = 0 THEN n - 2 ELSE n END)::text END AS icalps_contact_id,
        'First ' || n % 997 AS firstname, CASE WHEN n % 50 = 3 THEN 'Married ' || n ELSE 'Last ' || n % 4999 END AS lastname,
        CASE WHEN n % 77 <> 5 THEN 'person' || n || '@example.org' END AS email
    FROM generate_series(1, {rows}) AS n""",
    """CREATE TABLE crm_persons AS
    SELECT n::int AS id, n::int AS "Pers_PersonId", 'First ' || n % 997 AS "Pers_FirstName",
        'Last ' || n % 4999 AS "Pers_LastName", ' Person' || n || '@Example.org ' AS "Pers_EmailAddress"
    FROM (SELECT (n::bigint * 104729 % {rows} + 1)::int AS n FROM generate_series(1, {rows}) AS n) AS person""",
)

BY_HAND = """
    CREATE TABLE crm_by_hand AS
    WITH pairs AS (
        SELECT t.hs_object_id, t.firstname, t.lastname, t.email, s."Pers_PersonId",
            s."Pers_FirstName" AS first_wanted, s."Pers_LastName" AS last_wanted,
            lower(btrim(s."Pers_EmailAddress")) AS email_wanted,
            count(*) OVER (PARTITION BY t.hs_object_id) AS of_target,
            count(*) OVER (PARTITION BY s."Pers_PersonId") AS of_source
        FROM crm_contacts AS t JOIN crm_persons AS s ON s."Pers_PersonId"::text COLLATE "C" = t.icalps_contact_id COLLATE "C"
    ), alone AS (
        SELECT *, firstname IS DISTINCT FROM first_wanted OR lastname IS DISTINCT FROM last_wanted
                OR email IS DISTINCT FROM email_wanted AS differs
        FROM pairs WHERE of_target = 1 AND of_source = 1
    ), tied AS (
        SELECT DISTINCT "Pers_PersonId" FROM pairs WHERE of_target > 1 OR of_source > 1
    )
    SELECT alone.hs_object_id AS target_key, s."Pers_PersonId" AS source_key,
        CASE WHEN differs THEN 'changed' WHEN NOT differs THEN 'same' WHEN tied."Pers_PersonId" IS NOT NULL THEN 'ambiguous'
            ELSE 'missing' END AS outcome,
        CASE WHEN differs IS NOT NULL OR tied."Pers_PersonId" IS NOT NULL THEN 'icalps_id' END AS pass,
        CASE WHEN differs IS NOT NULL THEN 1 END::numeric(4, 3) AS confidence,
        CASE WHEN differs THEN jsonb_build_object('changes',
            CASE WHEN firstname IS DISTINCT FROM first_wanted
                THEN jsonb_build_object('firstname', jsonb_build_object('before', firstname, 'after', first_wanted))
                ELSE jsonb_build_object() END
            || CASE WHEN lastname IS DISTINCT FROM last_wanted
                THEN jsonb_build_object('lastname', jsonb_build_object('before', lastname, 'after', last_wanted))
                ELSE jsonb_build_object() END
            || CASE WHEN email IS DISTINCT FROM email_wanted
                THEN jsonb_build_object('email', jsonb_build_object('before', email, 'after', email_wanted))
                ELSE jsonb_build_object() END) END AS evidence
    FROM crm_persons AS s LEFT JOIN alone USING ("Pers_PersonId") LEFT JOIN tied USING ("Pers_PersonId")
    UNION ALL
    SELECT hs_object_id, NULL, 'orphan', NULL, NULL, NULL
    FROM crm_contacts AS t WHERE NOT EXISTS (SELECT FROM pairs WHERE pairs.hs_object_id = t.hs_object_id)
"""


def run(setting: Setting) -> list[Figure]:
    rows = min(setting.rows, ROWS)
    with setting.database.session() as session:
        data.make(session, DATA, rows=rows)
    bound = prepared(setting.database, _spec())
    with setting.database.session() as session:
        ours, hand = Ours(session, bound), ByHand(session, "crm_by_hand", [BY_HAND])
        seconds = in_turn(setting.rounds, {"ours": ours, "hand": hand})
        counts = check_equal(session, ours.table, "crm_by_hand", (*COLUMNS, "evidence"))
    what = f"icalps id as text, one_to_one, 3 columns compared, {rows:,} × {rows:,}: SQL by hand"
    note = f"{counts}; all equal, with what differs; {ours.preparing}"
    return [slower_than(SUBJECT, what, seconds["ours"], seconds["hand"], MOST, note)]


def _spec() -> Reconciliation:
    rules = RULES
    if SHIPPED in Workspace(ROOT).reconciliations():
        shipped = Workspace(ROOT).spec(SHIPPED).model_dump(exclude_unset=True)
        rules = {"passes": shipped["passes"][:1], "compare": shipped["compare"]}
    return Reconciliation.model_validate(
        {
            "name": "bench_crm",
            "population": "source",
            "target": {"table": "crm_contacts", "key": "hs_object_id"},
            "source": {"table": "crm_persons", "key": "Pers_PersonId"},
            "cardinality": "one_to_one",
            **rules,
        }
    )
