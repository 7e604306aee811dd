"""The Python API: every example in it is true, every command has its method, and both give the same."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest

import recon
from recon import api, cli, errors, workflow
from recon.api import arguments, backfill, frames, matching, opening, people, place, running
from recon.commands.shared import print_json
from recon.database import embedded
from recon.database.connect import Database
from recon.errors import AlreadyExists, DatabaseUnreachable, SpecError, UsageError
from recon.extras import EXTRAS
from recon.workspace import Workspace
from tests.copies import Copies
from tests.support import RENT, ROOT, load_rent_sample
from tests.support import recon as command

pytestmark = pytest.mark.one_engine  # what the server is asked, other tests ask of every engine

LEDGER = "financial_transactions"
PARTS = (frames, place, matching, people, backfill, running, opening)
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE | doctest.IGNORE_EXCEPTION_DETAIL

# Commands whose method or function has another name, since the word is taken or cannot be one.
NAMED = {"list": "reconciliations", "try": "attempt", "database": "roles"}
# Commands that hold the terminal until Ctrl-C: from Python one calls what they serve.
HELD = {"notebook", "serve", "worker"}


@pytest.fixture
def bench(database: Database, copies: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> recon.Workbench:
    """A workspace of one's own in the current folder, and the rent samples, matched once."""
    monkeypatch.chdir(tmp_path)
    recon.init("workspace")
    home = Workspace(tmp_path / "workspace").with_variables({"RECON_USER": "ann"})

    def matched() -> None:
        load_rent_sample(database)
        for name in (RENT, LEDGER):
            workflow.match(database, home, home.spec(name), "ann")

    copies.after("rent samples matched for the API", matched)
    return recon.Workbench(home, database)


def examples() -> Iterator[list[doctest.DocTest]]:
    """The examples of the API: those of one part together, but each alone that plans, for a plan stands in the way of others."""
    for module in PARTS:
        found = [test for test in doctest.DocTestFinder().find(module, module.__name__) if test.examples]
        found.sort(key=lambda test: _line(module, test))
        alone = [test for test in found if ".plan(" in test.docstring]
        together = [test for test in found if test not in alone]
        yield from ([test] for test in alone)
        if together:
            yield together


def _line(module: ModuleType, test: doctest.DocTest) -> int:
    """Where its function begins, below what looks at the arguments."""
    found = attrgetter(test.name.removeprefix(f"{module.__name__}."))(module)
    return inspect.getsourcelines(getattr(found, "fget", found))[1]


def _names(tests: list[doctest.DocTest]) -> str:
    short = [test.name.removeprefix("recon.api.") for test in tests]
    return short[0] if len(short) == 1 else f"{short[0]} and {len(short) - 1} more"


