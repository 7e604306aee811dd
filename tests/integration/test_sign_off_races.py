"""Two people at once, stopped just before one of them commits: exactly one wins, nothing is lost or counted twice."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import seams, sign_off, standing, states
from recon.backfill.plan import Plan
from recon.database.connect import Database
from recon.errors import IllegalMove, NotApproved, ReconError
from recon.matching import run as runs
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests.signing import policy
from tests.support import RENT, rows

PATIENCE_SECONDS = 60
WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND pid <> pg_backend_pid()"
)


class Racer(threading.Thread):
    """One person's deed in a thread of its own; what went wrong is kept."""

    def __init__(self, deed: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self.deed = deed
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self.deed()
        except Exception as error:
            self.error = error

    def end(self) -> Exception | None:
        self.join(PATIENCE_SECONDS)
        assert not self.is_alive()
        return self.error

    def waits(self, database: Database) -> None:
        """Return when it stands before somebody's lock."""
        while rows(database, WAITING) == [(0,)]:
            assert self.is_alive(), f"it did not wait: {self.error}"


def race(database: Database, first: Callable[[], object], second: Callable[[], object]) -> tuple[Racer, Racer]:
    """Start the second while the first stands before its commit, and let go once the second waits for it."""
    there, go = threading.Event(), threading.Event()
    one, other = Racer(first), Racer(second)

    def stop(name: str) -> None:
        if name == "before commit" and threading.current_thread() is one:
            there.set()
            assert go.wait(PATIENCE_SECONDS)

    with seams.stopping(stop):
        one.start()
        assert there.wait(PATIENCE_SECONDS)
        other.start()
        other.waits(database)
        go.set()
        one.join(PATIENCE_SECONDS)
        other.join(PATIENCE_SECONDS)
    return one, other


def state(database: Database, plan: Plan) -> str:
    with database.session() as session:
        return states.current(session, plan.plan)


def refusals(database: Database) -> list[str]:
    found = rows(database, "SELECT detail ->> 'refused' FROM recon.audit_log WHERE event = 'approval' ORDER BY entry")
    return [text for (text,) in found if text]


def approvers(database: Database) -> list[str]:
    return [name for (name,) in rows(database, "SELECT approver FROM recon.approvals ORDER BY 1")]


def test_of_two_approvers_of_one_plan_one_takes_it_over_the_line(
    rent: Database, workspace: Workspace, plan: Plan
) -> None:
    bob, cleo = race(
        rent,
        lambda: sign_off.approve(rent, workspace, plan.plan, "bob"),
        lambda: sign_off.approve(rent, workspace, plan.plan, "cleo"),
    )
    assert bob.end() is None
    assert isinstance(cleo.end(), IllegalMove)
    assert (state(rent, plan), approvers(rent)) == ("approved", ["bob"])
    assert refusals(rent) == [f"Plan {plan.plan} is approved."]
    with rent.session() as session:
        assert [row["to_state"] for row in states.log(session, plan.plan)] == ["planned", "approved"]


def test_two_approvers_who_are_both_needed_both_count(
    rent: Database, workspace: Workspace, spec: Reconciliation
) -> None:
    two = policy(workspace, "approvals = 2")
    runs.match(rent, spec, "ann")
    plan = plans.make(rent, two, spec, "ann")
    assert plan is not None
    bob, cleo = race(
        rent,
        lambda: sign_off.approve(rent, two, plan.plan, "bob"),
        lambda: sign_off.approve(rent, two, plan.plan, "cleo"),
    )
    assert (bob.end(), cleo.end()) == (None, None)
    assert (state(rent, plan), approvers(rent)) == ("approved", ["bob", "cleo"])


def test_one_person_twice_at_once_counts_once(rent: Database, workspace: Workspace, spec: Reconciliation) -> None:
    two = policy(workspace, "approvals = 2")
    runs.match(rent, spec, "ann")
    plan = plans.make(rent, two, spec, "ann")
    assert plan is not None
    once, again = race(
        rent,
        lambda: sign_off.approve(rent, two, plan.plan, "bob"),
        lambda: sign_off.approve(rent, two, plan.plan, "BOB"),
    )
    assert (once.end(), again.end()) == (None, None)
    assert (state(rent, plan), approvers(rent)) == ("planned", ["bob"])


def test_an_approval_that_comes_first_is_superseded_by_the_newer_plan(
    rent: Database, workspace: Workspace, spec: Reconciliation, plan: Plan
) -> None:
    made: list[Plan | None] = []
    approving, planning = race(
        rent,
        lambda: sign_off.approve(rent, workspace, plan.plan, "bob"),
        lambda: made.append(plans.make(rent, workspace, spec, "ann")),
    )
    assert (approving.end(), planning.end()) == (None, None)
    assert state(rent, plan) == "superseded"
    assert made[0] is not None
    assert state(rent, made[0]) == "planned"
    with pytest.raises(IllegalMove):
        applying.apply(rent, workspace, plan.plan, "ann", execute=True)


def test_an_approval_that_comes_second_finds_the_plan_superseded(
    rent: Database, workspace: Workspace, spec: Reconciliation, plan: Plan
) -> None:
    with rent.session() as session:  # as plan.make does, last of all
        states.current(session, plan.plan, lock=True)
        states.move(session, plan.plan, "superseded", "ann")
        approving = Racer(lambda: sign_off.approve(rent, workspace, plan.plan, "bob"))
        approving.start()
        approving.waits(rent)
    assert isinstance(approving.end(), IllegalMove)
    assert approvers(rent) == []
    assert refusals(rent) == [f"Plan {plan.plan} is superseded."]


def test_a_rejection_that_comes_first_wins_over_the_approval(rent: Database, workspace: Workspace, plan: Plan) -> None:
    rejecting, approving = race(
        rent,
        lambda: sign_off.reject(rent, workspace, plan.plan, "cleo", "no"),
        lambda: sign_off.approve(rent, workspace, plan.plan, "bob"),
    )
    assert rejecting.end() is None
    assert isinstance(approving.end(), IllegalMove)
    assert (state(rent, plan), approvers(rent)) == ("rejected", [])


def test_a_rejection_that_comes_second_withdraws_the_approval(rent: Database, workspace: Workspace, plan: Plan) -> None:
    approving, rejecting = race(
        rent,
        lambda: sign_off.approve(rent, workspace, plan.plan, "bob"),
        lambda: sign_off.reject(rent, workspace, plan.plan, "cleo", "no"),
    )
    assert (approving.end(), rejecting.end()) == (None, None)
    assert state(rent, plan) == "rejected"
    with pytest.raises(IllegalMove):
        applying.apply(rent, workspace, plan.plan, "ann", execute=True)


def test_an_apply_beside_an_approval_that_is_not_committed_is_refused(
    rent: Database, workspace: Workspace, plan: Plan
) -> None:
    there, go = threading.Event(), threading.Event()

    def stop(_name: str) -> None:
        there.set()
        assert go.wait(PATIENCE_SECONDS)

    with seams.stopping(stop):
        approving = Racer(lambda: sign_off.approve(rent, workspace, plan.plan, "bob"))
        approving.start()
        assert there.wait(PATIENCE_SECONDS)
        with pytest.raises(NotApproved, match="0 of 1"):
            applying.apply(rent, workspace, plan.plan, "ann", execute=True)
        go.set()
        assert approving.end() is None
    assert applying.apply(rent, workspace, plan.plan, "ann", execute=True).changed == 10


def test_a_rejection_before_its_commit_stops_the_apply_that_passed_the_check(
    rent: Database, workspace: Workspace, approved: Plan
) -> None:
    rejecting, apply = race(
        rent,
        lambda: sign_off.reject(rent, workspace, approved.plan, "bob", "no"),
        lambda: applying.apply(rent, workspace, approved.plan, "ann", execute=True),
    )
    assert rejecting.end() is None
    assert isinstance(apply.end(), ReconError)
    assert state(rent, approved) == "rejected"
    assert rows(rent, "SELECT count(invoice_id) FROM historical_transactions WHERE category = 'rent'") == [(125,)]


def test_a_standing_sign_off_that_is_being_withdrawn_covers_nothing_more(
    rent: Database, workspace: Workspace, plan: Plan
) -> None:
    given = standing.give(rent, workspace, RENT, "bob", rows=10, days=1, actions=["link"])
    with rent.session() as session:  # as `withdraw` does: the row, and then the log, which has one writer at a time
        session.execute("UPDATE recon.standing_sign_offs SET withdrawn_at = now(), withdrawn_by = 'cleo'")
        session.execute("SELECT entry FROM recon.audit_head FOR UPDATE")
        apply = Racer(lambda: applying.apply(rent, workspace, plan.plan, "ann", execute=True))
        apply.start()
        apply.waits(rent)
    error = apply.end()
    assert isinstance(error, NotApproved)
    assert str(error).startswith(f"{given.id} was withdrawn just now")
    assert state(rent, plan) == "planned"
