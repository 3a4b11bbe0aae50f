"""References, their hierarchies, and uris and canonicals. R4 search.html#reference, #uri."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from fhir_server.errors import BadRequest, Issue
from fhir_server.search.ast import NOTHING, AnyOf, Compare, Exists, Field, Linked, LinkedFrom, Node, Or, Select, Test
from fhir_server.search.criteria.plans import Context, Plan, bad, either, one_of, unsupported
from fhir_server.search.criteria.strings import text_plan
from fhir_server.search.criteria.tokens import token_keys
from fhir_server.search.parse import unescape
from fhir_server.search.ranges import any_of
from fhir_server.search.registry import IDENTIFIER, Param
from fhir_server.search.values import MARK, canonical_key

MAX_HIERARCHY: Final = 10
"""Levels that ``:above`` and ``:below`` on references follow."""

ID: Final = re.compile(r"[A-Za-z0-9\-.]{1,64}", re.ASCII)


def reference_test(context: Context, param: Param, text: str, type_: str | None, issues: list[Issue]) -> Test | None:
    """The test of one reference value; None when nothing can match. `type_` is the modifier ``:[type]``."""
    value = unescape(text)
    key, named = context.references.key(value)
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
    if ID.fullmatch(value):
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


def reference_plan(context: Context, param: Param, modifier: str | None) -> Plan:
    numbers = param.numbers
    if modifier is None or modifier in context.all_types:
        if modifier is not None and modifier not in param.targets:
            raise BadRequest(f"`{param.code}` does not refer to {modifier}.", code="value")

        def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
            tests = [reference_test(context, param, value, modifier, issues) for value in values]
            found = [test for test in tests if test is not None]
            return Exists(numbers, "key", one_of(found)) if found else NOTHING

        return plan
    if modifier == "identifier":
        variants = param.variant(IDENTIFIER)
        return lambda values, issues: Exists(variants, "key", one_of([token_keys(context, value) for value in values]))
    if modifier == "text":
        return text_plan(param)
    if modifier in ("above", "below"):
        return _hierarchy(context, param, modifier)
    raise unsupported(param, modifier)


def _hierarchy(context: Context, param: Param, modifier: str) -> Plan:
    """``:above`` and ``:below`` on references: search.html#recursive. Canonicals are compared by path, as uris
    are.
    """
    parents = []
    for target in param.targets:
        for code in ("partof", "part-of", "parent"):
            parent = context.registry.param(target, code)
            if parent is not None and parent.type == "reference" and target in parent.targets:
                parents.append((target, parent))
                break
    if not parents:
        if param.canonical or any(branch.type == "uri" for branch in param.branches or ()):
            return uri_plan(replace(param, type="uri"), modifier)
        raise unsupported(param, modifier)

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
        found: list[Node] = []
        for value in values:
            key, named = context.references.key(unescape(value))
            for target, parent in parents:
                if named and named != target:
                    continue
                address = key if named else f"{target}/{key}"
                if not ID.fullmatch(address.partition("/")[2]):
                    raise bad(f"A value of `{param.code}:{modifier}` is not an id or a reference.")
                found.append(_levels(param.numbers, target, parent.numbers, address, modifier))
        return either(found)

    return plan


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


def canonical_test(value: str) -> Test:
    """A canonical, of any version unless the value names one."""
    if "|" in value:
        return Compare("key", "=", canonical_key(value))
    return AnyOf((Compare("key", "=", value), Compare("key", "prefix", value + MARK)))


def uri_plan(param: Param, modifier: str | None) -> Plan:
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
