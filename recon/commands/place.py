"""Commands about the place: a workspace, its reconciliations, its embedded database, and the demo."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.commands import groups
from recon.commands.shared import (
    BREAKS_REMAIN,
    FAILED,
    AsJson,
    Folder,
    Url,
    after_matching,
    answer,
    find_workspace,
    note,
    open_database,
    print_json,
    show,
)
from recon.errors import UsageError, visible

if TYPE_CHECKING:
    from recon.backfill.plan import Plan
    from recon.matching.run import Run
    from recon.spec_parts import RecordSet
    from recon.workspace import Workspace

_NEXT_IN_DEMO = {"apply": "Proving with Great Expectations", "verify": "Making the report"}


def demo(
    system: Annotated[str, typer.Argument(help="Which sample to run: a reconciliation, or a group.")] = "rent_payments",
    as_json: AsJson = False,
    workspace: Folder = None,
) -> None:
    """Sample data, match, plan, sign-off, apply, verify, report; always in the embedded demo database."""
    from recon import demonstration

    place = find_workspace(workspace, anywhere=True)
    if groups.is_group(place, system):
        raise typer.Exit(_demo_group(place, system, as_json))
    steps: dict[str, Any] = {}
    if as_json:

        def noted(step: str, result: Any) -> None:
            steps[step] = result
            note(f"{step} done")

        result = demonstration.demo(place, system, noted)
        print_json(result)
    else:
        result = _shown_demo(place, system, steps)
    raise typer.Exit(_after_demo(result, steps))


def _after_demo(result: Mapping[str, Any], steps: Mapping[str, Any]) -> int:
    """The exit code of a demo."""
    if result["plan"] is None:
        return after_matching(steps["match"])
    if not result["verified"]:
        return FAILED
    complete = steps["verify"].complete and not steps["apply"].skipped
    return after_matching(steps.get("match again", steps["match"])) if complete else BREAKS_REMAIN


def _demo_group(place: Workspace, group: str, as_json: bool) -> int:
    """The demo of each reconciliation of a group; returns the exit code."""
    from recon import demonstration, screens, screens_groups
    from recon.progress import spinner

    steps: dict[str, dict[str, Any]] = {}
    with spinner("Making the sample", screens.console) as say:

        def tell(name: str, step: str, result: Any) -> None:
            if name not in steps and name != group and not as_json:
                screens_groups.heading(name)
            steps.setdefault(name, {})[step] = result
            if as_json:
                note(f"{name}: {step} done")
            else:
                screens.demo_step(step, result)
                say(_NEXT_IN_DEMO.get(step, "Going on"))

        document = demonstration.demo_group(place, group, tell)
    ended = [
        groups.Ended(item["reconciliation"], item, _after_demo(item, steps[item["reconciliation"]]))
        for item in document["members"]
    ]
    code = groups.worst(ended)
    if not show({**document, "exit_code": code}, as_json):
        screens_groups.demos(document, code, _where(place))
    return code


def _shown_demo(place: Workspace, system: str, steps: dict[str, Any]) -> dict[str, Any]:
    """Run the demo with its screens; what each step gave is left in `steps`."""
    from recon import demonstration, screens
    from recon.progress import spinner

    with spinner("Making the sample", screens.console) as say:

        def tell(step: str, result: Any) -> None:
            steps[step] = result
            screens.demo_step(step, result)
            say(_NEXT_IN_DEMO.get(step, "Going on"))

        result = demonstration.demo(place, system, tell)
    if result["plan"] is None:
        _shown_found(place, system, steps["match"])
        return result
    before, after = _shares(result)
    screens.console.print(
        f"\n[bold green]{_brought(result)}[/] ({screens.percent(before)} → {screens.percent(after)}),"
        f" {'verified' if result['verified'] else 'NOT verified'}{_precision(steps)}."
        f"\nLook closer: {screens.escape(look_closer(place, system, steps['plan']))}",
        soft_wrap=True,
    )
    return result


def _shown_found(place: Workspace, system: str, found: Run) -> None:
    """The end of a demo that only finds."""
    from recon import screens

    proposed = found.outcomes.get("proposed", 0)
    where = _where(place)
    screens.console.print(
        f"\n[bold green]{proposed:,} of {found.population:,} proposed[/] to people; {screens.escape(system)} writes nothing."
        f"\nLook closer: recon notebook explore {screens.escape(f'{system} {where} · recon decisions {system} {where}')}",
        soft_wrap=True,
    )


def look_closer(place: Workspace, system: str, plan: Plan) -> str:
    """Commands that work once the demo has ended: what stood in for an outside system answers no more by then."""
    what = "review" if "outside" in plan.document else "revert"
    return f"recon notebook explore {system} {_where(place)} · recon {what} {plan.plan} {_where(place)}"


def _where(place: Workspace) -> str:
    """The options by which other commands find the demo from here; a workspace that they find by themselves is not named."""
    try:
        near = find_workspace(None).root
    except UsageError:
        near = None
    return "--database demo" + ("" if near == place.root else f" --workspace {shlex.quote(str(place.root))}")


def _brought(result: Mapping[str, Any]) -> str:
    """What a demo brought about, in a line."""
    if "same_after" in result:
        if result["total_before"] != result["total"]:
            return f"{result['same_before']} of {result['total_before']} → {result['same_after']} of {result['total']} agree"
        return f"{result['same_before']} → {result['same_after']} of {result['total']} agree"
    return f"{result['linked_before']} → {result['linked_after']} of {result['total']} linked"


def _shares(result: Mapping[str, Any]) -> tuple[float, float]:
    """The shares of what `_brought` counts: of records that agree, or of linked ones."""
    if "same_after" in result:
        return result["same_before"] / result["total_before"], result["same_after"] / result["total"]
    return result["coverage_before"], result["coverage_after"]


def _precision(steps: Mapping[str, Any]) -> str:
    return f"; {steps['backtest'].words}" if "backtest" in steps else ""


def init(
    folder: Annotated[Path | None, typer.Argument(help="A new folder.", metavar="DIR", show_default=False)] = None,
    target: Annotated[
        str | None,
        typer.Option("--target", help="The records to repair: a file; with --from, a table.", show_default=False),
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--source", help="The records to trust: a file; with --from, a table.", show_default=False),
    ] = None,
    from_url: Annotated[
        str | None,
        typer.Option("--from", help="A PostgreSQL URL: draft from its tables. It is only read.", show_default=False),
    ] = None,
    link: Annotated[
        str | None,
        typer.Option("--link", help="The target's column for the source's key.", show_default=False),
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What to call the reconciliation.")] = None,
    key_target: Annotated[str | None, typer.Option("--key-target", help="The target's key column.")] = None,
    key_source: Annotated[str | None, typer.Option("--key-source", help="The source's key column.")] = None,
    as_json: AsJson = False,
    workspace: Annotated[Path | None, typer.Option("--workspace", help="The same as DIR.")] = None,
) -> None:
    """Make a workspace of your own: folders, notebooks, settings; with two files, a drafted reconciliation of them too."""
    from recon import new_workspace, starting
    from recon.progress import spinner

    if (folder is None) == (workspace is None):
        raise UsageError("Name the new folder once.", todo="Write `recon init DIR` or `recon init --workspace DIR`.")
    folder = folder or workspace
    assert folder is not None
    alone = target is None and source is None and from_url is None
    if alone or from_url is not None:
        _refuse_idle({"--key-target": key_target, "--key-source": key_source}, "It is for --target FILE --source FILE.")
    if alone:
        _refuse_idle({"--name": name, "--link": link}, "It is for --target FILE --source FILE, or for --from URL.")
        made = new_workspace.init(folder)
        answer(
            {"workspace": str(folder.resolve()), "made": [str(path) for path in made]},
            as_json,
            f"Made {folder}: {', '.join(map(str, made))}.\nNext: cd {shlex.quote(str(folder))}, then"
            " recon load example · recon match example · recon plan example; or draft your own: recon init . --target FILE"
            " --source FILE.",
        )
        return
    with spinner("Drafting") as say:
        if from_url is not None:
            started = starting.with_database(
                folder, from_url, target=target, source=source, link=link, name=name, step=say
            )
        else:
            if target is None or source is None:
                raise UsageError("A reconciliation has two sides.", todo="Give both --target FILE and --source FILE.")
            started = starting.with_files(
                folder, Path(target), Path(source), name=name, target_key=key_target, source_key=key_source, link=link,
                step=say,
            )  # fmt: skip
    if not show(started.as_dict(), as_json):
        from recon import screens_draft

        screens_draft.drafted(started, folder)


def _refuse_idle(options: Mapping[str, str | None], why: str) -> None:
    """Refuse options that would be taken without a word and do nothing. Raises UsageError."""
    for option, value in options.items():
        if value is not None:
            raise UsageError(f"{option} says nothing here.", why=why, todo=f"Leave {option} out, or give those too.")


def list_reconciliations(as_json: AsJson = False, workspace: Folder = None) -> None:
    """The reconciliations of this workspace and the shipped ones."""
    place = find_workspace(workspace, anywhere=True)
    rows: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []
    for name in place.reconciliations():
        spec = place.spec(name)
        sides = {"target": spec.target, "source": spec.source}
        row = {
            "name": name,
            "title": spec.title,
            **{side: of.origin for side, of in sides.items()},
            "group": spec.group,
        }
        rows.append(row)
        shown.append(row | {side: _origin(of) for side, of in sides.items()})
    if not show({"reconciliations": rows}, as_json):
        from recon import screens

        screens.reconciliations(shown)


def _origin(side: RecordSet) -> str:
    """Where a side's records come from, in a word or two: a query is not spelled out."""
    if side.table or side.file or side.api:
        return side.origin
    return f"query of {side.writes}" if side.writes else f"query ({side.called})" if side.called else "query"


