"""What one pass says of one pair of records, in plain Python: the part of the oracle that looks at values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

Record = Mapping[str, Any]
Key = Any  # a plain value, or a tuple where the key has several columns
Pair = tuple[Key, Key]  # a target's key and a source's
Of = Callable[[Any], Any]  # a value of one record
OfBoth = Callable[[Any, Any], Any]  # a value of a target and a source


@dataclass(frozen=True)
class Percent:
    """A tolerance in hundredths of the target's absolute value."""

    hundredths: Decimal


Tolerance = timedelta | Decimal | int | Percent


@dataclass(frozen=True)
class Window:
    """The source may lie at most `before` below the target and at most `after` above it."""

    target: Of
    source: Of
    before: Tolerance
    after: Tolerance

    def holds(self, target: Record, source: Record) -> bool:
        return near(self.target(target), self.source(source), self.before, self.after)

    def distance(self, target: Record, source: Record) -> Any:
        return abs(exact(self.source(source)) - exact(self.target(target)))


def near(target: Any, source: Any, before: Tolerance, after: Tolerance) -> bool:
    """Whether the source's value is within the tolerances, bounds included; NULL is near nothing.

    >>> near(Decimal(-100), Decimal(-95), Percent(Decimal(0)), Percent(Decimal(5)))
    True
    >>> near(date(2025, 1, 1), date(2025, 1, 3), timedelta(0), timedelta(hours=47))
    False
    """
    if target is None or source is None:
        return False
    middle = exact(target)
    return middle - _width(before, middle) <= exact(source) <= middle + _width(after, middle)


def _width(tolerance: Tolerance, middle: Any) -> Any:
    return abs(middle) * tolerance.hundredths / 100 if isinstance(tolerance, Percent) else tolerance


def exact(value: Any) -> Any:
    """The value in a form that adds and subtracts exactly.

    A moment in UTC, for Python subtracts two times of one zone by the clock on the wall; a day as its midnight, for
    hours added to a `date` are lost; a float as the decimal that it shows.

    >>> exact(0.3), exact(0.1 + 0.2)
    (Decimal('0.3'), Decimal('0.30000000000000004'))
    """
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value
    if isinstance(value, date):
        return datetime.combine(value, time())
    return Decimal(repr(value)) if isinstance(value, float) else value


def _always(_target: Record, _source: Record) -> bool | None:
    return True


@dataclass(frozen=True)
class Rule:
    """One pass.

    `on` pairs a value of the target with one of the source. `when` is true, false or unknown (None), and only true
    lets a pair through. A term of `prefer` is the word "nearest", the word "key", or a function that gives a sort
    key: the smaller is the better, and the place of NULL is already in it.
    """

    name: str
    on: Sequence[tuple[Of, Of]]
    within: Sequence[Window] = ()
    when: OfBoth = _always
    prefer: Sequence[str | OfBoth] = ()
    review: bool = False
    next_on_tie: bool = False

    def lacks_key(self, record: Record, side: int) -> bool:
        """Whether any `on` value of this record is NULL; side 0 is the target, 1 the source."""
        return any(both[side](record) is None for both in self.on)

    def same_key(self, target: Record, source: Record) -> bool:
        """Whether every `on` equality holds; NULL equals nothing."""
        values = [(of_target(target), of_source(source)) for of_target, of_source in self.on]
        return all(left is not None and left == right for left, right in values)

    def lets_through(self, target: Record, source: Record) -> bool:
        return self.when(target, source) is True

    def fits(self, target: Record, source: Record) -> bool:
        """Whether every window and `when` hold."""
        return self.lets_through(target, source) and all(window.holds(target, source) for window in self.within)

    def rank(self, pair: Pair, target: Record, source: Record) -> tuple[Any, ...]:
        """How good a candidate is: the smaller the better, equal ranks are equally good."""

        def of_term(term: str | OfBoth) -> Any:
            if term == "nearest":
                return self.within[0].distance(target, source)
            return (pair[1], pair[0]) if term == "key" else term(target, source)  # type: ignore[operator]

        return tuple(of_term(term) for term in self.prefer)


def ascending(value: Any) -> tuple[bool, Any]:
    """The sort key of a value whose smallest is best and whose NULL is last.

    >>> sorted([None, 2, 1], key=ascending), sorted([None, "É", "a", "B"], key=ascending)
    ([1, 2, None], ['B', 'a', 'É', None])
    """
    return (value is None, 0 if value is None else value)


def descending(value: Any, *, nulls_first: bool = False) -> tuple[bool, Any]:
    """The sort key of a number whose largest is best; its NULL is last as well, unless it is to be first."""
    return ((value is None) != nulls_first, 0 if value is None else -value)
