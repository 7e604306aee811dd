"""The benchmarks still run: a harness that nobody starts for a month must not rot."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import desk
from benchmarks.__main__ import SUBJECTS, measured
from benchmarks.measure import Setting, document, show
from recon.database.connect import Database

ROWS = 2_000  # seconds in all; nothing is judged at this size


@pytest.mark.one_engine
def test_the_harness_runs_and_each_side_decides_alike(
    database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It compares decisions before it prints a ratio, so that it ends at all says that they are equal."""
    # What the desks' benchmark clicks has tests of its own, in a browser; it would take minutes here.
    quick = [subject for subject in SUBJECTS if subject != desk.SUBJECT]
    figures = list(measured(Setting(database, ROWS, rounds=1, data=tmp_path, peers=False), quick))
    assert {figure.subject for figure in figures} == set("abcdefghiklmn")
    skipped = {figure.subject for figure in figures if figure.value is None}
    assert skipped <= {"d", "e", "h"}, "only peers and labelled data may be absent"
    assert all(figure.note for figure in figures if figure.value is None), "what is skipped says why"
    assert not [figure for figure in figures if figure.theirs is not None and figure.met is not None]
    show(figures, "2,000 rows")
    assert "SQL by hand" in capsys.readouterr().out
    assert document(figures, {"rows": ROWS})["figures"][0]["subject"] == "a"
