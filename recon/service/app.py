"""The HTTP service: an application of endpoints over one database and one workspace, and how it is run and ended."""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI

from recon.database.connect import Database
from recon.errors import UsageError
from recon.service import admin_api, answers, health, plans_api, reconciliations, stays_api, stays_webhooks, webhooks
from recon.service.middleware import HEADER_BYTES, Ground
from recon.service.place import ANSWER_SECONDS, Place
from recon.systems import webhooks as hooks_by_origin
from recon.version import __version__
from recon.workspace import Workspace

# Every group of endpoints is a router in a module of its own, and stands here.
ROUTERS = (
    health.router, reconciliations.router, plans_api.router, stays_api.router, admin_api.router, stays_webhooks.router,
    webhooks.router,
)  # fmt: skip
GRACE_SECONDS = 30  # for requests that are being answered when the service is told to end
IDLE_SECONDS = 5  # after which a connection that asks nothing more is closed
AT_ONCE = 200  # connections; who comes on top of them is told to come again (503)

ABOUT = """\
Two sets of records are matched by rules; what does not match is a *break*; what should be written is a *plan*, which somebody
other than its author approves before it is applied. This service shows runs, decisions, breaks and plans, takes yes and no to
plans, and takes the events that outside systems send.

Every request but these events and the signs of life carries a bearer token. Times are in UTC. Errors have one form (`Problem`):
what happened, why, and what to do next."""


def application(workspace: Workspace, database: Database, answer_seconds: float = ANSWER_SECONDS) -> FastAPI:
    """The endpoints, ready to be served. Nothing is connected before a request needs it.

    Args:
        workspace: whose specs, policy and settings count.
        database: where the records are.
        answer_seconds: how long the sender of an event waits for what came of it.
    """
    place = Place(database, workspace, hooks_by_origin(), answer_seconds)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        place.take_up()  # what an earlier service left behind
        yield
        await place.finished()

    # Without its pages of documentation, which load from outside hosts.
    app = FastAPI(
        title="recon", version=__version__, description=ABOUT, lifespan=lifespan,
        docs_url=None, redoc_url=None, openapi_url="/openapi.json",
        redirect_slashes=False,  # to an address by the name that the sender chose, and senders do not follow
    )  # fmt: skip
    app.state.place = place
    answers.attach(app)
    app.add_middleware(Ground)
    for router in ROUTERS:
        app.include_router(router)
    return app


def serve(app: FastAPI, host: str, port: int, tell: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; requests and events that are being worked off come to their end first.

    Args:
        app: the application.
        host: whose requests are taken; 127.0.0.1: only this machine's.
        port: where; 0: any that is free.
        tell: called with the address, once requests are taken.

    Raises:
        UsageError: nobody can listen there.
    """
    listening = _listening(host, port)
    named = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        app, log_level="critical", log_config=None, access_log=False, server_header=False, lifespan="on",
        timeout_graceful_shutdown=GRACE_SECONDS, timeout_keep_alive=IDLE_SECONDS, limit_concurrency=AT_ONCE,
        http="h11", h11_max_incomplete_event_size=HEADER_BYTES, ws="none", proxy_headers=False,
    )  # fmt: skip
    server = uvicorn.Server(config)

    def stop(_number: int, _frame: Any) -> None:
        server.should_exit = True

    # For a signal that comes before uvicorn listens to signals; and it raises the one that ended it once more.
    former = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        tell(f"http://{named}:{listening.getsockname()[1]}")
        server.run(sockets=[listening])
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        listening.close()


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UsageError(f"{host} is no address of this machine.", why=str(error.strerror or "")) from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise UsageError(
            f"Nobody can listen at {host}, port {port}.", why=f"The system says: {error.strerror}.",
            todo="Name another --host or --port; --port 0 takes any that is free.",
        ) from error  # fmt: skip
    return listening
