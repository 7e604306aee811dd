"""The documents keep pace with the code: a test fails when they lag behind."""

from __future__ import annotations

import ast
import json
import re
from itertools import chain

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


def test_every_command_in_the_docs_exists_with_its_options() -> None:
    from typer.main import get_command

    from recon.cli import app

    commands = get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue] (a group, as there are several)
    for name, text in _documents().items():
        lines = re.findall(r"`((?:RECON_\w+=\S+ )?recon [a-z][^`\n]*)`", text)
        for block in re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE):
            lines += re.findall(r"^ *((?:RECON_\w+=\S+ )?recon [a-z].*?)(?: +#.*)?$", block, re.MULTILINE)
        for line in lines:
            command, *rest = line.split("recon ", 1)[1].split()
            assert command in commands, f"{name}: {line}"
            options = {option for parameter in commands[command].params for option in parameter.opts}
            for word in rest:
                if re.fullmatch(r"--[a-z][a-z-]*", word):
                    assert word in options, f"{name}: {line}"


@pytest.mark.parametrize(
    "name", ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]
)
def test_links_lead_somewhere(name: str) -> None:
    path = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def _documents() -> dict[str, str]:
    """The text of the README and of each page that somebody wrote, by its name in docs/."""
    docs = ROOT / "docs"
    written = {str(path.relative_to(docs)): path for path in sorted(docs.rglob("*.md"))}
    paths = {"README.md": ROOT / "README.md"} | written
    return {name: path.read_text(encoding="utf-8") for name, path in paths.items() if not name.startswith("reference/")}


def test_each_yaml_in_the_docs_is_a_spec_or_a_part_of_one() -> None:
    """Those of how-to pages are run as they stand there; these are parts, beside what every spec has."""
    from pathlib import Path

    from recon import spec_file

    usual = {
        "name": "some",
        "target": {"table": "payments", "key": "id"},
        "source": {"table": "invoices", "key": "id"},
        "link": {"column": "invoice_id"},
        "passes": [{"name": "reference", "on": {"reference": "number"}}],
    }
    seen = 0
    for name, text in _documents().items():
        for block in re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            found = spec_file.plain(spec_file.parse(block, Path(name)), Path(name))
            if not isinstance(found, dict):
                continue  # schedules.yaml, which has a test of its own
            one_to_one = {"cardinality": "one_to_one"} if "compare" in found else {}
            Reconciliation.model_validate(usual | found | one_to_one)
            seen += 1
    assert seen >= 15


def _without_names(path: str) -> str:
    """An address without what its parts are called: `/plans/{plan}` and `/plans/$PLAN` are one."""
    return re.sub(r"\{[^}]*\}|<[^>]*>|\$\w+", "{}", path)


def test_the_addresses_in_the_docs_are_those_that_are_served() -> None:
    """Both ways: each that a page names is served, and each that is served stands in the service's table."""
    from recon.database.connect import Database
    from recon.service.app import application
    from recon.workspace import Workspace

    described = application(Workspace(ROOT), Database("postgresql://nobody@127.0.0.1:9/none")).openapi()["paths"]
    served = {(method.upper(), _without_names(path)) for path, item in described.items() for method in item}
    assert len(served) >= 20
    elsewhere = ("/credentials", "/external/", "/crm/")  # of the lock system, Stays and HubSpot
    patterns = [re.compile(path.replace("{}", "[^/]+")) for _, path in served]
    for name, text in _documents().items():
        for method, path in re.findall(r"\b(GET|POST|PUT|DELETE) (/(?:<[^>\n]*>|[^\s`?<>])*)", text):
            assert path.startswith(elsewhere) or (method, _without_names(path)) in served, f"{name}: {method} {path}"
        for path in re.findall(r"(?:http://127\.0\.0\.1:8484|\$URL)(/[^\s\"?`\\]*)", text):
            assert any(pattern.fullmatch(path) for pattern in patterns), f"{name}: {path}"
    rows = re.findall(r"^\| `(GET|POST) (/[^`?]*)[^`]*` \|", _documents()["service.md"], re.MULTILINE)
    assert {(method, _without_names(path)) for method, path in rows} == served


def test_the_rules_of_health_are_in_the_docs_as_they_are_in_the_code() -> None:
    """RES-09: each code with how bad it is."""
    from recon.mirror.health import RULES

    listed = re.findall(
        r"^\| (`\w+`(?:, `\w+`)*) \| (unhealthy|degraded) \|", _documents()["stays_api.md"], re.MULTILINE
    )
    assert {code.strip("`"): level for codes, level in listed for code in codes.split(", ")} == {
        rule.code: rule.level for rule in RULES
    }


def test_every_setting_stands_in_one_table_and_is_one_that_is_read() -> None:
    """SYN-10: both ways: whatever the code reads is in the table of docs/operations.md, and nothing else is."""
    from recon.service.schedules import setting_of

    ours = {"RECON_PLAN", "RECON_RECONCILIATION", "RECON_WORKSPACE"}  # that recon sets itself, for its notebooks
    of_one = {"RECON_STAYS_TOKEN", "RECON_STAYS_URL", "RECON_STAYS_WEBHOOK_SECRET"}  # an organisation may have its own
    read = {setting_of("stays")}
    for path in [*(ROOT / "recon").rglob("*.py"), *(ROOT / "notebooks").glob("*.py")]:
        read |= set(re.findall(r"\bRECON_[A-Z_]*[A-Z]\b", path.read_text(encoding="utf-8")))
    documents = _documents()
    table = documents["operations.md"].split("## Settings")[1].split("\n## ")[0]
    rows = [cell for line in table.splitlines() if line.startswith("| `RECON_") for cell in [line.split("|")[1]]]
    listed = re.findall(r"`(RECON_[A-Z_]*(?:<ID>)?)`", " ".join(rows))
    assert len(listed) == len(set(listed))
    assert set(listed) == (read - ours) | {f"{name}_<ID>" for name in of_one}
    assert all(f"`{name}`" in table for name in ours)
    for name, text in documents.items():
        for setting in re.findall(r"\bRECON_[A-Z_]*[A-Z]\b", text):
            known = setting in read or any(setting.startswith(f"{one}_") for one in of_one)
            assert known or setting == "RECON_LABELS", f"{name}: {setting}"  # outside.md's example of somebody's own
        if name != "operations.md":
            assert not re.search(r"^\| `RECON_\w+`,? ", text, re.MULTILINE), (
                f"{name} lists settings in a table of its own"
            )


def test_every_dependency_has_its_line() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    text = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    extras = project["project"]["optional-dependencies"]
    every = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"], *chain(*extras.values())]
    for name in {re.split(r"[\[>=<]", wanted)[0] for wanted in every} - {project["project"]["name"]}:
        assert name in text, f"docs/decisions.md does not say what {name} is for"
