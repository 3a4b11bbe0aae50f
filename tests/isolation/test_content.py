"""Binary by its owner, for resources of every type: pointing at content shows it to those who see the resource, and to
nobody else; whoever does not see everything points only at what is seen already. R4 binary.html#security-context.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from fhir_server.app import create_app
from fhir_server.authorize import EVERYTHING, OWNED, Action, Policy
from fhir_server.context import Server
from fhir_server.resources.types import TYPES
from fhir_server.search import ast
from tests.isolation.conftest import NewServer
from tests.isolation.world import ABSENT
from tests.support import examples
from tests.support.http import BASE, Answer, Client
from tests.support.resources import bundle, entry

JSON = dict[str, Any]

CHOSEN = (
    "Bundle",
    "Communication",
    "DocumentReference",
    "Patient",
    "Practitioner",
    "QuestionnaireResponse",
    "ValueSet",
)
"""Types that every way in is tried with."""

SILENT = ("AuditEvent", "Binary", "Provenance")
"""Types whose resources say something about content, and do not have it."""

REFUSED = "The resource points at content that is not granted."

POINTING = tuple(name for name in TYPES if name not in SILENT)


@cache
def _examples() -> dict[str, bytes]:
    """The smallest official example per type."""
    found: dict[str, bytes] = {}
    for _, text in examples.texts():
        name = json.loads(text)["resourceType"]
        if name not in found or len(text) < len(found[name]):
            found[name] = text
    return found


def sample(name: str, id_: str | None, url: str | None) -> JSON:
    """A valid resource of a type, whose only pointer, if any, is to `url`."""
    text = _examples().get(name)
    resource: JSON = json.loads(text) if text is not None else {"resourceType": name}
    resource.pop("id", None)
    if name == "DocumentReference":
        resource["content"] = [{"attachment": {"title": "none"}}]
    if id_ is not None:
        resource["id"] = id_
    if url is not None:
        point(resource, url)
    return resource


def point(resource: JSON, url: str) -> None:
    """Adds an attachment that points at `url`, in an extension; a Bundle has none, but its elements do."""
    extension = {"url": "http://example.org/scan", "valueAttachment": {"url": url}}
    if resource["resourceType"] == "Bundle":
        resource["_type"] = {"extension": [extension]}
    else:
        resource["extension"] = [*resource.get("extension", ()), extension]


def pointing(name: str, url: str) -> JSON:
    """A JSON patch operation that adds such an attachment to `sample(name, id, None)`."""
    after = sample(name, "x", url)
    (key,) = [key for key, value in after.items() if sample(name, "x", None).get(key) != value]
    return {"op": "add", "path": f"/{key}", "value": after[key]}


def binary(id_: str, context: str | None = None) -> JSON:
    found: JSON = {"resourceType": "Binary", "id": id_, "contentType": "text/plain", "data": "QUJD"}
    return {**found, "securityContext": {"reference": context}} if context else found


def named(*ids: str) -> ast.Node:
    """Resources with these ids."""
    return ast.Field("id", "in", ids)


def policy(letters: dict[str, tuple[str, ast.Node]]) -> Policy:
    """Type -> (letters, predicate)."""
    actions: dict[Action, dict[str, ast.Node]] = {"c": {}, "r": {}, "u": {}, "d": {}, "s": {}}
    for name, (granted, node) in letters.items():
        for action, predicates in actions.items():
            if action in granted:
                predicates[name] = node
    return Policy(actions=actions)


As = Callable[..., Client]


@pytest.fixture(scope="module")
def server(new_server: NewServer) -> Server:
    """One store for all types; each test has ids of its own."""
    return new_server(conditional_delete_limit=1)


@pytest.fixture
def as_(server: Server) -> As:
    """A client with a policy: type -> (letters, predicate); none: everything."""

    def client(**letters: tuple[str, ast.Node]) -> Client:
        return Client(create_app(server, policy=policy(letters) if letters else EVERYTHING), server)

    return client


def raw(client: Client, id_: str) -> int:
    """The status of a read of content; a vread and the history answer alike."""
    status = client.get(f"/Binary/{id_}").status
    assert client.get(f"/Binary/{id_}/_history/1").status == status
    assert client.get(f"/Binary/{id_}/_history").status == status
    return status


def same(first: Answer, second: Answer) -> bool:
    """Whether two answers tell the same."""
    return (first.status, first.json["issue"]) == (second.status, second.json["issue"])


def test_every_type_shows_what_it_points_at_and_no_more(as_: As) -> None:
    root = as_()
    root.store(*(binary(f"each-{name}") for name in POINTING))
    root.store(*(sample(name, f"each-{name}", f"Binary/each-{name}") for name in POINTING))
    for name, another in zip(POINTING, [*POINTING[1:], POINTING[0]], strict=True):
        reader = as_(**{name: ("r", named(f"each-{name}")), "Binary": ("r", OWNED)})
        assert reader.get(f"/Binary/each-{name}").status == 200, name
        assert reader.get(f"/Binary/each-{another}").status == 404, name
    nobody = as_(**dict.fromkeys(POINTING, ("r", named("nothing"))), Binary=("r", OWNED))
    everybody = as_(**dict.fromkeys(POINTING, ("r", ast.EVERYTHING)), Binary=("r", OWNED))
    assert {nobody.get(f"/Binary/each-{name}").status for name in POINTING[::7]} == {404}
    assert {everybody.get(f"/Binary/each-{name}").status for name in POINTING[::7]} == {200}


def test_no_type_may_be_made_to_point_at_what_is_not_seen(as_: As) -> None:
    root = as_()
    root.store(binary("unseen"))
    root.store(*(sample(name, f"plain-{name}", None) for name in POINTING))
    writer = as_(**dict.fromkeys(POINTING, ("cru", ast.EVERYTHING)), Binary=("cr", OWNED))
    for name in POINTING:
        answers = (
            writer.post(f"/{name}", sample(name, None, "Binary/unseen")),
            writer.patch(f"/{name}/plain-{name}", [pointing(name, "Binary/unseen")]),
        )
        for answer in answers:
            assert (answer.status, answer.json["issue"][0]["diagnostics"]) == (403, REFUSED), name
    assert writer.get("/Binary/unseen").status == 404


@pytest.mark.parametrize("name", CHOSEN)
def test_content_is_seen_by_those_who_see_what_points_at_it(as_: As, name: str) -> None:
    root, content, own = as_(), f"of-{name}", f"{name}-own"
    reader = as_(**{name: ("r", named(own)), "Binary": ("r", OWNED)})
    other = as_(**{name: ("r", named(f"{name}-other")), "Binary": ("r", OWNED)})
    finder = as_(**{name: ("s", named(own)), "Binary": ("r", OWNED)})
    ungranted = as_(**{name: ("r", named(own))})
    assert root.put(f"/Binary/{content}", binary(content)).status == 201
    assert raw(reader, content) == 404
    assert root.put(f"/{name}/{own}", sample(name, own, f"Binary/{content}")).status == 201
    assert raw(reader, content) == 200
    assert raw(other, content) == raw(finder, content) == 404
    assert raw(ungranted, content) == 403
    assert same(other.get(f"/Binary/{content}"), other.get(f"/Binary/{ABSENT}"))
    # Several owners: any that is seen suffices.
    assert root.put(f"/{name}/{name}-other", sample(name, f"{name}-other", f"{BASE}/Binary/{content}")).status == 201
    assert raw(other, content) == raw(reader, content) == 200
    # An owner that no longer points, or is gone.
    assert root.put(f"/{name}/{own}", sample(name, own, None)).status == 200
    assert raw(reader, content) == 404
    assert raw(other, content) == 200
    assert root.delete(f"/{name}/{name}-other").status == 204
    assert raw(other, content) == 404
    # What it points at in its history alone it does not have.
    assert root.put(f"/{name}/{own}", sample(name, own, f"Binary/{content}/_history/1")).status == 200
    assert raw(reader, content) == 200
    # A securityContext alone decides, of earlier versions without one as well.
    assert root.put(f"/Binary/{content}", binary(content, f"{name}/{name}-other")).status == 200
    assert raw(reader, content) == 404
    assert root.delete(f"/Binary/{content}").status == 204
    assert raw(reader, content) == raw(other, content) == 404
    # A version with one is judged by that.
    assert root.put(f"/{name}/{name}-other", sample(name, f"{name}-other", None)).status == 201
    assert root.put(f"/Binary/{content}", binary(content)).status == 201
    assert [one.get(f"/Binary/{content}/_history/2").status for one in (reader, other)] == [404, 200]
    assert [one.get(f"/Binary/{content}").status for one in (reader, other)] == [200, 404]


@pytest.mark.parametrize("name", CHOSEN)
def test_nobody_points_at_what_is_not_seen(as_: As, name: str) -> None:
    """Every way in that writes, for content of others, of nobody, and that is not there (yet)."""
    root, own, mine, foreign = as_(), f"{name}-w", f"mine-{name}", f"foreign-{name}"
    coming = f"coming-{name}"
    writer = as_(**{name: ("cruds", named(own, *(f"id-{n}" for n in range(5000)))), "Binary": ("cr", OWNED)})
    root.store(binary(mine), binary(foreign, f"{name}/{name}-theirs"), sample(name, f"{name}-theirs", None))
    root.store(sample(name, own, f"Binary/{mine}"))

    def ways(url: str) -> list[Answer]:
        wanted = sample(name, own, url)
        tagged = {**wanted, "meta": {"tag": [{"system": "http://example.org", "code": "x"}]}}
        new = sample(name, None, url)
        patched = [pointing(name, url)]
        answers = [
            writer.post(f"/{name}", new),
            writer.post(f"/{name}", new, if_none_exist="_id=nothing"),
            writer.put(f"/{name}/{own}", wanted),
            writer.put(f"/{name}/{own}", tagged),
            writer.put(f"/{name}?_id={own}", wanted),
            writer.patch(f"/{name}/{own}", patched),
            writer.patch(f"/{name}?_id={own}", patched),
        ]
        transaction = bundle(entry("POST", name, new, "urn:uuid:6f0c9a7e-3a75-4f2f-8b5e-0d4b5d0a0001"))
        answers.append(writer.post("", transaction))
        answers.append(writer.post("", bundle(entry("PUT", f"{name}/{own}", wanted))))
        batch = writer.post("", bundle(entry("POST", name, new), entry("PUT", f"{name}/{own}", wanted), type="batch"))
        assert [one["response"]["status"][:3] for one in batch.entries] == ["403", "403"]
        return answers

    for url in (f"Binary/{foreign}", f"{BASE}/Binary/{coming}", f"Binary/{ABSENT}/_history/1"):
        answers = ways(url)
        assert [one.status for one in answers] == [403] * 9, url
        assert {one.json["issue"][0]["diagnostics"] for one in answers} == {REFUSED}
    # What comes later is not theirs either.
    root.store(binary(coming))
    assert raw(writer, foreign) == raw(writer, coming) == 404
    # What is seen may be pointed at again, kept, and pointed at by a part that is the same as before.
    assert raw(writer, mine) == 200
    assert [one.status for one in ways_allowed(writer, name, own, f"Binary/{mine}")] == [201, 200, 200]


def ways_allowed(writer: Client, name: str, own: str, url: str) -> list[Answer]:
    return [
        writer.post(f"/{name}", sample(name, None, url)),
        writer.put(f"/{name}/{own}", sample(name, own, f"{BASE}/{url}")),
        writer.post("", bundle(entry("PUT", f"{name}/{own}", sample(name, own, url)))),
    ]


@pytest.mark.parametrize("name", ["AuditEvent", "Provenance"])
def test_what_only_tells_of_content_does_not_show_it(as_: As, name: str) -> None:
    root, content, own = as_(), f"told-{name}", f"{name}-own"
    reader = as_(**{name: ("r", ast.EVERYTHING), "Binary": ("r", OWNED)})
    root.store(binary(content))
    resource = sample(name, own, f"Binary/{content}")
    if name == "Provenance":
        resource["target"] = [{"reference": f"Binary/{content}"}]
        resource["entity"] = [{"role": "source", "what": {"reference": f"Binary/{content}"}}]
    else:
        resource["entity"] = [{"what": {"reference": f"Binary/{content}"}}]
    assert root.put(f"/{name}/{own}", resource).status == 201
    assert reader.get(f"/{name}/{own}").status == 200
    assert raw(reader, content) == 404


def test_many_owners_of_one_type_do_not_hide_one_of_another(as_: As) -> None:
    """A logo that a hundred resources show, and the one of them that somebody sees."""
    root = as_()
    root.store(binary("logo"))
    root.store(*({"resourceType": "Practitioner", "id": f"p{n}", "photo": [{"url": "Binary/logo"}]} for n in range(60)))
    patient = {"resourceType": "Patient", "id": "with-logo", "photo": [{"url": "Binary/logo"}]}
    reader = as_(Patient=("r", named("with-logo")), Practitioner=("r", named("nobody")), Binary=("r", OWNED))
    assert raw(reader, "logo") == 404
    root.store(patient)
    assert raw(reader, "logo") == 200
    last = as_(Practitioner=("r", named("p59")), Binary=("r", OWNED))
    assert raw(last, "logo") == 200
    assert raw(as_(Practitioner=("r", named("p60")), Binary=("r", OWNED)), "logo") == 404
    assert raw(as_(Binary=("r", OWNED)), "logo") == 404


def test_content_and_what_points_at_it_may_come_together(as_: As) -> None:
    """A transaction is judged as a whole: new content with what it belongs to, under its fullUrl."""
    root = as_()
    root.store({"resourceType": "Patient", "id": "together"})
    everywhere = tuple(f"id-{n}" for n in range(5000))
    writer = as_(
        Patient=("r", named("together")),
        Communication=("cru", named(*everywhere)),
        Binary=("cr", OWNED),
    )
    urn = "urn:uuid:8c1f6b6a-6f0e-4a3c-9d6e-0d4b8f2f5a11"
    new = {"resourceType": "Binary", "contentType": "text/plain", "data": "QUJD"}

    def message(url: str) -> JSON:
        return {
            "resourceType": "Communication",
            "status": "completed",
            "payload": [{"contentAttachment": {"url": url}}],
        }

    bound = {**new, "securityContext": {"reference": "Patient/together"}}
    answer = writer.post("", bundle(entry("POST", "Binary", bound, urn), entry("POST", "Communication", message(urn))))
    assert answer.status == 200
    created = answer.entries[0]["response"]["location"].split("/_history")[0].rpartition("/")[2]
    assert raw(writer, created) == 200
    # A fullUrl that names content of others is only a name for the new one.
    root.store(binary("others"))
    for url in (f"{BASE}/Binary/others", "Binary/others"):
        together = bundle(
            entry("POST", "Binary", bound, f"{BASE}/Binary/others"),
            entry("POST", "Communication", message(url), f"{BASE}/Communication/new"),
        )
        answer = writer.post("", together)
        assert answer.status == 200
        location = answer.entries[1]["response"]["location"].split("/fhir")[-1].split("/_history")[0]
        stored = root.get(location if location.startswith("/") else f"/{location}").json
        assert stored["payload"][0]["contentAttachment"]["url"] not in (f"{BASE}/Binary/others", "Binary/others")
        assert raw(writer, "others") == 404
    # And content without an owner is not accepted.
    free = bundle(entry("POST", "Binary", new, urn), entry("POST", "Communication", message(urn)))
    assert writer.post("", free).status == 403


def test_the_index_of_pointers_cannot_be_asked(as_: As) -> None:
    root = as_()
    root.store(
        binary("hidden"),
        {"resourceType": "Media", "id": "m", "status": "completed", "content": {"url": "Binary/hidden"}},
    )
    for query in ("(content)=Binary/hidden", "content=Binary/hidden", "_content:exact=Binary/hidden"):
        answer = root.get(f"/Media?{query}", prefer="handling=strict")
        assert answer.status == 400, query
    for query in ("_has:Media:(content):_id=m", "_has:Media:content:_id=m"):
        assert root.get(f"/Binary?{query}", prefer="handling=strict").status == 400
    assert root.get("/Binary?_id=hidden&_revinclude=Media:content", prefer="handling=strict").status == 400
    listed = {one["resource"]["resourceType"] for one in root.get("/Binary?_id=hidden&_revinclude=*").entries}
    assert listed == {"Binary"}
    assert b"(content)" not in root.get("/metadata").body
