"""CSV files as typed tables: what a field means, what is no record and on which line, and all or nothing."""

from __future__ import annotations

import datetime
import gzip
import io
import random
import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from recon.database.connect import Database
from recon.drafting import sniffing
from recon.errors import (
    VEIL,
    AlreadyExists,
    BadRows,
    LoadFailed,
    Locked,
    NotFound,
    ReconError,
    SchemaMismatch,
    SpecError,
)
from recon.sources import delimited, files, landing
from recon.sources.delimited import Broken
from recon.spec_parts import RecordSet
from tests.support import execute, rows

COLUMNS = {"Comp_CompanyId": "integer", "Comp_Name": "text", "Comp_Revenue": "numeric(14,2)", "Comp_Since": "date"}
HEADING = "Comp_CompanyId,Comp_Name,Comp_Revenue,Comp_Since\n"
LIST = "SELECT * FROM bronze.company ORDER BY 1"

Loads = Callable[..., landing.Loaded]


@pytest.fixture
def load(database: Database, tmp_path: Path) -> Loads:
    """Write a file of companies and load it."""

    def loaded(content: str | bytes, **fields: Any) -> landing.Loaded:
        path = tmp_path / "bronze" / "Bronze_Company.csv"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode(fields.get("encoding", "utf-8")))
        usual = {"file": "bronze/Bronze_Company.csv", "key": "Comp_CompanyId", "columns": COLUMNS}
        return files.load(database, tmp_path, RecordSet.model_validate(usual | fields))

    return loaded


def _refused(load: Loads, content: str | bytes, kind: type[ReconError] = BadRows, **fields: Any) -> Any:
    with pytest.raises(kind) as refused:
        load(content, **fields)
    return refused.value


# -- what a file becomes ---------------------------------------------------------------------------------


def test_a_file_becomes_a_typed_table_with_the_names_as_they_are(database: Database, load: Loads) -> None:
    """CRM-07: Bronze CSVs load into Postgres as typed tables with COPY."""
    loaded = load(
        HEADING + '1,"Bödecker, ""Söhne""\nGmbH",12.50,2024-01-31\n2,,,\n\n3,"",-0.1,1999-12-31',
    )
    assert (loaded.table, loaded.rows) == ("bronze.company", 3)
    assert rows(database, LIST) == [
        (1, 'Bödecker, "Söhne"\nGmbH', Decimal("12.50"), datetime.date(2024, 1, 31)),
        (2, None, None, None),
        (3, "", Decimal("-0.10"), datetime.date(1999, 12, 31)),
    ]
    kinds = "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'bronze.company'::regclass AND attnum > 0 AND NOT attisdropped"
    assert dict(rows(database, kinds)) == COLUMNS


@pytest.mark.one_engine
def test_without_columns_all_are_text_and_others_are_left_out(database: Database, load: Loads) -> None:
    load("Comp_CompanyId,odd name,x\n007,a,\n", columns={})
    assert rows(database, 'SELECT "Comp_CompanyId", "odd name", x FROM bronze.company') == [("007", "a", None)]
    load("x,Comp_Name,Comp_CompanyId\n1,a,2\n", columns={"Comp_CompanyId": "bigint", "Comp_Name": "text"})
    assert rows(database, LIST) == [(2, "a")]


@pytest.mark.one_engine
@pytest.mark.parametrize(
    ("content", "fields"),
    [
        ("\ufeffComp_CompanyId,Comp_Name\r\n1,é\r\n".encode(), {}),
        ('\ufeff"Comp_CompanyId","Comp_Name"\r\n"1","é"\r\n'.encode(), {}),  # as Excel and SQL Server write it
        (
            '\ufeff"Comp_CompanyId";"Comp_Name"\n"1";"é"\n'.encode("utf-16-le"),
            {"encoding": "utf-16-le", "delimiter": ";"},
        ),
        ("Comp_CompanyId,Comp_Name\r1,é\r".encode(), {}),
        ("Comp_CompanyId;Comp_Name\n1;é\n".encode("cp1252"), {"encoding": "cp1252", "delimiter": ";"}),
        ("Comp_CompanyId\tComp_Name\n1\té\n".encode("utf-16"), {"encoding": "utf-16", "delimiter": "\t"}),
    ],
)
def test_marks_line_ends_encodings_and_delimiters(
    database: Database, load: Loads, content: bytes, fields: dict[str, str]
) -> None:
    load(content, columns={"Comp_CompanyId": "integer", "Comp_Name": "text"}, **fields)
    assert rows(database, LIST) == [(1, "é")]


