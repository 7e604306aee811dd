"""A stand-in for a workflow API: stored queries with $1 parameters, run on a real PostgreSQL with bound values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, LiteralString, cast

from recon.stand_ins.faults import Faults

if TYPE_CHECKING:
    from fastapi import Request, Response

TOKEN = "stand-in-workflows"  # what it accepts, unless it is told another
LOOKS = ("pending", "running")  # what the first looks at a run see, before it is done


@dataclass(frozen=True)
class Query:
    """A stored query: its text, and its parameters in the order of $1, $2 …"""

    sql: str
    parameters: tuple[str, ...]


# position() and not LIKE: no character of a name is a wildcard, so none needs an escape.
QUERIES = {
    "contacts_by_company": Query(
        """
        SELECT p."Pers_PersonId", p."Pers_FirstName", p."Pers_LastName", p."Pers_EmailAddress", c."Comp_Name"
        FROM bronze.person AS p
        JOIN bronze.company AS c ON c."Comp_CompanyId" = p."Pers_CompanyId"
        WHERE position(lower($1::text) IN lower(c."Comp_Name")) > 0
        ORDER BY c."Comp_Name", p."Pers_PersonId"
        """,
        ("name",),
    ),
    "company_by_legacy_id": Query(
        'SELECT * FROM bronze.company WHERE "Comp_CompanyId"::text = $1::text', ("id",)
    ),
    "deals_by_stage": Query(
        """
        SELECT hs_object_id, icalps_deal_id, dealname, amount, dealstage
        FROM hubspot.deals WHERE dealstage = $1::text ORDER BY hs_object_id
        """,
        ("stage",),
    ),
}  # fmt: skip


@dataclass
class _Run:
    query: Query
    values: list[str]
    looks: int = 0


class Workflows:
    """A workflow API on one database.

    Args:
        url: where it runs its queries, as libpq takes it.
        queries: by name.
        token: what it accepts as a bearer.
        looks: the states that a run shows before it is over; an endless run has many.
    """

    def __init__(
        self,
        url: str,
        *,
        queries: Mapping[str, Query] = QUERIES,
        token: str = TOKEN,
        looks: tuple[str, ...] = LOOKS,
    ) -> None:
        from fastapi import FastAPI

        self.url, self.queries, self.token, self.looks = url, queries, token, looks
        self.runs: list[_Run] = []
        self.faults = Faults()
        self.app = FastAPI(openapi_url=None)
        self.app.router.add_route("/workflows/{name}/runs", self._start, methods=["POST"])
        self.app.router.add_route("/workflows/runs/{run}", self._look, methods=["GET"])
        self.faults.on(self.app)

    async def _start(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        name = request.path_params["name"]
        query = self.queries.get(name)
        if query is None:
            return _json(404, {"error": f"There is no stored query {name}."})
        parameters = (await request.json()).get("parameters", {})
        if set(parameters) != set(query.parameters):
            return _json(422, {"error": f"{name} takes {', '.join(query.parameters)}."})
        self.runs.append(_Run(query, [parameters[one] for one in query.parameters]))
        return _json(202, {"run": str(len(self.runs))})

    async def _look(self, request: Request) -> Response:
        if refused := self._refused(request):
            return refused
        number = int(request.path_params["run"])
        if not 0 < number <= len(self.runs):
            return _json(404, {"error": f"There is no run {number}."})
        run = self.runs[number - 1]
        run.looks += 1
        if run.looks <= len(self.looks):
            return _json(200, {"state": self.looks[run.looks - 1]})
        return self._done(run)

    def _done(self, run: _Run) -> Response:
        """Run the query now. PostgreSQL itself writes the rows as JSON, so that a number keeps every digit."""
        import psycopg

        text = f"SELECT to_json(found)::text FROM ({run.query.sql}) AS found"  # noqa: S608 (stored text; values are bound)
        try:
            with psycopg.connect(self.url) as connection, psycopg.RawCursor(connection) as cursor:
                connection.read_only = True
                rows = cursor.execute(cast(LiteralString, text), run.values).fetchall()
        except psycopg.Error as error:
            return _json(200, {"state": "failed", "error": error.diag.message_primary or type(error).__name__})
        from fastapi import Response

        found = ",".join(row[0] for row in rows)
        return Response(f'{{"state": "done", "rows": [{found}]}}', media_type="application/json")

    def _refused(self, request: Request) -> Response | None:
        if request.headers.get("authorization") == f"Bearer {self.token}":
            return None
        return _json(401, {"error": "This token is not known."})


def _json(status: int, document: Any) -> Response:
    from fastapi import Response

    return Response(json.dumps(document), status, media_type="application/json")
