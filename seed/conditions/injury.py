"""Fractures: emergency department, cast or operation, follow-up until healed."""

from __future__ import annotations

import datetime
from typing import ClassVar, Final

from seed.base import Concept
from seed.chart import Chart
from seed.conditions.course import Course, State
from seed.observations import imaging, laboratory, measure, vital_signs
from seed.prescriptions import prescribe
from seed.terminology import diagnoses
from seed.visit import Visit

#: argument -> (diagnosis, complaint, film, what it shows, operated)
_SITES: Final[dict[str, tuple[Concept, str, tuple[str, str], str, bool]]] = {
    "forearm": (
        diagnoses.FOREARM_FRACTURE,
        "摔伤后前臂疼痛2小时",
        ("18748-4", "Diagnostic imaging study"),
        "前臂骨折，对位可。",
        False,
    ),
    "ankle": (
        diagnoses.ANKLE_FRACTURE,
        "扭伤后踝部肿痛3小时",
        ("18748-4", "Diagnostic imaging study"),
        "外踝骨折，无明显移位。",
        False,
    ),
    "clavicle": (
        diagnoses.CLAVICLE_FRACTURE,
        "运动时摔伤，肩部疼痛1小时",
        ("18748-4", "Diagnostic imaging study"),
        "锁骨中段骨折。",
        False,
    ),
    "hip": (
        diagnoses.HIP_FRACTURE,
        "跌倒后右髋疼痛、不能站立4小时",
        ("18748-4", "Diagnostic imaging study"),
        "右股骨颈骨折，Garden III型。",
        True,
    ),
}


class Fracture(Course):
    """One fracture."""

    department = "orthopaedics"
    STATES: ClassVar = {
        "accident": State((14, 16), (("checked", 1),), kind="EMER"),
        "admitted": State((28, 35), (("checked", 1),), kind="IMP", days=11),
        "checked": State((28, 35), (("healed", 1),)),
        "healed": State(),
    }

    def __init__(self, chart: Chart, argument: str) -> None:
        super().__init__(chart, argument)
        self.site = _SITES[argument]

    def begins(self) -> datetime.date | None:
        """Somewhere in the record."""
        span = (self.chart.end - self.person.since).days
        return self.person.since + datetime.timedelta(days=self.rng.randint(span // 4, span * 4 // 5))

    def step(self, visit: Visit) -> datetime.date | None:
        """As any course; the accident of one who needs an operation leads straight to the ward."""
        accident = self.state == "accident"
        following = super().step(visit)
        if accident and self.site[4]:
            return visit.day
        return following

    def on_accident(self, visit: Visit) -> str | None:
        """Emergency department: film and cast."""
        diagnosis, complaint, film, shows, operated = self.site
        visit.complain(complaint)
        vital_signs(visit, "bp", "heart-rate")
        measure(visit, "pain", self.rng.randint(5, 8))
        condition = visit.diagnose(diagnosis, lasts_days=90)
        imaging(visit, film, "X线摄片", shows, "88.00")
        if operated:
            return "admitted"
        visit.procedure(diagnoses.IMMOBILIZATION, 0.4)
        if self.person.age(visit.day) >= 12:
            prescribe(visit, condition, ("ibuprofen", 5))
        else:
            prescribe(visit, condition, ("ibuprofen-child", 5))
        return None

    def on_admitted(self, visit: Visit) -> None:
        """Operation."""
        visit.complain("骨折，急诊入院手术")
        visit.ward, visit.discharge = "Location/loc-ward-orthopaedics", "rehab"
        vital_signs(visit, "bp", "heart-rate", "temperature")
        condition = visit.diagnose(self.site[0], lasts_days=120)
        laboratory(visit, "cbc")
        laboratory(visit, "renal")
        visit.procedure(diagnoses.OPEN_REDUCTION, 2)
        prescribe(visit, condition, ("calcium", 30), ("paracetamol", 7))

    def on_checked(self, visit: Visit) -> None:
        """Position is kept."""
        visit.complain("骨折后复查")
        measure(visit, "pain", self.rng.randint(1, 3))
        imaging(visit, self.site[2], "X线复查", "骨折对位对线好，骨痂生长。", "88.00")
        visit.procedure(diagnoses.PHYSIOTHERAPY, 0.2)

    def on_healed(self, visit: Visit) -> None:
        """Done."""
        visit.complain("骨折后复查")
        measure(visit, "pain", 0)
        imaging(visit, self.site[2], "X线复查", "骨折线模糊，临床愈合。", "88.00")
        visit.say("evaluation", "骨折愈合。")
