"""The command of reports: a page, a workbook, a reader's signature, or when the worker makes one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from recon.commands import groups
from recon.commands.schedule import Cron, Zone, write
from recon.commands.shared import (
    DONE,
    AsJson,
    Folder,
    NameOrGroup,
    Url,
    answer,
    day,
    find_workspace,
    open_database,
    say,
)
from recon.errors import UsageError
from recon.progress import bar, spinner


def report(
    name: NameOrGroup,
    plan: Annotated[str | None, typer.Option(help="A plan; default: the latest.")] = None,
    excel: Annotated[
        bool, typer.Option("--excel", help="A workbook instead: breaks, and rents where there are.")
    ] = False,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="With --excel: count to this day, YYYY-MM-DD; default: today.")
    ] = None,
    sign: Annotated[
        str | None, typer.Option(help="Sign a report that you have read: its HTML file or its id.", metavar="REPORT")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="With --sign: your SSH key; without it your name is recorded.")
    ] = None,
    schedule: Cron = None,
    zone: Zone = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """One HTML file in reports/ that opens with no network; or a workbook, a signature, a schedule."""
    _together(plan=plan, excel=excel or None, sign=sign, schedule=schedule)
    for option, given, needs, there in (
        ("--as-of", as_of, "--excel", excel),
        ("--key", key, "--sign", sign is not None),
        ("--zone", zone, "--schedule", schedule is not None),
    ):
        if given is not None and not there:
            raise UsageError(f"{option} goes with {needs}.", todo=f"Give {needs} too, or leave {option} out.")
    place = find_workspace(workspace)
    group = groups.is_group(place, name)
    if group and (one_only := [f"--{option}" for option, given in {"plan": plan, "sign": sign}.items() if given]):
        raise UsageError(
            f"{one_only[0]} goes with one reconciliation, and {name} is a group.",
            todo=f"Name one of {', '.join(place.members(name))}.",
        )
    if not group:
        place.spec(name)
    if schedule is not None and group:
        raise UsageError(
            f"A schedule is of one reconciliation, and {name} is a group.",
            todo=f"Schedule each of {', '.join(place.members(name))}.",
        )
    if schedule is not None:
        write(place, "report", name, schedule, zone, as_json)
        return
    from recon import extras, workflow

    at = day(as_of, "--as-of")
    if not excel and sign is None:
        extras.need("notebooks", "`recon report`")
    opened = open_database(place, database)
    if sign is not None:
        from recon.reports import signed

        done = signed.sign(opened, place, name, sign, place.actor, key=key)
        how = f"with the key {done.key}" if done.key else "by name: a record, not a proof"
        answer(done.as_dict(), as_json, f"Signed  {done.file} by {done.signed_by}, {how}.")
        return

    def one(name: str) -> tuple[dict[str, Any], int]:
        if excel:
            from datetime import date

            with spinner(f"Writing the workbook of {name}"):
                path = workflow.workbook(opened, place, name, date.fromisoformat(at) if at else None)
        else:
            with bar(f"Making the report of {name}", "cells") as progress:
                path = workflow.report(opened, place, name, plan, progress, progress.step)
        if not as_json:
            say(f"Report  {path}")
        return {"report": str(path)}, DONE

    code = groups.conduct(place, name, as_json, one, _close)
    if code:
        raise typer.Exit(code)


def _close(group: str, ended: list[groups.Ended]) -> None:
    from recon import screens_groups

    screens_groups.ended(
        group,
        [
            (name, {"says": document.get("report")}, code, error)
            for name, document, code, error in (item.shown for item in ended)
        ],
        groups.worst(ended),
    )


def _together(**asked: object) -> None:
    """Refuse two things at once."""
    given = [f"--{name}" for name, value in asked.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} do not go together.", todo="Ask for one after the other.")
