"""What `recon check` finds before any work: each kind of finding, in words, on real servers; and it writes nothing."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from recon import screens_check
from recon.database.connect import Database, Session
from recon.errors import DatabaseUnreachable, SchemaMismatch
from recon.expressions import parse
from recon.matching import check as checking
from recon.matching import findings
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.matching.check import Checked
from recon.matching.findings import Finding
from recon.matching.formats import FORMATS
from recon.matching.profile import profile
from recon.spec import Reconciliation
from tests.support import Ended, execute, load_rent_sample, recon, rent_spec, rows, simple_spec

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code

TABLES = (
    "CREATE TABLE pay (id int, code text, grp int, amount numeric, lease_id int)",
    "CREATE TABLE lease (id int, code text, grp int, started date)",
)


def _check(database: Database, *statements: str, limit: int = checking.MAX_PAIRS, **fields: Any) -> Checked:
    execute(database, *TABLES, *statements)
    return checking.check(database, simple_spec(**fields), limit=limit)


def _about(result: Checked, words: str) -> Finding:
    found = [finding for finding in result.findings if words in finding.what]
    assert len(found) == 1, [finding.what for finding in result.findings]
    return found[0]


def _codes(table: str, *codes: str) -> str:
    values = ", ".join(f"({number}, $recon${code}$recon$)" for number, code in enumerate(codes, start=1))
    return f"INSERT INTO {table} (id, code) VALUES {values}"


# -- the sides -------------------------------------------------------------------------------------------


def test_what_agrees_leaves_nothing_to_remark(database: Database) -> None:
    result = _check(database, _codes("pay", "a", "b"), _codes("lease", "a", "b"))
    assert result.findings == ()
    assert result.clean
    assert result.pairs[0].pairs == 2
    equality = result.profile.passes[0].on[0]
    assert (equality.target.filled, equality.target.distinct, equality.common) == (2, 2, 2)
    assert (equality.target_type, equality.source_type) == ("text", "text")


def test_no_rows_at_all_are_two_findings(database: Database) -> None:
    result = _check(database)
    assert [(item.severity, item.what) for item in result.findings] == [
        ("error", "The target has no records."),
        ("error", "The source has no records."),
    ]
    assert not result.clean
    screens_check.checked(result)


def test_a_where_that_leaves_nothing_is_told_from_an_empty_table(database: Database) -> None:
    result = _check(database, _codes("pay", "a"), target={"table": "pay", "key": "id", "where": "id > 9"})
    _about(result, "No record of the target satisfies its `where`")
    _about(result, "The source has no records")


def test_keys_that_name_no_record_are_counted(database: Database) -> None:
    result = _check(
        database,
        "INSERT INTO pay (id, code) VALUES (1, 'a'), (1, 'a'), (1, 'a'), (2, 'a'), (2, 'a'), (3, 'a'), (NULL, 'a')",
        _codes("lease", "a"),
    )
    assert _about(result, "id is not unique: 5 target records share 2 keys").severity == "error"
    assert _about(result, "1 of 7 target records have no id").severity == "error"


def test_composite_keys_are_unique_together(database: Database) -> None:
    key = {"table": "pay", "key": ["id", "code"]}
    result = _check(database, _codes("pay", "a", "b"), "UPDATE pay SET id = 1", _codes("lease", "a", "b"), target=key)
    assert result.findings == ()
    assert result.profile.target.key == ("id", "code")


def test_shares_and_different_values_of_each_column_are_counted(rent: Database) -> None:
    """INV-12: the share of property, customer and PayProp id filled, before any rule is trusted."""
    result = checking.check(rent, rent_spec())
    columns = {column.name: column for column in result.profile.target.columns}
    for name in ("property_id", "customer_id", "payprop_invoice_id"):
        counted = f"SELECT count({name}), count(DISTINCT {name}) FROM historical_transactions WHERE category = 'rent'"
        assert [(columns[name].filled, columns[name].distinct)] == rows(rent, counted)
    assert columns["customer_id"].uses == ("on (pass property_and_customer)", "when (pass property_without_customer)")
    assert columns["invoice_id"].uses == ("link",)
    assert (result.profile.target.records, result.profile.target.linked) == (135, 125)
    held = "SELECT count(DISTINCT invoice_id) FROM historical_transactions JOIN invoices ON invoice_id = invoices.id"
    assert [(result.profile.source.linked,)] == rows(rent, held)
    document = result.as_dict()["target"]["columns"]
    assert document[0]["share_filled"] == columns["payprop_invoice_id"].filled / 135


def test_a_column_without_a_value_is_named(database: Database) -> None:
    result = _check(
        database,
        _codes("pay", "a"),
        _codes("lease", "a"),
        passes=[{"name": "one", "on": {"code": "code"}, "when": "t.grp is null", "prefer": ["s.started"]}],
    )
    assert _about(result, "started is empty in every record; it is read by prefer (pass one)").severity == "warning"
    assert _about(result, "grp is empty in every record; it is read by when (pass one)").severity == "note"
    assert not any("lease_id" in item.what for item in result.findings)  # no link yet is how it starts


def test_links_are_told(database: Database) -> None:
    result = _check(database, _codes("pay", "a"), _codes("lease", "a"), "UPDATE pay SET lease_id = 1")
    assert _about(result, "All 1 target records are linked").severity == "note"
    assert result.pairs[0].pairs == 0
    assert result.clean
    unlinked = checking.check(database, simple_spec(link=None))
    assert _about(unlinked, "names no `link`").severity == "note"


# -- nothing matches -------------------------------------------------------------------------------------


def test_an_empty_column_explains_that_nothing_matches(database: Database) -> None:
    """CRM-16: all unmatched at once, because the column is empty."""
    result = _check(database, "INSERT INTO pay VALUES (1), (2)", _codes("lease", "a"))
    finding = _about(result, "All unmatched: code is empty in every target record.")
    assert (finding.severity, finding.where) == ("error", "pass by_code")
    assert len(result.findings) == 1
    assert result.profile.passes[0].target_probes == ()
    assert result.profile.passes[0].source_probes == (("a",),)


def test_ten_values_of_either_side_show_why_nothing_matches(database: Database) -> None:
    """CRM-16: a probe of ten values from each side."""
    left, right = [f"L-{number:02}" for number in range(12)], [f"R-{number:02}" for number in range(5)]
    result = _check(database, _codes("pay", *left), _codes("lease", *right))
    _about(result, "All unmatched: none of 12 code values of the target is among 5 code values of the source.")
    item = result.profile.passes[0]
    assert item.target_probes == tuple((value,) for value in left[:10])
    assert item.source_probes == tuple((value,) for value in right)


def test_one_pass_of_several_that_finds_nothing_is_a_warning(database: Database) -> None:
    result = _check(
        database,
        "INSERT INTO pay VALUES (1, 'a', 1)",
        "INSERT INTO lease VALUES (1, 'b', 1)",
        passes=[{"name": "code", "on": ["code"]}, {"name": "grp", "on": ["grp"]}],
    )
    assert _about(result, "Pass code finds nothing: none of 1 code values").severity == "warning"
    assert result.profile.passes[1].common == 1


def test_a_composite_that_never_agrees_as_a_whole_is_told_apart(database: Database) -> None:
    result = _check(
        database,
        "INSERT INTO pay VALUES (1, 'a', 1), (2, 'b', 2)",
        "INSERT INTO lease VALUES (1, 'a', 2), (2, 'b', 1)",
        passes=[{"name": "both", "on": ["code", "grp"]}],
    )
    _about(result, "each equality has values in common, but no two records agree on all of them")
    item = result.profile.passes[0]
    assert [equality.common for equality in item.on] == [2, 2]
    assert item.target_probes == (("a", "1"), ("b", "2"))
    assert item.source_probes == (("a", "2"), ("b", "1"))


# -- formats of ids --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right", "said", "remedy"),
    [
        (("007", "12"), ("7", "12"), "1 of 2 target values have leading zeros; 1 more would agree without them.", "ltrim(code, '0')"),
        (("12", "5"), ("12.0", "5"), "1 of 2 source values end in .0; 1 more would agree without it.", "regexp_replace(code, '[.]0+$', '')"),
        ((" a", "b\u00a0", "c"), ("a", "b", "c"), "2 of 3 target values have blanks around them; 2 more would agree without them.", "btrim(code)"),
        (("A1", "b"), ("a1", "b"), "1 of 2 target values have capital letters; 1 more would agree if case did not count.", "lower(code)"),
    ],
)  # fmt: skip
def test_ids_that_are_written_differently_are_counted(
    database: Database, left: tuple[str, ...], right: tuple[str, ...], said: str, remedy: str
) -> None:
    """CRM-02, CRM-16: formats that differ are profiled and reported, and equal only where the spec says so."""
    result = _check(database, _codes("pay", *left), _codes("lease", *right))
    finding = _about(result, said)
    assert (finding.severity, finding.where) == ("warning", "pass by_code, on code")
    assert remedy in finding.todo
    assert not result.clean


def test_capitals_are_counted(database: Database) -> None:
    result = _check(database, _codes("pay", "Ab", "B"), _codes("lease", "aB", "B"))
    said = "2 of 2 target values and 2 of 2 source values have capital letters; 1 more would agree if case did not"
    assert said in _about(result, "capital").what


def test_capitals_are_those_that_the_server_knows(database: Database) -> None:
    local = rows(database, "SELECT lower('É') = 'é'")[0][0]
    result = _check(database, _codes("pay", "É1"), _codes("lease", "é1"))
    assert result.profile.passes[0].on[0].formats[-1].would_agree == int(local)


def test_differences_that_come_together_are_counted_too(database: Database) -> None:
    result = _check(database, _codes("pay", " 007", "x"), _codes("lease", "7.0", "x"))
    assert _about(result, "1 more would agree without any of these").severity == "warning"


def test_a_format_that_nothing_hangs_on_is_a_note(database: Database) -> None:
    result = _check(database, _codes("pay", "007", "1"), _codes("lease", "1"))
    finding = _about(result, "1 of 2 target values have leading zeros; no more would agree without them.")
    assert finding.severity == "note"
    assert result.clean


@pytest.mark.parametrize("code", ["0", "0.5", "10", "100.50", "a b", "", "-", "0x1F".lower(), "%s", "it's", "a\nb"])
def test_what_is_no_format_is_left_alone(database: Database, code: str) -> None:
    result = _check(database, _codes("pay", code), _codes("lease", code))
    assert [(item.target, item.source) for item in result.profile.passes[0].on[0].formats] == [(0, 0)] * 4


def test_what_a_finding_proposes_can_be_written_in_a_spec() -> None:
    for item in FORMATS:
        for name in ("code", '"Odd Name"', "coalesce(t.a, t.b)"):
            parse(item.remedy.format(name), "t")


def test_numbers_have_no_formats_and_texts_of_numbers_do(database: Database) -> None:
    """CRM-02: compared as text, whatever their types."""
    execute(
        database,
        "CREATE TABLE pay (id int, code numeric(6, 1), lease_id int)",
        "CREATE TABLE lease (id int, code int)",
        "INSERT INTO pay VALUES (1, 123)",
        "INSERT INTO lease VALUES (1, 123)",
    )
    as_text = [{"name": "by_code", "on": ["code"], "compare_as": "text"}]
    result = checking.check(database, simple_spec(passes=as_text))
    equality = result.profile.passes[0].on[0]
    assert (equality.target_type, equality.source_type) == ("numeric", "int4")
    assert _about(result, "The target is numeric, the source is int4").severity == "note"
    assert "1 more would agree without it" in _about(result, "end in .0").what
    cast = [{"name": "by_code", "on": {"code::int": "code"}}]
    numbers = checking.check(database, simple_spec(passes=cast))
    assert numbers.profile.passes[0].on[0].formats == ()
    assert numbers.findings == ()


def test_an_equality_of_several_passes_is_reported_once(database: Database) -> None:
    result = _check(
        database,
        _codes("pay", "007", "1"),
        _codes("lease", "7", "1"),
        passes=[{"name": "one", "on": ["code"], "when": "t.id > 0"}, {"name": "two", "on": ["code"]}],
    )
    assert _about(result, "leading zeros").where == "pass one, two, on code"


# -- values of several records ---------------------------------------------------------------------------


def _one_to_one(database: Database, **fields: Any) -> tuple[Finding, ...]:
    execute(database, *TABLES, _codes("pay", "a", "b", "b", "c", "d"), _codes("lease", "a", "a", "b", "x", "x"))
    with database.session(read_only=True) as session:
        bound = bind(session, simple_spec(**fields))
        bound = replace(bound, spec=bound.spec.model_copy(update={"cardinality": "one_to_one"}))
        return findings.find(bound, profile(session, bound), (), checking.MAX_PAIRS)


def test_values_of_several_records_are_reported_as_ambiguous_to_be(database: Database) -> None:
    """CRM-13: duplicate ids on the other side are detected and reported as ambiguous."""
    found = {item.what: item.severity for item in _one_to_one(database)}
    assert found == {
        "2 of 3 values of code stand in several source records; 1 target records ask for them"
        " and would be ambiguous.": "warning",
        "1 of 4 values of code stand in several target records; 1 source records ask for them"
        " and would be ambiguous.": "warning",
    }


def test_a_preference_may_tell_them_apart(database: Database) -> None:
    rule = {"name": "by_code", "on": ["code"], "prefer": ["s.id"]}
    found = _one_to_one(database, passes=[rule])
    assert {item.severity for item in found} == {"note"}
    assert all("told apart only by the pass's other rules" in item.what for item in found)


def test_many_targets_may_have_one_source(database: Database) -> None:
    result = _check(database, _codes("pay", "a", "a"), _codes("lease", "a"))
    assert result.findings == ()
    tied = checking.check(database, simple_spec(target={"table": "lease", "key": "id"}, link=None, source={"table": "pay", "key": "id"}))  # fmt: skip
    assert _about(tied, "1 of 1 values of code stand in several source records").severity == "warning"


# -- candidate pairs -------------------------------------------------------------------------------------


def test_a_pass_over_the_limit_is_refused_by_name(database: Database) -> None:
    result = _check(database, _codes("pay", *"aab"), _codes("lease", *"aab"), limit=4)
    finding = _about(result, "Pass by_code would make 5 candidate pairs.")
    assert finding.severity == "error"
    assert "code = 'a': 2 target records × 2 source records = 4 pairs" in finding.what
    assert result.refused == ("by_code",)
    assert result.as_dict()["passes"][0]["refused"] is True
    assert result.as_dict()["passes"][0]["candidates"]["worst_key"] == ("a",)


# -- before any work -------------------------------------------------------------------------------------


def test_a_check_is_one_read_only_look_at_one_moment(rent: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    settings: list[tuple[str, str]] = []

    def spied(session: Session, spec: Reconciliation, *, shows_private: bool) -> Bound:
        asked = "SELECT current_setting('transaction_read_only'), current_setting('transaction_isolation')"
        settings.extend(session.rows(asked))
        return bind(session, spec, shows_private=shows_private)

    monkeypatch.setattr(checking, "bind", spied)
    tables = "SELECT schemaname, tablename FROM pg_tables WHERE schemaname NOT LIKE 'pg\\_%' ORDER BY 1, 2"
    before = rows(rent, tables)
    checking.check(rent, rent_spec())
    assert settings == [("on", "repeatable read")]
    assert rows(rent, tables) == before


def test_the_records_may_come_from_a_query(rent: Database) -> None:
    spec = rent_spec()
    query = {"query": "select * from invoices where id > 0", "key": "id"}
    from_query = Reconciliation.model_validate(spec.model_dump(exclude={"source"}) | {"source": query})
    assert checking.check(rent, from_query).profile.source.records == 130


def test_hostile_names_and_values_are_profiled(database: Database) -> None:
    hostile = ['x"; drop table pay; --', "100 %s %(x)s", "a\nb", "\x1b[31mred", "$1 :x {y}", "é" * 5000]
    name = 'or"der %s\n'
    quoted = '"' + name.replace('"', '""') + '"'
    result = _check(
        database,
        f"ALTER TABLE pay ADD COLUMN {quoted} text",
        _codes("pay", *hostile),
        f"UPDATE pay SET {quoted} = code",
        _codes("lease", "other"),
        passes=[{"name": "odd", "on": {quoted: "code"}}],
    )
    item = result.profile.passes[0]
    assert {value for (value,) in item.target_probes} == {*hostile[:-1], "é" * 200 + "…"}
    assert item.on[0].target_name == quoted
    assert result.profile.target.columns[0].name == name


def test_screens_show_hostile_values_on_one_short_line(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    recorder = Console(width=140, record=True, force_terminal=True, file=io.StringIO())
    monkeypatch.setattr(screens_check, "console", recorder)
    monkeypatch.setattr("recon.screens.console", recorder)
    values = ["[red]x[/red]", "a\nb", "\x1b[31mred", " 007 ", "é" * 5000]
    screens_check.checked(_check(database, _codes("pay", *values), _codes("lease", "7")))
    shown = recorder.export_text()
    for value in ('"[red]x[/red]"', '"a\\nb"', '"\\x1b[31mred"', '" 007 "', '"' + "é" * 40 + '…"'):
        assert value in shown
    assert "é" * 41 not in shown


# -- the command -----------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A workspace with a spec of its own."""
    folder = tmp_path / "home"
    assert recon("init", str(folder)).code == 0
    (folder / "reconciliations" / "mine.yaml").write_text(
        "name: mine\ntarget: {table: pay, key: id}\nsource: {table: lease, key: id}\n"
        "link: {column: lease_id}\npasses: [{name: code, on: {code: code}}]\n"
    )
    return folder


