"""What became of the records that events tell of: brought in by a run of the mirror, or gone, in words for each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlglot import exp

from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import visible
from recon.matching.bind import bind
from recon.mirror import sync
from recon.mirror.asking import Asked
from recon.mirror.parts import Part, Wish
from recon.names import DIALECT, column, identifier
from recon.outside.interface import Record
from recon.sources.hooks import MirrorHook
from recon.spec import Reconciliation
from recon.workspace import Workspace

PENDING, SUCCESS, SKIPPED, FAILED = "pending", "success", "skipped", "failed"
Key = tuple[str, ...]


@dataclass(frozen=True)
class Came:
    """What came of a record, and so of the events that tell of it.

    Args:
        state: of the event from now on.
        said: the same in words.
        wrong: whether it went wrong, and is tried again where it is pending.
        counts: whether it was an attempt at all.
        parks: whether the event is given up after the last attempt.
    """

    state: str
    said: str
    wrong: bool = False
    counts: bool = True
    parks: bool = True


def wrong(why: str, *, parks: bool = True) -> Came:
    """It went wrong, and is to be tried again."""
    return Came(PENDING, visible(why.strip().rstrip(".")), wrong=True, parks=parks)


def gone(hook: MirrorHook, record: str, held: bool) -> Came:
    label = f"{hook.record} {record}"
    if held:
        return Came(SUCCESS, f"{label} is no longer at the source: the next run looks once more, and then cancels it")
    return Came(SKIPPED, f"{label} is not at the source, and never came from it")


def brought_in(
    database: Database,
    workspace: Workspace,
    spec: Reconciliation,
    hook: MirrorHook,
    scope: str,
    asked: Asked,
    found: Mapping[str, Record],
    now: datetime,
) -> dict[str | None, Came]:
    wish = Wish(
        scopes=[scope],
        cause="event",
        fetches=False,
        cancels=False,
        records=lambda _feed, _scope: asked.pages,
        suite=False,
    )
    part = sync.sync(database, workspace, spec.name, wish, now=now).parts[0]
    if part.failed is not None or part.run is None:
        return dict.fromkeys(found, wrong(part.failed or "the run came to no end"))
    keys = {record: tuple(str(one[name]) for name in spec.source.keys) for record, one in found.items()}
    with database.session(read_only=True) as session:
        decided = _decided(session, spec, part.run, hook.column, found)
        issues = _issues(session, spec, set(keys.values()))
    return {record: _became(hook, record, part, decided.get(key), issues.get(key)) for record, key in keys.items()}


def _became(hook: MirrorHook, record: str, part: Part, outcome: str | None, issues: Sequence[str] | None) -> Came:
    """What the mirror's run made of a record."""
    label = f"{hook.record} {record}"
    if issues:
        called = [hook.issues.get(issue, "not valid") for issue in issues]
        return Came(SKIPPED, f"{'; '.join(dict.fromkeys(called))} (import issue: {', '.join(issues)})")
    if outcome == "same":
        return Came(SUCCESS, f"{label} is here as the source has it{f' (plan {part.plan})' if part.plan else ''}")
    if outcome not in ("changed", "missing"):
        return Came(SKIPPED, f"{label} is {outcome}" if outcome else f"{label} is left out by the rules")
    if part.awaits:
        return Came(SKIPPED, part.awaits)
    return wrong("; ".join(item["error"] for item in part.errors[:3]) or f"{label} was left as it was")


def _decided(
    session: Session, spec: Reconciliation, run: str, name: str, records: Mapping[str, Record]
) -> dict[Key, str]:
    """What a run decided about source records, by key."""
    names = bind(session, spec).key_names("s")
    own = tables.own("decisions", run)
    own.set("alias", exp.TableAlias(this=identifier("d")))
    listed = [exp.cast(column("d", each), "text") for each in names]
    mine = exp.EQ(
        this=exp.cast(column("d", names[spec.source.keys.index(name)]), "text"),
        expression=exp.Any(this=exp.paren(exp.cast(exp.Parameter(this=exp.Literal.number(1)), "text[]"))),
    )
    query = exp.Select(expressions=[column("d", "outcome"), *listed]).from_(own).where(mine)
    ids = sorted({str(one[name]) for one in records.values()})
    return {tuple(row[1:]): str(row[0]) for row in session.rows(query.sql(DIALECT), ids)}


def _issues(session: Session, spec: Reconciliation, keys: set[Key]) -> dict[Key, list[str]]:
    """The open import issues of source records."""
    texts = [json.dumps(key) for key in keys]
    return {tuple(row[0]): list(row[1]) for row in session.rows(_ISSUES, spec.name, texts)}


_ISSUES = """
    SELECT source_key, array_agg(issue ORDER BY issue) FROM recon.import_issues
    WHERE reconciliation = $1 AND state = 'open' AND to_jsonb(source_key) = ANY ($2::jsonb[]) GROUP BY source_key
"""
