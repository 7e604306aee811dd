"""HubSpot as a target: records read and updated a hundred at a time, each with an answer of its own.

A batch of which HubSpot takes a part (207) tells the records it refuses. A batch that it refuses whole, because of one
value in it (400, 409), is sent again in halves, so that the right ones get through and the wrong one is known.

Settings: RECON_HUBSPOT_TOKEN, of a private app that may read and write the object and read its properties;
RECON_HUBSPOT_URL and RECON_HUBSPOT_PER_SECOND where they are not the usual ones.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from recon.errors import VEIL, OutsideFailed, OutsideUnsure, UsageError, did_you_mean
from recon.outside.client import Client, OverHttp
from recon.outside.interface import Answer, Edit, Fields, Variables
from recon.outside.settings import credential
from recon.spec_parts import Outside
from recon.systems.crm import values

SYSTEM = "hubspot"  # in a spec
NAME = "HubSpot"
URL = "https://api.hubapi.com"
TOKEN_SETTING, URL_SETTING, RATE_SETTING = "RECON_HUBSPOT_TOKEN", "RECON_HUBSPOT_URL", "RECON_HUBSPOT_PER_SECOND"
MOST = 100  # records in one request
PER_SECOND = 10.0  # requests; a private app has 100 in ten seconds
PARTLY, REFUSED = 207, (400, 409)  # statuses: some records were refused; all were, maybe because of one
ABSENT = "OBJECT_NOT_FOUND"  # the category of an error about a record that is not there
# By the name of the limit, where no Retry-After says it: seconds until there is room again.
WINDOWS = {"SECONDLY": 1.0, "TEN_SECONDLY_ROLLING": 10.0}
SHORT = 4  # characters; a value shorter than this is veiled in an error only where it stands as a word


def target(outside: Outside, variables: Variables) -> HubSpot:
    """HubSpot's records of one object, such as companies. Raises UsageError; does not connect yet."""
    token = credential(variables, TOKEN_SETTING, "the access token of a HubSpot private app")
    client = Client(
        NAME,
        variables.get(URL_SETTING, URL),
        headers={"Authorization": f"Bearer {token}"},
        secrets=[token],
        per_second=_rate(variables.get(RATE_SETTING)),
        setting=TOKEN_SETTING,
        limit=limit,
    )
    return HubSpot(client, outside.object)


def limit(document: Any) -> float | str | None:
    """What a 429 says: seconds to wait, or why waiting is of no use.

    >>> limit({"policyName": "TEN_SECONDLY_ROLLING"}), limit({"policyName": "OTHER"}), limit("no document")
    (10.0, None, None)
    """
    name = document.get("policyName") if isinstance(document, dict) else None
    if name == "DAILY":
        return "The requests of this day are used up; they are counted anew from midnight in the account's time zone."
    return WINDOWS.get(str(name))


def changes(record: str, after: Fields, kinds: Mapping[str, str]) -> dict[str, Any]:
    """A record's change as one input of a batch update; `kinds` are the properties' types, as far as they are known.

    >>> changes("7", {"name": "Acme", "domain": None}, {})
    {'id': '7', 'properties': {'name': 'Acme', 'domain': ''}}
    """
    sent = {name: values.sent(kinds.get(name, "string"), value) for name, value in after.items()}
    return {"id": record, "properties": sent}


