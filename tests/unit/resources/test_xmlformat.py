"""XML in and out. R4 xml.html."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.errors import BadRequest
from fhir_server.resources import jsonformat
from fhir_server.resources.validate import validate
from fhir_server.resources.xmlformat import encode, parse
from tests.support import examples
from tests.support.validation_cases import CASES, Case

NS = 'xmlns="http://hl7.org/fhir"'
DIV = 'xmlns="http://www.w3.org/1999/xhtml"'


def difference(a: Any, b: Any, path: str = "") -> str:
    """Where two resources differ, number literals included; order of members aside. "" when they are equal."""
    if type(a) is not type(b):
        return path or "type"
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return f"{path}: {sorted(a.keys() ^ b.keys())}"
        return next((found for key in a if (found := difference(a[key], b[key], f"{path}.{key}"))), "")
    if isinstance(a, list):
        if len(a) != len(b):
            return f"{path}: length"
        pairs = enumerate(zip(a, b, strict=True))
        return next((found for i, (x, y) in pairs if (found := difference(x, y, f"{path}[{i}]"))), "")
    if isinstance(a, jsonformat.FhirDecimal):
        return "" if a.text == b.text else path
    return "" if a == b else path


@pytest.mark.slow
def test_all_official_examples_survive_the_way_through_xml() -> None:
    differing = []
    for number, (file, text) in enumerate(examples.texts()):
        resource = jsonformat.parse(text)
        found = difference(resource, parse(encode(resource, pretty=number % 3 == 0)))
        if found:
            differing.append(f"{file}: {found}")
    assert differing == []


@pytest.mark.parametrize(
    "case", [pytest.param(c, id=name) for name, c in CASES if c.status == 201 and len(c.data) < 9_000]
)
def test_legal_resources_survive_the_way_through_xml(case: Case) -> None:
    resource = jsonformat.parse(case.data)
    assert difference(resource, parse(encode(resource))) == ""
    assert difference(resource, parse(encode(resource, pretty=True))) == ""


def test_elements_are_written_in_the_order_of_the_specification() -> None:
    text = encode({"resourceType": "Patient", "gender": "male", "active": True, "id": "a"}).decode()
    assert text == (
        '<?xml version="1.0" encoding="UTF-8"?>'
        f'<Patient {NS}><id value="a"/><active value="true"/><gender value="male"/></Patient>'
    )


def test_white_space_and_markup_in_strings_survive() -> None:
    resource = {"resourceType": "Patient", "name": [{"text": " a\n\t\r \"<&>' "}]}
    assert parse(encode(resource)) == resource


def test_characters_that_xml_cannot_hold_are_replaced() -> None:
    found = parse(encode({"resourceType": "Patient", "name": [{"text": "a\uffff"}]}))
    assert found["name"] == [{"text": "a\ufffd"}]


def test_values_ids_and_extensions_of_repeating_primitives_keep_their_places() -> None:
    text = f"""<Patient {NS}><name><given value="A"/>
        <given id="g"><extension url="u"><valueCode value="x"/></extension></given>
        <given value="C"/></name></Patient>"""
    assert parse(text.encode())["name"] == [
        {
            "given": ["A", None, "C"],
            "_given": [None, {"id": "g", "extension": [{"url": "u", "valueCode": "x"}]}, None],
        }
    ]


def test_comments_and_schema_locations_are_dropped() -> None:
    text = f"""<?xml version="1.0"?><!-- a --><Patient {NS} xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
        xsi:schemaLocation="http://hl7.org/fhir ../fhir-all.xsd"><!-- b --><active value="true"/></Patient>"""
    assert parse(text.encode()) == {"resourceType": "Patient", "active": True}


@pytest.mark.parametrize(
    ("xml", "div"),
    [
        (f"<div {DIV}>a &#160; <b>b</b><!-- c --></div>", f"<div {DIV}>a &#160; <b>b</b><!-- c --></div>"),
        (f'<div {DIV} title="&gt;>"/>', f'<div {DIV} title="&gt;>"/>'),
        (f"<div {DIV}><br/></div>", f"<div {DIV}><br/></div>"),
        (
            '<h:div xmlns:h="http://www.w3.org/1999/xhtml"><h:b>b</h:b></h:div>',
            '<h:div xmlns:h="http://www.w3.org/1999/xhtml"><h:b>b</h:b></h:div>',
        ),
    ],
)
def test_narratives_are_taken_over_byte_for_byte(xml: str, div: str) -> None:
    text = f'<Patient {NS}><text><status value="generated"/>{xml}</text></Patient>'
    assert parse(text.encode())["text"]["div"] == div


def test_narrative_whose_namespace_is_declared_outside_gets_the_declaration() -> None:
    narrative = '<text><status value="generated"/><h:div>x</h:div></text>'
    text = f'<Patient {NS} xmlns:h="http://www.w3.org/1999/xhtml">{narrative}</Patient>'
    found = parse(text.encode())
    assert found["text"]["div"] == '<h:div xmlns:h="http://www.w3.org/1999/xhtml">x</h:div>'
    assert not validate(found).errors


@pytest.mark.parametrize(
    ("value", "stored"), [("1.50", "1.50"), ("1e-7", "1e-7"), ("100", "100"), ("-0", "-0"), ("1" * 30, "1" * 30)]
)
def test_decimals_keep_their_literal(value: str, stored: str) -> None:
    text = f'<Basic {NS}><extension url="u"><valueDecimal value="{value}"/></extension></Basic>'
    assert f'"valueDecimal":{stored}}}'.encode() in jsonformat.encode(parse(text.encode()))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<Patient/>",
        "{}",
        f"<Patient {NS}>",
        f"<patient {NS}/>",
        f"<Citation {NS}/>",
        f'<!DOCTYPE x [<!ENTITY a "b">]><Patient {NS}><language value="&a;"/></Patient>',
        f'<!DOCTYPE x SYSTEM "file:///etc/passwd"><Patient {NS}/>',
        f'<?xml version="1.0" encoding="iso-8859-1"?><Patient {NS}/>',
        f"<?php x?><Patient {NS}/>",
        f'<Patient {NS} id="a"/>',
        f'<Patient {NS}><shoeSize value="1"/></Patient>',
        f'<Patient {NS}><active value="true" x="1"/></Patient>',
        f'<Patient {NS}><active value="true"/><active value="true"/></Patient>',
        f'<Patient {NS}><x:active xmlns:x="urn:x" value="true"/></Patient>',
        f"<Patient {NS}>text</Patient>",
        f'<Patient {NS}><text><status value="generated"/><div>x</div></text></Patient>',
        f"<Patient {NS}><contained><Patient/><Patient/></contained></Patient>",
        f"<Patient {NS}><contained><Foo/></contained></Patient>",
        f'<Patient {NS}><language value="&#8;"/></Patient>',
        f'<Patient {NS}><language value="&nbsp;"/></Patient>',
        f"<Patient {NS}>" + '<extension url="u">' * 10_000,
    ],
)
def test_what_is_no_resource_in_xml_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        parse(text.encode())


@pytest.mark.parametrize("element", ["<active/>", "<name/>", '<active value="yes"/>', '<active value=""/>'])
def test_what_xml_cannot_decide_is_left_to_the_validator(element: str) -> None:
    assert validate(parse(f"<Patient {NS}>{element}</Patient>".encode())).structural


def test_invalid_utf8_is_refused() -> None:
    with pytest.raises(BadRequest):
        parse(b'<Patient xmlns="http://hl7.org/fhir"><language value="\xff"/></Patient>')
