"""Chaos: processes are killed, servers stopped, answers lost, rows and tables changed underneath; then it is counted.

`CHAOS=long` does much more of the same (`make chaos`); this is the only place that reads it.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from recon.workspace import Workspace
from tests.chaos.books import Books
from tests.chaos.scale import LONG, SHORT, Scale
from tests.chaos.servers import Debian, Embedded, Server
from tests.postgres import debian_binaries

SCALE = LONG if os.environ.get("CHAOS") == "long" else SHORT

COUNTS: pytest.StashKey[Counter[str]] = pytest.StashKey()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames:
        metafunc.parametrize("server", SCALE.engines, indirect=True, scope="session")


@pytest.fixture(scope="session")
def scale() -> Scale:
    return SCALE


@pytest.fixture(scope="session")
def counts(request: pytest.FixtureRequest) -> Counter[str]:
    """What the suite did in all; it is said at the end."""
    return request.config.stash.setdefault(COUNTS, Counter())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if found := config.stash.get(COUNTS, None):
        terminalreporter.write_line("chaos: " + ", ".join(f"{number:,} {name}" for name, number in found.items()))


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of these tests' own, which they may break."""
    if request.param == "debian" and debian_binaries() is None:
        pytest.skip("no PostgreSQL 15 binaries on this machine (Debian: apt-get install postgresql)")
    with Embedded(tmp_path_factory.mktemp("chaos")) if request.param == "embedded" else Debian() as running:
        yield running


@pytest.fixture
def open_books(server: Server, workspace: Workspace) -> Iterator[Callable[..., Books]]:
    """Makes books with a signed plan."""
    made: list[Books] = []

    def make(rows: int, *, tolerance: int = 0, signed: bool = True, **spec: Any) -> Books:
        (workspace.root / "recon.toml").write_text(f"[plan]\ntolerance_rows = {tolerance}\n")
        books = Books(server, Workspace(workspace.root), rows)
        made.append(books)
        books.fill()
        if signed:
            books.plan = books.sign()
        return books

    yield make
    for books in made:
        server.drop(books.name)
