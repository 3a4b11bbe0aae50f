"""The CapabilityStatement, generated from the tables that route requests and resolve searches. R4
http.html#capabilities.
"""

from __future__ import annotations

from typing import Any, Final

from fhir_server import appendonly
from fhir_server.context import FhirRequest, FhirResponse, Server
from fhir_server.errors import BadRequest
from fhir_server.interactions.patch import MEDIA_TYPES
from fhir_server.repository import Repository
from fhir_server.resources import jsonformat
from fhir_server.resources.types import COMPARTMENTS, SYSTEM_INTERACTIONS, TYPE_INTERACTIONS, TYPES
from fhir_server.search.parse import parse_query
from fhir_server.wire import instant

RELEASED: Final = "2026-11-24"

_OAUTH_URIS: Final = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
_SECURITY_SERVICE: Final = "http://terminology.hl7.org/CodeSystem/restful-security-service"

_COMPARTMENT: Final = "http://hl7.org/fhir/CompartmentDefinition/"

_TRIAL_USE: Final = frozenset(
    (
        "supportedProfile",
        "versioning",
        "readHistory",
        "updateCreate",
        "conditionalCreate",
        "conditionalRead",
        "conditionalUpdate",
        "conditionalDelete",
        "referencePolicy",
        "searchInclude",
        "searchRevInclude",
    )
)
"""Elements of CapabilityStatement.rest.resource that R4 marks as trial use: left out under mode=normative."""


def capabilities(repository: Repository, request: FhirRequest) -> FhirResponse:
    """What this server does; `mode` is full, normative or terminology."""
    mode = "full"
    for name, value in parse_query(request.query):
        if name == "mode" and value:
            mode = value
    if mode not in ("full", "normative", "terminology"):
        raise BadRequest("`mode` must be full, normative or terminology.", code="value")
    server = repository.server
    cached = server.cache.get(("capabilities", mode))
    if cached is None:
        resource = terminology_capabilities(server) if mode == "terminology" else statement(server, mode)
        cached = server.cache[("capabilities", mode)] = jsonformat.encode(resource)
    return FhirResponse(200, json=cached)


def _software(server: Server) -> dict[str, Any]:
    return {"name": "Hestia", "version": server.settings.software_version}


def statement(server: Server, mode: str = "full") -> dict[str, Any]:
    """The CapabilityStatement of this instance; `mode` is full or normative."""
    normative = mode == "normative"
    from fhir_server.interactions.dispatch import OPERATIONS  # dispatch imports this module

    operations = [one for one in OPERATIONS.values() if "type" in one.levels or "instance" in one.levels]
    resources = []
    for name in TYPES:
        described = server.registry.describe(name)
        resource = {
            "type": name,
            "profile": f"http://hl7.org/fhir/StructureDefinition/{name}",
            "interaction": [{"code": code} for code in TYPE_INTERACTIONS],
            "versioning": "versioned-update",
            "readHistory": True,
            "updateCreate": server.settings.update_create,
            "conditionalCreate": True,
            "conditionalRead": "full-support",
            "conditionalUpdate": True,
            "conditionalDelete": "multiple",
            "referencePolicy": ["literal", "logical", "local", *(["enforced"] if server.settings.integrity else [])],
            "searchInclude": described["searchInclude"],
            "searchRevInclude": described["searchRevInclude"],
            "searchParam": described["searchParam"],
            "operation": [
                {"name": one.name, "definition": one.definition}
                for one in operations
                if one.types is None or name in one.types
            ],
        }
        if name in appendonly.TYPES:
            resource["interaction"] = [{"code": code} for code in TYPE_INTERACTIONS if code not in appendonly.CHANGES]
            resource.update(updateCreate=False, conditionalUpdate=False, conditionalDelete="not-supported")
        if normative:
            resource = {key: value for key, value in resource.items() if key not in _TRIAL_USE}
        resources.append({key: value for key, value in resource.items() if value != []})
    rest: dict[str, Any] = {"mode": "server"}
    if not normative:
        rest["security"] = _security(server)
    rest["resource"] = resources
    rest["interaction"] = [{"code": code} for code in SYSTEM_INTERACTIONS]
    rest["searchParam"] = [
        {"name": param.code, **({"definition": param.url} if param.url else {}), "type": param.type}
        for param in server.registry.common.values()
        if param.type != "special" or param.code in ("_text", "_content", "_type")
    ]
    rest["operation"] = [
        {"name": one.name, "definition": one.definition} for one in OPERATIONS.values() if "system" in one.levels
    ]
    rest["compartment"] = [_COMPARTMENT + name.lower() for name in COMPARTMENTS]
    return {
        "resourceType": "CapabilityStatement",
        "id": "hestia",
        "url": f"{server.settings.base_url}/metadata",
        "version": server.settings.software_version,
        "name": "Hestia",
        "title": "Hestia, a FHIR R4 server",
        "status": "active",
        "date": instant(server.started),
        "publisher": "Hestia",
        "description": "Every interaction and search parameter of FHIR R4, on MongoDB or an embedded store.",
        "kind": "instance",
        "software": {**_software(server), "releaseDate": RELEASED},
        "implementation": {"description": "Hestia", "url": server.settings.base_url},
        "fhirVersion": "4.0.1",
        "format": ["json", "xml", "application/fhir+json", "application/fhir+xml"],
        "patchFormat": list(MEDIA_TYPES),
        "rest": [rest],
    }


def _security(server: Server) -> dict[str, Any]:
    """rest.security, with the authorization server's endpoints where there is one. SMART App Launch 2.2
    conformance.html#smart-on-fhir-oauth-authorization-endpoints-and-capabilities (the extension oauth-uris).
    """
    oauth = server.settings.oauth
    cors = bool(server.settings.cors_origins)
    if oauth is None:
        return {"cors": cors}
    urls = {
        "authorize": oauth.authorize,
        "token": oauth.token,
        "register": oauth.register,
        "introspect": oauth.introspect,
        "revoke": oauth.revoke,
        "manage": oauth.manage,
    }
    return {
        "extension": [
            {"url": _OAUTH_URIS, "extension": [{"url": name, "valueUri": url} for name, url in urls.items() if url]}
        ],
        "cors": cors,
        "service": [
            {
                "coding": [{"system": _SECURITY_SERVICE, "code": "SMART-on-FHIR", "display": "SMART-on-FHIR"}],
                "text": "OAuth2 using SMART-on-FHIR profile (see http://docs.smarthealthit.org)",
            }
        ],
        "description": "Access tokens of SMART App Launch 2.2: every interaction but this one needs one.",
    }


def terminology_capabilities(server: Server) -> dict[str, Any]:
    """What is offered about codes: nothing but searches so far."""
    return {
        "resourceType": "TerminologyCapabilities",
        "id": "hestia",
        "url": f"{server.settings.base_url}/metadata?mode=terminology",
        "version": server.settings.software_version,
        "name": "HestiaTerminology",
        "status": "active",
        "date": instant(server.started),
        "description": "Codes serve searches (:in, :not-in, :below, :above) and bindings; $expand comes later.",
        "kind": "instance",
        "software": _software(server),
        "implementation": {"description": "Hestia", "url": server.settings.base_url},
        "codeSearch": "explicit",
    }
