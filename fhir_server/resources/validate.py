"""Resource -> findings: a validator compiled from R4's StructureDefinitions. R4 validation.html; the choices are in
docs/validation.md.

    found = validate(resource)                     # all findings, errors and warnings
    warnings = check(resource)                     # raises Invalid (400) or Unprocessable (422) when there is an error

For each type a table "JSON member -> function" is compiled when the type is first met, and a small generated
function that walks an object's members through it, then looks for missing elements, doubled choices and broken
invariants. Nothing is built on the way but a linked tuple per level (parent, element, index), from which the
FHIRPath of a finding is written when there is one.

400 (`Findings.structural`): unknown members, types, formats, cardinality, null padding. 422: required bindings,
invariants, contained resources, narratives, dangling ``urn:`` and ``#`` references. Messages name elements, never
values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Literal, TypeAlias

from fhir_server.definitions import required_codes, resource_types, structures
from fhir_server.errors import Invalid, Issue, Unprocessable
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.resources import invariants, narrative
from fhir_server.resources.primitives import CHECKS, EXPECTED, MAX_STRING, is_element_id

Mode = Literal["default", "strict"]
Path: TypeAlias = "tuple[Path | None, str, int | None]"
"""(path of the parent, element, index); the root has no parent and its type as element."""

MAX_DEPTH: Final = 100
"""How often an element may contain one of its own kind (extension in extension, item in item, Bundle in Bundle)."""

MAX_LISTED: Final = 500
"""How many errors, and how many warnings, are listed; a body of 64 MB could have millions."""

PUBLISHED_FAULTS: Final[dict[str, str]] = {
    "CapabilityStatement.format": "`json` and `xml` are no media types, but stand for them",
    "ImplementationGuide.name": "absent",
    "ImplementationGuide.status": "absent",
    "Questionnaire.item.linkId": "absent",
    "SearchParameter.base": "absent",
    "TestScript.*.accept, .contentType": "`json` and `xml` are no media types, but stand for them",
    "bdl-7": "a Bundle repeats a fullUrl",
    "sdf-4": "a logical model that is not abstract has no baseDefinition",
    "txt-2": "a narrative without content",
}
"""Rules that R4's own publications break, and how: warnings on write, errors when strict. docs/validation.md lists

