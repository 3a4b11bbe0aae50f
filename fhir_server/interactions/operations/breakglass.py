"""$break-the-glass: opens a patient's record for a while, for a reason. An operation of this server's own; kernel K23.

For roles whose policy has it, on the records of patients with whom there is no treatment relation, or who have denied
access. It is bounded per person and day, the audit gets the reason with the purpose BTG, and the patient is told.
"""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Any, Final, cast

from fhir_server.access import breakglass, relations
from fhir_server.access.compile import role_of
from fhir_server.access.grant import Grant
from fhir_server.authorize import EVERYTHING
from fhir_server.context import FhirRequest, FhirResponse, RequestContext
from fhir_server.errors import BadRequest, Forbidden, NotFound
from fhir_server.repository import Repository, Write
from fhir_server.resources.types import is_id
from fhir_server.search.extract import ReferenceKeys
from fhir_server.storage.protocol import Transaction
from fhir_server.wire import instant
from smart_auth.scopes import ResourceScope, parse_one

DEFINITION: Final = "https://hestia.example/fhir/OperationDefinition/break-the-glass"
PURPOSE: Final = "BTG"
"""v3-ActReason: break the glass."""
ROLES: Final = frozenset(("doctor", "nurse", "pharmacist", "administrator"))
REASON: Final = (10, 500)
"""Characters that a reason has at least (of those that are seen) and at most."""

_JOINERS: Final = "\u200c\u200d"
"""They have no width and yet a meaning, in Persian, Indic scripts and emoji."""

_CATEGORY: Final = "http://terminology.hl7.org/CodeSystem/communication-category"


def break_the_glass(repository: Repository, request: FhirRequest) -> FhirResponse:
    """Opens a record and answers with Parameters: `patient`, and `period` in which it is open.

    Raises: BadRequest without a reason that says something, Forbidden for other roles and for tokens that could not
    read the Patient then, NotFound for an absent patient, Throttled (429) above the setting's number in 24 hours.
    """
    if request.type != "Patient":
        raise NotFound("$break-the-glass is called on a Patient.", code="not-supported")
    grant = _grant(repository)
    patient, reason = _asked(repository, request)
    _require_scope(grant, patient)
    context = repository.context
    context.purpose, context.reason = PURPOSE, reason
    server = repository.server
    now_us = server.clock()
    assert grant.fhir_user is not None
    who = grant.fhir_user
    # First: whoever may open no more may not go on asking which patients there are.
    breakglass.check(server.store, who, now_us, server.settings.break_glass_per_day)
    stored = server.store.read("Patient", patient)
    if stored is None or stored.body is None:
        raise NotFound("There is no Patient with this id.")

    def record(inside: Repository) -> int:
        return breakglass.open_record(
            cast(Transaction, inside._reader),
            who,
            patient,
            now_us,
            period_s=server.settings.break_glass_s,
            per_day=server.settings.break_glass_per_day,
        )

    # The patient is told by the server, which may write what the caller may not.
    notifying = Repository(server, RequestContext(EVERYTHING, request_id=context.request_id))
    zone = server.extractor.settings.calendar.zone
    notice = _notice(patient, instant(now_us), datetime.fromtimestamp(now_us / 1e6, zone).strftime("%Y-%m-%d %H:%M"))
    _, until_us = notifying.execute_with([Write("create", "Communication", resource=notice)], record)
    relations.touch()
    return FhirResponse(
        200,
        resource={
            "resourceType": "Parameters",
            "parameter": [
                {"name": "patient", "valueReference": {"reference": f"Patient/{patient}"}},
                {"name": "period", "valuePeriod": {"start": instant(now_us), "end": instant(until_us)}},
            ],
        },
    )


def _grant(repository: Repository) -> Grant:
    """The grant of somebody who may do this. Raises Forbidden."""
    context = repository.context
    grant = context.caller.grant if context.caller is not None else None
    role = role_of(context.policy)
    if (
        grant is None
        or role is None
        or grant.role not in ROLES
        or not role.break_glass
        or not (grant.fhir_user or "").startswith("Practitioner/")
    ):
        raise Forbidden("Your role does not open records at need.")
    return grant


def _require_scope(grant: Grant, patient: str) -> None:
    """An app opens only what its token lets it read then: any Patient, or the one that it was launched about. Raises
    Forbidden.
    """
    for scope in map(parse_one, grant.scopes):
        if (
            isinstance(scope, ResourceScope)
            and scope.type in ("*", "Patient")
            and "r" in scope.actions
            and not scope.query
            and (scope.context == "user" or (scope.context == "patient" and grant.patient == patient))
        ):
            return
    raise Forbidden("The scopes of this token do not read this Patient; user/Patient.r would.")


def _asked(repository: Repository, request: FhirRequest) -> tuple[str, str]:
    """(id of the patient, reason) of a request. Raises BadRequest."""
    resource = request.resource
    parameters: Any = resource.get("parameter") if isinstance(resource, dict) else None
    if not isinstance(parameters, list) or resource.get("resourceType") != "Parameters":
        raise BadRequest("Parameters with `reason` (valueString) are needed.", code="required")
    given = {one["name"]: one for one in parameters if isinstance(one, dict) and isinstance(one.get("name"), str)}
    text = given.get("reason", {}).get("valueString")
    reason = _readable(text) if isinstance(text, str) else ""
    low, high = REASON
    if sum(unicodedata.category(sign)[0] not in "CZM" for sign in reason) < low or len(reason) > high:
        raise BadRequest(f"`reason` needs {low} to {high} characters.", code="value", expression="Parameters.parameter")
    patient = request.id
    if patient is None:
        reference = given.get("patient", {}).get("valueReference")
        text = reference.get("reference") if isinstance(reference, dict) else None
        keys = ReferenceKeys(repository.server.extractor.settings.base_urls)
        key = keys.key(text)[0] if isinstance(text, str) else ""
        patient = key.removeprefix("Patient/") if key.startswith("Patient/") else ""
        if not is_id(patient):
            raise BadRequest(
                "`patient` needs a reference to a Patient of this server.",
                code="required",
                expression="Parameters.parameter",
            )
    return patient, reason


def _readable(text: str) -> str:
    """A reason as it is kept: without signs that are not seen, some of which turn the text after them around."""
    kept = "".join(sign for sign in text if sign.isspace() or sign in _JOINERS or unicodedata.category(sign)[0] != "C")
    return " ".join(kept.split())


def _notice(patient: str, sent: str, at: str) -> dict[str, Any]:
    """What the patient reads: that it happened, and where to see more. No reason, no name: both may tell of care."""
    text = (
        f"{at}，有工作人员因紧急需要查阅了您的健康档案。您可以在访问记录中查看详情，如有疑问请与医院联系。\n"
        f"{at}: a member of staff opened your health record because of an urgent need. Your access log has the "
        "details; please ask the hospital if you have questions."
    )
    subject = {"reference": f"Patient/{patient}"}
    return {
        "resourceType": "Communication",
        "status": "completed",
        "category": [
            {"coding": [{"system": _CATEGORY, "code": "notification"}]},
            {"coding": [{"system": _CATEGORY, "code": "alert"}]},
        ],
        "subject": subject,
        "sent": sent,
        "recipient": [subject],
        "payload": [{"contentString": text}],
    }
