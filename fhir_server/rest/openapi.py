"""The OpenAPI document of the REST API, from the tables that route requests, served by flask-smorest. R4 http.html.

Paths are generic (``/{type}/{id}``) with the types as an enumeration: 145 copies of the same paths would help nobody.
What can be searched per type stands in the CapabilityStatement.
"""

from __future__ import annotations

from typing import Any, Final

from apispec import APISpec

from fhir_server.interactions.dispatch import OPERATIONS, ROUTES, Interaction
from fhir_server.resources.types import COMPARTMENTS, TYPES

PATHS: Final[dict[str, str]] = {
    "system": "/",
    "search-system": "/_search",
    "history-system": "/_history",
    "metadata": "/metadata",
    "type": "/{type}",
    "search-type": "/{type}/_search",
    "history-type": "/{type}/_history",
    "instance": "/{type}/{id}",
    "version": "/{type}/{id}/_history/{vid}",
    "history-instance": "/{type}/{id}/_history",
    "compartment": "/{compartment}/{id}/{type}",
    "compartment-search": "/{compartment}/{id}/{type}/_search",
}
"""Where each shape of dispatch.ROUTES lives, below the base."""

SUMMARIES: Final[dict[str, str]] = {
    "read": "Read the current version",
    "vread": "Read one version",
    "create": "Create a resource with an id of the server",
    "update": "Update a resource, or create it under this id",
    "patch": "Change parts of a resource (JSON Patch, XML Patch, FHIRPath Patch)",
    "delete": "Delete a resource",
    "search-type": "Search one type",
    "search-system": "Search several types",
    "search-compartment": "Search within a compartment",
    "history-instance": "Versions of one resource, newest first",
    "history-type": "Changes to one type, newest first",
    "history-system": "Changes to everything, newest first",
    "capabilities": "The CapabilityStatement",
    "transaction": "Run a Bundle of type transaction (all or nothing) or batch (each entry alone)",
}

_FHIR_JSON: Final = "application/fhir+json"
_FHIR_XML: Final = "application/fhir+xml"
_PATCHES: Final = ("application/json-patch+json", "application/xml-patch+xml", _FHIR_JSON)
_QUERY: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "search": (
        ("_id", "Logical ids, comma separated"),
        ("_lastUpdated", "When the resource last changed, with a prefix such as ge"),
        ("_count", "Matches per page, 0 to 1000; default 50"),
        ("_sort", "Parameters, comma separated, - for descending"),
        ("_include", "Type:parameter[:target] of references to add"),
        ("_revinclude", "Type:parameter of resources that refer to the matches"),
        ("_total", "none, estimate or accurate"),
        ("_summary", "true, text, data, count or false"),
        ("_elements", "Elements to return, comma separated"),
        ("_explain", "true: the tree and the store's plan instead of the result"),
    ),
    "history": (
        ("_since", "An instant; versions from then on"),
        ("_at", "A date or period; versions that were current then"),
        ("_count", "Versions per page"),
    ),
    "read": (("_summary", "true, text, data or false"), ("_elements", "Elements to return, comma separated")),
    "capabilities": (("mode", "full, normative or terminology"),),
}


