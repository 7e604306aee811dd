"""PINs of doors: made and revoked by a lock system over HTTP, each thing once, whatever happens on the way."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from datetime import datetime, timedelta
from time import monotonic, sleep

import pytest

from recon.database.connect import Database
from recon.errors import VEIL
from recon.mirror import follow_ups
from recon.mirror.follow_ups_done import Done, carry_out
from recon.stand_ins.faults import Fault
from recon.stand_ins.locks import TOKEN, Locks
from recon.stand_ins.server import served
from recon.systems.stays.pins import NOTHING
from recon.workspace import Workspace
from tests import stays
from tests.stays import HOUR, NOON, ORGS, identity, reserve
from tests.support import execute, rows

pytestmark = pytest.mark.one_engine

DAY = timedelta(days=1)
ONE = identity(1)
CREDENTIALS = (
    "SELECT credential_id, state, active_from, revoked_at, made_at FROM door_credentials ORDER BY reservation_id"
)
SAID = "SELECT said FROM recon.follow_ups WHERE job = $1 ORDER BY key"


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[Locks, str]]:
    locks = Locks()
    with served(locks.app) as url:
        yield locks, url


@pytest.fixture
def locks(address: tuple[Locks, str], workspace: Workspace) -> Locks:
    """A lock system that knows nothing yet; the workspace knows where it is."""
    locks, url = address
    for kept in (locks.credentials, locks.calls, locks.faults.waiting, locks.faults.requests):
        kept.clear()
    locks.answers.clear()
    locks.tells_pin = False
    (workspace.root / ".env").write_text(f"RECON_LOCKS_URL={url}\nRECON_LOCKS_TOKEN={TOKEN}\n")
    return locks


@pytest.fixture(scope="module")
def built(embedded_url: str) -> Iterator[Database]:
    with stays.house(embedded_url) as database:
        yield database


@pytest.fixture
def house(built: Database) -> Database:
    return stays.emptied(built)


def tick(house: Database, workspace: Workspace, now: datetime) -> Done:
    """What each cycle does about follow-ups."""
    follow_ups.plan(house, stays.spec(), now)
    return carry_out(house, workspace, stays.spec(), now)


def said(house: Database, job: str) -> str | None:
    return rows(house, SAID, job)[0][0]


def test_a_pin_is_active_two_hours_before_and_revoked_a_day_after(
    house: Database, workspace: Workspace, locks: Locks
) -> None:
    """SYN-05: generated → credential active; revoked → `revoked_at` set; each is asked for once."""
    reserve(house, 1, NOON + DAY)
    for now in (NOON, NOON + 22 * HOUR, NOON + 23 * HOUR):
        tick(house, workspace, now)
        assert bool(locks.active(ONE)) == (now > NOON)
    assert said(house, "generate_pin") == "credential active: cred_1"
    assert locks.active()[ONE].active_from == NOON + 22 * HOUR
    assert rows(house, CREDENTIALS) == [("cred_1", "active", NOON + 22 * HOUR, None, NOON + 22 * HOUR)]
    assert tick(house, workspace, NOON + 5 * DAY) == Done(1, 0, 0)
    assert locks.active() == {}
    assert rows(house, CREDENTIALS) == [("cred_1", "revoked", NOON + 22 * HOUR, NOON + 5 * DAY, NOON + 22 * HOUR)]
    assert said(house, "revoke_pin") == "credential revoked: cred_1"
    assert [call.what for call in locks.calls] == ["generate", "revoke"]


def test_a_cancelled_one_is_revoked_at_once_and_reinstated_it_has_a_new_credential(
    house: Database, workspace: Workspace, locks: Locks
) -> None:
    """SYN-05: cancelled in the house, its PIN is dead at the next tick; reinstated, another one lives."""
    reserve(house, 1, NOON + HOUR)
    tick(house, workspace, NOON)
    reserve(house, 1, NOON + HOUR, status="cancelled")
    tick(house, workspace, NOON + HOUR)
    assert locks.active() == {}
    assert rows(house, CREDENTIALS)[0][:4] == ("cred_1", "revoked", NOON - HOUR, NOON + HOUR)
    reserve(house, 1, NOON + HOUR)
    tick(house, workspace, NOON + 2 * HOUR)
    assert locks.active()[ONE].id == "cred_2"
    assert rows(house, CREDENTIALS) == [("cred_2", "active", NOON - HOUR, None, NOON + 2 * HOUR)]
    tick(house, workspace, NOON + 5 * DAY)
    assert locks.active() == {}


def test_one_that_never_had_a_pin_has_nothing_to_revoke(house: Database, workspace: Workspace, locks: Locks) -> None:
    reserve(house, 1, NOON + DAY, status="cancelled")
    assert tick(house, workspace, NOON) == Done(1, 0, 0)
    assert said(house, "revoke_pin") == NOTHING
    assert rows(house, CREDENTIALS) == []


def test_a_reservation_that_is_gone_is_revoked_by_its_id(house: Database, workspace: Workspace, locks: Locks) -> None:
    """SYN-06: no live reservation, no live PIN."""
    reserve(house, 1, NOON)
    tick(house, workspace, NOON)
    execute(house, "DELETE FROM reservations")
    assert tick(house, workspace, NOON + HOUR) == Done(1, 0, 0)
    assert locks.active() == {}
    assert rows(house, CREDENTIALS)[0][1:4] == ("revoked", NOON - 2 * HOUR, NOON + HOUR)


def test_a_stay_that_moves_keeps_its_credential_from_another_time_on(
    house: Database, workspace: Workspace, locks: Locks
) -> None:
    reserve(house, 1, NOON + HOUR)
    tick(house, workspace, NOON)
    reserve(house, 1, NOON + 3 * DAY)
    assert tick(house, workspace, NOON) == Done(0, 0, 0)
    tick(house, workspace, NOON + 3 * DAY)
    assert locks.active()[ONE].active_from == NOON + 3 * DAY - 2 * HOUR
    assert rows(house, CREDENTIALS) == [("cred_1", "active", NOON + 3 * DAY - 2 * HOUR, None, NOON)]
    assert len(locks.credentials) == 1


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(status=500, body="broken", after=True), "it answered 500"),
        (Fault(cut=True), "no whole JSON document"),
    ],
)
def test_an_answer_that_is_lost_is_asked_for_again_and_gives_the_same_credential(
    house: Database, workspace: Workspace, locks: Locks, fault: Fault, says: str
) -> None:
    """SYN-05: by the same idempotency key; also where what it was about is revoked before it is asked again."""
    reserve(house, 1, NOON)
    reserve(house, 2, NOON + HOUR)
    locks.faults.add(fault, fault)
    first = tick(house, workspace, NOON)
    assert (first.done, first.failed) == (0, 2)
    assert says in first.errors[0]
    reserve(house, 2, NOON + HOUR, status="cancelled")
    assert tick(house, workspace, NOON + HOUR) == Done(2, 0, 0)
    assert {name: one.id for name, one in locks.active().items()} == {ONE: "cred_1"}
    assert [row[:2] for row in rows(house, CREDENTIALS)] == [("cred_1", "active")]
    asked = [call for call in locks.calls if call.reservation == ONE]
    assert [call.again for call in asked] == [False, True]
    assert asked[0].key == asked[1].key != None  # noqa: E711


def test_what_is_no_answer_revokes_nothing(house: Database, workspace: Workspace, locks: Locks) -> None:
    """SYN-05: an error is never taken for 'there is none': it is tried again until the PIN is dead."""
    wrong = (
        (Fault(status=404, body="{}"), "it answered 404"),
        (Fault(status=200, body="{}"), "does not say what it revoked"),
        (Fault(status=200, body="[]"), "gave no document"),
        (Fault(status=503), "it answered 503"),
        (Fault(status=401), "does not accept the credential"),
    )
    for number in range(1, len(wrong) + 1):
        reserve(house, number, NOON + number * HOUR)
    tick(house, workspace, NOON + DAY)
    execute(house, "UPDATE reservations SET status = 'cancelled'")
    for fault, _ in wrong:
        locks.faults.add(*([fault] * (2 if fault.status == 503 else 1)))  # asked twice before it is given up
    failed = tick(house, workspace, NOON + DAY)
    assert (failed.done, failed.failed) == (0, len(wrong))
    for (_, says), error in zip(wrong, failed.errors, strict=True):
        assert says in error
    assert {row[1] for row in rows(house, CREDENTIALS)} == {"active"}
    assert tick(house, workspace, NOON + DAY + HOUR) == Done(len(wrong), 0, 0)
    assert (locks.active(), {row[1] for row in rows(house, CREDENTIALS)}) == ({}, {"revoked"})


def test_an_answer_without_an_active_credential_is_no_success(
    house: Database, workspace: Workspace, locks: Locks
) -> None:
    for number, body in enumerate(
        ('{"state": "active"}', '{"id": "c", "state": "pending"}', '{"id": 7, "state": "active"}'), start=1
    ):
        reserve(house, number, NOON)
        locks.faults.add(Fault(status=200, body=body))
    assert tick(house, workspace, NOON).failed == 3
    assert rows(house, CREDENTIALS) == []


def test_no_pin_and_no_token_is_kept_or_told_anywhere(
    house: Database, workspace: Workspace, locks: Locks, caplog: pytest.LogCaptureFixture
) -> None:
    """SYN-05: whatever the lock system tells of a PIN, in an answer or in an error, nothing of it is kept."""
    locks.tells_pin = True
    reserve(house, 1, NOON)
    reserve(house, 2, NOON)
    locks.faults.add(Fault(status=422, body=f"PIN 918273 is taken, {TOKEN}"))
    done = tick(house, workspace, NOON)
    assert (done.done, done.failed) == (1, 1)
    pin = next(iter(locks.active().values())).pin
    kept = rows(house, "SELECT to_json(kept)::text FROM recon.follow_ups AS kept")
    kept += rows(house, "SELECT to_json(kept)::text FROM door_credentials AS kept")
    told = json.dumps([kept, done.errors, caplog.text])
    assert f"PIN {VEIL} is taken, {VEIL}" in done.errors[0]
    assert "jammed" not in told
    for secret in (pin, "918273", TOKEN):
        assert secret not in told


def test_a_missing_setting_is_named(house: Database, workspace: Workspace, locks: Locks) -> None:
    (workspace.root / ".env").write_text("RECON_LOCKS_URL=http://127.0.0.1:9\n")
    reserve(house, 1, NOON)
    assert "RECON_LOCKS_TOKEN is not set" in tick(house, workspace, NOON).errors[0]


@pytest.mark.parametrize("moment", ["unanswered", "late", "not written down"])
def test_killed_in_the_middle_a_pin_is_made_once(
    house: Database, workspace: Workspace, locks: Locks, moment: str
) -> None:
    """SYN-05: SIGKILL while the lock system is asked: the job is due again, and done exactly once there."""
    reserve(house, 1, NOON + HOUR)
    follow_ups.plan(house, stays.spec(), NOON)
    if moment != "not written down":
        locks.faults.add(Fault(status=200, delay=1.0, after=moment == "unanswered"))
    context = multiprocessing.get_context("forkserver")
    given = (house.url, str(workspace.root), NOON)
    process = context.Process(target=stays.carry_out, args=given, kwargs={"dies": moment == "not written down"})
    process.start()
    until = monotonic() + 30
    while process.is_alive() and not locks.faults.requests and monotonic() < until:
        sleep(0.01)
    if moment != "not written down":
        while moment == "unanswered" and not locks.calls:
            sleep(0.01)
        process.kill()
    process.join()
    assert process.exitcode == -9
    assert rows(house, "SELECT state, attempts FROM recon.follow_ups WHERE job = 'generate_pin'") == [("doing", 1)]
    assert tick(house, workspace, NOON) == Done(1, 0, 0)
    assert [one.id for one in locks.credentials] == ["cred_1"]
    assert len({call.key for call in locks.calls}) == 1
    assert len(locks.calls) == (1 if moment == "late" else 2)
    assert rows(house, CREDENTIALS) == [("cred_1", "active", NOON - HOUR, None, NOON)]
    assert rows(house, "SELECT state, attempts FROM recon.follow_ups WHERE job = 'generate_pin'") == [("done", 2)]
    assert rows(house, "SELECT DISTINCT organization_id::text FROM door_credentials") == [(ORGS[0],)]
