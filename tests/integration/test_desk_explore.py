"""What the explore notebook counts, pages and explains, without a browser: against plain SQL, and on either side."""

from __future__ import annotations

import csv
import io
import itertools
import json
from typing import Any

import pytest

from recon.database.connect import Database
from recon.desk import explore, explore_actions, explore_facets, explore_records, explore_why
from recon.desk.explore import View
from recon.desk.explore_facets import ALL, FACETS, MONTHS, NONE
from recon.desk.explore_records import PAGE_ROWS, Asked
from recon.errors import NotFound, UsageError
from recon.matching import breaks
from recon.matching import run as runs
from recon.workspace import Workspace
from tests.support import execute, load_rent_sample, rows

pytestmark = pytest.mark.one_engine  # the statements are of the plainest kind

IMPORTS = "financial_transactions"


@pytest.fixture
def view(database: Database, workspace: Workspace) -> View:
    """The sample's run, with a break of nine days, one of ninety, and one that is with ben."""
    load_rent_sample(database)
    runs.match(database, workspace.spec(IMPORTS), "ann")
    first, second, third = [row[0] for row in rows(database, "SELECT key[1] FROM recon.breaks ORDER BY key LIMIT 3")]
    for days, key in ((9, first), (90, second)):
        execute(database, f"UPDATE recon.breaks SET opened_at = now() - interval '{days} days' WHERE key[1] = '{key}'")
    breaks.assign(database, IMPORTS, "ben", "ann", [third])
    return explore.view(database, workspace, IMPORTS)


def _keys(view: View, database: Database, asked: Asked) -> list[str]:
    text = explore_records.as_csv(database, view, asked).decode()
    return [line[0] for line in csv.reader(io.StringIO(text))][1:]


def test_every_facet_counts_what_plain_sql_counts(database: Database, view: View) -> None:
    counts = view.cube.counts({})
    assert sum(counts["outcome"].values()) == view.run.population
    assert counts["outcome"] == dict(view.run.outcomes)
    ages = dict(
        rows(
            database,
            "SELECT CASE WHEN opened_at > now() - interval '1 day' THEN 'new' WHEN opened_at > now() - interval '31 days'"
            " THEN '8 to 30 days' ELSE 'over 30 days' END, count(*)::int FROM recon.breaks GROUP BY 1",
        )
    )
    assert {age: number for age, number in counts["age"].items() if age != NONE} == ages
    assert set(ages) == {"new", "8 to 30 days", "over 30 days"}
    assert list(counts["age"])[:1] == ["new"]
    assert counts["assignee"] == {"ben": 1, NONE: view.run.population - 1}
    months = dict(
        rows(
            database,
            f"SELECT to_char(transaction_date, 'YYYY-MM'), count(*)::int FROM recon.decisions_{view.run.run}"
            " JOIN financial_transactions ON id = target_key GROUP BY 1",
        )
    )
    shown = {month: number for month, number in counts["month"].items() if not month.startswith("before")}
    assert len(shown) == MONTHS
    assert shown.items() <= months.items()
    assert sum(counts["month"].values()) == sum(months.values())


def test_a_choice_changes_the_counts_of_the_other_facets_alone(database: Database, view: View) -> None:
    before, after = view.cube.counts({}), view.cube.counts({"reason": ("tie",)})
    assert after["reason"] == before["reason"]
    assert after["outcome"]["ambiguous"] == 12
    assert after["outcome"]["linked"] == 0
    assert list(after["outcome"]) == list(before["outcome"])


def test_what_is_counted_is_what_is_listed(database: Database, view: View) -> None:
    """For single values of each facet, and pairs of them: the total of the cube is the number of rows."""
    counts = view.cube.counts({})
    singles = [(facet, value) for facet, values in counts.items() for value in list(values)[:3] + list(values)[-2:]]
    asked = [{facet: (value,)} for facet, value in singles]
    asked += [
        {"outcome": view.cube.unreconciled, facet: (value, NONE)} for facet, value in singles if facet != "outcome"
    ]
    for chosen in asked:
        found = explore_records.page(database, view, Asked(chosen))
        keys = _keys(view, database, Asked(chosen))
        assert (found.total, len(found.rows)) == (len(keys), min(len(keys), PAGE_ROWS)), chosen


