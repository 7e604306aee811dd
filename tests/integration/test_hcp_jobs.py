"""HousecallPro jobs to reservations: each case of the sample by its name, and what people are told of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import sign_off
from recon.checks import suites
from recon.database.connect import Database
from recon.errors import Stale
from recon.matching import run as runs
from recon.matching.backtest import backtest
from recon.matching.bind import bind
from recon.matching.explain import Explanation, explain
from recon.matching.pairs import listed
from recon.matching.pool import Filter
from recon.matching.run import Run
from recon.matching.what_if import what_if
from recon.systems.hcp_jobs.sample import CASES, Case
from recon.systems.hcp_jobs.stand_in import stand_in
from recon.whole_way import Wish, load_first
from recon.workspace import Workspace
from tests.hcp import HCP, own_spec, sampled
from tests.support import ROOT, execute, rent_spec, rows

pytestmark = pytest.mark.one_engine  # the statements are those of every spec; the sample is what is looked at


@pytest.fixture(scope="module")
def hcp(embedded_url: str) -> Iterator[Database]:
    """The sample, for tests that write nothing to its tables."""
    with sampled(embedded_url) as database:
        yield database


@pytest.fixture(scope="module")
def run(hcp: Database) -> Run:
    return runs.match(hcp, Workspace(ROOT).spec(HCP), "ann")


@pytest.fixture(scope="module")
def decided(hcp: Database, run: Run) -> dict[int, dict[str, Any]]:
    with hcp.session(read_only=True) as session:
        found = listed(session, bind(session, Workspace(ROOT).spec(HCP)), run.run)
    return {row["target_key"]: row for row in found}


def said(row: dict[str, Any]) -> str:
    return row["interpretation"] or row["because"]


# -- the rules -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_sample_is_decided_case_by_case(decided: dict[int, dict[str, Any]], case: Case) -> None:
    """HCP-01, HCP-05, HCP-06, HCP-08: late activation, by hand, one hour inclusive, closest, one to one, partial."""
    row = decided[case.id]
    assert (row["outcome"], row["source_key"]) == (case.outcome, case.job)
    assert row["reason"] == case.reason
    assert row["pass"] == case.rule


def test_what_was_linked_before_stays_linked(decided: dict[int, dict[str, Any]], run: Run) -> None:
    """HCP-04, HCP-10: only reservations without a job id are decided about."""
    assert {decided[number]["outcome"] for number in range(1001, 1073)} == {"linked"}
    assert dict(run.outcomes) == {"linked": 75, "matched": 11, "proposed": 4, "ambiguous": 1, "unmatched": 8}


def test_a_range_of_days_looks_at_those_days_only(hcp: Database) -> None:
    """HCP-04: reservations and jobs of `--from` to `--to`, both days included."""
    found = runs.match(hcp, Workspace(ROOT).spec(HCP), "ann", Filter(from_date="2026-01-12", to_date="2026-01-19"))
    assert found.outcomes["matched"] == 2
    assert found.limited == {"from": "2026-01-12", "to": "2026-01-19"}


def test_history_measures_the_rules(embedded_url: str) -> None:
    """HCP-06: three of 75 known links were a person's choice: a job farther away, one of a tie, one near two stays."""
    with sampled(embedded_url) as database:
        found = backtest(database, Workspace(ROOT).spec(HCP), "ann")
    assert (found.known, found.found_right, found.found_wrong) == (75, 72, 2)
    assert dict(found.not_found) == {"ambiguous": 1, "unmatched": 1}


# -- the window ------------------------------------------------------------------------------------------


def test_a_workspace_widens_the_window_with_a_spec_of_its_own(hcp: Database, tmp_path: Path) -> None:
    """HCP-07: `like: hcp_jobs` and passes with another tolerance; what fell one minute short is found."""
    text = Path(ROOT / "docs" / "hcp_jobs.md").read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    (tmp_path / "reconciliations").mkdir()
    (tmp_path / "reconciliations" / "hcp_jobs_wide.yaml").write_text(text, encoding="utf-8")
    wide = Workspace(tmp_path).spec("hcp_jobs_wide")
    found = runs.match(hcp, wide, "ann")
    with hcp.session(read_only=True) as session:
        matched = {row["target_key"] for row in listed(session, bind(session, wide), found.run, outcomes=["matched"])}
    assert {2013, 2014, 2018} <= matched
    assert wide.link is not None
    assert wide.link.column == "service_job_id"


