"""$validate. R4 resource-operation-validate.html. Always strict: what a write warns of is an error here."""

from __future__ import annotations

from typing import Any

from fhir_server.context import FhirRequest, FhirResponse
from fhir_server.errors import BadRequest, Issue, outcome_resource
from fhir_server.repository import Repository
from fhir_server.resources import validate as validator
from fhir_server.search import registry
from fhir_server.search.parse import parse_query
from fhir_server.writing import parse_body

_MODES = ("create", "update", "delete", "profile")
_CORE = "http://hl7.org/fhir/StructureDefinition/"


def validate(repository: Repository, request: FhirRequest) -> FhirResponse:
    """200 with an OperationOutcome, whether the resource is valid or not; 4xx only when it could not be validated."""
    assert request.type is not None
    resource, mode, profile = _given(request)
    if mode is not None and mode not in _MODES:
        raise BadRequest("`mode` must be create, update, delete or profile.", code="value")
    if mode == "delete":
        if request.id is None:
            raise BadRequest("`mode` delete is for an instance.", code="invalid")
        repository.read(request.type, request.id)
        return _outcome([])
    if mode == "update" and request.id is None:
        raise BadRequest("`mode` update is for an instance.", code="invalid")
    if resource is None:
        if request.id is None:
            raise BadRequest("A resource is needed.", code="required")
        stored = repository.read(request.type, request.id)
        resource = parse_body(stored.body or b"")
    issues: list[Issue] = list(validator.validate(resource, mode="strict").issues)
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    if kind in registry.builtin().types and kind != request.type:
        issues.append(Issue("error", "structure", f"The resource is not a {request.type}.", ("resourceType",)))
    if mode == "update" and isinstance(resource, dict) and resource.get("id") != request.id:
        issues.append(Issue("error", "value", "The id in the body must be that in the URL.", (f"{request.type}.id",)))
    if mode in ("create", "update") and kind == "SearchParameter":
        issues.extend(registry.problems(resource))
    if profile is not None and profile != _CORE + request.type:
        # "if the server cannot validate against the nominated profile, it SHALL return an error"
        issues.append(
            Issue(
                "error",
                "not-supported",
                "The nominated profile is not known here; it was not checked.",
                (request.type,),
            )
        )
    return _outcome(issues)


def _given(request: FhirRequest) -> tuple[Any, str | None, str | None]:
    """Resource, mode and profile: from Parameters, or the resource as the body and the others in the URL."""
    mode: str | None = None
    profile: str | None = None
    for name, value in parse_query(request.query):
        if name == "mode" and value:
            mode = value
        elif name == "profile" and value:
            profile = value
    resource = request.resource
    if isinstance(resource, dict) and resource.get("resourceType") == "Parameters":
        parameters = resource.get("parameter")
        resource = None
        for parameter in parameters if isinstance(parameters, list) else ():
            if not isinstance(parameter, dict):
                raise BadRequest("A parameter is an object.", code="structure", expression="Parameters.parameter")
            called = parameter.get("name")
            if called == "resource":
                resource = parameter.get("resource")
            elif called == "mode":
                mode = _text(parameter, "valueCode")
            elif called == "profile":
                profile = _text(parameter, "valueUri", "valueCanonical", "valueUrl")
    return resource, mode, profile


def _text(parameter: dict[str, Any], *names: str) -> str:
    for name in (*names, "valueString"):
        value = parameter.get(name)
        if isinstance(value, str):
            return value
    raise BadRequest(f"The parameter is given as {names[0]}.", code="value", expression="Parameters.parameter")


def _outcome(issues: list[Issue]) -> FhirResponse:
    return FhirResponse(200, resource=outcome_resource(issues))
