"""Schema staging: what people of the CRM query after each run, and the log of all runs."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from recon import systems, workflow
from recon.database.connect import Database
from recon.errors import DatabaseFailed, NotLoaded, SpecError
from recon.matching import overrides
from recon.matching.pool import Filter
from recon.spec import Reconciliation
from recon.systems.crm import staging
from recon.workspace import Workspace
from tests.support import execute, rows

pytestmark = pytest.mark.one_engine

OUTSIDE = {"system": "hubspot", "object": "x"}
SIDES: dict[str, tuple[str, str, str, str, dict[str, str], dict[str, str]]] = {
    # spec: HubSpot's table and its column of the legacy id, the file and its key, its columns, what is compared
    "crm_companies": ("hubspot.companies", "icalps_company_id", "Company", "Comp_CompanyId", {"Comp_Name": "text", "Comp_WebSite": "text"}, {"name": "Comp_Name", "domain": "Comp_WebSite"}),
    "crm_contacts": ("hubspot.contacts", "icalps_contact_id", "Person", "Pers_PersonId", {"Pers_FirstName": "text", "Pers_LastName": "text"}, {"firstname": "Pers_FirstName", "lastname": "Pers_LastName"}),
    "crm_deals": ("hubspot.deals", "icalps_deal_id", "Opportunity", "Oppo_OpportunityId", {"Oppo_Description": "text", "Oppo_Forecast": "numeric(14,2)"}, {"dealname": "Oppo_Description", "amount": "Oppo_Forecast"}),
    "crm_communications": ("hubspot.engagements", "icalps_communication_id", "Communication", "Comm_CommunicationId", {"Comm_Subject": "text"}, {"hs_engagement_subject": "Comm_Subject"}),
}  # fmt: skip


def crm_spec(name: str = "crm_companies", **fields: Any) -> Reconciliation:
    """A small spec of an object of the CRM."""
    table, said, file, key, columns, compare = SIDES[name]
    usual = {
        "name": name,
        "group": "crm",
        "population": "source",
        "target": {"table": table, "key": "hs_object_id", "outside": OUTSIDE},
        "source": {"file": f"bronze/Bronze_{file}.csv", "key": key, "columns": {key: "integer", **columns}},
        "cardinality": "one_to_one",
        "passes": [
            {"name": "icalps_id", "on": {said: key}, "compare_as": "text"},
            {"name": "name", "on": {f"lower({next(iter(compare))})": f"lower({next(iter(columns))})"}, "when": f"t.{said} is null", "accept": "review", "confidence": "0.6"},
        ],
        "compare": compare,
        "backfill": {"changed": {"update": "all"}},
    }  # fmt: skip
    return Reconciliation.model_validate(usual | fields)


@pytest.fixture
def crm(database: Database, workspace: Workspace) -> Database:
    """HubSpot's companies, and the legacy file of them loaded."""
    execute(
        database,
        "CREATE SCHEMA hubspot",
        "CREATE TABLE hubspot.companies (hs_object_id bigint PRIMARY KEY, icalps_company_id text, name text, domain text)",
        """INSERT INTO hubspot.companies VALUES
            (901, '1', 'Alpha', 'alpha.example'), (902, '2', 'Beta old', 'beta.example'), (903, NULL, 'gamma', NULL),
            (904, '4', 'Delta', NULL), (905, '4', 'Delta too', NULL), (906, '99', 'Stranger', NULL), (907, NULL, NULL, NULL)""",
    )
    bronze = "Comp_CompanyId,Comp_Name,Comp_WebSite\n1,Alpha,alpha.example\n2,Beta,beta.example\n3,Gamma,\n4,Delta,\n5,Epsilon,\n"
    _load(database, workspace, bronze)
    return database


def _load(database: Database, workspace: Workspace, content: str) -> None:
    from recon.sources import files

    (workspace.root / "bronze").mkdir(exist_ok=True)
    (workspace.root / "bronze" / "Bronze_Company.csv").write_text(content)
    files.load(database, workspace.root, crm_spec().source)


def _listed(database: Database) -> dict[tuple[str | None, str | None], tuple[Any, ...]]:
    found = rows(
        database,
        "SELECT legacy_company_id, hubspot_company_id, legacy_name, hubspot_name, reconciliation_status,"
        " match_confidence, properties_to_update FROM staging.companies_reconciliation",
    )
    assert len({row[:2] for row in found}) == len(found)
    return {row[:2]: row[2:] for row in found}


