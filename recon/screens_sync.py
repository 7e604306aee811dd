"""What the command line shows of mirrors: how a run went, scope by scope, and how the last ones did."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from recon.mirror import log
from recon.mirror.lookups import AWAITS, CANCELLED, HELD_BACK
from recon.mirror.parts import Part, Synced
from recon.screens import console, table

SHOWN = 10  # messages and orphans of one scope; --json gives more
_COLOURS = {log.SUCCESS: "green", log.PARTIAL: "yellow", log.FAILED: "red"}
_COUNTS = ("fetched", "created", "updated", "orphaned", "cancelled", "held back", "jobs dropped", "errors")


def synced(done: Synced, executed: bool, again: str = "") -> None:
    """One run: a line of counts for each scope, what waits for whom, and what went wrong in whose words.

    Args:
        done: the run.
        executed: whether it could write.
        again: the options by which the same is asked for once more.
    """
    dry = "" if executed else ", a dry run: counts are what would be"
    console.print(f"[{_COLOURS[done.status]}]{done.status}[/] · {escape(done.reconciliation)} · run {done.id}{dry}")
    rows = [[part.scope, *(f"{count:,}" for count in _counts(part))] for part in done.parts]
    empty = [
        number
        for number, name in enumerate(_COUNTS, 1)
        if name in ("held back", "jobs dropped") and not any(row[number] != "0" for row in rows)
    ]
    headings = [name for number, name in enumerate(("scope", *_COUNTS)) if number not in empty]
    shown = [[cell for number, cell in enumerate(row) if number not in empty] for row in rows]
    table(headings, shown, right="".join(map(str, range(1, len(headings)))))
    for part in done.parts:
        _of(part)
    if not executed and any(part.created or part.updated or part.orphaned for part in done.parts):
        if any(part.orphaned for part in done.parts):
            console.print("What is orphaned was not looked up: before it is cancelled, the source is asked for each.")
        console.print(f"To write: recon sync {escape(done.reconciliation + again)} --execute", soft_wrap=True)


def _counts(part: Part) -> list[int]:
    counts = part.counts
    return [
        counts["fetched"], counts["created"], counts["updated"], counts["orphaned"], part.cancelled, part.held_back,
        counts["deleted"], counts["errors"],
    ]  # fmt: skip


def _of(part: Part) -> None:
    """What a person should know of a scope beside its counts."""
    lines: list[str] = []
    if part.failed:
        lines.append(f"[red]failed:[/] {escape(part.failed)}")
    if part.awaits:
        lines.append(f"[yellow]waits:[/] {escape(part.awaits)}")
        lines.append(f"Next: a reviewer runs `recon review {part.plan}`.")
    if part.held_back:
        lines.append(f"[yellow]held back:[/] {part.held_back:,} orphans were left as they are, for a person to look at")
    for error in part.errors[:SHOWN]:
        who = f"{_record(error['record'], part.scope)}: " if error["record"] else ""
        lines.append(f"[yellow]![/] {escape(who + error['error'])}")
    if part.error_count > SHOWN:
        lines.append(f"{SHOWN:,} of {part.error_count:,} errors. More: --json")
    gone = [told for told in part.suspects if told["said"] in (CANCELLED, HELD_BACK, AWAITS)]
    for told in gone[:SHOWN]:
        lines.append(f"gone there: {escape(' '.join(told['identity'].values()) or told['key'])} ({told['said']})")
    if len(gone) > SHOWN:
        lines.append(f"{SHOWN:,} of {len(gone):,} that are gone. More: --json")
    if lines:
        console.print(f"\n[bold]{escape(part.scope)}[/]")
        for line in lines:
            console.print(f"  {line}", soft_wrap=True)


def _record(key: str, scope: str) -> str:
    """A record's key as people read it under the heading of its scope."""
    try:
        parts = json.loads(key)
    except ValueError:
        return key
    return " ".join(str(part) for part in parts if part != scope) if isinstance(parts, list) else key


def runs(document: Mapping[str, Any]) -> None:
    """The last runs of a mirror, what it does now, and when it runs next."""
    entry, following = document["schedule"], document["next"]
    plan = f"{entry}; next {following:%Y-%m-%d %H:%M} UTC" if entry else "no schedule"
    console.print(f"{document['reconciliation']}: {document['now']} · {plan}", markup=False, soft_wrap=True)
    if not document["runs"]:
        console.print(f"No runs yet. Start with `recon sync {document['reconciliation']}`.", markup=False)
        return
    table(
        ["run", "began (UTC)", "took", "status", "cause", *log.COUNTS, "about"],
        [_row(run) for run in document["runs"]],
        right="256789",
    )


def _row(run: Mapping[str, Any]) -> Sequence[object]:
    stats = run["stats"] or {}
    took = None if run["duration_ms"] is None else f"{run['duration_ms'] / 1000:,.1f} s"
    about = "; ".join(filter(None, [run["scope"] and f"only {run['scope']}", run["error"]]))
    began = run["started_at"] or run["created_at"]
    counts = ["–" if stats.get(name) is None else f"{stats[name]:,}" for name in log.COUNTS]
    return [run["id"], f"{began:%Y-%m-%d %H:%M:%S}", took, run["status"], run["cause"], *counts, about]
