"""Names and values that hurt: they work, or are refused in one clear line; nothing is ever spliced into SQL."""

from __future__ import annotations

from typing import Any

import pytest

from recon import workflow
from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import revert as reverting
from recon.backfill import review as reviewing
from recon.backfill import sign_off
from recon.backfill import verify as verifying
from recon.database.connect import Database
from recon.errors import NotFound, NotLoaded, SchemaMismatch, UsageError
from recon.matching import pairs
from recon.matching import run as runs
from recon.matching.bind import bind
from recon.names import quote
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests.support import execute, rows, simple_spec

NAMES = [
    'order"; drop table x; --',
    "with spaces",
    "CamelCase",
    "l" * 63,
    "mïlch_ß_東京",
    "select",
    "per%cent %s %(x)s",
    "colon :name $1",
    "back\\slash'quote",
    "line\nbreak",
    "{brace}",
]


def _quoted(name: str) -> str:
    """How an expression names a column: as in SQL, in double quotes."""
    return '"' + name.replace('"', '""') + '"'


def _hostile_spec(name: str) -> Reconciliation:
    table = _quoted(name) if name.startswith('"') or "." in name else name
    return Reconciliation.model_validate(
        {
            "name": "hostile",
            "target": {"table": table, "key": name, "where": f"{_quoted('kind ' + name[:40])} <> 'no'"},
            "source": {"table": "lease", "key": "id"},
            "link": {"column": f"x{name[:10]}", "also": {f"y{name[:10]}": "s.word"}},
            "passes": [
                {"name": "one", "on": {_quoted("kind " + name[:40]): "kind"}, "prefer": [_quoted("w " + name[:40])]}
            ],
            "show": [f"t.{_quoted('kind ' + name[:40])}"],
            "interpret": [{"when": "s.id > 0", "say": "it's {s.word} %s :x $1 \\ \" done"}],
            "expect": {"coverage": 1.0, "right": {"kind": f"t.{_quoted('kind ' + name[:40])} = s.kind"}},
        }
    )


