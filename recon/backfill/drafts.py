"""The rows of a plan, from decisions: what each record would take, and why some are left out.

A plan that only links is one statement. Any other is drafted in a temporary table first, so that every decision is
accounted for (`skipped` says why one changes nothing) before rows are numbered.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from sqlglot import exp

from recon import expressions
from recon.backfill.change import ACTION, INSERT, LINK, NOW, PLACE, SAID, SET, UPDATE, Change, Value
from recon.database import tables
from recon.expressions import TEXT_TYPES, collate
from recon.matching import pairs
from recon.matching.pool import creating, temporary
from recon.names import DIALECT, Side, column, identifier

DRAFT = "recon_draft"  # the temporary table of drafted rows
SKIPPED = "skipped"
# Why a decision becomes no row. Of the first two nothing is said: there is nothing to do, or nothing was asked for.
UNCHANGED, NOT_ASKED = "unchanged", "not asked"
NO_IDENTITY = "no identity"  # a part of it is NULL, so it could never be found again
SAME_IDENTITY = "same identity"  # two source records would become the same target
EXISTS = "target exists"  # a row with this identity is there, but none that the rules look at
UNANSWERED = "the source did not say"  # of a suspected orphan: an error is no absence
PRESENT = "present in the source"  # a suspected orphan that was found when it was looked up

# Types whose values are compared as they are; text is compared as text, the rest is taken as the cast makes it.
_COMPARED = frozenset(
    "int2 int4 int8 numeric float4 float8 bool date time timetz timestamp timestamptz interval uuid bytea".split()
)
_UNCHECKED = frozenset({"json", "jsonb", "xml"})


# -- a plan that only links ------------------------------------------------------------------------------


def staged_rows(change: Change, run: str, passes: Sequence[str]) -> exp.Select:
    """The rows of a plan: each matched pair of the run's passes, frozen with its before image and digests.

    A pair is staged only if the same rules still decide the same now (in the temporary table `recon_now`): the run may
    be older than the data. `exact` says whether the columns can hold the values as they are; the caller refuses the
    plan where one cannot.
    """
    place = _numbered([column("d", name) for name in change.key_names])
    said = _said(change, change.pairs, exp.Literal.string(LINK))
    return _of_pairs(change, run).select(exp.alias_(place, PLACE, quoted=True), *said).where(*_chosen(change, passes))


def link_decisions(change: Change, run: str, passes: Sequence[str]) -> exp.Select:
    """How many decisions such a plan should hold."""
    return exp.select("count(*)").from_(_decisions(run)).where(*_chosen(change, passes))


def _chosen(change: Change, passes: Sequence[str]) -> list[exp.Expr]:
    """The decisions that link a record: what some passes matched."""
    outcomes = ("same", "changed") if change.bound.compared else ("matched",)
    decided = _outcome("d", *outcomes)
    return [decided, exp.In(this=column("d", "pass"), expressions=[exp.Literal.string(name) for name in passes])]


# -- any other plan --------------------------------------------------------------------------------------


def steps(change: Change, run: str, passes: Sequence[str], *, whole: bool) -> Iterator[str]:
    """The statements that draft a plan.

    Args:
        change: what the spec asks for.
        run: whose decisions.
        passes: the passes that the plan takes.
        whole: whether all of them were asked for; else records without a pass are left to another plan.
    """
    yield creating(temporary(DRAFT), _frame(change, run))
    if change.pairs:
        yield _into_draft(change, _pairs(change, run, passes, whole=whole))
    if change.inserts and whole:
        yield _into_draft(change, _missing(change, run))
        yield _doubled(change)
    if change.sets and whole:
        yield _into_draft(change, _orphans(change, run))


def expected(change: Change, run: str, passes: Sequence[str], *, whole: bool) -> exp.Select:
    """How many decisions must be drafted, or a record changed since."""
    kinds = [_taken(change, passes, whole=whole)] if change.pairs else []
    kinds += [_outcome("d", "missing")] if change.inserts and whole else []
    kinds += [_outcome("d", "orphan")] if change.sets and whole else []
    return exp.select("count(*)").from_(_decisions(run)).where(exp.or_(*kinds) if kinds else exp.false())


def narrowed(change: Change, actions: Collection[str]) -> Change:
    """The change without what no drafted row takes, so that the scripts hold no statement that does nothing."""
    return replace(
        change,
        pairs=change.pairs if LINK in actions or UPDATE in actions else (),
        sets=change.sets if SET in actions else (),
        inserts=change.inserts if INSERT in actions else (),
        identity=change.identity if INSERT in actions else (),
    )


def staging(drafted: Change, change: Change) -> exp.Select:
    """The drafted rows that change something, numbered: rows of the table in key order, then inserts.

    Args:
        drafted: the change that was drafted, for the numbers of its columns.
        change: the same, narrowed to what is staged.
    """
    is_insert = exp.EQ(this=column("draft", ACTION), expression=exp.Literal.string(INSERT))
    names = [*change.key_names, *change.shape.source_key_names]
    order = [is_insert, *[column("draft", name) for name in names]]
    kept: list[exp.Expr] = [column("draft", name) for name in (ACTION, *names)]
    for number, name in enumerate(change.columns, 1):
        for side in ("before", "after"):
            image = column("draft", f"{side}_{drafted.number(name)}")
            kept.append(exp.alias_(image, f"{side}_{number}", quoted=True))
    kept += [column("draft", name) for name in (*SAID, "exact")]
    return (
        exp.Select(expressions=[exp.alias_(_numbered(order), PLACE, quoted=True), *kept])
        .from_(temporary(DRAFT, "draft"))
        .where(exp.Is(this=column("draft", SKIPPED), expression=exp.Null()))
    )


def _frame(change: Change, run: str) -> exp.Select:
    """No rows, but every column with the type and the collation of the column that it stands for."""
    images: list[exp.Expr] = []
    for number, name in enumerate(change.columns, 1):
        images += [exp.alias_(column("target", name), f"{side}_{number}", quoted=True) for side in ("before", "after")]
    typed = {
        "interpretation": "text", "target_digest": "bigint", "source_digest": "bigint", "exact": "boolean", SKIPPED: "text",
    }  # fmt: skip
    table = change.table.aliased("target")
    return (
        exp.Select(
            expressions=[
                exp.alias_(exp.cast(exp.Null(), "text"), ACTION, quoted=True),
                *[column("d", name) for name in (*change.key_names, *change.shape.source_key_names)],
                *images,
                column("d", "pass"),
                column("d", "confidence"),
                *[exp.alias_(exp.cast(exp.Null(), kind), name, quoted=True) for name, kind in typed.items()],
            ]
        )
        .from_(_decisions(run))
        .join(table, join_type="cross")
        .limit(0)
    )


def _into_draft(change: Change, query: exp.Select) -> str:
    names = [*change.shape.staged_columns, "exact", SKIPPED]
    into = exp.Schema(this=temporary(DRAFT), expressions=[identifier(name) for name in names])
    return exp.Insert(this=into, expression=query).sql(DIALECT, pretty=True)


def _pairs(change: Change, run: str, passes: Sequence[str], *, whole: bool) -> exp.Select:
    """Records and their partners: linked, and given the partner's values where they differ."""
    action: exp.Expr = exp.Literal.string(UPDATE)
    if change.links:
        assert change.bound.link is not None
        free = exp.Is(this=change.bound.link, expression=exp.Null())
        action = exp.Case(ifs=[exp.If(this=free, true=exp.Literal.string(LINK))], default=action)
    same = [
        exp.NullSafeEQ(this=image_text(change, value.column, left), expression=image_text(change, value.column, right))
        for value in change.pairs
        for left, right in [(column("t", value.column), _after(change, value))]
    ]
    skipped = exp.Case(ifs=[exp.If(this=exp.and_(*same), true=exp.Literal.string(UNCHANGED))])
    said = _said(change, change.pairs, action)
    query = _of_pairs(change, run).select(*said, exp.alias_(skipped, SKIPPED, quoted=True))
    return query.where(_taken(change, passes, whole=whole))


