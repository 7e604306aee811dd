"""Which columns of a side the rules read, and what for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlglot import exp

from recon import expressions
from recon.matching.bound import Bound
from recon.names import Side

ON, WITHIN, WHEN, PREFER, COMPARE, LINK = "on", "within", "when", "prefer", "compare", "link"


def read_columns(bound: Bound, side: Side) -> dict[str, tuple[str, ...]]:
    """The columns of one side that `on`, `within`, `when`, `prefer`, `compare` and `link` read, with those uses.

    In the order of the passes; a use is written like "on (pass by_code)", and `compare` and `link` stand alone.
    """
    uses: dict[str, dict[str, None]] = {}

    def read(names: Iterable[str], use: str) -> None:
        for name in names:
            uses.setdefault(name, {})[use] = None

    for rule in bound.passes:
        where = f"(pass {rule.name})"
        read(_named((*rule.targets, *rule.sources), side), f"{ON} {where}")
        read(_within(bound, rule.rule.within, side), f"{WITHIN} {where}")
        read(_named((*rule.when_target, *rule.when_source, *rule.when_both), side), f"{WHEN} {where}")
        read(_named([term.tree for term in rule.prefer], side), f"{PREFER} {where}")
    for name, compared in bound.spec.compare.items():
        if side == "t":
            read([expressions.resolve_name(name, bound.target.columns, bound.target.label)], COMPARE)
        else:
            # A source expression, alone or with its tolerance.
            text: Any = getattr(compared, "source", compared)
            read(bound.columns([expressions.parse(text, "s")], "s"), COMPARE)
    if bound.spec.link is not None and side == "t":
        read([bound.spec.link.column], LINK)
    return {name: tuple(found) for name, found in uses.items()}


def _named(trees: Sequence[exp.Expr], side: Side) -> list[str]:
    found: list[str] = []
    for tree in trees:
        found += [node.name for node in exp.Paren(this=tree.copy()).find_all(exp.Column) if node.table == side]
    return found


def _within(bound: Bound, within: Any, side: Side) -> list[str]:
    windows = within if isinstance(within, (list, tuple)) else [within] if within is not None else []
    texts = [window.target if side == "t" else window.source for window in windows]
    return bound.columns([expressions.parse(text, side) for text in texts], side)
