"""What stands in recon's own tables beside what the audit log says of it: states, documents, approvals, ledgers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from recon.backfill.states import MOVES
from recon.database import tables
from recon.database.connect import Session
from recon.names import DIALECT

Add = Callable[[str, str, int | None, str | None], None]  # kind, what it says, entry, plan

# In all of these $1 is one plan, or NULL for all of them.

_STATES = """
    WITH last AS (
        SELECT plan, max(entry) AS entry FROM recon.audit_log
        WHERE event = 'move' AND ($1::text IS NULL OR plan = $1) GROUP BY plan
    )
    SELECT plans.plan, plans.state, log.to_state, log.entry
    FROM recon.plans LEFT JOIN last USING (plan) LEFT JOIN recon.audit_log AS log ON log.entry = last.entry
    WHERE ($1 IS NULL OR plans.plan = $1) AND plans.state IS DISTINCT FROM log.to_state ORDER BY plans.plan
"""
_MOVES = """
    SELECT entry, plan, before, from_state, to_state FROM (
        SELECT entry, plan, from_state, to_state, lag(to_state) OVER (PARTITION BY plan ORDER BY entry) AS before
        FROM recon.audit_log WHERE event = 'move' AND ($1::text IS NULL OR plan = $1)
    ) AS moves
    WHERE from_state IS DISTINCT FROM before OR CASE WHEN from_state IS NULL THEN to_state IS DISTINCT FROM 'planned'
    ELSE NOT EXISTS (
        SELECT FROM unnest($2::text[], $3::text[]) AS legal (origin, destination)
        WHERE origin = from_state AND destination = to_state
    ) END
    ORDER BY entry
"""
_DOCUMENTS = """
    SELECT plans.plan, encode(sha256(convert_to(document, 'UTF8')), 'hex') <> digest AS rewritten, log.entry
    FROM recon.plans LEFT JOIN recon.audit_log AS log
        ON log.plan = plans.plan AND log.event = 'move' AND log.from_state IS NULL
        AND log.detail->>'digest' <> plans.digest
    WHERE ($1::text IS NULL OR plans.plan = $1)
      AND (log.entry IS NOT NULL OR encode(sha256(convert_to(document, 'UTF8')), 'hex') <> digest)
    ORDER BY plans.plan
