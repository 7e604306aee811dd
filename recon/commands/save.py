"""The command that gives people their target back as a file, with the links in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recon.commands.shared import AsJson, Folder, Name, Url, answer, find_workspace, open_database


def save(
    name: Name,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="A file: .csv, .parquet or .xlsx; default: reports/NAME.csv.", show_default=False),
    ] = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Write the target's records as they are now to a file: the linked table of people whose target is a file.

    A file that a spec reads is never written over. Private columns are veiled.
    """
    from recon import workflow
    from recon.progress import spinner

    place = find_workspace(workspace)
    place.spec(name)
    opened = open_database(place, database)
    with spinner(f"Saving {name}"):
        saved = workflow.save(opened, place, name, to)
    linked = "" if saved.linked is None else f", {saved.linked:,} of them linked,"
    said = f"Saved {saved.records:,} record{'' if saved.records == 1 else 's'}{linked} to {saved.file}."
    if saved.veiled:
        said += f" Veiled: {', '.join(saved.veiled)}; so it is for reading, not for loading."
    answer(saved.as_dict(), as_json, said)
