"""A stretch of network between client and server that breaks just around a COMMIT."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Any

import sqlalchemy as sa

_COMMIT = b"Q\x00\x00\x00\x0bCOMMIT\x00"
_OF_A_BATCH = (b"INSERT INTO recon.batches", b"reverted_at")  # what is committed is a batch of an apply, or of a revert
CHUNK_BYTES = 1 << 16


class Proxy:
    """Passes bytes on, until the n-th COMMIT of a batch: then the line is cut, and the client never hears of it."""

    def __init__(self, url: str, commit: int, *, delivered: bool) -> None:
        """
        Args:
            url: of the server.
            commit: which one is hit, from 1 on.
            delivered: whether the server still gets it: then only the answer is lost.
        """
        self._server = sa.make_url(url)
        self._left, self._delivered = commit, delivered
        self._mutex = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.cut = False

    @property
    def url(self) -> str:
        """The same database, by way of this."""
        url = self._server.set(host="127.0.0.1", port=self._listening.getsockname()[1])
        url = url.difference_update_query(["host", "port"]).update_query_dict({"sslmode": "disable"})
        return url.render_as_string(hide_password=False)

    def __enter__(self) -> Proxy:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for end in self._open:
            _close(end)
        for thread in self._threads:
            thread.join()

    def _start(self, work: Any, *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = self._connect()
                self._open += [client, server]
                self._start(self._to_server, client, server)
                self._start(self._to_client, server, client)

    def _connect(self) -> socket.socket:
        folder = self._server.query.get("host")
        if folder is None:
            return socket.create_connection((self._server.host, self._server.port or 5432))
        local = socket.socket(socket.AF_UNIX)
        local.connect(f"{folder}/.s.PGSQL.{self._server.query.get('port', 5432)}")
        return local

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        batch = False
        with contextlib.suppress(OSError):
            while data := client.recv(CHUNK_BYTES):
                batch = batch or any(sign in data for sign in _OF_A_BATCH)
                if _COMMIT in data:
                    if batch and self._hit():
                        if self._delivered:
                            server.sendall(data)
                        break
                    batch = False
                server.sendall(data)
        _close(client)
        _close(server)

    def _hit(self) -> bool:
        with self._mutex:
            self._left -= 1
            self.cut = self.cut or self._left == 0
            return self._left == 0

    def _to_client(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(CHUNK_BYTES):
                client.sendall(data)
        _close(client)


def _close(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
