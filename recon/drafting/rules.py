"""Rules from weights: which agreements are asked for, what must not speak against, and how right each rule is."""

from __future__ import annotations

import itertools
from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from operator import itemgetter

from recon.database.connect import Session
from recon.drafting import lookalikes
from recon.drafting.pairs import Paired
from recon.drafting.weights import GIVEN, LEAST_LIFT_BITS, LEAST_M, SCORED, SEED, Learnt, Weight

MOST_CONDITIONS = 3  # agreements of one rule: more are not read
MOST_EVIDENCE = 9  # comparisons from which rules are made
MOST_GUARDS = 5  # comparisons that must not speak against a rule
LEAST_NEAR = 0.03  # the share of sure pairs that a window must add to those that agree
GUARD_M, GUARD_U = 0.08, 0.3  # what guards differs in at most 8 % of sure pairs, and in at least 30 % of random ones
# What agrees in half of the sure pairs, and hardly ever else, names a thing: where two such names differ, a person is asked.
NAMES_M, NAMES_BITS = 0.5, 12.0
AUTOMATIC = 0.994  # the estimated precision from which a rule links without a person
LEAST_KNOWN = 30  # pairs of known partners by which a rule is measured
BELOW_BEST = 0.012  # how far a rule that links by itself may be measured below the most precise one
LEAST_SAID = 8  # pairs of which another column must say something, before it is believed
LEAST_UNSAID = 0.02  # of pairs of which other columns say something, so many might be wrong all the same
PROPOSES = 0.5  # and from which it proposes
LEAST_GAIN = 0.004  # of the sure pairs: what a rule must find that no other one does
LOOSE = 0.85  # what a rule must find, of that of one which may be contradicted, to be taken in its place
MOST_FALSE, MOST_WRONG = (
    0.15,
    0.008,
)  # by look-alikes, of what a rule finds beside the others, and of what all find together
MOST_MISSED = 0.05  # of pairs with known partners that others leave, those in which a rule may be wrong
SPEAKS = 0.5  # of a rule's pairs that are left, those in which a guard says something
LEAST_LEFT = 8  # pairs of known partners by which a rule is measured in what others leave
GOOD_PART = 0.6  # of what the rule finds that finds most
MOST_RULES, MOST_PROPOSING = 7, 2


@dataclass(frozen=True)
class Asked:
    """An agreement that a rule asks for: of equal values, or of values within the window."""

    weight: Weight
    near: bool = False

    @property
    def bit(self) -> int:
        return 1 << self.weight.comparison.number

    @property
    def bits(self) -> float:
        return self.weight.within if self.near else self.weight.agree


@dataclass(frozen=True)
class Rule:
    """A rule: what must agree, what must not differ, and what it is like on the pairs."""

    asked: tuple[Asked, ...]
    guards: tuple[Weight, ...]
    matched: int = 0  # pairs that it makes by itself, each of a record with no other candidate
    right: float = 0.0  # of these, as many as are right by all evidence together
    precision: float = 0.0
    gain: int = 0  # what it finds that the rules taken before do not
    known: int = 0  # pairs that it makes of records whose partner is known
    true: int = 0  # of these, the right ones
    proposes: bool = False
    let: tuple[
        Weight, ...
    ] = ()  # what may contradict it, though it should not: it only proposes, unless links allow it

    @property
    def loose(self) -> bool:
        return bool(self.let)

    @property
    def bits(self) -> float:
        return sum(item.bits for item in self.asked)

    @property
    def equal(self) -> int:
        return sum(item.bit for item in self.asked if not item.near)

    @property
    def close(self) -> int:
        return sum(item.bit for item in self.asked if item.near)

    @property
    def guarded(self) -> int:
        return sum(1 << weight.comparison.number for weight in self.guards)


