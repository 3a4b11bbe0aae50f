"""Composites: ``left$right``, both of the same element. R4 search.html#composite."""

from __future__ import annotations

from collections.abc import Sequence

from fhir_server.errors import Issue
from fhir_server.search.ast import AllOf, AnyOf, Column, Compare, Exists, Node, Test
from fhir_server.search.criteria.plans import Context, Plan, bad, one_of, unsupported
from fhir_server.search.criteria.ranged import date_kinds, date_windows_of, number_kinds, quantity_parts
from fhir_server.search.criteria.references import ID
from fhir_server.search.criteria.strings import string_test
from fhir_server.search.criteria.tokens import may_identify, token_keys
from fhir_server.search.parse import split, unescape
from fhir_server.search.ranges import Window, any_of, number_range, number_windows, split_prefix
from fhir_server.search.registry import Component, Param
from fhir_server.search.values import CLASS_MARK, MARK, canonical_key, parse_number


def composite_plan(context: Context, param: Param, modifier: str | None) -> Plan:
    if modifier is not None:
        raise unsupported(param, modifier)
    numbers, parts = param.numbers, param.components

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
        tests = []
        for value in values:
            texts = split(value, "$")
            if len(texts) != len(parts) or not all(texts):
                raise bad(f"A value of `{param.code}` has {len(parts)} parts, with `$` between them.")
            tests.append(_composite_test(context, param, parts, texts))
        return Exists(numbers, "range", one_of(tests))

    return plan


def _composite_test(context: Context, param: Param, parts: Sequence[Component], texts: Sequence[str]) -> Test:
    def left(suffix: str) -> Test:
        return _component_keys(context, parts[0], texts[0], suffix, "key")

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
        for window, unit in _component_windows(context, param.code, second, texts[1]):
            tests = (left(f"{CLASS_MARK}{window.kind}"), *window.tests())
            found.append(AllOf(tests if unit is None else (*tests, unit)))
        return any_of(tuple(found))
    return AllOf((left(""), _component_keys(context, second, texts[1], "", "low")))


def _component_windows(context: Context, code: str, part: Component, text: str) -> list[tuple[Window, Test | None]]:
    if part.type == "date":
        return [(window, None) for window in date_windows_of(context, code, text, date_kinds(part.branches))]
    if part.type == "number":
        prefix, number_text = split_prefix(text)
        number = parse_number(number_text)
        if number is None:
            raise bad(f"A part of a value of `{code}` is not a number.")
        return [(window, None) for window in number_windows(prefix, number_range(number), number_kinds(part.branches))]
    prefix, number_text, system, unit = quantity_parts(code, text)
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
    return [(window, test) for window in number_windows(prefix, number_range(number), number_kinds(part.branches))]


def _component_keys(context: Context, part: Component, text: str, suffix: str, column: Column) -> Test:
    """The test of a component that is a key; in a composite's key something may follow it (`suffix`)."""
    match part.type:
        case "token":
            return token_keys(context, text, suffix, column, identifiers=may_identify(part.branches))
        case "string":
            return string_test(unescape(text), column)
        case "reference":
            key, named = context.references.key(unescape(text))
            if not named and ID.fullmatch(key) and part.targets:
                return Compare(column, "in", tuple(f"{target}/{key}{suffix}" for target in part.targets))
            return Compare(column, "=", key + suffix)
        case _:
            return Compare(column, "=", canonical_key(unescape(text)) + suffix)
