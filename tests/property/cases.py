"""Small random reconciliations. Each option is written once, as the spec has it and as the oracle reads it.

A case is one spec over many worlds: groups of records that can never meet, for every pass, or the scope, compares
their `site`. So one run of the product answers for many small cases. Values are few, so that most records meet
several candidates, ties and NULLs, and they are drawn evenly from a seed: lists that hypothesis draws itself are
mostly too short for any of that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

from recon.spec import Reconciliation
from tests.oracle import Comparison, Override, Problem, key_of
from tests.oracle_pass import Key, Percent, Rule, Window, ascending, descending
from tests.support import simple_spec

POOLED_WORLDS = 12
POOLED_ROWS = 12  # at most, of each side of each world
ALONE_ROWS = 24  # at most, of each side where the only world is the whole table
SHARE_ALONE = 0.12

LINK = "lease_id"

# Both sides have the same columns, so that a name alone never says whose it is.
COLUMNS = {
    "site": "int",
    "place": "int",
    "label": "text",
    "code": "text",
    "amount": "numeric",
    "weight": "float8",
    "due": "date",
    "moment": "timestamptz",
    "clock": "timestamp",
    "grade": "int",
    "kept": "boolean",
}


def _moments(*texts: str) -> list[datetime | None]:
    return [datetime.fromisoformat(text) for text in texts] + [None]


def _decimals(texts: str) -> list[Decimal | None]:
    return [Decimal(text) for text in texts.split()] + [None]


# Differences are often exactly a window's bound, and one unit more.
VALUES: dict[str, list[Any]] = {
    "place": [0, 0, 0, 0, 1, None],
    "label": ["0", "0", "0", "0", "1", "01", None],
    "code": ["a", "a", "a", "a", "B", "É", "", None],
    "amount": _decimals("100 100 100 100.00 100.00 95 95 94.99 105 105.01 -100 -95 0"),
    "weight": [0.1, 0.2, 0.3, 0.1 + 0.2, 0.31, 0.2, 0.3, None],
    "due": [date(2025, 1, 10) + timedelta(days) for days in (-2, 0, 0, 0, 1, 1, 2, 3, 30, 31)] + [None],
    "moment": _moments(
        # Berlin, 30 March: the clock goes from 02:00+01:00 to 03:00+02:00.
        "2025-03-30T01:30:00+01:00", "2025-03-30T03:00:00+02:00", "2025-03-30T03:30:00+02:00", "2025-03-30T03:30:01+02:00",
        # 26 October: the hour from 02:00 comes twice.
        "2025-10-26T01:30:00+02:00", "2025-10-26T02:30:00+02:00", "2025-10-26T02:30:00+01:00", "2025-10-26T02:30:01+01:00",
    ),
    "clock": _moments("2025-06-01T00:00:00", "2025-06-01T00:00:00", "2025-06-03T03:00:00", "2025-06-03T03:00:01", "2025-06-02T00:00:00"),
    "grade": [0, 1, 1, 1, 2, 2, None],
    "kept": [True, True, True, True, True, False, None],
}  # fmt: skip


@dataclass(frozen=True)
class Option:
    """One option as the spec writes it and as the oracle reads it."""

    spec: Any
    oracle: Any


# -- values that may be NULL -----------------------------------------------------------------------------


def of(name: str) -> Callable[[Any], Any]:
    return lambda record: record[name]


def known(function: Callable[..., Any], *values: Any) -> Any:
    """The function of these values; NULL where one of them is, as SQL's operators have it.

    >>> known(max, 1, 2), known(max, 1, None)
    (2, None)
    """
    return None if any(value is None for value in values) else function(*values)


def _difference(left: Any, right: Any) -> Any:
    return known(lambda one, other: abs(one - other), left, right)


# -- the options -----------------------------------------------------------------------------------------

ON = [
    Option({"place": "place"}, (of("place"), of("place"))),
    Option({"code": "code"}, (of("code"), of("code"))),
    Option({"amount": "amount"}, (of("amount"), of("amount"))),
    Option({"t.grade + 1": "s.grade"}, (lambda t: known(lambda n: n + 1, t["grade"]), of("grade"))),
    Option({"coalesce(label, '0')": "label"}, (lambda t: "0" if t["label"] is None else t["label"], of("label"))),
]
AS_TEXT = Option({"place": "label"}, (lambda t: known(str, t["place"]), of("label")))
ON_SITE = Option({"site": "site"}, (of("site"), of("site")))


def _within(column: str, tolerance: Any, before: Any, after: Any = None) -> Option:
    window = Window(of(column), of(column), before, before if after is None else after)
    return Option({"target": column, "source": column, "tolerance": tolerance}, window)


WITHIN = [
    _within("due", "2 days", timedelta(days=2)),
    _within("due", "36 hours", timedelta(hours=36)),
    _within("due", {"before": "0 days", "after": "30 days"}, timedelta(0), timedelta(days=30)),
    _within("due", "4 weeks 2 days", timedelta(days=30)),
    _within("moment", "1 hour", timedelta(hours=1)),
    _within("moment", {"before": "30 minutes", "after": "1 hour 30 minutes"}, timedelta(minutes=30), timedelta(minutes=90)),
    _within("clock", "2 days 3 hours", timedelta(days=2, hours=3)),
    _within("clock", {"after": "1 day"}, timedelta(0), timedelta(days=1)),
    _within("amount", 5, 5),
    _within("amount", "5%", Percent(Decimal(5))),
    _within("amount", {"before": "5%", "after": "200%"}, Percent(Decimal(5)), Percent(Decimal(200))),
    _within("weight", Decimal("0.1"), Decimal("0.1")),
    _within("grade", 1, 1),
    Option({"target": "t.grade * 100", "source": "amount", "tolerance": 5}, Window(lambda t: known(lambda n: n * 100, t["grade"]), of("amount"), 5, 5)),
]  # fmt: skip

WHEN = [
    Option("t.place is null or s.place is not null", lambda t, s: t["place"] is None or s["place"] is not None),
    Option("t.grade <= s.grade", lambda t, s: known(lambda left, right: left <= right, t["grade"], s["grade"])),
    Option("not (t.code = s.code)", lambda t, s: known(lambda left, right: left != right, t["code"], s["code"])),
    Option("s.code >= 'a'", lambda t, s: known(lambda code: code >= "a", s["code"])),
    Option("t.amount > 0", lambda t, s: known(lambda amount: amount > 0, t["amount"])),
]

PREFER = [
    Option("s.grade desc nulls first", lambda t, s: descending(s["grade"], nulls_first=True)),
    Option("s.grade", lambda t, s: ascending(s["grade"])),
    Option("s.amount desc", lambda t, s: descending(s["amount"])),
    Option("s.code", lambda t, s: ascending(s["code"])),
    Option("s.due", lambda t, s: ascending(s["due"])),
    Option("t.moment", lambda t, s: ascending(t["moment"])),
    Option("abs(t.grade - s.grade)", lambda t, s: ascending(_difference(t["grade"], s["grade"]))),
    Option("abs(t.amount - s.amount) desc", lambda t, s: descending(_difference(t["amount"], s["amount"]))),
]
NEAREST = Option("nearest", "nearest")
KEY = Option("key", "key")

VALID = [
    Option({"rule": "s.grade is not null", "issue": "no grade"}, lambda s: s["grade"] is not None),
    Option({"rule": "s.amount > -100", "issue": "too small"}, lambda s: known(lambda amount: amount > -100, s["amount"])),
    Option({"rule": "code <> 'B'", "issue": "a B"}, lambda s: known(lambda code: code != "B", s["code"])),
]  # fmt: skip


def _compared(
    column: str, spec: Any, source: Callable[[Any], Any], *tolerance: Any, skip_empty: bool = False
) -> Option:
    return Option({column: spec}, Comparison(column, source, tolerance or None, skip_empty))


TWO_DAYS, FIVE_PERCENT = timedelta(days=2), Percent(Decimal(5))
COMPARE = [
    [
        _compared("code", "code", of("code")),
        _compared("code", {"source": "code", "skip_empty": True}, of("code"), skip_empty=True),
    ],
    [_compared("grade", "s.grade + 1", lambda s: known(lambda grade: grade + 1, s["grade"]))],
    [
        _compared("amount", "amount", of("amount")),
        _compared("amount", {"source": "amount", "tolerance": 5}, of("amount"), 5, 5),
        _compared("amount", {"source": "amount", "tolerance": "5%"}, of("amount"), FIVE_PERCENT, FIVE_PERCENT),
    ],
    [
        _compared("due", {"source": "s.due"}, of("due")),
        _compared("due", {"source": "due", "tolerance": "2 days"}, of("due"), TWO_DAYS, TWO_DAYS),
        _compared(
            "due",
            {"source": "due", "tolerance": "2 days", "skip_empty": True},
            of("due"),
            TWO_DAYS,
            TWO_DAYS,
            skip_empty=True,
        ),
        _compared("due", {"source": "due", "tolerance": {"after": "2 days"}}, of("due"), timedelta(0), TWO_DAYS),
    ],
]

EVERY = Option(None, lambda record: True)
WHERE = [
    Option("kept", of("kept")),
    Option("coalesce(kept, true)", lambda record: record["kept"] is not False),
    Option("grade is null or grade < 2", lambda record: record["grade"] is None or record["grade"] < 2),
]

# -- keys ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class KeyKind:
    """A kind of key: its columns with their types, and how to draw so many different ones."""

    columns: Mapping[str, str]
    draw: Callable[[Random, int], list[Key]]

    @property
    def names(self) -> list[str]:
        return list(self.columns)


WORDS = ["", "z", "Z", "é", "É", "ß ", "o'", '"', "日", "a,b"]


def _texts(random: Random, count: int) -> list[Key]:
    return [f"{random.choice(WORDS)}{number}" for number in random.sample(range(4 * count), count)]


def _composites(random: Random, count: int) -> list[Key]:
    return random.sample([(word, number) for word in WORDS for number in range(count)], count)


PLAIN_KEYS = [
    KeyKind({"id": "int"}, lambda random, count: random.sample(range(-count, 4 * count), count)),
    KeyKind({"id": "bigint"}, lambda random, count: [2**40 + n for n in random.sample(range(4 * count), count)]),
    KeyKind({"id": "text"}, _texts),
    KeyKind({"id": "uuid"}, lambda random, count: [UUID(int=random.getrandbits(128)) for _ in range(count)]),
]
COMPOSITE_KEY = KeyKind({"part": "text", "id": "int"}, _composites)


# -- drawing ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """Records that meet only each other. What is gone was there when people decided; links to it dangle."""

    problem: Problem
    gone_targets: Sequence[dict[str, Any]]
    gone_sources: Sequence[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """One spec, the key columns of both sides, and the worlds it is to decide."""

    spec: Reconciliation
    target_key: KeyKind
    source_key: KeyKind
    worlds: Sequence[World]


def draw_case(random: Random, name: str, cardinality: str, *, may_prefer_keys: bool = True) -> Case:
    """A spec with any options and its worlds.

    Args:
        random: what is drawn from.
        name: of the reconciliation; overrides are kept by it.
        cardinality: many_to_one or one_to_one.
        may_prefer_keys: whether a pass may prefer by key, so that keys matter.
    """
    alone = random.random() < SHARE_ALONE
    partition = "none" if alone else random.choice(["scope", "on"])
    kinds = [random.choice([*PLAIN_KEYS, COMPOSITE_KEY]) for _ in range(2)]
    linked = kinds[1] is not COMPOSITE_KEY and random.random() < 0.6
    passes = [
        _draw_pass(random, number, [ON_SITE] if partition == "on" else [], may_prefer_keys)
        for number in range(random.randint(1, 3))
    ]
    where = [random.choice([EVERY, *WHERE]) for _ in range(2)]
    valid = random.sample(VALID, random.choice([0, 0, 0, 1, 2]))
    compare = [random.choice(forms) for forms in random.sample(COMPARE, random.choice([0, 0, 1, 2]))]
    population = random.choice(["target", "source"]) if cardinality == "one_to_one" else "target"
    spec = simple_spec(
        name=name,
        target=_side("pay", kinds[0], where[0]),
        source=_side("lease", kinds[1], where[1]),
        cardinality=cardinality,
        population=population,
        link={"column": LINK} if linked else None,
        scope="site" if partition == "scope" else None,
        passes=[option.spec for option in passes],
        valid=[option.spec for option in valid],
        compare={column: form for option in compare for column, form in option.spec.items()},
    )
    rules = Problem(
        targets=[],
        sources=[],
        rules=[option.oracle for option in passes],
        target_key=kinds[0].names,
        source_key=kinds[1].names,
        target_where=where[0].oracle,
        source_where=where[1].oracle,
        link=LINK if linked else None,
        one_to_one=cardinality == "one_to_one",
        population=population,
        scope=spec.scope,
        valid=[option.oracle for option in valid],
        compare=[option.oracle for option in compare],
    )
    count, most = (1, ALONE_ROWS) if alone else (POOLED_WORLDS, POOLED_ROWS)
    keys = [iter(kind.draw(random, count * (most + 1))) for kind in kinds]
    decided_by_people = random.random() < 0.3
    worlds = [_draw_world(random, rules, site, most, keys, decided_by_people) for site in range(count)]
    return Case(spec, kinds[0], kinds[1], worlds)


def _side(table: str, kind: KeyKind, where: Option) -> dict[str, Any]:
    return {"table": table, "key": kind.names if len(kind.names) > 1 else kind.names[0], "where": where.spec}


def _draw_pass(random: Random, number: int, always: list[Option], may_prefer_keys: bool) -> Option:
    """A pass: the spec's fields and the oracle's rule."""
    windows = random.sample(WITHIN, random.choice([0, 0, 0, 1, 1, 2]))
    as_text = random.random() < 0.1
    fewest = 0 if windows or always else 1  # a pass needs something, or all would match all
    chosen = [AS_TEXT] if as_text else random.sample(ON, random.choice([fewest, 1, 1, 2]))
    on = always + chosen
    when = random.choice([None, None, *WHEN])
    prefer = random.sample([*PREFER, *[NEAREST] * 3 * bool(windows)], random.choice([0, 1, 2, 2, 3]))
    prefer = list(dict.fromkeys(prefer)) + [KEY] * (may_prefer_keys and random.random() < 0.3)
    fields: dict[str, Any] = {
        "name": f"pass_{number}",
        "on": {left: right for option in on for left, right in option.spec.items()},
        "prefer": [option.spec for option in prefer],
        "confidence": Decimal(9 - number) / 10,
        "on_tie": random.choice(["review", "next"]),
        "accept": random.choice(["auto", "auto", "review"]),
    }
    same_names = all(left == right for left, right in fields["on"].items())
    if on and same_names and random.random() < 0.3:
        fields["on"] = list(fields["on"])
    if windows:
        fields["within"] = windows[0].spec if len(windows) == 1 else [option.spec for option in windows]
    if when:
        fields["when"] = when.spec
    if as_text:
        fields["compare_as"] = "text"
    rule = Rule(
        fields["name"],
        on=[option.oracle for option in on],
        within=[option.oracle for option in windows],
        prefer=[option.oracle for option in prefer],
        review=fields["accept"] == "review",
        next_on_tie=fields["on_tie"] == "next",
    )
    return Option(fields, replace(rule, when=when.oracle) if when else rule)


def _draw_world(
    random: Random, rules: Problem, site: int, most: int, keys: Sequence[Any], decided_by_people: bool
) -> World:
    drawn = [
        [
            _draw_record(random, site, dict(_columns(names, next(keys[side]))))
            for _ in range(random.randint(1, most + 1))
        ]
        for side, names in enumerate((rules.target_key, rules.source_key))
    ]
    # The last of each side is gone by the time of the run.
    (targets, gone_targets), (sources, gone_sources) = [(rows[:-1], rows[-1:]) for rows in drawn]
    known_sources = [key_of(row, rules.source_key) for row in drawn[1]]
    for target in (*targets, *gone_targets):
        if rules.link is not None:
            target[rules.link] = random.choice([None, None, None, random.choice(known_sources)])
    known_targets = [key_of(row, rules.target_key) for row in drawn[0]]
    overrides = _draw_overrides(random, known_targets, known_sources, rules.one_to_one) if decided_by_people else []
    problem = replace(rules, targets=targets, sources=sources, overrides=overrides)
    return World(problem, gone_targets, gone_sources)


def _draw_record(random: Random, site: int, key: dict[str, Any]) -> dict[str, Any]:
    values = {name: random.choice(choice) for name, choice in VALUES.items()}
    return key | {"site": None if random.random() < 0.05 else site} | values


def _draw_overrides(random: Random, targets: Sequence[Key], sources: Sequence[Key], one_to_one: bool) -> list[Override]:
    """Some of a person's decisions, none of which contradicts another."""
    drawn = [_draw_override(random, targets, sources) for _ in range(random.randint(0, 3))]
    if random.random() < 0.25:
        refused = random.choice(targets)
        drawn += [Override("forbid", refused, source) for source in sources]
    chosen: list[Override] = []
    for override in drawn:
        if not any(_contradict(override, other, one_to_one) for other in chosen):
            chosen.append(override)
    return chosen


