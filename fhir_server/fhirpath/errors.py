"""The one error of FHIRPath: syntax, unknown functions, misuse of singletons, exhausted budgets."""

from __future__ import annotations


class FhirPathError(ValueError):
    """A FHIRPath expression cannot be parsed, compiled or evaluated.

    Not a FhirError: the same fault is a 400 in a patch, a warning in a profile and a bug in an official invariant, so
    the caller decides. The message names the construct and never a value of the evaluated resource.
    `position` is the 0-based offset into the expression text, where it is known.
    """

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message if position is None else f"{message} (at character {position})")
        self.position = position


class BudgetExceeded(FhirPathError):
    """The evaluation took more steps than its Environment allows."""

    def __init__(self) -> None:
        super().__init__("The expression takes too many steps on this resource.")
