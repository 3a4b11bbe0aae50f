"""The pages that people look at, on the demo hospital: what they show, where links lead, how safe they are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
from werkzeug.test import Client

import seed
from fhir_server.app import create_app
from fhir_server.context import Server
from fhir_server.interactions.dispatch import OPERATIONS, ROUTES
from fhir_server.rest.openapi import PATHS
from fhir_server.rest.pages import create_pages, links_to_try
from hestia.composition import opened
from hestia.load import Loader
from hestia.settings import load


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with the demo hospital in it."""
    path: Path = tmp_path_factory.mktemp("pages") / "demo.db"
    with opened(load({"store": f"sqlite:///{path}", "log": "quiet", "demo": "off"}, {})) as server:
        loader = Loader(server)
        for bundle in seed.bundles():
            loader.bundle_bytes(seed.encode(bundle), "demo")
        assert loader.report.refused == 0
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> Client:
    return Client(create_app(server))


def page(client: Client, path: str, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status
    return str(answer.get_data(as_text=True))


def openapi(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(page(client, "/openapi.json"))
    return found


def test_landing_page_counts_what_is_stored(client: Client, server: Server) -> None:
    html = page(client, "/")
    counts = server.store.counts()
    assert f"{sum(counts.values()):,} of {len(counts)} types" in html
    for name, number in counts.items():
        assert re.search(rf'>{name}</a></th><td class="number">{number:,}</td>', html), name
    assert "SQLite 3." in html
    assert server.settings.base_url in html


def test_every_link_to_try_finds_something_in_the_demo(client: Client, server: Server) -> None:
    html = page(client, "/")
    links = links_to_try(set(server.store.counts()))
    assert len(links) == 12
    for _, path in links:
        assert f'data-path="{path.replace("&", "&amp;")}"' in html
        answer = client.get("/fhir/" + quote(path, safe="/?&=:$,"), headers={"Accept": "application/fhir+json"})
        assert answer.status_code == 200, path
        resource = json.loads(answer.get_data())
        if resource["resourceType"] == "Bundle":
            assert resource.get("total", 0) > 0 or resource["entry"], path


@pytest.fixture(scope="module")
def guarded(server: Server) -> Client:
    """The pages of a server with access control."""
    return Client(create_pages(lambda: server, auth_off=False).wsgi_app)


def test_with_access_control_pages_tell_no_number_of_anything(guarded: Client, server: Server) -> None:
    html = page(guarded, "/")
    assert "What is stored" not in html
    assert "Access control is off" not in html
    for number in server.store.counts().values():
        assert number < 100 or f"{number:,}" not in html
    assert 'href="/login"' in html
    assert 'id="token"' in html


def test_with_access_control_the_api_description_asks_for_a_token(guarded: Client, client: Client) -> None:
    described = openapi(guarded)
    assert described["security"] == [{"bearer": []}]
    assert described["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert described["paths"]["/fhir/metadata"]["get"]["security"] == []
    assert "security" not in openapi(client)


def test_links_of_a_store_without_data_need_none() -> None:
    assert [path for _, path in links_to_try(set())] == ["metadata?_summary=true", "_history?_count=5"]


def test_every_address_in_the_pages_answers(client: Client) -> None:
    for path in ("/", "/capabilities", "/docs"):
        for address in set(re.findall(r'(?:href|src)="(/[^"]*)"', page(client, path))):
            with client.get(address.replace("&amp;", "&")) as answer:
                assert answer.status_code == 200, address


def test_capabilities_page_lists_every_type_and_is_made_once(client: Client, server: Server) -> None:
    html = page(client, "/capabilities")
    assert html.count("<details") == 145
    assert "<dd>145</dd>" in html
    assert server.cache["capabilities page"] == html
    assert page(client, "/capabilities") == html


@pytest.mark.parametrize("path", ["/", "/capabilities", "/docs", "/nothing"])
def test_pages_run_no_script_of_their_own_and_are_never_framed(client: Client, path: str) -> None:
    answer = client.get(path)
    policy = answer.headers["Content-Security-Policy"]
    rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-cache"
    html = answer.get_data(as_text=True)
    assert re.findall(r"<script(?![^>]*\bsrc=)", html) == []
    assert re.findall(r"\son[a-z]+=", html) == []
    assert re.findall(r"<style|\sstyle=", html) == []
    assert "Access control is off" in html


def test_browsers_stay_with_tls_where_there_is_tls(server: Server, client: Client) -> None:
    """RFC 6797 7.2: never over plain HTTP."""
    assert "Strict-Transport-Security" not in client.get("/").headers
    by_tls = SimpleNamespace(settings=replace(server.settings, base_url="https://fhir.example.org/fhir"))
    for path in ("/docs", "/nothing"):
        answer = Client(create_pages(lambda: by_tls).wsgi_app).get(path)  # type: ignore[arg-type, return-value]
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"


def test_unknown_page_says_so(client: Client) -> None:
    assert "There is no such page" in page(client, "/nothing", 404)


def test_health_answers_when_the_store_does(client: Client) -> None:
    assert json.loads(page(client, "/health")) == {"status": "ok"}


def test_openapi_has_every_route_and_operation(client: Client) -> None:
    paths = openapi(client)["paths"]
    for shape, methods in ROUTES.items():
        path = "/fhir" + PATHS[shape].rstrip("/")
        assert {method.lower() for method in methods} <= set(paths[path]), path
    for operation in OPERATIONS.values():
        found = {path for path in paths if path.endswith(f"/${operation.name}")}
        assert len(found) == len(operation.levels)
        for path in found:
            assert ("get" in paths[path]) is not operation.affects_state
            assert "post" in paths[path]


def test_openapi_is_sound(client: Client) -> None:
    document = openapi(client)
    assert document["openapi"].startswith("3.0.")
    assert document["info"]["title"]
    assert document["info"]["version"]
    ids: list[str] = []
    for path, item in document["paths"].items():
        wanted = set(re.findall(r"{(\w+)}", path))
        shared = {one["name"] for one in item.get("parameters", ()) if one["in"] == "path" and one["required"] is True}
        assert shared == wanted, path
        for method, operation in item.items():
            if method == "parameters":
                continue
            assert method in ("get", "put", "post", "delete", "patch")
            assert operation["responses"]
            if path.startswith("/fhir"):
                ids.append(operation["operationId"])
            for name, response in operation["responses"].items():
                assert re.fullmatch(r"[1-5]\d\d|default", name)
                assert "$ref" in response or response["description"]
            for parameter in operation.get("parameters", ()):
                assert parameter["in"] in ("query", "header")
                assert "schema" in parameter
    assert len(ids) == len(set(ids))
    for reference in re.findall(r'"\$ref": ?"#/([^"]+)"', json.dumps(document)):
        place: Any = document
        for step in reference.split("/"):
            place = place[step]
        assert place
