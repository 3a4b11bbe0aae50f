"""R4 http.html#delete and conditional delete."""

from __future__ import annotations

import pytest

from tests.support.http import Client
from tests.support.resources import named, patient


@pytest.mark.both_stores
def test_delete_is_idempotent_and_makes_one_version(client: Client) -> None:
    client.store(patient("a", active=True))
    first, second = client.delete("/Patient/a"), client.delete("/Patient/a")
    assert (first.status, second.status) == (204, 204)
    assert first.headers["etag"] == second.headers["etag"] == 'W/"2"'
    assert first.body == b""
    assert len(client.get("/Patient/a/_history").entries) == 2


def test_delete_of_an_unknown_id_succeeds(client: Client) -> None:
    assert client.delete("/Patient/never").status == 204
    assert client.get("/Patient/never").status == 404


def test_delete_answers_an_outcome_where_one_is_preferred(client: Client) -> None:
    client.store(patient("a", active=True))
    answer = client.delete("/Patient/a", prefer="return=OperationOutcome")
    assert answer.status == 200
    assert answer.json["resourceType"] == "OperationOutcome"


def test_deleted_resources_are_not_found_by_searches(client: Client) -> None:
    client.store(named("Gone", "a"), named("Gone", "b"))
    client.delete("/Patient/a")
    assert client.get("/Patient?family=gone").matches == ["b"]


@pytest.mark.both_stores
def test_conditional_delete_of_none_one_and_several(client: Client) -> None:
    client.store(*(named("Same", f"p{number}") for number in range(3)), named("Other", "o"))
    assert client.delete("/Patient?family=nobody").status == 204
    assert client.delete("/Patient?family=other").status == 204
    assert client.delete("/Patient?family=same").status == 204
    assert client.get("/Patient").json["total"] == 0


def test_conditional_delete_of_more_than_the_limit_deletes_nothing(client: Client) -> None:
    client.store(*(named("Same", f"p{number}") for number in range(101)))
    assert client.delete("/Patient?family=same").status == 412
    assert client.get("/Patient?_summary=count").json["total"] == 101
    client.delete("/Patient/p0")
    assert client.delete("/Patient?family=same").status == 204
    assert client.get("/Patient?_summary=count").json["total"] == 0