them.
"""


@dataclass(slots=True)
class Findings:
    """What a validation found. `structural` says that at least one error is one of syntax or structure (400 rather

    than 422).
    """

    issues: list[Issue] = field(default_factory=list)
    structural: bool = False
    #: How many of each severity there are, listed or not.
    counts: dict[str, int] = field(default_factory=lambda: {"error": 0, "warning": 0})

    def add(self, severity: Literal["error", "warning"], code: str, message: str, path: Path | None) -> None:
        """One more finding; beyond `MAX_LISTED` of its severity it is only counted."""
        self.counts[severity] += 1
        if self.counts[severity] < MAX_LISTED:
            self.issues.append(Issue(severity, code, message, (expression(path),)))
        elif self.counts[severity] == MAX_LISTED:
            self.issues.append(Issue(severity, "incomplete", f"There are more {severity}s, which are not listed."))

    @property
    def errors(self) -> list[Issue]:
        return [issue for issue in self.issues if issue.severity in ("error", "fatal")]

    @property
    def warnings(self) -> list[Issue]:
        return [issue for issue in self.issues if issue.severity not in ("error", "fatal")]


def validate(resource: Any, *, mode: Mode = "default", resolvable: Collection[str] = ()) -> Findings:
    """Every finding in one resource, in document order.

    mode        "strict" makes errors of the two kinds of fault that are warnings otherwise: a reference to a type that
                the element does not allow, and `PUBLISHED_FAULTS`. ``$validate`` is always strict.
    resolvable  the ``urn:`` references that the caller will resolve (fullUrls of a transaction). Others are dangling,
                except inside a Bundle, whose entries refer to each other by fullUrl.

    Never raises for whatever JSON it is given.
    """
    run = _Run(mode == "strict", resolvable)
    type_name = resource.get("resourceType") if isinstance(resource, dict) else None
    if not isinstance(type_name, str) or type_name not in _TYPES:
        run.structure((None, "$this", None), "A resource is an object whose resourceType is a type of R4.")
        return run.findings
    try:
        _resource(type_name)(resource, (None, type_name, None), run)
    except RecursionError:
        run.structure((None, type_name, None), "The resource is nested too deeply.", "too-long")
    return run.findings


def check(resource: Any, *, mode: Mode = "default", resolvable: Collection[str] = ()) -> list[Issue]:
    """The warnings of a resource that may be stored.

    Raises Invalid (400) with all findings if one is a fault of syntax or structure, Unprocessable (422) if there are
    only others.
    """
    found = validate(resource, mode=mode, resolvable=resolvable)
    if found.counts["error"]:
        raise (Invalid if found.structural else Unprocessable)(issues=found.issues)
    return found.issues


# --- one validation ---------------------------------------------------------------------------------------------------

_SHOWN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")


def expression(path: Path | None) -> str:
    """The FHIRPath that a path stands for: ``Patient.name[0].given[1]``."""
    parts: list[str] = []
    while path is not None:
        parent, name, index = path
        parts.append(name if index is None else f"{name}[{index}]")
        path = parent
    return ".".join(reversed(parts))


class _Run:
    """State of one validation: the findings, and the resource that the walk is in."""

    __slots__ = (
        "_environment",
        "_environment_of",
        "bundles",
        "depth",
        "findings",
        "local",
        "resolvable",
        "resource",
        "root",
        "strict",
    )

    def __init__(self, strict: bool, resolvable: Collection[str]) -> None:
        self.findings = Findings()
        self.strict = strict
        self.resolvable = resolvable
        self.depth = 0
        self.bundles = 0
        self.resource: dict[str, Any] = {}
        self.root: dict[str, Any] = {}
        #: Local references ("#p1") of the current container: text, path, and of a Reference the allowed types and its
        #: own `type`.
        self.local: list[tuple[str, Path, frozenset[str] | None, str | None]] = []
        self._environment: Any = None
        self._environment_of: Any = None

    @property
    def environment(self) -> Any:
        """The FHIRPath environment of the current resource."""
        if self._environment_of is not self.resource:
            from fhir_server.fhirpath import Environment

            self._environment = Environment(self.resource, self.root)
            self._environment_of = self.resource
        return self._environment

    def structure(self, path: Path | None, message: str, code: str = "structure") -> None:
        """A fault of syntax or structure: 400."""
        self.findings.structural = True
        self.findings.add("error", code, message, path)

    def rule(self, path: Path | None, message: str, code: str) -> None:
        """A broken rule: 422."""
        self.findings.add("error", code, message, path)

    def warn(self, path: Path | None, message: str, code: str) -> None:
        self.findings.add("warning", code, message, path)

    def tolerate(self, path: Path | None, message: str, code: str) -> None:
        """A fault that is a warning by default and an error when strict."""
        self.findings.add("error" if self.strict else "warning", code, message, path)

    def broken(self, invariant: invariants.Invariant, path: Path) -> None:
        message = f"{invariant.key}: {invariant.human}"
        if invariant.severity != "error":
            self.warn(path, message, "invariant")
        elif invariant.key in PUBLISHED_FAULTS:
            self.tolerate(path, message, "invariant")
        else:
            self.rule(path, message, "invariant")

    def evaluate(self, invariant: invariants.Invariant, element: Any, path: Path) -> None:
        """Run an invariant that is a function."""
        assert invariant.check is not None
        try:
            if invariant.check(element, self) is False:
                self.broken(invariant, path)
        except FhirPathError:
            self.warn(path, f"{invariant.key} could not be evaluated: {invariant.human}", "incomplete")
        except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError):
            # Invariants rely on the structure; where it is at fault, that has been said already.
            if not self.findings.structural:
                raise

    def unknown(self, name: str, path: Path) -> None:
        if _SHOWN.match(name):
            self.structure((path, name, None), f"`{name}` is not an element of {_owner(path)} in R4.")
        else:
            self.structure(path, f"A member of {_owner(path)} has a name that is no element's name.")

    def missing(self, owner: str, name: str, path: Path) -> None:
        message = f"`{name}` is required."
        if PUBLISHED_FAULTS.get(f"{owner}.{name}") == "absent":
            self.tolerate((path, name, None), message, "required")
            self.findings.structural |= self.strict
        else:
            self.structure((path, name, None), message, "required")


def _owner(path: Path) -> str:
    return f"`{path[1]}`"


# --- compiling types --------------------------------------------------------------------------------------------------

Handler: TypeAlias = Callable[[Any, Path, _Run, dict[str, Any]], None]
"""(value of a member, path of the object, run, the object)"""
Validator: TypeAlias = Callable[[dict[str, Any], Path, _Run], None]

_TYPES: Final = frozenset(resource_types())
_PRIMITIVES: Final = frozenset(CHECKS) | {"xhtml"}


@cache
def _validator(owner: str) -> Validator:
    """The function that checks one object of a type or backbone element ("Patient.contact")."""
    definition = structures()[owner]
    handlers: dict[str, Handler] = {}
    choices: dict[str, str] = {}
    names: dict[str, Any] = {"get": handlers.get}
    lines = [
        "def validate(o, path, run):",
        "    for name, value in o.items():",
        "        handle = get(name)",
        "        if handle is None: run.unknown(name, path)",
        "        else: handle(value, path, run, o)",
    ]
    tail: list[str] = []
    for name, element in definition["elements"].items():
        keys = invariants.json_keys(owner, name)
        plain = [key for key in keys if key[0] != "_"]
        for type_name, key in zip(element["types"] or [""], plain, strict=True):
            handlers.update(_handlers(owner, name, key, type_name, element))
        if element.get("choice"):
            choices.update(dict.fromkeys(keys, name))
        if element["min"]:
            absent = " and ".join(f"{key!r} not in o" for key in keys)
            if len(keys) > 2:
                names[f"keys_{name}"] = frozenset(keys)
                absent = f"keys_{name}.isdisjoint(o)"
            tail.append(f"    if {absent}: run.missing({owner!r}, {name!r}, path)")
    if choices:
        names.update(choice_keys=frozenset(choices), choose=_choice_checker(choices))
        tail.append("    if not choice_keys.isdisjoint(o): choose(o, path, run)")
    if definition["kind"] == "resource":
        handlers["resourceType"] = _nothing
    else:
        lines.insert(1, "    if not o: run.structure(path, 'An object must not be empty.'); return")
        if owner != "Element":
            # The value of a primitive is outside its Element.
            tail.append("    if len(o) == 1 and 'id' in o: run.rule(path, ELE_1, 'invariant')")
        names["ELE_1"] = _HAS_NOTHING
    found = invariants.of_type(owner)
    simple = [i for i in found if i.violated]
    if simple:
        # What the expressions compare has been checked, unless the structure is at fault somewhere.
        tail.append("    try:")
    for number, invariant in enumerate(simple):
        names.update(invariant.constants)
        names[f"simple_{number}"] = invariant
        tail.append(f"        if {invariant.violated}: run.broken(simple_{number}, path)")
    if simple:
        tail.append("    except TypeError:")
        tail.append("        if not run.findings.structural: raise")
    for number, invariant in enumerate(i for i in found if not i.violated):
        names[f"other_{number}"] = invariant
        tail.append(f"    run.evaluate(other_{number}, o, path)")
    # The text holds nothing but names from the committed tables.
    exec("\n".join(lines + tail), names)  # noqa: S102
    validate_object: Validator = names["validate"]
    return validate_object


def _nothing(value: Any, path: Path, run: _Run, o: dict[str, Any]) -> None:
    pass


def _choice_checker(choices: dict[str, str]) -> Validator:
    """At most one type of each value[x]. formats.html#choice"""

    def choose(o: dict[str, Any], path: Path, run: _Run) -> None:
        seen: dict[str, str] = {}
        for key in o:
            name = choices.get(key)
            if name is not None and seen.setdefault(name, key.lstrip("_")) != key.lstrip("_"):
                run.structure((path, name, None), f"`{name}[x]` may have one type only.")

    return choose


