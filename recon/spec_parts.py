"""The parts of a spec that say which records meet and by which rules: sides, windows, passes."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import PurePath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, field_validator, model_validator

from recon import expressions, tolerances
from recon.errors import SpecError
from recon.names import Side, identifier, quote, split_relation
from recon.tolerances import Tolerance

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,47}$")]
ColumnName = Annotated[str, StringConstraints(min_length=1)]


def _exact_decimal(value: object) -> object:
    # A YAML float is read through its text, so that 0.95 stays 0.95.
    return Decimal(str(value)) if isinstance(value, float) else value


OVERRIDE = "override"  # in place of a pass's name, for what a person decided

Share = Annotated[Decimal, BeforeValidator(_exact_decimal), Field(ge=0, le=1)]


def checked(read: Any, text: Any, *arguments: object, **options: object) -> Any:
    """Check a text with one of the readers of `recon.expressions`; pydantic wants a ValueError."""
    try:
        read(text, *arguments, **options)
    except SpecError as error:
        raise ValueError(str(error)) from error
    return text


class Part(BaseModel):
    """What all parts share: unknown fields are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=False)


LANDING = "bronze"  # the schema of what was loaded as it came


def _landed(name: str) -> str:
    """The table of a name in the schema of what was loaded; in quotes where a dot would cut it.

    >>> _landed("company"), _landed("export.v2")
    ('bronze.company', '"bronze"."export.v2"')
    """
    return f"{quote(LANDING)}.{quote(name)}" if "." in name or '"' in name else f"{LANDING}.{name}"


PARQUET, WORKBOOKS = (".parquet",), (".xlsx", ".xlsm", ".xls", ".ods")  # endings of files that are no text


def file_kind(name: str) -> Literal["text", "parquet", "workbook"]:
    """What a file is, by its ending.

    >>> file_kind("bronze/Pay.XLSX"), file_kind("pay.parquet"), file_kind("pay.csv")
    ('workbook', 'parquet', 'text')
    """
    ending = PurePath(name).suffix.lower()
    return "parquet" if ending in PARQUET else "workbook" if ending in WORKBOOKS else "text"


class Outside(Part):
    """Where else the target's records live: an outside system that takes what a plan writes, before the table does."""

    system: Name = Field(description="Its name among the installed ones, such as hubspot or airtable.")
    object: Annotated[str, StringConstraints(min_length=1)] = Field(
        description="What the records are called there: a table, or a kind of record."
    )
    record: ColumnName | None = Field(
        None, description="The target's column that holds a record's id there; default: the key."
    )
    fields: dict[ColumnName, str] = Field(
        default_factory=dict,
        description="The written columns that go there, target column: field; default: all, by their own names.",
    )


