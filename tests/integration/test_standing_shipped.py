"""The standing sign-off that ships with recon: development only, the shipped rules only, and never against a person's word."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from recon import screens_run
from recon.backfill import bundle, shipped, standing
from recon.backfill import plan as plans
from recon.backfill.shipped import Shipped
from recon.backfill.standing import Standing
from recon.backfill.voices import SHIPS
from recon.commands.place import look_closer
from recon.database.connect import Database
from recon.errors import NotApproved
from recon.matching import run as runs
from recon.matching.pool import Filter
from recon.service.reconcile import in_the_way
from recon.systems import shipped_standing
from recon.whole_way import Way, Wish
from recon.workspace import Workspace
from tests.hcp import AIRTABLE, HCP, own_spec, sampled
from tests.signing import policy
from tests.support import RENT, ROOT, recon, rows

pytestmark = pytest.mark.one_engine

GIVEN = "SELECT id, given_by, method, withdrawn_at IS NULL FROM recon.standing_sign_offs ORDER BY given_at"


@pytest.fixture(scope="module")
def planned(embedded_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, Path, str]]:
    """The sample, a workspace, and a plan that ann made there in development; nothing here writes to the tables."""
    root = tmp_path_factory.mktemp("shipped")
    with sampled(embedded_url, embedded=True) as database, pytest.MonkeyPatch.context() as patched:
        for name, value in AIRTABLE.items():
            patched.setenv(name, value)
        place = Workspace(root)
        run = runs.match(database, place.spec(HCP), "ann")
        made = plans.make(database, place, place.spec(HCP), "ann", run=run.run)
        assert made is not None
        yield database, root, made.plan


@pytest.fixture
def hcp(planned: tuple[Database, Path, str], monkeypatch: pytest.MonkeyPatch) -> Database:
    """The database with the plan as it was made, and nothing given."""
    for name, value in {**AIRTABLE, "RECON_USER": "ann"}.items():
        monkeypatch.setenv(name, value)
    with planned[0].session() as session:
        session.execute("DELETE FROM recon.standing_sign_offs")
        session.execute("UPDATE recon.plans SET state = 'planned' WHERE plan = $1", planned[2])
    return planned[0]


@pytest.fixture
def workspace(planned: tuple[Database, Path, str]) -> Iterator[Workspace]:
    """The plan's workspace, without a policy of its own."""
    yield Workspace(planned[1])
    (planned[1] / "recon.toml").unlink(missing_ok=True)


def item() -> Shipped:
    found = shipped_standing(HCP)
    assert found is not None
    return found


def signed(database: Database, place: Workspace, mode: str = "execute", plan: str | None = None) -> Way:
    """A run as far as the sign-off, with the plan that there is; an empty one: with a new plan."""
    if plan is None:
        ((plan,),) = rows(database, "SELECT plan FROM recon.plans ORDER BY created_at LIMIT 1")
    way = Way(database, place, place.spec(HCP), Wish(mode, plan=plan))
    way.match()
    way.plan()
    way.sign()
    return way


def rewrite(database: Database, found: Standing, **changed: object) -> None:
    text = bundle.canonical(found.document | changed)
    with database.session() as session:
        session.execute(
            "UPDATE recon.standing_sign_offs SET document = $1, digest = $2 WHERE id = $3",
            text, bundle.digest(text), found.id,
        )  # fmt: skip


def test_what_ships_is_for_the_rules_that_ship() -> None:
    """HCP-13: one ships for development; whoever changes the rules looks at the sign-off again."""
    found = item()
    assert (found.environment, found.actions, found.rows, found.days) == ("development", ("link",), 500, 30)
    digest = Workspace(ROOT).spec(HCP).digest
    assert found.rules == digest, f"the rules changed: review standing.toml, and write {digest} there"
    assert shipped_standing(RENT) is None


