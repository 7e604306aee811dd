"""Records as files that people take away: CSV and Excel. Text is text there too, never a formula."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any


def csv_bytes(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows as CSV in UTF-8, with a header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if value is None else value for value in row] for row in rows)
    return out.getvalue().encode()


def excel_bytes(name: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Rows as a workbook of one sheet, with filters and a header that stays."""
    import xlsxwriter

    out = io.BytesIO()
    with xlsxwriter.Workbook(out, {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False}) as book:
        sheet = book.add_worksheet(name)
        sheet.write_row(0, 0, columns)
        last = 0
        for last, row in enumerate(rows, start=1):
            for place, value in enumerate(row):
                sheet.write(last, place, value)
        sheet.freeze_panes(1, 0)
        sheet.autofilter(0, 0, last, max(len(columns) - 1, 0))
    return out.getvalue()
