"""How a workspace begins: empty, or with a reconciliation drafted from two files."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recon import new_workspace, workflow
from recon.database import embedded
from recon.database.connect import Database
from recon.drafting import draft as drafting
from recon.drafting import reading, spec_text, tables
from recon.drafting.draft import Draft
from recon.drafting.tables import Candidate, Filled, Table
from recon.errors import AlreadyExists, NotFound, SpecError, UsageError
from recon.names import quote
from recon.spec_parts import RecordSet
from recon.workspace import POLICY_FILE, SPEC_SCHEMA, Workspace

SHOWN_CANDIDATES = 8  # other columns that could be links, in the spec's comments
BRONZE = "bronze"  # the folder of files as they came
RECONCILIATIONS = "reconciliations"
_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")

Step = Callable[[str], None]


@dataclass(frozen=True)
class Started:
    """What a beginning made: the workspace, the new paths in it, and the draft of a reconciliation if one was asked."""

    workspace: Workspace
    made: tuple[Path, ...]
    name: str | None = None
    spec: Path | None = None
    draft: Draft | None = None
    candidates: tuple[Candidate, ...] = ()
    from_database: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The document of `recon init --json`."""
        document: dict[str, Any] = {"workspace": str(self.workspace.root), "made": [str(path) for path in self.made]}
        if self.draft is None:
            return document
        return {
            **document,
            "name": self.name,
            "spec": str(self.spec),
            **spec_text.as_dict(self.draft, self.next_steps, self.candidates),
        }

    @property
    def next_steps(self) -> list[str]:
        """The commands to type next, from inside the workspace."""
        name = self.name or "NAME"
        words = ("check", "match", "plan") if self.from_database else ("load", "check", "match", "plan")
        return [f"recon {word} {name}" for word in words]


def with_files(
    folder: Path,
    target: Path,
    source: Path,
    *,
    name: str | None = None,
    target_key: str | None = None,
    source_key: str | None = None,
    link: str | None = None,
    step: Step = lambda _name: None,
) -> Started:
    """Make a workspace, or take the one that is there, and draft the reconciliation of two files.

    The files are copied to bronze/ and looked at there; the ones that were named are only read.

    Raises:
        NotFound: there is no such file.
        AlreadyExists: the folder holds something else, or there is such a spec or file already.
        UsageError: nothing can be drafted from these files, with the reason.
    """
    for path in (target, source):
        if not path.is_file():
            raise NotFound(f"There is no file {path}.", todo="Check the path.")
    name = _named(name, target)
    with _begun(folder, name) as (place, spec, made):
        found = _of_files(place, target, source, (target_key, source_key, link), step)
        of_target = _copied(place, target, name, "target", None)
        beside = of_target if source.resolve() != target.resolve() else None
        kept = [of_target, _copied(place, source, name, "source", beside)]
        relative = [path.relative_to(place.root).as_posix() for path in kept]
        page = spec_text.page(found, name, (relative[0], relative[1]), _schema(place, spec))
        _written(place, name, spec, page)
    return Started(place, (*made, *[path.relative_to(place.root) for path in (*kept, spec)]), name, spec, found)


def _of_files(
    place: Workspace, target: Path, source: Path, asked: tuple[str | None, str | None, str | None], step: Step
) -> Draft:
    """The draft of two files, made in the workspace's embedded database, where nothing of it stays.

    Args:
        asked: the keys of target and source, and the link, as they were named.
    """
    with Database(embedded.start(place.folder, workflow.EMBEDDED_DATABASE), embedded=True).session() as session:
        session.plain_path()
        step(f"reading {target.name}")
        of_target = reading.file(session, target, "t")
        step(f"reading {source.name}")
        of_source = reading.file(session, source, "s")
        found = drafting.files(
            session, of_target, of_source, target_key=asked[0], source_key=asked[1], link=asked[2], step=step
        )
        session.rollback()
    return found


@contextmanager
def _begun(folder: Path, name: str) -> Generator[tuple[Workspace, Path, list[Path]]]:
    """A workspace in which a reconciliation is drafted: the one of this folder, or a new one, which goes if that fails.

    Yields:
        it, the path of the spec that is not there yet, and what was made.
    """
    made: list[Path] = []
    there = folder.exists()
    if not (folder / POLICY_FILE).is_file():
        made = new_workspace.init(folder)
    place = Workspace(folder.resolve())
    try:
        if name in place.reconciliations():
            raise AlreadyExists(f"There is a reconciliation {name} already.", todo="Name another one with --name.")
        yield place, place.root / RECONCILIATIONS / f"{name}.yaml", made
    except BaseException:  # an interruption too
        if made:  # the folder was empty or not there: all in it was made just now
            embedded.discard(place.folder)
            new_workspace.empty(place.root, keep=there)
        raise


