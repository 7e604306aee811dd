"""What the command line shows of what outside systems send, and of the jobs of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from recon.screens import console, table


def webhooks(rows: Sequence[Mapping[str, Any]]) -> None:
    """How each origin stands, and why nothing was done about its last events."""
    for row in rows:
        enabled = f"enabled in {row['environment']}" if row["enabled"] else row["why"]
        console.print(f"{row['origin']} ({row['reconciliation']}): {enabled}.", markup=False, soft_wrap=True)
        counts = " · ".join(f"{count:,} {state}" for state, count in row["counts"].items())
        console.print(f"{row['silence']}. {counts}.", markup=False, soft_wrap=True)
        if row.get("scopes"):
            table(["organisation", "last event (UTC)", "", *row["counts"]], [_scope(item) for item in row["scopes"]])
        if row["reasons"]:
            shown = [
                [f"{item['at']:%Y-%m-%d %H:%M:%S}", item["kind"] or "", item["state"], item["said"] or ""]
                for item in row["reasons"]
            ]
            table(["received (UTC)", "event", "state", "why nothing was done"], shown, fold=True)
    if not rows:
        console.print("No system here sends events.")


def follow_ups(
    name: str, jobs: Mapping[str, Mapping[str, Any]], failed: Sequence[Mapping[str, Any]], again: int | None
) -> None:
    """How the jobs of a reconciliation's records stand, and what the failed ones said."""
    if again is not None:
        console.print(f"{again:,} that failed for good are tried again.")
    if not jobs:
        console.print(f"{name} has no follow-ups: its spec names none.", markup=False)
        return
    counted = ("waiting", "due", "overdue", "done", "failed", "dropped")
    rows = [[job, *[f"{counts[word]:,}" for word in counted], _moment(counts["next"])] for job, counts in jobs.items()]
    table(["job", *counted, "next (UTC)"], rows, right="123456")
    if failed:
        shown = [
            [row["job"], ", ".join(row["key"]), _moment(row["due_at"]), row["attempts"], row["said"] or ""]
            for row in failed
        ]
        table(["failed", "record", "due (UTC)", "attempts", "what it said"], shown, fold=True, right="3")


def _moment(at: object) -> str | None:
    """A moment to the minute; one that Python has no name for, as the server writes it."""
    return f"{at:%Y-%m-%d %H:%M}" if isinstance(at, datetime) else None if at is None else str(at)


def _scope(item: Mapping[str, Any]) -> list[str]:
    last = f"{item['last_event_at']:%Y-%m-%d %H:%M:%S}" if item["last_event_at"] else "never"
    return [item["scope"], last, "silent for too long" if item["alarm"] else "", *map(str, item["counts"].values())]
