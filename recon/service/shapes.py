"""What the endpoints answer with, field by field: the shapes that /openapi.json describes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

KEY = "Its key as text; of several columns, a JSON array. null: there is no such record."


class Shape(BaseModel):
    model_config = ConfigDict(populate_by_name=True)


class Reconciliation(Shape):
    """A configured pair of record sets with its rules."""

    name: str
    title: str = Field(description="What people call it; may be empty.")
    group: str | None = Field(description="The system it is part of.")
    scope: str | None = Field(description="The column that divides its records into organisations; null: none does.")
    cardinality: str | None = Field(description="many_to_one or one_to_one.")
    passes: list[str] = Field(description="Its matching rules, strictest first.")
    problem: str | None = Field(None, description="Why its spec cannot be used; null: it can.")


class Reconciliations(Shape):
    reconciliations: list[Reconciliation]


class Run(Shape):
    """One execution of matching."""

    run: str
    state: str = Field(description="running, success or failed.")
    actor: str = Field(description="Who asked for it.")
    started_at: datetime
    completed_at: datetime | None
    limited: dict[str, Any] | None = Field(description="What it left out: limit, from, to, scope; null: nothing.")
    population: int | None = Field(description="How many records were decided; null: it did not come to its end.")
    outcomes: dict[str, int] = Field(description="How many records have which outcome; these add up to the population.")
    reasons: dict[str, int] = Field(description="Why records have no partner, and how many.")
    coverage: float | None = Field(description="The share that is reconciled, 0 to 1; null: it looked at a part only.")
    kept: bool = Field(description="Whether its decisions are still there.")
    error: str | None = Field(description="What ended it.")


class Runs(Shape):
    runs: list[Run]
    next: str | None = Field(description="The cursor of the next page; null: this is the last.")


class Decision(Shape):
    """What became of one record."""

    target_key: str | None = Field(description=KEY)
    source_key: str | None = Field(description=KEY)
    outcome: str = Field(description="linked, matched, proposed, ambiguous, unmatched, excluded, same, changed, …")
    rule: str | None = Field(alias="pass", description="The pass that decided.")
    confidence: float | None = Field(description="0 to 1.")
    reason: str | None = Field(description="Why it has no partner, one word.")
    because: str | None = Field(description="The same in a sentence.")
    interpretation: str | None = Field(description="What the spec says of such a pair.")
    differences: str | None = Field(description="In what the two records differ.")
    shown: dict[str, Any] = Field(description="What the spec's `show` names; private values are veiled.")


class Decisions(Shape):
    run: str = Field(description="The run whose decisions these are.")
    decisions: list[Decision]
    next: str | None = Field(description="The cursor of the next page; null: this is the last.")


class Break(Shape):
    """A record that is not reconciled, across runs."""

    side: str = Field(description="target or source.")
    key: str = Field(description="Its key as text; of several columns, a JSON array.")
    state: str = Field(description="open, assigned or resolved.")
    assignee: str | None = Field(description="Who sees to it.")
    outcome: str
    reason: str | None
    first_seen: datetime
    opened_at: datetime = Field(description="When the present episode began.")
    last_seen: datetime
    resolved_at: datetime | None
    run: str = Field(description="The run that saw it last.")
    days: int = Field(description="Whole days of 24 hours that the present episode has lasted, or did last.")


class Breaks(Shape):
    breaks: list[Break]
    next: str | None = Field(description="The cursor of the next page; null: this is the last.")


class Plan(Shape):
    """Changes that are frozen until somebody other than their author approves them."""

    plan: str
    reconciliation: str
    run: str
    scope: str | None = Field(description="The only organisation that it is of; null: of all, or there are none.")
    state: str
    digest: str = Field(description="The sha256 of plan.json, hex: what is approved.")
    author: str = Field(description="Who made it, and so cannot approve it.")
    rows: int
    actions: dict[str, int] = Field(description="How many rows are done what with.")
    created_at: datetime
    expires_at: datetime


class Plans(Shape):
    plans: list[Plan]
    next: str | None = Field(description="The cursor of the next page; null: this is the last.")


class Approvals(Shape):
    needed: int
    given: list[str] = Field(description="Whose yes counts, and how each was given.")
    refused: list[str] = Field(description="Why other voices do not count.")


class WholePlan(Plan):
    """A plan as a reviewer reads it, and how things stand now."""

    approvals: Approvals
    groups: list[dict[str, Any]] = Field(
        description="Rows by pass and action: their number, confidence, the first of them."
    )
    precision: str | None = Field(
        description="Precision and recall of its rules, in words; null: nobody measured them."
    )
    lint: list[dict[str, Any]] = Field(description="What there is to say of its scripts.")
    drift: dict[str, Any] | None = Field(description="Rows that changed since it was made; null: nobody could look.")
    problems: list[dict[str, Any]] = Field(description="Why it could not be applied now: what, why and next of each.")
    scripts: dict[str, str] = Field(description="The SQL that would be run, by file.")
    manifest: str | None = Field(
        description="plan.json, the very text that is signed; null: it is not there as planned."
    )
    private: str | None = Field(description="What is to be said of private columns.")


def plain(value: Any) -> Any:
    """A value as JSON can hold it: times and exact numbers as text, in the server's spelling."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)
