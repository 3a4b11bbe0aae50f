"""Roles x ways to see something: what is answered is what the role's plain statement says.

A type that is not granted for the action is 403, an instance that is not seen 404, whether it is there or not.
"""

from __future__ import annotations

import pytest

from tests.isolation.conftest import Clients
from tests.isolation.roles import ROLES, Role
from tests.isolation.world import ABSENT, PATIENTS, everything, owner_of
from tests.support.http import Answer, Client
from tests.support.resources import bundle, entry

RESOURCES = {f"{one['resourceType']}/{one['id']}": owner_of(one) for one in everything()}
RESOURCES["Observation/moved"] = "a"
TYPES = ("Patient", "Observation", "Encounter", "DocumentReference", "Practitioner", "Organization", "Binary")
OBSERVATIONS = {address: owner for address, owner in RESOURCES.items() if address.startswith("Observation/")}

pytestmark = pytest.mark.parametrize("name", ROLES)


@pytest.fixture
def role(name: str) -> Role:
    return ROLES[name]


@pytest.fixture
def client(shared: Clients, name: str) -> Client:
    return shared(name)


def expected_read(role: Role, address: str) -> int:
    kind = address.partition("/")[0]
    if not role.grants(kind, "r"):
        return 403
    return 200 if address in RESOURCES and role.may("r", kind, RESOURCES[address]) else 404


def found(answer: Answer) -> set[str]:
    return {
        f"{one['resource']['resourceType']}/{one['resource']['id']}"
        for one in answer.entries
        if one["search"]["mode"] == "match"
    }


def included(answer: Answer) -> set[str]:
    return {
        f"{one['resource']['resourceType']}/{one['resource']['id']}"
        for one in answer.entries
        if one["search"]["mode"] == "include"
    }


def findable(role: Role, kind: str) -> set[str]:
    """Addresses of a type that the role may find."""
    return {
        address for address, owner in RESOURCES.items() if address.startswith(f"{kind}/") and role.may("s", kind, owner)
    }


ADDRESSES = [*RESOURCES, *(f"{kind}/{ABSENT}" for kind in TYPES)]


def test_read_vread_and_history_of_instances(client: Client, role: Role) -> None:
    for address in ADDRESSES:
        expected = expected_read(role, address)
        version = "2" if address == "Observation/moved" else "1"
        assert client.get(f"/{address}/_history/{version}").status == expected, address
        assert client.get(f"/{address}").status == expected, address
        assert client.get(f"/{address}", accept="application/fhir+xml").status == expected, address
        assert client.request("HEAD", f"/{address}").status == expected, address
        assert client.get(f"/{address}?_summary=true").status == expected, address
        assert client.get(f"/{address}/_history").status == expected, address
        assert client.get(f"/{address}/$meta").status == expected, address


def test_each_version_is_judged_by_its_own_content(client: Client, role: Role) -> None:
    if not role.grants("Observation", "r"):
        assert client.get("/Observation/moved/_history/1").status == 403
        return
    first = 200 if role.may("r", "Observation", "c") else 404
    second = 200 if role.may("r", "Observation", "a") else 404
    assert client.get("/Observation/moved/_history/1").status == first
    assert client.get("/Observation/moved/_history/2").status == second
    history = client.get("/Observation/moved/_history")
    assert len(history.json.get("entry", [])) == (first == 200) + (second == 200)


def test_deleted_instances(client: Client, role: Role) -> None:
    for owner in PATIENTS:
        if not role.grants("Observation", "r"):
            expected = 403
        else:
            expected = 410 if role.may("r", "Observation", owner) else 404
        assert client.get(f"/Observation/gone-{owner}").status == expected
        assert client.get(f"/Observation/gone-{owner}/_history/2").status == expected
        assert client.get(f"/Observation/gone-{owner}/_history").status == (200 if expected == 410 else expected)


