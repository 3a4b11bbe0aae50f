"""The code systems of kernels 1.30, each with a ValueSet of all its codes; references elsewhere use `local()`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from seed.base import CANONICAL_BASE, JSON, code_system, coding, concept, present, resource

#: name -> (title, Chinese title, {code: (English, Chinese)})
SYSTEMS: Final[dict[str, tuple[str, str, dict[str, tuple[str, str]]]]] = {
    "doctor-title": (
        "Doctor titles",
        "医师职称",
        {
            "resident": ("Resident physician", "住院医师"),
            "attending": ("Attending physician", "主治医师"),
            "associate-chief": ("Associate chief physician", "副主任医师"),
            "chief": ("Chief physician", "主任医师"),
        },
    ),
    "consult-mode": (
        "Consultation modes",
        "问诊方式",
        {"text": ("Text and pictures", "图文问诊"), "video": ("Video", "视频问诊"), "phone": ("Phone", "电话问诊")},
    ),
    "service-kind": (
        "Kinds of service",
        "服务类别",
        {
            "general-clinic": ("General clinic", "普通门诊"),
            "expert-clinic": ("Expert clinic", "专家门诊"),
            "emergency": ("Emergency", "急诊"),
            "inpatient": ("Inpatient care", "住院"),
            "online": ("Online consultation", "线上问诊"),
            "check-up": ("Health check-up", "体检"),
            "immunization": ("Immunization", "预防接种"),
            "laboratory": ("Laboratory", "检验"),
            "imaging": ("Imaging", "影像检查"),
            "examination": ("Examination", "功能检查"),
            "remote-consultation": ("Remote consultation", "远程会诊"),
            "pharmacy": ("Pharmacy", "药房"),
            "drug-warehouse": ("Drug warehouse", "药库"),
        },
    ),
    "prescription-type": (
        "Prescription types",
        "处方类型",
        {"western": ("Western medicine", "西药"), "chinese": ("Chinese medicine", "中药")},
    ),
    "task-type": (
        "Task types",
        "任务类型",
        {
            "identity-review": ("Identity review", "实名审核"),
            "credential-review": ("Credential review", "资质审核"),
            "prescription-review": ("Prescription review", "处方审核"),
            "special-prescription-review": ("Review of a controlled drug", "特殊处方审核"),
            "fulfil": ("Fulfil", "调配"),
            "stock-in-review": ("Review of stock received", "入库审核"),
            "stock-out-review": ("Review of stock issued", "出库审核"),
            "refund-review": ("Refund review", "退款审核"),
            "follow-up": ("Follow-up", "随访"),
            "feedback-handling": ("Feedback handling", "反馈处理"),
        },
    ),
    "review-outcome": (
        "Review outcomes",
        "审核结果",
        {"approved": ("Approved", "通过"), "rejected": ("Rejected", "驳回")},
    ),
    "movement-type": (
        "Stock movements",
        "库存变动类型",
        {
            "purchase-in": ("Purchase", "采购入库"),
            "return-in": ("Return from a patient", "退药入库"),
            "adjust-in": ("Adjustment upwards", "盘盈入库"),
            "transfer-in": ("Transfer in", "调拨入库"),
            "return-supplier-out": ("Return to the supplier", "退货出库"),
            "scrap-out": ("Scrapped", "报损出库"),
            "adjust-out": ("Adjustment downwards", "盘亏出库"),
            "transfer-out": ("Transfer out", "调拨出库"),
        },
    ),
    "data-source": (
        "Sources of health data",
        "数据来源",
        {
            "manual": ("Typed in", "手工录入"),
            "device": ("Device", "设备采集"),
            "platform": ("Other platform", "平台同步"),
        },
    ),
    "drug-control-class": (
        "Control classes of drugs",
        "药品管制类别",
        {
            "none": ("Ordinary", "普通"),
            "psychotropic-1": ("Psychotropic, class I", "第一类精神药品"),
            "psychotropic-2": ("Psychotropic, class II", "第二类精神药品"),
            "narcotic": ("Narcotic", "麻醉药品"),
            "toxic": ("Toxic", "医疗用毒性药品"),
        },
    ),
    "invoice-type": (
        "Invoice types",
        "账单类型",
        {
            "registration": ("Registration", "挂号"),
            "consultation": ("Online consultation", "问诊"),
            "pharmacy": ("Pharmacy", "药品"),
            "lab": ("Laboratory and examinations", "检验检查"),
            "credit-note": ("Credit note", "退款"),
        },
    ),
    "payment-status": (
        "Payment status",
        "支付状态",
        {"paid": ("Paid", "已支付"), "unpaid": ("Unpaid", "待支付"), "refunded": ("Refunded", "已退款")},
    ),
    "report-category": (
        "Report categories",
        "报告类别",
        {
            "laboratory": ("Laboratory", "检验报告"),
            "imaging": ("Imaging", "影像报告"),
            "function": ("Function test", "功能检查报告"),
            "checkup": ("Check-up", "体检报告"),
        },
    ),
    "document-kind": (
        "Document kinds",
        "文档类别",
        {
            "id-card-front": ("Identity card, front", "身份证正面"),
            "id-card-back": ("Identity card, back", "身份证背面"),
            "health-article": ("Health article", "健康教育文章"),
            "package-insert": ("Package insert", "药品说明书"),
            "discharge-summary": ("Discharge summary", "出院小结"),
        },
    ),
    "setting-kind": (
        "Setting kinds",
        "设置类别",
        {
            "booking-rule": ("Booking rules", "预约规则"),
            "prescription-rule-set": ("Prescription rules", "处方规则"),
            "system-setting": ("System setting", "系统设置"),
            "notification-template": ("Notification template", "通知模板"),
            "home-content": ("Home page content", "首页内容"),
            "menu": ("Menu", "菜单"),
        },
    ),
    "cancel-reason": (
        "Reasons for cancelling",
        "取消原因",
        {
            "patient-request": ("Patient asked", "患者取消"),
            "doctor-absent": ("Doctor is absent", "医生停诊"),
            "payment-timeout": ("Not paid in time", "超时未支付"),
            "rescheduled": ("Rescheduled", "改约"),
        },
    ),
    "delivery-method": (
        "Ways to get drugs",
        "取药方式",
        {"pickup": ("Pick up", "到院取药"), "home-delivery": ("Home delivery", "配送上门")},
    ),
    "staff-role": (
        "Staff roles",
        "人员岗位",
        {
            "lab-technician": ("Laboratory technician", "检验技师"),
            "radiographer": ("Radiographer", "影像技师"),
            "administrator": ("Administrator", "管理员"),
            "desk": ("Information desk", "导诊"),
        },
    ),
}


def local(system: str, code: str) -> JSON:
    """A Coding from one of the local systems; a code that the system lacks is a KeyError."""
    return coding(code_system(system), code, SYSTEMS[system][2][code][0])


def local_concept(system: str, code: str, *more: JSON) -> JSON:
    """The same as a CodeableConcept with its Chinese text."""
    return concept(local(system, code), *more, text=SYSTEMS[system][2][code][1])


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("-"))


def resources(date: str) -> Iterator[JSON]:
    """CodeSystem and ValueSet of each; `date` is when they were last changed."""
    for name, (title, title_zh, codes) in SYSTEMS.items():
        yield resource(
            "CodeSystem",
            name,
            url=code_system(name),
            version="1.0.0",
            name=_camel(name),
            title=title,
            status="active",
            experimental=False,
            date=date,
            publisher="Hestia",
            description=f"{title} ({title_zh}) of the demo hospital.",
            caseSensitive=True,
            valueSet=f"{CANONICAL_BASE}/ValueSet/{name}",
            content="complete",
            count=len(codes),
            concept=[
                present(code=code, display=english, designation=[{"language": "zh-CN", "value": chinese}])
                for code, (english, chinese) in codes.items()
            ],
        )
        yield resource(
            "ValueSet",
            name,
            url=f"{CANONICAL_BASE}/ValueSet/{name}",
            version="1.0.0",
            name=_camel(name),
            title=title,
            status="active",
            experimental=False,
            date=date,
            publisher="Hestia",
            description=f"All of {title} ({title_zh}).",
            immutable=False,
            compose={"include": [{"system": code_system(name)}]},
        )