class HubSpot(OverHttp):
    """The records of one object. A property's type, by which two texts are one value or two, is asked for once."""

    def __init__(self, client: Client, kind: str) -> None:
        super().__init__(client)
        self._object = kind
        self._path = f"/crm/v3/objects/{quote(kind, safe='')}"
        self._kinds: Mapping[str, str] | None = None

    @property
    def place(self) -> str:
        return self._client.base + self._path

    @property
    def most(self) -> int:
        return MOST

    def same(self, field: str, left: str | None, right: str | None) -> bool:
        """Whether two texts are one value of this property, by its type. Raises OutsideFailed."""
        return values.same(self._types().get(field, "string"), left, right)

    def read(self, records: Sequence[str], fields: Sequence[str]) -> Mapping[str, Fields]:
        """These properties as they are now; a record that HubSpot does not find, or that is archived, is left out."""
        if not records:
            return {}
        self._check(fields)
        body = {"properties": list(fields), "inputs": [{"id": record} for record in dict.fromkeys(records)]}
        reply = self._client.ask("POST", f"{self._path}/batch/read", body=body, expected=(200, PARTLY))
        answered = _Answered.of(reply.body)
        # An error is never an absence: only what HubSpot says it does not find is not there.
        others = [error for error in answered.errors if error.get("category") != ABSENT] if answered else []
        if answered is None or not answered.complete or others:
            said = self._words(others[0], {}) if others else "its answer is not whole"
            raise OutsideFailed(
                f"{NAME} did not give the records of {self._object}.",
                why=f"At {self._client.base}: {said}.",
                todo="Try again later: nothing was changed by this.",
            )
        return {
            record: {field: _text(answered.results[record].get(field)) for field in fields}
            for record in records
            if record in answered.results
        }

    def write(self, edits: Sequence[Edit]) -> Sequence[Answer]:
        """Set the `after` properties; one answer for each record."""
        answers: list[Answer] = []
        try:
            self._send(edits, answers)
        except OutsideFailed as error:
            error.why = _veiled(error.why, _forms(edits))  # what it says may quote them too
            if isinstance(error, OutsideUnsure) or all(answer.error for answer in answers):
                raise
            # A part is done, and the contract knows only none or unsure: the caller finds out by reading.
            raise OutsideUnsure(error.what, why=error.why, todo=error.todo) from error
        return answers

    # -- how a batch is sent ---------------------------------------------------------------------------

    def _send(self, edits: Sequence[Edit], answers: list[Answer]) -> None:
        """Send a batch, and what HubSpot refuses whole in halves; `answers` takes what is known so far."""
        if not edits:
            return
        kinds = self._types()
        body = {"inputs": [changes(edit.record, edit.after, kinds) for edit in edits]}
        path = f"{self._path}/batch/update"
        reply = self._client.ask("POST", path, body=body, expected=(200, PARTLY, *REFUSED), changes=True)
        if reply.status in REFUSED:
            if len(edits) == 1:
                answers.append(Answer(edits[0].record, self._words(reply.body, _forms(edits))))
                return
            half = len(edits) // 2
            self._send(edits[:half], answers)
            self._send(edits[half:], answers)
            return
        answered = _Answered.of(reply.body) or _Answered({}, [], complete=False)
        forms = _forms(edits) if answered.errors else {}
        refused: dict[str, str] = {}
        for error in answered.errors:
            refused |= dict.fromkeys(_Answered.records_of(error), self._words(error, forms))
        unnamed = [edit for edit in edits if edit.record not in answered.results and edit.record not in refused]
        named = [edit for edit in edits if edit not in unnamed]
        answers += [Answer(edit.record, refused.get(edit.record)) for edit in named]
        if unnamed:
            # An error that names no record may be about any of them.
            loose = [self._words(error, forms) for error in answered.errors if not _Answered.records_of(error)]
            answers += self._looked_up(unnamed, loose)

    def _looked_up(self, edits: Sequence[Edit], said: Sequence[str]) -> Iterable[Answer]:
        """What became of records that HubSpot's answer does not name: what they hold now tells it."""
        fields = list(dict.fromkeys(field for edit in edits for field in edit.after))
        try:
            now = self.read([edit.record for edit in edits], fields)
        except OutsideFailed as error:
            raise OutsideUnsure(error.what, why=error.why, todo=error.todo) from error
        error = "; ".join(said) or "its answer does not name this record, which does not hold what was sent"
        for edit in edits:
            held = now.get(edit.record)
            done = held is not None and all(self.same(field, held[field], edit.after[field]) for field in edit.after)
            yield Answer(edit.record, None if done else error)

    def _words(self, error: Any, forms: Mapping[str, str]) -> str:
        """HubSpot's own words, without the values that were sent: it likes to quote them."""
        error = error if isinstance(error, dict) else {}
        parts = [str(error[name]) for name in ("category", "message") if error.get(name)]
        return self._client.said(_veiled(": ".join(parts) or "it gives no reason", forms))

    # -- its properties --------------------------------------------------------------------------------

    def _types(self) -> Mapping[str, str]:
        """The properties of the object and their types."""
        if self._kinds is None:
            reply = self._client.ask("GET", f"/crm/v3/properties/{quote(self._object, safe='')}")
            found = reply.body.get("results") if isinstance(reply.body, dict) else None
            if not isinstance(found, list) or not all(isinstance(item, dict) and "name" in item for item in found):
                raise OutsideFailed(
                    f"{NAME} did not give the properties of {self._object}.",
                    why=f"At {self._client.base}: its answer is not a list of properties.",
                    todo=f"Look at {URL_SETTING}: is it the address of {NAME}?",
                )
            self._kinds = {str(item["name"]): str(item.get("type", "string")) for item in found}
        return self._kinds

    def _check(self, fields: Sequence[str]) -> None:
        """Refuse a property that HubSpot does not have: it would read as empty, without a word."""
        known = self._types()
        for field in fields:
            if field not in known:
                raise OutsideFailed(
                    f'{NAME} has no property "{field}" of {self._object}.',
                    why=did_you_mean(field, known),
                    todo="Name its internal name under `outside: fields`.",
                )


