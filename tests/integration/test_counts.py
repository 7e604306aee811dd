"""Counts always add up: every record of the population has one decision, and every unmatched one a reason."""

from __future__ import annotations

from collections import Counter

import pytest

from recon import systems
from recon.database.connect import Database
from recon.matching import run as runs
from recon.matching.run import Run
from recon.spec import Reconciliation
from recon.workflow import load_sample
from recon.workspace import Workspace
from tests.support import ROOT, execute, rows, simple_spec

SHIPPED = sorted(systems.with_sample())


@pytest.mark.parametrize("name", SHIPPED)
def test_of_every_shipped_reconciliation(database: Database, workspace: Workspace, name: str) -> None:
    load_sample(database, name, workspace)
    spec = Workspace(ROOT).spec(name)
    assert_add_up(database, spec, runs.match(database, spec, "ann"))


@pytest.mark.parametrize("population", ["target", "source"])
def test_of_a_comparison_with_records_on_one_side_only(database: Database, population: str) -> None:
    execute(
        database,
        "CREATE TABLE pay (id int PRIMARY KEY, code text, amount numeric)",
        "CREATE TABLE lease (id int PRIMARY KEY, code text, amount numeric)",
        "INSERT INTO pay SELECT n, 'c' || n, n FROM generate_series(1, 6) AS n",
        "INSERT INTO lease SELECT n + 100, 'c' || n, n + n / 5 FROM generate_series(3, 8) AS n",
        "INSERT INTO lease VALUES (200, 'c6', 0), (201, 'c1', NULL)",
    )
    spec = simple_spec(
        link=None,
        cardinality="one_to_one",
        population=population,
        compare={"amount": "amount"},
        valid=[{"rule": "s.amount is not null", "issue": "no amount"}],
    )
    run = runs.match(database, spec, "ann")
    assert_add_up(database, spec, run)
    if population == "target":
        expected = {"same": 2, "changed": 1, "ambiguous": 1, "orphan": 1, "invalid": 1}
        assert (run.outcomes, run.other_side) == (expected, {"missing": 2})
    else:
        expected = {"same": 2, "changed": 1, "ambiguous": 2, "missing": 2, "invalid": 1}
        assert (run.outcomes, run.other_side) == (expected, {"orphan": 1})


def assert_add_up(database: Database, spec: Reconciliation, run: Run) -> None:
    side = spec.target if spec.population == "target" else spec.source
    where = f" WHERE {side.where}" if side.where else ""
    ((population,),) = rows(database, f"SELECT count(*) FROM {side.relation or f'({side.query}) AS records'}{where}")
    assert sum(run.outcomes.values()) == run.population == population
    alone = run.outcomes.get("unmatched", 0)
    if spec.compare:
        alone += run.outcomes.get("orphan" if spec.population == "target" else "missing", 0)
    assert sum(run.reasons.values()) == alone
    decided = dict(rows(database, f"SELECT outcome, count(*) FROM recon.decisions_{run.run} GROUP BY 1"))
    assert Counter(decided) == Counter(run.outcomes) + Counter(run.other_side)


def test_a_break_of_one_to_one_closes_when_the_next_run_reconciles_it(database: Database) -> None:
    execute(
        database,
        "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id int)",
        "CREATE TABLE lease (id int PRIMARY KEY, code text)",
        "INSERT INTO pay VALUES (1, 'a'), (2, 'b')",
        "INSERT INTO lease VALUES (5, 'a')",
    )
    spec = simple_spec(cardinality="one_to_one")
    assert runs.match(database, spec, "ann").breaks["new"] == 1
    execute(database, "INSERT INTO lease VALUES (6, 'b')")
    assert sum(runs.match(database, spec, "ann").breaks.values()) == 0
    execute(database, "DELETE FROM lease WHERE id = 5")
    assert runs.match(database, spec, "ann").breaks["new"] == 1
    states = "SELECT key, state FROM recon.breaks ORDER BY key"
    assert rows(database, states) == [(["1"], "open"), (["2"], "resolved")]


def test_a_run_that_was_killed_is_failed_as_soon_as_another_begins(database: Database) -> None:
    execute(
        database,
        "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id int)",
        "CREATE TABLE lease (id int PRIMARY KEY, code text)",
    )
    runs.match(database, simple_spec(), "ann")
    dead = "INSERT INTO recon.runs (run, reconciliation, state, actor, spec_digest) VALUES ('dead', 'simple', 'running', 'ann', '')"
    execute(database, dead)
    runs.match(database, simple_spec(), "ann")
    assert rows(database, "SELECT state, error LIKE '%killed%' FROM recon.runs WHERE run = 'dead'") == [
        ("failed", True)
    ]
