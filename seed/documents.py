"""Notes and forms: visit notes as Compositions, discharge summaries as DocumentReferences, ratings. K11 and K20."""

from __future__ import annotations

import base64
import datetime
import hashlib
import html
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from seed.base import CANONICAL_BASE, JSON, LOINC, coding, concept, identifier, present, reference, resource, sid, stamp
from seed.hospital import HOSPITAL
from seed.terminology.local import local, local_concept

if TYPE_CHECKING:
    from seed.visit import Visit

RATING: Final = f"{CANONICAL_BASE}/Questionnaire/service-rating"

#: section of `Visit.say` -> LOINC, English, Chinese
_SECTIONS: Final = {
    "complaint": ("10154-3", "Chief complaint Narrative - Reported", "主诉"),
    "history": ("10164-2", "History of Present illness Narrative", "现病史"),
    "past": ("11348-0", "History of Past illness Narrative", "既往史"),
    "findings": ("29545-1", "Physical findings Narrative", "体格检查与辅助检查"),
    "evaluation": ("51848-0", "Evaluation note", "诊断"),
    "plan": ("18776-5", "Plan of care note", "处理"),
    "advice": ("69730-0", "Instructions", "医嘱"),
}
_COMMENTS: Final = {
    5: ("医生讲解很耐心", "候诊时间短，很满意", "态度很好"),
    4: ("整体不错，停车不便", "医生专业，缴费排队稍久"),
    3: ("候诊时间偏长",),
    2: ("等了一个多小时",),
}
_TAGS: Final = ("耐心", "专业", "环境好", "等待久")


def _narrative(paragraphs: list[str]) -> JSON:
    body = "".join(f"<p>{html.escape(text, quote=False)}</p>" for text in paragraphs)
    return {"status": "generated", "div": f'<div xmlns="http://www.w3.org/1999/xhtml" lang="zh-CN">{body}</div>'}


def _sections(visit: Visit) -> list[JSON]:
    out = []
    for key, (code, display, title) in _SECTIONS.items():
        words = visit.sections.get(key)
        if not words:
            continue
        # Said twice in one visit (two problems, one evaluation) is written once.
        text = "".join(dict.fromkeys(words))
        out.append({"title": title, "code": concept(coding(LOINC, code, display)), "text": _narrative([text])})
    return out


def visit_note(visit: Visit) -> JSON:
    """The 病历 of a visit."""
    chart = visit.chart
    name = {"VR": "问诊记录", "AMB": "门诊病历"}.get(visit.kind, "急诊病历")
    title = f"{visit.post.department.zh}{name}"
    kind = ("11488-4", "Consult note") if visit.kind == "VR" else ("34108-1", "Outpatient Note")
    finished = stamp(visit.end)
    intro = f"{chart.person.name.text}，{visit.day:%Y年%m月%d日}，{title}。"
    return resource(
        "Composition",
        chart.new_id("Composition"),
        language="zh-CN",
        text=_narrative([intro, "".join(dict.fromkeys(visit.sections.get("evaluation", ["健康检查。"])))]),
        status="final",
        type=concept(coding(LOINC, *kind), text="病历"),
        subject=chart.subject(),
        encounter=reference(visit.reference),
        date=finished,
        author=[reference(visit.post.role, visit.post.label)],
        title=title,
        attester=[{"mode": "legal", "time": finished, "party": reference(visit.post.role, visit.post.label)}],
        custodian=reference(HOSPITAL),
        section=_sections(visit),
    )


def discharge_summary(visit: Visit) -> JSON:
    """The 出院小结 of an admission as plain text."""
    chart = visit.chart
    lines = [
        f"出院小结（示例数据）\n姓名：{chart.person.name.text}",
        f"住院：{visit.start:%Y-%m-%d} 至 {visit.end:%Y-%m-%d}",
    ]
    for key, (_, _, title) in _SECTIONS.items():
        if words := visit.sections.get(key):
            lines.append(f"{title}：{''.join(dict.fromkeys(words))}")
    data = "\n".join(lines).encode()
    digest = hashlib.sha1(data).digest()  # noqa: S324 - R4 Attachment.hash is SHA-1 by definition
    document_id = chart.new_id("DocumentReference")
    return resource(
        "DocumentReference",
        document_id,
        masterIdentifier=identifier(sid("document-no"), document_id),
        status="current",
        docStatus="final",
        type=concept(
            coding(LOINC, "18842-5", "Discharge summary"), local("document-kind", "discharge-summary"), text="出院小结"
        ),
        subject=chart.subject(),
        date=stamp(visit.end),
        author=[reference(visit.post.role, visit.post.label)],
        custodian=reference(HOSPITAL),
        content=[
            {
                "attachment": {
                    "contentType": "text/plain; charset=utf-8",
                    "language": "zh-CN",
                    "data": base64.b64encode(data).decode(),
                    "size": len(data),
                    "hash": base64.b64encode(digest).decode(),
                    "title": "出院小结",
                    "creation": stamp(visit.end),
                }
            }
        ],
        context={
            "encounter": [reference(visit.reference)],
            "period": {"start": stamp(visit.start), "end": stamp(visit.end)},
        },
    )


