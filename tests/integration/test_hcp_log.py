"""The log of the HousecallPro jobs: every line that operations people look for, safe, bounded, one for each environment."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from recon.backfill import sign_off
from recon.database.connect import Database
from recon.spec import Reconciliation
from recon.systems import log_of, logged
from recon.systems.logbook import Logbook, path_of
from recon.whole_way import Way, Wish
from recon.workspace import Workspace
from tests.hcp import HCP, own_spec, sampled
from tests.support import execute, rent_spec

pytestmark = pytest.mark.one_engine

LINE = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING|ERROR) [a-z ]+( [a-z_]+=(\"([^\"\\]|\\.)*\"|\S+))*"
)


@pytest.fixture(scope="module")
def told(embedded_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[str]]]:
    """The lines of a dry run, of an execution that waits for a reviewer, and of one that was approved."""
    place = own_spec(tmp_path_factory.mktemp("log") / "workspace")
    # What somebody typed into HousecallPro, and a guest whom nobody may see.
    hostile = "job_\x1b[2J\n2026-01-01T00:00:00.000Z INFO forged line=1"
    with sampled(embedded_url) as database:
        execute(database, "UPDATE reservations SET guest = 'Secret Guest ' || id")
        with database.session() as session:
            session.execute("UPDATE hcp_jobs SET id = $1 WHERE id = 'job_2004'", hostile)
        found: dict[str, list[str]] = {}
        _run(database, place, "dry_run")
        found["dry"] = _lines(place)
        way = _run(database, place, "execute")  # ends with a plan that waits
        found["waits"] = _lines(place)[len(found["dry"]) :]
        assert way.made is not None
        sign_off.approve(database, place, way.made.plan, "bob")
        _run(database, place, "execute", way.made.plan)
        found["done"] = _lines(place)[len(found["dry"]) + len(found["waits"]) :]
        yield found


def _run(database: Database, place: Workspace, mode: str, plan: str = "") -> Way:
    way = Way(database, place, place.spec(HCP), Wish(mode, plan=plan))
    way.asked()
    way.match()
    way.plan()
    way.sign()
    way.apply()
    way.remains()
    way.end()
    return way


def _lines(place: Workspace) -> list[str]:
    path = path_of(place, "production", HCP)
    return path.read_text(encoding="utf-8").splitlines()


def _said(lines: list[str], message: str) -> list[str]:
    return [line.split(message, 1)[1].strip() for line in lines if re.match(rf"\S+ [A-Z]+ {message}( |$)", line)]


def test_every_line_has_a_time_in_utc_and_is_one_line(told: dict[str, list[str]]) -> None:
    """HCP-11: an ISO time in UTC, the level, the message, then key=value."""
    for lines in told.values():
        assert lines
        for line in lines:
            assert LINE.fullmatch(line), line


def test_a_dry_run_says_what_it_found_and_why_not(told: dict[str, list[str]]) -> None:
    """HCP-11: start, found match, no matching job found with the reason, no reservation linked to job, the summary."""
    lines = told["dry"]
    assert len(_said(lines, "start")) == 1
    assert "mode=dry_run" in _said(lines, "start")[0]
    assert len(_said(lines, "found match")) == 11
    assert "reservation=2015 job=job_2015 pass=property_and_time minutes=60" in _said(lines, "found match")
    unmatched = _said(lines, "no matching job found")
    assert len(unmatched) == 13
    assert 'reservation=2013 outcome=unmatched reason="nearest job is 1 minute outside the window"' in unmatched
    assert 'reservation=2022 outcome=unmatched reason="job already taken by reservation 2021"' in unmatched
    assert "job=job_2021" in _said(lines, "no reservation linked to job")
    assert "job=job_2020" not in _said(lines, "no reservation linked to job")
    assert not _said(lines, "attempting to reconcile job")
    summary = _said(lines, "summary")
    assert len(summary) == 1
    assert "reservations=99 matched=11 unmatched=8 linked_before=75 proposed=4 ambiguous=1" in summary[0]


def test_an_execution_says_what_it_tries_and_what_it_did(told: dict[str, list[str]]) -> None:
    """HCP-11: attempting to reconcile job, successfully reconciled job; nothing of that where a reviewer is awaited."""
    waits, done = told["waits"], told["done"]
    assert not _said(waits, "attempting to reconcile job")
    assert "waits for a reviewer" in _said(waits, "summary")[0]
    assert len(_said(done, "attempting to reconcile job")) == len(_said(done, "successfully reconciled job")) == 11
    assert any(line.startswith("job=job_2001 reservation=2001") for line in _said(done, "successfully reconciled job"))
    assert "written=11" in _said(done, "summary")[0]


def test_nothing_hostile_and_nothing_private_gets_in(told: dict[str, list[str]]) -> None:
    """HCP-11: a job's id that would forge a line stays in its own; a guest's name is nowhere."""
    text = "\n".join(line for lines in told.values() for line in lines)
    assert "Secret Guest" not in text
    assert "\x1b" not in text
    assert r'job="job_\u001b[2J\n2026-01-01T00:00:00.000Z INFO forged line=1"' in text
    assert not any(line.startswith("2026-01-01") for line in text.splitlines())


def test_each_environment_has_its_own(tmp_path: Path) -> None:
    """HCP-13: the log of production is not that of development, and no name of an environment leaves the folder."""
    place = Workspace(tmp_path)
    folder = tmp_path / ".recon" / "logs"
    assert path_of(place, "development", HCP) == folder / "development" / "hcp_jobs.log"
    names = ["production", "../../etc", "a/b", "a_b", "", ".", "..", "Prod uction", "x" * 300]
    paths = [path_of(place, name, HCP) for name in names]
    assert len(set(paths)) == len(names)
    assert all(path.parent.parent == folder and path.parent.name not in ("", ".", "..") for path in paths)


def test_what_the_webhook_says_is_in_it_too(embedded_url: str, tmp_path: Path) -> None:
    """HCP-11, HCP-13: a line that is logged for the reconciliation meanwhile, with what it is about; none afterwards."""
    logger, about = logging.getLogger("recon.hcp_jobs"), {"job": "job_7", "reason": "a b"}
    with logged(Database(embedded_url), Workspace(tmp_path), HCP):
        logger.info("not this", extra={"line": "no reservation linked to job", "about": about})
    logger.info("nor this", extra={"line": "found match", "about": {}})
    (line,) = path_of(Workspace(tmp_path), "production", HCP).read_text(encoding="utf-8").splitlines()
    assert line.endswith('Z INFO no reservation linked to job job=job_7 reason="a b"')


def test_a_spec_that_is_like_it_has_a_log_too_and_others_have_none(tmp_path: Path) -> None:
    like = Reconciliation.model_validate({
        "name": "mine", "like": HCP, "target": {"table": "a", "key": "id"}, "source": {"table": "b", "key": "id"},
        "passes": [{"name": "p", "on": ["x"]}],
    })  # fmt: skip
    assert log_of(like) is not None
    assert log_of(rent_spec()) is None


def test_a_file_that_grows_too_long_becomes_another_and_no_line_is_lost(tmp_path: Path) -> None:
    """HCP-11: two writers at once turn the file over; what is kept is bounded, and whole lines."""
    path = tmp_path / "logs" / "hcp_jobs.log"

    def write(writer: int) -> None:
        book = Logbook(path, most_bytes=4_000, kept=60)
        for number in range(400):
            book.say("found match", {"reservation": f"{writer}-{number}"})
        book.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    files = [each for each in path.parent.iterdir() if not each.name.endswith(".lock")]
    assert len(files) > 10
    assert all(each.stat().st_size <= 4_400 for each in files)  # a line of each writer may come after the look
    lines = [line for each in files for line in each.read_text(encoding="utf-8").splitlines()]
    assert sorted(line.split("reservation=")[1] for line in lines) == sorted(
        f"{writer}-{number}" for writer in range(4) for number in range(400)
    )
    book = Logbook(path, most_bytes=200, kept=2)
    for number in range(50):
        book.say("found match", {"reservation": number})
    kept = [path.parent / f"hcp_jobs.log{end}" for end in ("", ".1", ".2")]
    assert kept[0].read_text(encoding="utf-8").splitlines()[-1].endswith("reservation=49")
    assert all(each.stat().st_size <= 200 for each in kept)
    assert (path.parent / "hcp_jobs.log.3").stat().st_size > 200  # an older one, left where it was