def _taken(change: Change, passes: Sequence[str], *, whole: bool) -> exp.Expr:
    """Which decisions about pairs a plan takes: what is to be linked, and what differs."""
    by_pass: exp.Expr = exp.In(this=column("d", "pass"), expressions=[exp.Literal.string(name) for name in passes])
    if change.bound.spec.backfill.changed is None:
        return exp.and_(_outcome("d", "same", "changed"), by_pass)
    linked_before = exp.Is(this=column("d", "pass"), expression=exp.Null())
    differ = exp.and_(_outcome("d", "changed"), exp.or_(by_pass.copy(), linked_before) if whole else by_pass.copy())
    return exp.or_(exp.and_(_outcome("d", "same"), by_pass), differ) if change.links else differ


def _of_pairs(change: Change, run: str) -> exp.Select:
    """The decisions with their records, as long as the rules decide the same now."""
    bound, shape = change.bound, change.shape
    names = [*change.key_names, *shape.source_key_names]
    # A link that was there before came from no pass.
    by_pass = exp.NullSafeEQ if not change.only_links and change.links else exp.EQ
    same: list[exp.Expr] = [
        exp.EQ(this=column("now", name), expression=column("d", name)) for name in (*names, "outcome")
    ]
    same.append(by_pass(this=column("now", "pass"), expression=column("d", "pass")))
    return (
        exp.Select()
        .from_(_decisions(run))
        .join(bound.target.aliased("t"), on=exp.and_(*_record(change, "t")))
        .join(bound.source.aliased("s"), on=exp.and_(*_record(change, "s")))
        .join(temporary(NOW, "now"), on=exp.and_(*same))
        .where(*bound.where("t"), *bound.where("s"))
    )