def rating(visit: Visit) -> JSON:
    """The patient's (or a guardian's) rating of a visit."""
    chart = visit.chart
    stars = chart.rng.choices((5, 4, 3, 2), weights=(60, 28, 9, 3))[0]
    comment = chart.rng.choice(_COMMENTS[stars])
    tag = _TAGS[3] if stars < 4 else chart.rng.choice(_TAGS[:3])
    source = chart.subject()
    if chart.person.age(visit.day) < 14:
        source = reference(f"RelatedPerson/{chart.person.patient_id}-rel-1")
    return resource(
        "QuestionnaireResponse",
        chart.new_id("QuestionnaireResponse"),
        questionnaire=RATING,
        status="completed",
        subject=chart.subject(),
        encounter=reference(visit.reference),
        authored=stamp(min(visit.end + datetime.timedelta(hours=5), _last_moment(visit))),
        source=source,
        item=[
            {"linkId": "rating", "text": "总体评分", "answer": [{"valueInteger": stars}]},
            {"linkId": "tags", "text": "标签", "answer": [{"valueString": tag}]},
            {"linkId": "comment", "text": "意见", "answer": [{"valueString": comment}]},
        ],
    )


def _last_moment(visit: Visit) -> datetime.datetime:
    today = visit.chart.world.today
    return datetime.datetime(today.year, today.month, today.day, tzinfo=visit.end.tzinfo) - datetime.timedelta(
        minutes=1
    )


def questionnaires(date: str) -> Iterator[JSON]:
    """The rating form and the general feedback form."""
    comment = {"linkId": "comment", "text": "意见（500字以内）", "type": "text", "required": False, "maxLength": 500}
    yield resource(
        "Questionnaire",
        "service-rating",
        url=RATING,
        version="1.0.0",
        name="ServiceRating",
        title="就诊评价",
        status="active",
        experimental=False,
        subjectType=["Patient"],
        date=date,
        publisher="Hestia",
        item=[
            {
                "extension": [
                    {"url": "http://hl7.org/fhir/StructureDefinition/minValue", "valueInteger": 1},
                    {"url": "http://hl7.org/fhir/StructureDefinition/maxValue", "valueInteger": 5},
                ],
                "linkId": "rating",
                "text": "总体评分（1-5）",
                "type": "integer",
                "required": True,
            },
            {
                "linkId": "tags",
                "text": "标签",
                "type": "choice",
                "repeats": True,
                "answerOption": [{"valueString": tag} for tag in _TAGS],
            },
            comment,
        ],
    )
    yield resource(
        "Questionnaire",
        "portal-feedback",
        url=f"{CANONICAL_BASE}/Questionnaire/portal-feedback",
        version="1.0.0",
        name="PortalFeedback",
        title="意见反馈",
        status="active",
        experimental=False,
        date=date,
        publisher="Hestia",
        item=[comment | {"required": True}],
    )


_ARTICLES: Final = (
    ("hypertension", "高血压患者的日常管理", "限盐、规律运动、按时服药、定期测量血压。"),
    ("diabetes", "2型糖尿病的饮食与运动", "控制总热量，主食粗细搭配，每周至少150分钟中等强度运动。"),
    ("asthma", "哮喘吸入装置的正确使用", "吸入前充分呼气，吸入后屏气10秒，用后漱口。"),
    ("vaccines", "儿童预防接种须知", "按程序及时接种，接种后留观30分钟。"),
)


def articles(date: datetime.datetime) -> Iterator[JSON]:
    """Health education without a subject (K19)."""
    for key, title, text in _ARTICLES:
        data = f"{title}\n{text}\n（示例内容，不能代替医生的意见）".encode()
        yield resource(
            "DocumentReference",
            f"article-{key}",
            status="current",
            docStatus="final",
            type=local_concept("document-kind", "health-article"),
            date=stamp(date),
            author=[reference(HOSPITAL)],
            custodian=reference(HOSPITAL),
            description=title,
            content=[
                {
                    "attachment": present(
                        contentType="text/plain; charset=utf-8",
                        language="zh-CN",
                        data=base64.b64encode(data).decode(),
                        size=len(data),
                        title=title,
                    )
                }
            ],
        )
