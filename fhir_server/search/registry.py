"""Which search parameters there are: R4's own, and the active SearchParameter resources that are stored on the server.

R4 searchparameter.html, searchparameter-registry.html. A Registry is immutable; when a custom parameter comes, goes or
becomes ready, a new one with another `version` takes its place.

    registry = builtin()                                              R4's parameters alone
    registry = build(stored, version=7, numbers=numbers, ready=urls)   and the stored ones
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from fhir_server import definitions
from fhir_server.errors import Issue
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.search import paths
from fhir_server.search.paths import Branch, Get

ParamType = Literal["number", "date", "string", "token", "reference", "composite", "quantity", "uri", "special"]

VALUE: Final = 0
TEXT: Final = 1
OF_TYPE: Final = 2
IDENTIFIER: Final = 3
CANONICAL_UNIT: Final = 4
WORDS: Final = 5
"""Variants of a parameter's entries; see docs/architecture.md, "Index entries"."""

FIRST_CUSTOM: Final = 100_000
"""Numbers of custom (type, code) pairs begin here."""

NUMBERS_FILE: Final = Path(__file__).parent / "definitions" / "numbers.json"

CONTENT: Final = "(content)"
"""What `numbers.json` calls the entries that say at which Binaries a resource points (resources/content.py). They
belong to no search parameter: nothing that a client asks for leads to them.
"""

FIELDS: Final = frozenset({"_id", "_lastUpdated", "_type"})
"""Parameters that are answered from the resource's row, not from entries."""

#: Parameters of every type (search.html#all) and what they are; `_text` applies to DomainResources only.
SPECIAL: Final = frozenset({"_content", "_filter", "_has", "_list", "_query", "_text", "_type"})

_RANGE_TYPES: Final = frozenset({"date", "number", "quantity", "composite"})


@dataclass(frozen=True)
class Component:
    """One part of a composite: its type, and its expression relative to the composite's focus."""

    type: ParamType
    expression: str
    branches: tuple[Branch, ...] | None = field(repr=False, compare=False)
    targets: tuple[str, ...] = ()


@dataclass(frozen=True)
class Param:
    """A search parameter of one resource type.

    `numbers`: the numbers (variant 0) of the entries that answer it. Usually its own; those of other parameters when it
    is a view of them (Observation.combo-code is code and component-code, Observation.patient is subject with `restrict`
    = "Patient"), and then nothing is stored for it. `number` is its own in any case. `single`: a resource has at most
    one entry. `targets`: resource types that a reference may have. `branches` is None when only FHIRPath can evaluate
    it.
    `words`: parts of names or addresses, where a search meets the beginning of any word. `ready`: False while a custom
    parameter is not indexed everywhere yet; a search by it is refused.
    """

    type_name: str
    code: str
    type: ParamType
    expression: str
    number: int
    numbers: tuple[int, ...]
    targets: tuple[str, ...] = ()
    components: tuple[Component, ...] = ()
    single: bool = False
    url: str = ""
    builtin: bool = True
    ready: bool = True
    usage: str = "normal"
    restrict: str = ""
    words: bool = False
    documentation: str = ""
    multiple_or: bool = True
    multiple_and: bool = True
    branches: tuple[Branch, ...] | None = field(default=(), repr=False, compare=False)

    @property
    def shape(self) -> Literal["key", "range"]:
        """Of its entries, as `ast.Exists` has it."""
        return "range" if self.type in _RANGE_TYPES or self.code == "near" else "key"

    @property
    def stored(self) -> bool:
        """Whether entries are written under its own number."""
        return self.numbers == (self.number,) and self.code not in FIELDS

    @property
    def canonical(self) -> bool:
        """Whether some of its values are canonicals (``url|version``)."""
        return self.branches is not None and any(branch.type == "canonical" for branch in self.branches)

    def variant(self, *variants: int) -> tuple[int, ...]:
        """The numbers of these variants of its entries."""
        return tuple(number + variant for number in self.numbers for variant in variants)


