"""Parquet files and workbooks as typed tables: what a value becomes, what is refused and on which row."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import xlsxwriter
from pydantic import ValidationError

from recon import extras
from recon.database.connect import Database
from recon.errors import BadRows, LoadFailed, MissingExtra, ReconError, SpecError
from recon.sources import files, landing, opened
from recon.spec import Reconciliation
from recon.spec_parts import RecordSet
from tests.support import rows, simple_spec

pytestmark = pytest.mark.one_engine

Loads = Callable[..., landing.Loaded]
KINDS = "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'bronze.t'::regclass AND attnum > 0 AND NOT attisdropped"


@pytest.fixture
def load(database: Database, tmp_path: Path) -> Loads:
    """Load the file t of this ending, which is in the workspace."""

    def loaded(ending: str, **fields: Any) -> landing.Loaded:
        specs: Sequence[Reconciliation] = fields.pop("specs", ())
        side = RecordSet.model_validate({"file": f"t.{ending}", "key": "id"} | fields)
        return files.load(database, tmp_path, side, specs=specs)

    return loaded


@pytest.fixture
def book(tmp_path: Path) -> Callable[..., None]:
    """Write a workbook: the rows of each sheet. A pair is a number and how Excel shows it; what begins with = a formula."""

    def written(**sheets: list[list[Any]]) -> None:
        with xlsxwriter.Workbook(str(tmp_path / "t.xlsx")) as made:
            for name, lines in sheets.items():
                sheet = made.add_worksheet(name)
                for row, line in enumerate(lines):
                    for column, cell in enumerate(line):
                        if isinstance(cell, tuple):
                            sheet.write(row, column, cell[0], made.add_format({"num_format": cell[1]}))
                        elif isinstance(cell, str) and cell.startswith("="):
                            sheet.write_formula(row, column, "=1", None, cell[1:])
                        elif cell is not None:
                            sheet.write(row, column, cell)

    return written


def _refused(load: Loads, kind: type[ReconError], ending: str, **fields: Any) -> Any:
    with pytest.raises(kind) as refused:
        load(ending, **fields)
    return refused.value


# -- workbooks -------------------------------------------------------------------------------------------


def test_a_cell_becomes_what_its_author_means(database: Database, load: Loads, book: Callable[..., None]) -> None:
    """12.0 is 12, what a binary fraction adds is left out, days and times are ISO, and an empty cell is NULL."""
    day, moment = (date(2026, 1, 31), "dd/mm/yy"), (datetime.fromisoformat("2026-01-31 13:45:30"), "dd/mm/yyyy hh:mm")
    cells = {
        "12": 12.0, "0.3": 0.1 + 0.2, "0.0000001": 1e-7, "1234567890123456": 1234567890123456,
        "100000000000000000000": 1e20, "0": -0.0, "0.125": (0.125, "0.0%"), "-12.5": (-12.5, '"R$" #,##0.00'),
        "2026-01-31": day, "2026-01-31 13:45:30": moment, "13:45:00": (time(13, 45), "hh:mm"),
        "36:00:00": (timedelta(hours=36), "[h]:mm:ss"), "true": True, "false": False, "007": "007", "#N/A": "#N/A",
        " a\nb ": " a\nb ", "of a formula": "=of a formula", "é 𝄞 _x000D_": "é 𝄞 _x000D_",
    }  # fmt: skip
    lines = [[text, cell, None] for text, cell in cells.items()]
    book(One=[["id", "v", "w"], *lines, [None, None, None], ["none", None, ""]], Two=[["id"], ["x"]])
    assert load("xlsx").rows == len(cells) + 1
    assert dict(rows(database, "SELECT id, v FROM bronze.t")) == {text: text for text in cells} | {"none": None}


def test_typed_columns_of_a_workbook_are_judged_by_their_rows(
    database: Database, load: Loads, book: Callable[..., None]
) -> None:
    columns = {"id": "integer", "paid": "numeric(14,2)", "on": "date"}
    day = (date(2026, 1, 31), "yyyy-mm-dd")
    good = [[1.0, 3 * 1.1, day], [2, "1.50", "2026-02-01"], [3, None, None]]
    book(One=[["id", "paid", "on"], *good])
    load("xlsx", columns=columns)
    assert rows(database, "SELECT * FROM bronze.t ORDER BY id") == [
        (1, Decimal("3.30"), date(2026, 1, 31)), (2, Decimal("1.50"), date(2026, 2, 1)), (3, None, None)
    ]  # fmt: skip
    bad = [[1.5, 1, day], [4, 1.005, None], [], [5, "=#N/A", None], [6, "=#DIV/0!", "soon"], [1, 1, (1.5, "hh:mm")]]
    book(One=[["id", "paid", "on"], *good, *bad])
    error = _refused(load, BadRows, "xlsx", columns=columns)
    assert list(error.rows) == [
        (5, 'id: invalid input syntax for type integer: "1.5"'),
        (6, 'paid: numeric(14,2) would lose decimals: "1.005"'),
        (8, "paid: the cell holds the error #N/A"),
        (9, "paid: the cell holds the error #DIV/0!"),
        (10, 'on: date would lose the time of day: "1900-01-01 12:00:00"'),
        (10, 'id: the key "1" stands on row 2 already'),
    ]
    assert "\nrow 6: paid" in error.why
    assert rows(database, "SELECT count(*) FROM bronze.t") == [(3,)]


def test_sheets_headings_and_what_lies_around_them(database: Database, load: Loads, book: Callable[..., None]) -> None:
    blank: list[Any] = []
    book(
        First=[blank, [None, "id", None, "v", None], [None, 1, None, "a", None], blank, [None, 2, None, "b", None]],
        Second=[["v", 2024, "id"], ["x", 5, "k"]],
        Empty=[blank],
        Open=[["id", None], [1, "of nothing"]],
    )
    load("xlsx")
    assert rows(database, "SELECT * FROM bronze.t ORDER BY id") == [("1", "a"), ("2", "b")]
    load("xlsx", sheet="Second")
    assert rows(database, 'SELECT id, v, "2024" FROM bronze.t') == [("k", "x", "5")]
    assert "heading 2 is empty" in _refused(load, SpecError, "xlsx", sheet="Open").what
    assert "the sheet Empty is empty" in _refused(load, LoadFailed, "xlsx", sheet="Empty").what
    assert _refused(load, SpecError, "xlsx", sheet="second").why == 'Did you mean "Second"?'


def test_what_is_no_workbook_is_said(load: Loads, tmp_path: Path) -> None:
    for ending, content in (("xlsx", b"id\n1\n"), ("xls", b"\xd0\xcf\x11\xe0 cut off"), ("ods", b"PK\x03\x04")):
        (tmp_path / f"t.{ending}").write_bytes(content)
        error = _refused(load, LoadFailed, ending)
        assert f"t.{ending} cannot be read as a workbook; nothing was loaded." in error.what
        assert error.why
        assert error.todo


def test_a_cell_far_outside_the_others_does_not_fill_the_memory(load: Loads, tmp_path: Path) -> None:
    """The library would end the process: it makes room for every cell between the corners."""
    with xlsxwriter.Workbook(str(tmp_path / "t.xlsx")) as made:
        sheet = made.add_worksheet("One")
        sheet.write_row(0, 0, ["id", "v"])
        sheet.write(1_048_575, 16_383, "x")
    error = _refused(load, LoadFailed, "xlsx")
    assert error.what == "t.xlsx: the sheet One reaches to row 1,048,576 and column 16,384."


def test_names_that_are_no_plain_words_stay_what_they_are(database: Database, load: Loads, tmp_path: Path) -> None:
    names = ['a"; DROP TABLE t; --', "a.b", "%s $1 {x}", "é 𝄞", "line\nbreak"]
    _parquet(tmp_path, id=[1], **{name: [name] for name in names})
    spec = simple_spec(
        target={"file": "t.parquet", "key": "id", "columns": {"id": "int", **dict.fromkeys(names, "text")}},
        source={"file": "s.csv", "key": "nr", "columns": {"nr": "int"}},
        link={"column": 'l"ink; --'},
    )
    load("parquet", columns=spec.target.columns, specs=[spec])
    assert list(dict(rows(database, KINDS))) == ["id", *names, 'l"ink; --']
    assert rows(database, "SELECT * FROM bronze.t") == [(1, *names, None)]
    _parquet(tmp_path, id=[1], **{"x" * 64: [1]})
    assert "64 bytes long" in _refused(load, SpecError, "parquet").what


def test_an_open_document_loads_too(database: Database, load: Loads, tmp_path: Path) -> None:
    names = ("office", "table", "text", "manifest")
    office, table, text, manifest = (f"urn:oasis:names:tc:opendocument:xmlns:{name}:1.0" for name in names)

    def cell(kind: str, value: str, shown: str = "") -> str:
        name = {"float": "value", "date": "date-value", "string": "string-value"}[kind]
        return f'<table:table-cell office:value-type="{kind}" office:{name}="{value}"><text:p>{shown or value}</text:p></table:table-cell>'

    lines = [
        [("string", "id"), ("string", "on")],
        [("float", "7"), ("date", "2026-01-31")],
        [("float", "8.5"), ("string", "é")],
    ]
    body = "".join(f"<table:table-row>{''.join(cell(*item) for item in line)}</table:table-row>" for line in lines)
    content = f'<?xml version="1.0"?><office:document-content xmlns:office="{office}" xmlns:table="{table}" xmlns:text="{text}"><office:body><office:spreadsheet><table:table table:name="One">{body}</table:table></office:spreadsheet></office:body></office:document-content>'
    with zipfile.ZipFile(tmp_path / "t.ods", "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("META-INF/manifest.xml", f'<manifest:manifest xmlns:manifest="{manifest}"/>')
        archive.writestr("content.xml", content)
    load("ods")
    assert rows(database, "SELECT * FROM bronze.t ORDER BY id") == [("7", "2026-01-31"), ("8.5", "é")]


# -- Parquet ---------------------------------------------------------------------------------------------


def _parquet(folder: Path, groups: int = 2, **columns: Any) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    parquet.write_table(arrow.table(columns), folder / "t.parquet", row_group_size=groups)


def test_parquet_brings_its_types(database: Database, load: Loads, tmp_path: Path) -> None:
    import pyarrow as arrow

    zone = arrow.timestamp("us", "America/Sao_Paulo")
    moment = datetime.fromisoformat("2026-01-31 13:45:30.000005")
    given: dict[str, tuple[Any, Any, str, Any]] = {
        "id": ([1, 2, 3], arrow.int64(), "bigint", 1),
        "small": ([7, None, 8], arrow.uint8(), "smallint", 7),
        "large": ([2**64 - 1, None, 0], arrow.uint64(), "numeric(20,0)", Decimal(2**64 - 1)),
        "paid": ([Decimal("12.50"), None, None], arrow.decimal128(14, 2), "numeric(14,2)", Decimal("12.50")),
        "share": ([1e20, None, 0.5], arrow.float64(), "double precision", 1e20),
        "yes": ([True, None, False], arrow.bool_(), "boolean", True),
        "name": (["é, \"a\"\n\\N\t", None, ""], arrow.string(), "text", "é, \"a\"\n\\N\t"),
        "kind": (arrow.array(["b", None, "b"]).dictionary_encode(), None, "text", "b"),
        "on": ([date(2026, 1, 31), None, None], arrow.date32(), "date", date(2026, 1, 31)),
        "at": ([moment, None, None], arrow.timestamp("us"), "timestamp without time zone", moment),
        "when": ([moment, None, None], zone, "timestamp with time zone", moment.replace(tzinfo=UTC)),
        "nine": ([moment, None, None], arrow.timestamp("ns"), "timestamp without time zone", moment),
        "hour": ([time(9, 30), None, None], arrow.time64("us"), "time without time zone", time(9, 30)),
        "long": ([timedelta(hours=36), None, None], arrow.duration("us"), "interval", timedelta(hours=36)),
        "raw": ([b"\xff\x00", None, None], arrow.binary(), "bytea", b"\xff\x00"),
        "tags": ([["a", "é"], None, []], arrow.list_(arrow.string()), "jsonb", ["a", "é"]),
        "of": ([{"x": 1}, None, None], arrow.struct({"x": arrow.int32()}), "jsonb", {"x": 1}),
        "uuid": ([UUID(int=5).bytes, None, None], arrow.uuid(), "uuid", UUID(int=5)),
        "nothing": ([None, None, None], arrow.null(), "text", None),
    }  # fmt: skip
    _parquet(tmp_path, **{n: v if k is None else arrow.array(v, k) for n, (v, k, _, _) in given.items()})
    assert load("parquet").rows == 3
    assert dict(rows(database, KINDS)) == {name: kind for name, (_, _, kind, _) in given.items()}
    assert dict(zip(given, rows(database, "SELECT * FROM bronze.t WHERE id = 1")[0], strict=True)) == {
        name: value for name, (_, _, _, value) in given.items()
    }
    assert rows(database, "SELECT name, tags FROM bronze.t WHERE id > 1 ORDER BY id") == [(None, None), ("", [])]
    load("parquet", columns={"id": "text", "on": "timestamp"})
    assert rows(database, 'SELECT id, "on" FROM bronze.t ORDER BY id LIMIT 1') == [
        ("1", datetime.fromisoformat("2026-01-31"))
    ]


def test_what_postgresql_cannot_keep_of_a_parquet_file_is_told_by_row(load: Loads, tmp_path: Path) -> None:
    import pyarrow as arrow

    _parquet(
        tmp_path,
        id=[1, 2, None, 1, 5],
        name=arrow.array([b"a", b"b\x00", b"c", b"d", b"\xff"]).view(arrow.string()),
        at=arrow.array([1_000, 0, 0, 1_001, 0], arrow.timestamp("ns")),
    )
    error = _refused(load, BadRows, "parquet")
    assert list(error.rows) == [
        (2, "name: it holds a NUL, which no text of PostgreSQL can"),
        (3, "id: the key is empty"),
        (4, "at: it would lose nanoseconds, which PostgreSQL does not keep"),
        (5, "name: it is no UTF-8"),
    ]
    assert error.count == 4
    assert "\nrow 3: id: the key is empty" in error.why
    (tmp_path / "t.parquet").write_bytes((tmp_path / "t.parquet").read_bytes()[:-20])
    assert "cannot be read as Parquet" in _refused(load, LoadFailed, "parquet").what


def test_a_link_of_a_parquet_file_or_a_workbook_is_read_and_kept(
    database: Database, load: Loads, tmp_path: Path, book: Callable[..., None]
) -> None:
    side = {"file": "t.parquet", "key": "id", "columns": {"id": "integer"}}
    source = {"file": "s.csv", "key": "id", "columns": {"id": "bigint"}}
    spec = simple_spec(target=side, source=source)
    _parquet(tmp_path, id=[1, 2], lease_id=[None, 7], more=["a", "b"])
    load("parquet", columns={"id": "integer"}, specs=[spec])
    assert dict(rows(database, KINDS)) == {"id": "integer", "lease_id": "bigint"}
    book(One=[["id"], [1], [2]])
    loaded = load("xlsx", columns={"id": "integer"}, specs=[spec])
    assert loaded.links is not None
    assert loaded.links.kept == 1
    assert rows(database, "SELECT id, lease_id FROM bronze.t ORDER BY id") == [(1, None), (2, 7)]


def test_memory_stays_bounded_while_a_parquet_file_is_read(load: Loads, tmp_path: Path) -> None:
    import tracemalloc

    names = [f"a text of a certain length, and more of it {n}" for n in range(60_000)]
    _parquet(tmp_path, groups=30_000, id=list(range(60_000)), name=names)
    tracemalloc.start()
    try:
        load("parquet")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < sum(map(len, names)) * 1.2  # as Python's own texts they would take more than twice that


# -- before anything is read -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"file": "a.parquet", "delimiter": ";"}, "encoding and delimiter go with a text file"),
        ({"file": "a.XLSX", "encoding": "cp1252"}, "encoding and delimiter go with a text file"),
        ({"file": "a.csv", "sheet": "One"}, "sheet goes with a workbook"),
        ({"table": "a", "sheet": "One"}, "sheet goes with a workbook"),
    ],
)
def test_what_does_not_go_with_a_kind_of_file_is_said(fields: dict[str, str], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        RecordSet.model_validate({"key": "id"} | fields)


def test_two_files_that_would_share_a_table_are_refused() -> None:
    """The second would take the place of the first."""
    sides: dict[str, Any] = {
        "target": {"file": "a/pay.csv", "key": "id"},
        "source": {"file": "b/pay.xlsx", "key": "id"},
    }
    with pytest.raises(ValidationError, match=r"both sides would be loaded into bronze\.pay"):
        simple_spec(**sides)
    sides["source"]["into"] = "bronze.other"
    simple_spec(**sides)


def test_a_sheet_is_part_of_the_rules_and_specs_without_one_stay_what_they_were() -> None:
    side = {"file": "a.xlsx", "key": "id"}
    assert simple_spec(source=side).digest != simple_spec(source=side | {"sheet": "One"}).digest
    assert "sheet" not in simple_spec().canonical()


def test_a_library_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (("pyarrow", "t.parquet"), ("python_calamine", "t.xlsx")):
        with monkeypatch.context() as patched:
            patched.setitem(__import__("sys").modules, module, None)
            with pytest.raises(MissingExtra) as missing:
                opened.library(module, name)
        assert f"The file {name} needs {module}" in missing.value.what
        assert f'pip install "{extras.PACKAGE}[files]"' in missing.value.todo
