"""Tokens. R4 search.html#token, #modifiers."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from fhir_server.errors import BadRequest, NotSupported
from tests.support.shelf import Shelf, found, shelf

LOINC = "http://loinc.org"
MR = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "MR"}], "text": "Medical record"}


def observation(
    id: str, *codings: tuple[str | None, str | None], text: str | None = None, **more: Any
) -> dict[str, Any]:
    concept: dict[str, Any] = {
        "coding": [
            {name: value for name, value in (("system", system), ("code", code)) if value is not None}
            for system, code in codings
        ]
    }
    if not codings:
        del concept["coding"]
    if text:
        concept["text"] = text
    return {"resourceType": "Observation", "id": id, "status": "final", "code": concept, **more}


@pytest.fixture(scope="module")
def codes() -> Shelf:
    return shelf(
        [
            observation("one", ("http://s", "c")),
            observation("two", ("http://s2", "c")),
            observation("bare", (None, "c")),
            observation("pair", ("http://s1", "c1"), ("http://s2", "c2")),
            observation("system", ("http://s", None)),
            observation("text", text="Body Weight"),
            observation("upper", ("http://s", "XyZ")),
            observation("comma", ("http://s", "a,b|c$d\\e")),
        ]
    )


@pytest.mark.parametrize(
    "query, ids",
    [
        ("code=c", {"one", "two", "bare"}),
        ("code=http://s|c", {"one"}),
        ("code=|c", {"bare"}),
        ("code=http://s|", {"one", "system", "upper", "comma"}),
        # One coding has to match, not the system of one and the code of another.
        ("code=http://s1|c2", set()),
        ("code=http://s1|c1", {"pair"}),
        ("code=c1,bare,http://s2|c", {"pair", "two"}),
        ("code=c1&code=c2", {"pair"}),
        # Codes fold case unless their system is case-sensitive; systems never do.
        ("code=xyz", {"upper"}),
        ("code=http://s|XYZ", {"upper"}),
        ("code=HTTP://S|xyz", set()),
        (r"code=http://s|a\,b\|c\$d\\e", {"comma"}),
        ("code=cc", set()),
        ("code:not=c", {"pair", "system", "text", "upper", "comma"}),
        ("code:not=http://s|c", {"two", "bare", "pair", "system", "text", "upper", "comma"}),
        ("code:not=c,c1", {"system", "text", "upper", "comma"}),
        ("code:text=body", {"text"}),
        ("code:text=weight", set()),
        ("code:missing=true", set()),
        ("category:missing=true&code=c", {"one", "two", "bare"}),
    ],
)
def test_codings(codes: Shelf, query: str, ids: set[str]) -> None:
    assert found(codes, f"Observation?{query}") == ids


@pytest.fixture(scope="module")
def people() -> Shelf:
    return shelf(
        [
            {
                "resourceType": "Patient",
                "id": "male",
                "gender": "male",
                "active": True,
                "identifier": [{"system": "urn:mrn", "value": "Ab12", "type": MR}, {"value": "77"}],
                "telecom": [
                    {"system": "phone", "use": "home", "value": "555"},
                    {"system": "email", "value": "A@B.org"},
                ],
                "deceasedDateTime": "2020-01-01",
            },
            {"resourceType": "Patient", "id": "none", "deceasedBoolean": False},
            {"resourceType": "Patient", "id": "other", "gender": "other", "active": False, "deceasedBoolean": True},
        ]
    )


@pytest.mark.parametrize(
    "query, ids",
    [
        ("gender=male", {"male"}),
        # search.html#token: the system of an element of type code is implied by its value set.
        ("gender=http://hl7.org/fhir/administrative-gender|male", {"male"}),
        ("gender=http://hl7.org/fhir/wrong|male", set()),
        ("gender:not=male", {"none", "other"}),
        ("gender=male,other", {"male", "other"}),
        ("active=true", {"male"}),
        ("active=http://terminology.hl7.org/CodeSystem/special-values|true", {"male"}),
        ("active:missing=true", {"none"}),
        ("identifier=urn:mrn|ab12", {"male"}),
        ("identifier=AB12", {"male"}),
        ("identifier=|77", {"male"}),
        ("identifier=|Ab12", set()),
        ("identifier:of-type=http://terminology.hl7.org/CodeSystem/v2-0203|MR|Ab12", {"male"}),
        ("identifier:of-type=http://terminology.hl7.org/CodeSystem/v2-0203|SS|Ab12", set()),
        ("identifier:of-type=http://terminology.hl7.org/CodeSystem/v2-0203|MR|77", set()),
        ("identifier:text=medical", {"male"}),
        ("phone=555", {"male"}),
        ("phone=home|555", {"male"}),
        ("email=a@b.org", {"male"}),
        ("phone=a@b.org", set()),
        ("telecom=555&telecom=a@b.org", {"male"}),
        # Patient.deceased.exists() and Patient.deceased != false: a boolean that is never absent.
        ("deceased=true", {"male", "other"}),
        ("deceased=false", {"none"}),
    ],
)
def test_other_types_of_tokens(people: Shelf, query: str, ids: set[str]) -> None:
    assert found(people, f"Patient?{query}") == ids


def test_a_category_with_two_values_is_excluded_by_either() -> None:
    both = observation("both", ("s", "c"), category=[{"coding": [{"code": "x"}]}, {"coding": [{"code": "y"}]}])
    assert found(shelf([both]), "Observation?category:not=x") == set()


@pytest.mark.parametrize("query", ["code=a|b|c", "code=|", "identifier:of-type=MR|1", "code:above=x", "code:below=|x"])
def test_tokens_that_are_malformed(codes: Shelf, query: str) -> None:
    with pytest.raises(BadRequest) as caught:
        found(codes, f"Observation?{query}")
    assert caught.value.issues[0].code == "value"


@pytest.mark.parametrize("query", ["code:exact=x", "code:contains=x", "code:of-type=a|b|c", "status:identifier=x"])
def test_modifiers_that_do_not_fit(codes: Shelf, query: str) -> None:
    with pytest.raises(NotSupported):
        found(codes, f"Observation?{query}")


# --- terminology ------------------------------------------------------------------------------------------------------

ACT = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


@pytest.fixture(scope="module")
def coded() -> Shelf:
    def encounter(id: str, code: str, system: str = ACT) -> dict[str, Any]:
        return {"resourceType": "Encounter", "id": id, "status": "finished", "class": {"system": system, "code": code}}

    return shelf(
        [
            encounter("amb", "AMB"),
            encounter("imp", "IMP"),
            encounter("acute", "ACUTE"),
            encounter("lower", "amb"),
            encounter("elsewhere", "AMB", "http://elsewhere"),
        ]
    )


@pytest.mark.parametrize(
    "query, ids",
    [
        # v3 codes are case-sensitive.
        (f"class={ACT}|AMB", {"amb"}),
        ("class=AMB", {"amb", "elsewhere"}),
        ("class=amb", {"lower", "elsewhere"}),
        (f"class:below={ACT}|IMP", {"imp", "acute"}),
        (f"class:above={ACT}|ACUTE", {"imp", "acute"}),
        ("class:in=http://terminology.hl7.org/ValueSet/v3-ActEncounterCode", {"amb", "imp", "acute"}),
        ("class:not-in=http://terminology.hl7.org/ValueSet/v3-ActEncounterCode", {"lower", "elsewhere"}),
        ("status:in=http://hl7.org/fhir/ValueSet/encounter-status", {"amb", "imp", "acute", "lower", "elsewhere"}),
        ("status:not-in=http://hl7.org/fhir/ValueSet/encounter-status", set()),
    ],
)
def test_code_systems_and_value_sets(coded: Shelf, query: str, ids: set[str]) -> None:
    assert found(coded, f"Encounter?{query}") == ids


@pytest.mark.parametrize(
    "query", ["class:in=http://nowhere/vs", "class:not-in=http://nowhere/vs", "class:below=http://nowhere/cs|x"]
)
def test_unknown_terminology_is_not_found_and_named(coded: Shelf, query: str) -> None:
    with pytest.raises(BadRequest) as caught:
        found(coded, f"Encounter?{query}")
    issue = caught.value.issues[0]
    assert issue.code == "not-found"
    assert "http://nowhere/" in issue.diagnostics


class WholeSystem:
    """A terminology with one value set: all of LOINC but one code, whose codes nobody lists."""

    codes: ClassVar[dict[str, frozenset[str]]] = {}
    whole: ClassVar[dict[str, frozenset[str]]] = {LOINC: frozenset({"8867-4"})}

    def case_sensitive(self, system: str) -> bool | None:
        return False

    def expand(self, canonical: str) -> WholeSystem:
        return self


def test_a_value_set_of_a_whole_system_is_a_test_of_the_system() -> None:
    loinc = shelf(
        [
            observation("in", (LOINC, "1-8")),
            observation("out", (LOINC, "8867-4")),
            observation("other", ("http://x", "1-8")),
        ],
        terminology=WholeSystem(),
    )
    assert found(loinc, "Observation?code:in=http://all-but-one") == {"in"}
    assert found(loinc, "Observation?code:not-in=http://all-but-one") == {"out", "other"}
