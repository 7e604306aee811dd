"""The faults themselves: what happens to a client, its sessions and its server while it stands at a seam."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

from tests.chaos.books import Books
from tests.chaos.client import Client, Ended, Order, run
from tests.chaos.proxy import Proxy
from tests.chaos.servers import BROKEN


def client_killed(_books: Books, client: Client) -> None:
    client.kill()


def sessions_ended(books: Books, client: Client) -> None:
    for pid in books.backends():
        books.ask("SELECT pg_terminate_backend(%s)", pid)
    client.go()


def lock_session_ended(books: Books, client: Client) -> None:
    """Only the one that holds the lock on the table; a second worker lives on."""
    for pid in books.backends()[:1]:
        books.ask("SELECT pg_terminate_backend(%s)", pid)
    client.go()


def backend_killed(books: Books, client: Client) -> None:
    """The server loses its shared memory with it, ends every session, and recovers."""
    for pid in books.backends()[-1:]:
        with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
            os.kill(pid, signal.SIGKILL)
    client.go()


def server_stopped(books: Books, client: Client) -> None:
    books.server.crash()
    client.go()
    client.ended()
    books.server.start()


Fault = Callable[[Books, Client], None]
OF_CLIENTS: tuple[Fault, ...] = (client_killed, sessions_ended, lock_session_ended)
OF_SERVERS: tuple[Fault, ...] = (backend_killed, server_stopped)


def hit(books: Books, order: Order, fault: Fault) -> Ended | None:
    """Start a client and let the fault happen at its seam; None where it ended before it got there."""
    with Client(order) as client:
        if not client.stopped():
            return client.ended()
        with contextlib.suppress(*BROKEN):  # our own look at a server that is going down
            fault(books, client)
        client.ended()
    books.server.wait(books.name)
    return None


def answer_lost(books: Books, order: Callable[[str], Order], commit: int, *, delivered: bool) -> bool:
    """Run a client whose line is cut at a COMMIT; whether it came that far."""
    with Proxy(books.url, commit, delivered=delivered) as proxy:
        run(order(proxy.url))
        return proxy.cut