def param_id(number: int, variant: int = VALUE) -> int:
    """The number in an index entry: the frozen number of (type, code) times 16, plus the variant (0 to 7)."""
    return number * 16 + variant


@cache
def _bases() -> Mapping[str, tuple[str, ...]]:
    """Concrete type -> itself and the abstract types that it is."""
    structures = definitions.structures()
    found = {}
    for name in definitions.resource_types():
        domain = structures[name].get("base") == "DomainResource"
        found[name] = (name, "DomainResource", "Resource") if domain else (name, "Resource")
    return found


@cache
def _definitions_by_type() -> Mapping[str, tuple[Mapping[str, Any], ...]]:
    by_base: dict[str, list[Mapping[str, Any]]] = {}
    for item in definitions.search_parameters():
        for base in item["base"]:
            by_base.setdefault(base, []).append(item)
    return {
        name: tuple(
            sorted((item for base in bases for item in by_base.get(base, ())), key=lambda one: str(one["code"]))
        )
        for name, bases in _bases().items()
    }


def indexed_codes(type_name: str) -> list[str]:
    """Codes of a type that have, or could have, index entries; sorted."""
    without = FIELDS | {"_filter", "_has", "_list", "_query"}
    return [item["code"] for item in _definitions_by_type()[type_name] if item["code"] not in without]


@cache
def _frozen() -> Mapping[str, Mapping[str, int]]:
    numbers: dict[str, dict[str, int]] = json.loads(NUMBERS_FILE.read_text(encoding="utf-8"))
    return numbers


def content_number(type_name: str) -> int:
    """The number of a type's `CONTENT` entries."""
    return param_id(_frozen()[type_name][CONTENT])


@cache
def _by_url() -> Mapping[str, Mapping[str, Any]]:
    return {item["url"]: item for item in definitions.search_parameters() if "url" in item}


# --- one parameter ----------------------------------------------------------------------------------------------------


def _branches(expression: str, context: str) -> tuple[Branch, ...] | None:
    found = paths.of_expression(expression, context)
    return None if found is None else tuple(dict.fromkeys(found))


def _component_type(declared: ParamType, found: tuple[Branch, ...] | None) -> ParamType:
    """DocumentReference.relationship names the definitions of its two components the wrong way round: the code would
    be a reference, and the target a token. The elements decide.
    """
    types = {branch.type for branch in found or ()}
    if declared == "reference" and types == {"code"}:
        return "token"
    if declared == "token" and types == {"Reference"}:
        return "reference"
    return declared


def _components(
    source: Iterable[Mapping[str, Any]], found: tuple[Branch, ...] | None, known: Mapping[str, Mapping[str, Any]]
) -> tuple[Component, ...]:
    focus = found[0].type if found else "Resource"
    components = []
    for item in source:
        definition = known.get(item["definition"].split("|", 1)[0])
        if definition is None:
            raise KeyError(item["definition"])
        branches = _branches(item["expression"], focus)
        components.append(
            Component(
                _component_type(definition["type"], branches),
                item["expression"],
                branches,
                tuple(definition.get("target", ())),
            )
        )
    return tuple(components)


def _targets(declared: Iterable[str], found: tuple[Branch, ...] | None) -> tuple[str, ...]:
    """Declared targets, as far as the elements allow them: ``clinical-patient`` names Group for all of its types."""
    concrete = set(_bases())
    named = {target for target in declared if target in concrete} or concrete
    allowed: set[str] = set()
    for branch in found or ():
        if branch.target:
            allowed.add(branch.target)
        elif branch.type == "Resource" or not branch.targets:
            return tuple(sorted(named))
        else:
            allowed.update(branch.targets)
    return tuple(sorted(named & allowed or named))


