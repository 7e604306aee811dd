"""Decisions of people in a run: as tables with typed keys, as conflicts with what the data no longer allows."""

from __future__ import annotations

from typing import Any

import pytest

from recon.database.connect import Database, Session
from recon.matching import bind as binding
from recon.matching import overrides
from recon.matching.overrides import Prepared
from tests.decided import ONE_TO_ONE, Given, decide, fill, made, prepared, spec_of
from tests.support import execute, rows

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code


@pytest.fixture
def data(database: Database) -> Database:
    fill(database)
    return database


def test_without_decisions_a_run_asks_once(data: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    decide(data, spec_of(name="another"), "link", "1", "10")
    asked: list[str] = []
    execute_statement = Session.execute

    def counted(self: Session, sql: str, *values: object) -> Any:
        asked.append(sql)
        return execute_statement(self, sql, *values)

    with data.session() as session:
        bound = binding.bind(session, spec_of())
        monkeypatch.setattr(Session, "execute", counted)
        assert overrides.prepare(session, bound) == Prepared()
        monkeypatch.undo()
    assert len(asked) == 1


def test_decisions_become_tables_with_typed_keys(data: Database) -> None:
    spec = spec_of()
    for item in (("link", "1", "10"), ("forbid", "2", "11"), ("exclude", "3", None), ("exclude", None, "12")):
        decide(data, spec, *item)

    def look(session: Session, found: Prepared) -> Any:
        kinds = session.rows(
            "SELECT attrelid::regclass::text, attname::text, atttypid::regtype::text FROM pg_attribute WHERE attnum > 0"
            " AND attrelid IN ('recon_links'::regclass, 'recon_forbidden'::regclass) ORDER BY attrelid::regclass::text DESC, attnum"
        )
        names = ("links", "forbidden", "excluded_targets", "excluded_sources")
        return found, kinds, [session.rows(f"SELECT * FROM recon_{name}") for name in names]

    found, kinds, content = prepared(data, spec, look)
    assert found == Prepared(True, True, True, True, False, [], 0)
    assert kinds == [
        (table, key, "integer")
        for table in ("recon_links", "recon_forbidden")
        for key in ("target_key", "source_key")
    ]  # fmt: skip
    assert content == [[(1, 10)], [(2, 11)], [(3,)], [(12,)]]
    assert rows(data, "SELECT to_regclass('pg_temp.recon_links')::text") == [(None,)]


def test_a_key_whose_type_was_changed_still_finds_its_record(data: Database) -> None:
    decide(data, spec_of(), "link", "1", "10")
    execute(
        data, "ALTER TABLE pay ALTER id TYPE text, ALTER lease_id TYPE text", "ALTER TABLE lease ALTER id TYPE text"
    )
    assert prepared(data, spec_of(), made("recon_links")) == [("1", "10")]


def test_the_record_under_where_is_meant_where_a_key_is_unique_only_there(data: Database) -> None:
    execute(data, "ALTER TABLE pay DROP CONSTRAINT pay_pkey", "INSERT INTO pay VALUES (1, 'old', 13, true)")
    decide(data, spec_of(), "link", "1", "10")
    assert prepared(data, spec_of(), made("recon_links")) == [(1, 10)]
    assert prepared(data, spec_of()).conflicts == []


CHANGES: list[tuple[str, dict[str, Any], Given, str | None, list[tuple[Any, ...]]]] = [
    # what changed since, the spec, the decision, what is said of it, which records may not be decided by rules
    ("UPDATE pay SET lease_id = 11 WHERE id = 1", {}, ("link", "1", "10"), "linked to another source", []),
    ("UPDATE pay SET lease_id = 10 WHERE id = 1", {}, ("link", "1", "10"), None, []),
    ("UPDATE pay SET lease_id = 10 WHERE id = 1; DELETE FROM lease WHERE id = 10", {}, ("link", "1", "10"), None, []),
    ("DELETE FROM lease WHERE id = 10", {}, ("link", "1", "10"), "the source does not exist", [(1,)]),
    ("UPDATE lease SET gone = true WHERE id = 10", {}, ("link", "1", "10"), "the source is outside", [(1,)]),
    ("DELETE FROM pay WHERE id = 1", {}, ("link", "1", "10"), "the target does not exist", []),
    ("UPDATE pay SET gone = NULL WHERE id = 1", {}, ("link", "1", "10"), "the target is outside", []),
    ("UPDATE pay SET lease_id = 10 WHERE id = 2", {}, ("link", "1", "10"), None, []),
    ("UPDATE pay SET lease_id = 10 WHERE id = 2", ONE_TO_ONE, ("link", "1", "10"), "another target holds", [(1,)]),
    ("UPDATE pay SET lease_id = 10 WHERE id = 6", ONE_TO_ONE, ("link", "1", "10"), "another target holds", [(1,)]),
    ("UPDATE pay SET lease_id = 10 WHERE id = 1", {}, ("forbid", "1", "10"), "holds this source already", []),
    ("UPDATE pay SET lease_id = 11 WHERE id = 1", {}, ("forbid", "1", "10"), None, []),
    ("UPDATE pay SET lease_id = 10 WHERE id = 1", {}, ("exclude", "1", None), "the target is linked already", []),
    ("UPDATE pay SET lease_id = 10 WHERE id = 1", {}, ("exclude", None, "10"), None, []),
    ("DELETE FROM pay WHERE id = 1", {}, ("exclude", "1", None), None, []),
]
FROM_SOURCE = {"population": "source", "cardinality": "one_to_one"}
CHANGES += [
    ("DELETE FROM lease WHERE id = 10", FROM_SOURCE, ("link", "1", "10"), "the source does not exist", []),
    ("DELETE FROM pay WHERE id = 1", FROM_SOURCE, ("link", "1", "10"), "the target does not exist", [(10,)]),
    ("UPDATE pay SET gone = true WHERE id = 1", FROM_SOURCE, ("link", "1", "10"), "the target is outside", [(10,)]),
    ("UPDATE pay SET lease_id = 11 WHERE id = 1", FROM_SOURCE, ("link", "1", "10"), "linked to another", [(10,)]),
    ("UPDATE pay SET lease_id = 10 WHERE id = 2", FROM_SOURCE, ("link", "1", "10"), "another target holds", []),
    ("UPDATE pay SET lease_id = 10 WHERE id = 1", FROM_SOURCE, ("link", "1", "10"), None, []),
    ("UPDATE pay SET lease_id = 10 WHERE id = 2", FROM_SOURCE, ("exclude", None, "10"), "the source is linked", []),
    ("UPDATE pay SET lease_id = 10 WHERE id = 1", FROM_SOURCE, ("forbid", "1", "10"), "holds this source", []),
]


@pytest.mark.parametrize(("change", "fields", "item", "says", "undecided"), CHANGES)
def test_what_the_data_no_longer_allows_is_a_conflict(
    data: Database, change: str, fields: dict[str, Any], item: Given, says: str | None, undecided: list[tuple[Any, ...]]
) -> None:
    spec = spec_of(**fields)
    decide(data, spec, *item)
    execute(data, *change.split("; "))

    def look(session: Session, found: Prepared) -> Any:
        key = f"{spec.population}_key"
        keys = session.rows(f"SELECT {key} FROM recon_conflicted") if found.conflicted else []
        return found, keys, session.rows("SELECT * FROM recon_links") if found.links else []

    found, keys, links = prepared(data, spec, look)
    assert keys == undecided
    if says is None:
        assert found.conflicts == []
    else:
        assert found.conflict_count == 1
        assert says in found.conflicts[0]["what"]
        assert found.conflicts[0] | {"what": ""} == {
            "kind": item[0], "target_key": item[1], "source_key": item[2], "what": "",
            "author": "ann", "reason": f"{item[0]} it",
        }  # fmt: skip
    held_elsewhere_in_many_to_one = (item[0], says, "WHERE id = 2" in change) == ("link", None, True)
    assert links == ([(1, 10)] if held_elsewhere_in_many_to_one else [])


def test_two_links_of_one_source_conflict_once_the_spec_is_one_to_one(data: Database) -> None:
    decide(data, spec_of(), "link", "1", "10")
    decide(data, spec_of(), "link", "2", "10")
    decide(data, spec_of(), "link", "3", "11")
    found, links, undecided = prepared(
        data,
        spec_of(**ONE_TO_ONE),
        lambda session, found: (
            found, session.rows("SELECT * FROM recon_links"), session.rows("SELECT target_key FROM recon_conflicted"),
        ),
    )  # fmt: skip
    assert (found.conflict_count, links, undecided) == (2, [(3, 11)], [(1,), (2,)])


def test_without_a_link_column_nothing_is_linked_before(data: Database) -> None:
    spec = spec_of(link=None)
    decide(data, spec, "link", "5", "10")
    decide(data, spec, "exclude", "4", None)
    assert prepared(data, spec, made("recon_links")) == [(5, 10)]
