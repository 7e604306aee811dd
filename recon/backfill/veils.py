"""What people may see of a plan: which of its written columns hold private values.

plan.json names the columns that were private when the plan was made, so that what a reviewer saw is part of what is
signed. The values themselves stand in changes.csv and in the staged rows, for they are what is signed and run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from recon.backfill.change import Change, Value
from recon.errors import VEIL, ReconError
from recon.matching import privacy
from recon.spec import Reconciliation
from recon.workspace import Workspace

PRIVATE = "private"  # in plan.json; not there where nothing was private


@dataclass(frozen=True)
class Veils:
    """Which columns of a plan are veiled, and whether its interpretations are.

    Interpretations are staged with veils, whoever made the plan, so they need no other unless the spec marked further
    columns since.
    """

    columns: frozenset[str] = frozenset()
    interpretation: bool = False

    def value(self, column: str, value: Any) -> Any:
        """A value of a written column as people may see it; that there is none is no value."""
        return VEIL if value is not None and column in self.columns else value

    def said(self, interpretation: str | None) -> str | None:
        return VEIL if self.interpretation and interpretation is not None else interpretation


def document(change: Change) -> dict[str, Any] | None:
    """What plan.json says of private columns; None where the spec marks none."""
    spec = change.bound.spec
    if not spec.has_private:
        return None
    return {"target": list(spec.target.private), "source": list(spec.source.private), "columns": _columns(change)}


def _columns(change: Change) -> list[str]:
    """The written columns that hold a private value before or after, or take one only where a private value says so."""
    private = {name for side, name in change.bound.private if side == "t"}

    def reads(value: Value) -> bool:
        trees = [value.tree, *([value.when] if value.when is not None else [])]
        return privacy.hidden(change.bound, *trees)

    values: Sequence[Value] = (*change.pairs, *change.sets, *change.inserts)
    kept = {change.bound.spec.link.column} if change.bound.spec.link else set[str]()
    found = (private | {value.column for value in values if reads(value)}) - kept
    return [name for name in change.columns if name in found]


def of(plan: dict[str, Any], spec: Reconciliation | None = None) -> Veils:
    """The veils of a plan for somebody who may not see what is private.

    Args:
        plan: plan.json.
        spec: as it is now. Where it marks columns that it did not when the plan was made, every value of the plan is
            veiled but the link: what went into them then is not known any more.
    """
    marked = plan.get(PRIVATE) or {"target": [], "source": [], "columns": []}
    veiled = frozenset[str](marked["columns"])
    if spec is None or (
        set(spec.target.private) <= {*marked["target"]} and set(spec.source.private) <= {*marked["source"]}
    ):
        return Veils(veiled)
    link = {spec.link.column} if spec.link else set[str]()
    return Veils(veiled | (frozenset[str](plan["target"]["columns"]) - link), interpretation=True)


def for_all(workspace: Workspace, plan: dict[str, Any]) -> Veils:
    """The veils of what is kept and shown to everybody, such as the reason of a failure."""
    return of(plan, _spec(workspace, plan))


def for_viewer(workspace: Workspace, plan: dict[str, Any]) -> Veils:
    """The veils for the acting person; none for one who may see what is private, and asks for it."""
    return Veils() if workspace.sees_private else for_all(workspace, plan)


def for_draft(workspace: Workspace, change: Change) -> Veils:
    """The veils of what a plan of this change would hold, for the acting person."""
    private = None if workspace.sees_private else document(change)
    return Veils(frozenset[str](private["columns"])) if private else Veils()


def note(workspace: Workspace, plan: dict[str, Any]) -> str | None:
    """What must be said of a plan's private columns; None where it has none."""
    spec = _spec(workspace, plan)
    if spec is not None and spec.has_private:
        return workspace.private_note(spec)
    return f"Private columns are veiled ({VEIL})." if plan.get(PRIVATE) and not workspace.sees_private else None


def _spec(workspace: Workspace, plan: dict[str, Any]) -> Reconciliation | None:
    """The spec of a plan as it is now; a plan outlives it."""
    try:
        return workspace.spec(plan["reconciliation"])
    except ReconError:
        return None
