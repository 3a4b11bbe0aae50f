"""Hypertension and hyperlipidaemia."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import ClassVar

from seed.base import JSON, LOINC, add_years, coding, concept, quantity
from seed.chart import Chart
from seed.conditions.course import Course, State
from seed.observations import laboratory, vital_signs
from seed.prescriptions import prescribe
from seed.terminology import diagnoses
from seed.terminology.measures import VITALS
from seed.visit import Visit


def _target(measure: JSON, high: str, unit: str, code: str) -> JSON:
    return {"measure": measure, "detailRange": {"high": quantity(Decimal(high), unit, code)}}


class Hypertension(Course):
    """Found high, treated, titrated until under 140 mmHg, then kept there; now and then it slips."""

    department = "cardiology"
    STATES: ClassVar = {
        "found": State((14, 35), (("titrate", 1),)),
        "titrate": State((28, 60), (("controlled", 1),)),
        "controlled": State((160, 215), (("controlled", 0.86), ("slipped", 0.14))),
        "slipped": State((25, 50), (("titrate", 1),)),
    }

    def __init__(self, chart: Chart, argument: str) -> None:
        super().__init__(chart, argument)
        self.body.systolic += self.rng.uniform(32, 44)
        self.body.diastolic += self.rng.uniform(14, 21)
        self.drugs = ["amlodipine"]

    def _renew(self, visit: Visit, condition: JSON, days: int) -> None:
        prescribe(visit, condition, *[(name, days) for name in self.drugs])

    def on_found(self, visit: Visit) -> None:
        """Diagnosis, baseline tests, first drug, care plan."""
        visit.complain("头晕、发现血压升高")
        visit.say("history", "近半年多次测量血压高于140/90mmHg，伴间断头晕。")
        vital_signs(visit, "bp", "heart-rate", "size")
        years = max(0, min(12, self.person.age(visit.day) - 45))
        onset = add_years(visit.day, -self.rng.randint(0, years)) if years else visit.day
        condition = visit.diagnose(diagnoses.HYPERTENSION, onset=onset)
        laboratory(visit, "renal")
        laboratory(visit, "lipids")
        visit.procedure(diagnoses.ELECTROCARDIOGRAM, 0.2)
        prescribe(visit, condition, ("amlodipine", 28))
        self._treat(0.45)
        visit.say("advice", "低盐饮食，每日食盐不超过5克，规律运动，家庭自测血压。")
        measure = concept(coding(LOINC, "8480-6", VITALS["systolic"].en), text="收缩压")
        visit.plan(
            "高血压随访计划",
            condition,
            [("收缩压控制在140mmHg以下", _target(measure, "140", "mmHg", "mm[Hg]"))],
            ["每日家庭自测血压", "每三至六个月复诊", "每年复查肾功能与血脂"],
        )

    def _treat(self, share: float) -> None:
        """A drug takes that share of the way down to 127/78."""
        self.body.systolic += (127 - self.body.systolic) * share
        self.body.diastolic += (78 - self.body.diastolic) * share

    def on_titrate(self, visit: Visit) -> str | None:
        """A second or third drug while it is still too high."""
        visit.complain("高血压复诊")
        vital_signs(visit, "bp", "heart-rate")
        condition = visit.diagnose(diagnoses.HYPERTENSION)
        if (visit.systolic or 0) >= 138 and len(self.drugs) < 3:
            self.drugs.append(["valsartan", "hydrochlorothiazide"][len(self.drugs) - 1])
            self._renew(visit, condition, 28)
            self._treat(0.6)
            return "titrate"
        self._renew(visit, condition, 56)
        self._treat(0.35)
        return None

    def on_controlled(self, visit: Visit) -> None:
        """Refill; blood once a year."""
        visit.complain("高血压复诊取药")
        vital_signs(visit, "bp", "heart-rate")
        if self.chart.due("weight", visit.day, 300):
            vital_signs(visit, "size")
        condition = visit.diagnose(diagnoses.HYPERTENSION)
        if self.chart.due("renal", visit.day, 340):
            laboratory(visit, "renal")
        self._renew(visit, condition, 84)
        self._treat(0.25)

    def on_slipped(self, visit: Visit) -> None:
        """Doses were missed."""
        self.body.systolic += self.rng.uniform(12, 20)
        self.body.diastolic += self.rng.uniform(5, 9)
        visit.complain("自行停药后血压升高")
        visit.say("history", "近一个月自行减少服药次数。")
        vital_signs(visit, "bp", "heart-rate")
        condition = visit.diagnose(diagnoses.HYPERTENSION)
        self._renew(visit, condition, 28)
        self._treat(0.7)


class Lipids(Course):
    """Hyperlipidaemia on a statin."""

    department = "cardiology"
    STATES: ClassVar = {
        "found": State((45, 75), (("checked", 1),)),
        "checked": State((180, 240), (("steady", 1),)),
        "steady": State((190, 270), (("steady", 1),)),
    }

    def __init__(self, chart: Chart, argument: str) -> None:
        super().__init__(chart, argument)
        self.body.lab["ldl"] = self.rng.uniform(4.1, 5.2)
        self.body.lab["tg"] = self.rng.uniform(1.8, 3.0)
        self.drug = self.rng.choice(("atorvastatin", "rosuvastatin"))

    def on_found(self, visit: Visit) -> None:
        """Diagnosis and statin."""
        visit.complain("体检发现血脂升高")
        vital_signs(visit, "bp", "heart-rate", "size")
        condition = visit.diagnose(diagnoses.HYPERLIPIDAEMIA, onset=visit.day - datetime.timedelta(days=60))
        laboratory(visit, "lipids")
        laboratory(visit, "liver")
        prescribe(visit, condition, (self.drug, 56))
        self.body.toward("ldl", 2.3, 0.75)
        self.body.toward("tg", 1.5, 0.6)
        visit.say("advice", "低脂饮食，控制体重。")

    def on_checked(self, visit: Visit) -> None:
        """Does it work, and does the liver bear it."""
        visit.complain("高脂血症复诊")
        condition = visit.diagnose(diagnoses.HYPERLIPIDAEMIA)
        self.body.toward("alt", 32, 0.5)
        laboratory(visit, "lipids")
        laboratory(visit, "liver")
        prescribe(visit, condition, (self.drug, 84))

    def on_steady(self, visit: Visit) -> None:
        """Refill, lipids once a year."""
        visit.complain("高脂血症复诊取药")
        vital_signs(visit, "bp")
        condition = visit.diagnose(diagnoses.HYPERLIPIDAEMIA)
        if self.chart.due("lipids", visit.day, 300):
            laboratory(visit, "lipids")
        prescribe(visit, condition, (self.drug, 84))
