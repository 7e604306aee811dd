"""Private columns at the desks, in workbooks, in runs of the whole way and at a notebook: planted values come out of none."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import openpyxl
import pytest

import recon
from recon import workflow
from recon.backfill import plan as plans
from recon.backfill.veils import Veils
from recon.database.connect import Database
from recon.desk import (
    explore,
    explore_actions,
    explore_records,
    explore_view,
    explore_what_if,
    explore_why,
    preview,
    preview_actions,
    preview_outcomes,
    preview_view,
)
from recon.desk.explore_records import Asked
from recon.desk.preview import Preview
from recon.desk.preview_rows import Filter
from recon.errors import VEIL
from recon.matching import breaks
from recon.matching import run as runs
from recon.reports import steps, workbook
from recon.whole_way import Way, Wish
from recon.whole_way import run as go
from recon.workspace import Workspace
from tests.planted import POLICY, clean, plant
from tests.support import RENT, execute, load_rent_sample

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code

VEILED, SHOWN = f"Private columns are veiled ({VEIL})", "This shows private columns to ANN"
NOTES = ("kanari old", "kanari new")


@pytest.fixture
def people(database: Database, workspace: Workspace) -> Database:
    plant(database, workspace)
    runs.match(database, workspace.spec("people"), "ann")
    return database


@pytest.fixture
def carol(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The workspace as somebody opens it who asks, and is not listed."""
    return _opened(workspace, monkeypatch, "carol")


@pytest.fixture
def ann(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, carol: Workspace) -> Workspace:
    """The workspace as somebody opens it who is listed, and asks. Both are open at once: each has its own settings."""
    return _opened(workspace, monkeypatch, "ANN")


def _opened(workspace: Workspace, monkeypatch: pytest.MonkeyPatch, user: str) -> Workspace:
    monkeypatch.setenv("RECON_USER", user)
    monkeypatch.setenv("RECON_SHOW_PRIVATE", "1")
    found = Workspace(workspace.root)
    assert found.settings.user == user  # read once
    return found


def held(workbook: bytes) -> str:
    """All that a workbook holds: every cell as people read it, and every part of the file."""
    with zipfile.ZipFile(io.BytesIO(workbook)) as parts:
        texts = [parts.read(name).decode(errors="replace") for name in parts.namelist()]
    for sheet in openpyxl.load_workbook(io.BytesIO(workbook)).worksheets:
        texts += [str(cell.value) for row in sheet.iter_rows() for cell in row]
    return "\n".join(texts)


def without_rules(text: str) -> str:
    """SQL without the one constant of a rule that is planted too: text of the spec is no value."""
    return text.replace("= 918273601", "")


# -- explore ---------------------------------------------------------------------------------------------


def explored(database: Database, workspace: Workspace) -> dict[str, str]:
    """Everything that the analyst's desk shows, by what it is."""
    view = explore.view(database, workspace, "people")
    found = explore_records.page(database, view, Asked({}))
    assert found.total == len(found.rows) > 13
    whys = [explore_why.why(database, view, row) for row in found.rows]
    tried = explore_what_if.tried(database, view, dict.fromkeys(explore_what_if.sliders(view), 10.0))
    assert tried.gained > 0
    return {
        "top": explore_view.top_html(view) + explore_view.numbers_html(view) + view.note,
        "facets": repr(view.cube),
        "sql": without_rules(
            explore_view.statements_html([*view.statements, *found.statements]) + explore_view.matching_html(view)
        ),
        "table": repr(explore_records.table_rows(view, found)),
        "csv": explore_records.as_csv(database, view, Asked({})).decode(),
        "excel": held(explore_records.as_excel(database, view, Asked({}))),
        "steps": "".join(explore_view.title_html(why) + explore_view.steps_html(why) for why in whys),
        "candidates": "".join(explore_view.candidates_html(view, why) for why in whys),
        "asked": without_rules("".join(explore_view.statements_html(why.statements) for why in whys)),
        "why": repr([(why.row, why.steps, why.lines, why.changed, explore_actions.choices(why)) for why in whys]),
        "what if": explore_what_if.result_html(view, tried) + repr(tried),
        "curve": explore_what_if.curve_html(explore_what_if.curve(database, view)),
    }


