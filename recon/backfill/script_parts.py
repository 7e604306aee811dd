"""What the scripts of a bundle are put together from: tables under their names, images, bounds, guards."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from recon.backfill.change import ACTION, LINK, PLACE, UPDATE, Change, Value
from recon.backfill.drafts import exists, image_text
from recon.database import tables
from recon.expressions import TEXT_TYPES
from recon.names import column, identifier


def aliased(tree: exp.Expr, alias: str) -> exp.Table:
    table = tree.copy()
    assert isinstance(table, exp.Table)
    table.set("alias", exp.TableAlias(this=identifier(alias)))
    return table


def staged(plan: str) -> exp.Table:
    return aliased(tables.own("staged", plan), "staged")


def ledger(plan: str) -> exp.Table:
    return aliased(tables.own("ledger", plan), "ledger")


def target(change: Change) -> exp.Table:
    return aliased(change.table.tree, "target")


def named(name: str) -> exp.Table:
    return exp.Table(this=identifier(name))


def cte(name: str, tree: exp.Expr) -> exp.CTE:
    return exp.CTE(this=tree, alias=exp.TableAlias(this=identifier(name)))


def is_null(tree: exp.Expr) -> exp.Expr:
    return exp.Is(this=tree, expression=exp.Null())


def is_action(recorded: str, *actions: str) -> exp.Expr:
    words = [exp.Literal.string(word) for word in actions]
    if len(words) == 1:
        return exp.EQ(this=column(recorded, ACTION), expression=words[0])
    return exp.In(this=column(recorded, ACTION), expressions=words)


def of_pairs(change: Change, recorded: str) -> list[exp.Expr]:
    """Only rows that link or update; nothing to say where a plan has no others."""
    return [] if not change.sets and not change.inserts else [is_action(recorded, LINK, UPDATE)]


# -- keys and bounds -------------------------------------------------------------------------------------


def same_key(change: Change, table: str, recorded: str) -> list[exp.Expr]:
    return [
        exp.EQ(this=column(table, key), expression=column(recorded, name))
        for key, name in zip(change.keys, change.key_names, strict=True)
    ]


def same_source(change: Change, recorded: str) -> list[exp.Expr]:
    return [
        exp.EQ(this=key, expression=column(recorded, name))
        for key, name in zip(change.bound.source_keys, change.shape.source_key_names, strict=True)
    ]


def _parameter(number: int, kind: exp.DataType | str) -> exp.Expr:
    return exp.cast(exp.Parameter(this=exp.Literal.number(number)), kind)


def places(recorded: str) -> list[exp.Expr]:
    """The batch among the rows of recon's own table."""
    return [
        exp.GTE(this=column(recorded, PLACE), expression=_parameter(1, "bigint")),
        exp.LTE(this=column(recorded, PLACE), expression=_parameter(2, "bigint")),
    ]


def _key_parameters(change: Change) -> tuple[list[exp.Expr], list[exp.Expr]]:
    types = [change.table.bare_type_of(name) for name in change.keys]
    lowest, highest = (
        [_parameter(first + n, kind.copy()) for n, kind in enumerate(types)] for first in (3, 3 + len(types))
    )
    return lowest, highest


def bounds(change: Change, recorded: str) -> list[exp.Expr]:
    """The batch's bounds: on the places of recon's own table, and on the keys of the written one.

    Several key columns are compared as one row, as the index orders them.
    """

    def row(parts: Sequence[exp.Expr]) -> exp.Expr:
        return parts[0] if len(parts) == 1 else exp.Tuple(expressions=list(parts))

    def keys() -> exp.Expr:
        return row([column("target", name) for name in change.keys])

    lowest, highest = _key_parameters(change)
    return [
        *places(recorded),
        exp.GTE(this=keys(), expression=row(lowest)),
        exp.LTE(this=keys(), expression=row(highest)),
    ]


def no_keys(change: Change) -> list[exp.Expr]:
    """No key stands in the batch. Said where a statement only inserts: it takes the same parameters as any other."""
    lowest, highest = _key_parameters(change)
    return [is_null(part) for part in (*lowest, *highest)]


# -- images and guards -----------------------------------------------------------------------------------


def images(change: Change, values: Sequence[Value], table: str, recorded: str, side: str) -> list[exp.Expr]:
    """Each of these columns of `table` holds what is recorded as before or after."""
    tests: list[exp.Expr] = []
    for value in values:
        held = image_text(change, value.column, column(table, value.column))
        image = image_text(change, value.column, column(recorded, f"{side}_{change.number(value.column)}"))
        tests.append(exp.NullSafeEQ(this=held, expression=image))
    return tests


def of_target(change: Change, tree: exp.Expr) -> exp.Expr:
    """An expression over `t` as it reads where the written table is called `target`."""
    tree = exp.Paren(this=tree.copy())
    if not change.from_query:
        for node in tree.find_all(exp.Column):
            if node.table == "t":
                node.set("table", identifier("target"))
    return tree.this


def same_target(change: Change, values: Sequence[Value]) -> exp.Expr:
    """The columns that the rules read, and that are not written, are as they were planned."""
    digest = of_target(change, change.target_digest(values))
    return exp.EQ(this=digest, expression=column("staged", "target_digest"))


def same_source_values(change: Change) -> exp.Expr:
    return exp.EQ(this=change.source_digest(), expression=column("staged", "source_digest"))


def target_where(change: Change) -> list[exp.Expr]:
    return [] if change.bound.target_where is None else [of_target(change, change.bound.target_where)]


def records(change: Change, recorded: str) -> exp.Expr:
    """The record of a target that is a query, beside the row that is written."""
    return exp.and_(*same_key(change, "t", recorded))


def taken(change: Change) -> exp.Expr:
    """Some row holds the source record of a staged row in its link column.

    Two texts are equal in every collation that knows no other equality than that of their bytes; in the link column's own
    an index on it can be used.
    """
    assert change.bound.spec.link is not None
    name = change.bound.spec.link.column
    held: exp.Expr = column("holder", name)
    key: exp.Expr = column("staged", "source_key")
    if change.table.columns[name] in TEXT_TYPES:
        key = exp.Collate(this=key, expression=exp.Identifier(this=change.link_collation, quoted=True))
    return exists(change.table.aliased("holder"), [exp.EQ(this=held, expression=key)])


def there(change: Change) -> exp.Expr:
    """A row with the identity of a staged insert is there."""
    same = [
        exp.EQ(this=column("existing", name), expression=column("staged", f"after_{change.number(name)}"))
        for name in change.identity
    ]
    return exists(change.table.aliased("existing"), same)


def found_again(change: Change) -> list[exp.Expr]:
    """For each pass: the source has a record with the values of its `on`, so that the target is no orphan."""
    tests: list[exp.Expr] = []
    for rule in change.bound.passes:
        if rule.targets:
            same = [of_target(change, test) for test in rule.equalities()]
            tests.append(exists(change.bound.source.aliased("s"), [*same, *change.bound.where("s")]))
    return tests