@pytest.mark.one_engine
def test_the_exit_code_says_how_bad_it_is(database: Database, home: Path) -> None:
    def run(*more: str) -> Ended:
        return recon("check", "mine", *more, url=database.url, cwd=home)

    missing = run("--json")
    assert (missing.code, missing.json["error"]) == (2, "SchemaMismatch")
    assert 'There is no table "pay"' in missing.json["what"]
    execute(database, *TABLES, _codes("pay", "a"), _codes("lease", "a"))
    fine = run("--json")
    assert (fine.code, fine.json["clean"], fine.json["passes"][0]["candidates"]["pairs"]) == (0, True, 1)
    assert fine.json["database"]["server"].startswith("PostgreSQL ")
    execute(database, "UPDATE pay SET code = '00'", "UPDATE lease SET code = '0'")
    short = run()
    assert short.code == 3
    assert "All unmatched" in short.out
    assert "1 of 1 target values have leading zeros" in " ".join(short.out.split())
    same = "SELECT n, 'a' FROM generate_series(2, 20000) AS n"
    execute(database, f"INSERT INTO pay (id, code) {same}", f"INSERT INTO lease (id, code) {same}")
    refused = run("--json")
    assert (refused.code, refused.json["passes"][0]["refused"]) == (4, True)
    assert refused.json["passes"][0]["candidates"]["pairs"] == 19_999**2
    assert "refused" in run().out


