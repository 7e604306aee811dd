"""How precise rules are, as a backtest measured it: what it found, and the latest measure of a spec."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from recon.database import tables
from recon.database.connect import Database, Session
from recon.matching.coverage import percent
from recon.spec import Reconciliation

LINKS = "links"  # what a backtest compares with, where no file is given


def precision_of(right: int, wrong: int) -> float | None:
    """The share of what was found that is right; None where nothing was found."""
    return right / (right + wrong) if right + wrong else None


def f1_of(precision: float | None, recall: float | None) -> float | None:
    """The harmonic mean of precision and recall; None where one is not known.

    >>> f1_of(1.0, 0.5)
    0.6666666666666666
    """
    if precision is None or recall is None:
        return None
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@dataclass(frozen=True)
class PassScore:
    """What one pass found. Matched and proposed pairs are counted apart; `new` are pairs of which nothing is known."""

    name: str
    right: int = 0
    wrong: int = 0
    proposed_right: int = 0
    proposed_wrong: int = 0
    new: int = 0

    @property
    def precision(self) -> float | None:
        """Of what the pass matched, or (where it only proposes) proposed."""
        right, wrong = self.right + self.proposed_right, self.wrong + self.proposed_wrong
        return precision_of(right, wrong)

    def recall(self, known: int) -> float | None:
        """The share of all known pairs that this pass found."""
        return (self.right + self.proposed_right) / known if known else None


@dataclass(frozen=True)
class Wrong:
    """A record that the rules give another partner than the known one."""

    record: Any
    linked_to: Any  # None: its own partner is not known, or it is known to have none
    rules_say: Any
    whose: Any  # the record that is known to have what the rules say
    outcome: str
    rule: str


@dataclass(frozen=True)
class Backtest:
    """The rules beside what is known. Precision and recall are those of what is matched without a person."""

    reconciliation: str
    spec_digest: str
    run_at: datetime | None
    actor: str
    truth: str  # `links`, or the file's name
    population: int
    known: int  # records whose partner is known
    known_alone: int  # records that are known to have none
    left_out: int  # known pairs with a record that takes no part
    not_found: Mapping[str, int]  # known records without a partner, by outcome
    passes: tuple[PassScore, ...]
    wrong: tuple[Wrong, ...] = ()  # the first of them

    @property
    def found_right(self) -> int:
        return sum(item.right for item in self.passes)

    @property
    def found_wrong(self) -> int:
        return sum(item.wrong for item in self.passes)

    @property
    def proposed_right(self) -> int:
        return sum(item.proposed_right for item in self.passes)

    @property
    def proposed_wrong(self) -> int:
        return sum(item.proposed_wrong for item in self.passes)

    @property
    def precision(self) -> float | None:
        return precision_of(self.found_right, self.found_wrong)

    @property
    def recall(self) -> float | None:
        return self.found_right / self.known if self.known else None

    @property
    def f1(self) -> float | None:
        return f1_of(self.precision, self.recall)

    @property
    def share_known(self) -> float | None:
        """How much of the population the backtest could look at."""
        return (self.known + self.known_alone) / self.population if self.population else None

    def summary(self) -> dict[str, Any]:
        """What stands beside a coverage."""
        return {
            "precision": self.precision,
            "recall": self.recall,
            "known": self.known,
            "measured_at": self.run_at.isoformat() if self.run_at else None,
        }

    @property
    def words(self) -> str:
        """What is said beside a coverage: precision, recall, and what they were measured on."""
        at = f" on {self.run_at:%Y-%m-%d}" if self.run_at else ""
        by = "known links" if self.truth == LINKS else f"pairs of {self.truth}"
        return (
            f"precision {percent(self.precision)}, recall {percent(self.recall)}"
            f" (measured{at} by {self.known + self.known_alone:,} {by})"
        )

    def as_dict(self) -> dict[str, Any]:
        """The document of `recon backtest --json`."""
        passes = [
            {
                **asdict(item),
                "precision": item.precision,
                "recall": item.recall(self.known),
                "f1": f1_of(item.precision, item.recall(self.known)),
            }
            for item in self.passes
        ]
        whole = {
            "found_right": self.found_right, "found_wrong": self.found_wrong,
            "proposed_right": self.proposed_right, "proposed_wrong": self.proposed_wrong,
            "f1": self.f1, "share_known": self.share_known,
        }  # fmt: skip
        return {**asdict(self), **whole, **self.summary(), "passes": passes}


# -- what is kept ----------------------------------------------------------------------------------------


def keep(session: Session, found: Backtest) -> Backtest:
    kept = tables.backtests
    document = json.loads(json.dumps(asdict(replace(found, run_at=None)), default=str))
    query = kept.insert().values(
        reconciliation=found.reconciliation, spec_digest=found.spec_digest, actor=found.actor, truth=found.truth,
        result=document,
    )  # fmt: skip
    at = session.connection.execute(query.returning(kept.c.run_at)).scalar_one()
    return replace(found, run_at=at)


def latest(database: Database, spec: Reconciliation) -> Backtest | None:
    """The latest backtest of exactly these rules; None where there is none."""
    return measured(database, spec.name, spec.digest)


def measured(database: Database, reconciliation: str, spec_digest: str) -> Backtest | None:
    """The latest backtest of the rules with this digest; None where there is none. Creates nothing."""
    with database.session(read_only=True) as session:
        if session.value("SELECT to_regclass('recon.backtests')::text") is None:
            return None
        kept = tables.backtests
        query = sa.select(kept.c.result, kept.c.run_at).where(
            kept.c.reconciliation == reconciliation, kept.c.spec_digest == spec_digest
        )
        row = session.connection.execute(query.order_by(kept.c.entry.desc()).limit(1)).first()
    return None if row is None else _read(row.result, row.run_at)


def of_runs(database: Database, found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any] | None]:
    """For each run (as `run.history` lists them) the latest measure of the rules that it decided by."""
    rules = {(row["reconciliation"], row["spec_digest"]) for row in found}
    known = {key: measured(database, *key) for key in rules}
    summaries = {key: backtest.summary() if backtest else None for key, backtest in known.items()}
    return [summaries[row["reconciliation"], row["spec_digest"]] for row in found]


def _read(document: Mapping[str, Any], at: datetime) -> Backtest:
    passes = tuple(PassScore(**item) for item in document["passes"])
    wrong = tuple(Wrong(**item) for item in document["wrong"])
    whole: dict[str, Any] = {**document, "passes": passes, "wrong": wrong, "run_at": at}
    return Backtest(**whole)
