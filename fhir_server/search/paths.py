"""Search parameter expressions as static paths through R4's JSON.

Nearly all expressions of the official parameters are paths, filters by type and a few fixed filters; these become
`Branch`es, from which `extract` generates code and `registry` learns cardinalities and aliases. What is none of these
is None here, and is evaluated by the FHIRPath engine. R4 searchparameter.html, fhirpath.html.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeAlias

from fhir_server import definitions
from fhir_server.fhirpath import parse
from fhir_server.fhirpath.ast import (
    Binary,
    Call,
    External,
    Focus,
    Index,
    Literal,
    Member,
    Node,
    This,
    TypeOp,
    TypeSpecifier,
)


@dataclass(frozen=True, slots=True)
class Get:
    """A JSON member; `many` when it is an array. `choice` is the element's name when it is one of value[x]."""

    key: str
    many: bool
    choice: str = ""


@dataclass(frozen=True, slots=True)
class Where:
    """Only elements whose member `key` has `value`."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class ExtensionWith:
    """The extensions with that url."""

    url: str


@dataclass(frozen=True, slots=True)
class First:
    """Only the first element of the array that the step before leads to."""


@dataclass(frozen=True, slots=True)
class Exist:
    """``x.exists() and x != false`` on the element with these JSON members (Patient.deceased): a boolean, never
    absent.
    """

    keys: tuple[str, ...]


Step: TypeAlias = Get | Where | ExtensionWith | First | Exist


@dataclass(frozen=True, slots=True)
class Branch:
    """One way through a resource: `steps` from its root (of a composite's component: from the focus) to elements of
    `type`.

    `owner`: the type that the last element belongs to ("HumanName" of ``Patient.name.family``). `target`: only
    references to that type (``where(resolve() is Patient)``). `rooted`: begins at the resource although it is a
    component's (``%resource``). `targets`: what the element's definition allows to refer to; `binding`: the value set
    of a required binding.
    """

    steps: tuple[Step, ...]
    type: str
    owner: str = ""
    target: str = ""
    rooted: bool = False
    targets: tuple[str, ...] = ()
    binding: str = ""

    @property
    def single(self) -> bool:
        """Whether at most one element is there."""
        return all(not getattr(step, "many", False) and not isinstance(step, ExtensionWith) for step in self.steps)

    @property
    def signature(self) -> tuple[Any, ...]:
        return (self.steps, self.type, self.rooted)


_ABSTRACT: Final = ("Resource", "DomainResource")


def _ancestors(name: str) -> tuple[str, ...]:
    found = []
    structures = definitions.structures()
    current: str | None = name
    while current:
        found.append(current)
        current = structures.get(current, {}).get("base")
    return tuple(found)


@cache
def _spellings() -> Mapping[str, str]:
    """FHIR type by its lower-case name: the official composites write ``as(DateTime)``."""
    return {name.lower(): name for name in definitions.structures()}


def fhir_type(specifier: Node) -> str | None:
    """The type that a specifier of ``as``, ``is`` or ``ofType`` names."""
    if not isinstance(specifier, TypeSpecifier):
        return None
    structures = definitions.structures()
    return specifier.name if specifier.name in structures else _spellings().get(specifier.name.lower())


def json_key(name: str, type_: str) -> str:
    """Member of a choice in JSON: ("value", "dateTime") -> "valueDateTime"."""
    return name + type_[0].upper() + type_[1:]


def branches(node: Node, context: str) -> list[Branch] | None:
    """The branches of an expression on a `context` (type or backbone path); [] when it never applies, None when not
    static.
    """
    match node:
        case Focus() | This():
            return [Branch((), context)]
        case External(name="resource"):
            return [Branch((), context.split(".", 1)[0], rooted=True)]
        case Binary(op="|", left=left, right=right):
            first, second = branches(left, context), branches(right, context)
            return None if first is None or second is None else first + second
        case Binary(op="and"):
            return _existence(node, context)
        case Member(source=Focus(), name=name) if name[0].isupper():
            return [Branch((), context)] if name in _ancestors(context) else []
        case Member(source=source, name=name):
            return _members(branches(source, context), name)
        case (
            Call(source=source, name="as" | "ofType", args=(specifier,))
            | TypeOp(op="as", operand=source, type=specifier)
        ):
            return _typed(branches(source, context), specifier)
        case Call(source=source, name="where", args=(condition,)):
            return _filtered(branches(source, context), condition)
        case Call(source=source, name="extension", args=(Literal(value=str() as url),)):
            found = branches(source, context)
            if found is None:
                return None
            return [Branch((*one.steps, ExtensionWith(url)), "Extension", one.type, rooted=one.rooted) for one in found]
        case Index(source=source, index=Literal(value=0)):
            found = branches(source, context)
            if found is None or any(not one.steps or not isinstance(one.steps[-1], Get) for one in found):
                return None
            return [_with(one, (*one.steps, First())) for one in found]
        case _:
            return None


def _with(branch: Branch, steps: tuple[Step, ...], target: str | None = None) -> Branch:
    return Branch(
        steps,
        branch.type,
        branch.owner,
        branch.target if target is None else target,
        branch.rooted,
        branch.targets,
        branch.binding,
    )


def _members(sources: list[Branch] | None, name: str) -> list[Branch] | None:
    if sources is None:
        return None
    structures = definitions.structures()
    found: list[Branch] = []
    for source in sources:
        if source.type not in structures or source.type == "Resource":
            return None
        element = structures[source.type]["elements"].get(name)
        if element is None:
            # The name of an element of another of several types (``value.text``), or a misspelling: no value.
            continue
        many = element["max"] != 1
        targets = tuple(element.get("targets") or element.get("canonicalTargets") or ())
        binding = element.get("binding", ("", ""))
        required = binding[1] if binding[0] == "required" else element.get("maxBinding", "")
        types = [element["ref"]] if "ref" in element else element["types"]
        for type_ in types:
            choice = bool(element.get("choice"))
            key = json_key(name, type_) if choice else name
            found.append(
                Branch(
                    (*source.steps, Get(key, many, name if choice else "")),
                    type_,
                    source.type,
                    rooted=source.rooted,
                    targets=targets if type_ in ("Reference", "canonical") else (),
                    binding=required if type_ == "code" else "",
                )
            )
    return found


def _typed(sources: list[Branch] | None, specifier: Node) -> list[Branch] | None:
    wanted = fhir_type(specifier)
    if sources is None or wanted is None:
        return None
    return [one for one in sources if wanted in _ancestors(one.type)]


def _filtered(sources: list[Branch] | None, condition: Node) -> list[Branch] | None:
    if sources is None:
        return None
    match condition:
        case Binary(op="=", left=Member(source=Focus(), name=key), right=Literal(value=str() as value)):
            return [_with(one, (*one.steps, Where(key, value))) for one in sources]
        case TypeOp(op="is", operand=Call(source=Focus(), name="resolve", args=()), type=specifier):
            target = fhir_type(specifier)
            if target is None:
                return None
            return [_with(one, one.steps, target) for one in sources]
        case _:
            return None


def _existence(node: Binary, context: str) -> list[Branch] | None:
    match node:
        case Binary(
            left=Call(source=source, name="exists", args=()),
            right=Binary(op="!=", left=same, right=Literal(value=False)),
        ) if source == same:
            found = branches(source, context)
            if found == []:
                return []
            if not found or any(len(one.steps) != 1 or not one.single for one in found):
                return None
            keys = tuple(one.steps[0].key for one in found if isinstance(one.steps[0], Get))
            return [Branch((Exist(keys),), "boolean", context)]
        case _:
            return None


@cache
def _parsed(expression: str) -> Node:
    return parse(expression)


def of_expression(expression: str, context: str) -> list[Branch] | None:
    """The branches of an expression, as `branches`. Raises FhirPathError when it cannot be parsed."""
    return branches(_parsed(expression), context)
