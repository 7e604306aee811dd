"""The steps of a run of the whole way as tables and sentences; what a step gave comes in, HTML goes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from recon.backfill import outside_words
from recon.backfill.applied import Applied
from recon.backfill.contents import Group, Value
from recon.backfill.drift import explained
from recon.backfill.review import Review
from recon.backfill.verify import Verification
from recon.matching.check import Checked
from recon.matching.coverage import looked_at
from recon.reports.tables import (
    NOTHING,
    WHOLE_LETTERS,
    Heading,
    Html,
    Number,
    count,
    escape,
    moment,
    percent,
    records,
    sentence,
    table,
    words,
)

_SEVERITY = {"error": "✗ error", "warning": "! warning", "note": "· note"}


@dataclass(frozen=True)
class Asked:
    """What a run is about; `at` is UTC, `limits` what it looks at, where that is not everything."""

    name: str
    title: str
    target: str
    source: str
    mode: str
    actor: str
    database: str
    environment: str
    limits: Mapping[str, object]
    plan: str
    rules: str
    at: datetime
    private: str | None = None  # what must be said of private columns


@dataclass(frozen=True)
class Signing:
    """Who may say yes to a plan, and who has."""

    plan: str
    state: str
    author: str
    needed: int
    by_name: bool  # whether an approval without a signature counts
    given: tuple[str, ...]
    refused: tuple[str, ...]
    standing: bool  # whether a standing sign-off is among those that count
    awaited: bool  # a person has to say yes before anything is written
    executing: bool


@dataclass(frozen=True)
class Ended:
    """How a run ended: 0 done and as expected, 3 with what falls short."""

    exit_code: int
    falls_short: tuple[str, ...]
    plan: str  # that waits for a reviewer, or empty


def asked(found: Asked) -> Html:
    """Title, and what is reconciled, by whom, and how far this run goes; first what must be said of private columns."""
    facts = {
        "records to reconcile": words(found.target),
        "records that are trusted": words(found.source),
        "what this run does": found.mode,
        "by": found.actor,
        "database": f"{found.database} ({found.environment})",
        "rules (sha256)": found.rules,
    }
    if found.limits:
        said = ", ".join(f"{name} {value}" for name, value in found.limits.items())
        facts["looks at a part only"] = said
    if found.plan:
        facts["carries on with plan"] = found.plan
    meta = f"Run · {escape(found.name)} · {moment(found.at)}"
    private = f'<p class="note warning">{escape(found.private)}</p>' if found.private else ""
    return Html(f'<header>{private}<h1>{escape(found.title)}</h1><p class="meta">{meta}</p></header>{_facts(facts)}')


def findings(checked: Checked) -> Html:
    """What a look at the data, before any work, has to remark."""
    sides = ((checked.profile.target, "to reconcile"), (checked.profile.source, "trusted"))
    said = " and ".join(f"{records(side.records)} {what}" for side, what in sides)
    found = [
        {"severity": _SEVERITY[item.severity], "where": item.where, "what": item.what, "todo": item.todo}
        for item in checked.findings
    ]
    headings = [
        Heading("severity", ""), Heading("where", "where"), Heading("what", "what"), Heading("todo", "what to do"),
    ]  # fmt: skip
    note = f'<p class="note">{escape(said)}, looked at in {checked.seconds:.1f} s.</p>'
    return Html(note + table(headings, found, empty="Nothing stands in the way."))


def planned(found: Review | str) -> Html:
    """A plan: what it is, how many rows of each pass, and the first of them before and after."""
    if isinstance(found, str):
        return sentence(found)
    plan, document = found.plan, found.plan.document
    facts = {
        "plan": plan.plan,
        "rows": f"{count(plan.rows)} of {words(document['target']['table'])}",
        "author": f"{plan.author}, {moment(plan.created_at)}",
        "expires": moment(plan.expires_at),
        "digest (sha256)": plan.digest,
    }
    if limited := looked_at(document["run_limited"]):
        facts["looks at"] = limited
    groups = [
        {
            "pass": words(group.rule) if group.rule else NOTHING,
            "action": group.action,
            "rows": Number(count(group.rows)),
            "confidence": _range(group),
            "precision": Number(percent(group.precision)) if group.precision is not None else "not measured",
        }
        for group in found.contents.groups
    ]
    headings = [Heading(name, name) for name in ("pass", "action", "rows", "confidence", "precision")]
    left_out = [{"why": words(why), "records": number} for why, number in document["left_out"].items() if number]
    parts = [_facts(facts), table(headings, groups, empty="The plan holds no row."), _first_rows(found)]
    if left_out:
        parts.append(table([Heading("why", "left out, because"), Heading("records", "records")], left_out, empty=""))
    for problem in found.problems:
        parts.append(f'<p class="note warning">{escape(str(problem))}</p>')
    return Html("".join(parts))


def _range(group: Group) -> str:
    if group.lowest is None or group.highest is None:
        return NOTHING
    low, high = f"{group.lowest:g}", f"{group.highest:g}"
    return low if low == high else f"{low} to {high}"


def _first_rows(found: Review) -> Html:
    shown = [
        {
            "key": row.key or "new",
            "source": row.source,
            "changes": Html("<br>".join(_change(value) for value in row.values if value.changes)),
            "pass": words(group.rule) if group.rule else None,
            "about": row.interpretation,
        }
        for group in found.contents.groups
        for row in group.sample
    ]  # fmt: skip
    headings = [
        Heading("key", "record"), Heading("source", "from"), Heading("changes", "before → after"),
        Heading("pass", "pass"), Heading("about", "about"),
    ]  # fmt: skip
    total = found.plan.rows
    note = "" if len(shown) >= total else f'<p class="note">The first rows of each pass, {count(len(shown))} of {count(total)}.</p>'  # fmt: skip
    return Html(table(headings, shown, empty="") + note) if shown else Html("")


def _change(value: Value) -> str:
    """A column before and after, on one line where it is short enough for a narrow page."""
    before, after = (NOTHING if text is None else text for text in (value.before, value.after))
    said = f"{escape(words(value.column))}: {escape(before)} → <b>{escape(after)}</b>"
    whole = len(value.column) + len(before) + len(after) <= WHOLE_LETTERS * 2
    return f'<span style="white-space: nowrap">{said}</span>' if whole else said


def signed(found: Signing | str) -> Html:
    """Who may sign, who has, and whom the plan waits for."""
    if isinstance(found, str):
        return sentence(found)
    how = "signed with an SSH key or recorded by name" if found.by_name else "signed with an SSH key"
    number = "one approval" if found.needed == 1 else f"{count(found.needed)} approvals"
    facts = {
        "needed": f"{number}, {how}",
        "who may": f"anybody but the author, {found.author}",
        "given": "; ".join(found.given) or "nobody yet",
        "state": words(found.state),
    }
    said = ""
    if found.awaited and found.standing:
        said = "A standing sign-off covers this plan: with --execute it would be applied."
    elif found.awaited:
        said = f"A person is awaited: a reviewer runs recon review {found.plan}."
        if not found.executing:
            said = f"Before anything is written, a reviewer runs recon review {found.plan}."
    because = "".join(f'<p class="note">{escape(reason)}</p>' for reason in found.refused) if found.awaited else ""
    return Html(_facts(facts) + (f"<p><b>{escape(said)}</b></p>" if said else "") + because)


def changed(found: Applied | str) -> Html:
    """What an apply did, or what the dry run says that it would do."""
    if isinstance(found, str):
        return sentence(found)
    if not found.executed:
        said = f"Dry run: {count(found.changed)} of {count(found.planned)} rows would change"
        said += f", in about {found.predicted_seconds or 0:.1f} s. It was rolled back: nothing was written."
    elif not found.changed and not found.batches:
        said = f"The plan is {found.state} already: nothing was left to change."
    else:
        said = f"{count(found.changed)} of {count(found.planned)} rows were changed in {found.seconds:.1f} s,"
        said += f" in {count(found.batches)} batch{'' if found.batches == 1 else 'es'}."
    drifts = [{"row": str(item["key"]), "why": explained(item)} for item in found.drifts]
    alone = ""
    if drifts:
        headings = [Heading("row", "row"), Heading("why", "why it is left alone")]
        alone = f"<p>{records(found.skipped)} not as planned.</p>" + table(headings, drifts, empty="")
    if found.outside:
        alone += f"<p>{escape(outside_words.became(found.outside, executed=found.executed))}</p>"
        left = [{"record": record, "why": why} for record, why in outside_words.reasons(found.outside)]
        if left:
            alone += table([Heading("record", "record"), Heading("why", "why it is not written")], left, empty="")
    return Html(f"<p>{escape(said)}</p>{alone}")


def proven(found: Verification | str) -> Html:
    """What verify.sql found out about the plan's own rows."""
    if isinstance(found, str):
        return sentence(found)
    if found.right:
        return Html(f"<p>Every one of {count(found.checked)} planned rows holds what was signed.</p>")
    rows: list[dict[str, Any]] = [{"row": str(item["key"]), "problem": str(item["problem"])} for item in found.rows]
    listed = table([Heading("row", "row"), Heading("problem", "problem")], rows, empty="", total=found.problems)
    said = f"{count(found.problems)} of {count(found.checked)} planned rows are not right."
    return Html(f'<p class="warning">{escape(said)}</p>{listed}')


def ended(found: Ended) -> Html:
    """How the run ended, and what comes next."""
    if not found.falls_short:
        return Html(f'<p class="status passed">Done, and as expected (exit code {found.exit_code}).</p>')
    listed = "".join(f"<li>{escape(said)}</li>" for said in found.falls_short)
    following = f"<p>Next: a reviewer runs</p><pre>recon review {escape(found.plan)}</pre>" if found.plan else ""
    return Html(f"<p><b>Done, but not all is well (exit code {found.exit_code}):</b></p><ul>{listed}</ul>{following}")


def _facts(facts: Mapping[str, str]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return f"<dl>{rows}</dl>"
