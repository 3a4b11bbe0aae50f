"""All official examples of R4: what the server stores of them, and that it gives back what it got, digit for digit."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fhir_server.resources import jsonformat
from fhir_server.resources.validate import validate
from tests.support import examples


class Literal(str):
    """A number as it is written, different from a string of the same text."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Literal) and str.__eq__(self, other)

    __hash__ = str.__hash__


def literally(text: bytes) -> Any:
    """The JSON value with every number as its literal, and with members in order."""
    return json.loads(text, parse_float=Literal, parse_int=Literal, object_pairs_hook=list)


@pytest.mark.slow
def test_every_official_example_is_accepted_and_comes_back_equal() -> None:
    refused, changed, checked = [], [], 0
    for file, text in examples.texts():
        resource = jsonformat.parse(text)
        found = validate(resource)
        if found.errors:
            assert found.structural
            refused.append((file, [issue.expression for issue in found.errors]))
        if literally(jsonformat.encode(resource)) != literally(text):
            changed.append(file)
        checked += 1
    assert refused == [(examples.REFUSED, [("SearchParameter.id",)])]
    assert changed == []
    assert checked == 5_306


@pytest.mark.slow
def test_strict_validation_refuses_only_published_faults() -> None:
    """What strict validation finds more is what docs/validation.md names, and four references to wrong types."""
    found: dict[str, set[str]] = {}
    for file, text in examples.texts():
        for issue in validate(jsonformat.parse(text), mode="strict").errors:
            rule = (
                issue.diagnostics.partition(":")[0] if issue.code == "invariant" else issue.expression[0].split(".")[-1]
            )
            found.setdefault(rule.split("[")[0], set()).add(file.partition("-")[0])
    references = {"parent", "reasonReference", "performer"}
    assert found.keys() == references | {
        "accept",
        "base",
        "bdl-7",
        "contentType",
        "format",
        "id",
        "linkId",
        "name",
        "sdf-4",
        "status",
        "txt-2",
    }
    assert found["base"] == {"SearchParameter"}
    assert found["linkId"] == {"Questionnaire"}
    assert found["name"] == found["status"] == {"ImplementationGuide", "ig"}