def _alone(change: Change, run: str, side: Side) -> exp.Select:
    """The decisions about records without a partner, with the records, as long as the rules decide the same now."""
    names = change.key_names if side == "t" else change.shape.source_key_names
    word = "orphan" if side == "t" else "missing"
    same = [exp.EQ(this=column("now", name), expression=column("d", name)) for name in (*names, "outcome")]
    select = (
        exp.Select()
        .from_(_decisions(run))
        .join(change.bound.relation[side].aliased(side), on=exp.and_(*_record(change, side)))
        .join(temporary(NOW, "now"), on=exp.and_(*same))
        .where(_outcome("d", word), *change.bound.where(side))
    )
    if change.bound.spec.interpret:  # sentences may name both sides: the other one is there, and empty
        other: Side = "s" if side == "t" else "t"
        select = select.join(change.bound.relation[other].aliased(other), on=exp.false(), join_type="left")
    return select


def _missing(change: Change, run: str) -> exp.Select:
    """Source records that the target lacks; one that has no identity, or whose identity is there, is left out."""
    identity = {value.column: _cast(change, value) for value in change.inserts if value.column in change.identity}
    unnamed = exp.or_(*[exp.Is(this=exp.paren(tree.copy()), expression=exp.Null()) for tree in identity.values()])
    there = exists(
        change.table.aliased("existing"),
        [exp.EQ(this=column("existing", name), expression=tree.copy()) for name, tree in identity.items()],
    )
    skipped = exp.Case(
        ifs=[
            exp.If(this=unnamed, true=exp.Literal.string(NO_IDENTITY)),
            exp.If(this=there, true=exp.Literal.string(EXISTS)),
        ]
    )
    said = _said(change, change.inserts, exp.Literal.string(INSERT))
    return _alone(change, run, "s").select(*said, exp.alias_(skipped, SKIPPED, quoted=True))