@pytest.mark.parametrize("kind", TYPES)
def test_searches_of_a_type(client: Client, role: Role, kind: str) -> None:
    answer = client.get(f"/{kind}?_total=accurate")
    if not role.grants(kind, "s"):
        assert answer.status == 403
        assert client.get(f"/{kind}?_summary=count").status == 403
        assert client.get(f"/{kind}?_id={ABSENT}").status == 403
        assert client.request("POST", f"/{kind}/_search", b"", type="application/x-www-form-urlencoded").status == 403
        return
    expected = findable(role, kind)
    assert found(answer) == expected
    assert answer.json["total"] == len(expected)
    assert client.get(f"/{kind}?_summary=count").json["total"] == len(expected)
    assert found(client.get(f"/{kind}?_sort=-_lastUpdated")) == expected
    assert found(client.get(f"/{kind}?_lastUpdated=ge2020")) == expected
    for address in ADDRESSES:
        if address.startswith(f"{kind}/"):
            wanted = {address} & expected
            assert found(client.get(f"/{kind}?_id={address.partition('/')[2]}")) == wanted, address


def test_searches_of_the_system(client: Client, role: Role) -> None:
    granted = [kind for kind in TYPES if role.grants(kind, "s")]
    answer = client.get("?_lastUpdated=ge2020")
    if not granted:
        assert answer.status == 403
        assert client.get("/_history").status == 403
        return
    assert found(answer) == {address for kind in granted for address in findable(role, kind)}
    named = client.get("?_type=Patient,Observation&_total=accurate")
    if {"Patient", "Observation"} & set(granted):
        expected = {address for kind in ("Patient", "Observation") for address in findable(role, kind)}
        assert found(named) == expected
        assert named.json["total"] == len(expected)
    else:
        assert named.status == 403


@pytest.mark.parametrize("owner", PATIENTS)
def test_chains_and_reverse_chains(client: Client, role: Role, owner: str) -> None:
    def ask(path: str, *steps: str) -> set[str] | None:
        answer = client.get(path)
        if not all(role.grants(kind, "s") for kind in steps):
            assert answer.status == 403, path
            return None
        assert answer.status == 200, answer.body
        return found(answer)

    def both(kind: str, *addresses: str) -> set[str]:
        return {one for one in addresses if one in findable(role, kind)}

    patient, seen = f"Patient/{owner}", f"Patient/{owner}" in findable(role, "Patient")
    about = [address for address, whose in OBSERVATIONS.items() if whose == owner and seen]
    chained = ask(f"/Observation?patient.family=family-{owner}", "Observation", "Patient")
    assert chained is None or chained == both("Observation", *about)
    chained = ask(
        f"/Observation?encounter.subject:Patient.family=family-{owner}", "Observation", "Encounter", "Patient"
    )
    assert chained is None or chained == both("Observation", *([f"Observation/ob-{owner}"] if seen else []))
    through = [f"Observation/ob-{owner}"] if f"Encounter/en-{owner}" in findable(role, "Encounter") else []
    chained = ask(f"/Observation?encounter._id=en-{owner}", "Observation", "Encounter")
    assert chained is None or chained == both("Observation", *through)
    own = f"Observation/derived-{owner}" in findable(role, "Observation")
    reverse = ask(f"/Patient?_has:Observation:patient:code=only-{owner}", "Patient", "Observation")
    assert reverse is None or reverse == both("Patient", *([patient] if own else []))
    # derived-* of everyone points at an Observation of c
    derived = ask("/Observation?derived-from:Observation.code=pulse", "Observation")
    all_derived = [f"Observation/derived-{one}" for one in PATIENTS]
    c_seen = "Observation/ob-c" in findable(role, "Observation")
    assert derived is None or derived - {"Observation/of-c"} == both("Observation", *(all_derived if c_seen else []))
    # Observation/of-c is c's and points at Observation/ob-a
    pointed = ask("/Observation?_has:Observation:derived-from:code=points", "Observation")
    c_seen = "Observation/of-c" in findable(role, "Observation")
    assert pointed is None or pointed == both("Observation", *(["Observation/ob-a"] if c_seen else []))
    filtered = ask(
        f'/Observation?_filter=patient.family eq "Family-{owner}"'.replace(" ", "%20"), "Observation", "Patient"
    )
    assert filtered is None or filtered == both("Observation", *about)


