"""HousecallPro's list of jobs, as far as recon reads it: a token, pages, a range of scheduled starts."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from recon.stand_ins.faults import Faults
from recon.stand_ins.rate import Rate

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

TOKEN = "housecallpro-stand-in"  # no secret: it opens nothing but this
MOST_PER_PAGE = 200

Job = dict[str, Any]


@dataclass
class HousecallPro:
    """An account with these jobs, in the order of their creation.

    Args:
        jobs: as the API gives them; a test may change the list at any time.
        token: what a request must show.
        rate: how many requests it answers in a while; None: any number.
        before_page: called with the page's number before it is made, so that the list can change in the middle.
    """

    jobs: list[Job]
    token: str = TOKEN
    rate: Rate | None = None
    before_page: Callable[[int], None] | None = None
    faults: Faults = field(default_factory=Faults)
    asked: list[dict[str, str]] = field(default_factory=list[dict[str, str]])  # the queries that were answered

    @property
    def app(self) -> FastAPI:
        """The account as an application."""
        from fastapi import FastAPI

        app = FastAPI(openapi_url=None)

        async def answer(request: Request) -> Response:
            return self._answer(request)

        app.add_route("/jobs", answer, methods=["GET"])
        self.faults.on(app)
        return app

    def _answer(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Token {self.token}":
            return _said(401, {"error": "Unauthorized"})
        refusal = self.rate.headers_of_refusal() if self.rate else None
        if refusal is not None:
            return _said(429, {"error": "Too many requests"}, refusal)
        query = dict(request.query_params)
        try:
            page, size = int(query.get("page", "1")), int(query.get("page_size", "10"))
            first, last = (_moment(query.get(f"scheduled_start_{end}")) for end in ("min", "max"))
        except ValueError:
            return _said(422, {"error": "a parameter cannot be read"})
        if page < 1 or not 1 <= size <= MOST_PER_PAGE or query.get("sort_by", "created_at") != "created_at":
            return _said(422, {"error": "a parameter is out of its range"})
        if self.before_page is not None:
            self.before_page(page)
        self.asked.append(query)
        found = [job for job in self.jobs if _starts(job, first, last)]
        if query.get("sort_direction", "desc") == "desc":
            found.reverse()
        shown = found[(page - 1) * size : page * size]
        return _said(
            200,
            {
                "page": page,
                "page_size": size,
                "total_pages": -(-len(found) // size),
                "total_items": len(found),
                "jobs": shown,
            },
        )


def _starts(job: Job, first: datetime | None, last: datetime | None) -> bool:
    if first is None and last is None:
        return True
    written = (job.get("schedule") or {}).get("scheduled_start")
    if written is None:
        return False
    start = datetime.fromisoformat(written)
    if start.tzinfo is None:  # the real one has none such; a test may
        return True
    return (first is None or start >= first) and (last is None or start <= last)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _said(status: int, document: Any, headers: dict[str, str] | None = None) -> Response:
    from fastapi import Response

    return Response(json.dumps(document), status, headers, media_type="application/json")
