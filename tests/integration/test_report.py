"""A report is one file that opens without a network, shows what the tables hold, and trusts no text in them."""

from __future__ import annotations

import errno
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pytest
from plotly.offline import get_plotlyjs

from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import sign_off
from recon.database.connect import Database
from recon.errors import NotFound, ReportFailed, UsageError
from recon.matching import overrides
from recon.matching import run as runs
from recon.reports import sections
from recon.reports.data import gather
from recon.reports.run import NOTEBOOK, latest, report, run_notebook
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests.support import execute, load_rent_sample, recon, rent_spec, rows

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code

RENT = "rent_payments"
KNOWN = {  # INV-07, INV-10: payment, date, property, customer, amount, invoice, lease, what the match means
    1551: ("2025-05-15", 33, 76, "185.00", 20, "LEASE-BH-F18-2025", "final payment of an ended lease, 9 days after its end"),
    1526: ("2025-03-31", 15, 38, "740.00", 31, "LEASE-BH-F28-2025", "deposit or early rent, 14 days before the lease starts"),
    1515: ("2025-03-26", 24, 24, "795.00", 16, "LEASE-BH-F14-2025", "deposit or early rent, 6 days before the lease starts"),
    1484: ("2025-03-05", 7, 11, "735.00", 10, "LEASE-BH-F10-2025", "early rent, 1 day before the lease starts"),
    1492: ("2025-03-05", 39, 22, "700.00", 24, "LEASE-BH-F20-2025", "deposit or early rent, 15 days before the lease starts"),
    1483: ("2025-03-03", 6, 26, "700.00", 9, "LEASE-BH-F9-2025", "deposit or early rent, 2 days before the lease starts"),
    1491: ("2025-03-03", 43, 25, "740.00", 22, "LEASE-BH-F19-2025", "deposit or early rent, 18 days before the lease starts"),
    1485: ("2025-03-02", 17, 17, "795.00", 12, "LEASE-BH-F11-2025", "deposit or early rent, 10 days before the lease starts"),
    1494: ("2025-02-28", 14, 9, "740.00", 26, "LEASE-BH-F22-2025", "deposit or early rent, 8 days before the lease starts"),
    1496: ("2025-02-28", 32, 2, "675.00", 29, "LEASE-BH-F26-2025", "deposit or early rent, 14 days before the lease starts"),
}  # fmt: skip
HOSTILE = "<script>alert('lease')</script>"
CHECKS: dict[str, Any] = {
    "reconciliation": RENT,
    "at": "2025-11-30T08:00:00+00:00",
    "success": False,
    "items": [
        {"name": "coverage", "says": "every payment is linked", "kind": "coverage", "status": "passed",
         "observed": "135 of 135", "unexpected": 0, "examples": [], "error": None},
        {"name": "agrees", "says": "the property agrees", "kind": "right", "status": "failed",
         "observed": None, "unexpected": 7, "examples": [1, 2, 3, 4, 5, 6, 7], "error": None},
        {"name": "exists", "says": "the lease exists", "kind": "right", "status": "errored",
         "observed": None, "unexpected": None, "examples": [], "error": "no such <i>column</i>"},
    ],
}  # fmt: skip


