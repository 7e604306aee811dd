"""The report as people open it: from a file, without a network, wide, narrow and on paper."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import Browser, Page

from recon.backfill import plan as plans
from recon.database.connect import Database
from recon.matching import breaks
from recon.matching import run as runs
from recon.matching.backtest import backtest
from recon.reports import figures, offline
from recon.reports.ageing import AgeClass
from recon.reports.data import Coverage, Step
from recon.reports.run import report
from recon.workspace import Workspace
from tests.browser.desk import ARTEFACTS
from tests.support import execute, load_rent_sample

pytestmark = pytest.mark.one_engine
IMPORTS = (
    "financial_transactions"  # matched, proposed, ambiguous and unmatched records: every figure has something to draw
)
FIGURES = 6  # coverage, its trend, what was open, the waterfall, the reasons, the ages of breaks
ENDLESS = "x" * 300  # a word that no line can hold
WIDTHS = {"wide": 1400, "narrow": 400}
CUT_OFF = """() => [...document.querySelectorAll('.drawing')].flatMap(drawing => {
    const edge = drawing.getBoundingClientRect();
    return [...drawing.querySelectorAll('svg text')]
        .filter(text => text.textContent.trim() && text.getBoundingClientRect().width)
        .filter(text => text.getBoundingClientRect().right > edge.right + 1
            || text.getBoundingClientRect().left < edge.left - 1)
        .map(text => text.textContent);
})"""


def past(database: Database, days: int) -> None:
    """Move all that happened so far into the past."""
    for table, columns in (
        ("runs", "started_at completed_at"),
        ("breaks", "first_seen opened_at last_seen"),
        ("break_log", "at"),
    ):
        changes = ", ".join(f"{name} = {name} - interval '{days} days'" for name in columns.split())
        execute(database, f"UPDATE recon.{table} SET {changes}")


def open_offline(browser: Browser, path: Path, width: int) -> tuple[Page, list[str], list[str]]:
    context = browser.new_context(viewport={"width": width, "height": 1000})
    context.set_offline(True)
    page = context.new_page()
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda said: errors.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(path.as_uri())
    page.wait_for_function("document.querySelectorAll('.drawing .main-svg').length > 0")
    return page, asked, errors


def test_the_report_opens_without_a_network_draws_every_figure_and_fits_screen_and_paper(
    database: Database, workspace: Workspace, browser: Browser
) -> None:
    load_rent_sample(database)
    spec = workspace.spec(IMPORTS)
    runs.match(database, spec, "ann")
    past(database, 40)
    execute(database, "UPDATE financial_transactions SET property_id = NULL WHERE id % 5 = 0 AND invoice_id IS NULL")
    runs.match(database, spec, "ann")
    past(database, 3)
    backtest(database, spec, "ann")
    runs.match(database, spec, "ann")
    some = [item["key"] for item in breaks.listed(database, IMPORTS, limit=9)]
    breaks.assign(database, IMPORTS, "carla", "ann", some)
    execute(database, f"UPDATE invoices SET lease_reference = '{ENDLESS}' || id WHERE id % 20 = 0")
    assert plans.make(database, workspace, spec, "ann") is not None
    path = report(database, workspace, IMPORTS)
    ARTEFACTS.mkdir(exist_ok=True)

    for name, width in WIDTHS.items():
        page, asked, errors = open_offline(browser, path, width)
        assert asked == [path.as_uri()]
        assert errors == []
        figures = page.locator(".figure")
        assert figures.count() == FIGURES
        drawn = page.locator(".drawing").evaluate_all(
            "all => all.map(one => one.querySelectorAll('.main-svg path, .main-svg rect').length)"
        )
        assert len(drawn) == FIGURES
        assert all(drawn)
        for place in range(FIGURES):
            box = figures.nth(place).bounding_box()
            assert box is not None
            assert box["height"] > 60
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")  # wide tables scroll by themselves
        page.screenshot(path=ARTEFACTS / f"report_{name}.png", full_page=True)
        if name == "wide":
            printed = ARTEFACTS / "report.pdf"
            page.pdf(path=printed, prefer_css_page_size=True, print_background=True)
            page.set_viewport_size({"width": 688, "height": 1000})  # A4 within its margins, in CSS pixels
            page.emulate_media(media="print")
            # What is wider than the paper would shrink every page of it.
            for _ in range(100):  # figures are drawn anew, a moment later
                if page.evaluate("document.documentElement.scrollWidth") <= 688:
                    break
                page.wait_for_timeout(100)
            assert page.evaluate("document.documentElement.scrollWidth") <= 688
            if shutil.which("pdftotext"):
                text = subprocess.run(
                    ["pdftotext", str(printed), "-"], capture_output=True, text=True, check=True
                ).stdout
                assert "How to make this report again" in text
                assert len(re.findall("\f", text)) > 3
        page.context.close()


@pytest.mark.parametrize("width", [680, 400])  # paper, a phone
def test_no_number_of_millions_is_cut_off_at_the_edge_of_a_figure(browser: Browser, tmp_path: Path, width: int) -> None:
    many = 12_345_678
    at = datetime.now(UTC)
    drawn = [
        figures.coverage(Coverage(many // 3, many, at), Coverage(many // 2, many, at), 0.999),
        figures.waterfall(
            [
                Step("linked before", "linked", many // 2),
                Step("the same property and another tenant of it", "matched", many - many // 2),
                Step("population", "population", many),
            ]
        ),
        figures.reasons({"its candidate is linked already": many - 1, "tie": 1}),
        figures.ageing([AgeClass("over 30 days", many // 2, many // 2), AgeClass("new", many // 3, 0)]),
    ]
    outputs = [
        nbformat.v4.new_output("display_data", {offline.PLOTLY: json.loads(str(one.to_json()))}) for one in drawn
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("", outputs=outputs)])
    path = tmp_path / "page.html"
    path.write_text(offline.page(notebook, "many"), encoding="utf-8")
    page, _, _ = open_offline(browser, path, width)
    page.wait_for_function(f"document.querySelectorAll('.drawing .main-svg').length >= {3 * len(drawn)}")
    cut: list[str] = []
    for _ in range(50):  # names get smaller until they fit
        cut = page.evaluate(CUT_OFF)
        if not cut:
            break
        page.wait_for_timeout(100)
    page.context.close()
    assert cut == []
