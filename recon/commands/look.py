"""Commands by which one looks: the audit log, reports and notebooks."""

from __future__ import annotations

from typing import Annotated

import typer

from recon.commands.shared import (
    DONE,
    FAILED,
    AsJson,
    Folder,
    Url,
    answer,
    find_workspace,
    open_database,
    show,
)
from recon.progress import bar

PATIENCE_SECONDS = 2.0  # what takes no longer shows no progress bar


def audit(
    expect: Annotated[
        str | None,
        typer.Option(help="The hash of a head that was noted earlier: it must be in the chain.", metavar="HASH"),
    ] = None,
    plan: Annotated[str | None, typer.Option(help="Compare this plan only, and show its entries.")] = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Replay the audit log: is its chain whole, and does what stands agree with it? Ends with 1 where not."""
    from recon.backfill import replay

    place = find_workspace(workspace)
    opened = open_database(place, database)
    with bar("Replaying", "entries", after=PATIENCE_SECONDS) as progress:
        result = replay.replay(opened, expect=expect, plan=plan, progress=progress)
    if not show(result.as_dict(), as_json):
        from recon import screens_audit

        screens_audit.audited(result)
    raise typer.Exit(DONE if result.whole else FAILED)


def notebook(
    what: Annotated[str, typer.Argument(help="explore, preview, or lab.")],
    name: Annotated[
        str | None, typer.Argument(help="A reconciliation to open it on; in preview it may be a plan.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(help="Default: the first free one from 2718 on.", min=1, max=65535)
    ] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Open a notebook app or JupyterLab on this machine, for whoever has the address with its token. Ends with Ctrl-C."""
    import sys

    from recon import extras
    from recon.desk import serving

    place = find_workspace(workspace)
    served = serving.prepare(place, what, port)
    extras.need(
        "notebooks", f"`recon notebook {what}`", *serving.LIBRARIES["lab" if served.notebook is None else "app"]
    )
    environment = serving.opened_on(place, what, name)
    if database:
        environment["RECON_DATABASE_URL"] = database

    def tell(address: str) -> None:
        answer({"app": what, "address": address}, as_json, f"{what} is open at  {address}\nCtrl-C ends it.")
        sys.stdout.flush()

    serving.serve(place, served, environment, browser=not no_browser, tell=tell)
