"""A drafted spec as YAML text: every name and expression as a string that nothing can break out of, every guess with its reason."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from sqlglot import exp

from recon import expressions
from recon.errors import SpecError, visible
from recon.names import quote

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_WORDS = frozenset("y n yes no on off true false null ~".split())
# What JSON leaves as it is and YAML reads as a line break or a mark.
_BREAKS = {code: f"\\u{code:04x}" for code in (0x7F, *range(0x80, 0xA0), 0x2028, 0x2029, 0xFEFF, 0xFFFE, 0xFFFF)}


def name(value: str) -> str:
    """A column's name in an expression: bare where it is a plain small word that SQL has no use for.

    >>> name("amount"), name("order"), name("Amount")
    ('amount', '"order"', '"Amount"')
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", value):
        return quote(value)
    try:
        tree = expressions.parse(value, "t").tree
    except SpecError:
        return quote(value)
    plain = isinstance(tree, exp.Column) and tree.name == value and not tree.this.args.get("quoted")
    return value if plain and value not in ("t", "s", "key", "nearest") else quote(value)


def text(value: str) -> str:
    """A string as YAML 1.2: bare where it is a plain word, else in double quotes as JSON has it.

    >>> text("invoices"), text("no"), text('a "b": # c')
    ('invoices', '"no"', '"a \\\\"b\\\\": # c"')
    """
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    return "".join(map(_seen, json.dumps(value, ensure_ascii=False).translate(_BREAKS)))


def _seen(sign: str) -> str:
    """A sign that can be seen; others, such as those that turn the direction of what follows, as their number."""
    return sign if sign.isprintable() else f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else f"\\U{ord(sign):08x}"


def expression(value: str) -> str:
    """An expression: in single quotes, which need no escapes, where it is one line of visible signs."""
    if _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    if visible(value) == value and "\n" not in value and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    return text(value)


def folded(field: str, conditions: Sequence[str]) -> list[str]:
    """A field of a pass that all conditions make together, each on a line of its own where nothing in them hinders that."""
    whole = " and ".join(conditions)
    if (
        len(conditions) == 1 or expression(whole) == text(whole) or "  " in whole
    ):  # what YAML must escape, or would fold
        return [f"    {field}: {expression(whole)}"]
    return [f"    {field}: >-", *[f"      {'and ' if place else ''}{item}" for place, item in enumerate(conditions)]]


def comment(said: str) -> str:
    """A line of comment; what a name holds beside letters cannot end it."""
    return "# " + " ".join(visible(said).translate(_BREAKS).split())


def mapping(items: Mapping[str, str]) -> str:
    """A mapping of expressions on one line."""
    return "{" + ", ".join(f"{expression(key)}: {expression(value)}" for key, value in items.items()) + "}"


def sequence(items: Sequence[str]) -> str:
    return "[" + ", ".join(text(item) for item in items) + "]"
