"""An Airtable base that holds the reservations too: read through pyairtable, and written only where it is as planned."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from recon import extras
from recon.errors import VEIL, OutsideFailed, OutsideUnsure, UsageError, visible
from recon.outside.client import Client, OverHttp
from recon.outside.interface import Answer, Edit, Fields, Variables
from recon.outside.settings import credential, needed
from recon.spec_parts import Outside
from recon.systems.hcp_jobs.airtable_transport import session_of

if TYPE_CHECKING:
    from pyairtable import Table
    from pyairtable.api.types import RecordDict

NAME = "Airtable"
ADDRESS = "https://api.airtable.com"
PER_SECOND = 5.0  # for each base; beyond this it refuses everything
PENALTY_SECONDS = 30.0  # for how long, whether its 429 says so or not
MOST = 10  # records of one request that writes
_ABSENT, _REFUSED = 404, 422  # of a request as a whole: one bad record and none is written


def target(outside: Outside, variables: Variables) -> Base:
    """The target `airtable`: a table of a base. Raises UsageError, MissingExtra; does not connect yet."""
    extras.need("service", NAME, "pyairtable")
    token = credential(variables, "RECON_AIRTABLE_TOKEN", "a personal access token of Airtable")
    base = needed(variables, "RECON_AIRTABLE_BASE", "the id of the base, which begins with app")
    if not re.fullmatch(r"app\w+", base, re.ASCII):  # not shown: somebody may have put the token here
        raise UsageError("RECON_AIRTABLE_BASE is no id of a base.", todo="Copy it from the base's address: app….")
    client = Client(
        NAME,
        variables.get("RECON_AIRTABLE_URL", ADDRESS),
        headers={"Authorization": f"Bearer {token}"},
        secrets=[token],
        per_second=PER_SECOND,
        setting="RECON_AIRTABLE_TOKEN",
        penalty=PENALTY_SECONDS,
    )
    return Base(client, base, outside.object, token)


def reservations(
    outside: Outside, variables: Variables, *, without: str | None = None
) -> Iterator[Sequence[dict[str, str | None]]]:
    """The reservations as Airtable has them, page by page: the record's id and the fields that the spec writes there.

    Args:
        outside: of the spec's target; says which table, and which field holds which column.
        variables: of the workspace.
        without: a column of these; only reservations that hold nothing in it, such as those without a job id.

    Raises:
        UsageError: a setting or the column is missing.
        OutsideFailed: a page could not be had: what was given so far is not all.
    """
    if without is not None and without not in outside.fields:
        raise UsageError(
            f'"{without}" is no column that goes to {NAME}.',
            todo=f"Name one of: {', '.join(outside.fields) or 'none'}.",
        )
    base = target(outside, variables)
    try:
        for page in base.pages(list(outside.fields.values()), outside.fields.get(without or "")):
            yield [
                {outside.record or "record": record}
                | {column: fields[field] for column, field in outside.fields.items()}
                for record, fields in page
            ]
    finally:
        base.close()


class Base(OverHttp):
    """One table of a base, as a target. Values are sent as text: Airtable's own conversion would make new choices."""

    def __init__(self, client: Client, base: str, table: str, token: str = "") -> None:
        super().__init__(client)
        self._names = (base, table)
        self._token = token
        self._opened: Table | None = None
        self._numbers: set[str] = set()  # fields that were seen to hold numbers

    @property
    def place(self) -> str:
        return "/".join((self._client.base, *self._names))

    @property
    def most(self) -> int:
        return MOST

    @property
    def _table(self) -> Table:
        if self._opened is None:
            from pyairtable import Api

            api = Api("in-the-client", endpoint_url=self._client.base, retry_strategy=None)
            api.session = session_of(self._client)
            self._opened = api.table(*self._names)
        return self._opened

    def pages(self, fields: Sequence[str], blank: str | None = None) -> Iterator[list[tuple[str, Fields]]]:
        """All records, by id; `blank`: only those that hold nothing in this field. Raises OutsideFailed."""
        from pyairtable.formulas import BLANK, EQ, Field

        options: dict[str, Any] = {"fields": list(fields)} if fields else {}
        if blank is not None:
            options["formula"] = EQ(Field(blank), BLANK())
        with self._asked():
            for page in self._table.iterate(**options):
                yield [(record["id"], self._fields(record, fields)) for record in page]

    def read(self, records: Sequence[str], fields: Sequence[str]) -> Mapping[str, Fields]:
        """These fields of these records; a record that is not there is left out. Raises OutsideFailed."""
        from pyairtable.formulas import EQ, OR, RECORD_ID

        if not records:
            return {}
        formula = OR(*(EQ(RECORD_ID(), record) for record in records))
        with self._asked():
            found = self._table.all(formula=formula, fields=list(fields))
        return {record["id"]: self._fields(record, fields) for record in found}

    def write(self, edits: Sequence[Edit]) -> Sequence[Answer]:
        """Set the `after` fields where a record holds its `before`; nothing else is ever replaced.

        Airtable cannot be asked to write only where a value stands, so the records are read in the request just before
        the one that writes: what somebody changes in that fifth of a second is overwritten. A record that holds `after`
        already is done. A batch is all or nothing there; of one that is refused each record is sent alone.

        Raises:
            OutsideUnsure: the request may or may not have been carried out, or a part of the records is written.
            OutsideFailed: nothing was carried out.
        """
        if len(edits) > MOST:
            raise ValueError(f"at most {MOST} records at once")
        held = self.read([edit.record for edit in edits], sorted({name for edit in edits for name in edit.after}))
        answers: list[Answer] = []
        waiting: list[Edit] = []
        for edit in edits:
            now = held.get(edit.record)
            if now is None:
                answers.append(Answer(edit.record, f"{NAME} has no such record."))
            elif self._holds(now, edit.after):
                answers.append(Answer(edit.record))
            elif not self._holds(now, {name: edit.before.get(name) for name in edit.after}):
                answers.append(Answer(edit.record, "It holds something else by now than the plan was made from."))
            else:
                waiting.append(edit)
        return answers + self._send(waiting)

    def same(self, field: str, left: str | None, right: str | None) -> bool:
        """Whether two values are one: equal texts, or equal numbers in a field that was seen to hold numbers."""
        if left == right or (not left and not right):  # an empty text is an empty field there
            return True
        if not left or not right or field not in self._numbers:
            return False
        try:
            return Decimal(left) == Decimal(right)
        except ArithmeticError:
            return False

    def _holds(self, now: Fields, wanted: Fields) -> bool:
        return all(self.same(name, now[name], value) for name, value in wanted.items())

    def _send(self, edits: Sequence[Edit]) -> list[Answer]:
        if not edits:
            return []
        said = self._sent(edits)
        if said is None:
            return [Answer(edit.record) for edit in edits]
        if len(edits) == 1:
            return [Answer(edits[0].record, said)]
        answers: list[Answer] = []
        for edit in edits:
            try:
                answers.append(Answer(edit.record, self._sent([edit])))
            except OutsideUnsure:
                raise
            except OutsideFailed as error:
                if all(answer.error for answer in answers):
                    raise
                raise OutsideUnsure(
                    error.what, why=f"{error.why} Some records are written.", todo=error.todo
                ) from error
        return answers

    def _sent(self, edits: Sequence[Edit]) -> str | None:
        """Write these records in one request; what is said against it, where it is refused."""
        from requests import HTTPError

        try:
            with self._asked(HTTPError):
                # An absent field is left alone; None empties one.
                self._table.batch_update([{"id": edit.record, "fields": dict(edit.after)} for edit in edits])
        except HTTPError as error:
            return self._words(error, edits)
        return None

    @contextmanager
    def _asked(self, *passed: type[Exception]) -> Generator[None]:
        """Turn what pyairtable and requests raise into errors of ours, but for those that are passed on."""
        from pydantic import ValidationError
        from requests import HTTPError, RequestException

        try:
            yield
        except passed:
            raise
        except HTTPError as error:
            raise OutsideFailed(
                f"{NAME} refused to read {self._names[1]}.",
                why=f"At {self.place}: {self._words(error, ())}.",
                todo="Check the table and the fields that the spec names under `outside`.",
            ) from None  # the cause has the whole address, with the formula
        except (RequestException, ValidationError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise OutsideFailed(
                f"{NAME} answered something that is no list of records.",
                why=f"At {self.place}: {type(error).__name__}.",
                todo="Check RECON_AIRTABLE_URL; where it is right, their API has changed.",
            ) from None

    def _words(self, error: Any, edits: Sequence[Edit]) -> str:
        """What Airtable says against a request, without credentials and without values: these stand in quotes."""
        try:
            said = error.response.json()["error"]
        except (ValueError, KeyError, TypeError):
            return f"{error.response.status_code}"
        if not isinstance(said, dict):
            return visible(str(said).replace(self._token or VEIL, VEIL))
        names = {name for edit in edits for name in edit.after} | {edit.record for edit in edits}
        text = re.sub(
            r'"([^"]*)"',
            lambda quoted: quoted[0] if quoted[1] in names or not edits else VEIL,
            f"{said.get('message', '')}",
        )
        for value in (value for edit in edits for value in (*edit.before.values(), *edit.after.values()) if value):
            if len(value) > 3:  # a shorter one would be found in any sentence
                text = text.replace(value, VEIL)
        whole = f"{said.get('type', error.response.status_code)}: {text}".replace(self._token or VEIL, VEIL)
        return visible(" ".join(whole.split()))[:300]

    def _fields(self, record: RecordDict, names: Sequence[str]) -> dict[str, str | None]:
        held: Mapping[str, Any] = record["fields"]
        for name in names:
            if isinstance(held.get(name), int | Decimal) and not isinstance(held[name], bool):
                self._numbers.add(name)
        return {name: _text(held.get(name)) for name in names}


def _text(value: Any) -> str | None:
    """A cell as PostgreSQL would write its value; an empty cell is not in the record at all.

    >>> _text(None), _text(True), _text(Decimal("1500.00")), _text(["a", "b"])
    (None, 'true', '1500.00', '["a","b"]')
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, list | dict):
        return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False, default=str)
    return str(value)
