"""Parameters that shape a result, and what is unknown. R4 search.html#3.1.1.5, #lenient, #paging."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.errors import BadRequest, NotSupported
from tests.support.shelf import Shelf, found, shelf


def observation(id: str, **more: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": id, "status": "final", "code": {"coding": [{"code": "c"}]}, **more}


@pytest.fixture(scope="module")
def ward() -> Shelf:
    return shelf(
        [
            {
                "resourceType": "Patient", "id": "p", "name": [{"family": "B", "given": ["Zoe", "Ann"]}],
                "managingOrganization": {"reference": "Organization/o"},
            },
            {"resourceType": "Patient", "id": "q", "name": [{"family": "A"}, {"family": "Z"}]},
            {"resourceType": "Patient", "id": "r"},
            {"resourceType": "Patient", "id": "s", "name": [{"family": "van Aa"}]},
            {"resourceType": "Organization", "id": "o", "partOf": {"reference": "Organization/top"}},
            {"resourceType": "Organization", "id": "top", "partOf": {"reference": "Organization/o"}},
            observation("1", subject={"reference": "Patient/p"}, effectiveDateTime="2020"),
            observation(
                "2", subject={"reference": "Patient/q"}, effectiveDateTime="2020-06-01",
                performer=[{"reference": "Organization/o"}],
            ),
            observation("3", subject={"reference": "Patient/missing"}, hasMember=[{"reference": "Observation/1"}]),
            observation("4", subject={"reference": "Group/g"}, effectivePeriod={"start": "2019-01-01"}),
            {"resourceType": "Group", "id": "g", "type": "person", "actual": True},
        ]
    )  # fmt: skip


@pytest.mark.parametrize(
    "url, order",
    [
        # The smallest value ascending, the largest descending; without a value last, in both directions.
        ("Patient?_sort=family", ["q", "p", "s", "r"]),
        ("Patient?_sort=-family", ["q", "s", "p", "r"]),
        ("Patient?_sort=given", ["p", "q", "r", "s"]),
        ("Patient?_sort=-_id", ["s", "r", "q", "p"]),
        ("Observation?_sort=date", ["4", "1", "2", "3"]),
        ("Observation?_sort=-date", ["4", "1", "2", "3"]),
        ("Observation?_sort=status,-_id", ["4", "3", "2", "1"]),
        ("Observation?_sort=-patient", ["2", "1", "3", "4"]),
        ("Patient?", ["p", "q", "r", "s"]),
    ],
)
def test_sorting(ward: Shelf, url: str, order: list[str]) -> None:
    assert [address.partition("/")[2] for address in ward.addresses(url)] == order


@pytest.mark.parametrize("rule", ["code-value-quantity", "_filter", "combo-code-value-quantity"])
def test_what_cannot_be_sorted_by(ward: Shelf, rule: str) -> None:
    with pytest.raises(BadRequest):
        ward.resolved(f"Observation?_sort={rule}")


def test_an_unknown_sort_rule_is_ignored_or_refused(ward: Shelf) -> None:
    resolved = ward.resolved("Patient?_sort=nonsense,family")
    assert len(resolved.search.sort) == 1
    assert len(resolved.issues) == 1
    assert resolved.applied == [("_sort", "family")]
    with pytest.raises(BadRequest):
        ward.resolved("Patient?_sort=nonsense", handling="strict")


@pytest.mark.parametrize(
    "url, included",
    [
        ("Observation?_id=1&_include=Observation:subject", {"Patient/p"}),
        ("Observation?_include=Observation:subject", {"Patient/p", "Patient/q", "Group/g"}),
        ("Observation?_include=Observation:subject:Patient", {"Patient/p", "Patient/q"}),
        ("Observation?_include=Observation:patient", {"Patient/p", "Patient/q"}),
        ("Observation?_id=1&_include=Observation:subject&_include=Patient:organization", {"Patient/p"}),
        (
            "Observation?_id=1&_include=Observation:subject&_include:iterate=Patient:organization",
            {"Patient/p", "Organization/o"},
        ),
        (
            "Observation?_id=1&_include=Observation:subject&_include:iterate=Patient:organization"
            "&_include:iterate=Organization:partof",
            {"Patient/p", "Organization/o", "Organization/top"},
        ),
        ("Observation?_id=2&_include=*", {"Patient/q", "Organization/o"}),
        ("Observation?_id=2&_include=Observation:*", {"Patient/q", "Organization/o"}),
        ("Organization?_id=o&_include:iterate=Organization:partof", {"Organization/top"}),
        ("Organization?_id=o&_include:recurse=Organization:partof", {"Organization/top"}),
        ("Patient?_id=p&_revinclude=Observation:patient", {"Observation/1"}),
        (
            "Patient?_id=p&_revinclude=Observation:subject&_revinclude:iterate=Observation:has-member",
            {"Observation/1", "Observation/3"},
        ),
        ("Patient?_id=p&_revinclude=Observation:*", {"Observation/1"}),
        ("Patient?_id=p&_revinclude=*", {"Observation/1"}),
        ("Organization?_id=top&_revinclude=Organization:partof", {"Organization/o"}),
        ("Group?_revinclude=Observation:subject:Group", {"Observation/4"}),
        ("Observation?_id=3&_include=Observation:has-member", {"Observation/1"}),
    ],
)
def test_includes(ward: Shelf, url: str, included: set[str]) -> None:
    assert ward.included(url) == included


@pytest.mark.parametrize(
    "query",
    [
        "_include=Observation",
        "_include=Observation:nonsense",
        "_include=Observation:code",
        "_include=Nonsense:subject",
        "_include=Observation:subject:Nonsense",
        "_include=Observation:subject:Medication",
        "_include:foo=Observation:subject",
        "_revinclude=Observation:",
        "_include=a:b:c:d",
    ],
)
def test_includes_that_cannot_be(ward: Shelf, query: str) -> None:
    with pytest.raises(BadRequest):
        ward.resolved(f"Observation?{query}")


@pytest.mark.parametrize(
    "query, count",
    [("", 50), ("_count=1", 1), ("_count=1000", 1000), ("_count=999999", 1000), ("_count=99999999999999", 1000)],
)
def test_count_is_clamped(ward: Shelf, query: str, count: int) -> None:
    resolved = ward.resolved(f"Patient?{query}")
    assert resolved.search.count == count
    if query:
        assert resolved.applied == [("_count", str(count))]


@pytest.mark.parametrize("query", ["_count=0", "_summary=count"])
def test_a_count_alone(ward: Shelf, query: str) -> None:
    resolved = ward.resolved(f"Patient?{query}&_include=Patient:organization&_sort=family")
    assert (resolved.search.count, resolved.search.total, resolved.search.includes) == (0, True, ())
    assert resolved.shape.count_only


@pytest.mark.parametrize(
    "query",
    [
        "_count=-1", "_count=x", "_count=1.5", "_count=1&_count=2", "_count=٣", "_summary=x", "_total=x",
        "_contained=x",
        "_containedType=x", "_explain=x", "_sort:asc=family", "_query=nope", "_type=Nonsense",
    ],
)  # fmt: skip
@pytest.mark.parametrize("handling", ["lenient", "strict"])
def test_what_cannot_be_asked_for(ward: Shelf, query: str, handling: str) -> None:
    with pytest.raises(BadRequest):
        ward.resolved(f"Patient?{query}", handling=handling)


def test_the_shape_of_the_answer(ward: Shelf) -> None:
    resolved = ward.resolved(
        "Patient?_summary=text&_elements=name,gender&_elements=active&_total=estimate&_explain=true&_pretty=true"
    )
    assert resolved.shape.summary == "text"
    assert resolved.shape.elements == ("name", "gender", "active")
    assert resolved.shape.explain
    assert resolved.search.total


def test_an_unknown_parameter_is_a_warning_and_not_in_self(ward: Shelf) -> None:
    resolved = ward.resolved("Patient?unknown=secret&family=a&given=")
    assert resolved.applied == [("family", "a")]
    assert [(issue.severity, "secret" in issue.diagnostics) for issue in resolved.issues] == [("warning", False)]
    assert "unknown" in resolved.issues[0].diagnostics


def test_an_unknown_parameter_is_refused_in_strict_handling(ward: Shelf) -> None:
    with pytest.raises(BadRequest):
        ward.resolved("Patient?unknown=x", handling="strict")
    assert ward.resolved("Patient?unknown=", handling="strict").applied == []


@pytest.mark.parametrize(
    "query, restricts",
    [("", False), ("unknown=x", False), ("_count=3&_sort=family", False), ("family=x", True), ("family=", False)],
)
def test_whether_there_are_criteria(ward: Shelf, query: str, restricts: bool) -> None:
    assert ward.resolved(f"Patient?{query}").criteria is restricts


@pytest.mark.parametrize(
    "url, addresses",
    [
        ("?_type=Organization,Group", ["Organization/o", "Organization/top", "Group/g"]),
        ("?_id=o,g", ["Organization/o", "Group/g"]),
        ("?_type=Patient,Observation&_id=p,1", ["Patient/p", "Observation/1"]),
        ("?_type=Observation,Group&code=c", ["Observation/1", "Observation/2", "Observation/3", "Observation/4"]),
        ("?_type=Patient&family=b", ["Patient/p"]),
    ],
)
def test_searches_of_the_system(ward: Shelf, url: str, addresses: list[str]) -> None:
    assert ward.addresses(url) == addresses


def test_across_types_a_parameter_must_be_common_to_all(ward: Shelf) -> None:
    with pytest.raises(BadRequest):
        ward.addresses("?_type=Patient,Observation&family=b")
    assert ward.resolved("?family=b").issues


def test_a_tag_is_found_in_every_type() -> None:
    meta = {"tag": [{"system": "http://t", "code": "x"}], "security": [{"code": "R"}]}
    two = shelf(
        [observation("o", meta=meta), {"resourceType": "Patient", "id": "p", "meta": meta}, observation("plain")]
    )
    assert found(two, "?_tag=http://t|x") == {"o", "p"}
    assert found(two, "?_security=r") == {"o", "p"}
    assert found(two, "Observation?_tag:not=x") == {"plain"}
    assert found(two, "?_tag:missing=true") == {"plain"}


def test_an_unsupported_modifier_on_a_result_parameter_is_refused(ward: Shelf) -> None:
    with pytest.raises(NotSupported):
        ward.resolved("Patient?_summary:exact=true")
