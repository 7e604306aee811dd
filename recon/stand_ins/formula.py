"""The few Airtable formulas that the stand-in understands; all others are refused, never guessed.

formula    := both | NOT(formula) | AND(formula, …) | OR(formula, …)
both       := operand = operand
operand    := RECORD_ID() | BLANK() | {field} | 'text' | "text"
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Holds = Callable[[str, Mapping[str, Any]], bool]  # of a record's id and its fields
_Operand = Callable[[str, Mapping[str, Any]], Any]

_TOKEN = re.compile(
    r"""\s*(?:(?P<name>[A-Z_]+)\s*(?=\()|(?P<field>\{(?:\\.|[^}\\])*\})|(?P<text>'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*")"""
    r"""|(?P<sign>[(),=]))""",
    re.DOTALL,
)


class Unreadable(Exception):
    """The formula is not one of those above."""


def parse(text: str) -> tuple[Holds, set[str]]:
    """Whether a record satisfies the formula, and the fields that it names. Raises Unreadable.

    >>> holds, fields = parse("AND(OR(RECORD_ID()='rec1', RECORD_ID()='rec2'), {Job}=BLANK())")
    >>> holds("rec1", {}), holds("rec1", {"Job": "job_1"}), holds("rec3", {}), fields
    (True, False, False, {'Job'})
    """
    reader = _Reader(text)
    holds = reader.formula()
    reader.end()
    return holds, reader.fields


class _Reader:
    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        self.fields: set[str] = set()
        at = 0
        while text[at:].strip():
            found = _TOKEN.match(text, at)
            if found is None:
                raise Unreadable(text)
            self._tokens.append((str(found.lastgroup), found[str(found.lastgroup)]))
            at = found.end()
        self._tokens.append(("end", ""))

    def formula(self) -> Holds:
        kind, name = self._tokens[0]
        if kind == "name" and name in ("AND", "OR", "NOT"):
            self._tokens.pop(0)
            parts = self._arguments(self.formula)
            if name == "NOT":
                if len(parts) != 1:
                    raise Unreadable(name)
                return lambda record, fields: not parts[0](record, fields)
            combine = all if name == "AND" else any
            return lambda record, fields: combine(part(record, fields) for part in parts)
        left = self._operand()
        self._take("sign", "=")
        right = self._operand()
        return lambda record, fields: left(record, fields) == right(record, fields)

    def end(self) -> None:
        self._take("end", "")

    def _operand(self) -> _Operand:
        kind, text = self._tokens.pop(0)
        if kind == "name" and text in ("RECORD_ID", "BLANK"):
            self._take("sign", "(")
            self._take("sign", ")")
            return (lambda record, _: record) if text == "RECORD_ID" else (lambda _record, _fields: "")
        if kind == "field":
            name = re.sub(r"\\(.)", r"\1", text[1:-1])
            self.fields.add(name)
            return lambda _record, fields: "" if fields.get(name) is None else fields[name]  # blank equals empty there
        if kind == "text":
            value = re.sub(r"\\(.)", r"\1", text[1:-1])
            return lambda _record, _fields: value
        raise Unreadable(text)

    def _arguments(self, read: Callable[[], Holds]) -> list[Holds]:
        self._take("sign", "(")
        found = [read()]
        while self._tokens[0] == ("sign", ","):
            self._tokens.pop(0)
            found.append(read())
        self._take("sign", ")")
        return found

    def _take(self, kind: str, text: str) -> None:
        if self._tokens.pop(0) != (kind, text):
            raise Unreadable(text)