"""
# What the database keeps of a plan beside its document, in the order of _SAID_OF_PLAN.
_COLUMNS = """
    SELECT plan, document, plan, reconciliation, run, author, row_count,
        to_char(created_at, 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"'), to_char(expires_at, 'YYYY-MM-DD"T"HH24:MI:SS"+00:00"')
    FROM recon.plans WHERE $1::text IS NULL OR plan = $1 ORDER BY plan
"""
_SAID_OF_PLAN = ("plan", "reconciliation", "run", "author", "rows", "created", "expires")
# An approval is in the log as an entry of its own, or by name in the move that it led to. Plans of format 1 are older
# than the chain: not every approval of theirs was logged. Names are one person's whatever their case and white space.
_UNLOGGED_APPROVALS = """
    SELECT approvals.plan, approvals.approver FROM recon.approvals JOIN recon.plans USING (plan)
    WHERE ($1::text IS NULL OR approvals.plan = $1)
      AND substring(plans.document FROM '"format":([0-9]+)') IS DISTINCT FROM '1'
      AND NOT EXISTS (
        SELECT FROM recon.audit_log AS log
        WHERE log.plan = approvals.plan AND coalesce(log.detail->>'digest', approvals.digest) = approvals.digest
          AND (log.event = 'approval' AND NOT log.detail ?| '{withdrawn,refused}'
                 AND lower(regexp_replace(log.actor, '[[:space:]]', '', 'g'))
                   = lower(regexp_replace(approvals.approver, '[[:space:]]', '', 'g'))
               OR log.event = 'move' AND log.to_state = 'approved' AND log.detail->'approvers' ? approvals.approver)
      )
    ORDER BY approvals.plan, approvals.approver
"""
# What the log said last of each person's approval of a plan, beside what stands.
_OTHER_APPROVALS = """
    WITH said AS (
        SELECT DISTINCT ON (plan, person) plan, person, actor, entry, detail ? 'withdrawn' AS withdrawn
        FROM recon.audit_log, lower(regexp_replace(actor, '[[:space:]]', '', 'g')) AS person
        WHERE event = 'approval' AND NOT detail ? 'refused' AND ($1::text IS NULL OR plan = $1)
        ORDER BY plan, person, entry DESC
    ),
    standing AS (
        SELECT plan, lower(regexp_replace(approver, '[[:space:]]', '', 'g')) AS person,
            to_jsonb(approvals)->>'withdrawn_at' IS NOT NULL AS withdrawn
        FROM recon.approvals
    )
    SELECT said.plan, said.actor, said.entry, standing.withdrawn
    FROM said LEFT JOIN standing ON standing.plan = said.plan AND standing.person = said.person
    WHERE standing.withdrawn IS NULL AND NOT said.withdrawn OR standing.withdrawn <> said.withdrawn ORDER BY said.entry
"""
# How each person's approval was given by the last entry that tells it, beside what stands.
_REWRITTEN_APPROVALS = """
    WITH said AS (
        SELECT DISTINCT ON (plan, person) plan, person, entry, detail
        FROM recon.audit_log, lower(regexp_replace(actor, '[[:space:]]', '', 'g')) AS person
        WHERE event = 'approval' AND detail ? 'method' AND NOT detail ? 'refused' AND ($1::text IS NULL OR plan = $1)
        ORDER BY plan, person, entry DESC
    )
    SELECT said.plan, approvals.approver, said.entry
    FROM said JOIN recon.approvals ON approvals.plan = said.plan
        AND lower(regexp_replace(approvals.approver, '[[:space:]]', '', 'g')) = said.person
    WHERE said.detail->>'method' <> approvals.method OR said.detail->>'key' IS DISTINCT FROM approvals.key
    ORDER BY said.entry
"""
# The detail of an entry about a standing sign-off holds its id.
_STANDING = """
    WITH said AS (
        SELECT entry, event, actor, detail, detail->>'standing' AS id FROM recon.audit_log
        WHERE event IN ('standing given', 'standing withdrawn')
    ),
    found AS (
        SELECT coalesce(standing.id, given.id) AS id, coalesce(withdrawn.entry, given.entry) AS entry,
            CASE
                WHEN given.entry IS NULL THEN 'the log does not say that anybody gave it'
                WHEN standing.id IS NULL THEN 'it is gone, and the log says that it was given'
                WHEN given.detail ? 'digest' AND (
                    given.detail->>'digest' <> encode(sha256(convert_to(standing.document, 'UTF8')), 'hex')
                    OR (given.detail->>'digest', given.detail->>'method', given.actor)
                        IS DISTINCT FROM (standing.digest, standing.method, standing.given_by)
                    OR given.detail->>'key' IS DISTINCT FROM standing.key
                ) THEN 'it is not as it was given'
                WHEN standing.withdrawn_at IS NULL AND withdrawn.entry IS NOT NULL
                    THEN 'it stands although the log says that it was withdrawn'
                WHEN standing.withdrawn_at IS NOT NULL AND withdrawn.entry IS NULL
                    THEN 'it is withdrawn, and the log does not say by whom'
            END AS says
        FROM (SELECT * FROM said WHERE event = 'standing given') AS given
        FULL JOIN recon.standing_sign_offs AS standing ON standing.id = given.id
        LEFT JOIN said AS withdrawn
            ON withdrawn.id = coalesce(standing.id, given.id) AND withdrawn.event = 'standing withdrawn'
    )
    SELECT id, entry, says FROM found WHERE says IS NOT NULL ORDER BY id, entry
"""
# Who signed a report is in the log too; the detail of that entry holds the report's id.
_REPORTS = """
    WITH said AS (
        SELECT detail->>'report' AS id, max(entry) AS entry FROM recon.audit_log WHERE event = 'report signed' GROUP BY 1
    ),
    found AS (
        SELECT coalesce(report.id, said.id) AS id, said.entry,
            CASE
                WHEN said.entry IS NULL THEN 'the log does not say that anybody signed it'
                WHEN report.id IS NULL THEN 'the log says that it was signed, and it is not'
                WHEN (log.detail->>'digest', log.detail->>'key', log.actor)
                    IS DISTINCT FROM (report.digest, report.key, report.signed_by) THEN 'it is not as it was signed'
            END AS says
        FROM (SELECT * FROM recon.notebook_runs WHERE signed_by IS NOT NULL) AS report
        FULL JOIN said USING (id) LEFT JOIN recon.audit_log AS log ON log.entry = said.entry
    )
    SELECT id, entry, says FROM found WHERE says IS NOT NULL ORDER BY id
"""
_WRITTEN = """
    WITH batch AS (
        SELECT plan, sum(changed)::bigint AS changed FROM recon.batches WHERE $1::text IS NULL OR plan = $1 GROUP BY plan
    ),
    last AS (
        SELECT plan,
            max(entry) FILTER (WHERE to_state = 'applied') AS applied,
            max(entry) FILTER (WHERE to_state IN ('reverted', 'reverted_with_conflicts')) AS reverted,
            count(*) FILTER (WHERE to_state = 'reverting') AS reverting
        FROM recon.audit_log WHERE event = 'move' AND ($1 IS NULL OR plan = $1) GROUP BY plan
    )
    SELECT plans.plan, coalesce(batch.changed, 0), last.applied, applied.detail->'changed',
        last.reverted, reverted.detail->'restored', coalesce(last.reverting, 0) > 0
    FROM recon.plans LEFT JOIN batch USING (plan) LEFT JOIN last USING (plan)
    LEFT JOIN recon.audit_log AS applied ON applied.entry = last.applied
    LEFT JOIN recon.audit_log AS reverted ON reverted.entry = last.reverted
    WHERE ($1 IS NULL OR plans.plan = $1) AND substring(plans.document FROM '"format":([0-9]+)') IS DISTINCT FROM '1'
    ORDER BY plans.plan
"""
_LEDGERS = """
    SELECT relname::text FROM pg_class
    WHERE relnamespace = 'recon'::regnamespace AND relkind = 'r' AND starts_with(relname, 'ledger_')
"""


@dataclass(frozen=True)
class _Written:
    """What is known of the rows that a plan wrote, from the log and from its batches."""

    plan: str
    batches: int
    applied: int | None  # the entry
    changed: Any
    reverted: int | None  # the entry
    restored: Any
    reverting: bool


def compare(session: Session, plan: str | None, add: Add) -> dict[str, int]:
    """Compare what stands with the log; what was compared, and how many of it.

    Args:
        session: a transaction that sees one moment.
        plan: this one only; None: all.
        add: called for each thing that does not agree.
    """
    for name, state, last, entry in session.rows(_STATES, plan):
        said = f"by the log it is {last}" if last else "the log knows no move of it"
        add("state", f"the plan is {state}, {said}", entry, name)
    origins, ends = [move.origin for move in MOVES], [move.to for move in MOVES]
    for entry, name, before, origin, to in session.rows(_MOVES, plan, origins, ends):
        after = f"after it was {before}" if before else "as the first"
        add("move", f"a move from {origin} to {to} {after}: recon makes no such move", entry, name)
    for name, rewritten, entry in session.rows(_DOCUMENTS, plan):
        says = (
            "its document is not the one of its digest" if rewritten else "its digest is not the one it was made with"
        )
        add("document", says, entry, name)
    for name, document, *columns in session.rows(_COLUMNS, plan):
        if others := _other_columns(document, columns):
            add("document", f"the database keeps of it otherwise than its document: {', '.join(others)}", None, name)
    _approvals(session, plan, add)
    for identity, entry, why in session.rows(_REPORTS):
        add("signed report", f"{identity}: {why}", entry, None)
    return {
        "plans": session.value("SELECT count(*) FROM recon.plans WHERE $1::text IS NULL OR plan = $1", plan),
        "approvals": session.value("SELECT count(*) FROM recon.approvals WHERE $1::text IS NULL OR plan = $1", plan),
        "standing sign-offs": session.value("SELECT count(*) FROM recon.standing_sign_offs"),
        "signed reports": session.value("SELECT count(signed_by) FROM recon.notebook_runs"),
        "written rows": _written(session, plan, add),
    }


def _other_columns(text: str, columns: Sequence[object]) -> list[str]:
    """What a plan's document says otherwise; one that cannot be read, or is older and does not say it, says nothing."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not isinstance(document, dict):
        return []
    said = cast("dict[str, object]", document)
    return [name for name, kept in zip(_SAID_OF_PLAN, columns, strict=True) if name in said and said[name] != kept]


def _approvals(session: Session, plan: str | None, add: Add) -> None:
    for name, approver in session.rows(_UNLOGGED_APPROVALS, plan):
        add("approval", f"the log does not say that {approver} approved this digest", None, name)
    for name, actor, entry, withdrawn in session.rows(_OTHER_APPROVALS, plan):
        says = {None: "is gone", True: "is withdrawn, and the log does not say so", False: "was withdrawn, and stands"}
        add("approval", f"the approval of {actor} {says[withdrawn]}", entry, name)
    for name, approver, entry in session.rows(_REWRITTEN_APPROVALS, plan):
        add("approval", f"the approval of {approver} was not given as it stands", entry, name)
    for identity, entry, why in session.rows(_STANDING):
        add("standing sign-off", f"{identity}: {why}", entry, None)


def _written(session: Session, plan: str | None, add: Add) -> int:
    """Compare ledgers, batches and what the log says was changed; how many rows the ledgers hold."""
    ledgers = {row[0] for row in session.rows(_LEDGERS)}
    total = 0
    for row in session.rows(_WRITTEN, plan):
        known = _Written(*row)
        own = tables.own("ledger", known.plan)
        if own.name not in ledgers:
            if known.batches or known.changed:
                add("ledger", "its ledger is gone", known.applied, known.plan)
            continue
        rows, restored = session.rows(f"SELECT count(*), count(reverted_at) FROM {own.sql(DIALECT)}")[0]  # noqa: S608 (own)
        total += rows
        _counts(known, rows, restored, add)
    return total


def _counts(known: _Written, rows: int, restored: int, add: Add) -> None:
    if rows != known.batches:
        says = f"its ledger holds {rows:,} rows, its batches changed {known.batches:,}"
        add("ledger", says, known.applied, known.plan)
    if known.applied is not None and known.changed != known.batches:
        says = f"its batches changed {known.batches:,} rows, the log says {known.changed}"
        add("ledger", says, known.applied, known.plan)
    if known.reverted is not None and known.restored != restored:
        says = f"its ledger says {restored:,} rows restored, the log says {known.restored}"
        add("ledger", says, known.reverted, known.plan)
    if restored and not known.reverting:
        says = f"its ledger says {restored:,} rows restored, and the log knows no revert"
        add("ledger", says, known.applied, known.plan)
