"""The command line: thin. Every command reads its options, calls one function, and shows or prints the result.

Nothing heavy is imported before a command needs it, so that `recon --help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from recon import __version__
from recon.errors import ReconError, UsageError

if TYPE_CHECKING:
    from recon.database.connect import Database
    from recon.workspace import Workspace

DONE, FAILED, BREAKS_REMAIN = 0, 1, 3
SHOWN_DECISIONS = 40  # a screenful; `--format csv` gives all

app = typer.Typer(
    name="recon",
    help="Match two sets of records, explain what does not match, and backfill with SQL that a reviewer signs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Name = Annotated[str, typer.Argument(help="A reconciliation; see `recon list`.")]
PlanName = Annotated[str, typer.Argument(help="A plan; see `recon plans`.", metavar="PLAN")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Folder = Annotated[Path | None, typer.Option("--workspace", help="The workspace; default: the one you are in.")]
Url = Annotated[
    str | None,
    typer.Option(
        "--database",
        help="A PostgreSQL URL, or `demo`; default: RECON_DATABASE_URL, else embedded.",
        show_default=False,
    ),
]
Execute = Annotated[bool, typer.Option("--execute", help="Write. Without it: a dry run that changes nothing.")]


_NEXT_IN_DEMO = {"apply": "Proving with Great Expectations", "verify": "Making the report"}


# -- the whole way ---------------------------------------------------------------------------------------


@app.command()
def demo(
    system: Annotated[str, typer.Argument(help="Which sample to run.")] = "rent_payments",
    as_json: AsJson = False,
    workspace: Folder = None,
) -> None:
    """Sample data, match, plan, sign-off, apply, verify, report; always in the embedded demo database."""
    from recon import workflow

    place = _workspace(workspace)
    if as_json:
        _print(workflow.demo(place, system, lambda step, _: _progress(f"{step} done")))
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


# -- a workspace -----------------------------------------------------------------------------------------


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="A new folder.")], as_json: AsJson = False) -> None:
    """Make a workspace of your own: folders, notebooks, settings."""
    from recon import workflow

    made = workflow.init(folder)
    _answer(
        {"workspace": str(folder.resolve()), "made": [str(path) for path in made]},
        as_json,
        f"Made {folder}: {', '.join(map(str, made))}.\nNext: write reconciliations/NAME.yaml, or try"
        f" `recon load rent_payments --sample --workspace {folder}`.",
    )


@app.command("list")
def list_reconciliations(as_json: AsJson = False, workspace: Folder = None) -> None:
    """The reconciliations of this workspace and the shipped ones."""
    place = _workspace(workspace)
    rows: list[dict[str, Any]] = []
    for name in place.reconciliations():
        spec = place.spec(name)
        sides = [side.table or side.query or side.file or side.api for side in (spec.target, spec.source)]
        rows.append({"name": name, "title": spec.title, "target": sides[0], "source": sides[1]})
    if not _show({"reconciliations": rows}, as_json):
        from recon import screens

        screens.reconciliations(rows)


@app.command()
def schema(as_json: AsJson = False) -> None:
    """The JSON Schema of a spec, for editors."""
    from recon.spec import Reconciliation

    _print(Reconciliation.model_json_schema(), indent=None if as_json else 2)


# -- load and match --------------------------------------------------------------------------------------


@app.command()
def load(
    name: Name,
    sample: Annotated[bool, typer.Option("--sample", help="Create and fill the sample tables.")] = False,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Bring source records in."""
    from recon import workflow

    place = _workspace(workspace)
    spec = place.spec(name)
    if not sample:
        raise UsageError(
            f"The records of {spec.name} are in tables already.",
            why="There is no file or outside system to load them from.",
            todo=f"Go on with `recon match {name}`, or create sample tables with --sample.",
        )
    counts = workflow.load_sample(_database(place, database), place, name)
    _answer(
        {"reconciliation": name, "tables": counts},
        as_json,
        "Loaded " + ", ".join(f"{count:,} {table}" for table, count in counts.items()) + ".",
    )


