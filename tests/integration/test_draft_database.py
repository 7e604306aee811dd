"""A spec drafted from the tables of a database, by the links that exist."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from random import Random

import pytest
import sqlalchemy as sa

from recon import workflow
from recon.database.connect import Database
from recon.errors import DatabaseFailed, NotFound, UsageError
from recon.spec import Reconciliation
from recon.starting import with_database
from recon.workspace import Workspace
from tests.support import execute, rows

BY_HAND = {
    "name": "by_hand",
    "target": {"table": "booking", "key": "id"},
    "source": {"table": "bill", "key": "id"},
    "link": {"column": "bill_id"},
    "passes": [
        {"name": "code", "on": {"regexp_replace(lower(said), '[^a-z0-9]', '', 'g')": "regexp_replace(lower(code), '[^a-z0-9]', '', 'g')"}},
        {"name": "who_and_amount", "on": {"who": "client", "amount": "amount"}},
    ],
}  # fmt: skip


def _fill(database: Database) -> dict[int, int]:
    """Bills and bookings, of which a part is linked; returns the bill of each booking that has one and is not linked."""
    random = Random(4)
    execute(
        database,
        "CREATE TABLE bill (id int PRIMARY KEY, code text, client int, amount numeric(12, 2), issued date)",
        "CREATE TABLE booking (id bigint PRIMARY KEY, bill_id int, said text, who int, amount numeric(12, 2), paid date, clerk int)",
    )
    truth: dict[int, int] = {}
    with database.session() as session:
        for number in range(1, 301):
            code, client, amount = (
                f"B-{random.randrange(10**6)}",
                random.randrange(40),
                random.randrange(100, 90_000) / 100,
            )
            issued = date(2024, 1, 1) + timedelta(random.randrange(300))
            values = (number, code, client, str(amount), issued)
            if random.random() < 0.9:
                session.execute("INSERT INTO bill VALUES ($1, $2, $3, $4::numeric, $5)", *values)
                bill = number
            else:
                bill = None
            linked = bill if random.random() < 0.5 else None
            if bill and not linked:
                truth[1000 + number] = bill
            said = random.choice((code, code.lower().replace("-", ""), None))
            session.execute(
                "INSERT INTO booking VALUES ($1, $2, $3, $4, $5::numeric, $6, $7)",
                1000 + number, linked, said, client, str(amount), issued + timedelta(random.randrange(9)), random.randrange(1, 9),
            )  # fmt: skip
    return truth


def _right(database: Database, place: Workspace, spec: Reconciliation, truth: dict[int, int]) -> tuple[float, float]:
    run = workflow.match(database, place, spec, "ann")
    table = f"recon.decisions_{run.run}"
    found = rows(database, f"SELECT target_key, source_key FROM {table} WHERE outcome = 'matched'")
    right = sum(truth.get(int(target)) == int(source) for target, source in found)
    return right / max(len(found), 1), right / len(truth)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


def test_drafted_passes_find_what_passes_by_hand_find(database: Database, place: Path) -> None:
    """The pair of tables and the link are found without being named; nothing is written, and no password kept."""
    truth = _fill(database)
    started = with_database(place, database.url, name="drafted")
    assert started.draft is not None
    assert (started.draft.target.label, started.draft.source.label, started.draft.link) == (
        "booking",
        "bill",
        "bill_id",
    )
    assert started.draft.learnt.known > 100
    names = rows(database, "SELECT relname FROM pg_class WHERE relname LIKE 'recon\\_draft%'")
    assert names == []
    assert started.spec is not None
    assert database.url not in started.spec.read_text(encoding="utf-8")
    spec = started.workspace.spec("drafted")
    drafted = _right(database, started.workspace, spec, truth)
    by_hand = _right(database, started.workspace, Reconciliation.model_validate(BY_HAND), truth)
    assert drafted[0] >= max(0.99, by_hand[0] - 0.005)
    assert drafted[1] >= by_hand[1] - 0.02


@pytest.mark.one_engine
def test_where_half_is_linked_the_other_half_is_no_accident(database: Database, place: Path) -> None:
    """Records that are not linked yet agree as those do that are: they do not make a code that names its partner look common."""
    execute(
        database,
        "CREATE TABLE client (id int PRIMARY KEY, code text)",
        "CREATE TABLE line (bill int, number int, said text, client_id int, PRIMARY KEY (bill, number))",
        "INSERT INTO client SELECT g, 'C-' || (1000 + g) FROM generate_series(1, 200) AS g",
        "INSERT INTO line SELECT g / 3, g % 3, 'c' || (1001 + g * 7 % 200), CASE g % 2 WHEN 0 THEN g * 7 % 200 + 1 END"
        " FROM generate_series(1, 450) AS g",
    )
    drafted = with_database(place, database.url, target="line", source="client", link="client_id").draft
    assert drafted is not None
    assert drafted.cardinality == "many_to_one"
    first = drafted.rules[0]
    assert not first.proposes
    assert [item.weight.comparison.target.form.name for item in first.asked] == ["letters"]  # and not the digits alone
    assert (first.known, first.true, first.matched) == (225, 225, 450)


def test_a_table_that_is_not_there_is_said_with_the_nearest_name(database: Database, place: Path) -> None:
    execute(database, "CREATE TABLE booking (id int PRIMARY KEY, bill_id int)")
    with pytest.raises(NotFound, match="bookin "):
        with_database(place, database.url, target="bookin")
    assert not place.exists()


@pytest.mark.one_engine
def test_a_view_is_named_as_one(database: Database, place: Path) -> None:
    execute(
        database,
        "CREATE TABLE booking (id int PRIMARY KEY, bill_id int)",
        "CREATE VIEW late AS SELECT * FROM booking",
        "CREATE SCHEMA seen",
        "CREATE MATERIALIZED VIEW seen.later AS SELECT * FROM booking",
    )
    for name, kind in (("late", "a view"), ("seen.later", "a materialized view"), ("later", "a materialized view")):
        with pytest.raises(UsageError) as error:
            with_database(place, database.url, target=name)
        assert error.value.what == f"{name} is {kind}, and a draft is made of tables."
        assert f"`table: {name}` and a `key`" in error.value.todo
    assert not place.exists()


@pytest.mark.one_engine
@pytest.mark.parametrize(("kind", "none"), [("int", "0"), ("text", "''")])
def test_a_link_that_is_never_null_is_named(database: Database, place: Path, kind: str, none: str) -> None:
    execute(
        database,
        f"CREATE TABLE bill (id {kind} PRIMARY KEY, code text)",
        f"CREATE TABLE booking (id int PRIMARY KEY, bill_id {kind} NOT NULL, clerk {kind})",
        f"INSERT INTO bill SELECT g::text::{kind}, 'B' FROM generate_series(1, 20) AS g",
        f"INSERT INTO booking SELECT g, CASE g % 2 WHEN 0 THEN g::text::{kind} ELSE {none} END, g::text::{kind}"
        " FROM generate_series(1, 20) AS g",
    )
    with pytest.raises(UsageError) as error:
        with_database(place, database.url, target="booking", source="bill")
    assert error.value.what == 'The column "bill_id" of booking holds keys of bill and has no empty (NULL) rows.'
    assert f"declared NOT NULL. 10 rows hold {none}, which seems to stand for none." in error.value.why
    assert 'ALTER TABLE "public"."booking" ALTER COLUMN "bill_id" DROP NOT NULL' in error.value.todo
    with pytest.raises(UsageError) as error:  # filled in every row, as it may be
        with_database(place, database.url, target="booking", source="bill", link="clerk")
    assert '"clerk" of booking' in error.value.what
    assert "NOT NULL" not in str(error.value)


@pytest.mark.one_engine
def test_a_role_without_temporary_tables_is_told_what_to_ask_for(database: Database, place: Path) -> None:
    url = sa.make_url(database.url)
    role = f"Visitor of {url.database}"
    execute(
        database,
        f"CREATE ROLE \"{role}\" LOGIN PASSWORD 'secret'",
        f"REVOKE ALL ON DATABASE {url.database} FROM PUBLIC",
        f'GRANT CONNECT ON DATABASE {url.database} TO "{role}"',
    )
    try:
        visitor = url.set(username=role, password="secret").render_as_string(hide_password=False)
        with pytest.raises(DatabaseFailed, match="may make no temporary tables") as error:
            with_database(place, visitor)
        assert f'GRANT TEMPORARY ON DATABASE "{url.database}" TO "{role}";' in error.value.todo
    finally:
        execute(database, f'DROP OWNED BY "{role}" CASCADE', f'DROP ROLE "{role}"')
