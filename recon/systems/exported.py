"""A plan's changes in an outside system, in the words of that system: what other tools are given."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from recon.backfill.export import Exported
from recon.errors import UsageError

LINES, REQUESTS = "jsonl", "requests"


def known(form: str) -> None:
    """Raises UsageError where there is no such format."""
    if form not in (LINES, REQUESTS):
        raise UsageError(f"There is no format {form}.", todo=f"Use --format {LINES} or --format {REQUESTS}.")


def documents(found: Exported, form: str = LINES) -> Iterator[dict[str, Any]]:
    """A document for each record (`jsonl`), or for each request of a batch update (`requests`).

    Raises:
        UsageError: there is no such format, or the system has no such requests.
    """
    from recon.systems.crm import hubspot

    known(form)
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
