"""Where a resource points at content, for every element of R4. binary.html#security, datatypes.html#Attachment.

The places are those of the official StructureDefinitions, not of the tables that the code is made of.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from fhir_server import definitions
from fhir_server.resources import content
from tests.support import examples

JSON = dict[str, Any]
BASES = ("https://hestia.example/fhir", "http://localhost:8080/fhir")
URL = "Binary/b"
EXTENSION = {"extension": [{"url": "http://example.org/scan", "valueAttachment": {"url": URL}}]}
ABOUT_OTHERS = ("AuditEvent.", "Provenance.", "Binary.")
MENTIONS = ("Consent.provision.data.reference", "Linkage.item.resource", "MeasureReport.evaluatedResource")
TARGET = ("VerificationResult.target",)


@cache
def snapshot(name: str) -> list[JSON]:
    """The elements of the official definition of a type."""
    path = examples.directory() / f"StructureDefinition-{name}.json"
    elements: list[JSON] = json.loads(path.read_bytes())["snapshot"]["element"]
    return elements[1:]


def values(element: JSON) -> Iterator[tuple[str, JSON, bool]]:
    """(what follows the element's name in JSON, value, whether it points) of each type of an element."""
    if "contentReference" in element:
        yield "", EXTENSION, True
    for type_ in element.get("type", ()):
        code = type_["code"]
        suffix = code[0].upper() + code[1:] if element["path"].endswith("[x]") else ""
        if code == "Attachment":
            yield suffix, {"url": URL}, True
        elif code == "Reference":
            targets = {profile.rpartition("/")[2] for profile in type_.get("targetProfile", ())}
            yield suffix, {"reference": URL}, not targets or bool(targets & {"Resource", "Binary"})
        if code[0].isupper() and code not in ("Resource", "Extension"):
            yield suffix, EXTENSION, True


def primitives(element: JSON) -> Iterator[str]:
    """What follows the name of an element, for each of its types that is primitive and may be extended."""
    for type_ in element.get("type", ()):
        code = type_["code"]
        if code[0].islower() and code != "xhtml":
            yield code[0].upper() + code[1:] if element["path"].endswith("[x]") else ""


def within(name: str, path: str, key: str, value: Any) -> JSON:
    """An element of the type `name` with `value` at `path`, whose last step is `key`."""
    many = {one["path"]: one["max"] != "1" for one in snapshot(name)}
    steps = path.split(".")
    made: Any = value
    for depth in range(len(steps) - 1, 0, -1):
        here = ".".join(steps[: depth + 1])
        if many[here]:
            made = [None, made] if key.startswith("_") and depth == len(steps) - 1 else [made]
        made = {key if depth == len(steps) - 1 else steps[depth]: made}
    found: JSON = made
    return found


def places(name: str) -> Iterator[tuple[str, JSON, bool]]:
    """(FHIRPath, an element of the type with a pointer there, whether it is one) for every place of a type."""
    for element in snapshot(name):
        path = element["path"]
        step = path.rpartition(".")[2].removesuffix("[x]")
        for suffix, value, points in values(element):
            if (value is EXTENSION and path in (*MENTIONS, *TARGET)) or step == "extension":
                continue
            yield f"{path}{suffix}", within(name, path, step + suffix, value), points
        if step != "id" or path.count(".") == 1:
            for suffix in primitives(element):
                yield f"{path}.{suffix}", within(name, path, f"_{step}{suffix}", EXTENSION), True


@pytest.mark.parametrize("name", definitions.resource_types())
def test_every_place_of_every_type(name: str) -> None:
    for path, element, points in places(name):
        if path.startswith(ABOUT_OTHERS) or path in (*MENTIONS, *TARGET):
            points = False
        found = content.binaries({"resourceType": name, **element}, BASES)
        assert found == ([URL] if points else []), path


@pytest.mark.parametrize(
    "name",
    sorted(
        one["code"]
        for element in snapshot("Extension")
        if element["path"] == "Extension.value[x]"
        for one in element["type"]
        if one["code"][0].isupper()
    ),
)
def test_every_place_of_every_data_type(name: str) -> None:
    for path, element, points in places(name):
        extension = {"url": "http://example.org/x", f"value{name}": element}
        found = content.binaries({"resourceType": "Patient", "extension": [extension]}, BASES)
        assert found == ([URL] if points else []), path


def test_the_definitions_have_as_many_places_as_are_known() -> None:
    """Else the tests above would prove nothing."""
    found = [
        path for name in definitions.resource_types() for path, element, _ in places(name) if "url" in str(element)
    ]
    assert len(found) > 5_000
    direct = {
        path
        for name in definitions.resource_types()
        for path, element, points in places(name)
        if points and "extension" not in str(element)
    }
    assert {
        "Media.content",
        "DiagnosticReport.presentedForm",
        "Communication.payload.content[x]Attachment",
        "Consent.source[x]Attachment",
        "Patient.photo",
        "Practitioner.photo",
        "QuestionnaireResponse.item.answer.value[x]Attachment",
        "Contract.legal.content[x]Attachment",
        "List.entry.item",
        "Task.output.value[x]Reference",
        "ImplementationGuide.definition.page.name[x]Reference",
    } <= direct
    assert len(direct) > 90


@pytest.mark.parametrize(
    "url, found",
    [
        ("Binary/b", [URL]),
        ("Binary/b/_history/2", [URL]),
        ("https://hestia.example/fhir/Binary/b", [URL]),
        ("https://hestia.example/fhir/Binary/b/_history/2", [URL]),
        ("http://localhost:8080/fhir/Binary/b", [URL]),
        ("https://elsewhere.example/fhir/Binary/b", []),
        ("https://hestia.example/fhir/other/Binary/b", []),
        ("https://hestia.example/fhirBinary/b", []),
        ("/fhir/Binary/b", []),
        ("./Binary/b", []),
        ("Binary/b ", []),
        ("Binary/b\n", []),
        ("Binary/b?_format=json", []),
        ("Binary/b#x", []),
        ("Binary?_id=b", []),
        ("binary/b", []),
        ("Binary/", []),
        ("Binary/" + "b" * 65, []),
        ("NotBinary/b", []),
        ("DocumentReference/Binary/b", []),
        ("urn:uuid:6f0c9a7e-3a75-4f2f-8b5e-0d4b5d0a0001", []),
        ("#b", []),
        (7, []),
    ],
)
def test_forms_of_urls(url: Any, found: list[str]) -> None:
    assert content.binaries({"resourceType": "Media", "content": {"url": url}}, BASES) == found
    assert content.binaries({"resourceType": "Task", "focus": {"reference": url}}, BASES) == found


@pytest.mark.parametrize(
    "resource, found",
    [
        # Contained resources are part of their container, and mention as they would outside.
        ({"contained": [{"resourceType": "Media", "id": "m", "content": {"url": URL}}]}, [URL]),
        ({"contained": [{"resourceType": "Media", "contained": [{"resourceType": "Media", "content": {"url": URL}}]}]},
         [URL]),
        ({"contained": [{"resourceType": "Provenance", "target": [{"reference": URL}]}]}, []),
        ({"contained": [{"resourceType": "Binary", "securityContext": {"reference": URL}}]}, []),
        ({"contained": [{"resourceType": "Other", "content": {"url": URL}}]}, []),
        ({"contained": [{"resourceType": 7, "content": {"url": URL}}, None, "x"]}, []),
        ({"contained": {"resourceType": "Media", "content": {"url": URL}}}, []),
        # A document that is embedded is no pointer; elements that a type does not have say nothing.
        ({"photo": [{"data": "QmluYXJ5L2I="}, {"title": URL}]}, []),
        ({"content": {"url": URL}, "note": [{"text": URL}], "text": {"div": f"<a href='{URL}'/>"}}, []),
        # Many levels deep, and each once.
        ({"extension": [{"url": "a", "extension": [{"url": "b", "extension": [
            {"url": "c", "valueReference": {"reference": URL}}]}]}]}, [URL]),
        ({"managingOrganization": {"identifier": {"assigner": {"_display": {"extension": [
            {"url": "a", "valueAttachment": {"url": URL}}]}}}}}, [URL]),
        ({"photo": [{"url": "Binary/c"}, {"url": URL}, {"url": "Binary/c/_history/1"}]}, ["Binary/c", URL]),
    ],
)  # fmt: skip
def test_nesting(resource: JSON, found: list[str]) -> None:
    assert content.binaries({"resourceType": "Patient", **resource}, BASES) == found


def test_recursive_items() -> None:
    answer: JSON = {"linkId": "3", "answer": [{"valueAttachment": {"url": URL}}]}
    nested = {"linkId": "1", "answer": [{"valueBoolean": True, "item": [{"linkId": "2", "item": [answer]}]}]}
    assert content.binaries({"resourceType": "QuestionnaireResponse", "item": [nested]}, BASES) == [URL]


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Media", "content": {"url": URL}}}]},
        {"resourceType": "Parameters", "parameter": [{"resource": {"resourceType": "Media", "content": {"url": URL}}}]},
    ],
)
def test_copies_of_other_resources_are_no_pointers(resource: JSON) -> None:
    assert content.binaries(resource, BASES) == []
