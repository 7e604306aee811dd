"""The small SQL-expression language of a spec: parse it, check it, resolve its column names, quote names.

An expression is one SQL scalar expression over `t.` (target) and `s.` (source). What is allowed is a list
of node types and functions, not a list of what is forbidden: nothing volatile, no subquery, no statement.
What reaches the database is printed from the checked tree, never the text that somebody typed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Literal

import sqlglot
from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import SqlglotError

from recon import own_functions
from recon.errors import SchemaMismatch, SpecError, did_you_mean
from recon.names import DIALECT, column, identifier

MAX_EXPRESSION_CHARACTERS = 10_000  # far beyond any rule a person reads; bounds the parser's work
MAX_DEPTH = 200  # levels of nesting; printing and copying a tree recurse, and Python allows 1,000
SHOWN_CHARACTERS = 200  # of an expression in an error
REMEMBERED = 1_000  # expressions that were read; a spec has tens

Side = Literal["t", "s"]


class Reading(Postgres):
    """PostgreSQL as it is read here: a function stays the function that was written.

    sqlglot knows many functions under names and forms of its own, and prints those: a unit of time as a bare word, a
    date format translated there and back. What is printed must be what was read.
    """

    class Parser(Postgres.Parser):
        FUNCTIONS: ClassVar[dict[str, Any]] = {}
        FUNCTION_PARSERS: ClassVar[dict[str, Any]] = {
            name: parser for name, parser in Postgres.Parser.FUNCTION_PARSERS.items() if name != "DATE_PART"
        }


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

# What sqlglot prints as bare words or raw text, so that nothing but these may stand there.
_UNITS = frozenset(
    """
    microsecond microseconds millisecond milliseconds second seconds minute minutes hour hours day days week weeks
    month months quarter quarters year years decade decades century centuries millennium millennia epoch dow doy
    isodow isoyear julian timezone timezone_hour timezone_minute both leading trailing
    """.split()
)
# Literals that PostgreSQL reads as the present moment: they would change from run to run like now().
_MOMENT = re.compile(r"\s*\{?\s*(now|today|tomorrow|yesterday)\b[\s\d:.+\-]*\}?\s*", re.IGNORECASE)

# How a type may be written; what is printed may use another of its names.
_TYPE_WORDS = frozenset(
    """
    bigint bit bool boolean bytea char character cidr date decimal double float float4 float8 inet int int2 int4 int8
    integer interval json jsonb macaddr money numeric precision real smallint text time timestamp timestamptz timetz
    uuid varbit varchar varying with without zone
    """.split()
)
_ORDER_WORDS = frozenset({"asc", "desc", "nulls", "first", "last"})  # of a `prefer` term, beside its expression
_PRINTED_WORDS = frozenset({"cast", "as", "from", "for", "t", "s"})  # what printing may add

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


# -- parsing and checking --------------------------------------------------------------------------------


def parse(text: str, side: Side, *, allow_now: bool = False) -> Expression:
    """Read one scalar expression; a bare name belongs to `side`. Raises SpecError with the reason."""
    found = _parsed(text, side, allow_now)
    return Expression(text, found.copy())  # whoever has it may change it


@lru_cache(maxsize=REMEMBERED)
def _parsed(text: str, side: Side, allow_now: bool) -> exp.Expr:
    """The tree of an expression: every step of a run reads those of its spec, and checking one takes a millisecond."""
    _bounded(text)
    try:
        trees = sqlglot.parse(text, dialect=Reading)
    except (SqlglotError, RecursionError) as error:
        raise _unreadable(text) from error
    if len(trees) != 1 or trees[0] is None:
        raise SpecError(f"Cannot read {text!r} as an expression.", why="It must be exactly one expression.")
    return _checked(trees[0], text, side, allow_now)


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
        trees = sqlglot.parse(f"SELECT 1 ORDER BY {text}", dialect=Reading)
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
    tree = _checked(ordered.this, text, side, allow_now=False, ignored=_ORDER_WORDS)
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


def _bounded(text: str) -> None:
    if len(text) > MAX_EXPRESSION_CHARACTERS or "\x00" in text:
        raise SpecError("An expression is too long or holds a NUL character.", todo="Shorten it.")


def _unreadable(text: str) -> SpecError:
    return SpecError(
        f"Cannot read {shortened(text)!r} as an expression.",
        todo='A column whose name has spaces or signs stands in double quotes, as in SQL: "Unit Price".',
    )


def _checked(tree: exp.Expr, text: str, side: Side, allow_now: bool, ignored: frozenset[str] = frozenset()) -> exp.Expr:
    """The tree with every node allowed, before and after printing: what is printed must read as what was checked."""
    checked = _allowed(tree, text, side, allow_now)
    printed = checked.sql(DIALECT)
    _faithful(text, printed, ignored)
    try:
        again = sqlglot.parse(printed, dialect=Reading)
    except SqlglotError as error:
        raise _unreadable(text) from error
    if len(again) != 1 or again[0] is None or _allowed(again[0], text, side, allow_now).sql(DIALECT) != printed:
        raise _unreadable(text)
    return checked


def _faithful(text: str, printed: str, ignored: frozenset[str]) -> None:
    """Refuse a text that sqlglot prints with other values or words than were written: it would mean something else.

    Seen: `interval '.5 day'` as 5 days, `interval '1 day ago'` without its sign, `date '…'::timestamp` with its casts
    the other way round.
    """
    before, after = sqlglot.tokenize(text, read=DIALECT), sqlglot.tokenize(printed, read=DIALECT)
    for place, token in enumerate(before[:-2]):
        typed = token.text.lower() in _TYPE_WORDS and before[place + 1].token_type == sqlglot.TokenType.STRING
        if typed and before[place + 2].token_type == sqlglot.TokenType.DCOLON:
            raise _refused(
                text, "a typed literal with a cast behind it", "its meaning is easily mistaken", "Write '…'::type."
            )

    def values(tokens: list[Any]) -> list[tuple[bool, str]]:
        kinds = (sqlglot.TokenType.STRING, sqlglot.TokenType.NUMBER)
        return sorted(
            (token.token_type == kinds[0], " ".join(token.text.lower().split()))
            for token in tokens
            if token.token_type in kinds
        )

    def words(tokens: list[Any]) -> Counter[str]:
        plain = (sqlglot.TokenType.STRING, sqlglot.TokenType.NUMBER)
        return Counter(
            token.text.lower() for token in tokens if token.token_type not in plain and re.match(r"[^\W\d]", token.text)
        )

    written, shown = words(before), words(after)
    changed = {*(written - shown), *((shown - written).keys() - _PRINTED_WORDS)} - _TYPE_WORDS - ignored
    if values(before) != values(after) or changed or written["interval"] != shown["interval"]:
        raise _refused(
            text, "a form that is not read exactly as PostgreSQL reads it", f"it would become {shortened(printed)}"
        )
    for token in before:
        if token.token_type == sqlglot.TokenType.STRING and _MOMENT.fullmatch(token.text):
            raise _refused(text, repr(token.text), "it means the present moment, which changes from run to run")


def _allowed(tree: exp.Expr, text: str, side: Side, allow_now: bool) -> exp.Expr:
    _shallow(tree, text)
    tree = tree.copy()
    for node in list(tree.walk()):
        node.pop_comments()
        _check_word(node, text)
        if isinstance(node, exp.Column):
            _check_column(node, text, side)
        elif isinstance(node, exp.TryCast):
            raise _refused(text, "try_cast()", "PostgreSQL has no such function")
        elif isinstance(node, (exp.Cast, exp.DataType)):
            _check_type(node, text)
        elif isinstance(node, exp.In):
            if node.args.get("query") or node.args.get("unnest"):
                raise _refused(text, "a subquery", "an expression looks at one pair of records only")
        elif isinstance(node, exp.Func) and not isinstance(node, _NODES):
            name = _function_name(node)
            if name == "now" and allow_now:
                continue
            if name in own_functions.FUNCTIONS:
                if why := own_functions.misused(name, node.expressions):
                    raise _refused(text, f"{name}() in another way", why)
            elif name not in FUNCTIONS:
                hint = did_you_mean(name, FUNCTIONS | own_functions.FUNCTIONS.keys())
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


def _shallow(tree: exp.Expr, text: str) -> None:
    level, depth = [tree], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise SpecError(
                f"The expression {shortened(text)!r} is nested more than {MAX_DEPTH} deep.", todo="Write it in less."
            )
        level = [child for node in level for child in node.iter_expressions()]


def _check_word(node: exp.Expr, text: str) -> None:
    """Refuse bare words and raw text that are not known: they are printed as they stand."""
    if isinstance(node, exp.Var) and node.name.lower() not in _UNITS:
        raise _refused(text, f"the word {shortened(node.name)!r}", "it is no unit of time that PostgreSQL knows")
    if isinstance(node, exp.DataTypeParam) and not (isinstance(node.this, exp.Literal) and node.this.name.isdigit()):
        raise _refused(text, "a type with something else than numbers in brackets", "a type is like numeric(10, 2)")
    if isinstance(node, exp.Extract) and node.name.lower() not in _UNITS:
        raise _refused(text, f"extract({shortened(node.name)!r})", "it is no unit of time that PostgreSQL knows")
    for name, value in node.args.items():
        if isinstance(value, str) and name != "this" and value.lower() not in _UNITS:
            raise _refused(text, f"{shortened(value)!r}", "it is not part of a scalar expression")


def shortened(text: str) -> str:
    """A text short enough for an error."""
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"


def _function_name(node: exp.Func) -> str:
    """The SQL name of a function; the few with a syntax of their own have a class each."""
    if isinstance(node, exp.Anonymous):
        return node.name.lower()
    if isinstance(node, exp.StrPosition):
        return "position"
    if isinstance(node, exp.GroupConcat):
        return "string_agg"
    return node.sql_name().lower()


def called(tree: exp.Expr) -> list[str]:
    """The SQL names of the functions that a tree calls, in lower case."""
    return [_function_name(node) for node in tree.find_all(exp.Func) if not isinstance(node, _NODES)]


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
    if isinstance(kind, exp.DataType) and kind.this == exp.DataType.Type.CHAR and not kind.expressions:
        raise _refused(
            text, "char without a length", "it may mean one character or any number", "Write text or char(n)."
        )


def _refused(text: str, thing: str, why: str, todo: str = "") -> SpecError:
    return SpecError(
        f"The expression {shortened(text)!r} uses {thing}, which is not allowed.", why=f"Why: {why}.", todo=todo
    )


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
    return sqlglot.parse_one(text, dialect=Reading)


def at_moment(tree: exp.Expr, moment: exp.Expr) -> exp.Expr:
    """The tree with `now()` standing for this moment, which is bound, and not for the server's clock."""
    holder = exp.Paren(this=tree.copy())  # so that a bare now() can be replaced too
    for node in list(holder.find_all(exp.Func)):
        if not isinstance(node, _NODES) and _function_name(node) == "now":
            node.replace(moment.copy())
    return holder.this


