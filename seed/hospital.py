"""The hospital: organizations, departments, rooms and services. Kernel K4."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from seed.base import (
    JSON,
    SNOMED,
    coding,
    concept,
    extension,
    hl7,
    identifier,
    present,
    reference,
    resource,
    sid,
    structure,
)
from seed.identifiers import fixed_line, social_credit_code
from seed.terminology.local import local, local_concept

HOSPITAL: Final = "Organization/hestia-hospital"
PHARMACY: Final = "Location/loc-pharmacy"
WAREHOUSE: Final = "Location/loc-warehouse"
PHARMACY_ORGANIZATION: Final = "Organization/dept-pharmacy"
INSURER: Final = "Organization/insurer-basic"
REGULATOR: Final = "Organization/drug-regulator"
SUPPLIER: Final = "Organization/supplier-1"
BLURB: Final = "示例数据：本机构为软件演示而虚构。"


@dataclass(frozen=True, slots=True)
class Department:
    """A department; `specialty` is its SNOMED CT code where one is known, `parent` the organization above."""

    key: str
    zh: str
    en: str
    specialty: str | None
    parent: str = "hestia-hospital"
    clinic: bool = True

    @property
    def reference(self) -> str:
        """Its Organization."""
        return f"Organization/dept-{self.key}"

    def specialty_concept(self) -> JSON:
        """As practice setting."""
        return concept(*([coding(SNOMED, self.specialty, self.en)] if self.specialty else []), text=self.zh)


DEPARTMENTS: Final = {
    item.key: item
    for item in (
        Department("cardiology", "心血管内科", "Cardiology", "394579002"),
        Department("endocrinology", "内分泌科", "Endocrinology", "394583002"),
        Department("respiratory", "呼吸与危重症医学科", "Pulmonary medicine", "418112009"),
        Department("nephrology", "肾内科", "Nephrology", "394589003"),
        Department("oncology", "肿瘤科", "Clinical oncology", "394592004"),
        Department("obstetrics", "妇产科", "Obstetrics and gynecology", "394585009"),
        Department("paediatrics", "儿科", "Pediatric specialty", "394537008"),
        Department("orthopaedics", "骨科", "Surgery-Trauma and orthopedics", "394801008"),
        Department("surgery", "普通外科", "Surgery-general", "394609007"),
        Department("psychiatry", "精神心理科", "Psychiatry", "394587001"),
        Department("general", "全科医学科", "General practice", "394814009", "branch-east"),
        Department("tcm", "中医科", "Traditional Chinese medicine", None, "branch-east"),
        Department("prevention", "预防保健科", "Prevention and health care", None, "branch-east"),
        Department("emergency", "急诊医学科", "Emergency medicine", None),
        Department("laboratory", "检验科", "Clinical laboratory", None, clinic=False),
        Department("imaging", "医学影像科", "Medical imaging", None, clinic=False),
        Department("pharmacy", "药学部", "Pharmacy", None, clinic=False),
    )
}

#: Online consultation is offered by these departments; department -> mode.
ONLINE: Final = {
    "endocrinology": "video",
    "paediatrics": "video",
    "psychiatry": "video",
    "cardiology": "text",
    "general": "phone",
}

_PLACE: Final = {
    "hestia-hospital": ("示例路1号", "100000", "北京市", "海淀区"),
    "branch-east": ("示例东路8号", "100000", "北京市", "朝阳区"),
    "branch-online": ("示例路1号信息楼", "100000", "北京市", "海淀区"),
}


def _address(key: str) -> list[JSON]:
    line, postal_code, city, district = _PLACE[key]
    return [
        present(
            use="work",
            text=f"{city}{district}{line}",
            line=[line],
            city=city,
            district=district,
            state=city,
            postalCode=postal_code,
            country="CN",
        )
    ]


_KINDS: Final = {
    "prov": "Healthcare Provider",
    "dept": "Hospital Department",
    "bus": "Non-Healthcare Business or Corporation",
    "pay": "Payer",
    "ins": "Insurance Company",
    "govt": "Government",
}


def _organization(key: str, kind: str, name: str, english: str, **more: object) -> JSON:
    display = _KINDS[kind]
    return resource(
        "Organization",
        key,
        **{
            "extension": more.pop("extension", None),
            "identifier": more.pop("identifier", None),
            "active": True,
            "type": [concept(coding(hl7("organization-type"), kind, display))],
            "name": name,
            "alias": [english],
            **more,
        },
    )


def organizations() -> Iterator[JSON]:
    """Hospital, branches, departments, and the firms around them; parents first."""
    description = structure("organization-description")
    yield _organization(
        "hestia-hospital",
        "prov",
        "赫斯提亚示例医院",
        "Hestia Demonstration Hospital",
        extension=[
            extension("http://hl7.org/fhir/StructureDefinition/tz-code", valueCode="Asia/Shanghai"),
            extension(description, valueMarkdown=f"{BLURB}三级综合医院，设十七个科室。"),
        ],
        identifier=[identifier(sid("uscc"), social_credit_code(1), text="统一社会信用代码")],
        telecom=[
            {"system": "phone", "value": fixed_line(1), "use": "work"},
            {"system": "url", "value": "https://hestia.example"},
        ],
        address=_address("hestia-hospital"),
    )
    for number, (key, zh, english) in enumerate(
        (
            ("branch-east", "赫斯提亚示例医院东院区", "Hestia East Campus"),
            ("branch-online", "赫斯提亚示例互联网医院", "Hestia Online"),
        ),
        start=2,
    ):
        yield _organization(
            key,
            "prov",
            zh,
            english,
            extension=[extension(description, valueMarkdown=BLURB)],
            telecom=[{"system": "phone", "value": fixed_line(number), "use": "work"}],
            address=_address(key),
            partOf=reference(HOSPITAL, "赫斯提亚示例医院"),
        )
    for number, item in enumerate(DEPARTMENTS.values(), start=10):
        yield _organization(
            f"dept-{item.key}",
            "dept",
            item.zh,
            item.en,
            extension=[extension(description, valueMarkdown=f"{BLURB}{item.zh}。")],
            identifier=[identifier(sid("department-no"), f"D{number:02d}")],
            telecom=[{"system": "phone", "value": fixed_line(number), "use": "work"}],
            partOf=reference(f"Organization/{item.parent}"),
        )
    firms = (
        ("insurer-basic", "pay", "示例市医疗保障局", "Demo Basic Medical Insurance Fund"),
        ("insurer-commercial", "ins", "示例商业健康保险公司", "Demo Health Insurance Company"),
        ("drug-regulator", "govt", "示例药品监督管理局", "Demo Drug Regulator"),
        ("supplier-1", "bus", "示例医药商业公司", "Demo Drug Wholesaler"),
        ("maker-1", "bus", "示例第一制药厂", "Demo Pharmaceutical Works No. 1"),
        ("maker-2", "bus", "示例生物制药公司", "Demo Biopharmaceuticals"),
        ("maker-3", "bus", "示例中药厂", "Demo Chinese Medicine Works"),
        ("pharmacy-outside", "bus", "示例社会药房", "Demo Community Pharmacy"),
    )
    for number, (key, kind, zh, english) in enumerate(firms, start=40):
        yield _organization(
            key,
            kind,
            zh,
            english,
            identifier=[
                identifier(
                    sid("uscc"), social_credit_code(number, "3" if kind == "bus" else "1"), text="统一社会信用代码"
                )
            ],
            telecom=[{"system": "phone", "value": fixed_line(number), "use": "work"}],
        )


def _location(
    key: str, name: str, physical: tuple[str, str], kind: JSON | None, owner: str, part_of: str | None
) -> JSON:
    return resource(
        "Location",
        key,
        status="active",
        name=name,
        mode="instance",
        type=[kind] if kind else None,
        physicalType=concept(coding(hl7("location-physical-type"), *physical)),
        managingOrganization=reference(owner),
        partOf=reference(part_of) if part_of else None,
    )


def locations() -> Iterator[JSON]:
    """Buildings, a consulting room per clinic doctor's department (two each), wards, pharmacy and warehouse."""
    building, room, ward, site = ("bu", "Building"), ("ro", "Room"), ("wa", "Ward"), ("si", "Site")
    yield _location("loc-main", "门诊楼", building, None, HOSPITAL, None) | {
        "position": {"longitude": 116, "latitude": 40},
        "address": _address("hestia-hospital")[0],
    }
    yield _location("loc-east", "东院区门诊楼", building, None, "Organization/branch-east", None)
    for item in DEPARTMENTS.values():
        if item.clinic:
            building_key = "loc-east" if item.parent == "branch-east" else "loc-main"
            for number in (1, 2):
                name = f"{item.zh}{number}诊室"
                yield _location(
                    f"loc-{item.key}-{number}", name, room, None, item.reference, f"Location/{building_key}"
                )
    for key in ("cardiology", "respiratory", "obstetrics", "orthopaedics", "surgery", "oncology"):
        name = f"{DEPARTMENTS[key].zh}病房"
        yield _location(f"loc-ward-{key}", name, ward, None, DEPARTMENTS[key].reference, "Location/loc-main")
    yield _location(
        "loc-laboratory",
        "检验科",
        room,
        local_concept("service-kind", "laboratory"),
        "Organization/dept-laboratory",
        "Location/loc-main",
    )
    yield _location(
        "loc-imaging",
        "影像科",
        room,
        local_concept("service-kind", "imaging"),
        "Organization/dept-imaging",
        "Location/loc-main",
    )
    yield _location(
        "loc-pharmacy",
        "门诊药房",
        room,
        local_concept("service-kind", "pharmacy"),
        PHARMACY_ORGANIZATION,
        "Location/loc-main",
    )
    yield _location(
        "loc-warehouse", "药库", site, local_concept("service-kind", "drug-warehouse"), PHARMACY_ORGANIZATION, None
    )


