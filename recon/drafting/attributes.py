"""Columns in the forms in which they may agree: each an expression of the spec, kept as a hash beside its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from recon import expressions
from recon.database import relations
from recon.database.connect import Session
from recon.database.relations import Relation
from recon.drafting import forms
from recon.drafting.forms import Form
from recon.drafting.kinds import Kind
from recon.drafting.reading import Looked
from recon.names import DIALECT, Side, quote

MOSTLY = 0.9  # the share of a column's values that must read as a number or a day to be taken for one
SOMETIMES = 0.05  # the share of records from which it means something that a column is empty
OFTEN = 0.5  # the share of values with digits from which digits alone are looked at
PHONE_DIGITS = 8  # of a telephone number, the last ones: what is left where country and area are written or not
HEAD = 4  # characters at the beginning, or the end, by which two texts with one slip of the pen still agree
DAY_SECONDS = 86_400
# Attributes of a side: each takes up to three columns of a temporary table, and a row must fit in one page.
MOST_ATTRIBUTES = 400


@dataclass(frozen=True)
class Attribute:
    """A column in one form. `number` names it in the temporary tables of its side."""

    number: int
    side: Side
    kind: Kind
    form: Form

    @property
    def column(self) -> str:
        return self.kind.name

    @property
    def measured(self) -> bool:
        """Whether two values lie some distance apart."""
        return self.form.family in ("number", "day", "time")

    @property
    def spelled(self) -> bool:
        """Whether it is a text of letters, which may be misspelt."""
        return self.form.name == "letters" and self.kind.lettered * 2 > self.kind.filled

    def expression(self, *, bare: bool = False) -> str:
        return self.form.of(self.column, self.side, bare=bare)


def of(looked: Looked, *, without: Sequence[str] = ()) -> list[Attribute]:
    """Every column in every form that its values allow, at most MOST_ATTRIBUTES; columns of one value tell nothing.

    Args:
        looked: the side.
        without: columns that are no evidence, such as the link.
    """
    told: list[tuple[Kind, list[Form]]] = []
    for kind in looked.kinds:
        if kind.distinct < 2 or kind.name in without:
            continue
        found_forms = _forms(kind)
        if SOMETIMES < kind.missing < 1 - SOMETIMES:
            found_forms += [forms.or_nothing(form) for form in found_forms if form.name in ("letters", "digits")]
        told.append((kind, found_forms))
    # Of a very wide side the columns that tell most apart, in the order of the side.
    left = MOST_ATTRIBUTES
    taken: set[str] = set()
    for kind, found_forms in sorted(told, key=lambda item: -item[0].distinct):
        left -= len(found_forms)
        if left < 0:
            break
        taken.add(kind.name)
    found: list[Attribute] = []
    for kind, found_forms in told:
        for form in found_forms if kind.name in taken else ():
            found.append(Attribute(len(found), looked.side, kind, form))
    return found


def _forms(kind: Kind) -> list[Form]:
    base = kind.base
    if base in ("int2", "int4", "int8"):
        if kind.days == kind.filled:
            return [forms.day(base)]
        return [forms.same(base), forms.letters(), forms.digits(), forms.number(base)]
    if base in ("numeric", "float4", "float8"):
        return [forms.number("numeric" if base == "numeric" else base)]
    if base in ("timestamp", "timestamptz"):
        return [forms.day(base), forms.time(base)]
    if base == "date":
        return [forms.day(base)]
    said = max(kind.filled - kind.blank, 1)
    if base != "text":
        return [forms.same(base), forms.letters()]
    if kind.days >= MOSTLY * said:
        return [forms.day("text", month_first=kind.month_first > kind.day_first)]
    if kind.divided and kind.numbers >= MOSTLY * said and kind.zeros < (1 - MOSTLY) * said:
        found = [forms.number("text", dots_part_thousands=kind.only_commas > 0)]
        if kind.commas or kind.only_commas:
            return found
        # C-1001 reads as an amount in a currency; that it is a number of another kind than A-1001 must not be lost.
        lettered = [forms.letters()] if kind.lettered else []
        return [forms.same("text", blank=kind.blank > 0), *lettered, forms.digits(), *found]
    found = [forms.same("text", blank=kind.blank > 0), forms.letters()]
    if kind.digits >= OFTEN * said:
        found.append(forms.digits())
    if kind.long_digits >= OFTEN * said:
        found.append(forms.tail(PHONE_DIGITS))
    return found


def relation(session: Session, looked: Looked) -> Relation:
    return relations.table(session, f"pg_temp.{looked.table}", looked.side)


def tree(attribute: Attribute, known: Relation) -> exp.Expr:
    """The expression resolved against the side's table, as matching will resolve it."""
    side = attribute.side
    parsed = expressions.parse(attribute.expression(), side)
    return expressions.resolve(parsed, {side: known.columns}, {side: known.label})


def keep(session: Session, looked: Looked, attributes: Sequence[Attribute], key: Sequence[str]) -> str:
    """A temporary table of the side's records: their number, and each attribute as a hash and (measured) a number.

    Two values have one hash if they are equal; that two others have it too is one chance in many billions.
    """
    known = relation(session, looked)
    side = looked.side
    columns, texts = ["(row_number() OVER ())::int AS rid"], ["NULL AS none"]
    for attribute in attributes:
        number, value = attribute.number, f"x{attribute.number}"
        texts.append(f"{tree(attribute, known).sql(DIALECT)} AS {value}")
        shown = f"trim_scale({value})" if attribute.form.family == "number" else value
        columns.append(f"hashtextextended(({shown})::text, 0) AS a{number}")
        if attribute.form.family == "number":
            columns.append(f"{value}::float8 AS v{number}")
        elif attribute.measured:
            columns.append(f"extract(epoch FROM {value})::float8 AS v{number}")
        if attribute.spelled:
            columns.append(f"hashtext(left({value}, {HEAD})) AS p{number}")
            columns.append(f"hashtext(right({value}, {HEAD})) AS q{number}")
    for number, name in enumerate(key):
        column = expressions.parse(f"{side}.{quote(name)}", side)
        text = expressions.resolve(column, {side: known.columns}, {side: known.label}).sql(DIALECT)
        texts.append(f"{text} AS y{number}")
        columns.append(f"hashtextextended(y{number}::text, 0) AS k{number}")
    table = f"recon_draft_looks_{side}"
    once = f"SELECT {', '.join(texts)} FROM {known.aliased(side).sql(DIALECT)} OFFSET 0"  # noqa: S608 (each evaluated once)
    session.execute(
        f"CREATE TEMPORARY TABLE {table} ON COMMIT DROP AS SELECT {', '.join(columns)} FROM ({once}) AS written"  # noqa: S608
    )
    session.execute(f"CREATE UNIQUE INDEX ON {table} (rid)")
    session.execute(f"ANALYZE {table}")
    return table