def draft(session: Session, learnt: Learnt, paired: Paired, *, bold: bool = False) -> list[Rule]:
    """The rules, strictest first: those that link, then those that propose.

    Args:
        bold: whether a rule that numbers may contradict may link where links that exist allow it: links of a database were
            made by rules or by hand for long; a file's few say little of records that have no partner.
    """
    telling = learnt.weights[:MOST_EVIDENCE]
    if not telling or not learnt.sure:
        return []
    session.execute(
        "CREATE TEMPORARY TABLE recon_draft_found (rule int, t int, s int, p float8, missing int) ON COMMIT DROP"
    )
    sensible = [rule for asked in _conditions(telling, paired, learnt) for rule in _guarded(asked, telling)]
    if learnt.known and bold:  # what is measured need not be guarded
        sensible += [replace(rule, guards=(), let=rule.guards) for rule in sensible if rule.guards and not rule.loose]
    tried = [_tried(session, number, rule, learnt) for number, rule in enumerate(sensible)]
    session.execute("CREATE INDEX ON recon_draft_found (rule)")
    session.execute("ANALYZE recon_draft_found")
    linking = {number for number, rule in enumerate(tried) if not rule.loose or (bold and rule.known >= LEAST_KNOWN)}
    chosen = _choose(session, tried, learnt, _least(tried), MOST_RULES, linking)
    chosen.sort(key=lambda rule: -rule.bits)
    proposing = _choose(session, tried, learnt, PROPOSES, MOST_PROPOSING, set(range(len(tried))))
    proposing.sort(key=lambda rule: (-rule.precision, -rule.bits))
    return chosen + [replace(rule, proposes=True) for rule in proposing]


def _conditions(telling: Sequence[Weight], paired: Paired, learnt: Learnt) -> list[tuple[Asked, ...]]:
    """Every few agreements that make few enough pairs to be looked at."""
    single = [Asked(weight) for weight in telling if weight.agree >= LEAST_LIFT_BITS and weight.m >= LEAST_M]
    single += [
        Asked(weight, near=True)
        for weight in telling
        if weight.comparison.number in learnt.reach and weight.within >= LEAST_LIFT_BITS and weight.m_near >= LEAST_NEAR
    ]
    found: list[tuple[Asked, ...]] = []
    for size in range(1, MOST_CONDITIONS + 1):
        for asked in itertools.combinations(single, size):
            equal = sum(item.bit for item in asked if not item.near)
            alone = len({item.bit for item in asked}) == size
            if alone and any(equal & block == block for block in paired.blocks):
                found.append(asked)
    return found


def _guarded(asked: tuple[Asked, ...], telling: Sequence[Weight]) -> list[Rule]:
    """The rule with what must not speak against it: columns that nearly always agree where records belong together.

    A number or a code that names things speaks against it as well, though it may be wrong in many pairs: whoever sees two
    invoices of one person, day and amount with two numbers asks. Without that guard the rule only proposes.
    """
    numbers = {item.bit for item in asked}
    others = [weight for weight in telling if 1 << weight.comparison.number not in numbers]
    usual = [
        weight
        for weight in others
        if 1 - weight.m - weight.m_near <= GUARD_M and 1 - weight.u - weight.u_near >= GUARD_U
    ][:MOST_GUARDS]
    naming = [w for w in others if w not in usual and w.m >= NAMES_M and w.agree >= NAMES_BITS]
    if not naming:
        return [Rule(asked, tuple(usual))]
    return [Rule(asked, (*usual, *naming)), Rule(asked, tuple(usual), let=tuple(naming))]


