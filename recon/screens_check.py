"""What `recon check` shows: the sides, the values of each pass, its candidate pairs, and the findings in words."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from rich.markup import escape

from recon.matching.check import Checked
from recon.matching.coverage import percent
from recon.matching.findings import Severity
from recon.matching.profile import Equality, PassProfile, SideProfile
from recon.screens import console, table

SHOWN_VALUE = 40  # characters of a value; the JSON document has up to 200

_MARKS: dict[Severity, str] = {"error": "[red]✗ error[/]", "warning": "[yellow]! warning[/]", "note": "[dim]· note[/]"}


def checked(result: Checked) -> None:
    """The whole screen of a check."""
    profile = result.profile
    console.print(
        f"[green]✓[/] Connected to {escape(result.database)} ({escape(result.server)});"
        f" {escape(profile.reconciliation)} fits it."
    )
    for name, side in (("Target", profile.target), ("Source", profile.source)):
        console.print()
        _side(name, side)
    if profile.passes:
        console.print()
        _values(profile.passes)
    console.print()
    _pairs(result)
    for item in profile.passes:
        if item.target_probes or item.source_probes:
            console.print()
            _probes(item)
    console.print()
    _findings(result)


def visible(text: str) -> str:
    """A value on one line: cut, and in quotes so that blanks show.

    >>> visible("00123 "), visible("a\\nb"), len(visible("long" * 100))
    ('"00123 "', '"a\\\\nb"', 43)
    """
    return f'"{one_line(text if len(text) <= SHOWN_VALUE else text[:SHOWN_VALUE] + "…")}"'


def one_line(text: str) -> str:
    """A text with whatever does not print, or would move the cursor, escaped.

    >>> one_line("red\\x1b[31m")
    'red\\\\x1b[31m'
    """
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _side(name: str, side: SideProfile) -> None:
    about = [f"{side.records:,} records", f"key {', '.join(side.key)}"]
    if side.linked is not None and side.records:
        about.append(f"{side.linked:,} linked ({percent(side.linked / side.records)})")
    rows = [
        [
            one_line(column.name),
            column.type,
            percent(column.filled / side.records if side.records else None),
            f"{column.distinct:,}" + ("" if column.distinct_of == side.records else f" of {column.distinct_of:,}"),
            _uses(column.uses),
        ]
        for column in side.columns
    ]
    title = f"{name} {side.label}: {', '.join(about)}"
    table(["column", "type", "filled", "different", "read by"], rows, one_line(title), right="23")


def _uses(uses: Sequence[str]) -> str:
    """What reads a column; of several passes only how many."""
    by_kind: dict[str, list[str]] = {}
    for use in uses:
        by_kind.setdefault(use.split()[0], []).append(use)
    return ", ".join(
        found[0] if len(found) == 1 else f"{kind} ({len(found)} passes)" for kind, found in by_kind.items()
    )


def _values(passes: Sequence[PassProfile]) -> None:
    rows: list[list[object]] = []
    seen: dict[Equality, None] = {}
    for item in passes:
        for equality in item.on:
            if equality in seen:
                continue
            seen[equality] = None
            formats = [f"{count.name} {count.target:,}/{count.source:,}" for count in equality.formats]
            rows.append(
                [
                    one_line(f"{equality.target_name} = {equality.source_name}"),
                    f"{equality.target.distinct:,}",
                    f"{equality.source.distinct:,}",
                    f"{equality.common:,}",
                    f"{equality.target.repeated:,}/{equality.source.repeated:,}",
                    ", ".join(text for text in formats if not text.endswith(" 0/0")),
                ]
            )
    headings = ["values", "target", "source", "in common", "repeated", "written with (target/source)"]
    table(headings, rows, right="1234", fold=True)


def _pairs(result: Checked) -> None:
    rows: list[list[object]] = []
    for item in result.pairs:
        key = ", ".join(visible(part) for part in item.worst_key or ())
        worst = f"{item.worst_targets:,} × {item.worst_sources:,}" if item.pairs else ""
        refused = "refused" if item.name in result.refused else ""
        rows.append([item.name, f"{item.pairs:,}", key or ("every record" if item.pairs else ""), worst, refused])
    table(["pass", "candidate pairs", "most of one key", "target × source", ""], rows, right="13")


def _probes(item: PassProfile) -> None:
    def shown(key: tuple[str, ...]) -> str:
        return ", ".join(visible(part) for part in key)

    rows = zip_longest(map(shown, item.target_probes), map(shown, item.source_probes), fillvalue="")
    names = [
        ", ".join(names) for names in zip(*((each.target_name, each.source_name) for each in item.on), strict=True)
    ]
    headings = [one_line(f"target: {names[0]}"), one_line(f"source: {names[1]}")]
    table(headings, list(rows), f"Pass {item.name} finds nothing; some values of either side")


def _findings(result: Checked) -> None:
    for finding in result.findings:
        console.print(
            f"{_MARKS[finding.severity]} [bold]{escape(one_line(finding.where))}[/]: {escape(one_line(finding.what))}"
        )
        if finding.todo:
            console.print(f"  {escape(one_line(finding.todo))}")
    counts = [
        f"{number:,} {severity}{'' if number == 1 else 's'}"
        for severity in _MARKS
        if (number := sum(finding.severity == severity for finding in result.findings))
    ]
    console.print(f"{', '.join(counts) or 'Nothing to remark'} · {result.seconds:.2f} s")
