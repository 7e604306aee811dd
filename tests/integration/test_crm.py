"""The legacy CRM beside HubSpot: ids as text, proposals, doubles, properties, checks, the ready queries, the demo."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import sql

from recon import demonstration, screens, screens_check, whole_way, workflow
from recon.backfill import plan as plans
from recon.checks import suites
from recon.checks.run import check
from recon.database import embedded
from recon.database.connect import Database
from recon.errors import AlreadyExists, CheckErrored, UsageError
from recon.matching import check as checking
from recon.matching import pairs
from recon.matching import run as runs
from recon.matching.bind import bind
from recon.matching.coverage import statistics
from recon.matching.run import Run
from recon.reports import data, kept
from recon.systems.crm import staging
from recon.systems.crm.sample import KINDS
from recon.workspace import Workspace
from tests.support import ROOT, execute, rows

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code

MEMBERS = ["crm_communications", "crm_companies", "crm_contacts", "crm_deals"]
PLACES = {"crm_companies": 0, "crm_contacts": 1, "crm_deals": 2, "crm_communications": 3}  # in KINDS


def created(url: str) -> Database:
    server = sa.make_url(url).set(drivername="postgresql")
    name = f"crm_{os.urandom(4).hex()}"
    with psycopg.connect(server.render_as_string(hide_password=False), autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return Database(sa.make_url(url).set(database=name).render_as_string(hide_password=False))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("crm"))


@pytest.fixture(scope="module")
def crm(embedded_url: str, home: Workspace) -> Database:
    """The sample of the group, loaded once; tests of this module do not write to it."""
    database = created(embedded_url)
    workflow.load_sample(database, "crm", home)
    return database


@pytest.fixture(scope="module")
def found(crm: Database, home: Workspace) -> dict[str, Run]:
    """A run of each object."""
    return {name: workflow.match(crm, home, home.spec(name), "ann") for name in MEMBERS}


def kind(name: str, *kinds: str) -> int:
    """How many legacy records of these kinds the sample has for an object."""
    return sum(counts[PLACES[name]] for each, counts in KINDS if each in kinds)


def decided(database: Database, home: Workspace, run: Run, *outcomes: str) -> list[dict[str, Any]]:
    with database.session(read_only=True) as session:
        bound = bind(session, home.spec(run.reconciliation))
        return pairs.listed(session, bound, run.run, outcomes=outcomes, limit=1000)


# -- matching --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MEMBERS)
def test_each_object_is_decided_as_its_kinds_say(found: dict[str, Run], name: str) -> None:
    """CRM-01, CRM-03, CRM-09: legacy ids meet icalps ids; domain, e-mail and name only propose; the counts add up."""
    run = found[name]
    assert run.outcomes == {
        "same": kind(name, "same"),
        "changed": kind(name, "changed"),
        "proposed": kind(name, "by_value", "by_name"),
        "ambiguous": kind(name, "doubled"),
        "missing": kind(name, "missing", "zeros", "decimal"),
    }
    assert run.other_side == {"orphan": kind(name, "stranger", "own", "zeros", "decimal")}
    by_pass = {item.name: (item.matched, item.proposed) for item in run.passes}
    assert by_pass["icalps_id"] == (kind(name, "same", "changed"), 0)
    assert by_pass.get("domain", by_pass.get("email", (0, 0))) == (0, kind(name, "by_value"))
    assert by_pass.get("name", by_pass.get("subject")) == (0, kind(name, "by_name"))
    counted = statistics(run.outcomes)
    assert counted["total"] == run.population == sum(counted[part] for part in counted if part != "total")
    assert counted["matched"] == kind(name, "same", "changed")


def test_ids_written_otherwise_are_reported_and_not_equal(
    crm: Database, home: Workspace, found: dict[str, Run]
) -> None:
    """CRM-02: as text 00123 and 123.0 are not 123; `recon check` counts them and says what would make them equal."""
    result = checking.check(crm, home.spec("crm_companies"))
    said = " ".join(f"{item.what} {item.todo}" for item in result.findings if "icalps_company_id" in str(item))
    assert "leading zeros" in said
    assert "end in .0" in said
    assert """with ltrim("Comp_CompanyId"::text, '0')""" in said  # a number has no zeros to take away
    with screens.console.capture() as shown:
        screens_check.checked(result)
    assert "in common" in shown.get()  # long expressions leave the numbers beside them their room
    odd = rows(
        crm,
        "SELECT hs_object_id FROM hubspot.companies WHERE icalps_company_id LIKE '0%' OR icalps_company_id LIKE '%.0'",
    )
    held = {row["target_key"] for row in decided(crm, home, found["crm_companies"], "same", "changed", "proposed")}
    assert len(odd) == 2
    assert not {key for (key,) in odd} & held


def test_a_legacy_id_that_two_records_bear_is_ambiguous_and_meets_none(
    crm: Database, home: Workspace, found: dict[str, Run]
) -> None:
    """CRM-13: duplicates on the HubSpot side are for a person; no pair is made of them, in no pass."""
    doubled = rows(
        crm,
        'SELECT "Pers_PersonId", array_agg(hs_object_id) FROM bronze.person JOIN hubspot.contacts'
        ' ON icalps_contact_id = "Pers_PersonId"::text GROUP BY 1 HAVING count(*) > 1 ORDER BY 1',
    )
    ambiguous = decided(crm, home, found["crm_contacts"], "ambiguous")
    assert sorted(row["source_key"] for row in ambiguous) == [key for key, _ in doubled]
    taken = {row["target_key"] for row in decided(crm, home, found["crm_contacts"], "same", "changed", "proposed")}
    assert not taken & {key for _, keys in doubled for key in keys}


def test_only_records_without_an_icalps_id_are_proposed(crm: Database, home: Workspace, found: dict[str, Run]) -> None:
    """CRM-12: the id pass is for records whose own icalps id is filled, the other passes for those where it is not."""
    for name, column in (("crm_companies", "icalps_company_id"), ("crm_deals", "icalps_deal_id")):
        for row in decided(crm, home, found[name], "proposed"):
            assert row[column] is None
        for row in decided(crm, home, found[name], "same", "changed"):
            assert row[column] == str(row["source_key"])


def test_a_plan_holds_the_mapped_properties_that_differ_and_nothing_proposed(
    crm: Database, home: Workspace, found: dict[str, Run]
) -> None:
    """CRM-04: names, domain, e-mail, amount and subject take the legacy value; a website is its domain."""
    mapping = {name: dict(home.spec(name).compare) for name in MEMBERS}
    assert {name: list(columns) for name, columns in mapping.items()} == {
        "crm_communications": ["hs_engagement_subject"],
        "crm_companies": ["name", "domain"],
        "crm_contacts": ["firstname", "lastname", "email"],
        "crm_deals": ["dealname", "amount"],
    }
    place = home.with_variables({"RECON_HUBSPOT_TOKEN": "never-used"})  # a plan names its place, and asks nothing there
    made = plans.make(crm, place, place.spec("crm_companies"), "ann", run=found["crm_companies"].run)
    assert made is not None
    assert made.rows == kind("crm_companies", "changed")
    assert {name: count for name, count in made.document["passes"].items() if count} == {"icalps_id": made.rows}
    staged = rows(crm, f'SELECT after_1, after_2, source_key FROM recon."staged_{made.plan}"')
    legacy = dict(rows(crm, 'SELECT "Comp_CompanyId", "Comp_Name" FROM bronze.company'))
    assert all(name == legacy[key] for name, _, key in staged)
    assert all(domain.endswith(".example") and "/" not in domain and "www" not in domain for _, domain, _ in staged)


def test_the_ready_queries_answer_on_the_sample(crm: Database, found: dict[str, Run]) -> None:
    """CRM-10: side by side, unmatched contacts, counts by status, and properties to update, newest first."""

    def asked(name: str) -> list[tuple[Any, ...]]:
        return rows(crm, (ROOT / "sql" / "queries" / f"crm_{name}.sql").read_text(encoding="utf-8"))

    matched = asked("matched")
    assert len(matched) == sum(kind(name, "same", "changed") for name in MEMBERS)
    assert all(isinstance(row[1], str) and isinstance(row[2], str) for row in matched)
    unmatched = asked("unmatched_contacts")
    assert len(unmatched) == kind("crm_contacts", "missing", "zeros", "decimal")
    assert all(first and last and "@" in email for _, first, last, email, *_ in unmatched)
    counts = {(thing, status): number for thing, status, number in asked("status")}
    assert counts["contact", "unmatched"] == len(unmatched)
    assert counts["company", "ambiguous"] == kind("crm_companies", "doubled")
    assert counts["deal", "proposed"] == kind("crm_deals", "by_value", "by_name")
    updates = asked("properties_to_update")
    assert len(updates) == sum(kind(name, "changed") for name in MEMBERS)
    assert all(properties for *_, properties, _ in updates)
    assert [row[-1] for row in updates] == sorted((row[-1] for row in updates), reverse=True)


def test_a_report_lists_legacy_records_without_a_partner_by_their_own_columns(
    crm: Database, home: Workspace, found: dict[str, Run]
) -> None:
    """CRM-09: who is not matched is shown by name, on the side that is counted."""
    unmatched = data.gather(crm, home, "crm_contacts").unmatched
    named = [column.name for column in unmatched.columns if column.side == "source"]
    assert named == ["source_key", "Pers_FirstName", "Pers_LastName", "Pers_EmailAddress"]
    assert not [column for column in unmatched.columns if column.side == "target"]
    assert unmatched.total == len(unmatched.records) == found["crm_contacts"].outcomes["missing"]
    assert all(row[name] for row in unmatched.records for name in named)


# -- checks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MEMBERS)
def test_the_shipped_suite_is_what_the_spec_expects(name: str) -> None:
    """CRM-13: coverage, right pairs, one HubSpot record for each legacy one, no icalps id twice."""
    kept = (ROOT / "expectations" / f"{name}.json").read_text(encoding="utf-8")
    suite = suites.derive(Workspace(ROOT).spec(name))
    assert kept == suites.text(suite)
    assert [item["meta"]["name"] for item in suite["expectations"]] == [
        "coverage", "partner_exists", "same_icalps_id", "one_partner", "identity_once"
    ]  # fmt: skip


def test_checks_count_the_pairs_that_were_decided_and_ids_as_they_are_now(
    crm: Database, home: Workspace, found: dict[str, Run]
) -> None:
    """CRM-13: where a spec sets no link its decisions are checked, and ids that two records bear are named."""
    name = "crm_companies"
    result = check(crm, home, home.spec(name))
    items = {item.name: item for item in result.items}
    matched, doubled = kind(name, "same", "changed"), kind(name, "doubled")
    population = found[name].population
    assert items["coverage"].observed.startswith(f"{matched} of {population} ")
    assert items["coverage"].status == "passed"
    assert items["partner_exists"].observed == f"{matched} of {matched} (100.0 %)"
    assert items["same_icalps_id"].status == "passed"
    assert (items["one_partner"].status, items["one_partner"].unexpected) == ("failed", doubled)
    assert (items["identity_once"].status, items["identity_once"].unexpected) == ("failed", 2 * doubled)
    bearers = "SELECT hs_object_id::text FROM hubspot.companies WHERE icalps_company_id IN (SELECT icalps_company_id"
    bearers += " FROM hubspot.companies GROUP BY 1 HAVING count(*) > 1) ORDER BY 1"
    assert items["identity_once"].examples == tuple(key for (key,) in rows(crm, bearers))


def test_what_the_legacy_crm_leaves_empty_clears_nothing(embedded_url: str, tmp_path: Path) -> None:
    """CRM-04, CRM-11: an empty legacy value, NULL or blank, is no difference; what else differs is still sent."""
    database, home = created(embedded_url), Workspace(tmp_path)
    spec = home.spec("crm_companies")
    workflow.load_sample(database, "crm", home)
    before = runs.match(database, spec, "ann")
    null, empty, blank, both = [row["source_key"] for row in decided(database, home, before, "same")][:4]
    renamed = {f"renamed {number}": key for number, key in enumerate((null, empty), start=1)}
    execute(
        database,
        f"""UPDATE bronze.company SET "Comp_WebSite" = NULL WHERE "Comp_CompanyId" IN ({null}, {both})""",
        f"""UPDATE bronze.company SET "Comp_WebSite" = '' WHERE "Comp_CompanyId" = {empty}""",
        f"""UPDATE bronze.company SET "Comp_WebSite" = E' \\u00a0\\n' WHERE "Comp_CompanyId" = {blank}""",
        f"""UPDATE bronze.company SET "Comp_Name" = '' WHERE "Comp_CompanyId" = {both}""",
        *(
            f"""UPDATE bronze.company SET "Comp_Name" = '{name}' WHERE "Comp_CompanyId" = {key}"""
            for name, key in renamed.items()
        ),
    )
    run = workflow.match(database, home, spec, "ann")
    changes = {
        row["source_key"]: row["differences"]
        for row in decided(database, home, run, "same", "changed")
        if row["source_key"] in (null, empty, blank, both)
    }
    assert changes[blank] is None
    assert changes[both] is None
    assert all(changes[key].startswith("name ") and "domain" not in changes[key] for key in renamed.values())
    to_update = rows(
        database,
        "SELECT legacy_company_id, properties_to_update FROM staging.companies_reconciliation"
        f" WHERE legacy_company_id IN ('{null}', '{empty}', '{blank}', '{both}')",
    )
    wanted = {blank: {}, both: {}, **{key: {"name": name} for name, key in renamed.items()}}
    assert dict(to_update) == {str(key): properties for key, properties in wanted.items()}
    plan = plans.make(database, home.with_variables({"RECON_HUBSPOT_TOKEN": "token"}), spec, "ann", run=run.run)
    assert plan is not None
    staged = rows(
        database, f'SELECT source_key, after_1, before_2 IS NOT DISTINCT FROM after_2 FROM recon."staged_{plan.plan}"'
    )
    assert plan.rows == kind("crm_companies", "changed") + 2
    assert {(key, name, kept) for key, name, kept in staged if key in renamed.values()} == {
        (key, name, True) for name, key in renamed.items()
    }
    assert blank not in {key for key, _, _ in staged}


def test_a_blank_icalps_id_is_none_and_one_of_another_type_is_compared_as_text(
    embedded_url: str, tmp_path: Path
) -> None:
    """CRM-02, CRM-03, CRM-12, CRM-16: a mirror may hold '' for nothing, or numbers; two empty values are not equal."""
    database, home = created(embedded_url), Workspace(tmp_path)
    workflow.load_sample(database, "crm", home)
    before = {name: runs.match(database, home.spec(name), "ann").outcomes for name in ("crm_companies", "crm_deals")}
    execute(
        database,
        "UPDATE hubspot.companies SET icalps_company_id = ' ' WHERE icalps_company_id IS NULL",
        "INSERT INTO hubspot.companies (hs_object_id, name, domain) VALUES (1, '-', '')",
        """INSERT INTO bronze.company ("Comp_CompanyId", "Comp_Name", "Comp_WebSite") VALUES (999999, '.', '')""",
        "ALTER TABLE hubspot.deals ALTER icalps_deal_id TYPE bigint USING icalps_deal_id::numeric::bigint",
    )
    with_blanks = runs.match(database, home.spec("crm_companies"), "ann").outcomes
    assert with_blanks == {**before["crm_companies"]} | {"missing": before["crm_companies"]["missing"] + 1}
    with_numbers = runs.match(database, home.spec("crm_deals"), "ann").outcomes
    assert with_numbers["proposed"] == before["crm_deals"]["proposed"]
    assert with_numbers["missing"] == kind("crm_deals", "missing")  # as numbers 00123 and 123.0 are 123
    listed = staging.without_source(database, home.spec("crm_companies"))
    filled = rows(database, "SELECT count(*) FROM hubspot.companies WHERE btrim(icalps_company_id) <> ''")[0][0]
    assert listed == ("staging.companies_reconciliation", filled)
    execute(database, "UPDATE hubspot.companies SET icalps_company_id = ''")
    said = [item for item in checking.check(database, home.spec("crm_companies")).findings if item.severity == "error"]
    assert "icalps_company_id is empty in every target record" in said[0].what


def test_checks_see_a_partner_that_went_and_one_whose_id_changed(embedded_url: str, tmp_path: Path) -> None:
    database, home = created(embedded_url), Workspace(tmp_path)
    spec = home.spec("crm_deals")
    workflow.load_sample(database, "crm", home)
    with pytest.raises(CheckErrored, match="Nothing was decided yet"):
        check(database, home, spec)
    run = runs.match(database, spec, "ann")
    first, second = [row["target_key"] for row in decided(database, home, run, "same")][:2]
    execute(
        database,
        f"DELETE FROM hubspot.deals WHERE hs_object_id = {first}",
        f"UPDATE hubspot.deals SET icalps_deal_id = '1' WHERE hs_object_id = {second}",
    )
    items = {item.name: item for item in check(database, home, spec).items}
    assert items["partner_exists"].unexpected == 1
    assert items["same_icalps_id"].unexpected == 1
    with pytest.raises(AlreadyExists, match=r"hubspot\.companies"):
        workflow.load_sample(database, "crm_deals", home)  # the sample is one for the group


def test_a_sample_of_files_needs_a_workspace(crm: Database) -> None:
    with pytest.raises(UsageError, match="has files"):
        workflow.load_sample(crm, "crm_contacts")


# -- the demo --------------------------------------------------------------------------------------------


SHOWN = ["crm_companies", "crm_deals"]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace whose reports are short and whose group is two of the four: the steps are the same for each."""
    notebook = json.loads((ROOT / "notebooks" / "reconciliation_report.ipynb").read_text(encoding="utf-8"))
    parameters = next(cell for cell in notebook["cells"] if "parameters" in cell["metadata"].get("tags", []))
    (tmp_path / "notebooks").mkdir()
    short = json.dumps({**notebook, "cells": [parameters]})
    (tmp_path / "notebooks" / "reconciliation_report.ipynb").write_text(short, encoding="utf-8")
    (tmp_path / "reconciliations").mkdir()
    for name in MEMBERS:
        if name not in SHOWN:
            text = (ROOT / "recon" / "systems" / "crm" / f"{name}.yaml").read_text(encoding="utf-8")
            own = tmp_path / "reconciliations" / f"{name}.yaml"
            own.write_text(text.replace("\ngroup: crm\n", "\ngroup: others\n"), encoding="utf-8")
    yield Workspace(tmp_path)
    embedded.discard(tmp_path / ".recon")


