"""Dates, times and instants with their precision. FHIRPath N1, 2.1.4 to 2.1.6, 6.1, 6.2 and 6.6.

"2020-02" is not the first of February: comparing it with "2020-02-10" is undetermined, and FHIRPath answers with the
empty collection, here None.
"""

from __future__ import annotations

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Literal

from fhir_server.fhirpath.quantities import CALENDAR_UNITS, Quantity

Kind = Literal["Date", "DateTime", "Time"]

# Components: year, month, day, hour, minute, second. Seconds and their fraction are one precision (N1, 6.1).
_YEAR, _MONTH, _DAY, _HOUR, _MINUTE, _SECOND = range(6)

_DATE_TIME = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?(?:(T)(?:(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d+)?))?)?(Z|[+-]\d\d:\d\d)?)?)?", re.ASCII
)
_TIME = re.compile(r"T?(\d\d)(?::(\d\d)(?::(\d\d(?:\.\d+)?))?)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Temporal:
    """A Date, DateTime or Time. `parts` holds as many components as the precision has (a Time starts with the hour).

    `offset` is in minutes east of UTC, None when the text has none. `text` is as written, without the literal's "@".
    """

    kind: Kind
    parts: tuple[int | Decimal, ...]
    offset: int | None
    text: str

    def __str__(self) -> str:
        return self.text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Temporal) and self.key() == other.key()

    def __hash__(self) -> int:
        return hash(self.key())

    def key(self) -> tuple[object, ...]:
        """A hashable value that is equal for values that are certainly the same moment at the same precision."""
        if self.kind == "Time":
            return ("Time", self.parts)
        return (self.offset is None and len(self.parts) > 3, self.utc().parts)

    def literal(self) -> str:
        """As a FHIRPath literal."""
        if self.kind == "Time":
            return f"@T{self.text.removeprefix('T')}"
        return f"@{self.text}" if self.kind == "Date" or "T" in self.text else f"@{self.text}T"

    def utc(self) -> Temporal:
        """The same moment with offset 0; unchanged without an offset or a time."""
        if not self.offset or len(self.parts) < 4:
            return self
        year, month, day, hour, *rest = self.parts
        minute = int(rest[0]) if rest else 0
        try:
            moved = datetime(int(year), int(month), int(day), int(hour), minute) - timedelta(minutes=self.offset)
        except (ValueError, OverflowError):
            return self
        parts: tuple[int | Decimal, ...] = (moved.year, moved.month, moved.day, moved.hour)
        if rest:
            parts += (moved.minute, *rest[1:])
        return Temporal(self.kind, parts, 0, self.text)

    def compare(self, other: Temporal) -> int | None:
        """-1, 0 or 1; None when the precisions leave it open, or when a Time meets a Date."""
        if (self.kind == "Time") != (other.kind == "Time"):
            return None
        if self.offset is None and other.offset is None:
            return _compare(self.parts, other.parts)
        in_utc = _compare(self.utc().parts, other.utc().parts)
        if self.offset is not None and other.offset is not None:
            return in_utc
        # One of them is in an unknown zone: only what holds both for local time and for UTC is certain.
        return in_utc if in_utc == _compare(self.parts, other.parts) else None

    def plus(self, quantity: Quantity, sign: int = 1) -> Temporal | None:
        """This moment moved by a calendar quantity (N1, 6.6.7); None without a unit of time, or outside the years."""
        unit = CALENDAR_UNITS.get(quantity.unit) or _UCUM_UNITS.get(quantity.unit)
        if unit is None:
            return None
        amount = quantity.value * sign
        if unit not in ("second", "millisecond"):
            # N1, 6.6.7: above seconds, the decimal portion of the quantity is ignored.
            amount = Decimal(int(amount)) if abs(amount) < 10**13 else amount
        if self.kind == "Time":
            return self._plus_time(unit, amount)
        if unit in ("year", "month"):
            return self._plus_months(int(amount) * (12 if unit == "year" else 1))
        seconds = _SECONDS.get(unit)
        if seconds is None or abs(amount) > 10**13:
            return None
        # N1: a quantity finer than the precision is converted to that precision, its fraction dropped.
        if len(self.parts) < 3:
            return self._plus_months(int(amount * seconds / 86400 / (365 if len(self.parts) == 1 else 30)) *
                                     (12 if len(self.parts) == 1 else 1))  # fmt: skip
        step = _SECONDS[("day", "hour", "minute", "second")[len(self.parts) - 3]]
        whole = amount * seconds if step == 1 else int(amount * seconds / step) * step
        return self._plus_seconds(Decimal(whole))

    def _plus_months(self, months: int) -> Temporal | None:
        total = int(self.parts[0]) * 12 + (int(self.parts[1]) - 1 if len(self.parts) > 1 else 0) + months
        year, month = divmod(total, 12)
        if not 1 <= year <= 9999:
            return None
        parts: list[int | Decimal] = [year, *([month + 1] if len(self.parts) > 1 else [])]
        if len(self.parts) > 2:
            parts += [min(int(self.parts[2]), monthrange(year, month + 1)[1]), *self.parts[3:]]
        return build(self.kind, tuple(parts), self.offset)

    def _plus_seconds(self, amount: Decimal) -> Temporal | None:
        year, month, day, *time = self.parts
        hour, minute, second = (*time, 0, 0, 0)[:3]
        moved_seconds = Decimal(second) + amount
        whole = moved_seconds // 1
        if moved_seconds < 0 and whole != moved_seconds:
            whole -= 1
        try:
            moved = datetime(int(year), int(month), int(day), int(hour), int(minute)) + timedelta(seconds=int(whole))
        except (ValueError, OverflowError):
            return None
        parts = (
            moved.year,
            moved.month,
            moved.day,
            moved.hour,
            moved.minute,
            Decimal(moved.second) + moved_seconds - whole,
        )
        return build(self.kind, parts[: len(self.parts)], self.offset)

    def _plus_time(self, unit: str, amount: Decimal) -> Temporal | None:
        seconds = _SECONDS.get(unit)
        if seconds is None:
            return None
        hour, minute, second = (*self.parts, 0, 0)[:3]
        step = (3600, 60, 1)[len(self.parts) - 1]
        change = amount * seconds if step == 1 else Decimal(int(amount * seconds / step) * step)
        total = Decimal(hour) * 3600 + Decimal(minute) * 60 + Decimal(second) + change
        total -= (total // 86400) * 86400
        if total < 0:
            total += 86400
        parts = (int(total // 3600), int(total // 60 % 60), total % 60)
        return build("Time", parts[: len(self.parts)], None)


_UCUM_UNITS = {"s": "second", "ms": "millisecond", "min": "minute", "h": "hour", "d": "day", "wk": "week"}
_SECONDS: dict[str, Decimal] = {
    "week": Decimal(604800),
    "day": Decimal(86400),
    "hour": Decimal(3600),
    "minute": Decimal(60),
    "second": Decimal(1),
    "millisecond": Decimal("0.001"),
}


def _compare(left: tuple[int | Decimal, ...], right: tuple[int | Decimal, ...]) -> int | None:
    for a, b in zip(left, right, strict=False):
        if a != b:
            return 1 if a > b else -1
    return 0 if len(left) == len(right) else None


def _second_text(second: int | Decimal) -> str:
    whole, dot, fraction = format(Decimal(second), "f").partition(".")
    return f"{whole:0>2}{dot}{fraction}"


def build(kind: Kind, parts: tuple[int | Decimal, ...], offset: int | None) -> Temporal:
    """A Temporal from its components, with the text that stands for it."""
    if kind == "Time":
        time = parts
        text = ""
    else:
        text = "-".join(format(int(part), "04" if index == 0 else "02") for index, part in enumerate(parts[:3]))
        time = parts[3:]
        if time:
            text += "T"
    if time:
        text += ":".join([*(format(int(part), "02") for part in time[:2]), *(_second_text(part) for part in time[2:])])
        if kind == "DateTime" and offset is not None:
            sign = "-" if offset < 0 else "+"
            text += "Z" if offset == 0 else f"{sign}{abs(offset) // 60:02}:{abs(offset) % 60:02}"
    return Temporal(kind, parts, offset, text)


def from_datetime(moment: datetime) -> Temporal:
    """A DateTime to the millisecond."""
    zone = moment.utcoffset()
    second = Decimal(moment.second) + Decimal(moment.microsecond // 1000) / 1000
    second = second.quantize(Decimal("0.001"))
    parts = (moment.year, moment.month, moment.day, moment.hour, moment.minute, second)
    return build("DateTime", parts, None if zone is None else int(zone.total_seconds() // 60))


@lru_cache(maxsize=8192)
def parse_temporal(text: str, kind: Kind | None = None) -> Temporal | None:
    """The Temporal of a FHIR date, dateTime, instant or time; None when the text is none of the asked kind.

    Without `kind`, text with a "T" after a date is a DateTime, and text with a ":" and no date a Time.
    """
    if len(text) > 64:
        return None
    if kind == "Time" or (kind is None and (text[:1] == "T" or text[2:3] == ":")):
        match = _TIME.fullmatch(text)
        if match is None:
            return None
        time = _time(match.groups())
        return None if time is None else Temporal("Time", time, None, text.removeprefix("T"))
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return None
    year, month, day, separator, hour, minute, second, zone = match.groups()
    parts: tuple[int | Decimal, ...] = (int(year), *((int(month),) if month else ()), *((int(day),) if day else ()))
    if parts[0] == 0 or (month and not 1 <= int(month) <= 12):
        return None
    if day and not 1 <= int(day) <= monthrange(int(year), int(month))[1]:
        return None
    if kind is None:
        kind = "DateTime" if separator else "Date"
    if separator and kind == "Date":
        return None
    offset: int | None = None
    if hour:
        time = _time((hour, minute, second))
        if time is None or not day:
            return None
        parts += time
    if zone:
        if not hour:
            return None
        offset = 0 if zone == "Z" else (int(zone[1:3]) * 60 + int(zone[4:])) * (-1 if zone[0] == "-" else 1)
        if abs(offset) > 14 * 60:
            return None
    return Temporal(kind, parts, offset, text)


def _time(groups: tuple[str | None, ...]) -> tuple[int | Decimal, ...] | None:
    hour, minute, second = groups
    if hour is None or int(hour) > 23 or (minute and int(minute) > 59):
        return None
    parts: tuple[int | Decimal, ...] = (int(hour),)
    if minute:
        parts += (int(minute),)
    if second:
        # R4's instant allows the leap second.
        if Decimal(second) >= 61:
            return None
        parts += (Decimal(second),)
    return parts


def compare_texts(left: str, right: str) -> int | None:
    """Compare two FHIR dates, dateTimes or instants; None when undetermined (or when one is not valid)."""
    length = len(left)
    if length == len(right) and (length == 10 or (length >= 20 and left[19:] == right[19:])):
        # Same precision and the same fraction and offset: the text decides.
        return (left > right) - (left < right)
    a = parse_temporal(left)
    b = parse_temporal(right)
    return None if a is None or b is None else a.compare(b)
