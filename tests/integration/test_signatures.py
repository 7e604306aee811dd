"""Signed approvals: real keys, real ssh-keygen, and everything that must void a signature."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recon.backfill import apply as applying
from recon.backfill import approvals, sign_off, signatures, states
from recon.backfill import plan as plans
from recon.backfill import revert as reverting
from recon.backfill.plan import Plan
from recon.backfill.signatures import Signers
from recon.database.connect import Database
from recon.errors import BundleChanged, IllegalMove, NotApproved, Refused, SpecError, UsageError
from recon.matching import run as runs
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests.signing import Keys, needs_ssh_keygen, policy
from tests.support import execute, load_rent_sample, recon, rent_spec, rows

pytestmark = [pytest.mark.one_engine, needs_ssh_keygen]

LINKED = "SELECT count(invoice_id) FROM historical_transactions WHERE category = 'rent'"


@pytest.fixture
def strict(workspace: Workspace) -> Workspace:
    """A workspace where only signatures count."""
    return policy(workspace, "recorded_by_name = false")


@pytest.fixture
def keys(tmp_path: Path, strict: Workspace) -> Keys:
    made = Keys(tmp_path / "keys", strict)
    for name in ("ann", "bob", "cleo"):
        made.make(name)
    made.allow("bob", "cleo")
    return made


@pytest.fixture
def plan(rent: Database, strict: Workspace, spec: Reconciliation) -> Plan:
    runs.match(rent, spec, "ann")
    made = plans.make(rent, strict, spec, "ann")
    assert made is not None
    return made


@pytest.fixture
def signed(rent: Database, strict: Workspace, plan: Plan, keys: Keys) -> Plan:
    return sign_off.approve(rent, strict, plan.plan, "bob", key=keys.folder / "bob")


def interrupt(database: Database, plan: Plan) -> None:
    """As an apply leaves it that was killed before its first batch."""
    with database.session() as session:
        states.move(session, plan.plan, "applying", "ann")


def refused(database: Database, workspace: Workspace, plan: Plan, said: str, actor: str = "ann") -> None:
    with pytest.raises(NotApproved, match="0 of 1 approvals") as error:
        applying.apply(database, workspace, plan.plan, actor, execute=True)
    assert said in error.value.why
    assert rows(database, LINKED) == [(125,)]


# -- what holds ------------------------------------------------------------------------------------------


def test_a_signed_plan_is_applied_verified_and_the_signature_lies_beside_the_bundle(
    rent: Database, strict: Workspace, signed: Plan, keys: Keys
) -> None:
    assert signed.state == "approved"
    kept = rows(rent, "SELECT approver, method, signature, key FROM recon.approvals")
    beside = list((signed.bundle / "signatures").iterdir())
    assert [path.read_text() for path in beside] == [kept[0][2]]
    assert kept[0][:2] == ("bob", "signed")
    assert kept[0][3] in _fingerprint(keys, "bob")
    assert "signatures" not in str(signed.document["files"])
    assert applying.apply(rent, strict, signed.plan, "ann", execute=True).changed == 10


def _fingerprint(keys: Keys, name: str) -> str:
    command = ["ssh-keygen", "-l", "-f", str(keys.folder / f"{name}.pub")]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_a_signature_made_elsewhere_is_taken(rent: Database, strict: Workspace, plan: Plan, keys: Keys) -> None:
    made = keys.sign("bob", (plan.bundle / "plan.json").read_bytes())
    assert sign_off.approve(rent, strict, plan.plan, "bob", signature=made).state == "approved"
    assert applying.apply(rent, strict, plan.plan, "ann", execute=True).changed == 10


@pytest.mark.parametrize(
    ("actor", "principals"),
    [
        ("Bob Smith", '"Bob Smith"'),
        ("BOB", "bob"),
        ("Ünï Cödé", '"ünï cödé"'),
        ("bob@example.com", "*@example.com"),
        ("-I", "-I"),
        ("#bob", '"#bob"'),
        ("bob; rm -rf $HOME `id` 'x'", "\"bob; rm -rf $HOME `id` 'x'\""),
    ],
)
def test_odd_names_sign_like_any_other(
    rent: Database, strict: Workspace, plan: Plan, keys: Keys, actor: str, principals: str
) -> None:
    keys.allow(f"{principals}=bob")
    assert sign_off.approve(rent, strict, plan.plan, actor, key=keys.folder / "bob").state == "approved"
    assert applying.apply(rent, strict, plan.plan, "ann", execute=True).changed == 10


@pytest.mark.parametrize("actor", ["bob,ann", "b*b", "b?b", "!bob", 'bo"b'])
def test_a_name_that_the_list_cannot_hold_is_refused(
    rent: Database, strict: Workspace, plan: Plan, keys: Keys, actor: str
) -> None:
    keys.allow("*=bob")
    with pytest.raises(NotApproved, match="cannot be listed"):
        sign_off.approve(rent, strict, plan.plan, actor, key=keys.folder / "bob")


# -- what does not hold ----------------------------------------------------------------------------------


def test_a_flipped_byte_in_the_signature_beside_the_bundle_voids_it(
    rent: Database, strict: Workspace, signed: Plan
) -> None:
    path = approvals.signature_file(signed.bundle, "bob")
    whole = path.read_bytes()
    for place in range(0, len(whole), 37):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refused(rent, strict, signed, "is not the signature that was given")
    path.unlink()
    refused(rent, strict, signed, "cannot be read")
    path.write_bytes(whole)
    assert applying.apply(rent, strict, signed.plan, "ann", execute=True).changed == 10


def test_a_signature_changed_in_the_database_too_is_void(rent: Database, strict: Workspace, signed: Plan) -> None:
    path = approvals.signature_file(signed.bundle, "bob")
    lines = path.read_text().splitlines()
    sign = lines[-3][5]
    lines[-3] = lines[-3][:5] + ("B" if sign == "A" else "A") + lines[-3][6:]
    path.write_text("\n".join(lines) + "\n")
    with rent.session() as session:
        session.execute("UPDATE recon.approvals SET signature = $1", path.read_text())
    refused(rent, strict, signed, "does not hold")


def test_an_approval_written_into_the_database_alone_counts_for_nothing(
    rent: Database, strict: Workspace, plan: Plan, keys: Keys
) -> None:
    forged = keys.sign("cleo", b"something else").read_text()
    with rent.session() as session:
        session.execute(
            "INSERT INTO recon.approvals (plan, approver, digest, method, signature) VALUES ($1, 'cleo', $2, 'signed', $3)",
            plan.plan, plan.digest, forged,
        )  # fmt: skip
        session.execute("UPDATE recon.plans SET state = 'approved'")
    refused(rent, strict, plan, "cannot be read")
    path = approvals.signature_file(plan.bundle, "cleo")
    path.parent.mkdir()
    path.write_text(forged)
    refused(rent, strict, plan, "does not hold")
    execute(rent, "UPDATE recon.approvals SET signature = NULL, method = 'recorded'")
    refused(rent, strict, plan, "recorded by name, which does not count here")


def test_a_flipped_byte_in_plan_json_is_found_before_any_signature(
    rent: Database, strict: Workspace, signed: Plan
) -> None:
    path = signed.bundle / "plan.json"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(BundleChanged):
        applying.apply(rent, strict, signed.plan, "ann", execute=True)


def test_the_signature_of_another_plan_signs_nothing_here(
    rent: Database, strict: Workspace, spec: Reconciliation, signed: Plan, keys: Keys
) -> None:
    newer = plans.make(rent, strict, spec, "ann")
    assert newer is not None
    with pytest.raises(NotApproved, match="does not hold"):
        sign_off.approve(rent, strict, newer.plan, "bob", signature=approvals.signature_file(signed.bundle, "bob"))
    assert rows(rent, "SELECT plan FROM recon.approvals") == [(signed.plan,)]


def test_a_signature_for_another_purpose_signs_no_plan(
    rent: Database, strict: Workspace, plan: Plan, keys: Keys
) -> None:
    other = keys.sign("bob", (plan.bundle / "plan.json").read_bytes(), namespace="git")
    with pytest.raises(NotApproved, match="does not hold"):
        sign_off.approve(rent, strict, plan.plan, "bob", signature=other)


def test_a_key_that_is_not_listed_signs_nothing_and_the_line_to_add_is_shown(
    rent: Database, strict: Workspace, plan: Plan, keys: Keys
) -> None:
    keys.make("dave")
    with pytest.raises(NotApproved, match="is not listed for dave") as error:
        sign_off.approve(rent, strict, plan.plan, "dave", key=keys.folder / "dave")
    assert f"dave {keys.public('dave')}" in error.value.todo
    with pytest.raises(NotApproved, match="is not listed for bob"):  # nor in the name of somebody who is
        sign_off.approve(rent, strict, plan.plan, "bob", key=keys.folder / "dave")
    strict.signers.unlink()
    with pytest.raises(NotApproved) as error:
        sign_off.approve(rent, strict, plan.plan, "bob", key=keys.folder / "bob")
    assert "lists nobody" in error.value.why


def test_a_list_of_signers_inside_the_bundle_is_ignored(
    rent: Database, strict: Workspace, plan: Plan, keys: Keys
) -> None:
    keys.make("dave")
    for folder in (plan.bundle, plan.bundle / "signatures"):
        folder.mkdir(exist_ok=True)
        (folder / "allowed_signers").write_text(f"dave {keys.public('dave')}\n")
    with pytest.raises(NotApproved, match="is not listed"):
        sign_off.approve(rent, strict, plan.plan, "dave", key=keys.folder / "dave")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ('valid-before="20200101"', "expired"),
        ('valid-after="20990101"', "not yet valid"),
        ('namespaces="git"', "namespace"),
    ],
)
def test_options_of_the_list_are_honoured(
    rent: Database, strict: Workspace, plan: Plan, keys: Keys, option: str, said: str
) -> None:
    keys.workspace.signers.write_text(f"bob {option} {keys.public('bob')}\n")
    with pytest.raises(NotApproved, match="does not hold") as error:
        sign_off.approve(rent, strict, plan.plan, "bob", key=keys.folder / "bob")
    assert said in error.value.why


def test_no_signature_at_all_and_by_a_certificate_are_refused(
    rent: Database, strict: Workspace, plan: Plan, keys: Keys, tmp_path: Path
) -> None:
    for content in (b"", b"hello", b"-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"):
        (tmp_path / "x.sig").write_bytes(content)
        with pytest.raises(NotApproved, match="no SSH signature"):
            sign_off.approve(rent, strict, plan.plan, "bob", signature=tmp_path / "x.sig")
    with pytest.raises(UsageError, match="cannot be read"):
        sign_off.approve(rent, strict, plan.plan, "bob", signature=tmp_path / "y.sig")
    command = [
        "ssh-keygen",
        "-q",
        "-s",
        str(keys.folder / "cleo"),
        "-I",
        "x",
        "-n",
        "bob",
        str(keys.folder / "bob.pub"),
    ]
    subprocess.run(command, check=True, timeout=60)
    strict.signers.write_text(f"bob cert-authority {keys.public('cleo')}\n")
    (keys.folder / "bob.pub").unlink()
    with pytest.raises(NotApproved, match="certificate"):
        sign_off.approve(rent, strict, plan.plan, "bob", key=keys.folder / "bob-cert.pub")


def test_without_ssh_keygen_there_is_one_clear_refusal(
    rent: Database, strict: Workspace, signed: Plan, keys: Keys, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(rent, strict, signed, "ssh-keygen cannot be run")
    with pytest.raises(NotApproved, match="ssh-keygen cannot be run"):
        signatures.sign(b"text", keys.folder / "bob")


def test_a_key_with_a_passphrase_cannot_sign_where_nobody_is_asked(
    rent: Database, strict: Workspace, plan: Plan, keys: Keys
) -> None:
    keys.make("locked", passphrase="secret")
    ended = recon(
        "approve", plan.plan, "--key", str(keys.folder / "locked"), "--workspace", str(strict.root), "--json",
        url=rent.url, user="bob",
    )  # fmt: skip
    assert ended.code == 2
    assert "could not sign" in ended.json["what"]


TERMINAL = """
import os, sys
from pathlib import Path
from recon.backfill import signatures
os.setsid()
os.close(os.open(os.ttyname(0), os.O_RDWR))  # the first terminal that the leader of a session opens is its own
Path(sys.argv[2]).write_text(signatures.sign(b"text", Path(sys.argv[1])))
"""


def test_a_passphrase_is_asked_for_in_the_terminal(keys: Keys, tmp_path: Path) -> None:
    key = keys.make("locked", passphrase="secret")
    person, terminal = os.openpty()
    command = [sys.executable, "-c", TERMINAL, str(key), str(tmp_path / "out.sig")]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal) as signing:
        os.close(terminal)
        shown = b""
        while b"passphrase" not in shown:
            shown += os.read(person, 1000)
        os.write(person, b"secret\n")
        with contextlib.suppress(OSError):  # the end of a terminal
            while os.read(person, 1000):
                pass
    os.close(person)
    assert signing.returncode == 0
    keys.allow("locked")
    signers = Signers.read(keys.workspace.signers)
    assert signers.verify(b"text", (tmp_path / "out.sig").read_text(), "locked").kind == "ssh-ed25519"


def test_a_key_that_an_agent_holds_signs(
    keys: Keys, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    if shutil.which("ssh-agent") is None:
        pytest.skip("no ssh-agent on this machine")
    socket = tmp_path_factory.mktemp("a") / "s"  # a socket's path is short
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL) as agent:
        try:
            while not socket.exists():
                assert agent.poll() is None
            monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
            subprocess.run(["ssh-add", "-q", str(keys.folder / "bob")], check=True, timeout=60)
            (keys.folder / "bob").unlink()
            signature = signatures.sign(b"text", keys.folder / "bob.pub")
        finally:
            agent.terminate()
    assert Signers.read(keys.workspace.signers).verify(b"text", signature, "bob").line == keys.public("bob")


# -- one person, one key, one voice ----------------------------------------------------------------------


def test_the_author_cannot_sign_under_another_name(rent: Database, strict: Workspace, plan: Plan, keys: Keys) -> None:
    keys.allow("ann", "bob=ann")
    with pytest.raises(NotApproved, match="bob cannot approve") as error:
        sign_off.approve(rent, strict, plan.plan, "bob", key=keys.folder / "ann")
    assert "listed for ann too" in error.value.why
    # A line that is no longer valid says all the same whose key it is; so does a pattern.
    for principals in ("ann valid-before=20200101", "ANN", "an*", "*"):
        strict.signers.write_text(f"{principals} {keys.public('ann')}\nbob {keys.public('ann')}\n")
        with pytest.raises(NotApproved, match="bob cannot approve"):
            sign_off.approve(rent, strict, plan.plan, "bob", key=keys.folder / "ann")
    # And the executor asks again: listed for the author after the approval, it is void.
    keys.allow("bob=ann")
    sign_off.approve(rent, strict, plan.plan, "bob", key=keys.folder / "ann")
    keys.allow("bob=ann", "ann")
    refused(rent, strict, plan, "listed for ann too")


def test_two_approvals_are_two_people_and_two_keys(
    rent: Database, strict: Workspace, spec: Reconciliation, keys: Keys
) -> None:
    two = policy(strict, "recorded_by_name = false", "approvals = 2")
    runs.match(rent, spec, "ann")
    plan = plans.make(rent, two, spec, "ann")
    assert plan is not None
    keys.allow("bob", "dave=bob", "cleo")
    assert sign_off.approve(rent, two, plan.plan, "bob", key=keys.folder / "bob").state == "planned"
    assert sign_off.approve(rent, two, plan.plan, "BOB", key=keys.folder / "bob").state == "planned"
    with pytest.raises(NotApproved, match="dave cannot approve"):
        sign_off.approve(rent, two, plan.plan, "dave", key=keys.folder / "bob")
    assert sign_off.approve(rent, two, plan.plan, "cleo", key=keys.folder / "cleo").state == "approved"
    assert applying.apply(rent, two, plan.plan, "ann", execute=True).changed == 10


def test_a_key_that_comes_to_be_listed_for_two_approvers_counts_once(
    rent: Database, strict: Workspace, spec: Reconciliation, keys: Keys
) -> None:
    two = policy(strict, "approvals = 2")
    runs.match(rent, spec, "ann")
    plan = plans.make(rent, two, spec, "ann")
    assert plan is not None
    sign_off.approve(rent, two, plan.plan, "dave")  # by name
    assert sign_off.approve(rent, two, plan.plan, "bob", key=keys.folder / "bob").state == "approved"
    keys.allow("bob,dave=bob")
    with pytest.raises(NotApproved, match="1 of 2") as error:
        applying.apply(rent, two, plan.plan, "ann", execute=True)
    assert "listed for" in error.value.why


def test_who_applies_may_be_kept_from_being_the_approver_too(
    rent: Database, workspace: Workspace, spec: Reconciliation
) -> None:
    apart = policy(workspace, "applier_may_approve = false")
    runs.match(rent, spec, "ann")
    plan = plans.make(rent, apart, spec, "ann")
    assert plan is not None
    sign_off.approve(rent, apart, plan.plan, "bob")
    lax = policy(workspace, "applier_may_approve = true")  # the plan remembers
    refused(rent, lax, plan, "bob applies the plan", actor="Bob")
    assert applying.apply(rent, lax, plan.plan, "cleo", execute=True).changed == 10
    assert reverting.revert(rent, lax, plan.plan, "bob", execute=True).restored == 10


def test_where_names_do_count_a_signature_that_does_not_hold_still_counts_for_nothing(
    rent: Database, workspace: Workspace, keys: Keys, spec: Reconciliation
) -> None:
    lax = policy(workspace, "recorded_by_name = true")
    runs.match(rent, spec, "ann")
    plan = plans.make(rent, lax, spec, "ann")
    assert plan is not None
    sign_off.approve(rent, lax, plan.plan, "bob", key=keys.folder / "bob")
    keys.allow("cleo")
    refused(rent, lax, plan, "is not listed for bob")
    assert sign_off.approve(rent, lax, plan.plan, "bob").state == "approved"  # by name, and said so
    assert rows(rent, "SELECT method FROM recon.approvals") == [("recorded",)]
    keys.allow("bob")
    # Signing replaces the record; a record never replaces what is signed and holds.
    execute(rent, "UPDATE recon.plans SET state = 'planned'")
    sign_off.approve(rent, lax, plan.plan, "bob", key=keys.folder / "bob")
    execute(rent, "UPDATE recon.plans SET state = 'planned'")
    assert sign_off.approve(rent, lax, plan.plan, "bob").state == "approved"
    assert rows(rent, "SELECT method FROM recon.approvals") == [("signed",)]


# -- in mid-run, and undoing -----------------------------------------------------------------------------


def test_a_signer_removed_in_mid_run_stops_the_resume_until_somebody_else_signs(
    rent: Database, strict: Workspace, signed: Plan, keys: Keys
) -> None:
    interrupt(rent, signed)
    keys.allow("cleo")
    refused(rent, strict, signed, "is not listed for bob")
    with pytest.raises(NotApproved):
        reverting.revert(rent, strict, signed.plan, "ann", execute=True)
    assert sign_off.approve(rent, strict, signed.plan, "cleo", key=keys.folder / "cleo").state == "applying"
    assert applying.apply(rent, strict, signed.plan, "ann", execute=True).changed == 10


def test_an_approval_taken_back_in_mid_run_stops_the_resume_and_not_the_undoing(
    rent: Database, strict: Workspace, signed: Plan
) -> None:
    interrupt(rent, signed)
    with pytest.raises(IllegalMove):  # cleo gave none
        sign_off.reject(rent, strict, signed.plan, "cleo", "no")
    assert sign_off.reject(rent, strict, signed.plan, "Bob", "it is wrong after all").state == "applying"
    refused(rent, strict, signed, "bob took it back")
    assert reverting.revert(rent, strict, signed.plan, "ann", execute=True).state == "reverted"
    said = rows(rent, "SELECT detail FROM recon.audit_log WHERE event = 'approval' AND detail ? 'withdrawn'")
    assert said == [({"withdrawn": True, "reason": "it is wrong after all"},)]


def test_an_expired_plan_or_key_is_not_resumed_but_can_be_undone(
    rent: Database, strict: Workspace, signed: Plan, keys: Keys
) -> None:
    interrupt(rent, signed)
    strict.signers.write_text(f'bob valid-before="20500101" {keys.public("bob")}\n')
    execute(rent, "UPDATE recon.plans SET expires_at = now() - interval '1 second'")
    with pytest.raises(NotApproved, match="expired") as error:
        applying.apply(rent, strict, signed.plan, "ann", execute=True)
    assert "recon revert" in error.value.todo
    execute(rent, "UPDATE recon.plans SET expires_at = now() + interval '1 day'")
    # The key's time ends after the approval and before now.
    execute(rent, "UPDATE recon.approvals SET at = now() - interval '10 days'")
    strict.signers.write_text(f'bob valid-before="{_days_ago(5)}" {keys.public("bob")}\n')
    refused(rent, strict, signed, "expired")
    execute(rent, "UPDATE recon.plans SET expires_at = now() - interval '1 second'")
    assert reverting.revert(rent, strict, signed.plan, "ann", execute=True).state == "reverted"


def _days_ago(days: int) -> str:
    from datetime import UTC, datetime, timedelta

    return f"{datetime.now(UTC) - timedelta(days=days):%Y%m%d}"


def test_a_plan_that_has_all_it_needs_takes_no_more_approvals(
    rent: Database, strict: Workspace, signed: Plan, keys: Keys
) -> None:
    with pytest.raises(IllegalMove, match="is approved"):
        sign_off.approve(rent, strict, signed.plan, "cleo", key=keys.folder / "cleo")


# -- the log and the command -----------------------------------------------------------------------------


def test_approvals_and_refusals_are_in_the_audit_log(rent: Database, strict: Workspace, plan: Plan, keys: Keys) -> None:
    with pytest.raises(NotApproved):
        sign_off.approve(rent, strict, plan.plan, "bob")
    sign_off.approve(rent, strict, plan.plan, "bob", key=keys.folder / "bob")
    said = rows(rent, "SELECT actor, detail FROM recon.audit_log WHERE event = 'approval' ORDER BY entry")
    assert [actor for actor, _ in said] == ["bob", "bob"]
    assert said[0][1] == {"refused": "Approvals recorded by name are not accepted for this plan."}
    assert said[1][1]["method"] == "signed"
    assert said[1][1]["digest"] == plan.digest


def test_the_command_signs_takes_a_signature_and_says_how_one_is_made(
    database: Database, workspace: Workspace, tmp_path: Path
) -> None:
    load_rent_sample(database)
    strict = policy(workspace, "recorded_by_name = false")
    keys = Keys(tmp_path / "keys", strict)
    for name in ("bob", "cleo"):
        keys.make(name)
    keys.allow("bob", "cleo")
    spec = rent_spec()
    runs.match(database, spec, "ann")
    plan = plans.make(database, strict, spec, "ann")
    assert plan is not None

    def run(*arguments: str, user: str = "bob"):
        return recon(*arguments, "--workspace", str(strict.root), url=database.url, user=user)

    by_name = run("approve", plan.plan, "--json")
    assert by_name.code == 4
    assert "ssh-keygen -Y sign -n recon-sign-off" in by_name.json["next"]
    both = run("approve", plan.plan, "--key", "x", "--signature", "y", "--json")
    assert both.code == 2
    author = run("approve", plan.plan, "--key", str(keys.folder / "bob"), "--json", user="ann")
    assert (author.code, author.json["error"]) == (4, "NotApproved")
    agreed = run("approve", plan.plan, "--key", str(keys.folder / "bob"))
    assert agreed.code == 0
    assert "(signed)" in agreed.out
    newer = plans.make(database, strict, spec, "ann")
    assert newer is not None
    made = keys.sign("cleo", (newer.bundle / "plan.json").read_bytes())
    taken = run("approve", newer.plan, "--signature", str(made), "--json", user="cleo")
    assert (taken.code, taken.json["state"]) == (0, "approved")
    assert run("apply", newer.plan, "--execute", "--json", user="ann").json["changed"] == 10


# -- what the database keeps beside what was signed ------------------------------------------------------


@pytest.mark.parametrize(
    "tampering",
    [
        "UPDATE recon.plans SET author = 'eve'",
        "UPDATE recon.plans SET expires_at = expires_at + interval '1 year'",
        "UPDATE recon.plans SET expires_at = 'infinity'",
        "UPDATE recon.plans SET row_count = 1",
        """UPDATE recon.plans SET document = replace(document, '"tolerance_rows":0', '"tolerance_rows":9')""",
    ],
)
def test_a_plan_that_the_database_keeps_otherwise_than_it_was_signed_is_neither_approved_nor_applied(
    rent: Database, workspace: Workspace, plan: Plan, tampering: str
) -> None:
    before = rows(rent, LINKED)
    execute(rent, tampering)
    for actor in ("ann", "bob"):
        with pytest.raises(Refused):
            sign_off.approve(rent, workspace, plan.plan, actor)
    execute(rent, "UPDATE recon.plans SET state = 'approved'", APPROVED_BY_BOB)
    with pytest.raises(BundleChanged, match="What the database keeps of plan"):
        applying.apply(rent, workspace, plan.plan, "ann", execute=True)
    assert rows(rent, LINKED) == before


APPROVED_BY_BOB = "INSERT INTO recon.approvals (plan, approver, digest, method) SELECT plan, 'bob', digest, 'recorded' FROM recon.plans"


@pytest.mark.parametrize("line", ["[sign_off]\nstanding_days = 99999999999", "[plan]\nexpires_days = 99999999999"])
def test_more_days_than_a_calendar_has_are_refused_in_words(workspace: Workspace, line: str) -> None:
    (workspace.root / "recon.toml").write_text(f"{line}\n", encoding="utf-8")
    with pytest.raises(SpecError, match="less than or equal"):
        _ = workspace.policy
