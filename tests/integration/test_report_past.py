"""A report knows the reports before it: what changed, what is old, what waits, and what it was made from."""

from __future__ import annotations

import hashlib
from datetime import timedelta

import pytest

from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import sign_off
from recon.database.connect import Database
from recon.matching import breaks
from recon.matching import run as runs
from recon.matching.backtest import backtest
from recon.matching.pool import Filter
from recon.reports import kept, sections, sections_open, sections_past, signed, since
from recon.reports.data import NOTEBOOK, ReportData, gather
from recon.workspace import Workspace
from tests.integration.test_report import CHECKS, text_of
from tests.signing import policy
from tests.support import execute, rent_spec, rows

RENT = "rent_payments"
ALL = "SELECT id FROM historical_transactions WHERE category = 'rent' AND invoice_id IS NULL ORDER BY id"
BREAK = "UPDATE historical_transactions SET property_id = NULL, payprop_invoice_id = NULL WHERE id IN ({})"
MEND = "UPDATE historical_transactions AS t SET property_id = w.property_id FROM whole AS w WHERE w.id = t.id AND t.id IN ({})"


def match(database: Database) -> None:
    runs.match(database, rent_spec(), "ann")


def reported(database: Database, workspace: Workspace, identity: str, actor: str = "ann") -> ReportData:
    """A report as it is kept account of, without the notebook between."""
    kept.begin(database, identity, NOTEBOOK, RENT, actor, {})
    found = gather(database, workspace, RENT)
    since.keep(database, identity, found)
    workspace.reports.mkdir(exist_ok=True)
    path = workspace.reports / f"{identity}.html"
    path.write_text(f"<p>{identity}</p>", encoding="utf-8")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    kept.end(database, identity, "success", file=path.name, digest=digest)
    return found


def broken(database: Database, *, which: list[int], mended: list[int] = []) -> None:  # noqa: B006
    """Take from some payments what they are matched by, give it back to others, and match."""
    for statement, keys in ((BREAK, which), (MEND, mended)):
        if keys:
            execute(database, statement.format(", ".join(map(str, keys))))
    match(database)


@pytest.fixture
def ten(rent: Database) -> list[int]:
    """The keys of the ten payments that a run links; what they are matched by is kept in a table."""
    execute(rent, "CREATE TABLE whole AS SELECT id, property_id FROM historical_transactions")
    return [key for (key,) in rows(rent, ALL)]


# -- what changed ----------------------------------------------------------------------------------------


@pytest.mark.one_engine
def test_a_report_says_what_changed_since_the_last_one_and_since_the_last_signed_one(
    rent: Database, workspace: Workspace, ten: list[int]
) -> None:
    broken(rent, which=ten[:4])
    first = reported(rent, workspace, "first")
    assert (first.since.last, first.since.signed) == (None, None)
    assert "This is the first report" in sections_past.changes(first)

    signed.sign(rent, workspace, RENT, "first", "bob")
    broken(rent, which=ten[4:5], mended=ten[:2])
    plan = plans.make(rent, workspace, rent_spec(), "ann")
    assert plan is not None
    second = reported(rent, workspace, "second")
    assert second.since.one
    last = second.since.last
    assert last is not None
    assert (last.broken, last.resolved, last.to_and_fro, last.signed_by) == (1, 2, 0, "bob")
    assert [row["key"] for row in last.newly_broken] == [str(ten[4])]
    assert [row["key"] for row in last.newly_resolved] == [str(key) for key in ten[:2]]
    assert [(move["plan"], move["to_state"]) for move in last.moves] == [(plan.plan, "planned")]
    said = text_of(sections_past.changes(second))
    assert (
        "Since the last report, which is signed: coverage stays at 92.6 %, 1 break is new, 2 breaks are resolved, 1 plan was planned."
        in " ".join(said.split()).replace(" :", ":")
    )
    assert "bob signed it on" in said
    assert "recorded by name: a record, not a proof" in said

    # What was broken at the first report, mended by the second and is broken again now is no change since the first.
    sign_off.approve(rent, workspace, plan.plan, "bob")
    applying.apply(rent, workspace, plan.plan, "ann", execute=True)
    broken(rent, which=[], mended=ten[2:5])
    third = gather(rent, workspace, RENT)
    last, seen = third.since.last, third.since.signed
    assert last is not None
    assert seen is not None
    assert (last.id, seen.id) == ("second", "first")
    assert (last.broken, last.resolved, last.to_and_fro) == (0, 3, 0)
    assert (seen.broken, seen.resolved, seen.to_and_fro) == (0, 4, 1)
    assert [move["to_state"] for move in last.moves] == ["approved", "applying", "applied"]
    html = text_of(sections_past.changes(third))
    assert "since the last report" in html
    assert "since the last signed report" in html
    assert f"+{round(7 / 135 * 100, 1)} points" in html  # of the seven that were applied


