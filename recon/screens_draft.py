"""The screen of a draft: its passes with their figures, and what to type next."""

from __future__ import annotations

import shlex
from pathlib import Path

from rich.table import Table

from recon.drafting import spec_text
from recon.screens import console, escape, percent
from recon.starting import Started


def drafted(started: Started, folder: Path) -> None:
    """Tell what was drafted.

    Args:
        started: what was made; it has a draft.
        folder: the workspace as it was named.
    """
    draft = started.draft
    assert draft is not None
    console.print(
        f"[bold]{escape(draft.target.label)}[/] ({draft.target.records:,} records, key"
        f" {escape(', '.join(draft.target_key))}) to [bold]{escape(draft.source.label)}[/] ({draft.source.records:,}"
        f" records, key {escape(draft.source_key)}), {draft.cardinality}, link {escape(draft.link)}",
        soft_wrap=True,
    )
    table = Table(box=None, pad_edge=False)
    for name, side in (
        ("pass", "left"),
        ("agrees in", "left"),
        ("precision", "right"),
        ("finds", "right"),
        ("", "left"),
    ):
        table.add_column(name, justify="right" if side == "right" else "left")
    for item in spec_text.passes(draft):
        agrees = [
            *item["on"],
            *(f"{window['target']} ({window['tolerance'].strip('{}')})" for window in item["within"]),
        ]
        about = "≈ " if draft.step > 1 else ""
        sure = "measured" if item["measured"] else "estimated"
        table.add_row(
            escape(item["name"]), escape(", ".join(agrees)), f"{percent(item['precision'])} {sure}", f"{about}{item['matched']:,}",
            "for review" if item["accept"] == "review" else "links",
        )  # fmt: skip
    console.print(table)
    url = "Set RECON_DATABASE_URL to the database first (it is written nowhere).\n" if started.from_database else ""
    console.print(
        f"Drafted {escape(str(started.spec))}: read its comments.\n{url}Next: cd {escape(shlex.quote(str(folder)))}, then "
        f"{escape(' · '.join(started.next_steps))}",
        soft_wrap=True,
    )
