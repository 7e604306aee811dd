"""What a backfill of one spec changes: table, key, and which columns take which values by which action."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlglot import exp

from recon import expressions
from recon.database.relations import Relation
from recon.errors import SpecError
from recon.expressions import Expression
from recon.matching.bound import Bound, key_names
from recon.names import Side, column
from recon.spec_parts import Comparison, Outside

# What is done with a record: it takes its link (and what goes with it), takes the source's values, is made, or is set
# to what the spec says of orphans.
LINK, UPDATE, INSERT, SET = "link", "update", "insert", "set"
ACTIONS = (LINK, UPDATE, INSERT, SET)
NOW = "recon_now"  # the temporary table of what the rules decide when the plan is made
PLACE = "place"  # a staged row's number, 1, 2, 3 …: rows of the table in key order, then inserts; batches count by it
ACTION = "action"
ROW_DIGEST = "row_digest"  # sha256 of an inserted row as it was stored: a revert deletes no other
SAID = ("pass", "confidence", "interpretation", "target_digest", "source_digest")


@dataclass(frozen=True)
class Shape:
    """The names in a plan's own tables; plan.json holds what is needed to know them.

    Names of users' columns may be 63 bytes long, so recon's own tables number them: before_1, after_1, …
    """

    keys: tuple[str, ...]
    source_keys: tuple[str, ...]
    columns: tuple[str, ...]
    inserts: bool = False  # whether any row is inserted

    @classmethod
    def of_document(cls, document: dict[str, Any]) -> Shape:
        target = document["target"]
        return cls(
            tuple(target["key"]), tuple(document["source_key"]), tuple(target["columns"]), INSERT in document["actions"]
        )

    @property
    def key_names(self) -> list[str]:
        return key_names("target_key", len(self.keys))

    @property
    def source_key_names(self) -> list[str]:
        return key_names("source_key", len(self.source_keys))

    @property
    def images(self) -> list[str]:
        return [f"{side}_{number}" for number in range(1, len(self.columns) + 1) for side in ("before", "after")]

    @property
    def ledger_columns(self) -> list[str]:
        """The columns that a batch writes to the ledger."""
        return [PLACE, ACTION, *self.key_names, *self.images, *([ROW_DIGEST] if self.inserts else [])]

    @property
    def staged_columns(self) -> list[str]:
        """The columns of the staged table that are written to changes.csv, in its order."""
        return [ACTION, *self.key_names, *self.source_key_names, *self.images, *SAID]

    @property
    def csv_heading(self) -> list[str]:
        """The heading of changes.csv, where people read the table's own column names."""
        images = [f"{name} {side}" for name in self.columns for side in ("before", "after")]
        keys = [*(f"target {key}" for key in self.keys), *(f"source {key}" for key in self.source_keys)]
        return [ACTION, *keys, *images, *SAID]


# Types that PostgreSQL hashes as they are; values of others are hashed as text.
_HASHED = frozenset(
    """
    bool bytea bpchar date float4 float8 int2 int4 int8 interval jsonb numeric text time timestamp timestamptz timetz uuid
    varchar
    """.split()
)


@dataclass(frozen=True)
class Value:
    """What one column takes."""

    column: str
    tree: exp.Expr  # over t and s
    when: exp.Expr | None = None  # where it takes it and does not stay as it is; None: in every row
    as_text: bool = False  # the rules compare the two as text