def test_what_if_shows_what_a_wider_window_would_give(hcp: Database) -> None:
    """HCP-07: the curve names the gain at two hours, and says that the present window is one hour."""
    curve = what_if(hcp, Workspace(ROOT).spec(HCP), "property_and_time").curves[0]
    assert (curve.rule, curve.tolerance) == ("property_and_time", "1 hour")
    gained = {point.factor: point.gained for point in curve.points}
    assert gained[1] == 0
    assert gained[2] >= 3


# -- why not ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        (2012, "property Neubau Süd lacks the HCP customer id and the HCP address id"),
        (2010, "property Turmzimmer lacks the HCP customer id; the address agrees, and the job starts 15 minutes away"),
        (2011, "property Gartenhaus lacks the HCP address id; the customer agrees, and the job starts 10 minutes away"),
        (2013, "nearest job is 1 minute outside the window"),
        (2014, "nearest job is 1 minute outside the window"),
        (2018, "nearest job is 30 minutes outside the window"),
        (2008, "job already taken by reservation 2007 in pass property_and_time"),
        (2022, "job already taken by reservation 2021"),
        (2009, "equally good candidates: a person must choose"),
        (2024, "the job is for this customer at another address, 10 minutes away"),
        (2025, "the job is for another customer at this address, 20 minutes away"),
        (2026, "no job has its hcp_customer_id and hcp_address_id"),
        (2002, "the job starts 25 minutes before the final service time"),
    ],
)
def test_a_decision_says_why_in_words(decided: dict[int, dict[str, Any]], key: int, sentence: str) -> None:
    """HCP-14: an id that the property lacks, minutes outside the window, and who has the job."""
    assert said(decided[key]) == sentence


def test_a_linked_reservation_says_so(decided: dict[int, dict[str, Any]]) -> None:
    """HCP-14: reservation already linked."""
    assert decided[2020]["because"] == "reservation already linked to job job_2020"


def why(database: Database, key: int) -> Explanation:
    with database.session(read_only=True) as session:
        return explain(session, bind(session, Workspace(ROOT).spec(HCP)), str(key))


def test_explain_says_the_same_of_one_reservation(hcp: Database) -> None:
    """HCP-14: `recon explain` names what the property lacks, the minutes, the link, and who has the job."""
    runs.match(hcp, Workspace(ROOT).spec(HCP), "ann")  # it tells by the latest run who took what
    lacking, linked, taken = why(hcp, 2012), why(hcp, 2020), why(hcp, 2008)
    assert lacking.means == "property Neubau Süd lacks the HCP customer id and the HCP address id"
    assert lacking.passes[0].sentence == "The reservation has no hcp_customer_id and no hcp_address_id."
    assert "job_2013, is 1 minute outside 1 hour" in why(hcp, 2013).passes[0].sentence
    assert (linked.link, linked.words) == ("job_2020", ("reservation", "job"))
    assert "job_2022 by reservation 2021" in why(hcp, 2022).passes[0].sentence
    assert "job_2008 by reservation 2007 in pass property_and_time" in taken.passes[0].sentence
    assert taken.decided is not None
    assert taken.decided.because == "job already taken by reservation 2007 in pass property_and_time"


# -- what is written, and what is proven -----------------------------------------------------------------


def test_a_job_id_is_written_where_there_is_none_and_never_over_another(embedded_url: str, tmp_path: Path) -> None:
    """HCP-10: eleven are written; a reservation that took a job meanwhile keeps it, and stops the plan."""
    place = own_spec(tmp_path)
    held = "SELECT id, service_job_id FROM reservations WHERE service_job_id IS NOT NULL"
    with sampled(embedded_url) as database:
        before = dict(rows(database, held))
        runs.match(database, place.spec(HCP), "ann")
        plan = plans.make(database, place, place.spec(HCP), "ann")
        assert plan is not None
        sign_off.approve(database, place, plan.plan, "bob")
        execute(database, "UPDATE reservations SET service_job_id = 'job_by_hand' WHERE id = 2001")
        with pytest.raises(Stale):
            applying.apply(database, place, plan.plan, "ann", execute=True)
        assert dict(rows(database, held)) == before | {2001: "job_by_hand"}
        runs.match(database, place.spec(HCP), "ann")
        plan = plans.make(database, place, place.spec(HCP), "ann")
        assert plan is not None
        sign_off.approve(database, place, plan.plan, "bob")
        assert applying.apply(database, place, plan.plan, "ann", execute=True).changed == 10
        after = dict(rows(database, held))
        jobs = {case.id: case.job for case in CASES if case.outcome == "matched"}
        assert after == before | jobs | {2001: "job_by_hand"}


