"""HousecallPro's webhook: how its requests are signed, and what an event says of a job.

A request is signed with the HMAC-SHA256 of `timestamp.body` in hex: the timestamp as it stands in the header Api-Timestamp
(seconds since 1970), the body byte for byte, the secret as HousecallPro shows it beside the webhook's address. The
signature stands in the header Api-Signature.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from recon.errors import LoadFailed
from recon.names import storable
from recon.sources.hooks import Arrival, Headers, Hook

PATIENCE = timedelta(minutes=5)  # a request that was caught on its way is worth nothing after this
LONGEST_ID = 200  # characters; what is longer is no id
ENDED = ("job.canceled", "job.deleted")  # such a job is kept as it is told, and given to no reservation
_MILLISECONDS = 10**11  # a timestamp from here on counts milliseconds: in seconds it would be the year 5138


def refused(headers: Headers, body: bytes, secret: str, now: datetime) -> str:
    """Why a request is not HousecallPro's, in a few words; empty: it is."""
    timestamp, signature = headers.get("api-timestamp", ""), headers.get("api-signature", "")
    if not timestamp or not signature:
        return "The header Api-Timestamp or Api-Signature is missing."
    if not hmac.compare_digest(signed(timestamp, body, secret).encode(), signature.strip().lower().encode()):
        return "The signature does not hold."
    sent = _sent_at(timestamp)
    if sent is None:
        return "Api-Timestamp is no time."
    return "" if abs(now - sent) <= PATIENCE else "The request is more than 5 minutes older or newer than now."


def signed(timestamp: str, body: bytes, secret: str) -> str:
    """The signature of a request, in hex.

    >>> signed("1763712000", b"{}", "not-a-secret")[:16]
    '9b8e0a603338a717'
    """
    return hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _sent_at(timestamp: str) -> datetime | None:
    try:
        if timestamp.isascii() and timestamp.isdigit():
            number = int(timestamp[:20])
            return datetime.fromtimestamp(number / 1000 if number >= _MILLISECONDS else number, UTC)
        sent = datetime.fromisoformat(timestamp)
    except (ValueError, OverflowError, OSError):
        return None
    return sent if sent.tzinfo else None


def kind(payload: Mapping[str, Any]) -> str | None:
    """What happened, such as job.scheduled."""
    said = payload.get("event")
    return said if isinstance(said, str) and 0 < len(said) <= LONGEST_ID else None


def read(payload: Mapping[str, Any]) -> Arrival:
    """What an event means.

    Raises:
        LoadFailed: its job cannot be read.
    """
    event = kind(payload)
    if event is None:
        return Arrival(nothing="The event does not say what happened.")
    if "job" not in payload:
        about = "an appointment, without the job" if event.startswith("job.") else "something else than a job"
        return Arrival(nothing=f"{event} is about {about}.")
    row = _row(payload["job"])
    row["updated_at"] = row["updated_at"] or _time(payload, "event_occurred_at")
    if event in ENDED:
        ended = event.removeprefix("job.")
        if ended not in (row["work_status"] or ""):  # so that the spec's `where` knows it by its status
            row["work_status"] = ended
        return Arrival(row["id"], row, reconciles=False, nothing=f"job {row['id']} is {ended}")
    return Arrival(row["id"], row)


def _row(job: Any) -> dict[str, Any]:
    """A job as a row of the table. Times keep their instant. Raises LoadFailed."""
    if not isinstance(job, dict):
        raise LoadFailed("The event's job is no object.")
    schedule = job.get("schedule")
    if schedule is not None and not isinstance(schedule, dict):
        raise LoadFailed("The job's schedule is no object.")
    identity = _text(job, "id", of="The job")
    if not identity:
        raise LoadFailed("The job has no id.")
    return {
        "id": identity,
        "customer_id": _id_of(job, "customer"),
        "address_id": _id_of(job, "address"),
        "scheduled_start": _time(schedule or {}, "scheduled_start"),
        "scheduled_end": _time(schedule or {}, "scheduled_end"),
        "work_status": _text(job, "work_status", of="The job", longest=None),
        "description": _text(job, "description", of="The job", longest=None),
        "updated_at": _time(job, "updated_at"),
    }


def _id_of(job: Mapping[str, Any], name: str) -> str | None:
    part = job.get(name)
    if part is None:
        return None
    if not isinstance(part, dict):
        raise LoadFailed(f"The job's {name} is no object.")
    return _text(part, "id", of=f"The job's {name}")


def _text(part: Mapping[str, Any], name: str, *, of: str, longest: int | None = LONGEST_ID) -> str | None:
    value = part.get(name)
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str) or not storable(value) or (longest is not None and len(value) > longest):
        raise LoadFailed(f"{of} has no {name} that can be read.")
    return value


def _time(part: Mapping[str, Any], name: str) -> datetime | None:
    value = part.get(name)
    if value is None or value == "":
        return None
    try:
        at = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        at = None
    if at is None or at.tzinfo is None:
        raise LoadFailed(f"{name} is no time with a zone.", todo="Write it like 2026-03-29T10:00:00Z.")
    return at


HOOK = Hook(
    origin="housecallpro",
    reconciliation="hcp_jobs",
    secret="RECON_HOUSECALLPRO_WEBHOOK_SECRET",
    record="job",
    holder="reservation",
    newer="updated_at",
    refused=refused,
    kind=kind,
    read=read,
)
