"""The expression language: what is allowed is printed from the checked tree; everything else is refused."""

from __future__ import annotations

import pytest
import sqlglot

from recon import names
from recon.errors import SchemaMismatch, SpecError
from recon.expressions import Column, parse, parse_prefer, parse_template, resolve

COLUMNS = {"t": {"id": "int4", "Unit Price": "numeric", "memo": "text"}, "s": {"id": "int4", "memo": "text"}}
LABELS = {"t": "pay", "s": "lease"}


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a", '"t".a'),
        ("lower(s.memo)", 'LOWER("s".memo)'),
        ("left(t.memo, 9)", 'LEFT("t".memo, 9)'),
        ("t.check_in - interval '2 hours'", "\"t\".check_in - INTERVAL '2 HOURS'"),
        ("t.a::numeric(10,2)", 'CAST("t".a AS DECIMAL(10, 2))'),
        ("t.day between s.since - 1 and s.since + 1", '"t".day BETWEEN "s".since - 1 AND "s".since + 1'),
        ("t.status in ('a', 'it''s')", "\"t\".status IN ('a', 'it''s')"),
        ("case when t.a = 1 then 2 else 3 end", 'CASE WHEN "t".a = 1 THEN 2 ELSE 3 END'),
        ("t.a is distinct from s.b", '"t".a IS DISTINCT FROM "s".b'),
        ("t.a at time zone 'UTC'", "\"t\".a AT TIME ZONE 'UTC'"),
        ("t.a = 1 /* a comment */ -- and another", '"t".a = 1'),
        ("'back\\slash'", "'back\\slash'"),
        ("date_trunc('month', t.day)", "DATE_TRUNC('month', \"t\".day)"),
        ("regexp_replace(t.a, '[^0-9]', '', 'g')", "REGEXP_REPLACE(\"t\".a, '[^0-9]', '', 'g')"),
    ],
)
def test_scalars_are_read_and_printed(text: str, printed: str) -> None:
    assert parse(text, "t").tree.sql("postgres") == printed


@pytest.mark.parametrize(
    "text",
    [
        *("select 1", "a; drop table x", "(select 1)", "lower((select 1))", "coalesce(select 1)", "exists(select 1)"),
        *("pg_sleep(1)", "random()", "nextval('x')", "set_config('a','b',true)", "current_user", "version()"),
        *("count(*)", "sum(t.a) over ()", "generate_series(1, 2)", "unnest(t.a)", "query_to_xml('x')"),
        *("now()", "current_timestamp", "localtimestamp", "current_date", "clock_timestamp()"),
        *("t.*", "*", "x.y.z", "u.a", "a as b", "a b", "", "a, b", "Unit Price", "a desc"),
        *("t.a::regclass", "t.a::mytype", "array(select 1)", "row(1, 2)", "values (1)", "t.a in (select 1)"),
        *("$1", ":x", "%s", "?", "@x", "drop table x", "t.a union select 1", "x" * 20_000, "(" * 5_000 + "1"),
    ],
)
def test_anything_but_one_scalar_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        parse(text, "t")


@pytest.mark.parametrize(
    "text",
    [
        "date_part('epoch from now()); update pay set note = 1; commit; select extract(epoch', s.e) > 0",
        'extract("epoch from now()); update pay set note = 1; commit; select extract(epoch" from s.e) > 0',
        "date_trunc('month; drop table pay', s.e)",
        't.a::numeric("1) or (1", 2)',
        "interval '1-2' year to \"month; x\"",
        "(s.e::varchar(\"10)) = (select pg_read_file('/etc/passwd')::varchar(10\")) is null",
        "to_char(t.day, '%Y; drop table pay')",
    ],
)
def test_what_a_unit_a_type_or_a_format_smuggles_in_stays_a_literal_or_is_refused(text: str) -> None:
    try:
        printed = parse(text, "t").tree.sql("postgres")
    except SpecError:
        return
    tokens = sqlglot.tokenize(printed, read="postgres")
    words = {token.text.lower() for token in tokens if token.token_type != sqlglot.TokenType.STRING}
    assert not words & {"update", "drop", "select", "commit", ";", "now", "pg_read_file"}


@pytest.mark.parametrize("text", ["date 'today'", "'now'::timestamp", "timestamptz ' NOW '", "try_cast(t.a as int)"])
def test_the_present_moment_in_disguise_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        parse(text, "t")


@pytest.mark.parametrize("text", ["1=1" + " and 1=1" * 1200, "t.a" + "::bool" * 900, "(" * 3000 + "1" + ")" * 3000])
def test_an_expression_that_is_too_deep_is_refused_in_a_short_error(text: str) -> None:
    with pytest.raises(SpecError) as error:
        parse(text, "t")
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    "text",
    ["t.memo between s.memo and s.memo", "(t.memo || '') <= (s.memo || '')", "coalesce(t.memo, '') < lower(s.memo)"],
)
def test_text_is_ordered_by_bytes_wherever_it_is_ordered(text: str) -> None:
    assert 'COLLATE "C"' in resolve(parse(text, "t"), COLUMNS, LABELS).sql("postgres")


