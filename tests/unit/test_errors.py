"""Whatever goes wrong, people are told what happened, why, and what to do next."""

from __future__ import annotations

import ast
import errno
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from recon import cli, errors
from recon.errors import BadRows, OutsideLeft, ReconError
from tests.support import ROOT

CATALOGUE = errors.catalogue()
TOLD = [kind for kind in CATALOGUE if kind is not errors.OutputClosed]  # that one has a test with a real pipe below
NAMES = {kind.__name__ for kind in CATALOGUE}
ANSWERS = {"Turned", "NotAllowed"}  # of the service, with a status of HTTP in place of an exit code
# Raised inside of a room and caught there, or by those who call us in a wrong way: a fault of ours, not of a person.
INSIDE = {
    "AssertionError", "AttributeError", "KeyError", "TypeError", "ValueError", "Anew", "Ended", "HTTPException", "Rollback", "Exit", "Unreadable",
    "_Again", "_NoSpec", "_Refused",
}  # fmt: skip


def _example(kind: type[ReconError]) -> ReconError:
    """One of this kind with nothing more said than must be."""
    if kind is BadRows:
        return BadRows("pay.csv: rows are not right.", [], 0)
    if kind is OutsideLeft:
        return OutsideLeft(None, outside={"left": 1})
    return kind()


def _told(
    error: BaseException, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *options: str
) -> tuple[object, str, str]:
    """How the command line ends when a command ends with this: its code, stdout, stderr."""

    def fails(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fails)
    monkeypatch.setattr(sys, "argv", ["recon", "runs", *options])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def _named(node: ast.expr | None) -> str:
    if isinstance(node, ast.Call):
        node = node.func
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


# -- the list --------------------------------------------------------------------------------------------


