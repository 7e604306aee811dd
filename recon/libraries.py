"""Large libraries are imported without what they would build at their import and nobody here asks for."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager

# jsonschema, which Great Expectations and papermill import, looks for this package, which JupyterLab brings, and has it build
# 38 grammars of international addresses: more than a second, and nothing here checks the format `iri`.
UNASKED = "rfc3987_syntax"


@contextmanager
def lean() -> Generator[None]:
    """As long as it lasts, what is imported takes that package for one that is not installed."""
    if UNASKED in sys.modules:
        yield
        return
    sys.modules[UNASKED] = None  # pyright: ignore[reportArgumentType]  # how Python says: an import of it fails
    try:
        yield
    finally:
        sys.modules.pop(UNASKED, None)
