"""What a backfill of one spec changes: table, key, columns, and the staged rows that hold it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from recon import expressions
from recon.database import tables
from recon.database.relations import Relation
from recon.expressions import Expression, Side
from recon.matching import pairs
from recon.matching import pool as pools
from recon.matching.bound import Bound, key_names
from recon.names import column, identifier


@dataclass(frozen=True)
class Shape:
    """The names in a plan's own tables; plan.json holds what is needed to know them.

    Names of users' columns may be 63 bytes long, so recon's own tables number them: before_1, after_1, …
    """

    keys: tuple[str, ...]
    source_key: str
    columns: tuple[str, ...]

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> Shape:
        target = document["target"]
        return cls(tuple(target["key"]), document["source_key"], tuple(target["columns"]))

    @property
    def key_names(self) -> list[str]:
        return key_names("target_key", len(self.keys))

    @property
    def numbers(self) -> range:
        return range(1, len(self.columns) + 1)

    @property
    def images(self) -> list[str]:
        return [f"{side}_{number}" for number in self.numbers for side in ("before", "after")]

    @property
    def ledger_columns(self) -> list[str]:
        """The columns that a batch writes to the ledger."""
        return [PLACE, *self.key_names, *self.images]

    @property
    def staged_columns(self) -> list[str]:
        """The columns of the staged table that are written to changes.csv, in its order."""
        return [*self.key_names, "source_key", *self.images, *_SAID]

    @property
    def csv_heading(self) -> list[str]:
        """The heading of changes.csv, where people read the table's own column names."""
        images = [f"{name} {side}" for name in self.columns for side in ("before", "after")]
        return [*(f"target {key}" for key in self.keys), f"source {self.source_key}", *images, *_SAID]


NOW = "recon_now"  # the temporary table of what the rules decide when the plan is made
PLACE = "place"  # a staged row's number, 1, 2, 3 … in the order of the keys: what batches count by
# Types that PostgreSQL hashes as they are; values of others are hashed as text.
_HASHED = frozenset(
    """
    bool bytea bpchar date float4 float8 int2 int4 int8 interval jsonb numeric text time timestamp timestamptz timetz uuid
    varchar
    """.split()
)
_SAID = ("pass", "confidence", "interpretation", "target_digest", "source_digest")


@dataclass(frozen=True)
class Change:
    """The link of a spec as a change of rows: which columns of which table take which values."""

    bound: Bound
    table: Relation  # what is written: the target, or what its query `writes`
    columns: tuple[str, ...]
    values: tuple[exp.Expr, ...]

    @property
    def keys(self) -> list[str]:
        return self.bound.spec.target.keys

    @property
    def shape(self) -> Shape:
        return Shape(tuple(self.keys), self.bound.spec.source.keys[0], self.columns)

    @property
    def key_names(self) -> list[str]:
        return self.shape.key_names

    @property
    def numbers(self) -> range:
        return self.shape.numbers

    @property
    def from_query(self) -> bool:
        """Whether the records come from a query, which then is joined beside the table it writes."""
        return self.bound.target.oid is None

    def digest(self, side: Side) -> exp.Expr:
        """A 64-bit hash of the columns that the rules read of one side, so that a later change of them shows.

        It need not resist people who look for two rows of one hash: whatever they change, what is written is what was
        signed. Of two rows that differ by chance, one pair in 2**64 has the same.
        """
        hashed = [
            column(side, name)
            if self.bound.relation[side].columns[name] in _HASHED
            else exp.cast(column(side, name), "text")
            for name in self.read_columns(side)
        ]
        row = exp.Anonymous(this="row", expressions=hashed)
        return exp.Anonymous(this="hash_record_extended", expressions=[row, exp.Literal.number(0)])

    def read_columns(self, side: Side) -> list[str]:
        """The columns of one side that decide about a pair and its values, sorted."""
        bound, spec = self.bound, self.bound.spec
        texts: list[Expression] = []
        for rule in spec.passes:
            texts += [expression for pair in rule.pairs for expression in pair]
            texts += [expressions.parse(rule.when, "t")] if rule.when else []
            texts += [item.expression for item in rule.preferences if item.expression]
        texts += [expressions.parse(text, "s") for text in (spec.link.also.values() if spec.link else ())]
        texts += [expressions.parse(spec.target.where, "t")] if spec.target.where else []
        texts += [expressions.parse(spec.source.where, "s")] if spec.source.where else []
        keys = spec.target.keys if side == "t" else spec.source.keys
        written = set(self.columns) if side == "t" else set[str]()
        return sorted((set(bound.columns(texts, side)) | set(keys)) - written)


