"""What came between since a plan was made: decisions of people, and other targets that took its sources.

A planned row that a standing decision contradicts is never written, nor a link to a source that another target holds
where each goes to one target only.
"""

from __future__ import annotations

from recon.backfill import executor
from recon.backfill.change import Shape
from recon.backfill.plan import Plan
from recon.database import tables
from recon.database.connect import Session
from recon.errors import Stale
from recon.names import DIALECT, quote
from recon.spec import OVERRIDE

SHOWN_ROWS = 5  # of those that are contradicted, in an error

# $1 the reconciliation, $2 whether a source goes to one target only, $3 the name of people's pass. What is filled in are
# names of the plan's own table.
_CONTRADICTED = """
    WITH planned AS (
        SELECT {columns}, ARRAY[{texts}] AS target_key_text, ARRAY[source_key::text] AS source_key_text, pass FROM {staged}
    ),
    standing AS (SELECT * FROM recon.overrides WHERE reconciliation = $1 AND undone_at IS NULL),
    found AS (
        SELECT {planned}, 'somebody decided otherwise (' || kind || ', ' || author || ')' AS why
        FROM planned JOIN standing ON standing.target_key = target_key_text
        WHERE CASE kind
            WHEN 'exclude' THEN true
            WHEN 'forbid' THEN standing.source_key = source_key_text
            ELSE standing.source_key <> source_key_text
        END
        UNION ALL
        SELECT {planned}, 'somebody decided otherwise about its source (' || kind || ', ' || author || ')'
        FROM planned JOIN standing ON standing.source_key = source_key_text
        WHERE kind = 'exclude' OR $2 AND kind = 'link' AND standing.target_key <> target_key_text
        UNION ALL
        SELECT {planned}, 'the decision that it came from was taken back'
        FROM planned LEFT JOIN standing
            ON kind = 'link' AND standing.target_key = target_key_text AND standing.source_key = source_key_text
        WHERE pass = $3 AND kind IS NULL
    )
    SELECT count(*) OVER (), why, {columns} FROM found ORDER BY {columns} LIMIT $4::int
"""


def agree(session: Session, plan: Plan) -> None:
    """Refuse a plan that decisions of people contradict.

    Raises:
        Stale: names the first rows, and what was decided.
    """
    names = Shape.of_document(plan.document).key_names
    rows = session.rows(
        _CONTRADICTED.format(
            columns=", ".join(quote(name) for name in names),
            planned=", ".join(f"planned.{quote(name)}" for name in names),
            texts=", ".join(f"{quote(name)}::text" for name in names),
            staged=tables.own("staged", plan.plan).sql(DIALECT),
        ),
        plan.reconciliation,
        plan.document.get("cardinality") == "one_to_one",
        OVERRIDE,
        SHOWN_ROWS,
    )
    if not rows:
        return
    count = rows[0][0]
    listed = "; ".join(f"{executor.shown(row[2:])}: {row[1]}" for row in rows)
    more = f"; and {count - len(rows)} more" if count > len(rows) else ""
    raise Stale(
        f"People decided otherwise about {count} of {plan.rows} rows since plan {plan.plan} was made.",
        why=f"{listed}{more}.",
        todo=f"Run `recon match {plan.reconciliation}` and `recon plan {plan.reconciliation}` again.",
    )


# Names of the plan's own table and of the written one are filled in.
_HELD = """
    SELECT count(*) OVER (), {planned} FROM {staged} AS planned
    JOIN {table} AS holder ON holder.{link}::text COLLATE "C" = planned.source_key::text COLLATE "C"
    WHERE ROW({held}) IS DISTINCT FROM ROW({planned}) ORDER BY {planned} LIMIT $1::int
"""


def sources_free(session: Session, plan: Plan) -> None:
    """Refuse a one_to_one plan where another target holds a planned source meanwhile.

    Raises:
        Stale: names the first rows.
    """
    if plan.document.get("cardinality") != "one_to_one":
        return
    target = plan.document["target"]
    names = Shape.of_document(plan.document).key_names
    rows = session.rows(
        _HELD.format(
            planned=", ".join(f"planned.{quote(name)}" for name in names),
            held=", ".join(f"holder.{quote(name)}" for name in target["key"]),
            staged=tables.own("staged", plan.plan).sql(DIALECT),
            table=f"{quote(target['schema'])}.{quote(target['table'])}",
            link=quote(target["columns"][0]),
        ),
        SHOWN_ROWS,
    )
    if not rows:
        return
    listed = ", ".join(executor.shown(row[1:]) for row in rows)
    raise Stale(
        f"Of {rows[0][0]} of {plan.rows} rows of plan {plan.plan} another target holds the source meanwhile.",
        why=f"Each source goes to one target only. The rows: {listed}{' …' if rows[0][0] > len(rows) else ''}.",
        todo=f"Run `recon match {plan.reconciliation}` and `recon plan {plan.reconciliation}` again.",
    )
