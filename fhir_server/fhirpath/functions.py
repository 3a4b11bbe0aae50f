"""Functions of FHIRPath. FHIRPath N1, section 5 and 7; R4 fhirpath.html for those that FHIR adds.

Each builder gets the call and the compiled input and gives the compiled result. Arguments other than criteria and
projections are evaluated with the `this` of the call, not with its input: ``name.select(given.union(family))``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, TypeAlias

from fhir_server.fhirpath import ast, navigation
from fhir_server.fhirpath.ast import Call, IndexVar, TypeSpecifier
from fhir_server.fhirpath.code import (
    EMPTY,
    SYSTEM,
    Code,
    Run,
    Scalar,
    from_constant,
    from_scalar,
    from_truth,
    many_error,
    nothing,
)
from fhir_server.fhirpath.compiler import Compiler, Scope, TypeTest, indexed, merge
from fhir_server.fhirpath.dates import Temporal, build, from_datetime, parse_temporal
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.model import canonical_type, is_primitive, is_resource
from fhir_server.fhirpath.operators import keys_of, number, text_scalar
from fhir_server.fhirpath.quantities import CALENDAR_UNITS, Quantity
from fhir_server.fhirpath.regex import matcher, replacer
from fhir_server.fhirpath.values import (
    ARITHMETIC,
    MAX_TEXT,
    Environment,
    Item,
    converter,
    freeze,
    round_to,
    system_value,
    text_of,
    unique,
)

Builder: TypeAlias = Callable[[Compiler, Call, Code, Scope], Code]

_BUILDERS: dict[str, tuple[Builder, int, int]] = {}


def _function(name: str, least: int = 0, most: int | None = None) -> Callable[[Builder], Builder]:
    def register(builder: Builder) -> Builder:
        _BUILDERS[name] = (builder, least, least if most is None else most)
        return builder

    return register


def compile_call(compiler: Compiler, node: Call, scope: Scope) -> Code:
    """The Code of a function call. Raises FhirPathError for an unknown function or a wrong number of arguments."""
    found = _BUILDERS.get(node.name)
    if found is None:
        raise FhirPathError("The expression calls a function that is not known.", node.position)
    builder, least, most = found
    if not least <= len(node.args) <= most:
        raise FhirPathError(f"{node.name}() has the wrong number of arguments.", node.position)
    if node.name == "iif":
        return _iif(compiler, node, nothing(), scope)
    if node.name in ("as", "ofType"):
        specifier = node.args[0]
        assert isinstance(specifier, TypeSpecifier)
        return compiler.as_type(node.source, specifier, scope)
    if node.name == "is":
        specifier = node.args[0]
        assert isinstance(specifier, TypeSpecifier)
        return compiler.is_type(node.source, specifier, scope)
    return builder(compiler, node, compiler.compile(node.source, scope), scope)


def known_functions() -> frozenset[str]:
    """The names of all functions."""
    return frozenset(_BUILDERS)


def _unreachable(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    raise FhirPathError(f"{node.name}() cannot be used here.", node.position)


for _name, _least, _most in (("as", 1, 1), ("is", 1, 1), ("ofType", 1, 1), ("iif", 2, 3)):
    _BUILDERS[_name] = (_unreachable, _least, _most)


# --- existence (5.1) --------------------------------------------------------------------------------------------------


@_function("empty")
def _empty(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    exists = source.exists
    return from_truth(lambda env, this: not exists(env, this))


@_function("exists", 0, 1)
def _exists(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    if not node.args:
        return from_truth(source.exists)
    run, test, loop = source.run, _lambda(compiler, node, source).truth, _loop(node)

    def truth(env: Environment, this: Any) -> bool:
        found = run(env, this)
        env.spend(len(found))
        return any(test(env, value) is True for value in loop(env, found))

    return from_truth(truth)


@_function("all", 1)
def _all(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    run, test, loop = source.run, _lambda(compiler, node, source).truth, _loop(node)

    def truth(env: Environment, this: Any) -> bool:
        found = run(env, this)
        env.spend(len(found))
        return all(test(env, value) is True for value in loop(env, found))

    return from_truth(truth)


def _over_booleans(decide: Callable[[list[Any]], bool]) -> Builder:
    def builder(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
        run, convert = source.run, converter(source.type)

        def truth(env: Environment, this: Any) -> bool:
            values = [convert(value) for value in run(env, this)]
            if any(not isinstance(value, bool) for value in values):
                raise FhirPathError(f"{node.name}() needs a collection of booleans.", node.position)
            return decide(values)

        return from_truth(truth)

    return builder


_function("allTrue")(_over_booleans(lambda values: all(values)))
_function("anyTrue")(_over_booleans(lambda values: any(values)))
_function("allFalse")(_over_booleans(lambda values: not any(values)))
_function("anyFalse")(_over_booleans(lambda values: not all(values)))


@_function("count")
def _count(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    if isinstance(node.source, Call) and node.source.name == "children" and not node.source.args:
        # ele-1, which R4 puts on every element, asks only how many children there are.
        inner = compiler.compile(node.source.source, scope)
        if inner.type is not None and inner.type != SYSTEM:
            run_inner = inner.run
            if inner.is_this:
                return from_scalar(lambda env, this: navigation.count_children(this))
            return from_scalar(lambda env, this: sum(map(navigation.count_children, run_inner(env, this))))
    if source.single:
        exists = source.exists
        return from_scalar(lambda env, this: 1 if exists(env, this) else 0)
    run = source.run
    return from_scalar(lambda env, this: len(run(env, this)))


@_function("distinct")
def _distinct(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    run, convert = source.run, converter(source.type)
    return Code(lambda env, this: unique(run(env, this), convert), source.type, single=source.single)


@_function("isDistinct")
def _is_distinct(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    run, convert = source.run, converter(source.type)

    def truth(env: Environment, this: Any) -> bool:
        found = run(env, this)
        return len(found) < 2 or len(keys_of(found, convert)) == len(found)

    return from_truth(truth)


@_function("subsetOf", 1)
def _subset_of(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    return _subset(source, compiler.compile(node.args[0], scope))


@_function("supersetOf", 1)
def _superset_of(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    return _subset(compiler.compile(node.args[0], scope), source)


def _subset(small: Code, large: Code) -> Code:
    small_run, small_convert = small.run, converter(small.type)
    large_run, large_convert = large.run, converter(large.type)
    return from_truth(
        lambda env, this: keys_of(small_run(env, this), small_convert) <= keys_of(large_run(env, this), large_convert)
    )


# --- filtering and projection (5.2) -----------------------------------------------------------------------------------


def _lambda(compiler: Compiler, node: Call, source: Code, argument: int = 0) -> Code:
    """A criterion or projection, evaluated with each element of `source` as $this."""
    return compiler.compile(node.args[argument], Scope(source.type))


def _plain(env: Environment, found: list[Any]) -> list[Any]:
    return found


def _loop(node: Call, argument: int = 0) -> Callable[[Environment, list[Any]], Any]:
    """How to go over the elements: $index costs, so it is kept only where it is read."""
    reads_index = any(isinstance(each, IndexVar) for each in ast.walk(node.args[argument]))
    return indexed if reads_index else _plain


@_function("where", 1)
def _where(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    run, test, loop = source.run, _lambda(compiler, node, source).truth, _loop(node)
    if loop is indexed:

        def filter_indexed(env: Environment, this: Any) -> list[Any]:
            found = run(env, this)
            env.spend(len(found))
            return [value for value in indexed(env, found) if test(env, value) is True]

        return Code(filter_indexed, source.type, single=source.single)

    def filter_plain(env: Environment, this: Any) -> list[Any]:
        found = run(env, this)
        if not found:
            return EMPTY
        env.spend(len(found))
        return [value for value in found if test(env, value) is True]

    return Code(filter_plain, source.type, single=source.single)


@_function("select", 1)
def _select(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    run, loop = source.run, _loop(node)
    projection = _lambda(compiler, node, source)
    project, one_each = projection.run, projection.single

    def select(env: Environment, this: Any) -> list[Any]:
        found = run(env, this)
        if not found:
            return EMPTY
        env.spend(len(found))
        if one_each:
            return [value for each in loop(env, found) for value in project(env, each)]
        # The product of two collections can be large although neither is, so each part counts before the next is made.
        selected: list[Any] = []
        for each in loop(env, found):
            part = project(env, each)
            env.spend(len(part))
            selected += part
        return selected

    return Code(select, projection.type, single=source.single and projection.single)


@_function("repeat", 1)
def _repeat(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    """Only new elements are projected again, so that a projection that comes back to itself ends."""
    boxed = Code(source.boxed, None)
    run, project = boxed.run, Code(_lambda(compiler, node, boxed).boxed, None).run

    def repeat(env: Environment, this: Any) -> list[Any]:
        seen: set[Any] = set()
        found: list[Any] = []
        queue = list(run(env, this))
        while queue:
            env.spend(len(queue))
            following: list[Any] = []
            for each in queue:
                part = project(env, each)
                env.spend(len(part))
                for value in part:
                    key = freeze(system_value(value))
                    if key not in seen:
                        seen.add(key)
                        found.append(value)
                        following.append(value)
            queue = following
        return found

    return Code(repeat, None)


@_function("aggregate", 1, 2)
def _aggregate(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    run, loop = source.run, _loop(node)
    step = _lambda(compiler, node, source).boxed
    start = compiler.compile(node.args[1], scope).boxed if len(node.args) > 1 else None

    def aggregate(env: Environment, this: Any) -> list[Any]:
        found = run(env, this)
        env.spend(len(found))
        outer = env.total
        total = EMPTY if start is None else start(env, this)
        try:
            for each in loop(env, found):
                env.total = total
                total = step(env, each)
                env.spend(len(total))
        finally:
            env.total = outer
        return total

    return Code(aggregate, None)


# --- subsetting (5.3) -------------------------------------------------------------------------------------------------


@_function("single")
def _single(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    run = source.run

    def single(env: Environment, this: Any) -> list[Any]:
        found = run(env, this)
        if len(found) > 1:
            raise many_error("The input of single()")
        return found

    return Code(single, source.type, single=True)


@_function("first")
def _first(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    run = source.run
    return source if source.single else Code(lambda env, this: run(env, this)[:1], source.type, single=True)


@_function("last")
def _last(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    run = source.run
    return source if source.single else Code(lambda env, this: run(env, this)[-1:], source.type, single=True)


@_function("tail")
def _tail(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    run = source.run
    return Code(lambda env, this: run(env, this)[1:], source.type)


def _integer_argument(compiler: Compiler, node: Call, scope: Scope, position: int = 0) -> Scalar:
    scalar = compiler.compile(node.args[position], scope).scalar

    def integer(env: Environment, this: Any) -> Any:
        value = scalar(env, this)
        if value is not None and value.__class__ is not int:
            raise FhirPathError(f"{node.name}() needs an integer.", node.position)
        return value

    return integer


@_function("skip", 1)
def _skip(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    run, count = source.run, _integer_argument(compiler, node, scope)

    def skip(env: Environment, this: Any) -> list[Any]:
        return run(env, this)[max(0, count(env, this) or 0) :]

    return Code(skip, source.type)


@_function("take", 1)
def _take(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    run, count = source.run, _integer_argument(compiler, node, scope)

    def take(env: Environment, this: Any) -> list[Any]:
        return run(env, this)[: max(0, count(env, this) or 0)]

    return Code(take, source.type)


@_function("intersect", 1)
def _intersect(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    return _filter_by_keys(compiler, node, source, scope, keep=True)


@_function("exclude", 1)
def _exclude(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    return _filter_by_keys(compiler, node, source, scope, keep=False)


def _filter_by_keys(compiler: Compiler, node: Call, source: Code, scope: Scope, keep: bool) -> Code:
    other = compiler.compile(node.args[0], scope)
    run, convert = source.run, converter(source.type)
    other_run, other_convert = other.run, converter(other.type)

    def run_filter(env: Environment, this: Any) -> list[Any]:
        found = run(env, this)
        if not found:
            return EMPTY
        keys = keys_of(other_run(env, this), other_convert)
        if keep:
            # intersect() removes duplicates, exclude() keeps them (N1, 5.3.8 and 5.3.9).
            return [value for value in unique(found, convert) if freeze(convert(value)) in keys]
        return [value for value in found if freeze(convert(value)) not in keys]

    return Code(run_filter, source.type)


# --- combining (5.4) --------------------------------------------------------------------------------------------------


@_function("union", 1)
def _union(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    return compiler.union([source, compiler.compile(node.args[0], scope)])


@_function("combine", 1)
def _combine(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    type_name, (first, second) = merge([source, compiler.compile(node.args[0], scope)])

    def combine(env: Environment, this: Any) -> list[Any]:
        found = first(env, this) + second(env, this)
        env.spend(len(found))
        return found

    return Code(combine, type_name)


# --- conversion (5.5) -------------------------------------------------------------------------------------------------


def _iif(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    """Only the branch that is taken is evaluated. The input, at most one element, is $this in all arguments."""
    if not isinstance(node.source, ast.Focus):
        before = compiler.compile(node.source, scope)
        on_element = _branches(compiler, node, Scope(before.type))
        on_nothing = _branches(compiler, node, Scope(before.type, empty=True))
        type_name, (with_element, with_nothing) = merge([on_element, on_nothing])
        run_before = before.run

        def run(env: Environment, this: Any) -> list[Any]:
            found = run_before(env, this)
            if not found:
                return with_nothing(env, this)
            if len(found) > 1:
                raise many_error("The input of iif()")
            return with_element(env, found[0])

        return Code(run, type_name)
    return _branches(compiler, node, scope)


def _branches(compiler: Compiler, node: Call, scope: Scope) -> Code:
    test = compiler.compile(node.args[0], scope).truth
    codes = [compiler.compile(each, scope) for each in node.args[1:]]
    live = [code for code in codes if code.constant is not EMPTY]
    type_name, _ = merge(live) if live else (SYSTEM, [])
    runs = [code.run if code.type == type_name or code.constant is EMPTY else code.boxed for code in codes]
    when_true = runs[0]
    otherwise: Run = runs[1] if len(runs) > 1 else lambda env, this: EMPTY
    return Code(
        lambda env, this: when_true(env, this) if test(env, this) is True else otherwise(env, this),
        type_name,
        single=all(code.single for code in codes),
    )


_INTEGER = re.compile(r"[+-]?\d{1,10}", re.ASCII)
_DECIMAL = re.compile(r"[+-]?\d{1,100}(\.\d{1,100})?", re.ASCII)
_QUANTITY = re.compile(r"([+-]?\d{1,100}(?:\.\d{1,100})?)\s*(?:'([^']+)'|([a-zA-Z]+))?", re.ASCII)
_TRUE_TEXTS = frozenset({"true", "t", "yes", "y", "1", "1.0"})
_FALSE_TEXTS = frozenset({"false", "f", "no", "n", "0", "0.0"})


def _to_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = value.lower()
        return True if text in _TRUE_TEXTS else False if text in _FALSE_TEXTS else None
    if isinstance(value, (int, Decimal)):
        return True if value == 1 else False if value == 0 else None
    return None


def _to_integer(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        found = int(value)
        return found if -(2**31) <= found < 2**31 else None
    return None


def _to_decimal(value: Any) -> Any:
    if isinstance(value, bool):
        return Decimal(int(value))
    if isinstance(value, (int, Decimal)):
        return Decimal(value)
    return Decimal(value) if isinstance(value, str) and _DECIMAL.fullmatch(value) else None


def _to_date(value: Any) -> Any:
    if isinstance(value, str):
        value = parse_temporal(value)
    if not isinstance(value, Temporal) or value.kind == "Time":
        return None
    return value if value.kind == "Date" else build("Date", value.parts[:3], None)


def _to_date_time(value: Any) -> Any:
    if isinstance(value, str):
        value = parse_temporal(value)
    if not isinstance(value, Temporal) or value.kind == "Time":
        return None
    return value if value.kind == "DateTime" else Temporal("DateTime", value.parts, None, value.text)


def _to_time(value: Any) -> Any:
    if isinstance(value, str):
        return parse_temporal(value, "Time")
    return value if isinstance(value, Temporal) and value.kind == "Time" else None


def _to_quantity(value: Any) -> Any:
    if isinstance(value, Quantity):
        return value
    if isinstance(value, bool):
        return Quantity(Decimal(int(value)))
    if isinstance(value, (int, Decimal)):
        return Quantity(Decimal(value))
    match = _QUANTITY.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    amount, unit, calendar = match.groups()
    if calendar is not None and calendar not in CALENDAR_UNITS:
        return None
    return Quantity(Decimal(amount), unit or CALENDAR_UNITS.get(calendar or "", "1"))


def _conversion(convert: Callable[[Any], Any], test: bool) -> Builder:
    def builder(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
        scalar = source.scalar

        def converted(env: Environment, this: Any) -> Any:
            value = scalar(env, this)
            if value is None:
                return None
            result = convert(value)
            return result is not None if test else result

        return from_truth(converted) if test else from_scalar(converted)

    return builder


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "Boolean": _to_boolean,
    "Integer": _to_integer,
    "Decimal": _to_decimal,
    "Date": _to_date,
    "DateTime": _to_date_time,
    "Time": _to_time,
    "Quantity": _to_quantity,
    "String": text_of,
}
for _name, _convert in _CONVERSIONS.items():
    _function(f"convertsTo{_name}", 0, 1 if _name == "Quantity" else 0)(_conversion(_convert, True))
    if _name != "Quantity":
        _function(f"to{_name}")(_conversion(_convert, False))


@_function("toQuantity", 0, 1)
def _to_quantity_call(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    scalar = source.scalar
    unit = compiler.compile(node.args[0], scope).scalar if node.args else None

    def convert(env: Environment, this: Any) -> Any:
        value = _to_quantity(scalar(env, this))
        if value is None or unit is None:
            return value
        wanted = unit(env, this)
        if wanted is None or wanted == value.unit:
            return value
        factor, base = Quantity(Decimal(1), str(wanted)).canonical()
        amount, other = value.canonical()
        return Quantity(ARITHMETIC.divide(amount, factor), str(wanted)) if base == other else None

    return from_scalar(convert)


# --- strings (5.6) ----------------------------------------------------------------------------------------------------


def _text_input(node: Call, code: Code) -> Scalar:
    scalar = text_scalar(code)

    def text(env: Environment, this: Any) -> Any:
        value = scalar(env, this)
        if value is not None and not isinstance(value, str):
            raise FhirPathError(f"{node.name}() needs a string.", node.position)
        return value

    return text


def _text_function(name: str, arguments: int, calculate: Callable[..., Any], truth: bool = False) -> None:
    """A function of strings whose arguments are strings; empty when one of them is."""

    def builder(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
        text = _text_input(node, source)
        codes = [compiler.compile(each, scope) for each in node.args]
        wrap: Callable[[Any], Code] = from_truth if truth else from_scalar
        if not codes:

            def none(env: Environment, this: Any) -> Any:
                value = text(env, this)
                return None if value is None else calculate(value)

            return wrap(none)
        if len(codes) == 1 and codes[0].constant:
            constant = codes[0].constant[0]
            if not isinstance(constant, str):
                raise FhirPathError(f"{name}() needs a string.", node.position)

            def with_constant(env: Environment, this: Any) -> Any:
                value = text(env, this)
                return None if value is None else calculate(value, constant)

            return wrap(with_constant)
        others = [_text_input(node, code) for code in codes]

        def with_arguments(env: Environment, this: Any) -> Any:
            value = text(env, this)
            if value is None:
                return None
            values = [each(env, this) for each in others]
            if None in values:
                return None
            result = calculate(value, *values)
            if isinstance(result, str):
                env.spend(len(result) >> 8)
            return result

        return wrap(with_arguments)

    _function(name, arguments)(builder)


def _replace(text: str, pattern: str, substitution: str) -> str:
    # An upper bound of the result's length, so that nothing is built that would be refused.
    count = text.count(pattern) if pattern else len(text) + 1
    if len(text) + count * len(substitution) > MAX_TEXT:
        raise FhirPathError("The expression makes a text that is too long.")
    return text.replace(pattern, substitution)


_text_function("indexOf", 1, lambda text, other: text.find(other))
_text_function("lastIndexOf", 1, lambda text, other: text.rfind(other))
_text_function("startsWith", 1, lambda text, other: text.startswith(other), truth=True)
_text_function("endsWith", 1, lambda text, other: text.endswith(other), truth=True)
_text_function("contains", 1, lambda text, other: other in text, truth=True)
_text_function("upper", 0, str.upper)
_text_function("lower", 0, str.lower)
_text_function("trim", 0, str.strip)
_text_function("length", 0, len)
_text_function("replace", 2, _replace)
_text_function("matches", 1, lambda text, pattern: matcher(pattern)(text), truth=True)
_text_function("matchesFull", 1, lambda text, pattern: matcher(pattern, full=True)(text), truth=True)
_text_function("replaceMatches", 2, lambda text, pattern, substitution: replacer(pattern)(text, substitution))


@_function("substring", 1, 2)
def _substring(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    text, start = _text_input(node, source), _integer_argument(compiler, node, scope)
    length = _integer_argument(compiler, node, scope, 1) if len(node.args) > 1 else None

    def substring(env: Environment, this: Any) -> Any:
        value = text(env, this)
        if value is None:
            return None
        begin = start(env, this)
        if begin is None or not 0 <= begin < len(value):
            return None
        count = length(env, this) if length is not None else None
        return value[begin:] if count is None else value[begin : begin + max(0, count)]

    return from_scalar(substring)


@_function("toChars")
def _to_chars(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    text = _text_input(node, source)

    def characters(env: Environment, this: Any) -> list[Any]:
        value = text(env, this)
        if not value:
            return EMPTY
        env.spend(len(value))
        return list(value)

    return Code(characters, SYSTEM)


@_function("split", 1)
def _split(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    text, separator = _text_input(node, source), _text_input(node, compiler.compile(node.args[0], scope))

    def split(env: Environment, this: Any) -> list[Any]:
        value, by = text(env, this), separator(env, this)
        if value is None or not by:
            return EMPTY if value is None else [value]
        env.spend(len(value))
        return list(value.split(by))

    return Code(split, SYSTEM)


@_function("join", 0, 1)
def _join(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    run, convert = source.run, converter(source.type)
    separator = _text_input(node, compiler.compile(node.args[0], scope)) if node.args else None

    def join(env: Environment, this: Any) -> Any:
        texts = [text_of(convert(value)) for value in run(env, this)]
        by = separator(env, this) if separator is not None else ""
        if by is None or not texts or None in texts:
            return None
        if sum(len(text or "") + len(by) for text in texts) > MAX_TEXT:
            raise FhirPathError("The expression makes a text that is too long.")
        return by.join(text or "" for text in texts)

    return from_scalar(join)


# --- math (5.7) -------------------------------------------------------------------------------------------------------


def _math_function(name: str, calculate: Callable[..., Any], least: int = 0, most: int = 0) -> None:
    def builder(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
        scalar = source.scalar
        others = [compiler.compile(each, scope).scalar for each in node.args]

        def result(env: Environment, this: Any) -> Any:
            values = [scalar(env, this), *(each(env, this) for each in others)]
            if None in values:
                return None
            for value in values:
                if isinstance(value, bool) or not isinstance(value, (int, Decimal, Quantity)):
                    raise FhirPathError(f"{name}() needs a number.", node.position)
            if isinstance(values[0], Quantity) and name != "abs":
                raise FhirPathError(f"{name}() needs a number.", node.position)
            return number(lambda: calculate(*values))

        return from_scalar(result)

    _function(name, least, most)(builder)


def _power(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and exponent >= 0:
        if base and exponent * math.log2(abs(base)) > 32:
            return None
        value = int(base**exponent) if abs(base) > 1 else (base if exponent % 2 else abs(base)) if exponent else 1
        return value if -(2**31) <= value < 2**31 else None
    return ARITHMETIC.power(Decimal(base), Decimal(exponent))


def _round(value: Any, precision: int = 0) -> Any:
    if not isinstance(precision, int) or not 0 <= precision <= 50:
        raise FhirPathError("round() needs a precision from 0 to 50.")
    return round_to(value, precision)


def _log(value: Any, base: Any) -> Any:
    # Computed with more digits than are kept, so that log(16, 2) is 4 and not 3.99...
    result = ARITHMETIC.divide(ARITHMETIC.ln(Decimal(value)), ARITHMETIC.ln(Decimal(base)))
    return result.quantize(Decimal(1).scaleb(-28), context=ARITHMETIC).normalize(ARITHMETIC)


def _integral(rounding: str) -> Callable[[Any], Any]:
    def calculate(value: Any) -> Any:
        whole = int(Decimal(value).to_integral_value(rounding=rounding)) if abs(value) < 2**40 else 2**40
        return whole if -(2**31) <= whole < 2**31 else None

    return calculate


_math_function(
    "abs", lambda value: Quantity(abs(value.value), value.unit) if isinstance(value, Quantity) else abs(value)
)
_math_function("ceiling", _integral(ROUND_CEILING))
_math_function("floor", _integral(ROUND_FLOOR))
_math_function("truncate", lambda value: int(value) if abs(value) < 2**31 else None)
_math_function("round", _round, 0, 1)
_math_function("exp", lambda value: ARITHMETIC.exp(Decimal(value)))
_math_function("ln", lambda value: ARITHMETIC.ln(Decimal(value)))
_math_function("log", _log, 1, 1)
_math_function("sqrt", lambda value: ARITHMETIC.sqrt(Decimal(value)) if value >= 0 else None)
_math_function("power", _power, 1, 1)


# --- tree (5.8) -------------------------------------------------------------------------------------------------------


@_function("children")
def _children(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    boxed = source.boxed

    def children(env: Environment, this: Any) -> list[Any]:
        found: list[Item] = []
        for item in boxed(env, this):
            navigation.children_of_item(item, found)
        env.spend(len(found))
        return found

    return Code(children, None)


@_function("descendants")
def _descendants(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    boxed = source.boxed
    return Code(lambda env, this: navigation.descendants(env, boxed(env, this)), None)


# --- utility (5.9) and clock ------------------------------------------------------------------------------------------


@_function("trace", 1, 2)
def _trace(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    """Gives its input and writes nothing: what it would log is patient data."""
    if len(node.args) > 1:
        _lambda(compiler, node, source, 1)
    return source


def _today(moment: datetime) -> Temporal:
    return build("Date", (moment.year, moment.month, moment.day), None)


def _time_of_day(moment: datetime) -> Temporal:
    return build("Time", from_datetime(moment).parts[3:], None)


def _clock(read: Callable[[datetime], Temporal]) -> Builder:
    return lambda compiler, node, source, scope: from_scalar(lambda env, this: read(env.clock()))


_function("now")(_clock(from_datetime))
_function("today")(_clock(_today))
_function("timeOfDay")(_clock(_time_of_day))


@_function("not")
def _not(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    test = source.truth

    def truth(env: Environment, this: Any) -> bool | None:
        value = test(env, this)
        return None if value is None else not value

    return from_truth(truth)


@_function("type")
def _type(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    boxed = source.boxed

    def types(env: Environment, this: Any) -> list[Any]:
        found: list[Item] = []
        for item in boxed(env, this):
            namespace, dot, name = item.type.partition(".")
            if not dot or namespace != "System":
                namespace, name = "FHIR", item.type
            found.append(Item({"namespace": namespace, "name": name}, "SimpleTypeInfo"))
        return found

    return Code(types, None, single=source.single)


# --- what FHIR adds (R4 fhirpath.html) --------------------------------------------------------------------------------


@_function("extension", 1)
def _extension(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    extensions = compiler.member_of(source, "extension")
    url = compiler.compile(node.args[0], scope).scalar
    run = extensions.run
    if extensions.type is None:
        return Code(
            lambda env, this: _with_url(run(env, this), url(env, this)),
            None,
        )

    def run_known(env: Environment, this: Any) -> list[Any]:
        found = run(env, this)
        if not found:
            return EMPTY
        wanted = url(env, this)
        return [each for each in found if each.get("url") == wanted]

    return Code(run_known, extensions.type)


def _with_url(items: list[Any], url: Any) -> list[Any]:
    return [item for item in items if item.value.__class__ is dict and item.value.get("url") == url]


@_function("hasExtension", 1)
def _has_extension(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    # Not in R4's text, but R4's own parameter QuestionnaireResponse-item-subject calls it.
    return from_truth(_extension(compiler, node, source, scope).exists)


@_function("hasValue")
def _has_value(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    """Whether the input is one primitive that has a value, not just extensions."""
    if source.key is not None:
        key = source.key
        return from_truth(lambda env, this: this.get(key) is not None)
    run, type_name = source.run, source.type
    if type_name is not None and type_name != SYSTEM and not is_primitive(type_name):
        return from_constant([False])

    def truth(env: Environment, this: Any) -> bool:
        found = run(env, this)
        if len(found) != 1:
            return False
        value = found[0].value if found[0].__class__ is Item else found[0]
        return value is not None and value.__class__ is not dict

    return from_truth(truth)


@_function("getValue")
def _get_value(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    run, convert = source.run, converter(source.type)

    def value_of(env: Environment, this: Any) -> Any:
        found = run(env, this)
        if len(found) != 1:
            return None
        value = convert(found[0])
        return None if isinstance(value, (dict, Quantity)) else value

    return from_scalar(value_of)


_LITERAL_REFERENCE = re.compile(
    r"(?:.*/)?([A-Z][A-Za-z]+)/[A-Za-z0-9\-.]{1,64}(?:/_history/[A-Za-z0-9\-.]{1,64})?", re.ASCII | re.DOTALL
)


def _reference_text(value: Any) -> str | None:
    """The URL that an element refers to: a Reference's reference, or a uri or canonical itself."""
    if value.__class__ is Item:
        value = value.value
    if value.__class__ is dict:
        value = value.get("reference")
    return value if isinstance(value, str) else None