def _handlers(owner: str, name: str, key: str, type_name: str, element: dict[str, Any]) -> dict[str, Handler]:
    """The handlers of one JSON member, and of its ``_`` sibling if it is primitive."""
    many = element["max"] != 1
    if element["max"] == 0:
        # SimpleQuantity.comparator: sqty-1 says it better.
        many = False
    own = invariants.of_element(owner, name)
    keys = invariants.json_keys(owner, name)
    if type_name == "xhtml":
        return {key: _narrative(name)}
    if type_name in _PRIMITIVES:
        quick, complain = _primitive(owner, name, type_name, element)
        if many:
            return {key: _primitive_list(name, key, quick, complain), "_" + key: _sibling_list(name, key)}
        single = _checked_single(name, quick, complain, own) if own else _single(name, quick, complain)
        return {key: single, "_" + key: _sibling(name, key)} if "_" + key in keys else {key: single}
    each: Each
    if type_name == "Resource":
        each = _contained if name == "contained" else _inner_resource
    elif type_name == "Reference":
        each = _reference(element)
    else:
        # The only profile on a data type is SimpleQuantity, and it is one of the types of a choice.
        profile = element.get("profile") if type_name == "Quantity" else None
        each = _complex(element.get("ref") or profile or type_name, _is_recursive(owner, element, type_name))
    if element.get("binding", ("",))[0] == "required":
        each = _bound_concept(each, element["binding"][1])
    elif element.get("maxBinding") == ALL_LANGUAGES:
        each = _language_concept(each)
    if own:
        each = _with_invariants(each, own)
    return {key: _object_list(name, each) if many else _object(name, each)}


