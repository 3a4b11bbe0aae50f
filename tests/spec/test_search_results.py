"""R4 search.html: result parameters, links, modes, paging; and what may appear in links and logs."""

from __future__ import annotations

import io
import json
import re

import pytest

from fhir_server.rest.wsgi import FhirApplication
from fhir_server.search import cursor
from tests.spec.conftest import Build
from tests.support.http import BASE, Client
from tests.support.resources import named, observation, patient


def follow(client: Client, path: str) -> list[str]:
    """Ids of all matches of a search, page by page."""
    found: list[str] = []
    following: str | None = path
    while following:
        answer = client.get(following)
        assert answer.status == 200, answer.body
        found += answer.matches
        following = answer.link("next")
    return found


# --- modes, totals, includes ------------------------------------------------------------------------------------------


@pytest.mark.both_stores
def test_modes_tell_matches_includes_and_the_outcome_apart(client: Client) -> None:
    client.store(named("A", "a"), observation("o", "Patient/a"))
    answer = client.get("/Observation?_include=Observation:subject&nonsense=1")
    assert [(entry["search"]["mode"], entry["resource"]["resourceType"]) for entry in answer.entries] == [
        ("match", "Observation"),
        ("include", "Patient"),
        ("outcome", "OperationOutcome"),
    ]
    assert answer.json["total"] == 1
    assert [entry.get("fullUrl") for entry in answer.entries] == [f"{BASE}/Observation/o", f"{BASE}/Patient/a", None]


def test_what_matches_and_is_included_appears_once_as_match(client: Client) -> None:
    client.store(
        patient("a", link=[{"other": {"reference": "Patient/b"}, "type": "seealso"}]),
        patient("b", link=[{"other": {"reference": "Patient/a"}, "type": "seealso"}]),
    )
    answer = client.get("/Patient?_include:iterate=Patient:link")
    assert [entry["search"]["mode"] for entry in answer.entries] == ["match", "match"]
    cycle = client.get("/Patient?_id=a&_include:iterate=Patient:link")
    assert [(entry["resource"]["id"], entry["search"]["mode"]) for entry in cycle.entries] == [
        ("a", "match"),
        ("b", "include"),
    ]


@pytest.mark.both_stores
def test_includes_belong_to_the_matches_of_their_page(client: Client) -> None:
    client.store(
        named("A", "a"),
        named("B", "b"),
        observation("o1", "Patient/a"),
        observation("o2", "Patient/b"),
        observation("o3", "Patient/no"),
    )
    pages = []
    path: str | None = "/Observation?_count=1&_include=Observation:subject&_total=accurate"
    while path:
        answer = client.get(path)
        assert answer.json["total"] == 3
        pages.append([entry["resource"]["id"] for entry in answer.entries])
        path = answer.link("next")
    assert pages == [["o1", "a"], ["o2", "b"], ["o3"]]


