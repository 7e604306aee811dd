"""Ways in which the same id is written differently: 00123 and 123, 123.0 and 123, blanks around it, capitals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlglot import exp

from recon import expressions

# What is seen as nothing: blanks, the no-break space, the zero-width space and the byte order mark.
_INVISIBLE = " \t\n\r\x0b\x0c\u00a0\u200b\ufeff"


@dataclass(frozen=True)
class Format:
    """One way of writing: what people call it, how SQL takes it away, and what a spec would say to do so."""

    name: str
    words: str  # after "3 of 1,000 target values …"
    otherwise: str  # after "2 more would agree …"
    remedy: str  # an expression of a spec; {} is the value
    without: Callable[[exp.Expr], exp.Expr]
    suspect: bool = True  # whether an id written so on one side only deserves a word where nothing more would agree

    def differs(self, value: exp.Expr) -> exp.Expr:
        """That a value is written in this way."""
        return exp.NEQ(this=value.copy(), expression=self.without(value))


def _replaced(value: exp.Expr, pattern: str, by: str) -> exp.Expr:
    return exp.Anonymous(
        this="regexp_replace", expressions=[value.copy(), exp.Literal.string(pattern), exp.Literal.string(by)]
    )


def _ending(value: exp.Expr, test: exp.Expr, changed: exp.Expr) -> exp.Expr:
    """The changed value where the test holds: regular expressions are run on those few only."""
    return exp.Case(ifs=[exp.If(this=test, true=changed)], default=value.copy())


def _without_zeros(value: exp.Expr) -> exp.Expr:
    first = exp.Anonymous(this="left", expressions=[value.copy(), exp.Literal.number(1)])
    starts = exp.EQ(this=first, expression=exp.Literal.string("0"))
    return _ending(value, starts, _replaced(value, "^0+(?=[0-9])", ""))


def _without_decimals(value: exp.Expr) -> exp.Expr:
    last = exp.Anonymous(this="right", expressions=[value.copy(), exp.Literal.number(1)])
    ends = exp.EQ(this=last, expression=exp.Literal.string("0"))
    return _ending(value, ends, _replaced(value, "^([+-]?[0-9]+)[.]0+$", r"\1"))


def without_blanks(value: exp.Expr) -> exp.Expr:
    """A text without what is seen as nothing around it."""
    return exp.Anonymous(this="btrim", expressions=[value.copy(), exp.Literal.string(_INVISIBLE)])


def _without_capitals(value: exp.Expr) -> exp.Expr:
    # The database's own locale knows more letters than "C"; the result is compared by bytes again.
    local = exp.Collate(this=value.copy(), expression=exp.Identifier(this="default", quoted=True))
    return expressions.collate(exp.Anonymous(this="lower", expressions=[local]))


FORMATS = (
    Format("leading_zeros", "have leading zeros", "without them", "ltrim({}, '0')", _without_zeros),
    Format("trailing_zero", "end in .0", "without it", "regexp_replace({}, '[.]0+$', '')", _without_decimals),
    Format("blanks", "have blanks around them", "without them", "btrim({})", without_blanks),
    Format("capitals", "have capital letters", "if case did not count", "lower({})", _without_capitals, suspect=False),
)


def plain(value: exp.Expr) -> exp.Expr:
    """A value without any of these: what `together` is counted by."""
    for item in reversed(FORMATS):  # blanks and capitals first, then the digits that stand between them
        value = item.without(value)
    return value
