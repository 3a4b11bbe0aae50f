"""Well-child visits along the growth chart, and the infections that come with kindergarten."""

from __future__ import annotations

import datetime
from typing import ClassVar, Final

from seed.base import Concept, add_months
from seed.chart import Chart
from seed.conditions.course import Course, State
from seed.observations import laboratory, vital_signs
from seed.prescriptions import prescribe
from seed.terminology import diagnoses
from seed.visit import Visit

#: Months of age at which a well child is seen.
CALENDAR: Final = (1, 3, 6, 9, 12, 18, 24, 36, 48, 60, 72, 96, 120, 144, 168)

#: infection -> (weight under 6, weight from 6 on, fever, complaint, days)
_INFECTIONS: Final[tuple[tuple[Concept, float, float, float, str, int], ...]] = (
    (diagnoses.COLD, 5, 4, 1.4, "发热、流涕、咳嗽2天", 7),
    (diagnoses.TONSILLITIS, 2, 2, 2.2, "发热、咽痛1天", 8),
    (diagnoses.OTITIS, 1.2, 0.4, 1.5, "耳痛、发热1天", 10),
    (diagnoses.GASTROENTERITIS, 2, 1, 0.8, "呕吐、腹泻1天", 5),
    (diagnoses.HAND_FOOT_MOUTH, 1.5, 0.1, 1.0, "手足皮疹、口腔疱疹2天", 9),
    (diagnoses.INFLUENZA, 1, 1.5, 2.6, "高热、肌痛1天", 7),
    (diagnoses.VARICELLA, 0.4, 0.3, 0.8, "全身疱疹2天", 12),
    (diagnoses.BRONCHITIS, 1.2, 0.8, 1.2, "咳嗽、咳痰3天", 12),
)
_ONCE: Final = (diagnoses.HAND_FOOT_MOUTH.zh, diagnoses.VARICELLA.zh)


class Childhood(Course):
    """Alternates between the calendar of well-child visits and infections in between."""

    department = "paediatrics"
    STATES: ClassVar = {"well": State((40, 41)), "ill": State((40, 41))}

    def __init__(self, chart: Chart, argument: str) -> None:
        super().__init__(chart, argument)
        self.had: set[str] = set()
        self._events: list[tuple[datetime.date, str]] = []
        start = max(self.person.since, self.person.birth + datetime.timedelta(days=30))
        for months in CALENDAR:
            day = add_months(self.person.birth, months)
            if day >= start:
                self._events.append((day, "well"))
        day = start + datetime.timedelta(days=self.rng.randint(150, 400))
        while day < chart.end:
            young = (day - self.person.birth).days < 365 * 6
            self._events.append((day, "ill"))
            day += datetime.timedelta(days=self.rng.randint(120, 300) if young else self.rng.randint(250, 560))
        self._events.sort()

    @property
    def mergeable(self) -> bool:
        """An infection does not wait, and infectious children do not sit among the well."""
        return False

    def begins(self) -> datetime.date | None:
        """The first event."""
        return self._take()

    def _take(self) -> datetime.date | None:
        if not self._events:
            return None
        day, self.state = self._events.pop(0)
        return day

    def step(self, visit: Visit) -> datetime.date | None:
        """Works off the list of events made at the beginning."""
        (self.on_well if self.state == "well" else self.on_ill)(visit)
        following = self._take()
        earliest = visit.day + datetime.timedelta(days=12)
        return max(following, earliest) if following else None

    def on_well(self, visit: Visit) -> None:
        """Length, weight, head, development."""
        visit.complain("儿童健康检查")
        keys = ["size", "heart-rate"]
        if (visit.day - self.person.birth).days < 365 * 3:
            keys.append("head")
        if self.person.age(visit.day) >= 6:
            keys.append("bp")
        vital_signs(visit, *keys)
        visit.say("evaluation", "生长发育正常。")
        visit.say("advice", "均衡膳食，保证睡眠与户外活动，按时接种疫苗。")
        months = (visit.day - self.person.birth).days / 30.4
        if 10 < months < 20 and self.chart.due("first-cbc", visit.day, 900):
            laboratory(visit, "cbc")

    def on_ill(self, visit: Visit) -> None:
        """An infection of the age."""
        young = self.person.age(visit.day) < 6
        choice = [item for item in _INFECTIONS if item[0].zh not in self.had]
        weights = [item[1] if young else item[2] for item in choice]
        what, _, _, fever, complaint, days = self.rng.choices(choice, weights)[0]
        if what.zh in _ONCE:
            self.had.add(what.zh)
        visit.complain(complaint)
        self.body.fever, self.body.infection = fever, 0.4
        vital_signs(visit, "temperature", "heart-rate", "respiratory-rate", "size")
        condition = visit.diagnose(what, lasts_days=days)
        self._treat(visit, what, condition)
        self.body.fever, self.body.infection = 0.0, 0.0
        visit.say("advice", "多饮水，注意休息，高热不退及时复诊。")

    def _treat(self, visit: Visit, what: Concept, condition: dict[str, object]) -> None:
        years = self.person.age(visit.day)
        if years < 1:
            visit.say("plan", "对症护理，密切观察。")
        elif what in (diagnoses.TONSILLITIS, diagnoses.OTITIS):
            laboratory(visit, "cbc")
            prescribe(visit, condition, ("amoxicillin-child", 7), ("ibuprofen-child", 3))
        elif what is diagnoses.GASTROENTERITIS:
            prescribe(visit, condition, ("rehydration", 3), ("smectite", 3))
        elif what is diagnoses.INFLUENZA:
            laboratory(visit, "flu", positive=True)
            prescribe(visit, condition, ("oseltamivir-child", 5), ("ibuprofen-child", 3))
        elif what is diagnoses.VARICELLA:
            visit.say("plan", "隔离至疱疹结痂，对症止痒。")
        else:
            prescribe(visit, condition, ("ibuprofen-child", 3))
