"""People: who they are, where they live, who belongs to whom. Kernels K2 and K3."""

from __future__ import annotations

import datetime
import random
from dataclasses import dataclass, field
from typing import Final

from seed import cast, names
from seed.base import (
    JSON,
    OUTPATIENT_NO,
    RESIDENT_ID,
    ROLE_CODE,
    add_years,
    age_in_years,
    at,
    coding,
    concept,
    extension,
    hl7,
    identifier,
    present,
    reference,
    resource,
    sid,
    stamp,
    stream,
)
from seed.hospital import HOSPITAL
from seed.identifiers import business_number, foreign_mobile, mobile, resident_id

_NATIONALITY: Final = "http://hl7.org/fhir/StructureDefinition/patient-nationality"
_COUNTRIES: Final = {
    "us-d": ("US", "United States of America", "en-US", "English (United States)"),
    "us-m": ("US", "United States of America", "en-US", "English (United States)"),
    "fr-f": ("FR", "France", "fr-FR", "French (France)"),
    "de-m": ("DE", "Germany", "de-DE", "German (Germany)"),
    "ru-f": ("RU", "Russian Federation", "ru-RU", "Russian (Russia)"),
    "jp-f": ("JP", "Japan", "ja", "Japanese"),
    "ng-m": ("NG", "Nigeria", "en", "English"),
    "in-f": ("IN", "India", "en", "English"),
}
_PLACES: Final = (
    ("北京市", "北京市", "海淀区", "100000"),
    ("北京市", "北京市", "朝阳区", "100000"),
    ("北京市", "北京市", "西城区", "100000"),
    ("河北省", "石家庄市", "长安区", "050000"),
    ("天津市", "天津市", "和平区", "300000"),
    ("山西省", "太原市", "小店区", "030000"),
)
_PARENT: Final = {"father": ("FTH", "father", "父亲"), "mother": ("MTH", "mother", "母亲")}
_SPOUSES: Final = {("father", "mother"), ("grandfather", "grandmother"), ("husband", "wife")}


@dataclass(slots=True)
class Person:
    """A patient as the simulation knows one."""

    number: int
    part: cast.Part
    name: names.Name
    birth: datetime.date
    died: datetime.date | None
    since: datetime.date  # first contact with this hospital
    rng: random.Random
    address: JSON
    phone: str | None
    family: list[Person] = field(default_factory=list)
    birth_order: int | None = None

    @property
    def patient_id(self) -> str:
        """Id of the Patient."""
        return f"p{self.number:03d}"

    @property
    def reference(self) -> str:
        """Literal reference to the Patient."""
        return f"Patient/{self.patient_id}"

    @property
    def sex(self) -> str:
        """Administrative gender."""
        return self.part.sex

    @property
    def nationality(self) -> tuple[str, str, str, str] | None:
        """Country code, country, language code, language of a foreigner."""
        return _COUNTRIES.get(self.part.name)

    def age(self, on: datetime.date) -> int:
        """Completed years."""
        return age_in_years(self.birth, on)


def _household(rng: random.Random, number: int) -> JSON:
    state, city, district, postal_code = rng.choice(_PLACES)
    street = f"示例{'东西南北'[number % 4]}路{rng.randint(1, 99)}号"
    line = f"{street}{rng.randint(1, 12)}单元{rng.randint(1, 18)}0{rng.randint(1, 4)}室"
    municipality = "" if state == city else state
    return present(
        use="home",
        type="both",
        text=f"{municipality}{city}{district}{line}",
        line=[line],
        city=city,
        district=district,
        state=state,
        postalCode=postal_code,
        country="CN",
    )


def people(patients: int, seed: int, today: datetime.date) -> list[Person]:
    """The cast with names, dates and addresses; the same for the same arguments."""
    out: list[Person] = []
    taken: set[str] = set()
    surnames: dict[int, str] = {}
    addresses: dict[int, JSON] = {}
    used: set[str] = set()
    for number, part in enumerate(cast.parts(patients), start=1):
        rng = stream(seed, "person", number)
        if part.household not in surnames:
            surnames[part.household] = names.surname(stream(seed, "household", part.household), used)
            used.add(surnames[part.household])
            addresses[part.household] = _household(stream(seed, "address", part.household), part.household)
        twin = next((p for p in out if p.part.household == part.household and p.part.age == part.age == 9), None)
        if twin:
            birth = twin.birth
            twin.birth_order, order = 1, 2
        elif part.age < 1:
            birth, order = today - datetime.timedelta(days=round(part.age * 365.25)), None
        else:
            birth, order = add_years(today, -int(part.age)) - datetime.timedelta(days=rng.randint(12, 345)), None
        ago = part.died_days_ago
        since = max(birth, today - datetime.timedelta(days=(ago or 0) + rng.randint(600, 960)))
        person = Person(
            number,
            part,
            _name(part, rng, surnames[part.household], birth.year, taken, used),
            birth,
            today - datetime.timedelta(days=ago) if ago else None,
            since,
            rng,
            addresses[part.household],
            None,
            birth_order=order,
        )
        if person.age(today) >= 14:
            foreign = person.nationality
            abroad = foreign and foreign[0] in ("US", "NG")
            person.phone = foreign_mobile("US", number) if abroad else mobile(20_000_000 + number * 137)
        out.append(person)
    for person in out:
        person.family = [item for item in out if item.part.household == person.part.household and item is not person]
    return out


def _name(part: cast.Part, rng: random.Random, surname: str, born: int, taken: set[str], used: set[str]) -> names.Name:
    if part.name != "han":
        return names.other(part.name)
    # Chinese women keep their own surname, so mothers and grandmothers do not share the household's.
    if part.relation in ("mother", "grandmother", "wife"):
        surname = names.surname(rng, {surname})
    return names.chinese(rng, surname, part.sex, born, taken)


