"""The service as its callers see it: tokens, and a client that asks the application in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
from fastapi import FastAPI

from recon.database.connect import Database
from recon.service import app as service
from recon.workspace import Workspace

KEY = "an-example-secret-of-thirty-two-bytes-or-more"
EVERY = "*"


def settings(workspace: Workspace, **variables: str) -> Workspace:
    """The workspace with a key for tokens, and these settings beside it."""
    return Workspace(workspace.root).with_variables({"RECON_JWT_SECRET": KEY, **variables})


def token(
    name: str = "bob", roles: Sequence[str] = ("viewer",), organizations: Sequence[str] | str = EVERY,
    *, key: Any = KEY, algorithm: str = "HS256", hours: float = 1, **claims: Any,
) -> str:  # fmt: skip
    """A token; a claim of None is left out."""
    now = datetime.now(UTC)
    usual: dict[str, Any] = {
        "sub": name,
        "aud": "recon",
        "iat": now,
        "exp": now + timedelta(hours=hours),
        "roles": list(roles),
        "organizations": organizations if isinstance(organizations, str) else list(organizations),
    }
    said = {claim: value for claim, value in (usual | claims).items() if value is not None}
    return jwt.encode(said, key, algorithm=algorithm)


@dataclass(frozen=True)
class Answer:
    status: int
    text: str
    headers: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def json(self) -> Any:
        return json.loads(self.text)


@dataclass(frozen=True)
class Client:
    """Asks as one caller; `as_` makes another of it."""

    http: Any
    headers: dict[str, str]

    def as_(
        self, name: str = "bob", roles: Sequence[str] = ("viewer",), organizations: Sequence[str] | str = EVERY
    ) -> Client:
        """The same service, asked by somebody else."""
        return Client(self.http, {"Authorization": f"Bearer {token(name, roles, organizations)}"})

    def get(self, path: str, **parameters: Any) -> Answer:
        return self.ask("GET", path, **({"params": parameters} if parameters else {}))

    def post(self, path: str, document: Any = None) -> Answer:
        return self.ask("POST", path, **({} if document is None else {"json": document}))

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> Answer:
        answer = self.http.request(method, path, headers=self.headers | (headers or {}), **more)
        return Answer(answer.status_code, answer.text, dict(answer.headers))


@contextmanager
def asked(app: FastAPI, name: str = "bob", roles: Sequence[str] = ("admin",)) -> Iterator[Client]:
    """A client of the application, which runs in this process; first asked by an admin of all organisations."""
    from anyio.from_thread import start_blocking_portal
    from starlette.testclient import TestClient

    http = TestClient(app, raise_server_exceptions=True)
    with start_blocking_portal() as http.portal:  # one event loop for all requests; no lifespan, which works events off
        yield Client(http, {}).as_(name, roles)
    http.close()


def application(workspace: Workspace, database: Database, **variables: str) -> FastAPI:
    """The service over a database, with a key for tokens."""
    return service.application(settings(workspace, **variables), database, answer_seconds=60)
