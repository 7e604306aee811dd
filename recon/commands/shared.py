"""What all commands share: their options, how a database is opened, how results and progress are shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.errors import UsageError, visible
from recon.reports.whole import written as written

if TYPE_CHECKING:
    from recon.database.connect import Database
    from recon.matching.run import Run
    from recon.workspace import Workspace

DONE, FAILED, BREAKS_REMAIN = 0, 1, 3  # exit codes; 2 and 4 come with errors

Name = Annotated[str, typer.Argument(help="A reconciliation; see `recon list`.", metavar="NAME")]
NameOrGroup = Annotated[str, typer.Argument(help="A reconciliation or a group; see `recon list`.", metavar="NAME")]
PlanName = Annotated[str, typer.Argument(help="A plan; see `recon plans`.", metavar="PLAN")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Folder = Annotated[Path | None, typer.Option("--workspace", help="The workspace; default: the one you are in.")]
Url = Annotated[
    str | None,
    typer.Option(
        "--database",
        help="A PostgreSQL URL, or `demo`; default: RECON_DATABASE_URL, else embedded.",
        show_default=False,
    ),
]
Execute = Annotated[bool, typer.Option("--execute", help="Write. Without it: a dry run that changes nothing.")]


def find_workspace(folder: Path | None, *, anywhere: bool = False) -> Workspace:
    from recon.workspace import Workspace

    return Workspace.find(folder, anywhere=anywhere)


def open_database(workspace: Workspace, url: str | None) -> Database:
    from recon import workflow

    return workflow.open_database(workspace, url)


def after_matching(run: Run) -> int:
    """The exit code of a run: done, or done with records without a partner or people's decisions that cannot be."""
    return DONE if run.settled else BREAKS_REMAIN


def day(text: str | None, option: str) -> str | None:
    from datetime import date

    try:
        return date.fromisoformat(text).isoformat() if text is not None else None
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is not a day.", todo="Write it like 2025-03-31.") from error


def note(text: str) -> None:
    typer.echo(visible(text), err=True)


def say(text: str) -> None:
    typer.echo(visible(text))


def say_private(note: str | None) -> None:
    """Say how things stand with private columns, under a screen that may show some; None: the spec has none."""
    if note:
        say(note)


def answer(document: dict[str, Any], as_json: bool, text: str) -> None:
    """Print the document where JSON is asked for, else the sentence."""
    if not show(document, as_json):
        say(text)


def show(document: dict[str, Any], as_json: bool) -> bool:
    """Print the document where JSON is asked for; says whether it did."""
    if as_json:
        print_json(document)
    return as_json


def print_json(document: Any, indent: int | None = None) -> None:
    typer.echo(json.dumps(document, default=_plain, ensure_ascii=False, indent=indent))


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
