"""PINs of doors: made before a guest comes, revoked after the guest has left, by the lock system over HTTP.

The follow-ups `generate_pin` and `revoke_pin` of the spec `stays_reservations`. The lock system makes the PIN and tells the
guest; here it is never asked for, and where an answer holds one it goes no further. What is kept, in `door_credentials`,
is which credential a reservation has, and whether it is active.

Settings: RECON_LOCKS_URL and RECON_LOCKS_TOKEN.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from typing import Any

from recon.errors import VEIL, OutsideFailed, visible
from recon.outside.client import Client
from recon.outside.jobs import Job
from recon.outside.settings import credential, needed

NAME = "The lock system"
URL_SETTING, TOKEN_SETTING = "RECON_LOCKS_URL", "RECON_LOCKS_TOKEN"
PER_SECOND = 20.0  # requests
ATTEMPTS = 2  # of one request that surely was not carried out; the job itself is tried again later
TIMEOUT_SECONDS = 10.0
NOTHING = "nothing to revoke"
RIGHTS = {"door_credentials": "SELECT, INSERT, UPDATE"}  # of the login that carries the jobs out
MOST_CHARACTERS = 200  # of a credential's id

_PIN = re.compile(r"\d{4,}")  # what may be one, in the words of an error


def generate(job: Job) -> str:
    """Have a credential that is active from the job's time on; where the reservation has one, it stays that one.

    Raises:
        UsageError: a setting is missing.
        OutsideUnsure: the answer is lost; the next attempt is told of the same credential, by its occasion.
        OutsideFailed: the lock system did not do it.
    """
    if job.record is None:
        return "the reservation is gone"
    asked = {"reservation": job.key[0], "from": job.due.astimezone(UTC).isoformat()}
    # The occasion is the same at every attempt, so that what was done already is not done twice.
    answer = _asked(job, "POST", {"Idempotency-Key": job.occasion}, body=asked, expected=(200, 201), changes=True)
    identity, state = answer.get("id"), answer.get("state")
    if not isinstance(identity, str) or not 0 < len(identity) <= MOST_CHARACTERS or state != "active":
        raise OutsideFailed(
            f"{NAME} gave no active credential.",
            why=f"Its answer has {'no id' if not identity else 'the state ' + visible(str(state))[:40]}.",
            todo="Look there: it is asked again.",
        )
    with job.database.session() as session:
        session.execute(_ACTIVE, job.key[0], job.scope or job.record["organization_id"], identity, job.due, job.now)
    return f"credential active: {identity}"


def revoke(job: Job) -> str:
    """Have every credential of the reservation revoked, also those that nobody here knows: an answer may have been lost.

    It goes by the reservation's id, so that it works where the reservation is gone.

    Raises:
        UsageError: a setting is missing.
        OutsideFailed: the lock system did not do it, or its answer is lost; asked again, it does no harm.
    """
    # Without a key: what was made meanwhile, by a request that came late, is to be revoked too.
    answer = _asked(job, "DELETE", {}, query={"reservation": job.key[0]})
    revoked = answer.get("revoked")
    if not isinstance(revoked, list):
        raise OutsideFailed(f"{NAME} does not say what it revoked.", todo="Look there: it is asked again.")
    with job.database.session() as session:
        kept = session.rows(_REVOKED, job.key[0], job.now)
    if not revoked and not kept:
        return NOTHING
    return f"credential revoked: {', '.join(sorted({*map(str, revoked), *(row[0] for row in kept)}))}"


_ACTIVE = """
    INSERT INTO door_credentials AS kept
        (reservation_id, organization_id, credential_id, state, active_from, revoked_at, made_at)
    VALUES ($1::uuid, $2::uuid, $3, 'active', $4, NULL, $5)
    ON CONFLICT (reservation_id) DO UPDATE SET
        organization_id = excluded.organization_id, credential_id = excluded.credential_id, state = 'active',
        active_from = excluded.active_from, revoked_at = NULL,
        made_at = CASE kept.credential_id WHEN excluded.credential_id THEN kept.made_at ELSE excluded.made_at END
"""
_REVOKED = """
    UPDATE door_credentials SET state = 'revoked', revoked_at = $2
    WHERE reservation_id = $1::uuid AND state = 'active' RETURNING credential_id
"""


def _asked(job: Job, method: str, headers: Mapping[str, str], **request: Any) -> Mapping[str, Any]:
    """The lock system's answer; whatever it says in an error, no PIN is part of it."""
    url = needed(job.variables, URL_SETTING, "the address of the lock system")
    token = credential(job.variables, TOKEN_SETTING, "the token of the lock system")
    client = Client(
        NAME,
        url,
        headers={"Authorization": f"Bearer {token}", **headers},
        secrets=[token],
        per_second=PER_SECOND,
        setting=TOKEN_SETTING,
        timeout=TIMEOUT_SECONDS,
        attempts=ATTEMPTS,
    )
    try:
        body = client.ask(method, "/credentials", **request).body
    except OutsideFailed as error:
        raise type(error)(error.what, why=_PIN.sub(VEIL, error.why), todo=error.todo) from None
    finally:
        client.close()
    if not isinstance(body, dict):
        raise OutsideFailed(f"{NAME} gave no document.", todo="Look there: it is asked again.")
    return body
