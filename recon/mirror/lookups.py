"""Suspected orphans looked up at the source itself, one by one: found, not found, or no answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlglot import exp

from recon import expressions
from recon.backfill.absences import Key, Looked
from recon.backfill.change import Change
from recon.database.connect import Database, Session
from recon.errors import OutsideFailed
from recon.matching import keys as texts
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.names import DIALECT, column, identifier
from recon.outside.interface import Mirrored, Record
from recon.sources import mirrored
from recon.spec import Reconciliation

CONTROLS = 3  # records that must be there: where none of them is, the source's "not found" means nothing

CANCELLED, HELD_BACK, UNANSWERED, PRESENT = "cancelled", "held back", "no answer", "present"
AWAITS = "waits for sign-off"  # gone there, and still as it was here
NOT_ASKED = "it was not to be touched in this run"


@dataclass
class AtSource:
    """Asks a mirrored source for single records of one scope, and keeps what it said of each suspect.

    Args:
        database: where the mirror is.
        spec: the reconciliation.
        feed: the source.
        scope: whose records.
        only: the target keys that may be touched at all; None: all.
        cancels: whether what is not found is to be an orphan; else it is only told.
    """

    database: Database
    spec: Reconciliation
    feed: Mirrored
    scope: str
    only: frozenset[Key] | None = None
    cancels: bool = True
    said: dict[Key, str] = field(default_factory=dict[Key, str])  # CANCELLED, PRESENT, or why not
    errors: dict[Key, str] = field(default_factory=dict[Key, str])
    identities: dict[Key, Mapping[str, str]] = field(default_factory=dict[Key, Mapping[str, str]])
    found: list[Record] = field(default_factory=list[Record])  # and not brought in yet

    def look(self, keys: Sequence[Key]) -> Looked:
        """Ask for these records; `bring_in` brings what is found into the mirror's table."""
        asked = [key for key in keys if self.only is None or key in self.only]
        unanswered = {key: NOT_ASKED for key in keys if key not in set(asked)}
        present: set[Key] = set()
        self.identities |= _identities(self.database, self.spec, [key for key in asked if key not in self.identities])
        for key in asked:
            try:
                record = self.feed.find(self.scope, self.identities[key])
            except OutsideFailed as error:
                unanswered[key] = self.errors[key] = error.what
                self.said[key] = UNANSWERED
                continue
            if record is not None:
                self.found.append(record)
            if record is not None and not self._is_another(key, record):
                present.add(key)
                self.said[key] = PRESENT
            else:
                self.said[key] = CANCELLED
                if not self.cancels:
                    unanswered[key] = NOT_ASKED
                    self.said[key] = HELD_BACK
        return Looked(frozenset(present), unanswered)

    def _is_another(self, key: Key, record: Record) -> bool:
        """Whether the source answered with a record of another identity that is here and alive, beside the suspect.

        The record got a new identity there, such as another platform. Until it is here under that, and wherever it never
        will be, the suspect stands for it.
        """
        told = {name: str(record.get(name)) for name in self.identities[key]}
        return told != self.identities[key] and _lives(self.database, self.spec, self.scope, told)

    def bring_in(self) -> None:
        """Put what was found into the mirror's table: once the plan is made, for decisions must hold until then."""
        if self.found:
            mirrored.take(self.database, self.spec, self.feed, [self.found])
            self.found = []

    def answers(self, session: Session, change: Change, scope: str | None) -> bool:
        """Whether the source finds anything at all: a suspect, or one of a few records that it had a moment ago."""
        if scope != self.scope:
            return False
        if PRESENT in self.said.values():
            return True
        controls = _controls(self.database, self.spec, self.scope)
        return any(self.feed.find(self.scope, identity) is not None for identity in controls)

    def hold_back(self) -> None:
        """Say of every orphan that it was left alone, for a person must look."""
        self.said = {key: HELD_BACK if said == CANCELLED else said for key, said in self.said.items()}


@dataclass
class HeldBack:
    """Leaves every suspect alone: there were too many, and a person must look."""

    of: AtSource

    def look(self, keys: Sequence[Key]) -> Looked:
        self.of.hold_back()
        return Looked(unanswered=dict.fromkeys(keys, "held back: more than the cap"))

    def answers(self, session: Session, change: Change, scope: str | None) -> bool:
        return True