def test_pages_follow_one_another_without_a_gap(database: Database, view: View) -> None:
    chosen = {"outcome": view.cube.unreconciled}
    pages = [explore_records.page(database, view, Asked(chosen, page=number)) for number in (1, 2)]
    keys = [row["target_key"] for found in pages for row in found.rows]
    assert keys == sorted(keys)
    assert len(keys) == len(set(keys)) == 32
    assert explore_records.page(database, view, Asked(chosen, page=99)).number == 2
    down = explore_records.page(database, view, Asked(chosen, order="key, last first"))
    assert down.rows[0]["target_key"] == keys[-1]
    assert [explore_records.page(database, view, Asked({}, key=str(keys[0]))).total, _none(database, view)] == [1, 0]


def _none(database: Database, view: View) -> int:
    return explore_records.page(database, view, Asked({}, key="no such key")).total


def test_an_address_with_months_of_another_day_lists_as_many_as_are_counted(database: Database, view: View) -> None:
    """What stands together as older moves on from month to month, and addresses are sent to others."""
    older = next(month for month in view.cube.months if month.startswith("before"))
    number = view.cube.counts({})["month"][older]
    year = int(older.removeprefix("before ")[:4])
    for months, expected in (
        ([f"before {year - 1}-01"], number),
        ([f"before {year + 1}-01", older], number),
        ([f"{year - 1}-01"], 0),
        (["before 1", "2025-1"], 0),
    ):
        said = {"month": months, "outcome": [ALL]}
        asked = explore_records.asked_in(lambda name, said=said: said.get(name, []), view)
        found = explore_records.page(database, view, asked)
        assert (found.total, len(_keys(view, database, asked))) == (expected, expected), months
        assert sum(view.cube.counts(asked.chosen)["outcome"].values()) == expected


def test_an_address_with_what_no_text_can_hold_says_nothing(database: Database, view: View) -> None:
    said = {name: ["\0", "a\ud800"] for name in (*FACETS, "key", "order", "page")}
    asked = explore_records.asked_in(lambda name: said.get(name, []), view)
    assert asked == explore_records.asked_in(lambda _: [], view)


def test_breaks_are_read_once_whatever_is_chosen_among_them(database: Database, view: View) -> None:
    """Joined to them, a planner that knows too few of them goes through all of them for each record: for minutes."""
    asked = Asked({"age": ("new",), "assignee": (NONE,), "reason": ("tie",)})
    said = next(item for item in explore_records.page(database, view, asked).statements if "LIMIT" in item.sql)
    with database.session(read_only=True) as session:
        plan = "\n".join(row[0] for row in session.rows(f"EXPLAIN {said.sql}", *said.values))
    assert plan.count("(hashed SubPlan") == 2, plan
    assert "Semi Join" not in plan


def test_a_run_that_was_forgotten_while_a_page_was_open_says_so(database: Database, view: View) -> None:
    execute(database, f"DROP TABLE recon.decisions_{view.run.run}")
    with pytest.raises(NotFound, match="Reload the page"):
        explore_records.page(database, view, Asked({}))


def test_an_address_says_what_is_chosen_and_back(view: View) -> None:
    nothing = explore_facets.chosen_in(lambda _: [], view.cube)
    assert nothing["outcome"] == view.cube.unreconciled == ("proposed", "ambiguous", "unmatched")
    assert explore_facets.in_address("outcome", nothing["outcome"], view.cube) == []
    assert explore_facets.in_address("outcome", (), view.cube) == [ALL]
    everything = explore_facets.chosen_in(lambda name: [ALL] if name == "outcome" else [], view.cube)
    assert view.cube.total(everything) == view.run.population
    strange: dict[str, list[str]] = {"outcome": ["; DROP"], "month": ["x", "before 1"], "page": ["٣"], "order": ["'"]}
    asked = explore_records.asked_in(lambda name: strange.get(name, []), view)
    assert (asked.page, asked.order, view.cube.total(asked.chosen)) == (1, "to explain first", 0)
    assert set(view.cube.counts(asked.chosen)) <= set(FACETS)


def test_strange_choices_ask_the_database_and_find_nothing(database: Database, view: View) -> None:
    for chosen in ({"month": ("x", "before 1")}, {"outcome": ("'; DROP TABLE x",)}, {"age": ("old",)}):
        assert explore_records.page(database, view, Asked(chosen)).rows == []


# -- either side -----------------------------------------------------------------------------------------

