"""What the command line shows: tables and sentences, never dumps. Each function prints one result."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from recon.backfill import outside_words
from recon.backfill.apply import Applied
from recon.backfill.drift import explained
from recon.backfill.plan import Plan
from recon.backfill.revert import Reverted
from recon.checks.run import CheckResult
from recon.errors import MissingExtra, visible
from recon.matching.coverage import percent
from recon.matching.precision import Backtest
from recon.matching.run import Run
from recon.workflow import Verified

SHOWN_CHANGES = 10  # rows of a dry run: enough to see what kind of change it is
WRITABLE = ("approved", "interrupted", "apply_failed")  # states from which `recon apply --execute` goes on
PIPED_WIDTH = 140  # characters; a file or a pipe has no width of its own


class _Terminal(Console):
    """A console on which no value of a record can steer the terminal."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(visible(text), **options)


console = _Terminal(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)

CHECK_MARKS = {"passed": "[green]✓ passed[/]", "failed": "[red]✗ failed[/]", "errored": "[yellow]! errored[/]"}


def table(
    headings: Sequence[str],
    rows: Sequence[Sequence[object]],
    title: str | None = None,
    right: str = "",
    *,
    fold: bool = False,
) -> None:
    """Print a table.

    Args:
        headings: one for each column.
        rows: their cells.
        title: above the table.
        right: the numbers (from 0) of columns set to the right.
        fold: whether the first column, usually a key, may take several lines.
    """
    if title:
        console.print(escape(title), style="bold", soft_wrap=True)
    made = Table(header_style="bold", box=None, pad_edge=False)
    numbers = [int(digit) for digit in right]
    for number, heading in enumerate(headings):
        made.add_column(
            heading, justify="right" if number in numbers else "left", overflow="fold", no_wrap=number == 0 and not fold
        )
    for row in rows:
        made.add_row(*["–" if value is None else escape(str(value)) for value in row])
    console.print(made)


def waterfall(run: Run, known: Backtest | None = None) -> None:
    """The waterfall of a run: what was linked, what each pass added, what is left, and why.

    Args:
        run: the run.
        known: how precise its rules are, where that was measured.
    """
    total = run.population
    outcomes = run.outcomes
    agreeing = outcomes.get("same", 0) + outcomes.get("changed", 0)
    by_passes = sum(item.matched for item in run.passes)
    # Of a comparison, links that were there before are among the same and changed ones.
    running = outcomes.get("linked", 0) + max(agreeing - by_passes, 0)

    def share() -> str:  # of a part of the records, a share would say nothing of the whole
        return percent(running / total if total and not run.limited else None)

    rows: list[list[object]] = [["linked before", f"{running:,}", "", "", share()]]
    for item in run.passes:
        if item.accept == "auto":
            running += item.matched
        rows.append(
            [
                item.name + ("" if item.accept == "auto" else " (for review)"),
                f"{item.matched:,}" if item.accept == "auto" else "",
                f"{item.proposed:,}" if item.proposed else "",
                f"{item.ambiguous:,}" if item.ambiguous else "",
                share(),
            ]
        )
    alone = {name: outcomes.get(name, 0) for name in ("unmatched", "orphan", "missing")}
    rows.append(["not matched", f"{sum(alone.values()):,}", "", "", ""])
    for name in ("excluded", "invalid"):
        if outcomes.get(name):
            rows.append([name, f"{outcomes[name]:,}", "", "", ""])
    title = f"{run.reconciliation}: {total:,} records, run {run.run}"
    table(["pass", "matched", "proposed", "ambiguous", "coverage"], rows, title, right="1234")
    if run.limited:
        said = ", ".join(f"{name} {value}" for name, value in run.limited.items())
        console.print(f"[yellow]Limited run ({escape(said)}): not every record was looked at.[/]")
    if agreeing or run.other_side:
        counts = {name: outcomes[name] for name in ("same", "changed", "orphan", "missing") if name in outcomes}
        said = " · ".join(f"{count:,} {name}" for name, count in counts.items())
        beside = "".join(f"; on the other side {count:,} {name}" for name, count in run.other_side.items())
        console.print(f"\nCompared: {said or 'nothing'}{beside}")
    if run.reasons:
        console.print()
        rows = [
            [reason, f"{count:,}", percent(count / sum(run.reasons.values()))] for reason, count in run.reasons.items()
        ]
        table(["why not", "records", "share"], rows, right="12")
    conflicts(run)
    if sum(run.breaks.values()):
        ages = " · ".join(f"{count:,} {age}" for age, count in run.breaks.items() if count)
        console.print(f"\nOpen breaks: {ages}")
    precision = f", {known.words}" if known and not run.limited else ""
    console.print(
        f"\nCoverage {percent(None if run.limited else run.coverage)}{escape(precision)}"
        f" · matching {run.seconds.get('matching', 0):.2f} s, reasons {run.seconds.get('reasons', 0):.2f} s",
        soft_wrap=True,
    )


