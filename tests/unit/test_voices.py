"""Who counts, without a database: names, keys and the list of signers as ssh-keygen takes it apart."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from recon.backfill.signatures import Key, Signers
from recon.backfill.voices import Tally, Voice, same_voice

ONE, OTHER = Key(b"\0\0\0\1a one"), Key(b"\0\0\0\1a other")


def signers(tmp_path: Path, text: str) -> Signers:
    path = tmp_path / "allowed_signers"
    path.write_text(text.replace("ONE", base64.b64encode(ONE.blob).decode()), encoding="utf-8")
    return Signers.read(path)


@pytest.mark.parametrize(
    ("line", "whose"),
    [
        ("bob ssh-x ONE", "bob"),
        ("carl,Bob\tssh-x ONE a comment", "bob"),
        ('"Bob Lee",carl namespaces="a b",valid-before="20200101" ssh-x ONE', "bob lee"),
        ("*@example.com ssh-x ONE", "Bob@Example.com"),
        ("b?b ssh-x ONE", "bob"),
        ("  bob ssh-x ONE\r", "bob"),
        ("bob\u2028x ssh-x ONE", "bob x"),
    ],
)
def test_a_line_says_whose_a_key_is(tmp_path: Path, line: str, whose: str) -> None:
    assert signers(tmp_path, f"# nobody\n\n{line}\n").lists(ONE, whose)


@pytest.mark.parametrize(
    "line", ["# bob ssh-x ONE", "bob ssh-x AAAA", "bobby ssh-x ONE", "!bob,* ssh-x ONE", "bob", '"bob']
)
def test_other_lines_do_not(tmp_path: Path, line: str) -> None:
    assert not signers(tmp_path, line).lists(ONE, "bob")


def test_one_person_or_one_key_is_one_voice(tmp_path: Path) -> None:
    nobody, both = signers(tmp_path, ""), signers(tmp_path, "bob,dave ssh-x ONE")
    assert same_voice(Voice("bob", None), Voice(" BOB", ONE), nobody)
    assert same_voice(Voice("bob", ONE), Voice("dave", ONE), nobody)
    assert not same_voice(Voice("bob", ONE), Voice("dave", OTHER), nobody)
    for first, second in ((ONE, None), (None, ONE)):
        assert same_voice(Voice("bob", first), Voice("dave", second), both)
        assert not same_voice(Voice("bob", first), Voice("dave", second), nobody)


def test_the_author_and_whoever_applies_are_not_counted(tmp_path: Path) -> None:
    nobody = signers(tmp_path, "")
    voices = [Voice("Ann", OTHER), Voice("bob", ONE), Voice("cleo", None), Voice("dave", ONE)]
    tally = Tally().with_more(voices, "ann", nobody)
    assert [voice.person for voice in tally.counted] == ["bob", "cleo"]
    assert len(tally.refused) == 2
    assert [voice.person for voice in tally.without("BOB", nobody).counted] == ["cleo"]
