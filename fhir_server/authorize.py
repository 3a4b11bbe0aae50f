"""The one gate: a policy lowered to predicates of the search tree, applied at every Select and on single resources.
Pure.

R4 security.html#authorization. A chain target, a `_has` source, an include, criteria of a conditional write, a
history entry and every later page pass it before any limit is applied: narrowing only the root would tell about
resources it never returns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from operator import is_
from typing import Any, Final, Literal, TypeAlias, assert_never

from fhir_server.errors import Forbidden, NotSupported
from fhir_server.search import ast

Action: TypeAlias = Literal["c", "r", "u", "d", "s"]
"""What is done to a resource, in SMART's letters: c create; r read, vread and history-instance; u update and patch;
d delete; s search, history-type, history-system, criteria of conditional interactions, chains, `_has` and includes.
"""

OWNED: Final[ast.Node] = ast.And((ast.EVERYTHING,))
"""The predicate of types that are granted by their owner, which is Binary: it holds for all and, unlike EVERYTHING,
is a restriction. repository.py asks for the owner whenever a policy restricts Binary."""


@dataclass(frozen=True)
class Policy:
    """Predicates per resource type; a type without one is not granted. Without any mapping the policy *everything*.

    `predicates` hold for every action; `actions` has them per action instead, and an action that it lacks is granted
    for no type. The inner mappings may be lazy: what is granted is asked by `in` and by iteration, a predicate only
    when it is needed.
    """

    predicates: Mapping[str, ast.Node] | None = None
    actions: Mapping[Action, Mapping[str, ast.Node]] | None = None
    subjects: Callable[[str], tuple[int, ...]] = field(default=lambda name: (), compare=False, repr=False)
    """For a type the numbers of the entries that say whom a resource is about. Whoever writes one about several people
    has to be granted each of them."""
    _merged: dict[Any, tuple[tuple[str, ...] | None, ast.Node]] = field(default_factory=dict, compare=False, repr=False)
    _of_named: dict[str, ast.And | None] = field(default_factory=dict, compare=False, repr=False)
    _whole: dict[Any, ast.Select] = field(default_factory=dict, compare=False, repr=False)
    _beyond: dict[Any, ast.And] = field(default_factory=dict, compare=False, repr=False)

    @property
    def everything(self) -> bool:
        """Whether nothing is ever refused."""
        return self.predicates is None and self.actions is None

    def grants(self, resource_type: str, action: Action) -> bool:
        """Whether the action is granted for some resources of the type at all."""
        return self.everything or (
            resource_type in self._granted(action)
            and (resource_type != "Binary" or action != "s" or self._granted("s")["Binary"] == ast.EVERYTHING)
        )

    def unrestricted(self, resource_type: str, action: Action) -> bool:
        """Whether the action is granted for every resource of the type."""
        return self.everything or (
            resource_type in self._granted(action) and self._granted(action)[resource_type] == ast.EVERYTHING
        )

    def granted(self, types: tuple[str, ...] | None, action: Action) -> tuple[str, ...]:
        """Those of `types` (None: all) for which the action is granted. Not for the policy *everything*."""
        return tuple(name for name in (self._granted(action) if types is None else types) if self.grants(name, action))

    def predicate(self, types: tuple[str, ...] | None, action: Action = "r") -> ast.Node:
        """What every resource of `types` (None: all) must satisfy; NOTHING when no type of them is granted."""
        return self._narrowed(types, action)[1]

    def of_named(self, resource_type: str) -> ast.And | None:
        """What a resource must satisfy to be read, if that does not depend on its address; None when it may, or when
        there is nothing.
        """
        if resource_type not in self._of_named:
            predicate = self.predicate((resource_type,))
            plain = isinstance(predicate, ast.And) and predicate.lasting and not _of_fields(predicate)
            self._of_named[resource_type] = predicate if plain else None  # type: ignore[assignment]
        return self._of_named[resource_type]

    def _granted(self, action: Action) -> Mapping[str, ast.Node]:
        if self.actions is not None:
            return self.actions.get(action, _NO_TYPES)
        assert self.predicates is not None
        return self.predicates

    def _narrowed(self, types: tuple[str, ...] | None, action: Action) -> tuple[tuple[str, ...] | None, ast.Node]:
        """The types that are left of some, and what their resources must satisfy."""
        if self.everything:
            return types, ast.EVERYTHING
        found = self._merged.get((types, action))
        if found is None:
            names = self.granted(types, action)
            found = names, _lasting(_merge({name: self._granted(action)[name] for name in names}))
            if len(self._merged) >= _MERGED:
                for known in (self._merged, self._beyond, self._whole, self._of_named):
                    known.clear()
            self._merged[(types, action)] = found
        return found

    def left(self, predicate: ast.Node, facts: tuple[ast.Node, ...]) -> ast.And | None:
        """What of a predicate of this policy does not hold because of what is searched for; None if nothing is left."""
        if not isinstance(predicate, ast.And):  # NOTHING
            return ast.And((predicate,))
        kept = beyond(predicate, facts)
        if not kept:
            return None
        if len(kept) == len(predicate.parts):
            return predicate
        key = (id(predicate), tuple(map(id, kept)))  # held by `_merged`
        found = self._beyond.get(key)
        if found is None:
            found = self._beyond[key] = ast.And(kept, lasting=True)
        return found


_WORDS: Final = {"c": "create", "r": "read", "u": "update", "d": "delete", "s": "search"}
_MERGED: Final = 1000
"""Combinations of types that one policy remembers."""
_NO_TYPES: Final[Mapping[str, ast.Node]] = {}

EVERYTHING: Final = Policy()


def _lasting(node: ast.Node) -> ast.Node:
    """A node marked as one that comes again; EVERYTHING and NOTHING as they are."""
    return node if node in (ast.EVERYTHING, ast.NOTHING) else ast.And(_parts(node), lasting=True)


def _merge(predicates: Mapping[str, ast.Node]) -> ast.Node:
    """One predicate for resources of exactly these types. Entries are numbered per concrete type, so equal tests merge
    into one `Exists`.
    """
    merged: dict[tuple[Any, Any], list[int]] = {}
    others: dict[ast.Node, list[str]] = {}
    for name, predicate in predicates.items():
        if isinstance(predicate, ast.Exists):
            merged.setdefault((predicate.shape, predicate.test), []).extend(predicate.params)
        else:
            others.setdefault(predicate, []).append(name)
    nodes: list[ast.Node] = [
        ast.Exists(tuple(dict.fromkeys(numbers)), shape, test) for (shape, test), numbers in merged.items()
    ]
    if len(others) == 1 and not nodes:
        return next(iter(others))
    for predicate, names in others.items():
        typed = ast.Field("type", "in", tuple(names)) if len(names) > 1 else ast.Field("type", "=", names[0])
        nodes.append(typed if predicate == ast.EVERYTHING else ast.And((typed, predicate)))
    return nodes[0] if len(nodes) == 1 else ast.Or(tuple(nodes))


def narrow(search: ast.Search, policy: Policy) -> ast.Search:
    """The same search over only what the policy lets be found.

    Raises: Forbidden (403) when no type searched for is granted, or a chain leads through one that is not.
    """
    if policy.everything:
        return search
    if search.select.contained != "no":
        require(policy, search.select.types, "s")
        if policy.predicate(search.select.types, "s") != ast.EVERYTHING:
            raise NotSupported("`_contained` is not offered to callers who do not see everything.")
    select = narrow_select(search.select, policy)
    includes = search.includes
    if includes:
        # An include of what is not granted is absent, and does not say so.
        includes = tuple(
            [
                ast.Include(one.source, one.params, narrow_select(one.select, policy), one.reverse, one.iterate)
                for one in includes
                if policy._narrowed(one.select.types, "s")[0]
            ]
        )
    elif select is search.select:
        return search
    # By position, since every search comes here: replace() takes as long as the rest of this.
    return ast.Search(
        select,
        search.sort,
        search.count,
        search.after,
        search.total,
        includes,
        search.include_limit,
        search.include_depth,
        search.chain_limit,
        search.containers,
    )


def require(policy: Policy, types: tuple[str, ...] | None, action: Action) -> None:
    """Raises Forbidden (403) unless the action is granted for at least one of the types."""
    if policy.everything or types == () or policy.granted(types, action):
        return
    named = " or ".join(types) if types is not None and len(types) <= 3 else "any of these types"
    raise Forbidden(f"There is no grant to {_WORDS[action]} {named}.")


def narrow_select(select: ast.Select, policy: Policy) -> ast.Select:
    """Binds only resources that the policy lets be found, here and in every Select below. Raises Forbidden (403)."""
    if select.contained == "only":
        # What is contained in a resource is seen with it, and needs no grant of its own.
        return replace(select, where=narrow_node(select.where, policy))
    types, predicate = policy._narrowed(select.types, "s")
    if not types:
        require(policy, select.types, "s")
    if select.contained != "no" or select.where != ast.EVERYTHING:
        where = narrow_node(select.where, policy)
    elif predicate == ast.EVERYTHING and types == select.types:
        return select
    else:  # the Select of an include, the same each time
        found = policy._whole.get(select.types)
        if found is None:
            found = policy._whole[select.types] = ast.Select(types, predicate)
        return found
    if predicate == ast.EVERYTHING and types == select.types and where is select.where:
        return select
    return ast.Select(types, _beside(where, policy, predicate), select.contained)


def _beside(where: ast.Node, policy: Policy, predicate: ast.Node) -> ast.Node:
    """What is searched for, and what of the policy's predicate does not hold because of it."""
    if predicate == ast.EVERYTHING:
        return where
    asked = _parts(where)
    left = policy.left(predicate, asked)
    if left is None:
        return where
    # The policy's part comes last: of two conditions that select alike, the stores begin with the first.
    return ast.And((*asked, left)) if asked else left


