"""The workflow API: a stored query is run by HTTP, waited for, and its rows are given back.

    with workflows.opened(workspace.variables) as api:
        api.contacts_by_company("ACME")         # part of a company's name, in any case
        api.company_by_legacy_id("00123")
        api.deals_by_stage("contractsent")

A query stands where the API keeps it; what is sent is its name and values, as JSON. So no value is ever part of a statement,
whatever characters it holds. This is for notebooks and scripts, and has no command: what it gives goes into somebody's own
work, not into a reconciliation.

Settings: RECON_WORKFLOWS_URL and RECON_WORKFLOWS_TOKEN.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote

from recon.errors import OutsideFailed, UsageError
from recon.outside.client import Client, OverHttp
from recon.outside.interface import Variables
from recon.outside.settings import credential, needed

NAME = "The workflow API"
URL_SETTING, TOKEN_SETTING = "RECON_WORKFLOWS_URL", "RECON_WORKFLOWS_TOKEN"
PER_SECOND = 10.0  # requests
PATIENCE_SECONDS = 60.0  # for one query, from its start to its rows
FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS = 0.2, 3.0  # between two looks at a run, doubled each time
WAITS = ("pending", "running")  # states of a run that is not over

Row = dict[str, Any]  # a number with a fraction is a Decimal


@contextmanager
def opened(variables: Variables) -> Generator[Workflows]:
    """The API that the environment names, for as long as a `with` lasts. Raises UsageError; does not connect yet."""
    url = needed(variables, URL_SETTING, "the address of the workflow API")
    token = credential(variables, TOKEN_SETTING, "the token of the workflow API")
    client = Client(
        NAME,
        url,
        headers={"Authorization": f"Bearer {token}"},
        secrets=[token],
        per_second=PER_SECOND,
        setting=TOKEN_SETTING,
    )
    try:
        yield Workflows(client)
    finally:
        client.close()


class Workflows(OverHttp):
    """The stored queries of one API.

    Args:
        client: where it is asked.
        patience: seconds that a query may take.
        look: seconds before the first look at a run.
    """

    def __init__(self, client: Client, *, patience: float = PATIENCE_SECONDS, look: float = FIRST_LOOK_SECONDS) -> None:
        super().__init__(client)
        self._patience = patience
        self._look = look

    def contacts_by_company(self, name: str) -> list[Row]:
        """The contacts of every company whose name holds this text, in any case. Raises as `run` does."""
        return self.run("contacts_by_company", {"name": _something(name, "a company's name")})

    def company_by_legacy_id(self, legacy_id: str | int) -> list[Row]:
        """The company of this id in the legacy CRM, compared as text: 00123 is not 123. Raises as `run` does."""
        return self.run("company_by_legacy_id", {"id": _something(str(legacy_id), "a company's id")})

    def deals_by_stage(self, stage: str) -> list[Row]:
        """The deals of this stage, by its internal name. Raises as `run` does."""
        return self.run("deals_by_stage", {"stage": _something(stage, "a stage")})

    def run(self, name: str, parameters: Mapping[str, str]) -> list[Row]:
        """Run a stored query, wait for it, and give its rows.

        Args:
            name: of the stored query.
            parameters: values by parameter; they travel as JSON and are bound there.

        Raises:
            OutsideDenied: the credential is not accepted.
            OutsideFailed: there is no such query, it failed there, or it took longer than the patience.
        """
        until = time.monotonic() + self._patience
        # A stored query only reads: where no answer came it is simply started again.
        path = f"/workflows/{quote(name, safe='')}/runs"
        started = self._client.ask("POST", path, body={"parameters": dict(parameters)}, expected=(202,))
        run = started.body.get("run") if isinstance(started.body, dict) else None
        if not isinstance(run, (str, int)):
            raise self._failed(name, "its answer names no run")
        pause = self._look
        while True:
            document = self._client.ask("GET", f"/workflows/runs/{quote(str(run), safe='')}").body
            state = document.get("state") if isinstance(document, dict) else None
            if state == "done":
                return self._rows(name, document)
            if state == "failed":
                raise self._failed(name, f"run {run} failed: {self._client.said(str(document.get('error', '')))}")
            if state not in WAITS:
                raise self._failed(name, f"run {run} is in a state that is none: {self._client.said(str(state))}")
            left = until - time.monotonic()
            if left <= 0:
                raise self._failed(name, f"run {run} is {state} after {self._patience:g} s", "Ask again later.")
            time.sleep(min(pause, left))
            pause = min(pause * 2, LONGEST_LOOK_SECONDS)

    def _rows(self, name: str, document: Mapping[str, Any]) -> list[Row]:
        rows = document.get("rows")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self._failed(name, "its answer holds no rows")
        return rows

    def _failed(self, name: str, why: str, todo: str = "Ask whoever keeps the stored queries.") -> OutsideFailed:
        return OutsideFailed(f"{NAME} gave no rows of {name}.", why=f"At {self._client.base}: {why}.", todo=todo)


def _something(value: str, what: str) -> str:
    """A value that asks for something: an empty one would be held by every record. Raises UsageError."""
    if not value.strip():
        raise UsageError(f"This needs {what}.", why="An empty text is part of every name.")
    return value
