"""What is compared as a range: dates, numbers, quantities and positions. R4 search.html#date, #number, #quantity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fhir_server.errors import BadRequest, Issue
from fhir_server.search.ast import AllOf, AnyOf, Compare, Exists, Node, Test
from fhir_server.search.criteria.plans import Context, Plan, Windowed, bad, either, one_of, unsupported
from fhir_server.search.near import near_test
from fhir_server.search.parse import split, unescape
from fhir_server.search.ranges import Window, date_windows, number_range, number_windows, split_prefix, window_test
from fhir_server.search.registry import CANONICAL_UNIT, Param
from fhir_server.search.settings import UCUM
from fhir_server.search.values import MARK, fraction_key, parse_number, precision_range


def date_windows_of(context: Context, param_code: str, text: str, kinds: str) -> tuple[Window, ...]:
    """Windows of one date value. Raises BadRequest when it is none."""
    prefix, rest = split_prefix(text)
    a, b = date_range(context, param_code, rest)
    return date_windows(prefix, a, b, context.settings.now() if prefix == "ap" else 0, kinds)


def date_range(context: Context, param_code: str, text: str) -> tuple[int, int]:
    if " " in text:
        # A plus sign that was not percent-encoded came as a blank: "...+02:00".
        text = text.replace(" ", "+")
    try:
        return context.calendar.range(text)
    except (ValueError, OverflowError):
        raise bad(f"A value of `{param_code}` is not a date or time of FHIR.") from None


def date_plan(context: Context, param: Param, modifier: str | None) -> Plan:
    if modifier is not None:
        raise unsupported(param, modifier)
    kinds = date_kinds(param.branches)
    numbers, code, single = param.numbers, param.code, param.single

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node | Windowed:
        if len(values) == 1:
            windows = date_windows_of(context, code, values[0], kinds)
            if single:
                return Windowed(numbers, windows)
        else:
            windows = tuple(window for value in values for window in date_windows_of(context, code, value, kinds))
        return Exists(numbers, "range", window_test(windows))

    return plan


def quantity_parts(code: str, text: str) -> tuple[str, str, str, str | None]:
    """(prefix, number, system, unit code) of a quantity value; unit None when the value has no bars."""
    parts = split(text, "|")
    prefix, number = split_prefix(parts[0])
    if len(parts) == 1:
        return prefix, number, "", None
    if len(parts) != 3:
        raise bad(f"A value of `{code}` is written `number`, `number|system|code` or `number||code`.")
    return prefix, number, unescape(parts[1]), unescape(parts[2])


def quantity_windows(
    context: Context, code: str, text: str, kinds: str
) -> list[tuple[tuple[Window, ...], Test | None, int]]:
    """[(windows, test of the unit or None, variant of the entries)] of one quantity value."""
    prefix, number_text, system, unit = quantity_parts(code, text)
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
    canonical = context.settings.units(unit) if system == UCUM and context.settings.units is not None else None
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


def quantity_plan(context: Context, param: Param, modifier: str | None) -> Plan:
    if modifier is not None:
        raise unsupported(param, modifier)
    kinds = number_kinds(param.branches)

    def plan(values: tuple[str, ...], issues: list[Issue]) -> Node:
        by_variant: dict[int, list[Test]] = {}
        for value in values:
            for windows, unit, variant in quantity_windows(context, param.code, value, kinds):
                test = window_test(windows)
                by_variant.setdefault(variant, []).append(test if unit is None else AllOf((test, unit)))
        return either([Exists(param.variant(variant), "range", one_of(tests)) for variant, tests in by_variant.items()])

    return plan


def number_plan(param: Param, modifier: str | None) -> Plan:
    if modifier is not None:
        raise unsupported(param, modifier)
    kinds = number_kinds(param.branches)

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


def near_plan(context: Context, param: Param, modifier: str | None) -> Plan:
    if modifier is not None:
        raise unsupported(param, modifier)
    if param.usage != "nearby":
        raise BadRequest(f"Searches by `{param.code}` are not supported.", code="not-supported")
    default = context.settings.near_default_km
    return lambda values, issues: Exists(
        param.numbers, "range", one_of([near_test([unescape(p) for p in split(v, "|")], default) for v in values])
    )


def date_kinds(branches: Sequence[Any] | None) -> str:
    """Width classes that values of these types can have."""
    types = {branch.type for branch in branches or ()}
    if types and types <= {"instant"}:
        return "0"
    return "01" if types and types <= {"instant", "date", "dateTime"} else "012"


def number_kinds(branches: Sequence[Any] | None) -> str:
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
