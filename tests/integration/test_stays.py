"""Reservations in step with Stays: what the rules decide and write of the sample, import issues, duplicates and checks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, timedelta
from pathlib import Path
from typing import Any

import pytest

from recon import screens_people, screens_review, whole_way, workflow
from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import review as reviewing
from recon.backfill import sign_off, verify
from recon.backfill.plan import Plan
from recon.checks import suites
from recon.checks.run import check
from recon.commands import place, standing
from recon.database.connect import Database
from recon.matching import run as runs
from recon.matching.pool import Filter
from recon.outside.interface import open_feed
from recon.sources import loading
from recon.stand_ins.faults import Fault
from recon.stand_ins.server import served
from recon.stand_ins.stays import Stays
from recon.systems import shipped_standing
from recon.systems.stays import sample
from recon.systems.stays.client import COLUMNS
from recon.systems.stays.sample import CASES, PRAIA, SERRA, TEJO, property_id
from recon.systems.stays.stand_in import stand_in
from recon.workspace import Workspace
from tests.copies import Copies
from tests.support import ROOT, execute

pytestmark = pytest.mark.one_engine

STAYS, DUPLICATES = "stays_reservations", "stays_duplicates"
OPEN = "SELECT source_key[3], issue FROM recon.import_issues WHERE reconciliation = $1 AND state = 'open' ORDER BY 1, 2"
BY_CODE = "SELECT external_id, status, cancelled_at IS NOT NULL, cancellation_reason FROM reservations WHERE external_id = ANY ($1)"
FOUND, GONE = "RECONCILIATION: Cancelled in source system", "RECONCILIATION: Reservation not found in source (orphan)"


@pytest.fixture
def stays(database: Database, copies: Copies) -> Database:
    copies.after("stays sample", lambda: workflow.load_sample(database, STAYS))
    return database


@pytest.fixture
def planned(stays: Database, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr("recon.backfill.absences.LOOK_SECONDS", 0.0)
    spec = workspace.spec(STAYS)
    runs.match(stays, spec, "ann")
    made = plans.make(stays, workspace, spec, "ann")
    assert made is not None
    return made


@pytest.fixture
def applied(stays: Database, workspace: Workspace, planned: Plan) -> Database:
    sign_off.approve(stays, workspace, planned.plan, "bob")
    applying.apply(stays, workspace, planned.plan, "bob", execute=True)
    return stays


def fetch(database: Database, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with database.session(read_only=True) as session:
        session.users_path()
        return session.rows(statement, *values)


# -- the sample ------------------------------------------------------------------------------------------


def test_the_sample_is_equal_on_every_call() -> None:
    assert sample.tables() == sample.tables()


def test_every_case_is_decided_as_it_says(stays: Database, workspace: Workspace) -> None:
    """SYN-03, RES-02, RES-04: new, changed, unchanged, orphan, invalid, and direct bookings that have no source."""
    run = runs.match(stays, workspace.spec(STAYS), "ann")
    decided = dict(
        fetch(
            stays,
            f"SELECT coalesce(t.external_id, d.source_key_3), d.outcome FROM recon.decisions_{run.run} AS d"
            " LEFT JOIN reservations AS t ON t.id = d.target_key",
        )
    )
    expected = {case.code: case.outcome for case in CASES if case.code}
    invalid = {case.code for case in CASES if case.outcome == "invalid" and not case.here}
    assert {code: outcome for code, outcome in decided.items() if code in expected} == {
        code: outcome for code, outcome in expected.items() if code not in invalid or code in decided
    }
    assert {outcome for code, outcome in decided.items() if code not in expected} == {"same"}


def test_every_case_is_written_as_it_says(applied: Database, workspace: Workspace, planned: Plan) -> None:
    """SYN-03: new → insert, changed → update, unchanged → nothing; RES-05: orphans and cancellations with their reasons."""
    counts = {action: sum(case.action == action for case in CASES) for action in ("insert", "update", "set")}
    assert planned.rows == sum(counts.values()) == 12
    for case in CASES:
        if case.there and case.outcome != "invalid":
            (row,) = fetch(
                applied,
                "SELECT status, check_in, check_out, property_id, guest FROM reservations"
                " WHERE organization_id = $1::uuid AND external_id = $2",
                case.organization.id, case.code,
            )  # fmt: skip
            assert case.there.house is not None
            moments = tuple(at.astimezone(UTC) for at in sample._moments(case.organization, case.there))  # pyright: ignore
            house = property_id(case.organization, case.there.house)
            assert (row[0], row[1].astimezone(UTC), row[2].astimezone(UTC), row[3], row[4]) == (
                case.there.status, *moments, house, case.there.guest,
            ), case.name  # fmt: skip
    written = {code: tuple(rest) for code, *rest in fetch(applied, BY_CODE, [case.code for case in CASES])}
    assert written["FN26J"] == ("cancelled", True, GONE)
    assert {written[code] for code in ("FP20J", "FP16J", "FO24J", "FR03J")} == {("cancelled", True, FOUND)}
    assert {written[f"FM0{number}J"] for number in range(1, 6)} == {("cancelled", True, "Cancelled by the guest")}
    assert written["FR09J"] == ("confirmed", False, None)  # it lives again
    assert fetch(
        applied, "SELECT count(*) FROM reservations WHERE platform = 'direct' AND updated_at > created_at"
    ) == [(0,)]
    assert verify.verify(applied, workspace, planned.plan).right
    again = runs.match(applied, workspace.spec(STAYS), "ann")
    assert (again.outcomes.get("changed", 0), again.other_side.get("missing", 0)) == (0, 0)


def test_a_record_is_known_by_organization_platform_and_code(stays: Database, workspace: Workspace) -> None:
    """RES-01, RES-15: the same code in another organization or on another platform is another reservation."""
    execute(
        stays,
        "INSERT INTO bronze.stays_reservations SELECT (jsonb_populate_record(b, jsonb_build_object('organization_id',"
        f" '{SERRA.id}', 'listing_id', 'SL01I'))).* FROM bronze.stays_reservations AS b WHERE external_id = 'FR05J'",
        'INSERT INTO bronze.stays_reservations SELECT (jsonb_populate_record(b, \'{"platform": "airbnb"}\')).*'
        f" FROM bronze.stays_reservations AS b WHERE external_id = 'FR05J' AND organization_id = '{PRAIA.id}'",
    )
    run = runs.match(stays, workspace.spec(STAYS), "ann")
    found = fetch(
        stays,
        f"SELECT source_key_1::text, source_key_2, outcome FROM recon.decisions_{run.run} WHERE source_key_3 = 'FR05J'"
        " ORDER BY outcome, 1",
    )
    assert found == [
        (PRAIA.id, "staysnet", "changed"), (PRAIA.id, "airbnb", "missing"), (SERRA.id, "staysnet", "missing"),
    ]  # fmt: skip


def test_what_the_list_lacks_takes_no_part(stays: Database, workspace: Workspace) -> None:
    """RES-04: a row of the landing table that is marked absent is no source any more."""
    execute(stays, "UPDATE bronze.stays_reservations SET absent_at = now() WHERE external_id = 'FR05J'")
    run = runs.match(stays, workspace.spec(STAYS), "ann")
    assert run.outcomes["orphan"] == 7


def test_a_list_without_guests_says_nothing_of_them(stays: Database, workspace: Workspace) -> None:
    execute(stays, "UPDATE bronze.stays_reservations SET guest = NULL WHERE external_id = 'FR06J'")
    assert runs.match(stays, workspace.spec(STAYS), "ann").outcomes["changed"] == 7


# -- import issues ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("here", ["checked_in", "checked_out"])
def test_an_arrival_noted_here_is_not_set_back_to_a_booking(stays: Database, workspace: Workspace, here: str) -> None:
    """SYN-03, RES-04: what moves is written and the status stays; a cancellation at Stays is one all the same."""
    by_code = "SELECT external_id, status FROM reservations WHERE external_id = ANY ($1) ORDER BY 1"
    codes = ["FP20J", "FR04J", "FR08J"]  # cancelled at Stays; check-in moved there; the same on both sides
    execute(stays, f"UPDATE reservations SET status = '{here}' WHERE external_id = ANY ('{{FP20J,FR04J,FR08J}}')")
    spec = workspace.spec(STAYS)
    run = runs.match(stays, spec, "ann")
    outcomes = fetch(
        stays,
        f"SELECT t.external_id, d.outcome FROM recon.decisions_{run.run} AS d JOIN reservations AS t ON t.id = d.target_key"
        " WHERE t.external_id = ANY ($1) ORDER BY 1",
        codes,
    )
    assert outcomes == [("FP20J", "changed"), ("FR04J", "changed"), ("FR08J", "same")]
    made = plans.make(stays, workspace, spec, "ann")
    assert made is not None
    sign_off.approve(stays, workspace, made.plan, "bob")
    applying.apply(stays, workspace, made.plan, "bob", execute=True)
    assert verify.verify(stays, workspace, made.plan).right
    assert dict(fetch(stays, by_code, codes)) == {"FP20J": "cancelled", "FR04J": here, "FR08J": here}
    moved = fetch(stays, "SELECT t.check_in = s.check_in FROM reservations t JOIN bronze.stays_reservations s"
                         " USING (organization_id, platform, external_id) WHERE external_id = 'FR04J'")  # fmt: skip
    assert moved == [(True,)]


def test_what_fails_validation_is_an_import_issue_and_is_never_written(applied: Database) -> None:
    """RES-02, RES-03: what fails becomes an import issue with the reason, is skipped, never half-saved."""
    assert fetch(applied, OPEN, STAYS) == [
        ("FR11J", "missing property mapping"),
        ("FR12J", "missing property mapping"),
        ("FR13J", "check-in not before check-out"),
        ("FR14J", "check-in not before check-out"),
        ("FR15J", "the record cannot be read"),
    ]
    assert fetch(applied, BY_CODE, ["FR11J", "FR12J", "FR13J", "FR15J"]) == []
    ((status, check_in),) = fetch(
        applied, "SELECT status, check_in < check_out FROM reservations WHERE external_id = 'FR14J'"
    )
    assert (status, check_in) == ("confirmed", True)


def test_mending_the_mapping_closes_the_issue_and_lets_the_record_in(
    stays: Database, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RES-03: fixing the mapping and re-running closes it."""
    monkeypatch.setattr("recon.backfill.absences.LOOK_SECONDS", 0.0)
    spec = workspace.spec(STAYS)
    before = runs.match(stays, spec, "ann")
    assert ("FR12J", "missing property mapping") in fetch(stays, OPEN, STAYS)
    # The listing of another organization is no mapping.
    execute(stays, f"UPDATE properties SET stays_listing_id = 'SL04I' WHERE id = {property_id(TEJO, 2)}")
    runs.match(stays, spec, "ann")
    assert ("FR12J", "missing property mapping") in fetch(stays, OPEN, STAYS)
    execute(stays, f"UPDATE properties SET stays_listing_id = 'SL04I' WHERE id = {property_id(SERRA, 3)}")
    after = runs.match(stays, spec, "ann")
    assert ("FR12J", "missing property mapping") not in fetch(stays, OPEN, STAYS)
    assert after.other_side["missing"] == before.other_side["missing"] + 1
    closed = "SELECT state, closed_at IS NOT NULL FROM recon.import_issues WHERE source_key[3] = 'FR12J'"
    assert fetch(stays, closed) == [("closed", True)]


