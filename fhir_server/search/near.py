"""``near``: positions within a distance, as comparisons of latitude and longitude. R4 location.html#positional.

A store only compares, so a circle is cut into strips of latitude, each with the range of longitudes that the circle has
in it. The staircase is nowhere more than 1/32 of the radius higher than the circle, and never inside of it.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Final

from fhir_server.errors import BadRequest
from fhir_server.search.ast import AllOf, AnyOf, Compare, Test
from fhir_server.search.values import parse_number

STRIPS: Final = 64
EARTH_KM: Final = 6371.0088
_MICRO: Final = 1_000_000

_KILOMETRES: Final = {
    "km": 1.0, "m": 0.001, "cm": 0.000_01, "[mi_i]": 1.609344, "mi": 1.609344, "[mi_us]": 1.609347218694,
    "[ft_i]": 0.000_304_8, "[nmi_i]": 1.852, "[yd_i]": 0.000_914_4,
}  # fmt: skip


def near_test(parts: list[str], default_km: float) -> Test:
    """The test of ``latitude|longitude|distance|units``. Units are UCUM, km when left out; distance `default_km`.

    Raises: BadRequest("value").
    """
    numbers = [parse_number(part) for part in parts[:2]]
    if len(parts) not in (2, 3, 4) or None in numbers:
        raise BadRequest("`near` is written `latitude|longitude|distance|units`.", code="value")
    latitude, longitude = (float(one) for one in numbers if one is not None)
    if abs(latitude) > 90 or abs(longitude) > 180:
        raise BadRequest("`near` has a position that is not on Earth.", code="value")
    radius = default_km
    if len(parts) > 2 and parts[2]:
        distance = parse_number(parts[2])
        scale = _KILOMETRES.get(parts[3] or "km") if len(parts) == 4 else 1.0
        if distance is None or not Decimal(0) <= distance < 10**12 or scale is None:
            raise BadRequest(
                "The distance of `near` is a number that is not negative, with units of UCUM.", code="value"
            )
        radius = float(distance) * scale
    return circle(latitude, longitude, radius)


def circle(latitude: float, longitude: float, radius_km: float) -> Test:
    """The strips of a circle; degrees and kilometres."""
    angle = radius_km / EARTH_KM
    if angle >= math.pi:
        return AllOf(())
    reach = math.degrees(angle)
    south, north = max(-90.0, latitude - reach), min(90.0, latitude + reach)
    height = (north - south) / STRIPS
    tests: list[Test] = []
    for index in range(STRIPS):
        low, high = south + index * height, south + (index + 1) * height
        half = max(
            _half_width(latitude, angle, low), _half_width(latitude, angle, high), _widest(latitude, angle, low, high)
        )
        band = (
            Compare("low", ">=", math.floor(low * _MICRO)),
            Compare("low", "<", math.ceil(high * _MICRO) + (1 if index == STRIPS - 1 else 0)),
        )
        for west, east in _longitudes(longitude, half):
            sides = (Compare("high", ">=", west), Compare("high", "<=", east))
            tests.append(AllOf((*band, *sides)))
    return AnyOf(tuple(tests))


def _half_width(latitude: float, angle: float, at: float) -> float:
    """Degrees of longitude from the centre to the circle on the parallel `at`; 0 when it does not meet it, 180 all
    around.
    """
    a, b = math.radians(latitude), math.radians(at)
    below = math.cos(a) * math.cos(b)
    if below < 1e-12:
        return 180.0 if abs(a - b) <= angle + 1e-12 else 0.0
    cosine = (math.cos(angle) - math.sin(a) * math.sin(b)) / below
    return 0.0 if cosine >= 1 else 180.0 if cosine <= -1 else math.degrees(math.acos(cosine))


def _widest(latitude: float, angle: float, low: float, high: float) -> float:
    """The half width at the circle's widest parallel, when it is in the strip."""
    sine = math.sin(math.radians(latitude)) / math.cos(angle) if math.cos(angle) > 1e-12 else 2.0
    if abs(sine) > 1:
        return 0.0
    widest = math.degrees(math.asin(sine))
    return _half_width(latitude, angle, widest) if low <= widest <= high else 0.0


def _longitudes(longitude: float, half: float) -> list[tuple[int, int]]:
    """[west, east] in micro-degrees; two ranges across the date line."""
    if half >= 180:
        return [(-180 * _MICRO, 180 * _MICRO)]
    west, east = math.floor((longitude - half) * _MICRO), math.ceil((longitude + half) * _MICRO)
    if west < -180 * _MICRO:
        return [(west + 360 * _MICRO, 180 * _MICRO), (-180 * _MICRO, east)]
    if east > 180 * _MICRO:
        return [(west, 180 * _MICRO), (-180 * _MICRO, east - 360 * _MICRO)]
    return [(west, east)]
