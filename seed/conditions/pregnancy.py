"""A pregnancy from the first test to the check six weeks after birth."""

from __future__ import annotations

import datetime
from typing import ClassVar, Final

from seed.chart import Chart
from seed.conditions.course import Course, State
from seed.observations import imaging, laboratory, measure, vital_signs
from seed.prescriptions import prescribe
from seed.terminology import diagnoses
from seed.visit import Visit

#: Weeks of the antenatal calendar.
CALENDAR: Final = (7, 12, 16, 20, 24, 28, 32, 35, 37, 38)
FETAL_ULTRASOUND: Final = ("11525-3", "US Pelvis Fetus for pregnancy")


class Pregnancy(Course):
    """Argument: "child" ends with the birth of the household's youngest child; "current" is in its 27th week, "early"
    in its ninth."""

    department = "obstetrics"
    STATES: ClassVar = {
        "antenatal": State((0, 0)),
        "birth": State((42, 44), (("after-birth", 1),), kind="IMP", days=3),
        "after-birth": State(),
    }

    def __init__(self, chart: Chart, argument: str) -> None:
        super().__init__(chart, argument)
        today = chart.world.today
        self.born: datetime.date | None = None
        if argument == "child":
            # A cut of the cast may leave the child out; then there is no pregnancy to tell of.
            self.born = max((item.birth for item in self.person.family if item.age(today) < 4), default=None)
            self.start = (self.born or today) - datetime.timedelta(days=276)
        else:
            weeks = 27 if argument == "current" else 9
            self.start = today - datetime.timedelta(days=weeks * 7 + 2)
        self.visits = [(self.start + datetime.timedelta(days=week * 7 + 1), week) for week in CALENDAR]
        # Records begin before the pregnancy does.
        if self.start < self.person.since:
            self.person.since = self.start - datetime.timedelta(days=30)
        self.week = 0
        self.diabetic = self.chance(0.3)

    @property
    def mergeable(self) -> bool:
        """The calendar is the pregnancy's own."""
        return False

    def begins(self) -> datetime.date | None:
        """The seventh week."""
        if self.argument == "child" and self.born is None:
            return None
        return self.visits[0][0]

    def step(self, visit: Visit) -> datetime.date | None:
        """Follows the calendar, then birth on the child's birthday."""
        if self.state != "antenatal":
            return super().step(visit)
        self.on_antenatal(visit)
        self.visits.pop(0)
        if self.born is None and not self.visits:
            return None
        if not self.visits or (self.born and self.visits[0][0] >= self.born - datetime.timedelta(days=5)):
            self.state = "birth"
            return self.born
        return max(self.visits[0][0], visit.day + datetime.timedelta(days=5))

    def on_antenatal(self, visit: Visit) -> None:
        """What the week calls for."""
        week = (visit.day - self.start).days // 7
        self.body.pregnant_since = self.start
        self.body.lab["hgb"] = max(104.0, self.body.lab["hgb"] - 2.5)
        visit.complain(f"停经{week}周，产前检查")
        vital_signs(visit, "bp", "heart-rate", "size")
        condition = visit.diagnose(diagnoses.PREGNANCY, onset=self.start)
        first = len(self.visits) == len(CALENDAR)
        if first:
            laboratory(visit, "pregnancy", positive=True)
            laboratory(visit, "cbc")
            laboratory(visit, "thyroid")
            visit.procedure(diagnoses.PRENATAL_VISIT, 0.2)
            prescribe(visit, condition, ("folic-acid", 93))
            visit.plan(
                "孕期保健计划",
                condition,
                [("足月分娩健康新生儿", None)],
                ["按期产前检查", "孕期营养指导", "孕妇学校课程"],
                months=9,
                completed=self.born is not None,
            )
        if week >= 18:
            measure(visit, "fundal-height", min(36, week - 1 + self.rng.randint(-1, 1)))
            measure(visit, "fetal-heart-rate", self.rng.randint(132, 154))
        scheduled = self.visits[0][1]
        if scheduled in (12, 20, 32):
            shows = f"宫内单胎妊娠，孕{week}周，胎儿发育与孕周相符。"
            imaging(visit, FETAL_ULTRASOUND, "产科超声", shows, "150.00")
        if scheduled == 24:
            if self.diabetic:
                self.body.lab["hba1c"] = 6.2
                visit.diagnose(diagnoses.GESTATIONAL_DIABETES, lasts_days=(self.start - visit.day).days + 280)
            laboratory(visit, "glycaemia")
        if scheduled in (16, 28, 35):
            laboratory(visit, "cbc")
            laboratory(visit, "urine")
            prescribe(visit, condition, ("iron", 30), ("calcium", 60))
        visit.say("advice", "均衡营养，如有腹痛、阴道出血及时就诊。")

    def on_birth(self, visit: Visit) -> None:
        """Three days on the ward."""
        caesarean = self.chance(0.35)
        visit.complain("足月妊娠，规律宫缩")
        visit.ward = "Location/loc-ward-obstetrics"
        vital_signs(visit, "bp", "heart-rate", "temperature")
        visit.diagnose(diagnoses.PREGNANCY)
        laboratory(visit, "cbc")
        what = diagnoses.CAESAREAN if caesarean else diagnoses.NORMAL_DELIVERY
        visit.procedure(what, 0.5, "母婴平安。")
        visit.resolve(diagnoses.PREGNANCY)
        self.body.pregnant_since = None
        self.body.lab["hba1c"] = min(self.body.lab["hba1c"], 5.4)

    def on_after_birth(self, visit: Visit) -> None:
        """Six weeks later."""
        self.body.lab["hgb"] = 122
        visit.complain("产后42天复查")
        vital_signs(visit, "bp", "size")
        laboratory(visit, "cbc")
        visit.say("evaluation", "产后恢复良好。")
