"""Names of tables and columns as SQL: the one function that quotes, and how a table's name is read."""

from __future__ import annotations

import re
from typing import Literal

from sqlglot import exp

from recon.errors import SpecError

DIALECT = "postgres"
Side = Literal["t", "s"]  # target and source, as every statement calls them
_HALF = re.compile("[\ud800-\udfff]")  # half a character, which no UTF-8 holds
MAX_IDENTIFIER_BYTES = 63  # PostgreSQL cuts longer names silently (NAMEDATALEN - 1), so we refuse them


def storable(text: str) -> bool:
    """Whether PostgreSQL can hold a text: it has no NUL, and is whole Unicode, which an argument of a command need not be.

    >>> storable("Bödecker"), storable("a\\x00b"), storable("\\udcff")
    (True, False, False)
    """
    return "\x00" not in text and (text.isascii() or not _HALF.search(text))


def identifier(name: str) -> exp.Identifier:
    """The one function that turns a name into SQL: always quoted, refused where PostgreSQL would change it.

    >>> identifier('order"; drop table x; --').sql("postgres")
    '"order""; drop table x; --"'
    """
    if not name:
        raise SpecError("A name is empty.", todo="Give the table or column its name.")
    if not storable(name):
        raise SpecError(f"The name {name!r} holds a NUL or half a character.", why="PostgreSQL has no such names.")
    if len(name.encode()) > MAX_IDENTIFIER_BYTES:
        raise SpecError(
            f'The name "{name}" is {len(name.encode())} bytes long.',
            why=f"PostgreSQL cuts names after {MAX_IDENTIFIER_BYTES} bytes, so it could mean another one.",
            todo=f"Use a name of at most {MAX_IDENTIFIER_BYTES} bytes.",
        )
    return exp.Identifier(this=name, quoted=True)


def quote(name: str) -> str:
    """A name as quoted SQL text, through `identifier`."""
    return identifier(name).sql(DIALECT)


def split_relation(name: str) -> tuple[str | None, str]:
    """Schema and table of a name such as `hubspot.companies`; parts that hold dots stand in double quotes.

    >>> split_relation("hubspot.companies"), split_relation('"odd.schema"."odd.table"')
    (('hubspot', 'companies'), ('odd.schema', 'odd.table'))
    >>> split_relation('order"; drop table x; --')
    (None, 'order"; drop table x; --')
    """
    if name.startswith('"'):
        parts = [part.replace('""', '"') for part in re.findall(r'"((?:[^"]|"")*)"', name)]
        if ".".join(f'"{part.replace(chr(34), chr(34) * 2)}"' for part in parts) != name:
            raise SpecError(
                f"Cannot read the table name {name}.",
                why="A name that starts with a double quote must be quoted part by part.",
                todo='Write it like "my.schema"."my table", doubling double quotes inside.',
            )
    else:
        parts = name.split(".")
    if len(parts) > 2 or not all(parts):
        raise SpecError(
            f"Cannot read the table name {name}.",
            why="A table is named by at most a schema and a table, divided by one dot.",
            todo='Put a part that holds a dot in double quotes: "odd.schema"."odd.table".',
        )
    for part in parts:
        identifier(part)
    return (parts[0], parts[1]) if len(parts) == 2 else (None, parts[0])


def operand(tree: exp.Expr) -> exp.Expr:
    """The tree as one operand of whatever it is put into: in brackets, where it is more than a name or a call."""
    atoms = (exp.Column, exp.Literal, exp.Paren, exp.Null, exp.Boolean, exp.Func)
    whole = isinstance(tree, atoms) and not isinstance(tree, exp.Binary)  # some functions are written as operators
    return tree.copy() if whole or isinstance(tree, exp.Collate) else exp.paren(tree.copy())


def column(table: str, name: str) -> exp.Column:
    """A quoted column of a quoted table alias."""
    return exp.Column(this=identifier(name), table=identifier(table))
