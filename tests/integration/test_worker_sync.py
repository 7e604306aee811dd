"""A worker that keeps a mirror in step: every tick makes one run, whoever is killed, late or in each other's way."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from recon.database.connect import Database
from recon.errors import UsageError
from recon.service import schedules
from recon.service.queue import Queue, prepare
from recon.service.worker import work
from recon.stand_ins.faults import Fault
from recon.stand_ins.locks import TOKEN, Locks
from recon.stand_ins.server import served
from recon.workspace import Workspace
from tests.in_step import MIRROR, ONE, TWO, InStep, in_step
from tests.support import execute, rows

pytestmark = pytest.mark.one_engine
PATIENCE_SECONDS = 60.0
TICK = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
HALF = timedelta(minutes=30)


@pytest.fixture
def mirror(database: Database, workspace: Workspace) -> Iterator[InStep]:
    with in_step(database, workspace) as found:
        yield found


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _at(mirror: InStep, now: datetime) -> list[dict[str, Any]]:
    """What `recon worker --once` says at this time; without the schedules that it greets with."""
    said: list[dict[str, Any]] = []
    work(
        mirror.database,
        Workspace(mirror.workspace.root),
        lambda _, line: said.append(line),
        once=True,
        clock=lambda: now,
    )
    return [line for line in said if line["event"] != "schedules"]


def _an_event_waits(mirror: InStep) -> None:
    """One that nobody can read, and that no service is there for."""
    execute(
        mirror.database,
        "INSERT INTO recon.webhook_events (origin, event, environment, payload, state)"
        " VALUES ('housecallpro', 'e', 'x', '{}', 'pending')",
    )


def test_each_tick_makes_one_run_and_a_failed_one_is_made_good_by_the_next(mirror: InStep) -> None:
    """SYN-01: every half hour, one run for each tick; SYN-02: a failed run is not tried again before the next tick."""
    mirror.stays.faults.add(*[Fault(503)] * 6)
    first = _at(mirror, TICK)
    assert [(line["event"], line["do"], line["due"]) for line in first] == [("failed", "sync", TICK.isoformat())]
    assert first[0]["again_in"] is None
    assert "The next tick tries again." in first[0]["error"]
    assert _at(mirror, TICK + timedelta(minutes=29)) == []
    (second,) = _at(mirror, TICK + HALF)
    assert (second["event"], second["due"]) == ("done", (TICK + HALF).isoformat()), second["says"]
    assert second["result"].startswith("success, 4 fetched, 4 created (run sync_")
    assert [row[:2] for row in mirror.runs] == [("schedule", "failed"), ("schedule", "success")]
    assert mirror.codes == ["AA01", "AA02", "BB01", "BB02"]


def test_a_tick_is_left_out_while_a_run_goes_on(mirror: InStep) -> None:
    """SYN-01: one at a time: what comes due meanwhile is not piled up, and the tick after it is kept."""
    prepare(mirror.database)
    entry = schedules.Schedule(do="sync", reconciliation=MIRROR, cron="*/30 * * * *", zone="UTC")

    def state(name: str) -> None:
        with mirror.database.session() as session:
            session.execute("SET LOCAL search_path TO recon")  # where the queue's trigger finds its own types
            session.execute(f"UPDATE procrastinate_jobs SET status = '{name}'")

    async def ticks() -> None:
        queue = Queue(mirror.database, mirror.workspace, lambda _outcome: None)
        async with queue.app.open_async():
            await queue.tick({entry: schedules.AT_ONCE}, TICK)
            state("doing")
            await queue.tick({entry: schedules.AT_ONCE}, TICK + HALF)
            state("succeeded")
            await queue.tick({entry: schedules.AT_ONCE}, TICK + HALF * 3 / 2)
            await queue.tick({entry: schedules.AT_ONCE}, TICK + HALF * 2)

    asyncio.run(ticks())
    due = [TICK.timestamp(), (TICK + HALF * 2).timestamp()]
    assert rows(mirror.database, "SELECT (args ->> 'timestamp')::int FROM recon.procrastinate_jobs ORDER BY id") == [
        (at,) for at in due
    ]


def test_a_worker_killed_in_the_middle_leaves_nothing_doubled(database: Database, workspace: Workspace) -> None:
    """SYN-01: the queue is persistent; SYN-05: a run that takes long keeps no PIN waiting; SYN-07: the log tells how the
    killed run ended."""
    locks = Locks()
    with served(locks.app) as url, in_step(database, workspace, RECON_LOCKS_URL=url, RECON_LOCKS_TOKEN=TOKEN) as mirror:
        goes_on = threading.Event()

        def before_page(scope: str, _skip: int) -> None:
            if scope == TWO:
                goes_on.wait(PATIENCE_SECONDS)

        mirror.stays.before_page = before_page
        days = [str((datetime.now(UTC) + timedelta(days=days)).date()) for days in (-1, 2)]
        mirror.stays.change(ONE, "AA01", check_in=days[0], check_out=days[1])
        with mirror.started("worker", "--json") as worker:
            _until(lambda: rows(database, "SELECT to_regclass('recon.sync_runs')::text") != [(None,)])
            _until(lambda: mirror.codes == ["AA01", "AA02"])
            _an_event_waits(mirror)
            _until(lambda: rows(database, "SELECT state FROM door_credentials") == [("active",)])
            _until(lambda: rows(database, "SELECT state FROM recon.webhook_events") == [("skipped",)])
            worker.kill()
        _the_next_one_goes_on(mirror, goes_on)


def _the_next_one_goes_on(mirror: InStep, goes_on: threading.Event) -> None:
    assert [row[:2] for row in mirror.runs] == [("schedule", "running")]
    goes_on.set()
    execute(mirror.database, "UPDATE recon.procrastinate_workers SET last_heartbeat = now() - interval '1 hour'")
    done = next(line for line in _at(mirror, datetime.now(UTC)) if "do" in line)
    assert done["event"] == "done", done["says"]
    assert [row[1] for row in mirror.runs] == ["failed", "success"]
    assert mirror.runs[0][2].startswith("it ended without a word")
    assert mirror.codes == ["AA01", "AA02", "BB01", "BB02"]
    assert rows(mirror.database, "SELECT count(*) FROM reservations") == [(4,)]


def test_events_that_wait_are_worked_off_with_no_new_one(mirror: InStep) -> None:
    """SYN-01: the worker looks at what waits; one that cannot be read is told so, and waits no longer."""
    prepare(mirror.database)
    _an_event_waits(mirror)
    place = mirror.workspace.with_variables({"RECON_STAYS_SCHEDULE": schedules.NEVER})
    said: list[dict[str, Any]] = []
    work(mirror.database, place, lambda _, line: said.append(line), once=True)
    assert [(line["looked"], line["waiting"]) for line in said if line["event"] == "events"] == [(1, 0)]
    assert rows(mirror.database, "SELECT state FROM recon.webhook_events") == [("skipped",)]


def test_when_is_said_by_the_file_else_by_the_setting_else_every_half_hour(mirror: InStep) -> None:
    """SYN-01, SYN-10: configurable; a line that is none is one clear error when a worker starts."""

    def crons(**settings: str) -> list[str]:
        place = Workspace(mirror.workspace.root, settings)
        return [entry.cron for entry in schedules.in_force(place)]

    assert crons() == ["*/30 * * * *"]
    assert crons(RECON_STAYS_SCHEDULE="*/5 * * * *") == ["*/5 * * * *"]
    assert crons(RECON_STAYS_SCHEDULE="none") == []
    bad = Workspace(mirror.workspace.root, {"RECON_STAYS_SCHEDULE": "*/90 * * * *"})
    with pytest.raises(UsageError, match=r"RECON_STAYS_SCHEDULE is '\*/90 \* \* \* \*', which is not a cron line"):
        work(mirror.database, bad, lambda _, __: None, once=True)
    now = datetime(2026, 11, 2, 12, 10, tzinfo=UTC)
    place = Workspace(mirror.workspace.root)
    assert schedules.next_of(place, MIRROR, now=now) == TICK + HALF
    assert schedules.next_of(place, "rent_payments", now=now) is None
    schedules.put(place, "sync", MIRROR, "0 13 * * *", "Europe/Paris")
    assert crons(RECON_STAYS_SCHEDULE="*/5 * * * *") == ["0 13 * * *"]
    assert schedules.next_of(place, MIRROR, now=now) == datetime(2026, 11, 3, 12, 0, tzinfo=UTC)
    (mirror.workspace.root / schedules.FILE).unlink()
    (mirror.workspace.root / ".env").unlink()
    assert crons() == []  # without a token nothing could be fetched
