"""How a mirror stands in one scope: a few figures, and what is not as it should be, by rules that stand here as data."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from sqlglot import exp

from recon.database import tables
from recon.database.connect import Database
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.mirror import follow_ups_kept, log
from recon.mirror.lookups import live_here
from recon.mirror.scan import ENDED, STATUS
from recon.names import DIALECT, column
from recon.spec import Reconciliation

Level = Literal["healthy", "degraded", "unhealthy"]
LEVELS: tuple[Level, ...] = ("healthy", "degraded", "unhealthy")
ACTIVE = ("pending", "confirmed", "checked_in")
INTERVALS = 2  # of the schedule: the source must have been read within so many


@dataclass(frozen=True)
class Rule:
    """One thing that may be wrong, how bad it is, and what it means."""

    code: str
    level: Level
    why: str


# The state of a scope is the worst of the rules that are broken; without any it is healthy.
RULES = (
    Rule("never_read", "unhealthy", "The source was never read, so nothing here can be trusted to be in step."),
    Rule("too_old", "unhealthy", "The source was not read for more than two intervals of the schedule: runs are not made, or fail."),
    Rule("held_back", "unhealthy", "More records are gone at the source than a run may cancel; a person must look whether they are."),
    Rule("overdue", "unhealthy", "A follow-up is late: a guest may stand at a door without a PIN, or one may still be open."),
    Rule("follow_up_failed", "unhealthy", "A follow-up went wrong as often as it is tried, and is not done."),
    Rule("last_failed", "degraded", "The last run failed here; the next one tries again."),
    Rule("last_partial", "degraded", "The last run could not do all: single records, or the source's list, went wrong."),
    Rule("import_issues", "degraded", "Records of the source cannot be taken; they are skipped until somebody mends the cause."),
    Rule("waiting_plan", "degraded", "A plan waits for a reviewer, so changes are not written."),
    Rule("suspects", "degraded", "Live records are not in the source's list; the next run looks them up."),
    Rule("silent", "degraded", "No event came from the source in the time in which one is expected; only the schedule keeps us in step."),
    Rule("failed_events", "degraded", "Events went wrong as often as they are tried, and were put aside."),
)  # fmt: skip
_RULES = {rule.code: rule for rule in RULES}


@dataclass(frozen=True)
class Issue:
    """A rule that is broken: what is the case, in figures."""

    rule: Rule
    what: str


@dataclass(frozen=True)
class Metrics:
    """Figures of a scope.

    Args:
        active: live records (pending, confirmed, checked in), those without a source too.
        orphans: live records that have a source whose last list lacks them.
        today: records whose check-in is today (UTC) and that are not cancelled.
        issues: open import issues.
    """

    active: int
    orphans: int
    today: int
    issues: int


@dataclass(frozen=True)
class Health:
    """How a scope stands."""

    metrics: Metrics
    issues: tuple[Issue, ...]

    @property
    def status(self) -> Level:
        """The worst of its issues.

        >>> Health(Metrics(0, 0, 0, 0), ()).status
        'healthy'
        """
        broken = [LEVELS.index(issue.rule.level) for issue in self.issues]
        return LEVELS[max(broken, default=0)]


def look(
    database: Database,
    spec: Reconciliation,
    scope: str,
    *,
    now: datetime,
    interval: timedelta | None,
    origin: str,
    silent: str | None,
) -> Health:
    """How a scope of a mirror stands; nothing is written, and the source is not asked.

    Args:
        scope: as the server writes it.
        now: the time, with a zone.
        interval: between two ticks of the schedule; None: the mirror has none, and is never too old.
        origin: the name by which the source sends events.
        silent: why its silence is an alarm; None: it is none.

    Raises:
        SchemaMismatch: a table is missing.
    """
    tables.ensure(database)
    with database.session(read_only=True) as session:
        bound = bind(session, spec)
        active, today = session.rows(_counts(bound).sql(DIALECT), scope, now.astimezone(UTC).date())[0]
        read_at = session.value(_READ, spec.name, scope)
        suspects = session.value(_suspects(bound).sql(DIALECT), scope) if read_at else 0
        place = spec.source.keys.index(spec.scope or "") + 1
        kept = session.records(_KEPT, spec.name, scope, place, origin, now)[0]
    jobs = follow_ups_kept.statistics(database, spec, now, scope).values()
    overdue, undone = (sum(job[state] for job in jobs) for state in ("overdue", "failed"))
    metrics = Metrics(active, suspects, today, kept["issues"])
    told = [
        *_of_runs(database, spec, scope, now, interval, read_at),
        *_several("import_issues", kept["issues"], "import issue", "open"),
        *_several("waiting_plan", kept["plans"], "plan", "waiting for a reviewer"),
        *_several("suspects", suspects, "live record", "not in the source's list"),
        *_several("overdue", overdue, "follow-up", "more than an hour late"),
        *_several("follow_up_failed", undone, "follow-up", "failed"),
        *_several("failed_events", kept["events"], "webhook event", "failed"),
        *([Issue(_RULES["silent"], silent)] if silent else []),
    ]
    return Health(metrics, tuple(sorted(told, key=lambda issue: -LEVELS.index(issue.rule.level))))


def _several(code: str, count: int, what: str, how: str) -> list[Issue]:
    return [Issue(_RULES[code], f"{count:,} {what}{'' if count == 1 else 's'} {how}")] if count else []


def _of_runs(
    database: Database,
    spec: Reconciliation,
    scope: str,
    now: datetime,
    interval: timedelta | None,
    read_at: datetime | None,
) -> list[Issue]:
    """What the last run, and the time since the source was read, say."""
    found: list[Issue] = []
    if read_at is None:
        found.append(Issue(_RULES["never_read"], "the source was never read to its end"))
    elif interval is not None and now - read_at > INTERVALS * interval:
        minutes = int((now - read_at).total_seconds() // 60)
        found.append(Issue(_RULES["too_old"], f"the source was read {minutes:,} minutes ago"))
    last = log.last_of(database, spec.name, scope)
    if last is None:
        return found
    part = next((part for part in last["parts"] or [] if part["scope"] == scope), None)
    failed = part["failed"] if part else None
    if failed:
        found.append(Issue(_RULES["last_failed"], f"run {last['id']} failed: {failed}"))
    elif part is None and (last["error"] or last["status"] == log.FAILED):
        # Why is for whoever runs it: it may be about another scope, or tell where the database is.
        found.append(Issue(_RULES["last_failed"], f"run {last['id']} ended before it was done with this one"))
    elif part is not None and part["errors"]:
        first = part["messages"][0]["error"] if part["messages"] else ""
        found.append(Issue(_RULES["last_partial"], f"run {last['id']} counted {part['errors']:,} errors: {first}"))
    if part is not None:
        found += _several("held_back", part["held_back"], "record", "gone at the source, held back")
    return found


# -- what is asked of the database -----------------------------------------------------------------------


def _of_scope(bound: Bound) -> exp.Expr:
    assert bound.spec.scope is not None
    wanted = exp.cast(exp.Parameter(this=exp.Literal.number(1)), bound.target.type_of(bound.spec.scope))
    return exp.EQ(this=column("t", bound.spec.scope), expression=wanted)


def _counts(bound: Bound) -> exp.Select:
    """Live records, and those that begin on the day $2, of the scope $1; also those that have no source."""
    status = column("t", STATUS)
    live = exp.In(this=status, expressions=[exp.Literal.string(word) for word in ACTIVE])
    day = exp.cast(column("t", bound.spec.target.date or STATUS), "date")
    today = exp.and_(
        exp.EQ(this=day, expression=exp.cast(exp.Parameter(this=exp.Literal.number(2)), "date")),
        exp.NEQ(this=status.copy(), expression=exp.Literal.string(ENDED)),
    )
    return (
        exp.Select(expressions=[_counted(live), _counted(today)])
        .from_(bound.target.aliased("t"))
        .where(_of_scope(bound))
    )


def _counted(condition: exp.Expr) -> exp.Expr:
    return exp.Filter(this=exp.Count(this=exp.Star()), expression=exp.Where(this=condition))


def _suspects(bound: Bound) -> exp.Select:
    """How many live records of the scope $1 have no record in the source's list."""
    there = (
        exp.Select(expressions=[exp.Literal.number(1)])
        .from_(bound.source.aliased("s"))
        .where(*bound.passes[0].equalities(), *bound.where("s"))
    )
    return (
        exp.Select(expressions=[exp.Count(this=exp.Star())])
        .from_(bound.target.aliased("t"))
        .where(*bound.where("t"), _of_scope(bound), *live_here(bound), exp.Not(this=exp.Exists(this=there)))
    )


# By our clock; the other is by the source's.
_READ = "SELECT coalesce(listed_at, changed_until) FROM recon.sync_marks WHERE reconciliation = $1 AND scope = $2"
_KEPT = """
    SELECT
        (SELECT count(*) FROM recon.import_issues
            WHERE reconciliation = $1 AND state = 'open' AND source_key[$3::int] = $2) AS issues,
        (SELECT count(*) FROM recon.plans
            WHERE reconciliation = $1 AND state = 'planned' AND expires_at > $5::timestamptz
                AND (document::jsonb -> 'run_limited' ->> 'scope') IS NOT DISTINCT FROM $2) AS plans,
        (SELECT count(*) FROM recon.webhook_events
            WHERE origin = $4 AND scope = $2 AND state = 'failed') AS events
"""
