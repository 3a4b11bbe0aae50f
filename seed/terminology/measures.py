"""What is measured: LOINC codes, UCUM units, digits and reference ranges (adult unless said otherwise).

Ranges are those usual in Chinese hospitals (SI units). `laboratory` holds what the laboratory measures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from seed.base import JSON, LOINC, Concept, coding, concept

Range = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class Measure:
    """One observable: `male` and `female` are (low, high) literals as they appear on the report."""

    key: str
    loinc: str
    en: str
    zh: str
    unit: str = ""
    ucum: str = ""
    places: int = 1
    male: Range | None = None
    female: Range | None = None
    spread: float = 0.05  # relative noise from one sample to the next

    def codeable(self) -> JSON:
        """The CodeableConcept: LOINC with its English name, Chinese text."""
        return concept(coding(LOINC, self.loinc, self.en), text=self.zh)

    def range(self, sex: str) -> Range | None:
        """The reference range for a sex."""
        return self.female if sex == "female" and self.female else self.male


@dataclass(frozen=True, slots=True)
class Panel:
    """A laboratory order: what it is called, what it needs, what it yields, and its price in CNY."""

    key: str
    loinc: str
    en: str
    zh: str
    specimen: Concept
    members: tuple[str, ...]
    price: str


VITALS: Final = {
    item.key: item
    for item in (
        Measure("bp", "85354-9", "Blood pressure panel with all children optional", "血压"),
        Measure("systolic", "8480-6", "Systolic blood pressure", "收缩压", "mmHg", "mm[Hg]", 0, ("90", "139")),
        Measure("diastolic", "8462-4", "Diastolic blood pressure", "舒张压", "mmHg", "mm[Hg]", 0, ("60", "89")),
        Measure("heart-rate", "8867-4", "Heart rate", "心率", "次/分", "/min", 0),
        Measure("respiratory-rate", "9279-1", "Respiratory rate", "呼吸频率", "次/分", "/min", 0),
        Measure("temperature", "8310-5", "Body temperature", "体温", "℃", "Cel", 1),
        Measure("weight", "29463-7", "Body weight", "体重", "kg", "kg", 1),
        Measure("height", "8302-2", "Body height", "身高", "cm", "cm", 1),
        Measure("bmi", "39156-5", "Body mass index (BMI) [Ratio]", "体质指数", "kg/m2", "kg/m2", 1),
        Measure("head", "9843-4", "Head Occipital-frontal circumference", "头围", "cm", "cm", 1),
        Measure("spo2", "2708-6", "Oxygen saturation in Arterial blood", "血氧饱和度", "%", "%", 0, ("94", "100")),
        Measure(
            "pain",
            "72514-3",
            "Pain severity - 0-10 verbal numeric rating [Score] - Reported",
            "疼痛评分",
            "分",
            "{score}",
            0,
        ),
    )
}

OTHERS: Final = {
    item.key: item
    for item in (
        Measure("smoking", "72166-2", "Tobacco smoking status NHIS", "吸烟状况"),
        Measure(
            "phq9",
            "44261-6",
            "Patient Health Questionnaire 9 item (PHQ-9) total score [Reported]",
            "PHQ-9总分",
            "分",
            "{score}",
            0,
        ),
        Measure("fev1", "20150-9", "FEV1", "第1秒用力呼气量", "L", "L", 2, spread=0.03),
        Measure(
            "fvc",
            "19868-9",
            "Forced vital capacity [Volume] Respiratory system by Spirometry",
            "用力肺活量",
            "L",
            "L",
            2,
        ),
        Measure("fev1-fvc", "19926-5", "FEV1/FVC", "一秒率", "%", "%", 1),
        Measure(
            "pef", "19935-6", "Maximum expiratory gas flow Respiratory system airway", "呼气峰流速", "L/min", "L/min", 0
        ),
        Measure("fundal-height", "11881-0", "Uterus Fundal height Tape measure", "宫高", "cm", "cm", 0),
        Measure("fetal-heart-rate", "55283-6", "Fetal Heart rate", "胎心率", "次/分", "/min", 0, ("110", "160")),
    )
}
