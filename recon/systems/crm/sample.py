"""An invented legacy CRM as four CSV files, and the HubSpot mirror beside it: the same on every call, with each case.

What a kind of pair is meant to become is said by `KINDS`; the names, websites and subjects are awkward on purpose, as
exports are: umlauts, commas, quotes, line breaks, leading zeros.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

from recon.sources.samples import File, Table

SEED = 20240311  # any number would do
SYNCED = datetime(2025, 11, 28, 6, 30, tzinfo=UTC)  # when the mirror was last written; no record is younger
FIRST_HUBSPOT_ID = 17_200_000_001

Row = tuple[object, ...]
Fields = dict[str, object]

# A kind of legacy record, how it stands in HubSpot, and how many there are of it for each object.
KINDS = (
    # kind        companies contacts deals communications
    ("same",      (43, 70, 38, 60)),   # its id, and the same properties
    ("changed",   (9, 16, 8, 8)),      # its id, and another name, domain, e-mail, amount or subject
    ("by_value",  (3, 5, 0, 0)),       # no id, but the same domain or e-mail: a proposal
    ("by_name",   (2, 3, 4, 4)),       # no id, but the same name, written a little differently: a proposal
    ("doubled",   (2, 2, 1, 2)),       # two records with its id: ambiguous, for a person
    ("zeros",     (1, 1, 1, 1)),       # its id as 00123: as text another one
    ("decimal",   (1, 1, 1, 1)),       # its id as 123.0, as a spreadsheet writes it
    ("missing",   (4, 6, 3, 4)),       # not in HubSpot at all
    # And in HubSpot only:
    ("stranger",  (3, 4, 2, 3)),       # the id of a legacy record that is no more
    ("own",       (4, 6, 3, 4)),       # made in HubSpot: no id, and nothing like it in the legacy CRM
)  # fmt: skip
HUBSPOT_ONLY = ("stranger", "own")

FIRMS = """
Bäckerei Grüner|Müller & Söhne|Café Zürich|Huber, Maier und Partner|O'Neill Fencing|Ångström Optik|Citroën Garage Weiß|
"Die Werkstatt" Kröger|Łódź Textil|Señor Tacos|Naïve Design|Groß- und Einzelhandel Voß
""".replace("\n", "").split("|")
BRANCHES = "GmbH|AG|KG|Ltd|SARL|e.K.".split("|")
CITIES = "Köln|Zürich|München|Genève|Wrocław|Malmö|Dublin|Graz".split("|")
FIRST_NAMES = "Jürgen Zoë François Anaïs Søren Renée Björn Małgorzata Íñigo Siân Käthe Tomáš".split()
LAST_NAMES = "Müller Grün Lefèvre O'Brien Ødegård Núñez Weiß Kowalska Jiménez Hall-Evans Čapek Öztürk".split()
GOODS = """
Maschinenwartung|Lagerregale, zweite Lieferung|Software-Lizenzen|Umzug nach Köln|Catering „Sommerfest“
""".strip().split("|")
STAGES = ("appointmentscheduled", "qualifiedtobuy", "contractsent", "closedwon", "closedlost")
SUBJECTS = (
    "Rückruf wegen Angebot", "Termin vor Ort", "Rechnung, dritte Mahnung", "Frage zu „Premium“", "Besprechung\nmit Protokoll",
)  # fmt: skip
MEANS = ("Call", "Email", "Meeting", "Note", "Task")


@dataclass(frozen=True)
class Object:
    """One kind of object on both sides.

    Args:
        file, table: where it is: of the legacy CRM, in the mirror.
        id_column: the mirror's column for the legacy id.
        first_id: the first legacy id.
        legacy: the legacy record of a number, with its id first.
        hubspot: what HubSpot says of it, without ids.
        change: makes one property differ; gets the properties and how many were changed before.
        rename: the name as another person would have typed it.
    """

    file: str
    table: str
    id_column: str
    first_id: int
    legacy: Callable[[Random, int, int], Fields]
    hubspot: Callable[[Fields], Fields]
    change: Callable[[Fields, int], Fields]
    rename: Callable[[Fields], Fields]


def tables() -> list[Table]:
    """The four tables of the mirror. Equal on every call."""
    return [table for table, _ in _made()]


def files() -> list[File]:
    """The four files of the legacy CRM, in UTF-8. Equal on every call."""
    return [file for _, file in _made()]


def _made() -> Iterator[tuple[Table, File]]:
    for place, thing in enumerate(OBJECTS):
        rng = Random(SEED + place)
        kinds = [kind for kind, counts in KINDS for _ in range(counts[place])]
        rng.shuffle(kinds)
        yield _pairs(rng, thing, kinds, FIRST_HUBSPOT_ID + 1_000_000 * place)


def _pairs(rng: Random, thing: Object, kinds: list[str], first_hubspot_id: int) -> tuple[Table, File]:
    """Both sides of one object: a legacy record for each kind but those of HubSpot only, and what HubSpot has of it."""
    legacy: list[Fields] = []
    hubspot: list[Fields] = []
    changed = 0
    for number, kind in enumerate(kinds):
        record = thing.legacy(rng, number, thing.first_id + number)
        if kind not in HUBSPOT_ONLY:
            legacy.append(record)
        known, properties = str(next(iter(record.values()))), thing.hubspot(record)
        standing: dict[str, list[tuple[str | None, Fields]]] = {
            "changed": [(known, thing.change(properties, changed))],
            "by_value": [(None, thing.change(properties, 0))],
            "by_name": [(None, thing.rename(properties))],
            "doubled": [(known, properties), (known, thing.rename(properties))],
            "zeros": [(known.zfill(8), properties)],
            "decimal": [(f"{known}.0", properties)],
            "missing": [],
            "own": [(None, properties)],
        }
        changed += kind == "changed"
        for identity, fields in standing.get(kind, [(known, properties)]):
            at = SYNCED - timedelta(minutes=rng.randrange(600_000))
            hubspot.append({thing.id_column: identity, **fields, "updated_at": at})
    rng.shuffle(hubspot)
    columns = ("hs_object_id", *hubspot[0])
    rows = [(first_hubspot_id + number, *fields.values()) for number, fields in enumerate(hubspot)]
    return Table(thing.table, columns, rows), File(thing.file, _csv(legacy))


def _csv(records: list[Fields]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    for place, record in enumerate(records):
        first, key = next(iter(record.items()))
        # Some exports fill ids up with zeros. The column is a number, so that 00000123 is 123 once it is loaded.
        writer.writerow({**record, first: f"{key:08d}"} if place == 0 else record)
    return text.getvalue().encode()


# -- the four objects ------------------------------------------------------------------------------------


def _plain(text: str) -> str:
    """Letters of a name as they stand in a domain or an address."""
    bare = unicodedata.normalize("NFKD", text.translate(str.maketrans("ßøØłŁ", "soOlL")))
    return "".join(sign for sign in bare.lower() if sign.isascii() and sign.isalnum())


def _company(rng: Random, number: int, key: int) -> Fields:
    firm = f"{FIRMS[number % len(FIRMS)]} {BRANCHES[number // len(FIRMS) % len(BRANCHES)]}"
    domain = f"{_plain(firm)}.example"
    website = (f"http://www.{domain}/", f"https://{domain}", f"www.{domain}", domain, f"HTTP://{domain}/about")
    street = f"Hauptstraße {number + 1},\nHinterhof" if number % 9 == 4 else f"Hauptstraße {number + 1}"
    return {
        "Comp_CompanyId": key, "Comp_Name": firm, "Comp_WebSite": rng.choice(website),
        "Comp_City": rng.choice(CITIES), "Comp_Street": street,
    }  # fmt: skip


def _domain(website: object) -> str:
    bare = str(website).lower().removeprefix("http://").removeprefix("https://").removeprefix("www.")
    return bare.split("/")[0]


def _as_company(record: Fields) -> Fields:
    return {"name": record["Comp_Name"], "domain": _domain(record["Comp_WebSite"])}


def _other_company(found: Fields, count: int) -> Fields:
    domain = str(found["domain"]).replace(".example", "-online.example")
    ways: tuple[Fields, ...] = (
        {"name": f"{found['name']} (alt)"}, {"domain": domain}, {"domain": None},
        {"name": str(found["name"]).upper(), "domain": domain},
    )  # fmt: skip
    return found | ways[count % len(ways)]


def _renamed_company(found: Fields) -> Fields:
    return {"name": str(found["name"]).lower().replace(" ", "  "), "domain": None}


def _person(rng: Random, number: int, key: int) -> Fields:
    first = FIRST_NAMES[number % len(FIRST_NAMES)]
    last = LAST_NAMES[(number + number // len(FIRST_NAMES)) % len(LAST_NAMES)]
    address = f"{_plain(first)}.{_plain(last)}@{_plain(rng.choice(FIRMS))}.example"
    return {
        "Pers_PersonId": key, "Pers_FirstName": first, "Pers_LastName": last,
        "Pers_EmailAddress": address.capitalize() if number % 7 == 3 else address,
        "Pers_CompanyId": OBJECTS[0].first_id + number % 60,
        "Pers_Notes": 'Sagt: "nur vormittags",\nnie freitags' if number % 11 == 5 else None,
    }  # fmt: skip


def _as_contact(record: Fields) -> Fields:
    email = str(record["Pers_EmailAddress"]).lower()
    return {"firstname": record["Pers_FirstName"], "lastname": record["Pers_LastName"], "email": email}


def _other_contact(found: Fields, count: int) -> Fields:
    ways: tuple[Fields, ...] = (
        {"lastname": f"{found['lastname']}-Berg"}, {"email": f"{_plain(str(found['lastname']))}@post.example"},
        {"email": None}, {"firstname": f"{str(found['firstname'])[0]}."},
    )  # fmt: skip
    return found | ways[count % len(ways)]


def _renamed_contact(found: Fields) -> Fields:
    return {"firstname": f" {found['firstname']}", "lastname": str(found["lastname"]).replace("-", " "), "email": None}


def _opportunity(rng: Random, number: int, key: int) -> Fields:
    return {
        "Oppo_OpportunityId": key,
        "Oppo_Description": f"{GOODS[number % len(GOODS)]} {2023 + number % 3}/{number + 1}",
        "Oppo_Forecast": Decimal(rng.randrange(5, 900) * 5000 + 50 * (number % 2)).scaleb(-2),
        "Oppo_PrimaryCompanyId": OBJECTS[0].first_id + number % 60,
        "Oppo_Stage": STAGES[number % len(STAGES)],
    }


def _as_deal(record: Fields) -> Fields:
    return {
        "dealname": record["Oppo_Description"], "amount": record["Oppo_Forecast"], "dealstage": record["Oppo_Stage"],
    }  # fmt: skip


def _other_deal(found: Fields, count: int) -> Fields:
    amount = Decimal(str(found["amount"]))
    ways: tuple[Fields, ...] = (
        {"amount": amount - Decimal("12.50")}, {"dealname": f"{found['dealname']} (neu)"}, {"amount": None},
        {"dealname": str(found["dealname"]).upper(), "amount": amount * 2},
    )  # fmt: skip
    return found | ways[count % len(ways)]


def _renamed_deal(found: Fields) -> Fields:
    return found | {"dealname": str(found["dealname"]).lower().replace("/", " - ")}


def _communication(rng: Random, number: int, key: int) -> Fields:
    return {
        "Comm_CommunicationId": key,
        "Comm_Subject": f"{SUBJECTS[number % len(SUBJECTS)]} ({number + 1})",
        "Comm_Type": rng.choice(MEANS),
    }


def _as_engagement(record: Fields) -> Fields:
    return {"hs_engagement_subject": record["Comm_Subject"], "hs_engagement_type": str(record["Comm_Type"]).upper()}


def _other_engagement(found: Fields, count: int) -> Fields:
    subject = str(found["hs_engagement_subject"])
    return found | {"hs_engagement_subject": (f"AW: {subject}", subject[:12], None)[count % 3]}


def _renamed_engagement(found: Fields) -> Fields:
    return found | {"hs_engagement_subject": str(found["hs_engagement_subject"]).replace("\n", " ").lower()}


OBJECTS = (
    Object(
        "bronze/Bronze_Company.csv", "hubspot.companies", "icalps_company_id", 101,
        _company, _as_company, _other_company, _renamed_company,
    ),
    Object(
        "bronze/Bronze_Person.csv", "hubspot.contacts", "icalps_contact_id", 2001,
        _person, _as_contact, _other_contact, _renamed_contact,
    ),
    Object(
        "bronze/Bronze_Opportunity.csv", "hubspot.deals", "icalps_deal_id", 501,
        _opportunity, _as_deal, _other_deal, _renamed_deal,
    ),
    Object(
        "bronze/Bronze_Communication.csv", "hubspot.engagements", "icalps_communication_id", 9001,
        _communication, _as_engagement, _other_engagement, _renamed_engagement,
    ),
)  # fmt: skip
