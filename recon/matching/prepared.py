"""The standing decisions of people as tables that matching reads, and those that the data no longer allows.

Made in every run, inside its transaction: the kept keys are joined to the records of today by their text, so that a
key whose type was changed still finds its record. What matching then reads has typed keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from recon import expressions
from recon.database.connect import Session
from recon.expressions import TEXT_TYPES
from recon.matching import keys
from recon.matching.bound import Bound, key_names
from recon.names import DIALECT, column, identifier

OVERRIDES = "recon_overrides"  # all standing decisions with what is true of them, in the run's transaction
SHOWN_CONFLICTS = 1_000  # kept with a run in words; the count says how many there are


@dataclass(frozen=True)
class Prepared:
    """Which tables were made (all of them temporary), and the conflicts.

    recon_links(target key…, source key…): pairs that are decided; both records are there, under `where` and free.
    recon_forbidden(target key…, source key…): pairs that no pass may make.
    recon_excluded_targets(target key…), recon_excluded_sources(source key…): records that take no part. A record of
    the population that is linked already is not among them: it stays linked.
    recon_conflicted(key of the population's side…, what): records whose link cannot be; no rule may decide them.
    """

    links: bool = False
    forbidden: bool = False
    excluded_targets: bool = False
    excluded_sources: bool = False
    conflicted: bool = False
    conflicts: Sequence[dict[str, Any]] = ()
    conflict_count: int = 0


def prepare(session: Session, bound: Bound) -> Prepared:
    """Make the tables that are needed; one look and no more where nothing was decided.

    Args:
        session: the transaction of a run, with the plain search path; it may not be read-only.
        bound: the spec and its relations.

    Returns:
        What was made, and the first thousand conflicts: dicts of kind, target_key, source_key (text; composite keys
        are JSON arrays), what, author, reason.
    """
    spec = bound.spec
    if not session.value(_ANY, spec.name):
        return Prepared()
    session.execute(_CREATE.format(OVERRIDES, _resolved(bound).sql(DIALECT)), spec.name)
    if bound.link is not None and spec.cardinality == "one_to_one":
        session.execute(_held_elsewhere(bound).sql(DIALECT))
    to_target = spec.population == "target"
    session.execute(_JUDGE, to_target, spec.cardinality == "one_to_one")
    session.execute(_SORT, to_target)
    session.execute("ANALYZE pg_temp.recon_overrides")
    counts = {row[0]: row[1:] for row in session.rows(_COUNT)}
    for name, (sides, further) in _TABLES.items():
        if name in counts:
            session.execute(_CREATE.format(name, _selected(bound, name, sides or spec.population[0], further)))
            session.execute(_ANALYZE.format(name))
    conflicts = sum(int(against) for _, against in counts.values())
    shown = session.records(_CONFLICTS, SHOWN_CONFLICTS) if conflicts else []
    return Prepared(
        links="recon_links" in counts,
        forbidden="recon_forbidden" in counts,
        excluded_targets="recon_excluded_targets" in counts,
        excluded_sources="recon_excluded_sources" in counts,
        conflicted="recon_conflicted" in counts,
        conflicts=[
            {**row, "target_key": keys.shown(row["target_key"]), "source_key": keys.shown(row["source_key"])}
            for row in shown
        ],
        conflict_count=conflicts,
    )


_ANY = "SELECT EXISTS (SELECT FROM recon.overrides WHERE reconciliation = $1 AND undone_at IS NULL)"
# Only what is built as a tree, or a name of this module, is filled in.
_CREATE = "CREATE TEMPORARY TABLE {} ON COMMIT DROP AS {}"
_ANALYZE = "ANALYZE pg_temp.{}"

# What the data says against each decision ($1: the population is the target; $2: one_to_one). A record of the
# population that is linked stays linked. Two links of one source can stand where the spec was many_to_one before.
_JUDGE = """
    WITH judged AS (
        SELECT id, source_text, kind, CASE kind
            WHEN 'link' THEN CASE
                WHEN fulfilled THEN NULL
                WHEN NOT target_there THEN 'the target does not exist'
                WHEN NOT target_inside THEN 'the target is outside `where`'
                WHEN target_holds THEN 'the target is linked to another source already'
                WHEN NOT source_there THEN 'the source does not exist'
                WHEN NOT source_inside THEN 'the source is outside `where`'
                WHEN held_elsewhere THEN 'another target holds the source already'
            END
            WHEN 'forbid' THEN CASE
                WHEN fulfilled AND CASE WHEN $1 THEN target_inside ELSE source_inside END
                THEN 'the target holds this source already'
            END
            ELSE CASE
                WHEN target_inside AND target_holds THEN 'the target is linked already'
                WHEN NOT $1 AND source_inside AND held_elsewhere THEN 'the source is linked already'
            END
        END AS what
        FROM pg_temp.recon_overrides
    ),
    counted AS (
        SELECT id, what, $2 AND kind = 'link' AND count(*) FILTER (WHERE kind = 'link' AND what IS NULL)
            OVER (PARTITION BY source_text) > 1 AS doubled
        FROM judged
    )
    UPDATE pg_temp.recon_overrides AS made
    SET what = coalesce(counted.what, CASE WHEN doubled THEN 'another target is to be linked to the source too' END)
    FROM counted WHERE counted.id = made.id AND (counted.what IS NOT NULL OR doubled AND NOT made.fulfilled)
"""
# Which table each decision goes to. A linked record of the other side may be excluded all the same. What is fulfilled, or about a record that is gone, needs none.
_SORT = """
    UPDATE pg_temp.recon_overrides SET place = CASE
        WHEN what IS NOT NULL THEN CASE
            WHEN kind = 'link' AND CASE
                WHEN $1 THEN target_inside AND NOT target_holds ELSE source_inside AND NOT held_elsewhere
            END THEN 'recon_conflicted'
            WHEN kind = 'exclude' AND target_inside AND NOT $1 THEN 'recon_excluded_targets'
        END
        WHEN kind = 'link' AND NOT fulfilled THEN 'recon_links'
        WHEN kind = 'forbid' AND target_there AND source_there THEN 'recon_forbidden'
        WHEN kind = 'exclude' AND target_there THEN 'recon_excluded_targets'
        WHEN kind = 'exclude' AND source_there THEN 'recon_excluded_sources'
    END
"""
_COUNT = "SELECT place, count(*), count(what) FROM pg_temp.recon_overrides GROUP BY place"
# The sides whose keys each table has ("": the population's), and what else.
_TABLES = {
    "recon_links": ("ts", ()),
    "recon_forbidden": ("ts", ()),
    "recon_excluded_targets": ("t", ()),
    "recon_excluded_sources": ("s", ()),
    "recon_conflicted": ("", ("what",)),
}
_CONFLICTS = """
    SELECT kind, target_text AS target_key, source_text AS source_key, what, author, reason
    FROM pg_temp.recon_overrides WHERE what IS NOT NULL ORDER BY id LIMIT $1::bigint
"""


def _resolved(bound: Bound) -> exp.Select:
    """Each standing decision once, with the typed keys of its records and what is true of them.

    `where` can make a key unique that is not unique without it: the record under `where` is the one that is meant.
    """
    made = _made(exp.Table(this=identifier("overrides"), db=identifier("recon")))
    select = exp.Select(
        expressions=[
            *[column("made", name) for name in ("id", "kind", "author", "reason")],
            _named(column("made", "target_key"), "target_text"),
            _named(column("made", "source_key"), "source_text"),
        ]
    ).from_(made)
    order: list[exp.Expr] = [column("made", "id")]
    sides = (
        ("target", bound.target, bound.target_keys, bound.target_where),
        ("source", bound.source, bound.source_keys, bound.source_where),
    )
    for word, relation, key, where in sides:
        same = keys.same(column("made", f"{word}_key"), key)
        select = select.join(relation.aliased(relation.side), on=same, join_type="left")
        there = exp.Not(this=exp.Is(this=key[0].copy(), expression=exp.Null()))
        inside = there if where is None else exp.and_(there.copy(), exp.paren(where.copy()))
        inside = exp.Coalesce(this=inside, expressions=[exp.false()])
        select = select.select(
            *[_named(part, name) for part, name in zip(key, key_names(f"{word}_key", len(key)), strict=True)],
            _named(there, f"{word}_there"),
            _named(inside, f"{word}_inside"),
        )
        order.append(exp.Ordered(this=inside.copy(), desc=True))
    link = bound.link
    holds = exp.false() if link is None else exp.Not(this=exp.Is(this=link, expression=exp.Null()))
    return (
        select.select(
            _named(holds, "target_holds"),
            _named(_fulfilled(bound), "fulfilled"),
            _named(exp.false(), "held_elsewhere"),
            _named(exp.cast(exp.Null(), "text"), "what"),
            _named(exp.cast(exp.Null(), "text"), "place"),
        )
        .where(
            exp.EQ(this=column("made", "reconciliation"), expression=exp.Parameter(this=exp.Literal.number(1))),
            exp.Is(this=column("made", "undone_at"), expression=exp.Null()),
        )
        .distinct(column("made", "id"))
        .order_by(*order)
    )


def _named(tree: exp.Expr, name: str) -> exp.Alias:
    return exp.Alias(this=tree.copy(), alias=identifier(name))


def _fulfilled(bound: Bound) -> exp.Expr:
    """The target holds just this source: by its text, for the source may be gone, or by value (1.5 is 1.50)."""
    if bound.link is None:
        return exp.false()
    held: exp.Expr = exp.EQ(this=column("made", "source_key"), expression=keys.as_text([bound.link]))
    if not _is_text(bound):
        held = exp.or_(held, exp.EQ(this=bound.link, expression=bound.source_keys[0]))
    return exp.Coalesce(this=held, expressions=[exp.false()])


def _held_elsewhere(bound: Bound) -> exp.Update:
    """Mark the decisions whose source another target holds, be that under `where` or not."""
    link = bound.spec.link
    assert link is not None
    held, key = column("h", link.column), column("made", "source_key")
    same = exp.EQ(
        this=expressions.collate(held) if _is_text(bound) else held,
        expression=expressions.collate(key) if _is_text(bound) else key,
    )
    holder = keys.as_text([column("h", name) for name in bound.spec.target.keys])
    another = exp.NullSafeNEQ(this=holder, expression=column("made", "target_text"))
    update = exp.Update(
        this=_made(exp.Table(this=identifier("recon_overrides"))),
        expressions=[exp.EQ(this=exp.Column(this=identifier("held_elsewhere")), expression=exp.true())],
    ).from_(bound.target.aliased("h"))
    update.set("where", exp.Where(this=exp.and_(same, another)))
    return update


def _is_text(bound: Bound) -> bool:
    link = bound.spec.link
    return link is not None and bound.target.columns[link.column] in TEXT_TYPES


def _selected(bound: Bound, place: str, sides: str, further: Sequence[str]) -> str:
    """The keys of the sides (t, s) of the decisions that go to one table, each once."""
    words = {"t": ("target_key", len(bound.target_keys)), "s": ("source_key", len(bound.source_keys))}
    names = [key for side in sides for key in key_names(*words[side])]
    select = exp.Select(expressions=[column("made", name) for name in (*names, *further)])
    select = select.from_(_made(exp.Table(this=identifier("recon_overrides"))))
    select = select.where(exp.EQ(this=column("made", "place"), expression=exp.Literal.string(place)))
    select = select.distinct(*[column("made", name) for name in names])
    return select.order_by(*[column("made", name) for name in (*names, "id")]).sql(DIALECT)


def _made(table: exp.Table) -> exp.Table:
    table.set("alias", exp.TableAlias(this=identifier("made")))
    return table
