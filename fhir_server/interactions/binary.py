"""Binary: raw content in and out by media type, or the resource for those who ask for FHIR. R4 binary.html#rest."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Final

from fhir_server.context import FhirRequest, FhirResponse
from fhir_server.errors import BadRequest, NotAcceptable
from fhir_server.interactions import read
from fhir_server.repository import Repository
from fhir_server.storage.writes import Stored
from fhir_server.writing import parse_body

_FHIR: Final = frozenset(
    (
        "application/fhir+json",
        "application/fhir+xml",
        "application/json+fhir",
        "application/xml+fhir",
        "application/json",
        "application/xml",
        "text/json",
        "text/xml",
    )
)
_AMBIGUOUS: Final = frozenset(("application/json", "application/xml", "text/json", "text/xml"))

_SAFE_HEADERS: Final = (
    # Uploaded content is shown on our own origin: it may not run there.
    ("Content-Security-Policy", "sandbox; default-src 'none'"),
)


def read_or_resource(repository: Repository, request: FhirRequest) -> FhirResponse:
    """read, of a Binary in its own media type unless FHIR is asked for."""
    if request.type != "Binary" or request.label:
        return read.read(repository, request)
    assert request.id is not None
    return _answer(repository, request, repository.read("Binary", request.id))


def vread_or_resource(repository: Repository, request: FhirRequest) -> FhirResponse:
    """vread, of a Binary in its own media type unless FHIR is asked for."""
    if request.type != "Binary" or request.label:
        return read.vread(repository, request)
    assert request.id is not None
    assert request.version_id is not None
    return _answer(repository, request, repository.vread("Binary", request.id, request.version_id))


def _answer(repository: Repository, request: FhirRequest, stored: Stored) -> FhirResponse:
    if "_format" in request.query or "_summary" in request.query or "_elements" in request.query:
        return read.answer(repository, request, stored)
    assert stored.body is not None
    resource = parse_body(stored.body)
    media = str(resource.get("contentType", ""))
    if not _wants_raw(request.accept, media):
        return read.answer(repository, request, stored)
    if read.not_modified(repository, request, stored):
        return FhirResponse(304, etag=stored.version, updated=stored.updated)
    try:
        raw = base64.b64decode("".join(str(resource.get("data", "")).split()), validate=True)
    except (binascii.Error, ValueError):
        return read.answer(repository, request, stored)
    headers = list(_SAFE_HEADERS)
    context = resource.get("securityContext")
    if isinstance(context, dict) and isinstance(context.get("reference"), str) and context["reference"].isascii():
        headers.append(("X-Security-Context", context["reference"]))
    if not media.isascii() or not media.isprintable():
        media = "application/octet-stream"
    return FhirResponse(200, raw=raw, media=media, etag=stored.version, updated=stored.updated, headers=headers)


def _wants_raw(accept: str, media: str) -> bool:
    """Whether the content itself is wanted. Raises NotAcceptable (406) when neither it nor FHIR is accepted."""
    bare = media.partition(";")[0].strip().lower()
    ranked: list[tuple[float, int, bool]] = []
    for position, part in enumerate(accept.split(",") if accept.strip() else ["*/*"]):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    quality = float(parameter[2:])
                except ValueError:
                    quality = 0.0
        if quality <= 0:
            continue
        if name in _FHIR and not (name in _AMBIGUOUS and name == bare):
            ranked.append((-quality, position, False))
        elif name in ("*/*", bare, bare.partition("/")[0] + "/*"):
            ranked.append((-quality, position, True))
    if not ranked:
        raise NotAcceptable(
            "The content is offered in its own media type, and as application/fhir+json or application/fhir+xml."
        )
    return min(ranked)[2]


def from_raw(request: FhirRequest) -> dict[str, Any]:
    """The Binary resource of a raw body; X-Security-Context becomes its securityContext."""
    if not request.content_type:
        raise BadRequest("A Content-Type is needed.", code="required")
    resource: dict[str, Any] = {"resourceType": "Binary", "contentType": request.content_type}
    context = request.headers.get("X-Security-Context") if request.headers is not None else None
    if context:
        resource["securityContext"] = {"reference": context}
    if request.body:
        resource["data"] = base64.b64encode(request.body).decode("ascii")
    return resource
