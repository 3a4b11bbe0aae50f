"""read and vread, conditional read included. R4 http.html#read, #vread, #cread."""

from __future__ import annotations

from typing import Final

from fhir_server.conditions import ANY
from fhir_server.context import FhirRequest, FhirResponse
from fhir_server.errors import BadRequest
from fhir_server.interactions.shaping import SUMMARIES, subset
from fhir_server.repository import Repository
from fhir_server.resources import jsonformat
from fhir_server.search.parse import parse_query
from fhir_server.storage.writes import Stored
from fhir_server.writing import parse_body

_SECOND_US: Final = 1_000_000


def read(repository: Repository, request: FhirRequest) -> FhirResponse:
    """The current version; 304 when the client has it already."""
    assert request.type is not None
    assert request.id is not None
    return answer(repository, request, repository.read(request.type, request.id))


def vread(repository: Repository, request: FhirRequest) -> FhirResponse:
    """One version."""
    assert request.type is not None
    assert request.id is not None
    assert request.version_id is not None
    return answer(repository, request, repository.vread(request.type, request.id, request.version_id))


def answer(repository: Repository, request: FhirRequest, stored: Stored) -> FhirResponse:
    """A version as the client wants it: as it is stored, cut down, or 304."""
    if not_modified(repository, request, stored):
        return FhirResponse(304, etag=stored.version, updated=stored.updated)
    response = FhirResponse(200, member=stored.body, etag=stored.version, updated=stored.updated)
    if request.query:
        summary, elements = shape_of(request.query)
        if summary or elements:
            assert stored.body is not None
            response.member = None
            response.json = jsonformat.encode(subset(parse_body(stored.body), summary, elements))
    return response


def not_modified(repository: Repository, request: FhirRequest, stored: Stored) -> bool:
    """Whether If-None-Match or, without one, If-Modified-Since says that the client has this version.

    Last-Modified has only seconds. When the previous version lies in the same second the client may have that one, so
    the answer is the resource.
    """
    if request.if_none_match is not None:
        return request.if_none_match == ANY or str(stored.version) in request.if_none_match
    if request.if_modified_since is None:
        return False
    second = stored.updated // _SECOND_US
    if second != request.if_modified_since:
        return second < request.if_modified_since
    if stored.version == 1:
        return True
    before = repository.server.store.read_version(stored.type, stored.id, stored.version - 1)
    return before is None or before.updated // _SECOND_US != second


def shape_of(query: str) -> tuple[str | None, tuple[str, ...]]:
    """`_summary` and `_elements` of a query string that is not a search. Raises BadRequest for an unknown summary."""
    summary: str | None = None
    elements: tuple[str, ...] = ()
    for name, value in parse_query(query):
        if name == "_summary" and value:
            if value not in SUMMARIES or value == "count":
                raise BadRequest("`_summary` must be true, text, data or false here.", code="value")
            summary = None if value == "false" else value
        elif name == "_elements" and value:
            elements = tuple(part.strip() for part in value.split(",") if part.strip())
    return summary, elements
