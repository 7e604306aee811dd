"""Values at the edge: infinity, not-a-number, floats, and expressions that fail on a record."""

from __future__ import annotations

from typing import Any

import pytest

from recon.database.connect import Database
from recon.errors import DatabaseFailed, SchemaMismatch, TooManyPairs
from recon.matching import run as runs
from recon.matching.bind import bind
from recon.matching.explain import explain
from tests.support import execute, recon, rows, simple_spec


@pytest.fixture
def odd(database: Database) -> Database:
    columns = "id int PRIMARY KEY, v numeric, f real, d date, shape circle"
    execute(
        database,
        f"CREATE TABLE pay ({columns}, lease_id int)",
        f"CREATE TABLE lease ({columns})",
        "INSERT INTO pay VALUES (1, '-Infinity', 123456.7, 'infinity', '<(1,2),3>')",
        "INSERT INTO pay VALUES (2, 'Infinity', 1, '2025-01-01', NULL), (3, 'NaN', 'NaN', '-infinity', NULL)",
        "INSERT INTO lease VALUES (11, 5, 123457.4, 'infinity', '<(4,2),3>')",
        "INSERT INTO lease VALUES (12, 'Infinity', 1.2, '2025-01-02', NULL)",
    )
    return database


def links(database: Database, column: str, tolerance: Any) -> list[tuple[Any, ...]]:
    near = {"name": "near", "on": {}, "within": {"target": column, "source": column, "tolerance": tolerance}}
    run = runs.match(database, simple_spec(passes=[near]), "ann")
    pairs = f"SELECT target_key, source_key FROM recon.decisions_{run.run} WHERE outcome = 'matched' ORDER BY 1"
    return rows(database, pairs)


def test_a_percentage_of_infinity_holds_infinity_alone(odd: Database) -> None:
    assert links(odd, "v", "5%") == [(2, 12)]
    assert links(odd, "v", {"before": "5%"}) == [(2, 12)]


def test_floats_are_the_decimals_that_they_show(odd: Database) -> None:
    assert links(odd, "f", "0.2") == [(2, 12)]
    assert links(odd, "f", "0.7") == [(1, 11), (2, 12)]


def test_infinite_dates_are_near_themselves_and_can_be_explained(odd: Database) -> None:
    assert links(odd, "d", "2 days") == [(1, 11), (2, 12)]
    near = {
        "name": "near",
        "on": {},
        "within": {"target": "d", "source": "d", "tolerance": "2 days"},
        "prefer": ["nearest"],
    }
    with odd.session() as session:
        bound = bind(session, simple_spec(passes=[near], cardinality="one_to_one"))
        for key in ("1", "2", "3"):
            assert explain(session, bound, key).passes[0].result in ("best", "out_of_tolerance")


def test_shapes_whose_equality_is_none_are_not_compared(odd: Database) -> None:
    with pytest.raises(SchemaMismatch, match="circle cannot be compared"):
        runs.match(odd, simple_spec(link=None, compare={"shape": "shape"}, passes=[{"name": "p", "on": ["id"]}]), "ann")


def test_an_expression_that_fails_on_a_record_says_what_to_do(odd: Database) -> None:
    with pytest.raises(DatabaseFailed, match="fails on a record: division by zero") as failed:
        runs.match(odd, simple_spec(passes=[{"name": "p", "on": {"1 / (id - 1)": "id"}}]), "ann")
    assert "nullif" in failed.value.todo


def test_a_pass_of_very_many_pairs_is_refused_by_match(odd: Database) -> None:
    execute(
        odd,
        "INSERT INTO pay (id, v) SELECT n, 1 FROM generate_series(100, 15100) AS n",
        "INSERT INTO lease (id, v) SELECT n, 1 FROM generate_series(100, 15100) AS n",
        "ANALYZE pay",
        "ANALYZE lease",
    )
    with pytest.raises(TooManyPairs, match="225,030,002 candidate pairs"):
        runs.match(odd, simple_spec(cardinality="one_to_one", passes=[{"name": "p", "on": {"v": "v"}}]), "ann")