@pytest.mark.one_engine
def test_whatever_text_a_program_wrote_comes_back(database: Database, load: Loads) -> None:
    import csv

    draw = random.Random(6)
    pieces = ["a", "é", '"', ",", "\n", "\r\n", "\\", "\\.", "\t", " ", "\\N", "'", "\u2028", "𝄞", "$1", "%s", "\x0b"]
    texts = ["".join(draw.choices(pieces, k=draw.randint(0, 8))) for _ in range(2000)]
    texts += ["\\.", "\n\\.\n", '"\n\\.\n"']
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(["Comp_CompanyId", "Comp_Name"])
    writer.writerows(enumerate(texts))
    load(out.getvalue(), columns={"Comp_CompanyId": "integer", "Comp_Name": "text"})
    assert [row[1] for row in rows(database, LIST)] == texts


@pytest.mark.one_engine
def test_a_load_replaces_all_and_keeps_the_table_its_rights_and_its_indexes(database: Database, load: Loads) -> None:
    load(HEADING + "1,a,,\n2,b,,\n")
    about = "SELECT 'bronze.company'::regclass::oid::text, relacl::text, (SELECT count(*) FROM pg_index WHERE indrelid = oid) FROM pg_class WHERE oid = 'bronze.company'::regclass"
    execute(database, "GRANT SELECT ON bronze.company TO public", 'CREATE INDEX ON bronze.company ("Comp_Name")')
    execute(database, "CREATE VIEW looked_at AS SELECT * FROM bronze.company")
    before = rows(database, about)
    load(HEADING + "2,c,,\n")
    assert rows(database, LIST) == [(2, "c", None, None)]
    assert rows(database, about) == before
    assert before[0][2] == 2  # the one of the key, and ours
    load(HEADING)
    assert rows(database, LIST) == []
    assert rows(database, "SELECT reltuples >= 0 FROM pg_class WHERE oid = 'bronze.company'::regclass") == [(True,)]


