"""Matching beside a brute-force oracle, on generated tables with NULLs, ties, duplicates and every option."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon.database.connect import Database
from recon.matching import pairs
from recon.matching import run as runs
from recon.matching.bind import bind
from tests.oracle import Rule, decide
from tests.support import simple_spec

# Few values, so that most records meet several candidates, ties and NULLs. Drawn evenly from a seed: lists that
# hypothesis draws itself are mostly too short for any of that.
VALUES: dict[str, list[Any]] = {
    "code": ["a", "B", "É", "", "c", "d", "e", None, None, None],
    "place": [0, 0, 1, 2, None],
    "person": [0, 1, 2, None],
    "until": [0, 1, None],
    "since": [0, 1, 2, None],
    "word": ["a", "B", "É", "", None],
    "lease_id": [None] * 9 + [1],
}


def drawn(random: Random, columns: list[str], most: int) -> list[dict[str, Any]]:
    return [
        {"id": number} | {name: random.choice(VALUES[name]) for name in columns}
        for number in range(1, random.randint(0, most) + 1)
    ]


def _last(value: Any) -> tuple[int, Any]:
    return (1, 0) if value is None else (0, value)


def _descending_nulls_first(value: Any) -> tuple[int, Any]:
    return (0, 0) if value is None else (1, -value)


def _bytes(value: str | None) -> tuple[int, bytes]:
    return (1, b"") if value is None else (0, value.encode())


def _difference(left: int | None, right: int | None) -> int | None:
    return None if left is None or right is None else abs(left - right)


PASSES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"name": "code", "on": {"code": "code"}},
        {"on": [(lambda t: t["code"], lambda s: s["code"])], "prefer": []},
    ),
    (
        {
            "name": "both",
            "on": {"place": "place", "person": "person"},
            "prefer": ["s.until desc nulls first", "s.since desc"],
        },
        {
            "on": [(lambda t: t["place"], lambda s: s["place"]), (lambda t: t["person"], lambda s: s["person"])],
            "prefer": [
                lambda t, s: _descending_nulls_first(s["until"]),
                lambda t, s: _last(None if s["since"] is None else -s["since"]),
            ],
        },
    ),
    (
        {"name": "nobody", "on": {"place": "place"}, "when": "t.person is null", "prefer": ["s.word"]},
        {
            "on": [(lambda t: t["place"], lambda s: s["place"])],
            "when": lambda t, s: t["person"] is None,
            "prefer": [lambda t, s: _bytes(s["word"])],
        },
    ),
    (
        {"name": "pair", "on": {"place": "place"}, "when": "t.person <> s.person and s.until is not null", "prefer": ["s.since"]},
        {
            "on": [(lambda t: t["place"], lambda s: s["place"])],
            "when": lambda t, s: t["person"] is not None and s["person"] is not None
            and t["person"] != s["person"] and s["until"] is not None,
            "prefer": [lambda t, s: _last(s["since"])],
        },
    ),
    (
        {"name": "near", "on": {"place": "place"}, "prefer": ["abs(t.person - s.person)", "s.until desc"]},
        {
            "on": [(lambda t: t["place"], lambda s: s["place"])],
            "prefer": [
                lambda t, s: _last(_difference(t["person"], s["person"])),
                lambda t, s: _last(None if s["until"] is None else -s["until"]),
            ],
        },
    ),
]  # fmt: skip


@pytest.fixture
def tables(database: Database) -> Database:
    with database.session() as session:
        session.execute("CREATE TABLE pay (id int PRIMARY KEY, code text, place int, person int, lease_id int)")
        session.execute(
            "CREATE TABLE lease (id int PRIMARY KEY, code text, place int, person int, until int, since int, word text)"
        )
    return database


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_every_decision_is_the_oracles(tables: Database, seed: int) -> None:
    random = Random(seed)
    targets = drawn(random, ["code", "place", "person", "lease_id"], 24)
    sources = drawn(random, ["code", "place", "person", "until", "since", "word"], 14)
    chosen = [
        (number, {"on_tie": random.choice(["review", "next"]), "accept": random.choice(["auto", "review"])})
        for number in random.sample(range(len(PASSES)), random.randint(1, len(PASSES)))
    ]
    rules = [
        Rule(
            name=PASSES[number][0]["name"],
            on=PASSES[number][1]["on"],
            when=PASSES[number][1].get("when", lambda t, s: True),
            prefer=PASSES[number][1]["prefer"],
            review=options["accept"] == "review",
            next_on_tie=options["on_tie"] == "next",
        )
        for number, options in chosen
    ]
    spec = simple_spec(passes=[PASSES[number][0] | options for number, options in chosen])
    with tables.session() as session:
        session.execute("TRUNCATE pay, lease")
        for name, records in (("pay", targets), ("lease", sources)):
            for record in records:
                marks = ", ".join(f"${number}" for number in range(1, len(record) + 1))
                session.execute(f"INSERT INTO {name} ({', '.join(record)}) VALUES ({marks})", *record.values())
    run = runs.match(tables, spec, "ann")
    with tables.session(read_only=True) as session:
        found = {row[0]: row[1:] for row in pairs.iterate(session, bind(session, spec), run.run)}
    expected = decide(targets, sources, rules, target_key="id", source_key="id", link="lease_id")
    reasons = {"ambiguous": "tie", "proposed": "review"}
    assert {key: (source, outcome, rule, reason) for key, (source, outcome, rule, _, reason) in found.items()} == {
        key: (item.source_key, item.outcome, item.rule, item.reason or reasons.get(item.outcome))
        for key, item in expected.items()
    }