@app.command()
def match(
    name: Name,
    limit: Annotated[int | None, typer.Option(min=1, help="Decide at most this many unlinked records.")] = None,
    from_date: Annotated[str | None, typer.Option("--from", help="From this day, YYYY-MM-DD, inclusive.")] = None,
    to_date: Annotated[str | None, typer.Option("--to", help="To this day, YYYY-MM-DD, inclusive.")] = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Decide every record; prints the waterfall and the reasons. Writes nothing to your tables."""
    from recon.matching import run
    from recon.matching.statements import Filter

    place = _workspace(workspace)
    spec = place.spec(name)
    limited = Filter(limit, _day(from_date, "--from"), _day(to_date, "--to"))
    opened = _database(place, database)
    with _spinner(f"Matching {name}"):
        result = run.match(opened, spec, place.actor, limited)
    if not _show(result.as_dict(), as_json):
        from recon import screens

        screens.waterfall(result)
    reconciled = sum(result.outcomes.get(outcome, 0) for outcome in (*run.RECONCILED, "excluded"))
    raise typer.Exit(DONE if reconciled == result.population else BREAKS_REMAIN)


@app.command()
def decisions(
    name: Name,
    form: Annotated[str, typer.Option("--format", help="table or csv.")] = "table",
    run: Annotated[str | None, typer.Option(help="A run; default: the latest.")] = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """One line for each record of a run."""
    from recon.matching import pairs
    from recon.matching import run as runs
    from recon.matching.bind import bind

    if form not in ("table", "csv"):
        raise UsageError(f"There is no format {form}.", todo="Use --format table or --format csv.")
    place = _workspace(workspace)
    spec = place.spec(name)
    opened = _database(place, database)
    found = runs.load(opened, name, run)
    with opened.session(read_only=True) as session:
        bound = bind(session, spec)
        if as_json:
            fields = ("target_key", "source_key", "outcome", "pass", "confidence", "reason")
            rows = [dict(zip(fields, row, strict=True)) for row in pairs.iterate(session, bound, found.run)]
            _print({"run": found.run, "decisions": rows})
        elif form == "csv":
            pairs.write_csv(session, bound, found.run, sys.stdout)
        else:
            from recon import screens

            open_first = ("ambiguous", "proposed", "unmatched", "matched")
            rows = pairs.listed(session, bound, found.run, outcomes=open_first, limit=SHOWN_DECISIONS)
            screens.decisions(rows, found.population - found.outcomes.get("linked", 0))


@app.command()
def explain(
    name: Name,
    key: Annotated[str, typer.Option(help="The target's key; a composite one as a JSON array.")],
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Why a record is matched or not, pass by pass, with the candidates."""
    from dataclasses import asdict

    from recon.matching import explain as explaining
    from recon.matching.bind import bind

    place = _workspace(workspace)
    spec = place.spec(name)
    with _database(place, database).session(read_only=True) as session:
        result = explaining.explain(session, bind(session, spec), key)
    if not _show(asdict(result), as_json):
        from recon import screens

        screens.explained(result)


@app.command()
def runs(
    name: Annotated[str | None, typer.Argument(help="Only of this reconciliation.")] = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """What ran, newest first."""
    from recon.matching import run

    place = _workspace(workspace)
    found = run.history(_database(place, database), name)
    if not _show({"runs": found}, as_json):
        from recon import screens

        screens.runs(found)


# -- plan, sign-off, apply, verify, revert ---------------------------------------------------------------


@app.command()
def plan(
    name: Name,
    passes: Annotated[list[str] | None, typer.Option("--pass", help="Only this pass; may be repeated.")] = None,
    run: Annotated[str | None, typer.Option(help="A run; default: the latest.")] = None,
    limited: Annotated[bool, typer.Option("--limited", help="Plan from a limited run on purpose.")] = False,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Freeze the matched records of the latest run as a plan and its bundle."""
    from recon.backfill import plan as plans

    place = _workspace(workspace)
    made = plans.make(
        _database(place, database),
        place,
        place.spec(name),
        place.actor,
        run=run,
        passes=passes or (),
        allow_limited=limited,
    )
    if made is None:
        _answer(
            {"plan": None, "digest": None, "bundle": None, "rows": 0},
            as_json,
            "The run matched no record that is not linked yet: there is nothing to plan.",
        )
        return
    if not _show(made.as_dict(), as_json):
        from recon import screens

        screens.planned(made)
        _say(f"Next: a reviewer reads the bundle and runs `recon approve {made.plan}`.")


@app.command()
def plans(
    name: Annotated[str | None, typer.Argument(help="Only of this reconciliation.")] = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Every plan, and whom it waits for."""
    from recon.backfill import plan as planning

    place = _workspace(workspace)
    found = planning.listed(_database(place, database), place, name)
    if not _show({"plans": [item.as_dict() for item in found]}, as_json):
        from recon import screens

        screens.plans(found)


@app.command()
def approve(
    plan: PlanName,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Sign off a plan's digest, recorded by name: a record of who said yes, not a proof."""
    from recon.backfill import sign_off

    place = _workspace(workspace)
    approved = sign_off.approve(_database(place, database), place, plan, place.actor)
    _answer(
        approved.as_dict(),
        as_json,
        f"{place.actor} approved digest {approved.digest} (recorded by name: a record, not a proof)."
        f"\nPlan {plan} is {approved.state}. Next: `recon apply {plan}` shows, `--execute` writes.",
    )


@app.command()
def reject(
    plan: PlanName,
    reason: Annotated[str, typer.Option(help="Why.")],
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Say no to a plan."""
    from recon.backfill import sign_off

    place = _workspace(workspace)
    rejected = sign_off.reject(_database(place, database), place, plan, place.actor, reason)
    _answer(rejected.as_dict(), as_json, f"Plan {plan} is rejected: {reason}")


@app.command()
def apply(
    plan: PlanName,
    execute: Execute = False,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Change the rows of an approved plan; without --execute, show what would change."""
    from recon.backfill import apply as applying

    place = _workspace(workspace)
    opened = _database(place, database)
    with _bar("Applying") as progress:
        result = applying.apply(opened, place, plan, place.actor, execute=execute, progress=progress)
    if not _show(result.as_dict(), as_json):
        from recon import screens

        screens.applied(result)
        if execute and result.changed:
            _say(f"Next: `recon verify {plan}` proves it.")
    raise typer.Exit(BREAKS_REMAIN if result.skipped else DONE)


@app.command()
def verify(
    plan: PlanName,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Prove an applied plan, from a connection of its own: its changes, and the suite of its reconciliation."""
    from recon import workflow

    place = _workspace(workspace)
    opened = _database(place, database)
    with _spinner("Proving with verify.sql and Great Expectations"):
        result = workflow.verify(opened, place, plan, place.actor)
    if not _show(result.as_dict(), as_json):
        from recon import screens

        screens.verified(result)
    raise typer.Exit(DONE if result.complete else BREAKS_REMAIN if result.verification.right else FAILED)


@app.command()
def revert(
    plan: PlanName,
    execute: Execute = False,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Undo a plan where rows still hold what it wrote; without --execute, show what would be restored."""
    from recon.backfill import revert as reverting

    place = _workspace(workspace)
    opened = _database(place, database)
    with _bar("Reverting") as progress:
        result = reverting.revert(opened, place, plan, place.actor, execute=execute, progress=progress)
    if not _show(result.as_dict(), as_json):
        from recon import screens

        screens.reverted(result)
    raise typer.Exit(BREAKS_REMAIN if result.conflicts else DONE)


# -- show ------------------------------------------------------------------------------------------------


@app.command()
def report(
    name: Name,
    plan: Annotated[str | None, typer.Option(help="A plan; default: the latest.")] = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """One HTML file in reports/ that opens with no network."""
    from recon import workflow

    place = _workspace(workspace)
    place.spec(name)
    opened = _database(place, database)
    with _bar("Making the report", "cells") as progress:
        path = workflow.report(opened, place, name, plan, progress)
    _answer({"report": str(path)}, as_json, f"Report  {path}")


@app.command()
def notebook(
    what: Annotated[str, typer.Argument(help="explore, or lab.")],
    name: Annotated[str | None, typer.Argument(help="A reconciliation to open it on.")] = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Open a notebook app on this machine."""
    import subprocess

    from recon import workflow

    place = _workspace(workspace)
    if name:
        place.spec(name)
    command = workflow.notebook_command(place, what)
    if as_json:
        _print({"command": command})
        return
    environment = workflow.notebook_environment(place, name, database)
    raise typer.Exit(subprocess.run(command, env=environment, cwd=place.root, check=False).returncode)


@app.command("database")
def embedded_database(
    what: Annotated[str, typer.Argument(help="url, start or stop.")],
    as_json: AsJson = False,
    workspace: Folder = None,
) -> None:
    """The embedded PostgreSQL of this workspace: its URL, or keep it running, or stop it."""
    from recon import workflow
    from recon.database import embedded

    place = _workspace(workspace)
    if what == "stop":
        stopped = embedded.stop(place.folder)
        _answer({"stopped": stopped}, as_json, "Stopped." if stopped else "It was not running.")
    elif what in ("start", "url"):
        # A URL is of use only while the server runs, so both keep it running until `stop`.
        url = embedded.start(place.folder, workflow.EMBEDDED_DATABASE, keep=True)
        _answer({"url": url}, as_json, url)
    else:
        raise UsageError(f"There is no `recon database {what}`.", todo="Use url, start or stop.")


# -- shared ----------------------------------------------------------------------------------------------


def _workspace(folder: Path | None) -> Workspace:
    from recon.workspace import Workspace

    return Workspace.find(folder)


def _database(workspace: Workspace, url: str | None) -> Database:
    from recon import workflow

    return workflow.open_database(workspace, url)


def _day(text: str | None, option: str) -> str | None:
    from datetime import date

    try:
        return date.fromisoformat(text).isoformat() if text is not None else None
    except ValueError as error:
        raise UsageError(f"{option} {text!r} is not a day.", todo="Write it like 2025-03-31.") from error


def _bar(title: str, unit: str = "rows") -> Any:
    """A progress bar on stderr with count, rate and time left, once there is progress to show."""
    from recon.progress import bar

    return bar(title, unit)


def _spinner(title: str) -> Any:
    from recon.progress import spinner

    return spinner(title)


def _progress(text: str) -> None:
    typer.echo(text, err=True)


def _say(text: str) -> None:
    typer.echo(text)


def _answer(document: dict[str, Any], as_json: bool, text: str) -> None:
    """Print the document where JSON is asked for, else the sentence."""
    if not _show(document, as_json):
        _say(text)


def _show(document: dict[str, Any], as_json: bool) -> bool:
    """Print the document where JSON is asked for; says whether it did."""
    if as_json:
        _print(document)
    return as_json


def _print(document: Any, indent: int | None = None) -> None:
    typer.echo(json.dumps(document, default=_plain, ensure_ascii=False, indent=indent))


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="The version.")] = False) -> None:
    if version:
        typer.echo(f"recon {__version__}")
        raise typer.Exit


def main() -> NoReturn:
    """Run the command line; every error ends in one clear message and its exit code."""
    try:
        app()
    except ReconError as error:
        _fail(error, error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        if os.environ.get("RECON_DEBUG"):
            raise
        # Its text may hold values or a URL, so only its kind is named.
        unknown = ReconError(
            f"Something unforeseen went wrong ({type(error).__name__}).",
            todo="Set RECON_DEBUG=1 to see where, and report it.",
        )
        _fail(unknown, FAILED)
    sys.exit(DONE)


def _fail(error: ReconError, code: int) -> NoReturn:
    if "--json" in sys.argv[1:]:
        _print(error.as_dict())
    typer.secho(error.what, fg=typer.colors.RED, err=True)
    for part in (error.why, error.todo):
        if part:
            typer.echo(part, err=True)
    sys.exit(code)
