"""Asthma and chronic obstructive pulmonary disease."""

from __future__ import annotations

import datetime
from typing import ClassVar

from seed.base import add_years
from seed.chart import Chart
from seed.conditions.course import Course, State
from seed.observations import imaging, laboratory, measure, smoking, vital_signs
from seed.prescriptions import prescribe
from seed.terminology import diagnoses
from seed.visit import Visit

CHEST_XRAY = ("36643-5", "XR Chest 2 Views")


class Asthma(Course):
    """Inhalers; an attack now and then."""

    department = "respiratory"
    STATES: ClassVar = {
        "found": State((28, 45), (("controlled", 1),)),
        "controlled": State((120, 190), (("controlled", 0.72), ("attack", 0.28))),
        "attack": State((7, 14), (("after-attack", 1),), kind="EMER"),
        "after-attack": State((60, 90), (("controlled", 1),)),
    }

    def _lungs(self, visit: Visit) -> None:
        values = self.body.spirometry(visit.day)
        measure(visit, "fev1", values["fev1"], "procedure")
        measure(visit, "fev1-fvc", values["fev1-fvc"], "procedure")
        measure(visit, "pef", values["pef"], "procedure")

    def _renew(self, visit: Visit, days: int) -> None:
        condition = visit.diagnose(diagnoses.ASTHMA)
        if self.person.age(visit.day) < 15:
            prescribe(visit, condition, ("montelukast", days))
        else:
            prescribe(visit, condition, ("budesonide-formoterol", days))

    def on_found(self, visit: Visit) -> None:
        """Diagnosis with lung function."""
        visit.complain("反复咳嗽、喘息")
        visit.say("history", "接触冷空气或花粉后发作性喘息，夜间明显。")
        self.body.fev1_share, self.body.fev1_fvc = 0.78, 68.0
        vital_signs(visit, "heart-rate", "respiratory-rate", "spo2", "size")
        onset = add_years(visit.day, -min(self.rng.randint(1, 6), self.person.age(visit.day)))
        condition = visit.diagnose(diagnoses.ASTHMA, onset=onset)
        self._lungs(visit)
        self._renew(visit, 30)
        prescribe(visit, condition, ("salbutamol", 30))
        self.body.fev1_share, self.body.fev1_fvc = 0.93, 78.0
        visit.say("advice", "规律吸入，随身携带急救药物，避免过敏原。")
        visit.plan(
            "哮喘管理计划",
            condition,
            [("每周日间症状不超过两次", None)],
            ["每日记录峰流速", "规范使用吸入装置", "按时复诊"],
        )

    def on_controlled(self, visit: Visit) -> None:
        """Lung function twice a year."""
        visit.complain("哮喘复诊")
        vital_signs(visit, "spo2", "heart-rate")
        if self.person.age(visit.day) < 18:
            vital_signs(visit, "size")
        if self.chart.due("lungs", visit.day, 170):
            self._lungs(visit)
        self._renew(visit, 60)

    def on_attack(self, visit: Visit) -> None:
        """Emergency: oxygen falls, breathing quickens, steroid for five days."""
        visit.complain("突发喘息、气促2小时")
        self.body.spo2 = 92.5
        vital_signs(visit, "heart-rate", "respiratory-rate", "spo2", "temperature")
        condition = visit.diagnose(diagnoses.ASTHMA)
        measure(visit, "pef", int(self.body.spirometry(visit.day)["pef"] * 6 / 10), "procedure")
        prescribe(visit, condition, ("prednisone", 5), ("salbutamol", 14))
        self.body.spo2 = 98.3

    def on_after_attack(self, visit: Visit) -> None:
        """Check after an attack."""
        visit.complain("哮喘急性发作后复诊")
        vital_signs(visit, "spo2", "respiratory-rate")
        self._lungs(visit)
        self._renew(visit, 60)


