"""How far apart two values lie where records belong together: a round bound that holds nearly all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from recon.database.connect import Session
from recon.drafting.attributes import DAY_SECONDS
from recon.drafting.comparisons import Comparison

HELD = 0.99  # the share of pairs that a window holds
LIFT = (
    4.0  # a ring of a number's window is in it if pairs that belong together lie there so many times as often as others
)
LEAST_PAIRS = 12  # from which a window is read
CLOSE_DAYS, CLOSE_SECONDS, CLOSE_SHARE = 3, 3_600, 0.01  # what is near before anything is known
MINUTE, HOUR = 60, 3_600
_ROUND = (
    0, 1, 5, 10, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 20 * MINUTE, 30 * MINUTE, 45 * MINUTE,
    HOUR, 90 * MINUTE, 2 * HOUR, 3 * HOUR, 4 * HOUR, 6 * HOUR, 8 * HOUR, 12 * HOUR, 18 * HOUR,
)  # fmt: skip
_ROUND_SHARES = (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1)  # of the target's number
_ROUND_DAYS = (1, 2, 3, 4, 5, 6, 7, 10, 14, 21, 30, 31, 45, 60, 90, 120, 180, 270, 366)


@dataclass(frozen=True)
class Reach:
    """How far the source may lie before and after the target, in seconds; a number, by which share of it in either direction."""

    before: float = 0.0
    after: float = 0.0
    share: float | None = None  # 0.05 is five per cent; None: it is a day or a moment

    def tolerance(self) -> str:
        """As a spec writes it."""
        if self.share is not None:
            return f"{self.share * 100:g}%"
        if self.before == self.after:
            return _said(self.before)
        return f"{{before: {_said(self.before)}, after: {_said(self.after)}}}"


def _said(seconds: float) -> str:
    whole = int(seconds)
    for unit, size in (("day", DAY_SECONDS), ("hour", HOUR), ("minute", MINUTE), ("second", 1)):
        if whole % size == 0 and (whole or unit == "day"):
            return f"{whole // size} {unit}{'' if whole // size == 1 else 's'}"
    return f"{whole} seconds"


def learn(session: Session, comparisons: Sequence[Comparison], links: str, taught: str) -> dict[int, Reach]:
    """The window of each comparison of days, moments or numbers, from pairs that surely belong together.

    Args:
        links: the table of such pairs: t, s.
        taught: pairs that are not improbable: t, s, and p, how probable.
    """
    found: dict[int, Reach] = {}
    for item in comparisons:
        if item.target.form.family == "number":
            if (share := _share(session, item, taught)) is not None:
                found[item.number] = Reach(share=share)
            continue
        if item.target.form.family not in ("day", "time"):
            continue
        apart = f"s.v{item.source.number} - t.v{item.target.number}"
        low, high, count = session.rows(
            f"SELECT percentile_disc({(1 - HELD) / 2}) WITHIN GROUP (ORDER BY {apart}),"  # noqa: S608
            f" percentile_disc({(1 + HELD) / 2}) WITHIN GROUP (ORDER BY {apart}), count({apart})"
            f" FROM {links} AS sure JOIN recon_draft_looks_t AS t ON t.rid = sure.t"
            " JOIN recon_draft_looks_s AS s ON s.rid = sure.s"
        )[0]
        if count >= LEAST_PAIRS:
            days = item.target.form.family == "day"
            found[item.number] = Reach(_rounded(max(-low, 0.0), days=days), _rounded(max(high, 0.0), days=days))
    return found


def _share(session: Session, item: Comparison, taught: str) -> float | None:
    """By which share of the target's number two may differ that belong together; None: too few pairs say anything.

    The window grows ring by ring for as long as they lie in it more often than any two records do: fees end somewhere, and
    amounts that are wholly other lie anywhere.
    """
    t, s = f"t.v{item.target.number}", f"s.v{item.source.number}"
    rings = f"width_bucket(abs({s} - {t}) / nullif(abs({t}), 0), ARRAY{[bound * (1 + 1e-9) + 1e-12 for bound in _ROUND_SHARES]}::float8[])"
    counts: list[dict[int, float]] = []
    for pairs, counted in ((taught, "p"), ("recon_draft_random", "1")):
        rows = session.rows(
            f"SELECT {rings} AS ring, sum({counted}) FROM {pairs} AS pair"  # noqa: S608
            f" JOIN recon_draft_looks_t AS t ON t.rid = pair.t JOIN recon_draft_looks_s AS s ON s.rid = pair.s"
            f" WHERE {s} IS NOT NULL AND {t} <> 0 GROUP BY 1"
        )
        counts.append({int(ring): float(count) for ring, count in rows})
    belong, random = counts
    if sum(belong.values()) < LEAST_PAIRS or not random:
        return None
    held = 0.0
    for ring, bound in enumerate(_ROUND_SHARES[1:], start=1):  # ring 0: equal
        m = belong.get(ring, 0.0) / sum(belong.values())
        u = (random.get(ring, 0.0) + 0.5) / (sum(random.values()) + 1)
        if m >= LIFT * u:
            held = bound
    return held


def _rounded(seconds: float, *, days: bool) -> float:
    """The next round bound that holds it."""
    steps = [number * DAY_SECONDS for number in _ROUND_DAYS]
    for bound in [0, *steps] if days else [*_ROUND, *steps]:
        if seconds <= bound:
            return float(bound)
    return float(-(-seconds // DAY_SECONDS) * DAY_SECONDS)


def of(item: Comparison, reach: Mapping[int, Reach]) -> Reach:
    """The window of a comparison; a usual one where it could not be read from pairs."""
    usual = {"number": Reach(share=CLOSE_SHARE), "day": Reach(CLOSE_DAYS * DAY_SECONDS, CLOSE_DAYS * DAY_SECONDS)}
    return reach.get(item.number) or usual.get(item.target.form.family, Reach(CLOSE_SECONDS, CLOSE_SECONDS))


def inside(item: Comparison, reach: Mapping[int, Reach]) -> str:
    """The condition on the temporary tables that the source lies within the window."""
    window = of(item, reach)
    if window.share is not None:
        t = f"t.v{item.target.number}"
        return f"abs({t} - s.v{item.source.number}) <= {window.share} * abs({t})"
    apart = f"s.v{item.source.number} - t.v{item.target.number}"
    return f"{apart} BETWEEN {-window.before} AND {window.after}"
