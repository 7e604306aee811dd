"""The whole way on sample data, as `recon demo` goes it: matched, planned, signed, applied, verified, reported."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from recon import extras
from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import sign_off
from recon.database import embedded
from recon.database.connect import Database
from recon.errors import Locked, UsageError
from recon.matching import run as runs
from recon.matching.backtest import backtest
from recon.matching.coverage import RECONCILED, statistics
from recon.spec import Reconciliation
from recon.systems import sample_of, stand_in_of
from recon.workflow import DEMO_DATABASE, load_sample, match, report, verify
from recon.workspace import Workspace

DEMO_ANALYST, DEMO_REVIEWER = "demo-analyst", "demo-reviewer"
DEMO_LOCK = "demo.lock"  # in the workspace's `.recon/`: held while a demo runs

Tell = Callable[[str, Any], None]  # the step's name, and what it gave


def demo(workspace: Workspace, name: str, tell: Tell) -> dict[str, Any]:
    """Sample data, match, plan, sign-off, apply, verify, report, in a database of its own that is made anew.

    Outside systems are never reached: what the system's folder brings stands in for them, on this machine.

    Args:
        workspace: where bundle and report go; its embedded server is used whatever the URL says.
        name: a reconciliation with sample data.
        tell: called after each step.

    Returns:
        The document of `recon demo --json`; every figure is counted from the tables.

    Raises:
        Locked: another demo is at work on the same database.
        MissingExtra: an outside system cannot be stood in for.
    """
    spec = workspace.spec(name)
    sample_of(name)  # an unknown name is an error before anything is dropped
    _need_stand_in(name, name)
    with _only_demo(workspace):
        database = _demo_database(workspace, name, tell)
        return _demo(database, workspace, spec, tell)


def demo_group(workspace: Workspace, group: str, tell: Callable[[str, str, Any], None]) -> dict[str, Any]:
    """The demo of each reconciliation of a group, one after the other on the one sample of all.

    Args:
        workspace: as for `demo`.
        group: a group with sample data.
        tell: called after each step with the reconciliation's name, the step and what it gave; `load` is told once, of
            the group.

    Returns:
        The document of `recon demo --json`: the group, and the document of each member.
    """
    specs = [workspace.spec(name) for name in workspace.members(group)]
    sample_of(group)
    for spec in specs:
        _need_stand_in(group, spec.name)
    with _only_demo(workspace):
        database = _demo_database(workspace, group, lambda step, counts: tell(group, step, counts))
        members = [_demo(database, workspace, spec, partial(tell, spec.name)) for spec in specs]
    return {"group": group, "members": members}


@contextmanager
def _only_demo(workspace: Workspace) -> Generator[None]:
    """Hold the demo's lock, which the operating system drops when the process ends however it ends."""
    import fcntl

    workspace.folder.mkdir(parents=True, exist_ok=True)
    # Reading is enough to lock, so a file that root made does not shut out the workspace's owner.
    descriptor = os.open(workspace.folder / DEMO_LOCK, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Locked(
                "Another demo is running in this workspace.",
                why="Each demo makes the demo's database anew.",
                todo="Wait until it ends, or use another workspace with --workspace.",
            ) from None
        yield
    finally:
        os.close(descriptor)


def _demo_database(workspace: Workspace, name: str, tell: Tell) -> Database:
    """The demo's database, made anew, with the sample."""
    _forget_demos(workspace)
    database = Database(embedded.recreate(workspace.folder, DEMO_DATABASE), embedded=True, demo=True)
    tell("load", load_sample(database, name, workspace))
    return database


def _need_stand_in(shown: str, name: str) -> None:
    """Raise MissingExtra where an outside system must be stood in for, and this machine has nothing to serve it with."""
    if stand_in_of(name):
        extras.need("service", f"The demo of {shown}")


def _demo(database: Database, workspace: Workspace, spec: Reconciliation, tell: Tell) -> dict[str, Any]:
    stand_in = stand_in_of(spec.name)
    with stand_in(database) if stand_in else nullcontext(dict[str, str]()) as variables:
        return _demonstrated(database, workspace.with_variables(variables), spec, tell)


def _demonstrated(database: Database, workspace: Workspace, spec: Reconciliation, tell: Tell) -> dict[str, Any]:
    name = spec.name
    before = _linked(database, spec) if spec.link else None
    run = match(database, workspace, spec, DEMO_ANALYST)
    tell("match", run)
    if spec.link:
        tell("backtest", backtest(database, spec, DEMO_ANALYST))
    if spec.only_finds:  # what it finds is for people: there is nothing to plan, and nothing to prove
        path = _demo_report(database, workspace, name, None, tell)
        figures = _figures(_reconciled(run), _reconciled(run), run.population) | {
            "statistics": statistics(run.outcomes)
        }
        return {"reconciliation": name, **figures, "plan": None, "bundle": None, "report": path, "verified": None}
    plan = plans.make(database, workspace, spec, DEMO_ANALYST)
    if plan is None:
        raise UsageError(f"The sample of {name} holds nothing to link or to change.")
    tell("plan", plan)
    tell("dry run", applying.apply(database, workspace, plan.plan, DEMO_ANALYST))
    tell("approve", sign_off.approve(database, workspace, plan.plan, DEMO_REVIEWER))
    tell("apply", applying.apply(database, workspace, plan.plan, DEMO_ANALYST, execute=True))
    verified = verify(database, workspace, plan.plan, DEMO_ANALYST)
    tell("verify", verified)
    if spec.link and before:
        held, total = _linked(database, spec)
        figures = _figures(before[0], held, total)
    else:  # nothing holds a link that could be counted: a second run says what agrees now
        again = match(database, workspace, spec, DEMO_ANALYST)
        tell("match again", again)
        figures = _figures(_reconciled(run), _reconciled(again), again.population)
        figures["coverage_before"] = run.coverage or 0.0  # inserts make the population larger
        figures["total_before"] = run.population
        figures |= {"same_before": run.outcomes.get("same", 0), "same_after": again.outcomes.get("same", 0)}
        figures["statistics"] = statistics(again.outcomes)
    path = _demo_report(database, workspace, name, plan.plan, tell)
    return {
        "reconciliation": name,
        **figures,
        "plan": plan.plan,
        "bundle": str(plan.bundle),
        "report": path,
        "verified": verified.state == "verified" and verified.verification.right,
    }


def _demo_report(database: Database, workspace: Workspace, name: str, plan: str | None, tell: Tell) -> str | None:
    """Make the report; without notebooks on this machine a demo goes all the way all the same, and says why there is none."""
    if error := extras.lacking("notebooks", "A report"):
        tell("report", error)
        return None
    path = report(database, workspace, name, plan)
    tell("report", path)
    return str(path)


def _figures(before: int, after: int, total: int) -> dict[str, Any]:
    return {
        "total": total,
        "linked_before": before,
        "linked_after": after,
        "coverage_before": before / total,
        "coverage_after": after / total,
    }


def _reconciled(run: runs.Run) -> int:
    return sum(run.outcomes.get(outcome, 0) for outcome in RECONCILED)


def _forget_demos(workspace: Workspace) -> None:
    """Remove the bundles of former demos: their database is made anew, so no one can use them any more."""
    for manifest in workspace.backfills.glob("*/plan.json"):
        try:
            document = json.loads(manifest.read_bytes())
        except ValueError:
            continue  # not one of ours, or damaged: left for a person to look at
        ours = document.get("author") == DEMO_ANALYST and document.get("database", {}).get("database") == DEMO_DATABASE
        if ours and document.get("plan") == manifest.parent.name:  # a copy kept under another name stays
            shutil.rmtree(manifest.parent)


def _linked(database: Database, spec: Reconciliation) -> tuple[int, int]:
    """How many records of the target hold a link, and how many there are, counted from the table."""
    from sqlglot import exp

    from recon.matching.bind import bind
    from recon.names import DIALECT

    with database.session(read_only=True) as session:
        bound = bind(session, spec)
        assert bound.link is not None
        query = exp.Select(expressions=[exp.Count(this=bound.link), exp.Count(this=exp.Star())])
        query = query.from_(bound.target.aliased("t"))
        if bound.target_where is not None:
            query = query.where(bound.target_where.copy())
        linked, total = session.rows(query.sql(DIALECT))[0]
    return linked, total
