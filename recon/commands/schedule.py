"""What `--schedule` does, of every command that has it: an entry in the workspace's schedules.yaml."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from recon.commands.shared import answer
from recon.errors import UsageError

if TYPE_CHECKING:
    from recon.service.schedules import Kind
    from recon.workspace import Workspace

Cron = Annotated[
    str | None,
    typer.Option(
        "--schedule",
        help="When the worker does it from now on, as cron writes it; `none`: no longer.",
        metavar="CRON",
    ),
]
Zone = Annotated[
    str | None, typer.Option("--zone", help="Whose clock --schedule means, such as Europe/London; default: UTC.")
]

_SAID = {"report": ("Report of", "reported"), "run": ("Run of", "run"), "sync": ("Sync of", "kept in step")}


def only(cron: str | None, zone: str | None, **others: object) -> None:
    """Refuse --zone without --schedule, and --schedule with what it does not go with."""
    if zone is not None and cron is None:
        raise UsageError("--zone goes with --schedule.", todo="Give --schedule too, or leave --zone out.")
    given = [f"--{name.replace('_', '-')}" for name, value in others.items() if value]
    if cron is not None and given:
        raise UsageError(
            f"--schedule and {given[0]} do not go together.",
            why="What a schedule does is always the whole of it.",
            todo="Ask for one after the other.",
        )


def write(place: Workspace, kind: Kind, name: str, cron: str, zone: str | None, as_json: bool) -> None:
    """Write the entry, or take it out, and say what comes of it."""
    from datetime import UTC, datetime

    from recon import extras
    from recon.service import schedules

    extras.need("service", "A schedule", "croniter", "procrastinate")
    path = place.root / schedules.FILE
    document: dict[str, str | None] = {"reconciliation": name, "file": str(path)}
    noun, verb = _SAID[kind]
    now = datetime.now(UTC)
    if cron.strip().lower() == schedules.NEVER:
        schedules.drop(place, kind, name)
        left = schedules.entry_of(place, name, kind)
        text = f"{name} is no longer {verb} on a schedule ({path})."
        if left is not None:  # its settings are there, so the worker goes on
            setting = schedules.setting_of(place.spec(name).source.api or "")
            document |= {"next": schedules.next_tick(left, now).isoformat()}
            text = (
                f"{name} is no longer in {path}. By its settings it is {verb} all the same: {schedules.spelled(left)}.\n"
                f"{setting}={schedules.NEVER} in .env ends that."
            )
        answer({**document, "schedule": left.cron if left else None}, as_json, text)
        return
    entry = schedules.put(place, kind, name, cron, zone)
    following = schedules.next_tick(entry, now)
    document |= {"schedule": entry.cron, "zone": entry.zone, "next": following.isoformat()}
    text = f"{noun} {name}: {entry.cron} ({entry.zone}), next {schedules.when(following)}. It is in {path}."
    answer(document, as_json, f"{text}\nThe worker does it: `recon worker` must be running then.")