@pytest.mark.parametrize(
    ("mend", "issue"),
    [
        ("problem = 'its type is none that is known', status = NULL", ["the record cannot be read", "unknown status"]),
        ("status = 'canceled'", ["unknown status"]),
        ("check_out = check_in", ["check-in not before check-out"]),
        ("check_in = NULL", ["check-in not before check-out"]),
        ("listing_id = NULL", ["missing property mapping"]),
    ],
)
def test_each_rule_has_its_own_issue(stays: Database, workspace: Workspace, mend: str, issue: list[str]) -> None:
    """RES-02: property present, check_in < check_out, status in its list; RES-03: each with its reason."""
    execute(stays, f"UPDATE bronze.stays_reservations SET {mend} WHERE external_id = 'FP20J'")
    run = runs.match(stays, workspace.spec(STAYS), "ann")
    assert [said for code, said in fetch(stays, OPEN, STAYS) if code == "FP20J"] == issue
    assert run.outcomes["invalid"] == 2


# -- orphans ---------------------------------------------------------------------------------------------


def test_only_what_is_active_can_be_an_orphan(planned: Plan, stays: Database) -> None:
    """RES-04, RES-05, RES-16: of six that Stays lacks five are cancelled already; exactly FN26J is taken for an orphan."""
    assert planned.document["orphans"]["scopes"] == [{"scope": PRAIA.id, "records": 21, "orphans": 1, "allowed": 10}]


