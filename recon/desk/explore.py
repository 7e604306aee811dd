"""What the explore notebook shows: a run by outcome and reason, its records, and why one was decided as it was.

Plain data: `explore_view` draws it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlglot import exp

from recon import expressions
from recon.database import tables
from recon.database.connect import Database, Session
from recon.expressions import Expression
from recon.matching import explain, pairs
from recon.matching import run as runs
from recon.matching.bind import bind
from recon.matching.bound import Bound, BoundPass, key_names
from recon.matching.comparison import outcomes_alone
from recon.matching.coverage import RECONCILED
from recon.matching.explain import Explanation
from recon.matching.precision import measured
from recon.matching.run import Run
from recon.matching.statements import OUTCOMES
from recon.matching.verdict import Candidate, PassExplained
from recon.names import DIALECT, column, identifier
from recon.reports.tables import count, percent
from recon.reports.words import outcome_words, reason_words
from recon.spec import OVERRIDE
from recon.workspace import Workspace

LIMIT = 1_000  # rows that are fetched for the table; how many there are is always said
SHOWN_CANDIDATES = 6  # side by side on one screen

Mark = Literal["same", "differs", "record empty", "empty", ""]


# -- what there is to explore ----------------------------------------------------------------------------


def with_run(database: Database, workspace: Workspace) -> list[str]:
    """The workspace's reconciliations that have a finished run. Creates nothing in the database."""
    kept = tables.runs
    query = sa.select(kept.c.reconciliation).where(kept.c.state == "success", kept.c.kept).distinct()
    with database.session(read_only=True) as session:
        if session.value("SELECT to_regclass('recon.runs')::text") is None:
            return []
        found = set(session.connection.execute(query).scalars())
    return [name for name in workspace.reconciliations() if name in found]


@dataclass(frozen=True)
class Count:
    """How many records of a run have this outcome and reason; matched and linked records have no reason."""

    outcome: str
    reason: str | None
    records: int


@dataclass(frozen=True)
class View:
    """The latest run of a reconciliation, its spec bound to the database, and its counts."""

    run: Run
    bound: Bound
    counts: tuple[Count, ...]
    precision: float | None = None  # of the rules that the run decided by, where it was measured

    @property
    def unreconciled(self) -> list[str]:
        """The outcomes of this run that leave something to explain, in the order of the pipeline."""
        return [name for name in self.run.outcomes if name not in (*RECONCILED, "excluded")]

    @property
    def left(self) -> int:
        """How many records are left to explain."""
        return sum(self.run.outcomes[name] for name in self.unreconciled)

    @property
    def note(self) -> str:
        """What one must know of this run before reading its numbers; mostly nothing."""
        parts: list[str] = []
        if self.run.limited:
            limits = ", ".join(f"{name} {value}" for name, value in self.run.limited.items())
            parts.append(f"This run looked at a part of the records only: {limits}.")
        if self.run.spec_digest != self.bound.spec.digest:
            parts.append(f"The spec was changed after this run. Run `recon match {self.run.reconciliation}` again.")
        return " ".join(parts)


def view(database: Database, workspace: Workspace, name: str) -> View:
    """Open the latest finished run of a reconciliation.

    Raises:
        NotFound: no such reconciliation, or it has no run.
        SpecError, SchemaMismatch: the spec cannot be read, or the tables are no longer what it names.
    """
    spec = workspace.spec(name)
    run = runs.load(database, name)
    grouped = [column("d", "outcome"), column("d", "reason")]
    query = exp.Select(expressions=[*grouped, exp.Count(this=exp.Star())]).from_(_decisions(run)).group_by(*grouped)
    with database.session(read_only=True) as session:
        bound = bind(session, spec, shows_private=workspace.sees_private)
        found = [Count(*row) for row in session.rows(query.sql(DIALECT))]
    order = {name: place for place, name in enumerate(OUTCOMES)}
    found.sort(key=lambda item: (order.get(item.outcome, len(order)), -item.records, item.reason or ""))
    known = measured(database, name, run.spec_digest)
    return View(run, bound, tuple(found), known.precision if known else None)


def outcome_options(view: View) -> dict[str, str]:
    """Choices of the outcome filter: what people read, and the outcome."""
    return {_outcome_label(view, name): name for name in view.run.outcomes}


def unreconciled_options(view: View) -> list[str]:
    """The choices that are made at first: what is left to explain."""
    return [_outcome_label(view, name) for name in view.unreconciled]


def reason_options(view: View) -> dict[str, str]:
    """Choices of the reason filter: what people read, and the reason."""
    totals: dict[str, int] = {}
    for item in view.counts:
        if item.reason:
            totals[item.reason] = totals.get(item.reason, 0) + item.records
    return {f"{reason_words(name)} ({count(total)})": name for name, total in totals.items()}


