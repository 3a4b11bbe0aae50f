"""R4 http.html#read, #vread, #cread, #mime-type, #versions; RFC 9110."""

from __future__ import annotations

import pytest

from tests.support.http import Client, Clock
from tests.support.resources import named, patient


def test_read_of_an_id_that_never_existed_is_404(client: Client) -> None:
    answer = client.get("/Patient/nobody")
    assert answer.status == 404
    assert answer.json["issue"][0]["code"] == "not-found"


def test_read_of_a_deleted_resource_is_410(client: Client) -> None:
    client.store(patient("a", active=True))
    client.delete("/Patient/a")
    answer = client.get("/Patient/a")
    assert answer.status == 410
    assert answer.json["issue"][0]["code"] == "deleted"


def test_vread_before_and_at_the_deletion(client: Client) -> None:
    client.store(patient("a", active=True))
    client.delete("/Patient/a")
    assert client.get("/Patient/a/_history/1").json["active"] is True
    assert client.get("/Patient/a/_history/2").status == 410
    for version in ("3", "0", "01", "x", "99999999999999999999999999"):
        assert client.get(f"/Patient/a/_history/{version}").status == 404, version


def test_read_has_version_and_time_headers(client: Client) -> None:
    client.store(patient("a", active=True))
    answer = client.get("/Patient/a")
    assert answer.headers["etag"] == 'W/"1"'
    assert answer.headers["last-modified"] == "Thu, 01 Jan 2026 12:00:00 GMT"
    assert answer.json["meta"]["lastUpdated"].startswith("2026-01-01T12:00:00.")


def test_content_type_names_fhir_json_and_its_charset(client: Client) -> None:
    client.store(patient("a", active=True))
    assert client.get("/Patient/a").headers["content-type"] == "application/fhir+json; charset=UTF-8"


@pytest.mark.parametrize(
    "tag, status",
    [('W/"1"', 304), ('"1"', 304), ('W/"9", W/"1"', 304), ("*", 304), ('W/"2"', 200), ("1", 400), ("", 400)],
)
def test_read_with_if_none_match(client: Client, tag: str, status: int) -> None:
    client.store(patient("a", active=True))
    answer = client.get("/Patient/a", if_none_match=tag)
    assert answer.status == status
    if status == 304:
        assert answer.body == b""
        assert answer.headers["etag"] == 'W/"1"'


def test_read_with_if_modified_since(client: Client) -> None:
    client.store(patient("a", active=True))
    assert client.get("/Patient/a", if_modified_since="Thu, 01 Jan 2026 12:00:00 GMT").status == 304
    assert client.get("/Patient/a", if_modified_since="Thu, 01 Jan 2026 12:00:01 GMT").status == 304
    assert client.get("/Patient/a", if_modified_since="Thu, 01 Jan 2026 11:59:59 GMT").status == 200
    assert client.get("/Patient/a", if_modified_since="yesterday").status == 200


def test_if_modified_since_of_the_second_of_two_updates_is_not_304(client: Client, clock: Clock) -> None:
    """Last-Modified has only seconds: the client may have the version before."""
    client.store(patient("a", active=True))
    client.store(patient("a", active=False))
    assert client.get("/Patient/a", if_modified_since="Thu, 01 Jan 2026 12:00:00 GMT").status == 200
    clock.advance(60)
    client.store(patient("a", active=True))
    assert client.get("/Patient/a", if_modified_since="Thu, 01 Jan 2026 12:01:00 GMT").status == 304


def test_if_none_match_wins_over_if_modified_since(client: Client) -> None:
    client.store(patient("a", active=True))
    answer = client.get("/Patient/a", if_none_match='W/"7"', if_modified_since="Thu, 01 Jan 2026 12:00:00 GMT")
    assert answer.status == 200


@pytest.mark.parametrize(
    "path", ["/Patient/a", "/Patient/a/_history/1", "/Patient?active=true", "/metadata", "/Patient/x"]
)
def test_head_is_get_without_a_body(client: Client, path: str) -> None:
    client.store(patient("a", active=True))
    get, head = client.get(path), client.request("HEAD", path)
    assert head.status == get.status
    assert head.body == b""
    without = ("x-request-id",)
    assert {k: v for k, v in head.headers.items() if k not in without} == {
        k: v for k, v in get.headers.items() if k not in without
    }


@pytest.mark.parametrize(
    "accept, expected",
    [
        ("", "application/fhir+json"),
        ("*/*", "application/fhir+json"),
        ("application/fhir+json", "application/fhir+json"),
        ("application/json", "application/fhir+json"),
        ("application/fhir+json; fhirVersion=4.0", "application/fhir+json"),
        ("application/fhir+xml", "application/fhir+xml"),
        ("application/xml", "application/fhir+xml"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "application/fhir+json"),
        ("application/fhir+json;q=0.2, application/fhir+xml", "application/fhir+xml"),
        ("application/fhir+xml;q=0, */*", "application/fhir+json"),
        ("application/pdf, application/fhir+xml;q=0.1", "application/fhir+xml"),
        ("application/fhir+json; fhirVersion=5.0", None),
        ("application/pdf", None),
        ("application/fhir+json;q=0", None),
    ],
)
def test_accept_chooses_the_format(client: Client, accept: str, expected: str | None) -> None:
    client.store(patient("a", active=True))
    answer = client.get("/Patient/a", accept=accept)
    if expected is None:
        assert answer.status == 406
        assert answer.json["resourceType"] == "OperationOutcome"
    else:
        assert answer.status == 200
        assert answer.headers["content-type"].startswith(expected)


