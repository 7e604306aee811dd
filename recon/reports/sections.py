"""The sections of a report: which of the counted facts stand in which table, and the sentences around them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from recon.backfill.states import MOVES
from recon.matching.coverage import looked_at
from recon.reports.data import Coverage, ReportData, Rows
from recon.reports.tables import (
    NOTHING,
    Heading,
    Html,
    Number,
    change,
    count,
    days,
    escape,
    lasting,
    moment,
    percent,
    points,
    records,
    sentence,
    table,
    words,
)

REASONS = {
    "taken": "the only candidate was given to another record",
    "already_linked": "the only candidate is held by an existing link",
    "forbidden": "a person said that these two do not belong together",
    "out_of_tolerance": "a candidate lies outside the tolerance",
    "tie": "several candidates are equally good",
    "when_false": "a candidate exists, but the condition of the pass does not hold",
    "no_candidate": "the other side has no record with this key",
    "null_key": "the record lacks what the pass compares on",
    "review": "a pass proposes a link and a person must confirm it",
}
_MOVES = {(move.origin, move.to): move.why for move in MOVES}
_CHECK_STATES = {"passed": "passed", "failed": "failed", "errored": "could not be carried out"}
SHOWN_EXAMPLES = 5  # failing examples of one check; its count says how many there are


# -- the top ---------------------------------------------------------------------------------------------


def headline(data: ReportData) -> Html:
    """Title, the sentence that a manager takes away, and the numbers behind it."""
    now, before = data.now, data.before
    tiles = [
        _tile(percent(now.share), "coverage now", f"{percent(before.share)} before" if before else ""),
        _precision(data),
        _tile(
            count(now.linked), f"{'linked' if data.link else 'with a partner'} of {count(now.population)}",
            f"{count(before.linked)} before" if before else "",
        ),
        _tile(
            count(now.missing), "not linked" if data.link else "without a partner",
            f"{percent(now.missing / now.population)} of {escape(words(data.counted))}" if now.population else "",
        ),
        _tile(count(data.ageing.breaks), "open breaks", _breaks(data)),
        _tile(count(len(data.queue)), "plans waiting", _longest(data)),
    ]  # fmt: skip
    private = f'<p class="note warning">{escape(data.private)}</p>' if data.private else ""
    return Html(
        f"<header>{private}<h1>{escape(data.title)}</h1>"
        f'<p class="meta">Reconciliation report · {escape(data.reconciliation)} · {moment(data.generated_at)}</p>'
        f'<p class="summary">{escape(" ".join(summary(data)))}</p>'
        f'<div class="tiles">{"".join(tiles)}</div></header>'
    )


def _precision(data: ReportData) -> str:
    """The tile that stands beside coverage: how right the rules are, where a backtest measured them."""
    known = data.precision
    if known is None:
        return _tile(NOTHING, "precision", "not measured")
    number = known.known + known.known_alone
    return _tile(percent(known.precision), "precision", f"recall {percent(known.recall)}, by {count(number)} known")


def _breaks(data: ReportData) -> str:
    found = data.ageing
    if not found.breaks:
        return ""
    oldest = f"oldest {days(found.days)}" if found.days else "all of today"
    return f"{count(found.new)} new, {oldest}" if found.new != found.breaks else "all new"


def _longest(data: ReportData) -> str:
    return f"longest for {lasting(data.generated_at - data.queue[0].since)}" if data.queue else ""


def _of(then: Coverage) -> str:
    return f"{count(then.linked)} of {count(then.population)}"


def _tile(number: str, label: str, note: str) -> str:
    return f'<div class="tile"><b>{number}</b><span>{label}</span><small>{note}</small></div>'


def summary(data: ReportData) -> list[str]:
    """The report in a few sentences."""
    now, before, plan = data.now, data.before, data.plan
    said: list[str] = []
    if not now.population:
        said.append("There is no record to reconcile.")
    elif now.missing:
        are = "are linked" if data.link else "have their partner"
        not_ = "are not" if data.link else "do not"
        said.append(f"{count(now.linked)} of {records(now.population)} {are}, {count(now.missing)} {not_}.")
    else:
        said.append(f"Every one of {records(now.population)} {'is linked' if data.link else 'has its partner'}.")
    if data.compares:
        agree, differ = data.run.outcomes.get("same", 0), data.run.outcomes.get("changed", 0)
        said.append(f"Of what has a partner {count(agree)} agree in what is compared, {count(differ)} differ.")
    if before and now.linked != before.linked:
        verb = "rose" if now.linked > before.linked else "fell"
        said.append(
            f"Coverage {verb} from {percent(before.share)} to {percent(now.share)}"
            f" ({points(before.share, now.share)}, {_signed_records(now.linked - before.linked)})."
        )
    if plan and plan.state in ("planned", "approved"):
        waits = "waits for a sign-off" if plan.state == "planned" else "is approved and not applied yet"
        does = "links" if list(plan.document["actions"]) == ["link"] else "changes"
        said.append(f"A plan that {does} {records(plan.rows)} {waits}.")
    waiting = data.waiting.total
    if waiting:
        said.append(f"{records(waiting)} {'waits' if waiting == 1 else 'wait'} for a person.")
    nobody = sum(item.nobody for item in data.ageing.classes)
    if nobody and data.ageing.days:
        said.append(f"Nobody has {count(nobody)} of {count(data.ageing.breaks)} open breaks.")
    said += _proof(data)
    return said


def _signed_records(number: int) -> str:
    return f"{change(number)} {records(abs(number)).split(' ')[1]}"


def _proof(data: ReportData) -> list[str]:
    items: list[dict[str, Any]] = (data.checks or {}).get("items", [])
    if not items:
        return []
    failed = sum(item["status"] == "failed" for item in items)
    errored = sum(item["status"] == "errored" for item in items)
    if not failed and not errored:
        return ["The one check passed."] if len(items) == 1 else [f"All {count(len(items))} checks passed."]
    said: list[str] = []
    if failed:
        said.append(f"{count(failed)} of {count(len(items))} checks failed.")
    if errored:
        verb = "proves" if errored == 1 else "prove"
        said.append(f"{count(errored)} of {count(len(items))} checks could not be carried out and {verb} nothing.")
    return said


def coverage_then_and_now(data: ReportData) -> Html:
    """Coverage at each earlier moment, and how far it has come since (INV-11)."""
    now = data.now
    found = [
        {
            "when": item.says,
            "at": item.coverage.at,
            "linked": Number(_of(item.coverage)),
            "share": Number(percent(item.coverage.share)),
            "records": None if item.coverage is now else Number(change(now.linked - item.coverage.linked)),
            "points": None if item.coverage is now else Number(points(item.coverage.share, now.share)),
        }
        for item in data.moments
    ]
    headings = [
        Heading("when", "counted"),
        Heading("at", "at"),
        Heading("linked", "linked"),
        Heading("share", "coverage"),
        Heading("records", "records since"),
        Heading("points", "change since"),
    ]
    said = f"The rules have {data.precision.words}." if data.precision else _NOT_MEASURED.format(data.reconciliation)
    return Html(f'{table(headings, found, empty="")}<p class="note">{escape(said)}</p>')


_NOT_MEASURED = "How precise these rules are was not measured; recon backtest {} does."


# -- decisions -------------------------------------------------------------------------------------------


def passes(data: ReportData) -> Html:
    """What each pass decided."""
    found = [
        {
            "place": place, "pass": words(item.name), "matched": Number(count(item.matched)),
            "proposed": Number(count(item.proposed)), "ambiguous": Number(count(item.ambiguous)),
            "confidence": item.confidence.normalize(), "accept": _ACCEPT[item.accept],
        }
        for place, item in enumerate(data.run.passes, start=1)
    ]  # fmt: skip
    headings = [Heading(name, label) for name, label in _PASS_HEADINGS.items()]
    note = ""
    if data.run.limited:
        note += f'<p class="note">This run looked at {escape(looked_at(data.run.limited))}.</p>'
    if data.rules_changed:
        note += '<p class="note warning">The rules were changed after this run: match again before you rely on it.</p>'
    return Html(table(headings, found, empty="") + note)


_ACCEPT = {"auto": "matches", "review": "proposes, a person confirms"}
_PASS_HEADINGS = {
    "place": "no.", "pass": "pass", "matched": "matched", "proposed": "proposed", "ambiguous": "ambiguous",
    "confidence": "confidence", "accept": "what it does",
}  # fmt: skip


def matched(data: ReportData) -> Html:
    """The matched rows, of the plan where there is one (INV-09)."""
    counts = data.run.outcomes
    if data.compares:
        agree, differ = records(counts.get("same", 0)), records(counts.get("changed", 0))
        said = f"{agree} agree with their partner in what is compared, {differ} differ."
        listed = _listed(data, data.rows, "Nothing differs.")
        return Html(f'<p class="note">{escape(said)}</p>{listed}')
    said = f"Rows of plan {data.plan.plan}." if data.plan else f"Matched by run {data.run.run}; no plan holds them yet."
    if data.unplanned:
        said += f" Run {data.run.run} matched {records(data.unplanned)} that this plan does not hold."
    listed = _listed(data, data.rows, "No record was matched: there is nothing to link.")
    return Html(f'<p class="note">{escape(said)}</p>{listed}' if data.rows.total or data.unplanned else listed)


def waiting(data: ReportData) -> Html:
    """What a person must decide."""
    return _listed(data, data.waiting, "Nothing waits for a person.")


def unmatched(data: ReportData) -> Html:
    """Why records stay without a link, with shares that add up to the whole, and which records they are."""
    found = data.run.reasons
    whole = sum(found.values())
    if not whole:
        return Html(sentence("No record is left over.") + _beside(data))
    listed = [
        {
            "reason": words(reason), "says": REASONS.get(reason, ""), "records": Number(count(number)),
            "share": Number(percent(number / whole)),
        }
        for reason, number in found.items()
    ]  # fmt: skip
    headings = [
        Heading("reason", "reason"),
        Heading("says", "what it means"),
        Heading("records", "records"),
        Heading("share", "share"),
    ]
    return Html(table(headings, listed, empty="") + _listed(data, data.unmatched, "") + _beside(data))


def _beside(data: ReportData) -> str:
    """How many records of the other side stand alone, where the spec compares."""
    found = [(outcome, number) for outcome, number in data.run.other_side.items() if number]
    said = "".join(f"On the other side {records(number)} {outcome}. " for outcome, number in found).strip()
    return f'<p class="note">{escape(said)}</p>' if said else ""


def _listed(data: ReportData, rows: Rows, empty: str) -> Html:
    groups = {"target": words(data.target), "source": f"→ {words(data.source)}", "decision": "decision"}
    headings = [Heading(item.name, item.label, groups[item.side]) for item in rows.columns]
    found = [{**record, **_in_words(record)} for record in rows.records]
    return table(headings, found, empty=empty, total=rows.total)


def _in_words(record: dict[str, Any]) -> dict[str, Any]:
    return {
        "pass": words(record["pass"]) if record.get("pass") else None,
        "confidence": record["confidence"].normalize() if record.get("confidence") is not None else None,
        "reason": _why(record),
    }


def _why(record: dict[str, Any]) -> str | None:
    """Why a record has no partner: what the spec says of it, the sentence of its decision, else its reason's."""
    if record.get("interpretation"):
        return record["interpretation"]
    return record.get("because") or REASONS.get(record.get("reason") or "", record.get("reason"))


