"""Business rules see numbers in clear, before and after; what they change is sealed."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.app import create_app, create_server
from fhir_server.context import Settings
from fhir_server.interceptors import Interceptors
from fhir_server.sealing import Sealer, is_marked
from fhir_server.storage.protocol import Transaction
from fhir_server.storage.writes import Version
from tests.sealing.conftest import KEY, MASK, NUMBER, SECOND, Database, patient, shown
from tests.support.http import BASE, Client

Resource = dict[str, Any] | None


@pytest.mark.parametrize("value", [NUMBER, MASK])
def test_rules_see_the_number_and_may_change_it(database: Database, value: str) -> None:
    seen: list[tuple[str | None, str | None]] = []
    committed: list[Version] = []
    change: list[str] = []

    def rule(transaction: Transaction, address: str, resource: Resource, before: Resource) -> Resource:
        seen.append((shown(before) if before else None, shown(resource) if resource else None))
        if change and resource is not None:
            return patient("a", change[0], gender="other")
        return resource

    server = create_server(
        Settings(base_url=BASE),
        database.open(),
        sealer=Sealer([KEY]),
        interceptors=Interceptors(before_commit=(rule,), after_commit=(committed.extend,)),
    )
    client = Client(create_app(server), server)
    client.put("/Patient/a", patient("a"))
    client.put("/Patient/a", patient("a", value))
    client.patch("/Patient/a", [{"op": "add", "path": "/active", "value": True}])
    change.append(SECOND)
    assert shown(client.put("/Patient/a", patient("a", value)).json) == SECOND
    client.delete("/Patient/a")
    assert seen == [(None, NUMBER), (NUMBER, NUMBER), (NUMBER, NUMBER), (NUMBER, NUMBER), (SECOND, None)]
    assert [one.body is None or is_marked(one.body) for one in committed] == [True] * 5
    assert not database.holds(SECOND)
    assert not database.holds(NUMBER)
