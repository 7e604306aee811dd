"""The shape of query plans, not only their rows: what makes matching and batches fast must stay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import sign_off
from recon.database.connect import Database
from recon.errors import SlowPlan
from recon.matching import run as runs
from recon.matching import statements
from recon.matching.bind import bind
from recon.names import DIALECT
from recon.workspace import Workspace
from tests.support import execute, rows, simple_spec


@pytest.fixture
def large(database: Database) -> Database:
    execute(
        database,
        "CREATE TABLE lease AS SELECT n AS id, n % 20000 AS code, n AS since FROM generate_series(1, 40000) AS n",
        "CREATE TABLE pay AS SELECT n AS id, n % 30000 AS code, NULL::int AS lease_id FROM generate_series(1, 100000) AS n",
        "ALTER TABLE lease ADD PRIMARY KEY (id)",
        "ALTER TABLE pay ADD PRIMARY KEY (id)",
        "ANALYZE lease",
        "ANALYZE pay",
    )
    return database


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def explained(database: Database, statement: str, *values: object) -> list[dict[str, Any]]:
    with database.session() as session:
        found = session.value(f"EXPLAIN (FORMAT JSON) {statement}", *values)
        document = json.loads(found) if isinstance(found, str) else found
    return list(nodes(document[0]["Plan"]))


PASSES = [
    {"name": "one", "on": {"code": "code"}, "prefer": ["s.since desc"], "when": "t.id % 2 = 0"},
    {"name": "two", "on": {"code": "code"}, "prefer": ["s.since"]},
]


def test_all_passes_are_one_scan_of_the_unlinked_target_with_hash_joins(large: Database) -> None:
    spec = simple_spec(passes=PASSES)
    with large.session(read_only=True) as session:
        statement = statements.decisions(bind(session, spec)).sql(DIALECT)
    found = explained(large, statement)
    scans = [node for node in found if node.get("Relation Name") == "pay"]
    unlinked = [node for node in scans if "IS NULL" in str(node.get("Filter", ""))]
    assert len(unlinked) == 1
    assert len(scans) == 2  # the other one lists what is linked
    joins = [node["Node Type"] for node in found if "Join" in node["Node Type"] or "Loop" in node["Node Type"]]
    assert joins == ["Hash Join"] * 2


def test_a_batch_reads_the_target_and_the_source_by_their_keys(large: Database, workspace: Workspace) -> None:
    spec = simple_spec(passes=PASSES)
    runs.match(large, spec, "ann")
    made = plans.make(large, workspace, spec, "ann")
    assert made is not None
    statement = Path(made.bundle / "execute.sql").read_text(encoding="utf-8")
    at = f'SELECT target_key FROM recon."staged_{made.plan}" WHERE place IN (1000, 3000) ORDER BY place'
    (low,), (high,) = rows(large, at)
    found = explained(large, statement, 1000, 3000, low, high)
    by_table = {
        node["Relation Name"]: node["Node Type"]
        for node in found
        if node["Node Type"].endswith("Scan") and "Relation Name" in node
    }
    assert by_table["pay"] != "Seq Scan"
    assert next(node for node in found if node.get("Relation Name", "").startswith("staged"))["Node Type"] != "Seq Scan"


def test_a_batch_that_would_read_all_of_a_large_target_is_refused_until_there_is_an_index(
    database: Database, workspace: Workspace
) -> None:
    """Whether another row holds the source is asked for each row: without an index on the link that reads the table."""
    execute(
        database,
        "CREATE TABLE lease AS SELECT n AS id, n AS code FROM generate_series(1, 300) AS n",
        "CREATE TABLE pay AS SELECT n AS id, n AS code, NULL::int AS lease_id FROM generate_series(1, 120000) AS n",
        "ALTER TABLE lease ADD PRIMARY KEY (id)",
        "ALTER TABLE pay ADD PRIMARY KEY (id)",
        "ANALYZE lease",
        "ANALYZE pay",
    )
    spec = simple_spec(cardinality="one_to_one")
    runs.match(database, spec, "ann")
    for indexed in (False, True):
        if indexed:
            execute(database, "CREATE INDEX ON pay (lease_id)")
        made = plans.make(database, workspace, spec, "ann")
        assert made is not None
        sign_off.approve(database, workspace, made.plan, "bob")
        if not indexed:
            for execute_it in (False, True):
                with pytest.raises(SlowPlan, match=r"would read all of public\.pay") as refused:
                    applying.apply(database, workspace, made.plan, "ann", execute=execute_it)
                assert "lease_id" in refused.value.why
            assert rows(database, "SELECT count(lease_id) FROM pay") == [(0,)]
    assert applying.apply(database, workspace, made.plan, "ann", execute=True).changed == 300
