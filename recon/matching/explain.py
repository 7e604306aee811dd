"""Why? One record, pass by pass: what it asked for, which candidates there are, what stands in the way.

The data are read as they are now. Only who took a candidate is told by the latest run, which is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from psycopg import errors as pg_errors
from sqlglot import exp

from recon import expressions
from recon.allowed import shortened
from recon.database.connect import Session
from recon.errors import NotFound, UsageError
from recon.matching import keys, nearest, standing
from recon.matching.because import called
from recon.matching.bound import Bound
from recon.matching.literal import columns_of, in_place_of, literal
from recon.matching.pairs import interpretation, labels, shown_key
from recon.matching.privacy import veiled
from recon.matching.standing import Decided, Override
from recon.matching.verdict import PassExplained, of_pass
from recon.names import DIALECT, Side, column


@dataclass(frozen=True)
class Explanation:
    """One record of the population: what people see of it, its link, the latest run's decision, and every pass."""

    key: str
    side: str  # target or source: which one the population is
    record: Mapping[str, Any]
    link: Any  # the source that it is linked to; of a source's record, the target that holds it
    run: str | None  # the run that tells who took what; None: there is none yet
    decided: Decided | None
    overrides: tuple[Override, ...]
    passes: tuple[PassExplained, ...]
    means: str | None = None  # what `interpret` says of the record without any partner
    words: tuple[str, str] = ("record", "record")  # what people call a record of this side, and of the other

    def as_dict(self) -> dict[str, Any]:
        """The document of `recon explain --json`."""
        return asdict(self)

    def candidates(self) -> list[dict[str, Any]]:
        """One row for each candidate of each pass: the pass, its key, its standing, and what people see of it."""
        return [
            {"pass": step.name, "candidate": item.key, "standing": item.standing, **item.shown}
            for step in self.passes
            for item in step.candidates
        ]


def explain(session: Session, bound: Bound, key: str) -> Explanation:
    """Explain one record of the population by its key (a composite key as a JSON array).

    Args:
        session: may be read-only.
        bound: the spec.
        key: of the target, or of the source where the spec says `population: source`.

    Raises:
        NotFound: no record under `where` has this key.
        UsageError: the key cannot be read as one of this side's keys.
    """
    parts = _key_parts(bound, key)
    _readable(session, bound, key, parts)
    # Planning a scan for the compiler takes longer than the scan.
    session.execute("SELECT set_config('jit', 'off', true)")
    names, values, link = _record(session, bound, key, parts)
    alone = in_place_of(bound, bound.population, literal(bound.relation[bound.population], names))
    asked = _asked(session, alone, values)
    found = nearest.find(session, alone, values, asked)
    own_key = tuple(values[names.index(name)] for name in key_columns(bound, bound.population))
    around = standing.look(session, bound, own_key, [row["other_key"] for item in found for row in item.rows])
    shown = _shown(session, alone, values)
    if bound.population == "s":
        link = _holder(session, bound, own_key)
    return Explanation(
        key,
        bound.spec.population,
        shown,
        link,
        around.run,
        around.decided,
        around.overrides,
        tuple(of_pass(bound, item, around, own_key, own) for item, own in zip(found, asked, strict=True)),
        _means(session, alone, values),
        (called(bound, bound.population, "record"), called(bound, bound.other, "record")),
    )


def key_columns(bound: Bound, side: Side) -> list[str]:
    """The key columns of a side, as the spec names them."""
    return bound.spec.target.keys if side == "t" else bound.spec.source.keys


# -- the record ------------------------------------------------------------------------------------------


def _key_parts(bound: Bound, key: str) -> list[str]:
    names = key_columns(bound, bound.population)
    if len(names) == 1:
        return [key]
    parts = keys.in_array(key)
    if parts is None or len(parts) != len(names):
        raise UsageError(
            f"Cannot read {shortened(key)} as a key.",
            todo=f"Give a JSON array of {len(names)} values: {', '.join(names)}.",
        )
    return parts


def _key_values(bound: Bound) -> list[exp.Expr]:
    """The parameters, which come as text, cast to the types of the key."""
    relation = bound.relation[bound.population]
    return [
        exp.cast(exp.cast(exp.Parameter(this=exp.Literal.number(number)), "text"), relation.type_of(name))
        for number, name in enumerate(key_columns(bound, bound.population), start=1)
    ]


