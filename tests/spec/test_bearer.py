"""Access tokens: RFC 6750 sections 2.1 and 3, and what every answer of a server with access control says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fhir_server.access.caller import Caller
from fhir_server.access.grant import Grant
from fhir_server.app import create_app
from fhir_server.authorize import EVERYTHING, Policy
from fhir_server.context import OAuth, Server
from fhir_server.errors import Throttled, Unauthorized
from fhir_server.search import ast
from tests.spec.conftest import Build
from tests.support.http import Client
from tests.support.resources import bundle, entry, named, patient

pytestmark = pytest.mark.both_stores

ONLY_A = {"Patient": ast.Field("id", "=", "a")}


class Tokens:
    """A Gate that knows some tokens by heart, and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.refreshed = 0
        self.later: Policy | None = None

    def enter(self, server: Server, token: str, address: str) -> Caller:
        self.asked.append((token, address))
        if token == "busy":
            raise Throttled(retry_after_s=7)
        policies = {"all": EVERYTHING, "only-a": Policy(ONLY_A), "read-a": Policy(actions={"r": ONLY_A})}
        if token not in policies:
            raise Unauthorized("The access token is not valid (any more).", token_error="invalid_token")
        grant = Grant(token, "client", "Client", "patient", ("patient/*.rs",))
        return Caller(policies[token], grant, self._refresh if self.later is not None else None)

    def _refresh(self) -> Policy:
        self.refreshed += 1
        assert self.later is not None
        return self.later


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


Ask = Callable[..., Any]


@pytest.fixture
def client(build: Build, tokens: Tokens) -> Client:
    """A server with a gate and two patients, a and b."""
    plain = build(
        oauth=OAuth("https://example.org/oauth/authorize", "https://example.org/oauth/token", revoke="https://e/r")
    )
    plain.store(named("A", "a"), named("B", "b"))
    return Client(create_app(plain.server, gate=tokens), plain.server)


def bearer(token: str) -> str:
    return f"Bearer {token}"


@pytest.mark.parametrize("path", ["/Patient/a", "/Patient", "/", "/_history", "/Nothing", "/Patient/a/_history/1"])
def test_without_a_token_everything_is_401(client: Client, tokens: Tokens, path: str) -> None:
    answer = client.get(path)
    assert answer.status == 401
    # RFC 6750 section 3.1: without authentication information, no error code
    assert answer.headers["www-authenticate"] == 'Bearer realm="fhir"'
    assert answer.json["issue"][0]["code"] == "login"
    assert answer.headers["cache-control"] == "no-store"
    assert client.post(path, patient()).status == 401
    assert client.delete(path).status == 401
    assert tokens.asked == []


def test_an_invalid_token_is_401_and_says_so(client: Client) -> None:
    for header in (bearer("unknown"), "Bearer", "Bearer a b", "Bearer " + "x" * 9000, "Bearer é"):
        answer = client.get("/Patient/a", authorization=header)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="fhir", error="invalid_token"'


def test_other_ways_to_present_a_token_are_not_looked_at(client: Client, tokens: Tokens) -> None:
    """RFC 6750 2.2 and 2.3 are optional, and not offered; cookies and Basic are nothing here."""
    assert client.get("/Patient/a?access_token=all").status == 401
    form = client.request("POST", "/Patient/_search", b"access_token=all", type="application/x-www-form-urlencoded")
    assert form.status == 401
    assert client.get("/Patient/a", cookie="access_token=all; session=all").status == 401
    basic = client.get("/Patient/a", authorization="Basic YWxsOmFsbA==")
    assert basic.status == 401
    assert basic.headers["www-authenticate"] == 'Bearer realm="fhir"'
    assert tokens.asked == []


def test_a_valid_token_opens_what_its_policy_says(client: Client, tokens: Tokens) -> None:
    for header in (bearer("only-a"), "bearer only-a", "BEARER  only-a"):
        assert client.get("/Patient/a", authorization=header).id == "a"
    assert client.get("/Patient/b", authorization=bearer("only-a")).status == 404
    assert client.get("/Patient", authorization=bearer("only-a")).matches == ["a"]
    assert client.get("/Patient", authorization=bearer("all")).matches == ["a", "b"]
    assert len(tokens.asked) == 6  # once per request


def test_the_short_and_the_general_way_answer_alike(client: Client) -> None:
    for token in ("all", "only-a", "read-a"):
        for id_ in ("a", "b", "absent", "not an id"):
            path = f"/Patient/{id_.replace(' ', '%20')}"
            short = client.get(path, authorization=bearer(token), origin="https://app.example.org")
            general = client.get(
                path, authorization=bearer(token), origin="https://app.example.org", if_none_match='W/"9"'
            )
            assert short.status == general.status
            assert short.body == general.body
            skipped = ("x-request-id",)
            assert {name: value for name, value in short.headers.items() if name not in skipped} == {
                name: value for name, value in general.headers.items() if name not in skipped
            }
            assert short.headers["cache-control"] == "no-store"
            assert short.headers["x-content-type-options"] == "nosniff"
            assert short.headers["access-control-allow-origin"] == "*"


