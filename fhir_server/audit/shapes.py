"""Events as AuditEvents in the shapes of IHE BALP 1.1.3 (profiles.ihe.net/ITI/BALP), and of DICOM for what is no REST.

A REST event is one AuditEvent per patient whose data it concerned, so that nobody who reads about oneself reads about
others; one without a patient where there is none.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from fhir_server.audit.events import SUCCESS, Event
from fhir_server.resources.types import TYPE_SET, is_id
from fhir_server.wire import instant

JSON = dict[str, Any]

ACTIONS: Final = "https://hestia.example/fhir/CodeSystem/audit-action"
"""Codes of what no standard has a code for: operations, and the words of the authorization server."""
ROLES: Final = "https://hestia.example/fhir/CodeSystem/role"
ACCOUNTS: Final = "https://hestia.example/fhir/NamingSystem/account"
CLIENTS: Final = "https://hestia.example/fhir/NamingSystem/client"
GRANT: Final = "https://hestia.example/fhir/grant/"

BREAK_THE_GLASS: Final = "BTG"
"""v3-PurposeOfUse of what is seen by overriding the policy."""

_PROFILE: Final = "https://profiles.ihe.net/ITI/BALP/StructureDefinition/IHE.BasicAudit."
_DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_EVENT_TYPE: Final = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_INTERACTION: Final = "http://hl7.org/fhir/restful-interaction"
_PARTICIPATION: Final = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
_ENTITY_TYPE: Final = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_OBJECT_ROLE: Final = "http://terminology.hl7.org/CodeSystem/object-role"
_BALP_ENTITY: Final = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"
_REASON: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"

_READS: Final = frozenset(("read", "vread", "history-instance", "history-type", "history-system"))
_SEARCHES: Final = {
    "search-type": "search-type",
    "search-system": "search-system",
    "search-compartment": "search-type",
}
_LETTERS: Final = {"create": "C", "update": "U", "patch": "U", "delete": "D", "transaction": "E", "batch": "E"}
_PATTERNS: Final = {"C": "Create", "R": "Read", "U": "Update", "D": "Delete", "E": "Query"}
_SOURCE: Final = (_DCM, "110153", "Source Role ID")
_DESTINATION: Final = (_DCM, "110152", "Destination Role ID")
_SECURITY: Final = {
    "login": ("110114", "User Authentication", "110122", "Login"),
    "login-failed": ("110114", "User Authentication", "110122", "Login"),
    "logout": ("110114", "User Authentication", "110123", "Logout"),
    "role-grant": ("110113", "Security Alert", "110136", "Security Roles Changed"),
    "role-revoke": ("110113", "Security Alert", "110136", "Security Roles Changed"),
    "policy-change": ("110113", "Security Alert", "110131", "Security Configuration"),
    "client-register": ("110113", "Security Alert", "110131", "Security Configuration"),
    "client-approve": ("110113", "Security Alert", "110131", "Security Configuration"),
    "password-change": ("110113", "Security Alert", "110137", "User security Attributes Changed"),
    "account-lock": ("110113", "Security Alert", "110137", "User security Attributes Changed"),
}
_TOKEN: Final = frozenset(("token", "token-refused", "authorize"))
_REFERENCE: Final = re.compile(r"([A-Za-z]+)/([A-Za-z0-9\-.]{1,64})(/_history/[0-9]+)?\Z")
_LIMIT: Final = 500


def audit_events(event: Event, patients: Sequence[str], base_url: str) -> list[JSON]:
    """The AuditEvents of an event; `patients` are those (``Patient/x``) whose data it concerned. Without ids."""
    if event.kind != "rest":
        patient = event.patient
        return [_security(event, patient, base_url)]
    opened = msgspec.structs.replace(event, purpose=BREAK_THE_GLASS) if event.opened else event
    return [_rest(opened if patient in event.opened else event, patient, base_url) for patient in patients or (None,)]


def _rest(event: Event, patient: str | None, base_url: str) -> JSON:
    action = event.action
    letter = "R" if action in _READS else "E" if action in _SEARCHES else _LETTERS.get(action, "E")
    operation = action.startswith("$")
    if operation:
        subtype = [_coding(_INTERACTION, "operation"), _coding(ACTIONS, action[1:])]
    elif action in _SEARCHES:
        subtype = [_coding(_INTERACTION, _SEARCHES[action])]
    else:
        subtype = [_coding(_INTERACTION if action in _READS or action in _LETTERS else ACTIONS, action)]
    resource: JSON = {"resourceType": "AuditEvent"}
    patterned = not operation and (letter != "E" or action in _SEARCHES)
    if event.outcome == SUCCESS and patterned:
        name = ("Patient" if patient else "") + _PATTERNS[letter]
        resource["meta"] = {"profile": [_PROFILE + name]}
    resource["type"] = _coding(_EVENT_TYPE, "rest", "Restful Operation")
    resource["subtype"] = subtype
    resource["action"] = letter
    _common(resource, event)
    resource["agent"] = _agents(event, letter, base_url)
    resource["source"] = _source(base_url)
    entities: list[JSON] = []
    if event.query is not None:
        entities.append(
            {
                "type": _coding(_ENTITY_TYPE, "2", "System Object"),
                "role": _coding(_OBJECT_ROLE, "24", "Query"),
                "query": base64.b64encode(event.query.encode()).decode("ascii"),
            }
        )
    else:
        data = event.seen[0] if len(event.seen) == 1 else event.target
        entities.append(_data(data))
        if event.since:
            entities[-1]["detail"] = [_count(event)]
    _patient_and_request(entities, event, patient)
    resource["entity"] = entities
    return resource


def _security(event: Event, patient: str | None, base_url: str) -> JSON:
    resource: JSON = {"resourceType": "AuditEvent"}
    if event.action in _TOKEN:
        # IHE IUA ITI-71: an authorization server handing out access tokens
        resource["type"] = _coding(_DCM, "110114", "User Authentication")
        subtype = [_coding("urn:ihe:event-type-code", "ITI-71", "Get Access Token")]
    else:
        code, display, sub_code, sub_display = _SECURITY.get(
            event.action, ("110113", "Security Alert", "110137", "User security Attributes Changed")
        )
        resource["type"] = _coding(_DCM, code, display)
        subtype = [_coding(_DCM, sub_code, sub_display)]
    resource["subtype"] = [*subtype, _coding(ACTIONS, event.action)]
    resource["action"] = "E"
    _common(resource, event)
    resource["agent"] = _agents(event, "E", base_url)
    resource["source"] = _source(base_url)
    entities: list[JSON] = []
    if event.target:
        entities.append(_data(event.target))
    if event.detail or event.since:
        entities.append(
            {
                "type": _coding(_ENTITY_TYPE, "2", "System Object"),
                "role": _coding(_OBJECT_ROLE, "13", "Security Resource"),
                "name": event.action,
                "detail": [
                    {"type": name[:100], "valueString": value[:_LIMIT]} for name, value in event.detail.items() if value
                ],
            }
        )
        if event.since:
            entities[-1]["detail"].append(_count(event))
        if not entities[-1]["detail"]:
            entities.pop()
    _patient_and_request(entities, event, patient)
    if entities:
        resource["entity"] = entities
    return resource


def _common(resource: JSON, event: Event) -> None:
    resource["recorded"] = instant(event.at)
    resource["outcome"] = str(event.outcome)
    if event.since:
        resource["period"] = {"start": instant(event.since), "end": instant(event.at)}
    said = [f"HTTP {event.status}"] if event.status else []
    if event.since:
        said.append(f"{event.count} more")
    if event.reason:
        said.append(event.reason)
    if said:
        resource["outcomeDesc"] = "; ".join(said)
    if event.purpose:
        resource["purposeOfEvent"] = [{"coding": [_coding(_REASON, event.purpose)]}]


def _agents(event: Event, letter: str, base_url: str) -> list[JSON]:
    if letter == "R":
        ours, theirs = _SOURCE, _DESTINATION
    elif letter == "D":
        theirs = (_DCM, "110150", "Application")
        ours = ("http://terminology.hl7.org/CodeSystem/provenance-participant-type", "custodian", "Custodian")
    else:
        ours, theirs = _DESTINATION, _SOURCE
    agents: list[JSON] = []
    known = bool(event.user or event.account or event.name) and event.role != "system"
    client: JSON = {"type": {"coding": [_coding(*theirs)]}}
    if event.client:
        client["who"] = {
            "identifier": {"system": CLIENTS, "value": event.client},
            "display": event.client_name or event.client,
        }
        if event.client_name:
            client["name"] = event.client_name
        if event.role == "system":
            client["role"] = [{"coding": [_coding(ROLES, "system")]}]
    else:
        client["who"] = {"display": "unknown client" if event.address else "this server"}
    client["requestor"] = not known
    client["network"] = _network(event.address) if event.address else {"address": base_url, "type": "5"}
    agents.append(client)
    agents.append(
        {
            "type": {"coding": [_coding(*ours)]},
            "who": {"display": base_url},
            "requestor": False,
            "network": {"address": base_url, "type": "5"},
        }
    )
    if known:
        acting = letter in "CUD"
        user: JSON = {
            "type": {
                "coding": [
                    _coding(_PARTICIPATION, "AUT", "author (originator)")
                    if acting
                    else _coding(_PARTICIPATION, "IRCP", "information recipient")
                ]
            }
        }
        if event.role:
            user["role"] = [{"coding": [_coding(ROLES, event.role)]}]
        who: JSON = {}
        found = _REFERENCE.match(event.user or "")
        if found and found[1] in TYPE_SET:
            who["reference"] = event.user
        if event.account:
            who["identifier"] = {"system": ACCOUNTS, "value": event.account}
        if event.name:
            who["display"] = event.name
        user["who"] = who
        if event.name:
            user["name"] = event.name
        user["requestor"] = True
        if event.grant:
            user["policy"] = [GRANT + event.grant]
        if event.purpose:
            user["purposeOfUse"] = [{"coding": [_coding(_REASON, event.purpose)]}]
        agents.append(user)
    return agents


def _count(event: Event) -> JSON:
    return {"type": "count", "valueString": str(event.count)}


def _network(address: str) -> JSON:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return {"address": address[:100], "type": "1"}
    return {"address": address, "type": "2"}


def _source(base_url: str) -> JSON:
    return {
        "observer": {"display": base_url},
        "type": [
            _coding("http://terminology.hl7.org/CodeSystem/security-source-type", "4", "Application Server"),
        ],
    }


def _data(target: str) -> JSON:
    entity: JSON = {
        "type": _coding(_ENTITY_TYPE, "2", "System Object"),
        "role": _coding(_OBJECT_ROLE, "4", "Domain Resource"),
    }
    found = _REFERENCE.match(target)
    if found and found[1] in TYPE_SET and is_id(found[2]):
        entity["what"] = {"reference": target, "type": found[1]}
    else:
        entity["what"] = {"display": target or "the whole server"}
        if target in TYPE_SET:
            entity["what"]["type"] = target
    return entity


def _patient_and_request(entities: list[JSON], event: Event, patient: str | None) -> None:
    if patient:
        entities.append(
            {
                "what": {"reference": patient, "type": "Patient"},
                "type": _coding(_ENTITY_TYPE, "1", "Person"),
                "role": _coding(_OBJECT_ROLE, "1", "Patient"),
            }
        )
    if event.request:
        entities.append(
            {
                "what": {"identifier": {"value": event.request}},
                "type": _coding(_BALP_ENTITY, "XrequestId"),
            }
        )


def _coding(system: str, code: str, display: str = "") -> JSON:
    coding = {"system": system, "code": code}
    if display:
        coding["display"] = display
    return coding
