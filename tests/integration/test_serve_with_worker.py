"""`recon serve --with-worker`: one command runs both, a worker that dies is started again, and none is ever left alone."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from recon.database.connect import Database
from recon.workspace import Workspace
from tests import forked

pytestmark = pytest.mark.one_engine
PATIENCE_SECONDS = 60.0


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _started(database: Database, workspace: Workspace) -> forked.Running:
    (workspace.root / "recon.toml").touch()
    environment = {**os.environ, "RECON_DATABASE_URL": database.url, "RECON_USER": "ann"}
    return forked.Running(["serve", "--with-worker", "--json", "--port", "0"], environment, workspace.root)


def _events(serve: forked.Running) -> list[str]:
    return [json.loads(line)["event"] for line in serve.said().splitlines()]


def _workers(serve: forked.Running) -> list[int]:
    """The process ids of its children that are workers."""
    found: list[int] = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            command = stat.with_name("cmdline").read_bytes()
        except OSError:  # it ended meanwhile
            continue
        if parent == serve.pid and b"--until-stdin-ends" in command:
            found.append(int(stat.parent.name))
    return found


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells processes by /proc")
def test_both_end_together_and_a_worker_that_dies_is_started_again(database: Database, workspace: Workspace) -> None:
    """SYN-01: the worker is there for as long as the service is."""
    with _started(database, workspace) as serve:
        _until(lambda: _events(serve) == ["serving", "schedules"])
        (first,) = _workers(serve)
        os.kill(first, signal.SIGKILL)
        _until(lambda: _events(serve) == ["serving", "schedules", "worker", "schedules"])
        assert "The worker was killed by signal 9; it is started again in 1 s." in serve.said()
        (second,) = _workers(serve)
        serve.stop()
        code, _, err = serve.ended(PATIENCE_SECONDS)
        assert (code, "Traceback" in err) == (0, False)
        assert "no key for tokens is set" in err
        assert "RECON_JWT_SECRET" in err
        assert _events(serve)[-1] == "stopping"
        assert not _alive(second)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells processes by /proc")
def test_no_worker_outlives_a_service_that_was_killed(database: Database, workspace: Workspace) -> None:
    """SYN-01: one at a time, also after SIGKILL: what was left alone would go on beside the next one."""
    with _started(database, workspace) as serve:
        _until(lambda: "serving" in _events(serve) and bool(_workers(serve)))
        (worker,) = _workers(serve)
        serve.kill()
        _until(lambda: not _alive(worker))


def test_schedules_that_cannot_be_read_keep_it_from_starting(database: Database, workspace: Workspace) -> None:
    """SYN-01: said once at the start, and not by a worker that is started again and again."""
    (workspace.root / "schedules.yaml").write_text("- {do: reprot}\n", encoding="utf-8")
    with _started(database, workspace) as serve:
        code, out, _ = serve.ended(PATIENCE_SECONDS)
    assert code == 2
    assert "schedules.yaml, line 1" in json.loads(out)["what"]