def test_a_chain_to_several_types_follows_the_granted_ones(client: Client, role: Role) -> None:
    """The performer of an Observation may be a Practitioner, an Organization, a Patient ..."""
    answer = client.get("/Observation?performer._id=p")
    targets = [kind for kind in ("Practitioner", "Organization", "Patient") if role.grants(kind, "s")]
    if not role.grants("Observation", "s") or not targets:
        assert answer.status == 403
        return
    expected = {f"Observation/ob-{owner}" for owner in PATIENTS} & findable(role, "Observation")
    assert found(answer) == (expected if role.grants("Practitioner", "s") else set())


def test_includes(client: Client, role: Role) -> None:
    answer = client.get(
        "/Observation?_include=Observation:patient&_include=Observation:encounter&_include=Observation:performer"
        "&_include=Observation:derived-from&_include:iterate=Encounter:service-provider"
        "&_revinclude=DocumentReference:patient"
    )
    if not role.grants("Observation", "s"):
        assert answer.status == 403
        return
    mine = findable(role, "Observation")
    owners = {OBSERVATIONS[address] for address in mine}
    everyone = {f"Patient/{owner}" for owner in owners} | {f"Encounter/en-{owner}" for owner in owners}
    shown = {one for kind in TYPES for one in findable(role, kind)}
    expected = (everyone | {"Practitioner/p"}) & shown
    if any(address.startswith("Encounter/") for address in expected):
        expected |= {"Organization/o"} & shown
    if "Observation/ob-c" in shown:
        expected |= {"Observation/ob-c"}
    assert included(answer) == expected - mine
    for path in ("/Observation?_include=*", "/Observation?_include=*&_include:iterate=*&_revinclude=*"):
        assert included(client.get(path)) <= shown
    if role.grants("Patient", "s"):
        patients = client.get("/Patient?_revinclude=Observation:patient&_revinclude:iterate=DocumentReference:patient")
        assert included(patients) == {
            f"{kind}/{address.partition('/')[2]}"
            for kind in ("Observation", "DocumentReference")
            for address in findable(role, kind)
            if f"Patient/{RESOURCES[address]}" in findable(role, "Patient")
        }


def test_a_question_about_ones_own_references_needs_no_grant_of_their_target(client: Client, role: Role) -> None:
    for path in ("/Observation?patient:missing=false", "/Observation?patient=Patient/a,Patient/c"):
        answer = client.get(path)
        assert answer.status == (200 if role.grants("Observation", "s") else 403)
        if answer.status == 200:
            mine = findable(role, "Observation")
            assert found(answer) == {one for one in mine if "missing" in path or OBSERVATIONS[one] in ("a", "c")}


def test_sorts(client: Client, role: Role, shared: Clients) -> None:
    for rule in ("date", "-date", "patient", "-_id", "code,-date"):
        answer = client.get(f"/Observation?_sort={rule}")
        if not role.grants("Observation", "s"):
            assert answer.status == 403
            continue
        plain = shared("all-of-everything").get(f"/Observation?_sort={rule}").matches
        mine = {address.partition("/")[2] for address in findable(role, "Observation")}
        assert answer.matches == [one for one in plain if one in mine]


@pytest.mark.parametrize("owner", [*PATIENTS, ABSENT])
def test_compartments_are_searched_like_anything(client: Client, role: Role, owner: str) -> None:
    answer = client.get(f"/Patient/{owner}/Observation")
    if not role.grants("Observation", "s"):
        assert answer.status == 403
        return
    assert found(answer) == {one for one in findable(role, "Observation") if OBSERVATIONS[one] == owner}
    every = client.get(f"/Patient/{owner}/*")
    assert found(every) <= {one for kind in TYPES for one in findable(role, kind)}