def _of_fields(node: ast.Node) -> bool:
    """Whether a node asks for an id or an address anywhere outside of chains."""
    match node:
        case ast.And(parts) | ast.Or(parts):
            return any(map(_of_fields, parts))
        case ast.Not(part):
            return _of_fields(part)
        case ast.Field(name):
            return name in ("id", "address")
        case _:
            return False


def _parts(node: ast.Node) -> tuple[ast.Node, ...]:
    return node.parts if isinstance(node, ast.And) else (node,)


def beyond(node: ast.Node, facts: tuple[ast.Node, ...]) -> tuple[ast.Node, ...]:
    """The parts of a policy's node that do not hold because of what is searched for."""
    return tuple([part for part in _parts(node) if not implied(part, facts)])


def implied(node: ast.Node, facts: tuple[ast.Node, ...]) -> bool:
    """Whether a part of a policy holds because of what is searched for: whoever asks about one of the patients that
    the policy names need not be told so twice.
    """
    if isinstance(node, ast.Exists):
        for fact in facts:
            if isinstance(fact, ast.Exists):
                if fact.shape == node.shape and _covers(node.test, fact.test) and set(fact.params) <= set(node.params):
                    return True
            elif (
                isinstance(fact, ast.Linked) and _leads(fact.target, node.test) and set(fact.params) <= set(node.params)
            ):
                return True
        return False
    if isinstance(node, ast.Field):
        for fact in facts:
            if (
                isinstance(fact, ast.Field)
                and fact.name == node.name
                and node.op in ("=", "in")
                and fact.op in ("=", "in")
                and _within(fact, node)
            ):
                return True
        return False
    if isinstance(node, ast.And):
        return all(implied(part, facts) for part in node.parts)
    if isinstance(node, ast.Or):
        return any(implied(part, facts) for part in node.parts)
    return False


