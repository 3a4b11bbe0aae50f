"""The gate: whatever way in, a caller whose policy is "only resources tagged X" sees, and touches, nothing else.

The security property of every test here: a narrowed answer over everything equals a plain answer over a store that
holds only what the caller may see.
"""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.authorize import Policy
from fhir_server.context import Server
from fhir_server.search import ast
from fhir_server.search.values import token_key
from tests.spec.conftest import Build
from tests.support.http import Client
from tests.support.resources import bundle, entry, identified, named, observation, patient

X = {"meta": {"tag": [{"system": "http://example.org/tags", "code": "X"}]}}

pytestmark = pytest.mark.both_stores


def only_tagged_x(server: Server) -> Policy:
    """Only resources tagged X, of any type but Organization."""
    test = ast.Compare("key", "=", token_key("http://example.org/tags", "X", False))
    predicates: dict[str, ast.Node] = {}
    for name in server.registry.types:
        param = server.registry.param(name, "_tag")
        assert param is not None
        if name != "Organization":
            predicates[name] = ast.Exists(param.numbers, "key", test)
    return Policy(predicates)


@pytest.fixture
def all_seeing(build: Build) -> Client:
    return build()


@pytest.fixture
def narrowed(build: Build, all_seeing: Client) -> Client:
    """A caller who sees Patient/seen and Observation/seen, not Patient/hidden and Observation/hidden."""
    all_seeing.store(
        named("Seen", "seen", **X, generalPractitioner=[{"reference": "Practitioner/hidden"}]),
        named("Hidden", "hidden"),
        {"resourceType": "Practitioner", "id": "hidden", "name": [{"family": "Doctor"}]},
        observation("seen", "Patient/seen", **X),
        observation("of-hidden", "Patient/hidden", **X),
        observation("hidden", "Patient/seen", code={"coding": [{"code": "secret"}]}),
    )
    return build(policy=only_tagged_x)


@pytest.mark.parametrize(
    "path, expected",
    [
        ("/Patient", ["seen"]),
        ("/Patient?family=hidden", []),
        ("/Patient?family:not=x", []),
        ("/Patient?gender:missing=true", ["seen"]),
        ("/Patient?_id=hidden", []),
        ("?_type=Patient,Observation", ["seen", "of-hidden", "seen"]),
        ("?_lastUpdated=ge2020", ["seen", "of-hidden", "seen"]),
        ("/Observation?subject.family=seen", ["seen"]),
        ("/Observation?subject.family=hidden", []),
        ("/Observation?subject:Patient._id=hidden", []),
        ("/Observation?subject.general-practitioner.family=doctor", []),
        ("/Patient?_has:Observation:subject:code=secret", []),
        ("/Patient?_has:Observation:subject:status=final", ["seen"]),
        ("/Observation?subject:Patient._has:Observation:subject:code=secret", []),
        ("/Patient/seen/Observation", ["seen"]),
        ("/Patient/hidden/Observation", ["of-hidden"]),
    ],
)
def test_searches_see_only_what_the_policy_shows(narrowed: Client, path: str, expected: list[str]) -> None:
    answer = narrowed.get(path)
    if answer.status == 400:
        assert "family:not" in path
        return
    assert sorted(answer.matches) == sorted(expected)
    counted = narrowed.get(f"{path}{'&' if '?' in path else '?'}_summary=count")
    assert counted.json["total"] == len(expected)


def test_includes_are_narrowed(narrowed: Client) -> None:
    for path in (
        "/Patient?_revinclude=Observation:subject",
        "/Observation?_include=Observation:subject&_include:iterate=Patient:general-practitioner",
        "/Patient?_include=*",
    ):
        included = [one["resource"] for one in narrowed.get(path).entries if one["search"]["mode"] == "include"]
        assert all("tag" in resource["meta"] for resource in included), path
    ids = [one["resource"]["id"] for one in narrowed.get("/Patient?_revinclude=Observation:subject").entries]
    assert ids == ["seen", "seen"]


def test_totals_and_pages_are_narrowed(build: Build, narrowed: Client, all_seeing: Client) -> None:
    all_seeing.store(*(patient(f"p{number}", **(X if number % 2 else {})) | {"active": True} for number in range(8)))
    found: list[str] = []
    path: str | None = "/Patient?active=true&_count=1&_total=accurate"
    while path:
        answer = narrowed.get(path)
        assert answer.json["total"] == 4
        found += answer.matches
        path = answer.link("next")
    assert found == ["p1", "p3", "p5", "p7"]
    everything = all_seeing.get("/Patient?active=true&_count=1").link("next") or ""
    assert narrowed.get(everything).matches == ["p1"]


def test_reads_of_what_is_hidden_are_404(narrowed: Client) -> None:
    assert narrowed.get("/Patient/seen").status == 200
    assert narrowed.get("/Patient/hidden").status == 404
    assert narrowed.get("/Patient/hidden/_history/1").status == 404
    assert narrowed.get("/Patient/hidden/_history").status == 404
    assert narrowed.get("/Patient/hidden", if_none_match="*").status == 404


