"""Jobs from HousecallPro: fetched page by page for a range of days, and shown to be all of them.

`GET /jobs` with `Authorization: Token …` answers {jobs, page, page_size, total_pages, total_items}; `scheduled_start_min`
and `scheduled_start_max` include their own moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any, cast

from recon.errors import OutsideFailed, visible
from recon.outside.client import Client, OverHttp
from recon.outside.interface import Variables
from recon.outside.settings import credential

NAME = "HousecallPro"
ADDRESS = "https://api.housecallpro.com"
PER_SECOND = 5.0  # nothing is promised; beyond this its 429 is obeyed
PAGE_SIZE = 100
READINGS = 2  # of a list that changes while it is paged

COLUMNS = {
    "id": "text",
    "customer_id": "text",
    "address_id": "text",
    "scheduled_start": "timestamptz",
    "scheduled_end": "timestamptz",
    "work_status": "text",
    "description": "text",
    "updated_at": "timestamptz",
}

Row = dict[str, Any]


def feed(variables: Variables) -> Jobs:
    """The feed `housecallpro`. Raises UsageError where a setting is missing; does not connect yet."""
    token = credential(variables, "RECON_HOUSECALLPRO_TOKEN", "the API key of a HousecallPro account")
    return Jobs(
        Client(
            NAME,
            variables.get("RECON_HOUSECALLPRO_URL", ADDRESS),
            headers={"Authorization": f"Token {token}", "Accept": "application/json"},
            secrets=[token],
            per_second=PER_SECOND,
            setting="RECON_HOUSECALLPRO_TOKEN",
        )
    )


@dataclass
class _Given:
    """What was given so far, over both readings."""

    ids: set[str] = field(default_factory=set[str])
    nameless: int = 0


class Jobs(OverHttp):
    """The jobs of an account, as a feed."""

    def __init__(self, client: Client, page_size: int = PAGE_SIZE) -> None:
        super().__init__(client)
        self._page_size = page_size

    @property
    def place(self) -> str:
        return f"{self._client.base}/jobs"

    @property
    def columns(self) -> Mapping[str, str]:
        return COLUMNS

    def pages(self, from_day: date | None, to_day: date | None) -> Iterator[Sequence[Row]]:
        """The jobs that are scheduled to start on these days (inclusive, UTC), each once; without days, all jobs.

        A list that loses a job while it is paged moves the later ones to a page that was read already, so it is read
        once more. What cannot be seen: one job that leaves the range and another that enters it between two pages of
        one reading, for the number stays the same. The next load brings what was missed; nothing is deleted for it.
        A job without an id is given with NULL in its place: it cannot be kept, and is counted by whoever loads.

        Raises:
            OutsideFailed: a page could not be had, a job cannot be read, or the list changed in both readings.
        """
        given = _Given()
        for _ in range(READINGS):
            if (yield from self._reading(_between(from_day, to_day), given)):
                return
        raise OutsideFailed(
            f"The list of jobs changes faster than {NAME} gives it.",
            why=f"At {self.place}: jobs left the list between its pages, {READINGS} times over, so some may be missing.",
            todo="Load again, or fewer days at once (--from, --to).",
        )

    def _reading(self, between: Mapping[str, str], given: _Given) -> Iterator[Any]:
        """Read every page once and give the jobs that were not given yet; returns whether these are all there are."""
        seen: set[str] = set()
        nameless, most, page = 0, 0, 1
        while True:
            # By creation, which is the default and not to be named (sort_by was seen to be answered 400), and oldest
            # first, so that a new job comes last and moves no other.
            query = {"page": page, "page_size": self._page_size, "sort_direction": "asc"}
            jobs, pages, total = self._parts(self._client.ask("GET", "/jobs", query={**query, **between}).body)
            rows: list[Row] = []
            for job in jobs:
                made = row(job)
                if made["id"] is None:
                    nameless += 1
                    new = nameless > given.nameless
                else:
                    new = made["id"] not in given.ids
                    seen.add(made["id"])
                    given.ids.add(made["id"])
                if new:
                    rows.append(made)
            given.nameless = max(given.nameless, nameless)
            if rows:
                yield rows
            if total < most:
                return False
            most = total
            if page >= pages or not jobs:
                return len(seen) + nameless == total
            page += 1

    def _parts(self, body: Any) -> tuple[list[Any], int, int]:
        """Jobs, number of pages, and number of jobs of an answer."""
        document: dict[str, Any] = cast(dict[str, Any], body) if isinstance(body, dict) else {}
        jobs, pages, total = (document.get(name) for name in ("jobs", "total_pages", "total_items"))
        if not isinstance(jobs, list) or not isinstance(pages, int) or not isinstance(total, int):
            raise OutsideFailed(
                f"{NAME} answered something that is no list of jobs.",
                why=f"At {self.place}: jobs, total_pages and total_items are looked for in every answer.",
                todo="Check RECON_HOUSECALLPRO_URL; where it is right, their API has changed.",
            )
        return cast(list[Any], jobs), pages, total


def row(job: Any) -> Row:
    """A job as the API or a webhook gives it, as a row of `hcp_jobs`; what it does not say is NULL.

    Raises:
        OutsideFailed: it is no job, or a time of it has no zone or cannot be read.
    """
    document = _object(job, "the list", "job")
    name = _text(document, "id", "a job") or None  # an empty id is none
    said = f"job {visible(name)}" if name else "a job without id"
    schedule = _object(document.get("schedule"), said, "schedule")
    return {
        "id": name,
        "customer_id": _text(_object(document.get("customer"), said, "customer"), "id", said),
        "address_id": _text(_object(document.get("address"), said, "address"), "id", said),
        "scheduled_start": _time(schedule, "scheduled_start", said),
        "scheduled_end": _time(schedule, "scheduled_end", said),
        "work_status": _text(document, "work_status", said),
        "description": _text(document, "description", said),
        "updated_at": _time(document, "updated_at", said),
    }


def _object(value: Any, said: str, name: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _unreadable(said, name, "is no object")
    return cast(dict[str, Any], value)


def _text(document: Mapping[str, Any], name: str, said: str) -> str | None:
    value = document.get(name)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise _unreadable(said, name, "is no text")


def _time(document: Mapping[str, Any], name: str, said: str) -> datetime | None:
    text = document.get(name)
    if text is None or text == "":
        return None
    try:
        when = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise _unreadable(said, name, "is no time in ISO 8601") from None
    if when.tzinfo is None:
        raise _unreadable(said, name, "has no time zone, so nobody knows which moment it is")
    try:
        return when.astimezone(UTC)
    except OverflowError:  # in the first or the last hours of the calendar, by its zone
        raise _unreadable(said, name, "is beyond the calendar") from None


def _unreadable(said: str, name: str, why: str) -> OutsideFailed:
    return OutsideFailed(
        f"{NAME} gave {said}, which cannot be read.",
        why=f"Its {name} {why}.",
        todo="Look at this job there; nothing was loaded.",
    )


def _between(from_day: date | None, to_day: date | None) -> dict[str, str]:
    """The first and the last moment of the days, in UTC.

    >>> _between(date(2025, 6, 1), date(2025, 6, 30))
    {'scheduled_start_min': '2025-06-01T00:00:00Z', 'scheduled_start_max': '2025-06-30T23:59:59.999Z'}
    """
    bounds = {
        "scheduled_start_min": f"{from_day.isoformat()}T00:00:00Z" if from_day else "",
        "scheduled_start_max": f"{to_day.isoformat()}T23:59:59.999Z" if to_day else "",
    }
    return {name: moment for name, moment in bounds.items() if moment}
