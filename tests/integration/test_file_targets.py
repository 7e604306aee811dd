"""A target that is a file: its link column, the whole way by the command line, and a reload that loses no link."""

from __future__ import annotations

from typing import Any

import pytest

from recon import workflow
from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import sign_off
from recon.database.connect import Database
from recon.errors import LoadFailed, ReconError, Stale
from recon.sources.kept import Links
from recon.workspace import Workspace
from tests.support import execute, recon, rows

pytestmark = pytest.mark.one_engine

SPEC = """\
name: pay
target: {file: bronze/pay.csv, key: id, columns: {id: integer, code: text}}
source: {file: bronze/bill.csv, key: nr, columns: {nr: bigint, code: text, due: date}}
link: {column: bill, also: {due: s.due}}
passes: [{name: code, on: {code: code}}]
"""
LIST = "SELECT id, code, bill FROM bronze.pay ORDER BY id"
LINKED = [(1, "a", 10), (2, "b", 20), (3, "x", None)]


@pytest.fixture
def home(workspace: Workspace) -> Workspace:
    """A workspace with two files and their spec."""
    (workspace.root / "recon.toml").touch()
    (workspace.root / "bronze").mkdir()
    (workspace.root / "reconciliations" / "pay.yaml").write_text(SPEC)
    (workspace.root / "bronze" / "pay.csv").write_text("id,code\n1,a\n2,b\n3,x\n")
    (workspace.root / "bronze" / "bill.csv").write_text("nr,code,due\n10,a,2026-01-31\n20,b,\n")
    return workspace


def _loaded(database: Database, home: Workspace, name: str = "pay") -> Links:
    """Load, and what became of the links."""
    told: list[Any] = []
    workflow.load_records(database, home, name, told=told.append)
    return next(item.links for item in told if item.links is not None)


def _linked(database: Database, home: Workspace) -> None:
    """As after a backfill: payments 1 and 2 hold their bills."""
    _loaded(database, home)
    execute(database, "UPDATE bronze.pay SET bill = id * 10, due = '2026-01-31' WHERE id < 3")


def _write(home: Workspace, content: str, name: str = "pay") -> None:
    (home.root / "bronze" / f"{name}.csv").write_text(content)


def _refused(database: Database, home: Workspace, kind: type[ReconError]) -> ReconError:
    with pytest.raises(kind) as refused:
        _loaded(database, home)
    return refused.value


def test_the_whole_way_on_a_file_and_a_reload_before_and_after_each_step(database: Database, home: Workspace) -> None:
    """A target that is a file goes from load to revert by the command line; loading it again loses no link."""

    def step(*arguments: str, code: int = 0) -> Any:
        ended = recon(*arguments, "--json", url=database.url, cwd=home.root, user=user)
        assert ended.code == code, ended.err
        return ended.json

    user = "ann"
    assert step("load", "pay")["tables"] == {"bronze.bill": 2, "bronze.pay": 3}
    assert rows(database, LIST) == [(1, "a", None), (2, "b", None), (3, "x", None)]
    assert step("match", "pay", code=3)["outcomes"] == {"matched": 2, "unmatched": 1}
    plan = step("plan", "pay")["plan"]
    user = "bob"
    step("approve", plan)
    user = "ann"
    step("load", "pay")  # the same records: what was signed is still so
    step("apply", plan, "--execute")
    assert rows(database, LIST) == LINKED
    nothing: list[Any] = []
    again = step("load", "pay")
    assert again["links"] == {"bronze.pay": {"kept": 2, "replaced": 0, "gone": 0, "gone_records": nothing}}
    assert rows(database, LIST) == LINKED
    assert step("verify", plan)["state"] == "verified"
    assert step("match", "pay", code=3)["outcomes"] == {"linked": 2, "unmatched": 1}
    step("revert", plan, "--execute")
    assert rows(database, "SELECT bill, due FROM bronze.pay") == [(None, None)] * 3
    step("load", "pay")
    assert rows(database, "SELECT count(bill) FROM bronze.pay") == [(0,)]


def test_what_the_file_lacks_gets_the_types_of_what_is_written_there(database: Database, home: Workspace) -> None:
    _loaded(database, home)
    kinds = "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'bronze.pay'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    assert rows(database, kinds) == [("id", "integer"), ("code", "text"), ("bill", "bigint"), ("due", "date")]
    execute(
        database, "CREATE DOMAIN nr AS numeric(6,0) NOT NULL", "CREATE TABLE bills (nr nr, code varchar(9), due date)"
    )
    (home.root / "reconciliations" / "pay.yaml").write_text(
        SPEC.replace("file: bronze/bill.csv", "table: bills")
        .replace(", columns: {nr: bigint, code: text, due: date}", "")
        .replace("due: s.due", "due: s.due + 1, other: s.code, late: s.due < t.due, at: lower(s.code)")
        .replace("code: text}}\nsource", "code: text, at: varchar}}\nsource")
    )
    _loaded(database, home)
    assert dict(rows(database, kinds)) == {
        "id": "integer", "code": "text", "at": "character varying", "bill": "numeric", "due": "date",
        "other": "character varying(9)", "late": "boolean",
    }  # fmt: skip


