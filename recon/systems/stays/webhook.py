"""Stays' webhook: how its requests are signed, and of which reservation an event tells.

A request is signed with the HMAC-SHA256 of `timestamp.body` in hex: the timestamp (seconds since 1970) stands in the
header X-Stays-Timestamp, the signature in X-Stays-Signature.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from recon.names import storable
from recon.sources import signed_requests
from recon.sources.hooks import Headers, MirrorHook, Told
from recon.systems.stays import values

ABOUT = "reservation."  # what the actions begin with that are about a reservation
ORGANIZATIONS = "RECON_STAYS_ORGANIZATIONS"


def organizations(variables: Mapping[str, str]) -> list[str]:
    """The organizations that the settings name; what is no uuid is left out, for a fetch refuses it."""
    found: list[str] = []
    for written in variables.get(ORGANIZATIONS, "").split(","):
        try:
            found.append(str(UUID(written.strip())))
        except ValueError:
            continue
    return list(dict.fromkeys(found))


def refused(headers: Headers, body: bytes, secret: str, now: datetime) -> str:
    """Why a request is not Stays', in a few words; empty: it is."""
    names = {"timestamp": "X-Stays-Timestamp", "signature": "X-Stays-Signature"}
    return signed_requests.refused(headers, body, secret, now, **names)


def kind(payload: Mapping[str, Any]) -> str | None:
    """What happened, such as reservation.modified."""
    return _short(payload.get("action"))


def event(payload: Mapping[str, Any]) -> str | None:
    """The event's own id."""
    given = payload.get("id")
    return _short(str(given) if isinstance(given, int) and not isinstance(given, bool) else given)


def _short(given: object) -> str | None:
    if not isinstance(given, str) or not 0 < len(given) <= values.LONGEST_ID:
        return None
    return given if given.isprintable() and storable(given) else None


def read(payload: Mapping[str, Any]) -> Told:
    """Of which reservation an event tells."""
    action = kind(payload)
    if action is None:
        return Told(nothing="The event does not say what happened.")
    if not action.startswith(ABOUT):
        return Told(nothing=f"{action} is about something else than a reservation.")
    about = payload.get("payload")
    code = values.identity(cast(dict[str, Any], about)) if isinstance(about, dict) else None
    if code is None:
        return Told(nothing=f"{action} does not say which reservation.")
    return Told(code)


HOOK = MirrorHook(
    origin="stays",
    reconciliation="stays_reservations",
    secret="RECON_STAYS_WEBHOOK_SECRET",
    silence="RECON_STAYS_SILENCE",
    record="reservation",
    column="external_id",
    scopes=organizations,
    refused=refused,
    kind=kind,
    event=event,
    read=read,
    issues={"missing property mapping": "property not resolved"},
)