def identifiers(data: ReportData) -> Html:
    """How well the columns are filled that the passes compare on (INV-12)."""
    listed = [
        {
            "column": words(item.column),
            "passes": ", ".join(words(name) for name in item.passes),
            "filled": Number(f"{count(item.filled)} of {count(item.population)}"),
            "share": Number(percent(item.filled / item.population if item.population else None)),
            "unlinked": Number(percent(item.filled_unlinked / item.unlinked)) if item.unlinked else None,
        }
        for item in data.identifiers
    ]
    headings = [
        Heading("column", "identifier"),
        Heading("filled", "filled"),
        Heading("share", "share"),
        *([Heading("unlinked", "share where not linked")] if data.now.missing else []),
        Heading("passes", "used by"),
    ]
    return table(headings, listed, empty="The passes compare no column.")


# -- proof -----------------------------------------------------------------------------------------------


def checks(data: ReportData) -> Html:
    """What was checked: what could not be carried out first, then what failed, then what passed."""
    if data.checks is None:
        return sentence("No checks were run for this report; nothing is proven by it.")
    items: list[dict[str, Any]] = data.checks.get("items", [])
    if not items:
        return sentence("The suite holds no check; nothing is proven by it.")
    order = ("errored", "failed", "passed")
    found = [
        {
            "status": Html(f'<span class="status {state}">{_CHECK_STATES[state]}</span>'),
            "says": item.get("says") or item["name"],
            "observed": _found(item),
        }
        for state in order
        for item in items
        if item["status"] == state
    ]
    at = f'<p class="note">Checked at {escape(_time(data.checks.get("at")))}.</p>'
    headings = [Heading("status", "result"), Heading("says", "check"), Heading("observed", "found")]
    return Html(at + table(headings, found, empty=""))