Each: TypeAlias = Callable[[Any, Path, _Run], None]
"""Checks one object or primitive value; the path is that of the value itself."""


def _is_recursive(owner: str, element: dict[str, Any], type_name: str) -> bool:
    """Whether an element can contain one of its own kind, so that the depth of a resource has to be counted here."""
    if type_name == "Extension":
        return owner == "Extension"
    ref = element.get("ref")
    return ref is not None and (owner == ref or owner.startswith(ref + "."))


def _complex(type_name: str, recursive: bool) -> Each:
    # Types refer to each other in circles, so the validator of the type is looked up when it is first used.
    inner: Validator | None = None

    def each(value: Any, path: Path, run: _Run) -> None:
        nonlocal inner
        if inner is None:
            inner = _validator(type_name)
        inner(value, path, run)

    def deeper(value: Any, path: Path, run: _Run) -> None:
        if run.depth >= MAX_DEPTH:
            run.structure(path, f"Elements may be nested {MAX_DEPTH} times.", "too-long")
            return
        run.depth += 1
        each(value, path, run)
        run.depth -= 1

    return deeper if recursive else each


def _with_invariants(each: Each, own: tuple[invariants.Invariant, ...]) -> Each:
    def checked(value: Any, path: Path, run: _Run) -> None:
        each(value, path, run)
        for invariant in own:
            run.evaluate(invariant, value, path)

    return checked


def _object(name: str, each: Each) -> Handler:
    def handle(value: Any, path: Path, run: _Run, o: dict[str, Any]) -> None:
        if type(value) is dict:
            each(value, (path, name, None), run)
        else:
            run.structure((path, name, None), f"`{name}` has to be an object.")

    return handle


def _object_list(name: str, each: Each) -> Handler:
    def handle(value: Any, path: Path, run: _Run, o: dict[str, Any]) -> None:
        if type(value) is not list or not value:
            run.structure((path, name, None), f"`{name}` has to be an array that is not empty.")
            return
        for index, item in enumerate(value):
            if type(item) is dict:
                each(item, (path, name, index), run)
            else:
                run.structure((path, name, index), f"`{name}` has to hold objects.")

    return handle


# --- primitives -------------------------------------------------------------------------------------------------------

Quick: TypeAlias = Callable[[Any], bool]
"""Whether a value is right, with nothing more to do; cheap, for the common case."""


_FORMATS: Final = frozenset({"json", "xml", "ttl"})