def _doubled(change: Change) -> str:
    """Leave out drafted inserts of which two would be the same record."""
    numbers = [change.number(name) for name in change.identity]
    images = [f"after_{number}" for number in numbers]
    conditions: list[exp.Expr] = [
        exp.EQ(this=column("other", ACTION), expression=exp.Literal.string(INSERT)),
        *[exp.EQ(this=column("draft", name), expression=column("other", name)) for name in images],
    ]
    names = change.shape.source_key_names
    differ = [exp.NullSafeNEQ(this=column("draft", name), expression=column("other", name)) for name in names]
    conditions.append(exp.paren(exp.or_(*differ)))
    update = exp.Update(
        this=temporary(DRAFT, "draft"),
        expressions=[exp.EQ(this=exp.Column(this=identifier(SKIPPED)), expression=exp.Literal.string(SAME_IDENTITY))],
    )
    own = exp.EQ(this=column("draft", ACTION), expression=exp.Literal.string(INSERT))
    undecided = exp.Is(this=column("draft", SKIPPED), expression=exp.Null())
    update.set("where", exp.Where(this=exp.and_(own, undecided, exists(temporary(DRAFT, "other"), conditions))))
    return update.sql(DIALECT, pretty=True)


def _orphans(change: Change, run: str) -> exp.Select:
    """Target records that the source seems not to have, where the spec asks about them."""
    asked = orphan_when(change)
    same = [
        exp.NullSafeEQ(this=image_text(change, value.column, left), expression=image_text(change, value.column, right))
        for value in change.sets
        for left, right in [(column("t", value.column), _cast(change, value))]
    ]
    known = [exp.and_(*[not_null(part) for part in rule.targets]) for rule in change.bound.passes if rule.targets]
    cases = [
        # What no pass can look for was not looked for.
        exp.If(this=exp.Not(this=exp.paren(exp.or_(*known))), true=exp.Literal.string(NO_IDENTITY)),
        exp.If(this=exp.and_(*same), true=exp.Literal.string(UNCHANGED)),
    ]
    if asked is not None:
        left_alone = exp.Is(this=exp.paren(asked), expression=exp.Not(this=exp.true()))
        cases.insert(0, exp.If(this=left_alone, true=exp.Literal.string(NOT_ASKED)))
    said = _said(change, change.sets, exp.Literal.string(SET))
    return _alone(change, run, "t").select(*said, exp.alias_(exp.Case(ifs=cases), SKIPPED, quoted=True))


def orphan_when(change: Change) -> exp.Expr | None:
    """The condition of `orphan`, over t."""
    orphan = change.bound.spec.backfill.orphan
    if orphan is None or orphan.when is None:
        return None
    return change.bound.resolve(expressions.parse(orphan.when, "t"))


# -- columns of a row ------------------------------------------------------------------------------------


def _said(change: Change, values: Sequence[Value], action: exp.Expr) -> list[exp.Expr]:
    """The columns of a staged row after its place, of an action that writes these values."""
    by_column = {value.column: value for value in values}
    pair, insert = values is change.pairs, values is change.inserts
    before: list[exp.Expr] = []
    after: list[exp.Expr] = []
    for number, name in enumerate(change.columns, 1):
        value = by_column.get(name)
        nothing = exp.cast(exp.Null(), change.table.type_of(name))
        old = nothing if value is None or insert else column("t", name)
        new = nothing if value is None else _after(change, value)
        before.append(exp.alias_(old.copy(), f"before_{number}", quoted=True))
        after.append(exp.alias_(new.copy(), f"after_{number}", quoted=True))
    exact = [test for value in values for test in _fits(change, value)]
    keys: list[exp.Expr] = [column("d", name) for name in change.key_names]
    if len(change.shape.source_keys) == 1 and pair:
        keys.append(exp.alias_(change.bound.source_keys[0], "source_key", quoted=True))
    else:
        keys += [column("d", name) for name in change.shape.source_key_names]
    no_text, no_digest = exp.cast(exp.Null(), "text"), exp.cast(exp.Null(), "bigint")
    interpreted = pairs.interpretation(change.bound)
    target = no_digest if insert else change.target_digest(values)
    source = change.source_digest() if pair or insert else no_digest
    # Of a record alone, a decision's pass is the one that came closest: it matched nothing.
    said = [column("d", "pass"), column("d", "confidence")] if pair else [no_text, exp.Null()]
    images = [image for both in zip(before, after, strict=True) for image in both]
    if change.only_links:
        images = [*before, *after]
    return [
        exp.alias_(action, ACTION, quoted=True),
        *keys,
        *images,
        *said,
        exp.alias_(interpreted, "interpretation", quoted=True),
        exp.alias_(target, "target_digest", quoted=True),
        exp.alias_(source, "source_digest", quoted=True),
        exp.alias_(exp.and_(*exact) if exact else exp.true(), "exact", quoted=True),
    ]


