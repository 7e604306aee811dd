"""The sections of a report about time: what changed since the last report and the last signed one, and the trend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from recon.reports import figures, since
from recon.reports.data import ReportData
from recon.reports.since import Earlier
from recon.reports.tables import (
    Heading,
    Html,
    Number,
    change,
    count,
    escape,
    moment,
    percent,
    points,
    sentence,
    table,
    words,
)
from recon.reports.words import outcome_words, reason_words

if TYPE_CHECKING:
    import plotly.graph_objects as go

LEAST_RUNS = 2  # that make a line


# -- what changed ----------------------------------------------------------------------------------------


def changes(data: ReportData) -> Html:
    """What changed since the last report and since the last signed one, in sentences and beside each other."""
    last, signed = data.since.last, data.since.signed
    if last is None:
        return Html(
            sentence(f"This is the first report of {data.reconciliation} that is kept: the next one says what changed.")
        )
    said = _since(data, last, "Since the last report, which is signed" if data.since.one else "Since the last report")
    if signed is None:
        said += sentence(
            f"No report of {data.reconciliation} was signed yet. A reviewer who has read one signs it with"
            f" recon report {data.reconciliation} --sign FILE."
        )
    elif not data.since.one:
        said += _since(data, signed, "Since the last signed report")
    return Html(said + _beside(data) + _broken(last) + _moves(last))


def _since(data: ReportData, earlier: Earlier, title: str) -> str:
    """One sentence on what happened since, and under it which report that was."""
    happened = _happened(data, earlier)
    made = f"That report is of {moment(earlier.at)} and was made by {earlier.actor}."
    if earlier.signed_by is not None and earlier.signed_at is not None:
        made += f" {earlier.signed_by} signed it on {moment(earlier.signed_at)}: {earlier.proof}."
    return (
        f'<p class="since"><strong>{escape(title)}:</strong> {escape(happened)}</p><p class="note">{escape(made)}</p>'
    )


def _happened(data: ReportData, earlier: Earlier) -> str:
    """What happened since then, in one sentence."""
    then = earlier.figures
    if not then:
        return "it was made by another version of recon, and its figures cannot be compared."
    before, now = then["coverage"], data.now.share
    said: list[str] = []
    if before is not None and now is not None:
        step = points(before, now)
        same = now == before
        said.append(f"coverage stays at {percent(now)}" if same else f"coverage went to {percent(now)} ({step})")
    said.append(f"{_breaks(earlier.broken)} new" if earlier.broken else "no break is new")
    if earlier.resolved:
        said.append(f"{_breaks(earlier.resolved)} resolved")
    if earlier.to_and_fro:
        said.append(f"{_breaks(earlier.to_and_fro)} changed and back again")
    became = Counter(move["to_state"] for move in earlier.moves)
    said += [f"{_plans(number)} {words(state)}" for state, number in became.items() if state in _TOLD]
    return f"{', '.join(said)}."


_TOLD = ("planned", "rejected", "applied", "verified", "verify_failed", "apply_failed", "reverted",
         "reverted_with_conflicts")  # fmt: skip


def _breaks(number: int) -> str:
    return "1 break is" if number == 1 else f"{count(number)} breaks are"


def _plans(number: int) -> str:
    return "1 plan was" if number == 1 else f"{count(number)} plans were"


@dataclass(frozen=True)
class _Row:
    """One figure of the comparison: how it is found in what is kept, and how it is written."""

    label: str
    path: tuple[str, ...]
    share: bool = False
    always: bool = False  # shown although it did not change

    def of(self, kept: Mapping[str, Any]) -> Any:
        value: Any = kept
        for step in self.path:
            value = value.get(step) if isinstance(value, Mapping) else None
        if isinstance(value, list):
            return len(value)
        return 0 if value is None and len(self.path) > 1 and kept else value

    def written(self, value: Any) -> Number | None:
        if value is None:
            return None
        return Number(percent(value) if self.share else count(value))

    def step(self, before: Any, now: Any) -> Number | None:
        if before is None or now is None:
            return None
        return Number(points(before, now) if self.share else change(now - before))


def _rows(known: list[Mapping[str, Any]]) -> list[_Row]:
    """The figures to compare: those that are always told, and each outcome, reason and age that occurs in any."""

    def names(part: str) -> list[str]:
        return list(dict.fromkeys(name for figures in known for name in figures.get(part) or {}))

    return [
        _Row("coverage", ("coverage",), share=True, always=True),
        _Row("precision of the rules", ("precision",), share=True, always=True),
        _Row("population", ("population",), always=True),
        _Row("linked", ("linked",), always=True),
        *[_Row(f"decided {outcome_words(name)}", ("outcomes", name)) for name in names("outcomes")],
        *[_Row(f"other side {outcome_words(name)}", ("other_side", name)) for name in names("other_side")],
        *[_Row(f"reason: {reason_words(name)}", ("reasons", name)) for name in names("reasons")],
        _Row("open breaks", ("breaks",), always=True),
        _Row("open breaks that somebody has", ("assigned",)),
        _Row("plans that wait", ("plans",)),
        _Row("checks that failed", ("checks", "failed")),
        _Row("checks that could not be carried out", ("checks", "errored")),
    ]


def _beside(data: ReportData) -> str:
    """The figures of the three moments beside each other."""
    last, signed = data.since.last, data.since.signed
    now = since.figures(data)
    columns = [("last", "the last report", last)] if last and last.figures else []
    if signed and signed.figures and not data.since.one:
        columns.append(("signed", "the last signed report", signed))
    if not columns:
        return ""
    found: list[dict[str, Any]] = []
    for row in _rows([now, *(earlier.figures for _, _, earlier in columns)]):
        value = row.of(now)
        line: dict[str, Any] = {"figure": row.label, "now": row.written(value)}
        for name, _, earlier in columns:
            before = row.of(earlier.figures)
            line |= {name: row.written(before), f"{name}_step": row.step(before, value)}
        if row.always or any(row.of(earlier.figures) != value for _, _, earlier in columns):
            found.append(line)
    headings = [Heading("figure", "figure"), Heading("now", "now")]
    for name, title, _ in columns:
        headings += [Heading(name, "then", f"since {title}"), Heading(f"{name}_step", "change", f"since {title}")]
    return (
        table(headings, found, empty="") + '<p class="note">Outcomes and reasons that did not change are left out.</p>'
    )


def _broken(last: Earlier) -> str:
    """Which records broke since the last report, and which were resolved."""
    said = ""
    for title, rows, total in (
        ("Newly broken", last.newly_broken, last.broken),
        ("Newly resolved", last.newly_resolved, last.resolved),
    ):
        if not rows:
            continue
        found = [
            {
                "side": row["side"], "key": row["key"], "at": row["at"],
                "outcome": outcome_words(row["outcome"]) if title == "Newly broken" else row["detail"],
                "reason": reason_words(row["reason"]), "who": row["assignee"] or "nobody",
            }
            for row in rows
        ]  # fmt: skip
        headings = [Heading("side", "side"), Heading("key", "key"), Heading("at", "at")]
        if title == "Newly broken":
            headings += [Heading("outcome", "outcome"), Heading("reason", "why"), Heading("who", "who has it")]
        else:
            headings.append(Heading("outcome", "it is now"))
        said += f"<h3>{title} since the last report</h3>{table(headings, found, empty='', total=total)}"
    return said


def _moves(last: Earlier) -> str:
    """What became of plans since the last report."""
    if not last.moves:
        return ""
    found = [
        {
            "at": move["at"],
            "plan": move["plan"],
            "state": words(move["to_state"]),
            "rows": Number(count(move["rows"])),
            "who": move["actor"],
        }
        for move in last.moves
    ]
    headings = [
        Heading("at", "at"), Heading("plan", "plan"), Heading("state", "became"), Heading("rows", "rows"),
        Heading("who", "by"),
    ]  # fmt: skip
    return (
        f"<h3>What became of plans since the last report</h3>{table(headings, found, empty='', total=last.move_count)}"
    )


# -- the trend -------------------------------------------------------------------------------------------


def coverage_trend(data: ReportData) -> go.Figure | Html:
    """Coverage and precision over the past runs, as a line where there is more than one."""
    if len(data.past) < LEAST_RUNS:
        return Html(
            sentence(f"A trend needs two full runs; there {'is 1' if data.past else 'is none'}. Match again tomorrow.")
        )
    return figures.trend(data.past, data.expected_coverage)


def open_trend(data: ReportData) -> go.Figure | Html | None:
    """What was open after each past run, by outcome."""
    if len(data.past) < LEAST_RUNS:
        return None
    if not any(sum(item.open.values()) for item in data.past):
        return sentence("None of these runs left a record open.")
    return figures.open_records(data.past)


def trend(data: ReportData) -> Html:
    """The past runs as a table, the newest first: coverage with precision, and the counts by outcome."""
    present = list(dict.fromkeys(name for item in reversed(data.past) for name in item.outcomes))
    found: list[dict[str, Any]] = [
        {
            "at": item.at,
            "coverage": Number(percent(item.coverage)),
            "precision": Number(percent(item.precision)) if item.precision is not None else "not measured",
            "population": Number(count(item.population)),
            **{f"outcome {name}": Number(count(item.outcomes.get(name, 0))) for name in present},
        }
        for item in reversed(data.past)
    ]
    headings = [
        Heading("at", "run"),
        Heading("coverage", "coverage"),
        Heading("precision", "precision"),
        Heading("population", "records"),
        *[Heading(f"outcome {name}", outcome_words(name), "by outcome") for name in present],
    ]
    said = table(headings, found, empty="No run looked at the whole population yet.")
    return Html(f'{said}<p class="note">{_COUNTED}</p>' if found else said)


_COUNTED = (
    "The last full runs, 60 at most. A run counts what it matched as covered; the coverage now, further up, counts what"
    " the table holds. The precision is that of the rules a run decided by, as it was measured last."
)
