"""The desks with a million payments loaded: how long a person waits for the first view and after each click.

The apps are served as people serve them and opened in Chromium; a time runs from the click until the page shows what
was asked for and the app is idle again. The rent payments are the sample's tables at full size: six in ten are linked,
a quarter is matched, and the rest waits for people for every reason there is.
"""

from __future__ import annotations

import re
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from playwright.sync_api import Browser, Locator, Page, sync_playwright

from benchmarks import data, match_closest
from benchmarks.measure import ROOT, Figure, Setting, at_most
from recon.backfill import plan as plans
from recon.database import tables
from recon.matching import run as runs
from recon.matching.backtest import backtest
from recon.workspace import Workspace
from tests.browser import desk

SUBJECT = "j"
FIRST_SECONDS, CLICK_SECONDS = 5.0, 1.0  # the project's own aims: a person waits no longer
PER_LEASE = 10  # payments of one lease
TIMES = 3  # how often each click is timed; the median counts
PATIENCE_SECONDS = 120.0
LOOK_MILLISECONDS = 20
ANALYST = "bench-analyst"
WINDOWED = "bench_windowed"  # a million visits to a million jobs within an hour, one to one

FILL = (
    # Leases are of the first properties; from {leases} + 1 on, a property has none. Each 50th lease has a twin on equal terms.
    "INSERT INTO properties SELECT n, 'Flat ' || n, 'AB1 2CD' FROM generate_series(1, {leases} + 100) AS n",
    "INSERT INTO customers (id, name) SELECT n, 'Tenant ' || n FROM generate_series(1, {leases} + 100) AS n",
    """INSERT INTO invoices (id, lease_reference, payprop_id, property_id, customer_id, start_date, end_date, rent_amount)
       SELECT n, 'LEASE-' || n, 'P' || n, n, n, date '2020-01-01' + n % 1500,
           CASE WHEN n % 3 > 0 THEN date '2025-01-01' + n % 700 END, 400 + n % 900
       FROM generate_series(1, {leases}) AS n""",
    """INSERT INTO invoices (id, lease_reference, payprop_id, property_id, customer_id, start_date, end_date, rent_amount)
       SELECT {leases} + id, lease_reference || 'B', NULL, property_id, customer_id, start_date, end_date, rent_amount
       FROM invoices WHERE id % 50 = 0""",
    """INSERT INTO historical_transactions (id, transaction_date, property_id, customer_id, amount, category,
           payprop_invoice_id, invoice_id, description)
       SELECT n, date '2024-01-01' + n % 700,
           CASE WHEN kind BETWEEN 85 AND 89 THEN {leases} + 1 + n % 100 WHEN kind BETWEEN 90 AND 93 THEN NULL
               WHEN kind >= 98 THEN lease / 50 * 50 + 50 ELSE lease END,
           CASE WHEN kind BETWEEN 94 AND 97 THEN {leases} + 1 + n % 100 WHEN kind >= 98 THEN lease / 50 * 50 + 50
               WHEN kind BETWEEN 90 AND 93 THEN NULL ELSE lease END,
           (400 + n % 900)::numeric(10, 2), 'rent', CASE WHEN kind < 85 AND n % 3 = 0 THEN 'P' || lease END,
           CASE WHEN kind < 60 THEN lease END, 'Standing order ' || n
       FROM (SELECT n, n % 100 AS kind, (n::bigint * 7919 % ({leases} - 50) + 1)::int AS lease
             FROM generate_series(1, {rows}) AS n) AS payment""",
)


@dataclass(frozen=True)
class Click:
    """What a person does on a page, and the words on it by whose change one sees that it was done."""

    what: str
    act: Callable[[Page, int], object]  # on which page, for which time
    words: Callable[[Page], str]
    prepare: Callable[[Page, int], object] = lambda _page, _turn: None  # what comes before it and is not timed


# -- what is clicked -------------------------------------------------------------------------------------


def _words(found: Locator) -> str:
    """What stands there now, without waiting; nothing where it does not stand (yet)."""
    return next(iter(found.all_inner_texts()), "")


