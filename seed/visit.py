"""One encounter while it happens, and everything that is written about it. Kernels K7, K8 and K11."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Final

from seed import billing, documents
from seed.base import (
    ACT_CODE,
    JSON,
    PARTICIPATION,
    Concept,
    coding,
    concept,
    hl7,
    identifier,
    midnight,
    present,
    reference,
    resource,
    sid,
    stamp,
)
from seed.chart import Chart
from seed.identifiers import business_number
from seed.rota import Place
from seed.staff import Post
from seed.terminology import diagnoses
from seed.terminology.local import local_concept

_CLASS: Final = {
    "AMB": "ambulatory",
    "EMER": "emergency",
    "IMP": "inpatient encounter",
    "VR": "virtual",
}
_APPOINTMENT_TYPE: Final = {
    "ROUTINE": "Routine appointment - default if not valued",
    "FOLLOWUP": "A follow up visit from a previous appointment",
}
_CLINICAL: Final = hl7("condition-clinical")
_VERIFICATION: Final = hl7("condition-ver-status")


class Visit:
    """Collects the resources of one encounter; `close` writes the Encounter and what follows from it."""

    def __init__(
        self,
        chart: Chart,
        kind: str,
        post: Post,
        start: datetime.datetime,
        end: datetime.datetime,
        place: Place | None = None,
    ) -> None:
        self.chart, self.kind, self.post, self.start, self.end, self.place = chart, kind, post, start, end, place
        self.day = start.date()
        self.encounter_id = chart.new_id("Encounter")
        self.number = int(self.encounter_id.rsplit("-", 1)[1])
        self.resources: list[JSON] = []
        self.reason = ""
        self.first = True
        self.systolic: int | None = None
        self.panels = 0
        self.taken: set[str] = set()  # vital signs of this visit
        self.reports: dict[str, JSON] = {}  # laboratory reports by panel
        self.specimens: dict[str, JSON] = {}
        self.discharge = "home"
        self.ward: str | None = None
        self.charges: list[billing.Charge] = []
        self.sections: dict[str, list[str]] = {}
        self._diagnoses: list[JSON] = []

    @property
    def reference(self) -> str:
        """Literal reference to the Encounter."""
        return f"Encounter/{self.encounter_id}"

    @property
    def recent(self) -> bool:
        """Whether it is of the last four months, from which bills and ratings are kept."""
        return (self.chart.world.today - self.day).days <= 122

    @property
    def ordering(self) -> datetime.datetime:
        """When tests are ordered: at the end of a consultation, in the first half hour of an admission."""
        return self.start + datetime.timedelta(minutes=20) if self.kind == "IMP" else self.end

    def add(self, *items: JSON) -> None:
        """Adds resources to the visit's group."""
        self.resources.extend(items)

    def say(self, section: str, text: str) -> None:
        """Adds a sentence to a section of the visit note."""
        self.sections.setdefault(section, []).append(text)

    def charge(self, key: str, title: str, price: str, kind: str, count: Decimal | int = 1) -> None:
        """Notes something to be paid: `kind` is a code of invoice-type, `price` CNY for one."""
        self.charges.append(billing.Charge(key, title, Decimal(price), kind, Decimal(count)))

    def complain(self, reason: str) -> None:
        """The chief complaint (主诉)."""
        self.reason = self.reason or reason
        self.say("complaint", f"{reason}。")

    def reasons(self) -> list[JSON]:
        """References to what was diagnosed so far, for orders."""
        return [reference(item) for item in self._diagnoses[:2]]

    # --- what is found and done -----------------------------------------------------------------------------------

    def diagnose(
        self,
        diagnosis: Concept,
        *,
        lasts_days: int | None = None,
        onset: datetime.date | None = None,
        severity: Concept | None = None,
    ) -> JSON:
        """The Condition: the open problem if the patient has it, else a new one.

        `lasts_days` makes it an encounter diagnosis that is over after so many days; without, a problem of the list.
        """
        known = self.chart.problem(diagnosis)
        if known is not None:
            self._diagnoses.append(known)
            self.say("evaluation", f"{diagnosis.zh}。")
            return known
        chart = self.chart
        ends = self.day + datetime.timedelta(days=lasts_days) if lasts_days is not None else None
        over = ends is not None and ends < chart.end
        category = "problem-list-item" if lasts_days is None else "encounter-diagnosis"
        display = "Problem List Item" if lasts_days is None else "Encounter Diagnosis"
        status = ("resolved", "Resolved") if over else ("active", "Active")
        condition = resource(
            "Condition",
            chart.new_id("Condition"),
            clinicalStatus=concept(coding(_CLINICAL, *status)),
            verificationStatus=concept(coding(_VERIFICATION, "confirmed", "Confirmed")),
            category=[concept(coding(hl7("condition-category"), category, display))],
            severity=severity.codeable() if severity else None,
            code=diagnosis.codeable(),
            subject=chart.subject(),
            encounter=reference(self.reference),
            onsetDateTime=(onset or self.day).isoformat(),
            abatementDateTime=ends.isoformat() if over and ends else None,
            recordedDate=stamp(self.start),
            recorder=reference(self.post.role, self.post.label),
            asserter=reference(self.post.role, self.post.label),
        )
        self.add(condition)
        if lasts_days is None:
            chart.conditions[diagnosis.zh] = condition
        self._diagnoses.append(condition)
        self.say("evaluation", f"{diagnosis.zh}。")
        return condition

    def resolve(self, diagnosis: Concept, status: str = "resolved") -> None:
        """Closes an open problem: "resolved" or "remission"."""
        condition = self.chart.conditions.pop(diagnosis.zh, None)
        if condition is not None:
            condition["clinicalStatus"] = concept(coding(_CLINICAL, status, status.capitalize()))
            condition["abatementDateTime"] = self.day.isoformat()

    def procedure(self, what: Concept, hours: float = 0.5, note: str | None = None) -> JSON:
        """A Procedure during the visit, the first of an admission on its second day."""
        begin = self.start + datetime.timedelta(minutes=10)
        if self.kind == "IMP":
            begin = midnight(self.day) + datetime.timedelta(days=1, hours=9)
        finish = min(begin + datetime.timedelta(hours=hours), self.end)
        if finish < begin:
            begin = finish
        done = resource(
            "Procedure",
            self.chart.new_id("Procedure"),
            status="completed",
            code=what.codeable(),
            subject=self.chart.subject(),
            encounter=reference(self.reference),
            performedPeriod={"start": stamp(begin), "end": stamp(finish)},
            performer=[{"actor": reference(self.post.role, self.post.label)}],
            reasonReference=self.reasons(),
            note=[{"text": note}] if note else None,
        )
        self.add(done)
        self.say("plan", f"{what.zh}。")
        return done

    def plan(
        self,
        title: str,
        condition: JSON,
        goals: list[tuple[str, JSON | None]],
        activities: list[str],
        *,
        months: int = 12,
        completed: bool = False,
    ) -> None:
        """A CarePlan with its Goals: each goal is (words, target or None), each activity a sentence."""
        chart = self.chart
        over = completed or chart.person.died is not None
        written = []
        for words, target in goals:
            goal = resource(
                "Goal",
                chart.new_id("Goal"),
                lifecycleStatus="completed" if over else "active",
                achievementStatus=concept(
                    coding(
                        hl7("goal-achievement"),
                        *(("achieved", "Achieved") if completed else ("in-progress", "In Progress")),
                    )
                ),
                description=concept(text=words),
                subject=chart.subject(),
                startDate=self.day.isoformat(),
                target=[present(**target, dueDate=(self.day + datetime.timedelta(days=180)).isoformat())]
                if target
                else None,
                addresses=[reference(condition)],
            )
            written.append(goal)
        ends = min(self.day + datetime.timedelta(days=30 * months), chart.end) if over else None
        plan = resource(
            "CarePlan",
            chart.new_id("CarePlan"),
            status="completed" if over else "active",
            intent="plan",
            category=[concept(text="慢病随访" if not completed else "诊疗计划")],
            title=title,
            subject=chart.subject(),
            encounter=reference(self.reference),
            period=present(start=self.day.isoformat(), end=ends.isoformat() if ends else None),
            created=stamp(self.start),
            author=reference(self.post.role, self.post.label),
            addresses=[reference(condition)],
            goal=[reference(goal) for goal in written],
            activity=[
                {
                    "detail": {
                        "kind": "Task",
                        "status": "completed" if over else "in-progress",
                        "doNotPerform": False,
                        "description": words,
                    }
                }
                for words in activities
            ],
        )
        self.add(*written, plan)

    # --- closing --------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Writes the Encounter, its Appointment, note, bill and rating, and files the group in the chart."""
        chart = self.chart
        appointment = self._appointment() if self.place and self.place.slot else None
        encounter = self._encounter(appointment)
        group = [encounter, *self.resources]
        if appointment:
            group.insert(0, appointment)
        age_of_visit = (chart.world.today - self.day).days
        if self.kind == "IMP":
            group.append(documents.discharge_summary(self))
        elif age_of_visit <= 400:
            group.append(documents.visit_note(self))
        if self.recent:
            group += billing.bill(self)
            if chart.rng.random() < 0.35 and chart.person.died is None:
                group.append(documents.rating(self))
        chart.groups.append(group)

    def _encounter(self, appointment: JSON | None) -> JSON:
        chart = self.chart
        prefix = "C" if self.kind == "VR" else "A"
        kind = {
            "AMB": diagnoses.PROBLEM if self.first else diagnoses.FOLLOW_UP,
            "EMER": diagnoses.EMERGENCY,
            "IMP": diagnoses.ADMISSION,
        }.get(self.kind)
        if kind is None and self.place:
            mode = {"psychiatry": "video", "endocrinology": "video", "paediatrics": "video", "cardiology": "text"}
            types = [local_concept("consult-mode", mode.get(self.post.department.key, "phone"))]
        else:
            types = [(kind or diagnoses.PROBLEM).codeable()]
        arrived = self.start - datetime.timedelta(minutes=12)
        history = None
        if self.kind in ("AMB", "VR") and self.recent:
            history = [
                {"status": "arrived", "period": {"start": stamp(arrived), "end": stamp(self.start)}},
                {"status": "in-progress", "period": {"start": stamp(self.start), "end": stamp(self.end)}},
            ]
        stay = None
        if self.kind == "IMP":
            source = ("emd", "From accident/emergency department")
            out = {"home": "Home", "exp": "Expired", "rehab": "Rehabilitation"}[self.discharge]
            stay = {
                "admitSource": concept(coding(hl7("admit-source"), *source)),
                "dischargeDisposition": concept(coding(hl7("discharge-disposition"), self.discharge, out)),
            }
        room = self.ward or self.post.room
        roles = [("CC", "Chief complaint")] + [("CM", "Comorbidity diagnosis")] * len(self._diagnoses)
        if self.kind == "IMP":
            roles[0] = ("DD", "Discharge diagnosis")
        seen: list[str] = []
        entries: list[JSON] = []
        for item in self._diagnoses:
            if item["id"] not in seen:
                seen.append(item["id"])
                use = concept(coding(hl7("diagnosis-role"), *roles[len(entries)]))
                entries.append({"condition": reference(item), "use": use, "rank": len(entries) + 1})
        minutes = int((self.end - self.start).total_seconds() // 60)
        return resource(
            "Encounter",
            self.encounter_id,
            identifier=[
                identifier(sid("order-no"), business_number(prefix, self.day, chart.person.number, self.number))
            ],
            status="finished",
            statusHistory=history,
            class_=coding(ACT_CODE, self.kind, _CLASS[self.kind]),
            type=types,
            serviceType=self.post.department.specialty_concept(),
            priority=concept(coding("http://terminology.hl7.org/CodeSystem/v3-ActPriority", "EM", "emergency"))
            if self.kind == "EMER"
            else None,
            subject=chart.subject(),
            participant=[
                {
                    "type": [concept(coding(PARTICIPATION, "PPRF", "primary performer"))],
                    "individual": reference(self.post.role, self.post.label),
                }
            ],
            appointment=[reference(appointment)] if appointment else None,
            period={"start": stamp(self.start), "end": stamp(self.end)},
            length={"value": minutes, "unit": "分钟", "system": "http://unitsofmeasure.org", "code": "min"},
            reasonCode=[concept(text=self.reason)] if self.reason else None,
            diagnosis=entries,
            hospitalization=stay,
            location=None if self.kind == "VR" else [{"location": reference(room), "status": "completed"}],
            serviceProvider=reference(self.post.department.reference, self.post.department.zh),
        )

    def _appointment(self) -> JSON:
        assert self.place is not None
        kind = "ROUTINE" if self.first else "FOLLOWUP"
        return appointment(self.chart, self.place, "fulfilled", kind, self.reason)


def appointment(
    chart: Chart,
    place: Place,
    status: str,
    kind: str,
    reason: str,
    created: datetime.date | None = None,
    cancelled: tuple[str, str] | None = None,
) -> JSON:
    """An Appointment for a place; a cancelled one names no Slot, because its place is free again (K7)."""
    made = created or place.date - datetime.timedelta(days=1 + chart.rng.randint(0, 9))
    patient_status = "needs-action" if status == "pending" else "accepted"
    actors = [(chart.subject(), patient_status), (reference(place.post.role, place.post.label), "accepted")]
    actors.append((reference(place.service), "accepted"))
    if place.mode == "clinic":
        actors.append((reference(place.post.room), "accepted"))
    number = business_number("A", place.date, chart.person.number, place.hour, place.post.staff_no)
    return resource(
        "Appointment",
        chart.new_id("Appointment"),
        identifier=[
            identifier(sid("order-no"), number),
            identifier(sid("queue-no"), str(place.sequence), text="就诊序号"),
        ],
        status=status,
        cancelationReason=concept(coding(hl7("appointment-cancellation-reason"), *cancelled)) if cancelled else None,
        serviceType=[concept(text=f"{place.post.department.zh}{'线上问诊' if place.mode == 'online' else '门诊'}")],
        specialty=[place.post.department.specialty_concept()],
        appointmentType=concept(coding("http://terminology.hl7.org/CodeSystem/v2-0276", kind, _APPOINTMENT_TYPE[kind])),
        reasonCode=[concept(text=reason)] if reason else None,
        start=stamp(place.start),
        end=stamp(place.end),
        minutesDuration=place.minutes,
        slot=[reference(place.slot)] if place.slot and status != "cancelled" else None,
        created=stamp(midnight(made) + datetime.timedelta(hours=10 + place.sequence, minutes=7 * place.sequence)),
        participant=[{"actor": actor, "required": "required", "status": state} for actor, state in actors],
    )
