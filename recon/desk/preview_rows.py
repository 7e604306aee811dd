"""The rows that a plan would write, as people read them: pages, counts and sums, all made in the database.

Every value that people see of a planned row comes out of `_images`, `_shown` or `_about`, which veil what is private.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from sqlglot import exp

from recon import expressions
from recon.backfill import executor
from recon.backfill.change import ACTION, PLACE, Shape
from recon.backfill.veils import Veils
from recon.database.connect import Database, Session
from recon.errors import BundleChanged, ReconError
from recon.matching import pairs
from recon.matching.bind import bind
from recon.matching.bound import Bound
from recon.matching.privacy import behind_veil, veiled
from recon.names import DIALECT, Side, column, identifier
from recon.spec import Reconciliation

PAGE_ROWS = 25
SHOWN_CHARACTERS = 1_000  # of a value that may be long; changes.csv has all of it
DOWNLOADED_ROWS = 10_000  # a person reads no more, and the browser holds the file; changes.csv has every row
NUMERIC = 1700  # PostgreSQL's number for the type of exact decimals, which money is kept in
# Fetched as they are, so that numbers and dates stay numbers and dates in a download; others as text.
_TYPED = frozenset("int2 int4 int8 numeric bool date uuid timestamp timestamptz".split())


@dataclass(frozen=True)
class Image:
    """One written column of a row, before and after."""

    column: str
    before: Any
    after: Any
    changes: bool


@dataclass(frozen=True)
class Row:
    """One planned row."""

    place: int
    key: str | None  # None where the database makes it when the row is inserted
    source: str | None  # None where the row has no partner
    action: str
    rule: str | None  # the pass; None where no pass is behind it
    confidence: Any
    images: tuple[Image, ...]
    shown: tuple[Any, ...]  # what `show` names, as it is now
    about: str | None


@dataclass(frozen=True)
class Group:
    """The rows of one pass and one action; `sums` are those of `Planned.sums`."""

    rule: str | None
    action: str
    rows: int
    lowest: float | None  # confidence, 0 to 1
    highest: float | None
    sums: tuple[Decimal | None, ...]


@dataclass(frozen=True)
class Sum:
    """An amount that is added up: what stands above it, and the expression, over planned, t and s."""

    label: str
    tree: exp.Expr


@dataclass(frozen=True)
class Filter:
    """Which rows: of these passes (an empty text: of no pass) and actions; none: all."""

    passes: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()

    def lets_through(self, item: Group | Row) -> bool:
        return (not self.passes or (item.rule or "") in self.passes) and (
            not self.actions or item.action in self.actions
        )


@dataclass(frozen=True)
class Planned:
    """The staged rows of a plan or a draft, and what may be seen beside them."""

    staged: exp.Table
    shape: Shape
    types: Mapping[str, str]  # of the staged columns
    bound: Bound | None  # None: the spec does not fit this database, and nobody knows what is private
    seen: Veils  # over the written columns, and over what was said of each row
    labels: tuple[str, ...]  # of what `show` names
    sums: tuple[Sum, ...]
    problem: ReconError | None = None  # why there is no `bound`

    @property
    def hidden(self) -> frozenset[str]:
        """The written columns whose values people may not see."""
        return self.seen.columns

    def headings(self) -> list[str]:
        """The columns of a download."""
        images = [f"{name} {side}" for name in self.shape.columns for side in ("before", "after")]
        return ["record", "source", "action", "pass", "confidence", *images, *self.labels, "about"]


# -- opening ---------------------------------------------------------------------------------------------


def of(
    session: Session,
    spec: Reconciliation | None,
    staged: exp.Table,
    shape: Shape,
    seen: Veils,
    *,
    shows_private: bool = False,
) -> Planned:
    """Staged rows, made ready to be looked at.

    Args:
        session: where the staged table is.
        spec: the reconciliation; None where it cannot be read.
        staged: the table of planned rows.
        shape: its columns.
        seen: what may not be seen of the rows. Where the spec cannot be read, or does not fit the database, nothing may:
            nobody knows what is private then.
        shows_private: whether `show` may show private columns: `workspace.sees_private`.

    Raises:
        BundleChanged: the staged rows are not there.
    """
    session.plain_path()
    types = dict(session.rows(_TYPES, staged.sql(DIALECT)))
    if not {PLACE, ACTION, *shape.key_names, *shape.images} <= types.keys():
        raise BundleChanged(
            "The planned rows are gone from the database.",
            why="Somebody dropped or altered the table that holds them.",
            todo="Make a new plan with `recon plan`.",
        )
    bound: Bound | None = None
    problem: ReconError | None = None
    if spec is not None:
        try:
            with session.driver.transaction():  # what fails here must not keep the rest from being read
                bound = bind(session, spec, shows_private=shows_private)
        except ReconError as error:
            problem = error
        session.plain_path()
    labels = tuple(pairs.labels(bound.spec.show)) if bound else ()
    seen = seen if bound else Veils(frozenset(shape.columns), interpretation=True)
    found = Planned(staged, shape, types, bound, seen, labels, (), problem)
    return replace(found, sums=tuple(_sums(session, found))) if bound else found


_TYPES = """
    SELECT attname::text, typname::text FROM pg_attribute JOIN pg_type ON pg_type.oid = atttypid
    WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped
"""


def _sums(session: Session, found: Planned) -> Iterator[Sum]:
    """The amounts: what `show` names and what is written, where it is an exact decimal and may be seen."""
    assert found.bound is not None
    shown = _shown(found.bound)
    if shown:
        query = exp.Select(expressions=[exp.alias_(tree.copy(), f"shown_{n}") for n, tree in enumerate(shown)])
        described = session.execute(_joined(found, query, ("t", "s")).limit(0).sql(DIALECT)).description or []
        for label, tree, kind in zip(found.labels, shown, described, strict=True):
            if kind.type_code == NUMERIC:
                yield Sum(label, tree)
    for number, name in enumerate(found.shape.columns, 1):
        if found.types[f"after_{number}"] == "numeric" and name not in found.hidden:
            for side in ("before", "after"):
                yield Sum(f"{name} {side}", column("planned", f"{side}_{number}"))


# -- what may be seen ------------------------------------------------------------------------------------


def _images(found: Planned) -> list[exp.Expr]:
    """Before, after, and whether they differ, of each written column."""
    trees: list[exp.Expr] = []
    for number, name in enumerate(found.shape.columns, 1):
        before, after = (column("page", f"{side}_{number}") for side in ("before", "after"))
        for image in (before, after):
            trees.append(behind_veil(image) if name in found.hidden else _short(image, found.types[image.name]))
        trees.append(exp.NullSafeNEQ(this=_text(before), expression=_text(after)))
    return trees


def _shown(bound: Bound) -> list[exp.Expr]:
    """What `show` names."""
    return [veiled(bound, bound.resolve(expressions.parse(text, "t"))) for text in bound.spec.show]


def _about(found: Planned) -> exp.Expr:
    """The interpretation as it was frozen, with its veils."""
    about = column("page", "interpretation")
    return behind_veil(about) if found.seen.interpretation else _short(about, "text")


def _short(tree: exp.Expr, kind: str) -> exp.Expr:
    if kind in _TYPED:
        return tree.copy()
    return exp.Anonymous(this="left", expressions=[_text(tree), exp.Literal.number(SHOWN_CHARACTERS)])


def _text(tree: exp.Expr) -> exp.Expr:
    return exp.cast(tree.copy(), "text")


# -- counts, sums, pages ---------------------------------------------------------------------------------


def totals_statement(found: Planned) -> str:
    """How rows are counted and amounts added up, for each pass and action."""
    trees = [item.tree for item in found.sums]
    confidence = exp.cast(column("planned", "confidence"), "float8")
    grouped = [column("planned", "pass"), column("planned", ACTION)]
    query = exp.Select(
        expressions=[
            *grouped, exp.Count(this=exp.Star()), exp.Min(this=confidence), exp.Max(this=confidence.copy()),
            *[exp.Sum(this=tree.copy()) for tree in trees],
        ]
    )  # fmt: skip
    read = {node.table for tree in trees for node in exp.Paren(this=tree.copy()).find_all(exp.Column)}
    sides: tuple[Side, ...] = ("t", "s")
    query = _joined(found, query, [side for side in sides if side in read])
    return query.group_by(*[tree.copy() for tree in grouped]).sql(DIALECT, pretty=True)


def totals(session: Session, found: Planned) -> tuple[Group, ...]:
    """Every group of rows, the surest first, as passes come in a spec."""
    groups = [
        Group(rule, action, rows, lowest, highest, tuple(sums))
        for rule, action, rows, lowest, highest, *sums in session.rows(totals_statement(found))
    ]
    return tuple(sorted(groups, key=lambda item: (-(item.highest or 0), item.rule or "", item.action)))


def page_statement(found: Planned) -> str:
    """How a page is read: $1 passes, $2 actions (each NULL: all), $3 how many rows, $4 how many before them."""
    passes, actions, rows, before = (exp.Parameter(this=exp.Literal.number(number)) for number in range(1, 5))
    rule = exp.Coalesce(this=column("planned", "pass"), expressions=[exp.Literal.string("")])
    chosen = (
        exp.Select(expressions=[exp.Star()])
        .from_(_aliased(found.staged, "planned"))
        .where(_any_of(rule, passes), _any_of(column("planned", ACTION), actions))
        .order_by(column("planned", PLACE))
        .limit(exp.cast(rows, "bigint"))
        .offset(exp.cast(before, "bigint"))
    )
    said = [column("page", name) for name in (PLACE, ACTION, "pass", "confidence")]
    keys = [_text(column("page", name)) for name in (*found.shape.key_names, *found.shape.source_key_names)]
    shown = [] if found.bound is None else _shown(found.bound)
    query = exp.Select(expressions=[*said, _about(found), *keys, *_images(found), *shown]).with_("page", as_=chosen)
    query = query.from_(exp.Table(this=exp.to_identifier("page"), alias=exp.TableAlias(this=identifier("page"))))
    query = _with_records(found, query, "page", ("t", "s") if shown else ())
    return query.order_by(column("page", PLACE)).sql(DIALECT, pretty=True)


def page_values(chosen: Filter, number: int, size: int = PAGE_ROWS) -> list[Any]:
    """What stands for the parameters of `page_statement`.

    Args:
        chosen: which rows.
        number: of the page, from 1.
        size: rows of a page.
    """
    return [list(chosen.passes) or None, list(chosen.actions) or None, size, (number - 1) * size]


def page(session: Session, found: Planned, values: Sequence[Any]) -> list[Row]:
    """Rows in the order in which they would be written."""
    return [_row(found.shape, row) for row in session.rows(page_statement(found), *values)]


def downloaded(database: Database, found: Planned, chosen: Filter) -> Iterator[list[Any]]:
    """The rows of a filter for a file, the first 10,000, under `Planned.headings`."""
    with database.session(read_only=True) as session:
        session.plain_path()
        rows = page(session, found, page_values(chosen, 1, DOWNLOADED_ROWS))
    yield from (cells(row) for row in rows)


def cells(row: Row) -> list[Any]:
    """A row under `Planned.headings`."""
    images = [value for item in row.images for value in (item.before, item.after)]
    return [row.key, row.source, row.action, row.rule, row.confidence, *images, *row.shown, row.about]


def _row(shape: Shape, row: tuple[Any, ...]) -> Row:
    place, action, rule, confidence, about, *rest = row
    keys, sources, images = len(shape.keys), len(shape.source_keys), 3 * len(shape.columns)
    values = rest[keys + sources : keys + sources + images]
    return Row(
        place,
        _key(rest[:keys]),
        _key(rest[keys : keys + sources]),
        action,
        rule,
        confidence,
        tuple(
            Image(name, before, after, changes)
            for name, before, after, changes in zip(shape.columns, values[::3], values[1::3], values[2::3], strict=True)
        ),
        tuple(rest[keys + sources + images :]),
        about,
    )


def _key(parts: Sequence[Any]) -> str | None:
    return None if any(part is None for part in parts) else executor.shown(parts)


def _any_of(tree: exp.Expr, parameter: exp.Expr) -> exp.Expr:
    listed = exp.cast(parameter.copy(), "text[]")
    within = exp.EQ(this=tree, expression=exp.Any(this=exp.paren(listed)))
    return exp.or_(exp.Is(this=listed.copy(), expression=exp.Null()), within)


def _aliased(table: exp.Table, alias: str) -> exp.Table:
    return exp.Table(this=table.this, db=table.args["db"], alias=exp.TableAlias(this=identifier(alias)))


def _joined(found: Planned, query: exp.Select, sides: Sequence[Side]) -> exp.Select:
    return _with_records(found, query.from_(_aliased(found.staged, "planned")), "planned", sides)


def _with_records(found: Planned, query: exp.Select, rows: str, sides: Sequence[Side]) -> exp.Select:
    """The query with the records of these sides beside each planned row, where they are still there."""
    for side in sides:
        assert found.bound is not None
        names = found.shape.key_names if side == "t" else found.shape.source_key_names
        same = [
            exp.EQ(this=key, expression=column(rows, name))
            for key, name in zip(found.bound.keys(side), names, strict=True)
        ]
        query = query.join(found.bound.relation[side].aliased(side), on=exp.and_(*same), join_type="left")
    return query
