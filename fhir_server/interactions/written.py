"""What a write is answered with. R4 http.html#ops (Prefer: return), #create, #update."""

from __future__ import annotations

from fhir_server.context import FhirRequest, FhirResponse
from fhir_server.errors import outcome_resource
from fhir_server.repository import Repository
from fhir_server.storage.writes import Stored, Version
from fhir_server.writing import Result


def shown(repository: Repository, version: Version | Stored) -> bool:
    """Whether a caller who changed something that the request did not hold may see what it is now: a grant of `u` alone
    does not read.
    """
    return repository.visible(version, "r", "s")


def written(repository: Repository, request: FhirRequest, result: Result) -> FhirResponse:
    """201 with Location when a resource came to be, else 200; the body as `Prefer` wants it.

    Without a preference the resource is returned; in Bundles it is not, nor what a patch left to those who may not
    read it.
    """
    version = result.version
    assert version is not None
    response = FhirResponse(
        201 if result.outcome == "created" else 200, etag=version.version, updated=version.updated, issues=result.issues
    )
    location = f"{version.type}/{version.id}/_history/{version.version}"
    response.location = location if request.label else f"{repository.server.settings.base_url}/{location}"
    preference = request.prefer or ("minimal" if request.label else "representation")
    if preference == "representation" and request.method == "PATCH" and not shown(repository, version):
        preference = "minimal"
    if preference == "representation":
        if result.json is not None:
            response.json = result.json
        else:
            response.member = version.body
    elif preference == "OperationOutcome":
        response.resource = outcome_resource(result.issues)
    return response