def _time(at: object) -> str:
    """A time of a JSON document, in the report's manner where it can be read."""
    try:
        return moment(datetime.fromisoformat(str(at)))
    except ValueError:
        return str(at)


def _found(item: dict[str, Any]) -> str:
    if item["status"] == "errored":
        return f"It proves nothing: {item.get('error') or 'no cause was given'}"
    parts: list[str] = []
    if item.get("observed") is not None:
        parts.append(str(item["observed"]))
    if item.get("unexpected"):
        parts.append(f"{count(int(item['unexpected']))} unexpected")
    examples = [str(example) for example in item.get("examples") or []]
    if item["status"] == "failed" and examples:
        more = f" and {count(len(examples) - SHOWN_EXAMPLES)} more" if len(examples) > SHOWN_EXAMPLES else ""
        parts.append(f"for example {', '.join(examples[:SHOWN_EXAMPLES])}{more}")
    return "; ".join(parts) or NOTHING


def sign_off(data: ReportData) -> Html:
    """The plan, who answers for it, and every move it made."""
    plan = data.plan
    if plan is None:
        return sentence("There is no plan: nothing was proposed to be written.")
    approvers = [f"{item['approver']}, {moment(item['at'])} ({_method(item['method'])})" for item in data.approvals]
    facts = {
        "plan": plan.plan,
        "state": words(plan.state),
        "rows": records(plan.rows),
        "author": f"{plan.author}, {moment(plan.created_at)}",
        "approved by": "; ".join(approvers) or "nobody yet",
    }
    if plan.state in ("planned", "approved"):
        facts["expires"] = moment(plan.expires_at)
    moves = [
        {
            "at": entry["at"], "state": words(entry["to_state"]), "actor": entry["actor"],
            "why": _MOVES.get((entry["from_state"], entry["to_state"]), "the changes were frozen as a plan"),
        }
        for entry in data.log
    ]  # fmt: skip
    headings = [Heading("at", "at"), Heading("state", "became"), Heading("actor", "by"), Heading("why", "meaning")]
    return Html(_facts(facts) + table(headings, moves, empty=""))


