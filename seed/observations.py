"""Vital signs, other measurements, laboratory and imaging reports. Kernels K17 and K18."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

from seed.base import (
    INTERPRETATION,
    JSON,
    LOINC,
    REQUISITION_NO,
    SNOMED,
    Concept,
    coding,
    concept,
    hl7,
    identifier,
    present,
    quantity,
    reference,
    resource,
    sid,
    stamp,
)
from seed.identifiers import business_number
from seed.terminology.diagnoses import NEGATIVE, POSITIVE
from seed.terminology.laboratory import LABORATORY, PANELS
from seed.terminology.local import local_concept
from seed.terminology.measures import OTHERS, VITALS, Measure

if TYPE_CHECKING:
    from seed.visit import Visit

_CATEGORY = {
    "vital-signs": "Vital Signs",
    "laboratory": "Laboratory",
    "exam": "Exam",
    "survey": "Survey",
    "social-history": "Social History",
    "procedure": "Procedure",
}


def _category(code: str) -> list[JSON]:
    return [concept(coding(hl7("observation-category"), code, _CATEGORY[code]))]


def _range(measure: Measure, sex: str) -> list[JSON] | None:
    bounds = measure.range(sex)
    if bounds is None:
        return None
    low, high = bounds
    return [
        present(
            low=quantity(Decimal(low), measure.unit, measure.ucum) if low else None,
            high=quantity(Decimal(high), measure.unit, measure.ucum) if high else None,
            text=f"{low}–{high}" if low and high else f"≥{low}" if low else f"≤{high}",
        )
    ]


def interpret(measure: Measure, sex: str, value: Decimal | int) -> list[JSON] | None:
    """H, L or N against the reference range; None without one."""
    bounds = measure.range(sex)
    if bounds is None:
        return None
    low, high = bounds
    code, display = "N", "Normal"
    if low and value < Decimal(low):
        code, display = "L", "Low"
    elif high and value > Decimal(high):
        code, display = "H", "High"
    return [concept(coding(INTERPRETATION, code, display))]


def observe(
    visit: Visit,
    measure: Measure,
    category: str,
    value: Decimal | int | None,
    when: datetime.datetime,
    **more: object,
) -> JSON:
    """One Observation of the visit; `more` overrides or adds elements (a coded value, components, specimen)."""
    chart = visit.chart
    ranged = value is not None and category == "laboratory"
    observation = resource(
        "Observation",
        chart.new_id("Observation"),
        **{
            "basedOn": more.pop("basedOn", None),
            "status": "final",
            "category": _category(category),
            "code": measure.codeable(),
            "subject": chart.subject(),
            "encounter": reference(visit.reference),
            "effectiveDateTime": stamp(when),
            "issued": more.pop("issued", None) or stamp(when),
            "performer": more.pop("performer", None) or [reference(visit.post.role, visit.post.label)],
            "valueQuantity": quantity(value, measure.unit, measure.ucum) if value is not None else None,
            "interpretation": interpret(measure, chart.person.sex, value) if ranged and value is not None else None,
            "referenceRange": _range(measure, chart.person.sex) if ranged else None,
            **more,
        },
    )
    visit.add(observation)
    return observation


def vital_signs(visit: Visit, *keys: str) -> dict[str, JSON]:
    """Takes vital signs; "size" stands for weight, height (once a year in adults) and BMI derived from both."""
    body, day, when = visit.chart.body, visit.day, visit.start
    out: dict[str, JSON] = {}
    for key in keys:
        if key in visit.taken:
            continue  # two problems in one visit, one measurement
        visit.taken.add(key)
        if key == "bp":
            high, low = body.blood_pressure(day)
            components = [
                {"code": VITALS[name].codeable(), "valueQuantity": quantity(value, "mmHg", "mm[Hg]")}
                for name, value in (("systolic", high), ("diastolic", low))
            ]
            adult = visit.chart.person.age(day) >= 18
            flag = ("H", "High") if high >= 140 or low >= 90 else ("N", "Normal")
            out[key] = observe(
                visit,
                VITALS["bp"],
                "vital-signs",
                None,
                when,
                interpretation=[concept(coding(INTERPRETATION, *flag))] if adult else None,
                component=components,
            )
            visit.systolic = high
        elif key == "size":
            _size(visit, out)
        elif key == "spo2":
            code = concept(
                coding(LOINC, "2708-6", VITALS[key].en),
                coding(LOINC, "59408-5", "Oxygen saturation in Arterial blood by Pulse oximetry"),
                text=VITALS[key].zh,
            )
            out[key] = observe(visit, VITALS[key], "vital-signs", body.saturation(), when, code=code)
        else:
            takers: dict[str, Callable[[], Decimal | int]] = {
                "heart-rate": lambda: body.pulse(day),
                "respiratory-rate": lambda: body.breaths(day),
                "temperature": body.temperature,
                "head": lambda: body.head(day),
            }
            out[key] = observe(visit, VITALS[key], "vital-signs", takers[key](), when)
    return out


def _size(visit: Visit, out: dict[str, JSON]) -> None:
    chart, day = visit.chart, visit.day
    weight = chart.body.weight(day)
    out["weight"] = observe(visit, VITALS["weight"], "vital-signs", weight, visit.start)
    if chart.person.age(day) >= 18 and not chart.due("height", day, 700):
        return
    height = chart.body.height(day)
    out["height"] = observe(visit, VITALS["height"], "vital-signs", height, visit.start)
    if chart.person.age(day) >= 2:
        index = (weight / (height / 100) ** 2).quantize(Decimal("0.1"))
        sources = [reference(out["weight"]), reference(out["height"])]
        out["bmi"] = observe(visit, VITALS["bmi"], "vital-signs", index, visit.start, derivedFrom=sources)


def measure(visit: Visit, key: str, value: Decimal | int, category: str = "exam") -> JSON:
    """Another measurement by its key in `measures.OTHERS` or VITALS."""
    return observe(visit, OTHERS.get(key) or VITALS[key], category, value, visit.start)


def smoking(visit: Visit, status: Concept) -> JSON:
    """Tobacco use as social history."""
    return observe(
        visit, OTHERS["smoking"], "social-history", None, visit.start, valueCodeableConcept=status.codeable()
    )


def laboratory(visit: Visit, key: str, positive: bool = False) -> JSON:
    """Orders a panel and reports it: ServiceRequest, Specimen, Observations, DiagnosticReport.

    `positive` is the answer of tests that only say yes or no. Returns the report; a panel already
    done in this visit is not repeated.
    """
    if key in visit.reports:
        return visit.reports[key]
    chart, panel = visit.chart, PANELS[key]
    # One drawing serves all panels of a visit that need the same kind of specimen.
    ordered = visit.ordering
    collected = ordered + datetime.timedelta(minutes=15)
    issued = collected + datetime.timedelta(minutes=95 + visit.panels)
    visit.panels += 1
    number = business_number("L", visit.day, chart.person.number, key, visit.panels)
    code = concept(coding(LOINC, panel.loinc, panel.en), text=panel.zh)
    technician = reference("PractitionerRole/role-40001-laboratory")
    order = resource(
        "ServiceRequest",
        chart.new_id("ServiceRequest"),
        status="completed",
        intent="order",
        requisition=identifier(REQUISITION_NO, number),
        category=[
            local_concept("service-kind", "laboratory", coding(SNOMED, "108252007", "Laboratory procedure")),
        ],
        code=code,
        subject=chart.subject(),
        encounter=reference(visit.reference),
        authoredOn=stamp(visit.ordering),
        requester=reference(visit.post.role, visit.post.label),
        performer=[reference("Organization/dept-laboratory", "检验科")],
        reasonReference=visit.reasons(),
    )
    specimen = visit.specimens.get(panel.specimen.zh)
    if specimen is None:
        specimen = resource(
            "Specimen",
            chart.new_id("Specimen"),
            accessionIdentifier=identifier(sid("specimen-no"), number.replace("L", "B", 1)),
            status="available",
            type=panel.specimen.codeable(),
            subject=chart.subject(),
            receivedTime=stamp(ordered + datetime.timedelta(minutes=40)),
            collection={"collectedDateTime": stamp(collected)},
        )
        specimen["request"] = []
        visit.specimens[panel.specimen.zh] = specimen
        visit.add(specimen)
    specimen["request"].append(reference(order))
    order["specimen"] = [reference(specimen)]
    visit.add(order)
    values = chart.body.sample(panel.members, visit.day)
    results = []
    abnormal = []
    for name in panel.members:
        item = LABORATORY[name]
        more: dict[str, object] = {
            "basedOn": [reference(order)],
            "specimen": reference(specimen),
            "issued": stamp(issued),
            "performer": [technician],
        }
        if name == "egfr" and chart.person.age(visit.day) < 18:
            continue  # the formula is for adults
        if name not in values:
            answer = POSITIVE if positive else NEGATIVE
            more["valueCodeableConcept"] = answer.codeable()
        observation = observe(visit, item, "laboratory", values.get(name), collected, **more)
        results.append(reference(observation))
        flags = observation.get("interpretation") or []
        if flags and flags[0]["coding"][0]["code"] in "HL":
            arrow = "↑" if flags[0]["coding"][0]["code"] == "H" else "↓"
            abnormal.append(f"{item.zh} {values[name]}{item.unit}{arrow}")
    visit.charge(f"lab-{key}", panel.zh, panel.price, "lab")
    if positive:
        abnormal.append(f"{panel.zh}阳性")
    if abnormal:
        visit.say("findings", f"{panel.zh}：{'，'.join(abnormal)}。")
    report = resource(
        "DiagnosticReport",
        chart.new_id("DiagnosticReport"),
        identifier=[identifier(sid("report-no"), number.replace("L", "R", 1))],
        basedOn=[reference(order)],
        status="final",
        category=[
            concept(coding("http://terminology.hl7.org/CodeSystem/v2-0074", "LAB", "Laboratory"), text="检验报告"),
        ],
        code=concept(
            coding(LOINC, panel.loinc, panel.en), coding(LOINC, "11502-2", "Laboratory report"), text=panel.zh
        ),
        subject=chart.subject(),
        encounter=reference(visit.reference),
        effectiveDateTime=stamp(collected),
        issued=stamp(issued),
        performer=[reference("Organization/dept-laboratory", "检验科")],
        resultsInterpreter=[technician],
        specimen=[reference(specimen)],
        result=results,
        conclusion=f"异常：{'，'.join(abnormal)}。" if abnormal else "未见异常。",
    )
    visit.reports[key] = report
    visit.add(report)
    return report


def imaging(visit: Visit, loinc: tuple[str, str], title: str, conclusion: str, price: str) -> JSON:
    """An imaging examination with its order; the conclusion is the report."""
    chart = visit.chart
    when = visit.ordering + datetime.timedelta(minutes=30 + 4 * visit.panels)
    visit.panels += 1
    generic = coding(LOINC, "18748-4", "Diagnostic imaging study")
    code = concept(coding(LOINC, *loinc), text=title)
    order = resource(
        "ServiceRequest",
        chart.new_id("ServiceRequest"),
        status="completed",
        intent="order",
        requisition=identifier(
            REQUISITION_NO, business_number("J", visit.day, chart.person.number, title, visit.panels)
        ),
        category=[local_concept("service-kind", "imaging", coding(SNOMED, "363679005", "Imaging"))],
        code=code,
        subject=chart.subject(),
        encounter=reference(visit.reference),
        authoredOn=stamp(visit.ordering),
        requester=reference(visit.post.role, visit.post.label),
        performer=[reference("Organization/dept-imaging", "医学影像科")],
        reasonReference=visit.reasons(),
    )
    report = resource(
        "DiagnosticReport",
        chart.new_id("DiagnosticReport"),
        basedOn=[reference(order)],
        status="final",
        category=[
            concept(coding("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD", "Radiology"), text="影像报告"),
        ],
        code=code if loinc[0] == generic["code"] else concept(coding(LOINC, *loinc), generic, text=title),
        subject=chart.subject(),
        encounter=reference(visit.reference),
        effectiveDateTime=stamp(when),
        issued=stamp(when + datetime.timedelta(hours=1)),
        performer=[reference("Organization/dept-imaging", "医学影像科")],
        resultsInterpreter=[reference("PractitionerRole/role-50001-imaging")],
        conclusion=conclusion,
    )
    visit.add(order, report)
    visit.charge("imaging", title, price, "lab")
    visit.say("findings", f"{title}：{conclusion}")
    return report
