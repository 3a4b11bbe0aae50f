"""FHIRPath Patch: changes to a resource as a Parameters resource. R4 fhirpatch.html.

The result is not validated here beyond what the operations themselves promise: the right element, the right type, no
second value of an element that does not repeat. The update that follows validates the whole resource.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

from fhir_server.errors import BadRequest, Unprocessable
from fhir_server.fhirpath.ast import Focus, Member, Node
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.expression import compile_expression
from fhir_server.fhirpath.model import (
    Element,
    element,
    elements,
    is_known,
    is_primitive,
    is_resource,
    is_subtype,
    json_members,
)
from fhir_server.fhirpath.parser import parse
from fhir_server.fhirpath.values import Environment, Item

MAX_OPERATIONS = 10_000
MAX_STEPS = 5_000_000  # elements visited by all paths of one patch together

_PARTS = frozenset({"type", "path", "name", "value", "index", "source", "destination"})
# Which parts an operation needs, and which it may have.
_NEEDS = {
    "add": frozenset({"path", "name", "value"}),
    "insert": frozenset({"path", "index", "value"}),
    "delete": frozenset({"path"}),
    "replace": frozenset({"path", "value"}),
    "move": frozenset({"path", "source", "destination"}),
}


@dataclass(frozen=True, slots=True)
class _Operation:
    """One operation, read but not yet applied. `at` is its FHIRPath in the Parameters resource."""

    at: str
    type: str
    path: str
    name: str | None
    value: dict[str, Any] | None  # the part called "value"
    index: int | None
    source: int | None
    destination: int | None


def apply(resource: dict[str, Any], parameters: dict[str, Any]) -> dict[str, Any]:
    """A new resource with all operations of `parameters` applied in order; `resource` is left as it is.

    What no operation touches keeps its member order and its number literals.

    Spec:   R4 fhirpatch.html
    Raises: BadRequest for a patch that is not one (not Parameters, missing parts, unknown types of operation, syntax of
    a
            path); Unprocessable for one that does not fit this resource (path to nothing or to several elements, index
            out of range, wrong type of value, an element that exists already and does not repeat).
    """
    operations = _read(parameters)
    try:
        patch = _Patch(_copy(resource))
        for operation in operations:
            patch.apply(operation)
    except RecursionError:
        raise Unprocessable("The patch nests elements too deeply.", code="too-costly") from None
    return patch.root


# --- reading the Parameters -------------------------------------------------------------------------------------------


def _malformed(message: str, at: str) -> NoReturn:
    raise BadRequest(message, code="structure", expression=at)


def _read(parameters: dict[str, Any]) -> list[_Operation]:
    if not isinstance(parameters, dict) or parameters.get("resourceType") != "Parameters":
        raise BadRequest("A FHIRPath Patch is a Parameters resource.", code="structure")
    listed = parameters.get("parameter", [])
    if not isinstance(listed, list) or not listed:
        raise BadRequest("A FHIRPath Patch has at least one operation.", code="structure", expression="Parameters")
    if len(listed) > MAX_OPERATIONS:
        raise BadRequest(f"A FHIRPath Patch has at most {MAX_OPERATIONS:,} operations.", code="too-costly")
    return [_read_operation(each, f"Parameters.parameter[{position}]") for position, each in enumerate(listed)]


def _read_operation(parameter: Any, at: str) -> _Operation:
    if not isinstance(parameter, dict) or parameter.get("name") != "operation":
        _malformed("Each parameter of a FHIRPath Patch is called `operation`.", at)
    parts: dict[str, dict[str, Any]] = {}
    listed = parameter.get("part")
    for position, part in enumerate(listed if isinstance(listed, list) else []):
        name = part.get("name") if isinstance(part, dict) else None
        if not isinstance(name, str) or name not in _PARTS:
            _malformed("An operation has a part that FHIRPath Patch does not know.", f"{at}.part[{position}]")
        if name in parts:
            _malformed(f"An operation has the part `{name}` twice.", f"{at}.part[{position}]")
        parts[name] = part
    type_ = _text(parts.get("type"), "type", at, ("valueCode", "valueString"))
    needed = _NEEDS.get(type_)
    if needed is None:
        _malformed("The type of an operation is add, insert, delete, replace or move.", at)
    for name in sorted(needed - parts.keys()):
        _malformed(f"An operation of type {type_} needs the part `{name}`.", at)
    for name in sorted(parts.keys() - needed - {"type"}):
        _malformed(f"An operation of type {type_} has no part `{name}`.", at)
    return _Operation(
        at,
        type_,
        _text(parts["path"], "path", at, ("valueString",)),
        _text(parts["name"], "name", at, ("valueString", "valueCode", "valueId")) if "name" in parts else None,
        parts.get("value"),
        *(_integer(parts[name], name, at) if name in parts else None for name in ("index", "source", "destination")),
    )


def _text(part: dict[str, Any] | None, name: str, at: str, members: tuple[str, ...]) -> str:
    for member in members:
        value = part.get(member) if part is not None else None
        if isinstance(value, str) and value:
            return value
    raise BadRequest(f"An operation needs the part `{name}` with {members[0]}.", code="structure", expression=at)


def _integer(part: dict[str, Any], name: str, at: str) -> int:
    for member in ("valueInteger", "valueUnsignedInt", "valuePositiveInt"):
        value = part.get(member)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    message = f"The part `{name}` of an operation has a valueInteger that is not negative."
    raise BadRequest(message, code="structure", expression=at)


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_copy(each) for each in value]
    return value


# --- values -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Value:
    """A new element: the JSON member it belongs in, its content, and the ``_`` sibling of a primitive."""

    key: str
    content: Any
    sibling: dict[str, Any] | None


def _build(part: dict[str, Any], known: Element, operation: _Operation) -> _Value:
    """The element that a part called "value", or one of its own parts, describes for the place `known`."""
    found = [key for key in json_members("Parameters.parameter") if key.startswith("value")]
    given = [key for key in found if key in part or f"_{key}" in part]
    parts, resource = part.get("part"), part.get("resource")
    if len(given) + (parts is not None) + (resource is not None) != 1:
        _malformed("A value has exactly one of value[x], part and resource.", operation.at)
    if resource is not None:
        ((key, type_name),) = list(known.keys.items())[:1]
        name = resource.get("resourceType") if isinstance(resource, dict) else None
        if not isinstance(name, str) or not is_resource(type_name) or not is_subtype(name, type_name):
            raise _wrong_type(known, operation)
        return _Value(key, _copy(resource), None)
    if parts is not None:
        return _build_from_parts(parts, known, operation)
    member = given[0]
    type_name = json_members("Parameters.parameter")[member][1]
    content, sibling = part.get(member), part.get(f"_{member}")
    for key, candidate in known.keys.items():
        # No value[x] has the type xhtml, so that a narrative's div comes as a string.
        if candidate == type_name or (candidate == "xhtml" and type_name == "string"):
            if sibling is not None and not (isinstance(sibling, dict) and is_primitive(type_name)):
                _malformed("A value has a `_` member that is not allowed.", operation.at)
            return _Value(key, _copy(content), _copy(sibling))
    raise _wrong_type(known, operation)


def _wrong_type(known: Element, operation: _Operation) -> Unprocessable:
    types = " or ".join(type_name.rpartition(".")[2] for type_name in known.types[:12])
    message = f"The value has a type that `{known.name}` does not allow; it is {types}."
    return Unprocessable(message, code="value", expression=operation.at)


def _build_from_parts(parts: Any, known: Element, operation: _Operation) -> _Value:
    """Anonymous elements, and types that are no value[x]: the parts are named as the elements of the new one."""
    candidates = [
        (key, type_name) for key, type_name in known.keys.items() if not is_primitive(type_name) and elements(type_name)
    ]
    if not isinstance(parts, list) or not parts or len(candidates) != 1 or candidates[0][1] == "Resource":
        raise _wrong_type(known, operation)
    key, type_name = candidates[0]
    content: dict[str, Any] = {}
    for part in parts:
        name = part.get("name") if isinstance(part, dict) else None
        inner = element(type_name, name) if isinstance(name, str) else None
        if inner is None:
            raise Unprocessable(
                f"A part of the value is no element of `{known.name}`.", code="value", expression=operation.at
            )
        _append(Item(content, type_name), inner, _build(part, inner, operation), operation)
    return _Value(key, content, None)


def _append(container: Item, known: Element, value: _Value, operation: _Operation) -> None:
    """Add `value` to the object of `container`: at the end of what repeats, else where nothing is yet."""
    data = container.value
    if not known.many:
        if any(key in data or f"_{key}" in data for key in known.keys):
            raise Unprocessable(
                f"`{known.name}` does not repeat and exists already.", code="value", expression=operation.at
            )
        if value.content is not None:
            data[value.key] = value.content
        if value.sibling is not None:
            data[f"_{value.key}"] = value.sibling
        return
    _Collection(data, value.key).insert(None, value)


class _Collection:
    """A repeating element of one object: the array, and the parallel array of siblings where it has one."""

    def __init__(self, data: dict[str, Any], key: str) -> None:
        self.data, self.key = data, key
        values, siblings = data.get(key, []), data.get(f"_{key}", [])
        self.values: list[Any] = list(values) if isinstance(values, list) else [values]
        self.siblings: list[Any] = list(siblings) if isinstance(siblings, list) else [siblings]
        self.length = max(len(self.values), len(self.siblings))
        self.values += [None] * (self.length - len(self.values))
        self.siblings += [None] * (self.length - len(self.siblings))

    def insert(self, position: int | None, value: _Value) -> None:
        at = self.length if position is None else position
        self.values.insert(at, value.content)
        self.siblings.insert(at, value.sibling)
        self.save()

    def replace(self, position: int, value: _Value) -> None:
        self.values[position], self.siblings[position] = value.content, value.sibling
        self.save()

    def delete(self, position: int) -> None:
        del self.values[position], self.siblings[position]
        self.save()

    def move(self, source: int, destination: int) -> None:
        self.values.insert(destination, self.values.pop(source))
        self.siblings.insert(destination, self.siblings.pop(source))
        self.save()

    def save(self) -> None:
        """Write both arrays back; an array of nothing but nulls is left out (json.html#primitive)."""
        for key, content in ((self.key, self.values), (f"_{self.key}", self.siblings)):
            if any(each is not None for each in content):
                self.data[key] = content
            else:
                self.data.pop(key, None)


# --- operations -------------------------------------------------------------------------------------------------------


class _Patch:
    """The resource under change; `steps` is what is left of the budget."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root
        self.steps = MAX_STEPS

    def apply(self, operation: _Operation) -> None:
        try:
            node = parse(operation.path)
            match operation.type:
                case "add":
                    self.add(operation, node)
                case "insert":
                    self.insert(operation, node)
                case "delete":
                    self.delete(operation, node)
                case "replace":
                    self.replace(operation, node)
                case "move":
                    self.move(operation, node)
        except FhirPathError as error:
            raise BadRequest(f"The path of an operation cannot be used. {error}", expression=operation.at) from error

    def find(self, node: Node, operation: _Operation) -> list[Item]:
        """The elements of this resource at a path."""
        env = Environment(self.root, steps=self.steps)
        found = compile_expression(node).evaluate(self.root, env=env, locate=True)
        self.steps = env.steps
        for item in found:
            top = item
            while top.parent is not None:
                top = top.parent
            if top.value is not self.root or (top is item and item.value is not self.root):
                raise Unprocessable(
                    "The path yields something that is no element of this resource.", expression=operation.at
                )
        return found

    def find_one(self, node: Node, operation: _Operation) -> Item:
        item = self.find_at_most_one(node, operation)
        if item is None:
            raise Unprocessable("The path leads to no element.", code="not-found", expression=operation.at)
        return item

    def find_at_most_one(self, node: Node, operation: _Operation) -> Item | None:
        found = self.find(node, operation)
        if len(found) > 1:
            message = "The path leads to several elements, and must lead to one."
            raise Unprocessable(message, code="multiple-matches", expression=operation.at)
        return found[0] if found else None

    def add(self, operation: _Operation, node: Node) -> None:
        container = self.find_one(node, operation)
        known = element(container.type, operation.name or "")
        if known is None or (is_primitive(container.type) and known.name not in ("id", "extension")):
            raise Unprocessable(
                f"The element at the path ({container.type}) has no element of this name.",
                code="value",
                expression=operation.at,
            )
        assert operation.value is not None
        value = _build(operation.value, known, operation)
        _append(self.as_object(container), known, value, operation)

    def as_object(self, container: Item) -> Item:
        """An Item whose value is an object: of a primitive, the ``_`` sibling, made when there is none yet."""
        if isinstance(container.value, dict):
            return container
        parent, key = container.parent, container.key
        assert parent is not None
        assert key is not None
        if container.element is None:
            container.element = {}
            if container.index is None:
                parent.value[f"_{key}"] = container.element
            else:
                collection = _Collection(parent.value, key)
                collection.replace(container.index, _Value(key, container.value, container.element))
        return Item(container.element, container.type)

    def collection(self, operation: _Operation, node: Node) -> tuple[Item, Element]:
        """The object and the repeating element that the path of insert or move names."""
        if not isinstance(node, Member) or (isinstance(node.source, Focus) and is_known(node.name)):
            raise Unprocessable("The path ends with the name of a repeating element.", expression=operation.at)
        container = self.find_one(node.source if not isinstance(node.source, Focus) else Focus(), operation)
        known = element(container.type, node.name)
        if known is None or not known.many:
            raise Unprocessable("The path ends with the name of a repeating element.", expression=operation.at)
        return self.as_object(container) if not isinstance(container.value, dict) else container, known

    def insert(self, operation: _Operation, node: Node) -> None:
        container, known = self.collection(operation, node)
        assert operation.value is not None
        assert operation.index is not None
        value = _build(operation.value, known, operation)
        collection = _Collection(container.value, value.key)
        if operation.index > collection.length:
            raise Unprocessable("The index is beyond the end of the list.", code="value", expression=operation.at)
        collection.insert(operation.index, value)

    def move(self, operation: _Operation, node: Node) -> None:
        container, known = self.collection(operation, node)
        assert operation.source is not None
        assert operation.destination is not None
        collection = _Collection(container.value, next(iter(known.keys)))
        if max(operation.source, operation.destination) >= collection.length:
            raise Unprocessable("An index is beyond the end of the list.", code="value", expression=operation.at)
        collection.move(operation.source, operation.destination)

    def delete(self, operation: _Operation, node: Node) -> None:
        item = self.find_at_most_one(node, operation)
        if item is None:
            return  # "Path of the element to delete (if found)"
        parent, key = item.parent, item.key
        if parent is None or key is None:
            raise Unprocessable("The whole resource cannot be deleted by a patch.", expression=operation.at)
        data = self.holder(parent)
        if item.index is not None:
            _Collection(data, key).delete(item.index)
        else:
            data.pop(key, None)
            data.pop(f"_{key}", None)

    def replace(self, operation: _Operation, node: Node) -> None:
        item = self.find_one(node, operation)
        parent, key = item.parent, item.key
        if parent is None or key is None:
            raise Unprocessable("The whole resource cannot be replaced by a patch.", expression=operation.at)
        found = json_members(parent.type).get(key)
        assert found is not None
        assert operation.value is not None
        value = _build(operation.value, found[0], operation)
        data = self.holder(parent)
        if item.index is not None:
            _Collection(data, key).replace(item.index, value)
            return
        # The new member stands where the old one stood, also when a choice changes its type.
        renewed: dict[str, Any] = {}
        for name, content in data.items():
            if name in (key, f"_{key}"):
                if value.content is not None:
                    renewed[value.key] = value.content
                if value.sibling is not None:
                    renewed[f"_{value.key}"] = value.sibling
            else:
                renewed[name] = content
        data.clear()
        data.update(renewed)

    @staticmethod
    def holder(parent: Item) -> dict[str, Any]:
        """The object whose members the children of `parent` are."""
        data = parent.value if isinstance(parent.value, dict) else parent.element
        assert isinstance(data, dict)
        return data
