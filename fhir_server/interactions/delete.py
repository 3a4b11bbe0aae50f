"""delete and conditional delete. R4 http.html#delete, #2.21.0.13.1."""

from __future__ import annotations

from fhir_server.context import FhirRequest, FhirResponse
from fhir_server.errors import Issue, outcome_resource
from fhir_server.repository import Repository
from fhir_server.writing import Result, Write


def plan(repository: Repository, request: FhirRequest) -> Write:
    """A deletion of the id in the URL."""
    assert request.type is not None
    return Write("delete", request.type, request.id, if_match=request.if_match, label=request.label)


def plan_conditional(repository: Repository, request: FhirRequest) -> Write:
    """A deletion of everything that the criteria match, up to the limit; beyond it nothing is deleted (412)."""
    assert request.type is not None
    return Write(
        "delete",
        request.type,
        criteria=repository.criteria(request.type, request.query),
        if_match=request.if_match,
        many=repository.server.settings.conditional_delete_limit,
        label=request.label,
    )


def answer(repository: Repository, request: FhirRequest, result: Result) -> FhirResponse:
    """204, whether something was there to be deleted or not; 200 where an OperationOutcome is preferred."""
    etag = result.version.version if result.version is not None else None
    if request.prefer == "OperationOutcome":
        done = "deleted" if result.outcome == "deleted" else "not there any more"
        issues = [Issue("information", "informational", f"The {request.type} is {done}.")]
        return FhirResponse(200, resource=outcome_resource(issues), etag=etag)
    return FhirResponse(204, etag=etag)