def _leads(target: ast.Select, test: ast.Test) -> bool:
    """Whether whatever a chain selects has an address that passes the test."""
    if target.contained != "no" or not isinstance(test, ast.Compare) or test.op != "in" or test.column != "key":
        return False
    return any(
        isinstance(part, ast.Field) and part.name == "address" and part.op == "in" and _among(part, test)
        for held in _parts(target.where)
        if isinstance(held, ast.And) and held.lasting
        for part in held.parts
    )


def _among(narrow: ast.Field, wide: ast.Compare) -> bool:
    """Whether a policy's list of addresses is on another list of its; remembered."""
    key = (id(narrow), id(wide))
    known = _AMONG.get(key)
    if known is None:
        if len(_AMONG) >= _MERGED:
            _AMONG.clear()
        known = _AMONG[key] = narrow, wide, _within(narrow, wide)
    return known[2]


_AMONG: dict[tuple[int, int], tuple[ast.Field, ast.Compare, bool]] = {}


def _covers(wide: ast.Test, narrow: ast.Test) -> bool:
    """Whether whatever passes `narrow` passes `wide`, as far as lists of keys are compared."""
    if wide == narrow:
        return True
    return (
        isinstance(wide, ast.Compare)
        and isinstance(narrow, ast.Compare)
        and wide.column == narrow.column == "key"
        and wide.op in ("=", "in")
        and narrow.op in ("=", "in")
        and _within(narrow, wide)
    )


