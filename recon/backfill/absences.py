"""Whether suspected orphans are absent from the source: each is looked up by itself, more than once, and capped.

A fetch that was cut short, a filter, or a tie makes records look alone that are not. So the source is asked again for
each of them, in a snapshot of its own; an error stops the plan, for it is no answer; and no plan may take most of a
scope's records for orphans, whatever the looks said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import sleep
from typing import Any, Protocol

from sqlglot import exp

from recon.backfill.change import ACTION, SET, Change
from recon.backfill.drafts import DRAFT, PRESENT, SKIPPED, UNANSWERED, orphan_when
from recon.database.connect import Database, Session
from recon.errors import OverCap
from recon.expressions import TEXT_TYPES, collate
from recon.matching.bound import Bound
from recon.matching.pool import temporary
from recon.names import DIALECT, column, identifier
from recon.sources import mirrored
from recon.spec import Reconciliation
from recon.spec_actions import Orphan

LOOK_SECONDS = 2.0  # between two looks: long enough for a source that is being written to settle
LOOKED_UP_AT_ONCE = 10_000  # records in one question to a database
SHOWN_SCOPES = 5  # in an error

Key = tuple[str, ...]  # a target key, part by part as the server writes it


@dataclass(frozen=True)
class Looked:
    """What a source answered: which records it has, and of which it did not say, with why. The others it does not have."""

    present: frozenset[Key] = frozenset()
    unanswered: Mapping[Key, str] = field(default_factory=dict[Key, str])


class Lookup(Protocol):
    """A way to ask a source for single records."""

    def look(self, keys: Sequence[Key]) -> Looked:
        """Ask for these target records anew.

        Raises:
            ReconError: whatever kept the source from answering at all; never an empty answer instead.
        """
        ...

    def answers(self, session: Session, change: Change, scope: str | None) -> bool:
        """Whether the source has any record of a scope: one that says "not found" to everything was most likely not read.

        Raises:
            ReconError: the source did not answer.
        """
        ...


class Records:
    """Looks in a source that is a table or a query: by the `on` equalities of any pass."""

    def __init__(self, database: Database, bound: Bound) -> None:
        self._database, self._bound = database, bound

    def look(self, keys: Sequence[Key]) -> Looked:
        statement = self._statement()
        found: set[Key] = set()
        with self._database.session(read_only=True) as session:  # of its own, so that it sees what was written since
            session.plain_path()
            for some in _batches(keys):
                columns = [list(part) for part in zip(*some, strict=True)]
                found |= {tuple(row) for row in session.rows(statement, *columns)}
        return Looked(frozenset(found))

    def answers(self, session: Session, change: Change, scope: str | None) -> bool:
        return session.value(_any_of_source(change.bound, scope).sql(DIALECT), *filter(None, [scope])) is not None

    def _statement(self) -> str:
        bound = self._bound
        asked = [
            exp.Exists(
                this=exp.Select(expressions=[exp.Literal.number(1)])
                .from_(bound.source.aliased("s"))
                .where(*rule.equalities(), *bound.where("s"))
            )
            for rule in bound.passes
            if rule.targets
        ]
        listed = _listed(bound)
        return listed.where(exp.or_(*asked)).sql(DIALECT)


class Unasked:
    """The source of a mirror that nobody asks here: what it lacks is known by its list alone, and that is no confirmation."""

    def look(self, keys: Sequence[Key]) -> Looked:
        return Looked(unanswered=dict.fromkeys(keys, "it was not asked"))

    def answers(self, session: Session, change: Change, scope: str | None) -> bool:
        return True


def of_people(spec: Reconciliation) -> Lookup | None:
    """How `recon plan` and `recon run` look orphans up; None: in the source's records as they are here.

    A mirror's records here are what its source said at some time; only `recon sync` asks it for each orphan.
    """
    return Unasked() if mirrored.is_mirror(spec) else None


def _batches(keys: Sequence[Key]) -> Sequence[Sequence[Key]]:
    return [keys[start : start + LOOKED_UP_AT_ONCE] for start in range(0, len(keys), LOOKED_UP_AT_ONCE)]


def _asked(bound: Bound) -> exp.Table:
    """The keys that are given as arrays of text, $1 for the first column, as rows `asked`."""
    names = bound.key_names("t")
    arrays = [exp.cast(exp.Parameter(this=exp.Literal.number(number)), "text[]") for number in range(1, len(names) + 1)]
    alias = exp.TableAlias(this=identifier("asked"), columns=[identifier(name) for name in names])
    return exp.Table(this=exp.Anonymous(this="unnest", expressions=arrays), alias=alias)


def _same_key(bound: Bound, keys: Sequence[exp.Expr]) -> list[exp.Expr]:
    return [
        exp.EQ(this=key.copy(), expression=exp.cast(column("asked", name), bound.target.type_of(own.name)))
        for key, name, own in zip(keys, bound.key_names("t"), bound.target_keys, strict=True)
    ]


def _listed(bound: Bound) -> exp.Select:
    """The target records whose keys are given."""
    return (
        exp.Select(expressions=[column("asked", name) for name in bound.key_names("t")])
        .from_(_asked(bound))
        .join(bound.target.aliased("t"), on=exp.and_(*_same_key(bound, bound.target_keys)))
    )


# -- confirming ------------------------------------------------------------------------------------------


def confirm(session: Session, change: Change, lookup: Lookup, *, over_cap: bool) -> dict[str, Any] | None:
    """Look every suspected orphan of a draft up, leave out those that are found, and hold the rest against the cap.

    Args:
        session: the transaction that holds the draft.
        change: what the spec asks for.
        lookup: how the source is asked.
        over_cap: whether a person said that more than the cap may be taken; never all of a scope, even then.

    Returns:
        What plan.json says of orphans; None where none was suspected.

    Raises:
        OverCap: too many in one scope, all of one, or a scope of which the source has nothing at all.
        ReconError: the source did not answer.
    """
    orphan = change.bound.spec.backfill.orphan
    assert orphan is not None
    suspects = _suspects(session, change)
    if not suspects:
        return None
    present: set[Key] = set()
    unanswered: dict[Key, str] = {}
    for look in range(orphan.confirm):
        left = [key for key in suspects if key not in present and key not in unanswered]
        if look and left:
            sleep(LOOK_SECONDS)
        looked = lookup.look(left) if left else Looked()
        present |= looked.present
        unanswered |= looked.unanswered
    _leave_out(session, change, sorted(present), PRESENT)
    _leave_out(session, change, sorted(unanswered), UNANSWERED)
    scopes = _scopes(session, change, orphan)
    silent = [scope for scope in scopes if not lookup.answers(session, change, scope["scope"])]
    _within_cap(change, scopes, silent, over_cap=over_cap)
    kept = [{name: scope[name] for name in ("scope", "records", "orphans", "allowed")} for scope in scopes]
    return {
        "confirm": orphan.confirm,
        "looks": orphan.confirm,
        "cap": {"share": str(orphan.cap.share), "rows": orphan.cap.rows},
        "scopes": kept,
    }


def _drafted(alias: str) -> list[exp.Expr]:
    return [
        exp.EQ(this=column(alias, ACTION), expression=exp.Literal.string(SET)),
        exp.Is(this=column(alias, SKIPPED), expression=exp.Null()),
    ]


def _suspects(session: Session, change: Change) -> list[Key]:
    names = [column("draft", name) for name in change.key_names]
    query = exp.Select(expressions=[exp.cast(name, "text") for name in names]).from_(temporary(DRAFT, "draft"))
    return [tuple(row) for row in session.rows(query.where(*_drafted("draft")).order_by(*names).sql(DIALECT))]


def _leave_out(session: Session, change: Change, keys: Sequence[Key], why: str) -> None:
    update = exp.Update(
        this=temporary(DRAFT, "draft"),
        expressions=[exp.EQ(this=exp.Column(this=identifier(SKIPPED)), expression=exp.Literal.string(why))],
    ).from_(_asked(change.bound))
    same = _same_key(change.bound, [column("draft", name) for name in change.key_names])
    update.set("where", exp.Where(this=exp.and_(*_drafted("draft"), *same)))
    for some in _batches(keys):
        session.execute(update.sql(DIALECT), *[list(part) for part in zip(*some, strict=True)])


# -- caps ------------------------------------------------------------------------------------------------


def _scopes(session: Session, change: Change, orphan: Orphan) -> list[dict[str, Any]]:
    """Each scope with orphans: how many records the spec asks about, how many are orphans, how many may be."""
    bound = change.bound
    scope: exp.Expr = column("t", bound.spec.scope) if bound.spec.scope else exp.cast(exp.Null(), "text")
    own = [
        exp.EQ(this=key, expression=column("draft", name))
        for key, name in zip(bound.target_keys, change.key_names, strict=True)
    ]
    asked = orphan_when(change)
    orphans = exp.Count(this=column("draft", ACTION))
    query = (
        exp.Select(expressions=[exp.cast(scope.copy(), "text"), exp.Count(this=exp.Star()), orphans])
        .from_(bound.target.aliased("t"))
        .join(temporary(DRAFT, "draft"), on=exp.and_(*own, *_drafted("draft")), join_type="left")
        .where(*bound.where("t"), *([asked] if asked is not None else []))
        .having(exp.GT(this=orphans.copy(), expression=exp.Literal.number(0)))
        .order_by(exp.Literal.number(1))
    )
    query = query.group_by(scope.copy()) if bound.spec.scope else query
    return [
        {
            "scope": name,
            "records": records,
            "orphans": count,
            "allowed": max(int(orphan.cap.share * records), orphan.cap.rows),
        }
        for name, records, count in session.rows(query.sql(DIALECT))
    ]


def _any_of_source(bound: Bound, scope: str | None) -> exp.Select:
    """Whether the source has any record, of a scope (as text, $1) where the spec has one."""
    query = exp.Select(expressions=[exp.Literal.number(1)]).from_(bound.source.aliased("s")).where(*bound.where("s"))
    if bound.spec.scope and scope is None:
        query = query.where(exp.false())  # records without a scope are nobody's, and compared with nothing
    elif bound.spec.scope:
        mine: exp.Expr = column("s", bound.spec.scope)
        wanted: exp.Expr = exp.cast(exp.Parameter(this=exp.Literal.number(1)), bound.source.type_of(bound.spec.scope))
        if bound.source.columns[bound.spec.scope] in TEXT_TYPES:
            mine, wanted = collate(mine), collate(wanted)
        query = query.where(exp.EQ(this=mine, expression=wanted))
    return query.limit(1)


def _within_cap(
    change: Change, scopes: Sequence[dict[str, Any]], silent: Sequence[dict[str, Any]], *, over_cap: bool
) -> None:
    name = change.bound.spec.name
    if silent:
        raise OverCap(
            f"The source has no record at all of {_told(change, silent)}.",
            why='A source that answers "not found" to everything was most likely not read.',
            todo=f"Check the source of {name}, then run `recon match {name}` and plan again.",
        )
    emptied = [scope for scope in scopes if scope["records"] >= 2 and scope["orphans"] >= scope["records"]]
    if emptied:
        raise OverCap(
            f"All records would be taken for orphans: {_told(change, emptied)}.",
            why="No plan takes all records of a scope that has two or more.",
            todo=f"Check that the source of {name} was read whole; what is truly gone needs a person.",
        )
    beyond = [scope for scope in scopes if scope["orphans"] > scope["allowed"]]
    if beyond and not over_cap:
        raise OverCap(
            f"More orphans than the cap allows: {_told(change, beyond)}.",
            why="So many at once are more often a fault of the source than gone.",
            todo=f"Look at them with `recon match {name}` and `recon decisions {name}`; if they are gone, plan with "
            f"`recon plan {name} --over-cap`.",
        )


def _told(change: Change, scopes: Sequence[dict[str, Any]]) -> str:
    """Scopes for people: which, how many orphans of how many records, how many are allowed."""
    by = change.bound.spec.scope
    listed = "; ".join(
        (f"{by} {scope['scope']}: " if by else "")
        + f"{scope['orphans']:,} of {scope['records']:,} records, {scope['allowed']:,} allowed"
        for scope in scopes[:SHOWN_SCOPES]
    )
    return listed + (f"; and {len(scopes) - SHOWN_SCOPES} more" if len(scopes) > SHOWN_SCOPES else "")
