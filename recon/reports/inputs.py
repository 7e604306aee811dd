"""What a report was made from, as digests: who finds the same ones has the same report before him.

A digest of records does not hang on their order, nor on the server that counted it: each record as text is hashed,
and the hashes are added up. It shows that something changed, not what, and is no proof against forgers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlglot
from sqlglot import exp

from recon import expressions
from recon.backfill.change import Change
from recon.backfill.plan import Plan
from recon.checks import suites
from recon.database import tables
from recon.database.connect import Session
from recon.errors import SpecError
from recon.expressions import Expression
from recon.matching import pairs
from recon.matching.bound import Bound
from recon.names import DIALECT, Side, column, identifier
from recon.version import __version__
from recon.workspace import Workspace

# 64 bits of each record's sha256, so that the sum of all is exact and counted by several workers at once.
_HASH = "('x' || LEFT(ENCODE(SHA256(CONVERT_TO(CAST(records AS TEXT), 'UTF8')), 'hex'), 16))::BIT(64)::BIGINT"


@dataclass(frozen=True)
class Records:
    """Records in one line: how many, and a sha256 (hex) of what was read of them."""

    count: int
    digest: str
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Inputs:
    """All that a report was made from, at one moment (UTC)."""

    at: datetime
    spec: str
    run: str
    decisions: Records
    target: Records
    source: Records
    suite: str | None  # None: it cannot be read
    plan: str | None
    plan_digest: str | None
    recon: str
    postgresql: str

    def as_dict(self) -> dict[str, Any]:
        """As it is kept with the report."""
        counted = {name: getattr(self, name) for name in ("decisions", "target", "source")}
        return {
            "at": self.at.isoformat(),
            "spec": self.spec,
            "run": self.run,
            **{
                name: {"records": item.count, "sha256": item.digest, "columns": list(item.columns)}
                for name, item in counted.items()
            },
            "suite": self.suite,
            "plan": self.plan,
            "plan_digest": self.plan_digest,
            "recon": self.recon,
            "postgresql": self.postgresql,
        }


def read(session: Session, workspace: Workspace, bound: Bound, run: str, plan: Plan | None, at: datetime) -> Inputs:
    """Digest what a report is made from; each table is read once.

    Args:
        session: a transaction that sees one moment.
        workspace: where the suite is.
        bound: the spec and its relations.
        run: the run whose decisions are shown.
        plan: the plan that is shown, if any.
        at: the moment.
    """
    return Inputs(
        at=at,
        spec=bound.spec.digest,
        run=run,
        decisions=_decisions(session, bound, run),
        target=_side(session, bound, "t"),
        source=_side(session, bound, "s"),
        suite=_suite(workspace, bound),
        plan=plan.plan if plan else None,
        plan_digest=plan.digest if plan else None,
        recon=__version__,
        postgresql=session.value("SELECT current_setting('server_version')"),
    )


def _decisions(session: Session, bound: Bound, run: str) -> Records:
    table = tables.own("decisions", run)
    named = exp.Table(this=table.this, db=table.args["db"], alias=exp.TableAlias(this=identifier("d")))
    return _records(session, named, "d", pairs.decision_columns(bound), [])


def _side(session: Session, bound: Bound, side: Side) -> Records:
    """A side's records: the columns that decide, the link, and those that the lists show."""
    spec = bound.spec
    shown: list[Expression] = [expressions.parse(text, "t") for text in spec.show]
    for item in spec.interpret:
        shown.append(expressions.parse(item.when, "t"))
        shown += [part for part in expressions.parse_template(item.say).parts if isinstance(part, Expression)]
    names = {*Change(bound, bound.target).read_columns(side), *bound.columns(shown, side)}
    if side == "t" and bound.link is not None:
        names.add(bound.link.name)
    return _records(session, bound.relation[side].aliased(side), side, sorted(names), bound.where(side))


def _records(session: Session, table: exp.Expr, alias: str, names: Sequence[str], where: list[exp.Expr]) -> Records:
    hashed = sqlglot.parse_one(_HASH, dialect=DIALECT)
    row = exp.Anonymous(this="row", expressions=[column(alias, name) for name in names])
    for place in list(hashed.find_all(exp.Column)):
        place.replace(row.copy())
    query = exp.Select(expressions=[exp.Count(this=exp.Star()), exp.Sum(this=hashed)]).from_(table)
    count, total = session.rows(query.where(*where).sql(DIALECT))[0]
    text = f"{','.join(names)}:{count}:{total or 0}"
    return Records(count, hashlib.sha256(text.encode()).hexdigest(), tuple(names))


def _suite(workspace: Workspace, bound: Bound) -> str | None:
    """The suite's digest: that of its file where there is one, for recon writes it as it is digested."""
    try:
        text = suites.text(suites.load(workspace, bound.spec))
    except SpecError:
        return None
    return hashlib.sha256(text.encode()).hexdigest()