def test_too_many_includes_are_announced(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.store(named("A", "a"), *(observation(f"o{number}", "Patient/a") for number in range(3)))
    settings = client.server.extractor.settings
    object.__setattr__(settings, "include_limit", 2)
    answer = client.get("/Patient?_id=a&_revinclude=Observation:subject")
    modes = [entry["search"]["mode"] for entry in answer.entries]
    assert modes == ["match", "include", "include", "outcome"]
    assert answer.entries[-1]["resource"]["issue"][0]["code"] == "incomplete"


# --- pages ------------------------------------------------------------------------------------------------------------


@pytest.mark.both_stores
def test_pages_neither_repeat_nor_skip_while_others_write(client: Client) -> None:
    client.store(*(named(f"N{number % 3}", f"p{number}") for number in range(7)))
    path: str | None = "/Patient?_sort=-family&_count=2"
    found: list[str] = []
    for turn in range(10):
        answer = client.get(path or "")
        found += answer.matches
        path = answer.link("next")
        if path is None:
            break
        client.store(named("ZZ", f"new{turn}"), named("N1", "p4"))
    assert sorted(found) == [f"p{number}" for number in range(7)]
    families = [int(id[1:]) % 3 for id in found]
    assert families == sorted(families, reverse=True)


def test_sort_puts_missing_values_last_in_both_directions(client: Client) -> None:
    client.store(
        named("B", "b", birthDate="1990-01-01"),
        named("A", "a", birthDate="1990-01-01"),
        named("C", "c"),
        named("D", "d", birthDate="1980-01-01"),
    )
    assert client.get("/Patient?_sort=birthdate,family").matches == ["d", "a", "b", "c"]
    assert client.get("/Patient?_sort=-birthdate,family").matches == ["a", "b", "d", "c"]
    assert follow(client, "/Patient?_sort=-birthdate,family&_count=1") == ["a", "b", "d", "c"]


@pytest.mark.both_stores
def test_sort_by_patient_ignores_subjects_of_other_types(client: Client) -> None:
    subjects = {"a": "Group/1", "b": "Patient/2", "c": "Patient/1", "d": "Group/3"}
    client.store(*(observation(id, subject) for id, subject in subjects.items()))
    for path, order in (("patient", "cbad"), ("-patient", "bcad"), ("subject", "adcb"), ("-subject", "bcda")):
        for more in ("", "&_count=1", "&_count=1&status=final"):
            assert "".join(follow(client, f"/Observation?_sort={path}{more}")) == order
    assert "".join(follow(client, "/Observation?_sort=status,patient&_count=1")) == "cbad"


@pytest.mark.parametrize("code", ["_text", "_content", "phonetic", "near", "_list"])
def test_what_has_no_order_of_its_own_cannot_be_sorted_by(client: Client, code: str) -> None:
    kind = "Location" if code == "near" else "Patient"
    assert client.get(f"/{kind}?_sort={code}").status == 400


def test_the_last_page_has_no_next_and_self_can_be_used_as_it_is(client: Client) -> None:
    client.store(*(named(f"Smith Jones {number}", f"p{number}") for number in range(3)))
    first = client.get("/Patient?family=smith%20jones&_count=2&_sort=family")
    assert first.link("self") == "/Patient?family=smith%20jones&_count=2&_sort=family"
    again = client.get(first.link("self") or "")
    assert again.matches == first.matches == ["p0", "p1"]
    last = client.get(first.link("next") or "")
    assert last.matches == ["p2"]
    assert last.link("next") is None
    assert last.link("self") == last.link("first") == first.link("self")


def test_count_zero_and_summary_count_have_a_total_and_nothing_else(client: Client) -> None:
    client.store(*(patient(f"p{number}", active=True) for number in range(3)))
    for query in ("_count=0", "_summary=count"):
        answer = client.get(f"/Patient?active=true&{query}")
        assert answer.json["total"] == 3
        assert answer.entries == []
        assert answer.link("next") is None


@pytest.mark.parametrize("value, status", [("-1", 400), ("x", 400), ("1.5", 400), ("999999", 200)])
def test_count_is_a_whole_number_and_clamped(client: Client, value: str, status: int) -> None:
    client.store(patient("a", active=True))
    answer = client.get(f"/Patient?_count={value}")
    assert answer.status == status
    if status == 200:
        assert answer.link("self") == "/Patient?_count=1000"


def test_an_accurate_total_is_what_paging_reaches(client: Client) -> None:
    client.store(*(patient(f"p{number}", active=number % 2 == 0) for number in range(9)))
    first = client.get("/Patient?active=true&_count=2&_total=accurate")
    assert first.json["total"] == 5 == len(follow(client, "/Patient?active=true&_count=2"))
    assert client.get(first.link("next") or "").json["total"] == 5
    assert "total" not in client.get("/Patient?active=true&_count=2&_total=none").json
    assert client.get("/Patient?active=true&_count=2&_total=estimate").json["total"] == 5


# --- summaries --------------------------------------------------------------------------------------------------------

WHOLE = {
    **named("Whole", "a", birthDate="1980-01-01", maritalStatus={"text": "married"}),
    "text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">Whole</div>'},
    "communication": [{"language": {"text": "en"}, "preferred": True}],
    "link": [{"other": {"reference": "Patient/b"}, "type": "seealso"}],
}


@pytest.mark.parametrize(
    "query, expected",
    [
        ("_summary=true", {"name", "birthDate", "link"}),
        ("_summary=text", {"text"}),
        ("_summary=data", {"name", "birthDate", "maritalStatus", "communication", "link"}),
        ("_elements=birthDate", {"birthDate", "link"}),
        ("_elements=name,maritalStatus", {"name", "maritalStatus", "link"}),
    ],
)
def test_summaries_cut_and_mark_resources(client: Client, query: str, expected: set[str]) -> None:
    """Patient.link is a modifier element, and so stays under `_elements`."""
    client.store(WHOLE)
    direct = client.get(f"/Patient/a?{query}").json
    found = client.get(f"/Patient?_id=a&{query}").entries[0]["resource"]
    past = client.get(f"/Patient/a/_history?{query}").entries[0]["resource"]
    for resource in (direct, found, past):
        assert set(resource) - {"resourceType", "id", "meta"} == expected
        assert [tag["code"] for tag in resource["meta"]["tag"]] == ["SUBSETTED"]
        assert resource["meta"]["versionId"] == "1"


def test_mandatory_elements_stay(client: Client) -> None:
    client.store(observation("o", "Patient/a", interpretation=[{"text": "high"}]))
    resource = client.get("/Observation/o?_elements=subject").json
    assert {"status", "code", "subject"} <= resource.keys()
    assert "interpretation" not in resource


def test_summary_false_is_the_whole_resource(client: Client) -> None:
    client.store(WHOLE)
    assert "SUBSETTED" not in json.dumps(client.get("/Patient/a?_summary=false").json)
    assert client.get("/Patient/a?_summary=nonsense").status == 400
    assert client.get("/Patient?_summary=nonsense").status == 400


# --- contained resources ----------------------------------------------------------------------------------------------


def test_contained_resources_are_matched_where_they_are_asked_for(client: Client) -> None:
    body = observation("o", "#p", contained=[{"resourceType": "Patient", "id": "p", "name": [{"family": "Inner"}]}])
    client.store(body, named("Inner", "outer"))
    assert client.get("/Patient?family=inner").matches == ["outer"]
    inner = client.get("/Patient?family=inner&_contained=true&_containedType=contained")
    assert [entry["fullUrl"] for entry in inner.entries] == [f"{BASE}/Observation/o#p"]
    assert inner.entries[0]["resource"]["name"][0]["family"] == "Inner"
    container = client.get("/Patient?family=inner&_contained=true")
    assert [entry["fullUrl"] for entry in container.entries] == [f"{BASE}/Observation/o"]
    both = client.get("/Patient?family=inner&_contained=both&_containedType=contained")
    assert {entry["fullUrl"] for entry in both.entries} == {f"{BASE}/Observation/o#p", f"{BASE}/Patient/outer"}


# --- ways to search ---------------------------------------------------------------------------------------------------


def test_search_by_post_combines_form_and_query(client: Client) -> None:
    client.store(named("Smith", "a", active=True), named("Smith", "b", active=False))
    form = b"family=smith&_format=json"
    answer = client.request(
        "POST", "/Patient/_search?active=true", form, type="application/x-www-form-urlencoded; charset=UTF-8"
    )
    assert answer.matches == ["a"]
    assert answer.matches == client.get("/Patient?family=smith&active=true").matches
    assert (answer.link("self") or "").startswith("/Patient?")
    assert client.request("POST", "/Patient/_search", b"{}", type="application/json").status == 415
    assert client.request(
        "POST", "/_search", b"_type=Patient&_id=b", type="application/x-www-form-urlencoded"
    ).matches == ["b"]


def test_search_of_the_system(client: Client) -> None:
    client.store(named("A", "a"), observation("o"))
    assert sorted(client.get("?_type=Patient,Observation").matches) == ["a", "o"]
    assert client.get("?_id=o").matches == ["o"]
    assert client.get("?_type=Nonsense").status == 400
    assert client.get("?_type=Patient,Observation&family=A", prefer="handling=strict").status == 400


@pytest.mark.both_stores
def test_search_of_compartments(client: Client) -> None:
    client.store(named("A", "a"), observation("mine", "Patient/a"), observation("other", "Patient/b"))
    assert client.get("/Patient/a/Observation").matches == ["mine"]
    assert "mine" in client.get("/Patient/a/*").matches
    assert "other" not in client.get("/Patient/a/*").matches
    answer = client.get("/Patient/a/Medication")
    assert answer.status == 400
    assert "Patient" in answer.json["issue"][0]["diagnostics"]
    assert client.get("/Organization/a/Observation").status == 404
    form = b"status=final"
    assert client.request(
        "POST", "/Patient/a/Observation/_search", form, type="application/x-www-form-urlencoded"
    ).matches == ["mine"]


def test_unknown_parameters_warn_or_fail_as_handling_says(client: Client) -> None:
    client.store(named("A", "a"))
    lenient = client.get("/Patient?nonsense=1&family=a")
    assert lenient.matches == ["a"]
    assert lenient.link("self") == "/Patient?family=a"
    assert lenient.entries[-1]["search"]["mode"] == "outcome"
    assert client.get("/Patient?nonsense=1", prefer="handling=strict").status == 400
    assert client.get("/Patient?family:nonsense=a").status == 400


@pytest.mark.both_stores
def test_explain_shows_the_tree_and_the_plan(client: Client) -> None:
    client.store(named("Secret", "a"))
    names = [one["name"] for one in client.get("/Patient?family=x&_explain=true").json["parameter"]]
    assert names[0] == "search"
    assert "plan" in names


# --- what must be loud ------------------------------------------------------------------------------------------------


@pytest.mark.both_stores
def test_a_chain_that_is_too_costly_is_400(build: Build) -> None:
    client = build(chain_limit=2)
    client.store(*(named("Many", f"p{number}") for number in range(3)), observation("o", "Patient/p0"))
    answer = client.get("/Observation?subject.family=many")
    assert answer.status == 400
    assert answer.json["issue"][0]["code"] == "too-costly"
    assert client.get("/Observation?subject._id=p0,p1").matches == ["o"]


@pytest.mark.both_stores
def test_codes_of_an_unknown_value_set_are_400_and_name_it(client: Client) -> None:
    client.store(observation("o", code={"coding": [{"system": "http://example.org/s", "code": "c"}]}))
    path = "/Observation?code:in=http://example.org/ValueSet/v"
    answer = client.get(path)
    assert answer.status == 400
    assert answer.json["issue"][0]["code"] == "not-found"
    assert "http://example.org/ValueSet/v" in answer.json["issue"][0]["diagnostics"]
    include = {"system": "http://example.org/s", "concept": [{"code": "c"}]}
    client.store(
        {
            "resourceType": "ValueSet",
            "id": "v",
            "url": "http://example.org/ValueSet/v",
            "status": "active",
            "compose": {"include": [include]},
        }
    )
    assert client.get(path).matches == ["o"]
    assert client.get("/Observation?code:in=ValueSet/v").matches == ["o"]
    client.delete("/ValueSet/v")
    assert client.get(path).status == 400


# --- cursors and logs -------------------------------------------------------------------------------------------------


def test_search_values_are_not_in_next_links(client: Client) -> None:
    client.store(*(named("Chalmers", f"p{number}") for number in range(3)))
    answer = client.get("/Patient?family=chalmers&_count=1&_sort=family")
    assert re.fullmatch(r"/Patient\?_cursor=[A-Za-z0-9_\-]+", answer.link("next") or "")
    assert "chalmers" not in (answer.link("next") or "").lower()


def test_next_keeps_the_format_of_the_first_page(client: Client) -> None:
    client.store(*(patient(f"p{number}", active=True) for number in range(3)))
    for path in ("/Patient?_count=1&_format=xml", "/Patient/_history?_count=1&_format=xml"):
        following = client.get(path.replace("=xml", "=json")).link("next") or ""
        assert following.endswith("&_format=json")
        page = client.get(following.replace("=json", "=xml"))
        assert page.headers["content-type"].startswith("application/fhir+xml")


def test_a_value_that_looks_like_a_page_token_is_a_value(client: Client) -> None:
    client.store(named("_cursor=x", "a"), named("B", "b"))
    assert client.get("/Patient?family:exact=_cursor=x").matches == ["a"]
    assert sorted(client.get("/Patient?my_cursor=1").matches) == ["a", "b"]


def test_cursors_expire_and_are_bound_to_their_path(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.store(*(patient(f"p{number}", active=True) for number in range(3)))
    following = client.get("/Patient?_count=1").link("next") or ""
    assert client.get(following.replace("/Patient?", "/Observation?")).status == 410
    assert client.get(following[:-4] + "AAAA").status == 410
    assert client.get("/Patient?_cursor=x").status == 400
    real = cursor.time.time
    monkeypatch.setattr(cursor.time, "time", lambda: real() + cursor.LIFETIME_S + 60)
    assert client.get(following).status == 410


def test_cursors_are_valid_on_every_worker(build: Build) -> None:
    one, other = build(), build()
    one.store(*(patient(f"p{number}", active=True) for number in range(3)))
    assert other.get(one.get("/Patient?_count=2").link("next") or "").matches == ["p2"]


def test_access_logs_hold_paths_and_parameter_names_only(build: Build) -> None:
    log = io.StringIO()
    server = build(access_log=True).server
    client = Client(FhirApplication(server, log=log), server)
    client.store(named("Chalmers", "secret-id"))
    client.get("/Patient/secret-id")
    client.get("/Patient/secret-id?")
    client.get("/Patient?family=Chalmers&birthdate=1980-01-01&Jane%20Doe=1")
    client.get("/Chalmers/secret-id")
    client.get("/Patient/secret-id/_history/1")
    client.get("/Patient/secret-id/Observation?code=x")
    lines = log.getvalue().splitlines()
    shown = [line.rsplit(" ", 2)[0] for line in lines]
    assert shown == [
        "POST /fhir/ 200",
        "GET /fhir/Patient/{id} 200",
        "GET /fhir/Patient/{id} 200",
        "GET /fhir/Patient?family&birthdate&? 400",
        "GET /fhir/* 404",
        "GET /fhir/Patient/{id}/_history/{vid} 200",
        "GET /fhir/Patient/{id}/Observation?code 200",
    ]
    assert not re.search("secret|Chalmers|1980|Doe", log.getvalue())
