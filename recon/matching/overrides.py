"""What people decide: links, forbidden pairs and records left out, that no rule undoes.

They are kept by key as text, with reason, author and time, and never deleted, only undone. What contradicts a
decision that stands is refused here; what the data contradicts later is for `prepare`, in every run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlglot import exp

from recon.database import tables
from recon.database.connect import Database, Session
from recon.errors import AlreadyExists, Contradicted, NotFound, ReconError, Stale, UsageError, did_you_mean
from recon.matching import keys
from recon.matching.bound import key_names
from recon.matching.given import Given, Records, checked, no_nul, read, reason_of
from recon.matching.prepared import Prepared, prepare
from recon.names import DIALECT, column, identifier
from recon.spec import Reconciliation

__all__ = ["Prepared", "accept_pass", "decide", "from_file", "listed", "prepare", "said", "undo"]

SHOWN_ERRORS = 20  # lines of a file: enough to see what is wrong with it


def decide(
    database: Database,
    spec: Reconciliation,
    *,
    actor: str,
    kind: str,
    target: str | None = None,
    source: str | None = None,
    reason: str,
) -> dict[str, Any]:
    """Keep one decision of a person.

    Args:
        database: where the records are.
        spec: the reconciliation.
        actor: who decides.
        kind: link or forbid (of `target` and `source`), or exclude (of one of them).
        target: the target's key as text; a composite one as a JSON array.
        source: the source's key, likewise.
        reason: why; may not be blank.

    Returns:
        The decision as `listed` gives it.

    Raises:
        UsageError: no reason, the wrong keys for this kind, or a key that its type cannot hold.
        NotFound: there is no such record.
        AlreadyExists: just this was decided before.
        Contradicted: another decision says otherwise.
    """
    given = checked(Given(1, kind, target, source, reason))
    tables.ensure(database)
    with database.session() as session:
        records = Records(session, spec)
        _begin(session, spec)
        _put(session, [(given, records.key("t", given.target), records.key("s", given.source))])
        for error in _contradictions(session, spec).values():
            raise error
        return _just_made(session, spec, _keep(session, spec, actor))[0]


def from_file(
    database: Database, spec: Reconciliation, path: Path, actor: str, reason: str | None = None
) -> list[dict[str, Any]]:
    """Keep every decision of a CSV file with the heading kind,target_key,source_key,reason; all of them or none.

    Args:
        database: where the records are.
        spec: the reconciliation.
        path: the file, in UTF-8.
        actor: who decides.
        reason: for lines that give none.

    Returns:
        The decisions as `listed` gives them.

    Raises:
        UsageError: the file cannot be read, or lines are wrong: each of the first twenty with its number and why.
    """
    wrong: dict[int, str] = {}
    lines: list[Given] = []
    for given in read(path, reason or ""):
        try:
            lines.append(checked(given))
        except UsageError as error:
            wrong[given.line] = str(error)
    tables.ensure(database)
    with database.session() as session:
        records = Records(session, spec)
        _begin(session, spec)
        for side in ("t", "s"):
            records.look_up(side, [line.target if side == "t" else line.source for line in lines])
        found: list[tuple[Given, list[str] | None, list[str] | None]] = []
        for line in lines:
            if len(wrong) >= SHOWN_ERRORS:
                break
            try:
                found.append((line, records.key("t", line.target), records.key("s", line.source)))
            except (UsageError, NotFound) as error:
                wrong[line.line] = str(error)
        _put(session, found)
        wrong |= {line: str(error) for line, error in _contradictions(session, spec).items()}
        if wrong:
            shown = sorted(wrong)[:SHOWN_ERRORS]
            raise UsageError(
                f"{path}: nothing was kept, for {'at least ' if len(wrong) >= SHOWN_ERRORS else ''}"
                f"{len(shown)} of its lines {'is' if len(shown) == 1 else 'are'} wrong.",
                why="\n".join(f"Line {line}: {wrong[line]}" for line in shown),
                todo="Correct the file and give it again.",
            )
        return _just_made(session, spec, _keep(session, spec, actor))


def accept_pass(database: Database, spec: Reconciliation, pass_name: str, actor: str, reason: str) -> int:
    """Make a link of every pair that a pass proposed in the latest run; those that are links already stay.

    Returns:
        How many links were made.

    Raises:
        UsageError: no reason.
        NotFound: there is no such pass, or no run.
        Stale: the latest run followed other rules than the spec has now.
        Contradicted: a proposal was decided otherwise since the run.
    """
    reason = reason_of(reason)
    names = [rule.name for rule in spec.passes]
    if pass_name not in names:
        raise NotFound(
            f"{spec.name} has no pass {pass_name}.",
            why=did_you_mean(pass_name, names),
            todo=f"It has: {', '.join(names)}.",
        )
    tables.ensure(database)
    with database.session() as session:
        run = _latest_run(session, spec)
        session.plain_path()
        _begin(session, spec)
        prefixes = (("target_key", len(spec.target.keys)), ("source_key", len(spec.source.keys)))
        pairs = [keys.as_text([column("d", name) for name in key_names(*prefix)]) for prefix in prefixes]
        decisions = tables.own("decisions", run)
        decisions.set("alias", exp.TableAlias(this=identifier("d")))
        proposed = exp.Select(expressions=pairs).from_(decisions).where(
            exp.EQ(this=column("d", "outcome"), expression=exp.Literal.string("proposed")),
            exp.EQ(this=column("d", "pass"), expression=exp.Parameter(this=exp.Literal.number(1))),
        ).order_by(*[column("d", name) for name in key_names(*prefixes[0])])  # fmt: skip
        session.execute(
            f"INSERT INTO pg_temp.recon_given (target_key, source_key) {proposed.sql(DIALECT)}",
            pass_name,
        )
        session.execute(_AS_PROPOSED, reason, pass_name)
        session.execute(_WITHOUT_KNOWN_LINKS, spec.name)
        for error in _contradictions(session, spec).values():
            error.todo = f"{error.todo} Or run `recon match {spec.name}` again, which takes account of it."
            raise error
        return len(_keep(session, spec, actor))


def undo(
    database: Database,
    spec: Reconciliation,
    *,
    actor: str,
    reason: str,
    target: str | None = None,
    source: str | None = None,
    pass_name: str | None = None,
    kind: str | None = None,
) -> int:
    """Undo every standing decision that names this target and this source, came from this pass and is of this kind.

    What is not given does not matter, but a record or a pass must be. The records need not be there any more.

    Returns:
        How many decisions were undone.

    Raises:
        UsageError: no reason, or neither a record nor a pass.
        NotFound: no standing decision is like that.
    """
    reason = reason_of(reason)
    if target is None and source is None and pass_name is None:
        raise UsageError("Say what to undo.", todo="Give --target K, --source S, both, or --accept-pass P.")
    for text in (target, source, pass_name):
        no_nul(text or "")
    tables.ensure(database)
    with database.session() as session:
        records = Records(session, spec)
        _lock(session, spec)
        spellings = [*records.spellings("t", target), *records.spellings("s", source)]
        undone = session.execute(_UNDO, spec.name, actor, reason, pass_name, kind, *spellings).rowcount
    if not undone:
        named = [f"{word} {key}" for word, key in (("target", target), ("source", source)) if key is not None]
        named += [f"pass {pass_name}"] if pass_name else []
        raise NotFound(
            f"No decision about {' and '.join(named)} stands.", todo=f"See them with `recon decide {spec.name} --list`."
        )
    return undone


def listed(database: Database, name: str, active_only: bool = True) -> list[dict[str, Any]]:
    """The decisions about a reconciliation, oldest first; without those undone, unless asked for.

    Keys are text; composite ones are JSON arrays.
    """
    tables.ensure(database)
    made = tables.overrides.c
    with database.session(read_only=True) as session:
        return _kept(session, made.reconciliation == name, *([made.undone_at.is_(None)] if active_only else []))


# -- what is kept ----------------------------------------------------------------------------------------

_GIVEN = """
    CREATE TEMPORARY TABLE recon_given (
        line bigint GENERATED BY DEFAULT AS IDENTITY, kind text, target_key text[], source_key text[],
        reason text, made_by_pass text
    ) ON COMMIT DROP
