"""Plans that write an outside system too: there first, each record once, and in the table only what it has."""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from recon import cli
from recon.backfill import apply as applying
from recon.backfill import outside_send, replay, roles, seams, sign_off, states
from recon.backfill import plan as plans
from recon.backfill import revert as reverting
from recon.backfill import verify as verifying
from recon.backfill.plan import Plan
from recon.database.connect import Database
from recon.errors import (
    VEIL,
    BundleChanged,
    DatabaseFailed,
    NotFound,
    OutsideFailed,
    OutsideLeft,
    OutsideUnsure,
    SchemaMismatch,
    SpecError,
    WrongDatabase,
)
from recon.matching import run as runs
from recon.outside.interface import Answer, Edit
from recon.stand_ins.faults import Fault
from recon.stand_ins.server import served
from recon.workspace import Workspace
from tests import shop
from tests.shop import TOKEN, Shop, installed
from tests.support import ROOT, execute, rows, simple_spec

pytestmark = pytest.mark.one_engine

ROWS = 25
KEPT = "SELECT DISTINCT state, attempts FROM recon.outside_changes WHERE plan = $1"


@dataclass
class Books:
    """Payments here and in the shop, to be linked in both."""

    database: Database
    workspace: Workspace
    shop: Shop

    def spec(self, **fields: Any) -> Any:
        outside = {"system": "shop", "object": "payments", "record": "shop_id", "fields": {"lease_id": "Lease"}}
        return simple_spec(**({"target": {"table": "pay", "key": "id", "outside": outside}} | fields))

    def plan(self, **fields: Any) -> Plan:
        spec = self.spec(**fields)
        runs.match(self.database, spec, "ann")
        made = plans.make(self.database, self.workspace, spec, "ann")
        assert made is not None
        return sign_off.approve(self.database, self.workspace, made.plan, "bob")

    def apply(self, plan: Plan, **options: Any) -> applying.Applied:
        return applying.apply(self.database, self.workspace, plan.plan, "ann", execute=True, **options)

    def dry_run(self, plan: Plan) -> applying.Applied:
        return applying.apply(self.database, self.workspace, plan.plan, "ann")

    def revert(self, plan: Plan, *, execute: bool = True) -> reverting.Reverted:
        return reverting.revert(self.database, self.workspace, plan.plan, "ann", execute=execute)

    def verify(self, plan: Plan) -> verifying.Verification:
        return verifying.verify(self.database, self.workspace, plan.plan)

    def state(self, plan: Plan) -> str:
        with self.database.session() as session:
            return states.current(session, plan.plan)

    def tolerant(self, rows: int) -> None:
        (self.workspace.root / "recon.toml").write_text(f"[plan]\ntolerance_rows = {rows}\n")
        self.workspace = Workspace(self.workspace.root)

    @property
    def linked(self) -> list[int]:
        return [row[0] for row in rows(self.database, "SELECT id FROM pay WHERE lease_id IS NOT NULL ORDER BY id")]

    @property
    def leases(self) -> dict[str, str | None]:
        return {record: fields["Lease"] for record, fields in self.shop.records.items()}

    def intact(self) -> None:
        """The log and what stands beside it agree."""
        assert replay.replay(self.database).findings == ()


