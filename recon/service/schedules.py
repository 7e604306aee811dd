"""What is done when: the workspace's file schedules.yaml, and the times that its cron lines mean.

A person writes the file, and `recon report NAME --schedule` edits it. An edit changes the words it is about and leaves
every other character, comments too, as it stands.
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, ValidationInfo, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from recon import spec_file
from recon.errors import NotFound, SpecError, UsageError, did_you_mean
from recon.workspace import Workspace

FILE = "schedules.yaml"
EXAMPLE = 'An entry looks like: - {do: report, reconciliation: rent_payments, cron: "0 7 * * 1-5", zone: Europe/London}'

Kind = Literal["report"]  # what can be done on a schedule; `jobs.KINDS` says how

# What croniter knows beyond cron: R and H stand for times that it chooses itself, so nobody could say when.
_CHOSEN = re.compile(r"(^|[,/])[hr](\(|$|/|,)", re.IGNORECASE)
_FIELDS = 5  # minute, hour, day of month, month, day of week


class Schedule(BaseModel):
    """One entry: what is done, for which reconciliation, when."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    do: Kind
    reconciliation: str
    cron: str = Field(description="minute, hour, day of month, month, day of week")
    zone: str = Field("UTC", description="whose clock the cron line means, such as Europe/London")

    @property
    def identity(self) -> str:
        """What it is called in the database; with other times it is another schedule."""
        return f"{self.reconciliation} {self.cron} {self.zone}"

    @field_validator("reconciliation")
    @classmethod
    def _exists(cls, name: str, info: ValidationInfo) -> str:
        known = (info.context or {}).get("known", [name])
        if name not in known:
            hint = did_you_mean(name, known) or f"There are: {', '.join(known)}."
            raise ValueError(f"there is no reconciliation {name!r}. {hint}")
        return name

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, line: str) -> str:
        problem = _cron_problem(line)
        if problem:
            raise ValueError(f"{line!r} is not a cron line: {problem}.")
        return " ".join(line.split())

    @field_validator("zone")
    @classmethod
    def _is_zone(cls, name: str) -> str:
        if name not in _zones():
            raise ValueError(f"there is no time zone {name!r}. {did_you_mean(name, _zones())}".strip())
        return name


def of(workspace: Workspace) -> list[Schedule]:
    """The schedules of a workspace; none where there is no file.

    Raises:
        SpecError: with file, line, field, what is wrong and the nearest right name.
    """
    path = workspace.root / FILE
    return _validated(spec_file.text_of(path), path, workspace) if path.exists() else []


def changed_at(workspace: Workspace) -> datetime | None:
    """When the file was written last; None where there is none."""
    try:
        return datetime.fromtimestamp((workspace.root / FILE).stat().st_mtime, UTC)
    except FileNotFoundError:
        return None


# -- times -----------------------------------------------------------------------------------------------


def next_tick(schedule: Schedule, after: datetime) -> datetime:
    """The first time of a schedule after a moment, in the schedule's zone.

    Where clocks go back, what has a fixed hour comes once, in the first of both hours; where they go forward, what falls
    into the hour that is left out comes right after it.

    >>> from datetime import UTC, datetime
    >>> weekdays = Schedule(do="report", reconciliation="rent_payments", cron="0 7 * * 1-5", zone="Europe/London")
    >>> next_tick(weekdays, datetime(2026, 3, 27, 12, 0, tzinfo=UTC)).isoformat()
    '2026-03-30T07:00:00+01:00'
    """
    return _tick(schedule, after, "get_next")


def last_tick(schedule: Schedule, until: datetime) -> datetime:
    """The last time of a schedule up to a moment, in the schedule's zone."""
    return _tick(schedule, until + timedelta(microseconds=1), "get_prev")


def when(moment: datetime) -> str:
    """A moment for people, to the minute and with its zone.

    >>> when(datetime(2026, 3, 30, 7, 0, tzinfo=ZoneInfo("Europe/London")))
    'Mon 30 Mar 2026 07:00 BST'
    """
    return f"{moment:%a %d %b %Y %H:%M %Z}"


def _tick(schedule: Schedule, start: datetime, direction: Literal["get_next", "get_prev"]) -> datetime:
    from croniter import croniter

    times = croniter(schedule.cron, start.astimezone(ZoneInfo(schedule.zone)))
    hour = schedule.cron.split()[1]
    while True:
        found: datetime = getattr(times, direction)(datetime)
        first = found.replace(fold=0)
        if first.utcoffset() == found.utcoffset():  # croniter sets fold where no hour comes twice, too
            return first
        if hour.startswith("*"):
            return found


def _cron_problem(line: str) -> str | None:
    from croniter import croniter
    from croniter.croniter import CroniterError

    fields = line.split()
    if len(fields) != _FIELDS:
        return f"it has {len(fields)} fields, not {_FIELDS} (minute, hour, day of month, month, day of week)"
    if any(_CHOSEN.search(field) for field in fields):
        return "H and R are not times"
    try:
        croniter(line, datetime(2000, 1, 1, tzinfo=UTC)).get_next(datetime)
    except CroniterError as error:
        return "no day is like that" if "next date" in str(error) else str(error).rstrip(".")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return "a field cannot be read"
    return None


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


