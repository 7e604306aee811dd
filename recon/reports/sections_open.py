"""The sections of a report about what is open: plans that wait, why records are left over, and how old breaks are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recon.reports import figures
from recon.reports.ageing import SHOWN_HOLDERS, Holder
from recon.reports.data import ReportData
from recon.reports.tables import Heading, Html, Number, count, days, lasting, moment, percent, sentence, table, words
from recon.reports.words import outcome_words, reason_words

if TYPE_CHECKING:
    import plotly.graph_objects as go


def plans(data: ReportData) -> Html:
    """Plans that wait: for what, for how long, and until when."""
    found = [
        {
            "plan": item.plan,
            "state": words(item.state),
            "waits_for": item.waits_for,
            "rows": Number(count(item.rows)),
            "author": item.author,
            "since": f"{lasting(data.generated_at - item.since)}, since {moment(item.since)}",
            "expires": _expires(data, item.expires_at) if item.expires_at else "no more: it has begun",
        }
        for item in data.queue
    ]
    headings = [
        Heading("plan", "plan"),
        Heading("state", "state"),
        Heading("rows", "rows"),
        Heading("author", "made by"),
        Heading("since", "for"),
        Heading("expires", "expires"),
        Heading("waits_for", "waits for"),
    ]
    return table(headings, found, empty="No plan waits for anybody.")


def _expires(data: ReportData, at: object) -> str:
    from datetime import datetime

    if not isinstance(at, datetime):
        return str(at)
    left = at - data.generated_at
    if left.total_seconds() <= 0:
        return f"expired {lasting(-left)} ago, {moment(at)}"
    return f"in {lasting(left)}, {moment(at)}"


def reasons(data: ReportData) -> go.Figure | None:
    """Why records are left over, as bars."""
    return figures.reasons(data.run.reasons) if sum(data.run.reasons.values()) else None


def ages(data: ReportData) -> go.Figure | Html:
    """Open breaks by age, as bars."""
    return figures.ageing(data.ageing.classes) if data.ageing.breaks else sentence("No break is open.")


def ageing(data: ReportData) -> Html:
    """Open breaks by age and by who has them, and which are the oldest."""
    found = data.ageing
    if not found.breaks:
        return Html("")
    by_age = [
        {
            "age": item.age, "breaks": Number(count(item.breaks)),
            "share": Number(percent(item.breaks / found.breaks)), "nobody": Number(count(item.nobody)),
            "assigned": Number(count(item.assigned)),
        }
        for item in found.classes
    ]  # fmt: skip
    by_holder = [
        {"who": item.who or "nobody", "breaks": Number(count(item.breaks)), "days": Number(days(item.days))}
        for item in _holders(found.holders)
    ]
    oldest = [
        {
            **item,
            "outcome": outcome_words(item["outcome"]),
            "reason": reason_words(item["reason"]),
            "who": item["assignee"] or "nobody",
            "age": Number(days(item["days"])),
        }
        for item in found.oldest
    ]
    return Html(
        '<div class="columns">'
        + table(
            [
                Heading("age", "age"), Heading("breaks", "open breaks"), Heading("share", "share"),
                Heading("nobody", "nobody's"), Heading("assigned", "assigned"),
            ],
            by_age, empty="",
        )
        + table([Heading("who", "who has them"), Heading("breaks", "breaks"), Heading("days", "oldest")], by_holder, empty="")
        + "</div><h3>The oldest of them</h3>"
        + table(
            [
                Heading("age", "open for"), Heading("side", "side"), Heading("key", "key"),
                Heading("opened_at", "since"), Heading("who", "who has it"), Heading("outcome", "outcome"),
                Heading("reason", "why"),
            ],
            oldest, empty="", total=found.breaks,
        )
    )  # fmt: skip


def _holders(found: tuple[Holder, ...]) -> list[Holder]:
    """The first of them; all others in one line."""
    if len(found) <= SHOWN_HOLDERS:
        return list(found)
    rest = found[SHOWN_HOLDERS - 1 :]
    others = Holder(f"{count(len(rest))} others", sum(item.breaks for item in rest), max(item.days for item in rest))
    return [*found[: SHOWN_HOLDERS - 1], others]