def _single(type_: str, found: tuple[Branch, ...] | None) -> bool:
    """Whether there can be one entry only: one element, or the alternatives of one choice."""
    if not found or not all(branch.single for branch in found):
        return False
    places = set()
    for branch in found:
        last = branch.steps[-1] if branch.steps else None
        name = (last.choice or last.key) if isinstance(last, Get) else str(last)
        places.add((branch.steps[:-1], name))
    if len(places) > 1 or type_ in ("string", "composite"):
        return False
    return not any(branch.type in ("CodeableConcept", "Extension", "Resource") for branch in found)


_WORDY: Final = frozenset({"HumanName", "Address"})


def _words(type_: str, found: tuple[Branch, ...] | None) -> bool:
    return type_ == "string" and any(one.type in _WORDY or one.owner in _WORDY for one in found or ())


def _official(type_name: str, item: Mapping[str, Any]) -> Param:
    code = item["code"]
    number = param_id(_frozen()[type_name].get(code, 0))
    expression = item.get("expression", "")
    found = _branches(expression, type_name) if expression else ()
    components = _components(item.get("component", ()), found, _by_url())
    reference = item["type"] == "reference"
    return Param(
        type_name=type_name,
        code=code,
        type=item["type"],
        expression=expression,
        number=number,
        numbers=(number,) if number else (),
        targets=_targets(item.get("target", ()), found) if reference else (),
        components=components,
        single=_single(item["type"], found),
        url=item.get("url", ""),
        usage=item.get("xpathUsage", "normal"),
        words=_words(item["type"], found),
        multiple_or=item.get("multipleOr", True),
        multiple_and=item.get("multipleAnd", True),
        branches=found,
    )


def _kind(param: Param) -> tuple[Any, ...]:
    # Bundle.composition and Bundle.message have one expression, and different entries: its first resource, of a type.
    inline = any(branch.type == "Resource" for branch in param.branches or ())
    parts = tuple((one.type, one.expression) for one in param.components)
    return (param.type, param.usage, parts, param.targets if inline else ())


def _view(param: Param, others: list[Param]) -> Param:
    """The parameter as a view of others, when their entries are exactly those that it would have; else itself.

    It saves a good part of the index: Observation.patient alone would repeat every subject.
    """
    if not param.branches or param.usage == "nearby":
        return param
    own = {branch.signature: branch for branch in param.branches}
    targets = {branch.target for branch in param.branches}
    if len(targets) > 1:
        return param
    restrict = targets.pop()
    open_ = [
        other
        for other in others
        if other.branches
        and _kind(other) == _kind(param)
        and not any(branch.target for branch in other.branches)
        and {branch.signature for branch in other.branches} <= own.keys()
    ]
    rest, used = set(own), []
    for other in sorted(open_, key=lambda one: -len(one.branches or ())):
        signatures = {branch.signature for branch in other.branches or ()}
        if signatures <= rest:
            rest -= signatures
            used.append(other)
    if rest or not used or (restrict and param.type != "reference"):
        return param
    numbers = tuple(number for other in used for number in other.numbers)
    return replace(param, numbers=numbers, restrict=restrict, single=param.single and len(numbers) == 1)


@cache
def _builtin_params(type_name: str) -> Mapping[str, Param]:
    plain = [_official(type_name, item) for item in _definitions_by_type()[type_name]]
    result: dict[str, Param] = {}
    own: list[Param] = []
    # Parameters with few branches first, so that larger ones become views of them; then by code, for a stable choice.
    for param in sorted(plain, key=lambda one: (len(one.branches or ()), bool(_restricted(one)), one.code)):
        viewed = param if param.code.startswith("_") else _view(param, own)
        if viewed is param and not param.code.startswith("_"):
            own.append(param)
        result[param.code] = viewed
    return MappingProxyType(dict(sorted(result.items())))


def _restricted(param: Param) -> str:
    return next((branch.target for branch in param.branches or () if branch.target), "")


# --- custom parameters ------------------------------------------------------------------------------------------------


def effective(resource: Mapping[str, Any]) -> bool:
    """Whether a stored SearchParameter takes part in searches: active, with an expression. Others are only stored."""
    return (
        resource.get("resourceType") == "SearchParameter"
        and resource.get("status") == "active"
        and bool(resource.get("expression"))
        and bool(resource.get("base"))
        and resource.get("type") != "special"
    )


def custom_bases(resource: Mapping[str, Any]) -> tuple[str, ...]:
    """Concrete types that a SearchParameter applies to; types that R4 does not have are left out."""
    wanted = set(resource.get("base", ()))
    return tuple(name for name, bases in _bases().items() if wanted.intersection(bases))


def problems(resource: Mapping[str, Any]) -> list[Issue]:
    """Why an effective SearchParameter cannot be: each issue is one for an ``Unprocessable`` (422) answer to its write.

    A (base, code) that R4 itself defines, an expression that is no FHIRPath, components that are unknown or missing,
    a code that starts with an underscore.
    """
    if not effective(resource):
        return []
    found: list[Issue] = []

    def issue(message: str, path: str) -> None:
        found.append(Issue("error", "business-rule", message, (f"SearchParameter.{path}",)))

    code = str(resource.get("code", ""))
    if not code or code.startswith("_") or any(character in code for character in ".:$|,\\ "):
        issue(
            "The code of an active search parameter must be usable in a URL and not begin with an underscore.", "code"
        )
    # Both the resource's own canonical and a copy of an official one conflict: the built-in stays in force.
    for name in custom_bases(resource):
        if code in _builtin_params(name):
            issue(f"R4 defines a search parameter with this code for {name}; it cannot be defined again.", "base")
            break
    if not custom_bases(resource):
        issue("An active search parameter must apply to a resource type of R4.", "base")
    try:
        for name in custom_bases(resource):
            paths.of_expression(str(resource["expression"]), name)
    except FhirPathError:
        issue("The expression is not FHIRPath that this server understands.", "expression")
    if resource.get("type") == "composite":
        components = resource.get("component") or ()
        known = all(str(one.get("definition", "")).split("|", 1)[0] in _by_url() for one in components)
        if len(components) not in (2, 3) or not known:
            issue("A composite needs two or three components, each defined by a search parameter of R4.", "component")
        else:
            for one in components:
                try:
                    paths.of_expression(str(one["expression"]), "Resource")
                except FhirPathError:
                    issue("The expression of a component is not FHIRPath that this server understands.", "component")
    return found


def assign_numbers(stored: Iterable[Mapping[str, Any]], recorded: Mapping[str, int]) -> dict[str, int]:
    """`recorded` and new numbers for the (type, code) pairs of effective custom parameters that have none yet.

    Shape: ``{"Patient.shoe-size": 100000}``. Numbers are never reused: the store keeps this table for good.
    """
    numbers = dict(recorded)
    following = 1 + max(numbers.values(), default=FIRST_CUSTOM - 1)
    for resource in stored:
        if effective(resource):
            for name in custom_bases(resource):
                key = f"{name}.{resource['code']}"
                if key not in numbers:
                    numbers[key] = following
                    following += 1
    return numbers


def _custom(type_name: str, resource: Mapping[str, Any], number: int, ready: bool) -> Param:
    kind = resource["type"]
    expression = str(resource["expression"])
    found = _branches(expression, type_name)
    identifier = param_id(number)
    return Param(
        type_name=type_name,
        code=resource["code"],
        type=kind,
        expression=expression,
        number=identifier,
        numbers=(identifier,),
        targets=_targets(resource.get("target", ()), found) if kind == "reference" else (),
        components=_components(resource.get("component") or (), found, _by_url()),
        single=_single(kind, found),
        url=resource.get("url", ""),
        builtin=False,
        ready=ready,
        usage=resource.get("xpathUsage", "normal"),
        words=_words(kind, found),
        documentation=resource.get("description", ""),
        multiple_or=resource.get("multipleOr", True),
        multiple_and=resource.get("multipleAnd", True),
        branches=found,
    )


