"""HTTP with manners: a rate that is kept, waits that the other side asks for, retries, and errors without secrets."""

from __future__ import annotations

import email.utils
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from recon import extras
from recon.errors import VEIL, OutsideDenied, OutsideFailed, OutsideUnsure, UsageError, visible

if TYPE_CHECKING:
    import ssl

ATTEMPTS = 5  # of one request; with the pauses below some ten seconds against a system that is down
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.2, 5.0  # between two attempts, doubled each time
LONGEST_ASKED_SECONDS = 60.0  # a Retry-After beyond this fails: a person should know rather than wait
TIMEOUT_SECONDS = 15.0
SHOWN_CHARACTERS = 300  # of what the other side said
LOOPBACK = ("127.0.0.1", "localhost", "::1")

Notice = Callable[[str | None], None]  # why it waits; None: it goes on
Limit = Callable[[Any], float | str | None]  # of a 429's document: seconds to wait, or why it is of no use
logging.getLogger("stamina").addHandler(logging.NullHandler())  # what it waits for is told by the notice


@dataclass(frozen=True)
class Reply:
    """An answer: its status, and its document."""

    status: int
    body: Any


class _Again(Exception):
    """The request may be sent again; after how many seconds, where the other side said so."""

    def __init__(self, error: OutsideFailed, after: float | None = None) -> None:
        self.error = error
        self.after = after
        super().__init__(str(error))