def _method(method: str) -> str:
    return "recorded by name: a record, not a proof" if method == "recorded" else method


def reproduce(data: ReportData) -> Html:
    """What this report was made from, and how to make it again."""
    run, plan, made = data.run, data.plan, data.inputs
    facts = {
        "database": f"{data.database}, PostgreSQL {made.postgresql}",
        "counted at": f"{made.at:%Y-%m-%d %H:%M:%S} UTC, all of it at this one moment",
        "run": f"{run.run}, by {run.actor}, {moment(run.started_at)}",
        "made with": f"recon {made.recon}",
    }
    commands = [f"recon match {data.reconciliation}", f"recon report {data.reconciliation}"]
    if plan:
        facts["plan made with"] = str(plan.document.get("tool", NOTHING))
        commands = [f"recon verify {plan.plan}", f"recon report {data.reconciliation} --plan {plan.plan}"]
    lines = "\n".join(commands)
    headings = [Heading("what", "made from"), Heading("records", "records"), Heading("digest", "sha256")]
    if data.since.last and data.since.last.inputs:
        headings.insert(2, Heading("since", "since the last report"))
    listed = table(headings, _inputs(data), empty="")
    note = (
        "The same digests give the same report. Those of records do not hang on their order;"
        " they are counted over the columns that the rules and the lists read."
    )
    return Html(
        f'{_facts(facts)}<div class="digests">{listed}</div><p class="note">{note}</p><pre>{escape(lines)}</pre>'
    )


def _inputs(data: ReportData) -> list[dict[str, Any]]:
    made, last = data.inputs, data.since.last
    then: dict[str, Any] = dict(last.inputs) if last else {}
    found: list[tuple[str, int | None, str | None, str | None]] = [
        (f"rules of {data.reconciliation}, when it matched", None, data.run.spec_digest, None)
    ]
    if data.rules_changed:
        found.append((f"rules of {data.reconciliation}, now", None, made.spec, None))
    else:
        found[0] = (f"rules of {data.reconciliation}", None, made.spec, then.get("spec"))
    for name, label, item in (
        ("target", words(data.target), made.target),
        ("source", words(data.source), made.source),
        ("decisions", f"decisions of run {made.run}", made.decisions),
    ):
        found.append((label, item.count, item.digest, (then.get(name) or {}).get("sha256")))
    found.append(("checks (suite)", None, made.suite, then.get("suite")))
    if made.plan:
        found.append(
            (f"plan {made.plan}", data.plan.rows if data.plan else None, made.plan_digest, then.get("plan_digest"))
        )
    return [
        {
            "what": label, "records": None if number is None else Number(count(number)),
            "digest": digest or "cannot be read",
            "since": None if before is None else "same" if before == digest else "≠ changed",
        }
        for label, number, digest, before in found
    ]  # fmt: skip


def _facts(facts: dict[str, str]) -> str:
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
    return f"<dl>{rows}</dl>"
