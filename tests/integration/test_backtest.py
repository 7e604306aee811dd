"""How precise rules are, measured on the links that exist or on a file of right pairs."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from recon.database.connect import Database
from recon.errors import NotFound, UsageError
from recon.matching import backtest as testing
from recon.spec import Reconciliation
from tests.support import RENT, execute, load_rent_sample, recon, rows, simple_spec

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code

PASSES = [
    {"name": "code", "on": {"code": "code"}},
    {"name": "place", "on": {"place": "place"}, "prefer": ["s.id"], "accept": "review"},
]
TWO = simple_spec(passes=PASSES)


@pytest.fixture
def pays(database: Database) -> Database:
    """Four linked payments, of which the rules find 1 and propose 3; of 2 and 4 they say something else; 5 is open."""
    execute(
        database,
        "CREATE TABLE pay (id int PRIMARY KEY, code text, place int, lease_id int)",
        "CREATE TABLE lease (id int PRIMARY KEY, code text, place int)",
        "INSERT INTO lease VALUES (7, 'x', 1), (8, 'y', 2), (9, 'z', 3), (10, 'w', 4)",
        "INSERT INTO pay VALUES (1, 'x', 1, 7), (2, 'z', NULL, 8), (3, NULL, 2, 8), (4, NULL, 4, 9), (5, 'w', NULL, NULL),"
        " (6, NULL, NULL, 7), (20, 'x', NULL, 4711)",
    )
    return database


def test_right_wrong_and_not_found_are_counted_per_pass(pays: Database) -> None:
    before = rows(pays, "SELECT * FROM pay ORDER BY id")
    found = testing.backtest(pays, TWO, "ann")
    code, place = found.passes
    assert (code.right, code.wrong, code.new) == (1, 1, 2)  # new: the open one, and the one whose lease does not exist
    assert (place.proposed_right, place.proposed_wrong) == (1, 1)
    assert (place.right, place.wrong) == (0, 0)
    assert found.not_found == {"unmatched": 1}
    assert (found.population, found.known, found.left_out) == (7, 5, 1)
    assert (found.precision, found.recall) == (0.5, 0.2)
    assert found.f1 == pytest.approx(2 / 7)
    assert code.precision == 0.5
    assert place.recall(found.known) == 0.2
    wrong = [(item.record, item.linked_to, item.rules_say, item.outcome, item.rule) for item in found.wrong]
    assert wrong == [(2, 8, 9, "matched", "code"), (4, 9, 10, "proposed", "place")]
    assert rows(pays, "SELECT * FROM pay ORDER BY id") == before
    assert rows(pays, "SELECT count(*)::int FROM pg_class WHERE relname LIKE 'recon\\_%'") == [(0,)]


def test_the_counts_add_up_to_what_is_known(pays: Database) -> None:
    found = testing.backtest(pays, TWO, "ann")
    whole = found.found_right + found.found_wrong + found.proposed_right + found.proposed_wrong
    assert whole + sum(found.not_found.values()) == found.known


def test_the_links_are_hidden_from_the_passes_themselves(pays: Database) -> None:
    cheat = {"name": "cheat", "on": {"place": "place"}, "when": "t.lease_id = s.id"}
    found = testing.backtest(pays, simple_spec(passes=[cheat]), "ann")
    assert found.found_right == 0
    assert found.not_found == {"unmatched": 5}


def test_one_to_one_frees_the_linked_and_calls_a_stolen_partner_wrong(database: Database) -> None:
    execute(
        database,
        "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id int)",
        "CREATE TABLE lease (id int PRIMARY KEY, code text)",
        "INSERT INTO lease VALUES (7, 'x'), (8, 'y')",
        "INSERT INTO pay VALUES (1, 'x', 7), (2, NULL, 8), (3, 'y', NULL)",  # 3 takes what is known to be 2's
    )
    for population in ("target", "source"):
        spec = simple_spec(cardinality="one_to_one", population=population)
        found = testing.backtest(database, spec, "ann")
        assert (found.found_right, found.found_wrong, found.known) == (1, 1, 2), population
    of_targets = testing.backtest(database, simple_spec(cardinality="one_to_one"), "ann")
    wrong = of_targets.wrong[0]
    assert (wrong.record, wrong.linked_to, wrong.rules_say, wrong.whose) == (3, None, 8, 2)


def test_a_file_of_right_pairs_serves_where_there_are_no_links(pays: Database, tmp_path: Path) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text("target_key,source_key,note\n1,7,\n2,9,sure\n\n3,\n5,10,\n99,7,\n", encoding="utf-8")
    spec = simple_spec(passes=PASSES, link=None)
    found = testing.backtest(pays, spec, "ann", truth)
    assert (found.known, found.known_alone, found.left_out) == (3, 1, 1)
    assert (found.found_right, found.found_wrong) == (3, 0)
    assert found.proposed_wrong == 1  # 3 is known to have no partner
    assert found.truth == "truth.csv"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: the file is empty"),
        ("target,source\n1,7\n", "line 1: the heading does not name target_key and source_key"),
        ("target_key,source_key\n1,7\n\n2\n", "line 4: it has too few columns"),
        ("target_key,source_key\n1,7\n,8\n", "line 3: it has no target_key"),
        ("target_key,source_key\n1,7\n\ntwo,8\n", "line 4: invalid input syntax for type integer"),
        ('target_key,source_key\n1,7\n"2"x,8\n', "line 3: it is not CSV"),
        ("target_key,source_key\n99,7\n", "nothing to measure"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_its_line(
    pays: Database, tmp_path: Path, text: str, said: str
) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as error:
        testing.backtest(pays, TWO, "ann", truth)
    assert said in str(error.value)


def test_composite_keys_stand_as_json_arrays(database: Database, tmp_path: Path) -> None:
    execute(
        database,
        "CREATE TABLE pay (id int, half int, code text, PRIMARY KEY (id, half))",
        "CREATE TABLE lease (id int PRIMARY KEY, code text)",
        "INSERT INTO pay VALUES (1, 1, 'x'), (1, 2, 'y')",
        "INSERT INTO lease VALUES (7, 'x'), (8, 'y')",
    )
    spec = simple_spec(link=None, target={"table": "pay", "key": ["id", "half"]})
    truth = tmp_path / "truth.csv"
    truth.write_text('target_key,source_key\n"[1, 1]",7\n"[1, 2]",7\n', encoding="utf-8")
    found = testing.backtest(database, spec, "ann", truth)
    assert (found.found_right, found.found_wrong) == (1, 1)
    assert found.wrong[0].record == "[1, 2]"
    truth.write_text("target_key,source_key\n1,7\n", encoding="utf-8")
    with pytest.raises(UsageError, match="line 2: target_key is not a JSON array of 2 values"):
        testing.backtest(database, spec, "ann", truth)


def test_without_anything_known_it_says_so(pays: Database, tmp_path: Path) -> None:
    execute(pays, "UPDATE pay SET lease_id = NULL")
    for spec in (TWO, simple_spec(link=None)):
        with pytest.raises(UsageError, match="nothing to measure the rules of simple by") as error:
            testing.backtest(pays, spec, "ann")
        assert "--truth" in error.value.todo
    with pytest.raises(NotFound, match="There is no file"):
        testing.backtest(pays, TWO, "ann", tmp_path / "nowhere.csv")


def test_the_latest_measure_is_that_of_exactly_these_rules(pays: Database) -> None:
    assert testing.latest(pays, TWO) is None
    made = testing.backtest(pays, TWO, "ann")
    assert testing.latest(pays, TWO) == made
    assert testing.latest(pays, TWO.model_copy(update={"title": "only words"})) == made
    assert testing.latest(pays, simple_spec()) is None
    again = testing.backtest(pays, TWO, "bob")
    known = testing.latest(pays, TWO)
    assert known is not None
    assert (known.actor, known.run_at) == ("bob", again.run_at)


def test_every_wrong_pair_can_be_written_to_a_file(pays: Database) -> None:
    out = io.StringIO()
    testing.backtest(pays, TWO, "ann", wrong=out)
    assert list(csv.reader(io.StringIO(out.getvalue()))) == [
        ["record", "linked_to", "rules_say", "which_is_linked_to", "outcome", "pass"],
        ["2", "8", "9", "", "matched", "code"],
        ["4", "9", "10", "", "proposed", "place"],
    ]


def test_known_rules_of_the_sample_are_measured(rent: Database, spec: Reconciliation) -> None:
    found = testing.backtest(rent, spec, "ann")
    assert (found.known, found.found_wrong) == (125, 3)
    assert found.recall == pytest.approx(119 / 125)


@pytest.mark.one_engine
def test_coverage_is_shown_beside_precision(database: Database, tmp_path: Path) -> None:
    load_rent_sample(database)
    home = tmp_path / "home"
    assert recon("init", str(home)).code == 0

    def shown(*arguments: str) -> str:
        ended = recon(*arguments, url=database.url, cwd=home)
        assert ended.code == 0, ended.err
        return " ".join(ended.out.split())

    assert json.loads(shown("match", RENT, "--json"))["precision"] is None
    assert "precision 97" not in shown("match", RENT)
    wrong = home / "wrong.csv"
    tested = shown("backtest", RENT, "--wrong", str(wrong))
    assert "wrong pairs are in" in tested
    assert len(wrong.read_text().splitlines()) == 4
    document = json.loads(shown("match", RENT, "--json"))
    assert document["precision"].keys() == {"precision", "recall", "known", "measured_at"}
    assert document["precision"]["known"] == 125
    assert "Coverage 100.0 %, precision 97.5 %, recall 95.2 %" in shown("match", RENT)
    assert json.loads(shown("runs", "--json"))["runs"][0]["precision"]["known"] == 125
    assert "97.5 %" in shown("runs")
    from recon.reports import data, sections
    from recon.workspace import Workspace

    report = sections.headline(data.gather(database, Workspace(home), RENT))
    assert "<span>precision</span>" in report
