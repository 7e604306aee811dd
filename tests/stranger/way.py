"""The stranger's way: from two files to a verified backfill by the command line alone, with the spec as it was drafted."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from ruamel.yaml import YAML

from recon.database import embedded
from tests.stranger.files import Case, Written
from tests.stranger.made import Score, analyst, score
from tests.support import Ended, recon

PRECISION = 0.99  # of what is written, at least
SHARE = 0.95  # of what exact agreement of clean columns gives, at least
SEED = "STRANGER_SEED"

Command = Callable[..., Ended]


def seed() -> int:
    """That of this run: another one each time, unless STRANGER_SEED says which."""
    return int(os.environ.get(SEED) or time.time_ns() // 1_000_000 % 10_000_000)


@contextmanager
def workspace_at(home: Path) -> Iterator[None]:
    """Where a workspace will be made: the database of its own that a command may have started there ends with it."""
    try:
        yield
    finally:
        if (home / ".recon").exists():
            embedded.discard(home / ".recon")


@dataclass
class Walked:
    """How it went.

    Attributes:
        found, proposed: matched pairs; pairs that a person is asked about.
        clean, best: what the analyst's rules of exact agreement give, and all of the analyst's rules.
        taken: seconds of each step.
        passes: of the drafted spec, as `recon match` counts them.
    """

    case: Case
    found: Score
    proposed: Score
    clean: Score
    best: Score
    taken: dict[str, float]
    passes: list[dict[str, Any]] = field(default_factory=list)
    spec: str = ""

    @property
    def floor(self) -> float:
        return SHARE * self.clean.recall

    def __str__(self) -> str:
        passes = "\n".join(f"    {item}" for item in self.passes)
        return (
            f"{self.case}\n  precision {self.found.precision:.4f}, recall {self.found.recall:.3f} "
            f"(at least {self.floor:.3f}: {self.case.world.why}); the analyst {self.best.precision:.4f} and "
            f"{self.best.recall:.3f}; asked about {self.proposed.right + self.proposed.wrong} pairs, of which "
            f"{self.proposed.right} are right\n  passes:\n{passes}\n"
            f"  again: {SEED}={self.case.seed}"
        )


class Stuck(AssertionError):
    """A command ended otherwise than it should have: its words are the message."""


def walk(case: Case, home: Path, url: str | None, *, whole: bool = True) -> Walked:
    """Go the whole way and judge it.

    Args:
        home: where the workspace is made; it does not exist yet.
        url: of the database; None: the workspace's own, embedded one.
        whole: whether to go on from the decisions to a verified backfill.

    Raises:
        Stuck: a command failed.
    """
    with workspace_at(home):
        return _walk(case, home, url, whole)


def _walk(case: Case, home: Path, url: str | None, whole: bool) -> Walked:
    taken: dict[str, float] = {}

    def run(*arguments: str, codes: tuple[int, ...] = (0,), user: str = "ann") -> Ended:
        began = time.monotonic()
        ended = recon(*arguments, url=url, user=user, cwd=home if home.exists() else home.parent)
        taken[arguments[0]] = taken.get(arguments[0], 0.0) + time.monotonic() - began
        if ended.code not in codes:
            spec = next(home.glob("reconciliations/*.yaml"), None)
            shown = spec.read_text(encoding="utf-8") if spec and arguments[0] != "init" else ""
            raise Stuck(
                f"{case}\n`recon {' '.join(arguments)}` ended with {ended.code}:\n{ended.err}\n{ended.out[-3000:]}\n"
                f"{shown}\nagain: {SEED}={case.seed}"
            )
        return ended

    files = str(case.target.path), str(case.source.path)
    name = run("init", str(home), "--target", files[0], "--source", files[1], "--json").json["name"]
    before = [Path(path).read_bytes() for path in files]
    run("load", name, "--json")
    run("check", name, "--json", codes=(0, 3))  # dirt is worth a warning
    matched = run("match", name, "--json", codes=(0, 3)).json
    decided = run("decisions", name, "--format", "csv").out
    if whole:
        _backfill(case, name, run)
    assert before == [Path(path).read_bytes() for path in files], "the stranger's own files were written"
    path = home / "reconciliations" / f"{name}.yaml"
    spec = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    pairs, asked = _pairs(case, spec, decided)
    if whole:
        _is_written(case, spec, pairs, url or run("database", "url").out.strip())
    world, held = case.world, case.held
    return Walked(
        case=case,
        found=score(world, pairs, held),
        proposed=score(world, asked, held),
        clean=score(world, analyst(world, clean=True), held),
        best=score(world, analyst(world), held),
        taken=taken,
        passes=matched["passes"],
        spec=path.read_text(encoding="utf-8"),
    )


def _backfill(case: Case, name: str, run: Command) -> None:
    """Plan, sign-off by somebody else, apply, proof."""
    plan = run("plan", name, "--json", codes=(0, 3)).json["plan"]
    if plan is None:
        raise Stuck(f"{case}: nothing was matched")
    run("approve", plan, "--json", user="bob")
    run("apply", plan, "--json")
    run("apply", plan, "--execute", "--json")
    run("verify", plan, "--json", codes=(0, 3))
    state = next(item["state"] for item in _plans(run("plans", "--json").json) if item["plan"] == plan)
    assert state == "verified", f"{case}: the plan is {state}"


def _plans(document: Any) -> list[dict[str, Any]]:
    return document["plans"] if isinstance(document, dict) else document


def _pairs(case: Case, spec: dict[str, Any], decided: str) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """What was matched and what was proposed, as places in the world: read from the decisions by the spec's own keys."""
    targets, sources = (
        _by_key(written, spec[side]["key"]) for side, written in (("target", case.target), ("source", case.source))
    )
    found: list[tuple[int, int]] = []
    asked: list[tuple[int, int]] = []
    for line in csv.DictReader(io.StringIO(decided)):
        if line["outcome"] in ("matched", "proposed"):
            pair = targets[_key(line["target_key"])], sources[_key(line["source_key"])]
            (found if line["outcome"] == "matched" else asked).append(pair)
    return found, asked


