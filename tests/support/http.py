"""A client that calls the WSGI application in process, and checks of every answer for what all answers must be."""

from __future__ import annotations

import dataclasses
import io
import json
from typing import Any
from urllib.parse import unquote_to_bytes

from fhir_server.context import Server
from fhir_server.resources import validate
from fhir_server.rest.wsgi import FhirApplication

BASE = "https://example.org/fhir"


class Clock:
    """Microseconds since 1970 from 2026-01-01T12:00:00Z on; a millisecond passes at every look."""

    def __init__(self) -> None:
        self.now = 1_767_268_800_000_000

    def __call__(self) -> int:
        self.now += 1000
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += int(seconds * 1_000_000)


@dataclasses.dataclass
class Answer:
    """One response. `headers` by lower-case name; those that come several times are joined, as RFC 9110 5.3 says."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return str(self.json["id"])

    @property
    def entries(self) -> list[dict[str, Any]]:
        """Entries of a Bundle."""
        return list(self.json.get("entry", []))

    @property
    def matches(self) -> list[str]:
        """Ids of the matches of a searchset, in order."""
        return [entry["resource"]["id"] for entry in self.entries if entry["search"]["mode"] == "match"]

    def link(self, relation: str) -> str | None:
        """The path and query of a link, below the base."""
        for link in self.json.get("link", []):
            if link["relation"] == relation:
                assert link["url"].startswith(BASE)
                return str(link["url"][len(BASE) :])
        return None


class Client:
    """Calls the application as a WSGI server would. Paths are below the base and percent-encoded."""

    def __init__(self, application: FhirApplication, server: Server) -> None:
        self.application = application
        self.server = server

    def request(
        self, method: str, path: str, body: Any = None, *, type: str = "application/fhir+json", **headers: str
    ) -> Answer:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        path, _, query = path.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "PATH_INFO": "/fhir" + unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "wsgi.input": io.BytesIO(data),
        }
        if body is not None:
            environ["CONTENT_LENGTH"] = str(len(data))
            if type:
                environ["CONTENT_TYPE"] = type
        for name, value in headers.items():
            environ["HTTP_" + name.upper()] = value
        started: list[Any] = []
        chunks = self.application(environ, lambda status, headers: started.extend((status, headers)))
        found: dict[str, str] = {}
        for name, value in started[1]:
            found[name.lower()] = f"{found[name.lower()]}, {value}" if name.lower() in found else value
        answer = Answer(int(started[0][:3]), found, b"".join(chunks))
        _check(method, answer)
        return answer

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Answer:
        return self.request("POST", path, body, **headers)

    def put(self, path: str, body: Any, **headers: str) -> Answer:
        return self.request("PUT", path, body, **headers)

    def patch(self, path: str, body: Any, type: str = "application/json-patch+json", **headers: str) -> Answer:
        return self.request("PATCH", path, body, type=type, **headers)

    def delete(self, path: str, **headers: str) -> Answer:
        return self.request("DELETE", path, **headers)

    def store(self, *resources: dict[str, Any]) -> None:
        """Puts resources at their own ids, in one transaction."""
        entries = [
            {"resource": one, "request": {"method": "PUT", "url": f"{one['resourceType']}/{one['id']}"}}
            for one in resources
        ]
        answer = self.post("", {"resourceType": "Bundle", "type": "transaction", "entry": entries})
        assert answer.status == 200, answer.body


def _check(method: str, answer: Answer) -> None:
    """What every answer must be: an OperationOutcome on errors, valid FHIR, a Bundle that keeps R4's invariants."""
    assert "x-request-id" in answer.headers
    if method == "HEAD":
        assert answer.body == b""
        return
    if "content-length" in answer.headers:
        assert int(answer.headers["content-length"]) == len(answer.body)
    kind = answer.headers.get("content-type", "")
    if answer.status >= 400:
        assert b"OperationOutcome" in answer.body
        assert b"Traceback" not in answer.body
    if not kind.startswith("application/fhir+json") or "content-encoding" in answer.headers:
        return
    resource = answer.json
    if resource["resourceType"] in ("OperationOutcome", "Parameters", "CapabilityStatement", "TerminologyCapabilities"):
        found = validate.validate(resource).errors
        assert found == [], found
    if answer.status >= 400:
        assert resource["resourceType"] == "OperationOutcome"
    if resource["resourceType"] == "Bundle":
        check_bundle(resource)


def check_bundle(bundle: dict[str, Any]) -> None:
    """bdl-1 to bdl-4, bdl-7 and bdl-8 (R4 bundle.html#invs), which the validator knows as well."""
    entries = bundle.get("entry", [])
    kind = bundle["type"]
    if kind not in ("searchset", "history", "transaction-response", "batch-response"):
        return
    assert "total" not in bundle or kind in ("searchset", "history")
    for entry in entries:
        assert "search" not in entry or kind == "searchset"
        assert ("request" in entry) == (kind == "history")
        assert ("response" in entry) == (kind != "searchset")
        assert "/_history/" not in entry.get("fullUrl", "")
    named = [
        (entry["fullUrl"], entry.get("resource", {}).get("meta", {}).get("versionId"))
        for entry in entries
        if "fullUrl" in entry
    ]
    assert len(named) == len(set(named))
    shell = {**bundle, "entry": [{**entry} for entry in entries]} if entries else bundle
    for entry in shell.get("entry", []):
        resource = entry.get("resource", {})
        if "SUBSETTED" in json.dumps(resource.get("meta", {})):
            entry["resource"] = {"resourceType": "Binary", "contentType": "text/plain"}  # a part need not be valid
    assert [issue for issue in validate.validate(shell).errors if "resource" not in issue.expression[0]] == []
