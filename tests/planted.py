"""Private values of both sides that stand nowhere else, so that one can look for them in everything that comes out."""

from __future__ import annotations

import re

from recon.database.connect import Database
from recon.workspace import Workspace
from tests.support import execute

# What is planted: the beginnings of a text, a number and a date that stand nowhere else.
CANARY = re.compile("kanari|9182736|1931-07|1931, 7,")
SPEC = """\
name: people
target: {table: pay, key: id, date: born, private: [email, pin, born, note, copied]}
source: {table: lease, key: id, private: [mail, number, birth, note]}
link: {column: lease_id, also: {copied: s.mail}}
cardinality: one_to_one
passes:
  - name: by_mail
    on: {email: mail}
    within: {target: born, source: birth, tolerance: 3 days}
    when: t.pin < s.number
    prefer: [nearest]
  - {name: by_pin, on: {pin: number}, accept: review, confidence: 0.5}
  - {name: by_two, on: {pin: number, "lower(t.email)": "lower(s.mail)"}}
compare: {note: note}
backfill: {changed: {update: all}}
show: [t.id, t.email, t.pin, s.mail, s.birth, "t.email || s.mail"]
interpret:
  - {when: t.pin = 918273601, say: "the pin that only one has"}
  - {when: t.id > 0, say: "mail {s.mail}, {s.number - t.pin} apart, born {t.born}"}
expect: {right: {same_mail: t.email = s.mail}}
"""
POLICY = '[private]\nseen_by = ["Ann "]\n'
# id, mail, pin, born, note, link: in the order of the reasons in the test.
PAYS = """
    (1, 'kanari-1', 918273601, '1931-07-01', 'kanari old', NULL), (2, 'kanari-none', 918273602, '1931-07-02', NULL, NULL),
    (3, NULL, NULL, '1931-07-03', NULL, NULL), (4, 'kanari-4', 918273604, '1931-07-04', NULL, NULL),
    (5, 'kanari-5', 918273605, '1931-07-05', NULL, NULL), (6, 'kanari-6', 918273606, '1931-07-06', NULL, NULL),
    (7, 'kanari-6', 918273607, '1931-07-07', NULL, NULL), (8, 'kanari-8', 918273608, '1931-07-08', NULL, 8),
    (9, 'kanari-8', 918273609, '1931-07-08', NULL, NULL), (10, 'kanari-10', 918273610, '1931-07-10', NULL, NULL),
    (12, 'kanari-12', 918273612, '1931-07-12', NULL, NULL), (13, 'kanari-13', 918273613, '1931-07-13', NULL, NULL),
    (14, 'kanari-14', 918273614, '1931-07-14', NULL, 15)
"""
LEASES = """
    (1, 'kanari-1', 918273651, '1931-07-01', 'kanari new'), (4, 'kanari-4', 918273654, '1931-07-25', NULL),
    (5, 'kanari-5', 918273600, '1931-07-05', NULL), (6, 'kanari-6', 918273656, '1931-07-06', 'kanari six'),
    (8, 'kanari-8', 918273658, '1931-07-08', NULL), (10, 'kanari-10', 918273660, '1931-07-10', NULL),
    (11, 'kanari-10', 918273661, '1931-07-10', NULL), (12, 'kanari-12', 918273662, '1931-07-12', NULL),
    (13, 'kanari-other', 918273613, '1931-07-30', NULL), (14, 'kanari-14', 918273664, '1931-07-14', NULL),
    (15, 'kanari-15', 918273665, '1931-07-15', NULL)
"""


def plant(database: Database, workspace: Workspace) -> None:
    """The two tables, the reconciliation `people`, and a policy by which Ann may see what is private."""
    execute(
        database,
        "CREATE TABLE pay (id int PRIMARY KEY, email text, pin int, born date, note text, lease_id int, copied text)",
        "CREATE TABLE lease (id int PRIMARY KEY, mail text, number int, birth date, note text)",
        f"INSERT INTO pay (id, email, pin, born, note, lease_id) VALUES {PAYS}",
        f"INSERT INTO lease VALUES {LEASES}",
    )
    (workspace.root / "reconciliations" / "people.yaml").write_text(SPEC, encoding="utf-8")
    (workspace.root / "recon.toml").write_text(POLICY, encoding="utf-8")


def clean(text: str) -> str:
    """The text, if no planted value stands in it."""
    found = CANARY.search(text)
    assert not found, text[max(found.start() - 300, 0) : found.end() + 100]
    return text
