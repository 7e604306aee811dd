"""What people decided, through a run and what follows it: matching, what-if, plan and screens."""

from __future__ import annotations

from pathlib import Path

import pytest

from recon.backfill import apply, sign_off
from recon.backfill import plan as plans
from recon.database.connect import Database
from recon.errors import Stale
from recon.matching import overrides, what_if
from recon.matching import run as runs
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests.support import execute, recon, rows, simple_spec

NEAR = {
    "name": "near",
    "on": {},
    "within": {"target": "day", "source": "day", "tolerance": "1 day"},
    "prefer": ["nearest"],
}


@pytest.fixture
def days(database: Database) -> Database:
    execute(
        database,
        "CREATE TABLE pay (id int PRIMARY KEY, day date, lease_id int)",
        "CREATE TABLE lease (id int PRIMARY KEY, day date)",
        "INSERT INTO pay VALUES (1, '2025-01-01'), (2, '2025-01-03'), (3, '2025-01-20')",
        "INSERT INTO lease VALUES (5, '2025-01-01'), (6, '2025-01-04'), (7, '2025-01-10')",
    )
    return database


@pytest.fixture
def spec() -> Reconciliation:
    return simple_spec(cardinality="one_to_one", passes=[NEAR])


def say(database: Database, spec: Reconciliation, kind: str, target: str | None, source: str | None) -> None:
    overrides.decide(database, spec, actor="bob", kind=kind, target=target, source=source, reason="seen the papers")


def test_rules_never_undo_a_decision_and_every_run_keeps_it(days: Database, spec: Reconciliation) -> None:
    say(days, spec, "link", "3", "5")
    say(days, spec, "forbid", "2", "6")
    for _ in range(2):
        run = runs.match(days, spec, "ann")
        decided = rows(days, f"SELECT target_key, source_key, outcome, pass FROM recon.decisions_{run.run} ORDER BY 1")
        assert decided == [
            (1, None, "unmatched", "near"),
            (2, None, "unmatched", "near"),
            (3, 5, "matched", "override"),
        ]
        assert run.reasons == {"taken": 1, "forbidden": 1}


def test_what_if_counts_with_the_decisions_of_people(days: Database, spec: Reconciliation) -> None:
    say(days, spec, "link", "3", "5")
    (curve,) = what_if.what_if(days, spec).curves
    present = next(point for point in curve.points if point.factor == 1)
    assert (present.matched, present.gained, present.lost) == (2, 0, 0)


def test_a_plan_holds_what_people_linked(days: Database, spec: Reconciliation, workspace: Workspace) -> None:
    say(days, spec, "link", "3", "5")
    runs.match(days, spec, "ann")
    plan = plans.make(days, workspace, spec, "ann")
    assert plan is not None
    assert plan.document["passes"] == {"override": 1, "near": 1}
    overrides.undo(days, spec, actor="bob", reason="the wrong paper", target="3")
    with pytest.raises(Stale):
        plans.make(days, workspace, spec, "ann")


def test_a_decision_that_the_data_contradicts_is_shown_and_waits(days: Database, tmp_path: Path) -> None:
    (tmp_path / "recon.toml").write_text("")
    (tmp_path / "reconciliations").mkdir()
    (tmp_path / "reconciliations" / "simple.yaml").write_text(
        "name: simple\ntarget: {table: pay, key: id}\nsource: {table: lease, key: id}\nlink: {column: lease_id}\n"
        "cardinality: one_to_one\npasses:\n  - {name: near, on: {}, prefer: [nearest],"
        " within: {target: day, source: day, tolerance: 1 day}}\n"
    )
    decide = ("decide", "simple", "--target", "1", "--link", "7", "--reason", "by phone")
    assert recon(*decide, url=days.url, cwd=tmp_path, user="bob").code == 0
    execute(days, "DELETE FROM lease WHERE id = 7", "DELETE FROM pay WHERE id = 3")
    ended = recon("match", "simple", url=days.url, cwd=tmp_path)
    assert ended.code == 3
    assert "the source does not exist" in ended.out
    assert "by phone" in ended.out
    found = recon("match", "simple", "--json", url=days.url, cwd=tmp_path).json
    assert found["outcomes"] == {"matched": 1, "ambiguous": 1}
    assert [item["target_key"] for item in found["conflicts"]] == ["1"]


@pytest.mark.parametrize("decision", ["forbid", "exclude", "undo", "another"])
def test_a_plan_that_people_contradict_since_is_not_applied(
    days: Database, spec: Reconciliation, workspace: Workspace, decision: str
) -> None:
    say(days, spec, "link", "3", "5")
    runs.match(days, spec, "ann")
    plan = plans.make(days, workspace, spec, "ann")
    assert plan is not None
    sign_off.approve(days, workspace, plan.plan, "bob")
    if decision == "forbid":
        say(days, spec, "forbid", "2", "6")
    elif decision == "exclude":
        overrides.decide(days, spec, actor="bob", kind="exclude", source="6", reason="a fake")
    elif decision == "another":
        say(days, spec, "link", "1", "6")
    else:
        overrides.undo(days, spec, actor="bob", reason="the wrong paper", target="3")
    with pytest.raises(Stale, match="decided otherwise about 1 of 2 rows"):
        apply.apply(days, workspace, plan.plan, "ann", execute=False)
    with pytest.raises(Stale, match="decided otherwise about 1 of 2 rows"):
        apply.apply(days, workspace, plan.plan, "ann", execute=True)
    assert rows(days, "SELECT count(*) FROM pay WHERE lease_id IS NOT NULL") == [(0,)]
    assert plans.load(days, workspace, plan.plan).state == "stale"


def test_a_source_that_another_target_took_meanwhile_is_not_linked_twice(
    days: Database, spec: Reconciliation, workspace: Workspace
) -> None:
    runs.match(days, spec, "ann")
    plan = plans.make(days, workspace, spec, "ann")
    assert plan is not None
    sign_off.approve(days, workspace, plan.plan, "bob")
    execute(days, "UPDATE pay SET lease_id = 5 WHERE id = 3")
    assert [drift["status"] for drift in apply.apply(days, workspace, plan.plan, "ann").drifts] == ["source taken"]
    with pytest.raises(Stale, match="another target holds the source row now"):
        apply.apply(days, workspace, plan.plan, "ann", execute=True)
    assert rows(days, "SELECT id FROM pay WHERE lease_id = 5") == [(3,)]


def test_rows_outside_of_a_query_hold_their_sources_too(days: Database) -> None:
    execute(days, "UPDATE pay SET lease_id = 5 WHERE id = 3")
    query = {"query": "select id, day, lease_id from pay where id < 3", "writes": "pay", "key": "id"}
    for population in ("target", "source"):
        spec = simple_spec(target=query, cardinality="one_to_one", passes=[NEAR], population=population)
        run = runs.match(days, spec, "ann")
        found = rows(days, f"SELECT target_key, source_key, outcome FROM recon.decisions_{run.run} ORDER BY 1, 2")
        if population == "target":
            assert found == [(1, None, "unmatched"), (2, 6, "matched")]
        else:
            assert (3, 5, "linked") in found
