"""The security property: a narrowed search over everything equals a plain search over a store that holds only what
the caller may find. Matches and their order, totals, includes; chains, reverse chains and page by page.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fhir_server.app import create_app
from fhir_server.authorize import Policy
from fhir_server.context import Server
from fhir_server.search import ast
from tests.isolation.conftest import NewServer
from tests.isolation.roles import ROLES
from tests.isolation.world import everything, owner_of
from tests.support.http import Client

Pair = tuple[Client, Client]

CRITERIA = {
    "Patient": (
        "family=family",
        "gender=male",
        "gender:not=male",
        "birthdate=lt1969",
        "active:missing=true",
        "general-practitioner.family=doctor",
        "organization.name=hospital",
        "_has:Observation:patient:code=pulse",
        "_has:Observation:patient:code=only-c",
        "_has:Observation:patient:_has:Observation:derived-from:code=only-a",
        "_has:Encounter:subject:service-provider.name=hospital",
        "_id=a,c",
        "_lastUpdated=ge2020",
    ),
    "Observation": (
        "code=pulse",
        "code:not=pulse",
        "code=only-c,only-a",
        "status=final",
        "date=ge2025-02",
        "date:missing=true",
        "patient=Patient/c,Patient/a",
        "patient.family=family-c",
        "subject:Patient.gender=male",
        "patient.general-practitioner.family=doctor",
        "encounter.subject:Patient.family=family-a",
        "derived-from:Observation.code=pulse",
        "derived-from:Observation.patient.family=family-c",
        "derived-from:missing=false",
        "performer:Practitioner.family=doctor",
        "_has:Observation:derived-from:code=only-a",
        "_has:Observation:derived-from:code=points",
        "_has:Observation:derived-from:patient.family=family-c",
        "_filter=code%20eq%20pulse%20or%20patient.family%20eq%20%22family-c%22",
    ),
    "Encounter": (
        "status=finished",
        "subject:Patient.family=family-b",
        "service-provider.name=hospital",
        "_has:Observation:encounter:patient.family=family-c",
    ),
    "DocumentReference": ("patient.gender=male", "location=Binary/pointed-c", "status=current"),
}
RESULTS = {
    "Patient": (
        "_revinclude=Observation:patient",
        "_revinclude=Encounter:subject&_include:iterate=Encounter:service-provider",
        "_include=Patient:general-practitioner&_include=Patient:organization",
        "_sort=-birthdate",
        "_sort=gender,family",
    ),
    "Observation": (
        "_include=Observation:patient&_include:iterate=Patient:general-practitioner",
        "_include=Observation:derived-from",
        "_include=*",
        "_revinclude=Observation:derived-from&_revinclude:iterate=Observation:derived-from",
        "_sort=date",
        "_sort=-patient,date",
    ),
    "Encounter": ("_revinclude=Observation:encounter", "_sort=-_lastUpdated"),
    "DocumentReference": ("_include=DocumentReference:patient", "_include=*"),
}
ALWAYS = ("", "_count=2", "_total=accurate&_count=3", "_summary=count")


@st.composite
def searches(draw: st.DrawFn) -> str:
    """Some criteria, some wishes about the results."""
    kind = draw(st.sampled_from(sorted(CRITERIA)))
    parts = draw(st.lists(st.sampled_from(CRITERIA[kind]), max_size=2, unique_by=lambda one: one.partition("=")[0]))
    parts += draw(st.lists(st.sampled_from(RESULTS[kind]), max_size=1))
    parts.append(draw(st.sampled_from(ALWAYS)))
    return f"/{kind}?{'&'.join(part for part in parts if part)}"


def labelled(server: Server) -> Policy:
    """Everything but what is about patient c: the policy as a negation, as labels and Consents make them."""
    predicates: dict[str, ast.Node] = dict.fromkeys(("Practitioner", "Organization"), ast.EVERYTHING)
    predicates["Patient"] = ast.Not(ast.Field("id", "=", "c"))
    for name in ("Observation", "Encounter", "DocumentReference"):
        param = server.registry.param(name, "patient")
        assert param is not None
        about_c = ast.Exists(param.numbers, "key", ast.Compare("key", "=", "Patient/c"))
        predicates[name] = ast.And((ast.Exists(param.numbers, "key", ast.ANY), ast.Not(about_c)))
    return Policy(predicates)


def linked(server: Server) -> Policy:
    """What is about men, by a chain in the policy itself: a relation that is looked up."""
    gender = server.registry.param("Patient", "gender")
    assert gender is not None
    male = ast.Exists(gender.numbers, "key", ast.Compare("key", "prefix", "male"))
    predicates: dict[str, ast.Node] = dict.fromkeys(("Practitioner", "Organization"), ast.EVERYTHING)
    predicates["Patient"] = male
    for name in ("Observation", "Encounter", "DocumentReference"):
        param = server.registry.param(name, "patient")
        assert param is not None
        predicates[name] = ast.Linked(param.numbers, ast.Select(("Patient",), male))
    return Policy(predicates)


POLICIES: dict[str, tuple[Callable[[Server], Policy], tuple[str, ...]]] = {
    "doctor-ab": (ROLES["doctor-ab"].policy, ("a", "b")),
    "labelled": (labelled, ("a", "b")),
    "linked": (linked, ("a", "b")),
}


@pytest.fixture(scope="module", params=POLICIES)
def pair(request: pytest.FixtureRequest, new_server: NewServer) -> Pair:
    """A narrowed client of everything, and a client of a store that has nothing else."""
    make, ids = POLICIES[request.param]
    full, reduced = new_server(), new_server()
    all_seeing, plain = Client(create_app(full), full), Client(create_app(reduced), reduced)
    for one in everything():
        path = f"/{one['resourceType']}/{one['id']}"
        assert all_seeing.put(path, one).status == 201
        if one["resourceType"] != "Binary" and owner_of(one) in ("", *ids):
            assert plain.put(path, one).status == 201
    return Client(create_app(full, policy=make(full)), full), plain


def pages(client: Client, path: str) -> list[object]:
    """All pages: matches in order, includes, totals."""
    found: list[object] = []
    following: str | None = path
    while following:
        answer = client.get(following)
        assert answer.status == 200, answer.body
        included = sorted(one["fullUrl"] for one in answer.entries if one["search"]["mode"] == "include")
        found.append((answer.matches, included, answer.json.get("total")))
        following = answer.link("next")
    return found


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(path=searches())
def test_narrowed_search_equals_plain_search_of_what_may_be_found(pair: Pair, path: str) -> None:
    narrowed, plain = pair
    assert pages(narrowed, path) == pages(plain, path), path


def test_every_criterion_alone(pair: Pair) -> None:
    narrowed, plain = pair
    for kind, criteria in CRITERIA.items():
        for one, wish in product(criteria, ("", *RESULTS[kind])):
            path = f"/{kind}?{one}&{wish}&_total=accurate".replace("&&", "&")
            assert pages(narrowed, path) == pages(plain, path), path
