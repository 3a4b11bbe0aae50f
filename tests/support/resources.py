"""Small resources for tests, and Bundles of them."""

from __future__ import annotations

from typing import Any


def patient(id: str | None = None, **elements: Any) -> dict[str, Any]:
    """A Patient; without `id` one to be created."""
    return {"resourceType": "Patient", **({"id": id} if id else {}), **elements}


def named(family: str, id: str | None = None, **elements: Any) -> dict[str, Any]:
    """A Patient with a family name."""
    return patient(id, name=[{"family": family}], **elements)


def identified(value: str, id: str | None = None, **elements: Any) -> dict[str, Any]:
    """A Patient with an identifier of the system http://example.org/mrn."""
    return patient(id, identifier=[{"system": "http://example.org/mrn", "value": value}], **elements)


def observation(id: str | None = None, subject: str | None = None, **elements: Any) -> dict[str, Any]:
    """A final Observation."""
    resource: dict[str, Any] = {"resourceType": "Observation", **({"id": id} if id else {}), "status": "final"}
    resource["code"] = elements.pop("code", {"text": "Heart rate"})
    if subject:
        resource["subject"] = {"reference": subject}
    return {**resource, **elements}


def bundle(*entries: dict[str, Any], type: str = "transaction") -> dict[str, Any]:
    """A Bundle of these entries; none at all has no `entry`."""
    return {"resourceType": "Bundle", "type": type, **({"entry": list(entries)} if entries else {})}


def entry(method: str, url: str, resource: Any = None, full_url: str | None = None, **request: Any) -> dict[str, Any]:
    """An entry of a batch or transaction; further arguments become members of its request."""
    found: dict[str, Any] = {}
    if full_url:
        found["fullUrl"] = full_url
    if resource is not None:
        found["resource"] = resource
    found["request"] = {"method": method, "url": url, **request}
    return found
