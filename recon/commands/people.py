"""Commands by which people have their say: decisions that no rule undoes, and who sees to what is left."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from recon.commands.shared import (
    BREAKS_REMAIN,
    DONE,
    AsJson,
    Folder,
    Name,
    Url,
    answer,
    find_workspace,
    open_database,
    say,
    show,
)
from recon.errors import UsageError
from recon.progress import spinner
from recon.reports.whole import written

SHOWN_BREAKS = 40  # a screenful; --json gives all
NOBODY = "nobody"


def decide(
    name: Name,
    target: Annotated[str | None, typer.Option(help="The target's key; a composite one as a JSON array.")] = None,
    link: Annotated[str | None, typer.Option(help="The source that it belongs to.", metavar="SOURCE")] = None,
    forbid: Annotated[str | None, typer.Option(help="A source that it never belongs to.", metavar="SOURCE")] = None,
    exclude: Annotated[bool, typer.Option("--exclude", help="Leave the record out.")] = False,
    source: Annotated[str | None, typer.Option(help="The source's key, to leave it out.")] = None,
    accept_pass: Annotated[str | None, typer.Option(help="Link all that this pass proposed.", metavar="PASS")] = None,
    file: Annotated[Path | None, typer.Option("--from", help="CSV: kind,target_key,source_key,reason.")] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Undo what was decided about these records or pass.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why; kept with the decision.")] = None,
    listing: Annotated[bool, typer.Option("--list", help="Show what stands.")] = False,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Link, forbid or leave out records; no rule undoes it."""
    from recon.matching import overrides

    pair_or_record = target is not None or source is not None or link is not None or forbid is not None or exclude
    _one_thing(listing, file is not None, undo, accept_pass is not None and not undo, pair_or_record and not undo)
    if sum((link is not None, forbid is not None, exclude)) > 1:
        raise UsageError("Decide one thing at a time.", todo="Give one of --link, --forbid and --exclude.")
    place = find_workspace(workspace)
    if listing:
        rows = overrides.listed(open_database(place, database), name)
        if not rows:  # what was decided under a name stays, whatever became of its spec
            place.spec_path(name)
        if not show({"reconciliation": name, "overrides": rows}, as_json):
            from recon import screens_people

            screens_people.overrides(name, rows)
        return
    spec = place.spec(name)
    opened = open_database(place, database)
    kind = "link" if link is not None else "forbid" if forbid is not None else "exclude" if exclude else None
    partner = link if link is not None else forbid
    if partner is not None and source is not None:
        raise UsageError(
            "A pair has one source.", todo="Give --target K with --link S or --forbid S, without --source."
        )
    partner = partner if partner is not None else source
    if undo:
        about = {"target": target, "source": partner, "pass_name": accept_pass, "kind": kind}
        count = overrides.undo(opened, spec, actor=place.actor, reason=reason or "", **about)
        answer({"reconciliation": name, "undone": count}, as_json, f"Undone: {count:,}. {_next(name)}")
    elif accept_pass is not None:
        count = overrides.accept_pass(opened, spec, accept_pass, place.actor, reason or "")
        said = f"Linked: {count:,} that {accept_pass} proposed." if count else f"{accept_pass} proposed nothing new."
        answer({"reconciliation": name, "made": count}, as_json, f"{said} {_next(name)}" if count else said)
    else:
        if file is not None:
            made = overrides.from_file(opened, spec, file, place.actor, reason)
        elif kind is None:
            raise UsageError("Say what is decided.", todo="Add --link S, --forbid S or --exclude.")
        else:
            about = {"target": target, "source": partner}
            made = [overrides.decide(opened, spec, actor=place.actor, kind=kind, reason=reason or "", **about)]
        if not show({"reconciliation": name, "made": len(made), "overrides": made}, as_json):
            from recon import screens_people

            screens_people.decided(made)
            say(_next(name))


def _one_thing(*asked: bool) -> None:
    if sum(asked) != 1:
        raise UsageError(
            "Say one thing that is decided." if not any(asked) else "These options do not go together.",
            todo="Give --target K with --link S, --forbid S or --exclude; --source S --exclude; --accept-pass P; --from FILE;"
            " --list; or --undo with a record or a pass.",
        )


def _next(name: str) -> str:
    return f"Next: `recon match {name}` takes account of it."


def breaks(
    name: Name,
    assign: Annotated[str | None, typer.Option(help="Who sees to them; `nobody` takes it back.", metavar="WHO")] = None,
    keys: Annotated[list[str] | None, typer.Option("--key", help="Only of this record; may be repeated.")] = None,
    state: Annotated[
        str | None, typer.Option(help="open, assigned, resolved or all; default: open and assigned.")
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="What happened to the breaks of --key.")] = False,
    excel: Annotated[Path | None, typer.Option(help="Write them to this Excel file, with a summary.")] = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """What is not reconciled, since when, and who sees to it."""
    from recon.matching import breaks as open_breaks

    open_breaks.known_state(state)
    if history and not keys:
        raise UsageError("Whose history?", todo="Add --key K.")
    if assign is not None and (history or state is not None):
        raise UsageError(
            "--assign takes all that is open, or the records of --key.", todo="Leave --state and --history out."
        )
    if excel is not None and (assign is not None or history or keys):
        raise UsageError("--excel writes a list of breaks.", todo="Give it alone, or with --state.")
    place = find_workspace(workspace)
    opened = open_database(place, database)
    if assign is not None:
        who = assign.strip()
        if not who:
            raise UsageError("--assign names no one.", todo=f"Give a name, or {NOBODY} to take it back.")
        count = open_breaks.assign(opened, name, "" if who == NOBODY else who, place.actor, keys)
        if not count:
            place.spec_path(name)
        told = {"reconciliation": name, "assigned": count, "to": None if who == NOBODY else who}
        answer(told, as_json, f"{count:,} breaks of {name} changed hands: {who} has them now.")
        return
    if history:
        events = [event for key in keys or () for event in open_breaks.history(opened, name, key)]
        if not show({"reconciliation": name, "history": events}, as_json):
            from recon import screens_people

            screens_people.history(events)
        return
    if excel is not None:
        from recon.reports import workbook

        spec = place.spec(name)
        with written(excel, "--excel") as half, spinner(f"Writing the breaks of {name}"):
            count = workbook.write(opened, spec, half, state=state, workspace=place)
        told = {"reconciliation": name, "breaks": count, "excel": str(excel)}
        answer(told, as_json, f"{count:,} breaks of {name} are in {excel}.")
        with opened.session(read_only=True) as session:
            remain = sum(open_breaks.ages(session, name).values())
        raise typer.Exit(BREAKS_REMAIN if remain else DONE)
    found = open_breaks.listed(opened, name, state, None if as_json else SHOWN_BREAKS, keys or ())
    with opened.session(read_only=True) as session:
        ageing = open_breaks.ages(session, name)
        total = open_breaks.count(session, name, state, keys or ())
    del ageing[open_breaks.AGES[0]]  # what is new is known to the run only
    remain = sum(ageing.values())
    if not found and not remain:  # what was found under a name stays, whatever became of its spec
        place.spec_path(name)
    document: dict[str, Any] = {"reconciliation": name, "open": remain, "ageing": ageing, "breaks": found}
    if not show(document, as_json):
        from recon import screens_people

        screens_people.breaks(name, found, ageing, total)
    raise typer.Exit(BREAKS_REMAIN if remain else DONE)
