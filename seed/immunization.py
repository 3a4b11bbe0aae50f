"""Immunizations by China's national programme and what adults are offered. Codes: CVX.

The programme changed: trivalent oral polio vaccine was withdrawn in May 2016 (one injected, three bivalent oral doses
since, two and two from 2020), measles-rubella at eight months gave way to MMR in June 2020, and from 2025 on DTaP is
given at two, four, six and eighteen months and at six years.
"""

from __future__ import annotations

import datetime
from typing import Final

from seed.base import CVX, JSON, SNOMED, add_months, at, coding, concept, hl7, quantity, reference, resource, stamp
from seed.chart import Chart

#: key -> CVX, English, Chinese
VACCINES: Final[dict[str, tuple[str, str, str]]] = {
    "hepb": ("08", "Hep B, adolescent or pediatric", "乙型肝炎疫苗"),
    "bcg": ("19", "BCG", "卡介苗"),
    "ipv": ("10", "IPV", "脊髓灰质炎灭活疫苗"),
    "topv": ("02", "OPV, trivalent", "三价脊髓灰质炎减毒活疫苗"),
    "bopv": ("178", "OPV bivalent", "二价脊髓灰质炎减毒活疫苗"),
    "dtap": ("20", "DTaP", "百白破疫苗"),
    "dt": ("28", "DT (pediatric)", "白破疫苗"),
    "mr": ("04", "M/R", "麻疹风疹联合疫苗"),
    "mmr": ("03", "MMR", "麻腮风疫苗"),
    "je": ("129", "Japanese Encephalitis, unspecified formulation", "乙型脑炎减毒活疫苗"),
    "men-a": ("191", "meningococcal A polysaccharide (non-US)", "A群流脑多糖疫苗"),
    "men-ac": ("192", "meningococcal AC polysaccharide (non-US)", "A群C群流脑多糖疫苗"),
    "hepa": ("169", "Hep A, live attenuated", "甲型肝炎减毒活疫苗"),
    "flu": ("140", "Influenza, seasonal, injectable, preservative free", "流感疫苗"),
    "ppv23": ("33", "pneumococcal polysaccharide PPV23", "23价肺炎球菌多糖疫苗"),
    "hpv9": ("165", "HPV9", "九价人乳头瘤病毒疫苗"),
    "zoster": ("187", "zoster recombinant", "重组带状疱疹疫苗"),
}
_ORAL: Final = ("topv", "bopv")
_SUBCUTANEOUS: Final = ("mmr", "mr", "je", "hepa", "men-a", "men-ac")


def programme(birth: datetime.date) -> list[tuple[int, str, int]]:
    """(age in months, vaccine, dose number) of the national programme for a birth date."""
    doses: list[tuple[int, str, int]] = [(0, "hepb", 1), (0, "bcg", 1), (1, "hepb", 2), (6, "hepb", 3)]
    if add_months(birth, 2) < datetime.date(2016, 5, 1):
        doses += [(2, "topv", 1), (3, "topv", 2), (4, "topv", 3)]
    elif add_months(birth, 3) < datetime.date(2020, 1, 1):
        doses += [(2, "ipv", 1), (3, "bopv", 1), (4, "bopv", 2)]
    else:
        doses += [(2, "ipv", 1), (3, "ipv", 2), (4, "bopv", 1)]
    oral = 1 + max((number for _, key, number in doses if key == "bopv"), default=0)
    old_last = add_months(birth, 48) < datetime.date(2016, 5, 1)
    doses.append((48, "topv", 4) if old_last else (48, "bopv", oral))
    if add_months(birth, 2) >= datetime.date(2025, 1, 1):
        doses += [(2, "dtap", 1), (4, "dtap", 2), (6, "dtap", 3), (18, "dtap", 4), (72, "dtap", 5)]
    else:
        doses += [(3, "dtap", 1), (4, "dtap", 2), (5, "dtap", 3), (18, "dtap", 4)]
        late = add_months(birth, 72) >= datetime.date(2025, 1, 1)
        doses.append((72, "dtap", 5) if late else (72, "dt", 1))
    if add_months(birth, 8) < datetime.date(2020, 6, 1):
        doses += [(8, "mr", 1), (18, "mmr", 1)]
    else:
        doses += [(8, "mmr", 1), (18, "mmr", 2)]
    doses += [(8, "je", 1), (24, "je", 2), (6, "men-a", 1), (9, "men-a", 2), (36, "men-ac", 1), (72, "men-ac", 2)]
    doses.append((18, "hepa", 1))
    return sorted(doses)


