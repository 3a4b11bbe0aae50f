"""What somebody can cause again and again without a right to anything: one event and a count, so that nobody fills the
audit with it.

The first of its kind from one source is recorded as it is, before it is answered. Those that follow within a minute are
counted here, and become one event with their number when the minute is over. There are bounds on how many kinds of one
source, and how many sources, are told apart; what is beyond them is counted together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import msgspec

from fhir_server.audit.events import SUCCESS, Event

WINDOW_US: Final = 60_000_000
SOURCES: Final = 1000
"""Sources of one action in one minute that have events of their own."""
REFUSED: Final = 30
"""Kinds of refusals of one source in one minute that have events of their own."""
SERVED: Final = 5000
"""The same of what was not refused: whoever causes it is known, and limited by its own rate."""

Key = tuple[str, str, tuple[object, ...]]
"""Action, source, kind: () when it is counted together with others; the source is then "" beyond all bounds."""


@dataclass(slots=True)
class _Counted:
    """What follows the first event of a key, which came at `began`."""

    first: Event
    began: int
    count: int = 0
    since: int = 0
    until: int = 0


class Repeats:
    """The counts of one process. Not for two threads at once."""

    def __init__(self, source_of: Callable[[str], str]) -> None:
        """`source_of`: network address -> what counts as one source (an IPv6 subscriber has a whole network)."""
        self._source_of = source_of
        self._counted: dict[Key, _Counted] = {}
        self._kinds: dict[tuple[str, str], int] = {}
        self._sources: dict[str, int] = {}
        self._oldest: int | None = None

    def repeated(self, event: Event) -> bool:
        """Counts an event whose like came within the minute; False for the first one, which is to be recorded."""
        counted = self._counted.get(self._key(event))
        if counted is None:
            return False
        counted.since = counted.since or event.at
        counted.until = event.at
        counted.count += 1
        return True

    def begin(self, event: Event) -> None:
        """Notes the first of its kind, once it is recorded."""
        key = self._key(event)
        self._counted[key] = _Counted(event, event.at)
        group = key[:2]
        if group not in self._kinds:
            self._kinds[group] = 0
            self._sources[key[0]] = self._sources.get(key[0], 0) + 1
        self._kinds[group] += 1
        self._oldest = event.at if self._oldest is None else min(self._oldest, event.at)

    def _key(self, event: Event) -> Key:
        action, source = event.action, self._source_of(event.address)
        kind = (event.status, event.outcome, event.account, event.client, *sorted(event.detail.items()))
        known = self._kinds.get((action, source))
        if known is None and self._sources.get(action, 0) >= SOURCES:
            return action, "", ()
        bound = SERVED if event.outcome == SUCCESS else REFUSED
        if (action, source, kind) not in self._counted and (known or 0) >= bound:
            return action, source, ()
        return action, source, kind

    def due(self, now: int | None) -> bool:
        """Whether a minute is over at `now` (a clock that was put back ends it, too); None: any that has begun."""
        return self._oldest is not None and (now is None or not self._oldest <= now < self._oldest + WINDOW_US)

    def over(self, now: int | None) -> list[Key]:
        """Keys whose minute is over, see `due`."""
        return [
            key for key, one in self._counted.items() if now is None or not one.began <= now < one.began + WINDOW_US
        ]

    def summary(self, key: Key) -> Event | None:
        """One event of all that followed the first one; None when nothing did."""
        action, source, kind = key
        counted = self._counted[key]
        if not counted.count:
            return None
        first = counted.first
        if not kind:
            first = Event(at=first.at, action=action, kind=first.kind, outcome=first.outcome)
        return msgspec.structs.replace(
            first,
            at=counted.until,
            address=source,
            request="",
            target="",
            query=None,
            patient=None,
            count=counted.count,
            since=counted.since,
        )

    def end(self, keys: list[Key]) -> None:
        """Forgets what is over, once its summaries are recorded."""
        for key in keys:
            del self._counted[key]
            group = key[:2]
            self._kinds[group] -= 1
            if not self._kinds[group]:
                del self._kinds[group]
                self._sources[key[0]] -= 1
                if not self._sources[key[0]]:
                    del self._sources[key[0]]
        self._oldest = min((one.began for one in self._counted.values()), default=None)
