"""Practitioners and their posts: thirty-one people, titles, certificates, weekly clinics. Kernel K5."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from seed.base import (
    JSON,
    LICENCE_NO,
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
from seed.hospital import DEPARTMENTS, HOSPITAL, ONLINE, Department
from seed.identifiers import mobile
from seed.names import Name, staff
from seed.terminology.local import SYSTEMS, local

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

#: Places in an hour's clinic by title: the more senior, the longer each patient's time.
PLACES: Final = {"chief": 4, "associate-chief": 4, "attending": 5, "resident": 6}

#: staff number | name | sex | born | department (second post after +) | title or role | what they are good at
_TABLE: Final = """
10001|王|志远|Wang|Zhiyuan|male|1966|cardiology|chief|高血压、冠心病
10002|林|慧敏|Lin|Huimin|female|1984|cardiology|attending|心律失常、心力衰竭
10003|张|立新|Zhang|Lixin|male|1971|endocrinology|associate-chief|糖尿病、痛风
10004|陈|佳慧|Chen|Jiahui|female|1986|endocrinology|attending|甲状腺疾病
10005|刘|建平|Liu|Jianping|male|1968|respiratory|chief|慢性阻塞性肺疾病
10006|周|静|Zhou|Jing|female|1982|respiratory|attending|支气管哮喘
10007|吴|明辉|Wu|Minghui|male|1974|nephrology|associate-chief|慢性肾脏病
10008|高|惠芳|Gao|Huifang|female|1967|oncology|chief|乳腺肿瘤、肺部肿瘤
10009|郭|海涛|Guo|Haitao|male|1983|oncology|attending|消化道肿瘤
10010|杨|晓红|Yang|Xiaohong|female|1972|obstetrics|associate-chief|产前保健、高危妊娠
10011|佐藤|美咲|Sato|Misaki|female|1985|obstetrics|attending|产科
10012|赵|玲玲|Zhao|Lingling|female|1976|paediatrics|associate-chief|儿童呼吸、生长发育
10013|徐|俊|Xu|Jun|male|1988|paediatrics|resident|儿童常见病
10014|马|勇|Ma|Yong|male|1970|orthopaedics|associate-chief|创伤骨科
10015|巴|特尔|Ba|Teer|male|1984|orthopaedics|attending|关节外科
10016|孙|鹏飞|Sun|Pengfei|male|1975|surgery|associate-chief|腹腔镜手术
10017|Petrova|Elena|Petrova|Elena|female|1978|psychiatry|associate-chief|抑郁、焦虑、睡眠障碍
10018|何|敏|He|Min|female|1980|general+prevention|attending|慢病管理、健康体检
10019|黄|晓东|Huang|Xiaodong|male|1987|general|resident|全科
10020|沈|永福|Shen|Yongfu|male|1962|tcm|chief|中医内科
10021|Okafor|James|Okafor|James|male|1981|emergency|attending|急诊急救
10022|罗|艳|Luo|Yan|female|1985|emergency|attending|急诊急救
20001|许|丽|Xu|Li|female|1990|prevention|nurse|预防接种
20002|邓|婷|Deng|Ting|female|1992|cardiology|nurse|
20003|García|Lucía|Garcia|Lucia|female|1988|emergency|nurse|
30001|宋|文彬|Song|Wenbin|male|1969|pharmacy|pharmacist|
30002|韩|雪梅|Han|Xuemei|female|1983|pharmacy|pharmacist|
40001|唐|军|Tang|Jun|male|1979|laboratory|lab-technician|
40002|冯|海燕|Feng|Haiyan|female|1987|laboratory|lab-technician|
50001|曹|伟|Cao|Wei|male|1977|imaging|radiographer|
90001|彭|世杰|Peng|Shijie|male|1975|pharmacy|administrator|
"""


@dataclass(frozen=True, slots=True)
class Session:
    """One weekly clinic hour: `weekday` 0 is Monday, `hour` its start, `mode` "clinic" or "online"."""

    weekday: int
    hour: int
    mode: str


@dataclass(frozen=True, slots=True)
class Post:
    """A practitioner in a department: what becomes a PractitionerRole."""

    staff_no: str
    name: Name
    sex: str
    born: int
    department: Department
    title: str
    good_at: str
    main: bool
    room: str
    sessions: tuple[Session, ...]

    @property
    def is_doctor(self) -> bool:
        """Whether the title is a doctor's."""
        return self.title in PLACES

    @property
    def role(self) -> str:
        """Its PractitionerRole."""
        return f"PractitionerRole/role-{self.staff_no}-{self.department.key}"

    @property
    def practitioner(self) -> str:
        """The Practitioner."""
        return f"Practitioner/prac-{self.staff_no}"

    @property
    def since(self) -> datetime.date:
        """When the post began."""
        return datetime.date(min(self.born + 29, 2017), 7, 1)

    @property
    def label(self) -> str:
        """How forms name the doctor."""
        return self.name.text

    def places(self, mode: str) -> int:
        """Bookable places in one hour."""
        return 4 if mode == "online" else PLACES[self.title]


def _sessions(department: Department, index: int, title: str) -> tuple[Session, ...]:
    """Two hours on one morning and one on an afternoon a week; an evening hour online where that is offered."""
    if title not in PLACES or department.key == "emergency":
        return ()
    shift = list(DEPARTMENTS).index(department.key)
    first = (shift + index * 2) % 5
    out = []
    for weekday, hour in ((first, 9), ((first + 2) % 5, 14)):
        out.append(Session(weekday, hour, "clinic"))
        if hour < 12:
            out.append(Session(weekday, hour + 1, "clinic"))
    if department.key in ONLINE and index == 0:
        out.append(Session((first + 1) % 5, 19, "online"))
    return tuple(out)


