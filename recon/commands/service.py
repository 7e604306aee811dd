"""The command that works in the background: what schedules ask for."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated

import typer

from recon.commands.shared import DONE, FAILED, AsJson, Folder, Url, find_workspace, note, open_database, say


def worker(
    once: Annotated[bool, typer.Option("--once", help="Do what is due now, and end: for cron.")] = False,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Do what schedules.yaml says, when it says so. One line per job on stderr; with --json one document per line."""
    import sys

    from recon.service import worker as service

    place = find_workspace(workspace)
    opened = open_database(place, database)

    def log(text: str, document: dict[str, object]) -> None:
        if as_json:
            say(json.dumps(document, ensure_ascii=False))
            sys.stdout.flush()
        else:
            note(f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S} {text}")

    failed = service.work(opened, place, log, once=once)
    raise typer.Exit(FAILED if once and failed else DONE)