def describe(spec: APISpec, *, guarded: bool = False) -> None:
    """Adds every route and operation of the dispatch tables to `spec`. `guarded`: they need an access token (RFC 6750).

    They go into its options and not through `spec.path`: its Flask plugin wants Flask's own rules, and FHIR has none.
    """
    paths: dict[str, Any] = spec.options.setdefault("paths", {})
    spec.components.schema("Resource", {"type": "object", "properties": {"resourceType": {"type": "string"}}})
    spec.components.response(
        "OperationOutcome",
        {"description": "What is wrong, as an OperationOutcome", "content": {_FHIR_JSON: {"schema": _resource()}}},
    )
    if guarded:
        spec.components.security_scheme(
            "bearer",
            {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "An access token: see .well-known/smart-configuration below the FHIR base.",
            },
        )
        spec.options["security"] = [{"bearer": []}]
    for shape, methods in ROUTES.items():
        operations = {method.lower(): _operation(shape, method, interaction) for method, interaction in methods.items()}
        if shape == "metadata":
            operations["get"]["security"] = []  # open to everybody
        paths["/fhir" + PATHS[shape].rstrip("/")] = {**operations, "parameters": _path_parameters(PATHS[shape])}
    for operation in OPERATIONS.values():
        for level in operation.levels:
            where = {
                "system": "",
                "type": "/{type}",
                "instance": "/{type}/{id}",
                "version": "/{type}/{id}/_history/{vid}",
            }[level]
            methods_allowed = ("post",) if operation.affects_state else ("get", "post")
            paths[f"/fhir{where}/${operation.name}"] = {
                "parameters": _path_parameters(where),
                **{
                    method: {
                        "tags": ["Operations"],
                        "summary": f"${operation.name} on the {level}",
                        "operationId": f"{level}-{operation.name}-{method}",
                        "externalDocs": {"url": operation.definition},
                        **({"requestBody": _body((_FHIR_JSON, _FHIR_XML), required=False)} if method == "post" else {}),
                        "responses": _responses("200"),
                    }
                    for method in methods_allowed
                },
            }


def _operation(shape: str, method: str, interaction: Interaction) -> dict[str, Any]:
    code = interaction.code
    found: dict[str, Any] = {
        "tags": [_tag(code)],
        "summary": SUMMARIES[code]
        + (" (conditional)" if shape == "type" and method in ("PUT", "PATCH", "DELETE") else ""),
        "operationId": f"{shape}-{method.lower()}",
        "parameters": [
            {"in": "query", "name": name, "description": text, "schema": {"type": "string"}}
            for name, text in _QUERY.get(code.split("-")[0], ())
        ],
        "responses": _responses("201" if code == "create" else "204" if code == "delete" else "200"),
    }
    if method in ("PUT", "PATCH", "DELETE") and shape == "instance":
        found["parameters"].append(_header("If-Match", 'Version that must be current, such as W/"3"'))
    if code == "create":
        found["parameters"].append(_header("If-None-Exist", "Search criteria; nothing is created when they match"))
    if method in ("POST", "PUT", "PATCH") and interaction.body != "form":
        found["parameters"].append(_header("Prefer", "return=minimal, representation or OperationOutcome"))
    if interaction.body in ("resource", "optional"):
        found["requestBody"] = _body((_FHIR_JSON, _FHIR_XML))
    elif interaction.body == "raw":
        found["requestBody"] = _body(_PATCHES)
    elif interaction.body == "form":
        found["requestBody"] = {
            "content": {
                "application/x-www-form-urlencoded": {"schema": {"type": "object", "additionalProperties": True}}
            }
        }
    return found


def _tag(code: str) -> str:
    if code.startswith("search"):
        return "Search"
    if code.startswith("history") or code == "vread":
        return "History"
    return "System" if code in ("transaction", "capabilities") else "Resources"


def _header(name: str, text: str) -> dict[str, Any]:
    return {"in": "header", "name": name, "description": text, "schema": {"type": "string"}}


def _resource() -> dict[str, Any]:
    return {"$ref": "#/components/schemas/Resource"}


def _body(types: tuple[str, ...], required: bool = True) -> dict[str, Any]:
    return {"required": required, "content": {media: {"schema": _resource()} for media in types}}


def _responses(success: str) -> dict[str, Any]:
    done = {"description": "Done"}
    if success != "204":
        done["content"] = {media: {"schema": _resource()} for media in (_FHIR_JSON, _FHIR_XML)}  # type: ignore[assignment]
    return {success: done, "default": {"$ref": "#/components/responses/OperationOutcome"}}


def _path_parameters(path: str) -> list[dict[str, Any]]:
    known: dict[str, dict[str, Any]] = {
        "type": {"type": "string", "enum": list(TYPES), "example": "Patient"},
        "compartment": {"type": "string", "enum": list(COMPARTMENTS), "example": "Patient"},
        "id": {"type": "string", "pattern": r"^[A-Za-z0-9\-.]{1,64}$"},
        "vid": {"type": "string"},
    }
    return [
        {"in": "path", "name": name, "required": True, "schema": schema}
        for name, schema in known.items()
        if f"{{{name}}}" in path
    ]
