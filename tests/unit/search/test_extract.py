"""Index entries of resources. R4 search.html, the table of each parameter type; every official example."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fhir_server.fhirpath import compile_expression
from fhir_server.owned import pointed_at
from fhir_server.search.ast import CONTAINED
from fhir_server.search.extract import Extractor, ReferenceKeys
from fhir_server.search.registry import builtin, content_number
from fhir_server.search.values import MAX_WORDS, WORD_LENGTH
from tests.support import examples
from tests.support.shelf import BASE, DEFAULT, parsed, settings

EXTRACTOR = Extractor(builtin(), settings(fulltext=False))


def entries(resource: dict[str, Any], address: str | None = None) -> dict[str, list[tuple[Any, ...]]]:
    """Entries of a resource by code of their parameter and variant, ``code`` or ``code:1``."""
    (document, *_) = EXTRACTOR.documents(resource, address or f"{resource['resourceType']}/1")
    codes = {param.number: code for code, param in builtin().params(document.type).items() if param.stored}
    found: dict[str, list[tuple[Any, ...]]] = {}
    for number, *rest in (*document.keys, *document.ranges):
        variant = number % 16
        name = codes[number - variant] + (f":{variant}" if variant else "")
        found.setdefault(name, []).append(tuple(rest))
    return found


def test_the_entries_of_an_observation() -> None:
    observation = parsed(
        """{"resourceType": "Observation", "id": "1", "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4", "display": "Heart rate"}],
        "text": "Heart rate"},
        "subject": {"reference": "Patient/p", "display": "Eve"}, "effectiveDateTime": "2020-01-02",
        "valueQuantity": {"value": 60.0, "unit": "beats", "system": "http://unitsofmeasure.org", "code": "/min"}}"""
    )
    ucum = "\x1fhttp://unitsofmeasure.org\x1f"
    assert entries(observation) == {
        "code": [("8867-4\x1fhttp://loinc.org",)],
        "code:1": [("heart rate\x1fHeart rate",)],
        "status": [("final\x1ehttp://hl7.org/fhir/observation-status",)],
        "subject": [("Patient/p",)],
        "subject:1": [("eve\x1fEve",)],
        "date": [("0", 1_577_923_200_000_000, 1_578_009_600_000_000, "")],
        "value-quantity": [("=", "250016", "250016", f"/min{ucum}beats")],
        "value-quantity:4": [("=", "250001", "250001", f"s-1{ucum}")],
        "code-value-quantity": [("8867-4\x1fhttp://loinc.org\x1d=", "250016", "250016", f"/min{ucum}beats")],
    }


def test_contained_resources_are_documents_of_their_own() -> None:
    resource = {
        "resourceType": "Observation",
        "id": "1",
        "contained": [
            {"resourceType": "Patient", "id": "p", "managingOrganization": {"reference": "#o"}, "birthDate": "2000"},
            {"resourceType": "Organization", "id": "o", "name": "Acme"},
            {"resourceType": "Device", "id": "d", "patient": {"reference": "#p"}, "parent": {"reference": "#"}},
        ],
        "subject": {"reference": "#p"},
        "device": {"reference": "#d"},
    }
    own, patient, organization, device = EXTRACTOR.documents(resource, "Observation/1")
    params = builtin().params
    assert (params("Observation")["subject"].number, "Observation/1#p") in own.keys
    assert (patient.address, patient.type) == ("Observation/1#p", "Patient")
    assert patient.keys == [
        (params("Patient")["deceased"].number | CONTAINED, "false\x1f"),
        (params("Patient")["organization"].number | CONTAINED, "Observation/1#o"),
    ]
    assert [entry[0] for entry in patient.ranges] == [params("Patient")["birthdate"].number | CONTAINED]
    assert (params("Organization")["name"].number | CONTAINED, "acme\x1fAcme") in organization.keys
    assert device.keys == [(params("Device")["patient"].number | CONTAINED, "Observation/1#p")]


@pytest.mark.parametrize(
    "reference, key, named",
    [
        ("Patient/1", "Patient/1", "Patient"),
        ("Patient/1/_history/2", "Patient/1", "Patient"),
        (f"{BASE}/Patient/1", "Patient/1", "Patient"),
        (f"{BASE}/Patient/1/_history/7", "Patient/1", "Patient"),
        ("http://localhost:8080/fhir/Patient/1", "Patient/1", "Patient"),
        ("http://elsewhere/fhir/Patient/1", "http://elsewhere/fhir/Patient/1", "Patient"),
        ("http://elsewhere/fhir/Patient/1/_history/3", "http://elsewhere/fhir/Patient/1/_history/3", "Patient"),
        ("http://elsewhere/Nonsense/1", "http://elsewhere/Nonsense/1", ""),
        ("urn:uuid:6f0c9a7e-3a75-4f2f-8b5e-0d4b5d0a0001", "urn:uuid:6f0c9a7e-3a75-4f2f-8b5e-0d4b5d0a0001", ""),
        ("Nonsense/1", "Nonsense/1", ""),
    ],
)
def test_references_as_keys(reference: str, key: str, named: str) -> None:
    assert ReferenceKeys(DEFAULT.base_urls).key(reference) == (key, named)


def test_what_a_resource_points_at_is_an_entry_of_its_own_document() -> None:
    """The container's, too, for what it contains; without the bit of contained entries, since nobody searches by it."""
    resource = {
        "resourceType": "Patient",
        "photo": [{"url": f"{BASE}/Binary/1/_history/2"}, {"url": "Binary/1"}],
        "contained": [{"resourceType": "Media", "id": "m", "content": {"url": "Binary/2"}}],
    }
    number = content_number("Patient")
    own, inner = EXTRACTOR.documents(resource, "Patient/1")
    assert [entry for entry in own.keys if entry[0] == number] == [(number, "Binary/1"), (number, "Binary/2")]
    assert not any(str(key).startswith("Binary/") for _, key in inner.keys)
    assert pointed_at((own, inner)) == {"Binary/1", "Binary/2"}


