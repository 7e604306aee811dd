"""What the sides of specs say about where their records come from, brought in: one after the other, each all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date

from recon.database.connect import Database
from recon.errors import LoadFailed, NotLoaded, ReconError, UsageError
from recon.sources import files
from recon.spec import Reconciliation
from recon.spec_parts import RecordSet
from recon.workspace import Workspace

Progress = Callable[[int, int], None]  # how far it is, and how far it goes: bytes of a file, records of a feed
Step = Callable[[str], None]  # is told which side comes next
Told = Callable[[files.Loaded], None]  # is told what became of a file's table


def load(
    database: Database,
    workspace: Workspace,
    specs: Sequence[Reconciliation],
    from_day: date | None = None,
    to_day: date | None = None,
    *,
    progress: Progress = lambda _done, _all: None,
    step: Step = lambda _name: None,
    told: Told = lambda _loaded: None,
) -> dict[str, int]:
    """Load every side that a file or an outside system holds; returns the records brought in, by table.

    A side that fails leaves its table as it was and does not keep the others from being loaded.

    Args:
        database: where the tables are.
        workspace: where files are, and the settings by which outside systems are found.
        specs: whose sides; a side that several share is loaded once.
        from_day, to_day: of an outside system only the records of these days (inclusive, UTC); None: no bound.
        progress: is told how far the present side is.
        step: is told where its records come from.
        told: is told what became of each file's table: of the links in it too.

    Raises:
        UsageError: there is nothing to load, or the days concern none of it.
        ReconError: what ended the only side; or LoadFailed, which tells what became of each.
    """
    found = sides(specs)
    if (from_day or to_day) and not any(side.api for side in found.values()):
        raise UsageError(
            f"--from and --to say nothing here: {', '.join(side.origin for side in found.values())} is loaded whole.",
            why="They are for records of an outside system.",
            todo="Leave them out; `recon match` has them too.",
        )
    counts: dict[str, int] = {}
    failed: dict[str, ReconError] = {}
    for name, side in found.items():
        step(side.origin)
        try:
            if side.file:
                targeted = [spec for spec in specs if spec.target.landing == name]
                loaded = files.load(database, workspace.root, side, progress, targeted)
                told(loaded)
                counts[name] = loaded.rows
            else:
                counts[name] = _fetch(database, workspace, side, from_day, to_day, progress)
        except ReconError as error:
            if len(found) == 1:
                raise
            failed[name] = error
    if failed:
        kept = ", ".join(f"{name} ({count:,})" for name, count in counts.items())
        raise LoadFailed(
            f"{len(failed)} of {len(found)} tables were not loaded: {', '.join(failed)}.",
            why="\n".join(str(error) for error in failed.values()),
            todo=f"Mend these and load again. Loaded were: {kept or 'none'}.",
        )
    return counts


def sides(specs: Sequence[Reconciliation]) -> dict[str, RecordSet]:
    """The sides that a file or an outside system holds, by the table that takes them; sources before targets.

    The column of a target that holds the link takes its type from the source.

    Raises:
        UsageError: there is none.
    """
    found: dict[str, RecordSet] = {}
    for side in (*(spec.source for spec in specs), *(spec.target for spec in specs)):
        if side.landing is not None:
            found.setdefault(side.landing, side)
    if not found:
        raise UsageError(
            f"There is nothing to load: the records of {', '.join(spec.name for spec in specs)} are tables of the"
            " database.",
            why="`recon match` reads them where they are.",
            todo="Where they are missing, name another database with --database.",
        )
    return found


def explained(
    error: NotLoaded, workspace: Workspace, spec: Reconciliation, listed: tuple[str, int] | None
) -> NotLoaded:
    """The error with what there is to load, and what was listed all the same.

    Args:
        error: a side was never loaded.
        workspace: where its file would be.
        spec: the reconciliation.
        listed: a table that tells what the target alone knows, and its rows.
    """
    why, todo = [error.why], error.todo
    for side in (spec.target, spec.source):
        if side.file and not (workspace.root / side.file).is_file():
            why.append(f"There is no file {side.file} in the workspace either.")
            todo = f"Put it there and load it: `recon load {spec.name}`."
    if listed:
        why.append(f"{listed[0]} lists the {listed[1]:,} records of the target that carry an id all the same.")
    return NotLoaded(error.what, why=" ".join(why), todo=todo)


def _fetch(
    database: Database,
    workspace: Workspace,
    side: RecordSet,
    from_day: date | None,
    to_day: date | None,
    progress: Progress,
) -> int:
    """Bring in what an outside system holds; returns the records."""
    from recon.outside.interface import open_feed
    from recon.sources import feeds

    assert side.api is not None
    feed = open_feed(side.api, workspace.variables)
    try:
        return feeds.load(database, side, feed, from_day, to_day, progress).fetched
    finally:
        feed.close()