def services() -> Iterator[JSON]:
    """What can be booked: a clinic per clinical department, online consultation where it is offered, check-ups."""
    everyday = [
        {
            "daysOfWeek": ["mon", "tue", "wed", "thu", "fri"],
            "availableStartTime": "08:00:00",
            "availableEndTime": "17:00:00",
        }
    ]
    for item in DEPARTMENTS.values():
        if not item.clinic:
            continue
        emergency = item.key == "emergency"
        kind = "emergency" if emergency else "immunization" if item.key == "prevention" else "general-clinic"
        yield resource(
            "HealthcareService",
            f"svc-{item.key}",
            active=True,
            providedBy=reference(item.reference, item.zh),
            category=[local_concept("service-kind", kind)],
            type=[concept(text=f"{item.zh}门诊")],
            specialty=[item.specialty_concept()],
            location=[reference(f"Location/loc-{item.key}-1"), reference(f"Location/loc-{item.key}-2")],
            name=f"{item.zh}{'急诊' if emergency else '门诊'}",
            comment=BLURB,
            appointmentRequired=not emergency,
            availableTime=[{"daysOfWeek": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "allDay": True}]
            if emergency
            else everyday,
        )
    for key, mode in ONLINE.items():
        item = DEPARTMENTS[key]
        yield resource(
            "HealthcareService",
            f"svc-online-{key}",
            active=True,
            providedBy=reference("Organization/branch-online"),
            category=[local_concept("service-kind", "online")],
            type=[local_concept("consult-mode", mode)],
            specialty=[item.specialty_concept()],
            name=f"{item.zh}线上问诊",
            comment=BLURB,
            appointmentRequired=True,
        )
    yield resource(
        "HealthcareService",
        "svc-check-up",
        active=True,
        providedBy=reference("Organization/dept-general"),
        category=[concept(local("service-kind", "check-up"), text="体检")],
        name="健康体检",
        appointmentRequired=True,
        availableTime=everyday,
    )
