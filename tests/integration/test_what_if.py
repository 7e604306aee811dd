"""What other tolerances would give, decided exactly."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from recon.database.connect import Database
from recon.errors import NotFound
from recon.matching.what_if import FACTORS, what_if
from recon.reports import figures
from recon.spec import Reconciliation
from tests.support import execute, recon, rows

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code

FIELDS = {
    "name": "jobs",
    "target": {"table": "stays", "key": "id"},
    "source": {"table": "jobs", "key": "id"},
    "link": {"column": "job_id"},
    "cardinality": "one_to_one",
    "passes": [
        {"name": "exact", "on": {"code": "code"}},
        {
            "name": "near",
            "on": {"place": "place"},
            "within": {"target": "at", "source": "at", "tolerance": {"before": "0 minutes", "after": "1 hour"}},
            "prefer": ["nearest"],
        },
    ],
}
SPEC = Reconciliation.model_validate(FIELDS)


@pytest.fixture
def stays(database: Database) -> Database:
    """Jobs 10, 30, 60, 61 and 300 minutes after a stay each; one is matched by code, one lies before its stay."""
    execute(
        database,
        "CREATE TABLE stays (id int PRIMARY KEY, code text, place int, at timestamptz, job_id int)",
        "CREATE TABLE jobs (id int PRIMARY KEY, code text, place int, at timestamptz)",
        "INSERT INTO stays SELECT n, NULL, n, '2025-03-30 00:00Z' FROM generate_series(1, 7) AS n",
        "INSERT INTO jobs SELECT 10 + n, NULL, n, '2025-03-30 00:00Z'::timestamptz + (ARRAY[10, 30, 60, 61, 300, 0, -5])[n] * interval '1 minute'"
        " FROM generate_series(1, 7) AS n",
        "UPDATE stays SET code = 'x' WHERE id = 6",
        "UPDATE jobs SET code = 'x' WHERE id = 16",
    )
    return database


def test_each_tolerance_gives_its_exact_counts(stays: Database) -> None:
    told: list[tuple[int, int]] = []
    found = what_if(stays, SPEC, progress=lambda done, whole: told.append((done, whole)))
    (curve,) = found.curves
    assert (curve.rule, curve.window, curve.tolerance) == ("near", "at and at", "0 days before, 1 hour after")
    assert {(item.factor, item.matched, item.gained, item.lost) for item in curve.points} == {
        (0, 1, 0, 3), (0.25, 2, 0, 2), (0.5, 3, 0, 1), (0.75, 3, 0, 1), (1, 4, 0, 0), (1.5, 5, 1, 0), (2, 5, 1, 0),
        (3, 5, 1, 0), (5, 6, 2, 0), (10, 6, 2, 0),
    }  # fmt: skip
    assert told[-1] == (len(FACTORS), len(FACTORS))
    assert rows(stays, "SELECT count(*)::int FROM pg_class WHERE relname LIKE 'recon\\_%'") == [(0,)]


def test_the_present_tolerance_is_what_a_run_decides(stays: Database) -> None:
    from recon.matching import run as runs

    run = runs.match(stays, SPEC, "ann")
    present = next(item for item in what_if(stays, SPEC).curves[0].points if item.factor == 1)
    assert present.matched == run.outcomes["matched"]


def test_a_wider_window_that_gives_another_partner_is_told(stays: Database) -> None:
    execute(stays, "INSERT INTO jobs VALUES (21, NULL, 1, '2025-03-30 00:20Z')")
    first = Reconciliation.model_validate(
        FIELDS | {"passes": [FIELDS["passes"][1] | {"prefer": ["s.id desc"]}]}  # pyright: ignore
    )
    points = {item.factor: item for item in what_if(stays, first).curves[0].points}
    assert points[0.25].moved == 1


def test_one_pass_alone_and_a_pass_that_is_not_there(stays: Database) -> None:
    assert [curve.rule for curve in what_if(stays, SPEC, "near").curves] == ["near"]
    assert what_if(stays, SPEC, "exact").curves == ()
    with pytest.raises(NotFound, match="no pass nearr"):
        what_if(stays, SPEC, "nearr")


def test_the_figure_has_a_curve_for_each_pass(stays: Database) -> None:
    figure = figures.tolerances(pd.DataFrame(what_if(stays, SPEC).records()))
    assert [(trace.name, list(trace.y)) for trace in figure.data] == [("near", [1, 2, 3, 3, 4, 5, 5, 5, 6, 6])]


@pytest.mark.one_engine
def test_the_command_shows_a_table_or_one_sentence(stays: Database, tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert recon("init", str(home)).code == 0
    (home / "reconciliations" / "jobs.yaml").write_text(json.dumps(FIELDS), encoding="utf-8")
    plain = FIELDS | {"name": "plain", "passes": FIELDS["passes"][:1]}  # pyright: ignore
    (home / "reconciliations" / "plain.yaml").write_text(json.dumps(plain), encoding="utf-8")
    shown = " ".join(recon("what-if", "jobs", url=stays.url, cwd=home).out.split())
    assert "near: at and at, now 0 days before, 1 hour after" in shown
    assert "← present" in shown
    found = recon("what-if", "jobs", "--json", url=stays.url, cwd=home).json
    assert len(found["curves"][0]["points"]) == len(FACTORS)
    nothing = recon("what-if", "plain", url=stays.url, cwd=home)
    assert (nothing.code, nothing.out.strip()) == (0, "plain has no window (`within`) to widen or narrow.")