"""
_AS_PROPOSED = "UPDATE pg_temp.recon_given SET kind = 'link', reason = $1, made_by_pass = $2"
_WITHOUT_KNOWN_LINKS = """
    DELETE FROM pg_temp.recon_given AS given USING recon.overrides AS made
    WHERE made.reconciliation = $1 AND made.undone_at IS NULL AND made.kind = 'link'
      AND made.target_key = given.target_key AND made.source_key = given.source_key
"""
# About one target everything contradicts everything but what forbids another pair than the one that is meant.
# About one source: that it is left out and linked; and where it can be linked once ($2), two links.
_CONTRADICTIONS = """
    WITH standing AS (
        SELECT NULL::bigint AS line, kind, target_key, source_key, author, made_at FROM recon.overrides
        WHERE reconciliation = $1 AND undone_at IS NULL
        UNION ALL SELECT line, kind, target_key, source_key, NULL, NULL FROM pg_temp.recon_given
    ),
    contradicted AS (
        SELECT given.line, given.kind, given.target_key, given.source_key, other.line AS other_line,
            other.kind AS other_kind, other.target_key AS other_target, other.source_key AS other_source, author, made_at
        FROM pg_temp.recon_given AS given JOIN standing AS other ON other.target_key = given.target_key
        WHERE NOT ('forbid' IN (given.kind, other.kind) AND other.source_key IS DISTINCT FROM given.source_key)
        UNION ALL
        SELECT given.line, given.kind, given.target_key, given.source_key, other.line,
            other.kind, other.target_key, other.source_key, author, made_at
        FROM pg_temp.recon_given AS given JOIN standing AS other ON other.source_key = given.source_key
        WHERE 'exclude' IN (given.kind, other.kind) AND 'forbid' NOT IN (given.kind, other.kind)
           OR $2 AND given.kind = 'link' AND other.kind = 'link' AND other.target_key <> given.target_key
    )
    SELECT DISTINCT ON (line) * FROM contradicted WHERE other_line IS NULL OR other_line < line
    ORDER BY line, other_line NULLS FIRST, made_at, other_kind, other_target, other_source LIMIT $3::bigint
