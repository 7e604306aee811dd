"""`recon check` names the cause: why there is no connection, and why a loaded file finds nothing in HubSpot."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from recon.database import connect
from recon.database.connect import Database
from recon.errors import VEIL, DatabaseUnreachable, SchemaMismatch
from recon.matching import check as checking
from recon.matching import run as runs
from recon.matching.check import Checked
from recon.matching.findings import Finding
from recon.sources import files
from recon.spec import Reconciliation
from tests.support import execute, rows

pytestmark = pytest.mark.one_engine


def company_spec(**fields: Any) -> Reconciliation:
    usual: dict[str, Any] = {
        "name": "companies",
        "population": "source",
        "target": {"table": "hubspot", "key": "hs_object_id"},
        "source": {
            "file": "bronze/Bronze_Company.csv",
            "key": "Comp_CompanyId",
            "columns": {"Comp_CompanyId": "integer", "Comp_Name": "text"},
        },
        "cardinality": "one_to_one",
        "passes": [{"name": "icalps_id", "on": {"icalps_company_id": "Comp_CompanyId"}, "compare_as": "text"}],
        "compare": {"name": "Comp_Name"},
    }
    return Reconciliation.model_validate(usual | fields)


def _companies(database: Database, root: Path, kind: str, *ids: str | None) -> None:
    """HubSpot's companies with these legacy ids, of this type; and the legacy companies 101 to 112, loaded."""
    execute(database, f"CREATE TABLE hubspot (hs_object_id bigint PRIMARY KEY, icalps_company_id {kind}, name text)")
    for number, written in enumerate(ids, start=900):
        said = "NULL" if written is None else f"'{written}'"
        execute(database, f"INSERT INTO hubspot VALUES ({number}, {said}, 'Firm {number}')")
    (root / "bronze").mkdir(exist_ok=True)
    content = "Comp_CompanyId,Comp_Name\n" + "".join(f"{n},Firm {n}\n" for n in range(101, 113))
    (root / "bronze" / "Bronze_Company.csv").write_text(content)
    files.load(database, root, company_spec().source)


TEN = ", ".join(f'"{number}"' for number in range(101, 111))


def _about(result: Checked, words: str) -> Finding:
    return next(finding for finding in result.findings if words in finding.what)


# -- all unmatched ---------------------------------------------------------------------------------------


def test_an_empty_column_of_hubspot_is_named_with_ten_legacy_ids(database: Database, tmp_path: Path) -> None:
    """CRM-16: all unmatched, because the icalps column is empty."""
    _companies(database, tmp_path, "text", None, None)
    result = checking.check(database, company_spec())
    finding = _about(result, "All unmatched: icalps_company_id is empty in every target record.")
    assert finding.severity == "error"
    assert result.profile.passes[0].source_probes == tuple((str(number),) for number in range(101, 111))
    assert runs.match(database, company_spec(), "ann").outcomes == {"missing": 12}


@pytest.mark.parametrize(
    ("written", "said", "without"),
    [
        ("00{}", "2 of 2 target values have leading zeros; 2 more would agree without them.", "ltrim(icalps_company_id, '0')"),
        ("{}.0", "2 of 2 target values end in .0; 2 more would agree without it.", "regexp_replace(icalps_company_id, '[.]0+$', '')"),
    ],
)  # fmt: skip
def test_ids_of_another_format_are_named_and_never_made_equal(
    database: Database, tmp_path: Path, written: str, said: str, without: str
) -> None:
    """CRM-02, CRM-16: "00123", 123.0 and 123 are reported, shown side by side, and equal only where the spec says so."""
    _companies(database, tmp_path, "text", written.format(101), written.format(102))
    result = checking.check(database, company_spec())
    assert (
        _about(result, "All unmatched: none of 2 icalps_company_id values of the target is among 12").severity
        == "error"
    )
    assert without in _about(result, said).todo
    item = result.profile.passes[0]
    assert item.target_probes == ((written.format(101),), (written.format(102),))
    assert len(item.source_probes) == 10
    assert runs.match(database, company_spec(), "ann").outcomes == {"missing": 12}
    as_said = company_spec(passes=[{"name": "icalps_id", "on": {without: "Comp_CompanyId"}, "compare_as": "text"}])
    assert runs.match(database, as_said, "ann").outcomes == {"changed": 2, "missing": 10}


def test_a_column_of_another_type_is_compared_as_text_or_named_with_ten_values(
    database: Database, tmp_path: Path
) -> None:
    """CRM-02, CRM-16: typed differently: 123.0 is no 123 as text; without `compare_as` the types are refused."""
    _companies(database, tmp_path, "numeric(8,1)", "101", "102")
    result = checking.check(database, company_spec())
    assert _about(result, "The target is numeric, the source is int4").severity == "note"
    assert _about(result, "All unmatched").severity == "error"
    assert "2 more would agree without it" in _about(result, "end in .0").what
    assert result.profile.passes[0].target_probes == (("101.0",), ("102.0",))
    with pytest.raises(SchemaMismatch) as refused:
        checking.check(database, company_spec(passes=[{"name": "icalps_id", "on": {"icalps_company_id": "Comp_CompanyId"}}]))  # fmt: skip
    assert refused.value.what == "Pass icalps_id, on icalps_company_id: the target is numeric, the source is int4."
    assert f'values of the target\'s icalps_company_id: "101.0", "102.0"; values of the source\'s Comp_CompanyId: {TEN}.' in refused.value.why  # fmt: skip


