"""Stays' events over real HTTP: kept first, confirmed at a real stand-in of Stays, worked off in batches of one organisation."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql
from starlette.testclient import TestClient

from recon.backfill import standing
from recon.database.connect import Database
from recon.mirror import events
from recon.mirror.silence import silence
from recon.service import app as service
from recon.service import events as worker
from recon.service import inbox, origins
from recon.stand_ins.faults import Fault
from recon.stand_ins.server import served
from recon.stand_ins.stays import Stays, signed
from recon.systems import webhooks
from recon.systems.stays.webhook import HOOK
from recon.workspace import Workspace
from tests.service import KEY, token
from tests.support import ROOT, execute, rows

pytestmark = pytest.mark.one_engine

ORGANIZATIONS = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(1, 27)]
STRANGER = "ffffffff-0000-4000-8000-000000000000"  # is named by no setting
OWN_SECRET = "a-secret-of-one-organisation"
SPEC = "stays_reservations"
LATER = timedelta(days=2)  # by then every wait between attempts is over


@dataclass(frozen=True)
class Answer:
    status: int
    json: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict[str, str])


@dataclass
class Inn:
    """A database, a workspace, the stand-in and the service of this module; each test takes organisations of its own."""

    database: Database
    workspace: Workspace
    stays: Stays
    address: str
    numbers: Iterator[int] = field(default_factory=count)

    def organization(self) -> str:
        """One that no other test has, with a property for listing-1."""
        found = ORGANIZATIONS[next(self.numbers)]
        execute(self.database, f"INSERT INTO properties VALUES ({int(found[:8], 16)}, '{found}', 'Dune', 'listing-1')")
        return found

    def post(self, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection(urlsplit(self.address).netloc, timeout=60)
        try:
            with suppress(BrokenPipeError):  # what is too large is answered before it is read
                connection.request("POST", path, body, headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, json.loads(answer.read()), dict(answer.getheaders()))
        finally:
            connection.close()

    def send(self, organization: str, code: str, action: str = "reservation.modified", **more: Any) -> Answer:
        """Have Stays send an event about a reservation."""
        headers, body = self.stays.event(code, action, **more)
        return self.post(f"/staysnet/webhook/{organization}", body, headers)

    def process(self, organization: str, query: str = "", **who: Any) -> Answer:
        bearer = token("otto", **({"roles": ["operator"], "organizations": [organization]} | who))
        path = f"/staysnet/webhooks/process/{organization}{query}"
        return self.post(path, headers={"Authorization": f"Bearer {bearer}"})

    def kept(self, organization: str) -> list[tuple[Any, ...]]:
        """State and words of each event, in the order in which they came."""
        found = "SELECT state, said FROM recon.webhook_events WHERE scope = $1 ORDER BY entry"
        return rows(self.database, found, organization)

    def here(self, organization: str, columns: str = "external_id, status") -> list[tuple[Any, ...]]:
        found = f"SELECT {columns} FROM reservations WHERE organization_id = $1::uuid ORDER BY external_id"
        return rows(self.database, found, organization)

    def everything(self, organization: str) -> list[tuple[Any, ...]]:
        """All that one organisation has, for it must be as it was."""
        return [
            row
            for table in ("reservations", "bronze.stays_reservations", "properties")
            for row in rows(
                self.database, f"SELECT t::text FROM {table} t WHERE organization_id = $1::uuid", organization
            )
        ]

    def work_off(self, organization: str, **more: Any) -> events.Worked:
        return events.work_off(self.database, self.workspace, HOOK, organization, **more)

    def asked(self, organization: str) -> int:
        """How often the source was asked for single records."""
        return self.stays.accounts[organization].asked["one"]


@pytest.fixture(scope="module")
def inn(embedded_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inn]:
    server, name = sa.make_url(embedded_url), f"test_stays_hooks_{os.urandom(4).hex()}"
    plain = server.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    database = Database(server.set(database=name).render_as_string(hide_password=False))
    with database.session() as session:
        session.driver.execute((ROOT / "sql" / "schema" / "stays.sql").read_bytes())
    folder = tmp_path_factory.mktemp("inn")
    (folder / "recon.toml").touch()
    (folder / "reconciliations").mkdir()
    stays = Stays(ORGANIZATIONS)
    with served(stays.app) as url:
        own = {f"RECON_STAYS_WEBHOOK_SECRET_{ORGANIZATIONS[-1].upper().replace('-', '_')}": OWN_SECRET}
        settings = {"RECON_USER": "ann", "RECON_JWT_SECRET": KEY, **stays.settings(url), **own}
        (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        workspace = Workspace(folder)
        standing.give(database, workspace, SPEC, "bob", rows=500, days=30, actions=["insert", "update", "set"])
        with served(service.application(workspace, database, answer_seconds=60)) as address:
            yield Inn(database, workspace, stays, address)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def test_an_event_is_kept_confirmed_at_the_source_and_written_as_the_source_has_it(inn: Inn) -> None:
    """RES-11, RES-02: what the event itself says of the record is not believed; the source is asked."""
    mine = inn.organization()
    inn.stays.add(mine, "FN26J")
    answer = inn.send(mine, "FN26J", "reservation.canceled", event="e1", type="canceled")
    assert (answer.status, answer.json["state"], answer.json["event"]) == (200, "success", "e1"), answer
    assert answer.json["said"].startswith("reservation FN26J is here as the source has it (plan ")
    assert inn.here(mine) == [("FN26J", "confirmed")]
    inn.stays.cancel(mine, "FN26J")
    assert inn.send(mine, "FN26J").json["state"] == "success"
    assert inn.here(mine, "status, cancellation_reason") == [
        ("cancelled", "RECONCILIATION: Cancelled in source system")
    ]
    assert rows(inn.database, "SELECT origin, record, kind FROM recon.webhook_events WHERE event = 'e1'") == [
        ("stays", "FN26J", "reservation.canceled")
    ]


def test_events_that_come_twice_late_or_out_of_order_change_nothing(inn: Inn) -> None:
    """RES-11: an event is known by its id, and the state at the source counts, not the order of events."""
    mine = inn.organization()
    inn.stays.add(mine, "A1")
    created, modified = inn.stays.event("A1", "reservation.created"), inn.stays.event("A1", type="canceled")
    path = f"/staysnet/webhook/{mine}"
    assert inn.post(path, modified[1], modified[0]).json["state"] == "success"
    before = inn.everything(mine)
    late = inn.post(path, created[1], created[0])
    assert late.json["said"] == "reservation A1 is here as the source has it"
    asked = inn.asked(mine)
    again = inn.post(path, modified[1], modified[0])
    assert (again.status, again.json["state"], again.json["received_before"]) == (200, "success", True)
    assert inn.asked(mine) == asked, "the source was asked again for an event that had been worked off"
    assert inn.everything(mine) == before
    assert len(inn.kept(mine)) == 2


def test_a_known_event_with_another_body_stays_what_it_was_and_another_organisations_is_another_event(inn: Inn) -> None:
    """RES-11: replays under a used id are answered as received before."""
    mine, other = inn.organization(), inn.organization()
    inn.stays.add(mine, "A1")
    inn.stays.add(mine, "A2")
    first = inn.send(mine, "A1", event="same")
    second = inn.send(mine, "A2", event="same")
    assert second.json == first.json | {"received_before": True}
    assert rows(inn.database, "SELECT record FROM recon.webhook_events WHERE scope = $1", mine) == [("A1",)]
    assert inn.here(mine) == [("A1", "confirmed")]
    assert inn.send(other, "A1", event="same").json["received_before"] is False


def test_what_is_not_signed_right_or_is_no_event_is_refused_and_nothing_is_kept(inn: Inn) -> None:
    """RES-11: altered, old and unsigned requests, those of another organisation's secret, odd ones."""
    mine, own = inn.organization(), ORGANIZATIONS[-1]
    inn.stays.add(mine, "A1")
    headers, body = inn.stays.event("A1")
    path = f"/staysnet/webhook/{mine}"
    old = datetime.now(UTC) - timedelta(minutes=6)
    refused = [
        (401, path, *reversed((headers, body.replace(b"A1", b"A2")))),
        (401, path, body, {"Content-Type": "application/json"}),
        (401, path, *reversed(inn.stays.event("A1", at=old))),
        (401, path, *reversed(inn.stays.event("A1", at=datetime.now(UTC) + timedelta(minutes=6)))),
        (401, path, *reversed(inn.stays.event("A1", secret="another"))),
        (401, path, *reversed(inn.stays.event("A1", secret=OWN_SECRET))),
        (401, f"/staysnet/webhook/{own}", body, headers),  # by the secret of all, where it has its own
        (404, f"/staysnet/webhook/{STRANGER}", body, headers),
        (404, "/staysnet/webhook/nobody", body, headers),
        (404, "/webhooks/stays", body, headers),
        (413, path, *reversed(signed(b"{" + b" " * 1024 * 1024 + b"}", datetime.now(UTC)))),
        (415, path, body, {**headers, "Content-Type": "text/plain"}),
        (400, path, *reversed(signed(b"[]", datetime.now(UTC)))),
        (400, path, *reversed(signed(b'{"id": ', datetime.now(UTC)))),
        (400, path, *reversed(signed(b'{"id": "a\\u0000b"}', datetime.now(UTC)))),
    ]
    for status, where, sent, names in refused:
        assert inn.post(where, sent, names).status == status, (status, where, sent[:40])
    assert inn.kept(mine) == inn.kept(own) == inn.kept(STRANGER) == []
    assert inn.here(mine) == []
    taken = inn.stays.event("A1", secret=OWN_SECRET)
    assert inn.post(f"/staysnet/webhook/{own.upper()}", taken[1], taken[0]).status == 200
    assert inn.post(f"/webhooks/stays/{mine}", body, headers).json["state"] == "success"


