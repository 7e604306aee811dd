"""The site that `make docs` builds: every page is reached, every link leads somewhere, nothing is asked of other hosts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest

from tests.support import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LOADED = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "source": "src",
    "link": "href",
}  # what a page loads by itself


class Page(HTMLParser):
    """Where a page leads, what it loads, and the anchors it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in LOADED and LOADED[tag] in given:
            self.loaded.append(given[LOADED[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as `make docs` does: a warning ends it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    quiet = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    ended = subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def _followed(path: Path, page: Page) -> Iterator[tuple[str, Path, str]]:
    """Each link to the site itself: as it stands there, the file, the anchor."""
    for link in page.links:
        target, anchor = urldefrag(urljoin(path.as_uri(), link))
        if urlsplit(target).scheme == "file":
            yield link, Path(unquote(urlsplit(target).path)), unquote(anchor)


def test_every_page_of_the_docs_is_on_the_site_and_reached_from_its_start(site: Path, pages: dict[Path, Page]) -> None:
    written = {path.relative_to(ROOT / "docs").with_suffix(".html") for path in (ROOT / "docs").rglob("*.md")}
    assert {path.relative_to(site) for path in pages} == written
    reached, ahead = {site / "index.html"}, [site / "index.html"]
    while ahead:
        path = ahead.pop()
        found = {target for _, target, _ in _followed(path, pages[path])} & pages.keys()
        ahead += found - reached
        reached |= found
    assert reached == pages.keys()


def test_every_link_and_anchor_of_the_site_resolves(pages: dict[Path, Page]) -> None:
    wrong = [
        f"{path.name}: {link}"
        for path, page in pages.items()
        for link, target, anchor in _followed(path, page)
        if not target.is_file() or (anchor and target in pages and anchor not in pages[target].anchors)
    ]
    assert not wrong


def test_no_page_loads_anything_from_another_host(pages: dict[Path, Page]) -> None:
    elsewhere = {address for page in pages.values() for address in page.loaded if urlsplit(address).netloc}
    assert not elsewhere


def test_search_works_in_a_folder_and_asks_nobody(site: Path, browser: Browser) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / "how_to" / "revert.html").as_uri())
    page.locator(".md-search__input").click()
    page.keyboard.type("reverted_with_conflicts")
    first = page.locator(".md-search-result__item a").first
    first.wait_for(timeout=20_000)
    assert "revert" in page.locator(".md-search-result__list").inner_text().lower()
    first.click()
    page.wait_for_url("**/*.html*")
    assert asked
    assert all(address.startswith(("file:", "data:", "blob:", "about:")) for address in asked)
    page.close()
