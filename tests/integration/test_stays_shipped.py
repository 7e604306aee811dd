"""What ships for Stays beside its rules: duplicates, checks, the demo, what is to be signed off, queries."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from recon import demonstration, new_workspace, screens_people, whole_way, workflow
from recon.checks import suites
from recon.checks.run import check
from recon.commands import place, standing
from recon.database.connect import Database
from recon.matching import run as runs
from recon.outside.interface import open_feed
from recon.systems import shipped_standing
from recon.systems.stays.sample import PRAIA, SERRA, property_id
from recon.systems.stays.stand_in import stand_in
from recon.workspace import Workspace
from tests.copies import Copies
from tests.support import ROOT, execute

pytestmark = pytest.mark.one_engine

STAYS, DUPLICATES = "stays_reservations", "stays_duplicates"


@pytest.fixture
def stays(database: Database, copies: Copies) -> Database:
    copies.after("stays sample", lambda: workflow.load_sample(database, STAYS))
    return database


def fetch(database: Database, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with database.session(read_only=True) as session:
        session.users_path()
        return session.rows(statement, *values)


# -- duplicates ------------------------------------------------------------------------------------------


def test_duplicates_are_proposed_beside_the_earliest(stays: Database, workspace: Workspace) -> None:
    """RES-14: found by organization, property, check-in and check-out; proposals for review with both side by side."""
    run = runs.match(stays, workspace.spec(DUPLICATES), "ann")
    assert (run.outcomes, run.population) == ({"proposed": 2}, 2)
    pairs = fetch(
        stays,
        "SELECT s.platform, s.external_id, t.platform, t.external_id, d.outcome, d.reason"
        f" FROM recon.decisions_{run.run} AS d JOIN reservations AS t ON t.id = d.target_key"
        " JOIN reservations AS s ON s.id = d.source_key ORDER BY s.external_id",
    )
    assert pairs == [
        ("staysnet", "FR16J", "airbnb", "FR17J", "proposed", "review"),
        ("staysnet", "FR19J", "direct", None, "proposed", "review"),
    ]


def test_three_alike_are_two_proposals_and_nothing_crosses_organizations(
    database: Database, workspace: Workspace, copies: Copies
) -> None:
    """RES-14, RES-15: each later one beside the earliest; never across organizations, and cancelled ones are left out."""
    copies.after("stays sample", lambda: workflow.load_sample(database, STAYS))
    execute(database, "DELETE FROM reservations")
    alike = "INSERT INTO reservations (organization_id, platform, external_id, property_id, check_in, check_out, status, created_at) VALUES "
    days = "'2027-03-01 15:00+00', '2027-03-04 11:00+00'"
    at = property_id(PRAIA, 0)
    execute(
        database,
        alike
        + ", ".join(
            f"('{organization}', '{platform}', '{code}', {house}, {days}, '{status}', '2027-01-01 {hour:02d}:00+00')"
            for organization, platform, code, house, status, hour in [
                (PRAIA.id, "airbnb", "THIRD", at, "pending", 3),
                (PRAIA.id, "staysnet", "FIRST", at, "confirmed", 1),
                (PRAIA.id, "booking", "SECOND", at, "checked_in", 2),
                (PRAIA.id, "booking", "CANCELLED", at, "cancelled", 0),
                (PRAIA.id, "booking", "ELSEWHERE", at + 1, "confirmed", 4),
                (SERRA.id, "booking", "STRANGER", at, "confirmed", 5),  # even with the very same house
            ]
        ),
    )
    run = runs.match(database, workspace.spec(DUPLICATES), "ann")
    pairs = fetch(
        database,
        f"SELECT s.external_id, t.external_id FROM recon.decisions_{run.run} AS d"
        " JOIN reservations AS t ON t.id = d.target_key JOIN reservations AS s ON s.id = d.source_key ORDER BY 2",
    )
    assert (pairs, run.outcomes) == ([("FIRST", "SECOND"), ("FIRST", "THIRD")], {"proposed": 2})
    query = (ROOT / "sql" / "queries" / "stays_duplicates.sql").read_text(encoding="utf-8")
    assert sorted((row[6], row[10]) for row in fetch(database, query)) == pairs
    execute(database, "UPDATE reservations SET status = 'cancelled' WHERE external_id = 'FIRST'")
    assert runs.match(database, workspace.spec(DUPLICATES), "ann").outcomes == {"proposed": 1}


def test_nothing_is_ever_deleted_or_changed_for_a_duplicate(workspace: Workspace) -> None:
    """RES-14: never a bulk DELETE: there is nothing that a plan of it could write."""
    spec = workspace.spec(DUPLICATES)
    assert (spec.link, spec.compare) == (None, {})
    assert all(rule.accept == "review" for rule in spec.passes)
    assert not any((spec.backfill.missing, spec.backfill.changed, spec.backfill.orphan))


# -- checks ----------------------------------------------------------------------------------------------


def test_what_only_finds_ends_its_demo_and_its_run_without_a_plan(
    stays: Database, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RES-14: proposals for people, and a sensible end where there is nothing to plan."""
    page = workspace.reports / "page.html"
    monkeypatch.setattr(demonstration, "report", lambda _database, _workspace, _name, _plan: page)  # pyright: ignore
    told: dict[str, Any] = {}
    document = demonstration._demo(stays, workspace, workspace.spec(DUPLICATES), told.__setitem__)  # pyright: ignore[reportPrivateUsage]
    assert list(told) == ["match", "report"]
    assert (document["plan"], document["verified"]) == (None, None)
    assert document["statistics"]["proposed"] == document["total"] == 2
    way = whole_way.Way(stays, workspace, workspace.spec(DUPLICATES), whole_way.Wish())
    way.match()
    said = way.plan()
    assert isinstance(said, str)
    assert said.startswith("stays_duplicates only finds")
    assert "there is no plan" in str(way.apply())


