"""The small SQL-expression language of a spec: parse it, check it, resolve its column names, quote names.

An expression is one SQL scalar expression over `t.` (target) and `s.` (source). What is allowed is a list
of node types and functions, not a list of what is forbidden: nothing volatile, no subquery, no statement.
What reaches the database is printed from the checked tree, never the text that somebody typed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from recon.errors import SchemaMismatch, SpecError, did_you_mean

DIALECT = "postgres"
MAX_IDENTIFIER_BYTES = 63  # PostgreSQL cuts longer names silently (NAMEDATALEN - 1), so we refuse them
MAX_EXPRESSION_CHARACTERS = 10_000  # far beyond any rule a person reads; bounds the parser's work

Side = Literal["t", "s"]

# Immutable or stable functions that give a scalar. `now` is apart: it is allowed only in `set`.
FUNCTIONS = frozenset(
    """
    abs btrim ceil ceiling char_length character_length coalesce concat concat_ws date_part date_trunc extract floor
    greatest initcap least left length lower lpad ltrim make_date md5 mod nullif overlay position power regexp_replace
    repeat replace reverse right round rpad rtrim sign split_part strpos substr substring timezone to_char to_date
    to_number to_timestamp translate trim trunc upper
    """.split()
)

_NODES: tuple[type[exp.Expr], ...] = (
    exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Null, exp.Paren, exp.Neg, exp.Not, exp.And,
    exp.Or, exp.Is, exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE, exp.NullSafeEQ, exp.NullSafeNEQ,
    exp.Between, exp.In, exp.Like, exp.ILike, exp.Escape, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod,
    exp.DPipe, exp.Case, exp.If, exp.Cast, exp.DataType, exp.DataTypeParam, exp.Interval, exp.Var,
    exp.IntervalSpan, exp.AtTimeZone, exp.RegexpLike, exp.RegexpILike, exp.Tuple,
)  # fmt: skip

_FORBIDDEN_TYPES = re.compile(r"^(reg[a-z]+|oid|xid8?|cid|tid)$", re.IGNORECASE)


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


# -- names -----------------------------------------------------------------------------------------------


def identifier(name: str) -> exp.Identifier:
    """The one function that turns a name into SQL: always quoted, refused where PostgreSQL would change it.

    >>> identifier('order"; drop table x; --').sql("postgres")
    '"order""; drop table x; --"'
    """
    if not name:
        raise SpecError("A name is empty.", todo="Give the table or column its name.")
    if "\x00" in name:
        raise SpecError(f"The name {name!r} holds a NUL character.", why="PostgreSQL has no such names.")
    if len(name.encode()) > MAX_IDENTIFIER_BYTES:
        raise SpecError(
            f'The name "{name}" is {len(name.encode())} bytes long.',
            why=f"PostgreSQL cuts names after {MAX_IDENTIFIER_BYTES} bytes, so it could mean another one.",
            todo=f"Use a name of at most {MAX_IDENTIFIER_BYTES} bytes.",
        )
    return exp.Identifier(this=name, quoted=True)


def quote(name: str) -> str:
    """A name as quoted SQL text, through `identifier`."""
    return identifier(name).sql(DIALECT)


def split_relation(name: str) -> tuple[str | None, str]:
    """Schema and table of a name such as `hubspot.companies`; parts that hold dots stand in double quotes.

    >>> split_relation("hubspot.companies"), split_relation('"odd.schema"."odd.table"')
    (('hubspot', 'companies'), ('odd.schema', 'odd.table'))
    >>> split_relation('order"; drop table x; --')
    (None, 'order"; drop table x; --')
    """
    if name.startswith('"'):
        parts = [part.replace('""', '"') for part in re.findall(r'"((?:[^"]|"")*)"', name)]
        if ".".join(f'"{part.replace(chr(34), chr(34) * 2)}"' for part in parts) != name:
            raise SpecError(
                f"Cannot read the table name {name}.",
                why="A name that starts with a double quote must be quoted part by part.",
                todo='Write it like "my.schema"."my table", doubling double quotes inside.',
            )
    else:
        parts = name.split(".")
    if len(parts) > 2 or not all(parts):
        raise SpecError(
            f"Cannot read the table name {name}.",
            why="A table is named by at most a schema and a table, divided by one dot.",
            todo='Put a part that holds a dot in double quotes: "odd.schema"."odd.table".',
        )
    for part in parts:
        identifier(part)
    return (parts[0], parts[1]) if len(parts) == 2 else (None, parts[0])


def column(table: str, name: str) -> exp.Column:
    """A quoted column of a quoted table alias."""
    return exp.Column(this=identifier(name), table=identifier(table))


# -- parsing and checking --------------------------------------------------------------------------------


def parse(text: str, side: Side, *, allow_now: bool = False) -> Expression:
    """Read one scalar expression; a bare name belongs to `side`. Raises SpecError with the reason."""
    _bounded(text)
    try:
        trees = sqlglot.parse(text, dialect=DIALECT)
    except (SqlglotError, RecursionError) as error:
        raise _unreadable(text) from error
    if len(trees) != 1 or trees[0] is None:
        raise SpecError(f"Cannot read {text!r} as an expression.", why="It must be exactly one expression.")
    return Expression(text, _checked(trees[0], text, side, allow_now))


def parse_prefer(text: str, side: Side = "s") -> Preference:
    """Read one `prefer` term. Default order: ascending, NULLs last (also under `desc`)."""
    word = text.strip().lower()
    if word == "nearest":
        return Preference("nearest")
    if word == "key":
        return Preference("key")
    _bounded(text)
    try:
        # sqlglot reads "desc nulls first" only inside an ORDER BY.
        trees = sqlglot.parse(f"SELECT 1 ORDER BY {text}", dialect=DIALECT)
    except (SqlglotError, RecursionError) as error:
        raise _unreadable(text) from error
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
    tree = _checked(ordered.this, text, side, allow_now=False)
    nulls_first = re.search(r"\bnulls\s+first\s*$", text, re.IGNORECASE) is not None
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


def _bounded(text: str) -> None:
    if len(text) > MAX_EXPRESSION_CHARACTERS or "\x00" in text:
        raise SpecError("An expression is too long or holds a NUL character.", todo="Shorten it.")


def _unreadable(text: str) -> SpecError:
    return SpecError(
        f"Cannot read {text!r} as an expression.",
        todo='A column whose name has spaces or signs stands in double quotes, as in SQL: "Unit Price".',
    )


def _checked(tree: exp.Expr, text: str, side: Side, allow_now: bool) -> exp.Expr:
    tree = tree.copy()
    for node in list(tree.walk()):
        node.pop_comments()
        if isinstance(node, exp.Column):
            _check_column(node, text, side)
        elif isinstance(node, exp.CurrentTimestamp):
            if not allow_now:
                raise _refused(text, "now()", "the answer would change from run to run; it is allowed only in `set`")
        elif isinstance(node, (exp.Cast, exp.DataType)):
            _check_type(node, text)
        elif isinstance(node, exp.In):
            if node.args.get("query") or node.args.get("unnest"):
                raise _refused(text, "a subquery", "an expression looks at one pair of records only")
        elif isinstance(node, exp.Func) and not isinstance(node, _NODES):
            name = (node.name if isinstance(node, exp.Anonymous) else _function_name(node)).lower()
            if name not in FUNCTIONS:
                hint = did_you_mean(name, FUNCTIONS)
                raise _refused(
                    text,
                    f"the function {name}()",
                    "only functions that give the same answer every time are",
                    hint,
                )
        elif isinstance(node, exp.Alias):
            raise _unreadable(text)
        elif not isinstance(node, (*_NODES, exp.Func)):
            raise _refused(text, f"{type(node).__name__.lower()} here", "an expression is one scalar over t. and s.")
    return tree


def _function_name(node: exp.Func) -> str:
    """The SQL name under which PostgreSQL knows a function that sqlglot has a class for."""
    renamed = {
        "timestamp_trunc": "date_trunc", "str_position": "strpos", "time_to_str": "to_char", "str_to_date": "to_date",
        "str_to_time": "to_timestamp", "unix_to_time": "to_timestamp", "m_d5": "md5", "date_from_parts": "make_date",
        "length": "length", "pad": "lpad", "ts_or_ds_to_date": "to_date", "pow": "power",
    }  # fmt: skip
    name = node.sql_name().lower()
    return renamed.get(name, renamed.get(node.key, name))


def _check_column(node: exp.Column, text: str, side: Side) -> None:
    if node.args.get("db") or node.args.get("catalog"):
        raise _refused(text, "a name of three parts", "a column is t.name, s.name or name")
    if isinstance(node.this, exp.Star):
        raise _refused(text, "*", "an expression names its columns")
    table = node.table.lower() if node.table else side
    if table not in ("t", "s"):
        raise SpecError(
            f"Cannot read {text!r}: {node.table} is neither t nor s.",
            todo="Write t. for the target and s. for the source; names with spaces or signs in double quotes.",
        )
    identifier(node.name)
    node.set("table", exp.Identifier(this=table, quoted=True))


def _check_type(node: exp.Expr, text: str) -> None:
    kind = node.args.get("to") if isinstance(node, exp.Cast) else node
    if isinstance(kind, exp.DataType) and (
        kind.this == exp.DataType.Type.USERDEFINED or _FORBIDDEN_TYPES.match(kind.sql(DIALECT))
    ):
        raise _refused(text, f"the type {kind.sql(DIALECT)}", "only built-in value types are")


def _refused(text: str, thing: str, why: str, todo: str = "") -> SpecError:
    return SpecError(f"The expression {text!r} uses {thing}, which is not allowed.", why=f"Why: {why}.", todo=todo)


# -- resolving against the database ----------------------------------------------------------------------


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


TEXT_TYPES = frozenset({"text", "varchar", "bpchar", "name", "char"})
_ORDERING = (exp.LT, exp.LTE, exp.GT, exp.GTE)


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
        written = write(side, name)
        # Text is ordered by bytes everywhere, so that every server gives the same answer.
        if columns[side][name] in TEXT_TYPES and isinstance(node.parent, _ORDERING):
            written = collate(written)
        node.replace(written)
    return holder.this


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


_AGGREGATES = frozenset(
    """
    array_agg avg bool_and bool_or count dense_rank first_value lag last_value lead max min rank row_number string_agg
    sum
    """.split()
)
_WRITES = (
    exp.Insert,
    exp.Update,
    exp.Delete,
    exp.Merge,
    exp.Create,
    exp.Drop,
    exp.Command,
    exp.Into,
    exp.Lock,
    exp.Set,
)


def parse_query(text: str) -> exp.Query:
    """Read the `query` of a side: one SELECT that writes nothing and calls no volatile function."""
    _bounded(text)
    try:
        trees = sqlglot.parse(text, dialect=DIALECT)
    except (SqlglotError, RecursionError) as error:
        raise SpecError(f"Cannot read the query {text!r}.", todo="Write one SELECT statement.") from error
    tree = trees[0] if len(trees) == 1 else None
    if not isinstance(tree, exp.Query):
        raise SpecError(f"Cannot read the query {text!r}.", why="It must be exactly one SELECT.")
    for node in tree.walk():
        node.pop_comments()
        if isinstance(node, _WRITES):
            raise SpecError("A query only reads.", why=f"It uses {type(node).__name__.lower()}.")
        if isinstance(node, exp.Func) and not isinstance(node, _NODES):
            name = (node.name if isinstance(node, exp.Anonymous) else _function_name(node)).lower()
            if name not in FUNCTIONS | _AGGREGATES | {"exists", "array"}:
                raise _refused(
                    text, f"the function {name}()", "only functions that give the same answer every time are"
                )
    return tree
