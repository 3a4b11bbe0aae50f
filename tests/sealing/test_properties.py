"""Sealing and opening over arbitrary trees: nothing is lost, nothing is left, and both ways of opening agree."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fhir_server.access.caller import Caller
from fhir_server.access.grant import Grant
from fhir_server.authorize import EVERYTHING
from fhir_server.resources import jsonformat
from fhir_server.sealing import RESIDENT_ID, Sealer, masked, shown_json, shown_resource
from tests.sealing.conftest import KEY, OTHER_KEY

SEALER = Sealer([KEY])
CALLERS = [
    None,
    Caller(EVERYTHING, Grant("g", "c", "Client", "doctor", ())),
    Caller(EVERYTHING, Grant("g", "c", "Client", "patient", (), patient="a")),
]

texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
numbers = st.one_of(
    st.text(string.digits, min_size=18, max_size=18),
    st.text(string.digits, min_size=15, max_size=15),
    texts.filter(lambda text: "*" not in text and "sealed:1:" not in text),
)
identifiers = st.builds(
    lambda value, reverse, more: dict(sorted({"system": RESIDENT_ID, "value": value, **more}.items(), reverse=reverse)),
    numbers,
    st.booleans(),
    st.dictionaries(st.sampled_from(["use", "zone"]), texts),
)
names = st.text(string.ascii_letters, min_size=1, max_size=6).filter(lambda name: name not in ("system", "value"))
trees = st.recursive(
    st.one_of(texts, st.integers(-9, 9), st.booleans(), identifiers),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(names, inner, max_size=4)),
    max_leaves=12,
)
resources = st.builds(
    lambda own, rest: {"resourceType": "Patient", "id": "a", "identifier": own, **rest},
    st.lists(identifiers, max_size=2),
    st.dictionaries(names.filter(lambda name: name not in ("resourceType", "id", "identifier")), trees, max_size=3),
)


def values(node: Any) -> list[str]:
    """The protected values of a tree, in order."""
    if isinstance(node, dict):
        own = [node["value"]] if node.get("system") == RESIDENT_ID else []
        return own + [value for item in node.values() for value in values(item)]
    return [value for item in node for value in values(item)] if isinstance(node, list) else []


def sealed(resource: dict[str, Any]) -> dict[str, Any]:
    """The resource as it is stored; None of the refusals applies to these trees but for digits that repeat."""
    from fhir_server.errors import Unprocessable

    try:
        return SEALER.seal(resource, lambda: None)
    except Unprocessable:
        return {}


@given(resources)
def test_opening_gives_back_what_was_sealed(resource: dict[str, Any]) -> None:
    kept = sealed(resource)
    if not kept:
        return
    assert jsonformat.encode(SEALER.open_resource(kept)) == jsonformat.encode(resource)
    assert all(value.startswith("sealed:1:") for value in values(kept))
    if not values(resource):
        assert kept is resource


@given(resources, st.sampled_from(CALLERS), st.sampled_from(["Patient/a", "Patient/b"]))
def test_both_ways_of_showing_agree(resource: dict[str, Any], caller: Caller | None, address: str) -> None:
    kept = sealed(resource)
    if not kept:
        return
    for sealer in (SEALER, Sealer([OTHER_KEY]), None):
        shown = shown_resource(sealer, kept, address, caller)
        assert shown_json(sealer, jsonformat.encode(kept), address, caller) == jsonformat.encode(shown)
        assert b"sealed:1:" not in jsonformat.encode(shown)
    if caller is CALLERS[1]:
        assert values(shown_resource(SEALER, kept, address, caller)) == [masked(value) for value in values(resource)]
