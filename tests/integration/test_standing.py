"""Standing sign-offs: signed once, for the plans of one reconciliation, within limits; outside of them worth nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from recon.backfill import apply as applying
from recon.backfill import bundle, sign_off, standing, states
from recon.backfill import plan as plans
from recon.backfill import revert as reverting
from recon.backfill.plan import Plan
from recon.backfill.standing import Standing
from recon.database.connect import Database
from recon.errors import IllegalMove, NotApproved, NotFound, UsageError
from recon.matching import run as runs
from recon.reports.data import gather
from recon.stand_ins.server import served
from recon.workspace import Workspace
from tests.shop import Shop, installed
from tests.signing import Keys, needs_ssh_keygen, policy
from tests.support import RENT, execute, load_rent_sample, recon, rows

pytestmark = pytest.mark.one_engine

LINKED = "SELECT count(invoice_id) FROM historical_transactions WHERE category = 'rent'"


def give(database: Database, workspace: Workspace, actor: str = "bob", **limits: Any) -> Standing:
    usual: dict[str, Any] = {"rows": 10, "days": 30, "actions": ["link"]}
    return standing.give(database, workspace, RENT, actor, **(usual | limits))


def state(database: Database, plan: Plan) -> str:
    with database.session() as session:
        return states.current(session, plan.plan)


def refused(database: Database, workspace: Workspace, plan: Plan, said: str) -> None:
    with pytest.raises(NotApproved, match=r"of \d approvals") as error:
        applying.apply(database, workspace, plan.plan, "ann", execute=True)
    assert said in error.value.why
    assert rows(database, LINKED) == [(125,)]


def rewrite(database: Database, item: Standing, changed: dict[str, Any]) -> None:
    """Change the document as somebody with the database in his hands would, digest and all."""
    text = bundle.canonical(item.document | changed)
    with database.session() as session:
        session.execute(
            "UPDATE recon.standing_sign_offs SET document = $1, digest = $2 WHERE id = $3",
            text,
            bundle.digest(text),
            item.id,
        )


# -- inside its limits -----------------------------------------------------------------------------------


def test_a_covered_plan_is_applied_unattended_and_the_log_says_by_what(
    rent: Database, workspace: Workspace, plan: Plan
) -> None:
    given = give(rent, workspace)
    assert applying.apply(rent, workspace, plan.plan, "ann", execute=True).changed == 10
    shown = gather(rent, workspace, RENT).approvals
    assert [(item["approver"], item["method"]) for item in shown] == [(given.id, "standing sign-off")]
    with rent.session() as session:
        move = next(row for row in states.log(session, plan.plan) if row["to_state"] == "approved")
    assert move["detail"]["why"] == "standing"
    assert move["detail"]["standing"] == {given.id: given.digest}
    used = rows(rent, "SELECT actor, plan, detail FROM recon.audit_log WHERE event = 'standing used'")
    assert used == [("ann", plan.plan, {"standing": given.id, "digest": given.digest, "plan_digest": plan.digest})]
    assert rows(rent, "SELECT actor, detail ->> 'standing' FROM recon.audit_log WHERE event = 'standing given'") == [
        ("bob", given.id)
    ]


def test_a_run_may_take_the_plan_to_approved_first(rent: Database, workspace: Workspace, plan: Plan) -> None:
    with pytest.raises(NotApproved):
        sign_off.approve_by_standing(rent, workspace, plan.plan, "ann")
    assert state(rent, plan) == "planned"
    give(rent, workspace)
    assert sign_off.approve_by_standing(rent, workspace, plan.plan, "ann").state == "approved"
    with pytest.raises(IllegalMove):
        sign_off.approve_by_standing(rent, workspace, plan.plan, "ann")


def test_who_approves_what_was_applied_is_not_sent_to_apply_it(
    rent: Database, workspace: Workspace, plan: Plan
) -> None:
    give(rent, workspace)
    applying.apply(rent, workspace, plan.plan, "ann", execute=True)
    ended = recon("approve", plan.plan, "--workspace", str(workspace.root), url=rent.url, user="bob")
    assert ended.code == 0
    assert "is applied" in ended.out
    assert "recon revert" in ended.out
    assert "recon apply" not in ended.out


def test_a_resume_asks_again_and_undoing_does_not_hang_on_time_or_will(
    rent: Database, workspace: Workspace, plan: Plan
) -> None:
    given = give(rent, workspace)
    sign_off.approve_by_standing(rent, workspace, plan.plan, "ann")
    with rent.session() as session:
        states.move(session, plan.plan, "applying", "ann")
    ended = standing.withdraw(rent, RENT, given.id, "cleo", "the schedule is off")
    assert (ended.withdrawn_by, ended.withdrawn_reason) == ("cleo", "the schedule is off")
    refused(rent, workspace, plan, "cleo withdrew it")
    assert reverting.revert(rent, workspace, plan.plan, "ann", execute=True).state == "reverted"


# -- outside of them -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ({"rows": 9}, "the plan has 10 rows, it allows 9"),
        ({"actions": ["update", "insert", "set"]}, "it does not allow link"),
        ({"environment": "development"}, "it is for development"),
    ],
)
def test_a_plan_beyond_a_limit_waits_for_people(
    rent: Database, workspace: Workspace, plan: Plan, limits: dict[str, Any], said: str
) -> None:
    give(rent, workspace, **limits)
    refused(rent, workspace, plan, said)
    assert state(rent, plan) == "planned"
    assert sign_off.approve(rent, workspace, plan.plan, "bob").state == "approved"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"spec_digest": "0" * 64}, "the rules changed since"),
        ({"database": {"database": "other", "system": "1"}}, "it is for another database"),
        ({"expires": "2020-01-01T00:00:00+00:00"}, "it expired"),
        ({"given": "2020-01-01T00:00:00+00:00"}, "it expired"),
        ({"kind": "plan"}, "it was changed"),
        ({"given_by": "cleo"}, "it was changed"),
        ({"id": "another"}, "it was changed"),
        ({"caps": {"rows": 10, "tolerance_rows": -1}}, "the plan tolerates 0 changed rows, it allows -1"),
    ],
)
def test_every_limit_is_looked_at(
    rent: Database, workspace: Workspace, plan: Plan, changed: dict[str, Any], said: str
) -> None:
    rewrite(rent, give(rent, workspace), changed)
    refused(rent, workspace, plan, said)


def test_a_document_changed_behind_its_digest_is_void(rent: Database, workspace: Workspace, plan: Plan) -> None:
    give(rent, workspace, rows=5)
    execute(rent, """UPDATE recon.standing_sign_offs SET document = replace(document, '"rows":5', '"rows":50')""")
    refused(rent, workspace, plan, "it was changed after it was given")


def test_a_plan_over_a_cap_of_its_spec_is_never_covered(rent: Database, workspace: Workspace, plan: Plan) -> None:
    document = plan.document
    item = give(rent, workspace)
    rules = workspace.policy.sign_off
    assert standing.why_not(item, document, "production", rules) == ""
    assert (
        standing.why_not(item, document | {"over_cap": ["orphan"]}, "production", rules)
        == "the plan is over a cap of its spec"
    )
    assert standing.why_not(item, document, "development", rules) == "it is for production"
    assert "does not say" in standing.why_not(item, document | {"actions": {}}, "production", rules)


def test_a_change_of_the_spec_voids_it(rent: Database, workspace: Workspace) -> None:
    """The plan is made by the changed rules; the standing sign-off was given for the rules before."""
    given = give(rent, workspace)
    own = workspace.root / "reconciliations" / f"{RENT}.yaml"
    own.write_text(workspace.spec_path(RENT).read_text().replace("confidence: 0.95", "confidence: 0.94"))
    changed = workspace.spec(RENT)
    assert changed.digest != given.document["spec_digest"]
    runs.match(rent, changed, "ann")
    plan = plans.make(rent, workspace, changed, "ann")
    assert plan is not None
    refused(rent, workspace, plan, "the rules changed since")


def test_the_author_of_a_plan_cannot_have_given_it(rent: Database, workspace: Workspace, plan: Plan) -> None:
    give(rent, workspace, "ANN")
    refused(rent, workspace, plan, "who made the plan")


def test_an_expired_plan_is_not_applied_by_a_standing_sign_off(
    rent: Database, workspace: Workspace, plan: Plan
) -> None:
    give(rent, workspace)
    execute(rent, "UPDATE recon.plans SET expires_at = now() - interval '1 second'")
    with pytest.raises(NotApproved, match="expired"):
        applying.apply(rent, workspace, plan.plan, "ann", execute=True)
    assert state(rent, plan) == "expired"


def test_a_rejected_plan_stays_rejected(rent: Database, workspace: Workspace, plan: Plan) -> None:
    sign_off.reject(rent, workspace, plan.plan, "cleo", "not today")
    give(rent, workspace)
    with pytest.raises(IllegalMove):
        applying.apply(rent, workspace, plan.plan, "ann", execute=True)
    assert rows(rent, "SELECT count(*) FROM recon.audit_log WHERE event = 'standing used'") == [(0,)]


# -- the place of an outside system ----------------------------------------------------------------------

SHOPPED = """\
name: shopped
target: {table: pay, key: id, outside: {system: shop, object: payments, record: shop_id}}
source: {table: lease, key: id}
link: {column: lease_id}
passes: [{name: by_code, on: {code: code}}]
"""


def test_it_is_for_one_place_of_an_outside_system(database: Database, workspace: Workspace, tmp_path: Path) -> None:
    """HCP-13: what was signed for the base of a test covers no plan for another base, and the other way round."""
    execute(
        database,
        "CREATE TABLE lease AS SELECT 1 AS id, 'c' AS code",
        "ALTER TABLE lease ADD PRIMARY KEY (id)",
        "CREATE TABLE pay AS SELECT 1 AS id, 'c' AS code, NULL::int AS lease_id, 'rec1' AS shop_id",
        "ALTER TABLE pay ADD PRIMARY KEY (id)",
    )
    (workspace.root / "reconciliations" / "shopped.yaml").write_text(SHOPPED, encoding="utf-8")
    spec = workspace.spec("shopped")
    here, there = (Shop({"rec1": {"lease_id": None}}) for _ in range(2))
    with installed(tmp_path / "packages"), served(here.app) as here.url, served(there.app) as there.url:

        def settled(shop: Shop) -> Workspace:
            shop.settings(workspace)
            return Workspace(workspace.root)

        def given(at: Workspace, actor: str) -> Standing:
            return standing.give(database, at, "shopped", actor, rows=1, days=1, actions=["link"])

        def refusal(at: Workspace, plan: Plan) -> str:
            with pytest.raises(NotApproved) as error:
                applying.apply(database, at, plan.plan, "ann", execute=True)
            return error.value.why

        elsewhere = given(settled(there), "bob")
        place = {"system": "shop", "object": "payments", "place": f"{there.url}/payments"}
        assert elsewhere.document["outside"] == place
        at = settled(here)
        runs.match(database, spec, "ann")
        plan = plans.make(database, at, spec, "ann")
        assert plan is not None
        assert f"{elsewhere.id} does not cover it: it is for another place of shop" in refusal(at, plan)
        before = given(at, "cleo")
        for older in ({"outside": None}, {"outside": {**before.document["outside"], "object": "others"}}):
            rewrite(database, before, older)
            assert f"{before.id} does not cover it: it " in refusal(at, plan)
        text = before.text.replace(f',"outside":{bundle.canonical(before.document["outside"])}', "")
        assert "outside" not in json.loads(text)
        with database.session() as session:
            session.execute(
                "UPDATE recon.standing_sign_offs SET document = $1, digest = $2 WHERE id = $3",
                text, bundle.digest(text), before.id,
            )  # fmt: skip
        assert f"{before.id} does not cover it: it does not say for which place of shop it is" in refusal(at, plan)
        assert (here.updates, there.updates) == ({}, {})
        good = given(at, "dora")
        assert applying.apply(database, at, plan.plan, "ann", execute=True).changed == 1
        assert (here.updates, there.updates) == ({"rec1": 1}, {})
        # What was written is undone under the one that was good then, and under one of before places were named.
        with database.session() as session:
            session.execute("DELETE FROM recon.standing_sign_offs WHERE id = $1", good.id)
        assert reverting.revert(database, at, plan.plan, "ann", execute=True).state == "reverted"


# -- policy ----------------------------------------------------------------------------------------------


def test_where_two_must_agree_one_standing_sign_off_is_one_voice(
    rent: Database, workspace: Workspace, plan: Plan
) -> None:
    two = policy(workspace, "approvals = 2")
    give(rent, two)
    give(rent, two)  # the same person again
    refused(rent, two, plan, "bob, who is counted already")
    sign_off.approve(rent, two, plan.plan, "Bob")  # a word to this plan is his voice already given
    refused(rent, two, plan, "who is counted already")
    give(rent, two, "cleo")
    assert applying.apply(rent, two, plan.plan, "ann", execute=True).changed == 10


def test_the_giver_does_not_apply_where_policy_keeps_them_apart(
    rent: Database, workspace: Workspace, plan: Plan
) -> None:
    apart = policy(workspace, "applier_may_approve = false")
    give(rent, apart)
    with pytest.raises(NotApproved, match="0 of 1"):
        applying.apply(rent, apart, plan.plan, "bob", execute=True)
    assert applying.apply(rent, apart, plan.plan, "ann", execute=True).changed == 10


def test_policy_limits_how_long_one_holds_and_may_forbid_them(rent: Database, workspace: Workspace, plan: Plan) -> None:
    with pytest.raises(UsageError, match="90 days at most"):
        give(rent, workspace, days=91)
    give(rent, workspace)
    none = policy(workspace, "standing_days = 0")
    refused(rent, none, plan, "it expired")
    with pytest.raises(UsageError):
        give(rent, none, days=1)


@pytest.mark.parametrize(
    "limits", [{"rows": 0}, {"days": 0}, {"actions": []}, {"actions": ["delete"]}, {"actions": ["updat"]}]
)
def test_limits_that_make_no_sense_are_refused(rent: Database, workspace: Workspace, limits: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        give(rent, workspace, **limits)


def test_it_is_withdrawn_once_with_a_reason(rent: Database, workspace: Workspace) -> None:
    given = give(rent, workspace)
    with pytest.raises(UsageError):
        standing.withdraw(rent, RENT, given.id, "bob", " ")
    with pytest.raises(NotFound):
        standing.withdraw(rent, RENT, "nothing", "bob", "x")
    standing.withdraw(rent, RENT, given.id, "bob", "x")
    with pytest.raises(IllegalMove):
        standing.withdraw(rent, RENT, given.id, "cleo", "y")
    assert rows(rent, "SELECT actor FROM recon.audit_log WHERE event = 'standing withdrawn'") == [("bob",)]


# -- signed ----------------------------------------------------------------------------------------------


@needs_ssh_keygen
def test_where_only_signatures_count_it_is_signed_and_verified_at_every_use(
    rent: Database, workspace: Workspace, plan: Plan, tmp_path: Path
) -> None:
    given_by_name = give(rent, workspace, "cleo")
    strict = policy(workspace, "recorded_by_name = false")
    keys = Keys(tmp_path / "keys", strict)
    for name in ("ann", "bob"):
        keys.make(name)
    keys.allow("bob")
    refused(rent, strict, plan, f"{given_by_name.id} does not cover it: it is recorded by name")
    with pytest.raises(NotApproved, match="recorded by name"):
        give(rent, strict)
    with pytest.raises(NotApproved, match="is not listed for bob"):
        give(rent, strict, key=keys.folder / "ann")
    signed = give(rent, strict, rows=9, key=keys.folder / "bob")
    refused(rent, strict, plan, "the plan has 10 rows, it allows 9")
    rewrite(rent, signed, {"caps": {"rows": 99, "tolerance_rows": 0}})
    refused(rent, strict, plan, "does not hold")
    good = give(rent, strict, key=keys.folder / "bob")
    keys.allow("ann")
    refused(rent, strict, plan, "is not listed for bob")
    keys.allow("bob", "ann=bob")
    refused(rent, strict, plan, "listed for ann too")
    keys.allow("bob")
    assert applying.apply(rent, strict, plan.plan, "ann", execute=True).changed == 10
    # Undoing asks whether it was genuine when it was given, not whether the key is valid today.
    yesterday = f"{datetime.now(UTC) - timedelta(days=1):%Y%m%d}"
    strict.signers.write_text(f'bob valid-before="{yesterday}" {keys.public("bob")}\n')
    with pytest.raises(NotApproved):
        reverting.revert(rent, strict, plan.plan, "ann", execute=True)
    tomorrow = f"{datetime.now(UTC) + timedelta(days=2):%Y%m%d}"
    strict.signers.write_text(f'bob valid-before="{tomorrow}" {keys.public("bob")}\n')
    standing.withdraw(rent, RENT, good.id, "bob", "enough")
    assert reverting.revert(rent, strict, plan.plan, "ann", execute=True).restored == 10


# -- the command -----------------------------------------------------------------------------------------


def test_the_command_gives_lists_and_withdraws(database: Database, workspace: Workspace) -> None:
    load_rent_sample(database)
    policy(workspace)

    def run(*arguments: str, user: str = "bob"):
        return recon("standing", RENT, *arguments, "--workspace", str(workspace.root), url=database.url, user=user)

    assert "people approve each plan" in run().out
    made = run("--give", "--rows", "20", "--days", "7", "--action", "link", "--json")
    assert made.code == 0
    document = made.json
    assert (document["caps"]["rows"], document["actions"], document["environment"]) == (20, ["link"], "production")
    assert (document["method"], document["given_by"], document["withdrawn"]) == ("recorded", "bob", None)
    assert [item["id"] for item in run("--json").json["standing"]] == [document["id"]]
    assert document["id"] in run().out
    assert "holds" in run().out
    taken = run("--withdraw", document["id"], "--reason", "done", "--json", user="cleo")
    assert (taken.code, taken.json["withdrawn_by"]) == (0, "cleo")
    assert "withdrawn by cleo" in " ".join(run().out.split())
    assert run("--withdraw", document["id"], "--reason", "done", "--json").code == 4
    for wrong in (
        ["--rows", "5"],
        ["--give", "--rows", "5"],
        ["--give", "--withdraw", "x"],
        ["--give", "--rows", "5", "--days", "1"],
        ["--withdraw", "x"],
        ["--withdraw", "x", "--reason", "y"],
    ):
        assert run(*wrong, "--json").code == 2, wrong
    policy(workspace, "recorded_by_name = false")
    by_name = run("--give", "--rows", "5", "--days", "1", "--action", "link", "--json")
    assert (by_name.code, json.loads(by_name.out)["error"]) == (4, "NotApproved")
