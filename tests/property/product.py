"""What the product concludes of a case: its tables are made and filled, people decide, and one run matches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from psycopg import sql

from recon.database.connect import Database, Session
from recon.matching import overrides, pairs
from recon.matching import run as runs
from recon.matching.bind import bind
from recon.spec import Reconciliation
from tests.oracle import Override
from tests.oracle_pass import Key
from tests.property.cases import COLUMNS, LINK, Case, KeyKind

Verdict = tuple[str, Key | None, str | None, str | None]  # outcome, partner, pass, reason


@dataclass(frozen=True)
class Found:
    """A run as the oracle would tell it."""

    run: runs.Run
    verdicts: Mapping[Key, Verdict]
    other_side: Mapping[Key, str]
    confidences: Mapping[Key, Decimal | None]


def make_tables(session: Session, target_key: KeyKind, source_key: KeyKind) -> None:
    """Empty tables `pay`, with a link column of the source key's type, and `lease`, instead of older ones."""
    link = {LINK: next(iter(source_key.columns.values()))}
    for table, kind, columns in (("pay", target_key, COLUMNS | link), ("lease", source_key, COLUMNS)):
        defined = ", ".join(f"{name} {type_name}" for name, type_name in (kind.columns | columns).items())
        session.execute(f"DROP TABLE IF EXISTS {table}")
        session.execute(f"CREATE TABLE {table} ({defined}, PRIMARY KEY ({', '.join(kind.names)}))")


def fill(session: Session, table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Put these rows, of equal columns, into the table, instead of what is there."""
    session.execute(f"TRUNCATE {table}")
    if not rows:
        return
    names = sql.SQL(", ").join(sql.Identifier(name) for name in rows[0])
    copy_in = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), names)
    with session.driver.cursor() as cursor, cursor.copy(copy_in) as copy:
        for row in rows:
            copy.write_row(list(row.values()))


def conclude(database: Database, case: Case) -> Found:
    """Run the case. People decide while the records that are gone are there, and before anything is linked."""
    decided = [override for world in case.worlds for override in world.problem.overrides]
    targets = [row for world in case.worlds for row in world.problem.targets]
    sources = [row for world in case.worlds for row in world.problem.sources]
    with database.session() as session:
        make_tables(session, case.target_key, case.source_key)
        if decided:
            gone = [row for world in case.worlds for row in world.gone_targets]
            fill(session, "pay", [{**row, LINK: None} for row in (*targets, *gone)])
            fill(session, "lease", [*sources, *(row for world in case.worlds for row in world.gone_sources)])
    for override in decided:
        decide_by_hand(database, case.spec, override)
    with database.session() as session:
        fill(session, "pay", targets)
        fill(session, "lease", sources)
    return match(database, case.spec)


def decide_by_hand(database: Database, spec: Reconciliation, override: Override) -> None:
    overrides.decide(
        database,
        spec,
        actor="ann",
        kind=override.kind,
        target=key_text(override.target),
        source=key_text(override.source),
        reason="seen on paper",
    )


def match(database: Database, spec: Reconciliation) -> Found:
    """Run the spec over what is in the tables."""
    run = runs.match(database, spec, "ann")
    with database.session(read_only=True) as session:
        rows = list(pairs.iterate(session, bind(session, spec), run.run))
    side = ("target", "source").index(spec.population)
    population, others = [row for row in rows if row[side] is not None], [row for row in rows if row[side] is None]
    return Found(
        run,
        {
            _key(row[side]): (outcome, _key(row[1 - side]), pass_name, reason)
            for row in population
            for outcome, pass_name, _, reason in [row[2:]]
        },
        {_key(row[1 - side]): row[2] for row in others},
        {_key(row[side]): row[4] for row in population},
    )


def changes(database: Database, case: Case, run: str) -> dict[tuple[Key, str], tuple[str | None, str | None]]:
    """What a run keeps of each changed record: (key, column) to the texts of (before, after)."""
    population = case.spec.population
    width = len((case.source_key if population == "source" else case.target_key).names)
    keys = [f"{population}_key"] if width == 1 else [f"{population}_key_{number + 1}" for number in range(width)]
    query = f"""
        SELECT {", ".join(f"d.{name}" for name in keys)}, c.key, c.value->>'before', c.value->>'after'
        FROM recon.decisions_{run} AS d, jsonb_each(d.evidence->'changes') AS c
        WHERE d.outcome = 'changed'
    """
    with database.session(read_only=True) as session:
        rows = session.rows(query)
    return {(row[0] if width == 1 else row[:width], row[width]): row[width + 1 :] for row in rows}


def key_text(key: Key) -> str | None:
    """A key as the command line takes it.

    >>> key_text(7), key_text(("é", 7)), key_text(None)
    ('7', '["é", 7]', None)
    """
    if key is None:
        return None
    return json.dumps(list(key), ensure_ascii=False) if isinstance(key, tuple) else str(key)


def _key(given: Any) -> Key:
    """The oracle's form of a key; composite ones come as JSON arrays."""
    if isinstance(given, str) and given.startswith("["):
        return tuple(json.loads(given))
    return given
