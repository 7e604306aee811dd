"""What operations people read in the log of the HousecallPro jobs, in the words they know (HCP-11), by environment.

`recon run hcp_jobs` writes it by a `RunLog`; what the webhook says goes into the same file by its handler.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from psycopg import RawServerCursor
from sqlglot import exp

from recon.backfill.applied import Applied
from recon.backfill.plan import Plan
from recon.backfill.standing import environment_of
from recon.database import tables
from recon.database.connect import Database, Session
from recon.matching import pairs, pool
from recon.matching.because import because
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.matching.privacy import veiled
from recon.matching.run import Run
from recon.names import DIALECT, Side, column, identifier
from recon.spec import Reconciliation
from recon.systems.logbook import Logbook, path_of
from recon.workspace import Workspace

STARTED, ENDED, FAILED = "start", "summary", "failed"
FOUND, NOT_FOUND, UNLINKED = "found match", "no matching job found", "no reservation linked to job"
ATTEMPT, SUCCESS = "attempting to reconcile job", "successfully reconciled job"
LEFT = "job not reconciled"  # a planned one that was left alone
FETCH_ROWS = 5_000  # rows held in memory at once
_UNPAIRED = ("proposed", "ambiguous", "unmatched", "excluded", "invalid")


def logbook(workspace: Workspace, environment: str, name: str = "hcp_jobs") -> Logbook:
    """The log of an environment: `.recon/logs/<environment>/hcp_jobs.log`."""
    return Logbook(path_of(workspace, environment, name))


class RunLog:
    """What a run of the whole way writes, step by step. Private columns are veiled, whoever runs it."""

    def __init__(self, database: Database, workspace: Workspace, spec: Reconciliation) -> None:
        self._database, self._spec = database, spec
        self.environment = environment_of(workspace, database)
        self._book = logbook(workspace, self.environment, spec.name)

    def started(self, mode: str, actor: str, **limits: object) -> None:
        about = {"reconciliation": self._spec.name, "environment": self.environment, "mode": mode, "actor": actor}
        self._book.say(STARTED, {**about, **limits})

    def matched(self, run: Run) -> None:
        """A line for each reservation that was not linked before, then for each job that no reservation has."""
        with self._database.session(read_only=True) as session:
            bound = bind(session, self._spec)
            for reservation, job, outcome, rule, reason, apart in _streamed(session, _decided(bound, run)):
                about = {"reservation": reservation}
                if outcome == "matched":
                    self._book.say(FOUND, {**about, "job": job, "pass": rule, "minutes": _minutes(apart)})
                else:
                    self._book.say(NOT_FOUND, {**about, "outcome": outcome, "job": job, "reason": reason})
            days = _days(run) if self._spec.source.date else {}
            for (job,) in _streamed(session, _alone(bound, run, list(days)), *days.values()):
                self._book.say(UNLINKED, {"job": job})

    def applying(self, plan: Plan) -> None:
        """A line for each job that is about to be linked; of a resumed plan, for those that are left."""
        for job, reservation, written in self._planned(plan):
            if not written:
                self._book.say(ATTEMPT, {"job": job, "reservation": reservation, "plan": plan.plan})

    def applied(self, plan: Plan, applied: Applied) -> None:
        """A line for each job that is linked now, and for each that was left alone."""
        for job, reservation, written in self._planned(plan) if applied.executed else ():
            level = logging.INFO if written else logging.WARNING
            about = {"job": job, "reservation": reservation, "plan": plan.plan}
            self._book.say(SUCCESS if written else LEFT, about, level)

    def _planned(self, plan: Plan) -> Iterator[tuple[Any, ...]]:
        with self._database.session(read_only=True) as session:
            yield from _streamed(session, _staged(plan))

    def ended(self, run: Run, written: int | None, code: int, short: tuple[str, ...]) -> None:
        """The closing summary; `written`: rows that were written, None where none were to be."""
        counts = {name: run.outcomes.get(name, 0) for name in ("linked", "matched", *_UNPAIRED)}
        self._book.say(ENDED, {
            "run": run.run, "reservations": run.population, "matched": counts["matched"],
            "unmatched": counts["unmatched"], "linked_before": counts["linked"], "proposed": counts["proposed"],
            "ambiguous": counts["ambiguous"], "excluded": counts["excluded"] or None, "written": written,
            "exit_code": code, "falls_short": " ".join(short) or None,
        })  # fmt: skip
        self._book.close()

    def failed(self, said: str) -> None:
        self._book.say(FAILED, {"reason": said}, logging.ERROR)
        self._book.close()


def _minutes(apart: timedelta | str | None) -> object:
    """How far apart two times are; a veil stays one."""
    if not isinstance(apart, timedelta):
        return apart
    minutes = round(Decimal(apart // timedelta(milliseconds=1)) / 60_000, 1).normalize()
    return f"{minutes:f}"


# -- what is asked ---------------------------------------------------------------------------------------


def _streamed(session: Session, query: exp.Select, *values: object) -> Iterator[tuple[Any, ...]]:
    with RawServerCursor[tuple[Any, ...]](session.driver, "lines") as cursor:
        cursor.itersize = FETCH_ROWS
        cursor.execute(query.sql(DIALECT).encode(), values)
        yield from cursor


def _key(bound: Bound, side: Side) -> exp.Expr:
    """A record's key as people see it."""
    parts = [exp.cast(column("d", name), "text") for name in bound.key_names(side)]
    return (
        parts[0] if len(parts) == 1 else exp.Anonymous(this="concat_ws", expressions=[exp.Literal.string(","), *parts])
    )


