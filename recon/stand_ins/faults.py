"""What a stand-in does wrong when it is told to: the next requests get these answers instead of the right one."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response


@dataclass(frozen=True)
class Fault:
    """One wrong answer.

    Args:
        status: the status it has; None: the right answer is made, and then spoiled.
        body: what it says.
        headers: such as Retry-After.
        delay: seconds before it answers, so that the other side gives up.
        cut: only half of the right answer is sent: JSON that ends in the middle.
        after: the request is carried out before it fails, so that nobody can know by the answer.
        path: only for requests whose path holds this.
    """

    status: int | None = None
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    delay: float = 0.0
    cut: bool = False
    after: bool = False
    path: str = ""


@dataclass
class Faults:
    """The faults that wait, first in first out, and the requests that came, as `METHOD path`."""

    waiting: deque[Fault] = field(default_factory=deque[Fault])
    requests: list[str] = field(default_factory=list[str])

    def add(self, *faults: Fault) -> None:
        self.waiting.extend(faults)

    def _next(self, path: str) -> Fault | None:
        for fault in self.waiting:
            if fault.path in path:
                self.waiting.remove(fault)
                return fault
        return None

    def on(self, app: FastAPI) -> None:
        """Have an application fail as told."""
        from fastapi import Response

        async def spoiled(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
            self.requests.append(f"{request.method} {request.url.path}")
            fault = self._next(request.url.path)
            if fault is None:
                return await answer(request)
            right: Any = await answer(request) if fault.after or fault.cut or fault.status is None else None
            await asyncio.sleep(fault.delay)
            if fault.status is not None:
                return Response(fault.body, fault.status, fault.headers)
            body = b"".join([piece async for piece in right.body_iterator])
            return Response(
                body[: len(body) // 2] if fault.cut else body, right.status_code, media_type=right.media_type
            )

        app.middleware("http")(spoiled)
