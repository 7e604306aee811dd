"""A stand-in for HubSpot: batch reads and updates of records kept in memory, with its limits and its ways to refuse."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from recon.stand_ins.faults import Faults
from recon.stand_ins.rate import Rate

if TYPE_CHECKING:
    from fastapi import Request, Response

TOKEN = "stand-in-hubspot"  # what it accepts, unless it is told another
MOST = 100  # inputs of one request
NUMBERS = ("amount", "hs_object_id")  # properties that are numbers; others are text

Records = dict[str, dict[str, str | None]]  # properties by id
_Handler = Callable[["Request"], Awaitable["Response"]]


class HubSpot:
    """HubSpot with these records.

    Args:
        objects: by object (companies, contacts …) the records by id. They are changed in place.
        token: what it accepts as a bearer.
        rate: what it answers in a while. None: any number.
        daily: requests it answers at all; then a 429 of the day. None: any number.
        types: types of properties by name, beside those of NUMBERS; they are there even where no record has one.

    Attributes:
        updates: how often each record was updated, by (object, id).
        refused: records that an update refuses one by one (207), id to message.
        invalid: records for which it refuses a whole batch (400), id to message. `{value}` stands for the first value sent.
        silent: records that an answer passes over though it changes them.
    """

    def __init__(
        self,
        objects: dict[str, Records],
        *,
        token: str = TOKEN,
        rate: Rate | None = None,
        daily: int | None = None,
        types: Mapping[str, str] | None = None,
    ) -> None:
        from fastapi import FastAPI

        self.objects = objects
        self.token = token
        self.rate, self.daily = rate, daily
        self.types = {**dict.fromkeys(NUMBERS, "number"), **(types or {})}
        self.updates: Counter[tuple[str, str]] = Counter()
        self.refused: dict[str, str] = {}
        self.invalid: dict[str, str] = {}
        self.silent: set[str] = set()
        self.faults = Faults()
        self._answered = 0
        self.app = FastAPI(openapi_url=None)
        for path, handler, method in (
            ("/crm/v3/objects/{object}/batch/read", self._read, "POST"),
            ("/crm/v3/objects/{object}/batch/update", self._update, "POST"),
            ("/crm/v3/properties/{object}", self._properties, "GET"),
        ):
            self.app.router.add_route(path, self._guarded(handler), methods=[method])
        self.faults.on(self.app)

    # -- before anything is done -----------------------------------------------------------------------

    def _guarded(self, handler: _Handler) -> _Handler:
        """Ask for the token, keep the limits, and know the object."""

        async def answer(request: Request) -> Response:
            if request.headers.get("authorization") != f"Bearer {self.token}":
                return _error(401, "INVALID_AUTHENTICATION", "Authentication credentials not found.")
            if limited := self._limited():
                return limited
            if request.path_params["object"] not in self.objects:
                return _error(
                    404, "OBJECT_NOT_FOUND", f"Unable to infer object type from: {request.path_params['object']}"
                )
            return await handler(request)

        return answer

    def _limited(self) -> Response | None:
        if self.daily is not None and self._answered >= self.daily:
            return _too_many("DAILY", "You have reached your daily limit.", {})
        refusal = self.rate.headers_of_refusal() if self.rate else None
        if refusal is not None:
            return _too_many("SECONDLY", "You have reached your secondly limit.", refusal)
        self._answered += 1
        return None

    # -- what it does ----------------------------------------------------------------------------------

    async def _properties(self, request: Request) -> Response:
        records = self.objects[request.path_params["object"]].values()
        names = dict.fromkeys([*(name for record in records for name in record), *self.types])
        return _json(200, {"results": [{"name": name, "type": self.types.get(name, "string")} for name in names]})

    async def _read(self, request: Request) -> Response:
        records, asked = self.objects[request.path_params["object"]], await request.json()
        ids = [str(item["id"]) for item in asked["inputs"]]
        if refused := _too_long(ids):
            return refused
        results = [
            {"id": record, "properties": {name: records[record].get(name) for name in asked["properties"]}}
            for record in dict.fromkeys(ids)
            if record in records
        ]
        return _answered(results, _absent([record for record in ids if record not in records]))

    async def _update(self, request: Request) -> Response:
        kind = request.path_params["object"]
        records, inputs = self.objects[kind], (await request.json())["inputs"]
        ids = [str(item["id"]) for item in inputs]
        if refused := _too_long(ids):
            return refused
        if len(set(ids)) != len(ids):
            return _error(400, "VALIDATION_ERROR", "Duplicate IDs found in batch input")
        for item in inputs:
            if (record := str(item["id"])) in self.invalid:
                value = next(iter(item["properties"].values()), "")
                return _error(400, "VALIDATION_ERROR", self.invalid[record].replace("{value}", value))
        errors = _absent([record for record in ids if record not in records])
        errors += [
            {
                "status": "error",
                "category": "VALIDATION_ERROR",
                "message": self.refused[record],
                "context": {"ids": [record]},
            }
            for record in ids
            if record in self.refused and record in records
        ]
        results: list[dict[str, Any]] = []
        for item in inputs:
            record = str(item["id"])
            if record not in records or record in self.refused:
                continue
            records[record].update({name: value or None for name, value in item["properties"].items()})
            self.updates[kind, record] += 1
            if record not in self.silent:
                results.append({"id": record, "properties": item["properties"]})
        return _answered(results, errors)


def _absent(ids: list[str]) -> list[dict[str, Any]]:
    if not ids:
        return []
    message = "Could not get some objects, they may be deleted or not exist. Check that ids are valid."
    return [{"status": "error", "category": "OBJECT_NOT_FOUND", "message": message, "context": {"ids": ids}}]


def _answered(results: list[dict[str, Any]], errors: list[dict[str, Any]]) -> Response:
    document: dict[str, Any] = {"status": "COMPLETE", "results": results}
    if not errors:
        return _json(200, document)
    return _json(207, {**document, "numErrors": len(errors), "errors": errors})


def _too_long(ids: list[str]) -> Response | None:
    if len(ids) <= MOST:
        return None
    return _error(400, "VALIDATION_ERROR", f"The maximum number of inputs supported in a batch request is {MOST}.")


def _too_many(policy: str, message: str, headers: dict[str, str]) -> Response:
    document = {"status": "error", "message": message, "errorType": "RATE_LIMIT", "policyName": policy}
    return _json(429, document, headers)


def _error(status: int, category: str, message: str) -> Response:
    return _json(status, {"status": "error", "category": category, "message": message})


def _json(status: int, document: Any, headers: dict[str, str] | None = None) -> Response:
    from fastapi import Response

    return Response(json.dumps(document), status, headers, "application/json")
