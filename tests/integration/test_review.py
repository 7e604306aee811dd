"""`recon review` and review.html: all that a reviewer needs before signing, and nothing that a value can bend."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

import pytest

from recon.backfill import apply as applying
from recon.backfill import plan as plans
from recon.backfill import review as reviewing
from recon.backfill import sign_off
from recon.backfill.plan import Plan
from recon.database.connect import Database
from recon.errors import NotFound
from recon.matching import overrides
from recon.matching import run as runs
from recon.matching.backtest import backtest
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests.support import execute, recon, rows, simple_spec

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code

EVERYTHING = """
    SELECT (SELECT count(*) FROM recon.audit_log), (SELECT count(*) FROM recon.approvals),
        (SELECT count(*) FROM recon.batches), (SELECT string_agg(state, ',') FROM recon.plans)
"""


def page(plan: Plan) -> str:
    return (plan.bundle / "review.html").read_text(encoding="utf-8")


# -- what it says ----------------------------------------------------------------------------------------


def test_a_review_holds_what_a_reviewer_needs_and_writes_nothing(
    rent: Database, workspace: Workspace, spec: Reconciliation, plan: Plan
) -> None:
    backtest(rent, spec, "ann")
    before = rows(rent, EVERYTHING)
    files = {path.name: path.read_bytes() for path in plan.bundle.iterdir()}
    found = reviewing.collect(rent, workspace, plan.plan)
    groups = {group.rule: group for group in found.contents.groups}
    assert {name: (group.action, group.rows, group.lowest) for name, group in groups.items()} == {
        "payprop_invoice_id": ("link", 3, 1.0),
        "property_and_customer": ("link", 7, 0.95),
    }
    assert groups["payprop_invoice_id"].precision == 1.0
    assert found.contents.measured is not None
    assert "recall" in found.contents.measured
    first = groups["payprop_invoice_id"].sample[0]
    assert (first.key, first.source) == ("1483", "9")
    assert next((item.column, item.before, item.after) for item in first.values) == ("invoice_id", None, "9")
    assert first.interpretation == "deposit or early rent, 2 days before the lease starts"
    assert {item.rule for item in found.contents.findings} == {"by name"}
    assert (found.drifts, found.problems, found.exit_code) == ((), (), 0)
    assert (found.needed, found.voices.counted) == (1, ())
    assert found.command == f"recon approve {plan.plan}"
    assert set(found.contents.scripts) == {"dry_run.sql", "execute.sql", "verify.sql", "revert.sql"}
    assert rows(rent, EVERYTHING) == before
    assert {path.name: path.read_bytes() for path in plan.bundle.iterdir()} == files


def test_no_more_than_ten_rows_of_a_pass_are_shown(database: Database, workspace: Workspace) -> None:
    made = simple(database, workspace, *(("c", str(number)) for number in range(12)))
    [group] = reviewing.collect(database, workspace, made.plan).contents.groups
    assert (group.rows, len(group.sample)) == (12, 10)
    assert [row.key for row in group.sample] == [str(number) for number in range(1, 11)]


def test_approvals_that_were_given_are_named(rent: Database, workspace: Workspace, approved: Plan) -> None:
    found = reviewing.collect(rent, workspace, approved.plan)
    assert found.voices.said == ("bob (by name)",)
    assert (found.plan.state, found.command, found.exit_code) == ("approved", None, 0)


def test_a_plan_that_was_applied_has_no_drift_and_nothing_left_to_sign(
    rent: Database, workspace: Workspace, approved: Plan
) -> None:
    applying.apply(rent, workspace, approved.plan, "ann", execute=True)
    execute(rent, f"UPDATE recon.plans SET expires_at = now() - interval '1 day' WHERE plan = '{approved.plan}'")
    found = reviewing.collect(rent, workspace, approved.plan)
    assert (found.pending, found.command, found.problems) == (False, None, ())


def test_a_plan_that_does_not_exist_is_an_error(rent: Database, workspace: Workspace, plan: Plan) -> None:
    with pytest.raises(NotFound):
        reviewing.collect(rent, workspace, plan.plan + "x")


# -- what stands against it ------------------------------------------------------------------------------


def problems(database: Database, workspace: Workspace, plan: Plan) -> tuple[reviewing.Review, list[str]]:
    found = reviewing.collect(database, workspace, plan.plan)
    assert found.exit_code == 4
    assert found.command is None
    assert found.contents.groups or "gone" in str(found.problems)
    return found, [type(error).__name__ for error in found.problems]


def test_rows_that_drifted_are_named(rent: Database, workspace: Workspace, plan: Plan) -> None:
    execute(rent, "UPDATE historical_transactions SET invoice_id = 1 WHERE id = 1551")
    found, names = problems(rent, workspace, plan)
    assert names == ["Stale"]
    assert found.drifts is not None
    assert [(row["key"], row["status"]) for row in found.drifts] == [("1551", "target changed")]


def test_a_changed_file_is_named_and_its_script_is_not_run(rent: Database, workspace: Workspace, plan: Plan) -> None:
    script = plan.bundle / "dry_run.sql"
    script.write_text(script.read_text().replace('"staged"."pass"', "pg_sleep(60)"))
    (plan.bundle / "changes.csv").unlink()
    found, names = problems(rent, workspace, plan)
    assert names == ["BundleChanged", "LintRefused"]
    assert found.changed_files == ("changes.csv", "dry_run.sql")
    assert found.drifts is None
    assert [item.rule for item in found.contents.refused] == ["known functions"]


def test_a_plan_whose_row_was_changed_in_the_database_is_refused(
    rent: Database, workspace: Workspace, plan: Plan
) -> None:
    execute(
        rent,
        f"""UPDATE recon.plans SET document = replace(document, '"rows":10', '"rows":1') WHERE plan = '{plan.plan}'""",
    )
    found, names = problems(rent, workspace, plan)
    assert names == ["BundleChanged"]
    assert found.changed_files == ()


def test_staged_rows_that_were_edited_are_refused(rent: Database, workspace: Workspace, plan: Plan) -> None:
    execute(rent, f'UPDATE recon."staged_{plan.plan}" SET after_1 = 1 WHERE target_key = 1551')
    assert problems(rent, workspace, plan)[1] == ["BundleChanged"]


def test_staged_rows_that_are_gone_leave_the_rest_to_be_seen(rent: Database, workspace: Workspace, plan: Plan) -> None:
    execute(rent, f'DROP TABLE recon."staged_{plan.plan}"')
    found = reviewing.collect(rent, workspace, plan.plan)
    assert found.exit_code == 4
    assert found.contents.groups == ()
    assert len(found.contents.scripts) == 4


def test_an_altered_table_is_refused(rent: Database, workspace: Workspace, plan: Plan) -> None:
    execute(rent, "ALTER TABLE historical_transactions DROP COLUMN lease_rent_amount CASCADE")
    found, names = problems(rent, workspace, plan)
    assert names == ["Stale", "Stale"]  # altered; and so nobody can look which rows drifted
    assert found.drifts is None


def test_what_people_decided_since_is_told(
    rent: Database, workspace: Workspace, spec: Reconciliation, plan: Plan
) -> None:
    overrides.decide(rent, spec, actor="cleo", kind="exclude", target="1551", reason="not rent")
    found, names = problems(rent, workspace, plan)
    assert names == ["Stale"]
    assert "1551" in found.problems[0].why
    assert "cleo" in found.problems[0].why


def test_an_expired_plan_is_refused(rent: Database, workspace: Workspace, plan: Plan) -> None:
    execute(rent, f"UPDATE recon.plans SET expires_at = now() - interval '1 day' WHERE plan = '{plan.plan}'")
    assert problems(rent, workspace, plan)[1] == ["NotApproved"]


# -- the command -----------------------------------------------------------------------------------------


@pytest.mark.one_engine
def test_the_command_shows_it_and_answers_by_its_exit_code(rent: Database, workspace: Workspace, plan: Plan) -> None:
    url = rent.url
    where = ["--workspace", str(workspace.root)]
    shown = recon("review", plan.plan, *where, url=url)
    assert shown.code == 0, shown.err
    for said in (plan.digest, f"recon approve {plan.plan}", "payprop_invoice_id", "70.0 %", "empty → 9", "run `recon backtest",
                 "WITH \"changed\" AS", "keep every rule", "as planned", "0 of 1", "ann, who cannot approve it"):  # fmt: skip
        assert said in shown.out, said
    assert 'WITH "changed"' not in recon("review", plan.plan, "--no-scripts", *where, url=url).out
    document = recon("review", plan.plan, "--json", *where, url=url).json
    assert document["digest"] == plan.digest
    assert [group["pass"] for group in document["groups"]] == ["payprop_invoice_id", "property_and_customer"]
    assert document["approvals"] == {"needed": 1, "given": [], "refused": []}
    assert document["drift"] == {"rows": 0, "first": []}
    assert document["scripts"]["execute.sql"] == (plan.bundle / "execute.sql").read_text()
    execute(rent, "UPDATE historical_transactions SET invoice_id = 1 WHERE id = 1551")
    refused = recon("review", plan.plan, *where, url=url)
    assert refused.code == 4
    assert "1 of 10 rows drifted" in refused.out
    assert plan.digest not in refused.out  # there is nothing to sign
    assert recon("review", plan.plan, "--json", *where, url=url).json["refused"][0]["error"] == "Stale"
    assert recon("review", "nothing", *where, url=url).code == 2


# -- the page --------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """What a browser would see: elements, their attributes, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    return reader


