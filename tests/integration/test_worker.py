"""Workers against a real queue: each time that is due is worked off once, whoever is killed, stopped or late."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest

from recon.database.connect import Database
from recon.errors import DatabaseUnreachable
from recon.matching import run as runs
from recon.service import schedules
from recon.service.worker import work
from recon.workspace import Workspace
from tests import forked
from tests.support import RENT, execute, load_rent_sample, recon, rent_spec, rows

pytestmark = pytest.mark.one_engine  # the queue's statements are procrastinate's own
IMPORTS = "financial_transactions"
COMMAND = [sys.executable, "-c", "from recon.cli import main; main()", "worker", "--json"]
PATIENCE_SECONDS = 60.0


@pytest.fixture
def home(workspace: Workspace) -> Workspace:
    (workspace.root / "recon.toml").touch()
    return workspace


@pytest.fixture
def rent(database: Database) -> Database:
    load_rent_sample(database)
    runs.match(database, rent_spec(), "ann")
    return database


def _due(workspace: Workspace, *names: str) -> datetime:
    """Write schedules that were due a few minutes ago, in a file that is older than that; returns when."""
    at = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=5)
    cron = f"{at.minute} {at.hour} {at.day} {at.month} *"
    lines = [f'- {{do: report, reconciliation: {name}, cron: "{cron}"}}\n' for name in names]
    path = workspace.root / schedules.FILE
    path.write_text("".join(lines), encoding="utf-8")
    hour_ago = time.time() - 3600
    os.utime(path, (hour_ago, hour_ago))
    return at


def _slow_notebook(workspace: Workspace, seconds: float) -> None:
    """The workspace's own report, which takes its time."""
    shipped = nbformat.read(Workspace(Path(__file__).parents[2]).file("notebooks", "reconciliation_report.ipynb"), 4)
    parameters = next(cell for cell in shipped.cells if "parameters" in cell.metadata.get("tags", []))
    slow = nbformat.v4.new_code_cell(f"import time; time.sleep({seconds})")
    whole = nbformat.v4.new_notebook(cells=[parameters, slow], metadata=shipped.metadata)
    path = workspace.root / "notebooks" / "reconciliation_report.ipynb"
    path.parent.mkdir()
    path.write_text(nbformat.writes(whole), encoding="utf-8")


def _forked(database: Database, workspace: Workspace, *arguments: str) -> forked.Running:
    """A worker that need not import everything anew."""
    environment = {**os.environ, "RECON_DATABASE_URL": database.url, "RECON_USER": "ann"}
    return forked.Running(["worker", "--json", *arguments], environment, workspace.root)


