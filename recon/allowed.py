"""What an expression of a spec may hold: lists of the nodes, functions, words and types that are allowed.

Whatever is not on a list is refused: nothing volatile, no subquery, no statement. And what is printed from the tree must
read as what was written.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any, ClassVar

import sqlglot
from sqlglot import exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import SqlglotError

from recon import own_functions
from recon.errors import SpecError, did_you_mean
from recon.names import DIALECT, Side, identifier

MAX_EXPRESSION_CHARACTERS = 10_000  # far beyond any rule a person reads; bounds the parser's work
MAX_DEPTH = 200  # levels of nesting; printing and copying a tree recurse, and Python allows 1,000
SHOWN_CHARACTERS = 200  # of an expression in an error


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

NODES: tuple[type[exp.Expr], ...] = (
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
_PRINTED_WORDS = frozenset({"cast", "as", "from", "for", "t", "s"})  # what printing may add

_FORBIDDEN_TYPES = re.compile(r"^(reg[a-z]+|oid|xid8?|cid|tid)$", re.IGNORECASE)

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


def bounded(text: str) -> None:
    """Refuse a text that is too long to be read, or that PostgreSQL could not hold."""
    if len(text) > MAX_EXPRESSION_CHARACTERS or "\x00" in text:
        raise SpecError("An expression is too long or holds a NUL character.", todo="Shorten it.")


def unreadable(text: str) -> SpecError:
    """The error of a text that is no expression, to be raised."""
    return SpecError(
        f"Cannot read {shortened(text)!r} as an expression.",
        todo='A column whose name has spaces or signs stands in double quotes, as in SQL: "Unit Price".',
    )


def checked(tree: exp.Expr, text: str, side: Side, allow_now: bool, ignored: frozenset[str] = frozenset()) -> exp.Expr:
    """The tree with every node allowed, before and after printing: what is printed must read as what was checked."""
    found = _allowed(tree, text, side, allow_now)
    printed = found.sql(DIALECT)
    _faithful(text, printed, ignored)
    try:
        again = sqlglot.parse(printed, dialect=Reading)
    except SqlglotError as error:
        raise unreadable(text) from error
    if len(again) != 1 or again[0] is None or _allowed(again[0], text, side, allow_now).sql(DIALECT) != printed:
        raise unreadable(text)
    return found


def _faithful(text: str, printed: str, ignored: frozenset[str]) -> None:
    """Refuse a text that sqlglot prints with other values or words than were written: it would mean something else.

    Seen: `interval '.5 day'` as 5 days, `interval '1 day ago'` without its sign, `date '…'::timestamp` with its casts
    the other way round.
    """
    before, after = sqlglot.tokenize(text, read=DIALECT), sqlglot.tokenize(printed, read=DIALECT)
    for place, token in enumerate(before[:-2]):
        typed = token.text.lower() in _TYPE_WORDS and before[place + 1].token_type == sqlglot.TokenType.STRING
        if typed and before[place + 2].token_type == sqlglot.TokenType.DCOLON:
            raise refused(
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
        raise refused(
            text, "a form that is not read exactly as PostgreSQL reads it", f"it would become {shortened(printed)}"
        )
    for token in before:
        if token.token_type == sqlglot.TokenType.STRING and _MOMENT.fullmatch(token.text):
            raise refused(text, repr(token.text), "it means the present moment, which changes from run to run")


def _allowed(tree: exp.Expr, text: str, side: Side, allow_now: bool) -> exp.Expr:
    _shallow(tree, text)
    tree = tree.copy()
    for node in list(tree.walk()):
        node.pop_comments()
        _check_word(node, text)
        if isinstance(node, exp.Column):
            _check_column(node, text, side)
        elif isinstance(node, exp.TryCast):
            raise refused(text, "try_cast()", "PostgreSQL has no such function")
        elif isinstance(node, (exp.Cast, exp.DataType)):
            _check_type(node, text)
        elif isinstance(node, exp.In):
            if node.args.get("query") or node.args.get("unnest"):
                raise refused(text, "a subquery", "an expression looks at one pair of records only")
        elif isinstance(node, exp.Func) and not isinstance(node, NODES):
            name = function_name(node)
            if name == "now" and allow_now:
                continue
            if name in own_functions.FUNCTIONS:
                if why := own_functions.misused(name, node.expressions):
                    raise refused(text, f"{name}() in another way", why)
            elif name not in FUNCTIONS:
                hint = did_you_mean(name, FUNCTIONS | own_functions.FUNCTIONS.keys())
                raise refused(
                    text,
                    f"the function {name}()",
                    "only functions that give the same answer every time are",
                    hint,
                )
        elif isinstance(node, exp.Alias):
            raise unreadable(text)
        elif not isinstance(node, (*NODES, exp.Func)):
            raise refused(text, f"{type(node).__name__.lower()} here", "an expression is one scalar over t. and s.")
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
        raise refused(text, f"the word {shortened(node.name)!r}", "it is no unit of time that PostgreSQL knows")
    if isinstance(node, exp.DataTypeParam) and not (isinstance(node.this, exp.Literal) and node.this.name.isdigit()):
        raise refused(text, "a type with something else than numbers in brackets", "a type is like numeric(10, 2)")
    if isinstance(node, exp.Extract) and node.name.lower() not in _UNITS:
        raise refused(text, f"extract({shortened(node.name)!r})", "it is no unit of time that PostgreSQL knows")
    for name, value in node.args.items():
        if isinstance(value, str) and name != "this" and value.lower() not in _UNITS:
            raise refused(text, f"{shortened(value)!r}", "it is not part of a scalar expression")


def shortened(text: str) -> str:
    """A text short enough for an error."""
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "…"


def function_name(node: exp.Func) -> str:
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
    return [function_name(node) for node in tree.find_all(exp.Func) if not isinstance(node, NODES)]


def _check_column(node: exp.Column, text: str, side: Side) -> None:
    if node.args.get("db") or node.args.get("catalog"):
        raise refused(text, "a name of three parts", "a column is t.name, s.name or name")
    if isinstance(node.this, exp.Star):
        raise refused(text, "*", "an expression names its columns")
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
        raise refused(text, f"the type {kind.sql(DIALECT)}", "only built-in value types are")
    if isinstance(kind, exp.DataType) and kind.this == exp.DataType.Type.CHAR and not kind.expressions:
        raise refused(
            text, "char without a length", "it may mean one character or any number", "Write text or char(n)."
        )


def refused(text: str, thing: str, why: str, todo: str = "") -> SpecError:
    return SpecError(
        f"The expression {shortened(text)!r} uses {thing}, which is not allowed.", why=f"Why: {why}.", todo=todo
    )


def check_query(tree: exp.Query, text: str) -> None:
    """Refuse a query of a side that writes, calls a volatile function, or reads what are no records."""
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
            raise refused(text, f"the system table {node.name}", "records are in users' tables")
        if isinstance(node, (exp.TableSample, exp.Operator, exp.Placeholder, exp.Parameter)):
            raise refused(text, type(node).__name__.lower(), "a query gives the same records every time")
        if isinstance(node, _WRITES):
            raise SpecError("A query only reads.", why=f"It uses {type(node).__name__.lower()}.")
        if isinstance(node, exp.Interval) or (isinstance(node, exp.Literal) and _MOMENT.fullmatch(node.name)):
            raise refused(
                text, "an interval or the present moment", "these are not read exactly; put them into the passes"
            )
        if isinstance(node, exp.Func) and not isinstance(node, NODES):
            _check_word(node, text)
            name = function_name(node)
            if name in own_functions.FUNCTIONS:
                if why := own_functions.misused(name, node.expressions):
                    raise refused(text, f"{name}() in another way", why)
            elif name not in QUERY_FUNCTIONS:
                raise refused(text, f"the function {name}()", "only functions that give the same answer every time are")