def with_database(
    folder: Path,
    url: str,
    *,
    target: str | None = None,
    source: str | None = None,
    link: str | None = None,
    name: str | None = None,
    step: Step = lambda _name: None,
) -> Started:
    """Make a workspace, or take the one that is there, and draft the reconciliation of two tables of a database.

    Everything is read in one transaction that is rolled back; the URL is written nowhere.

    Raises:
        NotFound: there is no such table.
        UsageError: no column holds keys of another table; or nothing tells which records belong together.
        AlreadyExists: there is such a spec already.
    """
    database = Database(url)
    with database.session() as session:
        step("looking at the tables")
        session.plain_path()
        session.users_path()
        tables.may_copy(session)
        known = tables.listed(session)
        holder, other = (tables.named(session, known, word) if word else None for word in (target, source))
        found = tables.candidates(session, known, holder, other, link)
        if not found:
            if holder and other and (full := tables.filled(session, holder, other, link)):
                raise _all_filled(full, holder, other)
            raise _no_pair(target, source, link)
        best = found[0]
        session.plain_path()
        sides: list[reading.Looked] = []
        for table, side in ((best.target, "t"), (best.source, "s")):
            step(f"reading {table.called}")
            sides.append(tables.looked(session, table, "t" if side == "t" else "s"))
        drafted = drafting.tables(
            session, sides[0], sides[1], (best.target.key, best.source.key[0]), best.link, step=step
        )
        session.rollback()  # nothing of it stays
    name = _named(name, Path(best.target.name))
    others = tuple(found[1:SHOWN_CANDIDATES])
    with _begun(folder, name) as (place, spec, made):
        _written(place, name, spec, spec_text.page(drafted, name, None, _schema(place, spec), others))
    return Started(place, (*made, spec.relative_to(place.root)), name, spec, drafted, others, from_database=True)


def _all_filled(full: Filled, target: Table, source: Table) -> UsageError:
    declared = "It is declared NOT NULL. " if full.declared else ""
    stands = f"{full.rows:,} rows hold {full.stands}, which seems to stand for none. " if full.stands else ""
    alter = f"; it has to allow NULL: ALTER TABLE {target.quoted} ALTER COLUMN {quote(full.column)} DROP NOT NULL"
    return UsageError(
        f'The column "{full.column}" of {target.called} holds keys of {source.called} and has no empty (NULL) rows.',
        why=f"{declared}{stands}recon fills rows where a link is NULL, and takes every other value for a link.",
        todo=f"Set it to NULL in rows without a link{alter if full.declared else ''}. Or name another column with --link.",
    )


def _no_pair(target: str | None, source: str | None, link: str | None) -> UsageError:
    asked = " ".join(
        word for word in (link and f"column {link}", target and f"of {target}", source and f"to {source}") if word
    )
    return UsageError(
        f"No column was found that holds keys of another table and has empty rows left to fill{': ' + asked if asked else ''}.",
        why="A link is a column, empty in some rows, whose values stand in another table's one-column primary key.",
        todo="Name the tables with --target and --source and an empty column with --link, or write the spec by hand.",
    )


def _schema(place: Workspace, spec: Path) -> str:
    """Where editors find the schema of a spec, seen from there; a workspace of an older release gets it now."""
    kept = place.root / SPEC_SCHEMA.name
    if not kept.exists():
        shutil.copyfile(SPEC_SCHEMA, kept)
    return os.path.relpath(kept, spec.parent)


def _written(place: Workspace, name: str, path: Path, page: str) -> None:
    """Write the spec, once it is known that it can be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8")
    try:
        place.spec(name)
    except SpecError:
        path.unlink()
        raise


def _named(name: str | None, target: Path) -> str:
    if name is None:
        name = re.sub(r"[^a-z0-9]+", "_", target.stem.lower()).strip("_")[:40]
        name = name if name[:1].isalpha() else f"records_{name}".strip("_")
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name of a reconciliation.",
            why="It has small letters, digits and underscores, begins with a letter and is at most 48 long.",
            todo="Name it with --name.",
        )
    return name


def _copied(place: Workspace, path: Path, name: str, side: str, other: Path | None) -> Path:
    """The file in the workspace, under a name whose table is its own.

    One that is there already with the same bytes, or is named there itself, is taken as it is.

    Args:
        other: the file of the other side; None: it has none of its own yet.
    """
    folder = place.root / BRONZE
    folder.mkdir(exist_ok=True)
    there = [*folder.iterdir(), *([other] if other else [])]

    def taken(kept: Path) -> bool:
        # `recon load` makes one table of pay.csv and Pay.xlsx: the second would replace the first.
        return any(_table(item) == _table(kept) and item != kept for item in there)

    if path.resolve().is_relative_to(place.root) and not taken(path.resolve()):
        return path.resolve()
    kept = folder / path.name
    if taken(kept) or (kept.exists() and not filecmp.cmp(kept, path, shallow=False)):
        kept = folder / f"{name}_{side}{path.suffix}"
        if kept.exists() or taken(kept):
            raise AlreadyExists(f"There is a file {kept} already.", todo="Give the new file another name.")
    if not kept.exists():
        shutil.copyfile(path, kept)
    return kept


def _table(path: Path) -> str | None:
    return RecordSet.model_validate({"file": path.name, "key": "key"}).landing
