"""`recon load`: what the sides of a spec, or of each spec of a group, take from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from recon import workflow
from recon.commands import match as commands
from recon.database.connect import Database
from recon.errors import BadRows, LoadFailed, NotFound, NotLoaded, UsageError
from recon.matching import check as checking
from recon.workspace import Workspace
from tests.support import execute, recon, rows, simple_spec

pytestmark = pytest.mark.one_engine

SPEC = """\
name: {name}
group: pair
population: source
target: {{table: {name}_target, key: id}}
source: {{file: bronze/{name}.csv, key: id, columns: {{id: integer, code: text}}}}
cardinality: one_to_one
passes: [{{name: code, on: {{code: code}}}}]
compare: {{code: code}}
"""


@pytest.fixture
def home(workspace: Workspace, database: Database) -> Workspace:
    """A group of two reconciliations, with the file of each, and the tables of their targets."""
    (workspace.root / "recon.toml").touch()
    (workspace.root / "bronze").mkdir()
    for name in ("first", "second"):
        (workspace.root / "reconciliations" / f"{name}.yaml").write_text(SPEC.format(name=name))
        (workspace.root / "bronze" / f"{name}.csv").write_text(f"id,code\n1,{name}\n2,b\n")
        execute(database, f"CREATE TABLE {name}_target (id int PRIMARY KEY, code text)")
        execute(database, f"INSERT INTO {name}_target VALUES (10, '{name}')")
    return workspace


def test_the_command_loads_one_or_a_group_and_says_what_is_wrong(database: Database, home: Workspace) -> None:
    """CRM-07, CRM-08: bronze files load by command, one object or all."""
    loaded = recon("load", "pair", "--json", url=database.url, cwd=home.root)
    assert loaded.code == 0, loaded.err
    assert loaded.json == {"reconciliation": "pair", "tables": {"bronze.first": 2, "bronze.second": 2}}
    (home.root / "bronze" / "first.csv").write_text("id,code\nx,a\n")
    refused = recon("load", "first", "--json", url=database.url, cwd=home.root)
    assert (refused.code, refused.json["error"], refused.json["count"]) == (1, BadRows.__name__, 1)
    assert refused.json["rows"] == [{"line": 2, "wrong": 'id: invalid input syntax for type integer: "x"'}]
    assert "line 2: id: invalid input" in refused.err
    assert rows(database, "SELECT count(*) FROM bronze.first") == [(2,)]


def test_one_that_fails_does_not_keep_the_others_from_being_loaded(database: Database, home: Workspace) -> None:
    (home.root / "bronze" / "first.csv").unlink()
    with pytest.raises(LoadFailed) as failed:
        workflow.load_records(database, home, "pair")
    assert failed.value.what == "1 of 2 tables were not loaded: bronze.first."
    assert "There is no file bronze/first.csv" in failed.value.why
    assert "bronze.second (2)" in failed.value.todo
    with pytest.raises(NotFound):
        workflow.load_records(database, home, "first")
    with pytest.raises(NotFound):
        workflow.load_records(database, home, "third")


def test_an_absent_file_is_told_where_its_records_are_needed(database: Database, home: Workspace) -> None:
    """CRM-07: the bronze side is optional; without it there is one clear word."""
    (home.root / "bronze" / "first.csv").unlink()
    with pytest.raises(NotLoaded) as absent:
        workflow.match(database, home, home.spec("first"), "ann")
    assert "There is no file bronze/first.csv in the workspace either." in absent.value.why
    assert absent.value.todo == "Put it there and load it: `recon load first`."
    with pytest.raises(NotLoaded) as unchecked:
        checking.check(database, home.spec("first"))
    assert unchecked.value.what == "The records of bronze/first.csv were not loaded yet."
    assert unchecked.value.todo == "Load them: `recon load first`."
    assert rows(database, "SELECT to_regclass('staging.reconciliation_log')::text") == [(None,)]


def test_what_is_loaded_is_matched(database: Database, home: Workspace) -> None:
    steps: list[str] = []
    far: list[tuple[int, int]] = []
    workflow.load_records(database, home, "first", step=steps.append, progress=lambda *how: far.append(how))
    size = (home.root / "bronze" / "first.csv").stat().st_size
    assert (steps, far) == (["bronze/first.csv"], [(size, size)])
    assert workflow.match(database, home, home.spec("first"), "ann").outcomes == {"same": 1, "missing": 1}
    assert checking.check(database, home.spec("first")).profile.source.records == 2


def test_days_are_for_outside_systems(database: Database, home: Workspace) -> None:
    from datetime import date

    with pytest.raises(UsageError) as refused:
        workflow.load_records(database, home, "pair", date(2026, 1, 1))
    assert "bronze/first.csv, bronze/second.csv is loaded whole" in refused.value.what


def test_tables_need_no_loading_and_a_sample_is_offered_where_there_is_one(home: Workspace) -> None:
    with pytest.raises(UsageError) as offered:
        commands._something_to_load(home, ["rent_payments"])
    assert "`recon load rent_payments --sample` makes" in offered.value.todo
    (home.root / "reconciliations" / "mine.yaml").write_text(
        SPEC.format(name="mine").replace("file: bronze/mine.csv", "table: x").replace(", columns: {id: integer, code: text}", "")
    )  # fmt: skip
    with pytest.raises(UsageError) as plain:
        commands._something_to_load(home, ["mine"])
    assert "--sample" not in plain.value.todo


def test_a_file_without_a_schema_of_its_own_lands_where_the_spec_says(database: Database, tmp_path: Path) -> None:
    from recon.sources import files

    (tmp_path / "a.csv").write_text("id\n1\n")
    side = {"file": "a.csv", "key": "id", "into": '"odd.schema"."odd ""name"'}
    files.load(database, tmp_path, simple_spec(source=side).source)
    assert rows(database, 'SELECT id FROM "odd.schema"."odd ""name"') == [("1",)]
    files.load(database, tmp_path, simple_spec(source={**side, "into": "plain"}).source)
    assert rows(database, "SELECT id FROM public.plain") == [("1",)]
