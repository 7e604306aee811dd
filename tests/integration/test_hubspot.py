"""HubSpot as a target, against its stand-in: what becomes of each record, whatever goes wrong on the way."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import pytest
from fastapi import FastAPI

from recon.errors import VEIL, OutsideDenied, OutsideFailed, OutsideUnsure, UsageError
from recon.outside.client import Client
from recon.outside.interface import Edit, open_target
from recon.spec_parts import Outside
from recon.stand_ins import hubspot as stand_in
from recon.stand_ins.faults import Fault
from recon.stand_ins.rate import Rate
from recon.stand_ins.server import served
from recon.systems.crm import hubspot

SECRET = "pat-kanari-0815"
UPDATE, READ = "batch/update", "batch/read"
COMPANIES = Outside.model_validate({"system": "hubspot", "object": "companies"})


_serving: dict[str, Any] = {}  # one server for the module; each test has a stand-in of its own behind it


@pytest.fixture(scope="module", autouse=True)
def _served() -> Iterator[None]:
    async def whoever(scope: Any, receive: Any, send: Any) -> None:
        await _serving["app"](scope, receive, send)

    with served(cast(FastAPI, whoever)) as url:
        _serving["url"] = url
        yield


@contextmanager
def hub(
    count: int = 5, timeout: float = 10.0, **options: Any
) -> Generator[tuple[stand_in.HubSpot, hubspot.HubSpot, list[str | None]]]:
    """A stand-in with companies 1 to `count` called old-1 …, its target, and what the target says while it waits."""
    records: stand_in.Records = {str(n): {"name": f"old-{n}", "domain": None} for n in range(1, count + 1)}
    made = stand_in.HubSpot({"companies": records}, token=SECRET, **options)
    _serving["app"] = made.app
    client = Client(
        "HubSpot",
        _serving["url"],
        headers={"Authorization": f"Bearer {SECRET}"},
        secrets=[SECRET],
        per_second=1000,
        setting=hubspot.TOKEN_SETTING,
        timeout=timeout,
        attempts=3,
        first_pause=0.01,
        limit=hubspot.limit,
    )
    waits: list[str | None] = []
    client.notice = waits.append
    target = hubspot.HubSpot(client, "companies")
    try:
        yield made, target, waits
    finally:
        target.close()
        assert SECRET not in str(waits)


def edits(*records: int | str) -> list[Edit]:
    return [Edit(str(record), {"name": f"old-{record}"}, {"name": f"new-{record}"}) for record in records]


def written(target: hubspot.HubSpot, wanted: Sequence[Edit]) -> dict[str, str | None]:
    """The answers by record; there is exactly one for each."""
    answers = target.write(wanted)
    assert sorted(answer.record for answer in answers) == sorted(edit.record for edit in wanted)
    assert SECRET not in str(answers)
    return {answer.record: answer.error for answer in answers}


def names(made: stand_in.HubSpot) -> dict[str, str | None]:
    return {record: held["name"] for record, held in made.objects["companies"].items()}


def asked(made: stand_in.HubSpot, path: str) -> int:
    return sum(path in request for request in made.faults.requests)


def test_records_are_read_and_updated_a_hundred_at_a_time() -> None:
    """CRM-11: pushed through the API as batch updates of at most 100."""
    with hub(100) as (made, target, _):
        everyone = range(1, 101)
        held = target.read([str(n) for n in everyone], ["name", "domain"])
        assert held["100"] == {"name": "old-100", "domain": None}
        assert written(target, edits(*everyone)) == {str(n): None for n in everyone}
        assert (asked(made, READ), asked(made, UPDATE), target.most) == (1, 1, 100)
        assert set(made.updates.values()) == {1}
        assert names(made)["100"] == "new-100"
        assert target.place == f"{_serving['url']}/crm/v3/objects/companies"
        with pytest.raises(OutsideFailed, match=r"400: .*maximum number of inputs"):
            target.read([str(n) for n in range(101)], ["name"])


def test_a_value_can_be_emptied_and_reads_as_empty() -> None:
    with hub(1) as (made, target, _):
        assert written(target, [Edit("1", {"name": "old-1"}, {"name": None})]) == {"1": None}
        assert made.objects["companies"]["1"]["name"] is None
        assert target.read(["1"], ["name"]) == {"1": {"name": None}}


def test_a_207_leaves_its_bad_records_as_errors_with_their_messages_and_the_rest_done() -> None:
    """CRM-11: partial failures (207) are recorded per record."""
    with hub(6) as (made, target, _):
        made.refused = {"2": "new-2 is not allowed", "4": "read only"}
        answers = written(target, [*edits(1, 2, 3, 4, 5), *edits("404")])
        assert {record for record, error in answers.items() if error is None} == {"1", "3", "5"}
        # The value that was sent is not told again: it may be one that nobody may see.
        assert answers["2"] == f"VALIDATION_ERROR: {VEIL} is not allowed"
        assert answers["4"] == "VALIDATION_ERROR: read only"
        assert str(answers["404"]).startswith("OBJECT_NOT_FOUND: ")
        assert dict(made.updates) == {("companies", n): 1 for n in "135"}
        assert asked(made, UPDATE) == 1


@pytest.mark.parametrize("bad", [{"7"}, {"1", "2", "8"}, {str(n) for n in range(1, 9)}])
def test_a_batch_that_is_refused_whole_still_takes_its_good_records_once(bad: set[str]) -> None:
    """CRM-11: one value that HubSpot cannot take (400 for the whole batch) holds up no other record."""
    with hub(8) as (made, target, _):
        made.invalid = dict.fromkeys(bad, 'Property values were not valid: [{"message":"{value} is no name"}]')
        answers = written(target, edits(*range(1, 9)))
        assert {record for record, error in answers.items() if error} == bad
        assert all(VEIL in str(answers[record]) and "new-" not in str(answers[record]) for record in bad)
        assert dict(made.updates) == {("companies", str(n)): 1 for n in range(1, 9) if str(n) not in bad}


def test_a_record_that_the_answer_passes_over_is_read_again_and_known_by_what_it_holds() -> None:
    with hub(3) as (made, target, _):
        made.silent = {"2"}
        assert written(target, edits(1, 2, 3)) == {"1": None, "2": None, "3": None}
        # Nothing was carried out here, though the status says all is well.
        made.faults.add(Fault(200, '{"status": "COMPLETE", "results": []}', path=UPDATE))
        answers = written(target, [Edit("1", {}, {"name": "newer"})])
        assert "does not name this record" in str(answers["1"])
        # An error that names no record is about those that are not named.
        made.faults.add(Fault(207, '{"results": [{"id": "2"}], "errors": [{"message": "try newer"}]}', path=UPDATE))
        answers = written(target, [Edit("1", {}, {"name": "newer"}), Edit("2", {}, {"name": "newer"})])
        assert answers == {"1": f"try {VEIL}", "2": None}
        made.faults.add(Fault(200, "[]", path=UPDATE), *[Fault(500, path=READ)] * 3)
        with pytest.raises(OutsideUnsure):
            target.write(edits(3))


def test_an_absent_record_is_left_out_and_an_error_is_no_absence() -> None:
    with hub(2) as (made, target, _):
        assert target.read(["1", "404", "2", "1"], ["name"]) == {"1": {"name": "old-1"}, "2": {"name": "old-2"}}
        assert target.read([], ["name"]) == {}
        for strange in (
            '{"results": [], "errors": [{"category": "INTERNAL", "message": "later", "context": {"ids": ["1"]}}]}',
            '{"status": "PENDING", "results": []}',
            "[]",
            '{"results": [{"properties": {}}]}',
        ):
            made.faults.add(Fault(207, strange, path=READ))
            with pytest.raises(OutsideFailed, match="did not give the records"):
                target.read(["1"], ["name"])


def test_a_property_or_an_object_that_is_not_there_is_named() -> None:
    with hub(1) as (made, target, _):
        with pytest.raises(OutsideFailed, match=r'no property "domian".*Did you mean "domain"'):
            target.read(["1"], ["domian"])
        made.objects["deals"] = made.objects.pop("companies")
        with pytest.raises(OutsideFailed, match="404"):
            target.read(["1"], ["name"])


def test_only_what_a_property_s_type_makes_one_value_is_one() -> None:
    """CRM-11: only properties that differ: 1500 and 1500.00 are one amount; 00123 and 123 are two ids."""
    with hub(1, types={"icalps_company_id": "string", "is_public": "bool", "closedate": "datetime"}) as (_, target, _):
        assert target.same("amount", "1500", "1500.00")
        assert target.same("amount", "1.5E3", "1500")
        assert not target.same("amount", "1500", "1500.01")
        assert not target.same("amount", "NaN", "nan")
        assert not target.same("amount", "1_500", "1500")
        assert not target.same("icalps_company_id", "00123", "123")
        assert not target.same("name", "1500", "1500.00")
        assert target.same("name", None, "")
        assert not target.same("amount", None, "0")
        assert target.same("is_public", "t", "true")
        assert not target.same("is_public", "t", "false")
        assert target.same("closedate", "2025-03-30 02:30:00.123456+01", "2025-03-30T01:30:00.123Z")
        assert target.same("closedate", "1743298200000", "2025-03-30T01:30:00Z")
        assert not target.same("closedate", "soon", "2025-03-30T01:30:00Z")


def test_a_time_is_sent_as_hubspot_reads_it() -> None:
    with hub(1, types={"closedate": "datetime", "is_public": "bool"}) as (made, target, _):
        after = {"closedate": "2025-03-30 01:30:00+00", "is_public": "f", "name": "2025-03-30 01:30:00+00"}
        assert written(target, [Edit("1", {}, after)]) == {"1": None}
        assert made.objects["companies"]["1"] | {"domain": None} == {
            "closedate": "2025-03-30T01:30:00.000Z", "is_public": "false", "name": "2025-03-30 01:30:00+00",
            "domain": None,
        }  # fmt: skip
        held = target.read(["1"], list(after))["1"]
        assert all(target.same(field, held[field], after[field]) for field in after)


# -- when it cannot be asked -----------------------------------------------------------------------------


def test_the_limit_of_a_second_is_waited_for() -> None:
    """CRM-11: with rate limits and retries."""
    with hub(6, rate=Rate(2, 0.15)) as (made, target, waits):
        for n in range(1, 7):
            assert written(target, edits(n)) == {str(n): None}
        assert set(made.updates.values()) == {1}
        assert asked(made, UPDATE) > 6
        assert any("HubSpot asks to wait" in str(wait) for wait in waits)


def test_the_limit_of_the_day_fails_at_once_and_what_was_done_is_kept() -> None:
    """CRM-11: a plan that meets the daily limit fails clearly, and goes on another day."""
    with hub(3, daily=2) as (made, target, _):
        assert written(target, edits(1)) == {"1": None}
        began = time.monotonic()
        with pytest.raises(OutsideFailed, match=r"requests of this day are used up.*what was done is kept") as caught:
            target.write(edits(2))
        assert time.monotonic() - began < 1
        assert not isinstance(caught.value, OutsideUnsure)
        made.daily = None
        assert written(target, edits(2)) == {"2": None}
        assert dict(made.updates) == {("companies", "1"): 1, ("companies", "2"): 1}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    "how", [{"status": 502, "body": "cannot keep new-1"}, {"delay": 0.6}, {"cut": True}], ids=["502", "timeout", "cut"]
)
def test_an_update_without_a_clear_answer_is_unsure_and_is_not_sent_again(how: dict[str, Any], after: bool) -> None:
    with hub(2, timeout=0.4) as (made, target, _):
        target.read(["1"], ["name"])
        made.faults.add(Fault(after=after, path=UPDATE, **how))
        with pytest.raises(OutsideUnsure) as caught:
            target.write(edits(1, 2))
        assert "new-1" not in str(caught.value)
        assert asked(made, UPDATE) == 1
        assert max(made.updates.values(), default=0) <= 1
        assert target.read(["1"], ["name"])["1"]["name"] in ("old-1", "new-1")


@pytest.mark.parametrize("fault", [Fault(500, path=READ), Fault(cut=True, path=READ)], ids=["500", "cut"])
def test_reading_is_tried_again_and_then_fails(fault: Fault) -> None:
    with hub(1) as (made, target, _):
        made.faults.add(fault)
        assert target.read(["1"], ["name"])["1"] == {"name": "old-1"}
        made.faults.add(fault, fault, fault)
        with pytest.raises(OutsideFailed):
            target.read(["1"], ["name"])


def test_what_fails_after_a_part_was_done_is_unsure_and_not_failed() -> None:
    """`OutsideFailed` promises that nothing was carried out."""
    with hub(4) as (made, target, _):
        made.invalid = {"4": "no"}
        target.read(["1"], ["name"])
        made.faults.add(Fault(400, "{}", path=UPDATE))
        made.faults.add(*[Fault(status=None, path=UPDATE)], Fault(403, f"gone {SECRET}", path=UPDATE))
        with pytest.raises(OutsideUnsure, match="RECON_HUBSPOT_TOKEN") as caught:
            target.write(edits(1, 2, 3, 4))
        assert SECRET not in str(caught.value)
        assert dict(made.updates) == {("companies", "1"): 1, ("companies", "2"): 1}


def test_a_token_that_is_refused_is_named_by_its_setting() -> None:
    """CRM-17: credentials come from the environment only, and never appear in an error."""
    with hub(1) as (made, target, _):
        made.token = "another"
        for ask in (lambda: target.read(["1"], ["name"]), lambda: target.write(edits(1))):
            with pytest.raises(OutsideDenied, match="RECON_HUBSPOT_TOKEN") as caught:
                ask()
            assert SECRET not in str(caught.value)
        assert not made.updates


def test_a_spec_opens_it_by_its_name_and_the_settings() -> None:
    """CRM-17: the token comes from the environment, and stands in no place."""
    with hub(1):
        settings = {"RECON_HUBSPOT_TOKEN": SECRET, "RECON_HUBSPOT_URL": _serving["url"]}
        target = open_target(COMPANIES, settings | {"RECON_HUBSPOT_PER_SECOND": "1000"})
        assert target.read(["1"], ["name"]) == {"1": {"name": "old-1"}}
        target.close()
        usual = hubspot.target(COMPANIES, {"RECON_HUBSPOT_TOKEN": SECRET})
        assert usual.place == "https://api.hubapi.com/crm/v3/objects/companies"
        usual.close()
        assert SECRET not in f"{vars(target)} {target.place}"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({}, "RECON_HUBSPOT_TOKEN is not set"),
        ({"RECON_HUBSPOT_TOKEN": f"{SECRET} {SECRET}"}, "RECON_HUBSPOT_TOKEN cannot be a credential"),
        ({"RECON_HUBSPOT_TOKEN": SECRET, "RECON_HUBSPOT_URL": "http://hub.example"}, "not https"),
        ({"RECON_HUBSPOT_TOKEN": SECRET, "RECON_HUBSPOT_PER_SECOND": "fast"}, "RECON_HUBSPOT_PER_SECOND is no rate"),
        ({"RECON_HUBSPOT_TOKEN": SECRET, "RECON_HUBSPOT_PER_SECOND": "0"}, "RECON_HUBSPOT_PER_SECOND is no rate"),
    ],
)
def test_a_setting_that_is_missing_or_wrong_is_named(variables: dict[str, str], said: str) -> None:
    """CRM-17: a credential that cannot be one is refused by the name of its setting, and not shown."""
    with pytest.raises(UsageError, match=said) as caught:
        hubspot.target(COMPANIES, variables)
    assert SECRET not in str(caught.value)


def test_a_batch_of_which_every_record_is_refused_is_told_at_once() -> None:
    """CRM-11: partial failures (207) are recorded per record, also where each of a hundred has many properties."""
    with hub(100) as (made, target, _):
        made.refused = {str(n): f"NEW VALUE {n} 7 is not allowed, nor is \u0131d" for n in range(1, 101)}
        wanted = [
            Edit(
                str(n),
                {f"p{k}": f"old value {n} {k}" for k in range(20)} | {"name": "id"},
                {f"p{k}": f"new value {n} {k}" for k in range(20)} | {"name": "ID"},
            )
            for n in range(1, 101)
        ]
        began = time.process_time()
        answers = written(target, wanted)
        assert time.process_time() - began < 5.0  # a pattern for each value and error took ten
        assert set(answers.values()) == {f"VALIDATION_ERROR: {VEIL} is not allowed, nor is {VEIL}"}
