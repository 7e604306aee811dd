"""Jobs to reservations, the closest within an hour: recon beside candidates and rounds of mutual best by hand.

100,000 reservations joined to their properties and 100,000 jobs of HousecallPro: customer and address are equal, the job
starts within an hour, one to one, the nearest first. Compared is the whole way to a table of decisions: target_key,
source_key, outcome, pass, confidence. The rounds by hand are those of `match_closest`. Fair: same session, same working
memory, same columns, and the same knowledge: a reservation may hold a job already, although none does. What recon does
more and is in its time: it counts the pairs of equal key first, to refuse a pass that would explode. Where `hcp_jobs` is
shipped, its query and its first pass are what is measured.

Then the links are applied, beside one bare UPDATE of the same rows (see `backfill`).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks import backfill, data, match_closest
from benchmarks.measure import ROOT, ByHand, Figure, Ours, Setting, check_equal, in_turn, prepared, slower_than
from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import sign_off
from recon.backfill.plan import Plan
from recon.database import tables
from recon.matching import run as runs
from recon.names import DIALECT
from recon.spec import Reconciliation
from recon.workspace import Workspace

SUBJECT = "l"
MOST, MOST_OF_APPLY = 1.5, 1.25
ROWS = 100_000
MOST_ROUNDS = 3  # of the apply, which fills a table anew each time
SHIPPED = "hcp_jobs"
RULES: dict[str, Any] = {
    "query": "select r.*, p.name as property, p.hcp_customer_id, p.hcp_address_id"
    " from reservations r join properties p on p.id = r.property_id",
    "passes": [
        {
            "name": "property_and_time",
            "on": {"hcp_customer_id": "customer_id", "hcp_address_id": "address_id"},
            "within": {"target": "final_service_time", "source": "scheduled_start", "tolerance": "1 hour"},
            "prefer": ["nearest"],
        }
    ],
}

_AT = f"""timestamptz '2024-01-01 00:00+00' + n / {data.PER_KEY} % {data.DAYS} * interval '1 day'
    + ('x' || substr(md5('{{side}}' || n), 1, 7))::bit(28)::int / 268435456.0 * interval '{data.SPREAD}'"""
# A few reservations and jobs of each property on one day; one property in twenty was never activated.
FILL = (
    "DROP SCHEMA public CASCADE",  # other subjects' tables have these names too
    "CREATE SCHEMA public",
    """CREATE TABLE properties (id int PRIMARY KEY, name text NOT NULL, hcp_customer_id text, hcp_address_id text,
        activated_at timestamptz)""",
    """CREATE TABLE reservations (id int PRIMARY KEY, property_id int NOT NULL REFERENCES properties, guest text,
        check_in date NOT NULL, check_out date NOT NULL, final_service_time timestamptz NOT NULL, service_job_id text,
        airtable_id text UNIQUE)""",
    """CREATE TABLE hcp_jobs (id text PRIMARY KEY, customer_id text, address_id text, scheduled_start timestamptz,
        scheduled_end timestamptz, work_status text, description text, updated_at timestamptz)""",
    f"""INSERT INTO properties SELECT n, 'Flat ' || n, CASE WHEN n % 20 <> 1 THEN 'cus_' || n / 3 END, 'adr_' || n
        FROM generate_series(0, {{rows}} / {data.PER_KEY}) AS n""",
    f"""CREATE TABLE reservations_before AS
        SELECT n AS id, n / {data.PER_KEY} AS property_id, 'Guest ' || n AS guest, at::date - 3 AS check_in,
            at::date AS check_out, at AS final_service_time, 'rec' || n AS airtable_id
        FROM (SELECT n, {_AT.format(side="reservations")} AS at FROM generate_series(1, {{rows}}) AS n) AS stay""",
    f"""INSERT INTO hcp_jobs
        SELECT 'job_' || md5(n::text), 'cus_' || n / {data.PER_KEY} / 3, 'adr_' || n / {data.PER_KEY}, at,
            at + interval '2 hours', 'scheduled', 'Cleaning ' || n, at
        FROM (SELECT n, {_AT.format(side="jobs")} AS at FROM generate_series(1, {{rows}}) AS n) AS job
        ORDER BY md5(n::text)""",
    "ANALYZE properties",
    "ANALYZE hcp_jobs",
)
_COLUMNS = "id, property_id, guest, check_in, check_out, final_service_time, airtable_id"
AS_BEFORE = (
    "TRUNCATE reservations",
    f"INSERT INTO reservations ({_COLUMNS}) SELECT {_COLUMNS} FROM reservations_before ORDER BY md5(id::text)",
    "ANALYZE reservations",
)

CANDIDATES = """
    CREATE TEMPORARY TABLE candidates ON COMMIT DROP AS
    SELECT r.id AS t, j.id AS s,
        greatest(j.scheduled_start - r.final_service_time, r.final_service_time - j.scheduled_start) AS distance
    FROM reservations AS r JOIN properties AS p ON p.id = r.property_id
        JOIN hcp_jobs AS j ON j.customer_id = p.hcp_customer_id AND j.address_id = p.hcp_address_id
        AND j.scheduled_start BETWEEN r.final_service_time - interval '1 hour' AND r.final_service_time + interval '1 hour'
    WHERE r.service_job_id IS NULL
        AND NOT EXISTS (SELECT FROM reservations AS held WHERE held.service_job_id = j.id)
