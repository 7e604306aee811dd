"""Candidate pairs are counted exactly before a pass runs, and a pass that would explode is refused in seconds."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from recon.database.connect import Database
from recon.errors import TooManyPairs
from recon.matching import candidates
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.matching.candidates import MAX_PAIRS, PassPairs
from recon.matching.pool import Pool
from recon.spec import Reconciliation
from tests.support import execute, rows, simple_spec

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code

TABLES = (
    "CREATE TABLE pay (id int PRIMARY KEY, code text, grp int, paid date, lease_id int)",
    "CREATE TABLE lease (id int PRIMARY KEY, code text, grp int, open boolean)",
)


def _count(database: Database, spec: Reconciliation) -> PassPairs:
    with database.session(read_only=True) as session:
        bound = bind(session, spec)
        return candidates.count(session, bound, bound.passes[0])


def _one(**rule: Any) -> list[dict[str, Any]]:
    return [{"name": "one"} | rule]


@pytest.fixture
def mixed(database: Database) -> Database:
    """Some hundred records with keys of uneven weight, NULLs, links, and values that hurt."""
    execute(
        database,
        *TABLES,
        "INSERT INTO pay SELECT n, (ARRAY['a', 'b', NULL, 'it''s 100 %', E'x\\ny', 'A'])[1 + n * n % 6], n % 4,"
        " NULL, CASE WHEN n % 5 = 0 THEN n END FROM generate_series(1, 300) AS n",
        "INSERT INTO lease SELECT n, (ARRAY['a', 'b', NULL, 'it''s 100 %', E'x\\ny', 'z'])[1 + n % 6], n % 3,"
        " n % 2 = 0 FROM generate_series(1, 200) AS n",
    )
    return database


@pytest.mark.parametrize("columns", [("code",), ("code", "grp")])
def test_the_number_is_that_of_a_plain_count(mixed: Database, columns: tuple[str, ...]) -> None:
    spec = simple_spec(
        target={"table": "pay", "key": "id", "where": "id > 10"},
        source={"table": "lease", "key": "id", "where": "id < 190"},
        passes=_one(on=list(columns), when="t.grp <> 3 and s.open and t.id <> s.id"),
    )
    names = ", ".join(columns)
    targets = Counter(rows(mixed, f"SELECT {names} FROM pay WHERE id > 10 AND lease_id IS NULL AND grp <> 3"))
    sources = Counter(rows(mixed, f"SELECT {names} FROM lease WHERE id < 190 AND open"))
    pairs = {key: count * sources[key] for key, count in targets.items() if None not in key and sources[key]}
    worst = min(pairs, key=lambda key: (-pairs[key], key))
    assert _count(mixed, spec) == PassPairs(
        "one", sum(pairs.values()), tuple(map(str, worst)), pairs[worst], targets[worst], sources[worst]
    )


def test_a_pass_without_equalities_compares_everything(mixed: Database) -> None:
    spec = simple_spec(passes=_one(on={"code": "code"}))
    with mixed.session(read_only=True) as session:
        bound = bind(session, spec)
        rule = replace(bound.passes[0], targets=(), sources=(), target_names=())
        found = candidates.count(session, bound, rule)
        assert found == PassPairs("one", 240 * 200, None, 240 * 200, 240, 200)
        with pytest.raises(TooManyPairs) as refused:
            candidates.guard(session, replace(bound, passes=(rule,)), Pool(), 1000)
    assert "each of 240 target records meets each of 200 source records" in refused.value.why


def test_with_one_to_one_a_held_source_is_no_candidate(mixed: Database) -> None:
    with mixed.session(read_only=True) as session:
        bound = bind(session, simple_spec(passes=_one(on={"code": "code"}, when="t.id > 0 and s.id <= 10")))
        many = candidates.count(session, bound, bound.passes[0])
        one_to_one = replace(bound, spec=bound.spec.model_copy(update={"cardinality": "one_to_one"}))
        one = candidates.count(session, one_to_one, bound.passes[0])
        # 5 and 10 are held; a target that is not under `where` holds its source all the same.
        hidden = replace(one_to_one, target_where=bound.passes[0].when_target[0])
        assert candidates.count(session, hidden, bound.passes[0]) == one
    held = "SELECT count(*) FROM pay JOIN lease USING (code) WHERE lease_id IS NULL AND lease.id IN (5, 10)"
    assert many.pairs - one.pairs == rows(mixed, held)[0][0] > 0


@pytest.mark.parametrize("kind", ["int", "uuid", "numeric", "date", "varchar(9)"])
def test_keys_of_every_type_are_counted_and_named_as_text(database: Database, kind: str) -> None:
    value = {"int": "7", "uuid": "00000000-0000-0000-0000-000000000007", "numeric": "7.50", "date": "2025-03-30"}
    text = value.get(kind, "seven")
    execute(
        database,
        f"CREATE TABLE pay (id int, code {kind}, lease_id int)",
        f"CREATE TABLE lease (id int, code {kind})",
        f"INSERT INTO pay VALUES (1, '{text}'), (2, '{text}'), (3, NULL)",
        f"INSERT INTO lease VALUES (1, '{text}'), (2, NULL)",
    )
    assert _count(database, simple_spec()) == PassPairs("by_code", 2, (text,), 2, 2, 1)


def test_no_records_make_no_pairs(database: Database) -> None:
    execute(database, *TABLES)
    assert _count(database, simple_spec()) == PassPairs("by_code", 0, None, 0, 0, 0)


def test_a_pass_that_would_explode_is_refused_in_seconds_with_the_number(database: Database) -> None:
    execute(
        database,
        *TABLES,
        "INSERT INTO pay SELECT n, n % 4, 0 FROM generate_series(1, 200000) AS n",
        "INSERT INTO lease SELECT n, n % 4, 0 FROM generate_series(1, 200000) AS n",
        "INSERT INTO pay SELECT 200000 + n, '3', 0 FROM generate_series(1, 10) AS n",
    )
    began = time.perf_counter()
    with database.session(read_only=True) as session:
        bound = bind(session, simple_spec())
        with pytest.raises(TooManyPairs) as refused:
            candidates.guard(session, bound, Pool())
        seconds = time.perf_counter() - began
        _as_before(bound, session)
    assert seconds < 5
    assert refused.value.exit_code == 4
    assert refused.value.what == "Pass by_code would make 10,000,500,000 candidate pairs."
    assert "code = '3': 50,010 target records × 50,000 source records = 2,500,500,000 pairs" in refused.value.why
    assert f"at most {MAX_PAIRS:,}" in refused.value.why
    assert "equality" in refused.value.todo


def _as_before(bound: Bound, session: Any) -> None:
    """The planner's settings end with the count, whatever came of it."""
    assert session.value("SELECT current_setting('enable_nestloop')") == "on"
    assert candidates.count(session, bound, bound.passes[0]).pairs == 10_000_500_000


def test_a_long_key_is_cut(database: Database) -> None:
    execute(
        database,
        *TABLES,
        "INSERT INTO pay VALUES (1, repeat('é', 100000))",
        "INSERT INTO lease SELECT id, code FROM pay",
    )
    found = _count(database, simple_spec())
    assert found.worst_key == ("é" * 200 + "…",)
    with database.session(read_only=True) as session, pytest.raises(TooManyPairs) as refused:
        candidates.guard(session, bind(session, simple_spec()), Pool(), 0)
    assert len(refused.value.why) < 250
