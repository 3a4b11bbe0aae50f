"""patch: JSON Patch, FHIRPath Patch and XML Patch, and their conditional forms. R4 http.html#patch; fhirpatch.html;
RFC 6902, RFC 5261.

In a Bundle the patch is a Binary with its media type (R5's form of it), or Parameters for FHIRPath Patch.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from fhir_server.context import FhirRequest
from fhir_server.errors import BadRequest, UnsupportedMediaType
from fhir_server.fhirpath import patch as fhirpath_patch
from fhir_server.interactions import jsonpatch, xmlpatch
from fhir_server.repository import Repository
from fhir_server.resources import jsonformat, xmlformat
from fhir_server.writing import Write

Patch: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]

JSON_PATCH: Final = "application/json-patch+json"
XML_PATCH: Final = "application/xml-patch+xml"
_FHIR_JSON: Final = ("application/fhir+json", "application/json", "application/json+fhir")
_FHIR_XML: Final = ("application/fhir+xml", "application/xml", "application/xml+fhir")

MEDIA_TYPES: Final[tuple[str, ...]] = (JSON_PATCH, XML_PATCH, "application/fhir+json", "application/fhir+xml")
"""What the CapabilityStatement says of patches."""


def plan(repository: Repository, request: FhirRequest) -> Write:
    """A patch of the id in the URL."""
    assert request.type is not None
    return Write(
        "patch", request.type, request.id, patch=_read(request), if_match=request.if_match, label=request.label
    )


def plan_conditional(repository: Repository, request: FhirRequest) -> Write:
    """A patch of the one resource that the criteria match: none is 404, several are 412."""
    assert request.type is not None
    return Write(
        "patch",
        request.type,
        patch=_read(request),
        criteria=repository.criteria(request.type, request.query),
        if_match=request.if_match,
        label=request.label,
    )


def _read(request: FhirRequest) -> Patch:
    if request.label:
        return _from_entry(request.resource)
    return _from_bytes(request.body, request.content_type)


def _from_entry(resource: Any) -> Patch:
    """The patch in a Bundle entry."""
    kind = resource.get("resourceType") if isinstance(resource, dict) else None
    if kind == "Parameters":
        return _fhirpath(resource)
    if kind != "Binary":
        raise BadRequest("A patch in a Bundle is a Binary with a patch's media type, or Parameters.", code="structure")
    try:
        data = base64.b64decode(resource.get("data") or "", validate=False)
    except (binascii.Error, TypeError, ValueError):
        raise BadRequest("Binary.data is not base64.", code="value") from None
    return _from_bytes(data, str(resource.get("contentType") or ""))


def _from_bytes(data: bytes, content_type: str) -> Patch:
    name = content_type.partition(";")[0].strip().lower()
    if name == JSON_PATCH:
        operations = jsonformat.parse(data)
        return lambda resource: jsonpatch.apply(resource, operations)
    if name == XML_PATCH:
        return lambda resource: xmlpatch.apply(resource, data)
    if name in _FHIR_JSON:
        return _fhirpath(jsonformat.parse(data))
    if name in _FHIR_XML:
        return _fhirpath(xmlformat.parse(data))
    raise UnsupportedMediaType(
        f"A patch is {JSON_PATCH}, {XML_PATCH}, or Parameters as application/fhir+json or application/fhir+xml."
    )


def _fhirpath(parameters: Any) -> Patch:
    if not isinstance(parameters, dict) or parameters.get("resourceType") != "Parameters":
        raise BadRequest("A FHIRPath Patch is a Parameters resource.", code="structure")
    return lambda resource: fhirpath_patch.apply(resource, parameters)