@dataclass(frozen=True)
class Change:
    """The actions of a spec as changes of rows: which columns of which table take which values."""

    bound: Bound
    table: Relation  # what is written: the target, or what its query `writes`
    pairs: tuple[Value, ...] = ()  # of a record and its partner: link and update
    sets: tuple[Value, ...] = ()  # of an orphan
    inserts: tuple[Value, ...] = ()  # of a record that is made
    identity: tuple[str, ...] = ()  # those inserted columns by which the first pass knows it
    link_collation: str = "default"  # of a link column that holds text

    @property
    def keys(self) -> list[str]:
        return self.bound.spec.target.keys

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that some action writes, each once."""
        return tuple(dict.fromkeys(value.column for value in (*self.pairs, *self.sets, *self.inserts)))

    def number(self, name: str) -> int:
        """The number of a written column: its images are before_N and after_N."""
        return self.columns.index(name) + 1

    @property
    def moments(self) -> frozenset[str]:
        """The images that may hold when the plan was made: those of columns that some action gives `now()`."""
        values = (*self.pairs, *self.sets, *self.inserts)
        asked = {value.column for value in values if expressions.asks_for_now(value.tree)}
        return frozenset(f"after_{self.number(name)}" for name in asked)

    @property
    def shape(self) -> Shape:
        source = self.bound.spec.source.keys
        return Shape(tuple(self.keys), tuple(source), self.columns, bool(self.inserts))

    @property
    def key_names(self) -> list[str]:
        return self.shape.key_names

    @property
    def outside(self) -> Outside | None:
        """The outside system that takes these changes too."""
        return self.bound.spec.target.outside

    @property
    def record(self) -> str | None:
        """The target's column that holds a record's id outside."""
        return (self.outside.record or self.keys[0]) if self.outside else None

    @property
    def from_query(self) -> bool:
        """Whether the records come from a query, which then is joined beside the table it writes."""
        return self.bound.target.oid is None

    @property
    def links(self) -> bool:
        return self.bound.spec.link is not None

    @property
    def one_holder(self) -> bool:
        """Whether a source goes to one target only, so that no second row may come to hold it."""
        return self.links and bool(self.pairs or self.inserts) and self.bound.spec.cardinality == "one_to_one"

    @property
    def only_links(self) -> bool:
        """Whether the plan writes links and nothing else; then every row writes every column."""
        asked = self.bound.spec.backfill
        return self.links and asked.missing is None and asked.changed is None and asked.orphan is None

    def written(self, action: str) -> list[str]:
        """The columns that an action may write."""
        spec = self.bound.spec
        linked = {spec.link.column, *spec.link.also} if spec.link else set[str]()
        values = {LINK: self.pairs, UPDATE: self.pairs, SET: self.sets, INSERT: self.inserts}[action]
        return [value.column for value in values if action != UPDATE or value.column not in linked]

    def source_digest(self) -> exp.Expr:
        """A hash of the columns that the rules read of the source, so that a later change of them shows."""
        return self._digest("s", self.read_columns("s"))

    def target_digest(self, written: Sequence[Value]) -> exp.Expr:
        """The same of the target, without the columns that an action writes: these have their before image."""
        without = {value.column for value in written}
        return self._digest("t", [name for name in self.read_columns("t") if name not in without])

    def _digest(self, side: Side, names: Sequence[str]) -> exp.Expr:
        """A 64-bit hash.

        It need not resist people who look for two rows of one hash: whatever they change, what is written is what was
        signed. Of two rows that differ by chance, one pair in 2**64 has the same.
        """
        hashed = [
            column(side, name)
            if self.bound.relation[side].columns[name] in _HASHED
            else exp.cast(column(side, name), "text")
            for name in names
        ]
        row = exp.Anonymous(this="row", expressions=hashed)
        return exp.Anonymous(this="hash_record_extended", expressions=[row, exp.Literal.number(0)])

    def read_columns(self, side: Side) -> list[str]:
        """The columns of one side that decide about a record and its values, sorted."""
        bound, spec = self.bound, self.bound.spec
        texts: list[Expression] = []
        for rule in spec.passes:
            texts += [expression for pair in rule.pairs for expression in pair]
            texts += [expressions.parse(item.target, "t") for item in rule.windows]
            texts += [expressions.parse(item.source, "s") for item in rule.windows]
            texts += [expressions.parse(rule.when, "t")] if rule.when else []
            texts += [item.expression for item in rule.preferences if item.expression]
        texts += [expressions.parse(text, "s") for text in (spec.link.also.values() if spec.link else ())]
        texts += [expressions.parse(spec.target.where, "t")] if spec.target.where else []
        texts += [expressions.parse(spec.source.where, "s")] if spec.source.where else []
        texts += [expressions.parse(item.rule, "s") for item in spec.valid]
        texts += _of_backfill(bound)
        names = set(bound.columns(texts, side))
        names |= set(spec.target.keys if side == "t" else spec.source.keys)
        names |= {spec.scope} if spec.scope else set()
        names |= set(spec.compare) if side == "t" else set()
        names |= (
            {self.record} if self.record and side == "t" else set()
        )  # what is sent goes to the record that was signed
        return sorted(names)


def _of_backfill(bound: Bound) -> list[Expression]:
    """The expressions of `compare` and `backfill`."""
    spec = bound.spec
    texts = [expressions.parse(_source_of(item), "s") for item in spec.compare.values()]
    texts += [
        expressions.parse(item.unless, "t")
        for item in spec.compare.values()
        if isinstance(item, Comparison) and item.unless is not None
    ]
    asked = spec.backfill
    if asked.missing:
        texts += [expressions.parse(text, "s", allow_now=True) for text in asked.missing.insert.values()]
    for item in asked.changed.also if asked.changed else ():
        texts.append(expressions.parse(item.when, "t"))
        texts += [expressions.parse(text, "s", allow_now=True) for text in item.set.values()]
    if asked.orphan:
        texts += [expressions.parse(asked.orphan.when, "t")] if asked.orphan.when else []
        texts += [expressions.parse(text, "t", allow_now=True) for text in asked.orphan.set.values()]
    return texts


def _source_of(compared: str | Comparison) -> str:
    return compared if isinstance(compared, str) else compared.source


def sha256(row: exp.Expr) -> exp.Expr:
    """sha256 of a row as text."""
    encoded = exp.Anonymous(this="convert_to", expressions=[exp.cast(row, "text"), exp.Literal.string("UTF8")])
    return exp.Anonymous(this="sha256", expressions=[encoded])


def of(bound: Bound, table: Relation) -> Change:
    """The changes that a spec asks for. Raises SchemaMismatch where the written table lacks a column."""
    identity = _identity(bound)
    made = Change(
        bound, table, _pairs(bound), _sets(bound), _inserts(bound, identity), tuple(item.column for item in identity)
    )
    for name in (*bound.spec.target.keys, *made.columns):
        expressions.resolve_name(name, table.columns, table.label)
    if made.record:
        expressions.resolve_name(made.record, bound.target.columns, bound.target.label)
        if made.record in bound.spec.target.private:
            raise SpecError(
                f"`private` names {made.record}, by which a record is known outside.",
                why="What became of a record could not be told without its name.",
                todo="Take it out of `private`, or name another column as `record`.",
            )
    return made


def _pairs(bound: Bound) -> tuple[Value, ...]:
    """What a record takes from its partner."""
    spec, changed = bound.spec, bound.spec.backfill.changed
    values: list[Value] = []
    if spec.link:
        assert bound.link is not None
        # Where a spec also updates, records are looked at that hold their link already.
        free = exp.Is(this=bound.link, expression=exp.Null()) if changed else None
        values.append(Value(spec.link.column, bound.source_keys[0], free))
        for name, text in spec.link.also.items():
            values.append(Value(name, bound.resolve(expressions.parse(text, "s")), free and free.copy()))
    for item in bound.compared:
        if item.name in spec.updates:
            values.append(Value(item.name, _compared(bound, item.name), item.differs()))
    is_changed = exp.EQ(this=column("d", "outcome"), expression=exp.Literal.string("changed"))
    for item in changed.also if changed else ():
        when = exp.and_(is_changed.copy(), exp.paren(bound.resolve(expressions.parse(item.when, "t"))))
        for name, text in item.set.items():
            values.append(Value(name, bound.resolve(expressions.parse(text, "s", allow_now=True)), when.copy()))
    return tuple(values)


def _compared(bound: Bound, name: str) -> exp.Expr:
    """The source's value of a compared column as it stands: comparing may have cast it."""
    return bound.resolve(expressions.parse(_source_of(bound.spec.compare[name]), "s"))


