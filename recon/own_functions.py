"""Functions that an expression may call beside PostgreSQL's: a value in a form in which two spellings of it are equal.

Each stands for an expression of PostgreSQL that takes its place before anything reaches the database: nothing is installed
there, and what a reviewer reads is plain SQL. A value that has no such form has none (NULL); no value fails.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from sqlglot import exp

ACCENTED = "ÀÁÂÃÄÅÇÈÉÊËÌÍÎÏÑÒÓÔÕÖØÙÚÛÜÝàáâãäåçèéêëìíîïñòóôõöøùúûüýÿŠšŽžŁłĄąĆćĘęŃńŚśŹźŻżČčŘřĚěŮů"
PLAIN = "AAAAAACEEEEIIIINOOOOOOUUUUYaaaaaaceeeeiiiinoooooouuuuyySsZzLlAaCcEeNnSsZzZzCcRrEeUu"
SIGNS = r"[\s\u0001-\u001f\u007f!-/:-@\[-`{-~\u00a0\u2018\u2019\u201c\u201d\u2013\u2014]+"

# What a text must look like to be read as a number or a day.
_MONEY = "[^0-9.,-]{0,5}"  # a currency, its sign, blanks
_COMMAS = rf"^{_MONEY}-?{_MONEY}([0-9]+|[0-9]{{1,3}}([ .][0-9]{{3}})+)"
_POINTS = rf"^{_MONEY}-?{_MONEY}([0-9]+|[0-9]{{1,3}}([ ,][0-9]{{3}})+)"
COMMA_NUMBER = rf"{_COMMAS}(,[0-9]+)?{_MONEY}$"
COMMA_DECIMALS = rf"{_COMMAS},[0-9]{{1,2}}{_MONEY}$"
POINT_NUMBER = rf"{_POINTS}(\.[0-9]+)?{_MONEY}$"
ISO_DAY = r"^\s*[0-9]{4}-[0-9]{2}-[0-9]{2}([ T].*)?\s*$"
PLAIN_DAY = r"^\s*[0-9]{8}\s*$"
PARTED_DAY = r"^\s*[0-9]{1,2}[./-][0-9]{1,2}[./-][0-9]{4}([ T].*)?\s*$"
SLASHED_DAY = r"^\s*[0-9]{4}[/.][0-9]{1,2}[/.][0-9]{1,2}([ T].*)?\s*$"

_COMMA = "replace(regexp_replace(x::text, '[^0-9,-]', '', 'g'), ',', '.')::numeric"
_POINT = "regexp_replace(x::text, '[^0-9.-]', '', 'g')::numeric"


_TIME = r"(?:[ T].*)?\s*$"
_MONTHS = "|".join(
    (
        "[12][0-9]{3}-(?:0?[13578]|1[02])-(?:0?[1-9]|[12][0-9]|3[01])",
        "[12][0-9]{3}-(?:0?[469]|11)-(?:0?[1-9]|[12][0-9]|30)",
        "[12][0-9]{3}-0?2-(?:0?[1-9]|1[0-9]|2[0-8])",
        "(?:[12][0-9](?:0[48]|[2468][048]|[13579][26])|(?:1[26]|2[048])00)-0?2-29",
    )
)
DAY = rf"^\s*({_MONTHS}){_TIME}"  # a day that is one, with or without a time behind it; no cast of it can fail


def _day(day: int, month: int) -> str:
    """A date of a text in which day and month stand at these places where the year is last."""
    year_first = (
        f"regexp_replace(x::text, '^\\s*([0-9]{{4}})[/.]([0-9]{{1,2}})[/.]([0-9]{{1,2}}){_TIME}', '\\1-\\2-\\3')"
    )
    year_last = (
        f"regexp_replace({year_first}, '^\\s*([0-9]{{1,2}})[./-]([0-9]{{1,2}})[./-]([0-9]{{4}}){_TIME}',"
        f" '\\3-\\{month}-\\{day}')"
    )
    plain = f"regexp_replace({year_last}, '^\\s*([0-9]{{4}})([0-9]{{2}})([0-9]{{2}})\\s*$', '\\1-\\2-\\3')"
    return f"substring({plain}, '{DAY}')::date"


@dataclass(frozen=True)
class OwnFunction:
    """A function of ours.

    Args:
        calls: how it is called, one way or another.
        words: what it gives.
        stands_for: the expression in its place, of `x` and perhaps `n`.
        variants: by what the second argument says, the expression in its place.
        counted: whether the second argument is a number, `n`, from 1 to 18.
    """

    calls: tuple[str, ...]
    words: str
    stands_for: str
    variants: Mapping[str, str] = field(default_factory=dict[str, str])
    counted: bool = False


FUNCTIONS = {
    "alphanumeric": OwnFunction(
        ("alphanumeric(x)",),
        "letters and digits only, capitals and accents aside: `Müller-Lüdenscheidt (2)` is `mullerludenscheidt2`",
        f"nullif(regexp_replace(lower(translate(x::text, '{ACCENTED}', '{PLAIN}')), '{SIGNS}', '', 'g'), '')",
    ),
    "digits": OwnFunction(
        ("digits(x)",),
        "digits only, without leading zeros: `INV-00412` is `412`",
        "nullif(ltrim(regexp_replace(x::text, '[^0-9]', '', 'g'), '0'), '')",
    ),
    "last_digits": OwnFunction(
        ("last_digits(x, n)",),
        "the last `n` digits (1 to 18), for telephone numbers with or without their country",
        "nullif(right(regexp_replace(x::text, '[^0-9]', '', 'g'), n), '')",
        counted=True,
    ),
    "parsed_number": OwnFunction(
        ("parsed_number(x)", "parsed_number(x, ',')"),
        "a number, however its thousands and decimals are parted and whatever currency stands beside it; one or two digits"
        " after a comma are decimals. With `','` a comma parts decimals always, and points thousands",
        f"case when x::text ~ '{COMMA_DECIMALS}' then {_COMMA} when x::text ~ '{POINT_NUMBER}' then {_POINT} end",
        {",": f"case when x::text ~ '{COMMA_NUMBER}' then {_COMMA} end"},
    ),
    "parsed_day": OwnFunction(
        ("parsed_day(x)", "parsed_day(x, 'month first')"),
        "a date written 2024-12-31, 31.12.2024, 31/12/2024, 2024/12/31 or 20241231; with `'month first'` 12/31/2024",
        _day(1, 2),
        {"month first": _day(2, 1)},
    ),
}

Parse = Callable[[str], exp.Expr]


def misused(name: str, arguments: list[exp.Expr]) -> str:
    """Why a call of one of FUNCTIONS cannot be; empty: it can."""
    function = FUNCTIONS[name]
    second = arguments[1] if len(arguments) == 2 else None
    said = second.name if isinstance(second, exp.Literal) else None
    if function.counted:
        right = (
            said is not None and second is not None and not second.is_string and said.isdigit() and 1 <= int(said) <= 18
        )
    else:
        right = len(arguments) == 1 or (said in function.variants and second is not None and second.is_string)
    return "" if right and len(arguments) in (1, 2) else f"it is called {' or '.join(function.calls)}"


def written_out(tree: exp.Expr, parse: Parse) -> exp.Expr:
    """The tree with each call of ours replaced by the expression that it stands for.

    Args:
        tree: checked: each call is one that can be.
        parse: reads PostgreSQL.
    """
    holder = exp.Paren(this=tree)
    while call := next((node for node in holder.find_all(exp.Anonymous) if node.name.lower() in FUNCTIONS), None):
        arguments = call.expressions
        second = arguments[1].name if len(arguments) == 2 else ""
        pattern = _pattern(call.name.lower(), second, parse).copy()
        for place in list(pattern.find_all(exp.Column)):
            if place.name == "n":
                place.replace(exp.Literal.number(int(second)))
            else:
                given = arguments[0].copy()
                place.replace(given if isinstance(given, (exp.Column, exp.Anonymous)) else exp.paren(given))
        call.replace(pattern)
    return holder.this


@lru_cache(maxsize=64)
def _pattern(name: str, second: str, parse: Parse) -> exp.Expr:
    function = FUNCTIONS[name]
    return exp.paren(parse(function.variants.get(second, function.stands_for)))
