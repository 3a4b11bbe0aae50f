"""Regular expressions of value set filters: what is quick is accepted, what may take minutes is not."""

from __future__ import annotations

import pytest

from terminology.pattern import Unsafe, compile_safe


@pytest.mark.parametrize(
    ("expression", "matches", "not_matches"),
    [
        ("[A-Z]{2}", "CN", "CHN"),
        (r"\d{4}-\d", "8867-4", "x"),
        ("(AL|AK|AZ)", "AK", "CA"),
        ("(ab)+", "abab", "aba"),
        ("v[23]-.*", "v3-ActCode", "v1-X"),
    ],
)
def test_simple_expressions_match_the_whole_value(expression: str, matches: str, not_matches: str) -> None:
    pattern = compile_safe(expression)
    assert pattern.fullmatch(matches)
    assert not pattern.fullmatch(not_matches)


@pytest.mark.parametrize(
    "expression",
    [
        "(a+)+b",
        "(a|aa)+$",
        "(a*)*",
        r"(a)\1",
        "(?=a)a",
        "(?<!x)a",
        "a*a*a*a*a*b",
        "(",
        "a{3,1}",
        "x" * 501,
        "((a?){9}){9}",
    ],
)
def test_what_may_take_long_or_is_malformed_is_refused(expression: str) -> None:
    with pytest.raises(Unsafe):
        compile_safe(expression)
