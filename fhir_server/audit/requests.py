"""From interactions to Events: requests, entries of Bundles, versions that a transaction wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import unquote_plus

from fhir_server.access.caller import Caller
from fhir_server.access.compile import opened_of
from fhir_server.access.grant import Grant
from fhir_server.audit.events import MAJOR, MINOR, SERIOUS, SUCCESS, Event, identified
from fhir_server.audit.redact import HIDDEN, redacted
from fhir_server.context import FhirRequest, RequestContext, Server
from fhir_server.errors import FhirError
from fhir_server.resources.types import TYPE_SET, is_id
from fhir_server.storage.writes import Version

Seen = Sequence[tuple[str, str, int]]
"""(type, id, version) of what was shown."""

OPEN: Final = frozenset(("capabilities",))
"""Interactions that concern nobody's data, and are not recorded."""

_ACTIONS: Final = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_QUERIES: Final = frozenset(("search-type", "search-system", "search-compartment", "history-type", "history-system"))
_SUBJECTS: Final = frozenset(("patient", "subject", "patient:Patient", "subject:Patient"))


def written(context: RequestContext, at: int, versions: Sequence[Version], others: Sequence[Any]) -> list[Event]:
    """Events of a transaction: one per version, and one per write that found what it wanted, or nothing to delete."""
    who = _who(context)
    events = [
        Event(
            at=at,
            action=_ACTIONS[version.method],
            target=version.address,
            seen=(f"{version.type}/{version.id}/_history/{version.version}",),
            **who,
        )
        for version in versions
    ]
    for write, result in others:
        version = result.version
        seen = () if version is None else (f"{version.type}/{version.id}/_history/{version.version}",)
        target = f"{write.type}/{write.id}" if write.id else write.type
        events.append(Event(at=at, action=write.action, target=target, seen=seen, **who))
    return events


def answered(
    server: Server, context: RequestContext, request: FhirRequest, code: str, seen: Seen, error: Exception | None = None
) -> Event:
    """The event of an interaction that changed nothing, or that failed with `error`. `code`: the interaction's."""
    who = _who(context)
    query = patient = None
    if code.startswith("$") and request.id is None:
        seen = ()  # what an operation looks through to count or collect is not shown
        patient = _parameter(request)
    if code in _QUERIES:
        parameters = request.query if request.form is None else f"{request.query}&{request.form}".strip("&")
        query = _query(server, request, code, parameters)
        patient = _patient(request, parameters)
    return Event(
        at=server.clock(),
        action=code,
        target=_target(request),
        query=query,
        patient=patient,
        seen=tuple([f"{kind}/{id_}/_history/{version}" for kind, id_, version in dict.fromkeys(seen)]),
        outcome=SUCCESS if error is None else outcome_of(error),
        status=0 if error is None else getattr(error, "status", 500),
        **who,
    )


def refused(
    server: Server, environ: Mapping[str, Any], request_id: str, error: Exception, grant: Grant | None = None
) -> Event:
    """The event of a request that was refused before it was known what it asks for."""
    parts = environ["PATH_INFO"].split("/")
    target = ""
    if len(parts) > 2 and parts[2] in TYPE_SET:
        target = f"{parts[2]}/{parts[3]}" if len(parts) > 3 and is_id(parts[3]) else parts[2]
    return Event(
        at=server.clock(),
        action="request",
        target=target,
        request=request_id,
        address=str(environ.get("REMOTE_ADDR", "")),
        outcome=outcome_of(error),
        status=getattr(error, "status", 500),
        **identified(grant),
    )


def read(
    server: Server, caller: Caller, environ: Mapping[str, Any], request_id: str, seen: tuple[str, str, int]
) -> Event:
    """The event of the plainest read, which has neither context nor request."""
    kind, id_, version = seen
    address = f"{kind}/{id_}"
    return Event(
        at=server.clock(),
        action="read",
        request=request_id,
        address=environ.get("REMOTE_ADDR", ""),
        target=address,
        seen=(f"{address}/_history/{version}",),
        opened=opened_of(caller.policy),
        **identified(caller.grant),
    )


def outcome_of(error: Exception) -> int:
    """The code of audit-event-outcome for an error."""
    status = error.status if isinstance(error, FhirError) else 500
    if status in (401, 403):
        return SERIOUS
    return MINOR if status < 500 else MAJOR


def _who(context: RequestContext) -> dict[str, Any]:
    caller = context.caller
    fields: dict[str, Any] = identified(caller.grant) if caller is not None else {}
    fields["request"] = context.request_id
    fields["address"] = context.address
    if context.purpose is not None:
        fields["purpose"] = context.purpose
    if context.reason is not None:
        fields["reason"] = context.reason
    opened = opened_of(context.policy)
    if opened:
        fields["opened"] = opened
    return fields


def _target(request: FhirRequest) -> str:
    if request.compartment is not None:
        return "/".join(request.compartment)
    if request.type is None:
        return ""
    if request.id is None:
        return request.type
    version = request.version_id
    if version is not None and version.isascii() and version.isdigit():
        return f"{request.type}/{request.id}/_history/{version}"
    return f"{request.type}/{request.id}"


def _query(server: Server, request: FhirRequest, code: str, parameters: str) -> str:
    """Path and parameters, without what identifies somebody."""
    path = request.type or ""
    if request.compartment is not None:
        path = f"{request.compartment[0]}/{HIDDEN}/{request.type or '*'}"
    if code.startswith("history"):
        path = f"{path}/_history".lstrip("/")
    shown = redacted(server.registry, request.type, parameters)
    return f"{path}?{shown}" if shown else path


def _parameter(request: FhirRequest) -> str | None:
    """The patient that the Parameters of an operation name."""
    parameters = request.resource.get("parameter") if isinstance(request.resource, dict) else None
    for one in parameters if isinstance(parameters, list) else ():
        if isinstance(one, dict) and one.get("name") == "patient" and isinstance(one.get("valueReference"), dict):
            reference = one["valueReference"].get("reference")
            if isinstance(reference, str) and reference.startswith("Patient/") and is_id(reference[8:]):
                return reference
    return None


def _patient(request: FhirRequest, parameters: str) -> str | None:
    """The one patient that a search is about, if it says so: recorded even when nothing was found."""
    if request.compartment is not None and request.compartment[0] == "Patient":
        return f"Patient/{request.compartment[1]}"
    for pair in parameters.split("&"):
        name, _, value = pair.partition("=")
        if name in _SUBJECTS:
            id_ = unquote_plus(value).removeprefix("Patient/")
            if is_id(id_):
                return f"Patient/{id_}"
    return None