def relation(person: Person, other: Person) -> tuple[str, str, str] | None:
    """What `other` is to `person`: v3-RoleCode, its display, Chinese; None when it makes no RelatedPerson."""
    mine, theirs = person.part.relation, other.part.relation
    if mine in ("son", "daughter"):
        if theirs in _PARENT and other.birth < add_years(person.birth, -14):
            return _PARENT[theirs]
        return None
    if (mine, theirs) in _SPOUSES or (theirs, mine) in _SPOUSES:
        return ("SPS", "spouse", "配偶")
    heir = theirs == "father" or (theirs in ("son", "daughter") and other.part.age >= 40)
    if mine.startswith("grand") and heir and person.birth < add_years(other.birth, -16):
        return ("SONC", "son", "儿子") if other.sex == "male" else ("DAUC", "daughter", "女儿")
    return None


def related(person: Person, today: datetime.date) -> list[JSON]:
    """RelatedPerson resources: a guardian for each minor, spouses and grown children for the others (at most two)."""
    out: list[JSON] = []
    minor = person.age(today) < 18
    for other in person.family:
        kin = relation(person, other)
        if kin is None or other.died or (not minor and len(out) == 2):
            continue
        code, display, chinese = kin
        kinds = [concept(coding(ROLE_CODE, code, display), text=chinese)]
        if minor:
            kinds.append(concept(coding(ROLE_CODE, "GUARD", "guardian"), text="监护人"))
        out.append(
            resource(
                "RelatedPerson",
                f"{person.patient_id}-rel-{len(out) + 1}",
                active=person.died is None,
                patient=reference(person.reference, person.name.text),
                relationship=kinds,
                name=other.name.human_names(),
                telecom=[{"system": "phone", "value": other.phone, "use": "mobile"}] if other.phone else None,
                gender=other.sex,
                birthDate=other.birth.isoformat(),
                address=[other.address],
                # A guardianship ends with the eighteenth birthday (K2).
                period=present(
                    start=max(person.since, person.birth).isoformat(),
                    end=add_years(person.birth, 18).isoformat()
                    if minor
                    else person.died.isoformat()
                    if person.died
                    else None,
                ),
            )
        )
    return out


def _marital(person: Person, today: datetime.date) -> JSON | None:
    if person.age(today) < 20:
        return None
    spouses = [item for item in person.family if (relation(person, item) or ("",))[0] == "SPS"]
    system = hl7("v3-MaritalStatus")
    if any(item.died is None for item in spouses):
        return concept(coding(system, "M", "Married"), text="已婚")
    if spouses:
        return concept(coding(system, "W", "Widowed"), text="丧偶")
    if person.age(today) < 45:
        return concept(coding(system, "S", "Never Married"), text="未婚")
    return None


def patient(person: Person, today: datetime.date, serial: int, doctor: JSON | None) -> JSON:
    """The Patient. `serial` tells resident IDs of one birth date apart."""
    foreign = person.nationality
    numbers = []
    if foreign:
        numbers.append(identifier(sid("passport"), f"X9999{person.number:04d}", "PPN", "official", "护照"))
    else:
        number = resident_id(person.birth, person.sex, serial)
        numbers.append(identifier(RESIDENT_ID, number, "NI", "official", "居民身份证"))
        numbers.append(identifier(sid("medical-insurance-no"), f"YB9999{person.number:06d}", "NH", text="医保卡"))
    numbers.append(
        identifier(OUTPATIENT_NO, business_number("M", person.since, person.number)[:17], "MR", "usual", "门诊号")
    )
    telecom = []
    if person.phone:
        telecom.append({"system": "phone", "value": person.phone, "use": "mobile", "rank": 1})
        if person.number % 3 == 0:
            telecom.append({"system": "email", "value": f"patient{person.number:03d}@hestia.example", "use": "home"})
    contacts: list[JSON] = []
    for other in person.family:
        kin = relation(person, other)
        if kin and other.phone and other.died is None and not contacts:
            contacts.append(
                {
                    "relationship": [
                        concept(
                            coding("http://terminology.hl7.org/CodeSystem/v2-0131", "C", "Emergency Contact"),
                            text=kin[2],
                        )
                    ],
                    "name": {"text": other.name.text},
                    "telecom": [{"system": "phone", "value": other.phone}],
                    "gender": other.sex,
                }
            )
    extensions = []
    if foreign:
        country = concept(coding("urn:iso:std:iso:3166", foreign[0], foreign[1]))
        extensions.append(extension(_NATIONALITY, extension=[extension("code", valueCodeableConcept=country)]))
    language = (
        coding("urn:ietf:bcp:47", foreign[2], foreign[3])
        if foreign
        else coding("urn:ietf:bcp:47", "zh-CN", "Chinese (China)")
    )
    return resource(
        "Patient",
        person.patient_id,
        extension=extensions,
        identifier=numbers,
        active=person.died is None,
        name=person.name.human_names(),
        telecom=telecom,
        gender=person.sex,
        birthDate=person.birth.isoformat(),
        deceasedDateTime=stamp(at(person.died, 4, 20)) if person.died else None,
        address=[person.address],
        maritalStatus=_marital(person, today),
        multipleBirthInteger=person.birth_order,
        contact=contacts,
        communication=[{"language": concept(language), "preferred": True}],
        generalPractitioner=[doctor] if doctor else None,
        managingOrganization=reference(HOSPITAL),
    )
