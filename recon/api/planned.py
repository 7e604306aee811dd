"""What a plan's bundle holds, for a notebook: its rows under the veils of who looks, and its scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recon.backfill import bundle, contents, veils
from recon.backfill.change import Shape
from recon.backfill.plan import Plan
from recon.errors import VEIL, NotFound
from recon.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd


def frame(workspace: Workspace, plan: Plan, rows: int | None = None) -> pd.DataFrame:
    """The rows that a plan changes, before and after; all text, as the bundle has them.

    Args:
        workspace: says whether the acting person sees private columns; else they are veiled.
        plan: the plan.
        rows: at most this many; None: all.
    """
    import pandas as pd

    seen, shape = veils.for_viewer(workspace, plan.document), Shape.of_document(plan.document)
    found = pd.read_csv(plan.bundle / bundle.CHANGES, dtype=str, nrows=rows)
    # By place: the heading of a column's image may be that of another column's key.
    first = 1 + len(shape.keys) + len(shape.source_keys)
    images = range(2 * len(shape.columns))
    hidden = [first + number for number in images if shape.columns[number // 2] in seen.columns]
    if seen.interpretation:
        hidden.append(shape.csv_heading.index("interpretation"))
    for place in hidden:
        found.isetitem(place, found.iloc[:, place].map(_veil, na_action="ignore"))
    return found


def _veil(_: object) -> str:
    return VEIL


def script(plan: Plan, name: str) -> str:
    """The text of a script of a plan's bundle. Raises NotFound where a bundle has none of this name."""
    if name not in contents.READING_ORDER:
        raise NotFound(f"A bundle has no script {name}.", todo=f"There are: {', '.join(contents.READING_ORDER)}.")
    return (plan.bundle / name).read_text(encoding="utf-8")
