"""The reconciliations that ship with recon: a folder each, with its specs, its sample data and what is its alone."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from recon.backfill.applied import Applied
from recon.backfill.plan import Plan
from recon.backfill.shipped import Shipped
from recon.backfill.standing import environment_of
from recon.database.connect import Database
from recon.errors import NotFound
from recon.matching.run import Run
from recon.reports.workbook import Extra
from recon.sources.hooks import AnyHook
from recon.sources.samples import Sample, no_files
from recon.spec import Reconciliation
from recon.workspace import Workspace

_FOLDER = Path(__file__).parent

# A stand-in holds what the outside system would hold of the sample in this database, answers on this machine while the
# `with` lasts, and gives the settings (RECON_…) by which it is found.
StandIn = Callable[[Database], AbstractContextManager[Mapping[str, str]]]


def sample_of(name: str) -> Sample:
    """The sample data of a shipped reconciliation, or of a whole group. Raises NotFound where it has none."""
    for path in sorted(_FOLDER.glob("*/sample.py")):
        folder = path.parent
        if folder.name == name or (folder / f"{name}.yaml").is_file():
            module = import_module(f"recon.systems.{folder.name}.sample")
            members = tuple(sorted(spec.stem for spec in folder.glob("*.yaml")))
            return Sample(f"{folder.name}.sql", module.tables, getattr(module, "files", no_files), members)
    raise NotFound(f'"{name}" has no sample data.', todo=f"These have: {', '.join(with_sample())}.")


def with_sample() -> list[str]:
    """The names of the shipped reconciliations that have sample data."""
    folders = [path.parent for path in _FOLDER.glob("*/sample.py")]
    return sorted(spec.stem for folder in folders for spec in folder.glob("*.yaml"))


def stand_in_of(name: str) -> StandIn | None:
    """What stands in for the outside systems of a shipped reconciliation in its demo; None where it has none.

    It is the function `stand_in` of the module of that name in the system's folder.
    """
    for path in _FOLDER.glob("*/stand_in.py"):
        if (path.parent / f"{name}.yaml").is_file():
            return import_module(f"recon.systems.{path.parent.name}.stand_in").stand_in
    return None


def sheets_of(spec: Reconciliation) -> Extra | None:
    """What a shipped reconciliation adds to its workbook; None where it adds nothing."""
    for path in _FOLDER.glob("*/sheets.py"):
        if (path.parent / f"{spec.name}.yaml").is_file():
            return import_module(f"recon.systems.{path.parent.name}.sheets").sheets(spec)
    return None


def webhooks() -> dict[str, AnyHook]:
    """The outside systems that send events, by their names."""
    modules = [
        import_module(f"recon.systems.{path.parent.name}.webhook") for path in sorted(_FOLDER.glob("*/webhook.py"))
    ]
    return {module.HOOK.origin: module.HOOK for module in modules}


class AfterMatch(Protocol):
    """What a system does with the decisions of each run: its module `staging`."""

    def refresh(self, database: Database, spec: Reconciliation, run: Run) -> None:
        """Write down what a run decided, where the system's people look."""
        ...

    def without_source(self, database: Database, spec: Reconciliation) -> tuple[str, int] | None:
        """List what the target alone tells, where the source was never loaded: the table, and how many records."""
        ...

    def rights(self, database: Database, spec: Reconciliation) -> Mapping[str, str]:
        """The tables (names as SQL) that a run fills, made where they are missing, and the rights that this takes."""
        ...


def after_match(spec: Reconciliation) -> AfterMatch | None:
    """What is done after each run of a reconciliation: by the folder that its group is called after; None: nothing."""
    for path in _FOLDER.glob("*/staging.py"):
        if path.parent.name == spec.group:
            return cast(AfterMatch, import_module(f"recon.systems.{path.parent.name}.staging"))
    return None


class RunLog(Protocol):
    """A log of a system's own that a run of the whole way writes, step by step."""

    def started(self, mode: str, actor: str, **limits: object) -> None: ...
    def matched(self, run: Run) -> None: ...
    def applying(self, plan: Plan) -> None: ...
    def applied(self, plan: Plan, applied: Applied) -> None: ...
    def ended(self, run: Run, written: int | None, code: int, short: tuple[str, ...]) -> None: ...
    def failed(self, said: str) -> None: ...


OpensLog = Callable[[Database, Workspace, Reconciliation], RunLog]


def log_of(spec: Reconciliation) -> OpensLog | None:
    """The log of a shipped reconciliation, and of a spec that is like it; None where its system has none."""
    for path in _FOLDER.glob("*/log.py"):
        if any((path.parent / f"{name}.yaml").is_file() for name in (spec.name, spec.like)):
            return import_module(f"recon.systems.{path.parent.name}.log").log
    return None


@contextmanager
def logged(database: Database, workspace: Workspace, name: str) -> Generator[None]:
    """What `recon.<name>` logs meanwhile goes into the log of that reconciliation too, where its system has one."""
    module = next(
        (path.parent.name for path in _FOLDER.glob("*/log.py") if (path.parent / f"{name}.yaml").is_file()), ""
    )
    if not module:
        yield
        return
    opened = import_module(f"recon.systems.{module}.log").logbook(workspace, environment_of(workspace, database), name)
    logger, handler = logging.getLogger(f"recon.{name}"), opened.handler
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def shipped_standing(name: str) -> Shipped | None:
    """The standing sign-off that ships with a reconciliation, as the reviewed file says it; None without any."""
    for path in _FOLDER.glob("*/standing.toml"):
        if (path.parent / f"{name}.yaml").is_file():
            found = tomllib.loads(path.read_text(encoding="utf-8")).get(name)
            if found is not None:
                actions = tuple(found["actions"])
                return Shipped(name, found["environment"], actions, found["rows"], found["days"], found["rules"])
    return None
