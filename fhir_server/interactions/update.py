"""update, update as create, and conditional update. R4 http.html#update, #upsert, #cond-update."""

from __future__ import annotations

from typing import Any

from fhir_server.context import FhirRequest, FhirResponse
from fhir_server.errors import BadRequest, Unprocessable
from fhir_server.interactions import binary
from fhir_server.interactions.shaping import is_subsetted
from fhir_server.interactions.written import written
from fhir_server.repository import Repository
from fhir_server.resources.types import is_id
from fhir_server.writing import Result, Write


def plan(repository: Repository, request: FhirRequest) -> Write:
    """An update of the id in the URL, which the body has to repeat."""
    assert request.type is not None
    assert request.id is not None
    resource = request.resource
    if resource is None and request.type == "Binary":
        resource = {**binary.from_raw(request), "id": request.id}
    _check(resource)
    if isinstance(resource, dict) and resource.get("id") != request.id:
        raise BadRequest("The id in the body must be that in the URL.", code="value", expression=f"{request.type}.id")
    return Write(
        "update",
        request.type,
        request.id,
        resource=resource,
        if_match=request.if_match,
        if_none_match=request.if_none_match,
        label=request.label,
    )


def plan_conditional(repository: Repository, request: FhirRequest) -> Write:
    """An update of the one resource that the criteria match, or a create; an id in the body has to be that
    resource's.
    """
    assert request.type is not None
    resource = request.resource
    if resource is None and request.type == "Binary":
        resource = binary.from_raw(request)
    _check(resource)
    resource_id = resource.get("id") if isinstance(resource, dict) else None
    if resource_id is not None and not (isinstance(resource_id, str) and is_id(resource_id)):
        raise BadRequest(
            "An id has 1 to 64 letters, digits, dashes and dots.", code="value", expression=f"{request.type}.id"
        )
    return Write(
        "update",
        request.type,
        resource_id,
        resource=resource,
        criteria=repository.criteria(request.type, request.query),
        if_match=request.if_match,
        if_none_match=request.if_none_match,
        label=request.label,
    )


def _check(resource: Any) -> None:
    """A resource that says it is incomplete may not take the place of the whole one. R4 search.html#summary."""
    if is_subsetted(resource):
        raise Unprocessable(
            "A resource tagged SUBSETTED is incomplete; storing it would lose data.", expression="meta.tag"
        )


def answer(repository: Repository, request: FhirRequest, result: Result) -> FhirResponse:
    """200, or 201 with what was created."""
    return written(repository, request, result)
