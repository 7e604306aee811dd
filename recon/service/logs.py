"""Where the service's lines of the log go: one JSON document for each request, and plain lines that name the request."""

from __future__ import annotations

import logging
from typing import TextIO

from recon.service.middleware import WithRequest


def to(stream: TextIO) -> None:
    """Write the log to a stream. What is not ours speaks up for warnings only: at other levels it tells addresses and more."""
    lines = logging.StreamHandler(stream)
    lines.setFormatter(logging.Formatter("%(asctime)s %(request)s%(message)s"))
    lines.addFilter(WithRequest())
    logging.basicConfig(level=logging.WARNING, handlers=[lines])
    logging.getLogger("recon").setLevel(logging.INFO)
    requests = logging.getLogger("recon.access")
    requests.propagate = False  # each line is a whole document
    documents = logging.StreamHandler(stream)
    documents.setFormatter(logging.Formatter("%(message)s"))
    requests.addHandler(documents)