def conflicts(run: Run) -> None:
    """Decisions of people that the data contradicts; they wait for a person."""
    if not run.conflicts:
        return
    rows = [
        [item["kind"], item["target_key"], item["source_key"], item["what"], item["author"], item["reason"]]
        for item in run.conflicts[:SHOWN_CHANGES]
    ]
    console.print()
    many = run.conflict_count != 1
    title = f"{run.conflict_count:,} decision{'s' if many else ''} of people that the data contradicts"
    table(["kind", "target", "source", "what is wrong", "decided by", "because"], rows, title)
    if run.conflict_count > len(rows):
        console.print(f"{len(rows):,} of {run.conflict_count:,}. More: --json")
    console.print("Settle each: `recon decide` with --undo, or correct the data.")


def planned(plan: Plan) -> None:
    """A plan's rows by action (where it does more than link), by pass, and what it leaves out."""
    document = plan.document
    title = f"Plan {plan.plan}: {plan.rows:,} rows of {document['target']['table']}"
    actions = [
        [name, f"{count:,}", ", ".join(document["columns"][name])] for name, count in document["actions"].items()
    ]
    if list(document["actions"]) != ["link"]:
        table(["action", "rows", "columns"], actions, title, right="1")
        title = "By pass"
    rows = [[name, f"{count:,}"] for name, count in document["passes"].items() if count]
    if rows:
        table(["pass", "rows"], rows, title, right="1")
    if document["left_out"]:
        left_out = [[why, f"{count:,}"] for why, count in document["left_out"].items()]
        table(["left out", "records"], left_out, "Left out", right="1")
    for scope in document.get("orphans", {}).get("scopes", ())[:SHOWN_CHANGES]:
        name = f" of {scope['scope']}" if scope["scope"] is not None else ""
        console.print(
            escape(
                f"Orphans{name}: {scope['orphans']:,} of {scope['records']:,} records; the cap is {scope['allowed']:,}"
            )
        )
    if plan.outside:
        console.print(f"Outside {escape(outside_words.written(plan.outside))}", soft_wrap=True)
    console.print(f"Bundle  {escape(str(plan.bundle))}; review.html there opens in any browser", soft_wrap=True)
    console.print(f"Digest  {plan.digest}")
    console.print(f"Author  {escape(plan.author)}, who cannot approve it; expires {plan.expires_at:%Y-%m-%d %H:%M} UTC")


def plans(found: Sequence[Plan]) -> None:
    if not found:
        console.print("No plans yet. Make one with `recon plan NAME`.")
        return
    rows = [
        [plan.plan, plan.state, f"{plan.rows:,}", plan.author, f"{plan.created_at:%Y-%m-%d %H:%M}", _waits(plan.state)]
        for plan in found
    ]
    headings = ["plan", "state", "rows", "author", "made (UTC)", "waits for"]
    if any(plan.outside for plan in found):
        headings.append("writes outside")
        for row, plan in zip(rows, found, strict=True):
            row.append(outside_words.place(plan.outside) if plan.outside else "")
    table(headings, rows, right="2")


def _waits(state: str) -> str:
    """What a plan in this state waits for."""
    waits = {
        "planned": "a reviewer other than the author",
        "approved": "recon apply --execute",
        "applied": "recon verify",
        "applying": "the running apply (or a resume)",
        "interrupted": "a resume: recon apply --execute",
        "apply_failed": "recon apply or recon revert",
        "verify_failed": "recon revert, or a person",
    }
    return waits.get(state, "")


