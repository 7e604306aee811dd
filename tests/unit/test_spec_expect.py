"""What a spec says must never be: read strictly, and no part of the digest of specs that do not use it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from recon.spec_expect import Expectation
from tests.support import simple_spec


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"when": "s.a = 1"}, "may name only its columns"),
        ({"when": "t.a = random()"}, "random"),
        ({"when": "(select 1) = 1"}, "subquery"),
        ({"query": "select 1 as a", "when": "t.a = 1"}, "go together"),
        ({"key": "a", "when": "t.a = 1"}, "go together"),
        ({"query": "delete from x returning a", "key": "a", "when": "t.a = 1"}, "exactly one SELECT"),
        ({"query": "select pg_sleep(1) as a", "key": "a", "when": "t.a = 1"}, "pg_sleep"),
        ({"query": "select a from x"}, "Field required"),
    ],
)
def test_what_is_no_rule_is_refused(rule: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Expectation.model_validate({"never": {"odd": rule}})


def test_the_present_moment_may_be_named() -> None:
    read = Expectation.model_validate({"never": {"late": {"when": "t.at + interval '1 hour' < now()"}}})
    assert read.never["late"].query is None


def test_a_spec_without_it_keeps_its_digest() -> None:
    """Sign-offs that were given by older versions hold on."""
    assert '"never"' not in simple_spec().canonical()
    rule = {"never": {"odd": {"when": "t.id = 1"}}}
    assert '"never"' in simple_spec(expect=rule).canonical()
    assert simple_spec(expect=rule).digest != simple_spec().digest