def test_the_analysts_desk_shows_no_private_value(people: Database, carol: Workspace, ann: Workspace) -> None:
    """Masking, explore: facets, the table, why, what-if, files and the values that are bound to statements."""
    for text in (veiled := explored(people, carol)).values():
        clean(text)
    assert VEILED in veiled["top"]
    assert veiled["candidates"].count(VEIL) > 20
    assert "1931" not in veiled["facets"]  # months of a private day
    shown = explored(people, ann)
    assert SHOWN in shown["top"]
    silent = {name for name, text in shown.items() if "kanari" not in text and "1931-07" not in text}
    assert silent == {"top", "sql", "what if", "curve"}  # counts and keys
    view = explore.view(people, carol, "people")
    assert explore_records.page(people, view, Asked({"month": ("1931-07",)})).total == 0
    assert explore_records.page(people, view, Asked({}, key="kanari-1")).total == 0


def test_what_one_side_alone_marks_is_veiled_beside_the_other(people: Database, carol: Workspace) -> None:
    """Where both are equal, or a distance is known, one value tells the other."""
    path = carol.root / "reconciliations" / "people.yaml"
    text = path.read_text(encoding="utf-8").replace("private: [mail, number, birth, note]", "private: []")
    for shown, less in (("t.email, t.pin, s.mail, s.birth, ", ""), ("mail {s.mail}, ", "")):
        text = text.replace(shown, less)  # who shows a column by itself must mark it
    path.write_text(text, encoding="utf-8")
    view = explore.view(people, carol, "people")
    row = next(row for row in explore_records.page(people, view, Asked({})).rows if row["target_key"] == 4)
    clean(explore_view.candidates_html(view, explore_why.why(people, view, row)))


# -- preview ---------------------------------------------------------------------------------------------


def previewed(database: Database, workspace: Workspace, seen: Preview) -> dict[str, str]:
    """Everything that the reviewer's desk shows of rows, by what it is."""
    listed = preview.rows(database, seen, Filter())
    return {
        "header": preview_view.header_html(seen, preview.place(database, workspace)) + preview_view.spec_problem(seen),
        "groups": preview_view.groups_html(seen) + repr(seen.sums),
        "rows": preview_view.rows_html(seen, listed),
        "page": repr(listed.rows),
        "sql": without_rules(preview_view.sql_html(listed.sql, listed.values) + repr(seen.statements)),
        "csv": preview.download(database, seen, Filter(), "csv").decode(),
        "excel": held(preview.download(database, seen, Filter(), "xlsx")),
    }


def stands(database: Database, workspace: Workspace, seen: Preview) -> dict[str, str]:
    """How a plan stands now, as the desk shows it."""
    assert seen.plan is not None
    found = preview.review(database, workspace, seen.plan.plan)
    dry = preview_actions.dry_run(database, workspace, seen.plan)
    return {
        "drift": preview_view.drift_html(found, seen),
        "dry run": preview_outcomes.outcome_html(dry, seen),
        "rest": preview_view.problems_html(found) + preview_view.lint_html(found) + repr(preview_view.scripts(found))
        + preview_view.log_html(preview.log(database, seen.plan.plan)) + preview_view.sign_off_html(found),
    }  # fmt: skip


def test_the_reviewers_desk_shows_no_private_value(people: Database, carol: Workspace, ann: Workspace) -> None:
    """Masking, preview: rows before and after, sums, drift, outcomes and files, of a draft and of a plan."""
    made = plans.make(people, ann, ann.spec("people"), "ann")
    assert made is not None

    def subjects(workspace: Workspace) -> list[Preview]:
        return [preview.open_draft(people, workspace, "people"), preview.open_plan(people, workspace, made.plan)]

    for seen in subjects(carol):
        parts = previewed(people, carol, seen)
        for text in parts.values():
            clean(text)
        assert VEILED in parts["header"]
        assert seen.planned.hidden == {"copied", "note"}  # and not the link
        assert f'→ <span class="whole">{VEIL}</span>' in parts["rows"]
        assert "apart, born" in parts["page"]  # an interpretation has its veils part by part
        assert f"{VEIL} apart" in parts["page"]
    for seen in subjects(ann):
        parts = previewed(people, ann, seen)
        assert SHOWN in parts["header"]
        assert not seen.planned.hidden
        for name in ("rows", "page", "csv", "excel"):
            assert all(note in parts[name] for note in NOTES), name

    execute(people, "UPDATE pay SET note = 'kanari drifted' WHERE id = 1")
    parts = stands(people, carol, preview.open_plan(people, carol, made.plan))
    for text in parts.values():
        clean(text)
    assert all(f"note was {VEIL}, is {VEIL}" in parts[name] for name in ("drift", "dry run"))
    opened = preview.open_plan(people, ann, made.plan)
    parts = stands(people, ann, opened)
    assert all("is kanari drifted" in parts[name] for name in ("drift", "dry run"))
    # What marks further columns since the plan veils all of it; and where the spec is gone nobody knows what is private.
    path = ann.root / "reconciliations" / "people.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("private: [email, pin, born, note, copied]", "private: []"), encoding="utf-8")
    without = plans.make(people, carol, carol.spec("people"), "ann")
    assert without is not None
    path.write_text(text, encoding="utf-8")
    later = preview.open_plan(people, carol, without.plan)
    assert later.planned.seen == Veils(frozenset({"copied", "note"}), interpretation=True)
    path.unlink()
    gone = preview.open_plan(people, carol, without.plan)
    assert gone.planned.hidden == set(gone.planned.shape.columns)
    clean(preview_view.rows_html(gone, preview.rows(people, gone, Filter())))