def _identities(database: Database, spec: Reconciliation, keys: Sequence[Key]) -> dict[Key, Mapping[str, str]]:
    """How the source knows these target records: its key's columns without the scope, as text."""
    if not keys:
        return {}
    with database.session(read_only=True) as session:
        bound = bind(session, spec)
        query = exp.Select(expressions=[texts.as_text(bound.target_keys), *_own(bound)])
        query = query.from_(bound.target.aliased("t")).join(
            exp.Table(
                this=exp.Anonymous(
                    this="unnest", expressions=[_array(number) for number in range(1, len(keys[0]) + 1)]
                ),
                alias=exp.TableAlias(this=identifier("asked"), columns=_columns(len(keys[0]))),
            ),
            on=exp.and_(
                *[
                    exp.EQ(this=key, expression=exp.cast(column("asked", f"k{number}"), bound.target.type_of(key.name)))
                    for number, key in enumerate(bound.target_keys, 1)
                ]
            ),
        )
        names = mirrored.columns_of(spec)
        rows = session.rows(query.sql(DIALECT), *[list(part) for part in zip(*keys, strict=True)])
    return {tuple(row[0]): dict(zip(names, row[1:], strict=True)) for row in rows}


def _lives(database: Database, spec: Reconciliation, scope: str, identity: Mapping[str, str]) -> bool:
    """Whether a target record of this identity is there that may be an orphan itself: it is live, and has a source."""
    with database.session(read_only=True) as session:
        bound = bind(session, spec)
        assert spec.scope is not None
        wanted = [exp.cast(exp.Parameter(this=exp.Literal.number(1)), bound.target.type_of(spec.scope))]
        wanted += [
            exp.cast(exp.Parameter(this=exp.Literal.number(number)), "text") for number in range(2, len(identity) + 2)
        ]
        same = [
            exp.EQ(this=own, expression=value)
            for own, value in zip([column("t", spec.scope), *_own(bound)], wanted, strict=True)
        ]
        query = exp.Select(expressions=[exp.Literal.number(1)]).from_(bound.target.aliased("t"))
        query = query.where(*bound.where("t"), *live_here(bound), *same).limit(1)
        values = [identity[name] for name in mirrored.columns_of(spec)]
        return session.value(query.sql(DIALECT), scope, *values) is not None


def live_here(bound: Bound) -> list[exp.Expr]:
    """That a record may become an orphan, by the spec."""
    orphan = bound.spec.backfill.orphan
    if orphan is None or orphan.when is None:
        return []
    return [exp.paren(bound.resolve(expressions.parse(orphan.when, "t")))]


def _own(bound: Bound) -> list[exp.Expr]:
    """The target's columns that hold the source's key, by the first pass, as text."""
    identity = {right.tree.name: column("t", name) for name, right in _identity(bound.spec).items()}
    return [exp.cast(identity[name], "text") for name in mirrored.columns_of(bound.spec)]


def _identity(spec: Reconciliation) -> Mapping[str, Any]:
    found = spec.identity
    assert found is not None, "a mirror's first pass names plain columns"
    return found


def _array(number: int) -> exp.Expr:
    return exp.cast(exp.Parameter(this=exp.Literal.number(number)), "text[]")


def _columns(count: int) -> list[exp.Identifier]:
    return [identifier(f"k{number}") for number in range(1, count + 1)]


def _controls(database: Database, spec: Reconciliation, scope: str) -> list[dict[str, str]]:
    """A few records that the source's own list had when it was read last."""
    names = mirrored.columns_of(spec)
    with database.session(read_only=True) as session:
        bound = bind(session, spec)
        assert spec.scope is not None
        query = (
            exp.Select(expressions=[exp.cast(column("s", name), "text") for name in names])
            .from_(bound.source.aliased("s"))
            .where(
                *bound.where("s"),
                exp.EQ(
                    this=column("s", spec.scope),
                    expression=exp.cast(exp.Parameter(this=exp.Literal.number(1)), bound.source.type_of(spec.scope)),
                ),
            )
            .order_by(exp.Ordered(this=column("s", spec.source.date or names[0]), desc=True, nulls_first=False))
            .limit(CONTROLS)
        )
        rows = session.rows(query.sql(DIALECT), scope)
    return [dict(zip(names, row, strict=True)) for row in rows]