def _readable(session: Session, bound: Bound, key: str, parts: Sequence[str]) -> None:
    """Refuse a key that its type cannot hold. Asked on its own, so that no other error is taken for this one."""
    query = exp.Select(expressions=_key_values(bound)).sql(DIALECT)
    relation = bound.relation[bound.population]
    try:
        with session.driver.transaction():  # a savepoint: the session stays usable after an error
            session.rows(query, *parts)
    except (psycopg.DataError, pg_errors.CheckViolation, pg_errors.NotNullViolation, UnicodeEncodeError) as error:
        kinds = [f"{name} is {relation.sql_types[name]}" for name in key_columns(bound, bound.population)]
        raise UsageError(
            f"{key!r} is not a key of {relation.label}.", why=f"There {' and '.join(kinds)}.", todo="Check the key."
        ) from error


def read_columns(bound: Bound) -> list[str]:
    """The columns of the record that anything here reads; their values, in this order, are bound to what is asked."""
    side = bound.population
    trees = [
        *bound.keys(side),
        *[bound.resolve(expressions.parse(text, "t")) for text in bound.spec.show],
        interpretation(bound),
    ]
    for rule in bound.passes:
        trees += [*rule.candidate(), *[term.tree for term in rule.prefer]]
    return columns_of(side, trees)


def _record(session: Session, bound: Bound, key: str, parts: Sequence[str]) -> tuple[list[str], list[str | None], Any]:
    """The columns of the record that anything here reads, their values as text, and the link it holds."""
    side = bound.population
    relation = bound.relation[side]
    names = read_columns(bound)
    where = bound.where(side)
    link = bound.link if bound.link is not None and side == "t" else exp.Null()
    query = (
        exp.Select(
            expressions=[
                exp.Is(this=exp.paren(where[0]), expression=exp.true()) if where else exp.true(),
                link,
                *[exp.cast(column(side, name), "text") for name in names],
            ]
        )
        .from_(relation.aliased(side))
        .where(*[exp.EQ(this=a, expression=b) for a, b in zip(bound.keys(side), _key_values(bound), strict=True)])
    )
    found = session.rows(query.limit(1).sql(DIALECT), *parts)
    if not found:
        raise NotFound(f"{relation.label} has no record {key} that takes part.", todo="Check the key.")
    takes_part, held, *values = found[0]
    if not takes_part:
        raise NotFound(
            f"{relation.label} has no record {key} that takes part.",
            why="The record is there, and the spec leaves it out by its `where`.",
            todo="Check the key, or the `where` of the spec.",
        )
    return names, values, held


def _asked(session: Session, alone: Bound, values: Sequence[object]) -> list[tuple[Any, ...]]:
    """The record's own values of the `on` expressions, for each pass, as people may see them."""
    parts = [
        veiled(alone, part, *both).copy()
        for rule in alone.passes
        for part, *both in zip(rule.on(alone.population), rule.targets, rule.sources, strict=True)
    ]
    found: Sequence[Any] = ()
    if parts:
        query = exp.Select(expressions=parts).from_(alone.relation[alone.population].aliased(alone.population))
        found = session.rows(query.sql(DIALECT), *values)[0]
    asked: list[tuple[Any, ...]] = []
    for rule in alone.passes:
        number = len(rule.targets)
        asked.append(tuple(found[:number]))
        found = found[number:]
    return asked


def _shown(session: Session, alone: Bound, values: Sequence[object]) -> dict[str, Any]:
    """What `show` names of the record itself."""
    shown = {
        name: bound_tree
        for text, name in zip(alone.spec.show, labels(alone.spec.show), strict=True)
        if expressions.parse(text, "t").sides() <= {alone.population}
        for bound_tree in [veiled(alone, alone.resolve(expressions.parse(text, "t")))]
    }
    if not shown:
        return {}
    query = exp.Select(expressions=[exp.alias_(tree, name, quoted=True) for name, tree in shown.items()])
    query = query.from_(alone.relation[alone.population].aliased(alone.population))
    return session.records(query.sql(DIALECT), *values)[0]


def _means(session: Session, alone: Bound, values: Sequence[object]) -> str | None:
    """What `interpret` says of the record itself: that a field of it is empty, for one."""
    other = alone.other
    query = exp.Select(expressions=[interpretation(alone)]).from_(
        alone.relation[alone.population].aliased(alone.population)
    )
    query = query.join(alone.relation[other].aliased(other), on=exp.false(), join_type="left")
    return session.value(query.sql(DIALECT), *values)


def _holder(session: Session, bound: Bound, own: standing.Key) -> Any:
    """The target that holds this source in its link column, under the target's `where` or not; None: nobody."""
    if bound.link is None:
        return None
    query = exp.Select(expressions=list(bound.target_keys)).from_(bound.target.aliased("t"))
    query = query.where(exp.EQ(this=bound.link, expression=standing.typed(bound, "s", 0)))
    query = query.order_by(*bound.target_keys).limit(1)
    found = session.rows(query.sql(DIALECT), *own)
    return shown_key(found[0]) if found else None
