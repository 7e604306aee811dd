"""How one begins: open a workspace, make one, see a demo."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon import demonstration, new_workspace, starting, workflow
from recon.api.arguments import looked_at
from recon.api.backfill import Backfill
from recon.api.matching import Matching
from recon.api.people import People
from recon.api.running import Running
from recon.database import embedded
from recon.database.connect import Database
from recon.errors import UsageError
from recon.spec import Reconciliation
from recon.starting import Started
from recon.workspace import Workspace

SCRATCH = "tutorial"  # the folder in `.recon/`
SCRATCH_DATABASE = "recon_tutorial"  # a database of its own in the embedded server


@dataclass(frozen=True)
class Workbench(Matching, People, Backfill, Running):
    """A workspace and a database, and what the command line does there: a method for each command, by the same words.

    `recon.open` makes one. What is wrong is raised as an error of `recon.errors`, as the command line tells it.
    """


@looked_at
def open(workspace: str | Path | None = None, *, database: str | None = None, actor: str | None = None) -> Workbench:
    """Open a workspace and its database.

    Args:
        workspace: its folder; None: the nearest one from here upwards.
        database: a PostgreSQL URL, or "demo"; None: RECON_DATABASE_URL, else the embedded one, which is started.
        actor: the acting person; None: RECON_USER, else the operating system's user.

    Raises:
        UsageError: there is no such folder, or no workspace here.
        EmbeddedUnavailable: the embedded server cannot be started.

    >>> with recon.open("workspace", database=url, actor="ann") as bench:
    ...     bench.match("rent_payments").coverage
    1.0
    """
    home = Workspace.find(Path(workspace).expanduser() if workspace is not None else None)
    if actor is not None:
        home = home.with_variables({"RECON_USER": actor})
    ours = embedded.belongs_to_guests(home.folder)  # else whoever started it lets go of it
    opened = workflow.open_database(home, database)
    return Workbench(home, opened, embedded.Guest(home.folder) if opened.embedded and ours else None)


@looked_at
def init(folder: str | Path) -> list[Path]:
    """Make a workspace: folders, notebooks, settings with comments; returns what was made, as paths in it.

    Raises:
        AlreadyExists: the folder holds something.
        NoPlace: it cannot be made there.

    >>> made = recon.init("workspace-2")
    >>> Path("recon.toml") in made
    True
    """
    return new_workspace.init(Path(folder).expanduser())


@looked_at
def draft(
    folder: str | Path,
    *,
    target: str | Path | None = None,
    source: str | Path | None = None,
    database: str | None = None,
    link: str | None = None,
    name: str | None = None,
    key_target: str | None = None,
    key_source: str | None = None,
) -> Started:
    """Look at two files, or at a database, and draft their reconciliation; `recon init` with --target and --source, or --from.

    The files are copied into the workspace; a database is only read. What is there already is not written over.

    Args:
        folder: a workspace, or a new folder for one.
        target: the file whose records get links; in a database the table, None: found out.
        source: the file, or table, whose keys are the links.
        database: a PostgreSQL URL; None: target and source are files.
        link: the target's column that takes the links; None: found out, of a file a new one unless it has one.
        name: of the reconciliation; None: after the target.
        key_target: of a file, its key column; None: found out.
        key_source: likewise.

    Returns:
        The workspace, what was made in it, and the draft with its rules and figures.

    Raises:
        NotFound: there is no such file or table.
        AlreadyExists: there is such a reconciliation already.
        UsageError: nothing tells which records belong together, or what was given does not go together.

    >>> started = recon.draft("my-workspace", target="payments.csv", source="invoices.csv")  # doctest: +SKIP
    """
    home = Path(folder).expanduser()
    if database is not None:
        if key_target or key_source:
            raise UsageError("Keys are named for files.", todo="A table's key is found in its database.")
        pair = [None if table is None else str(table) for table in (target, source)]
        return starting.with_database(home, database, target=pair[0], source=pair[1], link=link, name=name)
    if target is None or source is None:
        raise UsageError("A reconciliation has two sides.", todo="Give target and source, or a database.")
    files = [Path(path).expanduser() for path in (target, source)]
    return starting.with_files(
        home, files[0], files[1], name=name, target_key=key_target, source_key=key_source, link=link
    )


@looked_at
def scratch(name: str, workspace: str | Path | None = None, *, actor: str | None = None) -> Workbench:
    """A shipped reconciliation with its sample, in a database and a workspace that are made anew each time.

    The database lies in the embedded server, whatever the URL in the environment says; the workspace in `.recon/`.

    Args:
        name: a reconciliation with a sample, or a group.
        workspace: whose embedded server; None: the nearest from here upwards.
        actor: the acting person; None: as for `open`.

    Raises:
        NotFound: there is no such reconciliation, or no sample of it.
        EmbeddedUnavailable: the embedded server cannot be started.

    >>> bench = recon.scratch("rent_payments")  # doctest: +SKIP
    """
    home = Workspace.find(Path(workspace).expanduser() if workspace is not None else None)
    home.members(name)
    ours = embedded.belongs_to_guests(home.folder)
    database = Database(embedded.recreate(home.folder, SCRATCH_DATABASE), embedded=True)
    root = home.folder / SCRATCH
    shutil.rmtree(root, ignore_errors=True)
    new_workspace.init(root)
    place = Workspace(root).with_variables({"RECON_USER": actor or home.actor})
    workflow.load_sample(database, name, place)
    return Workbench(place, database, embedded.Guest(home.folder) if ours else None)


@looked_at
def demo(
    name: str = "rent_payments",
    workspace: str | Path | None = None,
    tell: Callable[[str, Any], None] = lambda _step, _result: None,
) -> dict[str, Any]:
    """Sample data, match, plan, sign-off, apply, verify, report; always in the embedded demo database, made anew.

    Args:
        name: a shipped reconciliation with sample data.
        workspace: where bundle and report go; None: the nearest one, else the current folder.
        tell: called after each step with its name and what it gave.

    Returns:
        The document of `recon demo --json`.

    Raises:
        Locked: another demo is at work there.

    >>> done = recon.demo("rent_payments")  # doctest: +SKIP
    """
    place = Workspace.find(Path(workspace).expanduser() if workspace is not None else None, anywhere=True)
    return demonstration.demo(place, name, tell)


def schema() -> dict[str, Any]:
    """The JSON Schema of a spec, for editors.

    >>> recon.schema()["title"]
    'Reconciliation'
    """
    return Reconciliation.model_json_schema()
