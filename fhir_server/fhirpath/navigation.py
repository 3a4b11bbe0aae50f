"""Steps from an element to its children, over plain JSON. R4 json.html; fhirpath.html (choice elements, primitives).

Two kinds: over JSON values whose type the compiler knows, and over Items, which also remember where they were found.
"""

from __future__ import annotations

from typing import Any

from fhir_server.fhirpath.code import EMPTY, Code
from fhir_server.fhirpath.model import TEMPORAL, Element, element, is_known, is_primitive, is_resource, json_members
from fhir_server.fhirpath.quantities import Quantity
from fhir_server.fhirpath.values import Environment, Item

_OBJECT_MEMBERS = ("id", "extension")


# --- over Items -------------------------------------------------------------------------------------------------------


def resource_type_of(value: Any) -> str:
    """The type of a resource found where R4 allows any resource."""
    name = value.get("resourceType") if value.__class__ is dict else None
    return name if isinstance(name, str) and is_resource(name) else "Resource"


def _emit(parent: Item, data: dict[str, Any], key: str, type_name: str, out: list[Item]) -> None:
    """Append the elements of one JSON member, siblings with ``_`` merged in."""
    value = data.get(key)
    if is_primitive(type_name):
        sibling = data.get("_" + key)
        if value.__class__ is list or sibling.__class__ is list:
            values = value if isinstance(value, list) else EMPTY
            siblings = sibling if isinstance(sibling, list) else EMPTY
            for position in range(max(len(values), len(siblings))):
                each = values[position] if position < len(values) else None
                extra = siblings[position] if position < len(siblings) else None
                if each is not None or extra is not None:
                    out.append(Item(each, type_name, extra, parent, key, position))
        elif value is not None or sibling is not None:
            out.append(Item(value, type_name, sibling, parent, key))
        return
    if value is None:
        return
    any_resource = type_name == "Resource"
    if value.__class__ is list:
        for position, each in enumerate(value):
            out.append(Item(each, resource_type_of(each) if any_resource else type_name, None, parent, key, position))
    else:
        out.append(Item(value, resource_type_of(value) if any_resource else type_name, None, parent, key))


def emit_choice(parent: Item, data: dict[str, Any], keys: dict[str, str], out: list[Item]) -> None:
    """Append the value of a choice element; the object's members are looked at, for they are fewer than the types."""
    for key in data:
        type_name = keys.get(key)
        if type_name is not None:
            _emit(parent, data, key, type_name, out)
        elif key[0:1] == "_":
            key = key[1:]
            type_name = keys.get(key)
            if type_name is not None and key not in data:
                _emit(parent, data, key, type_name, out)