# -- the file --------------------------------------------------------------------------------------------


def put(workspace: Workspace, kind: Kind, name: str, cron: str, zone: str | None = None) -> Schedule:
    """Write a schedule into the file, in place of the one that was there for the same; returns it.

    Args:
        workspace: whose file; it is made where there is none.
        kind: what shall be done.
        name: the reconciliation.
        cron: when, as cron writes it.
        zone: whose clock; None: as it was, UTC for a new one.

    Raises:
        NotFound: there is no such reconciliation.
        UsageError: cron or zone cannot be read; the file stays as it was.
        SpecError: the file itself cannot be read.
    """
    workspace.spec_path(name)
    try:
        wanted = Schedule(do=kind, reconciliation=name, cron=cron, zone=zone or "UTC")
    except ValidationError as error:
        said = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(said[:1].upper() + said[1:], todo='Write it like --schedule "0 7 * * 1-5".') from error
    path, text, entry = _entry(workspace, kind, name)
    if entry is None:
        text += "" if not text or text.endswith("\n") else "\n"
        text += f"- {{do: {kind}, reconciliation: {name}, cron: {json.dumps(wanted.cron)}, zone: {wanted.zone}}}\n"
    else:
        fields = _fields(entry)
        edits = [(_span(fields["cron"]), json.dumps(wanted.cron))]
        if zone and "zone" in fields:
            edits.append((_span(fields["zone"]), zone))
        elif zone:
            key = next(key for key, _ in entry.value if key.value == "cron")
            between = ", " if entry.flow_style else "\n" + " " * key.start_mark.column
            end = _span(fields["cron"])[1]
            edits.append(((end, end), f"{between}zone: {zone}"))
        for (start, end), new in sorted(edits, reverse=True):
            text = text[:start] + new + text[end:]
    _write(path, text, workspace)
    return _found(of(workspace), kind, name)


def drop(workspace: Workspace, kind: Kind, name: str) -> None:
    """Take a schedule out of the file.

    Raises:
        NotFound: there is none for this.
        SpecError: the file cannot be read.
    """
    path, text, entry = _entry(workspace, kind, name)
    if entry is None:
        raise NotFound(f"There is no schedule for the {kind} of {name}.", todo=f"See {path}.")
    lines = text.splitlines(keepends=True)
    last = max(value.end_mark.line for value in _fields(entry).values())
    del lines[entry.start_mark.line : max(last, entry.end_mark.line if entry.flow_style else 0) + 1]
    _write(path, "".join(lines), workspace)


def _found(schedules: list[Schedule], kind: str, name: str) -> Schedule:
    return next(item for item in schedules if (item.do, item.reconciliation) == (kind, name))


def _validated(text: str, path: Path, workspace: Workspace) -> list[Schedule]:
    loaded = spec_file.parse(text, path)
    if loaded is None:  # nothing but comments
        return []
    if not isinstance(loaded, CommentedSeq):
        raise SpecError(f"{path}, line 1: schedules are a list.", todo=EXAMPLE)
    context = {"known": list(workspace.reconciliations())}
    try:
        found = TypeAdapter(list[Schedule]).validate_python(spec_file.plain(loaded, path), context=context)
    except ValidationError as error:
        raise spec_file.explained(error, path, loaded, Schedule, EXAMPLE) from error
    places: dict[tuple[str, str], int] = {}
    for number, item in enumerate(found):
        line = loaded.lc.item(number)[0] + 1
        other = places.setdefault((item.do, item.reconciliation), line)
        if other != line:
            raise SpecError(
                f"{path}, line {line}: the {item.do} of {item.reconciliation} has a schedule in line {other} already.",
                todo="Write one cron line for both, such as 0 7,19 * * *.",
            )
    return found


def _entry(workspace: Workspace, kind: str, name: str) -> tuple[Path, str, MappingNode | None]:
    """The file, its text, and where in it the entry stands."""
    path = workspace.root / FILE
    text = spec_file.text_of(path) if path.exists() else ""
    schedules = _validated(text, path, workspace)
    root: Any = YAML(typ="rt").compose(text) if schedules else None
    if isinstance(root, SequenceNode) and root.flow_style:
        raise SpecError(f"{path}, line 1: the list stands in brackets.", todo="Write one entry per line, after a dash.")
    for number, item in enumerate(schedules):
        if (item.do, item.reconciliation) == (kind, name):
            return path, text, root.value[number]
    return path, text, None


def _fields(entry: MappingNode) -> dict[str, ScalarNode]:
    return {key.value: value for key, value in entry.value}


def _span(node: Node) -> tuple[int, int]:
    return node.start_mark.index, node.end_mark.index


def _write(path: Path, text: str, workspace: Workspace) -> None:
    _validated(text, path, workspace)  # what is written can be read
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        half.write_text(text, encoding="utf-8")
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
