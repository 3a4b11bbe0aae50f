"""Dates. R4 search.html#date, #prefix: prefixes compare ranges."""

from __future__ import annotations

from typing import Any

import pytest

from fhir_server.errors import BadRequest
from fhir_server.search.ast import Exists
from fhir_server.search.resolve import resolve
from tests.support.shelf import DEFAULT, Shelf, found, shelf


def observation(id: str, **effective: Any) -> dict[str, Any]:
    return {"resourceType": "Observation", "id": id, "status": "final", "code": {"text": "x"}, **effective}


def period(id: str, start: str | None, end: str | None) -> dict[str, Any]:
    values = {name: value for name, value in (("start", start), ("end", end)) if value}
    return observation(id, effectivePeriod=values)


@pytest.fixture(scope="module")
def dated() -> Shelf:
    return shelf(
        [
            observation("year", effectiveDateTime="2013"),
            observation("month", effectiveDateTime="2013-05"),
            observation("before", effectiveDateTime="2012-12-31"),
            observation("day", effectiveDateTime="2013-01-14"),
            observation("morning", effectiveDateTime="2013-01-14T08:00:00Z"),
            observation("next", effectiveDateTime="2013-01-15T00:00:00Z"),
            period("week", "2013-01-10", "2013-01-20"),
            period("from", "2013-01-21", None),
            period("until", None, "2013-01-21"),
            period("later", "2013-03-15", None),
            observation("none"),
        ]
    )


EVERYONE = {"year", "month", "before", "day", "morning", "next", "week", "from", "until", "later"}


@pytest.mark.parametrize(
    "query, ids",
    [
        # "the range of the search value fully contains the range of the target value"
        ("date=2013", {"year", "month", "day", "morning", "next", "week"}),
        ("date=2013-01-14", {"day", "morning"}),
        ("date=eq2013-01-14", {"day", "morning"}),
        ("date=2013-01", {"day", "morning", "next", "week"}),
        # "... does not fully contain ...": the complement of containment; without a date there is no value to compare.
        ("date=ne2013-01-14", EVERYONE - {"day", "morning"}),
        # "the range above the search value intersects with the range of the target value"
        ("date=gt2013-01-14T10:00Z", {"year", "month", "day", "next", "week", "from", "until", "later"}),
        ("date=gt2013-01-14", {"year", "month", "next", "week", "from", "until", "later"}),
        ("date=gt2013-05", {"year", "from", "later"}),
        # "the range below the search value intersects ..."
        ("date=lt2013-01-14T10:00Z", {"year", "before", "day", "morning", "week", "until"}),
        ("date=lt2013-01-14", {"year", "before", "week", "until"}),
        # "... or the range of the search value fully contains the range of the target value"
        ("date=ge2013-03-14", {"year", "month", "from", "later"}),
        ("date=ge2013", EVERYONE - {"before", "until"}),
        ("date=le2013-03-14", EVERYONE - {"month", "later"}),
        ("date=le2012-12-31", {"before", "until"}),
        # "... does not overlap with ..., and the range above contains the target"
        ("date=sa2013-03-14", {"month", "later"}),
        ("date=sa2013-01-14", {"month", "next", "from", "later"}),
        ("date=eb2013-03-14", {"before", "day", "morning", "next", "week", "until"}),
        ("date=eb2013-01-14T09:00Z", {"before", "morning"}),
        # ap: overlaps, here within 10 % of the distance to now (2026-01-01): about 1.3 years around.
        ("date=ap2013-01-14", EVERYONE),
        ("date=ap2025-12-31", {"from", "later"}),
        ("date=2012,2013-05", {"before", "month"}),
        ("date=ge2013-01-14&date=lt2013-01-15", {"day", "morning", "year", "week", "until"}),
        ("date=ge2013-01-14T00:00:00Z&date=lt2013-01-14T12:00:00Z", {"year", "day", "morning", "week", "until"}),
        ("date:missing=true", {"none"}),
        ("date:missing=false", EVERYONE),
    ],
)
def test_prefixes(dated: Shelf, query: str, ids: set[str]) -> None:
    assert found(dated, f"Observation?{query}") == ids


@pytest.mark.parametrize(
    "query, ids",
    [("birthdate=2013", {"month", "year"}), ("birthdate=2013-05", {"month"}), ("birthdate=gt2012", {"month", "year"})],
)
def test_a_partial_birth_date(query: str, ids: set[str]) -> None:
    people = shelf(
        [
            {"resourceType": "Patient", "id": id, "birthDate": date}
            for id, date in (("month", "2013-05"), ("year", "2013"), ("day", "2012-12-31"))
        ]
    )
    assert found(people, f"Patient?{query}") == ids


@pytest.mark.parametrize("zone, found_on", [("UTC", "2013-01-15"), ("America/New_York", "2013-01-14")])
def test_days_are_days_of_the_servers_zone(zone: str, found_on: str) -> None:
    late = shelf([observation("late", effectiveDateTime="2013-01-14T23:30:00-05:00")], timezone=zone)
    for day in ("2013-01-14", "2013-01-15"):
        assert found(late, f"Observation?date={day}") == ({"late"} if day == found_on else set())


@pytest.mark.parametrize(
    "written", ["2013-01-15T01:00:00+02:00", "2013-01-15T01:00:00%2B02:00", "2013-01-15T01:00:00 02:00"]
)
def test_a_plus_sign_that_became_a_blank_is_still_an_offset(written: str) -> None:
    one = shelf([observation("one", effectiveDateTime="2013-01-14T23:00:00Z")])
    assert found(one, f"Observation?date={written}") == {"one"}