def immunizations(chart: Chart) -> list[JSON]:
    """All doses given until today: the programme for those born from 2008 on, seasonal and adult vaccines after."""
    person, rng, today = chart.person, chart.rng, chart.world.today
    given: list[tuple[datetime.date, str, int]] = []
    born_here = person.nationality is None or person.age(today) < 6
    if person.birth >= datetime.date(2008, 1, 1) and born_here:
        for months, key, number in programme(person.birth):
            day = add_months(person.birth, months) if months else person.birth
            given.append((day + datetime.timedelta(days=rng.randint(0, 12) if months else 0), key, number))
    chronic = {"copd", "asthma", "diabetes"} & set(person.part.courses)
    for year in range(person.since.year, chart.end.year + 1):
        day = datetime.date(year, 10, 8) + datetime.timedelta(days=rng.randint(0, 40))
        wants = rng.random() < (0.75 if person.age(day) >= 65 or chronic else 0.0)
        if wants and day > person.since:
            given.append((day, "flu", 1))
    middle = person.since + datetime.timedelta(days=rng.randint(60, 300))
    if person.age(middle) >= 65 or "copd" in person.part.courses:
        given.append((middle, "ppv23", 1))
    elif 50 <= person.age(middle) < 65 and rng.random() < 0.3:
        given += [(middle, "zoster", 1), (add_months(middle, 2), "zoster", 2)]
    elif person.sex == "female" and 18 <= person.age(middle) <= 45 and "pregnancy" not in " ".join(person.part.courses):
        given += [(middle, "hpv9", 1), (add_months(middle, 2), "hpv9", 2), (add_months(middle, 6), "hpv9", 3)]
    given = [item for item in given if person.birth <= item[0] < chart.end]
    return [_immunization(chart, *item) for item in sorted(given)]


def _immunization(chart: Chart, day: datetime.date, key: str, number: int) -> JSON:
    cvx, english, chinese = VACCINES[key]
    here = day >= chart.person.since
    if key in _ORAL:
        route = concept(coding(SNOMED, "26643006", "Oral route"), text="口服")
    elif key in _SUBCUTANEOUS:
        route = concept(coding(SNOMED, "34206005", "Subcutaneous route"), text="皮下注射")
    else:
        route = concept(text="皮内注射" if key == "bcg" else "肌内注射")
    performer = None
    if here:
        function = concept(coding("http://terminology.hl7.org/CodeSystem/v2-0443", "AP", "Administering Provider"))
        performer = [{"function": function, "actor": reference("PractitionerRole/role-20001-prevention", "许丽")}]
    origin = None if here else concept(coding(hl7("immunization-origin"), "record", "Written Record"))
    return resource(
        "Immunization",
        chart.new_id("Immunization"),
        status="completed",
        vaccineCode=concept(coding(CVX, cvx, english), text=chinese),
        patient=chart.subject(),
        occurrenceDateTime=stamp(at(day, 9, 30)) if here else day.isoformat(),
        recorded=stamp(at(max(day, chart.person.since), 11)),
        primarySource=here,
        reportOrigin=origin,
        location=reference("Location/loc-prevention-1", "预防保健科1诊室") if here else None,
        lotNumber=f"{key.upper()}{day:%y%m}" if here else None,
        expirationDate=add_months(day, 14).isoformat() if here else None,
        route=route,
        doseQuantity=quantity(2, "滴", "[drp]") if key in _ORAL else None,
        performer=performer,
        protocolApplied=[{"doseNumberPositiveInt": number}],
    )