def test_too_little_is_403_with_insufficient_scope(client: Client) -> None:
    for method, path in (("GET", "/Patient"), ("GET", "/Observation/a"), ("DELETE", "/Patient/a")):
        answer = client.request(method, path, authorization=bearer("read-a"))
        assert answer.status == 403
        assert answer.headers["www-authenticate"] == 'Bearer realm="fhir", error="insufficient_scope"'


def test_metadata_and_options_are_open(client: Client, tokens: Tokens) -> None:
    for path in ("/metadata", "/metadata?mode=terminology", "/metadata?_format=xml"):
        assert client.get(path).status == 200
    assert client.request("OPTIONS", "/Patient/a", origin="https://app.example.org").status == 204
    assert client.get("/metadata", authorization=bearer("unknown")).status == 200
    assert tokens.asked == []


def test_browsers_may_read_why_they_were_refused(client: Client) -> None:
    answer = client.get("/Patient/a", origin="https://app.example.org")
    assert answer.status == 401
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "WWW-Authenticate" in answer.headers["access-control-expose-headers"]
    preflight = client.request(
        "OPTIONS", "/Patient/a", origin="https://app.example.org", access_control_request_method="GET"
    )
    assert "Authorization" in preflight.headers["access-control-allow-headers"]


def test_too_many_requests_are_429(client: Client, tokens: Tokens) -> None:
    answer = client.get("/Patient/a", authorization=bearer("busy"))
    assert (answer.status, answer.headers["retry-after"]) == (429, "7")
    assert len(tokens.asked) == 1


@pytest.mark.parametrize("later, expected", [(Policy({"Patient": ast.EVERYTHING}), 200), (Policy(ONLY_A), 404)])
def test_a_refusal_is_thought_over_once(client: Client, tokens: Tokens, later: Policy, expected: int) -> None:
    tokens.later = later
    with_token = {"authorization": bearer("only-a")}
    assert client.get("/Patient/b", **with_token).status == expected
    assert tokens.refreshed == 1
    assert client.put("/Patient/b", named("B", "b"), **with_token).status == expected
    assert tokens.refreshed == 2
    batch = bundle(entry("GET", "Patient/b"), entry("GET", "Patient/b"), entry("GET", "Patient/nothing"), type="batch")
    answer = client.post("", batch, **with_token)
    found = [one["response"]["status"][:3] for one in answer.entries]
    assert found == [str(expected), str(expected), "404"]
    assert tokens.refreshed == 3
    urn = "urn:uuid:8c1f6b6a-6f0e-4a3c-9d6e-0d4b8f2f5a11"
    link = [{"other": {"reference": urn}, "type": "seealso"}]
    together = bundle(
        entry("PUT", "Patient/b", patient("b", link=link), urn), entry("PUT", "Patient/a", patient("a", link=link))
    )
    assert client.post("", together, **with_token).status == expected
    assert tokens.refreshed == 4
    # A search is answered as it is.
    assert client.get("/Patient?_id=b", **with_token).matches == []
    assert client.get("/Patient/a", **with_token).status == 200
    assert tokens.refreshed == 4


def test_totals_in_page_tokens_are_for_whom_they_were_counted(client: Client) -> None:
    following = client.get("/Patient?_count=1&_total=accurate", authorization=bearer("all")).link("next")
    assert following is not None
    assert client.get(following, authorization=bearer("all")).json["total"] == 2
    assert client.get(following, authorization=bearer("only-a")).json.get("total") in (None, 1)


def test_the_capability_statement_says_where_to_get_a_token(client: Client) -> None:
    security = client.get("/metadata").json["rest"][0]["security"]
    assert security["cors"] is True
    assert security["service"][0]["coding"][0]["code"] == "SMART-on-FHIR"
    [oauth] = security["extension"]
    assert oauth["url"] == "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
    assert {one["url"]: one["valueUri"] for one in oauth["extension"]} == {
        "authorize": "https://example.org/oauth/authorize",
        "token": "https://example.org/oauth/token",
        "revoke": "https://e/r",
    }


def test_a_server_without_access_control_says_so_in_every_answer(build: Build) -> None:
    plain = build()
    plain.store(named("A", "a"))
    off = Client(create_app(plain.server, auth_off=True), plain.server)
    for path in ("/Patient/a", "/Patient", "/metadata", "/Nothing", "/Patient/a?_format=xml"):
        assert off.get(path).headers["x-hestia-auth"] == "off"
        assert "x-hestia-auth" not in plain.get(path).headers
