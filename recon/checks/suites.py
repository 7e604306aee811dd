"""Great Expectations suites from specs, as plain JSON: what a reviewer reads and changes without the library."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from recon.checks import never, pairs, relation
from recon.errors import AlreadyExists, SpecError
from recon.spec import Reconciliation
from recon.spec_expect import Never
from recon.workspace import Workspace

NOT_NULL = "expect_column_values_to_not_be_null"
IN_SET = "expect_column_values_to_be_in_set"
NO_ROWS = "unexpected_rows_expectation"

Suite = dict[str, Any]


def derive(spec: Reconciliation) -> Suite:
    """The suite that a spec's `expect` asks for.

    The columns are those of `recon.checks.relation.checked`, or without a link of `recon.checks.pairs.checked`.
    """
    expectations: list[dict[str, Any]] = []
    if spec.link is not None:
        target, source = _label(spec, "target"), _label(spec, "source")
        # Of a population of source records the target's rows say nothing about coverage.
        if spec.expect.coverage is not None and spec.population == "target":
            expectations.append(
                _expectation(
                    NOT_NULL, "coverage", "coverage",
                    f"{_share(spec)} of {target} must be linked.",
                    column=relation.LINKED, mostly=float(spec.expect.coverage),
                )
            )  # fmt: skip
        expectations.append(
            _true(relation.LINK_EXISTS, "link_exists", f"Every link must lead to a record that exists in {source}.")
        )
        if spec.cardinality == "one_to_one":
            says = f"No record of {source} may be linked to two of {target}."
            expectations.append(_true(relation.LINKED_ONCE, "linked_once", says))
        expectations += [
            _true(relation.right_column(name), name, f"Every linked pair must keep the rule {name}: {text}")
            for name, text in spec.expect.right.items()
        ]
    else:
        expectations = _of_pairs(spec)
    expectations += [_never(name, rule) for name, rule in spec.expect.never.items()]
    return {
        "name": spec.name,
        "expectations": expectations,
        "meta": {"reconciliation": spec.name, "derived_from": "link and expect of the spec"},
    }


def _of_pairs(spec: Reconciliation) -> list[dict[str, Any]]:
    """What must be true of the pairs that were decided, and of the ids by which they were."""
    expectations: list[dict[str, Any]] = []
    population, other = ("target", "source") if spec.population == "target" else ("source", "target")
    if spec.expect.coverage is not None:
        expectations.append(
            _expectation(
                IN_SET, "coverage", "coverage",
                f"{_share(spec)} of {_label(spec, population)} must be reconciled.",
                column=pairs.RECONCILED_NOW, value_set=[True], mostly=float(spec.expect.coverage),
            )
        )  # fmt: skip
    expectations.append(
        _true(pairs.PARTNER_EXISTS, "partner_exists", f"Every partner must still be there in {_label(spec, other)}.")
    )
    expectations += [
        _true(pairs.right_column(name), name, f"Every reconciled pair must keep the rule {name}: {text}")
        for name, text in spec.expect.right.items()
    ]
    if pairs.knows_identity(spec):
        first = spec.passes[0]
        ids = ", ".join(left.text for left, _ in first.pairs)
        expectations.append(
            _true(
                pairs.ONE_PARTNER, "one_partner",
                f"No record of {_label(spec, population)} may be meant by two of {_label(spec, other)}, by {first.name}.",
            )
        )  # fmt: skip
        expectations.append(
            _true(pairs.IDENTITY_ONCE, "identity_once", f"No two records of {_label(spec, 'target')} may share {ids}.")
        )
    return expectations


def _never(name: str, rule: Never) -> dict[str, Any]:
    """The query is the spec's: the suite names it, as it names the columns of the other checks."""
    says = f"No record may be {name.replace('_', ' ')}: {' '.join(rule.when.split())}"
    return _expectation(NO_ROWS, name, "never", says, unexpected_rows_query=named(name))


def named(name: str) -> str:
    """The query of a rule of `expect.never`, as a suite writes it."""
    return f'SELECT * FROM "{never.relation_name(name)}" AS "found"'  # noqa: S608 (a name of the spec, for the library)


