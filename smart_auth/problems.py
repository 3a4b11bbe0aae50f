"""What a person is told when something about an account does not work.

`message` is a message id (English), which pages translate and fill with `values`. It says nothing about anybody
else's account: an unknown account, a wrong password and a wrong code look alike.
"""

from __future__ import annotations

from typing import Any, ClassVar


def N_(text: str) -> str:
    """Marks a message id for extraction."""
    return text


class Problem(Exception):
    """Something that a person did cannot be done."""

    message: ClassVar[str] = N_("That did not work.")

    def __init__(self, **values: Any) -> None:
        super().__init__(self.message % values if values else self.message)
        self.values = values


class LoginFailed(Problem):
    """Unknown account, wrong password, or an account that is closed."""

    message = N_("This account or password is not right.")


class Locked(Problem):
    """Too many wrong passwords, or locked by an administrator (`retry_after_s` is then None)."""

    message = N_("This account is locked for now. Try again later, or set a new password.")

    def __init__(self, retry_after_s: int | None = None) -> None:
        super().__init__()
        self.retry_after_s = retry_after_s


class Throttled(Problem):
    """Too many attempts; `retry_after_s` seconds from now another one counts."""

    message = N_("Too many attempts. Wait %(seconds)s seconds and try again.")

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(seconds=retry_after_s)
        self.retry_after_s = retry_after_s


class WrongCode(Problem):
    """A one-time code that is wrong, used, or too old, or was never sent."""

    message = N_("This code is not right or no longer valid.")


class WeakPassword(Problem):
    """A password that is refused; `reasons` are message ids."""

    message = N_("Choose another password.")

    def __init__(self, reasons: list[str]) -> None:
        super().__init__()
        self.reasons = reasons


class UnusableValue(Problem):
    """A name, phone number, e-mail address or user name that cannot be taken; `field` names it."""

    message = N_("This value cannot be used.")

    def __init__(self, field: str, reason: str) -> None:
        super().__init__()
        self.field = field
        self.reason = reason
        """A message id."""


class NotPossible(Problem):
    """An administrative act that the state of an account does not allow; `reason` is a message id."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason
