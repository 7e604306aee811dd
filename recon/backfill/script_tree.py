"""One script of a bundle as a tree, with the few questions that lint asks of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from recon.allowed import Reading
from recon.backfill.change import PLACE, Shape
from recon.database import tables

# Texts that PostgreSQL and sqlglot may read with different ends: escapes and dollar quotes. No script of ours has them.
_ODD_TEXTS = ("BYTE_STRING", "UNICODE_STRING", "HEREDOC_STRING", "RAW_STRING")

Write = exp.Insert | exp.Update | exp.Delete
Name = tuple[str, str]  # schema and table


@dataclass(frozen=True)
class Script:
    """A script beside the plan.json that came with it."""

    name: str
    text: str
    document: dict[str, Any]

    # -- its text ----------------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        return self.text.partition("\n")[0]

    @property
    def body(self) -> str:
        return self.text.partition("\n")[2]

    @cached_property
    def _tokens(self) -> list[sqlglot.Token] | None:
        try:
            return sqlglot.tokenize(self.body, read=Reading)
        except SqlglotError:
            return None

    @property
    def readable(self) -> bool:
        """Whether every text in it ends where PostgreSQL ends it."""
        tokens = self._tokens
        return tokens is not None and not any(token.token_type.name in _ODD_TEXTS for token in tokens)

    @property
    def comments(self) -> list[str]:
        """Comments below the title."""
        return [comment for token in self._tokens or [] for comment in token.comments]

    @cached_property
    def statements(self) -> list[exp.Expr]:
        """What stands in it; nothing where it cannot be read."""
        # What sqlglot does not know it would keep as text, and say so in a log of its own.
        first = (self._tokens or [None])[0]
        if not self.readable or first is None or first.token_type.name == "COMMAND":
            return []
        try:
            return [tree for tree in sqlglot.parse(self.body, dialect=Reading) if tree is not None]
        except (SqlglotError, RecursionError):
            return []

    @property
    def tree(self) -> exp.Expr:
        return self.statements[0]

    # -- what plan.json says of it -----------------------------------------------------------------------

    @property
    def target(self) -> Name:
        target = self.document["target"]
        return target["schema"], target["table"]

    @property
    def staged(self) -> Name:
        return _name(tables.own("staged", self.document["plan"]))

    @property
    def ledger(self) -> Name:
        return _name(tables.own("ledger", self.document["plan"]))

    @property
    def recorded(self) -> Name:
        """The table of recon's own that a change is taken from."""
        return self.ledger if self.name == "revert.sql" else self.staged

    @property
    def keys(self) -> list[str]:
        return list(self.document["target"]["key"])

    @property
    def columns(self) -> list[str]:
        return list(self.document["target"]["columns"])

    @property
    def inserts(self) -> bool:
        """Whether the plan brings new rows."""
        return bool(self.document["actions"].get("insert"))

    # -- its parts ---------------------------------------------------------------------------------------

    @property
    def writes(self) -> list[Write]:
        return list(self.tree.find_all(exp.Insert, exp.Update, exp.Delete))

    def changes(self, *kinds: type[Write]) -> Iterator[Write]:
        """The parts that write the target."""
        for write in self.writes:
            if isinstance(write, kinds or (exp.Insert, exp.Update, exp.Delete)) and written(write) == self.target:
                yield write

    @property
    def ctes(self) -> set[str]:
        return {cte.alias for cte in self.tree.find_all(exp.CTE)}

    def alias_of(self, name: Name, part: exp.Expr) -> str | None:
        """What a table is called among those that a part reads from."""
        for table in _read(part):
            if _name(table) == name:
                return table.alias_or_name
        return None

    def image(self, alias: str, side: str, column: str) -> tuple[str, str]:
        """Where a written column's value is recorded; a column that is not listed has none."""
        number = self.columns.index(column) + 1 if column in self.columns else 0
        return alias, f"{side}_{number}"


def _name(table: exp.Table) -> Name:
    return table.db, table.name


def written(write: Write) -> Name:
    """The table that a part writes."""
    table = write.this.this if isinstance(write.this, exp.Schema) else write.this
    return _name(table) if isinstance(table, exp.Table) else ("", "")


def written_columns(write: Write) -> list[str]:
    """The columns that a part writes, as it names them; of a row that is deleted none."""
    if isinstance(write, exp.Insert):
        names: list[exp.Expr] = write.this.expressions if isinstance(write.this, exp.Schema) else []
        return [name.name for name in names]
    if isinstance(write, exp.Update):
        plain = (exp.Column, exp.Identifier)  # not a part of a column, nor several from one subquery
        return [item.this.name if isinstance(item.this, plain) else item.this.sql() for item in write.expressions]
    return []