def _primitive(owner: str, name: str, type_name: str, element: dict[str, Any]) -> tuple[Quick, Each]:
    """(quick verdict, what to do about a value that does not pass it)."""
    is_valid, expected = CHECKS[type_name], EXPECTED[type_name]
    if name == "id" and type_name == "string":
        is_valid, expected = is_element_id, "a string without blanks"
    if type_name in ("canonical", "uri", "url"):
        return _uri(name, is_valid, expected)
    bound = _codes(element) if type_name == "code" else None

    def complain(value: Any, path: Path, run: _Run) -> None:
        if type(value) is str and len(value) > MAX_STRING and type_name in ("string", "markdown", "code"):
            run.structure(path, f"`{name}` has more than {MAX_STRING:,} characters.", "too-long")
        elif not is_valid(value):
            run.structure(path, f"`{name}` has to be {expected}.", "value")
        elif value in _FORMATS and owner.partition(".")[0] in ("CapabilityStatement", "TestScript"):
            run.tolerate(path, f"`{name}` has to be a media type.", "code-invalid")
        else:
            run.rule(path, f"`{name}` has to be a code from {_value_set(element)}.", "code-invalid")

    return (is_valid if bound is None else bound), complain


def _uri(name: str, is_valid: Quick, expected: str) -> tuple[Quick, Each]:
    """uri, url, canonical: values such as ``#p1`` point into the resource and are collected for `_close`."""

    def quick(value: Any) -> bool:
        return is_valid(value) and value[0] != "#"

    def complain(value: Any, path: Path, run: _Run) -> None:
        if is_valid(value):
            run.local.append((value, path, None, None))
        else:
            run.structure(path, f"`{name}` has to be {expected}.", "value")

    return quick, complain


def _single(name: str, quick: Quick, complain: Each) -> Handler:
    def handle(value: Any, path: Path, run: _Run, o: dict[str, Any]) -> None:
        if not quick(value):
            complain(value, (path, name, None), run)

    return handle


def _checked_single(name: str, quick: Quick, complain: Each, own: tuple[invariants.Invariant, ...]) -> Handler:
    """A primitive with invariants of its own."""

    def handle(value: Any, path: Path, run: _Run, o: dict[str, Any]) -> None:
        if not quick(value):
            complain(value, (path, name, None), run)
        else:
            for invariant in own:
                run.evaluate(invariant, value, (path, name, None))

    return handle


def _primitive_list(name: str, key: str, quick: Quick, complain: Each) -> Handler:
    """A repeating primitive; null only where the ``_`` array has an element in its place. json.html#primitive"""

    def handle(value: Any, path: Path, run: _Run, o: dict[str, Any]) -> None:
        if type(value) is not list or not value:
            run.structure((path, name, None), f"`{name}` has to be an array that is not empty.")
            return
        for index, item in enumerate(value):
            if not quick(item):
                if item is not None:
                    complain(item, (path, name, index), run)
                else:
                    siblings = o.get("_" + key)
                    if type(siblings) is not list or len(siblings) <= index or type(siblings[index]) is not dict:
                        run.structure(
                            (path, name, index), f"null in `{name}` needs an element of `_{name}` in its place."
                        )

    return handle


_HAS_NOTHING: Final = "ele-1: All FHIR elements must have a @value or children"


def _sibling(name: str, key: str) -> Handler:
    """``_birthDate``: id and extensions of a primitive."""

    def handle(value: Any, path: Path, run: _Run, o: dict[str, Any]) -> None:
        if type(value) is not dict:
            run.structure((path, name, None), f"`_{name}` has to be an object.")
            return
        _validator("Element")(value, (path, name, None), run)
        if len(value) == 1 and "id" in value and key not in o:
            run.rule((path, name, None), _HAS_NOTHING, "invariant")

    return handle


def _sibling_list(name: str, key: str) -> Handler:
    """``_given``: ids and extensions of a repeating primitive, null where a value has none."""

    def handle(value: Any, path: Path, run: _Run, o: dict[str, Any]) -> None:
        if type(value) is not list or all(item is None for item in value):
            run.structure((path, name, None), f"`_{name}` has to be an array that holds an object.")
            return
        values = o.get(key)
        if type(values) is list and values and len(values) != len(value):
            run.structure((path, name, None), f"`{name}` and `_{name}` have to be of the same length.")
        validate_element = _validator("Element")
        for index, item in enumerate(value):
            present = type(values) is list and index < len(values) and values[index] is not None
            if type(item) is dict:
                validate_element(item, (path, name, index), run)
                if len(item) == 1 and "id" in item and not present:
                    run.rule((path, name, index), _HAS_NOTHING, "invariant")
            elif item is not None:
                run.structure((path, name, index), f"`_{name}` has to hold objects.")
            elif key not in o:
                run.structure((path, name, index), f"null in `_{name}` needs a value of `{name}` in its place.")

    return handle


