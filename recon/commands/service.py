"""The commands that work in the background: what schedules ask for, and what outside systems send."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from recon.commands.shared import (
    BREAKS_REMAIN,
    DONE,
    FAILED,
    AsJson,
    Folder,
    Name,
    Url,
    find_workspace,
    note,
    open_database,
    say,
    show,
)
from recon.errors import NoKey

if TYPE_CHECKING:
    from recon.workspace import Workspace

SHOWN_FAILED = 20  # of the jobs that failed


def worker(
    once: Annotated[bool, typer.Option("--once", help="Do what is due now, and end: for cron.")] = False,
    until_stdin_ends: Annotated[
        bool, typer.Option("--until-stdin-ends", hidden=True, help="End when stdin does: for whoever starts it.")
    ] = False,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Do what schedules.yaml says, when it says so, keep mirrors in step, and do what else is due: follow-ups and events.

    One line per job on stderr; with --json one document per line.
    """
    from recon import extras

    place = find_workspace(workspace)
    extras.need("service", "`recon worker`", "procrastinate", "croniter", "httpx2", "stamina")
    from recon.service import schedules, supervised
    from recon.service import worker as service

    if any(entry.do != "sync" for entry in schedules.of(place)):
        extras.need("notebooks", f"What {schedules.FILE} asks of the worker")
    opened = open_database(place, database)

    def log(text: str, document: dict[str, object]) -> None:
        _line(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ} {text}", document, as_json)

    until = supervised.until_stdin_ends if until_stdin_ends else None
    failed = service.work(opened, place, log, once=once, until=until)
    raise typer.Exit(FAILED if once and failed else DONE)


def _line(text: str, document: dict[str, object], as_json: bool) -> None:
    """One line of what goes on for long: words for people on stderr, or a document on stdout."""
    import sys

    if as_json:
        say(json.dumps(document, ensure_ascii=False))
        sys.stdout.flush()
    else:
        note(text)


def serve(
    host: Annotated[
        str, typer.Option(help="Whose requests are taken; the default: this machine's only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where; 0: any that is free.")] = 8484,
    with_worker: Annotated[
        bool, typer.Option("--with-worker", help="Run `recon worker` too, for as long as this runs.")
    ] = False,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Answer requests over HTTP and take what outside systems send, until SIGTERM or Ctrl-C. One line per request on stderr."""
    import sys

    from recon import extras

    place = find_workspace(workspace)
    extras.need("service", "`recon serve`")
    opened = replace(open_database(place, database), pooled=True)
    from recon.backfill.standing import environment_of
    from recon.service import app as service
    from recon.service import logs, schedules, tokens

    locked: NoKey | None = None
    try:
        tokens.trust(place.variables)
    except NoKey as error:  # webhooks are taken without one
        locked = error
    logs.to(sys.stderr)

    here = environment_of(place, opened)
    if with_worker:
        schedules.in_force(place)  # said here, once, and not by a worker that is started again and again

    with ExitStack() as beside:

        def tell(address: str) -> None:
            document: dict[str, object] = {
                "event": "serving", "address": address, "environment": here, "workspace": str(place.root),
            }  # fmt: skip
            text = f"recon serves {address} (environment {here}). Ctrl-C ends it; `recon webhooks` tells what came."
            _line(text, document, as_json)
            if locked:
                note(f"{locked} Webhooks are taken all the same; requests that need a token are answered 503.")
            if with_worker:
                beside.enter_context(_worker_of(place, database, as_json))

        service.serve(service.application(place, opened), host, port, tell)


def _worker_of(place: Workspace, database: str | None, as_json: bool) -> AbstractContextManager[None]:
    """A worker on the same workspace and database."""
    import os

    from recon.service import supervised

    arguments = ["--workspace", str(place.root), *(["--json"] if as_json else [])]
    environment = dict(os.environ)
    if database == "demo":
        arguments += ["--database", database]
    elif database is not None:  # it may hold a password, which no list of processes may show
        environment["RECON_DATABASE_URL"] = database

    def tell(text: str) -> None:
        _line(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%SZ} {text}", {"event": "worker", "says": text}, as_json)

    return supervised.worker(arguments, environment, tell)


def token(
    sub: Annotated[str, typer.Option(help="Who it is for: the name of a person.")],
    role: Annotated[list[str], typer.Option(help="viewer, operator, reviewer or admin; may be given again.")],
    organization: Annotated[
        list[str], typer.Option(help="The id of an organisation, or * for all; may be given again.")
    ],
    hours: Annotated[float, typer.Option(min=0.01, max=24 * 31, help="How long it is valid.")] = 8,
    as_json: AsJson = False,
    workspace: Folder = None,
) -> None:
    """Make a token for `recon serve`, signed with RECON_JWT_SECRET: for first steps. Whoever has it is that person there."""
    from datetime import UTC

    from recon import extras
    from recon.service import tokens

    place = find_workspace(workspace)
    extras.need("service", "`recon token`", "jwt")
    made = tokens.make(place.variables, sub, role, organization, hours, datetime.now(UTC))
    if not show({"token": made}, as_json):
        say(made)


def webhooks(as_json: AsJson = False, workspace: Folder = None, database: Url = None) -> None:
    """How the webhooks stand: enabled or not and why, what came and when, and why nothing was done. Ends with 3 where events wait or failed."""
    from recon.service import inbox, origins
    from recon.systems import webhooks as known

    place = find_workspace(workspace)
    found = origins.status(open_database(place, database), place, known())
    if not show({"webhooks": found}, as_json):
        from recon import screens_service

        screens_service.webhooks(found)
    left = sum(item["counts"][state] for item in found for state in (inbox.PENDING, inbox.FAILED))
    raise typer.Exit(BREAKS_REMAIN if left else DONE)


def follow_ups(
    name: Name,
    again: Annotated[bool, typer.Option("--again", help="Have what failed for good tried again.")] = False,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """How the jobs of a reconciliation's records stand, and what the failed ones said. Ends with 3 where some are overdue or failed."""
    from recon.mirror import follow_ups_kept as kept

    place = find_workspace(workspace)
    spec = place.spec(name)
    opened = open_database(place, database)
    tried = kept.again(opened, spec.name) if again else 0
    jobs = kept.statistics(opened, spec, datetime.now(UTC))
    failed = kept.failed(opened, spec.name, limit=SHOWN_FAILED)
    if not show({"reconciliation": spec.name, "tried_again": tried, "jobs": jobs, "failed": failed}, as_json):
        from recon import screens_service

        screens_service.follow_ups(spec.name, jobs, failed, tried if again else None)
    left = sum(counts["overdue"] + counts["failed"] for counts in jobs.values())
    raise typer.Exit(BREAKS_REMAIN if left else DONE)
