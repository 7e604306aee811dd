"""The command line: thin. Each command reads its options, calls one function, and shows or prints the result.

Nothing heavy is imported before a command needs it, so that `recon --help` answers at once.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from recon import __version__
from recon.commands import backfill, look, match, place
from recon.commands.shared import DONE, FAILED, print_json
from recon.errors import ReconError

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
app.command()(match.match)
app.command()(match.decisions)
app.command()(match.explain)
app.command()(match.runs)
app.command()(backfill.plan)
app.command()(backfill.plans)
app.command()(backfill.approve)
app.command()(backfill.reject)
app.command()(backfill.apply)
app.command()(backfill.verify)
app.command()(backfill.revert)
app.command()(look.report)
app.command()(look.notebook)
app.command("database")(place.embedded_database)


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
        # Its text may hold values or a URL, so only its kind and place are named.
        *_, last = traceback.extract_tb(error.__traceback__)
        unknown = ReconError(
            f"Something unforeseen went wrong ({type(error).__name__}, {Path(last.filename).name} line {last.lineno}).",
            todo="Set RECON_DEBUG=1 to see where, and report it.",
        )
        _fail(unknown, FAILED)
    sys.exit(DONE)


def _fail(error: ReconError, code: int) -> NoReturn:
    if "--json" in sys.argv[1:]:
        print_json(error.as_dict())
    typer.secho(error.what, fg=typer.colors.RED, err=True)
    for part in (error.why, error.todo):
        if part:
            typer.echo(part, err=True)
    sys.exit(code)
