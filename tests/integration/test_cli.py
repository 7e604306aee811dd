"""The command line as scripts see it: exit codes, JSON, one clear error, no traceback, no password."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from recon import demonstration, workflow
from recon.database import embedded
from recon.database.connect import Database
from recon.errors import Locked
from recon.workspace import Workspace
from tests.support import RENT, ROOT, Ended, execute, load_rent_sample, recon, rows

pytestmark = pytest.mark.one_engine


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A workspace made by `recon init`."""
    folder = tmp_path / "home"
    assert recon("init", str(folder)).code == 0
    return folder


def test_help_answers_at_once_and_names_every_command() -> None:
    began = time.perf_counter()
    ended = recon("--help", anew=True)
    assert time.perf_counter() - began < 2  # the figure itself is measured by hand; this only catches a heavy import
    for command in (
        "demo init list load match decisions explain backtest what-if try plan plans runs review approve reject standing apply verify revert report"
        " notebook database schema"
    ).split():
        assert command in ended.out


def test_python_runs_it_where_the_path_does_not_have_the_command(tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-m", "recon", "lst"], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "Did you mean 'list'" in ended.stderr


def test_nothing_heavy_is_imported_for_help() -> None:
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
    stale = run("plan", "rent_payments", "--json")  # the run's decisions are carried out, so they no longer hold
    assert (stale.code, stale.json["error"]) == (4, "Stale")
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
        url = recon("database", "url", "--json", cwd=home).json["url"]
        with psycopg.connect(url) as any_tool:  # it is not only for recon
            assert any_tool.execute("SELECT current_database()").fetchone() == ("recon",)
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
        (["database", "restart"], 2, "Use url, start, stop or roles"),
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


def test_init_takes_its_folder_either_way_and_quotes_it(tmp_path: Path) -> None:
    folder = tmp_path / "my books"
    assert f"cd '{folder}'" in recon("init", "--workspace", str(folder)).out.replace("\n", " ")
    assert (folder / "recon.toml").is_file()
    listed = (folder / "allowed_signers").read_text(encoding="utf-8").splitlines()
    assert all(line.startswith("#") for line in listed)  # nobody yet
    assert recon("init").code == 2
    assert recon("init", str(tmp_path / "a"), "--workspace", str(tmp_path / "b")).code == 2


def test_init_refuses_a_folder_that_holds_something(home: Path) -> None:
    ended = recon("init", str(home), "--json")
    assert (ended.code, ended.json["error"]) == (2, "AlreadyExists")


def test_settings_may_stand_in_a_dotenv_file(database: Database, home: Path) -> None:
    """SYN-10: the database too is a setting of `.env`; it is this one that is asked."""
    (home / ".env").write_text(f"RECON_DATABASE_URL={database.url}\n")
    assert recon("runs", "--json", cwd=home).json == {"runs": []}
    assert rows(database, "SELECT to_regclass('recon.runs')::text") == [("recon.runs",)]


def test_the_repository_is_a_workspace() -> None:
    root = Path(__file__).parents[2]
    crm = {f"crm_{name}" for name in ("companies", "contacts", "deals", "communications")}
    stays = {"stays_reservations", "stays_duplicates"}
    known = {"rent_payments", "financial_transactions", "hcp_jobs", *crm, *stays}
    assert set(Workspace.find(root).reconciliations()) == known


# -- usage errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["match"], "Missing argument"),
        (["nope"], "No such command 'nope'"),
        (["match", "rent_payments", "--frobnicate"], "No such option: --frobnicate"),
        (["match", "rent_payments", "--limit", "0"], "Invalid value for '--limit'"),
        (["match", "rent_payments", "--limit", "many"], "Invalid value for '--limit'"),
        (["reject", "x"], "Missing option '--reason'"),
        ([], "No such option: --json"),
        (["list", "\udcff"], "holds bytes that are not UTF-8"),
    ],
)
def test_wrong_usage_is_one_json_document_too(home: Path, arguments: list[str], said: str) -> None:
    ended = recon(*arguments, "--json", cwd=home)
    assert ended.code == 2
    assert ended.json.keys() == {"error", "what", "why", "next"}
    assert ended.json["error"] == "UsageError"
    assert said in ended.json["what"]
    assert said in ended.err
    assert ended.json["next"]


def test_a_setting_that_is_not_utf8_is_named(home: Path) -> None:
    ended = recon("list", "--json", user="\udcff", cwd=home)
    assert (ended.code, ended.json["error"]) == (2, "UsageError")
    assert "holds bytes that are not UTF-8" in ended.json["what"]


def test_recon_alone_gives_its_help() -> None:
    ended = recon()
    assert ended.code == 2
    assert "Usage: recon" in ended.out
    assert recon("--help").code == 0
    assert recon("--version").code == 0


def test_outside_of_a_workspace_only_what_needs_none_works(tmp_path: Path) -> None:
    for command in (["runs"], ["plans"], ["match", "rent_payments"], ["database", "url"], ["notebook", "explore"]):
        ended = recon(*command, "--json", cwd=tmp_path)
        assert (ended.code, ended.json["error"]) == (2, "UsageError")
        assert ended.json["what"] == "There is no workspace here."
        assert "recon init DIR" in ended.json["next"]
    assert recon("list", cwd=tmp_path).code == 0
    assert recon("schema", "--json", cwd=tmp_path).json["title"] == "Reconciliation"
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_reconciliation_has_no_history(database: Database, home: Path) -> None:
    for command in ("plans", "runs"):
        assert recon(command, "rent_payments", url=database.url, cwd=home).code == 0
        ended = recon(command, "rent_paymnts", "--json", url=database.url, cwd=home)
        assert (ended.code, ended.json["error"]) == (2, "NotFound")
        assert 'Did you mean "rent_payments"' in ended.json["why"]