def _within(narrow: ast.Compare | ast.Field, wide: ast.Compare | ast.Field) -> bool:
    """Whether every value of one list is on another, which is a policy's and comes again."""
    if not isinstance(wide.value, tuple):
        return narrow.value in (wide.value, (wide.value,))
    known = _LISTS.get(id(wide))
    if known is None:
        if len(_LISTS) >= _MERGED:
            _LISTS.clear()
        known = _LISTS[id(wide)] = wide, frozenset(wide.value)
    return known[1].issuperset(narrow.value) if isinstance(narrow.value, tuple) else narrow.value in known[1]


_LISTS: dict[int, tuple[ast.Compare | ast.Field, frozenset[ast.Scalar]]] = {}
"""Lists of policies as sets, by identity; held, so that the identity stays its own."""


def narrow_node(node: ast.Node, policy: Policy) -> ast.Node:
    """A condition whose chains lead only through what the policy lets be found. Raises Forbidden (403)."""
    match node:
        case ast.Exists() | ast.Field():
            return node
        case ast.And(parts):
            narrowed = tuple([narrow_node(part, policy) for part in parts])
            return node if all(map(is_, narrowed, parts)) else ast.And(narrowed)
        case ast.Or(parts):
            narrowed = tuple([narrow_node(part, policy) for part in parts])
            return node if all(map(is_, narrowed, parts)) else ast.Or(narrowed)
        case ast.Not(part):
            inner = narrow_node(part, policy)
            return node if inner is part else ast.Not(inner)
        case ast.Linked(params, target):
            if target.contained != "both":
                selected = narrow_select(target, policy)
                return node if selected is target else ast.Linked(params, selected)
            types, predicate = policy._narrowed(target.types, "s")
            if not types:
                require(policy, target.types, "s")
            where = narrow_node(target.where, policy)
            if predicate == ast.EVERYTHING and types == target.types:
                return node if where is target.where else ast.Linked(params, ast.Select(types, where, "both"))
            # A contained document is seen with its container, which the enclosing Select has narrowed; other documents
            # pass the policy by themselves.
            return ast.Or(
                (
                    ast.Linked(params, ast.Select(types, _beside(where, policy, predicate))),
                    ast.Linked(params, ast.Select(target.types, where, "only")),
                )
            )
        case ast.LinkedFrom(params, source):
            selected = narrow_select(source, policy)
            return node if selected is source else ast.LinkedFrom(params, selected)
        case _:
            assert_never(node)


def permitted(policy: Policy, resource_type: str, *actions: Action) -> ast.Select:
    """What selects a resource of that type exactly if the policy permits one of the actions on it."""
    if len(actions) == 1:  # a read: nothing has to be compared
        return ast.Select((resource_type,), policy.predicate((resource_type,), actions[0]))
    nodes = [policy.predicate((resource_type,), action) for action in actions]
    if ast.EVERYTHING in nodes:
        return ast.Select((resource_type,))
    different = tuple(dict.fromkeys(node for node in nodes if node != ast.NOTHING))
    return ast.Select((resource_type,), different[0] if len(different) == 1 else ast.Or(different))
