"""What is done when: the workspace's file schedules.yaml, mirrors by their settings, and the times that are meant.

A person writes the file, and `recon report NAME --schedule` edits it (so do `recon run` and `recon sync`). An edit changes
the words it is about and leaves every other character, comments too, as it stands. A mirror whose settings are there is
kept in step without an entry.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
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
from recon.errors import NotFound, ReconError, SpecError, UsageError, did_you_mean
from recon.service import cron
from recon.service.cron import words
from recon.sources.mirrored import is_mirror
from recon.workspace import Workspace

FILE = "schedules.yaml"
EXAMPLE = 'An entry looks like: - {do: report, reconciliation: rent_payments, cron: "0 7 * * 1-5", zone: Europe/London}'

EVERY = "*/30 * * * *"  # when a mirror is kept in step where nobody said otherwise
NEVER = "none"  # in the place of a cron line: not at all
AT_ONCE = datetime(2000, 1, 1, tzinfo=UTC)  # counts from then: what never ran is due

Kind = Literal["report", "run", "sync"]  # what can be done on a schedule; `jobs.KINDS` says how


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
        problem = cron.problem(line)
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


# -- mirrors -------------------------------------------------------------------------------------------


def setting_of(api: str) -> str:
    """The setting that says when a mirror of this outside system is kept in step."""
    return f"RECON_{api.upper()}_SCHEDULE"


def by_settings(
    workspace: Workspace,
    written: Iterable[Schedule],
    unread: Callable[[ReconError], None] = lambda _error: None,
    names: Iterable[str] | None = None,
) -> list[Schedule]:
    """The mirrors that are kept in step though the file does not name them: a token for their system is set (SYN-01).

    Args:
        workspace: whose settings; RECON_<API>_SCHEDULE says when, `none`: never.
        written: what the file says, which wins.
        unread: is told of each reconciliation that cannot be read: nobody knows whether it is a mirror.
        names: only of these reconciliations; None: of all.

    Raises:
        UsageError: a setting is no cron line.
    """
    named = {entry.reconciliation for entry in written if entry.do == "sync"}
    found: list[Schedule] = []
    if not any("_TOKEN" in name for name in workspace.variables):  # no need to read every spec
        return found
    for name in workspace.reconciliations() if names is None else names:
        try:
            spec = workspace.spec(name)
        except ReconError as error:
            unread(error)
            continue
        if not is_mirror(spec) or spec.source.api is None or name in named:
            continue
        setting, token = setting_of(spec.source.api), f"RECON_{spec.source.api.upper()}_TOKEN"
        line = workspace.variables.get(setting, EVERY).strip()
        has_token = any(known == token or known.startswith(f"{token}_") for known in workspace.variables)
        if not has_token or line.lower() == NEVER:
            continue
        if problem := cron.problem(line):
            raise UsageError(
                f"{setting} is {line!r}, which is not a cron line: {problem}.",
                todo=f'Write it like "{EVERY}", or `{NEVER}` where {name} shall not be kept in step by the worker.',
            )
        found.append(Schedule(do="sync", reconciliation=name, cron=" ".join(line.split()), zone="UTC"))
    return found


def in_force(
    workspace: Workspace, unread: Callable[[ReconError], None] = lambda _error: None
) -> dict[Schedule, datetime]:
    """Every schedule that counts, of the file and by settings, and since when.

    What never had a job is due for the first time that comes after that moment. An entry of the file counts from when the
    file was written; a mirror by its settings is kept in step as soon as there is a worker.

    Args:
        unread: as for `by_settings`.

    Raises:
        SpecError, UsageError: the file or a setting cannot be read.
    """
    since = changed_at(workspace)
    written = of(workspace)
    return dict.fromkeys(written, since or AT_ONCE) | dict.fromkeys(by_settings(workspace, written, unread), AT_ONCE)


def entry_of(workspace: Workspace, name: str, kind: Kind = "sync") -> Schedule | None:
    """The schedule by which something is done for a reconciliation; None: it has none. Raises as `in_force`."""
    written = of(workspace)
    every = [*written, *(by_settings(workspace, written, names=[name]) if kind == "sync" else [])]
    return next((entry for entry in every if (entry.do, entry.reconciliation) == (kind, name)), None)


def next_of(workspace: Workspace, name: str, kind: Kind = "sync", now: datetime | None = None) -> datetime | None:
    """When something is done next for a reconciliation, by its cron line, in UTC; None: it has no schedule.

    Raises: as `in_force`.
    """
    entry = entry_of(workspace, name, kind)
    return None if entry is None else next_tick(entry, now or datetime.now(UTC)).astimezone(UTC)


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


def spelled(schedule: Schedule) -> str:
    """A schedule's cron line, with what it means where few words can say it.

    >>> spelled(Schedule(do="sync", reconciliation="stays_reservations", cron="*/30 * * * *", zone="UTC"))
    '*/30 * * * * (Every 30 minutes)'
    """
    told = words(schedule.cron) + ("" if schedule.zone == "UTC" or not words(schedule.cron) else f", {schedule.zone}")
    return f"{schedule.cron} ({told})" if told else schedule.cron


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
        if item.do == "sync" and not is_mirror(workspace.spec(item.reconciliation)):
            raise SpecError(
                f"{path}, line {line}: {item.reconciliation} is no mirror, so there is nothing to keep in step.",
                todo="Write `do: run` for the whole way of any other reconciliation.",
            )
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
