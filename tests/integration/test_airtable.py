"""Airtable is written only where it holds what was planned, whatever it answers: a stand-in over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from recon.errors import OutsideDenied, OutsideFailed, OutsideUnsure, UsageError
from recon.outside.client import Client
from recon.outside.interface import Edit, open_target
from recon.spec_parts import Outside
from recon.stand_ins.airtable import Airtable
from recon.stand_ins.faults import Fault
from recon.stand_ins.rate import Rate
from recon.stand_ins.server import served
from recon.systems.hcp_jobs.airtable import Base, reservations, target

SECRET = "pat-secret-77aa"
BASE, TABLE, JOB = "appStandIn1", "Reservations / 2025", "Service Job ID"  # a name that an address must encode
OUTSIDE = Outside(system="airtable", object=TABLE, record="airtable_id", fields={"service_job_id": JOB})


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Airtable, str]]:
    base = Airtable(BASE, TABLE, {}, {JOB: "text", "Guest": "text", "Nights": "number", "Paid": "checkbox"}, SECRET)
    with served(base.app) as address:
        yield base, address


@pytest.fixture
def base(server: tuple[Airtable, str]) -> Airtable:
    """Twelve reservations without a job, and it behaves."""
    base = server[0]
    base.records = {f"rec{number:02}": {JOB: None, "Guest": f"Guest {number}"} for number in range(12)}
    base.rate = base.before_write = None
    base.updates.clear()
    base.batches.clear()
    base.faults.waiting.clear()
    base.faults.requests.clear()
    return base


def _open(address: str, token: str = SECRET, table: str = TABLE, **options: Any) -> Base:
    usual: dict[str, Any] = {"per_second": 10_000, "first_pause": 0.001, "longest_pause": 0.002}
    client = Client(
        "Airtable",
        address,
        headers={"Authorization": f"Bearer {token}"},
        secrets=[token],
        setting="RECON_AIRTABLE_TOKEN",
        **usual | {"penalty": 0.01} | options,
    )
    return Base(client, BASE, table, token)


@pytest.fixture
def there(server: tuple[Airtable, str]) -> Iterator[Base]:
    opened = _open(server[1])
    yield opened
    opened.close()


@pytest.fixture
def settings(server: tuple[Airtable, str]) -> dict[str, str]:
    return {"RECON_AIRTABLE_TOKEN": SECRET, "RECON_AIRTABLE_BASE": BASE, "RECON_AIRTABLE_URL": server[1]}


def _edits(*numbers: int, before: str | None = None) -> list[Edit]:
    return [Edit(f"rec{number:02}", {JOB: before}, {JOB: f"job_{number}"}) for number in numbers]


def _errors(there: Base, edits: list[Edit]) -> dict[str, str | None]:
    return {answer.record: answer.error for answer in there.write(edits)}


def _held(base: Airtable) -> dict[str, str]:
    return {record: fields[JOB] for record, fields in base.records.items() if fields[JOB]}


def test_records_are_read_by_their_ids_and_absent_ones_are_left_out(base: Airtable, there: Base) -> None:
    base.records["rec01"][JOB] = "job_1"

    found = there.read(["rec00", "rec01", "rec99", "it's'); OR({Guest}='"], [JOB, "Guest"])

    assert found == {"rec00": {JOB: None, "Guest": "Guest 0"}, "rec01": {JOB: "job_1", "Guest": "Guest 1"}}
    assert there.read([], [JOB]) == {}


def test_values_are_read_as_postgresql_writes_them(base: Airtable, there: Base) -> None:
    base.records["rec00"] |= {"Guest": "", "Nights": 2.5, "Paid": True}

    assert there.read(["rec00"], ["Guest", "Nights", "Paid"])["rec00"] == {
        "Guest": None,
        "Nights": "2.5",
        "Paid": "true",
    }


def test_ten_links_are_written_in_one_request(base: Airtable, there: Base) -> None:
    """HCP-09: the job ids are written to Airtable in batches."""
    assert there.most == 10
    assert set(_errors(there, _edits(*range(10))).values()) == {None}

    assert _held(base) == {f"rec{number:02}": f"job_{number}" for number in range(10)}
    assert base.batches == [10]
    assert set(base.updates.values()) == {1}
    assert base.records["rec00"]["Guest"] == "Guest 0"  # what is not written stays
    with pytest.raises(ValueError, match="at most 10"):
        there.write(_edits(*range(11)))


def test_a_job_id_that_stands_there_is_never_overwritten(base: Airtable, there: Base) -> None:
    """HCP-10: a link that somebody made there meanwhile stays; HCP-09: the ones that are still empty are written."""
    base.records["rec01"][JOB] = "job_of_somebody"

    errors = _errors(there, _edits(0, 1, 2))

    assert errors == {"rec00": None, "rec01": errors["rec01"], "rec02": None}
    assert "something else" in str(errors["rec01"])
    assert "job_of_somebody" not in str(errors["rec01"])
    assert _held(base) == {"rec00": "job_0", "rec01": "job_of_somebody", "rec02": "job_2"}
    assert base.updates["rec01"] == 0


def test_what_is_there_already_is_not_written_twice(base: Airtable, there: Base) -> None:
    base.records["rec00"][JOB] = "job_0"

    assert _errors(there, _edits(0)) == {"rec00": None}

    assert base.batches == []


def test_a_link_is_taken_back_to_an_empty_field(base: Airtable, there: Base) -> None:
    there.write(_edits(0))

    there.write([Edit("rec00", {JOB: "job_0"}, {JOB: None})])

    assert there.read(["rec00"], [JOB]) == {"rec00": {JOB: None}}


def test_a_record_that_is_gone_leaves_the_others_done(base: Airtable, there: Base) -> None:
    del base.records["rec01"]

    errors = _errors(there, _edits(0, 1, 2))

    assert "no such record" in str(errors["rec01"])
    assert _held(base) == {"rec00": "job_0", "rec02": "job_2"}


def test_of_a_batch_that_is_refused_each_record_is_sent_alone(base: Airtable, there: Base) -> None:
    """A number field takes no text: that record has the error, without its value, and the others are done."""
    edits = [*_edits(0, 2), Edit("rec01", {"Nights": None}, {"Nights": "two"})]

    errors = _errors(there, edits)

    assert errors["rec00"] is errors["rec02"] is None
    assert "INVALID_VALUE_FOR_COLUMN" in str(errors["rec01"])
    assert '"Nights"' in str(errors["rec01"])
    assert "two" not in str(errors["rec01"])
    assert _held(base) == {"rec00": "job_0", "rec02": "job_2"}
    assert base.batches == [1, 1]


def test_a_record_that_disappears_before_the_write_has_the_error_alone(base: Airtable, there: Base) -> None:
    base.before_write = lambda: base.records.pop("rec01", None)  # after it was read

    errors = _errors(there, _edits(0, 1, 2))

    assert errors["rec00"] is errors["rec02"] is None
    assert "ROW_DOES_NOT_EXIST" in str(errors["rec01"])
    assert "rec01" in str(errors["rec01"])
    assert _held(base) == {"rec00": "job_0", "rec02": "job_2"}


def test_a_404_for_a_batch_is_asked_record_by_record(base: Airtable, there: Base) -> None:
    base.faults.add(
        _ok(), Fault(status=404, body='{"error": "NOT_FOUND"}'), Fault(status=404, body='{"error": "NOT_FOUND"}')
    )

    errors = _errors(there, _edits(0, 1))

    assert errors == {"rec00": "NOT_FOUND", "rec01": None}


def _ok() -> Fault:
    """The right answer: it lets the read before a write through, so that the next fault meets the write."""
    return Fault()


@pytest.mark.parametrize(
    "fault",
    [Fault(status=500, after=True), Fault(delay=1.0), Fault(cut=True), Fault(status=502)],
    ids=["500 when it is done", "timeout", "truncated", "502 when it is not done"],
)
def test_a_write_that_may_be_done_is_never_sent_again(
    base: Airtable, server: tuple[Airtable, str], fault: Fault
) -> None:
    opened = _open(server[1], timeout=0.5 if fault.delay else 5.0)
    base.faults.add(_ok(), fault)

    with pytest.raises(OutsideUnsure) as caught:
        opened.write(_edits(0, 1))
    opened.close()

    assert base.faults.requests.count(f"PATCH /v0/{BASE}/{TABLE}") == 1
    assert caught.value.todo
    assert SECRET not in str(caught.value)


def test_a_failure_after_a_part_is_written_is_unsure(base: Airtable, there: Base) -> None:
    """The batch is refused, the first of its records is written alone, then Airtable refuses the credential."""
    refused, no = Fault(status=422, body='{"error": {"type": "NO"}}'), Fault(status=403, body="no")
    base.faults.add(_ok(), refused, _ok(), no)

    with pytest.raises(OutsideUnsure, match="Some records are written"):
        there.write(_edits(0, 1, 2))

    assert _held(base) == {"rec00": "job_0"}
    base.faults.add(_ok(), refused, no)
    with pytest.raises(OutsideDenied):  # nothing was written: that is sure
        there.write(_edits(1, 2))


@pytest.mark.parametrize(
    "fault",
    [Fault(status=500), Fault(delay=1.0), Fault(cut=True), Fault(status=429), Fault(status=503)],
    ids=["500", "timeout", "truncated", "429", "503"],
)
def test_reading_is_tried_again(base: Airtable, server: tuple[Airtable, str], fault: Fault) -> None:
    base.faults.add(fault)
    opened = _open(server[1], timeout=0.5 if fault.delay else 5.0)

    assert len(opened.read(["rec00", "rec01"], [JOB])) == 2

    assert len(base.faults.requests) >= 2
    opened.close()


def test_a_write_that_was_surely_not_done_is_sent_again(base: Airtable, there: Base) -> None:
    base.faults.add(_ok(), Fault(status=429), Fault(status=429, headers={"Retry-After": "0.01"}))

    assert _errors(there, _edits(0)) == {"rec00": None}
    assert base.updates["rec00"] == 1


def test_a_429_that_does_not_say_for_how_long_is_waited_for_as_airtable_asks(
    base: Airtable, server: tuple[Airtable, str]
) -> None:
    told: list[str | None] = []
    opened = _open(server[1], penalty=0.85)
    opened.notice = told.append
    base.rate = Rate(1, 0.8, says=False)

    for _ in range(2):
        assert opened.read(["rec00"], [JOB])

    assert base.rate.refused >= 1
    assert "Airtable asks to wait 0.85 s" in told
    opened.close()


def test_a_credential_that_is_refused_is_never_shown(base: Airtable, server: tuple[Airtable, str]) -> None:
    opened = _open(server[1], token="pat-wrong-c0ffee")

    with pytest.raises(OutsideDenied) as caught:
        opened.write(_edits(0))

    assert "RECON_AIRTABLE_TOKEN" in caught.value.todo
    assert "c0ffee" not in str(caught.value)
    assert len(base.faults.requests) == 1
    opened.close()


def test_what_airtable_echoes_is_shown_without_the_credential(base: Airtable, there: Base) -> None:
    echo = f'{{"error": {{"type": "ODD", "message": "token {SECRET} and value job_0"}}}}'
    base.faults.add(Fault(status=422, body=echo))
    with pytest.raises(OutsideFailed) as caught:
        there.read(["rec00"], [JOB])
    base.faults.add(_ok(), Fault(status=422, body=echo))

    error = _errors(there, _edits(0))["rec00"]

    assert "ODD" in str(error)
    assert "ODD" in str(caught.value)
    assert SECRET not in f"{error} {caught.value}"
    assert "job_0" not in str(error)


def test_a_field_or_a_table_that_is_not_there_stops_before_anything_is_written(
    base: Airtable, there: Base, server: tuple[Airtable, str]
) -> None:
    with pytest.raises(OutsideFailed, match='UNKNOWN_FIELD_NAME: Unknown field name: "Job"') as caught:
        there.write([Edit("rec00", {"Job": None}, {"Job": "job_0"})])
    assert not isinstance(caught.value, OutsideUnsure)
    assert "outside" in caught.value.todo
    opened = _open(server[1], table="Guests")
    with pytest.raises(OutsideDenied, match="INVALID_PERMISSIONS_OR_MODEL_NOT_FOUND"):
        opened.read(["rec00"], [JOB])
    opened.close()
    assert base.batches == []


def test_an_answer_without_records_is_said(base: Airtable, there: Base) -> None:
    for body in ('{"records": [{"name": 1}]}', "[]", "null"):
        base.faults.add(Fault(status=200, body=body))
        with pytest.raises(OutsideFailed, match="no list of records"):
            there.read(["rec00"], [JOB])


def test_numbers_are_compared_as_numbers_only_where_the_field_holds_them(base: Airtable, there: Base) -> None:
    base.records["rec00"]["Nights"] = Decimal("2.50")
    there.read(["rec00"], ["Nights", "Guest"])

    assert there.same("Nights", "2.5", "2.50")
    assert not there.same("Nights", "2.5", "2.6")
    assert not there.same("Nights", "2.5", "two")
    assert not there.same("Guest", "007", "7")  # a text
    assert there.same("Guest", None, "")
    assert not there.same("Guest", None, "x")


def test_all_reservations_are_read_page_by_page_or_those_without_a_job(
    base: Airtable, settings: dict[str, str]
) -> None:
    """HCP-04: reservations without a service job id, read from Airtable."""
    base.records = {f"rec{n:03}": {JOB: f"job_{n}" if n % 3 else None, "Guest": "Ann"} for n in range(150)}

    every = list(reservations(OUTSIDE, settings))
    without = [record for page in reservations(OUTSIDE, settings, without="service_job_id") for record in page]

    assert [len(page) for page in every] == [100, 50]
    assert every[0][1] == {"airtable_id": "rec001", "service_job_id": "job_1"}
    assert without == [{"airtable_id": f"rec{n:03}", "service_job_id": None} for n in range(0, 150, 3)]
    with pytest.raises(UsageError, match="Name one of: service_job_id"):
        next(reservations(OUTSIDE, settings, without="guest"))


def test_a_page_that_cannot_be_had_is_no_end(base: Airtable, server: tuple[Airtable, str]) -> None:
    base.records = {f"rec{n:03}": {JOB: None} for n in range(150)}
    opened = _open(server[1])
    pages = opened.pages([JOB])
    assert len(next(pages)) == 100
    base.faults.add(*[Fault(status=500)] * 5)

    with pytest.raises(OutsideFailed):
        next(pages)

    opened.close()


def test_the_target_is_found_by_its_name_and_opened_from_settings(base: Airtable, settings: dict[str, str]) -> None:
    opened = open_target(OUTSIDE, settings)

    assert [answer.error for answer in opened.write(_edits(0))] == [None]

    assert opened.place == f"{settings['RECON_AIRTABLE_URL']}/{BASE}/{TABLE}"
    assert SECRET not in opened.place
    opened.close()
    usual = target(OUTSIDE, {**settings, "RECON_AIRTABLE_URL": "https://api.airtable.com"})
    assert usual.place == f"https://api.airtable.com/{BASE}/{TABLE}"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RECON_AIRTABLE_TOKEN", ""),
        ("RECON_AIRTABLE_TOKEN", "pat\nnew"),
        ("RECON_AIRTABLE_BASE", ""),
        ("RECON_AIRTABLE_BASE", "pat-which-is-the-token"),
        ("RECON_AIRTABLE_URL", "http://example.org"),
    ],
)
def test_a_setting_that_is_wrong_is_named_before_anything_is_asked(
    settings: dict[str, str], name: str, value: str
) -> None:
    with pytest.raises(UsageError) as caught:
        target(OUTSIDE, settings | {name: value})

    assert "Airtable" in caught.value.what or name in caught.value.what
    assert not value or value.startswith("http") or value not in str(caught.value)
    assert caught.value.todo


def test_the_stand_in_refuses_what_airtable_refuses(base: Airtable, server: tuple[Airtable, str]) -> None:
    with httpx2.Client(base_url=server[1], headers={"Authorization": f"Bearer {SECRET}"}) as asks:
        path = f"/v0/{BASE}/Reservations%20%2F%202025"
        eleven = [{"id": "rec00", "fields": {}}] * 11

        assert asks.patch(path, json={"records": eleven}).status_code == 422
        assert asks.get(f"{path}/rec99").status_code == 404
        assert asks.get(f"{path}/rec00").json()["fields"] == {"Guest": "Guest 0"}
        assert asks.get(path, headers={"Authorization": "Bearer no"}).status_code == 401
        assert asks.get(path, params={"offset": "itr/gone"}).status_code == 422
        for formula in ("{Guest}>1", "LEN({Guest})=1", "RECORD_ID()='a", "OR()", "{Guest}=BLANK() x", "NOT(1=1,2=2)"):
            answer = asks.get(path, params={"filterByFormula": formula})
            assert (answer.status_code, answer.json()["error"]["type"]) == (422, "INVALID_FILTER_BY_FORMULA")
        some = asks.get(path, params={"filterByFormula": "NOT({Guest}='Guest 1')", "pageSize": "5"}).json()
        assert [record["id"] for record in some["records"]] == ["rec00", "rec02", "rec03", "rec04", "rec05"]
        listed = asks.post(f"{path}/listRecords", json={"offset": some["offset"], "fields": [JOB]}).json()
        assert listed["records"][0]["id"] == "rec06"
