"""Our expansions against the official ones of hl7.fhir.r4.expansions 4.0.1; each difference has its reason.

expected_expansions.json.gz is written by scripts/derive_terminology.py --expected; null stands for what was cut there.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from terminology import Local, NotExpandable

R4 = "http://hl7.org/fhir/ValueSet/"
V2 = "http://terminology.hl7.org/ValueSet/v2-"
V3 = "http://terminology.hl7.org/ValueSet/v3-"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"

OFFICIAL: dict[str, dict[str, list[str]] | None] = json.loads(
    gzip.decompress((Path(__file__).parent / "expected_expansions.json.gz").read_bytes())
)

# They filter SNOMED CT or LOINC, which is not ours to ship, and the official expansion was cut at 1,000 codes of an
# include (the publisher did not mark all of these), is empty, or includes one that was cut.
ABSENT = """
    adverse-event-type allergyintolerance-code approach-site-codes body-site bodystructure-code care-team-category
    clinical-findings condition-code condition-outcome condition-stage condition-stage-type device-kind device-type
    doc-typecodes encounter-reason flag-code food-type manifestation-or-symptom medication-as-needed-reason
    medication-codes observation-methods participant-role procedure-code procedure-reason substance-code supply-item
"""
NEEDS_SNOMED_OR_LOINC = {R4 + name for name in ABSENT.split()}

# All of a system that is absent, or here only in part: every code belongs; the official list is a sample of it.
WHOLE = {
    R4 + "appointment-cancellation-reason": "content is example",
    R4 + "program": "content is example",
    R4 + "service-category": "content is example",
    R4 + "service-type": "content is example",
    R4 + "insuranceplan-type": "content is fragment",
    R4 + "consent-content-class": "includes formatcodes",
    R4 + "formatcodes": "IHE's code system is absent",
    R4 + "message-events": "the code system is absent",
    R4 + "mimetypes": "BCP 13 is a grammar",
    R4 + "ucum-units": "UCUM is a grammar",
    R4 + "vaccine-code": "CVX grows every year",
    R4 + "consent-content-code": "LOINC",
    R4 + "observation-codes": "LOINC",
    R4 + "questionnaire-questions": "LOINC",
    R4 + "report-codes": "LOINC",
    R4 + "questionnaire-answers": "SNOMED CT",
}

# The publisher leaves out deprecated codes. R4 (ValueSet.compose.inactive): "deprecated" does not mean inactive, and
# inactive codes "would be expected to be included" when compose does not say otherwise.
DEPRECATED = {
    R4 + "diagnostic-service-sections": 4,
    R4 + "observation-interpretation": 10,
    R4 + "patient-contactrelationship": 4,
    R4 + "relatedperson-relationshiptype": 4,
    R4 + "security-labels": 7,
    V2 + "0487": 2,
    V2 + "0916": 1,
}

# The publisher follows the `child` property of a concept one step, and does not go below the child; is-a is transitive.
POLYHIERARCHY = {R4 + "detectedissue-category": 49, V3 + "ActPharmacySupplyType": 4}

# A retired code at the root of v3-ActCode that the publisher drops; it keeps the 37 other retired codes it meets.
RETIRED = {V3 + "ActCode": 1}

# The publisher cut an enumeration of 6,401 LOINC codes at 1,000; the compose lists them all.
CUT = {R4 + "c80-doc-typecodes"}

EQUAL = sorted(OFFICIAL.keys() - NEEDS_SNOMED_OR_LOINC - {*WHOLE, *DEPRECATED, *POLYHIERARCHY, *RETIRED, *CUT})


def ours(terminology: Local, url: str) -> dict[str, set[str]]:
    expansion = terminology.expand(url)
    assert expansion.listed
    return {system: set(codes) for system, codes in expansion.codes.items()}


def official(url: str) -> dict[str, set[str]]:
    codes = OFFICIAL[url]
    assert codes is not None
    return {system: set(listed) for system, listed in codes.items()}


def test_five_hundred_expansions_equal_the_official_ones(packaged: Local) -> None:
    assert len(OFFICIAL) == 553
    assert len(EQUAL) == 500
    assert [url for url in EQUAL if ours(packaged, url) != official(url)] == []


@pytest.mark.parametrize("url", sorted(NEEDS_SNOMED_OR_LOINC))
def test_filters_on_absent_systems_are_not_expandable(packaged: Local, url: str) -> None:
    with pytest.raises(NotExpandable) as caught:
        packaged.expand(url)
    assert caught.value.url == url
    assert url in str(caught.value)
    assert "http://snomed.info/sct" in caught.value.reason or "http://loinc.org" in caught.value.reason


@pytest.mark.parametrize("url", sorted(WHOLE))
def test_all_of_an_open_system_holds_every_official_code(packaged: Local, url: str) -> None:
    expansion = packaged.expand(url)
    assert expansion.whole
    for system, codes in (OFFICIAL[url] or {}).items():
        assert all(expansion.contains(system, code) for code in codes)
        if system not in expansion.whole:
            assert expansion.codes[system] == set(codes)


@pytest.mark.parametrize(("url", "count"), sorted({**DEPRECATED, **POLYHIERARCHY, **RETIRED}.items()))
def test_what_we_have_beyond_the_official_expansion_is_explained(packaged: Local, url: str, count: int) -> None:
    have, expected = ours(packaged, url), official(url)
    assert {system: codes - have.get(system, set()) for system, codes in expected.items()} == {
        system: set() for system in expected
    }
    more = {(system, code) for system, codes in have.items() for code in codes - expected.get(system, set())}
    assert len(more) == count
    for system, code in more:
        concept = packaged.lookup(system, code)
        if url in DEPRECATED:
            assert ("status", "deprecated") in concept.properties
        elif url in RETIRED:
            assert concept.inactive
        else:
            assert len(concept.parents) > 1 or any(
                len(packaged.lookup(system, above).parents) > 1 for above in packaged.ancestors(system, code)
            )


def test_an_enumeration_is_complete_where_the_official_expansion_was_cut(packaged: Local) -> None:
    (url,) = CUT
    assert OFFICIAL[url] is None
    assert len(packaged.expand(url).codes["http://loinc.org"]) == 6_401
