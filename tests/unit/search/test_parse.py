"""The syntax of searches. R4 search.html#3.1.1.4, #escaping."""

from __future__ import annotations

import pytest

from fhir_server.errors import BadRequest
from fhir_server.search.parse import (
    Has,
    Link,
    RawParam,
    parse_name,
    parse_param,
    parse_query,
    split,
    split_values,
    unescape,
)


@pytest.mark.parametrize(
    "query, pairs",
    [
        ("name=eve&given=x", [("name", "eve"), ("given", "x")]),
        ("name=a+b%20c", [("name", "a b c")]),
        ("name=%E7%8E%8B", [("name", "王")]),
        ("code=http%3A%2F%2Floinc.org%7C1", [("code", "http://loinc.org|1")]),
        ("a=1&&a=2&=x&b", [("a", "1"), ("a", "2"), ("b", "")]),
        ("_format=application/fhir%2Bjson", [("_format", "application/fhir+json")]),
        ("a=x=y", [("a", "x=y")]),
        ("", []),
    ],
)
def test_query_strings(query: str, pairs: list[tuple[str, str]]) -> None:
    assert parse_query(query) == pairs


@pytest.mark.parametrize("query", ["a=%FF", "a=%C3", "a=%00", "a=%1F", "%00=a", "a=\x1d"])
def test_bytes_that_are_no_text_are_refused(query: str) -> None:
    with pytest.raises(BadRequest):
        parse_query(query)


@pytest.mark.parametrize(
    "name, code, modifier, chain",
    [
        ("name", "name", None, ()),
        ("name:exact", "name", "exact", ()),
        ("code:not-in", "code", "not-in", ()),
        ("subject:Patient", "subject", "Patient", ()),
        ("subject.name:exact", "name", "exact", (Link("subject"),)),
        ("subject:Patient.organization.name", "name", None, (Link("subject", "Patient"), Link("organization"))),
        ("_has:Observation:patient:code", "code", None, (Has("Observation", "patient"),)),
        ("_has:Observation:patient:code:in", "code", "in", (Has("Observation", "patient"),)),
        (
            "_has:Observation:patient:_has:AuditEvent:entity:agent",
            "agent",
            None,
            (Has("Observation", "patient"), Has("AuditEvent", "entity")),
        ),
        ("_has:Observation:patient:performer.name", "name", None, (Has("Observation", "patient"), Link("performer"))),
        ("patient._has:Group:member:_id", "_id", None, (Link("patient"), Has("Group", "member"))),
    ],
)
def test_names(name: str, code: str, modifier: str | None, chain: tuple[Link | Has, ...]) -> None:
    assert parse_name(name) == (code, modifier, chain)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "a.",
        ".a",
        "a:",
        "a:b:c",
        "_has:Observation",
        "_has:Observation:patient:",
        "a b",
        "é",
        "a.b..c",
        "na;me",
    ],
)
def test_names_that_do_not_follow_the_grammar(name: str) -> None:
    with pytest.raises(BadRequest):
        parse_name(name)


def test_a_chain_without_end_is_too_costly() -> None:
    with pytest.raises(BadRequest) as caught:
        parse_name("part-of." * 50 + "name")
    assert caught.value.issues[0].code == "too-costly"


@pytest.mark.parametrize(
    "value, values",
    [
        ("a,b", ("a", "b")),
        ("a\\,b,c", ("a\\,b", "c")),
        ("a\\\\,b", ("a\\\\", "b")),
        ("a,,b,", ("a", "b")),
        ("", ()),
        (",", ()),
        ("a\\", ("a\\",)),
    ],
)
def test_values_are_split_at_commas_without_a_backslash(value: str, values: tuple[str, ...]) -> None:
    assert split_values(value) == values


def test_escapes_are_literal() -> None:
    assert unescape(r"a\,b\$c\|d\\e\f") == r"a,b$c|d\e\f"
    assert split(r"s\|x|c", "|") == [r"s\|x", "c"]


def test_a_parameter_keeps_the_escapes_of_its_values() -> None:
    assert parse_param("subject:Patient.name", r"a\,b,c") == RawParam(
        "name", None, (Link("subject", "Patient"),), (r"a\,b", "c")
    )