def of(bound: Bound, table: Relation) -> Change:
    """The change that a spec's link makes. Raises SchemaMismatch where the written table lacks a column."""
    link = bound.spec.link
    assert link is not None
    for name in (*bound.spec.target.keys, link.column, *link.also):
        expressions.resolve_name(name, table.columns, table.label)
    values = [
        column("s", bound.spec.source.keys[0]),
        *(bound.resolve(expressions.parse(text, "s")) for text in link.also.values()),
    ]
    return Change(bound, table, (link.column, *link.also), tuple(values))


def staged_rows(change: Change, run: str, passes: Sequence[str]) -> exp.Select:
    """The rows of a plan: each matched pair of the run's passes, frozen with its before image and digests.

    A pair is staged only if the same rules still decide the same now (in the temporary table `recon_now`): the run may
    be older than the data. `exact`
    says whether the columns can hold the values as they are; the caller refuses the plan where one cannot.
    """
    bound = change.bound
    decided = tables.own("decisions", run)
    source = bound.spec.source.keys[0]
    before = [exp.alias_(column("t", name), f"before_{n}", quoted=True) for n, name in enumerate(change.columns, 1)]
    after = [
        # The declared type of the column, so that what is staged is what will be stored, to the digit.
        exp.alias_(exp.cast(value.copy(), change.table.type_of(name)), f"after_{n}", quoted=True)
        for n, (name, value) in enumerate(zip(change.columns, change.values, strict=True), 1)
    ]
    own = [
        exp.EQ(this=column("t", key), expression=column("d", name))
        for key, name in zip(change.keys, change.key_names, strict=True)
    ]
    exact = [
        exp.NullSafeEQ(this=exp.cast(value.copy(), change.table.type_of(name)), expression=value.copy())
        for name, value in zip(change.columns, change.values, strict=True)
        if not (isinstance(value, exp.Column) and _same_type(change, name, value))
    ]
    now = pools.temporary(NOW, "now")
    same = [
        exp.EQ(this=column("now", name), expression=column("d", name))
        for name in (*change.key_names, "source_key", "outcome", "pass")
    ]
    return (
        exp.Select(
            expressions=[
                exp.alias_(_numbered([column("d", name) for name in change.key_names]), PLACE, quoted=True),
                *[column("d", name) for name in change.key_names],
                exp.alias_(column("s", source), "source_key", quoted=True),
                *before,
                *after,
                column("d", "pass"),
                column("d", "confidence"),
                exp.alias_(pairs.interpretation(bound), "interpretation", quoted=True),
                exp.alias_(change.digest("t"), "target_digest", quoted=True),
                exp.alias_(change.digest("s"), "source_digest", quoted=True),
                exp.alias_(exp.and_(*exact) if exact else exp.true(), "exact", quoted=True),
            ]
        )
        .from_(exp.Table(this=decided.this, db=decided.args["db"], alias=exp.TableAlias(this=identifier("d"))))
        .join(bound.target.aliased("t"), on=exp.and_(*own))
        .join(bound.source.aliased("s"), on=exp.EQ(this=column("s", source), expression=column("d", "source_key")))
        .join(now, on=exp.and_(*same))
        .where(
            *chosen("d", passes),
            *([bound.target_where.copy()] if bound.target_where is not None else []),
            *([bound.source_where.copy()] if bound.source_where is not None else []),
        )
    )


def _numbered(keys: Sequence[exp.Expr]) -> exp.Expr:
    order = exp.Order(expressions=[exp.Ordered(this=key, nulls_first=False) for key in keys])
    return exp.Window(this=exp.Anonymous(this="row_number", expressions=[]), order=order)


def chosen(alias: str, passes: Sequence[str]) -> list[exp.Expr]:
    """The decisions that a plan takes: what some passes matched."""
    return [
        exp.EQ(this=column(alias, "outcome"), expression=exp.Literal.string("matched")),
        exp.In(this=column(alias, "pass"), expressions=[exp.Literal.string(name) for name in passes]),
    ]


def _same_type(change: Change, name: str, value: exp.Column) -> bool:
    relation = change.bound.relation["t" if value.table == "t" else "s"]
    return relation.sql_types.get(value.name) == change.table.sql_types[name]
