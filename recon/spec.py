"""A reconciliation as data: which records, which rules, what to change. One spec, one YAML file.

The same classes serve a spec written in Python. What a field means is said in its description, which is
also what editors show, through `recon schema`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)
from sqlglot import exp

from recon import expressions, tolerances
from recon.errors import SpecError
from recon.names import identifier, quote, split_relation
from recon.tolerances import Tolerance

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
ColumnName = Annotated[str, StringConstraints(min_length=1)]


def _exact_decimal(value: object) -> object:
    # A YAML float is read through its text, so that 0.95 stays 0.95.
    return Decimal(str(value)) if isinstance(value, float) else value


OVERRIDE = "override"  # in place of a pass's name, for what a person decided

Share = Annotated[Decimal, BeforeValidator(_exact_decimal), Field(ge=0, le=1)]
T = TypeVar("T")


def _valid(read: Any, text: Any, *arguments: object, **options: object) -> Any:
    """Check a text with one of the readers of `recon.expressions`; pydantic wants a ValueError."""
    try:
        read(text, *arguments, **options)
    except SpecError as error:
        raise ValueError(str(error)) from error
    return text


class Part(BaseModel):
    """What all parts share: unknown fields are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=False)


class RecordSet(Part):
    """One side: where its records are and how one is known."""

    table: str | None = Field(None, description="A table or view, with its schema where it is not the default.")
    query: str | None = Field(None, description="One SELECT; its rows are the records.")
    writes: str | None = Field(None, description="The table that a backfill writes when records come from a query.")
    file: str | None = Field(None, description="A CSV or Parquet file, relative to the workspace.")
    api: str | None = Field(None, description="The outside system that records are fetched from.")
    key: ColumnName | list[ColumnName] = Field(description="The column or columns by which a record is known.")
    where: str | None = Field(None, description="Only records for which this holds take part.")
    date: ColumnName | None = Field(None, description="The column that --from and --to filter.")
    private: list[ColumnName] = Field(
        default_factory=list, description="Columns whose values are veiled wherever people look."
    )

    @property
    def keys(self) -> list[str]:
        return [self.key] if isinstance(self.key, str) else list(self.key)

    @model_validator(mode="after")
    def _one_origin(self) -> RecordSet:
        if sum(value is not None for value in (self.table, self.query, self.file, self.api)) != 1:
            raise ValueError("give exactly one of table, query, file or api")
        if self.writes and not self.query:
            raise ValueError("writes goes with query: a table is written itself")
        if not self.keys or len(set(self.keys)) != len(self.keys):
            raise ValueError("key names at least one column, and each only once")
        for name in (self.table, self.writes):
            if name is not None:
                _valid(split_relation, name)
        for name in (*self.keys, *([self.date] if self.date else []), *self.private):
            _valid(identifier, name)
        for name in self.private:
            if name in self.keys:
                raise ValueError(f"`private` names {name!r}, which is a key: a record could not be named any more")
        if self.query:
            _valid(expressions.parse_query, self.query)
        return self


class Link(Part):
    """The column that holds the link; it is only ever written where it is NULL."""

    column: ColumnName = Field(description="The target's column that takes the source key.")
    also: dict[ColumnName, str] = Field(default_factory=dict, description="Further target columns set with the link.")

    @field_validator("also")
    @classmethod
    def _readable(cls, also: dict[str, str]) -> dict[str, str]:
        for name, text in also.items():
            _valid(identifier, name)
            _valid(expressions.parse, text, "s")
        return also


Amount = Annotated[str | Decimal, BeforeValidator(_exact_decimal)]


class Sides(Part):
    """How far the source may lie before and after the target."""

    before: Amount = Field("0", description="An interval, a number, or a percentage of the target's absolute value.")
    after: Amount = Field("0", description="The same, for a source that lies after the target.")


class Window(Part):
    """How far two values may differ, bounds included."""

    tolerance: Amount | Sides = Field(
        description="An interval (1 hour), a number (0.01) or a percentage of the target's absolute value (5%); "
        "the same both ways, or {before: …, after: …}: how far the source may lie before and after the target."
    )

    @property
    def bounds(self) -> tuple[Tolerance, Tolerance]:
        """How far the source may lie before, and after, the target."""
        if isinstance(self.tolerance, Sides):
            return tolerances.parse(self.tolerance.before), tolerances.parse(self.tolerance.after)
        bound = tolerances.parse(self.tolerance)
        return bound, bound

    @model_validator(mode="after")
    def _measurable(self) -> Window:
        written = self.tolerance
        for amount in (written.before, written.after) if isinstance(written, Sides) else (written,):
            _valid(tolerances.parse, amount)
        kinds = {bound.kind == "interval" for bound in self.bounds if bound.amount}
        if len(kinds) > 1:
            raise ValueError("before and after are both intervals, or both numbers or percentages")
        return self


class Within(Window):
    """A window: both values may differ by at most the tolerance, bounds included."""

    target: str = Field(description="A time, date or number of the target.")
    source: str = Field(description="A time, date or number of the source, of the same kind.")

    @model_validator(mode="after")
    def _readable(self) -> Within:
        _one_side("t", self.target)
        _one_side("s", self.source)
        return self


class Comparison(Window):
    """A compared column whose values may differ a little."""

    source: str = Field(description="The source's value.")
    tolerance: Amount | Sides = Field("0", description="How far the values may differ, as in `within`.")


class Pass(Part):
    """One matching rule."""

    name: Name
    on: dict[str, str] | list[ColumnName] = Field(
        description="Equalities, target expression: source expression; or the names that both sides share. NULL equals nothing."
    )
    within: Within | list[Within] | None = Field(None, description="Windows on times, dates or numbers.")
    when: str | None = Field(None, description="A condition over both sides that must be true.")
    prefer: list[str] = Field(default_factory=list, description="Which candidate is best: terms in order.")
    on_tie: Literal["review", "next"] = Field("review", description="What happens to equally good candidates.")
    accept: Literal["auto", "review"] = Field("auto", description="review: what matches is only proposed.")
    confidence: Annotated[Share, Field(decimal_places=3)] = Field(
        Decimal(1), description="How sure this rule is, 0 to 1."
    )
    compare_as: Literal["text"] | None = Field(None, description="Compare the `on` values as text.")

    @property
    def pairs(self) -> list[tuple[expressions.Expression, expressions.Expression]]:
        """The `on` equalities as (target expression, source expression)."""
        if isinstance(self.on, list):
            quoted = [quote(name) for name in self.on]
            return [(expressions.parse(name, "t"), expressions.parse(name, "s")) for name in quoted]
        return [(expressions.parse(left, "t"), expressions.parse(right, "s")) for left, right in self.on.items()]

    @property
    def preferences(self) -> list[expressions.Preference]:
        return [expressions.parse_prefer(term) for term in self.prefer]

    @property
    def windows(self) -> list[Within]:
        if self.within is None:
            return []
        return self.within if isinstance(self.within, list) else [self.within]

    @model_validator(mode="after")
    def _readable(self) -> Pass:
        if not self.on and not self.within:
            raise ValueError("a pass needs `on` or `within`, or every record would match every other")
        if isinstance(self.on, dict):
            for left, right in self.on.items():
                _one_side("t", left)
                _one_side("s", right)
        else:
            for name in self.on:
                _valid(identifier, name)
        if self.when is not None:
            _valid(expressions.parse, self.when, "t")
        for term in self.prefer:
            _valid(expressions.parse_prefer, term)
        if not self.windows and any(term.word == "nearest" for term in self.preferences):
            raise ValueError("`prefer: nearest` is the smallest distance of the first `within`, and there is none")
        return self


def _no_key(keys: Iterable[str], names: Iterable[str], where: str) -> None:
    for name in set(keys) & set(names):
        raise ValueError(f"`{where}` writes {name!r}, which is the target's key: a row would lose its name")


def _once(names: list[str], what: str) -> None:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ValueError(f"the column {doubled[0]!r} of {what} would take two values")


def _one_side(side: expressions.Side, text: str, *, allow_now: bool = False) -> None:
    _valid(expressions.parse, text, side, allow_now=allow_now)
    if expressions.parse(text, side, allow_now=allow_now).sides() - {side}:
        raise ValueError(
            f"{text!r} stands for the {'target' if side == 't' else 'source'} and may name only its columns"
        )


class Interpretation(Part):
    """A sentence for people about a matched pair; the first whose condition holds is said."""

    when: str
    say: str = Field(description="The sentence; {expression} parts are filled in.")

    @model_validator(mode="after")
    def _readable(self) -> Interpretation:
        _valid(expressions.parse, self.when, "t")
        _valid(expressions.parse_template, self.say)
        return self


class Validity(Part):
    """A rule that a source record must keep; what fails becomes an import issue."""

    rule: str = Field(description="A condition over s; a record for which it is not true is invalid.")
    issue: Annotated[str, StringConstraints(min_length=1)] = Field(description="What is wrong, in words.")

    @model_validator(mode="after")
    def _readable(self) -> Validity:
        _one_side("s", self.rule)
        return self


class Expectation(Part):
    """What must be true after a backfill."""

    coverage: Share | None = Field(None, description="The least share of the population that must be reconciled.")
    right: dict[Name, str] = Field(
        default_factory=dict,
        description="Conditions over both sides that every linked pair must keep, by name.",
    )

    @field_validator("right")
    @classmethod
    def _readable(cls, right: dict[str, str]) -> dict[str, str]:
        for text in right.values():
            _valid(expressions.parse, text, "t")
        return right


class Missing(Part):
    """What becomes of source records that the target lacks: they are inserted."""

    insert: dict[ColumnName, str] = Field(
        default_factory=dict,
        description="Target columns beside the identity (the `on` columns of the first pass), the link and what is "
        "compared, target column: source expression. `now()` is the time of the plan.",
    )

    @model_validator(mode="after")
    def _readable(self) -> Missing:
        for name, text in self.insert.items():
            _valid(identifier, name)
            _one_side("s", text, allow_now=True)
        return self


class Also(Part):
    """Further columns of a changed record, set where a condition holds."""

    when: str = Field(description="A condition over both sides that must be true.")
    set: dict[ColumnName, str] = Field(
        min_length=1, description="Target column: expression over both sides. `now()` is the time of the plan."
    )

    @model_validator(mode="after")
    def _readable(self) -> Also:
        _valid(expressions.parse, self.when, "t")
        for name, text in self.set.items():
            _valid(identifier, name)
            _valid(expressions.parse, text, "s", allow_now=True)
        return self


class Changed(Part):
    """What becomes of records that differ from their partner."""

    update: Literal["all"] | list[ColumnName] = Field(
        default_factory=list, description="The columns of `compare` that take the source's value, or all of them."
    )
    also: list[Also] = Field(default_factory=list)

    @model_validator(mode="after")
    def _something(self) -> Changed:
        if not self.update and not self.also:
            raise ValueError("`changed` needs `update` or `also`, or it would change nothing")
        return self


class Cap(Part):
    """How many records may be taken for orphans in one plan; never all of a scope's where it has two or more."""

    share: Share = Field(Decimal("0.05"), description="This share of the records that `when` asks about, or")
    rows: int = Field(10, ge=0, description="this many, whichever is more; counted for each value of `scope`.")


class Orphan(Part):
    """What becomes of target records that the source does not have."""

    when: str | None = Field(None, description="Only records for which this holds; the others are left alone.")
    set: dict[ColumnName, str] = Field(
        min_length=1, description="Target column: expression over the target. `now()` is the time of the plan."
    )
    confirm: int = Field(1, ge=1, le=10, description="How often the source is asked again, seconds apart.")
    cap: Cap = Cap.model_construct(share=Decimal("0.05"), rows=10)

    @model_validator(mode="after")
    def _readable(self) -> Orphan:
        if self.when is not None:
            _one_side("t", self.when)
        for name, text in self.set.items():
            _valid(identifier, name)
            _one_side("t", text, allow_now=True)
        return self


class Backfill(Part):
    """What is done about records that `compare` found missing, changed or orphaned; nothing, unless it stands here."""

    missing: Missing | None = None
    changed: Changed | None = None
    orphan: Orphan | None = None


