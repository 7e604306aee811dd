"""The command that gives a plan's changes to other tools: as lines, or as the requests that HubSpot takes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.commands.shared import (
    AsJson,
    Folder,
    PlanName,
    Url,
    answer,
    find_workspace,
    note,
    open_database,
    print_json,
    written,
)
from recon.errors import UsageError

if TYPE_CHECKING:
    from recon.backfill.export import Exported

LINES, REQUESTS = "jsonl", "requests"
UNSIGNED = ("planned", "rejected", "superseded", "expired", "stale")  # states of a plan that no sign-off stands behind


def export(
    plan: PlanName,
    form: Annotated[
        str, typer.Option("--format", help="jsonl: a line for each record; requests: HubSpot's batch updates.")
    ] = LINES,
    output: Annotated[Path | None, typer.Option(help="A file; default: stdout.", show_default=False)] = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """What a plan changes in an outside system, for other tools: each record's id there and the properties that differ.

    It shows and sends nothing: `recon apply` sends, once the plan is approved.
    """
    from recon.backfill import export as exporting

    if form not in (LINES, REQUESTS):
        raise UsageError(f"There is no format {form}.", todo=f"Use --format {LINES} or --format {REQUESTS}.")
    place = find_workspace(workspace)
    found = exporting.of(open_database(place, database), place, plan)
    documents, told = _Counted(_documents(found, form)), {"plan": plan, "state": found.plan.state, "format": form}
    told |= {"system": found.system, "object": found.object}
    if output is not None:
        with written(output, "--output") as half, half.open("w", encoding="ascii", newline="\n") as file:
            file.writelines(_line(document) for document in documents)
        said = f"Wrote {_records(documents.records)} in {documents.count:,} {_unit(form, documents.count)} to {output}."
        told |= {"records": documents.records, "file": str(output)}
        answer(told, as_json, f"{said} {_state(found)}")
    elif as_json:
        listed = list(documents)
        print_json({**told, "records": documents.records, "documents": listed})
    else:
        for document in documents:
            sys.stdout.write(_line(document))
        note(f"{_records(documents.records)}. {_state(found)}")


def _documents(found: Exported, form: str) -> Iterator[dict[str, Any]]:
    """A document for each record, or for each request. Raises UsageError where a system has no such requests."""
    from recon.systems.crm import hubspot

    of_hubspot = found.system == hubspot.SYSTEM
    if form == REQUESTS and not of_hubspot:
        raise UsageError(
            f"{found.system} has no batch updates that recon writes to a file.",
            why=f"They are of {hubspot.SYSTEM}.",
            todo=f"Use --format {LINES}.",
        )
    records = (
        hubspot.changes(edit.record, edit.after, {})
        if of_hubspot
        else {"id": edit.record, "properties": dict(edit.after)}
        for edit in found.edits()
    )
    if form == LINES:
        yield from records
        return
    while inputs := list(islice(records, hubspot.MOST)):
        yield {"inputs": inputs}


class _Counted:
    """Documents, counted as they pass by."""

    def __init__(self, documents: Iterable[dict[str, Any]]) -> None:
        self._documents = documents
        self.count = self.records = 0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for document in self._documents:
            self.count += 1
            self.records += len(document.get("inputs", (document,)))
            yield document


def _line(document: dict[str, Any]) -> str:
    """A document as one line. All but ASCII is escaped: some readers take other characters for the end of a line."""
    return f"{json.dumps(document)}\n"


def _records(count: int) -> str:
    return f"{count:,} record{'' if count == 1 else 's'}"


def _unit(form: str, count: int) -> str:
    return ("request" if form == REQUESTS else "line") + ("" if count == 1 else "s")


def _state(found: Exported) -> str:
    """What must be known of a plan whose changes leave the house."""
    waits = " and may not be sent as it is" if found.plan.state in UNSIGNED else ""
    return f"Plan {found.plan.plan} is {found.plan.state}{waits}."
