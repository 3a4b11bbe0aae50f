"""What resources are called where a person reads it."""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]


def name_of(resource: JSON) -> str | None:
    """How a person or an organization would be called, or an encounter (its class and day)."""
    if resource["resourceType"] == "Encounter":
        day = ((resource.get("period") or {}).get("start") or "")[:10]
        kind = (resource.get("class") or {}).get("display") or (resource.get("class") or {}).get("code") or ""
        return f"{kind} {day}".strip() or None
    name = resource.get("name")
    if isinstance(name, str):
        return name
    best = sorted(name or (), key=lambda one: one.get("use") != "official")
    if not best:
        return None
    return best[0].get("text") or " ".join([*best[0].get("given", ()), best[0].get("family", "")]).strip() or None
