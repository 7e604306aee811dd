"""The command that gives a plan's changes to other tools: as lines, or as the requests that HubSpot takes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
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
)
from recon.reports.whole import written

if TYPE_CHECKING:
    from recon.backfill.export import Exported

UNSIGNED = ("planned", "rejected", "superseded", "expired", "stale")  # states of a plan that no sign-off stands behind


def export(
    plan: PlanName,
    form: Annotated[
        str, typer.Option("--format", help="jsonl: a line for each record; requests: HubSpot's batch updates.")
    ] = "jsonl",
    output: Annotated[Path | None, typer.Option(help="A file; default: stdout.", show_default=False)] = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """What a plan changes in an outside system, for other tools: each record's id there and the properties that differ.

    It shows and sends nothing: `recon apply` sends, once the plan is approved.
    """
    from recon.backfill import export as exporting
    from recon.systems import exported

    exported.known(form)
    place = find_workspace(workspace)
    found = exporting.of(open_database(place, database), place, plan)
    documents = _Counted(exported.documents(found, form))
    told = {"plan": plan, "state": found.plan.state, "format": form, "system": found.system, "object": found.object}
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
    return ("request" if form == "requests" else "line") + ("" if count == 1 else "s")


def _state(found: Exported) -> str:
    """What must be known of a plan whose changes leave the house."""
    waits = " and may not be sent as it is" if found.plan.state in UNSIGNED else ""
    return f"Plan {found.plan.plan} is {found.plan.state}{waits}."
