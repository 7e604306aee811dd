"""The types of a bound spec's expressions, as the server describes them; differences are refused, never cast away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from psycopg import errors as pg_errors
from sqlglot import exp

from recon import expressions
from recon.database import relations
from recon.database.connect import Session
from recon.errors import SchemaMismatch
from recon.expressions import TEXT_TYPES, Expression
from recon.matching import formats
from recon.matching.bound import Bound, BoundPass, Compared, Term
from recon.matching.windows import FLOATS, INTEGERS, BoundWindow, family
from recon.names import DIALECT, operand

# Without an equality, or with one that is not: two circles of one size are "equal" to PostgreSQL.
_UNCOMPARABLE = frozenset({"json", "xml", "point", "polygon", "box", "circle", "path", "line", "lseg"})

# Stands for the distance of the first window until the types of its two values are known.
NEAREST: exp.Expr = exp.Column(this=exp.Identifier(this="nearest", quoted=True))


class _Kinds:
    """Expressions and where they stand, to be described in one question to the server."""

    def __init__(self, session: Session, bound: Bound) -> None:
        self._session, self._bound = session, bound
        self._places: list[tuple[str, exp.Expr, bool]] = []
        self._kinds: dict[int, str] = {}

    def add(self, place: str, tree: exp.Expr, *, condition: bool = False) -> None:
        """Note an expression; a condition must turn out to be true or false."""
        self._places.append((place, tree, condition))

    def ask(self) -> None:
        types = _types(self._session, self._bound, [(place, tree) for place, tree, _ in self._places])
        for (place, tree, condition), kind in zip(self._places, types, strict=True):
            self._kinds[id(tree)] = kind
            if condition and kind != "bool":
                raise SchemaMismatch(f"{place}: {tree.sql(DIALECT)} is {kind}, not a condition.")

    def of(self, tree: exp.Expr) -> str:
        return self._kinds[id(tree)]


def check(session: Session, bound: Bound) -> Bound:
    """The bound spec with text compared by bytes and windows measured as their types are.

    Raises:
        SchemaMismatch: types differ, or the server cannot use an expression.
    """
    kinds = _Kinds(session, bound)
    for rule in bound.passes:
        _note_pass(kinds, rule)
    for compared in bound.compared:
        kinds.add(f"compare {compared.name}", compared.target)
        kinds.add(f"compare {compared.name}", compared.source)
        if compared.unless is not None:
            kinds.add(f"compare {compared.name}, unless", compared.unless, condition=True)
    for rule in bound.valid:
        kinds.add(f"valid {rule.issue!r}", rule.tree, condition=True)
    for place, tree in (("target where", bound.target_where), ("source where", bound.source_where)):
        if tree is not None:
            kinds.add(place, tree, condition=True)
    _note_sentences(kinds, bound)
    kinds.ask()
    passes = tuple(_checked_pass(kinds, rule) for rule in bound.passes)
    compared = tuple(_checked_comparison(kinds, item) for item in bound.compared)
    if bound.spec.link:
        _check_link(bound)
    return replace(bound, passes=passes, compared=compared)


def _note_pass(kinds: _Kinds, rule: BoundPass) -> None:
    for left, right, text in zip(rule.targets, rule.sources, rule.target_names, strict=True):
        kinds.add(f"pass {rule.name}, on {text}", left)
        kinds.add(f"pass {rule.name}, on {text}", right)
    for window in rule.windows:
        kinds.add(f"pass {rule.name}, within {window.text}", window.target)
        kinds.add(f"pass {rule.name}, within {window.text}", window.source)
    for term in rule.prefer:
        if term.tree != NEAREST:
            kinds.add(f"pass {rule.name}, prefer", term.tree)
    for part in (*rule.when_target, *rule.when_source, *rule.when_both):
        kinds.add(f"pass {rule.name}, when", part, condition=True)


def _note_sentences(kinds: _Kinds, bound: Bound) -> None:
    spec = bound.spec
    for name, text in spec.expect.right.items():
        kinds.add(f"expect right {name}", bound.resolve(expressions.parse(text, "t")), condition=True)
    for text in spec.show:
        kinds.add(f"show {text}", bound.resolve(expressions.parse(text, "t")))
    for number, item in enumerate(spec.interpret, start=1):
        kinds.add(f"interpret {number}, when", bound.resolve(expressions.parse(item.when, "t")), condition=True)
        for part in expressions.parse_template(item.say).parts:
            if isinstance(part, Expression):
                kinds.add(f"interpret {number}, say", bound.resolve(part))


def _checked_pass(kinds: _Kinds, rule: BoundPass) -> BoundPass:
    targets: list[exp.Expr] = []
    sources: list[exp.Expr] = []
    for left, right, text in zip(rule.targets, rule.sources, rule.target_names, strict=True):
        _same_kind(f"Pass {rule.name}, on {text}", kinds.of(left), kinds.of(right))
        targets.append(_by_bytes(left, kinds.of(left)))
        sources.append(_by_bytes(right, kinds.of(right)))
    windows = [_checked_window(kinds, f"Pass {rule.name}, within {item.text}", item) for item in rule.windows]
    terms: list[Term] = []
    for term in rule.prefer:
        if term.tree == NEAREST:
            terms.append(replace(term, tree=windows[0].distance()))
        else:
            terms.append(replace(term, tree=_by_bytes(term.tree, kinds.of(term.tree))))
    return replace(rule, targets=tuple(targets), sources=tuple(sources), windows=tuple(windows), prefer=tuple(terms))


def _checked_window(kinds: _Kinds, place: str, window: BoundWindow) -> BoundWindow:
    left, right = kinds.of(window.target), kinds.of(window.source)
    measured = family(left)
    if measured is None or family(right) is None:
        wrong = left if measured is None else right
        raise SchemaMismatch(f"{place}: nothing is measured between values of type {wrong}.", todo="Cast it.")
    if measured != family(right) or (measured == "time" and left != right):
        raise SchemaMismatch(
            f"{place}: the target is {left}, the source is {right}.",
            why="A distance is measured between values of one kind.",
            todo="Cast one side in the expression.",
        )
    for bound in (window.before, window.after):
        fitting = {"number": ("number", "percent"), "date": ("interval",), "time": ("interval",)}[measured]
        if bound.amount and bound.kind not in fitting:
            raise SchemaMismatch(
                f"{place}: a tolerance of {bound} does not fit values of type {left}.",
                todo="Write a number or a percentage for numbers, an interval for dates and times.",
            )
    return window.typed(left, right)


def _checked_comparison(kinds: _Kinds, item: Compared) -> Compared:
    left, right = kinds.of(item.target), kinds.of(item.source)
    place = f"compare {item.name}"
    # Integers and exact decimals are one kind of number: 5 and 5.00 are the same to the last digit.
    if {_kind(left), _kind(right)} != {"integer", "numeric"}:
        _same_kind(place, left, right)
    window = _checked_window(kinds, place, item.window) if item.window else None
    source = _by_bytes(item.source, right)
    says = [_says_something(source, right)] if item.skip_empty else []
    if item.unless is not None:
        says.append(exp.Is(this=exp.paren(item.unless.copy()), expression=exp.Not(this=exp.true())))
    said = exp.and_(*says) if says else None
    return replace(item, target=_by_bytes(item.target, left), source=source, window=window, says=said)


def _says_something(value: exp.Expr, kind: str) -> exp.Expr:
    """That a value is neither NULL nor a text of nothing but blanks; never NULL."""
    filled = exp.Not(this=exp.Is(this=value.copy(), expression=exp.Null()))
    if kind not in TEXT_TYPES:
        return filled
    return exp.and_(filled, exp.NEQ(this=formats.without_blanks(value), expression=exp.Literal.string("")))


def _kind(name: str) -> str:
    return "integer" if name in INTEGERS else "text" if name in TEXT_TYPES else "float" if name in FLOATS else name


def _same_kind(place: str, left: str, right: str) -> None:
    for kind in (left, right):
        if kind.removeprefix("_") in _UNCOMPARABLE:
            raise SchemaMismatch(f"{place}: values of type {kind} cannot be compared.")
    if _kind(left) != _kind(right):
        raise SchemaMismatch(
            f"{place}: the target is {left}, the source is {right}.",
            why="Values of different types are not compared silently.",
            todo="Add `compare_as: text` to the pass, or cast one side in the expression.",
        )


def _by_bytes(tree: exp.Expr, kind: str) -> exp.Expr:
    """Text in collation "C": every server gives the same answer, and columns of different collations compare at all."""
    if kind == "bpchar":  # its own comparison overlooks blanks at the end, and which one is used hangs on the statement
        tree = exp.cast(tree.copy(), "text")
    return expressions.collate(tree) if kind in TEXT_TYPES else operand(tree)


def _check_link(bound: Bound) -> None:
    link = bound.spec.link
    assert link is not None
    held = bound.target.columns[link.column]
    key = bound.source.columns[bound.spec.source.keys[0]]
    if _kind(held) != _kind(key):
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
    except pg_errors.InsufficientPrivilege:
        raise  # it is no expression that is wrong
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