@dataclass(frozen=True)
class _Answered:
    """The document of a batch: the properties of each record in it, and the errors."""

    results: dict[str, dict[str, Any]]
    errors: list[dict[str, Any]]
    complete: bool

    @classmethod
    def of(cls, document: Any) -> _Answered | None:
        """None where it is not what HubSpot answers."""
        try:
            results = {str(item["id"]): dict(item.get("properties") or {}) for item in document["results"]}
            errors = [dict(error) for error in document.get("errors") or []]
            return cls(results, errors, document.get("status", "COMPLETE") == "COMPLETE")
        except (TypeError, KeyError, ValueError, AttributeError):
            return None

    @staticmethod
    def records_of(error: Mapping[str, Any]) -> list[str]:
        """The records that an error names: under `ids`, or `id`."""
        context = error.get("context")
        if not isinstance(context, dict):
            return []
        named = context.get("ids") or context.get("id") or []
        return [str(record) for record in named] if isinstance(named, list) else [str(named)]


def _text(value: Any) -> str | None:
    """A property as text; HubSpot gives texts, and null for an empty one."""
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _forms(edits: Iterable[Edit]) -> dict[str, str]:
    """How the values of these edits may be quoted, the longest first, each beside what it is looked for by."""
    values = {value for edit in edits for side in (edit.before, edit.after) for value in side.values() if value}
    written = {
        form
        for value in values
        for form in (value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1])
    }
    return {form: _folded(form) for form in sorted(written, key=len, reverse=True)}


def _folded(text: str) -> str:
    """A text in which all letters stand alike that a search that ignores case takes for one."""
    return text.replace("\u0130", "i").replace("\u0131", "i").casefold()


def _veiled(text: str, forms: Mapping[str, str]) -> str:
    """A text without these values, however they are written in it.

    >>> _veiled('Email address Jo@x is invalid: {"email": "jo@x"}', _forms([Edit("1", {}, {"email": "jo@x"})]))
    'Email address ••• is invalid: {"email": "•••"}'
    """
    folded = _folded(text)
    for form, sought in forms.items():
        if sought in folded:  # few are: a pattern for each of thousands would take seconds
            pattern = re.escape(form) if len(form) >= SHORT else rf"(?<!\w){re.escape(form)}(?!\w)"
            text = re.sub(pattern, VEIL, text, flags=re.IGNORECASE)
    return text


def _rate(text: str | None) -> float:
    """Requests a second. Raises UsageError."""
    try:
        rate = float(text) if text else PER_SECOND
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise UsageError(f"{RATE_SETTING} is no rate.", todo=f"Write requests a second, such as {PER_SECOND:g}.")
    return rate