def _sets(bound: Bound) -> tuple[Value, ...]:
    orphan = bound.spec.backfill.orphan
    return tuple(
        Value(name, bound.resolve(expressions.parse(text, "t", allow_now=True)))
        for name, text in (orphan.set.items() if orphan else ())
    )


def _identity(bound: Bound) -> list[Value]:
    """The columns that make an inserted record the source's: what the first pass compares, and the scope."""
    spec = bound.spec
    if spec.backfill.missing is None:
        return []
    rule = spec.passes[0]
    values = {
        bound.resolve(left).name: Value(
            bound.resolve(left).name, bound.resolve(right), as_text=rule.compare_as == "text"
        )
        for left, right in rule.pairs
    }
    if spec.scope is not None and spec.scope not in values:
        values = {spec.scope: Value(spec.scope, column("s", spec.scope)), **values}
    return list(values.values())


def _inserts(bound: Bound, identity: Sequence[Value]) -> tuple[Value, ...]:
    spec, missing = bound.spec, bound.spec.backfill.missing
    if missing is None:
        return ()
    values = list(identity)
    if spec.link:
        values.append(Value(spec.link.column, bound.source_keys[0]))
        values += [Value(name, bound.resolve(expressions.parse(text, "s"))) for name, text in spec.link.also.items()]
    values += [Value(name, _compared(bound, name)) for name in spec.compare]
    values += [
        Value(name, bound.resolve(expressions.parse(text, "s", allow_now=True)))
        for name, text in missing.insert.items()
    ]
    once: dict[str, Value] = {}
    for value in values:
        once.setdefault(value.column, value)
    return tuple(once.values())