def test_an_event_about_a_record_of_another_organisation_changes_nothing_there(inn: Inn) -> None:
    """RES-15: the record is asked for in the account of the organisation that the address names."""
    mine, other = inn.organization(), inn.organization()
    inn.stays.add(other, "B1")
    inn.send(other, "B1")
    inn.stays.cancel(other, "B1")
    before, asked = inn.everything(other), inn.asked(other)
    answer = inn.send(mine, "B1", "reservation.deleted")
    assert (answer.json["state"], answer.json["said"]) == (
        "skipped",
        "reservation B1 is not at the source, and never came from it",
    )
    assert inn.everything(other) == before
    assert inn.asked(other) == asked
    assert inn.here(mine) == []


def test_a_record_that_the_source_no_longer_has_is_suspected_and_not_cancelled_by_the_event(inn: Inn) -> None:
    """RES-06, RES-11: one look is no proof; the next run of the mirror looks again and cancels."""
    mine = inn.organization()
    inn.stays.add(mine, "A1")
    inn.stays.add(mine, "A2")
    inn.send(mine, "A1")
    inn.send(mine, "A2")
    inn.stays.vanish(mine, "A1")
    answer = inn.send(mine, "A1", "reservation.deleted")
    assert answer.json["state"] == "success"
    assert "the next run looks once more" in answer.json["said"]
    suspects = (
        "SELECT external_id FROM bronze.stays_reservations WHERE organization_id = $1::uuid AND absent_at IS NOT NULL"
    )
    assert rows(inn.database, suspects, mine) == [("A1",)]
    asked = inn.asked(mine)
    inn.stays.change(mine, "A2", check_out="2026-01-20")
    assert inn.send(mine, "A2").json["state"] == "success"
    assert inn.asked(mine) == asked + 1, "an event asked for records that it is not about"
    assert inn.here(mine) == [("A1", "confirmed"), ("A2", "confirmed")]