def _resolve_contained(env: Environment, reference: str) -> dict[str, Any] | None:
    root = env.root
    if root is None:
        return None
    if reference == "#":
        return root
    contained = root.get("contained")
    for resource in contained if isinstance(contained, list) else EMPTY:
        if isinstance(resource, dict) and resource.get("id") == reference[1:]:
            return resource
    return None


def _resolve_reference(env: Environment, reference: str) -> dict[str, Any] | None:
    if reference[:1] == "#":
        return _resolve_contained(env, reference)
    return None if env.resolve is None else env.resolve(reference)


@_function("resolve")
def _resolve(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    """What cannot be resolved is left out (R4 fhirpath.html)."""
    run = source.run

    def resolve(env: Environment, this: Any) -> list[Any]:
        found: list[Item] = []
        for value in run(env, this):
            reference = _reference_text(value)
            resource = None if reference is None else _resolve_reference(env, reference)
            if resource is not None:
                found.append(Item(resource, navigation.resource_type_of(resource)))
        return found

    return Code(resolve, None, single=source.single)


def resolves_to(source: Code, test: TypeTest) -> Code:
    """``resolve() is Patient``, as R4's search parameters ask; mostly the reference's text says it, without look-up."""
    run = source.run

    def truth(env: Environment, this: Any) -> bool | None:
        found = run(env, this)
        if not found:
            return None
        if len(found) > 1:
            raise many_error("The operand of `is`")
        value = found[0].value if found[0].__class__ is Item else found[0]
        reference = _reference_text(value)
        if reference is None:
            return None
        match = _LITERAL_REFERENCE.fullmatch(reference)
        if match is not None and is_resource(match[1]):
            return test.of_type(match[1])
        resource = _resolve_reference(env, reference)
        if resource is not None:
            return test.of_type(navigation.resource_type_of(resource))
        declared = value.get("type") if isinstance(value, dict) else None
        return test.of_type(declared) if isinstance(declared, str) and is_resource(declared) else None

    return from_truth(truth)


def _hook(name: str, call: Callable[[Environment, Item, str], bool | None]) -> None:
    def builder(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
        boxed = source.boxed
        argument = compiler.compile(node.args[0], scope).scalar

        def truth(env: Environment, this: Any) -> bool | None:
            found = boxed(env, this)
            url = argument(env, this)
            if not found or not isinstance(url, str):
                return None
            if len(found) > 1:
                raise many_error(f"The input of {name}()")
            return call(env, found[0], url)

        return from_truth(truth)

    _function(name, 1)(builder)


_CORE = "http://hl7.org/fhir/StructureDefinition/"


def _conforms_to(env: Environment, item: Item, url: str) -> bool | None:
    if env.conforms_to is not None:
        return env.conforms_to(item, url)
    name = canonical_type(url.removeprefix(_CORE)) if url.startswith(_CORE) else None
    if name is None:
        return None
    return TypeTest(name, None).of_type(item.type)


_hook("memberOf", lambda env, item, url: None if env.member_of is None else env.member_of(item, url))
_hook("conformsTo", _conforms_to)


def _subsumption(turned: bool) -> Builder:
    def builder(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
        first, second = source.boxed, compiler.compile(node.args[0], scope).boxed

        def truth(env: Environment, this: Any) -> bool | None:
            a, b = first(env, this), second(env, this)
            if not a or not b or env.subsumes is None:
                return None
            if len(a) > 1 or len(b) > 1:
                raise many_error(f"The input of {node.name}()")
            return env.subsumes(b[0], a[0]) if turned else env.subsumes(a[0], b[0])

        return from_truth(truth)

    return builder


_function("subsumes", 1)(_subsumption(False))
_function("subsumedBy", 1)(_subsumption(True))


@_function("htmlChecks")
def _html_checks(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    scalar = source.scalar

    def truth(env: Environment, this: Any) -> bool | None:
        text = scalar(env, this)
        if text is None or env.html_checks is None:
            return True
        return isinstance(text, str) and env.html_checks(text)

    return from_truth(truth)


@_function("checkModifiers", 0, 50)
def _check_modifiers(compiler: Compiler, node: Call, source: Code, scope: Scope) -> Code:
    """Raises for a modifier extension that the arguments do not name (R4 fhirpath.html)."""
    boxed = source.boxed
    known = [compiler.compile(each, scope).scalar for each in node.args]

    def check(env: Environment, this: Any) -> list[Any]:
        found = boxed(env, this)
        urls = {each(env, this) for each in known}
        for item in found:
            members: list[Item] = []
            navigation.members_of_item(item, "modifierExtension", members)
            if any(each.value.get("url") not in urls for each in members):
                raise FhirPathError("An element has a modifier extension that the expression does not know.")
        return found

    return Code(check, None)
