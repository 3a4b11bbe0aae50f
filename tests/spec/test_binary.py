"""R4 binary.html#rest."""

from __future__ import annotations

import base64

import pytest

from tests.support.http import Client

PDF = b"%PDF-1.4\n\x00\xff content"


def test_raw_content_comes_back_raw_or_as_a_resource(client: Client) -> None:
    created = client.request("POST", "/Binary", PDF, type="application/pdf", accept="application/fhir+json")
    assert created.status == 201
    raw = client.get(f"/Binary/{created.id}", accept="application/pdf")
    assert (raw.headers["content-type"], raw.body) == ("application/pdf", PDF)
    assert raw.headers["etag"] == 'W/"1"'
    resource = client.get(f"/Binary/{created.id}", accept="application/fhir+json").json
    assert resource["contentType"] == "application/pdf"
    assert base64.b64decode(resource["data"]) == PDF


@pytest.mark.parametrize(
    "accept, expected",
    [
        ("", "application/pdf"),
        ("*/*", "application/pdf"),
        ("application/*", "application/pdf"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "application/pdf"),
        ("application/fhir+json", "application/fhir+json"),
        ("application/fhir+xml", "application/fhir+xml"),
        ("application/json", "application/fhir+json"),
        ("application/pdf;q=0.5, application/fhir+json", "application/fhir+json"),
        ("image/png", None),
    ],
)
def test_accept_decides_between_content_and_resource(client: Client, accept: str, expected: str | None) -> None:
    client.request("PUT", "/Binary/b", PDF, type="application/pdf")
    answer = client.get("/Binary/b", accept=accept)
    if expected is None:
        assert answer.status == 406
    else:
        assert answer.headers["content-type"].startswith(expected)


def test_format_asks_for_the_resource(client: Client) -> None:
    client.request("PUT", "/Binary/b", PDF, type="application/pdf")
    assert client.get("/Binary/b?_format=json").json["resourceType"] == "Binary"


def test_json_content_is_content_unless_it_is_a_binary_resource(client: Client) -> None:
    client.request("PUT", "/Binary/c", b'{"a": 1}', type="application/json")
    assert client.get("/Binary/c", accept="application/json").body == b'{"a": 1}'
    body = b'{"resourceType":"Binary","id":"d","contentType":"text/plain","data":"aGk="}'
    client.request("PUT", "/Binary/d", body, type="application/json")
    assert client.get("/Binary/d").body == b"hi"


def test_security_context_goes_through_a_header(client: Client) -> None:
    client.request("PUT", "/Binary/b", PDF, type="application/pdf", x_security_context="Patient/1")
    assert client.get("/Binary/b").headers["x-security-context"] == "Patient/1"
    resource = client.get("/Binary/b", accept="application/fhir+json").json
    assert resource["securityContext"] == {"reference": "Patient/1"}


def test_content_cannot_run_on_our_origin(client: Client) -> None:
    client.request("PUT", "/Binary/b", b"<script>alert(1)</script>", type="text/html")
    answer = client.get("/Binary/b", accept="text/html")
    assert answer.headers["content-security-policy"].startswith("sandbox")
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_versions_of_a_binary_are_read_alike(client: Client) -> None:
    client.request("PUT", "/Binary/b", b"one", type="text/plain")
    client.request("PUT", "/Binary/b", b"two", type="text/plain")
    assert client.get("/Binary/b/_history/1").body == b"one"
    assert client.get("/Binary/b", if_none_match='W/"2"').status == 304
