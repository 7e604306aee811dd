"""Worlds without a reference: people, dwellings, runs of machines, two ledgers. Several columns together say who is who."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random

from tests.stranger import dirt
from tests.stranger.made import Record, Rule, World
from tests.stranger.worlds import BEGIN, DAYS, WITHOUT_PARTNER, identities, person, second_copies

START = datetime(2024, 3, 1, 6)  # noqa: DTZ001 (a file says no zone)


def people(random: Random, size: int) -> World:
    """Two lists of people: namesakes and twins at one address, shared telephones, names that are spelt as they come."""
    styles = random.choice(dirt.DATES[:4]), random.choice(dirt.DATES[:4])
    none = random.choice(dirt.NONE), random.choice(dirt.NONE)
    known: list[Record] = []
    while len(known) < size:
        first, last = person(random)
        born = date(1940, 1, 1) + timedelta(random.randrange(25_000))
        one = {
            "first": first,
            "last": last,
            "born": born.isoformat(),
            "phone": f"7{random.randrange(10**8, 10**9)}",
            "mail": f"{dirt.plain(first)}.{dirt.plain(last)}{random.randrange(1, 99)}@{random.choice(('mail', 'post'))}.example",
            "street": f"{random.choice(dirt.STREETS)} {random.choice(list(dirt.STREET_KINDS))} {random.randrange(1, 200)}",
            "town": random.choice(dirt.TOWNS),
        }
        known.append(one)
        if random.random() < 0.04:  # parent and child of one name, behind one telephone
            other = born + timedelta(random.randrange(8000, 12_000))
            known.append({**one, "born": other.isoformat(), "mail": f"x{one['mail']}"})
        elif random.random() < 0.02:  # twins
            twin = random.choice([name for name in dirt.FIRST if name != first])
            known.append({**one, "first": twin, "mail": f"{dirt.plain(twin)}.{one['mail']}"})
    sources: list[Record] = []
    targets: list[Record] = []
    partners: list[frozenset[int]] = []
    for one in known:
        place = random.random()
        born = date.fromisoformat(one["born"])
        if place > WITHOUT_PARTNER:
            sources.append(
                {
                    **one,
                    "born": dirt.lost(random, 0.04, none[1], born.strftime(styles[1])),
                    "phone": dirt.lost(random, 0.1, none[1], f"0{one['phone']}"),
                    "mail": dirt.lost(random, 0.15, none[1], one["mail"]),
                }
            )
        if place < 1 - WITHOUT_PARTNER:
            last = dirt.mistyped(random, one["last"]) if random.random() < 0.05 else one["last"]
            phone = f"+44 {one['phone'][:4]} {one['phone'][4:]}"
            targets.append(
                {
                    "first": dirt.sloppy(random, one["first"]),
                    "last": dirt.sloppy(random, last),
                    "born": dirt.lost(random, 0.05, none[0], born.strftime(styles[0])),
                    "phone": dirt.lost(random, 0.15, none[0], phone),
                    "mail": dirt.lost(random, 0.3, none[0], dirt.shouted(random, one["mail"])),
                    "street": dirt.sloppy(random, one["street"]),
                    "town": one["town"],
                    "sex": random.choice("mf"),
                }
            )
            partners.append(frozenset({len(sources) - 1}) if place > WITHOUT_PARTNER else frozenset())
    for record, identity in zip(targets, identities(random, len(targets)), strict=True):
        record["id"] = identity
    second_copies(random, sources, partners, "id")

    def name(record: Record) -> tuple[str, str]:
        return dirt.plain(record["first"]), dirt.plain(record["last"])

    def mail(record: Record) -> tuple[str, str] | None:
        text = record["mail"].strip().lower()
        return (text, dirt.plain(record["first"])) if "@" in text else None

    def born(style: str):
        def found(record: Record) -> tuple[object, ...] | None:
            when = dirt.day(record["born"], style)
            return (*name(record), when) if when else None

        return found

    def phone(style: str):
        def found(record: Record) -> tuple[object, ...] | None:
            when, number = dirt.day(record["born"], style), dirt.digits(record["phone"])[-9:]
            return (name(record)[0], when, number) if when and number else None

        return found

    return World(
        name="people",
        targets=targets,
        sources=sources,
        partners=partners,
        rules=[Rule(mail, mail), Rule(born(styles[0]), born(styles[1])), Rule(phone(styles[0]), phone(styles[1]))],
        keys=(("id",), "id"),
        one_to_one=True,
        why="name and birth date agree, but for typing errors in names and missing dates; else the address of their mail",
    )


def dwellings(random: Random, size: int) -> World:
    """Meters and the dwellings that they are in: nothing but an address, in parts, of which houses have no flat."""
    none = random.choice(("", "", "-"))
    word = random.choice(("Flat ", "", "Apt. "))
    sources: list[Record] = []
    targets: list[Record] = []
    partners: list[frozenset[int]] = []
    posts: set[str] = set()
    several = random.random() < 0.5
    while len(sources) < size:
        post = f"{random.choice('ABCDEFG')}{random.choice('HJKLM')}{random.randrange(1, 30)} {random.randrange(1, 9)}{random.choice('ABDEF')}{random.choice('GHJLN')}"
        if post in posts:
            continue
        posts.add(post)
        street, kind, town = (
            random.choice(dirt.STREETS),
            random.choice(list(dirt.STREET_KINDS)),
            random.choice(dirt.TOWNS),
        )
        for number in random.sample(range(1, 60), random.randrange(3, 12)):
            flats = [str(flat) for flat in range(1, random.choice((0, 0, 0, 2, 4, 7)))] or [""]
            for flat in flats:
                place = random.random()
                if place > WITHOUT_PARTNER:
                    sources.append(
                        {
                            "flat": flat or none,
                            "number": str(number),
                            "street": f"{street} {kind}",
                            "town": town,
                            "post": post,
                            "rooms": str(random.randrange(1, 7)),
                        }
                    )
                if place > 1 - WITHOUT_PARTNER:
                    continue
                for _ in range(random.choice((1, 1, 2)) if several else 1):
                    written = random.choice((kind, kind, kind, random.choice(dirt.STREET_KINDS[kind])))
                    targets.append(
                        {
                            "flat": f"{word}{flat}" if flat else "",
                            "number": dirt.spaced(random, str(number)),
                            "street": dirt.sloppy(random, f"{street} {written}"),
                            "town": dirt.shouted(random, town),
                            "post": dirt.lost(
                                random, 0.08, "", dirt.shouted(random, random.choice((post, post.replace(" ", ""))))
                            ),
                            "reading": str(random.randrange(100, 90_000)),
                        }
                    )
                    partners.append(frozenset({len(sources) - 1}) if place > WITHOUT_PARTNER else frozenset())
    for record, identity in zip(targets, identities(random, len(targets), "code"), strict=True):
        record["id"] = identity
    for record, identity in zip(sources, identities(random, len(sources)), strict=True):
        record["id"] = identity

    def door(record: Record) -> tuple[str, str]:
        return record["number"].strip(), dirt.digits(record["flat"])

    def by_post(record: Record) -> tuple[str, ...] | None:
        return (dirt.plain(record["post"]), *door(record)) if record["post"] else None

    def by_street(record: Record) -> tuple[str, ...]:
        return (dirt.plain(record["street"]), dirt.plain(record["town"]), *door(record))

    return World(
        name="dwellings",
        targets=targets,
        sources=sources,
        partners=partners,
        rules=[Rule(by_post, by_post), Rule(by_street, by_street, clean=False)],
        keys=(("id",), "id"),
        one_to_one=not several,
        why="a postcode is one street's, so that with house and flat it names the dwelling; a house has no flat on either side",
    )


def machines(random: Random, size: int) -> World:
    """Runs of machines and what a controller noted of them minutes later; a lot number, for half of them."""
    styles = random.choice(dirt.TIMES), random.choice(dirt.TIMES)
    count = random.randrange(8, 25)
    clocks = {number: START + timedelta(minutes=random.randrange(300)) for number in range(1, count + 1)}
    form = random.choice(("M-{:02d}", "Press {}", "MC{:04d}"))
    sources: list[Record] = []
    targets: list[Record] = []
    partners: list[frozenset[int]] = []
    for lot in random.sample(range(10_000, 99_999), size):
        machine = random.randrange(1, count + 1)
        begun = clocks[machine]
        clocks[machine] = begun + timedelta(minutes=random.randrange(90, 600), seconds=random.randrange(60))
        noted = begun + timedelta(seconds=random.randrange(5, 1200))
        program = random.choice(("drill", "mill", "press", "cut", "weld"))
        place = random.random()
        if place > WITHOUT_PARTNER:
            sources.append(
                {
                    "device": f"{machine}",
                    "at": noted.strftime(styles[1]),
                    "program": program.upper(),
                    "lot": f"L{lot}" if random.random() < 0.6 else "",
                    "heat": str(random.randrange(20, 90)),
                }
            )
        if place < 1 - WITHOUT_PARTNER:
            targets.append(
                {
                    "machine": form.format(machine),
                    "begun": begun.strftime(styles[0]),
                    "program": dirt.spaced(random, program),
                    "lot": f"{lot}" if random.random() < 0.85 else "",
                    "shift": random.choice(("early", "late", "night")),
                }
            )
            partners.append(frozenset({len(sources) - 1}) if place > WITHOUT_PARTNER else frozenset())
    for record, identity in zip(targets, identities(random, len(targets)), strict=True):
        record["id"] = identity
    for record, identity in zip(sources, identities(random, len(sources)), strict=True):
        record["id"] = identity

    def seconds(column: str, style: str):
        def found(record: Record) -> float | None:
            when = dirt.moment(record[column], style)
            return (when - START).total_seconds() if when else None

        return found

    def lot_of(record: Record) -> str | None:
        return dirt.digits(record["lot"]) or None

    return World(
        name="machines",
        targets=targets,
        sources=sources,
        partners=partners,
        rules=[
            Rule(lot_of, lot_of),
            Rule(
                lambda record: (dirt.digits(record["machine"]), dirt.plain(record["program"])),
                lambda record: (dirt.digits(record["device"]), dirt.plain(record["program"])),
                (seconds("begun", styles[0]), seconds("at", styles[1]), 0, 1200),
                clean=False,
            ),
        ],
        keys=(("id",), "id"),
        one_to_one=True,
        why="half of the runs have their lot on both sides; the others are told by machine and minutes",
    )


def ledgers(random: Random, size: int) -> World:
    """Two ledgers of the same money: account, amount, and a day that may be up to three apart; fees that repeat."""
    written = random.choice(dirt.NUMBERS), random.choice(dirt.NUMBERS)
    styles = random.choice(dirt.DATES), random.choice(dirt.DATES)
    accounts = [f"{random.randrange(10**9, 10**10)}" for _ in range(random.randrange(6, 40))]
    fees = [Decimal(fee) / 100 for fee in (490, 990, 1500)]
    sources: list[Record] = []
    targets: list[Record] = []
    partners: list[frozenset[int]] = []
    for _ in range(size):
        account = random.choice(accounts)
        amount = random.choice(fees) if random.random() < 0.05 else Decimal(random.randrange(1000, 900_000)) / 100
        booked = BEGIN + timedelta(random.randrange(DAYS))
        shown = booked + timedelta(random.choice((0, 0, 0, 1, 1, 2, 3)))
        place = random.random()
        if place > WITHOUT_PARTNER:
            sources.append(
                {
                    "account": f"{account[:4]} {account[4:7]} {account[7:]}",
                    "amount": dirt.money(amount, written[1]),
                    "day": booked.strftime(styles[1]),
                    "text": random.choice(("Transfer", "Card", "Fee", "Standing order")),
                }
            )
        if place < 1 - WITHOUT_PARTNER:
            targets.append(
                {
                    "account": account,
                    "amount": dirt.money(amount, written[0]),
                    "day": shown.strftime(styles[0]),
                    "currency": "EUR",
                    "teller": random.choice(("10", "11", "12")),
                }
            )
            partners.append(frozenset({len(sources) - 1}) if place > WITHOUT_PARTNER else frozenset())
        if random.random() < 0.02 and targets:  # the same amount on the same day, in somebody else's account
            other = random.choice([number for number in accounts if number != account])
            targets.append({**targets[-1], "account": other})
            partners.append(frozenset())
    for record, identity in zip(targets, identities(random, len(targets)), strict=True):
        record["id"] = identity
    for record, identity in zip(sources, identities(random, len(sources)), strict=True):
        record["id"] = identity

    def line(style: str, exact: bool):
        def found(record: Record) -> tuple[object, ...]:
            what = (dirt.digits(record["account"]), dirt.cents(record["amount"]))
            return (*what, dirt.day(record["day"], style)) if exact else what

        return found

    def days(style: str):
        def found(record: Record) -> float | None:
            when = dirt.day(record["day"], style)
            return when.toordinal() if when else None

        return found

    return World(
        name="ledgers",
        targets=targets,
        sources=sources,
        partners=partners,
        rules=[
            Rule(line(styles[0], True), line(styles[1], True)),
            Rule(line("", False), line("", False), (days(styles[0]), days(styles[1]), -3, 0), clean=False),
        ],
        keys=(("id",), "id"),
        one_to_one=True,
        why="account, amount and day agree for three of seven; the others are up to three days apart",
    )
