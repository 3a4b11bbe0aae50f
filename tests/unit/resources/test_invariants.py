"""Every shortcut to an invariant against the FHIRPath engine, over all official examples. R4 conformance-rules.html."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from fhir_server.definitions import structures
from fhir_server.fhirpath import Environment
from fhir_server.resources import invariants, jsonformat
from fhir_server.resources.invariants import Invariant, is_after
from tests.support import examples


class Around:
    """What an invariant may look at, for one resource."""

    def __init__(self, resource: dict[str, Any], root: dict[str, Any]) -> None:
        self.resource = resource
        self.root = root
        self.environment = Environment(resource, root)


def constraints(owner: str) -> dict[str, dict[str, Any]]:
    if owner in structures():
        return {item["key"]: item for item in structures()[owner].get("constraints", ())}
    holder, _, name = owner.rpartition(".")
    return {item["key"]: item for item in structures()[holder]["elements"][name]["constraints"]}


def objects(value: dict[str, Any], owner: str, around: Around) -> Iterator[tuple[str, str, dict[str, Any], Around]]:
    """(type, "", object, surroundings) of everything in a resource, and the same with (holder, element)."""
    yield owner, "", value, around
    for name, element in structures()[owner]["elements"].items():
        types = element["types"] or [""]
        keys = [name + t[0].upper() + t[1:] if element.get("choice") else name for t in types]
        for type_name, key in zip(types, keys, strict=True):
            found = value.get(key)
            for item in found if isinstance(found, list) else [found]:
                if isinstance(item, dict):
                    if type_name == "Resource":
                        root = around.root if name == "contained" else item
                        yield from objects(item, item["resourceType"], Around(item, root))
                        continue
                    yield owner, name, item, around
                    profile = element.get("profile") if type_name == "Quantity" else None
                    yield from objects(item, element.get("ref") or profile or type_name, around)


def verdict(invariant: Invariant, element: Any, around: Around) -> bool:
    if invariant.check is not None:
        return invariant.check(element, around) is not False
    return not eval(invariant.violated, {**invariant.constants, "o": element})


@pytest.mark.slow
def test_shortcuts_agree_with_the_engine_on_all_official_examples() -> None:
    compared: Counter[str] = Counter()
    differing: list[str] = []
    engine: dict[str, Any] = {}
    shortcuts: dict[tuple[str, str], list[Invariant]] = {}
    for file, text in examples.texts():
        if len(text) > 400_000:
            continue
        resource = jsonformat.parse(text)
        for owner, name, item, around in objects(resource, resource["resourceType"], Around(resource, resource)):
            if (owner, name) not in shortcuts:
                found = invariants.of_element(owner, name) if name else invariants.of_type(owner)
                shortcuts[owner, name] = [i for i in found if i.check is None or i.check.__name__.startswith("_")]
            for invariant in shortcuts[owner, name]:
                key = f"{invariant.owner} {invariant.key}"
                if key not in engine:
                    source = constraints(invariant.owner)[invariant.key]["expression"]
                    engine[key] = invariants.via_fhirpath(
                        source, invariant.owner, invariants._may_be_empty(invariant.owner, invariant.key)
                    )
                compared[key] += 1
                # matches() of the engine finds a name anywhere; "usable as an identifier" means the whole name.
                if not invariant.key.endswith("-0") and verdict(invariant, item, around) != engine[key](item, around):
                    differing.append(f"{file}: {key}")
    assert not differing
    assert len(compared) > 100
    assert compared["Reference ref-1"] == 0
    assert compared["Period per-1"] > 100


def test_every_constraint_is_covered() -> None:
    """Each of R4's constraints is checked by the structure walk, by a shortcut or by the engine; none is forgotten."""
    for owner, definition in structures().items():
        if definition["kind"] == "primitive":
            continue
        found = {invariant.key for invariant in invariants.of_type(owner)}
        stated = {item["key"] for item in definition.get("constraints", ())}
        assert found == stated - invariants.STRUCTURAL
        for name, element in definition["elements"].items():
            own = {item["key"] for item in element.get("constraints", ())}
            assert {i.key for i in invariants.of_element(owner, name)} == own - invariants.STRUCTURAL


def test_hand_written_invariants_are_invariants_of_r4() -> None:
    for owner, key in invariants.HAND:
        assert key in constraints(owner)


@pytest.mark.parametrize(
    ("first", "second", "after"),
    [
        ("2020-02", "2020-01", True),
        ("2020-01", "2020-02", False),
        ("2020-01", "2020-01-31", False),
        ("2020-02", "2020-01-31", True),
        ("2020", "2020-12-31T23:59:59Z", False),
        ("2020-01-02", "2020-01-01T10:00:00Z", True),
        ("2020-01-01T10:00:00Z", "2020-01-01T10:00:00Z", False),
        ("2020-01-01T10:00:00.5Z", "2020-01-01T10:00:00Z", True),
        ("2020-01-01T10:00:00.10Z", "2020-01-01T10:00:00.1Z", False),
        ("2020-01-01T10:00:00+02:00", "2020-01-01T09:00:00+01:00", False),
        ("2020-01-01T10:00:01+02:00", "2020-01-01T09:00:00+01:00", True),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59+00:00", False),
        ("0001-01-01T00:00:00+14:00", "0001-01-01T00:00:00Z", False),
        (None, "2020", False),
    ],
)
def test_is_after_says_only_what_is_certain(first: Any, second: Any, after: bool) -> None:
    assert is_after(first, second) is after
