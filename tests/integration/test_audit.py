"""The audit log: whatever is changed in it or beside it is found, and `recon audit` says where."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from recon.backfill import apply as applying
from recon.backfill import audit, replay, revert, standing
from recon.backfill.plan import Plan
from recon.backfill.replay import Audit
from recon.database import tables
from recon.database.chain import BEFORE_THE_FIRST, entry_hash
from recon.database.connect import Database
from recon.errors import NotFound, UsageError
from recon.workspace import Workspace
from tests.support import RENT, execute, load_rent_sample, recon, rows

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code


def kinds(result: Audit) -> list[tuple[str, int | None]]:
    return [(item.kind, item.entry) for item in result.findings]


def head(database: Database) -> tuple[int, str]:
    return rows(database, "SELECT entry, hash FROM recon.audit_head")[0]


def write(database: Database, count: int, **detail: object) -> None:
    """Some entries that are about no plan."""
    with database.session() as session:
        for number in range(count):
            audit.append(session, "ann", "note", detail={"number": number, **detail})


def forge(database: Database) -> None:
    """Write the hashes of the whole chain and its head anew, as somebody may who owns the database."""
    previous = BEFORE_THE_FIRST
    with database.session() as session:
        for row in session.records("SELECT * FROM recon.audit_log ORDER BY entry"):
            entry, at, _ = (row.pop(name) for name in ("entry", "at", "hash"))
            previous = entry_hash(previous, entry, at, row)
            session.execute("UPDATE recon.audit_log SET hash = $1 WHERE entry = $2", previous, entry)
        session.execute("UPDATE recon.audit_head SET hash = $1", previous)


@pytest.fixture
def log(database: Database) -> Database:
    """A log of twenty entries."""
    tables.ensure(database)
    write(database, 20)
    return database


@pytest.fixture
def applied(rent: Database, workspace: Workspace, approved: Plan) -> Plan:
    applying.apply(rent, workspace, approved.plan, "ann", execute=True)
    return approved


# -- the chain -------------------------------------------------------------------------------------------


def test_a_chain_that_nobody_touched_is_whole(log: Database) -> None:
    result = replay.replay(log)
    assert result.whole
    assert result.entries == 20
    assert (result.head_entry, result.head_hash) == head(log)


def test_an_empty_log_is_whole(database: Database) -> None:
    result = replay.replay(database, expect=BEFORE_THE_FIRST)
    assert (result.whole, result.entries, result.head_entry) == (True, 0, 0)


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        ("UPDATE recon.audit_log SET actor = 'eve' WHERE entry = 7", [("edited", 7)]),
        ("UPDATE recon.audit_log SET at = at + interval '1 microsecond' WHERE entry = 1", [("edited", 1)]),
        ("UPDATE recon.audit_log SET at = 'infinity' WHERE entry = 20", [("edited", 20)]),
        ("UPDATE recon.audit_log SET detail = '{\"number\": 8}' WHERE entry = 7", [("edited", 7)]),
        ("UPDATE recon.audit_log SET detail = (repeat('9', 5000))::jsonb WHERE entry = 7", [("edited", 7)]),
        ("UPDATE recon.audit_log SET reconciliation = '' WHERE entry = 7", [("edited", 7)]),
        ("UPDATE recon.audit_log SET hash = repeat('a', 64) WHERE entry = 7", [("edited", 7)]),
        ("UPDATE recon.audit_log SET hash = repeat('a', 64) WHERE entry = 20", [("edited", 20), ("head", 20)]),
        ("DELETE FROM recon.audit_log WHERE entry = 7", [("missing", 7)]),
        ("DELETE FROM recon.audit_log WHERE entry BETWEEN 1 AND 5", [("missing", 1)]),
        ("DELETE FROM recon.audit_log WHERE entry > 15", [("cut", 16)]),
        ("DELETE FROM recon.audit_log", [("emptied", None)]),
        ("UPDATE recon.audit_log SET entry = -7 WHERE entry = 7", [("foreign", -7), ("missing", 7)]),
        ("UPDATE recon.audit_head SET hash = repeat('a', 64)", [("head", 20)]),
        ("UPDATE recon.audit_head SET entry = 25", [("cut", 21)]),
        ("UPDATE recon.audit_head SET entry = 15", [("past the head", 16), ("head", 15)]),
        ("DELETE FROM recon.audit_head", [("head", None)]),
    ],
)
def test_whatever_is_changed_in_the_log_is_found_and_named(
    log: Database, tampering: str, found: list[tuple[str, int | None]]
) -> None:
    execute(log, tampering)
    result = replay.replay(log)
    assert not result.whole
    assert kinds(result) == found


def test_two_entries_that_change_places_are_both_found(log: Database) -> None:
    execute(
        log,
        "UPDATE recon.audit_log SET entry = 100 WHERE entry = 7",
        "UPDATE recon.audit_log SET entry = 7 WHERE entry = 8",
        "UPDATE recon.audit_log SET entry = 8 WHERE entry = 100",
    )
    assert ("edited", 7) in kinds(replay.replay(log))


def test_an_entry_past_the_head_is_found_although_its_hash_is_right(log: Database) -> None:
    last, hash = head(log)
    write(log, 1)
    execute(log, f"UPDATE recon.audit_head SET entry = {last}, hash = '{hash}'")
    assert kinds(replay.replay(log)) == [("past the head", last + 1)]


def test_a_chain_that_was_written_anew_lacks_the_head_that_was_noted(log: Database) -> None:
    noted = head(log)[1]
    write(log, 5)
    assert replay.replay(log, expect=noted).whole
    assert replay.replay(log, expect=f" {noted.upper()}\n").whole
    execute(log, "UPDATE recon.audit_log SET actor = 'eve' WHERE entry = 7")
    forge(log)
    assert replay.replay(log).whole  # nobody can see it from inside
    result = replay.replay(log, expect=noted)
    assert kinds(result) == [("rewritten", None)]
    with pytest.raises(UsageError, match="is no hash"):
        replay.replay(log, expect=noted[:16])


def test_findings_are_counted_and_only_the_first_are_kept(log: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "SHOWN_FINDINGS", 3)
    execute(log, "UPDATE recon.audit_log SET actor = 'eve'")
    result = replay.replay(log)
    assert (len(result.findings), result.finding_count) == (3, 20)


@pytest.mark.parametrize("value", [1e16, -0.0, 0.1, 1e-7, 10**40, "…\\\n\x1b", None, True, [1.50], {"b": 1, "a": 2}])
def test_whatever_a_detail_holds_comes_back_as_it_was_hashed(database: Database, value: object) -> None:
    tables.ensure(database)
    write(database, 2, value=value)
    assert replay.replay(database).whole


def test_writers_at_the_same_time_leave_a_whole_chain_without_a_gap(database: Database) -> None:
    tables.ensure(database)
    errors: list[BaseException] = []

    def work(name: str) -> None:
        try:
            own = Database(database.url)
            for number in range(10):
                with own.session() as session:
                    audit.append(session, name, "note", detail={"number": number})
                    if number % 3 == 2:
                        session.rollback()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(f"writer {number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    result = replay.replay(database)
    assert (result.whole, result.entries, result.head_entry) == (True, 56, 56)
    assert rows(database, "SELECT count(DISTINCT actor) FROM recon.audit_log") == [(8,)]


# -- what stands beside it -------------------------------------------------------------------------------


def test_a_plan_from_start_to_end_agrees_with_its_log(rent: Database, workspace: Workspace, applied: Plan) -> None:
    result = replay.replay(rent)
    assert result.whole, result.findings
    assert result.checked["plans"] == 1
    assert result.checked["written rows"] == 10
    revert.revert(rent, workspace, applied.plan, "ann", execute=True)
    assert replay.replay(rent).whole


@pytest.mark.parametrize(
    ("tampering", "kind", "says"),
    [
        ("UPDATE recon.plans SET state = 'verified'", "state", "is verified, by the log it is applied"),
        ("UPDATE recon.plans SET document = document || ' '", "document", "not the one of its digest"),
        (
            "UPDATE recon.plans SET document = '{}', digest = encode(sha256('{}'), 'hex')",
            "document",
            "not the one it was made with",
        ),
        (
            "INSERT INTO recon.approvals (plan, approver, digest, method) SELECT plan, 'eve', digest, 'recorded' FROM recon.plans",
            "approval",
            "does not say that eve approved",
        ),
        ("UPDATE recon.plans SET author = 'eve'", "document", "otherwise than its document: author"),
        ("UPDATE recon.plans SET expires_at = expires_at + interval '1 year'", "document", "its document: expires"),
        (
            "UPDATE recon.approvals SET method = 'signed', signature = 'x', key = 'SHA256:x'",
            "approval",
            "the approval of bob was not given as it stands",
        ),
        ("UPDATE recon.approvals SET approver = 'eve'", "approval", "does not say that eve approved"),
        ("UPDATE recon.approvals SET digest = 'x'", "approval", "does not say that bob approved"),
        ("UPDATE recon.batches SET changed = changed - 1", "ledger", "the log says 10"),
        ("DELETE FROM recon.batches", "ledger", "its batches changed 0"),
        ('DELETE FROM recon."ledger_{plan}" WHERE place = 3', "ledger", "holds 9 rows, its batches changed 10"),
        ('UPDATE recon."ledger_{plan}" SET reverted_at = now() WHERE place = 3', "ledger", "knows no revert"),
        ('DROP TABLE recon."ledger_{plan}"', "ledger", "its ledger is gone"),
        (
            "INSERT INTO recon.standing_sign_offs (id, reconciliation, document, digest, given_by, method)"
            " VALUES ('s1', 'rent_payments', '{{}}', 'x', 'eve', 'recorded')",
            "standing sign-off",
            "does not say that anybody gave it",
        ),
    ],
)
def test_whatever_stands_otherwise_than_the_log_says_is_found(
    rent: Database, applied: Plan, tampering: str, kind: str, says: str
) -> None:
    execute(rent, tampering.replace("{plan}", applied.plan).replace("{{}}", "{}"))
    result = replay.replay(rent)
    assert any(item.kind == kind and says in item.says for item in result.findings), result.findings
    named = replay.replay(rent, plan=applied.plan)
    assert any(item.kind == kind for item in named.findings)


def test_restored_rows_are_counted_again(rent: Database, workspace: Workspace, applied: Plan) -> None:
    revert.revert(rent, workspace, applied.plan, "ann", execute=True)
    execute(rent, f'UPDATE recon."ledger_{applied.plan}" SET reverted_at = NULL WHERE place = 3')
    assert "9 rows restored, the log says 10" in replay.replay(rent).findings[0].says


def test_a_log_cut_off_together_with_its_head_contradicts_the_plans(rent: Database, applied: Plan) -> None:
    execute(
        rent,
        "DELETE FROM recon.audit_log WHERE entry = (SELECT max(entry) FROM recon.audit_log)",
        "UPDATE recon.audit_head SET (entry, hash) = (SELECT entry, hash FROM recon.audit_log ORDER BY entry DESC LIMIT 1)",
    )
    result = replay.replay(rent)
    assert [(item.kind, item.plan) for item in result.findings] == [("state", applied.plan)]
    execute(rent, "DELETE FROM recon.audit_log", f"UPDATE recon.audit_head SET entry = 0, hash = '{BEFORE_THE_FIRST}'")
    assert {item.kind for item in replay.replay(rent).findings} >= {"state", "approval"}


def test_a_move_that_recon_never_makes_is_found_in_a_chain_that_is_whole(rent: Database, approved: Plan) -> None:
    with rent.session() as session:  # whoever may write the log may append to it
        audit.append(session, "eve", "move", plan=approved.plan, from_state="approved", to_state="verified")
        audit.append(session, "eve", "move", plan=approved.plan, from_state="planned", to_state="approved")
    assert [item.kind for item in replay.replay(rent).findings] == ["move", "move"]


def test_an_approval_that_was_logged_must_be_there(rent: Database, plan: Plan) -> None:
    def say(**detail: object) -> None:
        with rent.session() as session:
            audit.append(session, "Bob", "approval", plan=plan.plan, detail=detail)

    say(refused="Bob made the plan")
    assert replay.replay(rent).whole
    say(digest=plan.digest)
    assert "the approval of Bob is gone" in replay.replay(rent).findings[0].says
    approve = "INSERT INTO recon.approvals (plan, approver, digest, method) SELECT plan, 'bob', digest, 'recorded' FROM recon.plans"
    execute(rent, approve)
    assert replay.replay(rent).whole
    say(withdrawn=True, reason="no")
    assert "was withdrawn, and stands" in replay.replay(rent).findings[0].says
    execute(rent, "DELETE FROM recon.approvals")
    assert replay.replay(rent).whole
    say(digest="of another plan")
    execute(rent, approve, "UPDATE recon.approvals SET digest = 'x'")
    assert "does not say that bob approved" in replay.replay(rent).findings[0].says


def test_a_standing_sign_off_agrees_with_its_entries(database: Database) -> None:
    tables.ensure(database)
    with database.session() as session:
        audit.append(session, "bob", "standing given", reconciliation="rent", detail={"standing": "s1"})
        session.execute(
            "INSERT INTO recon.standing_sign_offs (id, reconciliation, document, digest, given_by, method)"
            " VALUES ('s1', 'rent', '{}', 'x', 'bob', 'recorded')"
        )
    assert replay.replay(database).whole
    execute(database, "UPDATE recon.standing_sign_offs SET withdrawn_at = now()")
    assert "by whom" in replay.replay(database).findings[0].says
    with database.session() as session:
        audit.append(session, "bob", "standing withdrawn", reconciliation="rent", detail={"standing": "s1"})
    assert replay.replay(database).whole
    execute(database, "UPDATE recon.standing_sign_offs SET withdrawn_at = NULL")
    assert "it stands although" in replay.replay(database).findings[0].says


@pytest.mark.parametrize(
    ("tampering", "says"),
    [
        ("UPDATE recon.standing_sign_offs SET document = document || ' '", "it is not as it was given"),
        (
            "UPDATE recon.standing_sign_offs SET document = '{}', digest = encode(sha256('{}'), 'hex')",
            "it is not as it was given",
        ),
        ("UPDATE recon.standing_sign_offs SET given_by = 'eve'", "it is not as it was given"),
        ("DELETE FROM recon.standing_sign_offs", "it is gone"),
    ],
)
def test_a_standing_sign_off_that_was_edited_or_deleted_is_found(
    database: Database, workspace: Workspace, tampering: str, says: str
) -> None:
    load_rent_sample(database)
    for actor in ("bob", "eve"):
        given = standing.give(database, workspace, RENT, actor, rows=10, days=30, actions=["link"])
    standing.withdraw(database, RENT, given.id, "eve", given.id)
    assert replay.replay(database).whole
    execute(database, tampering)
    found = replay.replay(database).findings
    assert {item.kind for item in found} == {"standing sign-off"}
    assert any(says in item.says for item in found)


def test_a_reason_that_is_the_id_of_another_withdraws_nothing_else(database: Database, workspace: Workspace) -> None:
    load_rent_sample(database)
    old, new = (standing.give(database, workspace, RENT, "bob", rows=10, days=30, actions=["link"]) for _ in range(2))
    standing.withdraw(database, RENT, old.id, "bob", new.id)
    assert replay.replay(database).findings == ()


def test_a_plan_that_is_named_shows_its_entries(rent: Database, applied: Plan) -> None:
    result = replay.replay(rent, plan=applied.plan)
    assert [row["to_state"] for row in result.history if row["event"] == "move"] == [
        "planned", "approved", "applying", "applied",
    ]  # fmt: skip
    with pytest.raises(NotFound):
        replay.replay(rent, plan="nothing")


# -- the command, and many entries -----------------------------------------------------------------------


def test_the_command_says_what_is_wrong_and_ends_with_1(log: Database, tmp_path: Path) -> None:
    place = ("--workspace", str(tmp_path))
    entry, hash = head(log)
    good = recon("audit", "--expect", hash, *place, url=log.url)
    assert good.code == 0, good.err
    assert f"entry {entry}, {hash}" in good.out
    assert "The expected hash is in the chain" in good.out
    execute(log, "UPDATE recon.audit_log SET actor = 'eve' WHERE entry = 7")
    bad = recon("audit", *place, url=log.url)
    assert bad.code == 1
    assert "edited" in bad.out
    document = recon("audit", "--json", "--expect", "0" * 63 + "1", *place, url=log.url)
    assert document.code == 1
    assert document.json["whole"] is False
    assert [(item["kind"], item["entry"]) for item in document.json["findings"]] == [("edited", 7), ("rewritten", None)]
    assert recon("audit", "--expect", "abc", *place, url=log.url).code == 2


@pytest.mark.one_engine
def test_thousands_of_entries_are_replayed_in_seconds_and_little_memory(database: Database) -> None:
    import tracemalloc
    from datetime import UTC, datetime
    from time import perf_counter

    tables.ensure(database)
    count, previous, at = 30_000, BEFORE_THE_FIRST, datetime(2026, 1, 1, tzinfo=UTC)
    said = dict.fromkeys(("reconciliation", "plan", "from_state", "to_state")) | {"actor": "ann", "event": "note"}
    with database.session() as session:
        copy = "COPY recon.audit_log (entry, at, actor, event, detail, hash) FROM STDIN"
        with session.driver.cursor() as cursor, cursor.copy(copy) as writer:
            for entry in range(1, count + 1):
                previous = entry_hash(previous, entry, at, {**said, "detail": {"number": entry}})
                writer.write_row((entry, at, "ann", "note", f'{{"number": {entry}}}', previous))
        session.execute("UPDATE recon.audit_head SET entry = $1, hash = $2", count, previous)
    steps: list[tuple[int, int]] = []
    began = perf_counter()
    assert replay.replay(database, progress=lambda done, total: steps.append((done, total))).whole
    assert perf_counter() - began < 10  # 0.8 on a busy machine with two cores
    assert steps[-1] == (count, count)
    tracemalloc.start()
    try:
        replay.replay(database)
        assert (
            tracemalloc.get_traced_memory()[1] < 9_000_000
        )  # thirty thousand entries at once are more than twice that
    finally:
        tracemalloc.stop()
