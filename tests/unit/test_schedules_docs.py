"""What docs/schedules.md tells people to write is what the program takes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
from typer.main import get_command

from recon.cli import app
from recon.service import jobs, queue, schedules, worker
from recon.workspace import Workspace
from tests.support import ROOT

TEXT = (ROOT / "docs" / "schedules.md").read_text(encoding="utf-8")


def _commands() -> list[tuple[str, list[str]]]:
    """Every command in a block or between backticks, with its options."""
    found = re.findall(
        r"(?:^|[ /`\"])recon ([a-z][a-z-]*)((?: +[^\n`;\"|]*(?:\"[^\"\n]*\"[^\n`;\"|]*)?)?)", TEXT, re.MULTILINE
    )
    return [(name, re.findall(r"--[a-z-]+", rest)) for name, rest in found]


def test_every_command_and_option_exists() -> None:
    known: Any = get_command(app)
    named = [(name, options) for name, options in _commands() if name not in ("must", "does", "worker.log")]
    assert {"report", "worker", "list", "standing"} <= {name for name, _ in named}
    for name, options in named:
        assert name in known.commands, name
        accepted = {option for parameter in known.commands[name].params for option in parameter.opts}
        assert set(options) <= accepted, name


def test_the_example_file_is_valid(workspace: Workspace) -> None:
    block = next(block for block in re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL))
    (workspace.root / schedules.FILE).write_text(block, encoding="utf-8")
    assert [entry.reconciliation for entry in schedules.of(workspace)] == ["rent_payments"]
    fields = re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE)
    assert fields == list(schedules.Schedule.model_fields)
    for kind in jobs.KINDS:
        assert f"`{kind}`" in TEXT


def test_the_notebook_takes_the_parameters_that_airflow_gives() -> None:
    path = Path(ROOT / "notebooks" / "reconciliation_report.ipynb")
    notebook = nbformat.read(path, as_version=4)
    parameters = next(cell.source for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    given = re.search(r"parameters=\{(.*?)\}", TEXT)
    assert given is not None
    for name in re.findall(r'"(\w+)":', given.group(1)):
        assert re.search(rf"^{name}\b", parameters, re.MULTILINE)


def test_the_numbers_are_the_program_s() -> None:
    assert jobs.WAITS == (30, 5 * 60)
    assert jobs.LOST_WORKERS + 1 == 4
    assert queue.KEEP_HOURS == 90 * 24
    assert queue.SILENT_SECONDS == 30
    assert queue.SILENT_SECONDS + worker.LOST_SECONDS == 45
    assert worker.AGAIN_SECONDS == 10
