"""matches() and replaceMatches(): the same answers as Python's `re`, in time that is linear in the text."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.fhirpath import FhirPathError
from fhir_server.fhirpath.regex import matcher, replacer

PATTERNS = [
    "a", "", "^$", "^a*$", "a|b", "(ab)+c?", "[a-c]+x", "[^a]", "a{2}", "a{2,}", "a{1,3}b", "(a|bc)*d", "^(a|b)*$",
    ".", "a.c",
    r"\d+", r"\w\s\W", r"[\d\-x]", "[]a]", "[a-]", "a+?b", "(?:ab|a)(?:c|bcd)", "x*", "(a?){3}", "$", "^", "a^b",
    "(^a|b)c", "a$|b",
    r"\.\*", r"A\u0042", "[A-Z]([A-Za-z0-9_]){0,254}",
]  # fmt: skip
TEXTS = [
    "",
    "a",
    "b",
    "ab",
    "abc",
    "aab",
    "aaa",
    "bcd",
    "abcbcd",
    "x1",
    "1-x",
    "a\nc",
    "]",
    "AB",
    "Ab_9",
    " \t",
    "a.*",
    "cab",
    "bc",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_same_answer_as_backtracking(pattern: str) -> None:
    known = re.compile(pattern.replace("$", r"\Z"), re.DOTALL)
    for text in TEXTS:
        assert matcher(pattern)(text) is (known.search(text) is not None), text
        assert matcher(pattern, full=True)(text) is (known.fullmatch(text) is not None), text


_atoms = st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "^", "$"])
_patterns = st.recursive(
    _atoms,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}"])).map(lambda pair: f"({pair[0]}){pair[1]}"),
    ),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(_patterns, st.text("abc", max_size=8))
def test_same_answer_for_any_pattern(pattern: str, text: str) -> None:
    known = re.compile(pattern.replace("$", r"\Z"), re.DOTALL)
    assert matcher(pattern)(text) is (known.search(text) is not None)
    assert matcher(pattern, full=True)(text) is (known.fullmatch(text) is not None)


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+b", "(a|a)*b", "(a|aa)+$b", "(.*)*x", "(a?){30}a{30}b", "(x+x+)+y", ".*.*.*.*.*=", "(a{1,40}){1,40}b"],
)
def test_evil_patterns_take_no_time(pattern: str) -> None:
    start = time.perf_counter()
    assert matcher(pattern)("a" * 3_000) is False
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    "pattern",
    ["(", ")", "[", "[b-a]", "*", "a**", "a{2,1}", "a{", "(?=a)", "(?<!a)", "(?i)a", r"(a)\1", r"\ba", "\\", r"\u12",
    "a" * 2_000,
     "((a{100}){100}){100}", "(" * 100 + ")" * 100, "[[:alpha:]]", "^*"],
)  # fmt: skip
def test_what_is_not_supported_is_refused(pattern: str) -> None:
    with pytest.raises(FhirPathError):
        matcher(pattern)


@pytest.mark.parametrize(
    ("pattern", "text", "substitution", "expected"),
    [
        (r"\..*", "a.b.c", "", "a"),
        (r"(\d+)-(\d+)", "10-20", "$2/$1", "20/10"),
        ("b", "abc", r"\$1", "a$1c"),
        ("x", "abc", "y", "abc"),
        ("", "abc", "y", "abc"),
        ("(a)|b", "ab", "[$1]", "[a][]"),
    ],
)
def test_replacement(pattern: str, text: str, substitution: str, expected: str) -> None:
    assert replacer(pattern)(text, substitution) == expected


@pytest.mark.parametrize("pattern", ["(a+)+", "(a|b)*", "a*a*a*a*", "(ab){1,2}"])
def test_replacement_refuses_what_could_backtrack_long(pattern: str) -> None:
    with pytest.raises(FhirPathError):
        replacer(pattern)


def test_replacement_bounds_the_text_by_the_pattern() -> None:
    start = time.perf_counter()
    assert replacer("a*b")("a" * 5_000, "") == "a" * 5_000
    assert replacer("a*a*b")("a" * 300, "") == "a" * 300
    assert time.perf_counter() - start < 5
    with pytest.raises(FhirPathError):
        replacer("a*b")("a" * 6_000, "")
