"""The two scripts that only read: how planned rows look beside what is there, and what proves a backfill wrong."""

from __future__ import annotations

from sqlglot import exp

from recon.backfill import script_parts as parts
from recon.backfill.change import ACTION, INSERT, LINK, PLACE, SET, Change
from recon.expressions import TEXT_TYPES, collate
from recon.names import column, identifier

# What `dry_run.sql` says of a planned row; only the first may be written.
AS_PLANNED, APPLIED = "as planned", "applied"
DRIFTS = {
    "target gone": "the row to change is no longer there",
    "target changed": "the row to change reads differently now",
    "target exists": "a record with this identity exists now",
    "source gone": "the source row is no longer there",
    "source changed": "the source row reads differently now",
    "source taken": "another target holds the source row now",
    "source found": "the source has a record for this row now",
}

Cases = list[tuple[exp.Expr, str]]
# What `verify.sql` says of a row that was written and that somebody has changed or deleted since.
GONE, CHANGED = "the row is gone", "the row holds another value"


def dry_run(change: Change, plan: str) -> exp.Select:
    """Each planned row beside what is there now, and whether it still is as planned."""
    bound, shape = change.bound, change.shape
    images: list[exp.Expr] = []
    for number, name in enumerate(change.columns, 1):
        images += [column("staged", f"before_{number}"), column("staged", f"after_{number}")]
        images.append(exp.alias_(column("target", name), f"now_{number}", quoted=True))
    status = _case(_statuses(change), exp.Literal.string(AS_PLANNED))
    select = (
        exp.Select(
            expressions=[
                *[column("staged", name) for name in (*change.key_names, *shape.source_key_names, ACTION)],
                *images,
                *[column("staged", name) for name in ("pass", "confidence", "interpretation")],
                exp.alias_(status, "status", quoted=True),
            ]
        )
        .from_(parts.staged(plan))
        .join(parts.target(change), on=exp.and_(*parts.same_key(change, "target", "staged")), join_type="left")
    )
    if change.from_query:
        select = select.join(bound.target.aliased("t"), on=parts.records(change, "staged"), join_type="left")
    source = exp.and_(*parts.same_source(change, "staged"), *bound.where("s"))
    return (
        select.join(bound.source.aliased("s"), on=source, join_type="left")
        .join(parts.ledger(plan), on=exp.and_(*_written()), join_type="left")
        .order_by(column("staged", PLACE))
    )


def _written() -> list[exp.Expr]:
    return [
        exp.EQ(this=column("ledger", PLACE), expression=column("staged", PLACE)),
        parts.is_null(column("ledger", "reverted_at")),
    ]


def _statuses(change: Change) -> Cases:
    """What is said of a row; the first that holds."""
    target_gone = parts.is_null(column("target", change.keys[0]))
    source_gone = parts.is_null(change.bound.source_keys[0])
    source_changed = _not_true([parts.same_source_values(change)])
    cases: Cases = [(exp.Not(this=parts.is_null(column("ledger", PLACE))), APPLIED)]
    if change.inserts:
        inserted = parts.is_action("staged", INSERT)
        cases.append((exp.and_(inserted, source_gone), "source gone"))
        cases.append((exp.and_(inserted.copy(), source_changed), "source changed"))
        if change.one_holder:
            cases.append((exp.and_(inserted.copy(), parts.taken(change)), "source taken"))
        cases.append((exp.and_(inserted.copy(), parts.there(change)), "target exists"))
        cases.append((inserted.copy(), AS_PLANNED))
    cases.append((target_gone, "target gone"))
    if change.sets:
        ended, same = parts.is_action("staged", SET), _as_planned(change, of_orphans=True)
        cases.append((exp.and_(ended, _not_true(same)), "target changed"))
        cases.append((exp.and_(ended.copy(), exp.or_(*parts.found_again(change))), "source found"))
        cases.append((ended.copy(), AS_PLANNED))
    if change.pairs:
        cases.append((_not_true(_as_planned(change, of_orphans=False)), "target changed"))
        cases.append((source_gone.copy(), "source gone"))
        cases.append((source_changed.copy(), "source changed"))
    if change.pairs and change.one_holder:
        cases.append((exp.and_(parts.is_action("staged", LINK), parts.taken(change)), "source taken"))
    return cases


def _as_planned(change: Change, *, of_orphans: bool) -> list[exp.Expr]:
    """What must hold of the row to change."""
    values = change.sets if of_orphans else change.pairs
    return [
        *parts.images(change, values, "target", "staged", "before"),
        parts.same_target(change, values),
        *parts.target_where(change),
    ]


