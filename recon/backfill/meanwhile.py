"""What came between since a plan was made: decisions of people.

A planned row that a standing decision contradicts is never written.
"""

from __future__ import annotations

from recon.backfill import executor
from recon.backfill.change import Shape
from recon.backfill.plan import Plan
from recon.database import tables
from recon.database.connect import Session
from recon.errors import Stale
from recon.names import DIALECT, quote
from recon.spec_parts import OVERRIDE

SHOWN_ROWS = 5  # of those that are contradicted, in an error

# $1 the reconciliation, $2 whether a source goes to one target only, $3 the name of people's pass. What is filled in are
# names of the plan's own table.
_CONTRADICTED = """
    WITH planned AS (
        SELECT {columns}, ARRAY[{texts}] AS target_key_text, ARRAY[{sources}] AS source_key_text, pass FROM {staged}
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
    shape = Shape.of_document(plan.document)
    names = shape.key_names
    rows = session.rows(
        _CONTRADICTED.format(
            columns=", ".join(quote(name) for name in names),
            planned=", ".join(f"planned.{quote(name)}" for name in names),
            texts=", ".join(f"{quote(name)}::text" for name in names),
            sources=", ".join(f"{quote(name)}::text" for name in shape.source_key_names),
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
