"""Roles x ways to change something: what is refused leaves nothing behind.

403: the type is not granted, or the caller sees the instance and may not change it (like that); 404: not seen, or
not there.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.isolation.conftest import Clients
from tests.isolation.roles import ROLES, Role
from tests.isolation.world import ABSENT, PATIENTS
from tests.support.http import Client
from tests.support.resources import bundle, entry, observation

pytestmark = pytest.mark.parametrize("name", ROLES)

TARGETS = [("Observation/ob-a", "a"), ("Observation/ob-b", "b"), ("Observation/ob-c", "c")]
ABSENT_TARGET = (f"Observation/{ABSENT}", None)
MOVE = [{"op": "replace", "path": "/subject/reference", "value": "Patient/c"}]
TOUCH = [{"op": "add", "path": "/note", "value": [{"text": "seen"}]}]


@pytest.fixture
def role(name: str) -> Role:
    return ROLES[name]


@pytest.fixture
def client(fresh: Clients, name: str) -> Client:
    return fresh(name)


@pytest.fixture
def admin(fresh: Clients) -> Client:
    return fresh("all-of-everything")


def expected(role: Role, action: str, owner: str | None, success: int) -> int:
    """The status of a change to an Observation of a patient (None: one that is not there)."""
    if not role.grants("Observation", action):
        return 403
    if owner is None:
        return 404
    if role.may(action, "Observation", owner):
        return success
    return 403 if role.may("r", "Observation", owner) or role.may("s", "Observation", owner) else 404


def about(owner: str, id_: str | None = None) -> dict[str, Any]:
    return observation(id_, f"Patient/{owner}", code={"text": "new"})


def observations(admin: Client) -> dict[str, str]:
    """Versions of all Observations."""
    found = admin.get("/Observation?_count=1000").entries
    return {one["resource"]["id"]: one["resource"]["meta"]["versionId"] for one in found}


@pytest.mark.parametrize("owner", PATIENTS)
def test_creates(client: Client, role: Role, admin: Client, owner: str) -> None:
    before = observations(admin)
    allowed = role.may("c", "Observation", owner)
    assert client.post("/Observation", about(owner)).status == (201 if allowed else 403)
    for kind in ("batch", "transaction"):
        answer = client.post("", bundle(entry("POST", "Observation", about(owner)), type=kind))
        status = answer.status if kind == "transaction" else int(answer.entries[0]["response"]["status"][:3])
        assert status == ((201 if kind == "batch" else 200) if allowed else 403)
    if not allowed:
        assert observations(admin) == before


def test_updates_patches_and_deletes(client: Client, role: Role, admin: Client) -> None:
    for address, owner in [*TARGETS, ABSENT_TARGET]:
        before = observations(admin)
        id_ = address.partition("/")[2]
        # All Observations being granted, an absent one is created, and deleting it is fine.
        everything = role.ids is None and role.grants("Observation", "u")
        absent = owner is None and everything
        update = expected(role, "u", owner, 200)
        assert client.put(f"/{address}", about(owner or "a", id_)).status == (201 if absent else update)
        patch = 200 if absent else update
        assert client.patch(f"/{address}", TOUCH).status == patch
        meta = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "t"}]}}]}
        assert client.post(f"/{address}/$meta-add", meta).status == patch
        assert client.post(f"/{address}/$meta-delete", meta).status == patch
        if patch != 200:
            assert observations(admin) == before
        delete = expected(role, "d", owner, 204)
        # What is not seen is deleted like what is not there: 204, and nothing happens.
        assert client.delete(f"/{address}").status == (204 if delete == 404 else delete)
        left = id_ in observations(admin)
        assert left == (id_ in before and delete != 204)


@pytest.mark.parametrize("kind", ["batch", "transaction"])
def test_changes_in_bundles(client: Client, role: Role, admin: Client, kind: str) -> None:
    everything = role.ids is None and role.grants("Observation", "u")
    for address, owner in [*TARGETS, ABSENT_TARGET]:
        before = observations(admin)
        id_ = address.partition("/")[2]
        wanted = expected(role, "u", owner, 200)
        answer = client.post("", bundle(entry("PUT", address, about(owner or "a", id_)), type=kind))
        status = answer.status if kind == "transaction" else int(answer.entries[0]["response"]["status"][:3])
        if owner is None and everything:
            assert status == (200 if kind == "transaction" else 201)
            continue
        assert status == wanted
        assert (observations(admin) == before) == (wanted != 200)


def test_nothing_is_moved_out_of_or_into_what_is_granted(client: Client, role: Role, admin: Client) -> None:
    if role.ids is None or not role.grants("Observation", "u"):
        return
    before = observations(admin)
    assert client.patch("/Observation/ob-a", MOVE).status == 403
    assert client.put("/Observation/ob-a", about("c", "ob-a")).status == 403
    assert client.patch("/Observation?code=only-a", MOVE).status == 403
    assert client.put("/Observation/ob-c", about("a", "ob-c")).status == 404
    assert client.post("", bundle(entry("PUT", "Observation/ob-a", about("c", "ob-a")))).status == 403
    assert observations(admin) == before
    # A move between patients who are both granted is a change like any other.
    moved = client.put("/Observation/ob-a", about("b", "ob-a"))
    assert moved.status == (200 if "b" in role.ids else 403)


def test_a_deleted_instance_comes_back_only_for_those_who_saw_it(client: Client, role: Role) -> None:
    for owner in PATIENTS:
        id_ = f"gone-{owner}"
        answer = client.put(f"/Observation/{id_}", about(owner, id_))
        if not role.grants("Observation", "u"):
            assert answer.status == 403
        else:
            assert answer.status == (201 if role.may("u", "Observation", owner) else 404)


def test_conditional_creates(client: Client, role: Role, admin: Client) -> None:
    before = observations(admin)
    for owner in PATIENTS:
        answer = client.post("/Observation", about("a"), if_none_exist=f"code=only-{owner}")
        if not role.grants("Observation", "c") or not role.grants("Observation", "s"):
            assert answer.status == 403
        elif role.may("s", "Observation", owner):
            assert (answer.status, answer.id) == (200, f"derived-{owner}")
        else:
            assert answer.status == (201 if role.may("c", "Observation", "a") else 403)
    if not role.grants("Observation", "c"):
        assert observations(admin) == before


@pytest.mark.parametrize("owner", PATIENTS)
def test_conditional_changes(client: Client, role: Role, admin: Client, owner: str) -> None:
    before = observations(admin)
    criteria = f"/Observation?code=only-{owner}"
    found = role.may("s", "Observation", owner)
    able = role.grants("Observation", "s")

    def status(action: str, success: int, absent: int) -> int:
        if not able or not role.grants("Observation", action):
            return 403
        if not found:
            return absent
        return success if role.may(action, "Observation", owner) else 403

    assert client.patch(criteria, TOUCH).status == status("u", 200, 404)
    created = 201 if role.may("c", "Observation", owner) else 403
    code = {"coding": [{"system": "http://example.org/codes", "code": f"only-{owner}"}]}
    changed = observation(None, f"Patient/{owner}", code=code)
    assert client.put(criteria, changed).status == status("u", 200, created)
    assert client.put(criteria, {**changed, "id": "chosen"}).status in (400, 403, 404)
    assert client.delete(criteria).status == status("d", 204, 204)
    after = observations(admin)
    if status("u", 200, 404) != 200 and status("d", 204, 404) != 204 and created == 403:
        assert after == before
    if owner not in (role.ids or PATIENTS):
        assert after.get(f"derived-{owner}") == "1"


def test_conditional_references(client: Client, role: Role) -> None:
    for owner in PATIENTS:
        reference = f"Patient?family=family-{owner}"
        resource = {**about("a"), "subject": {"reference": reference}}
        answer = client.post("", bundle(entry("POST", "Observation", resource)))
        if not role.grants("Patient", "s") or not role.grants("Observation", "c"):
            assert answer.status == 403
        elif role.may("s", "Patient", owner):
            assert answer.status == (200 if role.may("c", "Observation", owner) else 403)
        else:
            assert answer.status == 412


def test_content_is_written_by_those_who_see_what_it_belongs_to(client: Client, role: Role) -> None:
    for owner in [*PATIENTS, ABSENT]:
        context = {"reference": f"Patient/{owner}"}
        binary = {"resourceType": "Binary", "contentType": "text/plain", "data": "QUJD", "securityContext": context}
        allowed = role.grants("Binary", "c") and (role.ids is None or owner in role.ids)
        assert client.post("/Binary", binary).status == (201 if allowed else 403)
        raw = client.request("POST", "/Binary", b"text", type="text/plain", x_security_context=f"Patient/{owner}")
        assert raw.status == (201 if allowed else 403)
    free = {"resourceType": "Binary", "contentType": "text/plain", "data": "QUJD"}
    allowed = role.grants("Binary", "c") and role.ids is None
    assert client.post("/Binary", free).status == (201 if allowed else 403)
    for owner in PATIENTS:
        for id_ in (f"bound-{owner}", f"pointed-{owner}", ABSENT):
            there = id_ != ABSENT
            bound = {**free, "id": id_, "securityContext": {"reference": f"Patient/{owner}"}}
            answer = client.put(f"/Binary/{id_}", bound)
            if not role.grants("Binary", "u"):
                assert answer.status == 403
            elif role.ids is None:
                assert answer.status in (200, 201)
            else:
                assert answer.status == (200 if there and owner in role.ids else 404)


def test_pointing_at_content_does_not_show_it(client: Client, role: Role) -> None:
    if role.ids is None or not role.may("c", "DocumentReference", "a"):
        return

    def document(url: str, id_: str | None = None) -> dict[str, Any]:
        return {
            "resourceType": "DocumentReference",
            **({"id": id_} if id_ else {}),
            "status": "current",
            "subject": {"reference": "Patient/a"},
            "content": [{"attachment": {"url": url}}],
        }

    for url in ("Binary/pointed-c", "https://example.org/fhir/Binary/bound-c", "Binary/nobodys", f"Binary/{ABSENT}"):
        assert client.post("/DocumentReference", document(url)).status == 403
        assert client.put("/DocumentReference/dr-a", document(url, "dr-a")).status == 403
    assert client.post("/DocumentReference", document("Binary/bound-a")).status == 201
    assert client.put("/DocumentReference/dr-a", document("Binary/pointed-a", "dr-a")).status == 200
    urn = "urn:uuid:8c1f6b6a-6f0e-4a3c-9d6e-0d4b8f2f5a11"
    content = {"resourceType": "Binary", "contentType": "text/plain", "securityContext": {"reference": "Patient/a"}}
    together = bundle(entry("POST", "Binary", content, urn), entry("POST", "DocumentReference", document(urn)))
    assert client.post("", together).status == 200