def test_in_development_a_run_gives_it_once_and_the_log_says_so(hcp: Database, workspace: Workspace) -> None:
    """HCP-13: automatic execution in development, recorded, by a name that is no person's."""
    way = signed(hcp, workspace)
    assert way.made is not None
    assert way.made.state == "approved"
    assert way.signing is not None
    assert [said.split(" (")[0] for said in way.signing.given] == [SHIPS]
    assert signed(hcp, workspace).made is not None
    ((identity, *given),) = rows(hcp, GIVEN)
    assert given == [SHIPS, "recorded", True]
    ((actor, detail),) = rows(
        hcp,
        "SELECT actor, detail FROM recon.audit_log WHERE event = 'standing given' AND detail ->> 'standing' = $1",
        identity,
    )
    assert (actor, detail["standing"], detail["given_by"], detail["ships_with_recon"]) == ("ann", identity, SHIPS, True)


@pytest.mark.parametrize("mode", ["match", "plan", "dry_run"])
def test_whoever_does_not_execute_gives_nothing(hcp: Database, workspace: Workspace, mode: str) -> None:
    """HCP-03, HCP-13: a dry run signs for nothing."""
    signed(hcp, workspace, mode)
    assert rows(hcp, GIVEN) == []


def test_production_waits_for_a_reviewer_and_says_what_to_do(
    hcp: Database, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """HCP-13: exit code 3 until a reviewer approves or gives a standing one; that one is then taken."""
    monkeypatch.setenv("RECON_ENVIRONMENT", "production")
    place = Workspace(workspace.root)
    with hcp.session() as session:  # the plan of development is not for here
        session.execute("UPDATE recon.plans SET state = 'rejected'")
    way = Way(hcp, place, place.spec(HCP), Wish("execute"))
    way.asked()
    way.match()
    way.plan()
    way.sign()
    assert way.made is not None
    assert way.made.state == "planned"
    assert rows(hcp, GIVEN) == []
    assert way.remains()
    assert way.end().exit_code == 3
    screens_run.ran({**dict.fromkeys(("apply", "verify")), **way.told, "report": "r", "notebook": "n"})
    shown = " ".join(capsys.readouterr().out.split())
    assert "it is for development, and this is production" in shown
    assert f"recon review {way.made.plan}" in shown
    assert "recon standing hcp_jobs --give" in shown
    standing.give(hcp, place, HCP, "bob", rows=500, days=30, actions=["link"])
    again = signed(hcp, place, plan=way.made.plan)
    assert again.made is not None
    assert again.made.state == "approved"
    assert [given_by for _, given_by, *_ in rows(hcp, GIVEN)] == ["bob"]


def test_a_database_that_was_written_as_production_is_no_development(
    hcp: Database, workspace: Workspace, planned: tuple[Database, Path, str]
) -> None:
    """HCP-13: who sets RECON_ENVIRONMENT=development for production's own database needs a reviewer still."""
    _, _, plan = planned
    with hcp.session() as session:
        session.execute(
            "UPDATE recon.plans SET state = 'verified', document = replace(document, $2, $3) WHERE plan = $1",
            plan, '"environment":"development"', '"environment":"production"',
        )  # fmt: skip
    try:
        said = shipped.give(hcp, workspace, item(), "ann")
    finally:
        with hcp.session() as session:
            session.execute(
                "UPDATE recon.plans SET document = replace(document, $2, $3) WHERE plan = $1",
                plan, '"environment":"production"', '"environment":"development"',
            )  # fmt: skip
    assert said == f"it is for development, and this database was written as production (plan {plan})"
    assert rows(hcp, GIVEN) == []


def refused(database: Database, place: Workspace, said: str) -> None:
    way = signed(database, place)
    assert way.signing is not None
    assert way.signing.awaited
    assert said in " ".join(way.signing.refused)


def test_other_rules_are_not_covered(hcp: Database, tmp_path: Path) -> None:
    """HCP-13: a workspace's own spec of this name has rules that nobody reviewed."""
    place = own_spec(tmp_path / "own", **{"tolerance: 1 hour": "tolerance: 2 hours"})
    said = shipped.give(hcp, place, item(), "ann")
    assert said == "the rules of hcp_jobs are not the ones that it was given for"
    assert rows(hcp, GIVEN) == []


def test_where_a_name_is_no_sign_off_it_is_none_either(hcp: Database, workspace: Workspace) -> None:
    """HCP-13: recorded_by_name = false, or standing_days = 0, and it is not given; the reason is said."""
    refused(hcp, policy(workspace, "recorded_by_name = false"), "recon.toml says recorded_by_name = false")
    refused(hcp, policy(workspace, "standing_days = 0"), "recon.toml says standing_days = 0")
    assert rows(hcp, GIVEN) == []


def test_two_approvals_are_two_people(hcp: Database, workspace: Workspace) -> None:
    """HCP-13: what ships is one voice, never two."""
    way = signed(hcp, policy(workspace, "approvals = 2"))
    assert way.signing is not None
    assert way.signing.awaited
    assert len(rows(hcp, GIVEN)) == 1
    refused(hcp, Workspace(workspace.root), "is there, and does not cover the plan")
    assert len(rows(hcp, GIVEN)) == 1


def test_an_expired_one_is_given_anew_and_a_withdrawn_one_never(hcp: Database, workspace: Workspace) -> None:
    """HCP-13: time may be renewed in development, a person's word stands."""
    first = shipped.give(hcp, workspace, item(), "ann")
    assert isinstance(first, Standing)
    past = datetime.now(UTC).replace(microsecond=0) - timedelta(days=31)
    rewrite(hcp, first, given=past.isoformat(), expires=(past + timedelta(days=30)).isoformat())
    way = signed(hcp, workspace)
    assert way.made is not None
    assert way.made.state == "approved"
    (_, (second, *_)) = rows(hcp, GIVEN)
    ended = standing.withdraw(hcp, HCP, second, "cleo", "we look at each plan")
    rewrite(hcp, ended, given=past.isoformat(), expires=(past + timedelta(days=30)).isoformat())
    with hcp.session() as session:
        session.execute("UPDATE recon.plans SET state = 'planned' WHERE state = 'approved'")
    refused(hcp, workspace, "The standing sign-off that ships with recon: cleo withdrew")
    assert len(rows(hcp, GIVEN)) == 2


def test_it_covers_so_many_rows_and_links_only(hcp: Database, workspace: Workspace) -> None:
    """HCP-13: what it does not cover waits, and no second one is given for it."""
    narrow = Shipped(HCP, "development", ("link",), 5, 30, item().rules)
    assert isinstance(shipped.give(hcp, workspace, narrow, "ann"), Standing)
    refused(hcp, workspace, "the plan has 11 rows, it allows 5")
    assert len(rows(hcp, GIVEN)) == 1


def test_nobody_acts_under_its_name(hcp: Database, workspace: Workspace) -> None:
    """HCP-13: a person who takes the name gives nothing."""
    with pytest.raises(NotApproved, match="is no person"):
        standing.give(hcp, workspace, HCP, "Ships  with RECON", rows=1, days=1, actions=["link"])


def test_a_plan_of_a_dry_run_keeps_no_event_waiting_where_what_ships_covers_its_own(
    hcp: Database, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HCP-12, HCP-13: what ships is given for a webhook's plan as for a run's, and where it is not, the words say why."""
    spec = workspace.spec(HCP)
    run = runs.match(hcp, spec, "ann", Filter(None, "2026-04-02", "2026-04-03"))
    monkeypatch.setenv("RECON_ENVIRONMENT", "production")
    waits = in_the_way(hcp, Workspace(workspace.root), spec, run)
    assert waits is not None
    assert waits.words.endswith("that ships with recon: it is for development, and this is production)")
    assert rows(hcp, GIVEN) == []
    monkeypatch.delenv("RECON_ENVIRONMENT")
    assert in_the_way(hcp, Workspace(workspace.root), spec, run) is None
    assert [name for _, name, _, _ in rows(hcp, GIVEN)] == [SHIPS]


def test_after_the_demo_nothing_is_suggested_that_must_reach_what_stood_in(
    hcp: Database, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the end of `recon demo hcp_jobs` names works without the settings of the outside systems."""
    ((plan,),) = rows(hcp, "SELECT plan FROM recon.plans ORDER BY created_at LIMIT 1")
    said = look_closer(workspace, HCP, plans.load(hcp, workspace, plan))
    for name in AIRTABLE:
        monkeypatch.delenv(name)
    _, command = said.split(" · ")
    program, *words = shlex.split(command.replace("--database demo", ""))
    shown = recon(*words, url=hcp.url)
    assert (program, shown.code, shown.err) == ("recon", 0, "")
