"""The explore notebook in a real browser: what an analyst sees, and what a hostile value cannot do."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import openpyxl
import pytest
from playwright.sync_api import Browser, expect

from recon.database.connect import Database
from recon.matching import run as runs
from recon.workspace import Workspace
from tests.browser.desk import Visit, app
from tests.support import execute, load_rent_sample, rows

NOTEBOOK = "explore_mismatches.py"
IMPORTS = "financial_transactions"
HOSTILE = '<script>window.taken = 1</script><img src=x onerror="window.taken = 2">'
PICTURE = "https://stranger.example/pixel.png"

pytestmark = pytest.mark.one_engine


def _choose(visit: Visit, key: int) -> None:
    """Tick the record of this key and wait for its explanation."""
    visit.page.get_by_role("row").filter(has_text=str(key)).get_by_role("checkbox").click()
    expect(visit.page.get_by_role("heading", name=f"Why {key}?")).to_be_visible()


def _tick(visit: Visit, label: str) -> None:
    visit.page.get_by_text(re.compile(rf"^{re.escape(label)} [0-9,]+$")).click()


def _sees_choice(visit: Visit, label: str) -> None:
    expect(visit.page.get_by_text(re.compile(rf"^{re.escape(label)}$")).first).to_be_visible()


def test_an_analyst_finds_out_why_and_settles_it(
    database: Database, workspace: Workspace, browser: Browser, tmp_path: Path
) -> None:
    load_rent_sample(database)
    run = runs.match(database, workspace.spec(IMPORTS), "ann")
    decisions = f"recon.decisions_{run.run}"
    tied = rows(database, f"SELECT target_key FROM {decisions} WHERE outcome = 'ambiguous' ORDER BY 1 LIMIT 1")[0][0]
    with app(
        NOTEBOOK, database, workspace, browser, tmp_path / "app.log", width=1400, RECON_RECONCILIATION=IMPORTS,
        RECON_USER="ann",
    ) as visit:  # fmt: skip
        page = visit.page
        # The numbers, and what is left to explain.
        for text in ("1,028", "96.9 %", "not measured", "32 records"):
            visit.sees(text)
        expect(page.get_by_text("you are ann")).to_be_visible()
        visit.shot("explore")
        # A filter changes the counts of the other facets, and stands in the address.
        _sees_choice(visit, "✗ unmatched 8")
        _sees_choice(visit, "payprop_invoice_id 8")
        _tick(visit, "tie: equally good candidates")
        visit.sees("12 records")
        _sees_choice(visit, "✗ unmatched 0")
        assert "reason=tie" in page.url
        page.reload()
        visit.sees("12 records")
        _sees_choice(visit, "✗ unmatched 0")
        assert [line[0] for line in csv.reader(io.StringIO(visit.file("Download as CSV").decode()))][1] == str(tied)
        workbook = openpyxl.load_workbook(io.BytesIO(visit.file("Download as Excel")))
        sheet = list(workbook.worksheets[0].values)
        assert (len(sheet), sheet[1][0]) == (13, tied)
        # All of them, and back.
        page.get_by_role("button", name="Clear all filters").click()
        visit.sees("1,028 records")
        _tick(visit, "tie: equally good candidates")
        visit.sees("12 records")
        page.get_by_role("button", name="Left to explain").click()
        visit.sees("32 records")
        _tick(visit, "tie: equally good candidates")
        visit.sees("12 records")
        # Why this one?
        _choose(visit, tied)
        expect(page.get_by_text("2 candidates with property_id 10 are equally good.")).to_be_visible()
        expect(page.get_by_text("← decided here")).to_have_count(1)
        expect(page.get_by_text("– not reached")).to_have_count(1)
        expect(page.locator("th", has_text="tied")).to_have_text(["invoices17 tied", "invoices18 tied"])
        expect(page.locator("tr", has=page.get_by_role("rowheader", name="lease_reference"))).to_contain_text(
            "≠ candidates differ"
        )
        page.get_by_role("button", name="SQL", exact=True).nth(1).click()
        expect(page.locator("pre:visible", has_text="LIMIT 25").first).to_be_visible()
        # No decision without a reason, and a refusal empties no field; then one with it, an assignment, and the next run.
        page.get_by_label("Decide:").select_option("never link it to")
        page.get_by_role("button", name="Decide").click()
        expect(page.get_by_text("A decision needs a reason").first).to_be_visible()
        expect(page.get_by_label("Decide:").locator("option:checked")).to_have_text("never link it to")
        page.get_by_label("Decide:").select_option("link it to")
        page.get_by_label("because (required):").fill("the lease of June")
        page.get_by_label("because (required):").press("Enter")
        page.get_by_role("button", name="Decide").click()
        expect(
            page.get_by_text(f"Target {tied} is linked to source 17. The next run takes account of it.")
        ).to_be_visible()
        page.get_by_label("Assign the break to:").fill("ben")
        page.get_by_label("Assign the break to:").press("Enter")
        page.get_by_role("button", name="Assign").click()
        visit.sees(f"{tied} is with ben.")
        expect(page.get_by_text("1 decision of a person was made or undone")).to_be_visible()
        visit.shot("explore-record")
        page.get_by_role("button", name="Match again").click()
        visit.sees("11 records")
        visit.was_harmless()
    assert rows(database, "SELECT kind, author, reason FROM recon.overrides") == [("link", "ann", "the lease of June")]
    assert rows(database, "SELECT DISTINCT assignee FROM recon.breaks WHERE assignee IS NOT NULL") == [("ben",)]
    assert runs.load(database, IMPORTS).outcomes["ambiguous"] == 11


def test_a_decision_is_told_together_with_the_form_made_anew(
    database: Database, workspace: Workspace, browser: Browser, tmp_path: Path
) -> None:
    """Told before, the new form would take away what somebody typed into the old one meanwhile."""
    load_rent_sample(database)
    run = runs.match(database, workspace.spec(IMPORTS), "ann")
    query = f"SELECT target_key FROM recon.decisions_{run.run} WHERE outcome = 'ambiguous' ORDER BY 1 LIMIT 1"
    tied = rows(database, query)[0][0]
    with app(
        NOTEBOOK, database, workspace, browser, tmp_path / "app.log", width=1400, RECON_RECONCILIATION=IMPORTS,
        RECON_USER="ann",
    ) as visit:  # fmt: skip
        page = visit.page
        _tick(visit, "tie: equally good candidates")
        visit.sees("12 records")
        _choose(visit, tied)
        page.get_by_label("because (required):").fill("the lease of June")
        page.get_by_label("because (required):").press("Enter")
        told = page.get_by_text(f"Target {tied} is linked to source 17. The next run takes account of it.")
        with database.session() as holder:
            holder.execute("LOCK TABLE recon.breaks IN ACCESS EXCLUSIVE MODE")  # the record cannot be looked at again
            page.get_by_role("button", name="Decide").click()
            for _ in range(100):
                if rows(database, "SELECT 1 FROM recon.overrides"):
                    break
                page.wait_for_timeout(100)
            assert rows(database, "SELECT count(*) FROM recon.overrides") == [
                (1,)
            ]  # decided, and the form still the old one
            page.wait_for_timeout(1_500)
            assert told.count() == 0
        expect(told).to_be_visible()
        visit.was_harmless()


JOBS = {
    "name": "jobs",
    "target": {"table": "stays", "key": "id", "date": "at"},
    "source": {"table": "jobs", "key": "id"},
    "link": {"column": "job_id"},
    "cardinality": "one_to_one",
    "passes": [
        {
            "name": "near",
            "on": {"place": "place"},
            "within": {"target": "at", "source": "at", "tolerance": "1 hour"},
            "prefer": ["nearest"],
        }
    ],
}


def test_a_wider_window_is_tried_and_nothing_is_kept(
    database: Database, workspace: Workspace, browser: Browser, tmp_path: Path
) -> None:
    execute(
        database,
        "CREATE TABLE stays (id int PRIMARY KEY, place int, at timestamptz, job_id int)",
        "CREATE TABLE jobs (id int PRIMARY KEY, place int, at timestamptz)",
        "INSERT INTO stays SELECT n, n, timestamptz '2025-03-30 00:00Z' FROM generate_series(1, 6) AS n",
        "INSERT INTO jobs SELECT 10 + id, place, at + id * interval '20 minutes' FROM stays",
    )
    (workspace.root / "reconciliations" / "jobs.yaml").write_text(json.dumps(JOBS), encoding="utf-8")
    runs.match(database, workspace.spec("jobs"), "ann")
    with app(
        NOTEBOOK, database, workspace, browser, tmp_path / "app.log", query="?name=jobs&key=4", dark=True, width=400
    ) as visit:
        page = visit.page
        expect(page.get_by_role("heading", name="Why 4?")).to_be_visible()  # the only record of this key is chosen
        expect(page.locator("tr", has_text="at and at, within 1 hour")).to_contain_text("≠ misses by 20 minutes")
        visit.sees("Move a slider to try it.")
        slider = page.get_by_role("slider")
        slider.focus()
        slider.press("ArrowRight")
        expect(page.get_by_text("1 hour 30 minutes")).to_be_visible()
        matched = page.get_by_role("row").filter(has_text="✓ matched").filter(has_text="+1")
        expect(matched).to_have_text(re.compile("3.*4.*[+]1"))
        expect(page.get_by_text("Gained, for example: 4")).to_be_visible()
        visit.sees("All 6 records were decided. Nothing was kept.")
        page.get_by_role("button", name="Try every tolerance").click()
        expect(page.get_by_role("row").filter(has_text="10 hours")).to_have_text(re.compile("10 ×.*6.*[+]3"))
        visit.shot("explore-narrow-dark")
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        visit.was_harmless()
    assert runs.load(database, "jobs").outcomes["matched"] == 3


def test_values_from_the_data_are_text_and_nothing_else(
    database: Database, workspace: Workspace, browser: Browser, tmp_path: Path
) -> None:
    load_rent_sample(database)
    spec = workspace.spec(IMPORTS)
    run = runs.match(database, spec, "ann")
    decisions = f"recon.decisions_{run.run}"
    unknown = rows(database, f"SELECT min(target_key) FROM {decisions} WHERE reason = 'no_candidate'")[0][0]
    (proposed, lease), (_, other_lease) = rows(
        database, f"SELECT target_key, source_key FROM {decisions} WHERE outcome = 'proposed' ORDER BY 1 LIMIT 2"
    )
    with database.session() as session:
        session.execute("UPDATE financial_transactions SET payprop_invoice_id = $1 WHERE id = $2", HOSTILE, unknown)
        session.execute("UPDATE invoices SET lease_reference = $1 WHERE id = $2", HOSTILE, lease)
        session.execute("UPDATE invoices SET lease_reference = $1 WHERE id = $2", PICTURE, other_lease)
    runs.match(database, spec, "ann")
    with app(NOTEBOOK, database, workspace, browser, tmp_path / "app.log", RECON_RECONCILIATION=IMPORTS) as visit:
        visit.sees("32 records")
        _choose(visit, unknown)
        visit.sees(f"No source record has payprop_invoice_id {HOSTILE}. ← came closest")
        _choose(visit, proposed)
        cells = visit.page.locator(".rx td", has_text=HOSTILE)
        expect(cells).to_have_count(1)  # those of the record before are gone a moment after the heading
        expect(cells).to_be_visible()
        visit.was_harmless()


def test_where_nothing_ran_the_page_says_what_to_do(
    database: Database, workspace: Workspace, browser: Browser, tmp_path: Path
) -> None:
    execute(database, "CREATE TABLE unrelated (id int)")
    with app(NOTEBOOK, database, workspace, browser, tmp_path / "app.log", RECON_RECONCILIATION=IMPORTS) as visit:
        visit.sees(f"recon match {IMPORTS}")
        visit.was_harmless()
    assert rows(database, "SELECT to_regnamespace('recon')::text") == [(None,)]  # looking creates nothing