def _key(text: str) -> tuple[str, ...]:
    """A key as the decisions write it, composite ones as JSON arrays; a number is the same with zeros before it."""
    parts = json.loads(text) if text.startswith("[") else [text]
    return tuple(_told(str(part)) for part in parts)


def _told(text: str) -> str:
    text = text.strip()
    return str(int(text)) if text.isascii() and text.isdigit() else text.lower()


def _by_key(written: Written, key: str | list[str]) -> dict[tuple[str, ...], int]:
    columns = [key] if isinstance(key, str) else key
    by_key = {
        tuple(_told(line[column]) for column in columns): place
        for line, place in zip(written.records, written.places, strict=True)
    }
    assert len(by_key) == len(written.records), f"{columns} is no key of {written.path.name}"
    return by_key


def _is_written(case: Case, spec: dict[str, Any], pairs: list[tuple[int, int]], url: str) -> None:
    """The loaded table itself holds the links that were decided and those that the file brought, and no other one."""
    link = spec["link"]["column"]
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.columns WHERE column_name = %s"
            " AND table_schema NOT IN ('recon', 'information_schema', 'pg_catalog')",
            [link],
        ).fetchall()
        counts: list[int] = []
        for table in tables:
            count = sql.SQL("SELECT count(*) FROM {} WHERE {} IS NOT NULL")
            found = connection.execute(count.format(sql.Identifier(*table), sql.Identifier(link))).fetchone()
            assert found is not None
            counts.append(found[0])
    known = sum(bool(line.get(link, "").strip()) for line in case.target.records)
    assert len(pairs) + known in counts, f"{case}: {len(pairs)} matched, {known} there before, {counts} held"
