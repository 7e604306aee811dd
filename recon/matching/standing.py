"""What stands around one record beside the rules: the latest run's decisions, links that exist, decisions of people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa
from sqlglot import exp

from recon.database import tables
from recon.database.connect import Session
from recon.matching import privacy
from recon.matching.because import because
from recon.matching.bound import Bound
from recon.matching.literal import among
from recon.matching.pairs import shown_key
from recon.names import DIALECT, Side, column, identifier

Key = tuple[Any, ...]

_DECIDED = ("outcome", "pass", "confidence", "reason", "evidence")
_OVERRIDES = """
    SELECT kind, target_key, source_key, reason, author, made_at FROM recon.overrides
    WHERE reconciliation = $1 AND undone_at IS NULL AND CASE WHEN $4::boolean
        THEN target_key = $2::text[] OR kind = 'exclude' AND source_key[1] = ANY ($3::text[])
        ELSE source_key = $2::text[] OR kind = 'exclude' AND target_key[1] = ANY ($3::text[]) END
    ORDER BY made_at
"""


@dataclass(frozen=True)
class Decided:
    """What a run decided for a record. Times are UTC."""

    run: str
    at: datetime
    outcome: str
    rule: str | None
    confidence: Decimal | None
    reason: str | None
    partner: Any
    evidence: Mapping[str, Any] | None
    other_rules: bool  # the spec was changed after the run
    because: str | None = None  # the reason in a sentence


@dataclass(frozen=True)
class Override:
    """A decision of a person that concerns a record."""

    kind: str
    target_key: Any
    source_key: Any
    reason: str
    author: str
    made_at: datetime


@dataclass(frozen=True)
class Standing:
    """Who holds the candidates of a record, and what people and the latest run said of it."""

    run: str | None = None
    decided: Decided | None = None
    taken: Mapping[Key, tuple[Any, str]] = field(default_factory=dict[Key, tuple[Any, str]])  # by whom, in which pass
    linked: Mapping[Key, Any] = field(default_factory=dict[Key, Any])  # held by this target
    forbidden: Mapping[Key, Override] = field(default_factory=dict[Key, Override])
    excluded: Mapping[Key, Override] = field(default_factory=dict[Key, Override])
    overrides: tuple[Override, ...] = ()  # those that name the record itself


def look(session: Session, bound: Bound, own: Key, candidates: Iterable[Key]) -> Standing:
    """What stands around a record of the population.

    Args:
        session: may be read-only; recon's own tables need not be there.
        bound: the spec.
        own: the record's key, its parts as text.
        candidates: the keys of its candidates, their parts as text.
    """
    keys = sorted(set(candidates))
    run, decided, taken = _run(session, bound, own, keys)
    linked = _holders(session, bound, keys) if bound.spec.cardinality == "one_to_one" else {}
    overrides = _overrides(session, bound, own, keys)
    other, mine = ("source_key", "target_key") if bound.population == "t" else ("target_key", "source_key")

    def concerning(kind: str, found: Override) -> bool:
        return found.kind == kind and getattr(found, other) is not None

    return Standing(
        run,
        decided,
        taken,
        linked,
        {_key(getattr(item, other)): item for item in overrides if concerning("forbid", item)},
        {_key(getattr(item, other)): item for item in overrides if concerning("exclude", item)},
        tuple(item for item in overrides if getattr(item, mine) is not None),
    )


def _key(shown: Any) -> Key:
    return tuple(shown) if isinstance(shown, list) else (shown,)


# -- the latest run --------------------------------------------------------------------------------------


def _run(
    session: Session, bound: Bound, own: Key, keys: Sequence[Key]
) -> tuple[str | None, Decided | None, dict[Key, tuple[Any, str]]]:
    if session.value("SELECT to_regclass('recon.runs')::text") is None:
        return None, None, {}
    runs = tables.runs
    query = sa.select(runs.c.run, runs.c.started_at, runs.c.spec_digest).where(
        runs.c.reconciliation == bound.spec.name, runs.c.state == "success", runs.c.kept
    )
    latest = session.connection.execute(query.order_by(runs.c.started_at.desc()).limit(1)).first()
    if latest is None or not _same_keys(session, bound, latest.run):
        return None, None, {}
    decided: Decided | None = None
    taken: dict[Key, tuple[Any, str]] = {}
    number = len(own)
    for row in _decisions(session, bound, latest.run, own, keys):
        mine, texts, theirs = row[:number], row[number : 2 * number], row[2 * number : -len(_DECIDED) - 1]
        half = len(theirs) // 2
        outcome, rule, confidence, reason, evidence, said = row[-len(_DECIDED) - 1 :]
        if texts == own:
            other_rules = latest.spec_digest != bound.spec.digest
            decided = Decided(
                latest.run, latest.started_at, outcome, rule, confidence, reason, shown_key(theirs[:half]),
                privacy.evidence(bound, evidence), other_rules, said,
            )  # fmt: skip
        elif (
            rule is not None and None not in theirs[half:] and None not in texts
        ):  # one without a partner takes nothing
            taken[theirs[half:]] = (shown_key(mine), rule)
    return latest.run, decided, taken if bound.spec.cardinality == "one_to_one" else {}


def _same_keys(session: Session, bound: Bound, run: str) -> bool:
    """Whether the decisions have this spec's key columns; the run may be one of another spec of this name."""
    names = [*bound.key_names("t"), *bound.key_names("s")]
    found = session.rows(
        "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped",
        tables.own("decisions", run).sql(DIALECT),
    )
    return {*names, *_DECIDED} <= {row[0] for row in found}