def _decided(bound: Bound, run: Run) -> exp.Select:
    """Every decision but of what was linked before: both keys, outcome, pass, reason in words, and the time between."""
    window = next((window for rule in bound.passes for window in rule.windows if window.family == "time"), None)
    apart = exp.cast(exp.Null(), "interval") if window is None else veiled(bound, window.distance())
    means = pairs.interpretation(bound)
    reason = exp.Anonymous(this="coalesce", expressions=[means, because(bound), column("d", "reason")])
    query = pairs.pairs(bound, run.run)
    query = query.select(
        _key(bound, "t"), _key(bound, "s"), column("d", "outcome"), column("d", "pass"), reason, apart, append=False
    )
    asked = [exp.Literal.string(word) for word in ("matched", *_UNPAIRED)]
    return query.where(exp.In(this=column("d", "outcome"), expressions=asked)).order_by(
        *[column("d", name) for name in bound.key_names("t")]
    )


def _alone(bound: Bound, run: Run, days: Sequence[str]) -> exp.Select:
    """The jobs that no reservation holds, and that the run gave to none; of a limited run those of its days.

    Args:
        days: which of `from` and `to` are bound to the query, in this order.
    """
    table = tables.own("decisions", run.run)
    table.set("alias", exp.TableAlias(this=identifier("d")))
    given = exp.Select(expressions=[exp.Literal.number(1)]).from_(table)
    given = given.where(exp.EQ(this=column("d", bound.key_names("s")[0]), expression=bound.source_keys[0]))
    query = exp.Select(expressions=[exp.cast(bound.source_keys[0], "text")]).from_(bound.source.aliased("s"))
    query = query.where(*bound.where("s"), exp.Not(this=pool.held(bound)), exp.Not(this=exp.Exists(this=given)))
    for number, word in enumerate(days, start=1):
        limit = exp.cast(exp.Parameter(this=exp.Literal.number(number)), "date")
        day = exp.cast(column("s", bound.spec.source.date or ""), "date")
        query = query.where((exp.GTE if word == "from" else exp.LTE)(this=day, expression=limit))
    return query.order_by(bound.source_keys[0])


def _days(run: Run) -> dict[str, str]:
    """The first and the last day of a limited run, where it has them."""
    limits = run.limited or {}
    return {word: str(limits[word]) for word in ("from", "to") if word in limits}


def _staged(plan: Plan) -> exp.Select:
    """The planned links: job, reservation, and whether the ledger says that the row was written."""
    staged, ledger = tables.own("staged", plan.plan), tables.own("ledger", plan.plan)
    staged.set("alias", exp.TableAlias(this=identifier("p")))
    ledger.set("alias", exp.TableAlias(this=identifier("l")))
    written = exp.Not(this=exp.Is(this=column("l", "place"), expression=exp.Null()))
    keys = [exp.cast(column("p", name), "text") for name in ("source_key", "target_key")]
    same = exp.EQ(this=column("l", "place"), expression=column("p", "place"))
    query = exp.Select(expressions=[*keys, written]).from_(staged).join(ledger, on=same, join_type="left")
    return query.order_by(column("p", "place"))


def log(database: Database, workspace: Workspace, spec: Reconciliation) -> RunLog:
    """The log of a run."""
    return RunLog(database, workspace, spec)
