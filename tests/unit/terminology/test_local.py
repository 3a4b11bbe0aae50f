"""Local: which definition counts, how a compose is evaluated, hierarchies, stored resources and their invalidation."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from terminology import Local, NotExpandable, UnknownCanonical, UnknownCode

GENDER = "http://hl7.org/fhir/administrative-gender"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
ROLE_CODE = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
ACME = "http://acme.example/codes"


class Stored:
    """Resources of a server: by type and url, the last one written wins."""

    def __init__(self) -> None:
        self.resources: list[dict[str, Any]] = []
        self.writes = 0

    def put(self, resource: dict[str, Any]) -> None:
        self.resources = [
            kept
            for kept in self.resources
            if (kept["url"], kept.get("version")) != (resource["url"], resource.get("version"))
        ]
        self.resources.append(resource)
        self.writes += 1

    def delete(self, url: str) -> None:
        self.resources = [kept for kept in self.resources if kept["url"] != url]
        self.writes += 1

    def generation(self) -> int:
        return self.writes

    def find(self, resource_type: str, url: str, version: str | None) -> Mapping[str, Any] | None:
        found = [
            resource
            for resource in self.resources
            if resource["resourceType"] == resource_type
            and resource["url"] == url
            and version in (None, resource.get("version"))
        ]
        return found[-1] if found else None


@pytest.fixture
def stored() -> Stored:
    return Stored()


def codes(*concepts: dict[str, Any], url: str = ACME, **more: Any) -> dict[str, Any]:
    return {"resourceType": "CodeSystem", "url": url, "content": "complete", "concept": list(concepts), **more}


def tree() -> dict[str, Any]:
    """animal > (mammal > (dog, cat), bird); bat below mammal and, by property, below bird; `old` is inactive."""
    return codes(
        {
            "code": "animal",
            "property": [{"code": "notSelectable", "valueBoolean": True}],
            "concept": [
                {
                    "code": "mammal",
                    "display": "Mammal",
                    "concept": [
                        {"code": "dog", "property": [{"code": "legs", "valueInteger": 4}]},
                        {"code": "cat", "property": [{"code": "legs", "valueInteger": 4}]},
                        {"code": "bat", "property": [{"code": "legs", "valueInteger": 2}]},
                    ],
                },
                {"code": "bird", "property": [{"code": "child", "valueCode": "bat"}]},
            ],
        },
        {"code": "old", "property": [{"code": "inactive", "valueBoolean": True}]},
        caseSensitive=True,
        hierarchyMeaning="is-a",
    )


def valueset(*include: dict[str, Any], url: str = "http://acme.example/vs", **more: Any) -> dict[str, Any]:
    exclude = more.pop("exclude", None)
    compose = {"include": list(include), **({"exclude": exclude} if exclude else {})}
    if "inactive" in more:
        compose["inactive"] = more.pop("inactive")
    return {"resourceType": "ValueSet", "url": url, "compose": compose, **more}


def filtered(name: str, op: str, value: str, system: str = ACME) -> dict[str, Any]:
    return {"system": system, "filter": [{"property": name, "op": op, "value": value}]}


def expanded(stored: Stored, *include: dict[str, Any], **more: Any) -> set[str]:
    stored.put(valueset(*include, **more))
    return {code for _, code in Local(stored).expand("http://acme.example/vs")}


# Case


@pytest.mark.parametrize(
    ("system", "sensitive"),
    [
        (GENDER, True),
        (ACT_CODE, True),
        ("http://terminology.hl7.org/CodeSystem/v2-0203", True),
        ("http://loinc.org", False),
        ("http://snomed.info/sct", False),
        ("http://hl7.org/fhir/sid/icd-10", False),
        ("http://unitsofmeasure.org", True),
        ("urn:ietf:bcp:13", False),
        ("http://acme.example/unheard-of", None),
    ],
)
def test_case_sensitivity_is_what_the_system_says(packaged: Local, system: str, sensitive: bool | None) -> None:
    assert packaged.case_sensitive(system) is sensitive


def test_case_sensitivity_does_not_depend_on_what_is_stored(stored: Stored) -> None:
    # An index is built with it, and must not change its meaning when somebody stores a CodeSystem.
    terminology = Local(stored)
    stored.put(tree())
    assert terminology.case_sensitive(ACME) is None


def test_membership_ignores_case_only_where_case_does_not_count(packaged: Local, stored: Stored) -> None:
    assert not packaged.contains("http://hl7.org/fhir/ValueSet/administrative-gender", GENDER, "Male")
    stored.put(valueset({"system": "http://hl7.org/fhir/sid/icd-10", "concept": [{"code": "E11.9"}]}))
    assert Local(stored).contains("http://acme.example/vs", "http://hl7.org/fhir/sid/icd-10", "e11.9")


# Canonicals


def test_version_after_a_bar_picks_that_version(packaged: Local) -> None:
    url = "http://hl7.org/fhir/ValueSet/administrative-gender"
    assert set(packaged.expand(url + "|4.0.1")) == {(GENDER, c) for c in ("male", "female", "other", "unknown")}
    with pytest.raises(UnknownCanonical, match=r"administrative-gender\|9"):
        packaged.expand(url + "|9")


def test_unknown_value_set_is_named(packaged: Local) -> None:
    with pytest.raises(UnknownCanonical, match=r"acme\.example/nowhere"):
        packaged.expand("http://acme.example/nowhere")


def test_a_stored_definition_wins_when_it_is_newer_or_has_no_version(stored: Stored) -> None:
    url = "http://hl7.org/fhir/ValueSet/administrative-gender"
    terminology = Local(stored)
    one = {"system": GENDER, "concept": [{"code": "male"}]}
    for version, wins in (("4.0.1", False), ("3.9", False), ("4.0.10", True), (None, True)):
        stored.resources.clear()
        stored.put(valueset(one, url=url, **({"version": version} if version else {})))
        assert (len(terminology.expand(url)) == 1) is wins, version


def test_required_bindings_ignore_what_is_stored(stored: Stored) -> None:
    url = "http://hl7.org/fhir/ValueSet/administrative-gender"
    stored.put(valueset({"system": GENDER, "concept": [{"code": "banana"}]}, url=url, version="99"))
    check = Local(stored).required(url)
    assert check(None, "male")
    assert check(GENDER, "female")
    assert not check(None, "banana")
    assert not check("http://acme.example/other", "male")


# Compose


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        ({"system": ACME}, {"mammal", "dog", "cat", "bat", "bird", "old"}),
        ({"system": ACME, "concept": [{"code": "animal"}, {"code": "dog"}]}, {"animal", "dog"}),
        (filtered("concept", "is-a", "mammal"), {"mammal", "dog", "cat", "bat"}),
        (filtered("concept", "descendent-of", "mammal"), {"dog", "cat", "bat"}),
        (filtered("concept", "is-a", "bird"), {"bird", "bat"}),
        (filtered("concept", "is-not-a", "mammal"), {"bird", "old"}),
        (filtered("concept", "generalizes", "bat"), {"bat", "mammal", "bird"}),
        (filtered("legs", "=", "4"), {"dog", "cat"}),
        (filtered("legs", "exists", "true"), {"dog", "cat", "bat"}),
        (filtered("legs", "exists", "false"), {"mammal", "bird", "old"}),
        (filtered("code", "regex", "[a-c]at"), {"cat", "bat"}),
        (filtered("code", "in", "dog, cat"), {"dog", "cat"}),
        (filtered("legs", "not-in", "4"), {"mammal", "bat", "bird", "old"}),
        (filtered("parent", "=", "mammal"), {"dog", "cat", "bat"}),
        (filtered("child", "=", "bat"), {"mammal", "bird"}),
        (filtered("display", "=", "Mammal"), {"mammal"}),
        (filtered("notSelectable", "=", "false"), {"mammal", "dog", "cat", "bat", "bird", "old"}),
        (filtered("concept", "is-a", "unheard-of"), set()),
    ],
)
def test_an_include_selects(stored: Stored, include: dict[str, Any], expected: set[str]) -> None:
    stored.put(tree())
    assert expanded(stored, include) == expected


def test_all_filters_of_an_include_apply(stored: Stored) -> None:
    stored.put(tree())
    include = filtered("concept", "is-a", "mammal")
    include["filter"].append({"property": "legs", "op": "=", "value": "2"})
    assert expanded(stored, include) == {"bat"}


def test_includes_are_a_union_and_excludes_are_taken_away(stored: Stored) -> None:
    stored.put(tree())
    assert expanded(
        stored,
        filtered("concept", "is-a", "bird"),
        {"system": ACME, "concept": [{"code": "dog"}, {"code": "cat"}]},
        exclude=[{"system": ACME, "concept": [{"code": "cat"}]}],
    ) == {"bird", "bat", "dog"}


def test_value_sets_within_an_include_intersect(stored: Stored) -> None:
    stored.put(tree())
    stored.put(valueset(filtered("concept", "is-a", "mammal"), url="http://acme.example/mammals"))
    stored.put(
        valueset(filtered("concept", "is-a", "bird"), {"system": "urn:x", "concept": [{"code": "y"}]}, url="urn:b")
    )
    assert expanded(stored, {"valueSet": ["http://acme.example/mammals", "urn:b"]}) == {"bat"}
    assert expanded(stored, {"valueSet": ["http://acme.example/mammals"]}, {"valueSet": ["urn:b"]}) == {
        "mammal", "dog", "cat", "bat", "bird", "y",
    }  # fmt: skip
    assert expanded(stored, {"system": "urn:x", "valueSet": ["urn:b"]}) == {"y"}
    assert expanded(stored, {**filtered("legs", "=", "2"), "valueSet": ["urn:b"]}) == {"bat"}


def test_inactive_codes_are_left_out_when_compose_says_so(stored: Stored) -> None:
    stored.put(tree())
    assert "old" in expanded(stored, {"system": ACME})
    assert "old" not in expanded(stored, {"system": ACME}, inactive=False)


def test_all_of_an_absent_system_needs_no_list(stored: Stored) -> None:
    stored.put(
        valueset(
            {"system": "http://loinc.org"}, exclude=[{"system": "http://loinc.org", "concept": [{"code": "LA1-2"}]}]
        )
    )
    terminology = Local(stored)
    expansion = terminology.expand("http://acme.example/vs")
    assert expansion.whole == {"http://loinc.org": {"LA1-2"}}
    assert not expansion.listed
    assert list(expansion) == []
    assert ("http://loinc.org", "8867-4") in expansion
    assert ("http://loinc.org", "la1-2") not in expansion
    assert ("http://snomed.info/sct", "8867-4") not in expansion


def test_value_sets_that_include_each_other_are_not_expandable(stored: Stored) -> None:
    stored.put(valueset({"valueSet": ["urn:b"]}, url="urn:a"))
    stored.put(valueset({"valueSet": ["urn:a"]}, url="urn:b"))
    with pytest.raises(NotExpandable, match="includes itself") as caught:
        Local(stored).expand("urn:a")
    assert caught.value.url == "urn:a"


def test_value_sets_nested_too_deep_are_not_expandable(stored: Stored) -> None:
    for depth in range(100):
        stored.put(valueset({"valueSet": [f"urn:{depth + 1}"]}, url=f"urn:{depth}"))
    with pytest.raises(NotExpandable, match="deep") as caught:
        Local(stored).expand("urn:0")
    assert caught.value.url == "urn:0"


@pytest.mark.parametrize(
    ("include", "reason"),
    [
        ({"valueSet": ["urn:nowhere"]}, "urn:nowhere"),
        (filtered("concept", "is-a", "404684003", "http://snomed.info/sct"), "http://snomed.info/sct"),
        ({"system": ACME, "version": "7"}, "version 7"),
        ({**filtered("legs", "=", "4"), "version": "7"}, "version 7"),
        (filtered("legs", "sounds-like", "4"), "operator"),
        (filtered("legs", "exists", "maybe"), "exists"),
        (filtered("legs", "is-a", "4"), "is-a"),
        (filtered("code", "regex", "(a+)+b"), "repeats a repetition"),
        ({}, "neither a system nor a value set"),
    ],
)
def test_what_cannot_be_computed_says_why(stored: Stored, include: dict[str, Any], reason: str) -> None:
    stored.put(tree())
    stored.put(valueset(include))
    with pytest.raises(NotExpandable) as caught:
        Local(stored).expand("http://acme.example/vs")
    assert caught.value.url == "http://acme.example/vs"
    assert reason in str(caught.value)


def test_a_pinned_version_of_a_stored_code_system_is_used(stored: Stored) -> None:
    stored.put(codes({"code": "a"}, version="1"))
    stored.put(codes({"code": "a"}, {"code": "b"}, version="2"))
    assert expanded(stored, {"system": ACME, "version": "1"}) == {"a"}
    assert expanded(stored, {"system": ACME}) == {"a", "b"}
    assert expanded(stored, {"system": ACME, "version": "*"}) == {"a", "b"}


def test_a_value_set_without_compose_stands_by_its_whole_expansion(stored: Stored) -> None:
    expansion: dict[str, Any] = {
        "contains": [{"system": ACME, "code": "dog", "contains": [{"code": "x", "system": ACME}]}]
    }
    stored.put({"resourceType": "ValueSet", "url": "urn:e", "expansion": expansion})
    terminology = Local(stored)
    assert set(terminology.expand("urn:e")) == {(ACME, "dog"), (ACME, "x")}
    stored.put({"resourceType": "ValueSet", "url": "urn:e", "expansion": {**expansion, "total": 9}})
    with pytest.raises(NotExpandable, match="urn:e"):
        terminology.expand("urn:e")


def test_a_definition_that_is_stored_nowhere_can_be_expanded(packaged: Local) -> None:
    expansion = packaged.expand_definition(
        valueset({"system": GENDER}, exclude=[{"system": GENDER, "concept": [{"code": "unknown"}]}])
    )
    assert expansion.codes == {GENDER: {"male", "female", "other"}}


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("http://snomed.info/sct?fhir_vs", "http://snomed.info/sct"),
        ("http://snomed.info/sct/900000000000207008?fhir_vs", "http://snomed.info/sct"),
        ("http://loinc.org/vs", "http://loinc.org"),
        ("http://unitsofmeasure.org/vs", "http://unitsofmeasure.org"),
    ],
)
def test_implicit_value_sets_of_whole_systems(packaged: Local, url: str, whole: str) -> None:
    assert set(packaged.expand(url).whole) == {whole}


def test_implicit_snomed_hierarchies_need_the_concepts(packaged: Local, stored: Stored) -> None:
    url = "http://snomed.info/sct?fhir_vs=isa/73211009"
    with pytest.raises(NotExpandable, match="isa/73211009"):
        packaged.expand(url)
    diabetes = {"code": "73211009", "concept": [{"code": "44054006"}]}
    stored.put(codes(diabetes, url="http://snomed.info/sct", content="fragment"))
    assert set(Local(stored).expand(url)) == {("http://snomed.info/sct", c) for c in ("73211009", "44054006")}
    with pytest.raises(NotExpandable, match="ecl"):
        packaged.expand("http://snomed.info/sct?fhir_vs=ecl/%3C73211009")


# Hierarchies


def test_descendants_and_ancestors_leave_the_code_itself_out(stored: Stored) -> None:
    stored.put(tree())
    terminology = Local(stored)
    assert terminology.descendants(ACME, "animal") == {"mammal", "dog", "cat", "bat", "bird"}
    assert terminology.descendants(ACME, "dog") == set()
    assert terminology.ancestors(ACME, "bat") == {"mammal", "bird", "animal"}


@pytest.mark.parametrize(
    ("a", "b", "outcome"),
    [
        ("mammal", "bat", "subsumes"),
        ("bat", "animal", "subsumed-by"),
        ("dog", "dog", "equivalent"),
        ("dog", "bird", "not-subsumed"),
    ],
)
def test_subsumes_answers_from_the_first_code(stored: Stored, a: str, b: str, outcome: str) -> None:
    stored.put(tree())
    assert Local(stored).subsumes(ACME, a, b) == outcome


def test_packaged_hierarchies_have_several_parents(packaged: Local) -> None:
    # v3-RoleCode nests; v3-ActCode adds parents by `child`.
    assert packaged.subsumes(ROLE_CODE, "FAMMEMB", "NMTH") == "subsumes"
    assert {"FF", "_ActPharmacySupplyType", "_ActBillingArrangementCode"} <= packaged.ancestors(ACT_CODE, "FFS")


@pytest.mark.parametrize("meaning", ["part-of", "grouped-by", "classified-with"])
def test_only_is_a_hierarchies_subsume(stored: Stored, meaning: str) -> None:
    stored.put({**tree(), "hierarchyMeaning": meaning})
    assert Local(stored).descendants(ACME, "mammal") == set()


def test_a_hierarchy_that_runs_in_a_circle_ends(stored: Stored) -> None:
    stored.put(
        codes(
            {"code": "a", "property": [{"code": "parent", "valueCode": "b"}]},
            {"code": "b", "property": [{"code": "parent", "valueCode": "a"}]},
        )
    )
    assert Local(stored).descendants(ACME, "a") == {"b"}


def test_an_unknown_system_and_an_unknown_code_are_told_apart(packaged: Local) -> None:
    with pytest.raises(UnknownCanonical, match=r"acme\.example/codes"):
        packaged.descendants(ACME, "a")
    with pytest.raises(UnknownCanonical, match=r"snomed\.info/sct"):
        packaged.subsumes("http://snomed.info/sct", "73211009", "44054006")
    with pytest.raises(UnknownCode) as caught:
        packaged.ancestors(GENDER, "purple")
    assert "purple" not in str(caught.value)


# Stored resources come and go


def test_what_is_stored_later_is_seen_at_once(stored: Stored) -> None:
    terminology = Local(stored)
    stored.put(valueset({"system": ACME}))
    assert set(terminology.expand("http://acme.example/vs").whole) == {ACME}
    stored.put(tree())
    assert terminology.expand("http://acme.example/vs").listed
    assert terminology.subsumes(ACME, "bird", "bat") == "subsumes"
    stored.delete(ACME)
    assert set(terminology.expand("http://acme.example/vs").whole) == {ACME}
    with pytest.raises(UnknownCanonical):
        terminology.subsumes(ACME, "bird", "bat")


def test_a_stored_stub_does_not_hide_a_packaged_code_system(stored: Stored) -> None:
    stored.put({"resourceType": "CodeSystem", "url": GENDER, "version": "99", "content": "not-present"})
    assert Local(stored).display(GENDER, "male") == "Male"


def test_forget_drops_what_was_computed(stored: Stored) -> None:
    stored.put(tree())
    stored.put(valueset({"system": ACME}))
    terminology = Local(stored)
    before = terminology.expand("http://acme.example/vs")
    assert terminology.expand("http://acme.example/vs") is before
    terminology.forget("http://acme.example/vs")
    assert terminology.expand("http://acme.example/vs") is not before


# Operations


def test_validate_code_says_why_not_without_the_code(packaged: Local) -> None:
    url = "http://hl7.org/fhir/ValueSet/administrative-gender"
    good = packaged.validate_code(url, None, "male", "male")
    assert (good.result, good.system, good.display) == (True, GENDER, "Male")
    bad = packaged.validate_code(url, GENDER, "purple")
    assert not bad.result
    assert url in str(bad.message)
    assert "purple" not in str(bad.message)
    wrong = packaged.validate_code(url, GENDER, "male", "Female")
    assert (wrong.result, wrong.display) == (False, "Male")


def test_validate_code_in_a_grammar(packaged: Local) -> None:
    url = "http://hl7.org/fhir/ValueSet/ucum-units"
    assert packaged.validate_code(url, "http://unitsofmeasure.org", "mg/dL").result
    assert not packaged.validate_code(url, "http://unitsofmeasure.org", "millis").result


@pytest.mark.parametrize(
    ("code", "valid"),
    [
        ("application/fhir+json", True),
        ("text/plain; charset=utf-8", True),
        ("image/svg+xml", True),
        ("xml", True),
        ("pdf", False),
        ("text/", False),
        ("text/pl ain", False),
    ],
)
def test_required_mime_types_are_tested_by_their_grammar(packaged: Local, code: str, valid: bool) -> None:
    check = packaged.required("http://hl7.org/fhir/ValueSet/mimetypes|4.0.1")
    assert check(None, code) is valid
    assert check("urn:ietf:bcp:13", code) is valid


@pytest.mark.parametrize(
    "valueset",
    ["administrative-gender", "currencies", "event-or-request-resource-types", "mimetypes", "languages", "ucum-units"],
)
def test_required_agrees_with_contains_on_every_listed_code(packaged: Local, valueset: str) -> None:
    url = f"http://hl7.org/fhir/ValueSet/{valueset}"
    check = packaged.required(url)
    for system, code in packaged.expand(url):
        assert check(system, code)
        assert check(None, code)
        assert packaged.contains(url, system, code)
        assert not check("http://acme.example/other", code)
        assert not check(system, f"{code} {code}")


def test_required_currencies_are_listed(packaged: Local) -> None:
    check = packaged.required("http://hl7.org/fhir/ValueSet/currencies|4.0.1")
    assert check(None, "CNY")
    assert not check(None, "XXQ")


def test_lookup_tells_all_that_is_known(packaged: Local) -> None:
    concept = packaged.lookup(ACT_CODE, "AMB")
    assert (concept.display, concept.parents) == ("ambulatory", ("_ActEncounterCode",))
    assert concept.definition is not None
    assert "outpatient" in concept.definition
    assert packaged.lookup(ACT_CODE, "_ActEncounterCode").abstract


def test_display_is_none_where_nothing_is_known(packaged: Local) -> None:
    assert packaged.display(GENDER, "female") == "Female"
    assert packaged.display(GENDER, "purple") is None
    assert packaged.display("http://acme.example/unheard-of", "x") is None


V3_GENDER = "http://terminology.hl7.org/CodeSystem/v3-AdministrativeGender"


def test_translate_forwards_and_backwards(packaged: Local) -> None:
    url = "http://hl7.org/fhir/ConceptMap/cm-administrative-gender-v3"
    (forwards,) = packaged.translate(GENDER, "male", url=url)
    assert (forwards.system, forwards.code, forwards.source) == (V3_GENDER, "M", url)
    (backwards,) = packaged.translate(V3_GENDER, "M", url=url, reverse=True)
    assert (backwards.system, backwards.code) == (GENDER, "male")
    assert packaged.translate(GENDER, "purple", url=url) == []
    assert {found.system for found in packaged.translate(GENDER, "male")} >= {V3_GENDER}
    assert {found.system for found in packaged.translate(GENDER, "male", target_system=V3_GENDER)} == {V3_GENDER}
    with pytest.raises(UnknownCanonical, match="urn:no-map"):
        packaged.translate(GENDER, "male", url="urn:no-map")


def test_translate_by_a_stored_map_with_unmapped(stored: Stored) -> None:
    group = {"source": ACME, "target": "urn:t", "element": [{"code": "a", "target": [{"code": "A"}]}]}
    resource = {"resourceType": "ConceptMap", "url": "urn:map"}
    terminology = Local(stored)
    stored.put({**resource, "group": [{**group, "unmapped": {"mode": "fixed", "code": "Z"}}]})
    assert [found.code for found in terminology.translate(ACME, "a", url="urn:map")] == ["A"]
    assert [found.code for found in terminology.translate(ACME, "b", url="urn:map")] == ["Z"]
    stored.put({**resource, "group": [{**group, "unmapped": {"mode": "provided"}}]})
    assert [found.code for found in terminology.translate(ACME, "b", url="urn:map")] == ["b"]


@pytest.mark.parametrize(
    ("name", "uri"),
    [
        ("urn:oid:2.16.840.1.113883.6.3", "http://hl7.org/fhir/sid/icd-10"),
        ("http://terminology.hl7.org/CodeSystem/icd10", "http://hl7.org/fhir/sid/icd-10"),
        ("urn:oid:2.16.840.1.113883.6.103", "http://hl7.org/fhir/sid/icd-9-cm"),
        ("urn:oid:2.16.840.1.113883.4.330.156", "http://hl7.org/fhir/sid/passport-CHN"),
        ("urn:oid:2.16.840.1.113883.6.1", "http://loinc.org"),
        ("urn:oid:2.16.840.1.113883.5.4", ACT_CODE),
        ("http://hl7.org/fhir/v2/0203", "http://terminology.hl7.org/CodeSystem/v2-0203"),
        ("http://hl7.org/fhir/sid/us-ssn", "http://hl7.org/fhir/sid/us-ssn"),
        ("urn:x-unheard-of", "urn:x-unheard-of"),
    ],
)
def test_other_names_of_a_system(packaged: Local, name: str, uri: str) -> None:
    assert packaged.alias(name) == uri


# Cost


def test_terminology_is_small_until_it_is_used() -> None:
    script = (
        "import tracemalloc, sys; tracemalloc.start()\n"
        "from terminology import Local; t = Local()\n"
        "assert t.case_sensitive('http://loinc.org') is False\n"
        "print(tracemalloc.get_traced_memory()[0])\n"
        "assert not {'fhir_server', 'hestia', 'seed', 'portal', 'smart_auth'} & sys.modules.keys()\n"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    assert int(done.stdout) < 15_000_000
