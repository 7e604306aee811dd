"""How pyairtable's requests travel: through the one client with manners, so that no library retries what is unsure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from recon.outside.client import Client

if TYPE_CHECKING:
    from requests import PreparedRequest, Response, Session

_ANSWERS = (200, 404, 422)  # what Airtable says of records and fields; all else is the client's to judge
_READS = ("GET", "HEAD")
_LISTS = "/listRecords"  # a POST that reads, where an address would be too long


def session_of(client: Client) -> Session:
    """A session of requests whose every request is sent by the client, with its credentials, rate and retries."""
    import requests
    from requests.adapters import BaseAdapter

    class Answered(requests.Response):
        """An answer that was read already; numbers in it are exact."""

        document: Any = None

        def json(self, **_: Any) -> Any:
            return self.document

    class Through(BaseAdapter):
        def send(self, request: PreparedRequest, *_: Any, **__: Any) -> Response:
            assert request.method
            assert request.url
            assert request.body is None or isinstance(request.body, bytes | str)
            parts = urlsplit(request.url)
            changes = request.method not in _READS and not parts.path.endswith(_LISTS)
            reply = client.ask(
                request.method,
                parts.path.removeprefix(urlsplit(client.base).path),
                query=parse_qs(parts.query, keep_blank_values=True) or None,
                body=json.loads(request.body) if request.body else None,
                expected=_ANSWERS,
                changes=changes,
            )
            answered = Answered()
            answered.status_code, answered.document = reply.status, reply.body
            answered.request, answered.url, answered.encoding = request, request.url, "utf-8"
            # pyairtable looks whether there is a text before it asks for the document.
            answered._content = b"" if reply.body is None else b"{}"  # pyright: ignore[reportPrivateUsage]
            return answered

        def close(self) -> None:
            """The client is closed by who opened it."""

    session = requests.Session()
    session.trust_env = False  # no proxy and no .netrc: the client alone decides where a request goes
    session.mount("https://", Through())
    session.mount("http://", Through())
    return session
