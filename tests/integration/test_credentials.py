"""No credential comes out anywhere: real runs with distinctive ones, which are then looked for in all that was left."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from recon import workflow
from recon.database.connect import Database
from recon.errors import OutsideDenied
from recon.sources.signed_requests import signed
from recon.stand_ins.airtable import Airtable
from recon.stand_ins.faults import Fault
from recon.stand_ins.housecallpro import HousecallPro
from recon.stand_ins.hubspot import HubSpot
from recon.stand_ins.server import served
from recon.stand_ins.workflows import Workflows
from recon.systems.crm import workflows
from recon.systems.crm.stand_in import TABLES
from recon.workspace import Workspace
from tests.integration.test_webhooks import TABLES as HCP_TABLES
from tests.integration.test_webhooks import ask, job
from tests.support import Ended, execute, recon, rows, started

pytestmark = pytest.mark.one_engine

# Every variable of the product that holds a credential. All begin alike, so that a part of one is found too.
PLANTED = "planted-"
SECRETS = {
    "RECON_HUBSPOT_TOKEN": "planted-hubspot-token-7d0f3a91",
    "RECON_AIRTABLE_TOKEN": "planted-airtable-token-52c8e6b0",
    "RECON_HOUSECALLPRO_TOKEN": "planted-housecallpro-token-19ab44fe",
    "RECON_HOUSECALLPRO_WEBHOOK_SECRET": "planted-webhook-secret-c3d97720",
    "RECON_SERVICE_TOKEN": "planted-service-token-80e1b5aa",
    "RECON_WORKFLOWS_TOKEN": "planted-workflows-token-f6a2d318",
}
PASSWORD = "planted-database-password-e57c10d4"
HCP = """\
name: hcp_jobs
target:
  query: select r.*, p.hcp_customer_id, p.hcp_address_id from reservations r join properties p on p.id = r.property_id
  writes: reservations
  key: id
  date: final_service_time
  outside: {system: airtable, object: Reservations, record: airtable_id, fields: {service_job_id: Service Job ID}}
source: {api: housecallpro, into: hcp_jobs, key: id, date: scheduled_start}
link: {column: service_job_id}
cardinality: one_to_one
passes:
  - name: property_and_time
    on: {hcp_customer_id: customer_id, hcp_address_id: address_id}
    within: {target: final_service_time, source: scheduled_start, tolerance: 1 hour}
"""
# Every relation that is somebody's, recon's own among them; a row as one text.
RELATIONS = """
    SELECT format('%I.%I', nspname, relname) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE relkind = 'r' AND nspname <> 'information_schema' AND nspname NOT LIKE 'pg\\_%' ORDER BY 1
