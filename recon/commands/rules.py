"""Commands that look at the rules themselves: how precise they are, and what other tolerances would give."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer

from recon.commands.shared import DONE, AsJson, Folder, Name, Url, find_workspace, open_database, show
from recon.errors import UsageError
from recon.progress import bar, spinner
from recon.reports.whole import written

PassName = Annotated[str | None, typer.Option("--pass", help="Only this pass.")]


def backtest(
    name: Name,
    truth: Annotated[
        Path | None, typer.Option(help="A CSV of right pairs: target_key,source_key. Default: the links that exist.")
    ] = None,
    wrong: Annotated[Path | None, typer.Option(help="Write every wrong pair to this CSV file.")] = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """How precise the rules are: hide the links that exist, match, and compare. Writes nothing to your tables."""
    from recon.matching import backtest as testing

    place = find_workspace(workspace)
    spec = place.spec(name)
    opened = open_database(place, database)
    testing.two_files(truth, wrong)
    with ExitStack() as stack:
        file = None
        if wrong:
            half = stack.enter_context(written(wrong, "--wrong"))
            file = stack.enter_context(half.open("w", encoding="utf-8", newline=""))
        stack.enter_context(spinner(f"Testing the rules of {name}"))
        result = testing.backtest(opened, spec, place.actor, truth, file)
    if not show(result.as_dict(), as_json):
        from recon import screens_why

        screens_why.backtested(result, str(wrong) if wrong else None)
    raise typer.Exit(DONE)


def what_if(
    name: Name,
    only: PassName = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """What wider and narrower windows would give: every record decided again for each of ten tolerances."""
    from recon.matching import what_if as asking

    place = find_workspace(workspace)
    spec = place.spec(name)
    opened = open_database(place, database)
    with bar("Trying tolerances", "tolerances") as progress:
        result = asking.what_if(opened, spec, only, progress)
    if not show(result.as_dict(), as_json):
        from recon import screens_why

        screens_why.what_if(result, only)


def try_pass(
    name: Name,
    rule: Annotated[str, typer.Option("--pass", help="The pass to try.")],
    target: Annotated[str, typer.Option(help="The target's record as a JSON object.")],
    source: Annotated[str, typer.Option(help="The source's record as a JSON object.")],
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Try one pass on two records that are in no table; values take the types of the spec's columns."""
    from recon.matching import attempt as trying

    place = find_workspace(workspace)
    spec = place.spec(name)
    records = _record(target, "--target"), _record(source, "--source")
    with open_database(place, database).session(read_only=True) as session:
        result = trying.attempt_typed(session, spec, rule, *records)
    if not show(result.as_dict(), as_json):
        from recon import screens_why

        screens_why.attempted(rule, result)


def _record(text: str, option: str) -> dict[str, Any]:
    read: dict[str, Any] | None
    try:
        # Decimals stay the digits that were written.
        read = json.loads(text, parse_float=str, parse_constant=str)
        json.dumps(read, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict) or any(
        isinstance(value, (dict, list)) or "\x00" in str(value) for value in read.values()
    ):
        raise UsageError(f"{option} is not a record.", todo=f"""Write it like {option} '{{"id": 7, "place": "A7"}}'.""")
    return read