def _narrative(name: str) -> Handler:
    def handle(value: Any, path: Path, run: _Run, o: dict[str, Any]) -> None:
        where = (path, name, None)
        if type(value) is not str or not value:
            run.structure(where, f"`{name}` has to be {EXPECTED['xhtml']}.", "value")
            return
        for kind, message in narrative.check(value):
            if kind == "syntax":
                run.structure(where, message, "value")
            elif kind == "txt-1":
                run.rule(where, f"txt-1: {message}", "invariant")
            else:
                run.tolerate(where, f"txt-2: {message}", "invariant")

    return handle


# --- codes ------------------------------------------------------------------------------------------------------------

ALL_LANGUAGES: Final = "http://hl7.org/fhir/ValueSet/all-languages"
LANGUAGE_TAGS: Final = "urn:ietf:bcp:47"

_MEDIA_NAME = r"[A-Za-z0-9!#$&^_.+-]{1,127}"
_is_mime_type: Final = re.compile(rf"{_MEDIA_NAME}/{_MEDIA_NAME}(\s*;[ -~]*)?", re.ASCII).fullmatch
_is_language_tag: Final = re.compile(
    # RFC 5646 section 2.1, and what it keeps of RFC 3066 ("i-klingon").
    r"([A-Za-z]{2,3}(-[A-Za-z]{3}){0,3}|[A-Za-z]{4,8})(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?"
    r"(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*(-[0-9A-WY-Za-wy-z](-[A-Za-z0-9]{2,8})+)*(-[xX](-[A-Za-z0-9]{1,8})+)?"
    r"|[xX](-[A-Za-z0-9]{1,8})+|[iI](-[A-Za-z0-9]{2,8})+|sgn-[A-Z]{2}(-[A-Z]{2})?"
).fullmatch
#: ucum.org: visible ASCII. R4's expansion of ucum-units has blanks in annotations as well ("{# of fetuses}").
_is_unit: Final = re.compile(r"(?:[!-z|~]|\{[ -z|~]*\})+").fullmatch
_UCUM: Final = "http://unitsofmeasure.org"


def _value_set(element: dict[str, Any]) -> str:
    return str(element["maxBinding"] if element.get("binding", ("",))[0] != "required" else element["binding"][1])


def _codes(element: dict[str, Any]) -> Quick | None:
    """The quick verdict on a code with a required binding; None if it has none."""
    if element.get("maxBinding") == ALL_LANGUAGES:
        return lambda value: type(value) is str and _is_language_tag(value) is not None
    strength, url = element.get("binding", ("", ""))
    if strength != "required":
        return None
    table = required_codes()[url]
    if "syntax" not in table:
        codes = frozenset(code for system in table["systems"].values() for code in system)
        return lambda value: type(value) is str and value in codes
    if table["syntax"] == "mimetype":
        return lambda value: type(value) is str and _is_mime_type(value) is not None
    return None


def _bound_concept(each: Each, url: str) -> Each:
    """A CodeableConcept with a required binding: one of its codings is from the value set.

    terminologies.html#required
    """
    table = required_codes()[url]
    if table.get("syntax") == "any":
        return each
    pairs = frozenset((system, code) for system, codes in table.get("systems", {}).items() for code in codes)
    is_ucum = table.get("syntax") == "ucum"

    def is_from_value_set(coding: Any) -> bool:
        system, code = (coding.get("system"), coding.get("code")) if type(coding) is dict else (None, None)
        if type(system) is not str or type(code) is not str:
            return False
        return (system == _UCUM and _is_unit(code) is not None) if is_ucum else (system, code) in pairs

    def checked(value: Any, path: Path, run: _Run) -> None:
        each(value, path, run)
        codings = value.get("coding")
        if type(codings) is list and any(is_from_value_set(coding) for coding in codings):
            return
        # With neither coding nor text, an extension says why there is no value (data-absent-reason).
        if value.keys() - {"id", "extension"}:
            run.rule(path, f"`{path[1]}` has to have a code from {url}.", "code-invalid")

    return checked