"""
ROUNDS = match_closest.ROUNDS.replace("taken (t int, s int)", "taken (t int, s text)")
DECISIONS = """
    CREATE TABLE jobs_by_rounds AS
    SELECT r.id AS target_key, coalesce(r.service_job_id, taken.s) AS source_key,
        CASE WHEN r.service_job_id IS NOT NULL THEN 'linked' WHEN taken.t IS NOT NULL THEN 'matched'
            WHEN tied.t IS NOT NULL THEN 'ambiguous' ELSE 'unmatched' END AS outcome,
        CASE WHEN taken.t IS NOT NULL OR tied.t IS NOT NULL THEN 'property_and_time' END AS pass,
        CASE WHEN taken.t IS NOT NULL THEN 1 END::numeric(4, 3) AS confidence
    FROM reservations AS r LEFT JOIN taken ON taken.t = r.id
        LEFT JOIN (SELECT DISTINCT t FROM candidates) AS tied ON tied.t = r.id
"""
BARE = """
    UPDATE public.reservations AS target SET service_job_id = staged.after_1
    FROM {staged} AS staged WHERE target.id = staged.target_key
"""


def run(setting: Setting) -> list[Figure]:
    rows = min(setting.rows, ROWS)
    with setting.database.session() as session:
        for statement in (*FILL, *AS_BEFORE):
            session.execute(statement.format(rows=rows))
    bound = prepared(setting.database, _spec())
    with setting.database.session() as session:
        ours, hand = Ours(session, bound), ByHand(session, "jobs_by_rounds", [CANDIDATES, ROUNDS, DECISIONS])
        seconds = in_turn(setting.rounds, {"ours": ours, "hand": hand})
        counts = check_equal(session, ours.table, "jobs_by_rounds")
    what = f"jobs within 1 h, one_to_one, {rows:,} × {rows:,}: SQL by hand, rounds"
    note = f"{counts}; all equal; {ours.preparing}"
    return [slower_than(SUBJECT, what, seconds["ours"], seconds["hand"], MOST, note), *_applies(setting)]


def _applies(setting: Setting) -> list[Figure]:
    """The apply with an index on the link column, and without: each batch asks it whether a job is held already."""
    without = _applied(setting, "the same without an index on service_job_id", None)
    with setting.database.session() as session:
        session.execute("CREATE INDEX ON reservations (service_job_id)")
    return [_applied(setting, "job ids applied, 1 worker: one bare UPDATE", MOST_OF_APPLY), without]


def _applied(setting: Setting, said: str, most: float | None) -> Figure:
    """The links written by one worker, in turn with the bare UPDATE."""
    with setting.database.session() as session:
        for statement in AS_BEFORE:
            session.execute(statement)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        runs.match(setting.database, _spec(), backfill.ANALYST)
        plan = plans.make(setting.database, workspace, _spec(), backfill.ANALYST)
        assert plan is not None
        sign_off.approve(setting.database, workspace, plan.plan, backfill.REVIEWER)

        details: list[applying.Applied] = []

        def ours() -> float:
            backfill.as_before(setting, plan, AS_BEFORE, "reservations")
            began = perf_counter()
            done = applying.apply(setting.database, workspace, plan.plan, backfill.ANALYST, execute=True)
            assert done.changed == plan.rows, f"{done.changed} of {plan.rows} rows were changed"
            details.append(done)
            return perf_counter() - began

        seconds = in_turn(min(setting.rounds, MOST_ROUNDS), {"ours": ours, "bare": lambda: _bare(setting, plan)})
    note = (
        f"of it {details[-1].checking_seconds:.2f} s checking before the first batch; {details[-1].batches:,} batches"
    )
    return slower_than(SUBJECT, f"{plan.rows:,} rows: {said}", seconds["ours"], seconds["bare"], most, note)


def _bare(setting: Setting, plan: Plan) -> float:
    backfill.as_before(setting, plan, AS_BEFORE, "reservations")
    with setting.database.session() as session:
        began = perf_counter()
        session.execute(BARE.format(staged=tables.own("staged", plan.plan).sql(DIALECT)))
        session.commit()
        return perf_counter() - began


def _spec() -> Reconciliation:
    query, passes = RULES["query"], RULES["passes"]
    if SHIPPED in Workspace(ROOT).reconciliations():
        shipped = Workspace(ROOT).spec(SHIPPED).model_dump(exclude_unset=True)
        query, passes = shipped["target"]["query"], shipped["passes"][:1]
    return Reconciliation.model_validate(
        {
            "name": "bench_jobs",
            "target": {"query": query, "writes": "reservations", "key": "id"},
            "source": {"table": "hcp_jobs", "key": "id"},
            "link": {"column": "service_job_id"},
            "cardinality": "one_to_one",
            "passes": passes,
        }
    )
