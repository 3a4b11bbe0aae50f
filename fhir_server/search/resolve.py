"""What a search means: parameters as given -> the tree of `ast`. Prefixes, modifiers, time zones and code systems end
here.

R4 search.html. A parameter's name is compiled once per (types, name) into a *plan*, a function from its values to a
node; a search then costs little more than its values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import methodcaller
from typing import Any, Final, Literal, TypeAlias

from fhir_server.errors import BadRequest, Issue, NotSupported
from fhir_server.resources import compartments
from fhir_server.search import membership
from fhir_server.search.ast import (
    ANY,
    EVERYTHING,
    NOTHING,
    AllOf,
    And,
    AnyOf,
    Column,
    Compare,
    Exists,
    Field,
    Include,
    Linked,
    LinkedFrom,
    Node,
    Not,
    Or,
    Search,
    Select,
    SortKey,
    Test,
)
from fhir_server.search.extract import ReferenceKeys
from fhir_server.search.near import near_test
from fhir_server.search.parse import Has, Link, parse_name, split, split_values, unescape
from fhir_server.search.ranges import (
    Window,
    any_of,
    date_windows,
    number_range,
    number_windows,
    split_prefix,
    window_test,
)
from fhir_server.search.registry import (
    CANONICAL_UNIT,
    IDENTIFIER,
    OF_TYPE,
    TEXT,
    WORDS,
    Component,
    Param,
    Registry,
)
from fhir_server.search.settings import UCUM, Settings
from fhir_server.search.values import (
    AFTER_MARK,
    CLASS_MARK,
    EXACT,
    MARK,
    WORD_LENGTH,
    canonical_key,
    fold,
    fraction_key,
    normalize,
    parse_number,
    phonetic_keys,
    precision_range,
    query_words,
    string_key,
    token_key,
)

Types: TypeAlias = tuple[str, ...] | None
Pairs: TypeAlias = Iterable[tuple[str, str]]
Plan: TypeAlias = "Callable[[tuple[str, ...], list[Issue]], Node | Windowed]"
"""(values, still escaped; issues to add to) -> node"""

MAX_HIERARCHY: Final = 10
"""Levels that ``:above`` and ``:below`` on references follow."""

MAX_SORT_KEYS: Final = 10
"""Different keys of one ``_sort``; more are refused as too costly."""

RESULT_PARAMETERS: Final = frozenset(
    {
        "_sort", "_count", "_include", "_revinclude", "_summary", "_elements", "_total", "_contained", "_containedType",
        "_explain", "_format", "_pretty",
    }
)  # fmt: skip

_WORDS: Final = ("_text", "_content")
"""Parameters whose entries are the words of a text, which have no order of their own."""

_ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)
_SORT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]{0,63}", re.ASCII)
_SUMMARIES: Final = ("true", "text", "data", "count", "false")


@dataclass(frozen=True, slots=True)
class Shape:
    """How the answer is wanted. `summary`, `total`, `contained`, `contained_type`: codes of R4, None when not given."""

    summary: str | None = None
    elements: tuple[str, ...] = ()
    total: str | None = None
    contained: Literal["false", "true", "both"] = "false"
    contained_type: Literal["container", "contained"] = "container"
    explain: bool = False
    count_only: bool = False


@dataclass(slots=True)
class Resolved:
    """A search, ready to be narrowed. `applied`: what was used, as given (`_count` clamped): the query of `self`.

    `issues` are warnings about what was ignored. `criteria`: whether a parameter restricts the result at all;
    conditional interactions refuse searches without one.
    """

    search: Search
    issues: list[Issue] = field(default_factory=list)
    applied: list[tuple[str, str]] = field(default_factory=list)
    shape: Shape = Shape()
    criteria: bool = False


def resolve(
    pairs: Pairs,
    *,
    types: Types,
    registry: Registry,
    settings: Settings,
    handling: str = "lenient",
    compartment: tuple[str, str] | None = None,
) -> Resolved:
    """The search that `pairs` (names and values, decoded) describe on `types` (None: the whole system).

    `compartment`: (type, id), only resources in it. `handling`: "strict" or "lenient", as Prefer has it.
    Raises: BadRequest (syntax, ``value``, ``not-found`` for terminology), NotSupported (modifiers); unknown parameters
    only in strict handling.
    """
    return resolver(registry, settings).resolve(pairs, types=types, handling=handling, compartment=compartment)


def resolver(registry: Registry, settings: Settings) -> Resolver:
    """The Resolver of a registry and settings, with the plans that it has made."""
    known: Resolver | None = getattr(registry, "_resolver", None)
    if known is None or known.settings is not settings:
        known = Resolver(registry, settings)
        registry._resolver = known  # type: ignore[attr-defined]
    return known


class Unknown(Exception):
    """No such parameter on these types: a warning or a 400, as handling says."""

    def __init__(self, code: str, where: str) -> None:
        super().__init__(f"Search parameter `{code}` is not defined for {where}.")


class Resolver:
    """Plans by (types, name), and what makes them."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self.registry = registry
        self.settings = settings
        self.calendar = settings.calendar
        self.references = ReferenceKeys(settings.base_urls)
        self._names = lru_cache(maxsize=4096)(self._plan)
        self._all = frozenset(registry.types)

    # --- a whole search -----------------------------------------------------------------------------------------------

    def resolve(
        self, pairs: Pairs, *, types: Types, handling: str = "lenient", compartment: tuple[str, str] | None = None
    ) -> Resolved:
        """See the module's `resolve`."""
        strict = handling == "strict"
        pairs = list(pairs)
        nodes: list[Node | Windowed] = []
        issues: list[Issue] = []
        applied: list[tuple[str, str]] = []
        results: list[tuple[str, str]] = []
        criteria = False
        if types is None:
            types, pairs = self._system_types(pairs, applied)
            criteria = bool(applied)
        if compartment is not None:
            types, node = self._compartment(types, compartment)
            nodes.append(node)
            criteria = True
        for name, value in pairs:
            if not value or not name:
                continue
            if name[0] == "_" and name.partition(":")[0] in RESULT_PARAMETERS:
                results.append((name, value))
                applied.append((name, value))
                continue
            # The commas of a filter belong to its own grammar.
            values = (value,) if name == "_filter" else split_values(value)
            if not values:
                continue
            try:
                nodes.append(self._names(types, name)(values, issues))
            except Unknown as unknown:
                if strict:
                    raise BadRequest(str(unknown), code="not-supported") from None
                issues.append(Issue("warning", "not-supported", f"{unknown} It was ignored."))
                continue
            applied.append((name, value))
            criteria = True
        return self._assemble(types, nodes, results, issues, applied, criteria, strict)

    def node(self, types: Types, name: str, value: str, issues: list[Issue] | None = None) -> Node:
        """The node of one parameter (for `_filter`, criteria of others). Raises Unknown, BadRequest."""
        return plain(self._names(types, name)(split_values(value), [] if issues is None else issues))

    def _system_types(
        self, pairs: list[tuple[str, str]], applied: list[tuple[str, str]]
    ) -> tuple[Types, list[tuple[str, str]]]:
        found: Types = None
        rest = []
        for name, value in pairs:
            if name != "_type":
                rest.append((name, value))
            elif value:
                named = tuple(dict.fromkeys(split_values(value)))
                if not set(named) <= self._all:
                    raise BadRequest("`_type` names a resource type that R4 does not have.", code="value")
                found = named if found is None else tuple(one for one in found if one in named)
                applied.append((name, value))
        return found, rest

    def _compartment(self, types: Types, compartment: tuple[str, str]) -> tuple[Types, Node]:
        name, id_ = compartment
        if not compartments.is_compartment(name):
            raise BadRequest("R4 defines no such compartment.", code="not-supported")
        if types is None:
            types = compartments.member_types(name)
        for one in types:
            if one not in compartments.member_types(name):
                raise BadRequest(f"{one} is not in the {name} compartment.", code="not-supported")
        return types, membership.node(self.registry, name, id_, types)

    def _assemble(
        self,
        types: Types,
        nodes: list[Node | Windowed],
        results: list[tuple[str, str]],
        issues: list[Issue],
        applied: list[tuple[str, str]],
        criteria: bool,
        strict: bool,
    ) -> Resolved:
        where: Node
        if len(nodes) == 1:
            where = plain(nodes[0])
        else:
            where = conjunction(nodes)
        if not results:
            search = Search(
                Select(types, where),
                count=self.settings.default_count,
                include_limit=self.settings.include_limit,
                include_depth=self.settings.include_depth,
                chain_limit=self.settings.chain_limit,
            )
            return Resolved(search, issues, applied, Shape(), criteria)
        options = _Options(self, types, strict, issues, applied)
        for name, value in results:
            options.take(name, value)
        search, shape = options.search(where)
        return Resolved(search, issues, applied, shape, criteria)

    # --- plans --------------------------------------------------------------------------------------------------------

    def _plan(self, types: Types, name: str) -> Plan:
        code, modifier, chain = parse_name(name)
        return self._chained(types, chain, code, modifier)

    def _chained(self, types: Types, chain: tuple[Link | Has, ...], code: str, modifier: str | None) -> Plan:
        if not chain:
            return self._leaf(types, code, modifier)
        step, rest = chain[0], chain[1:]
        if isinstance(step, Has):
            return self._reverse(types, step, rest, code, modifier)
        found = self._param(types, step.code)
        if isinstance(found, list):
            # Parameters of one code that differ from type to type: each type on its own.
            return _by_type(
                {param.type_name: self._chained((param.type_name,), chain, code, modifier) for param in found}
            )
        if found.type != "reference":
            raise BadRequest(f"`{step.code}` is not a reference and cannot be chained.", code="not-supported")
        self._check_ready(found)
        targets = found.targets
        if step.type is not None:
            if step.type not in self._all:
                raise NotSupported(f"`{step.code}` does not support the modifier that it was given.")
            if step.type not in targets:
                raise BadRequest(f"`{step.code}` does not refer to {step.type}.", code="value")
            targets = (step.type,)
        plans: dict[tuple[str, ...], Plan] = {}
        able = tuple(target for target in targets if self._defines(target, rest, code))
        if not able:
            raise BadRequest(
                f"No type that `{step.code}` refers to defines `{rest[0].code if rest else code}`.",
                code="not-supported",
            )
        plans[able] = self._chained(able, rest, code, modifier)
        numbers = found.numbers

        def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
            return either(
                [Linked(numbers, Select(names, plain(child(values, issues)), "both")) for names, child in plans.items()]
            )

        return plan

    def _defines(self, type_name: str, chain: tuple[Link | Has, ...], code: str) -> bool:
        """Whether a chain can go on from a type: a parameter must be defined on the whole way, for one target at
        least.
        """
        if not chain:
            return code in self.registry.params(type_name)
        step = chain[0]
        if isinstance(step, Has):
            return True
        param = self.registry.param(type_name, step.code)
        if param is None or param.type != "reference":
            return False
        targets = param.targets if step.type is None else (step.type,)
        return any(target in self._all and self._defines(target, chain[1:], code) for target in targets)

    def _reverse(self, types: Types, step: Has, rest: tuple[Link | Has, ...], code: str, modifier: str | None) -> Plan:
        if step.type not in self._all:
            raise BadRequest("`_has` names a resource type that R4 does not have.", code="value")
        param = self.registry.param(step.type, step.code)
        if param is None:
            raise BadRequest(f"Search parameter `{step.code}` is not defined for {step.type}.", code="not-supported")
        if param.type != "reference":
            raise BadRequest(f"`{step.code}` of {step.type} is not a reference.", code="not-supported")
        if types is not None and not set(types) & set(param.targets):
            raise BadRequest(f"`{step.code}` of {step.type} does not refer to {' or '.join(types)}.", code="value")
        self._check_ready(param)
        try:
            child = self._chained((step.type,), rest, code, modifier)
        except Unknown as unknown:
            raise BadRequest(str(unknown), code="not-supported") from None
        numbers, name = param.numbers, step.type
        return lambda values, issues: LinkedFrom(numbers, Select((name,), plain(child(values, issues))))

    def _param(self, types: Types, code: str) -> Param | list[Param]:
        """The parameter that all of `types` define; a list when their definitions differ. Raises Unknown."""
        if types is None:
            found = self.registry.common.get(code)
            if found is None:
                raise Unknown(code, "all resource types")
            return found
        if len(types) == 1:
            found = self.registry.param(types[0], code)
            if found is None:
                raise Unknown(code, types[0])
            return found
        params = []
        for name in types:
            found = self.registry.param(name, code)
            if found is None:
                # R4 search.html 3.1.1.3: across types only parameters that all of them have.
                raise BadRequest(f"Search parameter `{code}` is not defined for {name}.", code="not-supported")
            params.append(found)
        if not params:
            raise Unknown(code, "no resource type")
        first = params[0]
        if any(_sort_of(one) != _sort_of(first) for one in params):
            return params
        return replace(
            first,
            numbers=tuple(number for one in params for number in one.numbers),
            targets=tuple(sorted({target for one in params for target in one.targets})),
            single=False,
            branches=tuple(branch for one in params for branch in one.branches or ()),
        )

    def _check_ready(self, param: Param) -> None:
        if not param.ready:
            raise BadRequest(
                f"Search parameter `{param.code}` of {param.type_name} is being indexed; it cannot be searched by yet.",
                code="not-supported",
            )

    def _leaf(self, types: Types, code: str, modifier: str | None) -> Plan:
        if code == "_filter":
            return self._filter(types)
        if code in _SPECIALS:
            return _SPECIALS[code](self, types, modifier)
        found = self._param(types, code)
        if isinstance(found, list):
            return _by_type({param.type_name: self._leaf((param.type_name,), code, modifier) for param in found})
        self._check_ready(found)
        if modifier == "missing":
            return self._missing(found)
        if found.usage == "phonetic" and found.type == "string":
            return _phonetic(found, modifier)
        match found.type:
            case "token":
                return self._token(found, modifier)
            case "string":
                return _string(found, modifier)
            case "reference":
                return self._reference(found, modifier)
            case "uri":
                return _uri(found, modifier)
            case "date":
                return self._date(found, modifier)
            case "number":
                return _number(found, modifier)
            case "quantity":
                return self._quantity(found, modifier)
            case "composite":
                return self._composite(found, modifier)
            case _:
                return self._near(found, modifier)

    def _filter(self, types: Types) -> Plan:
        from fhir_server.search.filter import filter_node

        def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
            return either([filter_node(self, types, value, issues) for value in values])

        return plan

    # --- all types ----------------------------------------------------------------------------------------------------

    def _missing(self, param: Param) -> Plan:
        """search.html#missing: an element that has only extensions is missing, too (3.1.1.4.4)."""
        variants = {"token": (0, TEXT), "reference": (0, TEXT, IDENTIFIER), "string": (0,)}.get(param.type, (0,))
        if param.usage == "phonetic":
            variants = (WORDS,)
        present: Node = Exists(param.variant(*variants), param.shape, ANY)
        if param.restrict:
            inside = Linked(param.numbers, Select((param.restrict,), EVERYTHING, "only"))
            here = AnyOf((Compare("key", "prefix", f"{param.restrict}/"), Compare("key", "has", f"/{param.restrict}/")))
            present = Or((Exists(param.numbers, "key", here), inside))
        absent = Not(present)

        def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
            return either([absent if boolean(value, "`:missing`") else present for value in values])

        return plan

    # --- tokens -------------------------------------------------------------------------------------------------------

    def token_keys(self, text: str, suffix: str = "", column: Column = "key") -> Test:
        """The test of one token ``code``, ``system|code``, ``|code`` or ``system|``; keys continue with `suffix`."""
        parts = split(text, "|")
        if len(parts) > 2:
            raise bad("A token is written `code`, `system|code`, `|code` or `system|`.")
        if len(parts) == 1:
            return any_system(unescape(text), suffix, column)
        system, code = unescape(parts[0]), unescape(parts[1])
        if system in _BOOLEAN_SYSTEMS:
            system = ""
        if code:
            return Compare(column, "=", self.token_key(system, code) + suffix)
        if not system:
            raise bad("A token needs a system or a code.")
        return AnyOf(
            (Compare(column, "ends", f"{MARK}{system}{suffix}"), Compare(column, "ends", f"{EXACT}{system}{suffix}"))
        )

    def token_key(self, system: str, code: str) -> str:
        terminology = self.settings.terminology
        return token_key(system, code, bool(system and terminology and terminology.case_sensitive(system)))

    def _token(self, param: Param, modifier: str | None) -> Plan:
        numbers = param.numbers
        if modifier is None or modifier == "not":
            negative = modifier == "not"

            def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
                if len(values) == 1:
                    node: Node = Exists(numbers, "key", self.token_keys(values[0]))
                else:
                    node = Exists(numbers, "key", one_of([self.token_keys(value) for value in values]))
                return Not(node) if negative else node

            return plan
        if modifier == "text":
            return _text_plan(param)
        if modifier == "of-type":
            return _of_type(param)
        if modifier in ("in", "not-in"):
            return self._value_sets(param, modifier == "not-in")
        if modifier in ("above", "below"):
            return self._subsumed(param, modifier)
        raise unsupported(param, modifier)

    def _terms(self, ask: Callable[[Any], Any], canonical: str) -> Any:
        """What the terminology says; its refusals as 400 ``not-found`` that name the canonical."""
        terminology = self.settings.terminology
        if terminology is None:
            raise BadRequest(f"`{canonical}` is not known to this server.", code="not-found")
        try:
            return ask(terminology)
        except BadRequest:
            raise
        except Exception as error:
            named = getattr(error, "url", None)
            if named is None:
                raise
            reason = getattr(error, "reason", "")
            raise BadRequest(
                f"`{named}` cannot be expanded here: {reason}" if reason else f"`{named}` is not known to this server.",
                code="not-found",
            ) from None

    def _value_sets(self, param: Param, negative: bool) -> Plan:
        numbers = param.numbers
        plain_codes = any(
            branch.type != "Coding" and branch.type != "CodeableConcept" for branch in param.branches or ()
        )

        def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
            tests: list[Test] = []
            for value in values:
                canonical = unescape(value)
                tests.extend(self._expanded(self._terms(methodcaller("expand", canonical), canonical), plain_codes))
            node = Exists(numbers, "key", one_of(tests))
            return Not(node) if negative else node

        return plan

    def _expanded(self, expansion: Any, plain_codes: bool) -> list[Test]:
        keys: dict[str, None] = {}
        for system, codes in expansion.codes.items():
            for code in codes:
                keys[self.token_key(system, code)] = None
                if plain_codes:
                    # An element of type code, whose system was not known when it was indexed.
                    keys[token_key("", code)] = None
        tests: list[Test] = [Compare("key", "in", tuple(sorted(keys)))] if keys else []
        for system, left_out in expansion.whole.items():
            whole: Test = AnyOf((Compare("key", "ends", f"{MARK}{system}"), Compare("key", "ends", f"{EXACT}{system}")))
            out = sorted(self.token_key(system, code) for code in left_out)
            other = [AnyOf((Compare("key", "<", key), Compare("key", ">", key))) for key in out]
            tests.append(AllOf((whole, *other)) if other else whole)
        return tests

    def _subsumed(self, param: Param, modifier: str) -> Plan:
        numbers = param.numbers

        def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
            tests: list[Test] = []
            for value in values:
                parts = split(value, "|")
                if len(parts) != 2 or not all(parts):
                    raise bad(f"`{param.code}:{modifier}` needs `system|code`.")
                system, code = unescape(parts[0]), unescape(parts[1])

                def ask(terminology: Any, system: str = system, code: str = code) -> Any:
                    try:
                        related = terminology.descendants if modifier == "below" else terminology.ancestors
                        return related(system, code)
                    except Exception as error:
                        # A code that its known system does not have is above and below nothing but itself.
                        if getattr(error, "url", None) is None and getattr(error, "code", None) is not None:
                            return ()
                        raise

                related = self._terms(ask, system)
                keys = sorted({self.token_key(system, one) for one in (code, *related)})
                tests.append(Compare("key", "in", tuple(keys)))
            return Exists(numbers, "key", one_of(tests))

        return plan

    # --- references ---------------------------------------------------------------------------------------------------

    def reference_test(self, param: Param, text: str, type_: str | None, issues: list[Issue]) -> Test | None:
        """The test of one reference value; None when nothing can match. `type_` is the modifier ``:[type]``."""
        value = unescape(text)
        key, named = self.references.key(value)
        if named and key != f"{named}/{key[len(named) + 1 :]}":
            named = named if not param.restrict or named == param.restrict else "?"
            if named == "?" or type_ is not None:
                return None
            # The url of a canonical looks like a reference to another server; a stored one may carry a version.
            return canonical_test(value) if param.canonical and key == value else Compare("key", "=", key)
        if named:
            if type_ is not None and named != type_:
                raise bad(f"A value of `{param.code}:{type_}` names another type.")
            return None if param.restrict and named != param.restrict else Compare("key", "=", key)
        if _ID.fullmatch(value):
            targets = (type_,) if type_ is not None else param.targets
            if len(targets) > 1:
                issues.append(
                    Issue(
                        "warning",
                        "value",
                        f"A value of `{param.code}` is an id without a type; resources of every type that it may "
                        "refer to were searched for.",
                    )
                )
            keys = tuple(f"{target}/{value}" for target in targets)
            if param.canonical:
                keys = (*keys, value)
            return Compare("key", "=", keys[0]) if len(keys) == 1 else Compare("key", "in", keys)
        if type_ is not None:
            raise bad(f"A value of `{param.code}:{type_}` is not an id or a reference to {type_}.")
        return canonical_test(value) if param.canonical else Compare("key", "=", key)

    def _reference(self, param: Param, modifier: str | None) -> Plan:
        numbers = param.numbers
        if modifier is None or modifier in self._all:
            if modifier is not None and modifier not in param.targets:
                raise BadRequest(f"`{param.code}` does not refer to {modifier}.", code="value")

            def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
                tests = [self.reference_test(param, value, modifier, issues) for value in values]
                found = [test for test in tests if test is not None]
                return Exists(numbers, "key", one_of(found)) if found else NOTHING

            return plan
        if modifier == "identifier":
            variants = param.variant(IDENTIFIER)
            return lambda values, issues: Exists(variants, "key", one_of([self.token_keys(value) for value in values]))
        if modifier == "text":
            return _text_plan(param)
        if modifier in ("above", "below"):
            return self._hierarchy(param, modifier)
        raise unsupported(param, modifier)

    def _hierarchy(self, param: Param, modifier: str) -> Plan:
        """``:above`` and ``:below`` on references: search.html#recursive. Canonicals are compared by path, as uris
        are.
        """
        parents = []
        for target in param.targets:
            for code in ("partof", "part-of", "parent"):
                parent = self.registry.param(target, code)
                if parent is not None and parent.type == "reference" and target in parent.targets:
                    parents.append((target, parent))
                    break
        if not parents:
            if param.canonical or any(branch.type == "uri" for branch in param.branches or ()):
                return _uri(replace(param, type="uri"), modifier)
            raise unsupported(param, modifier)

        def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
            found: list[Node] = []
            for value in values:
                key, named = self.references.key(unescape(value))
                for target, parent in parents:
                    if named and named != target:
                        continue
                    address = key if named else f"{target}/{key}"
                    if not _ID.fullmatch(address.partition("/")[2]):
                        raise bad(f"A value of `{param.code}:{modifier}` is not an id or a reference.")
                    found.append(_levels(param.numbers, target, parent.numbers, address, modifier))
            return either(found)

        return plan

    # --- ranges -------------------------------------------------------------------------------------------------------

    def date_window(self, param_code: str, text: str, kinds: str) -> tuple[Window, ...]:
        """Windows of one date value. Raises BadRequest when it is none."""
        prefix, rest = split_prefix(text)
        a, b = self.date_range(param_code, rest)
        return date_windows(prefix, a, b, self.settings.now() if prefix == "ap" else 0, kinds)

    def date_range(self, param_code: str, text: str) -> tuple[int, int]:
        if " " in text:
            # A plus sign that was not percent-encoded came as a blank: "...+02:00".
            text = text.replace(" ", "+")
        try:
            return self.calendar.range(text)
        except (ValueError, OverflowError):
            raise bad(f"A value of `{param_code}` is not a date or time of FHIR.") from None

    def _date(self, param: Param, modifier: str | None) -> Plan:
        if modifier is not None:
            raise unsupported(param, modifier)
        kinds = _date_kinds(param.branches)
        numbers, code, single = param.numbers, param.code, param.single

        def plan(values: tuple[str, ...], issues: list[Issue]) -> Node | Windowed:
            if len(values) == 1:
                windows = self.date_window(code, values[0], kinds)
                if single:
                    return Windowed(numbers, windows)
            else:
                windows = tuple(window for value in values for window in self.date_window(code, value, kinds))
            return Exists(numbers, "range", window_test(windows))

        return plan

    def quantity_parts(self, code: str, text: str) -> tuple[str, str, str, str | None]:
        """(prefix, number, system, unit code) of a quantity value; unit None when the value has no bars."""
        parts = split(text, "|")
        prefix, number = split_prefix(parts[0])
        if len(parts) == 1:
            return prefix, number, "", None
        if len(parts) != 3:
            raise bad(f"A value of `{code}` is written `number`, `number|system|code` or `number||code`.")
        return prefix, number, unescape(parts[1]), unescape(parts[2])

    def quantity_windows(self, code: str, text: str, kinds: str) -> list[tuple[tuple[Window, ...], Test | None, int]]:
        """[(windows, test of the unit or None, variant of the entries)] of one quantity value."""
        prefix, number_text, system, unit = self.quantity_parts(code, text)
        number = parse_number(number_text)
        if number is None:
            raise bad(f"The number of a value of `{code}` is none.")
        plain_windows = number_windows(prefix, number_range(number), kinds)
        if unit is None:
            return [(plain_windows, None, 0)]
        if not system:
            if not unit:
                return [(plain_windows, None, 0)]
            test: Test = AnyOf((Compare("unit", "prefix", f"{unit}{MARK}"), Compare("unit", "ends", f"{MARK}{unit}")))
            return [(plain_windows, test, 0)]
        if not unit:
            return [(plain_windows, Compare("unit", "has", f"{MARK}{system}{MARK}"), 0)]
        found: list[tuple[tuple[Window, ...], Test | None, int]] = []
        canonical = self.settings.units(unit) if system == UCUM and self.settings.units is not None else None
        if canonical is not None and abs(number.adjusted()) <= 1000:
            windows = number_windows(prefix, _canonical_range(number, canonical), kinds)
            there = Compare("unit", "prefix", f"{canonical.dimension}{MARK}{UCUM}{MARK}")
            found.append((windows, there, CANONICAL_UNIT))
            if unit != canonical.dimension or canonical.factor != 1 or canonical.offset != 0:
                # Values that were written in base units have no second entry.
                found.append((windows, there, 0))
                return found
        found.append((plain_windows, Compare("unit", "prefix", f"{unit}{MARK}{system}{MARK}"), 0))
        return found

    def _quantity(self, param: Param, modifier: str | None) -> Plan:
        if modifier is not None:
            raise unsupported(param, modifier)
        kinds = _number_kinds(param.branches)

        def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
            by_variant: dict[int, list[Test]] = {}
            for value in values:
                for windows, unit, variant in self.quantity_windows(param.code, value, kinds):
                    test = window_test(windows)
                    by_variant.setdefault(variant, []).append(test if unit is None else AllOf((test, unit)))
            return either(
                [Exists(param.variant(variant), "range", one_of(tests)) for variant, tests in by_variant.items()]
            )

        return plan

    # --- composites ---------------------------------------------------------------------------------------------------

    def _composite(self, param: Param, modifier: str | None) -> Plan:
        if modifier is not None:
            raise unsupported(param, modifier)
        numbers, parts = param.numbers, param.components

        def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
            tests = []
            for value in values:
                texts = split(value, "$")
                if len(texts) != len(parts) or not all(texts):
                    raise bad(f"A value of `{param.code}` has {len(parts)} parts, with `$` between them.")
                tests.append(self._composite_test(param, parts, texts))
            return Exists(numbers, "range", one_of(tests))

        return plan

    def _composite_test(self, param: Param, parts: Sequence[Component], texts: Sequence[str]) -> Test:
        def left(suffix: str) -> Test:
            return self._component_keys(parts[0], texts[0], suffix, "key")

        second = parts[1]
        if len(parts) == 3:
            ranges: list[Test] = []
            for part, text, column in ((parts[1], texts[1], "low"), (parts[2], texts[2], "high")):
                prefix, number_text = split_prefix(text)
                number = parse_number(number_text)
                if part.type != "number" or number is None:
                    raise bad(f"A part of a value of `{param.code}` is not a number.")
                window = number_windows(prefix, number_range(number), "=", column)[0]  # type: ignore[arg-type]
                ranges.extend(window.tests())
            return AllOf((left(f"{CLASS_MARK}="), *ranges))
        if second.type in ("date", "number", "quantity"):
            found: list[Test] = []
            for window, unit in self._component_windows(param.code, second, texts[1]):
                tests = (left(f"{CLASS_MARK}{window.kind}"), *window.tests())
                found.append(AllOf(tests if unit is None else (*tests, unit)))
            return any_of(tuple(found))
        return AllOf((left(""), self._component_keys(second, texts[1], "", "low")))

    def _component_windows(self, code: str, part: Component, text: str) -> list[tuple[Window, Test | None]]:
        if part.type == "date":
            return [(window, None) for window in self.date_window(code, text, _date_kinds(part.branches))]
        if part.type == "number":
            prefix, number_text = split_prefix(text)
            number = parse_number(number_text)
            if number is None:
                raise bad(f"A part of a value of `{code}` is not a number.")
            return [
                (window, None) for window in number_windows(prefix, number_range(number), _number_kinds(part.branches))
            ]
        prefix, number_text, system, unit = self.quantity_parts(code, text)
        number = parse_number(number_text)
        if number is None:
            raise bad(f"The number of a value of `{code}` is none.")
        test: Test | None = None
        if unit is not None and (unit or system):
            if not system:
                test = AnyOf((Compare("unit", "prefix", f"{unit}{MARK}"), Compare("unit", "ends", f"{MARK}{unit}")))
            else:
                test = (
                    Compare("unit", "prefix", f"{unit}{MARK}{system}{MARK}")
                    if unit
                    else Compare("unit", "has", f"{MARK}{system}{MARK}")
                )
        return [(window, test) for window in number_windows(prefix, number_range(number), _number_kinds(part.branches))]

    def _component_keys(self, part: Component, text: str, suffix: str, column: Column) -> Test:
        """The test of a component that is a key; in a composite's key something may follow it (`suffix`)."""
        match part.type:
            case "token":
                return self.token_keys(text, suffix, column)
            case "string":
                return string_test(unescape(text), column)
            case "reference":
                key, named = self.references.key(unescape(text))
                if not named and _ID.fullmatch(key) and part.targets:
                    return Compare(column, "in", tuple(f"{target}/{key}{suffix}" for target in part.targets))
                return Compare(column, "=", key + suffix)
            case _:
                return Compare(column, "=", canonical_key(unescape(text)) + suffix)

    # --- special ------------------------------------------------------------------------------------------------------

    def _near(self, param: Param, modifier: str | None) -> Plan:
        if modifier is not None:
            raise unsupported(param, modifier)
        if param.usage != "nearby":
            raise BadRequest(f"Searches by `{param.code}` are not supported.", code="not-supported")
        default = self.settings.near_default_km
        return lambda values, issues: Exists(
            param.numbers, "range", one_of([near_test([unescape(p) for p in split(v, "|")], default) for v in values])
        )

    def special_id(self, types: Types, modifier: str | None) -> Plan:
        if modifier == "missing":
            return lambda values, issues: either(
                [NOTHING if boolean(value, "`:missing`") else EVERYTHING for value in values]
            )
        if modifier not in (None, "not"):
            raise NotSupported(f"`_id` does not support the modifier `:{modifier}`.")

        def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
            ids = tuple(dict.fromkeys(unescape(value) for value in values))
            node = Field("id", "=", ids[0]) if len(ids) == 1 else Field("id", "in", ids)
            return Not(node) if modifier == "not" else node

        return plan

    def special_last_updated(self, types: Types, modifier: str | None) -> Plan:
        if modifier == "missing":
            return self.special_id(types, modifier)
        if modifier is not None:
            raise NotSupported(f"`_lastUpdated` does not support the modifier `:{modifier}`.")

        def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
            return either([self._updated(value) for value in values])

        return plan

    def _updated(self, text: str) -> Node:
        """meta.lastUpdated is an instant, a point."""
        prefix, rest = split_prefix(text)
        a, b = self.date_range("_lastUpdated", rest)
        if prefix == "ap":
            gap = abs(self.settings.now() - a) // 10
            a, b = a - gap, b + gap
        match prefix:
            case "eq" | "ap":
                return And((Field("updated", ">=", a), Field("updated", "<", b)))
            case "ne":
                return Or((Field("updated", "<", a), Field("updated", ">=", b)))
            case "gt" | "sa":
                return Field("updated", ">=", b)
            case "ge":
                return Field("updated", ">=", a)
            case "lt" | "eb":
                return Field("updated", "<", a)
            case _:
                return Field("updated", "<", b)

    def special_type(self, types: Types, modifier: str | None) -> Plan:
        if modifier is not None:
            raise NotSupported(f"`_type` does not support the modifier `:{modifier}`.")

        def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
            if not set(values) <= self._all:
                raise BadRequest("`_type` names a resource type that R4 does not have.", code="value")
            return Field("type", "in", values)

        return plan

    def special_list(self, types: Types, modifier: str | None) -> Plan:
        """``_list``: what the entries of a List refer to. R4 search.html#list; the functional lists are not kept
        here.
        """
        if modifier is not None:
            raise NotSupported(f"`_list` does not support the modifier `:{modifier}`.")
        item = self.registry.params("List")["item"]

        def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
            ids = []
            for value in values:
                if value.startswith("$"):
                    raise BadRequest("Functional lists (`$current-...`) are not supported.", code="not-supported")
                key, named = self.references.key(unescape(value))
                ids.append(key.removeprefix("List/") if named == "List" else key)
            return LinkedFrom(item.numbers, Select(("List",), Field("id", "in", tuple(ids))))

        return plan

    def special_words(self, code: str) -> Callable[[Types, str | None], Plan]:
        def build(types: Types, modifier: str | None) -> Plan:
            if modifier is not None:
                raise NotSupported(f"`{code}` does not support the modifier `:{modifier}`.")
            if not self.settings.fulltext:
                raise BadRequest(f"`{code}` needs the word index, which is switched off here.", code="not-supported")
            found = self._param(types, code)
            numbers = (
                tuple(number for param in found for number in param.numbers)
                if isinstance(found, list)
                else found.numbers
            )

            def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
                alternatives: list[Node] = []
                for value in values:
                    words, beginnings = query_words(unescape(value))
                    if not words and not beginnings:
                        raise bad(f"A value of `{code}` has no word.")
                    parts: list[Node] = [Exists(numbers, "key", Compare("key", "=", word)) for word in words]
                    parts += [Exists(numbers, "key", Compare("key", "prefix", start)) for start in beginnings]
                    alternatives.append(conjunction(parts))
                return either(alternatives)

            return plan

        return build

    def special_query(self, types: Types, modifier: str | None) -> Plan:
        # search.html#query: a server SHALL refuse a named query that it does not know; there are none here.
        raise BadRequest("Named queries (`_query`) are not supported.", code="not-supported")


