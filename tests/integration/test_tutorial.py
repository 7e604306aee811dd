"""The tutorial runs from top to bottom, from nothing, and is kept without what it showed."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest

import recon
from recon import new_workspace
from recon.database import embedded
from recon.errors import NotFound
from recon.reports.run import run_notebook
from recon.workspace import Workspace
from tests import kernels
from tests.support import ROOT

pytestmark = pytest.mark.one_engine
TUTORIAL = ROOT / "notebooks" / "tutorial.ipynb"


def _shown(notebook: nbformat.NotebookNode, name: str) -> str:
    cell = next(cell for cell in notebook.cells if cell.id == name)
    return "".join(
        output.get("text") or output["data"].get("text/plain", "")
        for output in cell.outputs
        if output.output_type != "error"
    )


def test_the_tutorial_goes_the_whole_way(tmp_path: Path) -> None:
    place = tmp_path / "place"
    new_workspace.init(place)
    try:
        # A database in the environment is not what the tutorial works on.
        environment = {
            "RECON_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
            "IPYTHONDIR": str(tmp_path / "ipython"),
            kernels.REAL: "yes",  # how wide a table is shown hangs on whether pandas is imported in a kernel
        }
        before = Path.cwd()
        os.chdir(place)
        try:
            done = run_notebook(place / "notebooks" / "tutorial.ipynb", tmp_path / "done.ipynb", {}, environment)
        finally:
            os.chdir(before)
        assert "1,028 payments, 96.9% reconciled" in _shown(done, "match")
        assert "ambiguous" in _shown(done, "match")
        figure = next(cell for cell in done.cells if cell.id == "waterfall")
        assert "application/vnd.plotly.v1+json" in figure.outputs[0].data
        assert "no_candidate" in _shown(done, "reasons")
        assert "tie" in _shown(done, "explain")
        assert "(False, 'when_false')" in _shown(done, "attempt")
        assert "gained" in _shown(done, "what-if")
        assert _shown(done, "decide").count("override") == 1
        assert "UPDATE" in _shown(done, "sql")
        assert "approved" in _shown(done, "approve")
        assert "verified" in _shown(done, "verify")
        assert "0 conflicts: reverted" in _shown(done, "revert")
        assert len(list((place / ".recon" / "tutorial" / "reports").glob("*.html"))) == 1
        assert not list((place / "reports").iterdir())
        with recon.scratch("rent_payments", place) as bench:
            assert bench.database.environment == "development"
            assert bench.match("rent_payments").population == 135
            plan = bench.plan("rent_payments")
            assert plan is not None
            with pytest.raises(NotFound, match="no script"):
                bench.script(plan.plan, "../plan.json")
    finally:
        embedded.discard(place / ".recon")


def test_the_tutorial_is_kept_without_outputs_and_passes_through_no_logic() -> None:
    found = nbformat.read(TUTORIAL, as_version=nbformat.NO_CONVERT)
    nbformat.validate(found)
    code = [cell for cell in found.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code), (
        "clear the outputs before committing"
    )
    assert max(len(cell.source.splitlines()) for cell in code) <= 8
    assert Workspace(ROOT).file("notebooks", TUTORIAL.name) == TUTORIAL
