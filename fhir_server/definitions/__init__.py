"""R4 4.0.1's own definitions as compact tables, derived by ``scripts/derive_definitions.py`` and committed.

The tables are plain dicts and lists, loaded once per process and shared: treat them as read-only.

``structures()``: type name, or path of a backbone element ("Patient.contact"), to::

    {"kind": "resource" | "complex" | "primitive" | "backbone" | "profile",   # profile: only SimpleQuantity
     "base": "DomainResource", "abstract": true,                              # abstract only when true
     "elements": {name: element, ...},          # definition order, inherited ones included; choices without "[x]"
     "constraints": [{"key", "severity": "error" | "warning", "human", "expression", "bestPractice"?}, ...],
     "regex", "minValue", "maxValue", "maxLength"}                            # primitives only

an element is::

    {"min": 0, "max": null for * else int, "types": ["HumanName"],
     "choice": true,                            # value[x]: the JSON name is the element's name + the type capitalized
     "ref": "Patient.contact",                  # backbone: where its elements are; also follows contentReference
     "targets": ["Patient", "Group"],           # of Reference; absent when any type is allowed
     "canonicalTargets": ["ValueSet"],          # of canonical, alike
     "profile": "SimpleQuantity",
     "binding": ["required", value set url], "maxBinding": value set url,
     "summary": true, "modifier": true, "xml": "attr" | "xhtml",
     "constraints": [...]}                      # those of this element alone; those of its type are with the type

``search_parameters()``: ``[{"id", "url", "code", "base": [...], "type", "expression", "xpathUsage", "target",
"component": [{"definition", "expression"}], "multipleOr", "multipleAnd"}]``. 1,381 of them have base and expression:
1,384 of the official 1,400 do, less the three teaching examples ``SearchParameter/example*``. Those of
search.html#all without an expression (_text, _content, _query, _filter and, without a SearchParameter of their own,
_has, _list, _type) are ``"special": true``; the last three also ``"synthetic": true``.

``compartments()``: ``{"Patient": {"Observation": ["subject", "performer"], ...}, ...}``; a type that is no member is
absent. A parameter ``{def}`` stands for the compartment's own type.

``required_codes()``: value set of a required binding to ``{"systems": {system: [code, ...]}}``, or, where the value
set is a grammar and no list, to ``{"syntax": "mimetype" | "ucum" | "any"}``.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import msgspec

_DIRECTORY = Path(__file__).parent


def _load(name: str) -> Any:
    return msgspec.json.decode((_DIRECTORY / name).read_bytes())


@cache
def structures() -> dict[str, dict[str, Any]]:
    """Every type and backbone element of R4; see the module's docstring for the shape."""
    return _load("structures.json")


@cache
def search_parameters() -> list[dict[str, Any]]:
    """The official search parameters, sorted by id."""
    return _load("search_parameters.json")


@cache
def compartments() -> dict[str, dict[str, list[str]]]:
    """Compartment -> resource type -> parameters of membership. R4 compartmentdefinition.html."""
    return _load("compartments.json")


@cache
def required_codes() -> dict[str, dict[str, Any]]:
    """The codes of every value set that R4 binds with strength "required"."""
    return _load("required_codes.json")


@cache
def resource_types() -> tuple[str, ...]:
    """The 146 concrete resource types (Parameters among them), sorted."""
    return tuple(
        name for name, item in sorted(structures().items()) if item["kind"] == "resource" and not item.get("abstract")
    )
