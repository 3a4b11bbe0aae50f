"""The one gate: a policy lowered to predicates of the search tree, applied at every Select and on single resources.
Pure.

R4 security.html#authorization. A chain target, a `_has` source, an include, criteria of a conditional write, a
history entry and every later page pass it before any limit is applied: narrowing only the root would tell about
resources it never returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, assert_never

from fhir_server.errors import Forbidden, NotSupported
from fhir_server.search import ast


@dataclass(frozen=True)
class Policy:
    """Predicates per resource type; a type without one is not granted. `predicates` None is the policy *everything*."""

    predicates: Mapping[str, ast.Node] | None = None
    _merged: dict[Any, ast.Node] = field(default_factory=dict, compare=False, repr=False)

    @property
    def everything(self) -> bool:
        return self.predicates is None

    def predicate(self, types: tuple[str, ...] | None) -> ast.Node:
        """What every resource of `types` (None: all) must satisfy; NOTHING when no type of them is granted."""
        assert self.predicates is not None
        found = self._merged.get(types)
        if found is None:
            found = self._merged[types] = _merge(self.predicates, types)
        return found


EVERYTHING: Final = Policy()


def _merge(predicates: Mapping[str, ast.Node], types: tuple[str, ...] | None) -> ast.Node:
    """One predicate for several types. Entries are numbered per concrete type, so equal tests merge into one
    `Exists`.
    """
    granted = [name for name in (predicates if types is None else types) if name in predicates]
    if types is not None and len(types) == 1:
        return predicates[types[0]] if granted else ast.NOTHING
    merged: dict[tuple[Any, Any], list[int]] = {}
    others: list[ast.Node] = []
    for name in granted:
        predicate = predicates[name]
        if isinstance(predicate, ast.Exists):
            merged.setdefault((predicate.shape, predicate.test), []).extend(predicate.params)
        else:
            others.append(ast.And((ast.Field("type", "=", name), predicate)))
    nodes = [ast.Exists(tuple(numbers), shape, test) for (shape, test), numbers in merged.items()] + others
    return nodes[0] if len(nodes) == 1 else ast.Or(tuple(nodes))


def narrow(search: ast.Search, policy: Policy) -> ast.Search:
    """The same search over only what the policy shows. Raises Forbidden (403) when no type searched for is granted."""
    if policy.predicates is None:
        return search
    if search.select.contained != "no":
        raise NotSupported("`_contained` is not offered to callers who do not see everything.")
    require(policy, search.select.types)
    return replace(
        search,
        select=narrow_select(search.select, policy),
        includes=tuple(replace(include, select=narrow_select(include.select, policy)) for include in search.includes),
    )


def require(policy: Policy, types: tuple[str, ...] | None) -> None:
    """Raises Forbidden unless the policy grants at least one of the types."""
    if policy.predicates is None:
        return
    if types is None:
        granted = bool(policy.predicates)
    else:
        granted = any(name in policy.predicates for name in types)
    if not granted:
        raise Forbidden("This resource type is not granted.")


def narrow_select(select: ast.Select, policy: Policy) -> ast.Select:
    """Binds only resources that the policy shows, here and in every Select below."""
    where = _narrow_node(select.where, policy)
    if select.contained == "only":
        return replace(select, where=where)
    return replace(select, where=ast.And((policy.predicate(select.types), where)))


def _narrow_node(node: ast.Node, policy: Policy) -> ast.Node:
    match node:
        case ast.And(parts):
            return ast.And(tuple(_narrow_node(part, policy) for part in parts))
        case ast.Or(parts):
            return ast.Or(tuple(_narrow_node(part, policy) for part in parts))
        case ast.Not(part):
            return ast.Not(_narrow_node(part, policy))
        case ast.Linked(params, target):
            if target.contained != "both":
                return ast.Linked(params, narrow_select(target, policy))
            # A contained document is seen with its container, which the enclosing Select has narrowed; other documents
            # pass the policy by themselves.
            return ast.Or(
                (
                    ast.Linked(params, narrow_select(replace(target, contained="no"), policy)),
                    ast.Linked(params, narrow_select(replace(target, contained="only"), policy)),
                )
            )
        case ast.LinkedFrom(params, source):
            return ast.LinkedFrom(params, narrow_select(source, policy))
        case ast.Exists() | ast.Field():
            return node
        case _:
            assert_never(node)


def predicate_of(policy: Policy, resource_type: str) -> ast.Select:
    """What selects a resource of that type exactly if the policy shows it."""
    return ast.Select(
        (resource_type,), policy.predicate((resource_type,)) if policy.predicates is not None else ast.EVERYTHING
    )
