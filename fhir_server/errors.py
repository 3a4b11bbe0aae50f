"""One tree of errors for everything that answers in FHIR; each class carries its HTTP status and issue code.

R4 http.html#Status-Codes, operationoutcome.html. Imports nothing of ours. Messages name the thing and the expectation,
never a
value that came from a body or a search: patient data does not reach an error text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

Severity = Literal["fatal", "error", "warning", "information"]


@dataclass(frozen=True, slots=True)
class Issue:
    """One finding, as OperationOutcome.issue carries it.

    `code` is from the issue-type value set; `expression` holds FHIRPath of the faulty elements.
    """

    severity: Severity
    code: str
    diagnostics: str
    expression: tuple[str, ...] = ()

    def at(self, prefix: str) -> Issue:
        """The same issue seen from a containing Bundle: `prefix` (such as ``Bundle.entry[3]``) leads its expressions.

        A resource's own expression starts with its type ("Patient.name[0]"), and is continued as
        ``prefix.resource.name[0]``.
        """
        if not self.expression:
            return Issue(self.severity, self.code, self.diagnostics, (prefix,))
        paths = tuple(f"{prefix}.resource{path[path.index('.') :] if '.' in path else ''}" for path in self.expression)
        return Issue(self.severity, self.code, self.diagnostics, paths)


class FhirError(Exception):
    """Base of everything that is answered with an OperationOutcome. Subclasses fix `status` and `code`."""

    status: ClassVar[int] = 500
    code: ClassVar[str] = "exception"

    def __init__(
        self,
        message: str = "",
        *,
        expression: str | Iterable[str] = (),
        code: str | None = None,
        issues: Iterable[Issue] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        paths = (expression,) if isinstance(expression, str) else tuple(expression)
        found = tuple(issues)
        self.issues: tuple[Issue, ...] = found or (Issue("error", code or type(self).code, message, paths),)
        self.headers: dict[str, str] = dict(headers or {})


class BadRequest(FhirError):
    """Syntax: the request, a parameter or a body cannot be understood. `code` is usually ``invalid``, ``value``,
    ``structure``.
    """

    status, code = 400, "invalid"


class Invalid(BadRequest):
    """One or many findings in a resource that are faults of syntax or structure (400)."""

    status, code = 400, "structure"


class TooCostly(BadRequest):
    """A search that would cost too much is refused, never truncated."""

    status, code = 400, "too-costly"


class NotSupported(BadRequest):
    """Something that R4 knows and that is not offered here (an unsupported modifier, say)."""

    status, code = 400, "not-supported"


REALM: Final = "fhir"
"""The protection space of challenges. RFC 9110 section 11.5."""


class Unauthorized(FhirError):
    """No access token, or one that is not valid (any more). RFC 6750 section 3.

    `token_error`: ``invalid_token`` for the latter.
    """

    status, code = 401, "login"

    def __init__(self, message: str = "An access token is needed.", *, token_error: str | None = None, **more: Any):
        challenge = f'Bearer realm="{REALM}"' + (f', error="{token_error}"' if token_error else "")
        headers = {"WWW-Authenticate": challenge, **dict(more.pop("headers", None) or {})}
        super().__init__(message, headers=headers, **more)


class Forbidden(FhirError):
    """The caller may not do this to this type."""

    status, code = 403, "forbidden"


class NotFound(FhirError):
    """No such type, instance, version or operation."""

    status, code = 404, "not-found"


class MethodNotAllowed(FhirError):
    """The path exists, the method does not."""

    status, code = 405, "not-supported"


class NotAcceptable(FhirError):
    """None of the media types that the client accepts is offered."""

    status, code = 406, "not-supported"


class Conflict(FhirError):
    """The write contradicts stored state. R4 http.html#transaction, #update."""

    status, code = 409, "conflict"


class Duplicate(Conflict):
    """A unique key is already claimed by another resource."""

    status, code = 409, "duplicate"


class Gone(FhirError):
    """The instance was deleted, or a page token has expired."""

    status, code = 410, "deleted"


class PreconditionFailed(FhirError):
    """The version that the client named is no longer current, or criteria match several. R4 http.html#concurrency."""

    status, code = 412, "conflict"


class TooLarge(FhirError):
    """A body above the configured limit, or a resource above what the stores hold."""

    status, code = 413, "too-long"


class UnsupportedMediaType(FhirError):
    """The body's Content-Type is not one that this interaction reads."""

    status, code = 415, "not-supported"


class Unprocessable(FhirError):
    """Well formed, but against a required binding, an invariant or a business rule (422)."""

    status, code = 422, "business-rule"


class Throttled(FhirError):
    """Too many requests of one client or account. RFC 6585 section 4."""

    status, code = 429, "throttled"

    def __init__(self, message: str = "Too many requests; wait a little.", *, retry_after_s: int = 1, **more: Any):
        headers = {"Retry-After": str(max(1, retry_after_s)), **dict(more.pop("headers", None) or {})}
        super().__init__(message, headers=headers, **more)


class Busy(FhirError):
    """The store could not serialize this write now; the client may repeat it."""

    status, code = 503, "transient"

    def __init__(self, message: str = "The store is busy; repeat the request.", **more: Any) -> None:
        headers = {"Retry-After": "1", **dict(more.pop("headers", None) or {})}
        super().__init__(message, headers=headers, **more)


class PositionLost(Exception):
    """A change-feed position can no longer be served; catch up from the system history. Never crosses the wire."""


@dataclass(slots=True)
class Outcome:
    """An OperationOutcome under construction: status plus issues."""

    status: int
    issues: list[Issue] = field(default_factory=list)

    def resource(self) -> dict[str, Any]:
        """The OperationOutcome resource as JSON, with at least one issue (R4: issue 1..*)."""
        return outcome_resource(self.issues)


def outcome_resource(issues: Iterable[Issue]) -> dict[str, Any]:
    """OperationOutcome JSON for `issues`; an empty list becomes one informational "All OK"."""
    rendered: list[dict[str, Any]] = []
    for issue in issues:
        item: dict[str, Any] = {"severity": issue.severity, "code": issue.code}
        if issue.diagnostics:
            item["diagnostics"] = issue.diagnostics
        if issue.expression:
            item["expression"] = list(issue.expression)
        rendered.append(item)
    if not rendered:
        rendered.append({"severity": "information", "code": "informational", "diagnostics": "All OK"})
    return {"resourceType": "OperationOutcome", "issue": rendered}


def outcome(error: BaseException) -> Outcome:
    """Status and OperationOutcome of any exception: whole responses and batch entries alike.

    An exception that is not ours becomes 500 without its text; the caller logs it with the request id.
    """
    if isinstance(error, FhirError):
        return Outcome(error.status, list(error.issues))
    return Outcome(500, [Issue("fatal", "exception", "An internal error occurred; the request id is in the log.")])
