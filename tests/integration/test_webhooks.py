"""Webhooks over real HTTP: an event is kept, worked off by the same rules and sign-off as a run, and answered in words."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from recon.backfill import sign_off, standing, states
from recon.database import tables
from recon.database.connect import Database
from recon.errors import UsageError
from recon.service import app as service
from recon.service import events, inbox
from recon.service.middleware import LARGEST
from recon.sources.signed_requests import signed
from recon.stand_ins.server import served
from recon.systems import webhooks as known_hooks
from recon.workspace import Workspace
from tests.support import ROOT, execute, recon, rows

pytestmark = pytest.mark.one_engine

SECRET, TOKEN = "an-example-secret", "an-example-token"
TABLES = (
    "CREATE TABLE properties (id int PRIMARY KEY, name text NOT NULL, hcp_customer_id text, hcp_address_id text)",
    """CREATE TABLE reservations (id int PRIMARY KEY, property_id int NOT NULL REFERENCES properties, guest text,
        final_service_time timestamptz NOT NULL, service_job_id text)""",
    """CREATE TABLE hcp_jobs (id text PRIMARY KEY, customer_id text, address_id text, scheduled_start timestamptz,
        scheduled_end timestamptz, work_status text, description text, updated_at timestamptz)""",
    """INSERT INTO properties VALUES (1, 'Dune', 'cus_1', 'adr_1'), (2, 'Cliff', 'cus_2', 'adr_2'),
        (3, 'Bay', NULL, NULL)""",
    """INSERT INTO reservations VALUES
        (10, 1, 'Ida', '2026-03-10 10:00+00', NULL), (11, 2, 'Jon', '2026-03-10 15:00+00', NULL),
        (12, 2, 'Kim', '2026-04-20 10:00+00', 'job_held'), (13, 3, 'Leo', '2026-05-05 10:00+00', NULL)""",
    """INSERT INTO hcp_jobs VALUES
        ('job_held', 'cus_2', 'adr_2', '2026-04-20 10:00+00', NULL, 'scheduled', NULL, '2026-03-01 00:00+00')""",
)
SPEC = """\
name: hcp_jobs
target:
  query: select r.*, p.hcp_customer_id, p.hcp_address_id from reservations r join properties p on p.id = r.property_id
  writes: reservations
  key: id
  date: final_service_time
  private: [guest]
source: {table: hcp_jobs, key: id, date: scheduled_start, where: "s.work_status <> 'canceled'"}
link: {column: service_job_id}
cardinality: one_to_one
passes:
  - name: property_and_time
    on: {hcp_customer_id: customer_id, hcp_address_id: address_id}
    within: {target: final_service_time, source: scheduled_start, tolerance: 1 hour}
    prefer: [nearest]
  - name: customer_and_time
    on: {hcp_customer_id: customer_id}
    within: {target: final_service_time, source: scheduled_start, tolerance: 1 hour}
    prefer: [nearest]
    accept: review
"""
SETTINGS = {
    "RECON_USER": "ann",
    "RECON_WEBHOOKS": "production",
    "RECON_HOUSECALLPRO_WEBHOOK_SECRET": SECRET,
    "RECON_SERVICE_TOKEN": TOKEN,
}


@pytest.fixture
def hcp(database: Database) -> Database:
    execute(database, *TABLES)
    return database


@pytest.fixture
def home(workspace: Workspace) -> Workspace:
    (workspace.root / "reconciliations" / "hcp_jobs.yaml").write_text(SPEC, encoding="utf-8")
    (workspace.root / "recon.toml").touch()
    return settings(workspace)


def settings(workspace: Workspace, **changed: str) -> Workspace:
    """The workspace with these settings, read anew."""
    lines = [f"{name}={value}\n" for name, value in (SETTINGS | changed).items()]
    (workspace.root / ".env").write_text("".join(lines), encoding="utf-8")
    return Workspace(workspace.root)


def application(workspace: Workspace, database: Database) -> Any:
    """The service, whose senders wait until their event was worked off."""
    return service.application(workspace, database, answer_seconds=60)


def sign_for_all(database: Database, workspace: Workspace) -> None:
    """A standing sign-off of bob's, which covers what an event leads to."""
    standing.give(database, workspace, "hcp_jobs", "bob", rows=20, days=30, actions=["link"])


