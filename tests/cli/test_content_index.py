"""The index of who points at content, in stores that were filled before there was one."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.authorize import EVERYTHING, OWNED, Policy
from fhir_server.context import RequestContext
from fhir_server.errors import NotFound
from fhir_server.repository import Repository
from fhir_server.search import ast
from fhir_server.writing import Write
from hestia.composition import IDENTITY, opened
from hestia.settings import load as load_settings
from tests.support.command_line import run

RESOURCES: list[dict[str, Any]] = [
    {"resourceType": "Binary", "id": "b", "contentType": "text/plain", "data": "QUJD"},
    {"resourceType": "Media", "id": "m", "status": "completed", "content": {"url": "Binary/b"}},
]


def test_a_store_of_before_content_was_indexed_is_indexed_anew(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version of the index changed: `check` says so, `reindex` (or the next start) brings it up to date."""
    reader = Policy(predicates={"Media": ast.Field("id", "=", "m"), "Binary": OWNED})
    with monkeypatch.context() as before:
        before.setattr("fhir_server.search.extract.content.binaries", lambda resource, bases: [])
        with opened(load_settings({"store": store_uri}, {})) as server:
            repository = Repository(server, RequestContext(EVERYTHING))
            repository.execute([Write("update", one["resourceType"], one["id"], resource=one) for one in RESOURCES])
            server.store.update_meta(IDENTITY, lambda old: {**old, "extraction": 1})
    assert "by an older version; run hestia reindex" in run("check", "--store", store_uri, status=1).output
    with opened(load_settings({"store": store_uri}, {})) as server, pytest.raises(NotFound):
        Repository(server, RequestContext(reader)).read("Binary", "b")
    assert "run hestia reindex" in run("check", "--store", store_uri, status=1).output
    run("reindex", "--store", store_uri)
    with opened(load_settings({"store": store_uri}, {})) as server:
        assert Repository(server, RequestContext(reader)).read("Binary", "b").version == 1
    assert "The store is sound." in run("check", "--store", store_uri).output