@pytest.mark.parametrize("tests", [*examples()], ids=_names)
def test_the_examples_are_true(
    tests: list[doctest.DocTest], bench: recon.Workbench, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {"recon": recon, "bench": bench, "url": bench.database.url, "Path": Path, "table": recon.table}
    runner = doctest.DocTestRunner(optionflags=OPTIONS, verbose=False)
    for test in tests:
        test.globs = dict(known)
        runner.run(test)
    assert runner.failures == 0, capsys.readouterr().out


def _public() -> dict[str, Callable[..., Any]]:
    functions = {name: getattr(api, name) for name in api.__all__ if name != "Workbench"}
    methods = inspect.getmembers(recon.Workbench, inspect.isfunction)
    return functions | {name: method for name, method in methods if not name.startswith("_")}


def test_whatever_is_public_has_types_words_and_an_example() -> None:
    for name, function in _public().items():
        assert ">>> " in (inspect.getdoc(function) or ""), f"{name} shows no example"
        unknown = [part for part in inspect.signature(function).parameters if part not in function.__annotations__]
        assert unknown in ([], ["self"]), f"{name}: {unknown} have no type"
        assert "return" in function.__annotations__, f"{name} says nothing of what it returns"
        for raised in re.findall(r"^    ([A-Z]\w+(?:, [A-Z]\w+)*): ", inspect.getdoc(function) or "", re.MULTILINE):
            unknown = [name for name in raised.split(", ") if not hasattr(errors, name) and name != "NoKey"]
            assert not unknown, f"{name} raises {unknown}, which there is not"
    assert (Path(recon.__file__).parent / "py.typed").is_file()
    assert get_type_hints(recon.open)["return"] is recon.Workbench


def test_every_command_has_its_method() -> None:
    commands = {item.name or item.callback.__name__ for item in cli.app.registered_commands if item.callback}
    public = {*_public(), *api.__all__}
    missing = {name for name in commands - HELD if NAMED.get(name, name.replace("-", "_")) not in public}
    assert not missing, f"no method for {', '.join(sorted(missing))}"
    assert commands > HELD
    assert commands > NAMED.keys()


def _document(found: object, capsys: pytest.CaptureFixture[str]) -> Any:
    """A result as the command line would print it."""
    capsys.readouterr()
    print_json(found)
    return json.loads(capsys.readouterr().out)


def _rows(frame: Any, capsys: pytest.CaptureFixture[str]) -> Any:
    return _document(frame.astype(object).where(frame.notna(), None).to_dict("records"), capsys)


def _without(document: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name not in names}


def test_it_gives_what_the_commands_print(bench: recon.Workbench, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(*arguments: str, user: str = "ann") -> Any:
        ended = command(*arguments, "--json", url=bench.database.url, user=user, cwd=bench.workspace.root)
        assert ended.code in (0, 3), ended.err
        return ended.json

    def same(found: object, told: Any) -> None:
        assert _document(found, capsys) == told

    same([spec.name for spec in bench.reconciliations()], [row["name"] for row in printed("list")["reconciliations"]])
    same(_without(bench.check(LEDGER).as_dict(), "seconds"), _without(printed("check", LEDGER), "seconds"))
    ran = printed("match", LEDGER)
    told = bench.result(LEDGER)
    same(told.as_dict(), _without(ran, "precision", "statistics"))
    passing = ("run", "seconds", "breaks")  # a break is new in one run only
    same(_without(bench.match(LEDGER).as_dict(), *passing), _without(ran, "precision", "statistics", *passing))

    listed = printed("decisions", LEDGER)["decisions"]
    found = bench.decisions(LEDGER)
    assert len(found) == len(listed) == 1_028
    keys = ["target_key", "source_key", "outcome", "pass", "reason"]
    assert _rows(found[keys], capsys) == [{name: row[name] for name in keys} for row in listed]
    same(bench.explain(LEDGER, 20288).as_dict(), printed("explain", LEDGER, "--key", "20288"))
    measured = printed("backtest", RENT)
    same(_without(bench.backtest(RENT).as_dict(), "run_at", "measured_at"), _without(measured, "run_at", "measured_at"))
    pair = {"property_id": 10, "customer_id": 3}, {"property_id": 10}
    sides = ["--target", json.dumps(pair[0]), "--source", json.dumps(pair[1])]
    tried = printed("try", RENT, "--pass", "property_without_customer", *sides)
    same(bench.attempt(RENT, "property_without_customer", *pair).as_dict(), tried)

    broken = printed("breaks", LEDGER)
    assert bench.ageing(LEDGER) == broken["ageing"]
    assert bench.breaks(LEDGER)["key"].tolist() == [row["key"] for row in broken["breaks"]]
    assert bench.runs(LEDGER)["run"].tolist() == [row["run"] for row in printed("runs", LEDGER)["runs"]]

    plan = bench.plan(RENT)
    assert plan is not None
    same({"plans": [item.as_dict() for item in bench.plans()]}, printed("plans"))
    same(bench.review(plan.plan).as_dict(), printed("review", plan.plan))
    approved = bench.acting("bob").approve(plan.plan)
    same(approved.as_dict(), printed("plans")["plans"][0])
    foreseen = bench.apply(plan.plan)
    times = ("seconds", "checking_seconds", "predicted_seconds", "query_plan")
    same(_without(foreseen.as_dict(), *times), _without(printed("apply", plan.plan), *times))
    done = bench.apply(plan.plan, execute=True)
    assert (done.changed, done.state) == (10, "applied")
    undone = printed("revert", plan.plan)
    same(_without(bench.revert(plan.plan).as_dict(), "seconds"), _without(undone, "seconds"))
    same(bench.audit().as_dict(), printed("audit"))


def test_what_is_wrong_is_an_error_of_ours(bench: recon.Workbench, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"rent_payments\.yaml.*passses"):
        bench.spec(RENT, passses=[])
    with pytest.raises(UsageError, match="There is no folder"):
        recon.open(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="There is no state"):
        bench.breaks(RENT, state="closed")
    with pytest.raises(UsageError, match="same file"):
        bench.backtest(RENT, truth="a.csv", wrong="a.csv")
    with pytest.raises(AlreadyExists):
        recon.init(bench.workspace.root)
    for method in (bench.runs, bench.plans, bench.breaks, bench.overrides, bench.standing, bench.ageing):
        with pytest.raises(recon.errors.NotFound, match='"rent_paiments"'):
            method("rent_paiments")
    with pytest.raises(AttributeError):
        _ = recon.workbench  # pyright: ignore[reportAttributeAccessIssue]


def test_a_text_is_no_yes_to_writing(bench: recon.Workbench) -> None:
    no: Any = "no"
    for change in (bench.apply, bench.revert, bench.sync):
        with pytest.raises(UsageError) as error:
            change(RENT, execute=no)
        assert "neither True nor False" in str(error.value)


@pytest.mark.parametrize(
    ("method", "given", "fields", "wrong"),
    [
        ("match", (5,), {}, "name is of the type int. It takes the name of a reconciliation or a spec."),
        ("match", (RENT,), {"from_day": "2024-01-01"}, "from_day is of the type str. It takes a datetime.date or None."),
        ("match", (RENT,), {"limit": "5"}, "limit is of the type str. It takes a whole number or None."),
        ("match", (RENT,), {"limit": True}, "limit is of the type bool."),
        ("load", (None,), {}, "name is of the type NoneType. It takes a text."),  # not: whatever has no group
        ("decide", (RENT, None), {"reason": "x"}, "kind is of the type NoneType. It takes a text."),
        ("decisions", (RENT, "matched", 5), {}, "outcomes is of the type int."),
        ("decisions", (RENT,), {"rows": "1 OR true"}, "rows is of the type str."),
        ("plan", (RENT,), {"passes": "override"}, "passes is of the type str. It takes a list of texts."),
        ("plan", (RENT,), {"passes": [5]}, "passes is of the type list. It takes a list of texts."),
        ("plan", (RENT,), {"over_cap": "no"}, "over_cap is neither True nor False."),
        ("attempt", (RENT, "x", None, {}), {}, "target is of the type NoneType. It takes a dictionary."),
        ("save", (RENT, 5), {}, "to is of the type int. It takes a text or a path or None."),
        ("review", (5,), {}, "plan is of the type int."),
        ("acting", (None,), {}, "actor is of the type NoneType."),
    ],
)  # fmt: skip
def test_an_argument_of_a_wrong_type_is_named(
    method: str, given: tuple[Any, ...], fields: dict[str, Any], wrong: str
) -> None:
    """No database is asked: there is none."""
    bench = recon.Workbench(Workspace(Path()), Database("postgresql://127.0.0.1:1/none"))
    with pytest.raises(UsageError) as error:
        getattr(bench, method)(*given, **fields)
    assert wrong in str(error.value)


def test_functions_name_their_arguments_and_python_says_which_are_too_many() -> None:
    number: Any = 5
    for function in (recon.open, recon.init, recon.draft, recon.scratch):
        with pytest.raises(UsageError, match="is of the type int"):
            function(number)
    unknown: Any = {"key": None}
    with pytest.raises(TypeError, match="'key'"):
        recon.open(**unknown)


def test_every_type_of_an_argument_is_known() -> None:
    """Else an argument of a new type would pass unseen."""
    for name, function in _public().items():
        if name in ("schema", "table"):  # nothing is given; whatever can be a row
            continue
        for part in inspect.signature(function).parameters.values():
            words = [] if part.name == "self" else str(part.annotation).split(" | ")
            assert not [word for word in words if word not in (*arguments.TYPES, *arguments.ANYTHING)], (name, part)


def test_a_key_of_64_bits_stays_whole_beside_a_missing_one() -> None:
    largest = 2**63 - 1
    found = frames.frame(["key", "key", "text"], [(largest, 1, "a"), (None, 2, None)])
    assert found.iloc[0, 0] == largest
    assert str(found.dtypes.iloc[0]) == "Int64"
    assert found["text"].isna().tolist() == [False, True]


def test_the_embedded_server_stops_with_who_began_it(tmp_path: Path) -> None:
    recon.init(tmp_path / "place")
    folder = tmp_path / "place" / ".recon"
    try:
        with recon.open(tmp_path / "place") as first:
            with recon.open(tmp_path / "place", actor="bob") as second:
                assert second.actor == "bob"
            assert first.database.embedded
            with first.database.session() as session:
                assert session.value("SELECT 1") == 1
        assert not embedded.is_running(folder)
    finally:
        embedded.discard(folder)


def test_whoever_closes_first_leaves_the_server_to_the_others(tmp_path: Path) -> None:
    """However often it is closed: a notebook's cell is run again, and its first bench is still there."""
    recon.init(tmp_path / "place")
    folder = tmp_path / "place" / ".recon"
    try:
        first, second = recon.open(tmp_path / "place"), recon.open(tmp_path / "place")
        for _ in range(2):
            first.close()
        assert second.runs().empty
        second.close()
        assert not embedded.is_running(folder)
        with pytest.raises(DatabaseUnreachable, match="embedded database does not run") as closed:
            second.runs()
        assert "recon.open" in closed.value.todo
    finally:
        embedded.discard(folder)


def test_two_files_are_drafted_and_matched(tmp_path: Path) -> None:
    references = [f"INV-{number * 7919 % 9000 + 1000}" for number in range(1, 121)]
    payments = [f"{number},{said.lower()},{number * 37 % 500}.50" for number, said in enumerate(references, 1)]
    invoices = [f"{said},{number * 37 % 500}.50" for number, said in enumerate(references, 1)]
    (tmp_path / "payments.csv").write_text("\n".join(["id,reference,paid", *payments, ""]), encoding="utf-8")
    (tmp_path / "invoices.csv").write_text("\n".join(["number,due", *invoices, ""]), encoding="utf-8")
    home = tmp_path / "place"
    try:
        with pytest.raises(UsageError, match="two sides"):
            recon.draft(home, target=tmp_path / "payments.csv")
        started = recon.draft(home, target=tmp_path / "payments.csv", source=tmp_path / "invoices.csv")
        assert started.name == "payments"
        with recon.open(home) as bench:
            assert sorted(bench.load("payments").values()) == [120, 120]
            assert bench.match("payments").coverage == 1
    finally:
        embedded.discard(home / ".recon")


def test_the_core_alone_is_enough_to_begin() -> None:
    """Without the libraries of any extra the API is there, and what needs one says which."""
    absent = sorted({module for modules in EXTRAS.values() for module in modules})
    script = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(name, name=name)
import recon
assert not {{"pydantic", "sqlalchemy", "pandas"}} & {{*sys.modules}}, "import recon costs something"
sys.meta_path.insert(0, Absent())
print(len([getattr(recon, name) for name in recon.__all__]))
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (ended.stdout.strip(), ended.stderr) == (str(len(recon.__all__)), "")


def test_the_reference_page_is_made_of_the_docstrings() -> None:
    described = importlib.util.spec_from_file_location("python_api", ROOT / "docs" / "python_api.py")
    assert described is not None
    assert described.loader is not None
    made = importlib.util.module_from_spec(described)
    described.loader.exec_module(made)
    assert made.PAGE.read_text(encoding="utf-8") == made.page(), "run `make reference`"
    for name in _public():
        assert f"\n### {name}\n" in made.page() or f"\n### recon.{name}\n" in made.page(), f"{name} is not on the page"