"""
_KEEP = """
    INSERT INTO recon.overrides (reconciliation, kind, target_key, source_key, reason, author, made_by_pass)
    SELECT $1, kind, target_key, source_key, reason, $2, made_by_pass FROM pg_temp.recon_given ORDER BY line
    RETURNING id
"""
_UNDO = """
    UPDATE recon.overrides SET undone_at = clock_timestamp(), undone_by = $2, undone_reason = $3
    WHERE reconciliation = $1 AND undone_at IS NULL
      AND ($4::text IS NULL OR made_by_pass = $4) AND ($5::text IS NULL OR kind = $5)
      AND ($6::text[] IS NULL OR target_key IN ($6, $7::text[], $8::text[], $9::text[]))
      AND ($10::text[] IS NULL OR source_key IN ($10, $11::text[], $12::text[], $13::text[]))
"""


def _lock(session: Session, spec: Reconciliation) -> None:
    """Decisions about one reconciliation are made one after the other, so that each sees those before it."""
    name = f"overrides {spec.name}"
    session.execute("SELECT pg_advisory_xact_lock($1::int, hashtext($2))", tables.LOCK_SPACE, name)


def _begin(session: Session, spec: Reconciliation) -> None:
    _lock(session, spec)
    session.execute(_GIVEN)


def _put(session: Session, found: Sequence[tuple[Given, list[str] | None, list[str] | None]]) -> None:
    columns = "COPY pg_temp.recon_given (line, kind, target_key, source_key, reason) FROM STDIN"
    with session.driver.cursor().copy(columns) as copy:
        for given, target, source in found:
            copy.write_row([given.line, given.kind, target, source, given.reason])


def _contradictions(session: Session, spec: Reconciliation) -> dict[int, ReconError]:
    """What is given and cannot stand, by line; the first twenty."""
    one_to_one = spec.cardinality == "one_to_one"
    found = session.records(_CONTRADICTIONS, spec.name, one_to_one, SHOWN_ERRORS)
    return {row["line"]: _contradicted(spec, row) for row in found}


def _contradicted(spec: Reconciliation, row: dict[str, Any]) -> ReconError:
    given = (row["kind"], keys.shown(row["target_key"]), keys.shown(row["source_key"]))
    other = (row["other_kind"], keys.shown(row["other_target"]), keys.shown(row["other_source"]))
    where = f"in line {row['other_line']} of this file" if row["other_line"] is not None else ""
    when = where or f"by {row['author']} on {row['made_at']:%Y-%m-%d %H:%M} UTC"
    if given == other:
        return AlreadyExists(
            f"That {said(*given)} was decided already, {when}.",
            why="A decision stands until it is undone, and needs to be made only once.",
            todo="Take the line out." if where else f"See `recon decide {spec.name} --list`.",
        )
    undo = f"Undo that first: `recon decide {spec.name} --undo` with its record and a reason."
    return Contradicted(
        f"It cannot be decided that {said(*given)}.",
        why=f"It was decided {when} that {said(*other)}.",
        todo="Take one of the two lines out." if where else undo,
    )


def said(kind: str, target: str | None, source: str | None) -> str:
    """A decision as a sentence without its end, by the keys as people read them.

    >>> said("forbid", "7", "12")
    'target 7 is never linked to source 12'
    """
    if kind == "exclude":
        return f"source {source} is left out" if target is None else f"target {target} is left out"
    return f"target {target} {'is linked to' if kind == 'link' else 'is never linked to'} source {source}"


def _keep(session: Session, spec: Reconciliation, actor: str) -> list[int]:
    return [row[0] for row in session.rows(_KEEP, spec.name, actor)]


def _just_made(session: Session, spec: Reconciliation, ids: Sequence[int]) -> list[dict[str, Any]]:
    made = tables.overrides.c  # nobody else makes decisions about this reconciliation meanwhile
    return _kept(session, made.reconciliation == spec.name, made.id.between(min(ids), max(ids))) if ids else []


def _kept(session: Session, *conditions: sa.ColumnElement[bool]) -> list[dict[str, Any]]:
    made = tables.overrides
    rows = session.connection.execute(sa.select(made).where(*conditions).order_by(made.c.made_at, made.c.id))
    return [
        {**row, "target_key": keys.shown(row["target_key"]), "source_key": keys.shown(row["source_key"])}
        for row in rows.mappings()
    ]


def _latest_run(session: Session, spec: Reconciliation) -> str:
    """The latest run, if it went well, looked at everything, and followed the spec as it is now."""
    runs = tables.runs
    row = session.connection.execute(
        sa.select(runs.c.run, runs.c.spec_digest, runs.c.state, runs.c.limited)
        .where(runs.c.reconciliation == spec.name)
        .order_by(runs.c.started_at.desc())
        .limit(1)
    ).first()
    if row is None:
        raise NotFound(
            f"{spec.name} has no finished run.",
            why="What a pass proposed is known only once its records are decided.",
            todo=f"Run `recon match {spec.name}` first.",
        )
    if row[1] != spec.digest:
        raise Stale(
            f"The latest run of {spec.name} followed other rules than its spec has now.",
            why=f"Run {row[0]} was made before the spec was changed, so its proposals may not be those of its passes.",
            todo=f"Run `recon match {spec.name}` again.",
        )
    if row[2] != "success" or row[3] is not None:
        what = f"is {row[2]}" if row[2] != "success" else "looked at a part of the records only"
        raise Stale(
            f"The latest run of {spec.name} {what}.",
            why="What an older run proposed may no longer be what the rules propose.",
            todo=f"Run `recon match {spec.name}` again.",
        )
    return row[0]
