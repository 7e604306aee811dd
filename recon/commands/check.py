"""The command that looks before any work is done."""

from __future__ import annotations

import typer

from recon.commands.shared import (
    BREAKS_REMAIN,
    DONE,
    AsJson,
    Folder,
    Name,
    Url,
    find_workspace,
    open_database,
    say_private,
    show,
)
from recon.errors import TooManyPairs
from recon.progress import spinner


def check(name: Name, as_json: AsJson = False, workspace: Folder = None, database: Url = None) -> None:
    """Look at connection, spec, records and candidate pairs before any work. Writes nothing."""
    from recon.matching import check as checking

    place = find_workspace(workspace)
    spec = place.spec(name)
    opened = open_database(place, database)
    with spinner(f"Checking {name}") as tell:
        result = checking.check(opened, spec, tell, shows_private=place.sees_private)
    if not show(result.as_dict(), as_json):
        from recon import screens_check

        screens_check.checked(result)
        say_private(place.private_note(spec))
    raise typer.Exit(TooManyPairs.exit_code if result.refused else DONE if result.clean else BREAKS_REMAIN)
