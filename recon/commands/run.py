"""The command that goes the whole way, for schedules and for people."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from recon.commands import groups
from recon.commands.schedule import Cron, Zone, only, write
from recon.commands.shared import AsJson, Execute, Folder, NameOrGroup, Url, day, find_workspace, open_database
from recon.errors import UsageError
from recon.progress import bar


def run(
    name: NameOrGroup,
    execute: Execute = False,
    mode: Annotated[
        str | None, typer.Option(help="How far: match, plan, dry_run (the default) or execute.", metavar="MODE")
    ] = None,
    from_date: Annotated[str | None, typer.Option("--from", help="From this day, YYYY-MM-DD, inclusive.")] = None,
    to_date: Annotated[str | None, typer.Option("--to", help="To this day, YYYY-MM-DD, inclusive.")] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Decide at most this many unlinked records; of a group, of each object.")
    ] = None,
    plan: Annotated[str | None, typer.Option(help="Carry on with this plan; default: match, and plan.")] = None,
    schedule: Cron = None,
    zone: Zone = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """The whole way: check, match, plan, sign-off, apply, verify, and a page that tells it. Ends with 3 where a person is awaited.

    Without --execute it is a dry run. With it, a plan is applied only under a sign-off: a standing one, or the
    approval of the plan that waits. By a schedule it always writes.
    """
    from recon import extras, whole_way

    if execute and mode not in (None, "execute"):
        raise UsageError(f"--execute and --mode {mode} are two things.", todo="Give one of them.")
    place = find_workspace(workspace)
    only(schedule, zone, **{"from": from_date, "to": to_date, "limit": limit, "plan": plan, "mode": mode})
    if schedule is not None:
        if groups.is_group(place, name):
            raise UsageError(
                f"A schedule is of one reconciliation, and {name} is a group.",
                todo=f"Schedule each of {', '.join(place.members(name))}.",
            )
        write(place, "run", name, schedule, zone, as_json)
        return
    wish = whole_way.Wish(
        mode=mode or ("execute" if execute else "dry_run"),
        from_day=day(from_date, "--from") or "",
        to_day=day(to_date, "--to") or "",
        limit=limit or 0,
        plan=plan or "",
    )
    if groups.is_group(place, name) and wish.plan:
        raise UsageError(
            f"{name} is a group, and a plan is of one reconciliation.",
            todo=f"Name the plan's own: {', '.join(place.members(name))}.",
        )
    for member in place.members(name):  # what makes no sense for one is said before any is begun
        wish.check(place.spec(member))
    extras.need("notebooks", "`recon run`")
    opened = open_database(place, database)

    def one(name: str) -> tuple[dict[str, Any], int]:
        with bar(f"Running {name}", "cells") as progress:
            document = whole_way.run(opened, place, name, wish, progress=progress, tell=progress.step)
        if not as_json:
            from recon import screens_run

            screens_run.ran(document)
        return document, document["exit_code"]

    raise typer.Exit(groups.conduct(place, name, as_json, one, _close))


def _close(group: str, ended: list[groups.Ended]) -> None:
    from recon import screens_groups

    screens_groups.statistics(group, [item.shown for item in ended], groups.worst(ended))
