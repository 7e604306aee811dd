"""Follow-ups: each record has its jobs at their times, whatever becomes of the record, and each is done once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from recon.database.connect import Database
from recon.errors import DatabaseFailed, NotFound, OutsideFailed, SchemaMismatch, SpecError, UsageError
from recon.matching import check
from recon.mirror import follow_ups, follow_ups_done, follow_ups_kept
from recon.mirror.follow_ups import Planned
from recon.mirror.follow_ups_done import ATTEMPTS, Done, carry_out
from recon.outside.jobs import open_handler
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests import stays
from tests.stays import CALLS, FAULTS, HOUR, NOON, ORGS, identity, reserve
from tests.support import execute, recon, rows

pytestmark = pytest.mark.one_engine

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
KEPT = "SELECT job, state, due_at FROM recon.follow_ups ORDER BY key, job"
STATES = "SELECT key[1], state, attempts, said FROM recon.follow_ups WHERE job = $1 ORDER BY key"
IN, OUT = "note_in", "note_out"


@pytest.fixture(scope="module")
def built(embedded_url: str) -> Iterator[Database]:
    with stays.house(embedded_url) as database:
        yield database


@pytest.fixture
def house(built: Database) -> Database:
    return stays.emptied(built)


@pytest.fixture
def noting(tmp_path: Path) -> Iterator[None]:
    with stays.installed(tmp_path / "packages", IN, OUT):
        yield


def spec(*follow_ups: dict[str, Any], **fields: Any) -> Reconciliation:
    """The reservations with these jobs: else one at check-in while they are confirmed, and one at check-out."""
    usual = (
        {"job": IN, "at": "t.check_in", "when": "t.status = 'confirmed'"},
        {"job": OUT, "at": "t.check_out", "if_gone": "run"},
    )
    return stays.spec(follow_ups=list(follow_ups or usual), **fields)


def plan(database: Database, now: datetime, made: Reconciliation | None = None, scope: str | None = None) -> Planned:
    return follow_ups.plan(database, made or stays.spec(), now, scope)


def kept(database: Database) -> dict[str, tuple[str, datetime]]:
    """The jobs of the only reservation."""
    found = {job: (state, due) for job, state, due in rows(database, KEPT)}
    assert len(found) == len(rows(database, KEPT))
    return found


# -- planned ---------------------------------------------------------------------------------------------


def test_a_reservation_has_a_pin_made_two_hours_before_and_revoked_a_day_after(house: Database) -> None:
    """SYN-05: two hours before check-in, 24 hours after check-out, each once, however often it is planned."""
    reserve(house, 1, NOON + DAY, nights=3)
    assert plan(house, NOON) == Planned(made=2)
    assert kept(house) == {
        "generate_pin": ("waiting", NOON + 22 * HOUR),
        "revoke_pin": ("waiting", NOON + 5 * DAY),
    }
    versions = rows(house, "SELECT job, xmin::text, ctid::text FROM recon.follow_ups")
    assert plan(house, NOON + HOUR) == Planned()
    assert rows(house, "SELECT job, xmin::text, ctid::text FROM recon.follow_ups") == versions
    with pytest.raises(DatabaseFailed, match="duplicate key"):
        execute(house, "INSERT INTO recon.follow_ups SELECT * FROM recon.follow_ups")


def test_a_reservation_that_moves_takes_its_jobs_along(house: Database) -> None:
    """SYN-05: a moved check-in or check-out moves the job, and its attempts begin anew."""
    reserve(house, 1, NOON + DAY, nights=3)
    plan(house, NOON)
    execute(house, "UPDATE recon.follow_ups SET attempts = 3, next_at = due_at, said = 'no' WHERE job = 'generate_pin'")
    reserve(house, 1, NOON + 2 * DAY, nights=2)  # the same check-out
    assert plan(house, NOON) == Planned(moved=1)
    assert kept(house)["generate_pin"] == ("waiting", NOON + 46 * HOUR)
    assert rows(house, "SELECT attempts, next_at, said FROM recon.follow_ups WHERE job = 'generate_pin'") == [
        (0, None, None)
    ]
    reserve(house, 1, NOON + 2 * DAY, nights=4)
    assert plan(house, NOON) == Planned(moved=1)
    assert kept(house)["revoke_pin"] == ("waiting", NOON + 7 * DAY)


def test_a_failed_job_that_moves_to_another_time_is_tried_there(house: Database) -> None:
    reserve(house, 1, NOON + DAY)
    plan(house, NOON)
    execute(house, "UPDATE recon.follow_ups SET state = 'failed', attempts = 5")
    reserve(house, 1, NOON + 2 * DAY)
    assert plan(house, NOON + DAY) == Planned(moved=2)
    assert {state for state, _ in kept(house).values()} == {"waiting"}


def test_what_is_due_already_and_due_still_does_not_move(house: Database) -> None:
    reserve(house, 1, NOON - DAY)
    plan(house, NOON)
    execute(house, "UPDATE recon.follow_ups SET attempts = 3 WHERE job = 'generate_pin'")
    reserve(house, 1, NOON - 2 * DAY, nights=4)
    assert plan(house, NOON) == Planned()
    assert kept(house)["generate_pin"] == ("waiting", NOON - DAY - 2 * HOUR)


def test_a_cancelled_reservation_drops_its_pin_and_is_revoked_at_once(house: Database) -> None:
    """SYN-05: cancelled, it is not made, and what was made is revoked now; once, though every look has another now."""
    reserve(house, 1, NOON + DAY)
    plan(house, NOON)
    reserve(house, 1, NOON + DAY, status="cancelled")
    assert plan(house, NOON + HOUR) == Planned(moved=1, dropped=1)
    assert kept(house) == {"generate_pin": ("dropped", NOON + 22 * HOUR), "revoke_pin": ("waiting", NOON + HOUR)}
    assert plan(house, NOON + 2 * HOUR) == Planned()
    execute(house, "UPDATE recon.follow_ups SET state = 'done' WHERE job = 'revoke_pin'")
    assert plan(house, NOON + 3 * HOUR) == Planned()


def test_a_reinstated_reservation_begins_anew(house: Database) -> None:
    """SYN-05: reinstated, both its jobs wait for their times again, whatever was done before."""
    reserve(house, 1, NOON + DAY)
    plan(house, NOON)
    execute(
        house, "UPDATE recon.follow_ups SET state = 'done', attempts = 2, said = 'active' WHERE job = 'generate_pin'"
    )
    reserve(house, 1, NOON + DAY, status="cancelled")
    assert plan(house, NOON) == Planned(moved=1, dropped=1)
    execute(house, "UPDATE recon.follow_ups SET state = 'done' WHERE job = 'revoke_pin'")
    before = dict(rows(house, "SELECT job, changed_at FROM recon.follow_ups"))
    reserve(house, 1, NOON + DAY)
    assert plan(house, NOON) == Planned(again=2)
    assert kept(house) == {
        "generate_pin": ("waiting", NOON + 22 * HOUR),
        "revoke_pin": ("waiting", NOON + 5 * DAY),
    }
    assert rows(house, "SELECT DISTINCT attempts, said, done_at FROM recon.follow_ups") == [(0, None, None)]
    after = dict(rows(house, "SELECT job, changed_at FROM recon.follow_ups"))
    assert all(after[job] > before[job] for job in before)  # in the same moment, and told apart all the same


def test_what_was_done_is_done_again_only_at_a_later_time(house: Database) -> None:
    reserve(house, 1, NOON + DAY)
    plan(house, NOON)
    execute(house, "UPDATE recon.follow_ups SET state = 'done' WHERE job = 'generate_pin'")
    reserve(house, 1, NOON + DAY - 3 * HOUR)
    assert plan(house, NOON + DAY) == Planned(moved=1)  # the revocation; the PIN was made before
    assert kept(house)["generate_pin"][0] == "done"
    reserve(house, 1, NOON + 9 * DAY)
    assert plan(house, NOON + DAY) == Planned(moved=1, again=1)
    assert kept(house)["generate_pin"] == ("waiting", NOON + 9 * DAY - 2 * HOUR)


def test_a_record_that_is_gone_drops_its_jobs_or_has_them_done_now(house: Database) -> None:
    """SYN-05, SYN-06: by `if_gone`; what was done stays done."""
    for number in (1, 2):
        reserve(house, number, NOON + DAY)
    plan(house, NOON)
    execute(house, "UPDATE recon.follow_ups SET state = 'done' WHERE job = 'revoke_pin' AND key[1] LIKE '%2'")
    execute(house, "DELETE FROM reservations")
    assert plan(house, NOON + HOUR) == Planned(gone=3)
    assert rows(house, KEPT) == [
        ("generate_pin", "dropped", NOON + 22 * HOUR),
        ("revoke_pin", "waiting", NOON + HOUR),
        ("generate_pin", "dropped", NOON + 22 * HOUR),
        ("revoke_pin", "done", NOON + 5 * DAY),
    ]
    assert plan(house, NOON + 2 * HOUR) == Planned()
    reserve(house, 1, NOON + DAY)
    assert plan(house, NOON + 2 * HOUR) == Planned(moved=1, again=1)


def test_a_time_or_a_condition_that_says_nothing_asks_for_nothing(house: Database) -> None:
    with house.session() as session:
        session.execute(
            "INSERT INTO reservations (id, organization_id, check_in, check_out, status) VALUES"
            " ($1, $3, NULL, 'infinity', 'confirmed'), ($2, $3, '-infinity', $4::timestamptz, 'confirmed')",
            identity(1), identity(2), ORGS[0], NOON,
        )  # fmt: skip
    unknown = spec({"job": IN, "at": "t.check_in"}, {"job": OUT, "at": "t.check_out", "when": "t.external_id <> 'x'"})
    assert plan(house, NOON, unknown) == Planned()
    assert plan(house, NOON, spec()) == Planned(made=1)


def test_a_plan_of_one_scope_touches_no_other(house: Database) -> None:
    """RES-15: the jobs of one organisation are planned without a look at another's."""
    reserve(house, 1, NOON + DAY, org=0)
    reserve(house, 2, NOON + DAY, org=1)
    assert plan(house, NOON, scope=ORGS[0].upper()) == Planned(made=2)
    assert rows(house, "SELECT DISTINCT key[1], scope FROM recon.follow_ups") == [(identity(1), ORGS[0])]
    plan(house, NOON)
    execute(house, "DELETE FROM reservations")
    assert plan(house, NOON, scope=ORGS[1]) == Planned(gone=2)
    assert rows(house, "SELECT DISTINCT scope FROM recon.follow_ups WHERE due_at = $1", NOON) == [(ORGS[1],)]
    reserve(house, 1, NOON + DAY, org=1)  # it came to another one
    assert plan(house, NOON, scope=ORGS[1]) == Planned()
    assert rows(house, "SELECT DISTINCT scope FROM recon.follow_ups WHERE key[1] = $1", identity(1)) == [(ORGS[1],)]
    with pytest.raises(UsageError, match="stays has no scope"):
        plan(house, NOON, stays.spec(scope=None), ORGS[0])


