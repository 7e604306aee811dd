"""What people decide: kept with reason, author and time, never contradicted in silence, found again in every run."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from recon.database import tables
from recon.database.connect import Database
from recon.errors import AlreadyExists, Contradicted, DatabaseFailed, NotFound, ReconError, Stale, UsageError
from recon.matching import overrides
from recon.matching import run as runs
from recon.spec import Reconciliation
from tests.decided import ONE_TO_ONE, Given, decide, fill, made, prepared, spec_of
from tests.support import execute, recon, rows, simple_spec

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code


@pytest.fixture
def data(database: Database) -> Database:
    fill(database)
    return database


HOSTILE = [
    "it's",
    'a "quoted" one',
    "100 %s %(x)s %",
    "line\nbreak",
    '["7"]',
    "back\\slash",
    "$1 :x",
    " blank ",
    "{a,b}",
    "é 東京",
]


# -- singly ----------------------------------------------------------------------------------------------


def test_a_decision_keeps_reason_author_and_time_and_the_record_s_own_key(data: Database) -> None:
    spec = spec_of()
    item = overrides.decide(
        data, spec, actor="ann", kind="link", target="001", source=" 12 ", reason=" by phone "
    )  # fmt: skip
    assert (item["kind"], item["target_key"], item["source_key"]) == ("link", "1", "12")
    assert (item["reason"], item["author"], item["undone_at"]) == ("by phone", "ann", None)
    assert item["made_at"].tzinfo is not None
    assert overrides.listed(data, spec.name) == [item]
    assert overrides.listed(data, "another") == []


@pytest.mark.parametrize("key", ["abc", "", "1.5", "99999999999999999999", "1\x00", "\ud800"])
def test_a_key_that_its_type_cannot_hold_is_one_clear_error(data: Database, key: str) -> None:
    with pytest.raises(UsageError, match="is not a key of pay") as error:
        decide(data, spec_of(), "exclude", key, None)
    assert error.value.why == "There id is integer."
    assert overrides.listed(data, "simple") == []


def test_a_record_that_does_not_exist_is_refused(data: Database) -> None:
    with pytest.raises(NotFound, match="pay has no record 77"):
        decide(data, spec_of(), "link", "77", "10")
    with pytest.raises(NotFound, match="lease has no record 1"):
        decide(data, spec_of(), "link", "1", "1")


@pytest.mark.parametrize("reason", ["", "  \n ", "a\x00b"])
def test_a_reason_is_required(data: Database, reason: str) -> None:
    with pytest.raises(UsageError, match=r"needs a reason|NUL"):
        overrides.decide(data, spec_of(), actor="ann", kind="exclude", target="1", reason=reason)


@pytest.mark.parametrize(
    ("kind", "target", "source"),
    [("link", "1", None), ("forbid", None, "10"), ("exclude", "1", "10"), ("exclude", None, None), ("lnk", "1", "10")],
)
def test_a_decision_has_the_keys_of_its_kind(data: Database, kind: str, target: str | None, source: str | None) -> None:
    with pytest.raises(UsageError):
        decide(data, spec_of(), kind, target, source)


@pytest.mark.parametrize("key", HOSTILE)
def test_keys_that_hurt_are_found_again_in_a_run(database: Database, key: str) -> None:
    execute(database, "CREATE TABLE pay (id text, code text, lease_id text)", "CREATE TABLE lease (id text, code text)")
    with database.session() as session:
        session.execute("INSERT INTO pay VALUES ($1, 'x'), ('other', 'y')", key)
        session.execute("INSERT INTO lease VALUES ($1, 'x'), ('other', 'y')", key)
    spec = simple_spec()
    decide(database, spec, "link", key, key)
    decide(database, spec, "forbid", key, "other")
    assert prepared(database, spec, made("recon_links")) == [(key, key)]
    assert prepared(database, spec, made("recon_forbidden")) == [(key, "other")]
    assert overrides.undo(database, spec, actor="bob", reason="no", target=key) == 2


def test_composite_and_uuid_keys(database: Database) -> None:
    uuid = "0a0a0a0a-0000-0000-0000-00000000000a"
    execute(
        database,
        "CREATE TABLE pay (org text, number int, code text, PRIMARY KEY (org, number))",
        "CREATE TABLE lease (id uuid PRIMARY KEY, code text)",
        "INSERT INTO pay VALUES ('a\"b', 7, 'x'), ('c', 7, 'x')",
        f"INSERT INTO lease VALUES ('{uuid}', 'x')",
    )
    spec = simple_spec(target={"table": "pay", "key": ["org", "number"]}, link=None)
    item = decide(database, spec, "link", '["a\\"b", "007"]', uuid.upper())
    assert (item["target_key"], item["source_key"]) == ('["a\\"b", "7"]', uuid)
    decide(database, spec, "exclude", '["c", 7]', None)
    found = prepared(database, spec, lambda session, _: session.records("SELECT * FROM recon_links"))
    assert [(row["target_key_1"], row["target_key_2"], str(row["source_key"])) for row in found] == [('a"b', 7, uuid)]
    assert prepared(database, spec, made("recon_excluded_targets")) == [("c", 7)]
    for text in ("c", '["c"]', '["c", null]', '["c", [7]]', '{"org": "c"}'):
        with pytest.raises(UsageError, match=r"JSON array of 2 values: org, number"):
            decide(database, spec, "exclude", text, None)
    with pytest.raises(UsageError, match="number is integer"):
        decide(database, spec, "exclude", '["c", "x"]', None)


def test_a_key_is_never_cut_or_rounded_to_its_column(database: Database) -> None:
    execute(
        database,
        "CREATE TABLE pay (id varchar(3) PRIMARY KEY, code text)",
        "CREATE TABLE lease (id numeric(10, 2) PRIMARY KEY, code text)",
        "INSERT INTO pay VALUES ('AB1', 'x')",
        "INSERT INTO lease VALUES (1.5, 'x')",
    )
    spec = simple_spec(link=None)
    with pytest.raises(NotFound):
        decide(database, spec, "exclude", "AB10", None)
    with pytest.raises(NotFound):
        decide(database, spec, "exclude", None, "1.504")
    assert decide(database, spec, "exclude", None, "1.5")["source_key"] == "1.50"


# -- contradictions --------------------------------------------------------------------------------------


CONTRADICTIONS: list[tuple[Given, Given]] = [
    (("link", "1", "10"), ("link", "1", "11")),
    (("link", "1", "10"), ("forbid", "1", "10")),
    (("forbid", "1", "10"), ("link", "1", "10")),
    (("link", "1", "10"), ("exclude", "1", None)),
    (("exclude", "1", None), ("link", "1", "10")),
    (("link", "1", "10"), ("exclude", None, "10")),
    (("exclude", None, "10"), ("link", "1", "10")),
]


@pytest.mark.parametrize(("first", "second"), CONTRADICTIONS)
def test_what_contradicts_a_standing_decision_is_refused(data: Database, first: Given, second: Given) -> None:
    spec = spec_of()
    decide(data, spec, *first)
    with pytest.raises(Contradicted, match=r"It was decided by ann on 20\d\d.* UTC that .* Undo that first") as error:
        decide(data, spec, *second)
    assert error.value.exit_code == 4
    with pytest.raises(AlreadyExists, match="was decided already"):
        decide(data, spec, *first)
    assert len(overrides.listed(data, spec.name)) == 1
    overrides.undo(data, spec, actor="bob", reason="wrong", target=first[1], source=first[2])
    decide(data, spec, *second)


def test_what_goes_together_stands_together(data: Database) -> None:
    spec = spec_of()
    for item in (
        ("link", "1", "10"), ("forbid", "1", "11"), ("forbid", "1", "12"), ("link", "2", "10"),
        ("exclude", "3", None), ("forbid", "3", "10"), ("exclude", None, "13"), ("forbid", "4", "13"),
    ):  # fmt: skip
        decide(data, spec, *item)
    assert len(overrides.listed(data, spec.name)) == 8
    decide(data, spec_of(name="another"), "link", "1", "11")


def test_one_source_is_linked_once_where_the_spec_says_one_to_one(data: Database) -> None:
    decide(data, spec_of(**ONE_TO_ONE), "link", "1", "10")
    with pytest.raises(Contradicted, match="target 1 is linked to source 10"):
        decide(data, spec_of(**ONE_TO_ONE), "link", "2", "10")


@pytest.mark.parametrize(("first", "second"), [CONTRADICTIONS[0], CONTRADICTIONS[3], CONTRADICTIONS[5]])
def test_of_two_contradicting_decisions_at_once_one_stands(
    data: Database, first: Given, second: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of()
    tables.ensure(data)
    results: list[str] = []
    keep = overrides._keep  # pyright: ignore[reportPrivateUsage] (the seam)

    def keep_when_the_other_waits(*arguments: Any) -> Any:
        waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        for _ in range(200):
            if rows(data, waiting) == [(1,)]:
                break
            time.sleep(0.05)
        return keep(*arguments)

    monkeypatch.setattr(overrides, "_keep", keep_when_the_other_waits)

    def work(item: Given) -> None:
        try:
            decide(Database(data.url), spec, *item)
            results.append("kept")
        except ReconError as error:
            results.append(type(error).__name__)

    threads = [threading.Thread(target=work, args=(item,)) for item in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == ["Contradicted", "kept"]
    assert len(overrides.listed(data, spec.name)) == 1


def test_even_past_recon_two_links_of_one_target_cannot_stand(data: Database) -> None:
    decide(data, spec_of(), "link", "1", "10")
    copy = """INSERT INTO recon.overrides (reconciliation, kind, target_key, source_key, reason, author)
              SELECT reconciliation, kind, target_key, '{11}', reason, author FROM recon.overrides"""
    with pytest.raises(DatabaseFailed, match="override_link"):
        execute(data, copy)


# -- from a file -----------------------------------------------------------------------------------------


def test_a_file_is_kept_as_a_whole(data: Database, tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    path.write_text(
        'kind,target_key,source_key,reason\nlink,001,10,"two\nlines"\nforbid,1,11,\nexclude,2,,\nexclude,,12,\n',
        encoding="utf-8-sig",
    )
    found = overrides.from_file(data, spec_of(), path, "ann", "as agreed")
    assert [(row["kind"], row["target_key"], row["source_key"], row["reason"]) for row in found] == [
        ("link", "1", "10", "two\nlines"), ("forbid", "1", "11", "as agreed"),
        ("exclude", "2", None, "as agreed"), ("exclude", None, "12", "as agreed"),
    ]  # fmt: skip


def test_a_file_with_wrong_lines_is_not_kept_at_all(data: Database, tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    path.write_text(
        "kind,target_key,source_key,reason\n"
        'link,1,10,"fine\nin two lines"\n'
        "link,1,11,contradicts the first\n"
        "lnk,2,11,no such kind\n"
        "link,x,11,no number\n"
        "link,3,77,no such source\n"
        "exclude,3,11,both\n"
        "forbid,4,11,\n"
        "exclude,4,,contradicted by none\n"
        "exclude,2,,contradicts what stands\n",
        encoding="utf-8",
    )
    spec = spec_of()
    decide(data, spec, "link", "2", "10")
    with pytest.raises(UsageError) as error:
        overrides.from_file(data, spec, path, "ann")
    lines = error.value.why.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"Line {n}" for n in (4, 5, 6, 7, 8, 9, 11)]
    assert "in line 2 of this file that target 1 is linked to source 10" in lines[0]
    assert "by ann on" in lines[-1]
    assert "7 of its lines are wrong" in error.value.what
    assert len(overrides.listed(data, spec.name)) == 1


def test_of_many_wrong_lines_the_first_twenty_are_named(data: Database, tmp_path: Path) -> None:
    path = tmp_path / "decisions.csv"
    path.write_text("kind,target_key,source_key\n" + "exclude,x,\n" * 30, encoding="utf-8")
    with pytest.raises(UsageError, match="at least 20 of its lines") as error:
        overrides.from_file(data, spec_of(), path, "ann", "all")
    assert error.value.why.splitlines()[-1].startswith("Line 21:")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"kind,target,source\n", "its heading is kind,target,source"),
        (b"", "its heading is missing"),
        (b"kind,target_key,source_key,reason\nlink,\xff,1,x\n", "not a CSV file in UTF-8"),
        (b"kind,target_key,source_key,reason\nlink,1,10\n", "line 2 does not have 4 values"),
        (b'kind,target_key,source_key,reason\nlink,"1,10\n', "not a CSV file"),
        (b"kind,target_key,source_key,reason\nexclude,a\x00b,,x\n", "is not a key of pay"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_clear_error(
    data: Database, tmp_path: Path, content: bytes, says: str
) -> None:
    path = tmp_path / "decisions.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=says):
        overrides.from_file(data, spec_of(), path, "ann", "x")
    with pytest.raises(UsageError, match="cannot be read"):
        overrides.from_file(data, spec_of(), tmp_path / "none.csv", "ann", "x")


# -- of a pass -------------------------------------------------------------------------------------------


@pytest.fixture
def proposals(data: Database) -> Reconciliation:
    """Targets 1 to 3 with proposals of pass `maybe`."""
    execute(data, "UPDATE lease SET code = 'c' || (id - 9) WHERE id < 13")
    passes = [
        {"name": "none", "on": {"code": "code"}, "when": "false"},
        {"name": "maybe", "on": {"code": "code"}, "accept": "review"},
    ]
    spec = spec_of(passes=passes)
    runs.match(data, spec, "ann")
    return spec


def test_what_a_pass_proposed_becomes_links(data: Database, proposals: Reconciliation) -> None:
    assert overrides.accept_pass(data, proposals, "none", "bob", "seen") == 0
    assert overrides.accept_pass(data, proposals, "maybe", "bob", "seen") == 3
    found = overrides.listed(data, proposals.name)
    assert [(row["target_key"], row["source_key"], row["made_by_pass"], row["author"]) for row in found] == [
        ("1", "10", "maybe", "bob"), ("2", "11", "maybe", "bob"), ("3", "12", "maybe", "bob"),
    ]  # fmt: skip
    assert overrides.accept_pass(data, proposals, "maybe", "bob", "again") == 0
    assert prepared(data, proposals, made("recon_links")) == [(1, 10), (2, 11), (3, 12)]
    assert overrides.undo(data, proposals, actor="ann", reason="too fast", pass_name="maybe") == 3


def test_proposals_of_other_rules_are_not_accepted(data: Database, proposals: Reconciliation) -> None:
    changed = spec_of(passes=[{"name": "maybe", "on": {"code": "code"}, "accept": "review", "confidence": 0.5}])
    with pytest.raises(Stale, match="other rules"):
        overrides.accept_pass(data, changed, "maybe", "bob", "seen")
    with pytest.raises(NotFound, match="has no pass mybe"):
        overrides.accept_pass(data, proposals, "mybe", "bob", "seen")
    with pytest.raises(NotFound, match="has no finished run"):
        overrides.accept_pass(data, spec_of(name="another"), "by_code", "bob", "seen")


def test_a_proposal_that_was_decided_otherwise_is_not_accepted_in_silence(
    data: Database, proposals: Reconciliation
) -> None:
    decide(data, proposals, "forbid", "2", "11")
    with pytest.raises(Contradicted, match=r"target 2 is never linked to source 11.*recon match simple"):
        overrides.accept_pass(data, proposals, "maybe", "bob", "seen")
    assert len(overrides.listed(data, proposals.name)) == 1


# -- undone ----------------------------------------------------------------------------------------------


def test_what_is_undone_stays_with_who_and_why(data: Database) -> None:
    spec = spec_of()
    decide(data, spec, "link", "1", "10")
    decide(data, spec, "forbid", "1", "11")
    decide(data, spec, "exclude", "2", None)
    assert overrides.undo(data, spec, actor="bob", reason="no", target="01", source="11") == 1
    assert overrides.undo(data, spec, actor="bob", reason="no", target="1", kind="link") == 1
    with pytest.raises(NotFound, match="No decision about target 1 stands"):
        overrides.undo(data, spec, actor="bob", reason="no", target="1")
    assert [row["kind"] for row in overrides.listed(data, spec.name)] == ["exclude"]
    before = overrides.listed(data, spec.name, active_only=False)
    assert [(row["undone_by"], row["undone_reason"]) for row in before] == [("bob", "no")] * 2 + [(None, None)]
    decide(data, spec, "link", "1", "12")


def test_a_decision_about_a_record_that_is_gone_can_be_undone(data: Database) -> None:
    spec = spec_of()
    decide(data, spec, "link", "1", "10")
    decide(data, spec, "exclude", "2", None)
    execute(data, "DELETE FROM pay", "ALTER TABLE pay ALTER id TYPE uuid USING gen_random_uuid()")
    assert overrides.undo(data, spec, actor="bob", reason="gone", target="1") == 1
    execute(data, "ALTER TABLE pay ALTER id TYPE int USING 0")
    assert overrides.undo(data, spec, actor="bob", reason="gone", target="02") == 1


@pytest.mark.parametrize("about", [{}, {"target": "1", "reason": " "}, {"target": "1\x00"}])
def test_undoing_wants_a_record_and_a_reason(data: Database, about: dict[str, str]) -> None:
    decide(data, spec_of(), "exclude", "1", None)
    with pytest.raises(UsageError):
        overrides.undo(data, spec_of(), **({"actor": "bob", "reason": "no"} | about))
    assert len(overrides.listed(data, "simple")) == 1


# -- the command line ------------------------------------------------------------------------------------


SPEC = """
name: simple
target: {table: pay, key: id, where: not gone}
source: {table: lease, key: id, where: not gone}
link: {column: lease_id}
passes:
  - {name: by_code, on: {code: code}, accept: review}
