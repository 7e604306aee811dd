"""A reconciliation as data: which records, which rules, what to change. One spec, one YAML file.

The same classes serve a spec written in Python. What a field means is said in its description, which is
also what editors show, through `recon schema`. The parts stand in `spec_parts` and `spec_actions`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator
from sqlglot import exp

from recon import expressions
from recon.names import identifier, quote
from recon.spec_actions import Backfill, FollowUp
from recon.spec_expect import Expectation
from recon.spec_parts import (
    OVERRIDE,
    ColumnName,
    Comparison,
    Link,
    Name,
    Part,
    Pass,
    RecordSet,
    checked,
    no_key,
    once,
    one_side,
)

_LATER = ("into", "columns", "encoding", "delimiter", "outside", "sheet")  # fields that older versions did not know


class Interpretation(Part):
    """A sentence for people about a matched pair; the first whose condition holds is said."""

    when: str = Field(description="A condition over both sides.")
    say: str = Field(description="The sentence; {expression} parts are filled in.")

    @model_validator(mode="after")
    def _readable(self) -> Interpretation:
        checked(expressions.parse, self.when, "t")
        checked(expressions.parse_template, self.say)
        return self


class Validity(Part):
    """A rule that a source record must keep; what fails becomes an import issue."""

    rule: str = Field(description="A condition over s; a record for which it is not true is invalid.")
    issue: Annotated[str, StringConstraints(min_length=1)] = Field(description="What is wrong, in words.")

    @model_validator(mode="after")
    def _readable(self) -> Validity:
        one_side("s", self.rule)
        return self


class Reconciliation(Part):
    """A configured pair of record sets with its rules."""

    name: Name = Field(
        description="What it is called on the command line, in addresses and in the database; its file has the same name."
    )
    title: str = Field("", description="What people read above its screens and reports; default: its name.")
    like: Name | None = Field(
        None, description="Another reconciliation whose fields this one takes and overrides; all but its group."
    )
    group: Name | None = Field(None, description="The system it is part of: one command reconciles all of a group.")
    scope: ColumnName | None = Field(
        None, description="Nothing is compared, capped or changed across values of this column."
    )
    population: Literal["target", "source"] = Field(
        "target", description="The side whose records must all be reconciled; over it coverage is counted."
    )
    target: RecordSet = Field(description="The records that are repaired.")
    source: RecordSet = Field(description="The records that are trusted.")
    link: Link | None = Field(
        None, description="The target's column that holds the source's key; absent: nothing is linked, only compared."
    )
    cardinality: Literal["many_to_one", "one_to_one"] = Field(
        "many_to_one",
        description="Whether several targets may have the same source (many_to_one), or each only one (one_to_one).",
    )
    passes: list[Pass] = Field(min_length=1, max_length=50, description="The matching rules, strictest first.")
    valid: list[Validity] = Field(
        default_factory=list, description="What a source record must keep to be written; what fails is an import issue."
    )
    compare: dict[ColumnName, str | Comparison] = Field(
        default_factory=dict,
        description="What matched records must agree in, target column: source expression; with a tolerance where "
        "values may differ a little: {source: s.amount, tolerance: 0.01}; and where an empty source value is no "
        "difference: {source: s.email, skip_empty: true}.",
    )
    backfill: Backfill = Field(
        Backfill(missing=None, changed=None, orphan=None),
        description="What a plan does about records that `compare` found missing, changed or orphaned; default: nothing.",
    )
    follow_ups: list[FollowUp] = Field(
        default_factory=list, description="Jobs for the target's records, each done once at its time."
    )
    show: list[str] = Field(default_factory=list, description="What people see of a pair, as expressions.")
    interpret: list[Interpretation] = Field(
        default_factory=list,
        description="Sentences that explain a matched pair to people; the first that holds is said.",
    )
    expect: Expectation = Field(
        Expectation(coverage=None), description="What must be true after a backfill; `recon verify` proves it."
    )

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
        self._outside()
        if (
            self.target.landing
            and self.target.landing == self.source.landing
            and self.target.origin != self.source.origin
        ):
            raise ValueError(f"both sides would be loaded into {self.target.landing}: name another table with `into`")
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
            checked(expressions.parse, text, "t")
        for name, comparison in self.compare.items():
            checked(identifier, name)
            one_side("s", comparison if isinstance(comparison, str) else comparison.source)
            if isinstance(comparison, Comparison) and comparison.unless is not None:
                checked(expressions.parse, comparison.unless, "t")
        self._actions()
        jobs = Counter(item.job for item in self.follow_ups)
        for job, count in jobs.items():
            if count > 1:
                raise ValueError(f"`follow_ups` names the job {job!r} twice: a record has one job of a name")
        if self.scope is not None:
            checked(identifier, self.scope)
        if any(rule.name == OVERRIDE for rule in self.passes):
            raise ValueError(f"a pass cannot be called {OVERRIDE!r}: that is the name for decisions of people")
        if self.target.where is not None:
            one_side("t", self.target.where)
        if self.source.where is not None:
            one_side("s", self.source.where)
        return self

    def _outside(self) -> None:
        """What goes to an outside system is one change of a record that is there."""
        outside = self.target.outside
        if self.source.outside:
            raise ValueError("`outside` stands with the target: the source is trusted, and never written")
        if outside is None:
            return
        if self.backfill.missing or self.backfill.orphan:
            raise ValueError("`outside` takes links and changes of records; `missing` and `orphan` are for tables only")
        if outside.record is None and len(self.target.keys) != 1:
            raise ValueError("`outside` needs `record`, the column of a record's id there: the key is several columns")
        written = [*([self.link.column, *self.link.also] if self.link else []), *self.updates]
        for name in outside.fields:
            checked(identifier, name)
            if name not in written:
                raise ValueError(f"`outside.fields` names {name!r}, which no plan of this spec writes")
        for field, count in Counter(outside.fields.values()).items():
            if not field.strip():
                raise ValueError("`outside.fields` names a field without a name")
            if count > 1:
                raise ValueError(f"`outside.fields` gives two columns to {field!r}, which can take one")

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
            no_key(self.target.keys, self.updates, "update")
            extra = [name for item in asked.changed.also for name in item.set]
            no_key(self.target.keys, extra, "also")
            link = [self.link.column, *self.link.also] if self.link else []
            once([*link, *self.updates, *extra], "a changed record")
        if asked.missing:
            if self.identity is None:
                raise ValueError(
                    "`missing` needs a first pass whose `on` names plain target columns: they are the identity of "
                    "what is inserted"
                )
            link = [self.link.column, *self.link.also] if self.link else []
            once([*self.identity, *link, *asked.missing.insert], "an inserted record")
            once([*self.compare, *link, *asked.missing.insert], "an inserted record")
        if asked.orphan:
            no_key(self.target.keys, asked.orphan.set, "set")
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
    def only_finds(self) -> bool:
        """Whether nothing can be planned of it: it finds and proposes, and people act on that elsewhere."""
        asked = self.backfill
        return self.link is None and not (asked.missing or asked.changed or asked.orphan)

    @property
    def has_private(self) -> bool:
        """Whether values of some column are veiled where people look."""
        return bool(self.target.private or self.source.private)

    def canonical(self) -> str:
        """The spec as canonical JSON: the same rules give the same text, however the file is laid out.

        What is private, and what a record is called, is no part of it. It decides nothing about any record, and whoever finds a column that must be
        veiled must not be kept from it by sign-offs that this would void. What a reviewer saw is signed all the same:
        review.html, with its veils, by its sha256 in plan.json, which also names the columns that were private.
        """
        unread = {"private": True, "called": True}
        exclude = {"like": True, "title": True, "group": True, "target": unread, "source": unread}
        document = self.model_dump(mode="json", exclude=exclude)
        for side in ("target", "source"):  # what a spec does not use leaves its digest as older versions wrote it
            for name in _LATER:
                if document[side][name] == RecordSet.model_fields[name].get_default(call_default_factory=True):
                    del document[side][name]
        if not self.expect.never:
            del document["expect"]["never"]
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @property
    def digest(self) -> str:
        """sha256 of the canonical form, in hex."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def pass_named(self, name: str) -> Pass:
        return next(rule for rule in self.passes if rule.name == name)
