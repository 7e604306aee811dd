"""A notebook app as people meet it: served for a database, opened in a real browser, and watched."""

from __future__ import annotations

import os
import shutil
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect

from recon.database.connect import Database
from recon.workspace import Workspace
from tests import forked
from tests.support import ROOT

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (  # of its own accord Chromium calls its maker; these tests count every request
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync --no-first-run"
).split()
START_SECONDS = 60.0
PAUSE_SECONDS = 0.1
SEEN_MILLISECONDS = 20_000  # a first page loads all of marimo's scripts
HIGHEST = 8_000  # pixels of a picture
ARTEFACTS = ROOT / "tests" / "browser" / "artefacts"  # screenshots, for people to look at; not in git


def program() -> str | None:
    """The browser on this machine."""
    return next((found for name in BROWSERS if (found := shutil.which(name))), None)


@dataclass
class Visit:
    """A page of an app, and what the browser did on it."""

    page: Page
    address: str
    hosts: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)

    def open(self, query: str = "") -> None:
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(f"http://{self.address}/{query}")

    def sees(self, text: str) -> None:
        expect(self.page.get_by_text(text, exact=True).first).to_be_visible()

    def shot(self, name: str) -> None:
        """Keep a picture of the whole page for people to look at.

        An app scrolls inside the window, so the window is made as high as what it holds.
        """
        ARTEFACTS.mkdir(exist_ok=True)
        size = self.page.viewport_size
        assert size is not None
        high = self.page.evaluate("Math.max(...[...document.querySelectorAll('*')].map(it => it.scrollHeight))")
        self.page.set_viewport_size({"width": size["width"], "height": min(high, HIGHEST)})
        self.page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)
        self.page.set_viewport_size(size)

    def file(self, label: str) -> bytes:
        """What is downloaded by a click on this label."""
        with self.page.expect_download() as waiting:
            self.page.get_by_text(label, exact=True).click()
        return Path(waiting.value.path()).read_bytes()

    def was_harmless(self) -> None:
        assert self.errors == []
        assert self.hosts - {""} == {self.address}  # data: addresses have no host
        assert self.page.evaluate("window.taken") is None


@contextmanager
def app(
    notebook: str,
    database: Database,
    workspace: Workspace,
    browser: Browser,
    log: Path,
    *,
    query: str = "",
    dark: bool = False,
    width: int = 1200,
    **settings: str,
) -> Iterator[Visit]:
    """An app served for this database, and a page on it.

    Args:
        notebook: the file in notebooks/.
        database: what it looks at.
        workspace: where it is at home.
        browser: what opens it.
        log: where the server's words go.
        query: what stands behind the address, with its question mark.
        dark: whether the person prefers dark pages.
        width: of the window, in pixels.
        settings: what is in the app's environment, such as RECON_USER.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"127.0.0.1:{port}"
    environment = {
        **os.environ,
        "RECON_WORKSPACE": str(workspace.root),
        "RECON_DATABASE_URL": database.url,
        "PYTHONPATH": str(ROOT),
        **settings,
    }
    arguments = ["run", str(ROOT / "notebooks" / notebook)]
    arguments += ["--headless", "--no-token", "--host", "127.0.0.1", "--port", str(port)]
    with forked.Running(arguments, environment, workspace.root, program="marimo", log=log) as process:
        _wait_until_served(address, process, log)
        context = browser.new_context(
            viewport={"width": width, "height": 1400}, color_scheme="dark" if dark else "light"
        )
        context.set_default_timeout(SEEN_MILLISECONDS)
        expect.set_options(timeout=SEEN_MILLISECONDS)
        visit = Visit(context.new_page(), address)
        visit.open(query)
        yield visit
        context.close()


def _wait_until_served(address: str, process: forked.Running, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"http://{address}/health", timeout=5).close()
            return
        except (URLError, OSError):
            if not process.runs or time.monotonic() > deadline:
                raise AssertionError(f"the app does not serve: {log.read_text()}") from None
            time.sleep(PAUSE_SECONDS)
