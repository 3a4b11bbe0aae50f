"""Diagnoses, findings and procedures: ICD-10 (WHO edition) and SNOMED CT, English display, Chinese text."""

from __future__ import annotations

from typing import Final

from seed.base import Concept

HYPERTENSION: Final = Concept(
    "原发性高血压", "Essential hypertension", "59621000", "I10", "Essential (primary) hypertension"
)
DIABETES: Final = Concept(
    "2型糖尿病", "Diabetes mellitus type 2", "44054006", "E11.9", "Type 2 diabetes mellitus: Without complications"
)
HYPERLIPIDAEMIA: Final = Concept("高脂血症", "Hyperlipidemia", "55822004", "E78.5", "Hyperlipidaemia, unspecified")
ASTHMA: Final = Concept("支气管哮喘", "Asthma", "195967001", "J45.9", "Asthma, unspecified")
COPD: Final = Concept(
    "慢性阻塞性肺疾病",
    "Chronic obstructive lung disease",
    "13645005",
    "J44.9",
    "Chronic obstructive pulmonary disease, unspecified",
)
COPD_EXACERBATION: Final = Concept(
    "慢性阻塞性肺疾病急性加重",
    "Acute exacerbation of chronic obstructive airways disease",
    "195951007",
    "J44.1",
    "Chronic obstructive pulmonary disease with acute exacerbation, unspecified",
)
CKD_STAGE_2: Final = Concept(
    "慢性肾脏病2期", "Chronic kidney disease stage 2", "431856006", "N18.2", "Chronic kidney disease, stage 2"
)
CKD_STAGE_3: Final = Concept(
    "慢性肾脏病3期", "Chronic kidney disease stage 3", "433144002", "N18.3", "Chronic kidney disease, stage 3"
)
CKD_STAGE_4: Final = Concept(
    "慢性肾脏病4期", "Chronic kidney disease stage 4", "431857002", "N18.4", "Chronic kidney disease, stage 4"
)
DEPRESSION: Final = Concept("中度抑郁发作", "Moderate depression", "310496002", "F32.1", "Moderate depressive episode")
HYPOTHYROIDISM: Final = Concept(
    "甲状腺功能减退症", "Hypothyroidism", "40930008", "E03.9", "Hypothyroidism, unspecified"
)
GOUT: Final = Concept("痛风", "Gout", "90560007", "M10.9", "Gout, unspecified")
INSOMNIA: Final = Concept(
    "失眠", "Insomnia", "193462001", "G47.0", "Disorders of initiating and maintaining sleep [insomnias]"
)
PREGNANCY: Final = Concept(
    "正常妊娠监督", "Normal pregnancy", "72892002", "Z34.9", "Supervision of normal pregnancy, unspecified"
)
GESTATIONAL_DIABETES: Final = Concept(
    "妊娠期糖尿病", "Gestational diabetes mellitus", "11687002", "O24.4", "Diabetes mellitus arising in pregnancy"
)
FOREARM_FRACTURE: Final = Concept(
    "前臂骨折", "Fracture of forearm", "65966004", "S52.9", "Fracture of forearm, part unspecified"
)
ANKLE_FRACTURE: Final = Concept(
    "踝部骨折", "Fracture of ankle", "16114001", "S82.8", "Fractures of other parts of lower leg"
)
CLAVICLE_FRACTURE: Final = Concept("锁骨骨折", "Fracture of clavicle", "58150001", "S42.0", "Fracture of clavicle")
HIP_FRACTURE: Final = Concept(
    "股骨颈骨折", "Fracture of neck of femur", "5913000", "S72.0", "Fracture of neck of femur"
)
BREAST_CANCER: Final = Concept(
    "乳腺恶性肿瘤", "Malignant neoplasm of breast", "254837009", "C50.9", "Malignant neoplasm: Breast, unspecified"
)
COLON_CANCER: Final = Concept(
    "结肠恶性肿瘤", "Malignant neoplasm of colon", "363406005", "C18.9", "Malignant neoplasm: Colon, unspecified"
)
LUNG_CANCER: Final = Concept(
    "非小细胞肺癌",
    "Non-small cell lung cancer",
    "254637007",
    "C34.9",
    "Malignant neoplasm: Bronchus or lung, unspecified",
)
OSTEOPOROSIS: Final = Concept("骨质疏松症", "Osteoporosis", "64859006", "M81.9", "Osteoporosis, unspecified")
KNEE_OSTEOARTHRITIS: Final = Concept(
    "膝关节骨关节炎", "Osteoarthritis of knee", "239873007", "M17.9", "Gonarthrosis, unspecified"
)
PROSTATIC_HYPERPLASIA: Final = Concept(
    "前列腺增生", "Benign prostatic hyperplasia", "266569009", "N40", "Hyperplasia of prostate"
)

