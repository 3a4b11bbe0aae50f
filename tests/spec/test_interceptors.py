"""The hooks of a write: inside the transaction before it commits, and after it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_server.errors import Unprocessable
from fhir_server.interceptors import Interceptors
from fhir_server.storage.protocol import Transaction
from fhir_server.storage.writes import Version
from tests.support.http import Client
from tests.support.resources import bundle, entry, named, patient


def _mark(
    transaction: Transaction, address: str, resource: dict[str, Any] | None, current: dict[str, Any] | None
) -> dict[str, Any] | None:
    return None if resource is None else {**resource, "gender": "male" if current is None else "other"}


def _refuse_deletes(
    transaction: Transaction, address: str, resource: dict[str, Any] | None, current: dict[str, Any] | None
) -> dict[str, Any] | None:
    if resource is None and current is not None and current.get("active"):
        raise Unprocessable("Active patients are not deleted.")
    return resource


def test_hooks_before_commit_change_and_refuse_writes_in_order(client: Client) -> None:
    client.server.interceptors = Interceptors(before_commit=(_refuse_deletes, _mark))
    created = client.post("/Patient", named("New"))
    assert created.json["gender"] == "male"
    assert client.get("/Patient?gender=male").json["total"] == 1
    assert client.put(f"/Patient/{created.id}", patient(created.id, active=True)).json["gender"] == "other"
    answer = client.post("", bundle(entry("POST", "Patient", named("X")), entry("DELETE", f"Patient/{created.id}")))
    assert answer.status == 422
    assert answer.json["issue"][0]["expression"] == ["Bundle.entry[1]"]
    assert client.get("/Patient").json["total"] == 1


def test_hooks_after_commit_see_what_was_committed_once(client: Client) -> None:
    seen: list[list[str]] = []

    def after(versions: Sequence[Version]) -> None:
        seen.append([f"{version.address}@{version.version}" for version in versions])

    client.server.interceptors = Interceptors(after_commit=(after,))
    client.store(patient("a", active=True), patient("b", active=True))
    client.post("", bundle(entry("PUT", "Patient/c", patient("c", active=True)), entry("GET", "Patient/nobody")))
    client.delete("/Patient/a")
    client.delete("/Patient/a")
    client.get("/Patient/b")
    assert seen == [["Patient/a@1", "Patient/b@1"], ["Patient/a@2"]]
