"""Cursors: where the next page of a list begins, as a text that is sent back as it came."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query

from recon.errors import UsageError
from recon.names import storable

LONGEST = 4_000  # characters; keys of records are short
USUAL_ROWS, MOST_ROWS = 50, 500

Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="Rows of a page.")]
Cursor = Annotated[
    str | None,
    Query(max_length=LONGEST, pattern=r"^[A-Za-z0-9_-]+$", description="`next` of the page before; absent: the first page."),
]  # fmt: skip


def written(of: str, behind: Sequence[Any] | None) -> str | None:
    """A place in a list as a cursor; None where there is no next page.

    Args:
        of: the list and all that it hangs on, so that no other takes the cursor.
        behind: behind what the next page begins.
    """
    if behind is None:
        return None
    text = json.dumps([of, *behind], ensure_ascii=True, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read(of: str, cursor: str | None) -> list[Any] | None:
    """Behind what the page begins; None: it is the first.

    Raises:
        UsageError: it is no cursor of this list.

    >>> read("runs of a", written("runs of a", ["x", None]))
    ['x', None]
    """
    if cursor is None:
        return None
    try:
        found = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, list) or found[:1] != [of] or not _plain(found):
        raise UsageError(
            "This is no cursor of this list.", todo="Send `next` of the page before with the same question."
        )
    return found[1:]


def _plain(found: list[Any]) -> bool:
    """Texts, nothing, and lists of texts: what a place is made of, and the database can hold."""
    parts = [part for item in found for part in (item if isinstance(item, list) else [item])]
    return all(part is None or (isinstance(part, str) and storable(part)) for part in parts)
