"""Checks say what is true of the live tables, and say apart what they could not find out."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from recon.checks import suites
from recon.checks.run import CheckItem, CheckResult, check
from recon.database.connect import Database
from recon.errors import AlreadyExists, CheckErrored, SpecError
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests.support import load_rent_sample

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code

REPOSITORY = Path(__file__).parents[2]
UNLINKED = ["1483", "1484", "1485", "1491", "1492", "1494", "1496", "1515", "1526", "1551"]  # INV-07
LINK_THE_TEN = """
    UPDATE historical_transactions AS t SET invoice_id = known.invoice
    FROM (VALUES (1551, 20), (1526, 31), (1515, 16), (1484, 10), (1492, 24), (1483, 9), (1491, 22), (1485, 12),
                 (1494, 26), (1496, 29)) AS known (id, invoice)
    WHERE t.id = known.id
"""


def run(database: Database, *statements: str) -> None:
    with database.session() as session:
        for statement in statements:
            session.execute(statement)


def item(result: CheckResult, name: str) -> CheckItem:
    return next(found for found in result.items if found.name == name)


def write_suite(workspace: Workspace, suite: dict[str, Any]) -> Path:
    path = workspace.root / "expectations" / f"{suite['name']}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(suite))
    return path


@pytest.fixture
def spec(workspace: Workspace) -> Reconciliation:
    return workspace.spec("rent_payments")


@pytest.fixture
def rent(database: Database) -> Database:
    load_rent_sample(database)
    return database


@pytest.fixture
def linked(rent: Database) -> Database:
    run(rent, LINK_THE_TEN)
    return rent


# -- what the tables say ---------------------------------------------------------------------------------


def test_the_sample_passes_once_its_ten_payments_are_linked(linked, workspace, spec):
    """INV-15: all rent is linked, and the links are right."""
    result = check(linked, workspace, spec)
    assert result.success
    assert [(found.name, found.kind, found.observed) for found in result.items] == [
        ("coverage", "coverage", "135 of 135 (100.0 %)"),
        ("link_exists", "right", "135 of 135 (100.0 %)"),
        ("property_agrees", "right", "135 of 135 (100.0 %)"),
        ("customer_agrees", "right", "135 of 135 (100.0 %)"),
    ]
    assert not result.failed
    assert not result.errored


def test_before_linking_coverage_falls_short_and_names_the_payments(rent, workspace, spec):
    result = check(rent, workspace, spec)
    assert not result.success
    assert result.failed == [item(result, "coverage")]
    coverage = item(result, "coverage")
    assert (coverage.observed, coverage.unexpected) == ("125 of 135 (92.6 %)", 10)
    assert list(coverage.examples) == UNLINKED


def test_a_wrong_link_fails_the_check_that_it_breaks_and_no_other(linked, workspace, spec):
    run(linked, "UPDATE historical_transactions SET property_id = 25 WHERE id = 1551")
    result = check(linked, workspace, spec)
    assert [found.name for found in result.failed] == ["property_agrees"]
    wrong = item(result, "property_agrees")
    assert (wrong.observed, wrong.unexpected, wrong.examples) == ("134 of 135 (99.3 %)", 1, ("1551",))


def test_a_rule_that_is_unknown_for_a_pair_is_not_kept(linked, workspace, spec):
    strict = spec.model_copy(
        update={"expect": spec.expect.model_copy(update={"right": {"in_lease": "t.transaction_date <= s.end_date"}})}
    )
    with linked.session(read_only=True) as session:
        kept = session.value(
            "SELECT count(*) FROM historical_transactions t JOIN invoices s ON s.id = t.invoice_id "
            "WHERE category = 'rent' AND t.transaction_date <= s.end_date"
        )
        ongoing = session.value(
            "SELECT count(*) FROM historical_transactions t JOIN invoices s ON s.id = t.invoice_id "
            "WHERE category = 'rent' AND s.end_date IS NULL"
        )
    assert ongoing > 0
    wrong = item(check(linked, workspace, strict), "in_lease")
    assert wrong.status == "failed"
    assert wrong.unexpected == 135 - kept >= ongoing


def test_a_link_to_a_record_that_does_not_exist_fails(linked, workspace, spec):
    run(
        linked,
        "ALTER TABLE historical_transactions DROP CONSTRAINT historical_transactions_invoice_id_fkey",
        "UPDATE historical_transactions SET invoice_id = 999999 WHERE id = 1551",
    )
    result = check(linked, workspace, spec)
    assert item(result, "coverage").status == "passed"
    dangling = item(result, "link_exists")
    assert (dangling.status, dangling.unexpected, dangling.examples) == ("failed", 1, ("1551",))


def test_no_record_at_all_proves_nothing(linked, workspace, spec):
    run(linked, "UPDATE historical_transactions SET category = 'deposit'")
    result = check(linked, workspace, spec)
    assert not result.success
    assert [found.name for found in result.errored] == ["coverage"]


def test_examples_are_few_the_count_is_exact_and_rows_stay_in_the_database(database, workspace, monkeypatch):
    used: list[Any] = []
    execute = psycopg.Cursor.execute

    def recorded(cursor: Any, *arguments: Any, **options: Any) -> Any:
        done = execute(cursor, *arguments, **options)
        used.append(cursor)
        return done

    run(
        database,
        "CREATE TABLE s (id int PRIMARY KEY)",
        "CREATE TABLE t (a text, b int, s int, PRIMARY KEY (a, b))",
        "INSERT INTO t SELECT 'x', n, NULL FROM generate_series(1, 500) AS n",
    )
    monkeypatch.setattr(psycopg.Cursor, "execute", recorded)
    result = check(database, workspace, small(target={"table": "t", "key": ["a", "b"]}))
    assert max(cursor.rowcount for cursor in used) == 20
    coverage = item(result, "coverage")
    assert coverage.unexpected == 500
    assert coverage.examples == tuple(f'["x", {number}]' for number in range(1, 21))


def test_source_keys_that_are_not_unique_are_refused(database, workspace):
    run(
        database,
        "CREATE TABLE s (id int)",
        "CREATE TABLE t (id int PRIMARY KEY, s int)",
        "INSERT INTO s VALUES (1), (1)",
        "INSERT INTO t VALUES (1, 1)",
    )
    with pytest.raises(CheckErrored, match="not unique"):
        check(database, workspace, small())


def test_checks_write_and_print_nothing_and_leave_no_session_behind(linked, workspace, spec, capfd):
    tables = "SELECT count(*) FROM pg_class"
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    with linked.session(read_only=True) as session:
        before = session.value(tables)
        check(linked, workspace, spec)
        assert session.value(tables) == before
    assert capfd.readouterr() == ("", "")
    with linked.session(read_only=True) as session:
        assert session.value(sessions) == 1


def test_the_result_is_a_json_document_without_the_password(rent, workspace, spec):
    document = json.dumps(check(rent, workspace, spec).as_dict())
    assert json.loads(document)["success"] is False
    password = rent.engine.url.password
    assert not password or password not in document


# -- hostile names and literals --------------------------------------------------------------------------


def small(**fields: Any) -> Reconciliation:
    document: dict[str, Any] = {
        "name": "small",
        "target": {"table": "t", "key": "id"},
        "source": {"table": "s", "key": "id"},
        "link": {"column": "s"},
        "passes": [{"name": "same", "on": {"s": "id"}}],
        "expect": {"coverage": 1.0},
    }
    return Reconciliation.model_validate(document | fields)


def test_names_and_literals_with_signs_keep_their_meaning(database, workspace):
    target, source, key, link = 'o"rder%s; --', "les reçus :x", "ключ:id", "100% \\:link"
    quoted = {name: '"' + name.replace('"', '""') + '"' for name in (target, source, key, link)}
    run(
        database,
        f'CREATE TABLE {quoted[source]} ({quoted[key]} text PRIMARY KEY, "a:b" text)',
        f"CREATE TABLE {quoted[target]} ({quoted[key]} text PRIMARY KEY, {quoted[link]} text, note text)",
        f"INSERT INTO {quoted[source]} VALUES ('s:1', 'x'), ('s%2', 'x')",
        f"INSERT INTO {quoted[target]} VALUES ('k''1', 's:1', 'a:b'), ('k%2', 's%2', 'a\\:b'), ('k:3', 's:1', '%s %(a)s ::c')",
        f"INSERT INTO {quoted[target]} VALUES ('out', NULL, '12:30::skip')",
    )
    spec = small(
        target={"table": f"{quoted[target]}", "key": key, "where": "note <> '12:30::skip'"},
        source={"table": f"{quoted[source]}", "key": key},
        link={"column": link},
        passes=[{"name": "same", "on": {quoted[link]: quoted[key]}}],
        expect={
            "coverage": 1.0,
            "right": {
                "linked": "t.note in ('a:b', 'a\\:b', '%s %(a)s ::c')",
                "only_first": "t.note = 'a:b'",
                "only_second": "t.note = 'a\\:b'",
                "only_third": "t.note = '%s %(a)s ::c'",
                "times": "'12:30'::text = '12:' || '30' and s.\"a:b\" = 'x'",
                "remainder": "7 % 4 = 3 and '%%' = '%' || '%'",
                "format": "to_char(timestamp '2025-01-01 12:30:00', 'HH24:MI') = '12:30'",
            },
        },
    )
    result = check(database, workspace, spec)
    assert {found.name: (found.status, found.observed, found.examples) for found in result.items} == {
        "coverage": ("passed", "3 of 3 (100.0 %)", ()),
        "link_exists": ("passed", "3 of 3 (100.0 %)", ()),
        "linked": ("passed", "3 of 3 (100.0 %)", ()),
        "only_first": ("failed", "1 of 3 (33.3 %)", ("k%2", "k:3")),
        "only_second": ("failed", "1 of 3 (33.3 %)", ("k'1", "k:3")),
        "only_third": ("failed", "1 of 3 (33.3 %)", ("k%2", "k'1")),
        "times": ("passed", "3 of 3 (100.0 %)", ()),
        "remainder": ("passed", "3 of 3 (100.0 %)", ()),
        "format": ("passed", "3 of 3 (100.0 %)", ()),
    }


# -- what proves nothing ---------------------------------------------------------------------------------


def test_an_empty_suite_is_refused(linked, workspace, spec):
    write_suite(workspace, {"name": spec.name, "expectations": []})
    with pytest.raises(CheckErrored, match="nothing to check"):
        check(linked, workspace, spec)


def test_an_unknown_expectation_is_refused_by_name(linked, workspace, spec, caplog):
    suite = suites.derive(spec)
    suite["expectations"].append({"type": "expect_column_values_to_be_lovely", "kwargs": {"column": "linked"}})
    write_suite(workspace, suite)
    with pytest.raises(CheckErrored, match="expect_column_values_to_be_lovely"):
        check(linked, workspace, spec)
    assert not caplog.records


def test_values_that_an_expectation_does_not_take_are_refused(linked, workspace, spec):
    suite = suites.derive(spec)
    suite["expectations"].append({"type": suites.NOT_NULL, "kwargs": {"column": "linked", "mostly": 2}})
    write_suite(workspace, suite)
    with pytest.raises(CheckErrored, match="Expectation 5"):
        check(linked, workspace, spec)


def test_an_expectation_that_raises_is_errored_and_not_failed(linked, workspace, spec):
    suite = suites.derive(spec)
    suite["expectations"].append({"type": suites.NOT_NULL, "kwargs": {"column": "no_such_column"}})
    write_suite(workspace, suite)
    result = check(linked, workspace, spec)
    assert not result.success
    assert not result.failed
    assert len(result.passed) == 4
    [errored] = result.errored
    assert errored.name == f"{suites.NOT_NULL} no_such_column"
    assert "no_such_column" in (errored.error or "")


def test_an_expectation_that_people_add_may_ask_in_sql_and_cannot_write(linked, workspace, spec):
    run(linked, "CREATE SEQUENCE counter")
    suite = suites.derive(spec)
    for name, query in {
        "asks": "SELECT * FROM {batch} WHERE target_key = 1551",
        "writes": "SELECT nextval('counter') FROM {batch}",
        "holds": "SELECT * FROM {batch} WHERE target_key < 0",
    }.items():
        kwargs = {"unexpected_rows_query": query}
        suite["expectations"].append({"type": "unexpected_rows_expectation", "kwargs": kwargs, "meta": {"name": name}})
    write_suite(workspace, suite)
    result = check(linked, workspace, spec)
    assert item(result, "asks").status == "failed"
    assert item(result, "holds").status == "passed"
    assert "read-only" in (item(result, "writes").error or "")
    assert json.dumps(result.as_dict())


def test_a_suite_without_what_the_spec_expects_is_refused(linked, workspace, spec):
    suite = suites.derive(spec)
    suite["expectations"][0]["kwargs"]["mostly"] = 0.5
    del suite["expectations"][2]
    write_suite(workspace, suite)
    with pytest.raises(CheckErrored, match="coverage, property_agrees"):
        check(linked, workspace, spec)


def test_a_file_that_is_no_suite_is_a_wrong_spec(linked, workspace, spec):
    write_suite(workspace, {"name": spec.name, "expectations": [{"kwargs": {}}]})
    with pytest.raises(SpecError, match="Expectation 1"):
        check(linked, workspace, spec)


def test_a_library_that_exits_while_it_loads_is_an_error(linked, workspace, spec, monkeypatch):
    import_module = builtins.__import__

    def exits(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "great_expectations":
            raise SystemExit(0)
        return import_module(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", exits)
    with pytest.raises(CheckErrored, match="cannot be loaded"):
        check(linked, workspace, spec)


# -- the files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rent_payments", "financial_transactions"])
def test_the_shipped_suite_is_what_the_spec_expects(name):
    """INV-15: the suites in the repository say what the specs say."""
    repository = Workspace(REPOSITORY)
    shipped = (REPOSITORY / "expectations" / f"{name}.json").read_text(encoding="utf-8")
    assert shipped == suites.text(suites.derive(repository.spec(name)))


def test_a_spec_of_ones_own_under_a_shipped_name_has_its_own_suite(workspace, spec):
    own = spec.model_copy(update={"expect": spec.expect.model_copy(update={"right": {"known": "s.id is not null"}})})
    assert suites.load(workspace, own) == suites.derive(own)
    assert suites.load(workspace, spec) == suites.derive(spec)


def test_a_written_suite_carries_no_ids_and_is_not_overwritten(workspace, spec):
    path = suites.write(workspace, spec)
    assert suites.write(workspace, spec) == path
    suite = json.loads(path.read_text())
    suite["expectations"][0]["id"] = suite["id"] = "11111111-2222-3333-4444-555555555555"
    assert suites.text(suite) == suites.text(suites.derive(spec))
    suite["expectations"].append({"type": suites.NOT_NULL, "kwargs": {"column": "linked"}})
    write_suite(workspace, suite)
    with pytest.raises(AlreadyExists):
        suites.write(workspace, spec)
