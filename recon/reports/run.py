"""A notebook from start to end: parameters checked, run by papermill, kept in the database, one HTML file beside it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon import errors, libraries
from recon.backfill import plan as plans
from recon.database import tables
from recon.database.connect import Database
from recon.errors import ReconError, ReportFailed
from recon.matching import run as runs
from recon.reports import kept, parameters, signals
from recon.reports.data import NOTEBOOK
from recon.reports.parameters import as_template
from recon.workspace import Workspace

if TYPE_CHECKING:
    from nbformat import NotebookNode

_STAMP = re.compile(r"-\d{8}T\d{6}Z(_\d+)?")

Progress = Callable[[int, int], None]  # cells done, cells in all
Tell = Callable[[str], None]  # the heading of the part that begins


@dataclass(frozen=True)
class Made:
    """What a run of a notebook left in reports/."""

    identity: str  # of its row in notebook_runs: the name of both files, without ending
    notebook: Path
    page: Path


def report(
    database: Database,
    workspace: Workspace,
    name: str,
    *,
    plan: str | None = None,
    checks: dict[str, Any] | None = None,
    progress: Progress | None = None,
    tell: Tell | None = None,
) -> Path:
    """Make the report of a reconciliation and return its HTML file; the executed notebook lies beside it.

    Args:
        database: where the records are; its URL goes to the kernel's environment, never into the notebook.
        workspace: where the spec is, and where the report goes.
        name: the reconciliation.
        plan: the plan to report on; None: the latest.
        checks: a check result as a document; None: the report says that nothing was checked.
        progress: called with the number of cells done and of all cells.
        tell: called with each heading.

    Raises:
        NotFound: no such reconciliation, run or plan.
        UsageError: the workspace's own notebook does not take a parameter.
        ReportFailed: the notebook failed; what it had done is kept as `…-failed.ipynb`.
    """
    title = workspace.spec(name).title or name
    runs.load(database, name)  # what is missing is said at once, before a kernel starts
    if plan is not None:
        plans.load(database, workspace, plan)
    values = {
        "reconciliation": name,
        "plan": plan or "",
        "checks": json.dumps(checks, default=str) if checks else "",
    }
    return perform(
        database, workspace, NOTEBOOK, name, values,
        title=f"{title}: reconciliation report", progress=progress, tell=tell,
    ).page  # fmt: skip


def perform(
    database: Database,
    workspace: Workspace,
    notebook: str,
    name: str,
    values: Mapping[str, Any],
    *,
    title: str,
    label: str = "",
    progress: Progress | None = None,
    tell: Tell | None = None,
) -> Made:
    """Run a notebook for a reconciliation: the one way in which all of them run.

    Its parameters are checked before a kernel starts; `workspace`, `demo` and `identity` are filled in where it has
    them. A row in notebook_runs says from begin to end how it goes.

    Args:
        database: where the records are; its URL goes to the kernel's environment, never into the notebook.
        workspace: where the notebook and the spec are, and where its files go.
        notebook: its file name.
        name: the reconciliation.
        values: its parameters.
        title: of the page.
        label: a part of the files' names, between the reconciliation's and the time.
        progress: called with the number of cells done and of all cells.
        tell: called with each heading.

    Raises:
        UsageError, NotFound: a parameter is unknown, missing, of the wrong type, or makes no sense.
        ReportFailed: a cell failed, the kernel died, or a signal ended it; what it had done is kept as
            `…-failed.ipynb`. Its exit code is that of the error of ours which a cell raised.
    """
    source = workspace.file("notebooks", notebook)
    known = parameters.of(source)
    usual = {"workspace": str(workspace.root.resolve()), "demo": database.demo, "identity": ""}
    values = {**{part: value for part, value in usual.items() if part in known}, **values}
    parameters.check(source, values)
    parameters.check_meaning(database, workspace, values)
    tables.ensure(database)
    with ExitStack() as stack:
        stack.enter_context(signals.raised())
        output, given = stack.enter_context(
            begun(database, workspace, notebook, name, values, label=label, named="identity" in known)
        )
        identity = output.stem
        try:
            executed = run_notebook(source, output, given, _environment(database, workspace), progress, tell)
            page = _write_page(executed, output.with_suffix(".html"), title)
        except BaseException as error:
            partial = _set_aside(output) or _partial(output)
            said = _said(error)
            with suppress(ReconError):  # the first error is the one to tell
                kept.end(
                    database, identity, "failed", error=said, file=partial.name if partial.is_file() else None
                )  # fmt: skip
            if isinstance(error, KeyboardInterrupt):
                raise _failure(source, said, partial) from None
            raise
        digest = hashlib.sha256(page.read_bytes()).hexdigest()
        kept.end(database, identity, "success", file=page.name, digest=digest)
    return Made(identity, output, page)


@contextmanager
def begun(
    database: Database,
    workspace: Workspace,
    notebook: str,
    name: str,
    values: Mapping[str, Any],
    *,
    label: str = "",
    named: bool = False,
) -> Generator[tuple[Path, dict[str, Any]]]:
    """Claim a name for a run, in reports/ and in the database; gives its file and its parameters.

    Runs whose process is gone are closed first, and what they left is named as what it is.

    Args:
        label: a part of the name, between the reconciliation's and the time.
        named: whether the notebook takes its own name as the parameter `identity`.
    """
    for gone in kept.bury(database, name):
        # Whatever a row is called, only files of this folder are renamed.
        if partial := _set_aside(workspace.reports / f"{Path(gone).name}.ipynb"):
            kept.note(database, gone, file=partial.name)
    for output in _claims(workspace.reports, f"{name}{label}"):
        given = {**values, "identity": output.stem} if named else dict(values)
        with ExitStack() as stack:
            stack.callback(_forget, output)
            if stack.enter_context(kept.held(database, output.stem)) and kept.begin(
                database, output.stem, notebook, name, workspace.actor, given
            ):
                yield output, given
                return
        # Somebody else's, of another workspace on the same database.


def _forget(output: Path) -> None:
    """Remove a file that was claimed and never written."""
    if output.is_file() and not output.stat().st_size:
        output.unlink()


def _environment(database: Database, workspace: Workspace) -> dict[str, str]:
    """What the kernel needs to know beside the environment of this process: secrets, and where it is."""
    ipython = workspace.folder.resolve() / "ipython"  # by default IPython makes a folder in the person's home
    ipython.mkdir(parents=True, exist_ok=True)
    return {
        "RECON_DATABASE_URL": database.url,
        # By a URL alone nobody can tell that the database is the embedded one.
        "RECON_ENVIRONMENT": workspace.settings.environment or database.environment,
        "RECON_USER": workspace.actor,
        "IPYTHONDIR": str(ipython),
    }


def _said(error: BaseException) -> str:
    """An error as the database keeps it."""
    if isinstance(error, ReportFailed):
        return error.why
    error = errors.of_place(error) or error
    if isinstance(error, ReconError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return f"ended by a signal ({error.name if isinstance(error, signals.Ended) else 'SIGINT'})"
    return type(error).__name__


def latest(workspace: Workspace, name: str) -> Path | None:
    """The newest report of a reconciliation, or None where there is none yet."""
    found = [path for path in workspace.reports.glob(f"{name}-*.html") if _STAMP.fullmatch(path.stem[len(name) :])]
    return max(found, key=lambda path: path.stem, default=None)


def run_notebook(
    source: Path,
    output: Path,
    values: Mapping[str, Any],
    environment: Mapping[str, str],
    progress: Progress | None = None,
    tell: Tell | None = None,
) -> NotebookNode:
    """Run a notebook with parameters in a kernel of its own and keep the executed one.

    Args:
        source: the notebook; its parameters stand in the cell tagged `parameters`.
        output: where the executed notebook goes; its folder is made.
        values: values for its parameters.
        environment: what the kernel gets beside the environment of this process, such as secrets.
        progress: called with the number of cells done and of all cells.
        tell: called with each heading.

    Raises:
        UsageError: the notebook has no such parameter, needs another one, or one of another type.
        ReportFailed: a cell failed, or the kernel died; the notebook is kept as `…-failed.ipynb`.
    """
    with libraries.lean():
        import papermill
        from papermill.exceptions import PapermillExecutionError

        from recon.reports import execution

    try:
        parameters.check(source, values)
        output.parent.mkdir(parents=True, exist_ok=True)
        return papermill.execute_notebook(
            as_template(source),
            as_template(output),
            parameters=dict(values),
            engine_name=execution.ENGINE,
            kernel_name="python3",
            progress_bar=False,
            log_output=False,
            environment={**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1", **environment},
            progress=progress,
            tell=tell,
        )
    except ReconError:
        output.unlink(missing_ok=True)
        raise
    except PapermillExecutionError as error:
        raise _failed(source, output, error.ename, error.evalue) from error
    except Exception as error:
        raise _failed(source, output, type(error).__name__, str(error)) from error
    except BaseException:  # interrupted: the half-run notebook must not look like a finished one
        _set_aside(output)
        raise


def _failed(source: Path, output: Path, kind: str, said: str) -> ReportFailed:
    _set_aside(output)
    ours = getattr(errors, kind, None)
    if isinstance(ours, type) and issubclass(ours, ReconError):
        return _failure(source, said, _partial(output), ours.exit_code)
    return _failure(source, f"{kind}: {said}", _partial(output))


def _failure(source: Path, why: str, partial: Path, exit_code: int = ReportFailed.exit_code) -> ReportFailed:
    failure = ReportFailed(
        f"The notebook {source.name} failed.",
        why=why,
        todo=f"What it had done is in {partial}." if partial.is_file() else "",
    )
    failure.exit_code = exit_code  # a refusal stays one, although a cell met it
    return failure


def _partial(output: Path) -> Path:
    return output.with_name(f"{output.stem}-failed.ipynb")


def _set_aside(output: Path) -> Path | None:
    if not output.is_file() or not output.stat().st_size:  # nothing had begun
        output.unlink(missing_ok=True)
        return None
    return output.replace(_partial(output))


def _claims(folder: Path, name: str) -> Generator[Path]:
    """New files named by the time; two of one second get two names."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    number = 0
    while True:
        number += 1
        path = folder / (f"{stem}.ipynb" if number == 1 else f"{stem}_{number}.ipynb")
        with suppress(FileExistsError):
            path.touch(exist_ok=False)
            yield path


def _write_page(notebook: NotebookNode, path: Path, title: str) -> Path:
    from recon.reports import offline

    unfinished = path.with_suffix(".html.tmp")
    try:
        unfinished.write_text(offline.page(notebook, title), encoding="utf-8")
        return unfinished.replace(path)
    finally:  # a full disk is not filled with what nobody can open
        unfinished.unlink(missing_ok=True)
