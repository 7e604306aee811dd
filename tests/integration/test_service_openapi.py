"""What /openapi.json says is what the service does: asked by a program that makes requests of it, fitting and unfitting."""

from __future__ import annotations

import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.python.asgi import get_client

from recon.database.connect import Database
from recon.workspace import Workspace
from tests import two_houses
from tests.copies import Copies
from tests.service import application, asked, token
from tests.support import ROOT

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code

EXAMPLES = 20  # of each operation
FILLED = ("GET /reconciliations", "GET /plans", "GET /healthz", "GET /readyz", "GET /webhooks")  # of what there is some
SIGNED = ("/webhooks/{", "/staysnet/webhook/")  # by the sender, not with a token
WATCHER = "an-example-token"
# Positive data that is refused is none of its business: a plan may be approved already, a cursor be of another list.
LEFT_OUT = ("positive_data_acceptance",)

_bounded = settings(
    max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


def test_every_operation_answers_as_described_whatever_is_sent(
    copies: Copies, database: Database, workspace: Workspace
) -> None:
    """No request is answered by a fault of the service, and none otherwise than /openapi.json says."""
    houses = two_houses.again(copies, database, workspace)
    more = {"RECON_SERVICE_TOKEN": WATCHER, "RECON_HOUSECALLPRO_WEBHOOK_SECRET": "an-example-secret"}
    app = application(workspace, Database(database.url, pooled=True), **more)
    admin = {"Authorization": f"Bearer {token('zoe', ['admin'])}"}
    real = {"name": st.just("stays"), "plan": st.sampled_from([houses.north_plan, houses.south_plan])}
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    schemathesis.checks.load_all_checks()
    checks = [check for check in schemathesis.checks.CHECKS.get_all() if check.__name__ not in LEFT_OUT]
    statuses: dict[str, set[int]] = {}
    with get_client(app, max_stream_events=None) as session:
        for found in schema.get_all_operations():
            operation = found.ok()
            given_headers = {} if operation.path.startswith(SIGNED) else admin
            if operation.path == "/webhooks/status":
                given_headers = {"Authorization": f"Bearer {WATCHER}"}

            def asked_for(case: Any) -> None:
                answer = case.call_and_validate(session=session, headers=given_headers, checks=checks)  # noqa: B023 (called here)
                statuses.setdefault(case.operation.label, set()).add(answer.status_code)

            _bounded(given(_cases(operation, real))(asked_for))()
    assert {"GET /reconciliations/{name}/decisions", "POST /plans/{plan}/approve", "GET /readyz"} <= set(statuses)
    assert all(min(seen) == 200 for label, seen in statuses.items() if label.startswith(FILLED)), statuses


def _cases(operation: Any, real: dict[str, st.SearchStrategy[str]]) -> st.SearchStrategy[Any]:
    """Requests that fit the description and such that do not; some of what there is, so that they get far."""
    fitting = operation.as_strategy(GenerationMode.POSITIVE)
    kinds = [fitting]
    if operation.body or any(operation.iter_parameters()):
        kinds.append(operation.as_strategy(GenerationMode.NEGATIVE))
    mine = {part: real[part] for part in re.findall(r"{(\w+)}", operation.path) if part in real}
    if mine:
        near = st.tuples(fitting, st.fixed_dictionaries(mine)).map(_of_what_there_is)
        kinds += [near, near]
    return st.one_of(kinds)


def _of_what_there_is(drawn: tuple[Any, dict[str, str]]) -> Any:
    case, names = drawn
    case.path_parameters = {**(case.path_parameters or {}), **names}
    return case


def test_a_stranger_can_read_the_description(database: Database, workspace: Workspace) -> None:
    """Each operation, parameter and field of an answer says what it is; limits and the token are described."""
    with asked(application(workspace, database)) as client:
        described = client.get("/openapi.json").json
    assert described["components"]["securitySchemes"]["bearer"]["bearerFormat"] == "JWT"
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            label = f"{method} {path}"
            assert operation.get("summary"), label
            assert operation.get("description"), label
            assert all(item.get("description") for item in operation.get("parameters", [])), label
            signs = path in ("/healthz", "/readyz", "/webhooks/status") or path.startswith(SIGNED)
            assert signs or operation["security"] == [{"bearer": []}], label
            assert signs or {"401", "403", "422", "503"} <= set(operation["responses"]), label
            for item in operation.get("parameters", []):
                kinds = item["schema"].get("anyOf", [item["schema"]])
                for kind in kinds:
                    if kind.get("type") == "string":
                        assert {"maxLength", "pattern", "enum", "const", "format"} & set(kind), (label, item["name"])
                    if kind.get("type") == "integer":
                        assert {"minimum", "maximum"} <= set(kind), (label, item["name"])
    guide = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
    for path, operations in described["paths"].items():
        for method in operations:
            assert f"`{method.upper()} {path}`" in guide, f"docs/service.md does not name {method.upper()} {path}"