_SPECIALS: Final[Mapping[str, Callable[[Resolver, Types, str | None], Plan]]] = {
    "_id": Resolver.special_id,
    "_lastUpdated": Resolver.special_last_updated,
    "_type": Resolver.special_type,
    "_list": Resolver.special_list,
    "_query": Resolver.special_query,
    "_text": lambda one, types, modifier: one.special_words("_text")(types, modifier),
    "_content": lambda one, types, modifier: one.special_words("_content")(types, modifier),
}

_BOOLEAN_SYSTEMS: Final = frozenset(
    {"http://hl7.org/fhir/special-values", "http://terminology.hl7.org/CodeSystem/special-values"}
)

NEVER: Final[Test] = AnyOf(())

# --- small parts ------------------------------------------------------------------------------------------------------


def bad(message: str) -> BadRequest:
    """A value that cannot be understood. The message never repeats it: it may be patient data."""
    return BadRequest(message, code="value")


def unsupported(param: Param, modifier: str) -> NotSupported:
    """R4 search.html#modifiers: servers SHALL reject modifiers that they do not support for a parameter."""
    return NotSupported(f"Search parameter `{param.code}` ({param.type}) does not support the modifier `:{modifier}`.")


def boolean(value: str, what: str) -> bool:
    if value not in ("true", "false"):
        raise bad(f"{what} is `true` or `false`.")
    return value == "true"


