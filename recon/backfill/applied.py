"""What an apply or its rehearsal gives back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Applied:
    """What an apply did, or what a dry run would do."""

    plan: str
    executed: bool
    planned: int
    changed: int
    skipped: int
    drifts: list[dict[str, Any]]
    seconds: float
    state: str
    batches: int = 0
    workers: int = 1
    retries: int = 0  # batches that were tried again because others were at the same rows
    pauses: int = 0  # waits behind somebody's long transaction
    p95_milliseconds: float = 0.0  # nineteen of twenty batches ended within this
    checking_seconds: float = 0.0  # of the time: before the first batch
    query_plan: str = ""
    predicted_seconds: float | None = None
    sample: tuple[dict[str, Any], ...] = ()
    outside: dict[str, Any] | None = None  # what became of the records of an outside system; None: the plan has none

    @property
    def left(self) -> int:
        """Rows that were not written although they were planned: drifted here, or not to be written outside."""
        return self.skipped + (self.outside["left"] if self.outside else 0)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)
