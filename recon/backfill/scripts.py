"""The four scripts of a bundle, each one page whatever the row count: the values live in the staged table.

`execute.sql` and `revert.sql` are one statement each with native bounds, inclusive, on both sides of the join, so that
the planner reads only the batch: $1 and $2 are the first and the last place among the planned rows, the parameters after
them the lowest key of the table that stands there, and then the highest (NULL where only inserts stand there).
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from recon.backfill import proofs
from recon.backfill import script_parts as parts
from recon.backfill.change import ACTION, INSERT, LINK, PLACE, ROW_DIGEST, SET, Change, Value, sha256
from recon.backfill.proofs import APPLIED, AS_PLANNED, DRIFTS
from recon.database import tables
from recon.names import DIALECT, column, identifier

__all__ = ["APPLIED", "AS_PLANNED", "DRIFTS", "all_scripts", "execute", "revert"]

KEEPS_IDENTITY = "an inserted row keeps its identity"  # the constraint of a ledger that a trigger may break


def all_scripts(change: Change, plan: str) -> dict[str, str]:
    """File name to text."""
    return {
        "dry_run.sql": _page(proofs.dry_run(change, plan), "What would change, row by row. Reads only."),
        "execute.sql": _page(execute(change, plan), "One batch: guarded changes and ledger in one statement."),
        "verify.sql": _page(proofs.verify(change, plan), "Gives no row when every planned change is there and right."),
        "revert.sql": _page(revert(change, plan), "One batch: only where a row still holds what was written."),
    }


def _page(tree: exp.Expr, title: str) -> str:
    return f"-- {title}\n{tree.sql(DIALECT, pretty=True)}\n"


# -- execute ---------------------------------------------------------------------------------------------


def execute(change: Change, plan: str) -> exp.Insert:
    """Change the rows of a batch that still are as planned, and write their images to the ledger."""
    steps: list[exp.CTE] = []
    if change.pairs:
        steps.append(parts.cte("changed", _update_pairs(change, plan)))
    if change.sets:
        steps.append(parts.cte("ended", _update_orphans(change, plan)))
    written = [_ledger_rows(change, step.alias) for step in steps]
    if change.inserts:
        fresh = parts.cte("fresh", _fresh(change, plan))
        fresh.set("materialized", True)
        steps += [fresh, parts.cte("inserted", _insert(change))]
        written.append(_inserted_rows(change))
    rows: exp.Query = written[0]
    for more in written[1:]:
        rows = exp.union(rows, more, distinct=False)
    into = exp.Schema(
        this=tables.own("ledger", plan), expressions=[identifier(name) for name in change.shape.ledger_columns]
    )
    insert = exp.Insert(this=into, expression=rows)
    insert.set("with_", exp.With(expressions=steps))
    return insert


def _setting(change: Change, values: Sequence[Value], recorded: str, side: str) -> exp.Update:
    return exp.Update(
        this=parts.target(change),
        expressions=[
            exp.EQ(
                this=exp.Column(this=identifier(value.column)),
                expression=column(recorded, f"{side}_{change.number(value.column)}"),
            )
            for value in values
        ],
    )


def _update_pairs(change: Change, plan: str) -> exp.Update:
    """Link and update: the row and its source are as planned, and nobody else holds the source."""
    bound = change.bound
    update = _setting(change, change.pairs, "staged", "after").from_(parts.staged(plan))
    joins = [exp.Join(this=bound.source.aliased("s"), on=exp.and_(*parts.same_source(change, "staged")))]
    if change.from_query:
        joins.append(exp.Join(this=bound.target.aliased("t"), on=parts.records(change, "staged")))
    update.args["from_"].this.set("joins", joins)
    conditions = [
        *parts.same_key(change, "target", "staged"),
        *parts.bounds(change, "staged"),
        *parts.images(change, change.pairs, "target", "staged", "before"),
        *bound.where("s"),
        *parts.target_where(change),
        parts.same_target(change, change.pairs),
        parts.same_source_values(change),
    ]
    if change.one_holder:
        free: exp.Expr = exp.Not(this=parts.taken(change))
        if not change.only_links:
            free = exp.paren(exp.or_(exp.Not(this=parts.is_action("staged", LINK)), free))
        conditions.append(free)
    update.set("where", exp.Where(this=exp.and_(*conditions)))
    update.set("returning", exp.Returning(expressions=_returned(change, change.pairs)))
    return update


def _update_orphans(change: Change, plan: str) -> exp.Update:
    """Set: the row is as planned, and the source still has no record for it."""
    update = _setting(change, change.sets, "staged", "after").from_(parts.staged(plan))
    if change.from_query:
        join = exp.Join(this=change.bound.target.aliased("t"), on=parts.records(change, "staged"))
        update.args["from_"].this.set("joins", [join])
    conditions = [
        *parts.same_key(change, "target", "staged"),
        *parts.bounds(change, "staged"),
        parts.is_action("staged", SET),
        *parts.images(change, change.sets, "target", "staged", "before"),
        *parts.target_where(change),
        parts.same_target(change, change.sets),
        *[exp.Not(this=test) for test in parts.found_again(change)],
    ]
    update.set("where", exp.Where(this=exp.and_(*conditions)))
    update.set("returning", exp.Returning(expressions=_returned(change, change.sets)))
    return update


def _returned(change: Change, values: Sequence[Value]) -> list[exp.Expr]:
    """The ledger's columns of a changed row; after is what the row really holds, whatever a trigger made of it."""
    found: list[exp.Expr] = [column("staged", name) for name in (PLACE, ACTION, *change.key_names)]
    for value in values:
        number = change.number(value.column)
        found.append(column("staged", f"before_{number}"))
        found.append(exp.alias_(column("target", value.column), f"after_{number}", quoted=True))
    return found


