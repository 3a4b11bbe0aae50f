"""A depressive episode: treatment, remission, and the year after."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from seed.base import LOINC, coding, concept, quantity
from seed.chart import Chart
from seed.conditions.course import Course, State
from seed.observations import laboratory, measure, vital_signs
from seed.prescriptions import prescribe
from seed.terminology import diagnoses
from seed.terminology.measures import OTHERS
from seed.visit import Visit


class Depression(Course):
    """PHQ-9 falls under treatment; in remission the drug is kept for months, then the problem is closed."""

    department = "psychiatry"
    STATES: ClassVar = {
        "found": State((13, 18), (("acute", 1),)),
        "acute": State((24, 32), (("acute", 0.35), ("better", 0.65))),
        "better": State((45, 60), (("better", 0.3), ("online", 0.4), ("kept", 0.3))),
        "online": State((40, 60), (("better", 0.3), ("kept", 0.7)), kind="VR"),
        "kept": State((75, 100), (("kept", 0.65), ("remission", 0.35))),
        "remission": State(),
    }

    def __init__(self, chart: Chart, argument: str) -> None:
        super().__init__(chart, argument)
        self.score = self.rng.uniform(15, 19)
        self.drug = self.rng.choice(("sertraline", "escitalopram"))

    def _score(self, visit: Visit, factor: float) -> None:
        self.score = max(1.0, self.score * factor)
        measure(visit, "phq9", min(27, max(0, round(self.score + self.rng.uniform(-1, 1)))), "survey")

    def on_found(self, visit: Visit) -> None:
        """Diagnosis; a week of something to sleep."""
        visit.complain("情绪低落、兴趣减退、失眠2个月")
        visit.say("history", "无明显诱因情绪低落，早醒，无自杀观念。")
        vital_signs(visit, "bp", "heart-rate", "size")
        self._score(visit, 1)
        condition = visit.diagnose(diagnoses.DEPRESSION)
        laboratory(visit, "thyroid")
        prescribe(visit, condition, (self.drug, 14), ("zolpidem", 7))
        measure_code = concept(coding(LOINC, "44261-6", OTHERS["phq9"].en), text="PHQ-9总分")
        goal = {"measure": measure_code, "detailRange": {"high": quantity(Decimal(4), "分", "{score}")}}
        visit.plan("抑郁症治疗计划", condition, [("PHQ-9总分低于5分", goal)], ["规律服药", "心理治疗", "定期量表评估"])

    def on_acute(self, visit: Visit) -> None:
        """Dose kept, score falls."""
        visit.complain("抑郁复诊")
        self._score(visit, 0.68)
        prescribe(visit, visit.diagnose(diagnoses.DEPRESSION), (self.drug, 28))

    def on_better(self, visit: Visit) -> None:
        """Better."""
        visit.complain("抑郁复诊，情绪好转")
        vital_signs(visit, "bp", "size")
        self._score(visit, 0.65)
        prescribe(visit, visit.diagnose(diagnoses.DEPRESSION), (self.drug, 56))

    def on_online(self, visit: Visit) -> None:
        """By video."""
        visit.complain("线上复诊")
        self._score(visit, 0.85)
        prescribe(visit, visit.diagnose(diagnoses.DEPRESSION), (self.drug, 56))

    def on_kept(self, visit: Visit) -> None:
        """Maintenance."""
        visit.complain("抑郁维持治疗复诊")
        self._score(visit, 0.8)
        prescribe(visit, visit.diagnose(diagnoses.DEPRESSION), (self.drug, 84))

    def on_remission(self, visit: Visit) -> None:
        """Closed."""
        visit.complain("抑郁停药复诊")
        self._score(visit, 0.7)
        visit.diagnose(diagnoses.DEPRESSION)
        visit.resolve(diagnoses.DEPRESSION, "remission")
