"""A group's name stands for its reconciliations: each is done in turn, none stops the others, the worst exit code wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from recon.commands import groups
from recon.database.connect import Database
from recon.errors import NotFound
from recon.workspace import Workspace
from tests.support import ROOT, Ended, execute, recon

pytestmark = pytest.mark.one_engine  # what is asked here is answered by our own code

SPEC = """
name: {name}
title: Payments {name}
group: shop
target: {{table: {table}, key: id}}
source: {{table: lease, key: id}}
link: {{column: lease_id}}
passes:
  - {{name: by_code, on: {{code: code}}}}
"""


@pytest.fixture
def shop(database: Database, workspace: Workspace) -> Workspace:
    """A group of three, of which the second cannot be done: its table is not there."""
    execute(
        database,
        "CREATE TABLE lease (id int PRIMARY KEY, code text)",
        "CREATE TABLE pay (id int PRIMARY KEY, code text, lease_id int)",
        "CREATE TABLE fee (id int PRIMARY KEY, code text, lease_id int)",
        "INSERT INTO lease SELECT n, 'c' || n FROM generate_series(1, 9) AS n",
        "INSERT INTO pay SELECT n, 'c' || n FROM generate_series(1, 5) AS n",
        "INSERT INTO fee SELECT n, 'c' || n FROM generate_series(6, 12) AS n",
    )
    for name, table in (("shop_a", "pay"), ("shop_b", "gone"), ("shop_c", "fee")):
        path = workspace.root / "reconciliations" / f"{name}.yaml"
        path.write_text(SPEC.format(name=name, table=table), encoding="utf-8")
    return workspace


def called(database: Database, place: Workspace, *arguments: str) -> Ended:
    return recon(*arguments, "--workspace", str(place.root), url=database.url)


def test_one_that_fails_does_not_stop_the_others_and_is_shown(database: Database, shop: Workspace) -> None:
    """CRM-08, CRM-09: one command for a group, statistics for each object, and the worst exit code of all."""
    ended = called(database, shop, "match", "shop", "--json")
    document = ended.json
    assert (document["group"], ended.code, document["exit_code"]) == ("shop", 2, 2)
    assert [item["reconciliation"] for item in document["members"]] == ["shop_a", "shop_b", "shop_c"]
    first, second, third = document["members"]
    assert first["statistics"] == {
        "total": 5, "matched": 5, "unmatched": 0, "proposed": 0, "ambiguous": 0, "excluded": 0, "errors": 0,
    }  # fmt: skip
    assert (second["error"], second["exit_code"]) == ("SchemaMismatch", 2)
    assert "gone" in second["what"]
    assert (third["statistics"]["matched"], third["statistics"]["unmatched"], third["exit_code"]) == (4, 3, 3)
    assert third["passes"][0]["name"] == "by_code"  # as it is given for one alone

    shown = called(database, shop, "match", "shop", "--limit", "2")
    table = [line.split() for line in shown.out.splitlines()]
    assert ["shop", "total", "matched", "unmatched", "proposed", "ambiguous", "errors", "coverage", "ended"] in table
    assert ["shop_a", "2", "2", "0", "0", "0", "0", "–", "done"] in table  # the limit counts for each
    assert ["shop_c", "2", "2", "0", "0", "0", "0", "–", "done"] in table
    assert "shop_b: " in shown.out
    assert "gone" in shown.err


def test_the_whole_way_of_a_group(database: Database, shop: Workspace) -> None:
    """CRM-08: `recon run GROUP --limit N` plans and tries so many of each; the others go on where one fails."""
    (shop.root / "reconciliations" / "shop_a.yaml").unlink()
    ended = called(database, shop, "run", "shop", "--limit", "3", "--mode", "plan", "--json")
    assert ended.code == 2, ended.err
    failed, done = ended.json["members"]
    assert (failed["reconciliation"], failed["error"]) == ("shop_b", "ReportFailed")
    assert (done["plan"]["rows"], done["match"]["limited"]) == (3, {"limit": 3})
    assert done["statistics"]["total"] == 3
    assert Path(done["report"]).is_file()


def test_a_plan_is_of_one_reconciliation(database: Database, shop: Workspace) -> None:
    refused = called(database, shop, "run", "shop", "--plan", "x")
    assert refused.code == 2
    assert "shop is a group" in refused.err
    with pytest.raises(NotFound):
        groups.is_group(shop, "shops")
    assert groups.is_group(shop, "shop")
    assert not groups.is_group(shop, "shop_a")


def test_check_and_list_know_groups(database: Database, shop: Workspace) -> None:
    checked = called(database, shop, "check", "shop", "--json")
    assert [item["exit_code"] for item in checked.json["members"]][1] == 2
    assert checked.json["members"][0]["reconciliation"] == "shop_a"
    assert checked.json["members"][2]["passes"][0]["name"] == "by_code"
    shown = called(database, shop, "check", "shop").out
    assert "could not be checked" in shown
    listed = called(database, shop, "list", "--json").json["reconciliations"]
    assert {row["name"]: row["group"] for row in listed if row["group"] == "shop"} == dict.fromkeys(
        ("shop_a", "shop_b", "shop_c"), "shop"
    )
    assert {row["group"] for row in listed if row["name"].startswith("crm_")} == {"crm"}


@pytest.mark.parametrize(("codes", "worst"), [((0, 0), 0), ((0, 3), 3), ((3, 4), 4), ((4, 2), 2), ((2, 1, 3), 1)])
def test_the_worst_exit_code_wins(codes: tuple[int, ...], worst: int) -> None:
    given: list[Any] = [groups.Ended(str(code), {}, code) for code in codes]
    assert groups.worst(given) == worst


def test_the_shipped_group_is_loaded_by_its_name(database: Database, workspace: Workspace) -> None:
    """CRM-07, CRM-08: `recon load crm --sample` makes the mirror, writes the files, and loads them."""
    loaded = called(database, workspace, "load", "crm", "--sample", "--json")
    assert loaded.code == 0, loaded.err
    assert {"hubspot.contacts", "bronze.company", "bronze.person"} <= set(loaded.json["tables"])
    assert (workspace.root / "bronze" / "Bronze_Company.csv").is_file()
    again = called(database, workspace, "load", "crm", "--sample")
    assert again.code == 2
    assert "There is a table" in again.err
    assert Workspace(ROOT).members("crm") == ["crm_communications", "crm_companies", "crm_contacts", "crm_deals"]