def either(nodes: Sequence[Node | Windowed]) -> Node:
    return plain(nodes[0]) if len(nodes) == 1 else Or(tuple(plain(node) for node in nodes))


def one_of(tests: list[Test]) -> Test:
    """Any of some tests; equalities of keys together."""
    if len(tests) == 1:
        return tests[0]
    keys: dict[str, None] = {}
    others: list[Test] = []
    for test in tests:
        if isinstance(test, Compare) and test.column == "key" and test.op == "=":
            keys[str(test.value)] = None
        elif isinstance(test, Compare) and test.column == "key" and test.op == "in" and isinstance(test.value, tuple):
            keys.update(dict.fromkeys(map(str, test.value)))
        elif isinstance(test, AnyOf):
            others.extend(test.tests)
        else:
            others.append(test)
    if keys:
        found = tuple(keys)
        others.insert(0, Compare("key", "=", found[0]) if len(found) == 1 else Compare("key", "in", found))
    return any_of(tuple(others))


@dataclass(frozen=True, slots=True)
class Windowed:
    """Windows on a date parameter with at most one entry per resource, until all are known and become one Exists."""

    numbers: tuple[int, ...]
    windows: tuple[Window, ...]

    @property
    def node(self) -> Node:
        return Exists(self.numbers, "range", window_test(self.windows))


