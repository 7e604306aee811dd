"""The parts of a spec that say what is done: with missing, changed and orphaned records, and after a record is right."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from pydantic import Field, model_validator

from recon import expressions
from recon.names import identifier
from recon.spec_parts import ColumnName, Name, Part, Share, checked, one_side


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
            checked(identifier, name)
            one_side("s", text, allow_now=True)
        return self


class Also(Part):
    """Further columns of a changed record, set where a condition holds."""

    when: str = Field(description="A condition over both sides that must be true.")
    set: dict[ColumnName, str] = Field(
        min_length=1, description="Target column: expression over both sides. `now()` is the time of the plan."
    )

    @model_validator(mode="after")
    def _readable(self) -> Also:
        checked(expressions.parse, self.when, "t")
        for name, text in self.set.items():
            checked(identifier, name)
            checked(expressions.parse, text, "s", allow_now=True)
        return self


class Changed(Part):
    """What becomes of records that differ from their partner."""

    update: Literal["all"] | list[ColumnName] = Field(
        default_factory=list, description="The columns of `compare` that take the source's value, or all of them."
    )
    also: list[Also] = Field(
        default_factory=list, description="Further columns of a changed record, each set under a condition of its own."
    )

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
    cap: Cap = Field(
        Cap.model_construct(share=Decimal("0.05"), rows=10),
        description="How many records may be taken for orphans in one plan; more are refused.",
    )

    @model_validator(mode="after")
    def _readable(self) -> Orphan:
        if self.when is not None:
            one_side("t", self.when)
        for name, text in self.set.items():
            checked(identifier, name)
            one_side("t", text, allow_now=True)
        return self


class Backfill(Part):
    """What is done about records that `compare` found missing, changed or orphaned; nothing, unless it stands here."""

    missing: Missing | None = Field(None, description="Source records that the target lacks are inserted.")
    changed: Changed | None = Field(None, description="Records that differ from their partner take its values.")
    orphan: Orphan | None = Field(None, description="Target records that the source does not have are changed.")


class FollowUp(Part):
    """A job for each target record, done once at its time; it moves when the time moves."""

    job: Name = Field(
        description="What is done: its name among the installed ones (entry point group recon.follow_ups)."
    )
    at: str = Field(
        description="When, an expression over the target that gives a timestamptz; a time already past: at once; NULL: not "
        "at all."
    )
    when: str | None = Field(
        None,
        description="Only while this holds for the record; else its job is dropped. `now()` is the time of the look.",
    )
    if_gone: Literal["drop", "run"] = Field(
        "drop", description="What becomes of the job when its record is gone from the target: dropped, or run at once."
    )

    @model_validator(mode="after")
    def _readable(self) -> FollowUp:
        one_side("t", self.at, allow_now=True)
        if self.when is not None:
            one_side("t", self.when, allow_now=True)
        return self
