"""Commands that change records: plan, sign-off, apply, verify, revert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recon.commands.shared import (
    BREAKS_REMAIN,
    DONE,
    FAILED,
    AsJson,
    Execute,
    Folder,
    Name,
    PlanName,
    Url,
    answer,
    find_workspace,
    open_database,
    say,
    say_private,
    show,
)
from recon.errors import OutsideLeft
from recon.progress import bar, spinner

Workers = Annotated[int, typer.Option(min=1, max=2, help="Sessions that write at the same time.")]


def plan(
    name: Name,
    passes: Annotated[list[str] | None, typer.Option("--pass", help="Only this pass; may be repeated.")] = None,
    run: Annotated[str | None, typer.Option(help="A run; default: the latest.")] = None,
    limited: Annotated[bool, typer.Option("--limited", help="Plan from a limited run on purpose.")] = False,
    over_cap: Annotated[
        bool, typer.Option("--over-cap", help="Take more orphans than the spec's cap, never all of a scope.")
    ] = False,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Freeze what the latest run would change as a plan and its bundle."""
    from recon.backfill import absences
    from recon.backfill import plan as plans

    place = find_workspace(workspace)
    spec = place.spec(name)
    made = plans.make(
        open_database(place, database),
        place,
        spec,
        place.actor,
        run=run,
        passes=passes or (),
        allow_limited=limited,
        over_cap=over_cap,
        lookup=None if over_cap else absences.of_people(spec),  # with it, a person says that they are gone
    )
    if made is None:
        answer(
            {"plan": None, "digest": None, "bundle": None, "rows": 0},
            as_json,
            "Nothing would change by this run: there is nothing to plan.",
        )
        return
    if not show(made.as_dict(), as_json):
        from recon import screens

        screens.planned(made)
        say(f"Next: a reviewer runs `recon review {made.plan}`, and says yes with `recon approve`.")


def plans(
    name: Annotated[str | None, typer.Argument(help="Only of this reconciliation.")] = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Every plan, and whom it waits for."""
    from recon.backfill import plan as planning

    place = find_workspace(workspace)
    found = planning.listed(open_database(place, database), place, name)
    if name and not found:  # what was planned under a name stays, whatever became of its spec
        place.spec_path(name)
    if not show({"plans": [item.as_dict() for item in found]}, as_json):
        from recon import screens

        screens.plans(found)


def review(
    plan: PlanName,
    scripts: Annotated[bool, typer.Option(help="Show the four scripts.")] = True,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """What a reviewer needs before signing: rows of each pass, precision, lint, drift, scripts, the digest."""
    from recon.backfill import review as reviewing

    place = find_workspace(workspace)
    found = reviewing.collect(open_database(place, database), place, plan)
    if not show(found.as_dict(), as_json):
        from recon import screens_review

        screens_review.review(found, scripts=scripts)
    raise typer.Exit(found.exit_code)


def approve(
    plan: PlanName,
    key: Annotated[
        Path | None, typer.Option(help="Sign with this SSH key; a .pub file where an agent holds it.", metavar="FILE")
    ] = None,
    signature: Annotated[
        Path | None, typer.Option(help="Take a signature over plan.json made elsewhere.", metavar="FILE")
    ] = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Sign off a plan with an SSH key; without one, recorded by name: a record of who said yes, not a proof.

    A signature is made elsewhere by `ssh-keygen -Y sign -n recon-sign-off -f KEY < plan.json`.
    """
    from recon.backfill import sign_off

    place = find_workspace(workspace)
    approved = sign_off.approve(open_database(place, database), place, plan, place.actor, key=key, signature=signature)
    how = "signed" if key or signature else "recorded by name: a record, not a proof"
    if approved.state == "planned":
        after = "It waits for another reviewer."
    elif approved.state in sign_off.GOING_ON:
        after = f"Next: `recon apply {plan}` shows, `--execute` writes."
    else:
        after = f"Nothing is left to write; `recon revert {plan}` shows what would be undone."
    answer(
        approved.as_dict(),
        as_json,
        f"{place.actor} approved digest {approved.digest} ({how}).\nPlan {plan} is {approved.state}. {after}",
    )


def reject(
    plan: PlanName,
    reason: Annotated[str, typer.Option(help="Why.")],
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Say no to a plan; once its apply has begun, take your own approval back, so that it is not resumed."""
    from recon.backfill import sign_off

    place = find_workspace(workspace)
    rejected = sign_off.reject(open_database(place, database), place, plan, place.actor, reason)
    done = "is rejected" if rejected.state == "rejected" else f"is {rejected.state} and lost your approval"
    answer(rejected.as_dict(), as_json, f"Plan {plan} {done}: {reason}")


def apply(
    plan: PlanName,
    execute: Execute = False,
    workers: Workers = 1,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Change the rows of an approved plan; without --execute, show what would change."""
    from recon.backfill import apply as applying
    from recon.backfill import plan as planning
    from recon.backfill import veils

    place = find_workspace(workspace)
    opened = open_database(place, database)
    try:
        with bar("Applying") as progress:
            result = applying.apply(
                opened, place, plan, place.actor,
                execute=execute, workers=workers, progress=progress, notice=progress.notice,
            )  # fmt: skip
    except OutsideLeft as error:
        if not as_json:
            from recon import screens

            screens.outside(error.outside, executed=True)
        raise
    if not show(result.as_dict(), as_json):
        from recon import screens

        screens.applied(result)
        say_private(veils.note(place, planning.load(opened, place, plan).document))
        if execute and result.changed:
            say(f"Next: `recon verify {plan}` proves it.")
    raise typer.Exit(BREAKS_REMAIN if result.left else DONE)


def verify(
    plan: PlanName,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Prove an applied plan, from a connection of its own: its changes, and the suite of its reconciliation."""
    from recon import workflow

    place = find_workspace(workspace)
    opened = open_database(place, database)
    with spinner("Proving with verify.sql and Great Expectations"):
        result = workflow.verify(opened, place, plan, place.actor)
    if not show(result.as_dict(), as_json):
        from recon import screens

        screens.verified(result)
    raise typer.Exit(DONE if result.complete else BREAKS_REMAIN if result.verification.right else FAILED)


def revert(
    plan: PlanName,
    execute: Execute = False,
    workers: Workers = 1,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Undo a plan where rows still hold what it wrote; without --execute, show what would be restored."""
    from recon.backfill import revert as reverting

    place = find_workspace(workspace)
    opened = open_database(place, database)
    with bar("Reverting") as progress:
        result = reverting.revert(
            opened, place, plan, place.actor,
            execute=execute, workers=workers, progress=progress, notice=progress.notice,
        )  # fmt: skip
    if not show(result.as_dict(), as_json):
        from recon import screens

        screens.reverted(result)
    raise typer.Exit(BREAKS_REMAIN if result.kept else DONE)
