"""What our table of reservations must hold after each tick, concluded from what happened and from the rules alone.

Nothing of recon is imported here, nor asked: plain values in, plain values out. The rules are those of SYN and RES, made
sharp where they leave room:

- A change is seen at the first tick whose question "what changed?" was answered, and written at that tick, unless the
  list of that tick left the record out: then nobody knows, and the next tick decides.
- A record is suspected where the list of a tick lacks it, or where it never came from there. It is cancelled at the first
  tick at which it was looked up twice and answered "not found" twice. An answer that is an error is none.
- An organization that does not answer keeps every row as it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

LIVE = ("pending", "confirmed", "checked_in")
PROPAGATED = "RECONCILIATION: Cancelled in source system"
ORPHAN = "RECONCILIATION: Reservation not found in source (orphan)"
BY_HAND = "the guest called"
OVERLAP = timedelta(minutes=10)  # what changed so shortly before the newest change that was told is told again
SHARE, ROWS = 20, 10  # of an organization's live reservations one in so many may be orphans, or so many
BEFORE, AFTER = timedelta(hours=2), timedelta(hours=24)  # from when to when a guest's PIN opens the door

Key = tuple[str, str]  # platform and code; of a direct reservation its own id stands for the code


@dataclass(frozen=True)
class Booking:
    """A reservation as its organization has it at the source; None: it cannot be read.

    Args:
        changed: when it was changed last, with a zone.
    """

    code: str
    platform: str
    listing: str
    check_in: datetime | None
    check_out: datetime | None
    status: str | None
    guest: str | None
    changed: datetime
    readable: bool = True

    @property
    def key(self) -> Key:
        return self.platform, self.code


@dataclass
class Weather:
    """What goes wrong with one organization's reservations in one tick, as the source alone knows it.

    Args:
        down: how every question is answered; "": as it should be.
        listed: how the list by arrival is answered: whole, failed, empty or lossy.
        lost: what a lossy list leaves out.
        denied: reservations that are answered by an error when they are looked up.
        mistaken: reservations that are answered 404 once although they are there.
        leaves: a reservation goes while the list is read, after its page.
        comes: a reservation is made while the changes are read.
    """

    down: str = ""
    listed: str = "whole"
    lost: frozenset[str] = frozenset()
    denied: frozenset[str] = frozenset()
    mistaken: frozenset[str] = frozenset()
    leaves: bool = False
    comes: bool = False


@dataclass(frozen=True)
class Deed:
    """What a person did to our own tables.

    Args:
        what: booked, deleted, status, renamed or mapped.
        organization: whose.
        key: which reservation; of a property that was mapped its listing stands for the code.
        fields: what was set.
    """

    what: str
    organization: str
    key: Key
    fields: Mapping[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Row:
    """A reservation here."""

    property_id: int | None
    check_in: datetime
    check_out: datetime
    status: str
    guest: str | None
    cancelled: bool = False  # whether it has a time of cancellation
    reason: str | None = None

    @property
    def live(self) -> bool:
        return self.status in LIVE


@dataclass
class _Known:
    """What the source told last of a reservation, and whether its list lacked it since."""

    booking: Booking
    absent: bool = False


@dataclass
class Organization:
    """What is known of one organization, and what its rows must be. No other organization is ever looked at."""

    rows: dict[Key, Row] = field(default_factory=dict[Key, Row])
    known: dict[Key, _Known] = field(default_factory=dict[Key, _Known])
    mapped: dict[str, int] = field(default_factory=dict[str, int])
    read_until: datetime | None = None
    held_back: int = 0  # orphans of the last tick that a person must look at
    orphans: int = 0  # that the last tick cancelled
    found: set[Key] = field(default_factory=set[Key])  # that the last tick looked up: known at its end, if not before
    _shown: dict[Key, _Known] = field(default_factory=dict[Key, _Known])  # what is there as far as is known

    def deed(self, deed: Deed) -> None:
        """A person did this here."""
        if deed.what == "mapped":
            self.mapped[deed.key[1]] = deed.fields["property_id"]
        elif deed.what == "booked":
            self.rows[deed.key] = Row(**deed.fields)
        elif deed.what == "deleted":
            del self.rows[deed.key]
        else:
            row = replace(self.rows[deed.key], **deed.fields)
            if deed.what == "status":
                cancelled = row.status == "cancelled"
                row = replace(row, cancelled=cancelled, reason=BY_HAND if cancelled else None)
            self.rows[deed.key] = row

    def tick(self, weather: Weather, source: Mapping[str, Booking], late: Collection[str] = ()) -> None:
        """What a tick makes of it.

        Args:
            weather: what went wrong.
            source: all that is there, by code, when the changes were read.
            late: of these, what went when the list had told it.
        """
        self.orphans = self.held_back = 0
        self.found = set()
        if weather.down:
            return
        self._changes(source.values())
        self._list(weather, source)
        cancelled = self._orphans(weather, {code: one for code, one in source.items() if code not in late})
        self._write_all()
        for key in cancelled:
            self.rows[key] = replace(self.rows[key], status="cancelled", cancelled=True, reason=ORPHAN)

    def told(self, codes: Collection[str], source: Mapping[str, Booking]) -> None:
        """Events came about these reservations: the source was asked for each, and had it, or it did not.

        Only what it had is written, with whatever else of the organization waited; what it did not have is suspected.
        """
        there = [source[code] for code in codes if code in source]
        for one in there:
            self.known[one.key] = _Known(one)
        if there:
            self._shown = {key: known for key, known in self.known.items() if not known.absent}
            self._write_all()
        for key, known in self.known.items():
            if key[1] in codes and key[1] not in source:
                known.absent = True

    @property
    def issues(self) -> set[Key]:
        """What cannot be taken over as it is known now: also where a listing was filled in since it was told."""
        return {key for key, known in self.known.items() if not known.absent and not self.valid(known.booking)}

    def valid(self, one: Booking) -> bool:
        """Whether a reservation can be taken over."""
        if not one.readable or one.check_in is None or one.check_out is None or one.status is None:
            return False
        return one.listing in self.mapped and one.check_in < one.check_out

    # -- what the source told ----------------------------------------------------------------------------------

    def _changes(self, source: Iterable[Booking]) -> None:
        """By the source's clock: it is asked from its newest change on that is known, and what it tells is there."""
        told = [one for one in source if self.read_until is None or one.changed >= self.read_until - OVERLAP]
        for one in told:
            self.known[one.key] = _Known(one)
        if told:
            self.read_until = max(one.changed for one in told)

    def _list(self, weather: Weather, source: Mapping[str, Booking]) -> None:
        days = [row.check_in.date() for key, row in self.rows.items() if key[0] != "direct" and row.live]
        if not days or weather.listed in ("failed", "empty"):
            return
        told = {one.key for one in source.values() if one.code not in weather.lost and _within(one, days)}
        asked = {key for key, known in self.known.items() if not known.absent and _within(known.booking, days)}
        if not told and asked:
            return  # a list that is empty all of a sudden says nothing
        for key in told & self.known.keys():
            self.known[key].absent = False
        for key in asked - told:
            self.known[key].absent = True

    # -- what comes of it --------------------------------------------------------------------------------------

    def _orphans(self, weather: Weather, source: Mapping[str, Booking]) -> list[Key]:
        """Those that are to be cancelled; what is found when it is looked up is known again from the next tick on."""
        live = {key for key, row in self.rows.items() if key[0] != "direct" and row.live}
        self._shown = {key: known for key, known in self.known.items() if not known.absent}
        gone: list[Key] = []
        for key in sorted(live - self._shown.keys()):
            code = key[1]
            if code in weather.denied:
                continue  # an error is no answer
            if code in source:  # also one that is called absent at the first look: the second one finds it
                self.known[source[code].key] = _Known(source[code])
                self.found.add(source[code].key)
            else:
                gone.append(key)
        too_many = len(gone) > max(len(live) // SHARE, ROWS) or (len(live) > 1 and len(gone) == len(live))
        self.held_back = len(gone) if too_many else 0
        self.orphans = len(gone) - self.held_back
        return [] if too_many else gone

    def _write_all(self) -> None:
        for key, known in self._shown.items():
            if self.valid(known.booking):
                self._write(key, known.booking)

    def _write(self, key: Key, one: Booking) -> None:
        assert one.check_in is not None
        assert one.check_out is not None
        assert one.status is not None
        was = self.rows.get(key)
        cancelled = one.status == "cancelled"
        row = Row(
            self.mapped[one.listing], one.check_in, one.check_out, one.status,
            one.guest if one.guest is not None or was is None else was.guest,
            cancelled, PROPAGATED if cancelled else None,
        )  # fmt: skip
        if was is not None and (was.status == "cancelled") == cancelled:
            row = replace(row, cancelled=was.cancelled, reason=was.reason)
        if was is not None and was.status in ("checked_in", "checked_out") and one.status in ("pending", "confirmed"):
            row = replace(row, status=was.status)  # the guest came: a mere booking does not take that back
        self.rows[key] = row


def _within(one: Booking, days: list[date]) -> bool:
    """Whether the list of these days has it: what has no day that can be read is in each."""
    return one.check_in is None or min(days) <= one.check_in.date() <= max(days)


# -- doors -----------------------------------------------------------------------------------------------------


def must_open(row: Row, now: datetime) -> bool:
    """Whether the guest must have a PIN by now."""
    return row.live and row.check_in - BEFORE <= now < row.check_out + AFTER


def may_open(row: Row | None, now: datetime) -> bool:
    """Whether a PIN may be active; None: there is no such reservation."""
    return row is not None and row.status != "cancelled" and now < row.check_out + AFTER
