"""Requests that another system signs: HMAC-SHA256 over `timestamp.body`, in hex, with a secret that both sides know."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

PATIENCE = timedelta(minutes=5)  # a request that was caught on its way is worth nothing after this
_MILLISECONDS = 10**11  # a timestamp from here on counts milliseconds: in seconds it would be the year 5138


def refused(
    headers: Mapping[str, str], body: bytes, secret: str, now: datetime, *, timestamp: str, signature: str
) -> str:
    """Why a request is not from who knows the secret, in a few words; empty: it is.

    Args:
        headers: of the request, names in small letters.
        body: byte for byte as it came.
        secret: that both sides know.
        now: with a zone.
        timestamp, signature: the names of the two headers, as the sender writes them.
    """
    sent, given = headers.get(timestamp.lower(), ""), headers.get(signature.lower(), "")
    if not sent or not given:
        return f"The header {timestamp} or {signature} is missing."
    if not hmac.compare_digest(signed(sent, body, secret).encode(), given.strip().lower().encode()):
        return "The signature does not hold."
    at = _sent_at(sent)
    if at is None:
        return f"{timestamp} is no time."
    return "" if abs(now - at) <= PATIENCE else "The request is more than 5 minutes older or newer than now."


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
