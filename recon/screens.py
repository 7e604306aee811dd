"""What the command line shows: tables and sentences, never dumps. Each function prints one result."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recon.backfill.apply import Applied
from recon.backfill.plan import Plan
from recon.backfill.revert import Reverted
from recon.checks.run import CheckResult
from recon.matching.coverage import percent
from recon.matching.explain import Explanation
from recon.matching.run import Run
from recon.workflow import Verified

SHOWN_CHANGES = 10  # rows of a dry run: enough to see what kind of change it is
WRITABLE = ("approved", "interrupted", "apply_failed")  # states from which `recon apply --execute` goes on
PIPED_WIDTH = 140  # characters; a file or a pipe has no width of its own

console = Console(highlight=False, width=None if sys.stdout.isatty() else PIPED_WIDTH)

CHECK_MARKS = {"passed": "[green]✓ passed[/]", "failed": "[red]✗ failed[/]", "errored": "[yellow]! errored[/]"}


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None, right: str = "") -> None:
    """Print a table; `right` holds the numbers (from 0) of columns set to the right."""
    if title:
        console.print(escape(title), style="bold", soft_wrap=True)
    made = Table(header_style="bold", box=None, pad_edge=False)
    numbers = [int(digit) for digit in right]
    for number, heading in enumerate(headings):
        made.add_column(heading, justify="right" if number in numbers else "left", overflow="fold", no_wrap=number == 0)
    for row in rows:
        made.add_row(*["–" if value is None else escape(str(value)) for value in row])
    console.print(made)


def waterfall(run: Run) -> None:
    """The waterfall of a run: what was linked, what each pass added, what is left, and why."""
    total = run.population
    running = run.outcomes.get("linked", 0)

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
    unmatched = run.outcomes.get("unmatched", 0)
    rows.append(["not matched", f"{unmatched:,}", "", "", ""])
    title = f"{run.reconciliation}: {total:,} records, run {run.run}"
    table(["pass", "matched", "proposed", "ambiguous", "coverage"], rows, title, right="1234")
    if run.limited:
        said = ", ".join(f"{name} {value}" for name, value in run.limited.items())
        console.print(f"[yellow]Limited run ({escape(said)}): not every record was looked at.[/]")
    if run.reasons:
        console.print()
        rows = [[reason, f"{count:,}", percent(count / unmatched)] for reason, count in run.reasons.items()]
        table(["why not", "records", "share"], rows, right="12")
    console.print(
        f"\nCoverage {percent(None if run.limited else run.coverage)} · matching {run.seconds.get('matching', 0):.2f} s,"
        f" reasons {run.seconds.get('reasons', 0):.2f} s"
    )


def planned(plan: Plan) -> None:
    counts = plan.document["passes"]
    rows = [[name, f"{count:,}"] for name, count in counts.items() if count]
    table(
        ["pass", "rows"], rows, f"Plan {plan.plan}: {plan.rows:,} rows of {plan.document['target']['table']}", right="1"
    )
    console.print(f"Bundle  {escape(str(plan.bundle))}")
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
    table(["plan", "state", "rows", "author", "made (UTC)", "waits for"], rows, right="2")


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
    else:
        console.print(
            f"Dry run: would change {result.changed:,} of {result.planned:,} rows, in about"
            f" {result.predicted_seconds or 0:.1f} s. Nothing was written."
        )
    if result.drifts:
        rows = [[drift["key"], drift["status"]] for drift in result.drifts]
        table(["row", "why it is left alone"], rows, f"{result.skipped:,} rows are not as planned")
    if not result.executed:
        _dry_run(result)


def _dry_run(result: Applied) -> None:
    """What a dry run shows beside its counts: some of the rows, how they would be written, what comes next."""
    sample = result.sample[:SHOWN_CHANGES]
    if sample:
        console.print()
        rows = [[row["key"], row["source"], row["pass"], row["interpretation"]] for row in sample]
        table(["record", "→", "pass", "about"], rows)
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
    if not result.executed:
        console.print(f"To write: recon revert {result.plan} --execute")


def runs(found: Sequence[Mapping[str, Any]]) -> None:
    if not found:
        console.print("No runs yet. Start with `recon match NAME`.")
        return
    rows = [
        [
            row["run"], row["reconciliation"], row["state"], f"{row['population'] or 0:,}", percent(None if row["limited"] else row["coverage"]),
            row["actor"], "limited" if row["limited"] else "", row["error"] or "",
        ]
        for row in found
    ]  # fmt: skip
    table(["run", "reconciliation", "state", "records", "coverage", "by", "", "error"], rows, right="34")


def decisions(rows: Sequence[Mapping[str, Any]], total: int, linked: int) -> None:
    """The first decisions of a run; `total` says how many such there are, `linked` how many are not listed at all."""
    not_listed = f"{linked:,} records are linked already and not listed; --format csv gives all"
    if not rows:
        console.print(not_listed if linked else "No records.")
        return
    shown: list[list[object]] = []
    for row in rows:
        keys = [str(value) for name, value in row.items() if name.startswith("target_key")]
        sources = [str(value) for name, value in row.items() if name.startswith("source_key") and value is not None]
        about = [f"{name} {value}" for name, value in row.items() if name not in _TOLD and value is not None]
        about = [text for text in about if not text.startswith(("target_key", "source_key", "interpretation"))]
        said = row.get("interpretation") or row.get("reason")
        outcome = str(row["outcome"]) + (f" ({row['reason']})" if row["outcome"] == "unmatched" else "")
        detail = "; ".join(part for part in (" · ".join(about), said) if part)
        shown.append([", ".join(keys), ", ".join(sources) or "–", outcome, row["pass"], detail])
    table(["record", "→", "outcome", "pass", "about"], shown)
    if total > len(rows):
        console.print(f"{len(rows):,} of {total:,} records. All of them: --format csv")
    if linked:
        console.print(not_listed)


_TOLD = ("outcome", "pass", "confidence", "reason", "interpretation")


def explained(result: Explanation) -> None:
    record = ", ".join(f"{name} {value}" for name, value in result.record.items() if value is not None)
    if record:
        console.print(f"[bold]{escape(result.key)}[/]: {escape(record)}")
    if result.link is not None:
        console.print(f"It holds a link to {escape(str(result.link))}, so no rule touches it.")
    for item in result.passes:
        console.print(f"\n[bold]{item.name}[/] · {item.result}: {escape(item.sentence)}")
        if item.candidates:
            names = list(item.candidates[0].shown)
            rows = [
                [candidate.source_key, "yes" if candidate.holds else "no", *candidate.shown.values()]
                for candidate in item.candidates
            ]
            table(["candidate", "allowed", *names], rows)


def reconciliations(rows: Sequence[Mapping[str, Any]]) -> None:
    table(["name", "title", "target", "source"], [list(row.values()) for row in rows])


def demo_step(step: str, result: Any) -> None:
    """One step of `recon demo`, as it happens."""
    console.print(f"\n[bold cyan]▸ {step}[/]")
    match step:
        case "load":
            table(["table", "rows"], [[name, f"{count:,}"] for name, count in result.items()], right="1")
        case "match":
            waterfall(result)
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
        case _:
            console.print(f"Report  {escape(str(result))}")
