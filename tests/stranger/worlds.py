"""Worlds whose records have a reference in common, more or less: payments and invoices, shipments and orders, products."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from random import Random

from tests.stranger import dirt
from tests.stranger.made import Record, Rule, World

WITHOUT_PARTNER = 0.1  # of either side
TWICE = 0.02  # of the sources: the same thing a second time, under another key
BEGIN = date(2024, 1, 3)
DAYS = 400


def identities(random: Random, count: int, kind: str | None = None) -> list[str]:
    """Keys: running from 1 as those of the other side may be, running from anywhere with gaps, codes, or UUIDs."""
    kind = kind or random.choice(("serial", "serial", "gaps", "code", "uuid"))
    if kind == "serial":
        return [str(number) for number in range(1, count + 1)]
    if kind == "gaps":
        return [str(number) for number in sorted(random.sample(range(40_000, 40_000 + 5 * count), count))]
    if kind == "code":
        sign = random.choice("CKXZ")
        return [f"{sign}{number:06d}" for number in random.sample(range(1, 900_000), count)]
    return [str(uuid.UUID(int=random.getrandbits(128), version=4)) for _ in range(count)]


def person(random: Random) -> tuple[str, str]:
    return random.choice(dirt.FIRST), random.choice(dirt.LAST)


def linked(random: Random, targets: list[Record], sources: Sequence[Record], partners: list[frozenset[int]], key: str):
    """Somebody began to link: a third of those with a partner hold its key. Gives the column, or None."""
    if random.random() < 0.6:
        return None
    for target, some in zip(targets, partners, strict=True):
        target["link"] = sources[min(some)][key] if some and random.random() < 0.35 else ""
    return "link"


def second_copies(random: Random, sources: list[Record], partners: list[frozenset[int]], key: str) -> None:
    """Some sources are there a second time, under another key."""
    for place in random.sample(range(len(sources)), int(TWICE * len(sources))):
        sources.append(dict(sources[place]))
        for target, some in enumerate(partners):
            if place in some:
                partners[target] = some | {len(sources) - 1}
    for record, identity in zip(sources, identities(random, len(sources)), strict=True):
        record[key] = identity


def payments(random: Random, size: int) -> World:
    """Payments and the invoices that they pay: by a reference that people type, else by customer, amount and days."""
    dense = random.random() < 0.3  # numbers without gaps: a mistyped one is somebody else's
    numbers = range(1000, 1000 + size) if dense else random.sample(range(1, 100_000), size)
    prefix, separator = random.choice(("INV", "RE", "R", "F", "Rg.")), random.choice(("-", "/", " ", ""))
    written = random.choice(dirt.NUMBERS), random.choice(dirt.NUMBERS)
    styles = random.choice(dirt.DATES), random.choice(dirt.DATES)
    none = random.choice(dirt.NONE)
    customers = [(f"{20_000 + 7 * number}", " ".join(person(random))) for number in range(max(8, size // 4))]
    tenants = {number for number, _ in customers if random.random() < 0.3}  # they owe the same amount every month
    rents = {number: Decimal(random.randrange(300, 2500)) for number in tenants}
    sources: list[Record] = []
    owed: list[tuple[str, str, Decimal, date]] = []
    for number in numbers:
        customer, name = random.choice(customers)
        amount = rents.get(customer) or Decimal(random.randrange(500, 500_000)) / 100
        issued = BEGIN + timedelta(random.randrange(DAYS))
        if customer in tenants:
            issued = issued.replace(day=1)
        owed.append((customer, name, amount, issued))
        sources.append(
            {
                "number": f"{prefix}{separator}{number:05d}",
                "customer": f"C{customer}",
                "name": name,
                "amount": dirt.money(amount, written[1]),
                "issued": issued.strftime(styles[1]),
                "due": (issued + timedelta(14)).strftime(styles[1]),
            }
        )
    natural = random.random() < 0.35  # the invoice's number is its key: there is no other, and no invoice twice
    kept = [place for place in range(size) if random.random() > WITHOUT_PARTNER]
    targets: list[Record] = []
    partners: list[frozenset[int]] = []
    word = random.choice(("", "", "", "Invoice ", "ref "))
    parts = random.random() < 0.5
    for place, (customer, name, amount, issued) in enumerate(owed):
        if random.random() < WITHOUT_PARTNER:
            continue
        paid = [amount]
        if parts and random.random() < 0.08:
            first = (amount / 3).quantize(Decimal("0.01"))
            paid = [first, amount - first]
        for value in paid:
            reference = dirt.repunctuated(random, str(sources[place]["number"]))
            if random.random() < (0.004 if dense else 0.02):
                reference = dirt.mistyped(random, reference)
            targets.append(
                {
                    "reference": dirt.lost(random, 0.12, none, word + reference),
                    "customer": dirt.lost(random, 0.1, none, customer),
                    "payer": dirt.sloppy(random, dirt.mistyped(random, name) if random.random() < 0.1 else name),
                    "amount": dirt.money(value, written[0]),
                    "booked": (issued + timedelta(random.randrange(31))).strftime(styles[0]),
                }
            )
            partners.append(frozenset({place}))
    # The books lack some invoices whose payments are here.
    moved = {old: new for new, old in enumerate(kept)}
    sources = [sources[place] for place in kept]
    partners = [frozenset(moved[place] for place in some if place in moved) for some in partners]
    for record, identity in zip(targets, identities(random, len(targets)), strict=True):
        record["id"] = identity
    if not natural:
        second_copies(random, sources, partners, "id")
    key = "number" if natural else "id"

    def reference(record: Record) -> str | None:
        return dirt.digits(record["reference"]) or None

    def days(record: Record, column: str, style: str) -> float | None:
        found = dirt.day(record[column], style)
        return found.toordinal() if found else None

    return World(
        name="payments",
        targets=targets,
        sources=sources,
        partners=partners,
        rules=[
            Rule(
                lambda record: (reference(record), dirt.cents(record["amount"])) if reference(record) else None,
                lambda record: (dirt.digits(record["number"]), dirt.cents(record["amount"])),
            ),
            *([] if dense else [Rule(reference, lambda record: dirt.digits(record["number"]))]),
            Rule(
                lambda record: (dirt.digits(record["customer"]) or None, dirt.cents(record["amount"])),
                lambda record: (dirt.digits(record["customer"]), dirt.cents(record["amount"])),
                (
                    lambda record: days(record, "booked", styles[0]),
                    lambda record: days(record, "issued", styles[1]),
                    -31,
                    0,
                ),
                clean=False,
            ),
        ],
        keys=(("id",), key),
        one_to_one=not parts,
        why="five of six payments name their invoice, by its digits, and most for the whole amount",
        link=linked(random, targets, sources, partners, key),
    )


def orders(random: Random, size: int) -> World:
    """Shipments and orders: the number in another form, both sides numbered from 1, a nullable count among the keys."""
    styles = random.choice(dirt.DATES), random.choice(dirt.DATES)
    none = random.choice(dirt.NONE)
    width = random.choice((7, 8))
    forms = [
        lambda number: str(number),
        lambda number: f"{number:0{width}d}",
        lambda number: f"SO{number:0{width}d}",
        lambda number: f"so-{number}",
        lambda number: f"#{number}",
    ]
    there, here = random.sample(forms, 2)
    mixed = random.random() < 0.4  # several hands wrote the shipments
    customers = [(f"K{30_000 + 11 * number}", f"{random.randrange(10_000, 99_999)}") for number in range(size // 2)]
    sources: list[Record] = []
    targets: list[Record] = []
    partners: list[frozenset[int]] = []
    for number in random.sample(range(10_000, 900_000), size):
        customer, post = random.choice(customers)
        ordered = BEGIN + timedelta(random.randrange(DAYS))
        absent = random.random() < WITHOUT_PARTNER
        if not absent:
            sources.append(
                {
                    "number": there(number),
                    "customer": customer,
                    "post": post,
                    "ordered": ordered.strftime(styles[1]),
                    "total": str(Decimal(random.randrange(900, 90_000)) / 100),
                    "state": random.choice(("open", "sent", "sent", "closed")),
                }
            )
        for parcel in range(random.choice((0, 1, 1, 1, 1, 1, 1, 2))):
            form = random.choice(forms) if mixed else here
            targets.append(
                {
                    "consignment": f"{number * 7 % 999_983:06d}",
                    "parcel": str(parcel + 1),
                    "order": dirt.lost(random, 0.1, none, dirt.spaced(random, form(number))),
                    "customer": dirt.lost(random, 0.05, none, customer.lower()),
                    "post": post if random.random() > 0.05 else dirt.mistyped(random, post),
                    "sent": (ordered + timedelta(random.randrange(6))).strftime(styles[0]),
                    "pieces": str(random.randrange(1, 40)) if random.random() < 0.6 else "",
                    "carrier": random.choice(("DHL", "UPS", "GLS")),
                }
            )
            partners.append(frozenset() if absent else frozenset({len(sources) - 1}))
    composite = random.random() < 0.4
    if not composite:
        for record, identity in zip(targets, identities(random, len(targets), "serial"), strict=True):
            record["id"] = identity
    second_copies(random, sources, partners, "id")

    def days(record: Record, column: str, style: str) -> float | None:
        found = dirt.day(record[column], style)
        return found.toordinal() if found else None

    def whose(record: Record) -> tuple[str, str] | None:
        customer = dirt.plain(record["customer"])
        return (customer, record["post"]) if dirt.digits(customer) else None

    return World(
        name="orders",
        targets=targets,
        sources=sources,
        partners=partners,
        rules=[
            Rule(lambda record: dirt.digits(record["order"]) or None, lambda record: dirt.digits(record["number"])),
            Rule(
                whose,
                whose,
                (
                    lambda record: days(record, "sent", styles[0]),
                    lambda record: days(record, "ordered", styles[1]),
                    -5,
                    0,
                ),
                clean=False,
            ),
        ],
        keys=(("consignment", "parcel") if composite else ("id",), "id"),
        one_to_one=False,
        why="nine of ten shipments name their order, by its digits",
        link=linked(random, targets, sources, partners, "id"),
    )


def products(random: Random, size: int) -> World:
    """Articles of a shop and of its supplier: bar codes that lost their zeros, article numbers, variants that look alike."""
    things = "Lamp Chair Table Shelf Hook Rug Vase Bowl Plate Mug Clock Mirror Stool Bench Tray Basket Frame".split()
    looks = "Oslo Bergen Malmö Turku Århus Lund Visby Ystad Älmhult Röros Kalmar Växjö".split()
    sizes = ("S", "M", "L", "XL", "40 cm", "60 cm", "80 cm", "red", "blue", "oak")
    none = random.choice(dirt.NONE), random.choice(dirt.NONE)
    joint = random.choice(("-", ".", " ", "/"))
    sources: list[Record] = []
    targets: list[Record] = []
    partners: list[frozenset[int]] = []
    seen: set[str] = set()
    while len(sources) < size:
        look, thing, family = random.choice(looks), random.choice(things), random.randrange(1000, 9999)
        variants = random.sample(sizes, random.choice((1, 2, 3)))
        price = Decimal(random.randrange(500, 30_000)) / 100
        for variant in variants:  # one family: the same name, price and number but for the variant
            article = f"{look[:2].upper()}{joint}{family}{joint}{sizes.index(variant):02d}"
            if article in seen:
                continue
            seen.add(article)
            bar = f"{random.choice(('00', '40', '73', '04'))}{random.randrange(10**10, 10**11)}"
            place = random.random()
            if place > WITHOUT_PARTNER:
                sources.append(
                    {
                        "article": dirt.plain(article).upper() if joint == "/" else article,
                        "bar": dirt.lost(random, 0.15, none[1], f"{bar[:1]} {bar[1:7]} {bar[7:]}"),
                        "title": f"{thing} {look} {variant}",
                        "price": str(price),
                        "unit": "pc",
                    }
                )
            if place < 1 - WITHOUT_PARTNER:
                excel = bar.lstrip("0")  # a spreadsheet took it for a number
                if random.random() < 0.01:
                    excel = f"{int(bar):.5E}".replace(".", ",")
                written = dirt.repunctuated(random, article)
                targets.append(
                    {
                        "article": dirt.lost(random, 0.12, none[0], written),
                        "bar": dirt.lost(random, 0.15, none[0], excel) if random.random() > 0.02 else "0" * 13,
                        "title": dirt.sloppy(random, f"{look.upper()} {thing}, {variant}"),
                        "price": dirt.money(price * Decimal("1.4"), "1234,56"),
                        "shelf": f"{random.choice('ABCDEF')}{random.randrange(1, 30)}",
                    }
                )
                partners.append(frozenset({len(sources) - 1}) if place > WITHOUT_PARTNER else frozenset())
    for record, identity in zip(targets, identities(random, len(targets)), strict=True):
        record["id"] = identity
    second_copies(random, sources, partners, "id")

    def bar_code(record: Record) -> str | None:
        found = dirt.digits(record["bar"])
        return found if len(found) > 9 else None

    def article(record: Record) -> str | None:
        return None if dirt.nothing(record["article"]) else dirt.plain(record["article"])

    return World(
        name="products",
        targets=targets,
        sources=sources,
        partners=partners,
        rules=[Rule(bar_code, bar_code), Rule(article, article)],
        keys=(("id",), "id"),
        one_to_one=True,
        why="either the bar code's digits or the article number's letters and digits agree for nearly all",
    )
