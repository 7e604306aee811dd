"""A base of Airtable with one table, as far as recon reads and writes it: pages, formulas, batches of ten, all or nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote

from recon.stand_ins import formula
from recon.stand_ins.faults import Faults
from recon.stand_ins.rate import Rate

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

TOKEN = "airtable-stand-in"  # no secret: it opens nothing but this
MOST_PER_PAGE, MOST_PER_BATCH = 100, 10
_KINDS: dict[str, tuple[type, ...]] = {"text": (str,), "number": (int, float), "checkbox": (bool,)}
_CREATED = "2025-01-01T00:00:00.000Z"

Fields = dict[str, Any]


class _Refused(Exception):
    def __init__(self, status: int, kind: str, message: str = "") -> None:
        self.answer = (status, {"error": {"type": kind, "message": message} if message else kind})
        super().__init__(kind)


@dataclass
class Airtable:
    """A base with one table of these records.

    Args:
        base: its id, app….
        table: its name.
        records: fields by record id; an empty field is absent, or None.
        kinds: text, number or checkbox by field name; the fields that the table has. Default: those of the records, text.
        token: what a request must show.
        rate: how many requests it answers in a while; None: any number.
        before_write: called before a request that writes is looked at, so that a record can change in between.
    """

    base: str
    table: str
    records: dict[str, Fields]
    kinds: Mapping[str, str] | None = None
    token: str = TOKEN
    rate: Rate | None = None
    before_write: Callable[[], None] | None = None
    faults: Faults = field(default_factory=Faults)
    updates: Counter[str] = field(default_factory=Counter[str])  # how often each record was written
    batches: list[int] = field(default_factory=list[int])  # records of each request that wrote

    @property
    def app(self) -> FastAPI:
        """The base as an application."""
        from fastapi import FastAPI, Response

        app = FastAPI(openapi_url=None)

        async def answer(request: Request) -> Response:
            try:
                self._let_in(request)
                status, document, headers = 200, self._answer(request, await request.body()), {}
            except _Refused as refused:
                (status, document), headers = refused.answer, {}
                if status == 429 and self.rate is not None:
                    headers = self._refusal or {}
            return Response(json.dumps(document), status, headers, media_type="application/json")

        app.add_route("/v0/{base}/{table:path}", answer, methods=["GET", "POST", "PATCH"])
        self.faults.on(app)
        return app

    def _let_in(self, request: Request) -> None:
        if request.headers.get("authorization") != f"Bearer {self.token}":
            raise _Refused(401, "AUTHENTICATION_REQUIRED", "Authentication required")
        self._refusal = self.rate.headers_of_refusal() if self.rate else None
        if self._refusal is not None:
            raise _Refused(429, "RATE_LIMIT_REACHED", "Rate limit exceeded. Please try again later")

    def _answer(self, request: Request, body: bytes) -> Any:
        # As it was sent: a name may hold a slash.
        parts = [unquote(part) for part in request.scope["raw_path"].decode().split("?")[0].split("/")[2:]]
        if parts[:2] != [self.base, self.table]:
            raise _Refused(
                403, "INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND", "Invalid permissions, or the model was not found"
            )
        if request.method == "PATCH" and len(parts) == 2:
            return self._patch(_document(body))
        if request.method == "POST" and parts[2:] == ["listRecords"]:
            return self._list(_document(body))
        if request.method == "GET" and len(parts) == 2:
            query: dict[str, Any] = dict(request.query_params)
            if "fields[]" in query:
                del query["fields[]"]
                query["fields"] = request.query_params.getlist("fields[]")
            return self._list(query)
        if request.method == "GET" and len(parts) == 3 and parts[2] in self.records:
            return self._shown(parts[2], None)
        raise _Refused(404, "NOT_FOUND")

    def _list(self, query: dict[str, Any]) -> Any:
        unknown = set(query) - {"fields", "filterByFormula", "offset", "pageSize"}
        if unknown:
            raise _Refused(422, "INVALID_REQUEST_UNKNOWN", f"Unknown parameters: {', '.join(sorted(unknown))}")
        names = query.get("fields")
        self._known(names or ())
        found = list(self.records)
        if "filterByFormula" in query:
            try:
                holds, used = formula.parse(str(query["filterByFormula"]))
            except formula.Unreadable as error:
                raise _Refused(
                    422, "INVALID_FILTER_BY_FORMULA", f"The formula for filtering records is invalid: {error}"
                ) from error
            self._known(used)
            found = [record for record in found if holds(record, self.records[record])]
        size = int(query.get("pageSize", MOST_PER_PAGE))
        first = 0
        if "offset" in query:  # itr…/rec…: the record that the page before ended with
            last = str(query["offset"]).rpartition("/")[2]
            if last not in found:
                raise _Refused(422, "LIST_RECORDS_ITERATOR_NOT_AVAILABLE", "The iterator is gone")
            first = found.index(last) + 1
        page = found[first : first + min(size, MOST_PER_PAGE)]
        document: dict[str, Any] = {"records": [self._shown(record, names) for record in page]}
        if first + len(page) < len(found):
            document["offset"] = f"itr/{page[-1]}"
        return document

    def _patch(self, document: dict[str, Any]) -> Any:
        if self.before_write is not None:
            self.before_write()
        edits = document.get("records")
        if not isinstance(edits, list) or not 1 <= len(cast(list[Any], edits)) <= MOST_PER_BATCH:
            raise _Refused(422, "INVALID_RECORDS", f"You must provide 1 to {MOST_PER_BATCH} record objects")
        known = {name: self._kind(name) for name in self._names()}
        batch = cast(list[dict[str, Any]], edits)
        for edit in batch:  # all is looked at before anything is written
            if edit["id"] not in self.records:
                raise _Refused(422, "ROW_DOES_NOT_EXIST", f"Record ID {edit['id']} does not exist in this table")
            self._known(edit["fields"])
            for name, value in edit["fields"].items():
                if value is not None and (not isinstance(value, _KINDS[known[name]])):
                    said = f'Field "{name}" cannot accept the provided value "{value}"'
                    raise _Refused(422, "INVALID_VALUE_FOR_COLUMN", said)
        self.batches.append(len(batch))
        for edit in batch:
            self.records[edit["id"]].update(edit["fields"])
            self.updates[edit["id"]] += 1
        return {"records": [self._shown(edit["id"], None) for edit in batch]}

    def _names(self) -> set[str]:
        if self.kinds is not None:
            return set(self.kinds)
        return {name for fields in self.records.values() for name in fields}

    def _kind(self, name: str) -> str:
        return self.kinds[name] if self.kinds is not None else "text"

    def _known(self, names: Any) -> None:
        for name in names:
            if name not in self._names():
                raise _Refused(422, "UNKNOWN_FIELD_NAME", f'Unknown field name: "{name}"')

    def _shown(self, record: str, names: list[str] | None) -> dict[str, Any]:
        held = {
            name: float(value) if isinstance(value, Decimal) else value
            for name, value in self.records[record].items()
            if value not in (None, "") and (names is None or name in names)
        }
        return {"id": record, "createdTime": _CREATED, "fields": held}


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise _Refused(400, "BAD_REQUEST", "The request is no JSON") from error
    return cast(dict[str, Any], document) if isinstance(document, dict) else {}