@functools.cache
def _code() -> list[tuple[str, ast.AST]]:
    """Every node of recon's code, with the name of its file."""
    return [
        (str(path.relative_to(ROOT)), node)
        for path in sorted((ROOT / "recon").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    ]


def test_every_error_stands_in_the_list() -> None:
    found: set[str] = set()
    bases = NAMES | ANSWERS | {"ReconError"}
    for path, node in _code():
        if isinstance(node, ast.ClassDef) and any(_named(base) in bases for base in node.bases):
            found.add(node.name)
            assert path == "recon/errors.py" or node.name in ANSWERS, f"{node.name} of {path} is not in recon/errors.py"
    assert found == NAMES | ANSWERS


@pytest.mark.parametrize("kind", CATALOGUE)
def test_an_error_has_words_of_its_own_for_all_three_parts(kind: type[ReconError]) -> None:
    for words in (kind.__dict__.get("__doc__"), kind.__dict__.get("because"), kind.__dict__.get("next_step")):
        assert words, f"{kind.__name__} takes words from another error"
        assert words[0] == words[0].upper() or words.startswith("recon")
        assert words.endswith((".", '"')), words  # a command to copy ends with its own last character
        assert len(words.splitlines()) == 1


def test_everything_that_is_raised_says_all_three_parts() -> None:
    """What is raised is of the list, which has all three; what is given in place of the list's words is not empty."""
    counted = 0
    for path, node in _code():
        where = f"{path} line {getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Raise):
            name = _named(node.exc)
            if name.lstrip("_")[:1].isupper():  # else a variable, or a function that makes one of the list
                assert name in NAMES | ANSWERS | INSIDE, f"{where} raises {name}, which is not of the list"
        elif isinstance(node, ast.Call) and _named(node) in NAMES:
            counted += 1
            given = [*node.args[:1], *(item.value for item in node.keywords if item.arg in ("why", "todo"))]
            for part in given:
                if isinstance(part, ast.Constant) and part.value is not None:
                    assert str(part.value).strip(), f"{where}: a part is given and empty"
    assert counted > 300


# -- as people see them ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TOLD)
def test_the_command_line_prints_each_error_in_three_parts(
    kind: type[ReconError], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = _example(kind)
    code, out, err = _told(error, capsys, monkeypatch)
    assert code == kind.exit_code
    assert out == ""
    assert err.splitlines() == [error.what, kind.because, kind.next_step]


@pytest.mark.parametrize("kind", TOLD)
def test_each_error_is_one_json_document(
    kind: type[ReconError], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = _example(kind)
    code, out, err = _told(error, capsys, monkeypatch, "--json")
    assert code == kind.exit_code
    document = json.loads(out)
    parts = {"error": kind.__name__, "what": error.what, "why": kind.because, "next": kind.next_step}
    assert document | parts == document
    assert document.keys() - parts.keys() == {BadRows: {"count", "rows"}, OutsideLeft: {"outside"}}.get(kind, set())
    assert err.splitlines() == [error.what, kind.because, kind.next_step]


def test_what_is_said_of_the_case_goes_before_the_list(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = errors.Stale("3 rows changed.", why="Ann edited them.", todo="Ask Ann.")
    assert _told(error, capsys, monkeypatch)[2] == "3 rows changed.\nAnn edited them.\nAsk Ann.\n"
    assert str(errors.Stale("3 rows changed.")) == "3 rows changed."  # quoted in another sentence: nothing general


def _full_disk() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/report.html")


def _surrogate() -> UnicodeEncodeError:
    return UnicodeEncodeError("utf-8", "\udc80", 0, 1, "surrogates not allowed")


@pytest.mark.parametrize(
    ("make", "kind", "says"),
    [
        (KeyboardInterrupt, errors.Interrupted, "stopped"),
        (MemoryError, errors.OutOfMemory, "memory"),
        (_full_disk, errors.NoPlace, "No space left on device"),
        (lambda: PermissionError(errno.EACCES, "Permission denied", "x.csv"), errors.NoPlace, "x.csv"),
        (lambda: FileNotFoundError(errno.ENOENT, "No such file or directory", "a/b"), errors.NoPlace, "Check the path"),
        (lambda: OSError(errno.EMFILE, "Too many open files"), errors.NoPlace, "Too many open files"),
        (
            lambda: ModuleNotFoundError("no", name="papermill.execute"),
            errors.MissingExtra,
            "recon-workbench[notebooks]",
        ),
        (lambda: ModuleNotFoundError("no", name="pandas.core"), errors.MissingExtra, "needs pandas"),
        (_surrogate, errors.UsageError, "not UTF-8"),
        (lambda: ZeroDivisionError("by 4711"), errors.Unforeseen, "ZeroDivisionError, test_errors.py line"),
    ],
)
def test_whatever_ends_a_command_is_told_as_one_of_the_list(
    make: Callable[[], BaseException],
    kind: type[ReconError],
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, out, err = _told(make(), capsys, monkeypatch, "--json")
    assert code == kind.exit_code
    assert says in err
    assert len(err.splitlines()) == 3
    assert "4711" not in err + out  # what nobody foresaw may hold values
    assert "Traceback" not in err
    assert json.loads(out)["error"] == kind.__name__


def test_a_developer_sees_where_what_nobody_foresaw_happened(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECON_DEBUG", "1")
    monkeypatch.setattr(sys, "argv", ["recon", "runs"])
    for error, seen in ((ZeroDivisionError(), ZeroDivisionError), (errors.Stale(), SystemExit)):

        def fails(error: BaseException = error, **_: object) -> None:
            raise error

        monkeypatch.setattr(cli, "app", fails)
        with pytest.raises(seen):
            cli.main()
    assert "Rows changed" in capsys.readouterr().err


# -- where the output goes -------------------------------------------------------------------------------

COMMAND = [sys.executable, "-c", "from recon.cli import main; main()", "schema"]


def test_a_full_disk_under_the_output_is_told() -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(COMMAND, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == errors.NoPlace.exit_code
    assert "No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_reader_that_stops_reading_is_told_on_stderr() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(COMMAND, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    finally:
        os.close(writing)
    assert ended.returncode == errors.OutputClosed.exit_code
    assert ended.stderr.splitlines() == [*errors.OutputClosed().parts]


SLEEPS = """
import time
from recon import cli

@cli.app.command("sleep")
def sleep() -> None:
    print("asleep", flush=True)
    time.sleep(60)

cli.main()
"""


def test_ctrl_c_is_told() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPS, "sleep"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout
        assert running.stdout.readline() == "asleep\n"
        running.send_signal(signal.SIGINT)
        _, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert err.splitlines() == [*errors.Interrupted().parts]
