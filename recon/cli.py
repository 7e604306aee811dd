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
    save,
    service,
    standing,
    sync,
)
from recon.commands.shared import DONE, print_json
from recon.errors import (
    Interrupted,
    MissingExtra,
    OutOfMemory,
    OutputClosed,
    ReconError,
    Unforeseen,
    UsageError,
    of_place,
    visible,
)
from recon.extras import PACKAGE, missing
from recon.version import __version__

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
app.command()(save.save)
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
        code = app(prog_name="recon", standalone_mode=False) or DONE
        if code == Interrupted.exit_code:  # so Typer tells that Ctrl-C ended the command
            raise Interrupted
        sys.stdout.flush()  # what nobody reads any more is noticed here, and not when the interpreter ends
        sys.exit(code)
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # click ends at once where nobody reads any more
            _fail(OutputClosed())
        raise
    except (Exception, KeyboardInterrupt) as error:
        ours = _ours(error)
        if os.environ.get("RECON_DEBUG") and isinstance(ours, Unforeseen):
            raise
        _fail(ours)


def _ours(error: BaseException) -> ReconError:
    """Whatever ended a command, as an error of the list."""
    match error:
        case ReconError():
            return error
        case _Misused():
            return _misuse(error)
        case KeyboardInterrupt() | typer.Abort():
            return Interrupted()
        case BrokenPipeError():
            return OutputClosed()
        case MemoryError():
            return OutOfMemory()
        case ModuleNotFoundError(name=str() as name):
            return missing(name, "This command") or MissingExtra(
                f"This command needs {name.partition('.')[0]}, which is not installed.",
                why="It belongs to the core of recon: the installation is not whole.",
                todo=f"Install it anew: pip install --force-reinstall {PACKAGE}",
            )
        case UnicodeEncodeError(reason="surrogates not allowed"):
            return _not_utf8("A name or a setting")
        case _:
            return of_place(error) or _unforeseen(error)


def _unforeseen(error: BaseException) -> Unforeseen:
    # Its text may hold values or a URL, so only its kind and place are named.
    *_, last = traceback.extract_tb(error.__traceback__)
    return Unforeseen(
        f"Something unforeseen went wrong ({type(error).__name__}, {Path(last.filename).name} line {last.lineno})."
    )


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


def _fail(error: ReconError) -> NoReturn:
    """Tell an error, as JSON too where that was asked for, and end with its code."""
    what, *more = error.parts
    try:
        if isinstance(error, OutputClosed):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        elif "--json" in sys.argv[1:]:
            print_json(error.as_dict())
            sys.stdout.flush()
        typer.secho(visible(what), fg=typer.colors.RED, err=True)
        for part in more:
            typer.echo(visible(part), err=True)
    except OSError:  # nobody reads it, or there is no room for it: the code says that it failed
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(error.exit_code)
