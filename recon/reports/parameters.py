"""The parameters of a notebook, looked at before it runs: known, of the right type, and with a meaning here."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from recon import libraries
from recon.backfill import plan as plans
from recon.database.connect import Database
from recon.errors import UsageError, did_you_mean
from recon.workspace import Workspace

MODES = {
    "match": "match only: decide every record, write nothing",
    "plan": "match, and freeze what would change as a plan",
    "dry_run": "match, plan, and a dry run that is rolled back",
    "execute": "match, plan, apply under a sign-off, verify",
}
_TYPES: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (float, int), "bool": (bool,)}
_WORDS = {"str": "a text", "int": "a whole number", "float": "a number", "bool": "true or false"}
_DAYS = ("from_day", "to_day")


def of(source: Path) -> dict[str, dict[str, str]]:
    """The parameters of a notebook by name: what papermill reads in its cell tagged `parameters`."""
    with libraries.lean():
        import papermill

    return papermill.inspect_notebook(as_template(source))


def as_template(path: Path) -> str:
    """papermill fills braces in paths; ours are meant as they stand."""
    return str(path).replace("{", "{{").replace("}", "}}")


def check(source: Path, values: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Compare values with the parameters cell of a notebook; returns its parameters.

    The type is the annotation in that cell, as in `limit: int = 0`; a parameter whose default is None must be given.

    Raises:
        UsageError: a name is unknown, a value is missing, or of another type; papermill itself would only warn.
    """
    known = of(source)
    for name in values:
        if name not in known:
            raise UsageError(
                f"{source.name} takes no parameter {name}.",
                why=did_you_mean(name, known) or f"Its cell tagged parameters names {', '.join(known) or 'none'}.",
                todo="Add it to that cell, or delete the workspace's own copy of the notebook.",
            )
    for name, parameter in known.items():
        kind = parameter["inferred_type_name"]
        if name not in values:
            if parameter["default"] == "None":
                raise UsageError(
                    f"{source.name} needs the parameter {name}.", todo=f"Give {_WORDS.get(kind, 'a value')}."
                )
            continue
        value = values[name]
        # To Python, True is a whole number too.
        if kind in _TYPES and (not isinstance(value, _TYPES[kind]) or (isinstance(value, bool) and kind != "bool")):
            raise UsageError(f"The parameter {name} of {source.name} is {_WORDS[kind]}, not {value!r}.")
    return known


def check_meaning(database: Database, workspace: Workspace, values: Mapping[str, Any]) -> None:
    """Look whether what the parameters name is there; of those that a notebook does not have, nothing is asked.

    Raises:
        NotFound: no such reconciliation or plan.
        UsageError: a mode, day or limit makes no sense, or the plan is another reconciliation's.
    """
    name = values.get("reconciliation")
    if name is not None:
        workspace.spec(name)
    mode = values.get("mode")
    if mode is not None and mode not in MODES:
        raise UsageError(
            f"There is no mode {mode!r}.", why=did_you_mean(mode, MODES), todo=f"Use {', '.join(MODES)}."
        )  # fmt: skip
    days = [_day(part, values.get(part)) for part in _DAYS]
    if days[0] and days[1] and days[0] > days[1]:
        raise UsageError(f"from_day {days[0]} is later than to_day {days[1]}.", todo="Change the two.")
    limit = values.get("limit") or 0
    if limit < 0:
        raise UsageError(f"The limit is {limit}.", why="It counts records; 0 means all.", todo="Give 0 or more.")
    plan = values.get("plan")
    if plan:
        found = plans.load(database, workspace, plan)
        if name is not None and found.reconciliation != name:
            raise UsageError(f"Plan {plan} belongs to {found.reconciliation}, not to {name}.")
        if mode == "match":
            raise UsageError(
                "The mode match carries on with no plan.", todo="Leave the plan out, or take another mode."
            )
        if limit or any(days):
            raise UsageError(
                "A plan and limits do not go together.",
                why="The limits are of the matching, and the plan's is done.",
                todo="Leave one of them out.",
            )


def _day(part: str, text: str | None) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{part} {text!r} is not a day.", todo="Write it like 2025-03-31.") from error
