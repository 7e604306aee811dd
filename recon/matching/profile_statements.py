"""The statements of a profile: one scan of each side, and one join for each equality and pass."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from recon import expressions
from recon.matching import formats, grouped
from recon.matching.bound import Bound
from recon.matching.grouped import key_names, only, summed, table
from recon.matching.privacy import behind_veil, hidden
from recon.names import Side, column, identifier

# Records among which different values of a column are counted exactly; counting all of 1 M costs a sort of each column.
SAMPLE = 100_000
PROBES = 10  # values of each side that people see where nothing matches (CRM-16)

_ONE = exp.Literal.number(1)


def scan(bound: Bound, side: Side, columns: Sequence[str]) -> exp.Select:
    """One row: the records, those without a whole key, and how often each column is filled."""
    keys = [column(side, name) for name in _record_set(bound, side)]
    nulls = exp.or_(*[grouped.empty(key) for key in keys])
    counts: list[exp.Expr] = [exp.Count(this=exp.Star()), only(exp.Count(this=exp.Star()), nulls)]
    counts += [exp.Count(this=column(side, name)) for name in columns]
    return _records(bound, side, counts)


def sample(bound: Bound, side: Side, columns: Sequence[str]) -> exp.Select:
    """One row: how many records were looked at, and how many different values each column has among them."""
    parts = [column(side, name) for name in columns] or [_ONE.copy()]
    some = _records(bound, side, [exp.alias_(part, f"value_{n}", quoted=True) for n, part in enumerate(parts)])
    counts: list[exp.Expr] = [exp.Count(this=exp.Star())]
    for number in range(len(columns)):
        # As text, which every type has; some types (json, point) know no equality.
        value = expressions.collate(exp.cast(column("some", f"value_{number}"), "text"))
        counts.append(exp.Count(this=exp.Distinct(expressions=[value])))
    inner = exp.Subquery(this=some.limit(SAMPLE), alias=exp.TableAlias(this=identifier("some")))
    return exp.Select(expressions=counts).from_(inner)


def duplicates(bound: Bound, side: Side) -> exp.Select:
    """One row: how many keys several records have, and how many records have them. Keys with a NULL are apart."""
    keys = [grouped.column_value(bound.relation[side], side, name) for name in _record_set(bound, side)]
    doubled = exp.GT(this=column("keys", "records"), expression=_ONE.copy())
    counted = exp.Select(expressions=[exp.Count(this=exp.Star()), summed(column("keys", "records"))])
    held = grouped.by_value(bound, side, keys, bound.where(side))
    return counted.from_(table("keys")).where(doubled).with_(identifier("keys"), as_=held)


def any_record(bound: Bound, side: Side) -> exp.Select:
    """A row if the relation holds any record at all, under `where` or not."""
    return exp.Select(expressions=[_ONE.copy()]).from_(bound.relation[side].aliased(side)).limit(1)


def linked_sources(bound: Bound, held: exp.Expr) -> exp.Select:
    """One row: how many sources a target holds."""
    return _records(bound, "s", [exp.Count(this=exp.Star())]).where(held)


def overlap(bound: Bound, targets: Sequence[exp.Expr], sources: Sequence[exp.Expr], *, written: bool) -> exp.Select:
    """One row: what the values of either side are, and what they have in common.

    For target and source each: records with values, values, values of several records, and (where `written`) how many
    values are written in each of the formats. Then: values in common, target and source records that have them, target
    records whose value several sources have, source records whose value several targets have.
    """
    several = {name: exp.GT(this=column(name, "records"), expression=_ONE.copy()) for name in ("targets", "sources")}

    def of_side(name: str) -> exp.Select:
        counts: list[exp.Expr] = [
            summed(column(name, "records")),
            exp.Count(this=exp.Star()),
            only(exp.Count(this=exp.Star()), several[name].copy()),
        ]
        if written:
            value = column(name, "key_1")
            counts += [only(exp.Count(this=exp.Star()), item.differs(value)) for item in formats.FORMATS]
        return exp.Select(expressions=counts).from_(table(name))

    common: list[exp.Expr] = [
        exp.Count(this=exp.Star()),
        summed(column("targets", "records")),
        summed(column("sources", "records")),
        summed(column("targets", "records"), several["sources"].copy()),
        summed(column("sources", "records"), several["targets"].copy()),
    ]
    joined = exp.Select(expressions=common).from_(table("targets"))
    joined = joined.join(table("sources"), on=grouped.same_values("targets", "sources", len(targets)))
    return (
        exp.Select(expressions=[exp.Star()])
        .from_(table("of_targets"))
        .join(table("of_sources"), join_type="cross")
        .join(table("in_common"), join_type="cross")
        .with_(identifier("targets"), as_=_values(bound, "t", targets))
        .with_(identifier("sources"), as_=_values(bound, "s", sources))
        .with_(identifier("of_targets"), as_=of_side("targets"))
        .with_(identifier("of_sources"), as_=of_side("sources"))
        .with_(identifier("in_common"), as_=joined)
    )


def agreeing(bound: Bound, target: exp.Expr, source: exp.Expr, wanted: Sequence[formats.Format]) -> exp.Select:
    """One row: for each format, and for several all together, the target values that find a source only without it."""
    lonely = (
        exp.Select(expressions=[column("targets", "key_1")])
        .from_(table("targets"))
        .join(table("sources"), on=grouped.same_values("targets", "sources", 1), join_type="left")
        .where(grouped.empty(column("sources", "key_1")))
    )
    counts: list[exp.Expr] = []
    for without in [*(item.without for item in wanted), *([formats.plain] if len(wanted) > 1 else [])]:
        same = exp.EQ(this=without(column("lonely", "key_1")), expression=without(column("sources", "key_1")))
        found = exp.Select(expressions=[_ONE.copy()]).from_(table("sources")).where(same)
        count = exp.Select(expressions=[exp.Count(this=exp.Star())]).from_(table("lonely"))
        counts.append(count.where(exp.Exists(this=found)).subquery())
    return (
        exp.Select(expressions=counts)
        .with_(identifier("targets"), as_=_values(bound, "t", [target]))
        .with_(identifier("sources"), as_=_values(bound, "s", [source]))
        .with_(identifier("lonely"), as_=lonely)
    )


def probes(bound: Bound, side: Side, values: Sequence[exp.Expr]) -> exp.Select:
    """The first few combinations of values of a side, as text, and as people may see them."""
    keys = [column("held", name) for name in key_names(len(values))]
    return (
        exp.Select(
            expressions=[
                behind_veil(key) if hidden(bound, value) else grouped.as_text(key)
                for value, key in zip(values, keys, strict=True)
            ]
        )
        .from_(table("held"))
        .order_by(*[exp.Ordered(this=key.copy()) for key in keys])
        .limit(PROBES)
        .with_(identifier("held"), as_=_values(bound, side, values))
    )


def described(bound: Bound, values: Sequence[exp.Expr]) -> exp.Select:
    """No row: the columns have the types of the values."""
    named = [exp.alias_(value.copy(), f"value_{number}", quoted=True) for number, value in enumerate(values)]
    select = exp.Select(expressions=named).from_(bound.target.aliased("t"))
    return select.join(bound.source.aliased("s"), join_type="cross").limit(0)


def _record_set(bound: Bound, side: Side) -> list[str]:
    return bound.spec.target.keys if side == "t" else bound.spec.source.keys


def _records(bound: Bound, side: Side, parts: Sequence[exp.Expr]) -> exp.Select:
    select = exp.Select(expressions=list(parts)).from_(bound.relation[side].aliased(side))
    where = bound.where(side)
    return select.where(*where) if where else select


def _values(bound: Bound, side: Side, values: Sequence[exp.Expr]) -> exp.Select:
    return grouped.by_value(bound, side, values, bound.where(side))
