"""$meta, $meta-add and $meta-delete. R4 resource-operation-meta.html, -meta-add.html, -meta-delete.html.

Tags and security labels are the same when system and code are; profiles when their URLs are. An addition or deletion
that changes nothing makes no version of its own (these operations are not updates: R4 leaves it to the server).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fhir_server.context import FhirRequest, FhirResponse
from fhir_server.errors import BadRequest
from fhir_server.interactions.written import shown
from fhir_server.repository import Repository
from fhir_server.resources import jsonformat
from fhir_server.search import ast
from fhir_server.writing import Result, Write, parse_body

_PARTS = ("profile", "security", "tag")


def meta(repository: Repository, request: FhirRequest) -> FhirResponse:
    """The meta of an instance or version; for a type or the system, all profiles, labels and tags in use."""
    if request.id is not None:
        assert request.type is not None
        if request.version_id is not None:
            stored = repository.vread(request.type, request.id, request.version_id)
        else:
            stored = repository.read(request.type, request.id)
        assert stored.body is not None
        return _answered(parse_body(stored.body).get("meta", {}))
    return _answered(_in_use(repository, request.type))


def _in_use(repository: Repository, resource_type: str | None) -> dict[str, Any]:
    """All profiles, labels and tags of the current resources that have any."""
    registry = repository.server.registry
    types = (resource_type,) if resource_type else registry.types
    numbers = tuple(
        number
        for name in types
        for code in ("_profile", "_security", "_tag")
        if (param := registry.param(name, code)) is not None
        for number in param.numbers
    )
    found: dict[str, dict[Any, Any]] = {part: {} for part in _PARTS}
    where = ast.Exists(numbers, "key", ast.ANY)
    search = ast.Search(ast.Select((resource_type,) if resource_type else None, where), count=500)
    while True:
        page = repository.search(search)
        for stored in page.matches:
            _add(found, parse_body(stored.body or b"").get("meta", {}))
        if page.next is None:
            break
        search = ast.Search(search.select, count=500, after=page.next)
    return {part: list(values.values()) for part, values in found.items() if values}


def _key(part: str, value: Any) -> Any:
    return value if part == "profile" else (value.get("system"), value.get("code"))


def _add(found: dict[str, dict[Any, Any]], given: dict[str, Any]) -> None:
    for part in _PARTS:
        for value in given.get(part) or ():
            found[part].setdefault(_key(part, value), value)


def _given(request: FhirRequest) -> dict[str, Any]:
    """The `meta` parameter of the request."""
    resource = request.resource
    parameters = resource.get("parameter") if isinstance(resource, dict) else None
    if not isinstance(parameters, list) or resource.get("resourceType") != "Parameters":
        raise BadRequest("Parameters with `meta` (valueMeta) are needed.", code="required")
    for parameter in parameters:
        if isinstance(parameter, dict) and parameter.get("name") == "meta":
            value = parameter.get("valueMeta")
            if isinstance(value, dict):
                for part in _PARTS:
                    items = value.get(part) or []
                    expected = str if part == "profile" else dict
                    if not isinstance(items, list) or not all(isinstance(item, expected) for item in items):
                        raise BadRequest(
                            "`meta` is not a Meta.", code="structure", expression="Parameters.parameter.value"
                        )
                return value
    raise BadRequest("Parameters with `meta` (valueMeta) are needed.", code="required")


def _changed(resource: dict[str, Any], change: Callable[[str, list[Any]], list[Any]]) -> dict[str, Any]:
    meta = dict(resource.get("meta") or {})
    for part in _PARTS:
        values = change(part, list(meta.get(part) or ()))
        if values:
            meta[part] = values
        else:
            meta.pop(part, None)
    return {**resource, "meta": meta}


def plan_add(repository: Repository, request: FhirRequest) -> Write:
    """An update of meta alone, with what is given and was not there."""
    given = _given(request)

    def change(part: str, values: list[Any]) -> list[Any]:
        known = {_key(part, value) for value in values}
        for value in given.get(part) or ():
            if _key(part, value) not in known:
                known.add(_key(part, value))
                values.append(value)
        return values

    return _write(request, change)


def _may_relabel(repository: Repository) -> bool:
    """People do not take away what their hospital put on their records."""
    caller = repository.context.caller
    return caller is None or caller.grant is None or caller.grant.role != "patient"


def plan_delete(repository: Repository, request: FhirRequest) -> Write:
    """An update of meta alone, without what is given; what is not there is no error."""
    given = _given(request)

    def change(part: str, values: list[Any]) -> list[Any]:
        unwanted = {_key(part, value) for value in given.get(part) or ()}
        return [value for value in values if _key(part, value) not in unwanted]

    return _write(request, change, relabels=_may_relabel(repository))


def _write(request: FhirRequest, change: Callable[[str, list[Any]], list[Any]], *, relabels: bool = False) -> Write:
    assert request.type is not None
    assert request.id is not None
    return Write(
        "patch",
        request.type,
        request.id,
        patch=lambda resource: _changed(resource, change),
        if_match=request.if_match,
        label=request.label,
        relabels=relabels,
    )


def add(repository: Repository, request: FhirRequest) -> FhirResponse:
    """$meta-add."""
    return answer(repository, request, repository.execute([plan_add(repository, request)])[0])


def delete(repository: Repository, request: FhirRequest) -> FhirResponse:
    """$meta-delete."""
    return answer(repository, request, repository.execute([plan_delete(repository, request)])[0])


def answer(repository: Repository, request: FhirRequest, result: Result) -> FhirResponse:
    """The meta that the resource has now, if the caller may see it."""
    assert result.json is not None
    assert result.version is not None
    if not shown(repository, result.version):
        return _answered({})
    return _answered(jsonformat.parse(result.json).get("meta", {}))


def _answered(value: dict[str, Any]) -> FhirResponse:
    # An object must not be empty in JSON, nor a parameter without a value: a Meta without anything is left out.
    if not value:
        return FhirResponse(200, resource={"resourceType": "Parameters"})
    return FhirResponse(
        200, resource={"resourceType": "Parameters", "parameter": [{"name": "return", "valueMeta": value}]}
    )
