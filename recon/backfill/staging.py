"""Freezing the rows of a plan: what the rules decide now, drafted, checked and numbered, and an empty ledger beside it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import psycopg
from psycopg import errors as pg_errors
from sqlglot import exp

from recon.backfill import absences, change, drafts, outside_bundle, scripts
from recon.backfill.absences import Lookup
from recon.backfill.change import Change
from recon.database import tables
from recon.database.connect import Session
from recon.errors import SchemaMismatch, Stale, without_values
from recon.matching.decide import decide
from recon.matching.pool import Filter, creating, temporary
from recon.matching.run import Run
from recon.names import DIALECT, quote


@dataclass(frozen=True)
class Draft:
    """A plan in the making."""

    change: Change
    plan: str
    decided: Run
    passes: Sequence[str]
    whole: bool  # whether all passes were asked for, and so records that no pass decided
    over_cap: bool

    @property
    def staged(self) -> exp.Table:
        return tables.own("staged", self.plan)


@dataclass(frozen=True)
class Staged:
    """What was staged: rows by action, what was left out and why, what was found out about orphans."""

    change: Change  # without the actions that no row takes
    actions: dict[str, int]
    left_out: dict[str, int]
    orphans: dict[str, Any] | None


def stage(session: Session, draft: Draft, lookup: Lookup) -> Staged:
    """Make a plan's staged table and its empty ledger, from what the rules decide now.

    Raises:
        Stale: decisions of the run no longer hold.
        SchemaMismatch: a column cannot hold a value as it is.
        OverCap: more orphans than the spec allows.
    """
    made = draft.change
    decide(session, made.bound, temporary(change.NOW), Filter.from_dict(draft.decided.limited), explained=False)
    left_out: dict[str, int] = {}
    orphans: dict[str, Any] | None = None
    with _said_of_values(made):
        if made.only_links:
            session.execute(creating(draft.staged, drafts.staged_rows(made, draft.decided.run, draft.passes)))
            _all_hold(session, draft, drafts.link_decisions(made, draft.decided.run, draft.passes), draft.staged)
        else:
            left_out, orphans = _drafted(session, draft, lookup)
            made = drafts.narrowed(made, _drafted_actions(session))
            session.execute(creating(draft.staged, drafts.staging(draft.change, made)))
    draft = replace(draft, change=made)
    if made.outside:
        left_out = left_out | outside_bundle.find_records(session, made, draft.plan)
    _exact(session, draft)
    _finish(session, draft)
    name = draft.staged.sql(DIALECT)
    counts = dict(session.rows(f'SELECT "action", count(*) FROM {name} GROUP BY 1'))  # noqa: S608 (our own table)
    actions = {action: counts[action] for action in change.ACTIONS if action in counts}
    return Staged(made, actions, left_out, orphans)


def _drafted_actions(session: Session) -> list[str]:
    table = temporary(drafts.DRAFT).sql(DIALECT)
    return [row[0] for row in session.rows(f'SELECT DISTINCT "action" FROM {table} WHERE "skipped" IS NULL')]  # noqa: S608


def _drafted(session: Session, draft: Draft, lookup: Lookup) -> tuple[dict[str, int], dict[str, Any] | None]:
    """Draft a plan that does more than link; returns what is left out, by reason, and what plan.json says of orphans."""
    made, run = draft.change, draft.decided.run
    for step in drafts.steps(made, run, draft.passes, whole=draft.whole):
        session.execute(step)
    table = temporary(drafts.DRAFT)
    _all_hold(session, draft, drafts.expected(made, run, draft.passes, whole=draft.whole), table)
    orphans = None
    if made.sets and draft.whole:
        orphans = absences.confirm(session, made, lookup, over_cap=draft.over_cap)
    session.execute(f"ANALYZE {table.sql(DIALECT)}")
    counted = session.rows(
        f'SELECT "action" || $1 || "skipped", count(*) FROM {table.sql(DIALECT)}'  # noqa: S608 (our own table)
        ' WHERE "skipped" <> ALL($2::text[]) GROUP BY 1 ORDER BY 1',
        ": ",
        [drafts.UNCHANGED, drafts.NOT_ASKED],
    )
    return dict(counted), orphans


@contextmanager
def _said_of_values(made: Change) -> Generator[None]:
    """Say what to do where the server cannot bring a value into the type of its column."""
    try:
        yield
    except (
        pg_errors.UndefinedFunction,
        pg_errors.DatatypeMismatch,
        pg_errors.CannotCoerce,
        psycopg.DataError,
    ) as error:
        said = error.diag.message_primary or ""
        discreet = bool(made.bound.private)
        raise SchemaMismatch(
            f"A value cannot be brought into its column: {without_values(said) if discreet else said}.",
            why=f"One of {', '.join(made.columns)} takes it.",
            todo="Cast it in the spec, or say there what the column shall hold.",
        ) from (None if discreet else error)


def _all_hold(session: Session, draft: Draft, expected: exp.Select, table: exp.Table) -> None:
    """Refuse a plan of decisions that no longer hold."""
    drafted = session.value(exp.select("count(*)").from_(table.copy()).sql(DIALECT))
    decided = session.value(expected.sql(DIALECT))
    if drafted != decided:
        raise Stale(
            f"{decided - drafted:,} of {decided:,} decisions of run {draft.decided.run} no longer hold.",
            why="Their records were changed or linked since, or other candidates came.",
            todo=f"Run `recon match {draft.change.bound.spec.name}` again.",
        )


def _exact(session: Session, draft: Draft) -> None:
    """Refuse a plan of values that the columns would change."""
    shape = draft.change.shape
    names = ", ".join(quote(name) for name in (*shape.key_names, *shape.source_key_names))
    cut = session.rows(f"SELECT {names} FROM {draft.staged.sql(DIALECT)} WHERE exact IS NOT TRUE LIMIT 1")  # noqa: S608 (own)
    if cut:
        targets, sources = cut[0][: len(shape.keys)], cut[0][len(shape.keys) :]
        raise SchemaMismatch(
            f"The value for record {', '.join(map(str, sources if targets[0] is None else targets))}"
            " does not fit its column.",
            why=f"One of {', '.join(draft.change.columns)} would hold another value than the source has.",
            todo="Widen the column, or say in the spec what it shall hold.",
        )


def _finish(session: Session, draft: Draft) -> None:
    """Keys for the staged rows, and an empty ledger for what will be written."""
    shape, staged = draft.change.shape, draft.staged.sql(DIALECT)
    ledger, place = tables.own("ledger", draft.plan).sql(DIALECT), quote(change.PLACE)
    keys = ", ".join(quote(name) for name in shape.key_names)
    session.execute(f"ALTER TABLE {staged} DROP COLUMN exact, ADD PRIMARY KEY ({place}), ADD UNIQUE ({keys})")
    session.execute(f"ANALYZE {staged}")
    images = ", ".join(quote(name) for name in (change.PLACE, change.ACTION, *shape.key_names, *shape.images))
    session.execute(f"CREATE TABLE {ledger} AS SELECT {images} FROM {staged} LIMIT 0")  # noqa: S608 (quoted)
    inserts = ""
    if shape.inserts:
        kept = quote(scripts.KEEPS_IDENTITY)
        inserts = f", ADD COLUMN {quote(change.ROW_DIGEST)} bytea, ADD CONSTRAINT {kept} CHECK ({place} > 0)"
    session.execute(
        f"ALTER TABLE {ledger} ADD PRIMARY KEY ({place}){inserts},"
        ' ADD COLUMN "written_at" timestamptz NOT NULL DEFAULT clock_timestamp(), ADD COLUMN "reverted_at" timestamptz'
    )