def _told(worker: forked.Running) -> list[dict[str, Any]]:
    """What it said until it ended, as it should."""
    code, out, err = worker.ended(PATIENCE_SECONDS)
    assert (code, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


@contextmanager
def _worker(database: Database, workspace: Workspace, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A worker as people start it, whose kernels start anew too."""
    environment = {**os.environ, "RECON_DATABASE_URL": database.url, "RECON_USER": "ann"}
    with subprocess.Popen(
        [*COMMAND, *arguments],
        env=environment,
        cwd=workspace.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _said(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert err == ""
    return [json.loads(line) for line in out.splitlines()]


def _ended(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["event"] in ("done", "failed")]


def _jobs(database: Database) -> list[tuple[Any, ...]]:
    if rows(database, "SELECT to_regclass('recon.procrastinate_jobs')::text") == [(None,)]:
        return []
    return rows(
        database, "SELECT args ->> 'reconciliation', status::text, attempts FROM recon.procrastinate_jobs ORDER BY id"
    )


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_two_workers_make_a_report_that_is_due_once(rent: Database, home: Workspace) -> None:
    at = _due(home, RENT, IMPORTS)
    with _worker(rent, home, "--once") as one, _worker(rent, home, "--once") as other:
        lines = [_said(one), _said(other)]
    ended = _ended(lines[0] + lines[1])
    by_name = {line["reconciliation"]: line for line in ended}
    assert len(ended) == len(by_name) == 2
    made = by_name[RENT]
    assert (made["event"], made["due"]) == ("done", at.isoformat())
    assert [str(path) for path in home.reports.glob("*.html")] == [made["result"]]
    assert "LEASE-BH-F18-2025" in Path(made["result"]).read_text(encoding="utf-8")
    # What never ran cannot be reported: its job failed, at once and for good, and the other one was made all the same.
    failed = by_name[IMPORTS]
    assert (failed["event"], failed["again_in"]) == ("failed", None)
    assert f"recon match {IMPORTS}" in failed["error"]
    assert sorted(_jobs(rent)) == [(IMPORTS, "failed", 1), (RENT, "succeeded", 1)]
    failing = next(process for process, said in zip((one, other), lines, strict=True) if failed in said)
    assert failing.returncode == 1
    # Later there is nothing more to do.
    with _worker(rent, home, "--once") as third:
        assert _ended(_said(third)) == []
    assert third.returncode == 0


def test_what_a_killed_worker_left_the_next_one_finishes(rent: Database, home: Workspace) -> None:
    _due(home, RENT)
    _slow_notebook(home, 3)
    silence = "UPDATE recon.procrastinate_workers SET last_heartbeat = now() - interval '1 hour'"
    with _forked(rent, home) as process:
        _until(lambda: ("doing",) in [row[1:2] for row in _jobs(rent)])
        _until(lambda: len(rows(rent, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2")) > 0)
        # Silent, but alive: its job is its own.
        process.send(signal.SIGSTOP)
        execute(rent, silence)
        with _forked(rent, home, "--once") as other:
            assert _ended(_told(other)) == []
        assert _jobs(rent) == [(RENT, "doing", 0)]
        process.kill()
    execute(rent, silence)
    with _forked(rent, home, "--once") as next_one:
        assert [line["event"] for line in _ended(_told(next_one))] == ["done"]
    assert _jobs(rent) == [(RENT, "succeeded", 2)]
    assert len(list(home.reports.glob("*.html"))) == 1


def test_a_worker_takes_over_the_file_and_ends_after_the_running_job(rent: Database, home: Workspace) -> None:
    _slow_notebook(home, 2)
    with _forked(rent, home) as process:
        _until(lambda: process.said().count("\n") == 1)  # it has read that there is no file
        (home.root / schedules.FILE).write_text("- {do: reprot}\n", encoding="utf-8")
        _until(lambda: process.said().count("\n") == 2)
        _due(home, RENT)
        _until(lambda: [row[1] for row in _jobs(rent)] == ["doing"])
        process.stop()
        lines = _told(process)
    assert [line["event"] for line in lines] == ["schedules", "schedules", "schedules", "stopping", "done"]
    assert "schedules.yaml, line 1: [1].do: 'reprot' is not one of" in lines[1]["says"]
    assert _jobs(rent) == [(RENT, "succeeded", 1)]
    assert rows(rent, "SELECT count(*) FROM recon.procrastinate_workers") == [(0,)]


def test_of_the_times_that_passed_only_the_last_is_made_up_for(rent: Database, home: Workspace) -> None:
    path = home.root / schedules.FILE
    path.write_text('- {do: report, reconciliation: financial_transactions, cron: "0 7 * * *"}\n', encoding="utf-8")
    written = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
    os.utime(path, (written.timestamp(), written.timestamp()))
    said: list[dict[str, object]] = []

    def at(day: int, hour: int) -> list[object]:
        said.clear()
        work(
            rent,
            home,
            lambda _, line: said.append(line),
            once=True,
            clock=lambda: datetime(2026, 11, day, hour, tzinfo=UTC),
        )
        return [line["due"] for line in said if line["event"] != "schedules"]

    assert at(2, 13) == []  # the 7:00 of this day was before the file was written
    assert at(6, 9) == ["2026-11-06T07:00:00+00:00"]  # three more passed, and one is made up for
    assert at(6, 10) == []
    os.utime(path)  # another entry was changed
    assert at(7, 7) == ["2026-11-07T07:00:00+00:00"]
    os.utime(path, (written.timestamp(), written.timestamp()))
    assert at(25, 9) == ["2026-11-25T07:00:00+00:00"]  # a clock that is ahead, and is set right: no silence until then
    assert at(8, 9) == ["2026-11-08T07:00:00+00:00"]
    assert at(8, 10) == []


def test_a_worker_without_a_database_says_so(home: Workspace) -> None:
    nowhere = Database("postgresql://ann:S3cret-pass@127.0.0.1:1/x")
    with pytest.raises(DatabaseUnreachable) as error:
        work(nowhere, home, lambda _, __: None, once=True)
    assert "S3cret" not in str(error.value)


def test_a_schedule_is_set_changed_and_removed_by_the_command(home: Workspace) -> None:
    def report(*arguments: str) -> Any:
        return recon("report", *arguments, "--json", cwd=home.root)

    made = report(RENT, "--schedule", "0 7 * * 1-5", "--zone", "Europe/London")
    assert made.code == 0
    following = datetime.fromisoformat(made.json["next"])
    assert following > datetime.now(UTC)
    assert (following.hour, following.weekday() < 5) == (7, True)
    said = recon("report", RENT, "--schedule", "30 6 * * *", cwd=home.root).out
    assert "30 6 * * * (Europe/London), next " in said
    assert "`recon worker` must be running" in said
    assert [item.cron for item in schedules.of(home)] == ["30 6 * * *"]
    assert report(RENT, "--schedule", "none").json["schedule"] is None
    assert schedules.of(home) == []
    for arguments, word in (
        ((RENT, "--schedule", "none"), "There is no schedule"),
        ((RENT, "--zone", "UTC"), "--zone goes with --schedule"),
    ):
        refused = report(*arguments)
        assert refused.code == 2
        assert word in refused.json["what"]
