"""Rules from weights: which agreements are asked for, what must not speak against, and how right each is by itself."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from recon.database.connect import Session
from recon.drafting.pairs import Paired
from recon.drafting.weights import GIVEN, LEAST_LIFT_BITS, LEAST_M, SCORED, Learnt, Weight

FOUND = "recon_draft_found"  # the pairs that each rule makes by itself, and later those that no rule taken has
MOST_CONDITIONS = 3  # agreements of one rule: more are not read
MOST_EVIDENCE = 9  # comparisons from which rules are made
MOST_GUARDS = 5  # comparisons that must not speak against a rule
LEAST_NEAR = 0.03  # the share of sure pairs that a window must add to those that agree
GUARD_M, GUARD_U = 0.08, 0.3  # what guards differs in at most 8 % of sure pairs, and in at least 30 % of random ones
# What agrees in half of the sure pairs, and hardly ever else, names a thing: where two such names differ, a person is asked.
NAMES_M, NAMES_BITS = 0.5, 12.0
AUTOMATIC = 0.994  # the estimated precision from which a rule links without a person
LEAST_KNOWN = 30  # pairs of known partners by which a rule is measured
LEAST_SAID = 8  # pairs of which another column must say something, before it is believed
LEAST_UNSAID = 0.02  # of pairs of which other columns say something, so many might be wrong all the same


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


def tried(session: Session, learnt: Learnt, paired: Paired, *, bold: bool = False) -> list[Rule]:
    """All rules that may be worth having, each with what it finds by itself; the pairs of each are kept in `FOUND`.

    Args:
        bold: whether links that exist may show that a guard which speaks of few records is not needed.
    """
    telling = learnt.weights[:MOST_EVIDENCE]
    session.execute(f"CREATE TEMPORARY TABLE {FOUND} (rule int, t int, s int, p float8, missing int) ON COMMIT DROP")
    sensible = [rule for asked in _conditions(telling, paired, learnt) for rule in _guarded(asked, telling)]
    if learnt.known and bold:  # what is measured need not be guarded
        sensible += [replace(rule, guards=(), let=rule.guards) for rule in sensible if rule.guards and not rule.loose]
    found = [_tried(session, number, rule, learnt) for number, rule in enumerate(sensible)]
    session.execute(f"CREATE INDEX ON {FOUND} (rule)")
    session.execute(f"ANALYZE {FOUND}")
    return found


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
            INSERT INTO {FOUND} SELECT $1::int, t, s, p, missing FROM (
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
    known, true = partners_known(session, number, learnt) if learnt.known else (0, 0)
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


def partners_known(session: Session, number: int, learnt: Learnt) -> tuple[int, int]:
    """The rule's pairs of records whose partner is known, and the right ones of these."""
    held = "" if learnt.many_to_one else f" OR EXISTS (SELECT FROM {GIVEN} AS g WHERE g.s = made.s)"
    row = session.rows(
        f"SELECT count(*) FILTER (WHERE EXISTS (SELECT FROM {GIVEN} AS g WHERE g.t = made.t){held}),"  # noqa: S608
        f" count(*) FILTER (WHERE EXISTS (SELECT FROM {GIVEN} AS g WHERE g.t = made.t AND g.s = made.s))"
        f" FROM {FOUND} AS made WHERE rule = $1::int",
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
