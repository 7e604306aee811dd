"""A spec bound to a database: its relations and passes with every name resolved. Made by `bind`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from sqlglot import exp

from recon import expressions
from recon.database.relations import Relation
from recon.expressions import Expression
from recon.matching.windows import BoundWindow
from recon.names import Side, column
from recon.spec import Reconciliation
from recon.spec_parts import Pass


@dataclass(frozen=True)
class Term:
    """One resolved term of `prefer`."""

    tree: exp.Expr
    descending: bool
    nulls_first: bool
    sides: frozenset[Side]

    def ordered(self) -> exp.Ordered:
        return exp.Ordered(this=self.tree.copy(), desc=self.descending, nulls_first=self.nulls_first)


@dataclass(frozen=True)
class BoundPass:
    """One pass with its expressions resolved; `t` and `s` are the aliases of the sides."""

    rule: Pass
    targets: tuple[exp.Expr, ...]
    sources: tuple[exp.Expr, ...]
    target_names: tuple[
        str, ...
    ]  # the target's `on` expressions for people: as the spec writes them, if they are short
    source_names: tuple[str, ...]
    windows: tuple[BoundWindow, ...]
    when_target: tuple[exp.Expr, ...]
    when_source: tuple[exp.Expr, ...]
    when_both: tuple[exp.Expr, ...]
    prefer: tuple[Term, ...]

    @property
    def name(self) -> str:
        return self.rule.name

    @property
    def confidence(self) -> Decimal:
        return self.rule.confidence

    @property
    def by_key(self) -> bool:
        """Whether `on` and conditions on one side alone decide which pairs are candidates."""
        return not self.when_both and not self.windows and bool(self.targets)

    @property
    def reducible(self) -> bool:
        """Whether the best source of a key is the same for every target: then the source is reduced first."""
        return self.by_key and all("t" not in term.sides for term in self.prefer)

    def equalities(self) -> list[exp.Expr]:
        """Each `on` equality as a condition."""
        return [
            exp.EQ(this=left.copy(), expression=right.copy())
            for left, right in zip(self.targets, self.sources, strict=True)
        ]

    def conditions(self) -> list[exp.Expr]:
        """The parts of `when`."""
        return [part.copy() for part in (*self.when_target, *self.when_source, *self.when_both)]

    def candidate(self) -> list[exp.Expr]:
        """What a pair must satisfy for this pass: every equality, every window, and `when`."""
        return [*self.equalities(), *(window.inside() for window in self.windows), *self.conditions()]

    def on(self, side: Side) -> tuple[exp.Expr, ...]:
        """The `on` expressions of one side."""
        return self.targets if side == "t" else self.sources

    def when(self, side: Side) -> tuple[exp.Expr, ...]:
        """The parts of `when` that look at one side only."""
        return self.when_target if side == "t" else self.when_source


@dataclass(frozen=True)
class Compared:
    """A column that matched records must agree in."""

    name: str
    target: exp.Expr
    source: exp.Expr
    window: BoundWindow | None  # how far the values may differ; None: not at all
    skip_empty: bool = False  # whether an empty source says nothing, so that it is no difference
    unless: exp.Expr | None = None  # where it is true, the source says nothing either
    says: exp.Expr | None = None  # that the source says something, never NULL; None where it always does

    def differs(self) -> exp.Expr:
        """Whether the two records disagree; never NULL."""
        apart = self._apart()
        return apart if self.says is None else exp.and_(apart, self.says.copy())  # the cheap part first

    def agrees(self) -> exp.Expr:
        """Whether the two records agree; NULL where the source says nothing."""
        agree = exp.Not(this=exp.paren(self._apart()))
        return agree if self.says is None else exp.Case(ifs=[exp.If(this=self.says.copy(), true=agree)])

    def _apart(self) -> exp.Expr:
        if self.window is None:
            return exp.NullSafeNEQ(this=self.target.copy(), expression=self.source.copy())
        near = exp.or_(exp.NullSafeEQ(this=self.target.copy(), expression=self.source.copy()), self.window.inside())
        return exp.Is(this=exp.paren(near), expression=exp.Not(this=exp.true()))


@dataclass(frozen=True)
class Rule:
    """A rule of `valid`, over s."""

    issue: str
    tree: exp.Expr

    def holds(self) -> exp.Expr:
        return exp.Is(this=exp.paren(self.tree.copy()), expression=exp.true())


@dataclass(frozen=True)
class Bound:
    """A spec and its two relations."""

    spec: Reconciliation
    target: Relation
    source: Relation
    target_where: exp.Expr | None
    source_where: exp.Expr | None
    passes: tuple[BoundPass, ...]
    compared: tuple[Compared, ...] = ()
    valid: tuple[Rule, ...] = ()
    written: Relation | None = None  # the table behind a target that is a query: all of its rows can hold a link
    private: frozenset[tuple[Side, str]] = frozenset()  # columns whose values people see veiled
    shows_private: bool = False  # whether they are shown after all, for who looks may see them

    @property
    def relation(self) -> Mapping[Side, Relation]:
        return {"t": self.target, "s": self.source}

    @property
    def holders(self) -> Relation:
        """Whose rows hold links: more of them than the rules look at."""
        return self.written or self.target

    def place(self, side: Side) -> str:
        """What the records of a side are called where people look: their table, also where a query reads it."""
        records = self.spec.target if side == "t" else self.spec.source
        return records.writes or self.relation[side].label

    @property
    def population(self) -> Side:
        """The side whose records must all be decided."""
        return "t" if self.spec.population == "target" else "s"

    @property
    def other(self) -> Side:
        return "s" if self.population == "t" else "t"

    @property
    def target_keys(self) -> list[exp.Column]:
        return self.keys("t")

    @property
    def source_keys(self) -> list[exp.Column]:
        return self.keys("s")

    def keys(self, side: Side) -> list[exp.Column]:
        """The key columns of a side under its alias."""
        names = self.spec.target.keys if side == "t" else self.spec.source.keys
        return [column(side, name) for name in names]

    def key_names(self, side: Side) -> list[str]:
        """What the key columns of a side are called in recon's own tables."""
        return key_names("target_key" if side == "t" else "source_key", len(self.keys(side)))

    def where(self, side: Side) -> list[exp.Expr]:
        """The side's `where`, as a list of at most one condition."""
        tree = self.target_where if side == "t" else self.source_where
        return [] if tree is None else [tree.copy()]

    @property
    def link(self) -> exp.Column | None:
        return column("t", self.spec.link.column) if self.spec.link else None

    def resolve(self, expression: Expression) -> exp.Expr:
        """An expression of this spec with its columns resolved; `t` and `s` are the aliases."""
        return expressions.resolve(
            expression,
            {"t": self.target.columns, "s": self.source.columns},
            {"t": self.target.label, "s": self.source.label},
        )

    def columns(self, texts: Sequence[Expression], side: Side) -> list[str]:
        """The columns of one side that these expressions read, by their exact names, sorted."""
        found: set[str] = set()
        for text in texts:
            tree = exp.Paren(this=self.resolve(text))
            found |= {node.name for node in tree.find_all(exp.Column) if node.table == side}
        return sorted(found)


def key_names(prefix: str, count: int) -> list[str]:
    """How key columns are called in recon's own tables: target_key, or target_key_1, target_key_2, …"""
    return [prefix] if count == 1 else [f"{prefix}_{number}" for number in range(1, count + 1)]
