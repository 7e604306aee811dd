"""A signed report: the file that was made, by somebody else than its author, in the log, and refused otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

from recon.backfill.replay import replay
from recon.database.connect import Database
from recon.errors import BundleChanged, IllegalMove, NotApproved, NotFound
from recon.matching import run as runs
from recon.reports import kept, sections_past, signed
from recon.reports.data import NOTEBOOK, gather
from recon.workspace import Workspace
from tests.integration.test_report_past import reported
from tests.signing import Keys, needs_ssh_keygen, policy
from tests.support import execute, rent_spec, rows

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code
RENT = "rent_payments"


@pytest.fixture
def made(rent: Database, workspace: Workspace) -> Path:
    """A report by ann."""
    runs.match(rent, rent_spec(), "ann")
    reported(rent, workspace, "morning")
    return workspace.reports / "morning.html"


def test_a_report_is_signed_by_name_once_and_the_log_tells_it(rent: Database, workspace: Workspace, made: Path) -> None:
    done = signed.sign(rent, workspace, RENT, str(made), "bob")
    assert (done.report, done.signed_by, done.author, done.method, done.key) == (
        "morning",
        "bob",
        "ann",
        "recorded",
        None,
    )
    log = "SELECT actor, reconciliation, detail ->> 'report', detail ->> 'digest' FROM recon.audit_log WHERE event = $1"
    assert rows(rent, log, signed.EVENT) == [("bob", RENT, "morning", done.digest)]
    with pytest.raises(IllegalMove, match="signed already"):
        signed.sign(rent, workspace, RENT, "morning", "carla")
    audit = replay(rent)
    assert audit.whole
    assert audit.checked["signed reports"] == 1
    execute(rent, "UPDATE recon.notebook_runs SET signed_by = 'carla'")
    assert [finding.says for finding in replay(rent).findings] == ["morning: it is not as it was signed"]
    execute(rent, "UPDATE recon.notebook_runs SET signed_by = NULL, signed_at = NULL")
    assert "and it is not" in replay(rent).findings[0].says


def test_what_is_refused_leaves_the_report_unsigned(rent: Database, workspace: Workspace, made: Path) -> None:
    for who in ("ann", "Ann "):
        with pytest.raises(NotApproved, match="somebody else than its author"):
            signed.sign(rent, workspace, RENT, str(made), who)
    with pytest.raises(NotApproved, match="demo database only"):
        signed.sign(rent, workspace, RENT, str(made), "demo-reviewer")
    with pytest.raises(NotApproved, match="wants signatures"):
        signed.sign(rent, policy(workspace, "recorded_by_name = false"), RENT, str(made), "bob")
    with pytest.raises(NotFound, match="has no report 'mornin'") as missing:
        signed.sign(rent, workspace, RENT, "mornin", "bob")
    assert "morning" in missing.value.why
    kept.begin(rent, "broken", NOTEBOOK, RENT, "ann", {})
    kept.end(rent, "broken", "failed", error="no kernel", file=made.name, digest="00")
    with pytest.raises(IllegalMove, match="is failed"):
        signed.sign(rent, workspace, RENT, "broken", "bob")
    made.write_text("<p>100 %</p>", encoding="utf-8")
    with pytest.raises(BundleChanged) as changed:
        signed.sign(rent, workspace, RENT, "morning", "bob")
    assert changed.value.exit_code == 4
    made.unlink()
    with pytest.raises(NotFound, match="cannot be read"):
        signed.sign(rent, workspace, RENT, "morning", "bob")
    assert rows(rent, "SELECT count(signed_by) FROM recon.notebook_runs") == [(0,)]
    assert rows(rent, "SELECT count(*) FROM recon.audit_log") == [(0,)]


@needs_ssh_keygen
def test_a_signature_by_key_is_a_proof_that_the_next_report_looks_at(
    rent: Database, workspace: Workspace, made: Path, tmp_path: Path
) -> None:
    keys = Keys(tmp_path / "keys", workspace)
    bob, ann = keys.make("bob"), keys.make("ann")
    with pytest.raises(NotApproved, match="is not listed for bob"):
        signed.sign(rent, workspace, RENT, "morning", "bob", key=bob)
    keys.allow("bob", "ann", "bob=ann")
    with pytest.raises(NotApproved, match="somebody else than its author"):  # bob with ann's key
        signed.sign(rent, workspace, RENT, "morning", "bob", key=ann)
    keys.allow("bob")
    done = signed.sign(rent, policy(workspace, "recorded_by_name = false"), RENT, "morning", "bob", key=bob)
    assert done.method == "signed"
    assert done.key is not None
    assert done.key in sections_past.changes(gather(rent, workspace, RENT))
    assert "and the signature holds" in sections_past.changes(gather(rent, workspace, RENT))
    execute(rent, "UPDATE recon.notebook_runs SET digest = repeat('0', 64)")
    assert "which does not hold" in sections_past.changes(gather(rent, workspace, RENT))