def test_a_demo_shows_shares_of_what_it_counts() -> None:
    """The numbers of one sentence are of one thing: inserted records make the whole larger."""
    result = {"same_before": 45, "total_before": 60, "same_after": 56, "total": 63, "coverage_before": 0.88}
    result["coverage_after"] = 0.89
    assert place._brought(result) == "45 of 60 → 56 of 63 agree"  # pyright: ignore[reportPrivateUsage]
    assert place._shares(result) == (45 / 60, 56 / 63)  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("name", [STAYS, DUPLICATES])
def test_the_shipped_suite_is_what_the_spec_gives(name: str) -> None:
    kept = (ROOT / "expectations" / f"{name}.json").read_text(encoding="utf-8")
    assert kept == suites.text(suites.derive(Workspace(ROOT).spec(name)))


def test_what_must_never_be_is_found_by_the_checks(stays: Database, workspace: Workspace) -> None:
    """RES-01, RES-04, RES-05, SYN-05: identity, days, status, reasons, absence and PINs are checked on the live tables."""
    spec = workspace.spec(STAYS)
    runs.match(stays, spec, "ann")
    execute(
        stays,
        "ALTER TABLE reservations DROP CONSTRAINT reservations_organization_id_platform_external_id_key",
        "UPDATE reservations SET external_id = NULL WHERE external_id = 'PE00J'",
        "UPDATE reservations SET external_id = 'PE01J', platform = 'airbnb' WHERE external_id IN ('PE01J', 'PE02J')",
        "UPDATE reservations SET check_out = check_in WHERE platform = 'direct' AND status = 'pending'",
        "UPDATE reservations SET status = 'canceled' WHERE external_id = 'PE05J'",
        "UPDATE reservations SET cancellation_reason = NULL WHERE external_id IN ('FM01J', 'FM02J')",
        "UPDATE bronze.stays_reservations SET absent_at = now() WHERE external_id = 'SE05J'",
        "INSERT INTO door_credentials (reservation_id, credential_id, state) SELECT id, 'c' || external_id, 'active'"
        " FROM reservations WHERE external_id IN ('FM03J', 'PE06J')",
        "INSERT INTO door_credentials (reservation_id, credential_id, state) VALUES (gen_random_uuid(), 'gone', 'active')",
        "UPDATE reservations SET cancelled_at = '2020-01-01' WHERE external_id = 'FM03J'",
    )
    found = {item.name: item for item in check(stays, workspace, spec).items}
    assert {name: item.unexpected for name, item in found.items() if item.kind == "never"} == {
        "without_its_identity": 1,
        "leaving_before_it_came": 1,
        "of_an_unknown_status": 1,
        "cancelled_without_time_or_reason": 2,
        "active_and_absent_at_stays": 2,  # FN26J and SE05J
        "opened_by_a_pin_past_its_time": 2,
    }
    assert all(item.status == "failed" for item in found.values() if item.kind == "never")
    assert (found["identity_once"].status, found["identity_once"].unexpected) == ("failed", 2)
    ((nameless,),) = fetch(
        stays, "SELECT id::text FROM reservations WHERE external_id IS NULL AND platform <> 'direct'"
    )
    assert found["without_its_identity"].examples == (nameless,)


# -- around it -------------------------------------------------------------------------------------------


def test_what_ships_to_sign_off_is_for_the_rules_that_ship() -> None:
    """RES-06: runs without a person write in development only, within limits, by rules that were reviewed."""
    found, digest = shipped_standing(STAYS), Workspace(ROOT).spec(STAYS).digest
    assert found is not None
    assert (found.environment, found.actions) == ("development", ("insert", "update", "set"))
    assert found.rules == digest, f"the rules changed: review standing.toml, and write {digest} there"


