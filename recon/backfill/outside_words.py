"""An outside system in sentences, for every screen and page: what is written there, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def written(outside: Mapping[str, Any]) -> str:
    """What a plan writes outside, from plan.json.

    >>> written({"system": "shop", "object": "payments", "place": "https://shop.test", "fields": {"a": "A"}, "rows": 2})
    'shop payments at https://shop.test: A, 2 rows; before the table'
    """
    rows = "1 row" if outside["rows"] == 1 else f"{outside['rows']:,} rows"
    names = ", ".join(outside["fields"].values()) or "nothing"
    return f"{place(outside)}: {names}, {rows}; before the table"


def place(outside: Mapping[str, Any]) -> str:
    """The system, what records are called there, and where it is."""
    return f"{outside['system']} {outside['object']} at {outside['place']}"


def became(outside: Mapping[str, Any], *, executed: bool) -> str:
    """What became of the records outside, or would."""
    sent = "sent" if executed else f"to be sent of {outside['read']:,} that were read"
    parts = [f"{outside['sent']:,} {sent}", f"{outside['already']:,} held it already"]
    if outside["left"]:
        parts.append(f"{outside['left']:,} left as they are")
    if outside.get("ahead"):
        parts.append(f"{outside['ahead']:,} ahead of their rows, which changed in the meantime")
    return f"{place(outside)}: {', '.join(parts)}"


def reasons(outside: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The records that were left, and why."""
    rows = [*outside.get("errors", ()), *outside.get("drifted", ()), *outside.get("conflicts", ())]
    return [(row["record"], row["message"]) for row in rows]
