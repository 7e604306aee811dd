"""The command that goes the whole way, for schedules and for people."""

from __future__ import annotations

from typing import Annotated

import typer

from recon.commands.shared import AsJson, Execute, Folder, Name, Url, day, find_workspace, open_database, show
from recon.errors import UsageError
from recon.progress import bar


def run(
    name: Name,
    execute: Execute = False,
    mode: Annotated[
        str | None, typer.Option(help="How far: match, plan, dry_run (the default) or execute.", metavar="MODE")
    ] = None,
    from_date: Annotated[str | None, typer.Option("--from", help="From this day, YYYY-MM-DD, inclusive.")] = None,
    to_date: Annotated[str | None, typer.Option("--to", help="To this day, YYYY-MM-DD, inclusive.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Decide at most this many unlinked records.")] = None,
    plan: Annotated[str | None, typer.Option(help="Carry on with this plan; default: match, and plan.")] = None,
    limited: Annotated[bool, typer.Option("--limited", help="Plan from a limited run on purpose.")] = False,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """The whole way: check, match, plan, sign-off, apply, verify, and a page that tells it. Ends with 3 where a person is awaited.

    Without --execute it is a dry run. With it, a plan is applied only under a sign-off: a standing one, or the
    approval of the plan that waits.
    """
    from recon import whole_way

    if execute and mode not in (None, "execute"):
        raise UsageError(f"--execute and --mode {mode} are two things.", todo="Give one of them.")
    place = find_workspace(workspace)
    wish = whole_way.Wish(
        mode=mode or ("execute" if execute else "dry_run"),
        from_day=day(from_date, "--from") or "",
        to_day=day(to_date, "--to") or "",
        limit=limit or 0,
        plan=plan or "",
        limited=limited,
    )
    opened = open_database(place, database)
    with bar(f"Running {name}", "cells") as progress:
        document = whole_way.run(opened, place, name, wish, progress=progress, tell=progress.step)
    if not show(document, as_json):
        from recon import screens_run

        screens_run.ran(document)
    raise typer.Exit(document["exit_code"])
