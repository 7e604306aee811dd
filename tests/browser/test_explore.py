"""The explore notebook in a real browser: what an analyst sees, and what a hostile value cannot do."""

from __future__ import annotations

from pathlib import Path

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


def test_an_analyst_sees_the_numbers_and_why_a_tie_is_a_tie(
    database: Database, workspace: Workspace, browser: Browser, tmp_path: Path
) -> None:
    load_rent_sample(database)
    run = runs.match(database, workspace.spec(IMPORTS), "ann")
    decisions = f"recon.decisions_{run.run}"
    tied = rows(database, f"SELECT target_key FROM {decisions} WHERE outcome = 'ambiguous' ORDER BY 1 LIMIT 1")[0][0]
    with app(NOTEBOOK, database, workspace, browser, tmp_path / "app.log", RECON_RECONCILIATION=IMPORTS) as visit:
        visit.sees("1,028")
        visit.sees("96.9 %")
        visit.sees("32 records")  # 12 proposed, 12 ambiguous and 8 unmatched come first
        _choose(visit, tied)
        page = visit.page
        expect(page.get_by_text("2 candidates with property_id 10 are equally good.")).to_be_visible()
        expect(page.get_by_text("← decided here")).to_have_count(1)
        expect(page.get_by_text("– not reached")).to_have_count(1)
        expect(page.locator("th", has_text="tied")).to_have_text(["invoices17 tied", "invoices18 tied"])
        expect(page.locator("tr", has=page.get_by_role("rowheader", name="lease_reference"))).to_contain_text(
            "≠ candidates differ"
        )
        visit.was_harmless()


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
        _choose(visit, unknown)
        visit.sees(f"No source record has payprop_invoice_id {HOSTILE}. ← came closest")
        _choose(visit, proposed)
        expect(visit.page.locator(".rx td", has_text=HOSTILE)).to_be_visible()
        visit.was_harmless()


def test_where_nothing_ran_the_page_says_what_to_do(
    database: Database, workspace: Workspace, browser: Browser, tmp_path: Path
) -> None:
    execute(database, "CREATE TABLE unrelated (id int)")
    with app(NOTEBOOK, database, workspace, browser, tmp_path / "app.log", RECON_RECONCILIATION=IMPORTS) as visit:
        visit.sees(f"recon match {IMPORTS}")
        visit.was_harmless()
    assert rows(database, "SELECT to_regnamespace('recon')::text") == [(None,)]  # looking creates nothing