def test_what_ships_is_told_where_it_holds(
    stays: Database, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """RES-06: nobody is told that people approve each plan where a run may write without them."""
    digest = workspace.spec(STAYS).digest
    monkeypatch.setenv("RECON_ENVIRONMENT", "development")
    screens_people.standing(STAYS, [], digest, standing._ships(stays, workspace, STAYS, digest))  # pyright: ignore
    out = " ".join(capsys.readouterr().out.split())
    assert "One ships with recon (insert, update, set; 10,000 rows; development)" in out
    assert "people approve any other plan" in out
    assert standing._ships(stays, workspace, STAYS, "other rules") is None  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setenv("RECON_ENVIRONMENT", "production")
    assert standing._ships(stays, Workspace(workspace.root), STAYS, digest) is None  # pyright: ignore
    screens_people.standing(STAYS, [], digest, None)
    assert "people approve each plan" in capsys.readouterr().out


def test_the_list_and_a_new_workspace_tell_of_stays(tmp_path: Path) -> None:
    """SYN-10: its settings stand in the example of .env; and the list spells out no query."""
    new_workspace.init(tmp_path / "new")
    example = (tmp_path / "new" / ".env.example").read_text(encoding="utf-8")
    for name in (
        "RECON_STAYS_URL",
        "RECON_STAYS_TOKEN",
        "RECON_STAYS_ORGANIZATIONS",
        "RECON_LOCKS_URL",
        "RECON_JWT_SECRET",
    ):
        assert example.count(f"# {name}=") == 1
    spec = Workspace(ROOT).spec(DUPLICATES)
    assert place._origin(spec.target) == "query (later_reservation)"  # pyright: ignore[reportPrivateUsage]
    assert place._origin(Workspace(ROOT).spec("hcp_jobs").target) == "query of reservations"  # pyright: ignore
    assert place._origin(Workspace(ROOT).spec(STAYS).source) == "stays"  # pyright: ignore[reportPrivateUsage]


def test_follow_ups_are_at_their_times(stays: Database, workspace: Workspace) -> None:
    """SYN-05: PINs are made 2 hours before check-in and revoked 24 hours after check-out, or when it is cancelled."""
    from recon import expressions

    pin, revoke = workspace.spec(STAYS).follow_ups
    assert (pin.job, pin.if_gone, revoke.job, revoke.if_gone) == ("generate_pin", "drop", "revoke_pin", "run")

    def shown(text: str) -> str:
        return expressions.parse(text, "t", allow_now=True).tree.sql("postgres")

    execute(
        stays,
        "UPDATE reservations SET check_in = now() + interval '1 day', check_out = now() + interval '4 days' WHERE"
        " external_id = 'FR04J'",
        "UPDATE reservations SET check_in = now() - interval '9 days', check_out = now() - interval '25 hours' WHERE"
        " external_id = 'FR05J'",
    )
    asked = (
        f"SELECT t.external_id, {shown(pin.at)} - t.check_in, {shown(str(pin.when))}, {shown(revoke.at)} - t.check_out,"
        f" {shown(revoke.at)} = t.cancelled_at FROM reservations AS t WHERE external_id = ANY ($1) ORDER BY 1"
    )
    before, after = -timedelta(hours=2), timedelta(hours=24)
    assert fetch(stays, asked, ["FR04J", "FR05J"]) == [
        ("FR04J", before, True, after, None), ("FR05J", before, False, after, None),
    ]  # fmt: skip
    ((_, _, lives, _, at_once),) = fetch(stays, asked, ["FM01J"])
    assert (lives, at_once) == (False, True)


def test_ready_queries_run(stays: Database, workspace: Workspace) -> None:
    """RES-03, SYN-07: open issues and the run log are ready queries."""
    runs.match(stays, workspace.spec(STAYS), "ann")

    def query(name: str) -> list[tuple[Any, ...]]:
        return fetch(stays, (ROOT / "sql" / "queries" / name).read_text(encoding="utf-8"))

    issues = query("stays_import_issues.sql")
    assert sorted(row[2] for row in issues) == ["FR11J", "FR12J", "FR13J", "FR14J", "FR15J"]
    assert {row[4] for row in issues} == {None, "its platform is none that is known"}
    assert query("stays_sync_runs.sql") == []


def test_the_stand_in_holds_what_stays_gave_of_the_sample(stays: Database) -> None:
    """SYN-02: what is fetched from it is what the sample says, record by record, in every organization."""
    with stand_in(stays) as settings:
        opened = open_feed("stays", settings)
        loaded = {
            (one["organization_id"], one["external_id"]): one for page in opened.pages(None, None) for one in page
        }
        opened.close()
    kept = fetch(
        stays,
        "SELECT organization_id::text, external_id, platform, listing_id, check_in, check_out, status, guest, problem,"
        " updated_at FROM bronze.stays_reservations",
    )
    assert len(kept) == len(loaded) > 50
    names = ("platform", "listing_id", "check_in", "check_out", "status", "guest", "problem", "updated_at")
    for organization, code, *values in kept:
        assert tuple(loaded[organization, code][name] for name in names) == tuple(values)
