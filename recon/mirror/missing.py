"""Records that the source has and we have not: looked for live without writing anything, or fetched by day and put right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from psycopg import sql
from sqlglot import exp

from recon.database import relations
from recon.database.connect import Database, Session
from recon.errors import UsageError
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.matching.run import Run
from recon.mirror import sync
from recon.mirror.parts import Part, Wish
from recon.names import DIALECT, column, identifier, split_relation
from recon.outside.interface import Bad, Mirrored, Record
from recon.sources import mirrored
from recon.spec import Reconciliation
from recon.workspace import Workspace

_LIVE = "recon_live"  # the temporary table that takes what the source says now

Days = tuple[date, date]  # from and to, inclusive, UTC


@dataclass(frozen=True)
class Missing:
    """A record of the source that has no record here.

    Args:
        record: the columns of its key without the scope, and what is compared and not private, as JSON values.
        issues: the rules of `valid` that it does not keep: it is skipped because of them.
    """

    record: Mapping[str, Any]
    issues: tuple[str, ...]


@dataclass(frozen=True)
class Live:
    """What the source has now: how many records came, which of them are not here, and what could not be read at all."""

    fetched: int
    missing: tuple[Missing, ...]
    errors: tuple[str, ...]


@dataclass(frozen=True)
class Day:
    """What came of the records of one day: those that were missing before, and are missing still."""

    part: Part
    run: str
    status: str
    before: tuple[Missing, ...]
    after: tuple[Missing, ...]


def in_order(first: date, last: date) -> Days:
    """The days from one to another. Raises UsageError where they are the wrong way round."""
    if first > last:
        raise UsageError(f"The first day {first} is later than the last day {last}.", todo="Change the two.")
    return first, last


def live(database: Database, spec: Reconciliation, feed: Mirrored, scope: str, days: Days) -> Live:
    """Ask the source for the records of these days, and say which of them are not here; nothing is written.

    A record of which not even the day can be read is told too, whatever the days.

    Raises:
        OutsideFailed: the source did not give all of them, so nothing is told.
    """
    came: dict[tuple[Any, ...], Record] = {}
    errors: list[str] = []
    for page in feed.of_days(scope, *days):
        for record in page:
            if isinstance(record, Bad):
                errors.append(record.why)
            else:
                came[tuple(record[name] for name in spec.source.keys)] = record
    landing = spec.source.landing
    assert landing is not None
    with database.session() as session:
        session.users_path()
        table = relations.table(session, landing, "s")
        place = sql.Identifier(*[part for part in split_relation(table.label) if part])
        session.driver.execute(
            sql.SQL("CREATE TEMPORARY TABLE {} (LIKE {}) ON COMMIT DROP").format(sql.Identifier(_LIVE), place)
        )
        names = sql.SQL(", ").join(map(sql.Identifier, feed.columns))
        copy = sql.SQL("COPY pg_temp.{} ({}) FROM STDIN").format(sql.Identifier(_LIVE), names)
        with session.driver.cursor() as cursor, cursor.copy(copy) as writer:
            for record in came.values():
                writer.write_row([record.get(name) for name in feed.columns])
        bound = bind(session, spec)
        tree = bound.source.tree.copy().transform(_instead, table.tree)
        found = absent(session, replace(bound, source=replace(bound.source, tree=tree)), scope, days)
    return Live(len(came), found, tuple(errors))


def _instead(node: exp.Expr, table: exp.Expr) -> exp.Expr:
    """The temporary table, where the query of the source names the table that takes its records."""
    if isinstance(node, exp.Table) and (node.name, node.db) == (table.name, table.args["db"].name):
        return exp.Table(this=identifier(_LIVE), db=identifier("pg_temp"), alias=node.args.get("alias"))
    return node


def absent(session: Session, bound: Bound, scope: str, days: Days) -> tuple[Missing, ...]:
    """The source's records of these days in a scope that no record here has the identity of, in the order of days."""
    spec, day = bound.spec, bound.spec.source.date
    assert spec.scope is not None
    own = {name: column("s", name) for name in [*([day] if day else []), *mirrored.columns_of(spec)]}
    shown = own | _compared(bound)
    broken = [
        exp.Case(ifs=[exp.If(this=exp.Not(this=rule.holds()), true=_parameter(number, "text"))])
        for number, rule in enumerate(bound.valid, start=4)
    ]
    issues = exp.Anonymous(
        this="array_remove", expressions=[exp.cast(exp.Array(expressions=broken), "text[]"), exp.Null()]
    )
    record = [part for name, tree in shown.items() for part in (exp.Literal.string(name), tree.copy())]
    query = (
        exp.Select(expressions=[exp.Anonymous(this="jsonb_build_object", expressions=record), issues])
        .from_(bound.source.aliased("s"))
        .join(bound.target.aliased("t"), on=exp.and_(*bound.passes[0].equalities()), join_type="left")
        .where(
            *bound.where("s"),
            exp.EQ(
                this=column("s", spec.scope),
                expression=exp.cast(_parameter(1, "text"), bound.source.type_of(spec.scope)),
            ),
            exp.Is(this=bound.target_keys[0], expression=exp.Null()),
        )
    )
    if day:
        moment = exp.cast(column("s", day), "date")
        within = exp.Between(this=moment, low=_parameter(2, "date"), high=_parameter(3, "date"))
        query = query.where(exp.or_(exp.Is(this=column("s", day), expression=exp.Null()), within))
    query = query.order_by(*[exp.Ordered(this=tree.copy()) for tree in own.values()])
    rows = session.rows(query.sql(DIALECT), scope, *days, *[rule.issue for rule in bound.valid])
    return tuple(Missing(dict(record), tuple(issues)) for record, issues in rows)


def _compared(bound: Bound) -> dict[str, exp.Expr]:
    """What is compared, by the target's name for it, as the source has it; but nothing private."""
    hidden = {name for side, name in bound.private if side == "s"}
    return {
        item.name: item.source
        for item in bound.compared
        if not {node.name for node in exp.Paren(this=item.source.copy()).find_all(exp.Column)} & hidden
    }


def _parameter(number: int, kind: str) -> exp.Expr:
    return exp.cast(exp.Parameter(this=exp.Literal.number(number)), kind)


# -- one day ---------------------------------------------------------------------------------------------


def sync_day(
    database: Database, workspace: Workspace, name: str, scope: str, day: date, *, now: datetime, patience: float
) -> Day:
    """Fetch the records of one day (UTC, by the source's date), and write what is missing or changed here.

    What is written goes the way of every run: plan, standing sign-off, ledger, verification. Orphans are no part of it.

    Raises:
        Locked: another run of the mirror goes on.
        OutsideFailed, ReconError: whatever ended the run; nothing was written.
    """
    spec, days = sync.mirror_of(workspace, name), (day, day)

    def here() -> tuple[Missing, ...]:
        with database.session(read_only=True) as session:
            return absent(session, bind(session, spec), scope, days)

    before: list[Missing] = []

    def decided(_: Run) -> None:
        before.extend(here())

    wish = Wish(
        scopes=[scope], cause="request", fetches=False, cancels=False, patience=patience,
        records=lambda feed, of: feed.of_days(of, *days), decided=decided,
    )  # fmt: skip
    done = sync.sync(database, workspace, name, wish, now=now)
    part = done.parts[0]
    if part.ended_by is not None:
        raise part.ended_by
    return Day(part, done.id, done.status, tuple(before), here())
