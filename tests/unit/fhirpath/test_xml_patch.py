"""XML Patch: RFC 5261 on R4's XML form."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from fhir_server.errors import BadRequest, FhirError, Unprocessable
from fhir_server.interactions.xmlpatch import apply
from fhir_server.resources.jsonformat import encode, parse

DIV = "<div xmlns='http://www.w3.org/1999/xhtml'><p>a&#160;b<br></br></p></div>"
PATIENT: dict[str, Any] = {
    "resourceType": "Patient",
    "id": "p",
    "text": {"status": "generated", "div": DIV},
    "active": True,
    "name": [{"use": "official", "family": "A", "given": ["x", "y"]}, {"use": "usual", "given": ["z"]}],
    "birthDate": "1970-01-01",
}


def diff(*operations: str) -> bytes:
    return f'<diff xmlns:f="http://hl7.org/fhir">{"".join(operations)}</diff>'.encode()


def patched(*operations: str) -> dict[str, Any]:
    before = copy.deepcopy(PATIENT)
    result = apply(PATIENT, diff(*operations))
    assert before == PATIENT
    return result


def changed(**members: Any) -> dict[str, Any]:
    return {key: value for key, value in {**PATIENT, **members}.items() if value is not None}


CASES: list[tuple[str, dict[str, Any]]] = [
    ('<replace sel="f:Patient/f:birthDate/@value">1980</replace>', {"birthDate": "1980"}),
    ('<replace sel="/f:Patient/f:active"><f:active value="false"/></replace>', {"active": False}),
    ('<add sel="f:Patient"><gender xmlns="http://hl7.org/fhir" value="male"/></add>', {"gender": "male"}),
    ('<add sel="f:Patient/f:name[2]"><f:family value="B"/></add>',
     {"name": [PATIENT["name"][0], {"use": "usual", "family": "B", "given": ["z"]}]}),
    ('<add sel="f:Patient/f:name[f:use/@value=\'official\']/f:given[1]" pos="after"><f:given value="w"/></add>',
     {"name": [{"use": "official", "family": "A", "given": ["x", "w", "y"]}, PATIENT["name"][1]]}),
    ('<add sel="*/f:name[1]/f:given[1]" pos="before"><f:given value="w"/></add>',
     {"name": [{"use": "official", "family": "A", "given": ["w", "x", "y"]}, PATIENT["name"][1]]}),
    ('<add sel="f:Patient/f:birthDate" type="@id">i</add>', {"_birthDate": {"id": "i"}}),
    ('<remove sel="f:Patient/f:name[1]"/>', {"name": [PATIENT["name"][1]]}),
    ('<remove sel="f:Patient/f:name/f:given[@value=\'y\']"/>',
     {"name": [{"use": "official", "family": "A", "given": ["x"]}, PATIENT["name"][1]]}),
    ('<remove sel="f:Patient/f:text"/>', {"text": None}),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "expected"), CASES)
def test_operations(operation: str, expected: dict[str, Any]) -> None:
    assert patched(operation) == changed(**expected)


def test_operations_follow_each_other() -> None:
    result = patched(
        '<remove sel="f:Patient/f:name[1]"/>', '<replace sel="f:Patient/f:name/f:use/@value">old</replace>'
    )
    assert result["name"] == [{"use": "old", "given": ["z"]}]


def test_a_narrative_is_replaced_as_a_whole_and_otherwise_keeps_its_bytes() -> None:
    new = '<div xmlns="http://www.w3.org/1999/xhtml"><p>new</p></div>'
    selector = 'xmlns:h="http://www.w3.org/1999/xhtml" sel="f:Patient/f:text/h:div'
    assert patched(f'<replace {selector}">{new}</replace>')["text"]["div"] == new
    assert patched('<remove sel="f:Patient/f:active"/>')["text"]["div"] == DIV
    inside = copy.deepcopy(PATIENT)
    with pytest.raises(Unprocessable):
        apply(inside, diff(f'<remove {selector}/h:p"/>'))


def test_decimals_keep_their_literals() -> None:
    text = b'{"resourceType":"Observation","status":"final","code":{"text":"c"},"valueQuantity":{"value":1.00}}'
    result = apply(parse(text), diff('<replace sel="f:Observation/f:status/@value">amended</replace>'))
    assert encode(result) == text.replace(b"final", b"amended")


@pytest.mark.parametrize(
    "operation",
    [
        '<remove sel="f:Patient/f:name"/>', '<remove sel="f:Patient/f:photo"/>', '<remove sel="f:Patient"/>',
        '<remove sel="Patient/name[1]"/>', '<remove sel="f:Patient/f:active/@id"/>',
         '<remove sel="f:Patient/f:name[3]"/>',
        '<replace sel="f:Patient/f:active/@id">x</replace>', '<add sel="f:Patient/f:active" type="@value">x</add>',
        '<add sel="f:Patient/f:active/@value">x</add>', '<add sel="f:Patient" pos="after"><f:id value="x"/></add>',
    ],
)  # fmt: skip
def test_what_does_not_fit_is_422(operation: str) -> None:
    with pytest.raises(Unprocessable):
        patched(operation)


@pytest.mark.parametrize(
    "document",
    [
        b"", b"<diff>", b"<patch/>", diff("<remove/>"), diff('<move sel="f:Patient/f:active"/>'),
        diff('<remove sel="//f:name"/>'), diff('<remove sel="f:Patient/f:name[last()]"/>'),
         diff('<remove sel="g:Patient"/>'),
        diff('<remove sel="f:Patient/f:name[count(//*) = 1]"/>'), diff('<remove sel="f:Patient/@class"/>'),
        diff('<replace sel="f:Patient/f:active"/>'), diff('<replace sel="f:Patient/f:active">text</replace>'),
        diff('<add sel="f:Patient" pos="within"><f:id value="x"/></add>'),
         diff('<add sel="f:Patient" type="namespace::x">x</add>'),
        diff('<add sel="f:Patient"><f:nothing value="x"/></add>'), diff('<remove sel="f:Patient/f:active/"/>'),
        b'<!DOCTYPE diff [<!ENTITY a "b">]><diff><remove sel="&a;"/></diff>',
        diff('<remove sel="f:Patient/f:active"/>' * 10_001),
    ],
)  # fmt: skip
def test_what_is_no_patch_is_400(document: bytes) -> None:
    with pytest.raises(FhirError) as caught:
        apply(PATIENT, document)
    assert isinstance(caught.value, BadRequest)
