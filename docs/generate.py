"""The reference pages, made from the code: `python docs/generate.py` writes docs/reference/*.md anew.

What is said of a command, an option, a field or an error stands beside it in the code. What has no place for words there
(outcomes, reasons, states, columns without a comment) has them in words.yaml. Nothing here needs a database.

A page fails to be made where something has no words: see `Unsaid`.
"""

from __future__ import annotations

import re
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal

import sqlalchemy as sa
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from ruamel.yaml import YAML
from sqlalchemy.dialects import postgresql

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs" / "reference"
WORDS = ROOT / "docs" / "words.yaml"
EVERYWHERE = ("--json", "--workspace", "--database")  # options that stand in one table of their own

MADE = "<!-- Made by docs/generate.py from the code: change it there, then run `make reference`. -->"


class Unsaid(Exception):
    """Something that people meet has no words."""


def said(words: str | None, what: str) -> str:
    """The words of something as one line of Markdown. Raises Unsaid where there are none."""
    text = " ".join((words or "").split())
    if len(text) < len("a."):
        raise Unsaid(f"{what} has no words of its own")
    return text


# -- Markdown --------------------------------------------------------------------------------------------


def page(title: str, intro: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", MADE, intro, *parts]) + "\n"


def grid(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def code(text: object) -> str:
    """A word as code; an empty one stays empty."""
    return f"`{text}`" if str(text) else ""


def _cell(text: str) -> str:
    return re.sub(r"(?<!\\)\|", r"\\|", text)


def sentence(text: str) -> str:
    """A clause as a sentence: what is a comment in the code stands alone here."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith(('.', '?', '…')) else '.'}"


# -- the command line ------------------------------------------------------------------------------------


def commands() -> dict[str, Any]:
    """The commands by name, in the order of `recon --help`."""
    from typer.main import get_command

    from recon.cli import app

    group: Any = get_command(app)
    return dict(group.commands)


def cli() -> str:
    every = commands()
    shared = dict.fromkeys(EVERYWHERE)
    parts = [
        grid(
            ["command", "does"],
            [
                [f"[`recon {name}`](#recon-{name})", said(_paragraphs(command)[0], f"recon {name}")]
                for name, command in every.items()
            ],
        )
    ]
    for name, command in every.items():
        arguments = [item for item in command.params if not item.opts or not item.opts[0].startswith("-")]
        options = [item for item in command.params if item not in arguments]
        for item in options:
            if item.opts[0] in shared and shared[item.opts[0]] is None:
                shared[item.opts[0]] = item
        parts.append(f"## recon {name}")
        parts += [said(text, f"recon {name}") for text in _paragraphs(command)]
        parts.append(f"```text\n{usage(name, command)}\n```")
        if arguments:
            parts.append(grid(["argument", "", "meaning"], [_argument(name, item) for item in arguments]))
        rows = [_option(name, item) for item in options if _is_own(item, shared)]
        if rows:
            parts.append(grid(["option", "default", "meaning"], rows))
    everywhere = [_option("every command", item) for item in shared.values() if item is not None]
    lead = (
        "Every command takes these options where they make sense, and `--help`. `recon --version` prints the version. "
        "How a command ends is told by its [exit code](exit_codes.md); what can go wrong stands in [errors](errors.md)."
    )
    return page("Commands", lead, grid(["option", "default", "meaning"], everywhere), *parts)


def _paragraphs(command: Any) -> list[str]:
    """What a command says of itself; the first paragraph is what `recon --help` shows of it."""
    return re.split(r"\n\s*\n", (command.help or "").strip())


def usage(name: str, command: Any) -> str:
    """How a command is called, on one line: what must be given, then the rest in brackets.

    Only the options of this command itself; those of all commands are left out.
    """
    words = [f"recon {name}"]
    for item in command.params:
        if item.opts and item.opts[0] in EVERYWHERE:
            continue
        is_option = bool(item.opts) and item.opts[0].startswith("-")
        shown = f"{item.opts[0]}{'' if item.is_flag else f' {_metavar(item)}'}" if is_option else _metavar(item)
        repeats = " …" if getattr(item, "multiple", False) else ""
        words.append(f"{shown}{repeats}" if item.required else f"[{shown}{repeats}]")
    return " ".join(words)


def _metavar(item: Any) -> str:
    if item.metavar:
        return str(item.metavar)
    name = item.opts[0] if item.opts and item.opts[0].startswith("-") else item.name or ""
    return name.strip("-_").upper()


def _is_own(item: Any, shared: Mapping[str, Any]) -> bool:
    """Whether an option means something of its own in this command, and is not what it is everywhere."""
    usual = shared.get(item.opts[0])
    return usual is None or item.help != usual.help


def _argument(command: str, item: Any) -> list[str]:
    words = said(item.help, f"the argument {item.name} of recon {command}")
    return [code(_metavar(item)), "required" if item.required else _default(item), words]


def _option(command: str, item: Any) -> list[str]:
    words = said(item.help, f"the option {item.opts[0]} of recon {command}")
    names = ", ".join(code(name) for name in [*item.opts, *item.secondary_opts])
    return [names, "required" if item.required else _default(item), words]


def _default(item: Any) -> str:
    usual = item.default
    if callable(usual) or usual in (None, (), [], "") or usual is False:
        return ""
    if usual is True:
        return code(item.opts[0])
    return code(usual)


# -- the spec and the settings ---------------------------------------------------------------------------


def parts_of(model: type[BaseModel]) -> list[type[BaseModel]]:
    """A model and the models of its fields, each once, in the order in which they are met."""
    found: list[type[BaseModel]] = []

    def walk(kind: Any) -> None:
        if isinstance(kind, type) and issubclass(kind, BaseModel) and kind not in found:
            found.append(kind)
            for hint in _hints(kind).values():
                walk(hint)
        for argument in typing.get_args(kind):
            walk(argument)

    walk(model)
    return found


def _hints(model: type[BaseModel]) -> dict[str, Any]:
    hints = typing.get_type_hints(model, include_extras=True)
    return {name: hints[name] for name in model.model_fields}


def _field_rows(model: type[BaseModel]) -> list[list[str]]:
    hints = _hints(model)
    return [
        [
            code(name), _type(hints[name]), _usual(field),
            said(field.description, f"the field {name} of {model.__name__}"),
        ]
        for name, field in model.model_fields.items()
    ]  # fmt: skip


def spec() -> str:
    from recon.allowed import FUNCTIONS
    from recon.own_functions import FUNCTIONS as OWN
    from recon.spec import Reconciliation

    intro = (
        "A spec is one YAML file, `reconciliations/NAME.yaml` in a workspace. `recon schema` prints its JSON Schema for "
        "editors, `recon check NAME` tries it on the data. A field that is not in these tables is an error."
    )
    parts: list[str] = []
    for model in parts_of(Reconciliation):
        parts += [f"## {model.__name__}", said(_own_words(model), model.__name__)]
        parts.append(grid(["field", "type", "default", "meaning"], _field_rows(model)))
    named = ", ".join(code(name) for name in sorted(FUNCTIONS))
    parts += [
        "## Expressions",
        "An expression is one SQL scalar expression. `t.` is the target and `s.` the source; a name alone belongs to the "
        "side that the expression is written for. Names with spaces or signs stand in double quotes. There are no "
        "subqueries and no statements.",
        f"Functions that may be used: {named}. `now()` is allowed where a field says so.",
        "Functions of recon's own bring a value into a form in which two spellings of it are equal. Each stands for plain SQL, "
        "which is what a plan, a review and the database get to see; a value that has no such form has none (NULL), and none "
        "fails.",
        grid(
            ["function", "gives"], [[", ".join(map(code, function.calls)), function.words] for function in OWN.values()]
        ),
        "## Tolerances",
        "An interval is written in weeks, days, hours, minutes and seconds (`1 hour`, `2 days 12 hours`), a number plainly "
        "(`0.01`), a percentage with its sign (`5%`, of the target's absolute value). Bounds are inclusive.",
    ]
    return page("The spec, field by field", intro, *parts)


def _own_words(model: type[BaseModel]) -> str:
    return model.__dict__.get("__doc__") or ""


_ALIASES = "ColumnName", "Name", "Share", "Amount"
_CALLED = {
    "ColumnName": "column name",
    "Name": "name (small letters, digits, `_`)",
    "Share": "share, 0 to 1",
    "Amount": "interval, number or percentage",
}


def _type(hint: Any) -> str:
    """A type as people read it; a part of a spec leads to its table."""
    from recon import spec_parts

    for alias in _ALIASES:
        if hint == getattr(spec_parts, alias):
            return _CALLED[alias]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin is Literal:
        return " or ".join(code(word) for word in arguments)
    if origin in (typing.Union, UnionType):
        return " or ".join(dict.fromkeys(_type(item) for item in arguments if item is not NoneType))
    if origin is list:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return f"mapping of {_type(arguments[0])} to {_type(arguments[1])}"
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    return {str: "text", bool: "yes or no", int: "whole number", Decimal: "number"}.get(hint) or str(hint.__name__)


def _usual(field: FieldInfo) -> str:
    """The default as it is written in YAML; what is required says so, what is absent is left empty."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined or value in ([], {}, ""):
        return ""
    if isinstance(value, BaseModel):
        given = value.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
        return code(given) if given else ""
    if isinstance(value, bool):
        return code(str(value).lower())
    return code(value)


def settings() -> str:
    from recon.workspace import Policy, Settings

    intro = (
        "Policy stands in `recon.toml` at the top of a workspace; what differs from place to place, and every credential, "
        "in the environment or in `.env` beside it."
    )
    parts = ["## recon.toml"]
    for name, field in Policy.model_fields.items():
        model: Any = field.annotation
        parts += [f"### `[{name}]`", said(_own_words(model), model.__name__)]
        parts.append(grid(["setting", "type", "default", "meaning"], _field_rows(model)))
    rows = [
        [code(f"RECON_{name.upper()}"), said(field.description, f"the setting {name}")]
        for name, field in Settings.model_fields.items()
    ]
    parts += [
        "## The environment",
        grid(["variable", "meaning"], rows),
        "Those of the service and of each outside system stand with them in [Operations](../operations.md#settings).",
    ]
    return page("Settings", intro, *parts)


# -- recon's own tables ----------------------------------------------------------------------------------


def words() -> dict[str, Any]:
    return YAML(typ="safe").load(WORDS.read_text(encoding="utf-8"))


def tables() -> str:
    from recon.database.tables import SCHEMA_VERSION, metadata

    known = words()
    intro = (
        "recon keeps what it concluded, planned, wrote and was told in schema `recon` of the database that it works on. "
        f"These tables are of version {SCHEMA_VERSION}; the first command of a newer recon brings older ones up to date. "
        "Read them as you like, and change them through the commands only. Keys of records stand as arrays of text, one "
        "part for each key column. Times have their zone."
    )
    parts: list[str] = []
    own = sorted(metadata.tables.values(), key=lambda table: table.name)
    for table in own:
        about = known["tables"].get(table.name, {})
        parts += [f"## {table.name}", said(about.get("is"), f"the table {table.name}")]
        rows = [
            [
                code(column.name) + (" (key)" if column.primary_key else ""),
                column.type.compile(postgresql.dialect()).lower(),  # pyright: ignore[reportUnknownMemberType]
                "" if column.nullable else "not null",
                _column_words(table.name, column, about.get("columns", {})),
            ]
            for column in table.columns
        ]
        parts.append(grid(["column", "type", "", "meaning"], rows))
    parts += [
        "## Tables of single runs and plans",
        "Each run and each plan has tables of its own, whose keys and values have the types of the users' columns. "
        "`<run>` and `<plan>` stand for the id.",
    ]
    for name, about in known["made"].items():
        parts += [f"### `{name}`", said(about.get("is"), name)]
        parts.append(
            grid(["column", "meaning"], [[code(key), said(text, key)] for key, text in about["columns"].items()])
        )
    parts.append(
        "The jobs that wait for `recon worker` are kept by procrastinate, in tables of the same schema whose names begin "
        "with `procrastinate_`. Files and outside systems are loaded into schema `bronze` unless a spec's `into` names "
        "another table."
    )
    return page("recon's own tables", intro, *parts)


def _column_words(table: str, column: sa.Column[Any], others: Mapping[str, str]) -> str:
    text = sentence(said(column.comment or others.get(column.name), f"the column {column.name} of {table}"))
    listed = f"{table}.{column.name}"
    return f"{text} See [states](reasons.md#{anchor(listed)})." if listed in choices() else text


def anchor(heading: str) -> str:
    """The anchor that Markdown gives a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def choices() -> dict[str, list[str]]:
    """Every column of recon's own that takes one of a few words, as table.column, with these words."""
    from recon.backfill import states
    from recon.database.tables import metadata

    found = {"plans.state": [*dict.fromkeys(word for move in states.MOVES for word in (move.origin, move.to))]}
    for table in metadata.tables.values():
        # A table's constraints are a set; in the order of the columns the page is the same every time.
        texts = [str(item.sqltext) for item in table.constraints if isinstance(item, sa.CheckConstraint)]
        for column in table.columns:
            for text in texts:
                if listed := re.fullmatch(rf"{column.name} IN \((.*)\)", text):
                    found[f"{table.name}.{column.name}"] = re.findall(r"'(\w+)'", listed[1])
    return found


# -- outcomes, reasons, states ---------------------------------------------------------------------------


def outcome_codes() -> tuple[str, ...]:
    from recon.matching.statements import OUTCOMES

    return OUTCOMES


def reason_codes() -> list[str]:
    from recon.matching.reasons import CLOSENESS, CONFLICT, OF_OTHERS

    return [*dict.fromkeys([*CLOSENESS, *OF_OTHERS.values(), CONFLICT])]


def reasons() -> str:
    from recon.backfill import states
    from recon.reports.words import reason_words

    known = words()
    intro = (
        "Every record of the population has exactly one outcome in each run. Whatever is not reconciled has a reason too: "
        "that of the pass that came nearest to a partner. `recon explain NAME --key K` shows the reason of every pass."
    )
    outcome_rows = [[code(name), said(known["outcomes"].get(name), f"the outcome {name}")] for name in outcome_codes()]
    reason_rows = [
        [
            code(name), said(reason_words(name) if reason_words(name) != name else "", f"the reason {name} on screens"),
            said(known["reasons"].get(name, {}).get("means"), f"the reason {name}"),
            said(known["reasons"].get(name, {}).get("next"), f"what to do about the reason {name}"),
        ]
        for name in reason_codes()
    ]  # fmt: skip
    parts = [
        "## Outcomes", grid(["outcome", "meaning"], outcome_rows),
        "Coverage is (linked + matched + same + changed) ÷ (population − excluded).",
        "## Reasons",
        grid(["reason", "on screens", "meaning", "what next"], reason_rows),
        "## States",
        "Each of these stands in a column of [recon's own tables](tables.md), as table.column.",
    ]  # fmt: skip
    for place, listed in choices().items():
        rows = [[code(word), said(known["states"].get(place, {}).get(word), f"{word} in {place}")] for word in listed]
        parts += [f"### {place}", grid([place.partition(".")[2], "meaning"], rows)]
        if place == "plans.state":
            parts += ["Nothing but these moves changes the state of a plan.", states.as_markdown()]
    return page("Outcomes, reasons, states", intro, *parts)


# -- exit codes and errors -------------------------------------------------------------------------------


def exit_codes() -> str:
    from recon.errors import EXIT_CODES, catalogue

    intro = "Every command ends with one of these codes. With `--json` an error is one JSON document on stdout too."
    rows = [[code(number), said(text, f"the exit code {number}")] for number, text in EXIT_CODES.items()]
    parts = [grid(["code", "meaning"], rows), "## Which error ends with which code"]
    ending = {
        number: [
            f"[{kind.__name__}](errors.md#{anchor(kind.__name__)})" for kind in catalogue() if kind.exit_code == number
        ]
        for number in EXIT_CODES
    }
    parts.append(
        grid(["code", "errors"], [[code(number), ", ".join(kinds)] for number, kinds in ending.items() if kinds])
    )
    parts.append(
        "Code 3 comes with no error: the command did what it was asked, and what it found wants a person. For a group of "
        "reconciliations the worst code counts: 1, then 2, 4, 3 and 0."
    )
    return page("Exit codes", intro, *parts)


def errors() -> str:
    from recon.errors import catalogue
    from recon.service.answers import DESCRIBED

    intro = (
        "Every error says three things: what happened, why, and what to do next. The sentences here are those that are "
        "used where nothing more exact is known of the case. With `--json` an error is "
        '`{"error": …, "what": …, "why": …, "next": …}`; some have more fields.'
    )
    parts: list[str] = []
    for kind in catalogue():
        name = kind.__name__
        parts += [
            f"## {name}",
            f"**{said(kind.__dict__.get('__doc__'), name)}** Exit code [{kind.exit_code}](exit_codes.md).{_family(kind)}",
            f"- Why: {said(kind.__dict__.get('because'), f'why of {name}')}\n"
            f"- What next: {said(kind.__dict__.get('next_step'), f'what next of {name}')}",
        ]
    rows = [[code(status), said(text, f"the status {status}")] for status, text in DESCRIBED.items()]
    parts += [
        "## Over HTTP",
        "`recon serve` answers with the same three parts and one of these statuses. A part is empty there where nothing is "
        "known of the case: the advice of this list is for the command line.",
        grid(["status", "meaning"], rows),
    ]
    return page("Errors", intro, *parts)


def _family(kind: type[Exception]) -> str:
    from recon.errors import catalogue

    parent = kind.__mro__[1]
    return f" A kind of [{parent.__name__}](#{anchor(parent.__name__)})." if parent in catalogue() else ""


# -- all of them -----------------------------------------------------------------------------------------

PAGES = {
    "cli.md": cli,
    "spec.md": spec,
    "settings.md": settings,
    "tables.md": tables,
    "reasons.md": reasons,
    "exit_codes.md": exit_codes,
    "errors.md": errors,
}


def made() -> Iterator[tuple[Path, str]]:
    """Every page with its text."""
    for name, make in PAGES.items():
        yield REFERENCE / name, make()


def main() -> None:
    """Write the pages, and say which changed."""
    REFERENCE.mkdir(exist_ok=True)
    for path, text in made():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))  # noqa: T201


if __name__ == "__main__":
    try:
        main()
    except Unsaid as unsaid:
        sys.exit(f"{unsaid}.")
