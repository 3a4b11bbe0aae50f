"""Our verdicts against those of fhir.resources (R4B): alike, but where the list of differences says otherwise."""

from __future__ import annotations

import copy
import importlib
import pkgutil
import random
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import ValidationError

from fhir_server.definitions import resource_types, structures
from fhir_server.errors import NotSupported
from fhir_server.resources import jsonformat, model
from fhir_server.resources.invariants import json_keys
from fhir_server.resources.validate import PUBLISHED_FAULTS, validate
from tests.support import examples

#: What R4B's models let pass and R4 does not: null anywhere, empty strings, arrays and objects (an object whose only
#: member is dropped is empty), blanks in uris, numbers as dates.
LAX = frozenset({"null", "empty string", "empty object", "empty array", "drop", "blank", "number", "other type"})


def test_types_without_model_are_the_listed_ones() -> None:
    for name in resource_types():
        if name in model.MISSING_TYPES:
            with pytest.raises(NotSupported):
                model.model_class(name)
        else:
            assert model.model_class(name).get_resource_type() == name


def test_unknown_type_has_no_model() -> None:
    with pytest.raises(NotSupported):
        model.model_class("Foo")


def test_members_differ_exactly_as_listed() -> None:
    import fhir.resources.R4B as package

    classes: dict[str, Any] = {}
    for info in pkgutil.iter_modules(package.__path__):
        if not info.ispkg and info.name != "fhirtypes":
            module = importlib.import_module(f"fhir.resources.R4B.{info.name}")
            classes.update({k: v for k, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__})
    compared = 0
    for owner, definition in structures().items():
        name = "".join(part[0].upper() + part[1:] for part in owner.split("."))
        if definition["kind"] in ("primitive", "profile") or name not in classes:
            continue
        compared += 1
        own = {"fhir_comments", "resource_type", "resourceType"}
        theirs = {field.alias or key for key, field in classes[name].model_fields.items()} - own
        ours = {key for element in definition["elements"] for key in json_keys(owner, element)}
        only_theirs = {key for key in theirs - ours if not key.startswith("_")}
        only_ours = {key for key in ours - theirs if not key.startswith("_")}
        assert only_theirs == model.ONLY_R4B.get(owner, set())
        assert only_ours == model.ONLY_R4.get(owner, set())
    assert compared > 550


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], dict[str, Any], str]]:
    """(path of the object, object, member) of everything in a resource but its contained and inner resources."""
    if isinstance(value, dict):
        for key in list(value):
            if key not in ("resourceType", "contained", "resource"):
                yield path, value, key
                yield from places(value[key], (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from places(item, (*path, index))


def spoil(resource: dict[str, Any], chance: random.Random) -> str:
    """Make one fault somewhere; its kind."""
    _, holder, key = chance.choice(list(places(resource)))
    value = holder[key]
    kind = chance.choice(["unknown", "wrap", "unwrap", *sorted(LAX)])
    match kind:
        case "unknown":
            holder["bogus"] = 1
        case "wrap":
            holder[key] = [value]
        case "unwrap":
            holder[key] = value[0] if isinstance(value, list) else {"x": value}
        case "null":
            holder[key] = None
        case "empty string":
            holder[key] = ""
        case "empty object":
            holder[key] = {}
        case "empty array":
            holder[key] = []
        case "drop":
            del holder[key]
        case "blank":
            holder[key] = f" {value}" if isinstance(value, str) else True
        case "number":
            holder[key] = jsonformat.FhirDecimal("1.5")
        case "other type":
            holder[key] = 5 if isinstance(value, str) else "x y"
    return kind


def is_refused_by_model(resource: dict[str, Any]) -> bool:
    try:
        model.to_model(resource)
    except (ValidationError, TypeError):
        # Some of its checks are surprised by lists (TypeError); that is a refusal, too.
        return True
    return False


def samples(limit: int) -> Iterator[dict[str, Any]]:
    """The smaller official examples of the types that have a model; of the many definitions every twentieth."""
    for number, (file, text) in enumerate(examples.texts()):
        many = file.startswith(("CodeSystem-", "SearchParameter-", "StructureDefinition-", "ValueSet-"))
        # The models refuse extensions on an extension's primitive value.
        if len(text) <= limit and not (many and number % 20) and b'"_value' not in text:
            resource = jsonformat.parse(text)
            if resource["resourceType"] not in (*model.MISSING_TYPES, "Evidence", "EvidenceVariable"):
                yield resource


def has_published_fault(resource: dict[str, Any]) -> bool:
    issues = validate(resource).warnings
    absent = {name.rpartition(".")[2] for name in PUBLISHED_FAULTS if "." in name}
    return any(issue.code == "required" and issue.expression[0].rpartition(".")[2] in absent for issue in issues)


@pytest.mark.slow
def test_official_examples_are_models_too() -> None:
    refused = [r["id"] for r in samples(60_000) if is_refused_by_model(r) and not has_published_fault(r)]
    assert refused == []


@pytest.mark.slow
def test_verdicts_on_faulty_copies_agree() -> None:
    chance = random.Random(4)
    compared = agreed = 0
    for original in samples(20_000):
        if has_published_fault(original):
            continue
        for _ in range(3):
            resource = copy.deepcopy(original)
            kind = spoil(resource, chance)
            ours, theirs = validate(resource, mode="strict").structural, is_refused_by_model(resource)
            compared += 1
            agreed += ours == theirs
            assert ours or not theirs, (kind, original["id"])
            if kind not in LAX:
                assert ours == theirs, (kind, original["id"])
    assert compared > 2_000
    assert agreed > compared * 0.8


def test_model_round_trip_keeps_content() -> None:
    patient = {"resourceType": "Patient", "id": "a", "birthDate": "1970-03-30", "name": [{"given": ["A"]}]}
    again = model.to_resource(model.to_model(patient))
    assert again["resourceType"] == "Patient"
    assert again["name"] == patient["name"]
    assert not validate(jsonformat.parse(jsonformat.encode({**again, "birthDate": str(again["birthDate"])}))).errors
