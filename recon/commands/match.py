"""Commands that bring records in and decide about them."""

from __future__ import annotations

import json
import sys
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recon.commands import groups
from recon.commands.shared import (
    AsJson,
    Folder,
    Name,
    NameOrGroup,
    Url,
    after_matching,
    answer,
    day,
    find_workspace,
    open_database,
    print_json,
    say_private,
    show,
)
from recon.errors import UsageError
from recon.progress import bar, spinner

if TYPE_CHECKING:
    from recon.sources.kept import Links
    from recon.sources.landing import Loaded
    from recon.workspace import Workspace

SHOWN_DECISIONS = 40  # a screenful; `--format csv` gives all


def load(
    name: NameOrGroup,
    sample: Annotated[bool, typer.Option("--sample", help="Create and fill the sample tables.")] = False,
    from_date: Annotated[
        str | None, typer.Option("--from", help="Of an outside system: from this day, YYYY-MM-DD, inclusive, UTC.")
    ] = None,
    to_date: Annotated[str | None, typer.Option("--to", help="To this day, YYYY-MM-DD, inclusive, UTC.")] = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Bring records in: from the files and outside systems that the spec names, each side all or nothing."""
    from recon import workflow

    place = find_workspace(workspace)
    members = place.members(name)
    links: dict[str, Links] = {}

    def told(loaded: Loaded) -> None:
        if loaded.links is not None:
            links[loaded.table] = loaded.links

    days = [day(from_date, "--from"), day(to_date, "--to")]
    if sample:
        if any(days):
            raise UsageError("--sample and --from or --to are two things.", todo="Give one of them.")
        counts = workflow.load_sample(open_database(place, database), name, place)
    else:
        _something_to_load(place, members)
        first, last = [date.fromisoformat(text) if text else None for text in days]
        opened = open_database(place, database)
        with bar(f"Loading {name}", "", after=0.5) as progress:
            counts = workflow.load_records(
                opened, place, name, first, last, progress=progress, step=progress.step, told=told
            )
    lines = ["Loaded " + ", ".join(f"{count:,} {table}" for table, count in counts.items()) + "."]
    lines += [line for table, found in links.items() for line in _of_links(table, found)]
    document = {"reconciliation": name, "tables": counts}
    document |= {"links": {table: found.as_dict() for table, found in links.items()}} if links else {}
    answer(document, as_json, "\n".join(lines))


def _of_links(table: str, links: Links) -> list[str]:
    """What became of what backfills wrote into a table that was filled anew, in a line or two."""
    parts = [f"{links.kept:,} kept what a backfill wrote"] if links.kept else []
    parts += [f"{links.replaced:,} took what the file says instead"] if links.replaced else []
    parts += [f"{links.gone:,} linked before are no longer in the file"] if links.gone else []
    lines = [f"{table}: {', '.join(parts)}."] if parts else []
    for key, held in links.examples:
        known = key[0] if len(key) == 1 else json.dumps(key, default=str, ensure_ascii=False)
        was = ", ".join(f"{name} {value}" for name, value in held.items() if value is not None)
        lines.append(f"  gone: {known} ({was})")
    more = links.gone - len(links.examples)
    return [*lines, f"  … and {more:,} more."] if more else lines


def _something_to_load(place: Workspace, members: list[str]) -> None:
    """Raises UsageError, before a database is opened, where the records of all are tables; a sample may be offered."""
    from recon.sources import loading

    try:
        loading.sides([place.spec(member) for member in members])
    except UsageError as error:
        if _has_sample(place, members[0]):
            error.todo = f"`recon load {members[0]} --sample` makes and fills sample tables. {error.todo}"
        raise


def _has_sample(place: Workspace, name: str) -> bool:
    """Whether sample tables can be made: the spec is a shipped one, not the workspace's own of the same name."""
    from recon import systems

    shipped = Path(systems.__file__).parent
    return all(
        member in systems.with_sample() and place.spec_path(member).is_relative_to(shipped)
        for member in place.members(name)
    )


def match(
    name: NameOrGroup,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Decide at most this many unlinked records; of a group, of each object.")
    ] = None,
    from_date: Annotated[str | None, typer.Option("--from", help="From this day, YYYY-MM-DD, inclusive.")] = None,
    to_date: Annotated[str | None, typer.Option("--to", help="To this day, YYYY-MM-DD, inclusive.")] = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Decide every record; prints the waterfall and the reasons. Writes nothing to your tables."""
    from recon import workflow
    from recon.matching import precision
    from recon.matching.coverage import statistics
    from recon.matching.pool import Filter

    place = find_workspace(workspace)
    if not groups.is_group(place, name):
        place.spec(name)
    limited = Filter(limit, day(from_date, "--from"), day(to_date, "--to"))
    opened = open_database(place, database)

    def one(name: str) -> tuple[dict[str, Any], int]:
        spec = place.spec(name)
        with spinner(f"Matching {name}"):
            result = workflow.match(opened, place, spec, place.actor, limited)
        known = precision.latest(opened, spec)
        if not as_json:
            from recon import screens

            screens.waterfall(result, known)
        summary = known.summary() if known else None
        figures = {"statistics": statistics(result.outcomes), "coverage": result.coverage}
        return {**result.as_dict(), "precision": summary, **figures}, after_matching(result)

    raise typer.Exit(groups.conduct(place, name, as_json, one, _close))


def _close(group: str, ended: list[groups.Ended]) -> None:
    from recon import screens_groups

    screens_groups.statistics(group, [item.shown for item in ended], groups.worst(ended))


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
    place = find_workspace(workspace)
    spec = place.spec(name)
    opened = open_database(place, database)
    found = runs.load(opened, name, run)
    with opened.session(read_only=True) as session:
        bound = bind(session, spec, shows_private=place.sees_private)
        if as_json:
            fields = ("target_key", "source_key", "outcome", "pass", "confidence", "reason")
            rows = [dict(zip(fields, row, strict=True)) for row in pairs.iterate(session, bound, found.run)]
            print_json({"run": found.run, "decisions": rows})
        elif form == "csv":
            pairs.write_csv(session, bound, found.run, sys.stdout)
        else:
            from recon import screens

            counts = {**found.outcomes, **found.other_side}
            telling = [outcome for outcome in counts if outcome not in ("linked", "same")]
            rows = pairs.listed(session, bound, found.run, outcomes=telling, limit=SHOWN_DECISIONS) if telling else []
            screens.decisions(rows, counts)
            say_private(place.private_note(spec))


def explain(
    name: Name,
    key: Annotated[str, typer.Option(help="The record's key; a composite one as a JSON array.")],
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Why a record is matched or not, pass by pass, with its nearest candidates side by side."""
    from recon.matching import explain as explaining
    from recon.matching.bind import bind

    place = find_workspace(workspace)
    spec = place.spec(name)
    with open_database(place, database).session(read_only=True) as session:
        result = explaining.explain(session, bind(session, spec, shows_private=place.sees_private), key)
    if not show(result.as_dict(), as_json):
        from recon import screens_why

        screens_why.explained(result)
        say_private(place.private_note(spec))


def runs(
    name: Annotated[str | None, typer.Argument(help="Only of this reconciliation.")] = None,
    notebooks: Annotated[bool, typer.Option("--notebooks", help="Runs of notebooks: `recon run` and reports.")] = False,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """What ran, newest first."""
    from recon.matching import precision, run

    place = find_workspace(workspace)
    opened = open_database(place, database)
    if notebooks:
        from recon.reports import kept

        ran = kept.history(opened, name)
        if name and not ran:
            place.spec_path(name)
        if not show({"notebook_runs": ran}, as_json):
            from recon import screens_run

            screens_run.notebooks(ran)
        return
    found = run.history(opened, name)
    found = [{**row, "precision": known} for row, known in zip(found, precision.of_runs(opened, found), strict=True)]
    if name and not found:  # what ran under a name stays, whatever became of its spec
        place.spec_path(name)
    if not show({"runs": found}, as_json):
        from recon import screens

        screens.runs(found)
