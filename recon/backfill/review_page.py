"""review.html: a plan as one page that opens without a network, on a phone as on paper.

The page forbids itself to load or run anything (Content-Security-Policy); its one style sheet is named by its hash. Every
value is escaped by the template, and what would deceive the eye is spelled out.
"""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import datetime
from importlib import resources

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from recon.backfill import outside_words
from recon.backfill.contents import READING_ORDER, Contents, source_keys
from recon.errors import visible
from recon.matching.coverage import looked_at, percent

_TEMPLATE = resources.files("recon.backfill") / "template"

# What scripts are made of, as sqlglot prints them: names stand in double quotes, words of SQL in capitals.
_SQL = re.compile(
    r"""(?P<comment>--[^\n]*) | (?P<text>'(?:[^']|'')*') | (?P<name>"(?:[^"]|"")*") | (?P<parameter>\$\d+)
    | (?P<word>\b[A-Z][A-Z0-9_]+\b)""",
    re.VERBOSE,
)


def page(contents: Contents) -> str:
    """The page of a plan, without the plan's digest: plan.json lists this very page."""
    style = (_TEMPLATE / "review.css").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                              finalize=_finished)  # fmt: skip
    environment.filters |= {"percent": percent, "sql": highlighted, "count": _count, "moment": _moment}
    template = environment.from_string((_TEMPLATE / "review.html.j2").read_text(encoding="utf-8"))
    return template.render(
        contents=contents,
        looked_at=looked_at(contents.document["run_limited"]),
        plan=contents.document,
        style=Markup(style),
        style_hash=f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'",
        scripts=[(name, contents.scripts[name]) for name in READING_ORDER if name in contents.scripts],
        source_keys=", ".join(source_keys(contents.document)),
        outside=outside_words.written(contents.document["outside"]) if "outside" in contents.document else None,
        written=", ".join(contents.document["target"]["columns"]),
    )


def _finished(value: object) -> object:
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _count(number: int) -> str:
    return f"{number:,}"


def _moment(text: str) -> str:
    """A moment of plan.json (UTC) as people read it."""
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"


def highlighted(text: str) -> Markup:
    """A script as HTML, each kind of token in a span of its own; every character of it is escaped."""
    text, parts, end = visible(text), [Markup("")], 0
    for token in _SQL.finditer(text):
        parts.append(escape(text[end : token.start()]))
        parts.append(Markup('<span class="{}">{}</span>').format(token.lastgroup, token.group()))
        end = token.end()
    return Markup("").join([*parts, escape(text[end:])])
