"""Numbers, quantities and composites. R4 search.html#number, #quantity, #composite."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.errors import BadRequest, NotSupported
from tests.support.shelf import Shelf, found, parsed, shelf

UCUM = "http://unitsofmeasure.org"


def risk(id: str, probability: str) -> str:
    return f'{{"resourceType":"RiskAssessment","id":"{id}","prediction":[{{{probability}}}]}}'


@pytest.fixture(scope="module")
def risks() -> Shelf:
    return shelf(
        [
            parsed(risk(id, f'"probabilityDecimal": {number}'))
            for id, number in (
                ("100", "100"), ("99.5", "99.50"), ("99.49", "99.49"), ("100.5", "100.5"), ("104.9", "104.9"),
                ("95", "95"),
                ("70", "70"), ("70.2", "70.2"), ("0.5", "0.5"), ("minus", "-3"), ("tiny", "1e-7"),
            )
        ]
        + [parsed(risk("range", '"probabilityRange": {"low": {"value": 60}, "high": {"value": 65}}'))]
    )  # fmt: skip


@pytest.mark.parametrize(
    "value, ids",
    [
        # Equal: [99.5, 100.5) for 100, [99.995, 100.005) for 100.00, [95, 105) for 1e2.
        ("100", {"100", "99.5"}),
        ("100.00", {"100"}),
        ("1e2", {"100", "99.5", "99.49", "100.5", "104.9", "95"}),
        ("eq0.5", {"0.5"}),
        ("0.0000001", {"tiny"}),
        ("-3", {"minus"}),
        # The other prefixes ignore precision.
        ("gt70", {"100", "99.5", "99.49", "100.5", "104.9", "95", "70.2"}),
        ("ge100", {"100", "100.5", "104.9"}),
        ("lt0.5", {"minus", "tiny"}),
        ("le0.5", {"minus", "tiny", "0.5"}),
        ("sa100", {"100.5", "104.9"}),
        ("eb0", {"minus"}),
        ("ne100", {"99.49", "100.5", "104.9", "95", "70", "70.2", "0.5", "minus", "tiny", "range"}),
        # ap: 10 %
        ("ap72", {"70", "70.2", "range"}),
        # A Range is equal to what overlaps it.
        ("62", {"range"}),
        ("66", set()),
        ("gt64", {"100", "99.5", "99.49", "100.5", "104.9", "95", "70", "70.2", "range"}),
        ("70,0.5", {"70", "70.2", "0.5"}),
    ],
)
def test_numbers(risks: Shelf, value: str, ids: set[str]) -> None:
    assert found(risks, f"RiskAssessment?probability={value}") == ids


@pytest.mark.parametrize("value", ["abc", "gt", "1,x", "NaN", "Infinity", "1e", "--1", "0x10", "1e9999999999", "１"])
def test_what_is_no_number_is_400(risks: Shelf, value: str) -> None:
    with pytest.raises(BadRequest):
        found(risks, f"RiskAssessment?probability={value}")


def observation(id: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": id, "status": "final", "code": {"coding": [{"code": "c"}]}, **more}


def quantity(value: Any, code: str = "", system: str = "", unit: str = "", comparator: str = "") -> dict[str, Any]:
    given = {"value": value, "code": code, "system": system, "unit": unit, "comparator": comparator}
    return {name: one for name, one in given.items() if one != ""}


@pytest.fixture(scope="module")
def measured() -> Shelf:
    return shelf(
        [
            observation("mg", valueQuantity=quantity(parsed("5.4"), "mg", UCUM, "milligram")),
            observation("other", valueQuantity=quantity(parsed("5.4"), "mg", "http://other")),
            observation("unit", valueQuantity=quantity(parsed("5.40"), unit="mg")),
            observation("bare", valueQuantity=quantity(parsed("5.4"))),
            observation("kg", valueQuantity=quantity(1, "kg", UCUM)),
            observation("g", valueQuantity=quantity(1000, "g", UCUM)),
            observation("below", valueQuantity=quantity(5, "mmol/L", UCUM, comparator="<")),
            observation("above", valueQuantity=quantity(90, "mmol/L", UCUM, comparator=">=")),
            observation("fever", valueQuantity=quantity(parsed("38.0"), "Cel", UCUM)),
            observation(
                "samples",
                valueSampledData={
                    "origin": quantity(2048, "uV", UCUM),
                    "period": 10,
                    "factor": parsed("1.5"),
                    "dimensions": 1,
                    "data": "2041 E 2043 2037 U L",
                },
            ),
            observation("nothing", valueQuantity={"unit": "mg"}),
        ]
    )


@pytest.mark.parametrize(
    "value, ids",
    [
        (f"5.4|{UCUM}|mg", {"mg"}),
        ("5.4||mg", {"mg", "other", "unit"}),
        ("5.4||milligram", {"mg"}),
        ("5.4", {"mg", "other", "unit", "bare"}),
        ("5.4||", {"mg", "other", "unit", "bare"}),
        (f"5.4|{UCUM}|", {"mg"}),
        ("5.40", {"mg", "other", "unit", "bare"}),
        ("5", {"mg", "other", "unit", "bare"}),
        ("5.0", set()),
        # Units of UCUM meet in base units.
        (f"1000|{UCUM}|g", {"kg", "g"}),
        (f"1|{UCUM}|kg", {"kg", "g"}),
        (f"1.0|{UCUM}|kg", {"kg", "g"}),
        (f"gt999|{UCUM}|g", {"kg", "g"}),
        (f"lt6|{UCUM}|mg", {"mg"}),
        (f"0.0054|{UCUM}|g", {"mg"}),
        (f"311.15|{UCUM}|K", {"fever"}),
        (f"gt100|{UCUM}|[degF]", {"fever"}),
        (f"1000|{UCUM}|unknown-unit", set()),
        # A value that is only known to be below 5 equals nothing, and may be anything below 5.
        (f"3|{UCUM}|mmol/L", set()),
        (f"lt3|{UCUM}|mmol/L", {"below"}),
        (f"gt4|{UCUM}|mmol/L", {"below", "above"}),
        (f"ge5|{UCUM}|mmol/L", {"above"}),
        (f"ne3|{UCUM}|mmol/L", {"below", "above"}),
        (f"eb5|{UCUM}|mmol/L", {"below"}),
        (f"sa80|{UCUM}|mmol/L", {"above"}),
        # Samples reach from the smallest to the largest: 2048 + 1.5 * 2037 to 2048 + 1.5 * 2043.
        (f"5105|{UCUM}|uV", {"samples"}),
        (f"5200|{UCUM}|uV", set()),
        (f"gt5.1|{UCUM}|mV", {"samples"}),
        (f"ap5.5|{UCUM}|mg", {"mg"}),
    ],
)
def test_quantities(measured: Shelf, value: str, ids: set[str]) -> None:
    assert found(measured, f"Observation?value-quantity={value}") == ids


@pytest.mark.parametrize("value", ["abc", "5.4|mg", "5.4|a|b|c", "|s|mg", "5,4x"])
def test_what_is_no_quantity_is_400(measured: Shelf, value: str) -> None:
    with pytest.raises(BadRequest) as caught:
        found(measured, f"Observation?value-quantity={value}")
    assert caught.value.issues[0].code == "value"


@pytest.mark.parametrize("query", ["value-quantity:exact=1", "value-quantity:not=1", "code-value-quantity:not=a$1"])
def test_modifiers_that_do_not_fit(measured: Shelf, query: str) -> None:
    with pytest.raises(NotSupported):
        found(measured, f"Observation?{query}")


def test_money_has_its_currency() -> None:
    invoice = {"resourceType": "Invoice", "id": "eur", "status": "issued", "totalNet": {"value": 40, "currency": "EUR"}}
    assert found(shelf([invoice]), "Invoice?totalnet=40|urn:iso:std:iso:4217|EUR") == {"eur"}
    assert found(shelf([invoice]), "Invoice?totalnet=40||USD") == set()


def test_an_age_and_a_range_are_quantities() -> None:
    conditions = shelf(
        [
            {"resourceType": "Condition", "id": "age", "onsetAge": quantity(52, "a", UCUM)},
            {
                "resourceType": "Condition",
                "id": "range",
                "onsetRange": {"low": quantity(50, "a", UCUM), "high": quantity(55, "a", UCUM)},
            },
            {"resourceType": "Condition", "id": "open", "onsetRange": {"low": quantity(60, "a", UCUM)}},
        ]
    )
    assert found(conditions, f"Condition?onset-age=52|{UCUM}|a") == {"age", "range"}
    assert found(conditions, f"Condition?onset-age=ge70|{UCUM}|a") == {"open"}


@pytest.fixture(scope="module")
def pressures() -> Shelf:
    def component(code: str, value: int) -> dict[str, Any]:
        return {
            "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
            "valueQuantity": quantity(value, "mm[Hg]", UCUM),
        }

    return shelf(
        [
            observation("low-high", component=[component("8480-6", 120), component("8462-4", 150)]),
            observation("high-low", component=[component("8480-6", 150), component("8462-4", 90)]),
            {**observation("own"), "valueQuantity": quantity(145, "mm[Hg]", UCUM)},
            {**observation("said"), "valueString": "Positive!"},
            {**observation("dated"), "valuePeriod": {"start": "2020-01-01", "end": "2020-01-31"}},
            {**observation("concept"), "valueCodeableConcept": {"coding": [{"system": "http://s", "code": "v"}]}},
        ]
    )


@pytest.mark.parametrize(
    "query, ids",
    [
        # Both parts are of one component.
        ("component-code-value-quantity=8480-6$gt140", {"high-low"}),
        ("component-code-value-quantity=http://loinc.org|8480-6$gt140", {"high-low"}),
        ("component-code-value-quantity=http://loinc.org|$gt140", {"low-high", "high-low"}),
        (f"component-code-value-quantity=8462-4$gt100|{UCUM}|mm[Hg]", {"low-high"}),
        ("component-code-value-quantity=8462-4$gt100||kPa", set()),
        ("component-code-value-quantity=8462-4$90,8480-6$120", {"low-high", "high-low"}),
        ("code-value-quantity=c$145", {"own"}),
        ("combo-code-value-quantity=c$145", {"own"}),
        ("combo-code-value-quantity=8480-6$150", {"high-low"}),
        ("combo-code=8480-6", {"low-high", "high-low"}),
        ("combo-code=c&combo-value-quantity=gt149", {"low-high", "high-low"}),
        ("code-value-string=c$positive", {"said"}),
        ("code-value-date=c$2020-01", {"dated"}),
        ("code-value-date=c$ge2021", set()),
        ("code-value-concept=c$http://s|v", {"concept"}),
        ("code-value-concept=C$V", {"concept"}),
        ("code-value-concept=d$v", set()),
        ("component-code-value-quantity:missing=false", {"low-high", "high-low"}),
    ],
)
def test_composites(pressures: Shelf, query: str, ids: set[str]) -> None:
    assert found(pressures, f"Observation?{query}") == ids


@pytest.mark.parametrize("value", ["8480-6", "8480-6$", "$140", "a$b$c", "8480-6$x"])
def test_composites_that_are_malformed(pressures: Shelf, value: str) -> None:
    with pytest.raises(BadRequest):
        found(pressures, f"Observation?component-code-value-quantity={value}")


def test_a_composite_of_three_parts() -> None:
    sequence = {
        "resourceType": "MolecularSequence",
        "id": "seq",
        "coordinateSystem": 0,
        "referenceSeq": {"chromosome": {"coding": [{"code": "1"}]}, "windowStart": 100, "windowEnd": 200},
        "variant": [{"start": 120, "end": 130}, {"start": 150, "end": 160}],
    }
    one = shelf([sequence])
    assert found(one, "MolecularSequence?chromosome-window-coordinate=1$lt110$gt150") == {"seq"}
    assert found(one, "MolecularSequence?chromosome-variant-coordinate=1$120$130") == {"seq"}
    assert found(one, "MolecularSequence?chromosome-variant-coordinate=1$120$160") == set()