def test_an_absent_column_is_named_with_ten_values_of_each_side(database: Database, tmp_path: Path) -> None:
    """CRM-14, CRM-16: the icalps column is absent; what is there instead is shown."""
    _companies(database, tmp_path, "text", "101", "102")
    spec = company_spec(passes=[{"name": "icalps_id", "on": {"icalps_id": "Comp_CompanyId"}, "compare_as": "text"}])
    with pytest.raises(SchemaMismatch) as absent:
        checking.check(database, spec)
    assert 'hubspot has no column "icalps_id"' in absent.value.what
    assert 'values of the target\'s key hs_object_id: "900", "901"' in absent.value.why
    assert f"values of the source's Comp_CompanyId: {TEN}." in absent.value.why
    private = spec.model_copy(update={"source": spec.source.model_copy(update={"private": ["Comp_CompanyId"]})})
    with pytest.raises(SchemaMismatch) as veiled:
        checking.check(database, private)
    assert f"values of the source's Comp_CompanyId: {VEIL}." in veiled.value.why
    with pytest.raises(SchemaMismatch) as other:  # about something else: no values
        checking.check(database, company_spec(compare={"nme": "Comp_Name"}))
    assert "values of" not in other.value.why


def test_doubled_ids_are_ambiguous_and_no_cause_of_all(database: Database, tmp_path: Path) -> None:
    """CRM-13: two HubSpot records with one legacy id are ambiguous, and never fanned out."""
    _companies(database, tmp_path, "text", "101", "101", "102")
    assert any("stand in several target records" in item.what for item in checking.check(database, company_spec()).findings)  # fmt: skip
    assert runs.match(database, company_spec(), "ann").outcomes == {"changed": 1, "ambiguous": 1, "missing": 10}


# -- the connection --------------------------------------------------------------------------------------


def _unreachable(url: str) -> DatabaseUnreachable:
    with pytest.raises(DatabaseUnreachable) as refused:
        checking.check(Database(url), company_spec())
    assert "S3cret" not in str(refused.value)
    return refused.value


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"host": "no-such-host.invalid"}, "The host name no-such-host.invalid is not known."),
        ({"port": 1}, "Nothing listens at 127.0.0.1, port 1."),
        ({}, "The server does not accept user postgres with this password."),
        ({"username": "nobody"}, "The server does not accept user nobody with this password."),
    ],
)
def test_the_cause_of_no_connection_is_named(debian_url: str, changes: dict[str, Any], said: str) -> None:
    """CRM-14: host not resolved, port closed, refused, password: each by its name, before any work."""
    url = sa.make_url(debian_url).set(password="S3cret-pass", **changes)
    assert _unreachable(url.render_as_string(hide_password=False)).why == said


def test_a_database_that_is_not_there_is_named(debian_url: str) -> None:
    """CRM-14: the database's name is wrong."""
    url = sa.make_url(debian_url).set(database="nowhere").render_as_string(hide_password=False)
    assert _unreachable(url).why.startswith('The database "nowhere" or the user')


def test_a_server_without_a_free_connection_is_asked_again(debian_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """CRM-14: a connection is tried again where the server will have one soon."""
    admin = Database(debian_url)
    execute(admin, "CREATE ROLE crowded LOGIN PASSWORD 'S3cret' CONNECTION LIMIT 0")
    url = sa.make_url(debian_url).set(username="crowded", password="S3cret").render_as_string(hide_password=False)
    try:
        monkeypatch.setattr(connect, "PAUSES_SECONDS", (0.01, 0.01))
        assert _unreachable(url).why == "The server has no free connection."
        monkeypatch.setattr(connect, "PAUSES_SECONDS", (0.05,) * 100)
        freed = threading.Timer(0.1, execute, (admin, "ALTER ROLE crowded CONNECTION LIMIT 1"))
        freed.start()
        began = time.monotonic()
        assert rows(Database(url), "SELECT current_user::text") == [("crowded",)]
        assert time.monotonic() - began < 4
        freed.join()
    finally:
        execute(admin, "DROP ROLE crowded")


def test_a_service_keeps_its_connections_and_nothing_of_what_was_done_with_them(database: Database) -> None:
    """CRM-14: connections are pooled where one asks again and again; each is as new, and a broken one is replaced."""
    pooled = replace(database, pooled=True)
    try:
        with pooled.session() as session:
            first = session.value("SELECT pg_backend_pid()")
            session.execute("SELECT pg_advisory_lock(7, 7)")
            session.execute("CREATE TEMP TABLE mine AS SELECT 1 AS a")
            session.execute("SET work_mem = '77MB'")
            session.driver.commit()
            session.driver.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        with pooled.session() as session:
            assert session.value("SELECT pg_backend_pid()") == first
            assert session.value("SELECT to_regclass('mine')::text") is None
            assert session.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
            assert session.value("SHOW work_mem") != "77MB"
            assert session.value("SHOW timezone") == "UTC"  # what every session is opened with holds again
            assert session.value("SHOW transaction_isolation") == "read committed"
        execute(database, f"SELECT pg_terminate_backend({first})")
        with pooled.session() as session:
            assert session.value("SELECT pg_backend_pid()") != first
    finally:
        pooled.engine.dispose()
