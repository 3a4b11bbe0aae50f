"""Cancers: found, operated, treated, followed up; one of them to the end."""

from __future__ import annotations

import datetime
from typing import ClassVar

from seed.base import Concept
from seed.chart import Chart
from seed.conditions.course import Course, State
from seed.observations import imaging, laboratory, measure, vital_signs
from seed.prescriptions import prescribe
from seed.terminology import diagnoses
from seed.visit import Visit

CHEST_CT = ("24627-2", "CT Chest")
MAMMOGRAM = ("24606-6", "MG Breast Screening")


class _Cancer(Course):
    """What the three have in common: chemotherapy cycles and the follow-up calendar."""

    department = "oncology"
    diagnosis: ClassVar[Concept]
    marker: ClassVar[str] = "cea"

    def __init__(self, chart: Chart, argument: str) -> None:
        super().__init__(chart, argument)
        self.cycles = 0

    def begins(self) -> datetime.date | None:
        """In the first year of the record."""
        return self.person.since + datetime.timedelta(days=self.rng.randint(40, 220))

    def _plan(self, visit: Visit) -> None:
        condition = self.chart.conditions[self.diagnosis.zh]
        visit.plan(
            f"{self.diagnosis.zh}随访计划",
            condition,
            [("完成规范治疗并按期随访", None)],
            ["治疗后两年内每三个月复查", "每年影像学检查"],
        )

    def on_chemotherapy(self, visit: Visit) -> str | None:
        """One cycle: blood count falls, the cycle is given as a day case."""
        self.cycles += 1
        visit.complain(f"第{self.cycles}周期化疗")
        vital_signs(visit, "bp", "temperature", "size")
        visit.diagnose(self.diagnosis)
        self.body.lab["wbc"] = max(3.0, self.body.lab["wbc"] - 0.6)
        self.body.lab["hgb"] -= 4
        laboratory(visit, "cbc")
        visit.procedure(diagnoses.CHEMOTHERAPY, 0.2)
        return "chemotherapy" if self.cycles < 4 else None

    def on_follow_up(self, visit: Visit) -> None:
        """Marker and blood count; the body recovers."""
        visit.complain("肿瘤治疗后复查")
        vital_signs(visit, "bp", "size")
        visit.diagnose(self.diagnosis)
        self.body.toward("wbc", 5.6, 0.5)
        self.body.toward("hgb", 128, 0.5)
        laboratory(visit, self.marker)
        self.refill(visit)

    def refill(self, visit: Visit) -> None:
        """Drugs of the follow-up; none by default."""


class BreastCancer(_Cancer):
    """Lumpectomy, four cycles, then five years of follow-up."""

    diagnosis = diagnoses.BREAST_CANCER
    marker = "ca153"
    STATES: ClassVar = {
        "found": State((7, 12), (("operation", 1),)),
        "operation": State((21, 28), (("chemotherapy", 1),), kind="IMP", days=6),
        "chemotherapy": State((21, 21), (("follow-up", 1),)),
        "follow-up": State((95, 140), (("follow-up", 1),)),
    }

    def on_found(self, visit: Visit) -> None:
        """A lump, mammography."""
        visit.complain("发现左乳肿块1周")
        vital_signs(visit, "bp", "heart-rate", "size")
        visit.diagnose(self.diagnosis)
        self.body.lab["ca153"] = 31.0
        laboratory(visit, "ca153")
        imaging(visit, MAMMOGRAM, "乳腺X线摄影", "左乳外上象限高密度结节，BI-RADS 4C类。", "180.00")
        self._plan(visit)

    def on_operation(self, visit: Visit) -> None:
        """Breast-conserving surgery."""
        visit.complain("左乳恶性肿瘤，择期手术")
        visit.ward = "Location/loc-ward-oncology"
        vital_signs(visit, "bp", "heart-rate", "temperature")
        visit.diagnose(self.diagnosis)
        laboratory(visit, "cbc")
        visit.procedure(diagnoses.LUMPECTOMY, 2.5, "手术顺利，切缘阴性。")
        self.body.lab["ca153"] = 14.0

    def refill(self, visit: Visit) -> None:
        """Tamoxifen for five years."""
        prescribe(visit, self.chart.conditions[self.diagnosis.zh], ("tamoxifen", 90))


