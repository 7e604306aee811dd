"""A shop's system outside of the database, for tests of plans that write one: over real HTTP, and it counts its updates.

`installed` makes its target findable as an installed package would: by an entry point.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recon.outside.client import Client, Notice
from recon.outside.interface import Answer, Edit, Fields, Variables
from recon.spec_parts import Outside
from recon.stand_ins.faults import Faults
from recon.stand_ins.server import served
from recon.workspace import Workspace

if TYPE_CHECKING:
    from fastapi import FastAPI

TOKEN = "shop-token-kept-secret"

Records = dict[str, dict[str, str | None]]


@dataclass
class Shop:
    """The stand-in: its records, how often each was updated, and whom it refuses."""

    records: Records
    updates: Counter[str] = field(default_factory=Counter[str])
    refused: dict[str, str] = field(default_factory=dict[str, str])  # record to message
    faults: Faults = field(default_factory=Faults)
    before_answer: Callable[[], None] = lambda: None  # called when an update was carried out
    url: str = ""

    @property
    def app(self) -> FastAPI:
        from fastapi import FastAPI

        app = FastAPI()

        @app.post("/{kind}/read")
        def read(kind: str, ids: list[str]) -> Records:
            return {record: self.records[record] for record in ids if record in self.records}

        @app.post("/{kind}/write")
        def write(kind: str, edits: dict[str, dict[str, str | None]]) -> dict[str, dict[str, str]]:
            for record in set(edits) - set(self.refused):
                self.records[record] |= edits[record]
                self.updates[record] += 1
            self.before_answer()
            return {"refused": {record: self.refused[record] for record in edits if record in self.refused}}

        self.faults.on(app)
        return app

    @contextmanager
    def open(self, workspace: Workspace, timeout: float = 5.0) -> Generator[Shop]:
        """Serve it, and have the workspace's settings lead to it."""
        with served(self.app) as self.url:
            self.settings(workspace, timeout)
            yield self

    def settings(self, workspace: Workspace, timeout: float = 5.0) -> None:
        """Have the settings of a workspace that nobody has read yet lead here."""
        (workspace.root / ".env").write_text(
            f"RECON_SHOP_URL={self.url}\nRECON_SHOP_TOKEN={TOKEN}\nRECON_SHOP_TIMEOUT={timeout}\n"
        )

    def reset(self, records: Records) -> None:
        """Begin anew, with these records."""
        self.records = records
        self.updates.clear()
        self.refused.clear()
        self.faults.waiting.clear()


class Target:
    """What a plan writes it by."""

    most = 10

    def __init__(self, client: Client, kind: str) -> None:
        self._client, self._kind = client, kind

    @property
    def place(self) -> str:
        return f"{self._client.base}/{self._kind}"

    @property
    def notice(self) -> Notice:
        return self._client.notice

    @notice.setter
    def notice(self, notice: Notice) -> None:
        self._client.notice = notice

    def read(self, records: Sequence[str], fields: Sequence[str]) -> Mapping[str, Fields]:
        found = self._client.ask("POST", f"/{self._kind}/read", body=list(records)).body
        return {record: {name: values.get(name) for name in fields} for record, values in found.items()}

    def write(self, edits: Sequence[Edit]) -> Sequence[Answer]:
        assert len(edits) <= self.most
        body = {edit.record: dict(edit.after) for edit in edits}
        refused = self._client.ask("POST", f"/{self._kind}/write", body=body, changes=True).body["refused"]
        return [Answer(edit.record, refused.get(edit.record)) for edit in edits]

    def same(self, field: str, left: str | None, right: str | None) -> bool:
        return (left or None) == (right or None)

    def close(self) -> None:
        self._client.close()


def target(outside: Outside, variables: Variables) -> Target:
    """The entry point."""
    token = variables["RECON_SHOP_TOKEN"]
    client = Client(
        "The shop",
        variables["RECON_SHOP_URL"],
        headers={"Authorization": f"Bearer {token}"},
        secrets=[token],
        per_second=10_000,
        setting="RECON_SHOP_TOKEN",
        timeout=float(variables["RECON_SHOP_TIMEOUT"]),
    )
    return Target(client, outside.object)


def install(folder: Path, name: str = "shop", points_to: str = "tests.shop:target") -> Path:
    """A package as an installer would leave it in a folder: what it is called, and its entry point."""
    packed = folder / f"{name}-1.0.dist-info"
    packed.mkdir(parents=True)
    (packed / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (packed / "entry_points.txt").write_text(f"[recon.targets]\n{name} = {points_to}\n")
    return folder


@contextmanager
def installed(folder: Path, **named: Any) -> Generator[None]:
    """While this is open, recon finds the package."""
    sys.path.insert(0, str(install(folder, **named)))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
