"""Plans that write an outside system too: there first, each record once, and in the table only what it has."""

from __future__ import annotations

import pytest

from recon.backfill import seams
from recon.errors import (
    OutsideFailed,
    OutsideLeft,
)
from recon.stand_ins.faults import Fault
from tests.books_outside import EVERYTHING, KEPT, ROWS, Books
from tests.support import execute, rows

pytestmark = pytest.mark.one_engine


def test_a_plan_is_written_outside_first_and_each_record_once(books: Books) -> None:
    plan = books.plan()
    assert plan.document["outside"] == {
        "system": "shop", "object": "payments", "record": "shop_id", "fields": {"lease_id": "Lease"},
        "place": f"{books.shop.url}/payments", "rows": ROWS,
    }  # fmt: skip
    lines = (plan.bundle / "outside.jsonl").read_text(encoding="utf-8").splitlines()
    assert lines[0] == '{"after":{"Lease":"1"},"before":{"Lease":null},"place":1,"record":"rec1"}'
    assert len(lines) == ROWS
    dry = books.dry_run(plan)
    assert dry.outside is not None
    assert (dry.outside["sent"], dry.outside["left"], books.shop.updates) == (ROWS, 0, {})
    assert rows(books.database, KEPT, plan.plan) == []
    steps: list[tuple[int, int]] = []
    done = books.apply(plan, progress=lambda done, total: steps.append((done, total)))
    assert (done.changed, done.skipped, done.left, done.state) == (ROWS, 0, 0, "applied")
    assert done.outside is not None
    assert {name: done.outside[name] for name in ("sent", "already", "errors", "drifted", "left", "ahead")} == {
        "sent": ROWS, "already": 0, "errors": [], "drifted": [], "left": 0, "ahead": 0,
    }  # fmt: skip
    assert steps == [(10, ROWS), (20, ROWS), (ROWS, ROWS)]
    assert books.leases == EVERYTHING
    assert set(books.shop.updates.values()) == {1}
    assert books.shop.records["rec1"]["Name"] == "n1"  # a field that the plan does not name
    assert len(books.linked) == ROWS
    assert books.verify(plan).right
    books.intact()
    again = books.apply(plan)
    assert (again.changed, again.outside) == (0, done.outside)
    assert books.shop.updates.total() == ROWS


def test_bad_records_stay_errors_with_their_words_and_a_resume_tries_only_these(books: Books) -> None:
    plan = books.plan()
    books.shop.refused = {"rec3": "Lease is locked", "rec4": "not yours\x1b[2J", "rec25": "no such lease"}
    with pytest.raises(OutsideLeft) as raised:
        books.apply(plan)
    assert "3 of 25 records" in raised.value.what
    assert "rec3: Lease is locked" in raised.value.why
    assert raised.value.as_dict()["outside"]["errors"] == [
        {"record": "rec3", "message": "Lease is locked"},
        {"record": "rec4", "message": "not yours\\x1b[2J"},
        {"record": "rec25", "message": "no such lease"},
    ]
    assert books.state(plan) == "apply_failed"
    assert set(range(1, ROWS + 1)) - set(books.linked) == {3, 4, 25}  # here they are not done either
    books.intact()
    dry = books.dry_run(plan)
    assert dry.outside is not None
    assert (dry.changed, dry.outside["read"], dry.outside["sent"], len(dry.outside["tried"])) == (3, 3, 3, 3)
    del books.shop.refused["rec3"], books.shop.refused["rec25"]
    before = books.shop.updates.copy()
    with pytest.raises(OutsideLeft):
        books.apply(plan)
    assert books.shop.updates - before == {"rec3": 1, "rec25": 1}
    books.shop.refused.clear()
    done = books.apply(plan)
    assert (done.changed, done.left) == (ROWS, 0)
    assert (books.leases, set(books.shop.updates.values())) == (EVERYTHING, {1})
    assert books.verify(plan).right
    books.intact()


def test_within_its_tolerance_a_plan_is_applied_and_says_what_it_left(books: Books) -> None:
    books.tolerant(2)
    plan = books.plan()
    books.shop.refused = {"rec3": "Lease is locked"}
    books.shop.records["rec5"]["Lease"] = "somebody else's"
    done = books.apply(plan)
    assert (done.state, done.changed, done.left) == ("applied", ROWS - 2, 2)
    assert done.outside is not None
    assert done.outside["drifted"] == [
        {"record": "rec5", "message": "Lease was empty, is somebody else's there"},
    ]
    assert books.apply(plan).outside == done.outside
    found = books.verify(plan)
    assert [(row["key"], row["problem"]) for row in found.rows] == [
        ("3", "the change was never written"), ("5", "the change was never written"),
    ]  # fmt: skip
    books.intact()


