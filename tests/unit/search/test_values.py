"""Values that both stores hold: text, numbers, instants. R4 search.html#string, #number, #date."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.search.values import (
    DAY,
    HIGHEST,
    LOWEST,
    SECOND,
    Calendar,
    fraction_key,
    index_words,
    just_above,
    just_below,
    normalize,
    number_key,
    phonetic_keys,
    precision_range,
    query_words,
    string_key,
    width_class,
    word_keys,
)

DECIMALS = st.decimals(allow_nan=False, allow_infinity=False).filter(lambda one: abs(one.adjusted()) < 4900)


@pytest.mark.parametrize(
    "text, normalized",
    [
        ("Eve", "eve"),
        ("Évelyn", "evelyn"),
        ("E\u0301velyn", "evelyn"),
        ("EVERETT", "everett"),
        ("Straße", "strasse"),
        ("O'Brien-Smith, Jr.", "o brien smith jr"),
        ("  two \t blanks ", "two blanks"),
        ("Ångström", "angstrom"),
        ("ﬁancé", "fiance"),
        ("王小明", "王小明"),
        ("Sørensen", "sørensen"),
        ("SØRENSEN", "sørensen"),
        ("...", ""),
        ("ΣΊΣΥΦΟΣ", "σισυφοσ"),
    ],
)
def test_text_is_normalized(text: str, normalized: str) -> None:
    assert normalize(text) == normalized


@given(st.text())
def test_normalization_is_idempotent(text: str) -> None:
    assert normalize(normalize(text)) == normalize(text)


def test_a_string_key_keeps_the_raw_text_only_when_it_differs() -> None:
    assert string_key("eve") == "eve"
    assert string_key("Eve") == "eve\x1fEve"


def test_words_of_a_name_begin_at_the_second() -> None:
    assert list(word_keys("van der Berg")) == ["der berg", "berg"]
    assert list(word_keys("Eve")) == []


@given(DECIMALS, DECIMALS)
def test_number_keys_have_the_order_of_numbers(a: Decimal, b: Decimal) -> None:
    assert (number_key(a) < number_key(b)) == (a < b)
    assert (number_key(a) == number_key(b)) == (a == b)
    assert LOWEST < number_key(a) < HIGHEST


@given(DECIMALS, DECIMALS)
def test_neighbours_of_a_number_key_are_between_numbers(a: Decimal, b: Decimal) -> None:
    assert just_below(number_key(a)) < number_key(a) < just_above(number_key(a))
    if a < b:
        assert just_above(number_key(a)) < number_key(b)
        assert number_key(a) < just_below(number_key(b))


@pytest.mark.parametrize(
    "smaller, larger",
    [
        ("-1e99999", "-5"),
        ("-1", "-0.1"),
        ("-1e-99999", "0"),
        ("0", "1e-99999"),
        ("9e4998", "1e4999"),
        ("5", "1e999999999"),
    ],
)
def test_exponents_are_bounded_and_still_in_order(smaller: str, larger: str) -> None:
    assert number_key(smaller) < number_key(larger)


@pytest.mark.parametrize("text", ["1.00", "1", "1e0", "10e-1", "0.1e1"])
def test_equal_numbers_have_one_key(text: str) -> None:
    assert number_key(text) == number_key(1)


def test_a_third_has_a_key() -> None:
    assert number_key("0.333") < fraction_key(Fraction(1, 3)) < number_key("0.334")


@pytest.mark.parametrize(
    "text, low, high",
    [
        # R4 search.html#number: 100 has 3 significant digits, 100.00 has 5; 1e2 is 95 to 105.
        ("100", "99.5", "100.5"),
        ("100.00", "99.995", "100.005"),
        ("1e2", "95", "105"),
        ("5.4", "5.35", "5.45"),
        ("-5.4", "-5.45", "-5.35"),
        ("0", "-0.5", "0.5"),
        ("5.40e-3", "0.005395", "0.005405"),
        ("123456789012345678901234567890.1", "123456789012345678901234567890.05", "123456789012345678901234567890.15"),
    ],
)
def test_numbers_have_the_precision_of_their_digits(text: str, low: str, high: str) -> None:
    assert precision_range(Decimal(text)) == (Decimal(low), Decimal(high))


def at(text: str) -> int:
    """Microseconds of an ISO time."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND


