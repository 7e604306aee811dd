"""Invented leases and rent payments, the same on every call, with each case that the rules must get right."""

import calendar
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import astuple, dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from itertools import count, cycle
from random import Random

from recon.sources.samples import Table

SEED = 20250515  # any number would do; this one is the date of the last of the known payments
TODAY = date(2025, 11, 30)  # no payment is later
HISTORY, IMPORTS = (date(2024, 6, 1), date(2025, 7, 31)), (date(2023, 1, 1), TODAY)  # first and last payment
FIRST_HISTORY_ID, FIRST_IMPORT_ID = 1390, 20001
PROPERTIES, CUSTOMERS, PAYERS = 56, 100, 12  # the last PAYERS customers hold no lease and pay for others
VACANT, DOUBLED, JOINT, SHARED = (25, 56), (13, 50), (10, 51), (52, 53)  # properties: without any lease; with one
# entered twice; with two tenants on equal terms; with a renewal under the same PayProp id
FIRST_NAMES = "Amara Ben Chloe Dev Elena Farid Grace Hugo Isla Jonas Kemi Liam".split()
LAST_NAMES = "Abbott Barnes Castell Dunmore Eklund Gill Iqbal Kowal Mistry Nwosu".split()
STREETS = ("Alder Row", "Tannery Lane", "Quay Street", "Mill Rise")
COMPANIES = ["Tidewell Housing Support", "Marlin and Poole Ltd", "Harbour Guarantors Ltd", "Eastmere Relocation"]

Row = tuple[object, ...]
Period = tuple[date, date]  # first and last day
NO_LINK: Row = (None, None, None, None)
INVOICE_COLUMNS = "id lease_reference payprop_id property_id customer_id start_date end_date rent_amount frequency"
PAYMENT_COLUMNS = "id transaction_date property_id customer_id amount category payprop_invoice_id"
LINK_COLUMNS = "invoice_id lease_start_date lease_end_date lease_rent_amount description"
TRANSACTION_COLUMNS = (*PAYMENT_COLUMNS.split(), *LINK_COLUMNS.split())


@dataclass(frozen=True)
class Known:
    """A payment known to be unlinked, and the lease it belongs to (INV-07). Amount and rent are in pounds."""

    id: int
    paid: date
    property_id: int
    customer_id: int
    amount: int
    lease_id: int
    flat: int  # of Boden House
    start: date
    end: date | None = None
    rent: int | None = None  # None where the payment is one month's rent
    by_payprop: bool = False  # it quotes the PayProp id of the lease (INV-02); the others do not (INV-03)


KNOWN = [  # INV-07 gives all but some starts, which lie within the days it allows
    Known(1551, date(2025, 5, 15), 33, 76, 185, 20, 18, date(2025, 2, 7), date(2025, 5, 6), rent=740),
    Known(1526, date(2025, 3, 31), 15, 38, 740, 31, 28, date(2025, 4, 14)),
    Known(1515, date(2025, 3, 26), 24, 24, 795, 16, 14, date(2025, 4, 1), by_payprop=True),
    Known(1484, date(2025, 3, 5), 7, 11, 735, 10, 10, date(2025, 3, 6), date(2026, 3, 5)),
    Known(1492, date(2025, 3, 5), 39, 22, 700, 24, 20, date(2025, 3, 20)),
    Known(1483, date(2025, 3, 3), 6, 26, 700, 9, 9, date(2025, 3, 5), date(2026, 3, 4), by_payprop=True),
    Known(1491, date(2025, 3, 3), 43, 25, 740, 22, 19, date(2025, 3, 21)),
    Known(1485, date(2025, 3, 2), 17, 17, 795, 12, 11, date(2025, 3, 12), date(2026, 3, 11)),
    Known(1494, date(2025, 2, 28), 14, 9, 740, 26, 22, date(2025, 3, 8)),
    Known(1496, date(2025, 2, 28), 32, 2, 675, 29, 26, date(2025, 3, 14), by_payprop=True),
]
# Known tenants who held the lease the year before, and whether that one was left open. INV-03 decides between
# them, and INV-06 where both are ongoing.
RENEWED = {20: False, 24: False, 26: True, 31: False}


@dataclass(frozen=True)
class Lease:
    """A row of `invoices`, its rent in pence."""

    id: int
    reference: str
    payprop_id: str | None
    property_id: int
    customer_id: int
    start: date
    end: date | None
    pence: int