@pytest.mark.one_engine
def test_a_report_that_failed_or_that_nobody_kept_is_no_report_to_compare_with(
    rent: Database, workspace: Workspace
) -> None:
    match(rent)
    kept.begin(rent, "failed", NOTEBOOK, RENT, "ann", {})
    since.keep(rent, "failed", gather(rent, workspace, RENT))
    kept.end(rent, "failed", "failed", error="no kernel")
    since.keep(rent, "", gather(rent, workspace, RENT))
    assert gather(rent, workspace, RENT).since.last is None


@pytest.mark.one_engine
def test_figures_of_another_version_are_not_compared(rent: Database, workspace: Workspace) -> None:
    match(rent)
    reported(rent, workspace, "older")
    execute(rent, "UPDATE recon.notebook_runs SET figures = jsonb_set(figures, '{format}', '99')")
    assert "made by another version of recon" in sections_past.changes(gather(rent, workspace, RENT))


@pytest.mark.one_engine
def test_checks_that_failed_are_compared_too(rent: Database, workspace: Workspace) -> None:
    match(rent)
    reported(rent, workspace, "first")
    found = gather(rent, workspace, RENT, checks=CHECKS)
    assert since.figures(found)["checks"] == {"passed": 1, "failed": 1, "errored": 1}
    assert "checks that failed" in sections_past.changes(found)


# -- what is old, and what waits -------------------------------------------------------------------------


def test_open_breaks_are_counted_by_age_and_by_who_has_them(
    rent: Database, workspace: Workspace, ten: list[int]
) -> None:
    broken(rent, which=ten[:4])
    ages = (0, 3, 20, 40)
    for key, days in zip(ten, ages, strict=False):
        execute(
            rent, f"UPDATE recon.breaks SET opened_at = opened_at - interval '{days} days' WHERE key = ARRAY['{key}']"
        )
    breaks.assign(rent, RENT, "carla", "ann", [str(ten[2])])
    found = gather(rent, workspace, RENT).ageing
    assert [(item.age, item.nobody, item.assigned) for item in found.classes] == [
        ("over 30 days", 1, 0), ("8 to 30 days", 0, 1), ("1 to 7 days", 1, 0), ("under 1 day", 0, 0), ("new", 1, 0),
    ]  # fmt: skip
    assert [(item.who, item.breaks, item.days) for item in found.holders] == [(None, 3, 40), ("carla", 1, 20)]
    assert [item["key"] for item in found.oldest] == [str(ten[place]) for place in (3, 2, 1, 0)]
    assert (found.new, found.days, found.breaks) == (1, 40, 4)
    with rent.session() as session:
        assert breaks.ages(session, RENT, new=1) == found.as_dict()
    match(rent)  # seen again: no longer new
    later = gather(rent, workspace, RENT)
    assert later.ageing.new == 0
    shown = text_of(sections_open.ageing(later))
    assert "40 days" in shown
    assert "carla" in shown
    assert "Nobody has 3 of 4 open breaks." in sections.summary(later)


