"""Long-lasting problems that are found once and then kept in check by a drug and a visit now and then."""

from __future__ import annotations

from typing import ClassVar

from seed.base import Concept, add_years
from seed.chart import Chart
from seed.conditions.course import Course, State
from seed.observations import laboratory, measure, vital_signs
from seed.prescriptions import prescribe
from seed.terminology import diagnoses
from seed.visit import Visit


class _Maintained(Course):
    """Subclasses name the problem, the drugs and the tests; `months` is how long ago it may have begun."""

    diagnosis: ClassVar[Concept]
    complaint: ClassVar[str]
    advice: ClassVar[str]
    drugs: ClassVar[tuple[tuple[str, int], ...]]
    panels: ClassVar[tuple[str, ...]] = ()
    vitals: ClassVar[tuple[str, ...]] = ("bp",)
    years: ClassVar[int] = 2
    STATES: ClassVar = {
        "found": State((45, 70), (("kept", 1),)),
        "kept": State((150, 230), (("kept", 1),)),
    }

    def on_found(self, visit: Visit) -> None:
        """Diagnosis, tests, drugs."""
        visit.complain(self.complaint)
        vital_signs(visit, *self.vitals, "size")
        onset = add_years(visit.day, -self.rng.randint(0, self.years))
        condition = visit.diagnose(self.diagnosis, onset=max(onset, self.person.birth))
        for panel in self.panels:
            laboratory(visit, panel)
        prescribe(visit, condition, *self.drugs)
        self.treat()
        visit.say("advice", self.advice)

    def on_kept(self, visit: Visit) -> None:
        """Refill."""
        visit.complain(f"{self.diagnosis.zh}复诊")
        vital_signs(visit, *self.vitals)
        condition = visit.diagnose(self.diagnosis)
        for panel in self.panels:
            if self.chart.due(panel, visit.day, 150):
                laboratory(visit, panel)
        prescribe(visit, condition, *self.drugs)
        self.treat()

    def treat(self) -> None:
        """What treatment does to the body."""


class Thyroid(_Maintained):
    """Hypothyroidism on levothyroxine."""

    department = "endocrinology"
    diagnosis = diagnoses.HYPOTHYROIDISM
    complaint = "乏力、怕冷半年"
    advice = "晨起空腹服药，定期复查甲状腺功能。"
    drugs = (("levothyroxine", 100),)
    panels = ("thyroid",)
    vitals = ("bp", "heart-rate")

    def __init__(self, chart: Chart, argument: str) -> None:
        super().__init__(chart, argument)
        self.body.lab["tsh"], self.body.lab["ft4"] = 14.5, 9.6

    def treat(self) -> None:
        """TSH comes down."""
        self.body.toward("tsh", 2.4, 0.75)
        self.body.toward("ft4", 16.5, 0.75)


class Prostate(_Maintained):
    """Benign prostatic hyperplasia."""

    department = "surgery"
    diagnosis = diagnoses.PROSTATIC_HYPERPLASIA
    complaint = "夜尿增多、排尿费力1年"
    advice = "睡前少饮水。"
    drugs = (("tamsulosin", 60),)
    panels = ("urine",)


class Osteoporosis(_Maintained):
    """Osteoporosis on alendronate and calcium."""

    department = "orthopaedics"
    diagnosis = diagnoses.OSTEOPOROSIS
    complaint = "腰背痛、身高变矮"
    advice = "补钙，适量日照，预防跌倒。"
    drugs = (("alendronate", 84), ("calcium", 60))


class Knee(_Maintained):
    """Osteoarthritis of the knee."""

    department = "orthopaedics"
    diagnosis = diagnoses.KNEE_OSTEOARTHRITIS
    complaint = "双膝关节疼痛、上下楼加重"
    advice = "减轻体重，股四头肌训练。"
    drugs = (("paracetamol", 14),)
    vitals = ()
    years = 5

    def on_kept(self, visit: Visit) -> None:
        """Pain, and physiotherapy."""
        super().on_kept(visit)
        measure(visit, "pain", self.rng.randint(2, 5))
        visit.procedure(diagnoses.PHYSIOTHERAPY, 0.2)


class Reflux(_Maintained):
    """Gastro-oesophageal reflux."""

    department = "general"
    diagnosis = diagnoses.REFLUX
    complaint = "反酸、烧心3个月"
    advice = "餐后勿平卧，少食甜腻。"
    drugs = (("omeprazole", 28),)


class Rhinitis(_Maintained):
    """Allergic rhinitis, in spring and autumn."""

    department = "general"
    diagnosis = diagnoses.ALLERGIC_RHINITIS
    complaint = "鼻痒、喷嚏、清涕反复发作"
    advice = "避免接触花粉。"
    drugs = (("cetirizine", 24),)
    vitals = ()
    years = 6


class Anaemia(_Maintained):
    """Iron deficiency in a young woman."""

    department = "general"
    diagnosis = diagnoses.IRON_DEFICIENCY
    complaint = "乏力、面色苍白2个月"
    advice = "增加含铁食物。"
    drugs = (("iron", 60),)
    panels = ("cbc", "ferritin")
    STATES: ClassVar = {
        "found": State((45, 70), (("kept", 1),)),
        "kept": State((80, 110), (("kept", 0.5), ("over", 0.5))),
        "over": State(),
    }

    def __init__(self, chart: Chart, argument: str) -> None:
        super().__init__(chart, argument)
        self.body.lab["hgb"], self.body.lab["ferritin"] = 92, 6

    def treat(self) -> None:
        """Haemoglobin and ferritin rise."""
        self.body.toward("hgb", 128, 0.6)
        self.body.toward("ferritin", 48, 0.5)

    def on_over(self, visit: Visit) -> None:
        """Closed."""
        visit.complain("贫血复查")
        visit.diagnose(self.diagnosis)
        laboratory(visit, "cbc")
        visit.resolve(self.diagnosis)


class Insomnia(Course):
    """Chinese medicine: a decoction of three herbs, needles, then pills."""

    department = "tcm"
    STATES: ClassVar = {
        "found": State((7, 12), (("needles", 1),)),
        "needles": State((14, 21), (("needles", 0.3), ("pills", 0.7))),
        "pills": State((120, 180), (("pills", 0.85), ("needles", 0.15))),
    }

    def on_found(self, visit: Visit) -> None:
        """A decoction."""
        visit.complain("入睡困难、多梦3个月")
        visit.say("findings", "舌淡红，苔薄白，脉细。")
        vital_signs(visit, "bp", "heart-rate", "size")
        condition = visit.diagnose(diagnoses.INSOMNIA)
        prescribe(visit, condition, ("suanzaoren", 7), ("fushen", 7), ("gancao", 7))
        visit.say("advice", "睡前避免饮茶，规律作息。")

    def on_needles(self, visit: Visit) -> None:
        """Acupuncture and the decoction again."""
        visit.complain("失眠复诊")
        condition = visit.diagnose(diagnoses.INSOMNIA)
        visit.procedure(diagnoses.ACUPUNCTURE, 0.2)
        prescribe(visit, condition, ("suanzaoren", 7), ("fushen", 7), ("gancao", 7))

    def on_pills(self, visit: Visit) -> None:
        """Pills."""
        visit.complain("失眠复诊取药")
        vital_signs(visit, "bp")
        condition = visit.diagnose(diagnoses.INSOMNIA)
        prescribe(visit, condition, ("liuwei", 25))
