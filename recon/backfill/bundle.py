"""The plan as files that a reviewer reads, and the proof that they are the ones that were planned.

`plan.json` holds the sha256 of every other file; the digest of `plan.json` is what a reviewer signs.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon.backfill.change import PLACE, Shape
from recon.database import tables
from recon.database.connect import Session
from recon.errors import BundleChanged
from recon.names import DIALECT, quote

MANIFEST = "plan.json"
CHANGES = "changes.csv"
REVIEW = "review.html"
OUTSIDE = "outside.jsonl"  # only where a plan writes an outside system too
SCRIPTS = ("dry_run.sql", "execute.sql", "verify.sql", "revert.sql")


def canonical(document: Mapping[str, Any]) -> str:
    """Canonical JSON: sorted keys, no spaces, numbers only as integers, so that one document has one digest.

    >>> canonical({"b": 1, "a": "é"})
    '{"a":"é","b":1}'
    """
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(text: str | bytes) -> str:
    """sha256 in hex."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def write_changes(session: Session, shape: Shape, plan: str, path: Path) -> str:
    """Write changes.csv in key order, straight from the staged rows; returns its sha256."""
    sha = hashlib.sha256()
    with path.open("wb") as out:
        for piece in _exported(session, shape, plan):
            sha.update(piece)
            out.write(piece)
    return sha.hexdigest()


def staged_digest(session: Session, shape: Shape, plan: str) -> str:
    """sha256 of what changes.csv would be if it were written from the staged rows now."""
    sha = hashlib.sha256()
    for piece in _exported(session, shape, plan):
        sha.update(piece)
    return sha.hexdigest()


def _exported(session: Session, shape: Shape, plan: str) -> Iterator[bytes]:
    heading = io.StringIO()
    csv.writer(heading, lineterminator="\n").writerow(shape.csv_heading)
    yield heading.getvalue().encode()
    columns = ", ".join(quote(name) for name in shape.staged_columns)
    table = tables.own("staged", plan).sql(DIALECT)
    query = f"COPY (SELECT {columns} FROM {table} ORDER BY {quote(PLACE)}) TO STDOUT (FORMAT csv)"  # noqa: S608 (quoted names)
    with session.driver.cursor() as cursor, cursor.copy(query.encode()) as copy:
        for block in copy:
            yield bytes(block)


@dataclass(frozen=True)
class Bundle:
    """A bundle as it was read and found intact: what runs is this text, not a second reading of the file."""

    document: dict[str, Any]
    scripts: dict[str, str]


def read(folder: Path, expected_digest: str) -> Bundle:
    """Read a bundle, and compare every file with the manifest and the manifest with the digest.

    Raises:
        BundleChanged: a file is missing, changed, or not listed.
    """
    todo = "Restore the bundle from where it was reviewed, or make a new plan with `recon plan`."
    try:
        manifest = (folder / MANIFEST).read_bytes()
    except OSError as error:
        raise BundleChanged(f"{folder / MANIFEST} cannot be read.", why=f"{error.strerror}.", todo=todo) from error
    if digest(manifest) != expected_digest:
        raise BundleChanged(
            f"{MANIFEST} is not the one that was planned.",
            why=f"Its sha256 is {digest(manifest)[:16]}…, the plan's is {expected_digest[:16]}….",
            todo=todo,
        )
    document: dict[str, Any] = json.loads(manifest)
    scripts: dict[str, str] = {}
    for name, expected in document["files"].items():
        try:
            if name in SCRIPTS:
                scripts[name] = (folder / name).read_bytes().decode()
                sha = digest(scripts[name])
            else:
                sha = _file_digest(folder / name)
        except (OSError, UnicodeDecodeError) as error:
            raise BundleChanged(f"{name} cannot be read.", why=f"{error}.", todo=todo) from error
        if sha != expected:
            raise BundleChanged(
                f"{name} is not the file that was planned.",
                why=f"Its sha256 is {sha[:16]}…, plan.json says {expected[:16]}….",
                todo=todo,
            )
    return Bundle(document, scripts)


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
