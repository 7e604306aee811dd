"""The drafted spec as a page that a person reads: what was found, why, and how sure it is, beside each line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from recon.drafting import windows
from recon.drafting.attributes import DAY_SECONDS, HEAD
from recon.drafting.draft import Draft
from recon.drafting.reading import Looked
from recon.drafting.rules import Asked, Rule
from recon.drafting.tables import Candidate
from recon.drafting.weights import Weight
from recon.drafting.writing import comment, expression, folded, sequence, text
from recon.drafting.writing import name as column_name

SCHEMA = "# yaml-language-server: $schema={}"


def page(
    draft: Draft, name: str, files: tuple[str, str] | None, schema: str, candidates: Sequence[Candidate] = ()
) -> str:
    """The spec.

    Args:
        draft: what was found.
        name: the reconciliation's.
        files: target and source, relative to the workspace; None: they are tables.
        schema: where the JSON Schema is, seen from the spec.
        candidates: other columns of the database that could be links.
    """
    lines = [
        SCHEMA.format(schema),
        comment("Drafted by `recon init`. Everything below was found in the data: read it, correct it, it is yours."),
        f"name: {text(name)}",
        f"title: {text(f'{draft.target.label} to {draft.source.label}')}",
    ]
    lines += _side("target", draft.target, draft.target_key, files[0] if files else None)
    lines += _side("source", draft.source, (draft.source_key,), files[1] if files else None)
    if draft.linked is None:
        said = "a new column of the target; it takes the source's key"
    elif files and draft.linked:
        said = f"{draft.linked:,} records hold the source's key here already, and are taken as linked"
    else:
        said = f"{draft.linked:,} links were looked at" if draft.learnt.known else "too few links to measure by"
    lines.append(f"link: {{column: {text(draft.link)}}}    " + comment(said))
    for other in candidates:
        lines.append(
            comment(
                f"not taken: {other.target.called}, column {other.link}, to {other.source.called}:"
                f" {other.filled:,} linked, {other.empty:,} empty"
            )
        )
    several = (
        "some sources have several targets" if draft.learnt.many_to_one else "no source has several targets, or few"
    )
    lines += [f"cardinality: {draft.cardinality}    " + comment(several), "passes:"]
    names: set[str] = set()
    for number, rule in enumerate(draft.rules):
        lines += _pass(rule, names, draft, last=number == len(draft.rules) - 1)
    lines.append("show:")
    shown = dict.fromkeys(
        item
        for rule in draft.rules
        for weight in (*(item.weight for item in rule.asked), *rule.guards)
        for item in (
            f"t.{column_name(weight.comparison.target.column)}",
            f"s.{column_name(weight.comparison.source.column)}",
        )
    )
    lines += [f"  - {expression(item)}" for item in shown]
    return "\n".join(lines) + "\n"


def _side(word: str, side: Looked, key: Sequence[str], file: str | None) -> list[str]:
    """Where the records of a side are, and what their columns hold."""
    keys = text(key[0]) if len(key) == 1 else sequence(key)
    lines = [f"{word}:", f"  file: {text(file)}" if file else f"  table: {text(side.label)}"]
    if side.sample_of:
        lines.append("  " + comment(f"a sample of {side.records:,} of {side.sample_of:,} records was looked at"))
    lines.append(f"  key: {keys}    " + comment(f"filled and different in each of {side.records:,} records"))
    if not file:
        return lines
    if side.encoding != "utf-8":
        lines.append(f"  encoding: {text(side.encoding)}")
    if side.delimiter != ",":
        lines.append(f"  delimiter: {text(side.delimiter)}")
    lines += [
        "  " + comment(f"left out, for its name is empty, too long, stands twice or is PostgreSQL's own: {column}")
        for column in side.left_out
    ]
    lines.append("  columns:    " + comment("each with the narrowest type that every value fits"))
    return [*lines, *[f"    {text(kind.name)}: {kind.type}" for kind in side.kinds]]


def pass_name(rule: Rule, names: set[str]) -> str:
    """A name from the columns that must agree, which no other rule has."""
    words = [_word(item.weight.comparison.target.column) + ("_near" if item.near else "") for item in rule.asked]
    name = "_and_".join(words)[:40].strip("_")
    name = name if name[:1].isalpha() else f"by_{name}"
    made, number = name, 2
    while made in names:
        made, number = f"{name}_{number}", number + 1
    names.add(made)
    return made


def _word(column: str) -> str:
    return "".join(sign if sign.isascii() and sign.isalnum() else "_" for sign in column.lower()).strip("_") or "column"


def _pass(rule: Rule, names: set[str], draft: Draft, *, last: bool) -> list[str]:
    lines = [f"  - name: {text(pass_name(rule, names))}"]
    lines += [f"    {comment(_why(item))}" for item in rule.asked]
    equal = [item.weight.comparison for item in rule.asked if not item.near]
    lines.append("    on:")
    lines += [
        f"      {expression(item.target.expression(bare=True))}: {expression(item.source.expression(bare=True))}"
        for item in equal
    ]
    close = [item.weight.comparison for item in rule.asked if item.near]
    if close:
        lines.append("    within:    " + comment("a round bound that holds 99 % of the sure pairs"))
    for item in close:
        lines.append(
            f"      - {{target: {expression(item.target.expression(bare=True))}, source:"
            f" {expression(item.source.expression(bare=True))}, tolerance: {draft.learnt.reach[item.number].tolerance()}}}"
        )
    if rule.guards:
        lines.append("    " + comment("and nothing speaks against it: columns that nearly always agree in sure pairs"))
        lines += folded("when", [guard(weight, draft) for weight in rule.guards])
    sure = f"{max(min(rule.precision, 0.999), 0):.3f}"
    if rule.known:
        said = f"measured: {rule.true:,} of {rule.known:,} pairs of records that are linked are the links that exist"
    else:
        part = f" by one in {draft.step:,} records" if draft.step > 1 else ""
        said = f"an estimate{part}: of {rule.matched:,} pairs that it makes, {rule.right:,.0f} are right by all columns together"
    lines.append(f"    confidence: {sure}    {comment(said)}")
    if rule.proposes:
        lines.append("    accept: review    " + comment("not sure enough to link without a person"))
    elif not last:
        lines.append("    on_tie: next")
    return lines


def _why(item: Asked) -> str:
    weight, compared = item.weight, item.weight.comparison
    if item.near:
        return (
            f"{compared.target.column} near {compared.source.column}: {min(weight.m + weight.m_near, 1):.1%} of the"
            f" sure pairs, {min(weight.u + weight.u_near, 1):.1%} of random ones"
        )
    return (
        f"{compared.target.column} and {compared.source.column}, {compared.words}: {compared.target_share:.0%} of the"
        f" target's values stand in the source; {weight.m:.1%} of sure pairs agree, of others 1 in {1 / weight.u:,.0f}"
    )


def guard(weight: Weight, draft: Draft) -> str:
    """That two values do not differ: they are the same (or nearly), or one is not there (the comparison is NULL)."""
    left, right = weight.comparison.target.expression(), weight.comparison.source.expression()
    close = near(weight, draft)
    if close is None:
        return f"coalesce({left} = {right}, true)"
    return f"coalesce({close if weight.comparison.target.measured else f'{left} = {right} or {close}'}, true)"


def near(weight: Weight, draft: Draft) -> str | None:
    """That two values nearly agree, as the pairs were looked at; None: there is no such thing."""
    item = weight.comparison
    left, right = item.target.expression(), item.source.expression()
    if item.target.spelled and item.source.spelled:
        return f"left({left}, {HEAD}) = left({right}, {HEAD}) or right({left}, {HEAD}) = right({right}, {HEAD})"
    if not item.target.measured:
        return None
    reach = windows.of(item, draft.learnt.reach)
    if reach.share is not None:
        return f"abs({left} - {right}) <= {reach.share:g} * abs({left})" if reach.share else f"{left} = {right}"
    if item.target.form.family == "day":
        return f"{right} - {left} between {-int(reach.before // DAY_SECONDS)} and {int(reach.after // DAY_SECONDS)}"
    return f"extract(epoch from {right} - {left}) between {-int(reach.before)} and {int(reach.after)}"


def as_dict(draft: Draft, next_steps: list[str], candidates: Sequence[Candidate] = ()) -> dict[str, Any]:
    """What `recon init --json` says of a draft."""
    return {
        "target": {"name": draft.target.label, "key": list(draft.target_key), "records": draft.target.records},
        "source": {"name": draft.source.label, "key": [draft.source_key], "records": draft.source.records},
        "link": draft.link,
        "cardinality": draft.cardinality,
        "passes": passes(draft),
        "candidates": [item.as_dict() for item in candidates],
        "next": next_steps,
    }


def passes(draft: Draft) -> list[dict[str, Any]]:
    """The drafted passes with their figures, in order."""
    names: set[str] = set()
    return [
        {
            "name": pass_name(rule, names),
            "on": {
                a.weight.comparison.target.column: a.weight.comparison.source.column for a in rule.asked if not a.near
            },
            "within": [
                {
                    "target": a.weight.comparison.target.column,
                    "source": a.weight.comparison.source.column,
                    "tolerance": draft.learnt.reach[a.weight.comparison.number].tolerance(),
                }
                for a in rule.asked
                if a.near
            ],
            "precision": round(min(rule.precision, 0.999), 3),
            "recall": round(rule.true / draft.learnt.known, 3) if draft.learnt.known else None,
            "matched": rule.matched * draft.step,
            "measured": bool(rule.known),
            "accept": "review" if rule.proposes else "auto",
        }
        for rule in draft.rules
    ]
