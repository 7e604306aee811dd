"""A profile in plain words: what stands in the way of matching, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from sqlglot import exp

from recon.errors import did_you_mean
from recon.expressions import TEXT_TYPES
from recon.matching import candidates
from recon.matching.bound import Bound, BoundPass
from recon.matching.candidates import PassPairs
from recon.matching.formats import FORMATS
from recon.matching.profile import Equality, PassProfile, Profile, SideProfile, Values
from recon.matching.profile_statements import PROBES
from recon.matching.read_columns import LINK, ON, WHEN, WITHIN
from recon.names import Side
from recon.outside.jobs import FOLLOW_UPS, installed

Severity = Literal["error", "warning", "note"]
_ORDER: tuple[Severity, ...] = ("error", "warning", "note")
_INTEGERS = ("int2", "int4", "int8")


@dataclass(frozen=True)
class Finding:
    """error: matching, or what follows it, cannot do its work here; warning: a person should look; note: good to know."""

    severity: Severity
    where: str
    what: str
    todo: str = ""

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def find(bound: Bound, profile: Profile, pairs: Sequence[PassPairs], limit: int) -> tuple[Finding, ...]:
    """Everything worth a word, the worst first.

    Args:
        bound: the spec and its relations.
        profile: what its records are like.
        pairs: the candidate pairs of its passes.
        limit: how many pairs a pass may make.
    """
    found: list[Finding] = []
    passes = {rule.name: rule for rule in bound.passes}
    for item in pairs:
        if item.pairs > item.allowed(limit):
            error = candidates.refusal(passes[item.name], item, limit)
            found.append(Finding("error", f"pass {item.name}", f"{error.what} {error.why}", error.todo))
    for side, name in ((profile.target, "target"), (profile.source, "source")):
        found += _records(side, name)
    if profile.target.records and profile.source.records:
        found += _nothing_found(bound, profile)
        for side, name in ((profile.target, "target"), (profile.source, "source")):
            found += _empty_columns(side, name, profile)
        for equality, names in _equalities(profile).items():
            found += _types(equality, names)
            found += _formats(equality, names)
        for item in profile.passes:
            found += _repeated(bound, passes[item.name], item)
    found += _links(bound, profile)
    found += _half_private(bound)
    found += _no_handler(bound)
    return tuple(sorted(found, key=lambda finding: _ORDER.index(finding.severity)))


def _records(side: SideProfile, name: str) -> Generator[Finding]:
    where = f"{name} {side.label}"
    key = ", ".join(side.key)
    if not side.records:
        if side.hidden:
            yield Finding("error", where, f"No record of the {name} satisfies its `where`.", "Correct `where`.")
        else:
            yield Finding("error", where, f"The {name} has no records.", "Load them first, or check the database URL.")
    if side.null_keys:
        yield Finding(
            "error",
            where,
            f"{side.null_keys:,} of {side.records:,} {name} records have no {key}.",
            "Leave them out with `where`, or name another key.",
        )
    if side.duplicate_keys:
        yield Finding(
            "error",
            where,
            f"{key} is not unique: {side.duplicate_records:,} {name} records share {side.duplicate_keys:,} keys.",
            "Name columns that tell the records apart, or remove the duplicates.",
        )


def _nothing_found(bound: Bound, profile: Profile) -> Generator[Finding]:
    """Passes whose sides have nothing in common, with the cause (CRM-16)."""
    all_of_them = len(profile.passes) == len(bound.passes) and not any(item.common for item in profile.passes)
    for item in profile.passes:
        if item.common:
            continue
        begins = "All unmatched" if all_of_them else f"Pass {item.name} finds nothing"
        empty = [
            f"{name} is empty in every {side} record"
            for equality in item.on
            for side, name, values in _both(equality)
            if not values.filled or _only_blanks(item, side)
        ]
        if empty:
            cause, todo = " and ".join(empty), "Fill the column, or name another one in `on`."
        else:
            cause, todo = _difference(item), "Compare the values of both sides, and correct `on` or the records."
        yield Finding(
            "error" if empty or all_of_them else "warning", _place(item.name, ""), f"{begins}: {cause}.", todo
        )


def _difference(item: PassProfile) -> str:
    apart = [equality for equality in item.on if not equality.common]
    if not apart:
        return "each equality has values in common, but no two records agree on all of them"
    return " and ".join(
        f"none of {equality.target.distinct:,} {equality.target_name} values of the target"
        f" is among {equality.source.distinct:,} {equality.source_name} values of the source"
        for equality in apart
    )


def _only_blanks(item: PassProfile, side: str) -> bool:
    """Whether a column that a pass alone compares holds blank texts and nothing else: its few values are all probes."""
    probes = item.target_probes if side == "target" else item.source_probes
    return len(item.on) == 1 and 0 < len(probes) < PROBES and not any(value.strip() for (value,) in probes)


def _empty_columns(side: SideProfile, name: str, profile: Profile) -> Generator[Finding]:
    told = {
        f"{ON} (pass {item.name})"
        for item in profile.passes
        for equality in item.on
        for told_side, _, values in _both(equality)
        if told_side == name and not values.filled
    }
    for column in side.columns:
        kinds = {use.split()[0] for use in column.uses} - {LINK}
        if column.filled or not kinds or told & set(column.uses):
            continue
        # A condition may well ask for NULL; a rule that compares NULL never holds.
        severity: Severity = "error" if WITHIN in kinds else "note" if kinds == {WHEN} else "warning"
        yield Finding(
            severity,
            f"{name} {side.label}",
            f"{column.name} is empty in every record; it is read by {', '.join(column.uses)}.",
            "Fill the column, or take it out of the rules." if severity != "note" else "",
        )


def _equalities(profile: Profile) -> dict[Equality, list[str]]:
    """Each equality once, with the names of the passes that have it."""
    found: dict[Equality, list[str]] = {}
    for item in profile.passes:
        for equality in item.on:
            found.setdefault(equality, []).append(item.name)
    return found


def _types(equality: Equality, passes: Sequence[str]) -> Generator[Finding]:
    def family(kind: str) -> str:
        return "integer" if kind in _INTEGERS else "text" if kind in TEXT_TYPES else kind

    if family(equality.target_type) != family(equality.source_type):
        yield Finding(
            "note",
            _place(", ".join(passes), equality.target_name),
            f"The target is {equality.target_type}, the source is {equality.source_type}; they are compared as text,"
            " so 123 and 123.0 differ.",
        )


def _as_text(name: str, kind: str) -> str:
    """An expression of a spec, cast where the functions of a remedy would not take it."""
    if kind in TEXT_TYPES:
        return name
    return f"{name}::text" if " " not in name else f"({name})::text"


def _formats(equality: Equality, passes: Sequence[str]) -> Generator[Finding]:
    where = _place(", ".join(passes), equality.target_name)
    for item, counts in zip(FORMATS, equality.formats, strict=False):
        one_side = bool(counts.target) != bool(counts.source)
        if not counts.would_agree and not (item.suspect and one_side):
            continue
        written = " and ".join(
            f"{count:,} of {values.distinct:,} {side} values"
            for side, count, values in (
                ("target", counts.target, equality.target),
                ("source", counts.source, equality.source),
            )
            if count
        )
        more = f"{counts.would_agree:,} more would agree" if counts.would_agree else "no more would agree"
        left = item.remedy.format(_as_text(equality.target_name, equality.target_type))
        right = item.remedy.format(_as_text(equality.source_name, equality.source_type))
        yield Finding(
            "warning" if counts.would_agree else "note",
            where,
            f"{written} {item.words}; {more} {item.otherwise}.",
            f"If they mean the same, compare {left} with {right} in `on`, or correct the records."
            if counts.would_agree
            else "",
        )
    if equality.together > max((counts.would_agree for counts in equality.formats), default=0):
        yield Finding(
            "warning",
            where,
            f"{equality.together:,} more would agree without any of these: leading zeros, .0, blanks, capitals.",
            "Correct the records, or take these away in the expressions of `on`.",
        )


def _repeated(bound: Bound, rule: BoundPass, item: PassProfile) -> Generator[Finding]:
    """Values that several records have, where only one of them can be the partner (CRM-13)."""
    one_to_one = bound.spec.cardinality == "one_to_one"
    decided = bool(rule.rule.prefer or rule.rule.within or rule.when_both)
    sides = [("source", "target", item.source, item.target)]
    if one_to_one:
        sides.append(("target", "source", item.target, item.source))
    for side, other, own, asking in sides:
        if not own.repeated or (not one_to_one and (decided or not asking.shared)):
            continue
        ask = f"{asking.shared:,} {other} records ask for them"
        ends = "and are told apart only by the pass's other rules" if decided else "and would be ambiguous"
        ambiguous = bool(asking.shared) and not decided
        names = ", ".join(each.target_name if side == "target" else each.source_name for each in item.on)
        yield Finding(
            "warning" if ambiguous else "note",
            _place(item.name, ""),
            f"{own.repeated:,} of {own.distinct:,} values of {names} stand in several {side} records; "
            + (f"{ask} {ends}." if asking.shared else f"no {other} record asks for them."),
            "Remove the duplicates, or say with `prefer` which record is best." if ambiguous else "",
        )


def _links(bound: Bound, profile: Profile) -> Generator[Finding]:
    linked, records = profile.target.linked, profile.target.records
    if linked is None:
        yield Finding("note", bound.spec.name, "The spec names no `link`: every record is decided in every run.")
    elif records and linked == records:
        yield Finding("note", bound.spec.name, f"All {records:,} target records are linked: nothing is left to match.")


def _half_private(bound: Bound) -> Generator[Finding]:
    """Values that are private on one side and not on the other, though the rules compare them: one tells the other."""
    pairs = [
        (f"pass {rule.name}", left, right, named)
        for rule in bound.passes
        for left, right, *named in zip(rule.targets, rule.sources, rule.target_names, rule.source_names, strict=True)
    ]
    pairs += [("compare", item.target, item.source, [item.name, "its source"]) for item in bound.compared]
    for where, left, right, (target, source) in pairs:
        sides = [bool({*_columns(tree)} & bound.private) for tree in (left, right)]
        if sides[0] != sides[1]:
            veiled, open_ = (
                (f"target {target}", f"source {source}") if sides[0] else (f"source {source}", f"target {target}")
            )
            yield Finding(
                "warning",
                where,
                f"{veiled} is private, and {open_}, which it is compared with, is not: where they agree, one tells the"
                " other.",
                "Mark both as `private`.",
            )


def _columns(tree: exp.Expr) -> Generator[tuple[Side, str]]:
    for node in exp.Paren(this=tree.copy()).find_all(exp.Column):
        yield ("t" if node.table == "t" else "s"), node.name


def _both(equality: Equality) -> tuple[tuple[str, str, Values], tuple[str, str, Values]]:
    return (
        ("target", equality.target_name, equality.target),
        ("source", equality.source_name, equality.source),
    )


def _place(passes: str, on: str) -> str:
    return f"pass {passes}, on {on}" if on else f"pass {passes}"


def _no_handler(bound: Bound) -> Generator[Finding]:
    """Follow-ups that nobody would carry out."""
    for item in bound.spec.follow_ups:
        if item.job not in installed():
            yield Finding(
                "error",
                f"follow-up {item.job}",
                f"No follow-up called {item.job} is installed, so its jobs wait. {did_you_mean(item.job, installed())}".strip(),
                f"Correct `job`, or install the package that brings it (entry point group {FOLLOW_UPS}).",
            )
