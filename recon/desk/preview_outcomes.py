"""What became of an action at the reviewer's desk, and how far a long one has come, drawn as HTML."""

from __future__ import annotations

from typing import Any, Literal

from recon.backfill import drift, outside_words
from recon.backfill.applied import Applied
from recon.backfill.plan import Plan
from recon.backfill.revert import Reverted
from recon.backfill.sign_off import GOING_ON
from recon.backfill.veils import Veils
from recon.desk.page import problem_html
from recon.desk.preview import Preview
from recon.desk.preview_actions import MAKE, SIGNING, Moment, Outcome
from recon.desk.preview_view import chip, framed, state_chip
from recon.errors import visible
from recon.reports.tables import count, escape
from recon.workflow import Verified

SHOWN_RECORDS = 50  # of those that were left outside
Kind = Literal["success", "warn", "danger"]

_MARKS = {"passed": ("✓", "good"), "failed": ("✗", "bad"), "errored": ("!", "doubt")}


def beside(found: Outcome | None, preview: Preview, section: Literal["plan", "signing", "writing"]) -> bool:
    """Whether an outcome is of what is on the page, and stands in this section of it."""
    if found is None or found.plan != (preview.plan.plan if preview.plan else preview.reconciliation):
        return False
    return section == ("plan" if found.action == MAKE else "signing" if found.action in SIGNING else "writing")


def kind(found: Outcome) -> Kind:
    """How grave an outcome is."""
    result = found.result
    if found.problem:
        return "danger"
    if isinstance(result, Verified):
        return "success" if result.complete else "warn" if result.verification.right else "danger"
    if isinstance(result, Reverted):
        return "warn" if result.kept else "success"
    if isinstance(result, Applied):
        return "warn" if result.left else "success"
    return "success" if result is not None and result.state != "rejected" else "warn"


def outcome_html(found: Outcome, preview: Preview | None) -> str:
    """What an action did, or why it was refused.

    Args:
        found: the outcome.
        preview: of the plan, for which of its columns are private.
    """
    if found.problem:
        return f"<p><strong>{escape(found.action)}: refused</strong></p>{problem_html(found.problem)}"
    result = found.result
    if isinstance(result, Applied):
        inner = _applied(result, preview)
    elif isinstance(result, Verified):
        inner = _verified(result)
    elif isinstance(result, Reverted):
        inner = _reverted(result)
    elif result is None:
        inner = "<p>Nothing would change by the latest run: there is nothing to plan.</p>"
    else:
        inner = _plan(found.action, result)
    return framed(f"<p><strong>{escape(found.action)}</strong></p>{inner}")


def _plan(action: str, plan: Plan) -> str:
    if action == MAKE:
        rows = "row" if plan.rows == 1 else "rows"
        return (
            f"<p>Plan <code>{escape(plan.plan)}</code> of {count(plan.rows)} {rows} was made, with its bundle in"
            f" <code>{escape(str(plan.bundle))}</code>. A reviewer who is not {escape(plan.author)} approves it.</p>"
        )
    after = {
        "planned": "It waits for another reviewer.",
        "rejected": "It cannot be applied any more.",
    }.get(plan.state, "It may be applied now." if plan.state in GOING_ON else "")
    return f"<p>The plan is {state_chip(plan.state)} {escape(after)}</p>"


def _applied(result: Applied, preview: Preview | None) -> str:
    changed, planned = count(result.changed), f"{count(result.planned)} row{'' if result.planned == 1 else 's'}"
    if not result.executed:
        said = f"Would change {changed} of {planned}, in about {result.predicted_seconds or 0:,.1f} s. Nothing was written."
    elif not result.changed:
        said = f"The plan is {result.state} already; nothing changed."
    else:
        said = f"Changed {changed} of {planned} in {result.seconds:,.2f} s. Verify it next: applied is not yet proven."
    parts = [f"<p>{escape(said)}</p>"]
    if result.executed and (result.batches > 1 or result.retries or result.pauses):
        parts.append(
            f"<p class='quiet'>{count(result.batches)} batches, nineteen of twenty within"
            f" {result.p95_milliseconds:,.0f} ms; {count(result.retries)} tried again; {count(result.pauses)} pauses"
            " behind others.</p>"
        )
    if result.drifts:
        rows = "".join(f"<li>{_drifted(row, preview)}</li>" for row in result.drifts)
        parts.append(f"<p>{count(result.skipped)} rows are not as planned:</p><ul class='plain'>{rows}</ul>")
    if result.outside:
        parts.append(f"<p>{escape(visible(outside_words.became(result.outside, executed=result.executed)))}</p>")
        parts.append(_left_outside(result.outside))
    if result.query_plan:
        text = escape(visible(result.query_plan))
        parts.append(f"<details><summary>Query plan of a batch</summary><pre class='sql'>{text}</pre></details>")
    return "".join(parts)


