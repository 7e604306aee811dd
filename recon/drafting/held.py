"""Links that a file holds already: a column of the target, empty in some rows, whose values are the source's keys."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2

from recon.database.connect import Session
from recon.drafting.comparisons import Comparison
from recon.drafting.reading import Looked
from recon.names import quote

LEAST_VALUES = 3  # different values, fewer of which are among the keys by accident
NEARLY_ALL = 0.995  # of a column's values, so many are keys of the source
AGREE, TOLD = (
    0.5,
    3.0,
)  # of the linked pairs that say something, those that agree in another column; and what that tells
_WHOLE = ("int2", "int4", "int8")


def columns(session: Session, target: Looked, source: Looked, keys: tuple[Sequence[str], str]) -> list[str]:
    """Columns of the target that may be its link, the fullest first.

    Args:
        keys: the target's, and the source's one column.
    """
    key = source.kind(keys[1])
    found: list[tuple[int, str]] = []
    for kind in target.kinds:
        filled = kind.filled - kind.blank
        if kind.name in keys[0] or filled == kind.records or kind.distinct < LEAST_VALUES:
            continue
        if kind.base != key.base and not {kind.base, key.base} <= {*_WHOLE}:
            continue
        column = quote(kind.name)
        value = f"nullif({column}, '')" if kind.base == "text" else column
        there = f"EXISTS (SELECT FROM {source.table} AS s WHERE s.{quote(keys[1])} = held.v)"
        known = session.value(
            f"SELECT count(*) FILTER (WHERE {there}) FROM (SELECT {value} AS v FROM {target.table}) AS held"  # noqa: S608
        )
        if known >= max(NEARLY_ALL * filled, LEAST_VALUES):
            found.append((filled, kind.name))
    return [name for _, name in sorted(found, key=lambda item: -item[0])]


def proven(session: Session, compared: Sequence[Comparison], key: str, links: str) -> bool:
    """Whether records that a column would link agree in something else than the key: numbers up to twelve are among any keys.

    Args:
        compared: columns that may hold the same, the link not among them.
        key: the source's column whose values would be links.
        links: the table of such pairs: t, s.
    """
    compared = [item for item in compared if item.source.column != key]
    if not compared:
        return False
    counts: list[str] = []
    for item in compared:
        t, s = f"t.a{item.target.number}", f"s.a{item.source.number}"
        counts += [f"count(*) FILTER (WHERE {t} = {s})", f"count(*) FILTER (WHERE {t} = {s} OR {t} <> {s})"]
    row = session.rows(
        f"SELECT {', '.join(counts)} FROM {links} AS held JOIN recon_draft_looks_t AS t ON t.rid = held.t"  # noqa: S608
        " JOIN recon_draft_looks_s AS s ON s.rid = held.s"
    )[0]
    return any(
        row[2 * place + 1] >= LEAST_VALUES
        and row[2 * place] >= AGREE * row[2 * place + 1]
        and log2(row[2 * place] / row[2 * place + 1] / item.chance(row[2 * place])) >= TOLD
        for place, item in enumerate(compared)
    )
