"""Operators of FHIRPath: equality, order, membership, arithmetic. FHIRPath N1, section 6."""

from __future__ import annotations

import operator
from collections.abc import Callable
from decimal import Decimal, DecimalException, DivisionByZero, InvalidOperation
from typing import Any

from fhir_server.fhirpath.code import SYSTEM, Code, from_constant, from_scalar, from_truth, many_error
from fhir_server.fhirpath.dates import Temporal, compare_texts
from fhir_server.fhirpath.errors import FhirPathError
from fhir_server.fhirpath.model import TEMPORAL, is_primitive
from fhir_server.fhirpath.quantities import Quantity
from fhir_server.fhirpath.values import (
    ARITHMETIC,
    MAX_TEXT,
    Environment,
    converter,
    equal,
    equivalent,
    equivalent_lists,
    freeze,
    order,
)

_MAX_INTEGER = 2**31 - 1


# --- equality ---------------------------------------------------------------------------------------------------------


def equality(left: Code, right: Code, negated: bool) -> Code:
    """``=`` and ``!=``."""
    if left.single and right.single:
        return from_truth(_single_equality(left, right, negated))
    left_run, right_run = left.run, right.run
    left_convert, right_convert = converter(left.type), converter(right.type)

    def truth(env: Environment, this: Any) -> bool | None:
        a, b = left_run(env, this), right_run(env, this)
        if not a or not b:
            return None
        if len(a) != len(b):
            return negated
        undetermined = False
        for x, y in zip(a, b, strict=True):
            result = equal(left_convert(x), right_convert(y))
            if result is False:
                return negated
            undetermined = undetermined or result is None
        return None if undetermined else not negated

    return from_truth(truth)


def _single_equality(left: Code, right: Code, negated: bool) -> Callable[[Environment, Any], bool | None]:
    if left.constant and not right.constant:
        left, right = right, left
    if right.constant and isinstance(right.constant[0], (str, bool)):
        value = right.constant[0]
        # The commonest shape of all invariants, `status = 'final'`, without a call inside.
        if left.key is not None and isinstance(value, str):
            key = left.key
            if negated:

                def member_differs(env: Environment, this: Any) -> bool | None:
                    found = this.get(key)
                    return None if found is None else found != value

                return member_differs

            def member_equals(env: Environment, this: Any) -> bool | None:
                found = this.get(key)
                return None if found is None else found == value

            return member_equals
        scalar = left.scalar
        if isinstance(value, bool):

            def boolean_equals(env: Environment, this: Any) -> bool | None:
                found = scalar(env, this)
                return None if found is None else (found is value) is not negated

            return boolean_equals

        def text_equals(env: Environment, this: Any) -> bool | None:
            found = scalar(env, this)
            return None if found is None else (found == value) is not negated

        return text_equals

    if left.type == SYSTEM and right.type == SYSTEM:
        # `a.exists() = b.exists()`
        first_truth, second_truth = left.scalar, right.scalar

        def of_system(env: Environment, this: Any) -> bool | None:
            a, b = first_truth(env, this), second_truth(env, this)
            if a.__class__ is bool and b.__class__ is bool:
                return (a is b) is not negated
            result = equal(a, b)
            return None if result is None else result is not negated

        return of_system

    first, second = left.scalar, right.scalar

    def general(env: Environment, this: Any) -> bool | None:
        result = equal(first(env, this), second(env, this))
        return None if result is None else result is not negated

    return general


def equivalence(left: Code, right: Code, negated: bool) -> Code:
    """``~`` and ``!~``; never empty."""
    left_run, right_run = left.run, right.run
    left_convert, right_convert = converter(left.type), converter(right.type)

    def truth(env: Environment, this: Any) -> bool:
        a = [left_convert(value) for value in left_run(env, this)]
        b = [right_convert(value) for value in right_run(env, this)]
        env.spend(len(a) * len(b))
        if len(a) == len(b) == 1:
            return equivalent(a[0], b[0]) is not negated
        return equivalent_lists(a, b) is not negated

    return from_truth(truth)