def _read(part: exp.Expr) -> Iterator[exp.Table]:
    """The tables that a part itself names in FROM, JOIN or USING."""
    start = part.args.get("from_")
    using: list[exp.Expr] = part.args.get("using") or []
    roots: list[exp.Expr] = [
        *([start.this] if start else []),
        *using,
        *(join.this for join in part.args.get("joins") or []),
    ]
    for root in roots:
        if isinstance(root, exp.Table):
            yield root
        yield from (join.this for join in root.args.get("joins") or [] if isinstance(join.this, exp.Table))


def conditions(part: exp.Expr) -> list[exp.Expr]:
    """The conditions of a part that must all hold."""
    where = part.args.get("where")
    waiting, found = [where.this] if where else [], list[exp.Expr]()
    while waiting:
        node = waiting.pop()
        inner = node.unnest()
        if isinstance(inner, exp.And):
            waiting += [inner.expression, inner.this]
        else:
            found.append(inner)
    return found


def compared(condition: exp.Expr) -> frozenset[tuple[str, str]]:
    """The two columns that a condition compares, as they are or as text."""
    return frozenset(filter(None, (_column(condition.args.get("this")), _column(condition.args.get("expression")))))


def _column(node: exp.Expr | None) -> tuple[str, str] | None:
    while isinstance(node, (exp.Paren, exp.Collate, exp.Cast)):
        if isinstance(node, exp.Cast) and not node.to.is_type(exp.DataType.Type.TEXT):
            return None  # as char(1), say, different values would be equal
        node = node.this
    return (node.table, node.name) if isinstance(node, exp.Column) else None


def bounded(condition: exp.Expr, side: type[exp.Expr], names: list[tuple[str, str]], first: int) -> bool:
    """Whether a condition holds columns (one, or several as one row) within the parameters from a number on."""
    if not isinstance(condition, side):
        return False
    held, bounds = (
        node.expressions if isinstance(node, exp.Tuple) else [node]
        for node in (condition.args["this"], condition.args["expression"])
    )
    numbers = [_parameter(bound) for bound in bounds]
    return [_column(node) for node in held] == names and numbers == list(range(first, first + len(names)))


def _parameter(node: exp.Expr) -> int | None:
    inner = node.this if isinstance(node, exp.Cast) else node
    return int(inner.name) if isinstance(inner, exp.Parameter) and inner.name.isdigit() else None


PLACES = ((exp.GTE, 1), (exp.LTE, 2))


def in_places(script: Script, part: exp.Expr) -> bool:
    """Whether a part takes only the batch's places of recon's own table."""
    alias = script.alias_of(script.recorded, part)
    found = conditions(part)
    return alias is not None and all(
        any(bounded(condition, side, [(alias, PLACE)], first) for condition in found) for side, first in PLACES
    )


def from_places(script: Script, insert: exp.Insert) -> bool:
    """Whether every row that a part inserts comes from the batch's places."""
    bodies = {cte.alias: cte.this for cte in script.tree.find_all(exp.CTE)}
    read = [insert.expression, *(bodies[name] for name in reached(script, [insert]))]
    selects = [select for tree in read for select in tree.find_all(exp.Select)]
    taken = [select for select in selects if script.alias_of(script.recorded, select) is not None]
    return bool(taken) and all(in_places(script, select) for select in taken)


def marks_undone(script: Script, mark: Write) -> bool:
    """Whether a part marks only the places that WITH queries of changes give."""
    start = mark.args.get("from_")
    source = start.this if start else None
    bodies = {cte.alias: cte.this for cte in script.tree.find_all(exp.CTE)}
    if not isinstance(source, exp.Table) or source.db or source.name not in bodies:
        return False
    undoing = {("", write.parent.alias) for write in script.changes() if isinstance(write.parent, exp.CTE)}
    body = bodies[source.name]
    reads = {_name(table) for table in body.find_all(exp.Table)} if isinstance(body, exp.Query) else {_name(source)}
    same = frozenset({(mark.this.alias_or_name, PLACE), (source.alias_or_name, PLACE)})
    held = any(isinstance(item, exp.EQ) and compared(item) == same for item in conditions(mark))
    return held and bool(reads) and reads <= undoing


def key_names(script: Script) -> list[str]:
    """The columns of recon's own tables that hold the target's key."""
    return Shape.of_document(script.document).key_names


def reached(script: Script, parts: Iterable[exp.Expr]) -> set[str]:
    """The WITH queries that some parts take their rows from, directly or through others."""
    bodies = {cte.alias: cte.this for cte in script.tree.find_all(exp.CTE)}
    waiting, found = [part.expression for part in parts if part.args.get("expression")], set[str]()
    while waiting:
        for table in waiting.pop().find_all(exp.Table):
            if not table.db and table.name in bodies and table.name not in found:
                found.add(table.name)
                waiting.append(bodies[table.name])
    return found