def schema(
    as_json: AsJson = False,
    workspace: Annotated[Path | None, typer.Option("--workspace", help="Any: the schema is the same in all.")] = None,
) -> None:
    """The JSON Schema of a spec, for editors."""
    from recon.spec import Reconciliation

    print_json(Reconciliation.model_json_schema(), indent=None if as_json else 2)


def database(
    what: Annotated[str, typer.Argument(help="url, start, stop, or roles.")],
    name: Annotated[str | None, typer.Argument(help="For roles: a reconciliation.", show_default=False)] = None,
    prefix: Annotated[str, typer.Option(help="For roles: what their names begin with.")] = "recon",
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """The embedded PostgreSQL (url, start, stop); or the script of database roles for a reconciliation (roles NAME).

    url and start keep the server running until `recon database stop`. roles prints SQL and runs none of it: read it, and
    let the owner of the database run it.
    """
    from recon import workflow
    from recon.database import embedded

    place = find_workspace(workspace)
    if what == "roles":
        from recon.service import rights

        if name is None:
            raise UsageError("Roles are made for a reconciliation.", todo="Write `recon database roles NAME`.")
        place.spec(name)
        script = rights.script(open_database(place, database), place, name, prefix)
        if not show({"sql": script}, as_json):
            typer.echo(visible(script) if sys.stdout.isatty() else script, nl=False)
        return
    if name is not None:
        raise UsageError(f"`recon database {what}` takes no name.")
    if what == "stop":
        stopped = embedded.stop(place.folder)
        answer({"stopped": stopped}, as_json, "Stopped." if stopped else "It was not running.")
    elif what in ("start", "url"):
        # A URL is of use only while the server runs, so both keep it running until `stop`.
        url = embedded.start(place.folder, workflow.EMBEDDED_DATABASE, keep=True)
        url = url.replace("+psycopg", "", 1)  # as psql and everything else reads it
        answer({"url": url}, as_json, url)
    else:
        raise UsageError(f"There is no `recon database {what}`.", todo="Use url, start, stop or roles.")
