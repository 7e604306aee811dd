"""Which rules a draft takes: each time the one that finds most of what is left, as long as it is right there too."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from operator import attrgetter

from recon.database.connect import Session
from recon.drafting import lookalikes, rules
from recon.drafting.pairs import Paired
from recon.drafting.rules import AUTOMATIC, FOUND, LEAST_KNOWN, Rule, partners_known
from recon.drafting.weights import GIVEN, SCORED, SEED, Learnt, Weight

PROPOSES = 0.5  # the estimated precision from which a rule proposes
BELOW_BEST = 0.012  # how far a rule that links by itself may be measured below the most precise one
LEAST_GAIN = 0.004  # of the sure pairs: what a rule must find that no other one does
LOOSE = 0.85  # what a rule must find, of that of one which may be contradicted, to be taken in its place
# By look-alikes: of what a rule finds beside the others, and of what all find together.
MOST_FALSE, MOST_WRONG = 0.15, 0.008
MOST_MISSED = 0.05  # of pairs with known partners that others leave, those in which a rule may be wrong
SPEAKS = 0.5  # of a rule's pairs that are left, those in which a guard says something
LEAST_LEFT = 8  # pairs of known partners by which a rule is measured in what others leave
GOOD_PART = 0.6  # of what the rule finds that finds most
MOST_RULES, MOST_PROPOSING = 7, 2


@dataclass(frozen=True)
class Gain:
    """What a rule finds that the rules taken before it do not; greater is better, and no two are equal."""

    right: float  # pairs, as many as are right
    simple: int  # the fewer agreements it asks for, the better
    bits: float
    number: int  # of the rule, negative: the earlier one of two that are alike
    pairs: int


def draft(session: Session, learnt: Learnt, paired: Paired, *, bold: bool = False) -> list[Rule]:
    """The rules, strictest first: those that link, then those that propose.

    Args:
        bold: whether a rule that numbers may contradict may link where links that exist allow it: links of a database were
            made by rules or by hand for long; a file's few say little of records that have no partner.
    """
    if not learnt.weights or not learnt.sure:
        return []
    tried = rules.tried(session, learnt, paired, bold=bold)
    linking = {number for number, rule in enumerate(tried) if not rule.loose or (bold and rule.known >= LEAST_KNOWN)}
    chosen = _choose(session, tried, learnt, _least(tried), MOST_RULES, linking)
    chosen.sort(key=lambda rule: -rule.bits)
    proposing = _choose(session, tried, learnt, PROPOSES, MOST_PROPOSING, set(range(len(tried))))
    proposing.sort(key=lambda rule: (-rule.precision, -rule.bits))
    return chosen + [replace(rule, proposes=True) for rule in proposing]


def _least(tried: Sequence[Rule]) -> float:
    """The precision from which a rule links by itself: measured by links of which some are wrong, none can reach more than all."""
    measured = [rule.precision for rule in tried if rule.known >= LEAST_KNOWN]
    return min(AUTOMATIC, max(measured) - BELOW_BEST) if measured else AUTOMATIC


def _choose(
    session: Session, tried: Sequence[Rule], learnt: Learnt, least: float, most: int, able: Set[int]
) -> list[Rule]:
    """Take rules that are precise enough, each time the one that finds most of what is left.

    Args:
        able: numbers of the rules that may be taken.
    """
    chosen: list[Rule] = []
    found = wrong = 0.0  # pairs that the rules find together, and of these as many as may be wrong
    left = [number for number, rule in enumerate(tried) if number in able and rule.precision >= least]
    while left and len(chosen) < most and (gains := _gains(session, tried, left)):
        gain = max(gains, key=attrgetter("right", "simple", "bits", "number"))
        if not chosen:  # the first rule is a strict one, of which nobody asks why, if it finds a good part
            strict = [item for item in gains if item.right >= GOOD_PART * gain.right and item.simple >= gain.simple]
            gain = max(strict, key=attrgetter("simple", "bits", "number"))
        number = -gain.number
        left.remove(number)
        if gain.right < max(LEAST_GAIN * learnt.sure, 2):
            break
        rule = _estimated(session, replace(tried[number], gain=int(gain.right)), learnt)
        if rule.precision < least:
            continue
        if least > PROPOSES:
            false = _false(session, number, rule, learnt)
            if false > MOST_FALSE * gain.pairs or wrong + false > MOST_WRONG * (found + gain.pairs):
                continue
            if not _holds(session, number, rule, learnt):
                continue
            found, wrong = found + gain.pairs, wrong + false
        chosen.append(rule)
        _take(session, number, learnt)
    return chosen


def _gains(session: Session, tried: Sequence[Rule], left: Sequence[int]) -> list[Gain]:
    rows = session.rows(
        f"SELECT rule, sum(p), count(*) FROM {FOUND} WHERE rule = ANY($1::int[]) GROUP BY rule",  # noqa: S608
        left,
    )
    gains: list[Gain] = []
    for number, right, count in rows:
        rule = tried[number]
        worth = max(float(right), int(count) * rule.precision) * (LOOSE if rule.loose else 1)
        gains.append(Gain(round(worth, 3), -len(rule.asked), rule.bits, -int(number), int(count)))
    return gains


def _estimated(session: Session, rule: Rule, learnt: Learnt) -> Rule:
    """The rule with a precision that look-alikes allow, unless links that exist say more."""
    false = lookalikes.false_share(session, rule.asked, rule.guards, rule.matched, learnt)
    if rule.known < LEAST_KNOWN or 1 - false < AUTOMATIC:
        return replace(rule, precision=min(rule.precision, 1 - min(false, 1.0)))
    return rule


def _take(session: Session, number: int, learnt: Learnt) -> None:
    """Take the rule's records away from all others."""
    for record in ("t",) if learnt.many_to_one else ("t", "s"):  # apart, for an OR would compare each with each
        session.execute(
            f"DELETE FROM {FOUND} WHERE rule <> $1::int AND {record} IN"  # noqa: S608
            f" (SELECT {record} FROM {FOUND} WHERE rule = $1)",
            number,
        )
    session.execute(f"DELETE FROM {FOUND} WHERE rule = $1::int", number)  # noqa: S608


