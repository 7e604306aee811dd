"""The preview notebook in a real browser: an analyst plans, a reviewer signs, and the rows change and change back."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import openpyxl
import pytest
from playwright.sync_api import Browser, Locator, expect

from recon.backfill import plan as plans
from recon.backfill import sign_off
from recon.backfill.plan import Plan
from recon.database.connect import Database
from recon.desk import preview, preview_view
from recon.desk.preview_rows import Filter
from recon.matching import run as runs
from recon.matching.backtest import backtest
from recon.workspace import Workspace
from tests.browser.desk import Visit, app
from tests.support import RENT, execute, load_rent_sample, rent_spec, rows

NOTEBOOK = "preview_backfill.py"
HOSTILE = '<script>window.taken = 1</script><img src=x onerror="window.taken = 2">'
WORK_MILLISECONDS = 90_000  # Great Expectations alone takes seconds to load, and many on a machine that has other work
SIGNING, WRITING = 0, 1  # the fields in which the digest is typed: beside approve; beside apply and revert

pytestmark = pytest.mark.one_engine


def _button(visit: Visit, name: str) -> Locator:
    return visit.page.get_by_role("button", name=name, exact=True)


def _confirm(visit: Visit, which: int, text: str) -> None:
    """Type how the digest begins."""
    visit.page.get_by_label("The digest begins with").nth(which).fill(text)


def _says(visit: Visit, text: str) -> None:
    expect(visit.page.get_by_text(text).first).to_be_visible(timeout=WORK_MILLISECONDS)


def _moves(database: Database) -> list[str]:
    """What was done, in order: states, and else the event."""
    return [row[0] for row in rows(database, "SELECT coalesce(to_state, event) FROM recon.audit_log ORDER BY entry")]


def test_a_plan_goes_from_its_draft_to_its_revert(
    database: Database, workspace: Workspace, browser: Browser, tmp_path: Path
) -> None:
    """Each person has an app; the author cannot sign, and nothing is done twice by reloading the page."""
    load_rent_sample(database)
    execute(database, f"UPDATE invoices SET lease_reference = $${HOSTILE}$$ WHERE id = 9")
    spec = rent_spec()
    runs.match(database, spec, "ann")
    backtest(database, spec, "ann")
    with app(
        NOTEBOOK, database, workspace, browser, tmp_path / "ann.log", RECON_USER="ann", RECON_RECONCILIATION=RENT
    ) as ann:
        _says(ann, f"Draft for {RENT}")
        expect(ann.page.locator(".rows .pairs", has_text=HOSTILE)).to_be_visible()
        ann.shot("preview-draft")
        assert rows(database, "SELECT count(*) FROM recon.plans") == [(0,)]
        _button(ann, "Make the plan").click()
        _says(ann, "was made, with its bundle in")
        [(plan, digest)] = rows(database, "SELECT plan, digest FROM recon.plans")
        expect(ann.page.get_by_role("heading", name=plan, exact=True)).to_be_visible()
        assert f"plan={plan}" in ann.page.url
        _says(ann, "You (ann) made this plan. It needs the eyes of somebody else.")
        for name in ("Approve", "Apply: write the rows", "Verify", "Revert: undo the rows"):
            expect(_button(ann, name)).to_be_disabled()
        with app(
            NOTEBOOK, database, workspace, browser, tmp_path / "bob.log", query=f"?plan={plan}", width=420, dark=True,
            RECON_USER="bob",
        ) as bob:  # fmt: skip
            _approved_by_bob(bob, plan, digest)
        _written_by_ann(ann, database, digest)
        _undone_by_ann(ann, database, digest)


def _approved_by_bob(bob: Visit, plan: str, digest: str) -> None:
    page = bob.page
    expect(page.get_by_role("heading", name=plan, exact=True)).to_be_visible()
    expect(_button(bob, "Approve")).to_be_enabled()
    bob.shot("preview-narrow-dark")
    page.set_viewport_size({"width": 1400, "height": 1400})
    bob.shot("preview-wide-dark")
    expect(page.locator(".copied").first).to_have_text(digest)
    # Before and after, by text and not by colour alone; then only one pass of two.
    first = page.locator(".rows tbody tr").first
    expect(first.locator("dt", has_text="invoice_id")).to_be_visible()
    expect(first.locator("dd.after").first).to_have_text("→ 9")
    expect(first.locator(".chip").first).to_have_text("+ set")
    expect(page.locator(".rows tbody tr")).to_have_count(10)
    page.get_by_label("Pass").click()
    page.get_by_role("option", name="payprop_invoice_id (3)").click()
    page.keyboard.press("Escape")
    expect(page.locator(".rows tbody tr")).to_have_count(3)
    _says(bob, "Rows 1 to 3 of 3")
    listed = list(csv.reader(io.StringIO(bob.file("CSV").decode())))
    assert listed[0][:6] == ["record", "source", "action", "pass", "confidence", "invoice_id before"]
    assert [line[0] for line in listed[1:]] == ["1483", "1496", "1515"]
    sheet = openpyxl.load_workbook(io.BytesIO(bob.file("Excel"))).active
    assert sheet is not None
    assert sheet.max_row == 4
    page.get_by_text("execute.sql").click()
    expect(page.locator("pre.sql .word", has_text="UPDATE").first).to_be_visible()
    page.get_by_text("The SQL of these rows").click()
    expect(page.locator("pre.sql .name", has_text=f"staged_{plan}").first).to_be_visible()
    # What is typed must be the beginning of this digest.
    _confirm(bob, SIGNING, "00000000")
    _button(bob, "Approve").click()
    _says(bob, "This is not how the plan's digest begins.")
    _confirm(bob, SIGNING, digest[:8])
    _button(bob, "Approve").click()
    _says(bob, "bob (by name)")
    expect(page.get_by_text("✓ approved").first).to_be_visible()
    expect(_button(bob, "Approve")).to_be_disabled()
    bob.was_harmless()


def _written_by_ann(ann: Visit, database: Database, digest: str) -> None:
    ann.page.reload()
    _button(ann, "Dry run").click()
    _says(ann, "Would change 10 of 10 rows")
    _button(ann, "Apply: write the rows").click()  # without a word of which plan is meant
    _says(ann, "You typed nothing.")
    assert "applying" not in _moves(database)
    _confirm(ann, WRITING, digest[:8])
    _button(ann, "Apply: write the rows").click()
    _says(ann, "Changed 10 of 10 rows")
    _button(ann, "Verify").click()
    _says(ann, "All 10 planned changes are there.")
    assert _moves(database) == ["planned", "approval", "approved", "applying", "applied", "verified"]
    ann.shot("preview-verified")
    ann.page.reload()
    expect(_button(ann, "Revert: undo the rows")).to_be_enabled()
    assert len(_moves(database)) == 6


def _undone_by_ann(ann: Visit, database: Database, digest: str) -> None:
    execute(database, "UPDATE historical_transactions SET invoice_id = 1 WHERE id = 1484")
    _button(ann, "Dry run of the revert").click()
    _says(ann, "Would restore 9 of 10 rows.")
    _confirm(ann, WRITING, digest[:8])
    _button(ann, "Revert: undo the rows").click()
    _says(ann, "Restored 9 of 10 rows")
    expect(ann.page.get_by_text("1 row was changed by somebody since and is kept: 1484")).to_be_visible()
    ann.shot("preview-reverted")
    assert rows(database, "SELECT invoice_id FROM historical_transactions WHERE id IN (1483, 1484) ORDER BY id") == [
        (None,), (1,),
    ]  # fmt: skip
    assert _moves(database)[-2:] == ["reverting", "reverted_with_conflicts"]
    ann.was_harmless()


def test_a_refusal_says_what_why_and_what_to_do(
    database: Database, workspace: Workspace, browser: Browser, tmp_path: Path
) -> None:
    plan = _approved(database, workspace)
    script = plan.bundle / "execute.sql"
    with app(
        NOTEBOOK, database, workspace, browser, tmp_path / "app.log", query=f"?plan={plan.plan}", RECON_USER="cy"
    ) as visit:
        expect(_button(visit, "Apply: write the rows")).to_be_enabled()
        script.write_text(script.read_text(encoding="utf-8").replace("UPDATE", "update", 1), encoding="utf-8")
        _confirm(visit, WRITING, plan.digest[:8])
        _button(visit, "Apply: write the rows").click()
        _says(visit, "Apply: refused")
        _says(visit, "execute.sql is not the file that was planned")
        visit.shot("preview-refused")
        visit.was_harmless()
    linked = "SELECT count(*) FROM historical_transactions WHERE category = 'rent' AND invoice_id IS NULL"
    assert rows(database, linked) == [(10,)]


LONG = {
    "name": "long",
    "target": {"table": "pay", "key": "id"},
    "source": {"table": "lease", "key": "id"},
    "link": {"column": "lease_id"},
    "passes": [{"name": "by_code", "on": {"code": "code"}}],
    "show": ["t.note"],
}


def test_a_long_key_leaves_room_for_what_changes(
    database: Database, workspace: Workspace, browser: Browser, tmp_path: Path
) -> None:
    """Everything of a row is seen at once: the key is broken across lines, and no column is squeezed to nothing."""
    execute(
        database,
        "CREATE TABLE lease (id text PRIMARY KEY, code int)",
        "CREATE TABLE pay (id text PRIMARY KEY, code int, lease_id text, note text)",
        "INSERT INTO lease VALUES (repeat('s', 90), 1)",
        "INSERT INTO pay VALUES (repeat('t', 120), 1, NULL, repeat('n', 200))",
    )
    (workspace.root / "reconciliations" / "long.yaml").write_text(json.dumps(LONG), encoding="utf-8")
    runs.match(database, workspace.spec("long"), "ann")
    draft = preview.open_draft(database, workspace, "long")
    with browser.new_page(viewport={"width": 1200, "height": 800}) as page:
        page.set_content(preview_view.rows_html(draft, preview.rows(database, draft, Filter())))
        assert page.evaluate("(it => it.scrollWidth - it.clientWidth)(document.querySelector('.scroll'))") == 0
        beside = page.locator("td.beside").bounding_box()
        row = page.locator("tbody tr").bounding_box()
        assert beside
        assert row
        assert beside["width"] > 150
        assert row["height"] < 500


def _approved(database: Database, workspace: Workspace) -> Plan:
    load_rent_sample(database)
    spec = rent_spec()
    runs.match(database, spec, "ann")
    made = plans.make(database, workspace, spec, "ann")
    assert made is not None
    return sign_off.approve(database, workspace, made.plan, "bob")
