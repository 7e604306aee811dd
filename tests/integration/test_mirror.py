"""The runs of a mirror: the source by HTTP, real plans, a real database; what each run writes, leaves alone, and says."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from recon.backfill import plan as plans
from recon.backfill import revert as reverting
from recon.backfill import sign_off
from recon.database import tables
from recon.database.connect import Database
from recon.errors import DatabaseFailed, Locked
from recon.mirror import log
from recon.stand_ins.faults import Fault
from recon.systems.stays.client import PATH
from recon.workspace import Workspace
from tests.copies import Copies
from tests.mirrored import COAST, HILLS, NAME, NOW, TOWN, Mirror, at_once, mirror, prepared
from tests.support import execute, rows

pytestmark = pytest.mark.one_engine

LONG_AGO = "2025-12-01T00:00:00.000000Z"


@pytest.fixture
def kept(database: Database, copies: Copies, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    copies.after("a mirror", lambda: prepared(database))
    at_once(monkeypatch)
    with mirror(database, workspace) as made:
        yield made


def issues(kept: Mirror) -> list[tuple[str, str, str]]:
    return rows(kept.database, "SELECT source_key[3], issue, state FROM recon.import_issues ORDER BY 1, 2")


def test_three_runs_insert_update_and_leave_alone_and_one_bad_record_stops_nobody(kept: Mirror) -> None:
    """SYN-03, SYN-04, RES-01, RES-02, RES-03, RES-05: new, changed, unchanged; what fails is an issue until it is mended."""
    kept.sign()
    for code in ("FA1", "FA2", "FA3"):
        kept.stays.add(COAST, code)
    kept.stays.add(COAST, "AIR", partner="Airbnb", kind="reserved")
    kept.stays.add(COAST, "UNMAPPED", listing="nowhere")
    kept.stays.add(COAST, "BACKWARDS", check_out="2026-01-09")
    kept.stays.put(COAST, {"id": "", "type": "booked"})
    first = kept.sync(scopes=[COAST])
    part = first.parts[0]
    assert first.status == "partial"
    assert {name: first.stats[name] for name in ("fetched", "created", "updated", "orphaned", "errors")} == {
        "fetched": 6, "created": 4, "updated": 0, "orphaned": 0, "errors": 3,
    }  # fmt: skip
    said = " | ".join(f"{item['record']} {item['error']}" for item in part.errors)
    for words in ("a reservation has no id", "missing property mapping", "check-in not before check-out"):
        assert words in said
    assert kept.here(COAST, "platform", "status") == {
        "AIR": ("airbnb", "pending"), **dict.fromkeys(("FA1", "FA2", "FA3"), ("staysnet", "confirmed")),
    }  # fmt: skip
    assert issues(kept) == [
        ("BACKWARDS", "check-in not before check-out", "open"), ("UNMAPPED", "missing property mapping", "open"),
    ]  # fmt: skip
    inserted = kept.here(COAST, "id", "updated_at")

    kept.stays.change(COAST, "FA1", check_out="2026-01-20")
    kept.stays.cancel(COAST, "FA2")
    kept.stays.put(
        COAST, {**kept.stays.accounts[COAST].get("FA3"), "checkOutDate": "2026-01-25", "updatedAt": LONG_AGO}
    )  # type: ignore[dict-item]
    execute(
        kept.database,
        f"UPDATE properties SET stays_listing_id = 'nowhere' WHERE organization_id = '{COAST}' AND stays_listing_id = 'listing-2'",
    )
    kept.stays.vanish(COAST, "")
    second = kept.sync(scopes=[COAST], now=datetime.now(UTC) + timedelta(minutes=30))
    assert {name: second.stats[name] for name in ("created", "updated", "errors")} == {
        "created": 1, "updated": 2, "errors": 1,
    }  # fmt: skip
    assert [item["error"] for item in second.parts[0].errors] == ["check-in not before check-out"]
    found = kept.here(COAST, "check_out", "status", "cancellation_reason")
    assert found["FA1"][0] == datetime(2026, 1, 20, 14, tzinfo=UTC)
    assert found["FA2"][1:] == ("cancelled", "RECONCILIATION: Cancelled in source system")
    assert found["FA3"][0] == datetime(2026, 1, 14, 14, tzinfo=UTC)  # the source did not say that it changed
    assert found["UNMAPPED"][1] == "confirmed"
    assert issues(kept)[1] == ("UNMAPPED", "missing property mapping", "closed")
    assert {code: kept.here(COAST, "id", "updated_at")[code] for code in ("FA3", "AIR")} == {
        code: inserted[code] for code in ("FA3", "AIR")
    }

    before = kept.bytes_of(COAST)
    third = kept.sync(scopes=[COAST], now=datetime.now(UTC) + timedelta(hours=1))
    assert (third.status, third.parts[0].plan, third.stats["updated"]) == ("success", None, 0)
    assert kept.bytes_of(COAST) == before


def test_a_plan_waits_for_a_reviewer_and_the_next_run_carries_it_out_and_revert_puts_all_back(kept: Mirror) -> None:
    """RES-05, RES-06: nothing is written but by a signed, ledgered plan; undone, every byte is as it was."""
    kept.hold(COAST, "GONE", "STAYS", "MOVES")
    kept.stays.add(COAST, "STAYS")
    kept.stays.add(COAST, "MOVES", check_out="2026-01-18")
    kept.stays.add(COAST, "NEW")
    before = rows(kept.database, "SELECT r::text FROM reservations r ORDER BY id")
    first = kept.sync(scopes=[COAST])
    part = first.parts[0]
    assert first.status == "partial"
    assert part.plan is not None
    assert part.awaits is not None
    assert part.plan in part.awaits
    assert rows(kept.database, "SELECT r::text FROM reservations r ORDER BY id") == before

    sign_off.approve(kept.database, kept.workspace, part.plan, "rita")
    second = kept.sync(scopes=[COAST], now=NOW + timedelta(minutes=30))
    assert kept.here() == {"GONE": "cancelled", "STAYS": "confirmed", "MOVES": "confirmed", "NEW": "confirmed"}
    assert (second.stats["created"], second.stats["updated"]) == (1, 1)
    assert plans.load(kept.database, kept.workspace, part.plan).state == "verified"
    ledger = tables.own("ledger", part.plan).sql("postgres")
    assert rows(kept.database, f"SELECT count(*) FROM {ledger}") == [(3,)]

    reverting.revert(kept.database, kept.workspace, part.plan, "ann", execute=True)
    assert rows(kept.database, "SELECT r::text FROM reservations r ORDER BY id") == before


def test_a_source_that_is_down_fails_its_organisation_alone(kept: Mirror) -> None:
    """SYN-02, RES-15: three attempts, then this organisation has failed; the others are done; the next run is well."""
    kept.stays.add(COAST, "FA1")
    kept.sign()
    refused = Mirror(
        kept.database,
        kept.workspace.with_variables({f"RECON_STAYS_TOKEN_{HILLS.upper().replace('-', '_')}": "wrong:wrong"}),
        kept.stays,
    )
    one = refused.sync(scopes=[COAST, HILLS])
    assert [part.failed is None for part in one.parts] == [True, False]
    assert "credential" in (one.parts[1].failed or "") or "accept" in (one.parts[1].failed or "")
    assert (one.status, one.stats["created"]) == ("partial", 1)
    assert kept.here() == {"FA1": "confirmed"}

    kept.stays.faults.requests.clear()
    kept.fail(Fault(500))
    down = kept.sync(scopes=[COAST], now=NOW + timedelta(minutes=30))
    assert down.status == "failed"
    assert kept.stays.faults.requests == [f"GET {PATH}"] * 3
    marks = "SELECT changed_until FROM recon.sync_marks WHERE scope = $1"
    assert rows(kept.database, marks, COAST) == [(NOW,)]  # what was not read is asked for again
    well = kept.sync(scopes=[COAST], now=NOW + timedelta(minutes=60))
    assert well.status == "success"
    assert rows(kept.database, marks, COAST) == [(NOW + timedelta(minutes=60),)]


def test_one_wrong_answer_cancels_nobody_and_two_looks_do(kept: Mirror) -> None:
    """RES-04, RES-06: a 404 by mistake at the first look; what is there after all is brought in; direct is never asked for."""
    kept.sign()
    kept.stays.add(COAST, "FA1")
    kept.stays.add(COAST, "FA2")
    kept.sync(scopes=[COAST])
    kept.hold(COAST, "SLIPPED", "GONE")
    kept.hold(COAST, "DIRECT", platform="direct")
    # Not among what changed, and not on the days of our live reservations: no list that is read has it.
    kept.stays.put(COAST, {**kept.stays.add(COAST, "SLIPPED", check_in="2026-06-01", check_out="2026-06-04"),
                           "updatedAt": LONG_AGO})  # fmt: skip
    kept.stays.faults.requests.clear()
    kept.stays.faults.add(Fault(404, path="/SLIPPED"))
    part = kept.sync(scopes=[COAST], now=datetime.now(UTC) + timedelta(days=1)).parts[0]
    assert kept.here() == {
        "FA1": "confirmed", "FA2": "confirmed", "SLIPPED": "confirmed", "GONE": "cancelled", "DIRECT": "confirmed",
    }  # fmt: skip
    looks = [line.rsplit("/", 1)[1] for line in kept.stays.faults.requests if not line.endswith("reservations")]
    assert looks.count("SLIPPED") == looks.count("GONE") == 2
    assert "DIRECT" not in looks
    assert {item["identity"]["external_id"]: item["said"] for item in part.orphans} == {
        "SLIPPED": "present", "GONE": "cancelled",
    }  # fmt: skip
    assert (part.orphaned, part.cancelled) == (1, 1)


def test_a_source_that_finds_nothing_or_lists_nothing_cancels_nobody(kept: Mirror) -> None:
    """RES-06: "not found" to everything is a fault of the source; so is a list that is suddenly empty; the rest is written."""
    kept.sign()
    held = [f"FA{number}" for number in range(1, 5)]
    kept.hold(COAST, "GONE", *held)
    for code in held:
        kept.stays.add(COAST, code)
    kept.stays.add(COAST, "NEW")
    kept.stays.faults.add(*[Fault(404, path=f"{PATH}/")] * 9)
    part = kept.sync(scopes=[COAST]).parts[0]
    assert "no record at all" in part.errors[0]["error"]
    assert kept.here() == dict.fromkeys(("GONE", *held, "NEW"), "confirmed")
    assert (part.held_back, part.cancelled, part.created) == (1, 0, 1)
    kept.stays.faults.waiting.clear()

    for code in (*held, "NEW"):
        kept.stays.vanish(COAST, code)
    empty = kept.sync(scopes=[COAST], now=NOW + timedelta(minutes=30))
    assert "lists no record at all" in empty.parts[0].errors[0]["error"]
    assert rows(kept.database, "SELECT count(*) FROM bronze.stays_reservations WHERE absent_at IS NOT NULL") == [(0,)]
    assert set(kept.here().values()) == {"confirmed"}


def test_runs_are_logged_and_the_log_can_be_asked(kept: Mirror) -> None:
    """SYN-07, SYN-01: a row with all its figures, indexes, and a constraint; a killed run does not count as running."""
    assert log.current(kept.database, NAME) == "idle"
    kept.stays.add(TOWN, "FA1", listing="nowhere")
    done = kept.sync(cause="schedule")
    (row,) = log.listed(kept.database, NAME)
    assert row["id"] == done.id
    assert row["started_at"] <= row["completed_at"]
    took = (row["completed_at"] - row["started_at"]) / timedelta(milliseconds=1)
    assert abs(took - row["duration_ms"]) <= 1
    assert row["status"] == "partial"
    assert row["cause"] == "schedule"
    assert row["stats"] == {
        "fetched": 1, "created": 0, "updated": 0, "orphaned": 0, "deleted": 0, "errors": 1,
        "duration": row["duration_ms"],
    }  # fmt: skip
    assert [part["scope"] for part in row["parts"]] == [COAST, HILLS, TOWN]
    assert log.last_whole(kept.database, NAME) == row
    indexes = " ".join(
        definition
        for (definition,) in rows(kept.database, "SELECT indexdef FROM pg_indexes WHERE tablename = 'sync_runs'")
    )
    for part in ("(started_at)", "(created_at)", "(status)", "WHERE (status = 'pending'"):
        assert part in indexes
    with pytest.raises((psycopg.errors.CheckViolation, DatabaseFailed)):
        execute(kept.database, "UPDATE recon.sync_runs SET status = 'odd'")

    execute(kept.database, f"INSERT INTO recon.sync_runs (id, reconciliation, cause, actor, status, started_at) VALUES"
            f" ('killed', '{NAME}', 'schedule', 'ann', 'running', now())")  # fmt: skip
    assert log.current(kept.database, NAME) == "idle"
    with log.one_at_a_time(kept.database, NAME, "person", "ann", None) as identity:
        assert log.current(kept.database, NAME) == "running"
        with pytest.raises(Locked), log.one_at_a_time(kept.database, NAME, "person", "bob", None, patience=0.05):
            raise AssertionError("a second run began")
        log.end(kept.database, identity, "success", {}, [], None)
    ended = {row["id"]: (row["status"], row["error"]) for row in log.listed(kept.database, NAME)}
    assert ended["killed"] == ("failed", log.DIED)


def test_the_log_has_five_states_and_a_run_that_waits_for_another_is_pending(kept: Mirror) -> None:
    """SYN-04, SYN-07: pending, running, success, partial, failed and no other; each column of its type."""
    columns = dict(
        rows(
            kept.database,
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'sync_runs'"
            " AND column_name IN ('id', 'started_at', 'completed_at', 'created_at', 'duration_ms', 'status', 'stats')",
        )
    )
    moment = "timestamp with time zone"
    assert columns == {
        "id": "text", "started_at": moment, "completed_at": moment, "created_at": moment, "duration_ms": "bigint",
        "status": "text", "stats": "jsonb",
    }  # fmt: skip
    assert rows(
        kept.database,
        "SELECT array_agg(state[1]) FROM pg_constraint, regexp_matches(pg_get_constraintdef(oid), '''(\\w+)''', 'g')"
        " AS state WHERE conname = 'sync_run_status'",
    ) == [(["pending", "running", "success", "partial", "failed"],)]
    pending = rows(kept.database, "SELECT indexdef FROM pg_indexes WHERE indexname = 'sync_run_pending'")[0][0]
    assert pending.endswith("(created_at) WHERE (status = 'pending'::text)")

    def states() -> list[str]:
        return [row["status"] for row in log.listed(kept.database, NAME)]

    with ThreadPoolExecutor(1) as threads:
        with log.one_at_a_time(kept.database, NAME, "person", "ann", None) as identity:
            waits = threads.submit(kept.sync, scopes=[TOWN])
            until = time.monotonic() + 30
            while states() != ["pending", "running"]:
                assert time.monotonic() < until
            log.end(kept.database, identity, log.SUCCESS, {}, [], None)
        assert waits.result().status == "success"


def test_what_is_active_and_gone_is_cancelled_now_and_nothing_else(kept: Mirror) -> None:
    """RES-04, RES-05: pending, confirmed and checked_in are held against the source; what is over, ended or direct is not."""
    for status in ("pending", "confirmed", "checked_in", "checked_out", "cancelled"):
        kept.hold(COAST, f"GONE-{status}", status=status)
    kept.hold(COAST, "DIRECT", platform="direct")
    kept.hold(COAST, "ENDED", "LIVES")
    kept.stays.add(COAST, "ENDED", kind="canceled")
    kept.stays.add(COAST, "LIVES")
    kept.sign()
    before = kept.here(COAST, "status", "cancelled_at", "cancellation_reason")
    began = datetime.now(UTC)
    assert kept.sync(scopes=[COAST], suite=False).status == "success"
    after = kept.here(COAST, "status", "cancelled_at", "cancellation_reason")
    written = {code: after[code] for code in after if after[code] != before[code]}
    assert {code: (status, reason) for code, (status, _, reason) in written.items()} == {
        **dict.fromkeys(
            ("GONE-pending", "GONE-confirmed", "GONE-checked_in"),
            ("cancelled", "RECONCILIATION: Reservation not found in source (orphan)"),
        ),
        "ENDED": ("cancelled", "RECONCILIATION: Cancelled in source system"),
    }
    assert all(began <= at <= datetime.now(UTC) for _, at, _ in written.values())


def test_two_of_one_identity_are_left_to_a_person(kept: Mirror) -> None:
    """RES-01, RES-02: the table takes no second one; where it would, nothing is written until it is unique again."""
    kept.hold(COAST, "TWICE")
    with pytest.raises((psycopg.errors.UniqueViolation, DatabaseFailed)):
        kept.hold(COAST, "TWICE")
    unique = "reservations_organization_id_platform_external_id_key"
    execute(kept.database, f"ALTER TABLE reservations DROP CONSTRAINT {unique}")
    kept.hold(COAST, "TWICE")
    kept.sign()
    kept.stays.add(COAST, "TWICE", check_out="2026-01-20")
    kept.stays.add(COAST, "NEW")
    before = kept.bytes_of(COAST)[:2]
    part = kept.part(suite=False)
    assert "reservations has no unique index on organization_id, platform, external_id" in (part.failed or "")
    assert kept.bytes_of(COAST)[:2] == before
    assert set(kept.here()) == {"TWICE"}


def test_more_than_a_thousand_at_once_are_written_and_have_their_jobs(kept: Mirror) -> None:
    """SYN-09: 1,200 reservations are entered, moved and cancelled by a run each."""
    codes = [f"F{number:04}" for number in range(1200)]
    for code in codes:
        kept.stays.add(COAST, code, check_in="2026-02-10", check_out="2026-02-14")
    kept.sign(rows=2000)
    entered = kept.sync(scopes=[COAST], suite=False)
    assert (entered.status, entered.stats["fetched"], entered.stats["created"]) == ("success", 1200, 1200)
    assert len(kept.here()) == 1200
    jobs = "SELECT job, state, count(*), count(DISTINCT key) FROM recon.follow_ups GROUP BY 1, 2 ORDER BY 1, 2"
    assert rows(kept.database, jobs) == [("generate_pin", "waiting", 1200, 1200), ("revoke_pin", "waiting", 1200, 1200)]
    for code in codes:
        kept.stays.cancel(COAST, code)
    ended = kept.sync(scopes=[COAST], suite=False, now=datetime.now(UTC) + timedelta(minutes=30))
    assert (ended.status, ended.stats["updated"]) == ("success", 1200)
    assert set(kept.here().values()) == {"cancelled"}


def test_jobs_that_cannot_be_removed_do_not_fail_the_run(kept: Mirror) -> None:
    """SYN-06: the run ends well, and the job of a reservation that is gone stays for the next time."""
    kept.sign()
    kept.stays.add(COAST, "FA1")
    execute(
        kept.database,
        "INSERT INTO recon.follow_ups (reconciliation, job, key, scope, due_at, state) VALUES"
        f" ('{NAME}', 'revoke_pin', ARRAY['{COAST}'], '{COAST}', now(), 'done')",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$",
        "CREATE TRIGGER refuse BEFORE DELETE ON recon.follow_ups FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    refused = kept.sync(scopes=[COAST], suite=False)
    assert (refused.status, refused.stats["created"], refused.stats["deleted"]) == ("success", 1, 0)
    execute(kept.database, "DROP TRIGGER refuse ON recon.follow_ups")
    assert kept.sync(scopes=[COAST], suite=False, now=NOW + timedelta(minutes=30)).stats["deleted"] == 1
    jobs = "SELECT count(*), count(DISTINCT key) FROM recon.follow_ups"
    assert rows(kept.database, jobs) == [(2, 1)]  # those of the reservation that is here