def _ledger_rows(change: Change, step: str) -> exp.Select:
    values = change.pairs if step == "changed" else change.sets
    images = {f"{side}_{change.number(value.column)}" for value in values for side in ("before", "after")}
    return _row(change, step, images).from_(parts.named(step))


def _row(change: Change, step: str, images: set[str], place: exp.Expr | None = None) -> exp.Select:
    """A row of the ledger: what the step has of it, and NULL for the rest."""
    written: list[exp.Expr] = [place or column(step, PLACE)]
    written.append(exp.Literal.string(INSERT) if step == "inserted" else column(step, ACTION))
    written += [column(step, name) for name in change.key_names]
    for number, name in enumerate(change.columns, 1):
        for image in (f"before_{number}", f"after_{number}"):
            nothing = exp.cast(exp.Null(), change.table.bare_type_of(name))
            written.append(column(step, image) if image in images else nothing)
    if change.inserts:
        written.append(column(step, ROW_DIGEST) if step == "inserted" else exp.cast(exp.Null(), "bytea"))
    return exp.Select(expressions=written)


def _fresh(change: Change, plan: str) -> exp.Select:
    """The planned inserts of a batch whose source is as planned, and whose identity is not there yet."""
    same_place = [exp.EQ(this=column("ledger", PLACE), expression=column("staged", PLACE))]
    numbers = [change.number(value.column) for value in change.inserts]
    return (
        exp.Select(expressions=[column("staged", PLACE), *[column("staged", f"after_{number}") for number in numbers]])
        .from_(parts.staged(plan))
        .join(change.bound.source.aliased("s"), on=exp.and_(*parts.same_source(change, "staged")))
        .where(
            *parts.places("staged"),
            *(parts.no_keys(change) if not change.pairs and not change.sets else []),
            parts.is_action("staged", INSERT),
            *change.bound.where("s"),
            parts.same_source_values(change),
            exp.Not(this=parts.there(change)),
            *([exp.Not(this=parts.taken(change))] if change.one_holder else []),
            exp.Not(this=parts.exists(parts.ledger(plan), same_place)),
        )
    )


def _insert(change: Change) -> exp.Insert:
    names = [value.column for value in change.inserts]
    into = exp.Schema(this=parts.target(change), expressions=[identifier(name) for name in names])
    values = exp.Select(expressions=[column("fresh", f"after_{change.number(name)}") for name in names])
    values = values.from_(parts.named("fresh")).order_by(column("fresh", PLACE))
    insert = exp.Insert(this=into, expression=values)
    insert.set("conflict", exp.OnConflict(action=exp.Var(this="DO NOTHING")))
    returned: list[exp.Expr] = [
        exp.alias_(column("target", key), name, quoted=True)
        for key, name in zip(change.keys, change.key_names, strict=True)
    ]
    returned += [exp.alias_(column("target", name), f"after_{change.number(name)}", quoted=True) for name in names]
    returned.append(exp.alias_(row_digest(), ROW_DIGEST, quoted=True))
    insert.set("returning", exp.Returning(expressions=returned))
    return insert