COLD: Final = Concept(
    "急性上呼吸道感染",
    "Upper respiratory infection",
    "54150009",
    "J06.9",
    "Acute upper respiratory infection, unspecified",
)
BRONCHITIS: Final = Concept("急性支气管炎", "Acute bronchitis", "10509002", "J20.9", "Acute bronchitis, unspecified")
GASTROENTERITIS: Final = Concept(
    "急性胃肠炎",
    "Gastroenteritis",
    "25374005",
    "A09",
    "Other gastroenteritis and colitis of infectious and unspecified origin",
)
OTITIS: Final = Concept("中耳炎", "Otitis Media", "65363002", "H66.9", "Otitis media, unspecified")
INFLUENZA: Final = Concept(
    "流行性感冒",
    "Influenza",
    "6142004",
    "J10.1",
    "Influenza with other respiratory manifestations, seasonal influenza virus identified",
)
HAND_FOOT_MOUTH: Final = Concept(
    "手足口病", "Hand foot and mouth disease", "266108008", "B08.4", "Enteroviral vesicular stomatitis with exanthem"
)
VARICELLA: Final = Concept("水痘", "Varicella", "38907003", "B01.9", "Varicella without complication")
TONSILLITIS: Final = Concept("急性扁桃体炎", "Acute tonsillitis", "17741008", "J03.9", "Acute tonsillitis, unspecified")
URINARY_INFECTION: Final = Concept(
    "尿路感染", "Urinary tract infectious disease", "68566005", "N39.0", "Urinary tract infection, site not specified"
)
APPENDICITIS: Final = Concept(
    "急性阑尾炎", "Acute appendicitis", "85189001", "K35.8", "Acute appendicitis, other and unspecified"
)
ALLERGIC_RHINITIS: Final = Concept(
    "变应性鼻炎", "Allergic rhinitis", "61582004", "J30.4", "Allergic rhinitis, unspecified"
)
ANKLE_SPRAIN: Final = Concept("踝关节扭伤", "Sprain of ankle", "44465007", "S93.4", "Sprain and strain of ankle")
CONJUNCTIVITIS: Final = Concept("结膜炎", "Conjunctivitis", "9826008", "H10.9", "Conjunctivitis, unspecified")
REFLUX: Final = Concept(
    "胃食管反流病",
    "Gastroesophageal reflux disease",
    "235595009",
    "K21.9",
    "Gastro-oesophageal reflux disease without oesophagitis",
)
BACK_PAIN: Final = Concept("腰痛", "Low back pain", "279039007", "M54.5", "Low back pain")
IRON_DEFICIENCY: Final = Concept(
    "缺铁性贫血", "Iron deficiency anemia", "87522002", "D50.9", "Iron deficiency anaemia, unspecified"
)

NORMAL_DELIVERY: Final = Concept("正常分娩", "Normal delivery procedure", "177184002")
CAESAREAN: Final = Concept("剖宫产术", "Cesarean section", "11466000")
APPENDECTOMY: Final = Concept("腹腔镜阑尾切除术", "Laparoscopic appendectomy", "6025007")
IMMOBILIZATION: Final = Concept("骨折外固定", "Bone immobilization", "274474001")
OPEN_REDUCTION: Final = Concept("骨折切开复位内固定术", "Open reduction of fracture", "86480004")
LUMPECTOMY: Final = Concept("乳腺肿物切除术", "Lumpectomy of breast", "392021009")
COLECTOMY: Final = Concept("部分结肠切除吻合术", "Partial colectomy with anastomosis", "44378008")
CHEMOTHERAPY: Final = Concept("化学治疗", "Chemotherapy", "367336001")
COLONOSCOPY: Final = Concept("结肠镜检查", "Colonoscopy", "73761001")
MAMMOGRAPHY: Final = Concept("乳腺X线摄影", "Mammography", "71651007")
ELECTROCARDIOGRAM: Final = Concept("12导联心电图", "12 lead electrocardiogram", "268400002")
ECHOCARDIOGRAPHY: Final = Concept("超声心动图", "Echocardiography", "40701008")
PRENATAL_VISIT: Final = Concept("首次产前检查", "Prenatal initial visit", "424441002")
PHYSIOTHERAPY: Final = Concept("物理治疗", "Physical therapy procedure", "91251008")
ACUPUNCTURE: Final = Concept("针刺治疗", "Acupuncture", "44868003")
TERMINAL_CARE: Final = Concept("临终关怀", "Terminal care", "182964004")
CHEST_XRAY: Final = Concept("胸部X线检查", "Plain chest X-ray", "399208008")

CHECK_UP: Final = Concept("健康检查", "Encounter for check up", "185349003")
FOLLOW_UP: Final = Concept("复诊", "Follow-up encounter", "390906007")
PROBLEM: Final = Concept("初诊", "Encounter for problem", "185347001")
EMERGENCY: Final = Concept("急诊就诊", "Emergency room admission", "50849002")
ADMISSION: Final = Concept("住院", "Admission to hospital", "32485007")

NEVER_SMOKED: Final = Concept("从不吸烟", "Never smoked tobacco", "266919005")
EX_SMOKER: Final = Concept("已戒烟", "Ex-smoker", "8517006")
SMOKER: Final = Concept("每日吸烟", "Smokes tobacco daily", "449868002")

POSITIVE: Final = Concept("阳性", "Positive", "10828004")
NEGATIVE: Final = Concept("阴性", "Negative", "260385009")
VENOUS_BLOOD: Final = Concept("静脉血", "Venous blood specimen", "122555007")
URINE: Final = Concept("尿液", "Urine specimen", "122575003")
SWAB: Final = Concept("鼻咽拭子", "Nasopharyngeal swab", "258500001")
