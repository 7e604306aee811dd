"""What the explore notebook shows, drawn as HTML: every value is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recon.database.watched import Statement
from recon.desk import page
from recon.desk.explore import View
from recon.desk.explore_facets import NONE
from recon.desk.explore_records import FILE_ROWS, Page
from recon.desk.explore_why import Kind, Line, Step, Why
from recon.desk.page import prose
from recon.matching import decide as deciding
from recon.reports.tables import count, escape, moment, percent, records, shown, words
from recon.reports.waterfall import steps
from recon.reports.words import outcome_words, reason_words

_RESULTS = {  # icon, word, colour
    "best": ("✓", "match", "good"),
    "tie": ("≈", "tie", "doubt"),
    "taken": ("✗", "taken", "bad"),
    "already_linked": ("✗", "linked already", "bad"),
    "forbidden": ("✗", "forbidden", "bad"),
    "out_of_tolerance": ("✗", "out of tolerance", "bad"),
    "when_false": ("✗", "condition fails", "bad"),
    "no_candidate": ("✗", "no candidate", "bad"),
    "null_key": ("∅", "empty field", "none"),
}
_ROLES = {  # what a candidate is; whatever else there is stands in its way
    "linked": "good", "chosen": "good", "chosen by a person": "good", "tied": "doubt", "proposed": "doubt",
    "less preferred": "none", "other key": "none",
}  # fmt: skip
_MARKS: dict[Kind, tuple[str, str]] = {"same": ("✓", "good"), "differs": ("≠", "bad"), "empty": ("∅", "none")}
_COLOURS = {"linked": "good", "matched": "good", "same": "good", "changed": "good", "proposed": "doubt",
            "ambiguous": "doubt", "unmatched": "bad", "orphan": "bad", "missing": "bad", "invalid": "bad"}  # fmt: skip
_HEADINGS = {
    "outcome": "Outcome",
    "reason": "Reason",
    "pass": "Pass",
    "age": "Age of the break",
    "month": "Month",
    "assignee": "Assigned to",
}
_NOTHING = {"reason": "no reason", "pass": "no pass", "age": "no break", "month": "no date", "assignee": "nobody"}
SHOWN_VALUE = 300  # characters of a bound value


# What only these views need of style; the rest is every app's.
_STYLE = """<style>
.rx .stats { display: flex; flex-wrap: wrap; gap: 0.75rem; }
.rx .stats > div { flex: 1 1 10.5rem; border: 1px solid rgb(128 128 128 / 0.3); border-radius: 0.5rem; padding: 0.6rem 0.9rem; display: flex; flex-direction: column; }
.rx .stats span { font-weight: 600; } .rx .stats small { opacity: 0.7; overflow-wrap: anywhere; }
.rx .stats b { font-size: 1.45rem; font-weight: 600; line-height: 1.7; white-space: nowrap; }
.rx .bars th, .rx .bars td { vertical-align: middle; } .rx .bars .wide { width: 45%; min-width: 5rem; }
.rx .bars tbody th { white-space: normal; }
.rx tr.total th, .rx tr.total td { font-weight: 600; border-top: 2px solid rgb(128 128 128 / 0.4); border-bottom: 0; }
.rx .statement { margin-bottom: 1rem; } .rx .statement pre { max-height: 24rem; overflow: auto; } .rx table.bound { width: auto; margin-top: 0.4rem; font-size: 0.8rem; }
.rx .beside { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); gap: 1.5rem; }
.rx p { margin: 0.3rem 0; } .rx .scroll td.value { min-width: 8rem; }
@media (max-width: 640px) {
  .rx th, .rx td { padding: 0.3rem 0.4rem; }
  .rx .bars .wide { width: 22%; min-width: 3rem; }
  .rx li { grid-template-columns: 1.2rem 1fr; padding: 0.5rem 0.3rem; } .rx li > :nth-child(n + 3), .rx li .sentence { grid-column: 2; }
  .rx tbody th { white-space: normal; }
}
</style>"""


def framed(inner: str) -> str:
    """HTML with the style of the apps, and of these views, around it."""
    return page.framed(_STYLE + inner)


# -- numbers ---------------------------------------------------------------------------------------------


def top_html(view: View) -> str:
    """What must be said of private columns; population, coverage with its precision, and what is left to explain."""
    expected = view.bound.spec.expect.coverage
    share = f"expected {percent(float(expected))}" if expected is not None else "of the population is reconciled"
    told = f"recon backtest {view.run.reconciliation}"
    precision = (
        f"<b>{percent(view.precision)}</b><small>of what was checked is right</small>"
        if view.precision is not None
        else f"<b>not measured</b><small>{prose(f'run `{told}`')}</small>"
    )
    stats = (
        ("Population", f"<b>{count(view.run.population)}</b><small>{_side_words(view)} records</small>"),
        ("Coverage", f"<b>{percent(view.run.coverage)}</b><small>{escape(share)}</small>"),
        ("Precision", precision),
        ("Left to explain", f"<b>{count(view.left)}</b><small>records, neither linked nor matched</small>"),
        ("Run", f"<b>{escape(moment(view.run.started_at))}</b><small>by {escape(view.run.actor)}</small>"),
    )
    tiles = "".join(f"<div><span>{name}</span>{value}</div>" for name, value in stats)
    return framed(f'{page.private_html(view.private)}<div class="stats">{tiles}</div>')


def _side_words(view: View) -> str:
    side = view.bound.population
    return f"{escape(view.bound.place(side))}, {'target' if side == 't' else 'source'}"


def waterfall_html(view: View) -> str:
    """How the run's decisions add up to the population: each bar starts where the last one ended."""
    whole = view.run.population or 1
    position = 0
    lines: list[str] = []
    for step in steps(view.run):
        total = step.kind == "population"
        start = 0 if total else position
        position = step.records if total else position + step.records
        sign = "+" if step.records and not total and step.kind != "linked" else ""
        drawn = bar(step.records, whole, "none" if total else _COLOURS.get(step.kind, "none"), start)
        kind = ' class="total"' if total else ""
        lines.append(
            f'<tr{kind}><th scope="row">{escape(words(step.label))}</th>'
            f'<td class="number">{sign}{count(step.records)}</td>{drawn}</tr>'
        )
    head = '<th scope="col">pass</th><th scope="col" class="number">records</th><th class="wide"></th>'
    return framed(f"<table class='bars'><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>")


