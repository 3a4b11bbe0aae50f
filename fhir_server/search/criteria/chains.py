"""Names to plans: chains, ``_has``, and the parameter at the end of them. R4 search.html#chaining, #has."""

from __future__ import annotations

from functools import partial

from fhir_server.errors import BadRequest, Issue, NotSupported
from fhir_server.search.ast import Linked, LinkedFrom, Node, Select
from fhir_server.search.criteria.composites import composite_plan
from fhir_server.search.criteria.plans import Context, Plan, Types, Unknown, by_type, either, plain
from fhir_server.search.criteria.ranged import date_plan, near_plan, number_plan, quantity_plan
from fhir_server.search.criteria.references import reference_plan, uri_plan
from fhir_server.search.criteria.specials import SPECIALS, missing_plan
from fhir_server.search.criteria.strings import phonetic_plan, string_plan
from fhir_server.search.criteria.tokens import token_plan
from fhir_server.search.filter import filter_node
from fhir_server.search.parse import Has, Link


def chained(context: Context, types: Types, chain: tuple[Link | Has, ...], code: str, modifier: str | None) -> Plan:
    """The plan of a parameter at the end of a chain. Raises Unknown, BadRequest, NotSupported."""
    if not chain:
        return leaf(context, types, code, modifier)
    step, rest = chain[0], chain[1:]
    if isinstance(step, Has):
        return _reverse(context, types, step, rest, code, modifier)
    found = context.param(types, step.code)
    if isinstance(found, list):
        # Parameters of one code that differ from type to type: each type on its own.
        return by_type(
            {param.type_name: chained(context, (param.type_name,), chain, code, modifier) for param in found}
        )
    if found.type != "reference":
        raise BadRequest(f"`{step.code}` is not a reference and cannot be chained.", code="not-supported")
    context.check_ready(found)
    targets = found.targets
    if step.type is not None:
        if step.type not in context.all_types:
            raise NotSupported(f"`{step.code}` does not support the modifier that it was given.")
        if step.type not in targets:
            raise BadRequest(f"`{step.code}` does not refer to {step.type}.", code="value")
        targets = (step.type,)
    plans: dict[tuple[str, ...], Plan] = {}
    able = tuple(target for target in targets if _defines(context, target, rest, code))
    if not able:
        raise BadRequest(
            f"No type that `{step.code}` refers to defines `{rest[0].code if rest else code}`.",
            code="not-supported",
        )
    plans[able] = chained(context, able, rest, code, modifier)
    numbers = found.numbers

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
        return either(
            [Linked(numbers, Select(names, plain(child(values, issues)), "both")) for names, child in plans.items()]
        )

    return plan


def _defines(context: Context, type_name: str, chain: tuple[Link | Has, ...], code: str) -> bool:
    """Whether a chain can go on from a type: a parameter must be defined on the whole way, for one target at
    least.
    """
    if not chain:
        return code in context.registry.params(type_name)
    step = chain[0]
    if isinstance(step, Has):
        return True
    param = context.registry.param(type_name, step.code)
    if param is None or param.type != "reference":
        return False
    targets = param.targets if step.type is None else (step.type,)
    return any(target in context.all_types and _defines(context, target, chain[1:], code) for target in targets)


def _reverse(
    context: Context, types: Types, step: Has, rest: tuple[Link | Has, ...], code: str, modifier: str | None
) -> Plan:
    if step.type not in context.all_types:
        raise BadRequest("`_has` names a resource type that R4 does not have.", code="value")
    param = context.registry.param(step.type, step.code)
    if param is None:
        raise BadRequest(f"Search parameter `{step.code}` is not defined for {step.type}.", code="not-supported")
    if param.type != "reference":
        raise BadRequest(f"`{step.code}` of {step.type} is not a reference.", code="not-supported")
    if types is not None and not set(types) & set(param.targets):
        raise BadRequest(f"`{step.code}` of {step.type} does not refer to {' or '.join(types)}.", code="value")
    context.check_ready(param)
    try:
        child = chained(context, (step.type,), rest, code, modifier)
    except Unknown as unknown:
        raise BadRequest(str(unknown), code="not-supported") from None
    numbers, name = param.numbers, step.type
    return lambda values, issues: LinkedFrom(numbers, Select((name,), plain(child(values, issues))))


def leaf(context: Context, types: Types, code: str, modifier: str | None) -> Plan:
    """The plan of a parameter that is not chained. Raises Unknown, BadRequest, NotSupported."""
    if code == "_filter":
        return _filter(context, types)
    if code in SPECIALS:
        return SPECIALS[code](context, types, modifier)
    found = context.param(types, code)
    if isinstance(found, list):
        return by_type({param.type_name: leaf(context, (param.type_name,), code, modifier) for param in found})
    context.check_ready(found)
    if modifier == "missing":
        return missing_plan(context, found)
    if found.usage == "phonetic" and found.type == "string":
        return phonetic_plan(found, modifier)
    match found.type:
        case "token":
            return token_plan(context, found, modifier)
        case "string":
            return string_plan(found, modifier)
        case "reference":
            return reference_plan(context, found, modifier)
        case "uri":
            return uri_plan(found, modifier)
        case "date":
            return date_plan(context, found, modifier)
        case "number":
            return number_plan(found, modifier)
        case "quantity":
            return quantity_plan(context, found, modifier)
        case "composite":
            return composite_plan(context, found, modifier)
        case _:
            return near_plan(context, found, modifier)


def _filter(context: Context, types: Types) -> Plan:
    plan_of = partial(leaf, context)

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
        return either([filter_node(context, plan_of, types, value, issues) for value in values])

    return plan
