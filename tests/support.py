"""What several tests need: sample data, specs from a few lines, the command line as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon import workflow
from recon.database.connect import Database
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests import forked

ROOT = Path(__file__).parents[1]
RENT = "rent_payments"
COMMAND_SECONDS = 180.0  # after which a command is taken for one that hangs


def load_rent_sample(database: Database) -> None:
    workflow.load_sample(database, RENT)


def rent_spec() -> Reconciliation:
    return Workspace(ROOT).spec(RENT)


def simple_spec(**fields: Any) -> Reconciliation:
    """A small reconciliation of tables `pay` and `lease`, with these fields instead of the usual ones."""
    usual: dict[str, Any] = {
        "name": "simple",
        "target": {"table": "pay", "key": "id"},
        "source": {"table": "lease", "key": "id"},
        "link": {"column": "lease_id"},
        "passes": [{"name": "by_code", "on": {"code": "code"}}],
    }
    return Reconciliation.model_validate(usual | fields)


def execute(database: Database, *statements: str) -> None:
    with database.session() as session:
        for statement in statements:
            session.execute(statement)


def rows(database: Database, query: str, *values: object) -> list[tuple[Any, ...]]:
    with database.session() as session:
        return session.rows(query, *values)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def _environment(url: str | None, user: str) -> dict[str, str]:
    """That of a command: nothing of recon's but the person and the database."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RECON_")}
    return environment | {"RECON_USER": user} | ({"RECON_DATABASE_URL": url} if url else {})


def started(*arguments: str, url: str, user: str = "ann") -> forked.Running:
    """The command line in a process of its own, which the test need not wait for."""
    return forked.Running(list(arguments), _environment(url, user), None)


def recon(
    *arguments: str, url: str | None = None, user: str = "ann", cwd: Path | None = None, anew: bool = False
) -> Ended:
    """Run the command line in a process of its own; `anew`: one that has imported nothing yet."""
    environment = _environment(url, user)
    if not anew:
        return Ended(*forked.run(list(arguments), environment, cwd, COMMAND_SECONDS))
    command = [sys.executable, "-c", "from recon.cli import main; main()", *arguments]
    ended = subprocess.run(
        command, env=environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)
