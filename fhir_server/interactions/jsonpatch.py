"""JSON Patch on resources. RFC 6902 (operations), RFC 6901 (pointers); R4 http.html#patch.

Values that no operation touches are the same objects afterwards, so decimals keep their literals.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, TypeAlias

from fhir_server.errors import BadRequest, Unprocessable

MAX_OPERATIONS = 10_000
MAX_STEPS = 100  # of one pointer; no resource is so deep

#: An operation, its path, and its `from` (empty when it has none).
_Checked: TypeAlias = tuple[dict[str, Any], list[str], list[str]]

_NEEDS_VALUE = frozenset({"add", "replace", "test"})
_NEEDS_FROM = frozenset({"move", "copy"})
_OPERATIONS = _NEEDS_VALUE | _NEEDS_FROM | {"remove"}
_ARRAY_INDEX = re.compile(r"0|[1-9][0-9]{0,9}", re.ASCII)
_BAD_ESCAPE = re.compile(r"~(?![01])")
# A copy of a copy of a copy doubles the document each time.
_MAX_COPIED = 5_000_000


def apply(resource: dict[str, Any], operations: Any) -> dict[str, Any]:
    """A new resource with all operations applied in order; `resource` is left as it is.

    Spec:   RFC 6902; R4 http.html#patch
    Raises: BadRequest (400) when the patch document or a pointer is malformed; Unprocessable (422) when a test fails,
            a path does not exist, or the result is no longer an object.
    """
    checked = _check(operations)
    try:
        return _apply(_copy(resource), checked)
    except RecursionError:
        raise Unprocessable("The JSON Patch nests values too deeply.", code="too-costly") from None


def _apply(document: Any, checked: list[_Checked]) -> dict[str, Any]:
    budget = _MAX_COPIED
    for position, (operation, path, source) in enumerate(checked):
        at = f"[{position}]"
        match operation["op"]:
            case "test":
                if not _equal(_get(document, path, at), operation["value"]):
                    raise Unprocessable(f"The test of operation {at} of the JSON Patch fails.", code="processing")
            case "remove":
                document = _remove(document, path, at)
            case "add":
                document = _add(document, path, _copy(operation["value"]), at)
            case "replace":
                document = _replace(document, path, _copy(operation["value"]), at)
            case "copy":
                value = _get(document, source, at)
                budget -= _size(value)
                if budget < 0:
                    raise Unprocessable("The JSON Patch copies too much.", code="too-costly")
                document = _add(document, path, _copy(value), at)
            case "move":
                value = _get(document, source, at)
                document = _add(_remove(document, source, at), path, value, at)
    if not isinstance(document, dict):
        raise Unprocessable("The result of the JSON Patch is not a resource.", code="structure")
    return document


# --- the patch document -----------------------------------------------------------------------------------------------


def _check(operations: Any) -> list[_Checked]:
    """The operations with their pointers taken apart. The whole document is checked before anything is applied."""
    if not isinstance(operations, list):
        raise BadRequest("A JSON Patch is an array of operations (RFC 6902).", code="structure")
    if len(operations) > MAX_OPERATIONS:
        raise BadRequest(f"A JSON Patch has at most {MAX_OPERATIONS:,} operations.", code="too-costly")
    checked: list[_Checked] = []
    for position, operation in enumerate(operations):
        at = f"Operation [{position}] of the JSON Patch"
        if not isinstance(operation, dict):
            raise BadRequest(f"{at} is not an object.", code="structure")
        name = operation.get("op")
        if not isinstance(name, str) or name not in _OPERATIONS:
            raise BadRequest(f"{at} needs `op`: add, remove, replace, move, copy or test.", code="structure")
        if name in _NEEDS_VALUE and "value" not in operation:
            raise BadRequest(f"{at} needs `value`.", code="structure")
        path = _pointer(operation.get("path"), f"{at}: `path`")
        source = _pointer(operation.get("from"), f"{at}: `from`") if name in _NEEDS_FROM else []
        if name == "move" and len(source) < len(path) and path[: len(source)] == source:
            raise BadRequest(f"{at} moves a value into itself.", code="value")
        checked.append((operation, path, source))
    return checked


def _pointer(text: Any, at: str) -> list[str]:
    """The parts of a JSON pointer, unescaped: ``~1`` is a slash, ``~0`` a tilde (RFC 6901)."""
    if not isinstance(text, str):
        raise BadRequest(f"{at} is a string.", code="structure")
    if text == "":
        return []
    if text[0] != "/" or _BAD_ESCAPE.search(text) is not None:
        raise BadRequest(f"{at} is not a JSON pointer (RFC 6901).", code="value")
    steps = text[1:].split("/")
    if len(steps) > MAX_STEPS:
        raise BadRequest(f"{at} has more than {MAX_STEPS} steps.", code="too-costly")
    return [step.replace("~1", "/").replace("~0", "~") for step in steps]


# --- values -----------------------------------------------------------------------------------------------------------


def _copy(value: Any) -> Any:
    """A copy of all arrays and objects; scalars, which do not change, are shared."""
    if isinstance(value, dict):
        return {key: _copy(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_copy(each) for each in value]
    return value


def _size(value: Any) -> int:
    total = 0
    stack = [value]
    while stack:
        each = stack.pop()
        total += 1
        if isinstance(each, dict):
            stack += each.values()
        elif isinstance(each, list):
            stack += each
    return total


def _equal(left: Any, right: Any) -> bool:
    """RFC 6902, 4.6: numbers are equal by value, objects in any order; true is not 1."""
    if isinstance(left, bool) or isinstance(right, bool) or left is None or right is None:
        return left is right
    if isinstance(left, (int, Decimal)) and isinstance(right, (int, Decimal)):
        return left == right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_equal(each, right[key]) for key, each in left.items())
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_equal, left, right))
    return isinstance(left, str) and isinstance(right, str) and left == right


# --- places -----------------------------------------------------------------------------------------------------------


def _missing(at: str) -> Unprocessable:
    return Unprocessable(f"Operation {at} of the JSON Patch points to a place that does not exist.", code="not-found")


def _index(step: str, length: int, at: str) -> int:
    """An existing position of an array. Leading zeros and signs are no index (RFC 6901, 4)."""
    if _ARRAY_INDEX.fullmatch(step) is None or int(step) >= length:
        raise _missing(at)
    return int(step)


def _get(document: Any, path: list[str], at: str) -> Any:
    for step in path:
        if isinstance(document, dict):
            if step not in document:
                raise _missing(at)
            document = document[step]
        elif isinstance(document, list):
            document = document[_index(step, len(document), at)]
        else:
            raise _missing(at)
    return document


def _add(document: Any, path: list[str], value: Any, at: str) -> Any:
    if not path:
        return value
    parent, step = _get(document, path[:-1], at), path[-1]
    if isinstance(parent, dict):
        parent[step] = value
    elif isinstance(parent, list):
        parent.insert(len(parent) if step == "-" else _index(step, len(parent) + 1, at), value)
    else:
        raise _missing(at)
    return document


def _replace(document: Any, path: list[str], value: Any, at: str) -> Any:
    if not path:
        return value
    parent, step = _get(document, path[:-1], at), path[-1]
    if isinstance(parent, dict) and step in parent:
        parent[step] = value
    elif isinstance(parent, list):
        parent[_index(step, len(parent), at)] = value
    else:
        raise _missing(at)
    return document


def _remove(document: Any, path: list[str], at: str) -> Any:
    if not path:
        return None
    parent, step = _get(document, path[:-1], at), path[-1]
    if isinstance(parent, dict) and step in parent:
        del parent[step]
    elif isinstance(parent, list):
        del parent[_index(step, len(parent), at)]
    else:
        raise _missing(at)
    return document
