"""Columns that a spec marks private: where people look, their values are veiled.

Only what is shown goes through here. Decisions and plans are made of the values themselves, and so are changes.csv and
the staged rows, which are what is signed and run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlglot import exp

from recon.errors import VEIL
from recon.matching.bound import Bound

__all__ = ["VEIL", "behind_veil", "evidence", "hidden", "hidden_changes", "veiled"]


def veiled(bound: Bound, tree: exp.Expr, *beside: exp.Expr) -> exp.Expr:
    """An expression over `t` and `s` as people may see it: itself, or the veil where it reads a private column.

    NULL stays NULL: that a value is absent is a reason by itself (`null_key`), and no value.

    Args:
        bound: the spec; `shows_private` says whether who looks may see all.
        tree: the expression.
        beside: what it is compared with. Both are veiled or none: where they agree, one value tells the other.
    """
    return behind_veil(tree) if hidden(bound, tree, *beside) else tree


def hidden(bound: Bound, *trees: exp.Expr) -> bool:
    """Whether some of these expressions reads a private column, and who looks may not see it."""
    if bound.shows_private or not bound.private:
        return False
    return any(
        (node.table, node.name) in bound.private
        for tree in trees
        for node in exp.Paren(this=tree.copy()).find_all(exp.Column)
    )


def behind_veil(tree: exp.Expr) -> exp.Expr:
    """The veil, as text, where an expression is not NULL."""
    absent = exp.Is(this=exp.paren(tree.copy()), expression=exp.Null())
    return exp.Case(ifs=[exp.If(this=absent, true=exp.Null())], default=exp.Literal.string(VEIL))


def hidden_changes(bound: Bound) -> list[str]:
    """The columns of `compare` of which neither value may be seen, as `evidence` names them."""
    return [item.name for item in bound.compared if hidden(bound, item.target, item.source)]


def evidence(bound: Bound, found: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The evidence of a decision as people may see it: compared values, and by how much a window was missed."""
    if found is None or bound.shows_private or not bound.private:
        return found
    shown = dict(found)
    if "changes" in shown:
        names = hidden_changes(bound)
        shown["changes"] = {
            name: _each(values) if name in names else values for name, values in shown["changes"].items()
        }
    if "details" in shown:
        windows = {
            rule.name: [item.text for item in rule.windows if hidden(bound, item.target, item.source)]
            for rule in bound.passes
        }
        shown["details"] = {
            name: _missed(said, windows.get(name, ())) if isinstance(said, dict) else said
            for name, said in shown["details"].items()
        }
    return shown


def _each(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: None if value is None else VEIL for name, value in values.items()}


def _missed(said: Mapping[str, Any], names: Any) -> dict[str, Any]:
    """The details of a pass without the distances of these windows."""
    missed = said.get("missed_by")
    if not isinstance(missed, dict):
        return dict(said)
    return {**said, "missed_by": {name: VEIL if name in names else value for name, value in missed.items()}}