@pytest.mark.parametrize(
    "zone_query, slots",
    [
        ("start=ge2026-03-29T00:00:00%2B01:00&start=lt2026-03-30T00:00:00%2B02:00", {"first", "last"}),
        ("start=2026-03-29", {"first", "last"}),
        ("start=2026-10-25", {"long-first", "long-last"}),
    ],
)
def test_slots_of_days_with_23_and_25_hours(zone_query: str, slots: set[str]) -> None:
    def slot(id: str, start: str) -> dict[str, Any]:
        return {"resourceType": "Slot", "id": id, "status": "free", "start": start, "end": start}

    berlin = shelf(
        [
            slot("eve", "2026-03-28T23:45:00+01:00"),
            slot("first", "2026-03-29T00:00:00+01:00"),
            slot("last", "2026-03-29T23:45:00+02:00"),
            slot("after", "2026-03-30T00:00:00+02:00"),
            slot("long-first", "2026-10-25T00:00:00+02:00"),
            slot("long-last", "2026-10-25T23:45:00+01:00"),
            slot("long-after", "2026-10-26T00:00:00+01:00"),
        ],
        timezone="Europe/Berlin",
    )
    assert found(berlin, f"Slot?{zone_query}") == slots


@pytest.mark.parametrize(
    "query, ids",
    [
        ("date=2013-01-14T10:00:17Z", {"second", "fraction", "point"}),
        ("date=2013-01-14T10:00:17.239Z", {"fraction"}),
        ("date=2013-01-14T10:00:17.2Z", {"fraction"}),
        ("date=2013-01-14T10:00:17.000Z", {"point"}),
        # A dateTime 17Z covers the whole second, an instant is a point.
        ("date=gt2013-01-14T10:00:17.000Z", {"second", "fraction"}),
        ("date=lt2013-01-14T10:00:17.500Z", {"second", "fraction", "point"}),
        ("date=sa2013-01-14T10:00:17.100Z", {"fraction"}),
    ],
)
def test_fractions_of_a_second(query: str, ids: set[str]) -> None:
    precise = shelf(
        [
            observation("second", effectiveDateTime="2013-01-14T10:00:17Z"),
            observation("fraction", effectiveDateTime="2013-01-14T12:00:17.239+02:00"),
            observation("point", effectiveInstant="2013-01-14T10:00:17Z"),
        ]
    )
    assert found(precise, f"Observation?{query}") == ids


def test_only_the_outer_limits_of_a_timing_matter() -> None:
    timed = shelf(
        [
            observation("events", effectiveTiming={"event": ["2013-01-31", "2013-03-24"]}),
            observation(
                "bounds", effectiveTiming={"repeat": {"boundsPeriod": {"start": "2013-01-31", "end": "2013-03-24"}}}
            ),
            observation("vague", effectiveTiming={"repeat": {"frequency": 1}}),
        ]
    )
    assert found(timed, "Observation?date=ge2013-02-01&date=le2013-02-01") == {"events", "bounds"}
    assert found(timed, "Observation?date:missing=true") == {"vague"}


@pytest.mark.parametrize(
    "value", ["2013-13-45", "x", "ge", "2018-02-30", "0000", "24:00", "ge2013-01-14T10", "13-01-2014"]
)
def test_what_is_no_date_is_400_and_is_not_repeated(value: str) -> None:
    with pytest.raises(BadRequest) as caught:
        found(shelf([]), f"Observation?date={value}")
    issue = caught.value.issues[0]
    assert issue.code == "value"
    assert value not in issue.diagnostics


@pytest.mark.parametrize(
    "query, ids",
    [
        ("_lastUpdated=2020-01-01", {"a"}),
        ("_lastUpdated=2020-01-01T00:00:01Z", {"a"}),
        ("_lastUpdated=gt2020-01-01", {"b"}),
        ("_lastUpdated=ge2020-01-01", {"a", "b"}),
        ("_lastUpdated=lt2020-01-02", {"a"}),
        ("_lastUpdated=ne2020-01-01", {"b"}),
        ("_lastUpdated=sa2020-01-01&_lastUpdated=eb2022", {"b"}),
        ("_lastUpdated=le2020-01-01T00:00:00Z", set()),
    ],
)
def test_last_updated_is_a_point(query: str, ids: set[str]) -> None:
    two = Shelf()
    two.put(observation("a"), 1_577_836_801_500_000)
    two.put(observation("b"), 1_609_459_200_000_000)
    assert found(two, f"Observation?{query}") == ids


def test_two_bounds_of_a_single_valued_parameter_are_one_window() -> None:
    resolved = resolve(
        [("date", "ge2020-01-01"), ("date", "lt2020-02-01")],
        types=("Observation",),
        registry=Shelf().registry,
        settings=DEFAULT,
    )
    assert isinstance(resolved.search.select.where, Exists)


def test_two_bounds_of_a_parameter_with_several_values_may_be_met_by_different_ones() -> None:
    encounter = {
        "resourceType": "Encounter",
        "id": "two",
        "location": [
            {"period": {"start": "2020-01-05", "end": "2020-01-06"}},
            {"period": {"start": "2022-01-05", "end": "2022-01-06"}},
        ],
    }
    assert found(shelf([encounter]), "Encounter?location-period=lt2021&location-period=gt2021-06") == {"two"}