def test_a_job_that_the_spec_names_no_longer_is_dropped(house: Database) -> None:
    reserve(house, 1, NOON + DAY)
    reserve(house, 2, NOON + DAY)
    plan(house, NOON, spec())
    execute(house, f"DELETE FROM reservations WHERE id = '{identity(2)}'")
    only = spec({"job": IN, "at": "t.check_in"})
    assert plan(house, NOON, only) == Planned(dropped=2, gone=1)
    assert plan(house, NOON, stays.spec(follow_ups=[])) == Planned(dropped=1)


def test_jobs_are_those_of_all_records_of_the_target_matched_or_not(house: Database) -> None:
    query = "select r.*, 'odd ''name''' as \"Odd Name\" from reservations r where r.status <> 'pending'"
    target = {"query": query, "writes": "reservations", "key": ["organization_id", "external_id", "Odd Name"]}
    made = spec({"job": IN, "at": "t.check_in"}, target={**target, "where": "t.status <> 'confirmed'"})
    reserve(house, 1, NOON + DAY)
    reserve(house, 2, NOON + DAY, status="pending")
    assert plan(house, NOON, made) == Planned(made=1)
    assert rows(house, "SELECT key FROM recon.follow_ups") == [([ORGS[0], "X1", "odd 'name'"],)]
    execute(house, "UPDATE reservations SET status = 'pending'")
    assert plan(house, NOON, made) == Planned(gone=1)