def membership(element: Code, collection: Code) -> Code:
    """``element in collection``."""
    scalar = element.scalar
    constants = collection.constant
    if constants and all(isinstance(value, str) for value in constants):
        accepted = frozenset(constants)

        def in_constants(env: Environment, this: Any) -> bool | None:
            value = scalar(env, this)
            return None if value is None else isinstance(value, str) and value in accepted

        return from_truth(in_constants)
    run, convert, element_run = collection.run, converter(collection.type), element.run

    def truth(env: Environment, this: Any) -> bool | None:
        found = element_run(env, this)
        if not found:
            return None
        value = scalar(env, this)
        others = run(env, this)
        env.spend(len(others))
        if isinstance(value, str):
            return any(convert(other) == value for other in others)
        return any(equal(value, convert(other)) is True for other in others)

    return from_truth(truth)


# --- order ------------------------------------------------------------------------------------------------------------

_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_DATES = frozenset({"date", "dateTime", "instant"})
_COMPARABLE = (int, Decimal)


def comparison(left: Code, right: Code, op: str) -> Code:
    """``<``, ``<=``, ``>``, ``>=``."""
    test = _ORDER[op]
    if left.type in _DATES and right.type in _DATES:
        return from_truth(_date_comparison(left, right, test))
    first, second = left.scalar, right.scalar

    def truth(env: Environment, this: Any) -> bool | None:
        a, b = first(env, this), second(env, this)
        if a is None or b is None:
            return None
        if isinstance(a, _COMPARABLE) and isinstance(b, _COMPARABLE) and a.__class__ is not bool is not b.__class__:
            return test(a, b)
        result = order(a, b, op)
        return None if result is None else test(result, 0)

    return from_truth(truth)


def _date_comparison(
    left: Code, right: Code, test: Callable[[Any, Any], bool]
) -> Callable[[Environment, Any], bool | None]:
    """Two FHIR dates: mostly their texts can be compared as they are."""
    first, second = left.run, right.run

    def truth(env: Environment, this: Any) -> bool | None:
        a, b = first(env, this), second(env, this)
        if not a or not b:
            return None
        if len(a) > 1 or len(b) > 1:
            raise many_error("An operand")
        x, y = a[0], b[0]
        if x.__class__ is not str:
            x = x.value
        if y.__class__ is not str:
            y = y.value
        if x is None or y is None:
            return None
        result = compare_texts(x, y)
        return None if result is None else test(result, 0)

    return truth


# --- arithmetic -------------------------------------------------------------------------------------------------------


def _integer(value: int) -> int | None:
    """N1, 6.6: a result outside the 32 bits of Integer is empty."""
    return value if -_MAX_INTEGER - 1 <= value <= _MAX_INTEGER else None


def _number(value: Any) -> bool:
    return isinstance(value, (int, Decimal)) and not isinstance(value, bool)


def number(calculate: Callable[[], Any]) -> Any:
    """The result of a decimal calculation, None (empty) when there is none, as for division by zero or overflow."""
    try:
        value = calculate()
    except (DecimalException, DivisionByZero, InvalidOperation, ZeroDivisionError, OverflowError, ValueError):
        return None
    return None if isinstance(value, Decimal) and not value.is_finite() else value


def _add(a: Any, b: Any) -> Any:
    if isinstance(a, str) and isinstance(b, str):
        return _checked_text(a, b)
    if isinstance(a, Temporal) and isinstance(b, Quantity):
        return a.plus(b)
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        return _add_quantities(a, b, 1)
    if isinstance(a, int) and isinstance(b, int):
        return _integer(a + b)
    return ARITHMETIC.add(Decimal(a), Decimal(b)) if _number(a) and _number(b) else NotImplemented


def _subtract(a: Any, b: Any) -> Any:
    if isinstance(a, Temporal) and isinstance(b, Quantity):
        return a.plus(b, -1)
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        return _add_quantities(a, b, -1)
    if isinstance(a, int) and isinstance(b, int):
        return _integer(a - b)
    return ARITHMETIC.subtract(Decimal(a), Decimal(b)) if _number(a) and _number(b) else NotImplemented


def _add_quantities(a: Quantity, b: Quantity, sign: int) -> Quantity | None:
    if a.unit == b.unit:
        return Quantity(ARITHMETIC.add(a.value, sign * b.value), a.unit)
    left, unit = a.canonical()
    right, other = b.canonical()
    return Quantity(ARITHMETIC.add(left, sign * right), unit) if unit == other else None