def posts() -> list[Post]:
    """All posts, by department and staff number."""
    out: list[Post] = []
    seen: dict[str, int] = {}
    for row in _TABLE.strip().splitlines():
        staff_no, family, given, latin_family, latin_given, sex, born, where, title, good_at = row.split("|")
        for order, key in enumerate(where.split("+")):
            index = seen.get(key, 0)
            if title in PLACES:
                seen[key] = index + 1
            # The second post of a doctor has clinics of its own weekday, so that nobody is in two rooms at once.
            sessions = _sessions(DEPARTMENTS[key], index, title)
            if order:
                sessions = tuple(
                    Session((item.weekday + 1) % 5, item.hour, "clinic")
                    for item in out[-1].sessions
                    if item.mode == "clinic"
                )
            name = staff(f"{family}|{given}|{latin_family}|{latin_given}")
            room = f"Location/loc-{key}-{min(index, 1) + 1}" if DEPARTMENTS[key].clinic else f"Location/loc-{key}"
            out.append(
                Post(staff_no, name, sex, int(born), DEPARTMENTS[key], title, good_at, order == 0, room, sessions)
            )
    return out


_QUALIFICATION: Final = {
    "nurse": ("护士执业证书", "RN", "Registered Nurse"),
    "pharmacist": ("执业药师证书", "RPH", "Registered Pharmacist"),
}


def practitioners(items: list[Post]) -> Iterator[JSON]:
    """One Practitioner per person."""
    for number, post in enumerate(item for item in items if item.main):
        certificate, code, display = _QUALIFICATION.get(post.title, ("医师执业证书", "MD", "Doctor of Medicine"))
        if post.title in SYSTEMS["staff-role"][2]:
            certificate, code, display = "专业技术资格证书", "CER", "Certificate"
        bio = f"示例数据：{post.department.zh}，擅长{post.good_at}。" if post.good_at else None
        certified = datetime.date(post.born + 25, 9, 1)
        yield resource(
            "Practitioner",
            f"prac-{post.staff_no}",
            extension=[extension(structure("practitioner-bio"), valueMarkdown=bio)] if bio else None,
            identifier=[
                identifier(sid("staff-no"), post.staff_no, "EI", "official", "工号"),
                identifier(LICENCE_NO, f"9999{post.staff_no}{number:06d}", "PRN", text="医务人员编号"),
            ],
            active=True,
            name=post.name.human_names(),
            telecom=[
                {"system": "phone", "value": mobile(9_000_000 + int(post.staff_no)), "use": "work"},
                {"system": "email", "value": f"staff{post.staff_no}@hestia.example", "use": "work"},
            ],
            gender=post.sex,
            birthDate=f"{post.born}-{number % 12 + 1:02d}-{number % 27 + 1:02d}",
            qualification=[
                {
                    "identifier": [{"system": sid("certificate-no"), "value": f"9999{post.staff_no}"}],
                    "code": concept(coding(hl7("v2-0360"), code, display), text=certificate),
                    "period": {"start": certified.isoformat()},
                    "issuer": reference(HOSPITAL),
                }
            ],
            communication=[concept(coding("urn:ietf:bcp:47", "zh-CN", "Chinese (China)"))],
        )


def _codes(post: Post) -> list[JSON]:
    role = hl7("practitioner-role")
    if post.is_doctor:
        title = SYSTEMS["doctor-title"][2][post.title][1]
        return [concept(coding(role, "doctor", "Doctor")), concept(local("doctor-title", post.title), text=title)]
    if post.title in ("nurse", "pharmacist"):
        return [concept(coding(role, post.title, post.title.capitalize()))]
    return [concept(local("staff-role", post.title), text=SYSTEMS["staff-role"][2][post.title][1])]


def roles(items: list[Post], absences: dict[str, datetime.date]) -> Iterator[JSON]:
    """One PractitionerRole per post; `absences` maps a role to a day on which its doctor is away."""
    for post in items:
        hours: dict[tuple[str, int], list[int]] = {}
        for session in post.sessions:
            hours.setdefault((session.mode, session.weekday), []).append(session.hour)
        services = [reference(f"HealthcareService/svc-{post.department.key}")] if post.sessions else []
        if any(session.mode == "online" for session in post.sessions):
            services.append(reference(f"HealthcareService/svc-online-{post.department.key}"))
        away = absences.get(post.role)
        yield resource(
            "PractitionerRole",
            post.role.split("/")[1],
            extension=[
                extension("http://hl7.org/fhir/StructureDefinition/practitionerrole-primaryInd", valueBoolean=True)
            ]
            if post.main
            else None,
            active=True,
            period={"start": post.since.isoformat()},
            practitioner=reference(post.practitioner, post.label),
            organization=reference(post.department.reference, post.department.zh),
            code=_codes(post),
            specialty=[post.department.specialty_concept() | ({"text": post.good_at} if post.good_at else {})]
            if post.is_doctor
            else None,
            location=[reference(post.room)],
            healthcareService=services,
            availableTime=[
                {
                    "daysOfWeek": [WEEKDAYS[weekday]],
                    "availableStartTime": f"{min(times):02d}:00:00",
                    "availableEndTime": f"{max(times) + 1:02d}:00:00",
                }
                for (_, weekday), times in hours.items()
            ],
            notAvailable=[
                present(description="停诊：外出学术会议", during={"start": away.isoformat(), "end": away.isoformat()})
            ]
            if away
            else None,
        )