def _log(database: Database, columns: str) -> list[tuple[Any, ...]]:
    return rows(database, f"SELECT {columns} FROM staging.reconciliation_log ORDER BY started_at")


def test_every_record_is_listed_with_its_partner_status_and_properties(crm: Database, workspace: Workspace) -> None:
    """CRM-05, CRM-01, CRM-09: the staging relation and the log hold what a run decided, in the words people know."""
    run = workflow.match(crm, workspace, crm_spec(), "ann")
    one, nothing = Decimal("1.000"), {}
    assert _listed(crm) == {
        ("1", "901"): ("Alpha", "Alpha", "matched", one, nothing),
        ("2", "902"): ("Beta", "Beta old", "matched", one, {"name": "Beta"}),
        ("3", "903"): ("Gamma", "gamma", "proposed", Decimal("0.600"), nothing),
        ("4", None): ("Delta", None, "ambiguous", None, nothing),
        ("5", None): ("Epsilon", None, "unmatched", None, nothing),
        ("99", "906"): (None, "Stranger", "hubspot_only", None, nothing),
        (None, "907"): (None, None, "hubspot_only", None, nothing),
    }
    columns = "run, object, reconciliation, actor, total, matched, unmatched, proposed, ambiguous, errors, hubspot_only, properties_to_update, limited, completed_at >= started_at"
    assert _log(crm, columns) == [
        (run.run, "companies", "crm_companies", "ann", 5, 2, 1, 1, 1, 0, 2, 1, None, True)
    ]  # fmt: skip


def test_a_second_run_replaces_its_rows_and_the_log_keeps_both(crm: Database, workspace: Workspace) -> None:
    """CRM-06: a re-run replaces its own rows, by run id and without a conflict; history stays in the log."""
    workflow.match(crm, workspace, crm_spec(), "ann")
    when = "SELECT legacy_company_id, last_updated FROM staging.companies_reconciliation WHERE legacy_company_id IN ('1', '2')"
    before, first = dict(rows(crm, when)), _listed(crm)
    again = workflow.match(crm, workspace, crm_spec(), "ann")
    assert _listed(crm) == first
    assert rows(crm, "SELECT DISTINCT run FROM staging.companies_reconciliation") == [(again.run,)]
    assert dict(rows(crm, when)) == before  # nothing in them changed
    execute(crm, "UPDATE hubspot.companies SET name = 'Beta' WHERE hs_object_id = 902", "DELETE FROM hubspot.companies WHERE hs_object_id IN (905, 907)")  # fmt: skip
    execute(crm, 'DELETE FROM bronze.company WHERE "Comp_CompanyId" = 5')
    workflow.match(crm, workspace, crm_spec(), "ann")
    listed, after = _listed(crm), dict(rows(crm, when))
    assert listed["2", "902"][-1] == {}
    assert listed["4", "904"][2] == "matched"
    assert {("5", None), (None, "907"), ("4", None)}.isdisjoint(listed)
    assert after["1"] == before["1"]
    assert after["2"] > before["2"]
    assert [row[0] for row in _log(crm, "matched")] == [2, 2, 3]


def test_a_limited_run_writes_only_what_it_decided(crm: Database, workspace: Workspace) -> None:
    """CRM-06, CRM-08: a run of some records leaves the rows of the others as they are."""
    whole = workflow.match(crm, workspace, crm_spec(), "ann")
    execute(crm, "UPDATE hubspot.companies SET icalps_company_id = '1' WHERE hs_object_id = 907", "UPDATE hubspot.companies SET icalps_company_id = NULL WHERE hs_object_id = 901")  # fmt: skip
    few = workflow.match(crm, workspace, crm_spec(), "ann", Filter(limit=1))
    assert few.population == 1
    listed = _listed(crm)
    assert listed["1", "907"][2] == "matched"
    assert (None, "907") not in listed  # it has a partner now
    assert len(listed) == 6
    by_run = dict(rows(crm, "SELECT run, count(*) FROM staging.companies_reconciliation GROUP BY 1"))
    assert by_run == {whole.run: 5, few.run: 1}
    limited = _log(crm, "limited, total, hubspot_only")
    assert limited[1] == ({"limit": 1}, 1, None)


