"""What all notebook apps share: an error in place of a view, sentences and tables as HTML; every value is escaped."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from recon.errors import ReconError
from recon.reports.tables import escape

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_CODE = re.compile("`([^`]+)`")

# Colours are see-through, so that they serve on a light and on a dark page; none of them carries meaning alone.
STYLE = """<style>
.rx { font-size: 0.875rem; line-height: 1.45; max-width: 80rem; }
.rx h2 { font-size: 1.5rem; font-weight: 500; margin: 0.5rem 0; font-family: var(--marimo-heading-font, inherit); }
.rx table { border-collapse: collapse; width: 100%; }
.rx th, .rx td { padding: 0.35rem 0.75rem; text-align: left; vertical-align: top; border-bottom: 1px solid rgb(128 128 128 / 0.22); }
.rx thead th { font-weight: 600; border-bottom-width: 2px; }
.rx tbody th { font-weight: 500; white-space: nowrap; }
.rx .sides tbody th { white-space: normal; overflow-wrap: anywhere; max-width: 22rem; }
.rx .number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.rx .quiet { opacity: 0.65; }
.rx .scroll { overflow-x: auto; }
.rx .value { overflow-wrap: anywhere; }
.rx .chip { display: inline-block; padding: 0 0.5rem; border-radius: 1rem; font-size: 0.78rem; font-weight: 600; white-space: nowrap; }
.rx .good { background: rgb(22 163 74 / 0.16); } .rx .doubt { background: rgb(217 119 6 / 0.2); }
.rx .bad { background: rgb(220 38 38 / 0.15); } .rx .none { background: rgb(128 128 128 / 0.18); }
.rx .bar { height: 0.7rem; min-width: 2px; border-radius: 2px; }
.rx .bar.good { background: #16a34a; } .rx .bar.doubt { background: #d97706; }
.rx .bar.bad { background: #dc2626; } .rx .bar.none { background: #808080; }
.rx tr.reason td, .rx tr.reason th { padding-top: 0.1rem; border-bottom-color: transparent; font-size: 0.82rem; }
.rx tr.reason th { padding-left: 2rem; font-weight: 400; }
.rx ol { list-style: none; margin: 0; padding: 0; }
.rx li { display: grid; grid-template-columns: 1.6rem 9.5rem 1fr; gap: 0.2rem 0.75rem; padding: 0.5rem 0.75rem; border-left: 3px solid transparent; border-bottom: 1px solid rgb(128 128 128 / 0.22); }
.rx li.here { border-left-color: currentColor; background: rgb(128 128 128 / 0.07); }
.rx li .sentence { grid-column: 3; }
.rx pre { white-space: pre-wrap; margin: 0; font-size: 0.8rem; }
</style>"""


def attempt(
    function: Callable[_Arguments, _Result], *args: _Arguments.args, **kwargs: _Arguments.kwargs
) -> tuple[_Result | None, ReconError | None]:
    """Call a function; its result, or the ReconError that a cell shows in its place."""
    try:
        return function(*args, **kwargs), None
    except ReconError as error:
        return None, error


def problem_html(problem: ReconError) -> str:
    """An error's three parts: what happened, why, and what to do next."""
    what, why, todo = problem.parts
    parts = [f"<strong>{prose(what)}</strong>", prose(why), prose(todo)]
    return "".join(f"<p style='margin: 0.2rem 0'>{part}</p>" for part in parts)


def private_html(note: str | None) -> str:
    """What must be said of private columns, as a line above all else; nothing where there is nothing to say."""
    return f'<p><span class="chip doubt">◐ private</span> {prose(note)}</p>' if note else ""


def prose(text: str) -> str:
    """A sentence as HTML; what stands between backticks is code.

    >>> prose("Run `recon match <name>` first.")
    'Run <code>recon match &lt;name&gt;</code> first.'
    """
    return _CODE.sub(r"<code>\1</code>", escape(text))


def framed(inner: str) -> str:
    """HTML with the style of the apps around it."""
    return f'{STYLE}<div class="rx">{inner}</div>'
