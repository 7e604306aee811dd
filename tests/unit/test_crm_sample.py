"""The sample of the CRM holds every case that the rules must get right, in files as awkward as exports are."""

import csv
import io
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from recon.errors import AlreadyExists
from recon.sources import samples
from recon.systems.crm import sample
from recon.systems.crm.sample import FIRST_HUBSPOT_ID, HUBSPOT_ONLY, KINDS, OBJECTS

HEADINGS = {
    "bronze/Bronze_Company.csv": ["Comp_CompanyId", "Comp_Name", "Comp_WebSite", "Comp_City"],
    "bronze/Bronze_Person.csv": ["Pers_PersonId", "Pers_FirstName", "Pers_LastName", "Pers_EmailAddress"],
    "bronze/Bronze_Opportunity.csv": ["Oppo_OpportunityId", "Oppo_Description", "Oppo_Forecast"],
    "bronze/Bronze_Communication.csv": ["Comm_CommunicationId", "Comm_Subject", "Comm_Type"],
}


def legacy(place: int) -> list[dict[str, str]]:
    """The records of a file."""
    return list(csv.DictReader(io.StringIO(sample.files()[place].content.decode(), newline="")))


def test_two_calls_and_two_processes_give_the_same_rows_and_files():
    code = "from recon.systems.crm import sample; print(sample.tables(), sample.files())"
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert sample.tables() == sample.tables()
    assert sample.files() == sample.files()
    assert len(printed) == 1


@pytest.mark.parametrize("place", range(4))
def test_both_sides_have_the_records_of_their_kinds(place: int):
    """CRM-01: four objects, each with a legacy id in a column of its own."""
    thing, table, records = OBJECTS[place], sample.tables()[place], legacy(place)
    counts = {kind: numbers[place] for kind, numbers in KINDS}
    assert len(records) == sum(count for kind, count in counts.items() if kind not in HUBSPOT_ONLY)
    assert len(table.rows) == sum(counts.values()) + counts["doubled"] - counts["missing"]
    assert table.columns[:2] == ("hs_object_id", thing.id_column)
    assert list(records[0])[: len(HEADINGS[thing.file])] == HEADINGS[thing.file]
    ids = [row[0] for row in table.rows]
    assert len(set(ids)) == len(ids)
    assert min(ids) >= FIRST_HUBSPOT_ID  # pyright: ignore[reportOperatorIssue]
    known = Counter(str(row[1]) for row in table.rows if row[1] is not None)
    legacy_ids = [str(int(record[HEADINGS[thing.file][0]])) for record in records]
    assert len(set(legacy_ids)) == len(legacy_ids)
    assert sum(known[name] == 2 for name in legacy_ids) == counts["doubled"]
    assert sum(known[name] == 1 for name in legacy_ids) == counts["same"] + counts["changed"]
    assert sum(name.startswith("0") for name in known) == counts["zeros"]
    assert sum(name.endswith(".0") for name in known) == counts["decimal"]


def test_the_files_are_as_awkward_as_exports_are():
    """CRM-07: umlauts, commas, quotes and line breaks inside of values, and an id that is filled up with zeros."""
    text = [file.content.decode() for file in sample.files()]
    assert all(any(sign in part for sign in "üöäßé") for part in text)
    companies, persons, _, communications = (legacy(place) for place in range(4))
    assert companies[0]["Comp_CompanyId"].startswith("000")
    assert any("," in record["Comp_Name"] for record in companies)
    assert any('"' in record["Comp_Name"] for record in companies)
    assert any("\n" in record["Comp_Street"] for record in companies)
    assert any("\n" in record["Comm_Subject"] for record in communications)
    assert any(record["Pers_EmailAddress"] != record["Pers_EmailAddress"].lower() for record in persons)
    websites = {record["Comp_WebSite"].split(".")[0] for record in companies}
    assert {"http://www", "www"} <= websites


def test_a_sample_s_files_never_replace_a_file(tmp_path: Path):
    written = samples.write(tmp_path, sample.files())
    assert samples.write(tmp_path, sample.files()) == written  # the same content may stand there
    written[2].write_text("a person's own")
    written[0].unlink()
    with pytest.raises(AlreadyExists, match=r"Bronze_Opportunity\.csv is there already"):
        samples.write(tmp_path, sample.files())
    assert written[2].read_text() == "a person's own"
    assert not written[0].exists()  # nothing is written where one of them cannot be
