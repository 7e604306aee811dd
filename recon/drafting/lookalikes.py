"""How often a record would be taken for another one of its own side: what a rule gets wrong where the partner is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from recon.database.connect import Session
from recon.drafting import windows
from recon.drafting.weights import Learnt, Weight

if TYPE_CHECKING:
    from recon.drafting.rules import Asked

MOST_COLLISIONS = 3_000_000  # pairs of one side that share a rule's values, beyond which it is no rule


def false_share(
    session: Session, asked: Sequence[Asked], guards: Sequence[Weight], matched: int, learnt: Learnt
) -> float:
    """The share of a rule's pairs that is wrong by look-alikes, at most.

    A record of the target whose partner is not there, or does not satisfy the rule, finds as many others as a record of
    one side finds on its own side. Of both sides the worse one counts; where a source has several partners, the source.
    """
    sides = "s" if learnt.many_to_one else "ts"
    found = max(_of_side(session, asked, guards, learnt, side) for side in sides)
    filled = " AND ".join(f"a{item.weight.comparison.target.number} IS NOT NULL" for item in asked)
    able = int(session.value(f"SELECT count(*) FROM recon_draft_looks_t WHERE {filled}"))  # noqa: S608
    share = min(matched / max(able, 1), 1.0)
    # One to one, a look-alike that has its own partner by this rule takes it along: the record finds two, or none.
    free = 1.0 if learnt.many_to_one else 1 - share
    return found * (1 - share) / max(share, 1e-9) * free


def _of_side(session: Session, asked: Sequence[Asked], guards: Sequence[Weight], learnt: Learnt, side: str) -> float:
    """How many others a record of this side is taken for. One that is the same in all it says stands twice: no other."""

    def attribute(weight: Weight) -> int:
        return (weight.comparison.target if side == "t" else weight.comparison.source).number

    table = f"recon_draft_looks_{side}"
    equal = [attribute(item.weight) for item in asked if not item.near]
    columns = ", ".join(f"a{number}" for number in equal)
    filled = " AND ".join(f"a{number} IS NOT NULL" for number in equal)
    count, many = session.rows(
        "SELECT coalesce(sum(n), 0), coalesce(sum(n * (n - 1)), 0) FROM"  # noqa: S608
        f" (SELECT count(*) AS n FROM {table} WHERE {filled} GROUP BY {columns}) AS groups"
    )[0]
    if not count or not many:
        return 0.0
    close = [item.weight for item in asked if item.near]
    if many > MOST_COLLISIONS or not (guards or close):
        return float(many) / float(count)
    same = [f"x.a{number} = y.a{number}" for number in equal]
    for weight in close:
        same.append(_within(weight, attribute(weight), learnt))
    others = [attribute(weight) for weight in (*guards, *close)]
    fits = [f"coalesce({_fit(weight, attribute(weight), learnt)}, true)" for weight in guards]
    differs = " OR ".join(f"x.a{number} IS DISTINCT FROM y.a{number}" for number in others)
    taken = session.value(
        f"SELECT count(*) FROM {table} AS x JOIN {table} AS y ON {' AND '.join(same)} AND x.rid <> y.rid"  # noqa: S608
        f" WHERE {' AND '.join(['true', *fits])} AND ({differs})"
    )
    return float(taken) / float(count)


def _fit(weight: Weight, number: int, learnt: Learnt) -> str:
    """That two records of one side are so near in a column that one could be taken for the other."""
    same = f"x.a{number} = y.a{number}"
    compared = weight.comparison
    if compared.target.spelled and compared.source.spelled:
        return f"({same} OR x.p{number} = y.p{number} OR x.q{number} = y.q{number})"
    if not compared.target.measured:
        return same
    return _within(weight, number, learnt)


def _within(weight: Weight, number: int, learnt: Learnt) -> str:
    """That the partner of one of the two lies in the window of the other: on the average, where it is anywhere in its own."""
    apart, reach = f"abs(x.v{number} - y.v{number})", windows.of(weight.comparison, learnt.reach)
    if reach.share is not None:
        return f"{apart} <= {reach.share} * abs(x.v{number})"
    return f"{apart} <= {(reach.before + reach.after) / 2}"