def _language_concept(each: Each) -> Each:
    """A CodeableConcept whose codes have to be language tags."""

    def checked(value: Any, path: Path, run: _Run) -> None:
        each(value, path, run)
        codings = value.get("coding")
        for coding in codings if type(codings) is list else ():
            code = coding.get("code") if type(coding) is dict and coding.get("system") == LANGUAGE_TAGS else None
            if type(code) is str and _is_language_tag(code) is None:
                run.warn(path, f"`{path[1]}` has a code that is no language tag of BCP 47.", "code-invalid")

    return checked


# --- references and resources inside resources ------------------------------------------------------------------------

_RELATIVE: Final = re.compile(r"([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(/_history/[A-Za-z0-9\-.]{1,64})?(#.*)?")
_ABSOLUTE: Final = re.compile(
    r"https?://.*?/([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(/_history/[A-Za-z0-9\-.]{1,64})?(#.*)?", re.DOTALL
)
_CONDITIONAL: Final = re.compile(r"([A-Z][A-Za-z]+)\?.*", re.DOTALL)


def _reference(element: dict[str, Any]) -> Each:
    """A Reference: its parts, and whether its target is one that the element allows. references.html"""
    targets: frozenset[str] | None = frozenset(element["targets"]) if "targets" in element else None
    inner: Validator | None = None

    def each(value: Any, path: Path, run: _Run) -> None:
        nonlocal inner
        if inner is None:
            inner = _validator("Reference")
        inner(value, path, run)
        reference = value.get("reference")
        if type(reference) is str:
            head = reference.partition("/")[0]
            if head not in _TYPES or "type" in value:
                _judge(reference, value, path, run, targets)
            elif targets is not None and head not in targets:
                _wrong_target(head, path, run)
        elif "type" in value:
            _judge("", value, path, run, targets)

    return each


def _wrong_target(type_name: str, path: Path, run: _Run) -> None:
    run.tolerate(path, f"`{path[1]}` may not refer to a {type_name}.", "value")


def _named(value: dict[str, Any]) -> str | None:
    return value["type"] if type(value.get("type")) is str else None


def _contradicts(path: Path, run: _Run) -> None:
    run.tolerate((path, "type", None), f"`{path[1]}` names another type than its reference.", "value")


_ABSTRACT: Final = frozenset({"Resource", "DomainResource"})


def _judge(reference: str, value: dict[str, Any], path: Path, run: _Run, targets: frozenset[str] | None) -> None:
    """The slow way for every reference that is not plainly ``Type/id``."""
    if reference[:1] == "#":
        run.local.append((reference, (path, "reference", None), targets, _named(value)))
        return
    if reference[:9] == "urn:uuid:" or reference[:8] == "urn:oid:":
        if not run.bundles and reference not in run.resolvable:
            run.rule(
                (path, "reference", None),
                "A `urn:` reference has to be resolved by the Bundle it comes in.",
                "not-found",
            )
        if "type" not in value:
            return
    match = _RELATIVE.fullmatch(reference) or _ABSOLUTE.fullmatch(reference)
    if match is None:
        match = _CONDITIONAL.fullmatch(reference)
        if match is not None and not run.bundles:
            run.tolerate(
                (path, "reference", None), "Conditional references are for transactions only.", "business-rule"
            )
    named = _named(value)
    found = {name for name in (match and match[1], named) if name}
    if match is not None and match[1] not in _TYPES and _RELATIVE.fullmatch(reference):
        run.tolerate((path, "reference", None), f"`{path[1]}` refers to a type that R4 does not have.", "value")
    for name in sorted(found & _TYPES):
        if targets is not None and name not in targets:
            _wrong_target(name, path, run)
    if match is not None and match[1] in _TYPES and named in _TYPES and named != match[1]:
        _contradicts(path, run)
    if named is not None and named not in _TYPES and _SHOWN.match(named) and named not in _ABSTRACT:
        # Only logical models are named otherwise, and by absolute URLs (references.html#Reference).
        run.tolerate((path, "type", None), f"`{path[1]}` names a type that R4 does not have.", "value")


def _typed(value: Any, path: Path, run: _Run) -> str | None:
    """The resource type of a nested resource, or None after saying that it has none, or is nested too deeply."""
    name = value.get("resourceType")
    if type(name) is not str or name not in _TYPES:
        run.structure(path, "A resource is an object whose resourceType is a type of R4.")
        return None
    if run.depth >= MAX_DEPTH:
        run.structure(path, f"Resources may be nested {MAX_DEPTH} times.", "too-long")
        return None
    return name


