"""Type 2 diabetes and gout."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from seed.base import LOINC, add_years, coding, concept, quantity
from seed.chart import Chart
from seed.conditions.course import Course, State
from seed.observations import laboratory, vital_signs
from seed.prescriptions import prescribe
from seed.terminology import diagnoses
from seed.terminology.laboratory import LABORATORY
from seed.visit import Visit


class Diabetes(Course):
    """Metformin first, then a second and a third drug, insulin at last, led by HbA1c."""

    department = "endocrinology"
    STATES: ClassVar = {
        "found": State((28, 45), (("adjust", 1),)),
        "adjust": State((80, 110), (("controlled", 0.7), ("adjust", 0.3))),
        "controlled": State((130, 175), (("controlled", 0.62), ("online", 0.2), ("drifting", 0.18))),
        "online": State((80, 120), (("controlled", 1),), kind="VR"),
        "drifting": State((80, 110), (("controlled", 0.7), ("adjust", 0.3))),
    }
    _LADDER: ClassVar = ("metformin", "gliclazide", "dapagliflozin", "sitagliptin")

    def __init__(self, chart: Chart, argument: str) -> None:
        super().__init__(chart, argument)
        self.body.lab["hba1c"] = self.rng.uniform(7.9, 9.8)
        self.body.lab["acr"] = self.rng.uniform(12, 48)
        self.body.bmi += 2
        self.drugs = ["metformin"]
        self.insulin = False

    def _renew(self, visit: Visit, days: int) -> None:
        condition = visit.diagnose(diagnoses.DIABETES)
        lines: list[tuple[str, int]] = [(name, days) for name in self.drugs]
        if self.insulin:
            lines.append(("glargine", days))
        prescribe(visit, condition, *lines)

    def on_found(self, visit: Visit) -> None:
        """Diagnosis, complications looked for, metformin, care plan."""
        visit.complain("口干、多饮、多尿")
        visit.say("history", "近三个月口干多饮，体重下降约3公斤。")
        vital_signs(visit, "bp", "heart-rate", "size")
        years = max(0, min(10, self.person.age(visit.day) - 42))
        onset = add_years(visit.day, -self.rng.randint(0, years)) if years else visit.day
        condition = visit.diagnose(diagnoses.DIABETES, onset=onset)
        laboratory(visit, "glycaemia")
        laboratory(visit, "urine-albumin")
        prescribe(visit, condition, ("metformin", 30))
        self.body.toward("hba1c", 6.6, 0.4)
        visit.say("advice", "糖尿病饮食，每周至少150分钟中等强度运动，自测血糖。")
        measure = concept(coding(LOINC, "4548-4", LABORATORY["hba1c"].en), text="糖化血红蛋白")
        goal = {"measure": measure, "detailRange": {"high": quantity(Decimal("7.0"), "%", "%")}}
        visit.plan(
            "2型糖尿病管理计划",
            condition,
            [("糖化血红蛋白低于7.0%", goal), ("体重下降5%", None)],
            ["自我血糖监测", "每三个月复查糖化血红蛋白", "每年筛查肾脏并发症"],
        )

    def on_adjust(self, visit: Visit) -> None:
        """Next step of the ladder when HbA1c is above 7.5 %."""
        visit.complain("糖尿病复诊")
        vital_signs(visit, "bp", "size")
        laboratory(visit, "glycaemia")
        if self.body.lab["hba1c"] > 7.4:
            if len(self.drugs) < 3:
                self.drugs.append(self._LADDER[len(self.drugs)])
            else:
                self.insulin = True
        self._renew(visit, 90)
        self.body.toward("hba1c", 6.5, 0.55)

    def on_controlled(self, visit: Visit) -> None:
        """HbA1c, refill, kidneys once a year."""
        visit.complain("糖尿病复诊取药")
        vital_signs(visit, "bp", "heart-rate")
        laboratory(visit, "glycaemia")
        if self.chart.due("urine-albumin", visit.day, 350):
            laboratory(visit, "urine-albumin")
        self._renew(visit, 90)
        self.body.toward("hba1c", 6.7, 0.3)

    def on_online(self, visit: Visit) -> None:
        """A refill by video."""
        visit.complain("线上复诊续方")
        self._renew(visit, 60)

    def on_drifting(self, visit: Visit) -> None:
        """Sweet months."""
        self.body.lab["hba1c"] = min(9.5, self.body.lab["hba1c"] + self.rng.uniform(0.8, 1.6))
        visit.complain("血糖控制欠佳")
        vital_signs(visit, "bp", "size")
        laboratory(visit, "glycaemia")
        self._renew(visit, 90)
        self.body.toward("hba1c", 6.8, 0.45)
        visit.say("advice", "加强饮食控制。")


class Gout(Course):
    """Flares, then urate-lowering treatment."""

    department = "endocrinology"
    STATES: ClassVar = {
        "flare": State((18, 30), (("lowering", 1),)),
        "lowering": State((80, 120), (("steady", 0.8), ("flare", 0.2))),
        "steady": State((150, 210), (("steady", 0.85), ("flare", 0.15))),
    }

    def __init__(self, chart: Chart, argument: str) -> None:
        super().__init__(chart, argument)
        self.body.lab["urate"] = self.rng.uniform(540, 610)

    def on_flare(self, visit: Visit) -> None:
        """Colchicine."""
        visit.complain("足趾红肿疼痛1天")
        vital_signs(visit, "bp", "temperature")
        condition = visit.diagnose(diagnoses.GOUT)
        laboratory(visit, "urate")
        prescribe(visit, condition, ("colchicine", 10))
        visit.say("advice", "低嘌呤饮食，戒酒，多饮水。")

    def on_lowering(self, visit: Visit) -> None:
        """Febuxostat."""
        visit.complain("痛风复诊")
        condition = visit.diagnose(diagnoses.GOUT)
        laboratory(visit, "urate")
        prescribe(visit, condition, ("febuxostat", 84))
        self.body.toward("urate", 330, 0.8)

    def on_steady(self, visit: Visit) -> None:
        """Refill, urate."""
        visit.complain("痛风复诊取药")
        condition = visit.diagnose(diagnoses.GOUT)
        laboratory(visit, "urate")
        prescribe(visit, condition, ("febuxostat", 84))
