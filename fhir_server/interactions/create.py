"""create and conditional create. R4 http.html#create, #ccreate."""

from __future__ import annotations

from fhir_server.context import FhirRequest, FhirResponse
from fhir_server.interactions import binary
from fhir_server.interactions.written import written
from fhir_server.repository import Repository
from fhir_server.writing import Result, Write


def plan(repository: Repository, request: FhirRequest) -> Write:
    """A create under a new id, whatever id the body has; If-None-Exist makes it conditional."""
    assert request.type is not None
    resource = request.resource
    if resource is None and request.type == "Binary":
        resource = binary.from_raw(request)
    criteria = None
    if request.if_none_exist is not None:
        criteria = repository.criteria(request.type, request.if_none_exist)
    return Write("create", request.type, resource=resource, criteria=criteria, label=request.label)


def answer(repository: Repository, request: FhirRequest, result: Result) -> FhirResponse:
    """201 with Location; 200 when the condition found the resource."""
    return written(repository, request, result)
