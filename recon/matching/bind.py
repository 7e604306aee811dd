"""Binding: every name of a spec resolved against the database, every type known, before any work begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from recon import expressions
from recon.database import relations
from recon.database.connect import Session
from recon.database.relations import Relation
from recon.expressions import Expression, Preference
from recon.matching import types
from recon.matching.bound import Bound, BoundPass, Compared, Rule, Term
from recon.matching.windows import BoundWindow
from recon.names import Side, column, quote
from recon.spec import Reconciliation
from recon.spec_parts import Comparison, Pass, Window

NAME_CHARACTERS = 80  # of an expression that people are told as the spec writes it


def bind(session: Session, spec: Reconciliation, *, shows_private: bool = False) -> Bound:
    """Resolve a spec against the database.

    Args:
        session: an open session.
        spec: the reconciliation.
        shows_private: whether what is shown of it may show private columns: `workspace.sees_private`. What decides and
            writes never asks. Who forgets to ask gets veiled values.

    Raises:
        SchemaMismatch: a table or column is missing, or types differ.
        SpecError: the spec asks for what this version does not do.
    """
    session.users_path()
    written = _written(session, spec)
    bound = bind_to(session, spec, relations.records(session, spec, "t"), relations.records(session, spec, "s"))
    return replace(bound, written=written, shows_private=shows_private)


def _written(session: Session, spec: Reconciliation) -> Relation | None:
    """The table that a backfill writes, where the target's records come from a query."""
    if spec.target.writes is None or spec.link is None:
        return None
    written = relations.table(session, spec.target.writes, "t")
    for name in (spec.link.column, *spec.target.keys):
        expressions.resolve_name(name, written.columns, written.label)
    return written


def bind_to(session: Session, spec: Reconciliation, target: Relation, source: Relation) -> Bound:
    """Resolve a spec against two relations, which need not be the ones that it names."""
    bound = Bound(spec, target, source, None, None, ())
    if spec.link:
        for name in (spec.link.column, *spec.link.also):
            expressions.resolve_name(name, target.columns, target.label)
    if spec.scope:
        for relation in (target, source):
            expressions.resolve_name(spec.scope, relation.columns, relation.label)

    def private(side: Side, relation: Relation, names: Sequence[str]) -> frozenset[tuple[Side, str]]:
        return frozenset((side, expressions.resolve_name(name, relation.columns, relation.label)) for name in names)

    def where(text: str | None, side: Side) -> exp.Expr | None:
        return bound.resolve(expressions.parse(text, side)) if text else None

    session.plain_path()  # every relation is named in full from here on
    bound = Bound(
        spec,
        target,
        source,
        where(spec.target.where, "t"),
        where(spec.source.where, "s"),
        tuple(_bind_pass(bound, rule) for rule in spec.passes),
        tuple(_bind_comparison(bound, name, written) for name, written in spec.compare.items()),
        tuple(Rule(item.issue, bound.resolve(expressions.parse(item.rule, "s"))) for item in spec.valid),
        private=private("t", target, spec.target.private) | private("s", source, spec.source.private),
    )
    return types.check(session, bound)


def _bind_pass(bound: Bound, rule: Pass) -> BoundPass:
    def compared(expression: Expression) -> exp.Expr:
        tree = bound.resolve(expression)
        return exp.cast(tree, exp.DataType.Type.TEXT) if rule.compare_as == "text" else tree

    scope = bound.spec.scope
    pairs = [(left.text, right.text, compared(left), compared(right)) for left, right in rule.pairs]
    if scope is not None and not any(
        left == column("t", scope) and right == column("s", scope) for _, _, left, right in pairs
    ):
        pairs.insert(0, (quote(scope), quote(scope), column("t", scope), column("s", scope)))
    conditions: dict[frozenset[Side], list[exp.Expr]] = {}
    if rule.when:
        for part in expressions.conjuncts(bound.resolve(expressions.parse(rule.when, "t"))):
            conditions.setdefault(_sides(part), []).append(exp.paren(part) if isinstance(part, exp.Or) else part)
    one_sided = frozenset[Side]({"t"}), frozenset[Side]({"s"}), frozenset[Side]()
    windows = tuple(
        _window(
            bound.resolve(expressions.parse(item.target, "t")),
            bound.resolve(expressions.parse(item.source, "s")),
            item,
            f"{item.target} and {item.source}",
        )
        for item in rule.windows
    )
    return BoundPass(
        rule,
        tuple(left for _, _, left, _ in pairs),
        tuple(right for _, _, _, right in pairs),
        _names([(text, tree) for text, _, tree, _ in pairs]),
        _names([(text, tree) for _, text, _, tree in pairs]),
        windows,
        when_target=tuple(conditions.pop(one_sided[0], []) + conditions.pop(one_sided[2], [])),
        when_source=tuple(conditions.pop(one_sided[1], [])),
        when_both=tuple(part for parts in conditions.values() for part in parts),
        prefer=tuple(_terms(bound, rule.preferences)),
    )


def _names(written: Sequence[tuple[str, exp.Expr]]) -> tuple[str, ...]:
    """How people call the expressions of one side of a pass: as the spec writes them, long ones by their columns."""

    def name(text: str, tree: exp.Expr) -> str:
        if len(text) <= NAME_CHARACTERS:
            return text
        columns = dict.fromkeys(node.name for node in exp.Paren(this=tree.copy()).find_all(exp.Column, bfs=False))
        return f"{' and '.join(columns)} (as the rule reads it)" if columns else text

    names = tuple(name(text, tree) for text, tree in written)
    return names if len(set(names)) == len(names) else tuple(text for text, _ in written)


def _terms(bound: Bound, preferences: Sequence[Preference]) -> list[Term]:
    """The terms in order. `nearest` stands for the distance that the type check fills in, `key` for the keys."""
    terms: list[Term] = []
    for preference in preferences:
        if preference.word == "nearest":
            terms.append(Term(types.NEAREST.copy(), False, False, frozenset[Side]({"t", "s"})))
        elif preference.word == "key":
            terms += [Term(key, False, False, frozenset[Side]({"s"})) for key in bound.source_keys]
            if bound.spec.cardinality == "one_to_one":
                terms += [Term(key, False, False, frozenset[Side]({"t"})) for key in bound.target_keys]
        elif preference.expression is not None:
            tree = bound.resolve(preference.expression)
            terms.append(Term(tree, preference.descending, preference.nulls_first, _sides(tree)))
    return terms


def _bind_comparison(bound: Bound, name: str, written: str | Comparison) -> Compared:
    name = expressions.resolve_name(name, bound.target.columns, bound.target.label)
    text = written if isinstance(written, str) else written.source
    source = bound.resolve(expressions.parse(text, "s"))
    target = column("t", name)
    window = None
    if isinstance(written, Comparison) and any(amount.amount for amount in written.bounds):
        window = _window(target, source, written, f"{name} and {text}")
    if not isinstance(written, Comparison):
        return Compared(name, target, source, window)
    unless = bound.resolve(expressions.parse(written.unless, "t")) if written.unless is not None else None
    return Compared(name, target, source, window, written.skip_empty, unless)


def _window(target: exp.Expr, source: exp.Expr, written: Window, text: str) -> BoundWindow:
    before, after = written.bounds
    return BoundWindow(target, source, before, after, text)


def _sides(tree: exp.Expr) -> frozenset[Side]:
    columns = exp.Paren(this=tree.copy()).find_all(exp.Column)
    return frozenset[Side]("t" if node.table == "t" else "s" for node in columns)