@pytest.mark.parametrize(
    "value, expected",
    [
        ("json", "application/fhir+json"),
        ("xml", "application/fhir+xml"),
        ("application/fhir%2Bjson", "application/fhir+json"),
        ("application/fhir+json", "application/fhir+json"),
        ("application/fhir+xml", "application/fhir+xml"),
        ("text/xml", "application/fhir+xml"),
        ("html", "application/fhir+json"),
        ("ttl", None),
        ("nonsense", None),
    ],
)
def test_format_parameter_overrides_accept(client: Client, value: str, expected: str | None) -> None:
    client.store(patient("a", active=True))
    other = "application/fhir+json" if expected == "application/fhir+xml" else "application/fhir+xml"
    answer = client.get(f"/Patient/a?_format={value}", accept=other)
    if expected is None:
        assert answer.status == 406
    else:
        assert answer.headers["content-type"].startswith(expected)


def test_errors_are_xml_when_xml_was_asked_for(client: Client) -> None:
    answer = client.get("/Patient/nobody?_format=xml")
    assert answer.status == 404
    assert answer.headers["content-type"].startswith("application/fhir+xml")
    assert b'<OperationOutcome xmlns="http://hl7.org/fhir">' in answer.body


def test_pretty_indents(client: Client) -> None:
    client.store(patient("a", active=True))
    assert b'\n  "id": "a"' in client.get("/Patient/a?_pretty=true").body
    assert b"\n" not in client.get("/Patient/a?_pretty=false").body
    assert client.get("/Patient/a?_pretty=perhaps").status == 400


@pytest.mark.parametrize(
    "path",
    [
        "/Nonsense",
        "/Nonsense/1",
        "/patient/1",
        "/Parameters/1",
        "/Patient/1/Nonsense",
        "/$nonsense",
        "/Patient/$everything",
        "/Patient/1/$nonsense",
        "/nonsense/_search",
        "/Patient/1/_history/1/2/3",
    ],
)
def test_unknown_types_operations_and_paths_are_404(client: Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status == 404
    assert answer.headers["content-type"].startswith("application/fhir+json")


@pytest.mark.parametrize("id", ["a-B.1", "x" * 64, "0", "A.b-C"])
def test_ids_of_r4_are_accepted(client: Client, id: str) -> None:
    assert client.put(f"/Patient/{id}", patient(id, active=True)).status == 201
    assert client.get(f"/Patient/{id}").id == id


@pytest.mark.parametrize("id", ["x" * 65, "a_b", "_", "..", ".", "", "a%20b", "%C3%A9", "a%0A"])
def test_other_ids_are_400(client: Client, id: str) -> None:
    assert client.get(f"/Patient/{id}").status == 400
    assert client.put(f"/Patient/{id}", patient("x", active=True)).status == 400


def test_a_slash_in_an_id_is_an_error(client: Client) -> None:
    """WSGI decodes %2F, so it looks like another path."""
    assert 400 <= client.get("/Patient/a%2Fb").status < 500


def test_a_path_that_is_not_utf8_is_400(client: Client) -> None:
    assert client.get("/Patient/%FF%FE").status == 400


def test_ids_are_case_sensitive(client: Client) -> None:
    client.store(named("Small", "a"), named("Large", "A"))
    assert client.get("/Patient/a").json["name"][0]["family"] == "Small"
    assert client.get("/Patient/A").json["name"][0]["family"] == "Large"


@pytest.mark.parametrize(
    "method, path, allow",
    [
        ("PUT", "", "GET, HEAD, POST, OPTIONS"),
        ("DELETE", "/metadata", "GET, HEAD, OPTIONS"),
        ("POST", "/Patient/a", "GET, HEAD, PUT, PATCH, DELETE, OPTIONS"),
        ("GET", "/Patient/_search", "POST, OPTIONS"),
        ("GET", "/$reindex", "POST, OPTIONS"),
        ("BREW", "/Patient", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
    ],
)
def test_a_method_that_the_path_does_not_know_is_405(client: Client, method: str, path: str, allow: str) -> None:
    answer = client.request(method, path)
    assert answer.status == 405
    assert answer.headers["allow"] == allow


def test_read_passes_the_stored_bytes_on_when_gzip_is_accepted(client: Client) -> None:
    client.store(patient("a", active=True))
    stored = client.server.store.read("Patient", "a")
    assert stored is not None
    answer = client.get("/Patient/a", accept_encoding="gzip, br")
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.body == stored.body
    assert "content-encoding" not in client.get("/Patient/a", accept_encoding="gzip;q=0").headers


def test_both_ways_to_a_resource_answer_alike(client: Client) -> None:
    """A plain read takes a short way through the adapter."""
    client.store(patient("a", active=True))
    short, general = client.get("/Patient/a"), client.get("/Patient/a?")
    other = client.get("/Patient/a", if_none_match='W/"9"')
    for answer in (general, other):
        assert answer.body == short.body
        assert sorted(answer.headers) == sorted(short.headers)


@pytest.mark.parametrize(
    "text", ["1.00", "0.010", "1e-7", "-0", "-0.0", "123456789012345678.25", "100000000000000000.01"]
)
def test_decimals_come_back_digit_for_digit(client: Client, text: str) -> None:
    body = b'{"resourceType":"Observation","id":"n","status":"final","code":{"text":"x"},"valueQuantity":{"value":%s}}'
    assert client.put("/Observation/n", body % text.encode()).status == 201
    assert b'{"value":%s}' % text.encode() in client.get("/Observation/n").body
    assert b'{"value":%s}' % text.encode() in client.get("/Observation?_id=n").body