@pytest.mark.one_engine
def test_others_read_the_former_records_until_the_new_ones_are_whole(
    database: Database, load: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CRM-07: nothing is half-loaded."""
    load(HEADING + "1,a,,\n")
    seen: list[Any] = []
    filled = files._filled

    def looked_at(*arguments: Any) -> Any:
        number = filled(*arguments)
        with database.session(read_only=True) as session:  # a connection of its own, before the commit
            session.execute("SET LOCAL lock_timeout = '1s'")
            seen.append(session.rows(LIST))
        return number

    monkeypatch.setattr(files, "_filled", looked_at)
    load(HEADING + "2,b,,\n3,c,,\n")
    assert seen == [[(1, "a", None, None)]]
    assert len(rows(database, LIST)) == 2


@pytest.mark.one_engine
def test_columns_that_changed_are_altered_unless_something_hangs_on_them(database: Database, load: Loads) -> None:
    load(HEADING + "1,a,2.5,\n")
    execute(database, "GRANT SELECT ON bronze.company TO public")
    load("Comp_CompanyId,Comp_Revenue,New\nx1,3,t\n", columns={"Comp_CompanyId": "text", "Comp_Revenue": "bigint", "New": "boolean"})  # fmt: skip
    assert rows(database, 'SELECT "Comp_CompanyId", "Comp_Revenue", "New" FROM bronze.company') == [("x1", 3, True)]
    assert rows(database, "SELECT relacl::text LIKE '%=r/%' FROM pg_class WHERE oid = 'bronze.company'::regclass") == [(True,)]  # fmt: skip
    execute(database, 'CREATE VIEW looked_at AS SELECT "New" FROM bronze.company')
    error = _refused(load, HEADING, SchemaMismatch)
    assert "has other columns than `columns` names" in error.what
    assert "looked_at" in error.why
    assert rows(database, "SELECT count(*) FROM bronze.company") == [(1,)]


@pytest.mark.one_engine
def test_another_key_is_another_primary_key(database: Database, load: Loads) -> None:
    load(HEADING + "1,a,,\n2,b,,\n")
    load(HEADING + "1,a,,\n1,b,,\n", key=["Comp_CompanyId", "Comp_Name"])
    assert len(rows(database, LIST)) == 2
    assert _refused(load, HEADING + "1,a,,\n1,a,,\n", key=["Comp_CompanyId", "Comp_Name"]).count == 1


@pytest.mark.one_engine
def test_a_table_that_recon_did_not_load_is_never_emptied(database: Database, load: Loads) -> None:
    execute(database, "CREATE TABLE mine (id int)", "INSERT INTO mine VALUES (7)", "CREATE VIEW seen AS SELECT 1 AS id")
    for name, said in (("mine", "a table"), ("seen", "something that is no table")):
        error = _refused(load, HEADING + "1,a,,\n", AlreadyExists, into=name)
        assert f'There is {said} "{name}" already.' in error.what
    assert rows(database, "SELECT id FROM mine") == [(7,)]
    execute(database, "CREATE TABLE empty (id int)", "COMMENT ON TABLE empty IS 'ours'")
    for name in ("a", "b"):  # an empty one may be taken, and is recon's from then on
        load(HEADING + f"1,{name},,\n", into="empty")
    assert rows(database, "SELECT obj_description('empty'::regclass)") == [
        ("ours Loaded by recon from bronze/Bronze_Company.csv",)
    ]


@pytest.mark.one_engine
def test_a_table_that_somebody_writes_is_waited_for_and_then_said(
    database: Database, load: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(HEADING + "1,a,,\n")
    monkeypatch.setattr(landing, "PATIENCE", "50ms")
    with database.session() as session:
        session.execute("LOCK TABLE bronze.company IN ROW EXCLUSIVE MODE")
        assert "Somebody has been writing to it" in _refused(load, HEADING + "2,b,,\n", Locked).why
    assert rows(database, LIST) == [(1, "a", None, None)]


# -- what is no record -----------------------------------------------------------------------------------

BAD = (
    HEADING  # line 1
    + "1,a,1.00,2024-01-01\n"
    + '2,"two\nlines",1.00,2024-01-01\n'  # 3 and 4
    + "x3,b,1.00,2024-01-01\n"  # 5: no integer
    + "4,c,12.345,2024-02-30\n"  # 6: decimals would be lost, and no such day
    + "5,d,1.00\n"  # 7: three fields
    + '6,5" pipe,1.00,2024-01-01\n'  # 8: a quotation mark inside
    + ",e,1.00,2024-01-01\n"  # 9: no key
    + "01,f,1.00,2024-01-01\n"  # 10: key 1 again
    + "7,\x00,1.00,2024-01-01\n"  # 11: NUL
    + '8,"never closed,1.00,2024-01-01\n'  # 12
    + "9,g,1.00,2024-01-01 10:30\n"  # 13: a time that would be lost
    + "10,h,999999999999.99,2024-01-01\n"
)  # fmt: skip


def test_every_bad_row_is_told_by_its_line_and_nothing_is_loaded(database: Database, load: Loads) -> None:
    """CRM-07: bad rows are reported with line numbers and nothing is half-loaded."""
    load(HEADING + "77,before,,\n")
    error = _refused(load, BAD)
    told = [
        (5, "Comp_CompanyId", 'invalid input syntax for type integer: "x3"'),
        (6, "Comp_Revenue", 'numeric(14,2) would lose decimals: "12.345"'),
        (6, "Comp_Since", 'date/time field value out of range: "2024-02-30"'),
        (7, "", "3 fields, where the heading has 4"),
        (8, "", "a quotation mark stands inside a field: such a field must be quoted, and the mark doubled"),
        (9, "Comp_CompanyId", "the key is empty"),
        (10, "Comp_CompanyId", 'the key "01" stands on line 2 already'),
        (11, "Comp_Name", "it holds a NUL, which no text of PostgreSQL can"),
        (12, "", "the quotation mark that opens a field is never closed"),
        (13, "Comp_Since", 'date would lose the time of day: "2024-01-01 10:30"'),
    ]
    assert list(error.rows) == [(line, f"{name}: {said}" if name else said) for line, name, said in told]
    assert (error.count, error.exit_code) == (9, 1)
    assert "bronze/Bronze_Company.csv: 9 of 12 rows are not right. Nothing was loaded" in error.what
    assert "line 13: " in error.why
    assert error.as_dict()["rows"][0] == {"line": 5, "wrong": error.rows[0][1]}
    assert rows(database, LIST) == [(77, "before", None, None)]


@pytest.mark.one_engine
def test_the_first_twenty_bad_rows_are_told_and_all_are_counted(load: Loads) -> None:
    content = HEADING + "".join(f"{n},a,{'x' if n % 2 else 1},\n" + ("b\n" if n % 10 == 0 else "") for n in range(200))
    error = _refused(load, content)
    assert error.count == 100 + 20
    assert len(error.rows) == 20
    assert [line for line, _ in error.rows][:6] == [3, 4, 6, 8, 10, 12]
    assert error.why.endswith("… and 100 more.")


def test_values_that_are_too_long_are_refused_and_not_cut(load: Loads) -> None:
    columns = {
        "Comp_CompanyId": "varchar(3)",
        "Comp_Name": "char(2)",
        "b": "bit(2)",
        "at": "timestamp",
        "tags": "text[]",
    }
    error = _refused(load, "Comp_CompanyId,Comp_Name,b,at,tags\nabcd,ab,01,,\na,abc,01,,\nb,ab,011,,\nc,,,2024-01-01 10:00+02,{\n", columns=columns)  # fmt: skip
    assert [(line, said.split(":")[0]) for line, said in error.rows] == [
        (2, "Comp_CompanyId"), (3, "Comp_Name"), (4, "b"), (5, "at"), (5, "tags"),
    ]  # fmt: skip
    assert "timestamp without time zone would lose the time zone" in error.rows[3][1]


@pytest.mark.one_engine
def test_a_value_that_would_lose_something_is_reason_enough(database: Database, load: Loads) -> None:
    assert _refused(load, HEADING + "1,a,0.105,\n").count == 1
    load(HEADING + "1,a,0.100,2024-01-31 00:00:00\n")  # nothing is lost
    assert rows(database, LIST) == [(1, "a", Decimal("0.10"), datetime.date(2024, 1, 31))]


def test_types_of_ones_own_are_judged_too(database: Database, load: Loads) -> None:
    execute(database, "CREATE TYPE mood AS ENUM ('glad')", "CREATE DOMAIN small AS integer CHECK (value < 10)")
    columns = {"Comp_CompanyId": "small", "Comp_Name": "mood"}
    load("Comp_CompanyId,Comp_Name\n1,glad\n", columns=columns)
    error = _refused(load, "Comp_CompanyId,Comp_Name\n10,glad\n2,sad\n", columns=columns)
    assert [(line, said.split(":")[0]) for line, said in error.rows] == [(2, "Comp_CompanyId"), (3, "Comp_Name")]


@pytest.mark.one_engine
def test_private_values_are_veiled(load: Loads) -> None:
    error = _refused(load, HEADING + "1,a,secret-7,\n2,b,1.234,\n", private=["Comp_Revenue"])
    assert [VEIL in said for _, said in error.rows] == [True, True]
    assert "secret-7" not in str(error)
    assert "1.234" not in str(error)


@pytest.mark.one_engine
def test_a_constraint_of_the_table_itself_is_told(database: Database, load: Loads) -> None:
    load(HEADING)
    execute(database, 'ALTER TABLE bronze.company ADD CONSTRAINT positive CHECK ("Comp_Revenue" > 0)')
    error = _refused(load, HEADING + "1,a,-1,\n", LoadFailed)
    assert 'violates check constraint "positive"' in error.why
    assert rows(database, LIST) == []


@pytest.mark.one_engine
def test_bytes_that_are_no_text_are_told_by_line(load: Loads) -> None:
    """CRM-07: encodings are reported by line."""
    for letter, byte in (("é", "E9"), ("ü", "FC")):
        error = _refused(load, HEADING.encode() + f"1,a,,\n2,{letter},,\n".encode("cp1252"))
        assert list(error.rows) == [(3, f"Comp_Name: byte 0x{byte} is no utf-8")]
        assert "cp1252" in error.todo
    assert "utf-16" in _refused(load, HEADING.encode("utf-16"), LoadFailed).todo
    assert 'no encoding "utf-99"' in _refused(load, b"a", SpecError, encoding="utf-99").what
    assert 'no encoding "rot13"' in _refused(load, b"a", SpecError, encoding="rot13").what


def _book() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("xl/workbook.xml", "")
    return held.getvalue()


_PDF, _PAGE = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n", b"\n<!doctype HTML>\n<body>Sign in, please</body>"


@pytest.mark.one_engine
@pytest.mark.parametrize(
    ("content", "like", "todo"),
    [
        (_PDF, "a PDF", "as CSV"),
        (b'[\n {"Comp_CompanyId": 1}\n]', "JSON", "as CSV"),
        (b'\xef\xbb\xbf{"Comp_CompanyId": 1}\n{"Comp_CompanyId": 2}', "JSON", "as CSV"),
        (_PAGE, "a web page", "Download it again"),
        (_book(), "an Excel workbook", ".xlsx"),
        (_book()[:-9], "a ZIP archive that was cut off", "as a whole"),
        (b"PAR1\x15\x04", "Parquet", ".parquet"),
        (gzip.compress(HEADING.encode(), mtime=0), "a packed file", "Unpack it"),
    ],
    ids=["pdf", "json", "json lines", "page", "book", "half a book", "parquet", "packed"],
)
def test_a_file_that_is_not_what_its_name_says_is_named(
    load: Loads, tmp_path: Path, content: bytes, like: str, todo: str
) -> None:
    error = _refused(load, content, LoadFailed)
    assert error.what == f"bronze/Bronze_Company.csv is no delimited text: it looks like {like}."
    assert todo in error.todo
    path = tmp_path / "other.csv"
    path.write_bytes(content)
    with pytest.raises(LoadFailed, match=rf"^other\.csv is no delimited text: it looks like {like}"):
        delimited.opened(path, RecordSet.model_validate({"file": "other.csv", "key": "id"})).__enter__()


@pytest.mark.one_engine
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_named_and_read_where_the_spec_says_it(
    database: Database, load: Loads, tmp_path: Path, encoding: str
) -> None:
    content = f"{HEADING}1,Жук,,\n".encode(encoding)
    error = _refused(load, content, LoadFailed)
    assert "looks like UTF-16 without a mark" in error.what
    assert f"`encoding: {encoding}`" in error.todo
    assert load(content, encoding=encoding).rows == 1
    assert rows(database, LIST) == [(1, "Жук", None, None)]
    assert sniffing.sniff(tmp_path / "bronze" / "Bronze_Company.csv") == sniffing.Written(encoding, ",")


@pytest.mark.parametrize("heading", ["PAR1,PAR2", "[id],{v}", "PK,v", "{},[]", "<b>x,v", "7z,BZh", "ид,имя"])
def test_an_odd_heading_is_a_heading(tmp_path: Path, heading: str) -> None:
    (tmp_path / "t.csv").write_text(f"{heading}\n1,2\n", encoding="utf-8")
    with delimited.opened(tmp_path / "t.csv", RecordSet.model_validate({"file": "t.csv", "key": "id"})) as found:
        assert list(found.heading) == heading.split(",")


# -- before anything is read -----------------------------------------------------------------------------


@pytest.mark.one_engine
@pytest.mark.parametrize(
    ("content", "fields", "kind", "what", "why"),
    [
        ("", {}, LoadFailed, "is empty", "not even a heading"),
        ("Comp_CompanyID,Comp_Name,Comp_Revenue,Comp_Since\n", {}, SpecError, 'no column "Comp_CompanyId"', 'Did you mean "Comp_CompanyID"?'),
        (HEADING.replace(",", ";"), {}, SpecError, 'no column "Comp_CompanyId"', "perhaps `delimiter: ';'`"),
        (HEADING.replace("Comp_Since", "Comp_Name"), {"columns": {}}, SpecError, '2 columns "Comp_Name"', "which is meant"),
        ("Comp_CompanyId,,x\n", {"columns": {}}, SpecError, "heading 2 is empty", ""),
        (HEADING, {"key": "Comp_Company"}, SpecError, 'The key "Comp_Company" is not among', 'Did you mean "Comp_CompanyId"?'),
        (HEADING, {"columns": {"Comp_CompanyId": "integr"}}, SpecError, 'The type "integr" of column "Comp_CompanyId"', 'Did you mean "integer"?'),
        (HEADING, {"columns": {"Comp_CompanyId": "integer); drop table x; --"}}, SpecError, "is none that this database knows", ""),
        (HEADING, {"columns": {"Comp_CompanyId": "varchar(0)"}}, SpecError, 'The type "varchar(0)"', ""),
        (HEADING, {"delimiter": '"'}, SpecError, "cannot stand between fields", ""),
        (HEADING, {"file": "../secrets.csv"}, SpecError, "not in the workspace", "relative to its workspace"),
        (HEADING, {"file": "/etc/passwd"}, SpecError, "not in the workspace", ""),
        (HEADING, {"file": "bronze/Bronze_Compny.csv"}, NotFound, "There is no file", 'Did you mean "Bronze_Company.csv"?'),
    ],
)  # fmt: skip
def test_what_cannot_be_loaded_is_said_at_once(
    database: Database, load: Loads, content: str, fields: dict[str, Any], kind: type[ReconError], what: str, why: str
) -> None:
    error = _refused(load, content, kind, **fields)
    assert what in error.what
    assert why in error.why
    assert rows(database, "SELECT to_regnamespace('bronze')::text") == [(None,)]


@pytest.mark.one_engine
def test_a_link_out_of_the_workspace_is_no_way_out(load: Loads, tmp_path: Path) -> None:
    (tmp_path / "bronze").mkdir()
    (tmp_path / "bronze" / "hosts.csv").symlink_to("/etc/hosts")
    assert "not in the workspace" in _refused(load, HEADING, SpecError, file="bronze/hosts.csv").what


# -- records of a text, without a database ---------------------------------------------------------------


def _records(text: str) -> list[Any]:
    found = delimited.records(io.StringIO(text, newline=""), ",", "utf-8")
    return [(line, "broken" if isinstance(fields, Broken) else fields) for line, fields in found]


def test_a_broken_record_does_not_swallow_those_below_it() -> None:
    assert _records('a,"b\nc,d\n') == [(1, "broken"), (2, ["c", "d"])]
    assert _records('a,"b\nc"d\ne,f\n') == [(1, "broken"), (2, "broken"), (3, ["e", "f"])]
    assert _records('"a\r\n\r\nb",""\rc,\n\n') == [(1, ["a\r\n\r\nb", ""]), (4, ["c", None])]
    assert _records('""""\n""\n"a""b"\n') == [(1, ['"']), (2, [""]), (3, ['a"b'])]


def test_a_record_without_an_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "LONGEST", 30)
    assert _records('"a\n' + "b,c\n" * 20)[:2] == [(1, "broken"), (2, ["b", "c"])]
    assert _records("x" * 31 + "\na,b\n") == [(1, "broken")]


@pytest.mark.one_engine
def test_memory_stays_bounded(load: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    """CRM-07: a file is streamed: what Python holds does not grow with it."""
    import tracemalloc

    line = "{},Company of a certain length and a little more,1.00,2024-01-01\n"
    content = (HEADING + "".join(line.format(n) for n in range(20_000))).encode()
    tracemalloc.start()
    try:
        load(content)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < len(content) / 2
