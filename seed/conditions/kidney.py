"""Chronic kidney disease: stage by stage."""

from __future__ import annotations

import datetime
from typing import ClassVar

from seed.base import Concept, add_years
from seed.chart import Chart
from seed.conditions.course import Course, State
from seed.observations import laboratory, vital_signs
from seed.prescriptions import prescribe
from seed.terminology import diagnoses
from seed.visit import Visit


class ChronicKidneyDisease(Course):
    """Creatinine rises a few per cent a visit; the stage on the problem list follows the eGFR."""

    department = "nephrology"
    STATES: ClassVar = {
        "found": State((80, 110), (("followed", 1),)),
        "followed": State((130, 180), (("followed", 1),)),
        "last": State(kind="IMP", days=5),
    }

    def __init__(self, chart: Chart, argument: str) -> None:
        super().__init__(chart, argument)
        self.body.lab["crea"] *= self.rng.uniform(1.45, 1.7)
        self.body.lab["urea"] = self.rng.uniform(8.5, 10.5)
        self.body.lab["acr"] = self.rng.uniform(90, 260)
        self.body.lab["hgb"] -= 18
        self.stage: Concept | None = None

    def begins(self) -> datetime.date | None:
        """Later than the illnesses that lead to it."""
        return self.person.since + datetime.timedelta(days=self.rng.randint(180, 420))

    def _stage(self, day: datetime.date) -> Concept:
        rate = self.body.egfr(self.body.lab["crea"], day)
        if rate >= 60:
            return diagnoses.CKD_STAGE_2
        return diagnoses.CKD_STAGE_3 if rate >= 30 else diagnoses.CKD_STAGE_4

    def _diagnose(self, visit: Visit) -> None:
        stage = self._stage(visit.day)
        order = [diagnoses.CKD_STAGE_2, diagnoses.CKD_STAGE_3, diagnoses.CKD_STAGE_4]
        if self.stage is None or order.index(stage) > order.index(self.stage):
            if self.stage is not None:
                visit.resolve(self.stage)
            self.stage = stage
        onset = add_years(visit.day, -2) if visit.first else None
        visit.diagnose(self.stage, onset=onset)

    def on_found(self, visit: Visit) -> None:
        """Baseline."""
        visit.complain("体检发现肌酐升高")
        vital_signs(visit, "bp", "heart-rate", "size")
        self._diagnose(visit)
        laboratory(visit, "renal")
        laboratory(visit, "urine-albumin")
        laboratory(visit, "cbc")
        assert self.stage is not None
        condition = self.chart.conditions[self.stage.zh]
        prescribe(visit, condition, ("valsartan", 84))
        visit.say("advice", "低盐优质低蛋白饮食，避免肾毒性药物。")
        visit.plan(
            "慢性肾脏病随访计划",
            condition,
            [("估算肾小球滤过率年下降不超过5", None)],
            ["每三至六个月复查肾功能", "控制血压"],
        )

    def on_followed(self, visit: Visit) -> None:
        """Slowly worse."""
        self.body.lab["crea"] *= 1 + self.rng.uniform(0.005, 0.035)
        self.body.lab["hgb"] -= self.rng.uniform(0, 1.2)
        visit.complain("慢性肾脏病复诊")
        vital_signs(visit, "bp")
        self._diagnose(visit)
        laboratory(visit, "renal")
        if self.chart.due("urine-albumin", visit.day, 350):
            laboratory(visit, "urine-albumin")
        assert self.stage is not None
        prescribe(visit, self.chart.conditions[self.stage.zh], ("valsartan", 84))

    def step(self, visit: Visit) -> datetime.date | None:
        """As any course; of one who will die, the last admission is before the end."""
        following = super().step(visit)
        died = self.person.died
        if died and following and self.state != "last":
            last = died - datetime.timedelta(days=5)
            if following >= last - datetime.timedelta(days=15):
                self.state = "last"
                return last
        return following

    def on_last(self, visit: Visit) -> None:
        """The admission that ends in death."""
        visit.complain("乏力、少尿3天")
        visit.discharge = "exp"
        visit.ward = "Location/loc-ward-cardiology"
        self.body.lab["crea"] *= 2.1
        self.body.lab["k"] = 5.5
        vital_signs(visit, "bp", "heart-rate", "spo2")
        self._diagnose(visit)
        laboratory(visit, "renal")
        visit.procedure(diagnoses.TERMINAL_CARE, 48)