def applied(result: Applied) -> None:
    if result.executed:
        if not result.changed and result.state in ("applied", "verified"):
            console.print(f"Plan {result.plan} is {result.state} already; nothing changed.")
        else:
            console.print(f"[green]Changed {result.changed:,} of {result.planned:,} rows[/] in {result.seconds:.2f} s.")
            _batches(result)
    else:
        console.print(
            f"Dry run: would change {result.changed:,} of {result.planned:,} rows, in about"
            f" {result.predicted_seconds or 0:.1f} s. Nothing was written."
        )
    if result.drifts:
        rows = [[drift["key"], explained(drift)] for drift in result.drifts]
        table(["row", "why it is left alone"], rows, f"{result.skipped:,} rows are not as planned")
    if result.outside:
        outside(result.outside, executed=result.executed)
    if not result.executed:
        _dry_run(result)


def outside(found: Mapping[str, Any], *, executed: bool) -> None:
    """What became of the records of an outside system, and the first of those that were left, in whose words."""
    console.print(escape(outside_words.became(found, executed=executed)), soft_wrap=True)
    _left_outside(found, "why it is not written")
    if found.get("tried"):
        rows = [[row["record"], row["message"]] for row in found["tried"][:SHOWN_CHANGES]]
        table(
            ["record", "what it said"],
            rows,
            f"{len(found['tried']):,} records were refused by the last apply",
            fold=True,
        )


def _left_outside(found: Mapping[str, Any], why: str) -> None:
    reasons = outside_words.reasons(found)
    if reasons:
        table(["record", why], reasons[:SHOWN_CHANGES], fold=True)
        if len(reasons) > SHOWN_CHANGES:
            console.print(f"{SHOWN_CHANGES:,} of {len(reasons):,}. More: --json")


def _batches(result: Applied) -> None:
    """How it went, where there was more than one batch, or somebody in the way."""
    if result.batches > 1 or result.retries or result.pauses:
        again = f"; {result.retries:,} tried again, because others were at the same rows" if result.retries else ""
        waited = f"; {result.pauses:,} pauses behind long transactions" if result.pauses else ""
        console.print(
            f"{result.batches:,} batches, nineteen of twenty within {result.p95_milliseconds:.0f} ms{again}{waited}."
        )


def _dry_run(result: Applied) -> None:
    """What a dry run shows beside its counts: some of the rows, how they would be written, what comes next."""
    sample = result.sample[:SHOWN_CHANGES]
    if sample:
        console.print()
        rows = [[row["key"], row["source"], row["action"], row["pass"], row["interpretation"]] for row in sample]
        table(["record", "→", "action", "pass", "about"], rows)
        if result.changed > len(sample):
            console.print(f"{len(sample):,} of {result.changed:,} rows. All of them: changes.csv in the bundle")
    if result.query_plan:
        console.print("\n[bold]Query plan of a batch[/]")
        for line in result.query_plan.splitlines():
            console.print(escape(line), style="dim", no_wrap=True, overflow="ellipsis")
    if result.state in WRITABLE:
        console.print(f"\nTo write: recon apply {result.plan} --execute")
    else:
        console.print(f"\nPlan {result.plan} is {result.state}: it waits for {_waits(result.state)}.")


def checks(result: CheckResult) -> None:
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("check", "result", "found", "says"):
        made.add_column(heading, overflow="fold")
    for item in result.items:
        found = item.observed if item.error is None else item.error
        examples = f" (such as {', '.join(item.examples[:5])})" if item.examples else ""
        made.add_row(item.name, CHECK_MARKS[item.status], escape(found + examples), escape(item.says))
    console.print(made)


def verified(result: Verified) -> None:
    if result.verification.right:
        console.print(f"[green]✓[/] All {result.verification.checked:,} planned changes are there and right.")
    else:
        rows = [[row["key"], row["problem"]] for row in result.verification.rows]
        table(["row", "problem"], rows, f"{result.verification.problems:,} planned changes are wrong or absent")
    checks(result.checks)
    if result.verification.right:
        console.print(f"Plan {result.plan} is [bold]{result.state}[/]: its own changes are all there and right.")
    else:
        console.print(f"Plan {result.plan} is [bold]{result.state}[/].")
    if not result.checks.success:
        console.print("[yellow]Checks of the whole fell short, see above (exit code 3).[/]")


def reverted(result: Reverted) -> None:
    if result.executed:
        console.print(f"[green]Restored {result.restored:,} of {result.written:,} rows[/] in {result.seconds:.2f} s.")
    else:
        console.print(f"Dry run: would restore {result.restored:,} of {result.written:,} rows. Nothing was written.")
    if result.conflicts:
        console.print(
            f"[yellow]{result.conflicts:,} rows were changed by somebody since and are kept:[/]"
            f" {escape(', '.join(result.rows))}"
        )
    if result.outside:
        restored = "were restored" if result.executed else "would be restored"
        console.print(
            f"Outside {result.outside['restored']:,} records {restored}, {result.outside['kept']:,} are kept."
        )
        _left_outside(result.outside, "why it is kept")
    if not result.executed:
        console.print(f"To write: recon revert {result.plan} --execute")