def _share(spec: Reconciliation) -> str:
    assert spec.expect.coverage is not None
    share = _percent(spec.expect.coverage * 100)
    return "Every record" if share == "100" else f"At least {share} % of the records"


def _true(column: str, name: str, says: str) -> dict[str, Any]:
    return _expectation(IN_SET, name, "right", says, column=column, value_set=[True])


def _expectation(type_: str, name: str, kind: str, says: str, **kwargs: object) -> dict[str, Any]:
    return {"type": type_, "kwargs": dict(kwargs), "meta": {"name": name, "says": says, "kind": kind}}


def _label(spec: Reconciliation, side: str) -> str:
    records = spec.target if side == "target" else spec.source
    where = f" where {records.where}" if side == "target" and records.where else ""
    return f"{records.file or records.relation or records.writes or f'the {side}'}{where}"


def _percent(share: object) -> str:
    text = f"{share:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def text(suite: Suite) -> str:
    """The suite as the text of its file: stable, and without the ids that a tool may have put in."""

    def stripped(part: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in part.items() if name != "id"}

    plain = stripped(suite) | {"expectations": [stripped(item) for item in suite["expectations"]]}
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


def lacking(suite: Suite, spec: Reconciliation) -> list[str]:
    """The names of what the spec expects and the suite does not hold, or holds with other values."""
    held = [(item["type"], item["kwargs"]) for item in suite["expectations"]]
    return [item["meta"]["name"] for item in derive(spec)["expectations"] if (item["type"], item["kwargs"]) not in held]


def _foreign(suite: Suite, spec: Reconciliation) -> bool:
    """Whether the suite asks for rules of `expect.right` or `expect.never` that the spec does not have."""
    names = {relation.right_column(name) for name in spec.expect.right}
    columns = {str(item["kwargs"].get("column")) for item in suite["expectations"]}
    known = {named(name) for name in spec.expect.never}
    asked = {str(item["kwargs"].get("unexpected_rows_query")) for item in suite["expectations"]}
    return bool(
        {column for column in columns if column.startswith(relation.right_column(""))} - names
        or {query for query in asked if query.startswith(named("").partition('" AS')[0])} - known
    )


def load(workspace: Workspace, spec: Reconciliation) -> Suite:
    """The suite of a reconciliation: the workspace's file, else the shipped one, else what the spec asks for.

    Raises:
        SpecError: the file is not a suite.
    """
    path = workspace.file("expectations", f"{spec.name}.json")
    if not path.is_file():
        return derive(spec)
    suite = _read(path)
    # A workspace may have a spec of its own under a shipped name; the shipped suite then speaks of another one.
    if path != own_path(workspace, spec) and (lacking(suite, spec) or _foreign(suite, spec)):
        return derive(spec)
    return suite


def own_path(workspace: Workspace, spec: Reconciliation) -> Path:
    """Where the workspace keeps the suite."""
    return workspace.root / "expectations" / f"{spec.name}.json"


def write(workspace: Workspace, spec: Reconciliation, *, replace: bool = False) -> Path:
    """Write the derived suite into the workspace; returns its path.

    Raises:
        AlreadyExists: there is one that says something else, which people may have added to.
    """
    path = own_path(workspace, spec)
    derived = text(derive(spec))
    if path.exists() and not replace and path.read_text(encoding="utf-8") != derived:
        raise AlreadyExists(f"{path} exists and differs from what the spec gives.", todo="Move it away first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(derived, encoding="utf-8")
    return path


def _read(path: Path) -> Suite:
    def wrong(why: str) -> SpecError:
        return SpecError(f"{path} is not a suite.", why=why, todo="Correct it, or delete it to use what the spec asks.")

    try:
        suite = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # also what is not UTF-8
        raise wrong(f"It is not JSON: {error}.") from error
    if not isinstance(suite, dict) or not isinstance(suite.get("expectations"), list):
        raise wrong('It needs a list "expectations".')
    for number, item in enumerate(suite["expectations"], start=1):
        if not isinstance(item, dict) or not isinstance(item.get("type"), str):
            raise wrong(f'Expectation {number} has no "type".')
        if not isinstance(item.setdefault("kwargs", {}), dict) or not isinstance(item.setdefault("meta", {}), dict):
            raise wrong(f'"kwargs" and "meta" of expectation {number} are objects.')
    return suite
