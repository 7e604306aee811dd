"""Reservations in step with Stays: what the rules decide and write of the sample, import issues, orphans and loading."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date
from typing import Any

import pytest

from recon import screens_review, whole_way, workflow
from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import review as reviewing
from recon.backfill import sign_off, verify
from recon.backfill.plan import Plan
from recon.database.connect import Database
from recon.matching import run as runs
from recon.matching.pool import Filter
from recon.sources import loading
from recon.stand_ins.faults import Fault
from recon.stand_ins.server import served
from recon.stand_ins.stays import Stays
from recon.systems.stays import sample
from recon.systems.stays.client import COLUMNS
from recon.systems.stays.sample import CASES, PRAIA, SERRA, TEJO, property_id
from recon.workspace import Workspace
from tests.copies import Copies
from tests.support import execute

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