@pytest.mark.parametrize(
    "text, low, high",
    [
        ("2020", at("2020-01-01"), at("2021-01-01")),
        ("2020-02", at("2020-02-01"), at("2020-03-01")),
        ("2020-12", at("2020-12-01"), at("2021-01-01")),
        ("2020-02-29", at("2020-02-29"), at("2020-03-01")),
        ("2013-01-14T10:00", at("2013-01-14T10:00"), at("2013-01-14T10:01")),
        ("2013-01-14T10:00Z", at("2013-01-14T10:00"), at("2013-01-14T10:01")),
        ("2013-01-14T23:30:00-05:00", at("2013-01-15T04:30"), at("2013-01-15T04:30") + SECOND),
        ("2013-01-14T23:59:60Z", at("2013-01-15"), at("2013-01-15") + SECOND),
        ("2013-01-14T10:00:17.239Z", at("2013-01-14T10:00:17") + 239_000, at("2013-01-14T10:00:17") + 240_000),
        ("2013-01-14T10:00:17.1234567Z", at("2013-01-14T10:00:17") + 123_456, at("2013-01-14T10:00:17") + 123_457),
        ("0001-01-01T00:00:00+14:00", -62_135_596_800 * SECOND - 14 * 3600 * SECOND, -62_135_647_199 * SECOND),
        ("9999-12-31T23:59:59-14:00", 253_402_351_199 * SECOND, 253_402_351_200 * SECOND),
    ],
)
def test_a_partial_date_is_a_range(text: str, low: int, high: int) -> None:
    assert Calendar().range(text) == (low, high)
    assert Calendar().stored(text) == (low, high)


def test_the_ends_of_the_calendar_are_dates() -> None:
    assert Calendar().range("0001")[0] == Calendar().range("0001-01-01")[0] == -62_135_596_800 * SECOND
    assert Calendar().range("9999")[1] == Calendar().range("9999-12-31")[1] == 253_402_300_800 * SECOND
    berlin = Calendar(ZoneInfo("Europe/Berlin"))
    for text in ("0001", "0001-01-01", "9999", "9999-12-31", "9999-12-31T23:59:59"):
        low, high = berlin.range(text)
        assert low < high


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2013-13",
        "2013-13-45",
        "2018-02-30",
        "0000",
        "2013-00",
        "2013-01-14T24:00:00Z",
        "2013-01-14T10",
        "13",
        "2013-1",
        "2013-01-14T10:00:61Z",
        "2013-01-14T10:00:00+15:00",
        "2013-01-14 10:00",
        "2013-01-14T10:00:00.Z",
        "x",
        "٢٠١٣",
    ],
)
def test_what_is_no_date_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Calendar().range(text)


@pytest.mark.parametrize(
    "zone, day, hours",
    [
        ("Europe/Berlin", "2026-03-29", 23),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Europe/Berlin", "2026-07-01", 24),
        ("America/Sao_Paulo", "2018-11-04", 23),  # its midnight did not exist
        ("UTC", "2026-03-29", 24),
    ],
)
def test_a_local_day_has_the_hours_that_its_zone_gives_it(zone: str, day: str, hours: int) -> None:
    low, high = Calendar(ZoneInfo(zone)).range(day)
    assert (high - low) // (3600 * SECOND) == hours
    assert width_class(low, high) == "0"


@given(
    st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 12, 31)),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Shanghai", "UTC", "Pacific/Apia"]),
)
def test_smaller_units_of_time_are_within_larger_ones(moment: datetime, zone: str) -> None:
    calendar = Calendar(ZoneInfo(zone))
    outer = (-(2**63), 2**63 - 1)
    for text in (f"{moment:%Y}".zfill(4), f"{moment.year:04}-{moment:%m}", f"{moment.year:04}-{moment:%m-%d}"):
        low, high = calendar.range(text)
        assert outer[0] <= low < high <= outer[1]
        assert calendar.stored(text) == (low, high)
        outer = (low, high)


@pytest.mark.parametrize(
    "width, kind", [(SECOND, "0"), (25 * 3600 * SECOND, "0"), (31 * DAY, "1"), (366 * DAY, "1"), (400 * DAY, "2")]
)
def test_width_classes(width: int, kind: str) -> None:
    assert width_class(0, width) == kind


@pytest.mark.parametrize(
    "text, words",
    [
        ("Blood pressure, low", {"blood", "pressure", "low"}),
        ("王小明", {"王小", "小明", "明"}),
        ("HbA1c偏高", {"hba1c", "偏高", "高"}),
    ],
)
def test_words_of_the_index(text: str, words: set[str]) -> None:
    assert index_words(text) == words


def test_words_of_a_question() -> None:
    assert query_words("low Pressure") == (["low", "pressure"], [])
    assert query_words("小明") == (["小明"], [])
    assert query_words("明") == ([], ["明"])


def test_names_that_sound_alike_share_a_code() -> None:
    assert set(phonetic_keys("Smith")) & set(phonetic_keys("Smyth"))
    assert not set(phonetic_keys("Smith")) & set(phonetic_keys("Jones"))
    assert phonetic_keys("王") == ["王"]