def _guess_type(value: Any) -> str:
    """A type for content of types that the definitions do not have (type(), say)."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, dict):
        return resource_type_of(value) if "resourceType" in value else "Element"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int):
        return "integer"
    return "string" if isinstance(value, str) else "decimal"


def members_of_item(item: Item, name: str, out: list[Item]) -> None:
    """Append the children `name` of one Item."""
    data = item.value
    if data.__class__ is dict:
        known = element(item.type, name)
        if known is None:
            if name in data and not is_known(item.type):
                _emit(item, data, name, _guess_type(data[name]), out)
        elif known.choice:
            emit_choice(item, data, known.keys, out)
        else:
            for key, type_name in known.keys.items():
                _emit(item, data, key, type_name, out)
    elif name == "value" and item.type[:7] != "System.":
        # R4 fhirpath.html: the child `value` of a primitive is its system value.
        if data is not None:
            out.append(Item(data, item.type, None, item.parent, item.key, item.index))
    elif isinstance(data, Quantity):
        if name == "value":
            out.append(Item(data.value, "System.Decimal"))
        elif name in ("unit", "code"):
            out.append(Item(data.unit, "System.String"))
    elif item.element is not None and name in _OBJECT_MEMBERS and isinstance(item.element, dict):
        _emit(item, item.element, name, "string" if name == "id" else "Extension", out)


def children_of_item(item: Item, out: list[Item]) -> None:
    """Append all children of one Item."""
    data = item.value
    if data.__class__ is dict:
        members = json_members(item.type)
        for key, value in data.items():
            if key[0:1] == "_":
                key = key[1:]
                if key in data:
                    continue
            known = members.get(key)
            if known is not None:
                _emit(item, data, key, known[1], out)
            elif key != "resourceType" and not is_known(item.type):
                _emit(item, data, key, _guess_type(value), out)
    elif isinstance(item.element, dict):
        for key in _OBJECT_MEMBERS:
            if key in item.element:
                _emit(item, item.element, key, "string" if key == "id" else "Extension", out)


def descendants(env: Environment, roots: list[Item]) -> list[Item]:
    """children(), their children() and so on, in document order, the roots not among them."""
    found: list[Item] = []
    for root in roots:
        stack: list[Item] = []
        children_of_item(root, stack)
        stack.reverse()
        while stack:
            env.spend(1)
            item = stack.pop()
            found.append(item)
            if item.value.__class__ is dict or item.element is not None:
                below: list[Item] = []
                children_of_item(item, below)
                below.reverse()
                stack += below
    return found


def count_children(value: Any) -> int:
    """children().count() of a JSON value, without making the children."""
    if value.__class__ is Item:
        element_ = value.element if value.value.__class__ is not dict else value.value
        return 0 if element_ is None else count_children(element_)
    if value.__class__ is not dict:
        return 0
    total = 0
    for key, member in value.items():
        if key[0:1] == "_":
            plain = value.get(key[1:])
            if plain is None:
                total += sum(each is not None for each in member) if member.__class__ is list else 1
            elif member.__class__ is list and plain.__class__ is list:
                # Null in the values stands for an element that has only the sibling.
                total += sum(
                    each is not None and (position >= len(plain) or plain[position] is None)
                    for position, each in enumerate(member)
                )
        elif member.__class__ is list:
            total += len(member) - member.count(None)
        elif key != "resourceType" and member is not None:
            total += 1
    return total


# --- over JSON values of a known type ---------------------------------------------------------------------------------


def _merge(values: Any, siblings: Any, type_name: str) -> list[Any]:
    """The elements of a primitive that repeats and has siblings."""
    values = values if values.__class__ is list else EMPTY
    siblings = siblings if siblings.__class__ is list else EMPTY
    merged: list[Any] = []
    for position in range(max(len(values), len(siblings))):
        value = values[position] if position < len(values) else None
        extra = siblings[position] if position < len(siblings) else None
        if extra is not None:
            merged.append(Item(value, type_name, extra))
        elif value is not None:
            merged.append(value)
    return merged


def member(source: Code, known: Element) -> Code:
    """`source.name` where every element of `source` has the same known type."""
    if known.choice:
        return _choice_member(source, known)
    ((key, type_name),) = known.keys.items()
    if type_name == "Resource":
        return _resource_member(source, key)
    if is_primitive(type_name):
        return _primitive_member(source, key, type_name, known.many)
    return _complex_member(source, key, type_name, known.many)


def _complex_member(source: Code, key: str, type_name: str, many: bool) -> Code:
    before = source.run
    if source.is_this:
        if many:
            return Code(
                lambda env, this: this.get(key, EMPTY),
                type_name,
                exists=lambda env, this: key in this,
            )

        def one(env: Environment, this: Any) -> list[Any]:
            value = this.get(key)
            return EMPTY if value is None else [value]

        return Code(one, type_name, single=True, exists=lambda env, this: key in this)
    if many:
        return Code(lambda env, this: [each for data in before(env, this) for each in data.get(key, EMPTY)], type_name)
    return Code(
        lambda env, this: [value for data in before(env, this) if (value := data.get(key)) is not None],
        type_name,
        single=source.single,
    )


def _primitive_member(source: Code, key: str, type_name: str, many: bool) -> Code:
    before = source.run
    sibling_key = "_" + key
    plain = type_name not in TEMPORAL
    if source.is_this:
        if many:

            def all_of_this(env: Environment, this: Any) -> list[Any]:
                if sibling_key in this:
                    return _merge(this.get(key), this[sibling_key], type_name)
                return this.get(key, EMPTY)

            return Code(all_of_this, type_name, exists=lambda env, this: key in this or sibling_key in this)

        def one_of_this(env: Environment, this: Any) -> list[Any]:
            value = this.get(key)
            if sibling_key in this:
                return [Item(value, type_name, this[sibling_key])]
            return EMPTY if value is None else [value]

        return Code(
            one_of_this,
            type_name,
            single=True,
            exists=lambda env, this: key in this or sibling_key in this,
            scalar=(lambda env, this: this.get(key)) if plain else None,
            key=key,
        )
    if many:

        def all_of_each(env: Environment, this: Any) -> list[Any]:
            found: list[Any] = []
            for data in before(env, this):
                if sibling_key in data:
                    found += _merge(data.get(key), data[sibling_key], type_name)
                else:
                    found += data.get(key, EMPTY)
            return found

        return Code(all_of_each, type_name)

    def one_of_each(env: Environment, this: Any) -> list[Any]:
        found: list[Any] = []
        for data in before(env, this):
            value = data.get(key)
            if sibling_key in data:
                found.append(Item(value, type_name, data[sibling_key]))
            elif value is not None:
                found.append(value)
        return found

    return Code(one_of_each, type_name, single=source.single)


def _choice_member(source: Code, known: Element) -> Code:
    before, keys, source_type = source.run, known.keys, source.type or ""

    def run(env: Environment, this: Any) -> list[Any]:
        found: list[Item] = []
        for data in before(env, this):
            emit_choice(Item(data, source_type), data, keys, found)
        return found

    exists = None
    if source.is_this:
        absent = frozenset([*keys, *("_" + key for key in keys)]).isdisjoint

        def exists(env: Environment, this: Any) -> bool:
            return not absent(this)

    return Code(run, None, single=source.single and not known.many, exists=exists)


def _resource_member(source: Code, key: str) -> Code:
    before, source_type = source.run, source.type or ""

    def run(env: Environment, this: Any) -> list[Any]:
        found: list[Item] = []
        for data in before(env, this):
            if key in data:
                _emit(Item(data, source_type), data, key, "Resource", found)
        return found

    return Code(run, None, exists=(lambda env, this: key in this) if source.is_this else None)


def member_of_primitive(source: Code, name: str) -> Code | None:
    """`id`, `extension` and `value` of primitives of a known type; None for anything else."""
    before = source.run
    if name == "value":
        return source
    if name == "id":
        return Code(
            lambda env, this: [
                value.element["id"]
                for value in before(env, this)
                if value.__class__ is Item and value.element and "id" in value.element
            ],
            "string",
            single=source.single,
        )
    if name == "extension":
        return Code(
            lambda env, this: [
                each
                for value in before(env, this)
                if value.__class__ is Item and value.element
                for each in value.element.get("extension", EMPTY)
            ],
            "Extension",
        )
    return None


def member_of_items(source: Code, name: str) -> Code:
    """`source.name` where the types are found at run time."""
    before = source.run

    def run(env: Environment, this: Any) -> list[Any]:
        found: list[Item] = []
        for item in before(env, this):
            members_of_item(item, name, found)
        return found

    return Code(run, None)
