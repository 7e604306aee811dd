"""HousecallPro's webhook: how its requests are signed, and what an event says of a job.

A request is signed with the HMAC-SHA256 of `timestamp.body` in hex: the timestamp as it stands in the header Api-Timestamp
(seconds since 1970), the body byte for byte, the secret as HousecallPro shows it beside the webhook's address. The
signature stands in the header Api-Signature.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from recon.errors import LoadFailed, OutsideFailed
from recon.sources import signed_requests
from recon.sources.hooks import Arrival, Headers, Hook
from recon.systems.hcp_jobs import housecallpro

LONGEST_ID = 200  # characters; what is longer is no id
ENDED = ("job.canceled", "job.deleted")  # such a job is kept as it is told, and given to no reservation


def refused(headers: Headers, body: bytes, secret: str, now: datetime) -> str:
    """Why a request is not HousecallPro's, in a few words; empty: it is."""
    return signed_requests.refused(headers, body, secret, now, timestamp="Api-Timestamp", signature="Api-Signature")


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
    row["updated_at"] = row["updated_at"] or _happened_at(payload)
    if event in ENDED:
        ended = event.removeprefix("job.")
        if ended not in (row["work_status"] or ""):  # so that the spec's `where` knows it by its status
            row["work_status"] = ended
        return Arrival(row["id"], row, reconciles=False, nothing=f"job {row['id']} is {ended}")
    return Arrival(row["id"], row)


def _row(job: Any) -> dict[str, Any]:
    """A job as a row of the table. Raises LoadFailed."""
    try:
        row = housecallpro.row(job)
    except OutsideFailed as error:
        raise LoadFailed(error.what, why=error.why) from error
    if row["id"] is None or len(row["id"]) > LONGEST_ID:
        raise LoadFailed("The job has no id.")
    return row


def _happened_at(payload: Mapping[str, Any]) -> datetime | None:
    """When the event happened; None: it does not say, or not so that one could know the moment."""
    text = payload.get("event_occurred_at")
    try:
        at = datetime.fromisoformat(text) if isinstance(text, str) else None
        return at.astimezone(UTC) if at and at.tzinfo else None
    except (ValueError, OverflowError):
        return None


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
