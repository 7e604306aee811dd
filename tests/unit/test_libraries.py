"""Large libraries are imported without what they would build and nobody here asks for."""

from __future__ import annotations

import subprocess
import sys

from tests.support import ROOT

LOOK = """
import importlib.util, sys
from pathlib import Path
from recon.reports import parameters
print(sorted(parameters.of(Path(sys.argv[1]))))
assert "jsonschema" in sys.modules
assert importlib.util.find_spec("rfc3987_syntax"), "it is installed, and may be imported by whoever wants it"
assert "rfc3987_syntax.syntax_helpers" not in sys.modules, "38 grammars were built for nothing"
"""


def test_a_notebook_is_read_without_the_grammars_of_international_addresses() -> None:
    notebook = next((ROOT / "notebooks").glob("*report*.ipynb"))
    ended = subprocess.run(
        [sys.executable, "-c", LOOK, str(notebook)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert ended.returncode == 0, ended.stderr
    assert "reconciliation" in ended.stdout