def _multiply(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int):
        return _integer(a * b)
    if isinstance(a, Quantity) and _number(b):
        return Quantity(ARITHMETIC.multiply(a.value, Decimal(b)), a.unit)
    if isinstance(b, Quantity) and _number(a):
        return Quantity(ARITHMETIC.multiply(b.value, Decimal(a)), b.unit)
    if isinstance(a, Quantity) and isinstance(b, Quantity) and "1" in (a.unit, b.unit):
        return Quantity(ARITHMETIC.multiply(a.value, b.value), a.unit if b.unit == "1" else b.unit)
    return ARITHMETIC.multiply(Decimal(a), Decimal(b)) if _number(a) and _number(b) else NotImplemented


def _divide(a: Any, b: Any) -> Any:
    if isinstance(a, Quantity) and _number(b):
        return Quantity(ARITHMETIC.divide(a.value, Decimal(b)), a.unit)
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        left, unit = a.canonical()
        right, other = b.canonical()
        return Quantity(ARITHMETIC.divide(left, right)) if unit == other else None
    return ARITHMETIC.divide(Decimal(a), Decimal(b)) if _number(a) and _number(b) else NotImplemented


def _div(a: Any, b: Any) -> Any:
    if not (_number(a) and _number(b)):
        return NotImplemented
    quotient = ARITHMETIC.divide_int(Decimal(a), Decimal(b))
    return _integer(int(quotient)) if isinstance(a, int) and isinstance(b, int) else quotient


def _mod(a: Any, b: Any) -> Any:
    if not (_number(a) and _number(b)):
        return NotImplemented
    rest = ARITHMETIC.remainder(Decimal(a), Decimal(b))
    return int(rest) if isinstance(a, int) and isinstance(b, int) else rest


_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "+": _add,
    "-": _subtract,
    "*": _multiply,
    "/": _divide,
    "div": _div,
    "mod": _mod,
}


def arithmetic(op: str, left: Code, right: Code, position: int | None = None) -> Code:
    """``+ - * / div mod``; empty when an operand is."""
    calculate = _OPERATIONS.get(op)
    if calculate is None:
        raise FhirPathError("The expression has an operator that does not exist.", position)
    first, second = left.scalar, right.scalar
    if op == "+" and left.constant and isinstance(left.constant[0], str):
        second = _text_scalar(right)

    def scalar(env: Environment, this: Any) -> Any:
        a, b = first(env, this), second(env, this)
        if a is None or b is None:
            return None
        if isinstance(a, bool) or isinstance(b, bool):
            raise FhirPathError(f"The operands of `{op}` have types that it does not take.", position)
        value = number(lambda: calculate(a, b))
        if value is NotImplemented:
            raise FhirPathError(f"The operands of `{op}` have types that it does not take.", position)
        return value

    return from_scalar(scalar)


def negate(code: Code) -> Code:
    """``-x``"""
    if code.constant and _number(code.constant[0]):
        return from_constant([-code.constant[0]])
    scalar = code.scalar

    def run(env: Environment, this: Any) -> Any:
        value = scalar(env, this)
        if value is None:
            return None
        if isinstance(value, Quantity):
            return Quantity(-value.value, value.unit)
        if not _number(value):
            raise FhirPathError("Only numbers and quantities have a sign.")
        return -value

    return from_scalar(run)


# --- text -------------------------------------------------------------------------------------------------------------


def _checked_text(a: str, b: str) -> str:
    if len(a) + len(b) > MAX_TEXT:
        raise FhirPathError("The expression makes a text that is too long.")
    return a + b


def _text_scalar(code: Code) -> Callable[[Environment, Any], Any]:
    """A string operand. FHIR dates are texts here, as R4's own expressions use them."""
    scalar = code.scalar
    if code.type == SYSTEM or (code.type is not None and code.type not in TEMPORAL and is_primitive(code.type)):
        return scalar

    def text(env: Environment, this: Any) -> Any:
        value = scalar(env, this)
        return value.text if isinstance(value, Temporal) else value

    return text


def concatenation(left: Code, right: Code) -> Code:
    """``&``, for which the empty collection is the empty string."""
    first, second = _text_scalar(left), _text_scalar(right)

    def scalar(env: Environment, this: Any) -> Any:
        a, b = first(env, this), second(env, this)
        if a is None:
            a = ""
        if b is None:
            b = ""
        if not isinstance(a, str) or not isinstance(b, str):
            raise FhirPathError("The operands of `&` are strings.")
        return _checked_text(a, b)

    return from_scalar(scalar)


def keys_of(values: list[Any], convert: Callable[[Any], Any]) -> set[Any]:
    """The hashable keys of a collection, for set operations."""
    return {freeze(convert(value)) for value in values}


text_scalar = _text_scalar
