"""The workflow API against its stand-in, which runs its stored queries on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest

from recon.database.connect import Database
from recon.errors import OutsideDenied, OutsideFailed, UsageError
from recon.outside.client import Client
from recon.stand_ins import workflows as stand_in
from recon.stand_ins.faults import Fault
from recon.stand_ins.server import served
from recon.systems.crm import workflows
from recon.systems.crm.workflows import Workflows
from tests.support import execute, rows

pytestmark = pytest.mark.one_engine

SECRET = "wf-kanari-2342"
COMPANIES = [
    "ACME Ltd",
    "Acme & Söhne",
    "100% Wool",
    "1000 Wool",
    "under_score",
    "underXscore",
    "O'Brien \\ Co",
    "€uro",
]


@pytest.fixture
def data(database: Database) -> Database:
    """Companies 1 to 8, each with one person, and three deals."""
    execute(
        database,
        "CREATE SCHEMA bronze",
        "CREATE SCHEMA hubspot",
        'CREATE TABLE bronze.company ("Comp_CompanyId" text PRIMARY KEY, "Comp_Name" text)',
        'CREATE TABLE bronze.person ("Pers_PersonId" int, "Pers_FirstName" text, "Pers_LastName" text,'
        ' "Pers_EmailAddress" text, "Pers_CompanyId" text)',
        "CREATE TABLE hubspot.deals (hs_object_id bigint, icalps_deal_id text, dealname text, amount numeric(14,2),"
        " dealstage text)",
        "INSERT INTO hubspot.deals VALUES (1, 'a', 'x', 123456789012.10, 'won'), (2, 'b', 'y', 0.30, 'won'),"
        " (3, 'c', 'z', NULL, 'lost')",
    )
    with database.session() as session:
        for number, name in enumerate(COMPANIES, 1):
            key = f"{number:05}"
            session.execute("INSERT INTO bronze.company VALUES ($1, $2)", key, name)
            session.execute("INSERT INTO bronze.person VALUES ($1, 'Jo', $2, NULL, $3)", number, name, key)
    return database


@contextmanager
def api(
    url: str, patience: float = 10.0, timeout: float = 10.0, **options: Any
) -> Generator[tuple[stand_in.Workflows, Workflows]]:
    made = stand_in.Workflows(url.replace("+psycopg", ""), token=SECRET, **options)
    with served(made.app) as base:
        client = Client(
            workflows.NAME,
            base,
            headers={"Authorization": f"Bearer {SECRET}"},
            secrets=[SECRET],
            per_second=1000,
            setting=workflows.TOKEN_SETTING,
            timeout=timeout,
            attempts=2,
            first_pause=0.01,
        )
        try:
            yield made, Workflows(client, patience=patience, look=0.001)
        finally:
            client.close()


def test_stored_queries_are_run_and_waited_for(data: Database) -> None:
    """CRM-15: contacts by company (case-insensitive contains), company by legacy id, deals by stage."""
    with api(data.url) as (made, asking):
        found = asking.contacts_by_company("aCmE")
        assert [(row["Pers_PersonId"], row["Comp_Name"]) for row in found] == [(1, "ACME Ltd"), (2, "Acme & Söhne")]
        assert asking.company_by_legacy_id("00003") == [{"Comp_CompanyId": "00003", "Comp_Name": "100% Wool"}]
        assert asking.company_by_legacy_id(3) == []
        deals = asking.deals_by_stage("won")
        assert [(row["hs_object_id"], row["amount"]) for row in deals] == [
            (1, Decimal("123456789012.10")), (2, Decimal("0.30")),
        ]  # fmt: skip
        assert asking.deals_by_stage("nowhere") == []
        # Each was started once, and looked at until it was done.
        assert [run.looks for run in made.runs] == [3] * 5


HOSTILE: dict[str, list[str]] = {
    "x' OR 1=1 --": [],
    "'; DROP TABLE bronze.company; --": [],
    "%": ["100% Wool"],
    "0% w": ["100% Wool"],
    "_": ["under_score"],
    "r_S": ["under_score"],
    "\\": ["O'Brien \\ Co"],
    "o'b": ["O'Brien \\ Co"],
    "$1": [],
    "{name}": [],
    "söhne": ["Acme & Söhne"],
    "€": ["€uro"],
}


def test_a_value_is_a_value_whatever_it_holds(data: Database) -> None:
    """CRM-15: parameters are bound, never spliced into SQL; no character of a name is a wildcard."""
    with api(data.url, looks=()) as (_, asking):
        found = {text: [row["Comp_Name"] for row in asking.contacts_by_company(text)] for text in HOSTILE}
        assert found == HOSTILE
        for text in list(HOSTILE)[:3]:
            assert asking.company_by_legacy_id(text) == asking.deals_by_stage(text) == []
    assert rows(data, "SELECT count(*) FROM bronze.company") == [(len(COMPANIES),)]


def test_a_query_that_takes_too_long_is_named_with_its_run(database: Database) -> None:
    with (
        api(database.url, patience=0.05, looks=("pending",) * 1000) as (_, asking),
        pytest.raises(OutsideFailed, match=r"gave no rows of deals_by_stage.*run 1 is pending after 0.05 s.*later"),
    ):
        asking.deals_by_stage("won")


def test_what_goes_wrong_there_is_told_without_the_credential(database: Database) -> None:
    """CRM-17: the credential stands in no error."""
    query = stand_in.Query("SELECT $1::text FROM nowhere", ("a",))
    with api(database.url, queries={"broken": query}, looks=()) as (made, asking):
        for faults, name, parameters, said in (
            ([], "broken", {"a": "1"}, 'run 1 failed: relation "nowhere" does not exist'),
            ([], "broken", {"b": "1"}, "422: .*broken takes a"),
            ([], "../x", {}, "404"),
            ([Fault(202, f'{{"run": null, "you": "{SECRET}"}}')], "broken", {"a": "1"}, "names no run"),
            ([Fault(202, '{"run": 1}'), Fault(200, f'{{"state": "{SECRET}"}}')], "broken", {"a": "1"}, "state that is none: •••"),
            ([Fault(202, '{"run": 1}'), Fault(200, '{"state": "done", "rows": [1]}')], "broken", {"a": "1"}, "holds no rows"),
            ([Fault(202, '{"run": 1}'), Fault(200, f'{{"state": "failed", "error": "{SECRET}"}}')], "broken", {"a": "1"}, "•••"),
            ([Fault(500, SECRET)] * 2, "broken", {"a": "1"}, "500: •••"),
            ([Fault(cut=True)] * 2, "broken", {"a": "1"}, "no whole JSON"),
        ):  # fmt: skip
            made.faults.add(*faults)
            with pytest.raises(OutsideFailed, match=said) as caught:
                asking.run(name, parameters)
            assert SECRET not in str(caught.value)
        made.token = "another"
        with pytest.raises(OutsideDenied, match="RECON_WORKFLOWS_TOKEN") as caught:
            asking.run("broken", {"a": "1"})
        assert SECRET not in str(caught.value)


def test_an_answer_that_is_late_or_cut_is_asked_for_again(data: Database) -> None:
    with api(data.url, timeout=0.4, looks=()) as (made, asking):
        made.faults.add(Fault(delay=0.6), Fault(cut=True, path="/runs/"))
        assert len(asking.deals_by_stage("won")) == 2
        made.faults.add(Fault(429, headers={"Retry-After": "0.01"}), Fault(503, path="/runs/"))
        assert len(asking.deals_by_stage("won")) == 2


def test_an_empty_value_asks_for_nothing(database: Database) -> None:
    with api(database.url) as (made, asking):
        for ask in (asking.contacts_by_company, asking.company_by_legacy_id, asking.deals_by_stage):
            with pytest.raises(UsageError, match="This needs"):
                ask(" ")
        assert not made.runs


def test_the_api_is_opened_by_its_settings(data: Database) -> None:
    """CRM-17: credentials come from the environment only."""
    with api(data.url, looks=()) as (_, asking):
        base = asking._client.base  # pyright: ignore[reportPrivateUsage]
        settings = {"RECON_WORKFLOWS_URL": base, "RECON_WORKFLOWS_TOKEN": SECRET}
        with workflows.opened(settings) as opened:
            assert len(opened.deals_by_stage("won")) == 2
        for missing in settings:
            without = {name: value for name, value in settings.items() if name != missing}
            with pytest.raises(UsageError, match=missing), workflows.opened(without):
                pass
