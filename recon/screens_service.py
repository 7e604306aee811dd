"""What the command line shows of what outside systems send."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recon.screens import console, table


def webhooks(rows: Sequence[Mapping[str, Any]]) -> None:
    """How each origin stands, and why nothing was done about its last events."""
    for row in rows:
        enabled = f"enabled in {row['environment']}" if row["enabled"] else row["why"]
        console.print(f"{row['origin']} ({row['reconciliation']}): {enabled}.", markup=False, soft_wrap=True)
        counts = " · ".join(f"{count:,} {state}" for state, count in row["counts"].items())
        console.print(f"{row['silence']}. {counts}.", markup=False, soft_wrap=True)
        if row["reasons"]:
            shown = [
                [f"{item['at']:%Y-%m-%d %H:%M:%S}", item["kind"] or "", item["state"], item["said"] or ""]
                for item in row["reasons"]
            ]
            table(["received (UTC)", "event", "state", "why nothing was done"], shown, fold=True)
    if not rows:
        console.print("No system here sends events.")
