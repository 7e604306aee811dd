"""`recon sync` as a person calls it: dry by default, a line for each scope, and an exit code that says how it ended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from recon.database.connect import Database
from recon.service import schedules
from recon.stand_ins.faults import Fault
from recon.workspace import Workspace
from tests.in_step import MIRROR, ONE, TWO, InStep, in_step
from tests.support import execute, rows

pytestmark = pytest.mark.one_engine


@pytest.fixture
def mirror(database: Database, workspace: Workspace) -> Iterator[InStep]:
    with in_step(database, workspace) as found:
        yield found


def test_a_dry_run_says_what_would_be_and_execute_does_it(mirror: InStep) -> None:
    """SYN-03: what is new is inserted, what is unchanged left alone; SYN-07: each run stands in the log."""
    dry = mirror.run("sync", MIRROR)
    assert dry.code == 0, dry.err
    assert mirror.codes == []
    assert "a dry run" in dry.out
    assert f"To write: recon sync {MIRROR} --execute" in dry.out
    lines = {words[0]: words[1:] for line in dry.out.splitlines() if (words := line.split()) and words[0] in (ONE, TWO)}
    assert lines == {scope: ["2", "2", "0", "0", "0", "0"] for scope in (ONE, TWO)}

    done = mirror.run("sync", MIRROR, "--execute", "--json")
    assert done.code == 0, done.out
    assert (done.json["status"], done.json["executed"]) == ("success", True)
    assert done.json["stats"] == {
        "fetched": 4, "created": 4, "updated": 0, "orphaned": 0, "deleted": 0, "errors": 0,
    }  # fmt: skip
    assert mirror.codes == ["AA01", "AA02", "BB01", "BB02"]

    shown = mirror.run("sync", MIRROR, "--runs")
    assert shown.out.startswith(f"{MIRROR}: idle · */30 * * * * (Every 30 minutes); next ")
    assert [line.split()[0] for line in shown.out.splitlines()[2:]] == [done.json["id"], *_dry_id(mirror)]
    listed = mirror.run("sync", MIRROR, "--runs", "--limit", "1", "--json").json
    assert [run["id"] for run in listed["runs"]] == [done.json["id"]]
    assert set(listed["runs"][0]["stats"]) == {*done.json["stats"], "duration"}


def _dry_id(mirror: InStep) -> list[str]:
    return [rows(mirror.database, "SELECT id FROM recon.sync_runs ORDER BY created_at LIMIT 1")[0][0]]


def test_what_is_left_for_a_person_ends_with_3_and_is_said(mirror: InStep) -> None:
    """SYN-04: one bad record keeps nobody waiting; the run is partial, and its message is shown."""
    mirror.stays.add(ONE, "AA03", listing="no-such-house")
    ended = mirror.run("sync", MIRROR, "--execute", "--scope", ONE)
    assert ended.code == 3
    assert ended.out.startswith("partial")
    assert "missing property mapping" in ended.out
    assert mirror.codes == ["AA01", "AA02"]  # the other organization was not asked for
    assert mirror.stays.accounts[TWO].asked.total() == 0

    # Gone at Stays: told, and left as it is where that is wished.
    mirror.stays.vanish(ONE, "AA01")
    kept = mirror.run("sync", MIRROR, "--execute", "--scope", ONE, "--no-orphans")
    assert "gone there: staysnet AA01 (held back)" in kept.out
    assert mirror.codes == ["AA01", "AA02"]


def test_what_is_gone_is_told_as_it_is_here(database: Database, workspace: Workspace) -> None:
    """RES-05: a dry run counts only what could be cancelled; what waits for a reviewer is not called cancelled."""
    with in_step(database, workspace, signed=False) as mirror:
        execute(database, *(
            "INSERT INTO reservations (organization_id, platform, external_id, check_in, check_out, status) VALUES"
            f" ('{ONE}', 'airbnb', '{code}', '2027-01-10', '2027-01-12', '{status}')"
            for code, status in (("AA91", "confirmed"), ("AA92", "cancelled"))
        ))  # fmt: skip
        mirror.stays.add(ONE, "AA03", listing="no-such-house")
        dry = mirror.run("sync", MIRROR, "--scope", ONE)
        counts = next(
            line.split()[1:] for line in dry.out.splitlines() if line.startswith(ONE) and len(line.split()) > 1
        )
        assert counts[3:5] == ["1", "0"]  # AA92 is cancelled already
        assert "before it is cancelled, the source is asked" in dry.out
        assert f"To write: recon sync {MIRROR} --scope {ONE} --execute" in dry.out
        assert "staysnet AA03: missing property mapping" in dry.out
        ended = mirror.run("sync", MIRROR, "--execute", "--scope", ONE)
        assert "gone there: airbnb AA91 (waits for sign-off)" in ended.out


def test_without_a_sign_off_the_plan_waits_for_a_reviewer(database: Database, workspace: Workspace) -> None:
    """SYN-03: nothing is written that nobody signed for; the screen says who is awaited."""
    with in_step(database, workspace, signed=False) as mirror:
        ended = mirror.run("sync", MIRROR, "--execute", "--scope", TWO)
        assert ended.code == 3
        assert "waits for a reviewer: no standing sign-off covers it" in " ".join(ended.out.split())
        assert "Next: a reviewer runs `recon review " in ended.out
        assert mirror.codes == []


def test_failed_and_asked_wrongly_have_codes_of_their_own(mirror: InStep) -> None:
    """SYN-02: three tries, and then the run has failed. What cannot be done begins no run."""
    mirror.stays.faults.add(*[Fault(500)] * 6)
    ended = mirror.run("sync", MIRROR, "--execute", "--json")
    assert (ended.code, ended.json["status"]) == (1, "failed")
    assert len(mirror.stays.faults.requests) == 6  # three tries for each of both
    assert "Stays" in ended.json["error"]
    assert [row[:2] for row in mirror.runs] == [("person", "failed")]

    for arguments, said in (
        (("rent_payments",), "rent_payments is no mirror"),
        ((MIRROR, "--scope", "no-organization"), "The settings do not name no-organization"),
        ((MIRROR, "--zone", "UTC"), "--zone goes with --schedule"),
        ((MIRROR, "--schedule", "0 7 * * *", "--execute"), "--schedule and --execute do not go together"),
        ((MIRROR, "--schedule", "*/90 * * * *"), "a step of 90, and there are 60"),
        ((MIRROR, "--runs", "--execute"), "--runs only shows"),
    ):
        refused = mirror.run("sync", *arguments, "--json")
        assert (refused.code, said in refused.out) == (2, True), refused.out
    assert len(mirror.runs) == 1


def test_a_schedule_of_its_own_wins_and_without_it_the_settings_count(mirror: InStep) -> None:
    """SYN-01: every half hour where nobody says otherwise; SYN-10: the setting, and above it the file, say when."""
    made = mirror.run("sync", MIRROR, "--schedule", "15 * * * *", "--json")
    assert made.json["schedule"] == "15 * * * *"
    fresh = Workspace(mirror.workspace.root)
    assert [(entry.do, entry.cron) for entry in schedules.in_force(fresh)] == [("sync", "15 * * * *")]
    dropped = mirror.run("sync", MIRROR, "--schedule", "none")
    assert "By its settings it is kept in step all the same: */30 * * * * (Every 30 minutes)." in dropped.out
    assert "RECON_STAYS_SCHEDULE=none in .env ends that." in dropped.out
    run = mirror.run("run", MIRROR, "--schedule", "0 3 * * *", "--json")
    assert run.json["schedule"] == "0 3 * * *"
    assert mirror.run("run", MIRROR, "--schedule", "0 3 * * *", "--limit", "3").code == 2
