"""Unique keys by settings: identifiers that at most one current resource of a type may carry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fhir_server.interceptors import Claims, no_claims


def unique_identifiers(systems: Mapping[str, tuple[str, ...]]) -> Claims:
    """Claims for the identifiers of certain systems. Shape of a key: ``Type|system|value``.

    An identifier that is no longer in use (`use` is old) holds nothing, nor does a Patient that another one has
    replaced: so charts of one human are merged.
    """
    if not systems:
        return no_claims

    def claims(resource_type: str, resource: dict[str, Any]) -> tuple[str, ...]:
        unique = systems.get(resource_type)
        if not unique:
            return ()
        if any(link.get("type") == "replaced-by" for link in resource.get("link") or () if isinstance(link, dict)):
            return ()
        identifiers: Any = resource.get("identifier") or []
        found = [
            f"{resource_type}|{one['system']}|{one['value']}"
            for one in (identifiers if isinstance(identifiers, list) else [identifiers])
            if one.get("system") in unique and "value" in one and one.get("use") != "old"
        ]
        return tuple(dict.fromkeys(found))

    return claims
