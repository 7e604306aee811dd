"""The small SQL-expression language of a spec: read an expression, resolve its column names, take it apart.

An expression is one SQL scalar expression over `t.` (target) and `s.` (source); `recon.allowed` says what it may hold.
What reaches the database is printed from the checked tree, never the text that somebody typed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from recon import allowed, own_functions
from recon.errors import SchemaMismatch, SpecError, did_you_mean
from recon.names import DIALECT, Side, column

REMEMBERED = 1_000  # expressions that were read; a spec has tens
_ORDER_WORDS = frozenset({"asc", "desc", "nulls", "first", "last"})  # of a `prefer` term, beside its expression


@dataclass(frozen=True)
class Column:
    """A column of one side, with the PostgreSQL type name that the database gave for it."""

    side: Side
    name: str


@dataclass(frozen=True)
class Expression:
    """A checked expression: as it was written, and as a tree in which every column names its side."""

    text: str
    tree: exp.Expr

    def columns(self) -> list[Column]:
        """The columns named, each once, in the order they are read (names as written)."""
        found: dict[Column, None] = {}
        for node in self.tree.find_all(exp.Column, bfs=False):
            found[Column("t" if node.table == "t" else "s", node.name)] = None
        return list(found)

    def sides(self) -> set[Side]:
        return {column.side for column in self.columns()}


@dataclass(frozen=True)
class Preference:
    """One term of `prefer`: an expression with its direction, or one of the words `nearest` and `key`."""

    word: Literal["expression", "nearest", "key"]
    expression: Expression | None = None
    descending: bool = False
    nulls_first: bool = False


@dataclass(frozen=True)
class Template:
    """A sentence with `{expression}` parts: literal text and expressions in turn."""

    text: str
    parts: tuple[str | Expression, ...]


def parse(text: str, side: Side, *, allow_now: bool = False) -> Expression:
    """Read one scalar expression; a bare name belongs to `side`. Raises SpecError with the reason."""
    found = _parsed(text, side, allow_now)
    return Expression(text, found.copy())  # whoever has it may change it


@lru_cache(maxsize=REMEMBERED)
def _parsed(text: str, side: Side, allow_now: bool) -> exp.Expr:
    """The tree of an expression: every step of a run reads those of its spec, and checking one takes a millisecond."""
    allowed.bounded(text)
    try:
        trees = sqlglot.parse(text, dialect=allowed.Reading)
    except (SqlglotError, RecursionError) as error:
        raise allowed.unreadable(text) from error
    if len(trees) != 1 or trees[0] is None:
        raise SpecError(f"Cannot read {text!r} as an expression.", why="It must be exactly one expression.")
    return allowed.checked(trees[0], text, side, allow_now)


def parse_prefer(text: str, side: Side = "s") -> Preference:
    """Read one `prefer` term. Default order: ascending, NULLs last (also under `desc`)."""
    word = text.strip().lower()
    if word == "nearest":
        return Preference("nearest")
    if word == "key":
        return Preference("key")
    allowed.bounded(text)
    try:
        # sqlglot reads "desc nulls first" only inside an ORDER BY.
        trees = sqlglot.parse(f"SELECT 1 ORDER BY {text}", dialect=allowed.Reading)
    except (SqlglotError, RecursionError) as error:
        raise allowed.unreadable(text) from error
    select = trees[0] if len(trees) == 1 else None
    order = select.args.get("order") if isinstance(select, exp.Select) else None
    extra = (
        [key for key, value in select.args.items() if value and key not in ("expressions", "order")] if select else []
    )
    terms: list[exp.Expr] = order.expressions if order else []
    if extra or len(terms) != 1 or not isinstance(terms[0], exp.Ordered):
        raise SpecError(
            f"Cannot read {text!r} as a preference.",
            todo='Write one term, like "s.end_date desc nulls first".',
        )
    ordered = terms[0]
    tree = allowed.checked(ordered.this, text, side, allow_now=False, ignored=_ORDER_WORDS)
    # sqlglot fills in PostgreSQL's default where nothing is said; ours differs, so the words themselves count.
    words = [token.text.upper() for token in sqlglot.tokenize(text, read=DIALECT) if token.text != ";"]
    nulls_first = words[-2:] == ["NULLS", "FIRST"]
    return Preference("expression", Expression(text, tree), bool(ordered.args.get("desc")), nulls_first)


def parse_template(text: str) -> Template:
    """Read a sentence with `{expression}` parts; `{{` and `}}` stand for the braces themselves."""
    parts: list[str | Expression] = []
    for piece in re.split(r"(\{\{|\}\}|\{[^{}]*\})", text):
        if piece in ("{{", "}}"):
            parts.append(piece[0])
        elif piece.startswith("{"):
            parts.append(parse(piece[1:-1], "t"))
        elif piece:
            if "{" in piece or "}" in piece:
                raise SpecError(f"Cannot read the sentence {text!r}.", why="A brace is not closed.")
            parts.append(piece)
    return Template(text, tuple(parts))


def resolve_name(name: str, known: Mapping[str, str], relation: str, *, quoted: bool = True) -> str:
    """The column that a written name means: an exact match, else (unquoted) its lower-case form, as in SQL."""
    if name in known:
        return name
    if not quoted and name.lower() in known:
        return name.lower()
    raise SchemaMismatch(
        f'{relation} has no column "{name}".',
        why=did_you_mean(name, known) or "Its columns are: " + ", ".join(sorted(known)[:12]) + ".",
        todo="Correct the name in the spec.",
    )


TEXT_TYPES = frozenset({"text", "varchar", "bpchar", "name"})
_ORDERING = (exp.LT, exp.LTE, exp.GT, exp.GTE, exp.Between)
_GIVES_TEXT = frozenset(
    """
    btrim coalesce concat concat_ws greatest initcap least left lower lpad ltrim nullif overlay regexp_replace repeat
    replace reverse right rpad rtrim split_part substr substring to_char translate trim upper
    """.split()
)


def resolve(
    expression: Expression,
    columns: Mapping[Side, Mapping[str, str]],
    relations: Mapping[Side, str],
    alias: Callable[[Side, str], exp.Expr] | None = None,
) -> exp.Expr:
    """The tree with every column resolved to its exact name and quoted.

    Args:
        expression: what was parsed.
        columns: per side, column name to PostgreSQL type name.
        relations: per side, what to call the relation in an error.
        alias: how a resolved column is written; default `"t"."name"`.

    Raises:
        SchemaMismatch: a column does not exist, with the nearest right name.
    """
    write = alias or column
    tree = expression.tree.copy()
    holder = exp.Paren(this=tree)  # so that a bare column can be replaced too
    for node in list(holder.find_all(exp.Column)):
        side: Side = "t" if node.table == "t" else "s"
        quoted = bool(node.this.args.get("quoted"))
        name = resolve_name(node.name, columns[side], relations[side], quoted=quoted)
        node.replace(write(side, name))
    holder = exp.Paren(this=own_functions.written_out(holder.this, _read))
    for node in list(holder.find_all(*_ORDERING)):
        for operand in node.iter_expressions():
            # Text is ordered by bytes everywhere, so that every server gives the same answer.
            if _is_text(operand, columns):
                operand.replace(collate(operand.copy()))
    return holder.this


def _read(text: str) -> exp.Expr:
    return sqlglot.parse_one(text, dialect=allowed.Reading)


def at_moment(tree: exp.Expr, moment: exp.Expr) -> exp.Expr:
    """The tree with `now()` standing for this moment, which is bound, and not for the server's clock."""
    holder = exp.Paren(this=tree.copy())  # so that a bare now() can be replaced too
    for node in list(holder.find_all(exp.Func)):
        if not isinstance(node, allowed.NODES) and allowed.function_name(node) == "now":
            node.replace(moment.copy())
    return holder.this


