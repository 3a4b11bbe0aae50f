"""The invariants of R4's StructureDefinitions, three ways. R4 conformance-rules.html#constraints.

Every constraint is FHIRPath and could be run by `fhir_server.fhirpath`. Two thirds of them only ask which elements
of one object are present and what a code is; `transpile` turns these into one Python expression on the JSON object.
A few that every patient record meets are written by hand in `HAND`. What is left runs in the FHIRPath engine.
`via_fhirpath` gives the engine's version of any of them; a test asserts that all agree on all official examples.

A constraint that is neither true nor false (empty) is broken: ``code.exists() or abstract = true`` means that one of
them is there. Only those in `UNDETERMINED_HOLDS` compare what need not be there or cannot be compared, and hold then;
the official examples rely on it. ele-1, dom-2 to dom-6, ref-1, txt-1 and txt-2 are the validator's own business.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Any, Final, Protocol

from fhir_server.definitions import structures
from fhir_server.fhirpath import ast
from fhir_server.fhirpath.parser import parse

#: Checked by the structure walk itself.
STRUCTURAL: Final = frozenset({"ele-1", "dom-2", "dom-3", "dom-4", "dom-5", "dom-6", "ref-1", "txt-1", "txt-2"})

#: An entry without fullUrl (bdl-8), a prediction without probability (ras-2), a resource without name (keys ending in
#: -0), times of different precision, quantities of different units.
UNDETERMINED_HOLDS: Final = frozenset({"bdl-8", "mdd-1", "per-1", "ras-2", "ref-1", "rng-2", "inv-1 of Task"})


class Surroundings(Protocol):
    """What an invariant may look at besides its own element."""

    resource: dict[str, Any]
    root: dict[str, Any]

    @property
    def environment(self) -> Any:
        """The FHIRPath environment of the resource, made when first asked for."""


Check = Callable[[Any, Surroundings], bool]
"""(element, surroundings) -> False when the invariant is broken, True when it holds."""


@dataclass(frozen=True, slots=True)
class Invariant:
    """One constraint on one type or element.

    Exactly one of `violated` and `check` says when it is broken: `violated` is a Python expression on the JSON
    object ``o`` and the names in `constants`, for generated code; `check` a function.
    """

    owner: str
    key: str
    severity: str
    human: str
    violated: str = ""
    constants: dict[str, Any] = field(default_factory=dict, compare=False)
    check: Check | None = None


@cache
def of_type(owner: str) -> tuple[Invariant, ...]:
    """The invariants of a type or backbone element ("Patient.contact"), in the order of the specification."""
    return tuple(
        _make(owner, item) for item in structures()[owner].get("constraints", ()) if item["key"] not in STRUCTURAL
    )


@cache
def of_element(owner: str, name: str) -> tuple[Invariant, ...]:
    """The invariants that belong to one element beyond those of its type; each value of the element is checked."""
    constraints = structures()[owner]["elements"][name].get("constraints", ())
    return tuple(_make(f"{owner}.{name}", item) for item in constraints if item["key"] not in STRUCTURAL)


def _make(owner: str, item: dict[str, Any]) -> Invariant:
    key, severity, human = item["key"], item["severity"], item["human"]
    if key.endswith("-0"):
        return Invariant(owner, key, severity, human, check=_name_is_computable)
    hand = HAND.get((owner, key))
    if hand is not None:
        return Invariant(owner, key, severity, human, check=hand)
    transpiled = transpile(item["expression"], owner) if owner in structures() else None
    if transpiled is not None:
        return Invariant(owner, key, severity, human, *transpiled)
    return Invariant(
        owner, key, severity, human, check=via_fhirpath(item["expression"], owner, _may_be_empty(owner, key))
    )


def _may_be_empty(owner: str, key: str) -> bool:
    return key.endswith("-0") or key in UNDETERMINED_HOLDS or f"{key} of {owner}" in UNDETERMINED_HOLDS


def via_fhirpath(expression: str, owner: str, may_be_empty: bool = False) -> Check:
    """The FHIRPath engine's version of a constraint, compiled when it is first evaluated.

    `may_be_empty` says what an empty result means.
    """
    compiled: Any = None

    def check(element: Any, around: Surroundings) -> bool:
        nonlocal compiled
        if compiled is None:
            from fhir_server.fhirpath import compile_expression

            compiled = compile_expression(expression, context_of(owner)).check
        result: bool | None = compiled(around.environment, element)
        return may_be_empty if result is None else result

    return check


def context_of(owner: str) -> str:
    """The FHIRPath context type of a type, backbone element, or element with constraints of its own."""
    if owner in structures():
        return structures()[owner].get("base", owner) if structures()[owner]["kind"] == "profile" else owner
    holder, _, name = owner.rpartition(".")
    element = structures()[holder]["elements"][name]
    return str(element.get("ref") or element["types"][0])


# --- transpiling ------------------------------------------------------------------------------------------------------


class _NotSimple(Exception):
    """The expression needs the engine."""


@dataclass(slots=True)
class _Truth:
    """Python expressions for "certainly true" and "certainly false"; FHIRPath's empty is neither."""

    true: str
    false: str


