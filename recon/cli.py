"""The command line: thin. Each command reads its options, calls one function, and shows or prints the result.

Nothing heavy is imported before a command needs it, so that `recon --help` answers at once.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from recon import __version__
from recon.commands import (
    backfill,
    check,
    export,
    look,
    match,
    people,
    place,
    report,
    rules,
    run,
    service,
    standing,
    sync,
)
from recon.commands.shared import DONE, FAILED, print_json
from recon.errors import ReconError, UsageError, of_place, visible

# What every complaint about options and arguments is: click's class, or that of the copy some versions of Typer bring.
_Misused: type[Exception] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="recon",
    help="Match two sets of records, explain what does not match, and backfill with SQL that a reviewer signs.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

# In the order a person comes to need them.
app.command()(place.demo)
app.command()(place.init)
app.command("list")(place.list_reconciliations)
app.command()(place.schema)
app.command()(match.load)
app.command()(check.check)
app.command()(match.match)
app.command()(match.decisions)
app.command()(match.explain)
app.command()(rules.backtest)
app.command("what-if")(rules.what_if)
app.command("try")(rules.try_pass)
app.command()(people.decide)
app.command()(people.breaks)
app.command()(match.runs)
app.command()(backfill.plan)
app.command()(backfill.plans)
app.command()(backfill.review)
app.command()(export.export)
app.command()(backfill.approve)
app.command()(backfill.reject)
app.command()(standing.standing)
app.command()(backfill.apply)
app.command()(backfill.verify)
app.command()(backfill.revert)
app.command()(run.run)
app.command()(sync.sync)
app.command()(look.audit)
app.command()(report.report)
app.command()(look.notebook)
app.command()(service.serve)
app.command()(service.token)
app.command()(service.webhooks)
app.command("follow-ups")(service.follow_ups)
app.command()(service.worker)
app.command()(place.database)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="The version.")] = False) -> None:
    if version:
        typer.echo(f"recon {__version__}")
        raise typer.Exit


def main() -> NoReturn:
    """Run the command line; every error ends in one clear message and its exit code."""
    try:
        _utf8_only()
        # Typer gives the code of typer.Exit, and None where a command just returns.
        sys.exit(app(prog_name="recon", standalone_mode=False) or DONE)
    except ReconError as error:
        _fail(error, error.exit_code)
    except _Misused as error:
        _fail(_misuse(error), UsageError.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except Exception as error:
        if os.environ.get("RECON_DEBUG"):
            raise
        if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
            _fail(_not_utf8("A name or a setting"), UsageError.exit_code)
        if place := of_place(error):
            _fail(place, place.exit_code)
        # Its text may hold values or a URL, so only its kind and place are named.
        *_, last = traceback.extract_tb(error.__traceback__)
        unknown = ReconError(
            f"Something unforeseen went wrong ({type(error).__name__}, {Path(last.filename).name} line {last.lineno}).",
            todo="Set RECON_DEBUG=1 to see where, and report it.",
        )
        _fail(unknown, FAILED)


def _misuse(error: Any) -> UsageError:
    """Typer's complaint as ours: what is wrong, how the command is called, where its help is."""
    what = error.format_message()
    if not what:  # `recon` alone: the help is on the screen already
        sys.exit(UsageError.exit_code)
    if error.ctx is None:
        return UsageError(what, todo="`recon --help` tells more.")
    return UsageError(what, why=error.ctx.get_usage(), todo=f"`{error.ctx.command_path} --help` tells more.")


def _utf8_only() -> None:
    """Refuse bytes that no database and no terminal takes, before anything is done. Raises UsageError."""
    places = {
        "An argument": sys.argv[1:],
        "A setting in the environment": [value for name, value in os.environ.items() if name.startswith("RECON_")],
        "The name of this folder": [_here()],
    }
    for what, texts in places.items():
        if any("\udc80" <= character <= "\udcff" for text in texts for character in text):
            raise _not_utf8(what)


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was deleted; `recon --help` answers all the same
        return ""


def _not_utf8(what: str) -> UsageError:
    return UsageError(f"{what} holds bytes that are not UTF-8.", todo="Write it in UTF-8.")


def _fail(error: ReconError, code: int) -> NoReturn:
    if "--json" in sys.argv[1:]:
        print_json(error.as_dict())
    typer.secho(visible(error.what), fg=typer.colors.RED, err=True)
    for part in (error.why, error.todo):
        if part:
            typer.echo(visible(part), err=True)
    sys.exit(code)
