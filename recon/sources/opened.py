"""A file of records as a load reads it, whatever its kind: a heading, and records with the row that each stands on."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from recon import extras
from recon.names import storable

Fields = list[str | None]


@dataclass(frozen=True)
class Broken:
    """What stands where a record should be, and why it is none."""

    reason: str
    field: int | None = None  # which one, from 0; None: the whole record


@dataclass(frozen=True)
class Opened:
    """A file that is open.

    Args:
        heading: the names of its columns, in the order of each record's fields.
        records: gives each with the number of the row it stands on, as who opens the file sees it; fields are text as
            PostgreSQL reads it, None where there is nothing. It is told the columns that are wanted: of others nothing
            need be read. To be called once.
        far: how far reading is, and how far it goes.
        types: what the file itself says of its columns, as PostgreSQL types; nothing is said of the others.
        row: what such a number counts: a line of a text, or a row.
    """

    heading: Sequence[str]
    records: Callable[[Collection[str]], Iterator[tuple[int, Fields | Broken]]]
    far: Callable[[], tuple[int, int]]
    types: Mapping[str, str] = field(default_factory=dict[str, str])
    row: str = "row"


NUL = "it holds a NUL, which no text of PostgreSQL can"
HALF = "it holds half a character, which no text of PostgreSQL can"


def unstorable(fields: Fields) -> Broken | None:
    """Which of the fields PostgreSQL cannot hold, and why; None: it can hold all."""
    for place, text in enumerate(fields):
        if text is not None and not storable(text):
            return Broken(NUL if "\x00" in text else HALF, place)
    return None


def library(name: str, file: str) -> Any:
    """A library that reads a kind of file. Raises MissingExtra where it is not installed."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise extras.missing(name, f"The file {file}") or error from error
