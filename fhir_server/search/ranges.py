"""Prefixes: what ``ge2020-02`` or ``ap5.4`` asks of an entry's range. R4 search.html#prefix; nothing above knows
prefixes.

A *window* is the test for one class of entries: tight bounds of `low`, which an index can use, and what remains to be
checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from fhir_server.search.ast import AllOf, AnyOf, Column, Compare, Scalar, Test
from fhir_server.search.values import (
    FUTURE,
    HIGHEST,
    LOWEST,
    PAST,
    WIDTHS,
    exact_sum,
    just_above,
    number_key,
    precision_range,
)

PREFIXES: Final = frozenset({"eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"})


def split_prefix(text: str) -> tuple[str, str]:
    """("ge", "2020") of ``ge2020``; ("eq", text) without a prefix."""
    return (text[:2], text[2:]) if text[:2] in PREFIXES else ("eq", text)


@dataclass(frozen=True, slots=True)
class Window:
    """Entries of class `kind` with start <= low < stop (None: open) that pass `rest`."""

    kind: str
    start: Scalar | None
    stop: Scalar | None
    rest: tuple[Test, ...] = ()

    def merged(self, other: Window) -> Window:
        """Both windows, on the same entry. Their bounds are of one type, as entries of one class are."""
        starts: list[Any] = [one for one in (self.start, other.start) if one is not None]
        stops: list[Any] = [one for one in (self.stop, other.stop) if one is not None]
        start, stop = max(starts, default=None), min(stops, default=None)
        return Window(self.kind, start, stop, self.rest + other.rest)

    def tests(self) -> tuple[Test, ...]:
        """Without the class: the bounds and the rest."""
        found: list[Test] = []
        if self.start is not None:
            found.append(Compare("low", ">=", self.start))
        if self.stop is not None:
            found.append(Compare("low", "<", self.stop))
        return (*found, *self.rest)

    def test(self) -> Test:
        return AllOf((Compare("key", "=", self.kind), *self.tests()))


def any_of(tests: tuple[Test, ...]) -> Test:
    return tests[0] if len(tests) == 1 else AnyOf(tests)


def window_test(windows: tuple[Window, ...]) -> Test:
    """Any of the windows."""
    return any_of(tuple(window.test() for window in windows))


def date_windows(prefix: str, a: int, b: int, now: int, kinds: str = "012") -> tuple[Window, ...]:
    """Windows for entries [low, high) and the searched range [a, b), one per width class in `kinds`.

    An entry of a class with width W that ends after x begins after x - W, hence the bounds.
    """
    if prefix == "ap":
        # R4 leaves the width open and suggests 10 % of the distance to now.
        gap = abs(now - a) // 10
        a, b = max(a - gap, PAST), min(b + gap, FUTURE)
    low, high = _low, _high
    found = []
    for kind, width in WIDTHS:
        if kind not in kinds:
            continue

        def after(instant: int, width: int | None = width) -> int | None:
            return None if width is None else instant - width + 1

        if prefix == "eq":
            window = Window(kind, a, b, (high("<=", b),))
        elif prefix == "ne":
            window = Window(kind, None, None, (AnyOf((low("<", a), high(">", b))),))
        elif prefix == "gt":
            window = Window(kind, after(b), None, (high(">", b),))
        elif prefix == "ge":
            # Overlap with what is above, or containment: high > b or (low >= a and high <= b), which is the same as
            # this.
            earliest = after(b)
            start = None if earliest is None else min(a, earliest)
            window = Window(kind, start, None, (AnyOf((low(">=", a), high(">", b))),))
        elif prefix == "lt":
            window = Window(kind, None, a)
        elif prefix == "le":
            window = Window(kind, None, b, (AnyOf((low("<", a), high("<=", b))),))
        elif prefix == "sa":
            window = Window(kind, b, None)
        elif prefix == "eb":
            window = Window(kind, None, a, (high("<=", a),))
        else:
            window = Window(kind, after(a), b, (high(">", a),))
        found.append(window)
    return tuple(found)


def overlap_windows(a: int, b: int, kinds: str = "012") -> tuple[Window, ...]:
    """Windows for entries that overlap [a, b)."""
    return date_windows("ap", a, b, a, kinds)


def _low(operator: str, value: Scalar) -> Compare:
    return Compare("low", operator, value)  # type: ignore[arg-type]


def _high(operator: str, value: Scalar) -> Compare:
    return Compare("high", operator, value)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class NumberRange:
    """The keys that the windows of a number need: the number, its implicit precision [a, b), and what is near it."""

    value: str
    a: str
    b: str
    near_low: str
    near_high: str


def number_range(number: Decimal) -> NumberRange:
    """R4 search.html#number: precision counts for eq and ne only; ap is 10 %, and at least the precision."""
    a, b = precision_range(number)
    _, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    tenth = Decimal((0, digits, exponent - 1))
    return NumberRange(
        number_key(number),
        number_key(a),
        number_key(b),
        number_key(min(a, exact_sum(number, -tenth))),
        number_key(max(b, exact_sum(number, tenth))),
    )


def number_windows(prefix: str, keys: NumberRange, kinds: str = "=~<", column: Column = "low") -> tuple[Window, ...]:
    """Windows for numbers: points ("="), Ranges and samples ("~"), and what is only known to be below or above ("<").

    A point in [a, b) is equal; a Range is when it overlaps [a, b) (`column` "high": points of a third component).
    """
    found = []
    for kind in kinds:
        if kind == "=":
            found.append(_point(prefix, keys, column))
        else:
            window = _interval(prefix, keys, kind)
            if window is not None:
                found.append(window)
    return tuple(found)


def _point(prefix: str, keys: NumberRange, column: Column) -> Window:
    value = keys.value
    match prefix:
        case "eq":
            start, stop = keys.a, keys.b
        case "ne":
            return Window("=", None, None, (AnyOf((Compare(column, "<", keys.a), Compare(column, ">=", keys.b))),))
        case "gt" | "sa":
            start, stop = just_above(value), HIGHEST
        case "ge":
            start, stop = value, HIGHEST
        case "lt" | "eb":
            start, stop = LOWEST, value
        case "le":
            start, stop = LOWEST, just_above(value)
        case _:
            start, stop = keys.near_low, just_above(keys.near_high)
    if column == "low":
        return Window("=", None if start == LOWEST else start, None if stop == HIGHEST else stop)
    return Window("=", None, None, (Compare(column, ">=", start), Compare(column, "<", stop)))


def _interval(prefix: str, keys: NumberRange, kind: str) -> Window | None:
    value = keys.value
    match prefix:
        case "eq":
            return None if kind == "<" else Window(kind, None, keys.b, (_high(">=", keys.a),))
        case "ne":
            if kind == "<":
                return Window(kind, None, None)
            return Window(kind, None, None, (AnyOf((_low(">=", keys.b), _high("<", keys.a))),))
        case "gt":
            return Window(kind, None, None, (_high(">", value),))
        case "ge":
            return Window(kind, None, None, (_high(">=", value),))
        case "lt":
            return Window(kind, None, value)
        case "le":
            return Window(kind, None, just_above(value))
        case "sa":
            return Window(kind, just_above(value), None)
        case "eb":
            return Window(kind, None, value, (_high("<", value),))
        case _:
            return Window(kind, None, just_above(keys.near_high), (_high(">=", keys.near_low),))


__all__ = [
    "PREFIXES",
    "NumberRange",
    "Window",
    "date_windows",
    "number_range",
    "number_windows",
    "overlap_windows",
    "split_prefix",
    "window_test",
]
