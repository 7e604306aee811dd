"""What an outside system answers while a plan is written there: nothing, half, too late, no, or two things at once."""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from recon import cli
from recon.backfill import outside_send
from recon.errors import (
    VEIL,
    OutsideLeft,
    OutsideUnsure,
)
from recon.outside.interface import Answer, Edit
from recon.stand_ins.faults import Fault
from tests import shop
from tests.books_outside import EVERYTHING, KEPT, ROWS, Books
from tests.shop import TOKEN
from tests.support import execute, rows

pytestmark = pytest.mark.one_engine


# An answer that does not come or says nothing, though the request was carried out; and one that was not.
UNSURE = (
    Fault(500, after=True, path="write"),
    Fault(cut=True, path="write"),
    Fault(delay=1.0, path="write"),
)


def test_an_answer_that_says_nothing_doubles_nothing(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """CRM-11: after a 500, half an answer or none in time the records are read again, and none is updated twice."""
    monkeypatch.setattr(outside_send, "PAUSE_SECONDS", 0.01)
    books.shop.settings(books.workspace, timeout=0.4)
    plan = books.plan()
    books.shop.faults.add(*UNSURE)  # one for each chunk
    done = books.apply(plan)
    assert done.outside is not None
    assert (done.changed, done.outside["sent"], books.shop.faults.waiting) == (ROWS, ROWS, deque())
    assert (books.leases, set(books.shop.updates.values())) == (EVERYTHING, {1})
    books.shop.faults.add(*UNSURE)
    assert books.revert(plan).state == "reverted"
    assert set(books.shop.updates.values()) == {2}


def test_a_system_that_never_says_what_it_did_leaves_the_rest_to_a_resume(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside_send, "PAUSE_SECONDS", 0.01)
    plan = books.plan()
    books.shop.faults.add(*[Fault(500, path="write") for _ in range(outside_send.MOST_TRIES)])
    with pytest.raises(OutsideUnsure):
        books.apply(plan)
    assert (books.state(plan), books.linked) == ("apply_failed", [])
    assert rows(books.database, KEPT, plan.plan) == [("sending", outside_send.MOST_TRIES)]
    assert books.apply(plan).changed == ROWS
    assert set(books.shop.updates.values()) == {1}


def test_a_system_that_asks_to_wait_is_waited_for_and_the_reason_shown(books: Books) -> None:
    plan = books.plan()
    books.shop.faults.add(Fault(429, headers={"Retry-After": "0.05"}, path="write"))
    said: list[str | None] = []
    assert books.apply(plan, notice=said.append).changed == ROWS
    assert "The shop asks to wait 0.05 s" in said
    assert set(books.shop.updates.values()) == {1}


def test_private_values_come_out_of_no_message_about_a_record(
    books: Books, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """HCP-09, CRM-17: neither a private value nor the credential is shown, kept in the log or printed."""
    execute(
        books.database,
        "ALTER TABLE lease ADD note text", "ALTER TABLE pay ADD note text",
        "UPDATE lease SET note = 'kanari-' || id", "UPDATE pay SET lease_id = id WHERE id > 3",
    )  # fmt: skip
    target = {
        "table": "pay", "key": "id", "private": ["note"],
        "outside": {"system": "shop", "object": "payments", "record": "shop_id", "fields": {"note": "Note"}},
    }  # fmt: skip
    plan = books.plan(target=target, link={"column": "lease_id", "also": {"note": "note"}})
    assert "kanari-1" in (plan.bundle / "outside.jsonl").read_text(encoding="utf-8")
    books.shop.records["rec1"]["Note"] = "kanari there"
    books.shop.refused = {"rec2": f"kanari-2 is no note, says {TOKEN}"}
    monkeypatch.setenv("RECON_DATABASE_URL", books.database.url)

    def recon(*arguments: str, code: int) -> str:
        monkeypatch.setattr(sys, "argv", ["recon", *arguments, "--workspace", str(books.workspace.root)])
        monkeypatch.setenv("RECON_USER", "ann")
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == code
        return "".join(capfd.readouterr())

    said = [recon("apply", plan.plan, *arguments, code=code) for arguments, code in (
        ((), 3), (("--json",), 3), (("--execute",), 1), (("--execute", "--json"), 1), (("--json",), 3),
    )]  # fmt: skip
    document = json.loads(said[3].partition("\n")[0])
    assert document["error"] == "OutsideLeft"
    assert document["outside"]["drifted"] == [{"record": "rec1", "message": f"Note was empty, is {VEIL} there"}]
    assert document["outside"]["errors"] == [
        {"record": "rec2", "message": "its words may hold private values, so they are left out"}
    ]
    assert f"rec1 Note was empty, is {VEIL} there" in " ".join(said[2].split())
    assert "2 to be sent of 3 that were read" in said[0]
    said.append(recon("plans", code=0))
    assert f"shoppaymentsat{books.shop.url}/payments" in "".join(said[-1].split())  # a narrow column breaks it
    said.append(recon("review", plan.plan, code=0))
    assert "payments: Note, 3 rows; before the table" in " ".join(said[-1].split())
    said.append((plan.bundle / "review.html").read_text(encoding="utf-8"))
    assert "Note, 3 rows; before the table" in said[-1]
    said.append(str(rows(books.database, "SELECT detail FROM recon.audit_log")))
    said.append(recon("revert", plan.plan, "--execute", code=0))
    for text in said:
        assert "kanari" not in text
        assert TOKEN not in text


def test_a_record_that_holds_what_postgresql_cannot_keep_stops_nobody(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = shop.Target.read

    def half_a_character(self: shop.Target, records: Sequence[str], fields: Sequence[str]) -> Mapping[str, Any]:
        found = dict(read(self, records, fields))
        return found | ({"rec6": {"Lease": "x\ud800y"}} if "rec6" in found else {})

    monkeypatch.setattr(shop.Target, "read", half_a_character)
    plan = books.plan()
    books.shop.records["rec5"]["Lease"] = "a\x00b"
    books.shop.refused = {"rec7": "not \x00 this"}
    dry = books.dry_run(plan)
    assert dry.outside is not None
    with pytest.raises(OutsideLeft) as raised:
        books.apply(plan)
    said = raised.value.outside
    assert said["drifted"] == dry.outside["drifted"] == [
        {"record": "rec5", "message": r"Lease was empty, is a\x00b there"},
        {"record": "rec6", "message": r"Lease was empty, is x\ud800y there"},
    ]  # fmt: skip
    assert said["errors"] == [{"record": "rec7", "message": r"not \x00 this"}]
    assert len(books.linked) == ROWS - 3
    books.intact()


def test_a_record_that_was_written_though_the_system_said_no_is_undone_as_well(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = shop.Target.write

    def says_no(self: shop.Target, edits: Sequence[Edit]) -> Sequence[Answer]:
        return [
            replace(answer, error="no" if answer.record == "rec3" else answer.error) for answer in write(self, edits)
        ]

    monkeypatch.setattr(shop.Target, "write", says_no)
    plan = books.plan()
    books.shop.refused = {"rec4": "no, and it is so"}
    with pytest.raises(OutsideLeft):
        books.apply(plan)
    assert (books.leases["rec3"], books.leases["rec4"]) == ("3", None)
    monkeypatch.undo()
    books.shop.records["rec4"]["Lease"] = "mine"  # nothing of ours
    foreseen = books.revert(plan, execute=False).outside
    done = books.revert(plan)
    assert (done.state, done.outside) == ("reverted", foreseen)
    assert foreseen == {"restored": ROWS - 1, "conflicts": [], "kept": 0}
    assert {record: lease for record, lease in books.leases.items() if lease} == {"rec4": "mine"}
    books.intact()


def test_a_record_of_which_the_system_says_nothing_or_two_things_stops_nobody(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outside_send, "PAUSE_SECONDS", 0.001)
    write = shop.Target.write

    def odd(self: shop.Target, edits: Sequence[Edit]) -> Sequence[Answer]:
        answers = write(self, [edit for edit in edits if edit.record != "rec3"])  # passes over rec3
        return [Answer("rec4", "half"), Answer("nobody"), *reversed(answers)]  # two answers about rec4

    monkeypatch.setattr(shop.Target, "write", odd)
    plan = books.plan()
    with pytest.raises(OutsideLeft) as raised:
        books.apply(plan)
    assert raised.value.outside["errors"] == [
        {"record": "rec3", "message": "the system does not say what becomes of it, and it is as it was"},
        {"record": "rec4", "message": "half"},
    ]
    assert set(range(1, ROWS + 1)) - set(books.linked) == {3, 4}
    monkeypatch.setattr(shop.Target, "write", write)
    assert books.apply(plan).changed == ROWS
    assert (books.leases, set(books.shop.updates.values())) == (EVERYTHING, {1})

    def nothing(_target: shop.Target, _edits: Sequence[Edit]) -> Sequence[Answer]:
        return []

    monkeypatch.setattr(shop.Target, "write", nothing)  # one that says nothing at all is not asked on and on
    with pytest.raises(OutsideUnsure):
        books.revert(plan)


def test_what_an_apply_left_here_and_there_is_tried_again_in_few_requests(books: Books) -> None:
    plan = books.plan()
    odd = [f"rec{n}" for n in range(1, ROWS + 1, 2)]  # 13 of 25: no two of them stand side by side
    books.shop.refused = dict.fromkeys(odd, "no")
    with pytest.raises(OutsideLeft):
        books.apply(plan)
    books.shop.refused = {}
    books.shop.faults.requests.clear()
    dry = books.dry_run(plan)
    assert dry.outside is not None
    assert (dry.outside["read"], len(books.shop.faults.requests)) == (len(odd), 2)
    assert books.apply(plan).changed == ROWS
    assert len(books.shop.faults.requests) == 2 + 2 * 2  # two packs, each read and written
    assert (books.leases, set(books.shop.updates.values())) == (EVERYTHING, {1})
    books.intact()