def runs(found: Sequence[Mapping[str, Any]]) -> None:
    if not found:
        console.print("No runs yet. Start with `recon match NAME`.")
        return
    rows = [
        [
            row["run"], row["reconciliation"], row["state"], f"{row['population'] or 0:,}",
            percent(None if row["limited"] else row["coverage"]),
            percent(row["precision"]["precision"] if row["precision"] else None),
            row["actor"], "limited" if row["limited"] else "", row["error"] or "",
        ]
        for row in found
    ]  # fmt: skip
    table(["run", "reconciliation", "state", "records", "coverage", "precision", "by", "", "error"], rows, right="345")


def decisions(rows: Sequence[Mapping[str, Any]], counts: Mapping[str, int]) -> None:
    """The first decisions of a run that tell something; `counts` says how many of each outcome there are."""
    quiet = [(f"{counts[name]:,}", words) for name, words in _QUIET.items() if counts.get(name)]
    not_listed = " and ".join(f"{count} {words}" for count, words in quiet)
    if quiet:
        not_listed = f"{not_listed}{',' if len(quiet) > 1 else ''} and not listed; --format csv gives all"
    if not rows:
        console.print(not_listed or "No records.")
        return
    shown: list[list[object]] = []
    for row in rows:
        keys = {
            side: ", ".join(str(value) for name, value in row.items() if name.startswith(side) and value is not None)
            for side in ("target_key", "source_key")
        }
        about = [f"{name} {value}" for name, value in row.items() if name not in _TOLD and value is not None]
        about = [text for text in about if not text.startswith(("target_key", "source_key", "interpretation"))]
        said = row.get("differences") or row.get("interpretation") or row.get("because") or row.get("reason")
        outcome = str(row["outcome"]) + (f" ({row['reason']})" if row["outcome"] in _ALONE and row["reason"] else "")
        detail = "; ".join(part for part in (" · ".join(about), said) if part)
        shown.append([keys["target_key"] or "–", keys["source_key"] or "–", outcome, row["pass"], detail])
    table(["record", "→", "outcome", "pass", "about"], shown)
    total = sum(count for outcome, count in counts.items() if outcome not in _QUIET)
    if total > len(rows):
        console.print(f"{len(rows):,} of {total:,} records. All of them: --format csv")
    if quiet:
        console.print(not_listed)


_QUIET = {"linked": "records are linked already", "same": "agree"}  # outcomes that a person need not look at
_ALONE = ("unmatched", "orphan", "missing")
_TOLD = ("outcome", "pass", "confidence", "reason", "interpretation", "differences", "because")


def reconciliations(rows: Sequence[Mapping[str, Any]]) -> None:
    in_groups = any(row["group"] for row in rows)
    headings = ["name", "title", "target", "source", *(["group"] if in_groups else [])]
    table(headings, [list(row.values())[: len(headings)] for row in rows])
    if in_groups:
        console.print(
            "The name of a group stands for all that are in it: `recon run GROUP`, check, match, report, demo."
        )


def demo_step(step: str, result: Any) -> None:
    """One step of `recon demo`, as it happens."""
    console.print(f"\n[bold cyan]▸ {step}[/]")
    match step:
        case "load":
            table(["table", "rows"], [[name, f"{count:,}"] for name, count in result.items()], right="1")
        case "match":
            waterfall(result)
        case "match again":
            console.print(f"{result.outcomes.get('same', 0):,} of {result.population:,} records agree now.")
        case "backtest":
            console.print(f"By these rules: {escape(result.words)}")
        case "plan":
            planned(result)
        case "dry run":
            console.print(f"Would change {result.changed:,} of {result.planned:,} rows; nothing was written.")
        case "approve":
            console.print(f"Approved by demo-reviewer: digest {result.digest[:16]}… (recorded by name)")
        case "apply":
            applied(result)
        case "verify":
            verified(result)
        case "report" if isinstance(result, MissingExtra):
            console.print(f"No report: {escape(str(result))}")
        case _:
            console.print(f"Report  {escape(str(result))}")
