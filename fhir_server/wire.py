"""Forms that times, addresses and URLs have on the wire. R4 http.html; RFC 9110 5.6.7."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

_DAY_S: Final = 86_400
_TWO: Final = tuple(f"{number:02d}" for number in range(60))
_WEEKDAYS: Final = ("Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed")  # 1970-01-01 was a Thursday
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_http_days: dict[int, str] = {}
_instant_days: dict[int, str] = {}
_REMEMBERED_DAYS: Final = 4096


def _http_day(day: int) -> str:
    date = datetime.fromtimestamp(day * _DAY_S, UTC)
    if len(_http_days) > _REMEMBERED_DAYS:
        _http_days.clear()
    text = _http_days[day] = f"{_WEEKDAYS[day % 7]}, {date.day:02d} {_MONTHS[date.month - 1]} {date.year:04d} "
    return text


def http_date(microseconds: int) -> str:
    """The HTTP-date of an instant, truncated to the second: ``Tue, 24 Nov 2026 12:30:00 GMT``."""
    day, second = divmod(microseconds // 1_000_000, _DAY_S)
    text = _http_days.get(day) or _http_day(day)
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    return f"{text}{_TWO[hour]}:{_TWO[minute]}:{_TWO[second]} GMT"


def instant(microseconds: int) -> str:
    """The FHIR instant of a stored time, in UTC with milliseconds: ``2026-11-24T12:30:00.123Z``."""
    seconds, fraction = divmod(microseconds, 1_000_000)
    day, second = divmod(seconds, _DAY_S)
    text = _instant_days.get(day)
    if text is None:
        if len(_instant_days) > _REMEMBERED_DAYS:
            _instant_days.clear()
        text = _instant_days[day] = f"{datetime.fromtimestamp(day * _DAY_S, UTC).date()}T"
    minute, second = divmod(second, 60)
    hour, minute = divmod(minute, 60)
    return f"{text}{_TWO[hour]}:{_TWO[minute]}:{_TWO[second]}.{fraction // 1000:03d}Z"


def query_string(pairs: Iterable[tuple[str, str]]) -> str:
    """Parameters as they stand in a URL. What is legal in a query stays readable (RFC 3986 3.4)."""
    return "&".join([f"{_quoted(name)}={_quoted(value)}" for name, value in pairs])


def _quoted(text: str) -> str:
    text = text.replace("|", "\0")
    if _PLAIN.match(text):
        return text.replace("\0", "%7C")
    return quote(text.replace("\0", "|"), safe=_SAFE)


_SAFE: Final = ":/?@!$'()*,;-._~"
_PLAIN: Final = re.compile(r"[A-Za-z0-9:/?@!$'()*,;\-._~\0]*\Z")
