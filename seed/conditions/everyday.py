"""What brings otherwise healthy people in: infections, check-ups, an appendix."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import ClassVar, Final

from seed.base import JSON, Concept
from seed.conditions.course import Course, State
from seed.observations import laboratory, smoking, vital_signs
from seed.prescriptions import prescribe
from seed.terminology import diagnoses
from seed.visit import Visit

#: illness -> (weight, fever, complaint, days, department)
_ILLNESSES: Final[tuple[tuple[Concept, float, float, str, int], ...]] = (
    (diagnoses.COLD, 5, 0.9, "咽痛、流涕、低热2天", 7),
    (diagnoses.INFLUENZA, 1.5, 2.3, "高热、全身酸痛1天", 7),
    (diagnoses.BRONCHITIS, 1.5, 0.8, "咳嗽、咳痰5天", 14),
    (diagnoses.GASTROENTERITIS, 2, 0.6, "腹痛、腹泻1天", 5),
    (diagnoses.BACK_PAIN, 1.5, 0.0, "腰痛3天", 21),
    (diagnoses.ANKLE_SPRAIN, 1, 0.0, "扭伤后踝部肿痛1天", 21),
    (diagnoses.CONJUNCTIVITIS, 0.7, 0.0, "眼红、分泌物增多2天", 9),
)


class Acute(Course):
    """One ordinary illness after the other."""

    department = "general"
    STATES: ClassVar = {"ill": State((240, 500), (("ill", 0.75), ("ill-online", 0.25))),
                        "ill-online": State((240, 500), (("ill", 1),), kind="VR")}  # fmt: skip

    @property
    def mergeable(self) -> bool:
        """An acute illness has a visit of its own."""
        return False

    def on_ill(self, visit: Visit) -> None:
        """Any of the list; urinary infections only in women."""
        choice = list(_ILLNESSES)
        if self.person.sex == "female":
            choice.append((diagnoses.URINARY_INFECTION, 2, 0.5, "尿频、尿痛2天", 7))
        what, _, fever, complaint, days = self.rng.choices(choice, [item[1] for item in choice])[0]
        visit.complain(complaint)
        self.body.fever, self.body.infection = fever, 0.35 if fever else 0.0
        vital_signs(visit, "bp", "temperature", "heart-rate")
        condition = visit.diagnose(what, lasts_days=days)
        self._treat(visit, what, condition)
        self.body.fever, self.body.infection = 0.0, 0.0

    def _treat(self, visit: Visit, what: Concept, condition: JSON) -> None:
        if what is diagnoses.INFLUENZA:
            laboratory(visit, "flu", positive=True)
            prescribe(visit, condition, ("oseltamivir", 5), ("paracetamol", 3))
        elif what is diagnoses.BRONCHITIS:
            laboratory(visit, "cbc")
            laboratory(visit, "crp")
            prescribe(visit, condition, ("amoxicillin", 7))
        elif what is diagnoses.GASTROENTERITIS:
            prescribe(visit, condition, ("smectite", 3), ("rehydration", 3))
        elif what is diagnoses.URINARY_INFECTION:
            laboratory(visit, "urine")
            prescribe(visit, condition, ("levofloxacin", 5) if self.person.age(visit.day) >= 18 else ("amoxicillin", 5))
        elif what in (diagnoses.BACK_PAIN, diagnoses.ANKLE_SPRAIN):
            prescribe(visit, condition, ("ibuprofen", 7))
        elif what is diagnoses.COLD:
            prescribe(visit, condition, ("paracetamol", 3))
        visit.say("advice", "注意休息，症状加重及时就诊。")

    def on_ill_online(self, visit: Visit) -> None:
        """A cold seen by phone."""
        visit.complain("咽痛、鼻塞1天")
        condition = visit.diagnose(diagnoses.COLD, lasts_days=6)
        prescribe(visit, condition, ("paracetamol", 3))


class CheckUp(Course):
    """The yearly check-up of adults."""

    department = "general"
    STATES: ClassVar = {"yearly": State((350, 400), (("yearly", 1),))}

    @property
    def mergeable(self) -> bool:
        """Fasting, with a form of its own."""
        return False

    def begins(self) -> datetime.date | None:
        """Some time in the first year and a half."""
        return self.person.since + datetime.timedelta(days=self.rng.randint(30, 540))

    def on_yearly(self, visit: Visit) -> None:
        """Size, pressure, blood."""
        visit.complain("健康体检")
        vital_signs(visit, "bp", "heart-rate", "size")
        if self.chart.due("smoking", visit.day, 3000):
            flags = self.person.part.flags
            status = diagnoses.SMOKER if "smoker" in flags else diagnoses.NEVER_SMOKED
            smoking(visit, diagnoses.EX_SMOKER if "exsmoker" in flags else status)
        for panel in ("cbc", "lipids", "glycaemia", "liver"):
            if self.chart.due(panel, visit.day, 300 if panel == "glycaemia" else 700 if panel == "lipids" else 1200):
                laboratory(visit, panel)
        visit.say("evaluation", "健康体检。")
        visit.charge("check-up", "健康体检套餐", str(Decimal("199.00")), "registration")


class Appendicitis(Course):
    """A night in the emergency department, an operation, a check."""

    department = "surgery"
    STATES: ClassVar = {
        "pain": State((0, 0), (("operation", 1),), kind="EMER"),
        "operation": State((9, 12), (("healed", 1),), kind="IMP", days=4),
        "healed": State(),
    }

    def begins(self) -> datetime.date | None:
        """Somewhere in the middle of the record."""
        span = (self.chart.end - self.person.since).days
        return self.person.since + datetime.timedelta(days=self.rng.randint(span // 4, span // 2))

    def on_pain(self, visit: Visit) -> None:
        """Emergency department."""
        visit.complain("转移性右下腹痛10小时")
        self.body.fever, self.body.infection = 1.5, 0.9
        vital_signs(visit, "bp", "heart-rate", "temperature")
        visit.diagnose(diagnoses.APPENDICITIS, lasts_days=18)
        laboratory(visit, "cbc")
        laboratory(visit, "crp")

    def on_operation(self, visit: Visit) -> None:
        """Laparoscopy."""
        visit.complain("急性阑尾炎")
        visit.ward = "Location/loc-ward-surgery"
        vital_signs(visit, "bp", "heart-rate", "temperature")
        condition = visit.diagnose(diagnoses.APPENDICITIS, lasts_days=16)
        visit.procedure(diagnoses.APPENDECTOMY, 1.2, "腹腔镜手术，术程顺利。")
        self.body.fever, self.body.infection = 0.0, 0.0
        prescribe(visit, condition, ("ibuprofen", 3))

    def on_healed(self, visit: Visit) -> None:
        """Stitches out."""
        visit.complain("阑尾术后复诊")
        vital_signs(visit, "temperature")
        visit.say("evaluation", "切口愈合良好。")
