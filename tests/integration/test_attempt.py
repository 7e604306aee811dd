"""One pass tried on two literal records."""

from __future__ import annotations

import doctest
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from recon.database.connect import Database
from recon.errors import SchemaMismatch, UsageError
from recon.matching import attempt as trying
from recon.matching.attempt import Attempt, attempt
from recon.spec_parts import Pass
from tests.support import execute, recon

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code


def tried(database: Database, rule: dict[str, Any], target: dict[str, Any], source: dict[str, Any]) -> Attempt:
    with database.session(read_only=True) as session:
        return attempt(session, Pass.model_validate({"name": "one"} | rule), target, source)


def test_the_example_of_the_module_is_true(database: Database) -> None:
    with database.session(read_only=True) as session:
        result = doctest.testmod(trying, extraglobs={"session": session})
    assert result.attempted > 5
    assert result.failed == 0


NUMBER = UUID("00000000-0000-0000-0000-000000000001")
NEAR = {"on": {"a": "b"}, "within": {"target": "x", "source": "y", "tolerance": "5%"}, "when": "t.a <> s.c"}


@pytest.mark.parametrize(
    ("rule", "target", "source", "reason"),
    [
        ({"on": {"a": "b"}}, {"a": 1}, {"b": 1}, None),
        ({"on": {"a": "b"}}, {"a": 2**80}, {"b": Decimal(2**80)}, None),
        ({"on": {"a": "b"}}, {"a": NUMBER}, {"b": NUMBER}, None),
        ({"on": {"a": "b"}}, {"a": True}, {"b": False}, "no_candidate"),
        ({"on": {"a": "b"}}, {"a": None}, {"b": 1}, "null_key"),
        ({"on": {"a": "b"}}, {}, {"b": NUMBER}, "null_key"),
        ({"on": {"a": "b"}}, {"a": "x"}, {}, "no_candidate"),
        ({"on": {"lower(t.a)": "left(s.b, 1)"}}, {"a": "X"}, {"b": "xyz"}, None),
        ({"on": {"a": "b"}, "compare_as": "text"}, {"a": 5}, {"b": "5"}, None),
        (NEAR, {"a": "k", "x": 100.0}, {"b": "k", "y": 105.0, "c": "m"}, None),
        (NEAR, {"a": "k", "x": 100.0}, {"b": "k", "y": 105.1, "c": "m"}, "out_of_tolerance"),
        (NEAR, {"a": "k", "x": 100.0}, {"b": "k", "y": 200.0, "c": "k"}, "when_false"),
        (NEAR, {"a": "k", "x": 100.0}, {"b": "k", "y": 100.0}, "when_false"),  # NULL is not true
        (NEAR, {"a": "k", "x": None}, {"b": "k", "y": 100.0, "c": "m"}, "out_of_tolerance"),
    ],
)
def test_it_says_why_not(
    database: Database, rule: dict[str, Any], target: dict[str, Any], source: dict[str, Any], reason: str | None
) -> None:
    found = tried(database, rule, target, source)
    assert (found.reason, found.candidate) == (reason, reason is None)


def test_both_values_distance_and_condition_are_there(database: Database) -> None:
    rule = {
        "on": {"place": "address"},
        "within": [
            {"target": "day", "source": "due", "tolerance": {"before": "0 days", "after": "2 days"}},
            {"target": "seen", "source": "seen", "tolerance": "1 hour"},
        ],
        "when": "s.state = 'open'",
    }
    moment = datetime(2025, 3, 30, 1, 30, tzinfo=UTC)
    target = {"place": "A7", "day": date(2025, 3, 30), "seen": moment}
    source = {"address": "A8", "due": date(2025, 3, 27), "seen": moment, "state": None}
    found = tried(database, rule, target, source)
    assert [(item.name, item.target, item.source, item.agree) for item in found.equalities] == [
        ("place = address", "A7", "A8", False)
    ]
    measured = [(item.distance, item.tolerance, item.inside, item.missed_by) for item in found.windows]
    assert measured == [
        ("3 days", "0 days before, 2 days after", False, "3 days"), ("0 seconds", "1 hour", True, None),
    ]  # fmt: skip
    assert (found.when, found.reason) == (None, "no_candidate")


def test_types_that_differ_and_values_of_no_type_are_refused(database: Database) -> None:
    with pytest.raises(SchemaMismatch, match="the target is int8, the source is text"):
        tried(database, {"on": {"a": "b"}}, {"a": 1}, {"b": "1"})
    naive, aware = datetime(2025, 3, 30), datetime(2025, 3, 30, tzinfo=UTC)  # noqa: DTZ001
    window = {"on": {}, "within": {"target": "x", "source": "x", "tolerance": "1 hour"}}
    with pytest.raises(SchemaMismatch, match="timestamp"):
        tried(database, window, {"x": naive}, {"x": aware})
    with pytest.raises(UsageError, match="a is a list"):
        tried(database, {"on": {"a": "b"}}, {"a": [1]}, {"b": 1})


@pytest.mark.one_engine
def test_the_command_takes_the_types_of_the_specs_columns(database: Database, tmp_path: Path) -> None:
    execute(
        database,
        "CREATE TABLE stays (id int PRIMARY KEY, place varchar(4), at timestamptz)",
        "CREATE TABLE jobs (id int PRIMARY KEY, place text, at timestamptz)",
    )
    fields = {
        "name": "jobs",
        "target": {"table": "stays", "key": "id"},
        "source": {"table": "jobs", "key": "id"},
        "passes": [
            {
                "name": "near",
                "on": {"place": "place"},
                "within": {"target": "at", "source": "at", "tolerance": "1 hour"},
            }
        ],
    }
    home = tmp_path / "home"
    assert recon("init", str(home)).code == 0
    (home / "reconciliations" / "jobs.yaml").write_text(json.dumps(fields), encoding="utf-8")

    def run(source: str, *more: str, rule: str = "near") -> Any:
        target = '{"place": "A7", "at": "2025-07-01 11:00-07"}'
        arguments = ["try", "jobs", "--pass", rule, "--target", target, "--source", source, *more]
        return recon(*arguments, url=database.url, cwd=home)

    assert run('{"place": "A7", "at": "2025-07-01 12:00-06"}', "--json").json["candidate"] is True
    late = run('{"place": "A7", "at": "2025-07-01 13:15-06"}')
    assert "no candidate: out_of_tolerance" in late.out
    assert "misses by 15 minutes" in " ".join(late.out.split())
    for ended, words in (
        (run('{"at": "tomorrow-ish"}'), "cannot be read"),
        (run("[1]"), "--source is not a record"),
        (run('{"plaice": 1}'), 'Did you mean "place"'),
        (run("{}", rule="far"), "no pass far"),
    ):
        assert ended.code == 2
        assert words in " ".join(ended.err.split())
