"""What the command line shows of a group: a line for each of its reconciliations, after each was told by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from recon.matching.coverage import percent
from recon.screens import console, table

# name, what it gave, exit code, what went wrong
Member = tuple[str, Mapping[str, Any], int, str | None]
_COUNTED = ("total", "matched", "unmatched", "proposed", "ambiguous", "excluded", "errors")
_CODES = {0: "done", 1: "failed", 2: "wrong usage or spec", 3: "breaks remain", 4: "refused"}


def heading(name: str) -> None:
    """Which reconciliation comes now."""
    console.print(f"\n[bold]── {escape(name)}[/]")


def statistics(group: str, members: Sequence[Member], exit_code: int) -> None:
    """Statistics of each object (CRM-09); of one that failed its error.

    Args:
        group: its name.
        members: each with its `statistics` and `coverage`, its exit code, and its error.
        exit_code: of all.
    """
    counted = [name for name in _COUNTED if name != "excluded" or any(_count(item, name) for item in members)]
    rows = [
        [
            item[0],
            *(None if item[3] else f"{_count(item, name):,}" for name in counted),
            None if item[3] else percent(item[1].get("coverage")),
            _CODES[item[2]],
        ]
        for item in members
    ]
    console.print()
    table([group, *counted, "coverage", "ended"], rows, right="".join(map(str, range(1, len(counted) + 2))))
    _errors(members, exit_code)


def ended(group: str, members: Sequence[Member], exit_code: int) -> None:
    """How each ended, with one word about it."""
    console.print()
    table([group, "", "ended"], [[name, found.get("says"), _CODES[code]] for name, found, code, _ in members])
    _errors(members, exit_code)


def demos(document: Mapping[str, Any], exit_code: int, where: str) -> None:
    """The end of a group's demo: what each object became, and where one reads of it.

    Args:
        where: the options by which other commands find the demo.
    """
    rows: list[list[object]] = []
    for item in document["members"]:
        counts = item.get("statistics", {})
        rows.append(
            [
                item["reconciliation"], f"{item['total']:,}", f"{item['linked_after']:,}",
                f"{item['same_before']:,} → {item['same_after']:,}" if "same_after" in item else None,
                *(f"{counts[name]:,}" if name in counts else None for name in ("unmatched", "proposed", "ambiguous")),
                percent(item["coverage_after"]), "yes" if item["verified"] else "NO",
            ]
        )  # fmt: skip
    headings = ["total", "matched", "agree", "unmatched", "proposed", "ambiguous", "coverage", "verified"]
    console.print()
    table([document["group"], *headings], rows, right="1234567")
    for item in document["members"]:
        console.print(f"Report  {escape(item['report'])}", soft_wrap=True)
    first = document["members"][0]["reconciliation"]
    console.print(
        escape(f"Look closer: recon notebook explore {first} {where} · recon decisions {first} {where} · recon list"),
        soft_wrap=True,
    )
    if exit_code:
        console.print(f"[yellow]Ended with {exit_code}: {_CODES[exit_code]}.[/]")


def _count(member: Member, name: str) -> int:
    return int(member[1].get("statistics", {}).get(name, 0))


def _errors(members: Sequence[Member], exit_code: int) -> None:
    for name, _, _, error in members:
        if error:
            console.print(f"[red]{escape(name)}: {escape(error)}[/]", soft_wrap=True)
    if exit_code:
        console.print(f"[yellow]Ended with {exit_code}: {_CODES[exit_code]}.[/]")
