"""Two tables compared by unique keys: the one FULL JOIN gives what the passes give."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from recon.database.connect import Database, Session
from recon.matching import full_join
from recon.matching import run as runs
from recon.names import identifier
from tests.support import execute, simple_spec

COLUMNS = "part int NOT NULL, code text NOT NULL, amount numeric, due date, PRIMARY KEY (part, code)"


@pytest.fixture
def tables(database: Database) -> Database:
    execute(database, f"CREATE TABLE pay ({COLUMNS})", f"CREATE TABLE lease ({COLUMNS})")
    return database


@pytest.mark.one_engine
@settings(
    max_examples=25,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32))
def test_one_join_decides_as_the_passes_do(tables: Database, seed: int) -> None:
    random = Random(seed)
    with tables.session() as session:
        session.execute("TRUNCATE pay, lease")
        for table in ("pay", "lease"):
            _fill(session, table, random)
    key: Any = ["part", "code"]
    fields: dict[str, Any] = {
        "target": {"table": "pay", "key": key} | random.choice([{}, {"where": "amount is null or amount < 2"}]),
        "source": {"table": "lease", "key": key} | random.choice([{}, {"where": "part > 0"}]),
        "link": None,
        "cardinality": "one_to_one",
        "population": random.choice(["target", "source"]),
        "passes": [{"name": "identity", "on": random.choice([key, {"code": "code", "part": "part"}])}],
        "compare": {"amount": random.choice(["amount", {"source": "amount", "tolerance": 1}]), "due": "due"},
        "valid": random.choice([[], [{"rule": "s.due is not null", "issue": "no date"}]]),
    }
    spec = simple_spec(**fields)
    with pytest.MonkeyPatch.context() as patch:
        joined = _decisions(tables, runs.match(tables, spec, "ann").run)
        assert _suits(tables, spec)
        patch.setattr(full_join, "suits", lambda *_: False)
        passed = _decisions(tables, runs.match(tables, spec, "ann").run)
    assert joined == passed


@pytest.mark.one_engine
def test_what_a_person_must_confirm_is_neither_same_nor_changed(tables: Database) -> None:
    execute(tables, "INSERT INTO pay VALUES (1, 'a')", "INSERT INTO lease VALUES (1, 'a')")
    spec = simple_spec(
        target={"table": "pay", "key": ["part", "code"]},
        source={"table": "lease", "key": ["part", "code"]},
        link=None,
        cardinality="one_to_one",
        passes=[{"name": "identity", "on": ["part", "code"], "accept": "review"}],
        compare={"due": "due"},
    )
    assert runs.match(tables, spec, "ann").outcomes == {"proposed": 1}


def _fill(session: Session, table: str, random: Random) -> None:
    for part in range(3):
        for code in ("a", "B", "É", ""):
            if random.random() < 0.6:
                amount = random.choice([None, 1, 2, 3])
                due = random.choice([None, "2025-03-30", "2025-03-31"])
                name = identifier(table).sql("postgres")
                session.execute(f"INSERT INTO {name} VALUES ($1, $2, $3, $4)", part, code, amount, due)


def _suits(database: Database, spec: Any) -> bool:
    from recon.matching.bind import bind
    from recon.matching.pool import Pool

    with database.session() as session:
        return full_join.suits(session, bind(session, spec), Pool())


def _decisions(database: Database, run: str) -> list[tuple[Any, ...]]:
    with database.session() as session:
        return session.rows(f"SELECT d::text FROM recon.decisions_{run} AS d ORDER BY 1")