@dataclass(frozen=True)
class Kind:
    """A kind of payment: which leases it is for, when it is paid, and what it says of itself."""

    label: str
    pool: str = "newest"
    timing: str = "within"  # or deposit and early, before the start; late, after the end
    payprop: int = 0  # per cent of payments that quote the PayProp id of the lease
    customer: str = "own"  # or none; or other: somebody who holds no lease on the property
    property: str = "own"  # or none; or vacant: one without any lease
    strange: bool = False  # quotes a PayProp id that no lease has
    linked: bool = True
    shares: tuple[int, ...] = (100,)  # per cent of the rent, one of these
    category: str = "rent"


PART = (25, 50, 75)
# Each kind with its number of payments in the hand-kept table, 125 linked rents (INV-01), and in the imported
# one, 771 linked and 257 not (INV-16). Together they fill property, customer and PayProp id as INV-12 expects.
# Deposits, early, late and part payments and earlier leases of a tenant are all linked (INV-05).
KINDS = [
    (Kind("Rent", payprop=50), 68, 520),
    (Kind("Deposit", timing="deposit", payprop=50, shares=(115,)), 8, 30),
    (Kind("Rent paid early", timing="early", payprop=50), 10, 45),
    (Kind("Final payment", timing="late", payprop=50), 8, 25),
    (Kind("Part payment", payprop=50, shares=PART), 10, 45),
    (Kind("Rent", pool="renewed", payprop=60), 6, 30),  # to the lease of that time, which is not the latest
    (Kind("Rent", pool="sole", customer="none", payprop=20), 7, 30),
    (Kind("Rent", pool="former", customer="none", payprop=20), 1, 10),  # to a lease that another followed
    (Kind("Rent", pool="doubled"), 3, 12),  # to one of two equal leases, which the rules cannot tell apart
    (Kind("Rent paid for the tenant", customer="other", payprop=100), 4, 16),
    (Kind("Rent", property="none", payprop=100), 0, 8),
    (Kind("Rent", payprop=100, linked=False), 0, 86),  # INV-02, and the next
    (Kind("Rent", property="none", payprop=100, linked=False), 0, 4),
    (Kind("Rent", linked=False), 0, 85),  # INV-03, and the next three
    (Kind("Rent", strange=True, linked=False), 0, 5),
    (Kind("Rent paid early", timing="early", linked=False), 0, 14),
    (Kind("Final payment", timing="late", shares=PART, linked=False), 0, 6),
    (Kind("Rent", pool="sole", customer="none", linked=False), 0, 25),  # INV-04
    (Kind("Rent paid for the tenant", pool="sole", customer="other", linked=False), 0, 12),  # INV-04: proposals
    (Kind("Rent", pool="doubled", linked=False), 0, 5),  # INV-06: ambiguous, and the next two
    (Kind("Rent", pool="joint", customer="none", linked=False), 0, 4),
    (Kind("Rent", pool="shared", payprop=100, linked=False), 0, 3),
    (Kind("Transfer", property="none", linked=False), 0, 3),  # unmatched, and the rest of the rents
    (Kind("Transfer", property="none", strange=True, linked=False), 0, 2),
    (Kind("Rent", property="vacant", customer="other", linked=False), 0, 2),
    (Kind("Rent", property="vacant", customer="none", linked=False), 0, 1),
    (Kind("Deposit", timing="early", shares=(115,), category="deposit"), 5, 0),
    (Kind("Deposit", timing="early", shares=(115,), category="deposit", linked=False), 5, 0),
    (Kind("Commission", customer="none", shares=(10,), category="commission", linked=False), 20, 0),
    (Kind("Repair", customer="none", shares=(8, 21, 45), category="maintenance", linked=False), 14, 0),
    (Kind("Repair", property="none", customer="none", category="maintenance", linked=False), 4, 0),
]


def tables() -> list[Table]:
    """The five sample tables, each after those it refers to. Equal on every call."""
    rng = Random(SEED)
    names = _property_names(rng)
    leases = _leases(rng, names)
    properties: list[Row] = [
        (number, name, f"QH{rng.randint(1, 9)} {rng.randint(1, 9)}{rng.choice('ABDE')}{rng.choice('GHJL')}")
        for number, name in names.items()
    ]
    people = [f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES]
    people = rng.sample(people, CUSTOMERS - len(COMPANIES)) + COMPANIES
    customers: list[Row] = [
        (number, name, _token(rng) if rng.randrange(10) else None, f"{name.lower().replace(' ', '.')}@example.com")
        for number, name in enumerate(people, start=1)
    ]
    invoices: list[Row] = [(*astuple(lease)[:-1], _pounds(lease.pence), "monthly") for lease in leases]
    history = _payments(rng, leases, names, HISTORY, 0)
    imports = _payments(rng, leases, names, IMPORTS, 1)
    history_ids = (number for number in count(FIRST_HISTORY_ID) if number not in {known.id for known in KNOWN})
    history = sorted(_known_rows(leases, names) + _numbered(history, history_ids), key=lambda row: int(str(row[0])))
    return [
        Table("properties", ("id", "name", "postcode"), properties),
        Table("customers", ("id", "name", "payprop_id", "email"), customers),
        Table("invoices", tuple(INVOICE_COLUMNS.split()), invoices),
        Table("historical_transactions", TRANSACTION_COLUMNS, history),
        Table("financial_transactions", TRANSACTION_COLUMNS, _numbered(imports, count(FIRST_IMPORT_ID))),
    ]