def test_a_source_that_is_not_there_is_asked_for_where_its_types_are_needed(
    database: Database, home: Workspace
) -> None:
    (home.root / "bronze" / "bill.csv").unlink()
    path = home.root / "reconciliations" / "pay.yaml"
    error = _refused(database, home, LoadFailed)
    assert 'The column "due" of bronze/pay.csv takes its type from there.' in error.why
    path.write_text(SPEC.replace(", also: {due: s.due}", ""))  # of the link the spec itself says it
    assert "bronze.pay (3)" in _refused(database, home, LoadFailed).todo
    assert rows(database, "SELECT pg_typeof(bill)::text FROM bronze.pay LIMIT 1") == [("bigint",)]


def test_a_changed_file_is_taken_over_and_who_lost_a_link_is_told(database: Database, home: Workspace) -> None:
    """Records that were added, removed or changed are taken over; a link that goes with its record is told."""
    _linked(database, home)
    _write(home, "id,code\n2,new\n3,x\n4,d\n")
    ended = recon("load", "pay", url=database.url, cwd=home.root)
    assert "bronze.pay: 1 kept what a backfill wrote, 1 linked before are no longer in the file." in ended.out
    assert "  gone: 1 (bill 10, due 2026-01-31)" in ended.out
    assert rows(database, LIST) == [(2, "new", 20), (3, "x", None), (4, "d", None)]
    assert _loaded(database, home) == Links(kept=1)


def test_what_the_file_says_of_a_link_counts_and_what_it_leaves_empty_does_not(
    database: Database, home: Workspace
) -> None:
    _linked(database, home)
    _write(home, "bill,id,code\n,1,a\n20,2,b\n30,3,x\n")
    assert _loaded(database, home) == Links(kept=2)
    assert rows(database, LIST) == [(1, "a", 10), (2, "b", 20), (3, "x", 30)]
    _write(home, "bill,id,code\n,1,a\n21,2,b\n,3,x\n")
    assert _loaded(database, home) == Links(kept=2, replaced=1)
    assert rows(database, LIST) == [(1, "a", 10), (2, "b", 21), (3, "x", 30)]


def test_a_load_for_another_spec_keeps_the_links_of_the_first(database: Database, home: Workspace) -> None:
    _linked(database, home)
    other = SPEC.replace("name: pay", "name: other").replace("column: bill, also: {due: s.due}", "column: second")
    (home.root / "reconciliations" / "other.yaml").write_text(other)
    assert _loaded(database, home, "other") == Links(kept=2)
    assert rows(database, "SELECT id, bill, second FROM bronze.pay ORDER BY 1") == [(1, 10, None), (2, 20, None), (3, None, None)]  # fmt: skip
    _loaded(database, home)
    assert rows(database, LIST) == LINKED


def test_a_load_that_fails_loses_no_link(database: Database, home: Workspace) -> None:
    _linked(database, home)
    _write(home, "id,code\nx,a\n")
    with pytest.raises(LoadFailed):
        _loaded(database, home)
    assert rows(database, LIST) == LINKED


def test_another_key_or_type_keeps_the_links_or_is_refused(database: Database, home: Workspace) -> None:
    _linked(database, home)
    path = home.root / "reconciliations" / "pay.yaml"
    path.write_text(SPEC.replace("id: integer", "id: text").replace("nr: bigint", "nr: text"))
    assert _loaded(database, home) == Links(kept=2)
    assert rows(database, LIST) == [("1", "a", "10"), ("2", "b", "20"), ("3", "x", None)]
    _write(home, "id,code,key\n1,a,k1\n2,b,k2\n")
    path.write_text(SPEC.replace("key: id, columns: {", "key: key, columns: {key: text, "))
    error = _refused(database, home, LoadFailed)
    assert "2 records of bronze.pay hold what a backfill wrote (bill, due), and it would be lost." in error.why
    path.write_text(SPEC.replace("key: id", "key: code"))  # it was there before, and tells the records apart
    assert _loaded(database, home) == Links(kept=2)
    assert rows(database, LIST) == [(1, "a", 10), (2, "b", 20)]


def test_a_reload_between_plan_and_apply_is_seen(database: Database, home: Workspace) -> None:
    """What a reviewer signed is not written to a record that the file now says otherwise of, nor to one that went."""
    _loaded(database, home)
    spec = home.spec("pay")
    workflow.match(database, home, spec, "ann")
    plan = plans.make(database, home, spec, "ann")
    assert plan is not None
    sign_off.approve(database, home, plan.plan, "bob")
    _write(home, "id,code\n1,changed\n3,x\n")
    _loaded(database, home)
    with pytest.raises(Stale) as stale:
        applying.apply(database, home, plan.plan, "ann", execute=True)
    assert "2 of 2 rows" in stale.value.what
    assert rows(database, "SELECT count(bill) FROM bronze.pay") == [(0,)]