def test_types_without_a_grant_are_403(narrowed: Client) -> None:
    assert narrowed.get("/Organization").status == 403
    assert narrowed.get("/Organization/_history").status == 403
    body = {"resourceType": "Organization", "id": "o", "name": "O"}
    assert narrowed.put("/Organization/o", body).status == 403
    assert narrowed.get("/Organization/o").status == 403


def test_history_shows_versions_by_their_own_content(narrowed: Client, all_seeing: Client) -> None:
    all_seeing.put("/Patient/seen", named("Now hidden", "seen"))
    all_seeing.put("/Patient/hidden", named("Now seen", "hidden", **X))
    all_seeing.delete("/Observation/seen")
    all_seeing.delete("/Observation/hidden")
    shown = [one["response"]["location"] for one in narrowed.get("/_history").entries]
    assert shown == [
        "Observation/seen/_history/2",
        "Patient/hidden/_history/2",
        "Patient/seen/_history/1",
        "Observation/seen/_history/1",
        "Observation/of-hidden/_history/1",
    ]
    assert [one["response"]["location"] for one in narrowed.get("/Patient/seen/_history").entries] == [
        "Patient/seen/_history/1"
    ]
    assert narrowed.get("/Patient/seen").status == 404
    assert narrowed.get("/Patient/seen/_history/1").status == 200
    assert narrowed.get("/Observation/seen").status == 410
    assert narrowed.get("/Observation/hidden").status == 404
    paged: list[str] = []
    path: str | None = "/_history?_count=1"
    while path:
        answer = narrowed.get(path)
        assert "total" not in answer.json
        paged += [one["response"]["location"] for one in answer.entries]
        path = answer.link("next")
    assert paged == shown


def test_conditions_meet_only_what_is_seen(narrowed: Client, all_seeing: Client) -> None:
    all_seeing.store(identified("1", "i-hidden"), identified("2", "i-seen", **X))
    created = narrowed.post("/Patient", identified("1", **X), if_none_exist="identifier=1")
    assert created.status == 201
    assert narrowed.post("/Patient", identified("2", **X), if_none_exist="identifier=2").status == 200
    assert narrowed.put("/Patient?identifier=1", identified("1", **X)).id == created.id
    assert narrowed.delete("/Patient?family=hidden").status == 204
    assert all_seeing.get("/Patient/hidden").status == 200
    assert narrowed.patch("/Patient?family=hidden", []).status == 404
    transaction = bundle(entry("POST", "Observation", observation(subject="Patient?family=hidden", **X)))
    assert narrowed.post("", transaction).status == 412


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_what_is_hidden_cannot_be_changed(narrowed: Client, all_seeing: Client, method: str) -> None:
    bodies: dict[str, Any] = {"PUT": named("Mine now", "hidden", **X), "PATCH": [], "DELETE": None}
    kind = "application/json-patch+json" if method == "PATCH" else "application/fhir+json"
    answer = narrowed.request(method, "/Patient/hidden", bodies[method], type=kind)
    assert answer.status in (204, 404)
    assert answer.status == 404 or method == "DELETE"
    assert all_seeing.get("/Patient/hidden").headers["etag"] == 'W/"1"'


def test_nothing_can_be_written_outside_the_policy(narrowed: Client, all_seeing: Client) -> None:
    assert narrowed.post("/Patient", named("Untagged")).status == 403
    assert narrowed.put("/Patient/seen", named("Untagged", "seen")).status == 403
    # A restricted caller does not choose ids; see tests/isolation/ for the rest.
    assert narrowed.post("", bundle(entry("PUT", "Patient/new", named("Untagged", "new")))).status == 404
    assert all_seeing.get("/Patient/seen").headers["etag"] == 'W/"1"'
    assert narrowed.put("/Patient/seen", named("Tagged", "seen", **X)).status == 200


def test_contained_searches_are_refused_to_the_narrowed(narrowed: Client) -> None:
    assert narrowed.get("/Patient?_contained=true").status == 400


def test_chains_into_contained_resources_follow_their_containers(narrowed: Client, all_seeing: Client) -> None:
    inner = [{"resourceType": "Patient", "id": "p", "name": [{"family": "Inner"}]}]
    all_seeing.store(observation("with", "#p", contained=inner, **X), observation("without", "#p", contained=inner))
    assert narrowed.get("/Observation?subject:Patient.family=inner").matches == ["with"]


def test_meta_of_a_type_tells_only_of_what_is_seen(narrowed: Client, all_seeing: Client) -> None:
    all_seeing.store(patient("t", meta={"tag": [{"system": "http://example.org/tags", "code": "Y"}]}, active=True))
    tags = narrowed.get("/Patient/$meta").json["parameter"][0]["valueMeta"]["tag"]
    assert [tag["code"] for tag in tags] == ["X"]
