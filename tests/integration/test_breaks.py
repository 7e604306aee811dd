"""What is not reconciled, across runs: since when, who sees to it, how it ended, and that it came back."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlglot import exp

from recon import expressions
from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import NotFound, UsageError
from recon.matching import bind as binding
from recon.matching import breaks
from recon.matching.bound import Bound
from recon.spec import Reconciliation
from tests.support import execute, recon, rows, simple_spec

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code

HOSTILE = [
    "it's",
    'a "quoted" one',
    "100 %s %(x)s %",
    "line\nbreak",
    '["7"]',
    "back\\slash",
    "$1 :x",
    "{a,b}",
    "é 東京",
]
NONE_OPEN = dict.fromkeys(breaks.AGES, 0)
Decision = tuple[Any, Any, str, str | None]  # target, source, outcome, reason


@pytest.fixture
def data(database: Database) -> Database:
    execute(
        database,
        "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id int)",
        "CREATE TABLE lease (id int PRIMARY KEY, code text, starts date, ends date)",
    )
    tables.ensure(database)
    return database


def run(
    database: Database,
    run_id: str,
    decisions: Sequence[Decision],
    *,
    limited: bool = False,
    spec: Reconciliation | None = None,
    kind: str = "int",
    hold: Any = None,
) -> dict[str, int]:
    """What a run with these decisions makes of the breaks."""
    with database.session() as session:
        bound = binding.bind(session, spec or simple_spec())
        session.plain_path()
        table = tables.own("decisions", run_id)
        session.execute(
            f"CREATE TABLE recon.decisions_{run_id} (target_key {kind}, source_key {kind}, outcome text, pass text,"
            " confidence numeric(4, 3), reason text, evidence jsonb)"
        )
        for target, source, outcome, reason in decisions:
            by = "by_code" if outcome in ("matched", "proposed", "ambiguous") else None
            session.execute(
                f"INSERT INTO recon.decisions_{run_id} VALUES ($1, $2, $3, $4, 1, $5)",
                target,
                source,
                outcome,
                by,
                reason,
            )
        if hold:
            hold()
        return breaks.update(session, bound, table, run_id, limited)


def open_now(database: Database, state: str | None = None) -> list[tuple[Any, ...]]:
    return [
        (row["side"], row["key"], row["state"], row["outcome"], row["reason"])
        for row in breaks.listed(database, "simple", state)
    ]


def events(database: Database, key: str) -> list[tuple[Any, ...]]:
    return [(row["event"], row["run"], row["detail"]) for row in breaks.history(database, "simple", key)]


def let_pass(database: Database, interval: str, key: str = "1") -> None:
    """As if a break had been opened earlier."""
    moved = "UPDATE recon.breaks SET first_seen = first_seen - $1::interval, opened_at = opened_at - $1::interval WHERE key[1] = $2"
    with database.session() as session:
        session.execute(moved, interval, key)


def test_a_break_opens_closes_by_itself_and_reopens_with_its_history(data: Database) -> None:
    assert run(
        data, "r1", [(1, None, "unmatched", "no_candidate"), (2, 10, "matched", None), (3, 11, "linked", None)]
    ) == (NONE_OPEN | {"new": 1})
    assert open_now(data) == [("target", "1", "open", "unmatched", "no_candidate")]
    let_pass(data, "3 days")
    breaks.assign(data, "simple", "bob", "ann")
    assert run(data, "r2", [(1, None, "ambiguous", "tie")]) == NONE_OPEN | {"1 to 7 days": 1}
    assert open_now(data) == [("target", "1", "assigned", "ambiguous", "tie")]
    first = breaks.listed(data, "simple")[0]
    assert (first["run"], first["days"], first["assignee"]) == ("r2", 3, "bob")
    assert run(data, "r3", [(1, 10, "matched", None)]) == NONE_OPEN
    assert open_now(data) == []
    assert open_now(data, "resolved") == [("target", "1", "resolved", "ambiguous", "tie")]
    assert run(data, "r4", [(1, None, "unmatched", "taken")]) == NONE_OPEN | {"new": 1}
    again = breaks.listed(data, "simple")[0]
    assert (again["state"], again["assignee"], again["resolved_at"], again["days"]) == ("open", None, None, 0)
    assert again["first_seen"] == first["first_seen"]
    assert again["opened_at"] > first["opened_at"]
    assert events(data, "1") == [
        ("opened", "r1", "unmatched, no_candidate"),
        ("assigned", None, "bob"),
        ("resolved", "r3", "matched, pass by_code"),
        ("reopened", "r4", "unmatched, taken"),
    ]


@pytest.mark.parametrize("outcome", ["matched", "linked", "same", "changed", "excluded"])
def test_what_is_reconciled_or_left_out_is_no_break(data: Database, outcome: str) -> None:
    assert run(data, "r1", [(1, 10, outcome, None)]) == NONE_OPEN
    run(data, "r2", [(1, None, "unmatched", "no_candidate")])
    assert run(data, "r3", [(1, 10, outcome, None)]) == NONE_OPEN
    assert [event[0] for event in events(data, "1")] == ["opened", "resolved"]


def test_a_record_that_is_gone_is_resolved(data: Database) -> None:
    run(data, "r1", [(1, None, "invalid", "invalid"), (2, None, "proposed", "review")])
    assert run(data, "r2", [(2, None, "proposed", "review")]) == NONE_OPEN | {"under 1 day": 1}
    assert events(data, "1")[-1] == ("resolved", "r2", "no longer there")


def test_a_limited_run_resolves_only_what_it_decided(data: Database) -> None:
    orphaned = (None, 20, "missing", "no_candidate")
    run(
        data,
        "r1",
        [(n, None, "unmatched", "no_candidate") for n in (1, 2, 3)] + [orphaned, (None, 21, "missing", None)],
    )
    assert run(data, "r2", [(1, 20, "matched", None), (2, None, "unmatched", "taken")], limited=True) == (
        NONE_OPEN | {"under 1 day": 3}
    )
    assert [row[:2] for row in open_now(data)] == [("source", "21"), ("target", "2"), ("target", "3")]
    assert events(data, "20")[-1] == ("resolved", "r2", "matched, pass by_code")


def test_records_of_the_other_side_are_breaks_of_their_own(data: Database) -> None:
    run(data, "r1", [(7, None, "orphan", "no_candidate"), (None, 7, "missing", None)])
    assert open_now(data) == [
        ("source", "7", "open", "missing", None),
        ("target", "7", "open", "orphan", "no_candidate"),
    ]
    spec = simple_spec(population="source", cardinality="one_to_one", name="turned")
    run(data, "r2", [(7, None, "orphan", None), (None, 7, "missing", None), (8, 8, "same", None)], spec=spec)
    found = {(row["side"], row["key"], row["outcome"]) for row in breaks.listed(data, "turned")}
    assert found == {("target", "7", "orphan"), ("source", "7", "missing")}


def test_breaks_are_counted_by_age_in_whole_days(data: Database) -> None:
    ages = {
        1: "23 hours", 2: "24 hours", 3: "7 days 23 hours", 4: "8 days", 5: "30 days 23 hours", 6: "31 days", 7: "3 years",
    }  # fmt: skip
    decisions: list[Decision] = [(n, None, "unmatched", None) for n in ages]
    assert run(data, "r1", decisions) == NONE_OPEN | {"new": 7}
    for n, age in ages.items():
        let_pass(data, age, str(n))
    found = run(data, "r2", [*decisions, (8, None, "unmatched", None)])
    assert list(found.items()) == [
        ("new", 1), ("under 1 day", 1), ("1 to 7 days", 2), ("8 to 30 days", 2), ("over 30 days", 2),
    ]  # fmt: skip
    assert [row["key"] for row in breaks.listed(data, "simple", limit=3)] == ["7", "6", "5"]


@pytest.mark.parametrize("key", HOSTILE)
def test_keys_that_hurt_open_close_and_have_a_history(database: Database, key: str) -> None:
    execute(database, "CREATE TABLE pay (id text, code text, lease_id text)", "CREATE TABLE lease (id text, code text)")
    tables.ensure(database)
    run(database, "r1", [(key, None, "unmatched", None), (None, key, "missing", None)], kind="text")
    shown = {row["key"] for row in breaks.listed(database, "simple")}
    assert shown == {key}
    assert breaks.assign(database, "simple", "bob", "ann", [key]) == 2
    run(database, "r2", [(key, key, "matched", None)], kind="text")
    assert open_now(database) == []
    assert len(breaks.history(database, "simple", key)) == 6


def test_composite_keys(database: Database) -> None:
    execute(
        database,
        "CREATE TABLE pay (org text, number int, code text)",
        "CREATE TABLE lease (id uuid, code text)",
        "CREATE TABLE decisions (target_key_1 text, target_key_2 int, source_key uuid, outcome text, pass text, reason text)",
        "INSERT INTO decisions VALUES ('a', 7, NULL, 'unmatched', NULL, 'taken')",
        "INSERT INTO decisions VALUES (NULL, NULL, '0a0a0a0a-0000-0000-0000-00000000000a', 'missing', NULL, NULL)",
    )
    tables.ensure(database)
    spec = simple_spec(target={"table": "pay", "key": ["org", "number"]}, link=None)
    with database.session() as session:
        bound = binding.bind(session, spec)
        breaks.update(session, bound, exp.to_table("public.decisions"), "r1", False)
    found = [(row["side"], row["key"]) for row in breaks.listed(database, "simple")]
    assert found == [("source", "0a0a0a0a-0000-0000-0000-00000000000a"), ("target", '["a", "7"]')]
    assert breaks.assign(database, "simple", "bob", "ann", ['["a", 7]']) == 1
    assert [row["event"] for row in breaks.history(database, "simple", '["a","7"]')] == ["opened", "assigned"]
    assert [row["side"] for row in breaks.listed(database, "simple", only=['["a", "7"]'])] == ["target"]


# -- who sees to it --------------------------------------------------------------------------------------


def test_breaks_are_assigned_singly_or_all_and_taken_back(data: Database) -> None:
    run(data, "r1", [(n, None, "unmatched", None) for n in (1, 2, 3)])
    assert breaks.assign(data, "simple", "bob", "ann", ["1", "2"]) == 2
    assert breaks.assign(data, "simple", "bob", "ann") == 1
    assert breaks.assign(data, "simple", "bob", "ann") == 0
    assert breaks.assign(data, "simple", "", "cleo", ["2"]) == 1
    assert {(row["key"], row["state"], row["assignee"]) for row in breaks.listed(data, "simple")} == {
        ("1", "assigned", "bob"), ("2", "open", None), ("3", "assigned", "bob"),
    }  # fmt: skip
    assert [row[1] for row in open_now(data, "assigned")] == ["1", "3"]
    log = breaks.history(data, "simple", "2")[1:]
    assert [(row["event"], row["who"], row["detail"]) for row in log] == [
        ("assigned", "ann", "bob"), ("assigned", "cleo", "nobody"),
    ]  # fmt: skip
    assert breaks.assign(data, "another", "bob", "ann") == 0


def test_nothing_is_assigned_where_one_key_has_no_open_break(data: Database) -> None:
    run(data, "r1", [(1, None, "unmatched", None)])
    with pytest.raises(NotFound, match="no open break with the key 77"):
        breaks.assign(data, "simple", "bob", "ann", ["1", "77"])
    assert open_now(data, "assigned") == []
    for who, keys in (("bo\nb", None), ("bob", ["1\x00"])):
        with pytest.raises(UsageError):
            breaks.assign(data, "simple", who, "ann", keys)
    with pytest.raises(NotFound, match="never had a break"):
        breaks.history(data, "simple", "77")


def test_two_runs_at_once_open_a_break_once(data: Database) -> None:
    """The second waits at the breaks until the first is committed, and then sees what it opened."""
    both = threading.Barrier(2)

    def work(run_id: str) -> None:
        run(Database(data.url), run_id, [(n, None, "unmatched", None) for n in (1, 2)], hold=both.wait)

    threads = [threading.Thread(target=work, args=(run_id,)) for run_id in ("r1", "r2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [event[0] for event in events(data, "1")] == ["opened"]
    assert len(open_now(data)) == 2


@pytest.mark.one_engine
def test_tens_of_thousands_of_breaks_take_a_moment(data: Database) -> None:
    with data.session() as session:
        bound = binding.bind(session, simple_spec())
        session.execute(
            "CREATE TABLE recon.decisions_r1 AS SELECT n AS target_key, NULL::int AS source_key, 'unmatched' AS outcome,"
            " NULL::text AS pass, 'no_candidate' AS reason FROM generate_series(1, 30000) AS n"
        )
        seconds: list[float] = []
        for run_id, outcome in (("r1", "unmatched"), ("r2", "unmatched"), ("r3", "matched"), ("r4", "unmatched")):
            session.execute("UPDATE recon.decisions_r1 SET outcome = $1", outcome)
            began = time.perf_counter()
            found = breaks.update(session, bound, tables.own("decisions", "r1"), run_id, False)
            seconds.append(time.perf_counter() - began)
            assert sum(found.values()) == (0 if outcome == "matched" else 30_000)
    assert max(seconds) < 5, seconds  # a row at a time takes a minute


# -- import issues ---------------------------------------------------------------------------------------

RULES = {
    "no end": "s.ends is not null",
    "it's over %s $1 before it began": "s.starts < s.ends",
    "always": "true or s.id > 0",
}


def _rules(bound: Bound) -> list[tuple[str, exp.Expr]]:
    return [(issue, bound.resolve(expressions.parse(rule, "s"))) for issue, rule in RULES.items()]


def _issues(database: Database, **given: Any) -> dict[str, int]:
    tables.ensure(database)

    def work(session: Session) -> dict[str, int]:
        bound = binding.bind(session, given.get("spec") or simple_spec())
        if given.get("without"):
            session.execute("CREATE TEMPORARY TABLE recon_excluded_sources ON COMMIT DROP AS SELECT 2 AS source_key")
        rules = given.get("rules", _rules(bound))
        return breaks.issues(session, bound, rules, excluded=bool(given.get("without")))

    with database.session() as session:
        return work(session)


def test_import_issues_open_close_and_open_again(data: Database) -> None:
    execute(
        data,
        "INSERT INTO lease VALUES (1, 'a', '2025-01-01', '2025-02-01'), (2, 'b', '2025-01-01', NULL),"
        " (3, 'c', '2025-02-01', '2025-01-01')",
    )
    assert _issues(data) == {"opened": 3, "closed": 0, "open": 3}
    over = "it's over %s $1 before it began"
    kept = 'SELECT source_key, issue, state FROM recon.import_issues ORDER BY source_key, issue COLLATE "C"'
    assert rows(data, kept) == [(["2"], over, "open"), (["2"], "no end", "open"), (["3"], over, "open")]
    first = rows(data, "SELECT first_seen FROM recon.import_issues WHERE source_key = '{3}'")
    execute(data, "UPDATE lease SET ends = '2025-03-01' WHERE id = 3", "DELETE FROM lease WHERE id = 2")
    assert _issues(data) == {"opened": 0, "closed": 3, "open": 0}
    assert rows(data, "SELECT count(*) FROM recon.import_issues WHERE closed_at IS NOT NULL") == [(3,)]
    execute(data, "UPDATE lease SET ends = '2025-01-01' WHERE id = 3")
    assert _issues(data) == {"opened": 1, "closed": 0, "open": 1}
    again = rows(data, "SELECT first_seen, closed_at FROM recon.import_issues WHERE source_key = '{3}'")
    assert again == [(first[0][0], None)]
    assert _issues(data) == {"opened": 0, "closed": 0, "open": 1}
    assert _issues(data, rules=[]) == {"opened": 0, "closed": 1, "open": 0}


def test_records_that_take_no_part_have_no_import_issues(data: Database) -> None:
    execute(data, "INSERT INTO lease VALUES (1, 'a', '2025-01-01', NULL), (2, 'b', '2025-01-01', '2024-01-01')")
    spec = simple_spec(source={"table": "lease", "key": "id", "where": "code <> 'a'"})
    assert _issues(data, spec=spec) == {"opened": 1, "closed": 0, "open": 1}
    assert _issues(data, spec=spec, without=True) == {"opened": 0, "closed": 1, "open": 0}


# -- the command line ------------------------------------------------------------------------------------

SPEC = """
name: simple
target: {table: pay, key: id}
source: {table: lease, key: id}
link: {column: lease_id}
passes:
  - {name: by_code, on: {code: code}}
