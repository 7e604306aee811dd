"""Private columns: planted values of both sides come out of no screen, page, report or error unless somebody may see them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlglot import exp

from recon import cli
from recon.backfill import veils
from recon.database.connect import Database
from recon.errors import DatabaseFailed, ReconError, SchemaMismatch, SpecError
from recon.expressions import parse
from recon.matching import pairs, standing
from recon.matching import run as runs
from recon.matching.bind import bind
from recon.matching.check import check
from recon.matching.explain import explain
from recon.matching.privacy import VEIL, veiled
from recon.names import DIALECT
from recon.reports.data import gather
from recon.reports.sections import headline
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests.planted import POLICY, SPEC, clean, plant
from tests.support import execute, simple_spec

REASONS = {
    "no_candidate", "null_key", "out_of_tolerance", "when_false", "taken", "already_linked", "forbidden", "tie", "review",
}  # fmt: skip

Run = Callable[..., str]


@pytest.fixture
def people(database: Database, workspace: Workspace) -> Database:
    plant(database, workspace)
    return database


@pytest.fixture
def run(
    database: Database, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    """Runs a command as somebody and gives all that it prints, on either stream."""

    def command(*arguments: str, user: str = "carol", asks: bool = False) -> str:
        monkeypatch.setenv("RECON_DATABASE_URL", database.url)
        monkeypatch.setenv("RECON_USER", user)
        monkeypatch.setenv("RECON_SHOW_PRIVATE", "1" if asks else "")
        monkeypatch.setattr(sys, "argv", ["recon", *arguments, "--workspace", str(workspace.root)])
        with pytest.raises(SystemExit):
            cli.main()
        printed = "".join(capfd.readouterr())
        assert "unforeseen" not in printed, printed
        return printed

    return command


def files_of(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.mark.one_engine
def test_no_planted_value_comes_out_unless_somebody_may_see_it_and_asks(
    people: Database, workspace: Workspace, run: Run
) -> None:
    """Masking: columns marked private are masked in screens, pages, reports and exports unless allowed."""
    clean(run("decide", "people", "--target", "12", "--forbid", "12", "--reason", "not theirs"))
    clean(run("match", "people"))
    clean(run("match", "people", "--json"))
    asked: Any = {"user": "ANN", "asks": True}
    for form in (["--json"], ["--format", "csv"], []):
        clean(run("decisions", "people", *form))
    assert "kanari-5" in run("decisions", "people", **asked)
    reasons: set[str] = set()
    for key in ("1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "12", "13", "14"):
        document = clean(run("explain", "people", "--key", key, "--json"))
        reasons |= {code for code in REASONS if f'"reason": "{code}"' in document}
        if key in ("4", "6", "10"):  # the same as a screen
            clean(run("explain", "people", "--key", key))
    assert reasons == REASONS
    assert "The record has no email." in run("explain", "people", "--key", "3")  # absence is told
    assert f"No source record has email {VEIL}." in run("explain", "people", "--key", "2")
    # Both are needed: being allowed, and asking for it.
    assert "Private columns are veiled (•••); RECON_SHOW_PRIVATE=1 shows them." in clean(
        run("explain", "people", "--key", "4", user="ann")
    )
    assert "veiled (•••); bob is not in seen_by of recon.toml." in clean(
        run("explain", "people", "--key", "4", user="bob", asks=True)
    )
    opened = run("explain", "people", "--key", "4", **asked)
    assert all(text in opened for text in ("kanari-4", "1931-07-25", "21 days", "This shows private columns to ANN"))
    assert "918273" in run("explain", "people", "--key", "13", "--json", **asked)

    for command in (["check", "people"], ["backtest", "people", "--wrong", str(workspace.root / "wrong.csv")],
                    ["what-if", "people"], ["breaks", "people"], ["runs"], ["decide", "people", "--list"]):  # fmt: skip
        clean(run(*command) if "--wrong" in command else run(*command, "--json"))
        clean(run(*command))
    assert "14" in clean((workspace.root / "wrong.csv").read_text(encoding="utf-8"))
    assert "kanari" in run("check", "people", "--json", **asked)  # the worst key of a pass

    # A plan: what is signed and run holds the values, what is shown of it does not.
    def planned(user: str = "carol", asks: bool = False) -> str:
        clean(run("plan", "people", user=user, asks=asks))
        return next(
            iter(sorted(workspace.backfills.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True))
        ).name

    plan = planned(**asked)  # whoever plans, the bundle is the same
    files = files_of(workspace.backfills / plan)
    changes = files.pop("changes.csv")
    assert "kanari new" in changes
    assert "kanari six" in changes
    assert "apart, born" in changes
    assert "1931-07" not in changes  # an interpretation is no value that is written
    assert {"plan.json", "review.html", "execute.sql"} <= set(files)
    for text in files.values():
        clean(text)
    assert "Private columns are veiled (•••): copied, note." in files["review.html"]
    assert "••• → •••" in run("review", plan)
    for command in (["review", plan], ["apply", plan], ["plans"]):
        clean(run(*command))
        clean(run(*command, "--json"))
    assert "kanari new" in run("review", plan, **asked)
    clean(run("approve", plan, user="bob"))

    execute(people, "UPDATE pay SET note = 'kanari drifted' WHERE id = 1")
    assert f"note was {VEIL}, is {VEIL}" in clean(run("review", plan))
    assert "is kanari drifted" in run("review", plan, **asked)
    clean(run("apply", plan))
    assert "is kanari drifted" in run("apply", plan, **asked)
    # A refusal may be kept, and is the same for everybody.
    assert f"note was {VEIL}, is {VEIL}" in clean(run("apply", plan, "--execute", **asked))

    clean(run("match", "people"))
    plan = planned()
    clean(run("approve", plan, user="bob"))
    assert "Changed" in clean(run("apply", plan, "--execute"))
    clean(run("verify", plan))
    clean(run("verify", plan, "--json"))
    execute(people, "UPDATE pay SET note = 'kanari changed since' WHERE id = 1")
    assert "wrong or absent" in clean(run("verify", plan))
    clean(run("revert", plan))
    assert "were changed by somebody since" in clean(run("revert", plan, "--execute"))
    clean(run("audit"))
    clean(run("audit", "--plan", plan, "--json"))

    clean(run("report", "people"))
    page, notebook = (next(workspace.reports.glob(f"people-*{kind}")) for kind in (".html", ".ipynb"))
    assert f"Private columns are veiled ({VEIL})" in clean(page.read_text(encoding="utf-8"))
    clean(notebook.read_text(encoding="utf-8"))
    run("runs", **asked)  # sets who asks
    data = gather(people, Workspace(workspace.root), "people")
    assert "kanari" in repr(data)
    assert "This shows private columns to ANN" in str(headline(data))


def test_what_reads_a_private_column_is_veiled_and_null_stays_null(people: Database, workspace: Workspace) -> None:
    spec = workspace.spec("people")
    with people.session(read_only=True) as session:
        bound = bind(session, spec)

        def seen(text: str, *, shows: bool = False) -> list[Any]:
            chosen = bind(session, spec, shows_private=shows)
            tree = veiled(chosen, chosen.resolve(parse(text, "t")))
            query = exp.Select(expressions=[tree]).from_(chosen.target.aliased("t")).where("id < 4").order_by("id")
            return [row[0] for row in session.rows(query.sql(DIALECT))]

        assert seen("t.id") == [1, 2, 3]
        assert seen("t.email") == [VEIL, VEIL, None]
        assert seen("t.email", shows=True) == ["kanari-1", "kanari-none", None]
        assert seen("coalesce(t.lease_id, t.pin - t.pin)") == [VEIL, VEIL, None]
        assert seen("length(upper(t.email) || 'x')") == [VEIL, VEIL, None]
        assert seen("t.born > date '1931-07-02'") == [VEIL, VEIL, VEIL]
        # What has nothing private is untouched, to the object; columns of other aliases are not ours to veil.
        free = bound.resolve(parse("t.id", "t"))
        assert veiled(bound, free) is free


def test_a_check_warns_where_one_side_only_is_private(people: Database, workspace: Workspace) -> None:
    path = workspace.root / "reconciliations" / "people.yaml"
    assert not [item for item in check(people, workspace.spec("people")).findings if "is private" in item.what]
    path.write_text(SPEC.replace("private: [mail, number", "private: [number"), encoding="utf-8")
    found = check(people, workspace.spec("people")).findings
    assert [(item.severity, item.where) for item in found if "is private, and source mail" in item.what] == [
        ("warning", "pass by_mail")
    ]


def test_a_spec_says_what_is_private_and_is_checked(people: Database, workspace: Workspace) -> None:
    spec = workspace.spec("people")
    without = spec.model_dump()
    for side in ("target", "source"):
        without[side]["private"] = []
    # What is private decides nothing: no sign-off ends by it, and no run grows old.
    assert Reconciliation.model_validate(without).digest == spec.digest
    table = {"table": "pay", "key": "id"}
    with people.session(read_only=True) as session, pytest.raises(SchemaMismatch, match='Did you mean "email"'):
        bind(session, simple_spec(target={**table, "private": ["emial"]}, passes=[{"name": "one", "on": ["id"]}]))
    refused: list[tuple[dict[str, Any], str]] = [
        ({"target": {**table, "private": ["id"]}}, "which is a key: a record could not be named any more"),
        ({"source": {"table": "lease", "key": "id", "private": ["id"]}}, "which is a key"),
        ({"target": {**table, "private": ["lease_id"]}}, "which is the link"),
        ({"scope": "org", "target": {**table, "private": ["org"]}}, "which is the scope"),
    ]
    for fields, why in refused:
        with pytest.raises(ValueError, match=why):
            simple_spec(**fields)


def test_no_error_of_the_server_tells_a_private_value(people: Database, workspace: Workspace, run: Run) -> None:
    path = workspace.root / "reconciliations" / "people.yaml"
    path.write_text(SPEC.replace("{email: mail}", '{"cast(t.email as integer)": number}'), encoding="utf-8")
    said = clean(run("match", "people"))
    assert "invalid input syntax for type integer: •••" in said
    assert "•••" in clean(run("runs"))  # kept with the run
    path.write_text(SPEC.replace("copied: s.mail", 'pin: "cast(s.mail as integer)"'), encoding="utf-8")
    clean(run("match", "people"))
    assert "cannot be brought into its column" in clean(run("plan", "people"))
    # Where nobody knows what was read, values stay out of it too, and out of the causes that a notebook prints.
    with pytest.raises(DatabaseFailed) as caught, people.session() as session:
        session.rows("SELECT email::int FROM pay")
    clean(str(caught.value))
    assert caught.value.__suppress_context__


def test_what_a_trigger_says_is_left_out_where_columns_are_private(
    people: Database, workspace: Workspace, run: Run
) -> None:
    execute(
        people,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF NEW.note = 'kanari six' THEN RAISE EXCEPTION 'no % here', NEW.note; END IF; RETURN NEW; END $$",
        "CREATE TRIGGER refuse BEFORE UPDATE ON pay FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    run("match", "people")
    run("plan", "people")
    (plan,) = [path.name for path in workspace.backfills.iterdir()]
    run("approve", plan, user="bob")
    for arguments in (["apply", plan], ["apply", plan, "--execute"]):
        assert "Its words may hold private values" in clean(run(*arguments))
    clean(run("audit", "--plan", plan, "--json"))


def test_a_column_marked_after_the_plan_is_veiled_in_the_plan(people: Database, workspace: Workspace, run: Run) -> None:
    path = workspace.root / "reconciliations" / "people.yaml"
    path.write_text(re.sub(r", private: \[.*?\]", "", SPEC), encoding="utf-8")
    run("match", "people")
    run("plan", "people")
    (plan,) = [path.name for path in workspace.backfills.iterdir()]
    assert "kanari new" in run("review", plan)
    path.write_text(SPEC, encoding="utf-8")
    assert "••• → •••" in clean(run("review", plan))
    clean(run("review", plan, "--json"))
    clean(run("apply", plan))
    path.unlink()  # a plan outlives its spec; then what it says itself counts
    document = {"reconciliation": "people", "target": {"columns": ["note"]}, "private": {"target": [], "source": [], "columns": ["note"]}}  # fmt: skip
    assert veils.for_viewer(workspace, document).value("note", "kanari") == VEIL
    assert veils.for_viewer(workspace, document).value("note", None) is None


def test_pairs_and_evidence_for_notebooks_are_veiled(people: Database, workspace: Workspace) -> None:
    spec = workspace.spec("people")
    found = runs.match(people, spec, "ann")
    with people.session(read_only=True) as session:
        bound = bind(session, spec)
        listed = pairs.listed(session, bound, found.run)
        clean(repr(listed))
        first = next(row for row in listed if row["target_key"] == 1)
        assert first["differences"] == f"note {VEIL} → {VEIL}"
        assert first["interpretation"] == VEIL  # its condition asks for a pin
        six = next(row for row in listed if row["target_key"] == 6)
        assert six["interpretation"] == f"mail {VEIL}, {VEIL} apart, born {VEIL}"
        assert six["differences"] == f"note nothing → {VEIL}"
        about = standing.look(session, bound, ("1",), [])
        assert about.decided is not None
        assert about.decided.evidence == {"changes": {"note": {"before": VEIL, "after": VEIL}}}
        clean(repr(explain(session, bound, "4")))
        shown = bind(session, spec, shows_private=True)
        assert "kanari old" in repr(pairs.listed(session, shown, found.run))


def test_who_sees_and_what_is_said(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    (workspace.root / "recon.toml").write_text(POLICY, encoding="utf-8")
    cases = [("ann", "1", True), ("ann", "", False), ("ann", "maybe", False), ("bob", "1", False), ("ANN", "yes", True)]
    for user, asks, sees in cases:
        monkeypatch.setenv("RECON_USER", user)
        monkeypatch.setenv("RECON_SHOW_PRIVATE", asks)
        assert Workspace(workspace.root).sees_private is sees, (user, asks)
    assert Workspace(workspace.root).private_note(simple_spec()) is None
    (workspace.root / "recon.toml").unlink()
    assert not Workspace(workspace.root).sees_private
    (workspace.root / "recon.toml").write_text('[private]\nseen = ["ann"]\n', encoding="utf-8")
    with pytest.raises(SpecError, match=r"private.seen"):
        _ = Workspace(workspace.root).sees_private
    assert issubclass(SpecError, ReconError)