def test_the_demo_brings_every_object_to_the_legacy_values_and_proves_it(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CRM-08: one command reconciles all of a group, offline: whatever HubSpot the environment names is not asked."""
    monkeypatch.setenv("RECON_HUBSPOT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("RECON_HUBSPOT_TOKEN", "of-production")
    told: list[tuple[str, str]] = []
    document = demonstration.demo_group(place, "crm", lambda name, step, result: told.append((name, step)))
    assert told[0] == ("crm", "load")
    assert [item["reconciliation"] for item in document["members"]] == place.members("crm") == SHOWN
    for item in document["members"]:
        name = item["reconciliation"]
        assert item["verified"]
        assert (item["same_before"], item["same_after"]) == (kind(name, "same"), kind(name, "same", "changed"))
        assert item["linked_after"] == item["statistics"]["matched"] == kind(name, "same", "changed")
        assert Path(item["report"]).is_file()
        assert (Path(item["bundle"]) / "plan.json").is_file()
        assert (name, "verify") in told
    assert (place.root / "bronze" / "Bronze_Person.csv").is_file()


def test_a_run_whose_outside_system_is_not_set_up_ends_before_any_work(crm: Database, home: Workspace) -> None:
    with pytest.raises(UsageError, match="RECON_HUBSPOT_TOKEN is not set"):
        whole_way.run(crm, home, "crm_companies", whole_way.Wish())
    assert not kept.history(crm, "crm_companies")
