"""Surroundings of an authorization server in tests: a clock that stands, a notifier that remembers, an event list."""

from __future__ import annotations

from dataclasses import dataclass, field

from smart_auth.context import AuthEvent

START = 2_000_000_000
"""2033-05-18T03:33:20Z: ahead of the machine's clock, so that no TTL index of a real server removes a test's record,
and that a use of the machine's clock by mistake shows."""


class AuthClock:
    """Whole seconds since 1970; moves only when told."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, seconds: int) -> None:
        self.now += seconds


@dataclass(frozen=True)
class Sent:
    """A message that was sent."""

    channel: str
    to: str
    subject: str
    text: str


@dataclass
class RecordingNotifier:
    """A Notifier that keeps what it was told to send."""

    sent: list[Sent] = field(default_factory=list)

    def send(self, channel: str, to: str, subject: str, text: str) -> None:
        self.sent.append(Sent(channel, to, subject, text))

    def code(self, to: str) -> str:
        """The six digits of the newest message to an address."""
        text = next(one.text for one in reversed(self.sent) if one.to == to)
        words = "".join(char if char.isascii() and char.isdigit() else " " for char in text).split()
        return next(word for word in words if len(word) == 6)


@dataclass
class RecordingAudit:
    """What the audit was told."""

    events: list[AuthEvent] = field(default_factory=list)

    def __call__(self, event: AuthEvent) -> None:
        self.events.append(event)

    def actions(self) -> list[str]:
        """The actions in order."""
        return [event.action for event in self.events]

    def last(self, action: str) -> AuthEvent:
        """The newest event of an action."""
        return next(event for event in reversed(self.events) if event.action == action)
