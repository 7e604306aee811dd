"""What the notebook apps say in sentences: commands stand out as code, and nothing from the data is markup."""

from __future__ import annotations

from recon.desk.page import problem_html, prose
from recon.errors import NotFound


def test_commands_in_an_error_are_shown_as_code() -> None:
    html = problem_html(NotFound("rent has no finished run.", todo="Run `recon match rent` first."))
    assert "Run <code>recon match rent</code> first." in html
    assert "`" not in html


def test_text_between_backticks_is_escaped_too() -> None:
    assert prose("`<b>x</b>` & one ` alone") == "<code>&lt;b&gt;x&lt;/b&gt;</code> &amp; one ` alone"