def _inner_resource(value: Any, path: Path, run: _Run) -> None:
    """Bundle.entry.resource, Parameters.parameter.resource: resources of their own."""
    name = _typed(value, path, run)
    if name is not None:
        run.depth += 1
        _resource(name)(value, path, run)
        run.depth -= 1


def _contained(value: Any, path: Path, run: _Run) -> None:
    """A contained resource: dom-2, dom-4, dom-5. references.html#contained"""
    name = _typed(value, path, run)
    if name is None:
        return
    outer, run.resource = run.resource, value
    run.depth += 1
    _validator(name)(value, path, run)
    run.depth -= 1
    run.resource = outer
    if "contained" in value:
        run.rule((path, "contained", None), "dom-2: A contained resource must not contain resources.", "invariant")
    meta = value.get("meta")
    if type(meta) is dict:
        for key, rule in (("versionId", "dom-4"), ("lastUpdated", "dom-4"), ("security", "dom-5")):
            if key in meta or "_" + key in meta:
                run.rule((path, "meta", None), f"{rule}: A contained resource must not have meta.{key}.", "invariant")


@cache
def _resource(type_name: str) -> Validator:
    """The validator of a resource that is a container: it is not contained in another one."""
    inner = _validator(type_name)
    own_profile = f"http://hl7.org/fhir/StructureDefinition/{type_name}"
    is_bundle = type_name == "Bundle"
    has_narrative = "text" in structures()[type_name]["elements"]

    def validate_container(o: dict[str, Any], path: Path, run: _Run) -> None:
        outer = run.resource, run.root, run.local
        run.resource = run.root = o
        run.local = []
        run.bundles += is_bundle
        inner(o, path, run)
        run.bundles -= is_bundle
        if run.local or "contained" in o:
            _close(o, path, run)
        if has_narrative and "text" not in o:
            run.warn(path, "dom-6: A resource should have narrative for robust management.", "invariant")
        meta = o.get("meta")
        if type(meta) is dict and type(meta.get("profile")) is list:
            for index, profile in enumerate(meta["profile"]):
                if profile != own_profile:
                    run.warn(
                        ((path, "meta", None), "profile", index),
                        "The claimed profile was not checked.",
                        "not-supported",
                    )
        run.resource, run.root, run.local = outer

    return validate_container


def _close(o: dict[str, Any], path: Path, run: _Run) -> None:
    """Local references and contained resources of one container belong together: ref-1 and dom-3."""
    contained = o.get("contained")
    types: dict[str, str] = {}
    items = [item for item in contained if type(item) is dict] if type(contained) is list else []
    for index, item in enumerate(items):
        own_id = item.get("id")
        if type(own_id) is not str:
            continue
        if own_id in types:
            run.rule(((path, "contained", index), "id", None), "Two contained resources have the same id.", "duplicate")
        types[own_id] = str(item.get("resourceType"))
    referred: set[str] = set()
    refers_back: set[int | None] = set()
    for reference, where, targets, named in run.local:
        referred.add(reference)
        if reference == "#":
            refers_back.add(_index_of_contained(where, path))
            continue
        target = types.get(reference[1:])
        if target is None:
            if where[1] == "reference":
                run.rule(where, "ref-1: A local reference has to refer to a contained resource.", "invariant")
            continue
        if target not in _TYPES:
            # An error of its own, which does not repeat the type.
            continue
        if targets is not None and target not in targets:
            _wrong_target(target, where[0] or where, run)
        if named is not None and named in _TYPES and named != target:
            _contradicts(where[0] or where, run)
    for index, item in enumerate(items):
        if f"#{item.get('id')}" not in referred and index not in refers_back:
            message = "dom-3: A contained resource has to be referred to, or to refer to its container."
            run.rule((path, "contained", index), message, "invariant")


def _index_of_contained(where: Path, container: Path) -> int | None:
    """Which contained resource an element is in; None if it is in none."""
    current: Path | None = where
    while current is not None and current[0] is not container:
        current = current[0]
    return current[2] if current is not None and current[1] == "contained" else None
