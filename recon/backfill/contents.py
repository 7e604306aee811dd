"""What a plan holds, as a reviewer reads it: counts of each pass and action, some rows of each, lint, the scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from recon.backfill import lint, lint_table, veils
from recon.backfill.change import PLACE, Shape
from recon.backfill.lint import Finding
from recon.backfill.veils import Veils
from recon.database import tables
from recon.database.connect import Session
from recon.matching import keys
from recon.matching.bound import key_names
from recon.matching.precision import Backtest
from recon.names import DIALECT, quote

READING_ORDER = ("execute.sql", "revert.sql", "dry_run.sql", "verify.sql")  # what writes comes first
SHOWN_ROWS = 10  # of each pass and action
SHOWN_CHARACTERS = 200  # of a value; changes.csv has all of it


@dataclass(frozen=True)
class Value:
    """One column of a planned row, as people may see it; None is NULL."""

    column: str
    before: str | None
    after: str | None
    changes: bool  # two veils look the same


@dataclass(frozen=True)
class Row:
    """One planned row."""

    key: str | None  # None where it is made by the database when the row is inserted
    source: str | None  # None where the row has no partner
    values: tuple[Value, ...]
    interpretation: str | None


@dataclass(frozen=True)
class Group:
    """The rows of one pass and one action, and the first of them."""

    rule: str | None  # the pass; None where no pass is behind it, as with a record that has no partner
    action: str
    rows: int
    lowest: float | None  # confidence, 0 to 1
    highest: float | None
    precision: float | None  # of the pass, 0 to 1; None where it was not measured
    sample: tuple[Row, ...]


@dataclass(frozen=True)
class Contents:
    """A plan without its digest and without what happened since: the same on every screen and in review.html."""

    document: Mapping[str, Any]
    groups: tuple[Group, ...]
    measured: str | None  # precision and recall of the rules, in words; None where nobody measured them
    findings: tuple[Finding, ...]
    scripts: Mapping[str, str]

    @property
    def refused(self) -> list[Finding]:
        return lint.refused(self.findings)


def of(
    session: Session,
    document: dict[str, Any],
    texts: Mapping[str, str],
    known: Backtest | None,
    seen: Veils | None = None,
) -> Contents:
    """Read what a plan holds, from its staged rows.

    Args:
        session: reads only.
        document: plan.json.
        texts: the scripts that there are.
        known: the latest backtest of the plan's rules.
        seen: what may not be seen of its values; None: what plan.json says is private.
    """
    precisions = {score.name: score.precision for score in known.passes} if known else {}
    return Contents(
        document,
        tuple(_groups(session, document, precisions, seen or veils.of(document))),
        known.words if known else None,
        (*lint.of_bundle(document, texts), *lint_table.of_table(session, document)),
        texts,
    )


def _groups(
    session: Session, document: dict[str, Any], precisions: Mapping[str, float | None], seen: Veils
) -> list[Group]:
    staged = tables.own("staged", document["plan"]).sql(DIALECT)
    names = {name for (name,) in session.rows(_COLUMNS, staged)}
    action = '"action"' if "action" in names else "'link'"
    if not names:  # someone dropped the table: there is nothing left that could be applied
        return []
    counted = session.rows(
        f'SELECT "pass", {action}, count(*), min("confidence")::float8, max("confidence")::float8 FROM {staged}'  # noqa: S608 (own)
        " GROUP BY 1, 2"
    )
    counted.sort(key=lambda row: (-(row[4] or 0), row[0] or "", row[1]))  # the surest first, as passes come in a spec
    return [
        Group(rule, kind, rows, low, high, precisions.get(rule), _sample(session, document, action, (rule, kind), seen))
        for rule, kind, rows, low, high in counted
    ]


_COLUMNS = "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped"


def _sample(
    session: Session, document: dict[str, Any], action: str, group: tuple[str | None, str], seen: Veils
) -> tuple[Row, ...]:
    shape = Shape.of_document(document)
    staged = tables.own("staged", document["plan"]).sql(DIALECT)
    # One more than is shown, so that what was cut shows.
    images = ", ".join(f"left({quote(name)}::text, {SHOWN_CHARACTERS + 1})" for name in shape.images)
    both = ", ".join(f"{quote(name)}::text" for name in (*shape.key_names, *_source_key_names(document)))
    rows = session.rows(
        f'SELECT {both}, "interpretation", {images} FROM {staged}'  # noqa: S608 (quoted names)
        f' WHERE "pass" IS NOT DISTINCT FROM $1::text AND {action} = $2::text ORDER BY {quote(PLACE)} LIMIT $3::int',
        *group,
        SHOWN_ROWS,
    )
    return tuple(_row(row, shape, len(_source_key_names(document)), seen) for row in rows)


def _row(row: tuple[Any, ...], shape: Shape, source_keys: int, seen: Veils) -> Row:
    middle = len(shape.keys)
    interpretation, *images = row[middle + source_keys :]
    pairs = zip(images[::2], images[1::2], strict=True)
    values = (
        Value(name, _cut(seen.value(name, before)), _cut(seen.value(name, after)), before != after)
        for name, (before, after) in zip(shape.columns, pairs, strict=True)
    )
    return Row(
        _key(row[:middle]), _key(row[middle : middle + source_keys]), tuple(values), _cut(seen.said(interpretation))
    )


def source_keys(document: Mapping[str, Any]) -> list[str]:
    """The columns of the source's key: one, or several."""
    named = document["source_key"]
    return [named] if isinstance(named, str) else list(named)


def _source_key_names(document: Mapping[str, Any]) -> list[str]:
    return key_names("source_key", len(source_keys(document)))


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _key(parts: tuple[str | None, ...]) -> str | None:
    """A key as people read it; None where a row has none, as an orphan no source and an insert no target."""
    known = [part for part in parts if part is not None]
    return _cut(keys.shown(known)) if len(known) == len(parts) else None