def plain(node: Node | Windowed) -> Node:
    """The node itself, windows as an Exists."""
    return node.node if isinstance(node, Windowed) else node


def conjunction(nodes: Sequence[Node | Windowed]) -> Node:
    """All of the nodes. Windows on the same single-valued parameter become one: ``date=ge..&date=lt..`` is one
    window.
    """
    merged: dict[tuple[int, ...], Windowed] = {}
    order: list[Any] = []
    for node in nodes:
        if isinstance(node, Windowed):
            known = merged.get(node.numbers)
            if known is not None:
                windows = tuple(
                    one.merged(other) for one in known.windows for other in node.windows if one.kind == other.kind
                )
                merged[node.numbers] = Windowed(node.numbers, windows)
                continue
            merged[node.numbers] = node
            order.append(node.numbers)
        else:
            order.append(node)
    parts = tuple(merged[item].node if isinstance(item, tuple) else item for item in order)
    return parts[0] if len(parts) == 1 else And(parts)


def _by_type(plans: Mapping[str, Plan]) -> Plan:
    """Each type by its own plan."""

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
        return Or(tuple(And((Field("type", "=", name), plain(one(values, issues)))) for name, one in plans.items()))

    return plan


def _sort_of(param: Param) -> tuple[Any, ...]:
    return (
        param.type,
        param.usage,
        param.restrict,
        param.words,
        param.ready,
        tuple((component.type, component.expression) for component in param.components),
    )