@pytest.mark.one_engine  # a name is quoted by us, and read by every server as it stands
@pytest.mark.parametrize("name", NAMES)
def test_names_that_hurt_work_from_match_to_revert(
    database: Database, workspace: Workspace, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, key, kind = quote(name), quote(name), quote("kind " + name[:40])
    link, also = quote(f"x{name[:10]}"), quote(f"y{name[:10]}")
    value = "a'; drop table lease; -- %s :x $1 \\"
    execute(
        database,
        "CREATE TABLE x (id int)",
        f"CREATE TABLE {table} ({key} int PRIMARY KEY, {kind} text, {link} int, {also} text)",
        f"CREATE TABLE lease (id int PRIMARY KEY, kind text, word text, {quote('w ' + name[:40])} text)",
    )
    with database.session() as session:
        session.execute(f"INSERT INTO {table} VALUES (1, $1), (2, 'other'), (3, 'no')", value)
        session.execute("INSERT INTO lease VALUES (7, $1, $2)", value, "=cmd|' /C calc'!A0")
    spec = _hostile_spec(name)
    before = rows(database, f"SELECT * FROM {table} ORDER BY 1")
    run = runs.match(database, spec, "ann")
    assert run.outcomes == {"matched": 1, "unmatched": 1}
    with database.session(read_only=True) as session:
        shown = pairs.listed(session, bind(session, spec), run.run, outcomes=["matched"])
    assert shown[0]["interpretation"] == "it's =cmd|' /C calc'!A0 %s :x $1 \\ \" done"
    made = plans.make(database, workspace, spec, "ann")
    assert made is not None
    sign_off.approve(database, workspace, made.plan, "bob")
    assert applying.apply(database, workspace, made.plan, "ann", execute=True).changed == 1
    assert rows(database, f"SELECT {link}, {also} FROM {table} WHERE {key} = 1") == [(7, "=cmd|' /C calc'!A0")]
    monkeypatch.setattr(Workspace, "spec", lambda self, name: spec)
    verified = workflow.verify(database, workspace, made.plan, "ann")
    assert verified.state == "verified"
    assert [item.name for item in verified.checks.failed] == ["coverage"]  # the other record stays unmatched
    assert reverting.revert(database, workspace, made.plan, "ann", execute=True).restored == 1
    assert rows(database, f"SELECT * FROM {table} ORDER BY 1") == before
    assert rows(database, "SELECT count(*) FROM x") == [(0,)]


@pytest.mark.parametrize(
    ("name", "said"),
    [("l" * 64, "64 bytes long"), ("ß" * 32, "64 bytes long"), ("nul\x00", "holds a NUL"), ("", "at least 1")],
)
def test_names_that_postgresql_would_change_are_refused(name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        simple_spec(target={"table": "pay", "key": name})


@pytest.mark.parametrize(
    "text",
    [
        "pg_sleep(10)",
        "(select password from users)",
        "1; drop table lease",
        "lo_import('/etc/passwd')",
        "set_config('role', 'postgres', false)",
        "now()",
        "coalesce((select 1), 2)",
        "t.code::regclass",
        "$1",
    ],
)
def test_an_expression_that_is_more_than_a_scalar_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not allowed|Cannot read"):
        simple_spec(passes=[{"name": "one", "on": {"code": "code"}, "when": text}])


@pytest.fixture
def plain(database: Database) -> Database:
    execute(
        database,
        "CREATE TABLE pay (id int PRIMARY KEY, code text, number int, lease_id int, notes json)",
        "CREATE TABLE lease (id int PRIMARY KEY, code text, number text, notes json)",
    )
    return database


def _one_pass(**fields: Any) -> dict[str, Any]:
    return {"passes": [{"name": "one", "on": {"code": "code"}} | fields]}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"target": {"table": "pays", "key": "id"}}, 'no table "pays".*Did you mean "pay"'),
        ({"source": {"table": "lease", "key": "ids"}}, 'no column "ids".*Did you mean "id"'),
        ({"link": {"column": "leese_id"}}, 'Did you mean "lease_id"'),
        (_one_pass(on={"cod": "code"}), 'no column "cod".*Did you mean "code"'),
        (_one_pass(on={"number": "number"}), "the target is int4, the source is text.*compare_as: text"),
        (_one_pass(on={"notes": "notes"}), "cannot be compared"),
        (_one_pass(when="t.number"), "is int4, not a condition"),
        (_one_pass(when="t.code > 5"), "PostgreSQL cannot use"),
        (_one_pass(prefer=["upper(s.id)"]), "pass one, prefer: PostgreSQL cannot use"),
        ({"target": {"table": "pay", "key": "id", "where": "nmber = 1"}}, 'Did you mean "number"'),
        ({"link": {"column": "code"}}, 'link column "code" is text, the source key "id" is int4'),
    ],
)
def test_a_spec_that_does_not_fit_the_database_is_refused_before_any_work(
    plain: Database, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(SchemaMismatch) as error:
        runs.match(plain, simple_spec(**fields), "ann")
    import re

    assert re.search(said, str(error.value), re.DOTALL)
    assert rows(plain, "SELECT count(*) FROM recon.runs") == [(0,)]


def test_text_comparison_of_different_types_is_possible_where_the_spec_says_so(plain: Database) -> None:
    execute(
        plain,
        "INSERT INTO pay VALUES (1, 'a', 7), (2, 'b', 8)",
        "INSERT INTO lease VALUES (5, 'x', '7'), (6, 'x', '08')",
    )
    spec = simple_spec(**_one_pass(on={"number": "number"}, compare_as="text"))
    assert runs.match(plain, spec, "ann").outcomes == {"matched": 1, "unmatched": 1}


def test_records_that_were_never_loaded_are_told_with_the_command_that_loads_them(plain: Database) -> None:
    with pytest.raises(NotLoaded, match=r"The records of bronze/jobs\.csv were not loaded yet.*`recon load simple`"):
        runs.match(plain, simple_spec(source={"file": "bronze/jobs.csv", "key": "id"}), "ann")


def test_keys_that_do_not_tell_records_apart_are_refused(database: Database) -> None:
    execute(
        database,
        "CREATE TABLE pay (id int, code text, lease_id int)",
        "CREATE TABLE lease (id int, code text)",
        "INSERT INTO pay VALUES (1), (1)",
    )
    with pytest.raises(SchemaMismatch, match="pay: the key id is not unique"):
        runs.match(database, simple_spec(), "ann")
    execute(database, "DELETE FROM pay", "INSERT INTO pay VALUES (NULL)")
    with pytest.raises(SchemaMismatch, match="a record has no id"):
        runs.match(database, simple_spec(), "ann")


def test_zero_rows_on_either_side_are_no_error(plain: Database, workspace: Workspace) -> None:
    run = runs.match(plain, simple_spec(), "ann")
    assert (run.population, run.coverage) == (0, None)
    assert plans.make(plain, workspace, simple_spec(), "ann") is None


@pytest.mark.parametrize(
    ("kind", "keys"),
    [("uuid", ["00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"]), ("text", ["a", "B"])],
)
def test_keys_keep_their_own_types(database: Database, workspace: Workspace, kind: str, keys: list[str]) -> None:
    execute(
        database,
        f"CREATE TABLE pay (id {kind} PRIMARY KEY, code text, lease_id {kind})",
        f"CREATE TABLE lease (id {kind} PRIMARY KEY, code text)",
        f"INSERT INTO pay VALUES ('{keys[0]}', 'x'), ('{keys[1]}', 'y')",
        f"INSERT INTO lease VALUES ('{keys[1]}', 'x'), ('{keys[0]}', 'y')",
    )
    run = runs.match(database, simple_spec(), "ann")
    assert rows(database, f"SELECT pg_typeof(target_key)::text FROM recon.decisions_{run.run} LIMIT 1") == [(kind,)]
    made = plans.make(database, workspace, simple_spec(), "ann")
    assert made is not None
    sign_off.approve(database, workspace, made.plan, "bob")
    assert applying.apply(database, workspace, made.plan, "ann", execute=True).changed == 2


def test_composite_target_keys_work_to_the_end(database: Database, workspace: Workspace) -> None:
    execute(
        database,
        "CREATE TABLE pay (org text, id int, code text, lease_id int, PRIMARY KEY (org, id))",
        "CREATE TABLE lease (id int PRIMARY KEY, code text)",
        "INSERT INTO pay VALUES ('a', 1, 'x'), ('a', 2, 'y'), ('b', 1, 'x')",
        "INSERT INTO lease VALUES (7, 'x')",
    )
    spec = simple_spec(target={"table": "pay", "key": ["org", "id"]})
    run = runs.match(database, spec, "ann")
    with database.session(read_only=True) as session:
        found = list(pairs.iterate(session, bind(session, spec), run.run))
    assert [row[:3] for row in found] == [
        ('["a", 1]', 7, "matched"),
        ('["a", 2]', None, "unmatched"),
        ('["b", 1]', 7, "matched"),
    ]
    made = plans.make(database, workspace, spec, "ann")
    assert made is not None
    sign_off.approve(database, workspace, made.plan, "bob")
    assert applying.apply(database, workspace, made.plan, "ann", execute=True).changed == 2
    assert rows(database, "SELECT org, id FROM pay WHERE lease_id = 7 ORDER BY 1") == [("a", 1), ("b", 1)]
    assert reverting.revert(database, workspace, made.plan, "ann", execute=True).restored == 2


def test_a_target_from_a_query_writes_its_table(database: Database, workspace: Workspace) -> None:
    execute(
        database,
        "CREATE TABLE house (id int PRIMARY KEY, code text)",
        "CREATE TABLE pay (id int PRIMARY KEY, house int, lease_id int)",
        "CREATE TABLE lease (id int PRIMARY KEY, code text)",
        "INSERT INTO house VALUES (1, 'x')",
        "INSERT INTO pay VALUES (1, 1), (2, NULL)",
        "INSERT INTO lease VALUES (7, 'x')",
    )
    query = "select p.*, h.code from pay p left join house h on h.id = p.house"
    spec = simple_spec(target={"query": query, "writes": "pay", "key": "id"})
    assert runs.match(database, spec, "ann").outcomes == {"matched": 1, "unmatched": 1}
    made = plans.make(database, workspace, spec, "ann")
    assert made is not None
    sign_off.approve(database, workspace, made.plan, "bob")
    assert applying.apply(database, workspace, made.plan, "ann", execute=True).changed == 1
    assert rows(database, "SELECT lease_id FROM pay ORDER BY id") == [(7,), (None,)]


def test_an_apply_of_many_rows_goes_in_batches_and_resumes(database: Database, workspace: Workspace) -> None:
    execute(
        database,
        "CREATE TABLE lease AS SELECT n AS id, 'c' || n AS code FROM generate_series(1, 12001) AS n",
        "ALTER TABLE lease ADD PRIMARY KEY (id)",
        "CREATE TABLE pay AS SELECT n * 3 AS id, 'c' || n AS code, NULL::int AS lease_id FROM generate_series(1, 12001) AS n",
        "ALTER TABLE pay ADD PRIMARY KEY (id)",
    )
    runs.match(database, simple_spec(), "ann")
    made = plans.make(database, workspace, simple_spec(), "ann")
    assert made is not None
    sign_off.approve(database, workspace, made.plan, "bob")
    seen: list[int] = []

    class Killed(BaseException):
        """Plays the end of the process after a committed batch."""

    def stop_after_two(done: int, total: int) -> None:
        seen.append(done)
        if len(seen) == 2:
            raise Killed

    with pytest.raises(Killed):
        applying.apply(database, workspace, made.plan, "ann", execute=True, progress=stop_after_two)
    assert rows(database, "SELECT count(lease_id) FROM pay") == [(seen[-1],)]
    assert 0 < seen[-1] < 12001
    result = applying.apply(database, workspace, made.plan, "ann", execute=True)
    assert result.changed == 12001
    assert rows(database, "SELECT count(*) FROM pay WHERE lease_id * 3 = id") == [(12001,)]
    assert rows(database, f'SELECT count(*), count(DISTINCT target_key) FROM recon."ledger_{made.plan}"') == [
        (12001, 12001)
    ]
    assert reverting.revert(database, workspace, made.plan, "ann", execute=True).restored == 12001


# -- values that hurt ------------------------------------------------------------------------------------

VALUES_THAT_HURT = (
    "it's", '"quoted"', "line\nbreak", "a\r\nb", "*/ drop table pay; --", "\\! touch gone", "%s %(x)s %", ":name $1 $$", "\\x00 \\N",
    "=1+1", "{t.id}", "<script>alert(1)</script>", "\x01\x1b[2J", "\u202eevil", "ü" * 40, "", " ", "NULL",
)  # fmt: skip


def test_values_that_hurt_are_values_from_match_to_revert(database: Database, workspace: Workspace) -> None:
    """As keys of both sides, in written columns and in what people are shown."""
    execute(
        database,
        "CREATE TABLE lease (id text PRIMARY KEY, code text, note text)",
        "CREATE TABLE pay (id text PRIMARY KEY, code text, lease_id text, note text)",
    )
    with database.session() as session:
        for value in VALUES_THAT_HURT:
            session.execute("INSERT INTO lease VALUES ($1, $1, $1)", value)
            session.execute("INSERT INTO pay VALUES ($1, $1, NULL, NULL)", value)
    before = rows(database, "SELECT * FROM pay ORDER BY id")
    spec = simple_spec(
        link={"column": "lease_id", "also": {"note": "s.note"}},
        show=["t.code", "s.note"],
        interpret=[{"when": "true", "say": "note {s.note}"}],
    )
    runs.match(database, spec, "ann")
    made = plans.make(database, workspace, spec, "ann")
    assert made is not None
    assert made.rows == len(VALUES_THAT_HURT)
    sign_off.approve(database, workspace, made.plan, "bob")
    assert reviewing.collect(database, workspace, made.plan).problems == ()
    page = (made.bundle / "review.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    for script in ("dry_run.sql", "execute.sql", "verify.sql", "revert.sql"):  # values live in the staged rows only
        assert "touch gone" not in (made.bundle / script).read_text(encoding="utf-8")
    assert applying.apply(database, workspace, made.plan, "ann").changed == made.rows
    assert applying.apply(database, workspace, made.plan, "ann", execute=True).changed == made.rows
    assert rows(database, "SELECT count(*) FROM pay WHERE lease_id = id AND note = id") == [(made.rows,)]
    assert verifying.verify(database, workspace, made.plan).problems == 0
    assert reverting.revert(database, workspace, made.plan, "ann", execute=True).restored == made.rows
    assert rows(database, "SELECT * FROM pay ORDER BY id") == before


@pytest.mark.parametrize("plan", ["../../etc", "a\x00b", "x'; drop table pay; --", "%s", "", "\udcff", "a" * 300])
def test_a_plan_name_that_hurts_is_a_name_that_nobody_gave(plain: Database, workspace: Workspace, plan: str) -> None:
    for act in (
        lambda: applying.apply(plain, workspace, plan, "ann"),
        lambda: sign_off.approve(plain, workspace, plan, "ann"),
        lambda: sign_off.reject(plain, workspace, plan, "ann", "no"),
        lambda: reverting.revert(plain, workspace, plan, "ann"),
        lambda: reviewing.collect(plain, workspace, plan),
    ):
        with pytest.raises(NotFound, match="There is no plan"):
            act()


@pytest.mark.parametrize("reason", ["a\x00b", "\udcff"])
def test_a_reason_that_no_database_can_keep_is_refused(
    rent: Database, workspace: Workspace, plan: plans.Plan, reason: str
) -> None:
    with pytest.raises(UsageError):
        sign_off.reject(rent, workspace, plan.plan, "bob", reason)