def asks_for_now(tree: exp.Expr) -> bool:
    """Whether its value depends on when it is looked at."""
    nodes = exp.Paren(this=tree.copy()).find_all(exp.Func)
    return any(not isinstance(node, allowed.NODES) and allowed.function_name(node) == "now" for node in nodes)


def _is_text(tree: exp.Expr, columns: Mapping[Side, Mapping[str, str]]) -> bool:
    """Whether an operand surely gives text: a column of a text type, or a text function of one."""
    while isinstance(tree, exp.Paren):
        tree = tree.this
    if isinstance(tree, exp.Column):
        side: Side = "t" if tree.table == "t" else "s"
        return columns[side].get(tree.name) in TEXT_TYPES
    if isinstance(tree, exp.Cast):
        return tree.to.this in exp.DataType.TEXT_TYPES
    named = isinstance(tree, exp.Func) and allowed.function_name(tree) in _GIVES_TEXT
    return (named or isinstance(tree, exp.DPipe)) and any(
        _is_text(child, columns) or (isinstance(child, exp.Literal) and child.is_string)
        for child in tree.iter_expressions()
    )


def collate(tree: exp.Expr) -> exp.Expr:
    """The expression in collation "C": ordered by bytes, whatever the database's locale."""
    return exp.Collate(
        this=exp.paren(tree) if not isinstance(tree, exp.Column) else tree,
        expression=exp.Identifier(this="C", quoted=True),
    )


def conjuncts(tree: exp.Expr) -> Iterator[exp.Expr]:
    """The parts of an AND, so that each can be tested where its columns are at hand."""
    while isinstance(tree, exp.Paren):
        tree = tree.this
    if isinstance(tree, exp.And):
        yield from conjuncts(tree.left)
        yield from conjuncts(tree.right)
    else:
        yield tree


def parse_query(text: str) -> exp.Query:
    """Read the `query` of a side: one SELECT that writes nothing and calls no volatile function."""
    allowed.bounded(text)
    try:
        trees = sqlglot.parse(text, dialect=allowed.Reading)
    except (SqlglotError, RecursionError) as error:
        raise SpecError(f"Cannot read the query {text!r}.", todo="Write one SELECT statement.") from error
    tree = trees[0] if len(trees) == 1 else None
    if not isinstance(tree, exp.Query):
        raise SpecError(f"Cannot read the query {text!r}.", why="It must be exactly one SELECT.")
    allowed.check_query(tree, text)
    whole = own_functions.written_out(tree, _read)
    assert isinstance(whole, exp.Query)  # a call stands inside of it
    return whole