def _not_true(tests: list[exp.Expr]) -> exp.Expr:
    return exp.Is(this=exp.paren(exp.and_(*tests)), expression=exp.Not(this=exp.true()))


def _case(cases: Cases, default: exp.Expr | None = None) -> exp.Case:
    return exp.Case(ifs=[exp.If(this=test, true=exp.Literal.string(text)) for test, text in cases], default=default)


def verify(change: Change, plan: str) -> exp.Expr:
    """Rows that prove the backfill wrong: a planned change that is absent, altered since, or not to be found."""
    bound, shape = change.bound, change.shape
    keys = {name: column("staged", name) for name in change.key_names}
    found: dict[str, exp.Expr] = dict(keys)
    if change.inserts:  # a row that was made has its key in the ledger only
        found = {
            name: exp.Coalesce(this=key.copy(), expressions=[column("ledger", name)]) for name, key in keys.items()
        }
    row = [
        exp.EQ(this=column("target", key), expression=tree.copy())
        for key, tree in zip(change.keys, found.values(), strict=True)
    ]
    checked = (
        exp.Select(
            expressions=[
                column("staged", PLACE),
                *[exp.alias_(tree, name, quoted=True) for name, tree in found.items()],
                *[column("staged", name) for name in shape.source_key_names],
                exp.alias_(_case(_problems(change)), "problem", quoted=True),
            ]
        )
        .from_(parts.staged(plan))
        .join(parts.ledger(plan), on=exp.and_(*_written()), join_type="left")
        .join(parts.target(change), on=exp.and_(*row), join_type="left")
        .join(bound.source.aliased("s"), on=exp.and_(*parts.same_source(change, "staged")), join_type="left")
    )
    if change.one_holder:
        held, key = _held_twice(change)
        checked = checked.join(held, on=key, join_type="left")
    names = [*change.key_names, *shape.source_key_names, "problem"]
    return (
        exp.Select(expressions=[column("checked", name) for name in names])
        .from_(exp.Subquery(this=checked, alias=exp.TableAlias(this=identifier("checked"))))
        .where(exp.Not(this=parts.is_null(column("checked", "problem"))))
        .order_by(column("checked", PLACE))
    )


def _problems(change: Change) -> Cases:
    """What is wrong with a row; the first that holds."""
    never = parts.is_null(column("ledger", PLACE))
    cases: Cases = []
    if change.inserts:
        cases.append((exp.and_(parts.is_action("staged", INSERT), never), "the record was never inserted"))
    cases.append((parts.is_null(column("target", change.keys[0])), GONE))
    cases.append((never.copy(), "the change was never written"))
    kinds = [
        (change.pairs, parts.of_pairs(change, "staged")),
        (change.sets, [parts.is_action("staged", SET)]),
        (change.inserts, [parts.is_action("staged", INSERT)]),
    ]
    for values, which in kinds:
        if values:
            holds = exp.and_(*parts.images(change, values, "target", "staged", "after"))
            cases.append((exp.and_(*which, exp.Not(this=exp.paren(holds))), CHANGED))
    if change.pairs or change.inserts:
        of_source = [exp.Not(this=parts.is_action("staged", SET))] if change.sets else []
        gone = parts.is_null(change.bound.source_keys[0])
        cases.append((exp.and_(*of_source, gone), "the source row does not exist"))
    if change.one_holder:
        twice = exp.Not(this=parts.is_null(column("twice", "held")))
        cases.append((twice, "another row holds the same source row"))
    return cases


def _held_twice(change: Change) -> tuple[exp.Subquery, exp.Expr]:
    """The source keys that several rows hold, and when one is that of a staged row."""
    assert change.bound.spec.link is not None
    name = change.bound.spec.link.column
    held: exp.Expr = column("holder", name)
    key: exp.Expr = column("staged", "source_key")
    if change.table.columns[name] in TEXT_TYPES:
        held, key = collate(held), collate(key)
    several = exp.GT(this=exp.Count(this=exp.Star()), expression=exp.Literal.number(1))
    twice = (
        exp.Select(expressions=[exp.alias_(held, "held", quoted=True)])
        .from_(change.table.aliased("holder"))
        .where(exp.Not(this=parts.is_null(held.copy())))
        .group_by(held.copy())
        .having(several)
    )
    same = exp.EQ(this=column("twice", "held"), expression=key)
    return exp.Subquery(this=twice, alias=exp.TableAlias(this=identifier("twice"))), same
