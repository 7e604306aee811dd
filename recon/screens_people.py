"""What the command line shows of people's part: their decisions, and the breaks that wait for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from recon.backfill.shipped import Shipped
from recon.backfill.standing import Standing
from recon.matching.overrides import said
from recon.screens import console, table


def decided(rows: Sequence[Mapping[str, Any]]) -> None:
    """Decisions that were just made."""
    for row in rows[:SHOWN]:
        console.print(f"Decided: {_sentence(row)}.", markup=False, soft_wrap=True)
    if len(rows) > SHOWN:
        console.print(f"… and {len(rows) - SHOWN:,} more.")


def overrides(name: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Every decision that stands."""
    if not rows:
        console.print(f"Nobody has decided anything about {name}: the rules decide all of it.", markup=False)
        return
    shown = [[_sentence(row), row["reason"], row["author"], f"{row['made_at']:%Y-%m-%d %H:%M}"] for row in rows]
    table(["decision", "why", "by", "made (UTC)"], shown, fold=True)


def breaks(name: str, rows: Sequence[Mapping[str, Any]], ageing: Mapping[str, int], total: int) -> None:
    """The first breaks, and how old all that are open are."""
    open_now = sum(ageing.values())
    if not open_now:
        console.print(f"{name} has no open breaks.", markup=False)
    if rows:
        shown = [
            [
                row["key"],
                row["side"],
                row["outcome"] + (f" ({row['reason']})" if row["reason"] else ""),
                f"{row['days']:,}",
                f"{row['first_seen']:%Y-%m-%d}",
                row["state"] + (f": {row['assignee']}" if row["assignee"] else ""),
            ]
            for row in rows
        ]
        table(["record", "side", "outcome", "days", "first seen", "state"], shown, right="3")
    elif open_now:
        console.print("None of the open breaks is among those asked for.")
    if total > len(rows):
        console.print(f"{len(rows):,} of {total:,} breaks, the oldest first. All of them: --json")
    if open_now:
        console.print("Open: " + " · ".join(f"{count:,} {age}" for age, count in ageing.items()))


def history(rows: Sequence[Mapping[str, Any]]) -> None:
    """What happened to breaks, in order."""
    shown = [
        [f"{row['at']:%Y-%m-%d %H:%M}", f"{row['side']} {row['key']}", row["event"], row["detail"], row["who"] or row["run"]]
        for row in rows
    ]  # fmt: skip
    table(["at (UTC)", "record", "what", "", "by"], shown)


SHOWN = 20  # decisions in words after a file


def _sentence(row: Mapping[str, Any]) -> str:
    return said(row["kind"], row["target_key"], row["source_key"])


def standing(name: str, found: Sequence[Standing], rules: str, ships: Shipped | None = None) -> None:
    """The standing sign-offs of a reconciliation.

    Args:
        name: the reconciliation.
        found: those that were given.
        rules: the digest of its spec today.
        ships: the one that ships with recon and may be given here by the first run that needs it.
    """
    if ships is not None:
        limits = f"{', '.join(ships.actions)}; {ships.rows:,} rows; {ships.environment}"
        console.print(
            f"One ships with recon ({limits}): the first run that needs it is given it, unless a person withdrew it.",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    if not found:
        others = "any other plan" if ships else "each plan"
        console.print(f"No standing sign-off was given: people approve {others} of {name}.", markup=False)
        return
    shown: list[list[object]] = []
    for item in found:
        document = item.document
        state = "holds"
        if item.withdrawn_at is not None:
            state = f"withdrawn by {item.withdrawn_by}: {item.withdrawn_reason}"
        elif item.expires <= datetime.now(UTC):
            state = "expired"
        elif document["spec_digest"] != rules:
            state = "void: the rules changed"
        limits = f"{', '.join(document['actions'])}; {document['caps']['rows']:,} rows; {document['environment']}"
        by = f"{item.given_by} ({'signed' if item.signature else 'by name'})"
        shown.append([item.id, by, limits, f"{item.expires:%Y-%m-%d %H:%M}", state])
    table(["standing sign-off", "given by", "covers", "until (UTC)", "state"], shown, fold=True)