def test_people_and_rules_of_validity_are_seen(crm: Database, workspace: Workspace) -> None:
    """CRM-09: total is what is matched, unmatched, left to people, left out and wrong."""
    spec = crm_spec(valid=[{"rule": "s.Comp_Name <> 'Alpha'", "issue": "not this one"}])
    overrides.decide(crm, spec, actor="ann", kind="exclude", source="5", reason="closed long ago")
    workflow.match(crm, workspace, spec, "ann")
    assert _listed(crm)["1", "901"][2] == "invalid"
    ((total, *parts),) = _log(crm, "total, matched, unmatched, proposed, ambiguous, excluded, errors")
    assert total == sum(parts) == 5
    assert parts[-2:] == [1, 1]
    assert _listed(crm)["5", None][2] == "excluded"


def test_fields_are_called_as_hubspot_calls_them(crm: Database, workspace: Workspace) -> None:
    """CRM-12: a spec chooses the properties that are brought over."""
    target = {
        **crm_spec().target.model_dump(exclude_none=True),
        "outside": {**OUTSIDE, "fields": {"name": "company_name"}},
    }
    spec = crm_spec(target=target, backfill={"changed": {"update": ["name"]}})
    execute(crm, "UPDATE hubspot.companies SET domain = 'other' WHERE hs_object_id = 902")
    workflow.match(crm, workspace, spec, "ann")
    assert _listed(crm)["2", "902"][-1] == {"company_name": "Beta"}  # the domain is not one to update


def test_without_the_legacy_file_hubspots_own_ids_are_listed(crm: Database, workspace: Workspace) -> None:
    """CRM-07, CRM-12: the bronze side is optional: HubSpot's own records that carry an icalps id are listed with it."""
    execute(crm, "DROP TABLE bronze.company")
    (workspace.root / "bronze" / "Bronze_Company.csv").unlink()
    for _ in range(2):
        with pytest.raises(NotLoaded) as absent:
            workflow.match(crm, workspace, crm_spec(), "ann")
    assert "staging.companies_reconciliation lists the 5 records of the target that carry an id" in absent.value.why
    assert "There is no file bronze/Bronze_Company.csv in the workspace either." in absent.value.why
    assert {key: row[1:3] for key, row in _listed(crm).items()} == {
        ("1", "901"): ("Alpha", "hubspot_only"),
        ("2", "902"): ("Beta old", "hubspot_only"),
        ("4", "904"): ("Delta", "hubspot_only"),
        ("4", "905"): ("Delta too", "hubspot_only"),
        ("99", "906"): ("Stranger", "hubspot_only"),
    }
    assert _log(crm, "total, matched, hubspot_only") == [(0, 0, 5), (0, 0, 5)]
    _load(crm, workspace, "Comp_CompanyId,Comp_Name,Comp_WebSite\n1,Alpha,alpha.example\n")
    workflow.match(crm, workspace, crm_spec(), "ann")
    assert _listed(crm)["1", "901"][2] == "matched"


def test_each_object_has_its_relation(crm: Database, workspace: Workspace) -> None:
    """CRM-05: companies, contacts, deals and communications."""
    execute(
        crm,
        "CREATE TABLE hubspot.contacts (hs_object_id bigint PRIMARY KEY, icalps_contact_id text, firstname text, lastname text)",
        "CREATE TABLE hubspot.deals (hs_object_id bigint PRIMARY KEY, icalps_deal_id text, dealname text, amount numeric(14,2))",
        "CREATE TABLE hubspot.engagements (hs_object_id bigint PRIMARY KEY, icalps_communication_id text, hs_engagement_subject text)",
        "INSERT INTO hubspot.contacts VALUES (1, '7', 'Zoë', 'Old'), (2, NULL, NULL, 'Alone')",
        "INSERT INTO hubspot.deals VALUES (3, '8', 'Deal', 10)",
        "INSERT INTO hubspot.engagements VALUES (4, '9', 'Call')",
        'CREATE TABLE bronze.person ("Pers_PersonId" int PRIMARY KEY, "Pers_FirstName" text, "Pers_LastName" text)',
        'CREATE TABLE bronze.opportunity ("Oppo_OpportunityId" int PRIMARY KEY, "Oppo_Description" text, "Oppo_Forecast" numeric(14,2))',
        'CREATE TABLE bronze.communication ("Comm_CommunicationId" int PRIMARY KEY, "Comm_Subject" text)',
        "INSERT INTO bronze.person VALUES (7, 'Zoë', 'New')",
        "INSERT INTO bronze.opportunity VALUES (8, 'Deal', 1500.5)",
        "INSERT INTO bronze.communication VALUES (9, 'Call')",
    )  # fmt: skip
    for name in SIDES:
        workflow.match(crm, workspace, crm_spec(name), "ann")
    contacts = "SELECT legacy_contact_id, hubspot_contact_id, legacy_name, hubspot_name, properties_to_update FROM staging.contacts_reconciliation ORDER BY 2"
    assert rows(crm, contacts) == [
        ("7", "1", "Zoë New", "Zoë Old", {"lastname": "New"}), (None, "2", None, "Alone", {}),
    ]  # fmt: skip
    assert (
        json.dumps(rows(crm, "SELECT properties_to_update FROM staging.deals_reconciliation"))
        == '[[{"amount": 1500.5}]]'
    )
    assert rows(crm, "SELECT legacy_communication_id, hubspot_communication_id, legacy_name FROM staging.communications_reconciliation") == [("9", "4", "Call")]  # fmt: skip
    assert [row[0] for row in _log(crm, "object")] == ["companies", "contacts", "deals", "communications"]


