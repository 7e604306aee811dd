"""The dry run of an apply: the signed statement itself, on a sample, in a transaction that is rolled back."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any

from recon.backfill import batches, drift, executor, meanwhile, sign_off, veils
from recon.backfill.applied import Applied
from recon.backfill.batches import Batch
from recon.backfill.change import Shape
from recon.backfill.plan import Plan
from recon.backfill.veils import Veils
from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import IllegalMove, SlowPlan
from recon.names import DIALECT, quote

SHOWN_ROWS = 10  # of the changes
SAMPLE_ROWS = 10_000  # tried at most, a batch of them explained
LARGE_ROWS = 100_000  # a table of more is not read as a whole for one batch
BYTES_OF_ROW = 100  # a guess, where the server has never counted the rows of a table
REHEARSED = ("planned", "approved", "applying", "interrupted", "apply_failed")


def rehearse(database: Database, plan: Plan, seen: Veils | None = None) -> Applied:
    """Run the first batches for real and roll them back; needs no sign-off, and leaves no trace.

    Args:
        database: where the plan was made.
        plan: the plan.
        seen: what may not be seen of its values; None: what plan.json says is private.

    Raises:
        IllegalMove: the plan has nothing left to change.
        BundleChanged, WrongDatabase: the bundle or the staged rows are not the planned ones.
        Stale: people decided otherwise meanwhile, or the table was altered.
        SlowPlan: a batch would read the whole of a large table.
        Locked: another writer is at work.
    """
    if plan.state not in REHEARSED:
        raise IllegalMove(
            f"Plan {plan.plan} is {plan.state}.", why="There is nothing left that it would change.",
            todo="See `recon plans`; `recon revert` undoes an applied plan.",
        )  # fmt: skip
    seen = seen or veils.of(plan.document)
    began = perf_counter()
    with executor.writing(database, plan) as (session, _):
        bundle = sign_off.intact(session, plan)
        statement = bundle.scripts["execute.sql"]
        executor.unchanged_schema(session, plan)
        meanwhile.agree(session, plan)
        drifts = drift.listed(session, bundle, plan, seen)
        shown = _sample(session, plan, seen)
        written = session.rows("SELECT first, last, changed FROM recon.batches WHERE plan = $1", plan.plan)
        done = sum(rows for _, _, rows in written)
        left = batches.gaps([(first, last) for first, last, _ in written], plan.rows)
        checked = perf_counter() - began
        # What an interrupted apply left; where it left nothing but its last move, the first rows again.
        ranges = first_of(left or [(1, plan.rows)], SAMPLE_ROWS)
        sample = [batches.at(session, plan, "staged", *places) for places in batches.pieces(ranges, batches.Pace())]
        uses_the_key(session, plan, statement, sample[0])
        explained = session.rows(f"EXPLAIN (ANALYZE, BUFFERS, VERBOSE, SETTINGS) {statement}", *sample[0].bounds)
        changed = session.value(
            f"SELECT count(*) FROM {tables.own('ledger', plan.plan).sql(DIALECT)}"  # noqa: S608 (our own)
            " WHERE place BETWEEN $1::bigint AND $2::bigint",
            sample[0].first,
            sample[0].last,
        )
        timed = sample[1:] or sample
        began = perf_counter()
        if sample[1:]:
            changed += sum(session.execute(statement, *batch.bounds).rowcount for batch in timed)
            seconds = perf_counter() - began
        else:  # one batch only: what its explanation says, and no more
            seconds = float(explained[-1][0].split()[-2]) / 1000
        session.rollback()
    tried = sum(batch.rows for batch in timed)
    drifted = drift.count(drifts)
    return Applied(
        plan=plan.plan,
        executed=False,
        planned=plan.rows,
        changed=plan.rows - done - drifted if plan.rows > SAMPLE_ROWS else changed,
        skipped=drifted,
        drifts=drifts,
        seconds=seconds,
        state=plan.state,
        batches=len(sample),
        checking_seconds=checked,
        query_plan="\n".join(row[0] for row in explained),
        predicted_seconds=checked + seconds * sum(last - first + 1 for first, last in left) / tried,
        sample=shown,
    )


def first_of(ranges: Sequence[tuple[int, int]], rows: int) -> list[tuple[int, int]]:
    """So many places of these ranges, from the first on.

    >>> first_of([(1, 2), (5, 9)], 4)
    [(1, 2), (5, 6)]
    """
    found: list[tuple[int, int]] = []
    for first, last in ranges:
        if rows > 0:
            found.append((first, min(last, first + rows - 1)))
            rows -= found[-1][1] - first + 1
    return found


def uses_the_key(session: Session, plan: Plan, statement: str, batch: Batch) -> None:
    """Refuse a batch for which the server would read the whole of a large target. Raises SlowPlan."""
    sizes = dict(session.rows(_PARTS, executor.target_name(plan), BYTES_OF_ROW))
    explained = session.value(f"EXPLAIN (FORMAT JSON, VERBOSE) {statement}", *batch.bounds)
    for node in _nodes((json.loads(explained) if isinstance(explained, str) else explained)[0]["Plan"]):
        name = (node.get("Schema"), node.get("Relation Name"))
        if node["Node Type"] == "Seq Scan" and sizes.get(".".join(map(str, name)), 0) > LARGE_ROWS:
            target = plan.document["target"]
            holder = node.get("Alias") not in ("target", "t")
            names = ", ".join(target["columns"][:1] if holder else target["key"])
            raise SlowPlan(
                f"Every batch of plan {plan.plan} would read all of {'.'.join(map(str, name))}.",
                why=f"The server finds no index on {names} that it can use.",
                todo="Create one, or run ANALYZE on the table if there is one; then make a new plan.",
            )


# The target and, where it is divided, its parts: about how many rows each has.
_PARTS = """
    SELECT nspname || '.' || relname,
        greatest(reltuples::float8, CASE WHEN reltuples < 0 THEN pg_relation_size(class.oid) / $2::float8 ELSE 0 END)
    FROM pg_class AS class JOIN pg_namespace AS namespace ON namespace.oid = relnamespace
    WHERE class.oid = to_regclass($1)
       OR class.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass($1))
       OR class.oid IN (SELECT relid FROM pg_partition_tree(to_regclass($1)))
"""


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)


def _sample(session: Session, plan: Plan, seen: Veils) -> tuple[dict[str, Any], ...]:
    """The first rows of a plan as people read them."""
    shape = Shape.of_document(plan.document)
    names = ", ".join(quote(name) for name in (*shape.key_names, *shape.source_key_names))
    rows = session.rows(
        f"SELECT {names}, action, pass, interpretation FROM {tables.own('staged', plan.plan).sql(DIALECT)}"  # noqa: S608 (own)
        " ORDER BY place LIMIT $1::int",
        SHOWN_ROWS,
    )
    keys = len(shape.keys)
    return tuple(
        {
            "key": "" if row[0] is None else executor.shown(row[:keys]),
            "source": "" if row[keys] is None else executor.shown(row[keys:-3]),
            "action": row[-3],
            "pass": row[-2],
            "interpretation": seen.said(row[-1]),
        }
        for row in rows
    )