"""


def test_decide_as_a_person_runs_it(data: Database, tmp_path: Path) -> None:
    (tmp_path / "recon.toml").write_text("")
    (tmp_path / "reconciliations").mkdir()
    (tmp_path / "reconciliations" / "simple.yaml").write_text(SPEC)

    def run(*arguments: str, code: int = 0) -> Any:
        ended = recon("decide", "simple", *arguments, url=data.url, cwd=tmp_path)
        assert ended.code == code, ended.out + ended.err
        assert "Traceback" not in ended.err
        return ended

    assert "Nobody has decided anything" in run("--list").out
    said = run("--target", "01", "--link", "10", "--reason", "by phone").out
    assert "Decided: target 1 is linked to source 10." in said
    assert "recon match simple" in said
    assert run("--source", "12", "--exclude", "--reason", "x", "--json").json["overrides"][0]["source_key"] == "12"
    assert "Undo that first" in run("--target", "1", "--forbid", "10", "--reason", "no", code=4).err
    assert "needs a reason" in run("--target", "2", "--exclude", code=2).err
    assert "Say one thing" in run(code=2).err
    assert "do not go together" in run("--list", "--undo", code=2).err
    assert "one thing at a time" in run("--target", "2", "--exclude", "--link", "11", "--reason", "x", code=2).err
    assert "Say what is decided" in run("--target", "2", "--reason", "x", code=2).err
    assert "has one source" in run("--target", "2", "--link", "11", "--source", "11", "--reason", "x", code=2).err
    assert "target 1 is linked to source 10" in run("--list").out
    assert run("--undo", "--target", "1", "--link", "10", "--reason", "no", "--json").json["undone"] == 1
    (tmp_path / "in.csv").write_text("kind,target_key,source_key\nexclude,1,\nexclude,2,\n")
    assert run("--from", "in.csv", "--reason", "as agreed", "--json").json["made"] == 2
    assert "has no finished run" in run("--accept-pass", "by_code", "--reason", "x", code=2).err
    assert len(run("--list", "--json").json["overrides"]) == 3
