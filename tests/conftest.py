"""Real servers for every test: the embedded PostgreSQL, and a Debian one where its binaries are installed."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from recon.database import embedded
from recon.database.connect import Database
from recon.workspace import Workspace
from tests import forked
from tests.copies import Copies
from tests.postgres import DebianServer, debian_binaries

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ENGINES = ("embedded", "debian")
UNSAFE = (
    "fsync",
    "synchronous_commit",
    "full_page_writes",
)  # nobody reads this cluster after the tests; chaos has its own

YOUNG_OBJECTS = 20_000  # as many as this are made before garbage is looked for; Python's own 700 is a fifth of all time


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--every-engine", action="store_true", help="run tests marked one_engine on every engine too")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "one_engine: run on the embedded PostgreSQL only, because the test is slow or asks nothing of the server",
    )
    for name in [name for name in os.environ if name.startswith("RECON_")]:
        del os.environ[name]  # a developer's own settings must not reach the tests
    forked.fork_kernels()
    gc.disable()  # what is imported until the tests are found stays


def pytest_collection_finish() -> None:
    """Garbage is looked for again, but never again among what stays: libraries, and thousands of tests."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    gc.enable()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames:
        every = metafunc.config.getoption("--every-engine")
        only_one = metafunc.definition.get_closest_marker("one_engine") and not every
        metafunc.parametrize("engine", ENGINES[:1] if only_one else ENGINES, scope="session")


@pytest.fixture(scope="session")
def embedded_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("embedded")
    url = embedded.start(folder, "tests")
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        for setting in UNSAFE:
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(setting)))
        connection.execute("SELECT pg_reload_conf()")
    yield url
    embedded.discard(folder)


@pytest.fixture(scope="session")
def debian_url() -> Iterator[str]:
    if debian_binaries() is None:
        pytest.skip("no PostgreSQL 15 binaries on this machine (Debian: apt-get install postgresql)")
    with DebianServer() as server:
        yield server.url


@pytest.fixture(scope="session")
def every_copies() -> dict[str, Copies]:
    """By engine."""
    return {}


@pytest.fixture
def copies(engine: str, every_copies: dict[str, Copies], request: pytest.FixtureRequest) -> Copies:
    """The database of this test's engine, and copies of what many tests begin with."""
    if engine not in every_copies:
        every_copies[engine] = Copies(request.getfixturevalue(f"{engine}_url"))
    return every_copies[engine]


@pytest.fixture
def database(copies: Copies) -> Iterator[Database]:
    """A fresh, empty database on the engine of this test."""
    yield copies.fresh()
    copies.drop()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace."""
    folder = tmp_path / "workspace"
    (folder / "reconciliations").mkdir(parents=True)
    return Workspace(folder)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A real browser."""
    from playwright.sync_api import sync_playwright

    from tests.browser.desk import BROWSERS, QUIET, program

    found = program()
    if found is None:
        pytest.skip(f"no Chromium on this machine: looked for {', '.join(BROWSERS)}")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=QUIET)
        yield opened
        opened.close()