def test_load_offers_sample_data_only_where_there_is_some(home: Path) -> None:
    own = "name: {}\ntarget: {{table: a, key: id}}\nsource: {{table: b, key: id}}\npasses: [{{name: id, on: [id]}}]\n"
    (home / "reconciliations" / "mine.yaml").write_text(own.format("mine"))
    shipped, mine = (recon("load", name, "--json", cwd=home).json for name in ("rent_payments", "mine"))
    assert "There is nothing to load" in shipped["what"]
    assert "--sample" in shipped["next"]
    assert "There is nothing to load" in mine["what"]
    assert "--sample" not in mine["next"]


# -- what people see -------------------------------------------------------------------------------------


def test_screens_say_what_they_leave_out_and_what_comes_next(database: Database, home: Path) -> None:
    load_rent_sample(database)

    def run(*arguments: str, user: str = "ann") -> Ended:
        return recon(*arguments, url=database.url, user=user, cwd=home)

    limited = run("match", "rent_payments", "--limit", "3").out
    assert "Limited run" in limited
    assert "%" not in limited
    assert run("match", "rent_payments").code == 0
    assert "125 records are linked already and not listed; --format csv gives all" in run("decisions", RENT).out
    plan = run("plan", RENT, "--json").json["plan"]
    waiting = run("apply", plan).out
    assert "it waits for a reviewer" in waiting
    assert "--execute" not in waiting
    assert max(map(len, waiting.splitlines())) <= 140
    assert run("approve", plan, user="bob").code == 0
    assert f"To write: recon apply {plan} --execute" in run("apply", plan).out
    assert run("apply", plan, "--execute").code == 0
    verified = run("verify", plan)
    assert verified.code == 0
    assert f"Plan {plan} is verified: its own changes are all there and right." in verified.out
    assert "fell short" not in verified.out


# -- demo and samples ------------------------------------------------------------------------------------


def test_a_demo_that_leaves_breaks_says_so_by_its_exit_code(tmp_path: Path) -> None:
    try:
        shown = recon("demo", "financial_transactions", "--workspace", str(tmp_path))
        assert shown.code == 3
        [(after, total)] = re.findall(r"[0-9]+ → ([0-9,]+) of ([0-9,]+) .*verified", shown.out)
        assert int(after.replace(",", "")) < int(total.replace(",", ""))
        said = shown.out.split("Look closer: recon notebook explore")[1].split(" · recon revert ")[1]
        undone = recon("revert", *shlex.split(said))  # as it stands there
        assert (undone.code, undone.err) == (0, "")
    finally:
        embedded.discard(tmp_path / ".recon")


def test_the_demo_ends_with_its_document_and_every_figure_is_in_the_tables(tmp_path: Path) -> None:
    """INV-01: counted again here, by SQL, from the database that the demo left."""
    try:
        document = recon("demo", "--json", "--workspace", str(tmp_path)).json
        with Database(embedded.start(tmp_path / ".recon", workflow.DEMO_DATABASE)).session() as session:
            linked = "SELECT count(*), count(invoice_id) FROM historical_transactions WHERE category = 'rent'"
            counted = session.rows(linked)
    finally:
        embedded.discard(tmp_path / ".recon")
    assert counted == [(135, 135)]
    assert document | {"plan": None, "bundle": None, "report": None} == {
        "reconciliation": "rent_payments",
        "total": 135,
        "linked_before": 125,
        "linked_after": 135,
        "coverage_before": 125 / 135,
        "coverage_after": 1.0,
        "plan": None,
        "bundle": None,
        "report": None,
        "verified": True,
    }
    assert len(list(Path(document["bundle"]).iterdir())) == 7
    assert Path(document["report"]).suffix == ".html"


def test_a_second_demo_in_the_same_workspace_is_refused(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    workspace = Workspace(tmp_path)
    refused: list[Ended] = []

    def tell(step: str, result: Any) -> None:
        refused.append(recon("demo", "--json", "--workspace", str(tmp_path)))
        raise Enough

    try:
        for _ in range(2):  # the lock of a demo that ended is gone, however it ended
            with pytest.raises(Enough):
                demonstration.demo(workspace, "rent_payments", tell)
        assert [(ended.code, ended.json["error"]) for ended in refused] == [(Locked.exit_code, "Locked")] * 2
        assert refused[0].json["what"] == "Another demo is running in this workspace."
    finally:
        embedded.discard(workspace.folder)


def test_sample_tables_come_from_the_shipped_script_only(database: Database, workspace: Workspace) -> None:
    own = workspace.root / "sql" / "schema"
    own.mkdir(parents=True)
    for shipped in (ROOT / "sql" / "schema").glob("*.sql"):
        (own / shipped.name).write_text("CREATE TABLE strange (id int);")
    assert workflow.load_sample(database, RENT)["historical_transactions"] > 0
    assert rows(database, "SELECT to_regclass('strange')::text") == [(None,)]
