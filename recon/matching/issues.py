"""Import issues: source records that do not keep the rules of `valid`, each rule's failure with its own history."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from recon.database import tables
from recon.database.connect import Session
from recon.matching import keys
from recon.matching.bound import Bound, key_names
from recon.names import DIALECT, column, identifier


def issues(
    session: Session, bound: Bound, rules: Sequence[tuple[str, exp.Expr]], *, excluded: bool = False
) -> dict[str, int]:
    """Bring the import issues up to date: all of the source is looked at, in limited runs too.

    An issue is open while a rule is false or NULL for a source record under `where`; it is closed when the rule holds
    again, when the record is gone or left out, and when the spec no longer has the rule.

    Args:
        session: the transaction of a run.
        bound: the spec and its relations.
        rules: the sentence of each rule and its tree over `s`, that must be true.
        excluded: whether `prepare` made recon_excluded_sources in this transaction; those records have no issues.

    Returns:
        How many issues were opened (again), how many closed, how many are open now.
    """
    name = bound.spec.name
    session.execute("SELECT pg_advisory_xact_lock($1::int, hashtext($2))", tables.LOCK_SPACE, f"issues {name}")
    session.execute("CREATE TEMPORARY TABLE recon_failing (source_key text[], issue text) ON COMMIT DROP")
    if rules:
        failing = _failing(bound, [rule for _, rule in rules], excluded).sql(DIALECT)
        session.execute(_FILL.format(failing), *[issue for issue, _ in rules])
        session.execute("ANALYZE pg_temp.recon_failing")
    session.execute(_STILL, name)
    opened = session.execute(_AGAIN, name).rowcount + session.execute(_FIRST, name).rowcount
    closed = session.execute(_CLOSED, name).rowcount
    session.execute("DROP TABLE pg_temp.recon_failing")
    return {"opened": opened, "closed": closed, "open": int(session.value(_OPEN, name) or 0)}


_FILL = "INSERT INTO pg_temp.recon_failing {}"  # what is filled in is built as a tree
_STILL = """
    UPDATE recon.import_issues AS known SET last_seen = now() FROM pg_temp.recon_failing AS failing
    WHERE known.reconciliation = $1 AND known.source_key = failing.source_key AND known.issue = failing.issue
      AND known.state = 'open'
"""
_AGAIN = """
    UPDATE recon.import_issues AS known SET last_seen = now(), state = 'open', closed_at = NULL
    FROM pg_temp.recon_failing AS failing
    WHERE known.reconciliation = $1 AND known.source_key = failing.source_key AND known.issue = failing.issue
      AND known.state = 'closed'
"""
_FIRST = """
    INSERT INTO recon.import_issues (reconciliation, source_key, issue, state, first_seen, last_seen)
    SELECT $1, source_key, issue, 'open', now(), now() FROM pg_temp.recon_failing AS failing
    WHERE NOT EXISTS (
        SELECT FROM recon.import_issues AS known
        WHERE known.reconciliation = $1 AND known.source_key = failing.source_key AND known.issue = failing.issue
    )
"""
_CLOSED = """
    UPDATE recon.import_issues AS known SET state = 'closed', closed_at = now()
    WHERE reconciliation = $1 AND state = 'open' AND NOT EXISTS (
        SELECT FROM pg_temp.recon_failing AS failing
        WHERE failing.source_key = known.source_key AND failing.issue = known.issue
    )
"""
_OPEN = "SELECT count(*) FROM recon.import_issues WHERE reconciliation = $1 AND state = 'open'"


def _failing(bound: Bound, rules: Sequence[exp.Expr], excluded: bool) -> exp.Select:
    """One row for each source record and rule that is not true; the rules' sentences are $1, $2, … in one scan."""
    held = [exp.Is(this=exp.paren(rule.copy()), expression=exp.true()) for rule in rules]
    said = [
        exp.Case(ifs=[exp.If(this=exp.Not(this=test.copy()), true=_sentence(number))])
        for number, test in enumerate(held, start=1)
    ]
    told = exp.Anonymous(this="array_remove", expressions=[exp.Array(expressions=said), exp.Null()])
    found = exp.Select(
        expressions=[keys.as_text(bound.source_keys), exp.Anonymous(this="unnest", expressions=[told])]
    ).from_(bound.source.aliased("s"))
    found = found.where(exp.Not(this=exp.paren(exp.and_(*held)))).distinct()
    if bound.source_where is not None:
        found = found.where(bound.source_where.copy())
    if excluded:
        names = key_names("source_key", len(bound.source_keys))
        left_out = exp.Table(this=identifier("recon_excluded_sources"), alias=exp.TableAlias(this=identifier("x")))
        same = [
            exp.EQ(this=key, expression=column("x", name)) for key, name in zip(bound.source_keys, names, strict=True)
        ]
        without = exp.Select(expressions=[exp.Literal.number(1)]).from_(left_out).where(*same)
        found = found.where(exp.Not(this=exp.Exists(this=without)))
    return found


def _sentence(number: int) -> exp.Expr:
    return exp.cast(exp.Parameter(this=exp.Literal.number(number)), "text")
