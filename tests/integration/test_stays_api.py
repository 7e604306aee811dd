"""The endpoints of the mirror of Stays, asked by HTTP, with the source by HTTP and a real database behind them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from recon.database import tables
from recon.database.connect import Database
from recon.errors import OutsideFailed
from recon.service import stays_api
from recon.stand_ins.faults import Fault
from recon.workspace import Workspace
from tests.copies import Copies
from tests.mirrored import COAST, HILLS, NAME, TOWN, Mirror, at_once, mirror, prepared
from tests.service import Answer, Client, application, asked
from tests.support import execute, rows

pytestmark = pytest.mark.one_engine

STRANGE = "99999999-0000-4000-8000-999999999999"
RESERVATIONS, MISSING, HEALTH, DAY = (
    f"/reconciliation/{name}/" for name in ("reservations", "missing", "health", "auto-sync")
)
STATUS = "/api/admin/reconciliation/status"
ORPHAN = "RECONCILIATION: Reservation not found in source (orphan)"
PROPAGATED = "RECONCILIATION: Cancelled in source system"
DAYS = {"checkInFrom": "2026-01-01", "checkInTo": "2026-01-31"}


@pytest.fixture
def kept(database: Database, copies: Copies, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    copies.after("a mirror", lambda: prepared(database))
    at_once(monkeypatch)
    with mirror(database, workspace) as made:
        yield made


@contextmanager
def client(kept: Mirror) -> Iterator[Client]:
    """The service, asked by an admin of all organisations."""
    variables = {name: value for name, value in kept.workspace.variables.items() if name.startswith("RECON_STAYS")}
    with asked(application(kept.workspace, kept.database, **variables)) as made:
        yield made


def reconciled(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.text
    assert answer.json["success"] is True
    return answer.json["data"]


def post(client: Client, path: str, **parameters: Any) -> Answer:
    return client.ask("POST", path, params=parameters)


def actions(data: dict[str, Any]) -> dict[str, str]:
    return {item["external_id"]: item["action_taken"] for item in data["orphanReservations"]}


def test_the_incident_of_six_absent_reservations_cancels_the_one_that_was_alive(kept: Mirror) -> None:
    """RES-16, RES-04, RES-05, RES-07, RES-15: five were cancelled before, FN26J is cancelled now, and nobody else is."""
    gone = [f"FK0{number}J" for number in range(1, 6)]
    cancelled = {"cancelled_at": "2025-12-01 10:00+00", "cancellation_reason": "the guest wrote"}
    for scope in (COAST, HILLS):  # another organisation with the same codes, and none of them at its source
        kept.hold(scope, *gone, status="cancelled", **cancelled)
        kept.hold(scope, "FN26J", "FP20J", "FP16J", "FO24J", "FA01J", "FA02J")
    kept.hold(COAST, "D1", platform="direct")
    for code in ("FP20J", "FP16J", "FO24J"):
        kept.stays.add(COAST, code, kind="canceled")
    for code in ("FA01J", "FA02J"):
        kept.stays.add(COAST, code)
    kept.sign()
    before, long_cancelled = kept.bytes_of(HILLS), kept.here(COAST, "status", "cancelled_at", "cancellation_reason")

    with client(kept) as service:
        operator = service.as_("oscar", ["operator"], [COAST])
        data = reconciled(post(operator, f"{RESERVATIONS}{COAST}", limit=2, autoCancelOrphans="true", **DAYS))

    assert data["stats"] == {
        "totalScanned": 11, "validatedOk": 2, "orphansDetected": 1, "orphansCancelled": 1, "errorsFromSource": 0,
        "alreadyCancelled": 5,
    }  # fmt: skip
    (orphan,) = data["orphanReservations"]
    assert orphan == {
        "id": str(kept.here(COAST, "id")["FN26J"]), "external_id": "FN26J", "status": "confirmed", "reason": "Reservation not found in source (orphan)",
        "action_taken": "cancelled",
    }  # fmt: skip
    assert {item["external_id"]: item["action_taken"] for item in data["propagated"]} == dict.fromkeys(
        ("FP20J", "FP16J", "FO24J"), "cancelled"
    )
    assert data["errors"] == []
    assert data["awaits"] is None
    assert data["status"] == "success"
    found = kept.here(COAST, "status", "cancelled_at", "cancellation_reason")
    assert {code: row[2] for code, row in found.items() if row[0] == "cancelled" and code not in gone} == {
        "FN26J": ORPHAN, "FP20J": PROPAGATED, "FP16J": PROPAGATED, "FO24J": PROPAGATED,
    }  # fmt: skip
    assert all(found[code][1] is not None for code in ("FN26J", "FP20J", "FP16J", "FO24J"))
    assert {code: found[code] for code in gone} == {code: long_cancelled[code] for code in gone}
    assert found["FA01J"][0] == found["FA02J"][0] == found["D1"][0] == "confirmed"
    assert kept.bytes_of(HILLS) == before
    assert rows(kept.database, "SELECT DISTINCT author, state FROM recon.plans") == [("oscar", "verified")]


def test_without_a_sign_off_or_without_being_asked_nothing_is_cancelled_and_the_answer_says_so(kept: Mirror) -> None:
    """RES-07, RES-06: all orphans are told whatever the limit; days bound them; the plan that waits is named."""
    codes = [f"FX{number}" for number in range(7)]
    kept.hold(COAST, *codes)
    kept.hold(COAST, "FEB", check_in="2026-02-10 18:00+00", check_out="2026-02-14 14:00+00")
    for number in range(4):
        kept.stays.add(COAST, f"FA{number}")
    before = rows(kept.database, "SELECT r::text FROM reservations r ORDER BY id")
    with client(kept) as service:
        asked_only = reconciled(post(service, f"{RESERVATIONS}{COAST}", limit=1, **DAYS))
        wanted = reconciled(post(service, f"{RESERVATIONS}{COAST}", limit=1, autoCancelOrphans="true", **DAYS))

    assert asked_only["stats"]["totalScanned"] == 7
    assert actions(asked_only) == dict.fromkeys(codes, "none: only looked at, for autoCancelOrphans is false")
    assert actions(wanted) == dict.fromkeys(codes, "none: awaits sign-off")
    assert wanted["stats"]["orphansDetected"] == 7
    assert wanted["stats"]["orphansCancelled"] == 0
    assert wanted["plan"] in wanted["awaits"]
    assert rows(kept.database, "SELECT r::text FROM reservations r ORDER BY id") == before


def test_no_fault_of_the_source_is_an_absence(kept: Mirror) -> None:
    """RES-06, RES-07: a timeout, 401, 429, 500, half an answer: told as errors, and the reservation lives on."""
    kept.hold(COAST, "FN26J", "FA01J", "FA02J")
    kept.stays.add(COAST, "FA01J")
    kept.stays.add(COAST, "FA02J")
    kept.sign()
    faults = [
        Fault(delay=0.8, path="/FN26J"), Fault(401, path="/FN26J"), Fault(429, path="/FN26J"),
        Fault(500, path="/FN26J"), Fault(200, body='{"id": "FN26J", "typ', path="/FN26J"),
    ]  # fmt: skip
    with client(kept) as service:
        for fault in faults:
            kept.fail(fault)
            data = reconciled(post(service, f"{RESERVATIONS}{COAST}", autoCancelOrphans="true"))
            assert data["stats"]["errorsFromSource"] == 1, (fault, data)
            assert data["stats"]["orphansDetected"] == 0
            assert data["orphanReservations"] == []
            assert len(data["errors"]) == 1
            assert kept.here()["FN26J"] == "confirmed"
            kept.stays.faults.waiting.clear()
        kept.fail(Fault(503, path="/reservations"))
        down = post(service, f"{RESERVATIONS}{COAST}", autoCancelOrphans="true")
    assert (down.status, down.json["error"]) == (502, "OutsideFailed")
    assert kept.here()["FN26J"] == "confirmed"


def test_more_orphans_than_the_cap_are_all_left_alone(kept: Mirror) -> None:
    """RES-06, RES-07: eleven of thirty are one too many; the rest of the run goes on."""
    codes = [f"F{number:02}" for number in range(30)]
    kept.hold(COAST, *codes)
    for code in codes[11:]:
        kept.stays.add(COAST, code)
    kept.stays.add(COAST, "NEW")
    kept.sign()
    with client(kept) as service:
        data = reconciled(post(service, f"{RESERVATIONS}{COAST}", autoCancelOrphans="true"))
        health = service.get(f"{HEALTH}{COAST}").json["data"]
    assert set(actions(data)) == set(codes[:11])
    assert set(actions(data).values()) == {"none: held back, for there are too many at once; a person must look"}
    assert (data["stats"]["orphansDetected"], data["stats"]["orphansCancelled"]) == (11, 0)
    assert "More orphans than the cap allows" in data["errors"][0]["error"]
    assert data["status"] == "partial"
    assert set(kept.here().values()) == {"confirmed"}
    assert "NEW" in kept.here()
    assert health["health"]["status"] == "unhealthy"
    assert "held_back" in [issue["code"] for issue in health["health"]["issues"]]
    assert health["metrics"]["orphanReservations"] == 11


def test_a_morning_of_one_organisation(kept: Mirror) -> None:
    """SYN-08, RES-08, RES-09, RES-10: status, what is missing, the day brought in, and the health before and after."""
    today = datetime.now(UTC).date()
    later = today + timedelta(days=10)
    kept.stays.add(COAST, "FA01J", check_in=str(later), check_out=str(later + timedelta(days=3)))
    kept.sign()
    with client(kept) as service:
        empty = service.get(STATUS)
        assert empty.status == 200
        assert empty.json["data"]["lastRun"] is None
        assert empty.json["data"]["currentStatus"] == "idle"
        assert service.get(f"{HEALTH}{COAST}").json["data"]["health"]["status"] == "unhealthy"
        kept.sync(now=datetime.now(UTC))

        shown = service.get(STATUS).json
        assert set(shown) == {"data"}
        assert set(shown["data"]) == {"lastRun", "nextRun", "currentStatus", "schedule"}
        last = shown["data"]["lastRun"]
        assert set(last) == {"id", "startedAt", "completedAt", "duration", "status", "stats"}
        assert last["stats"] == {"fetched": 1, "created": 1, "updated": 0, "orphaned": 0, "errors": 0}
        began, ended = (datetime.fromisoformat(last[name]) for name in ("startedAt", "completedAt"))
        assert abs((ended - began) / timedelta(milliseconds=1) - last["duration"]) <= 2
        assert last["startedAt"].endswith("Z")
        assert shown["data"]["schedule"] == "*/30 * * * * (Every 30 minutes)"
        tick = datetime.fromisoformat(shown["data"]["nextRun"])
        assert tick.minute in (0, 30)
        assert timedelta(0) < tick - datetime.now(UTC) <= timedelta(minutes=30)
        hills = service.as_("henry", ["admin"], [HILLS]).get(STATUS).json["data"]["lastRun"]
        assert hills["stats"]["fetched"] == 0  # of its own organisation only

        healthy = service.get(f"{HEALTH}{COAST}").json["data"]
        assert healthy["health"] == {"status": "healthy", "issues": []}
        assert healthy["metrics"] == {
            "activeReservations": 1, "orphanReservations": 0, "checkInsToday": 0, "pendingImportIssues": 0,
        }  # fmt: skip

        for code, listing in (("FT01J", "listing-2"), ("FT02J", "nowhere")):
            kept.stays.add(COAST, code, check_in=f"{today}T12:00", check_out=f"{today + timedelta(days=2)}",
                           zone="UTC", listing=listing, guest="Private Person")  # fmt: skip
        before = kept.bytes_of(COAST)
        found = service.get(f"{MISSING}{COAST}", checkInFrom=today, checkInTo=today)
        assert kept.bytes_of(COAST) == before
        assert "Private" not in found.text
        data = found.json["data"]
        assert (data["fetched"], data["missing"]) == (2, 2)
        assert {item["external_id"]: item["issues"] for item in data["reservations"]} == {
            "FT01J": [], "FT02J": ["missing property mapping"],
        }  # fmt: skip
        assert data["reservations"][0]["status"] == "confirmed"
        assert data["reservations"][0]["check_in"] == f"{today}T12:00:00Z"

        day = reconciled(post(service.as_("oscar", ["operator"], [COAST]), f"{DAY}{COAST}", date=today))
        assert (day["date"], day["fetched"], day["missing"], day["synced"]) == (str(today), 2, 2, 1)
        assert day["skipped"] == [
            {"platform": "staysnet", "external_id": "FT02J", "reasons": ["missing property mapping"]}
        ]
        assert day["plan"]
        assert kept.here()["FT01J"] == "confirmed"
        assert "FT02J" not in kept.here()
        assert service.get(f"{MISSING}{COAST}", checkInFrom=today, checkInTo=today).json["data"]["missing"] == 1
        after = service.get(f"{HEALTH}{COAST}").json["data"]
        assert after["metrics"]["checkInsToday"] == 1
        assert after["metrics"]["pendingImportIssues"] == 1
        assert after["health"]["status"] != "healthy"
        assert "import_issues" in [issue["code"] for issue in after["health"]["issues"]]
        assert service.get(STATUS).json["data"]["lastRun"]["id"] == last["id"]  # the day was one organisation's alone

        kept.fail(Fault(500))
        down = service.get(f"{MISSING}{COAST}", checkInFrom=today, checkInTo=today)
        assert (down.status, down.json["error"]) == (502, "OutsideFailed")


BROKEN = {
    "too_old": "UPDATE recon.sync_marks SET changed_until = now() - interval '61 minutes'",
    "last_failed": f"INSERT INTO recon.sync_runs (id, reconciliation, cause, actor, status, started_at, completed_at,"
    f" error) VALUES ('x', '{NAME}', 'schedule', 'ann', 'failed', now(), now(), 'no answer')",
    "import_issues": f"INSERT INTO recon.import_issues VALUES ('{NAME}', ARRAY['{COAST}', 'airbnb', 'F1'], 'bad',"
    " 'open', now(), now())",
    "overdue": f"INSERT INTO recon.follow_ups (reconciliation, job, key, scope, due_at, changed_at, state) VALUES"
    f" ('{NAME}', 'generate_pin', ARRAY['1'], '{COAST}', now() - interval '61 minutes', now() - interval '2 hours', 'waiting')",
    "follow_up_failed": f"INSERT INTO recon.follow_ups (reconciliation, job, key, scope, due_at, state) VALUES"
    f" ('{NAME}', 'generate_pin', ARRAY['2'], '{COAST}', now(), 'failed')",
    "silent": "INSERT INTO recon.webhook_events (origin, event, environment, scope, payload, state, received_at) VALUES"
    f" ('stays', 'e0', 'production', '{COAST}', '{{}}', 'success', now() - interval '25 hours')",
    "failed_events": "INSERT INTO recon.webhook_events (origin, event, environment, scope, payload, state) VALUES"
    f" ('stays', 'e1', 'production', '{COAST}', '{{}}', 'failed')",
}


def test_whatever_is_wrong_shows_in_the_health_of_its_organisation_alone(kept: Mirror) -> None:
    """RES-09, RES-13, RES-15: each rule by itself, silence too; another organisation stays healthy."""
    marks = ", ".join(f"('{NAME}', '{scope}', now())" for scope in (COAST, TOWN))
    execute(kept.database, f"INSERT INTO recon.sync_marks (reconciliation, scope, changed_until) VALUES {marks}")
    with client(kept) as service:
        for code, statement in BROKEN.items():
            execute(kept.database, statement)
            found = service.get(f"{HEALTH}{COAST}").json["data"]["health"]
            issue = next(issue for issue in found["issues"] if issue["code"] == code)
            assert issue["message"]
            assert issue["why"].endswith(".")
            assert found["status"] in (issue["level"], "unhealthy")
        execute(kept.database, "UPDATE recon.sync_marks SET changed_until = now()", "DELETE FROM recon.sync_runs")
        assert service.get(f"{HEALTH}{TOWN}").json["data"]["health"] == {"status": "healthy", "issues": []}
        assert (
            len(service.get(f"{HEALTH}{COAST}").json["data"]["health"]["issues"]) == len(BROKEN) - 3
        )  # it was read, its runs are gone, and an event came that failed


def test_nobody_gets_past_a_role_or_an_organisation(kept: Mirror) -> None:
    """RES-15, SYN-08, RES-07, RES-08: roles, organisations, and parameters that make no sense: 4xx; Stays is not asked."""
    gets, posts = (MISSING, HEALTH), (RESERVATIONS, DAY)
    with client(kept) as service:
        for path in (*gets, *posts):
            method = "GET" if path in gets else "POST"

            def ask(who: Client, organisation: str, path: str = path, method: str = method) -> int:
                return who.ask(method, f"{path}{organisation}", params=DAYS).status

            assert ask(Client(service.http, {}), COAST) == 401
            assert ask(service.as_("vera", ["viewer"], [HILLS]), COAST) == 403
            assert ask(service.as_("oscar", ["operator"], [HILLS]), COAST) == 403
            assert ask(service, STRANGE) == 404
            assert ask(service, "no-uuid") == 422
            assert ask(service, f"{COAST}'; DROP TABLE reservations; --") == 422
        for path in posts:
            assert service.as_("vera", ["viewer"], [COAST]).post(f"{path}{COAST}").status == 403
        for role in ("viewer", "operator", "reviewer"):
            assert service.as_("vera", [role]).get(STATUS).status == 403
        assert Client(service.http, {}).get(STATUS).status == 401
        for days in ({}, {"checkInFrom": "2026-01-01"}, {"checkInTo": "2026-01-01"}, {**DAYS, "checkInTo": "soon"}):
            assert service.get(f"{MISSING}{COAST}", **days).status == 422
        backwards = {"checkInFrom": "2026-02-01", "checkInTo": "2026-01-01"}
        assert service.get(f"{MISSING}{COAST}", **backwards).status == 400
        assert post(service, f"{RESERVATIONS}{COAST}", **backwards).status == 400
        for limit in (0, 501, "many"):
            assert post(service, f"{RESERVATIONS}{COAST}", limit=limit).status == 422
        assert post(service, f"{DAY}{COAST}", date="tomorrow").status == 422
    assert kept.stays.faults.requests == []


def test_the_first_and_the_last_day_of_the_calendar_are_days(kept: Mirror) -> None:
    """RES-08, RES-10: nothing goes wrong at the ends of what a date can be."""
    kept.stays.add(COAST, "FN26J")
    with client(kept) as service:
        found = service.get(f"{MISSING}{COAST}", checkInFrom="0001-01-01", checkInTo="9999-12-31")
        assert [item["external_id"] for item in found.json["data"]["reservations"]] == ["FN26J"]
        for day in ("0001-01-01", "9999-12-31"):
            assert service.get(f"{MISSING}{COAST}", checkInFrom=day, checkInTo=day).json["data"]["fetched"] == 0
            assert reconciled(post(service, f"{DAY}{COAST}", date=day))["fetched"] == 0


def test_what_ends_a_run_is_told_to_whoever_runs_it_without_values(
    kept: Mirror, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """RES-09, SYN-07: a folder that cannot be written is named in the log; what nobody thought of, by its kind."""
    kept.stays.add(COAST, "FN26J")
    kept.sign()
    folder = kept.workspace.root / "sql" / "backfills"
    folder.parent.mkdir(exist_ok=True)
    folder.write_text("no folder")
    with client(kept) as service:
        assert service.post(f"{RESERVATIONS}{COAST}").status == 500
        assert f"{folder}" in caplog.text
        (issue,) = (one for one in healthy(service) if one["code"] == "last_failed")
        assert "sql/backfills" in issue["message"]
        assert str(kept.workspace.root) not in issue["message"]
        caplog.clear()

        def broken(*_: Any, **__: Any) -> None:
            raise ValueError("guest Ida Secret")

        monkeypatch.setattr("recon.mirror.sync.mirrored.fetch", broken)
        assert service.post(f"{RESERVATIONS}{COAST}").status == 500
        (issue,) = (one for one in healthy(service) if one["code"] == "last_failed")
    ((error,),) = rows(kept.database, "SELECT error FROM recon.sync_runs ORDER BY created_at DESC LIMIT 1")
    assert "Something unforeseen went wrong (ValueError, test_stays_api.py line " in error
    assert "Ida" not in caplog.text + issue["message"]


def healthy(service: Client) -> list[dict[str, Any]]:
    return service.get(f"{HEALTH}{COAST}").json["data"]["health"]["issues"]


def test_nobody_keeps_all_others_waiting(kept: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    """RES-15, SYN-08: of one organisation, and of all together, so many requests are at work; who is left answers at once."""
    began, let_go = threading.Semaphore(0), threading.Event()

    def slow(*_: Any, **__: Any) -> Any:
        began.release()
        assert let_go.wait(30)
        raise OutsideFailed("It did not answer.")

    monkeypatch.setattr(stays_api.missing, "live", slow)

    def ask(organisation: str) -> int:
        return service.get(f"{MISSING}{organisation}", **DAYS).status

    with client(kept) as service, ThreadPoolExecutor(10) as callers:
        asked_for = [callers.submit(ask, organisation) for organisation in [COAST] * 3 + [HILLS] * 3 + [TOWN] * 2]
        try:
            assert all(began.acquire(timeout=30) for _ in asked_for)
            turned = service.get(f"{MISSING}{COAST}", **DAYS)
            assert (turned.status, turned.headers["retry-after"]) == (409, "30")
            for path in (RESERVATIONS, DAY, "/staysnet/webhooks/process/"):
                assert service.post(f"{path}{COAST}").status == 409
            assert ask(TOWN) == 503
            assert service.get(f"{HEALTH}{COAST}").status == 200
        finally:
            let_go.set()
        assert [one.result() for one in asked_for] == [502] * 8
        assert ask(COAST) == 502


def test_who_comes_while_a_run_goes_on_is_told_to_come_again(kept: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    """RES-07, RES-10, SYN-01: one run of the mirror at a time; 409 with Retry-After, and nothing is fetched."""
    monkeypatch.setattr(stays_api, "PATIENCE_SECONDS", 0.05)
    with client(kept) as service, kept.database.session() as other:
        other.execute("SELECT pg_advisory_xact_lock($1::int, hashtext($2))", tables.LOCK_SPACE, f"sync {NAME}")
        for path in (RESERVATIONS, DAY):
            turned = service.post(f"{path}{COAST}")
            assert (turned.status, turned.headers["retry-after"]) == (409, "30")
    assert kept.stays.faults.requests == []
