"""On MongoDB, one resource per (type, search parameter) of the official examples is found by what it holds.

The embedded store is asked about every example (test_examples_over_http.py). What is expected comes from the FHIRPath
expressions of the official parameters (tests/support/feeding.py), not from the extractor.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fhir_server.app import create_app, create_server
from fhir_server.context import Settings
from fhir_server.resources import jsonformat
from fhir_server.storage.mongo import open_store
from terminology import ucum
from terminology.local import Local
from tests.conformance.test_examples_over_http import found
from tests.support import examples, feeding, mongodb
from tests.support.feeding import Query
from tests.support.http import BASE, Client
from tests.support.resources import bundle, entry

pytestmark = pytest.mark.slow

Chosen = dict[str, list[Query]]
"""address -> the searches that must find it"""


@pytest.fixture(scope="module")
def chosen() -> tuple[Chosen, dict[str, str]]:
    """The fewest resources that feed every (type, parameter), smallest first; with their texts."""
    stored = {examples.address(text): text for name, text in examples.texts() if name != examples.REFUSED}
    covered: set[tuple[str, str]] = set()
    searches: Chosen = {}
    for name, text in sorted(stored.items(), key=lambda pair: (len(pair[1]), pair[0])):
        resource = jsonformat.parse(text)
        for query in feeding.queries(resource):
            pair = (resource["resourceType"], query.code)
            if query.found and not query.name.endswith(":missing") and pair not in covered:
                covered.add(pair)
                searches.setdefault(name, []).append(query)
    return searches, {name: stored[name] for name in searches}


@pytest.fixture(scope="module")
def client(chosen: tuple[Chosen, dict[str, str]]) -> Iterator[Client]:
    running, database = mongodb.server(), mongodb.fresh_name()
    store = open_store(running.uri, database=database)
    server = create_server(Settings(base_url=BASE), store, terminology=Local, units=ucum.canonical)
    client = Client(create_app(server), server)
    resources = [jsonformat.parse(text) for text in chosen[1].values()]
    for start in range(0, len(resources), 50):
        part = resources[start : start + 50]
        entries = [entry("PUT", f"{one['resourceType']}/{one['id']}", one) for one in part]
        answer = client.request("POST", "", jsonformat.encode(bundle(*entries)))
        assert answer.status == 200, answer.body[:2000]
    yield client
    store.close()
    mongodb.drop(running.uri, database)


def test_every_parameter_finds_a_resource_that_feeds_it(client: Client, chosen: tuple[Chosen, dict[str, str]]) -> None:
    wrong = [
        (name, str(query), answer)
        for name, queries in chosen[0].items()
        for query in queries
        if (answer := found(client, name, query)) is not True
    ]
    assert wrong == []
    assert sum(map(len, chosen[0].values())) > 1_500


@pytest.mark.parametrize(
    "query",
    [
        "Patient?name=zzz",
        "Patient?name:exact=zzz",
        "Patient?name:contains=zzz",
        "Patient?gender=zzz",
        "Patient?identifier=http://nowhere.example|1",
        "Observation?date=1801",
        "Observation?value-quantity=gt99999999",
        "Observation?subject=Patient/nobody",
        "Observation?code-value-quantity=http://nowhere.example|x$1",
        "RiskAssessment?probability=gt2",
        "ValueSet?url=http://nowhere.example",
        "ValueSet?url:below=http://nowhere.example",
        "Patient?_has:Observation:subject:code=nowhere",
        "Observation?subject:Patient.name=zzz",
        "Location?near=0|0|1|km",
        "Patient?_content=nowhereatall",
    ],
)
def test_values_that_are_not_there_find_nothing(client: Client, query: str) -> None:
    answer = client.get(f"/{query}&_total=accurate")
    assert (answer.status, answer.json["total"]) == (200, 0)
