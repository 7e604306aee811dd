"""What the explore notebook shows, drawn as HTML: every value is escaped."""

from __future__ import annotations

from recon.desk.explore import Field, Mark, Step, View, Why
from recon.desk.page import framed
from recon.matching import decide as deciding
from recon.reports.tables import count, escape, percent, shown
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
    "linked": "good", "chosen": "good", "tied": "doubt", "proposed": "doubt", "less preferred": "none",
    "other key": "none",
}  # fmt: skip
_MARKS: dict[Mark, tuple[str, str]] = {
    "same": ("✓ same", "good"),
    "differs": ("≠ differs", "bad"),
    "record empty": ("∅ record has none", "none"),
    "empty": ("∅ has none", "none"),
    "": ("", ""),
}
_COLOURS = {"linked": "good", "matched": "good", "same": "good", "changed": "good", "proposed": "doubt",
            "ambiguous": "doubt", "unmatched": "bad", "orphan": "bad", "missing": "bad", "invalid": "bad"}  # fmt: skip


def counts_html(view: View) -> str:
    """Outcomes and their reasons as bars; a bar's length is its share of the population."""
    lines: list[str] = []
    for outcome, number in view.run.outcomes.items():
        colour = _COLOURS.get(outcome, "none")
        label = escape(outcome_words(outcome))
        reasons = [item for item in view.counts if item.outcome == outcome and item.reason]
        if len(reasons) == 1:  # the reason of them all needs no line of its own
            label += f' <span class="quiet">· {escape(reason_words(reasons.pop().reason))}</span>'
        lines.append(_bar("", label, number, view.run.population, colour))
        lines += [
            _bar("reason", escape(reason_words(item.reason)), item.records, view.run.population, colour)
            for item in reasons
        ]
    head = '<th>outcome and reason</th><th class="number">records</th><th class="number">share</th><th></th>'
    return framed(f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table>")


def _bar(kind: str, label: str, number: int, whole: int, colour: str) -> str:
    width = 100 * number / whole if whole else 0
    return (
        f'<tr class="{kind}"><th scope="row">{label}</th><td class="number">{count(number)}</td>'
        f'<td class="number">{percent(number / whole if whole else None)}</td>'
        f'<td style="width: 45%"><div class="bar {colour}" style="width: {width:.2f}%"></div></td></tr>'
    )


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
    target, source = view.bound.target.label, view.bound.source.label
    head = f'<th></th><th scope="col">{escape(target)}<br>{escape(found.key)}</th>'
    for key, role in zip(found.candidates, found.roles, strict=True):
        colour = _ROLES.get(role, "bad")
        head += (
            f'<th scope="col">{escape(source)}<br>{escape(shown(key))} '
            f'<span class="chip {colour}">{escape(role)}</span></th>'
        )
    body = "".join(_field(item) for item in found.fields)
    alone = "" if found.candidates else '<p class="quiet">No pass found a candidate.</p>'
    return framed(
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>{alone}'
    )


def _field(item: Field) -> str:
    varies = ' <span class="chip doubt">≠ candidates differ</span>' if item.varies else ""
    cells = f'<td class="value">{escape(shown(item.record))}</td>'
    for value, mark in zip(item.values, item.marks, strict=True):
        word, colour = _MARKS[mark]
        chip = f' <span class="chip {colour}">{word}</span>' if word else ""
        cells += f'<td class="value">{escape(shown(value))}{chip}</td>'
    return f'<tr><th scope="row">{escape(item.label)}{varies}</th>{cells}</tr>'


def sql_html(view: View) -> str:
    """The matching of this reconciliation as the statements that a run executes."""
    return framed(f"<pre>{escape(deciding.sql(view.bound))}</pre>")