"""


@dataclass
class Place:
    """A workspace, its database, the outside systems, and all that the commands said."""

    database: Database
    workspace: Workspace
    hubspot: HubSpot
    airtable: Airtable
    housecallpro: HousecallPro
    said: dict[str, str] = field(default_factory=dict[str, str])

    def recon(self, *arguments: str, user: str = "ann", code: int, url: str | None = None) -> Ended:
        ended = recon(*arguments, "--workspace", str(self.workspace.root), url=url or self.database.url, user=user)
        assert ended.code == code, ended
        self.said[f"{len(self.said)} recon {' '.join(arguments)}"] = ended.out + ended.err
        return ended


@pytest.fixture
def place(database: Database, workspace: Workspace) -> Iterator[Place]:
    """The sample of the CRM and reservations; the database wants no password, and is given one all the same."""
    workflow.load_sample(database, "crm", workspace)
    execute(
        database,
        *HCP_TABLES,
        "ALTER TABLE reservations ADD airtable_id text UNIQUE",
        "UPDATE reservations SET airtable_id = 'rec' || lpad(id::text, 14, '0')",
    )
    (workspace.root / "reconciliations" / "hcp_jobs.yaml").write_text(HCP, encoding="utf-8")
    (workspace.root / "recon.toml").touch()
    objects = {
        name: {
            str(record.pop("hs_object_id")): {
                key: None if value is None else str(value) for key, value in record.items()
            }
            for (record,) in rows(database, f"SELECT to_jsonb(one) FROM hubspot.{table} AS one")
        }
        for name, table in TABLES.items()
    }
    records = {record: {"Service Job ID": None} for (record,) in rows(database, "SELECT airtable_id FROM reservations")}
    base = "app" + "0" * 14
    hubspot = HubSpot(objects, token=SECRETS["RECON_HUBSPOT_TOKEN"])
    airtable = Airtable(base, "Reservations", records, token=SECRETS["RECON_AIRTABLE_TOKEN"])
    jobs = [job("job_1")["job"] | {"created_at": "2026-03-01T00:00:00Z"}]
    housecallpro = HousecallPro(jobs, token=SECRETS["RECON_HOUSECALLPRO_TOKEN"])
    with ExitStack() as stack:
        settings = SECRETS | {
            "RECON_HUBSPOT_URL": stack.enter_context(served(hubspot.app)),
            "RECON_HUBSPOT_PER_SECOND": "1000",
            "RECON_AIRTABLE_URL": stack.enter_context(served(airtable.app)),
            "RECON_AIRTABLE_BASE": base,
            "RECON_HOUSECALLPRO_URL": stack.enter_context(served(housecallpro.app)),
            "RECON_WEBHOOKS": "production",
        }
        (workspace.root / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        url = sa.make_url(database.url).set(password=PASSWORD).render_as_string(hide_password=False)
        yield Place(Database(url), workspace, hubspot, airtable, housecallpro)


def echo(status: int, name: str, path: str = "", padding: int = 0) -> Fault:
    """An answer that tells the credential which it was asked with, after so many other characters."""
    body = json.dumps({"message": f"{'x' * padding}Bearer {SECRETS[name]} is not known", "token": SECRETS[name]})
    return Fault(status, body, {"X-Token": SECRETS[name]}, path=path)


def test_no_credential_is_in_any_output_file_or_row(place: Place, tmp_path: Path) -> None:
    """CRM-17: reports, notebooks, also of failed runs, bundles, logs, rows and all that is printed are looked through."""
    _push_to_hubspot(place)
    _load_and_write_airtable(place)
    _serve(place)
    _ask_workflows(place)
    wrong = sa.make_url(place.database.url).set(host="127.0.0.1", port=1, query={})
    place.recon("check", "crm_deals", code=1, url=wrong.render_as_string(hide_password=False))

    kept = {path.name for path in _files(place)}
    assert {"plan.json", "outside.jsonl", "review.html", "hcp_jobs.log"} <= kept
    assert sum(name.startswith("crm_contacts") and name.endswith(".ipynb") for name in kept) == 1
    assert sum(name.startswith("crm_deals") and name.endswith(".ipynb") for name in kept) == 1
    assert _found(place) == []
    _every_place_is_looked_at(place, tmp_path)


def _push_to_hubspot(place: Place) -> None:
    """A shipped spec the whole way; and one whose run fails in the middle, and whose records are refused."""
    token = SECRETS["RECON_HUBSPOT_TOKEN"]
    for name in ("crm_contacts", "crm_deals"):
        given = ("--give", "--rows", "100", "--days", "1", "--action", "update")
        place.recon("standing", name, *given, user="bob", code=0)
    place.recon("run", "crm_contacts", "--execute", "--json", code=3)
    place.hubspot.faults.add(echo(401, "RECON_HUBSPOT_TOKEN", "deals"))
    failed = place.recon("run", "crm_deals", "--execute", code=1)
    assert "RECON_HUBSPOT_TOKEN" in failed.err
    plan = next(item for item in place.recon("plans", "--json", code=0).json["plans"] if "crm_deals" in item["plan"])
    place.hubspot.faults.add(*[echo(500, "RECON_HUBSPOT_TOKEN", "deals/batch/update", 270)] * 4)
    unsure = place.recon("apply", plan["plan"], "--execute", code=1)
    assert "500" in unsure.err
    place.hubspot.faults.add(echo(401, "RECON_HUBSPOT_TOKEN", "deals"))
    place.recon("apply", plan["plan"], code=1)
    # What is said of a record is cut to 300 characters: here in the middle of the token.
    place.hubspot.refused = dict.fromkeys(place.hubspot.objects["deals"], f"{'y' * 265} {token} may not write")
    refused = place.recon("apply", plan["plan"], "--execute", "--json", code=1)
    assert "yyyy" in refused.out
    place.recon("audit", code=0)


def _load_and_write_airtable(place: Place) -> None:
    place.housecallpro.faults.add(echo(401, "RECON_HOUSECALLPRO_TOKEN"))
    days = ("--from", "2026-03-01", "--to", "2026-03-31")
    denied = place.recon("load", "hcp_jobs", *days, code=1)
    assert "RECON_HOUSECALLPRO_TOKEN" in denied.err
    place.recon("load", "hcp_jobs", *days, "--json", code=0)
    given = ("--give", "--rows", "20", "--days", "1", "--action", "link")
    place.recon("standing", "hcp_jobs", *given, user="bob", code=0)
    place.recon("match", "hcp_jobs", code=3)
    plan = place.recon("plan", "hcp_jobs", "--json", code=0).json["plan"]
    place.airtable.faults.add(echo(401, "RECON_AIRTABLE_TOKEN"))
    denied = place.recon("apply", plan, "--execute", code=1)
    assert "RECON_AIRTABLE_TOKEN" in denied.err
    place.airtable.faults.add(echo(422, "RECON_AIRTABLE_TOKEN"))
    place.recon("apply", plan, "--execute", "--json", code=1)


def _serve(place: Place) -> None:
    """A refused event, one whose signature is the secret itself, one that is worked off and fails, and the status."""
    secret, token = SECRETS["RECON_HOUSECALLPRO_WEBHOOK_SECRET"], SECRETS["RECON_SERVICE_TOKEN"]
    path, now = "/webhooks/housecallpro", str(int(time.time()))
    body = json.dumps(job("job_1")).encode()
    with started(
        "serve", "--port", "0", "--json", "--workspace", str(place.workspace.root), url=place.database.url
    ) as it:
        until = time.monotonic() + 30
        while not it.said().endswith("\n"):
            assert time.monotonic() < until
            time.sleep(0.05)
        address = json.loads(it.said())["address"]
        answers: list[Any] = []
        place.airtable.faults.add(*[echo(401, "RECON_AIRTABLE_TOKEN")] * 20)  # however often it is tried
        for signature in (secret, signed(now, body, "another"), signed(now, body, secret)):
            given = {"Content-Type": "application/json", "Api-Timestamp": now, "Api-Signature": signature}
            answers.append(ask(address, "POST", path, body, given))
        for bearer in (token, f"{token}x"):
            answers.append(ask(address, "GET", "/webhooks/status", None, {"Authorization": f"Bearer {bearer}"}))
        it.stop()
        code, out, err = it.ended(60)
    assert code == 0, err
    assert [answer.status for answer in answers] == [401, 401, 202, 200, 401], answers
    assert "refused" in err
    assert "RECON_AIRTABLE_TOKEN" in err
    place.said["recon serve"] = f"{out} {err} {answers}"
    place.recon("webhooks", code=3)


def _ask_workflows(place: Place) -> None:
    api = Workflows(place.database.url, token=SECRETS["RECON_WORKFLOWS_TOKEN"])
    api.faults.add(echo(401, "RECON_WORKFLOWS_TOKEN"))
    with served(api.app) as url:
        settings = {**place.workspace.variables, "RECON_WORKFLOWS_URL": url}
        with workflows.opened(settings) as opened, pytest.raises(OutsideDenied) as caught:
            opened.deals_by_stage("contractsent")
    place.said["workflows"] = repr(caught.value.as_dict())


# -- looked for ------------------------------------------------------------------------------------------


def _files(place: Place) -> list[Path]:
    """Every file below the workspace but the one that the credentials stand in."""
    own = place.workspace.root / ".env"
    return [path for path in sorted(place.workspace.root.rglob("*")) if path.is_file() and path != own]


def _texts(place: Place) -> Iterator[tuple[str, bytes]]:
    for what, text in place.said.items():
        yield what, text.encode()
    for path in _files(place):
        yield str(path), path.read_bytes()
        if zipfile.is_zipfile(path):  # workbooks
            with zipfile.ZipFile(path) as packed:
                yield from ((f"{path} {name}", packed.read(name)) for name in packed.namelist())
    for (relation,) in rows(place.database, RELATIONS):
        for (row,) in rows(place.database, f"SELECT one::text FROM {relation} AS one"):
            yield relation, row.encode()


def _found(place: Place) -> list[str]:
    """Where anything begins as a credential does."""
    return sorted({what for what, text in _texts(place) if PLANTED.encode() in text.lower()})


def _every_place_is_looked_at(place: Place, tmp_path: Path) -> None:
    """This test can fail: a credential that somebody puts into any of these places is found there."""
    root = place.workspace.root
    report, packed = root / "reports" / "deep" / "page.html", root / "sql" / "book.xlsx"
    report.parent.mkdir(parents=True)
    report.write_text(f"<p>{SECRETS['RECON_SERVICE_TOKEN'][:12]}")
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("sheet", SECRETS["RECON_AIRTABLE_TOKEN"] * 9)
    execute(place.database, f"UPDATE recon.webhook_events SET said = 'x {PASSWORD}'")
    place.said["printed"] = PASSWORD.upper()
    assert _found(place) == sorted([str(report), f"{packed} sheet", "printed", "recon.webhook_events"])
