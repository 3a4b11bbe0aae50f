"""What all plans share: their types, what they are made from, and how nodes are put together. R4 search.html.

A *plan* is what a parameter's name is compiled to: a function from its values to a node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from fhir_server.errors import BadRequest, Issue, NotSupported
from fhir_server.search.ast import And, AnyOf, Compare, Exists, Field, Node, Or, Test
from fhir_server.search.extract import ReferenceKeys
from fhir_server.search.ranges import Window, any_of, window_test
from fhir_server.search.registry import Param, Registry
from fhir_server.search.settings import Settings
from fhir_server.search.values import token_key

Types: TypeAlias = tuple[str, ...] | None
Plan: TypeAlias = "Callable[[tuple[str, ...], list[Issue]], Node | Windowed]"
"""(values, still escaped; issues to add to) -> node"""
Leaf: TypeAlias = Callable[[Types, str, str | None], Plan]
"""(types, code, modifier) -> plan of a parameter that is not chained"""

NEVER: Final[Test] = AnyOf(())


class Unknown(Exception):
    """No such parameter on these types: a warning or a 400, as handling says."""

    def __init__(self, code: str, where: str) -> None:
        super().__init__(f"Search parameter `{code}` is not defined for {where}.")


class Context:
    """What plans are made from: the parameters, the settings, and what follows from them."""

    def __init__(self, registry: Registry, settings: Settings) -> None:
        self.registry = registry
        self.settings = settings
        self.calendar = settings.calendar
        self.references = ReferenceKeys(settings.base_urls)
        self.all_types = frozenset(registry.types)

    def param(self, types: Types, code: str) -> Param | list[Param]:
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

    def check_ready(self, param: Param) -> None:
        if not param.ready:
            raise BadRequest(
                f"Search parameter `{param.code}` of {param.type_name} is being indexed; it cannot be searched by yet.",
                code="not-supported",
            )

    def token_key(self, system: str, code: str) -> str:
        """The key of a code, which the system may have as case-sensitive."""
        terminology = self.settings.terminology
        return token_key(system, code, bool(system and terminology and terminology.case_sensitive(system)))


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


def by_type(plans: Mapping[str, Plan]) -> Plan:
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
