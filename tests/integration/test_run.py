"""`recon run` goes the whole way through one notebook; whatever ends it, its row, its files and its exit code agree."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
import sqlalchemy as sa

from recon import whole_way
from recon.backfill import plan as plans
from recon.backfill import sign_off, standing
from recon.database import tables
from recon.database.connect import Database
from recon.errors import NotFound, Refused, ReportFailed, UsageError, VerifyFailed
from recon.matching import run as runs
from recon.reports import kept, parameters
from recon.reports.run import begun, perform
from recon.whole_way import NOTEBOOK, Way, Wish
from recon.workspace import Workspace
from tests.support import ROOT, Ended, execute, load_rent_sample, recon, rent_spec, rows

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code

RENT = "rent_payments"
PASSWORD = "hush-4711-hush"
PATIENCE_SECONDS = 60


@pytest.fixture
def rent(database: Database) -> Database:
    """The sample, by a URL with a password, which the server of the tests does not ask for."""
    load_rent_sample(database)
    url = sa.make_url(database.url).set(password=PASSWORD)
    return Database(url.render_as_string(hide_password=False))


@pytest.fixture
def place(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("RECON_USER", "ann")
    return workspace


def ran(database: Database, workspace: Workspace, *options: str) -> Ended:
    return recon("run", RENT, *options, "--workspace", str(workspace.root), url=database.url)


def kept_runs(database: Database) -> list[dict[str, Any]]:
    return kept.history(database, RENT)


def linked(database: Database) -> int:
    return rows(database, "SELECT count(invoice_id) FROM historical_transactions WHERE category = 'rent'")[0][0]


def way(database: Database, workspace: Workspace, **wish: Any) -> Way:
    return Way(database, workspace, rent_spec(), Wish(**wish))


# -- the whole way ---------------------------------------------------------------------------------------


def test_a_run_waits_for_a_person_and_goes_the_whole_way_under_a_standing_sign_off(
    rent: Database, place: Workspace
) -> None:
    dry = ran(rent, place)
    assert dry.code == 0, dry.err
    assert "10 of 10 rows would change; nothing was written" in dry.out
    assert "recon run rent_payments --execute" in dry.out
    assert linked(rent) == 125

    waiting = ran(rent, place, "--execute", "--json")
    assert waiting.code == 3, waiting.err
    plan = waiting.json["plan"]
    assert plan["rows"] == 10
    assert plan["waited"]  # the plan of the dry run is the same, and stays the one
    assert waiting.json["awaits"] == f"recon review {plan['plan']}"
    assert (waiting.json["apply"], linked(rent)) == (None, 125)

    standing.give(rent, place, RENT, "bob", rows=10, days=1, actions=("link",))
    done: list[tuple[int, int]] = []
    headings: list[str] = []
    document = whole_way.run(
        rent, place, RENT, Wish("execute"), progress=lambda *cells: done.append(cells), tell=headings.append
    )
    assert document["exit_code"] == 0
    assert document["plan"]["plan"] == plan["plan"]
    assert document["sign_off"]["given"][0].startswith("bob (standing ")
    assert (document["apply"]["changed"], document["verify"]["state"]) == (10, "verified")
    assert (document["remains"]["linked"], document["remains"]["population"]) == (135, 135)
    assert (linked(rent), document["falls_short"]) == (135, [])
    assert done[0] == (0, done[-1][1])
    assert headings[0].startswith("Check")
    assert headings[-1] == "How it ended"
    html = Path(document["report"]).read_text(encoding="utf-8")
    assert "10 of 10 rows were changed" in html
    assert "Every one of 10 planned rows holds what was signed" in html
    assert "Done, and as expected" in html

    # Each of the three has its row, and nothing that is kept anywhere holds the secret.
    found = kept_runs(rent)
    assert [row["state"] for row in found] == ["success"] * 3
    assert found[0]["id"] == document["notebook_run"] == found[0]["parameters"]["identity"]
    assert (found[0]["plan"], found[0]["file"]) == (plan["plan"], Path(document["report"]).name)
    texts = [path.read_text(encoding="utf-8") for path in place.reports.iterdir()]
    assert len(texts) == 6
    everything = rows(rent, "SELECT r::text FROM recon.notebook_runs AS r")
    assert not [text for text in [*texts, str(everything), dry.out, dry.err] if PASSWORD in text]
    shown = recon("runs", RENT, "--notebooks", "--workspace", str(place.root), url=rent.url)
    assert document["notebook_run"] in shown.out


def test_a_run_with_limits_plans_and_changes_that_part_and_says_so(rent: Database, place: Workspace) -> None:
    """CRM-08: a limit that is typed on the run itself asks for a part; nothing more has to be said."""
    only = way(rent, place, mode="match", limit=3)
    assert only.match().limited == {"limit": 3}
    assert only.plan() == "This run only matches: no plan was asked for."
    assert only.told["match"]["limited"] == {"limit": 3}

    part = way(rent, place, limit=3)
    assert part.asked().limits == {"limit": 3}
    part.match()
    part.plan()
    part.sign()
    part.apply()
    assert part.made is not None
    assert part.made.rows == part.told["apply"]["changed"] == 3
    assert linked(rent) == 125

    days = way(rent, place, mode="plan", from_day="2025-03-05", to_day="2025-03-26")
    days.match()
    days.plan()
    assert days.made is not None
    assert days.made.rows == 3  # INV-07 has three payments of these days

    with pytest.raises(UsageError, match="takes no parameter limited"):
        parameters.check(ROOT / "notebooks" / NOTEBOOK, {"reconciliation": RENT, "limited": True})


def test_a_run_carries_on_with_a_plan_that_a_reviewer_approved(rent: Database, place: Workspace) -> None:
    runs.match(rent, rent_spec(), "ann")
    made = plans.make(rent, place, rent_spec(), "ann")
    assert made is not None
    sign_off.approve(rent, place, made.plan, "bob")
    for wish in (Wish("execute", plan=made.plan), Wish("execute")):  # named, and found: then nothing is left to do
        going = Way(rent, place, rent_spec(), wish)
        going.match()
        going.plan()
        going.sign()
        going.apply()
        going.verify()
        found = going.remains()
        assert (found.now.linked, going.end().exit_code) == (135, 0)
        assert going.told["remains"]["outcomes"] == {}  # decided once more: nothing is matched and not linked any more
    assert plans.load(rent, place, made.plan).state == "verified"
    assert len(plans.listed(rent, place)) == 1


def test_a_plan_that_waits_stays_the_one_until_something_else_would_change(rent: Database, place: Workspace) -> None:
    spec = rent_spec()

    def planned(**how: Any) -> str:
        runs.match(rent, spec, "ann")
        made = plans.make(rent, place, spec, "ann", **how)
        assert made is not None
        return made.plan

    first = planned()
    sign_off.approve(rent, place, first, "bob")
    assert planned(again=False) == first
    assert plans.load(rent, place, first).state == "approved"
    assert [path.name for path in place.backfills.iterdir()] == [first]
    execute(rent, "UPDATE historical_transactions SET invoice_id = 20 WHERE id = 1551")
    second = planned(again=False)
    assert second != first
    assert plans.load(rent, place, first).state == "superseded"
    assert planned() != second


def test_what_was_written_wrongly_fails_the_run(rent: Database, place: Workspace) -> None:
    standing.give(rent, place, RENT, "bob", rows=10, days=1, actions=("link",))
    going = way(rent, place, mode="execute")
    going.match()
    going.plan()
    going.sign()
    going.apply()
    execute(rent, "UPDATE historical_transactions SET invoice_id = 1 WHERE id = 1551")
    going.verify()
    going.remains()
    with pytest.raises(VerifyFailed, match="1 of 10 rows"):
        going.end()


# -- parameters ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"mod": "match"}, 'takes no parameter mod. Did you mean "mode"?'),
        ({"limit": "3"}, "The parameter limit of backfill_run.ipynb is a whole number, not '3'."),
        ({"limit": True}, "is a whole number, not True"),
        ({"demo": 1}, "The parameter demo of backfill_run.ipynb is true or false, not 1."),
        ({"mode": "exekute"}, "There is no mode 'exekute'. Did you mean \"execute\"?"),
        ({"from_day": "31.3.2025"}, "from_day '31.3.2025' is not a day."),
        ({"from_day": "2025-04-01", "to_day": "2025-03-31"}, "from_day 2025-04-01 is later than to_day 2025-03-31."),
        ({"limit": -1}, "The limit is -1."),
        ({"reconciliation": "rent_payment"}, 'Did you mean "rent_payments"?'),
        ({"plan": "nowhere"}, "There is no plan nowhere"),
    ],
)
def test_a_parameter_that_makes_no_sense_is_refused_before_anything_runs(
    rent: Database, place: Workspace, values: dict[str, Any], says: str
) -> None:
    with pytest.raises((UsageError, NotFound)) as refused:
        perform(rent, place, NOTEBOOK, RENT, {"reconciliation": RENT, **values}, title="")
    assert says in str(refused.value)
    assert not place.reports.exists()
    assert kept_runs(rent) == []


def test_a_plan_of_another_reconciliation_or_beside_limits_is_refused(rent: Database, place: Workspace) -> None:
    runs.match(rent, rent_spec(), "ann")
    made = plans.make(rent, place, rent_spec(), "ann")
    assert made is not None
    for values, says in (
        ({"reconciliation": "financial_transactions", "plan": made.plan}, "belongs to rent_payments"),
        ({"reconciliation": RENT, "plan": made.plan, "limit": 3}, "do not go together"),
        ({"reconciliation": RENT, "plan": made.plan, "mode": "match"}, "carries on with no plan"),
    ):
        with pytest.raises(UsageError, match=says):
            parameters.check_meaning(rent, place, values)


def test_a_parameter_without_a_default_must_be_given(place: Workspace, tmp_path: Path) -> None:
    source = notebook(tmp_path, parameters_cell="word: str = None  # which\nnumber: float = 1.5")
    with pytest.raises(UsageError, match="needs the parameter word"):
        parameters.check(source, {})
    parameters.check(source, {"word": "said", "number": 2})


# -- what goes wrong -------------------------------------------------------------------------------------


def notebook(folder: Path, *cells: str, parameters_cell: str | None = None) -> Path:
    """A notebook with the parameters of the shipped one, or others, and these cells."""
    shipped = nbformat.read(ROOT / "notebooks" / NOTEBOOK, as_version=4)
    if parameters_cell is not None:
        shipped.cells[0].source = parameters_cell
    shipped.cells = [shipped.cells[0], *map(nbformat.v4.new_code_cell, cells)]
    folder.mkdir(exist_ok=True)
    path = folder / NOTEBOOK
    path.write_text(nbformat.writes(shipped), encoding="utf-8")
    return path


def test_a_cell_that_fails_fails_the_run_everywhere(rent: Database, place: Workspace) -> None:
    refusing = "import os\nfrom recon.errors import Stale\nprint('in', os.environ['RECON_ENVIRONMENT'])\nraise Stale('3 rows changed.', todo='Match again.')"
    notebook(place.root / "notebooks", refusing)
    with pytest.raises(ReportFailed) as failure:
        whole_way.run(Database(rent.url, embedded=True), place, RENT, Wish())
    assert failure.value.exit_code == Refused.exit_code  # a refusal stays one
    [row] = kept_runs(rent)
    assert (row["state"], row["error"]) == ("failed", "3 rows changed. Match again.")
    partial = place.reports / row["file"]
    assert partial.name == f"{row['id']}-failed.ipynb"
    assert str(partial) in failure.value.todo
    # By a URL alone the kernel could not tell, and standing sign-offs are for one environment.
    assert "in development" in partial.read_text(encoding="utf-8")
    assert list(place.reports.iterdir()) == [partial]


@pytest.mark.parametrize(
    ("victim", "number", "error"),
    [
        ("command", signal.SIGTERM, "ended by a signal (SIGTERM)"),
        ("command", signal.SIGKILL, kept.GONE),
        ("kernel", signal.SIGKILL, "DeadKernelError: Kernel died"),
    ],
)
def test_whatever_kills_a_run_it_is_kept_as_failed_and_leaves_no_kernel(
    rent: Database, place: Workspace, tmp_path: Path, victim: str, number: signal.Signals, error: str
) -> None:
    written = tmp_path / "kernel"
    lasting = f"import os, pathlib, time\npathlib.Path({str(written)!r}).write_text(str(os.getpid()))\ntime.sleep(300)"
    notebook(place.root / "notebooks", lasting, "'never'")
    command = [sys.executable, "-c", "from recon.cli import main; main()", "run", RENT, "--workspace", str(place.root)]
    environment = {**os.environ, "RECON_DATABASE_URL": rent.url}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        until(lambda: written.exists() and written.read_text() != "", running)
        kernel = psutil.Process(int(written.read_text()))
        [row] = kept_runs(rent)
        assert row["state"] == "running"
        os.kill(running.pid if victim == "command" else kernel.pid, number)
        _, said = running.communicate(timeout=PATIENCE_SECONDS)
    until(lambda: not kernel.is_running() or kernel.status() == psutil.STATUS_ZOMBIE)
    partial = place.reports / f"{row['id']}-failed.ipynb"
    if victim == "command" and number == signal.SIGKILL:
        assert kept_runs(rent)[0]["state"] == "running"  # nobody was left to say otherwise, until the next run
        with begun(rent, place, NOTEBOOK, RENT, {}):
            pass
    else:
        assert running.returncode == 1
        assert str(partial) in said
    assert [path.name for path in place.reports.iterdir()] == [partial.name]
    cells = nbformat.read(partial, as_version=4).cells
    ended = ["running", "pending"] if (victim, number) == ("command", signal.SIGKILL) else ["failed", "not run"]
    assert [cell.metadata.papermill.status for cell in cells] == ["completed", "completed", *ended]
    [row] = [item for item in kept_runs(rent) if item["id"] == row["id"]]
    assert row["state"] == "failed"
    assert row["error"].startswith(error)
    assert row["file"] == partial.name
    assert row["completed_at"] is not None


def until(true: Any, running: subprocess.Popen[str] | None = None) -> None:
    """Wait until something is so; a command that ended before is shown."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert running is None or running.poll() is None, running.communicate() if running else ""
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_two_runs_of_one_second_get_two_names_here_and_elsewhere(
    rent: Database, place: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    other = Workspace(tmp_path / "elsewhere")
    tables.ensure(rent)
    names: list[str] = []
    for _ in range(3):  # the second may end between two of them
        with (
            begun(rent, place, NOTEBOOK, RENT, {}, named=True) as (first, given),
            begun(rent, place, NOTEBOOK, RENT, {}) as (second, _),
            begun(rent, other, NOTEBOOK, RENT, {}) as (third, _),
        ):
            names = [first.stem, second.stem, third.stem]
            assert given["identity"] == first.stem
            assert [row["state"] for row in kept_runs(rent)[:3]] == ["running"] * 3
        assert len(set(names)) == 3
    assert any(name.endswith("_3") for name in [row["id"] for row in kept_runs(rent)])
    assert not list(place.reports.iterdir())  # nothing was written to them


def test_the_notebook_is_committed_without_outputs_and_holds_no_logic() -> None:
    found = nbformat.read(ROOT / "notebooks" / NOTEBOOK, as_version=nbformat.NO_CONVERT)
    nbformat.validate(found)
    code = [cell for cell in found.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert "password" not in json.dumps(found).lower()
    for cell in code[1:]:
        assert not {"if", "for", "while", "def", "try", "lambda"} & set(cell.source.split())