def test_while_the_source_is_down_events_wait_and_are_tried_again_once_it_is_up(inn: Inn) -> None:
    """RES-06, RES-11: an error is no absence, and one dead record does not keep hot."""
    mine = inn.organization()
    inn.stays.add(mine, "A1")
    inn.stays.add(mine, "A2")
    inn.stays.faults.add(*[Fault(status=503, path="/A1")] * 3)
    answer = inn.send(mine, "A1")
    assert (answer.status, answer.json["state"]) == (202, "pending")
    assert "attempt 1 of 8" in answer.json["said"]
    asked = len(inn.stays.faults.requests)
    assert inn.send(mine, "A2").json["state"] == "success"
    assert inn.work_off(mine) == events.Worked(pending=1)
    assert not [path for path in inn.stays.faults.requests[asked:] if path.endswith("/A1")], "it was asked for too soon"
    assert inn.here(mine) == [("A2", "confirmed")]
    assert inn.work_off(mine, now=datetime.now(UTC) + LATER).succeeded == 1
    assert inn.here(mine) == [("A1", "confirmed"), ("A2", "confirmed")]


def test_an_event_whose_record_never_answers_is_parked_with_its_error_and_the_others_go_on(inn: Inn) -> None:
    """RES-11: poison; a source that answers nothing at all parks none of those that it was not asked for."""
    mine = inn.organization()
    inn.stays.faults.add(*[Fault(200, '{"id": "SOMEBODY"}', path="/POISON")] * events.ATTEMPTS)
    assert inn.send(mine, "POISON").status == 202
    for attempt in range(2, events.ATTEMPTS + 1):
        done = inn.work_off(mine, now=datetime.now(UTC) + attempt * LATER)
        assert (done.processed, done.failed) == (1, 1)
    assert done.pending == 0
    [(state, said)] = inn.kept(mine)
    assert state == "failed"
    assert "something else than the reservation POISON" in said
    inn.stays.add(mine, "A1")
    assert inn.send(mine, "A1").json["state"] == "success"
    assert inn.kept(mine)[0][0] == "failed"


