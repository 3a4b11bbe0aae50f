"""Faulty and legal writes and what R4 makes of them: one table for the validator's own tests and for those over HTTP.

A case is a body (a resource, or bytes where JSON itself is at fault), the status that a write of it has (201, 400 or
422), and the FHIRPath of one element that a finding points at. `strict` is the status under strict validation where it
is another one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'
UCUM = "http://unitsofmeasure.org"
UUID = "urn:uuid:c757873d-ec9a-4326-a141-556f43239520"


@dataclass(frozen=True)
class Case:
    name: str
    body: Any
    status: int
    at: str = ""
    warns: bool = False
    strict: int = 0

    @property
    def data(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def patient(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Patient", **more}


def observation(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "status": "final", "code": {"text": "x"}, **more}


def extension(**value: Any) -> dict[str, Any]:
    return {"url": "http://example.org/x", **value}


def narrative(inner: str, root: str = XHTML) -> dict[str, Any]:
    return patient(text={"status": "generated", "div": f"<div {root}>{inner}</div>"})


def questionnaire(**item: Any) -> dict[str, Any]:
    return {"resourceType": "Questionnaire", "status": "draft", "item": [{"linkId": "1", "type": "string", **item}]}


def bundle(kind: str, *entries: Any, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, **({"entry": list(entries)} if entries else {}), **more}


def nested(levels: int) -> dict[str, Any]:
    inner = extension(valueBoolean=True)
    for _ in range(levels - 1):
        inner = extension(extension=[inner])
    return patient(extension=[inner])


def text_of(length: int) -> str:
    return "a" * length


def effect_estimate(unit: dict[str, Any]) -> dict[str, Any]:
    return {
        "resourceType": "EffectEvidenceSynthesis",
        "status": "draft",
        **{name: {"reference": "EvidenceVariable/1"} for name in ("population", "exposure", "outcome")},
        "exposureAlternative": {"reference": "EvidenceVariable/1"},
        "effectEstimate": [{"unitOfMeasure": unit}],
    }


PRACTITIONER = {"resourceType": "Practitioner", "id": "p"}
TO_PRACTITIONER = [{"reference": "#p"}]

# --- JSON itself: json.html, RFC 8259 ---------------------------------------------------------------------------------

SYNTAX = [
    Case("nothing", b"", 400),
    Case("no JSON", b"<Patient/>", 400),
    Case("text after the value", b'{"resourceType":"Patient"} x', 400),
    Case("two values", b'{"resourceType":"Patient"}{}', 400),
    Case("trailing comma", b'{"resourceType":"Patient",}', 400),
    Case("comment", b'{"resourceType":"Patient"/* */}', 400),
    Case("single quotes", b"{'resourceType':'Patient'}", 400),
    Case("byte order mark", b'\xef\xbb\xbf{"resourceType":"Patient"}', 400),
    Case("UTF-16", '{"resourceType":"Patient"}'.encode("utf-16"), 400),
    Case("invalid UTF-8", b'{"resourceType":"Patient","language":"\xff"}', 400),
    Case("lone surrogate", b'{"resourceType":"Patient","implicitRules":"\\ud800"}', 400),
    Case("encoded surrogate", b'{"resourceType":"Patient","implicitRules":"\xed\xa0\x80"}', 400),
    Case("U+0000 escaped", b'{"resourceType":"Patient","name":[{"text":"a\\u0000"}]}', 400),
    Case("U+0000 raw", b'{"resourceType":"Patient","name":[{"text":"a\x00"}]}', 400),
    Case("control character escaped", b'{"resourceType":"Patient","name":[{"text":"a\\u001f"}]}', 400),
    Case("backspace", b'{"resourceType":"Patient","name":[{"text":"a\\b"}]}', 400),
    Case("raw line feed in a string", b'{"resourceType":"Patient","name":[{"text":"a\n"}]}', 400),
    Case("duplicate member", b'{"resourceType":"Patient","active":true,"active":true}', 400, "Patient.active"),
    Case(
        "duplicate member, escaped name",
        b'{"resourceType":"Patient","active":true,"\\u0061ctive":true}',
        400,
        "Patient.active",
    ),
    Case(
        "duplicate member inside, blanks before the colon",
        b'{"resourceType":"Patient","name":[{"text":"a:\\":", "text" : "b"}]}',
        400,
        "Patient.name[0].text",
    ),
    Case(
        "duplicate member, colons escaped elsewhere",
        b'{"resourceType":"Patient","name":[{"text":"\\u003a"}],"active":true,"active":false}',
        400,
        "Patient.active",
    ),
    Case("NaN", b'{"resourceType":"Observation","valueQuantity":{"value":NaN}}', 400),
    Case("leading zero", b'{"resourceType":"Patient","multipleBirthInteger":01}', 400),
    Case("plus sign", b'{"resourceType":"Patient","multipleBirthInteger":+1}', 400),
    Case("exponent beyond all bounds", b'{"resourceType":"Basic","extension":[{"valueDecimal":1E400000000}]}', 400),
    Case("array at the root", b"[]", 400),
    Case("null at the root", b"null", 400),
    Case("string at the root", b'"Patient"', 400),
    Case("no resourceType", {"active": True}, 400),
    Case("resourceType is a number", {"resourceType": 1}, 400),
    Case("resourceType of R5", {"resourceType": "Citation"}, 400),
    Case("resourceType is a data type", {"resourceType": "HumanName"}, 400),
    Case("resourceType is abstract", {"resourceType": "DomainResource"}, 400),
    Case("10,000 nested arrays", b'{"resourceType":"Patient","name":' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400),
    Case(
        "10,000 nested extensions",
        b'{"resourceType":"Patient","extension":' + b'[{"url":"u","extension":' * 10_000 + b"1" + b"}]" * 10_000 + b"}",
        400,
    ),
    Case("emoji, Arabic, Chinese", patient(name=[{"text": "😀 محمد 王小明"}]), 201),
    Case("surrogate pair escaped", b'{"resourceType":"Patient","name":[{"text":"\\ud83d\\ude00"}]}', 201),
    Case("tab, line feed, carriage return", patient(name=[{"text": "a\tb\r\nc"}]), 201),
    Case("an escaped backslash before b", patient(name=[{"text": "C:\\bin"}]), 201),
    Case("quote and colon in a string", b'{"resourceType":"Patient","name":[{"text":"\\u0022\\u003a \\": :"}]}', 201),
]

# --- unknown members, types, cardinality: 400 -------------------------------------------------------------------------

STRUCTURE = [
    Case("id of an element with a blank", patient(name=[{"id": "a b", "text": "x"}]), 400, "Patient.name[0].id"),
    Case("id of a primitive with a blank", patient(gender="male", _gender={"id": "a b"}), 400, "Patient.gender.id"),
    Case("id of an element with other characters", patient(name=[{"id": "a_b:c/d", "text": "x"}]), 201),
    Case(
        "CapabilityStatement without format",
        {
            "resourceType": "CapabilityStatement",
            "status": "draft",
            "date": "2020",
            "kind": "requirements",
            "description": "x",
            "fhirVersion": "4.0.1",
            "rest": [{"mode": "server"}],
        },
        400,
        "CapabilityStatement.format",
    ),
    Case("unknown element", patient(shoeSize=43), 400, "Patient.shoeSize"),
    Case("unknown element in a data type", patient(name=[{"nick": "x"}]), 400, "Patient.name[0].nick"),
    Case(
        "unknown element in a backbone element",
        patient(contact=[{"x": 1, "name": {"text": "y"}}]),
        400,
        "Patient.contact[0].x",
    ),
    Case(
        "unknown element in an extension",
        patient(extension=[extension(valueBoolean=True, x=1)]),
        400,
        "Patient.extension[0].x",
    ),
    Case("unknown element with a strange name", patient(**{"a b\n": 1}), 400, "Patient"),
    Case("element of another type", patient(status="final"), 400, "Patient.status"),
    Case("element of DSTU2", observation(comments="x"), 400, "Observation.comments"),
    Case("comments of DSTU2", patient(fhir_comments=["x"]), 400, "Patient.fhir_comments"),
    Case(
        "element of R4B: subjectCanonical",
        {"resourceType": "PlanDefinition", "status": "draft", "subjectCanonical": "http://x"},
        400,
    ),
    Case(
        "element of R4B: Evidence.assertion",
        {
            "resourceType": "Evidence",
            "status": "draft",
            "exposureBackground": {"reference": "EvidenceVariable/1"},
            "assertion": "x",
        },
        400,
        "Evidence.assertion",
    ),
    Case("element of R5: Observation.triggeredBy", observation(triggeredBy=[{}]), 400, "Observation.triggeredBy"),
    Case("resourceType in a data type", patient(name=[{"resourceType": "HumanName", "text": "x"}]), 400),
    Case("_ sibling of a complex element", patient(_name=[{"id": "x"}]), 400, "Patient._name"),
    Case("_ sibling of id", patient(id="a", _id={"extension": [extension(valueBoolean=True)]}), 400, "Patient._id"),
    Case("choice without type", observation(value="x"), 400, "Observation.value"),
    Case("choice literally value[x]", observation(**{"value[x]": "x"}), 400),
    Case("choice of a type that is not allowed", observation(valueDecimal=1), 400, "Observation.valueDecimal"),
    Case("choice of a type of R5", patient(extension=[extension(valueInteger64=1)]), 400),
    Case("choice of a type of R4B", patient(extension=[extension(valueCodeableReference={})]), 400),
    Case("two types of a choice", observation(valueString="x", valueBoolean=True), 400, "Observation.value"),
    Case(
        "two types of a choice, one only an extension",
        observation(valueString="x", _valueBoolean={"extension": [extension(valueBoolean=True)]}),
        400,
        "Observation.value",
    ),
    Case("required element absent", {"resourceType": "Observation", "status": "final"}, 400, "Observation.code"),
    Case("required code absent", {"resourceType": "Observation", "code": {"text": "x"}}, 400, "Observation.status"),
    Case("required choice absent", {"resourceType": "MedicationRequest"}, 400, "MedicationRequest.medication"),
    Case(
        "required element of a data type absent",
        patient(extension=[{"valueBoolean": True}]),
        400,
        "Patient.extension[0].url",
    ),
    Case("required element of a backbone absent", patient(link=[{"type": "seealso"}]), 400, "Patient.link[0].other"),
    Case("required array absent", {"resourceType": "Linkage"}, 400, "Linkage.item"),
    Case("required value only by extension", {**observation(), "status": None}, 400, "Observation.status"),
    Case(
        "required primitive without value, with extension",
        {
            "resourceType": "Observation",
            "code": {"text": "x"},
            "_status": {"extension": [extension(valueCode="unknown")]},
        },
        201,
    ),
    Case("array where one is allowed", patient(gender=["male"]), 400, "Patient.gender"),
    Case("array of objects where one is allowed", patient(maritalStatus=[{"text": "x"}]), 400, "Patient.maritalStatus"),
    Case("object where many are allowed", patient(name={"text": "x"}), 400, "Patient.name"),
    Case("string where many are allowed", patient(name=[{"given": "x"}]), 400, "Patient.name[0].given"),
    Case("array in an array", patient(name=[[{"text": "x"}]]), 400, "Patient.name[0]"),
    Case("string for an object", patient(maritalStatus="M"), 400, "Patient.maritalStatus"),
    Case("object for a string", patient(gender={"value": "male"}), 400, "Patient.gender"),
    Case("string in an array of objects", patient(name=["x"]), 400, "Patient.name[0]"),
    Case("empty string", patient(name=[{"text": ""}]), 400, "Patient.name[0].text"),
    Case("empty array", patient(name=[]), 400, "Patient.name"),
    Case("empty array of primitives", patient(name=[{"given": []}]), 400, "Patient.name[0].given"),
    Case("empty object", patient(maritalStatus={}), 400, "Patient.maritalStatus"),
    Case("empty object in an array", patient(name=[{}]), 400, "Patient.name[0]"),
    Case("null", patient(active=None), 400, "Patient.active"),
    Case("null for an object", patient(maritalStatus=None), 400, "Patient.maritalStatus"),
    Case("null for an array", patient(name=None), 400, "Patient.name"),
    Case("null in an array of objects", patient(name=[None]), 400, "Patient.name[0]"),
    Case("nothing but a type", patient(), 201, warns=True),
    Case("modifierExtension of a resource", patient(modifierExtension=[extension(valueBoolean=True)]), 201),
    Case(
        "modifierExtension of a backbone element",
        patient(contact=[{"name": {"text": "x"}, "modifierExtension": [extension(valueBoolean=True)]}]),
        201,
    ),
    Case(
        "modifierExtension of a data type",
        patient(name=[{"text": "x", "modifierExtension": [extension(valueBoolean=True)]}]),
        400,
    ),
    Case(
        "an element named resourceType",
        {
            "resourceType": "ExampleScenario",
            "status": "draft",
            "instance": [{"resourceId": "a", "resourceType": "Patient"}],
        },
        201,
    ),
    Case("extensions nested 100 times", nested(100), 201),
    Case("extensions nested 102 times", nested(102), 400),
    Case("every finding is reported", patient(active="yes", gender="x y ", foo=1), 400, "Patient.foo"),
]

# --- primitives: datatypes.html#primitive -----------------------------------------------------------------------------

PRIMITIVES = [
    Case("boolean as a string", patient(active="true"), 400, "Patient.active"),
    Case("boolean as a number", patient(active=1), 400, "Patient.active"),
    Case(
        "integer with a fraction",
        b'{"resourceType":"Patient","multipleBirthInteger":1.0}',
        400,
        "Patient.multipleBirth",
    ),
    Case("integer with an exponent", b'{"resourceType":"Patient","multipleBirthInteger":1e1}', 400),
    Case("integer as a string", patient(multipleBirthInteger="1"), 400),
    Case("integer as a boolean", patient(multipleBirthInteger=True), 400),
    Case("integer of 33 bits", patient(multipleBirthInteger=2**31), 400),
    Case("largest integer", patient(multipleBirthInteger=2**31 - 1), 201),
    Case("smallest integer", patient(multipleBirthInteger=-(2**31)), 201),
    Case("integer below the smallest", patient(multipleBirthInteger=-(2**31) - 1), 400),
    Case("unsignedInt below zero", patient(photo=[{"contentType": "image/png", "size": -1}]), 400),
    Case("unsignedInt minus zero", b'{"resourceType":"Patient","photo":[{"size":-0}]}', 400),
    Case("positiveInt zero", patient(telecom=[{"rank": 0}]), 400, "Patient.telecom[0].rank"),
    Case("decimal as a string", observation(valueQuantity={"value": "1.5"}), 400, "Observation.value.value"),
    Case(
        "decimal of 25 digits",
        b'{"resourceType":"Basic","code":{"text":"x"},"extension":[{"url":"u","valueDecimal":0.1234567890123456789012345}]}',
        201,
    ),
    Case(
        "decimal with an exponent",
        b'{"resourceType":"Basic","code":{"text":"x"},"extension":[{"url":"u","valueDecimal":1e-7}]}',
        201,
    ),
    Case(
        "decimal minus zero",
        b'{"resourceType":"Basic","code":{"text":"x"},"extension":[{"url":"u","valueDecimal":-0}]}',
        201,
    ),
    Case("string as a number", patient(name=[{"text": 5}]), 400),
    Case("string of 1,048,576 characters", patient(name=[{"text": text_of(1_048_576)}]), 201),
    Case("string of 1,048,577 characters", patient(name=[{"text": text_of(1_048_577)}]), 400, "Patient.name[0].text"),
    Case(
        "markdown of 1,048,577 characters",
        {"resourceType": "Library", "status": "draft", "type": {"text": "x"}, "purpose": text_of(1_048_577)},
        400,
    ),
    Case(
        "base64Binary of 4 MB", {"resourceType": "Binary", "contentType": "text/plain", "data": "QUJD" * 1_048_576}, 201
    ),
    Case("string of one blank", patient(name=[{"text": " "}]), 201),
    Case("string with a no-break space", patient(name=[{"text": "a\u00a0b"}]), 201),
    Case("code with a leading blank", patient(name=[{"use": " official"}]), 400, "Patient.name[0].use"),
    Case("code with two blanks", {"resourceType": "Basic", "code": {"coding": [{"code": "a  b"}]}}, 400),
    Case("code with one blank", {"resourceType": "Basic", "code": {"coding": [{"code": "a b"}]}}, 201),
    Case("code with a no-break space", {"resourceType": "Basic", "code": {"coding": [{"code": "\u00a0a"}]}}, 201),
    Case("uri with a blank", patient(implicitRules="http://x y"), 400, "Patient.implicitRules"),
    Case("url with a line feed", patient(photo=[{"contentType": "image/png", "url": "http://x\n"}]), 400),
    Case("canonical with a blank", patient(meta={"profile": ["http://x y"]}), 400, "Patient.meta.profile[0]"),
    Case("id of 64 characters", patient(id="a" * 64), 201),
    Case("id of 65 characters", patient(id="a" * 65), 400, "Patient.id"),
    Case("id with an underscore", patient(id="a_b"), 400, "Patient.id"),
    Case("id with a line feed at its end", patient(id="a\n"), 400, "Patient.id"),
    Case("id with a letter that is not ASCII", patient(id="é"), 400, "Patient.id"),
    Case("oid", patient(extension=[extension(valueOid="urn:oid:1.2.840")]), 201),
    Case("oid with a leading zero", patient(extension=[extension(valueOid="urn:oid:1.02")]), 400),
    Case("uuid", patient(extension=[extension(valueUuid=UUID)]), 201),
    Case(
        "uuid in upper case",
        patient(extension=[extension(valueUuid=UUID.upper().replace("URN:UUID", "urn:uuid"))]),
        400,
    ),
    Case("base64Binary with a star", patient(extension=[extension(valueBase64Binary="QU*D")]), 400),
    Case("base64Binary of five characters", patient(extension=[extension(valueBase64Binary="QUJDQ")]), 400),
    Case("base64Binary padded in the middle", patient(extension=[extension(valueBase64Binary="QQ==QUJD")]), 400),
    Case("base64Binary in lines", patient(extension=[extension(valueBase64Binary="QUJD\nQUJD")]), 201),
    Case("date that is no day", patient(birthDate="2018-02-30"), 400, "Patient.birthDate"),
    Case("leap day", patient(birthDate="2020-02-29"), 201),
    Case("leap day of no leap year", patient(birthDate="2019-02-29"), 400),
    Case("leap day of 1900", patient(birthDate="1900-02-29"), 400),
    Case("leap day of 2000", patient(birthDate="2000-02-29"), 201),
    Case("31 April", patient(birthDate="2020-04-31"), 400),
    Case("year", patient(birthDate="1970"), 201),
    Case("month", patient(birthDate="1970-03"), 201),
    Case("year 0001", patient(birthDate="0001-01-01"), 201),
    Case("year 0000", patient(birthDate="0000-01-01"), 400),
    Case("month 13", patient(birthDate="1970-13"), 400),
    Case("date with a time", patient(birthDate="1970-03-30T00:00:00Z"), 400),
    Case("date without zeros", patient(birthDate="1970-3-30"), 400),
    Case("date with Arabic digits", patient(birthDate="١٩٧٠"), 400),
    Case("dateTime without zone", observation(effectiveDateTime="2020-02-02T10:00:00"), 400, "Observation.effective"),
    Case("dateTime without seconds", observation(effectiveDateTime="2020-02-02T10:00Z"), 400),
    Case("dateTime with zone", observation(effectiveDateTime="2020-02-02T10:00:00+02:00"), 201),
    Case("dateTime at 24:00", observation(effectiveDateTime="2020-02-02T24:00:00Z"), 400),
    Case("leap second", observation(effectiveDateTime="2016-12-31T23:59:60Z"), 201),
    Case("second 61", observation(effectiveDateTime="2016-12-31T23:59:61Z"), 400),
    Case("offset +14:00", observation(effectiveDateTime="2020-02-02T10:00:00+14:00"), 201),
    Case("offset +14:30", observation(effectiveDateTime="2020-02-02T10:00:00+14:30"), 400),
    Case("twenty digits of a second", observation(issued="2020-02-02T10:00:00.12345678901234567890Z"), 201),
    Case("instant of a day", observation(issued="2020-02-02"), 400, "Observation.issued"),
    Case("time", observation(valueTime="10:00:00"), 201),
    Case("time with zone", observation(valueTime="10:00:00Z"), 400),
]

# --- null padding and the siblings of primitives: json.html#primitive -------------------------------------------------

_EXT = {"extension": [extension(valueBoolean=True)]}
SIBLINGS = [
    Case("extension without value", patient(_birthDate=_EXT), 201),
    Case("value and extension", patient(birthDate="1970", _birthDate=_EXT), 201),
    Case("value and id", patient(birthDate="1970", _birthDate={"id": "x"}), 201),
    Case("id without value", patient(_birthDate={"id": "x"}), 422, "Patient.birthDate"),
    Case("empty sibling", patient(birthDate="1970", _birthDate={}), 400, "Patient.birthDate"),
    Case("null sibling", patient(birthDate="1970", _birthDate=None), 400),
    Case("sibling array where one is allowed", patient(_birthDate=[_EXT]), 400),
    Case("sibling with a value", patient(_birthDate={"value": "1970"}), 400),
    Case("padded arrays", patient(name=[{"given": ["A", None, "C"], "_given": [None, _EXT, None]}]), 201),
    Case("null without a sibling", patient(name=[{"given": ["A", None]}]), 400, "Patient.name[0].given[1]"),
    Case(
        "null in both arrays",
        patient(name=[{"given": ["A", None, "C"], "_given": [_EXT, None, None]}]),
        400,
        "Patient.name[0].given[1]",
    ),
    Case(
        "siblings shorter than values",
        patient(name=[{"given": ["A", "B"], "_given": [_EXT]}]),
        400,
        "Patient.name[0].given",
    ),
    Case(
        "siblings longer than values",
        patient(name=[{"given": ["A"], "_given": [None, _EXT]}]),
        400,
        "Patient.name[0].given",
    ),
    Case("siblings alone", patient(name=[{"_given": [_EXT, _EXT]}]), 201),
    Case("siblings alone, one null", patient(name=[{"_given": [None, _EXT]}]), 400, "Patient.name[0].given[0]"),
    Case(
        "nothing but null in siblings", patient(name=[{"given": ["A"], "_given": [None]}]), 400, "Patient.name[0].given"
    ),
    Case("a string among siblings", patient(name=[{"given": ["A"], "_given": ["x"]}]), 400, "Patient.name[0].given[0]"),
    Case("empty siblings", patient(name=[{"given": ["A"], "_given": []}]), 400),
    Case(
        "timingTiming with only _event",
        {"resourceType": "ActivityDefinition", "status": "draft", "timingTiming": {"_event": [_EXT]}},
        201,
    ),
]

# --- extensions: extensibility.html -----------------------------------------------------------------------------------

EXTENSIONS = [
    Case("unknown extension", patient(extension=[extension(valueString="x")]), 201),
    Case(
        "extension with value and extension",
        patient(extension=[extension(valueString="x", extension=[extension(valueBoolean=True)])]),
        422,
        "Patient.extension[0]",
    ),
    Case("extension with neither", patient(extension=[extension()]), 422, "Patient.extension[0]"),
    Case("extension of extensions", patient(extension=[extension(extension=[{"url": "a", "valueString": "x"}])]), 201),
    Case("extension with two values", patient(extension=[extension(valueString="x", valueCode="y")]), 400),
    Case("extension whose value is only an extension", patient(extension=[extension(_valueString=_EXT)]), 201),
    Case("extension without url", patient(extension=[{"id": "x", "valueString": "x"}]), 400),
    Case("extension url with a sibling", patient(extension=[extension(valueString="x", _url={"id": "a"})]), 400),
    Case("valueMeta, which R4B lacks", patient(extension=[extension(valueMeta={"versionId": "1"})]), 201),
    Case(
        "claimed profile",
        patient(meta={"profile": ["http://example.org/p"]}),
        201,
        "Patient.meta.profile[0]",
        warns=True,
    ),
]

# --- contained resources: references.html#contained, dom-2 to dom-5, ref-1 --------------------------------------------

CONTAINED = [
    Case("referred to", patient(contained=[PRACTITIONER], generalPractitioner=TO_PRACTITIONER), 201),
    Case("not referred to", patient(contained=[PRACTITIONER]), 422, "Patient.contained[0]"),
    Case(
        "refers to its container",
        patient(
            contained=[
                {
                    "resourceType": "Provenance",
                    "id": "p",
                    "target": [{"reference": "#"}],
                    "recorded": "2020-01-01T00:00:00Z",
                    "agent": [{"who": {"display": "x"}}],
                }
            ]
        ),
        201,
    ),
    Case("without id", patient(contained=[{"resourceType": "Practitioner"}]), 422, "Patient.contained[0]"),
    Case(
        "two with one id",
        patient(contained=[PRACTITIONER, PRACTITIONER], generalPractitioner=TO_PRACTITIONER),
        422,
        "Patient.contained[1].id",
    ),
    Case(
        "referred to by another contained one",
        patient(
            contained=[
                {"resourceType": "PractitionerRole", "id": "r", "practitioner": {"reference": "#p"}},
                PRACTITIONER,
            ],
            generalPractitioner=[{"reference": "#r"}],
        ),
        201,
    ),
    Case(
        "referred to by a canonical",
        {
            **questionnaire(answerValueSet="#v", type="choice"),
            "contained": [{"resourceType": "ValueSet", "id": "v", "status": "draft"}],
        },
        201,
    ),
    Case(
        "nested",
        patient(
            contained=[{**PRACTITIONER, "contained": [{"resourceType": "Organization", "id": "o", "name": "x"}]}],
            generalPractitioner=TO_PRACTITIONER,
        ),
        422,
        "Patient.contained[0].contained",
    ),
    Case(
        "with versionId",
        patient(contained=[{**PRACTITIONER, "meta": {"versionId": "1"}}], generalPractitioner=TO_PRACTITIONER),
        422,
        "Patient.contained[0].meta",
    ),
    Case(
        "with lastUpdated",
        patient(
            contained=[{**PRACTITIONER, "meta": {"lastUpdated": "2020-01-01T00:00:00Z"}}],
            generalPractitioner=TO_PRACTITIONER,
        ),
        422,
    ),
    Case(
        "with a security label",
        patient(
            contained=[{**PRACTITIONER, "meta": {"security": [{"code": "R"}]}}], generalPractitioner=TO_PRACTITIONER
        ),
        422,
    ),
    Case(
        "with a tag",
        patient(contained=[{**PRACTITIONER, "meta": {"tag": [{"code": "x"}]}}], generalPractitioner=TO_PRACTITIONER),
        201,
    ),
    Case(
        "with an unknown element",
        patient(contained=[{**PRACTITIONER, "x": 1}], generalPractitioner=TO_PRACTITIONER),
        400,
        "Patient.contained[0].x",
    ),
    Case("of an unknown type", patient(contained=[{"resourceType": "Foo", "id": "p"}]), 400, "Patient.contained[0]"),
    Case("without a type", patient(contained=[{"id": "p"}]), 400, "Patient.contained[0]"),
    Case(
        "reference to nothing",
        patient(generalPractitioner=TO_PRACTITIONER),
        422,
        "Patient.generalPractitioner[0].reference",
    ),
    Case("reference to the container's own id", patient(id="a", generalPractitioner=[{"reference": "#a"}]), 422),
    Case(
        "of a type that the reference does not allow",
        patient(contained=[{"resourceType": "Device", "id": "p"}], generalPractitioner=TO_PRACTITIONER),
        201,
        "Patient.generalPractitioner[0]",
        warns=True,
        strict=422,
    ),
]

# --- references: references.html --------------------------------------------------------------------------------------

REFERENCES = [
    Case(
        "a contained resource of another type than named",
        observation(contained=[PRACTITIONER], performer=[{"reference": "#p", "type": "Patient"}]),
        201,
        "Observation.performer[0].type",
        warns=True,
        strict=422,
    ),
    Case(
        "a type that R4 does not have, without reference",
        observation(subject={"type": "Foo", "display": "x"}),
        201,
        "Observation.subject.type",
        warns=True,
        strict=422,
    ),
    Case("relative", observation(subject={"reference": "Patient/1"}), 201),
    Case("with version", observation(subject={"reference": "Patient/1/_history/2"}), 201),
    Case("absolute", observation(subject={"reference": "https://example.org/fhir/Patient/1"}), 201),
    Case("identifier only", observation(subject={"identifier": {"value": "x"}}), 201),
    Case("display only", observation(subject={"display": "x"}), 201),
    Case(
        "of a type that is not allowed",
        observation(subject={"reference": "Practitioner/1"}),
        201,
        "Observation.subject",
        warns=True,
        strict=422,
    ),
    Case(
        "absolute, of a type that is not allowed",
        observation(subject={"reference": "https://example.org/Practitioner/1"}),
        201,
        "Observation.subject",
        warns=True,
        strict=422,
    ),
    Case(
        "type that is not allowed",
        observation(subject={"type": "Practitioner", "display": "x"}),
        201,
        "Observation.subject",
        warns=True,
        strict=422,
    ),
    Case(
        "type that contradicts",
        observation(subject={"type": "Group", "reference": "Patient/1"}),
        201,
        "Observation.subject.type",
        warns=True,
        strict=422,
    ),
    Case(
        "of a type that R4 does not have",
        observation(subject={"reference": "Foo/1"}),
        201,
        "Observation.subject.reference",
        warns=True,
        strict=422,
    ),
    Case(
        "conditional",
        observation(subject={"reference": "Patient?identifier=x"}),
        201,
        "Observation.subject.reference",
        warns=True,
        strict=422,
    ),
    Case("dangling urn:uuid", observation(subject={"reference": UUID}), 422, "Observation.subject.reference"),
    Case("dangling urn:oid", observation(subject={"reference": "urn:oid:1.2.3"}), 422, "Observation.subject.reference"),
    Case("dangling urn:uuid in an extension", patient(extension=[extension(valueReference={"reference": UUID})]), 422),
    Case(
        "urn:uuid in a Bundle",
        bundle("collection", {"fullUrl": UUID, "resource": observation(subject={"reference": UUID})}),
        201,
    ),
    Case("urn:uuid in a uri", patient(identifier=[{"system": UUID, "value": "x"}]), 201),
    Case("empty reference", observation(subject={"reference": ""}), 400, "Observation.subject.reference"),
    Case("a string for a reference", observation(subject="Patient/1"), 400, "Observation.subject"),
]

# --- narratives: narrative.html#xhtml, txt-1, txt-2 -------------------------------------------------------------------

_TABLE = (
    '<table><tbody><tr><td colspan="2"><ul><li><a href="#x" name="y">x</a></li></ul>'
    '<img src="#i" alt=""/></td></tr></tbody></table>'
)
NARRATIVES = [
    Case("deprecated attributes of lists", narrative('<ol start="3" type="a"><li value="4">x</li></ol>'), 201),
    Case("compact lists", narrative('<ul compact="compact" type="disc"><li>x</li></ul>'), 201),
    Case(
        "colours and alignment",
        narrative('<p align="left">x</p><table bgcolor="#fff"><tr><td bgcolor="red">x</td></tr></table>'),
        201,
    ),
    Case("an attribute of lists elsewhere", narrative('<p start="3">x</p>'), 422, "Patient.text.div"),
    Case("plain", narrative("<p>x</p>"), 201),
    Case(
        "table, list, link, image",
        narrative(_TABLE),
        201,
    ),
    Case("class, style, title", narrative('<span class="a" style="color: red" title="t" xml:lang="en">x</span>'), 201),
    Case("link to a page", narrative('<a href="https://example.org/">x</a>'), 201),
    Case("image in the text", narrative('<img src="data:image/png;base64,AAAA" alt="x"/>'), 201),
    Case(
        "background image in the text", narrative('<p style="background: url(data:image/png;base64,AAAA)">x</p>'), 201
    ),
    Case("numeric entity", narrative("a&#160;b"), 201),
    Case("comment", narrative("<!-- x --><p>x</p>"), 201),
    Case("script", narrative("<script>alert(1)</script>"), 422, "Patient.text.div"),
    Case("onload", narrative('<img src="#a" onload="alert(1)"/>'), 422),
    Case("onclick in upper case", narrative('<p ONCLICK="alert(1)">x</p>'), 422),
    Case("javascript:", narrative('<a href="javascript:alert(1)">x</a>'), 422),
    Case("javascript: in mixed case", narrative('<a href="JavaScript:alert(1)">x</a>'), 422),
    Case("javascript: after a control character", narrative('<a href="&#9;javascript:alert(1)">x</a>'), 422),
    Case("javascript: with a line feed inside", narrative('<a href="java&#10;script:alert(1)">x</a>'), 422),
    Case("javascript: by entities", narrative('<a href="&#106;avascript:alert(1)">x</a>'), 422),
    Case("javascript: as an image", narrative('<img src="javascript:alert(1)"/>'), 422),
    Case("vbscript:", narrative('<a href="vbscript:x">x</a>'), 422),
    Case("data: page", narrative('<a href="data:text/html,x">x</a>'), 422),
    Case("data: SVG image", narrative('<img src="data:image/svg+xml,x"/>'), 422),
    Case("style with expression", narrative('<p style="width: expression(alert(1))">x</p>'), 422),
    Case("style with an escaped url", narrative('<p style="background: u\\72l(javascript:x)">x</p>'), 422),
    Case("style with a comment in url", narrative('<p style="background: ur/**/l(http://example.org/x)">x</p>'), 422),
    Case("style that loads", narrative('<p style="background: url(http://example.org/x)">x</p>'), 422),
    Case("style that imports", narrative('<p style="@import x">x</p>'), 422),
    Case("style element", narrative("<style>p {}</style>x"), 422),
    Case("link element", narrative('<link rel="stylesheet" href="http://x"/>x'), 422),
    Case("iframe", narrative('<iframe src="http://example.org"/>x'), 422),
    Case("object", narrative("<object/>x"), 422),
    Case("embed", narrative("<embed/>x"), 422),
    Case("form", narrative('<form action="x"><input/></form>x'), 422),
    Case("SVG", narrative('<svg xmlns="http://www.w3.org/2000/svg"><script/></svg>x'), 422),
    Case("MathML", narrative('<math xmlns="http://www.w3.org/1998/Math/MathML"/>x'), 422),
    Case("body", narrative("<body>x</body>"), 422),
    Case("deprecated element", narrative("<font>x</font>"), 422),
    Case("element in no namespace", narrative('<p xmlns="">x</p>'), 422),
    Case("without namespace", narrative("x", root=""), 422, "Patient.text.div"),
    Case("in another namespace", narrative("x", root='xmlns="http://hl7.org/fhir"'), 422),
    Case("a paragraph at the root", patient(text={"status": "generated", "div": f"<p {XHTML}>x</p>"}), 422),
    Case(
        "document type",
        patient(text={"status": "generated", "div": f'<!DOCTYPE div [<!ENTITY a "b">]><div {XHTML}>&a;</div>'}),
        422,
    ),
    Case("processing instruction", narrative("<?php x ?>x"), 422),
    Case("no XML", patient(text={"status": "generated", "div": "x"}), 400, "Patient.text.div"),
    Case("not closed", narrative("<p>x"), 400),
    Case("HTML entity", narrative("a&nbsp;b"), 400),
    Case("two roots", patient(text={"status": "generated", "div": f"<div {XHTML}>x</div><div {XHTML}>x</div>"}), 400),
    Case("div is a number", patient(text={"status": "generated", "div": 1}), 400),
    Case("div is absent", patient(text={"status": "generated"}), 400, "Patient.text.div"),
    Case("status is absent", patient(text={"div": f"<div {XHTML}>x</div>"}), 400, "Patient.text.status"),
    Case(
        "status is unknown", patient(text={"status": "x", "div": f"<div {XHTML}>x</div>"}), 422, "Patient.text.status"
    ),
    Case("no content", narrative(" <p> </p> "), 201, "Patient.text.div", warns=True, strict=422),
    Case("above 1 MB", narrative(f"<p>{text_of(1_100_000)}</p>"), 201),
]

# --- required bindings: terminologies.html#required -------------------------------------------------------------------

_ALLERGY = "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical"


def allergy(**more: Any) -> dict[str, Any]:
    active = {"coding": [{"system": _ALLERGY, "code": "active"}]}
    return {
        "resourceType": "AllergyIntolerance",
        "patient": {"reference": "Patient/1"},
        "clinicalStatus": active,
        **more,
    }


CODES = [
    Case(
        "unit with blanks in its annotation",
        effect_estimate({"coding": [{"system": UCUM, "code": "{# of fetuses}"}]}),
        201,
    ),
    Case("unit with a blank", effect_estimate({"coding": [{"system": UCUM, "code": "m g"}]}), 422),
    Case("code of the value set", patient(gender="male"), 201),
    Case("code not of the value set", patient(gender="m"), 422, "Patient.gender"),
    Case("code in another case", patient(gender="Male"), 422, "Patient.gender"),
    Case(
        "code of R5",
        {"resourceType": "Encounter", "status": "completed", "class": {"code": "AMB"}},
        422,
        "Encounter.status",
    ),
    Case("code in a data type", patient(name=[{"use": "formal"}]), 422, "Patient.name[0].use"),
    Case(
        "code in an array",
        patient(name=[{"text": "x"}], link=[{"other": {"display": "x"}, "type": "x"}]),
        422,
        "Patient.link[0].type",
    ),
    Case("extensible binding", patient(maritalStatus={"coding": [{"system": "http://x", "code": "y"}]}), 201),
    Case("concept of the value set", allergy(), 201),
    Case(
        "concept not of the value set",
        allergy(clinicalStatus={"coding": [{"system": _ALLERGY, "code": "x"}]}),
        422,
        "AllergyIntolerance.clinicalStatus",
    ),
    Case(
        "concept of another system", allergy(clinicalStatus={"coding": [{"system": "http://x", "code": "active"}]}), 422
    ),
    Case("concept without system", allergy(clinicalStatus={"coding": [{"code": "active"}]}), 422),
    Case("concept of text only", allergy(clinicalStatus={"text": "active"}), 422),
    Case(
        "one of two codings",
        allergy(
            clinicalStatus={"coding": [{"system": "http://x", "code": "y"}, {"system": _ALLERGY, "code": "active"}]}
        ),
        201,
    ),
    Case("concept that says why it is absent", allergy(clinicalStatus=_EXT), 201),
    Case("media type", patient(photo=[{"contentType": "image/png", "data": "QUJD"}]), 201),
    Case(
        "media type with parameter", patient(photo=[{"contentType": "text/plain; charset=UTF-8", "data": "QUJD"}]), 201
    ),
    Case("no media type", patient(photo=[{"contentType": "png", "data": "QUJD"}]), 422, "Patient.photo[0].contentType"),
    Case("language", patient(language="zh-Hans-CN"), 201),
    Case("no language", patient(language="zh_CN"), 422, "Patient.language"),
    Case("currency", {"resourceType": "Invoice", "status": "draft", "totalNet": {"value": 1, "currency": "EUR"}}, 201),
    Case(
        "no currency", {"resourceType": "Invoice", "status": "draft", "totalNet": {"value": 1, "currency": "XXQ"}}, 422
    ),
    Case(
        "resource type in a code",
        {"resourceType": "GraphDefinition", "name": "G", "status": "draft", "start": "Foo"},
        422,
    ),
    Case(
        "format by its short name",
        {
            "resourceType": "CapabilityStatement",
            "status": "draft",
            "date": "2020",
            "kind": "requirements",
            "description": "x",
            "fhirVersion": "4.0.1",
            "format": ["json"],
            "rest": [{"mode": "server"}],
        },
        201,
        "CapabilityStatement.format[0]",
        warns=True,
        strict=422,
    ),
]

# --- invariants -------------------------------------------------------------------------------------------------------

_TIMING = {"resourceType": "ServiceRequest", "status": "draft", "intent": "plan", "subject": {"reference": "Patient/1"}}


def timing(**repeat: Any) -> dict[str, Any]:
    return {**_TIMING, "occurrenceTiming": {"repeat": repeat}}


def condition(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Condition", "subject": {"reference": "Patient/1"}, **more}


def clinical(code: str, system: str = "http://terminology.hl7.org/CodeSystem/condition-clinical") -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code}]}


_SYSTOLIC = {"coding": [{"system": "http://loinc.org", "code": "8480-6"}]}
_CONTAINED_CODES = {
    "resourceType": "ValueSet",
    "id": "v",
    "status": "draft",
    "compose": {"include": [{"system": "http://x", "concept": [{"code": "a"}]}]},
}
INVARIANTS = [
    Case(
        "csd-1 is not about contained value sets",
        {
            "resourceType": "CodeSystem",
            "status": "draft",
            "content": "complete",
            "contained": [_CONTAINED_CODES],
            "valueSet": "#v",
            "concept": [{"code": "a"}],
        },
        201,
    ),
    Case(
        "per-1",
        patient(name=[{"text": "x", "period": {"start": "2020-02", "end": "2020-01"}}]),
        422,
        "Patient.name[0].period",
    ),
    Case(
        "per-1 in two zones",
        patient(name=[{"text": "x", "period": {"start": "2020-01-01T10:00:00+02:00", "end": "2020-01-01T09:00:00Z"}}]),
        201,
    ),
    Case(
        "per-1 by a second in two zones",
        patient(name=[{"text": "x", "period": {"start": "2020-01-01T10:00:01+01:00", "end": "2020-01-01T09:00:00Z"}}]),
        422,
    ),
    Case(
        "per-1 by a fraction",
        patient(name=[{"text": "x", "period": {"start": "2020-01-01T10:00:00.2Z", "end": "2020-01-01T10:00:00.19Z"}}]),
        422,
    ),
    Case(
        "per-1 with other precision",
        patient(name=[{"text": "x", "period": {"start": "2020-01-31", "end": "2020-01"}}]),
        201,
    ),
    Case("qty-3", observation(valueQuantity={"value": 1, "code": "mg"}), 422, "Observation.value"),
    Case(
        "sqty-1",
        observation(referenceRange=[{"low": {"value": 1, "comparator": "<"}}]),
        422,
        "Observation.referenceRange[0].low",
    ),
    Case(
        "rng-2",
        observation(valueRange={"low": {"value": 2, "unit": "x"}, "high": {"value": 1, "unit": "x"}}),
        422,
        "Observation.value",
    ),
    Case("rat-1", observation(valueRatio={"numerator": {"value": 1}}), 422, "Observation.value"),
    Case("att-1", patient(photo=[{"data": "QUJD"}]), 422, "Patient.photo[0]"),
    Case("cpt-2", patient(telecom=[{"value": "1"}]), 422, "Patient.telecom[0]"),
    Case("pat-1", patient(contact=[{"gender": "male"}]), 422, "Patient.contact[0]"),
    Case("obs-3", observation(referenceRange=[{"appliesTo": [{"text": "x"}]}]), 422, "Observation.referenceRange[0]"),
    Case("obs-6", observation(valueString="x", dataAbsentReason={"text": "x"}), 422, "Observation"),
    Case(
        "obs-7",
        observation(code=_SYSTOLIC, valueInteger=1, component=[{"code": _SYSTOLIC, "valueInteger": 1}]),
        422,
        "Observation",
    ),
    Case(
        "obs-7 with another code", observation(code=_SYSTOLIC, valueInteger=1, component=[{"code": {"text": "x"}}]), 201
    ),
    Case("tim-1", timing(duration=1), 422, "ServiceRequest.occurrence.repeat"),
    Case("tim-2", timing(period=1, frequency=1), 422),
    Case("tim-4", timing(duration=-1, durationUnit="h"), 422),
    Case("tim-9", timing(offset=5, when=["C"]), 422),
    Case("tim-9 with an event before", timing(offset=5, when=["AC"]), 201),
    Case("tim-10", timing(timeOfDay=["10:00:00"], when=["AC"]), 422),
    Case("con-3", condition(category=[{"text": "x"}]), 201, "Condition", warns=True),
    Case("con-4", condition(abatementDateTime="2020", clinicalStatus=clinical("active")), 422, "Condition"),
    Case("con-4 kept", condition(abatementDateTime="2020", clinicalStatus=clinical("resolved")), 201),
    Case(
        "con-5",
        condition(
            clinicalStatus=clinical("active"),
            verificationStatus=clinical(
                "entered-in-error", "http://terminology.hl7.org/CodeSystem/condition-ver-status"
            ),
        ),
        422,
    ),
    Case(
        "ait-1",
        {"resourceType": "AllergyIntolerance", "patient": {"reference": "Patient/1"}},
        422,
        "AllergyIntolerance",
    ),
    Case("org-1", {"resourceType": "Organization", "active": True}, 422, "Organization"),
    Case(
        "org-2",
        {"resourceType": "Organization", "name": "x", "address": [{"use": "home", "city": "x"}]},
        422,
        "Organization.address[0]",
    ),
    Case(
        "org-3",
        {"resourceType": "Organization", "name": "x", "telecom": [{"use": "home", "system": "phone", "value": "1"}]},
        422,
        "Organization.telecom[0]",
    ),
    Case(
        "app-2",
        {
            "resourceType": "Appointment",
            "status": "booked",
            "start": "2020-01-01T10:00:00Z",
            "participant": [{"actor": {"display": "x"}, "status": "accepted"}],
        },
        422,
        "Appointment",
    ),
    Case(
        "app-3",
        {
            "resourceType": "Appointment",
            "status": "booked",
            "participant": [{"actor": {"display": "x"}, "status": "accepted"}],
        },
        422,
    ),
    Case(
        "app-3 kept",
        {
            "resourceType": "Appointment",
            "status": "proposed",
            "participant": [{"actor": {"display": "x"}, "status": "accepted"}],
        },
        201,
    ),
    Case("que-1", questionnaire(type="group"), 422, "Questionnaire.item[0]"),
    Case(
        "que-2",
        {
            "resourceType": "Questionnaire",
            "status": "draft",
            "item": [{"linkId": "1", "type": "string"}, {"linkId": "1", "type": "string"}],
        },
        422,
        "Questionnaire",
    ),
    Case("que-7", questionnaire(enableWhen=[{"question": "1", "operator": "exists", "answerString": "x"}]), 422),
    Case(
        "que-11", questionnaire(type="choice", answerOption=[{"valueString": "x"}], initial=[{"valueString": "x"}]), 422
    ),
    Case("que-13", questionnaire(initial=[{"valueString": "x"}, {"valueString": "y"}]), 422),
    Case(
        "vsd-1",
        {
            "resourceType": "ValueSet",
            "status": "draft",
            "compose": {"include": [{"filter": [{"property": "a", "op": "=", "value": "b"}]}]},
        },
        422,
    ),
    Case(
        "csd-1",
        {
            "resourceType": "CodeSystem",
            "status": "draft",
            "content": "complete",
            "concept": [{"code": "a", "concept": [{"code": "b", "concept": [{"code": "b"}]}]}],
        },
        422,
        "CodeSystem",
    ),
    Case(
        "inv-1 of Parameters",
        {"resourceType": "Parameters", "parameter": [{"name": "x"}]},
        422,
        "Parameters.parameter[0]",
    ),
    Case(
        "inv-1 of Task",
        {
            "resourceType": "Task",
            "status": "draft",
            "intent": "order",
            "authoredOn": "2020-02-02",
            "lastModified": "2020-02-01",
        },
        422,
        "Task",
    ),
    Case(
        "a warning of R4: cpd-0",
        {"resourceType": "Library", "status": "draft", "name": "not usable", "type": {"text": "x"}},
        201,
        "Library",
        warns=True,
    ),
    Case("dom-6", patient(active=True), 201, "Patient", warns=True),
]

# --- messages and published faults ------------------------------------------------------------------------------------

_GET = {"request": {"method": "GET", "url": "Patient/1"}}
MESSAGES = [
    Case("transaction", bundle("transaction", _GET), 201),
    Case("bdl-1", bundle("collection", total=1), 422, "Bundle"),
    Case("bdl-2", bundle("collection", {"resource": patient(), "search": {"mode": "match"}}), 422, "Bundle"),
    Case("bdl-3", bundle("transaction", {"resource": patient()}), 422, "Bundle"),
    Case("bdl-4", bundle("transaction-response", {"resource": patient()}), 422, "Bundle"),
    Case("bdl-5", bundle("collection", {"fullUrl": "http://x/Patient/1"}), 422, "Bundle.entry[0]"),
    Case(
        "bdl-8",
        bundle("collection", {"fullUrl": "http://x/Patient/1/_history/1", "resource": patient()}),
        422,
        "Bundle.entry[0]",
    ),
    Case("bdl-9 to bdl-11", bundle("document", {"resource": patient()}), 422, "Bundle"),
    Case("bdl-12", bundle("message", {"resource": patient()}), 422, "Bundle"),
    Case(
        "bdl-7",
        bundle("collection", {"fullUrl": UUID, "resource": patient()}, {"fullUrl": UUID, "resource": patient()}),
        201,
        "Bundle",
        warns=True,
        strict=422,
    ),
    Case("fault inside an entry", bundle("collection", {"resource": patient(x=1)}), 400, "Bundle.entry[0].resource.x"),
    Case(
        "entry without resourceType",
        bundle("collection", {"resource": {"active": True}}),
        400,
        "Bundle.entry[0].resource",
    ),
    Case(
        "local reference of an entry",
        bundle("collection", {"resource": observation(subject={"reference": "#x"})}),
        422,
        "Bundle.entry[0].resource.subject.reference",
    ),
    Case("Bundle in a Bundle", bundle("collection", {"resource": bundle("collection", {"resource": patient()})}), 201),
    Case("unknown type of Bundle", bundle("x"), 422, "Bundle.type"),
    Case(
        "Parameters",
        {
            "resourceType": "Parameters",
            "parameter": [
                {"name": "a", "valueString": "x"},
                {"name": "b", "resource": patient()},
                {"name": "c", "part": [{"name": "d", "valueCode": "e"}]},
            ],
        },
        201,
    ),
    Case(
        "OperationOutcome",
        {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "invalid"}]},
        201,
    ),
    Case("OperationOutcome without issue", {"resourceType": "OperationOutcome"}, 400, "OperationOutcome.issue"),
    Case(
        "OperationOutcome with an unknown code",
        {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "x"}]},
        422,
    ),
    Case(
        "SearchParameter without base",
        {
            "resourceType": "SearchParameter",
            "url": "http://x",
            "name": "X",
            "status": "draft",
            "description": "x",
            "code": "x",
            "type": "string",
        },
        201,
        "SearchParameter.base",
        warns=True,
        strict=400,
    ),
    Case(
        "item without linkId",
        {"resourceType": "Questionnaire", "status": "draft", "item": [{"type": "string"}]},
        201,
        "Questionnaire.item[0].linkId",
        warns=True,
        strict=400,
    ),
    Case(
        "ImplementationGuide without name and status",
        {"resourceType": "ImplementationGuide", "url": "http://x", "packageId": "x", "fhirVersion": ["4.0.1"]},
        201,
        "ImplementationGuide.name",
        warns=True,
        strict=400,
    ),
    Case(
        "sdf-4",
        {
            "resourceType": "StructureDefinition",
            "url": "http://x",
            "name": "X",
            "status": "draft",
            "kind": "logical",
            "abstract": False,
            "type": "X",
            "differential": {"element": [{"id": "X", "path": "X"}]},
        },
        201,
        "StructureDefinition",
        warns=True,
        strict=422,
    ),
    Case("a type that R4B does not have", {"resourceType": "MedicinalProduct", "name": [{"productName": "x"}]}, 201),
]

GROUPS = {
    "syntax": SYNTAX,
    "structure": STRUCTURE,
    "primitives": PRIMITIVES,
    "siblings": SIBLINGS,
    "extensions": EXTENSIONS,
    "contained": CONTAINED,
    "references": REFERENCES,
    "narratives": NARRATIVES,
    "codes": CODES,
    "invariants": INVARIANTS,
    "messages": MESSAGES,
}
CASES = [(f"{group}: {case.name}", case) for group, cases in GROUPS.items() for case in cases]
