"""Every action of a backfill: link, update, insert and set, applied, proven, undone, and stopped by what came between."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import revert as reverting
from recon.backfill import sign_off
from recon.backfill import verify as verifying
from recon.backfill.plan import Plan
from recon.database.connect import Database
from recon.errors import DatabaseFailed, Locked, SchemaMismatch, SpecError, Stale, UsageError
from recon.matching import overrides
from recon.matching import run as runs
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests.support import execute, rows, simple_spec

pytestmark = (
    pytest.mark.one_engine
)  # test_path and test_hostile go the same ways on both; `make engines` runs all of it

STATUS = "s.status = 'cancelled' and t.status <> 'cancelled'"
BACKFILL: dict[str, Any] = {
    "missing": {"insert": {"raw": "s.raw"}},
    "changed": {
        "update": "all",
        "also": [{"when": STATUS, "set": {"cancelled_at": "now()", "why": "'cancelled in the source'"}}],
    },
    "orphan": {
        "when": "t.platform <> 'direct' and t.status <> 'cancelled'",
        "set": {"status": "'cancelled'", "cancelled_at": "now()", "why": "'not found in the source'"},
    },
}
IDENTITY = ["org", "platform", "external_id"]


def stays_spec(**fields: Any) -> Reconciliation:
    usual: dict[str, Any] = {
        "scope": "org",
        "source": {"table": "feed", "key": IDENTITY},
        "target": {"table": "stay", "key": "id"},
        "link": None,
        "cardinality": "one_to_one",
        "passes": [{"name": "identity", "on": IDENTITY}],
        "valid": [{"rule": "s.place is not null", "issue": "no place"}],
        "compare": {
            "seen": "seen",
            "status": "status",
            "total": {"source": "total", "tolerance": 0.05},
            "place": "place",
        },
        "backfill": BACKFILL,
    }
    return simple_spec(**(usual | fields))


@pytest.fixture
def stays(database: Database) -> Database:
    """Seven stays and their feed: one the same, one that differs, one cancelled there, two absent there, one direct, one
    invalid; and two that are new."""
    execute(
        database,
        "CREATE TABLE feed (org text, platform text, external_id text, seen timestamptz, status text,"
        " total numeric(10,2), place int, raw jsonb, PRIMARY KEY (org, platform, external_id))",
        "CREATE TABLE stay (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), serial int GENERATED ALWAYS AS IDENTITY,"
        " org text NOT NULL, platform text NOT NULL, external_id text, seen timestamptz, status text,"
        " total numeric(10,2), place int NOT NULL, raw jsonb, cancelled_at timestamptz, why text,"
        " note text NOT NULL DEFAULT 'by default', UNIQUE (org, platform, external_id))",
        "INSERT INTO feed VALUES"
        " ('a', 'air', '1', '2026-01-01 10:00+02', 'confirmed', 10.00, 1, '{\"n\": 1}'),"
        " ('a', 'air', '2', '2026-01-02 10:00+02', 'confirmed', 20.00, 2, '{}'),"
        " ('a', 'air', '3', '2026-01-03', 'cancelled', 30.00, 3, NULL),"
        " ('a', 'air', '7', '2026-01-07', 'confirmed', 70.00, NULL, '{}'),"
        " ('a', 'air', '8', '2026-01-08', 'confirmed', 80.50, 8, '{\"a\": [1, {\"b\": null}]}'),"
        " ('b', 'air', '9', 'infinity', 'pending', NULL, 9, '{}')",
        "INSERT INTO stay (org, platform, external_id, seen, status, total, place) VALUES"
        " ('a', 'air', '1', '2026-01-01 08:00+00', 'confirmed', 10.03, 1),"
        " ('a', 'air', '2', '2026-01-02 08:00+00', 'pending', 20.04, 1),"
        " ('a', 'air', '3', '2026-01-03', 'confirmed', 31, 3),"
        " ('a', 'air', '4', '2026-01-04', 'confirmed', 40, 4),"
        " ('a', 'air', '5', '2026-01-05', 'cancelled', 50, 5),"
        " ('a', 'direct', NULL, '2026-01-06', 'confirmed', 60, 6),"
        " ('a', 'air', '7', '2026-01-07', 'pending', 70, 7)",
    )
    return database


def make(database: Database, workspace: Workspace, spec: Reconciliation, **options: Any) -> Plan:
    runs.match(database, spec, "ann")
    made = plans.make(database, workspace, spec, "ann", **options)
    assert made is not None
    return sign_off.approve(database, workspace, made.plan, "bob")


def apply(database: Database, workspace: Workspace, plan: Plan) -> applying.Applied:
    return applying.apply(database, workspace, plan.plan, "ann", execute=True)


def revert(database: Database, workspace: Workspace, plan: Plan) -> reverting.Reverted:
    return reverting.revert(database, workspace, plan.plan, "ann", execute=True)


def problems(database: Database, workspace: Workspace, plan: Plan) -> list[tuple[str, str]]:
    found = verifying.verify(database, workspace, plan.plan)
    assert found.problems == len(found.rows)
    return [(row["key"], row["problem"]) for row in found.rows]


def everything(database: Database, table: str = "stay") -> list[tuple[Any, ...]]:
    return sorted(rows(database, f"SELECT (record.*)::text FROM {table} AS record"))


def now_in(database: Database, columns: str, where: str) -> list[tuple[Any, ...]]:
    return rows(database, f"SELECT {columns} FROM stay WHERE {where} ORDER BY org, external_id")


# -- the whole way ---------------------------------------------------------------------------------------


def test_all_actions_are_applied_proven_and_undone_to_the_byte(stays: Database, workspace: Workspace) -> None:
    before, spec = everything(stays), stays_spec()
    plan = make(stays, workspace, spec)
    assert plan.document["actions"] == {"update": 2, "insert": 2, "set": 1}
    assert plan.document["passes"] == {"override": 0, "identity": 2}
    assert plan.document["columns"]["set"] == ["status", "cancelled_at", "why"]
    assert plan.document["orphans"] == {
        "cap": {"rows": 10, "share": "0.05"}, "confirm": 1, "looks": 1,
        "scopes": [{"allowed": 10, "orphans": 1, "records": 5, "scope": "a"}],
    }  # fmt: skip
    dry = applying.apply(stays, workspace, plan.plan, "ann")
    assert (dry.changed, dry.skipped) == (5, 0)
    assert everything(stays) == before
    assert apply(stays, workspace, plan).changed == 5
    # Within the tolerance an amount stays as it is; what differs is the source's.
    assert now_in(stays, "status, total::text, place, why", "external_id IN ('2', '3')") == [
        ("confirmed", "20.04", 2, None), ("cancelled", "30.00", 3, "cancelled in the source"),
    ]  # fmt: skip
    made = "status, seen::text, total::text, place, raw::text, note, serial IS NOT NULL, id IS NOT NULL, cancelled_at"
    assert now_in(stays, made, "external_id IN ('8', '9')") == [
        ("confirmed", "2026-01-08 00:00:00+00", "80.50", 8, '{"a": [1, {"b": null}]}', "by default", True, True, None),
        ("pending", "infinity", None, 9, "{}", "by default", True, True, None),
    ]
    assert now_in(stays, "status, why, place", "external_id = '4'") == [("cancelled", "not found in the source", 4)]
    assert now_in(stays, "status, total::text", "external_id = '7'") == [("pending", "70.00")]  # invalid: left alone
    assert problems(stays, workspace, plan) == []
    again = runs.match(stays, spec, "ann")
    assert (again.outcomes, again.other_side) == ({"same": 5, "orphan": 3, "invalid": 1}, {"missing": 0})
    assert plans.make(stays, workspace, spec, "ann") is None
    result = revert(stays, workspace, plan)
    assert (result.restored, result.conflicts, result.state) == (5, 0, "reverted")
    assert everything(stays) == before
    assert runs.match(stays, spec, "ann").outcomes == {"same": 1, "changed": 2, "orphan": 3, "invalid": 1}


def test_now_is_the_time_of_the_plan_and_not_of_the_apply(stays: Database, workspace: Workspace) -> None:
    plan = make(stays, workspace, stays_spec())
    planned_by = datetime.now(UTC)
    apply(stays, workspace, plan)
    times = rows(stays, "SELECT DISTINCT cancelled_at FROM stay WHERE cancelled_at IS NOT NULL")
    assert len(times) == 1
    assert times[0][0] < planned_by


def test_changes_csv_and_the_ledger_name_the_action(stays: Database, workspace: Workspace) -> None:
    plan = make(stays, workspace, stays_spec())
    with (plan.bundle / "changes.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert sorted(line["action"] for line in lines) == ["insert", "insert", "set", "update", "update"]
    inserts = [line for line in lines if line["action"] == "insert"]
    assert [line["target id"] for line in inserts] == ["", ""]
    assert [line["source external_id"] for line in inserts] == ["8", "9"]
    assert lines[-2:] == inserts  # rows that exist come first
    apply(stays, workspace, plan)
    ledger = rows(
        stays,
        "SELECT action, count(*), count(target_key), count(row_digest)"
        f' FROM recon."ledger_{plan.plan}" GROUP BY 1 ORDER BY 1',
    )
    assert ledger == [("insert", 2, 2, 2), ("set", 1, 1, 0), ("update", 2, 2, 0)]


@pytest.mark.parametrize("part", ["missing", "changed", "orphan"])
def test_a_plan_does_only_what_its_spec_asks_for(stays: Database, workspace: Workspace, part: str) -> None:
    before, action = everything(stays), {"missing": "insert", "changed": "update", "orphan": "set"}[part]
    plan = make(stays, workspace, stays_spec(backfill={part: BACKFILL[part]}))
    assert list(plan.document["actions"]) == [action]
    script = (plan.bundle / "execute.sql").read_text()
    assert ('INSERT INTO "public"."stay"' in script, "UPDATE" in script) == (part == "missing", part != "missing")
    assert apply(stays, workspace, plan).skipped == 0
    assert problems(stays, workspace, plan) == []
    assert revert(stays, workspace, plan).conflicts == 0
    assert everything(stays) == before


def test_only_the_named_columns_are_updated(stays: Database, workspace: Workspace) -> None:
    plan = make(stays, workspace, stays_spec(backfill={"changed": {"update": ["place"]}}))
    assert plan.rows == 1
    apply(stays, workspace, plan)
    assert now_in(stays, "status, place", "external_id = '2'") == [("pending", 2)]
    assert now_in(stays, "status, total::text", "external_id = '3'") == [("confirmed", "31.00")]


def test_a_plan_of_some_passes_leaves_records_without_a_pass_alone(stays: Database, workspace: Workspace) -> None:
    plan = make(stays, workspace, stays_spec(), passes=["identity"])
    assert plan.document["actions"] == {"update": 2}


def test_a_compare_without_backfill_has_nothing_to_plan(stays: Database, workspace: Workspace) -> None:
    runs.match(stays, stays_spec(backfill={}), "ann")
    with pytest.raises(SpecError, match="neither a link nor a `backfill`"):
        plans.make(stays, workspace, stays_spec(backfill={}), "ann")


def test_a_limited_run_yields_no_orphans_and_no_inserts(stays: Database, workspace: Workspace) -> None:
    from recon.matching.pool import Filter

    runs.match(
        stays, stays_spec(), "ann", Filter(limit=6)
    )  # of seven in the order of random keys: one that changed is always among them
    with pytest.raises(UsageError, match="a part of the records"):
        plans.make(stays, workspace, stays_spec(), "ann")
    made = plans.make(stays, workspace, stays_spec(), "ann", allow_limited=True)
    assert made is not None
    assert set(made.document["actions"]) == {"update"}


def test_a_report_lists_rows_of_every_action(stays: Database, workspace: Workspace) -> None:
    from recon.reports import sections
    from recon.reports.data import gather

    spec = stays_spec()
    (workspace.root / "reconciliations" / "simple.yaml").write_text(spec.model_dump_json(exclude_none=True))
    plan = make(stays, workspace, spec)
    for _ in range(2):
        found = gather(stays, workspace, "simple")
        assert sorted(row["action"] for row in found.rows.records) == ["insert", "insert", "set", "update", "update"]
        assert found.rows.total == 5
        assert "insert" in sections.matched(found)
        if plan.state == "approved":
            apply(stays, workspace, plan)
            plan = plans.load(stays, workspace, plan.plan)


# -- keys and types --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "identity"),
    [
        ("id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY", ["code"]),
        ("id bigserial PRIMARY KEY", ["code"]),
        ("id uuid DEFAULT gen_random_uuid() PRIMARY KEY", ["code"]),
        ("part int DEFAULT 1, id int, PRIMARY KEY (part, id)", ["part", "id"]),
    ],
)
def test_inserted_rows_get_their_keys_whatever_makes_them(
    database: Database, workspace: Workspace, key: str, identity: list[str]
) -> None:
    execute(
        database,
        f"CREATE TABLE pay ({key}, code text UNIQUE, amount numeric)",
        "CREATE TABLE lease (id int PRIMARY KEY, part int, code text, amount numeric)",
        "INSERT INTO lease SELECT n, n % 3, 'c' || n, n * 1.10 FROM generate_series(1, 25) AS n",
    )
    composite = identity != ["code"]
    spec = simple_spec(
        target={"table": "pay", "key": identity if composite else "id"},
        link=None,
        passes=[{"name": "same", "on": identity}],
        compare={"amount": "amount"},
        backfill={"missing": {"insert": {"code": "s.code"} if composite else {}}},
    )
    plan = make(database, workspace, spec)
    assert apply(database, workspace, plan).changed == 25
    assert rows(database, "SELECT count(*), sum(amount)::text FROM pay") == [(25, "357.50")]
    assert problems(database, workspace, plan) == []
    assert runs.match(database, spec, "ann").outcomes == {"same": 25}
    assert revert(database, workspace, plan).restored == 25
    assert rows(database, "SELECT count(*) FROM pay") == [(0,)]


def test_link_and_compare_work_together(database: Database, workspace: Workspace) -> None:
    execute(
        database,
        "CREATE TABLE lease (id int PRIMARY KEY, code text, rent numeric, since date)",
        "CREATE TABLE pay (id int GENERATED BY DEFAULT AS IDENTITY (START 100) PRIMARY KEY, code text UNIQUE,"
        " lease_id int, rent numeric, since date, note text)",
        "INSERT INTO lease VALUES (10, 'A', 1.50, '2026-01-01'), (20, 'B', 2, '2026-01-01'), (30, 'C', 3, '2026-01-01'),"
        " (40, 'D', 4, '2026-01-01'), (50, 'E', 5, '2026-01-01')",
        "INSERT INTO pay VALUES (1, 'A', NULL, 1.5, NULL, 'n'), (2, 'B', NULL, 7, NULL, 'n'), (3, 'C', 30, 7, '2020-01-01', 'n'),"
        " (4, 'D', 40, 4, '2020-01-01', 'n')",
    )
    before = everything(database, "pay")
    spec = simple_spec(
        link={"column": "lease_id", "also": {"since": "s.since"}},
        cardinality="one_to_one",
        compare={"rent": "rent"},
        backfill={"changed": {"update": "all", "also": [{"when": "true", "set": {"note": "'mended'"}}]}, "missing": {}},
    )
    plan = make(database, workspace, spec)
    assert plan.document["actions"] == {"link": 2, "update": 1, "insert": 1}
    assert apply(database, workspace, plan).changed == 4
    assert rows(database, "SELECT id, lease_id, rent::text, since::text, note FROM pay ORDER BY code") == [
        (1, 10, "1.5", "2026-01-01", "n"),  # equal is the same: 1.5 stays as it was written
        (2, 20, "2", "2026-01-01", "mended"),
        (3, 30, "3", "2020-01-01", "mended"),  # its link was there: what goes with a link is not written
        (4, 40, "4", "2020-01-01", "n"),
        (100, 50, "5", "2026-01-01", None),
    ]
    assert problems(database, workspace, plan) == []
    assert revert(database, workspace, plan).conflicts == 0
    assert everything(database, "pay") == before


def test_hostile_names_are_names(database: Database, workspace: Workspace) -> None:
    odd = ['a"b', "x; drop table pay; --", "target", "staged", "$1", "ü" * 31, "*/ 'q' \\! %s"]
    quoted = ['"' + name.replace('"', '""') + '"' for name in odd]
    columns = ", ".join(f"{name} text" for name in quoted)
    execute(
        database,
        f'CREATE TABLE "Odd "".table" ("the ""key" int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, "order" text UNIQUE, {columns})',
        f'CREATE TABLE "select" ("from" text, "group" int, {columns}, PRIMARY KEY ("from", "group"))',
        f'INSERT INTO "select" SELECT n::text, 1, {", ".join(["n::text"] * len(odd))} FROM generate_series(1, 3) AS n',
        f"INSERT INTO \"Odd \"\".table\" (\"order\", {quoted[0]}) VALUES ('1', 'x'), ('9', 'y')",
    )
    spec = simple_spec(
        target={"table": '"public"."Odd "".table"', "key": 'the "key'},
        source={"table": '"public"."select"', "key": ["from", "group"]},
        link=None,
        passes=[{"name": "same", "on": {'"order"': '"from"'}}],
        compare=dict(zip(odd[:-1], quoted[:-1], strict=True)),
        backfill={
            "missing": {"insert": {odd[-1]: "'it''s \\ $2 %s'"}},
            "changed": {"update": "all"},
            "orphan": {"set": {odd[-1]: "'gone'"}},
        },
    )
    before = everything(database, '"Odd "".table"')
    plan = make(database, workspace, spec)
    assert plan.document["actions"] == {"update": 1, "insert": 2, "set": 1}
    assert apply(database, workspace, plan).changed == 4
    assert problems(database, workspace, plan) == []
    assert rows(database, f'SELECT {quoted[-1]} FROM "Odd "".table" ORDER BY "order"') == [
        (None,), ("it's \\ $2 %s",), ("it's \\ $2 %s",), ("gone",),
    ]  # fmt: skip
    assert revert(database, workspace, plan).conflicts == 0
    assert everything(database, '"Odd "".table"') == before


@pytest.mark.parametrize(
    ("insert", "error"),
    [
        ({"total": "s.total"}, None),
        ({"raw": "s.raw", "total": "s.total + 0.001"}, "does not fit its column"),
        ({"total": "'abc'"}, "cannot be brought into its column"),
        ({"place": "null"}, None),
        ({"nothing": "1"}, 'no column "nothing"'),
        ({"serial": "1"}, "computes serial itself"),
    ],
)
def test_values_must_fit_their_columns(
    stays: Database, workspace: Workspace, insert: dict[str, str], error: str | None
) -> None:
    spec = stays_spec(compare={"status": "status"}, backfill={"missing": {"insert": {"place": "s.place"} | insert}})
    if error:
        runs.match(stays, spec, "ann")
        with pytest.raises(SchemaMismatch, match=error):
            plans.make(stays, workspace, spec, "ann")
        return
    plan = make(stays, workspace, spec)
    if insert == {"place": "null"}:  # NOT NULL is the table's word, and its error is told
        with pytest.raises(DatabaseFailed, match="place"):
            apply(stays, workspace, plan)
    else:
        assert apply(stays, workspace, plan).changed == 2


def test_a_new_record_without_a_needed_column_is_refused_when_planned(stays: Database, workspace: Workspace) -> None:
    spec = stays_spec(compare={"status": "status"}, backfill={"missing": {}})
    runs.match(stays, spec, "ann")
    with pytest.raises(SchemaMismatch, match="needs place"):
        plans.make(stays, workspace, spec, "ann")


def test_an_identity_that_is_not_unique_is_refused(stays: Database, workspace: Workspace) -> None:
    execute(stays, "ALTER TABLE stay DROP CONSTRAINT stay_org_platform_external_id_key")
    runs.match(stays, stays_spec(), "ann")
    with pytest.raises(SchemaMismatch, match="no unique index on org, platform, external_id"):
        plans.make(stays, workspace, stays_spec(), "ann")


# -- what is left out ------------------------------------------------------------------------------------


def test_records_that_cannot_be_inserted_are_left_out_and_counted(database: Database, workspace: Workspace) -> None:
    execute(
        database,
        "CREATE TABLE pay (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code text UNIQUE, note text)",
        "CREATE TABLE lease (id int PRIMARY KEY, code text, note text)",
        "INSERT INTO lease VALUES (1, 'A', 'x'), (2, NULL, 'x'), (3, 'B', 'x'), (4, 'B', 'x'), (5, 'hidden', 'x')",
        "INSERT INTO pay (code, note) VALUES ('hidden', 'left out')",
    )
    spec = simple_spec(
        target={"table": "pay", "key": "id", "where": "note <> 'left out'"},
        link=None,
        compare={"note": "note"},
        backfill={"missing": {}},
    )
    plan = make(database, workspace, spec)
    assert plan.document["actions"] == {"insert": 1}
    assert plan.document["left_out"] == {
        "insert: no identity": 1, "insert: same identity": 2, "insert: target exists": 1,
    }  # fmt: skip


# -- what came between -----------------------------------------------------------------------------------

BETWEEN = [
    ("UPDATE feed SET status = 'pending' WHERE external_id = '8'", "source changed"),
    ("DELETE FROM feed WHERE external_id = '8'", "source gone"),
    ("UPDATE feed SET place = NULL WHERE external_id = '8'", "source changed"),
    ("INSERT INTO stay (org, platform, external_id, place) VALUES ('a', 'air', '8', 1)", "target exists"),
    ("UPDATE feed SET status = 'pending' WHERE external_id = '2'", "source changed"),
    ("UPDATE stay SET place = 77 WHERE external_id = '2'", "target changed"),
    ("DELETE FROM stay WHERE external_id = '2'", "target gone"),
    ("UPDATE stay SET status = 'checked_in' WHERE external_id = '4'", "target changed"),
    ("UPDATE stay SET platform = 'direct' WHERE external_id = '4'", "target changed"),
    ("DELETE FROM stay WHERE external_id = '4'", "target gone"),
    ("INSERT INTO feed VALUES ('a', 'air', '4', NULL, 'pending', 1, 1)", "source found"),
]


@pytest.mark.parametrize(("change", "status"), BETWEEN)
def test_what_changed_since_the_plan_is_named_and_not_written(
    stays: Database, workspace: Workspace, change: str, status: str
) -> None:
    plan = make(stays, workspace, stays_spec())
    execute(stays, change)
    before = everything(stays)
    drifts = applying.apply(stays, workspace, plan.plan, "ann").drifts
    assert [drift["status"] for drift in drifts] == [status]
    with pytest.raises(Stale, match="1 of 5 rows changed"):
        apply(stays, workspace, plan)
    assert everything(stays) == before


@pytest.mark.parametrize(("change", "status"), BETWEEN)
def test_the_statement_itself_passes_over_what_changed(
    stays: Database, workspace: Workspace, change: str, status: str
) -> None:
    """The same as between the last look and the batch: the statement alone, run verbatim."""
    plan = make(stays, workspace, stays_spec())
    execute(stays, change)
    with stays.session() as session:
        from recon.backfill import batches

        batch = batches.at(session, plan, "staged", 1, 5)
        statement = (plan.bundle / "execute.sql").read_text()
        session.plain_path()
        assert session.execute(statement, *batch.bounds).rowcount == 4


def test_an_insert_that_another_program_makes_in_the_same_moment_is_made_once(
    stays: Database, workspace: Workspace
) -> None:
    import threading

    plan = make(stays, workspace, stays_spec(backfill={"missing": BACKFILL["missing"]}))
    statement = (plan.bundle / "execute.sql").read_text()
    changed: list[int] = []

    def ours() -> None:
        with stays.session() as session:
            session.plain_path()
            changed.append(session.execute(statement, 1, 2, None, None).rowcount)

    with stays.session() as session:
        session.execute("INSERT INTO stay (org, platform, external_id, place) VALUES ('a', 'air', '8', 1)")
        thread = threading.Thread(target=ours)
        thread.start()
        thread.join(1)
        assert thread.is_alive()  # it waits for the other one
    thread.join(10)
    assert changed == [1]
    assert rows(stays, "SELECT count(*) FROM stay WHERE external_id IN ('8', '9')") == [(2,)]


def test_decisions_that_no_longer_hold_are_not_planned(stays: Database, workspace: Workspace) -> None:
    for change in (
        "INSERT INTO stay (org, platform, external_id, place) VALUES ('b', 'air', '9', 1)",
        "DELETE FROM feed WHERE external_id = '2'",
        "INSERT INTO feed VALUES ('a', 'air', '4', NULL, 'pending', 1, 1)",
        "UPDATE stay SET status = 'cancelled', total = 30 WHERE external_id = '3'",
    ):
        runs.match(stays, stays_spec(), "ann")
        before = rows(stays, "SELECT (feed.*)::text FROM feed"), everything(stays)
        execute(stays, change)
        with pytest.raises(Stale, match="no longer hold"):
            plans.make(stays, workspace, stays_spec(), "ann")
        assert (rows(stays, "SELECT (feed.*)::text FROM feed"), everything(stays)) != before


@pytest.mark.parametrize(("target", "source"), [("4", None), (None, '["a", "air", "8"]'), (None, '["a", "air", "2"]')])
def test_a_decision_of_a_person_since_the_plan_stops_it(
    stays: Database, workspace: Workspace, target: str | None, source: str | None
) -> None:
    plan = make(stays, workspace, stays_spec())
    key = rows(stays, "SELECT id::text FROM stay WHERE external_id = $1", target)[0][0] if target else None
    overrides.decide(stays, stays_spec(), actor="ann", kind="exclude", target=key, source=source, reason="looked into")
    with pytest.raises(Stale, match="People decided otherwise about 1 of 5"):
        apply(stays, workspace, plan)


def test_a_source_that_another_target_took_is_not_linked_again(database: Database, workspace: Workspace) -> None:
    execute(
        database,
        'CREATE TABLE lease (id text COLLATE "C" PRIMARY KEY, code text)',
        "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id text)",
        "INSERT INTO lease VALUES ('k1', 'A'), ('k2', 'B')",
        "INSERT INTO pay VALUES (1, 'A', NULL), (2, 'B', NULL), (3, 'Z', NULL)",
    )
    plan = make(database, workspace, simple_spec(cardinality="one_to_one"))
    execute(database, "UPDATE pay SET lease_id = 'k1' WHERE id = 3")
    drifts = applying.apply(database, workspace, plan.plan, "ann").drifts
    assert [(drift["key"], drift["status"]) for drift in drifts] == [("1", "source taken")]
    with pytest.raises(Stale, match="another target holds the source row now"):
        apply(database, workspace, plan)
    with database.session() as session:
        session.plain_path()
        assert session.execute((plan.bundle / "execute.sql").read_text(), 1, 2, 1, 2).rowcount == 1
    assert rows(database, "SELECT id, lease_id FROM pay ORDER BY id") == [(1, None), (2, "k2"), (3, "k1")]


def test_two_holders_of_one_source_are_found_by_verify(database: Database, workspace: Workspace) -> None:
    execute(
        database,
        "CREATE TABLE lease (id int PRIMARY KEY, code text)",
        "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id int)",
        "INSERT INTO lease VALUES (10, 'A'), (20, 'B')",
        "INSERT INTO pay VALUES (1, 'A', NULL), (2, 'B', NULL), (3, 'Z', NULL)",
    )
    plan = make(database, workspace, simple_spec(cardinality="one_to_one"))
    apply(database, workspace, plan)
    assert problems(database, workspace, plan) == []
    execute(database, "UPDATE pay SET lease_id = 10 WHERE id = 3")
    assert problems(database, workspace, plan) == [("1", "another row holds the same source row")]


# -- verify and revert -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "which", "problem"),
    [
        ("UPDATE stay SET place = 99 WHERE external_id = '2'", "2", "the row holds another value"),
        ("UPDATE stay SET raw = '{}' WHERE external_id = '8'", "8", "the row holds another value"),
        ("UPDATE stay SET why = NULL WHERE external_id = '4'", "4", "the row holds another value"),
        ("DELETE FROM stay WHERE external_id = '8'", "8", "the row is gone"),
        ("DELETE FROM feed WHERE external_id = '8'", "8", "the source row does not exist"),
    ],
)
def test_verify_names_what_is_wrong(
    stays: Database, workspace: Workspace, change: str, which: str, problem: str
) -> None:
    plan = make(stays, workspace, stays_spec())
    apply(stays, workspace, plan)
    key = rows(stays, "SELECT id::text FROM stay WHERE external_id = $1", which)[0][0]
    execute(stays, change)
    assert problems(stays, workspace, plan) == [(key, problem)]


def test_a_source_that_changes_after_the_apply_makes_no_plan_wrong(stays: Database, workspace: Workspace) -> None:
    plan = make(stays, workspace, stays_spec())
    apply(stays, workspace, plan)
    execute(stays, "UPDATE feed SET place = 5 WHERE external_id = '2'")
    assert problems(stays, workspace, plan) == []


def test_an_inserted_row_that_somebody_touched_stays_and_is_named(stays: Database, workspace: Workspace) -> None:
    plan = make(stays, workspace, stays_spec())
    apply(stays, workspace, plan)
    execute(stays, "UPDATE stay SET note = 'a guest called' WHERE external_id = '8'")
    key = rows(stays, "SELECT id::text FROM stay WHERE external_id = '8'")[0][0]
    result = revert(stays, workspace, plan)
    assert (result.restored, result.conflicts, result.rows) == (4, 1, [key])
    assert now_in(stays, "external_id, note", "external_id IN ('8', '9')") == [("8", "a guest called")]


def test_a_row_that_others_refer_to_is_not_deleted_and_the_revert_says_so(
    stays: Database, workspace: Workspace
) -> None:
    plan = make(stays, workspace, stays_spec())
    execute(stays, "CREATE TABLE pin (stay_id uuid REFERENCES stay (id))")
    apply(stays, workspace, plan)
    execute(stays, "INSERT INTO pin SELECT id FROM stay WHERE external_id = '8'")
    after = everything(stays)
    with pytest.raises(DatabaseFailed, match="pin"):
        revert(stays, workspace, plan)
    assert everything(stays) == after
    execute(stays, "DELETE FROM pin")
    assert revert(stays, workspace, plan).conflicts == 0


@pytest.mark.parametrize("follow", ["CASCADE", "SET NULL"])
def test_rows_of_others_are_not_deleted_or_emptied_with_an_inserted_row(
    stays: Database, workspace: Workspace, follow: str
) -> None:
    execute(stays, f"CREATE TABLE pin (stay_id uuid REFERENCES stay (id) ON DELETE {follow})")
    execute(stays, f"ALTER TABLE stay ADD COLUMN parent uuid REFERENCES stay (id) ON DELETE {follow}")
    plan = make(stays, workspace, stays_spec())
    before = everything(stays)
    apply(stays, workspace, plan)
    execute(stays, "INSERT INTO pin SELECT id FROM stay WHERE external_id = '8'")
    after = everything(stays)
    key = rows(stays, "SELECT id::text FROM stay WHERE external_id = '8'")[0][0]
    for write in (False, True):
        with pytest.raises(Locked, match=f"public.pin refer .*{key}"):
            reverting.revert(stays, workspace, plan.plan, "ann", execute=write)
    assert everything(stays) == after
    assert rows(stays, "SELECT count(stay_id) FROM pin") == [(1,)]
    execute(stays, "DELETE FROM pin")
    assert revert(stays, workspace, plan).conflicts == 0
    assert everything(stays) == before


# -- triggers --------------------------------------------------------------------------------------------


def trigger(database: Database, body: str, when: str = "BEFORE INSERT OR UPDATE") -> None:
    execute(
        database,
        f"CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body} RETURN new; END $$",
        f"CREATE TRIGGER meddle {when} ON stay FOR EACH ROW EXECUTE FUNCTION meddle()",
    )


def test_the_ledger_holds_what_a_trigger_made_of_a_row(stays: Database, workspace: Workspace) -> None:
    trigger(stays, "new.status := upper(new.status); new.note := 'seen';", "BEFORE INSERT")
    before = everything(stays)
    plan = make(stays, workspace, stays_spec())
    assert apply(stays, workspace, plan).changed == 5
    number = plan.document["target"]["columns"].index("status") + 1
    held = f"SELECT after_{number} FROM recon.\"ledger_{plan.plan}\" WHERE action = 'insert' ORDER BY place"
    assert rows(stays, held) == [("CONFIRMED",), ("PENDING",)]
    assert [problem for _, problem in problems(stays, workspace, plan)] == ["the row holds another value"] * 2
    assert revert(stays, workspace, plan).conflicts == 0
    assert everything(stays) == before


def test_a_trigger_that_changes_the_identity_stops_the_batch(stays: Database, workspace: Workspace) -> None:
    trigger(stays, "new.external_id := new.external_id || '!';", "BEFORE INSERT")
    before = everything(stays)
    plan = make(stays, workspace, stays_spec())
    with pytest.raises(DatabaseFailed, match="an inserted row keeps its identity"):
        apply(stays, workspace, plan)
    assert everything(stays) == before


def test_a_trigger_that_swallows_an_insert_is_drift(stays: Database, workspace: Workspace) -> None:
    trigger(stays, "IF new.external_id = '8' THEN RETURN NULL; END IF;", "BEFORE INSERT")
    before = everything(stays)
    plan = make(stays, workspace, stays_spec())
    with pytest.raises(Stale, match="drifted while it was applied"):
        apply(stays, workspace, plan)
    assert everything(stays) == before


# -- a target that is a query ----------------------------------------------------------------------------


def test_a_query_as_target_is_written_through_its_table(stays: Database, workspace: Workspace) -> None:
    before = everything(stays)
    spec = stays_spec(target={"query": "select * from stay where note <> 'hidden'", "writes": "stay", "key": "id"})
    plan = make(stays, workspace, spec)
    assert apply(stays, workspace, plan).changed == 5
    assert problems(stays, workspace, plan) == []
    assert revert(stays, workspace, plan).conflicts == 0
    assert everything(stays) == before


# -- specs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"compare": {}}, "needs `compare`"),
        ({"backfill": {"changed": {"update": ["nope"]}}}, "`compare` has not"),
        ({"backfill": {"changed": {}}}, "would change nothing"),
        ({"backfill": {"changed": {"also": [{"when": "true", "set": {"id": "1"}}]}}}, "target's key"),
        ({"backfill": {"orphan": {"set": {"id": "1"}}}}, "target's key"),
        ({"backfill": {"orphan": {"set": {"why": "s.status"}}}}, "may name only its columns"),
        ({"backfill": {"orphan": {"set": {"why": "random()"}}}}, "not allowed"),
        ({"backfill": {"orphan": {"set": {}}}}, "at least 1 item"),
        ({"backfill": {"orphan": {"set": {"why": "'x'"}, "confirm": 0}}}, "greater than or equal to 1"),
        ({"backfill": {"missing": {"insert": {"raw": "t.raw"}}}}, "may name only its columns"),
        ({"backfill": {"missing": {"insert": {"status": "'x'"}}}}, "would take two values"),
        ({"backfill": {"missing": {"insert": {"org": "'x'"}}}}, "would take two values"),
        (
            {"backfill": {"changed": {"update": "all", "also": [{"when": "true", "set": {"place": "1"}}]}}},
            "would take two values",
        ),
        (
            {"backfill": {"missing": {}}, "passes": [{"name": "p", "on": {"lower(t.org)": "lower(s.org)"}}]},
            "names plain target columns",
        ),
        ({"passes": [{"name": "p", "on": IDENTITY, "when": "now() > t.seen"}]}, "not allowed"),
        ({"backfill": {"vanished": {}}}, "Extra inputs"),
    ],
)
def test_a_spec_that_cannot_be_carried_out_is_refused_in_one_sentence(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        stays_spec(**fields)


def test_the_cap_has_its_defaults() -> None:
    orphan = stays_spec().backfill.orphan
    assert orphan is not None
    assert json.loads(orphan.model_dump_json()) | {"set": 0, "when": 0} == {
        "set": 0, "when": 0, "confirm": 1, "cap": {"share": "0.05", "rows": 10},
    }  # fmt: skip