def test_comments_do_not_hide_where_nulls_go() -> None:
    for text in ("s.e desc nulls first -- open ones win", "s.e desc nulls first /* open */"):
        assert parse_prefer(text).nulls_first


def test_now_is_allowed_only_where_a_plan_fixes_it() -> None:
    assert parse("now()", "t", allow_now=True).tree.sql("postgres") == "NOW()"


def test_an_unknown_function_gets_the_nearest_allowed_one() -> None:
    with pytest.raises(SpecError, match='Did you mean "lower"'):
        parse("lowr(t.memo)", "t")


def test_columns_name_their_side() -> None:
    assert parse("amount - s.fee + amount", "t").columns() == [Column("t", "amount"), Column("s", "fee")]


def test_names_are_resolved_exactly_then_in_lower_case_as_in_sql() -> None:
    def resolved(text: str) -> str:
        return resolve(parse(text, "t"), COLUMNS, LABELS).sql("postgres")

    assert resolved("MEMO") == '"t"."memo"'
    assert resolved('"Unit Price" * 2') == '"t"."Unit Price" * 2'
    assert resolved("s.memo < t.memo") == '"s"."memo" COLLATE "C" < "t"."memo" COLLATE "C"'
    with pytest.raises(SchemaMismatch, match='pay has no column "MEMO"'):
        resolved('"MEMO"')
    with pytest.raises(SchemaMismatch, match='Did you mean "memo"'):
        resolved("meno")


def test_preferences_put_nulls_last_unless_told() -> None:
    first, last = parse_prefer("s.end desc nulls first"), parse_prefer("s.end desc")
    assert (first.descending, first.nulls_first) == (True, True)
    assert (last.descending, last.nulls_first) == (True, False)
    assert parse_prefer("nearest").word == "nearest"
    for text in ("s.a limit 5", "s.a, s.b", "s.a; drop table x", "(select 1)", "random()"):
        with pytest.raises(SpecError):
            parse_prefer(text)


def test_templates_take_their_sentence_and_expressions_apart() -> None:
    parts = parse_template("{{x}} paid {t.a - s.b} days early").parts
    assert [part if isinstance(part, str) else part.text for part in parts] == [
        *("{", "x", "}", " paid "),
        "t.a - s.b",
        " days early",
    ]
    with pytest.raises(SpecError, match="brace"):
        parse_template("an {open brace")


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("lease", (None, "lease")),
        ("hubspot.companies", ("hubspot", "companies")),
        ('"odd.schema"."odd ""table"""', ("odd.schema", 'odd "table"')),
    ],
)
def test_table_names_are_split_at_the_one_dot(name: str, parts: tuple[str | None, str]) -> None:
    assert names.split_relation(name) == parts


@pytest.mark.parametrize("name", ["a.b.c", "a.", ".a", '"a', '"a".b', "x" * 64])
def test_table_names_that_cannot_be_told_are_refused(name: str) -> None:
    with pytest.raises(SpecError):
        names.split_relation(name)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "interval '.5 day'",
            "interval '1 day ago'",
            "interval '1 day 1:30'",
            "interval '1.5' day",
            "interval(0) '1.5 s'",
        ),
        *("date '2025-01-31'::timestamp", "timestamptz '2025-03-30 02:30:00+01'::date", "'AB' = char 'AB'"),
        *("interval '5 day' + '2024-02-29'::date", "'2024-02-29'::date + interval '.5 day' + 3"),
        *(
            "t.d < 'today'",
            "t.d < 'today 12:00'::timestamp",
            "('now')::date",
            "'{now}'::date[]",
            "timezone('UTC', 'now')",
        ),
        *("'a' 'b' = t.a", "t.a !~ 'a' || 'b'", "'a_b' ~~ t.a", "t.a::tinyint", "if(t.a, t.b, t.c)"),
    ],
)
def test_a_text_that_would_be_read_otherwise_than_postgresql_reads_it_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        parse(text, "t")


@pytest.mark.parametrize(
    "text",
    [
        *("t.a - interval '2 hours'", "t.a between s.b - interval '1 hour' and s.b + interval '90 minutes'"),
        *("date '2024-01-31'", "'2024-01-31'::date", "t.a not in (1, 2)", "t.a is not null", "not t.a like 'x%'"),
        *("substring(t.a, 1, 2)", "trim(t.a)", "t.a != s.b", "t.amount::numeric(12,2) * 1.50", "t.status = 'nowhere'"),
    ],
)
def test_the_everyday_forms_are_read(text: str) -> None:
    assert parse(text, "t")
