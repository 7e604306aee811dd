"""What mkdocs asks while it builds the site: which pages a search shows first."""

from __future__ import annotations

from typing import Any

# A stranger searches for how something is done, and not for why it was decided so.
WEIGHTS = {
    "tutorial.md": 4,
    "how_to/": 4,
    "explanation/": 3,
    "reference/": 2,
    "decisions.md": 0.3,
    "requirements.md": 0.2,
}


def on_page_markdown(markdown: str, page: Any, **_others: Any) -> str:
    weight = next((weight for start, weight in WEIGHTS.items() if page.file.src_uri.startswith(start)), 1)
    page.meta.setdefault("search", {"boost": weight})
    return markdown