def test_the_page_says_the_same_without_the_digest(rent: Database, plan: Plan) -> None:
    text = read(page(plan)).text
    for said in (plan.plan, "ann, who cannot approve it", "payprop_invoice_id", "deposit or early rent", "not measured",
                 f"recon approve {plan.plan}", "accepts approvals by name", 'WITH "changed" AS', "public.historical_transactions"):  # fmt: skip
        assert said in text, said
    assert f"{plan.expires_at:%Y-%m-%d %H:%M} UTC" in text
    assert plan.digest not in page(plan)
    assert "review.html" in plan.document["files"]


def test_the_page_tells_the_precision_that_was_measured(
    rent: Database, workspace: Workspace, spec: Reconciliation
) -> None:
    backtest(rent, spec, "ann")
    runs.match(rent, spec, "ann")
    made = plans.make(rent, workspace, spec, "ann")
    assert made is not None
    text = read(page(made)).text
    assert "not measured" not in text
    assert "known links" in text
    assert "96.7 %" in text


def test_the_page_loads_nothing_and_runs_nothing(plan: Plan) -> None:
    reader = read(page(plan))
    policy = next(found["content"] for tag, found in reader.elements if found.get("http-equiv"))
    assert policy is not None
    assert "default-src 'none'" in policy
    assert re.search(r"style-src 'sha256-[\w+/=]+';", policy)
    assert "script-src" not in policy
    assert {tag for tag, _ in reader.elements} & {"script", "img", "link", "iframe", "object", "form", "a"} == set()
    assert not any(
        name in ("style", "src", "href") or name.startswith("on") for _, found in reader.elements for name in found
    )
    assert "http" not in page(plan).replace("http-equiv", "")