@dataclass(frozen=True)
class Answer:
    status: int
    json: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict[str, str])


def ask(
    address: str, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> Answer:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return Answer(answer.status, json.loads(answer.read()), dict(answer.getheaders()))
    finally:
        connection.close()


def headers(body: bytes, at: float | None = None, **changed: str | None) -> dict[str, str]:
    timestamp = str(int(time.time() if at is None else at))
    usual = {
        "Content-Type": "application/json",
        "Api-Timestamp": timestamp,
        "Api-Signature": signed(timestamp, body, SECRET),
    }
    return {name: value for name, value in (usual | changed).items() if value is not None}


def send(address: str, payload: Any, path: str = "/webhooks/housecallpro") -> Answer:
    """Send an event as HousecallPro does, and wait until it was worked off."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    return ask(address, "POST", path, body, headers(body))


def job(identity: str, start: str | None = "2026-03-10T10:20:00Z", property_: int = 1, **more: Any) -> dict[str, Any]:
    """An event about a job, in the manner of HousecallPro's API."""
    updated = more.pop("updated_at", "2026-03-02T00:00:00Z")
    document = {
        "id": identity,
        "customer": {"id": f"cus_{property_}", "first_name": "Ida"},
        "address": {"id": f"adr_{property_}", "city": "Husum"},
        "schedule": {"scheduled_start": start, "scheduled_end": None},
        "work_status": "scheduled",
        "updated_at": updated,
    }
    return {"event": "job.scheduled", "event_occurred_at": updated, "job": document | more}


def links(database: Database) -> dict[int, str]:
    return dict(rows(database, "SELECT id, service_job_id FROM reservations WHERE service_job_id IS NOT NULL"))


def kept(database: Database) -> list[tuple[Any, ...]]:
    return rows(database, "SELECT state, said FROM recon.webhook_events ORDER BY entry")


def plans_of(database: Database) -> list[tuple[Any, ...]]:
    return rows(database, "SELECT plan, state FROM recon.plans ORDER BY created_at, plan")


# -- what an event does ----------------------------------------------------------------------------------


def test_an_unlinked_job_is_reconciled_at_once_and_a_linked_one_is_updated(
    hcp: Database, home: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    """HCP-02, HCP-12: the webhook goes the way of a run: rules, plan, standing sign-off, apply, proof.

    Two services at once, as two processes would be: each event is worked off once, one after the other.
    """
    sign_for_all(hcp, home)
    caplog.set_level("INFO", "recon")
    sent = [job("job_1"), job("job_2", "2026-03-10T15:05:00Z", 2)]
    with (
        served(application(home, hcp)) as one,
        served(application(home, hcp)) as other,
        ThreadPoolExecutor() as at_once,
    ):
        first, second, *same = at_once.map(send, [one, other, other, one], [*sent, *sent])
        assert {answer.status for answer in (first, second, *same)} <= {200, 202}
        _until(lambda: [state for state, _ in kept(hcp)] == ["success"] * 2)
        again = send(one, sent[0])
        moved = send(one, job("job_1", "2026-03-10T11:45:00Z", updated_at="2026-03-03T00:00:00Z"))
        late = send(one, job("job_1", "2026-03-10T08:00:00Z", updated_at="2026-03-01T00:00:00Z"))
        held = send(one, job("job_held", "2026-04-20T10:30:00Z", 2))
    assert links(hcp) == {10: "job_1", 11: "job_2", 12: "job_held"}
    plans = plans_of(hcp)
    assert {state for _, state in plans} == {"verified"}
    assert (again.status, again.json["state"], again.json["received_before"]) == (200, "success", True)
    begins = "successfully reconciled job job_1 with reservation 10 (plan "
    assert again.json["said"] in {f"{begins}{plan}{more})" for plan, _ in plans for more in ("", _MORE)}
    assert moved.json["said"] == "job job_1 updated; reservation 10 holds it"
    assert late.json["said"] == "job job_1 left as it is, for it is newer here; reservation 10 holds it"
    assert held.json["said"] == "job job_held updated; reservation 12 holds it"
    assert dict(rows(hcp, "SELECT id, to_char(scheduled_start, 'HH24:MI') FROM hcp_jobs")) == {
        "job_1": "11:45", "job_2": "15:05", "job_held": "10:30",
    }  # fmt: skip
    assert rows(hcp, "SELECT DISTINCT state, attempts FROM recon.webhook_events") == [("success", 1)]
    assert set(rows(hcp, "SELECT actor FROM recon.audit_log WHERE event = 'standing used'")) == {("ann",)}
    lines = [record.getMessage() for record in caplog.records if record.name == "recon.hcp_jobs"]
    assert lines.count('attempting to reconcile job job="job_1"') == 1
    assert sum(line.startswith('successfully reconciled job job="job_1" reservation="10" plan=') for line in lines) == 1


_MORE = ", and 1 more of these days"


def _until(true: Any, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_no_reservation_is_linked_and_the_answer_says_why(hcp: Database, home: Workspace) -> None:
    """HCP-12: no rule holds, or a person must confirm; a job that no rule could take leaves no run behind."""
    sign_for_all(hcp, home)
    expected = {
        "out of the window": (job("a", "2026-03-10T11:01:00Z"), "no reservation linked to job a: property_and_time: ", "1 minute outside 1 hour"),
        "no property": (job("b", property_=9), "no reservation linked to job b: ", "No target record has customer_id cus_9"),
        "no ids": (job("c", customer=None, address=None), "no reservation linked to job c: ", "no customer_id and no address_id"),
        "no time": (job("d", None), "no reservation linked to job d: ", "a value of the window is empty"),
        "held": (job("e", "2026-04-20T10:10:00Z", 2), "no reservation linked to job e: ", "is linked already: 12 to source job_held"),
        "canceled": ({**job("f"), "event": "job.canceled"}, "no reservation linked to job f: ", "job f is canceled"),
    }  # fmt: skip
    with served(application(home, hcp)) as address:
        for name, (payload, begins, says) in expected.items():
            answer = send(address, payload)
            assert (answer.status, answer.json["state"]) == (200, "skipped"), name
            assert answer.json["said"].startswith(begins), name
            assert says in answer.json["said"], (name, answer.json["said"])
            assert rows(hcp, "SELECT count(*) FROM recon.runs") == [(0,)], name
        proposed = send(address, job("g", address={"id": "adr_other"}))
    assert proposed.json["said"] == (
        "no reservation linked to job g: pass customer_and_time proposes 10, which a person must confirm"
    )
    assert rows(hcp, "SELECT limited ->> 'from', limited ->> 'to' FROM recon.runs") == [("2026-03-09", "2026-03-11")]
    assert links(hcp) == {12: "job_held"}
    assert plans_of(hcp) == []


def test_two_jobs_as_near_as_each_other_wait_for_a_person(hcp: Database, home: Workspace) -> None:
    """HCP-06, HCP-12: the second of two jobs that are equally near is told of the tie; nobody has taken the reservation."""
    with served(application(home, hcp)) as address:
        send(address, job("job_1"))
        tied = send(address, job("job_2", "2026-03-10T09:40:00Z"))
    assert tied.json["said"] == (
        "no reservation linked to job job_2: target record 10: equally good candidates: a person must choose"
    )
    explained = recon("explain", "hcp_jobs", "--key", "10", "--workspace", str(home.root), url=hcp.url)
    assert "None" not in explained.out
    assert links(hcp) == {12: "job_held"}


def test_a_linked_job_that_is_called_off_is_still_held_and_that_is_said(hcp: Database, home: Workspace) -> None:
    """HCP-12: an event for a linked job updates it, also where the rules leave such a job out; its link stays."""
    off = {**job("job_held", "2026-04-20T10:00:00Z", 2, work_status="canceled"), "event": "job.canceled"}
    gone = {**job("job_held", "2026-04-20T10:00:00Z", 2, updated_at="2026-03-03T00:00:00Z"), "event": "job.deleted"}
    with served(application(home, hcp)) as address:
        answers = [send(address, payload).json for payload in (off, gone)]
    held = "job job_held updated; reservation 12 holds it; job job_held is"
    assert [(answer["state"], answer["said"]) for answer in answers] == [
        ("success", f"{held} canceled"), ("success", f"{held} deleted"),
    ]  # fmt: skip
    assert links(hcp) == {12: "job_held"}
    assert rows(hcp, "SELECT work_status FROM hcp_jobs") == [("deleted",)]


def test_what_was_written_and_is_not_right_has_failed_at_once(hcp: Database, home: Workspace) -> None:
    """HCP-12: a link that verify.sql does not find is no success, and no second attempt makes one of it."""
    sign_for_all(hcp, home)
    execute(
        hcp,
        """CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.service_job_id := 'job_other'; RETURN NEW; END $$""",
        "CREATE TRIGGER spoil BEFORE UPDATE ON reservations FOR EACH ROW EXECUTE FUNCTION spoil()",
    )
    with served(application(home, hcp)) as address:
        answer = send(address, job("job_1"))
    assert answer.json["state"] == "failed", answer
    [(plan, state)] = plans_of(hcp)
    assert state != "verified"
    assert plan in answer.json["said"]


def test_without_a_standing_sign_off_the_plan_waits_for_a_reviewer_and_is_not_pushed_aside(
    hcp: Database, home: Workspace
) -> None:
    """HCP-12: nothing is written that nobody signed; the next job does not take away what a reviewer is reading.

    Once it is approved, the next event carries on with it, from wherever a killed service left it.
    """
    with served(application(home, hcp)) as address:
        first = send(address, job("job_1"))
        [(plan, state)] = plans_of(hcp)
        other = send(address, job("job_2", "2026-03-10T15:05:00Z", 2))
    assert state == "planned"
    assert first.json["state"] == other.json["state"] == "skipped"
    waits = f"plan {plan} waits for a reviewer: no standing sign-off covers it"
    assert first.json["said"].startswith(f"no reservation linked to job job_1: {waits}")
    assert other.json["said"].startswith(f"no reservation linked to job job_2: {waits}")
    assert plans_of(hcp) == [(plan, "planned")]
    assert links(hcp) == {12: "job_held"}
    sign_off.approve(hcp, home, plan, "bob")
    with hcp.session() as session:  # as a service leaves it that is killed in the middle
        states.move(session, plan, "applying", "ann")
    with served(application(home, hcp)) as address:
        resumed = send(address, job("job_1", updated_at="2026-03-03T00:00:00Z"))
    assert resumed.json["said"] == f"successfully reconciled job job_1 with reservation 10 (plan {plan})"
    assert plans_of(hcp) == [(plan, "verified")]
    assert links(hcp) == {10: "job_1", 12: "job_held"}


# -- what is not taken -----------------------------------------------------------------------------------


def test_what_is_not_signed_right_or_is_no_event_is_refused_and_not_kept(hcp: Database, home: Workspace) -> None:
    """HCP-12: only HousecallPro's own events count, and only for five minutes."""
    body = json.dumps(job("job_1")).encode()
    other = signed(str(int(time.time())), body, "another-secret")
    iso = "2026-03-02T00:00:00Z"
    nul, half = b'{"event": "job.x\\u0000"}', b'{"event": "\\ud800"}'
    cases: list[tuple[int, str, bytes, dict[str, str]]] = [
        (401, "missing", body, headers(body, **{"Api-Signature": None})),
        (401, "missing", body, headers(body, **{"Api-Timestamp": None})),
        (401, "does not hold", body, headers(body, **{"Api-Signature": other})),
        (401, "does not hold", body, headers(body, **{"Api-Signature": "ä"})),
        (401, "does not hold", body + b" ", headers(body)),
        (401, "does not hold", body, headers(body) | {"Api-Timestamp": str(int(time.time()) + 9)}),
        (401, "5 minutes", body, headers(body, time.time() - 301)),
        (401, "5 minutes", body, headers(body, time.time() + 330)),
        (401, "5 minutes", body, headers(body) | {"Api-Timestamp": iso, "Api-Signature": signed(iso, body, SECRET)}),
        (401, "no time", body, headers(body) | {"Api-Timestamp": "now", "Api-Signature": signed("now", body, SECRET)}),
        (413, "1,048,576 bytes", b" " * (LARGEST + 1), {}),
        (415, "application/json", body, headers(body, **{"Content-Type": "text/plain"})),
        (400, "no JSON", b'{"event": ', headers(b'{"event": ')),
        (400, "no JSON", b'{"a": NaN}', headers(b'{"a": NaN}')),
        (400, "no JSON", b"\xff{}", headers(b"\xff{}")),
        (400, "no JSON", b"[" * 100_000, headers(b"[" * 100_000)),
        (400, "no JSON object", b"[1]", headers(b"[1]")),
        (400, "cannot keep", nul, headers(nul)),
        (400, "cannot keep", half, headers(half)),
    ]
    with served(application(home, hcp)) as address:
        for status, says, sent, given in cases:
            encoded = {name: value.encode("latin-1").decode("latin-1") for name, value in given.items()}
            answer = ask(address, "POST", "/webhooks/housecallpro", sent, encoded)
            assert (answer.status, says in answer.json["what"]) == (status, True), (status, says, answer)
            assert SECRET not in str(answer)
        endless = ask(address, "POST", "/webhooks/housecallpro", iter([b" " * 65536] * 17), {})  # pyright: ignore[reportArgumentType]
        nowhere = send(address, job("job_1"), "/webhooks/rent_payments")
        slash = send(address, job("job_1"), "/webhooks/housecallpro/")
    assert slash.status == 404  # led nowhere by an address of the sender's choice
    assert endless.status == 413
    assert (nowhere.status, "housecallpro" in nowhere.json["what"]) == (404, True)
    with served(application(settings(home, RECON_HOUSECALLPRO_WEBHOOK_SECRET=""), hcp)) as address:
        unset = send(address, job("job_1"))
    assert (unset.status, "RECON_HOUSECALLPRO_WEBHOOK_SECRET is not set" in unset.json["what"]) == (503, True)
    tables.ensure(hcp)
    assert rows(hcp, "SELECT event FROM recon.webhook_events") == []


def test_without_a_database_the_sender_is_told_that_nothing_was_kept(home: Workspace) -> None:
    """HCP-12: the event is not lost: its sender keeps it, and is told when to send it again."""
    nobody = Database("postgresql://ann@127.0.0.1:1/none")
    with served(application(home, nobody)) as address:
        answer = send(address, job("job_1"))
        told = ask(address, "GET", "/webhooks/status", None, {"Authorization": f"Bearer {TOKEN}"})
    assert (answer.status, answer.headers["retry-after"]) == (503, "30")
    assert answer.json["error"] == "DatabaseUnreachable"
    assert answer.json["next"] == "Nothing was kept. Send it again in 30 seconds."
    assert told.status == 503


# -- why nothing was done --------------------------------------------------------------------------------


def test_the_webhook_says_why_it_did_nothing(hcp: Database, home: Workspace) -> None:
    """HCP-15: not enabled, wrong environment, no events received since; in the answer, the status and the command."""
    sent = job("x", "2026-03-10T18:00:00Z")
    with served(application(settings(home, RECON_WEBHOOKS=""), hcp)) as address:
        before = ask(address, "GET", "/webhooks/status", None, {"Authorization": f"Bearer {TOKEN}"})
        absent = send(address, sent)
    [told] = [item for item in before.json["webhooks"] if item["origin"] == "housecallpro"]
    assert (told["enabled"], told["silence"]) == (False, "no events received yet")
    assert absent.json["said"] == "not enabled in environment production: RECON_WEBHOOKS is not set"
    with served(application(settings(home, RECON_WEBHOOKS="staging, test"), hcp)) as address:
        elsewhere = send(address, sent)
    assert elsewhere.json["said"] == "wrong environment: RECON_WEBHOOKS names staging, test, this is production"
    with served(application(settings(home), hcp)) as address:
        meant = send(address, sent, "/webhooks/housecallpro/staging")
        assert meant.json["said"] == "wrong environment: it is meant for staging, this is production"
        assert rows(hcp, "SELECT count(*) FROM hcp_jobs") == [(1,)]
        # Once it is enabled, the same event counts when it comes again.
        enabled = send(address, sent, "/webhooks/housecallpro/production")
        assert enabled.json["said"].startswith("no reservation linked to job x")
        assert rows(hcp, "SELECT count(*) FROM hcp_jobs") == [(2,)]
        for payload, says in (
            ({"foo": "bar"}, "does not say what happened"),
            ({"event": "customer.created", "customer": {"id": "cus_1"}}, "customer.created is about something else"),
            ({"event": "job.appointment.scheduled", "appointment": {"job_id": "x"}}, "is about an appointment"),
            ({"event": "job.created", "job": {"work_status": "scheduled"}}, "cannot be read: The job has no id"),
            ({"event": "job.created", "job": "x"}, "job is no object"),
            (job("y", "2026-03-10 10:20"), "scheduled_start"),
            (job("y", customer="cus_1"), "customer is no object"),
        ):
            answer = send(address, payload)
            assert (answer.status, answer.json["state"], says in answer.json["said"]) == (200, "skipped", True), answer
        assert rows(hcp, "SELECT count(*) FROM hcp_jobs") == [(2,)]
        assert ask(address, "GET", "/webhooks/status").status == 401
        assert ask(address, "GET", "/webhooks/status", None, {"Authorization": "Bearer ä"}).status == 401
        known = ask(address, "GET", "/webhooks/status", None, {"Authorization": f"Bearer {TOKEN}"}).json["webhooks"]
        [told] = [item for item in known if item["origin"] == "housecallpro"]
    assert (told["origin"], told["reconciliation"], told["enabled"]) == ("housecallpro", "hcp_jobs", True)
    assert told["counts"] == {"pending": 0, "success": 0, "skipped": 8, "failed": 0}
    assert told["silence"].startswith("no events received since 2")
    assert told["silent_seconds"] < 60
    assert "customer is no object" in told["reasons"][0]["said"]
    shown = recon("webhooks", "--workspace", str(settings(home, RECON_WEBHOOKS="staging").root), url=hcp.url)
    assert "housecallpro (hcp_jobs): wrong environment: RECON_WEBHOOKS names staging, this is production." in shown.out
    assert "no events received since 2" in shown.out
    assert shown.code == 0
    assert SECRET not in shown.out + shown.err


def test_what_goes_wrong_is_kept_and_tried_again_with_the_next_event(hcp: Database, home: Workspace) -> None:
    """HCP-12: an event is never lost by an error; after five attempts it has failed, and says so.

    One that failed is taken up when its sender sends it again.
    """
    execute(hcp, "ALTER TABLE hcp_jobs RENAME COLUMN description TO notes")
    with served(application(home, hcp)) as address:
        first = send(address, job("job_held", "2026-04-20T10:30:00Z", 2))
        assert (first.status, first.json["state"]) == (202, "pending")
        assert first.json["said"].startswith("failed: hcp_jobs has no column description")
        assert first.json["said"].endswith("attempt 1 of 5, tried again with the next event")
        for _ in range(4):
            send(address, job("job_held", "2026-04-20T10:30:00Z", 2))
        [(state, said)] = kept(hcp)
        assert state == "failed"
        assert "attempt" not in said
        send(address, job("job_held", "2026-04-20T10:40:00Z", 2))
        execute(hcp, "ALTER TABLE hcp_jobs RENAME COLUMN notes TO description")
        send(address, {"foo": "bar"})
        assert [state for state, _ in kept(hcp)] == ["failed", "success", "skipped"]
    command = recon("webhooks", "--workspace", str(home.root), "--json", url=hcp.url)
    assert (command.code, command.json["webhooks"][0]["counts"]["failed"]) == (3, 1)
    with served(application(home, hcp)) as address:
        send(address, job("job_held", "2026-04-20T10:30:00Z", 2))
    assert [state for state, _ in kept(hcp)] == ["success", "success", "skipped"]


def test_an_event_at_the_end_of_the_calendar_keeps_no_other_waiting(hcp: Database, home: Workspace) -> None:
    """HCP-12: a time that no day in UTC has is an event that cannot be read; days about the last one end with it."""
    sign_for_all(hcp, home)
    execute(hcp, "UPDATE reservations SET final_service_time = '9999-12-31 23:30+00' WHERE id = 11")
    early = job("job_1", "0001-01-01T00:00:00+05:00")
    with served(application(home, hcp)) as address:
        first = send(address, early)
        last = send(address, job("job_2", "9999-12-31T23:00:00Z", 2, updated_at="0001-01-01T00:00:00Z"))
    said = "job.scheduled cannot be read: HousecallPro gave job job_1, which cannot be read."
    assert first.json["state"] == "skipped"
    assert first.json["said"].startswith(said)
    assert "beyond the calendar" in first.json["said"]
    assert last.json["state"] == "success", last
    assert rows(hcp, "SELECT limited ->> 'from', limited ->> 'to' FROM recon.runs") == [("9999-12-30", "9999-12-31")]


def test_a_fault_in_reading_an_event_is_a_failed_attempt_and_the_next_is_worked_off(
    hcp: Database, home: Workspace
) -> None:
    """HCP-12: whatever is wrong with one event, those behind it are not kept waiting."""
    hook = known_hooks()["housecallpro"]

    def broken(payload: Mapping[str, Any]) -> Any:
        if payload["job"]["id"] == "job_1":
            raise ZeroDivisionError
        return hook.read(payload)

    for payload in (job("job_1"), job("job_held", "2026-04-20T10:30:00Z", 2)):
        inbox.store(hcp, home, hook, json.dumps(payload).encode(), payload, None)
    assert events.work_off(hcp, home, {"housecallpro": replace(hook, read=broken)}) == 2
    (waits, why), (done, _) = kept(hcp)
    assert (waits, done) == ("pending", "success")
    assert why.startswith("failed: Something unforeseen went wrong (ZeroDivisionError); attempt 1 of 5")


def test_one_arrival_works_off_so_many_and_the_rest_waits(hcp: Database, home: Workspace) -> None:
    known = known_hooks()
    for number in range(events.MOST + 2):
        body = json.dumps({"event": "customer.created", "number": number}).encode()
        inbox.store(hcp, home, known["housecallpro"], body, json.loads(body), None)
    assert events.work_off(hcp, home, known) == events.MOST
    assert [state for state, _ in kept(hcp)].count("pending") == 2
    assert events.work_off(hcp, home, known) == 2


# -- the command -----------------------------------------------------------------------------------------


@contextmanager
def _serving(database: Database, workspace: Workspace) -> Iterator[tuple[subprocess.Popen[str], str]]:
    environment = {**os.environ, "RECON_DATABASE_URL": database.url}
    command = [sys.executable, "-c", "from recon.cli import main; main()", "serve", "--port", "0", "--json"]
    with subprocess.Popen(
        [*command, "--workspace", str(workspace.root)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())["address"]
        finally:
            process.kill()


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="no curl or openssl on this machine")
def test_the_command_serves_what_the_guide_sends_and_ends_in_peace(hcp: Database, home: Workspace) -> None:
    """HCP-02: the second entry point; what an earlier service left behind is worked off at the start."""
    body = json.dumps({"event": "customer.created"}).encode()
    inbox.store(hcp, home, known_hooks()["housecallpro"], body, json.loads(body), None)
    text = (ROOT / "docs" / "webhooks.md").read_text(encoding="utf-8")
    example = next(block for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL) if "Api-Signature" in block)
    with _serving(hcp, home) as (process, address):
        _until(lambda: [state for state, _ in kept(hcp)] == ["skipped"])
        script = ["bash", "-euc", example.replace("http://127.0.0.1:8484", address)]
        ended = subprocess.run(
            script, env={**os.environ, **SETTINGS}, capture_output=True, text=True, check=True, timeout=60
        )
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=60)
    answer = json.loads(ended.stdout.splitlines()[-1])
    assert answer["state"] == "skipped"
    assert answer["said"].startswith("no reservation linked to job job_example")
    assert process.returncode == 0
    assert [state for state, _ in kept(hcp)] == ["skipped", "skipped"]
    assert 'no reservation linked to job job="job_example" reason="' in err
    assert "Traceback" not in err
    assert SECRET not in err


def test_a_port_that_is_taken_is_said(workspace: Workspace) -> None:
    app = application(workspace, Database("postgresql://ann@127.0.0.1:1/none"))
    with served(app) as address, pytest.raises(UsageError, match=r"Nobody can listen at 127\.0\.0\.1, port \d+"):
        service.serve(app, "127.0.0.1", urlsplit(address).port or 0, print)
    with pytest.raises(UsageError, match="no address of this machine"):
        service.serve(app, "nowhere.invalid", 0, print)