def test_a_missing_mapping_is_an_import_issue_and_the_event_is_done_again_once_it_is_there(inn: Inn) -> None:
    """RES-03, RES-11, RES-12: skipped as `property not resolved`; never half-saved."""
    mine = inn.organization()
    inn.stays.add(mine, "A1", listing="listing-9")
    answer = inn.send(mine, "A1")
    assert (answer.status, answer.json["state"]) == (200, "skipped")
    assert answer.json["said"].startswith("property not resolved")
    issue = "SELECT issue, state FROM recon.import_issues WHERE source_key[1] = $1"
    assert rows(inn.database, issue, mine) == [("missing property mapping", "open")]
    assert inn.here(mine) == []
    assert inn.process(mine).json["data"]["skipped"] == 1
    execute(inn.database, f"INSERT INTO properties VALUES (900, '{mine}', 'Cliff', 'listing-9')")
    done = inn.process(mine)
    assert (done.status, done.json) == (
        200,
        {"success": True, "data": {"processed": 1, "succeeded": 1, "skipped": 0, "failed": 0, "pending": 0}},
    )
    assert inn.kept(mine)[0][0] == "success"
    assert rows(inn.database, issue, mine) == [("missing property mapping", "closed")]
    assert inn.here(mine, "external_id, property_id") == [("A1", 900)]


def store(inn: Inn, organization: str, code: str, **more: Any) -> None:
    """Keep an event as the service does, and go no further: as if it was killed there."""
    _, body = inn.stays.event(code, **more)
    inbox.store(inn.database, inn.workspace, HOOK, body, json.loads(body), None, organization)