def test_entries_are_not_repeated() -> None:
    telecom = {"system": "phone", "value": "1"}
    found = entries(
        {
            "resourceType": "Patient",
            "telecom": [telecom, telecom],
            "name": [{"family": "A"}, {"family": "a"}, {"family": "A"}],
        }
    )
    assert found["phone"] == [("1\x1f",)]
    assert found["family"] == [("a\x1fA",), ("a",)]


def test_nulls_in_arrays_of_primitives_are_passed_over() -> None:
    found = entries(
        {"resourceType": "Patient", "name": [{"given": ["A", None, "C"], "_given": [None, {"id": "x"}, None]}]}
    )
    assert found["given"] == [("a\x1fA",), ("c\x1fC",)]


def test_the_first_resource_of_a_document_is_referred_to() -> None:
    bundle = {
        "resourceType": "Bundle",
        "type": "document",
        "entry": [{"resource": {"resourceType": "Composition", "id": "c"}}],
    }
    assert entries(bundle)["composition"] == [("Composition/c",)]
    assert "message" not in entries(bundle)


@pytest.mark.parametrize(
    "value",
    [
        {"effectiveDateTime": "0001-01-01T00:00:00+14:00"},
        {"effectiveDateTime": "9999-12-31T23:59:60Z"},
        {"effectivePeriod": {"start": "2020-01-02", "end": "2020-01-01"}},
        {"effectivePeriod": {}},
        {"effectiveInstant": "2020-01-01T00:00:00.123456789123Z"},
        {"effectiveTiming": {"event": ["2020", None], "_event": [None, {"id": "x"}]}},
        {"valueQuantity": {"value": 10**400}},
        {"valueQuantity": {"value": parsed("1e-99999999")}},
        {"valueQuantity": {"value": parsed("1e400"), "code": "mg", "system": "http://unitsofmeasure.org"}},
        {"valueQuantity": {"value": int("9" * 4000) * 10**4000}},
        {"valueQuantity": {"value": int("9" * 4000) * 10**4000, "code": "mg", "system": "http://unitsofmeasure.org"}},
        {"valueSampledData": {"origin": {"value": parsed("1e99999999")}, "period": 1, "dimensions": 1, "data": "1 2"}},
        {"valueSampledData": {"origin": {"value": 1}, "period": 1, "dimensions": 1, "data": "1e99999999 2"}},
        {"valueRange": {}},
        {"valueSampledData": {"origin": {"value": 1}, "period": 1, "dimensions": 1}},
        {"valueSampledData": {"origin": {}, "period": 1, "dimensions": 1, "data": "E x NaN 1e5"}},
    ],
)
def test_odd_values_do_not_fail(value: dict[str, Any]) -> None:
    document = EXTRACTOR.documents(
        {"resourceType": "Observation", "id": "1", "code": {"coding": [{"code": "c"}]}, **value}, "Observation/1"
    )[0]
    for entry in document.ranges:
        assert isinstance(entry[2], str) or -(2**63) <= entry[2] < entry[3] < 2**63


