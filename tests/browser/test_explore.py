"""The explore notebook in a real browser: what an analyst sees, and what a hostile value cannot do."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from recon.database.connect import Database
from recon.matching import run as runs
from recon.workspace import Workspace
from tests.support import ROOT, execute, load_rent_sample, rows

IMPORTS = "financial_transactions"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (  # of its own accord Chromium calls its maker; these tests count every request
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync --no-first-run"
).split()
START_SECONDS = 60.0
STOP_SECONDS = 10.0
PAUSE_SECONDS = 0.1
SEEN_MILLISECONDS = 20_000  # a first page loads all of marimo's scripts
HOSTILE = '<script>window.taken = 1</script><img src=x onerror="window.taken = 2">'
PICTURE = "https://stranger.example/pixel.png"

pytestmark = pytest.mark.one_engine


@dataclass
class Visit:
    """A page of the app, and what the browser did on it."""

    page: Page
    address: str
    hosts: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)

    def open(self) -> None:
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"http://{self.address}/")

    def sees(self, text: str) -> None:
        expect(self.page.get_by_text(text, exact=True).first).to_be_visible()

    def choose(self, key: int) -> None:
        """Tick the record of this key and wait for its explanation."""
        self.page.get_by_role("row").filter(has_text=str(key)).get_by_role("checkbox").click()
        expect(self.page.get_by_role("heading", name=f"Why {key}?")).to_be_visible()

    def was_harmless(self) -> None:
        assert self.errors == []
        assert self.hosts - {""} == {self.address}  # data: addresses have no host
        assert self.page.evaluate("window.taken") is None


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no Chromium on this machine: looked for {', '.join(BROWSERS)}")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=QUIET)
        yield opened
        opened.close()


@contextmanager
def app(database: Database, workspace: Workspace, browser: Browser, log: Path) -> Iterator[Visit]:
    """The app served for this database, and a page on it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    environment = {
        **os.environ,
        "RECON_WORKSPACE": str(workspace.root),
        "RECON_DATABASE_URL": database.url,
        "RECON_RECONCILIATION": IMPORTS,
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "marimo", "run", str(ROOT / "notebooks" / "explore_mismatches.py")]
    command += ["--headless", "--no-token", "--host", "127.0.0.1", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, cwd=workspace.root, stdout=output, stderr=output)
    try:
        _wait_until_served(address, process, log)
        context = browser.new_context(viewport={"width": 1200, "height": 1400})
        context.set_default_timeout(SEEN_MILLISECONDS)
        expect.set_options(timeout=SEEN_MILLISECONDS)
        visit = Visit(context.new_page(), address)
        visit.open()
        yield visit
        context.close()
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)


def _wait_until_served(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"http://{address}/health", timeout=5).close()
            return
        except (URLError, OSError):
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the app does not serve: {log.read_text()}") from None
            time.sleep(PAUSE_SECONDS)


def test_an_analyst_sees_the_numbers_and_why_a_tie_is_a_tie(
    database: Database, workspace: Workspace, browser: Browser, tmp_path: Path
) -> None:
    load_rent_sample(database)
    run = runs.match(database, workspace.spec(IMPORTS), "ann")
    decisions = f"recon.decisions_{run.run}"
    tied = rows(database, f"SELECT target_key FROM {decisions} WHERE outcome = 'ambiguous' ORDER BY 1 LIMIT 1")[0][0]
    with app(database, workspace, browser, tmp_path / "app.log") as visit:
        visit.sees("1,028")
        visit.sees("96.9 %")
        visit.sees("32 records")  # 12 proposed, 12 ambiguous and 8 unmatched come first
        visit.choose(tied)
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
    with app(database, workspace, browser, tmp_path / "app.log") as visit:
        visit.choose(unknown)
        visit.sees(f"No source record has payprop_invoice_id {HOSTILE}. ← came closest")
        visit.choose(proposed)
        expect(visit.page.locator(".rx td", has_text=HOSTILE)).to_be_visible()
        visit.was_harmless()


def test_where_nothing_ran_the_page_says_what_to_do(
    database: Database, workspace: Workspace, browser: Browser, tmp_path: Path
) -> None:
    execute(database, "CREATE TABLE unrelated (id int)")
    with app(database, workspace, browser, tmp_path / "app.log") as visit:
        visit.sees(f"recon match {IMPORTS}")
        visit.was_harmless()
    assert rows(database, "SELECT to_regnamespace('recon')::text") == [(None,)]  # looking creates nothing
