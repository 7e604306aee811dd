"""From two sides that nobody has described to a spec that runs: the parts of this package in their order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from recon.database.connect import Session
from recon.drafting import attributes, choosing, comparisons, held, pairs, weights
from recon.drafting.kinds import Kind
from recon.drafting.reading import Looked
from recon.drafting.rules import Rule
from recon.drafting.weights import GIVEN, Learnt
from recon.errors import UsageError
from recon.names import quote

MOST_KEY_COLUMNS = {2: 16, 3: 8}  # of which so many are tried as a key together; a line's number has few values
LEAST_LINKS = 30  # links that exist, from which something can be learnt

Step = Callable[[str], None]


@dataclass(frozen=True)
class Draft:
    """What was found: enough to write the spec and to tell how sure it is."""

    target: Looked
    source: Looked
    target_key: tuple[str, ...]
    source_key: str
    link: str
    cardinality: str
    rules: tuple[Rule, ...]
    learnt: Learnt
    step: int = 1  # of the target's records every so manieth one was paired; figures of rules are of these
    linked: int | None = None  # records of the target that hold a link already; None: it has no such column


def files(
    session: Session,
    target: Looked,
    source: Looked,
    *,
    target_key: str | None = None,
    source_key: str | None = None,
    link: str | None = None,
    step: Step = lambda _name: None,
) -> Draft:
    """Draft a reconciliation of two files that were read into temporary tables.

    Args:
        link: the target's column that takes the source's key, one that it has or a new one; None: a column that holds
            such keys in some rows, and by them agrees with the source in other columns too; else a new one.

    Raises:
        UsageError: a side has no column by which its records are known; or nothing of one side stands in the other.
    """
    of_source = key_of(session, source, source_key, "--key-source")
    keys = target_keys(session, target, target_key), of_source
    here = [kind.name for kind in target.kinds]
    # The column says which of several unique ones is the key that it holds, unless a person has named one.
    unique = (
        [kind.name for kind in source.kinds if kind.unique and kind.name != of_source] if source_key is None else []
    )
    for key in (of_source, *unique):
        for column in [link] if link else held.columns(session, target, source, (keys[0], key)):
            if column not in here:
                continue
            try:
                with session.driver.transaction():  # what does not turn out to be a link leaves nothing behind
                    return _drafted(
                        session, target, source, (keys[0], key), column, step, given=True, prove=column != link
                    )
            except UsageError:
                if link:
                    raise
    name = link or link_name(target, source, of_source)
    return _drafted(session, target, source, keys, name, step, given=False)


def tables(
    session: Session,
    target: Looked,
    source: Looked,
    keys: tuple[tuple[str, ...], str],
    link: str,
    *,
    step: Step = lambda _name: None,
) -> Draft:
    """Draft a reconciliation of two tables, by the links that exist if there are enough.

    Args:
        keys: the target's, and the source's one column.
        link: the target's column that holds the source's key.

    Raises:
        UsageError: nothing of one side stands in the other.
    """
    return _drafted(session, target, source, keys, link, step, given=True, bold=True)


def _drafted(
    session: Session,
    target: Looked,
    source: Looked,
    keys: tuple[tuple[str, ...], str],
    link: str,
    step: Step,
    *,
    given: bool,
    prove: bool = False,
    bold: bool = False,
) -> Draft:
    """Draft it.

    Args:
        given: whether the target has the link's column, with links in it or not.
        prove: whether these must agree with the source in other columns, to be links at all.
        bold: as `choosing.draft` has it.
    """
    step("comparing columns")
    sides: list[list[attributes.Attribute]] = []
    for looked, wanted in ((target, link), (source, keys[1])):
        found = attributes.of(looked, without=[link] if given and looked is target else [])
        attributes.keep(session, looked, found, [wanted] if given else [])
        sides.append(found)
    linked = _given(session) if given else 0
    known = linked if linked >= LEAST_LINKS else 0
    records = target.records, source.records
    compared = comparisons.shared(session, sides[0], sides[1], ("recon_draft_looks_t", "recon_draft_looks_s"), records)
    if not compared or (prove and not held.proven(session, compared, keys[1], GIVEN)):
        raise _nothing_shared(target, source)
    step("pairing records")
    paired = pairs.pair(session, compared, records, GIVEN if known else "")
    step("weighing agreements")
    learnt = weights.learn(session, compared, paired, known=known)
    step("measuring rules")
    found_rules = choosing.draft(session, learnt, paired, bold=bold)
    if not found_rules:
        raise _nothing_shared(target, source)
    return Draft(
        target, source, keys[0], keys[1], link, "many_to_one" if learnt.many_to_one else "one_to_one",
        tuple(found_rules), learnt, paired.step, linked if given else None,
    )  # fmt: skip


def _given(session: Session) -> int:
    """The links that exist, as a table of pairs; returns how many."""
    count = session.execute(
        f"CREATE TEMPORARY TABLE {GIVEN} ON COMMIT DROP AS SELECT t.rid AS t, s.rid AS s"  # noqa: S608
        " FROM recon_draft_looks_t AS t JOIN recon_draft_looks_s AS s ON s.k0 = t.k0"
    ).rowcount
    session.execute(f"CREATE INDEX ON {GIVEN} (t)")
    session.execute(f"CREATE INDEX ON {GIVEN} (s)")
    session.execute(f"ANALYZE {GIVEN}")
    return count


def _nothing_shared(target: Looked, source: Looked) -> UsageError:
    return UsageError(
        f"Nothing was found by which records of {target.label} and {source.label} could be told to belong together.",
        why="No columns of the two hold the same values, or those that do agree no more often than by chance."
        + "".join(map(_unnamed, (target, source))),
        todo="Write reconciliations/NAME.yaml by hand, if you know what they have in common.",
    )


def _unnamed(side: Looked) -> str:
    """What is said of columns that were not looked at, such as those below a title that stands in place of the heading."""
    if not side.left_out:
        return ""
    return (
        f" Of {side.label} {len(side.left_out):,} of {len(side.left_out) + len(side.kinds):,} columns were left out: their"
        " names in the first row are empty, too long, stand twice or are PostgreSQL's own."
    )


def target_keys(session: Session, looked: Looked, asked: str | None) -> tuple[str, ...]:
    """The target's key: one column, else the fewest that together differ in every record, such as order and line.

    Raises:
        UsageError: not even three columns tell the records apart.
    """
    filled = [kind.name for kind in looked.kinds if kind.filled == kind.records and kind.distinct > 1]
    if asked is None and not any(kind.unique for kind in looked.kinds):
        distinct = {kind.name: kind.distinct for kind in looked.kinds}
        filled.sort(key=lambda name: -distinct[name])
        for size, most in MOST_KEY_COLUMNS.items():
            for names in itertools.combinations(filled[:most], size):
                if math.prod(distinct[name] for name in names) < looked.records:
                    continue
                columns = ", ".join(map(quote, names))
                count = session.value(f"SELECT count(*) FROM (SELECT DISTINCT {columns} FROM {looked.table}) AS d")  # noqa: S608
                if count == looked.records:
                    return names
    return (key_of(session, looked, asked, "--key-target"),)


_KEY_WORDS = ("id", "key", "no", "nr", "num", "number", "code", "uuid", "ref", "reference", "guid", "pk")


def key_of(session: Session, looked: Looked, asked: str | None, option: str) -> str:
    """The column by which records are known: the asked one, else the likeliest of those that are unique and filled."""
    if asked is not None:
        if asked not in [kind.name for kind in looked.kinds]:
            raise UsageError(f'{looked.label} has no column "{asked}".', todo=f"Correct {option}.")
        kind = looked.kind(asked)
        if not kind.unique:
            raise UsageError(
                f'"{asked}" cannot be the key of {looked.label}.',
                why=f"{kind.filled:,} of {kind.records:,} records have it, with {kind.distinct:,} different values.",
                todo=f"Name another column with {option}, or remove the records that stand twice.",
            )
        return asked
    unique = [
        (_likely(place, kind.name, kind.base, kind.mean_length) + _spelt(session, looked, kind), -place, kind.name)
        for place, kind in enumerate(looked.kinds)
        if kind.unique
    ]
    if unique:
        return max(unique)[2]
    near = max(looked.kinds, key=lambda kind: (kind.distinct, kind.filled))
    raise UsageError(
        f"{looked.label} has no column by which its records can be told apart.",
        why=f'None is filled in every record and different in each. "{near.name}" comes nearest: {near.filled:,} of '
        f"{near.records:,} records have it, with {near.distinct:,} different values.",
        todo="Add a column that numbers the records, or remove those that stand twice.",
    )


def _likely(place: int, name: str, base: str, length: float) -> float:
    """How likely a unique column is the key: a name that says so, a type of keys, short, far to the left."""
    words = name.lower().replace("-", "_").replace(" ", "_").split("_")
    score = 3.0 if any(word in _KEY_WORDS for word in words) or name.lower().endswith("id") else 0.0
    score += {"int8": 2.0, "int4": 2.0, "uuid": 2.0, "text": 1.0}.get(base, -2.0)
    score -= 2.0 if length > 40 else 0.0
    return score - place / 1000


def _spelt(session: Session, looked: Looked, kind: Kind) -> float:
    """What speaks against a text as a key: words, addresses, and values that differ in capitals or blanks alone."""
    if kind.base != "text":
        return 0.0
    column = quote(kind.name)
    different, words = session.rows(
        f"SELECT count(DISTINCT lower(btrim({column}))), count(*) FILTER (WHERE {column} ~ '[\\s@,]') FROM {looked.table}"  # noqa: S608
    )[0]
    return (-10.0 if different < kind.records else 0.0) + (-4.0 if words else 0.0)


def link_name(target: Looked, source: Looked, key: str) -> str:
    """A column for the link that the target does not have: the source's name and its key."""
    from pathlib import PurePath

    stem = "".join(sign if sign.isalnum() else "_" for sign in PurePath(source.label).stem.lower()).strip("_")
    base = "".join(sign if sign.isalnum() else "_" for sign in key.lower()).strip("_") or "key"
    name = (base if stem and base.startswith(stem.rstrip("s")) else f"{stem}_{base}")[:40]
    taken = {kind.name for kind in target.kinds} | set(target.left_out)
    made, number = f"linked_{name}", 2
    while made in taken:
        made, number = f"linked_{name}_{number}", number + 1
    return made
