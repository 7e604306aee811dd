"""Commands about the place: a workspace, its reconciliations, its embedded database, and the demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from recon.commands.shared import FAILED, AsJson, Folder, answer, find_workspace, note, print_json, show
from recon.errors import UsageError

_NEXT_IN_DEMO = {"apply": "Proving with Great Expectations", "verify": "Making the report"}


def demo(
    system: Annotated[str, typer.Argument(help="Which sample to run.")] = "rent_payments",
    as_json: AsJson = False,
    workspace: Folder = None,
) -> None:
    """Sample data, match, plan, sign-off, apply, verify, report; always in the embedded demo database."""
    from recon import workflow

    place = find_workspace(workspace)
    if as_json:
        print_json(workflow.demo(place, system, lambda step, _: note(f"{step} done")))
        return
    from recon import screens
    from recon.progress import spinner

    with spinner("Making the sample", screens.console) as say:

        def tell(step: str, result: Any) -> None:
            screens.demo_step(step, result)
            say(_NEXT_IN_DEMO.get(step, "Going on"))

        result = workflow.demo(place, system, tell)
    screens.console.print(
        f"\n[bold green]{result['linked_before']} → {result['linked_after']} of {result['total']} linked[/]"
        f" ({screens.percent(result['coverage_before'])} → {screens.percent(result['coverage_after'])}),"
        f" {'verified' if result['verified'] else 'NOT verified'}."
        f"\nLook closer: recon notebook explore {system} --database demo · recon revert {result['plan']} --database demo"
    )
    if not result["verified"]:
        raise typer.Exit(FAILED)


def init(folder: Annotated[Path, typer.Argument(help="A new folder.")], as_json: AsJson = False) -> None:
    """Make a workspace of your own: folders, notebooks, settings."""
    from recon import workflow

    made = workflow.init(folder)
    answer(
        {"workspace": str(folder.resolve()), "made": [str(path) for path in made]},
        as_json,
        f"Made {folder}: {', '.join(map(str, made))}.\nNext: write reconciliations/NAME.yaml, or try"
        f" `recon load rent_payments --sample --workspace {folder}`.",
    )


def list_reconciliations(as_json: AsJson = False, workspace: Folder = None) -> None:
    """The reconciliations of this workspace and the shipped ones."""
    place = find_workspace(workspace)
    rows: list[dict[str, Any]] = []
    for name in place.reconciliations():
        spec = place.spec(name)
        sides = [side.table or side.query or side.file or side.api for side in (spec.target, spec.source)]
        rows.append({"name": name, "title": spec.title, "target": sides[0], "source": sides[1]})
    if not show({"reconciliations": rows}, as_json):
        from recon import screens

        screens.reconciliations(rows)


def schema(as_json: AsJson = False) -> None:
    """The JSON Schema of a spec, for editors."""
    from recon.spec import Reconciliation

    print_json(Reconciliation.model_json_schema(), indent=None if as_json else 2)


def embedded_database(
    what: Annotated[str, typer.Argument(help="url, start or stop.")],
    as_json: AsJson = False,
    workspace: Folder = None,
) -> None:
    """The embedded PostgreSQL of this workspace: its URL, or keep it running, or stop it."""
    from recon import workflow
    from recon.database import embedded

    place = find_workspace(workspace)
    if what == "stop":
        stopped = embedded.stop(place.folder)
        answer({"stopped": stopped}, as_json, "Stopped." if stopped else "It was not running.")
    elif what in ("start", "url"):
        # A URL is of use only while the server runs, so both keep it running until `stop`.
        url = embedded.start(place.folder, workflow.EMBEDDED_DATABASE, keep=True)
        answer({"url": url}, as_json, url)
    else:
        raise UsageError(f"There is no `recon database {what}`.", todo="Use url, start or stop.")
