"""How many requests a stand-in answers in a while, before it says 429."""

from __future__ import annotations

import math
import time
from collections import deque
from dataclasses import dataclass, field


@dataclass
class Rate:
    """At most so many requests within so many seconds; one more is refused, and waits as long as it is told.

    Args:
        most: requests within the window.
        seconds: how long the window is.
        says: whether a refusal says for how long (Retry-After); Airtable does not always.
    """

    most: int
    seconds: float
    says: bool = True
    refused: int = 0
    _times: deque[float] = field(default_factory=deque[float])

    def headers_of_refusal(self) -> dict[str, str] | None:
        """What a refusal says in its headers; None where the request is answered."""
        now = time.monotonic()
        while self._times and self._times[0] <= now - self.seconds:
            self._times.popleft()
        if len(self._times) < self.most:
            self._times.append(now)
            return None
        self.refused += 1
        left = self._times[0] + self.seconds - now
        return {"Retry-After": f"{math.ceil(left * 1000) / 1000}"} if self.says else {}
