"""The runs of a mirror where the source is odd: clocks that differ, times that are missing, new identities, few records."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from recon.backfill import sign_off
from recon.database.connect import Database
from recon.mirror import sync
from recon.mirror.health import look
from recon.mirror.parts import Part
from recon.workspace import Workspace
from tests.copies import Copies
from tests.mirrored import COAST, HILLS, NAME, NOW, Mirror, at_once, mirror, prepared
from tests.support import execute, rows

pytestmark = pytest.mark.one_engine

HALF_AN_HOUR = timedelta(minutes=30)


@pytest.fixture
def kept(database: Database, copies: Copies, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    copies.after("a mirror", lambda: prepared(database))
    at_once(monkeypatch)
    with mirror(database, workspace) as made:
        made.sign()
        yield made


def test_nothing_is_missed_where_the_clock_of_the_source_is_behind(kept: Mirror) -> None:
    """SYN-02, SYN-03: what changes between two runs is fetched, though it bears a time from before the first of them."""
    at = NOW
    kept.stays.clock = lambda: at - timedelta(hours=1)
    kept.stays.add(COAST, "FA1")
    at += timedelta(minutes=1)
    kept.sync(scopes=[COAST], now=at)
    at += HALF_AN_HOUR / 2
    kept.stays.change(COAST, "FA1", check_out="2026-01-20")
    kept.stays.add(COAST, "NEW")
    at += HALF_AN_HOUR / 2
    assert kept.sync(scopes=[COAST], now=at).status == "success"
    assert kept.here(COAST, "check_out::date::text") == {"FA1": "2026-01-20", "NEW": "2026-01-14"}
    asked = "SELECT listed_at FROM recon.sync_marks WHERE scope = $1"
    assert rows(kept.database, asked, COAST) == [(at,)]  # when it was read, by our clock: health goes by it


def test_a_change_without_a_time_is_taken(kept: Mirror) -> None:
    """SYN-03: where the source tells no time of a change, nobody knows that it is older than what is here."""
    given = kept.stays.add(COAST, "FA1")
    kept.sync(scopes=[COAST])
    del given["updatedAt"]
    kept.stays.put(COAST, {**given, "checkOutDate": "2026-01-20"})
    assert kept.sync(scopes=[COAST], now=NOW + HALF_AN_HOUR).stats["updated"] == 1
    assert kept.here(COAST, "check_out") == {"FA1": datetime(2026, 1, 20, 14, tzinfo=UTC)}


def test_a_reservation_that_changes_its_platform_lives_once(kept: Mirror) -> None:
    """RES-01, RES-04: the old identity ends once the new one is here; where the new one is nobody's here, it stays."""
    for code in ("MOVES", "ODD", "DIRECT", "FA1"):
        kept.stays.add(COAST, code, partner="API airbnb")
    kept.sync(scopes=[COAST])
    for code, platform in (("MOVES", "Booking.com"), ("ODD", "Nobody knows"), ("DIRECT", "direct")):
        kept.stays.change(COAST, code, partner={"name": platform})
    found = "SELECT external_id, platform, status FROM reservations ORDER BY 1, 2"
    others = [(code, "airbnb", "confirmed") for code in ("DIRECT", "FA1", "ODD")]
    kept.sync(scopes=[COAST], now=NOW + HALF_AN_HOUR)
    both = [("MOVES", platform, "confirmed") for platform in ("airbnb", "booking")]
    assert sorted(rows(kept.database, found)) == sorted(others + both)  # never is there none
    kept.sync(scopes=[COAST], now=NOW + 2 * HALF_AN_HOUR)
    ended = [("MOVES", "airbnb", "cancelled"), ("MOVES", "booking", "confirmed")]
    assert sorted(rows(kept.database, found)) == sorted(others + ended)


def test_the_only_live_record_of_its_days_may_be_gone(kept: Mirror) -> None:
    """RES-04, RES-06: an empty list is no answer about many; about a single record it is a reason to look it up."""
    kept.stays.add(COAST, "GONE")
    kept.stays.add(COAST, "OVER", check_in="2025-01-01", check_out="2025-01-05", kind="checked_out")
    kept.stays.add(HILLS, "ALONE")
    kept.sync(scopes=[COAST, HILLS])
    kept.stays.vanish(COAST, "GONE")
    kept.stays.vanish(HILLS, "ALONE")
    coast, hills = kept.sync(scopes=[COAST, HILLS], now=NOW + HALF_AN_HOUR).parts
    assert kept.here() == {"GONE": "cancelled", "OVER": "checked_out"}
    assert (coast.cancelled, coast.errors) == (1, [])
    assert kept.here(HILLS) == {"ALONE": "confirmed"}  # a source that has nothing at all answers nothing
    assert (hills.cancelled, hills.held_back) == (0, 1)


def test_a_table_that_was_emptied_is_filled_again(kept: Mirror) -> None:
    """SYN-03: what the source has and was not changed lately comes back too."""
    kept.stays.clock = lambda: NOW - timedelta(days=1)
    for code in ("FA1", "FA2", "FA3"):
        kept.stays.add(COAST, code)
    kept.stays.clock = lambda: NOW
    kept.stays.add(COAST, "LAST")
    kept.sync(scopes=[COAST])
    for emptied in ("DELETE FROM bronze.stays_reservations", "DROP TABLE bronze.stays_reservations"):
        execute(kept.database, emptied, "DELETE FROM reservations WHERE external_id <> 'FA1'")
        assert kept.sync(scopes=[COAST], now=NOW + HALF_AN_HOUR).stats["created"] == 3
    assert set(kept.here()) == {"FA1", "FA2", "FA3", "LAST"}


