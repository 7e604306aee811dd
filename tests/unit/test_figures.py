"""Figures say in words and numbers what they draw."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from recon.reports import figures
from recon.reports.ageing import AgeClass
from recon.reports.data import Coverage, Step
from recon.reports.trend import Past

STEPS = (
    Step("linked before", "linked", 125),
    Step("payprop_invoice_id", "matched", 3),
    Step("property_without_customer", "matched", 0),
    Step("unmatched", "unmatched", 7),
    Step("population", "population", 135),
)
AT = datetime(2025, 11, 30, tzinfo=UTC)


def bars(figure: Any) -> list[tuple[int, int]]:
    """Where each bar begins, and how long it is."""
    return list(zip(figure.data[0].base, figure.data[0].x, strict=True))


def test_each_bar_of_the_waterfall_starts_where_the_last_one_ended_and_they_add_up_to_the_population() -> None:
    assert bars(figures.waterfall(STEPS)) == [(0, 125), (125, 3), (128, 0), (128, 7), (0, 135)]


def test_every_bar_has_its_name_and_its_number_beside_it_even_where_it_is_zero() -> None:
    figure = figures.waterfall(STEPS)
    names = list(figure.layout.yaxis.ticktext)
    assert names == ["linked before", "payprop invoice id", "property without customer", "unmatched", "population"]
    numbers = [note.text for note in figure.layout.annotations]
    assert numbers == ["<b>125</b>", "<b>+3</b>", "<b>0</b>", "<b>+7</b>", "<b>135</b>"]


def test_two_steps_of_one_name_stay_two_bars() -> None:
    twice = (Step("unmatched", "matched", 2), Step("unmatched", "unmatched", 1), Step("population", "population", 3))
    figure = figures.waterfall(twice)
    assert list(figure.data[0].y) == [0, 1, 2]
    assert len(figure.layout.annotations) == 3


def test_a_name_that_looks_like_markup_is_shown_as_it_stands() -> None:
    figure = figures.waterfall((Step("<b>bold</b>", "matched", 1), Step("population", "population", 1)))
    assert figure.layout.yaxis.ticktext[0] == "&lt;b&gt;bold&lt;/b&gt;"


def test_a_run_without_records_is_drawn_too() -> None:
    assert bars(figures.waterfall((Step("linked before", "linked", 0), Step("population", "population", 0))))


def test_coverage_shows_before_and_now_with_their_counts_and_the_expected_share() -> None:
    """INV-11."""
    figure = figures.coverage(Coverage(125, 135, AT), Coverage(135, 135, AT), expected=0.95)
    said = [note.text.replace("\N{NO-BREAK SPACE}", " ") for note in figure.layout.annotations]
    assert said == ["<b>92.6 %</b><br>125 of 135 records", "<b>100.0 %</b><br>135 of 135 records", "expected 95.0 %"]
    assert list(figure.data[0].x) == [125 / 135, 1.0]
    assert figure.layout.shapes[0].x0 == 0.95


def test_coverage_of_one_moment_is_one_bar() -> None:
    figure = figures.coverage(None, Coverage(1, 2, AT))
    assert list(figure.layout.yaxis.ticktext) == ["now"]


def test_coverage_of_nothing_has_no_share() -> None:
    figure = figures.coverage(None, Coverage(0, 0, AT))
    assert figure.layout.annotations[0].text == "<b>—</b><br>0 of 0 records"


# -- ageing, reasons, trend ------------------------------------------------------------------------------


def past(day: int, coverage: float, precision: float | None = None, **outcomes: int) -> Past:
    return Past(f"run {day}", datetime(2025, 11, day, tzinfo=UTC), 100, coverage, precision, outcomes)


def test_kinds_of_bars_differ_in_their_pattern_and_not_only_in_colour() -> None:
    steps = (Step("matched", "matched", 1), Step("proposed", "proposed", 1), Step("unmatched", "unmatched", 1))
    pattern = figures.waterfall(steps).data[0].marker.pattern
    assert len(set(pattern.shape)) == 3
    assert pattern.fillmode == "overlay"  # else the bar itself would be white


def test_ages_are_stacked_by_who_has_them_and_say_what_nobody_has() -> None:
    figure = figures.ageing((AgeClass("over 30 days", 3, 2), AgeClass("new", 0, 0)))
    assert [list(bars.x) for bars in figure.data] == [[2, 0], [3, 0]]
    assert figure.data[0].marker.pattern.shape != figure.data[1].marker.pattern.shape
    assert list(figure.layout.yaxis.ticktext) == ["over 30 days", "new"]
    assert [note.text for note in figure.layout.annotations] == ["<b>5</b><br>3 of them nobody's", "<b>0</b>"]


def test_reasons_say_their_number_and_their_share() -> None:
    figure = figures.reasons({"no_candidate": 3, "null_key": 1})
    said = [note.text.replace("\N{NO-BREAK SPACE}", " ") for note in figure.layout.annotations]
    assert said == ["<b>3 records</b><br>75.0 %", "<b>1 record</b><br>25.0 %"]


def test_the_trend_shows_coverage_and_precision_of_each_run_and_what_is_expected() -> None:
    figure = figures.trend((past(1, 0.9), past(2, 0.95, 0.97)), expected=0.99)
    assert [(line.name, list(line.y)) for line in figure.data] == [
        ("coverage", [0.9, 0.95]), ("precision of its rules", [None, 0.97]),
    ]  # fmt: skip
    assert list(figure.data[0].x) == ["2025-11-01 00:00:00", "2025-11-02 00:00:00"]
    assert len({(line.line.dash, line.marker.symbol) for line in figure.data}) == 2
    assert any("expected" in (note.text or "") for note in figure.layout.annotations)
    assert figure.layout.yaxis.range[0] < 0.9
    assert len(figures.trend((past(1, 0.9), past(2, 0.95))).data) == 1


def test_only_outcomes_that_occur_have_a_curve() -> None:
    figure = figures.open_records(
        (past(1, 0.9, linked=90, unmatched=10), past(2, 0.9, linked=90, unmatched=8, proposed=2))
    )
    assert [(line.name, list(line.y)) for line in figure.data] == [("proposed (2)", [0, 2]), ("unmatched (8)", [10, 8])]
