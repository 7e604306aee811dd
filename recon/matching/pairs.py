"""A run's records as people read them: decision, the columns of `show`, and the interpretation in words."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from typing import IO, Any

import sqlglot
from sqlglot import exp

from recon import expressions
from recon.database import tables
from recon.database.connect import Session
from recon.expressions import Expression
from recon.matching import comparison
from recon.matching.because import LABEL, because
from recon.matching.bound import Bound, key_names
from recon.matching.privacy import VEIL, behind_veil, hidden, hidden_changes, veiled
from recon.names import DIALECT, MAX_IDENTIFIER_BYTES, column, identifier

_KEYS = ("target_key", "source_key")
FETCH_ROWS = 5_000  # rows held in memory at once while a run is written out


def interpretation(bound: Bound) -> exp.Expr:
    """The sentence of the first `interpret` rule that holds for a pair (t, s); NULL where none does.

    As people may see it: private values in it are veiled, and the whole of it where its condition reads one.
    """
    cases: list[exp.If] = []
    for item in bound.spec.interpret:
        parts = [
            veiled(bound, bound.resolve(part)) if isinstance(part, Expression) else exp.Literal.string(part)
            for part in expressions.parse_template(item.say).parts
        ]
        when = bound.resolve(expressions.parse(item.when, "t"))
        said: exp.Expr = exp.Anonymous(this="concat", expressions=parts)
        if hidden(bound, when):  # that it is said would tell what the condition asks
            said = exp.Literal.string(VEIL)
        cases.append(exp.If(this=when, true=said))
    return exp.Case(ifs=cases) if cases else exp.cast(exp.Null(), "text")


def pairs(bound: Bound, run: str) -> exp.Select:
    """Each decision of a run with what `show` names and its interpretation; `d`, `t` and `s` are the aliases."""
    table = tables.own("decisions", run)
    decision = exp.Table(this=table.this, db=table.args["db"], alias=exp.TableAlias(this=identifier("d")))
    target = [
        exp.EQ(this=key, expression=column("d", name))
        for key, name in zip(bound.target_keys, key_names("target_key", len(bound.target_keys)), strict=True)
    ]
    source = [
        exp.EQ(this=key, expression=column("d", name))
        for key, name in zip(bound.source_keys, key_names("source_key", len(bound.source_keys)), strict=True)
    ]
    shown = [
        exp.alias_(veiled(bound, bound.resolve(expressions.parse(text, "t"))), label, quoted=True)
        for text, label in zip(bound.spec.show, labels(bound.spec.show), strict=True)
    ]
    return (
        exp.Select(
            expressions=[
                *[column("d", name) for name in decision_columns(bound)],
                *shown,
                exp.alias_(interpretation(bound), "interpretation", quoted=True),
                *([exp.alias_(_differences(bound), "differences", quoted=True)] if comparison.concerns(bound) else []),
            ]
        )
        .from_(decision)
        .join(bound.target.aliased("t"), on=exp.and_(*target), join_type="left")
        .join(bound.source.aliased("s"), on=exp.and_(*source), join_type="left")
    )


def _differences(bound: Bound) -> exp.Expr:
    """What a changed record differs in, or what is wrong with an invalid one, in words; NULL of others."""
    tree = sqlglot.parse_one(
        """
        coalesce((
            SELECT string_agg(
                change.key || ' ' || coalesce(change.value ->> 'before', 'nothing') || ' → '
                    || coalesce(change.value ->> 'after', 'nothing'), ', ' ORDER BY change.key
            ) FROM jsonb_each("d"."evidence" -> 'changes') AS change
        ), (
            SELECT string_agg(issue.value, ', ') FROM jsonb_array_elements_text("d"."evidence" -> 'issues') AS issue
        ))
        """,
        dialect=DIALECT,
    )
    names = hidden_changes(bound)
    if not names:
        return tree
    is_hidden = exp.In(this=column("change", "key"), expressions=[exp.Literal.string(name) for name in names])
    for value in list(tree.find_all(exp.JSONExtractScalar)):
        seen = exp.If(this=is_hidden.copy(), true=behind_veil(value))
        value.replace(exp.Case(ifs=[seen], default=value.copy()))
    return tree


def decision_columns(bound: Bound) -> list[str]:
    """The columns of a run's decisions table that people see, in order."""
    return [
        *key_names("target_key", len(bound.target_keys)),
        *key_names("source_key", len(bound.source_keys)),
        "outcome",
        "pass",
        "confidence",
        "reason",
    ]