def _counted(page: Page) -> str:
    """How many records the filters let through, and which of them are shown."""
    return _words(page.locator(".rx p", has=page.locator("strong", has_text="record")))


def _first_row(page: Page) -> str:
    return _words(page.locator("marimo-table tbody tr"))


def _explained(page: Page) -> str:
    return _words(page.locator(".rx h2", has_text="Why "))


def _planned_row(page: Page) -> str:
    return _words(page.locator(".rows tbody tr"))


def _tick(page: Page, turn: int) -> None:
    page.locator("marimo-table tbody tr").nth(turn + 1).get_by_role("checkbox").click()


def _ask_key(page: Page, turn: int) -> None:
    field = page.get_by_label("One record by its key")
    field.fill(str(85 + 1_000 * (turn + 1)))
    field.press("Enter")


def _page_number(page: Page, turn: int) -> None:
    field = page.get_by_label("Page, of").first
    field.fill(str(100 * (turn + 1)))
    field.press("Enter")


def _one_pass(page: Page, turn: int) -> None:
    if turn == 0:
        page.get_by_label("Pass").first.click()
    page.get_by_role("option").nth(1).click()


def _settle(page: Page, turn: int) -> None:
    before = _explained(page)
    _tick(page, turn + 3)
    _seen(page, _explained, before)
    page.get_by_label("Decide:").select_option(index=2)  # leave it out
    page.get_by_label("because (required):").fill("seen by both")
    page.get_by_label("because (required):").press("Enter")


def _settled(page: Page) -> str:
    return _words(page.get_by_text(re.compile("made or undone since")))


def _tried(page: Page) -> str:
    """What the tolerances that the sliders show would give; nothing while it is being decided."""
    found = page.get_by_text("Nothing was kept.").or_(page.get_by_text("Move a slider to try it."))
    return " ".join([*found.all_inner_texts(), *page.get_by_role("row").filter(has_text="✓ matched").all_inner_texts()])


def _slide(page: Page, turn: int) -> None:
    slider = page.get_by_role("slider")
    slider.focus()
    slider.press("ArrowRight" if turn % 2 == 0 else "ArrowLeft")


FIRST = {"explore": _first_row, "explore, windows": _first_row, "preview": _planned_row}
EXPLORE = (
    Click(
        "a reason is ticked and unticked", lambda page, _: page.get_by_label("no source has its key").click(), _counted
    ),
    Click("the next page of records", lambda page, _: page.get_by_role("button", name="Next →").click(), _first_row),
    Click("a record is chosen: pass by pass, side by side", _tick, _explained),
    Click(
        "a decision is kept",
        lambda page, _: page.get_by_role("button", name="Decide").click(),
        _settled,
        _settle,
    ),
    Click("records are looked for by a key", _ask_key, _first_row),
)
SLIDER = (Click("a window is made wider and narrower", _slide, _tried),)
PREVIEW = (
    Click("another page of planned rows", _page_number, _planned_row),
    Click("only one pass, and all again", _one_pass, _planned_row),
)


# -- how long it takes -----------------------------------------------------------------------------------


def run(setting: Setting) -> list[Figure]:
    """The first view of both desks, and each click on them."""
    found = desk.program()
    if found is None:
        return [Figure(SUBJECT, "the desks", None, "", note=f"No browser: looked for {', '.join(desk.BROWSERS)}.")]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        workspace = Workspace(Path(folder))
        plan = load(setting, workspace)
        browser = playwright.chromium.launch(executable_path=found, args=desk.QUIET)
        try:
            return [
                *_visited(
                    setting, workspace, browser, "explore_mismatches.py", "explore", "?name=rent_payments", EXPLORE
                ),
                *_visited(
                    setting,
                    workspace,
                    browser,
                    "explore_mismatches.py",
                    "explore, windows",
                    f"?name={WINDOWED}",
                    SLIDER,
                ),
                *_visited(setting, workspace, browser, "preview_backfill.py", "preview", f"?plan={plan}", PREVIEW),
            ]
        finally:
            browser.close()