def test_only_specs_of_the_group_are_listed_and_from_the_legacy_side(crm: Database, workspace: Workspace) -> None:
    assert systems.after_match(crm_spec(group=None)) is None
    assert systems.after_match(crm_spec(group="other")) is None
    other = crm_spec().model_copy(update={"name": "mine"})
    workflow.match(crm, workspace, other, "ann")
    assert rows(crm, "SELECT to_regnamespace('staging')::text") == [(None,)]
    with pytest.raises(SpecError) as refused:
        workflow.match(crm, workspace, crm_spec(population="target"), "ann")
    assert "needs `population: source`" in refused.value.why


def test_a_table_that_was_dropped_is_made_again_and_one_of_others_is_named(crm: Database, workspace: Workspace) -> None:
    workflow.match(crm, workspace, crm_spec(), "ann")
    execute(crm, "DROP TABLE staging.companies_reconciliation")
    workflow.match(crm, workspace, crm_spec(), "ann")
    assert len(_listed(crm)) > 0
    assert len(_log(crm, "run")) == 2
    execute(crm, "DROP TABLE staging.companies_reconciliation", "CREATE TABLE staging.companies_reconciliation (x int)")
    with pytest.raises(DatabaseFailed, match="decisions are kept") as caught:
        workflow.match(crm, workspace, crm_spec(), "ann")
    assert "staging.companies_reconciliation" in caught.value.todo
    assert "column kept.reconciliation_status does not exist" in caught.value.why
    assert rows(crm, "SELECT count(*) FROM recon.runs") == [(3,)]


def test_who_may_not_make_the_schema_is_told_and_the_run_is_kept(crm: Database, workspace: Workspace) -> None:
    from recon.database import tables

    tables.ensure(crm)
    role = f"role_{Path(workspace.root).parent.name[-8:]}_{time.time_ns()}"
    execute(crm, f"CREATE ROLE {role} LOGIN PASSWORD 'secret'", f"GRANT USAGE ON SCHEMA hubspot, bronze TO {role}", f"GRANT SELECT ON ALL TABLES IN SCHEMA hubspot, bronze TO {role}", f"GRANT ALL ON SCHEMA recon TO {role}", f"GRANT ALL ON ALL TABLES IN SCHEMA recon TO {role}")  # fmt: skip
    try:
        as_role = Database(
            sa.make_url(crm.url).set(username=role, password="secret").render_as_string(hide_password=False)
        )
        with pytest.raises(DatabaseFailed) as refused:
            workflow.match(as_role, workspace, crm_spec(), "ann")
        assert "The decisions are kept" in refused.value.what
        assert rows(crm, "SELECT state FROM recon.runs") == [("success",)]
    finally:
        execute(crm, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def test_many_records_take_seconds(crm: Database, workspace: Workspace) -> None:
    """CRM-05: the relation is written set by set."""
    execute(
        crm,
        "INSERT INTO hubspot.companies SELECT n, n::text, 'name ' || n, NULL FROM generate_series(1000, 31000) AS n",
        "INSERT INTO bronze.company SELECT n, 'Name ' || n % 100, NULL FROM generate_series(1000, 31000) AS n",
    )
    run = workflow.match(crm, workspace, crm_spec(), "ann")
    began = time.perf_counter()
    staging.refresh(crm, crm_spec(), run)
    assert time.perf_counter() - began < 5
    assert rows(crm, "SELECT count(*) FROM staging.companies_reconciliation WHERE properties_to_update ? 'name'")[0][0] > 30_000  # fmt: skip
