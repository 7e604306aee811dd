"""The preview notebook in a real browser: an analyst plans, a reviewer signs, and the rows change and change back."""

from __future__ import annotations

import re
from pathlib import Path

import openpyxl
import pytest
from playwright.sync_api import Browser, Locator, expect

from recon import workflow
from recon.backfill import plan as plans
from recon.backfill import sign_off
from recon.database.connect import Database
from recon.matching import run as runs
from recon.workspace import Workspace
from tests.browser.desk import Visit, app
from tests.support import RENT, execute, load_rent_sample, rent_spec, rows

NOTEBOOK = "preview_backfill.py"
HOSTILE = '<script>window.taken = 1</script><img src=x onerror="window.taken = 2">'

pytestmark = pytest.mark.one_engine


def _button(visit: Visit, name: str) -> Locator:
    return visit.page.get_by_role("button", name=name, exact=True)


def _state(database: Database) -> str:
    return rows(database, "SELECT string_agg(state, ',') FROM recon.plans")[0][0]


def _events(database: Database) -> list[str]:
    return [row[0] for row in rows(database, "SELECT coalesce(to_state, event) FROM recon.audit_log ORDER BY entry")]


def _confirm(visit: Visit, which: int, text: str) -> None:
    """Type how the digest begins: 0 beside approve, 1 beside apply and revert."""
    visit.page.get_by_label("The digest begins with").nth(which).fill(text)


def test_a_plan_goes_from_the_draft_to_the_revert(
    database: Database, workspace: Workspace, browser: Browser, tmp_path: Path
) -> None:
    load_rent_sample(database)
    spec = rent_spec()
    execute(database, "UPDATE invoices SET lease_reference = $$" + HOSTILE + "$$ WHERE id = 9")
    runs.match(database, spec, "ann")
    workflow.backtest(database, spec, "ann")
    settings = {"RECON_RECONCILIATION": RENT}
    with app(
        NOTEBOOK, database, workspace, browser, tmp_path / "ann.log", RECON_USER="ann", **settings
    ) as ann:
        page = ann.page
        # The draft: nothing is planned yet.
        expect(page.get_by_role("heading", name=f"Draft for {RENT}")).to_be_visible()
        ann.sees("10 rows")
        expect(page.locator(".rows td", has_text=HOSTILE).first).to_be_visible()
        ann.shot("preview-draft")
        assert rows(database, "SELECT count(*) FROM recon.plans") == [(0,)]
        _button(ann, "Make the plan").click()
        expect(page.get_by_text("was made, with its bundle in")).to_be_visible()
        [(plan, digest)] = rows(database, "SELECT plan, digest FROM recon.plans")
        expect(page.get_by_role("heading", name=plan, exact=True)).to_be_visible()
        assert f"plan={plan}" in page.url
        # Its author cannot approve it, and is told so.
        expect(page.get_by_text("You (ann) made this plan. It needs the eyes of somebody else.")).to_be_visible()
        expect(_button(ann, "Approve")).to_be_disabled()
        expect(_button(ann, "Apply: write the rows")).to_be_disabled()
        ann.shot("preview-planned")
        ann.was_harmless()
        print(_events(database), digest)
