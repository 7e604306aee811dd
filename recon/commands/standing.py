"""The command of standing sign-offs: a reviewer signs once for the plans of unattended runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recon.commands.shared import AsJson, Folder, Name, Url, answer, find_workspace, open_database, show
from recon.errors import UsageError

if TYPE_CHECKING:
    from recon.backfill.shipped import Shipped
    from recon.database.connect import Database
    from recon.workspace import Workspace


def standing(
    name: Name,
    give: Annotated[bool, typer.Option("--give", help="Sign for the plans by today's rules.")] = False,
    rows: Annotated[int | None, typer.Option(help="How many rows a plan may change at most.", metavar="N")] = None,
    days: Annotated[int | None, typer.Option(help="For how many days.", metavar="N")] = None,
    actions: Annotated[
        list[str] | None, typer.Option("--action", help="link, update, insert or set; may be repeated.")
    ] = None,
    environment: Annotated[str | None, typer.Option(help="Where it holds; default: this environment.")] = None,
    key: Annotated[
        Path | None, typer.Option(help="Sign with this SSH key; without one, recorded by name.", metavar="FILE")
    ] = None,
    withdraw: Annotated[str | None, typer.Option(help="End this standing sign-off.", metavar="ID")] = None,
    reason: Annotated[str | None, typer.Option(help="Why it ends.")] = None,
    as_json: AsJson = False,
    workspace: Folder = None,
    database: Url = None,
) -> None:
    """Standing sign-offs of a reconciliation: list them, --give one, or --withdraw one."""
    limits = (rows, days, actions, environment, key)
    if give and withdraw is not None:
        raise UsageError("--give and --withdraw are two things.", todo="Do one after the other.")
    if not give and any(limit is not None for limit in limits):
        raise UsageError("--rows, --days, --action, --environment and --key are for --give.", todo="Add --give.")
    if give and (rows is None or days is None):
        raise UsageError("A standing sign-off has limits.", todo="Give --rows and --days.")
    from recon.backfill import standing as sign_offs

    place = find_workspace(workspace)
    opened = open_database(place, database)
    if give:
        assert rows is not None
        assert days is not None
        given = sign_offs.give(
            opened,
            place,
            name,
            place.actor,
            rows=rows,
            days=days,
            actions=actions or (),
            environment=environment,
            key=key,
        )
        how = "signed" if key else "recorded by name: a record, not a proof"
        answer(
            given.as_dict(),
            as_json,
            f"{place.actor} gave {given.id} ({how}), until {given.expires:%Y-%m-%d %H:%M} UTC."
            f"\nIt covers plans by today's rules of {name}; any change of them ends it.",
        )
    elif withdraw is not None:
        ended = sign_offs.withdraw(opened, name, withdraw, place.actor, reason or "")
        answer(ended.as_dict(), as_json, f"{withdraw} is withdrawn: {reason}")
    else:
        found = sign_offs.listed(opened, name)
        if not found:  # what was given under a name stays, whatever became of its spec
            place.spec_path(name)
        if not show({"reconciliation": name, "standing": [item.as_dict() for item in found]}, as_json):
            from recon import screens_people

            rules = place.spec(name).digest if name in place.reconciliations() else ""
            screens_people.standing(name, found, rules, _ships(opened, place, name, rules))


def _ships(database: Database, place: Workspace, name: str, rules: str) -> Shipped | None:
    """The standing sign-off that ships with recon, where it is for this environment and for today's rules."""
    from recon.backfill.standing import environment_of
    from recon.systems import shipped_standing

    found = shipped_standing(name)
    if found is None or found.rules != rules or not place.policy.sign_off.recorded_by_name:
        return None
    return found if found.environment == environment_of(place, database) else None
