"""The four scripts of a bundle, each one page whatever the row count: the values live in the staged table.

`execute.sql` and `revert.sql` are one statement each with native bounds, inclusive, on both sides of the join, so that
the planner reads only the batch: $1 and $2 are the first and the last place among the planned rows, the parameters after
them the lowest key of the table that stands there, and then the highest.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from recon.backfill.change import PLACE, Change
from recon.database import tables
from recon.expressions import collate
from recon.names import DIALECT, column, identifier

# What `dry_run.sql` says of a planned row; only the first may be written.
AS_PLANNED, APPLIED = "as planned", "applied"
DRIFTS = {
    "target gone": "the row to change is no longer there",
    "target changed": "the row to change reads differently now",
    "source gone": "the source row is no longer there",
    "source changed": "the source row reads differently now",
}
# What `verify.sql` says of a row that was written and that somebody has changed or deleted since.
GONE, CHANGED = "the row is gone", "the row holds another value"
NOT_OURS_NOW = (GONE, CHANGED)


def all_scripts(change: Change, plan: str) -> dict[str, str]:
    """File name to text."""
    return {
        "dry_run.sql": _page(dry_run(change, plan), "What would change, row by row. Reads only."),
        "execute.sql": _page(execute(change, plan), "One batch: guarded update and ledger in one statement."),
        "verify.sql": _page(verify(change, plan), "Gives no row when every planned change is there and right."),
        "revert.sql": _page(revert(change, plan), "One batch: only where a row still holds what was written."),
    }


def _page(tree: exp.Expr, title: str) -> str:
    return f"-- {title}\n{tree.sql(DIALECT, pretty=True)}\n"


# -- the statements --------------------------------------------------------------------------------------


def execute(change: Change, plan: str) -> exp.Insert:
    """Update the rows of a batch that still are as planned, and write their images to the ledger."""
    bound = change.bound
    source = exp.EQ(this=column("s", bound.spec.source.keys[0]), expression=column("staged", "source_key"))
    update = exp.Update(
        this=_aliased(change.table.tree, "target"),
        expressions=[
            exp.EQ(this=exp.Column(this=identifier(name)), expression=column("staged", f"after_{number}"))
            for number, name in zip(change.numbers, change.columns, strict=True)
        ],
    )
    conditions = [
        *_same_key(change, "target", "staged"),
        *_bounds(change, "staged"),
        *_images(change, "target", "staged", "before"),
    ]
    update = update.from_(_aliased(tables.own("staged", plan), "staged"))
    joins = [exp.Join(this=bound.source.aliased("s"), on=source)]
    if change.from_query:
        records = [
            exp.EQ(this=column("t", key), expression=column("staged", name))
            for key, name in zip(change.keys, change.key_names, strict=True)
        ]
        joins.append(exp.Join(this=bound.target.aliased("t"), on=exp.and_(*records)))
    update.args["from_"].this.set("joins", joins)
    if bound.source_where is not None:
        conditions.append(bound.source_where.copy())
    if bound.target_where is not None:
        conditions.append(_of_target(change, bound.target_where))
    conditions += [
        exp.EQ(this=_of_target(change, change.digest("t")), expression=column("staged", "target_digest")),
        exp.EQ(this=change.digest("s"), expression=column("staged", "source_digest")),
    ]
    update.set("where", exp.Where(this=exp.and_(*conditions)))
    images: list[exp.Expr] = [column("staged", name) for name in (PLACE, *change.key_names)]
    for number, name in zip(change.numbers, change.columns, strict=True):
        images.append(column("staged", f"before_{number}"))
        images.append(exp.alias_(column("target", name), f"after_{number}", quoted=True))
    update.set("returning", exp.Returning(expressions=images))
    names = change.shape.ledger_columns
    ledger = exp.Schema(this=tables.own("ledger", plan), expressions=[identifier(name) for name in names])
    rows = exp.Select(expressions=[column("changed", name) for name in names]).from_(_named("changed"))
    insert = exp.Insert(this=ledger, expression=rows)
    insert.set("with_", exp.With(expressions=[_cte("changed", update)]))
    return insert


def revert(change: Change, plan: str) -> exp.Update:
    """Give the rows of a batch their former values, only where they still hold what was written."""
    update = exp.Update(
        this=_aliased(change.table.tree, "target"),
        expressions=[
            exp.EQ(this=exp.Column(this=identifier(name)), expression=column("ledger", f"before_{number}"))
            for number, name in zip(change.numbers, change.columns, strict=True)
        ],
    ).from_(_aliased(tables.own("ledger", plan), "ledger"))
    conditions = [
        *_same_key(change, "target", "ledger"),
        *_bounds(change, "ledger"),
        *_images(change, "target", "ledger", "after"),
        exp.Is(this=column("ledger", "reverted_at"), expression=exp.Null()),
    ]
    update.set("where", exp.Where(this=exp.and_(*conditions)))
    found: list[exp.Expr] = [column("ledger", PLACE)]
    found += [
        exp.alias_(column("target", name), f"now_{number}", quoted=True)
        for number, name in zip(change.numbers, change.columns, strict=True)
    ]
    update.set("returning", exp.Returning(expressions=found))
    marked = exp.Update(
        this=_aliased(tables.own("ledger", plan), "ledger"),
        expressions=[
            exp.EQ(this=exp.Column(this=identifier("reverted_at")), expression=exp.Anonymous(this="clock_timestamp"))
        ],
    ).from_(_named("reverted"))
    same = [exp.EQ(this=column("ledger", PLACE), expression=column("reverted", PLACE))]
    # A trigger may have put something else there: only a row that holds its former value is restored.
    holds = _images(change, "reverted", "ledger", "before", prefix="now_")
    marked.set("where", exp.Where(this=exp.and_(*same, *holds)))
    marked.set("with_", exp.With(expressions=[_cte("reverted", update)]))
    return marked


def dry_run(change: Change, plan: str) -> exp.Select:
    """Each planned row beside what is there now, and whether it still is as planned."""
    bound = change.bound
    target_gone = exp.Is(this=column("target", change.keys[0]), expression=exp.Null())
    source_gone = exp.Is(this=column("s", bound.spec.source.keys[0]), expression=exp.Null())
    unchanged = [
        *_images(change, "target", "staged", "before"),
        exp.NullSafeEQ(this=_of_target(change, change.digest("t")), expression=column("staged", "target_digest")),
    ]
    if bound.target_where is not None:
        unchanged.append(_of_target(change, bound.target_where))
    same_source = exp.NullSafeEQ(this=change.digest("s"), expression=column("staged", "source_digest"))
    cases = [
        (exp.Not(this=exp.Is(this=column("ledger", PLACE), expression=exp.Null())), APPLIED),
        (target_gone, "target gone"),
        (exp.Not(this=exp.Is(this=exp.paren(exp.and_(*unchanged)), expression=exp.true())), "target changed"),
        (source_gone, "source gone"),
        (exp.Not(this=exp.paren(same_source)), "source changed"),
    ]
    status = exp.Case(
        ifs=[exp.If(this=test, true=exp.Literal.string(text)) for test, text in cases],
        default=exp.Literal.string(AS_PLANNED),
    )
    images: list[exp.Expr] = []
    for number, name in zip(change.numbers, change.columns, strict=True):
        images += [column("staged", f"before_{number}"), column("staged", f"after_{number}")]
        images.append(exp.alias_(column("target", name), f"now_{number}", quoted=True))
    keys = [column("staged", name) for name in change.key_names]
    source = exp.EQ(this=column("s", bound.spec.source.keys[0]), expression=column("staged", "source_key"))
    source_on = [source, *([bound.source_where.copy()] if bound.source_where is not None else [])]
    select = (
        exp.Select(
            expressions=[
                *keys,
                column("staged", "source_key"),
                *images,
                column("staged", "pass"),
                column("staged", "confidence"),
                column("staged", "interpretation"),
                exp.alias_(status, "status", quoted=True),
            ]
        )
        .from_(_aliased(tables.own("staged", plan), "staged"))
        .join(
            _aliased(change.table.tree, "target"),
            on=exp.and_(*_same_key(change, "target", "staged")),
            join_type="left",
        )
    )
    if change.from_query:
        records = [
            exp.EQ(this=column("t", key), expression=column("staged", name))
            for key, name in zip(change.keys, change.key_names, strict=True)
        ]
        select = select.join(bound.target.aliased("t"), on=exp.and_(*records), join_type="left")
    ledger = [
        exp.EQ(this=column("ledger", PLACE), expression=column("staged", PLACE)),
        exp.Is(this=column("ledger", "reverted_at"), expression=exp.Null()),
    ]
    return (
        select.join(bound.source.aliased("s"), on=exp.and_(*source_on), join_type="left")
        .join(_aliased(tables.own("ledger", plan), "ledger"), on=exp.and_(*ledger), join_type="left")
        .order_by(column("staged", PLACE))
    )


def verify(change: Change, plan: str) -> exp.Expr:
    """Rows that prove the backfill wrong: a planned change that is absent, altered since, or not to be found."""
    staged = tables.own("staged", plan)
    ledger = [
        exp.EQ(this=column("ledger", PLACE), expression=column("staged", PLACE)),
        exp.Is(this=column("ledger", "reverted_at"), expression=exp.Null()),
    ]
    holds = exp.and_(*_images(change, "target", "staged", "after"))
    source = exp.EQ(this=column("s", change.bound.spec.source.keys[0]), expression=column("staged", "source_key"))
    problem = exp.Case(
        ifs=[
            exp.If(
                this=exp.Is(this=column("target", change.keys[0]), expression=exp.Null()),
                true=exp.Literal.string(GONE),
            ),
            exp.If(
                this=exp.Is(this=column("ledger", PLACE), expression=exp.Null()),
                true=exp.Literal.string("the change was never written"),
            ),
            exp.If(this=exp.Not(this=exp.paren(holds)), true=exp.Literal.string(CHANGED)),
            exp.If(
                this=exp.Is(this=column("s", change.bound.spec.source.keys[0]), expression=exp.Null()),
                true=exp.Literal.string("the linked source row does not exist"),
            ),
        ]
    )
    found: exp.Select = (
        exp.Select(
            expressions=[
                *[column("staged", name) for name in change.key_names],
                column("staged", "source_key"),
                exp.alias_(problem, "problem", quoted=True),
            ]
        )
        .from_(_aliased(staged, "staged"))
        .join(
            _aliased(change.table.tree, "target"),
            on=exp.and_(*_same_key(change, "target", "staged")),
            join_type="left",
        )
        .join(_aliased(tables.own("ledger", plan), "ledger"), on=exp.and_(*ledger), join_type="left")
        .join(change.bound.source.aliased("s"), on=source, join_type="left")
    )
    outer = exp.Select(expressions=[exp.Star()]).from_(
        exp.Subquery(this=found, alias=exp.TableAlias(this=identifier("checked")))
    )
    return outer.where(exp.Not(this=exp.Is(this=column("checked", "problem"), expression=exp.Null()))).order_by(
        *[column("checked", name) for name in change.key_names]
    )


# -- parts -----------------------------------------------------------------------------------------------


def _same_key(change: Change, table: str, recorded: str) -> list[exp.Expr]:
    return [
        exp.EQ(this=column(table, key), expression=column(recorded, name))
        for key, name in zip(change.keys, change.key_names, strict=True)
    ]


# Types of which two values are equal only if they are the same: others are compared as text, byte by byte, for
# 1.5 and 1.50 are equal, and a revert must know which of them stood there.
_PLAIN_TYPES = frozenset({"int2", "int4", "int8", "uuid", "date", "bool", "timestamp", "timestamptz", "oid"})


def _images(change: Change, table: str, recorded: str, side: str, prefix: str = "") -> list[exp.Expr]:
    """Each written column of `table` holds what is recorded as before or after."""
    tests: list[exp.Expr] = []
    for number, name in zip(change.numbers, change.columns, strict=True):
        held: exp.Expr = column(table, f"{prefix}{number}" if prefix else name)
        image: exp.Expr = column(recorded, f"{side}_{number}")
        if change.table.columns[name] not in _PLAIN_TYPES:
            held, image = (collate(exp.cast(part, "text")) for part in (held, image))
        tests.append(exp.NullSafeEQ(this=held, expression=image))
    return tests


def _bounds(change: Change, recorded: str) -> list[exp.Expr]:
    """The batch's bounds: on the places of recon's own table, and on the keys of the written one.

    Several key columns are compared as one row, as the index orders them.
    """
    types = [change.table.type_of(name) for name in change.keys]
    count = len(types)

    def parameter(number: int, kind: exp.DataType | str) -> exp.Expr:
        return exp.cast(exp.Parameter(this=exp.Literal.number(number)), kind)

    def row(parts: Sequence[exp.Expr]) -> exp.Expr:
        return parts[0] if count == 1 else exp.Tuple(expressions=list(parts))

    def keys() -> exp.Expr:
        return row([column("target", name) for name in change.keys])

    lowest, highest = ([parameter(first + n, kind.copy()) for n, kind in enumerate(types)] for first in (3, 3 + count))
    return [
        exp.GTE(this=column(recorded, PLACE), expression=parameter(1, "bigint")),
        exp.LTE(this=column(recorded, PLACE), expression=parameter(2, "bigint")),
        exp.GTE(this=keys(), expression=row(lowest)),
        exp.LTE(this=keys(), expression=row(highest)),
    ]


def _of_target(change: Change, tree: exp.Expr) -> exp.Expr:
    """An expression over `t` as it reads where the written table is called `target`."""
    tree = exp.Paren(this=tree.copy())
    if not change.from_query:
        for node in tree.find_all(exp.Column):
            if node.table == "t":
                node.set("table", identifier("target"))
    return tree.this


def _aliased(tree: exp.Expr, alias: str) -> exp.Table:
    table = tree.copy()
    assert isinstance(table, exp.Table)
    table.set("alias", exp.TableAlias(this=identifier(alias)))
    return table


def _named(name: str) -> exp.Table:
    return exp.Table(this=identifier(name))


def _cte(name: str, tree: exp.Expr) -> exp.CTE:
    return exp.CTE(this=tree, alias=exp.TableAlias(this=identifier(name)))
