"""The part of a spec that says what must be true of its records, beside the plans that make it so."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from recon import expressions
from recon.spec_parts import ColumnName, Name, Part, RecordSet, Share, checked, one_side


class Never(Part):
    """What no record may be: a condition over the target's records, or over those of a query of its own."""

    query: str | None = Field(
        None, description="One SELECT whose rows are asked; default: the target's records, whatever its `where`."
    )
    key: ColumnName | list[ColumnName] | None = Field(None, description="The column or columns that name a row of it.")
    when: str = Field(
        description="A condition over t, those records; one for which it is true must not be. `now()` is the time of the check."
    )

    @model_validator(mode="after")
    def _readable(self) -> Never:
        one_side("t", self.when, allow_now=True)
        if (self.query is None) != (self.key is None):
            raise ValueError("`query` and `key` go together: the rows that are asked, and what names one")
        if self.query is not None and self.key is not None:
            RecordSet(query=self.query, key=self.key)  # pyright: ignore[reportCallIssue]
        return self


class Expectation(Part):
    """What must be true after a backfill."""

    coverage: Share | None = Field(None, description="The least share of the population that must be reconciled.")
    right: dict[Name, str] = Field(
        default_factory=dict,
        description="Conditions over both sides that every linked pair must keep, by name.",
    )
    never: dict[Name, Never] = Field(default_factory=dict, description="What no record may be, by name.")

    @field_validator("right")
    @classmethod
    def _readable(cls, right: dict[str, str]) -> dict[str, str]:
        for text in right.values():
            checked(expressions.parse, text, "t")
        return right
