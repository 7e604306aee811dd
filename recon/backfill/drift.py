"""Which planned rows are no longer as planned: the target's and the source's, row by row, by the signed dry_run.sql."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recon.backfill import scripts, veils
from recon.backfill.bundle import Bundle
from recon.backfill.change import Shape
from recon.backfill.executor import shown
from recon.backfill.plan import Plan
from recon.backfill.veils import Veils
from recon.database.connect import Session

SHOWN_ROWS = 20  # rows named; the count says how many there are


def listed(
    session: Session, bundle: Bundle, plan: Plan, seen: Veils | None = None, *, limit: int = SHOWN_ROWS
) -> list[dict[str, Any]]:
    """The first drifted rows in key order, so many of them, each with the count of all.

    Args:
        session: reads only.
        bundle: the signed one.
        plan: the plan.
        seen: what may not be seen of its values; None: what plan.json says is private.
        limit: how many rows are named.

    Returns:
        For each: `key`, `source`, `status` (a key of `scripts.DRIFTS`), `count`, and `columns`: what is to be written,
        with its value `before` when the plan was made, and `now`, where these differ, as people may see them.
    """
    shape = Shape.of_document(plan.document)
    seen = seen or veils.of(plan.document)
    found = session.records(
        f"SELECT count(*) OVER () AS found, drift.* FROM ({bundle.scripts['dry_run.sql']}) AS drift"  # noqa: S608 (signed)
        " WHERE status NOT IN ($1, $2) LIMIT $3::int",
        scripts.AS_PLANNED,
        scripts.APPLIED,
        limit,
    )
    return [
        {
            # A record to be inserted has no key yet; it is known by its source's.
            "key": shown(
                keys if (keys := [row[name] for name in shape.key_names])[0] is not None else _source(row, shape)
            ),
            "source": shown(_source(row, shape)) if row[shape.source_key_names[0]] is not None else None,
            "status": row["status"],
            "columns": {
                name: {side: seen.value(name, row[f"{side}_{n}"]) for side in ("before", "now")}
                for n, name in enumerate(shape.columns, 1)
                if row["status"] == "target changed" and row[f"before_{n}"] != row[f"now_{n}"]
            },
            "count": row["found"],
        }
        for row in found
    ]


def _source(row: dict[str, Any], shape: Shape) -> list[Any]:
    return [row[name] for name in shape.source_key_names]


def count(drifts: Sequence[dict[str, Any]]) -> int:
    """How many rows drifted, of which `listed` names the first."""
    return drifts[0]["count"] if drifts else 0


def explained(drift: dict[str, Any]) -> str:
    """Why a drifted row is left alone, for people: what became of it, and the values before and now."""
    values = [f"{name} was {_value(it['before'])}, is {_value(it['now'])}" for name, it in drift["columns"].items()]
    said = f" ({', '.join(values)})" if values else ""
    return f"{scripts.DRIFTS[drift['status']]}{said}"


def _value(value: object) -> str:
    return "empty" if value is None else str(value)
