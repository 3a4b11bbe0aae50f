"""Every official example of R4 through the REST interface: stored, given back equal, found by all that it holds."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator

import pytest

from fhir_server.resources import jsonformat, xmlformat
from tests.support import examples, feeding
from tests.support.feeding import Query
from tests.support.http import BASE, Client
from tests.support.literally import literally, unordered, without_version

pytestmark = pytest.mark.slow


def stored() -> Iterator[tuple[str, bytes]]:
    """(address, JSON text) of every example that can be stored, as it was stored last: one address occurs twice."""
    by_address = {examples.address(text): text for file, text in examples.texts() if file != examples.REFUSED}
    assert len(by_address) == 5_304
    yield from by_address.items()


def test_the_example_whose_id_has_67_characters_is_refused(full: Client) -> None:
    text = (examples.directory() / examples.REFUSED).read_bytes()
    id_ = dict(literally(text))["id"]
    assert len(id_) == 67
    assert full.put(f"/SearchParameter/{id_}", text).status == 400


def test_every_example_is_counted(full: Client) -> None:
    assert len(examples.paths()) == 5_306
    assert full.get("/?_summary=count").json["total"] == 5_304


def test_every_example_is_read_as_it_was_written_digit_for_digit(full: Client) -> None:
    changed = []
    for name, text in stored():
        # Without an Accept a Binary answers with its content, and not as a resource.
        answer = full.get(f"/{name}", accept="application/fhir+json")
        assert answer.status == 200, name
        if without_version(literally(answer.body)) != without_version(literally(text)):
            changed.append(name)
    assert changed == []


def test_every_example_read_as_xml_parses_to_what_was_written(full: Client) -> None:
    changed = []
    for name, text in stored():
        answer = full.get(f"/{name}", accept="application/fhir+xml")
        assert answer.status == 200, name
        read = jsonformat.encode(xmlformat.parse(answer.body))
        if unordered(read) != unordered(text):
            changed.append(name)
    assert changed == []


def found(client: Client, name: str, query: Query) -> bool | str:
    """Whether a search finds the resource, and nothing else; or what went wrong. No more work than a search is, for
    there are 100,000s.
    """
    type_name, _, id_ = name.partition("/")
    started: list[str] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": f"/fhir/{type_name}",
        "QUERY_STRING": f"_id={id_}&{query}",
        "wsgi.input": io.BytesIO(),
    }
    body = b"".join(client.application(environ, lambda status, headers: started.append(status)))
    if started[0][:3] != "200":
        return f"{started[0]}: {body[:300]!r}"
    number = body.count(b'"search":{"mode":"match"}')
    if number > 1 or b'"mode":"outcome"' in body:
        # The resource may hold such texts itself (a Bundle), and an id without a type is searched for with a warning.
        entries = json.loads(body)["entry"]
        warnings = [one["resource"]["issue"] for one in entries if one["search"]["mode"] == "outcome"]
        if any("is an id without a type" not in issue["diagnostics"] for issues in warnings for issue in issues):
            return f"warnings: {warnings}"
        number = sum(one["search"]["mode"] == "match" for one in entries)
    if number > 1 or (number == 1 and f'"fullUrl":"{BASE}/{name}"'.encode() not in body):
        return f"{number} matches"
    return number == 1


def wrong_answers(client: Client, chosen: Iterator[tuple[str, Query]]) -> list[str]:
    """The searches that do not answer as expected; at least one was asked."""
    wrong, asked = [], 0
    for name, query in chosen:
        asked += 1
        answer = found(client, name, query)
        if answer is not query.found:
            wrong.append(f"{name}?{query}: {answer}")
    assert asked > 0
    return wrong


def all_queries() -> Iterator[tuple[str, Query]]:
    """Every search that must find an example, and for each type and parameter one that must not."""
    negative: set[tuple[str, str]] = set()
    for name, text in stored():
        resource = jsonformat.parse(text)
        for query in feeding.queries(resource):
            if not query.found:
                key = (resource["resourceType"], query.code)
                if key in negative:
                    continue
                negative.add(key)
            yield name, query


def test_every_example_is_found_by_every_parameter_that_its_content_feeds(full: Client) -> None:
    assert wrong_answers(full, all_queries()) == []
