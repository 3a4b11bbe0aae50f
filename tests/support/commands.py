"""Counting the commands that a MongoDB store sends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pymongo import monitoring

IGNORED = frozenset({"getMore", "killCursors", "hello", "ismaster", "ping", "endSessions", "saslStart", "saslContinue"})
"""Not counted: the rest of a long answer, and what the driver does for itself."""


class CommandLog(monitoring.CommandListener):
    """The names of the commands that a store sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Any]] = []

    def started(self, event: monitoring.CommandStartedEvent) -> None:
        if event.command_name not in IGNORED:
            self.sent.append((event.command_name, event.command.get(event.command_name)))

    def succeeded(self, event: monitoring.CommandSucceededEvent) -> None:
        """Only what is sent counts."""

    def failed(self, event: monitoring.CommandFailedEvent) -> None:
        """Only what is sent counts."""

    def count(self, work: Callable[[], object]) -> int:
        """How many commands `work` sends."""
        return len(self.during(work))

    def during(self, work: Callable[[], object]) -> list[str]:
        """The commands that `work` sends, as "find resources"."""
        self.sent.clear()
        work()
        return [f"{name} {target}" if isinstance(target, str) else name for name, target in self.sent]