@pytest.mark.one_engine
def test_plans_say_what_they_wait_for_since_when_and_until_when(rent: Database, workspace: Workspace) -> None:
    workspace = policy(workspace, "approvals = 2")
    match(rent)
    plan = plans.make(rent, workspace, rent_spec(), "ann")
    assert plan is not None
    sign_off.approve(rent, workspace, plan.plan, "bob")
    found = gather(rent, workspace, RENT)
    (item,) = found.queue
    assert item.waits_for == "a sign-off by somebody other than ann: 1 of 2 given (bob (by name))"
    assert item.expires_at is not None
    assert item.expires_at - item.since > timedelta(days=6, hours=23)
    assert "in 6 days" in sections_open.plans(found)
    sign_off.approve(rent, workspace, plan.plan, "carla")
    execute(rent, "UPDATE recon.plans SET expires_at = now() - interval '2 days'")
    later = gather(rent, workspace, RENT)
    assert later.queue[0].waits_for == "somebody who applies it"
    assert "expired 2 days ago" in sections_open.plans(later)


# -- the trend -------------------------------------------------------------------------------------------


@pytest.mark.one_engine
def test_the_trend_is_that_of_full_runs_oldest_first_with_the_precision_of_their_rules(
    rent: Database, workspace: Workspace, ten: list[int]
) -> None:
    broken(rent, which=ten[:4])
    runs.match(rent, rent_spec(), "ann", Filter(limit=5))
    found = gather(rent, workspace, RENT).past
    assert [(item.outcomes, item.precision) for item in found] == [
        ({"linked": 125, "matched": 6, "unmatched": 4}, None)
    ]
    backtest(rent, rent_spec(), "ann")
    broken(rent, which=[], mended=ten[:4])
    after = gather(rent, workspace, RENT)
    assert [item.coverage for item in after.past] == [131 / 135, 1.0]
    assert all(item.precision is not None for item in after.past)
    assert [item.open for item in after.past] == [{"unmatched": 4}, {}]
    assert len(sections_past.coverage_trend(after).data) == 2  # pyright: ignore[reportAttributeAccessIssue]


# -- what it was made from -------------------------------------------------------------------------------


def test_the_same_records_have_the_same_digests_on_every_engine_and_in_every_order(
    rent: Database, workspace: Workspace
) -> None:
    match(rent)
    first = gather(rent, workspace, RENT).inputs
    # Counted once and written down: another server or another order must not give another one.
    assert first.target.digest == "8265aad0e6dcbdfcadd8faf4ca4eed706bf049f5bede168a1ab9996241447e68"
    assert first.source.digest == "11b50b66473bfd55ee823cf6bbce377fd9568e2e4ee1e706ade292de7119039b"
    assert (first.target.count, first.source.count, first.decisions.count) == (135, 130, 135)
    execute(
        rent,
        "CREATE TABLE moved AS SELECT * FROM invoices ORDER BY id DESC",
        "UPDATE invoices SET id = id",  # every row moves to another place
        "UPDATE historical_transactions SET description = 'nobody reads this'",
    )
    match(rent)
    again = gather(rent, workspace, RENT).inputs
    assert (again.target, again.source, again.decisions) == (first.target, first.source, first.decisions)
    assert again.run != first.run
    execute(rent, "UPDATE invoices SET end_date = end_date + 1 WHERE id = 20")
    changed = gather(rent, workspace, RENT).inputs
    assert changed.source.digest != first.source.digest
    assert changed.target == first.target
    execute(
        rent,
        "UPDATE historical_transactions SET invoice_id = NULL WHERE id = (SELECT max(id) FROM historical_transactions WHERE invoice_id IS NOT NULL AND category = 'rent')",
    )
    assert gather(rent, workspace, RENT).inputs.target.digest != first.target.digest


@pytest.mark.one_engine
def test_the_section_shows_every_digest_and_whether_it_changed_since_the_last_report(
    rent: Database, workspace: Workspace
) -> None:
    match(rent)
    first = reported(rent, workspace, "first")
    execute(rent, "UPDATE invoices SET end_date = end_date + 1 WHERE id = 20")
    found = gather(rent, workspace, RENT)
    html = sections.reproduce(found)
    made = found.inputs
    for digest in (made.spec, made.target.digest, made.source.digest, made.decisions.digest, made.suite):
        assert digest is not None
        assert len(digest) == 64
        assert digest in html
    assert made.source.digest != first.inputs.source.digest
    assert text_of(html).count("≠ changed") == 1
    (inputs,) = rows(rent, "SELECT inputs FROM recon.notebook_runs")[0]
    assert inputs == first.inputs.as_dict()
