"""The command that keeps a mirror in step with its source, and shows how it went before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from recon.commands import schedule as schedules
from recon.commands.schedule import Cron, Zone
from recon.commands.shared import (
    BREAKS_REMAIN,
    DONE,
    FAILED,
    AsJson,
    Execute,
    Folder,
    Name,
    Url,
    find_workspace,
    open_database,
    show,
)
from recon.errors import UsageError
from recon.progress import spinner

if TYPE_CHECKING:
    from recon.database.connect import Database
    from recon.mirror.parts import Wish
    from recon.workspace import Workspace


def sync(
    name: Name,
    execute: Execute = False,
    scope: Annotated[
        list[str] | None, typer.Option(help="Only this scope, such as an organization's id; may be given again.")
    ] = None,
    no_orphans: Annotated[
        bool, typer.Option("--no-orphans", help="Tell what the source no longer has, and leave it as it is.")
    ] = False,
    runs: Annotated[bool, typer.Option("--runs", help="Show the last runs and when the next one is, and end.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="With --runs: how many at most.")] = 20,
    schedule: Cron = None,
    zone: Zone = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Keep a mirror in step with its source: fetch what changed, decide, and write what is signed for, scope by scope.

    Without --execute it is a dry run: it fetches and decides, and writes no record of yours. Ends with 3 where something is
    left for a person, with 1 where nothing could be done.
    """
    asked = {"execute": execute, "scope": scope, "no_orphans": no_orphans, "runs": runs}
    schedules.only(schedule, zone, **asked)
    if runs and (execute or no_orphans or len(scope or ()) > 1):
        raise UsageError("--runs only shows.", todo="Give it alone, or with one --scope.")
    place = find_workspace(workspace)
    from recon import extras

    extras.need("service", "`recon sync`", "httpx2", "stamina", "croniter")
    from recon.mirror import sync as mirror

    mirror.mirror_of(place, name)
    if schedule is not None:
        schedules.write(place, "sync", name, schedule, zone, as_json)
        return
    opened = open_database(place, database)
    if runs:
        _runs(opened, place, name, scope[0] if scope else None, limit, as_json)
        return
    wish = mirror.Wish(scopes=list(dict.fromkeys(scope)) if scope else None, execute=execute, cancels=not no_orphans)
    raise typer.Exit(_sync(opened, place, name, wish, as_json))


def _sync(database: Database, place: Workspace, name: str, wish: Wish, as_json: bool) -> int:
    from recon.mirror import log
    from recon.mirror import sync as mirror

    with spinner(f"Keeping {name} in step") as step:
        done = mirror.sync(database, place, name, wish, progress=lambda scope: step(f"{name}: {scope}"))
    if not show({**done.as_dict(), "executed": wish.execute}, as_json):
        from recon import screens_sync

        again = "".join(f" --scope {scope}" for scope in wish.scopes or ()) + ("" if wish.cancels else " --no-orphans")
        screens_sync.synced(done, wish.execute, again)
    return {log.SUCCESS: DONE, log.PARTIAL: BREAKS_REMAIN}.get(done.status, FAILED)


def _runs(database: Database, place: Workspace, name: str, scope: str | None, limit: int, as_json: bool) -> None:
    from recon.mirror import log
    from recon.service import schedules as times

    found = log.listed(database, name, scope, limit=limit)
    entry = times.entry_of(place, name)
    document = {
        "reconciliation": name,
        "now": log.current(database, name),
        "schedule": times.spelled(entry) if entry else None,
        "next": times.next_of(place, name),
        "runs": found,
    }
    if not show(document, as_json):
        from recon import screens_sync

        screens_sync.runs(document)