"""


@pytest.mark.one_engine
def test_breaks_as_a_person_looks_at_them(data: Database, tmp_path: Path) -> None:
    (tmp_path / "recon.toml").write_text("")
    (tmp_path / "reconciliations").mkdir()
    (tmp_path / "reconciliations" / "simple.yaml").write_text(SPEC)

    def look(*arguments: str, code: int = 0) -> Any:
        ended = recon("breaks", *arguments, url=data.url, cwd=tmp_path)
        assert ended.code == code, ended.out + ended.err
        assert "Traceback" not in ended.err
        return ended

    assert look("simple").out == "simple has no open breaks.\n"
    assert 'Did you mean "simple"?' in look("simpel", code=2).err
    run(data, "r1", [(1, None, "unmatched", "no_candidate"), (2, None, "ambiguous", "tie")])
    shown = look("simple", code=3).out
    assert "unmatched (no_candidate)" in shown
    assert "Open: 2 under 1 day · 0 1 to 7 days" in shown
    document = look("simple", "--json", code=3).json
    assert (document["open"], [row["key"] for row in document["breaks"]]) == (2, ["1", "2"])
    assert "1 breaks of simple changed hands: bob" in look("simple", "--assign", "bob", "--key", "2").out
    assert look("simple", "--state", "assigned", "--json", code=3).json["breaks"][0]["assignee"] == "bob"
    assert "None of the open breaks" in look("simple", "--key", "9", code=3).out
    assert [row["event"] for row in look("simple", "--key", "2", "--history", "--json").json["history"]] == [
        "opened",
        "assigned",
    ]
    assert "assigned" in look("simple", "--key", "2", "--history").out
    assert look("simple", "--assign", "nobody", "--json").json == {
        "reconciliation": "simple",
        "assigned": 1,
        "to": None,
    }
    for wrong in (("--state", "closed"), ("--history",), ("--assign", "bob", "--state", "all")):
        look("simple", *wrong, code=2)
    run(data, "r2", [(1, 7, "matched", None), (2, 8, "matched", None)])
    assert look("simple").out == "simple has no open breaks.\n"
    assert "resolved" in look("simple", "--state", "all").out
