"""`recon notebook` as a person starts it: the address opens it, nothing else does, and a signal ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest
from playwright.sync_api import Browser, expect

from recon import new_workspace
from recon.database.connect import Database
from recon.desk import serving
from recon.errors import NotFound, UsageError
from recon.matching import run as runs
from recon.workspace import Workspace
from tests.browser.desk import ARTEFACTS, SEEN_MILLISECONDS
from tests.support import RENT, load_rent_sample, rent_spec

pytestmark = pytest.mark.one_engine
END_SECONDS = 30.0


@contextmanager
def served(
    workspace: Workspace, database: Database, home: Path, *arguments: str
) -> Iterator[tuple[str, psutil.Process]]:
    """The command, started in its workspace: its address, and its process."""
    home.mkdir(exist_ok=True)
    environment = {**os.environ, "RECON_DATABASE_URL": database.url, "HOME": str(home)}
    command = [
        sys.executable,
        "-c",
        "from recon.cli import main; main()",
        "notebook",
        *arguments,
        "--no-browser",
        "--json",
    ]
    with subprocess.Popen(
        command, env=environment, cwd=workspace.root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["address"], psutil.Process(process.pid)
        finally:
            process.kill()


def _ends_on_sigterm(process: psutil.Process) -> None:
    family = [process, *process.children(recursive=True)]
    process.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(family, END_SECONDS)
    assert alive == []


def _is_secret(address: str, process: psutil.Process) -> None:
    """The token stands in no command line of this process and its children, and nothing listens to other machines."""
    token = next(iter(parse_qs(urlsplit(address).query).values()))[0]
    assert len(token) >= 32
    for each in [process, *process.children(recursive=True)]:
        assert token not in " ".join(each.cmdline())
        assert {place.laddr.ip for place in each.net_connections("inet") if place.status == "LISTEN"} <= {"127.0.0.1"}


def test_an_app_opens_by_its_address_and_not_without_its_token(
    database: Database, workspace: Workspace, browser: Browser, tmp_path: Path
) -> None:
    (workspace.root / "recon.toml").touch()
    load_rent_sample(database)
    runs.match(database, rent_spec(), "ann")
    with served(workspace, database, tmp_path / "home", "explore", RENT) as (address, process):
        _is_secret(address, process)
        page = browser.new_context().new_page()
        page.goto(address.split("?")[0])
        assert "/auth/login" in page.url
        assert page.context.request.get(address[:-1]).url.find("/auth/login") > 0
        page.goto(address)
        expect(page.get_by_text("Why is it not linked?")).to_be_visible(timeout=SEEN_MILLISECONDS)
        expect(page.get_by_text("92.6 %").or_(page.get_by_text("100.0 %")).first).to_be_visible(
            timeout=SEEN_MILLISECONDS
        )
        page.context.close()
        _ends_on_sigterm(process)


def test_jupyterlab_opens_on_the_workspace_and_writes_nothing_into_the_home(
    database: Database, workspace: Workspace, browser: Browser, tmp_path: Path
) -> None:
    place = Workspace(tmp_path / "place")
    new_workspace.init(place.root)
    home = tmp_path / "home"
    with served(place, database, home, "lab") as (address, process):
        _is_secret(address, process)
        context = browser.new_context(viewport={"width": 1200, "height": 800})
        page = context.new_page()
        page.goto(address.split("?")[0])
        assert "/login" in page.url
        assert context.request.get(address.split("?")[0].removesuffix("lab") + "api/contents").status == 403
        page.goto(address)
        page.get_by_text("notebooks", exact=True).first.dblclick(timeout=SEEN_MILLISECONDS)
        tutorial = page.get_by_text("tutorial.ipynb", exact=True)
        expect(tutorial).to_be_visible(timeout=SEEN_MILLISECONDS)
        tutorial.dblclick()
        expect(page.get_by_role("heading", name="From two tables to a proven backfill")).to_be_visible(
            timeout=SEEN_MILLISECONDS
        )
        expect(page.get_by_text("official Jupyter news")).to_have_count(0)
        ARTEFACTS.mkdir(exist_ok=True)
        page.screenshot(path=ARTEFACTS / "lab.png")
        context.close()
        _ends_on_sigterm(process)
    assert [path.name for path in home.rglob("*") if path.is_file()] == []


def test_what_an_app_opens_on_and_where(workspace: Workspace) -> None:
    plan = "20261121_081503_9f3a"
    (workspace.backfills / plan).mkdir(parents=True)
    (workspace.backfills / plan / "plan.json").touch()
    assert serving.opened_on(workspace, "preview", plan) == {"RECON_PLAN": plan}
    assert serving.opened_on(workspace, "preview", RENT) == {"RECON_RECONCILIATION": RENT}
    assert serving.opened_on(workspace, "lab", None) == {}
    for app, name in (("explore", plan), ("preview", "rent_paymnts"), ("preview", f"../backfills/{plan}")):
        with pytest.raises(NotFound):
            serving.opened_on(workspace, app, name)
    with pytest.raises(UsageError, match='no notebook "xplore"'):
        serving.prepare(workspace, "xplore")
    first, second = serving.prepare(workspace, "explore"), serving.prepare(workspace, "explore")
    assert first.token != second.token
    assert first.token not in repr(first)
