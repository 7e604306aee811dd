"""What the command line shows of the audit log: what was checked, what is wrong, and the head to note elsewhere."""

from __future__ import annotations

from typing import Any

from rich.markup import escape

from recon.backfill.replay import Audit
from recon.screens import console, table


def audited(result: Audit) -> None:
    table(["checked", "how many"], [[name, f"{count:,}"] for name, count in result.checked.items()], right="1")
    if result.history:
        console.print()
        rows = [[row["entry"], f"{row['at']}"[:19], row["actor"], _event(row), _detail(row)] for row in result.history]
        table(["entry", "at (UTC)", "who", "what", ""], rows, f"Plan {result.plan}", right="0")
    if result.findings:
        console.print()
        rows = [[item.entry, item.plan, item.kind, item.says] for item in result.findings]
        many = "s" if result.finding_count != 1 else ""
        table(["entry", "plan", "what", "says"], rows, f"{result.finding_count:,} thing{many} wrong", right="0")
        if result.finding_count > len(rows):
            console.print(f"{len(rows):,} of {result.finding_count:,}, the first ones.")
    console.print()
    if result.whole:
        console.print("[green]✓[/] The chain is whole, and what stands agrees with it.")
    else:
        console.print("[red]✗ The audit log is not whole, or what stands does not agree with it.[/]")
    if result.expected and not any(item.kind == "rewritten" for item in result.findings):
        console.print("The expected hash is in the chain.")
    if result.head_hash is not None:
        console.print(f"Head    entry {result.head_entry}, {escape(result.head_hash)}", soft_wrap=True)
        console.print(
            "        Note it somewhere else: `recon audit --expect HASH` then shows a log that was rewritten."
        )


def _event(row: dict[str, Any]) -> str:
    if row["event"] != "move":
        return str(row["event"])
    return f"{row['from_state']} → {row['to_state']}" if row["from_state"] else str(row["to_state"])


def _detail(row: dict[str, Any]) -> str:
    return " · ".join(f"{name} {value}" for name, value in row["detail"].items())