class Copd(Course):
    """Slow decline of FEV1, exacerbations that lead to the ward; of one patient the last one is fatal."""

    department = "respiratory"
    STATES: ClassVar = {
        "found": State((40, 60), (("stable", 1),)),
        "stable": State((120, 170), (("stable", 0.76), ("exacerbation", 0.24))),
        "exacerbation": State((14, 21), (("after", 1),), kind="IMP", days=8),
        "after": State((90, 120), (("stable", 1),)),
        "last": State(kind="IMP", days=6),
    }

    def __init__(self, chart: Chart, argument: str) -> None:
        super().__init__(chart, argument)
        self.body.fev1_share = self.rng.uniform(0.5, 0.66)
        self.body.fev1_fvc = self.rng.uniform(54, 64)
        self.body.spo2 = 95.0

    def _status(self) -> str | None:
        return "smoker" if "smoker" in self.person.part.flags else None

    def step(self, visit: Visit) -> datetime.date | None:
        """As any course; of one who will die, the last admission is ten days before the end."""
        following = super().step(visit)
        died = self.person.died
        if died and following:
            last = died - datetime.timedelta(days=6)
            if self.state == "last" or following >= last - datetime.timedelta(days=20):
                self.state = "last"
                return last
        return following

    def on_found(self, visit: Visit) -> None:
        """Diagnosis by spirometry."""
        visit.complain("慢性咳嗽、活动后气促")
        visit.say("history", "吸烟三十余年，反复咳嗽咳痰，近两年上楼气促。")
        vital_signs(visit, "bp", "heart-rate", "respiratory-rate", "spo2", "size")
        smoking(visit, diagnoses.SMOKER if self._status() else diagnoses.EX_SMOKER)
        onset = add_years(visit.day, -self.rng.randint(2, 8))
        condition = visit.diagnose(diagnoses.COPD, onset=onset)
        self._lungs(visit)
        imaging(visit, CHEST_XRAY, "胸部正侧位片", "双肺透亮度增高，符合慢性支气管炎、肺气肿改变。", "96.00")
        prescribe(visit, condition, ("tiotropium", 30), ("salbutamol", 30))
        visit.say("advice", "戒烟，接种流感和肺炎疫苗，呼吸康复训练。")
        visit.plan(
            "慢阻肺管理计划",
            condition,
            [("一年内急性加重不超过一次", None), ("戒烟", None)],
            ["长期规律吸入", "呼吸康复训练", "每年复查肺功能"],
        )

    def _lungs(self, visit: Visit) -> None:
        values = self.body.spirometry(visit.day)
        for key in ("fev1", "fvc", "fev1-fvc"):
            measure(visit, key, values[key], "procedure")

    def on_stable(self, visit: Visit) -> None:
        """Refill; lung function once a year, a little worse each time."""
        visit.complain("慢阻肺复诊取药")
        vital_signs(visit, "bp", "spo2", "respiratory-rate")
        condition = visit.diagnose(diagnoses.COPD)
        if self.chart.due("lungs", visit.day, 330):
            self.body.fev1_share *= 0.965
            self._lungs(visit)
        prescribe(visit, condition, ("tiotropium", 90))

    def on_exacerbation(self, visit: Visit) -> None:
        """Eight days on the ward."""
        visit.complain("咳嗽、气促加重3天")
        visit.ward = "Location/loc-ward-respiratory"
        self.body.spo2, self.body.infection, self.body.fever = 89.5, 0.8, 1.1
        vital_signs(visit, "bp", "heart-rate", "respiratory-rate", "spo2", "temperature")
        condition = visit.diagnose(diagnoses.COPD_EXACERBATION, lasts_days=14)
        visit.diagnose(diagnoses.COPD)
        laboratory(visit, "cbc")
        laboratory(visit, "crp")
        imaging(visit, CHEST_XRAY, "胸部正侧位片", "双肺纹理增多紊乱，双下肺少许炎性改变。", "96.00")
        prescribe(visit, condition, ("prednisone", 5), ("azithromycin", 3))
        self.body.spo2, self.body.infection, self.body.fever = 94.5, 0.0, 0.0
        self.body.fev1_share *= 0.96

    def on_after(self, visit: Visit) -> None:
        """After the ward."""
        visit.complain("慢阻肺急性加重出院后复诊")
        vital_signs(visit, "spo2", "respiratory-rate", "heart-rate")
        condition = visit.diagnose(diagnoses.COPD)
        prescribe(visit, condition, ("tiotropium", 60), ("budesonide-formoterol", 60))

    def on_last(self, visit: Visit) -> None:
        """The admission that ends in death."""
        visit.complain("气促加重、意识模糊1天")
        visit.ward, visit.discharge = "Location/loc-ward-respiratory", "exp"
        self.body.spo2, self.body.infection, self.body.fever = 84.0, 1.0, 1.4
        vital_signs(visit, "bp", "heart-rate", "respiratory-rate", "spo2", "temperature")
        visit.diagnose(diagnoses.COPD_EXACERBATION, lasts_days=400)
        visit.diagnose(diagnoses.COPD)
        laboratory(visit, "cbc")
        laboratory(visit, "renal")
        visit.procedure(diagnoses.TERMINAL_CARE, 48)
