"""What the preview notebook shows, drawn as HTML: every value is escaped, and what would deceive the eye is spelled out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Context, Decimal, localcontext
from typing import Any

from recon.backfill import approvals, drift, outside_words
from recon.backfill.contents import READING_ORDER
from recon.backfill.plan import Plan
from recon.backfill.review import PENDING, Review
from recon.backfill.review_page import highlighted
from recon.desk import page
from recon.desk.page import prose
from recon.desk.preview import DRAFT_ROWS, SLOW_POPULATION, Entry, Page, Place, Preview, by_author
from recon.desk.preview_actions import TYPED_CHARACTERS
from recon.desk.preview_rows import DOWNLOADED_ROWS, Group, Image, Row
from recon.errors import visible
from recon.matching.coverage import looked_at
from recon.matching.privacy import VEIL
from recon.matching.run import Run
from recon.reports import tables
from recon.reports.tables import count, moment, percent

_SUM_DIGITS = 200_000  # more than any numeric of PostgreSQL has
SHOWN_CHARACTERS = 200  # of a value in a table
_STATES = {  # icon and colour; whatever else there is has not been written yet
    "planned": ("◔", "doubt"), "approved": ("✓", "good"), "applying": ("▶", "doubt"), "applied": ("✓", "good"),
    "verified": ("✓✓", "good"), "interrupted": ("‖", "doubt"), "apply_failed": ("✗", "bad"), "stale": ("✗", "bad"),
    "verify_failed": ("✗", "bad"), "rejected": ("✗", "bad"), "reverting": ("◀", "doubt"), "reverted": ("↶", "none"),
    "reverted_with_conflicts": ("↶", "doubt"), "superseded": ("–", "none"), "expired": ("–", "none"),
}  # fmt: skip

_STYLE = """<style>
.rx dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.2rem 1.25rem; margin: 0; }
.rx dt { opacity: 0.65; } .rx dd { margin: 0; overflow-wrap: anywhere; }
.rx .sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 1rem 2.5rem; }
.rx p { margin: 0.3rem 0; overflow-wrap: anywhere; }
.rx h2 { overflow-wrap: anywhere; } .rx h3 { font-size: 1rem; font-weight: 600; margin: 0.9rem 0 0.3rem; }
.rx tfoot th, .rx tfoot td { font-weight: 600; border-bottom: 0; }
.rx .before { opacity: 0.7; } .rx .after { font-weight: 600; }
.rx .rule { white-space: nowrap; } .rx .whole { white-space: nowrap; } .rx .sides dl { align-content: start; }
.rx .rows tbody th { white-space: normal; overflow-wrap: anywhere; min-width: 8rem; }
.rx .rows td.source { overflow-wrap: anywhere; min-width: 8rem; } .rx .rows td.beside { min-width: 12rem; overflow-wrap: anywhere; }
.rx .images { min-width: 25rem; } .rx .images dl { grid-template-columns: 9.5rem minmax(3rem, 1fr) minmax(6rem, 1.3fr) max-content; gap: 0.15rem 0.6rem; }
.rx .pairs { display: flex; flex-wrap: wrap; gap: 0.1rem 1rem; overflow-wrap: anywhere; }
.rx .beside p { margin: 0 0 0.25rem; font-weight: 500; }
.rx .nothing { font-style: italic; opacity: 0.65; }
.rx pre.sql { white-space: pre-wrap; overflow-wrap: anywhere; padding: 0.75rem 0.9rem; border-radius: 6px; background: rgb(128 128 128 / 0.1); }
.rx .sql .word { color: light-dark(#0b57a4, #7db4ea); font-weight: 600; } .rx .sql .text { color: light-dark(#22683c, #7cc796); }
.rx .sql .parameter { color: light-dark(#a8322a, #f0918a); font-weight: 600; } .rx .sql .comment { opacity: 0.65; font-style: italic; }
.rx .copied { display: block; user-select: all; font-family: ui-monospace, "Liberation Mono", monospace; font-size: 0.8rem; padding: 0.5rem 0.75rem; border: 1px solid rgb(128 128 128 / 0.35); border-radius: 6px; overflow-wrap: anywhere; }
.rx .copied b { border-bottom: 2px solid currentColor; }
.rx ul.plain { list-style: none; margin: 0; padding: 0; }
.rx ul.plain li { display: block; padding: 0.3rem 0; border: 0; border-bottom: 1px solid rgb(128 128 128 / 0.22); }
.rx .track { height: 0.8rem; border-radius: 4px; background: rgb(128 128 128 / 0.22); overflow: hidden; max-width: 40rem; }
.rx .track div { height: 100%; background: #2f7fd0; }
@media (max-width: 700px) {
  .rx dl { grid-template-columns: 1fr; gap: 0; } .rx dd { margin-bottom: 0.4rem; }
  .rx .rows thead { display: none; }
  .rx .rows, .rx .rows tbody, .rx .rows tr, .rx .rows th, .rx .rows td { display: block; width: auto; text-align: left; }
  .rx .rows tr { padding: 0.5rem 0; border-bottom: 1px solid rgb(128 128 128 / 0.35); }
  .rx .rows th, .rx .rows td { border: 0; padding: 0.1rem 0 0.1rem 8.5rem; position: relative; min-height: 1.3rem; white-space: normal; }
  .rx .rows th::before, .rx .rows td::before { content: attr(data-label); position: absolute; left: 0; width: 8rem; opacity: 0.65; font-weight: 400; overflow-wrap: anywhere; }
  .rx .images { min-width: 0; } .rx .rows td.images, .rx .rows td.beside { padding: 1.6rem 0 0; }
  .rx .rows td.images::before, .rx .rows td.beside::before { top: 0.3rem; }
  .rx .images dl { grid-template-columns: 1fr 1.2fr max-content; } .rx .images dt { grid-column: 1 / -1; }
  .rx .images dd { margin: 0; }
}
</style>"""


def framed(inner: str) -> str:
    """HTML in the style of this app."""
    return page.framed(_STYLE + inner)


def _text(value: object) -> str:
    """A value as people read it: escaped, not too long, with nothing hidden in it."""
    if value is None:
        return '<span class="nothing">empty</span>'
    text = tables.shown(value) if not isinstance(value, str) else value
    text = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"
    if not text:
        return '<span class="nothing">empty text</span>'
    written = tables.escape(visible(text))
    # A date or a number is read as one piece.
    return f'<span class="whole">{written}</span>' if len(text) <= 12 and " " not in text else written


def chip(icon: str, words: str, colour: str) -> str:
    """A word with its icon; the colour says nothing more."""
    return f'<span class="chip {colour}">{icon} {tables.escape(visible(words))}</span>'


def state_chip(state: str) -> str:
    """The state of a plan, by icon and word."""
    icon, colour = _STATES.get(state, ("", "none"))
    return chip(icon, state.replace("_", " "), colour)


def _state(state: str) -> str:
    return tables.escape(state.replace("_", " "))


def _facts(facts: Mapping[str, str]) -> str:
    return "<dl>" + "".join(f"<dt>{tables.escape(name)}</dt><dd>{said}</dd>" for name, said in facts.items()) + "</dl>"


def _rows(number: int) -> str:
    return f"{count(number)} row{'' if number == 1 else 's'}"


def _table(kind: str, head: Sequence[tuple[str, bool]], body: Iterable[str], foot: str = "") -> str:
    cells = "".join(
        f'<th scope="col"{" class=number" if right else ""}>{tables.escape(visible(name))}</th>' for name, right in head
    )
    return (
        f'<div class="scroll"><table class="{kind}"><thead><tr>{cells}</tr></thead><tbody>{"".join(body)}</tbody>'
        f"{f'<tfoot>{foot}</tfoot>' if foot else ''}</table></div>"
    )


# -- above all -------------------------------------------------------------------------------------------


def header_html(preview: Preview, place: Place) -> str:
    """Which plan this is, who looks at it, and where; first what must be said of private columns."""
    here = {
        "You are": f"<strong>{_text(place.actor)}</strong>"
        + (f" {chip('✎', 'author of this plan', 'doubt')}" if by_author(preview, place.actor) else ""),
        "Environment": _text(place.environment),
        "Database": f"{_text(place.database)} on {_text(place.host)}",
        "Writes": f"{_text(preview.target)}: {_text(', '.join(preview.planned.shape.columns) or 'nothing')}",
    }
    plan, private = preview.plan, page.private_html(preview.private)
    if plan is not None and plan.outside:
        here["Writes outside"] = _text(outside_words.written(plan.outside))
    if plan is None:
        title = f"<h2>Draft for {_text(preview.reconciliation)}</h2>"
        about = {
            "State": f"{chip('✎', 'draft', 'none')} nothing is kept, and nobody can sign it",
            "Rows": _rows(preview.rows),
            "From run": _text(preview.run),
            "Left out": _text(_left_out(preview)),
        }
        return framed(f'{private}{title}<div class="sides">{_facts(about)}{_facts(here)}</div>')
    limited = looked_at(plan.document["run_limited"])
    about = {
        "State": state_chip(plan.state)
        + (f" {count(preview.done)} of {_rows(plan.rows)} written" if 0 < preview.done < plan.rows else ""),
        "Rows": _rows(plan.rows),
        "Made": f"{moment(plan.created_at)} by {_text(plan.author)}, who cannot approve it",
        "Expires": moment(plan.expires_at),
        "From run": _text(plan.run) + (f", which looked at {_text(limited)}" if limited else ""),
        "Left out": _text(_left_out(preview)),
    }
    return framed(f'{private}<h2>{_text(plan.plan)}</h2><div class="sides">{_facts(about)}{_facts(here)}</div>')


def _left_out(preview: Preview) -> str:
    held = preview.plan.document["left_out"] if preview.plan else preview.left_out or {}
    return ", ".join(f"{reason} ({count(number)})" for reason, number in held.items()) or "nothing"


def slow_draft_html(run: Run) -> str:
    """Why a draft is not made at once."""
    seconds = sum(run.seconds.values())
    return prose(
        f"The latest run decided {count(run.population)} records in {seconds:,.1f} s. A draft decides them again as they are"
        f" now, so from {count(SLOW_POPULATION)} records on it is made when you ask for it. Nothing of it is kept."
    )


def spec_problem(preview: Preview) -> str:
    """What is missing on the page where the spec and the database do not fit; mostly nothing."""
    if preview.planned.problem is None:
        return ""
    return (
        page.problem_html(preview.planned.problem)
        + f"<p>So nobody can say which columns are private: all values stand as {VEIL}.</p>"
    )


# -- what changes ----------------------------------------------------------------------------------------


def groups_html(preview: Preview) -> str:
    """Rows, share, confidence, precision and sums of each pass and action."""
    # An amount that no row has needs no column.
    places = [n for n in range(len(preview.sums)) if any(item.sums[n] is not None for item in preview.groups)]
    head = [
        ("pass", False),
        ("action", False),
        *[(name, True) for name in ("rows", "share", "confidence", "precision")],
    ]
    head += [(f"sum of {preview.sums[place].label}", True) for place in places]
    body = [_group(preview, item, places) for item in preview.groups]
    totals = [_sum(item.sums[place] for item in preview.groups) for place in places]
    foot = (
        f'<tr><th scope="row">all</th><td></td><td class="number">{count(preview.rows)}</td>'
        f'<td class="number">{percent(1 if preview.rows else None)}</td><td></td><td></td>'
        + "".join(f'<td class="number">{tables.escape(tables.shown(total))}</td>' for total in totals)
        + "</tr>"
    )
    known = f"These rules: {preview.backtest.words}." if preview.backtest else (
        f"How precise these rules are was not measured: run `recon backtest {preview.reconciliation}`."
    )  # fmt: skip
    return framed(_table("counts", head, body, foot) + f'<p class="quiet">{prose(visible(known))}</p>')


def _group(preview: Preview, item: Group, places: Sequence[int]) -> str:
    low, high = (f"{float(value):g}" if value is not None else "–" for value in (item.lowest, item.highest))
    cells = [
        count(item.rows),
        percent(item.rows / preview.rows if preview.rows else None),
        low if low == high else f"{low} to {high}",
        percent(preview.precision(item.rule)),
        *[tables.shown(item.sums[place]) for place in places],
    ]
    numbers = "".join(f'<td class="number">{tables.escape(cell)}</td>' for cell in cells)
    return f'<tr><th scope="row">{_text(item.rule or "no pass")}</th><td>{_text(item.action)}</td>{numbers}</tr>'


def _sum(values: Iterable[Decimal | None]) -> Decimal | None:
    """As PostgreSQL adds them up: no digit is lost, and infinities of both signs give NaN.

    >>> _sum([Decimal("Infinity"), None, Decimal("-Infinity")]), _sum([Decimal("1e30"), Decimal("0.01")])
    (Decimal('NaN'), Decimal('1000000000000000000000000000000.01'))
    """
    held = [value for value in values if value is not None]
    with localcontext(Context(prec=_SUM_DIGITS, traps=[])):
        return sum(held, Decimal(0)) if held else None


def page_words(preview: Preview, found: Page) -> str:
    """Which of how many rows stand below."""
    last = found.first + len(found.rows) - 1
    said = (
        f"Rows {count(found.first)} to {count(last)} of {count(found.total)}, in the order in which they are written."
    )
    if preview.drafted is not None and found.total > found.pages * len(found.rows) and preview.rows > DRAFT_ROWS:
        said += f" Of a draft the first {DRAFT_ROWS} of each pass and action are listed."
    return said


def download_words(preview: Preview, found: Page) -> str:
    """What a download holds."""
    if preview.drafted is None and found.total > DOWNLOADED_ROWS:
        return f"Files hold the first {count(DOWNLOADED_ROWS)} of these rows; changes.csv in the bundle has every row."
    return ""


def rows_html(preview: Preview, found: Page) -> str:
    """Rows before and after, what changes marked by an icon and a word."""
    shape = preview.planned.shape
    # Where no row of this page has a value there is no need for a column.
    places = range(len(preview.planned.labels))
    filled = [place for place in places if any(row.shown[place] is not None for row in found.rows)]
    head = [
        ", ".join(shape.keys),
        f"source {', '.join(shape.source_keys)}",
        "pass and action",
        "before → after",
        "beside it",
    ]
    labels = [(place, preview.planned.labels[place]) for place in filled]
    return framed(_table("rows", [(name, False) for name in head], (_row(row, head, labels) for row in found.rows)))


def _row(row: Row, head: Sequence[str], labels: Sequence[tuple[int, str]]) -> str:
    key = _text(row.key) if row.key is not None else '<span class="nothing">new</span>'
    source = _text(row.source) if row.source is not None else '<span class="nothing">none</span>'
    beside = "".join(
        f'<span><span class="quiet">{_text(label)}</span>'
        f" {_text(row.shown[place]) if row.shown[place] is not None else '–'}</span>"
        for place, label in labels
    )
    about = f"<p>{_text(row.about)}</p>" if row.about is not None else ""
    cells = [
        ("source", source),
        ("rule", f'{_text(row.rule or "no pass")}<br><span class="quiet">{_text(row.action)}</span>'),
        ("images", f"<dl>{''.join(_image(row, item) for item in row.images if _written(item))}</dl>"),
        ("beside", f'{about}<div class="pairs">{beside}</div>'),
    ]
    body = "".join(
        f'<td class="{kind}" data-label="{tables.escape(visible(label))}">{cell}</td>'
        for label, (kind, cell) in zip(head[1:], cells, strict=True)
    )
    return f'<tr><th scope="row" data-label="{tables.escape(visible(head[0]))}">{key}</th>{body}</tr>'


def _written(item: Image) -> bool:
    """Whether there is something to say of a column: of one that a row's action does not write nothing is staged."""
    return item.changes or item.before is not None or item.after is not None


def _image(row: Row, item: Image) -> str:
    """One written column: its name, what it was, what it becomes, and which kind of change that is."""
    name = f"<dt>{_text(item.column)}</dt>"
    if not item.changes:
        return f'{name}<dd class="before">{_text(item.after)}</dd><dd></dd><dd>{chip("=", "stays", "none")}</dd>'
    icon, word, colour = "≠", "changes", "doubt"
    if item.before is None:
        icon, word, colour = "+", "new" if row.action == "insert" else "set", "good"
    elif item.after is None:
        icon, word, colour = "−", "cleared", "bad"
    before = "" if row.action == "insert" else _text(item.before)
    return (
        f'{name}<dd class="before">{before}</dd><dd class="after">→ {_text(item.after)}</dd>'
        f"<dd>{chip(icon, word, colour)}</dd>"
    )


def sql_html(text: str, values: Sequence[Any] = ()) -> str:
    """A statement as it is sent, and what stands for its parameters."""
    bound = "; ".join(f"${number} = {value!r}" for number, value in enumerate(values, 1))
    said = f'<p class="quiet">With {_text(bound)}</p>' if values else ""
    return framed(f'<pre class="sql">{highlighted(text)}</pre>{said}')


# -- how it stands now -----------------------------------------------------------------------------------


def problems_html(review: Review) -> str:
    """Why the plan could not be applied now, each reason with its three parts."""
    return "<hr style='opacity: 0.25'>".join(page.problem_html(error) for error in review.problems)


def lint_html(review: Review) -> str:
    """What the rules for scripts found, and what a reviewer should know of the table."""
    findings = "".join(
        f"<li>{chip('✗', 'refused', 'bad') if item.severity == 'refuse' else chip('!', 'note', 'doubt')}"
        f" <strong>{_text(item.rule)}</strong>: {_text('the table' if item.where == 'database' else item.where)}"
        f' {_text(item.what)}. <span class="quiet">{prose(visible(item.todo))}</span></li>'
        for item in review.contents.findings
    )
    kept = "" if review.contents.refused else (
        f"<p>{chip('✓', 'rules kept', 'good')} The four scripts keep every rule: one statement each, guarded, bounded,"
        " names in full, this table and these columns only.</p>"
    )  # fmt: skip
    return framed(f'{kept}<ul class="plain">{findings}</ul>' if findings else kept)


def drift_html(review: Review, preview: Preview) -> str:
    """Which rows are no longer as planned."""
    rows = review.plan.rows
    if review.plan.state not in PENDING:
        return framed(f"<p>The plan is {_state(review.plan.state)}: no row waits to be written, so none can drift.</p>")
    if review.drifts is None:
        return framed(
            f"<p>{chip('!', 'not known', 'doubt')} Nobody can say which rows drifted; the reasons are above.</p>"
        )
    if not review.drifts:
        whole = f"All {_rows(rows)} and their sources are" if rows != 1 else "The row and its source are"
        return framed(f"<p>{chip('✓', 'as planned', 'good')} {whole} as planned.</p>")
    tolerance = int(review.plan.document["tolerance_rows"])
    more = f", the first {len(review.drifts)} of them here" if (review.drifted or 0) > len(review.drifts) else ""
    said = f"{count(review.drifted or 0)} of {_rows(rows)} drifted{more}; the plan tolerates {count(tolerance)}."
    body = (
        f'<tr><th scope="row">{_text(row["key"])}</th><td>{_text(row["source"])}</td>'
        f'<td class="value">{_text(drift.explained(_veiled(row, preview)))}</td></tr>'
        for row in review.drifts
    )
    head = [("record", False), ("source", False), ("what became of it", False)]
    return framed(f"<p>{chip('✗', 'drifted', 'bad')} {said}</p>" + _table("drift", head, body))


def _veiled(row: dict[str, Any], preview: Preview) -> dict[str, Any]:
    """A drifted row as people may see it."""
    seen = preview.planned.seen
    columns = {name: {at: seen.value(name, it) for at, it in values.items()} for name, values in row["columns"].items()}
    return {**row, "columns": columns}


def scripts(review: Review) -> dict[str, str]:
    """Name to HTML of the four scripts, what writes first."""
    gone = framed("<p>The file is not there.</p>")
    held = review.contents.scripts
    return {
        name + (" (not as planned)" if name in review.changed_files else ""): sql_html(held[name])
        if name in held
        else gone
        for name in READING_ORDER
    }


def log_html(entries: Sequence[Entry]) -> str:
    """What was done with the plan."""
    head = [("at", False), ("who", False), ("what", False), ("about", False)]
    body = (
        f"<tr><td>{tables.escape(moment(item.at))}</td><td>{_text(item.actor)}</td>"
        f'<td>{_text(item.event.replace("_", " "))}</td><td class="value">{_text(_detail(item.detail))}</td></tr>'
        for item in entries
    )
    return framed(_table("log", head, body))


def _detail(detail: Mapping[str, Any]) -> str:
    said: list[str] = []
    for name, value in detail.items():
        if value is None:
            continue
        text = ", ".join(map(str, value)) if isinstance(value, list) else tables.shown(value)
        said.append(f"{name.replace('_', ' ')} {f'{text[:16]}…' if 'digest' in name else text}")
    return " · ".join(said) or "–"


# -- sign-off --------------------------------------------------------------------------------------------


def sign_off_html(review: Review) -> str:
    """The digest that is signed, who approved it and how, and how many must."""
    digest = review.plan.digest
    digest = tables.escape(visible(digest))
    shown = f"<b>{digest[:TYPED_CHARACTERS]}</b>{digest[TYPED_CHARACTERS:]}"
    given = "".join(f"<li>{chip('✓', 'counts', 'good')} {_text(said)}</li>" for said in review.voices.said)
    given += "".join(f"<li>{chip('–', 'does not count', 'none')} {_text(said)}</li>" for said in review.voices.refused)
    have = f"{count(len(review.voices.counted))} of {count(review.needed)}"
    nobody = "" if given else " Nobody has approved it yet."
    return framed(
        f'<p>sha256 of plan.json; one click selects all of it:</p><code class="copied">{shown}</code>'
        f'<p><strong>Approvals: {have}.</strong>{nobody}</p><ul class="plain">{given}</ul>'
    )


def signing_html(plan: Plan) -> str:
    """How a signature is made on another machine."""
    return framed(
        "<p>Sign the very bytes of plan.json, which must have the digest above (<code>sha256sum plan.json</code>),"
        f' then choose the file that this writes:</p><code class="copied">{tables.escape(approvals.signing_command(plan))}</code>'
    )


def obstacle_html(obstacles: Mapping[str, str], actions: Sequence[str]) -> str:
    """Why a button beside this is disabled; nothing where none is."""
    said = "".join(
        f"<p>{chip('⊘', action, 'none')} {_text(obstacles[action])}</p>" for action in actions if action in obstacles
    )
    return framed(said) if said else ""
