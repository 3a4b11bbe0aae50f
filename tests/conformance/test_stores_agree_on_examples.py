"""SQLite, MongoDB and the matcher in memory answer the same searches over official examples alike.

Result sets, order, totals, and what is included; the tree itself is compared on random data in tests/properties.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fhir_server.app import create_app, create_server
from fhir_server.context import Settings
from fhir_server.resources import jsonformat
from fhir_server.search import match
from fhir_server.search.parse import parse_query
from fhir_server.search.ranges import split_prefix
from fhir_server.search.registry import builtin
from fhir_server.search.resolve import resolve
from fhir_server.storage.protocol import Store
from terminology import ucum
from terminology.local import Local
from tests.support import examples, feeding, mongodb
from tests.support.http import BASE, Client
from tests.support.resources import bundle, entry

TYPES = (
    "Patient", "Observation", "Condition", "Encounter", "Practitioner", "PractitionerRole", "Organization", "Location",
    "Medication", "MedicationRequest", "MedicationAdministration", "Procedure", "DiagnosticReport", "ServiceRequest",
    "Specimen", "Device", "CarePlan", "Goal", "Immunization", "AllergyIntolerance", "Appointment", "Slot", "Schedule",
    "Group", "List", "DocumentReference", "Composition", "Claim", "Coverage", "Questionnaire", "QuestionnaireResponse",
    "RiskAssessment", "Task", "RelatedPerson",
)  # fmt: skip
PER_TYPE = 12
NOW = 1_767_225_600_000_000


@dataclass
class Corpus:
    """The same resources in both stores and in memory."""

    clients: dict[str, Client]
    memory: match.MemoryCorpus
    resources: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    from fhir_server.storage.mongo import open_store as open_mongo
    from fhir_server.storage.sqlite import open_store as open_sqlite

    running, database = mongodb.server(), mongodb.fresh_name()
    path: Path = tmp_path_factory.mktemp("agree") / "hestia.db"
    openers: dict[str, Callable[[], Store]] = {
        "sqlite": lambda: open_sqlite(path),
        "mongo": lambda: open_mongo(running.uri, database=database),
    }
    chosen = some_examples()
    clients: dict[str, Client] = {}
    for name, opener in openers.items():
        server = create_server(
            Settings(base_url=BASE), opener(), terminology=Local, units=ucum.canonical, clock=lambda: NOW
        )
        clients[name] = Client(create_app(server), server)
        addresses = list(chosen)
        for at in range(0, len(addresses), 50):
            entries = [entry("PUT", address, chosen[address]) for address in addresses[at : at + 50]]
            answer = clients[name].request("POST", "", jsonformat.encode(bundle(*entries)))
            assert answer.status == 200, answer.body[:2000]
    memory = match.MemoryCorpus()
    for address, resource in chosen.items():
        memory.put(clients["sqlite"].server.extractor.documents(resource, address), NOW)
    yield Corpus(clients, memory, chosen)
    for client in clients.values():
        client.server.store.close()
    mongodb.drop(running.uri, database)


def some_examples() -> dict[str, dict[str, Any]]:
    """The first few examples of each type, in a fixed order."""
    found: dict[str, dict[str, Any]] = {}
    numbers = dict.fromkeys(TYPES, 0)
    for file, text in examples.texts():
        type_name = file.partition("-")[0]
        if numbers.get(type_name, PER_TYPE) < PER_TYPE and len(text) < 40_000:
            numbers[type_name] += 1
            found[examples.address(text)] = jsonformat.parse(text)
    return found


def searches(corpus: Corpus) -> list[str]:
    """Searches of every type of parameter, modifier and prefix, chains both ways, sorts, includes; always the same."""
    dice = random.Random(4)
    registry = builtin()
    by_kind: dict[tuple[str, ...], list[str]] = {}
    fed: dict[str, list[feeding.Query]] = {}
    for address, resource in corpus.resources.items():
        type_name = resource["resourceType"]
        fed[address] = [query for query in feeding.queries(resource) if query.code in registry.params(type_name)]
        for query in fed[address]:
            param = registry.params(type_name)[query.code]
            _, colon, modifier = query.name.partition(":")
            texts = [str(query)]
            if param.type in ("date", "number", "quantity") and not colon:
                bare = split_prefix(query.value)[1]
                texts += [
                    f"{query.code}={feeding.quote(prefix + bare, safe='')}"
                    for prefix in ("ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
                ]
            elif param.type == "token" and not colon and "|" not in query.value:
                texts.append(f"{query.code}:not={feeding.quote(query.value, safe='')}")
            for text in texts:
                sign = text.partition("=")[2][:2]
                kind = (param.type, modifier, sign if sign.isalpha() and sign.islower() else "")
                by_kind.setdefault(kind, []).append(f"{type_name}?{text}")
    chosen = [one for found in by_kind.values() for one in dice.sample(found, min(len(found), 4))]
    chosen += linked(corpus, fed, dice)
    for type_name in TYPES:
        codes = [
            code
            for code, param in registry.params(type_name).items()
            if param.numbers and param.type not in ("composite", "special") and param.usage != "phonetic"
        ]
        for code in dice.sample(codes, min(len(codes), 2)):
            chosen.append(f"{type_name}?_sort={code}")
            chosen.append(f"{type_name}?_sort=-{code},_id&_count=3")
        references = [code for code, param in registry.params(type_name).items() if param.type == "reference"]
        if references:
            chosen.append(f"{type_name}?_include={type_name}:{dice.choice(references)}")
        chosen.append(f"{type_name}?_include=*&_include:iterate=*&_count=5")
    # The stand-in for MongoDB takes seconds for every resource that all parameters of all types may point at.
    chosen += ["Patient?_id=example&_revinclude=*", "Medication?_id=med0310&_revinclude=*"]
    chosen += [
        "?_type=Patient,Practitioner&_id=example",
        "?_type=Patient,Group&_sort=_id",
        "Patient/example/Observation",
    ]
    return list(dict.fromkeys(chosen))


def linked(corpus: Corpus, fed: dict[str, list[feeding.Query]], dice: random.Random) -> list[str]:
    """Chains and reverse chains that exist in the examples, with a parameter at the other end."""
    found = []
    for address in fed:
        type_name = address.partition("/")[0]
        for query in fed[address]:
            target = query.value
            if ":" in query.name or target not in fed or query.code.startswith("_"):
                continue
            ends = [one for one in fed[target] if one.code not in ("_text", "_content", "near")]
            backs = [one for one in fed[address] if one.code != "near"]
            if ends and backs:
                end, back = dice.choice(ends), dice.choice(backs)
                named = f"{query.code}:{target.partition('/')[0]}"
                found.append(f"{type_name}?{named}.{end}")
                found.append(f"{target.partition('/')[0]}?_has:{type_name}:{query.code}:{back}")
                found.append(f"{target.partition('/')[0]}?_revinclude={type_name}:{query.code}&_count=7")
    return dice.sample(found, min(len(found), 120))


def walked(client: Client, search: str) -> tuple[Any, ...]:
    """(status, matches in order, includes by page, total) of a search and all of its pages."""
    path, _, query = search.partition("?")
    answer = client.get(f"/{path}?{query}&_total=accurate" if query else f"/{path}?_total=accurate")
    matches: list[str] = []
    included: list[set[str]] = []
    total = answer.json.get("total")
    if answer.status != 200:
        return (answer.status, answer.json["issue"][0]["code"])
    for _ in range(100):
        for one in answer.entries:
            if one["search"]["mode"] == "match":
                matches.append(one["fullUrl"].removeprefix(f"{BASE}/"))
        included.append({one["fullUrl"] for one in answer.entries if one["search"]["mode"] == "include"})
        following = answer.link("next")
        if following is None:
            return (200, matches, included, total)
        answer = client.get(following)
    raise AssertionError("the pages do not end")


@pytest.mark.slow
def test_all_stores_answer_the_same_searches_alike(corpus: Corpus) -> None:
    asked = searches(corpus)
    assert len(asked) >= 300
    sqlite, mongo = corpus.clients["sqlite"], corpus.clients["mongo"]
    server = sqlite.server
    wrong, found = [], 0
    for one in asked:
        first, second = walked(sqlite, one), walked(mongo, one)
        if first != second:
            wrong.append(f"{one}: {first} {second}")
            continue
        if first[0] != 200 or "/" in one.partition("?")[0]:
            continue
        type_name, _, query = one.partition("?")
        resolved = resolve(
            parse_query(query),
            types=(type_name,) if type_name else None,
            registry=server.registry,
            settings=server.extractor.settings,
        )
        expected = match.search(resolved.search, corpus.memory)
        if first[1] != expected or first[3] != len(expected):
            wrong.append(f"{one}: {first} {expected} in memory")
        elif len(first[2]) == 1:
            addresses = {f"{BASE}/{address}" for address in match.includes(resolved.search, expected, corpus.memory)}
            if first[2][0] != addresses:
                wrong.append(f"{one}: includes {first[2][0] ^ addresses}")
        found += bool(expected)
    assert wrong == [], json.dumps(wrong, indent=1)[:5000]
    assert found >= 200