def test_a_reviewer_reads_of_each_row_what_it_is(planned: Plan, stays: Database, workspace: Workspace) -> None:
    """RES-05: what is inserted or cancelled has its sentence as what is updated has, and private values in none."""
    found = reviewing.collect(stays, workspace, planned.plan)
    said = {group.action: [row.interpretation for row in group.sample] for group in found.contents.groups}
    assert said["set"] == ["FN26J (staysnet) is not at Stays, and confirmed here"]
    assert sorted(map(str, said["insert"])) == [
        f"at Stays ({status}), not here yet" for status in ("cancelled", "confirmed", "pending")
    ]
    assert None not in said["update"]
    # The page shows of each action the columns that it writes, and calls nothing empty that it does not touch.
    page = (planned.bundle / "review.html").read_text(encoding="utf-8")
    headings = {
        action: page.split(f'<span class="quiet">{action} ')[1].split("</thead>")[0]
        for action in ("update", "insert", "set")
    }
    assert [name for name, head in headings.items() if ">organization_id</th>" in head] == ["insert"]
    assert [name for name, head in headings.items() if ">check_in</th>" in head] == ["update", "insert"]
    assert all(">status</th>" in head for head in headings.values())


def test_who_does_not_ask_stays_cancels_nothing(stays: Database, workspace: Workspace) -> None:
    """RES-06: `recon plan` and `recon run` go by what was fetched last, and a list alone confirms no absence."""
    execute(
        stays, "UPDATE bronze.stays_reservations SET absent_at = now() WHERE external_id = 'FR08J'"
    )  # a list that erred
    way = whole_way.Way(stays, workspace, workspace.spec(STAYS), whole_way.Wish("execute"))
    way.match()
    way.plan()
    assert way.made is not None
    assert way.made.document["actions"] == {"insert": 3, "update": 8}
    assert way.made.document["left_out"] == {"set: the source did not say": 2}