def _pounds(pence: int) -> Decimal:
    return Decimal(pence).scaleb(-2)


def _months_later(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def _token(rng: Random) -> str:
    """An identifier in the manner of PayProp: ten letters and digits."""
    return "".join(rng.choices("ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz123456789", k=10))


def _numbered(payments: list[Row], ids: Iterator[int]) -> list[Row]:
    """Ids in the order of the dates, as entering them day by day gives."""
    return [(next(ids), *payment) for payment in sorted(payments, key=lambda payment: str(payment[0]))]


def _property_names(rng: Random) -> dict[int, str]:
    """The thirty flats of Boden House, the known ones where INV-07 has them, and houses."""
    flats = {known.property_id: known.flat for known in KNOWN}
    others = [flat for flat in range(1, 31) if flat not in flats.values()]
    free = [number for number in range(1, 46) if number not in flats]
    flats |= dict(zip(rng.sample(free, len(others)), others, strict=True))
    houses = {number: f"{number} {rng.choice(STREETS)}" for number in range(1, PROPERTIES + 1) if number not in flats}
    return dict(sorted(({number: f"Flat {flat}, Boden House" for number, flat in flats.items()} | houses).items()))


def _known_rows(leases: list[Lease], names: dict[int, str]) -> list[Row]:
    payprop_ids = {known.id: leases[known.lease_id - 1].payprop_id for known in KNOWN if known.by_payprop}
    return [
        (
            x.id,
            x.paid,
            x.property_id,
            x.customer_id,
            _pounds(100 * x.amount),
            "rent",
            payprop_ids.get(x.id),
            *NO_LINK,
            text,
        )
        for x, text in ((known, f"Rent, {names[known.property_id]}") for known in KNOWN)
    ]


def _leases(rng: Random, names: dict[int, str]) -> list[Lease]:
    """In the order of their ids, 1, 2, 3 and so on; the known leases have the ids that INV-07 gives them."""
    leases: list[Lease] = []
    references: Counter[str] = Counter()
    free_ids = (number for number in count(1) if number not in {known.lease_id for known in KNOWN})
    strangers = sorted(set(range(1, CUSTOMERS - PAYERS + 1)) - {known.customer_id for known in KNOWN})
    tenants = cycle(rng.sample(strangers, len(strangers)))

    def add(like: Lease, *, id: int | None = None, shared: bool = False) -> Lease:
        """A lease with the terms of another, and a PayProp id of its own unless it is shared."""
        name = names[like.property_id]  # LEASE-BH-F18-2025 for Flat 18, Boden House; LEASE-H48-2025 for 48 Quay Street
        unit = ("BH-F" if name.startswith("Flat") else "H") + re.findall(r"\d+", name)[0]
        references[reference := f"LEASE-{unit}-{like.start.year}"] += 1
        reference += f"-{references[reference]}" if references[reference] > 1 else ""
        known = id is not None or like.property_id in SHARED
        payprop_id = like.payprop_id if shared else _token(rng) if known or rng.randrange(6) else None
        leases.append(replace(like, id=id or next(free_ids), reference=reference, payprop_id=payprop_id))
        return leases[-1]

    def add_year_before(late: Lease, who: int, gap: int = 0, *, ongoing: bool = False, shared: bool = False) -> Lease:
        end = late.start - timedelta(days=1 + gap)
        start, pence = _months_later(end + timedelta(days=1), -12), max(60000, late.pence - 1500)
        like = replace(late, customer_id=who, start=start, end=None if ongoing else end, pence=pence)
        return add(like, shared=shared)

    for known in KNOWN:
        tenancy = (known.property_id, known.customer_id, known.start, known.end)
        lease = add(Lease(0, "", None, *tenancy, 100 * (known.rent or known.amount)), id=known.lease_id)
        if known.lease_id in RENEWED:
            add_year_before(lease, lease.customer_id, ongoing=RENEWED[known.lease_id])
        if known.end and known.end < known.paid:  # an ongoing lease of the next tenant, which the payment is not for
            add(replace(lease, customer_id=next(tenants), start=known.end + timedelta(days=26), end=None))
    for place in sorted(set(names) - {known.property_id for known in KNOWN} - set(VACANT)):
        start = date(2024, 1, 1) + timedelta(days=rng.randrange(540))
        end = _months_later(start, 12) - timedelta(days=1) if rng.randrange(2) else None
        lease = add(Lease(0, "", None, place, next(tenants), start, end, 500 * rng.randrange(120, 241)))
        if place in DOUBLED:
            add(lease)
        elif place in JOINT:
            add(replace(lease, customer_id=next(tenants)))
        elif place in SHARED:
            add_year_before(lease, lease.customer_id, shared=True)
    for place in sorted({lease.property_id for lease in leases}):  # and who lived there before, back to 2023
        first = min((lease for lease in leases if lease.property_id == place), key=lambda lease: lease.start)
        while first.start > date(2024, 1, 31):
            stays = rng.randrange(3) == 0
            who, gap = (first.customer_id, 0) if stays else (next(tenants), rng.randrange(20))
            first = add_year_before(first, who, gap)
    return sorted(leases, key=lambda lease: lease.id)


def _latest(leases: list[Lease]) -> list[Lease]:
    """The lease that ends last, an ongoing one before all, then the one that starts last; several if equal."""
    best = max((lease.end or date.max, lease.start) for lease in leases)
    return [lease for lease in leases if (lease.end or date.max, lease.start) == best]


def _pools(leases: list[Lease]) -> dict[str, list[Lease]]:
    """The leases by what the rules can tell of them; `sole`, `joint` and `former` are parts of `newest`."""
    pools: defaultdict[str, list[Lease]] = defaultdict(list)
    payprop_ids = Counter(lease.payprop_id for lease in leases)
    for lease in leases:
        here = [other for other in leases if other.property_id == lease.property_id]
        in_place, of_tenant = _latest(here), _latest([x for x in here if x.customer_id == lease.customer_id])
        if lease.payprop_id and payprop_ids[lease.payprop_id] > 1:
            pools["shared"].append(lease)
        elif lease not in of_tenant:
            pools["renewed"].append(lease)
        elif len(of_tenant) > 1:
            pools["doubled"].append(lease)
        else:
            pools["newest"].append(lease)
            pools["former" if lease not in in_place else "sole" if len(in_place) == 1 else "joint"].append(lease)
    return pools


def _days(rng: Random, lease: Lease, timing: str) -> list[date]:
    """When it can be paid: on each month's due day, or on some day before the start or after the end."""
    if timing == "within":
        due = [_months_later(lease.start, months) for months in range(36)]
        return [day for day in due if day <= (lease.end or TODAY)]
    if timing == "late":
        return [lease.end + timedelta(days=rng.randrange(1, 61))] if lease.end else []
    first, last = {"early": (1, 30), "deposit": (31, 45)}[timing]
    return [lease.start - timedelta(days=rng.randint(first, last))]


def _payments(rng: Random, leases: list[Lease], names: dict[int, str], period: Period, table: int) -> list[Row]:
    """Payments without ids: each month of a lease is paid once at most. A link brings the lease's terms (INV-17)."""
    pools, rows = _pools(leases), list[Row]()
    tenancies = {(lease.property_id, lease.customer_id) for lease in leases}
    paid: set[tuple[int, date]] = set()
    for kind, *numbers in KINDS:
        pool = [lease for lease in pools[kind.pool] if lease.payprop_id or kind.payprop < 100]
        days = [(lease, day) for lease in pool for day in _days(rng, lease, kind.timing)]
        days = [(lease, day) for lease, day in days if period[0] <= day <= period[1] and (lease.id, day) not in paid]
        for lease, day in rng.sample(days, numbers[table]):
            paid.add((lease.id, day))
            if kind.timing == "within":
                day = min(day + timedelta(days=rng.randrange(4)), period[1])
            place = {"own": lease.property_id, "none": None, "vacant": rng.choice(VACANT)}[kind.property]
            others = [who for who in range(1, CUSTOMERS + 1) if (place, who) not in tenancies]
            who = {"own": lease.customer_id, "none": None, "other": rng.choice(others)}[kind.customer]
            quoted = lease.payprop_id if rng.randrange(100) < kind.payprop else _token(rng) if kind.strange else None
            amount = _pounds(lease.pence * rng.choice(kind.shares) // 100)
            link = (lease.id, lease.start, lease.end, _pounds(lease.pence)) if kind.linked else NO_LINK
            text = f"{kind.label}, {names[place]}" if place else kind.label
            rows.append((day, place, who, amount, kind.category, quoted, *link, text))
    return rows