def numbers_html(view: View) -> str:
    """The waterfall and the counts, beside one another where there is room."""
    return framed(f'<div class="beside"><div>{waterfall_html(view)}</div><div>{counts_html(view)}</div></div>')


def counts_html(view: View) -> str:
    """Outcomes and their reasons as bars; a bar's length is its share of the population."""
    lines: list[str] = []
    others = {name: number for name, number in view.run.other_side.items() if number}
    for outcome, number in {**view.run.outcomes, **others}.items():
        colour = _COLOURS.get(outcome, "none")
        label = escape(outcome_words(outcome))
        if outcome in others:
            label += ' <span class="quiet">· other side</span>'
        reasons = view.cube.by_reason(outcome)
        if len(reasons) == 1:  # the reason of them all needs no line of its own
            label += f' <span class="quiet">· {escape(reason_words(next(iter(reasons))))}</span>'
            reasons = {}
        whole = 0 if outcome in others else view.run.population
        lines.append(_counted("", label, number, whole, colour))
        lines += [
            _counted("reason", escape(reason_words(reason)), part, whole, colour) for reason, part in reasons.items()
        ]
    head = (
        '<th scope="col">outcome and reason</th><th scope="col" class="number">records</th>'
        '<th scope="col" class="number">share</th><th class="wide"></th>'
    )
    return framed(f"<table class='bars'><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>")


def _counted(kind: str, label: str, number: int, whole: int, colour: str) -> str:
    return (
        f'<tr class="{kind}"><th scope="row">{label}</th><td class="number">{count(number)}</td>'
        f'<td class="number">{percent(number / whole if whole else None)}</td>{bar(number, whole, colour)}</tr>'
    )


def bar(number: int, whole: int, colour: str, start: int = 0) -> str:
    """A cell with a bar as long as this share of the whole, after so much of it."""
    width, left = (100 * part / whole if whole else 0 for part in (number, start))
    shape = f'<div class="bar {colour}" style="width: {width:.2f}%; margin-left: {min(left, 99.5):.2f}%"></div>'
    return f'<td class="wide">{shape if number and whole else ""}</td>'


# -- choosing --------------------------------------------------------------------------------------------


def heading(facet: str) -> str:
    """What stands above a facet."""
    return _HEADINGS[facet]


def choice_label(facet: str, value: str, number: int) -> str:
    """A value of a facet with its count, for a label, which reads markdown: nothing in it is markup."""
    if value == NONE:
        said = _NOTHING.get(facet, "none")
    elif facet == "outcome":
        said = outcome_words(value)
    else:
        said = reason_words(value) if facet == "reason" else value
    text = f"{plain(said)} <small>{count(number)}</small>"
    return text if number else f'<span style="opacity: 0.55">{text}</span>'


def plain(text: str) -> str:
    """Text in which neither markdown nor HTML finds markup.

    >>> plain("a *b* <c>")
    'a &#42;b&#42; &#60;c&#62;'
    """
    return "".join(letter if letter.isalnum() or letter == " " else f"&#{ord(letter)};" for letter in text)


def page_html(found: Page) -> str:
    """Which of the records this page shows."""
    last = found.first + len(found.rows) - 1
    where = f"{count(found.first)} to {count(last)} of " if found.pages > 1 else ""
    return framed(f"<p>{where}<strong>{records(found.total)}</strong></p>")


def file_note_html(found: Page) -> str:
    """What a downloaded file holds."""
    held = f"The files hold the first {count(FILE_ROWS)} of them." if found.total > FILE_ROWS else ""
    return framed(f'<p class="quiet">{held}</p>') if held else ""


# -- one record ------------------------------------------------------------------------------------------


