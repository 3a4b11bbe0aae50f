"""The drugs of the demo hospital as a table: ATC codes (WHO), forms, strengths, usual doses.

Doses are the usual ones of adults (paediatric forms: of children); prices are invented.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from seed.base import JSON, SNOMED, coding, concept

#: key|中文通用名|English name|ATC|form|strength|pack|price|route|frequency|dose|class|control
_TABLE: Final = """
amlodipine|苯磺酸氨氯地平片|amlodipine|C08CA01|tablet|5 mg|28|25.90|oral|QD|1|抗高血压药|none
valsartan|缬沙坦胶囊|valsartan|C09CA03|capsule|80 mg|28|36.50|oral|QD|1|抗高血压药|none
hydrochlorothiazide|氢氯噻嗪片|hydrochlorothiazide|C03AA03|tablet|25 mg|100|12.80|oral|QD|0.5|利尿药|none
metoprolol|琥珀酸美托洛尔缓释片|metoprolol|C07AB02|tablet|47.5 mg|28|32.40|oral|QD|1|抗高血压药|none
atorvastatin|阿托伐他汀钙片|atorvastatin|C10AA05|tablet|20 mg|28|42.60|oral|BED|1|调脂药|none
rosuvastatin|瑞舒伐他汀钙片|rosuvastatin|C10AA07|tablet|10 mg|28|39.90|oral|BED|1|调脂药|none
aspirin|阿司匹林肠溶片|acetylsalicylic acid|B01AC06|tablet|100 mg|30|15.60|oral|QD|1|抗血小板药|none
metformin|盐酸二甲双胍片|metformin|A10BA02|tablet|500 mg|60|19.90|oral|BID|1|降糖药|none
gliclazide|格列齐特缓释片|gliclazide|A10BB09|tablet|30 mg|60|48.20|oral|QD|1|降糖药|none
dapagliflozin|达格列净片|dapagliflozin|A10BK01|tablet|10 mg|30|128.70|oral|QD|1|降糖药|none
sitagliptin|磷酸西格列汀片|sitagliptin|A10BH01|tablet|100 mg|28|152.00|oral|QD|1|降糖药|none
glargine|甘精胰岛素注射液|insulin glargine|A10AE04|injection|300 IU|300|118.30|subcutaneous|BED|12|降糖药|none
salbutamol|硫酸沙丁胺醇吸入气雾剂|salbutamol|R03AC02|inhaler|100 ug|200|23.50|inhaled|PRN|2|平喘药|none
budesonide-formoterol|布地福莫吸入剂|formoterol+budesonide|R03AK07|inhaler|160 ug|60|156.80|inhaled|BID|1|平喘药|none
tiotropium|噻托溴铵吸入粉雾剂|tiotropium bromide|R03BB04|inhaler|18 ug|30|198.40|inhaled|QD|1|平喘药|none
montelukast|孟鲁司特钠咀嚼片|montelukast|R03DC03|tablet|5 mg|30|58.90|oral|BED|1|平喘药|none
prednisone|醋酸泼尼松片|prednisone|H02AB07|tablet|5 mg|100|18.40|oral|QD|6|糖皮质激素|none
amoxicillin|阿莫西林胶囊|amoxicillin|J01CA04|capsule|500 mg|24|13.80|oral|TID|1|抗菌药|none
amoxicillin-child|阿莫西林颗粒|amoxicillin|J01CA04|granules|125 mg|24|16.20|oral|TID|2|抗菌药|none
azithromycin|阿奇霉素片|azithromycin|J01FA10|tablet|250 mg|6|28.50|oral|QD|2|抗菌药|none
azithromycin-child|阿奇霉素干混悬剂|azithromycin|J01FA10|granules|100 mg|6|26.90|oral|QD|2|抗菌药|none
levofloxacin|左氧氟沙星片|levofloxacin|J01MA12|tablet|500 mg|7|33.60|oral|QD|1|抗菌药|none
ibuprofen-child|布洛芬混悬液|ibuprofen|M01AE01|suspension|20 mg/mL|100|18.90|oral|PRN|5|解热镇痛药|none
paracetamol|对乙酰氨基酚片|paracetamol|N02BE01|tablet|500 mg|20|9.90|oral|PRN|1|解热镇痛药|none
ibuprofen|布洛芬缓释胶囊|ibuprofen|M01AE01|capsule|300 mg|20|17.80|oral|BID|1|解热镇痛药|none
oseltamivir|磷酸奥司他韦胶囊|oseltamivir|J05AH02|capsule|75 mg|10|98.00|oral|BID|1|抗病毒药|none
oseltamivir-child|磷酸奥司他韦颗粒|oseltamivir|J05AH02|granules|15 mg|20|86.40|oral|BID|2|抗病毒药|none
cetirizine|盐酸西替利嗪片|cetirizine|R06AE07|tablet|10 mg|24|21.60|oral|QD|1|抗组胺药|none
omeprazole|奥美拉唑肠溶胶囊|omeprazole|A02BC01|capsule|20 mg|14|29.70|oral|QD|1|抑酸药|none
smectite|蒙脱石散|diosmectite|A07BC05|powder|3 g|10|15.50|oral|TID|1|止泻药|none
rehydration|口服补液盐散(Ⅲ)|oral rehydration salts|A07CA|powder|5.125 g|6|22.30|oral|PRN|1|补液药|none
sertraline|盐酸舍曲林片|sertraline|N06AB06|tablet|50 mg|28|76.50|oral|QD|1|抗抑郁药|none
escitalopram|草酸艾司西酞普兰片|escitalopram|N06AB10|tablet|10 mg|28|112.40|oral|QD|1|抗抑郁药|none
zolpidem|酒石酸唑吡坦片|zolpidem|N05CF02|tablet|10 mg|7|35.20|oral|BED|1|镇静催眠药|psychotropic-2
levothyroxine|左甲状腺素钠片|levothyroxine sodium|H03AA01|tablet|50 ug|100|31.80|oral|AM|1|甲状腺激素|none
folic-acid|叶酸片|folic acid|B03BB01|tablet|0.4 mg|93|25.80|oral|QD|1|维生素|none
iron|硫酸亚铁片|ferrous sulfate|B03AA07|tablet|300 mg|100|14.60|oral|QD|1|抗贫血药|none
calcium|碳酸钙D3片|calcium with vitamin D|A12AX|tablet|600 mg|60|45.90|oral|QD|1|矿物质|none
alendronate|阿仑膦酸钠片|alendronic acid|M05BA04|tablet|70 mg|4|88.80|oral|WK|1|抗骨质疏松药|none
febuxostat|非布司他片|febuxostat|M04AA03|tablet|40 mg|14|52.70|oral|QD|1|抗痛风药|none
colchicine|秋水仙碱片|colchicine|M04AC01|tablet|0.5 mg|20|27.30|oral|QD|1|抗痛风药|none
tamoxifen|枸橼酸他莫昔芬片|tamoxifen|L02BA01|tablet|10 mg|60|58.00|oral|BID|1|抗肿瘤药|none
capecitabine|卡培他滨片|capecitabine|L01BC06|tablet|500 mg|84|245.60|oral|BID|3|抗肿瘤药|none
tamsulosin|盐酸坦索罗辛缓释胶囊|tamsulosin|G04CA02|capsule|0.2 mg|10|41.20|oral|BED|1|泌尿系统药|none
morphine|硫酸吗啡缓释片|morphine|N02AA01|tablet|10 mg|10|32.90|oral|BID|1|镇痛药|narcotic
suanzaoren|炒酸枣仁|Ziziphi spinosae semen, fried|-|herb|-|1|1.86|oral|BID|15|中药饮片|none
fushen|茯神|Poria cum radix pini|-|herb|-|1|0.28|oral|BID|12|中药饮片|none
gancao|炙甘草|Glycyrrhizae radix praeparata|-|herb|-|1|0.15|oral|BID|6|中药饮片|none
liuwei|六味地黄丸|Liuwei Dihuang pills|-|pill|0.18 g|200|28.60|oral|TID|8|中成药|none
"""

#: key|contraindication in the words of the package insert
_CONTRAINDICATIONS: Final = """
amlodipine|对二氢吡啶类钙拮抗剂过敏者禁用
valsartan|妊娠期妇女禁用
hydrochlorothiazide|无尿者禁用
metoprolol|病态窦房结综合征患者禁用
atorvastatin|活动性肝病、妊娠期妇女禁用
rosuvastatin|活动性肝病、妊娠期妇女禁用
aspirin|活动性消化性溃疡患者禁用
metformin|严重肾功能不全患者禁用
gliclazide|1型糖尿病患者禁用
dapagliflozin|透析患者禁用
sitagliptin|对本品过敏者禁用
glargine|低血糖发作时禁用
salbutamol|对本品过敏者禁用
budesonide-formoterol|对本品过敏者禁用
tiotropium|对阿托品类过敏者禁用
montelukast|对本品过敏者禁用
prednisone|全身性真菌感染患者禁用
amoxicillin|青霉素过敏者禁用
amoxicillin-child|青霉素过敏者禁用
azithromycin|对大环内酯类过敏者禁用
azithromycin-child|对大环内酯类过敏者禁用
levofloxacin|18岁以下、妊娠期妇女禁用
ibuprofen-child|对阿司匹林过敏的哮喘患者禁用
paracetamol|严重肝功能不全患者禁用
ibuprofen|活动性消化性溃疡患者禁用
oseltamivir|对本品过敏者禁用
oseltamivir-child|对本品过敏者禁用
cetirizine|严重肾功能不全患者禁用
omeprazole|对本品过敏者禁用
smectite|肠梗阻患者禁用
rehydration|少尿或无尿者禁用
sertraline|禁与单胺氧化酶抑制剂合用
escitalopram|禁与单胺氧化酶抑制剂合用
zolpidem|重症肌无力、睡眠呼吸暂停患者禁用
levothyroxine|未经治疗的肾上腺功能不全患者禁用
folic-acid|对本品过敏者禁用
iron|血色病患者禁用
calcium|高钙血症患者禁用
alendronate|食管动力障碍患者禁用
febuxostat|禁与硫唑嘌呤合用
colchicine|严重肾功能不全患者禁用
tamoxifen|妊娠期妇女禁用
capecitabine|妊娠期妇女禁用
tamsulosin|对本品过敏者禁用
morphine|呼吸抑制患者禁用
gancao|湿盛胀满者慎用
liuwei|感冒发热患者不宜服用
"""

#: form -> (Chinese, SNOMED CT or None, English, unit in Chinese, UCUM)
FORMS: Final = {
    "tablet": ("片剂", "385055001", "Tablet dose form", "片", "{tbl}"),
    "capsule": ("胶囊剂", "385049006", "Capsule", "粒", "{cap}"),
    "granules": ("颗粒剂", "385043007", "Granules", "袋", "{bag}"),
    "powder": ("散剂", None, "Powder", "袋", "{bag}"),
    "suspension": ("口服混悬液", "385024007", "Oral suspension", "mL", "mL"),
    "inhaler": ("吸入剂", "420317006", "Inhaler", "吸", "{puff}"),
    "injection": ("注射液", None, "Solution for injection", "IU", "[iU]"),
    "herb": ("中药饮片", None, "Prepared herb", "g", "g"),
    "pill": ("丸剂", None, "Pill", "丸", "{pill}"),
}

ROUTES: Final = {
    "oral": concept(coding(SNOMED, "26643006", "Oral route"), text="口服"),
    "inhaled": concept(coding(SNOMED, "447694001", "Respiratory tract route"), text="吸入"),
    "subcutaneous": concept(coding(SNOMED, "34206005", "Subcutaneous route"), text="皮下注射"),
}

#: code -> (Chinese, times per period, period, unit, when)
FREQUENCIES: Final[dict[str, tuple[str, int, int, str, str | None]]] = {
    "QD": ("每日1次", 1, 1, "d", None),
    "BID": ("每日2次", 2, 1, "d", None),
    "TID": ("每日3次", 3, 1, "d", None),
    "AM": ("每日早晨1次", 1, 1, "d", "MORN"),
    "BED": ("每晚睡前1次", 1, 1, "d", "HS"),
    "WK": ("每周1次", 1, 1, "wk", None),
    "PRN": ("必要时", 1, 1, "d", None),
}


@dataclass(frozen=True, slots=True)
class Drug:
    """One product; `dose` is in base units (tablets, puffs, mL, IU, g), as is stock."""

    number: int
    key: str
    zh: str
    en: str
    atc: str | None
    form: str
    strength: str | None
    pack: int
    price: Decimal
    route: str
    frequency: str
    dose: Decimal
    category: str
    control: str
    contraindication: str | None

    @property
    def code(self) -> str:
        """Drug code of the hospital."""
        return f"YP{self.number:04d}"

    @property
    def reference(self) -> str:
        """The product's Medication."""
        return f"Medication/drug-{self.key}"

    @property
    def is_chinese(self) -> bool:
        """Whether it belongs on a prescription of Chinese medicine."""
        return self.form in ("herb", "pill")

    @property
    def unit(self) -> tuple[str, str]:
        """Base unit, as people write it and in UCUM."""
        return FORMS[self.form][3], FORMS[self.form][4]

    @property
    def specification(self) -> str:
        """规格: strength and pack."""
        return f"{self.strength}×{self.pack}{self.unit[0]}" if self.strength else f"每{self.unit[0]}"

    def form_concept(self) -> JSON:
        """The dose form."""
        chinese, snomed, english, _, _ = FORMS[self.form]
        return concept(*([coding(SNOMED, snomed, english)] if snomed else []), text=chinese)


def _parse() -> dict[str, Drug]:
    contraindications = dict(row.split("|") for row in _CONTRAINDICATIONS.strip().splitlines())
    out = {}
    for number, row in enumerate(_TABLE.strip().splitlines(), start=1):
        key, zh, en, atc, form, strength, pack, price, route, frequency, dose, category, control = row.split("|")
        out[key] = Drug(
            number,
            key,
            zh,
            en,
            None if atc == "-" else atc,
            form,
            None if strength == "-" else strength,
            int(pack),
            Decimal(price),
            route,
            frequency,
            Decimal(dose),
            category,
            control,
            contraindications.get(key),
        )
    return out


DRUGS: Final = _parse()