def any_system(code: str, suffix: str = "", column: Column = "key") -> Test:
    """A code in whatever system. Both marks are neighbours, so for a code that folding leaves alone this is one
    range.
    """
    folded = fold(code)
    if suffix:
        end = Compare(column, "ends", suffix)
        return AllOf((any_system(code, "", column), end))
    if folded == code:
        return AllOf((Compare(column, ">=", code + EXACT), Compare(column, "<", code + AFTER_MARK)))
    return AnyOf((Compare(column, "prefix", folded + MARK), Compare(column, "prefix", code + EXACT)))


def string_test(value: str, column: Column = "key") -> Test:
    """Fields that begin with a value; one that is only punctuation meets fields that are, too."""
    folded = normalize(value)
    return Compare(column, "prefix", folded or MARK + value)


def _string(param: Param, modifier: str | None) -> Plan:
    if modifier == "exact":
        return lambda values, issues: Exists(
            param.numbers, "key", one_of([Compare("key", "=", string_key(unescape(value))) for value in values])
        )
    if modifier == "contains":

        def contains(value: str) -> Test:
            folded = normalize(value)
            return Compare("key", "has", folded or MARK + value)

        return lambda values, issues: Exists(
            param.numbers, "key", one_of([contains(unescape(value)) for value in values])
        )
    if modifier is not None:
        raise unsupported(param, modifier)
    numbers = param.variant(0, WORDS) if param.words else param.numbers
    words = param.variant(WORDS)

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
        texts = [unescape(value) for value in values]
        node = Exists(numbers, "key", one_of([string_test(text) for text in texts]))
        long = [normalize(text)[:WORD_LENGTH] for text in texts if len(text) > WORD_LENGTH] if param.words else []
        if not long:
            return node
        # Keys of later words end after WORD_LENGTH characters, and so does what is compared with them.
        return Or((node, Exists(words, "key", one_of([Compare("key", "=", text) for text in long if text] or [NEVER]))))

    return plan