CRM: dict[str, Any] = {
    "name": "crm",
    "population": "source",
    "source": {"table": "legacy", "key": ["country", "number"], "date": "founded"},
    "target": {"table": "companies", "key": "id"},
    "cardinality": "one_to_one",
    "passes": [{"name": "by_name", "on": {"name": "name"}}],
    "compare": {"city": "city"},
}


@pytest.fixture
def companies(database: Database, workspace: Workspace) -> View:
    """Two sources: the same and missing; and one orphan among the targets."""
    execute(
        database,
        "CREATE TABLE legacy (country text, number int, name text, city text, founded date, PRIMARY KEY (country, number))",
        "CREATE TABLE companies (id int PRIMARY KEY, name text, city text)",
        "INSERT INTO legacy VALUES ('fr', 1, 'one', 'Paris', '2020-01-05'), ('de', 2, 'two', 'Bonn', '2021-03-01')",
        "INSERT INTO companies VALUES (10, 'one', 'Paris'), (30, 'three', 'Rome')",
    )
    (workspace.root / "reconciliations" / "crm.yaml").write_text(json.dumps(CRM), encoding="utf-8")
    runs.match(database, workspace.spec("crm"), "ann")
    return explore.view(database, workspace, "crm")


def test_records_of_either_side_are_counted_listed_and_explained(database: Database, companies: View) -> None:
    assert companies.cube.counts({})["outcome"] == {"same": 1, "orphan": 1, "missing": 1}
    assert companies.cube.unreconciled == ("orphan", "missing")
    for chosen in itertools.chain([{"outcome": ("orphan",)}], [{"age": ("new",)}], [{"month": ("2021-03", NONE)}]):
        assert explore_records.page(database, companies, Asked(chosen)).total == companies.cube.total(chosen)
        assert len(_keys(companies, database, Asked(chosen))) == companies.cube.total(chosen)
    found = explore_records.page(database, companies, Asked({}))
    lines = explore_records.table_rows(companies, found)
    assert [(line["record"], line["side"], line["companies"]) for line in lines] == [
        ('["de", 2]', "source", ""), (30, "target", ""), ('["fr", 1]', "source", 10),
    ]  # fmt: skip
    missing, orphan, same = [explore_why.why(database, companies, row) for row in found.rows]
    assert (missing.word, missing.key, missing.candidates) == ("source", '["de", 2]', ())
    assert missing.steps[0].explained.sentence == "No target record has name two."
    assert (orphan.word, orphan.key) == ("target", "30")
    assert orphan.steps[0].explained.sentence == "No source record has name three."
    assert (same.candidates, same.roles, same.lines[0].record, same.lines[0].values) == (
        (10,),
        ("chosen",),
        "one",
        ("one",),
    )
    assert orphan.open_break is not None
    assert missing.open_break is not None


def test_a_missing_record_is_linked_left_out_and_assigned(
    database: Database, workspace: Workspace, companies: View
) -> None:
    spec = companies.bound.spec
    row = explore_records.page(database, companies, Asked({"outcome": ("missing",)})).rows[0]
    found = explore_why.why(database, companies, row)
    with pytest.raises(UsageError, match="Say which record"):
        explore_actions.decide(database, spec, found, kind="link", other=" ", reason="known", actor="ann")
    with pytest.raises(NotFound):
        explore_actions.decide(database, spec, found, kind="link", other="99", reason="known", actor="ann")
    said = explore_actions.decide(database, spec, found, kind="link", other="30", reason="renamed", actor="ann")
    assert said.startswith('Target 30 is linked to source ["de", "2"].')
    assert explore_actions.waiting(database, companies) == 1
    (standing,) = explore_why.why(database, companies, row).standing
    assert explore_actions.sentence(standing).startswith('target 30 is linked to source ["de", "2"]: renamed (ann, ')
    explore_actions.undo(database, spec, standing, reason="no", actor="ann")
    assert explore_why.why(database, companies, row).standing == ()
    assert explore_actions.assign(database, companies, found, who=" ben ", actor="ann") == '["de", 2] is with ben.'
    assert rows(database, "SELECT assignee FROM recon.breaks WHERE assignee IS NOT NULL") == [("ben",)]
    explore_actions.decide(database, spec, found, kind="link", other="30", reason="renamed", actor="ann")
    assert explore_actions.match_again(database, workspace, "crm").outcomes == {"same": 1, "changed": 1}
