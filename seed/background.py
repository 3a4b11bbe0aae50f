"""What stands at the front of a chart: allergies, insurance, consent."""

from __future__ import annotations

import datetime
from typing import Final

from seed.base import (
    ACT_CODE,
    JSON,
    LOINC,
    SNOMED,
    add_years,
    at,
    coding,
    concept,
    hl7,
    identifier,
    present,
    reference,
    resource,
    sid,
    stamp,
)
from seed.chart import Chart
from seed.hospital import HOSPITAL, INSURER

#: flag -> (SNOMED, English, Chinese), category, criticality, manifestation, severity
_ALLERGIES: Final[dict[str, tuple[tuple[str, str, str], str, str, tuple[str, str, str], str]]] = {
    "penicillin": (
        ("91936005", "Allergy to penicillin", "青霉素过敏"),
        "medication",
        "high",
        ("247472004", "Hives", "荨麻疹"),
        "moderate",
    ),
    "mite": (
        ("232350006", "House dust mite allergy", "尘螨过敏"),
        "environment",
        "low",
        ("271807003", "Eruption of skin", "皮疹"),
        "mild",
    ),
    "pollen": (
        ("256259004", "Pollen", "花粉过敏"),
        "environment",
        "low",
        ("61582004", "Allergic rhinitis", "变应性鼻炎"),
        "mild",
    ),
    "shellfish": (
        ("735029006", "Shellfish", "贝类过敏"),
        "food",
        "high",
        ("39579001", "Anaphylaxis", "过敏反应"),
        "severe",
    ),
}


def allergies(chart: Chart) -> list[JSON]:
    """The allergies of the cast; "no known allergy" for the others."""
    person = chart.person
    recorder = chart.doctor("general")
    found = [flag for flag in person.part.flags if flag in _ALLERGIES]
    clinical = concept(coding(hl7("allergyintolerance-clinical"), "active", "Active"))
    verified = concept(coding(hl7("allergyintolerance-verification"), "confirmed", "Confirmed"))
    common = {
        "clinicalStatus": clinical,
        "verificationStatus": verified,
    }
    recorded = stamp(at(person.since + datetime.timedelta(days=1), 9, 5))
    if not found:
        return [
            resource(
                "AllergyIntolerance",
                chart.new_id("AllergyIntolerance"),
                **common,
                code=concept(coding(SNOMED, "716186003", "No known allergy"), text="无已知过敏"),
                patient=chart.subject(),
                recordedDate=recorded,
                recorder=reference(recorder.role, recorder.label),
            )
        ]
    out = []
    for flag in found:
        (code, english, chinese), category, criticality, (sign, sign_en, sign_zh), severity = _ALLERGIES[flag]
        since = add_years(person.since, -min(4, max(0, person.age(person.since) - 1)))
        out.append(
            resource(
                "AllergyIntolerance",
                chart.new_id("AllergyIntolerance"),
                **common,
                type="allergy",
                category=[category],
                criticality=criticality,
                code=concept(coding(SNOMED, code, english), text=chinese),
                patient=chart.subject(),
                onsetDateTime=f"{max(since, person.birth):%Y-%m}",
                recordedDate=recorded,
                recorder=reference(recorder.role, recorder.label),
                reaction=[
                    {
                        "manifestation": [concept(coding(SNOMED, sign, sign_en), text=sign_zh)],
                        "severity": severity,
                    }
                ],
            )
        )
    return out


def coverage(chart: Chart) -> JSON:
    """Basic medical insurance; of foreigners a commercial one."""
    person = chart.person
    foreign = person.nationality is not None
    kind = ("EHCPOL", "extended healthcare") if foreign else ("PUBLICPOL", "public healthcare")
    number = f"SY9999{person.number:06d}" if foreign else f"YB9999{person.number:06d}"
    payor = reference("Organization/insurer-commercial") if foreign else reference(INSURER, "示例市医疗保障局")
    return resource(
        "Coverage",
        chart.new_id("Coverage"),
        identifier=[identifier(sid("medical-insurance-no"), number, "NH")],
        status="active" if person.died is None else "cancelled",
        type=concept(coding(ACT_CODE, *kind), text="商业医疗保险" if foreign else "基本医疗保险"),
        subscriberId=number,
        beneficiary=chart.subject(),
        relationship=concept(coding(hl7("subscriber-relationship"), "self", "Self")),
        period=present(
            start=max(person.birth, datetime.date(person.since.year, 1, 1)).isoformat(),
            end=person.died.isoformat() if person.died else None,
        ),
        payor=[payor],
    )


def consent(chart: Chart, guardian: JSON | None) -> JSON:
    """Consent to the processing of health data; of those under fourteen a guardian's (K2)."""
    person = chart.person
    signer = guardian if guardian and person.age(chart.world.today) < 14 else chart.subject()
    start = person.since + datetime.timedelta(days=1)
    return resource(
        "Consent",
        chart.new_id("Consent"),
        status="active" if person.died is None else "inactive",
        scope=concept(coding(hl7("consentscope"), "patient-privacy", "Privacy Consent")),
        category=[concept(coding(LOINC, "59284-0", "Consent Document"), text="隐私授权")],
        patient=chart.subject(),
        dateTime=stamp(at(start, 9)),
        performer=[signer],
        organization=[reference(HOSPITAL, "赫斯提亚示例医院")],
        policyRule=concept(coding(ACT_CODE, "OPTIN", "opt-in")),
        provision=present(
            type="permit",
            period={"start": start.isoformat(), "end": add_years(start, 10).isoformat()},
            purpose=[coding("http://terminology.hl7.org/CodeSystem/v3-ActReason", "TREAT", "treatment")],
        ),
    )
