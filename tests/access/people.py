"""Hand-made people and records. Today is 2026-01-01, 20:00 in Shanghai (12:00 UTC)."""

from __future__ import annotations

from typing import Any

JSON = dict[str, Any]

CONFIDENTIALITY = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
ACT_CODE = "http://terminology.hl7.org/CodeSystem/v3-ActCode"


def ref(address: str) -> JSON:
    return {"reference": address}


def coded(code: str, system: str = "http://example.org/codes") -> JSON:
    return {"coding": [{"system": system, "code": code}]}


def labelled(*codes: str) -> JSON:
    """meta with labels: N, R and V are confidentiality, others sensitivity."""
    labels = [{"system": CONFIDENTIALITY if code in "NRV" else ACT_CODE, "code": code} for code in codes]
    return {"meta": {"security": labels}}


def patient(id: str, born: str = "1980-05-06", **more: Any) -> JSON:
    return {"resourceType": "Patient", "id": id, "name": [{"text": id}], "birthDate": born, **more}


def person(id: str, *targets: str, **more: Any) -> JSON:
    return {"resourceType": "Person", "id": id, "link": [{"target": ref(target)} for target in targets], **more}


def related(id: str, patient_id: str, **more: Any) -> JSON:
    kind = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-RoleCode", "code": "MTH"}]}
    resource = {"resourceType": "RelatedPerson", "id": id, "patient": ref(f"Patient/{patient_id}"), "active": True}
    return {**resource, "relationship": [kind], **more}


def practitioner(id: str, **more: Any) -> JSON:
    return {"resourceType": "Practitioner", "id": id, "active": True, "name": [{"text": id}], **more}


def post(id: str, practitioner_id: str, organization: str = "dept", **more: Any) -> JSON:
    return {
        "resourceType": "PractitionerRole",
        "id": id,
        "active": True,
        "practitioner": ref(f"Practitioner/{practitioner_id}"),
        "organization": ref(f"Organization/{organization}"),
        **more,
    }


def encounter(id: str, patient_id: str, who: str, status: str = "in-progress", **more: Any) -> JSON:
    return {
        "resourceType": "Encounter",
        "id": id,
        "status": status,
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB"},
        "subject": ref(f"Patient/{patient_id}"),
        "participant": [{"individual": ref(who)}],
        **more,
    }


def appointment(
    id: str, patient_id: str, who: str, status: str = "booked", start: str = "2026-01-05", **more: Any
) -> JSON:
    return {
        "resourceType": "Appointment",
        "id": id,
        "status": status,
        "start": f"{start}T09:00:00+08:00",
        "end": f"{start}T10:00:00+08:00",
        "participant": [
            {"actor": ref(f"Patient/{patient_id}"), "status": "accepted"},
            {"actor": ref(who), "status": "accepted"},
        ],
        **more,
    }


def observation(id: str, patient_id: str, category: str = "laboratory", status: str = "final", **more: Any) -> JSON:
    system = "http://terminology.hl7.org/CodeSystem/observation-category"
    return {
        "resourceType": "Observation",
        "id": id,
        "status": status,
        "category": [coded(category, system)],
        "code": {"text": "A measurement"},
        "subject": ref(f"Patient/{patient_id}"),
        **more,
    }


def condition(id: str, patient_id: str, **more: Any) -> JSON:
    return {
        "resourceType": "Condition",
        "id": id,
        "subject": ref(f"Patient/{patient_id}"),
        "code": {"text": "A diagnosis"},
        **more,
    }


def prescription(id: str, patient_id: str, status: str = "active", **more: Any) -> JSON:
    return {
        "resourceType": "MedicationRequest",
        "id": id,
        "status": status,
        "intent": "order",
        "medicationCodeableConcept": {"text": "A drug"},
        "subject": ref(f"Patient/{patient_id}"),
        **more,
    }


def message(id: str, patient_id: str, sender: str, *recipients: str, **more: Any) -> JSON:
    return {
        "resourceType": "Communication",
        "id": id,
        "status": "completed",
        "subject": ref(f"Patient/{patient_id}"),
        "sender": ref(sender),
        "recipient": [ref(one) for one in recipients],
        **more,
    }


def consent(id: str, patient_id: str, provision: JSON | None = None, **more: Any) -> JSON:
    return {
        "resourceType": "Consent",
        "id": id,
        "status": "active",
        "scope": coded("patient-privacy", "http://terminology.hl7.org/CodeSystem/consentscope"),
        "category": [coded("59284-0", "http://loinc.org")],
        "patient": ref(f"Patient/{patient_id}"),
        "policyRule": coded("OPTIN", ACT_CODE),
        **({"provision": provision} if provision is not None else {}),
        **more,
    }


def provision(effect: str, *actors: str, **more: Any) -> JSON:
    found: JSON = {"type": effect, **more}
    if actors:
        found["actor"] = [{"role": {"text": "recipient"}, "reference": ref(one)} for one in actors]
    return found


def allergy(id: str, patient_id: str, **more: Any) -> JSON:
    status = coded("active", "http://terminology.hl7.org/CodeSystem/allergyintolerance-clinical")
    resource = {"resourceType": "AllergyIntolerance", "id": id, "clinicalStatus": status}
    return {**resource, "code": {"text": "Penicillin"}, "patient": ref(f"Patient/{patient_id}"), **more}