def test_what_waits_is_worked_off_by_request_up_to_its_limit_and_by_the_worker(inn: Inn) -> None:
    """RES-12: only by an operator of that organisation; each record is asked for once, however many events name it."""
    mine, other = inn.organization(), inn.organization()
    for _ in range(3):
        inn.stays.add(mine, "A1")
        store(inn, mine, "A1")
    assert inn.process(mine, organizations=[other]).status == 403
    assert inn.process(mine, roles=["viewer"]).status == 403
    assert inn.post(f"/staysnet/webhooks/process/{mine}").status == 401
    assert inn.process(STRANGER).status == 404
    assert {inn.process(mine, f"?limit={limit}").status for limit in ("0", "501", "x")} == {422}
    assert inn.asked(mine) == 0
    assert inn.process(mine, "?limit=2").json["data"] == {
        "processed": 2, "succeeded": 2, "skipped": 0, "failed": 0, "pending": 1,
    }  # fmt: skip
    assert inn.asked(mine) == 1
    store(inn, mine, "A1")
    assert worker.work_off(inn.database, inn.workspace, webhooks()) == 2
    assert inn.work_off(mine) == events.Worked()
    assert inn.asked(mine) == 2


def test_an_arrival_works_off_what_an_earlier_service_left(inn: Inn) -> None:
    """RES-11: each arrival also works off what waits."""
    mine = inn.organization()
    for number in range(3):
        inn.stays.add(mine, f"A{number}")
        store(inn, mine, f"A{number}")
    assert inn.send(mine, "A0").json["state"] == "success"
    assert [state for state, _ in inn.kept(mine)] == ["success"] * 4
    assert len(inn.here(mine)) == 3


def test_an_arrival_works_off_twenty_and_leaves_the_rest_to_the_next(inn: Inn) -> None:
    """RES-11: up to 20 that wait, the oldest first; the arrival itself is kept as it came, and waits its turn."""
    mine = inn.organization()
    for number in range(22):
        inn.stays.add(mine, f"A{number:02}")
        store(inn, mine, f"A{number:02}")
    inn.stays.add(mine, "LAST")
    last = inn.send(mine, "LAST", event="last")
    assert (last.status, last.json["state"]) == (202, "pending")
    assert [state for state, _ in inn.kept(mine)] == ["success"] * 20 + ["pending"] * 3
    [(payload,)] = rows(inn.database, "SELECT payload FROM recon.webhook_events WHERE event = 'last'")
    assert payload["payload"]["id"] == "LAST"
    assert inn.process(mine).json["data"] == {
        "processed": 3, "succeeded": 3, "skipped": 0, "failed": 0, "pending": 0,
    }  # fmt: skip
    assert len(inn.here(mine)) == 23


def test_many_records_are_read_from_the_list_of_changes_and_not_one_by_one(inn: Inn) -> None:
    """RES-11: a burst asks the source for a few pages."""
    mine = inn.organization()
    for number in range(60):
        inn.stays.add(mine, f"A{number:02}")
        store(inn, mine, f"A{number:02}")
    assert inn.work_off(mine).succeeded == 60
    assert (inn.asked(mine), inn.stays.accounts[mine].asked["list"] <= 3) == (0, True)
    assert len(inn.here(mine)) == 60


def test_events_about_something_else_are_kept_and_skipped(inn: Inn) -> None:
    """RES-11: with the reason, and without a question to the source."""
    mine = inn.organization()
    assert (
        inn.send(mine, "L1", "listing.modified").json["said"]
        == "listing.modified is about something else than a reservation."
    )
    headers, body = signed(b'{"action": "reservation.modified", "payload": {}}', datetime.now(UTC))
    answer = inn.post(f"/staysnet/webhook/{mine}", body, headers)
    assert (answer.json["state"], len(answer.json["event"])) == ("skipped", 64)
    assert inn.asked(mine) == 0


def test_a_plan_that_nobody_signed_for_is_said_to_wait(inn: Inn) -> None:
    """RES-11: nothing is written around the sign-off."""
    mine = inn.organization()
    inn.stays.add(mine, "A1")
    store(inn, mine, "A1")
    other = inn.workspace.with_variables({"RECON_ENVIRONMENT": "elsewhere"})
    assert events.work_off(inn.database, other, HOOK, mine).skipped == 1
    [(state, said)] = inn.kept(mine)
    assert (state, "waits for a reviewer" in said) == ("skipped", True)
    assert inn.here(mine) == []