def _outcome_label(view: View, name: str) -> str:
    return f"{name} ({count(view.run.outcomes[name])})"


def _decisions(run: Run) -> exp.Table:
    table = tables.own("decisions", run.run)
    return exp.Table(this=table.this, db=table.args["db"], alias=exp.TableAlias(this=identifier("d")))


# -- records ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Records:
    """The first records that a filter lets through, and how many there are."""

    rows: list[dict[str, Any]]
    total: int


def records(
    database: Database, view: View, outcomes: Sequence[str] = (), reasons: Sequence[str] = (), key: str = ""
) -> Records:
    """Decisions with what people see of them: those that are not reconciled first, then in key order.

    Args:
        database: where the records are.
        view: the run.
        outcomes: only these; none: all.
        reasons: only these; none: all.
        key: only the record of this key, whatever its outcome (a part of it, where the key is composite).
    """
    target_keys = key_names("target_key", len(view.bound.target_keys))
    values: list[object] = []
    conditions: list[exp.Expr] = []

    def parameter(value: object, kind: str) -> exp.Expr:
        values.append(value)
        return exp.cast(exp.Parameter(this=exp.Literal.number(len(values))), kind)

    def is_one_of(name: str, chosen: Sequence[str]) -> exp.Expr:
        return exp.EQ(this=column("d", name), expression=exp.Any(this=exp.paren(parameter(list(chosen), "text[]"))))

    if key.strip():
        wanted = parameter(key.strip(), "text")
        conditions.append(
            exp.or_(*[exp.EQ(this=exp.cast(column("d", name), "text"), expression=wanted) for name in target_keys])
        )
    else:
        conditions += [
            is_one_of(name, chosen) for name, chosen in (("outcome", outcomes), ("reason", reasons)) if chosen
        ]
    total = exp.Select(expressions=[exp.Count(this=exp.Star())]).from_(_decisions(view.run)).where(*conditions)
    counted = list(values)
    query = pairs.pairs(view.bound, view.run.run).where(*conditions)
    query = query.order_by(is_one_of("outcome", RECONCILED), *[column("d", name) for name in target_keys])
    with database.session(read_only=True) as session:
        return Records(
            session.records(query.limit(LIMIT).sql(DIALECT), *values), session.value(total.sql(DIALECT), *counted)
        )


def key_of(view: View, row: dict[str, Any]) -> str:
    """A record's key as text; a composite key is a JSON array."""
    parts = [row[name] for name in key_names("target_key", len(view.bound.target_keys))]
    return str(parts[0]) if len(parts) == 1 else json.dumps(parts, default=str)


def table_rows(view: View, found: Records) -> list[dict[str, Any]]:
    """Records for a table on the screen: the record's key, what was decided and why, then what `show` names."""
    sources = key_names("source_key", len(view.bound.source_keys))
    rest = [*pairs.labels(view.bound.spec.show), "interpretation"]
    filled = [name for name in rest if any(row[name] is not None for row in found.rows)]
    return [
        {
            "record": _record(view, row),
            "outcome": outcome_words(row["outcome"]),
            "reason": reason_words(row["reason"]),
            "pass": row["pass"] or "",
            view.bound.source.label: _cell(", ".join(str(row[name]) for name in sources if row[name] is not None)),
            **{name: _cell(row[name]) for name in filled},
        }
        for row in found.rows
    ]


def _record(view: View, row: dict[str, Any]) -> Any:
    return _cell(key_of(view, row) if len(view.bound.target_keys) > 1 else row["target_key"])


def _cell(value: Any) -> Any:
    """A value for marimo's table, which makes links of addresses in text, and fetches those of pictures.

    No value may make the reader's browser call a stranger: an invisible character keeps addresses from being seen.

    >>> _cell("see https://a.example/b.png") == "see https:\u2060//a.example/b.png", _cell(None), _cell(20288)
    (True, '', 20288)
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    return _ADDRESS.sub(lambda found: found[0] + "\u2060", value)


_ADDRESS = re.compile(r"(?:https?|data):", re.IGNORECASE)


def chosen(view: View, found: Records, selected: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The record behind the selected line of `table_rows`; None where nothing is selected."""
    wanted = [line["record"] for line in selected]
    return next((row for row in found.rows if _record(view, row) in wanted), None)


# -- why one record was decided as it was ----------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """One pass for one record. `here` says that this pass decided it, or came closest where none did."""

    explained: PassExplained
    confidence: str
    reached: bool
    here: bool


@dataclass(frozen=True)
class Field:
    """One line of the comparison: the record's value, and each candidate's with a mark where a pass compares the two."""

    label: str
    record: Any
    values: tuple[Any, ...]
    marks: tuple[Mark, ...]
    varies: bool = False  # the candidates differ from one another here


