"""Files that people take away hold every value as what it is, and no text becomes a formula or a link."""

from __future__ import annotations

import csv
import io
import zipfile
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import openpyxl
import pytest

from recon.errors import UsageError
from recon.reports import cells, sheets
from recon.reports.sheets import csv_bytes, excel_bytes, sheet_name

HOSTILE = [
    "=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1+1", "\r=1+1", " =1+1", '=HYPERLINK("http://evil.example","x")',
    "＝1+1", "http://evil.example/x", "mailto:a@evil.example", "internal:Sheet1!A1", "{=1+1}", "<r><t>x</t></r>",
]  # fmt: skip


def opened(content: bytes) -> Any:
    return openpyxl.load_workbook(io.BytesIO(content))


def test_no_hostile_text_becomes_a_formula_or_a_link_in_excel() -> None:
    content = excel_bytes("x", ["=1+1", *["text"] * len(HOSTILE)], [["=2", *HOSTILE]])
    sheet = opened(content).worksheets[0]
    kinds = {cell.data_type for row in sheet.iter_rows() for cell in row}
    assert kinds == {"s"}
    with zipfile.ZipFile(io.BytesIO(content)) as parts:
        xml = "".join(parts.read(name).decode() for name in parts.namelist())
    assert "<f>" not in xml
    assert "<hyperlink" not in xml
    assert "<r>" not in xml  # nothing is written as it stands
    # Whoever edits the cell still has text.
    assert sheet["A2"].quotePrefix
    assert sheet["B2"].value == HOSTILE[0]
    assert not sheet["K2"].quotePrefix


def test_csv_for_people_puts_an_apostrophe_before_what_would_be_a_formula() -> None:
    row = [*HOSTILE[:9], "Flat 1", "a; =1", -1, Decimal("-1.50"), date(2025, 1, 31), None, True]
    found = list(csv.reader(io.StringIO(csv_bytes(["=a", *map(str, range(15))], [row]).decode(), newline="")))
    assert len(found) == 2
    assert found[0][0] == "'=a"
    assert found[1][:9] == [f"'{text}" if not text.startswith("\t=") else "'\t'=1+1" for text in HOSTILE[:9]]
    assert found[1][9:] == ["Flat 1", "a;' =1", "-1", "-1.50", "2025-01-31", "", "true"]


def test_values_are_what_they_are() -> None:
    east = timezone(timedelta(hours=2))
    row = [
        740, Decimal("1234.50"), Decimal("123456789012345"), Decimal("1234567890123456"), 10**15, 1.5, float("nan"),
        True, None, date(2025, 3, 31), date(1899, 12, 31), datetime(2025, 3, 31, 1, 30, tzinfo=east),
        datetime(2025, 3, 31, 1, 30), time(3, 4), b"\x00\xff", {"a": [1]}, "infinity",  # noqa: DTZ001
    ]  # fmt: skip
    sheet = opened(excel_bytes("x", [f"c{place}" for place in range(len(row))], [row])).worksheets[0]
    header, found = ([cell.value for cell in cells] for cells in sheet.iter_rows())
    assert found == [
        740, 1234.5, 123456789012345, "1234567890123456", "1000000000000000", 1.5, "nan",
        True, None, datetime(2025, 3, 31), "1899-12-31", datetime(2025, 3, 30, 23, 30),  # noqa: DTZ001
        datetime(2025, 3, 31, 1, 30), time(3, 4), "00ff", '{"a": [1]}', "infinity",  # noqa: DTZ001
    ]  # fmt: skip
    assert header[11] == "c11 (UTC)"
    assert header[12] == "c12"
    assert sheet["B2"].number_format == "#,##0.00"
    assert sheet.freeze_panes == "A2"
    assert sheet.auto_filter.ref == f"A1:{sheet.cell(2, len(row)).coordinate}"
    assert sheet["A1"].font.bold


def test_a_zoned_time_that_comes_after_the_header_was_written_says_utc_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sheets, "LOOKED_AT", 1)
    at = datetime(2025, 3, 31, 1, 30, tzinfo=UTC)
    sheet = opened(excel_bytes("x", ["at"], [[None], [at]])).worksheets[0]
    assert [cell.value for cell in sheet["A"]] == ["at", None, "2025-03-31 01:30:00+00:00 UTC"]


def test_long_texts_are_cut_and_said_and_no_character_breaks_the_file() -> None:
    rows = [["x" * 40_000], ["😀" * 20_000], ["a\x00\x07\x1f\ufffe\ud800b\r\nc"]]
    book = opened(excel_bytes("x", ["text"], rows))
    long, wide, odd = (cell.value for cell in book["x"]["A"][1:])
    for text, letters in ((long, "40,000"), (wide, "20,000")):
        assert len(text.encode("utf-16-le")) // 2 <= cells.MOST_CHARACTERS
        assert text.endswith(f"[cut: {letters} characters]")
    assert odd == "a\\x00\\x07\\x1f\\ufffe\\ud800b\nc"
    assert "2 cells held more than 32,767 characters" in book["Notes"]["A2"].value


def test_more_rows_than_a_sheet_holds_go_on_in_the_next_and_it_is_said() -> None:
    out = io.BytesIO()
    with sheets.workbook(out, "x") as book:
        assert book.table("Records", ["n"], ([number] for number in range(7)), most=3) == 7
        assert book.table("Exact", ["n"], ([number] for number in range(3)), most=3) == 3
    found = opened(out.getvalue())
    assert found.sheetnames == ["Records", "Records (2)", "Records (3)", "Exact", "Notes"]
    assert [[cell.value for cell in found[name]["A"]] for name in found.sheetnames[:3]] == [
        ["n", 0, 1, 2], ["n", 3, 4, 5], ["n", 6],
    ]  # fmt: skip
    assert "goes on in Records (2)" in found["Notes"]["A2"].value
    with pytest.raises(UsageError, match="columns do not fit"):
        excel_bytes("x", ["c"] * 16_385, [])


@pytest.mark.parametrize("name", ["a/b:c[d]*?\\", "x" * 50, "", "'quoted'", "History", "\x00", "😀" * 20])
def test_any_name_becomes_one_that_excel_lets_a_sheet_have(name: str) -> None:
    found = sheet_name(name)
    assert 0 < len(found.encode("utf-16-le")) // 2 <= 31
    assert not set(found) & set("[]:*?/\\\x00")
    assert opened(excel_bytes(name, ["a"], [])).sheetnames == [found]


def test_an_empty_table_says_so() -> None:
    sheet = opened(excel_bytes("x", ["a", "b"], [])).worksheets[0]
    assert [cell.value for cell in sheet["A"]] == ["a", "There are no records."]
