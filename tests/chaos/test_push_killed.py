"""A thousand updates pushed to HubSpot by the real command, killed again and again: each record is updated exactly once.

What the command says of records that HubSpot refuses is here too, for it is the same push.
"""

from __future__ import annotations

import asyncio
import csv
import json
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import FastAPI

from recon.backfill import replay
from recon.database.connect import Database
from recon.stand_ins.hubspot import TOKEN, HubSpot, Records
from recon.stand_ins.server import served
from recon.workspace import Workspace
from tests.support import ROOT, Ended, recon, rows, started

pytestmark = pytest.mark.one_engine

NAME, FIRST_RECORD, FIRST_PERSON = "crm_contacts", 9_000_000_001, 501
CHANGED, SAME = 1_000, 40  # records that differ, and such that nobody may touch
HELD_SECONDS = 60.0  # how long a request is held at most, so that a failing test ends
MIRROR = "SELECT hs_object_id::text, firstname, lastname, email FROM hubspot.contacts"

# Moments of one update request: it comes and is lost; it comes, and is carried out when the command is dead; it is
# carried out and the answer is lost; the answer is there and whatever comes next is lost; a read comes and is lost.
LOST, LATE, UNANSWERED, ANSWERED, READING = "lost", "late", "unanswered", "answered", "reading"


@dataclass
class Door:
    """Stands before the stand-in, counts what is asked of it, and holds one request until the test lets go of it."""

    app: Any
    stop: tuple[str, int] | None = None  # a moment, and at which request since `expect` it comes
    asked: list[tuple[str, list[str]]] = field(
        default_factory=list[tuple[str, list[str]]]
    )  # read or update: the records
    arrived: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    shut: bool = False  # nothing gets through any more

    def expect(self, stop: tuple[str, int] | None) -> None:
        self.stop, self.shut = stop, False
        self.asked.clear()
        for event in (self.arrived, self.gone, self.over):
            event.clear()

    def let_go(self) -> None:
        """The command is dead: what was held goes on without it, to its end."""
        self.gone.set()
        assert self.over.wait(HELD_SECONDS)

    def updates(self) -> list[list[str]]:
        return [records for kind, records in self.asked if kind == "update"]

    def sent(self) -> list[str]:
        return sorted(record for records in self.updates() for record in records)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                break
        if self.shut:
            return
        kind = scope["path"].rpartition("/")[2]
        if kind in ("read", "update"):
            self.asked.append((kind, [item["id"] for item in json.loads(body)["inputs"]]))
        moment = self._moment(kind)

        async def nothing(message: Any) -> None:
            """The answer is lost."""

        if moment is None:
            await self.app(scope, _again(body), send)
        elif moment == ANSWERED:
            self.shut = True
            await self.app(scope, _again(body), send)
            self.arrived.set()
            self.over.set()
        else:
            if moment == UNANSWERED:
                await self.app(scope, _again(body), nothing)
            self.arrived.set()
            await asyncio.to_thread(self.gone.wait, HELD_SECONDS)
            if moment == LATE:
                await self.app(scope, _again(body), nothing)
            self.over.set()

    def _moment(self, kind: str) -> str | None:
        if self.stop is None or kind != ("read" if self.stop[0] == READING else "update"):
            return None
        return self.stop[0] if sum(asked == kind for asked, _ in self.asked) == self.stop[1] else None