def transpile(expression: str, owner: str) -> tuple[str, dict[str, Any]] | None:
    """(Python expression that says that the constraint is broken, the constants it names); None if it is not simple.

    Simple are and, or, xor, implies, not, = and != over: presence of an element of the object itself, comparison of a
    code with literals, and comparison of counts or numbers with an integer.
    """
    writer = _Writer(owner)
    try:
        return f"not {writer.truth(parse(expression)).true}", writer.constants
    except _NotSimple:
        return None


_numbers: Final = itertools.count()


class _Writer:
    """Writes one constraint; `owner` is the type whose elements the expression names."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.elements = structures()[owner]["elements"]
        self.constants: dict[str, Any] = {}

    def constant(self, value: Any) -> str:
        name = f"constant_{next(_numbers)}"
        self.constants[name] = value
        return name

    def truth(self, node: ast.Node) -> _Truth:
        match node:
            case ast.Binary("and", left, right):
                a, b = self.truth(left), self.truth(right)
                return _Truth(f"({a.true} and {b.true})", f"({a.false} or {b.false})")
            case ast.Binary("or", left, right):
                a, b = self.truth(left), self.truth(right)
                return _Truth(f"({a.true} or {b.true})", f"({a.false} and {b.false})")
            case ast.Binary("implies", left, right):
                a, b = self.truth(left), self.truth(right)
                return _Truth(f"({a.false} or {b.true})", f"({a.true} and {b.false})")
            case ast.Binary("xor", left, right):
                return self.differ(self.truth(left), self.truth(right))
            case ast.Binary("=" | "!=" as op, ast.Member() as left, ast.Literal(str() as text)):
                return self.is_one_of(left, frozenset({text}), op == "=")
            case ast.Binary("in", ast.Member() as left, right):
                return self.is_one_of(left, frozenset(_texts(right)), True)
            case ast.Binary("=" | "!=" as op, ast.Call() as left, ast.Call() as right):
                unequal = self.differ(self.truth(left), self.truth(right))
                return unequal if op == "!=" else _Truth(unequal.false, unequal.true)
            case ast.Binary("=" | "<" | "<=" | ">" | ">=" as op, left, ast.Literal(int() as number)) if not isinstance(
                number, bool
            ):
                return self.compare(left, "==" if op == "=" else op, number)
            case ast.Call(source, "not", ()):
                a = self.truth(source)
                return _Truth(a.false, a.true)
            case ast.Call(source, "exists", ()):
                present = self.present(source)
                return _Truth(present, f"(not {present})")
            case ast.Call(source, "empty", ()):
                present = self.present(source)
                return _Truth(f"(not {present})", present)
        raise _NotSimple

    @staticmethod
    def differ(a: _Truth, b: _Truth) -> _Truth:
        return _Truth(
            f"(({a.true} and {b.false}) or ({a.false} and {b.true}))",
            f"(({a.true} and {b.true}) or ({a.false} and {b.false}))",
        )

    def name(self, node: ast.Node) -> str:
        """The element of the object that a path of one step names; a leading type name does not count."""
        match node:
            case ast.Member(ast.Focus(), name) if name in self.elements:
                return name
            case ast.Member(ast.Member(ast.Focus(), type_name), name) if (
                type_name == self.owner and name in self.elements
            ):
                return name
        raise _NotSimple

    def present(self, node: ast.Node) -> str:
        keys = json_keys(self.owner, self.name(node))
        if len(keys) <= 2:
            return "(" + " or ".join(f"{key!r} in o" for key in keys) + ")"
        return f"(not {self.constant(frozenset(keys))}.isdisjoint(o))"

    def is_one_of(self, node: ast.Node, texts: frozenset[str], positive: bool) -> _Truth:
        name = self.name(node)
        element = self.elements[name]
        if element["max"] != 1 or element.get("choice") or element["types"][0] not in ("code", "string", "uri"):
            raise _NotSimple
        values = self.constant(texts)
        inside = f"(o.get({name!r}) in {values})"
        outside = f"({name!r} in o and o[{name!r}] not in {values})"
        return _Truth(inside, outside) if positive else _Truth(outside, inside)

    def compare(self, node: ast.Node, op: str, number: int) -> _Truth:
        if isinstance(node, ast.Member):
            name = self.name(node)
            if self.elements[name]["types"][0] not in ("decimal", "integer", "positiveInt", "unsignedInt"):
                raise _NotSimple
            holds = f"o[{name!r}] {op} {number}"
            return _Truth(f"({name!r} in o and {holds})", f"({name!r} in o and not {holds})")
        holds = f"({self.count(node)} {op} {number})"
        return _Truth(holds, f"(not {holds})")

    def count(self, node: ast.Node) -> str:
        match node:
            case ast.Binary("+", left, right):
                return f"({self.count(left)} + {self.count(right)})"
            case ast.Call(source, "count", ()):
                name = self.name(source)
                if self.elements[name]["max"] == 1:
                    return self.present(source)
                if structures()[self.elements[name]["types"][0]]["kind"] == "primitive":
                    raise _NotSimple
                return f"len(o.get({name!r}, ()))"
        raise _NotSimple


def _texts(node: ast.Node) -> Iterator[str]:
    """The literals of ``('a' | 'b')``."""
    match node:
        case ast.Binary("|", left, right):
            yield from _texts(left)
            yield from _texts(right)
        case ast.Literal(str() as text):
            yield text
        case _:
            raise _NotSimple


@cache
def json_keys(owner: str, name: str) -> tuple[str, ...]:
    """The JSON members that can carry an element: ``birthDate`` and ``_birthDate``; ``valueString``, ``valueCode``...

    ids, Extension.url and a narrative's div are no FHIR primitives but bare strings, and have no ``_`` member.
    """
    element = structures()[owner]["elements"][name]
    if name == "id" or "xml" in element:
        return (name,)
    names = [(name + t[0].upper() + t[1:] if element.get("choice") else name, t) for t in element["types"] or [""]]
    result: list[str] = []
    for key, type_name in names:
        result.append(key)
        if type_name in structures() and structures()[type_name]["kind"] == "primitive":
            result.append("_" + key)
    return tuple(result)


# --- by hand ----------------------------------------------------------------------------------------------------------


def is_after(first: Any, second: Any) -> bool:
    """Whether `first` is certainly later than `second`; dates, dateTimes or instants of any precision."""
    if type(first) is not str or type(second) is not str:
        return False
    if "T" not in first or "T" not in second:
        length = min(len(first), len(second), 10)
        return first[:length] > second[:length]
    if first[19:].lstrip(".0123456789") == second[19:].lstrip(".0123456789"):
        return _sortable(first) > _sortable(second)
    try:
        a, b = (
            datetime.fromisoformat(f"{_sortable(text)[0]}{text[19:].lstrip('.0123456789')}") for text in (first, second)
        )
        if a != b:
            return a > b
    except (ValueError, OverflowError):
        # A leap second, or an instant before year 1: not certain.
        return False
    return _sortable(first)[1] > _sortable(second)[1]


def _sortable(text: str) -> tuple[str, str]:
    """Seconds, and the digits of their fraction."""
    fraction = text[20:].partition("Z")[0].partition("+")[0].partition("-")[0] if text[19:20] == "." else ""
    return text[:19], fraction.rstrip("0")


def _has_coding(concept: Any, system: str, *codes: str) -> bool:
    return any(c.get("system") == system and c.get("code") in codes for c in (concept or {}).get("coding", ()))


_NAME: Final = re.compile("[A-Z]([A-Za-z0-9_]){0,254}")
_CLINICAL: Final = "http://terminology.hl7.org/CodeSystem/condition-clinical"
_VERIFICATION: Final = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
_ALLERGY: Final = "http://terminology.hl7.org/CodeSystem/allergyintolerance-verification"
_ABATEMENT: Final = frozenset({"abatement" + t for t in ("DateTime", "Age", "Period", "Range", "String")}) | {
    "_abatementDateTime",
    "_abatementString",
}


def _name_is_computable(o: Any, _: Surroundings) -> bool:
    return "name" not in o or _NAME.fullmatch(o["name"]) is not None


def _per_1(o: Any, _: Surroundings) -> bool:
    return "end" not in o or not is_after(o.get("start"), o["end"])


def _rng_2(o: Any, _: Surroundings) -> bool:
    low, high = o.get("low"), o.get("high")
    if not low or not high or "value" not in low or "value" not in high:
        return True
    same_unit = all(low.get(key) == high.get(key) for key in ("system", "code")) and (
        "code" in low or low.get("unit") == high.get("unit")
    )
    return not same_unit or bool(low["value"] <= high["value"])


def _obs_7(o: Any, around: Surroundings) -> bool:
    if "component" not in o or not any(key.startswith(("value", "_value")) for key in o):
        return True
    codings = around.resource.get("code", {}).get("coding", ())
    return not any(c in codings for part in o["component"] for c in part.get("code", {}).get("coding", ()))


def _entered_in_error(o: Any) -> bool:
    return _has_coding(o.get("verificationStatus"), _VERIFICATION, "entered-in-error")


def _con_3(o: Any, _: Surroundings) -> bool:
    # category.select($this='problem-list-item') compares a CodeableConcept with a string: it gives false for each
    # category.
    return "clinicalStatus" in o or "category" not in o or _entered_in_error(o)


def _con_4(o: Any, _: Surroundings) -> bool:
    return _ABATEMENT.isdisjoint(o) or _has_coding(
        o.get("clinicalStatus"), _CLINICAL, "resolved", "remission", "inactive"
    )


def _con_5(o: Any, _: Surroundings) -> bool:
    return "clinicalStatus" not in o or not _entered_in_error(o)


def _ait_1(o: Any, _: Surroundings) -> bool:
    return "clinicalStatus" in o or _has_coding(o.get("verificationStatus"), _ALLERGY, "entered-in-error")


def _ait_2(o: Any, _: Surroundings) -> bool:
    return "clinicalStatus" not in o or not _has_coding(o.get("verificationStatus"), _ALLERGY, "entered-in-error")


def _not_home(o: Any, _: Surroundings) -> bool:
    return bool(o.get("use") != "home")


def _eld_3(value: Any, _: Surroundings) -> bool:
    return value == "*" or value.lstrip("+").isdigit()


def _is_distinct(values: Iterable[Any]) -> bool:
    listed = list(values)
    return len(listed) == len(set(listed))


def _deep(o: Any, name: str) -> Iterator[Any]:
    """Every value of member `name` anywhere below `o`, without recursion."""
    stack = [o]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if name in item:
                yield item[name]
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _csd_1(o: Any, _: Surroundings) -> bool:
    return _is_distinct(
        concept["code"]
        for concepts in _deep({"concept": o.get("concept", ())}, "concept")
        for concept in concepts
        if isinstance(concept, dict) and "code" in concept
    )


def _que_2(o: Any, _: Surroundings) -> bool:
    return _is_distinct(link for item in o.get("item", ()) for link in _deep(item, "linkId"))


def _mdd_1(o: Any, _: Surroundings) -> bool:
    return not is_after(o.get("whenPrepared"), o.get("whenHandedOver"))


def _task_1(o: Any, _: Surroundings) -> bool:
    return not is_after(o.get("authoredOn"), o.get("lastModified"))


def _bdl_2(o: Any, _: Surroundings) -> bool:
    return o.get("type") == "searchset" or not any("search" in entry for entry in o.get("entry", ()))


def _entries_have(name: str, *types: str) -> Check:
    def check(o: Any, _: Surroundings) -> bool:
        wanted = o.get("type") in types
        return all((name in entry) is wanted for entry in o.get("entry", ()))

    return check


def _bdl_7(o: Any, _: Surroundings) -> bool:
    return o.get("type") == "history" or _is_distinct(
        (entry["fullUrl"], entry.get("resource", {}).get("meta", {}).get("versionId", ""))
        for entry in o.get("entry", ())
        if "fullUrl" in entry
    )


def _bdl_8(o: Any, _: Surroundings) -> bool:
    return "/_history/" not in o.get("fullUrl", "")


def _bdl_9(o: Any, _: Surroundings) -> bool:
    identifier = o.get("identifier", {})
    return o.get("type") != "document" or all(f in identifier or "_" + f in identifier for f in ("system", "value"))


def _bdl_10(o: Any, _: Surroundings) -> bool:
    return o.get("type") != "document" or "timestamp" in o


def _first_is(bundle_type: str, resource_type: str) -> Check:
    def check(o: Any, _: Surroundings) -> bool:
        if o.get("type") != bundle_type:
            return True
        first = o["entry"][0] if o.get("entry") else {}
        return bool(first.get("resource", {}).get("resourceType") == resource_type)

    return check


HAND: Final[dict[tuple[str, str], Check]] = {
    ("AllergyIntolerance", "ait-1"): _ait_1,
    ("AllergyIntolerance", "ait-2"): _ait_2,
    ("Bundle", "bdl-2"): _bdl_2,
    ("Bundle", "bdl-3"): _entries_have("request", "batch", "transaction", "history"),
    ("Bundle", "bdl-4"): _entries_have("response", "batch-response", "transaction-response", "history"),
    ("Bundle", "bdl-7"): _bdl_7,
    ("Bundle", "bdl-9"): _bdl_9,
    ("Bundle", "bdl-10"): _bdl_10,
    ("Bundle", "bdl-11"): _first_is("document", "Composition"),
    ("Bundle", "bdl-12"): _first_is("message", "MessageHeader"),
    ("Bundle.entry", "bdl-8"): _bdl_8,
    ("CodeSystem", "csd-1"): _csd_1,
    ("Condition", "con-3"): _con_3,
    ("Condition", "con-4"): _con_4,
    ("Condition", "con-5"): _con_5,
    ("ElementDefinition.max", "eld-3"): _eld_3,
    ("MedicationDispense", "mdd-1"): _mdd_1,
    ("Observation", "obs-7"): _obs_7,
    ("Organization.address", "org-2"): _not_home,
    ("Organization.telecom", "org-3"): _not_home,
    ("Period", "per-1"): _per_1,
    ("Questionnaire", "que-2"): _que_2,
    ("Range", "rng-2"): _rng_2,
    ("Task", "inv-1"): _task_1,
}
