"""Where the service's lines of the log go: one JSON document for each request, and plain lines that name the request."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TextIO

from recon.service.middleware import WithRequest


class Lines(logging.Formatter):
    """Lines whose times are in UTC, as those of the documents beside them, wherever the machine is."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        return f"{datetime.fromtimestamp(record.created, UTC):%Y-%m-%d %H:%M:%SZ}"


def to(stream: TextIO) -> None:
    """Write the log to a stream. What is not ours speaks up for warnings only: at other levels it tells addresses and more."""
    lines = logging.StreamHandler(stream)
    lines.setFormatter(Lines("%(asctime)s %(request)s%(message)s"))
    lines.addFilter(WithRequest())
    logging.basicConfig(level=logging.WARNING, handlers=[lines])
    logging.getLogger("recon").setLevel(logging.INFO)
    requests = logging.getLogger("recon.access")
    requests.propagate = False  # each line is a whole document
    documents = logging.StreamHandler(stream)
    documents.setFormatter(logging.Formatter("%(message)s"))
    requests.addHandler(documents)
