"""`_summary` and `_elements`: a resource cut down to what was asked for, and marked SUBSETTED. R4
search.html#summary, #elements.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from fhir_server.resources.elements import members

SUBSETTED: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
    "display": "Resource encoded in summary mode",
}

_SYSTEMS: Final = (SUBSETTED["system"], "http://hl7.org/fhir/v3/ObservationValue")

SUMMARIES: Final = ("true", "text", "data", "count", "false")

_ALWAYS: Final = frozenset(("resourceType", "id", "meta"))


def is_subsetted(resource: Any) -> bool:
    """Whether a resource says of itself that it is incomplete."""
    meta = resource.get("meta") if isinstance(resource, dict) else None
    tags = meta.get("tag") if isinstance(meta, dict) else None
    if not isinstance(tags, list):
        return False
    return any(
        isinstance(tag, dict) and tag.get("code") == "SUBSETTED" and tag.get("system") in _SYSTEMS for tag in tags
    )


def _keep(resource: dict[str, Any], wanted: Callable[[str, Mapping[str, Any]], bool], deep: bool) -> dict[str, Any]:
    names = members(resource["resourceType"])
    kept: dict[str, Any] = {}
    for member, value in resource.items():
        bare = member[1:] if member.startswith("_") else member
        if bare in _ALWAYS:
            kept[member] = value
            continue
        known = names.get(bare)
        if known is None:
            continue
        name, element, type_name = known
        if wanted(name, element):
            kept[member] = _summarize(value, type_name) if deep and member == bare else value
    return kept


def _summarize(value: Any, type_name: str) -> Any:
    """Only the summary and mandatory elements of a value of a complex type."""
    if isinstance(value, list):
        return [_summarize(item, type_name) for item in value]
    if not isinstance(value, dict):
        return value
    own = value.get("resourceType")
    names = members(own if isinstance(own, str) else type_name)
    if not names:
        return value
    kept: dict[str, Any] = {}
    for member, inner in value.items():
        bare = member[1:] if member.startswith("_") else member
        known = names.get(bare)
        if known is None:
            if bare in _ALWAYS:
                kept[member] = inner
            continue
        _, element, inner_type = known
        if element.get("summary") or element.get("min") or bare == "id":
            kept[member] = _summarize(inner, inner_type) if member == bare else inner
    return kept


def _mark(resource: dict[str, Any]) -> dict[str, Any]:
    """The resource with the SUBSETTED tag in its meta, which comes right after id."""
    meta = dict(resource.get("meta") or {})
    if not is_subsetted(resource):
        meta["tag"] = [*(meta.get("tag") or ()), SUBSETTED]
    if "meta" in resource:
        return {**resource, "meta": meta}
    head: dict[str, Any] = {key: resource[key] for key in ("resourceType", "id") if key in resource}
    return {**head, "meta": meta, **{key: value for key, value in resource.items() if key not in head}}


def subset(resource: dict[str, Any], summary: str | None, elements: Iterable[str] | None) -> dict[str, Any]:
    """The resource as `_summary` (true, text, data) or `_elements` wants it; the same object when nothing is cut.

    Mandatory elements and modifiers stay, whatever was asked for.
    """
    if elements:
        chosen = frozenset(elements)
        return _mark(
            _keep(
                resource,
                lambda name, element: name in chosen or bool(element.get("min")) or bool(element.get("modifier")),
                deep=False,
            )
        )
    if summary == "true":
        return _mark(
            _keep(resource, lambda name, element: bool(element.get("summary") or element.get("min")), deep=True)
        )
    if summary == "text":
        return _mark(_keep(resource, lambda name, element: name == "text" or bool(element.get("min")), deep=False))
    if summary == "data":
        return _mark({member: value for member, value in resource.items() if member != "text"})
    return resource
