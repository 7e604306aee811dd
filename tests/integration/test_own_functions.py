"""Functions of recon's own, on the server: the form each gives, against Python's, and that no value makes them fail."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recon import expressions
from recon.database.connect import Database
from recon.errors import SpecError
from recon.names import DIALECT
from recon.own_functions import FUNCTIONS

pytestmark = pytest.mark.one_engine


def _values(database: Database, expression: str, texts: Sequence[str]) -> list[Any]:
    tree = expressions.resolve(expressions.parse(expression, "t"), {"t": {"x": "text"}, "s": {}}, {"t": "T", "s": "S"})
    query = f"SELECT {tree.sql(DIALECT)} FROM unnest($1::text[]) WITH ORDINALITY AS t (x, n) ORDER BY n"
    with database.session() as session:
        return [row[0] for row in session.rows(query, list(texts))]


def test_every_day_of_the_calendar_is_read_and_no_other(database: Database) -> None:
    """Four ways to write it; 30 February, a thirteenth month and 29 February of 1900 are no days, and do no harm."""
    days: list[tuple[int, int, int]] = [
        (year, month, day) for year in (1900, 2000, 2023, 2024) for month in range(14) for day in range(33)
    ]

    def real(year: int, month: int, day: int) -> date | None:
        try:
            return date(year, month, day)
        except ValueError:
            return None

    expected = [real(*parts) for parts in days]
    for written in ("{0}-{1:02}-{2:02}", "{2}.{1}.{0}", " {2:02}/{1:02}/{0} 10:30", "{0}{1:02}{2:02}", "{0}/{1}/{2}"):
        assert _values(database, "parsed_day(x)", [written.format(*parts) for parts in days]) == expected, written
    american = [f"{month}/{day}/{year}" for year, month, day in days]
    assert _values(database, "parsed_day(x, 'month first')", american) == expected


@pytest.mark.parametrize(
    ("text", "number", "with_comma"),
    [
        ("1,234.50", "1234.50", None), ("1.234,50", "1234.50", "1234.50"), ("1 234,5", "1234.5", "1234.5"),
        ("EUR 12.5", "12.5", None), ("12,50 €", "12.50", "12.50"), ("-3", "-3", "-3"), ("$-7.10", "-7.10", None),
        ("1,234", "1234", "1.234"), ("1.234", "1.234", "1234"), ("1-2", None, None), ("12,34,56", None, None), ("", None, None),
    ],
)  # fmt: skip
def test_a_number_is_read_however_it_is_parted(
    database: Database, text: str, number: str | None, with_comma: str | None
) -> None:
    for expression, expected in (("parsed_number(x)", number), ("parsed_number(x, ',')", with_comma)):
        assert _values(database, expression, [text]) == [None if expected is None else Decimal(expected)], expression


def test_letters_and_digits_are_what_is_left(database: Database) -> None:
    texts = ["Müller-Lüdenscheidt (2)", "ŁÓDŹ  ul. 03", "Привет, Мир!", "INV-00412", "+49 (0)30 1234567", "–", ""]
    assert _values(database, "alphanumeric(x)", texts) == [
        "mullerludenscheidt2", "lodzul03", "приветмир", "inv00412", "490301234567", None, None,
    ]  # fmt: skip
    assert _values(database, "digits(x)", texts) == ["2", "3", None, "412", "490301234567", None, None]
    assert _values(database, "last_digits(x, 4)", texts) == ["2", "03", None, "0412", "4567", None, None]
    assert _values(database, "digits(x || '1')", ["a7"]) == ["71"]  # of an expression, not of its last part


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30),
        min_size=1,
        max_size=50,
    )
)
def test_no_text_makes_them_fail(database: Database, texts: list[str]) -> None:
    for expression in ("parsed_day(x)", "parsed_day(x, 'month first')", "parsed_number(x)", "parsed_number(x, ',')"):
        _values(database, expression, texts)
    for text, found in zip(texts, _values(database, "digits(x)", texts), strict=True):
        assert found == ("".join(sign for sign in text if sign in "0123456789").lstrip("0") or None)
    for found in _values(database, "alphanumeric(x)", texts):
        assert found is None or not any(sign.isascii() and not sign.isalnum() for sign in found)


@pytest.mark.parametrize(
    "wrong",
    ["parsed_day()", "parsed_day(x, 'day first')", "parsed_day(x, 1)", "last_digits(x)", "last_digits(x, 0)", "last_digits(x, '8')",
     "last_digits(x, 19)", "digits(x, x)", "alphanumeric(x, 'a', 'b')", "parsed_number(x, '.')", "last_digits(x, x)"],
)  # fmt: skip
def test_a_call_that_means_nothing_is_refused_with_how_it_is_called(wrong: str) -> None:
    with pytest.raises(SpecError, match="it is called") as refused:
        expressions.parse(wrong, "t")
    assert FUNCTIONS[wrong.split("(")[0]].calls[0] in str(refused.value)


def test_a_query_of_a_side_may_call_them_and_a_near_name_is_suggested() -> None:
    query = expressions.parse_query("SELECT id, digits(phone) AS phone FROM people").sql(DIALECT)
    assert "DIGITS" not in query
    assert "LTRIM" in query
    with pytest.raises(SpecError, match="alphanumeric"):
        expressions.parse("alphanumric(x)", "t")