def _again(body: bytes) -> Callable[[], Any]:
    """A request that was read already, to be read once more."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        if not left:
            await asyncio.Event().wait()  # nothing more comes
        return left.pop()

    return receive


@dataclass
class Push:
    """A signed plan of contacts that differ, the HubSpot that takes them, and the commands."""

    database: Database
    workspace: Workspace
    hubspot: HubSpot
    door: Door
    before: Records
    after: Records
    plan: str = ""

    def recon(self, *arguments: str, user: str = "ann", code: int | None = 0) -> Ended:
        ended = recon(*arguments, "--workspace", str(self.workspace.root), url=self.database.url, user=user)
        assert code is None or ended.code == code, ended
        return ended

    def execute(self, what: str, *more: str, code: int = 0) -> Ended:
        """The command that is also the resume."""
        self.door.expect(None)
        return self.recon(what, self.plan, "--execute", *more, code=code)

    def killed(self, what: str, moment: str, number: int) -> None:
        """The same command, killed when HubSpot has come to this moment of its request of this number."""
        self.door.expect((moment, number))
        arguments = (what, self.plan, "--execute", "--workspace", str(self.workspace.root))
        with started(*arguments, url=self.database.url) as command:
            assert self.door.arrived.wait(HELD_SECONDS), command.ended(1)
            command.kill()
        self.door.let_go()

    @property
    def there(self) -> Records:
        return self.hubspot.objects["contacts"]

    @property
    def mirror(self) -> Records:
        return {
            record: {"firstname": first, "lastname": last, "email": email}
            for record, first, last, email in rows(self.database, MIRROR)
        }

    def table_is_never_ahead(self) -> None:
        """Every row that holds the legacy values holds them in HubSpot too."""
        mirror = self.mirror
        assert [record for record in mirror if mirror[record] == self.after[record] != self.there[record]] == []

    def updated(self) -> Counter[int]:
        """How many records were updated how often, as HubSpot counted it."""
        return Counter(self.hubspot.updates.values())


@contextmanager
def pushed(database: Database, workspace: Workspace, changed: int) -> Generator[Push]:
    """The shipped spec, generated records on both sides, and the way to an approved plan."""
    before: Records = {}
    after: Records = {}
    legacy: list[tuple[str, ...]] = []
    for number in range(changed + SAME):
        record = str(FIRST_RECORD + number)
        right: dict[str, str | None] = {
            "firstname": "Zoë",
            "lastname": f"Müller-{number}",
            "email": f"z{number}@a.example",
        }
        wrong: dict[str, str | None] = [
            {"lastname": "Old"},
            {"email": None},
            {"firstname": "Z.", "email": "x@b.example"},
        ][number % 3]
        after[record], before[record] = right, {**right, **(wrong if number < changed else {})}
        legacy.append((str(FIRST_PERSON + number), "Zoë", f"Müller-{number}", f"Z{number}@a.example", "1"))
    schema = (ROOT / "sql" / "schema" / "crm.sql").read_text(encoding="utf-8")
    with database.session() as session:
        session.driver.execute(schema.encode())
        with session.driver.cursor() as cursor, cursor.copy("COPY hubspot.contacts FROM STDIN") as copy:
            for number, (record, held) in enumerate(before.items()):
                copy.write_row((record, FIRST_PERSON + number, *held.values(), "2026-01-01T00:00:00Z"))
    _write(workspace.root / "bronze" / "Bronze_Person.csv", legacy)
    hubspot = HubSpot({"contacts": {record: dict(held) for record, held in before.items()}})
    door = Door(hubspot.app)
    with served(cast(FastAPI, door)) as url:
        settings = {"URL": url, "TOKEN": TOKEN, "PER_SECOND": "1000"}
        text = "".join(f"RECON_HUBSPOT_{name}={value}\n" for name, value in settings.items())
        (workspace.root / ".env").write_text(text)
        push = Push(database, workspace, hubspot, door, before, after)
        push.recon("load", NAME)
        push.recon("match", NAME)
        push.plan = push.recon("plan", NAME, "--json").json["plan"]
        push.recon("approve", push.plan, user="bob")
        yield push


def _write(path: Path, legacy: list[tuple[str, ...]]) -> None:
    path.parent.mkdir()
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("Pers_PersonId", "Pers_FirstName", "Pers_LastName", "Pers_EmailAddress", "Pers_CompanyId"))
        writer.writerows(legacy)


@pytest.fixture
def thousand(database: Database, workspace: Workspace) -> Iterator[Push]:
    with pushed(database, workspace, CHANGED) as push:
        yield push


@pytest.fixture
def some(database: Database, workspace: Workspace) -> Iterator[Push]:
    with pushed(database, workspace, 250) as push:
        yield push


def test_a_killed_push_of_a_thousand_updates_is_resumed_and_each_record_updated_once(
    thousand: Push, counts: Counter[str]
) -> None:
    """CRM-11: killed in the middle of pushing, in requests and between them, resumed and undone: each record once."""
    push = thousand
    for what, times, moments in (
        ("apply", 1, [(LOST, 1), (LATE, 2), (UNANSWERED, 2), (ANSWERED, 1), (READING, 3)]),
        ("revert", 2, [(UNANSWERED, 3), (ANSWERED, 2), (LATE, 1)]),
    ):
        for moment, number in moments:
            push.killed(what, moment, number)
            counts["kills while an outside system was written"] += 1
            if what == "apply":
                push.table_is_never_ahead()
            assert max(push.updated(), default=0) <= times
            assert push.mirror != (push.after if what == "apply" else push.before)
        push.execute(what)
        wanted = push.after if what == "apply" else push.before
        assert push.updated() == {times: CHANGED}
        assert push.there == wanted
        assert push.mirror == wanted
        if what == "apply":
            assert push.recon("verify", push.plan, "--json").json["state"] == "verified"
            push.execute(what)  # once more, and nothing is sent
            assert push.door.updates() == []
    [(state,)] = rows(push.database, "SELECT state FROM recon.plans")
    assert state == "reverted"
    assert replay.replay(push.database).findings == ()


def test_three_records_that_hubspot_refuses_are_left_with_its_messages_and_the_rest_is_done(some: Push) -> None:
    """CRM-11: a 207 with bad records leaves those as errors with their messages; mended, only they are sent again."""
    push = some
    known = list(push.before)
    bad = {
        known[6]: "Property values were not valid: lastname is read only",
        known[7]: "the contact is being merged",
        known[203]: "no permission for this team's contacts",
    }
    push.hubspot.refused = dict(bad)
    said = [{"record": record, "message": f"VALIDATION_ERROR: {message}"} for record, message in bad.items()]

    failed = push.execute("apply", "--json", code=1)
    document = failed.json
    assert (document["error"], document["outside"]["errors"]) == ("OutsideLeft", said)
    assert (document["outside"]["sent"], document["outside"]["left"]) == (247, 3)
    assert [len(records) for records in push.door.updates()] == [100, 100, 50]
    assert push.there == push.mirror == {**push.after, **{record: push.before[record] for record in bad}}
    assert push.updated() == {1: 247}

    again = push.execute("apply", code=1)  # nothing was mended: these three are tried, and no other
    screen = " ".join(again.out.split())
    assert "247 sent, 0 held it already, 3 left as they are" in screen
    words = " ".join((again.out + again.err).replace("│", " ").split())
    for item in said:
        assert item["record"] in words
    assert all(message.split()[-1] in words for message in bad.values())
    assert "3 of 250 records of plan" in " ".join(again.err.split())
    assert push.door.sent() == sorted(bad)

    push.hubspot.refused.clear()
    mended = push.execute("apply", "--json")
    assert (mended.json["state"], mended.json["outside"]["errors"], mended.json["outside"]["sent"]) == (
        "applied",
        [],
        250,
    )
    assert push.door.sent() == sorted(bad)
    assert push.updated() == {1: 250}
    assert push.there == push.mirror == push.after


def test_where_the_policy_tolerates_three_they_are_left_and_the_command_says_so(some: Push) -> None:
    """CRM-11: within the tolerance the plan is applied, and the exit code tells that something is left."""
    push = some
    (push.workspace.root / "recon.toml").write_text("[plan]\ntolerance_rows = 3\n")
    push.plan = push.recon("plan", NAME, "--json").json["plan"]
    push.recon("approve", push.plan, user="bob")
    push.hubspot.refused = dict.fromkeys(list(push.before)[:3], "not now")
    document = push.execute("apply", "--json", code=3).json
    assert (document["state"], document["outside"]["sent"], document["outside"]["left"]) == ("applied", 247, 3)
    assert [item["message"] for item in document["outside"]["errors"]] == ["VALIDATION_ERROR: not now"] * 3
    assert push.updated() == {1: 247}