def simple(database: Database, workspace: Workspace, *pairs: tuple[str, str], **fields: Any) -> Plan:
    """A plan that links as many rows as there are pairs; each takes the second of a pair as its word."""
    execute(
        database,
        "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id int, word text)",
        "CREATE TABLE lease (id int PRIMARY KEY, code text, word text)",
    )
    with database.session() as session:
        for number, (code, word) in enumerate(pairs, 1):
            session.execute("INSERT INTO pay VALUES ($1::int, $2, NULL, $3)", number, f"{code}{number}", f"old {word}")
            session.execute("INSERT INTO lease VALUES ($1::int, $2, $3)", number, f"{code}{number}", word)
    spec = simple_spec(link={"column": "lease_id", "also": {"word": "s.word"}}, **fields)
    runs.match(database, spec, "ann")
    made = plans.make(database, workspace, spec, "ann")
    assert made is not None
    return made


HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</pre></style><style>*{display:none}</style>",
    "{{ 7 * 7 }} {% include 'x' %}",
    "[red]markup[/] [/nothing]",
    "line\nbreak",
    "\x1b[2Jcleared",
    "100 \u202e00,1 eur",
    "pass\u200bword",
    "&lt;already&gt;",
]


def test_no_value_can_bend_the_page_or_the_screen(
    database: Database, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpret = [{"when": "s.id > 0", "say": "says {s.word}"}]
    made = simple(database, workspace, *(("<b>'\"", word) for word in HOSTILE), interpret=interpret)
    plain = simple_page_elements(page(made))
    assert plain <= {"html", "head", "meta", "title", "style", "body", "main", "header", "section", "footer", "p", "h1", "h2",
                     "h3", "dl", "dt", "dd", "div", "table", "thead", "tbody", "tfoot", "tr", "th", "td", "span", "strong",
                     "b", "ul", "li", "pre", "code"}  # fmt: skip
    text = page(made)
    for character in ("\x1b", "\u202e", "\u200b"):
        assert character not in text
    seen = read(text).text
    for said in (
        "<script>alert(1)</script>",
        "{{ 7 * 7 }}",
        "\\x1b[2Jcleared",
        "100 \\u202e00,1 eur",
        "pass\\u200bword",
    ):
        assert said in seen, said
    shown = recon("review", made.plan, "--workspace", str(workspace.root), url=database.url)
    assert shown.code == 0, shown.err
    for character in ("\x1b", "\u202e", "\u200b"):
        assert character not in shown.out
    for said in ("[red]markup[/]", "<script>", "\\x1b[2J", "\\u202e"):
        assert said in shown.out, said


def simple_page_elements(text: str) -> set[str]:
    return {tag for tag, _ in read(text).elements}


def test_names_that_hurt_are_names_on_the_page(database: Database, workspace: Workspace) -> None:
    column = 'x"><script>alert(1)</script>\u202e'
    quoted = '"' + column.replace('"', '""') + '"'
    execute(
        database,
        f"CREATE TABLE pay (id int PRIMARY KEY, code text, {quoted} int)",
        "CREATE TABLE lease (id int PRIMARY KEY, code text)",
        "INSERT INTO pay VALUES (1, 'x')",
        "INSERT INTO lease VALUES (7, 'x')",
    )
    spec = simple_spec(link={"column": column}, title="<i>title</i>")
    runs.match(database, spec, "ann")
    made = plans.make(database, workspace, spec, "ann")
    assert made is not None
    assert "script" not in simple_page_elements(page(made))
    assert 'x"><script>alert(1)</script>\\u202e' in read(page(made)).text


def test_a_long_value_is_cut_and_shows_it(database: Database, workspace: Workspace) -> None:
    made = simple(database, workspace, ("c", "w" * 5000))
    [group] = reviewing.collect(database, workspace, made.plan).contents.groups
    assert group.sample[0].values[1].after == "w" * 200 + "…"
    assert "w" * 201 not in page(made)


def test_moments_are_told_in_utc(plan: Plan) -> None:
    made = datetime.fromisoformat(plan.document["created"])
    assert made.tzinfo == UTC
    assert f"{made:%Y-%m-%d %H:%M} UTC" in read(page(plan)).text


def test_the_reviewer_who_looked_can_sign(rent: Database, workspace: Workspace, plan: Plan) -> None:
    assert reviewing.collect(rent, workspace, plan.plan).command
    assert sign_off.approve(rent, workspace, plan.plan, "bob").state == "approved"