@pytest.fixture(scope="module")
def place(embedded_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, Shop]]:
    """One database and one shop for all of these tests, each of which fills them anew."""
    url = sa.make_url(embedded_url)
    name = f"outside_{os.urandom(4).hex()}"
    with psycopg.connect(embedded_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        shop = Shop({})
        with installed(tmp_path_factory.mktemp("packages")), served(shop.app) as shop.url:
            yield Database(url.set(database=name).render_as_string(hide_password=False)), shop
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def books(place: tuple[Database, Shop], workspace: Workspace) -> Books:
    database, shop = place
    execute(
        database,
        "DROP TABLE IF EXISTS pay, lease",
        f"CREATE TABLE lease AS SELECT n AS id, 'c' || n AS code FROM generate_series(1, {ROWS}) AS n",
        "ALTER TABLE lease ADD PRIMARY KEY (id)",
        "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id int, shop_id text)",
        f"INSERT INTO pay SELECT n, 'c' || n, NULL, 'rec' || n FROM generate_series(1, {ROWS}) AS n",
    )
    shop.reset({f"rec{n}": {"Lease": None, "Name": f"n{n}"} for n in range(1, ROWS + 1)})
    shop.settings(workspace)
    return Books(database, workspace, shop)


EVERYTHING = {f"rec{n}": str(n) for n in range(1, ROWS + 1)}


def test_a_plan_is_written_outside_first_and_each_record_once(books: Books) -> None:
    plan = books.plan()
    assert plan.document["outside"] == {
        "system": "shop", "object": "payments", "record": "shop_id", "fields": {"lease_id": "Lease"},
        "place": f"{books.shop.url}/payments", "rows": ROWS,
    }  # fmt: skip
    lines = (plan.bundle / "outside.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines[0] == '{"after":{"Lease":"1"},"before":{"Lease":null},"place":1,"record":"rec1"}'
    assert len(lines) == ROWS
    dry = books.dry_run(plan)
    assert dry.outside is not None
    assert (dry.outside["sent"], dry.outside["left"], books.shop.updates) == (ROWS, 0, {})
    assert rows(books.database, KEPT, plan.plan) == []
    steps: list[tuple[int, int]] = []
    done = books.apply(plan, progress=lambda done, total: steps.append((done, total)))
    assert (done.changed, done.skipped, done.left, done.state) == (ROWS, 0, 0, "applied")
    assert done.outside is not None
    assert {name: done.outside[name] for name in ("sent", "already", "errors", "drifted", "left", "ahead")} == {
        "sent": ROWS, "already": 0, "errors": [], "drifted": [], "left": 0, "ahead": 0,
    }  # fmt: skip
    assert steps == [(10, ROWS), (20, ROWS), (ROWS, ROWS)]
    assert books.leases == EVERYTHING
    assert set(books.shop.updates.values()) == {1}
    assert books.shop.records["rec1"]["Name"] == "n1"  # a field that the plan does not name
    assert len(books.linked) == ROWS
    assert books.verify(plan).right
    books.intact()
    again = books.apply(plan)
    assert (again.changed, again.outside) == (0, done.outside)
    assert books.shop.updates.total() == ROWS


def test_bad_records_stay_errors_with_their_words_and_a_resume_tries_only_these(books: Books) -> None:
    plan = books.plan()
    books.shop.refused = {"rec3": "Lease is locked", "rec4": "not yours\x1b[2J", "rec25": "no such lease"}
    with pytest.raises(OutsideLeft) as raised:
        books.apply(plan)
    assert "3 of 25 records" in raised.value.what
    assert "rec3: Lease is locked" in raised.value.why
    assert raised.value.as_dict()["outside"]["errors"] == [
        {"record": "rec3", "message": "Lease is locked"},
        {"record": "rec4", "message": "not yours\\x1b[2J"},
        {"record": "rec25", "message": "no such lease"},
    ]
    assert books.state(plan) == "apply_failed"
    assert set(range(1, ROWS + 1)) - set(books.linked) == {3, 4, 25}  # here they are not done either
    books.intact()
    dry = books.dry_run(plan)
    assert dry.outside is not None
    assert (dry.changed, dry.outside["read"], dry.outside["sent"], len(dry.outside["tried"])) == (3, 3, 3, 3)
    del books.shop.refused["rec3"], books.shop.refused["rec25"]
    before = books.shop.updates.copy()
    with pytest.raises(OutsideLeft):
        books.apply(plan)
    assert books.shop.updates - before == {"rec3": 1, "rec25": 1}
    books.shop.refused.clear()
    done = books.apply(plan)
    assert (done.changed, done.left) == (ROWS, 0)
    assert (books.leases, set(books.shop.updates.values())) == (EVERYTHING, {1})
    assert books.verify(plan).right
    books.intact()


def test_within_its_tolerance_a_plan_is_applied_and_says_what_it_left(books: Books) -> None:
    books.tolerant(2)
    plan = books.plan()
    books.shop.refused = {"rec3": "Lease is locked"}
    books.shop.records["rec5"]["Lease"] = "somebody else's"
    done = books.apply(plan)
    assert (done.state, done.changed, done.left) == ("applied", ROWS - 2, 2)
    assert done.outside is not None
    assert done.outside["drifted"] == [
        {"record": "rec5", "message": "Lease was empty, is somebody else's there"},
    ]
    assert books.apply(plan).outside == done.outside
    found = books.verify(plan)
    assert [(row["key"], row["problem"]) for row in found.rows] == [
        ("3", "the change was never written"), ("5", "the change was never written"),
    ]  # fmt: skip
    books.intact()


def test_what_a_record_holds_there_is_never_overwritten(books: Books) -> None:
    """HCP-10: a link that is there in the outside system stays, whatever the table says."""
    plan = books.plan()
    books.shop.records["rec5"]["Lease"] = "777"
    books.shop.records["rec6"]["Lease"] = "6"  # as planned: nothing is sent
    del books.shop.records["rec7"]
    dry = books.dry_run(plan)
    assert dry.outside is not None
    assert (dry.outside["sent"], dry.outside["already"], dry.outside["left"]) == (22, 1, 2)
    with pytest.raises(OutsideLeft) as raised:
        books.apply(plan)
    said = raised.value.outside
    assert said["drifted"] == dry.outside["drifted"] == [{"record": "rec5", "message": "Lease was empty, is 777 there"}]
    assert said["errors"] == [{"record": "rec7", "message": "there is no such record"}]
    assert (said["sent"], said["already"]) == (22, 1)
    assert books.leases["rec5"] == "777"
    assert "rec6" not in books.shop.updates
    assert {5, 7} & set(books.linked) == set()


# An answer that does not come or says nothing, though the request was carried out; and one that was not.
UNSURE = (
    Fault(500, after=True, path="write"),
    Fault(cut=True, path="write"),
    Fault(delay=1.0, path="write"),
)


def test_an_answer_that_says_nothing_doubles_nothing(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """CRM-11: after a 500, half an answer or none in time the records are read again, and none is updated twice."""
    monkeypatch.setattr(outside_send, "PAUSE_SECONDS", 0.01)
    books.shop.settings(books.workspace, timeout=0.4)
    plan = books.plan()
    books.shop.faults.add(*UNSURE)  # one for each chunk
    done = books.apply(plan)
    assert done.outside is not None
    assert (done.changed, done.outside["sent"], books.shop.faults.waiting) == (ROWS, ROWS, deque())
    assert (books.leases, set(books.shop.updates.values())) == (EVERYTHING, {1})
    books.shop.faults.add(*UNSURE)
    assert books.revert(plan).state == "reverted"
    assert set(books.shop.updates.values()) == {2}


def test_a_system_that_never_says_what_it_did_leaves_the_rest_to_a_resume(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside_send, "PAUSE_SECONDS", 0.01)
    plan = books.plan()
    books.shop.faults.add(*[Fault(500, path="write") for _ in range(outside_send.MOST_TRIES)])
    with pytest.raises(OutsideUnsure):
        books.apply(plan)
    assert (books.state(plan), books.linked) == ("apply_failed", [])
    assert rows(books.database, KEPT, plan.plan) == [("sending", outside_send.MOST_TRIES)]
    assert books.apply(plan).changed == ROWS
    assert set(books.shop.updates.values()) == {1}


def test_a_system_that_asks_to_wait_is_waited_for_and_the_reason_shown(books: Books) -> None:
    plan = books.plan()
    books.shop.faults.add(Fault(429, headers={"Retry-After": "0.05"}, path="write"))
    said: list[str | None] = []
    assert books.apply(plan, notice=said.append).changed == ROWS
    assert "The shop asks to wait 0.05 s" in said
    assert set(books.shop.updates.values()) == {1}


def test_rows_that_changed_here_are_not_sent(books: Books) -> None:
    books.tolerant(3)
    plan = books.plan()
    execute(
        books.database,
        "UPDATE pay SET code = 'other' WHERE id = 2",
        "UPDATE pay SET shop_id = 'rec99' WHERE id = 12",  # another record than was signed
        "DELETE FROM lease WHERE id = 13",
    )
    done = books.apply(plan)
    assert (done.changed, done.skipped, done.left) == (ROWS - 3, 3, 3)
    assert {drift["key"] for drift in done.drifts} == {"2", "12", "13"}
    assert {"rec2", "rec12", "rec13"} & set(books.shop.updates) == set()
    books.intact()


def test_a_revert_gives_back_what_a_record_held_unless_somebody_changed_it(books: Books) -> None:
    plan = books.plan()
    books.shop.records["rec6"]["Lease"] = "6"  # it was so before
    books.apply(plan)
    books.shop.records["rec2"]["Lease"] = "mine"
    del books.shop.records["rec3"]
    execute(books.database, "UPDATE pay SET lease_id = 99 WHERE id = 4")
    foreseen = books.revert(plan, execute=False).outside
    assert foreseen == {
        "restored": ROWS - 3,
        "conflicts": [
            {"record": "rec2", "message": "it holds something else there"},
            {"record": "rec3", "message": "there is no such record"},
            {"record": "rec4", "message": "its row here was changed since, so it is kept there too"},
        ],
        "kept": 3,
    }
    before = books.shop.updates.copy()
    done = books.revert(plan)
    assert done.outside is not None
    assert (done.state, done.restored, done.conflicts) == ("reverted_with_conflicts", ROWS - 3, 3)
    assert done.outside == foreseen
    assert [row["record"] for row in done.outside["conflicts"]] == ["rec2", "rec3", "rec4"]
    assert books.linked == [2, 3, 4]
    assert books.leases == {
        **{f"rec{n}": None for n in range(1, ROWS + 1) if n != 3}, "rec2": "mine", "rec4": "4", "rec6": "6",
    }  # fmt: skip
    assert (books.shop.updates - before).total() == ROWS - 4
    books.intact()


def test_a_plan_that_failed_half_way_is_undone_in_both_places(books: Books) -> None:
    plan = books.plan()
    books.shop.refused = {"rec11": "no"}
    with pytest.raises(OutsideLeft):
        books.apply(plan)
    done = books.revert(plan)
    assert (done.state, done.restored, books.linked) == ("reverted", ROWS - 1, [])
    assert set(books.leases.values()) == {None}
    books.intact()


def test_verify_finds_a_record_that_was_changed_there_afterwards(books: Books) -> None:
    plan = books.plan()
    books.apply(plan)
    books.shop.records["rec2"]["Lease"] = "mine"
    del books.shop.records["rec3"]
    found = books.verify(plan)
    assert (found.problems, found.rows) == (
        2,
        [
            {"key": "shop payments rec2", "problem": "Lease is mine there, not 2"},
            {"key": "shop payments rec3", "problem": "there is no such record"},
        ],
    )
    books.shop.faults.add(*[Fault(404) for _ in range(9)])
    with pytest.raises(OutsideFailed):  # what cannot be read proves nothing
        books.verify(plan)


def test_a_plan_for_one_place_is_refused_at_another(books: Books) -> None:
    plan = books.plan()
    other = Shop(json.loads(json.dumps(books.shop.records)))
    with other.open(books.workspace):
        books.workspace = Workspace(books.workspace.root)
        for act in (books.dry_run, books.apply):
            with pytest.raises(WrongDatabase, match=f"shop at {books.shop.url}/payments"):
                act(plan)
    assert (other.updates, books.linked, books.state(plan)) == ({}, [], "approved")


def test_an_edited_file_of_changes_is_refused(books: Books) -> None:
    plan = books.plan()
    path = plan.bundle / "outside.jsonl"
    text = path.read_text(encoding="utf-8")
    edits = {
        "another value": text.replace('"Lease":"1"', '"Lease":"7"'),
        "another record": text.replace('"rec1"', '"rec9"'),
        "a line less": text.partition("\n")[2],
        "gone": None,
    }
    for edited in edits.values():
        path.unlink() if edited is None else path.write_text(edited, encoding="utf-8")
        for act in (books.apply, books.dry_run):
            with pytest.raises(BundleChanged, match=r"outside\.jsonl"):
                act(plan)
        assert (books.shop.updates, books.linked) == ({}, [])
    path.write_text(text, encoding="utf-8")
    assert books.apply(plan).changed == ROWS


def test_rows_without_a_record_outside_are_left_out_and_two_of_one_record_are_refused(books: Books) -> None:
    execute(books.database, "UPDATE pay SET shop_id = CASE WHEN id = 2 THEN ' ' END WHERE id IN (1, 2)")
    plan = books.plan()
    assert (plan.rows, plan.document["left_out"]) == (ROWS - 2, {"link: no record outside": 2})
    assert books.apply(plan).changed == ROWS - 2
    assert {"rec1", "rec2"} & set(books.shop.updates) == set()
    assert books.verify(plan).right
    books.revert(plan)
    execute(books.database, "UPDATE pay SET shop_id = 'rec9' WHERE id = 10")
    with pytest.raises(SchemaMismatch, match="same record outside: rec9"):
        books.plan()
    outside = {"system": "shop", "object": "payments", "record": "shop_id"}
    with pytest.raises(SpecError, match="by which a record is known outside"):
        books.plan(target={"table": "pay", "key": "id", "private": ["shop_id"], "outside": outside})
    with pytest.raises(SchemaMismatch, match='no column "shopid"'):
        books.plan(target={"table": "pay", "key": "id", "outside": {**outside, "record": "shopid"}})


def test_only_fields_that_differ_and_are_named_go_outside(books: Books) -> None:
    execute(
        books.database,
        "ALTER TABLE lease ADD rent numeric(9,2), ADD note text",
        "ALTER TABLE pay ADD rent numeric(9,2), ADD note text",
        "UPDATE lease SET rent = 10 * id, note = 'n' || id",
        "UPDATE pay SET rent = 10 * id, note = CASE WHEN id > 2 THEN 'n' || id END, lease_id = id",
        "UPDATE pay SET rent = 7 WHERE id = 2",
    )
    books.shop.records["rec2"]["Rent"] = "7.00"
    target = {
        "table": "pay", "key": "id",
        "outside": {"system": "shop", "object": "payments", "record": "shop_id", "fields": {"rent": "Rent"}},
    }  # fmt: skip
    plan = books.plan(
        target=target, link=None, cardinality="one_to_one", compare={"rent": "rent", "note": "note"},
        backfill={"changed": {"update": "all"}},
    )  # fmt: skip
    lines = [json.loads(line) for line in (plan.bundle / "outside.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(line["record"], line["before"], line["after"]) for line in lines] == [
        ("rec1", {}, {}), ("rec2", {"Rent": "7.00"}, {"Rent": "20.00"}),
    ]  # fmt: skip
    assert books.apply(plan).changed == 2
    assert books.shop.updates == {"rec2": 1}
    assert rows(books.database, "SELECT rent, note FROM pay WHERE id <= 2 ORDER BY id") == rows(
        books.database, "SELECT rent, note FROM lease WHERE id <= 2 ORDER BY id"
    )
    books.revert(plan)
    assert (books.shop.records["rec2"]["Rent"], books.shop.updates) == ("7.00", {"rec2": 2})
    books.intact()


def blocks(kind: str) -> list[str]:
    text = (ROOT / "docs" / "outside.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def test_the_system_of_the_docs_works_as_it_stands_there(
    database: Database, workspace: Workspace, tmp_path: Path
) -> None:
    """The example of docs/outside.md is installed as a package of somebody else, and written by a plan."""
    packages, labels = tmp_path / "packages", tmp_path / "labels"
    labels.mkdir()
    packages.mkdir()
    (packages / "labels.py").write_text(blocks("python")[0], encoding="utf-8")
    project = tomllib.loads(blocks("toml")[0])["project"]
    points_to = project["entry-points"]["recon.targets"]["labels"]
    (workspace.root / ".env").write_text(f"RECON_LABELS={labels}\n")
    execute(
        database,
        "CREATE TABLE lease AS SELECT n AS id, n AS code FROM generate_series(1, 3) AS n",
        "ALTER TABLE lease ADD PRIMARY KEY (id)",
        "CREATE TABLE pay (id int PRIMARY KEY, code int, lease_id int)",
        "INSERT INTO pay SELECT n, n FROM generate_series(1, 3) AS n",
    )
    shelf = labels / "shelf.json"
    empty = {"1": {"lease_id": None}, "2": {"lease_id": None, "printed": "yes"}, "3": {"lease_id": None}}
    shelf.write_text(json.dumps(empty))
    spec = simple_spec(target={"table": "pay", "key": "id", "outside": {"system": "labels", "object": "shelf"}})
    with installed(packages, name=project["name"], points_to=points_to):
        runs.match(database, spec, "ann")
        plan = plans.make(database, Workspace(workspace.root), spec, "ann")
        assert plan is not None
        assert plan.document["outside"]["place"] == shelf.as_uri()
        sign_off.approve(database, workspace, plan.plan, "bob")
        with pytest.raises(OutsideLeft, match="it is printed already"):
            applying.apply(database, workspace, plan.plan, "ann", execute=True)
        held = json.loads(shelf.read_text())
        assert [held[record]["lease_id"] for record in "123"] == ["1", None, "3"]
        assert reverting.revert(database, workspace, plan.plan, "ann", execute=True).state == "reverted"
        assert json.loads(shelf.read_text()) == empty
    del sys.modules["labels"]
    with pytest.raises(NotFound, match="labels"):
        plans.make(database, Workspace(workspace.root), spec, "ann")


def test_private_values_come_out_of_no_message_about_a_record(
    books: Books, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """HCP-09, CRM-17: neither a private value nor the credential is shown, kept in the log or printed."""
    execute(
        books.database,
        "ALTER TABLE lease ADD note text", "ALTER TABLE pay ADD note text",
        "UPDATE lease SET note = 'kanari-' || id", "UPDATE pay SET lease_id = id WHERE id > 3",
    )  # fmt: skip
    target = {
        "table": "pay", "key": "id", "private": ["note"],
        "outside": {"system": "shop", "object": "payments", "record": "shop_id", "fields": {"note": "Note"}},
    }  # fmt: skip
    plan = books.plan(target=target, link={"column": "lease_id", "also": {"note": "note"}})
    assert "kanari-1" in (plan.bundle / "outside.jsonl").read_text(encoding="utf-8")
    books.shop.records["rec1"]["Note"] = "kanari there"
    books.shop.refused = {"rec2": f"kanari-2 is no note, says {TOKEN}"}
    monkeypatch.setenv("RECON_DATABASE_URL", books.database.url)

    def recon(*arguments: str, code: int) -> str:
        monkeypatch.setattr(sys, "argv", ["recon", *arguments, "--workspace", str(books.workspace.root)])
        monkeypatch.setenv("RECON_USER", "ann")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == code
        return "".join(capfd.readouterr())

    said = [recon("apply", plan.plan, *arguments, code=code) for arguments, code in (
        ((), 3), (("--json",), 3), (("--execute",), 1), (("--execute", "--json"), 1), (("--json",), 3),
    )]  # fmt: skip
    document = json.loads(said[3].partition("\n")[0])
    assert document["error"] == "OutsideLeft"
    assert document["outside"]["drifted"] == [{"record": "rec1", "message": f"Note was empty, is {VEIL} there"}]
    assert document["outside"]["errors"] == [
        {"record": "rec2", "message": "its words may hold private values, so they are left out"}
    ]
    assert f"rec1 Note was empty, is {VEIL} there" in " ".join(said[2].split())
    assert "2 to be sent of 3 that were read" in said[0]
    said.append(recon("plans", code=0))
    assert f"shoppaymentsat{books.shop.url}/payments" in "".join(said[-1].split())  # a narrow column breaks it
    said.append(recon("review", plan.plan, code=0))
    assert "payments: Note, 3 rows; before the table" in " ".join(said[-1].split())
    said.append((plan.bundle / "review.html").read_text(encoding="utf-8"))
    assert "Note, 3 rows; before the table" in said[-1]
    said.append(str(rows(books.database, "SELECT detail FROM recon.audit_log")))
    said.append(recon("revert", plan.plan, "--execute", code=0))
    for text in said:
        assert "kanari" not in text
        assert TOKEN not in text


def test_a_row_that_changes_while_its_record_is_written_is_told_and_a_revert_takes_the_record_back(
    books: Books,
) -> None:
    books.tolerant(1)
    plan = books.plan()

    def meddle(seam: str) -> None:
        if seam == "outside written" and len(books.shop.updates) == 20:
            execute(books.database, "UPDATE pay SET code = 'other' WHERE id = 15")

    with seams.stopping(meddle):
        done = books.apply(plan)
    assert done.outside is not None
    assert (done.changed, done.skipped, done.outside["ahead"]) == (ROWS - 1, 1, 1)
    assert [drift["key"] for drift in done.drifts] == ["15"]
    assert (books.leases["rec15"], 15 in books.linked) == ("15", False)
    undone = books.revert(plan)
    assert (undone.state, undone.restored, books.linked) == ("reverted", ROWS - 1, [])
    assert set(books.leases.values()) == {None}
    books.intact()


def test_a_record_that_holds_a_part_of_an_edit_gets_the_rest(books: Books) -> None:
    execute(
        books.database,
        "ALTER TABLE lease ADD note text", "ALTER TABLE pay ADD note text", "UPDATE lease SET note = 'n' || id",
        "UPDATE pay SET lease_id = id WHERE id > 2",
    )  # fmt: skip
    outside = {"system": "shop", "object": "payments", "record": "shop_id"}
    plan = books.plan(
        target={"table": "pay", "key": "id", "outside": outside},
        link={"column": "lease_id", "also": {"note": "note"}},
    )
    assert plan.document["outside"]["fields"] == {"lease_id": "lease_id", "note": "note"}
    books.shop.records["rec1"] |= {"lease_id": "1", "note": None}
    books.apply(plan)
    assert (books.shop.records["rec1"]["note"], books.shop.updates) == ("n1", {"rec1": 1, "rec2": 1})
    books.revert(plan)
    assert (books.shop.records["rec1"]["lease_id"], books.shop.records["rec1"]["note"]) == ("1", None)


def test_a_waiting_plan_stays_the_one_as_long_as_nothing_of_it_changes(books: Books) -> None:
    """INV-16, HCP-13: a run of every night does not take away what a reviewer approved in the day."""
    plan = books.plan()
    spec = books.spec()

    def again() -> str:
        runs.match(books.database, spec, "ann")
        made = plans.make(books.database, books.workspace, spec, "ann", again=False)
        assert made is not None
        return made.plan

    assert again() == plan.plan
    execute(books.database, "UPDATE pay SET shop_id = 'rec77' WHERE id = 7")  # another record than was signed
    assert again() != plan.plan


def test_each_role_may_do_its_part(books: Books) -> None:
    prefix = f"r{os.urandom(4).hex()}"
    spec = books.spec()
    made: list[str] = []
    with psycopg.connect(books.database.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(roles.script(books.database, spec, prefix).encode())
    opened: dict[str, Database] = {}
    for kind in ("plan", "review", "apply"):
        made.append(f"{prefix}_{kind}_login")
        execute(
            books.database, f"CREATE ROLE {made[-1]} LOGIN PASSWORD 'secret'", f"GRANT {prefix}_{kind} TO {made[-1]}"
        )
        url = sa.make_url(books.database.url).set(username=made[-1], password="secret")
        opened[kind] = Database(url.render_as_string(hide_password=False))
    runs.match(opened["plan"], spec, "ann")
    plan = plans.make(opened["plan"], books.workspace, spec, "ann")
    assert plan is not None
    sign_off.approve(opened["review"], books.workspace, plan.plan, "bob")
    applier = Books(opened["apply"], books.workspace, books.shop)
    assert applier.dry_run(plan).changed == ROWS
    assert applier.apply(plan).changed == ROWS
    assert applier.verify(plan).right
    assert applier.revert(plan).state == "reverted"
    for kind in ("plan", "review"):
        with pytest.raises(DatabaseFailed, match="permission denied"):
            execute(opened[kind], "UPDATE recon.outside_changes SET state = 'done'")
    names = [*made, *(f"{prefix}_{kind}" for kind in ("plan", "review", "apply", "owner"))]
    execute(books.database, f"DROP OWNED BY {', '.join(names)} CASCADE", f"DROP ROLE {', '.join(names)}")


def test_a_record_that_holds_what_postgresql_cannot_keep_stops_nobody(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = shop.Target.read

    def half_a_character(self: shop.Target, records: Sequence[str], fields: Sequence[str]) -> Mapping[str, Any]:
        found = dict(read(self, records, fields))
        return found | ({"rec6": {"Lease": "x\ud800y"}} if "rec6" in found else {})

    monkeypatch.setattr(shop.Target, "read", half_a_character)
    plan = books.plan()
    books.shop.records["rec5"]["Lease"] = "a\x00b"
    books.shop.refused = {"rec7": "not \x00 this"}
    dry = books.dry_run(plan)
    assert dry.outside is not None
    with pytest.raises(OutsideLeft) as raised:
        books.apply(plan)
    said = raised.value.outside
    assert said["drifted"] == dry.outside["drifted"] == [
        {"record": "rec5", "message": r"Lease was empty, is a\x00b there"},
        {"record": "rec6", "message": r"Lease was empty, is x\ud800y there"},
    ]  # fmt: skip
    assert said["errors"] == [{"record": "rec7", "message": r"not \x00 this"}]
    assert len(books.linked) == ROWS - 3
    books.intact()


def test_what_was_edited_in_what_is_kept_of_a_record_is_never_sent(books: Books) -> None:
    """A revert gives back what the signed plan says or what stood there, and nothing that somebody put between."""
    plan = books.plan()
    books.apply(plan)
    execute(
        books.database, """UPDATE recon.outside_changes SET before = '{"Lease": "forged"}' WHERE place = 3""",
    )  # fmt: skip
    foreseen = books.revert(plan, execute=False).outside
    assert foreseen is not None
    message = "what is kept of it here was edited, so nobody knows what it held"
    assert foreseen == {
        "restored": ROWS - 1, "kept": 1, "conflicts": [{"record": "rec3", "message": message}],
    }  # fmt: skip
    done = books.revert(plan)
    assert (done.state, books.linked) == ("reverted_with_conflicts", [3])
    assert done.outside == foreseen
    assert {record for record, lease in books.leases.items() if lease is not None} == {"rec3"}
    assert books.leases["rec3"] == "3"


def test_what_is_no_longer_kept_of_a_record_hides_nothing(books: Books) -> None:
    plan = books.plan()
    books.apply(plan)
    execute(books.database, "DELETE FROM recon.outside_changes WHERE place = 3")
    books.shop.records["rec3"]["Lease"] = "mine"
    assert [row["key"] for row in books.verify(plan).rows] == ["shop payments rec3"]
    for execute_it in (False, True):
        with pytest.raises(BundleChanged, match=r"1 records .* no longer kept"):
            books.revert(plan, execute=execute_it)
    assert (books.state(plan), len(books.linked), books.shop.updates.total()) == ("applied", ROWS, ROWS)


def test_a_revert_takes_nothing_from_a_later_plan_that_found_its_values_there(books: Books) -> None:
    half_sent = books.plan()

    class Gone(BaseException):
        """The process is killed."""

    def kill(seam: str) -> None:
        if seam == "outside written":
            raise Gone

    with seams.stopping(kill), pytest.raises(Gone):
        books.apply(half_sent)
    sent = set(books.shop.updates)
    later = books.plan()
    done = books.apply(later).outside
    assert done is not None
    assert (done["already"], len(books.linked)) == (len(sent), ROWS)
    foreseen = books.revert(half_sent, execute=False).outside
    undone = books.revert(half_sent)
    assert (undone.state, undone.outside) == ("reverted_with_conflicts", foreseen)
    assert foreseen is not None
    assert {row["record"] for row in foreseen["conflicts"]} == sent
    assert (books.leases, books.verify(later).right) == (EVERYTHING, True)
    books.intact()


def test_a_record_that_was_written_though_the_system_said_no_is_undone_as_well(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = shop.Target.write

    def says_no(self: shop.Target, edits: Sequence[Edit]) -> Sequence[Answer]:
        return [
            replace(answer, error="no" if answer.record == "rec3" else answer.error) for answer in write(self, edits)
        ]

    monkeypatch.setattr(shop.Target, "write", says_no)
    plan = books.plan()
    books.shop.refused = {"rec4": "no, and it is so"}
    with pytest.raises(OutsideLeft):
        books.apply(plan)
    assert (books.leases["rec3"], books.leases["rec4"]) == ("3", None)
    monkeypatch.undo()
    books.shop.records["rec4"]["Lease"] = "mine"  # nothing of ours
    foreseen = books.revert(plan, execute=False).outside
    done = books.revert(plan)
    assert (done.state, done.outside) == ("reverted", foreseen)
    assert foreseen == {"restored": ROWS - 1, "conflicts": [], "kept": 0}
    assert {record: lease for record, lease in books.leases.items() if lease} == {"rec4": "mine"}
    books.intact()


def test_a_record_of_which_the_system_says_nothing_or_two_things_stops_nobody(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside_send, "PAUSE_SECONDS", 0.001)
    write = shop.Target.write

    def odd(self: shop.Target, edits: Sequence[Edit]) -> Sequence[Answer]:
        answers = write(self, [edit for edit in edits if edit.record != "rec3"])  # passes over rec3
        return [Answer("rec4", "half"), Answer("nobody"), *reversed(answers)]  # two answers about rec4

    monkeypatch.setattr(shop.Target, "write", odd)
    plan = books.plan()
    with pytest.raises(OutsideLeft) as raised:
        books.apply(plan)
    assert raised.value.outside["errors"] == [
        {"record": "rec3", "message": "the system does not say what becomes of it, and it is as it was"},
        {"record": "rec4", "message": "half"},
    ]
    assert set(range(1, ROWS + 1)) - set(books.linked) == {3, 4}
    monkeypatch.setattr(shop.Target, "write", write)
    assert books.apply(plan).changed == ROWS
    assert (books.leases, set(books.shop.updates.values())) == (EVERYTHING, {1})

    def nothing(_target: shop.Target, _edits: Sequence[Edit]) -> Sequence[Answer]:
        return []

    monkeypatch.setattr(shop.Target, "write", nothing)  # one that says nothing at all is not asked on and on
    with pytest.raises(OutsideUnsure):
        books.revert(plan)


def test_two_columns_cannot_be_one_field_outside(books: Books) -> None:
    outside = {"system": "shop", "object": "payments", "record": "shop_id"}
    link = {"column": "lease_id", "also": {"note": "code"}}
    for fields, says in (
        ({"lease_id": "Lease", "note": "Lease"}, "gives two columns to 'Lease'"),
        ({"lease_id": " "}, "a field without a name"),
    ):
        with pytest.raises(ValueError, match=says):
            books.spec(target={"table": "pay", "key": "id", "outside": {**outside, "fields": fields}}, link=link)


def test_what_an_apply_left_here_and_there_is_tried_again_in_few_requests(books: Books) -> None:
    plan = books.plan()
    odd = [f"rec{n}" for n in range(1, ROWS + 1, 2)]  # 13 of 25: no two of them stand side by side
    books.shop.refused = dict.fromkeys(odd, "no")
    with pytest.raises(OutsideLeft):
        books.apply(plan)
    books.shop.refused = {}
    books.shop.faults.requests.clear()
    dry = books.dry_run(plan)
    assert dry.outside is not None
    assert (dry.outside["read"], len(books.shop.faults.requests)) == (len(odd), 2)
    assert books.apply(plan).changed == ROWS
    assert len(books.shop.faults.requests) == 2 + 2 * 2  # two packs, each read and written
    assert (books.leases, set(books.shop.updates.values())) == (EVERYTHING, {1})
    books.intact()


def test_a_row_that_changes_between_a_killed_revert_and_the_next_is_told_as_what_it_is(books: Books) -> None:
    plan = books.plan()
    books.apply(plan)

    class Gone(BaseException):
        """The process is killed."""

    def kill(seam: str) -> None:
        if seam == "outside written":
            raise Gone

    with seams.stopping(kill), pytest.raises(Gone):
        books.revert(plan)
    execute(books.database, "UPDATE pay SET lease_id = 99 WHERE id IN (4, 15)")
    foreseen = books.revert(plan, execute=False).outside
    done = books.revert(plan)
    assert done.outside == foreseen
    assert foreseen is not None
    assert foreseen["conflicts"] == [
        {"record": "rec4", "message": "its row here was changed while the record was given back, so look at both"},
        {"record": "rec15", "message": "its row here was changed since, so it is kept there too"},
    ]
    assert {record: lease for record, lease in books.leases.items() if lease} == {"rec15": "15"}
