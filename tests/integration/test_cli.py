"""The command line as scripts see it: exit codes, JSON, one clear error, no traceback, no password."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from recon.database import embedded
from recon.database.connect import Database
from recon.workspace import Workspace
from tests.support import Ended, execute, load_rent_sample, recon, rows

pytestmark = pytest.mark.one_engine


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A workspace made by `recon init`."""
    folder = tmp_path / "home"
    assert recon("init", str(folder)).code == 0
    return folder


def test_help_answers_at_once_and_names_every_command() -> None:
    began = time.perf_counter()
    ended = recon("--help")
    assert time.perf_counter() - began < 2  # the figure itself is measured by hand; this only catches a heavy import
    for command in (
        "demo init list load match decisions explain plan plans runs approve reject apply verify revert report"
        " notebook database schema"
    ).split():
        assert command in ended.out


def test_nothing_heavy_is_imported_for_help() -> None:
    import subprocess
    import sys

    script = "import sys, recon.cli; print([m for m in ('sqlalchemy','sqlglot','pandas','plotly','psycopg','great_expectations','papermill','marimo','pydantic') if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_the_whole_path_by_commands_with_their_exit_codes(database: Database, home: Path) -> None:
    load_rent_sample(database)

    def run(*arguments: str, user: str = "ann") -> Ended:
        return recon(*arguments, url=database.url, user=user, cwd=home)

    matched = run("match", "rent_payments", "--json")
    assert matched.code == 0
    assert matched.json["population"] == 135
    assert matched.json["outcomes"] == {"linked": 125, "matched": 10}
    assert {item["name"]: item["matched"] for item in matched.json["passes"]}["property_and_customer"] == 7
    assert run("match", "financial_transactions", "--json").code == 3  # breaks remain

    csv = run("decisions", "rent_payments", "--format", "csv").out.splitlines()
    assert csv[0] == "target_key,source_key,outcome,pass,confidence,reason"
    assert "1551,20,matched,property_and_customer,0.950," in csv
    assert len(csv) == 136

    planned = run("plan", "rent_payments", "--json")
    assert planned.code == 0
    assert planned.json["rows"] == 10
    plan = planned.json["plan"]
    assert Path(planned.json["bundle"]).is_relative_to(home)

    before = rows(database, "SELECT * FROM historical_transactions ORDER BY id")
    dry = run("apply", plan, "--json")
    assert (dry.code, dry.json["executed"], dry.json["changed"]) == (0, False, 10)
    refused = run("apply", plan, "--execute", "--json")
    assert refused.code == 4
    assert refused.json["error"] == "NotApproved"
    assert refused.json["next"]
    assert run("approve", plan).code == 4  # the author's own approval
    assert rows(database, "SELECT * FROM historical_transactions ORDER BY id") == before

    assert run("approve", plan, "--json", user="bob").json["state"] == "approved"
    assert run("apply", plan, "--execute", "--json").json["changed"] == 10
    again = run("apply", plan, "--execute", "--json")
    assert (again.code, again.json["changed"]) == (0, 0)
    verified = run("verify", plan, "--json")
    assert (verified.code, verified.json["state"]) == (0, "verified")
    assert run("plans", "--json").json["plans"][0]["state"] == "verified"
    assert run("plan", "rent_payments", "--json").code == 0
    assert run("revert", plan, "--execute", "--json").json["restored"] == 10
    assert rows(database, "SELECT * FROM historical_transactions ORDER BY id") == before
    assert len(run("runs", "--json").json["runs"]) == 2


def test_people_see_tables_and_what_comes_next(database: Database, home: Path) -> None:
    load_rent_sample(database)

    def run(*arguments: str, user: str = "ann") -> Ended:
        return recon(*arguments, url=database.url, user=user, cwd=home)

    assert "92.6 %" in run("match", "rent_payments").out
    assert "LEASE-BH-F18-2025" in run("decisions", "rent_payments").out
    assert "final payment of an ended lease" in " ".join(run("decisions", "rent_payments").out.split())
    explained = run("explain", "rent_payments", "--key", "1551").out
    assert "property_and_customer · best" in explained
    assert "waits for" in (run("plan", "rent_payments").out and run("plans").out)


