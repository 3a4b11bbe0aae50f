"""Everything but the numbers is byte for byte what it would be without sealing."""

from __future__ import annotations

import gzip
import json

import pytest

from tests.sealing.conftest import KEY, NUMBER, AsRole, Build, number, patient, shown
from tests.support.http import Client

PLAIN = {
    "resourceType": "Observation",
    "id": "o",
    "status": "final",
    "code": {"text": 'quotes " and \\ and \u0001f600'.replace("\u0001f600", "😀")},
    "subject": {"reference": "Patient/a"},
}


def pair(build: Build, body: bytes, path: str) -> tuple[bytes, bytes]:
    """What a server with and one without sealing answer to the same write and read, versions and times aside."""
    answers = []
    for keys in ((), (KEY,)):
        client = build(*keys)
        client.delete(path)
        assert client.put(path, body).status == 201
        found = client.get(path)
        stamp = found.json["meta"]
        text = found.body.replace(stamp["lastUpdated"].encode(), b"T")
        answers.append(text.replace(f'"versionId":"{stamp["versionId"]}"'.encode(), b"V"))
    return answers[0], answers[1]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (
            "/Observation/o",
            b'{"status":"final","code":{"text":"x"},"resourceType":"Observation","id":"o","valueQuantity":'
            b'{"value":1.00,"unit":"1e2"},"subject":{"identifier":{"value":"'
            + NUMBER.encode()
            + b'","system":"urn:oid:2.16.156.10011.1.3"}},"referenceRange":[{"low":{"value":-0.0},'
            b'"high":{"value":1e2}}]}',
        ),
        (
            "/Patient/a",
            json.dumps(
                {
                    **patient("a", name=[{"text": '李"雷"\\ \U0001f600 </div>'}]),
                    "extension": [{"url": "http://example.org/n", "valueDecimal": 1}],
                }
            ).encode(),
        ),
        ("/Patient/a", json.dumps(patient("a", 'odd "value" \\ 号 \U0001f600')).encode()),
    ],
)
def test_what_is_not_a_number_stays_as_it_is(build: Build, path: str, body: bytes) -> None:
    without, sealed = pair(build, body, path)
    assert without == sealed


def test_resources_without_numbers_are_handed_out_as_they_are_stored(client: Client) -> None:
    client.store({"resourceType": "Patient", "id": "a"}, PLAIN)
    for path in ("/Patient/a", "/Observation/o"):
        kind, _, id = path[1:].partition("/")
        stored = client.server.store.read(kind, id)
        assert stored is not None
        assert client.get(path, accept_encoding="gzip").body == stored.body


def test_a_number_is_read_alike_with_and_without_gzip(client: Client) -> None:
    client.store(patient("a"))
    answer = client.get("/Patient/a", accept_encoding="gzip")
    assert answer.headers["content-encoding"] == "gzip"
    plain = client.get("/Patient/a")
    assert gzip.decompress(answer.body) == plain.body
    assert shown(plain.json) == NUMBER
    assert plain.headers["etag"] == answer.headers["etag"]
    assert client.get("/Patient/a", if_none_match='W/"1"').status == 304


def test_masking_changes_nothing_but_the_number(build: Build, as_role: AsRole) -> None:
    client = build(KEY)
    client.store(patient("a", name=[{"text": "李雷"}], contact=[{"name": {"text": "x"}}]))
    clear, mask = client.get("/Patient/a").body, as_role(client, "doctor").get("/Patient/a").body
    assert mask == clear.replace(NUMBER.encode(), b"110105********002X")
    own = as_role(client, "patient", patient="a").get("/Patient/a").body
    assert own == clear


def test_the_check_character_is_stored_as_a_capital(client: Client) -> None:
    client.store(patient("a", NUMBER.lower()), {"resourceType": "Patient", "id": "b", "identifier": [number("abcx")]})
    assert shown(client.get("/Patient/a").json) == NUMBER
    assert shown(client.get("/Patient/b").json) == "abcx"


def test_a_transaction_answers_with_the_numbers(client: Client) -> None:
    entry = {"resource": patient("a"), "request": {"method": "PUT", "url": "Patient/a"}}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    answer = client.post("", bundle, prefer="return=representation")
    assert shown(answer.entries[0]["resource"]) == NUMBER


def test_an_identifier_without_value_is_left_alone(client: Client) -> None:
    bare = {"system": "urn:oid:2.16.156.10011.1.3", "_value": {"extension": [{"url": "u", "valueCode": "unknown"}]}}
    client.store({"resourceType": "Patient", "id": "a", "identifier": [bare]})
    assert client.get("/Patient/a").json["identifier"] == [bare]
    client.store({"resourceType": "Patient", "id": "b", "identifier": [{**bare, "value": NUMBER}, number("1")]})
    assert client.get("/Patient/b").json["identifier"][0] == {**bare, "value": NUMBER}
