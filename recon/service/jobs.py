"""What a worker can do: a small table of kinds of jobs, and when one that failed is tried again."""

from __future__ import annotations

from collections.abc import Callable

from recon import whole_way, workflow
from recon.database.connect import Database
from recon.errors import DatabaseUnreachable, Locked, ReconError, SyncFailed, of_place
from recon.mirror import log, sync
from recon.mirror.parts import Wish
from recon.service.schedules import Kind
from recon.workspace import Workspace

# How long to wait before the next try, in seconds; after the last of them a job has failed. A server that restarts
# is back within the first, most outages end within the second.
WAITS = (30, 300)
# A job that lost its worker so often is likely what ends them, by memory for example.
LOST_WORKERS = 3

Job = Callable[[Database, Workspace, str], str]  # a reconciliation's name to what came out, in words


def _report(database: Database, workspace: Workspace, name: str) -> str:
    return str(workflow.report(database, workspace, name))


def _run(database: Database, workspace: Workspace, name: str) -> str:
    document = whole_way.run(database, workspace, name, whole_way.Wish(mode="execute"))
    return "; ".join([*document["falls_short"], document["report"]])


def _sync(database: Database, workspace: Workspace, name: str) -> str:
    done = sync.sync(database, workspace, name, Wish(cause="schedule"))
    if done.status == log.FAILED:
        raise SyncFailed(f"Run {done.id} of {name} failed.", why=f"{done.error}.", todo="The next tick tries again.")
    counts = ", ".join(f"{count:,} {what}" for what, count in done.stats.items() if count) or "nothing to do"
    return f"{done.status}, {counts} (run {done.id})" + (f"; {done.error}" if done.error else "")


KINDS: dict[Kind, Job] = {"report": _report, "run": _run, "sync": _sync}


def wait_after(error: BaseException, attempts: int, kind: str = "report") -> int | None:
    """How many seconds to wait before a job is tried again; None: not again.

    Args:
        error: what it failed with. What a person must mend first is not tried again: a spec, a name, a refusal.
        attempts: how often it was tried before this time.
        kind: what it does. A mirror's next tick is its next try (SYN-02), unless its own database was away, for then
            the source was not even asked.

    >>> from recon.errors import Refused
    >>> wait_after(RuntimeError(), 0), wait_after(RuntimeError(), 2), wait_after(Refused(), 0)
    (30, None, None)
    >>> wait_after(SyncFailed(), 0, "sync"), wait_after(DatabaseUnreachable(), 0, "sync")
    (None, 30)
    """
    if kind == "sync" and not isinstance(error, DatabaseUnreachable):
        return None
    lasting = isinstance(error, ReconError) and error.exit_code != 1 and not isinstance(error, Locked)
    return None if lasting or attempts >= len(WAITS) else WAITS[attempts]


def said(error: BaseException) -> str:
    """A failure in words; of what is not ours the kind only, for its text may hold values or a URL."""
    error = of_place(error) or error
    return str(error) if isinstance(error, ReconError) else f"Something unforeseen went wrong ({type(error).__name__})."