class RecordSet(Part):
    """One side: where its records are and how one is known."""

    table: str | None = Field(None, description="A table or view, with its schema where it is not the default.")
    query: str | None = Field(
        None,
        description="One SELECT; its rows are the records. With `api` and `into` it reads what was loaded, and may join "
        "what the outside system does not know.",
    )
    writes: str | None = Field(None, description="The table that a backfill writes when records come from a query.")
    file: str | None = Field(
        None,
        description="A file, relative to the workspace; `recon load` brings it in. By its ending it is Parquet (.parquet), "
        "a workbook (.xlsx, .xlsm, .xls, .ods), or else text such as CSV.",
    )
    api: str | None = Field(
        None, description="The outside system that records are fetched from; `recon load` brings them in."
    )
    into: str | None = Field(
        None,
        description="The table that records of a file or an outside system are loaded into; default: in schema bronze, "
        "the file's name in small letters without a leading bronze_, or the system's name.",
    )
    columns: dict[ColumnName, str] = Field(
        default_factory=dict,
        description="The columns of a file and their PostgreSQL types; others are not loaded. Default: all, as text; those "
        "of a Parquet file as its own types. A column that the link writes is loaded too, and made where the file lacks it.",
    )
    encoding: str = Field("utf-8", description="How a file's text is written, such as utf-8 or cp1252.")
    delimiter: str = Field(",", min_length=1, max_length=1, description="What stands between a file's fields.")
    sheet: str | None = Field(None, description="The sheet of a workbook; default: the first that is not hidden.")
    key: ColumnName | list[ColumnName] = Field(description="The column or columns by which a record is known.")
    where: str | None = Field(None, description="Only records for which this holds take part.")
    date: ColumnName | None = Field(None, description="The column that --from and --to filter.")
    called: Name | None = Field(None, description="What people call one of these records, such as reservation.")
    private: list[ColumnName] = Field(
        default_factory=list, description="Columns whose values are veiled wherever people look."
    )

    outside: Outside | None = Field(
        None, description="The outside system that holds these records too: a plan writes it before the table."
    )

    @property
    def landing(self) -> str | None:
        """The table that takes what `recon load` brings in; None where nothing is loaded."""
        if self.file and not self.into:
            return _landed(PurePath(self.file).stem.lower().removeprefix(f"{LANDING}_"))
        if self.api and not self.into:
            return _landed(self.api)
        return self.into

    @property
    def relation(self) -> str | None:
        """The table that holds the records; None where they come from a query."""
        return None if self.query else self.table or self.landing

    @property
    def is_loaded(self) -> bool:
        """Whether `recon load` brings the records in."""
        return self.landing is not None

    @property
    def origin(self) -> str:
        """Where the records come from, in a word: a table, a query, a file or an outside system."""
        return self.table or self.file or self.api or self.query or ""

    @property
    def keys(self) -> list[str]:
        return [self.key] if isinstance(self.key, str) else list(self.key)

    @model_validator(mode="after")
    def _one_origin(self) -> RecordSet:
        if self.api and self.query:
            if self.table or self.file or not self.into:
                raise ValueError("`query` beside `api` reads what was loaded: name that table with `into`")
        elif sum(value is not None for value in (self.table, self.query, self.file, self.api)) != 1:
            raise ValueError("give exactly one of table, query, file or api")
        if self.api and self.writes:
            raise ValueError("writes goes with a query of the target; what an outside system holds is not written")
        if self.writes and not self.query:
            raise ValueError("writes goes with query: a table is written itself")
        if self.into and not (self.file or self.api):
            raise ValueError("into goes with file or api: the table that the records are loaded into")
        if self.columns and not self.file:
            raise ValueError("columns goes with file: the columns and their types")
        if (self.encoding, self.delimiter) != ("utf-8", ",") and not self.file:
            raise ValueError("encoding and delimiter go with file")
        if self.file and (self.encoding, self.delimiter) != ("utf-8", ",") and file_kind(self.file) != "text":
            raise ValueError("encoding and delimiter go with a text file: this one says itself how it is written")
        if self.sheet is not None and (not self.file or file_kind(self.file) != "workbook"):
            raise ValueError(f"sheet goes with a workbook, a file that ends in {', '.join(WORKBOOKS)}")
        if self.outside and not (self.table or self.writes):
            raise ValueError("outside goes with a table, or a query that `writes` one")
        if not self.keys or len(set(self.keys)) != len(self.keys):
            raise ValueError("key names at least one column, and each only once")
        for name in (self.table, self.writes, self.into):
            if name is not None:
                checked(split_relation, name)
        for name in (*self.keys, *([self.date] if self.date else []), *self.private, *self.columns):
            checked(identifier, name)
        for name in self.private:
            if name in self.keys:
                raise ValueError(f"`private` names {name!r}, which is a key: a record could not be named any more")
        if self.query:
            checked(expressions.parse_query, self.query)
        return self


class Link(Part):
    """The column that holds the link; it is only ever written where it is NULL."""

    column: ColumnName = Field(description="The target's column that takes the source key.")
    also: dict[ColumnName, str] = Field(default_factory=dict, description="Further target columns set with the link.")

    @field_validator("also")
    @classmethod
    def _readable(cls, also: dict[str, str]) -> dict[str, str]:
        for name, text in also.items():
            checked(identifier, name)
            checked(expressions.parse, text, "s")
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
            checked(tolerances.parse, amount)
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
        one_side("t", self.target)
        one_side("s", self.source)
        return self


class Comparison(Window):
    """A compared column whose values may differ a little, or of which an empty source says nothing."""

    source: str = Field(description="The source's value.")
    tolerance: Amount | Sides = Field("0", description="How far the values may differ, as in `within`.")
    skip_empty: bool = Field(
        False,
        description="An empty value of the source (NULL, or a text of nothing but blanks) says nothing: the two records "
        "are the same in this column whatever the target holds, and nothing is written over it.",
    )
    unless: str | None = Field(
        None,
        description="A condition over both sides (t. and s.): where it holds, the source says nothing about this column, as "
        "with `skip_empty`.",
    )


class Pass(Part):
    """One matching rule."""

    name: Name = Field(description="What the rule is called in decisions, screens and reports.")
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
                one_side("t", left)
                one_side("s", right)
        else:
            for name in self.on:
                checked(identifier, name)
        if self.when is not None:
            checked(expressions.parse, self.when, "t")
        for term in self.prefer:
            checked(expressions.parse_prefer, term)
        if not self.windows and any(term.word == "nearest" for term in self.preferences):
            raise ValueError("`prefer: nearest` is the smallest distance of the first `within`, and there is none")
        return self


def no_key(keys: Iterable[str], names: Iterable[str], where: str) -> None:
    for name in set(keys) & set(names):
        raise ValueError(f"`{where}` writes {name!r}, which is the target's key: a row would lose its name")


def once(names: list[str], what: str) -> None:
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ValueError(f"the column {doubled[0]!r} of {what} would take two values")


def one_side(side: Side, text: str, *, allow_now: bool = False) -> None:
    checked(expressions.parse, text, side, allow_now=allow_now)
    if expressions.parse(text, side, allow_now=allow_now).sides() - {side}:
        raise ValueError(
            f"{text!r} stands for the {'target' if side == 't' else 'source'} and may name only its columns"
        )