class Page(HTMLParser):
    """A page as a browser reads it: every table as rows of text, and every tag with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.scripts: list[str] = []
        self._inside: str = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in ("td", "th", "script") else self._inside
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag in ("td", "th", "script") else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture
def rent(database: Database) -> Database:
    load_rent_sample(database)
    return database


def matched(database: Database, workspace: Workspace) -> plans.Plan:
    runs.match(database, rent_spec(), "ann")
    made = plans.make(database, workspace, rent_spec(), "ann")
    assert made is not None
    return made


def applied(database: Database, workspace: Workspace) -> plans.Plan:
    made = matched(database, workspace)
    sign_off.approve(database, workspace, made.plan, "bob")
    applying.apply(database, workspace, made.plan, "ann", execute=True)
    return plans.load(database, workspace, made.plan)


def text_of(html: str) -> str:
    return re.sub(r"<[^>]+>", " ", html).replace("\N{NO-BREAK SPACE}", " ")


# -- the file --------------------------------------------------------------------------------------------


def test_the_report_shows_the_ten_links_in_one_file_that_loads_nothing(rent: Database, workspace: Workspace) -> None:
    """INV-09, INV-10, INV-11."""
    plan = applied(rent, workspace)
    done: list[tuple[int, int]] = []
    path = report(rent, workspace, RENT, checks=CHECKS, progress=lambda cells, of: done.append((cells, of)))

    assert path == latest(workspace, RENT)
    assert path.parent == workspace.reports
    assert done
    assert [of for _, of in done] == [done[-1][1]] * len(done)
    html = path.read_text(encoding="utf-8")
    page = Page(html)
    by_key = {row[0]: row for row in page.rows}
    for key, (date, of_property, customer, amount, invoice, lease, says) in KNOWN.items():
        row = by_key[str(key)]
        assert row[1:7] == [date, str(of_property), str(customer), amount, str(invoice), lease]
        assert row[-1] == says
    assert "Coverage rose from 92.6 % to 100.0 % (+7.4 points, +10 records)." in text_of(html)
    for said in (plan.plan, plan.digest, rent_spec().digest, "bob"):
        assert said in html

    # What a browser would load: nothing, and the page forbids it on top.
    for _, attributes in page.tags:
        assert not attributes.keys() & {"src", "srcset", "data", "background"}
        assert not (attributes.get("href") or "").startswith(("http:", "https:", "//"))
    own = html.replace(get_plotlyjs(), "")
    assert not re.search(r"https?://|@import|url\(|mathjax|require\.js", own, re.IGNORECASE)
    policy = next(attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert page.scripts.count(get_plotlyjs()) == 1
    assert html.count("plotly.js v") == 1
    assert len(page.scripts) == 4  # plotly.js, the lines that draw, and the data of two figures

    executed = path.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert rent.url not in executed + html
    assert not list(workspace.reports.glob("*.tmp"))


@pytest.mark.one_engine
def test_a_report_writes_nothing_to_the_persons_ipython_folder(
    rent: Database, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    monkeypatch.setenv("IPYTHONDIR", str(own))
    matched(rent, workspace)
    report(rent, workspace, RENT)
    assert not own.exists()
    assert (workspace.folder / "ipython").is_dir()


@pytest.mark.one_engine
def test_hostile_text_in_a_record_is_shown_and_not_obeyed(rent: Database, workspace: Workspace) -> None:
    execute(rent, f"UPDATE invoices SET lease_reference = '{HOSTILE.replace(chr(39), chr(39) * 2)}' WHERE id = 20")
    matched(rent, workspace)
    html = report(rent, workspace, RENT).read_text(encoding="utf-8")
    assert HOSTILE not in html
    assert next(row for row in Page(html).rows if row[0] == "1551")[6] == HOSTILE


# -- what it says ----------------------------------------------------------------------------------------


def test_every_figure_is_counted_from_the_tables(rent: Database, workspace: Workspace) -> None:
    """INV-11, INV-12: before and after an apply, with the share of each identifier."""
    plan = matched(rent, workspace)
    waiting = gather(rent, workspace, RENT)
    assert (waiting.now.linked, waiting.now.population, waiting.now.missing) == (125, 135, 10)
    assert "A plan that links 10 records waits for a sign-off." in sections.summary(waiting)

    sign_off.approve(rent, workspace, plan.plan, "bob")
    applying.apply(rent, workspace, plan.plan, "ann", execute=True)
    found = gather(rent, workspace, RENT)
    assert (found.now.linked, found.now.missing) == (135, 0)
    assert found.before is not None
    assert (found.before.linked, found.before.population) == (125, 135)
    steps = {step.label: step.records for step in found.steps}
    assert sum(steps.values()) - steps["population"] == steps["population"] == 135
    assert [item["approver"] for item in found.approvals] == ["bob"]
    assert [entry["to_state"] for entry in found.log] == ["planned", "approved", "applying", "applied"]
    filled = {item.column: item for item in found.identifiers}
    assert set(filled) == {"property_id", "customer_id", "payprop_invoice_id"}
    assert all(item.population == 135 and item.filled <= 135 for item in found.identifiers)

    # A later run finds everything linked; the report still says what the last backfill changed.
    runs.match(rent, rent_spec(), "ann")
    later = gather(rent, workspace, RENT)
    assert later.run.outcomes == {"linked": 135}
    assert later.before == found.before
    assert [item.says.split(" ")[0] for item in later.moments] == ["before", "run", "now"]
    assert gather(rent, workspace, RENT, plan.plan).run.run == plan.run


def test_what_a_person_left_out_is_left_out_only_while_it_is_there_and_not_linked(
    rent: Database, workspace: Workspace
) -> None:
    """INV-11: a duplicate that was left out and then deleted, or linked by hand, never makes more than all linked."""
    for key in ("1551", "1526"):
        overrides.decide(
            rent, rent_spec(), actor="ann", kind="exclude", target=key, source=None, reason="entered twice"
        )
    runs.match(rent, rent_spec(), "ann")
    assert gather(rent, workspace, RENT).now.population == 133
    execute(rent, "DELETE FROM historical_transactions WHERE id = 1551")
    execute(rent, "UPDATE historical_transactions SET invoice_id = 1 WHERE category = 'rent' AND invoice_id IS NULL")
    found = gather(rent, workspace, RENT)
    assert (found.now.linked, found.now.population, found.now.missing) == (134, 134, 0)


def test_coverage_now_is_of_the_side_that_is_counted(database: Database, workspace: Workspace) -> None:
    """With `population: source` the records of the target that nobody asks for are not missing."""
    execute(
        database,
        "CREATE TABLE hub (id int PRIMARY KEY, name text, legacy_id int)",
        "CREATE TABLE legacy (id int PRIMARY KEY, name text)",
        "INSERT INTO hub SELECT n, 'n' || n, CASE WHEN n <= 4 THEN n END FROM generate_series(1, 100) AS n",
        "INSERT INTO legacy SELECT n, 'n' || n FROM generate_series(1, 10) AS n",
    )
    spec = Reconciliation.model_validate(
        {
            "name": "legacy_ids", "population": "source", "cardinality": "one_to_one",
            "target": {"table": "hub", "key": "id"}, "source": {"table": "legacy", "key": "id"},
            "link": {"column": "legacy_id"}, "passes": [{"name": "name", "on": {"name": "name"}}],
        }
    )  # fmt: skip
    folder = workspace.root / "reconciliations"
    folder.mkdir(exist_ok=True)
    (folder / "legacy_ids.yaml").write_text(json.dumps(spec.model_dump(mode="json", exclude_unset=True)))
    runs.match(database, workspace.spec("legacy_ids"), "ann")
    found = gather(database, workspace, "legacy_ids")
    assert (found.now.linked, found.now.population) == (4, 10)
    assert found.before is not None
    assert found.before.share == found.now.share
    assert "60.0 % of legacy" in text_of(sections.headline(found))


def test_blank_text_does_not_count_as_an_identifier(rent: Database, workspace: Workspace) -> None:
    """INV-12."""
    runs.match(rent, rent_spec(), "ann")
    execute(rent, "UPDATE historical_transactions SET payprop_invoice_id = '  '")
    found = {item.column: item.filled for item in gather(rent, workspace, RENT).identifiers}
    assert found["payprop_invoice_id"] == 0


def test_what_is_not_linked_is_listed_with_its_reason(rent: Database, workspace: Workspace) -> None:
    spec = workspace.spec("financial_transactions")
    runs.match(rent, spec, "ann")
    found = gather(rent, workspace, spec.name)
    assert found.plan is None
    assert found.unmatched.total == len(found.unmatched.records) == found.run.outcomes["unmatched"]
    assert sum(found.run.reasons.values()) == found.unmatched.total
    assert {row["outcome"] for row in found.waiting.records} == {"proposed", "ambiguous"}
    assert found.rows.total > len(found.rows.records) == 200
    assert f"The first 200 of {found.rows.total} rows." in sections.matched(found)
    assert "100.0" in text_of(sections.unmatched(found)) or len(found.run.reasons) > 1


def test_checks_that_failed_and_checks_that_errored_are_told_apart(rent: Database, workspace: Workspace) -> None:
    runs.match(rent, rent_spec(), "ann")
    found = gather(rent, workspace, RENT, checks=CHECKS)
    said = Page(sections.checks(found)).rows
    assert [row[0] for row in said[1:]] == ["could not be carried out", "failed", "passed"]
    assert said[1][2] == "It proves nothing: no such <i>column</i>"
    assert said[2][2] == "7 unexpected; for example 1, 2, 3, 4, 5 and 2 more"
    summary = " ".join(sections.summary(found))
    assert "1 of 3 checks failed. 1 of 3 checks could not be carried out and proves nothing." in summary
    assert "All" not in summary


@pytest.mark.parametrize("checks", [None, {**CHECKS, "items": []}])
def test_a_report_without_checks_says_that_nothing_is_proven(
    rent: Database, workspace: Workspace, checks: dict[str, Any] | None
) -> None:
    runs.match(rent, rent_spec(), "ann")
    found = gather(rent, workspace, RENT, checks=checks)
    assert "nothing is proven" in sections.checks(found)
    assert "passed" not in " ".join(sections.summary(found))


@pytest.mark.one_engine
def test_the_second_report_of_the_command_line_says_what_changed_since_the_first_and_who_signed_it(
    rent: Database, workspace: Workspace
) -> None:
    """A report is made, signed by somebody else than its author, and the next one knows."""
    place = ["--workspace", str(workspace.root), "--json"]
    matched(rent, workspace)
    first = recon("report", RENT, *place, url=rent.url)
    assert first.code == 0, first.err
    path = Path(first.json["report"])
    by_author = recon("report", RENT, "--sign", str(path), *place, url=rent.url)
    assert (by_author.code, by_author.json["error"]) == (4, "NotApproved")
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"92.6", b"99.6"))
    forged = recon("report", RENT, "--sign", str(path), *place, url=rent.url, user="bob")
    assert (forged.code, forged.json["error"]) == (4, "BundleChanged")
    path.write_bytes(whole)
    done = recon("report", RENT, "--sign", str(path), *place, url=rent.url, user="bob")
    assert done.code == 0, done.err
    assert (done.json["report"], done.json["signed_by"], done.json["author"]) == (path.stem, "bob", "ann")
    assert done.json["digest"] == hashlib.sha256(whole).hexdigest()
    assert recon("report", RENT, "--key", "k", url=rent.url, cwd=workspace.root).code == 2

    plan = plans.listed(rent, workspace, RENT)[0]
    sign_off.approve(rent, workspace, plan.plan, "bob")
    applying.apply(rent, workspace, plan.plan, "ann", execute=True)
    second = recon("report", RENT, *place, url=rent.url)
    assert second.code == 0, second.err
    html = Path(second.json["report"]).read_text(encoding="utf-8")
    said = " ".join(text_of(html).split())
    assert (
        "Since the last report, which is signed: coverage went to 100.0 % (+7.4 points), no break is new, 1 plan was applied."
        in said.replace(" :", ":")
    )
    assert "bob signed it on" in said
    assert "linked" in {row[0] for row in Page(html).rows if row[1:] == ["135", "125", "+10"]}
    kept = rows(rent, "SELECT state, actor, file, digest, run, plan FROM recon.notebook_runs ORDER BY started_at")
    assert [row[:3] for row in kept] == [
        ("success", "ann", path.name),
        ("success", "ann", Path(second.json["report"]).name),
    ]
    assert kept[1][3] == hashlib.sha256(Path(second.json["report"]).read_bytes()).hexdigest()
    assert kept[1][5] == plan.plan


# -- what goes wrong -------------------------------------------------------------------------------------


def test_what_is_missing_is_said_before_a_kernel_starts(rent: Database, workspace: Workspace) -> None:
    with pytest.raises(NotFound, match="recon match rent_payments"):
        report(rent, workspace, RENT)
    runs.match(rent, rent_spec(), "ann")
    with pytest.raises(NotFound, match="There is no plan"):
        report(rent, workspace, RENT, plan="nowhere")
    assert not workspace.reports.exists()


def notebook(folder: Path, *cells: str) -> Path:
    parameters = nbformat.v4.new_code_cell("word = 'none'", metadata={"tags": ["parameters"]})
    whole = nbformat.v4.new_notebook(
        cells=[parameters, *map(nbformat.v4.new_code_cell, cells)],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    path = folder / "own {notebook}.ipynb"
    path.write_text(nbformat.writes(whole), encoding="utf-8")
    return path


def test_a_reports_folder_that_cannot_be_written_is_named(
    rent: Database, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.match(rent, rent_spec(), "ann")
    (workspace.root / "recon.toml").touch()
    workspace.reports.write_text("not a folder", encoding="utf-8")
    for more in ([], ["--excel"]):
        result = recon("report", RENT, *more, cwd=workspace.root, url=rent.url)
        assert result.code == 1
        assert f"{workspace.reports} cannot be used." in " ".join(result.err.split())
        assert "The system says: File exists." in result.err
    workspace.reports.unlink()

    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("recon.reports.offline.page", full)
    with pytest.raises(OSError, match="No space"):
        report(rent, workspace, RENT)
    assert [path.name.partition("-failed")[1:] for path in workspace.reports.iterdir()] == [("-failed", ".ipynb")]
    assert rows(rent, "SELECT error FROM recon.notebook_runs")[0][0].startswith("A file could not be written.")


def test_an_unknown_parameter_is_refused(tmp_path: Path) -> None:
    output = tmp_path / "reports" / "made.ipynb"
    with pytest.raises(UsageError, match="takes no parameter wort"):
        run_notebook(notebook(tmp_path), output, {"wort": "x"}, {})
    assert not output.exists()


def test_a_failed_notebook_is_kept_under_another_name(tmp_path: Path) -> None:
    output = tmp_path / "reports" / "made {1}.ipynb"
    source = notebook(tmp_path, "import os; print(word, os.environ['ONLY_HERE'])", "raise ValueError('no lease')", "1")
    with pytest.raises(ReportFailed) as failure:
        run_notebook(source, output, {"word": "said"}, {"ONLY_HERE": "in the kernel"})
    assert failure.value.why == "ValueError: no lease"
    kept = tmp_path / "reports" / "made {1}-failed.ipynb"
    assert str(kept) in failure.value.todo
    assert not output.exists()
    assert "said in the kernel" in kept.read_text(encoding="utf-8")


def test_the_notebook_is_committed_without_outputs_and_takes_no_secret() -> None:
    source = Workspace(Path(__file__).parents[2]).file("notebooks", NOTEBOOK)
    found = nbformat.read(source, as_version=nbformat.NO_CONVERT)
    nbformat.validate(found)
    assert (found.nbformat, found.nbformat_minor) == (4, 5)
    code = [cell for cell in found.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert not re.search("url|password", code[0].source, re.IGNORECASE)
    json.loads(source.read_text(encoding="utf-8"))