def test_records_that_never_get_an_answer_keep_no_others_waiting(inn: Inn) -> None:
    """RES-11, SYN-04: three in a row without an answer end a batch; the next one begins with those that were not asked."""
    mine = inn.organization()
    inn.stays.add(mine, "GOOD")
    for record in ("ODD/1", "ODD/2", "ODD/3", "GOOD"):  # the source cannot be asked for the odd ones at all
        execute(
            inn.database,
            "INSERT INTO recon.webhook_events (origin, event, scope, record, environment, payload, state)"
            f" VALUES ('stays', 'odd-{record}', '{mine}', '{record}', 'production', '{{}}', 'pending')",
        )
    inn.work_off(mine)
    assert [state for state, _ in inn.kept(mine)] == ["pending"] * 4
    inn.work_off(mine, now=datetime.now(UTC) + LATER)
    assert [state for state, _ in inn.kept(mine)] == [*["pending"] * 3, "success"]
    assert inn.here(mine) == [("GOOD", "confirmed")]


def test_silence_is_told_for_each_organisation(inn: Inn) -> None:
    """RES-13: since the last event, or since the mirror's first run where none ever came."""
    mine, other = inn.organization(), inn.organization()
    inn.stays.add(mine, "A1")
    inn.send(mine, "A1")
    now = datetime.now(UTC)
    assert silence(inn.database, inn.workspace, HOOK, mine, now).alarm is False
    quiet = silence(inn.database, inn.workspace, HOOK, mine, now + timedelta(hours=25))
    assert (quiet.alarm, quiet.hours) == (True, 24)
    assert silence(inn.database, inn.workspace, HOOK, other, now).alarm is False
    assert silence(inn.database, inn.workspace, HOOK, other, now + timedelta(hours=25)) == replace(quiet, last_at=None)
    patient = inn.workspace.with_variables({"RECON_STAYS_SILENCE": "48"})
    assert silence(inn.database, patient, HOOK, mine, now + timedelta(hours=25)).alarm is False
    [told] = [item for item in origins.status(inn.database, inn.workspace, webhooks()) if item["origin"] == "stays"]
    scopes = {item["scope"]: item for item in told["scopes"]}
    assert (told["enabled"], scopes[mine]["counts"]["success"], scopes[other]["last_event_at"]) == (True, 1, None)


@contextmanager
def serving(inn: Inn) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The service in a process of its own."""
    command = [sys.executable, "-c", "from recon.cli import main; main()", "serve", "--port", "0", "--json"]
    with subprocess.Popen(
        [*command, "--workspace", str(inn.workspace.root)],
        env={**os.environ, "RECON_DATABASE_URL": inn.database.url}, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())["address"]
        finally:
            process.kill()


def until(found: Callable[[], bool]) -> None:
    """Wait for it, half a minute at most."""
    end = time.monotonic() + 30
    while not found():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def test_a_service_that_is_killed_between_keeping_and_working_off_leaves_the_event_to_the_next_one(inn: Inn) -> None:
    """RES-11: kept first; worked off at the next start, once."""
    mine = inn.organization()
    inn.stays.add(mine, "A1")
    inn.stays.faults.add(Fault(status=503, delay=5, path="/A1"))
    tried = "SELECT state, attempts FROM recon.webhook_events WHERE scope = $1"
    with serving(inn) as (process, address), ThreadPoolExecutor(1) as threads:
        sending = threads.submit(replace(inn, address=address).send, mine, "A1")
        until(lambda: rows(inn.database, tried, mine) == [("pending", 1)])
        process.send_signal(signal.SIGKILL)
        with pytest.raises((OSError, http.client.HTTPException)):
            sending.result()
    assert inn.here(mine) == []
    with TestClient(service.application(inn.workspace, inn.database)):  # the next one starts
        until(lambda: rows(inn.database, tried, mine) == [("success", 2)])
    assert inn.here(mine) == [("A1", "confirmed")]
    assert inn.work_off(mine).processed == 0
