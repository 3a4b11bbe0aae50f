"""Laws that searches in memory obey on random resources: what is stored is found, and its complement is not."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.search.filter import escape, negated
from fhir_server.search.match import passes, search
from fhir_server.search.parse import split_values, unescape
from fhir_server.search.registry import builtin
from fhir_server.search.resolve import resolve
from fhir_server.search.values import normalize
from tests.support.shelf import DEFAULT, Shelf

TEXT = st.text(alphabet=st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=12)
CODES = st.sampled_from(["a", "A", "b", "ß", "a b", "a|b", "a,b", "a$b", "a\\b", "é"])
SYSTEMS = st.sampled_from(["", "http://s", "http://S", "urn:oid:1.2"])
LAWS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def addresses(shelf: Shelf, *pairs: tuple[str, str], type_name: str = "Observation") -> set[str]:
    resolved = resolve(list(pairs), types=(type_name,), registry=builtin(), settings=DEFAULT)
    return set(search(resolved.search, shelf.corpus))


@st.composite
def observations(draw: st.DrawFn) -> list[dict[str, Any]]:
    result = []
    for index in range(draw(st.integers(min_value=1, max_value=5))):
        codings = [
            {"system": system, "code": code} if system else {"code": code}
            for system, code in draw(st.lists(st.tuples(SYSTEMS, CODES), max_size=3))
        ]
        resource: dict[str, Any] = {"resourceType": "Observation", "id": str(index), "code": {"coding": codings}}
        if draw(st.booleans()):
            resource["valueString"] = draw(TEXT)
        result.append(resource)
    return result


def held(resources: list[dict[str, Any]]) -> Shelf:
    shelf = Shelf()
    for resource in resources:
        shelf.put(resource)
    return shelf


@LAWS
@given(resources=observations(), code=CODES, system=SYSTEMS)
def test_tokens_match_codings_and_not_is_the_complement(
    resources: list[dict[str, Any]], code: str, system: str
) -> None:
    shelf = held(resources)
    value = f"{escape(system)}|{escape(code)}"
    expected = {
        f"Observation/{one['id']}"
        for one in resources
        if any(
            coding.get("system", "") == system and coding["code"].casefold() == code.casefold()
            for coding in one["code"]["coding"]
        )
    }
    everyone = {f"Observation/{one['id']}" for one in resources}
    assert addresses(shelf, ("code", value)) == expected
    assert addresses(shelf, ("code:not", value)) == everyone - expected
    assert addresses(shelf, ("code", value), ("code:not", value)) == set()


@LAWS
@given(resources=observations(), code=CODES)
def test_a_code_alone_is_found_in_every_system(resources: list[dict[str, Any]], code: str) -> None:
    expected = {
        f"Observation/{one['id']}"
        for one in resources
        if any(coding["code"].casefold() == code.casefold() for coding in one["code"]["coding"])
    }
    assert addresses(held(resources), ("code", escape(code))) == expected


@LAWS
@given(resources=observations(), text=TEXT)
def test_strings_match_by_their_normalized_beginning(resources: list[dict[str, Any]], text: str) -> None:
    shelf = held(resources)
    folded = normalize(text)
    texts = {f"Observation/{one['id']}": one["valueString"] for one in resources if "valueString" in one}
    exact = {address for address, value in texts.items() if value == text}
    assert addresses(shelf, ("value-string:exact", escape(text))) == exact
    assert exact <= addresses(shelf, ("value-string", escape(text)))
    assert exact <= addresses(shelf, ("value-string:contains", escape(text)))
    if folded:
        assert addresses(shelf, ("value-string", escape(text))) == {
            address for address, value in texts.items() if normalize(value).startswith(folded)
        }
    for address, value in texts.items():
        assert address in addresses(shelf, ("value-string", escape(value)))


@given(text=TEXT)
def test_an_escaped_text_is_one_value_that_means_itself(text: str) -> None:
    assert [unescape(value) for value in split_values(escape(text))] == [text]


@LAWS
@given(code=CODES, system=SYSTEMS, other=CODES)
def test_a_negated_test_passes_exactly_where_the_test_does_not(code: str, system: str, other: str) -> None:
    from fhir_server.search.resolve import resolver

    maker = resolver(builtin(), DEFAULT)
    entry = (16, maker.token_key(system, other))
    for value in (escape(code), f"{escape(system)}|{escape(code)}"):
        test = maker.token_keys(value)
        assert passes(test, entry) != passes(negated(test), entry)