@dataclass(frozen=True)
class Why:
    """A record's decision, pass by pass, and its candidates side by side."""

    key: str
    row: dict[str, Any]
    steps: tuple[Step, ...]
    candidates: tuple[Any, ...]
    roles: tuple[str, ...]
    fields: tuple[Field, ...]
    changed: str  # how the data differ from what the run saw; mostly nothing


def why(database: Database, view: View, row: dict[str, Any]) -> Why:
    """Explain one row of `records` by the data as they are now.

    Raises:
        NotFound: the record no longer takes part.
    """
    key = key_of(view, row)
    with database.session(read_only=True) as session:
        found = explain.explain(session, view.bound, key)
        decided = None if row["outcome"] == "linked" else row["pass"]
        names = [item.name for item in found.passes]
        alone = row["outcome"] in outcomes_alone(view.bound)
        last = names.index(decided) if decided in names and not alone else len(names) - 1
        steps = tuple(
            Step(item, percent(float(rule.confidence)), place <= last, item.name == decided)
            for place, (item, rule) in enumerate(zip(found.passes, view.bound.passes, strict=True))
        )
        roles = _roles(session, view.bound, row, [step for step in steps if step.reached])
        chosen = list(roles)[:SHOWN_CANDIDATES]
        compared = _side_by_side(session, view.bound, row, chosen)
    fields = _fields(view.bound, found, compared)
    return Why(
        key, row, steps, tuple(chosen), tuple(roles[item] for item in chosen), fields, _changed(view.bound, row, found)
    )


def _changed(bound: Bound, row: dict[str, Any], found: Explanation) -> str:
    """How what the rules say now differs from the run's decision."""
    if found.link is not None:
        held = row["outcome"] in ("linked", "same", "changed", "invalid") and row["source_key"] == found.link
        return "" if held else f"Since this run the record was linked: it holds {found.link} now."
    if bound.spec.cardinality == "one_to_one" or row["pass"] == OVERRIDE:
        return ""  # who takes whom depends on all other records, or on a person: only the next run tells
    outcome, source = _said(bound, found)
    if bound.compared and row["outcome"] in ("same", "changed", *outcomes_alone(bound)):
        row = {**row, "outcome": "matched" if row["source_key"] is not None else "unmatched"}
    if row["outcome"] not in ("excluded", "invalid") and (outcome, source) != (row["outcome"], row["source_key"]):
        said = f"{outcome} with {source}" if source is not None else outcome
        return f"The data changed since this run: the rules say {said} now. Match again to decide anew."
    return ""


def _said(bound: Bound, found: Explanation) -> tuple[str, Any]:
    """What the rules say of a record that holds no link: the first pass that decides (design, section 4)."""
    for item, rule in zip(found.passes, bound.passes, strict=True):
        if item.result == "best":
            return ("proposed" if rule.rule.accept == "review" else "matched"), item.candidates[0].key
        if item.result == "tie" and rule.rule.on_tie == "review":
            return "ambiguous", None
    return "unmatched", None


def _roles(session: Session, bound: Bound, row: dict[str, Any], steps: Sequence[Step]) -> dict[Any, str]:
    """Each candidate of these passes, and what it is in the first pass that found it; the held link comes first."""
    roles: dict[Any, str] = {}
    if row["outcome"] == "linked":
        roles[row["source_key"]] = "linked"
    for step in steps:
        rule = next(item for item in bound.passes if item.name == step.explained.name)
        tied = _tied(session, bound, row, rule, step.explained)
        for place, candidate in enumerate(step.explained.candidates):
            role = _role(rule, candidate, place, tied, step.explained)
            if candidate.key not in roles or (step.here and step.explained.result in ("best", "tie")):
                roles[candidate.key] = role
    # What the deciding pass chose or could not choose between stands first.
    return dict(sorted(roles.items(), key=lambda item: item[1] not in ("linked", "chosen", "proposed", "tied")))


def _role(rule: BoundPass, candidate: Candidate, place: int, tied: set[Any], explained: PassExplained) -> str:
    if not candidate.holds:
        return "condition fails" if candidate.standing == "when_false" else candidate.standing.replace("_", " ")
    if explained.result == "tie":
        return "tied" if candidate.key in tied else "less preferred"
    if place:
        return "less preferred"
    return "proposed" if rule.rule.accept == "review" else "chosen"


def _tied(session: Session, bound: Bound, row: dict[str, Any], rule: BoundPass, explained: PassExplained) -> set[Any]:
    """The candidates that are as good as the first one on every term of `prefer`."""
    holding = [item.key for item in explained.candidates if item.holds]
    if explained.result != "tie" or not rule.prefer:
        return set(holding)
    terms = [term.tree.copy() for term in rule.prefer]
    found = {key: tuple(values) for key, *values in _of_pairs(session, bound, row, holding, terms)}
    return {key for key in holding if found.get(key) == found.get(holding[0])}