def _decisions(session: Session, bound: Bound, run: str, own: Key, keys: Sequence[Key]) -> list[tuple[Any, ...]]:
    """The record's own decision, and those that hold one of the keys, in one scan: keys as they are and as text."""
    mine, other = bound.population, bound.other
    columns: list[exp.Expr] = []
    for side in (mine, other):
        named = [column("d", name) for name in bound.key_names(side)]
        columns += [*named, *[exp.cast(part.copy(), "text") for part in named]]
    columns += [*[column("d", name) for name in _DECIDED], because(bound)]
    is_own = exp.and_(
        *[
            exp.EQ(this=column("d", name), expression=typed(bound, mine, place))
            for place, name in enumerate(bound.key_names(mine))
        ]
    )
    relation, first = bound.relation[other], _keys(bound, other)[0]
    holds = among(column("d", bound.key_names(other)[0]), relation, first, len(own) + 1)
    table = tables.own("decisions", run)
    table.set("alias", exp.TableAlias(this=identifier("d")))
    query = exp.Select(expressions=columns).from_(table).where(exp.or_(is_own, holds))
    wanted = set(keys)
    number = len(keys[0]) if keys else 0
    found = session.rows(query.sql(DIALECT), *own, [key[0] for key in keys])
    texts = slice(len(own) * 2 + number, len(own) * 2 + 2 * number)
    return [row for row in found if row[len(own) : 2 * len(own)] == own or row[texts] in wanted]


def _keys(bound: Bound, side: Side) -> list[str]:
    return bound.spec.target.keys if side == "t" else bound.spec.source.keys


def typed(bound: Bound, side: Side, place: int) -> exp.Expr:
    """Parameter number `place` + 1 as the type of that part of a side's key."""
    kind = bound.relation[side].type_of(_keys(bound, side)[place])
    return exp.Cast(this=exp.Parameter(this=exp.Literal.number(place + 1)), to=kind)


# -- links and people ------------------------------------------------------------------------------------


def _holders(session: Session, bound: Bound, keys: Sequence[Key]) -> dict[Key, Any]:
    """Which of these records are linked, and to which target; any row of the target counts."""
    if bound.link is None or not keys:
        return {}
    held = bound.link if bound.other == "s" else bound.target_keys[0]
    parts = [exp.cast(part, "text") for part in bound.target_keys]
    name = _keys(bound, bound.other)[0]
    query = (
        exp.Select(expressions=[*bound.target_keys, *parts, exp.cast(bound.link, "text")])
        .from_(bound.target.aliased("t"))
        .where(
            among(held, bound.relation[bound.other], name, 1),
            exp.Not(this=exp.Is(this=bound.link, expression=exp.Null())),
        )
    )
    number = len(bound.target_keys)
    found: dict[Key, Any] = {}
    for row in session.rows(query.sql(DIALECT), [key[0] for key in keys]):
        # The other side is the source that is held, or (for a source's record) the target that holds another.
        if bound.other == "s":
            found.setdefault((row[-1],), shown_key(row[:number]))
        else:
            found[row[number : 2 * number]] = row[-1]
    return found


def _overrides(session: Session, bound: Bound, own: Key, keys: Sequence[Key]) -> list[Override]:
    """Active decisions of people about the record, and exclusions among these other records."""
    if session.value("SELECT to_regclass('recon.overrides')::text") is None:
        return []
    of_target = bound.population == "t"
    rows = session.rows(_OVERRIDES, bound.spec.name, list(own), [key[0] for key in keys], of_target)
    wanted = set(keys)  # the statement looks at the first part of a key; the whole is compared here
    return [
        Override(kind, shown_key(target or (None,)), shown_key(source or (None,)), *rest)
        for kind, target, source, *rest in rows
        if tuple((target if of_target else source) or ()) == own
        or tuple((source if of_target else target) or ()) in wanted
    ]
