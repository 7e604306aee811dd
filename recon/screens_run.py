"""What the command line shows of runs of the whole way, and of runs of notebooks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.markup import escape

from recon.backfill import outside_words
from recon.matching.coverage import percent
from recon.screens import console, table


def ran(document: Mapping[str, Any]) -> None:
    """What was matched, planned, applied and verified, what remains, and where one reads of it."""
    for heading, said in _lines(document):
        console.print(f"[bold]{heading:<9}[/] {escape(said)}", soft_wrap=True)
    for short in document["falls_short"]:
        console.print(f"[yellow]! {escape(short)}[/]", soft_wrap=True)
    if document["awaits"]:
        for reason in document["sign_off"]["refused"]:
            console.print(f"  {escape(reason)}", soft_wrap=True)
        console.print(f"Next: a reviewer runs `{escape(document['awaits'])}`.", soft_wrap=True)
        name = escape(document["reconciliation"])
        give = f"recon standing {name} --give --action ACTION --rows N --days N"
        console.print(f"For runs without a reviewer, one gives a standing sign-off: `{give}`.", soft_wrap=True)
    elif document["mode"] == "dry_run" and document["apply"]:
        console.print(f"To write: recon run {escape(document['reconciliation'])} --execute", soft_wrap=True)


def _lines(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    match, plan, apply, proof = (document[step] for step in ("match", "plan", "apply", "verify"))
    found = " · ".join(f"{count:,} {outcome}" for outcome, count in match["outcomes"].items())
    lines: list[tuple[str, str]] = []
    if loaded := document.get("load"):
        counts = ", ".join(f"{count:,} {table}" for table, count in loaded.get("records", {}).items())
        lines.append(("Loaded", f"{counts} from {loaded['from']}" if counts else loaded["said"]))
    lines.append(("Matched", f"{match['population']:,} records: {found or 'none'} (run {match['run']})"))
    if match["limited"]:
        said = ", ".join(f"{name} {value}" for name, value in match["limited"].items())
        lines.append(("Limited", f"{said}: not every record was looked at"))
    if plan:
        waited = ", which waited already" if plan["waited"] else ""
        lines.append(("Planned", f"{plan['rows']:,} rows, plan {plan['plan']}{waited}"))
    elif document["mode"] != "match":
        lines.append(("Planned", "nothing: nothing would change"))
    if document["sign_off"]:
        sign_off = document["sign_off"]
        lines.append(("Sign-off", f"{sign_off['state']}; {', '.join(sign_off['given']) or 'nobody has signed'}"))
    if apply and apply["executed"]:
        lines.append(("Applied", f"{apply['changed']:,} of {apply['planned']:,} rows in {apply['seconds']:.2f} s"))
    elif apply:
        lines.append(
            ("Dry run", f"{apply['changed']:,} of {apply['planned']:,} rows would change; nothing was written")
        )
    if apply and apply.get("outside"):
        lines.append(("Outside", outside_words.became(apply["outside"], executed=apply["executed"])))
    if proof:
        checks = proof["checks"]
        failed = f", failed: {', '.join(checks['failed'])}" if checks["failed"] else ""
        lines.append(
            (
                "Verified",
                f"{proof['checked']:,} rows, {proof['problems']:,} wrong; {checks['passed']:,} checks passed{failed}",
            )
        )
    remains = document["remains"]
    share = percent(remains["coverage"])
    lines.append(
        ("Remains", f"{remains['linked']:,} of {remains['population']:,} are reconciled now, coverage {share}")
    )
    return [*lines, ("Report", document["report"]), ("Notebook", document["notebook"])]


def notebooks(found: Sequence[Mapping[str, Any]]) -> None:
    """Runs of notebooks, newest first."""
    if not found:
        console.print("No notebook ran yet. `recon run NAME` and `recon report NAME` run one.")
        return
    rows = [
        [row["id"], row["state"], row["actor"], f"{row['started_at']:%Y-%m-%d %H:%M}", row["file"], row["error"]]
        for row in found
    ]
    table(["run", "state", "by", "started (UTC)", "file in reports/", "error"], rows, fold=True)
