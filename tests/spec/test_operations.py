"""R4 resource-operation-validate.html, -meta.html, -meta-add.html, -meta-delete.html; $reindex and custom search
parameters.
"""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server import registries
from fhir_server.search import registry
from fhir_server.search.extract import Extractor
from tests.spec.conftest import Build
from tests.support.http import Answer, Client
from tests.support.resources import observation, patient


def parameters(*items: dict[str, Any]) -> dict[str, Any]:
    return {"resourceType": "Parameters", "parameter": list(items)}


def errors(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [issue["code"] for issue in answer.json["issue"] if issue["severity"] in ("error", "fatal")]


# --- $validate --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body, expected",
    [
        (patient(active=True), []),
        (patient(gender="nonsense"), ["code-invalid"]),
        (patient(birthDate="2020-13-01"), ["value"]),
        (observation(subject="Practitioner/1"), ["value"]),
        ({"resourceType": "Observation"}, ["required", "required"]),
    ],
)
def test_validate_answers_200_with_what_it_found(client: Client, body: dict[str, Any], expected: list[str]) -> None:
    path = f"/{body['resourceType']}/$validate"
    direct = client.post(path, body)
    wrapped = client.post(path, parameters({"name": "resource", "resource": body}))
    assert errors(direct) == errors(wrapped) == expected
    assert client.get(f"/{body['resourceType']}").json["total"] == 0


def test_validate_refuses_only_what_it_cannot_look_at(client: Client) -> None:
    assert client.request("POST", "/Patient/$validate", b"{").status == 400
    assert client.post("/Patient/$validate").status == 400
    assert client.post("/Patient/$validate?mode=nonsense", patient(active=True)).status == 400


def test_validate_of_another_type_is_an_error(client: Client) -> None:
    assert errors(client.post("/Patient/$validate", observation())) == ["structure"]


def test_validate_of_an_instance(client: Client) -> None:
    client.store(patient("a", active=True))
    assert errors(client.get("/Patient/a/$validate")) == []
    assert errors(client.post("/Patient/a/$validate?mode=update", patient("a", active=True))) == []
    assert errors(client.post("/Patient/a/$validate?mode=update", patient("b", active=True))) == ["value"]
    assert errors(client.post("/Patient/a/$validate?mode=delete")) == []
    assert client.post("/Patient/nobody/$validate?mode=delete").status == 404
    assert client.post("/Patient/$validate?mode=delete").status == 400


def test_a_nominated_profile_that_is_unknown_is_an_error(client: Client) -> None:
    body = patient(active=True)
    assert errors(client.post("/Patient/$validate?profile=http://example.org/p", body)) == ["not-supported"]
    core = "http://hl7.org/fhir/StructureDefinition/Patient"
    assert errors(client.post(f"/Patient/$validate?profile={core}", body)) == []


# --- $meta ------------------------------------------------------------------------------------------------------------

TAG = {"system": "http://example.org/tags", "code": "x"}


@pytest.mark.both_stores
def test_meta_add_and_delete_change_labels_as_sets(client: Client) -> None:
    client.store(patient("a", active=True))
    body = parameters(
        {"name": "meta", "valueMeta": {"tag": [TAG, {**TAG, "display": "again"}], "profile": ["http://p"]}}
    )
    added = client.post("/Patient/a/$meta-add", body)
    assert added.json["parameter"][0]["name"] == "return"
    meta = added.json["parameter"][0]["valueMeta"]
    assert (meta["tag"], meta["profile"], meta["versionId"]) == ([TAG], ["http://p"], "2")
    assert client.get("/Patient?_tag=x").matches == ["a"]
    assert client.get("/Patient/a").json["active"] is True
    body = parameters({"name": "meta", "valueMeta": {"tag": [TAG, {"code": "never"}]}})
    meta = client.post("/Patient/a/$meta-delete", body).json["parameter"][0]["valueMeta"]
    assert "tag" not in meta
    assert client.get("/Patient?_tag=x").matches == []


def test_meta_of_instance_version_type_and_system(client: Client) -> None:
    client.store(patient("a", active=True, meta={"tag": [TAG]}), observation("o", meta={"profile": ["http://p"]}))
    client.store(patient("a", active=True))

    def meta(path: str) -> dict[str, Any]:
        found = client.get(path).json.get("parameter", [])
        return found[0]["valueMeta"] if found else {}

    assert meta("/Patient/a/$meta")["versionId"] == "2"
    assert meta("/Patient/a/_history/1/$meta")["tag"] == [TAG]
    assert meta("/Patient/$meta") == {}
    assert meta("/Observation/$meta") == {"profile": ["http://p"]}
    assert meta("/$meta") == {"profile": ["http://p"]}
    assert client.post("/Patient/a/$meta-add", patient()).status == 400
    assert (
        client.post("/Patient/nobody/$meta-add", parameters({"name": "meta", "valueMeta": {"tag": [TAG]}})).status
        == 404
    )


# --- custom search parameters and $reindex ----------------------------------------------------------------------------


def shoe_size(**changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "SearchParameter",
        "id": "shoe",
        "url": "http://example.org/SearchParameter/shoe",
        "name": "Shoe",
        "status": "active",
        "description": "Size of shoes",
        "code": "shoe",
        "base": ["Patient"],
        "type": "token",
        "expression": "Patient.extension.where(url='http://example.org/shoe').value",
        **changes,
    }