def _left_outside(outside: dict[str, Any]) -> str:
    """The first records that were not written or not restored, and why."""
    named = outside_words.reasons(outside)[:SHOWN_RECORDS]
    rows = "".join(f"<li>{escape(visible(f'{record}: {message}'))}</li>" for record, message in named)
    return f"<ul class='plain'>{rows}</ul>" if rows else ""


def _drifted(row: dict[str, Any], preview: Preview | None) -> str:
    seen = preview.planned.seen if preview else Veils(frozenset(row["columns"]))
    columns = {name: {at: seen.value(name, it) for at, it in values.items()} for name, values in row["columns"].items()}
    return escape(visible(f"{row['key']}: {drift.explained({**row, 'columns': columns})}"))


def _verified(result: Verified) -> str:
    verification, checks = result.verification, result.checks
    if verification.right:
        parts = [f"<p>{chip('✓', 'right', 'good')} All {count(verification.checked)} planned changes are there.</p>"]
    else:
        rows = "".join(f"<li>{escape(visible(_problem(item)))}</li>" for item in verification.rows)
        parts = [
            f"<p>{chip('✗', 'wrong', 'bad')} {count(verification.problems)} planned changes are wrong or absent:</p>"
            f"<ul class='plain'>{rows}</ul>"
        ]
    for item in checks.items:
        icon, colour = _MARKS[item.status]
        if item.status != "passed":
            parts.append(f"<p>{chip(icon, item.status, colour)} {escape(visible(item.name))}</p>")
    said = f"{count(len(checks.passed))} of {count(len(checks.items))} checks of the whole passed."
    parts.append(f"<p>{escape(said)} The plan is {state_chip(result.state)}</p>")
    return "".join(parts)


def _problem(row: dict[str, Any]) -> str:
    return f"{row['key']}: {row['problem']}"


def _reverted(result: Reverted) -> str:
    rows = f"{count(result.restored)} of {count(result.written)} row{'' if result.written == 1 else 's'}"
    said = f"Restored {rows} in {result.seconds:,.2f} s." if result.executed else (
        f"Would restore {rows}. Nothing was written."
    )  # fmt: skip
    parts = [f"<p>{escape(said)} The plan is {state_chip(result.state)}</p>"]
    if result.conflicts:
        more = result.conflicts - len(result.rows)
        keys = ", ".join(result.rows) + (f" and {count(more)} more" if more else "")
        verb = "were" if result.conflicts != 1 else "was"
        rows = f"{count(result.conflicts)} row{'' if result.conflicts == 1 else 's'}"
        kept = "are" if result.conflicts != 1 else "is"
        parts.append(
            f"<p>{chip('≠', 'conflict', 'doubt')} {rows} {verb} changed by somebody since and {kept} kept:"
            f" {escape(visible(keys))}</p>"
        )
    if result.outside:
        parts.append(
            f"<p>Outside {count(result.outside['restored'])} restored, {count(result.outside['kept'])} kept.</p>"
        )
        parts.append(_left_outside(result.outside))
    return "".join(parts)


def progress_html(title: str, found: Moment) -> str:
    """A bar with rows done, rows per second, time left, and why it waits."""
    share = found.done / found.total if found.total else 0
    said = f"{title}: {count(found.done)} of {count(found.total)} rows"
    if found.rate is not None:
        said += f" · {found.rate:,.0f} rows/s"
    if found.seconds_left is not None and found.done < found.total:
        said += f" · about {_duration(found.seconds_left)} left"
    waits = f"<p>{chip('‖', 'waiting', 'doubt')} {escape(visible(found.waits))}</p>" if found.waits else ""
    return framed(
        f"<p>{escape(said)}</p>"
        f"<div class='track' role='progressbar' aria-valuemin='0' aria-valuemax='100' aria-valuenow='{share * 100:.0f}'>"
        f"<div style='width: {share * 100:.1f}%'></div></div>{waits}"
    )


def _duration(seconds: float) -> str:
    """
    >>> _duration(42.4), _duration(130)
    ('42 s', '2 min 10 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
