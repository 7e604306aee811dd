"""recon: match two sets of records, explain what does not match, and backfill with signed SQL.

The Python API is here: `recon.open` gives a workbench whose methods are the commands of the command line. Nothing of it is
imported before it is asked for, so that `import recon` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recon.version import __version__

if TYPE_CHECKING:
    from recon import errors
    from recon.api import Workbench, demo, draft, init, open, schema, scratch, table
    from recon.errors import ReconError
    from recon.spec import Reconciliation

__all__ = [
    "ReconError",
    "Reconciliation",
    "Workbench",
    "__version__",
    "demo",
    "draft",
    "errors",
    "init",
    "open",
    "schema",
    "scratch",
    "table",
]

_ELSEWHERE = {"ReconError": "recon.errors", "Reconciliation": "recon.spec"}


def __getattr__(name: str) -> Any:
    if name not in __all__:  # submodules are found by the import system
        raise AttributeError(f"module 'recon' has no attribute {name!r}")
    if name == "errors":
        return import_module("recon.errors")
    return getattr(import_module(_ELSEWHERE.get(name, "recon.api")), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
