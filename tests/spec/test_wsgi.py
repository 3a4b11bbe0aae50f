"""The adapter: body limits, encodings, CORS (Fetch standard), methods. RFC 9110."""

from __future__ import annotations

import gzip
import io
import json
from dataclasses import replace
from typing import Any

import pytest

from fhir_server.rest.wsgi import FhirApplication
from tests.spec.conftest import Build
from tests.support.http import Client
from tests.support.resources import named, patient


def test_a_body_over_the_limit_is_413(build: Build) -> None:
    client = build(max_body=1000)
    body = json.dumps(named("x" * 1200)).encode()
    assert client.request("POST", "/Patient", body).status == 413
    assert client.request("POST", "/Patient", json.dumps(named("x" * 800)).encode()).status == 201


def test_a_chunked_body_over_the_limit_is_413(build: Build) -> None:
    """Without a Content-Length the limit counts what arrives."""
    client = build(max_body=1000)
    for size, status in ((1200, 413), (800, 201)):
        data = io.BytesIO(json.dumps(named("x" * size)).encode())
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/fhir/Patient",
            "QUERY_STRING": "",
            "wsgi.input": data,
            "CONTENT_TYPE": "application/fhir+json",
        }
        given: list[str] = []
        list(client.application(environ, lambda status, headers, given=given: given.append(status)))
        assert int(given[0][:3]) == status


def test_gzip_bodies_are_read_and_their_inflation_is_bounded(build: Build) -> None:
    client = build(max_body=100_000)
    small = gzip.compress(json.dumps(named("Zipped")).encode())
    assert client.request("POST", "/Patient", small, content_encoding="gzip").status == 201
    bomb = gzip.compress(b" " * 10_000_000)
    assert len(bomb) < 100_000
    assert client.request("POST", "/Patient", bomb, content_encoding="gzip").status == 413
    assert client.request("POST", "/Patient", small[:-4], content_encoding="gzip").status == 400
    assert client.request("POST", "/Patient", b"no gzip", content_encoding="gzip").status == 400
    assert client.request("POST", "/Patient", small + b"x", content_encoding="gzip").status == 400
    assert client.request("POST", "/Patient", small, content_encoding="br").status == 415


def test_a_stored_form_beyond_the_limit_is_413(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from fhir_server import writing

    monkeypatch.setattr(writing, "MAX_STORED", 150)
    answer = client.post("/Patient", named("".join(chr(0x4E00 + number * 7) for number in range(500))))
    assert answer.status == 413
    assert client.get("/Patient").json["total"] == 0


def test_large_answers_are_compressed_for_those_who_accept_it(client: Client) -> None:
    client.store(*(named(f"Family {number}", f"p{number}") for number in range(30)))
    plain = client.get("/Patient")
    packed = client.get("/Patient", accept_encoding="gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert len(json.loads(gzip.decompress(packed.body))["entry"]) == len(plain.entries) == 30
    assert "Accept-Encoding" in packed.headers["vary"]


def test_cross_origin_requests(build: Build) -> None:
    client = build()
    client.store(patient("a", active=True))
    answer = client.get("/Patient/a", origin="https://app.example")
    assert answer.headers["access-control-allow-origin"] == "*"
    exposed = {name.strip() for name in answer.headers["access-control-expose-headers"].split(",")}
    assert {"ETag", "Location", "Last-Modified", "Content-Location", "X-Request-Id"} <= exposed
    preflight = client.request(
        "OPTIONS", "/Patient/a", origin="https://app.example", access_control_request_method="PUT"
    )
    assert preflight.status == 204
    assert "PUT" in preflight.headers["access-control-allow-methods"]
    assert "If-Match" in preflight.headers["access-control-allow-headers"]
    some = build(cors_origins=("https://good.example",))
    assert (
        some.get("/Patient/a", origin="https://good.example").headers["access-control-allow-origin"]
        == "https://good.example"
    )
    assert "access-control-allow-origin" not in some.get("/Patient/a", origin="https://bad.example").headers


def test_options_lists_the_methods_of_a_path(client: Client) -> None:
    assert client.request("OPTIONS", "/Patient").headers["allow"] == "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
    assert client.request("OPTIONS", "/Nonsense").status == 404


def test_no_cache_keeps_what_may_be_somebodys(client: Client) -> None:
    """RFC 9111 5.2.2.5; shared caches and the browser's own alike, with access control or without."""
    client.store(named("A", "a"))
    answers = [
        client.get("/Patient/a"),
        client.get("/Patient/a", if_none_match='W/"1"'),
        client.get("/Patient?family=A"),
        client.get("/Patient/absent"),
        client.request("HEAD", "/Patient/a"),
        client.put("/Patient/a", named("A", "a")),
        client.post("/Patient/a/_validate", b""),
        client.get("/Nothing"),
    ]
    assert [answer.status for answer in answers][:3] == [200, 304, 200]
    for answer in answers:
        assert answer.headers["cache-control"] == "no-store"
    for answer in (client.get("/metadata"), client.request("OPTIONS", "/Patient")):
        assert "cache-control" not in answer.headers


def test_answers_are_no_pages(build: Build) -> None:
    """CSP 3; RFC 6797 7.2: HSTS only where there is TLS."""
    by_tls = build()
    by_http = replace(by_tls.server, settings=replace(by_tls.server.settings, base_url="http://127.0.0.1:8080/fhir"))
    for client, secure in ((by_tls, True), (Client(FhirApplication(by_http, lambda *_: []), by_http), False)):
        for path in ("/Patient", "/Patient/absent", "/metadata"):
            headers = client.get(path).headers
            assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
            assert headers["x-frame-options"] == "DENY"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["x-content-type-options"] == "nosniff"
            assert ("strict-transport-security" in headers) is secure


def test_other_paths_go_to_the_application_behind(client: Client) -> None:
    def behind(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode()]

    application = FhirApplication(client.server, behind)
    for path in ("/", "/docs", "/fhirx", "/health"):
        environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "QUERY_STRING": ""}
        assert b"".join(application(environ, lambda *_: None)) == path.encode()


@pytest.mark.parametrize("query", ["family=%FF", "family=%00", "%FF=x", "family=a%0Bb"])
def test_query_strings_that_are_no_text_are_400(client: Client, query: str) -> None:
    assert client.get(f"/Patient?{query}").status == 400


def test_plus_and_percent_in_queries(client: Client) -> None:
    client.store(named("Smith Jones", "a"), named("Smith+Jones", "b"))
    assert client.get("/Patient?family:exact=Smith+Jones").matches == ["a"]
    assert client.get("/Patient?family:exact=Smith%20Jones").matches == ["a"]
    assert client.get("/Patient?family:exact=Smith%2BJones").matches == ["b"]
    answer = client.get("/Patient?family:exact=Smith%2BJones")
    assert client.get(answer.link("self") or "").matches == ["b"]
