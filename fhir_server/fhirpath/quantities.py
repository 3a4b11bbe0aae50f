"""System.Quantity of FHIRPath: an exact decimal with a unit. FHIRPath N1, 2.1.7 and 6.1 (equality of quantities).

Units are UCUM codes. Comparison converts between units only where the factor is exact and of the same kind: metric
prefixes of the common base units, and the definite durations. Everything else with different units is not comparable
(empty).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

UCUM = "http://unitsofmeasure.org"

# Calendar keywords are their own units; N1 lets the definite ones (week and below) equal the UCUM units.
CALENDAR_UNITS = {
    "year": "year", "years": "year", "month": "month", "months": "month", "week": "week", "weeks": "week",
    "day": "day", "days": "day", "hour": "hour", "hours": "hour", "minute": "minute", "minutes": "minute",
    "second": "second", "seconds": "second", "millisecond": "millisecond", "milliseconds": "millisecond",
}  # fmt: skip

_PREFIXES = {"k": 3, "h": 2, "da": 1, "d": -1, "c": -2, "m": -3, "u": -6, "n": -9, "p": -12, "f": -15}
_METRIC_BASES = tuple("g m L l mol Pa Hz J W V A K Bq eq m[H2O] cal N [iU]".split())  # noqa: SIM905
_FACTORS: dict[str, tuple[str, Decimal]] = {
    "1": ("1", Decimal(1)),
    "%": ("1", Decimal("0.01")),
    "[ppth]": ("1", Decimal("0.001")),
    "s": ("s", Decimal(1)),
    "ms": ("s", Decimal("0.001")),
    "us": ("s", Decimal("0.000001")),
    "min": ("s", Decimal(60)),
    "h": ("s", Decimal(3600)),
    "d": ("s", Decimal(86400)),
    "wk": ("s", Decimal(604800)),
    "second": ("s", Decimal(1)),
    "millisecond": ("s", Decimal("0.001")),
    "minute": ("s", Decimal(60)),
    "hour": ("s", Decimal(3600)),
    "day": ("s", Decimal(86400)),
    "week": ("s", Decimal(604800)),
    "month": ("month", Decimal(1)),
    "year": ("month", Decimal(12)),
    "mo": ("a", Decimal(1) / 12),
    "a": ("a", Decimal(1)),
    "[in_i]": ("m", Decimal("0.0254")),
    "[ft_i]": ("m", Decimal("0.3048")),
    "[lb_av]": ("g", Decimal("453.59237")),
    "[oz_av]": ("g", Decimal("28.349523125")),
    "t": ("g", Decimal(1000000)),
}
for _base in _METRIC_BASES:
    _name = "L" if _base == "l" else _base
    _FACTORS.setdefault(_base, (_name, Decimal(1)))
    for _prefix, _power in _PREFIXES.items():
        _FACTORS.setdefault(_prefix + _base, (_name, Decimal(1).scaleb(_power)))


@dataclass(frozen=True, slots=True)
class Quantity:
    """`value` in `unit`: a UCUM code, a calendar unit in the singular, or a FHIR Quantity's text without a code."""

    value: Decimal
    unit: str = "1"

    def canonical(self) -> tuple[Decimal, str]:
        """Value and base unit after an exact conversion; unknown units stay as they are."""
        known = _FACTORS.get(self.unit)
        return (self.value, self.unit) if known is None else (self.value * known[1], known[0])

    def compare(self, other: Quantity) -> int | None:
        """-1, 0 or 1; None when the units cannot be compared."""
        if self.unit == other.unit:
            left, right = self.value, other.value
        else:
            left, unit = self.canonical()
            right, other_unit = other.canonical()
            if unit != other_unit:
                return None
        return (left > right) - (left < right)

    def __str__(self) -> str:
        number = format(self.value, "f")
        if self.unit in CALENDAR_UNITS:
            return f"{number} {self.unit}" if self.value == 1 else f"{number} {self.unit}s"
        return f"{number} '{self.unit}'"


def from_element(element: dict[str, Any]) -> Quantity | None:
    """The System.Quantity of a FHIR Quantity (or Age, Duration, Money, ...); None without a value.

    R4 fhirpath.html: a UCUM code is the unit; otherwise the code or the human unit, which only equals itself.
    """
    value = element.get("value")
    if value is None or isinstance(value, (str, bool, dict, list)):
        return None
    unit = element.get("code") or element.get("unit") or element.get("currency") or "1"
    if not isinstance(unit, str):
        return None
    system = element.get("system")
    if system is not None and system != UCUM:
        unit = f"{unit}|{system}"
    return Quantity(value if isinstance(value, Decimal) else Decimal(value), unit)