def test_a_day_that_no_calendar_has_stops_nobody(kept: Mirror) -> None:
    """SYN-04, RES-15: records with infinity or the last day of all for a check-in are left alone; everybody has a turn."""
    kept.stays.add(COAST, "FA1")
    kept.stays.add(HILLS, "FA2")
    for code, day in (("EVER", "-infinity"), ("LAST", "9999-12-31 10:00+00"), ("ROME", "0044-03-15 10:00+00 BC")):
        kept.hold(COAST, code, check_in=day, check_out="infinity", platform="airbnb")
    done = kept.sync(scopes=[COAST, HILLS])
    assert done.stats["created"] == 2
    assert kept.here(HILLS) == {"FA2": "confirmed"}
    assert kept.sync(scopes=[COAST, HILLS], now=NOW + HALF_AN_HOUR).parts[0].failed is None


def test_a_plan_that_waits_stays_the_one_while_runs_go_on(kept: Mirror) -> None:
    """RES-05: that its times of change would be later ones is nothing new; a reviewer signs for what was read."""
    execute(kept.database, "UPDATE recon.standing_sign_offs SET withdrawn_at = now(), withdrawn_by = 'rita'")
    kept.hold(COAST, "FA1", "FA2")
    kept.stays.add(COAST, "FA1", check_out="2026-01-20")
    kept.stays.add(COAST, "NEW", kind="canceled")
    kept.stays.add(COAST, "FA2")
    waits = kept.sync(scopes=[COAST]).parts[0].plan
    assert kept.sync(scopes=[COAST], now=NOW + HALF_AN_HOUR).parts[0].plan == waits
    kept.stays.change(COAST, "FA2", guest="Rui Lima", guestsDetails={"list": [{"name": "Rui Lima"}]})
    other = kept.sync(scopes=[COAST], now=NOW + 2 * HALF_AN_HOUR).parts[0].plan
    assert other != waits
    sign_off.approve(kept.database, kept.workspace, other or "", "rita")
    assert kept.sync(scopes=[COAST], now=NOW + 3 * HALF_AN_HOUR).status == "success"
    assert kept.here() == {"FA1": "confirmed", "FA2": "confirmed", "NEW": "cancelled"}


def test_a_plan_waits_no_longer_once_nothing_is_left_to_change(kept: Mirror) -> None:
    """RES-05: what was to be written is no longer the case, so nobody is asked to sign for it; others wait as they are."""
    execute(kept.database, "UPDATE recon.standing_sign_offs SET withdrawn_at = now(), withdrawn_by = 'rita'")
    for scope in (COAST, HILLS):
        kept.hold(scope, "FA1")
        kept.stays.add(scope, "FA1", check_out="2026-01-20")
    waiting = [part.plan for part in kept.sync(scopes=[COAST, HILLS]).parts]
    kept.stays.change(COAST, "FA1", check_out="2026-01-14")
    done = kept.sync(scopes=[COAST, HILLS], now=NOW + HALF_AN_HOUR)
    assert [part.awaits is None for part in done.parts] == [True, False]
    states = dict(rows(kept.database, "SELECT plan, state FROM recon.plans"))
    assert [states[plan] for plan in waiting] == ["superseded", "planned"]
    health = look(
        kept.database, kept.workspace.spec(NAME), COAST, now=NOW + HALF_AN_HOUR, interval=HALF_AN_HOUR, origin="stays",
        silent=None,
    )  # fmt: skip
    assert health.issues == ()


def test_a_table_that_refuses_one_organisation_keeps_no_other_waiting(kept: Mirror) -> None:
    """RES-15: whatever goes wrong in one organisation, also what nobody thought of, the others have their turn."""
    kept.stays.add(COAST, "FA1")
    kept.stays.add(HILLS, "HA1")
    execute(
        kept.database,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not the secret 4711'; END $$",
        f"CREATE TRIGGER refuses BEFORE INSERT ON reservations FOR EACH ROW WHEN (new.organization_id = '{COAST}')"
        " EXECUTE FUNCTION refuse()",
    )
    done = kept.sync()
    failed = {part.scope: bool(part.failed or part.error_count) for part in done.parts}
    assert (done.status, failed[COAST], failed[HILLS]) == ("partial", True, False)
    assert list(kept.here(HILLS, "status")) == ["HA1"]


def test_what_nobody_thought_of_ends_one_turn_and_tells_no_value(
    kept: Mirror, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept.stays.add(HILLS, "HA1")
    right = sync._Turn._fetch

    def wrong(turn: sync._Turn, part: Part) -> object:
        if part.scope == COAST:
            raise RuntimeError("the secret 4711")
        return right(turn, part)

    monkeypatch.setattr(sync._Turn, "_fetch", wrong)
    done = kept.sync()
    assert done.status == "partial"
    assert list(kept.here(HILLS, "status")) == ["HA1"]
    assert "(RuntimeError, " in str(done.error)
    assert "4711" not in f"{done.error} {caplog.text}"
