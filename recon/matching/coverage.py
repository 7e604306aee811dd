"""Coverage: the one place that says how much is reconciled, and how a share is written."""

from __future__ import annotations

from collections.abc import Mapping

RECONCILED = ("linked", "matched", "same", "changed")


def coverage(outcomes: Mapping[str, int]) -> float | None:
    """(linked + matched + same + changed) ÷ (population − excluded); None where nothing is left to cover.

    Source: the design, section 1.

    >>> coverage({"linked": 125, "matched": 10})
    1.0
    >>> coverage({"excluded": 3}) is None
    True
    """
    whole = sum(outcomes.values()) - outcomes.get("excluded", 0)
    return sum(outcomes.get(name, 0) for name in RECONCILED) / whole if whole else None


def looked_at(limited: Mapping[str, object] | None) -> str:
    """Which records a limited run looked at, in words; empty for a run of all.

    >>> looked_at({"scope": "a2f5b4d0"}), looked_at({"scope": "a2f5b4d0", "limit": 5})
    ('all records of a2f5b4d0, and of no other', 'a part of the records of a2f5b4d0 only: limit 5')
    >>> looked_at({"from": "2026-01-01"}), looked_at(None)
    ('a part of the records only: from 2026-01-01', '')
    """
    if not limited:
        return ""
    whose = f" of {limited['scope']}" if "scope" in limited else ""
    said = ", ".join(f"{name} {value}" for name, value in limited.items() if name != "scope")
    return f"a part of the records{whose} only: {said}" if said else f"all records{whose}, and of no other"


def statistics(outcomes: Mapping[str, int], errors: int = 0) -> dict[str, int]:
    """The population in the words that people count by (CRM-09); the parts add up to the total, but for `errors` given.

    Args:
        outcomes: records of the population by outcome.
        errors: changes that could not be made, beside records that are invalid.

    >>> statistics({"same": 5, "changed": 2, "missing": 3, "proposed": 1, "invalid": 1}, errors=2)
    {'total': 12, 'matched': 7, 'unmatched': 3, 'proposed': 1, 'ambiguous': 0, 'excluded': 0, 'errors': 3}
    """
    alone = ("unmatched", "missing", "orphan")
    return {
        "total": sum(outcomes.values()),
        "matched": sum(outcomes.get(name, 0) for name in RECONCILED),
        "unmatched": sum(outcomes.get(name, 0) for name in alone),
        **{name: outcomes.get(name, 0) for name in ("proposed", "ambiguous", "excluded")},
        "errors": outcomes.get("invalid", 0) + errors,
    }


def percent(share: float | None, nothing: str = "–") -> str:
    """A share with one decimal; 100.0 % and 0.0 % are said only where they are exact.

    >>> [percent(share) for share in (125 / 135, 1, 99999 / 100000, 1 / 100000, None)]
    ['92.6 %', '100.0 %', '99.9 %', '0.1 %', '–']
    """
    if share is None:
        return nothing
    rounded = round(share * 100, 1)
    if 0 < share < 1:
        rounded = min(max(rounded, 0.1), 99.9)
    return f"{rounded:.1f} %"
