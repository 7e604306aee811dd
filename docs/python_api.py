"""The reference page of the Python API, made from its docstrings: `python docs/python_api.py` writes it anew."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import recon
from recon import api
from recon.api.backfill import Backfill
from recon.api.matching import Matching
from recon.api.people import People
from recon.api.place import Place
from recon.api.running import Running

PAGE = Path(__file__).parent / "reference" / "python.md"
MADE = "<!-- Made by docs/python_api.py from the docstrings of recon/api: change them there, then run `make reference`. -->"
PARTS = {
    "The place": Place,
    "Match, and ask why": Matching,
    "What people say": People,
    "Plan, sign, apply, prove, undo": Backfill,
    "The whole way, mirrors, reports, schedules": Running,
}
INTRO = """\
`import recon` costs nothing; what is asked of it is imported then. `recon.open` gives a workbench: a workspace, its database, and
a method for each command of the command line, by the same words. A method returns what the command shows: typed results, or a
pandas DataFrame where rows are many. It writes only what the command would write, by the same checks: `apply` and `revert` are
dry runs without `execute=True`, and the author of a plan cannot approve it.

```python
import recon

with recon.open("my-workspace") as bench:  # RECON_DATABASE_URL, else the embedded database
    run = bench.match("payments")  # every record gets its decision
    print(f"{run.coverage:.1%} reconciled")
    plan = bench.plan("payments")  # None where nothing would change
    if plan:
        foreseen = bench.apply(plan.plan)  # a dry run; after a reviewer's yes: execute=True
```

- Whoever acts is RECON_USER, as for commands; `bench.acting("bob")` is the same place for somebody else. It is a record of who
  acts, not a proof: for a proof, plans are [signed with an SSH key](../sign-off.md).
- What is wrong is raised as an error of [`recon.errors`](errors.md), with `what`, `why` and `todo`; all are a `recon.ReconError`.
- Where a method takes the name of a reconciliation for rules to be tried (`check`, `match`, `explain`, `what_if`, …), it takes a
  spec too: `bench.spec(NAME, passes=[…])` is one with other fields, and `recon.Reconciliation` makes one from nothing.
- Days are `datetime.date`, times have a zone and are UTC, money is `Decimal`. Private columns are veiled as everywhere.
- A group (`bench.members("crm")`) is a loop over its members. What a library of an extra is needed for says which to install.
- `recon notebook`, `recon serve` and `recon worker` hold the terminal until Ctrl-C, and have no method.

The examples below run in the tests, in a workspace where the sample of the rent payments was loaded and matched once."""


def page() -> str:
    """The text of the page."""
    functions = [name for name in api.__all__ if name != "Workbench"]
    parts = ["# Python API", MADE, INTRO, "## Functions"]
    parts += [part for name in functions for part in _entry(f"recon.{name}", getattr(api, name))]
    parts += ["## Workbench", _paragraphs(inspect.getdoc(recon.Workbench) or "")]
    for title, owner in PARTS.items():
        parts.append(f"## {title}")
        for name, method in vars(owner).items():
            function = method.fget if isinstance(method, property) else method
            if not name.startswith("_") and callable(function):
                parts += _entry(name, function, "" if isinstance(method, property) else None)
    return "\n\n".join(parts) + "\n"


def _entry(name: str, function: Callable[..., Any], shape: str | None = None) -> Iterator[str]:
    yield f"### {name}"
    yield f"```python\n{name if shape == '' else name + _signature(function)}\n```"
    yield _paragraphs(inspect.getdoc(function) or "")


def _signature(function: Callable[..., Any]) -> str:
    found = inspect.signature(function)
    kept = [part for part in found.parameters.values() if part.name != "self"]
    text = re.sub(r"<function .*? at 0x[0-9a-f]+>", "…", str(found.replace(parameters=kept)))
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)  # annotations are kept as text


def _paragraphs(text: str) -> str:
    """A docstring as Markdown: its sections as lists, its example as code."""
    words, mark, example = text.partition(">>> ")
    found: list[str] = []
    for block in re.split(r"\n{2,}", words.strip()):
        heading, _, lines = block.partition("\n")
        if heading in ("Args:", "Raises:", "Returns:"):
            found.append(f"{heading.rstrip(':').replace('Args', 'Arguments')}:\n\n{_items(lines)}")
        else:
            found.append(" ".join(block.split()))
    if mark:
        found.append(f"```python\n{mark}{example.rstrip().replace('  # doctest: +SKIP', '')}\n```")
    return "\n\n".join(found)


def _items(lines: str) -> str:
    """The lines of a section: one item for each that is not the rest of the one before."""
    items: list[str] = []
    for line in inspect.cleandoc(lines).splitlines():
        if line.startswith(" ") and items:
            items[-1] += f" {line.strip()}"
        else:
            items.append(line)
    return "\n".join(f"- {re.sub(r'^([A-Za-z_, ]+): ', _named, item)}" for item in items)


def _named(found: re.Match[str]) -> str:
    names = ", ".join(f"`{name.strip()}`" for name in found[1].split(","))
    return f"{names}: "


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