def test_the_suite_asks_for_right_links_once_each(embedded_url: str) -> None:
    """HCP-06: the suite that ships is what the spec asks for: customer, address, window, one job per reservation."""
    spec = Workspace(ROOT).spec(HCP)
    kept = (ROOT / "expectations" / f"{HCP}.json").read_text(encoding="utf-8")
    assert kept == suites.text(suites.derive(spec))
    names = [item["meta"]["name"] for item in suites.derive(spec)["expectations"]]
    assert names == [
        "coverage", "link_exists", "linked_once", "customer_agrees", "address_agrees", "within_the_window",
    ]  # fmt: skip
    from recon.checks.relation import LINKED_ONCE, checked
    from recon.names import DIALECT

    with sampled(embedded_url) as database:
        execute(database, "UPDATE reservations SET service_job_id = 'job_2020' WHERE id = 2001")
        with database.session(read_only=True) as session:
            found = session.records(checked(bind(session, spec)).sql(DIALECT))
        assert {row["target_key"] for row in found if row[LINKED_ONCE] is False} == {2001, 2020}
        assert next(row for row in found if row["target_key"] == 2008)[LINKED_ONCE] is None


# -- the jobs of these days ------------------------------------------------------------------------------


def test_a_run_fetches_the_jobs_of_its_days_first(embedded_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """HCP-04: with HousecallPro's token set, the jobs of `--from` to `--to` come from its API; others stay as they are."""
    starts = "SELECT id, scheduled_start FROM hcp_jobs WHERE id IN ('job_2001', 'job_2002', 'job_2004') ORDER BY id"
    with sampled(embedded_url) as database:
        before = rows(database, starts)
        with stand_in(database) as variables:
            for name, value in variables.items():
                monkeypatch.setenv(name, value)
            execute(
                database,
                "DELETE FROM hcp_jobs WHERE id = 'job_2001'",
                "UPDATE hcp_jobs SET scheduled_start = NULL WHERE id IN ('job_2002', 'job_2004')",
            )
            wish = Wish(from_day="2026-01-12", to_day="2026-01-19")
            loaded = load_first(database, Workspace(ROOT), Workspace(ROOT).spec(HCP), wish)
        assert loaded is not None
        assert loaded["from"] == "housecallpro"
        days = "SELECT count(*) FROM hcp_jobs WHERE scheduled_start BETWEEN '2026-01-12Z' AND '2026-01-20Z'"
        assert [(number,) for number in loaded["records"].values()] == rows(database, days) == [(5,)]
        assert rows(database, starts) == [*before[:2], ("job_2004", None)]


def test_a_run_without_the_token_says_that_it_matches_what_is_there(
    hcp: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HCP-04: nothing is fetched, and nobody takes the table for what HousecallPro holds now."""
    monkeypatch.delenv("RECON_HOUSECALLPRO_TOKEN", raising=False)
    said = load_first(hcp, Workspace(ROOT), Workspace(ROOT).spec(HCP), Wish())
    assert said is not None
    assert said["said"].startswith("RECON_HOUSECALLPRO_TOKEN is not set: what hcp_jobs holds is matched")
    assert load_first(hcp, Workspace(ROOT), rent_spec(), Wish()) is None


def test_a_spec_of_ones_own_is_not_checked_by_the_rules_of_the_shipped_one(tmp_path: Path) -> None:
    """A workspace's spec of this name that expects less is asked for no more than it says."""
    place = own_spec(tmp_path)
    spec = place.spec(HCP)
    bare = spec.model_copy(update={"expect": spec.expect.model_copy(update={"right": {}, "coverage": None})})
    assert [item["meta"]["name"] for item in suites.load(place, bare)["expectations"]] == ["link_exists", "linked_once"]
    assert "customer_agrees" in [item["meta"]["name"] for item in suites.load(place, spec)["expectations"]]