def _inserted_rows(change: Change) -> exp.Select:
    """Inserted rows find their place by their identity, which is unique.

    A trigger that changes the identity leaves a row without a place. It gets the place 0, which the ledger refuses:
    the batch is undone rather than a row written of which nobody knows.
    """
    same = [
        exp.EQ(this=column("fresh", image), expression=column("inserted", image))
        for image in (f"after_{change.number(name)}" for name in change.identity)
    ]
    place = exp.Coalesce(this=column("fresh", PLACE), expressions=[exp.Literal.number(0)])
    images = {f"after_{change.number(value.column)}" for value in change.inserts}
    rows = _row(change, "inserted", images, place).from_(parts.named("inserted"))
    return rows.join(parts.named("fresh"), on=exp.and_(*same), join_type="left")


def row_digest() -> exp.Expr:
    """sha256 of all columns of the row under the alias `target`."""
    return sha256(exp.Anonymous(this="row", expressions=[exp.Column(this=exp.Star(), table=identifier("target"))]))


# -- revert ----------------------------------------------------------------------------------------------


def revert(change: Change, plan: str) -> exp.Update:
    """Give the rows of a batch their former values where they still hold what was written; delete untouched inserts."""
    steps: list[exp.CTE] = []
    if change.pairs:
        which = parts.of_pairs(change, "ledger")
        steps.append(parts.cte("restored", _restore(change, change.pairs, plan, which)))
    if change.sets:
        steps.append(parts.cte("reopened", _restore(change, change.sets, plan, [parts.is_action("ledger", SET)])))
    if change.inserts:
        steps.append(parts.cte("deleted", _delete(change, plan)))
    undone = steps[0].alias
    if len(steps) > 1:
        found: exp.Query = _places(steps[0].alias)
        for step in steps[1:]:
            found = exp.union(found, _places(step.alias), distinct=False)
        undone = "undone"
        steps.append(parts.cte(undone, found))
    marked = exp.Update(
        this=parts.ledger(plan),
        expressions=[
            exp.EQ(this=exp.Column(this=identifier("reverted_at")), expression=exp.Anonymous(this="clock_timestamp"))
        ],
    ).from_(parts.named(undone))
    same = exp.EQ(this=column("ledger", PLACE), expression=column(undone, PLACE))
    marked.set("where", exp.Where(this=exp.and_(same, column(undone, "holds"))))
    marked.set("with_", exp.With(expressions=steps))
    return marked


def _places(step: str) -> exp.Select:
    return exp.Select(expressions=[column(step, PLACE), column(step, "holds")]).from_(parts.named(step))


def _restore(change: Change, values: Sequence[Value], plan: str, which: Sequence[exp.Expr]) -> exp.Update:
    update = _setting(change, values, "ledger", "before").from_(parts.ledger(plan))
    conditions = [
        *parts.same_key(change, "target", "ledger"),
        *parts.bounds(change, "ledger"),
        *which,
        *parts.images(change, values, "target", "ledger", "after"),
        parts.is_null(column("ledger", "reverted_at")),
    ]
    update.set("where", exp.Where(this=exp.and_(*conditions)))
    # A trigger may have put something else there: only a row that holds its former value is restored.
    holds = exp.paren(exp.and_(*parts.images(change, values, "target", "ledger", "before")))
    update.set(
        "returning", exp.Returning(expressions=[column("ledger", PLACE), exp.alias_(holds, "holds", quoted=True)])
    )
    return update


def _delete(change: Change, plan: str) -> exp.Delete:
    delete = exp.Delete(this=parts.target(change))
    delete.set("using", [parts.ledger(plan)])
    conditions = [
        *parts.same_key(change, "target", "ledger"),
        *parts.bounds(change, "ledger"),
        parts.is_action("ledger", INSERT),
        exp.EQ(this=row_digest(), expression=column("ledger", ROW_DIGEST)),
        parts.is_null(column("ledger", "reverted_at")),
    ]
    delete.set("where", exp.Where(this=exp.and_(*conditions)))
    delete.set(
        "returning",
        exp.Returning(expressions=[column("ledger", PLACE), exp.alias_(exp.true(), "holds", quoted=True)]),
    )
    return delete
