"""Prefixes against their definitions, on random ranges. R4 search.html#prefix.

The resolver writes tests that an index can use; here each is compared with the sentence of
the specification it stands for.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fhir_server.search.match import passes
from fhir_server.search.ranges import date_windows, number_range, number_windows, window_test
from fhir_server.search.values import DAY, FUTURE, PAST, just_above, number_key, precision_range, width_class

INSTANTS = st.integers(min_value=-(10**9), max_value=10**9).map(lambda n: n * 1_000_000)
WIDTHS = st.one_of(
    st.integers(min_value=1, max_value=3 * DAY), st.integers(min_value=1, max_value=800 * DAY), st.just(90_000_000_000)
)
Range = tuple[int, int]


def contains(search: Range, target: Range) -> bool:
    return search[0] <= target[0] and target[1] <= search[1]


def overlaps(one: Range, other: Range) -> bool:
    return one[0] < other[1] and other[0] < one[1]


# search.html#prefix, literally; "the range above" begins where the search value ends.
SENTENCES: dict[str, Callable[[Range, Range], bool]] = {
    "eq": contains,
    "ne": lambda s, t: not contains(s, t),
    "gt": lambda s, t: overlaps((s[1], FUTURE + 1), t),
    "lt": lambda s, t: overlaps((PAST - 1, s[0]), t),
    "ge": lambda s, t: overlaps((s[1], FUTURE + 1), t) or contains(s, t),
    "le": lambda s, t: overlaps((PAST - 1, s[0]), t) or contains(s, t),
    "sa": lambda s, t: not overlaps(s, t) and t[0] >= s[1],
    "eb": lambda s, t: not overlaps(s, t) and t[1] <= s[0],
}


@settings(max_examples=300)
@given(
    prefix=st.sampled_from(sorted(SENTENCES)),
    search=st.tuples(INSTANTS, WIDTHS).map(lambda pair: (pair[0], pair[0] + pair[1])),
    offset=st.one_of(
        st.just(0), st.integers(min_value=-900 * DAY, max_value=900 * DAY), st.sampled_from([DAY, -DAY, 1, -1])
    ),
    width=WIDTHS,
    open_start=st.booleans(),
    open_end=st.booleans(),
)
def test_date_windows_say_what_the_prefix_means(
    prefix: str, search: Range, offset: int, width: int, open_start: bool, open_end: bool
) -> None:
    low = PAST if open_start else search[0] + offset
    high = FUTURE if open_end else search[0] + offset + width
    entry = (16, width_class(low, high), low, high, "")
    assert passes(window_test(date_windows(prefix, *search, now=0)), entry) == SENTENCES[prefix](search, (low, high))


NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-1000, max_value=1000)
COMPARISONS: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "eq": lambda v, t: precision_range(v)[0] <= t < precision_range(v)[1],
    "ne": lambda v, t: not precision_range(v)[0] <= t < precision_range(v)[1],
    "gt": lambda v, t: t > v,
    "lt": lambda v, t: t < v,
    "ge": lambda v, t: t >= v,
    "le": lambda v, t: t <= v,
    "sa": lambda v, t: t > v,
    "eb": lambda v, t: t < v,
}


@settings(max_examples=300)
@given(
    prefix=st.sampled_from(sorted(COMPARISONS)),
    value=NUMBERS,
    places=st.integers(min_value=0, max_value=3),
    target=NUMBERS,
    near=st.sampled_from([None, "0", "0.5", "-0.5", "0.05", "-0.05", "0.0005"]),
)
def test_number_windows_say_what_the_prefix_means(
    prefix: str, value: Decimal, places: int, target: Decimal, near: str | None
) -> None:
    value = round(value, places)
    if near is not None:
        target = value + Decimal(near)
    key = number_key(target)
    for column in ("low", "high"):
        test = window_test(number_windows(prefix, number_range(value), "=", column))  # type: ignore[arg-type]
        assert passes(test, (16, "=", key, key, "")) == COMPARISONS[prefix](value, target)


@given(value=NUMBERS, low=NUMBERS, width=st.decimals(min_value=0, max_value=50, places=2))
@pytest.mark.parametrize(
    "prefix, holds",
    [
        ("eq", lambda v, low, high: low < precision_range(v)[1] and high >= precision_range(v)[0]),
        ("ne", lambda v, low, high: not (low < precision_range(v)[1] and high >= precision_range(v)[0])),
        ("gt", lambda v, low, high: high > v),
        ("ge", lambda v, low, high: high >= v),
        ("lt", lambda v, low, high: low < v),
        ("le", lambda v, low, high: low <= v),
        ("sa", lambda v, low, high: low > v),
        ("eb", lambda v, low, high: high < v),
    ],
)
def test_ranges_of_numbers_match_by_overlap(
    prefix: str, holds: Callable[[Decimal, Decimal, Decimal], bool], value: Decimal, low: Decimal, width: Decimal
) -> None:
    high = low + width
    entry = (16, "~", number_key(low), number_key(high), "")
    assert passes(window_test(number_windows(prefix, number_range(value), "~")), entry) == holds(value, low, high)


@given(value=NUMBERS)
def test_approximately_is_ten_percent(value: Decimal) -> None:
    test = window_test(number_windows("ap", number_range(value), "="))
    edge = max(abs(value) / 10, precision_range(value)[1] - value)
    for inside in (value, value + edge, value - edge):
        assert passes(test, (16, "=", number_key(inside), number_key(inside), ""))
    beyond = number_key(value + edge + Decimal("0.001"))
    assert not passes(test, (16, "=", beyond, beyond, ""))
    assert just_above(number_key(value)) < beyond
