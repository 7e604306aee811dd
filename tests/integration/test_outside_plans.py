"""What of a plan goes outside, where it may go, who may send it, and what is kept of it that nobody may edit."""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import revert as reverting
from recon.backfill import roles, sign_off
from recon.database.connect import Database
from recon.errors import (
    BundleChanged,
    DatabaseFailed,
    NotFound,
    OutsideLeft,
    SchemaMismatch,
    SpecError,
    WrongDatabase,
)
from recon.matching import run as runs
from recon.workspace import Workspace
from tests.books_outside import ROWS, Books
from tests.shop import Shop, installed
from tests.support import ROOT, execute, rows, simple_spec

pytestmark = pytest.mark.one_engine


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


def test_two_columns_cannot_be_one_field_outside(books: Books) -> None:
    outside = {"system": "shop", "object": "payments", "record": "shop_id"}
    link = {"column": "lease_id", "also": {"note": "code"}}
    for fields, says in (
        ({"lease_id": "Lease", "note": "Lease"}, "gives two columns to 'Lease'"),
        ({"lease_id": " "}, "a field without a name"),
    ):
        with pytest.raises(ValueError, match=says):
            books.spec(target={"table": "pay", "key": "id", "outside": {**outside, "fields": fields}}, link=link)