@pytest.mark.parametrize("path", ["/_history", "/Observation/_history", "/Patient/_history", "/Binary/_history"])
def test_histories(client: Client, role: Role, path: str, shared: Clients) -> None:
    kind = path.split("/")[1] if path != "/_history" else None
    kinds = [kind] if kind else list(TYPES)
    answer = client.get(f"{path}?_count=7")
    if not any(role.grants(one, "s") for one in kinds):
        assert answer.status == 403
        return
    shown = []
    for _ in range(20):
        shown += [one["response"]["location"] for one in answer.json.get("entry", [])]
        following = answer.link("next")
        if following is None:
            break
        answer = client.get(following)
    expected = []
    for one in shared("all-of-everything").get(f"{path}?_count=1000").entries:
        location = one["response"]["location"]
        address, version = location.split("/_history/")
        owner = "c" if (address, version) == ("Observation/moved", "1") else RESOURCES.get(address)
        owner = address.rpartition("-")[2] if owner is None else owner
        if role.may("s", address.partition("/")[0], owner):
            expected.append(location)
    assert shown == expected


def test_page_tokens_of_somebody_else_give_what_the_caller_may_see(client: Client, role: Role, shared: Clients) -> None:
    everything = shared("all-of-everything")
    for path in ("/Observation?_count=1&_total=accurate", "/Observation?_count=1&_sort=-date&_total=accurate"):
        following = everything.get(path).link("next")
        mine = findable(role, "Observation")
        for _ in range(len(OBSERVATIONS)):
            assert following is not None
            answer = client.get(following)
            if not role.grants("Observation", "s"):
                assert answer.status == 403
                break
            assert found(answer) <= mine
            assert answer.json.get("total") in (None, len(mine))
            following = answer.link("next")
            if following is None:
                break
    history = everything.get("/Observation/_history?_count=1").link("next")
    assert history is not None
    assert client.get(history).status == (200 if role.grants("Observation", "s") else 403)


def test_entries_of_batches_and_transactions(client: Client, role: Role) -> None:
    addresses = [address for address in ADDRESSES if not address.startswith("Binary/")]
    for kind in ("batch", "transaction"):
        for address in addresses:
            expected = expected_read(role, address)
            answer = client.post("", bundle(entry("GET", address), type=kind))
            status = answer.status if kind == "transaction" else int(answer.entries[0]["response"]["status"][:3])
            assert status == expected, (kind, address)
        answer = client.post("", bundle(entry("GET", "Observation?code=pulse"), type=kind))
        if role.grants("Observation", "s"):
            inner = answer.entries[0]["resource"].get("entry", [])
            shown = {one["resource"]["id"] for one in inner if one["search"]["mode"] == "match"}
            assert shown == {f"ob-{one}" for one in PATIENTS if role.may("s", "Observation", one)}


def test_operations(client: Client, role: Role) -> None:
    answer = client.get("/Observation/$meta")
    assert answer.status == (200 if role.grants("Observation", "s") else 403)
    for address in ("Observation/ob-a", "Observation/ob-c", f"Observation/{ABSENT}"):
        expected = expected_read(role, address)
        assert client.get(f"/{address}/$validate").status == expected
        deletion = {"resourceType": "Parameters", "parameter": [{"name": "mode", "valueCode": "delete"}]}
        assert client.post(f"/{address}/$validate", deletion).status == expected
    assert client.post("/$reindex").status == 403
    unrestricted = role.ids is None and role.grants("Observation", "u")
    assert client.post("/Observation/ob-c/$reindex").status == (200 if unrestricted else 403)
    assert client.get("/Observation?_explain=true").status == 403
    contained = client.get("/Observation?_contained=true")
    if role.grants("Observation", "s"):
        assert contained.status == (200 if role.ids is None else 400)