def test_the_embedded_database_serves_where_no_url_is_given(home: Path) -> None:
    try:
        assert recon("load", "rent_payments", "--sample", cwd=home).code == 0
        second = recon("load", "rent_payments", "--sample", "--json", cwd=home)
        assert (second.code, second.json["error"]) == (2, "AlreadyExists")
        assert recon("match", "rent_payments", cwd=home).code == 0
        assert "postgresql" in recon("database", "url", "--json", cwd=home).json["url"]
        assert recon("database", "stop", "--json", cwd=home).json == {"stopped": True}
    finally:
        embedded.discard(home / ".recon")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["match", "rent_paymnts"], 2, 'Did you mean "rent_payments"'),
        (["match"], 2, "Missing argument"),
        (["match", "rent_payments", "--from", "yesterday"], 2, "is not a day"),
        (["decisions", "rent_payments", "--format", "xml"], 2, "no format xml"),
        (["apply", "nope"], 2, "There is no plan nope"),
        (["report", "rent_payments"], 2, "recon match rent_payments"),
        (["plan", "rent_payments"], 2, "has no finished run"),
        (["match", "rent_payments"], 2, 'There is no table "historical_transactions"'),
        (["list", "--workspace", "/nowhere"], 2, "There is no folder"),
        (["notebook", "xplore"], 2, "There is no notebook"),
        (["database", "restart"], 2, "Use url, start or stop"),
    ],
)
def test_wrong_usage_gets_one_clear_error(
    database: Database, home: Path, arguments: list[str], code: int, said: str
) -> None:
    ended = recon(*arguments, url=database.url, cwd=home)
    assert ended.code == code
    assert said in " ".join(ended.err.split())
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("postgresql://ann:S3cret-pass@127.0.0.1:1/x", 1, "Nothing listens at 127.0.0.1, port 1"),
        ("postgresql://ann:S3cret-pass@no-such-host.invalid/x", 1, "host name no-such-host.invalid is not known"),
        ("mysql://ann:S3cret-pass@127.0.0.1/x", 2, "PostgreSQL, not on mysql"),
        ("S3cret-pass", 2, "URL cannot be read"),
    ],
)
def test_an_unreachable_database_is_named_without_its_password(home: Path, url: str, code: int, said: str) -> None:
    ended = recon("match", "rent_payments", "--json", url=url, cwd=home)
    assert ended.code == code
    assert said in f"{ended.json['what']} {ended.json['why']}"
    assert "S3cret" not in ended.out + ended.err
    assert "Traceback" not in ended.err


def test_a_wrong_password_is_named_without_showing_it(debian_url: str, home: Path) -> None:
    import sqlalchemy as sa

    url = sa.make_url(debian_url).set(password="S3cret-pass").render_as_string(hide_password=False)
    ended = recon("match", "rent_payments", url=url, cwd=home)
    assert ended.code == 1
    assert "does not accept user" in ended.err
    assert "S3cret" not in ended.out + ended.err


def test_a_broken_spec_names_file_line_and_field(home: Path, database: Database) -> None:
    (home / "reconciliations" / "mine.yaml").write_text("name: mine\ntarget: {table: a, key: id}\nsorce: {}\n")
    ended = recon("match", "mine", url=database.url, cwd=home)
    assert ended.code == 2
    assert "mine.yaml, line 3: sorce" in ended.err
    assert 'Did you mean "source"' in ended.err


def test_a_workspace_of_ones_own_works(database: Database, home: Path) -> None:
    execute(
        database,
        "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id int)",
        "CREATE TABLE lease (id int PRIMARY KEY, code text)",
        "INSERT INTO pay VALUES (1, 'x'), (2, 'y')",
        "INSERT INTO lease VALUES (7, 'x')",
    )
    (home / "reconciliations" / "mine.yaml").write_text(
        "name: mine\ntarget: {table: pay, key: id}\nsource: {table: lease, key: id}\n"
        "link: {column: lease_id}\npasses: [{name: code, on: {code: code}}]\n"
    )
    assert "mine" in recon("list", cwd=home).out
    ended = recon("match", "mine", "--json", url=database.url, cwd=home)
    assert (ended.code, ended.json["outcomes"]) == (3, {"matched": 1, "unmatched": 1})


def test_init_refuses_a_folder_that_holds_something(home: Path) -> None:
    ended = recon("init", str(home), "--json")
    assert (ended.code, ended.json["error"]) == (2, "AlreadyExists")


def test_settings_may_stand_in_a_dotenv_file(database: Database, home: Path) -> None:
    (home / ".env").write_text(f"RECON_DATABASE_URL={database.url}\n")
    assert recon("runs", "--json", cwd=home).json == {"runs": []}


def test_the_repository_is_a_workspace() -> None:
    root = Path(__file__).parents[2]
    assert set(Workspace.find(root).reconciliations()) == {"rent_payments", "financial_transactions"}
