"""Spec files: YAML 1.2 with errors that name file, line, field, what is wrong and the nearest right name."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path

import pytest

from recon import spec_file
from recon.errors import SpecError
from recon.spec import Reconciliation
from recon.workspace import Workspace
from tests.support import ROOT

GOOD = """\
name: mine
target: {table: pay, key: id}
source: {table: lease, key: id}
link: {column: lease_id}
passes:
  - name: one
    on: {code: code}
    confidence: 0.95
"""


def read(folder: Path, text: str, **others: str) -> Reconciliation:
    for name, other in {"mine": text, **others}.items():
        (folder / f"{name}.yaml").write_text(other, encoding="utf-8")
    return spec_file.read(folder / "mine.yaml", lambda name: folder / f"{name}.yaml")


def test_a_good_file_is_read_with_exact_decimals_and_words_as_text(tmp_path: Path) -> None:
    spec = read(tmp_path, GOOD.replace("code: code", "no: yes"))
    assert spec.passes[0].confidence == Decimal("0.95")
    assert spec.passes[0].on == {"no": "yes"}  # YAML 1.2: `no` and `on` are text


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("confidence: 0.95", "confidance: 0.95", r"line 8: passes\[1\].confidance: .*Did you mean \"confidence\""),
        ("confidence: 0.95", "confidence: 1.5", r"line 8: passes\[1\].confidence: .*less than or equal to 1"),
        ("confidence: 0.95", "accept: maybe", r"line 8: passes\[1\].accept: 'maybe' is not one of"),
        ("{table: lease, key: id}", "{tabel: lease, key: id}", r"line 3: source.tabel: .*Did you mean \"table\""),
        ("{table: lease, key: id}", "{table: lease}", r"line 3: source.key: this field is missing"),
        ("{table: lease, key: id}", "{table: a, file: b, key: id}", r"line 3: source: Give exactly one of table"),
        ("name: mine", "name: My Spec", r"line 1: name: 'My Spec' is not a name"),
        ("on: {code: code}", "on: {code: (select 1)}", r"line 6: passes\[1\]: .*not allowed"),
        ("on: {code: code}", "on: {s.code: code}", r"line 6: passes\[1\]: .*may name only its columns"),
        ("on: {code: code}", "when: t.a = 1", r"line 6: passes\[1\]"),
        ("name: mine", "name: mine\nname: mine", r"line 2"),
        ("name: mine", "name: mine\n\tx: 1", r"line 2: this is not YAML"),
        ("name: mine", "name: [", r"this is not YAML"),
        ("name: mine", "name: !!python/object:os.system mine", r"name"),
    ],
)
def test_errors_name_line_and_field(tmp_path: Path, old: str, new: str, said: str) -> None:
    with pytest.raises(SpecError, match=said) as error:
        read(tmp_path, GOOD.replace(old, new))
    assert "mine.yaml" in str(error.value)


@pytest.mark.parametrize("content", [b"", b"[]", b"\xff\xfe", b"just text", b"a: &a [*a]"])
def test_what_is_not_a_spec_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError):
        spec_file.read(path, lambda name: path)


def _bomb(first: str, next_one: str) -> str:
    """Ten levels of nine aliases each, over a good spec: nine to the tenth power values."""
    levels = [first]
    for level in range(1, 10):
        levels.append(next_one.format(level, ", ".join([f"*l{level - 1}"] * 9)))
    return "\n".join(levels) + "\n" + GOOD


@pytest.mark.parametrize(
    "text",
    [
        _bomb("x0: &l0 [1, 1, 1, 1, 1, 1, 1, 1, 1]", "x{0}: &l{0} [{1}]"),
        _bomb("x0: &l0 {a: 1}", "x{0}: &l{0} {{<<: [{1}], k{0}: 1}}"),
        GOOD + "x: &a [*a]\n",
        GOOD + "x: &a {b: *a}\n",
        GOOD + "? [a, b]\n: 1\n",
        GOOD + "? &a [x]\n: [? *a : 1]\n",
        GOOD + "x: " + "[" * 500 + "]" * 500 + "\n",
        GOOD + "x: [" + "1, " * 20_000 + "]\n",
    ],
    ids=["lists", "merges", "list of itself", "mapping of itself", "list as key", "alias as key", "deep", "long"],
)
def test_a_few_lines_cannot_stand_for_billions_of_values(tmp_path: Path, text: str) -> None:
    began = time.monotonic()
    with pytest.raises(SpecError):
        read(tmp_path, text)
    assert time.monotonic() - began < 10


def test_aliases_as_people_use_them_are_followed(tmp_path: Path) -> None:
    text = GOOD.replace("{table: lease, key: id}", "{table: lease, key: *key}").replace("key: id", "key: &key id", 1)
    assert read(tmp_path, text).source.key == "id"


def test_windows_newlines_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert spec_file.read(tmp_path / "mine.yaml", lambda name: tmp_path).name == "mine"


def test_like_takes_another_spec_and_overrides_its_fields(tmp_path: Path) -> None:
    """INV-16: the second table shares the passes of the first."""
    spec = read(
        tmp_path, "name: mine\nlike: base\ntarget: {table: other, key: id}\n", base=GOOD.replace("mine", "base")
    )
    assert (spec.name, spec.target.table, spec.passes[0].name) == ("mine", "other", "one")
    shipped = Workspace(ROOT).spec("financial_transactions")
    assert shipped.passes == Workspace(ROOT).spec("rent_payments").passes
    assert shipped.expect.right == Workspace(ROOT).spec("rent_payments").expect.right


def test_like_is_no_member_of_the_others_group_unless_it_says_so(tmp_path: Path) -> None:
    base = GOOD.replace("mine", "base") + "group: crm\n"
    assert read(tmp_path, "name: mine\nlike: base\n", base=base).group is None
    assert read(tmp_path, "name: mine\nlike: base\ngroup: own\n", base=base).group == "own"


def test_like_that_goes_in_a_circle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="circle"):
        read(tmp_path, "name: mine\nlike: other\n", other="name: other\nlike: mine\n")


def test_the_digest_is_of_the_rules_and_not_of_the_layout(tmp_path: Path) -> None:
    one = read(tmp_path, GOOD)
    assert (
        read(tmp_path, "title: Another title\n" + GOOD.replace("confidence: 0.95", "confidence:   0.95")).digest
        == one.digest
    )
    assert read(tmp_path, GOOD.replace("0.95", "0.94")).digest != one.digest


def test_a_whole_spec_of_the_language_is_read(tmp_path: Path) -> None:
    """Every field of the language, also those that this version does not match with yet."""
    text = """
name: mine
scope: org
population: source
target: {query: "select r.*, p.x from r join p on p.id = r.p", writes: r, key: [org, id]}
source: {api: stays, key: [org, id], where: "status <> 'draft'", date: since}
cardinality: one_to_one
passes:
  - name: near
    on: [org, id]
    within: {target: paid, source: due, tolerance: {before: 0 days, after: 30 days}}
    prefer: [nearest, s.due desc]
    on_tie: next
    compare_as: text
valid: [{rule: s.x is not null, issue: missing x}]
compare: {x: y}
backfill: {changed: {update: all}}
follow_ups: [{job: pin, at: "t.since - interval '2 hours'"}]
show: [t.x]
"""
    spec = read(tmp_path, text)
    assert spec.target.keys == ["org", "id"]
    assert len(spec.passes[0].pairs) == 2