@pytest.mark.one_engine
def test_check_names_the_column_that_a_mirror_lacks(database: Database, home: Path) -> None:
    """CRM-01: check says so and names the column."""
    execute(database, "CREATE TABLE pay (id int, lease_id int)", TABLES[1])
    ended = recon("check", "mine", url=database.url, cwd=home)
    assert ended.code == 2
    assert 'pay has no column "code"' in ended.err
    execute(database, "ALTER TABLE pay ADD COLUMN code text", "ALTER TABLE pay DROP COLUMN lease_id")
    with pytest.raises(SchemaMismatch) as refused:
        checking.check(database, simple_spec())
    assert 'pay has no column "lease_id"' in refused.value.what


@pytest.mark.one_engine
def test_the_connection_comes_first_and_its_cause_is_named(database: Database, home: Path) -> None:
    """CRM-14: check tests the connection first, names the cause and stops before any work."""
    for url, cause in (
        ("postgresql://ann:S3cret@no-such-host.invalid/x", "host name no-such-host.invalid is not known"),
        ("postgresql://ann:S3cret@127.0.0.1:1/x", "Nothing listens at 127.0.0.1, port 1"),
    ):
        ended = recon("check", "mine", "--json", url=url, cwd=home)
        assert (ended.code, ended.json["error"]) == (1, DatabaseUnreachable.__name__)
        assert cause in ended.json["why"]
        assert "S3cret" not in ended.out + ended.err


@pytest.mark.one_engine
def test_people_see_tables_findings_and_what_to_do(database: Database, home: Path) -> None:
    load_rent_sample(database)
    shown = recon("check", "rent_payments", url=database.url, cwd=home)
    assert shown.code == 0
    assert "125 linked (92.6 %)" in shown.out
    assert "candidate pairs" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 140
