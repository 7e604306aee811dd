"""A wheel as it is where nobody else's libraries are: unpacked, with its core's libraries and no others, away from here.

A real installation takes a minute (`make wheel`). This takes the libraries of the tests' own environment and hides those
that the core does not ask for, as if they were not installed; so it is quick, and cannot tell whether pip finds them all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support import COMMAND_SECONDS, ROOT, Ended

# Read by Python as it starts: the repository, which an editable installation names, leaves the path, and libraries hide.
HIDE = """
import json, os, sys
from importlib.machinery import PathFinder

given = json.loads(os.environ["CORE_ONLY"])
sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or ".") not in given["away"]]
hidden = frozenset(given["hidden"])

class Core(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in hidden else super().find_spec(name, path, target)

sys.meta_path[:] = [Core if finder is PathFinder else finder for finder in sys.meta_path]
"""

# Several commands one after the other, so that what they import is read once.
RUN = """
import contextlib, importlib, io, json, os, pkgutil, sys

steps, path = json.loads(sys.stdin.read()), sys.argv[1]
from recon.cli import main

ended, plan = [], ""
for step in steps:
    os.environ["RECON_USER"] = step["user"]
    sys.argv = ["recon", *(plan if part == "PLAN" else part for part in step["arguments"])]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    ended.append([code, out.getvalue(), err.getvalue()])
    if step["arguments"][0] == "plan":
        plan = json.loads(out.getvalue())["plan"]
    if code not in step["codes"]:
        break
modules, recon, without = sorted(sys.modules), sys.modules["recon"], {}
for module in pkgutil.walk_packages(recon.__path__, "recon."):
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        without[module.name] = error.name
with open(path, "w", encoding="utf-8") as file:
    json.dump({"ended": ended, "modules": modules, "home": recon.__file__, "without": without}, file)
"""


@dataclass(frozen=True)
class Step:
    """A command, whose it is, and how it may end. PLAN stands for the plan that `recon plan --json` made before."""

    arguments: Sequence[str]
    codes: Sequence[int] = (0,)
    user: str = "ann"

    def at(self, workspace: Path) -> Step:
        """The same in this workspace."""
        return replace(self, arguments=[*self.arguments, "--workspace", str(workspace)])


@dataclass(frozen=True)
class Told:
    """How the commands ended, and what there is.

    Args:
        ended: of each command.
        modules: those that were read meanwhile.
        home: where recon was read from.
        without: the modules of recon that cannot be read here, each with the module that it lacks.
    """

    ended: list[Ended]
    modules: frozenset[str]
    home: Path
    without: dict[str, str]


class Unpacked:
    """A wheel in a folder of its own.

    Args:
        wheel: the file.
        folder: a new one.
    """

    def __init__(self, wheel: Path, folder: Path) -> None:
        self.site, self._hook, self._told = folder / "site", folder / "hook", folder / "told.json"
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(self.site)
        self._hook.mkdir()
        (self._hook / "sitecustomize.py").write_text(HIDE, encoding="utf-8")
        self._hidden = sorted(_not_of(self.site))

    def run(self, steps: Iterable[Step], cwd: Path, url: str | None = None) -> Told:
        """Run commands in one process, until one ends as it may not."""
        asked = [{"arguments": list(step.arguments), "codes": list(step.codes), "user": step.user} for step in steps]
        self._python([sys.executable, "-c", RUN, str(self._told)], cwd, url, json.dumps(asked))
        told = json.loads(self._told.read_text(encoding="utf-8"))
        return Told(
            [Ended(*ended) for ended in told["ended"]], frozenset(told["modules"]), Path(told["home"]), told["without"]
        )

    def _python(self, command: Sequence[str], cwd: Path, url: str | None, given: str) -> None:
        subprocess.run(
            command, env=self._environment(url), cwd=cwd, input=given, text=True, check=True, timeout=COMMAND_SECONDS
        )

    def _environment(self, url: str | None) -> Mapping[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("RECON_", "PYTHON"))}
        given = {"hidden": self._hidden, "away": [str(ROOT.resolve()), *_editable()]}
        return {
            **ours,
            "PYTHONPATH": os.pathsep.join([str(self.site), str(self._hook)]),
            "CORE_ONLY": json.dumps(given),
            **({"RECON_DATABASE_URL": url} if url else {}),
        }


def _editable() -> list[str]:
    """The folders that an editable installation puts on the path."""
    (direct,) = (metadata.distribution("recon-workbench").read_text("direct_url.json") or "{}",)
    url = str(json.loads(direct).get("url", ""))
    return [os.path.realpath(url.removeprefix("file://"))] if url.startswith("file://") else []


def _not_of(site: Path) -> set[str]:
    """The modules of this environment that no library of the unpacked wheel's core brings."""
    (wheel,) = metadata.distributions(path=[str(site)])
    wanted = [Requirement(line) for line in wheel.requires or ()]
    core: set[tuple[str, str]] = {(canonicalize_name(wheel.name), "")}
    waits = [requirement for requirement in wanted if _asked(requirement, "")]
    while waits:
        requirement = waits.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) not in core:
                core.add((name, extra))
                needs = map(Requirement, metadata.distribution(name).requires or ())
                waits += [needed for needed in needs if _asked(needed, extra)]
    installed = {name for name, _ in core}
    owners = metadata.packages_distributions()
    return {module for module, by in owners.items() if not installed & {canonicalize_name(name) for name in by}}


def _asked(requirement: Requirement, extra: str) -> bool:
    return requirement.marker is None or requirement.marker.evaluate({"extra": extra})
