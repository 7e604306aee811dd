"""What a stranger installs: the wheel holds all that it needs, and goes the whole way with its core's libraries alone."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmarks import wheel as way
from recon import new_workspace
from recon.database.connect import Database
from recon.extras import EXTRAS
from tests.core_only import Step, Unpacked
from tests.support import ROOT

pytestmark = pytest.mark.one_engine

TEMPLATE = {"notebooks": "*", "sql/schema": "*", "sql/queries": "*", "expectations": "*.json"}
ALONE = ("recon.toml", "allowed_signers")
# Modules that only who has an extra can read; all others work without.
NEED_EXTRAS = ("recon.service.", "recon.desk.lab_server", "recon.reports.execution", "recon.reports.offline")
# What a command needs that the core does not bring, and the extra that brings it.
MISSING = {
    ("report", "rent_payments"): ("papermill", "notebooks"),
    ("run", "rent_payments"): ("papermill", "notebooks"),
    ("notebook", "explore"): ("marimo", "notebooks"),
    ("notebook", "lab"): ("jupyterlab", "notebooks"),
    ("report", "rent_payments", "--schedule", "0 7 * * *"): ("croniter", "service"),
    ("serve",): ("fastapi", "service"),
    ("worker", "--once"): ("procrastinate", "service"),
    ("sync", "stays_reservations"): ("httpx2", "service"),
    ("token", "--sub", "ann", "--role", "viewer", "--organization", "1"): ("jwt", "service"),
    ("demo", "hcp_jobs"): ("fastapi", "service"),
}


def _build(source: Path, folder: Path, *kinds: str) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    command += [part for kind in kinds for part in ("--target", kind)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist."""
    folder = tmp_path_factory.mktemp("built")
    _build(ROOT, folder, "sdist", "wheel")
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    return Unpacked(wheel, tmp_path_factory.mktemp("unpacked"))


def _tree(folder: Path) -> dict[str, str]:
    """Every file below a folder, with the digest of what it holds."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_holds_every_file_of_the_package_and_of_the_template(unpacked: Unpacked) -> None:
    inside = _tree(unpacked.site / "recon")
    package = _tree(ROOT / "recon")
    assert "py.typed" in package
    assert package.items() <= inside.items()
    expected = {
        f"template/{path.relative_to(ROOT)}": hashlib.sha256(path.read_bytes()).hexdigest()
        for folder, names in TEMPLATE.items()
        for path in (ROOT / folder).glob(names)
        if path.is_file()
    }
    expected |= {f"template/{name}": hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in ALONE}
    assert {name: of for name, of in inside.items() if name not in package} == expected


def test_a_wheel_built_from_the_sdist_is_the_same_wheel(built: Path, wheel: Path, tmp_path: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as packed:
        packed.extractall(tmp_path, filter="data")
    _build(tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path / "again", "wheel")
    assert (tmp_path / "again" / wheel.name).read_bytes() == wheel.read_bytes()


def test_its_metadata_says_what_it_is_and_which_extras_it_has(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        (path,) = (name for name in packed.namelist() if name.endswith("METADATA"))
        lines = packed.read(path).decode().splitlines()
        assert any(name.endswith("licenses/LICENSE") for name in packed.namelist())
    assert "License-Expression: MIT" in lines
    assert "Requires-Python: >=3.11" in lines
    extras = {line.removeprefix("Provides-Extra: ") for line in lines if line.startswith("Provides-Extra: ")}
    assert extras == {*EXTRAS, "all", "benchmarks"}
    every = {line.partition(";")[0] for line in lines if line.endswith("extra == 'all'")}
    of_each = {line.partition(";")[0] for line in lines for extra in EXTRAS if line.endswith(f"extra == '{extra}'")}
    assert every == of_each
    assert (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[0] in lines


def test_with_its_core_alone_it_goes_from_files_to_a_verified_backfill(
    unpacked: Unpacked, database: Database, tmp_path: Path
) -> None:
    """From a folder of its own, with none of the extras' libraries: init, load, check, match, plan, sign, apply, verify."""
    books, name = tmp_path / "books", way.NAME
    target, source = way.files(tmp_path)
    steps = {
        "help": Step(["--help"]),
        "init": Step(["init", str(books), "--target", str(target), "--source", str(source), "--name", name]),
        "list": Step(["list"]),
        "load": Step(["load", name]),
        "check": Step(["check", name], (0, 3)),
        "match": Step(["match", name], (0, 3)),
        "plan": Step(["plan", name, "--json"], (0, 3)),
        "review": Step(["review", "PLAN"]),
        "approve": Step(["approve", "PLAN"], user="bob"),
        "apply": Step(["apply", "PLAN", "--execute"]),
        "verify": Step(["verify", "PLAN", "--json"], (0, 3)),
        "workbook": Step(["report", name, "--excel"]),
        "demo": Step(["demo", "--json"]),  # it goes all the way, without its report
        # What needs an extra says so before anything is done:
        **{" ".join(arguments): Step(arguments, (2,)) for arguments in MISSING},
    }
    named = [step if key in ("help", "init") else step.at(books) for key, step in steps.items()]
    told = unpacked.run(named, tmp_path, database.url)
    assert len(told.ended) == len(steps), told.ended[-1]
    ended = dict(zip(steps, told.ended, strict=True))
    assert told.home.is_relative_to(unpacked.site)
    assert not told.modules & {module for modules in EXTRAS.values() for module in modules}
    assert {module for module in told.without if not module.startswith(NEED_EXTRAS)} == set()
    assert ended["verify"].json["state"] == "verified"
    demo = ended["demo"].json
    assert (demo["verified"], demo["report"]) == (True, None)
    for arguments, (module, extra) in MISSING.items():
        said = ended[" ".join(arguments)].err
        assert f"needs {module}, which is not installed." in said, arguments
        assert f'pip install "recon-workbench[{extra}]"' in said


def test_a_workspace_made_by_the_wheel_is_the_one_made_by_the_repository(unpacked: Unpacked, tmp_path: Path) -> None:
    unpacked.run([Step(["init", str(tmp_path / "installed")])], tmp_path)
    new_workspace.init(tmp_path / "repository")
    assert _tree(tmp_path / "installed") == _tree(tmp_path / "repository") != {}