def load(setting: Setting, workspace: Workspace) -> str:
    """The sample's tables at full size, matched, tested against the links that exist, and planned; the plan's id."""
    leases = max(setting.rows // PER_LEASE, 100)
    schema = (ROOT / "sql" / "schema" / "rent_payments.sql").read_text(encoding="utf-8")
    spec = workspace.spec("rent_payments")
    tables.ensure(setting.database)
    with setting.database.session() as session:
        session.execute(
            "DROP TABLE IF EXISTS historical_transactions, financial_transactions, invoices, customers, properties"
        )
        session.driver.execute(schema.encode())
        for statement in FILL:
            session.execute(statement.format(rows=setting.rows, leases=leases))
    with setting.database.session() as session:
        session.execute("ANALYZE")
    runs.match(setting.database, spec, ANALYST)
    backtest(setting.database, spec, ANALYST)
    plan = plans.make(setting.database, workspace, spec, ANALYST)
    assert plan is not None
    with setting.database.session() as session:
        data.make(session, data.CLOSEST, rows=setting.rows)
    spec = match_closest.SPEC.model_copy(update={"name": WINDOWED})
    folder = workspace.root / "reconciliations"
    folder.mkdir()
    (folder / f"{WINDOWED}.yaml").write_text(spec.model_dump_json(exclude_defaults=True), encoding="utf-8")
    runs.match(setting.database, workspace.spec(WINDOWED), ANALYST)
    return plan.plan


def _visited(
    setting: Setting,
    workspace: Workspace,
    browser: Browser,
    notebook: str,
    name: str,
    query: str,
    clicks: tuple[Click, ...],
) -> list[Figure]:
    """The warm first view of an app, then each click; every time is the median of a few."""
    log = workspace.root / f"{name}.log"
    settings = {"RECON_USER": ANALYST, "RECON_RECONCILIATION": "rent_payments"}
    with desk.app(notebook, setting.database, workspace, browser, log, query=query, **settings) as visit:
        visit.page.set_default_timeout(1000 * PATIENCE_SECONDS)
        _seen(visit.page, FIRST[name], "")  # the cold one: the app imports, the browser loads its scripts
        first = [_reloaded(visit.page, FIRST[name]) for _ in range(TIMES)]
        timed = {click.what: [_clicked(visit.page, click, turn) for turn in range(TIMES)] for click in clicks}
        assert visit.errors == [], visit.errors
    rows = f"{setting.rows:,} records"
    return [
        _figure(f"{name}, {rows}: first view, warm", first, FIRST_SECONDS),
        *(_figure(f"{name}, {rows}: {what}", seconds, CLICK_SECONDS) for what, seconds in timed.items()),
    ]


def _figure(what: str, seconds: list[float], most: float) -> Figure:
    median = statistics.median(seconds)
    target, met = at_most(most, median)
    return Figure(SUBJECT, what, median, "s", target, met, note=f"slowest of {len(seconds)}: {max(seconds):.2f} s")


def _reloaded(page: Page, words: Callable[[Page], str]) -> float:
    """Seconds until the page shows its first records again."""
    page.goto("about:blank")
    began = perf_counter()
    page.go_back()
    _seen(page, words, "")
    return perf_counter() - began


def _clicked(page: Page, click: Click, turn: int) -> float:
    """Seconds until the page says something else."""
    click.prepare(page, turn)
    before = click.words(page)
    began = perf_counter()
    click.act(page, turn)
    _seen(page, click.words, before)
    return perf_counter() - began


def _seen(page: Page, words: Callable[[Page], str], before: str) -> None:
    """Wait until something stands there, and something else than before."""
    began = perf_counter()
    while words(page) in (before, ""):
        if perf_counter() - began > PATIENCE_SECONDS:
            raise TimeoutError(f"nothing changed in {PATIENCE_SECONDS:.0f} s; it says {before!r}")
        page.wait_for_timeout(LOOK_MILLISECONDS)
