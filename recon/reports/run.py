"""A report from start to end: papermill runs the notebook, nbconvert makes one HTML file that opens offline."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.backfill import plan as plans
from recon.database.connect import Database
from recon.errors import ReconError, ReportFailed, UsageError
from recon.matching import run as runs
from recon.reports import kept
from recon.reports.data import NOTEBOOK
from recon.workspace import Workspace

if TYPE_CHECKING:
    from nbformat import NotebookNode

_STAMP = re.compile(r"-\d{8}T\d{6}Z(_\d+)?")

Progress = Callable[[int, int], None]  # cells done, cells in all


def report(
    database: Database,
    workspace: Workspace,
    name: str,
    *,
    plan: str | None = None,
    checks: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> Path:
    """Make the report of a reconciliation and return its HTML file; the executed notebook lies beside it.

    Args:
        database: where the records are; its URL goes to the kernel's environment, never into the notebook.
        workspace: where the spec is, and where the report goes.
        name: the reconciliation.
        plan: the plan to report on; None: the latest.
        checks: a check result as a document; None: the report says that nothing was checked.
        progress: called with the number of cells done and of all cells.

    Raises:
        NotFound: no such reconciliation, run or plan.
        UsageError: the workspace's own notebook does not take a parameter.
        ReportFailed: the notebook failed; what it had done is kept as `…-failed.ipynb`.
    """
    title = workspace.spec(name).title or name
    runs.load(database, name)  # what is missing is said at once, before a kernel starts
    if plan is not None:
        plans.load(database, workspace, plan)
    source = workspace.file("notebooks", NOTEBOOK)
    output = _claim(workspace.reports, name)
    ipython = workspace.folder.resolve() / "ipython"
    ipython.mkdir(parents=True, exist_ok=True)
    identity = output.stem
    parameters = {
        "reconciliation": name,
        "plan": plan or "",
        "workspace": str(workspace.root.resolve()),
        "demo": database.demo,
        "checks": json.dumps(checks, default=str) if checks else "",
        "identity": identity,
    }
    # IPython makes a profile folder, by default in the person's home.
    environment = {"RECON_DATABASE_URL": database.url, "IPYTHONDIR": str(ipython)}
    kept.begin(database, identity, NOTEBOOK, name, workspace.actor, {"plan": plan or ""})
    with database.session() as alive:
        kept.holding(alive, identity)
        alive.commit()  # the lock is the session's: no transaction stays open meanwhile
        try:
            notebook = run_notebook(source, output, parameters, environment, progress)
            path = _write_page(notebook, output.with_suffix(".html"), f"{title}: reconciliation report")
        except BaseException as error:
            failed = output.with_name(f"{output.stem}-failed.ipynb")
            with suppress(ReconError):  # the first error is the one to tell
                file = failed.name if failed.is_file() else None
                kept.end(database, identity, "failed", error=str(error) or type(error).__name__, file=file)
            raise
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        kept.end(database, identity, "success", file=path.name, digest=digest)
    return path


def latest(workspace: Workspace, name: str) -> Path | None:
    """The newest report of a reconciliation, or None where there is none yet."""
    found = [path for path in workspace.reports.glob(f"{name}-*.html") if _STAMP.fullmatch(path.stem[len(name) :])]
    return max(found, key=lambda path: path.stem, default=None)


def run_notebook(
    source: Path,
    output: Path,
    parameters: Mapping[str, Any],
    environment: Mapping[str, str],
    progress: Progress | None = None,
) -> NotebookNode:
    """Run a notebook with parameters in a kernel of its own and keep the executed one.

    Args:
        source: the notebook; its parameters stand in the cell tagged `parameters`.
        output: where the executed notebook goes; its folder is made.
        parameters: values for its parameters.
        environment: what the kernel gets beside the environment of this process, such as secrets.
        progress: called with the number of cells done and of all cells.

    Raises:
        UsageError: the notebook has no such parameter.
        ReportFailed: a cell failed, or the kernel died; the notebook is kept as `…-failed.ipynb`.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    from recon.reports import execution

    try:
        known = papermill.inspect_notebook(_as_template(source))
        unknown = sorted(set(parameters) - set(known))
        if unknown:  # papermill itself would only log a warning, and the report would be on something else
            raise UsageError(
                f"{source.name} takes no parameter {', '.join(unknown)}.",
                why=f"Its cell tagged parameters names {', '.join(known) or 'none'}.",
                todo="Add it to that cell, or delete the workspace's own copy of the notebook.",
            )
        output.parent.mkdir(parents=True, exist_ok=True)
        return papermill.execute_notebook(
            _as_template(source),
            _as_template(output),
            parameters=dict(parameters),
            engine_name=execution.ENGINE,
            kernel_name="python3",
            progress_bar=False,
            log_output=False,
            environment={**os.environ, "PYDEVD_DISABLE_FILE_VALIDATION": "1", **environment},
            progress=progress,
        )
    except ReconError:
        output.unlink(missing_ok=True)
        raise
    except PapermillExecutionError as error:
        raise _failed(source, output, f"{error.ename}: {error.evalue}") from error
    except Exception as error:
        raise _failed(source, output, f"{type(error).__name__}: {error}") from error
    except BaseException:  # interrupted: the half-run notebook must not look like a finished one
        _set_aside(output)
        raise


def _as_template(path: Path) -> str:
    """papermill fills braces in paths; ours are meant as they stand."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _failed(source: Path, output: Path, why: str) -> ReportFailed:
    kept = _set_aside(output)
    return ReportFailed(
        f"The notebook {source.name} failed.",
        why=why,
        todo=f"What it had done is in {kept}." if kept else "",
    )


def _set_aside(output: Path) -> Path | None:
    if not output.is_file() or not output.stat().st_size:  # nothing had begun
        output.unlink(missing_ok=True)
        return None
    kept = output.with_name(f"{output.stem}-failed.ipynb")
    return output.replace(kept)


def _claim(folder: Path, name: str) -> Path:
    """A new file named by the time; two reports of one second get two names."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    number = 1
    while True:
        path = folder / (f"{stem}.ipynb" if number == 1 else f"{stem}_{number}.ipynb")
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return path


def _write_page(notebook: NotebookNode, path: Path, title: str) -> Path:
    from recon.reports import offline

    unfinished = path.with_suffix(".html.tmp")
    unfinished.write_text(offline.page(notebook, title), encoding="utf-8")
    return unfinished.replace(path)