def labels(texts: Sequence[str]) -> list[str]:
    """Headings for `show`: the bare name where it is told apart, else the expression as written.

    >>> labels(["t.amount", "s.start_date", "t.reason"])
    ['amount', 'start_date', 't.reason']
    """
    bare = [text.split(".", 1)[-1] if text[:2] in ("t.", "s.") else text for text in texts]
    own = {"outcome", "pass", "confidence", "reason", "interpretation", LABEL}
    told = [bare.count(name) == 1 and name not in own and not name.startswith(_KEYS) for name in bare]
    chosen = [name if plain else text for name, plain, text in zip(bare, told, texts, strict=True)]
    return [name.encode()[:MAX_IDENTIFIER_BYTES].decode(errors="ignore") for name in chosen]


def listed(
    session: Session,
    bound: Bound,
    run: str,
    *,
    outcomes: Sequence[str] = (),
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Decisions with what people see of them, in key order, as dicts; only of some outcomes where given.

    Each also has `because`: why, in a sentence.
    """
    query = _listing(bound, run, outcomes, limit)
    return session.records(query.sql(DIALECT), *([list(outcomes)] if outcomes else []))


def columns_and_rows(
    session: Session, bound: Bound, run: str, *, outcomes: Sequence[str] = (), limit: int | None = None
) -> tuple[list[str], list[tuple[Any, ...]]]:
    """The same as the names of its columns and a tuple for each decision: a third of the memory, for a million of them."""
    query = _listing(bound, run, outcomes, limit)
    cursor = session.execute(query.sql(DIALECT), *([list(outcomes)] if outcomes else []))
    return [column.name for column in cursor.description or []], cursor.fetchall()


def _listing(bound: Bound, run: str, outcomes: Sequence[str], limit: int | None) -> exp.Select:
    query = pairs(bound, run).select(exp.alias_(because(bound), LABEL, quoted=True))
    if outcomes:
        parameter = exp.Parameter(this=exp.Literal.number(1))
        query = query.where(
            exp.EQ(this=column("d", "outcome"), expression=exp.Any(this=exp.paren(exp.cast(parameter, "text[]"))))
        )
    query = query.order_by(*[column("d", name) for name in _in_order(bound)])
    return query if limit is None else query.limit(limit)


def write_csv(session: Session, bound: Bound, run: str, out: IO[str]) -> int:
    """One line for each record: target_key,source_key,outcome,pass,confidence,reason; composite keys as JSON arrays.

    Returns the number of records.
    """
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["target_key", "source_key", "outcome", "pass", "confidence", "reason"])
    count = 0
    for row in iterate(session, bound, run):
        writer.writerow(["" if value is None else value for value in row])
        count += 1
    return count


def iterate(session: Session, bound: Bound, run: str) -> Iterator[tuple[Any, ...]]:
    """The decisions of a run in key order: target key, source key, outcome, pass, confidence, reason.

    Composite keys are JSON arrays; a source key that does not exist is None.
    """
    targets, sources = len(bound.target_keys), len(bound.source_keys)
    table = tables.own("decisions", run)
    query = (
        exp.Select(expressions=[exp.Column(this=identifier(name)) for name in decision_columns(bound)])
        .from_(table)
        .order_by(*[exp.Column(this=identifier(name)) for name in _in_order(bound)])
    )
    cursor = session.driver.cursor(name="decisions")
    cursor.itersize = FETCH_ROWS
    with cursor:
        cursor.execute(query.sql(DIALECT).encode())
        for row in cursor:
            yield (shown_key(row[:targets]), shown_key(row[targets : targets + sources]), *row[targets + sources :])


def _in_order(bound: Bound) -> list[str]:
    """The keys that put decisions in order: the population by its own, then the other side's records by theirs."""
    return [*bound.key_names(bound.population), *bound.key_names(bound.other)]


def shown_key(parts: Sequence[Any]) -> Any:
    if len(parts) == 1:
        return parts[0]
    return (
        None
        if all(part is None for part in parts)
        else json.dumps([_plain(part) for part in parts], ensure_ascii=False)
    )


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, str, type(None))) else str(value)
