"""`recon save`: the target's records as a file, which loads again as what it was."""

from __future__ import annotations

import re
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from recon import workflow
from recon.database.connect import Database
from recon.errors import VEIL, MissingExtra, NotLoaded, UsageError
from recon.sources import files
from recon.spec_parts import RecordSet
from recon.workspace import Workspace
from tests.support import execute, recon, rows

pytestmark = pytest.mark.one_engine

SPEC = """\
name: pay
target: {side}
source: {{table: bills, key: nr}}
link: {{column: bill}}
passes: [{{name: code, on: {{code: code}}}}]
"""
SIDE = "{file: bronze/pay.csv, key: id, columns: {id: integer, code: text}}"
KINDS = "id int PRIMARY KEY, bill bigint, code text, paid numeric(14,2), large numeric, at timestamptz, local timestamp, share float8, hour time, on_day date, yes boolean, raw bytea, tags text[]"
ODD = 'é, "a"\n=1+1;\t\\N'


@pytest.fixture
def home(workspace: Workspace, database: Database) -> Workspace:
    """A workspace whose target is a file that was loaded, with a link in it."""
    (workspace.root / "recon.toml").touch()
    (workspace.root / "bronze").mkdir()
    (workspace.root / "reconciliations" / "pay.yaml").write_text(SPEC.format(side=SIDE))
    (workspace.root / "bronze" / "pay.csv").write_text('id,code\n2,""\n1,é\n3,\n')
    execute(database, "CREATE TABLE bills (nr bigint PRIMARY KEY, code text)")
    workflow.load_records(database, workspace, "pay")
    execute(database, "UPDATE bronze.pay SET bill = 70 WHERE id = 2")
    return workspace


def _with_table(database: Database, home: Workspace, more: str = "") -> None:
    """The target is a table with values of many types."""
    execute(database, f"CREATE TABLE pay ({KINDS})")
    with database.session() as session:
        session.execute(
            "INSERT INTO pay VALUES (1, 7, $1, 12.50, 1234567890.12345678901234567890, '2026-01-31 13:45:00.000005+02',"
            " '2026-01-31 13:45:00.000005', 0.1::float8 + 0.2, '09:30:00.5', '2026-01-31', true, '\\xff00', '{a,é}')",
            ODD,
        )
        session.execute("INSERT INTO pay (id, code) VALUES (2, '')")
    side = f"{{table: pay, key: id, date: on_day{more}}}"
    (home.root / "reconciliations" / "pay.yaml").write_text(SPEC.format(side=side))


def test_the_linked_records_go_home_as_csv_and_load_again(database: Database, home: Workspace) -> None:
    saved = recon("save", "pay", "--json", url=database.url, cwd=home.root)
    assert saved.code == 0, saved.err
    path = home.root / "reports" / "pay.csv"
    veiled: list[str] = []
    assert saved.json == {"reconciliation": "pay", "file": str(path), "records": 3, "linked": 1, "veiled": veiled}
    assert path.read_text() == 'id,code,bill\n1,é,\n2,"",70\n3,,\n'
    before = rows(database, "SELECT * FROM bronze.pay ORDER BY id")
    execute(database, "DROP TABLE bronze.pay")
    (home.root / "reconciliations" / "pay.yaml").write_text(SPEC.format(side=SIDE.replace("bronze/", "reports/")))
    workflow.load_records(database, home, "pay")
    assert rows(database, "SELECT * FROM bronze.pay ORDER BY id") == before
    said = recon("save", "pay", "--to", "out.csv", url=database.url, cwd=home.root)
    assert said.out == "Saved 3 records, 1 of them linked, to out.csv.\n"


def test_a_file_that_a_spec_reads_is_never_written_over(database: Database, home: Workspace) -> None:
    before = (home.root / "bronze" / "pay.csv").read_text()
    (home.root / "link.csv").symlink_to("bronze/pay.csv")
    (home.root / "reconciliations" / "broken.yaml").write_text("name: [")
    for name in ("bronze/pay.csv", "bronze/../bronze/pay.csv", "link.csv"):
        refused = recon("save", "pay", "--to", name, "--json", url=database.url, cwd=home.root)
        assert (refused.code, refused.json["what"]) == (2, f"{name} is what pay is loaded from.")
    assert (home.root / "bronze" / "pay.csv").read_text() == before