def shod(id: str, code: str) -> dict[str, Any]:
    value = {"url": "http://example.org/shoe", "valueCoding": {"system": "http://s", "code": code}}
    return patient(id, active=True, extension=[value])


def reindex(client: Client) -> dict[str, Any]:
    answer = client.post("/$reindex")
    assert answer.status == 200, answer.body
    return {one["name"]: one.get("valueInteger", one.get("valueBoolean")) for one in answer.json["parameter"]}


@pytest.mark.both_stores
def test_a_custom_parameter_answers_400_until_everything_is_indexed(build: Build) -> None:
    client, other = build(), build()
    client.store(shod("before", "42"))
    assert client.put("/SearchParameter/shoe", shoe_size()).status == 201
    client.store(shod("after", "42"), shod("small", "36"))
    for one in (client, other):
        answer = one.get("/Patient?shoe=42")
        assert answer.status == 400
        assert "shoe" in answer.json["issue"][0]["diagnostics"]
    assert reindex(client)["complete"] is True
    for one in (client, other):
        assert sorted(one.get("/Patient?shoe=42").matches) == ["after", "before"]
    names = [one["name"] for one in _described(client, "Patient")["searchParam"]]
    assert "shoe" in names


def _described(client: Client, name: str) -> dict[str, Any]:
    resources = client.get("/metadata").json["rest"][0]["resource"]
    return next(one for one in resources if one["type"] == name)  # type: ignore[no-any-return]


@pytest.mark.both_stores
def test_a_write_of_a_worker_that_has_not_noticed_is_extracted_again(build: Build) -> None:
    client, other = build(), build()
    other.server.settings = type(other.server.settings)(
        **{
            **{name: getattr(other.server.settings, name) for name in other.server.settings.__dataclass_fields__},
            "registry_check_s": 3600.0,
        }
    )
    other.get("/metadata")
    client.put("/SearchParameter/shoe", shoe_size())
    assert reindex(client)["complete"] is True
    other.store(shod("late", "42"))
    assert client.get("/Patient?shoe=42").matches == ["late"]


def test_a_late_write_of_an_older_registry_is_found_and_extracted_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that read the registry before it changed can commit after the reindex, where stores allow it."""
    client.put("/SearchParameter/shoe", shoe_size())
    before = client.server.registry
    assert reindex(client)["complete"] is True
    client.server.registry = registry.builtin()
    client.server.extractor = Extractor(client.server.registry, client.server.extractor.settings)
    with monkeypatch.context() as patched:
        patched.setattr(registries, "version", lambda transaction: 0)
        patched.setattr(registries, "load", lambda server: None)
        client.store(shod("late", "42"))
    client.server.registry_seen = (0, 0)
    assert client.get("/Patient?shoe=42").matches == []
    client.server.rechecks = [0.0]
    assert client.get("/Patient?shoe=42").matches == ["late"]
    assert before.version == client.server.registry.version


def test_a_parameter_that_changes_is_indexed_anew(client: Client) -> None:
    client.store(shod("a", "42"))
    client.put("/SearchParameter/shoe", shoe_size())
    reindex(client)
    assert client.get("/Patient?shoe=42").matches == ["a"]
    client.put("/SearchParameter/shoe", shoe_size(description="Another description"))
    assert client.get("/Patient?shoe=42").matches == ["a"]
    client.put("/SearchParameter/shoe", shoe_size(expression="Patient.identifier"))
    assert client.get("/Patient?shoe=42").status == 400
    reindex(client)
    assert client.get("/Patient?shoe=42").matches == []
    client.delete("/SearchParameter/shoe")
    assert client.get("/Patient?shoe=42", prefer="handling=strict").status == 400
    assert client.get("/Patient?shoe=42").matches == ["a"]


@pytest.mark.parametrize(
    "changes, status",
    [
        ({"code": "family"}, 422),
        ({"code": "_tag"}, 422),
        ({"expression": "Patient.("}, 422),
        ({"code": "family", "status": "draft"}, 201),
        ({"status": "retired"}, 201),
    ],
)
def test_conflicting_active_parameters_are_422(client: Client, changes: dict[str, Any], status: int) -> None:
    assert client.put("/SearchParameter/shoe", shoe_size(**changes)).status == status
    client.store(shod("a", "42"))
    reindex(client)
    strict = client.get("/Patient?shoe=42", prefer="handling=strict")
    assert strict.status == 400


def test_reindex_works_in_rounds_until_it_is_complete(build: Build) -> None:
    client = build(reindex_budget_s=-1.0)
    client.store(*(shod(f"p{number}", "42") for number in range(250)))
    client.put("/SearchParameter/shoe", shoe_size())
    rounds = [reindex(client)]  # the parameter itself is one of the resources
    while not rounds[-1]["complete"]:
        assert client.get("/Patient?shoe=42").status == 400
        rounds.append(reindex(client))
    assert [one["reindexed"] for one in rounds] == [200, 51, 0]
    assert client.get("/Patient?shoe=42&_summary=count").json["total"] == 250


def test_reindex_of_a_type_and_of_an_instance(client: Client) -> None:
    client.store(patient("a", active=True), patient("b", active=True), observation("o"))
    assert _count(client.post("/Patient/$reindex")) == 2
    assert _count(client.post("/Patient/a/$reindex")) == 1
    assert client.post("/Patient/nobody/$reindex").status == 404
    assert client.get("/Patient?active=true").json["total"] == 2


def _count(answer: Answer) -> int:
    return int(answer.json["parameter"][0]["valueInteger"])
