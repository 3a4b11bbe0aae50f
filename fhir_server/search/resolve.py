"""What a search means: parameters as given -> the tree of `ast`. Prefixes, modifiers, time zones and code systems end
here.

R4 search.html. A parameter's name is compiled once per (types, name) into a *plan*, a function from its values to a
node; a search then costs little more than its values.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

from fhir_server.errors import BadRequest, Issue
from fhir_server.resources import compartments
from fhir_server.search import membership
from fhir_server.search.ast import Node, Search, Select, Test
from fhir_server.search.criteria.chains import chained
from fhir_server.search.criteria.plans import Context, Plan, Types, Unknown, Windowed, conjunction, plain
from fhir_server.search.criteria.tokens import token_keys
from fhir_server.search.parse import parse_name, split_values
from fhir_server.search.registry import Registry
from fhir_server.search.results import RESULT_PARAMETERS, USUAL, Options, Shape
from fhir_server.search.settings import Settings

Pairs: TypeAlias = Iterable[tuple[str, str]]


@dataclass(slots=True)
class Resolved:
    """A search, ready to be narrowed. `applied`: what was used, as given (`_count` clamped): the query of `self`.

    `issues` are warnings about what was ignored. `criteria`: whether a parameter restricts the result at all;
    conditional interactions refuse searches without one.
    """

    search: Search
    issues: list[Issue] = field(default_factory=list)
    applied: list[tuple[str, str]] = field(default_factory=list)
    shape: Shape = USUAL
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


class Resolver(Context):
    """Plans by (types, name), and what makes them."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        super().__init__(registry, settings)
        self._names = lru_cache(maxsize=4096)(self._plan)

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
                if not set(named) <= self.all_types:
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
            return Resolved(search, issues, applied, USUAL, criteria)
        options = Options(self, types, strict, issues, applied)
        for name, value in results:
            options.take(name, value)
        search, shape = options.search(where)
        return Resolved(search, issues, applied, shape, criteria)

    def _plan(self, types: Types, name: str) -> Plan:
        code, modifier, chain = parse_name(name)
        return chained(self, types, chain, code, modifier)

    def token_keys(self, text: str) -> Test:
        """The test of one token. Raises BadRequest."""
        return token_keys(self, text)