def title_html(found: Why) -> str:
    """Which record this is, and what was decided for it."""
    row = found.row
    reason = f" · {escape(reason_words(row['reason']))}" if row["reason"] else ""
    held = " · The link was there before the run, so no pass was asked. Below is what each says of it now."
    held = held if row["outcome"] == "linked" else ""
    chip = f'<span class="chip {_COLOURS.get(row["outcome"], "none")}">{escape(outcome_words(row["outcome"]))}</span>'
    return framed(f"<h2>Why {escape(found.key)}?</h2><p>{chip}{reason}{held}</p>")


def steps_html(found: Why) -> str:
    """The passes in order: what each found for this record, and which one decided."""
    return framed(f"<ol>{''.join(_step(number, step, found) for number, step in enumerate(found.steps, start=1))}</ol>")


def _step(number: int, step: Step, found: Why) -> str:
    icon, word, colour = _RESULTS.get(step.explained.result, ("", step.explained.result, "none"))
    sentence = escape(step.explained.sentence)
    if not step.reached:
        icon, word, colour, sentence = "–", "not reached", "none", "An earlier pass decided."
    elif step.here:
        said = "came closest" if found.row["outcome"] in ("unmatched", "orphan", "missing") else "decided here"
        sentence += f' <span class="chip none">← {said}</span>'
    return (
        f'<li class="{"here" if step.here else ""}{"" if step.reached else "quiet"}">'
        f'<span class="quiet">{number}</span><span><span class="chip {colour}">{icon} {escape(word)}</span></span>'
        f'<span><strong>{escape(step.explained.name)}</strong> <span class="quiet">confidence {step.confidence}</span></span>'
        f'<span class="sentence value">{sentence}</span></li>'
    )


def candidates_html(view: View, found: Why) -> str:
    """The record and its candidates side by side, field by field; what differs is marked in words too."""
    mine, other = view.bound.place(found.side), view.bound.place("s" if found.side == "t" else "t")
    head = f'<th></th><th scope="col">{escape(mine)}<br>{escape(found.key)}</th>'
    for key, role in zip(found.candidates, found.roles, strict=True):
        colour = _ROLES.get(role, "bad")
        head += f'<th scope="col">{escape(other)}<br>{escape(shown(key))} <span class="chip {colour}">{escape(role)}</span></th>'
    body = "".join(_line(item) for item in found.lines)
    alone = "" if found.candidates else '<p class="quiet">No pass found a candidate.</p>'
    return framed(
        f'<div class="scroll"><table class="sides"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{alone}'
    )


def _line(item: Line) -> str:
    varies = ' <span class="chip doubt">≠ candidates differ</span>' if item.varies else ""
    cells = f'<td class="value">{escape(shown(item.record))}</td>'
    for value, mark in zip(item.values, item.marks, strict=True):
        icon, colour = _MARKS[mark.kind] if mark else ("", "")
        chip = f' <span class="chip {colour}">{icon} {escape(mark.words)}</span>' if mark else ""
        cells += f'<td class="value">{escape(shown(value))}{chip}</td>'
    return f'<tr><th scope="row">{escape(item.label)}{varies}</th>{cells}</tr>'


def done_html(done: str) -> str:
    """What was done about a record."""
    return escape(done)


def break_html(found: dict[str, Any]) -> str:
    """Since when a record is a break, and with whom it is."""
    days = "today" if not found["days"] else f"for {found['days']} day{'' if found['days'] == 1 else 's'}"
    whose = f"with <strong>{escape(found['assignee'])}</strong>" if found["assignee"] else "with nobody"
    since = escape(moment(found["opened_at"]))
    return framed(f"<p>An open break {days} (since {since}), {whose}.</p>")


def waiting_html(view: View, number: int) -> str:
    """How many decisions the next run will take account of, and which run this is."""
    run = f"of {escape(moment(view.run.started_at))}"
    if not number:
        return framed(f"<p class='quiet'>What is shown is the run {run}.</p>")
    said = "1 decision of a person was" if number == 1 else f"{count(number)} decisions of people were"
    return framed(
        f"<p><strong>{said} made or undone since the run {run}.</strong> Match again to take account of it.</p>"
    )


# -- the SQL behind it -----------------------------------------------------------------------------------


def matching_html(view: View) -> str:
    """The matching of this reconciliation as the statements that a run executes."""
    return framed(f"<pre>{escape(deciding.sql(view.bound))}</pre>")


def statements_html(said: Sequence[Statement]) -> str:
    """Statements as they were sent, each with the values that were bound to it."""
    return framed("".join(_statement(item) for item in said) or "<p>No statement was needed.</p>")


def _statement(item: Statement) -> str:
    values = "".join(
        f"<tr><th scope='row'>${place}</th><td class='value'>{escape(_value(value))}</td></tr>"
        for place, value in enumerate(item.values, start=1)
    )
    bound = f"<table class='bound'><tbody>{values}</tbody></table>" if values else ""
    return f"<div class='statement'><pre>{escape(item.sql.strip())}</pre>{bound}</div>"


def _value(value: object) -> str:
    text = ", ".join(str(item) for item in value) if isinstance(value, (list, tuple)) else shown(value)
    return text if len(text) <= SHOWN_VALUE else f"{text[:SHOWN_VALUE]}…"
