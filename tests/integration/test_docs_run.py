"""What the pages of the docs tell people to type is typed, and what they say comes of it is compared."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import sqlalchemy as sa

from recon.database.connect import Database
from tests import pages, worked
from tests.support import ROOT, execute

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code

DOCS = ROOT / "docs"
EXAMPLES = worked.examples((DOCS / "explanation" / "matching.md").read_text(encoding="utf-8"))


def test_each_worked_example_is_decided_as_the_page_says(database: Database) -> None:
    assert len(EXAMPLES) == 11
    for example in EXAMPLES:
        example.load(database)
        assert example.decide(database) == example.decided, example.heading
        with database.session() as session:
            session.execute("DROP TABLE payments, invoices")


PAGES = [
    "tutorial.md",
    "explanation/performance.md",
    *sorted(f"how_to/{path.name}" for path in (DOCS / "how_to").glob("*.md")),
]


@contextmanager
def _hosted(database: Database) -> Iterator[dict[str, str]]:
    """The server that pages call db.example.com: this one, where `owner` owns the database and may create roles."""
    url = sa.make_url(database.url)
    place = f"/{url.database}?host={url.query['host']}"
    execute(database, "CREATE ROLE hosted LOGIN CREATEROLE", f"ALTER DATABASE {url.database} OWNER TO hosted")
    try:
        yield {"owner:<password>@": "hosted@", "//owner@": "//hosted@", HOST: place}
    finally:
        with database.session() as session:
            made = session.rows("SELECT rolname::text FROM pg_roles WHERE rolname = ANY($1)", ROLES)
        every = ", ".join(name for (name,) in made)
        execute(database, f"REASSIGN OWNED BY {every} TO CURRENT_USER", f"DROP OWNED BY {every}", f"DROP ROLE {every}")


HOST = "db.example.com:5432/books?sslmode=verify-full"
ROLES = ["hosted", "ann", "bob", "cleo", "books_plan", "books_review", "books_apply", "books_owner"]


@pytest.mark.parametrize("name", PAGES)
def test_what_a_page_tells_to_type_does_what_it_says(name: str, database: Database, tmp_path: Path) -> None:
    text = (DOCS / name).read_text(encoding="utf-8")
    hosted = _hosted(database) if HOST in text else nullcontext({})
    with hosted as stand_ins, pages.reader(tmp_path / "home", database.url, stand_ins) as someone:
        for saved in re.findall(r"\]\((assets/[^)]+)\)", text):
            shutil.copy(DOCS / saved, someone.here)
        for block in pages.blocks(text):
            place = f"{name}, line {block.line}"
            if block.title:
                someone.write(block)
            elif block.language == "bash":
                someone.type(block)
            elif block.language == "sql":
                execute(database, *block.text.strip().removesuffix(";").split(";\n"))
            elif block.language in ("text", "json"):
                assert pages.holds(someone.said, block.text), f"{place}; it was said:\n{someone.said}"
            else:
                raise AssertionError(f"{place}: nobody runs this block; give it a language or a title")


def test_the_path_of_the_readme_is_the_one_of_the_tutorial() -> None:
    """Each line of it, in this order: so what the tutorial's test proves holds for it."""
    path = next(
        block for block in pages.blocks((ROOT / "README.md").read_text(encoding="utf-8")) if block.language == "bash"
    )
    taught = iter(_commands(pages.blocks((DOCS / "tutorial.md").read_text(encoding="utf-8"))))
    for command in _commands([path]):
        assert command in taught, command


def _commands(blocks: list[pages.Block]) -> list[str]:
    return [
        line.split("  #")[0].strip() for block in blocks if block.language == "bash" for line in block.text.splitlines()
    ]


def test_what_is_not_typed_stands_on_a_page_with_its_reason() -> None:
    typed = {line for name in PAGES for line in _commands(pages.blocks((DOCS / name).read_text(encoding="utf-8")))}
    assert set(pages.NOT_RUN) <= typed
    assert all(pages.NOT_RUN.values())
