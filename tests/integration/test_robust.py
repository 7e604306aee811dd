"""What goes wrong outside recon: connections that break, values Python has no name for, rights that are missing."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import revert as reverting
from recon.backfill import sign_off
from recon.database import relations, tables
from recon.database.connect import Database
from recon.errors import DatabaseFailed, DatabaseUnreachable, SchemaMismatch, SpecError, UsageError
from recon.matching import pairs
from recon.matching import run as runs
from recon.matching.bind import bind
from recon.matching.explain import explain
from recon.names import DIALECT
from recon.workspace import Workspace
from tests.support import execute, rows, simple_spec

# -- statements ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", [(), (1,)])
def test_one_text_is_one_statement(database: Database, values: tuple[object, ...]) -> None:
    first = "SELECT $1::int" if values else "SELECT 1"
    with pytest.raises(DatabaseFailed, match="multiple commands"), database.session() as session:
        session.execute(f"{first}; CREATE TABLE x (id int)", *values)
    assert rows(database, "SELECT to_regclass('x')::text") == [(None,)]


def test_statements_of_every_kind_run_alone(database: Database) -> None:
    execute(
        database,
        "CREATE TABLE x AS SELECT n, 'a%s $1'::text AS word FROM generate_series(1, 3) AS n",
        "ALTER TABLE x ADD PRIMARY KEY (n)",
        "SET LOCAL statement_timeout = 1000",
        "ANALYZE x",
        "EXPLAIN SELECT * FROM x",
    )
    assert rows(database, "SELECT word FROM x WHERE n = $1", 2) == [("a%s $1",)]


def test_the_same_text_runs_again_after_its_table_was_altered(database: Database) -> None:
    execute(database, "CREATE TABLE x (id int)", "INSERT INTO x VALUES (1)")
    with database.session() as session:
        for _ in range(20):
            assert session.rows("SELECT * FROM x WHERE id = $1", 1) == [(1,)]
        execute_beside = "ALTER TABLE x ADD COLUMN word text"
        session.commit()
        execute(database, execute_beside)
        assert session.rows("SELECT * FROM x WHERE id = $1", 1) == [(1, None)]


def test_a_session_stays_usable_after_a_savepoint_caught_an_error(database: Database) -> None:
    with database.session() as session:
        with pytest.raises(psycopg.errors.DivisionByZero), session.driver.transaction():
            session.execute("SELECT 1 / 0")
        assert session.value("SELECT 1") == 1


# -- connections that break off --------------------------------------------------------------------------

_CUT = "SELECT pg_terminate_backend($1)"


def test_a_connection_cut_in_mid_work_ends_in_one_clear_error(
    database: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DatabaseUnreachable, match="broke off"), database.session() as session:  # noqa: PT012
        session.execute("CREATE TABLE x (id int)")
        session.connection.execute(sa.text("SELECT 1"))
        rows(database, _CUT, session.value("SELECT pg_backend_pid()"))
        session.execute("SELECT 1")
    assert rows(database, "SELECT to_regclass('x')::text") == [(None,)]
    assert capfd.readouterr().err == ""  # nothing of the libraries' own


def test_a_connection_cut_under_a_library_or_at_the_commit_ends_the_same(database: Database) -> None:
    for how in ("library", "commit", "named cursor"):
        with pytest.raises(DatabaseUnreachable, match="broke off"), database.session() as session:  # noqa: PT012
            rows(database, _CUT, session.value("SELECT pg_backend_pid()"))
            if how == "library":
                session.connection.execute(sa.text("SELECT 1"))
            if how == "named cursor":
                with session.driver.cursor(name="c") as cursor:
                    cursor.execute("SELECT 1")


def test_another_error_is_not_hidden_by_a_connection_that_broke_off(database: Database) -> None:
    with pytest.raises(KeyError), database.session() as session:  # noqa: PT012
        session.connection.execute(sa.text("SELECT 1"))
        rows(database, _CUT, session.value("SELECT pg_backend_pid()"))
        raise KeyError


def test_rollback_never_fails_on_a_connection_that_broke_off(database: Database) -> None:
    with database.session() as session:
        session.execute("CREATE TABLE x (id int)")
        session.rollback()
        assert session.value("SELECT to_regclass('x')::text") is None
    with pytest.raises(DatabaseUnreachable), database.session() as session:  # noqa: PT012
        rows(database, _CUT, session.value("SELECT pg_backend_pid()"))
        session.rollback()
        session.rollback()
        session.execute("SELECT 1")


# -- URLs ------------------------------------------------------------------------------------------------


def _with_query(database: Database, **query: str) -> Database:
    return Database(sa.make_url(database.url).update_query_dict(query).render_as_string(hide_password=False))


def test_options_of_the_url_are_kept_and_ours_win(database: Database) -> None:
    asked = _with_query(database, options="-csearch_path=mine -c timezone=Asia/Tokyo")
    assert rows(asked, "SELECT current_setting('search_path'), current_setting('timezone')") == [("mine", "UTC")]
    assert rows(_with_query(database, connect_timeout="3"), "SELECT 1") == [(1,)]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://ann:pa55@localhost/x?conect_timeout=3", 'option that PostgreSQL does not know.*"connect_timeout"'),
        ("postgresql://ann:pa55@localhost/x?pa55=3", "option that PostgreSQL does not know. Check the part"),
        ("postgresql://ann:x@pa55@nowhere.invalid/x", "host name that the URL names is not known.*%40"),
        ("postgresql://ann:pa55@nowhere.invalid/x", "host name nowhere.invalid is not known.*the database URL"),
        ("postgresql://ann@localhost:pa55/x", "cannot be read"),
        ("postgresql://ann:pa55@localhost/x?sslmode=pa55", "does not accept a connection option"),
        ("postgresql://ann:pa55@localhost:1/x", "Nothing listens at localhost, port 1"),
        ("postgresql:///x?host=localhost&port=1&user=ann&password=pa55", "Nothing listens at localhost, port 1"),
    ],
)  # fmt: skip
def test_the_cause_is_named_and_the_password_is_not(url: str, said: str) -> None:
    with pytest.raises((DatabaseUnreachable, UsageError), match=said) as error, Database(url).session():
        pass
    assert "pa55" not in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__


@pytest.mark.parametrize("words", ["No route to host", "Network is unreachable"])
def test_a_network_without_a_way_is_a_host_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    def connect(*_: object, **__: object) -> None:
        raise psycopg.OperationalError(f'connection to server at "10.0.0.1", port 5432 failed: {words}')

    monkeypatch.setattr(psycopg, "connect", connect)
    with (
        pytest.raises(DatabaseUnreachable, match=r"10.0.0.1, port 5432 does not answer"),
        Database("postgresql://10.0.0.1/x").session(),
    ):
        pass


def test_the_user_may_stand_among_the_options(database: Database) -> None:
    url = sa.make_url(database.url)
    if not url.host:
        pytest.skip("this engine asks no password on its socket")
    query = {"user": "ann", "password": "pa55"}
    wrong = sa.URL.create("postgresql", host=url.host, port=url.port, database=url.database, query=query)
    with pytest.raises(DatabaseUnreachable, match="user ann") as error, Database(str(wrong)).session():
        pass
    assert "pa55" not in str(error.value)


# -- values that Python has no name for ------------------------------------------------------------------

_TIMES = {
    "date": ["-infinity", "infinity", "0044-03-15 BC", "10000-01-01", "2024-02-29"],
    "timestamp": ["-infinity", "infinity", "0044-03-15 10:00:00 BC", "10000-01-01 00:00:00", "2024-02-29 24:00"],
    "timestamptz": ["-infinity", "infinity", "0044-03-15 10:00:00+00 BC", "10000-01-01 00:00:00+00", "2024-02-29"],
    "time": ["24:00:00", "23:59:59"],
    "timetz": ["24:00:00+00", "23:59:59+00"],
}


@pytest.mark.parametrize("kind", _TIMES)
def test_dates_and_times_that_only_postgresql_knows_work_from_match_to_revert(
    database: Database, workspace: Workspace, kind: str
) -> None:
    values = ", ".join(f"('{value}', '{value}')" for value in _TIMES[kind])
    execute(
        database,
        f"CREATE TABLE pay (id {kind} PRIMARY KEY, code {kind}, lease_id {kind})",
        f"CREATE TABLE lease (id {kind} PRIMARY KEY, code {kind})",
        f"INSERT INTO pay VALUES {values}",
        f"INSERT INTO lease VALUES {values}",
    )
    _from_match_to_revert(database, workspace, simple_spec(show=["t.code"]), len(_TIMES[kind]))


def test_usual_dates_and_times_stay_what_they_were(database: Database) -> None:
    (row,) = rows(
        database,
        "SELECT date '2024-02-29', time '12:30', timestamp '2024-02-29 12:30', timestamptz '2024-02-29 12:30+02', "
        "ARRAY[date '2024-02-29', 'infinity'], interval '1 day', NULL::date",
    )
    day, moment = datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 12, 30)  # noqa: DTZ001 (has no zone)
    zoned = datetime.datetime(2024, 2, 29, 10, 30, tzinfo=datetime.UTC)
    assert row == (day, datetime.time(12, 30), moment, zoned, [day, "infinity"], datetime.timedelta(days=1), None)


def _from_match_to_revert(database: Database, workspace: Workspace, spec: Any, count: int) -> None:
    run = runs.match(database, spec, "ann")
    assert run.outcomes == {"matched": count}
    with database.session(read_only=True) as session:
        bound = bind(session, spec)
        listed = list(pairs.iterate(session, bound, run.run))
        assert len(listed) == count
        session.users_path()
        for row in session.rows("SELECT id::text FROM pay"):
            assert explain(session, bound, row[0]).passes[0].result == "best"
    made = plans.make(database, workspace, spec, "ann")
    assert made is not None
    sign_off.approve(database, workspace, made.plan, "bob")
    assert applying.apply(database, workspace, made.plan, "ann", execute=True).changed == count
    assert rows(database, "SELECT count(*) FROM pay WHERE lease_id = id") == [(count,)]
    assert reverting.revert(database, workspace, made.plan, "ann", execute=True).restored == count


# -- types -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "kind", "keys"),
    [
        ("CREATE TYPE mood AS ENUM ('sad', 'happy')", "mood", ["sad", "happy"]),
        ("CREATE TYPE \"My \"\"Mood\" AS ENUM ('sad', 'happy')", '"My ""Mood"', ["sad", "happy"]),
        ("CREATE DOMAIN code AS varchar(5) CHECK (value <> '')", "code", ["a", "B"]),
        ("CREATE DOMAIN number AS numeric(6,2)", "number", ["1.50", "22.25"]),
        ("SELECT 1", "text[]", ["{a,b}", '{"c d",NULL}']),
        ("CREATE TYPE mood AS ENUM ('sad', 'happy')", "mood[]", ["{sad}", "{happy,sad}"]),
        ("SELECT 1", "bit varying(5)", ["101", "11"]),
        ("SELECT 1", "interval(3)", ["1 day"]),
        ("SELECT 1", "interval day to second(3)", ["1 day", "2 days 03:00:00.5"]),
    ],
)
def test_keys_of_types_of_your_own_work_from_match_to_revert(
    database: Database, workspace: Workspace, made: str, kind: str, keys: list[str]
) -> None:
    execute(
        database,
        made,
        f"CREATE TABLE pay (id {kind} PRIMARY KEY, code {kind}, lease_id {kind})",
        f"CREATE TABLE lease (id {kind} PRIMARY KEY, code {kind})",
    )
    with database.session() as session:
        for key in keys:
            session.execute(f"INSERT INTO pay VALUES (CAST($1::text AS {kind}), CAST($1::text AS {kind}))", key)
            session.execute(f"INSERT INTO lease VALUES (CAST($1::text AS {kind}), CAST($1::text AS {kind}))", key)
    _from_match_to_revert(database, workspace, simple_spec(show=["t.code"]), len(keys))


def test_a_type_means_the_same_under_every_search_path(database: Database) -> None:
    types = [
        "varchar(3)", "character(2)", "numeric(10,2)", "numeric(5,-2)", "timestamp(3) with time zone", "bit(3)",
        "time without time zone", "bit varying(5)", "interval day to second(2)", "interval(3)", "varchar(3)[]",
        "double precision", '"char"', "name", "xid8", "tstzrange", "inet", "uuid[]", "public.mood", "public.mood[]",
        '"My Schema"."my.""type"', '"My Schema"."my.""type"[]', "public.small", "public.varchar", "bytea", "jsonb",
    ]  # fmt: skip
    execute(
        database,
        "CREATE TYPE mood AS ENUM ('sad')",
        'CREATE SCHEMA "My Schema"',
        'CREATE TYPE "My Schema"."my.""type" AS ENUM (\'sad\')',
        "CREATE DOMAIN small AS int2",
        "CREATE TYPE public.varchar AS ENUM ('sad')",
        f"CREATE TABLE x ({', '.join(f'c{number} {kind}' for number, kind in enumerate(types))})",
    )
    with database.session() as session:
        relation = relations.table(session, "x", "t")
        assert session.value("SELECT current_setting('search_path')") == '"$user", public'
        session.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        casts = [f"CAST(NULL AS {relation.type_of(name).sql(DIALECT)}) AS {name}" for name in relation.columns]
        session.execute(f"CREATE TABLE public.y AS SELECT {', '.join(casts)}")
        shape = "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0"
        assert session.rows(shape, "public.y") == session.rows(shape, "public.x")


def test_a_link_may_be_a_domain_over_the_type_of_the_key(database: Database) -> None:
    execute(
        database,
        "CREATE DOMAIN lease_number AS bigint CHECK (value > 0)",
        "CREATE DOMAIN lease_of_ours AS lease_number",
        "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id lease_of_ours)",
        "CREATE TABLE lease (id int PRIMARY KEY, code text)",
        "INSERT INTO pay VALUES (1, 'x')",
        "INSERT INTO lease VALUES (7, 'x')",
    )
    assert runs.match(database, simple_spec(), "ann").outcomes == {"matched": 1}
    with database.session() as session:
        assert relations.table(session, "pay", "t").columns["lease_id"] == "int8"


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE pay DISABLE TRIGGER stamp",
        "ALTER TABLE pay ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE pay FORCE ROW LEVEL SECURITY",
        "CREATE POLICY mine ON pay USING (code = 'x')",
        "ALTER POLICY part ON pay WITH CHECK (code = 'y')",
        "ALTER TABLE pay ALTER COLUMN code SET DEFAULT 'y'",
        "CREATE TABLE child () INHERITS (pay)",
        "ALTER TABLE pay INHERIT parent",
        "ALTER TABLE pay ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY",
    ],
)
def test_a_fingerprint_shows_every_change_that_decides_a_write(database: Database, change: str) -> None:
    execute(
        database,
        "CREATE TABLE parent (code text)",
        "CREATE TABLE pay (id int PRIMARY KEY, code text DEFAULT 'x', number int NOT NULL)",
        "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
        "CREATE TRIGGER stamp BEFORE UPDATE ON pay FOR EACH ROW EXECUTE FUNCTION stamp()",
        "CREATE POLICY part ON pay WITH CHECK (code = 'x')",
    )

    def taken(path: str) -> str:
        with database.session() as session:
            relation = relations.table(session, "public.pay", "t")
            session.execute("SELECT set_config('search_path', $1, true)", path)
            return relations.fingerprint(session, relation)

    before = taken("public")
    assert taken("pg_catalog, pg_temp") == before
    execute(database, change)
    assert taken("public") != before


def test_a_new_partition_changes_the_fingerprint(database: Database) -> None:
    execute(database, "CREATE TABLE pay (id int) PARTITION BY LIST (id)")

    def taken() -> str:
        with database.session() as session:
            return relations.fingerprint(session, relations.table(session, "pay", "t"))

    before = taken()
    execute(database, "CREATE TABLE pay_1 PARTITION OF pay FOR VALUES IN (1)")
    assert taken() != before


def test_columns_that_postgresql_alone_fills_are_named(database: Database) -> None:
    execute(
        database,
        "CREATE TABLE pay (id int GENERATED ALWAYS AS IDENTITY, number int GENERATED BY DEFAULT AS IDENTITY, code text, "
        '"Double" int GENERATED ALWAYS AS (2) STORED)',
    )
    with database.session() as session:
        relation = relations.table(session, "pay", "t")
        assert relations.unwritable(session, relation, ["Double", "code", "number", "id"]) == ["Double", "id"]
        assert relations.unwritable(session, relation, ["code"]) == []


# -- queries of a side -----------------------------------------------------------------------------------


def _described(database: Database, query: str, *, read_only: bool = False) -> relations.Relation:
    with database.session(read_only=read_only) as session:
        return relations.records(session, simple_spec(source={"query": query, "key": "id"}), "s")


@pytest.fixture
def house(database: Database) -> Database:
    execute(
        database,
        "CREATE TABLE pay (id int PRIMARY KEY, code text)",
        'CREATE TABLE "Pay" (id int, other text)',
        "CREATE FUNCTION boom(pay) RETURNS int LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN 1; END'",
        "CREATE FUNCTION calm(pay) RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN 1; END'",
        "CREATE FUNCTION bang(int, text) RETURNS int LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN 1; END'",
        "CREATE OPERATOR + (LEFTARG = int, RIGHTARG = text, FUNCTION = bang)",
        "CREATE FUNCTION bang(int, int, text) RETURNS int LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN 1; END'",
        "CREATE AGGREGATE max(int, text) (SFUNC = bang, STYPE = int)",
        "CREATE FUNCTION upper(pay) RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
    )
    return database


@pytest.mark.parametrize(
    ("query", "table"),
    [
        ("with pay as (select id, code from pay) select * from pay", "pay"),
        ("with PAY as (select 1 as id, 'x' as code) select * from pay", None),
        ('with "Pay" as (select 1 as id, code from pay) select * from "Pay"', "pay"),
        ('with pay as (select 1 as id) select * from "Pay"', "Pay"),
        ("with recursive pay as (select 1 as id union all select id + 1 from pay where id < 3) select * from pay", None),
        ("with a as (with pay as (select 1 as id) select * from pay) select pay.* from pay, a", "pay"),
        ("with pay as (select 1 as id) select * from public.pay", "pay"),
        ("select PAY.id, public.pay.code from PAY", "pay"),
    ],
)  # fmt: skip
def test_a_name_in_a_query_means_what_it_means_in_sql(house: Database, query: str, table: str | None) -> None:
    found = _described(house, query)
    with house.session() as session:
        session.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        session.execute(found.tree.sql(DIALECT))
        expected = session.driver.execute(f'SELECT * FROM public."{table or "pay"}" LIMIT 0').description
    assert ('"public"' in found.tree.sql(DIALECT)) == (table is not None)
    if table and "1 as" not in query:
        assert list(found.columns) == [column.name for column in expected or []]


@pytest.mark.parametrize("query", ['select * from "pays"', "select * from pays", "select * from PAYS"])
def test_a_missing_table_is_named_once_and_plainly(house: Database, query: str) -> None:
    with pytest.raises(SchemaMismatch, match=r'no table "pays" in this database. Did you mean "(pay|Pay)"'):
        _described(house, query)


def test_a_sample_of_a_table_is_refused(house: Database) -> None:
    with pytest.raises(ValueError, match="tablesample"):
        _described(house, "select * from pay tablesample system (10)")


@pytest.mark.parametrize("read_only", [True, False])
@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("select p.id, p.boom from pay p", r"boom\(pay\)"),
        ("select p.id, (p).boom from pay p", r"boom\(pay\)"),
        ("select id, id from pay p where exists (select 1 from pay q where q.boom = 1)", r"boom\(pay\)"),
        ("with a as (select p.boom from pay p) select 1 as id from a", r"boom\(pay\)"),
        ("select id + code as id from pay", r"bang\(integer,text\)"),
        ("select max(id, code) as id from pay", r"bang\(integer,integer,text\)"),
        ("select id, upper(p) from pay p", r"upper\(pay\)"),
    ],
)
def test_a_query_calls_no_volatile_function_in_any_disguise(
    house: Database, query: str, named: str, read_only: bool
) -> None:
    with pytest.raises(SpecError, match=rf"calls {named}.*VOLATILE"):
        _described(house, query, read_only=read_only)


@pytest.mark.parametrize("read_only", [True, False])
def test_a_query_that_only_reads_is_taken_and_leaves_nothing(house: Database, read_only: bool) -> None:
    assert list(_described(house, "select p.id, p.calm, p.* from pay p", read_only=read_only).columns)[:2] == [
        "id",
        "calm",
    ]
    assert rows(house, "SELECT count(*) FROM pg_class WHERE relname LIKE 'recon\\_query%'") == [(0,)]


def test_no_operator_of_postgresql_itself_and_no_function_of_one_record_is_volatile(database: Database) -> None:
    """On these no dependency is kept, so that no query could be refused for them."""
    operators = "SELECT oprname FROM pg_operator JOIN pg_proc ON pg_proc.oid = oprcode WHERE provolatile = 'v'"
    of_records = """
        SELECT oid::regprocedure::text FROM pg_proc WHERE provolatile = 'v' AND pronargs = 1 AND oid < 16384 AND provariadic = 0
        AND prorettype <> 'trigger'::regtype
        AND (proargtypes[0] IN (SELECT oid FROM pg_type WHERE typtype = 'c') OR proargtypes[0] IN ('record'::regtype, 'anyelement'::regtype, '"any"'::regtype))
    """
    assert rows(database, operators) == []
    assert rows(database, of_records) == []


# -- keys that people type -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("int", "abc"), ("int", ""), ("int", "99999999999"), ("int", "[1,2]"), ("int", "a\x00"), ("uuid", "1"),
        ("mood", "angry"), ("small", "-1"), ("date", "2024-02-30"), ("int", "\udcff"),
    ],
)  # fmt: skip
def test_a_key_that_cannot_be_read_is_a_wrong_usage(database: Database, kind: str, key: str) -> None:
    execute(
        database,
        "CREATE TYPE mood AS ENUM ('sad')",
        "CREATE DOMAIN small AS int CHECK (value > 0)",
        f"CREATE TABLE pay (id {kind} PRIMARY KEY, code text, lease_id int)",
        "CREATE TABLE lease (id int PRIMARY KEY, code text)",
    )
    with database.session(read_only=True) as session:
        with pytest.raises(UsageError, match="is not a key of pay") as error:
            explain(session, bind(session, simple_spec()), key)
        assert session.value("SELECT 1") == 1
    assert error.value.exit_code == 2


# -- rights ----------------------------------------------------------------------------------------------


@pytest.fixture
def visitor(database: Database) -> Iterator[Database]:
    """The same database for a role that may do nothing there but connect."""
    name = sa.make_url(database.url).database
    role = f"visitor_{name}"
    execute(
        database,
        f"CREATE ROLE {role} LOGIN PASSWORD 'secret'",
        f"REVOKE ALL ON DATABASE {name} FROM PUBLIC",
        f"GRANT CONNECT ON DATABASE {name} TO {role}",
    )
    url = sa.make_url(database.url).set(username=role, password="secret")
    yield Database(url.render_as_string(hide_password=False))
    execute(database, f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


def test_missing_rights_on_our_own_schema_are_named(database: Database, visitor: Database) -> None:
    with pytest.raises(DatabaseFailed, match=r"schema recon\. It needs the right CREATE on the database once"):
        tables.ensure(visitor)
    role = sa.make_url(visitor.url).username
    execute(database, "CREATE SCHEMA recon")
    with pytest.raises(DatabaseFailed, match="all rights on schema recon"):
        tables.ensure(visitor)
    execute(database, f"GRANT ALL ON SCHEMA recon TO {role}")
    tables.ensure(visitor)  # the owner made the schema: no right on the database is needed
    tables.ensure(visitor)
    execute(database, f"ALTER TABLE recon.meta OWNER TO {sa.make_url(database.url).username or 'postgres'}")
    with pytest.raises(DatabaseFailed, match="all rights on schema recon and its tables"):
        tables.ensure(visitor)


def test_a_missing_right_to_check_a_query_is_named(database: Database, visitor: Database) -> None:
    execute(database, "CREATE TABLE pay (id int)", f"GRANT SELECT ON pay TO {sa.make_url(visitor.url).username}")
    for read_only in (True, False):
        with pytest.raises(DatabaseFailed, match="right TEMPORARY") as error:
            _described(visitor, "select id from public.pay", read_only=read_only)
        assert _grant(visitor) in error.value.todo


def test_whoever_lacks_a_right_is_named(database: Database, visitor: Database) -> None:
    execute(database, "CREATE TABLE pay (id int)")
    role = sa.make_url(visitor.url).username
    with pytest.raises(DatabaseFailed, match="permission denied for table pay") as error, visitor.session() as session:
        session.rows("SELECT id FROM public.pay")
    assert f'The role "{role}" asked for it' in error.value.why
    assert error.value.todo == f'Its owner has to GRANT the right to "{role}"; or connect as a user who has it.'
    with pytest.raises(DatabaseFailed) as error, visitor.session() as session:
        session.execute("CREATE TEMPORARY TABLE few (id int)")
    assert _grant(visitor) in error.value.todo


def _grant(visitor: Database) -> str:
    url = sa.make_url(visitor.url)
    return f'GRANT TEMPORARY ON DATABASE "{url.database}" TO "{url.username}";'