class ColonCancer(_Cancer):
    """Colonoscopy, resection, oral chemotherapy, follow-up."""

    diagnosis = diagnoses.COLON_CANCER
    STATES: ClassVar = {
        "found": State((8, 14), (("operation", 1),)),
        "operation": State((24, 30), (("chemotherapy", 1),), kind="IMP", days=9),
        "chemotherapy": State((21, 21), (("follow-up", 1),)),
        "follow-up": State((95, 140), (("follow-up", 1),)),
    }

    def on_found(self, visit: Visit) -> None:
        """Blood in the stool, colonoscopy."""
        visit.complain("间断便血1个月")
        self.body.lab["cea"], self.body.lab["hgb"] = 11.5, 112.0
        vital_signs(visit, "bp", "heart-rate", "size")
        visit.diagnose(self.diagnosis)
        visit.procedure(diagnoses.COLONOSCOPY, 0.2, "乙状结肠见隆起溃疡型肿物。")
        laboratory(visit, "cea")
        laboratory(visit, "cbc")
        self._plan(visit)

    def on_operation(self, visit: Visit) -> None:
        """Resection."""
        visit.complain("结肠恶性肿瘤，择期手术")
        visit.ward = "Location/loc-ward-surgery"
        vital_signs(visit, "bp", "heart-rate", "temperature")
        visit.diagnose(self.diagnosis)
        laboratory(visit, "cbc")
        visit.procedure(diagnoses.COLECTOMY, 3, "手术顺利。")
        self.body.lab["cea"] = 3.1

    def on_chemotherapy(self, visit: Visit) -> str | None:
        """A cycle with capecitabine."""
        following = super().on_chemotherapy(visit)
        prescribe(visit, self.chart.conditions[self.diagnosis.zh], ("capecitabine", 14))
        return following


class LungCancer(_Cancer):
    """Found late; chemotherapy, progression, palliative care, death."""

    diagnosis = diagnoses.LUNG_CANCER
    STATES: ClassVar = {
        "found": State((14, 21), (("chemotherapy", 1),)),
        "chemotherapy": State((21, 21), (("follow-up", 1),)),
        "follow-up": State((75, 100), (("follow-up", 1),)),
        "last": State(kind="IMP", days=9),
    }

    def on_found(self, visit: Visit) -> None:
        """Cough and weight loss, CT."""
        visit.complain("咳嗽、痰中带血2周")
        self.body.lab["cea"] = 24.0
        vital_signs(visit, "bp", "heart-rate", "spo2", "size")
        visit.diagnose(self.diagnosis)
        imaging(visit, CHEST_CT, "胸部CT", "右肺上叶占位，考虑恶性，纵隔淋巴结肿大。", "320.00")
        laboratory(visit, "cea")
        self._plan(visit)

    def refill(self, visit: Visit) -> None:
        """The disease goes on; pain is treated."""
        self.body.lab["cea"] *= 1.35
        self.body.bmi = max(17.0, self.body.bmi - 0.8)
        self.body.spo2 = max(91.0, self.body.spo2 - 0.8)
        measure(visit, "pain", self.rng.randint(4, 6))
        prescribe(visit, self.chart.conditions[self.diagnosis.zh], ("morphine", 15))

    def step(self, visit: Visit) -> datetime.date | None:
        """As any course, until the last admission."""
        following = super().step(visit)
        died = self.person.died
        if died and following and self.state != "last":
            last = died - datetime.timedelta(days=9)
            if following >= last - datetime.timedelta(days=15):
                self.state = "last"
                return last
        return following

    def on_last(self, visit: Visit) -> None:
        """Palliative admission that ends in death."""
        visit.complain("呼吸困难加重、消瘦")
        visit.ward, visit.discharge = "Location/loc-ward-oncology", "exp"
        self.body.spo2 = 87.0
        vital_signs(visit, "bp", "heart-rate", "respiratory-rate", "spo2", "size")
        measure(visit, "pain", 7)
        visit.diagnose(self.diagnosis)
        laboratory(visit, "cbc")
        visit.procedure(diagnoses.TERMINAL_CARE, 72)
