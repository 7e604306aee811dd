"""The worker that keeps reservations in step is killed at random: nothing is lost, nothing is done twice."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from recon.mirror import sync
from recon.workspace import Workspace
from tests import forked
from tests.chaos import stays_house
from tests.chaos.client import eventually
from tests.chaos.scale import Scale
from tests.chaos.servers import Embedded, Server
from tests.chaos.stays_house import NAME, House
from tests.chaos.stays_oracle import Weather, may_open, must_open
from tests.chaos.stays_world import World

pytestmark = pytest.mark.one_engine

PATIENCE_SECONDS = 120.0  # in which a worker takes up what another one left
LEFT = """
    SELECT (SELECT count(*) FROM recon.procrastinate_jobs WHERE status IN ('todo', 'doing'))
        + (SELECT count(*) FROM recon.sync_runs WHERE status IN ('pending', 'running'))
        + (SELECT count(*) FROM recon.follow_ups WHERE state IN ('waiting', 'doing') AND due_at <= now())
"""
# A worker that says nothing for 30 seconds is taken for gone.
LATER = "UPDATE recon.procrastinate_workers SET last_heartbeat = last_heartbeat - interval '1 minute'"
ENDED = "SELECT count(*) FROM recon.sync_runs WHERE cause = 'schedule' AND status IN ('success', 'partial')"


def worker(house: House) -> forked.Running:
    """`recon worker`, in a process of its own."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("RECON_")},
        **dict(house.workspace.variables),
        "RECON_DATABASE_URL": house.database.url,
        "RECON_STAYS_SCHEDULE": "* * * * *",  # a job that lost its worker three times is given up, and the next one comes
    }
    (house.workspace.root / "recon.toml").touch()
    return forked.Running(["worker", "--json"], environment, house.workspace.root)


def settled(house: House) -> bool:
    """Whether a run of the schedule has ended, and nothing waits."""
    return house.ask(ENDED)[0][0] > 0 and house.ask(LEFT)[0][0] == 0


def test_a_worker_killed_at_random_loses_nothing_and_does_nothing_twice(
    server: Server, workspace: Workspace, scale: Scale, counts: Counter[str]
) -> None:
    """SYN-01, SYN-05: another worker takes up what was left: rows, ledger, jobs and PINs are each there once."""
    if not isinstance(server, Embedded):
        pytest.skip("asks nothing of the server that others would answer differently")
    chosen = random.Random(scale.seed)
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    world = World(scale.seed, scale.organizations, scale.reservations // 2, begin=hour - timedelta(hours=1))
    world.sky.spoilt = 0.0  # what fails for good at an unlucky moment is another test's
    with stays_house.opened(server, workspace, world, counts) as house:
        world.forecast(0, calm=True)
        sync.sync(house.database, house.workspace, NAME, now=world.now)
        for name, organization in house.expected.items():
            organization.tick(Weather(), world.bookings[name])
        world.guests(1)
        for deed in world.people(house.local()):
            house.deed(deed)
        for _ in range(scale.worker_kills):
            with worker(house) as running:
                assert eventually(lambda: "schedules" in running.said(), PATIENCE_SECONDS)
                time.sleep(chosen.uniform(0.1, 4.0))
                running.kill()
                house.do(LATER)
                counts["kills of the worker"] += 1
        before = datetime.now(UTC)
        with worker(house) as running:
            assert eventually(lambda: settled(house), PATIENCE_SECONDS), (running.said(), house.ask(LEFT))
        for name, organization in house.expected.items():
            organization.tick(Weather(), world.bookings[name])
        done = sync.sync(house.database, house.workspace, NAME, now=before)
        assert (done.stats["created"], done.stats["updated"], done.stats["orphaned"]) == (0, 0, 0) or any(
            organization.held_back for organization in house.expected.values()
        ), "the worker left something"
        house.prove(done)
        house.accounts()
        rows = {house.ids[name, key]: row for name, one in house.expected.items() for key, row in one.rows.items()}
        active, after = house.locks.active(), datetime.now(UTC)
        assert [
            row for one, row in rows.items() if one not in active and must_open(row, before) and must_open(row, after)
        ] == []
        assert [one for one in active if not may_open(rows.get(one), before)] == []
        assert max(Counter(one.reservation for one in house.locks.credentials).values(), default=1) == 1, "made twice"
        assert active