def _false(session: Session, number: int, rule: Rule, learnt: Learnt) -> float:
    """How many of a rule's pairs that are left may be wrong by look-alikes: all that it takes for another one are among them."""
    speaking = _speaking(session, number, rule)
    return lookalikes.false_share(session, rule.asked, speaking, rule.matched, learnt) * rule.matched


def _holds(session: Session, number: int, rule: Rule, learnt: Learnt) -> bool:
    """Whether links that exist say that a rule is right in what the rules before it leave: the cases that are hard."""
    if not learnt.known:
        return True
    known, true = partners_known(session, number, learnt)
    if known < LEAST_LEFT:
        return not rule.loose or _probable(session, number) >= SEED
    return true >= (1 - MOST_MISSED) * known and not (rule.loose and _contradicted(session, number, rule))


def _probable(session: Session, number: int) -> float:
    """How probable a rule's pairs that are left are by all columns together, what contradicts it too."""
    return float(session.value(f"SELECT avg(p) FROM {FOUND} WHERE rule = $1::int", number) or 0)  # noqa: S608


def _speaking(session: Session, number: int, rule: Rule) -> list[Weight]:
    """The guards that say something in what is left: of records without a number, no other number keeps them apart."""
    bits = [1 << weight.comparison.number for weight in rule.guards]
    if not bits:
        return []
    said = ", ".join(f"avg(CASE WHEN missing & {bit} = 0 THEN 1 ELSE 0 END)" for bit in bits)
    shares = session.rows(f"SELECT {said} FROM {FOUND} WHERE rule = $1::int", number)[0]  # noqa: S608
    return [weight for weight, share in zip(rule.guards, shares, strict=True) if share and share >= SPEAKS]


def _contradicted(session: Session, number: int, rule: Rule) -> bool:
    """Whether what may contradict a rule does so oftener where no partner is known than where one is.

    A number that somebody mistyped differs in both alike. What is beyond that are other things: their partners are missing.
    """
    bits = sum(1 << weight.comparison.number for weight in rule.let)
    known, differ_known, left, differ_left = session.rows(
        f"""
        SELECT count(*) FILTER (WHERE held), count(*) FILTER (WHERE held AND differs),
            count(*) FILTER (WHERE NOT held), count(*) FILTER (WHERE NOT held AND differs)
        FROM (
            SELECT EXISTS (SELECT FROM {GIVEN} AS g WHERE g.t = made.t) AS held,
                (agree | near | scored.missing) & $2::int <> $2 AS differs
            FROM {FOUND} AS made JOIN {SCORED} AS scored USING (t, s) WHERE rule = $1::int
        ) AS pair
        """,  # noqa: S608
        number,
        bits,
    )[0]
    return differ_left - left * (differ_known + 0.5) / (known + 1) > MOST_MISSED * left