def _cast(change: Change, value: Value) -> exp.Expr:
    """The declared type of the column, so that what is staged is what will be stored, to the digit."""
    return exp.cast(value.tree.copy(), change.table.type_of(value.column))


def _after(change: Change, value: Value) -> exp.Expr:
    taken = _cast(change, value)
    if value.when is None:
        return taken
    return exp.Case(ifs=[exp.If(this=value.when.copy(), true=taken)], default=column("t", value.column))


def _fits(change: Change, value: Value) -> list[exp.Expr]:
    """Whether the column can hold the value as it is."""
    kind = change.table.columns[value.column]
    if isinstance(value.tree, exp.Column):
        relation = change.bound.relation["t" if value.tree.table == "t" else "s"]
        if relation.sql_types.get(value.tree.name) == change.table.sql_types[value.column]:
            return []
    if kind in _UNCHECKED:
        return []
    cast, tree = _cast(change, value), value.tree.copy()
    if value.as_text or kind in TEXT_TYPES or kind not in _COMPARED:
        cast, tree = (collate(exp.cast(part, "text")) for part in (cast, tree))
    fits: exp.Expr = exp.NullSafeEQ(this=cast, expression=tree)
    if value.when is not None:
        fits = exp.Case(ifs=[exp.If(this=value.when.copy(), true=fits)], default=exp.true())
    return [fits]


# Types of which two values are equal only if they are the same: others are compared as text, byte by byte, for
# 1.5 and 1.50 are equal, and a revert must know which of them stood there.
_PLAIN_TYPES = frozenset({"int2", "int4", "int8", "uuid", "date", "bool", "timestamp", "timestamptz", "oid"})


def image_text(change: Change, name: str, tree: exp.Expr) -> exp.Expr:
    """A value of a written column in the form in which images are compared."""
    return tree if change.table.columns[name] in _PLAIN_TYPES else collate(exp.cast(tree.copy(), "text"))


# -- small trees -----------------------------------------------------------------------------------------


def _decisions(run: str) -> exp.Table:
    decided = tables.own("decisions", run)
    return exp.Table(this=decided.this, db=decided.args["db"], alias=exp.TableAlias(this=identifier("d")))


def _record(change: Change, side: Side) -> list[exp.Expr]:
    names = change.key_names if side == "t" else change.shape.source_key_names
    return [
        exp.EQ(this=key, expression=column("d", name)) for key, name in zip(change.bound.keys(side), names, strict=True)
    ]


def _outcome(alias: str, *words: str) -> exp.Expr:
    outcome, texts = column(alias, "outcome"), [exp.Literal.string(word) for word in words]
    return exp.EQ(this=outcome, expression=texts[0]) if len(texts) == 1 else exp.In(this=outcome, expressions=texts)


def not_null(tree: exp.Expr) -> exp.Expr:
    return exp.Not(this=exp.Is(this=exp.paren(tree.copy()), expression=exp.Null()))


def exists(table: exp.Expr, conditions: Sequence[exp.Expr]) -> exp.Exists:
    """Whether a table has such a row."""
    return exp.Exists(this=exp.Select(expressions=[exp.Literal.number(1)]).from_(table).where(*conditions))


def _numbered(keys: Sequence[exp.Expr]) -> exp.Expr:
    order = exp.Order(expressions=[exp.Ordered(this=key, nulls_first=False) for key in keys])
    return exp.Window(this=exp.Anonymous(this="row_number", expressions=[]), order=order)
