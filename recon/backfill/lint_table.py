"""What a reviewer should know of the table that a plan writes: warnings, from the database as it is now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from recon.backfill.bundle import MANIFEST
from recon.backfill.lint import Finding, Rule
from recon.database.connect import Session

LARGE_SHARE = 0.5  # of the table's rows: past it a plan is a rewrite, and its rules deserve a second look
WHERE = "database"


@dataclass(frozen=True)
class Planned:
    """A plan.json beside the database that it is for."""

    document: dict[str, Any]
    session: Session

    @property
    def columns(self) -> list[str]:
        return list(self.document["target"]["columns"])

    def rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of a query of which $1 and $2 are the target's schema and table."""
        target = self.document["target"]
        return self.session.rows(_TABLE + query, target["schema"], target["table"], *values)

    def names(self, query: str, *values: object) -> str:
        return ", ".join(str(row[0]) for row in self.rows(query, *values))


# The table that is written, in front of each query.
_TABLE = """
    WITH target AS (
        SELECT class.* FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = class.relnamespace
        WHERE nspname = $1 AND relname = $2
    )
"""
_TRIGGERS = "SELECT tgname FROM pg_trigger JOIN target ON tgrelid = target.oid WHERE NOT tgisinternal AND tgenabled <> 'D' ORDER BY 1"
_RULES = "SELECT rulename FROM pg_rewrite JOIN target ON ev_class = target.oid WHERE ev_enabled <> 'D' ORDER BY 1"
_GENERATED = """
    SELECT attname FROM pg_attribute JOIN target ON attrelid = target.oid
    WHERE attgenerated <> '' AND NOT attisdropped ORDER BY attnum
"""
# $3: the written columns, $4: whether a revert may delete rows. Of what follows a change, c, n and d change other rows.
_CASCADES = """
    SELECT conrelid::regclass::text FROM pg_constraint JOIN target ON confrelid = target.oid
    WHERE contype = 'f' AND (
        $4::bool AND confdeltype IN ('c', 'n', 'd')
        OR confupdtype IN ('c', 'n', 'd') AND EXISTS (
            SELECT FROM pg_attribute
            WHERE attrelid = confrelid AND attnum = ANY(confkey) AND attname = ANY($3::text[])
        )
    ) ORDER BY 1
"""
_LINK_INDEX = """
    SELECT 1 FROM pg_index JOIN target ON indrelid = target.oid
    JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0] WHERE attname = $3 AND indpred IS NULL
"""


def _triggers(plan: Planned) -> Iterator[str]:
    if names := plan.names(_TRIGGERS):
        yield f"has triggers that run with each change: {names}"


def _row_security(plan: Planned) -> Iterator[str]:
    if plan.rows("SELECT 1 FROM target WHERE relrowsecurity"):
        yield "has row level security: who applies may see fewer rows than were planned"


def _generated(plan: Planned) -> Iterator[str]:
    if names := plan.names(_GENERATED):
        yield f"computes columns anew with each change: {names}"


def _rules(plan: Planned) -> Iterator[str]:
    if names := plan.names(_RULES):
        yield f"has rules that rewrite statements: {names}"


def _cascades(plan: Planned) -> Iterator[str]:
    if names := plan.names(_CASCADES, plan.columns, bool(plan.document["actions"].get("insert"))):
        yield f"is referred to by foreign keys that change other rows with it: {names}"


def _partitioned(plan: Planned) -> Iterator[str]:
    if plan.rows("SELECT 1 FROM target WHERE relkind = 'p' OR relispartition"):
        yield "is partitioned: a changed key may move a row"


def _link_index(plan: Planned) -> Iterator[str]:
    linked = plan.document["actions"].get("link") and plan.document.get("cardinality") == "one_to_one"
    if linked and not plan.rows(_LINK_INDEX, plan.columns[0]):
        yield f'has no index on "{plan.columns[0]}", by which taken sources are looked for'


def _statistics(plan: Planned) -> Iterator[str]:
    if plan.rows("SELECT 1 FROM target WHERE reltuples < 0 AND relkind = 'r'"):
        yield "has no statistics: its batches may be planned badly"


def _large_share(plan: Planned) -> Iterator[str]:
    for (rows,) in plan.rows("SELECT reltuples::bigint FROM target WHERE reltuples > 0"):
        share = plan.document["rows"] / rows
        if share > LARGE_SHARE:
            yield f"would change in {min(share, 1):.0%} of its rows"


def _tolerance(plan: Planned) -> Iterator[str]:
    if (rows := int(plan.document["tolerance_rows"])) > 0:
        yield f"tolerates that up to {rows:,} rows drifted; these would be left alone"


def _by_name(plan: Planned) -> Iterator[str]:
    if plan.document["policy"].get("recorded_by_name"):
        yield "accepts approvals by name: a record of who said yes, not a proof"


_LOOK = "Read what they do before you sign."

WARNINGS: tuple[Rule[Planned], ...] = (
    Rule("triggers", (WHERE,), "warn", _triggers, _LOOK),
    Rule("row security", (WHERE,), "warn", _row_security, "Apply with a role that sees every row."),
    Rule("generated columns", (WHERE,), "warn", _generated, _LOOK),
    Rule("rules", (WHERE,), "warn", _rules, _LOOK),
    Rule("cascades", (WHERE,), "warn", _cascades, "Look at the other tables before you sign."),
    Rule("partitioned", (WHERE,), "warn", _partitioned, "Look whether a written column is in the partition key."),
    Rule("link index", (WHERE,), "warn", _link_index, "Create an index on it, and make the plan again."),
    Rule("statistics", (WHERE,), "warn", _statistics, "Run ANALYZE on it."),
    Rule("large share", (WHERE,), "warn", _large_share, "Look at more rows than the ten of each pass."),
    Rule("tolerance", (MANIFEST,), "warn", _tolerance, "Set tolerance_rows = 0 in recon.toml, or agree to it."),
    Rule("by name", (MANIFEST,), "warn", _by_name, "Set recorded_by_name = false in recon.toml to ask for signatures."),
)


def of_table(session: Session, document: dict[str, Any]) -> list[Finding]:
    """What a reviewer should know of the table of a plan, by its plan.json; nothing where the table is gone."""
    plan = Planned(document, session)
    if not plan.rows("SELECT 1 FROM target"):
        return []
    return [
        Finding(rule.name, rule.where[0], rule.severity, what, rule.todo)
        for rule in WARNINGS
        for what in rule.check(plan)
    ]