def test_what_a_record_holds_there_is_never_overwritten(books: Books) -> None:
    """HCP-10: a link that is there in the outside system stays, whatever the table says."""
    plan = books.plan()
    books.shop.records["rec5"]["Lease"] = "777"
    books.shop.records["rec6"]["Lease"] = "6"  # as planned: nothing is sent
    del books.shop.records["rec7"]
    dry = books.dry_run(plan)
    assert dry.outside is not None
    assert (dry.outside["sent"], dry.outside["already"], dry.outside["left"]) == (22, 1, 2)
    with pytest.raises(OutsideLeft) as raised:
        books.apply(plan)
    said = raised.value.outside
    assert said["drifted"] == dry.outside["drifted"] == [{"record": "rec5", "message": "Lease was empty, is 777 there"}]
    assert said["errors"] == [{"record": "rec7", "message": "there is no such record"}]
    assert (said["sent"], said["already"]) == (22, 1)
    assert books.leases["rec5"] == "777"
    assert "rec6" not in books.shop.updates
    assert {5, 7} & set(books.linked) == set()


def test_rows_that_changed_here_are_not_sent(books: Books) -> None:
    books.tolerant(3)
    plan = books.plan()
    execute(
        books.database,
        "UPDATE pay SET code = 'other' WHERE id = 2",
        "UPDATE pay SET shop_id = 'rec99' WHERE id = 12",  # another record than was signed
        "DELETE FROM lease WHERE id = 13",
    )
    done = books.apply(plan)
    assert (done.changed, done.skipped, done.left) == (ROWS - 3, 3, 3)
    assert {drift["key"] for drift in done.drifts} == {"2", "12", "13"}
    assert {"rec2", "rec12", "rec13"} & set(books.shop.updates) == set()
    books.intact()


def test_a_revert_gives_back_what_a_record_held_unless_somebody_changed_it(books: Books) -> None:
    plan = books.plan()
    books.shop.records["rec6"]["Lease"] = "6"  # it was so before
    books.apply(plan)
    books.shop.records["rec2"]["Lease"] = "mine"
    del books.shop.records["rec3"]
    execute(books.database, "UPDATE pay SET lease_id = 99 WHERE id = 4")
    foreseen = books.revert(plan, execute=False).outside
    assert foreseen == {
        "restored": ROWS - 3,
        "conflicts": [
            {"record": "rec2", "message": "it holds something else there"},
            {"record": "rec3", "message": "there is no such record"},
            {"record": "rec4", "message": "its row here was changed since, so it is kept there too"},
        ],
        "kept": 3,
    }
    before = books.shop.updates.copy()
    done = books.revert(plan)
    assert done.outside is not None
    assert (done.state, done.restored, done.conflicts) == ("reverted_with_conflicts", ROWS - 3, 3)
    assert done.outside == foreseen
    assert [row["record"] for row in done.outside["conflicts"]] == ["rec2", "rec3", "rec4"]
    assert books.linked == [2, 3, 4]
    assert books.leases == {
        **{f"rec{n}": None for n in range(1, ROWS + 1) if n != 3}, "rec2": "mine", "rec4": "4", "rec6": "6",
    }  # fmt: skip
    assert (books.shop.updates - before).total() == ROWS - 4
    books.intact()


def test_a_plan_that_failed_half_way_is_undone_in_both_places(books: Books) -> None:
    plan = books.plan()
    books.shop.refused = {"rec11": "no"}
    with pytest.raises(OutsideLeft):
        books.apply(plan)
    done = books.revert(plan)
    assert (done.state, done.restored, books.linked) == ("reverted", ROWS - 1, [])
    assert set(books.leases.values()) == {None}
    books.intact()