def _text_plan(param: Param) -> Plan:
    """``:text`` on tokens and references: their displays and texts, as strings. R4 search.html#modifiers."""
    numbers = param.variant(TEXT)
    return lambda values, issues: Exists(numbers, "key", one_of([string_test(unescape(value)) for value in values]))


def _phonetic(param: Param, modifier: str | None) -> Plan:
    if modifier is not None:
        raise unsupported(param, modifier)
    numbers = param.variant(WORDS)

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
        alternatives: list[Node] = []
        for value in values:
            words = normalize(unescape(value)).split()
            if not words:
                alternatives.append(NOTHING)
                continue
            alternatives.append(
                conjunction(
                    [Exists(numbers, "key", Compare("key", "in", tuple(phonetic_keys(word)))) for word in words]
                )
            )
        return either(alternatives)

    return plan


def _of_type(param: Param) -> Plan:
    if not any(branch.type == "Identifier" for branch in param.branches or ()):
        raise unsupported(param, "of-type")
    numbers = param.variant(OF_TYPE)

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
        keys = []
        for value in values:
            parts = [unescape(part) for part in split(value, "|")]
            if len(parts) != 3 or not all(parts):
                raise bad(f"`{param.code}:of-type` needs `system|code|value`.")
            system, code, text = parts
            keys.append(f"{fold(text)}{MARK}{code}{MARK}{system}")
        return Exists(numbers, "key", one_of([Compare("key", "=", key) for key in keys]))

    return plan