# --- the registry -----------------------------------------------------------------------------------------------------


class Registry:
    """Search parameters by type and code. Immutable; share it between threads.

    `version` changes whenever the set of indexed parameters does: versions of resources record it (`Version.registry`).
    """

    def __init__(self, version: int = 0, custom: Mapping[str, Mapping[str, Param]] | None = None) -> None:
        self.version = version
        self._custom = custom or {}
        self._merged: dict[str, Mapping[str, Param]] = {}

    def params(self, type_name: str) -> Mapping[str, Param]:
        """The parameters of a resource type by code, the common ones included. Raises KeyError for an unknown type."""
        found = self._merged.get(type_name)
        if found is None:
            found = _builtin_params(type_name)
            extra = self._custom.get(type_name)
            if extra:
                found = MappingProxyType({**extra, **found})
            self._merged[type_name] = found
        return found

    def param(self, type_name: str, code: str) -> Param | None:
        """One parameter, None when the type does not define it."""
        return self.params(type_name).get(code)

    @cached_property
    def common(self) -> Mapping[str, Param]:
        """The parameters that every type has; their numbers are those of all types."""
        result = {}
        for code in ("_content", "_profile", "_security", "_source", "_tag", "_text"):
            of_types = [param for name in _bases() if (param := self.param(name, code)) is not None]
            numbers = tuple(number for param in of_types for number in param.numbers)
            result[code] = replace(of_types[0], type_name="Resource", numbers=numbers)
        for code in ("_id", "_lastUpdated", "_type"):
            result[code] = self.params("Patient")[code]
        return MappingProxyType(result)

    @property
    def types(self) -> tuple[str, ...]:
        """Every concrete resource type."""
        return tuple(_bases())

    def describe(self, type_name: str) -> dict[str, Any]:
        """What CapabilityStatement.rest.resource says of searches: searchParam, searchInclude, searchRevInclude."""
        described = []
        for param in self.params(type_name).values():
            if param.code in ("_query", "_type") or not param.ready:
                continue
            item = {"name": param.code}
            if param.url:
                item["definition"] = param.url
            item["type"] = param.type
            if param.documentation:
                item["documentation"] = param.documentation
            described.append(item)
        includes = [
            f"{type_name}:{param.code}" for param in self.params(type_name).values() if param.type == "reference"
        ]
        return {
            "searchParam": described,
            "searchInclude": ["*", *includes],
            "searchRevInclude": list(self._pointing_at.get(type_name, ())),
        }

    @cached_property
    def _pointing_at(self) -> Mapping[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for name in _bases():
            for param in self.params(name).values():
                for target in param.targets if param.type == "reference" else ():
                    found.setdefault(target, []).append(f"{name}:{param.code}")
        return {name: tuple(pairs) for name, pairs in found.items()}


@cache
def builtin() -> Registry:
    """R4's own parameters, version 0."""
    return Registry()


def build(
    stored: Iterable[Mapping[str, Any]],
    *,
    version: int,
    numbers: Mapping[str, int],
    ready: Container[str] = (),
) -> Registry:
    """A registry with the effective SearchParameter resources among `stored`.

    `numbers` comes from `assign_numbers`. `ready` holds the ``Type.code`` pairs that are indexed completely on all
    workers; others are extracted already, and refused in searches. Of two resources that define the same pair the first
    wins; those with `problems` are left out.
    """
    custom: dict[str, dict[str, Param]] = {}
    for resource in stored:
        if not effective(resource) or problems(resource):
            continue
        for name in custom_bases(resource):
            key = f"{name}.{resource['code']}"
            if key in numbers and resource["code"] not in custom.get(name, {}):
                param = _custom(name, resource, numbers[key], key in ready)
                custom.setdefault(name, {})[param.code] = param
    return Registry(version, custom)