class Reconciliation(Part):
    """A configured pair of record sets with its rules."""

    name: Name
    title: str = ""
    like: Name | None = Field(None, description="Another reconciliation whose fields this one takes and overrides.")
    scope: ColumnName | None = Field(
        None, description="Nothing is compared, capped or changed across values of this column."
    )
    population: Literal["target", "source"] = "target"
    target: RecordSet
    source: RecordSet
    link: Link | None = None
    cardinality: Literal["many_to_one", "one_to_one"] = "many_to_one"
    passes: list[Pass] = Field(min_length=1, max_length=50, description="The matching rules, strictest first.")
    valid: list[Validity] = Field(default_factory=list)
    compare: dict[ColumnName, str | Comparison] = Field(
        default_factory=dict,
        description="What matched records must agree in, target column: source expression; with a tolerance where "
        "values may differ a little: {source: s.amount, tolerance: 0.01}.",
    )
    backfill: Backfill = Backfill(missing=None, changed=None, orphan=None)
    follow_ups: list[dict[str, str]] = Field(default_factory=list)
    show: list[str] = Field(default_factory=list, description="What people see of a pair, as expressions.")
    interpret: list[Interpretation] = Field(default_factory=list)
    expect: Expectation = Expectation(coverage=None)

    @model_validator(mode="after")
    def _whole(self) -> Reconciliation:
        names = [rule.name for rule in self.passes]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"the pass name {doubled[0]!r} stands twice")
        if self.population == "source" and self.cardinality != "one_to_one":
            raise ValueError("population: source requires cardinality: one_to_one")
        if self.link:
            written = [self.link.column, *self.link.also]
            for name in set(self.target.keys) & set(written):
                raise ValueError(f"the link writes {name!r}, which is the target's key: a row would lose its name")
            if self.link.column in self.link.also:
                raise ValueError(f"`also` names the link column {self.link.column!r} itself")
        if self.link and len(self.source.keys) != 1:
            raise ValueError("a source key that is linked is one column")
        if self.link and self.link.column in self.target.private:
            raise ValueError(
                f"`private` names {self.link.column!r}, which is the link: it holds the source's key, and a record "
                "could not be named any more"
            )
        if self.scope is not None and self.scope in (*self.target.private, *self.source.private):
            raise ValueError(f"`private` names {self.scope!r}, which is the scope: caps are told for each value of it")
        for text in self.show:
            _valid(expressions.parse, text, "t")
        for name, comparison in self.compare.items():
            _valid(identifier, name)
            _one_side("s", comparison if isinstance(comparison, str) else comparison.source)
        self._actions()
        if self.scope is not None:
            _valid(identifier, self.scope)
        if any(rule.name == OVERRIDE for rule in self.passes):
            raise ValueError(f"a pass cannot be called {OVERRIDE!r}: that is the name for decisions of people")
        if self.target.where is not None:
            _one_side("t", self.target.where)
        if self.source.where is not None:
            _one_side("s", self.source.where)
        return self

    def _actions(self) -> None:
        """What `backfill` asks for can be done, and no column takes two values."""
        asked = self.backfill
        for name in ("missing", "changed", "orphan"):
            if getattr(asked, name) is not None and not self.compare:
                raise ValueError(f"`backfill.{name}` needs `compare`: without it no record is found {name}")
        if asked.changed:
            for name in self.updates:
                if name not in self.compare:
                    raise ValueError(f"`update` names {name!r}, which `compare` has not")
            _no_key(self.target.keys, self.updates, "update")
            extra = [name for item in asked.changed.also for name in item.set]
            _no_key(self.target.keys, extra, "also")
            link = [self.link.column, *self.link.also] if self.link else []
            _once([*link, *self.updates, *extra], "a changed record")
        if asked.missing:
            if self.identity is None:
                raise ValueError(
                    "`missing` needs a first pass whose `on` names plain target columns: they are the identity of "
                    "what is inserted"
                )
            link = [self.link.column, *self.link.also] if self.link else []
            _once([*self.identity, *link, *asked.missing.insert], "an inserted record")
            _once([*self.compare, *link, *asked.missing.insert], "an inserted record")
        if asked.orphan:
            _no_key(self.target.keys, asked.orphan.set, "set")
            if not any(rule.on for rule in self.passes):
                raise ValueError(
                    "`orphan` needs a pass with `on`: by it a record is looked up before it is taken for one"
                )

    @property
    def updates(self) -> list[str]:
        """The compared columns that a changed record takes from its source."""
        changed = self.backfill.changed
        if changed is None:
            return []
        return list(self.compare) if changed.update == "all" else list(changed.update)

    @property
    def identity(self) -> dict[str, expressions.Expression] | None:
        """The target columns by which the first pass knows a record, with their source expressions; None where it
        asks for more than plain columns."""
        found: dict[str, expressions.Expression] = {}
        if self.scope is not None:
            found[self.scope] = expressions.parse(quote(self.scope), "s")
        for left, right in self.passes[0].pairs:
            if not isinstance(left.tree, exp.Column):
                return None
            found[left.tree.name] = right
        return found if self.passes[0].pairs else None

    @property
    def has_private(self) -> bool:
        """Whether values of some column are veiled where people look."""
        return bool(self.target.private or self.source.private)

    def canonical(self) -> str:
        """The spec as canonical JSON: the same rules give the same text, however the file is laid out.

        What is private is no part of it. It decides nothing about any record, and whoever finds a column that must be
        veiled must not be kept from it by sign-offs that this would void. What a reviewer saw is signed all the same:
        review.html, with its veils, by its sha256 in plan.json, which also names the columns that were private.
        """
        unread = {"private": True}
        exclude = {"like": True, "title": True, "target": unread, "source": unread}
        document = self.model_dump(mode="json", exclude=exclude)
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def digest(self) -> str:
        """sha256 of the canonical form, in hex."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def pass_named(self, name: str) -> Pass:
        return next(rule for rule in self.passes if rule.name == name)