def canonical_test(value: str) -> Test:
    """A canonical, of any version unless the value names one."""
    if "|" in value:
        return Compare("key", "=", canonical_key(value))
    return AnyOf((Compare("key", "=", value), Compare("key", "prefix", value + MARK)))


def _uri(param: Param, modifier: str | None) -> Plan:
    canonical = param.canonical

    def equal(value: str) -> Test:
        return canonical_test(value) if canonical else Compare("key", "=", value)

    def below(value: str) -> Test:
        tests: list[Test] = [Compare("key", "=", value), Compare("key", "prefix", value.rstrip("/") + "/")]
        if canonical:
            tests.append(Compare("key", "prefix", value + MARK))
        return AnyOf(tuple(tests))

    def above(value: str) -> Test:
        scheme, mark, rest = value.partition("://")
        parts = rest.split("/")
        steps = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)] if mark else [value]
        prefix = scheme + mark if mark else ""
        found = [form for step in steps if step for form in (prefix + step, prefix + step + "/")]
        tests: list[Test] = [Compare("key", "in", tuple(dict.fromkeys([*found, value])))]
        if canonical:
            tests.extend(Compare("key", "prefix", form + MARK) for form in dict.fromkeys(found))
        return any_of(tuple(tests))

    tests = {None: equal, "below": below, "above": above}
    make = tests.get(modifier)
    if make is None:
        raise unsupported(param, str(modifier))
    return lambda values, issues: Exists(param.numbers, "key", one_of([make(unescape(value)) for value in values]))


def _levels(numbers: tuple[int, ...], target: str, parents: tuple[int, ...], address: str, modifier: str) -> Node:
    """Resources whose `numbers` refer to `address`, or to what is below (above) it, MAX_HIERARCHY levels deep."""
    here = Compare("key", "=", address)
    if modifier == "below":
        node: Node = Exists(parents, "key", here)
        for _ in range(MAX_HIERARCHY - 2):
            node = Or((Exists(parents, "key", here), Linked(parents, Select((target,), node))))
        return Or((Exists(numbers, "key", here), Linked(numbers, Select((target,), node))))
    node = Field("address", "=", address)
    for _ in range(MAX_HIERARCHY - 1):
        node = Or((Field("address", "=", address), LinkedFrom(parents, Select((target,), node))))
    return Linked(numbers, Select((target,), node))


def _date_kinds(branches: Sequence[Any] | None) -> str:
    """Width classes that values of these types can have."""
    types = {branch.type for branch in branches or ()}
    if types and types <= {"instant"}:
        return "0"
    return "01" if types and types <= {"instant", "date", "dateTime"} else "012"


def _number_kinds(branches: Sequence[Any] | None) -> str:
    """Classes that values of these types can have."""
    types = {branch.type for branch in branches or ()}
    if not types or "Extension" in types:
        return "=~<"
    if types <= {"integer", "decimal", "positiveInt", "unsignedInt", "Money"}:
        return "="
    quantities = types - {"Range", "SampledData"}
    return ("=" if quantities else "") + ("~" if types & {"Range", "SampledData"} else "") + ("<" if quantities else "")


def _canonical_range(number: Any, unit: Any) -> Any:
    """The keys of a number with its precision, in base units."""
    from fractions import Fraction

    from fhir_server.search.ranges import NumberRange

    a, b = precision_range(number)
    value = Fraction(number)
    tenth = abs(value) / 10

    def key(one: Fraction) -> str:
        return fraction_key(one * unit.factor + unit.offset)

    low, high = min(Fraction(a), value - tenth), max(Fraction(b), value + tenth)
    return NumberRange(key(value), key(Fraction(a)), key(Fraction(b)), key(low), key(high))


def _number(param: Param, modifier: str | None) -> Plan:
    if modifier is not None:
        raise unsupported(param, modifier)
    kinds = _number_kinds(param.branches)

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
        windows: list[Window] = []
        for value in values:
            prefix, text = split_prefix(value)
            number = parse_number(text)
            if number is None:
                raise bad(f"A value of `{param.code}` is not a number.")
            windows.extend(number_windows(prefix, number_range(number), kinds))
        return Exists(param.numbers, "range", window_test(tuple(windows)))

    return plan


# --- results ----------------------------------------------------------------------------------------------------------