def _of_pairs(
    session: Session, bound: Bound, row: dict[str, Any], sources: Sequence[Any], wanted: Sequence[exp.Expr]
) -> list[tuple[Any, ...]]:
    """Expressions over the record and each of these sources: the source's key, then the values."""
    keys = [row[name] for name in key_names("target_key", len(bound.target_keys))]
    is_record = [
        exp.EQ(this=key, expression=_typed(number, bound.target.type_of(name)))
        for number, (key, name) in enumerate(zip(bound.target_keys, bound.spec.target.keys, strict=True), start=1)
    ]
    source = bound.source_keys[0]
    kind = bound.source.type_of(bound.spec.source.keys[0]).sql(DIALECT)
    listed = exp.Any(this=exp.paren(_typed(len(keys) + 1, exp.DataType.build(f"{kind}[]", dialect=DIALECT, udt=True))))
    query = (
        exp.Select(expressions=[source, *wanted])
        .from_(bound.target.aliased("t"))
        .join(bound.source.aliased("s"), on=exp.EQ(this=source.copy(), expression=listed))
        .where(*is_record)
    )
    return session.rows(query.sql(DIALECT), *[str(key) for key in keys], [str(item) for item in sources])


def _typed(number: int, kind: exp.DataType) -> exp.Expr:
    """A parameter that comes as text and is cast to a type, as keys are in `recon explain`."""
    text = "text[]" if kind.is_type(exp.DataType.Type.ARRAY) else "text"
    # exp.cast would leave the second cast out: to it, an array is an array.
    return exp.Cast(this=exp.cast(exp.Parameter(this=exp.Literal.number(number)), text), to=kind)


@dataclass(frozen=True)
class _Compared:
    """Pairs of `on` expressions over all passes, and their values for each candidate."""

    pairs: tuple[tuple[str, str], ...]
    shown: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]  # left, right of each pair; then `show`; then the interpretation


def _side_by_side(session: Session, bound: Bound, row: dict[str, Any], sources: Sequence[Any]) -> _Compared:
    compared: dict[tuple[str, str], tuple[exp.Expr, exp.Expr]] = {}
    for rule in bound.passes:
        for (left, right), target, source in zip(rule.rule.pairs, rule.targets, rule.sources, strict=True):
            compared.setdefault((left.text, right.text), (target, source))
    of_source = [text for text in bound.spec.show if "s" in _parsed(text).sides()]
    wanted = [part.copy() for both in compared.values() for part in both]
    wanted += [exp.EQ(this=left.copy(), expression=right.copy()) for left, right in compared.values()]
    wanted += [bound.resolve(_parsed(text)) for text in of_source]
    wanted.append(pairs.interpretation(bound))
    found = {key: tuple(values) for key, *values in _of_pairs(session, bound, row, sources, wanted)} if sources else {}
    return _Compared(tuple(compared), tuple(of_source), tuple(found[key] for key in sources if key in found))


def _parsed(text: str) -> Expression:
    return expressions.parse(text, "t")


def _fields(bound: Bound, found: Explanation, compared: _Compared) -> tuple[Field, ...]:
    """The lines of the comparison: what passes compare, then what `show` names of the record and of the candidates."""
    number = len(compared.pairs)
    asked = {name: value for item in found.passes for name, value in item.asked.items()}
    fields: list[Field] = []
    for place, (left, right) in enumerate(compared.pairs):
        values = tuple(row[2 * place + 1] for row in compared.rows)
        equal = tuple(row[2 * number + place] for row in compared.rows)
        marks: tuple[Mark, ...] = tuple(_mark(item, asked.get(left)) for item in equal)
        label = left if left == right else f"{left} = {right}"
        fields.append(Field(label, asked.get(left), values, marks))
    in_pairs = {left for left, _ in compared.pairs}
    nothing = ("",) * len(compared.rows)
    unmarked: tuple[Mark, ...] = ("",) * len(compared.rows)
    labels = dict(zip(bound.spec.show, pairs.labels(bound.spec.show), strict=True))
    for text, label in labels.items():
        if text not in compared.shown and text.removeprefix("t.") not in in_pairs:
            fields.append(Field(label, found.record.get(label), nothing, unmarked))
    for place, text in enumerate([*compared.shown, "interpretation"] if compared.rows else ()):
        values = tuple(row[3 * number + place] for row in compared.rows)
        varies = any(value != values[0] for value in values)
        if text in labels or any(value is not None for value in values):
            fields.append(Field(labels.get(text, "in words"), "", values, unmarked, varies))
    return tuple(fields)


def _mark(equal: bool | None, record: object) -> Mark:
    if equal is None:
        return "record empty" if record is None else "empty"
    return "same" if equal else "differs"