@pytest.mark.parametrize(
    ("at", "when", "error", "says"),
    [
        ("t.check_in::timestamp", None, SpecError, "gives timestamp"),
        ("t.check_in", "t.status", SpecError, "gives text"),
        ("t.checkin", None, SchemaMismatch, "Did you mean"),
    ],
)
def test_a_follow_up_that_does_not_fit_the_table_is_refused(
    house: Database, at: str, when: str | None, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        plan(house, NOON, spec({"job": IN, "at": at, **({"when": when} if when else {})}))


def test_ten_thousand_reservations_are_planned_in_well_under_a_second(house: Database) -> None:
    """SYN-09: 10,000 reservations with two jobs each; planned again, nothing is touched."""
    execute(
        house,
        "INSERT INTO reservations (id, organization_id, external_id, check_in, check_out, status)"
        f" SELECT gen_random_uuid(), '{ORGS[0]}', 'X' || n, timestamptz '2026-04-01' + n * interval '1 minute',"
        " timestamptz '2026-05-01' + n * interval '1 minute', 'confirmed' FROM generate_series(1, 10000) AS n",
    )
    took: list[float] = []
    for wanted in (Planned(made=20_000), Planned()):
        began = perf_counter()
        assert plan(house, NOON) == wanted
        took.append(perf_counter() - began)
    assert max(took) < 3, took  # a machine under load; by itself a few tenths
    execute(house, "UPDATE reservations SET check_in = check_in + interval '1 day' WHERE external_id LIKE '%7'")
    assert plan(house, NOON) == Planned(moved=1_000)


# -- carried out -----------------------------------------------------------------------------------------


def test_a_job_whose_time_is_past_is_done_now_and_others_wait(
    house: Database, workspace: Workspace, noting: None
) -> None:
    """SYN-05: a time already past runs now; once, with the record as it is."""
    (workspace.root / ".env").write_text("RECON_LOCKS_TOKEN=t\n")
    reserve(house, 1, NOON - DAY)
    reserve(house, 2, NOON + HOUR)
    plan(house, NOON, spec())
    assert carry_out(house, workspace, spec(), NOON) == Done(1, 0, 0)
    [job] = CALLS
    assert (job.id, job.name, job.key, job.scope) == (f"stays/{IN}/{identity(1)}", IN, (identity(1),), ORGS[0])
    assert (job.due, job.now, job.variables["RECON_LOCKS_TOKEN"]) == (NOON - DAY, NOON, "t")
    assert job.record is not None
    assert (job.record["external_id"], job.record["check_in"]) == ("X1", NOON - DAY)
    assert "X1" not in repr(job)
    assert rows(house, STATES, IN)[0] == (identity(1), "done", 1, f"noted {IN}")
    assert rows(house, "SELECT done_at FROM recon.follow_ups WHERE state = 'done'") == [(NOON,)]
    assert carry_out(house, workspace, spec(), NOON) == Done(0, 0, 0)
    assert carry_out(house, workspace, spec(), NOON + HOUR) == Done(1, 0, 0)
    assert [call.key for call in CALLS] == [(identity(1),), (identity(2),)]


def test_the_job_of_a_record_that_is_gone_is_done_without_it(
    house: Database, workspace: Workspace, noting: None
) -> None:
    """SYN-06: what has to be done although the record is gone is done by its key."""
    reserve(house, 1, NOON + DAY)
    plan(house, NOON, spec())
    execute(house, "DELETE FROM reservations")
    plan(house, NOON, spec())
    assert carry_out(house, workspace, spec(), NOON) == Done(1, 0, 0)
    assert [(call.name, call.key, call.record) for call in CALLS] == [(OUT, (identity(1),), None)]


def test_what_fails_is_tried_again_later_and_keeps_nobody_waiting(
    house: Database, workspace: Workspace, noting: None, caplog: pytest.LogCaptureFixture
) -> None:
    """SYN-05: each failure waits longer, for two days; the others are done."""
    for number in range(1, 5):
        reserve(house, number, NOON - number * HOUR)
    FAULTS[identity(4)] = OutsideFailed("The lock is jammed.", why="It says so.")
    FAULTS[identity(3)] = ValueError("a secret: 123456")
    plan(house, NOON, spec())
    first = carry_out(house, workspace, spec(), NOON)
    assert (first.done, first.failed, first.waiting) == (2, 2, 0)
    assert first.errors[0] == f"{IN} of {identity(4)}: The lock is jammed. It says so."
    assert [call.key[0] for call in CALLS] == [identity(number) for number in (4, 3, 2, 1)]  # longest due first
    kept = {key: (state, attempts, said) for key, state, attempts, said in rows(house, STATES, IN)}
    assert kept[identity(4)] == ("waiting", 1, "The lock is jammed. It says so.")
    assert kept[identity(3)] == ("waiting", 1, "Something unforeseen went wrong (ValueError, stays.py line 111).")
    assert "123456" not in caplog.text
    del FAULTS[identity(3)]
    for waited in (1, 6, 36, 66, *range(126, 66 + 48 * 60 + 1, 60)):
        now = NOON + waited * MINUTE
        assert carry_out(house, workspace, spec(), now - MINUTE / 60).failed == 0
        assert carry_out(house, workspace, spec(), now).failed == 1
    states = {key: state for key, state, _, _ in rows(house, STATES, IN)}
    assert states == {identity(4): "failed", **{identity(number): "done" for number in (1, 2, 3)}}
    assert len({call.occasion for call in CALLS if call.key[0] == identity(4)}) == 1
    assert len(CALLS) == 2 + 2 + ATTEMPTS
    assert carry_out(house, workspace, spec(), NOON + DAY) == Done(0, 0, 0)


def test_jobs_that_fail_do_not_stand_before_those_that_were_never_tried(
    house: Database, workspace: Workspace, noting: None
) -> None:
    for number in range(1, 7):
        reserve(house, number, NOON - (10 - number) * HOUR)
    for number in (1, 2, 3):
        FAULTS[identity(number)] = OutsideFailed("no")
    plan(house, NOON, spec())
    first = carry_out(house, workspace, spec(), NOON, 3)
    assert (first.done, first.failed, first.waiting) == (0, 3, 3)
    assert carry_out(house, workspace, spec(), NOON + HOUR, 3) == Done(3, 0, 3)


def test_a_handler_that_is_not_installed_leaves_its_jobs_waiting(
    house: Database, workspace: Workspace, tmp_path: Path
) -> None:
    reserve(house, 1, NOON - DAY, nights=0)
    plan(house, NOON, spec())
    with stays.installed(tmp_path / "packages", IN):
        came = carry_out(house, workspace, spec(), NOON)
    assert (came.done, came.failed, came.waiting) == (1, 0, 1)
    assert came.errors[0].startswith('No follow-up called "note_out" is installed. Did you mean "note_in"?')
    assert rows(house, STATES, OUT) == [(identity(1), "waiting", 0, None)]
    with pytest.raises(NotFound, match="generate_pin"):
        open_handler("generate_pins")


def test_check_tells_which_follow_up_nobody_would_carry_out(house: Database) -> None:
    wrong = spec({"job": "generate_pins", "at": "t.check_in"})
    [finding] = [one for one in check.check(house, wrong).findings if one.where.startswith("follow-up")]
    assert (finding.severity, finding.where) == ("error", "follow-up generate_pins")
    assert 'Did you mean "generate_pin"?' in finding.what


def test_no_further_job_is_begun_when_the_time_is_over(house: Database, workspace: Workspace, noting: None) -> None:
    reserve(house, 1, NOON - DAY, nights=0)
    plan(house, NOON, spec())
    assert carry_out(house, workspace, spec(), NOON, patience=0) == Done(0, 0, 2)


def test_two_processes_do_each_job_once(
    house: Database, workspace: Workspace, noting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SYN-05: one at a time does the jobs of a reconciliation; the other finds what is left."""
    for number in range(1, 21):
        reserve(house, number, NOON - DAY)
    plan(house, NOON, spec())
    with ThreadPoolExecutor(2) as both:
        ended = list(both.map(lambda _: carry_out(house, workspace, spec(), NOON, 12), range(2)))
    assert sorted(one.done for one in ended) == [8, 12]
    assert len({call.key for call in CALLS}) == len(CALLS) == 20


def test_a_job_that_was_left_doing_is_due_again_but_not_for_ever(
    house: Database, workspace: Workspace, noting: None
) -> None:
    for number in (1, 2):
        reserve(house, number, NOON - DAY)
    plan(house, NOON, spec())
    execute(house, f"UPDATE recon.follow_ups SET state = 'doing', attempts = 1 WHERE key[1] = '{identity(1)}'")
    execute(house, f"UPDATE recon.follow_ups SET state = 'doing', attempts = 5 WHERE key[1] = '{identity(2)}'")
    assert carry_out(house, workspace, spec(), NOON).done == 1
    assert rows(house, STATES, IN) == [
        (identity(1), "done", 2, f"noted {IN}"),
        (identity(2), "failed", 5, "none of its attempts came to an end"),
    ]


def test_what_moved_while_it_was_done_is_done_at_its_new_time_too(
    house: Database, workspace: Workspace, noting: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve(house, 1, NOON - DAY)
    plan(house, NOON, spec())

    def moving(job: Any) -> str:
        assert rows(house, STATES, IN) == [(identity(1), "doing", 1, None)]  # written down before it is done
        reserve(house, 1, NOON + DAY)
        assert plan(house, NOON, spec()).moved == 2
        return stays.noted(job)

    monkeypatch.setattr(follow_ups_done, "open_handler", lambda _name: moving)
    carry_out(house, workspace, spec(), NOON)
    assert rows(house, STATES, IN) == [(identity(1), "waiting", 0, None)]
    monkeypatch.undo()
    with stays.installed(workspace.root / "packages", IN, OUT):
        assert carry_out(house, workspace, spec(), NOON + DAY).done == 1


# -- looked at, and cleaned up ---------------------------------------------------------------------------


def test_statistics_tell_how_the_jobs_of_a_scope_stand(house: Database) -> None:
    for number in range(1, 7):
        reserve(house, number, NOON + number * HOUR, org=number % 2)
    plan(house, NOON, spec())
    execute(
        house,
        *(
            f"UPDATE recon.follow_ups SET state = '{state}' WHERE job = '{IN}' AND key[1] = '{identity(number)}'"
            for number, state in ((1, "done"), (3, "failed"), (4, "dropped"))
        ),
    )
    counts = follow_ups_kept.statistics(house, spec(), NOON + 2 * HOUR + 59 * MINUTE)
    assert counts[IN] == {
        "waiting": 2, "due": 1, "overdue": 0, "done": 1, "failed": 1, "dropped": 1, "next": NOON + 2 * HOUR,
    }  # fmt: skip
    assert follow_ups_kept.statistics(house, spec(), NOON + 4 * HOUR)[IN]["overdue"] == 2
    assert follow_ups_kept.statistics(house, spec(), NOON, ORGS[0])[OUT]["waiting"] == 3
    assert follow_ups_kept.statistics(house, spec(), NOON, "of none")[OUT]["next"] is None


def test_a_job_that_was_asked_for_late_is_overdue_an_hour_after_that(house: Database) -> None:
    """SYN-05: a first load of stays that began long ago is no alarm before anybody could have done their jobs."""
    reserve(house, 1, NOON - 10 * HOUR)
    plan(house, NOON, spec())
    late = [follow_ups_kept.statistics(house, spec(), NOON + minutes * MINUTE)[IN] for minutes in (59, 60)]
    assert [(counts["due"], counts["overdue"]) for counts in late] == [(1, 0), (1, 1)]


def test_jobs_of_records_that_are_gone_are_removed_once_nothing_is_left_to_do(house: Database) -> None:
    """SYN-06: orphaned jobs are removed; those that are still to be done, or failed, stay."""
    for number in range(1, 5):
        reserve(house, number, NOON + DAY)
    plan(house, NOON, spec())
    execute(house, f"DELETE FROM reservations WHERE id <> '{identity(1)}'")
    plan(house, NOON, spec())
    for number, state in ((2, "done"), (3, "failed")):
        execute(
            house,
            f"UPDATE recon.follow_ups SET state = '{state}' WHERE key[1] = '{identity(number)}' AND job = '{OUT}'",
        )
    assert follow_ups_kept.remove_orphaned(house, spec()) == (4, None)
    assert rows(house, "SELECT key[1], job, state FROM recon.follow_ups ORDER BY key, job") == [
        (identity(1), IN, "waiting"),
        (identity(1), OUT, "waiting"),
        (identity(3), OUT, "failed"),
        (identity(4), OUT, "waiting"),
    ]


def test_a_failure_to_remove_fails_nobody(house: Database) -> None:
    """SYN-06, RES-15: what cannot be removed stays for the next time, and the reason is told; each scope for itself."""
    reserve(house, 1, NOON + DAY)
    plan(house, NOON, spec())
    execute(
        house,
        "DELETE FROM reservations",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not now'; END $$",
        "CREATE TRIGGER refuse BEFORE DELETE ON recon.follow_ups FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    plan(house, NOON, spec())
    removed, why = follow_ups_kept.remove_orphaned(house, spec())
    execute(house, "DROP TRIGGER refuse ON recon.follow_ups")
    assert (removed, why) == (0, "The database refused a statement: not now. (SQLSTATE P0001)")
    assert follow_ups_kept.remove_orphaned(house, spec(), ORGS[1]) == (0, None)
    assert follow_ups_kept.remove_orphaned(house, spec(), ORGS[0]) == (1, None)


def test_the_command_tells_how_they_stand_and_has_failed_ones_tried_again(
    house: Database, workspace: Workspace
) -> None:
    reserve(house, 1, NOON - DAY)
    plan(house, NOON, spec())
    execute(
        house, f"UPDATE recon.follow_ups SET state = 'failed', attempts = 5, said = '\x1b[2Jjammed' WHERE job = '{IN}'"
    )
    written = spec().model_dump_json(exclude_unset=True, by_alias=True)
    (workspace.root / "reconciliations" / "stays.yaml").write_text(written)

    def asked(*more: str) -> Any:
        return recon("follow-ups", "stays", *more, "--workspace", str(workspace.root), url=house.url)

    shown = asked()
    assert shown.code == 3
    words = " ".join(shown.out.split())
    assert "note_in 0 0 1 0 1 0" in words
    assert "jammed" in words
    assert "\x1b" not in shown.out
    document = asked("--again", "--json").json
    assert (document["tried_again"], document["jobs"][IN]["due"], document["jobs"][IN]["failed"]) == (1, 1, 0)
