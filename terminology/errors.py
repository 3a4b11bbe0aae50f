"""What can go wrong when codes are asked about. Callers turn these into OperationOutcomes; nothing here knows HTTP."""

from __future__ import annotations


class TerminologyError(Exception):
    """Base of every error of this package."""


class UnknownCanonical(TerminologyError):
    """No CodeSystem, ValueSet or ConceptMap of this canonical is loaded. `url` may carry `|version`."""

    def __init__(self, url: str) -> None:
        super().__init__(f"`{url}` is not loaded.")
        self.url = url


class NotExpandable(TerminologyError):
    """The value set or code system is known, but its codes cannot be computed here. `reason` is a sentence."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"`{url}` cannot be expanded: {reason}")
        self.url = url
        self.reason = reason


class UnknownCode(TerminologyError):
    """The code system is loaded, and has no such code.

    The message leaves the code out: it may come from a body or from a search, and those are patient data.
    """

    def __init__(self, system: str, code: str) -> None:
        super().__init__(f"The code is not in `{system}`.")
        self.system = system
        self.code = code
