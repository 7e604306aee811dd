"""What came between a plan and its apply, its proof or its revert: other writers, people, and triggers."""

from __future__ import annotations

import pytest

from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import revert as reverting
from recon.database.connect import Database
from recon.errors import DatabaseFailed, Locked, Stale
from recon.matching import overrides
from recon.matching import run as runs
from recon.workspace import Workspace
from tests.stays_and_feed import (
    BACKFILL,
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

pytestmark = pytest.mark.one_engine


@pytest.fixture
def stays(database: Database) -> Database:
    fill(database)
    return database


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