class Client:
    """One outside system over HTTP. Not for several threads at once.

    Args:
        name: what people call the system.
        base: its address; https, unless it is this machine.
        headers: sent with every request; credentials stand here.
        secrets: texts that must never be shown, whatever the other side echoes.
        per_second: requests a second at most.
        setting: the variable that holds the credential, to be named when it is refused.
        timeout: seconds for each step of a request.
        attempts: how often one request is sent at most.
        first_pause, longest_pause: seconds between two attempts, doubled each time.
        penalty: seconds to wait after a 429 that does not say how long, where the system is known to ask for so many.
        limit: tells by the document of a 429 how long to wait where no Retry-After does, or that it is of no use.
    """

    def __init__(
        self,
        name: str,
        base: str,
        *,
        headers: Mapping[str, str],
        secrets: Sequence[str],
        per_second: float,
        setting: str,
        timeout: float = TIMEOUT_SECONDS,
        attempts: int = ATTEMPTS,
        first_pause: float = FIRST_PAUSE_SECONDS,
        longest_pause: float = LONGEST_PAUSE_SECONDS,
        penalty: float | None = None,
        limit: Limit | None = None,
    ) -> None:
        extras.need("service", f"Speaking with {name}", "httpx2", "stamina")
        import httpx2

        _safe(name, base)
        self.name = name
        self.base = base.rstrip("/")
        self.setting = setting
        self.notice: Notice = _nobody
        self._secrets = [secret for secret in secrets if secret]
        self._apart = 1 / per_second
        self._next = 0.0
        self._attempts = attempts
        self._pauses = (first_pause, longest_pause)
        self._penalty, self._limit = penalty, limit
        # Nothing is followed elsewhere: a redirect would carry the credentials with it.
        self._http = httpx2.Client(
            base_url=self.base, headers=headers, timeout=timeout, follow_redirects=False, verify=_trusted()
        )

    def close(self) -> None:
        self._http.close()

    def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        expected: Sequence[int] = (200,),
        changes: bool = False,
    ) -> Reply:
        """Send a request until it is answered.

        Args:
            method: GET, POST and so on.
            path: below the address.
            query: parameters of the address, bound and encoded.
            body: sent as JSON; None: nothing.
            expected: statuses that are answers; others are errors.
            changes: whether it changes something there: then it is sent again only where it surely was not carried out.

        Raises:
            OutsideDenied: the credential is not accepted.
            OutsideUnsure: a change may or may not have been carried out.
            OutsideFailed: anything else, after the last attempt.
        """
        import stamina

        def wait(error: Exception) -> bool | float:
            if not isinstance(error, _Again):
                return False
            if error.after is None:
                return True
            self.notice(f"{self.name} asks to wait {error.after:g} s")
            return error.after

        first, longest = self._pauses
        try:
            for attempt in stamina.retry_context(
                on=wait,
                attempts=self._attempts,
                timeout=None,
                wait_initial=first,
                wait_max=longest,
                wait_jitter=first,
            ):
                with attempt:
                    return self._once(method, path, query, body, expected, changes)
        except _Again as error:
            raise error.error from error
        finally:
            self.notice(None)
        raise AssertionError("the last attempt returns or raises")

    def _once(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None,
        body: Any,
        expected: Sequence[int],
        changes: bool,
    ) -> Reply:
        import httpx2

        self._keep_the_rate()
        try:
            answer = self._http.request(method, path, params=query, json=body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:  # nothing was sent
            raise _Again(self._failed(method, path, f"it cannot be reached ({type(error).__name__})")) from error
        except httpx2.RequestError as error:  # broken off, timed out, or of an encoding that cannot be read
            raise self._unsure(changes, method, path, f"no whole answer came ({type(error).__name__})") from error
        status = answer.status_code
        if status == 429:
            after = _asked_seconds(answer.headers.get("retry-after"))
            told = self._limit(_document(answer.content)) if self._limit else None
            failed = self._failed(method, path, "too many requests (429)")
            if isinstance(told, str):
                failed.why, failed.todo = told, "Try again when it is over: what was done is kept."
                raise failed
            after = next((seconds for seconds in (after, told, self._penalty) if seconds is not None), None)
            if after is not None and after > LONGEST_ASKED_SECONDS:
                failed.why = f"{self.name} asks to wait {after:,.0f} s, and {LONGEST_ASKED_SECONDS:g} s is the most."
                failed.todo = "Try again later: what was done is kept."
                raise failed
            raise _Again(failed, after)
        if status in (401, 403):
            raise OutsideDenied(
                f"{self.name} does not accept the credential ({status}).",
                why=f"It says: {self.said(answer.text)}",
                todo=f"Look at {self.setting} in the environment: is it set, still valid, and allowed to do this?",
            )
        if status >= 500 and status not in expected:
            raise self._unsure(changes, method, path, f"it answered {status}: {self.said(answer.text)}")
        if status not in expected:
            failed = self._failed(method, path, f"it answered {status}: {self.said(answer.text)}")
            failed.todo = "Look at what was asked for: sent again it would be answered the same."
            raise failed
        try:
            return Reply(status, json.loads(answer.content, parse_float=Decimal) if answer.content else None)
        except (ValueError, RecursionError) as error:
            raise self._unsure(changes, method, path, f"its answer ({status}) is no whole JSON document") from error

    def _unsure(self, changes: bool, method: str, path: str, why: str) -> Exception:
        """A request that may have been carried out: reading is done again, changing is left to the caller."""
        failed = self._failed(method, path, why)
        return OutsideUnsure(failed.what, why=failed.why, todo=failed.todo) if changes else _Again(failed)

    def _failed(self, method: str, path: str, why: str) -> OutsideFailed:
        return OutsideFailed(
            f"{self.name} did not answer {method} {path}.",
            why=f"At {self.base}: {why}.",
            todo="Try again later: what was done is kept, and nothing is done twice.",
        )

    def said(self, text: str) -> str:
        """The other side's words, short, printable, and without our secrets."""
        for secret in self._secrets:
            text = text.replace(secret, VEIL)
        short = " ".join(text.split())
        return visible(short[:SHOWN_CHARACTERS] + ("…" if len(short) > SHOWN_CHARACTERS else "")) or "nothing"

    def _keep_the_rate(self) -> None:
        now = time.monotonic()
        if self._next > now:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + self._apart


def _nobody(_reason: str | None) -> None:
    """A notice that nobody reads."""


def _document(content: bytes) -> Any:
    """The document of an answer that may hold none."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _asked_seconds(header: str | None) -> float | None:
    """What Retry-After asks for, in seconds from now: a number, or a date.

    >>> _asked_seconds("3"), _asked_seconds(None), _asked_seconds("soon")
    (3.0, None, None)
    """
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        when = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (when.astimezone(UTC) - datetime.now(UTC)).total_seconds())


@cache
def _trusted() -> ssl.SSLContext:
    """Whose certificates count; read once, for that takes longer than opening a client."""
    import httpx2

    return httpx2.create_ssl_context()


def _safe(name: str, base: str) -> None:
    """Raises UsageError for an address over which credentials would travel open."""
    parts = urlsplit(base)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
        if not parts.username and not parts.password:
            return
        raise UsageError(
            f"The address of {name} holds a credential.",
            why="An address is shown and kept; a credential must not be.",
            todo="Put the credential in its own variable.",
        )
    raise UsageError(
        f"The address of {name} is not https.",
        why="Credentials would travel where others can read them.",
        todo="Write https://…; http is for this machine only.",
    )


class OverHttp:
    """What feeds and targets over HTTP share: their client, who is told why it waits, and its end."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def notice(self) -> Notice:
        """Who is told why it waits."""
        return self._client.notice

    @notice.setter
    def notice(self, told: Notice) -> None:
        self._client.notice = told

    def close(self) -> None:
        """Give back what it holds open."""
        self._client.close()
