"""Searches that servers often answer wrongly, by HTTP and on both stores. R4 search.html."""

from __future__ import annotations

import pytest

from tests.spec.conftest import Build
from tests.support.http import Client
from tests.support.resources import named, observation, patient

S = "http://example.org/s"


def test_an_empty_value_is_an_absent_parameter(client: Client) -> None:
    """search.html 3.1.1.3: parameters without a value are ignored, and `self` omits them."""
    client.store(observation("o", "Patient/a"))
    answer = client.get("/Observation?subject=")
    assert answer.matches == ["o"]
    assert "subject" not in (answer.link("self") or "")


@pytest.mark.both_stores
@pytest.mark.parametrize(
    "query, expected",
    [
        ("code=c", ["one", "two", "none"]),
        (f"code={S}%7Cc", ["one"]),
        ("code=%7Cc", ["none"]),
        (f"code={S}%7C", ["one", "pair"]),
        (f"code={S}%7Cc2", []),
        ("code=c1&code=c2", ["pair"]),
        ("code=c1,c", ["one", "two", "none", "pair"]),
        (f"code:not={S}%7Cc", ["two", "none", "pair"]),
    ],
)
def test_system_and_code_are_of_one_coding(client: Client, query: str, expected: list[str]) -> None:
    def coded(id: str, *codings: tuple[str, str]) -> dict[str, object]:
        found = [{"code": code, **({"system": system} if system else {})} for system, code in codings]
        return observation(id, code={"coding": found})

    client.store(
        coded("one", (S, "c")),
        coded("two", (S + "2", "c")),
        coded("none", ("", "c")),
        coded("pair", (S, "c1"), (S + "2", "c2")),
    )
    assert sorted(client.get(f"/Observation?{query}").matches) == sorted(expected)


@pytest.mark.both_stores
def test_an_id_alone_is_searched_in_every_type_and_said_so(client: Client) -> None:
    client.store(
        patient("1", active=True),
        {"resourceType": "Group", "id": "1", "type": "person", "actual": True},
        observation("p", "Patient/1"),
        observation("absolute", "https://example.org/fhir/Patient/1"),
        observation("versioned", "Patient/1/_history/1"),
        observation("g", "Group/1"),
    )
    of_patient = {"p", "absolute", "versioned"}
    answer = client.get("/Observation?subject=1")
    assert set(answer.matches) == {*of_patient, "g"}
    assert answer.entries[-1]["search"]["mode"] == "outcome"
    for query in ("subject=Patient/1", "subject=https://example.org/fhir/Patient/1", "subject:Patient=1"):
        assert set(client.get(f"/Observation?{query}").matches) == of_patient


@pytest.mark.both_stores
def test_a_chain_looks_into_contained_resources_and_a_search_does_not(client: Client) -> None:
    inside = patient("p", name=[{"family": "Inside"}])
    client.store(observation("o", "#p", contained=[inside]), named("Outside", "q"), observation("n", "Patient/q"))
    assert client.get("/Patient?family=inside").matches == []
    assert client.get("/Observation?subject:Patient.family=inside").matches == ["o"]
    assert client.get("/Observation?subject:Patient.family=outside").matches == ["n"]


@pytest.mark.both_stores
def test_iterated_includes_of_a_circle_end_without_duplicates(client: Client) -> None:
    client.store(
        *(
            patient(id, link=[{"other": {"reference": f"Patient/{other}"}, "type": "seealso"}])
            for id, other in (("a", "b"), ("b", "c"), ("c", "a"))
        )
    )
    answer = client.get("/Patient?_id=a&_include:iterate=Patient:link&_revinclude:iterate=Patient:link")
    assert answer.matches == ["a"]
    included = [one["resource"]["id"] for one in answer.entries if one["search"]["mode"] == "include"]
    assert sorted(included) == ["b", "c"]


@pytest.mark.both_stores
def test_a_chain_over_more_ids_than_the_limit_is_too_costly(build: Build) -> None:
    client = build(chain_limit=2)
    client.store(*(named("Same", f"p{number}") for number in range(3)), observation("o", "Patient/p1"))
    answer = client.get("/Observation?subject:Patient.family=same")
    assert answer.status == 400
    assert answer.json["issue"][0]["code"] == "too-costly"
    assert client.get("/Observation?subject:Patient._id=p1").matches == ["o"]


@pytest.mark.parametrize("query", ["code:in=http://example.org/no", f"code:below={S}%7Cx", f"code:above={S}%7Cx"])
def test_terminology_that_is_not_loaded_is_not_found_and_never_no_match(client: Client, query: str) -> None:
    answer = client.get(f"/Observation?{query}")
    assert answer.status == 400
    assert answer.json["issue"][0]["code"] == "not-found"
    assert client.get("/ValueSet/$expand?url=http://example.org/no").status == 404


@pytest.mark.parametrize("query", ["_query=nope", "name:foo=x", "birthdate:exact=2020-01-01", "_sort:asc=name"])
def test_what_is_not_supported_is_refused_in_lenient_handling_too(client: Client, query: str) -> None:
    assert client.get(f"/Patient?{query}", prefer="handling=lenient").status == 400


@pytest.mark.parametrize("value", ["birthdate=2013-13-45", "birthdate=2018-02-30", "birthdate=x", "_lastUpdated=24:00"])
def test_what_is_no_date_is_400(client: Client, value: str) -> None:
    answer = client.get(f"/Patient?{value}")
    assert answer.status == 400
    assert answer.json["issue"][0]["code"] == "value"


@pytest.mark.both_stores
def test_a_sort_by_many_keys_is_refused_and_repeats_do_not_count(client: Client) -> None:
    client.store(named("B", "b"), named("A", "a"))
    repeated = ",".join(["family"] * 500)
    assert client.get(f"/Patient?_sort={repeated},-family").matches == ["a", "b"]
    codes = "family,given,gender,birthdate,active,email,phone,telecom,address,address-city,address-state"
    answer = client.get(f"/Patient?_sort={codes}")
    assert answer.status == 400
    assert answer.json["issue"][0]["code"] == "too-costly"
    assert client.get("/Patient?_sort=a|b").status == 400


@pytest.mark.both_stores
def test_a_canonical_is_found_by_its_url_in_any_version(client: Client) -> None:
    client.store(
        {
            "resourceType": "QuestionnaireResponse",
            "id": "r",
            "status": "completed",
            "questionnaire": "http://example.org/fhir/Questionnaire/q|2",
        }
    )
    url = "/QuestionnaireResponse?questionnaire=http://example.org/fhir/Questionnaire/q"
    assert client.get(url).matches == ["r"]
    assert client.get(url + "%7C2").matches == ["r"]
    assert client.get(url + "%7C1").matches == []


@pytest.mark.both_stores
def test_the_first_resource_of_a_bundle_is_found_by_its_own_parameter(client: Client) -> None:
    message = {
        "resourceType": "MessageHeader",
        "id": "h",
        "eventCoding": {"system": S, "code": "e"},
        "source": {"endpoint": "http://example.org/x"},
    }
    client.store(
        {
            "resourceType": "Bundle",
            "id": "b",
            "type": "collection",
            "entry": [{"fullUrl": f"{S}/MessageHeader/h", "resource": message}],
        }
    )
    assert client.get("/Bundle?message=MessageHeader/h").matches == ["b"]
    assert client.get("/Bundle?composition=MessageHeader/h").matches == []
