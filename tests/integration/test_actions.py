"""Every action of a backfill: link, update, insert and set, applied, proven and undone, with keys and types of every kind."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.database.connect import Database
from recon.errors import DatabaseFailed, SchemaMismatch, SpecError, UsageError
from recon.matching import run as runs
from recon.workspace import Workspace
from tests.stays_and_feed import (
    BACKFILL,
    IDENTITY,
    apply,
    everything,
    fill,
    make,
    now_in,
    problems,
    revert,
    stays_spec,
)
from tests.support import execute, rows, simple_spec

pytestmark = (
    pytest.mark.one_engine
)  # test_path and test_hostile go the same ways on both; `make engines` runs all of it


@pytest.fixture
def stays(database: Database) -> Database:
    fill(database)
    return database


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
