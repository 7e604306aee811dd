"""What `recon review` shows: a plan on one screen, for the person who signs it."""

from __future__ import annotations

from recon.backfill import drift, outside_words
from recon.backfill.contents import READING_ORDER, Group, Value, source_keys
from recon.backfill.review import Review
from recon.errors import visible
from recon.matching.coverage import looked_at, percent
from recon.screens import console, table

SHOWN_DRIFTS = 10  # rows named; the count says how many there are
MANY_COLUMNS, WIDE = 4, 110  # so many written columns stand side by side, on a screen of so many characters


def review(found: Review, *, scripts: bool = True) -> None:
    """Print a review.

    Args:
        found: the review.
        scripts: whether the four scripts are printed too.
    """
    _header(found)
    _changes(found)
    for group in found.contents.groups:
        _sample(found, group)
    _lint(found)
    if found.pending:
        _now(found)
    if scripts:
        _scripts(found)
    _sign(found)


def _line(text: str, style: str | None = None) -> None:
    console.print(visible(text), style=style, markup=False)


def _heading(text: str) -> None:
    console.print()
    _line(text, "bold cyan")


def _header(found: Review) -> None:
    plan, document = found.plan, found.contents.document
    target = document["target"]
    many = "" if plan.rows == 1 else "s"
    _line(f"Plan {plan.plan}: {plan.rows:,} row{many} of {target['schema']}.{target['table']}", "bold")
    given = ", ".join(found.voices.said)
    made, until = f"{plan.created_at:%Y-%m-%d %H:%M}", f"{plan.expires_at:%Y-%m-%d %H:%M} UTC"
    said = {
        "for": plan.reconciliation,
        **({"looks at": limited} if (limited := looked_at(document["run_limited"])) else {}),
        "state": plan.state,
        "made": f"{made} UTC by {plan.author}, who cannot approve it",
        "expires": until,
        "database": f"{document['database']['database']} ({document['environment']})",
        "writes": ", ".join(target["columns"]),
        **({"outside": outside_words.written(plan.outside)} if plan.outside else {}),
        "approvals": f"{len(found.voices.counted)} of {found.needed}{f': {given}' if given else ''}",
        "bundle": str(plan.bundle),
    }
    if found.private:
        said["private"] = found.private
    for name, value in said.items():
        console.print(f"{name:<10}", style="dim", end="", markup=False)
        console.print(visible(value), markup=False, soft_wrap=True)


def _changes(found: Review) -> None:
    _heading("What will change")
    rows = [
        [
            item.rule or "no pass", item.action, f"{item.rows:,}", percent(item.rows / found.plan.rows), _confidence(item),
            percent(item.precision),
        ]
        for item in found.contents.groups
    ]  # fmt: skip
    if rows:
        table(["pass", "action", "rows", "share", "confidence", "precision"], rows, right="2345")
    else:
        _line("The planned rows are gone from the database.", "red")
    known = found.contents.measured
    _line(f"These rules: {known}." if known else f"Not measured: run `recon backtest {found.plan.reconciliation}`.")


def _confidence(group: Group) -> str:
    if group.lowest is None or group.highest is None:
        return "–"
    low, high = f"{group.lowest:g}", f"{group.highest:g}"
    return low if low == high else f"{low} to {high}"


def _sample(found: Review, group: Group) -> None:
    shown = len(group.sample)
    _heading(f"{group.rule or 'no pass'}, {group.action}: {shown:,} of {group.rows:,} rows")
    target, sources = found.contents.document["target"], source_keys(found.contents.document)
    ends = [", ".join(target["key"]), f"source {', '.join(sources)}", "about"]
    if len(target["columns"]) <= MANY_COLUMNS and console.width >= WIDE:
        headings = [*ends[:2], *target["columns"], ends[2]]
        rows = [[row.key, row.source, *map(_value, row.values), row.interpretation] for row in group.sample]
    else:  # one line for each column that changes
        headings = [*ends[:2], "before → after", ends[2]]
        lines = [
            "\n".join(f"{item.column}: {_value(item)}" for item in row.values if item.changes) for row in group.sample
        ]
        rows = [[row.key, row.source, line, row.interpretation] for row, line in zip(group.sample, lines, strict=True)]
    table(headings, rows, fold=True)


def _value(item: Value) -> str:
    before, after = ("empty" if value is None else value for value in (item.before, item.after))
    return f"{before} → {after}" if item.changes else f"stays {before}"


def _lint(found: Review) -> None:
    _heading("Lint")
    for item in found.contents.findings:
        refused = item.severity == "refuse"
        console.print("✗ " if refused else "! ", style="red" if refused else "yellow", end="")
        where = "the table" if item.where == "database" else item.where
        _line(f"{item.rule}: {where} {item.what}. {item.todo}")
    if not found.contents.refused:
        console.print("[green]✓[/] The four scripts keep every rule.")


def _now(found: Review) -> None:
    _heading("How things stand now")
    if found.drifts is None:
        _line("! Nobody can say which rows drifted: see below.", "yellow")
    elif not found.drifts:
        console.print(f"[green]✓[/] All {found.plan.rows:,} rows and their sources are as planned.")
    else:
        _line(f"✗ {found.drifted:,} of {found.plan.rows:,} rows drifted:", "red")
        for row in found.drifts[:SHOWN_DRIFTS]:
            _line(f"  {row['key']}: {drift.explained(row)}")
        if (found.drifted or 0) > SHOWN_DRIFTS:
            _line(f"  … and {(found.drifted or 0) - SHOWN_DRIFTS:,} more")
    for name in found.changed_files:
        _line(f"✗ {name} is not the file that was planned", "red")


def _scripts(found: Review) -> None:
    from rich.syntax import Syntax

    for name in READING_ORDER:
        _heading(name)
        if name not in found.contents.scripts:
            _line("The file is not there.", "red")
            continue
        text = visible(found.contents.scripts[name]).rstrip("\n")
        console.print(Syntax(text, "postgresql", theme="ansi_dark", background_color="default", word_wrap=True))


def _sign(found: Review) -> None:
    if found.problems:
        _heading("This plan is refused")
        for error in found.problems:
            what, *more = error.parts
            _line(f"✗ {what}", "red")
            for part in more:
                _line(f"  {part}")
        return
    _heading("Sign-off")
    console.print(f"digest    {found.plan.digest}", markup=False, soft_wrap=True)
    if found.command:
        console.print(f"approve   {found.command}", markup=False, soft_wrap=True)
        console.print(f'reject    recon reject {found.plan.plan} --reason "…"', markup=False, soft_wrap=True)
    else:
        _line(f"The plan is {found.plan.state}: nothing is left to sign.")
