"""The reference pages are those of the code, and whatever people meet has words of its own there."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from recon import errors
from recon.backfill.change import Shape
from recon.database.tables import metadata
from recon.spec import Reconciliation
from recon.workspace import Policy, Settings
from tests.support import ROOT

PAGES = ("cli.md", "errors.md", "exit_codes.md", "reasons.md", "settings.md", "spec.md", "tables.md")


def _loaded() -> ModuleType:
    described = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert described is not None
    assert described.loader is not None
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    return module


generate = _loaded()


def _page(name: str) -> str:
    return (ROOT / "docs" / "reference" / name).read_text(encoding="utf-8")


def _section(name: str, heading: str) -> str:
    """What stands under a heading of a page, up to the next one of its level or above."""
    level = heading.split(" ", 1)[0]
    found = re.search(
        rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", _page(name), re.DOTALL | re.MULTILINE
    )
    assert found, f"{name} has no {heading}"
    return found[1]


def _row(text: str, first: str) -> list[str]:
    """The cells of the row of a table that begins with this."""
    found = [line for line in text.splitlines() if line.startswith(f"| {first}")]
    assert found, f"no row begins with {first}"
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", found[0].strip("|"))]


def test_the_pages_are_what_the_code_gives() -> None:
    made = dict(generate.made())
    assert sorted(path.name for path in made) == sorted(PAGES)
    assert sorted(path.name for path in generate.REFERENCE.glob("*.md") if generate.MADE in path.read_text()) == [
        *PAGES
    ]
    for path, text in made.items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} lags behind the code: run `make reference`"


def test_every_command_and_option_is_described() -> None:
    for name, command in generate.commands().items():
        section = _section("cli.md", f"## recon {name}")
        assert _row(_page("cli.md"), f"[`recon {name}`]")[1]
        for item in command.params:
            for option in (word for word in (*item.opts, *item.secondary_opts) if word.startswith("-")):
                assert f"`{option}`" in (_page("cli.md") if option in generate.EVERYWHERE else section), (name, option)
            assert item.help, f"recon {name} {item.name} has no help"


def test_every_field_of_a_spec_and_every_setting_is_described() -> None:
    for model in generate.parts_of(Reconciliation):
        assert model.__dict__.get("__doc__"), model
        for name in model.model_fields:
            row = _row(_section("spec.md", f"## {model.__name__}"), f"`{name}`")
            assert all((row[1], row[3])), (model, name)
    for name in Policy.model_fields:
        for setting in Policy.model_fields[name].annotation.model_fields:  # pyright: ignore[reportOptionalMemberAccess]
            assert _row(_section("settings.md", f"### `[{name}]`"), f"`{setting}`")[3]
    for name in Settings.model_fields:
        assert _row(_page("settings.md"), f"`RECON_{name.upper()}`")[1]


def test_every_setting_of_the_environment_has_words() -> None:
    table = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8").split("## Settings")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (`RECON_.*?) \| (.*?) \|$", table, re.MULTILINE)
    assert len(rows) >= 20
    assert not [names for names, words in rows if not re.search(r"[a-z]{3}", words)]


def test_every_table_and_column_of_recons_own_is_described() -> None:
    assert len(metadata.tables) >= 20
    for table in metadata.tables.values():
        section = _section("tables.md", f"## {table.name}")
        for column in table.columns:
            assert _row(section, f"`{column.name}`")[3], (table.name, column.name)


def test_the_columns_of_staged_rows_and_ledgers_are_those_that_plans_have() -> None:
    shape = Shape(("id",), ("id",), ("a", "b"), inserts=True)
    known = generate.words()["made"]
    assert set(shape.staged_columns) - {"before_2", "after_2"} == {*known["staged_<plan>"]["columns"]} - {"place"}
    assert set(shape.ledger_columns) - {"before_2", "after_2"} == {*known["ledger_<plan>"]["columns"]} - {
        "written_at", "reverted_at"
    }  # fmt: skip


def test_every_outcome_reason_and_state_is_described() -> None:
    for outcome in generate.outcome_codes():
        assert _row(_section("reasons.md", "## Outcomes"), f"`{outcome}`")[1]
    for reason in generate.reason_codes():
        assert all(_row(_section("reasons.md", "## Reasons"), f"`{reason}`"))
    from recon.backfill.states import MOVES, STATES

    choices = generate.choices()
    assert set(choices["plans.state"]) == STATES
    for place, listed in choices.items():
        for word in listed:
            assert _row(_section("reasons.md", f"### {place}"), f"`{word}`")[1]
    shown = re.findall(r"^\| (\w+) \| (\w+) \|", _section("reasons.md", "### plans.state"), re.MULTILINE)
    assert {(move.origin, move.to) for move in MOVES} <= {*shown}


def test_every_error_and_exit_code_is_described() -> None:
    for kind in errors.catalogue():
        section = _section("errors.md", f"## {kind.__name__}")
        for part in (kind.__doc__, kind.because, kind.next_step):
            assert part
            assert part in section, kind
        assert f"[{kind.__name__}]" in _row(_page("exit_codes.md"), f"`{kind.exit_code}` | [")[1]
    for code in errors.EXIT_CODES:
        assert _row(_page("exit_codes.md"), f"`{code}`")[1]


def test_every_code_that_a_command_ends_with_is_among_the_exit_codes() -> None:
    from recon.commands.shared import BREAKS_REMAIN, DONE, FAILED

    assert {DONE, FAILED, BREAKS_REMAIN} | {kind.exit_code for kind in errors.catalogue()} == {*errors.EXIT_CODES}
    for path in (ROOT / "recon" / "commands").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "Exit"
            bare = [item for item in node.args if isinstance(item, ast.Constant)] if called else []
            assert not bare, f"{path.name}: an exit code stands there as a bare number"


def test_no_words_are_left_of_what_is_gone() -> None:
    known = generate.words()
    assert {*known["outcomes"]} == {*generate.outcome_codes()}
    assert {*known["reasons"]} == {*generate.reason_codes()}
    assert {place: [*listed] for place, listed in known["states"].items()} == {
        place: sorted(listed, key=[*known["states"][place]].index) for place, listed in generate.choices().items()
    }
    tables = {table.name: table for table in metadata.tables.values()}
    assert {*known["tables"]} == {*tables}
    for name, about in known["tables"].items():
        without = {column.name for column in tables[name].columns if not column.comment}
        assert {*about.get("columns", {})} == without, name


def test_words_are_not_said_twice_of_two_things() -> None:
    """What is copied from its neighbour is no description of its own."""
    known = generate.words()
    apart = [[*known["outcomes"].values()], [item["means"] for item in known["reasons"].values()]]
    apart += [[*listed.values()] for listed in known["states"].values()]
    apart += [[about["is"] for about in known["tables"].values()]]
    apart += [[*about["columns"].values()] for about in known["tables"].values()]
    apart += [[kind.__doc__ for kind in errors.catalogue()], [kind.because for kind in errors.catalogue()]]
    apart += [
        [field.description for field in model.model_fields.values()] for model in generate.parts_of(Reconciliation)
    ]
    for listed in apart:
        assert len(listed) == len(set(listed)), [words for words in listed if listed.count(words) > 1]


class _NoHelp:
    help = ""
    params: tuple[Any, ...] = ()


def test_a_command_without_words_stops_the_making(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "commands", lambda: {"silent": _NoHelp()})
    with pytest.raises(generate.Unsaid, match="recon silent has no words"):
        generate.cli()


@pytest.mark.parametrize(
    ("way", "maker"),
    [
        (("outcomes", "matched"), "reasons"),
        (("reasons", "tie", "next"), "reasons"),
        (("states", "breaks.state", "open"), "reasons"),
        (("tables", "runs", "is"), "tables"),
        (("tables", "runs", "columns", "state"), "tables"),
    ],
)
def test_words_that_are_missing_stop_the_making(
    way: tuple[str, ...], maker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = generate.words()
    place = known
    for key in way[:-1]:
        place = place[key]
    del place[way[-1]]
    monkeypatch.setattr(generate, "words", lambda: known)
    with pytest.raises(generate.Unsaid):
        getattr(generate, maker)()


@pytest.mark.parametrize("name", PAGES)
def test_links_of_a_page_lead_to_anchors_that_exist(name: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", _page(name)):
        file, _, anchor = target.partition("#")
        path = (generate.REFERENCE / file).resolve() if file else generate.REFERENCE / name
        assert path.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", Path(path).read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [generate.anchor(heading) for heading in headings], target
