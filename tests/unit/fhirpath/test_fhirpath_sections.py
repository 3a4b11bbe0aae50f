"""FHIRPath N1, clause by clause: each table stands below the section it tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from fhir_server.fhirpath import Environment, FhirPathError, Item, compile_expression
from fhir_server.fhirpath.dates import Temporal
from fhir_server.fhirpath.quantities import Quantity
from fhir_server.fhirpath.values import text_of
from fhir_server.resources.jsonformat import parse

NOW = datetime(2024, 2, 29, 13, 45, 30, 123000, tzinfo=UTC)

PATIENT: dict[str, Any] = parse(
    b"""{
    "resourceType": "Patient", "id": "p1", "active": true, "gender": "male", "birthDate": "1974-12-25",
    "_birthDate": {"id": "b", "extension": [{"url": "http://x/time", "valueDateTime": "1974-12-25T14:35:45-05:00"}]},
    "name": [
        {"use": "official", "family": "Chalmers", "given": ["Peter", "James"]},
        {"use": "usual", "given": ["Jim"]},
        {"use": "maiden", "family": "Windsor", "given": ["Peter", null], "_given": [null, {"id": "g"}],
         "period": {"end": "2002"}}
    ],
    "telecom": [{"use": "home"}, {"system": "phone", "value": "(03) 5555 6473", "rank": 1}],
    "deceasedBoolean": false,
    "multipleBirthInteger": 2,
    "contact": [{"name": {"family": "du March"}, "gender": "female"}],
    "managingOrganization": {"reference": "Organization/1"},
    "generalPractitioner": [{"reference": "#gp"}, {"reference": "http://x/fhir/Organization/2/_history/3"}],
    "extension": [{"url": "http://x/a", "valueQuantity": {"value": 1.50, "unit": "kg", "code": "kg",
                   "system": "http://unitsofmeasure.org"}}, {"url": "http://x/b", "valueCode": "z"}],
    "contained": [{"resourceType": "Practitioner", "id": "gp", "name": [{"family": "Careful"}]}]
    }"""
)

OBSERVATION: dict[str, Any] = parse(
    b"""{
    "resourceType": "Observation", "id": "o1", "status": "final",
    "code": {"coding": [{"system": "http://loinc.org", "code": "29463-7"}, {"code": "w"}]},
    "effectiveDateTime": "2015-02",
    "valueQuantity": {"value": 185.0, "unit": "lbs", "system": "http://unitsofmeasure.org", "code": "[lb_av]"},
    "component": [{"code": {"coding": [{"code": "a"}]}, "valueQuantity": {"value": 1}},
                  {"code": {"coding": [{"code": "b"}]}, "valueString": "x"}]
    }"""
)


def plain(item: Item) -> Any:
    value = item.value
    if isinstance(value, (Temporal, Quantity)):
        return str(value)
    if isinstance(value, bool) or not isinstance(value, (int, str, dict)):
        return text_of(value) if not isinstance(value, bool) else value
    return value


def evaluate(expression: str, resource: dict[str, Any] = PATIENT, **more: Any) -> list[Any]:
    """The values of the result, evaluated both with types known at compile time and with types found at run time."""
    known = [plain(item) for item in compile_expression(expression).evaluate(resource, now=NOW, **more)]
    found = [plain(item) for item in compile_expression(expression).evaluate(resource, now=NOW, locate=True, **more)]
    assert known == found
    return known


def check(expression: str, expected: list[Any]) -> None:
    resource = OBSERVATION if "Observation." in expression and expression != "Observation.id" else PATIENT
    assert evaluate(expression, resource) == expected


# --- 2 and 3, literals and paths --------------------------------------------------------------------------------------

PATHS: list[tuple[str, list[Any]]] = [
    ("name.given", ["Peter", "James", "Jim", "Peter", None]),
    ("Patient.name.family", ["Chalmers", "Windsor"]),
    ("Resource.id", ["p1"]),
    ("DomainResource.id", ["p1"]),
    ("Observation.id", []),
    ("Practitioner.id", []),
    ("`name`.`given`[1]", ["James"]),
    ("name[0].given[0]", ["Peter"]),
    ("name[9]", []),
    ("name[{}]", []),
    ("$this.gender", ["male"]),
    ("nothing.at.all", []),
    ("birthDate.id", ["b"]),
    ("birthDate.extension.value", ["1974-12-25T14:35:45-05:00"]),
    ("name.given.id", ["g"]),
    ("deceased", [False]),
    ("multipleBirth", [2]),
    ("multipleBirthInteger", [2]),
    ("contact.name.family", ["du March"]),
    ("contained.name.family", ["Careful"]),
    ("Observation.value.value", ["185.0"]),
    ("Observation.component.value.ofType(string)", ["x"]),
    ("true", [True]),
    ("{}", []),
    ("'it\\'s \\u0041\\n'", ["it's A\n"]),
    ("1.50", ["1.50"]),
    ("4 days", ["4 days"]),
    ("1 year", ["1 year"]),
    ("5 'mg'", ["5 'mg'"]),
    ("@2015-02-04T14:34:28+09:00", ["2015-02-04T14:34:28+09:00"]),
    ("@T14:34", ["14:34"]),
    ("// comment\n gender /* and */", ["male"]),
    ("%ucum", ["http://unitsofmeasure.org"]),
    ("%sct | %loinc", ["http://snomed.info/sct", "http://loinc.org"]),
    ("%vs-administrative-gender", ["http://hl7.org/fhir/ValueSet/administrative-gender"]),
    ("%`ext-patient-birthTime`", ["http://hl7.org/fhir/StructureDefinition/patient-birthTime"]),
    ("%resource.id", ["p1"]),
    ("%context.gender", ["male"]),
    ("%rootResource.contained.id", ["gp"]),
    ("name.where(use = 'usual').select(%resource.gender)", ["male"]),
]


@pytest.mark.parametrize(("expression", "expected"), PATHS)
def test_paths_and_literals(expression: str, expected: list[Any]) -> None:
    check(expression, expected)


# --- 4.5, singleton evaluation ----------------------------------------------------------------------------------------


def test_single_element_counts_as_true() -> None:
    assert evaluate("name.first() and gender") == [True]


@pytest.mark.parametrize(
    "expression", ["name and true", "name.given.startsWith('P')", "name.use + 'x'", "1 + name.count()[{}] and name"]
)
def test_several_elements_are_refused_where_one_is_wanted(expression: str) -> None:
    with pytest.raises(FhirPathError):
        compile_expression(expression).evaluate(PATIENT)


# --- 5.1, existence ---------------------------------------------------------------------------------------------------

EXISTENCE: list[tuple[str, list[Any]]] = [
    ("name.empty()", [False]),
    ("photo.empty()", [True]),
    ("name.exists()", [True]),
    ("photo.exists()", [False]),
    ("name.exists(use = 'usual')", [True]),
    ("name.exists(use = 'old')", [False]),
    ("birthDate.exists()", [True]),
    ("deceased.exists()", [True]),
    ("Observation.value.exists()", [True]),
    ("photo.all(false)", [True]),
    ("name.all(given.exists())", [True]),
    ("name.all(family.exists())", [False]),
    ("(true | false).allTrue()", [False]),
    ("(true | false).anyTrue()", [True]),
    ("(true | false).allFalse()", [False]),
    ("(true | false).anyFalse()", [True]),
    ("{}.allTrue()", [True]),
    ("{}.anyTrue()", [False]),
    ("('a' | 'b').subsetOf('a' | 'b' | 'c')", [True]),
    ("('a' | 'z').subsetOf('a' | 'b' | 'c')", [False]),
    ("name.supersetOf(name.first())", [True]),
    ("name.given.count()", [5]),
    ("gender.count()", [1]),
    ("photo.count()", [0]),
    ("name.given.distinct().count()", [4]),
    ("name.use.isDistinct()", [True]),
    ("name.given.isDistinct()", [False]),
    ("(1 | 1.0 | 2).count()", [2]),
]


@pytest.mark.parametrize(("expression", "expected"), EXISTENCE)
def test_existence(expression: str, expected: list[Any]) -> None:
    check(expression, expected)


# --- 5.2 to 5.4, filtering, subsetting, combining ---------------------------------------------------------------------

SELECTION: list[tuple[str, list[Any] | None]] = [
    ("name.where(use = 'official').family", ["Chalmers"]),
    ("name.where($index > 0).use", ["usual", "maiden"]),
    ("name.where(given.where($index = 1).exists()).use", ["official", "maiden"]),
    ("name.select(given.first() & '-' & use)", ["Peter-official", "Jim-usual", "Peter-maiden"]),
    ("name.select($index)", [0, 1, 2]),
    ("contained.repeat(name).family", ["Careful"]),
    ("(1 | 2).select($this * 10)", [10, 20]),
    ("(1 | 2 | 3).aggregate($this + $total, 0)", [6]),
    ("(3 | 1 | 2).aggregate(iif($total.empty() or $this < $total, $this, $total))", [1]),
    ("name.given.single()", None),
    ("gender.single()", ["male"]),
    ("name.use.first()", ["official"]),
    ("name.use.last()", ["maiden"]),
    ("name.use.tail()", ["usual", "maiden"]),
    ("name.use.skip(1)", ["usual", "maiden"]),
    ("name.use.skip(-1)", ["official", "usual", "maiden"]),
    ("name.use.take(2)", ["official", "usual"]),
    ("name.use.take(0)", []),
    ("name.use.intersect('usual' | 'old')", ["usual"]),
    ("name.use.exclude('usual' | 'old')", ["official", "maiden"]),
    ("name.given.exclude('Jim').take(3)", ["Peter", "James", "Peter"]),
    ("name.select(use.union(given)).count()", [8]),
    ("name.family.combine(name.family).count()", [4]),
    ("(name.family | name.family).count()", [2]),
    ("name[0].family | gender | 1", ["Chalmers", "male", 1]),
    ("(name | contact.name).count()", [4]),
]


@pytest.mark.parametrize(("expression", "expected"), SELECTION)
def test_filtering_subsetting_and_combining(expression: str, expected: list[Any] | None) -> None:
    if expected is None:
        with pytest.raises(FhirPathError):
            evaluate(expression)
    else:
        check(expression, expected)


# --- 5.5, conversion --------------------------------------------------------------------------------------------------

CONVERSION: list[tuple[str, list[Any]]] = [
    ("iif(active, 'a', 'b')", ["a"]),
    ("iif({}, 'a', 'b')", ["b"]),
    ("iif(false, 'a')", []),
    ("photo.iif(empty(), 'none', url)", ["none"]),
    ("contact.iif(empty(), 'none', gender)", ["female"]),
    ("iif(true, 'a', name.single())", ["a"]),
    ("'1'.toInteger()", [1]),
    ("'1.0'.toInteger()", []),
    ("'2147483648'.toInteger()", []),
    ("true.toInteger()", [1]),
    ("'1.10'.toDecimal()", ["1.10"]),
    ("'abc'.toDecimal()", []),
    ("1.toDecimal() = 1.0", [True]),
    ("'Yes'.toBoolean()", [True]),
    ("0.toBoolean()", [False]),
    ("2.toBoolean()", []),
    ("birthDate.toString()", ["1974-12-25"]),
    ("Observation.value.value.toString()", ["185.0"]),
    ("0.0000001.toString()", ["0.0000001"]),
    ("true.toString()", ["true"]),
    ("5 'mg'.toString()", ["5 'mg'"]),
    ("'2015-02-04'.toDate()", ["2015-02-04"]),
    ("'2015-02-30'.toDate()", []),
    ("@2015-02-04T10:00:00Z.toDate()", ["2015-02-04"]),
    ("'2015-02-04T10'.toDateTime()", ["2015-02-04T10"]),
    ("'14:30'.toTime()", ["14:30"]),
    ("'25:30'.toTime()", []),
    ("'5 days'.toQuantity()", ["5 days"]),
    ("'5 \\'mg\\''.toQuantity()", ["5 'mg'"]),
    ("'5 foo'.toQuantity()", []),
    ("1000 'mg'.toQuantity('g') = 1 'g'", [True]),
    ("'1'.convertsToInteger()", [True]),
    ("'a'.convertsToInteger()", [False]),
    ("{}.convertsToInteger()", []),
    ("birthDate.convertsToDateTime()", [True]),
    ("'x'.convertsToString()", [True]),
    ("name.first().convertsToString()", [False]),
]


@pytest.mark.parametrize(("expression", "expected"), CONVERSION)
def test_conversion(expression: str, expected: list[Any]) -> None:
    check(expression, expected)


# --- 5.6, strings -----------------------------------------------------------------------------------------------------

STRINGS: list[tuple[str, list[Any]]] = [
    ("'abcdefg'.indexOf('bc')", [1]),
    ("'abcdefg'.indexOf('x')", [-1]),
    ("'abcdefg'.indexOf('')", [0]),
    ("{}.indexOf('a')", []),
    ("'abcdefg'.substring(3)", ["defg"]),
    ("'abcdefg'.substring(1, 2)", ["bc"]),
    ("'abcdefg'.substring(6, 2)", ["g"]),
    ("'abcdefg'.substring(7, 1)", []),
    ("'abcdefg'.substring(-1)", []),
    ("'abcdefg'.startsWith('ab')", [True]),
    ("'abcdefg'.startsWith({})", []),
    ("'abcdefg'.endsWith('fg')", [True]),
    ("'abc'.contains('b')", [True]),
    ("'abc'.contains('')", [True]),
    ("'abc'.upper() & 'X'.lower()", ["ABCx"]),
    ("'abc'.replace('b', 'bb')", ["abbc"]),
    ("'abc'.replace('', 'x')", ["xaxbxcx"]),
    ("'abc'.replace('b', '')", ["ac"]),
    ("'a1b22'.matches('[0-9]{2}')", [True]),
    ("'a1b22'.matches('^[0-9]+$')", [False]),
    ("'a1b22'.matchesFull('[a-z0-9]+')", [True]),
    ("'11/30/1972'.replaceMatches('(\\\\d+)/(\\\\d+)/', '$2-$1-')", ["30-11-1972"]),
    ("'a.b.c'.replaceMatches('\\\\..*', '')", ["a"]),
    ("'abc'.length()", [3]),
    ("''.length()", [0]),
    ("'abc'.toChars()", ["a", "b", "c"]),
    ("'a,b'.split(',')", ["a", "b"]),
    ("name.use.join('+')", ["official+usual+maiden"]),
    ("' a '.trim()", ["a"]),
    ("birthDate.substring(0, 4)", ["1974"]),
    ("'a' + 'b'", ["ab"]),
    ("'a' + {}", []),
    ("'a' & {}", ["a"]),
]


@pytest.mark.parametrize(("expression", "expected"), STRINGS)
def test_strings(expression: str, expected: list[Any]) -> None:
    check(expression, expected)


# --- 5.7, math --------------------------------------------------------------------------------------------------------

MATH: list[tuple[str, list[Any]]] = [
    ("(-5).abs()", [5]),
    ("(-5.5 'mg').abs()", ["5.5 'mg'"]),
    ("1.1.ceiling()", [2]),
    ("(-1.1).floor()", [-2]),
    ("1.9.truncate()", [1]),
    ("3.14159.round(3)", ["3.142"]),
    ("2.5.round()", ["3"]),
    ("0.exp() = 1", [True]),
    ("1.ln() = 0", [True]),
    ("16.log(2) = 4", [True]),
    ("2.power(3)", [8]),
    ("2.power(100)", []),
    ("2.5.power(2) = 6.25", [True]),
    ("(-1).power(0.5)", []),
    ("81.sqrt() = 9", [True]),
    ("(-1).sqrt()", []),
    ("{}.abs()", []),
]


@pytest.mark.parametrize(("expression", "expected"), MATH)
def test_math(expression: str, expected: list[Any]) -> None:
    check(expression, expected)


# --- 5.8 and 5.9, tree and utility ------------------------------------------------------------------------------------

TREE: list[tuple[str, list[Any]]] = [
    ("contact.children().count()", [2]),
    ("name.last().children().count()", [5]),
    ("birthDate.children().count()", [2]),
    ("contact.descendants().count()", [3]),
    ("contact.descendants().family", ["du March"]),
    ("descendants().where($this is Practitioner).id", ["gp"]),
    ("descendants().ofType(Practitioner).id", ["gp"]),
    ("descendants().reference", ["Organization/1", "#gp", "http://x/fhir/Organization/2/_history/3"]),
    ("gender.trace('x').trace('y', $this)", ["male"]),
    ("now()", ["2024-02-29T13:45:30.123Z"]),
    ("today()", ["2024-02-29"]),
    ("timeOfDay()", ["13:45:30.123"]),
    ("now() = now()", [True]),
    ("gender.type().name", ["code"]),
    ("'x'.type().namespace", ["System"]),
]


@pytest.mark.parametrize(("expression", "expected"), TREE)
def test_tree_and_utility(expression: str, expected: list[Any]) -> None:
    check(expression, expected)


# --- 6.1, equality ----------------------------------------------------------------------------------------------------

EQUALITY: list[tuple[str, list[Any]]] = [
    ("1 = 1.0", [True]),
    ("1 != 2", [True]),
    ("true = 1", [False]),
    ("'a' = 'A'", [False]),
    ("'a' ~ 'A'", [True]),
    ("'a  b' ~ 'A B'", [True]),
    ("{} = 1", []),
    ("{} = {}", []),
    ("{} ~ {}", [True]),
    ("{} ~ 1", [False]),
    ("name = name", [True]),
    ("(1 | 2) = (2 | 1)", [False]),
    ("(1 | 2) ~ (2 | 1)", [True]),
    ("(1 | 2) = (1 | 2 | 3)", [False]),
    ("1.25 ~ 1.2", [False]),
    ("1.2 ~ 1.20", [True]),
    ("@2012 = @2012", [True]),
    ("@2012 = @2013", [False]),
    ("@2012-01 = @2012", []),
    ("@2012-01 ~ @2012", [False]),
    ("@2012-01-01T10:00:00Z = @2012-01-01T12:00:00+02:00", [True]),
    ("@2012-01-01T10:30:31 = @2012-01-01T10:30:31.0", [True]),
    ("@2012-01-01T10:30 != @2012-01-01T10:31", [True]),
    ("@T10:30 = @T10:30:00", []),
    ("1 'g' = 1000 'mg'", [True]),
    ("1 'g' = 1 'm'", []),
    ("7 days = 1 week", [True]),
    ("1 'cm' ~ 10 'mm'", [True]),
    ("gender = 'male'", [True]),
    ("'male' != gender", [False]),
    ("deceased = false", [True]),
    ("active = true", [True]),
    ("birthDate = @1974-12-25", [True]),
    ("multipleBirth = 2", [True]),
    ("Observation.value = 185 '[lb_av]'", [True]),
    ("extension[0].value = 1500 'g'", [True]),
    ("start.exists() = end.exists()", [True]),
]


@pytest.mark.parametrize(("expression", "expected"), EQUALITY)
def test_equality(expression: str, expected: list[Any]) -> None:
    check(expression, expected)


# --- 6.2, comparison --------------------------------------------------------------------------------------------------

COMPARISON: list[tuple[str, list[Any]]] = [
    ("1 < 2", [True]),
    ("1.5 >= 1", [True]),
    ("'a' < 'b'", [True]),
    ("{} < 1", []),
    ("@2018-03 < @2018-04", [True]),
    ("@2018-03 < @2018-03-01", []),
    ("@2018 <= @2018-03", []),
    ("@2018-03-01T10:00:00Z > @2018-03-01T10:30:00+01:00", [True]),
    ("@T10:30 < @T10:31", [True]),
    ("@2018-03-02 > @2018-03-01T12:00:00Z", [True]),
    ("@2018-03-02 > @2018-03-01T23:00:00-05:00", []),
    ("birthDate < today()", [True]),
    ("1 'm' > 99 'cm'", [True]),
    ("1 'm' > 1 'g'", []),
    ("1 year > 11 months", [True]),
]


@pytest.mark.parametrize(("expression", "expected"), COMPARISON)
def test_comparison(expression: str, expected: list[Any]) -> None:
    check(expression, expected)


@pytest.mark.parametrize("expression", ["1 < 'a'", "true < false", "@2012 < 'a'", "@T10:00 < @2012"])
def test_types_without_order_are_refused(expression: str) -> None:
    with pytest.raises(FhirPathError):
        evaluate(expression)


# --- 6.3 and 6.4, types and collections -------------------------------------------------------------------------------

TYPES: list[tuple[str, list[Any]]] = [
    ("1 is Integer", [True]),
    ("1 is System.Integer", [True]),
    ("1 is FHIR.integer", [False]),
    ("gender is code", [True]),
    ("gender is string", [True]),
    ("gender is System.String", [False]),
    ("gender.is(FHIR.code)", [True]),
    ("multipleBirth is integer", [True]),
    ("multipleBirth is boolean", [False]),
    ("deceased is Boolean", [True]),
    ("photo is Attachment", []),
    ("$this is Patient", [True]),
    ("$this is DomainResource", [True]),
    ("contained.first() is Practitioner", [True]),
    ("Observation.value is Quantity", [True]),
    ("(Observation.value as Quantity).unit", ["lbs"]),
    ("Observation.value.as(Quantity).unit", ["lbs"]),
    ("Observation.value.as(string)", []),
    ("Observation.effective.as(DateTime)", ["2015-02"]),
    ("Observation.effective.as(Period)", []),
    ("Observation.component.value.as(Quantity).value", [1]),
    ("extension.value.ofType(Quantity).unit", ["kg"]),
    ("name.ofType(HumanName).family", ["Chalmers", "Windsor"]),
    ("name.ofType(Address)", []),
    ("'usual' in name.use", [True]),
    ("'old' in name.use", [False]),
    ("{} in name.use", []),
    ("'a' in {}", [False]),
    ("name.use contains 'usual'", [True]),
    ("gender in ('male' | 'female')", [True]),
    ("1 in (1.0 | 2)", [True]),
]


@pytest.mark.parametrize(("expression", "expected"), TYPES)
def test_types_and_membership(expression: str, expected: list[Any]) -> None:
    check(expression, expected)


# --- 6.5, boolean logic -----------------------------------------------------------------------------------------------

T, F, E = "true", "false", "{}"
LOGIC = {
    "and": {(T, T): True, (T, F): False, (T, E): None, (F, F): False, (F, E): False, (E, E): None},
    "or": {(T, T): True, (T, F): True, (T, E): True, (F, F): False, (F, E): None, (E, E): None},
    "xor": {(T, T): False, (T, F): True, (T, E): None, (F, F): False, (F, E): None, (E, E): None},
}
IMPLIES = {
    (T, T): True, (T, F): False, (T, E): None, (F, T): True, (F, F): True, (F, E): True, (E, T): True, (E, F): None,
    (E, E): None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        *(
            (f"{left} {op} {right}", value)
            for op, table in LOGIC.items()
            for (a, b), value in table.items()
            for left, right in dict.fromkeys(((a, b), (b, a)))
        ),
        *((f"{a} implies {b}", value) for (a, b), value in IMPLIES.items()),
        ("true and true and {}", None),
        ("false or {} or true", True),
        ("true.not()", False),
        ("{}.not()", None),
    ],
)
def test_three_valued_logic(expression: str, expected: bool | None) -> None:
    assert compile_expression(expression, "Patient").truth(PATIENT) is expected


# --- 6.6 and 6.8, arithmetic and precedence ---------------------------------------------------------------------------

ARITHMETIC: list[tuple[str, list[Any]]] = [
    ("1 + 2 * 3", [7]),
    ("(1 + 2) * 3", [9]),
    ("1 / 2 = 0.5", [True]),
    ("1 / 0", []),
    ("5 div 2", [2]),
    ("-5 div 2", [-2]),
    ("5 mod 3", [2]),
    ("5 mod 0", []),
    ("0.1 + 0.2 = 0.3", [True]),
    ("2147483647 + 1", []),
    ("1 + {}", []),
    ("1 'g' + 1 'mg' = 1001 'mg'", [True]),
    ("2 'cm' * 3 = 6 'cm'", [True]),
    ("@2014-01-31 + 1 month", ["2014-02-28"]),
    ("@2014 + 24 months", ["2016"]),
    ("@2014-03-01 - 1 day", ["2014-02-28"]),
    ("@2014-03-01T00:00:00Z + 1.5 'h'", ["2014-03-01T01:00:00Z"]),
    ("@2014-03-01T00:00:00Z + 1500 'ms'", ["2014-03-01T00:00:01.500Z"]),
    ("@T23:00 + 2 hours", ["01:00"]),
    ("@9999-12-31 + 1 day", []),
    ("-gender.length()", [-4]),
    ("1 > 0 and 2 > 1", [True]),
    ("1 | 2 = 2 | 1", [False]),
    ("true or false and false", [True]),
    ("gender = 'male' | 'female'", [False]),
    ("false implies true = false", [True]),
]


@pytest.mark.parametrize(("expression", "expected"), ARITHMETIC)
def test_arithmetic_and_precedence(expression: str, expected: list[Any]) -> None:
    check(expression, expected)


# --- R4 fhirpath.html -------------------------------------------------------------------------------------------------

FHIR: list[tuple[str, list[Any]]] = [
    ("extension('http://x/b').value", ["z"]),
    ("birthDate.extension('http://x/time').exists()", [True]),
    ("hasExtension('http://x/b')", [True]),
    ("gender.hasValue()", [True]),
    ("name.hasValue()", [False]),
    ("name.given[4].hasValue()", [False]),
    ("name.given.hasValue()", [False]),
    ("deceased.hasValue()", [True]),
    ("gender.getValue()", ["male"]),
    ("gender.value", ["male"]),
    ("generalPractitioner.resolve().name.family", ["Careful"]),
    ("generalPractitioner.where(resolve() is Practitioner).reference", ["#gp"]),
    ("generalPractitioner.where(resolve() is Organization).count()", [1]),
    ("managingOrganization.where(resolve() is Organization).exists()", [True]),
    ("conformsTo('http://hl7.org/fhir/StructureDefinition/Patient')", [True]),
    ("gender.memberOf('http://x')", []),
    ("htmlChecks()", [True]),
]


@pytest.mark.parametrize(("expression", "expected"), FHIR)
def test_functions_of_fhir(expression: str, expected: list[Any]) -> None:
    check(expression, expected)


def test_hooks_are_asked() -> None:
    asked: list[Any] = []

    def member_of(item: Item, url: str) -> bool:
        asked.append((item.value, item.type, url))
        return True

    env = Environment(
        PATIENT,
        member_of=member_of,
        resolve=lambda reference: {"resourceType": "Organization", "id": reference},
        html_checks=lambda text: text == "<div/>",
    )
    assert compile_expression("gender.memberOf('http://v')", "Patient").truth(PATIENT, env) is True
    assert asked == [("male", "code", "http://v")]
    found = compile_expression("managingOrganization.resolve().id").evaluate(PATIENT, env=env)
    assert [item.value for item in found] == ["Organization/1"]
    assert compile_expression("htmlChecks()", "xhtml").truth("<div/>", env) is True
    assert compile_expression("htmlChecks()", "xhtml").truth("<p/>", env) is False


def test_variables() -> None:
    values = evaluate("%low < %high and 'a' in %codes", variables={"low": 1, "high": 2, "codes": ["a", "b"]})
    assert values == [True]
    with pytest.raises(FhirPathError):
        evaluate("%unheard")


# --- places -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "paths"),
    [
        ("name.given", [f"Patient.name[{n}].given[{m}]" for n, m in ((0, 0), (0, 1), (1, 0), (2, 0), (2, 1))]),
        ("deceased", ["Patient.deceased"]),
        ("contained.name.family", ["Patient.contained[0].name[0].family"]),
        ("birthDate.extension.url", ["Patient.birthDate.extension[0].url"]),
        ("Patient", ["Patient"]),
        ("name.where(use = 'usual') | name.last()", ["Patient.name[1]", "Patient.name[2]"]),
    ],
)
def test_located_items_know_their_place(expression: str, paths: list[str]) -> None:
    assert [item.path for item in compile_expression(expression).evaluate(PATIENT, locate=True)] == paths


# --- context types ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "context_type", "focus", "element", "expected"),
    [
        ("start.hasValue().not() or end.hasValue().not() or (start <= end)", "Period",
         {"start": "2020-01-02", "end": "2020-01-01"}, None, False),
        ("start <= end", "Period", {"start": "2020-01-01", "end": "2020-01-01T10:00:00Z"}, None, None),
        ("start <= end", "Period", {"start": "2020-01-01T10:00:00.5Z", "end": "2020-01-01T11:00:00+01:00"}, None,
         False),
        ("low <= high", "Range", {"low": {"value": 1, "code": "g"}, "high": {"value": 2, "code": "m"}}, None, None),
        ("low <= high", "Range", {"low": {"value": 3}, "high": {"value": 2}}, None, False),
        ("extension.exists() != value.exists()", "Extension", {"url": "u", "valueCode": "x"}, None, True),
        ("extension.exists() != value.exists()", "Extension", {"url": "u", "_valueCode": {"id": "x"}}, None, True),
        ("extension.exists() != value.exists()", "Extension", {"url": "u"}, None, False),
        ("hasValue() or (children().count() > id.count())", "string", "x", None, True),
        ("hasValue() or (children().count() > id.count())", "string", None, {"id": "x"}, False),
        ("hasValue() or (children().count() > id.count())", "string", None, {"extension": [{"url": "u"}]}, True),
        ("hasValue() or (children().count() > id.count())", "HumanName", {"id": "x"}, None, False),
        ("hasValue() or (children().count() > id.count())", "HumanName", {"id": "x", "_given": [{"id": "y"}]}, None,
         True),
        ("empty() or ($this = '*') or (toInteger() >= 0)", "string", "*", None, True),
        ("empty() or ($this = '*') or (toInteger() >= 0)", "string", "-1", None, False),
        ("name.exists() or telecom.exists()", "Patient.contact", {"gender": "male"}, None, False),
        ("($this as dateTime).toString().length() >= 8", "dateTime", "2020-01", None, False),
        ("value > 0", "Age", {"value": 1, "comparator": "<"}, None, True),
    ],
)  # fmt: skip
def test_invariants_on_their_context(
    expression: str, context_type: str, focus: Any, element: Any, expected: bool | None
) -> None:
    assert compile_expression(expression, context_type).truth(focus, element=element) is expected


def test_contained_resources_have_their_own_resource_and_root() -> None:
    contained = PATIENT["contained"][0]
    env = Environment(contained, PATIENT)
    assert compile_expression("%resource.id = 'gp' and %rootResource.id = 'p1'", "Practitioner").truth(contained, env)


def test_resource_expressions_are_evaluated_once_per_environment() -> None:
    compiled = compile_expression("name.where(use in %resource.name.use).count() = 3", "Patient")
    env = Environment(PATIENT)
    assert compiled.truth(PATIENT, env) is True
    spent = env.steps
    assert compiled.truth(PATIENT, env) is True
    assert len(env.memo) >= 1
    assert env.steps < spent


def test_unknown_elements_are_named() -> None:
    assert compile_expression("name.fmaily", "Patient").unknown_elements == ("HumanName.fmaily",)
    assert compile_expression("name.family", "Patient").unknown_elements == ()


def test_content_of_invalid_structure_is_an_error_of_the_expression() -> None:
    with pytest.raises(FhirPathError):
        compile_expression("name.family.exists()", "Patient").truth({"resourceType": "Patient", "name": ["x"]})


def test_input_is_not_changed() -> None:
    import copy

    before = copy.deepcopy(PATIENT)
    compile_expression("name.given.combine(name.family) | descendants().take(3)").evaluate(PATIENT)
    assert before == PATIENT