def test_a_megabyte_of_words_in_a_name_costs_no_more_than_its_bounds() -> None:
    text = "word " * 200_000 + "last"
    found = entries({"resourceType": "Patient", "name": [{"text": text}]})
    assert len(found["name:5"]) <= MAX_WORDS
    assert all(len(key) <= WORD_LENGTH for (key,) in found["name:5"])
    assert found["phonetic:5"] == [("ART",), ("FRT",)]


# --- the official examples --------------------------------------------------------------------------------------------


@cache
def files() -> list[Path]:
    return sorted(
        path
        for path in examples.directory().glob("*.json")
        if path.name != "package.json" and not path.name.startswith(".")
    )


@pytest.mark.slow
def test_every_example_is_extracted_by_every_parameter_that_its_content_feeds() -> None:
    """What the FHIRPath engine finds for a parameter's expression has entries, and nothing else has."""
    registry = builtin()
    missing: Counter[str] = Counter()
    fed: set[tuple[str, str]] = set()
    seen = 0
    for path in files():
        resource = parsed(path.read_bytes())
        type_name = resource.get("resourceType")
        if type_name not in registry.types:
            continue
        seen += 1
        documents = EXTRACTOR.documents(resource, f"{type_name}/{resource['id']}")
        numbers = {entry[0] - entry[0] % 8 for entry in (*documents[0].keys, *documents[0].ranges)}
        if path.stat().st_size > 1_000_000:
            continue
        for code, param in registry.params(type_name).items():
            if not param.stored or not param.expression:
                continue
            values = evaluated(param.expression, type_name, resource)
            indexable = any(has_value(param, item, resource) for item in values)
            if indexable:
                fed.add((type_name, code))
            if indexable != (param.number in numbers):
                missing[f"{type_name}.{code} of {path.name}: engine {indexable}"] += 1
    assert not missing, f"{len(missing)}: {list(missing)[:20]}"
    assert seen > 5000
    assert len(fed) > 1300


def evaluated(expression: str, type_name: str, resource: dict[str, Any]) -> list[Any]:
    keys = ReferenceKeys(DEFAULT.base_urls)

    def resolve(reference: str) -> dict[str, Any] | None:
        if reference.startswith("#"):
            return next((one for one in resource.get("contained", ()) if one.get("id") == reference[1:]), None)
        named = keys.key(reference)[1]
        return {"resourceType": named} if named else None

    compiled = compile_expression(expression, type_name)
    return list(compiled.evaluate(resource, resource=resource, resolve=resolve))


def has_value(param: Any, item: Any, resource: dict[str, Any]) -> bool:
    """Whether an element that the engine found can be indexed by a parameter of this type."""
    if param.type == "reference" and isinstance(item.value, dict) and "resourceType" in item.value:
        return item.value["resourceType"] in param.targets and "id" in item.value
    keys: list[Any] = []
    ranges: list[Any] = []
    if param.usage == "nearby":
        EXTRACTOR._position(item.value, 0, keys, ranges, ("X/1", {}))
    else:
        EXTRACTOR._evaluated(param, [item], keys, ranges, ("X/1", {}), resource)
    return bool(keys or ranges)