def test_verify_finds_a_record_that_was_changed_there_afterwards(books: Books) -> None:
    plan = books.plan()
    books.apply(plan)
    books.shop.records["rec2"]["Lease"] = "mine"
    del books.shop.records["rec3"]
    found = books.verify(plan)
    assert (found.problems, found.rows) == (
        2,
        [
            {"key": "shop payments rec2", "problem": "Lease is mine there, not 2"},
            {"key": "shop payments rec3", "problem": "there is no such record"},
        ],
    )
    books.shop.faults.add(*[Fault(404) for _ in range(9)])
    with pytest.raises(OutsideFailed):  # what cannot be read proves nothing
        books.verify(plan)


def test_a_row_that_changes_while_its_record_is_written_is_told_and_a_revert_takes_the_record_back(
    books: Books,
) -> None:
    books.tolerant(1)
    plan = books.plan()

    def meddle(seam: str) -> None:
        if seam == "outside written" and len(books.shop.updates) == 20:
            execute(books.database, "UPDATE pay SET code = 'other' WHERE id = 15")

    with seams.stopping(meddle):
        done = books.apply(plan)
    assert done.outside is not None
    assert (done.changed, done.skipped, done.outside["ahead"]) == (ROWS - 1, 1, 1)
    assert [drift["key"] for drift in done.drifts] == ["15"]
    assert (books.leases["rec15"], 15 in books.linked) == ("15", False)
    undone = books.revert(plan)
    assert (undone.state, undone.restored, books.linked) == ("reverted", ROWS - 1, [])
    assert set(books.leases.values()) == {None}
    books.intact()


def test_a_record_that_holds_a_part_of_an_edit_gets_the_rest(books: Books) -> None:
    execute(
        books.database,
        "ALTER TABLE lease ADD note text", "ALTER TABLE pay ADD note text", "UPDATE lease SET note = 'n' || id",
        "UPDATE pay SET lease_id = id WHERE id > 2",
    )  # fmt: skip
    outside = {"system": "shop", "object": "payments", "record": "shop_id"}
    plan = books.plan(
        target={"table": "pay", "key": "id", "outside": outside},
        link={"column": "lease_id", "also": {"note": "note"}},
    )
    assert plan.document["outside"]["fields"] == {"lease_id": "lease_id", "note": "note"}
    books.shop.records["rec1"] |= {"lease_id": "1", "note": None}
    books.apply(plan)
    assert (books.shop.records["rec1"]["note"], books.shop.updates) == ("n1", {"rec1": 1, "rec2": 1})
    books.revert(plan)
    assert (books.shop.records["rec1"]["lease_id"], books.shop.records["rec1"]["note"]) == ("1", None)


def test_a_revert_takes_nothing_from_a_later_plan_that_found_its_values_there(books: Books) -> None:
    half_sent = books.plan()

    class Gone(BaseException):
        """The process is killed."""

    def kill(seam: str) -> None:
        if seam == "outside written":
            raise Gone

    with seams.stopping(kill), pytest.raises(Gone):
        books.apply(half_sent)
    sent = set(books.shop.updates)
    later = books.plan()
    done = books.apply(later).outside
    assert done is not None
    assert (done["already"], len(books.linked)) == (len(sent), ROWS)
    foreseen = books.revert(half_sent, execute=False).outside
    undone = books.revert(half_sent)
    assert (undone.state, undone.outside) == ("reverted_with_conflicts", foreseen)
    assert foreseen is not None
    assert {row["record"] for row in foreseen["conflicts"]} == sent
    assert (books.leases, books.verify(later).right) == (EVERYTHING, True)
    books.intact()


def test_a_row_that_changes_between_a_killed_revert_and_the_next_is_told_as_what_it_is(books: Books) -> None:
    plan = books.plan()
    books.apply(plan)

    class Gone(BaseException):
        """The process is killed."""

    def kill(seam: str) -> None:
        if seam == "outside written":
            raise Gone

    with seams.stopping(kill), pytest.raises(Gone):
        books.revert(plan)
    execute(books.database, "UPDATE pay SET lease_id = 99 WHERE id IN (4, 15)")
    foreseen = books.revert(plan, execute=False).outside
    done = books.revert(plan)
    assert done.outside == foreseen
    assert foreseen is not None
    assert foreseen["conflicts"] == [
        {"record": "rec4", "message": "its row here was changed while the record was given back, so look at both"},
        {"record": "rec15", "message": "its row here was changed since, so it is kept there too"},
    ]
    assert {record: lease for record, lease in books.leases.items() if lease} == {"rec15": "15"}