def test_no_value_of_a_record_steers_the_terminal(odd: Database) -> None:
    execute(odd, "ALTER TABLE pay ADD code text", "UPDATE pay SET code = E'\\x1b[2J' || id")
    ended = recon("explain", "simple", "--key", "\x1b[31m", url=odd.url)
    assert "\x1b" not in ended.err
    from rich.console import Console

    from recon import screens

    assert isinstance(screens.console, Console)
    with screens.console.capture() as shown:
        screens.table(["code"], [[code] for (code,) in rows(odd, "SELECT code FROM pay")])
    assert "\\x1b[2J1" in shown.get()
    assert "\x1b[2J" not in shown.get()


@pytest.mark.parametrize("cardinality", ["many_to_one", "one_to_one"])
@pytest.mark.parametrize("prefer", [[], ["s.word"]])
def test_padded_text_equals_its_text_whatever_the_statement(
    database: Database, cardinality: str, prefer: list[str]
) -> None:
    execute(
        database,
        "CREATE TABLE pay (id int PRIMARY KEY, code char(3), lease_id int)",
        "CREATE TABLE lease (id int PRIMARY KEY, code text, word text)",
        "INSERT INTO pay VALUES (1, 'a'), (2, 'b')",
        "INSERT INTO lease VALUES (11, 'a'), (12, 'b  ')",
    )
    passes = [{"name": "by_code", "on": {"code": "code"}, "prefer": prefer}]
    run = runs.match(database, simple_spec(cardinality=cardinality, passes=passes), "ann")
    assert run.outcomes == {"matched": 1, "unmatched": 1}


def test_where_keeps_records_from_an_expression_that_would_fail(database: Database) -> None:
    execute(
        database,
        "CREATE TABLE pay (id int PRIMARY KEY, k int, lease_id int)",
        "CREATE TABLE lease (id int PRIMARY KEY, k int)",
        "INSERT INTO pay VALUES (1, 0), (2, 5), (3, 2)",
        "INSERT INTO lease VALUES (11, 0), (12, 5)",
    )
    sides = {
        "target": {"table": "pay", "key": "id", "where": "k <> 0"},
        "source": {"table": "lease", "key": "id", "where": "k <> 0"},
    }
    for cardinality in ("many_to_one", "one_to_one"):
        passes = [{"name": "p", "on": {"10 / t.k": "10 / s.k"}}]
        run = runs.match(database, simple_spec(**sides, cardinality=cardinality, passes=passes), "ann")
        assert run.outcomes == {"matched": 1, "unmatched": 1}


def test_an_expression_is_one_operand_whatever_it_is_made_of(database: Database) -> None:
    execute(
        database,
        "CREATE TABLE pay (id int PRIMARY KEY, a int, b int, note text)",
        "CREATE TABLE lease (id int PRIMARY KEY, a int, b int, note text)",
        "INSERT INTO pay VALUES (1, 1, 0, 'x1'), (2, 0, 0, 'y')",
        "INSERT INTO lease VALUES (11, 1, 0, 'x2'), (12, 0, 0, 'z')",
    )
    for text in (
        "{0}.a = 1",
        "{0}.a = 1 or {0}.b = 1",
        "{0}.a is null or {0}.a = 1",
        "{0}.note ~ 'x'",
        "not {0}.a = 0",
    ):
        for cardinality in ("many_to_one", "one_to_one"):
            on = {text.format("t"): text.format("s")}
            spec = simple_spec(link=None, cardinality=cardinality, passes=[{"name": "p", "on": on}])
            run = runs.match(database, spec, "ann")
            found = rows(database, f"SELECT target_key, source_key FROM recon.decisions_{run.run} ORDER BY 1")
            assert found == [(1, 11), (2, 12)], (text, cardinality)
    spec = simple_spec(
        link=None, passes=[{"name": "p", "on": {"t.a - t.b": "s.a - s.b"}}], compare={"a": "s.a - (s.b - 0)"}
    )
    assert runs.match(database, spec, "ann").outcomes == {"same": 2}
