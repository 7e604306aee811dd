"""The documents keep pace with the code: a test fails when they lag behind."""

from __future__ import annotations

import ast
import json
import re

import pytest

from recon.spec import Reconciliation
from tests.support import ROOT, recon

REQUIREMENTS = (ROOT / "docs" / "requirements.md").read_text(encoding="utf-8")
COUNTS = {"INV": 20, "HCP": 15, "CRM": 17, "SYN": 10, "RES": 16}


def _docstrings() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                found[f"{path.relative_to(ROOT / 'tests')}::{node.name}"] = ast.get_docstring(node) or ""
    return found


def test_every_requirement_has_a_test_that_names_it_or_is_marked_later() -> None:
    docstrings = _docstrings()
    rows = dict(re.findall(r"^\| ([A-Z]{3}-\d\d) \|(.*)\|$", REQUIREMENTS, re.MULTILINE))
    assert {group: sum(name.startswith(group) for name in rows) for group in COUNTS} == COUNTS
    for name, row in rows.items():
        tests = re.findall(r"`([\w/.]+::\w+)`", row)
        assert tests or "*later*" in row, f"{name} has no test and is not marked later"
        for test in tests:
            assert test in docstrings, f"{name}: {test} does not exist"
            assert name in docstrings[test], f"{name}: the docstring of {test} does not name it"


def test_the_decision_register_has_risk_and_mitigation() -> None:
    """INV-19: why there is no date rule, why the most recent lease, with risk and mitigation."""
    text = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    assert "| decision | why | risk | what holds it in check |" in text
    for about in ("No date rule", "the most recent"):
        row = next(line for line in text.splitlines() if about in line)
        assert len([cell for cell in row.strip("|").split("|") if cell.strip()]) == 4


def test_the_schema_for_editors_is_the_code_s() -> None:
    kept = json.loads((ROOT / "recon" / "reconciliation.schema.json").read_text(encoding="utf-8"))
    assert kept == Reconciliation.model_json_schema(), "run `recon schema > recon/reconciliation.schema.json`"


def test_the_moves_of_a_plan_are_in_the_docs_as_they_are_in_the_code() -> None:
    from recon.backfill import states

    text = (ROOT / "docs" / "sign-off.md").read_text(encoding="utf-8")
    assert states.as_markdown() in text, "paste what recon.backfill.states.as_markdown() gives"


def test_every_shipped_spec_names_the_schema() -> None:
    specs = list((ROOT / "recon" / "systems").glob("*/*.yaml"))
    assert specs
    for path in specs:
        first = path.read_text(encoding="utf-8").splitlines()[0]
        named = re.fullmatch(r"# yaml-language-server: \$schema=(.*)", first)
        assert named, f"{path.name} does not name the schema"
        assert (path.parent / named.group(1)).resolve().is_file()


def test_every_command_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^│ ([a-z][\w-]*) ", recon("--help").out, re.MULTILINE)
    assert len(listed) >= 18
    missing = [command for command in listed if f"recon {command}" not in readme]
    assert not missing


def test_every_command_takes_json_and_workspace_as_the_readme_says() -> None:
    from typer.main import get_command

    from recon.cli import app

    assert "Every command takes `--json`" in (ROOT / "README.md").read_text(encoding="utf-8")
    commands = get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue] (a group, as there are several)
    for name, command in commands.items():
        assert {"--json", "--workspace"} <= {option for parameter in command.params for option in parameter.opts}, name


def test_every_command_that_a_message_names_exists() -> None:
    listed = set(re.findall(r"^│ ([a-z][\w-]*) ", recon("--help").out, re.MULTILINE))
    for path in [*(ROOT / "recon").rglob("*.py"), *(ROOT / "notebooks").glob("*.*"), ROOT / "README.md"]:
        # In messages a command stands between backticks.
        for command in re.findall(r"`recon ([a-z][a-z-]*)", path.read_text(encoding="utf-8")):
            assert command in listed, f"{path.name} names `recon {command}`, which does not exist"


@pytest.mark.parametrize("name", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_links_lead_somewhere(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_every_dependency_has_its_line() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    for wanted in [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]:
        name = re.split(r"[\[>=<]", wanted)[0]
        assert name in text, f"docs/decisions.md does not say what {name} is for"