def asks_for_now(tree: exp.Expr) -> bool:
    """Whether its value depends on when it is looked at."""
    nodes = exp.Paren(this=tree.copy()).find_all(exp.Func)
    return any(not isinstance(node, _NODES) and _function_name(node) == "now" for node in nodes)


def _is_text(tree: exp.Expr, columns: Mapping[Side, Mapping[str, str]]) -> bool:
    """Whether an operand surely gives text: a column of a text type, or a text function of one."""
    while isinstance(tree, exp.Paren):
        tree = tree.this
    if isinstance(tree, exp.Column):
        side: Side = "t" if tree.table == "t" else "s"
        return columns[side].get(tree.name) in TEXT_TYPES
    if isinstance(tree, exp.Cast):
        return tree.to.this in exp.DataType.TEXT_TYPES
    named = isinstance(tree, exp.Func) and _function_name(tree) in _GIVES_TEXT
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


_AGGREGATES = frozenset(
    """
    array_agg avg bool_and bool_or count dense_rank first_value lag last_value lead max min rank row_number string_agg
    sum
    """.split()
)
# What the query of a side may call.
QUERY_FUNCTIONS = FUNCTIONS | _AGGREGATES | {"exists", "array"}
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
        trees = sqlglot.parse(text, dialect=Reading)
    except (SqlglotError, RecursionError) as error:
        raise SpecError(f"Cannot read the query {text!r}.", todo="Write one SELECT statement.") from error
    tree = trees[0] if len(trees) == 1 else None
    if not isinstance(tree, exp.Query):
        raise SpecError(f"Cannot read the query {text!r}.", why="It must be exactly one SELECT.")
    _shallow(tree, text)
    for node in tree.walk():
        node.pop_comments()
        if isinstance(node, (exp.Var, exp.DataTypeParam)):
            _check_word(node, text)
        if isinstance(node, (exp.Cast, exp.DataType)):
            _check_type(node, text)
        if isinstance(node, exp.Table) and (
            node.db.lower() in ("pg_catalog", "information_schema") or node.name.lower().startswith("pg_")
        ):
            raise _refused(text, f"the system table {node.name}", "records are in users' tables")
        if isinstance(node, (exp.TableSample, exp.Operator, exp.Placeholder, exp.Parameter)):
            raise _refused(text, type(node).__name__.lower(), "a query gives the same records every time")
        if isinstance(node, _WRITES):
            raise SpecError("A query only reads.", why=f"It uses {type(node).__name__.lower()}.")
        if isinstance(node, exp.Interval) or (isinstance(node, exp.Literal) and _MOMENT.fullmatch(node.name)):
            raise _refused(
                text, "an interval or the present moment", "these are not read exactly; put them into the passes"
            )
        if isinstance(node, exp.Func) and not isinstance(node, _NODES):
            _check_word(node, text)
            name = _function_name(node)
            if name in own_functions.FUNCTIONS:
                if why := own_functions.misused(name, node.expressions):
                    raise _refused(text, f"{name}() in another way", why)
            elif name not in QUERY_FUNCTIONS:
                raise _refused(
                    text, f"the function {name}()", "only functions that give the same answer every time are"
                )
    whole = own_functions.written_out(tree, _read)
    assert isinstance(whole, exp.Query)  # a call stands inside of it
    return whole
