"""The list of breaks as a workbook: each with its record and nearest candidate, counted in a summary, whole or not at all."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from recon import workflow
from recon.commands.shared import written
from recon.database.connect import Database
from recon.errors import UsageError
from recon.matching import breaks
from recon.matching import run as runs
from recon.reports import break_list, workbook
from recon.workspace import Workspace
from tests.support import execute, recon, simple_spec

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code

HOSTILE = '=HYPERLINK("http://evil.example","x")'
SPEC = simple_spec(
    show=["t.code", "t.paid", "s.place"],
    passes=[
        {"name": "by_code", "on": {"code": "code"}},
        {"name": "by_place", "on": {"place": "place"}, "accept": "review"},
    ],
    interpret=[{"when": "true", "say": "at {s.place}"}],
)


@pytest.fixture
def data(database: Database) -> Database:
    """1 matches, 2 is proposed, 3 has two equal candidates, 4 has none, 5 no key."""
    execute(
        database,
        "CREATE TABLE pay (id int PRIMARY KEY, code text, place text, paid date, lease_id int)",
        "CREATE TABLE lease (id int PRIMARY KEY, code text, place text)",
        "INSERT INTO lease VALUES (10, 'a', 'x'), (11, 'b', 'y'), (12, 't', 'v'), (13, 't', 'w')",
    )
    with database.session() as session:
        for row in ((1, "a", None), (2, HOSTILE, "y"), (3, "t", None), (4, "-1", "nowhere"), (5, None, None)):
            session.execute("INSERT INTO pay VALUES ($1, $2, $3, '2025-01-31')", *row)
    runs.match(database, SPEC, "ann")
    return database


def sheets(path: Path) -> Any:
    return openpyxl.load_workbook(path)


def test_every_open_break_is_listed_with_its_record_and_its_nearest_candidate(data: Database, tmp_path: Path) -> None:
    breaks.assign(data, "simple", "bob", "ann", ["4"])
    execute(data, "UPDATE recon.breaks SET opened_at = opened_at - interval '9 days' WHERE key = '{5}'")
    assert workbook.write(data, SPEC, tmp_path / "x.xlsx") == 4
    sheet = sheets(tmp_path / "x.xlsx")["Breaks"]
    header, *found = [[cell.value for cell in row] for row in sheet.iter_rows()]
    assert header == [
        "record", "side", "outcome", "reason", "closest pass", "first seen (UTC)", "age (days)", "state", "assignee",
        "code", "paid", "nearest source", "nearest source: place", "what the match means",
    ]  # fmt: skip
    told = {row[0]: [*row[1:5], *row[6:]] for row in found}
    paid = found[0][10]
    assert paid.date() == date(2025, 1, 31)
    review, tie = "a person must confirm", "tie: equally good candidates"
    assert told == {
        5: ["target", "unmatched", "a field it is matched by is empty", "by_code", 9, "open", None, None, paid, None, None, None],
        2: ["target", "proposed", review, "by_place", 0, "open", None, HOSTILE, paid, "11", "y", "at y"],
        3: ["target", "ambiguous", tie, "by_code", 0, "open", None, "t", paid, "12", "v", "at v"],
        4: ["target", "unmatched", "the other side has no such key", "by_code", 0, "assigned", "bob", "-1", paid, None, None, None],
    }  # fmt: skip
    assert found[0][0] == 5  # the oldest first
    assert {cell.data_type for row in sheet.iter_rows(min_row=2) for cell in row} == {"n", "s", "d"}
    summary = [row for row in sheets(tmp_path / "x.xlsx")["Summary"].iter_rows(values_only=True) if row[0]]
    assert ("All breaks", None, 3, 0, 1, 0, 4) in summary
    assert ("the other side has no such key", "✗ unmatched", 1, 0, 0, 0, 1) in summary
    assert ("bob", 1, 0) in [row[:3] for row in summary]


def test_breaks_of_the_other_side_and_of_composite_keys_are_listed(database: Database, tmp_path: Path) -> None:
    execute(
        database,
        "CREATE TABLE pay (org int, id text, code text, PRIMARY KEY (org, id))",
        "CREATE TABLE lease (id int PRIMARY KEY, code text)",
        "INSERT INTO pay VALUES (1, 'a', 'k'), (2, 'a', 'gone')",
        "INSERT INTO lease VALUES (7, 'k'), (8, 'new')",
    )
    spec = simple_spec(
        target={"table": "pay", "key": ["org", "id"]}, link=None, cardinality="one_to_one", show=["t.code", "s.code"],
        passes=[{"name": "by_code", "on": {"code": "code"}}], compare={"code": "code"},
    )  # fmt: skip
    runs.match(database, spec, "ann")
    assert workbook.write(database, spec, tmp_path / "x.xlsx") == 2
    _, *found = [[cell.value for cell in row] for row in sheets(tmp_path / "x.xlsx")["Breaks"].iter_rows()]
    assert {(row[0], row[1], row[2], row[9], row[-1]) for row in found} == {
        ('["2", "a"]', "target", "orphan", "gone", None), (8, "source", "missing", None, "new"),
    }  # fmt: skip


def test_a_workbook_takes_its_name_only_once_it_is_whole(
    data: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.xlsx"
    path.write_bytes(b"what stood there")
    monkeypatch.setattr(break_list, "prepare", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), written(path, "--excel") as half:
        workbook.write(data, SPEC, half)
    with pytest.raises(ZeroDivisionError):
        workbook.in_reports(data, SPEC, tmp_path)
    assert path.read_bytes() == b"what stood there"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UsageError, match="Cannot write"), written(tmp_path / "no" / "x", "--excel"):
        pass


def test_the_commands_write_workbooks(data: Database, workspace: Workspace, tmp_path: Path) -> None:
    text = "name: simple\ntarget: {table: pay, key: id}\nsource: {table: lease, key: id}\nlink: {column: lease_id}\n"
    passes = "passes:\n  - {name: by_code, on: {code: code}}\n"
    (workspace.root / "reconciliations" / "simple.yaml").write_text(text + passes)
    path = tmp_path / "breaks.xlsx"
    ended = recon("breaks", "simple", "--excel", str(path), "--json", "--workspace", str(workspace.root), url=data.url)
    assert (ended.code, ended.json) == (3, {"reconciliation": "simple", "breaks": 4, "excel": str(path)})
    assert sheets(path)["Breaks"].max_row == 5
    ended = recon("report", "simple", "--excel", "--json", "--workspace", str(workspace.root), url=data.url)
    assert ended.code == 0, ended.err
    made = Path(ended.json["report"])
    assert made.parent == workspace.reports
    assert made.suffix == ".xlsx"
    assert sheets(made).sheetnames == ["Summary", "Breaks"]
    again = workflow.workbook(data, workspace, "simple"), workflow.workbook(data, workspace, "simple")
    assert again[0] != again[1]
    assert (
        recon("report", "simple", "--as-of", "2025-01-01", "--workspace", str(workspace.root), url=data.url).code == 2
    )
    assert (
        recon("breaks", "simple", "--excel", str(tmp_path), "--workspace", str(workspace.root), url=data.url).code == 2
    )
