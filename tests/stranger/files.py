"""A world disguised as two files: headings that say much, little or nothing, columns of no use, encodings, delimiters."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.stranger import more_worlds, worlds
from tests.stranger.dirt import unaccented
from tests.stranger.made import Record, World

MAKERS = {
    made.__name__: made
    for made in (
        worlds.payments,
        worlds.orders,
        worlds.products,
        more_worlds.people,
        more_worlds.dwellings,
        more_worlds.machines,
        more_worlds.ledgers,
    )
}

ODD = """order|no|a: b|# rows|it's|"quoted"|col,umn|Größe|select|null|true|{x}|- item|100 %|user|back\\slash|[0]|&a|*b|!c|@d
s.id|t.id|x y  z|y|~|1|2024-01-01|;drop|--|/* x */|`tick`|'|%s|:name|$1|Ünïcode Näme""".replace("\n", "|").split("|")
WORDS = (
    "alpha beta gamma delta code nummer ref wert feld data info text value status type group kind name id date".split()
)


@dataclass(frozen=True)
class Written:
    """A file as it was written.

    Attributes:
        headings: by the world's own names of columns.
        places: by line, the first record's being 0, the record's place in the world.
    """

    path: Path
    headings: dict[str, str]
    places: list[int]
    encoding: str
    delimiter: str
    records: list[dict[str, str]]


@dataclass(frozen=True)
class Case:
    """What a stranger comes with, and the truth that they do not know."""

    seed: int
    size: int
    world: World
    target: Written
    source: Written

    @property
    def held(self) -> frozenset[int]:
        """The targets that were linked before."""
        return frozenset(
            place for place, record in enumerate(self.world.targets) if self.world.link and record[self.world.link]
        )

    def __str__(self) -> str:
        sides = (
            f"{written.path.name} ({len(written.records):,} records, {written.encoding}, {written.delimiter!r})"
            for written in (self.target, self.source)
        )
        return f"world {self.world.name}, seed {self.seed}, size {self.size}: {' and '.join(sides)}"


def case(folder: Path, name: str, seed: int, size: int) -> Case:
    """Two files in a folder, made from a seed: the same ones each time."""
    random = Random(f"{name} {seed} {size}")
    world = MAKERS[name](random, size)
    stems = random.sample(
        ("export", "Liste 2024", "data-final (2)", "t1", "Bronze_Right", "left.v2", "öffnen", "SELECT"), 2
    )
    return Case(
        seed,
        size,
        world,
        _written(random, folder, stems[0], world.targets),
        _written(random, folder, stems[1], world.sources),
    )


def _written(random: Random, folder: Path, stem: str, records: Sequence[Record]) -> Written:
    columns = list(records[0])
    noise = _noise(random, records)
    everything = [*columns, *noise]
    headings = dict(zip(everything, _headings(random, everything), strict=True))
    order = random.sample(everything, len(everything))
    places = random.sample(range(len(records)), len(records))
    encoding, delimiter = random.choice(("utf-8", "utf-8", "utf-8-sig", "cp1252")), random.choice((",", ",", ";", "\t"))
    path = folder / f"{stem}.csv"
    lines: list[dict[str, str]] = []
    for place in places:
        line = {**records[place], **{name: values[place] for name, values in noise.items()}}
        lines.append({headings[name]: _writable(line[name], encoding) for name in order})
    with path.open("w", encoding=encoding, newline="") as file:
        quoting = random.choice((csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
        names = [headings[name] for name in order]
        writer = csv.DictWriter(
            file, names, delimiter=delimiter, lineterminator=random.choice(("\n", "\r\n")), quoting=quoting
        )
        writer.writeheader()
        writer.writerows(lines)
    return Written(path, headings, places, encoding, delimiter, lines)


def _writable(text: str, encoding: str) -> str:
    """A text as it can be written: cp1252 has no `ő`."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return unaccented(text)
    return text


def _noise(random: Random, records: Sequence[Record]) -> dict[str, list[str]]:
    """Columns that say nothing about the partner: constant, empty, running numbers, remarks, times, shuffled copies."""
    count = len(records)
    some = list(records[0])
    rows = random.sample(range(1, count + 1), count)
    kinds = {
        "constant": [random.choice(("EUR", "1", "active", "ACME Ltd"))] * count,
        "empty": [""] * count,
        "row": [str(number) for number in (rows if random.random() < 0.5 else range(1, count + 1))],
        "remark": [random.choice(("", "", "", "ok", "see mail", "checked, twice", 'said "no"', "a;b")) for _ in rows],
        "stamp": [f"2025-01-{random.randrange(1, 29):02d} {random.randrange(24):02d}:00:00" for _ in rows],
        "flag": [random.choice(("true", "false")) for _ in rows],
        "score": [f"{random.random():.3f}" for _ in rows],
        "city": [random.choice(("Paris", "Rome", "Oslo")) for _ in rows],
    }
    copied = random.choice(some)  # somebody sorted one column without the others
    kinds["shuffled"] = random.sample([record[copied] for record in records], count)
    chosen = random.sample(list(kinds), random.randrange(2, 7))
    return {f"_{name}": kinds[name] for name in chosen}


def _headings(random: Random, columns: Sequence[str]) -> list[str]:
    """A heading for each column, no two the same in small letters."""
    manner = random.choice(("plain", "title", "shout", "numbered", "letters", "hex", "words", "odd"))
    made: list[str] = []
    for number, column in enumerate(columns):
        name = {
            "plain": column.strip("_"),
            "title": column.strip("_").title() + random.choice(("", " No.", " (old)")),
            "shout": column.strip("_").upper(),
            "numbered": f"Column{number + 1}",
            "letters": f"F{number:02d}",
            "hex": f"x{random.getrandbits(24):06x}",
            "words": " ".join(random.sample(WORDS, 2)),
            "odd": random.choice(ODD),
        }[manner]
        if random.random() < 0.1:
            name = random.choice(ODD)
        while name.lower() in {known.lower() for known in made}:
            name = f"{name}_{random.randrange(100)}"
        made.append(name)
    return made
