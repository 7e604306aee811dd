"""What stands between a plan and a wrong row: decisions that no longer hold, values that do not fit, writers in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from recon import workflow
from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import revert as reverting
from recon.backfill import sign_off
from recon.backfill import verify as verifying
from recon.backfill.plan import Plan
from recon.database.connect import Database
from recon.errors import BundleChanged, DatabaseFailed, NotApproved, SchemaMismatch, Stale
from recon.matching import run as runs
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests.support import execute, rows, simple_spec


@pytest.fixture
def two(database: Database) -> Database:
    """Two payments and their two leases."""
    execute(
        database,
        "CREATE TABLE lease (id int PRIMARY KEY, code text, note text)",
        "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id int, note text)",
        "INSERT INTO lease VALUES (10, 'A', 'n'), (20, 'B', 'n')",
        "INSERT INTO pay VALUES (1, 'A', NULL, 'x'), (2, 'B', NULL, 'y')",
    )
    return database


def planned(database: Database, workspace: Workspace, spec: Reconciliation) -> Plan:
    runs.match(database, spec, "ann")
    made = plans.make(database, workspace, spec, "ann")
    assert made is not None
    return sign_off.approve(database, workspace, made.plan, "bob")


# -- between the run and the plan ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE pay SET lease_id = 20 WHERE id = 1",
        "UPDATE lease SET code = 'Z' WHERE id = 10",
        "UPDATE pay SET code = 'B' WHERE id = 1",
        "INSERT INTO lease VALUES (30, 'A', 'n')",
        "DELETE FROM pay WHERE id = 1",
    ],
)
def test_decisions_that_no_longer_hold_cannot_be_planned(two: Database, workspace: Workspace, change: str) -> None:
    runs.match(two, simple_spec(), "ann")
    execute(two, change)
    with pytest.raises(Stale, match=r"1 of 2 decisions .* no longer hold"):
        plans.make(two, workspace, simple_spec(), "ann")
    assert list(workspace.backfills.iterdir()) == []


@pytest.mark.parametrize(
    ("column", "value", "kind"),
    [
        ("lease_id", "id", "varchar(3)"),
        ("amount", "12.349", "numeric(10,1)"),
        ("amount", "2.5", "int"),
        ("day", "'AB10'", "char(3)"),
    ],
)
def test_a_value_that_its_column_would_cut_is_refused(
    database: Database, workspace: Workspace, column: str, value: str, kind: str
) -> None:
    link = kind if column == "lease_id" else "text"
    execute(
        database,
        f"CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id {link}, amount {kind if column == 'amount' else 'int'},"
        f" day {kind if column == 'day' else 'text'})",
        "CREATE TABLE lease (id text PRIMARY KEY, code text)",
        "INSERT INTO lease VALUES ('AB1', 'Q'), ('AB10', 'A')",
        "INSERT INTO pay (id, code) VALUES (1, 'A')",
    )
    also = {} if column == "lease_id" else {column: value}
    spec = simple_spec(link={"column": "lease_id", "also": also})
    runs.match(database, spec, "ann")
    with pytest.raises(SchemaMismatch, match="does not fit its column"):
        plans.make(database, workspace, spec, "ann")


def test_a_table_without_a_unique_key_is_not_written(database: Database, workspace: Workspace) -> None:
    execute(
        database,
        "CREATE TABLE pay (id int, code text, lease_id int)",
        "CREATE TABLE lease (id int PRIMARY KEY, code text)",
        "INSERT INTO pay VALUES (1, 'A')",
        "INSERT INTO lease VALUES (7, 'A')",
    )
    runs.match(database, simple_spec(), "ann")
    with pytest.raises(SchemaMismatch, match="no unique index on id"):
        plans.make(database, workspace, simple_spec(), "ann")


@pytest.mark.parametrize("also", [{"id": "s.id"}, {"lease_id": "s.id"}])
def test_the_link_writes_neither_the_key_nor_itself_twice(also: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"target's key|link column"):
        simple_spec(link={"column": "lease_id", "also": also})


# -- between the check and the batch ---------------------------------------------------------------------


def while_another_writes(database: Database, statements: list[str], work: Callable[[], Any]) -> Any:
    """Run `work` while another session holds its changes for a moment, then commits them."""
    held = threading.Event()

    def other() -> None:
        with database.session() as session:
            for statement in statements:
                session.execute(statement)
            held.set()
            time.sleep(1.0)

    writer = threading.Thread(target=other)
    writer.start()
    held.wait()
    try:
        return work()
    finally:
        writer.join()


@pytest.mark.parametrize(
    ("target", "changes"),
    [
        ({"table": "pay", "key": "id"}, ["UPDATE pay SET code = 'Z' WHERE id = 1"]),
        (
            {"table": "pay", "key": "id"},
            ["UPDATE lease SET code = 'Z' WHERE id = 10", "UPDATE pay SET note = 't' WHERE id = 1"],
        ),
        ({"table": "pay", "key": "id"}, ["DELETE FROM lease WHERE id = 10", "UPDATE pay SET note = 't' WHERE id = 1"]),
        ({"query": "select * from pay", "writes": "pay", "key": "id"}, ["UPDATE pay SET code = 'Z' WHERE id = 1"]),
        (
            {"query": "select * from pay", "writes": "pay", "key": "id", "where": "note <> 'closed'"},
            ["UPDATE pay SET note = 'closed' WHERE id = 1"],
        ),
    ],
)
def test_a_row_that_drifts_while_apply_waits_for_it_is_not_written(
    two: Database, workspace: Workspace, target: dict[str, Any], changes: list[str]
) -> None:
    plan = planned(two, workspace, simple_spec(target=target))
    with pytest.raises(Stale, match="drifted while it was applied"):
        while_another_writes(two, changes, lambda: applying.apply(two, workspace, plan.plan, "ann", execute=True))
    assert rows(two, "SELECT lease_id FROM pay ORDER BY id") == [(None,), (None,)]


# -- revert ----------------------------------------------------------------------------------------------


def test_a_revert_that_a_trigger_undoes_is_a_conflict_and_not_a_success(two: Database, workspace: Workspace) -> None:
    execute(
        two,
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF new.lease_id IS NULL THEN new.lease_id := old.lease_id; END IF; RETURN new; END $$",
        "CREATE TRIGGER keep BEFORE UPDATE ON pay FOR EACH ROW EXECUTE FUNCTION keep()",
    )
    plan = planned(two, workspace, simple_spec())
    assert applying.apply(two, workspace, plan.plan, "ann", execute=True).changed == 2
    result = reverting.revert(two, workspace, plan.plan, "ann", execute=True)
    assert (result.restored, result.conflicts, result.state) == (0, 2, "reverted_with_conflicts")


def test_values_that_are_equal_but_not_the_same_count_as_changed(two: Database, workspace: Workspace) -> None:
    execute(two, "ALTER TABLE pay ADD COLUMN fee numeric", "UPDATE pay SET fee = 1.5")
    spec = simple_spec(link={"column": "lease_id", "also": {"fee": "s.id + 0.25"}})
    plan = planned(two, workspace, spec)
    execute(two, "UPDATE pay SET fee = 1.50 WHERE id = 1")
    with pytest.raises(Stale, match="1 of 2 rows changed"):
        applying.apply(two, workspace, plan.plan, "ann", execute=True)


# -- the policy goes with the plan -----------------------------------------------------------------------


def test_a_laxer_workspace_cannot_approve_or_apply_a_stricter_plan(
    two: Database, workspace: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import shutil

    (workspace.root / "recon.toml").write_text("[sign_off]\napprovals = 2\n")
    strict = Workspace(workspace.root)
    runs.match(two, simple_spec(), "ann")
    made = plans.make(two, strict, simple_spec(), "ann")
    assert made is not None
    lax = Workspace(tmp_path_factory.mktemp("lax"))
    shutil.copytree(strict.backfills, lax.backfills)
    assert sign_off.approve(two, lax, made.plan, "bob").state == "planned"
    with pytest.raises(NotApproved, match="1 of 2 approvals"):
        applying.apply(two, lax, made.plan, "ann", execute=True)


@pytest.mark.one_engine  # names are read by us
@pytest.mark.parametrize("name", ["", " ", "bob\n", "b\u200bob", "Demo-Reviewer", " demo-x"])
def test_names_that_cannot_be_seen_and_demo_people_approve_nothing(
    two: Database, workspace: Workspace, name: str
) -> None:
    runs.match(two, simple_spec(), "ann")
    made = plans.make(two, workspace, simple_spec(), "ann")
    assert made is not None
    with pytest.raises(NotApproved):
        sign_off.approve(two, workspace, made.plan, name)


def test_two_spellings_of_one_person_are_one_approval(two: Database, workspace: Workspace) -> None:
    (workspace.root / "recon.toml").write_text("[sign_off]\napprovals = 2\n")
    strict = Workspace(workspace.root)
    runs.match(two, simple_spec(), "ann")
    made = plans.make(two, strict, simple_spec(), "ann")
    assert made is not None
    sign_off.approve(two, strict, made.plan, "bob")
    assert sign_off.approve(two, strict, made.plan, "Bob").state == "planned"


# -- matching --------------------------------------------------------------------------------------------


def test_text_is_compared_by_bytes_whatever_the_columns_collations(database: Database) -> None:
    execute(
        database,
        'CREATE TABLE pay (id int PRIMARY KEY, code text COLLATE "C", lease_id int)',
        'CREATE TABLE lease (id int PRIMARY KEY, code text COLLATE "POSIX")',
        "INSERT INTO pay VALUES (1, 'abc'), (2, 'ABC')",
        "INSERT INTO lease VALUES (7, 'ABC')",
    )
    try:
        execute(
            database,
            "CREATE COLLATION anycase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
            'ALTER TABLE pay ALTER code TYPE text COLLATE "anycase"',
        )
    except DatabaseFailed as error:
        if "ICU is not supported" not in str(error):  # the embedded server has no such collations to be misled by
            raise
    assert runs.match(database, simple_spec(), "ann").outcomes == {"matched": 1, "unmatched": 1}


@pytest.mark.parametrize(
    "condition",
    [
        "date_part('epoch from now()); update pay set lease_id = 10; commit; select extract(epoch', s.day) > 0",
        "date_part('epoch from now()) > 0 or extract(epoch', s.day) > 0",
    ],
)
def test_what_looks_like_more_than_an_expression_is_one_value_to_the_server(two: Database, condition: str) -> None:
    execute(two, "ALTER TABLE lease ADD COLUMN day date DEFAULT '2025-01-01'")
    before = rows(two, "SELECT * FROM pay ORDER BY id")
    spec = simple_spec(passes=[{"name": "one", "on": {"code": "code"}, "when": condition}])
    with pytest.raises(DatabaseFailed, match="not recognized"):  # as a unit of time, which it is not
        runs.match(two, spec, "ann")
    assert rows(two, "SELECT * FROM pay ORDER BY id") == before


def test_a_complete_backfill_is_verified(two: Database, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = simple_spec(expect={"coverage": 1.0, "right": {"code": "t.code = s.code"}})
    plan = planned(two, workspace, spec)
    applying.apply(two, workspace, plan.plan, "ann", execute=True)
    monkeypatch.setattr(Workspace, "spec", lambda self, name: spec)
    assert workflow.verify(two, workspace, plan.plan, "ann").complete


def test_a_generated_column_cannot_be_linked(database: Database, workspace: Workspace) -> None:
    execute(
        database,
        "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id int, twice int GENERATED ALWAYS AS (id * 2) STORED)",
        "CREATE TABLE lease (id int PRIMARY KEY, code text)",
        "INSERT INTO pay VALUES (1, 'A')",
        "INSERT INTO lease VALUES (7, 'A')",
    )
    spec = simple_spec(link={"column": "lease_id", "also": {"twice": "s.id"}})
    runs.match(database, spec, "ann")
    with pytest.raises(SchemaMismatch, match="computes twice itself"):
        plans.make(database, workspace, spec, "ann")


@pytest.mark.parametrize(
    ("created", "condition"),
    [
        (
            "CREATE FUNCTION public.upper(int) RETURNS text LANGUAGE sql AS $$ INSERT INTO public.hit VALUES ($1); SELECT 'x' $$",
            "upper(t.id) = 'x'",
        ),
        (
            "CREATE FUNCTION public.hits(int, int) RETURNS bool LANGUAGE sql AS $$ INSERT INTO public.hit VALUES ($1); SELECT true $$",
            "t.id ~ s.id",
        ),
    ],
)
def test_functions_and_operators_are_postgresqls_own(two: Database, created: str, condition: str) -> None:
    execute(two, "CREATE TABLE hit (id int)", created)
    if "hits" in created:
        execute(two, "CREATE OPERATOR public.~ (leftarg = int, rightarg = int, function = public.hits)")
    spec = simple_spec(passes=[{"name": "one", "on": {"code": "code"}, "when": condition}])
    with pytest.raises(SchemaMismatch, match="PostgreSQL cannot use"):
        runs.match(two, spec, "ann")
    assert rows(two, "SELECT count(*) FROM hit") == [(0,)]


def test_verify_looks_for_what_was_signed_and_not_for_what_is_staged_by_now(
    two: Database, workspace: Workspace
) -> None:
    plan = planned(two, workspace, simple_spec())
    applying.apply(two, workspace, plan.plan, "ann", execute=True)
    execute(
        two,
        f'DELETE FROM recon."staged_{plan.plan}" WHERE target_key = 1',
        "UPDATE pay SET lease_id = NULL WHERE id = 1",
    )
    with pytest.raises(BundleChanged):
        verifying.verify(two, workspace, plan.plan)