def _tried(session: Session, number: int, rule: Rule, learnt: Learnt) -> Rule:
    """Let the rule match, and hold what it finds against all that is known of each pair."""
    alone = "of_t = 1" if learnt.many_to_one else "of_t = 1 AND of_s = 1"
    beside = "count(*) OVER (PARTITION BY t) AS of_t, count(*) OVER (PARTITION BY s) AS of_s"
    spoken = ", ".join(
        f"count(*) FILTER (WHERE missing & {bit} = 0), count(*) FILTER (WHERE (agree | near) & {bit} <> 0)"
        for bit in (1 << weight.comparison.number for weight in rule.guards)
    )
    row = session.rows(
        f"""
        WITH fitting AS (
            SELECT * FROM {SCORED} WHERE agree & $2::int = $2 AND (agree | near) & $3::int = $3
        ), made AS (
            INSERT INTO recon_draft_found SELECT $1::int, t, s, p, missing FROM (
                SELECT *, {beside} FROM fitting WHERE (agree | near | missing) & $4::int = $4
            ) AS guarded WHERE {alone} RETURNING p, missing
        ), loose AS (
            SELECT {spoken or "count(*)"} FROM (SELECT *, {beside} FROM fitting) AS unguarded WHERE {alone}
        )
        SELECT of_made.*, loose.* FROM loose, (
            SELECT count(*), coalesce(sum(p), 0), count(*) FILTER (WHERE missing & $4 = $4) FROM made
        ) AS of_made
        """,  # noqa: S608
        number,
        rule.equal,
        rule.close,
        rule.guarded,
    )[0]
    known, true = _measured(session, number, learnt) if learnt.known else (0, 0)
    matched, right, unsaid = int(row[0]), float(row[1]), int(row[2])
    if not matched:
        return rule
    precision = max(right / matched, _corroborated(rule, row[3:], unsaid / matched))
    rule = replace(rule, matched=matched, right=precision * matched, precision=precision, known=known, true=true)
    if known < LEAST_KNOWN:
        return rule
    # What is measured says nothing of records without a partner, none of which is linked: the estimate must hold as well.
    measured = true / known
    return replace(rule, precision=measured if precision >= AUTOMATIC else min(measured, precision))


def _least(tried: Sequence[Rule]) -> float:
    """The precision from which a rule links by itself: measured by links of which some are wrong, none can reach more than all."""
    measured = [rule.precision for rule in tried if rule.known >= LEAST_KNOWN]
    return min(AUTOMATIC, max(measured) - BELOW_BEST) if measured else AUTOMATIC


def _measured(session: Session, number: int, learnt: Learnt) -> tuple[int, int]:
    """The rule's pairs of records whose partner is known, and the right ones of these."""
    held = "" if learnt.many_to_one else f" OR EXISTS (SELECT FROM {GIVEN} AS g WHERE g.s = made.s)"
    row = session.rows(
        f"SELECT count(*) FILTER (WHERE EXISTS (SELECT FROM {GIVEN} AS g WHERE g.t = made.t){held}),"  # noqa: S608
        f" count(*) FILTER (WHERE EXISTS (SELECT FROM {GIVEN} AS g WHERE g.t = made.t AND g.s = made.s))"
        " FROM recon_draft_found AS made WHERE rule = $1::int",
        number,
    )[0]
    return int(row[0]), int(row[1])


def _corroborated(rule: Rule, spoken: Sequence[int], unsaid: float) -> float:
    """How right a rule is by what other columns say of the pairs that it makes without them.

    Where all its pairs belong together, another column agrees in as many of them as in sure pairs; where none does, in as
    many as by chance. The column that speaks worst counts. Where no column says anything, the pair is as right as the others
    would be without that column.

    Args:
        spoken: for each guard, the pairs in which it says something, and those in which it agrees.
        unsaid: the share of pairs of which no guard says anything.
    """
    worst: float | None = None
    for place, weight in enumerate(rule.guards):
        said, agreed = spoken[2 * place], spoken[2 * place + 1]
        if said < LEAST_SAID:
            continue
        m, u = weight.m + weight.m_near, weight.u + weight.u_near
        share = (agreed / said - u) / (m - u) if m > u else 0.0
        share = min(share, 1.0) - 1 / (said + 2)  # as if one more were wrong
        worst = share if worst is None else min(worst, share)
    return 0.0 if worst is None else 1 - (1 - max(worst, 0.0)) * max(unsaid, LEAST_UNSAID)