class _Options:
    """`_sort`, `_count`, `_include` and their kin: R4 search.html#3.1.1.5."""

    def __init__(
        self, owner: Resolver, types: Types, strict: bool, issues: list[Issue], applied: list[tuple[str, str]]
    ) -> None:
        self.owner, self.types, self.strict, self.issues, self.applied = owner, types, strict, issues, applied
        self.registry = owner.registry
        self.sort: list[SortKey] = []
        self.includes: list[Include] = []
        self.count = owner.settings.default_count
        self.shape: dict[str, Any] = {}
        self.seen: set[str] = set()

    def take(self, name: str, value: str) -> None:
        code, _, modifier = name.partition(":")
        if code in ("_include", "_revinclude"):
            if modifier not in ("", "iterate", "recurse"):
                raise NotSupported(f"`{code}` does not support the modifier that it was given.")
            for one in split_values(value):
                self._include(code, one, bool(modifier))
            return
        if modifier:
            raise NotSupported(f"`{code}` does not support modifiers.")
        if code in self.seen and code not in ("_sort", "_elements"):
            raise BadRequest(f"`{code}` was given more than once.", code="value")
        self.seen.add(code)
        match code:
            case "_sort":
                for rule in split_values(value):
                    self._sort(rule)
            case "_count":
                self._count(value)
            case "_summary":
                self.shape["summary"] = self._choice(code, value, _SUMMARIES)
                if value == "count":
                    self.shape["count_only"] = True
            case "_total":
                self.shape["total"] = self._choice(code, value, ("none", "estimate", "accurate"))
            case "_contained":
                self.shape["contained"] = self._choice(code, value, ("false", "true", "both"))
            case "_containedType":
                self.shape["contained_type"] = self._choice(code, value, ("container", "contained"))
            case "_elements":
                self.shape["elements"] = (*self.shape.get("elements", ()), *split_values(value))
            case "_explain":
                self.shape["explain"] = self._choice(code, value, ("true", "false")) == "true"
            case _:
                # _format and _pretty were understood where the request was read.
                return

    def _choice(self, code: str, value: str, allowed: tuple[str, ...]) -> str:
        if value not in allowed:
            raise bad(f"`{code}` is one of {', '.join(f'`{one}`' for one in allowed)}.")
        return value

    def _count(self, value: str) -> None:
        if not value.isascii() or not value.isdigit():
            raise bad("`_count` is a number that is not negative.")
        wanted = int(value) if len(value) < 10 else 10**9
        if wanted == 0:
            self.shape["count_only"] = True
        maximum = self.owner.settings.max_count
        if wanted > maximum:
            at = self.applied.index(("_count", value))
            self.applied[at] = ("_count", str(maximum))
        self.count = min(wanted, maximum)

    def _sort(self, rule: str) -> None:
        descending = rule.startswith("-")
        code = rule[1:] if descending else rule
        if code in ("_id", "_lastUpdated"):
            self._sort_by(SortKey((), "id" if code == "_id" else "updated", descending))
            return
        if not _SORT_NAME.fullmatch(code):
            raise bad("`_sort` names search parameters, each after `-` to descend, with commas between them.")
        try:
            found = self.owner._param(self.types, code)
        except Unknown as unknown:
            if self.strict:
                raise BadRequest(str(unknown), code="not-supported") from None
            self.issues.append(Issue("warning", "not-supported", f"{unknown} It was ignored in `_sort`."))
            self._unapply(rule)
            return
        params = found if isinstance(found, list) else [found]
        for param in params:
            self.owner._check_ready(param)
            ordered = param.type not in ("composite", "special") and param.usage != "phonetic" and code not in _WORDS
            if not ordered or not param.numbers:
                raise BadRequest(f"Results cannot be sorted by `{code}`.", code="not-supported")
        shapes = {param.shape for param in params}
        if len(shapes) > 1:
            raise BadRequest(f"Results of these types cannot be sorted by `{code}` together.", code="not-supported")
        numbers = tuple(number for param in params for number in param.numbers)
        restricted = {param.restrict for param in params}
        # A view such as `patient` has the entries of `subject`; only those of its type are its values.
        prefix = f"{restricted.pop()}/" if len(restricted) == 1 and "" not in restricted else ""
        self._sort_by(SortKey(numbers, shapes.pop(), descending, prefix))

    def _sort_by(self, key: SortKey) -> None:
        """Adds a key; one that repeats an earlier one changes no order."""
        if any((one.params, one.shape, one.prefix) == (key.params, key.shape, key.prefix) for one in self.sort):
            return
        if len(self.sort) == MAX_SORT_KEYS:
            raise BadRequest(f"Results can be sorted by {MAX_SORT_KEYS} parameters at most.", code="too-costly")
        self.sort.append(key)

    def _unapply(self, rule: str) -> None:
        """Takes a rule that was ignored out of what `self` shows."""
        for at, (name, value) in enumerate(self.applied):
            if name == "_sort" and rule in split_values(value):
                rest = [one for one in split_values(value) if one != rule]
                self.applied[at : at + 1] = [("_sort", ",".join(rest))] if rest else []
                return

    def _include(self, name: str, value: str, iterate: bool) -> None:
        reverse = name == "_revinclude"
        parts = value.split(":")
        if len(parts) > 3 or not parts[0]:
            raise bad(f"`{name}` is written `Type:parameter` or `Type:parameter:TargetType`.")
        every = value == "*" or (len(parts) >= 2 and parts[1] == "*")
        source_type = None if parts[0] == "*" else parts[0]
        target = parts[2] if len(parts) == 3 and parts[2] else None
        for one in (source_type, target):
            if one is not None and one not in self.registry.types:
                raise bad(f"`{name}` names a resource type that R4 does not have.")
        if not every and (source_type is None or len(parts) == 1):
            raise bad(f"`{name}` is written `Type:parameter` or `Type:parameter:TargetType`.")
        if every:
            params = self._all_references(source_type, reverse)
        else:
            assert source_type is not None
            param = self.registry.param(source_type, parts[1])
            if param is None or param.type != "reference":
                raise BadRequest(
                    f"`{parts[1]}` is not a reference parameter of {source_type}."
                    if re.fullmatch(r"[A-Za-z_\-]{1,64}", parts[1])
                    else f"`{name}` names no reference parameter of {source_type}.",
                    code="not-supported",
                )
            self.owner._check_ready(param)
            if target is not None and target not in param.targets:
                raise bad(f"`{parts[1]}` of {source_type} does not refer to {target}.")
            params = [param]
        self._add_include(params, source_type, target, reverse, iterate)

    def _all_references(self, source_type: str | None, reverse: bool) -> list[Param]:
        if source_type is not None:
            names: tuple[str, ...] = (source_type,)
        elif reverse or self.types is None:
            names = self.registry.types
        else:
            names = self.types
        wanted = set(self.types) if reverse and self.types is not None else None
        return [
            param
            for name in names
            for param in self.registry.params(name).values()
            if param.type == "reference" and param.ready and (wanted is None or wanted & set(param.targets))
        ]

    def _add_include(
        self, params: list[Param], source_type: str | None, target: str | None, reverse: bool, iterate: bool
    ) -> None:
        numbers = tuple(dict.fromkeys(number for param in params for number in param.numbers))
        if not numbers:
            return
        if reverse:
            names = tuple(dict.fromkeys(param.type_name for param in params))
            everyone = len(names) == len(self.registry.types)
            # A view such as `patient` repeats `subject`: what it points at is restricted by the type.
            restrict = {param.restrict for param in params}
            pointed = (
                (target,) if target else (restrict.copy().pop(),) if len(restrict) == 1 and "" not in restrict else None
            )
            self.includes.append(Include(pointed, numbers, Select(None if everyone else names), True, iterate))
            return
        sources = (source_type,) if source_type else self.types
        targets = {one for param in params for one in ((param.restrict,) if param.restrict else param.targets)}
        wanted: Types = (target,) if target else tuple(sorted(targets))
        if wanted is not None and len(wanted) == len(self.registry.types):
            wanted = None
        self.includes.append(Include(sources, numbers, Select(wanted), False, iterate))

    def search(self, where: Node) -> tuple[Search, Shape]:
        shape = Shape(**self.shape)
        settings = self.owner.settings
        mode: Literal["no", "only", "both"] = {"false": "no", "true": "only", "both": "both"}[shape.contained]  # type: ignore[assignment]
        count_only = shape.count_only
        found = Search(
            Select(self.types, where, mode),
            sort=() if count_only else tuple(self.sort),
            count=0 if count_only else self.count,
            total=count_only or shape.total in ("estimate", "accurate"),
            includes=() if count_only else tuple(self.includes),
            include_limit=settings.include_limit,
            include_depth=settings.include_depth,
            chain_limit=settings.chain_limit,
            containers=mode != "no" and shape.contained_type == "container",
        )
        return found, shape
