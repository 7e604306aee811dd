"""A spec bound to a database: every name resolved, every type known, before any work begins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from psycopg import errors as pg_errors
from sqlglot import exp

from recon import expressions
from recon.database import relations
from recon.database.connect import Session
from recon.database.relations import Relation
from recon.errors import SchemaMismatch, SpecError
from recon.expressions import TEXT_TYPES, Expression, Side
from recon.names import DIALECT, column
from recon.spec import Pass, Reconciliation

_INTEGERS = frozenset({"int2", "int4", "int8"})
_UNCOMPARABLE = frozenset({"json", "xml", "point", "polygon", "box"})


@dataclass(frozen=True)
class Term:
    """One resolved term of `prefer`."""

    tree: exp.Expr
    descending: bool
    nulls_first: bool
    sides: frozenset[Side]

    def ordered(self) -> exp.Ordered:
        return exp.Ordered(this=self.tree.copy(), desc=self.descending, nulls_first=self.nulls_first)


@dataclass(frozen=True)
class BoundPass:
    """One pass with its expressions resolved; `t` and `s` are the aliases of the sides."""

    rule: Pass
    targets: tuple[exp.Expr, ...]
    sources: tuple[exp.Expr, ...]
    target_names: tuple[str, ...]  # the target's `on` expressions as the spec writes them, for people
    when_target: tuple[exp.Expr, ...]
    when_source: tuple[exp.Expr, ...]
    when_both: tuple[exp.Expr, ...]
    prefer: tuple[Term, ...]

    @property
    def name(self) -> str:
        return self.rule.name

    @property
    def confidence(self) -> Decimal:
        return self.rule.confidence

    @property
    def reducible(self) -> bool:
        """Whether the best source of a key is the same for every target: then the source is reduced first."""
        return not self.when_both and all("t" not in term.sides for term in self.prefer)


@dataclass(frozen=True)
class Bound:
    """A spec and its two relations."""

    spec: Reconciliation
    target: Relation
    source: Relation
    target_where: exp.Expr | None
    source_where: exp.Expr | None
    passes: tuple[BoundPass, ...]

    @property
    def relation(self) -> Mapping[Side, Relation]:
        return {"t": self.target, "s": self.source}

    @property
    def target_keys(self) -> list[exp.Column]:
        return [column("t", name) for name in self.spec.target.keys]

    @property
    def source_keys(self) -> list[exp.Column]:
        return [column("s", name) for name in self.spec.source.keys]

    @property
    def link(self) -> exp.Column | None:
        return column("t", self.spec.link.column) if self.spec.link else None

    def resolve(self, expression: Expression) -> exp.Expr:
        """An expression of this spec with its columns resolved; `t` and `s` are the aliases."""
        return expressions.resolve(
            expression,
            {"t": self.target.columns, "s": self.source.columns},
            {"t": self.target.label, "s": self.source.label},
        )

    def columns(self, texts: Sequence[Expression], side: Side) -> list[str]:
        """The columns of one side that these expressions read, by their exact names, sorted."""
        found: set[str] = set()
        for text in texts:
            tree = exp.Paren(this=self.resolve(text))
            found |= {node.name for node in tree.find_all(exp.Column) if node.table == side}
        return sorted(found)


def bind(session: Session, spec: Reconciliation, target: Relation | None = None) -> Bound:
    """Resolve a spec against the database.

    Args:
        session: an open session.
        spec: the reconciliation.
        target: another relation to take the target's place (for one literal record).

    Raises:
        SchemaMismatch: a table or column is missing, or types differ.
        SpecError: the spec asks for what this version does not do.
    """
    _supported(spec)
    session.users_path()
    bound_target = target or relations.records(session, spec.target, "t")
    bound_source = relations.records(session, spec.source, "s")
    empty = Bound(spec, bound_target, bound_source, None, None, ())
    if spec.link:
        expressions.resolve_name(spec.link.column, bound_target.columns, bound_target.label)
        for name in spec.link.also:
            expressions.resolve_name(name, bound_target.columns, bound_target.label)

    def where(text: str | None, side: Side) -> exp.Expr | None:
        return empty.resolve(expressions.parse(text, side)) if text else None

    session.plain_path()  # every relation is named in full from here on
    bound = Bound(
        spec,
        bound_target,
        bound_source,
        where(spec.target.where, "t"),
        where(spec.source.where, "s"),
        tuple(_bind_pass(empty, rule) for rule in spec.passes),
    )
    return _check_types(session, bound)


def _supported(spec: Reconciliation) -> None:
    asked: list[str] = []
    if spec.cardinality == "one_to_one":
        asked.append("cardinality: one_to_one")
    if spec.population == "source":
        asked.append("population: source")
    asked += [name for name in ("scope", "valid", "compare", "backfill", "follow_ups") if getattr(spec, name)]
    for rule in spec.passes:
        if rule.within:
            asked.append(f"within (pass {rule.name})")
        asked += [f"prefer: {term.word} (pass {rule.name})" for term in rule.preferences if term.word != "expression"]
    if asked:
        raise SpecError(
            f"This version does not match with {', '.join(asked)}.",
            why="It decides many_to_one links by `on`, `when` and `prefer`.",
            todo="Take these fields out of the spec, or use a later version.",
        )


def _bind_pass(bound: Bound, rule: Pass) -> BoundPass:
    def compared(expression: Expression) -> exp.Expr:
        tree = bound.resolve(expression)
        return exp.cast(tree, exp.DataType.Type.TEXT) if rule.compare_as == "text" else tree

    pairs = rule.pairs
    conditions: dict[frozenset[Side], list[exp.Expr]] = {}
    if rule.when:
        for part in expressions.conjuncts(bound.resolve(expressions.parse(rule.when, "t"))):
            conditions.setdefault(_sides(part), []).append(part)
    one_sided = frozenset[Side]({"t"}), frozenset[Side]({"s"}), frozenset[Side]()
    terms: list[Term] = []
    for preference in rule.preferences:
        if preference.expression is None:
            continue
        tree = bound.resolve(preference.expression)
        terms.append(Term(tree, preference.descending, preference.nulls_first, _sides(tree)))
    return BoundPass(
        rule,
        tuple(compared(left) for left, _ in pairs),
        tuple(compared(right) for _, right in pairs),
        tuple(left.text for left, _ in pairs),
        when_target=tuple(conditions.pop(one_sided[0], []) + conditions.pop(one_sided[2], [])),
        when_source=tuple(conditions.pop(one_sided[1], [])),
        when_both=tuple(part for parts in conditions.values() for part in parts),
        prefer=tuple(terms),
    )


def _sides(tree: exp.Expr) -> frozenset[Side]:
    columns = exp.Paren(this=tree.copy()).find_all(exp.Column)
    return frozenset[Side]("t" if node.table == "t" else "s" for node in columns)


# -- types -----------------------------------------------------------------------------------------------


def _family(name: str) -> str:
    return "integer" if name in _INTEGERS else "text" if name in TEXT_TYPES else name


def _check_types(session: Session, bound: Bound) -> Bound:
    """Ask the server for the type of every expression, and refuse equalities between different types."""
    places: list[tuple[str, exp.Expr]] = []
    for rule in bound.passes:
        for left, right, text in zip(rule.targets, rule.sources, rule.target_names, strict=True):
            places += [(f"pass {rule.name}, on {text}", left), (f"pass {rule.name}, on {text}", right)]
        places += [(f"pass {rule.name}, prefer", term.tree) for term in rule.prefer]
        places += [
            (f"pass {rule.name}, when", part) for part in (*rule.when_target, *rule.when_source, *rule.when_both)
        ]
    for place, tree in (("target where", bound.target_where), ("source where", bound.source_where)):
        if tree is not None:
            places.append((place, tree))
    spec = bound.spec
    for name, text in spec.expect.right.items():
        places.append((f"expect right {name}", bound.resolve(expressions.parse(text, "t"))))
    for text in spec.show:
        places.append((f"show {text}", bound.resolve(expressions.parse(text, "t"))))
    for number, item in enumerate(spec.interpret, start=1):
        places.append((f"interpret {number}, when", bound.resolve(expressions.parse(item.when, "t"))))
        for part in expressions.parse_template(item.say).parts:
            if isinstance(part, Expression):
                places.append((f"interpret {number}, say", bound.resolve(part)))
    types = _types(session, bound, places)
    by_place = list(zip(places, types, strict=True))
    passes: list[BoundPass] = []
    position = 0
    for rule in bound.passes:
        texts: list[bool] = []
        for text in rule.target_names:
            left, right = types[position], types[position + 1]
            position += 2
            texts.append(left in TEXT_TYPES)
            if left in _UNCOMPARABLE or right in _UNCOMPARABLE:
                raise SchemaMismatch(f"Pass {rule.name}, on {text}: values of type {left} cannot be compared.")
            if _family(left) != _family(right):
                raise SchemaMismatch(
                    f"Pass {rule.name}, on {text}: the target is {left}, the source is {right}.",
                    why="Values of different types are not compared silently.",
                    todo="Add `compare_as: text` to the pass, or cast one side in the expression.",
                )
        kinds = types[position : position + len(rule.prefer)]
        # Text is compared and ordered by bytes, so that every server gives the same answer, and columns of
        # different collations can be compared at all.
        passes.append(
            replace(
                rule,
                targets=_by_bytes(rule.targets, texts),
                sources=_by_bytes(rule.sources, texts),
                prefer=tuple(
                    replace(term, tree=expressions.collate(term.tree)) if kind in TEXT_TYPES else term
                    for term, kind in zip(rule.prefer, kinds, strict=True)
                ),
            )
        )
        position += len(rule.prefer) + len(rule.when_target) + len(rule.when_source) + len(rule.when_both)
    for (place, tree), kind in by_place:
        if kind != "bool" and (place.endswith((" when", "where")) or place.startswith("expect")):
            raise SchemaMismatch(f"{place}: {tree.sql(DIALECT)} is {kind}, not a condition.")
    if spec.link:
        _check_link(bound)
    return replace(bound, passes=tuple(passes))


def _by_bytes(trees: Sequence[exp.Expr], texts: Sequence[bool]) -> tuple[exp.Expr, ...]:
    return tuple(expressions.collate(tree) if text else tree for tree, text in zip(trees, texts, strict=True))


def _check_link(bound: Bound) -> None:
    link = bound.spec.link
    assert link is not None
    held = bound.target.columns[link.column]
    key = bound.source.columns[bound.spec.source.keys[0]]
    if _family(held) != _family(key):
        raise SchemaMismatch(
            f'The link column "{link.column}" is {held}, the source key "{bound.spec.source.keys[0]}" is {key}.',
            why="A link holds the source key itself.",
            todo="Name another link column or key.",
        )


def _types(session: Session, bound: Bound, places: Sequence[tuple[str, exp.Expr]]) -> list[str]:
    """The type name of each expression, as the server describes it; nothing is executed."""
    if not places:
        return []
    try:
        with session.driver.transaction():  # a savepoint: the session stays usable after an error
            return _described(session, bound, [tree for _, tree in places])
    except pg_errors.Error:
        pass
    for place, tree in places:  # one of them is wrong: find out which
        try:
            with session.driver.transaction():
                _described(session, bound, [tree])
        except pg_errors.Error as error:
            raise SchemaMismatch(
                f"{place}: PostgreSQL cannot use {tree.sql(DIALECT)}.",
                why=f"It says: {error.diag.message_primary}.",
                todo="Correct the expression, or cast its values.",
            ) from error
    raise AssertionError("the expressions fail together but not one by one")


def _described(session: Session, bound: Bound, trees: Sequence[exp.Expr]) -> list[str]:
    query = (
        exp.Select(
            expressions=[exp.alias_(tree.copy(), f"e{number}", quoted=True) for number, tree in enumerate(trees)]
        )
        .from_(bound.target.aliased("t"))
        .join(bound.source.aliased("s"), join_type="cross")
        .limit(0)
    )
    cursor = session.execute(query.sql(DIALECT))
    codes = [column.type_code for column in cursor.description or []]
    names = relations.type_names(session, codes)
    return [names[code][0] for code in codes]
