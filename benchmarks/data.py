"""Generated records: the same on every machine, of any size."""

from __future__ import annotations

from collections.abc import Sequence

from recon.database.connect import Session

DAYS = 365  # over which times spread
PER_KEY = 8  # records of one key on each side where times decide
SPREAD = "6 hours"  # in which they lie: about 2.5 of the other side's within an hour of each
EVERY_CHANGED, EVERY_ALONE = 10_007, 50_021  # one in so many records differs, or exists on one side only: primes


def make(session: Session, statements: Sequence[str], **sizes: int) -> None:
    """Make tables, with a primary key `id` and fresh statistics."""
    for statement in statements:
        name = statement.split()[2]
        session.execute(f"DROP TABLE IF EXISTS {name}")
        session.execute(statement.format(**sizes))
        session.execute(f"ALTER TABLE {name} ADD PRIMARY KEY (id)")
        session.execute(f"ANALYZE {name}")


# Nineteen of twenty sources have the reference of one target; one in a hundred shares it with its neighbour: ties.
EXACT = (
    """CREATE TABLE exact_targets AS
    SELECT n::int AS id, 'R' || (n::bigint * 7919 % 100000007) AS reference, (n % 900)::numeric(10, 2) AS amount
    FROM generate_series(1, {rows}) AS n""",
    """CREATE TABLE exact_sources AS
    SELECT (n::bigint * 104729 % {rows} + 1)::int AS id, CASE WHEN n % 20 = 1 THEN 'S' || n
        ELSE 'R' || (CASE WHEN n % 100 = 0 THEN n - 1 ELSE n END::bigint * 7919 % 100000007) END AS reference
    FROM generate_series(1, {rows}) AS n""",
)

# Visits: a few of each customer and address on one day, on both sides, at random times of that day, in random order.
CLOSEST = (
    *(
        f"""CREATE TABLE closest_{side} AS SELECT * FROM (
        SELECT n::int AS id, (n / {PER_KEY})::int AS customer, (n / {PER_KEY} % 3)::int AS address,
            timestamp '2024-01-01' + n / {PER_KEY} % {DAYS} * interval '1 day'
                + ('x' || substr(md5('{side}' || n), 1, 7))::bit(28)::int / 268435456.0 * interval '{SPREAD}' AS at
        FROM generate_series(1, {{rows}}) AS n) AS visit ORDER BY md5(id::text)"""
        for side in ("targets", "sources")
    ),
)

# Two mirrors of one table: one row in ten thousand has another amount, one in fifty thousand is missing on either side.
COMPARED = (
    *(
        f"""CREATE TABLE compared_{side} AS
        SELECT n::int AS id, 'name ' || n AS name, (n % 90000 + {changed})::numeric(12, 2) AS amount,
            date '2020-01-01' + n % 1500 AS day, CASE WHEN n % 3 > 0 THEN 'status ' || n % 5 END AS status
        FROM generate_series(1, {{rows}}) AS n WHERE n % {EVERY_ALONE} <> {left_out}"""
        for side, changed, left_out in (
            ("targets", "0", 1),
            ("sources", f"CASE WHEN n % {EVERY_CHANGED} = 0 THEN 1 ELSE 0 END", 0),
        )
    ),
)

# People in two registers: seven in ten copies keep the address of their mail, most their name, town and birthday, or
# their telephone. Both tables have the same columns.
PEOPLE = (
    *(
        f"""CREATE TABLE people_{side} AS
        SELECT n::int AS id, CASE WHEN {mail} THEN 'mail' || n || '@example.org' END AS email,
            'surname ' || n::bigint * 31 % 5003 AS surname, (n::bigint * 17 % 9973)::text AS postcode,
            date '1930-01-01' + (n::bigint * 13 % 29989)::int AS birth_date,
            CASE WHEN {phone} THEN '0' || n::bigint * 7919 % 100000007 END AS phone
        FROM generate_series(1, {{rows}}) AS n WHERE n % 20 <> {left_out}"""
        for side, mail, phone, left_out in (
            ("left", "n % 50 > 0", "n % 4 > 0", 1),
            ("right", "n % 10 < 7", "n % 7 > 2", 2),
        )
    ),
)