def test_a_csv_is_written_as_the_target_s_own_file_is(database: Database, home: Workspace) -> None:
    side = SIDE.replace("key: id", "key: id, encoding: cp1252, delimiter: ;")
    (home.root / "reconciliations" / "pay.yaml").write_text(SPEC.format(side=side))
    path = Path(workflow.save(database, home, "pay").file)
    assert path.read_bytes() == 'id;code;bill\n1;é;\n2;"";70\n3;;\n'.encode("cp1252")
    execute(database, "UPDATE bronze.pay SET code = '𝄞' WHERE id = 3")
    with pytest.raises(UsageError, match="cannot be written in cp1252") as refused:
        workflow.save(database, home, "pay")
    assert refused.value.why == 'It has no "𝄞".'
    assert path.read_bytes().endswith(b"3;;\n")  # what was there is still whole


@pytest.mark.parametrize("ending", ["csv", "parquet", "xlsx"])
def test_every_value_comes_back(database: Database, home: Workspace, ending: str) -> None:
    """Whatever kind of file it is: saved and loaded with the same types, the records are the same."""
    _with_table(database, home)
    saved = workflow.save(database, home, "pay", home.root / f"saved.{ending}")
    assert (saved.records, saved.linked) == (2, 1)
    kinds = dict(re.findall(r"(\w+) ([^ ]+?)(?: PRIMARY KEY)?(?:, |$)", KINDS))
    back = RecordSet.model_validate({"file": f"saved.{ending}", "key": "id", "into": "back", "columns": kinds})
    files.load(database, home.root, back)
    names = ", ".join(back.columns)
    expected = rows(database, f"SELECT {names} FROM pay ORDER BY id")
    if ending == "xlsx":  # a sheet knows no empty text beside nothing at all
        execute(database, "UPDATE back SET code = '' WHERE id = 2")
    assert rows(database, f"SELECT {names} FROM back ORDER BY id") == expected
    if ending == "parquet":
        plain = RecordSet.model_validate({"file": "saved.parquet", "key": "id", "into": "plain"})
        files.load(database, home.root, plain)
        found = rows(database, "SELECT id, bill, code, paid, at, on_day, yes, raw FROM plain WHERE id = 1")
        moment = datetime(2026, 1, 31, 11, 45, 0, 5, UTC)
        assert found == [(1, 7, ODD, Decimal("12.50"), moment, date(2026, 1, 31), True, b"\xff\x00")]


def test_private_columns_are_veiled(database: Database, home: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_table(database, home, ", private: [code, paid]")
    for ending in ("csv", "parquet", "xlsx"):
        path = home.root / f"saved.{ending}"
        saved = workflow.save(database, home, "pay", path)
        assert saved.veiled == ("code", "paid")
        side = RecordSet.model_validate({"file": path.name, "key": "id", "into": ending})
        files.load(database, home.root, side)
        found = rows(database, f"SELECT code, paid FROM {ending} ORDER BY id")
        assert found == [(VEIL, VEIL), (VEIL, None)]  # an empty text is a value
    (home.root / "recon.toml").write_text('[private]\nseen_by = ["ann"]\n')
    monkeypatch.setenv("RECON_USER", "ann")
    monkeypatch.setenv("RECON_SHOW_PRIVATE", "1")
    assert workflow.save(database, Workspace(home.root), "pay", home.root / "seen.csv").veiled == ()
    assert "12.50" in (home.root / "seen.csv").read_text()


def test_the_library_of_a_file_is_asked_for_before_work_starts(
    database: Database, home: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra) as error:
        workflow.save(database, home, "pay", home.root / "pay.parquet")
    assert error.value.what == "The file pay.parquet needs pyarrow, which is not installed."


def test_what_cannot_be_saved_is_said(database: Database, home: Workspace) -> None:
    def refused(to: str, kind: type[Exception] = UsageError) -> Any:
        with pytest.raises(kind) as error:
            workflow.save(database, home, "pay", home.root / to)
        return error.value

    assert "recon does not write files like pay.xls." in refused("pay.xls").what
    assert "Cannot write" in refused("nowhere/pay.csv").what
    assert refused("nowhere/pay.csv").why == f"There is no folder {home.root / 'nowhere'}."
    execute(database, "DROP TABLE bronze.pay")
    assert "were not loaded yet" in refused("pay.csv", NotLoaded).what
    _with_table(database, home)
    execute(database, "UPDATE pay SET on_day = 'infinity'")
    assert 'The column "on_day" holds what Parquet cannot' in refused("pay.parquet").what
    assert not (home.root / "pay.parquet").exists()