def test_a_plan_of_one_organization_says_so_to_its_reviewer(
    stays: Database, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """RES-15: screen, page and document name the organization that a plan is of."""
    monkeypatch.setattr("recon.backfill.absences.LOOK_SECONDS", 0.0)
    spec = workspace.spec(STAYS)
    run = runs.match(stays, spec, "ann", Filter(scope=PRAIA.id))
    made = plans.make(stays, workspace, spec, "ann", run=run.run, allow_limited=True)
    assert made is not None
    said = f"all records of {PRAIA.id}, and of no other"
    found = reviewing.collect(stays, workspace, made.plan)
    screens_review.review(found, scripts=False)
    assert f"looks at  {said}" in capsys.readouterr().out
    assert f"which looked at {said}" in (made.bundle / "review.html").read_text(encoding="utf-8")
    assert found.as_dict()["limited"] == {"scope": PRAIA.id}


@pytest.mark.parametrize(("gone", "refused"), [(9, False), (10, True)])
def test_the_cap_holds_for_each_organization(
    stays: Database, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, gone: int, refused: bool
) -> None:
    """RES-06, RES-15: ten or 5 %, whichever is more, in one organization; the others' are counted apart."""
    from recon.errors import OverCap

    monkeypatch.setattr("recon.backfill.absences.LOOK_SECONDS", 0.0)
    absent = (
        "UPDATE bronze.stays_reservations SET absent_at = now() WHERE (organization_id, platform, external_id) IN (SELECT"
        " organization_id, platform, external_id FROM reservations WHERE organization_id = '{}' AND status = 'confirmed'"
        " AND external_id LIKE '_E%' ORDER BY external_id LIMIT {})"
    )
    execute(stays, absent.format(PRAIA.id, gone), absent.format(TEJO.id, 3))
    spec = workspace.spec(STAYS)
    runs.match(stays, spec, "ann")
    if refused:
        with pytest.raises(OverCap, match="11 of 21 records, 10 allowed"):
            plans.make(stays, workspace, spec, "ann")
        return
    made = plans.make(stays, workspace, spec, "ann")
    assert made is not None
    assert [(part["scope"], part["orphans"]) for part in made.document["orphans"]["scopes"]] == [
        (PRAIA.id, 10), (TEJO.id, 3),
    ]  # fmt: skip


# -- loading ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Stays, str]]:
    found = Stays([PRAIA.id, SERRA.id])
    with served(found.app) as url:
        yield found, url


def test_a_load_brings_what_stays_has_into_the_landing_table(
    stays: Database, workspace: Workspace, server: tuple[Stays, str]
) -> None:
    """SYN-02, SYN-10: fetched into staging by the settings of the environment; ours stays ours (absent_at)."""
    found, url = server
    found.add(PRAIA.id, "NEW1", check_in="2027-02-01", check_out="2027-02-03", listing="PL01I", price=12.5)
    found.add(PRAIA.id, "FP20J", check_in="2027-02-02", check_out="2027-02-05", listing="PL01I")
    found.add(SERRA.id, "ODD", check_in="someday", partner="Expedia")
    found.add(SERRA.id, "LATE", check_in="2028-02-02", check_out="2028-02-05")
    execute(stays, "UPDATE bronze.stays_reservations SET absent_at = '2027-01-01' WHERE external_id = 'FP20J'")
    written = "".join(f"{name}={value}\n" for name, value in found.settings(url).items())
    (workspace.root / ".env").write_text(written, encoding="utf-8")
    place = Workspace(workspace.root)
    counts = loading.load(stays, place, [place.spec(STAYS)], date(2027, 1, 1), date(2027, 12, 31))
    assert counts == {"bronze.stays_reservations": 3}
    kept = fetch(
        stays,
        "SELECT external_id, platform, status, problem, raw ->> 'price', absent_at IS NOT NULL, organization_id::text"
        " FROM bronze.stays_reservations WHERE external_id IN ('NEW1', 'FP20J', 'ODD', 'LATE') ORDER BY 1",
    )
    assert kept == [
        ("FP20J", "staysnet", "confirmed", None, None, True, PRAIA.id),
        ("NEW1", "staysnet", "confirmed", None, "12.5", False, PRAIA.id),
        (
            "ODD", "expedia", "confirmed",
            "its platform is none that is known; its checkInDate or checkInTime is no time", None, False, SERRA.id,
        ),
    ]  # fmt: skip
    found.faults.add(*[Fault(503)] * 3)
    with pytest.raises(Exception, match="did not answer"):
        loading.load(stays, place, [place.spec(STAYS)])


def test_the_landing_table_has_the_columns_of_the_feed(stays: Database) -> None:
    found = dict(
        fetch(
            stays,
            "SELECT column_name, udt_name FROM information_schema.columns WHERE table_schema = 'bronze'"
            " AND table_name = 'stays_reservations'",
        )
    )
    assert found == {**COLUMNS, "absent_at": "timestamptz"}


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
    monkeypatch.setattr(workflow, "report", lambda _database, _workspace, _name: page)  # pyright: ignore
    told: dict[str, Any] = {}
    document = workflow._demo(stays, workspace, workspace.spec(DUPLICATES), told.__setitem__)  # pyright: ignore[reportPrivateUsage]
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
    workflow.init(tmp_path / "new")
    example = (tmp_path / "new" / ".env.example").read_text(encoding="utf-8")
    for name in (
        "RECON_STAYS_URL",
        "RECON_STAYS_TOKEN",
        "RECON_STAYS_ORGANIZATIONS",
        "RECON_LOCKS_URL",
        "RECON_JWT_SECRET",
    ):
        assert f"# {name}=" in example
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
