"""Outcomes and reasons as people read them."""

from __future__ import annotations

_OUTCOME_ICONS = {
    "linked": "✓", "matched": "✓", "same": "✓", "changed": "≠", "proposed": "?", "ambiguous": "≈",
    "unmatched": "✗", "orphan": "✗", "missing": "✗", "excluded": "–", "invalid": "!",
}  # fmt: skip
_REASONS = {  # of a record of either side: the population may be the source
    "tie": "tie: equally good candidates",
    "review": "a person must confirm",
    "taken": "its candidate is taken",
    "already_linked": "its candidate is linked already",
    "forbidden": "forbidden by a person",
    "out_of_tolerance": "out of tolerance",
    "when_false": "the condition does not hold",
    "excluded": "left out by a person",
    "invalid": "the source record breaks a rule",
    "conflict": "a person's decision that the data contradicts",
    "no_candidate": "the other side has no such key",
    "null_key": "a field it is matched by is empty",
}


def outcome_words(outcome: str) -> str:
    """An outcome with its icon.

    >>> outcome_words("ambiguous")
    '≈ ambiguous'
    """
    return f"{_OUTCOME_ICONS.get(outcome, '')} {outcome}".strip()


def reason_words(reason: str | None) -> str:
    """A reason's code as people read it; a code that is not known stands as it is.

    >>> reason_words("no_candidate"), reason_words("of_tomorrow"), reason_words(None)
    ('the other side has no such key', 'of_tomorrow', '')
    """
    return _REASONS.get(reason, reason) if reason else ""
