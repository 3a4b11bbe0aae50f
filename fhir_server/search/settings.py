"""What extraction and resolution must know of the server; made once by the composition root."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from fractions import Fraction
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from fhir_server.search.values import Calendar

UCUM = "http://unitsofmeasure.org"


class Expansion(Protocol):
    """The codes of a value set by system; `whole` names systems of which all codes belong but those listed with it."""

    @property
    def codes(self) -> Mapping[str, Iterable[str]]: ...

    @property
    def whole(self) -> Mapping[str, Iterable[str]]: ...


class Terminology(Protocol):
    """The part of ``terminology.protocol.Terminology`` that searches need.

    Methods raise exceptions of the implementation's own when a canonical is unknown or a value set cannot be expanded.
    """

    def case_sensitive(self, system: str) -> bool | None: ...

    def expand(self, canonical: str) -> Any: ...

    def descendants(self, system: str, code: str) -> Iterable[str]: ...

    def ancestors(self, system: str, code: str) -> Iterable[str]: ...


class Sealing(Protocol):
    """Identifiers whose values are encrypted before they are indexed; see sealing.py."""

    @property
    def systems(self) -> Mapping[str, str]:
        """Their systems, and the one that each is stored under."""

    def forms(self, value: str) -> tuple[str, ...]:
        """The texts that such an identifier may be indexed as."""


class CanonicalUnit(Protocol):
    """A unit over base units: canonical value = value * factor + offset."""

    @property
    def factor(self) -> Fraction: ...

    @property
    def offset(self) -> Fraction: ...

    @property
    def dimension(self) -> str: ...


def _now() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True)
class Settings:
    """The server's settings as searches see them.

    `base_urls`: own base and its aliases, without a trailing slash. `timezone`: name or tzinfo of what has no offset.
    `now`: microseconds since 1970. `terminology` None: codes of no system are known, and ``:in`` is 400. `units`: UCUM
    code to its canonical form, None when it has none; without it quantities match in the units in which they are
    written. `sealing`: what is known of encrypted identifiers, None where there are none.
    """

    base_urls: tuple[str, ...] = ()
    timezone: str | tzinfo = UTC
    now: Callable[[], int] = _now
    terminology: Terminology | None = None
    units: Callable[[str], CanonicalUnit | None] | None = None
    sealing: Sealing | None = None
    fulltext: bool = True
    chain_limit: int = 100_000
    default_count: int = 50
    max_count: int = 1000
    include_limit: int = 1000
    include_depth: int = 5
    near_default_km: int = 50
    calendar: Calendar = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        zone = ZoneInfo(self.timezone) if isinstance(self.timezone, str) else self.timezone
        object.__setattr__(self, "calendar", Calendar(zone))
        object.__setattr__(self, "base_urls", tuple(base.rstrip("/") for base in self.base_urls))