# -- workbooks -------------------------------------------------------------------------------------------


def test_a_workbook_holds_no_private_value(people: Database, carol: Workspace, ann: Workspace, tmp_path: Path) -> None:
    """Masking, workbooks: every cell of every sheet, and what stands on the summary about it."""
    breaks.assign(people, "people", "bob", "ann", ["4"])
    veiled = held(workflow.workbook(people, carol, "people").read_bytes())
    assert VEILED in clean(veiled)
    shown = held(workflow.workbook(people, ann, "people").read_bytes())
    assert all(text in shown for text in (SHOWN, "kanari-4", "1931-07-25"))
    assert veiled.count("apart, born") == shown.count("apart, born") > 0  # no part of a sentence is lost
    path = tmp_path / "breaks.xlsx"
    workbook.write(people, carol.spec("people"), path)
    assert VEILED in clean(held(path.read_bytes()))


def test_rent_sheets_hold_no_private_value(database: Database, workspace: Workspace) -> None:
    load_rent_sample(database)
    (workspace.root / "recon.toml").write_text(POLICY, encoding="utf-8")
    execute(
        database,
        "UPDATE historical_transactions SET description = 'kanari', lease_rent_amount = 9182736"
        " WHERE invoice_id IS NOT NULL",
    )
    path = workflow.workbook(database, workspace, RENT)
    assert all(text in held(path.read_bytes()) for text in ("kanari", "9182736"))
    text = workspace.spec_path(RENT).read_text(encoding="utf-8")
    marked = text.replace("  key: id\n", "  key: id\n  private: [description, lease_rent_amount]\n", 1)
    (workspace.root / "reconciliations" / f"{RENT}.yaml").write_text(marked, encoding="utf-8")
    assert "Statement of rent" in clean(held(workflow.workbook(database, workspace, RENT).read_bytes()))


# -- notebooks -------------------------------------------------------------------------------------------


def test_a_run_of_the_whole_way_tells_no_private_value(
    people: Database, ann: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masking, `recon run`: the notebook, its page, its document and what is kept of it."""
    way = Way(people, ann, ann.spec("people"), Wish(mode="plan"))
    asked = steps.asked(way.asked())
    assert SHOWN in asked
    checked = way.check()
    assert "kanari" in repr(checked)  # the worst key of a pass
    assert steps.findings(checked)
    way.match()
    assert all(note in steps.planned(way.plan()) for note in NOTES)
    execute(people, "UPDATE pay SET note = 'kanari drifted' WHERE id = 6")
    monkeypatch.setenv("RECON_USER", "carol")  # the kernel inherits it
    carol = Workspace(ann.root)
    document = go(people, carol, "people", Wish())
    clean(repr(document))
    assert VEILED in clean(Path(document["report"]).read_text(encoding="utf-8"))
    clean(Path(document["notebook"]).read_text(encoding="utf-8"))
    with people.session(read_only=True) as session:
        clean(repr(session.rows("SELECT * FROM recon.notebook_runs")))


def test_a_notebooks_tables_show_no_private_value(people: Database, carol: Workspace, ann: Workspace) -> None:
    def tables(workspace: Workspace) -> Mapping[str, Any]:
        bench = recon.Workbench(workspace, people)
        plan = plans.make(people, workspace, bench.spec("people"), "ann")
        assert plan is not None
        why = bench.explain("people", "4")
        return {
            "check": recon.table(bench.check("people").findings).to_csv(),
            "decisions": bench.decisions("people").to_csv(),
            "explain": repr(why),
            "why": recon.table(why.passes).to_csv(),
            "candidates": recon.table(why.candidates()).to_csv(),
            "changes": bench.changes(plan.plan).to_csv(),
            "apply": repr(bench.apply(plan.plan)),
        }

    for text in (veiled := tables(carol)).values():
        clean(text)
    assert f"{VEIL},{VEIL}" in veiled["changes"]
    shown = tables(ann)
    assert {name for name, text in shown.items() if "kanari" not in text} == {"apply", "check"}  # counts and keys
