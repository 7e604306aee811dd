"""Killed at every step of a chunk that goes to an outside system, and resumed: each record is updated exactly once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from recon.backfill import plan as plans
from recon.backfill import replay, sign_off
from recon.database.connect import Database
from recon.matching import run as runs
from recon.workspace import Workspace
from tests.chaos.client import Client, Order, run
from tests.chaos.scale import BATCH_SEAMS, Scale
from tests.shop import Shop, install, installed
from tests.support import execute, rows, simple_spec

pytestmark = pytest.mark.one_engine

STEPS = ("outside read", "outside announced", "outside written", *BATCH_SEAMS)  # of one chunk, in their order

RESTORING = "SELECT record FROM recon.outside_changes WHERE state = 'restoring'"


@dataclass
class Pushed:
    """A signed plan for the shop, and the shop that counts."""

    database: Database
    workspace: Workspace
    shop: Shop
    packages: Path
    plan: str
    rows: int

    def order(self, what: str, stop: tuple[str, int] | None = None) -> Order:
        return Order(self.database.url, self.workspace.root, self.plan, what=what, stop=stop, packages=self.packages)

    def killed(self, what: str, step: str, arrival: int) -> None:
        """Run it until it gets there, and kill it."""
        with Client(self.order(what, (step, arrival))) as client:
            assert client.stopped(), client.ended()
            client.kill()

    def killed_in_a_request(self, what: str) -> None:
        """Kill it while the shop has carried out what it asked for and has not answered yet."""
        arrived, gone = threading.Event(), threading.Event()

        def wait() -> None:
            arrived.set()
            gone.wait(30)

        self.shop.before_answer = wait
        with Client(self.order(what)) as client:
            assert arrived.wait(60)
            client.kill()
        self.shop.before_answer = lambda: None
        gone.set()

    @property
    def linked(self) -> int:
        return rows(self.database, "SELECT count(lease_id) FROM pay")[0][0]

    def table_is_never_ahead(self) -> None:
        """Every row that holds its link here holds it there too, but for what is being restored."""
        restoring = {row[0] for row in rows(self.database, RESTORING)}
        for (record,) in rows(self.database, "SELECT shop_id FROM pay WHERE lease_id IS NOT NULL"):
            assert self.shop.records[record]["Lease"] is not None or record in restoring


@pytest.fixture
def pushed(database: Database, workspace: Workspace, tmp_path: Path, scale: Scale) -> Iterator[Pushed]:
    count = scale.rows // 15
    execute(
        database,
        f"CREATE TABLE lease AS SELECT n AS id, 'c' || n AS code FROM generate_series(1, {count}) AS n",
        "ALTER TABLE lease ADD PRIMARY KEY (id)",
        "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id int, shop_id text)",
        f"INSERT INTO pay SELECT n, 'c' || n, NULL, 'rec' || n FROM generate_series(1, {count}) AS n",
    )
    outside = {"system": "shop", "object": "payments", "record": "shop_id", "fields": {"lease_id": "Lease"}}
    spec = simple_spec(target={"table": "pay", "key": "id", "outside": outside})
    shop = Shop({f"rec{n}": {"Lease": None} for n in range(1, count + 1)})
    with installed(tmp_path / "here"), shop.open(workspace):
        runs.match(database, spec, "ann")
        made = plans.make(database, workspace, spec, "ann")
        assert made is not None
        sign_off.approve(database, workspace, made.plan, "bob")
        yield Pushed(database, workspace, shop, install(tmp_path / "there"), made.plan, count)


def test_killed_at_every_step_each_record_is_updated_once_and_undone_once(
    pushed: Pushed, scale: Scale, counts: Counter[str]
) -> None:
    """CRM-11: killed in the middle of pushing updates and resumed, each record is updated exactly once."""
    arrivals = range(1, 4 if scale.rounds > 1 else 2)
    for what, times in (("apply", 1), ("revert", 2)):
        for arrival in arrivals:
            for step in STEPS:
                pushed.killed(what, step, arrival)
                pushed.table_is_never_ahead()
                assert max(pushed.shop.updates.values(), default=0) <= times
                counts["kills while an outside system was written"] += 1
        pushed.killed_in_a_request(what)
        pushed.killed(what, "before move", 1)
        ended = run(pushed.order(what))
        assert ended.result is not None, ended
        assert ended.result["state"] == {"apply": "applied", "revert": "reverted"}[what]
        assert pushed.linked == (pushed.rows if what == "apply" else 0)
        assert Counter(pushed.shop.updates.values()) == {times: pushed.rows}
        held = {fields["Lease"] is None for fields in pushed.shop.records.values()}
        assert held == {what == "revert"}
        assert replay.replay(pushed.database).findings == ()