def _draw_override(random: Random, targets: Sequence[Key], sources: Sequence[Key]) -> Override:
    kind = random.choice(["link", "forbid", "exclude"])
    target, source = random.choice(targets), random.choice(sources)
    if kind != "exclude":
        return Override(kind, target, source)
    return random.choice([Override(kind, target=target), Override(kind, source=source)])


def _contradict(one: Override, other: Override, one_to_one: bool) -> bool:
    """Whether the two cannot both be made."""
    target, source = one.target == other.target, one.source == other.source
    kinds = {one.kind, other.kind}
    if kinds == {"link"}:
        return target or (one_to_one and source)
    if kinds == {"link", "exclude"}:
        return target or source
    return one == other or (kinds == {"link", "forbid"} and target and source)


def _columns(names: Sequence[str], key: Key) -> list[tuple[str, Any]]:
    return list(zip(names, key if len(names) > 1 else [key], strict=True))


# -- the same records under other keys -------------------------------------------------------------------


def renumbered(random: Random, case: Case, name: str) -> tuple[Case, Mapping[Key, Key], Mapping[Key, Key]]:
    """The case with new keys throughout, in another order, and the new target and source key of each old one."""
    new: list[dict[Key, Key]] = []
    for kind, side in ((case.target_key, "targets"), (case.source_key, "sources")):
        rows = [
            row for world in case.worlds for row in (*getattr(world.problem, side), *getattr(world, f"gone_{side}"))
        ]
        old = [key_of(row, kind.names) for row in rows]
        new.append(dict(zip(old, kind.draw(random, len(old)), strict=True)))
    spec = case.spec.model_copy(update={"name": name})
    worlds = [_rekeyed(random, world, *new) for world in random.sample(case.worlds, len(case.worlds))]
    return replace(case, spec=spec, worlds=worlds), new[0], new[1]


def _rekeyed(random: Random, world: World, targets: Mapping[Key, Key], sources: Mapping[Key, Key]) -> World:
    problem = world.problem

    def rows(given: Sequence[Any], names: Sequence[str], new: Mapping[Key, Key]) -> list[dict[str, Any]]:
        changed = [row | dict(_columns(names, new[key_of(row, names)])) for row in given]
        for row in changed:
            if row.get(LINK) is not None:
                row[LINK] = sources[row[LINK]]
        return random.sample(changed, len(changed))

    return World(
        replace(
            problem,
            targets=rows(problem.targets, problem.target_key, targets),
            sources=rows(problem.sources, problem.source_key, sources),
            overrides=[
                replace(item, target=targets.get(item.target), source=sources.get(item.source))
                for item in problem.overrides
            ],
        ),
        rows(world.gone_targets, problem.target_key, targets),
        rows(world.gone_sources, problem.source_key, sources),
    )