def _false(session: Session, number: int, rule: Rule, learnt: Learnt) -> float:
    """How many of a rule's pairs that are left may be wrong by look-alikes: all that it takes for another one are among them."""
    speaking = _speaking(session, number, rule)
    return lookalikes.false_share(session, rule.asked, speaking, rule.matched, learnt) * rule.matched


def _holds(session: Session, number: int, rule: Rule, learnt: Learnt) -> bool:
    """Whether links that exist say that a rule is right in what the rules before it leave: the cases that are hard."""
    if not learnt.known:
        return True
    known, true = _measured(session, number, learnt)
    if known < LEAST_LEFT:
        return not rule.loose or _probable(session, number) >= SEED
    return true >= (1 - MOST_MISSED) * known and not (rule.loose and _contradicted(session, number, rule))


def _probable(session: Session, number: int) -> float:
    """How probable a rule's pairs that are left are by all columns together, what contradicts it too."""
    return float(session.value("SELECT avg(p) FROM recon_draft_found WHERE rule = $1::int", number) or 0)


def _speaking(session: Session, number: int, rule: Rule) -> list[Weight]:
    """The guards that say something in what is left: of records without a number, no other number keeps them apart."""
    bits = [1 << weight.comparison.number for weight in rule.guards]
    if not bits:
        return []
    said = ", ".join(f"avg(CASE WHEN missing & {bit} = 0 THEN 1 ELSE 0 END)" for bit in bits)
    shares = session.rows(f"SELECT {said} FROM recon_draft_found WHERE rule = $1::int", number)[0]  # noqa: S608
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
            FROM recon_draft_found AS made JOIN {SCORED} AS scored USING (t, s) WHERE rule = $1::int
        ) AS pair
        """,  # noqa: S608
        number,
        bits,
    )[0]
    return differ_left - left * (differ_known + 0.5) / (known + 1) > MOST_MISSED * left


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
    while left and len(chosen) < most:
        rows = session.rows(
            "SELECT rule, sum(p), count(*) FROM recon_draft_found WHERE rule = ANY($1::int[]) GROUP BY rule", left
        )
        gains = [
            (
                round(
                    max(float(right), int(count) * tried[number].precision) * (LOOSE if tried[number].loose else 1), 3
                ),
                -len(tried[number].asked),
                tried[number].bits,
                -int(number),
                int(count),
            )
            for number, right, count in rows
        ]
        if not gains:
            break
        gain, _, _, negative, count = max(gains)
        number = -negative
        if not chosen:  # the first rule is a strict one, of which nobody asks why, if it finds a good part
            strict = [item for item in gains if item[0] >= GOOD_PART * gain and item[1] >= -len(tried[number].asked)]
            gain, _, _, negative, count = max(strict, key=itemgetter(1, 2, 3))
            number = -negative
        left.remove(number)
        if gain < max(LEAST_GAIN * learnt.sure, 2):
            break
        rule = replace(tried[number], gain=int(gain))
        false = lookalikes.false_share(session, rule.asked, rule.guards, rule.matched, learnt)
        if rule.known < LEAST_KNOWN or 1 - false < AUTOMATIC:
            rule = replace(rule, precision=min(rule.precision, 1 - min(false, 1.0)))
        if rule.precision < least:
            continue
        if least > PROPOSES:
            false = _false(session, number, rule, learnt)
            if false > MOST_FALSE * count or wrong + false > MOST_WRONG * (found + count):
                continue
            if not _holds(session, number, rule, learnt):
                continue
            found, wrong = found + count, wrong + false
        chosen.append(rule)
        for record in ("t",) if learnt.many_to_one else ("t", "s"):  # apart, for an OR would compare each with each
            session.execute(
                f"DELETE FROM recon_draft_found WHERE rule <> $1::int AND {record} IN"  # noqa: S608
                f" (SELECT {record} FROM recon_draft_found WHERE rule = $1)",
                number,
            )
        session.execute("DELETE FROM recon_draft_found WHERE rule = $1::int", number)
    return chosen
